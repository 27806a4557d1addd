//  jobs -- schedules, runs of jobs, and the tasks that they are made of.

#include <stdlib.h>

#include "pipeline.h"

SQL_FILE (jobs_sql, "db/queries/jobs.sql");
SQL_FILE (pipelines_sql, "db/queries/jobs_pipelines.sql");

static opt_t s_options [] = {
    { "runs", OPT_INT, "64", 0, NULL, "runs at work at once" },
    { "runs-per-user", OPT_INT, "8", 0, NULL, "runs of one user at work at once" },
    { "fake-clock", OPT_BOOL, "false", 0, NULL,
      "schedules follow a clock that jobs.advance sets, for tests" },
    PIPELINE_OPTIONS,
    { 0 }
};

static const resource_t job = {
    .name = "job",
    .path = "/jobs",
    .table = "jobs",
    .ops = CRUD,
    .owner = "user_id",
    .before_create = job_before_create,
    .before_update = job_before_update,
    .before_delete = job_before_delete,
    .after_change = job_after_change,
    .tag = "jobs",
    .doc = "notebooks, SQL and pipelines that run on a schedule or on demand",
    .fields = (const field_t []) {
        { "workspace_id", T_UUID, NULLABLE | FILTER },
        { "name", T_TEXT, REQUIRED | FILTER | SORT, .min = 1, .max = 255 },
        { "description", T_TEXT, NULLABLE },
        { "job_type", T_ENUM, REQUIRED | FILTER, .values = "notebook|sql|pipeline" },
        { "schedule", T_TEXT, NULLABLE, .max = 100, .doc = "cron: 0 6 * * mon-fri, @daily …" },
        { "timezone", T_TEXT, .max = 64, .def = "UTC", .doc = "IANA name: Europe/Berlin" },
        { "cluster_id", T_UUID, NULLABLE },
        { "config", T_OBJECT, .def = "{}",
          .doc = "query of a sql job, notebook_id, pipeline_id, or tasks" },
        { "parameters", T_OBJECT, .def = "{}", .doc = "defaults of each run" },
        { "enabled", T_BOOL, FILTER, .def = "true", .doc = "false stops the schedule, no more" },
        { "catchup", T_ENUM, .values = "latest|all|skip", .def = "latest",
          .doc = "of firings that were missed" },
        { "max_concurrent_runs", T_INT, .min = 0, .max = 1000, .def = "1",
          .doc = "0: new runs are skipped" },
        { "queue", T_BOOL, .def = "true",
          .doc = "false: a scheduled run that can't begin at once is skipped" },
        { "max_retries", T_INT, .min = 0, .max = 100, .def = "0" },
        { "max_infra_retries", T_INT, .min = 0, .max = 100, .def = "2",
          .doc = "further attempts where the platform failed" },
        { "retry_delay_seconds", T_REAL, .min = 0, .max = 86400, .def = "30" },
        { "retry_backoff", T_REAL, .min = 1, .max = 10, .def = "2" },
        { "timeout_seconds", T_REAL, .min = 0, .max = 604800, .def = "0",
          .doc = "of a run; 0: none" },
        { "next_run_at", T_TIME, READONLY | NULLABLE },
        { 0 } }
};

//  ---- runs ----

static const field_t s_run_in [] = { { "parameters", T_OBJECT, NULLABLE,
                                       .doc = "over those of the job" },
                                     { 0 } };

#define RUN_FIELDS                                                                              \
    { "id", T_UUID }, { "job_id", T_UUID },                                                     \
    { "status", T_ENUM, .values = "pending|running|success|failed" },                           \
    { "state_detail", T_TEXT }, { "state_seq", T_INT }, { "termination", T_OBJECT, NULLABLE },  \
    { "trigger", T_ENUM, .values = "manual|schedule|backfill" },                                \
    { "scheduled_for", T_TIME, NULLABLE }, { "repair", T_INT }, { "parameters", T_OBJECT },     \
    { "logs", T_TEXT }, { "error_message", T_TEXT, NULLABLE }, { "started_at", T_TIME, NULLABLE }, \
    { "completed_at", T_TIME, NULLABLE }, { "duration_seconds", T_REAL, NULLABLE },             \
    { "created_at", T_TIME }

static const field_t s_run_out [] = { RUN_FIELDS, { "live", T_OBJECT }, { 0 } };
static const field_t s_listed_out [] = { RUN_FIELDS, { "interval_start", T_TIME, NULLABLE },
                                         { 0 } };

static const field_t s_run_param [] = { { "run", T_UUID, REQUIRED }, { 0 } };
static const field_t s_run_get_in [] = { { "run", T_UUID, REQUIRED },
                                         { "id", T_UUID, .doc = "of its job" },
                                         { 0 } };

#define LIST_FIELDS                                                                             \
    { "status", T_ENUM, FILTER, .values = "pending|running|success|failed" },                   \
    { "state_detail", T_TEXT, FILTER, .max = 32 },                                              \
    { "limit", T_INT, .min = 1, .max = 200, .def = "100" },                                     \
    { "before", T_UUID, .doc = "id of the last run of the page before" }

static const field_t s_job_runs_in [] = { LIST_FIELDS, { 0 } };
static const field_t s_runs_in [] = { LIST_FIELDS, { "job_id", T_UUID, FILTER }, { 0 } };

