//  deploy_local.c -- deployments here: a job that runs the pipeline as it was deployed.

#include "pipeline.h"

const char *
deploy_why (req_t *req, const bus_reply_t *reply)
{
    text_t text = mp_text (mp_get (reply->body, "error"));
    for (mp_iter_t it = mp_iter (mp_get (reply->body, "details"));
         mp_type (mp_get (reply->body, "details")) == MP_MAP && mp_next (&it);)
        return req_print (req, "%.*s: %.*s", (int) mp_text (it.key).size, mp_text (it.key).data,
                          (int) mp_text (it.value).size, mp_text (it.value).data);
    return text.size ? req_copy (req, text) : "no answer";
}

static CO bus_reply_t
s_call (req_t *req, const deploy_t *deploy, const char *method, const char *job, mp_t body)
{
    buf_t *params = req_buf (req);
    mp_put_map (params, job ? 1 : 0);
    if (job)
        mp_pair_str (params, "id", job);
    return req_call (req, method, mp_buf (params), body,
                     &(req_call_t) { .key = req_print (req, "user:%s", deploy->user),
                                     .user = req_user (req) ? NULL : deploy->user });
}

static mp_t
s_job (req_t *req, const deploy_t *deploy)
{
    buf_t *body = req_buf (req);
    mp_put_map (body, 7);
    mp_pair_str (body, "name", deploy->name);
    mp_pair_str (body, "job_type", "pipeline");
    mp_pair_str (body, "workspace_id", deploy->workspace);
    mp_pair_str (body, "schedule", deploy->schedule);
    mp_pair_str (body, "timezone", deploy->timezone);
    mp_pair_bool (body, "enabled", true);
    mp_put_str (body, "config");
    mp_put_map (body, 2);
    mp_pair_str (body, "pipeline_id", deploy->pipeline);
    mp_pair_str (body, "deployment_id", deploy->id);
    return mp_buf (body);
}

//  Change the job that is there, or make one.
CO const char *
local_install (req_t *req, deploy_t *deploy, bool *theirs)
{
    buf_t *room = req_buf (req);
    mp_t body = s_job (req, deploy);
    bus_reply_t reply = { .status = 404 };
    if (deploy->job)
        reply = s_call (req, deploy, "jobs.update", deploy->job, body);
    if (reply.status == 404)
        reply = s_call (req, deploy, "jobs.create", NULL, body);
    *theirs = reply.status < 500;
    if (reply.status >= 400)
        return deploy_why (req, &reply);
    deploy->job = req_copy (req, mp_text (mp_get (json_plain (reply.body, room), "id")));
    return NULL;
}

CO const char *
local_remove (req_t *req, deploy_t *deploy, bool *theirs)
{
    if (!deploy->job)
        return NULL;
    bus_reply_t reply = s_call (req, deploy, "jobs.delete", deploy->job, mp_none);
    *theirs = reply.status < 500;
    return reply.status < 400 || reply.status == 404 ? NULL : deploy_why (req, &reply);
}
