//  local.h -- the provider of clusters on this machine: each in a sandbox of its own, with a
//  network that nobody else is on.
//
//  From outside only two Unix sockets lead into a box: one to its keeper, one relayed to its
//  scheduler. Both listen since before the box began, under names that follow from the cluster's
//  id. A box outlives the actor, not the supervisor.

#ifndef CLUSTERS_LOCAL_H
#define CLUSTERS_LOCAL_H

#include "provider.h"

typedef struct {
    const char *dir;             //  of the sockets
    const char *ray_python;      //  a python that has ray; NULL: none
    const char *spark_home;      //  where Spark is; NULL: none
    unsigned memory;             //  MiB of one worker
    unsigned disk;               //  MiB of /tmp of a cluster
    unsigned processes;          //  of a cluster
    uint32_t uid_base, uid_count;        //  a uid per cluster, when root started us
} local_conf_t;

//  `spawner` is what spawner_start answered; it is the provider's now.
provider_t *local_new (loop_t *loop, int spawner, const local_conf_t *conf);
//  Boxes stay.
void local_destroy (provider_t **self_p);

//  Which kind of sandbox is possible here? `done` hears it once, NULL and why when none is.
void local_probe (provider_t *self, void (*done) (void *arg, const char *kind, const char *why),
                  void *arg);

//  Path of the socket that is relayed to a cluster's scheduler.
void local_relay (const provider_t *self, const char *id, char path [108]);

#endif
