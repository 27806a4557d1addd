//  kind_notebook.c -- all code cells of a notebook, one after the other, in a kernel of the
//  attempt's own: the notebook's kernel, and what stands in it, are left alone. Parameters become
//  variables behind the cell that is tagged "parameters", or at the beginning.

#include <stdlib.h>

#include "jobs.h"

#define POLL 3.0                     //  seconds that one call waits for the end of a cell
#define OUTPUT_MAX 2000              //  bytes of a cell's output in the log

typedef struct {
    req_t *req;
    task_t *task;
    const char *notebook, *language;
    size_t step;                     //  of those that are run
    bool opened;                     //  its kernel has been asked for a cell
    task_end_t end;
} book_t;

//  One cell to be run.
typedef struct {
    const char *name;                //  for people
    const char *id;                  //  the notebook's; NULL: none
    text_t code;
    const char *language;
} step_t;

static CO void
s_check (req_t *req, mp_t config, const char *where)
{
    text_t id = mp_text (mp_get (config, "notebook_id"));
    if (id.size == 0)
        fail_field (req, E_INVALID, "config", "%s needs notebook_id", where);
    may_use (req, "notebooks.get", req_copy (req, id), "notebook_id", "notebook");
}

//  Where it stands: "<step>:<execution>". Earlier ones are done.
static size_t
s_begun (const task_t *task)
{
    return task->ref ? (size_t) strtoul (task->ref, NULL, 10) : 0;
}

static void
s_log_output (book_t *self, const char *cell, mp_t answer)
{
    text_t text = mp_text (mp_get (answer, "output"));
    while (text.size && (text.data [text.size - 1] == '\n' || text.data [text.size - 1] == ' '))
        text.size--;
    if (text.size == 0)
        return;
    bool cut = text.size > OUTPUT_MAX;
    text.size = cut ? OUTPUT_MAX : text.size;
    while (cut && text.size && !text_utf8 (text))
        text.size--;
    task_log (self->req, self->task, "%s: %.*s%s", cell, (int) text.size, text.data,
              cut ? " […]" : "");
}

//  False: the notebook ends here.
static CO bool
s_ended (book_t *self, const char *cell, mp_t answer)
{
    req_t *req = self->req;
    text_t state = mp_text (mp_get (answer, "state")), error = mp_text (mp_get (answer, "error"));
    s_log_output (self, cell, answer);
    if (text_is (state, "succeeded"))
        return true;
    const char *why = error.size ? req_copy (req, error) : req_copy (req, state);
    if (text_is (state, "lost") || text_is (state, "aborted"))
        self->end = (task_end_t) { .code = TASK_BROKEN, .why = "DRIVER_ERROR" };
    else if (text_is (state, "cancelled"))
        self->end = (task_end_t) { .code = task_cancelled (self->task) ? TASK_CANCELLED
                                                                       : TASK_FAILED };
    else
        self->end = (task_end_t) { .code = TASK_FAILED };
    self->end.message = req_print (req, "%s: %s", cell, why);
    return false;
}

static mp_t
s_body (book_t *self, const step_t *step, double wait)
{
    buf_t *body = req_buf (self->req);
    mp_put_map (body, 6);
    mp_pair_text (body, "code", step->code);
    mp_pair_str (body, "language", step->language);
    mp_put_str (body, "wait");
    mp_put_real (body, wait);
    mp_pair_str (body, "cellId", step->id);
    mp_pair_str (body, "session", self->task->idem);
    //  Without the variables of the cells before, a cell is not to run.
    mp_pair_bool (body, "continues", self->opened);
    return mp_buf (body);
}

static void
s_refused (book_t *self, const bus_reply_t *reply)
{
    self->end = kind_refused (self->req, reply);
    if (reply->status == 409 && !mp_empty (mp_get (mp_get (reply->body, "details"), "session"))) {
        self->end.code = TASK_BROKEN;
        self->end.why = "DRIVER_ERROR";
    }
}

//  Run one cell to its end. It is asked for once more to wait for it: the same key is the same
//  execution.
static CO bool
s_cell (book_t *self, const step_t *step)
{
    req_t *req = self->req;
    task_t *task = self->task;
    buf_t *params = req_buf (req), *room = req_buf (req);
    mp_put_map (params, 1);
    mp_pair_str (params, "id", self->notebook);
    mp_t begin = s_body (self, step, 0), wait = s_body (self, step, POLL);
    const char *idem = req_print (req, "%s:%zu", task->idem, self->step);
    self->opened |= strcmp (step->language, "sql") != 0;
    for (bool first = true;; first = false) {
        bus_reply_t reply = kind_call (req, task, "notebooks.execute", mp_buf (params),
                                       first ? begin : wait, NULL, idem);
        if (reply.status == 0 || reply.status >= 400) {
            s_refused (self, &reply);
            return false;
        }
        mp_t answer = json_plain (reply.body, room);
        text_t state = mp_text (mp_get (answer, "state"));
        if (first)
            task_ref (req, task, req_print (
                req, "%zu:%s", self->step,
                req_copy (req, mp_text (mp_get (answer, "execution_id")))));
        if (!text_is (state, "queued") && !text_is (state, "running"))
            return s_ended (self, step->name, answer);
        if (task_abandoned (task))
            return false;
    }
}

