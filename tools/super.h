//  super.h -- the supervisor: starts processes, keeps them running, ends them in order.
//
//  One loop, no threads, no ZeroMQ: it forks at any time. Children die with it
//  (PR_SET_PDEATHSIG), also when it is killed.

#ifndef SUPER_H
#define SUPER_H

#include "busbar.h"
#include "proto/loop.h"

typedef struct super super_t;

//  Stages are started by the caller in this order and ended here in the reverse order.
typedef enum {
    STAGE_DATABASE,
    STAGE_BROKER,
    STAGE_ACTOR,
    STAGE_EDGE,
    STAGE_JOB,
    STAGE_COUNT
} stage_t;

typedef struct {
    const char *name, *slot;     //  "identity", "identity.1"; copied
    stage_t stage;
    char *const *argv, *const *envp;     //  copied; argv [0] is a path
    text_t secrets;  //  name=value lines to be read from descriptor 3; empty: no descriptor
    bool privileged;             //  stays root when we are
    bool foreign;  //  does not write our log lines: we make log lines of what it prints
    bool talks;                  //  its standard output is ours, not the log
    int stop_signal, death_signal;       //  0: SIGTERM, SIGKILL
    int64_t patience;            //  ms between the stop signal and SIGKILL (0: 12 s)

    //  A job ends by itself; anything else is started again. With `work` it is a function run in
    //  a fork of ours instead of a program.
    int (*work) (void *arg);
    void (*done) (void *arg, int code);  //  the job's exit code, 128 + signal when it was killed
    void *arg;
} process_spec_t;

//  `ended` is called once nothing runs any more, with the exit code of the whole (0, or 1 after a
//  process that would not stay up, or a `super_fail`).
super_t *super_new (loop_t *loop, const place_t *place, void (*ended) (void *arg, int code),
                    void *arg);
void super_destroy (super_t **self_p);

void super_run (super_t *self, const process_spec_t *spec);
//  Send a signal to every process of this name (SIGHUP to the edges).
void super_signal (super_t *self, const char *name, int signo);
//  End everything, stage by stage. Called again: at once.
void super_stop (super_t *self);
//  The same, with exit code 1.
void super_fail (super_t *self);

//  Keep this list of what runs, as JSON, up to date in the run directory (tests and `top` read it).
void super_publish (super_t *self, int port);

#endif
