//  deploy_aws.c -- AWS Step Functions: a state machine per pipeline, made and changed through its
//  API, with the credentials of a cloud profile.

#include "actors/kit/fetch.h"
#include "asl.h"
#include "pipeline.h"

#define CALL_MS 30000

typedef struct {
    const char *region, *key_id, *secret, *session, *endpoint, *allow;
} account_t;

static const char *
s_setting (req_t *req, const deploy_t *deploy, const char *name)
{
    text_t text = mp_text (mp_get (deploy->config, name));
    return text.size ? req_copy (req, text) : NULL;
}

static bool
s_is_word (const char *text)
{
    return text && *text
           && strspn (text, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen (text);
}

//  ---- the account ----

//  "host:port" of the operator's own address, which the guard lets pass.
static const char *
s_allowed (req_t *req, const char *url)
{
    const char *host = strstr (url, "://");
    if (!host)
        return NULL;
    size_t size = strcspn (host += 3, "/");
    if (memchr (host, ':', size))
        return req_print (req, "%.*s", (int) size, host);
    return req_print (req, "%.*s:%s", (int) size, host,
                      strncmp (url, "https", 5) == 0 ? "443" : "80");
}

static const char *
s_pick (req_t *req, mp_t map, const char *name, const char *also)
{
    text_t text = mp_text (mp_get (map, name));
    if (text.size == 0)
        text = mp_text (mp_get (map, also));
    return text.size ? req_copy (req, text) : NULL;
}

static CO account_t
s_account (req_t *req, const deploy_t *deploy)
{
    buf_t *params = req_buf (req), *room = req_buf (req);
    if (!deploy->profile)
        fail_field (req, E_CONFLICT, "cloud_profile_id", "is needed for target " TARGET_AWS);
    mp_put_map (params, 2);
    mp_pair_str (params, "id", deploy->profile);
    mp_pair_str (params, "user", deploy->user);
    bus_reply_t reply = req_call (req, "cloud_profiles.credentials", mp_buf (params), mp_none,
                                  &(req_call_t) { .operator = true, .idempotent = true });
    if (reply.status == 404)
        fail_field (req, E_NOT_FOUND, "cloud_profile_id", "no such cloud profile");
    if (reply.status >= 400)
        fail_reply (req, &reply);
    mp_t body = json_plain (reply.body, room), given = mp_get (body, "credentials");
    if (!text_is (mp_text (mp_get (body, "cloud_provider")), "aws"))
        fail_field (req, E_CONFLICT, "cloud_profile_id", "is not a profile of aws");
    account_t account = {
        .region = s_setting (req, deploy, "region") ? s_setting (req, deploy, "region")
                                                    : s_pick (req, body, "region", "region"),
        .key_id = s_pick (req, given, "access_key_id", "aws_access_key_id"),
        .secret = s_pick (req, given, "secret_access_key", "aws_secret_access_key"),
        .session = s_pick (req, given, "session_token", "aws_session_token") };
    if (!account.key_id || !account.secret)
        fail_field (req, E_CONFLICT, "cloud_profile_id", "its credentials have no %s",
                    account.key_id ? "secret_access_key" : "access_key_id");
    if (!s_is_word (account.region))
        fail_field (req, E_CONFLICT, "region", "is needed, as us-east-1");
    const char *endpoint = actor_opt (req_actor (req), "states-endpoint");
    bool own = endpoint && *endpoint;
    account.endpoint = own ? endpoint
                           : req_print (req, "https://states.%s.amazonaws.com/", account.region);
    account.allow = own ? s_allowed (req, endpoint) : NULL;
    return account;
}

//  ---- calls ----

typedef struct {
    int status;
    const char *error, *message;     //  error: its name, "StateMachineDoesNotExist"
    mp_t body;
} answer_t;

static CO answer_t
s_call (req_t *req, const account_t *account, const char *action, mp_t body)
{
    char why [160];
    buf_t *json = req_buf (req), *read = req_buf (req);
    json_write (body, json);
    const char **headers = req_alloc (req, 4 * sizeof *headers);
    headers [0] = "Content-Type: application/x-amz-json-1.0";
    headers [1] = req_print (req, "X-Amz-Target: AWSStepFunctions.%s", action);
    headers [2] = account->session ? req_print (req, "X-Amz-Security-Token: %s", account->session)
                                   : NULL;
    fetch_t *what = req_alloc (req, sizeof *what);
    *what = (fetch_t) { .method = "POST", .url = account->endpoint, .headers = headers,
                        .body = buf_text (json), .timeout = CALL_MS, .allow = account->allow,
                        .sigv4 = req_print (req, "aws:amz:%s:states", account->region),
                        .user = account->key_id, .password = account->secret };
    fetched_t got = fetch (req, what);
    answer_t answer = { .status = got.status, .message = got.error };
    if (got.status == 0 || !json_read (got.body, read, why, sizeof why))
        return answer;
    answer.body = mp_buf (read);
    if (got.status < 300)
        return answer;
    const char *type = s_pick (req, answer.body, "__type", "code");
    const char *name = type ? strrchr (type, '#') : NULL;
    answer.error = name ? name + 1 : type ? type : "";
    answer.message = s_pick (req, answer.body, "message", "Message");
    return answer;
}

//  NULL when it was done.
static const char *
s_failure (req_t *req, const char *action, const answer_t *answer, bool *theirs)
{
    if (answer->status >= 200 && answer->status < 300)
        return NULL;
    *theirs = answer->status >= 400 && answer->status < 500;
    if (answer->status == 0)
        return req_print (req, "aws step functions: %s", answer->message);
    return req_print (req, "aws step functions refused %s: %s%s%.300s", action,
                      answer->error ? answer->error : "", answer->message ? ": " : "",
                      answer->message ? answer->message : "");
}

static bool
s_is (const answer_t *answer, const char *error)
{
    return answer->error && strcmp (answer->error, error) == 0;
}

//  ---- what a deployment asks ----

CO void
aws_prepare (req_t *req, deploy_t *deploy)
{
    char why [GRAPH_WHY];
    buf_t *json = req_buf (req);
    if (!s_setting (req, deploy, "role_arn"))
        fail_field (req, E_CONFLICT, "config",
                    "needs role_arn, the role that the state machine takes");
    const asl_t how = { .pipeline = deploy->pipeline, .name = deploy->name,
                        .runner = s_setting (req, deploy, "runner_function_arn"),
                        .athena_output = s_setting (req, deploy, "athena_output"),
                        .athena_workgroup = s_setting (req, deploy, "athena_workgroup"),
                        .http_connection = s_setting (req, deploy, "http_connection_arn") };
    if (!asl_write (deploy->graph, &how, json, why))
        fail_field (req, E_CONFLICT, "config", "%s", why);
    deploy->definition = req_copy (req, buf_text (json));
    s_account (req, deploy);
}

static CO answer_t
s_update (req_t *req, const account_t *account, const deploy_t *deploy, const char *arn)
{
    buf_t *body = req_buf (req);
    mp_put_map (body, 3);
    mp_pair_str (body, "stateMachineArn", arn);
    mp_pair_str (body, "definition", deploy->definition);
    mp_pair_str (body, "roleArn", s_setting (req, deploy, "role_arn"));
    return s_call (req, account, "UpdateStateMachine", mp_buf (body));
}

//  One that we made before we died has our name, in the account that the role is of.
static const char *
s_our_arn (req_t *req, const account_t *account, const deploy_t *deploy)
{
    const char *role = s_setting (req, deploy, "role_arn"), *at = role ? strstr (role, "::") : NULL;
    size_t size = at ? strspn (at + 2, "0123456789") : 0;
    return size == 12 ? req_print (req, "arn:aws:states:%s:%.12s:stateMachine:busbar-%s",
                                   account->region, at + 2, deploy->pipeline)
                      : NULL;
}

CO const char *
aws_install (req_t *req, deploy_t *deploy, bool *theirs)
{
    account_t account = s_account (req, deploy);
    answer_t answer = { 0 };
    if (deploy->arn) {
        answer = s_update (req, &account, deploy, deploy->arn);
        if (!s_is (&answer, "StateMachineDoesNotExist"))
            return s_failure (req, "UpdateStateMachine", &answer, theirs);
    }
    buf_t *body = req_buf (req);
    mp_put_map (body, 4);
    mp_pair_str (body, "name", req_print (req, "busbar-%s", deploy->pipeline));
    mp_pair_str (body, "definition", deploy->definition);
    mp_pair_str (body, "roleArn", s_setting (req, deploy, "role_arn"));
    mp_pair_str (body, "type", "STANDARD");
    answer = s_call (req, &account, "CreateStateMachine", mp_buf (body));
    const char *arn = s_our_arn (req, &account, deploy);
    if (s_is (&answer, "StateMachineAlreadyExists") && arn) {
        deploy->arn = arn;
        answer = s_update (req, &account, deploy, arn);
        return s_failure (req, "UpdateStateMachine", &answer, theirs);
    }
    const char *why = s_failure (req, "CreateStateMachine", &answer, theirs);
    if (!why)
        deploy->arn = s_pick (req, answer.body, "stateMachineArn", "stateMachineArn");
    return why || deploy->arn ? why : "aws step functions named no state machine";
}

CO const char *
aws_remove (req_t *req, deploy_t *deploy, bool *theirs)
{
    account_t account = s_account (req, deploy);
    const char *arn = deploy->arn ? deploy->arn : s_our_arn (req, &account, deploy);
    if (!arn)
        return NULL;
    buf_t *body = req_buf (req);
    mp_put_map (body, 1);
    mp_pair_str (body, "stateMachineArn", arn);
    answer_t answer = s_call (req, &account, "DeleteStateMachine", mp_buf (body));
    return s_is (&answer, "StateMachineDoesNotExist")
               ? NULL : s_failure (req, "DeleteStateMachine", &answer, theirs);
}
