//  dag.c -- reading a job's tasks, and what becomes of a task when others end.

#include "dag.h"
#include "proto/text.h"

static const char *const s_rules [] = { "ALL_SUCCESS", "AT_LEAST_ONE_SUCCESS", "NONE_FAILED",
                                        "ALL_DONE", "AT_LEAST_ONE_FAILED", "ALL_FAILED" };

typedef struct {
    req_t *req;
    dag_t *dag;
    const char *why;
} reader_t;

static int
s_find (const dag_t *dag, text_t key)
{
    for (size_t n = 0; n < dag->count; n++)
        if (text_is (key, dag->tasks [n].key))
            return (int) n;
    return -1;
}

static bool
s_limit (reader_t *self, const dag_task_t *task, const char *name, double max, double *out)
{
    mp_t value = mp_get (task->config, name);
    if (mp_empty (value))
        return true;
    if (mp_real_get (value, out) && *out >= 0 && *out <= max)
        return true;
    self->why = req_print (self->req, "task %s: %s must be a number from 0 to %.0f", task->key,
                           name, max);
    return false;
}

static bool
s_limits (reader_t *self, dag_task_t *task)
{
    double retries = -1, infra = -1;
    task->retry_delay = task->timeout = -1;
    bool good = s_limit (self, task, "max_retries", 100, &retries)
                && s_limit (self, task, "max_infra_retries", 100, &infra)
                && s_limit (self, task, "retry_delay_seconds", 86400, &task->retry_delay)
                && s_limit (self, task, "timeout_seconds", 7 * 86400, &task->timeout);
    task->max_retries = (int64_t) retries;
    task->max_infra_retries = (int64_t) infra;
    return good;
}

static bool
s_rule (reader_t *self, dag_task_t *task)
{
    mp_t rule = mp_get (task->config, "run_if");
    if (mp_empty (rule))
        return true;
    for (size_t n = 0; n < sizeof s_rules / sizeof *s_rules; n++)
        if (text_is (mp_text (rule), s_rules [n])) {
            task->run_if = (run_if_t) n;
            return true;
        }
    self->why = req_print (self->req, "task %s: run_if must be one of ALL_SUCCESS, "
                           "AT_LEAST_ONE_SUCCESS, NONE_FAILED, ALL_DONE, AT_LEAST_ONE_FAILED, "
                           "ALL_FAILED", task->key);
    return false;
}

static bool
s_task (reader_t *self, mp_t config, const char *job_type)
{
    dag_t *dag = self->dag;
    dag_task_t *task = &dag->tasks [dag->count];
    mp_t named = mp_get (config, "type");
    text_t key = mp_text (mp_get (config, "task_key")), type = mp_text (named);
    if (mp_type (config) != MP_MAP || key.size < 1 || key.size > 100) {
        self->why = req_print (self->req, "tasks [%zu] needs a task_key of 1 to 100 characters",
                               dag->count);
        return false;
    }
    *task = (dag_task_t) { .key = req_copy (self->req, key), .config = config, .leaf = true };
    if (s_find (dag, key) >= 0) {
        self->why = req_print (self->req, "task %s is there twice", task->key);
        return false;
    }
    if (!mp_empty (named) && type.size == 0) {
        self->why = req_print (self->req, "task %s: type must be a text", task->key);
        return false;
    }
    task->type = type.size ? req_copy (self->req, type) : job_type;
    task->kind = task_kind (text_of (task->type));
    if (!task->kind) {
        self->why = req_print (self->req, "task %s: there is no type %.40s", task->key, task->type);
        return false;
    }
    dag->count++;
    return s_limits (self, task) && s_rule (self, task);
}

static bool
s_needs (reader_t *self, dag_task_t *task)
{
    mp_t needs = mp_get (task->config, "depends_on");
    if (mp_empty (needs))
        return true;
    if (mp_type (needs) != MP_ARRAY || mp_count (needs) > TASKS_MAX) {
        self->why = req_print (self->req, "task %s: depends_on must be an array", task->key);
        return false;
    }
    task->needs = req_alloc (self->req, (mp_count (needs) + 1) * sizeof *task->needs);
    for (mp_iter_t it = mp_iter (needs); mp_next (&it);) {
        bool plain = mp_type (it.value) == MP_TEXT;
        text_t key = mp_text (plain ? it.value : mp_get (it.value, "task_key"));
        mp_t outcome = plain ? mp_none : mp_get (it.value, "outcome");
        int other = s_find (self->dag, key);
        if (other < 0) {
            self->why = req_print (self->req, "task %s depends on %.*s, which is not there",
                                   task->key, (int) (key.size < 100 ? key.size : 100),
                                   key.size ? key.data : "");
            return false;
        }
        self->dag->tasks [other].leaf = false;
        task->needs [task->need_count++] = (need_t) {
            (size_t) other, mp_empty (outcome) ? NULL : req_copy (self->req, mp_text (outcome)) };
    }
    return true;
}

