//  life.c -- bringing row and processes of a cluster together: whatever was heard of the processes,
//  or wanted by the owner, is settled by one coroutine per cluster, one committed step at a time.

#include <stdio.h>
#include <stdlib.h>

#include "autoscale.h"
#include "clusters.h"

#define READY_PATIENCE 30000     //  ms that workers have to join a scheduler that answers

cluster_t *
cluster_find (req_t *req, const char *id)
{
    hash_t *clusters = clusters_of (req)->clusters;
    return clusters ? hash_get (clusters, text_of (id)) : NULL;
}

static bool
s_in (const cluster_t *self, const char *details)
{
    size_t size = strlen (self->detail);
    for (const char *at = details; (at = strstr (at, self->detail)); at += size)
        if ((at == details || at [-1] == '|') && (at [size] == '|' || !at [size]))
            return true;
    return false;
}

static void
s_set_detail (cluster_t *self, const char *detail)
{
    snprintf (self->detail, sizeof self->detail, "%s", detail);
}

void
cluster_leave (void *item)
{
    cluster_t *self = item;
    if (self->nodes)
        self->provider->leave (&self->nodes);
    free (self->runtime);
    free (self->termination);
    free (self);
}

//  ---- what its processes say ----

static clusters_t *s_clusters;           //  callbacks have only one argument

static void
s_on_begun (void *arg, text_t runtime)
{
    cluster_t *self = arg;
    free (self->runtime);
    self->runtime = text_copy (runtime);
    cluster_settle (s_clusters, self);
}

static void
s_on_said (void *arg, const report_t *report)
{
    cluster_t *self = arg;
    self->report = *report;
    self->report.why = NULL;
    if (report->why)
        snprintf (self->why, sizeof self->why, "%s", report->why);
    self->heard = true;
    cluster_settle (s_clusters, self);
}

static void
s_on_ended (void *arg, const char *why)
{
    cluster_t *self = arg;
    self->nodes = NULL;
    self->ended = true;
    self->heard = false;
    snprintf (self->why, sizeof self->why, "%s", why);
    cluster_settle (s_clusters, self);
}

static void
s_begin (clusters_t *clusters, cluster_t *self, bool attach, mp_t runtime)
{
    const nodes_conf_t conf = { self->id, self->type, self->target };
    const nodes_calls_t calls = { s_on_begun, s_on_said, s_on_ended, self };
    const char *why = NULL;
    self->ended = self->heard = false;
    self->lost = 0;
    self->began = loop_now (clusters->actor->loop);
    self->report = (report_t) { 0 };
    if (attach)
        self->nodes = self->provider->attach (self->provider, &conf, runtime, &calls, &why);
    else
        self->nodes = self->provider->start (self->provider, &conf, &calls, &why);
    if (self->nodes)
        return;
    self->ended = true;
    snprintf (self->why, sizeof self->why, "%s", why);
}

//  ---- its row ----

static void
s_configure (req_t *req, cluster_t *self, row_t row)
{
    buf_t *config = req_buf (req);
    char error [64];
    const char *text = row_str (row, "cluster_config");
    self->autoscale = row_bool (row, "auto_scaling");
    self->least = row_int (row, "min_workers");
    self->most = row_int (row, "max_workers");
    self->target = row_int (row, "num_workers");
    bool good = text && json_read (text_of (text), config, error, sizeof error);
    mp_t map = good ? mp_buf (config) : mp_none;
    double idle = mp_real (mp_get (map, "idle_minutes")), lower;
    self->idle_limit = (int64_t) (60 * idle);
    if (idle > 0 && self->idle_limit == 0)
        self->idle_limit = 1;
    self->lower_after = mp_real_get (mp_get (map, "scale_down_seconds"), &lower) ? (int64_t) lower
                                                                                 : 30;
}

