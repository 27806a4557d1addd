//  db_lane.c -- READ and SLOW: single statements, spread over the connections. Reads that wait
//  together share a sync, which saves a transaction and two sends for each; when one fails all of
//  them run again, each with a sync of its own, so a failure reaches no neighbour.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "db/db_inner.h"

//  Deeper pipelines gain nothing, and whoever waits in the lane can still take the other
//  connection.
#define READ_DEPTH 1
//  The first of a group is answered with the last.
#define READ_GROUP 32
//  A cancellation that came before the statement had begun is said again.
#define CANCEL_AGAIN 100

static void
s_append (op_list_t *list, op_t *op)
{
    op->next = NULL;
    if (list->last)
        list->last->next = op;
    else
        list->first = op;
    list->last = op;
}

static op_t *
s_pop (op_list_t *list)
{
    op_t *op = list->first;
    if (op) {
        list->first = op->next;
        if (!list->first)
            list->last = NULL;
    }
    return op;
}

static void
s_put_back (op_list_t *list, op_t *op)
{
    op->next = list->first;
    list->first = op;
    if (!list->last)
        list->last = op;
}

//  Tell its owner, and that was it. A result that is still in `outcome` afterwards was not taken.
static void
s_finish (db_t *db, op_t *op, db_result_t *outcome)
{
    if (outcome->code != E_NONE)
        db->stats.failures++;
    if (op->done)
        op->done (op->arg, outcome, 1);
    PQclear (outcome->result);
    call_free (op->call);
    free (op);
}

static void
s_fail (db_t *db, op_t *op, error_code_t code, const char *sqlstate, const char *raw)
{
    db_result_t outcome;
    outcome_code (&outcome, code, sqlstate, raw);
    s_finish (db, op, &outcome);
}

//  A read that was lost with its connection is sent once more: nothing tells it from a first one.
static bool
s_read_again (conn_t *conn, op_t *op)
{
    db_t *db = conn->db;
    if (conn->lane != DB_READ || op->retried || !op->done || db->stopping)
        return false;
    op->retried = true;
    s_append (&db->lanes [DB_READ].waiting, op);
    db->stats.waiting++;
    return true;
}

//  How one statement ended, whose segment ran alone or without an error.
static void
s_settle (segment_t *segment, op_t *op, bool lost)
{
    db_t *db = segment->conn->db;
    db_result_t outcome;
    if (lost && s_read_again (segment->conn, op))
        return;
    if (lost)
        outcome_code (&outcome, E_UNAVAILABLE, "08006", segment->conn->why);
    else if (op->cancelled)
        outcome_code (&outcome, E_TIMEOUT, "57014", "cancelled");
    else if (segment->error) {
        //  The plan went stale with a change of the schema; it is prepared anew.
        bool stale = sqlstate_is (segment->error, "0A000")
                     || sqlstate_is (segment->error, "26000");
        if (stale && !op->retried) {
            op->retried = true;
            s_put_back (&db->lanes [op->lane].waiting, op);
            db->stats.waiting++;
            return;
        }
        outcome_failed (&outcome, segment->error);
    }
    else {
        outcome_ok (&outcome, op->call->result);
        op->call->result = NULL;
    }
    s_finish (db, op, &outcome);
}

static void
s_ended (segment_t *segment, bool lost)
{
    conn_t *conn = segment->conn;
    db_t *db = conn->db;
    op_t *group = segment->arg;
    bool again = segment->error && !lost && group->next;
    if (conn->lane == DB_SLOW)
        ltimer_stop (conn->deadline);
    db_wake (db);
    for (op_t *op = group, *next; op; op = next) {
        next = op->next;
        db->stats.in_flight--;
        if (again && op->done) {
            op->alone = true;
            s_append (&db->lanes [op->lane].waiting, op);
            db->stats.waiting++;
        }
        else
            s_settle (segment, op, lost);
    }
}

