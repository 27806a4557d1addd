//  guest.h -- SQL that users write: each statement on a connection of its own, or one that forgot
//  the statement before, as the guest's login role, in the guest database, with limits that the
//  statement cannot lift.
//
//  Guests are made by  SELECT base.guest_create (name, password)  in the guest database,
//  which keepers may call (guest.sql). A guest can spoil its own password and rights;
//  guest_create puts it right again. PostgreSQL has no quota on disk: ask base.guest_size (name)
//  while a statement runs that may write, and let a guest that is over it only read and free.

#ifndef GUEST_H
#define GUEST_H

#include <libpq-fe.h>

#include "../proto/error.h"
#include "../proto/loop.h"

typedef struct guest guest_t;

typedef struct {
    Oid type;                    //  0: as the statement lets infer
    const char *value;           //  text form; NULL: SQL NULL
} guest_param_t;

typedef struct {
    const char *server;          //  connection string; database, user and password are those below
    const char *database;        //  "busbar_guest"
    const char *role;            //  "guest_<32 hex digits>", also the schema
    const char *password;
    const char *keeper;          //  our own connection string to the guest database, ends sessions
                                 //  deaf to cancellation; NULL: they are only hung up on
    bool read_only;
    bool harmless;               //  it is known to change nothing; else its first word tells
    bool keep;                   //  a session of this guest that waits may serve it, and may wait
                                 //  behind it (guest_kept.h); else it has one of its own
    const guest_param_t *params; //  $1, $2, …
    size_t param_count;
} guest_conf_t;

typedef struct {
    int64_t deadline;            //  ms for all of it, connecting included
    size_t rows, bytes;          //  what is delivered at most
} guest_limits_t;

typedef struct {
    error_code_t code;           //  E_TIMEOUT also when cancelled, E_UNAVAILABLE: no log-in, lost,
                                 //  E_TOO_LARGE: a row beyond the limits
    const char *sqlstate;        //  "" when not from PostgreSQL
    const char *text;            //  about the user's own statement: may be shown to that user
    const char *detail, *hint;   //  or NULL
    int position;                //  of the error in the text, from 1; 0: unknown
    const char *tag;             //  "INSERT 0 3", "" when there is none
    size_t rows;                 //  delivered
    bool truncated;              //  there were more rows than the limits let through
    bool cancelled;
    bool unconfirmed;            //  stopped, but the server did not say so: it may still go on
    bool unknown;                //  connection lost: it may have happened
    bool unheard;                //  by the server: worth another try
    bool stale;                  //  because a kept session was over; else nobody could log in
} guest_outcome_t;

//  All run on the loop thread. Results are borrowed: one row each (row 0), or none for
//  `columns`' types.
typedef struct {
    void (*columns) (void *arg, const PGresult *result);         //  once, before the first row
    void (*row) (void *arg, const PGresult *result);
    //  Last; the guest_t is gone afterwards.
    void (*done) (void *arg, const guest_outcome_t *outcome);
} guest_calls_t;

//  By its first word: does it change nothing, however it ends? Is it a WITH, which may be either?
//  Has it a plan? Does it only make room?
bool guest_reads (const char *sql);
bool guest_combines (const char *sql);
bool guest_plans (const char *sql);
bool guest_frees (const char *sql);

//  Run one statement (the extended protocol refuses more than one). Never calls back from in here.
guest_t *guest_run (loop_t *loop, const guest_conf_t *conf, text_t sql,
                    const guest_limits_t *limits, const guest_calls_t *calls, void *arg);
//  Stop it; `done` still comes, when it has stopped, or finished before that.
void guest_cancel (guest_t *self);
//  Deliver no rows until guest_resume: the server waits. The deadline goes on. May be called from
//  `row`.
void guest_pause (guest_t *self);
void guest_resume (guest_t *self);
//  Hang up at once, at the end of a process; `done` is not called.
void guest_destroy (guest_t **self_p);

#endif
