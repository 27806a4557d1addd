//  edits.c -- what a change of a row by its owner means: limits, secrets, and what runs meanwhile.

#include "clusters.h"

#define IDLE_MAX (7 * 24 * 60)   //  minutes

//  ---- cloud profiles ----

static const char *
s_context (req_t *req, const char *user)
{
    return req_print (req, "%s/cloud_profiles/credentials", user);
}

//  Credentials are sealed before they go anywhere.
void
profile_before_create (req_t *req)
{
    const char *plain = req_str (req, "credentials_encrypted");
    if (!plain)
        return;
    buf_t *sealed = req_buf (req);
    buf_putc (sealed, '"');
    secret_seal (req_actor (req), text_of (plain), s_context (req, req_user (req)), sealed);
    buf_put (sealed, "\"", 2);
    req_set (req, "credentials_encrypted", (const char *) sealed->data);
}

//  Those for one cloud are nothing to show another one.
void
profile_before_update (req_t *req)
{
    const char *cloud = req_str (req, "cloud_provider");
    profile_before_create (req);
    if (!cloud || req_has (req, "credentials_encrypted"))
        return;
    row_t row = db_row (req, "profile_get", req_user (req), req_id (req));
    if (!row_none (row) && row_str (row, "sealed")
        && strcmp (cloud, row_str (row, "cloud_provider")) != 0)
        fail_field (req, E_INVALID, "credentials",
                    "must be given again when cloud_provider changes");
}

static CO row_t
s_profile (req_t *req)
{
    row_t row = db_row (req, "profile_get", req_str (req, "user"), req_str (req, "id"));
    if (row_none (row))
        fail (req, E_NOT_FOUND, "cloud profile not found");
    return row;
}

void
profile_check (req_t *req)
{
    row_t row = s_profile (req);
    buf_t *body = req_buf (req);
    mp_put_map (body, 3);
    mp_pair_str (body, "id", row_str (row, "id"));
    mp_pair_str (body, "name", row_str (row, "name"));
    mp_pair_str (body, "cloud_provider", row_str (row, "cloud_provider"));
    reply_mp (req, 200, mp_buf (body));
}

//  For actors that deploy in the owner's name.
void
profile_credentials (req_t *req)
{
    row_t row = s_profile (req);
    const char *sealed = row_str (row, "sealed");
    if (!sealed)
        fail_field (req, E_CONFLICT, "credentials", "cloud profile %s has no credentials",
                    row_str (row, "name"));
    buf_t *plain = req_buf (req), *body = req_buf (req);
    if (!secret_open (req_actor (req), text_of (sealed), s_context (req, req_str (req, "user")),
                      plain))
        fail_field (req, E_CONFLICT, "credentials", "can't be opened any more, set them again");
    mp_put_map (body, 5);
    mp_pair_str (body, "id", row_str (row, "id"));
    mp_pair_str (body, "name", row_str (row, "name"));
    mp_pair_str (body, "cloud_provider", row_str (row, "cloud_provider"));
    mp_pair_str (body, "region", row_str (row, "region"));
    mp_put_str (body, "credentials");
    mp_put_ext (body, MP_EXT_JSON, plain->data, plain->size);
    reply_mp (req, 200, mp_buf (body));
}

//  ---- clusters ----

static void
s_check_number (req_t *req, mp_t config, const char *name, double most)
{
    mp_t value = mp_get (config, name);
    double number;
    if (!mp_empty (value) && (!mp_real_get (value, &number) || number < 0 || number > most))
        fail_field (req, E_INVALID, "cluster_config", "%s must be a number from 0 to %g", name,
                    most);
}

//  Fields as they will be: given now, or else as the row has them.
static int64_t
s_will_be (req_t *req, row_t row, const char *field)
{
    return req_str (req, field) || row_none (row) ? req_int (req, field) : row_int (row, field);
}

