//  pipeline.c -- pipelines and ETL pipelines as rows, and a pipeline as what a job runs.

#include "pipeline.h"

#define GRAPH_MAX (1 << 20)

//  ---- graphs ----

static void
s_free_graph (void *graph)
{
    graph_free (graph);
}

graph_t *
pipeline_graph (req_t *req, mp_t document)
{
    char why [GRAPH_WHY];
    graph_t *graph = req_alloc (req, sizeof *graph);
    req_defer (req, s_free_graph, graph);
    if (!graph_read (document, graph, why))
        fail_field (req, E_INVALID, "pipeline_graph", "%s", why);
    return graph;
}

static const char *
s_text (req_t *req, text_t text)
{
    return text.size ? req_copy (req, text) : NULL;
}

//  May the caller use what the nodes name?
static CO void
s_check_references (req_t *req, const graph_t *graph)
{
    static const struct { const char *field, *method, *what; } names [] = {
        { "notebook_id", "notebooks.get", "notebook" },
        { "source_id", "data_sources.get", "data source" },
        { "target_id", "data_sources.get", "data source" },
        { "cluster_id", "compute_clusters.get", "cluster" } };
    for (size_t n = 0; n < graph->node_count; n++)
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            const node_t *node = &graph->nodes [n];
            const char *id = s_text (req, mp_text (mp_get (node->config, names [i].field)));
            if (id && (i > 0 || node->type == NODE_NOTEBOOK))
                may_use (req, names [i].method, id, "pipeline_graph",
                         req_print (req, "%s: node %.*s", names [i].what, (int) node->id.size,
                                    node->id.data));
        }
}

static CO void
s_check (req_t *req)
{
    cron_t cron;
    const zone_t *zone;
    char why [200];
    const char *schedule = req_str (req, "schedule"), *timezone = req_str (req, "timezone"),
               *workspace = req_str (req, "workspace_id");
    if (schedule && !schedule_read (schedule, "UTC", &cron, &zone, why))
        fail_field (req, E_INVALID, "schedule", "%s", why);
    if (timezone && !schedule_read ("@daily", timezone, &cron, &zone, why))
        fail_field (req, E_INVALID, "timezone", "%s", why);
    if (workspace)
        may_use (req, "workspaces.get", workspace, "workspace_id", "workspace");
    mp_t document = req_any (req, "pipeline_graph");
    if (!mp_empty (document))
        s_check_references (req, pipeline_graph (req, document));
}

//  What is installed for it goes first.
static CO void
s_before_delete (req_t *req)
{
    row_t row = db_row (req, "pipeline_own", req_user (req), req_id (req));
    if (row_none (row))
        fail (req, E_NOT_FOUND, "pipeline not found");
    if (row_str (row, "state_machine_arn"))
        fail_field (req, E_CONFLICT, "status",
                    "is deployed to " TARGET_AWS ": undeploy it first");
    if (!row_str (row, "job_id"))
        return;
    buf_t *params = req_buf (req);
    mp_put_map (params, 1);
    mp_pair_str (params, "id", row_str (row, "job_id"));
    bus_reply_t reply = req_call (req, "jobs.delete", mp_buf (params), mp_none,
                                  &(req_call_t) {
                                      .key = req_print (req, "user:%s", req_user (req)) });
    if (reply.status >= 400 && reply.status != 404)
        fail_reply (req, &reply);
}

