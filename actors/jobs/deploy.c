//  deploy.c -- deployments: a pipeline as it is now, or was once, put into force. Each step is told
//  as it is done; what was installed and what is recorded agree at the end, or it failed.

#include "pipeline.h"

#define PATIENCE "150"               //  seconds, after which it is lost

const field_t deploy_in [] = {
    { "target", T_ENUM, .values = TARGET_LOCAL "|" TARGET_AWS, .def = TARGET_LOCAL },
    { "schedule", T_TEXT, NULLABLE, .max = 100, .doc = "cron; that of the pipeline when absent" },
    { "timezone", T_TEXT, .max = 64 },
    { "cloud_profile_id", T_UUID, NULLABLE },
    { "config", T_OBJECT, NULLABLE,
      .doc = "of " TARGET_AWS ": role_arn, region, runner_function_arn, http_connection_arn, "
             "athena_output, athena_workgroup" },
    { 0 } };
const field_t target_in[] = { { "target", T_ENUM, NULLABLE, .values = TARGET_LOCAL "|" TARGET_AWS },
                              { 0 } };

#define DEPLOYMENT_FIELDS                                                                       \
    { "id", T_UUID }, { "user_id", T_UUID }, { "pipeline_id", T_UUID }, { "version", T_INT },   \
    { "target", T_ENUM, .values = TARGET_LOCAL "|" TARGET_AWS },                                \
    { "status", T_ENUM, .values = "deploying|active|superseded|removed|failed" },               \
    { "state_seq", T_INT }, { "termination", T_OBJECT, NULLABLE }, { "steps", T_ARRAY },        \
    { "schedule", T_TEXT, NULLABLE }, { "timezone", T_TEXT }, { "config", T_OBJECT },           \
    { "cloud_profile_id", T_UUID, NULLABLE }, { "git_repo_url", T_TEXT, NULLABLE },             \
    { "git_branch", T_TEXT, NULLABLE }, { "git_commit", T_TEXT, NULLABLE },                     \
    { "job_id", T_UUID, NULLABLE }, { "resource_arn", T_TEXT, NULLABLE },                       \
    { "rollback_of", T_UUID, NULLABLE }, { "created_at", T_TIME },                              \
    { "completed_at", T_TIME, NULLABLE }

const field_t deployment_listed [] = { DEPLOYMENT_FIELDS, { 0 } };
const field_t deployment_out [] = { DEPLOYMENT_FIELDS, { "pipeline_graph", T_OBJECT },
                                    { "definition", T_OBJECT, NULLABLE }, { "live", T_OBJECT },
                                    { 0 } };

static row_t
s_pipeline (req_t *req, const char *id)
{
    row_t row = db_row (req, "pipeline_own", req_user (req), id);
    if (row_none (row))
        fail (req, E_NOT_FOUND, "pipeline not found");
    return row;
}

static mp_t
s_parse (req_t *req, const char *json)
{
    char why [160];
    buf_t *out = req_buf (req);
    if (!json_read (text_of (json), out, why, sizeof why))
        fail (req, E_INTERNAL, "what is stored cannot be read");
    return mp_buf (out);
}

//  ---- steps ----

static CO void
s_step (req_t *req, const deploy_t *deploy, const char *name, int64_t since, const char *failure)
{
    buf_t *json = req_buf (req);
    buf_putf (json, "{\"name\": \"%s\", \"ok\": %s, \"ms\": %lld, \"message\": ", name,
              failure ? "false" : "true",
              (long long) (loop_now (req_actor (req)->loop) - since));
    if (failure)
        json_quote (text_of (failure), json);
    else
        buf_puts (json, "null");
    buf_puts (json, "}");
    unit_t *unit = unit_new (req);
    unit_add (unit, "deployment_step", deploy->id, req_copy (req, buf_text (json)), deploy->commit);
    if (row_none (unit_commit (unit)))
        fail (req, E_CONFLICT, "the deployment was given up for lost");
}

