//  attempt.c -- one attempt at a task, and what kinds ask of the runner meanwhile.

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "jobs.h"

#define DELAY_MAX 3600               //  seconds between attempts

static const char *
s_number (req_t *req, int64_t number)
{
    return req_print (req, "%lld", (long long) number);
}

//  ---- what kinds ask ----

bool
task_abandoned (const task_t *task)
{
    return task->inner->run->abandoned || !runner_leads ();
}

bool
task_cancelled (const task_t *task)
{
    return task->inner->cancelled;
}

CO void
task_ref (req_t *req, task_t *task, const char *ref)
{
    attempt_t *self = task->inner;
    free (self->ref);
    self->ref = xstrdup (ref);
    task->ref = self->ref;
    runner_write (req, "task_ref", task->run, task->key, s_number (req, task->attempt), ref);
}

CO void
task_log (req_t *req, const task_t *task, const char *format, ...)
{
    char text [3000];
    va_list args;
    va_start (args, format);
    vsnprintf (text, sizeof text - 1, format, args);
    va_end (args);
    //  A character may have been cut in two.
    for (size_t size = strlen (text); size && !text_utf8 ((text_t) { text, size });)
        text [--size] = 0;
    run_log (req, task->inner->run, task->key, text);
}

CO bool
task_wait (req_t *req, task_t *task, int64_t ms)
{
    loop_t *loop = jobs.actor->loop;
    int64_t until = loop_now (loop) + ms;
    while (!task_cancelled (task) && !task_abandoned (task)) {
        int64_t left = until - loop_now (loop);
        if (left <= 0)
            return true;
        req_sleep (req, left);
    }
    return false;
}

CO mp_t
task_result (req_t *req, const task_t *task, const char *key)
{
    const live_run_t *run = task->inner->run;
    char why [128];
    for (size_t n = 0; n < run->dag.count; n++)
        if (strcmp (run->dag.tasks [n].key, key) == 0 && run->progress [n].result) {
            buf_t *out = req_buf (req);
            return json_read (text_of (run->progress [n].result), out, why, sizeof why)
                       ? mp_buf (out) : mp_none;
        }
    return mp_none;
}

//  ---- its end ----

typedef struct {
    const char *state, *code, *type;
    bool infra;
    int64_t retry;                   //  ms; -1: not again
} verdict_end_t;

static int64_t
s_delay (const live_run_t *run, const dag_task_t *task, int64_t before, bool infra)
{
    double delay = infra ? 1 : task->retry_delay >= 0 ? task->retry_delay : run->retry_delay;
    double factor = infra ? 2 : run->backoff;
    for (int64_t n = 0; n < before && delay < DELAY_MAX; n++)
        delay *= factor;
    return (int64_t) (1000 * (delay < DELAY_MAX ? delay : DELAY_MAX));
}

static verdict_end_t
s_judge (const attempt_t *self, const task_end_t *end)
{
    const live_run_t *run = self->run;
    const dag_task_t *task = &run->dag.tasks [self->task];
    const progress_t *at = &run->progress [self->task];
    int64_t retries = task->max_retries >= 0 ? task->max_retries : run->max_retries;
    int64_t again = task->max_infra_retries >= 0 ? task->max_infra_retries : run->max_infra_retries;
    if (end->code == TASK_SUCCEEDED)
        return (verdict_end_t) { "succeeded", "SUCCESS", "SUCCESS", false, -1 };
    if (self->timed_out)
        return (verdict_end_t) { "timed_out", "TIMED_OUT", "CLIENT_ERROR", false, -1 };
    if (run->cancelled || end->code == TASK_CANCELLED)
        return (verdict_end_t) { "cancelled", "USER_CANCELED", "CLIENT_ERROR", false, -1 };
    bool infra = end->code == TASK_BROKEN;
    bool more = infra ? at->breaks < again : at->failures < retries;
    int64_t retry = more ? s_delay (run, task, infra ? at->breaks : at->failures, infra) : -1;
    if (end->code == TASK_LOST)
        return (verdict_end_t) { "lost", "LOST", "INTERNAL_ERROR", false, retry };
    return (verdict_end_t) { "failed", infra ? "INTERNAL_ERROR" : "RUN_EXECUTION_ERROR",
                             infra ? "INTERNAL_ERROR" : "CLIENT_ERROR", infra, retry };
}

static const char *
s_termination (req_t *req, const verdict_end_t *verdict, const char *code, const char *message)
{
    buf_t map = { 0 }, *out = req_buf (req);
    mp_put_map (&map, 3);
    mp_pair_str (&map, "code", code ? code : verdict->code);
    mp_pair_str (&map, "type", verdict->type);
    mp_pair_str (&map, "message", message);
    json_write (mp_buf (&map), out);
    buf_putc (out, 0);
    buf_free (&map);
    return (const char *) out->data;
}