const resource_t pipeline = {
    .name = "pipeline",
    .path = "/pipelines",
    .table = "pipelines",
    .ops = CRUD,
    .owner = "user_id",
    .body_max = 2 * GRAPH_MAX,
    .before_create = s_check,
    .before_update = s_check,
    .before_delete = s_before_delete,
    .tag = "pipelines",
    .doc = "a graph of sql, notebook, http, copy, branch and wait nodes",
    .fields = (const field_t []) {
        { "workspace_id", T_UUID, NULLABLE | FILTER },
        { "name", T_TEXT, REQUIRED | FILTER | SORT, .min = 1, .max = 255 },
        { "description", T_TEXT, NULLABLE },
        { "pipeline_graph", T_OBJECT, QUIET, .def = "{\"nodes\": [], \"edges\": []}",
          .doc = "{nodes: [{id, type, config}], edges: [{from, to, condition}]}" },
        { "cloud_provider", T_ENUM, NULLABLE | FILTER, .values = "aws|azure|gcp" },
        { "airflow_yaml", T_TEXT, NULLABLE | QUIET, .max = GRAPH_MAX },
        { "schedule", T_TEXT, NULLABLE, .max = 100, .doc = "cron, used when it is deployed" },
        { "timezone", T_TEXT, .max = 64, .def = "UTC" },
        { "git_repo_url", T_TEXT, NULLABLE, .max = 500 },
        { "git_branch", T_TEXT, NULLABLE, .max = 255 },
        { "git_file_path", T_TEXT, NULLABLE, .max = 1000 },
        { "git_sync_enabled", T_BOOL, .def = "false",
          .doc = "deploying takes the graph from git_file_path of the repository" },
        { "last_git_sync", T_TIME, READONLY | NULLABLE },
        { "status", T_ENUM, READONLY | FILTER, .values = "draft|deployed|error" },
        { "job_id", T_UUID, READONLY | NULLABLE },
        { "state_machine_arn", T_TEXT, READONLY | NULLABLE },
        { "last_run", T_TIME, READONLY | NULLABLE,
          .sql = "SELECT max (r.created_at) FROM jobs.job_runs r WHERE r.job_id = t.job_id" },
        { "next_run", T_TIME, READONLY | NULLABLE,
          .sql = "SELECT j.next_run_at FROM jobs.jobs j WHERE j.id = t.job_id AND j.enabled" },
        { 0 } }
};

const resource_t etl_pipeline = {
    .name = "etl_pipeline",
    .path = "/etl-pipelines",
    .table = "etl_pipelines",
    .ops = CRUD,
    .owner = "user_id",
    .body_max = 2 * GRAPH_MAX,
    .tag = "etl-pipelines",
    .doc = "an ETL flow as it was drawn or filled in",
    .fields = (const field_t []) {
        { "name", T_TEXT, REQUIRED | FILTER | SORT, .min = 1, .max = 255 },
        { "description", T_TEXT, NULLABLE },
        { "mode", T_ENUM, FILTER, .values = "visual|form", .def = "visual" },
        { "workflow_data", T_OBJECT, QUIET, .def = "{\"nodes\": [], \"edges\": []}" },
        { "sources", T_JSON, QUIET, .def = "[]" },
        { "targets", T_JSON, QUIET, .def = "[]" },
        { "transformations", T_JSON, QUIET, .def = "[]" },
        { "cloud_services", T_JSON, QUIET, .def = "[]" },
        { "status", T_TEXT, FILTER, .min = 1, .max = 50, .def = "draft" },
        { "last_run", T_TIME, READONLY | NULLABLE },
        { 0 } }
};

CO void
pipelines_gone (req_t *req, const char *user, const char *workspace)
{
    row_t rows = db_rows (req, "pipelines_of", user, workspace);
    for (int n = 0; n < rows_count (rows); n++) {
        row_t row = rows_at (rows, n);
        if (row_str (row, "state_machine_arn"))
            log_warn ("a state machine stays behind", "arn", row_str (row, "state_machine_arn"));
        unit_t *unit = unit_new (req);
        unit_add (unit, "pipeline_delete", row_str (row, "id"));
        unit_commit (unit);
    }
    if (!user)
        return;
    unit_t *unit = unit_new (req);
    unit_add (unit, "etl_pipelines_delete", user);
    unit_commit (unit);
}

//  Of the caller's key: its own waits for the answer of this request.
static const char *
s_run_key (req_t *req, text_t key)
{
    char *digest = req_alloc (req, 65);
    sha256_hex (key, digest);
    return req_print (req, "pipelines.run %s", digest);
}

