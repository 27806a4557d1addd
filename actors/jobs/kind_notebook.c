//  kind_notebook.c -- all code cells of a notebook, one after the other, in its kernel. Parameters
//  become variables of it first.

#include <stdlib.h>

#include "jobs.h"

#define POLL 3.0                     //  seconds that one call waits for the end of a cell
#define OUTPUT_MAX 2000              //  bytes of a cell's output in the log

typedef struct {
    req_t *req;
    task_t *task;
    const char *notebook, *language;
    task_end_t end;
} book_t;

static CO void
s_check (req_t *req, mp_t config, const char *where)
{
    text_t id = mp_text (mp_get (config, "notebook_id"));
    if (id.size == 0)
        fail_field (req, E_INVALID, "config", "%s needs notebook_id", where);
    may_use (req, "notebooks.get", req_copy (req, id), "notebook_id", "notebook");
}

//  Where a cell stands: "<position>:<execution>". Earlier ones are done.
static size_t
s_position (const task_t *task)
{
    return task->ref ? (size_t) strtoul (task->ref, NULL, 10) : 0;
}

static void
s_log_output (book_t *self, size_t cell, mp_t answer)
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
    task_log (self->req, self->task, "cell %zu: %.*s%s", cell, (int) text.size, text.data,
              cut ? " […]" : "");
}

//  False: the notebook ends here.
static CO bool
s_ended (book_t *self, size_t cell, mp_t answer)
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
    self->end.message = req_print (req, "cell %zu: %s", cell, why);
    return false;
}

static mp_t
s_body (req_t *req, const char *id, text_t code, const char *language, double wait)
{
    buf_t *body = req_buf (req);
    mp_put_map (body, id ? 4 : 3);
    mp_pair_text (body, "code", code);
    mp_pair_str (body, "language", language);
    mp_put_str (body, "wait");
    mp_put_real (body, wait);
    if (id)
        mp_pair_str (body, "cellId", id);
    return mp_buf (body);
}

//  Run one cell to its end. It is asked for once more to wait for it: the same key is the same
//  execution.
static CO bool
s_cell (book_t *self, size_t cell, const char *id, text_t code, const char *language)
{
    req_t *req = self->req;
    task_t *task = self->task;
    buf_t *params = req_buf (req), *room = req_buf (req);
    mp_put_map (params, 1);
    mp_pair_str (params, "id", self->notebook);
    mp_t begin = s_body (req, id, code, language, 0);
    mp_t wait = s_body (req, id, code, language, POLL);
    const char *idem = req_print (req, "%s:%zu", task->idem, cell);
    for (bool first = true;; first = false) {
        bus_reply_t reply = kind_call (req, task, "notebooks.execute", mp_buf (params),
                                       first ? begin : wait, NULL, idem);
        if (reply.status == 0 || reply.status >= 400) {
            self->end = kind_refused (req, &reply);
            return false;
        }
        mp_t answer = json_plain (reply.body, room);
        text_t state = mp_text (mp_get (answer, "state"));
        if (first)
            task_ref (req, task, req_print (
                req, "%zu:%s", cell,
                req_copy (req, mp_text (mp_get (answer, "execution_id")))));
        if (!text_is (state, "queued") && !text_is (state, "running"))
            return s_ended (self, cell, answer);
        if (task_abandoned (task))
            return false;
    }
}

//  What sets variables from the run's parameters.
static bool
s_parameters (book_t *self, text_t *code)
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
    *code = buf_text (out);
    return true;
}

static CO void
s_cells (book_t *self, mp_t cells)
{
    size_t position = 0, from = s_position (self->task);
    text_t code = { NULL, 0 };
    if (!s_parameters (self, &code)
        || (code.size && from == 0 && !s_cell (self, 0, NULL, code, "python")))
        return;
    for (mp_iter_t it = mp_iter (cells); mp_type (cells) == MP_ARRAY && mp_next (&it);) {
        text_t type = mp_text (mp_get (it.value, "type")), id = mp_text (mp_get (it.value, "id"));
        code = mp_text (mp_get (it.value, "content"));
        position++;
        if (text_is (type, "markdown") || code.size == 0 || position < from)
            continue;
        if (task_cancelled (self->task)) {
            self->end = (task_end_t) { .code = TASK_CANCELLED };
            return;
        }
        if (!s_cell (self, position, id.size ? req_copy (self->req, id) : NULL, code,
                     text_is (type, "sql") ? "sql" : self->language))
            return;
    }
    self->end = (task_end_t) { .code = TASK_SUCCEEDED };
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
