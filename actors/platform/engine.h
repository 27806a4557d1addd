//  engine.h -- what runs statements: the guest database, Trino, the databases behind data sources.
//
//  A statement runs in one coroutine of the statement service. It opens a run, pulls batches of
//  rows until one is not ENGINE_ROWS, and closes it. Pulling is the back-pressure: an engine has at
//  most about one batch in memory, and lets the server wait. All functions are called on the loop
//  thread.

#ifndef ENGINE_H
#define ENGINE_H

#include "actors/kit/actor.h"

#define ENGINE_BATCH 65536       //  bytes of rows after which a batch is full (a row more fits)
#define ENGINE_PARAMS 100        //  parameters at most

//  Type of a bound value, and its text. P_AUTO: a text whose type the engine finds out. Numbers are
//  as written in JSON, P_BOOL "true"/"false", times as ISO 8601; `text` NULL: SQL NULL.
typedef enum {
    P_AUTO, P_TEXT, P_INT, P_REAL, P_DECIMAL, P_BOOL, P_DATE, P_TIME, P_UUID, P_JSON
} param_type_t;

typedef struct {
    param_type_t type;
    const char *text;
} param_t;

typedef struct {
    char *name;                  //  unique in the result
    const char *type;            //  the engine's own word: "int4", "varchar(10)"
} engine_column_t;

typedef enum { ENGINE_ROWS, ENGINE_DONE, ENGINE_FAILED } engine_step_t;

//  Whose fault an error is. FAULT_USER: the statement's; FAULT_LIMIT: it wanted more than it may
//  have; FAULT_PLATFORM: the engine's or ours, worth a second try; FAULT_TIMEOUT: the deadline;
//  FAULT_CANCELLED: engine_cancel, and the engine has confirmed that it stopped; FAULT_LOST: nobody
//  knows whether it stopped, or happened.
typedef enum {
    FAULT_NONE, FAULT_USER, FAULT_LIMIT, FAULT_PLATFORM, FAULT_TIMEOUT, FAULT_CANCELLED, FAULT_LOST
} engine_fault_t;

typedef struct engine engine_t;

//  One statement under way. Memory of what the engine puts here: the request's (req_copy …).
typedef struct {
    //  Given, and not changed while it runs.
    const engine_t *engine;
    req_t *req;                  //  the coroutine's own context: no caller, no deadline
    const char *user;            //  UUID: whose statement it is
    const char *id;              //  of the statement, UUID: for the engine's own logs
    const char *source;          //  id of a data source, NULL: none
    void *target;                //  what engine_sources_t found out about the source
    const char *sql;  //  one statement; parameters stand in it as $1, $2, … (engine_marks)
    const param_t *params;
    size_t param_count;
    bool explain;                //  tell the plan instead of running it
    bool read_only;              //  must change nothing, whatever its text says
    size_t rows, bytes;          //  deliver at most that, then ENGINE_DONE with `truncated`
    int64_t deadline;            //  ms for all of it, from `open` on

    //  Said by the engine. Columns before the first batch is returned, none for a statement without
    //  rows; the rest at any time, last when a pull answers ENGINE_DONE or ENGINE_FAILED.
    engine_column_t *columns;
    size_t column_count;
    bool truncated;              //  there were more rows than the limits let through
    int64_t changed;             //  rows that it changed; -1: it does not say
    const char *tag;             //  "INSERT 0 3"; or NULL
    int progress;                //  percent; -1: unknown
    const char *engine_id;       //  its own id of the statement; or NULL
    const char *info;            //  where to look at it there; or NULL

    engine_fault_t fault;        //  of ENGINE_FAILED
    const char *code;            //  of the engine: SQLSTATE, errorName; "" when it has none
    const char *message;         //  may be shown to the user; no credentials, no addresses
    const char *hint;            //  or NULL
    int position;                //  of the error in `sql`, characters from 1; 0: unknown

    bool cancelled;  //  engine_cancel was called: what came first, it or the end, counts
    void *state;                 //  the engine's own
} engine_run_t;

struct engine {
    const char *name;            //  as statements name it: "postgresql", "trino", "mariadb"
    //  Begin: connect, submit. ENGINE_ROWS: goes on; else it is over (fault and message are set).
    CO engine_step_t (*open) (engine_run_t *run);
    //  Append the next rows: each a JSON array of values and a newline. Times, and numbers that
    //  JSON can't hold: as text. Answers when a batch is full or nothing came for a while, maybe
    //  with no row; `count` rises by the rows appended.
    CO engine_step_t (*pull) (engine_run_t *run, buf_t *rows, size_t *count);
    //  Ask it to stop; called once, from another coroutine or the loop, between `open`'s begin and
    //  `close`. open or pull then answer, when the engine has confirmed: ENGINE_FAILED with
    //  FAULT_CANCELLED, or ENGINE_DONE when it had finished. FAULT_LOST when it can't be had.
    void (*cancel) (engine_run_t *run);
    //  Give everything back; called once after `open`, whatever that answered. Stops what still
    //  runs.
    void (*close) (engine_run_t *run);
};

//  ENGINE_FAILED, with what went wrong said in the run (message is copied).
engine_step_t engine_fail (engine_run_t *run, engine_fault_t fault, const char *code,
                           const char *format, ...) __attribute__ ((format (printf, 4, 5)));
//  The name for the next column: told apart from the names before it ("n", "n_2").
char *engine_column_name (req_t *req, const engine_column_t *columns, size_t count,
                          const char *name);

//  Write `sql` with each $n outside of texts, names and comments replaced by `mark` ("?"); `order`
//  hears which parameter (from 0) stands at each mark. How many there are; -1: one names no
//  parameter below `params`, or there are more than `room`.
int engine_marks (const char *sql, const char *mark, size_t params, buf_t *out, int *order,
                  size_t room);

//  The engine of a data source of this user, and what its run needs to know (request memory) in
//  *target. Fails the request: 404 on `source_id` when it is not theirs, 409 when it can't be
//  asked.
typedef const engine_t *(engine_sources_t) (req_t *req, const char *user, const char *source_id,
                                            void **target);
//  Said once at start by who keeps the data sources.
void engine_use_sources (engine_sources_t *sources);

//  Called after each statement that succeeded, once that is committed, in its coroutine.
typedef void (engine_noted_t) (const engine_run_t *run);
void engine_use_notes (engine_noted_t *noted);

#endif
