//  pipeline.h -- pipelines, their deployments, ETL pipelines.

#ifndef PIPELINE_H
#define PIPELINE_H

#include "graph.h"
#include "jobs.h"

#define TARGET_LOCAL "local"
#define TARGET_AWS "aws-step-functions"

extern const resource_t pipeline, etl_pipeline;
extern const field_t deploy_in [], deployment_out [], deployment_listed [], deployment_param [],
    target_in [];

//  A graph of the database or of a request; fails the request with 400 on pipeline_graph when it is
//  none. It goes with the request.
graph_t *pipeline_graph (req_t *req, mp_t document);

//  pipeline.c
CO void pipeline_run (req_t *req);
CO void pipelines_gone (req_t *req, const char *user, const char *workspace);

//  deploy.c
CO void pipeline_deploy (req_t *req);
CO void pipeline_rollback (req_t *req);
CO void deployment_rollback (req_t *req);
CO void pipeline_undeploy (req_t *req);
CO void pipeline_deployments (req_t *req);
CO void deployment_get (req_t *req);

//  A deployment on its way. All of it lives as long as the request.
typedef struct {
    const char *id, *pipeline, *name, *workspace, *user;
    const char *target, *graph_json, *schedule, *timezone, *config_json, *profile;
    const char *repository, *branch, *commit, *rollback_of;
    mp_t config;
    graph_t *graph;
    const char *job, *arn;           //  of what is there already, and of what is made
    const char *definition;          //  ready state machine
} deploy_t;

//  What an error answer says, for a step.
const char *deploy_why (req_t *req, const bus_reply_t *reply);

//  deploy_local.c: make or change its job; sets job. NULL, or why it could not be done; `theirs`:
//  their settings are the reason.
CO const char *local_install (req_t *req, deploy_t *deploy, bool *theirs);
//  It goes, if it is there.
CO const char *local_remove (req_t *req, deploy_t *deploy, bool *theirs);

//  deploy_lost.c: which process this is, and what those before it left undone.
const char *deploy_instance (req_t *req);
CO void deployments_watch (req_t *req);

//  deploy_aws.c: what can be said before anything is changed: the state machine, the credentials.
//  Fails the request with 409 on the setting that is missing.
CO void aws_prepare (req_t *req, deploy_t *deploy);
//  Create or update the state machine; sets arn.
CO const char *aws_install (req_t *req, deploy_t *deploy, bool *theirs);
//  It goes, if it is there: by its arn, or by the name that we give.
CO const char *aws_remove (req_t *req, deploy_t *deploy, bool *theirs);

extern const task_kind_t pipeline_kind, branch_kind, wait_kind, http_kind, copy_kind;

#define PIPELINE_OPTIONS                                                                        \
    { "http-allow", OPT_STR, "", 0, NULL,                                                       \
      "host:port,… on private addresses that http nodes may reach" },                           \
    { "states-endpoint", OPT_STR, "", 0, "AWS_ENDPOINT_URL_SFN|AWS_ENDPOINT_URL",               \
      "where AWS Step Functions is, when not at Amazon" }

#define PIPELINE_ROUTES                                                                         \
    RESOURCE (pipeline), RESOURCE (etl_pipeline),                                               \
    ACTION ("pipelines.deploy", "POST", "/pipelines/:id/deploy", pipeline_deploy,               \
            .serial = BY_ID, .spec.in = deploy_in, .spec.out = deployment_out,                  \
            .spec.status = 201, .spec.key = "user", .spec.timeout = 120000,                     \
            .spec.events = DEPLOY_EVENTS,                                                       \
            .spec.doc = "Install the pipeline: here as a job, or as a state machine of AWS"),   \
    ACTION ("pipelines.rollback", "POST", "/pipelines/:id/rollback", pipeline_rollback,         \
            .serial = BY_ID, .spec.in = target_in, .spec.out = deployment_out,                  \
            .spec.status = 201, .spec.key = "user", .spec.timeout = 120000,                     \
            .spec.events = DEPLOY_EVENTS,                                                       \
            .spec.doc = "Deploy again what was in force before"),                               \
    ACTION ("pipelines.undeploy", "POST", "/pipelines/:id/undeploy", pipeline_undeploy,         \
            .serial = BY_ID, .spec.in = target_in, .spec.key = "user", .spec.timeout = 120000,  \
            .spec.events = "deployment.removed",                                                \
            .spec.doc = "Take away what was installed"),                                        \
    ACTION ("pipelines.run", "POST", "/pipelines/:id/run", pipeline_run, .spec.status = 201,    \
            .spec.key = "user", .spec.doc = "Run what is deployed here; answers the run"),      \
    ACTION ("pipelines.deployments", "GET", "/pipelines/:id/deployments", pipeline_deployments, \
            .spec.out = deployment_listed, .spec.reply = "array",                               \
            .spec.doc = "Deployments of a pipeline, newest first"),                             \
    ACTION ("deployments.get", "GET", "/deployments/:id", deployment_get,                       \
            .spec.out = deployment_out, .spec.doc = "A deployment with its graph and steps"),   \
    ACTION ("deployments.rollback", "POST", "/deployments/:id/rollback", deployment_rollback,   \
            .serial = BY_ID, .spec.out = deployment_out, .spec.status = 201, .spec.key = "user", \
            .spec.timeout = 120000, .spec.events = DEPLOY_EVENTS,                               \
            .spec.doc = "Deploy this one again")

#define DEPLOY_EVENTS                                                                           \
    "deployment.deploying|deployment.active|deployment.superseded|deployment.failed"

#endif
