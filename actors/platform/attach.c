//  attach.c -- clusters and cloud profiles that workspaces, notebooks and others refer to: whose
//  they are is asked of the actor that owns them, and what goes is let go.

#include "attach.h"

//  404 on the field unless it is the user's own.
static CO void
s_check (req_t *req, const char *method, const char *field, const char *user, const char *what)
{
    const char *id = req_str (req, field);
    if (!id)
        return;
    buf_t *params = req_buf (req);
    mp_put_map (params, 2);
    mp_pair_str (params, "id", id);
    mp_pair_str (params, "user", user);
    bus_reply_t reply = req_call (req, method, mp_buf (params), mp_none,
                                  &(req_call_t) { .idempotent = true, .operator = true });
    if (reply.status == 404)
        fail_field (req, E_NOT_FOUND, field, "no such %s", what);
    if (reply.status >= 400)
        fail_reply (req, &reply);
}

CO void
attach_cluster (req_t *req, const char *user)
{
    s_check (req, "compute_clusters.check", "cluster_id", user, "cluster");
}

CO void
attach_profile (req_t *req, const char *user)
{
    s_check (req, "cloud_profiles.check", "cloud_profile_id", user, "cloud profile");
}

CO void
cluster_gone (req_t *req, const char *id)
{
    unit_t *unit = unit_new (req);
    unit_also (unit, "queries_detach", id);
    unit_add (unit, "notebooks_detach", id);
    unit_commit (unit);
}

CO void
profile_gone (req_t *req, const char *id)
{
    unit_t *unit = unit_new (req);
    unit_also (unit, "catalogs_detach", id);
    unit_add (unit, "workspaces_detach", id);
    unit_commit (unit);
}

CO void
workspace_before_create (req_t *req)
{
    attach_profile (req, req_user (req));
}

CO void
workspace_before_update (req_t *req)
{
    if (!req_str (req, "cloud_profile_id"))
        return;
    row_t row = workspace_of (req, req_id (req), NULL, true);
    attach_profile (req, row_str (row, "user_id"));
}
