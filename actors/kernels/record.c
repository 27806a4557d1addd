//  record.c -- executions while they are alive: from what a kernel says to rows and events, in
//  order.

#include <stdio.h>
#include <stdlib.h>

#include "kernels.h"

#define AGAIN 200            //  ms until a row that is under way is looked for again
#define SAVE_AFTER 500       //  ms that late output is gathered

struct waiter {
    waiter_t *next;
    record_t *record;        //  NULL: it is gone
    req_t *req;
};

//  ---- life ----

record_t *
record_new (kernels_t *kernels, const char *id, const char *channel, const char *notebook,
            const char *language, const char *user)
{
    record_t *self = xcalloc (1, sizeof *self);
    self->kernels = kernels;
    snprintf (self->id, sizeof self->id, "%s", id);
    self->channel = xstrdup (channel);
    self->notebook = xstrdup (notebook);
    self->language = xstrdup (language);
    self->user = xstrdup (user);
    hash_put (kernels->records, text_of (self->id), self);
    return self;
}

record_t *
record_get (kernels_t *kernels, const char *id)
{
    return hash_get (kernels->records, text_of (id));
}

size_t
records_alive (const kernels_t *kernels)
{
    text_t key;
    void *item;
    size_t alive = 0;
    for (size_t at = 0; hash_each (kernels->records, &at, &key, &item);)
        alive += !((record_t *) item)->over || ((record_t *) item)->pending;
    return alive;
}

static void
s_wake (record_t *self)
{
    for (waiter_t *at = self->waiters; at; at = at->next)
        req_wake (at->req);
}

static void
s_free (record_t *self)
{
    hash_take (self->kernels->records, text_of (self->id));
    for (waiter_t *at = self->waiters; at; at = at->next)
        at->record = NULL;
    s_wake (self);
    free (self->channel);
    free (self->notebook);
    free (self->language);
    free (self->user);
    free (self->error);
    free (self->text);
    free (self->outputs);
    free (self);
}

static void
s_release (record_t *self)
{
    if (self->over && !self->pending && !self->cell && !self->job && !self->saving)
        s_free (self);
}

void
record_release (record_t *self)
{
    self->over = true;
    s_release (self);
}

//  ---- rows ----

//  Each of these statements changes nothing when it is run again.
static CO void
s_commit (req_t *req, const char *notebook, const char *statement, const char *const *params,
          size_t count)
{
    db_result_t result = notebook_commit (req, notebook, statement, params, count);
    if (result.code != E_NONE && !claim_is_fence (&result))
        log_error ("execution is not kept", "statement", statement, "id", params [0], "why",
                   result.raw);
}

static CO void
s_begin (req_t *req)
{
    char *id = req_arg (req);
    req_defer (req, free, id);
    const record_t *record = record_get (kernels_of (req), id);
    const char *const params [] = { id };
    if (record && !record->fenced)
        s_commit (req, req_copy (req, text_of (record->notebook)), "execution_begin", params, 1);
}

void
record_begin (record_t *self)
{
    if (self->begun)
        return;
    self->begun = true;
    char *id = xstrdup (self->id);
    if (!actor_spawn (self->kernels->actor, s_begin, id))
        free (id);
}

//  The record cannot go while `ending` is set and `over` is not.
static CO void
s_end (req_t *req)
{
    record_t *self = req_arg (req);
    const char *count = self->count ? req_print (req, "%lld", (long long) self->count) : NULL;
    const char *const params [] = { self->id,
                                   self->state,
                                   count,
                                   self->error,
                                   self->text,
                                   self->outputs,
                                   self->truncated ? "true" : "false",
                                   req_print (req, "%llu", (unsigned long long)self->dropped) };
    if (!self->fenced)
        s_commit (req, self->notebook, "execution_end", params, sizeof params / sizeof *params);
    free (self->error);
    free (self->text);
    free (self->outputs);
    self->error = self->text = self->outputs = NULL;
    self->over = true;
    s_wake (self);
    s_release (self);
}

static void
s_end_when_kept (record_t *self)
{
    if (self->ending && !self->over && !self->pending
        && !actor_spawn (self->kernels->actor, s_end, self)) {
        log_error ("execution is not kept", "id", self->id, "why", "too much goes on");
        record_release (self);
    }
}

void
record_end (record_t *self, const char *state, int64_t count, char *error, char *text,
            char *outputs, bool truncated, uint64_t dropped)
{
    self->state = state;
    self->count = count;
    self->error = error;
    self->text = text;
    self->outputs = outputs;
    self->truncated = truncated;
    self->dropped = dropped;
    self->ending = true;
    s_end_when_kept (self);
}

//  ---- events ----

static void
s_on_kept (void *arg, int64_t off)
{
    record_t *self = arg;
    self->pending--;
    if (off > self->last)
        self->last = off;
    s_wake (self);
    if (self->pending == 0 && self->ending && !self->over)
        s_end_when_kept (self);
    else
        s_release (self);
}

