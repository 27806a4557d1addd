//  actions.c -- start, stop, restart, resize: the guarded transition first, then the processes.

#include "clusters.h"

#define FORGET_EVERY 10          //  ms between looks whether an end has been settled

clusters_t *
clusters_of (req_t *req)
{
    return req_actor (req)->state;
}

static const char *
s_user (req_t *req)
{
    if (!req_user (req))
        fail (req, E_UNAUTHORIZED, "a user is needed for this method");
    return req_user (req);
}

//  The caller's cluster, and its owner's claim. Another instance's answer is passed on: then there
//  is no row.
static CO row_t
s_mine (req_t *req)
{
    row_t row = db_row (req, "cluster_get", s_user (req), req_id (req));
    if (row_none (row))
        fail (req, E_NOT_FOUND, "cluster not found");
    owner_take (req, req_user (req));
    return row;
}

static void
s_illegal (req_t *req, const char *was, const char *to)
{
    buf_t *details = req_buf (req);
    mp_put_map (details, 2);
    mp_pair_str (details, "from", was);
    mp_pair_str (details, "to", to);
    fail_details (req, E_CONFLICT, mp_buf (details), "cluster is %s, it can't become %s", was, to);
}

//  Commit the transition; 409 with both states when it is none.
static CO void
s_move (req_t *req, const char *from, const char *status, const char *detail, const char *event,
        const char *details, const char *wanted)
{
    const char *id = req_id (req);
    unit_t *unit = unit_new (req);
    unit_guard (unit, owner_key (req, req_user (req)));
    unit_add (unit, "cluster_move", req_user (req), id, from, status, detail, event, details, NULL,
              NULL, NULL, wanted, NULL);
    row_t row = unit_commit (unit);
    if (row_none (row))
        fail (req, E_NOT_FOUND, "cluster not found");
    if (!row_str (row, "id"))
        s_illegal (req, row_str (row, "was"), detail);
    cluster_t *cluster = cluster_find (req, id);
    if (cluster)
        snprintf (cluster->detail, sizeof cluster->detail, "%s", detail);
}

static CO void
s_answer (req_t *req, unsigned status)
{
    reply_again (req);
    reply_row (req, status, db_row (req, "cluster_get", req_user (req), req_id (req)));
}

//  What nobody could do is not silently left out.
static void
s_check_load (req_t *req, const provider_t *provider, row_t row)
{
    const char *type = row_str (row, "compute_type"), *text = row_str (row, "cluster_config");
    buf_t *config = req_buf (req);
    char error [64];
    if (provider->tells_load (type))
        return;
    if (row_bool (row, "auto_scaling"))
        fail_field (req, E_CONFLICT, "auto_scaling",
                    "is not possible: %s on %s does not tell its load", type, provider->name);
    if (text && json_read (text_of (text), config, error, sizeof error)
        && mp_real (mp_get (mp_buf (config), "idle_minutes")) > 0)
        fail_field (req, E_CONFLICT, "cluster_config",
                    "idle_minutes is not possible: %s on %s does not tell its load", type,
                    provider->name);
}

//  Can it be started at all? Before anything is written.
static CO void
s_check_start (req_t *req, row_t row)
{
    clusters_t *clusters = clusters_of (req);
    const char *type = row_str (row, "compute_type");
    bool given;
    provider_t *provider =
        provider_for (clusters, row_str (row, "node_type"), row_str (row, "cloud_provider"));
    const char *setting = provider->missing (provider, type, &given);
    if (setting) {
        buf_t *details = req_buf (req);
        mp_put_map (details, 1);
        mp_pair_str (details, "setting", setting);
        fail_details (req, E_CONFLICT, mp_buf (details),
                      given ? "there is no driver for %s on %s, which %s names"
                            : "%s on %s is not configured: set %s",
                      type, provider->name, setting);
    }
    s_check_load (req, provider, row);
    if (clusters->closing)
        fail (req, E_UNAVAILABLE, "clusters are being restarted");
    if (clusters->refusal)
        fail (req, E_CONFLICT, "%s", clusters->refusal);
    if (row_int (row, "num_workers") > clusters->workers_max)
        fail_field (req, E_CONFLICT, "num_workers",
                    "is above clusters.local-workers, which is %lld",
                    (long long) clusters->workers_max);
    int64_t running = row_int (db_row (req, "clusters_running_of", req_user (req)), "n");
    if (running >= clusters->per_user)
        fail (req, E_RATE_LIMITED, "%lld of your clusters run already", (long long) running);
}