//  Take away what waits for nothing that is left, until nothing changes; the rest goes in circles.
static bool
s_acyclic (reader_t *self)
{
    dag_t *dag = self->dag;
    bool gone [TASKS_MAX] = { false }, moved = true;
    while (moved) {
        moved = false;
        for (size_t n = 0; n < dag->count; n++) {
            bool free_now = !gone [n];
            for (size_t i = 0; free_now && i < dag->tasks [n].need_count; i++)
                free_now = gone [dag->tasks [n].needs [i].task];
            gone [n] |= free_now;
            moved |= free_now;
        }
    }
    for (size_t n = 0; n < dag->count; n++)
        if (!gone [n]) {
            self->why = req_print (self->req, "tasks depend on each other in a circle through %s",
                                   dag->tasks [n].key);
            return false;
        }
    return true;
}

//  A job without tasks is one task, named after its type.
static mp_t
s_alone (req_t *req, mp_t config, const char *job_type)
{
    buf_t *out = req_buf (req);
    mp_put_array (out, 1);
    size_t mark = mp_open_map (out);
    uint32_t pairs = 2;
    mp_pair_str (out, "task_key", job_type);
    mp_pair_str (out, "type", job_type);
    if (mp_type (config) == MP_MAP)
        for (mp_iter_t it = mp_iter (config); mp_next (&it);) {
            text_t name = mp_text (it.key);
            if (text_is (name, "task_key") || text_is (name, "type")
                || text_is (name, "depends_on"))
                continue;
            mp_put (out, it.key);
            mp_put (out, it.value);
            pairs++;
        }
    mp_close (out, mark, pairs);
    return mp_buf (out);
}

bool
dag_read (req_t *req, mp_t config, const char *job_type, dag_t *dag, const char **why)
{
    reader_t reader = { req, dag, NULL };
    mp_t tasks = mp_type (config) == MP_ARRAY ? config : mp_get (config, "tasks");
    if (mp_empty (tasks))
        tasks = s_alone (req, config, job_type);
    *dag = (dag_t) { req_alloc (req, (TASKS_MAX + 1) * sizeof (dag_task_t)), 0 };
    bool good = mp_type (tasks) == MP_ARRAY && mp_count (tasks) >= 1
                && mp_count (tasks) <= TASKS_MAX;
    if (!good)
        reader.why = req_print (req, "tasks must be an array of 1 to %d tasks", TASKS_MAX);
    for (mp_iter_t it = mp_iter (tasks); good && mp_next (&it);)
        good = s_task (&reader, it.value, job_type);
    for (size_t n = 0; good && n < dag->count; n++)
        good = s_needs (&reader, &dag->tasks [n]);
    good = good && s_acyclic (&reader);
    *why = reader.why;
    return good;
}

verdict_t
dag_verdict (const dag_t *dag, size_t task, const stand_t *stands, const char *const *outcomes)
{
    const dag_task_t *self = &dag->tasks [task];
    size_t good = 0, bad = 0;
    for (size_t n = 0; n < self->need_count; n++) {
        const need_t *need = &self->needs [n];
        stand_t stand = stands [need->task];
        const char *outcome = outcomes [need->task];
        if (stand == STAND_OPEN)
            return TASK_WAITS;
        if (stand == STAND_SUCCESS && need->outcome
            && (!outcome || strcmp (outcome, need->outcome) != 0))
            stand = STAND_SKIPPED;
        good += stand == STAND_SUCCESS;
        bad += stand == STAND_FAILED;
    }
    if (self->need_count == 0)
        return TASK_RUNS;
    bool runs = false;
    switch (self->run_if) {
    case ALL_SUCCESS: runs = good == self->need_count; break;
    case AT_LEAST_ONE_SUCCESS: runs = good > 0; break;
    case NONE_FAILED: runs = bad == 0 && good > 0; break;
    case ALL_DONE: runs = true; break;
    case AT_LEAST_ONE_FAILED: runs = bad > 0; break;
    case ALL_FAILED: runs = bad == self->need_count; break;
    }
    if (runs)
        return TASK_RUNS;
    bool wants_good = self->run_if <= NONE_FAILED;
    return wants_good && bad > 0 ? TASK_UPSTREAM_FAILED : TASK_SKIPPED;
}
