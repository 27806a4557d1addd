//  job.c -- jobs as users declare them: what is checked before one is kept, and switching them.

#include <stdio.h>
#include <stdlib.h>

#include "pipeline.h"

#define CANCEL_PATIENCE 10000        //  ms that the end of runs is waited for, when a job goes

//  ---- schedule ----

//  When it fires next, as text; NULL: never.
static const char *
s_next (req_t *req, const char *schedule, const char *timezone, bool enabled)
{
    cron_t cron;
    const zone_t *zone;
    char why [200];
    if (!schedule || !*schedule)
        return NULL;
    if (!schedule_read (schedule, timezone, &cron, &zone, why))
        fail_field (req, E_INVALID, "schedule", "%s", why);
    int64_t now = jobs_now (), next = cron_next (&cron, zone, now < 0 ? 0 : now);
    return enabled && next >= 0 ? req_print (req, "%lld", (long long) next) : NULL;
}

//  Unix seconds as a timestamp for a column.
static const char *
s_time (req_t *req, const char *seconds)
{
    if (!seconds)
        return NULL;
    int64_t at = strtoll (seconds, NULL, 10), year;
    int month, day;
    date_of (at / 86400, &year, &month, &day);
    return req_print (req, "%04lld-%02d-%02d %02d:%02d:%02d+00", (long long) year, month, day,
                      (int) (at / 3600 % 24), (int) (at / 60 % 60), (int) (at % 60));
}

static void
s_schedule (req_t *req, const char *schedule, const char *timezone, bool enabled)
{
    if (schedule && !*schedule)
        req_set (req, "schedule", NULL);
    if (!timezone)
        req_set (req, "timezone", "UTC");
    else if (!zone_known (timezone))
        fail_field (req, E_INVALID, "timezone", "%.64s is not known", timezone);
    req_set (req, "next_run_at",
             s_time (req, s_next (req, schedule, timezone ? timezone : "UTC", enabled)));
}

//  ---- config ----

//  A branch asks what another task ended with.
static void
s_branch (req_t *req, const dag_t *dag, const dag_task_t *task)
{
    text_t node = mp_text (mp_get (task->config, "node"));
    for (size_t n = 0; n < dag->count; n++)
        if (text_is (node, dag->tasks [n].key))
            return;
    fail_field (req, E_INVALID, "config", "task %s: there is no task %.*s", task->key,
                (int) (node.size < 100 ? node.size : 100), node.size ? node.data : "");
}

static CO void
s_config (req_t *req, mp_t config, const char *job_type)
{
    dag_t dag;
    const char *why;
    bool alone = mp_empty (mp_get (config, "tasks"));
    if (!dag_read (req, config, job_type, &dag, &why))
        fail_field (req, E_INVALID, "config", "%s", why);
    for (size_t n = 0; n < dag.count; n++) {
        const dag_task_t *task = &dag.tasks [n];
        if (!alone && task->kind->expand)
            fail_field (req, E_INVALID, "config", "task %s: a %s can't be one task of several",
                        task->key, task->type);
        if (task->kind->check)
            task->kind->check (req, task->config, alone ? req_print (req, "of a %s job", job_type)
                                                        : req_print (req, "of task %s", task->key));
        if (task->kind == &branch_kind)
            s_branch (req, &dag, task);
    }
}

static CO void
s_references (req_t *req)
{
    const char *workspace = req_str (req, "workspace_id"), *cluster = req_str (req, "cluster_id");
    if (workspace)
        may_use (req, "workspaces.get", workspace, "workspace_id", "workspace");
    if (cluster)
        may_use (req, "compute_clusters.get", cluster, "cluster_id", "cluster");
}

CO void
job_before_create (req_t *req)
{
    s_references (req);
    s_config (req, req_any (req, "config"), req_str (req, "job_type"));
    s_schedule (req, req_str (req, "schedule"), req_str (req, "timezone"),
                !req_str (req, "enabled") || req_bool (req, "enabled"));
}

static CO row_t
s_own (req_t *req)
{
    if (!req_user (req))
        fail (req, E_UNAUTHORIZED, "a user is needed for this method");
    row_t row = db_row (req, "job_own", req_user (req), req_id (req));
    if (row_none (row))
        fail (req, E_NOT_FOUND, "job not found");
    return row;
}

