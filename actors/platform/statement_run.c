//  statement_run.c -- the coroutine of a statement: its place, its engine, its rows, its end.

#include <stdio.h>
#include <stdlib.h>

#include "statement.h"
#include "statement_call.h"

#define AGAIN 200                    //  ms until an absent database is asked again
#define PIECE (256 << 10)            //  bytes of rows stored at once
#define FRESH 500                    //  ms after which rows are stored that are fewer
#define TOLD_MAX (1 << 20)           //  bytes of rows told live; of the rest only how many
#define TOLD_PIECE (64 << 10)        //  of one event, and stored at once as long as they are told
#define WINDOW (256 << 10)           //  bytes that a listener may be behind
#define QUEUE_LOOK 1000              //  ms
#define PROGRESS_EVERY 1000          //  ms
#define ENDING (STATEMENT_ENDING - 3)        //  without the rows

//  Rows that are to be written, or the end with the last of them.
typedef struct statement_end {
    statement_t *statement;
    req_t *req;
    //  of the end
    const char *state, *detail, *termination;
    //  of rows
    const char *told, *data;
    bool rows, end;
} writing_t;

//  ---------------------------------------------------------------- rows in the database

CO void
statement_commit (req_t *req, statement_t *self, void (*build) (unit_t *unit, void *arg), void *arg)
{
    while (!self->fenced) {
        unit_t *unit = unit_new (req);
        unit_guard (unit, statement_key (req, self->user));
        build (unit, arg);
        db_result_t result = unit_try (unit);
        if (result.code == E_NONE || claim_is_fence (&result))
            return;
        //  Each of these statements changes nothing when it is run again.
        if (!error_retry (result.code)) {
            log_error ("statement is not kept", "id", self->id, "why", result.raw);
            return;
        }
        req_sleep (req, AGAIN);
    }
}

static void
s_build_begin (unit_t *unit, void *arg)
{
    statement_t *self = arg;
    unit_add (unit, "statement_begin", self->id);
}

static const char *
s_number (req_t *req, int64_t number)
{
    return req_print (req, "%lld", (long long) number);
}

//  From the state on.
static void
s_ending_params (const writing_t *writing, const char **params)
{
    const statement_t *self = writing->statement;
    req_t *req = writing->req;
    const engine_run_t *run = self->run;
    bool kept = strcmp (writing->state, "succeeded") == 0 && !self->streams;
    size_t rows = self->found + (writing->rows || self->streams ? self->pending_count : 0);
    params [0] = writing->state;
    params [1] = writing->detail;
    params [2] = writing->termination;
    params [3] = self->columns.size ? req_copy (req, buf_text (&self->columns)) : NULL;
    params [4] = s_number (req, (int64_t) rows);
    params [5] = s_number (req, self->streams ? 0 : (int64_t) self->weight);
    params [6] = run && run->truncated ? "true" : "false";
    params [7] = run && run->changed >= 0 ? s_number (req, run->changed) : NULL;
    params [8] = run ? run->tag : NULL;
    params [9] = run ? run->engine_id : NULL;
    params [10] = run ? run->info : NULL;
    params [11] = kept ? actor_opt (req_actor (req), "statement-ttl") : NULL;
}

static void
s_build (unit_t *unit, void *arg)
{
    writing_t *writing = arg;
    statement_t *self = writing->statement;
    req_t *req = writing->req;
    if (writing->rows)
        unit_also (unit, "statement_rows_add", self->id, s_number (req, (int64_t) self->found),
                   s_number (req, (int64_t) self->pending_count), writing->data, writing->told);
    if (!writing->end)
        return;
    const char *params [1 + ENDING] = { self->id };
    s_ending_params (writing, params + 1);
    unit_add_ (unit, "statement_end", params, 1 + ENDING);
}

void
statement_ending (const statement_t *self, const char *params [STATEMENT_ENDING])
{
    const writing_t *writing = self->end;
    for (size_t n = 0; n < STATEMENT_ENDING; n++)
        params [n] = NULL;
    params [0] = self->running ? "running" : "queued";
    if (!writing)
        return;
    s_ending_params (writing, params);
    if (!writing->rows)
        return;
    params [ENDING] = s_number (writing->req, (int64_t) self->pending_count);
    params [ENDING + 1] = writing->data;
    params [ENDING + 2] = writing->told;
}

//  Until whoever began it has written its row.
static CO void
s_await_row (req_t *req, statement_t *self)
{
    while (!self->written && !self->fenced) {
        self->wants = true;
        if (self->beginner)
            req_wake (self->beginner);
        req_sleep (req, QUEUE_LOOK);
    }
}

//  What the live channel is told of the rows that are stored now.
static const char *
s_told (req_t *req, statement_t *self)
{
    buf_t *out = req_buf (req);
    buf_putf (out, "{\"first\":%zu,\"count\":%zu", self->found, self->pending_count);
    if (self->found == 0) {
        buf_puts (out, ",\"columns\":");
        buf_put (out, self->columns.data, self->columns.size);
    }
    if (self->told < TOLD_MAX && self->pending.size <= 2 * TOLD_PIECE) {
        buf_puts (out, ",\"rows\":[");
        result_objects (req, buf_text (&self->pending), buf_text (&self->columns), 0, SIZE_MAX,
                        false, out);
        buf_putc (out, ']');
        self->told += self->pending.size;
    }
    buf_putc (out, '}');
    return req_copy (req, buf_text (out));
}

