//  clusters -- cloud profiles and compute clusters; owns their life cycle.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/kit/spawner.h"
#include "clusters.h"

SQL_FILE (clusters_sql, "db/queries/clusters.sql");

#define PROBE_PATIENCE 15000     //  ms

static clusters_t s_clusters;
static int s_spawner = -1;

static opt_t s_options [] = {
    { "ray-python", OPT_STR, NULL, 0, NULL, "a python that has ray, for local clusters of it" },
    { "spark-home", OPT_STR, NULL, 0, NULL, "where a Spark is installed; there is no driver yet" },
    { "aws-provider", OPT_STR, NULL, 0, NULL, "clusters on AWS; there is no driver yet" },
    { "azure-provider", OPT_STR, NULL, 0, NULL, "clusters on Azure; there is no driver yet" },
    { "gcp-provider", OPT_STR, NULL, 0, NULL, "clusters on Google; there is no driver yet" },
    { "local-workers", OPT_INT, "16", 0, NULL, "workers that a local cluster may have" },
    { "worker-memory", OPT_INT, "1024", 0, NULL, "MiB that a local worker may use" },
    { "cluster-disk", OPT_INT, "512", 0, NULL, "MiB of temporary files of a local cluster" },
    { "cluster-processes", OPT_INT, "1024", 0, NULL, "processes and threads of a local cluster" },
    { "clusters-per-user", OPT_INT, "4", 0, NULL, "clusters of one user that may run at once" },
    { "cluster-start", OPT_INT, "120", 0, NULL, "seconds until a scheduler must answer" },
    { "uid-base", OPT_INT, "61200", 0, NULL,
      "first of the uids of local clusters, when root starts them" },
    { "uid-count", OPT_INT, "256", 0, NULL, "how many uids there are" },
    { 0 }
};

static const resource_t profile = {
    .name = "cloud_profile",
    .path = "/cloud-profiles",
    .table = "cloud_profiles",
    .ops = CRUD,
    .owner = "user_id",
    .parent_of = "cloud_profile",
    .before_create = profile_before_create,
    .before_update = profile_before_update,
    .tag = "cloud_profiles",
    .doc = "an account with a cloud, and the credentials to use it",
    .fields = (const field_t []) {
        { "name", T_TEXT, REQUIRED | FILTER | SORT, .min = 1, .max = 255 },
        { "cloud_provider", T_ENUM, REQUIRED | FILTER, .values = "aws|azure|gcp",
          .also = "provider" },
        { "region", T_TEXT, REQUIRED, .min = 1, .max = 100 },
        { "credentials_encrypted", T_OBJECT, SECRET | NULLABLE, .also = "credentials",
          .doc = "kept sealed, never returned; given again, or null, when cloud_provider changes" },
        { "has_credentials", T_BOOL, READONLY, .sql = "t.credentials_encrypted IS NOT NULL" },
        { "external_id", T_TEXT, NULLABLE, .max = 255 },
        { "custom_domain", T_TEXT, NULLABLE, .max = 255 },
        { "stack_id", T_TEXT, NULLABLE, .max = 255 },
        { "status", T_ENUM, 0, .values = "active|inactive|error", .def = "inactive" },
        { 0 } }
};

