//  run.c -- one run at work: which task begins when, and how the whole ends.

#include <stdlib.h>

#include "jobs.h"

#define AGAIN_EVERY 3000             //  ms between cancellations of the same attempt
#define LONG (60 * 60 * 1000)        //  ms

static int64_t
s_now (void)
{
    return loop_now (jobs.actor->loop);
}

static const char *
s_json (req_t *req, mp_t value)
{
    buf_t *out = req_buf (req);
    json_write (value, out);
    buf_putc (out, 0);
    return (const char *) out->data;
}

static mp_t
s_parse (req_t *req, const char *json)
{
    char why [128];
    buf_t *out = req_buf (req);
    if (!json || !json_read (text_of (json), out, why, sizeof why))
        return mp_none;
    return mp_buf (out);
}

//  Read again until the database can answer; no row also when we do not lead any more.
static CO row_t
s_read (req_t *req, const char *name, const char *id)
{
    while (runner_leads ()) {
        db_result_t result = req_db_try (req, DB_READ, name, DB_PARAMS (id));
        if (result.code == E_NONE)
            return (row_t) { result.result, PQntuples (result.result) > 0 ? 0 : -1 };
        req_sleep (req, 300);
    }
    return (row_t) { NULL, -1 };
}

CO void
run_log (req_t *req, const live_run_t *run, const char *task, const char *text)
{
    int64_t second = loop_wall (jobs.actor->loop) / 1000 % 86400;
    runner_write (req, "run_log", run->id, task,
                  req_print (req, "%02d:%02d:%02d %s", (int) (second / 3600),
                             (int) (second / 60 % 60), (int) (second % 60), text));
}

//  ---- the beginning ----

//  The tasks as they were when the run began, or made now.
static CO mp_t
s_tasks (req_t *req, row_t row)
{
    mp_t tasks = s_parse (req, row_str (row, "tasks"));
    if (!mp_empty (tasks))
        return tasks;
    mp_t config = s_parse (req, row_str (row, "config"));
    const task_kind_t *kind = task_kind (text_of (row_str (row, "job_type")));
    tasks = mp_get (config, "tasks");
    if (mp_empty (tasks) && kind && kind->expand)
        tasks = kind->expand (req, config);
    if (mp_empty (tasks))
        tasks = config;
    runner_write (req, "run_plan", row_str (row, "id"), s_json (req, tasks));
    return tasks;
}

static void
s_progress (live_run_t *self, row_t row, int64_t repair)
{
    for (size_t n = 0; n < self->dag.count; n++) {
        progress_t *at = &self->progress [n];
        if (strcmp (self->dag.tasks [n].key, row_str (row, "task_key")) != 0)
            continue;
        const char *state = row_str (row, "state");
        at->number = (int) row_int (row, "attempt");
        if (strcmp (state, "running") == 0) {
            attempt_begin (self, n, true, row_str (row, "ref"), row_real (row, "age"));
            return;
        }
        bool now = row_int (row, "repair") == repair;
        if (strcmp (state, "succeeded") == 0)
            at->stand = STAND_SUCCESS;
        else if (now && row_bool (row, "retries"))
            at->retry_at = s_now () + 1 + row_int (row, "retry_ms");
        else if (now)
            at->stand = strcmp (state, "skipped") == 0 ? STAND_SKIPPED : STAND_FAILED;
        at->failures = row_int (row, "failures");
        at->breaks = row_int (row, "breaks");
        at->outcome = xstrdup (row_str (row, "outcome"));
        at->result = xstrdup (row_str (row, "result"));
        at->message = xstrdup (row_str (row, "message"));
        at->lost = strcmp (state, "lost") == 0;
        at->timed_out = strcmp (state, "timed_out") == 0;
        return;
    }
}

static CO bool
s_load (req_t *req, live_run_t *self, row_t row)
{
    const char *why = NULL;
    self->user = row_str (row, "user_id");
    self->cluster = row_str (row, "cluster_id");
    self->parameters = s_parse (req, row_str (row, "parameters"));
    self->retry_delay = row_real (row, "retry_delay_seconds");
    self->backoff = row_real (row, "retry_backoff");
    self->max_retries = row_int (row, "max_retries");
    self->max_infra_retries = row_int (row, "max_infra_retries");
    double timeout = row_real (row, "timeout_seconds");
    self->until = timeout > 0 ? s_now () + (int64_t) ((timeout - row_real (row, "age")) * 1000)
                              : INT64_MAX;
    self->retrying = strcmp (row_str (row, "state_detail"), "waiting_retry") == 0;
    if (row_str (row, "cancel")) {
        self->cancelled = true;
        self->why = row_str (row, "cancel");
    }
    mp_t tasks = s_tasks (req, row);
    if (!dag_read (req, tasks, row_str (row, "job_type"), &self->dag, &why)) {
        runner_write (req, "run_end", self->id, "failed",
                      "{\"code\": \"INVALID_RUN_CONFIGURATION\", \"type\": \"CLIENT_ERROR\"}", why);
        return false;
    }
    self->progress = xcalloc (self->dag.count, sizeof *self->progress);
    row_t rows = s_read (req, "tasks_load", self->id);
    for (int n = 0; n < rows_count (rows); n++)
        s_progress (self, rows_at (rows, n), row_int (row, "repair"));
    return runner_leads ();
}

