//  db_pipe.c -- segments on a connection in pipeline mode: sending them and reading their results.

#include <stdio.h>
#include <stdlib.h>

#include "db/db_inner.h"
#include "proto/fault.h"

static void
s_sent (conn_t *conn, int rc)
{
    if (!rc || fault (DB_SEND))
        conn->broken = true;
}

static step_t *
s_step (segment_t *self, call_t *call)
{
    if (self->count == self->room) {
        bool few = self->steps == self->few;
        self->room *= 2;
        step_t *steps = xrealloc (few ? NULL : self->steps, self->room * sizeof (step_t));
        if (few)
            memcpy (steps, self->few, sizeof self->few);
        self->steps = steps;
    }
    step_t *step = &self->steps [self->count++];
    *step = (step_t) { .call = call };
    return step;
}

segment_t *
segment_new (conn_t *conn, void (*ended) (segment_t *, bool), void *arg)
{
    segment_t *self = xcalloc (1, sizeof *self);
    self->conn = conn;
    self->steps = self->few;
    self->room = sizeof self->few / sizeof *self->few;
    self->ended = ended;
    self->arg = arg;
    if (!conn->first)
        conn->heard = loop_now (conn->db->loop);
    if (conn->last)
        conn->last->next = self;
    else
        conn->first = self;
    conn->last = self;
    conn->in_flight++;
    return self;
}

static void
s_free (segment_t *self)
{
    PQclear (self->error);
    if (self->steps != self->few)
        free (self->steps);
    free (self);
}

//  ---- sending ----

static void
s_forget (conn_t *conn, prepared_t *prepared)
{
    if (prepared->state == PREPARED_YES) {
        char name [32];
        int size = snprintf (name, sizeof name, "s%llu", (unsigned long long) prepared->serial);
        buf_put (&conn->stale, name, (size_t) size + 1);
    }
    prepared->state = PREPARED_NOT;
}

static prepared_t *
s_prepared (conn_t *conn, const statement_t *statement)
{
    if (statement->index >= conn->prepared_room) {
        size_t before = conn->prepared_room;
        conn->prepared_room = conn->db->statement_room;
        conn->prepared = xrealloc (conn->prepared, conn->prepared_room * sizeof (prepared_t));
        memset (conn->prepared + before, 0, (conn->prepared_room - before) * sizeof (prepared_t));
    }
    prepared_t *prepared = &conn->prepared [statement->index];
    if (prepared->generation != statement->generation) {
        s_forget (conn, prepared);
        prepared->generation = statement->generation;
    }
    return prepared;
}

void
segment_prepare (segment_t *self, statement_t *statement)
{
    conn_t *conn = self->conn;
    prepared_t *prepared = s_prepared (conn, statement);
    step_t *step = s_step (self, NULL);
    step->index = statement->index;
    step->serial = ++conn->serial;
    prepared->state = PREPARED_SENT;
    prepared->serial = step->serial;
    char name [32];
    snprintf (name, sizeof name, "s%llu", (unsigned long long) step->serial);
    s_sent (conn, PQsendPrepare (conn->pg, name, statement->text, 0, NULL));
}

static void
s_run_commented (segment_t *self, call_t *call)
{
    buf_t text = { 0 };
    s_step (self, call)->index = call->statement->index;
    buf_puts (&text, call->comment);
    buf_puts (&text, call->statement->text);
    buf_putc (&text, 0);
    s_sent (self->conn, PQsendQueryParams (self->conn->pg, (const char *) text.data,
                                           (int) call->count, NULL, call->params, NULL, NULL, 0));
    buf_free (&text);
}

//  What PostgreSQL would do to the next statement.
static void
s_fail_on_purpose (segment_t *self)
{
    if (fault (DB_STATEMENT))
        segment_text (self, "SELECT base.api_fail ('XX000', 'on purpose')");
    if (fault (DB_FULL))
        segment_text (self, "SELECT base.api_fail ('53100', 'on purpose')");
    if (fault (DB_DEADLOCK))
        segment_text (self, "SELECT base.api_fail ('40P01', 'on purpose')");
    if (fault (DB_ENDED))
        segment_text (self, "SELECT pg_terminate_backend (pg_backend_pid ())");
}

void
segment_run (segment_t *self, call_t *call)
{
    conn_t *conn = self->conn;
    if (fault_armed)
        s_fail_on_purpose (self);
    if (*call->comment) {
        s_run_commented (self, call);
        return;
    }
    prepared_t *prepared = s_prepared (conn, call->statement);
    bool ours = prepared->state == PREPARED_NOT;
    if (ours)
        segment_prepare (self, call->statement);
    step_t *step = s_step (self, call);
    step->index = call->statement->index;
    static const int binary [PARAMS_BINARY] = { 1, 1, 1, 1, 1, 1, 1, 1 };
    const int *formats = call->sizes ? binary : NULL;
    char name [32];
    snprintf (name, sizeof name, "s%llu", (unsigned long long) prepared->serial);
    //  While somebody else's preparation is in flight nobody knows how it ends: then without.
    int rc = ours || prepared->state == PREPARED_YES
                 ? PQsendQueryPrepared (conn->pg, name, (int) call->count, call->params,
                                        call->sizes, formats, 0)
                 : PQsendQueryParams (conn->pg, call->statement->text, (int) call->count, NULL,
                                      call->params, call->sizes, formats, 0);
    s_sent (conn, rc);
}