//  The step and the deployment failed; so does the request.
static CO void __attribute__ ((noreturn))
s_give_up (req_t *req, const deploy_t *deploy, const char *name, int64_t since, const char *why,
           bool theirs)
{
    s_step (req, deploy, name, since, why);
    buf_t *json = req_buf (req);
    buf_putf (json, "{\"code\": \"DEPLOYMENT_FAILED\", \"type\": \"%s\", \"message\": ",
              theirs ? "CLIENT_ERROR" : "INFRASTRUCTURE");
    json_quote (text_of (why), json);
    buf_puts (json, "}");
    unit_t *unit = unit_new (req);
    unit_add (unit, "deployment_failed", deploy->id, req_copy (req, buf_text (json)));
    unit_commit (unit);
    buf_t *details = req_buf (req);
    mp_put_map (details, 2);
    mp_pair_str (details, "deployment_id", deploy->id);
    mp_pair_str (details, "step", name);
    fail_details (req, theirs ? E_CONFLICT : E_UPSTREAM, mp_buf (details), "%s: %s", name, why);
}

//  ---- what every deployment does ----

static CO void
s_begin (req_t *req, deploy_t *deploy)
{
    unit_t *unit = unit_new (req);
    unit_add (unit, "deployment_begin", req_user (req), deploy->pipeline, deploy->target,
              deploy->graph_json, deploy->schedule, deploy->timezone, deploy->config_json,
              deploy->profile, deploy->repository, deploy->branch, deploy->commit,
              deploy->rollback_of, PATIENCE, deploy_instance (req));
    row_t row = unit_commit (unit);
    if (row_none (row))
        fail (req, E_NOT_FOUND, "pipeline not found");
    if (!row_str (row, "id"))
        fail_field (req, E_CONFLICT, "status", "is deploying already");
    deploy->id = row_str (row, "id");
}

static CO void
s_finish (req_t *req, const deploy_t *deploy)
{
    bool local = strcmp (deploy->target, TARGET_LOCAL) == 0;
    const char *job = local ? deploy->job : NULL, *arn = local ? NULL : deploy->arn;
    unit_t *unit = unit_new (req);
    unit_also (unit, "deployment_done", deploy->id, job, arn);
    unit_add (unit, "deployment_activate", deploy->id, job, arn, deploy->definition);
    if (row_none (unit_commit (unit)))
        fail (req, E_CONFLICT, "the deployment was given up for lost");
    reply_again (req);
    reply_row (req, 201, db_row (req, "deployment_get", req_user (req), deploy->id));
}

//  What the branch points to now; with `path`, what the file there holds.
static CO bus_reply_t
s_resolve (req_t *req, const deploy_t *deploy, const char *path)
{
    buf_t *body = req_buf (req);
    mp_put_map (body, 4);
    mp_pair_str (body, "user", req_user (req));
    mp_pair_str (body, "url", deploy->repository);
    mp_pair_str (body, "branch", deploy->branch);
    mp_pair_str (body, "path", path);
    return req_call (req, "repositories.resolve", mp_none, mp_buf (body),
                     &(req_call_t) { .operator = true, .idempotent = true, .ttl = 40000 });
}

static CO const char *
s_pin (req_t *req, deploy_t *deploy, bool *theirs)
{
    bus_reply_t reply = s_resolve (req, deploy, NULL);
    *theirs = reply.status < 500;
    if (reply.status >= 400)
        return deploy_why (req, &reply);
    deploy->commit = req_copy (req, mp_text (mp_get (reply.body, "commit")));
    return NULL;
}