//  ---- sending ----

static conn_t *
s_choose (const lane_t *lane)
{
    conn_t *best = NULL;
    size_t depth = lane->conns->lane == DB_SLOW ? 1 : READ_DEPTH;
    for (size_t n = 0; n < lane->count; n++) {
        conn_t *conn = &lane->conns [n];
        if (conn->state != CONN_UP || conn->broken || conn->cancel || conn->in_flight >= depth)
            continue;
        if (!best || conn->in_flight < best->in_flight)
            best = conn;
    }
    return best;
}

static void
s_cancelled (void *arg)
{
    conn_t *conn = arg;
    db_cancel_destroy (&conn->cancel);
    const segment_t *segment = conn->first;
    if (conn->state == CONN_UP && segment && segment->ended == s_ended)
        ltimer_set (conn->deadline, CANCEL_AGAIN);
    else
        db_wake (conn->db);
}

//  Have PostgreSQL stop what a SLOW connection is doing.
void
conn_stop (conn_t *conn)
{
    const segment_t *segment = conn->first;
    if (conn->cancel || !segment || segment->ended != s_ended)
        return;
    op_t *op = segment->arg;
    op->cancelled = true;
    conn->cancel = db_cancel_start (conn->db->loop, conn->pg, s_cancelled, conn);
}

//  Send the first that waits, with others behind it as far as they may share its sync.
static void
s_send (db_t *db, conn_t *conn, lane_t *lane, size_t share)
{
    op_list_t group = { 0 };
    segment_t *segment = NULL;
    while (share-- && lane->waiting.first && !(group.first && lane->waiting.first->alone)) {
        op_t *op = s_pop (&lane->waiting);
        db->stats.waiting--;
        if (op->due && op->due <= loop_now (db->loop)) {
            s_fail (db, op, E_TIMEOUT, "57014", "deadline passed before it was sent");
            continue;
        }
        if (!segment)
            segment = segment_new (conn, s_ended, op);
        db->stats.in_flight++;
        s_append (&group, op);
        segment_run (segment, op->call);
        if (op->alone)
            break;
    }
    if (!segment)
        return;
    segment_sync (segment);
    if (conn->lane == DB_SLOW && group.first->due) {
        int64_t left = group.first->due - loop_now (db->loop);
        ltimer_set (conn->deadline, left > 0 ? left : 0);
    }
}

//  Even parts for the connections that are up.
static size_t
s_share (const lane_t *lane)
{
    size_t waiting = 0, up = 0;
    if (lane->conns->lane == DB_SLOW)
        return 1;
    for (const op_t *op = lane->waiting.first; op; op = op->next)
        waiting++;
    for (size_t n = 0; n < lane->count; n++)
        up += lane->conns [n].state == CONN_UP && !lane->conns [n].broken;
    size_t share = up ? (waiting + up - 1) / up : 1;
    return share < READ_GROUP ? share : READ_GROUP;
}

void
lane_run (db_t *db, lane_t *lane)
{
    size_t share = s_share (lane);
    while (lane->waiting.first) {
        conn_t *conn = s_choose (lane);
        if (!conn)
            return;
        s_send (db, conn, lane, share);
    }
}

void
lane_refuse (db_t *db, lane_t *lane, const char *why)
{
    //  Those that come while these are told have their own turn.
    op_list_t all = lane->waiting;
    lane->waiting = (op_list_t) { 0 };
    for (op_t *op; (op = s_pop (&all));) {
        db->stats.waiting--;
        s_fail (db, op, E_UNAVAILABLE, "08006", why);
    }
}

void
ops_stopped (db_t *db)
{
    for (op_t *op; (op = s_pop (&db->stopped));)
        s_fail (db, op, E_TIMEOUT, "57014", "cancelled before it was sent");
}

//  ---- what users call ----

