//  db_unit.c -- WRITE: units gather into batches of one sync and one commit; one batch is in
//  flight.
//
//  A batch that fails has changed nothing, and its units run again one by one, each with a
//  sync of its own, all in one go. A lost connection is never answered by running something
//  again.

#include <assert.h>
#include <stdlib.h>

#include "db/db_inner.h"

#define BATCH_UNITS 256
#define BATCH_BYTES (4 * 1024 * 1024)    //  of parameters: libpq keeps a copy until they are sent
#define TRIES_MAX 4

struct db_unit {
    db_unit_t *next;
    db_t *db;
    uint64_t handle;
    call_t *first, *last;
    size_t count;
    size_t own;              //  statements that were there before before_commit added more
    db_before_fn *before;
    void *before_arg;
    db_done_fn *done;
    void *arg;
    unsigned tries;
    bool refused;            //  by before_commit, with:
    error_code_t code;
    char *text;
};

static void s_send_alone (db_t *db, db_unit_t *unit);

static void
s_append (unit_list_t *list, db_unit_t *unit)
{
    unit->next = NULL;
    if (list->last)
        list->last->next = unit;
    else
        list->first = unit;
    list->last = unit;
    list->count++;
}

static db_unit_t *
s_pop (unit_list_t *list)
{
    db_unit_t *unit = list->first;
    if (unit) {
        list->first = unit->next;
        if (!list->first)
            list->last = NULL;
        list->count--;
    }
    return unit;
}

//  ---- making one ----

db_unit_t *
db_unit_new (db_t *db)
{
    db_unit_t *unit = xcalloc (1, sizeof *unit);
    unit->db = db;
    return unit;
}

static void
s_add (db_unit_t *unit, statement_t *statement, const char *const *params, size_t count)
{
    call_t *call = call_new (statement, params, count);
    if (unit->last)
        unit->last->next = call;
    else
        unit->first = call;
    unit->last = call;
    unit->count++;
}

void
db_unit_add (db_unit_t *unit, const char *name, const char *const *params, size_t count)
{
    s_add (unit, statement_named (unit->db, name), params, count);
}

void
db_unit_add_text (db_unit_t *unit, const char *text, const char *const *params, size_t count)
{
    s_add (unit, statement_by_text (unit->db, text), params, count);
}

void
db_unit_before_commit (db_unit_t *unit, db_before_fn *fn, void *arg)
{
    unit->before = fn;
    unit->before_arg = arg;
}

uint64_t
db_unit_commit (db_unit_t **unit_p, db_done_fn *done, void *arg)
{
    db_unit_t *unit = *unit_p;
    *unit_p = NULL;
    assert (unit->count);
    db_t *db = unit->db;
    unit->handle = ++db->handle;
    unit->done = done;
    unit->arg = arg;
    unit->own = unit->count;
    s_append (&db->units, unit);
    db->stats.units++;
    db->stats.waiting++;
    db_wake (db);
    return unit->handle;
}

void
db_unit_drop (db_unit_t **unit_p)
{
    db_unit_t *unit = *unit_p;
    if (!unit)
        return;
    *unit_p = NULL;
    for (call_t *call = unit->first, *next; call; call = next) {
        next = call->next;
        call_free (call);
    }
    free (unit->text);
    free (unit);
}

//  ---- telling its owner ----

static void
s_report_ok (db_t *db, db_unit_t *unit)
{
    db_result_t *results = outcome_room (db, unit->count);
    size_t n = 0;
    for (call_t *call = unit->first; call; call = call->next, n++) {
        outcome_ok (&results [n], call->result);
        call->result = NULL;
    }
    if (unit->done)
        unit->done (unit->arg, results, unit->count);
    for (n = 0; n < unit->count; n++)
        PQclear (results [n].result);
    db_unit_drop (&unit);
}

static void
s_report_failure (db_t *db, db_unit_t *unit, const db_result_t *failure)
{
    db->stats.failures++;
    db->stats.unknown += failure->unknown;
    db_result_t *results = outcome_room (db, unit->count);
    for (size_t n = 0; n < unit->count; n++)
        results [n] = *failure;
    if (unit->done)
        unit->done (unit->arg, results, unit->count);
    db_unit_drop (&unit);
}

static void
s_report_lost (db_t *db, db_unit_t *unit, const segment_t *segment)
{
    db_result_t failure;
    outcome_code (&failure, E_UNAVAILABLE, "08006", segment->conn->why);
    //  An error that came before the loss means that nothing was committed.
    failure.unknown = segment->synced && !segment->error;
    s_report_failure (db, unit, &failure);
}

static void
s_report_error (db_t *db, db_unit_t *unit, const segment_t *segment)
{
    db_result_t failure;
    outcome_failed (&failure, segment->error);
    if (unit->refused) {
        outcome_code (&failure, unit->code, "", "rolled back before the commit");
        if (unit->text)
            failure.text = unit->text;
    }
    s_report_failure (db, unit, &failure);
}

//  ---- one by one ----

//  As it was before its first run.
static void
s_rewind (db_unit_t *unit)
{
    call_t *call = unit->first;
    for (size_t n = 1; n <= unit->count; n++) {
        call_t *next = call->next;
        PQclear (call->result);
        call->result = NULL;
        if (n == unit->own) {
            unit->last = call;
            call->next = NULL;
        }
        else if (n > unit->own)
            call_free (call);
        call = next;
    }
    unit->count = unit->own;
}

