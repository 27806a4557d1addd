//  db_batch.c -- WRITE: waiting units gather into batches of one sync and one commit; one batch is
//  in flight.
//
//  When units look at results before the commit, the batch runs in rounds: their statements, what
//  they add, what is gathered of all of them; the sync comes behind the last.
//
//  A batch that fails has changed nothing. The unit whose statement failed runs again by itself,
//  those before it and those behind it as batches again, in their order; where nobody is to blame,
//  or it goes on, one by one. A lost connection is never answered by running something again.

#include <assert.h>
#include <stdlib.h>

#include "db/db_inner.h"

#define BATCH_UNITS 256
#define BATCH_BYTES (4 * 1024 * 1024)    //  of parameters: libpq keeps a copy until they are sent
#define TRIES_MAX 4                      //  for a failure of the moment
//  Runs in a batch, then one by one: where the moment was to blame, and where units were.
#define TOGETHER_MOMENT 2
#define TOGETHER_BLAMED 5

//  ---- before the commit ----

static void
s_gathered (batch_t *batch, db_t *db)
{
    if (batch->gathered || !batch->first)
        return;
    batch->gathered = true;
    db_result_t *results = outcome_room (db, batch->count);
    size_t n = 0;
    for (call_t *call = batch->first; call; call = call->next)
        outcome_ok (&results [n++], call->result);
    db->gather.ran (db->gather.arg, results, n);
}

void
db_gather (db_t *db, const db_gather_t *gather)
{
    db->gather = *gather;
}

void
db_gather_add (db_t *db, const char *name, const text_t *params, size_t count)
{
    batch_t *batch = &db->batch;
    call_t *call = call_new_binary (statement_named (db, name), params, count);
    if (batch->last)
        batch->last->next = call;
    else
        batch->first = call;
    batch->last = call;
    batch->count++;
    segment_run (batch->segment, call);
}

//  Its owner looks at the results and adds to the unit.
static db_verdict_t
s_ask (batch_t *batch, db_unit_t *unit)
{
    db_t *db = unit->db;
    call_t *last = unit->last;
    error_code_t code = E_INTERNAL;
    const char *text = NULL;
    size_t count = unit_outcomes (unit);
    db_verdict_t verdict = unit->before (unit->before_arg, unit, batch->round, db->outcome, count,
                                         &code, &text);
    unit->decided = verdict != DB_LOOK;
    if (verdict == DB_REFUSE) {
        unit->refused = true;
        unit->code = code;
        free (unit->text);
        unit->text = xstrdup (text);
        return verdict;
    }
    for (call_t *call = last ? last->next : unit->first; call; call = call->next)
        segment_run (batch->segment, call);
    return verdict;
}

//  All results are there and nothing is committed yet.
static void
s_look (segment_t *segment)
{
    db_t *db = segment->conn->db;
    batch_t *batch = &db->batch;
    bool again = false, refused = false;
    if (!segment->error) {
        if (batch->round == 0 && db->gather.begin)
            db->gather.begin (db->gather.arg);
        s_gathered (batch, db);
        for (db_unit_t *unit = batch->units.first; unit && !refused; unit = unit->next)
            if (unit->before && !unit->decided) {
                db_verdict_t verdict = s_ask (batch, unit);
                again |= verdict == DB_LOOK;
                refused = verdict == DB_REFUSE;
            }
        if (batch->round++ == 0 && !refused && db->gather.add)
            db->gather.add (db->gather.arg, db);
    }
    if (refused)
        //  Only a failure makes the sync roll back.
        segment_text (segment, "SELECT 1 / 0 AS roll_back");
    if (again && !refused) {
        assert (segment->at < segment->count);
        segment->answered = s_look;
        segment_flush (segment);
    }
    else
        segment_sync (segment);
}

//  ---- after it ----