static CO void
s_check (req_t *req, row_t row)
{
    mp_t config = req_any (req, "cluster_config");
    if (mp_type (config) == MP_MAP) {
        s_check_number (req, config, "idle_minutes", IDLE_MAX);
        s_check_number (req, config, "scale_down_seconds", 86400);
    }
    if (s_will_be (req, row, "min_workers") > s_will_be (req, row, "max_workers"))
        fail_field (req, E_INVALID, "min_workers", "must not be above max_workers");
    const char *profile = req_str (req, "cloud_profile_id");
    if (profile && row_none (db_row (req, "profile_get", req_user (req), profile)))
        fail_field (req, E_NOT_FOUND, "cloud_profile_id", "no such cloud profile");
}

void
cluster_before_create (req_t *req)
{
    s_check (req, (row_t) { NULL, -1 });
}

static bool
s_differs (req_t *req, row_t row, const char *field)
{
    const char *is = row_str (row, field), *to_be = req_str (req, field);
    return req_has (req, field) && strcmp (is ? is : "", to_be ? to_be : "") != 0;
}

void
cluster_before_update (req_t *req)
{
    static const char *const fixed [] = { "compute_type", "node_type", "cloud_profile_id" };
    row_t row = db_row (req, "cluster_get", req_user (req), req_id (req));
    if (row_none (row))
        fail (req, E_NOT_FOUND, "cluster not found");
    s_check (req, row);
    const char *status = row_str (row, "status");
    bool runs = strcmp (status, "running") == 0 || strcmp (status, "starting") == 0;
    for (size_t n = 0; runs && n < sizeof fixed / sizeof *fixed; n++)
        if (s_differs (req, row, fixed [n]))
            fail_field (req, E_CONFLICT, fixed [n], "can't be changed while the cluster is %s",
                        status);
    if (runs && req_int (req, "num_workers") > clusters_of (req)->workers_max)
        fail_field (req, E_CONFLICT, "num_workers",
                    "is above clusters.local-workers, which is %lld",
                    (long long) clusters_of (req)->workers_max);
    owner_take (req, req_user (req));
}

void
cluster_before_delete (req_t *req)
{
    clusters_t *clusters = clusters_of (req);
    row_t row = db_row (req, "cluster_get", req_user (req), req_id (req));
    if (row_none (row))
        fail (req, E_NOT_FOUND, "cluster not found");
    const char *status = row_str (row, "status"), *force = req_str (req, "force");
    bool runs = strcmp (status, "running") == 0 || strcmp (status, "starting") == 0;
    if (runs && (!force || strcmp (force, "true") != 0)) {
        buf_t *details = req_buf (req);
        mp_put_map (details, 2);
        mp_pair_str (details, "from", status);
        mp_pair_str (details, "to", "deleted");
        fail_details (req, E_CONFLICT, mp_buf (details),
                      "cluster is %s: stop it first, or delete it with ?force=true", status);
    }
    owner_take (req, req_user (req));
    cluster_t *cluster = cluster_find (req, req_id (req));
    if (!cluster)
        return;
    cluster->deleted = true;
    cluster_end (clusters, cluster, "{}", true);
}

void
cluster_after_change (req_t *req, const char *id, const char *what)
{
    cluster_t *cluster = cluster_find (req, id);
    if (!cluster || strcmp (what, "updated") != 0)
        return;
    cluster->edited = true;
    cluster_settle (clusters_of (req), cluster);
}

void
user_gone (req_t *req, const char *user)
{
    clusters_t *clusters = clusters_of (req);
    owner_take (req, user);
    row_t rows = db_rows (req, "clusters_of_user", user);
    for (int n = 0; n < rows_count (rows); n++) {
        const char *id = row_str (rows_at (rows, n), "id");
        cluster_t *cluster = cluster_find (req, id);
        if (cluster) {
            cluster->deleted = true;
            cluster_end (clusters, cluster, "{}", true);
        }
        saga_delete (req, "compute_cluster", id);
    }
    unit_t *unit = unit_new (req);
    unit_also (unit, "clusters_of_user_delete", user);
    unit_add (unit, "profiles_of_user_delete", user);
    unit_commit (unit);
}
