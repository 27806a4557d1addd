//  local_inner.h -- what the files of the local provider share.

#ifndef CLUSTERS_LOCAL_INNER_H
#define CLUSTERS_LOCAL_INNER_H

#include "actors/kit/process.h"
#include "actors/kit/sandbox_argv.h"
#include "actors/kit/spawner.h"
#include "local.h"

typedef struct {
    provider_t base;
    loop_t *loop;
    int spawner;
    watch_t *watch;
    local_conf_t conf;
    bool root, usable;
    sandbox_kind_t kind;
    nodes_t *all;
    uint32_t serial, next_uid;
    struct {
        sandbox_kind_t kind;
        uint32_t serial;
        pid_t pid;
        void (*done) (void *arg, const char *kind, const char *why);
        void *arg;
    } probe;
} local_t;

typedef enum { NODES_STARTING, NODES_ALIVE, NODES_ENDED } nodes_state_t;

struct nodes {
    local_t *local;
    nodes_t *next;
    nodes_calls_t calls;
    nodes_state_t state;
    char id [37];
    bool adopted;                        //  begun by a predecessor of this process
    bool stopping;
    const char *limit;                   //  why it was killed; NULL: it was not
    uint32_t serial, uid;
    int64_t wanted;                      //  workers
    uint64_t memory;                     //  bytes that all of it may use
    pid_t pid;                           //  of its guard; 0: not known yet
    int pidfd, control;
    watch_t *death, *reader;
    ltimer_t *timer;                     //  looks at memory and silence; the end of its patience
    int64_t heard, kill_at;              //  on the loop's clock; kill_at 0: no
    buf_t line;
    char limit_text [128];
};

//  local.c
void local_ask (local_t *self, packet_kind_t kind, pid_t pid, int number);

//  local_box.c
nodes_t *box_begin (provider_t *self, const nodes_conf_t *conf, const nodes_calls_t *calls,
                    const char **why);
nodes_t *box_attach (provider_t *self, const nodes_conf_t *conf, mp_t runtime,
                     const nodes_calls_t *calls, const char **why);
void box_resize (nodes_t *self, int64_t workers);
void box_stop (nodes_t *self, bool at_once);
void box_leave (nodes_t **self_p);
//  What the spawner tells.
void box_started (nodes_t *self, const packet_t *tell, int pidfd);
void box_ended (nodes_t *self);
void box_measured (nodes_t *self, process_tree_t tree);

#endif