//  ---- going on ----

//  Attempts whose coroutine has ended.
static CO void
s_collect (req_t *req, live_run_t *self)
{
    for (size_t n = 0; n < self->dag.count; n++) {
        attempt_t *attempt = self->progress [n].attempt;
        if (!attempt || !attempt->over || attempt->telling)
            continue;
        if (!attempt->recorded && !self->abandoned)
            attempt_record (req, attempt, &(task_end_t) {
                .code = TASK_BROKEN, .message = "the attempt ended without a word" });
        self->progress [n].attempt = NULL;
        attempt_free (attempt);
    }
}

static CO void
s_pass_over (req_t *req, live_run_t *self, size_t task, bool failed)
{
    progress_t *at = &self->progress [task];
    at->stand = failed ? STAND_FAILED : STAND_SKIPPED;
    at->message = failed ? xstrdup ("a task that it depends on failed") : NULL;
    runner_write (req, "task_end", self->id, self->dag.tasks [task].key,
                  req_print (req, "%d", ++at->number), self->dag.tasks [task].type,
                  failed ? "upstream_failed" : "skipped", "false", NULL, NULL,
                  failed ? "{\"code\": \"UPSTREAM_FAILED\", \"type\": \"CLIENT_ERROR\", "
                           "\"message\": \"a task that it depends on failed\"}"
                         : "{\"code\": \"SKIPPED\", \"type\": \"SUCCESS\"}", NULL);
}

//  Begin what can begin. True while something is open.
static CO bool
s_advance (req_t *req, live_run_t *self)
{
    bool open = false;
    for (bool moved = true; moved && !self->abandoned;) {
        stand_t stands [TASKS_MAX];
        const char *outcomes [TASKS_MAX];
        moved = open = false;
        for (size_t n = 0; n < self->dag.count; n++) {
            stands [n] = self->progress [n].stand;
            outcomes [n] = self->progress [n].outcome;
        }
        for (size_t n = 0; n < self->dag.count; n++) {
            progress_t *at = &self->progress [n];
            if (at->attempt)
                open = true;
            if (at->attempt || at->stand != STAND_OPEN || self->cancelled || self->timed_out)
                continue;
            open = true;
            verdict_t verdict = dag_verdict (&self->dag, n, stands, outcomes);
            if (verdict == TASK_RUNS && at->retry_at <= s_now ())
                attempt_begin (self, n, false, NULL, 0);
            else if (verdict == TASK_SKIPPED || verdict == TASK_UPSTREAM_FAILED) {
                s_pass_over (req, self, n, verdict == TASK_UPSTREAM_FAILED);
                moved = true;
            }
        }
    }
    return open;
}

//  What has to end, ends; ms until it must be looked at again.
static int64_t
s_limits (live_run_t *self)
{
    int64_t now = s_now (), wait = LONG;
    if (now >= self->until)
        self->timed_out = true;
    else if (self->until - now < wait)
        wait = self->until - now;
    for (size_t n = 0; n < self->dag.count; n++) {
        progress_t *at = &self->progress [n];
        attempt_t *attempt = at->attempt;
        if (!attempt && at->stand == STAND_OPEN && at->retry_at > now && at->retry_at - now < wait)
            wait = at->retry_at - now;
        if (!attempt || attempt->over)
            continue;
        attempt->timed_out |= now >= attempt->until || (self->timed_out && !self->cancelled);
        if (!attempt->timed_out && attempt->until - now < wait)
            wait = attempt->until - now;
        if (self->cancelled || attempt->timed_out) {
            if (!attempt->cancelled || now - attempt->told_at >= AGAIN_EVERY)
                attempt_cancel (attempt);
            wait = wait < AGAIN_EVERY ? wait : AGAIN_EVERY;
        }
    }
    return wait > 0 ? wait : 1;
}

//  Does nothing happen until a retry? That is a state of its own.
static CO void
s_show_waiting (req_t *req, live_run_t *self)
{
    bool waits = false, works = false;
    for (size_t n = 0; n < self->dag.count; n++) {
        works |= self->progress [n].attempt != NULL;
        waits |= self->progress [n].stand == STAND_OPEN && self->progress [n].retry_at > s_now ();
    }
    bool retrying = waits && !works;
    if (retrying == self->retrying || self->cancelled)
        return;
    self->retrying = retrying;
    runner_write (req, "run_move", self->id, retrying ? "running" : "waiting_retry",
                  retrying ? "waiting_retry" : "running");
}

//  Was it cancelled, or is it gone?
static CO void
s_look (req_t *req, live_run_t *self)
{
    self->look = false;
    row_t row = s_read (req, "run_load", self->id);
    if (row_none (row))
        self->cancelled = true;
    else if (row_str (row, "cancel")) {
        self->cancelled = true;
        self->why = row_str (row, "cancel");
    }
}