cluster_t *
cluster_adopt (req_t *req, row_t row)
{
    clusters_t *clusters = clusters_of (req);
    cluster_t *self = cluster_find (req, row_str (row, "id"));
    if (self)
        return self;
    s_clusters = clusters;
    self = xcalloc (1, sizeof *self);
    snprintf (self->id, sizeof self->id, "%s", row_str (row, "id"));
    snprintf (self->user, sizeof self->user, "%s", row_str (row, "user_id"));
    snprintf (self->type, sizeof self->type, "%s", row_str (row, "compute_type"));
    s_set_detail (self, row_str (row, "state_detail"));
    self->provider = clusters->local;
    self->workers = row_int (row, "workers");
    s_configure (req, self, row);
    hash_put (clusters->clusters, text_of (self->id), self);
    const char *text = row_str (row, "runtime");
    buf_t *room = req_buf (req);
    char error [64];
    mp_t runtime = text && json_read (text_of (text), room, error, sizeof error) ? mp_buf (room)
                                                                                 : mp_none;
    s_begin (clusters, self, !s_in (self, "provisioning"), runtime);
    self->lost = mp_int (mp_get (runtime, "lost"));
    if (self->nodes && s_in (self, "stopping|restarting"))
        self->provider->stop (self->nodes, false);
    cluster_settle (clusters, self);
    return self;
}

typedef struct {
    const char *from, *status, *detail, *event, *details, *termination;
    const char *endpoint, *workers, *wanted, *runtime;
} move_to_t;

//  One step of its life, committed; false when its row is not where it was believed to be.
static CO bool
s_move (req_t *req, const char *id, const move_to_t *to)
{
    cluster_t *self = cluster_find (req, id);
    unit_t *unit = unit_new (req);
    unit_guard (unit, owner_key (req, self->user));
    unit_add (unit, "cluster_move", NULL, id, to->from, to->status, to->detail, to->event,
              to->details, to->termination, to->endpoint, to->workers, to->wanted, to->runtime);
    row_t row = unit_commit (unit);
    self = cluster_find (req, id);
    if (!self)
        return false;
    if (!row_none (row) && row_str (row, "id")) {
        s_set_detail (self, to->detail);
        if (to->workers)
            self->workers = strtoll (to->workers, NULL, 10);
        return true;
    }
    if (row_none (row))
        self->deleted = true;
    else
        s_set_detail (self, row_str (row, "was"));
    return false;
}

static const char *
s_number (req_t *req, int64_t number)
{
    return req_print (req, "%lld", (long long) number);
}

static const char *
s_quoted (req_t *req, const char *text)
{
    buf_t *out = req_buf (req);
    json_quote (text_of (text), out);
    buf_putc (out, 0);
    return (const char *) out->data;
}

//  ---- steps: each answers whether it did something, so that all is looked at again ----

static void
s_forget (req_t *req, const char *id)
{
    hash_del (clusters_of (req)->clusters, text_of (id));
}

static CO bool
s_settle_end (req_t *req, const char *id)
{
    cluster_t *self = cluster_find (req, id);
    if (self->deleted) {
        s_forget (req, id);
        return false;
    }
    if (s_in (self, "restarting")) {
        s_begin (clusters_of (req), self, false, mp_none);
        if (self->nodes)
            return true;
    }
    const char *termination =
        self->termination ? req_copy (req, text_of (self->termination)) : NULL;
    if (s_in (self, "stopping"))
        s_move (req, id, &(move_to_t) { .from = "stopping", .status = "stopped",
                                        .detail = "stopped", .termination = termination });
    else if (!s_in (self, AT_REST)) {
        if (!termination)
            termination = req_print (
                req, "{\"code\":\"DRIVER_ERROR\",\"type\":\"INTERNAL_ERROR\",\"message\":%s}",
                s_quoted (req, self->why));
        s_move (req, id, &(move_to_t) { .from = UNDER_WAY, .status = "error", .detail = "failed",
                                        .event = "DRIVER_UNAVAILABLE",
                                        .termination = termination });
    }
    self = cluster_find (req, id);
    //  Wanted again meanwhile?
    if (self && self->ended && (s_in (self, AT_REST) || self->deleted))
        s_forget (req, id);
    return false;
}

static CO bool
s_settle_begun (req_t *req, const char *id)
{
    cluster_t *self = cluster_find (req, id);
    const char *runtime = req_copy (req, text_of (self->runtime));
    bool again = s_in (self, "restarting");
    s_move (req, id, &(move_to_t) { .from = "provisioning|restarting", .status = "starting",
                                    .detail = "starting", .workers = "0", .runtime = runtime,
                                    .event = again ? "CREATING" : NULL });
    self = cluster_find (req, id);
    if (self) {
        free (self->runtime);
        self->runtime = NULL;
    }
    return true;
}