static uint64_t
s_queue (db_t *db, db_lane_t lane, statement_t *statement, const char *const *params,
         size_t count, int64_t deadline_ms, db_done_fn *done, void *arg)
{
    op_t *op = xcalloc (1, sizeof *op);
    op->handle = ++db->handle;
    op->lane = lane;
    op->call = call_new (statement, params, count);
    op->done = done;
    op->arg = arg;
    op->due = deadline_ms > 0 ? loop_now (db->loop) + deadline_ms : 0;
    db->stats.queries++;
    db->stats.waiting++;
    s_append (&db->lanes [lane].waiting, op);
    db_wake (db);
    return op->handle;
}

void
db_comment (db_t *self, uint64_t handle, const char *traceparent)
{
    op_t *op = self->lanes [DB_SLOW].waiting.last;
    //  Nothing that could end the comment.
    if (op && op->handle == handle && traceparent
        && strspn (traceparent, "0123456789abcdef-") == strlen (traceparent))
        snprintf (op->call->comment, sizeof op->call->comment, "/*traceparent='%.60s'*/ ",
                  traceparent);
}

//  A single statement of the WRITE lane is a unit of one.
static uint64_t
s_unit_of_one (db_t *db, const char *name, const char *text, const char *const *params,
               size_t count, db_done_fn *done, void *arg)
{
    db_unit_t *unit = db_unit_new (db);
    if (name)
        db_unit_add (unit, name, params, count);
    else
        db_unit_add_text (unit, text, params, count);
    return db_unit_commit (&unit, done, arg);
}

uint64_t
db_query (db_t *db, db_lane_t lane, const char *name, const char *const *params, size_t count,
          int64_t deadline_ms, db_done_fn *done, void *arg)
{
    if (lane == DB_WRITE)
        return s_unit_of_one (db, name, NULL, params, count, done, arg);
    return s_queue (db, lane, statement_named (db, name), params, count, deadline_ms, done, arg);
}

uint64_t
db_query_text (db_t *db, db_lane_t lane, const char *text, const char *const *params,
               size_t count, int64_t deadline_ms, db_done_fn *done, void *arg)
{
    if (lane == DB_WRITE)
        return s_unit_of_one (db, NULL, text, params, count, done, arg);
    return s_queue (db, lane, statement_by_text (db, text), params, count, deadline_ms, done,
                    arg);
}

static op_t *
s_take_waiting (op_list_t *list, uint64_t handle)
{
    op_t *before = NULL;
    for (op_t *op = list->first; op; before = op, op = op->next)
        if (op->handle == handle) {
            if (before)
                before->next = op->next;
            else
                list->first = op->next;
            if (list->last == op)
                list->last = before;
            return op;
        }
    return NULL;
}

static void
s_cancel_waiting (db_t *db, op_t *op)
{
    db->stats.waiting--;
    if (op->lane == DB_SLOW) {
        s_append (&db->stopped, op);
        db_wake (db);
    }
    else {
        call_free (op->call);
        free (op);
    }
}

static bool
s_cancel_sent (conn_t *conn, uint64_t handle)
{
    for (segment_t *segment = conn->first; segment; segment = segment->next) {
        if (segment->ended != s_ended)
            continue;
        op_t *op = segment->arg;
        while (op && op->handle != handle)
            op = op->next;
        if (!op)
            continue;
        if (conn->lane == DB_READ)
            op->done = NULL;
        else
            conn_stop (conn);
        return true;
    }
    return false;
}

void
db_cancel (db_t *db, uint64_t handle)
{
    if (unit_cancel (db, handle))
        return;
    for (size_t n = 0; n < LANES; n++) {
        lane_t *lane = &db->lanes [n];
        op_t *op = s_take_waiting (&lane->waiting, handle);
        if (op) {
            s_cancel_waiting (db, op);
            return;
        }
        for (size_t c = 0; c < lane->count; c++)
            if (s_cancel_sent (&lane->conns [c], handle))
                return;
    }
}