static CO void
s_deploy (req_t *req, deploy_t *deploy)
{
    loop_t *loop = req_actor (req)->loop;
    bool theirs = false, local = strcmp (deploy->target, TARGET_LOCAL) == 0;
    if (deploy->graph->node_count == 0)
        fail_field (req, E_CONFLICT, "pipeline_graph", "has no nodes: there is nothing to deploy");
    if (!local && deploy->schedule)
        fail_field (req, E_CONFLICT, "schedule", "is for target " TARGET_LOCAL " only");
    if (!local)
        aws_prepare (req, deploy);
    int64_t since = loop_now (loop);
    s_begin (req, deploy);
    s_step (req, deploy, "validate", since, NULL);
    since = loop_now (loop);
    const char *why = deploy->repository && !deploy->commit ? s_pin (req, deploy, &theirs) : NULL;
    if (why)
        s_give_up (req, deploy, "pin_commit", since, why, theirs);
    if (deploy->repository)
        s_step (req, deploy, "pin_commit", since, NULL);
    since = loop_now (loop);
    why = local ? local_install (req, deploy, &theirs)
                : aws_install (req, deploy, &theirs);
    if (why)
        s_give_up (req, deploy, "install", since, why, theirs);
    s_step (req, deploy, "install", since, NULL);
    s_finish (req, deploy);
}

//  What both a new deployment and one of an earlier state begin with.
static CO deploy_t *
s_new (req_t *req, row_t row, const char *target)
{
    deploy_t *deploy = req_alloc (req, sizeof *deploy);
    *deploy = (deploy_t) { .pipeline = row_str (row, "id"), .user = req_user (req),
                           .name = row_str (row, "name"),
                           .workspace = row_str (row, "workspace_id"), .target = target,
                           .job = row_str (row, "job_id"),
                           .arn = row_str (row, "state_machine_arn") };
    return deploy;
}

//  The graph is what the repository holds: it is saved, so that everybody sees what is deployed.
static CO void
s_sync_graph (req_t *req, deploy_t *deploy, const char *path)
{
    char why [160];
    buf_t *document = req_buf (req), *json = req_buf (req);
    if (!*path)
        fail_field (req, E_CONFLICT, "git_file_path", "is needed where git_sync_enabled is set");
    if (!deploy->repository)
        fail_field (req, E_CONFLICT, "git_repo_url", "is needed where git_sync_enabled is set");
    bus_reply_t reply = s_resolve (req, deploy, path);
    if (reply.status >= 400) {
        bool file = !mp_empty (mp_get (mp_get (reply.body, "details"), "path"));
        fail_field (req, reply.status < 500 ? E_CONFLICT : E_UPSTREAM,
                    file ? "git_file_path" : "git_repo_url", "%s", deploy_why (req, &reply));
    }
    if (!json_read (mp_text (mp_get (reply.body, "content")), document, why, sizeof why))
        fail_field (req, E_CONFLICT, "git_file_path", "%s is no JSON: %s", path, why);
    deploy->commit = req_copy (req, mp_text (mp_get (reply.body, "commit")));
    deploy->graph = pipeline_graph (req, mp_buf (document));
    json_write (mp_buf (document), json);
    deploy->graph_json = req_copy (req, buf_text (json));
    unit_t *unit = unit_new (req);
    unit_add (unit, "pipeline_synced", req_user (req), deploy->pipeline, deploy->graph_json);
    unit_commit (unit);
}

CO void
pipeline_deploy (req_t *req)
{
    cron_t cron;
    const zone_t *zone;
    char why [200];
    row_t row = s_pipeline (req, req_id (req));
    deploy_t *deploy = s_new (req, row, req_str (req, "target"));
    bool local = strcmp (deploy->target, TARGET_LOCAL) == 0;
    deploy->timezone = req_str (req, "timezone") ? req_str (req, "timezone")
                                                 : row_str (row, "timezone");
    //  That of the pipeline is for here; for elsewhere it would have to be asked for, and is
    //  refused.
    deploy->schedule = req_has (req, "schedule") ? req_str (req, "schedule")
                       : local ? row_str (row, "schedule") : NULL;
    if (!schedule_read (deploy->schedule ? deploy->schedule : "@daily", deploy->timezone, &cron,
                        &zone, why))
        fail_field (req, E_INVALID, req_has (req, "timezone") ? "timezone" : "schedule", "%s", why);
    deploy->config_json = req_json (req, "config");
    if (!deploy->config_json || mp_empty (req_any (req, "config")))
        deploy->config_json = "{}";
    deploy->config = s_parse (req, deploy->config_json);
    deploy->profile = req_str (req, "cloud_profile_id");
    deploy->repository = row_str (row, "git_repo_url");
    deploy->branch = row_str (row, "git_branch");
    deploy->graph_json = row_str (row, "graph");
    if (row_str (row, "git_path"))
        s_sync_graph (req, deploy, row_str (row, "git_path"));
    else
        deploy->graph = pipeline_graph (req, s_parse (req, deploy->graph_json));
    s_deploy (req, deploy);
}

