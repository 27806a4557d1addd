//  run.h -- kinds of work that a task of a run may be.
//
//  The runner (runner.c, run.c, attempt.c) brings order, retries, timeouts, cancellation, states,
//  logs, and goes on after a restart; a kind says what its config must be, and does one attempt.

#ifndef RUN_H
#define RUN_H

#include "actors/kit/actor.h"

typedef enum {
    TASK_SUCCEEDED,
    TASK_FAILED,                 //  the user's fault: max_retries
    TASK_BROKEN,                 //  ours or the machine's, proven: max_infra_retries
    TASK_CANCELLED,              //  the engine has confirmed it
    TASK_LOST                    //  nobody can say any more how it ended
} task_end_code_t;

//  How an attempt ended. Everything in it lives as long as its request.
typedef struct {
    task_end_code_t code;
    const char *why;             //  "RUN_EXECUTION_ERROR" …; NULL: by `code`
    const char *message;         //  for people; NULL when it succeeded
    //  Of a branch: only tasks that depend on it with this outcome go on. NULL: none.
    const char *outcome;
    mp_t result;                 //  small value that later tasks may ask for; mp_none: none
} task_end_t;

typedef struct attempt attempt_t;

//  One attempt at a task, while it runs; all of it lives as long as the attempt.
typedef struct {
    const char *run, *key, *user;    //  ids; `user` is in whose name it works
    int attempt;                     //  from 1
    //  Key under which an engine begins the same thing only once, however often it is asked.
    const char *idem;
    mp_t config;                     //  of the task, as declared, `type` with it
    mp_t parameters;                 //  of the run: a map
    //  What the engine calls it, when an earlier process had told task_ref; else NULL.
    const char *ref;
    attempt_t *inner;                //  the runner's
} task_t;

typedef struct {
    const char *name;                //  "sql"
    //  May `run` be called again when an earlier process died before it told a `ref`? Only what
    //  begins once per `idem`, or does no harm twice.
    bool repeatable;
    //  Is the config right, and may the caller of req use what it names? Called when a job is
    //  saved; else fail_field (req, …, "config", …) naming `where` (the task).
    CO void (*check) (req_t *req, mp_t config, const char *where);
    //  Do it, to its end. After a restart: go on with it. Must come to an end soon after
    //  task_cancelled, and at once after task_abandoned (whatever it then answers is not kept).
    CO task_end_t (*run) (req_t *req, task_t *task);
    //  Tell the engine to stop; called beside `run`, again and again until that ends. NULL: looking
    //  at task_cancelled is enough.
    CO void (*cancel) (req_t *req, task_t *task);
    //  A job of this kind becomes several tasks: array of tasks as in a job's config, made when the
    //  run begins. NULL: it is one task.
    CO mp_t (*expand) (req_t *req, mp_t config);
} task_kind_t;

//  kinds.c: by name; NULL when there is none.
const task_kind_t *task_kind (text_t name);

//  The engine's name of what was begun, kept for a later process.
CO void task_ref (req_t *req, task_t *task, const char *ref);
//  A line of the run's log.
CO void task_log (req_t *req, const task_t *task, const char *format, ...)
    __attribute__ ((format (printf, 3, 4)));
//  The user wants it to end, or its time is over.
bool task_cancelled (const task_t *task);
//  This process will not go on with it: another one does.
bool task_abandoned (const task_t *task);
//  Wait; false: cancelled or abandoned meanwhile (or before).
CO bool task_wait (req_t *req, task_t *task, int64_t ms);
//  What an earlier task of the same run ended with: its result; mp_none when it has none.
CO mp_t task_result (req_t *req, const task_t *task, const char *key);

#endif