//  ---- the end ----

static const char *
s_state (const live_run_t *self, const char **task, const char **message)
{
    bool failed = false, leaf = false, lost = true, late = self->timed_out;
    *task = *message = NULL;
    for (size_t n = 0; n < self->dag.count; n++) {
        const progress_t *at = &self->progress [n];
        if (at->stand != STAND_FAILED)
            continue;
        if (!failed || (*message && strstr (*message, "depends on"))) {
            *task = self->dag.tasks [n].key;
            *message = at->message;
        }
        failed = true;
        leaf |= self->dag.tasks [n].leaf;
        lost &= at->lost;
        late |= at->timed_out && self->dag.count == 1;
    }
    if (self->cancelled)
        return "cancelled";
    if (late)
        return "timed_out";
    if (!failed)
        return "succeeded";
    return !leaf ? "succeeded_with_failures" : lost ? "lost" : "failed";
}

static CO void
s_finish (req_t *req, live_run_t *self)
{
    static const struct {
        const char *state, *code, *type;
    } ends [] = { { "succeeded", "SUCCESS", "SUCCESS" },
                  { "succeeded_with_failures", "SUCCESS_WITH_FAILURES", "SUCCESS" },
                  { "cancelled", "USER_CANCELED", "CLIENT_ERROR" },
                  { "timed_out", "TIMED_OUT", "CLIENT_ERROR" },
                  { "lost", "LOST", "INTERNAL_ERROR" },
                  { "failed", "RUN_EXECUTION_ERROR", "CLIENT_ERROR" } };
    const char *task, *message, *state = s_state (self, &task, &message);
    size_t end = 0;
    while (strcmp (ends [end].state, state) != 0)
        end++;
    if (self->cancelled)
        message = self->why ? self->why : "cancelled";
    else if (self->timed_out)
        message = "the run took longer than it may";
    else if (message && self->dag.count > 1)
        message = req_print (req, "task %s: %s", task, message);
    buf_t *why = req_buf (req);
    mp_put_map (why, 3);
    mp_pair_str (why, "code", ends [end].code);
    mp_pair_str (why, "type", ends [end].type);
    mp_pair_str (why, "message", message);
    run_log (req, self, NULL, message ? req_print (req, "run %s: %s", state, message)
                                      : req_print (req, "run %s", state));
    runner_write (req, "run_end", self->id, state, s_json (req, mp_buf (why)), message);
}

static void
s_over (void *item)
{
    live_run_t *self = item;
    //  Nothing of it is at work: where it failed before its end, it is taken up again.
    if (hash_get (jobs.runs, text_of (self->id)) == self) {
        hash_del (jobs.runs, text_of (self->id));
        jobs.waiting = jobs.reload = true;
        if (!jobs.closing && !ltimer_active (jobs.timer))
            ltimer_set (jobs.timer, 100);
    }
    for (size_t n = 0; self->progress && n < self->dag.count; n++) {
        free (self->progress [n].outcome);
        free (self->progress [n].result);
        free (self->progress [n].message);
    }
    free (self->progress);
    free (self->id);
    free (self);
}

static bool
s_at_work (const live_run_t *self)
{
    for (size_t n = 0; n < self->dag.count; n++)
        if (self->progress [n].attempt)
            return true;
    return false;
}

static CO void
s_run (req_t *req)
{
    live_run_t *self = req_arg (req);
    self->req = req;
    req_defer (req, s_over, self);
    row_t row = s_read (req, "run_load", self->id);
    bool good = !row_none (row) && s_load (req, self, row);
    while (good && !self->abandoned) {
        s_collect (req, self);
        if (self->look)
            s_look (req, self);
        bool open = s_advance (req, self);
        if (!open)
            break;
        s_show_waiting (req, self);
        req_sleep (req, s_limits (self));
    }
    if (good && !self->abandoned && runner_leads ())
        s_finish (req, self);
    self->abandoned = true;
    //  They look at that.
    while (self->progress && s_at_work (self)) {
        s_collect (req, self);
        if (s_at_work (self))
            req_sleep (req, 50);
    }
    if (hash_get (jobs.runs, text_of (self->id)) == self)
        hash_del (jobs.runs, text_of (self->id));
    jobs.waiting = true;
    runner_wake (NULL);
}

void
run_begin (const char *id)
{
    if (hash_get (jobs.runs, text_of (id)))
        return;
    live_run_t *self = xcalloc (1, sizeof *self);
    self->id = xstrdup (id);
    hash_put (jobs.runs, text_of (id), self);
    if (!actor_spawn (jobs.actor, s_run, self))
        s_over (self);
}

void
run_look (const char *id)
{
    live_run_t *self = hash_get (jobs.runs, text_of (id));
    if (!self)
        return;
    self->look = true;
    if (self->req)
        req_wake (self->req);
}