//  A coroutine that lives long gives memory back only at its end: what is large gets a context of
//  its own.
typedef struct {
    statement_t *statement;
    req_t *runner;
    bool done;
} store_t;

static void
s_stored (void *arg)
{
    store_t *store = arg;
    store->done = true;
    req_wake (store->runner);
}

static CO void
s_store (req_t *req)
{
    store_t *store = req_arg (req);
    statement_t *self = store->statement;
    req_defer (req, s_stored, store);
    writing_t writing = { .statement = self, .req = req, .rows = true };
    writing.told = s_told (req, self);
    writing.data = req_copy (req, buf_text (&self->pending));
    statement_commit (req, self, s_build, &writing);
}

static CO void
s_store_pending (req_t *req, statement_t *self)
{
    s_await_row (req, self);
    store_t *store = req_alloc (req, sizeof *store);
    *store = (store_t) { .statement = self, .runner = req };
    if (!self->fenced && actor_spawn (req_actor (req), s_store, store))
        while (!store->done)
            req_sleep (req, QUEUE_LOOK);
    self->found += self->pending_count;
    self->pending_count = 0;
    self->whole = false;
    buf_clear (&self->pending);
}

//  ---------------------------------------------------------------- rows from the engine

static void
s_columns (statement_t *self)
{
    const engine_run_t *run = self->run;
    buf_t *out = &self->columns;
    if (out->size || !run->columns)
        return;
    buf_putc (out, '[');
    for (size_t n = 0; n < run->column_count; n++) {
        buf_puts (out, n ? ",{\"name\":" : "{\"name\":");
        json_quote (text_of (run->columns [n].name), out);
        buf_puts (out, ",\"type\":");
        json_quote (text_of (run->columns [n].type), out);
        buf_putc (out, '}');
    }
    buf_putc (out, ']');
}

typedef struct {
    engine_run_t *run;
    const char *rows;
} progress_t;

static void
s_build_progress (unit_t *unit, void *arg)
{
    const progress_t *progress = arg;
    const engine_run_t *run = progress->run;
    unit_add (unit, "statement_progress", run->id,
              run->progress >= 0 ? s_number (run->req, run->progress) : NULL, run->engine_id,
              run->info, progress->rows);
}

static CO void
s_tell_progress (req_t *req, statement_t *self, int64_t now)
{
    engine_run_t *run = self->run;
    if (run->progress < 0 || now - self->progress_at < PROGRESS_EVERY || self->cancelled)
        return;
    self->progress_at = now;
    s_await_row (req, self);
    progress_t progress = { run, s_number (req, (int64_t) (self->found + self->pending_count)) };
    statement_commit (req, self, s_build_progress, &progress);
}

//  Rows go on to whom they are for; this is where the engine is made to wait.
static CO void
s_deliver (req_t *req, statement_t *self)
{
    int64_t now = loop_now (req_actor (req)->loop);
    s_columns (self);
    if (self->streams) {
        if (self->listener && self->pending.size)
            req_wake (self->listener);
        self->held = self->pending.size > WINDOW;
        while (self->held && !self->deaf && !self->cancelled && !self->fenced)
            req_sleep (req, QUEUE_LOOK);
        if (self->deaf)
            statement_cancel (self);
    }
    else if (self->pending.size >= (self->told < TOLD_MAX ? TOLD_PIECE : PIECE)
             || (self->pending_count && now - self->pending_since >= FRESH))
        s_store_pending (req, self);
    s_tell_progress (req, self, now);
}

static CO engine_step_t
s_pull_all (req_t *req, statement_t *self)
{
    self->opened = true;
    engine_step_t step = self->engine->open (self->run);
    while (step == ENGINE_ROWS) {
        size_t count = 0, size = self->pending.size;
        step = self->engine->pull (self->run, &self->pending, &count);
        if (count && !self->pending_count)
            self->pending_since = loop_now (req_actor (req)->loop);
        self->pending_count += count;
        self->weight += self->pending.size - size;
        if (step == ENGINE_ROWS)
            s_deliver (req, self);
    }
    s_columns (self);
    return step;
}

//  ---------------------------------------------------------------- the end

//  How a statement ends that was not done, and the code where the engine has none.
typedef struct {
    engine_fault_t fault;
    const char *state, *detail, *type, *code;
} ending_t;