void
record_event (record_t *self, const char *type, text_t data)
{
    char full [64], claim [NOTEBOOK_KEY];
    if (self->fenced)
        return;
    snprintf (full, sizeof full, "execution.%s", type);
    notebook_key_write (claim, self->notebook);
    self->pending++;
    live_append_guarded (self->kernels->actor, claim, self->channel, NULL, full, data, s_on_kept,
                         self);
}

//  ---- what kernels say ----

static char *
s_take (buf_t *buf)
{
    buf_putc (buf, 0);
    return (char *) buf->data;
}

static void
s_on_began (void *arg, cell_t *cell)
{
    (void) arg;
    record_begin (cell->arg);
}

static void
s_on_event (void *arg, cell_t *cell, const char *type, text_t data)
{
    (void) arg;
    record_event (cell->arg, type, data);
}

static void
s_on_finished (void *arg, cell_t *cell)
{
    (void) arg;
    record_t *self = cell->arg;
    buf_t text = { 0 }, outputs = { 0 };
    output_text (cell->output, &text);
    output_notebook (cell->output, &outputs);
    self->kernel = NULL;
    buf_putc (&cell->error, 0);
    char *error = cell->error.size > 1 && strcmp (cell->outcome, "succeeded") != 0
                ? xstrdup ((const char *) cell->error.data) : NULL;
    record_end (self, cell->outcome, cell->execution_count, error, s_take (&text),
                s_take (&outputs), output_truncated (cell->output), output_dropped (cell->output));
}

//  ---- output after the end ----

typedef struct {
    kernels_t *kernels;
    char id [37], notebook [37];
    char *text, *outputs;
} late_t;

static late_t *
s_late (record_t *self)
{
    late_t *late = xcalloc (1, sizeof *late);
    buf_t text = { 0 }, outputs = { 0 };
    output_text (self->cell->output, &text);
    output_notebook (self->cell->output, &outputs);
    late->kernels = self->kernels;
    memcpy (late->id, self->id, sizeof late->id);
    snprintf (late->notebook, sizeof late->notebook, "%s", self->notebook);
    late->text = s_take (&text);
    late->outputs = s_take (&outputs);
    self->stale = false;
    return late;
}

static CO void
s_save_late (req_t *req)
{
    late_t *late = req_arg (req);
    //  Behind the row's own end, if that is still under way.
    while (record_get (late->kernels, late->id) && !record_get (late->kernels, late->id)->over)
        req_sleep (req, AGAIN);
    const char *const params [] = { late->id, late->text, late->outputs };
    s_commit (req, late->notebook, "execution_outputs", params, 3);
    free (late->text);
    free (late->outputs);
    free (late);
}

static CO void
s_save_soon (req_t *req)
{
    record_t *self = req_arg (req);
    req_sleep (req, SAVE_AFTER);
    self->saving = false;
    if (self->cell && self->stale && !self->fenced)
        actor_spawn (self->kernels->actor, s_save_late, s_late (self));
    s_release (self);
}

static void
s_on_changed (void *arg, cell_t *cell)
{
    (void) arg;
    record_t *self = cell->arg;
    self->stale = true;
    if (!self->saving)
        self->saving = actor_spawn (self->kernels->actor, s_save_soon, self);
}

static void
s_on_forgotten (void *arg, cell_t *cell)
{
    (void) arg;
    record_t *self = cell->arg;
    if (self->stale && !self->fenced)
        actor_spawn (self->kernels->actor, s_save_late, s_late (self));
    self->cell = NULL;
    s_release (self);
}

static void
s_on_kernel (void *arg, kernel_t *kernel, const char *state)
{
    kernels_t *kernels = arg;
    kernel_show (kernels, kernel, state);
    if (strcmp (state, "dead") == 0)
        pool_forget (kernels->pool, kernel);
}

const kernel_calls_t record_calls = {
    .began = s_on_began, .event = s_on_event, .finished = s_on_finished, .changed = s_on_changed,
    .forgotten = s_on_forgotten, .kernel = s_on_kernel };

//  ---- waiting ----

static void
s_waiter_end (void *arg)
{
    waiter_t *self = arg;
    if (self->record)
        for (waiter_t **at = &self->record->waiters; *at; at = &(*at)->next)
            if (*at == self) {
                *at = self->next;
                break;
            }
    self->record = NULL;
}

CO void
record_wait (req_t *req, const char *id, bool any, int64_t ms)
{
    record_t *record = record_get (kernels_of (req), id);
    int64_t until = loop_now (req_actor (req)->loop) + ms;
    if (!record || record->over)
        return;
    waiter_t *waiter = req_alloc (req, sizeof *waiter);
    *waiter = (waiter_t) { record->waiters, record, req };
    record->waiters = waiter;
    req_defer (req, s_waiter_end, waiter);
    int64_t last = record->last, left;
    while (waiter->record && !waiter->record->over
           && (left = until - loop_now (req_actor (req)->loop)) > 0 && !req_cancelled (req)
           && !(any && waiter->record->last > last))
        req_sleep (req, left);
    s_waiter_end (waiter);
}