static void
s_forget (batch_t *batch)
{
    for (call_t *call = batch->first, *next; call; call = next) {
        next = call->next;
        call_free (call);
    }
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

//  Whose statement failed; NULL: nobody's alone.
static db_unit_t *
s_blame (const batch_t *batch, const segment_t *segment)
{
    //  A preparation stands before the statement that wanted it.
    size_t wrong = segment->wrong;
    while (wrong < segment->count && !segment->steps [wrong].call && segment->steps [wrong].serial)
        wrong++;
    const call_t *blamed = wrong < segment->count ? segment->steps [wrong].call : NULL;
    for (db_unit_t *unit = batch->units.first; unit; unit = unit->next) {
        if (unit->refused)
            return unit;
        for (const call_t *call = unit->first; blamed && call; call = call->next)
            if (call == blamed)
                return unit;
    }
    return NULL;
}

//  Back to where they were waiting, in their order.
static void
s_again (db_t *db, batch_t *batch, const segment_t *segment)
{
    const db_unit_t *wrong = s_blame (batch, segment);
    bool moment = s_of_the_moment (segment->error);
    unsigned together = moment ? TOGETHER_MOMENT : wrong ? TOGETHER_BLAMED : 0;
    unit_list_t waiting = db->units;
    db->units = (unit_list_t) { 0 };
    for (db_unit_t *unit; (unit = unit_pop (&batch->units));) {
        bool alone = unit == wrong || unit->tries >= together;
        if (alone && !unit->alone) {
            unit->alone = true;
            unit->tries = 0;
        }
        unit->refused = false;
        unit_rewind (unit);
        unit_append (&db->units, unit);
        db->stats.waiting++;
        db->stats.reruns++;
    }
    for (db_unit_t *unit; (unit = unit_pop (&waiting));)
        unit_append (&db->units, unit);
    db_wake (db);
}

static void
s_report_lost (db_unit_t *unit, const segment_t *segment)
{
    db_result_t failure;
    outcome_code (&failure, E_UNAVAILABLE, "08006", segment->conn->why);
    //  An error that came before the loss means that nothing was committed.
    failure.unknown = segment->synced && !segment->error;
    unit_report_failure (unit, &failure);
}

static void
s_report_error (db_unit_t *unit, const segment_t *segment)
{
    db_result_t failure;
    outcome_failed (&failure, segment->error);
    if (unit->refused) {
        outcome_code (&failure, unit->code, "", "rolled back before the commit");
        if (unit->text)
            failure.text = unit->text;
    }
    unit_report_failure (unit, &failure);
}

//  Would a run by itself tell more of the failure than this one did?
static bool
s_worth_another_run (const batch_t *batch, const segment_t *segment)
{
    const db_unit_t *first = batch->units.first;
    if (first->next)
        return true;
    return !first->refused && first->tries < TRIES_MAX && s_of_the_moment (segment->error);
}

static void
s_ended (segment_t *segment, bool lost)
{
    db_t *db = segment->conn->db;
    batch_t batch = db->batch;
    db->batch = (batch_t) { 0 };
    db->stats.in_flight -= batch.units.count;
    if (!lost && segment->error && s_worth_another_run (&batch, segment)) {
        s_again (db, &batch, segment);
        s_forget (&batch);
        return;
    }
    bool good = !lost && !segment->error;
    if (good)
        s_gathered (&batch, db);
    //  The next batch is on its way before the owners are told.
    if (!lost)
        units_run (db);
    for (db_unit_t *unit; (unit = unit_pop (&batch.units));)
        if (good)
            unit_report_ok (unit);
        else if (lost)
            s_report_lost (unit, segment);
        else
            s_report_error (unit, segment);
    s_forget (&batch);
}

//  ---- sending ----

void
units_run (db_t *db)
{
    conn_t *conn = db->lanes [DB_WRITE].conns;
    if (!db->units.first || db->batch.segment || conn->state != CONN_UP || conn->broken)
        return;
    segment_t *segment = segment_new (conn, s_ended, NULL);
    batch_t *batch = &db->batch;
    *batch = (batch_t) { .segment = segment };
    bool look = false, alone = false;
    for (size_t bytes = 0; db->units.first && batch->units.count < BATCH_UNITS
                           && bytes < BATCH_BYTES && !alone;) {
        alone = db->units.first->alone;
        if (alone && batch->units.first)
            break;
        db_unit_t *unit = unit_pop (&db->units);
        unit_append (&batch->units, unit);
        unit->tries++;
        look |= unit->before != NULL;
        for (call_t *call = unit->first; call; call = call->next) {
            segment_run (segment, call);
            bytes += call->size;
        }
    }
    db->stats.batches++;
    db->stats.waiting -= batch->units.count;
    db->stats.in_flight += batch->units.count;
    if (!look)
        segment_sync (segment);
    else if (segment->count == 0)
        s_look (segment);
    else {
        segment->answered = s_look;
        segment_flush (segment);
    }
}
