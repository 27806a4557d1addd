//  deploy_lost.c -- deployments whose process ended on the way. What they had installed gives way
//  to what is in force according to the record, or goes; then they have failed. Whoever deploys
//  again begins anew.

#include "pipeline.h"

const char *
deploy_instance (req_t *req)
{
    const actor_t *actor = req_actor (req);
    return req_print (req, "%s/%s", actor->slot, bus_boot (actor->bus));
}

//  NULL, or why it could not be done; `*done` is what was.
static CO const char *
s_mend_local (req_t *req, row_t row, deploy_t *deploy, const char **done)
{
    bool theirs;
    const char *job = row_str (row, "job"), *active = row_str (row, "active_job");
    *done = "nothing was installed";
    if (!job)
        return NULL;
    deploy->job = job;
    if (!active || strcmp (active, job) != 0) {
        *done = "the job that it had made was taken away";
        return local_remove (req, deploy, &theirs);
    }
    deploy->id = row_str (row, "active");
    deploy->schedule = row_str (row, "active_schedule");
    deploy->timezone = row_str (row, "active_timezone");
    *done = "what was in force before is in force";
    return local_install (req, deploy, &theirs);
}

static CO const char *
s_mend_aws (req_t *req, row_t row, deploy_t *deploy, const char **done)
{
    char why [160];
    bool theirs, active = row_str (row, "active") != NULL;
    buf_t *config = req_buf (req);
    if (!json_read (text_of (row_str (row, active ? "active_config" : "config")), config, why,
                    sizeof why))
        return "its settings can't be read";
    deploy->config = mp_buf (config);
    deploy->profile = row_str (row, active ? "active_profile" : "cloud_profile_id");
    deploy->arn = row_str (row, active ? "active_arn" : "state_machine_arn");
    deploy->definition = row_str (row, "active_definition");
    *done = active ? "what was in force before is in force"
                   : "the state machine that it may have made was taken away";
    return active ? aws_install (req, deploy, &theirs) : aws_remove (req, deploy, &theirs);
}

static CO void
s_mend (req_t *req, row_t row)
{
    const char *done, *why = NULL;
    bool late = row_bool (row, "late"), local = strcmp (row_str (row, "target"), TARGET_LOCAL) == 0;
    deploy_t *deploy = req_alloc (req, sizeof *deploy);
    *deploy = (deploy_t) { .pipeline = row_str (row, "pipeline_id"), .name = row_str (row, "name"),
                           .user = row_str (row, "user_id"),
                           .workspace = row_str (row, "workspace_id") };
    if (local)
        why = s_mend_local (req, row, deploy, &done);
    else
        why = late ? "it takes too long" : s_mend_aws (req, row, deploy, &done);
    if (why)
        log_warn ("lost deployment can't be mended now", "deployment", row_str (row, "id"), "why",
                  why);
    if (why && !late)
        return;
    if (why)
        done = "what it had installed could not be found out";
    unit_t *unit = unit_new (req);
    unit_add (unit, "deployment_failed", row_str (row, "id"),
              req_print (req, "{\"code\": \"LOST\", \"type\": \"INTERNAL_ERROR\", \"message\": "
                              "\"the process that deployed it ended: %s\"}", done));
    if (!row_none (unit_commit (unit)))
        log_warn ("deployment is lost", "deployment", row_str (row, "id"));
}

CO void
deployments_watch (req_t *req)
{
    row_t rows = db_rows (req, "deployments_stranded", req_actor (req)->slot,
                          deploy_instance (req));
    for (int n = 0; n < rows_count (rows); n++)
        s_mend (req, rows_at (rows, n));
}