void
action_start (req_t *req)
{
    const char *id = req_id (req);
    row_t row = s_mine (req);
    const char *detail = row_str (row, "state_detail");
    if (strcmp (detail, "stopped") == 0 || strcmp (detail, "failed") == 0)
        s_check_start (req, row);
    s_move (req, AT_REST, "starting", "provisioning", "STARTING", NULL, NULL);
    //  Its last end may be committed, but not settled.
    while (cluster_find (req, id))
        req_sleep (req, FORGET_EVERY);
    cluster_adopt (req, db_row (req, "cluster_get", req_user (req), id));
    s_answer (req, 202);
}

void
action_stop (req_t *req)
{
    clusters_t *clusters = clusters_of (req);
    s_mine (req);
    s_move (req, UNDER_WAY, "stopped", "stopping", "TERMINATING", "{\"reason\":\"USER_REQUEST\"}",
            NULL);
    cluster_t *cluster = cluster_find (req, req_id (req));
    if (cluster)
        cluster_end (clusters, cluster,
                     "{\"code\":\"USER_REQUEST\",\"type\":\"SUCCESS\",\"message\":\"stopped\"}",
                     false);
    s_answer (req, 200);
}

void
action_restart (req_t *req)
{
    row_t row = s_mine (req);
    const char *detail = row_str (row, "state_detail");
    if (strcmp (detail, "stopped") == 0 || strcmp (detail, "failed") == 0)
        s_illegal (req, detail, "restarting");
    s_move (req, SERVING, "starting", "restarting", "RESTARTING", NULL, NULL);
    cluster_t *cluster = cluster_find (req, req_id (req));
    if (cluster && cluster->nodes)
        cluster->provider->stop (cluster->nodes, false);
    else if (cluster)
        cluster->ended = true;
    s_answer (req, 202);
}

void
action_resize (req_t *req)
{
    clusters_t *clusters = clusters_of (req);
    int64_t wanted = req_int (req, "num_workers");
    row_t row = s_mine (req);
    if (wanted > clusters->workers_max)
        fail_field (req, E_CONFLICT, "num_workers",
                    "is above clusters.local-workers, which is %lld",
                    (long long) clusters->workers_max);
    s_move (req, SERVING, "running", "resizing", "RESIZING",
            req_print (req, "{\"from\":%s,\"to\":%lld,\"cause\":\"user\"}",
                       row_str (row, "num_workers"), (long long) wanted),
            req_print (req, "%lld", (long long) wanted));
    cluster_t *cluster = cluster_find (req, req_id (req));
    if (cluster) {
        cluster->target = wanted;
        if (cluster->nodes)
            cluster->provider->resize (cluster->nodes, wanted);
    }
    s_answer (req, 200);
}

void
action_events (req_t *req)
{
    if (row_none (db_row (req, "cluster_get", s_user (req), req_id (req))))
        fail (req, E_NOT_FOUND, "cluster not found");
    reply_rows (req, 200, db_rows (req, "cluster_events", req_id (req), req_str (req, "before"),
                                   req_str (req, "limit")));
}

//  ---- for other actors ----

static CO row_t
s_of (req_t *req)
{
    row_t row = db_row (req, "cluster_get", req_str (req, "user"), req_str (req, "id"));
    if (row_none (row))
        fail (req, E_NOT_FOUND, "cluster not found");
    return row;
}

void
action_check (req_t *req)
{
    reply_row (req, 200, s_of (req));
}

//  How a program in a sandbox reaches the scheduler: which socket is to be relayed to which port of
//  its own, and under which names it looks for that.
void
action_relay (req_t *req)
{
    row_t row = s_of (req);
    provider_t *local = clusters_of (req)->local;
    const char *variable, *endpoint;
    char path [108];
    int port;
    endpoint = local->endpoint (row_str (row, "compute_type"), &variable, &port);
    local_relay (local, row_str (row, "id"), path);
    buf_t *body = req_buf (req);
    mp_put_map (body, 4);
    mp_pair_str (body, "status", row_str (row, "status"));
    mp_pair_str (body, "socket", path);
    mp_pair_int (body, "port", port);
    mp_put_str (body, "environment");
    mp_put_map (body, 1);
    mp_pair_str (body, variable, endpoint);
    reply_mp (req, 200, mp_buf (body));
}