void
segment_text (segment_t *self, const char *text)
{
    s_step (self, NULL);
    s_sent (self->conn, PQsendQueryParams (self->conn->pg, text, 0, NULL, NULL, NULL, NULL, 0));
}

void
segment_flush (segment_t *self)
{
    s_sent (self->conn, PQsendFlushRequest (self->conn->pg));
    conn_flush_soon (self->conn);
}

static void
s_deallocated (segment_t *self, bool lost)
{
    (void) self;
    (void) lost;
}

//  Statements that lost their place are dropped in a segment of their own: their failure is
//  nobody's.
static void
s_deallocate (conn_t *conn)
{
    buf_t names = conn->stale;
    conn->stale = (buf_t) { 0 };
    segment_t *segment = segment_new (conn, s_deallocated, NULL);
    for (size_t at = 0; at < names.size; at += strlen ((char *) names.data + at) + 1) {
        char text [64];
        snprintf (text, sizeof text, "DEALLOCATE %s", (char *) names.data + at);
        segment_text (segment, text);
    }
    segment_sync (segment);
    buf_free (&names);
}

void
segment_sync (segment_t *self)
{
    conn_t *conn = self->conn;
    conn_flush_soon (conn);
    //  Without its sync nothing of it can be committed: not a part of it, when libpq refused a
    //  statement in the middle.
    if (conn->broken || fault (DB_SYNC)) {
        conn->broken = true;
        return;
    }
    self->synced = true;
#ifdef LIBPQ_HAS_SEND_PIPELINE_SYNC
    //  Where libpq can, all syncs of a turn leave in one piece; the older call sends each at once.
    bool taken = PQsendPipelineSync (conn->pg);
#else
    bool taken = PQpipelineSync (conn->pg);
#endif
    if (!taken)
        conn->broken = true;
    else if (conn->stale.size)
        s_deallocate (conn);
}

//  ---- reading ----

//  Errors that end the session, and those that libpq makes up when it is gone.
static bool
s_fatal (const PGresult *error)
{
    const char *severity = PQresultErrorField (error, PG_DIAG_SEVERITY_NONLOCALIZED);
    return !severity || strcmp (severity, "ERROR") != 0;
}

static void
s_step_prepared (conn_t *conn, const step_t *step, bool ok)
{
    prepared_t *prepared = &conn->prepared [step->index];
    if (prepared->serial == step->serial)
        prepared->state = ok ? PREPARED_YES : PREPARED_NOT;
    else if (ok) {
        //  Its place went to another text meanwhile.
        prepared_t gone = { .state = PREPARED_YES, .serial = step->serial };
        s_forget (conn, &gone);
    }
}

//  After a change of the schema a plan may be refused for good: the next use prepares again.
static void
s_step_refused (conn_t *conn, const step_t *step, const PGresult *error)
{
    if (step->call && (sqlstate_is (error, "0A000") || sqlstate_is (error, "26000"))) {
        prepared_t *prepared = &conn->prepared [step->index];
        if (prepared->state == PREPARED_YES)
            s_forget (conn, prepared);
    }
}

static void
s_take (segment_t *self, PGresult *result)
{
    conn_t *conn = self->conn;
    step_t *step = self->at < self->count ? &self->steps [self->at] : NULL;
    ExecStatusType status = PQresultStatus (result);
    bool ok = status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK
              || status == PGRES_EMPTY_QUERY;
    conn->stepped = true;
    if (step && step->serial)
        s_step_prepared (conn, step, ok);
    if (ok && step && step->call && !step->serial) {
        PQclear (step->call->result);
        step->call->result = result;
        return;
    }
    if (!ok && status != PGRES_PIPELINE_ABORTED) {
        if (s_fatal (result)) {
            snprintf (conn->why, sizeof conn->why, "%s", PQresultErrorMessage (result));
            conn->broken = true;
        }
        else if (!self->error) {
            if (step)
                s_step_refused (conn, step, result);
            self->error = result;
            self->wrong = self->at;
            return;
        }
    }
    PQclear (result);
}

static void
s_end (conn_t *conn, bool lost)
{
    segment_t *self = conn->first;
    conn->first = self->next;
    if (!conn->first)
        conn->last = NULL;
    conn->in_flight--;
    conn->stepped = false;
    self->ended (self, lost);
    s_free (self);
}

//  The end of one statement's results.
static void
s_next_step (segment_t *self)
{
    self->conn->stepped = false;
    if (self->at < self->count)
        self->at++;
    if (self->at == self->count && !self->synced && self->answered) {
        void (*answered) (segment_t *) = self->answered;
        self->answered = NULL;
        answered (self);
    }
}

void
pipe_read (conn_t *conn)
{
    unsigned nothing = 0;
    while (conn->first && !conn->broken && !PQisBusy (conn->pg)) {
        PGresult *result = PQgetResult (conn->pg);
        if (result && PQresultStatus (result) == PGRES_PIPELINE_SYNC) {
            PQclear (result);
            if (fault (DB_COMMIT)) {
                conn->broken = true;
                break;
            }
            s_end (conn, false);
            nothing = 0;
        }
        else if (result)
            s_take (conn->first, result);
        else if (conn->stepped) {
            s_next_step (conn->first);
            nothing = 0;
        }
        //  Between segments libpq says once more that there is nothing.
        else if (nothing++)
            break;
    }
}

void
pipe_drop (conn_t *conn)
{
    while (conn->first)
        s_end (conn, true);
    free (conn->prepared);
    conn->prepared = NULL;
    conn->prepared_room = 0;
    buf_clear (&conn->stale);
}
