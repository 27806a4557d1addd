//  sandbox.h -- kernels in boxes: bubblewrap with own process, network, IPC and user namespaces, no
//  file of the host but /usr and a few of /etc, all that can be written on memory disks of limited
//  size, system calls filtered, resources limited.
//
//  A box is one process tree. Its sockets are reached through descriptors of their inodes, so
//  nothing of a box is on our disk.

#ifndef KERNELS_SANDBOX_H
#define KERNELS_SANDBOX_H

#include "actors/kit/process.h"
#include "actors/kit/sandbox_argv.h"
#include "actors/kit/spawner.h"
#include "proto/loop.h"
#include "proto/text.h"
#include "jupyter.h"

typedef struct sandbox sandbox_t;
typedef struct box box_t;

typedef struct {
    const char *dir;         //  kernels without sandbox get directories here
    bool unsandboxed;        //  run them bare where no sandbox is possible
    uint32_t uid_base, uid_count;        //  own uid per kernel when started by root
    unsigned disk;           //  MiB of /tmp, of /dev/shm, and largest file
    unsigned processes;      //  per kernel
} sandbox_conf_t;

//  `spawner` is what spawner_start answered; it is ours now.
sandbox_t *sandbox_new (loop_t *loop, int spawner, const sandbox_conf_t *conf);
void sandbox_destroy (sandbox_t **self_p);

//  Try the kinds of sandbox, best first. `done` hears what is in use ("own uid", "user namespace",
//  "none"), or NULL and why not.
void sandbox_probe (sandbox_t *self, void (*done) (void *arg, const char *kind, const char *why),
                    void *arg);
//  NULL before the probe ended and when there is none.
const char *sandbox_kind (const sandbox_t *self);

#define BOX_FIRST_FD (SPAWNER_FIRST_FD + BOX_FD_OWN + 1)

typedef struct {
    const char *const *argv;             //  {connection_file} is replaced
    const char *const *env;              //  name, value, …
    const char *kernel;                  //  its kernelspec's name
    const char *key;                     //  that signs its messages
    const char *dir;                     //  its kernelspec's directory: visible too; NULL: none
    //  Further descriptors that it sees from BOX_FIRST_FD on, not without
    //  sandbox.
    int fds [2];
    size_t fd_count;
} box_conf_t;

typedef struct {
    //  All sockets are bound.
    void (*bound) (void *arg, const char *const endpoints [JUPYTER_CHANNELS]);
    //  The tree is gone; `status` as of waitpid, -1 unknown. `said`: the last it wrote to its
    //  standard output and error.
    void (*ended) (void *arg, int status, text_t said);
    //  What box_measure found.
    void (*measured) (void *arg, process_tree_t tree);
    void *arg;
} box_life_t;

//  NULL without sandbox, or when no uid is free. `life` is not called from here.
box_t *box_start (sandbox_t *sandbox, const box_conf_t *conf, const box_life_t *life);
//  Ends it as well; nothing is called any more.
void box_destroy (box_t **self_p);

void box_signal (box_t *self, int signo);         //  to the kernel's own process
void box_kill (box_t *self);                      //  everything in it
//  Ask how large it is. Above `closer` bytes pages shared between its processes are counted once.
void box_measure (box_t *self, uint64_t closer);

#endif