static const char *
s_result (req_t *req, mp_t result)
{
    if (mp_empty (result))
        return NULL;
    buf_t *out = req_buf (req);
    json_write (result, out);
    buf_putc (out, 0);
    return (const char *) out->data;
}

CO void
attempt_record (req_t *req, attempt_t *self, const task_end_t *end)
{
    live_run_t *run = self->run;
    progress_t *at = &run->progress [self->task];
    const dag_task_t *task = &run->dag.tasks [self->task];
    verdict_end_t verdict = s_judge (self, end);
    bool good = end->code == TASK_SUCCEEDED;
    const char *message = good ? NULL : self->timed_out ? "it took longer than it may"
                        : end->message ? end->message : "it failed";
    const char *result = s_result (req, end->result);
    if (!good)
        task_log (req, &self->view, verdict.retry >= 0 ? "%s: %s; again in %.1f s" : "%s: %s",
                  verdict.state, message, (double) verdict.retry / 1000);
    runner_write (req, "task_end", run->id, task->key, s_number (req, self->view.attempt),
                  task->type, verdict.state, verdict.infra ? "true" : "false", end->outcome, result,
                  s_termination (req, &verdict, end->why, message),
                  verdict.retry >= 0 ? s_number (req, verdict.retry) : NULL);
    self->recorded = true;
    at->failures += !good && !verdict.infra;
    at->breaks += verdict.infra;
    at->lost = end->code == TASK_LOST;
    at->timed_out = self->timed_out;
    free (at->message);
    at->message = xstrdup (message);
    free (at->outcome);
    at->outcome = xstrdup (end->outcome);
    free (at->result);
    at->result = xstrdup (result);
    if (verdict.retry >= 0)
        at->retry_at = loop_now (jobs.actor->loop) + verdict.retry;
    else
        at->stand = good ? STAND_SUCCESS : STAND_FAILED;
}

//  ---- its life ----

static void
s_over (void *item)
{
    attempt_t *self = item;
    self->req = NULL;
    self->over = true;
    if (self->run->req)
        req_wake (self->run->req);
}

static CO void
s_attempt (req_t *req)
{
    attempt_t *self = req_arg (req);
    const task_kind_t *kind = self->run->dag.tasks [self->task].kind;
    task_t *task = &self->view;
    self->req = req;
    req_defer (req, s_over, self);
    if (self->run->abandoned)
        return;
    if (!self->known) {
        row_t row = runner_write (req, "task_begin", task->run, task->key,
                                  s_number (req, task->attempt), kind->name);
        if (row_none (row)) {
            //  The run was deleted.
            self->run->abandoned = true;
            return;
        }
    }
    task_end_t end;
    if (self->known && !task->ref && !kind->repeatable)
        end = (task_end_t) { .code = TASK_LOST,
                             .message = "the process that worked at it ended, and nobody can say "
                                        "how far it had come" };
    else
        end = kind->run (req, task);
    if (!task_abandoned (task))
        attempt_record (req, self, &end);
}

void
attempt_begin (live_run_t *run, size_t task, bool known, const char *ref, double age)
{
    const dag_task_t *what = &run->dag.tasks [task];
    progress_t *at = &run->progress [task];
    attempt_t *self = xcalloc (1, sizeof *self);
    int64_t now = loop_now (jobs.actor->loop);
    self->run = run;
    self->task = task;
    self->known = known;
    self->until = what->timeout > 0 ? now + (int64_t) ((what->timeout - age) * 1000) : INT64_MAX;
    at->retry_at = 0;
    if (!known)
        at->number++;
    self->idem = text_format ("%s:%s:%d", run->id, what->key, at->number);
    self->ref = xstrdup (ref);
    self->view = (task_t) { .run = run->id, .key = what->key, .user = run->user,
                            .attempt = at->number, .idem = self->idem, .config = what->config,
                            .parameters = run->parameters, .ref = self->ref, .inner = self };
    at->attempt = self;
    if (!actor_spawn (jobs.actor, s_attempt, self))
        s_over (self);
}

void
attempt_free (attempt_t *self)
{
    free (self->idem);
    free (self->ref);
    free (self);
}

//  ---- cancelling ----

static void
s_told (void *item)
{
    attempt_t *self = item;
    self->telling = false;
    if (self->run->req)
        req_wake (self->run->req);
}

static CO void
s_tell (req_t *req)
{
    attempt_t *self = req_arg (req);
    req_defer (req, s_told, self);
    self->run->dag.tasks [self->task].kind->cancel (req, &self->view);
}

void
attempt_cancel (attempt_t *self)
{
    self->cancelled = true;
    self->told_at = loop_now (jobs.actor->loop);
    if (self->req)
        req_wake (self->req);
    if (self->telling || !self->run->dag.tasks [self->task].kind->cancel)
        return;
    //  It may have ended by the time that it is started.
    self->telling = true;
    if (!actor_spawn (jobs.actor, s_tell, self))
        self->telling = false;
}