static const ending_t s_ends [] = {
    { FAULT_NONE, "succeeded", NULL, "success", "SUCCESS" },
    { FAULT_USER, "failed", NULL, "user", "USER_ERROR" },
    { FAULT_LIMIT, "failed", NULL, "limit", "LIMIT_EXCEEDED" },
    { FAULT_PLATFORM, "failed", NULL, "platform", "UNAVAILABLE" },
    { FAULT_TIMEOUT, "failed", "timed_out", "timeout", "TIMED_OUT" },
    { FAULT_CANCELLED, "cancelled", NULL, "cancelled", "CANCELED" },
    { FAULT_LOST, "lost", "unconfirmed", "lost", "LOST" } };

static const ending_t *
s_ending (engine_fault_t fault)
{
    size_t n = 0;
    while (s_ends [n].fault != fault)
        n++;
    return &s_ends [n];
}

static const char *
s_termination (req_t *req, const ending_t *ending, const engine_run_t *run)
{
    bool failed = ending->fault != FAULT_NONE;
    buf_t *out = req_buf (req);
    buf_puts (out, "{\"type\":");
    json_quote (text_of (ending->type), out);
    buf_puts (out, ",\"code\":");
    json_quote (text_of (failed && *run->code ? run->code : ending->code), out);
    buf_puts (out, ",\"message\":");
    json_quote (text_of (failed ? run->message : "succeeded"), out);
    if (failed) {
        if (run->hint) {
            buf_puts (out, ",\"hint\":");
            json_quote (text_of (run->hint), out);
        }
        if (run->position)
            buf_putf (out, ",\"position\":%d", run->position);
    }
    buf_putc (out, '}');
    return req_copy (req, buf_text (out));
}

static CO void
s_end (req_t *req, statement_t *self, engine_step_t step)
{
    const engine_run_t *run = self->run;
    const ending_t *ending = s_ending (step == ENGINE_FAILED ? run->fault : FAULT_NONE);
    writing_t writing = { .statement = self, .req = req, .end = true, .state = ending->state,
                          .detail = ending->detail };
    if (self->aborted && strcmp (writing.state, "cancelled") == 0) {
        writing.state = "aborted";
        writing.detail = "the service was stopped";
    }
    writing.termination = s_termination (req, ending, run);
    //  The last rows and the end are one commit.
    writing.rows = !self->streams && self->columns.size && step == ENGINE_DONE;
    if (writing.rows) {
        self->whole = self->found == 0;
        writing.told = s_told (req, self);
        writing.data = req_copy (req, buf_text (&self->pending));
    }
    self->ended = true;
    self->end = &writing;
    s_await_row (req, self);
    self->end = NULL;
    if (!self->settled)
        statement_commit (req, self, s_build, &writing);
}

//  ---------------------------------------------------------------- the coroutine

static CO void s_break_off (req_t *req);

//  However it came to its end.
static void
s_left (void *arg)
{
    statement_t *self = arg;
    actor_t *actor = req_actor (self->runner);
    if (self->opened)
        self->engine->close (self->run);
    self->opened = false;
    self->run = NULL;
    self->runner = NULL;
    if (!self->ended && !self->fenced && actor_spawn (actor, s_break_off, self))
        return;
    statement_over (self);
    statement_free (self);
}

//  Its coroutine failed: a source that is not there any more.
static CO void
s_break_off (req_t *req)
{
    statement_t *self = req_arg (req);
    self->runner = req;
    self->ended = true;
    req_defer (req, s_left, self);
    writing_t writing = { .statement = self,
                          .req = req,
                          .end = true,
                          .state = "failed",
                          .termination =
                              "{\"type\":\"platform\",\"code\":\"BROKEN_OFF\","
                              "\"message\":\"what it asks for is not there any more\"}" };
    s_await_row (req, self);
    statement_commit (req, self, s_build, &writing);
}

static CO bool
s_take_place (req_t *req, statement_t *self)
{
    if (self->running)
        return true;
    while (!self->cancelled && !statement_has_place (self->user))
        req_sleep (req, QUEUE_LOOK);
    if (self->cancelled)
        return false;
    self->running = true;
    statement_commit (req, self, s_build_begin, self);
    return !self->cancelled;
}

CO void
statement_run (req_t *req)
{
    statement_t *self = req_arg (req);
    self->runner = req;
    req_defer (req, s_left, self);
    engine_run_t *run = req_alloc (req, sizeof *run);
    *run = (engine_run_t) { .engine = self->engine, .req = req, .user = self->user, .id = self->id,
                            .source = self->source, .sql = self->sql, .params = self->params,
                            .param_count = self->param_count, .explain = self->explain,
                            .read_only = self->read_only, .rows = self->rows, .bytes = self->bytes,
                            .deadline = self->deadline, .changed = -1, .progress = -1 };
    engine_step_t step = ENGINE_FAILED;
    bool placed = s_take_place (req, self);
    if (placed && self->source)
        engine_of_source (req, self->user, self->source, &run->target);
    self->run = run;
    if (!placed || self->cancelled) {
        run->cancelled = true;
        engine_fail (run, FAULT_CANCELLED, "", "cancelled before it began");
    }
    else
        step = s_pull_all (req, self);
    s_end (req, self, step);
    statement_over (self);
    if (step == ENGINE_DONE && !self->fenced)
        engine_note (run);
}