static const resource_t cluster = {
    .name = "cluster",
    .path = "/compute-clusters",
    .table = "compute_clusters",
    .ops = CRUD,
    .owner = "user_id",
    .parent_of = "compute_cluster",
    .before_create = cluster_before_create,
    .before_update = cluster_before_update,
    .before_delete = cluster_before_delete,
    .after_change = cluster_after_change,
    .tag = "compute_clusters",
    .doc = "machines that compute together",
    .fields = (const field_t []) {
        { "cloud_profile_id", T_UUID, NULLABLE | FILTER },
        { "cloud_profile_name", T_TEXT, READONLY,
          .sql = "(SELECT p.name FROM cloud_profiles p WHERE p.id = t.cloud_profile_id)" },
        { "name", T_TEXT, REQUIRED | FILTER | SORT, .min = 1, .max = 255 },
        { "compute_type", T_ENUM, REQUIRED | FILTER, .values = "spark|dask|ray" },
        { "node_type", T_TEXT, 0, .min = 1, .max = 100, .def = "local" },
        { "num_workers", T_INT, 0, .min = 1, .max = 1000, .def = "2" },
        { "auto_scaling", T_BOOL, 0, .def = "false" },
        { "min_workers", T_INT, 0, .min = 1, .max = 1000, .def = "1" },
        { "max_workers", T_INT, 0, .min = 1, .max = 1000, .def = "10" },
        { "cluster_config", T_OBJECT, 0, .def = "{}",
          .doc = "idle_minutes: stop when nothing ran so long; scale_down_seconds (30)" },
        { "status", T_ENUM, READONLY | FILTER,
          .values = "starting|running|stopped|terminated|error" },
        { "state_detail", T_TEXT, READONLY },
        { "state_seq", T_INT, READONLY },
        { "termination", T_OBJECT, READONLY | NULLABLE, .doc = "{code, type, message}" },
        { "endpoint_url", T_TEXT, READONLY | NULLABLE },
        { "dashboard_url", T_TEXT, READONLY | NULLABLE,
          .doc = "null on this machine: Dask's and Ray's need what Debian does not have" },
        { "workers", T_INT, READONLY, .doc = "alive now" },
        { "started_at", T_TIME, READONLY | NULLABLE },
        { 0 } }
};

static const field_t resize_fields [] = {
    { "num_workers", T_INT, REQUIRED, .min = 1, .max = 1000 }, { 0 } };
static const field_t events_fields [] = {
    { "limit", T_INT, .min = 1, .max = 1000, .def = "100" },
    { "before", T_INT, .min = 1, .max = INT64_MAX, .doc = "only events before that id" }, { 0 } };
static const field_t event_out [] = { { "id", T_INT }, { "cluster_id", T_UUID }, { "at", T_TIME },
                                      { "type", T_TEXT }, { "state_seq", T_INT },
                                      { "details", T_OBJECT }, { 0 } };
static const field_t of_fields [] = { { "id", T_UUID, REQUIRED }, { "user", T_UUID, REQUIRED },
                                      { 0 } };

static const route_t routes [] = {
    RESOURCE (profile),
    ACTION ("cloud_profiles.credentials", NULL, NULL, profile_credentials,
            .spec.auth = AUTH_OPERATOR, .spec.in = of_fields, .spec.idempotent = true,
            .spec.doc = "Opened credentials of a user's profile, for actors that deploy"),
    ACTION ("cloud_profiles.check", NULL, NULL, profile_check, .spec.auth = AUTH_OPERATOR,
            .spec.in = of_fields, .spec.idempotent = true,
            .spec.doc = "A user's profile, for actors that refer to it"),
    RESOURCE (cluster),
    ACTION ("compute_clusters.start", "POST", "/compute-clusters/:id/start", action_start,
            .resource = &cluster, .serial = BY_ID, .spec.key = "user", .spec.status = 202,
            .spec.events = "cluster.updated", .spec.doc = "Start a stopped or failed cluster"),
    ACTION ("compute_clusters.stop", "POST", "/compute-clusters/:id/stop", action_stop,
            .resource = &cluster, .serial = BY_ID, .spec.key = "user",
            .spec.events = "cluster.updated", .spec.doc = "Stop a cluster"),
    ACTION ("compute_clusters.restart", "POST", "/compute-clusters/:id/restart", action_restart,
            .resource = &cluster, .serial = BY_ID, .spec.key = "user", .spec.status = 202,
            .spec.events = "cluster.updated", .spec.doc = "Stop and start a running cluster"),
    ACTION ("compute_clusters.resize", "POST", "/compute-clusters/:id/resize", action_resize,
            .resource = &cluster, .serial = BY_ID, .spec.key = "user", .spec.in = resize_fields,
            .spec.events = "cluster.updated",
            .spec.doc = "Give a running cluster more workers, or fewer"),
    ACTION ("compute_clusters.events", "GET", "/compute-clusters/:id/events", action_events,
            .spec.in = events_fields, .spec.out = event_out, .spec.reply = "array",
            .spec.doc = "What happened to a cluster, newest first"),
    ACTION ("compute_clusters.check", NULL, NULL, action_check, .spec.auth = AUTH_OPERATOR,
            .resource = &cluster, .spec.in = of_fields, .spec.idempotent = true,
            .spec.doc = "A user's cluster, for actors that refer to it"),
    ACTION ("compute_clusters.relay", NULL, NULL, action_relay, .spec.auth = AUTH_OPERATOR,
            .spec.in = of_fields, .spec.idempotent = true,
            .spec.doc = "How a sandbox of this machine reaches a user's cluster"),
    { 0 }
};