CO void
pipeline_run (req_t *req)
{
    row_t row = db_row (req, "pipeline_own", req_user (req), req_id (req));
    if (row_none (row))
        fail (req, E_NOT_FOUND, "pipeline not found");
    if (!row_str (row, "job_id"))
        fail_field (req, E_CONFLICT, "status", "is not deployed here: deploy the pipeline first");
    buf_t *params = req_buf (req), *body = req_buf (req);
    text_t again = mp_text (req_meta (req, "idempotency_key"));
    mp_put_map (params, 1);
    mp_pair_str (params, "id", row_str (row, "job_id"));
    mp_put_map (body, 0);
    bus_reply_t reply = req_call (req, "jobs.run", mp_buf (params), mp_buf (body),
                                  &(req_call_t) {
                                      .key = req_print (req, "user:%s", req_user (req)),
                                      .idempotency_key = again.size ? s_run_key (req, again)
                                                                    : NULL });
    if (reply.status >= 400)
        fail_reply (req, &reply);
    reply_mp (req, (unsigned) reply.status, reply.body);
}

//  ---- as a kind of job ----

static CO void
s_check_config (req_t *req, mp_t config, const char *where)
{
    const char *id = s_text (req, mp_text (mp_get (config, "pipeline_id"))),
               *deployment = s_text (req, mp_text (mp_get (config, "deployment_id")));
    if (!id)
        fail_field (req, E_INVALID, "config", "%s needs pipeline_id", where);
    if (!uuid_valid (text_of (id)) || row_none (db_row (req, "pipeline_own", req_user (req), id)))
        fail_field (req, E_NOT_FOUND, "pipeline_id", "no such pipeline");
    if (!deployment)
        return;
    row_t row = uuid_valid (text_of (deployment))
                    ? db_row (req, "deployment_get", req_user (req), deployment)
                    : (row_t) { NULL, -1 };
    if (row_none (row) || strcmp (row_str (row, "pipeline_id"), id) != 0)
        fail_field (req, E_NOT_FOUND, "deployment_id", "no such deployment of this pipeline");
}

//  NULL: it is not there, or not right any more; then `why` says so.
static CO graph_t *
s_planned (req_t *req, mp_t config, char why [GRAPH_WHY])
{
    const char *id = s_text (req, mp_text (mp_get (config, "pipeline_id"))),
               *deployment = s_text (req, mp_text (mp_get (config, "deployment_id")));
    row_t row = db_row (req, "pipeline_planned", id, deployment);
    graph_t *graph = req_alloc (req, sizeof *graph);
    buf_t *document = req_buf (req);
    snprintf (why, GRAPH_WHY, "the pipeline is not there any more");
    if (row_none (row)
        || !json_read (text_of (row_str (row, "graph")), document, why, GRAPH_WHY))
        return NULL;
    req_defer (req, s_free_graph, graph);
    if (!graph_read (mp_buf (document), graph, why))
        return NULL;
    snprintf (why, GRAPH_WHY, "the pipeline has no nodes");
    return graph->node_count ? graph : NULL;
}

//  Where there is nothing to be expanded it is one task, which says why.
static CO mp_t
s_expand (req_t *req, mp_t config)
{
    char why [GRAPH_WHY];
    graph_t *graph = s_planned (req, config, why);
    if (!graph)
        return mp_none;
    buf_t *tasks = req_buf (req);
    graph_tasks (graph, tasks);
    return mp_buf (tasks);
}

static CO task_end_t
s_run (req_t *req, task_t *task)
{
    char why [GRAPH_WHY];
    s_planned (req, task->config, why);
    return (task_end_t) { .code = TASK_FAILED, .message = req_copy (req, text_of (why)) };
}

const task_kind_t pipeline_kind = { .name = "pipeline", .repeatable = true,
                                    .check = s_check_config, .run = s_run, .expand = s_expand };