static const field_t s_backfill_in [] = {
    { "from", T_TIME, REQUIRED }, { "to", T_TIME, REQUIRED },
    { "reprocess", T_ENUM, .values = "none|failed|completed", .def = "none",
      .doc = "which runs that are there already are done again" },
    { "parameters", T_OBJECT, NULLABLE }, { 0 } };

static const field_t s_advance_in [] = { { "now", T_INT, REQUIRED, .min = 1, .max = 253402300799,
                                           .doc = "Unix seconds" },
                                         { 0 } };
static const field_t s_wake_in [] = { { "run", T_UUID, NULLABLE }, { 0 } };

#define EVENTS                                                                                  \
    "job_run.queued|job_run.running|job_run.waiting_retry|job_run.cancelling|job_run.succeeded|" \
    "job_run.succeeded_with_failures|job_run.failed|job_run.timed_out|job_run.cancelled|"       \
    "job_run.skipped|job_run.lost|job_run.log|job_task.running|job_task.succeeded|"             \
    "job_task.failed|job_task.timed_out|job_task.cancelled|job_task.skipped|"                   \
    "job_task.upstream_failed|job_task.lost"

static const route_t routes [] = {
    RESOURCE (job),
    ACTION ("jobs.run", "POST", "/jobs/:id/run", job_run, .spec.in = s_run_in,
            .spec.out = s_run_out, .spec.status = 201, .spec.key = "user", .spec.events = EVENTS,
            .spec.doc = "Run a job now; answers the run"),
    ACTION ("jobs.runs", "GET", "/jobs/:id/runs", job_runs, .spec.in = s_job_runs_in,
            .spec.out = s_listed_out, .spec.reply = "array",
            .spec.doc = "Runs of a job, newest first"),
    ACTION ("jobs.pause", "POST", "/jobs/:id/pause", job_pause, .spec.key = "user",
            .serial = BY_ID, .spec.doc = "Stop the schedule"),
    ACTION ("jobs.resume", "POST", "/jobs/:id/resume", job_resume, .spec.key = "user",
            .serial = BY_ID, .spec.doc = "Go on with the schedule, from now"),
    ACTION ("jobs.backfill", "POST", "/jobs/:id/backfill", job_backfill, .spec.in = s_backfill_in,
            .spec.status = 202, .spec.key = "user", .spec.timeout = 60000,
            .spec.doc = "Runs for firings of the past, behind everything else"),
    ACTION ("job_runs.list", "GET", "/job-runs", job_runs, .spec.in = s_runs_in,
            .spec.out = s_listed_out, .spec.reply = "array", .spec.doc = "Runs, newest first"),
    ACTION ("job_runs.get", "GET", "/job-runs/:run", run_get,
            .spec.alias = { "/jobs/:id/runs/:run" }, .spec.in = s_run_get_in,
            .spec.blocking = true,
            .spec.doc = "A run with its tasks and logs; waits for its end up to ?wait="),
    ACTION ("job_runs.cancel", "POST", "/job-runs/:run/cancel", run_cancel,
            .spec.in = s_run_param, .spec.status = 202, .spec.key = "user",
            .spec.doc = "End a run; it is cancelling until its engines have confirmed"),
    ACTION ("job_runs.repair", "POST", "/job-runs/:run/repair", run_repair,
            .spec.in = s_run_param, .spec.status = 202, .spec.key = "user",
            .spec.doc = "Do again what has not succeeded in a run that is over"),
    ACTION ("jobs.wake", NULL, NULL, runner_told, .spec.in = s_wake_in,
            .spec.auth = AUTH_OPERATOR, .spec.idempotent = true,
            .spec.doc = "Look at what is due and what waits"),
    ACTION ("jobs.advance", NULL, NULL, runner_advance, .spec.in = s_advance_in,
            .spec.auth = AUTH_OPERATOR, .spec.idempotent = true, .spec.timeout = 60000,
            .spec.doc = "Set the clock that schedules follow, and fire what is due by it"),
    PIPELINE_ROUTES,
    { 0 }
};

//  And job_runs/<id>, the log of one.
static const channel_t channels [] = { { "job_runs", "collection", "job_runs_snapshot" },
                                       { "deployments", "collection", "deployments_snapshot" },
                                       { 0 } };
static const dependant_t dependants [] = { { "workspace", workspace_gone },
                                           { "compute_cluster", cluster_gone },
                                           { "user", user_gone },
                                           { 0 } };
static const tick_t ticks [] = { { 1000, runner_tick }, { 1000, deployments_watch }, { 0 } };

static void
s_free_zone (void *zone)
{
    zone_free ((zone_t **) &zone);
}

static CO void
s_load (req_t *req)
{
    jobs.actor = req_actor (req);
    jobs.zones = hash_new (s_free_zone);
    jobs.runs = hash_new (NULL);
    jobs.timer = loop_timer (jobs.actor->loop, runner_wake, NULL);
    jobs.fake_clock = opt_bool (s_options, "fake-clock");
    jobs.runs_max = opt_int (s_options, "runs");
    jobs.user_max = opt_int (s_options, "runs-per-user");
}

int
main (int argc, char **argv)
{
    return actor_main (argc, argv, &(actor_t) {
        .name = "jobs", .sql = (const char *const []) { jobs_sql, pipelines_sql, NULL },
        .routes = routes,
        .channels = channels, .dependants = dependants, .every = ticks, .options = s_options,
        .load = s_load, .drain = runner_drain, .on_fenced = runner_fenced });
}
