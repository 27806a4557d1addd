//  provider.h -- whatever gives a cluster its machines: starts them, keeps as many workers as are
//  wanted, says how they are, ends them. Knows nothing of the bus or the database.

#ifndef CLUSTERS_PROVIDER_H
#define CLUSTERS_PROVIDER_H

#include "proto/loop.h"
#include "proto/mp.h"

typedef struct nodes nodes_t;            //  the machines (processes) of one cluster
typedef struct provider provider_t;

//  How a cluster is.
typedef struct {
    bool up;                     //  its scheduler answers
    int64_t workers;             //  registered there
    int64_t desired;             //  that it could use now
    int64_t lost;                //  workers lost since it was started
    int64_t idle;                //  s without work
    const char *why;             //  of the last loss; NULL: none
} report_t;

typedef struct {
    //  It has begun: what is needed to find it again, a JSON object. Called once, not from start.
    void (*begun) (void *arg, text_t runtime);
    void (*said) (void *arg, const report_t *report);
    //  The last word: all of it is gone. `why` is a sentence for its owner.
    void (*ended) (void *arg, const char *why);
    void *arg;
} nodes_calls_t;

typedef struct {
    const char *id;              //  of the cluster
    const char *type;            //  "dask", "ray", "spark"
    int64_t workers;
} nodes_conf_t;

struct provider {
    const char *name;
    //  Name of the setting without which it cannot serve such clusters; NULL: it can. `given`: it
    //  has a value, but there is no driver for it.
    const char *(*missing) (provider_t *self, const char *type, bool *given);
    //  Does such a cluster say how much it has to do? Without that it neither grows nor stops by
    //  itself.
    bool (*tells_load) (const char *type);
    //  NULL with `why`: nothing was begun.
    nodes_t *(*start) (provider_t *self, const nodes_conf_t *conf, const nodes_calls_t *calls,
                       const char **why);
    //  Find again what another process of ours began. NULL with `why`: it is gone.
    nodes_t *(*attach) (provider_t *self, const nodes_conf_t *conf, mp_t runtime,
                        const nodes_calls_t *calls, const char **why);
    void (*resize) (nodes_t *nodes, int64_t workers);
    //  In order, or at once; `ended` follows.
    void (*stop) (nodes_t *nodes, bool at_once);
    //  Forget them, without ending them; nothing is called any more.
    void (*leave) (nodes_t **nodes_p);
    //  What a program reaches the scheduler under, and under which environment name it is given.
    const char *(*endpoint) (const char *type, const char **variable, int *port);
};

#endif