static CO bool
s_settle_ready (req_t *req, const char *id)
{
    clusters_t *clusters = clusters_of (req);
    cluster_t *self = cluster_find (req, id);
    int64_t now = loop_now (clusters->actor->loop), waited = now - self->began;
    if (!self->report.up && waited > clusters->start_timeout && !self->termination) {
        cluster_end (clusters, self,
                     "{\"code\":\"START_TIMEOUT\",\"type\":\"INTERNAL_ERROR\","
                     "\"message\":\"its scheduler did not answer in time\"}", true);
        return true;
    }
    if (!self->report.up || (self->report.workers < self->target && waited < READY_PATIENCE))
        return false;
    const char *variable, *workers = s_number (req, self->report.workers);
    int port;
    return s_move (req, id, &(move_to_t) {
        .from = "starting", .status = "running", .detail = "running", .event = "RUNNING",
        .details = req_print (req, "{\"workers\":%s}", workers), .workers = workers,
        .endpoint = self->provider->endpoint (self->type, &variable, &port) });
}

static CO bool
s_settle_loss (req_t *req, const char *id)
{
    cluster_t *self = cluster_find (req, id);
    int64_t lost = self->report.lost, count = lost - self->lost, workers = self->report.workers;
    unit_t *unit = unit_new (req);
    unit_guard (unit, owner_key (req, self->user));
    unit_add (unit, "cluster_set", id, s_number (req, workers),
              req_print (req, "{\"lost\":%lld}", (long long) lost), "NODES_LOST",
              req_print (req, "{\"count\":%lld,\"why\":%s}", (long long) count,
                         s_quoted (req, self->why)));
    unit_commit (unit);
    self = cluster_find (req, id);
    if (self) {
        self->lost = lost;
        self->workers = workers;
    }
    return true;
}

static CO bool
s_resize (req_t *req, const char *id, int64_t wanted, const char *cause)
{
    cluster_t *self = cluster_find (req, id);
    int64_t from = self->target;
    const char *details =
        req_print (req, "{\"from\":%lld,\"to\":%lld,\"desired\":%lld,\"cause\":\"%s\"}",
                   (long long) from, (long long) wanted, (long long) self->report.desired, cause);
    if (!s_move (req, id, &(move_to_t) { .from = SERVING, .status = "running", .detail = "resizing",
                                         .event = "RESIZING", .details = details,
                                         .wanted = s_number (req, wanted) }))
        return false;
    self = cluster_find (req, id);
    self->target = wanted;
    if (self->nodes)
        self->provider->resize (self->nodes, wanted);
    return true;
}

//  Workers came or went.
static CO bool
s_settle_workers (req_t *req, const char *id)
{
    cluster_t *self = cluster_find (req, id);
    int64_t now = self->report.workers;
    const char *workers = s_number (req, now);
    bool all = now >= self->target;
    if ((s_in (self, "resizing") && now == self->target) || (s_in (self, "degraded") && all))
        return s_move (req, id, &(move_to_t) {
            .from = self->detail, .status = "running", .detail = "running", .workers = workers,
            .event = now > self->workers || s_in (self, "degraded") ? "UPSIZE_COMPLETED"
                                                                    : "RUNNING",
            .details = req_print (req, "{\"workers\":%s}", workers) });
    if (s_in (self, "running") && !all)
        return s_move (req, id, &(move_to_t) { .from = "running", .status = "running",
                                               .detail = "degraded", .workers = workers });
    if (now == self->workers)
        return false;
    unit_t *unit = unit_new (req);
    unit_guard (unit, owner_key (req, self->user));
    unit_add (unit, "cluster_set", id, workers, NULL, NULL, NULL);
    unit_commit (unit);
    self = cluster_find (req, id);
    if (self)
        self->workers = now;
    return true;
}