//  And compute_clusters/<id>, the log of one.
static const dependant_t dependants [] = { { "user", user_gone }, { 0 } };
static const tick_t ticks [] = { { 1000, clusters_tick }, { 0 } };

//  ---- start and end ----

typedef struct {
    req_t *req;
    bool done;
} probing_t;

static void
s_on_probed (void *arg, const char *kind, const char *why)
{
    probing_t *probing = arg;
    probing->done = true;
    if (kind)
        log_info ("clusters run in a sandbox", "kind", kind);
    else {
        s_clusters.refusal =
            text_format ("clusters can't run here: they need a sandbox, and none is possible (%s)",
                         why);
        log_warn ("no local cluster will be started", "why", why);
    }
    req_wake (probing->req);
}

//  Of instances on one machine each has a quarter of the uids.
static uint32_t
s_uid_base (const actor_t *actor, uint32_t count)
{
    const char *number = strrchr (actor->slot, '.');
    uint32_t instance = number ? (uint32_t) strtoul (number + 1, NULL, 10) : 1;
    return (uint32_t) opt_int (s_options, "uid-base") + (instance + 3) % 4 * count;
}

static CO void
s_load (req_t *req)
{
    actor_t *actor = req_actor (req);
    uint32_t uids = (uint32_t) opt_int (s_options, "uid-count") / 4;
    snprintf (s_clusters.dir, sizeof s_clusters.dir, "%s/c", actor->var_dir);
    s_clusters.actor = actor;
    s_clusters.clusters = hash_new (cluster_leave);
    s_clusters.workers_max = opt_int (s_options, "local-workers");
    s_clusters.per_user = opt_int (s_options, "clusters-per-user");
    clouds_read (s_options);
    s_clusters.start_timeout = 1000 * opt_int (s_options, "cluster-start");
    s_clusters.local = local_new (actor->loop, s_spawner, &(local_conf_t) {
        .dir = s_clusters.dir, .ray_python = opt_str (s_options, "ray-python"),
        .spark_home = opt_str (s_options, "spark-home"),
        .memory = (unsigned) opt_int (s_options, "worker-memory"),
        .disk = (unsigned) opt_int (s_options, "cluster-disk"),
        .processes = (unsigned) opt_int (s_options, "cluster-processes"),
        .uid_base = s_uid_base (actor, uids), .uid_count = uids });
    probing_t probing = { .req = req };
    local_probe (s_clusters.local, s_on_probed, &probing);
    int64_t until = loop_now (actor->loop) + PROBE_PATIENCE;
    while (!probing.done && loop_now (actor->loop) < until)
        req_sleep (req, until - loop_now (actor->loop));
    if (!probing.done)
        fail (req, E_INTERNAL, "sandbox cannot be tried");
    actor->state = &s_clusters;
    //  What the predecessor of this process looked after.
    owner_orphans (req);
}

static void
s_drain (actor_t *actor)
{
    (void) actor;
    s_clusters.closing = true;
}

//  Clusters go on without us.
static bool
s_busy (actor_t *actor)
{
    (void) actor;
    if (s_clusters.clusters)
        hash_destroy (&s_clusters.clusters);
    if (s_clusters.local)
        local_destroy (&s_clusters.local);
    free (s_clusters.refusal);
    s_clusters.refusal = NULL;
    return false;
}

int
main (int argc, char **argv)
{
    s_spawner = spawner_start ();
    if (s_spawner < 0 || !spawner_drop_root (argc, argv)) {
        perror ("busbar-clusters");
        return 70;
    }
    return actor_main (argc, argv, &(actor_t) {
        .name = "clusters", .sql = (const char *const []) { clusters_sql, NULL }, .routes = routes,
        .dependants = dependants, .every = ticks, .options = s_options, .load = s_load,
        .drain = s_drain, .busy = s_busy, .on_fenced = owner_fenced, .orphans = owner_orphans });
}