static CO void
s_back_to (req_t *req, const char *id)
{
    row_t old = db_row (req, "deployment_get", req_user (req), id);
    if (row_none (old))
        fail (req, E_NOT_FOUND, "deployment not found");
    if (strcmp (row_str (old, "status"), "superseded") != 0
        && strcmp (row_str (old, "status"), "removed") != 0)
        fail_field (req, E_CONFLICT, "status",
                    "is %s: only one that was in force before can come back",
                    row_str (old, "status"));
    row_t row = s_pipeline (req, row_str (old, "pipeline_id"));
    deploy_t *deploy = s_new (req, row, row_str (old, "target"));
    deploy->schedule = row_str (old, "schedule");
    deploy->timezone = row_str (old, "timezone");
    deploy->config_json = row_str (old, "config_text");
    deploy->config = s_parse (req, deploy->config_json);
    deploy->profile = row_str (old, "cloud_profile_id");
    deploy->repository = row_str (old, "git_repo_url");
    deploy->branch = row_str (old, "git_branch");
    deploy->commit = row_str (old, "git_commit");
    deploy->rollback_of = row_str (old, "id");
    deploy->graph_json = row_str (old, "graph");
    deploy->graph = pipeline_graph (req, s_parse (req, deploy->graph_json));
    s_deploy (req, deploy);
}

CO void
deployment_rollback (req_t *req)
{
    s_back_to (req, req_id (req));
}

//  What is in force now; fails where there is nothing.
static CO row_t
s_in_force (req_t *req)
{
    s_pipeline (req, req_id (req));
    row_t row = db_row (req, "deployment_in_force", req_user (req), req_id (req),
                        req_str (req, "target"));
    if (row_none (row))
        fail_field (req, E_CONFLICT, "status", "is not deployed: deploy the pipeline first");
    return row;
}

CO void
pipeline_rollback (req_t *req)
{
    row_t row = s_in_force (req);
    if (!row_str (row, "before"))
        fail_field (req, E_CONFLICT, "status",
                    "is deployed, and there is no deployment before this one");
    s_back_to (req, row_str (row, "before"));
}

//  ---- taking it away ----

CO void
pipeline_undeploy (req_t *req)
{
    row_t row = s_in_force (req);
    bool theirs = false, local = strcmp (row_str (row, "target"), TARGET_LOCAL) == 0;
    deploy_t *deploy = req_alloc (req, sizeof *deploy);
    *deploy = (deploy_t) { .user = req_user (req), .job = row_str (row, "job_id"),
                           .arn = row_str (row, "resource_arn"),
                           .profile = row_str (row, "cloud_profile_id"),
                           .config = s_parse (req, row_str (row, "config_text")) };
    const char *why = local ? local_remove (req, deploy, &theirs)
                            : aws_remove (req, deploy, &theirs);
    if (why)
        fail (req, theirs ? E_CONFLICT : E_UPSTREAM, "%s", why);
    unit_t *unit = unit_new (req);
    unit_add (unit, "deployment_remove", req_user (req), row_str (row, "id"));
    unit_message (unit, "Undeployed");
    unit_commit (unit);
    reply_message (req, 200, "Undeployed");
}

//  ---- reading ----

CO void
pipeline_deployments (req_t *req)
{
    s_pipeline (req, req_id (req));
    reply_rows (req, 200, db_rows (req, "deployments_of", req_user (req), req_id (req)));
}

CO void
deployment_get (req_t *req)
{
    row_t row = db_row (req, "deployment_get", req_user (req), req_id (req));
    if (row_none (row))
        fail (req, E_NOT_FOUND, "deployment not found");
    reply_row (req, 200, row);
}
