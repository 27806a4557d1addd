//  kernels.h -- what the files of the kernels actor share.

#ifndef KERNELS_H
#define KERNELS_H

#include "actors/kit/actor.h"
#include "pool.h"
#include "proto/hash.h"

typedef struct {
    actor_t *actor;
    sandbox_t *sandbox;
    char dir [256];          //  of kernels without sandbox; the sandbox borrows it
    pool_t *pool;
    char *refusal;           //  why no kernel can be started here; NULL: none
    hash_t *records;         //  executions alive in this process, by id
    hash_t *claims;          //  keys of the notebooks whose claim we have
    hash_t *shown;           //  kernels that users see, by id (shown.c)
    hash_t *guests;          //  users whose guest role this process has seen to
    hash_t *full;            //  users whose tables take more than they may
    bool closing;
} kernels_t;

kernels_t *kernels_of (req_t *req);

//  ---------------------------------------------------------------- records: executions alive here

typedef struct waiter waiter_t;
typedef struct record record_t;

//  Something that stops an execution that is not a kernel's cell.
typedef void (record_stop_fn) (record_t *record);

struct record {
    kernels_t *kernels;
    char id [37];
    char *channel, *notebook, *language, *user;
    kernel_t *kernel;        //  while its cell runs or waits there
    cell_t *cell;            //  until the kernel forgets it
    record_stop_fn *stop;
    void *job;               //  of whoever set `stop`

    size_t pending;          //  events on their way into the database
    bool begun;              //  the row says "running", or is about to
    bool ending;             //  finished here, but not in the database
    bool over;               //  finished in the database
    bool stale;              //  outputs changed after that
    bool fenced;             //  another process has the notebook: nothing is written any more
    bool saving;
    int64_t last;            //  offset of its last committed event
    waiter_t *waiters;

    //  For the row, once it is finished.
    const char *state;
    int64_t count;
    char *error, *text, *outputs;        //  error NULL: none
    bool truncated;
    uint64_t dropped;
};

//  A record lives until nothing refers to it any more; look it up again after a suspension.
record_t *record_new (kernels_t *kernels, const char *id, const char *channel, const char *notebook,
                      const char *language, const char *user);
record_t *record_get (kernels_t *kernels, const char *id);
//  Nothing will run: forget it when nobody waits.
void record_release (record_t *self);

void record_begin (record_t *self);
void record_event (record_t *self, const char *type, text_t data);
//  `error`, `text` and `outputs` are taken (malloc); once all events are kept the row follows.
void record_end (record_t *self, const char *state, int64_t count, char *error, char *text,
                 char *outputs, bool truncated, uint64_t dropped);

//  Wait until the execution is over, or something new of it was kept (`any`), or `ms` passed.
CO void record_wait (req_t *req, const char *id, bool any, int64_t ms);

//  What kernels call.
extern const kernel_calls_t record_calls;
//  How many are not over.
size_t records_alive (const kernels_t *kernels);

//  ---------------------------------------------------------------- executions

extern const field_t execution_fields [];
CO void execution_start (req_t *req);
CO void execution_get (req_t *req);
CO void execution_list (req_t *req);
CO void execution_events (req_t *req);
CO void execution_interrupt (req_t *req);
CO void execution_input (req_t *req);

//  ---------------------------------------------------------------- SQL cells

//  Run it in a coroutine of its own; tells the record.
void sql_start (record_t *record, const char *owner, const char *code);
//  Has this user more SQL cells under way than one may have?
bool sql_full (const kernels_t *kernels, const char *owner);
//  A user's login in the guest database; made when there is none yet. False: not available.
CO bool guest_open (req_t *req, const char *owner, const char **role, const char **password);
CO void guest_answer (req_t *req);
CO void guest_forget (req_t *req, const char *user);

//  Tell who owns it of a state of a kernel.
void kernel_show (kernels_t *kernels, const kernel_t *kernel, const char *state);

//  ---------------------------------------------------------------- who serves a notebook

#define NOTEBOOK_KEY 64

//  The key of a notebook's claim; the other one is kept as long as the request.
void notebook_key_write (char out [NOTEBOOK_KEY], const char *notebook);
const char *notebook_key (req_t *req, const char *notebook);
//  Commit one statement under that claim, however long the database is away. The failure that it
//  answers is final: claim_is_fence, or a fault of the statement.
CO db_result_t notebook_commit (req_t *req, const char *notebook, const char *statement,
                                const char *const *params, size_t count);
//  Everything written about a notebook's executions is under its claim.
CO void notebook_take (req_t *req, const char *notebook);
//  Another process has it: its kernels end, its records are not written any more.
void notebook_fenced (actor_t *actor, const char *key);
//  Executions under a claim that nobody holds are lost.
CO void notebook_orphans (req_t *req);
CO void notebook_release (req_t *req);

#endif