//  The next step, unless it was done before this process began; the one that was under way then is
//  waited for, cancelled or not. False: the notebook ends here.
static CO bool
s_step (book_t *self, const step_t *step)
{
    size_t begun = s_begun (self->task);
    if (++self->step < begun) {
        self->opened |= strcmp (step->language, "sql") != 0;
        return true;
    }
    if (task_cancelled (self->task) && self->step != begun) {
        self->end = (task_end_t) { .code = TASK_CANCELLED };
        return false;
    }
    return s_cell (self, step);
}

//  What sets variables from the run's parameters.
static CO bool
s_parameters (book_t *self)
{
    req_t *req = self->req;
    if (mp_count (self->task->parameters) == 0)
        return true;
    if (strcmp (self->language, "python") != 0) {
        self->end = (task_end_t) { .code = TASK_FAILED,
                                   .message = "parameters need a notebook in python" };
        return false;
    }
    buf_t json = { 0 }, *out = req_buf (req);
    json_write (self->task->parameters, &json);
    buf_puts (out, "import json as _json\nglobals ().update (_json.loads (");
    json_quote (buf_text (&json), out);
    buf_puts (out, "))");
    buf_free (&json);
    return s_step (self, &(step_t) { "parameters", NULL, buf_text (out), "python" });
}

static bool
s_is_tagged (mp_t cell)
{
    mp_t tags = mp_get (mp_get (cell, "metadata"), "tags");
    if (mp_empty (tags))
        tags = mp_get (cell, "tags");
    for (mp_iter_t it = mp_iter (tags); mp_type (tags) == MP_ARRAY && mp_next (&it);)
        if (text_is (mp_text (it.value), "parameters"))
            return true;
    return false;
}

static bool
s_any_tagged (mp_t cells)
{
    for (mp_iter_t it = mp_iter (cells); mp_type (cells) == MP_ARRAY && mp_next (&it);)
        if (s_is_tagged (it.value))
            return true;
    return false;
}

static CO void
s_cells (book_t *self, mp_t cells)
{
    size_t number = 0;
    bool given = !s_any_tagged (cells);
    if (given && !s_parameters (self))
        return;
    for (mp_iter_t it = mp_iter (cells); mp_type (cells) == MP_ARRAY && mp_next (&it);) {
        text_t id = mp_text (mp_get (it.value, "id")), type = mp_text (mp_get (it.value, "type"));
        step_t step = { req_print (self->req, "cell %zu", ++number),
                        id.size ? req_copy (self->req, id) : NULL,
                        mp_text (mp_get (it.value, "content")),
                        text_is (type, "sql") ? "sql" : self->language };
        bool code = !text_is (type, "markdown") && step.code.size > 0;
        if (code && !s_step (self, &step))
            return;
        if (!given && s_is_tagged (it.value)) {
            given = true;
            if (!s_parameters (self))
                return;
        }
    }
    self->end = (task_end_t) { .code = TASK_SUCCEEDED };
}

//  Should nobody hear, kernels ends what is not used for some minutes.
static CO void
s_end_session (book_t *self)
{
    buf_t *params = req_buf (self->req);
    mp_put_map (params, 2);
    mp_pair_str (params, "notebook_id", self->notebook);
    mp_pair_str (params, "session", self->task->idem);
    req_call (self->req, "kernels.shutdown", mp_buf (params), mp_none,
              &(req_call_t) { .user = self->task->user, .idempotent = true, .ttl = 5000 });
}

static CO task_end_t
s_run (req_t *req, task_t *task)
{
    book_t self = { .req = req, .task = task, .end = { .code = TASK_CANCELLED } };
    buf_t *params = req_buf (req), *room = req_buf (req);
    self.notebook = req_copy (req, mp_text (mp_get (task->config, "notebook_id")));
    mp_put_map (params, 1);
    mp_pair_str (params, "id", self.notebook);
    bus_reply_t reply = kind_call (req, task, "notebooks.get", mp_buf (params), mp_none, NULL,
                                   NULL);
    if (reply.status == 0 || reply.status >= 400)
        return kind_refused (req, &reply);
    mp_t book = json_plain (reply.body, room);
    self.language = req_copy (req, mp_text (mp_get (book, "language")));
    s_cells (&self, mp_get (mp_get (book, "content"), "cells"));
    if (self.opened && !task_abandoned (task))
        s_end_session (&self);
    //  Where what came out of it can be found.
    buf_t *result = req_buf (req);
    mp_put_map (result, 1);
    mp_pair_str (result, "session", task->idem);
    self.end.result = mp_buf (result);
    return self.end;
}

static CO void
s_cancel (req_t *req, task_t *task)
{
    const char *id = task->ref ? strchr (task->ref, ':') : NULL;
    if (!id)
        return;
    buf_t *params = req_buf (req);
    mp_put_map (params, 1);
    mp_pair_str (params, "id", id + 1);
    req_call (req, "executions.interrupt", mp_buf (params), mp_none,
              &(req_call_t) { .user = task->user, .idempotent = true, .ttl = 5000 });
}

const task_kind_t notebook_kind = { .name = "notebook", .repeatable = true, .check = s_check,
                                    .run = s_run, .cancel = s_cancel };
