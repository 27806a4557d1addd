//  clusters.h -- what the files of the clusters actor share.

#ifndef CLUSTERS_H
#define CLUSTERS_H

#include "actors/kit/actor.h"
#include "actors/kit/secret.h"
#include "local.h"
#include "proto/hash.h"

//  Details by what they allow.
#define AT_REST "stopped|failed|terminated"
#define UNDER_WAY "provisioning|starting|running|resizing|degraded|restarting"
#define SERVING "running|resizing|degraded"

//  A cluster with processes, while this actor looks after it.
typedef struct {
    char id [37], user [37], type [8];
    provider_t *provider;
    nodes_t *nodes;              //  NULL: not begun, or ended
    //  As its row says.
    char detail [16];
    int64_t target, least, most, workers, lost;
    bool autoscale;
    int64_t idle_limit;          //  s without work until it is stopped; 0: never
    int64_t lower_after;         //  s that fewer workers must suffice until some go
    //  As it was heard.
    report_t report;
    char why [512];              //  of the last loss, or of the end
    bool heard, ended;
    char *runtime;               //  to be written down; NULL: is
    //  As it goes on.
    int64_t began, lower_since;  //  on the loop's clock; lower_since 0: it needs all
    char *termination;           //  JSON: why it is being stopped; NULL: the user wanted it
    bool edited;                 //  its row was changed by its owner
    bool deleted;                //  its row is gone, or about to be
    bool settling, again;
} cluster_t;

typedef struct {
    actor_t *actor;
    provider_t *local;
    char dir [256];
    char *refusal;               //  why no local cluster can be started; NULL: none
    hash_t *clusters;            //  those that have, or are to have, processes: by id
    int64_t start_timeout;       //  ms
    int64_t workers_max, per_user;
    bool closing;
} clusters_t;

clusters_t *clusters_of (req_t *req);

//  ---------------------------------------------------------------- life.c
cluster_t *cluster_find (req_t *req, const char *id);
//  Look after it from now on, as its row (of cluster_get or clusters_alive) says.
cluster_t *cluster_adopt (req_t *req, row_t row);
//  Bring row and processes together, soon.
void cluster_settle (clusters_t *clusters, cluster_t *cluster);
//  Settle all: what failed, and what waits for a time.
CO void clusters_tick (req_t *req);
//  Its processes end; `why` is JSON for the column termination, or NULL.
void cluster_end (clusters_t *clusters, cluster_t *cluster, const char *why, bool at_once);
//  Forget it, without ending its processes.
void cluster_leave (void *cluster);

//  ---------------------------------------------------------------- takeover.c
const char *owner_key (req_t *req, const char *user);
//  What this user's clusters do is ours to write from now on.
CO void owner_take (req_t *req, const char *user);
CO void owner_orphans (req_t *req);
void owner_fenced (actor_t *actor, const char *key);

//  ---------------------------------------------------------------- actions.c
CO void action_start (req_t *req);
CO void action_stop (req_t *req);
CO void action_restart (req_t *req);
CO void action_resize (req_t *req);
CO void action_events (req_t *req);
CO void action_check (req_t *req);
CO void action_relay (req_t *req);

//  ---------------------------------------------------------------- edits.c: hooks of the resources
CO void cluster_before_create (req_t *req);
CO void cluster_before_update (req_t *req);
CO void cluster_before_delete (req_t *req);
void cluster_after_change (req_t *req, const char *id, const char *what);
void profile_before_create (req_t *req);
CO void profile_before_update (req_t *req);
CO void profile_credentials (req_t *req);
CO void profile_check (req_t *req);
CO void user_gone (req_t *req, const char *user);

//  ---------------------------------------------------------------- cloud.c
//  The provider for nodes of that type and cloud (NULL: no profile).
provider_t *provider_for (clusters_t *clusters, const char *node_type, const char *cloud);
//  The settings of clouds.
void clouds_read (const opt_t *options);

#endif
