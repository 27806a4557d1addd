//  process.h -- one child process of the supervisor. super.c decides when; here is how.

#ifndef PROCESS_H
#define PROCESS_H

#include "super.h"

typedef struct process process_t;

struct process {
    process_spec_t spec;         //  our copies; `argv`, `envp` in block lists
    super_t *super;
    process_t *next;
    pid_t pid;                   //  0: not running
    int64_t since;               //  loop ms of the last start
    bool told;                   //  was sent its stop signal
    bool over;                   //  a finished job
    ltimer_t *again;             //  restart, or the end of patience while stopping
    int64_t backoff;             //  ms before the next restart
    int64_t recent [10];         //  loop ms of the last restarts, oldest at `oldest`
    size_t oldest;
    uint64_t restarts;
    int out;                     //  foreign: our end of its stdout and stderr, else -1
    watch_t *watch;
    buf_t line;                  //  foreign: what came since the last newline
};

process_t *process_new (super_t *super, const process_spec_t *spec);
void process_destroy (process_t **self_p);
//  Fork and execute. False: fork failed; what fails later shows as exit code 127.
bool process_start (process_t *self, loop_t *loop, const place_t *place);
//  It has ended: read what it still had to say.
void process_ended (process_t *self);

#endif