static CO bool
s_settle_load (req_t *req, const char *id)
{
    clusters_t *clusters = clusters_of (req);
    cluster_t *self = cluster_find (req, id);
    if (self->idle_limit && self->report.idle >= self->idle_limit
        && s_move (req, id, &(move_to_t) {
               .from = SERVING, .status = "stopped", .detail = "stopping", .event = "TERMINATING",
               .details = "{\"reason\":\"INACTIVITY\"}" })) {
        self = cluster_find (req, id);
        cluster_end (clusters, self,
                     req_print (req, "{\"code\":\"INACTIVITY\",\"type\":\"SUCCESS\","
                                     "\"message\":\"nothing ran for %lld s\"}",
                                (long long) self->idle_limit), false);
        return true;
    }
    if (!self->autoscale || !s_in (self, SERVING))
        return false;
    int64_t wanted = autoscale (loop_now (clusters->actor->loop), self->target,
                                self->report.desired, self->least,
                                self->most < clusters->workers_max ? self->most
                                                                   : clusters->workers_max,
                                1000 * self->lower_after, &self->lower_since);
    return wanted != self->target && s_resize (req, id, wanted, "autoscaling");
}

//  The owner wants something else than before.
static CO bool
s_settle_edit (req_t *req, const char *id)
{
    cluster_find (req, id)->edited = false;
    row_t row = db_row (req, "cluster_get", NULL, id);
    cluster_t *self = cluster_find (req, id);
    if (!self || row_none (row))
        return false;
    int64_t had = self->target;
    s_configure (req, self, row);
    int64_t wanted = self->target;
    self->target = had;
    if (wanted == had)
        return true;
    if (s_in (self, SERVING))
        return s_resize (req, id, wanted, "user");
    self->target = wanted;
    if (self->nodes)
        self->provider->resize (self->nodes, wanted);
    return true;
}

static CO bool
s_step (req_t *req, const char *id)
{
    cluster_t *self = cluster_find (req, id);
    if (!self)
        return false;
    if (self->runtime && !self->ended)
        return s_settle_begun (req, id);
    if (self->ended)
        return s_settle_end (req, id);
    if (self->deleted)
        return false;
    if (self->edited)
        return s_settle_edit (req, id);
    if (!self->heard)
        return false;
    if (s_in (self, "starting"))
        return s_settle_ready (req, id);
    if (!s_in (self, SERVING))
        return false;
    if (self->report.lost > self->lost)
        return s_settle_loss (req, id);
    return s_settle_workers (req, id) || s_settle_load (req, id);
}

//  However it ended: what failed is tried again by the tick.
static void
s_settled (void *arg)
{
    char *id = arg;
    cluster_t *self =
        s_clusters->clusters ? hash_get (s_clusters->clusters, text_of (id)) : NULL;
    if (self)
        self->settling = false;
    free (id);
}

static CO void
s_settle (req_t *req)
{
    const char *id = req_arg (req);
    req_defer (req, s_settled, req_arg (req));
    cluster_t *self;
    do {
        self = cluster_find (req, id);
        if (self)
            self->again = false;
        while (s_step (req, id))
            ;
        self = cluster_find (req, id);
    } while (self && self->again);
}

CO void
clusters_tick (req_t *req)
{
    clusters_t *clusters = clusters_of (req);
    text_t key;
    void *item;
    if (!clusters->clusters)
        return;
    for (size_t at = 0; hash_each (clusters->clusters, &at, &key, &item);)
        ((cluster_t *) item)->again = true;
    //  One at a time: a coroutine that ends at once changes the table.
    for (size_t at = 0; hash_each (clusters->clusters, &at, &key, &item);) {
        cluster_t *self = item;
        if (!self->again || self->settling)
            continue;
        cluster_settle (clusters, self);
        at = 0;
    }
}

void
cluster_settle (clusters_t *clusters, cluster_t *self)
{
    self->again = true;
    if (self->settling)
        return;
    self->settling = true;
    char *id = xstrdup (self->id);
    if (!actor_spawn (clusters->actor, s_settle, id)) {
        self->settling = false;
        free (id);
    }
}

void
cluster_end (clusters_t *clusters, cluster_t *self, const char *why, bool at_once)
{
    free (self->termination);
    self->termination = xstrdup (why);
    if (self->nodes)
        self->provider->stop (self->nodes, at_once);
    else
        self->ended = true;
    cluster_settle (clusters, self);
}
