//  kernel.h -- one kernel: its life, the queue of its cells, interrupts that get harsher, the watch
//  over its memory.
//
//  Knows nothing of the bus or the database: cells in, what happens to them out.

#ifndef KERNELS_KERNEL_H
#define KERNELS_KERNEL_H

#include "jupyter.h"
#include "output.h"
#include "relay.h"
#include "sandbox.h"
#include "spec.h"

typedef struct kernel kernel_t;

//  One execution while this process knows it. The kernel owns it from kernel_run on, until
//  `forgotten`.
typedef struct cell {
    struct cell *next;
    char id [37];
    char *cell_id;               //  the notebook's own name for it, or NULL
    char *code;
    void *arg;                   //  of whoever made it

    char request [JUPYTER_ID];   //  empty while queued
    output_t *output;
    bool dirty;                  //  output waits for the next flush
    bool asked;                  //  waits for input
    bool interrupted;            //  somebody wanted it to end
    //  NULL until finished: "succeeded", "failed", "aborted", "cancelled"
    const char *outcome;
    int64_t execution_count;     //  0: none
    int64_t began, ended;        //  on the loop's clock; 0: not yet
    buf_t error;                 //  JSON {ename, evalue, traceback}; empty: none
} cell_t;

cell_t *cell_new (const char *id, const char *cell_id, text_t code, size_t cap);

typedef struct {
    void (*began) (void *arg, cell_t *cell);
    //  Type behind "execution.", data as JSON. Also after `finished`, when a thread of the cell
    //  goes on speaking.
    void (*event) (void *arg, cell_t *cell, const char *type, text_t data);
    void (*finished) (void *arg, cell_t *cell);
    //  Output changed after it had finished.
    void (*changed) (void *arg, cell_t *cell);
    //  Last word about a cell: it is freed now.
    void (*forgotten) (void *arg, cell_t *cell);
    //  State changed. With "dead" it is the last word about the kernel, which is freed now.
    void (*kernel) (void *arg, kernel_t *kernel, const char *state);
    void *arg;
} kernel_calls_t;

//  Shared by all kernels.
typedef struct {
    loop_t *loop;
    void *zmq;
    sandbox_t *sandbox;
    uint64_t memory;             //  bytes resident that a kernel may use
    size_t output;               //  bytes of output kept per cell
    int64_t start_timeout;       //  ms
    kernel_calls_t calls;
} kernel_conf_t;

//  Start one; `to` is what it is attached to, or NULL. NULL when no process can be started.
kernel_t *kernel_new (const kernel_conf_t *conf, const spec_t *spec, const char *language,
                      const attachment_t *to);
//  End everything at once (shutdown of this process): cells are freed, nothing is told.
void kernel_destroy (kernel_t **self_p);

//  Whom it serves: notebook (with language), user, and which session apart from the notebook's own
//  (NULL: none). Unassigned kernels are the warm pool.
void kernel_assign (kernel_t *self, const char *notebook, const char *user, const char *session);
const char *kernel_notebook (const kernel_t *self);
const char *kernel_session (const kernel_t *self);
//  Is that its session? NULL: the notebook's own.
bool kernel_serves (const kernel_t *self, const char *session);
const char *kernel_user (const kernel_t *self);
//  Id of the cluster that it is attached to; empty: none.
const char *kernel_cluster (const kernel_t *self);

void kernel_run (kernel_t *self, cell_t *cell);
//  A queued cell is cancelled at once; for the running one SIGINT now and after 3 s, SIGTERM after
//  10 s, SIGKILL after 15 s.
void kernel_interrupt (kernel_t *self, cell_t *cell);
//  False: the cell does not ask.
bool kernel_input (kernel_t *self, cell_t *cell, text_t value);
//  Shut down politely, then less so; or at once. Its cells are aborted with `why`.
void kernel_stop (kernel_t *self, const char *why, bool at_once);

//  "starting", "idle", "busy", "interrupting", "stopping", "dead"
const char *kernel_state (const kernel_t *self);
const char *kernel_language (const kernel_t *self);
const char *kernel_id (const kernel_t *self);
bool kernel_unused (const kernel_t *self);        //  nothing runs and nothing waits
int64_t kernel_used (const kernel_t *self);       //  when it last had work, on the loop's clock
uint64_t kernel_memory (const kernel_t *self);    //  at the last look
uint64_t kernel_traffic (kernel_t *self);         //  bytes it sent since the last call
size_t kernel_queued (const kernel_t *self);

#endif