//  Failures of the moment: another transaction was in the way, another instance took the
//  offset, or a plan went stale with a change of the schema.
static bool
s_of_the_moment (const PGresult *error)
{
    const char *constraint = PQresultErrorField (error, PG_DIAG_CONSTRAINT_NAME);
    if (sqlstate_is (error, "23505"))
        return constraint && strcmp (constraint, "live_log_pkey") == 0;
    return sqlstate_is (error, "40001") || sqlstate_is (error, "40P01")
           || sqlstate_is (error, "0A000") || sqlstate_is (error, "26000");
}

static void
s_alone_ended (segment_t *segment, bool lost)
{
    db_t *db = segment->conn->db;
    db_unit_t *unit = s_pop (&db->flying);
    db->stats.in_flight--;
    if (!lost && segment->error && !unit->refused && unit->tries < TRIES_MAX
        && s_of_the_moment (segment->error)) {
        db->stats.reruns++;
        s_rewind (unit);
        s_send_alone (db, unit);
        return;
    }
    //  The next batch is on its way before its owner is told.
    if (!lost)
        units_run (db);
    if (lost)
        s_report_lost (db, unit, segment);
    else if (segment->error)
        s_report_error (db, unit, segment);
    else
        s_report_ok (db, unit);
}

//  All results are there and nothing is committed yet: the owner looks at them and adds to
//  the unit.
static void
s_before_commit (segment_t *segment)
{
    db_unit_t *unit = segment->arg;
    if (!segment->error) {
        db_t *db = unit->db;
        db_result_t *results = outcome_room (db, unit->count);
        size_t n = 0;
        for (call_t *call = unit->first; call; call = call->next)
            outcome_ok (&results [n++], call->result);
        call_t *last = unit->last;
        error_code_t code = E_INTERNAL;
        const char *text = NULL;
        if (unit->before (unit->before_arg, unit, results, n, &code, &text))
            for (call_t *call = last->next; call; call = call->next)
                segment_run (segment, call);
        else {
            unit->refused = true;
            unit->code = code;
            unit->text = xstrdup (text);
            //  Only a failure makes the sync roll back.
            segment_text (segment, "SELECT 1 / 0 AS roll_back");
        }
    }
    segment_sync (segment);
}

static void
s_send_alone (db_t *db, db_unit_t *unit)
{
    unit->tries++;
    s_append (&db->flying, unit);
    db->stats.in_flight++;
    segment_t *segment = segment_new (db->lanes [DB_WRITE].conns, s_alone_ended, unit);
    for (call_t *call = unit->first; call; call = call->next)
        segment_run (segment, call);
    if (unit->before) {
        segment->answered = s_before_commit;
        segment_flush (segment);
    }
    else
        segment_sync (segment);
}

//  ---- batches ----

static void
s_batch_ended (segment_t *segment, bool lost)
{
    db_t *db = segment->conn->db;
    unit_list_t batch = db->flying;
    db->flying = (unit_list_t) { 0 };
    db->stats.in_flight -= batch.count;
    if (!lost && segment->error) {
        db->stats.reruns += batch.count;
        for (db_unit_t *unit; (unit = s_pop (&batch));) {
            s_rewind (unit);
            s_send_alone (db, unit);
        }
        return;
    }
    if (!lost)
        units_run (db);
    for (db_unit_t *unit; (unit = s_pop (&batch));)
        if (lost)
            s_report_lost (db, unit, segment);
        else
            s_report_ok (db, unit);
}

static void
s_send_batch (db_t *db)
{
    segment_t *segment = segment_new (db->lanes [DB_WRITE].conns, s_batch_ended, NULL);
    size_t bytes = 0;
    while (db->units.first && !db->units.first->before && db->flying.count < BATCH_UNITS
           && bytes < BATCH_BYTES) {
        db_unit_t *unit = s_pop (&db->units);
        s_append (&db->flying, unit);
        for (call_t *call = unit->first; call; call = call->next) {
            segment_run (segment, call);
            bytes += call->size;
        }
    }
    db->stats.waiting -= db->flying.count;
    db->stats.in_flight += db->flying.count;
    segment_sync (segment);
}

void
units_run (db_t *db)
{
    const conn_t *conn = db->lanes [DB_WRITE].conns;
    db_unit_t *unit = db->units.first;
    if (!unit || db->flying.first || conn->state != CONN_UP || conn->broken)
        return;
    db->stats.batches++;
    if (unit->before || !unit->next || unit->next->before) {
        db->stats.waiting--;
        s_send_alone (db, s_pop (&db->units));
    }
    else
        s_send_batch (db);
}

void
units_refuse (db_t *db, const char *why)
{
    unit_list_t all = db->units;
    db->units = (unit_list_t) { 0 };
    for (db_unit_t *unit; (unit = s_pop (&all));) {
        db->stats.waiting--;
        db_result_t failure;
        outcome_code (&failure, E_UNAVAILABLE, "08006", why);
        s_report_failure (db, unit, &failure);
    }
}

bool
unit_cancel (db_t *db, uint64_t handle)
{
    unit_list_t *lists [] = { &db->units, &db->flying };
    for (size_t n = 0; n < 2; n++)
        for (db_unit_t *unit = lists [n]->first; unit; unit = unit->next)
            if (unit->handle == handle) {
                unit->done = NULL;
                return true;
            }
    return false;
}