CO void
job_before_update (req_t *req)
{
    row_t row = s_own (req);
    s_references (req);
    if (req_has (req, "config") || req_has (req, "job_type")) {
        const char *type = req_str (req, "job_type");
        mp_t config = req_any (req, "config");
        char why [128];
        if (mp_empty (config)) {
            buf_t *old = req_buf (req);
            json_read (text_of (row_str (row, "config")), old, why, sizeof why);
            config = mp_buf (old);
        }
        s_config (req, config, type ? type : row_str (row, "job_type"));
    }
    if (!req_has (req, "schedule") && !req_has (req, "timezone") && !req_has (req, "enabled"))
        return;
    const char *schedule = req_has (req, "schedule") ? req_str (req, "schedule")
                                                     : row_str (row, "schedule");
    const char *timezone = req_has (req, "timezone") ? req_str (req, "timezone")
                                                     : row_str (row, "timezone");
    bool enabled = req_str (req, "enabled") ? req_bool (req, "enabled") : row_bool (row, "enabled");
    //  A client that sends everything back changes nothing: what is due stays due.
    const char *old = row_str (row, "schedule");
    bool same = old && schedule && strcmp (old, schedule) == 0 && timezone
                && strcmp (timezone, row_str (row, "timezone")) == 0
                && enabled == row_bool (row, "enabled");
    if (!same)
        s_schedule (req, schedule, timezone, enabled);
}

static CO void
s_tell (req_t *req)
{
    runner_tell (req, NULL);
}

void
job_after_change (req_t *req, const char *id, const char *what)
{
    (void) id;
    (void) what;
    actor_spawn (req_actor (req), s_tell, NULL);
}

//  ---- pause, resume ----

static CO void
s_switch (req_t *req, bool enabled)
{
    row_t row = s_own (req);
    const char *next = enabled == row_bool (row, "enabled")
                           ? row_str (row, "next")
                           : s_next (req, row_str (row, "schedule"), row_str (row, "timezone"),
                                     enabled);
    unit_t *unit = unit_new (req);
    unit_add (unit, "job_switch", req_user (req), req_id (req), enabled ? "true" : "false", next);
    row = unit_commit (unit);
    if (row_none (row))
        fail (req, E_NOT_FOUND, "job not found");
    job_after_change (req, NULL, NULL);
    reply_row (req, 200, row);
}

CO void
job_pause (req_t *req)
{
    s_switch (req, false);
}

CO void
job_resume (req_t *req)
{
    s_switch (req, true);
}

//  ---- going ----

//  Its runs end, and their engines hear of it, before the rows go.
static CO void
s_let_go (req_t *req, const char *id, const char *why)
{
    loop_t *loop = req_actor (req)->loop;
    int64_t until = loop_now (loop) + CANCEL_PATIENCE;
    for (int64_t pause = 20; loop_now (loop) < until; pause = pause < 500 ? 2 * pause : pause) {
        unit_t *unit = unit_new (req);
        unit_also (unit, "runs_of_job_drop", id);
        unit_also (unit, "runs_of_job_cancel", id, why);
        unit_commit (unit);
        row_t rows = db_rows (req, "runs_of_job", id);
        if (rows_count (rows) == 0)
            return;
        for (int n = 0; n < rows_count (rows); n++)
            runner_tell (req, row_str (rows_at (rows, n), "id"));
        req_sleep (req, pause);
    }
}

CO void
job_before_delete (req_t *req)
{
    s_own (req);
    s_let_go (req, req_id (req), "the job was deleted");
}

static CO void
s_drop (req_t *req, row_t rows, const char *why)
{
    for (int n = 0; n < rows_count (rows); n++) {
        const char *id = row_str (rows_at (rows, n), "id");
        s_let_go (req, id, why);
        unit_t *unit = unit_new (req);
        unit_add (unit, "job_delete", id);
        unit_commit (unit);
    }
}

CO void
workspace_gone (req_t *req, const char *id)
{
    pipelines_gone (req, NULL, id);
    s_drop (req, db_rows (req, "jobs_of", NULL, id), "the workspace was deleted");
}

//  Its jobs stay, and run without.
CO void
cluster_gone (req_t *req, const char *id)
{
    unit_t *unit = unit_new (req);
    unit_add (unit, "jobs_without_cluster", id);
    unit_commit (unit);
}

CO void
user_gone (req_t *req, const char *id)
{
    pipelines_gone (req, id, NULL);
    s_drop (req, db_rows (req, "jobs_of", id, NULL), "the user was deleted");
}
