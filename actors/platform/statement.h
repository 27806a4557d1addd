//  statement.h -- statements: one service in front of all engines.
//
//  A statement that runs is a statement_t of the one process that holds its user's claim, with a
//  coroutine that drives the engine; its row in the database says what others see. Requests only
//  begin statements, wait for them, and read what is stored.

#ifndef STATEMENT_H
#define STATEMENT_H

#include "engine.h"
#include "platform.h"

#define QUERY_MAX (1 << 20)              //  characters of a statement
#define STATEMENT_ROWS 10000             //  rows of a result, unless asked for more
#define STATEMENT_BYTES (8 << 20)        //  bytes of a result, unless asked for more
#define STATEMENT_ROWS_MAX 10000000
#define STATEMENT_BYTES_MAX (64 << 20)
#define STATEMENT_WAIT 30000             //  ms that POST /queries/execute waits
#define STATEMENT_TIMEOUT 600            //  seconds

typedef struct statement statement_t;
typedef struct statement_waiter statement_waiter_t;

struct statement {
    statement_t *next;
    char id [37], user [37];
    const engine_t *engine;
    char *sql, *source;          //  source NULL: none
    param_t *params;             //  with their texts, ours
    size_t param_count;
    bool explain, read_only;
    size_t rows, bytes;          //  limits
    int64_t deadline;            //  ms
    char *likeness;              //  equal for statements of which one run is enough; NULL: never

    req_t *runner;               //  its coroutine
    engine_run_t *run;           //  from open to close
    bool opened;                 //  the engine has been asked
    bool ended;                  //  its end is written, or on its way
    bool running;                //  has one of its user's places
    bool cancelled;
    bool aborted;                //  cancelled because this process ends
    bool fenced;                 //  another process has the user: nothing is written any more
    bool over;                   //  ended in the database
    //  A small one that only reads begins before its row is written, and its end may go with it.
    bool written;                //  the row is there
    bool settled;                //  the end was written with it
    bool wants;                  //  there is something to write, but for the row
    struct statement_end *end;   //  that can go with the row; NULL: it goes on
    req_t *beginner;             //  writes the row
    size_t found, told;          //  rows stored, bytes of rows told live
    size_t weight;               //  bytes of them
    buf_t columns;               //  JSON
    buf_t pending;               //  rows that are not stored yet
    size_t pending_count;
    int64_t pending_since;
    bool whole;                  //  `pending` is the whole result, for those who wait
    int64_t progress_at;         //  when it was told last

    //  Rows go to one listener instead of the database.
    bool streams, deaf;          //  deaf: the listener left
    bool held;                   //  it has more to take before the engine is asked again
    req_t *listener;

    statement_waiter_t *waiters;
};

//  ---------------------------------------------------------------- engine.c

void engine_note (const engine_run_t *run);
const engine_t *engine_of_source (req_t *req, const char *user, const char *source, void **target);
//  engine_guest.c, engine_trino.c
extern const engine_t engine_guest;
extern const engine_t engine_trino;
//  Does the operator's configuration name a Trino?
bool trino_is_configured (const actor_t *actor);

//  ---------------------------------------------------------------- params.c

typedef struct {
    const char *sql;             //  with $n
    param_t *list;
    size_t count;
} params_t;

//  Bind what the caller gave as `parameters` (absent: none); fails the request.
void params_read (req_t *req, mp_t given, const char *sql, params_t *out);

//  ---------------------------------------------------------------- statement.c

statement_t *statement_find (const char *user, const char *id);
statement_t *statement_like (const char *user, const char *likeness);
size_t statements_of (const char *user, bool running);
statement_t *statement_new (const char *user, const engine_t *engine, const char *source,
                            const params_t *params);
//  Its row is there: run it. False: too much goes on, and it is freed.
bool statement_start (actor_t *actor, statement_t *self);
//  Nothing was begun.
void statement_drop (statement_t **self_p);
void statement_cancel (statement_t *self);
//  Until it is over, or `ms` passed. True: over (it may be freed by the next suspension).
CO bool statement_wait (req_t *req, statement_t *self, int64_t ms);
//  "user:<id>": whose claim it is.
const char *statement_key (req_t *req, const char *user);
//  May one more of this user's statements run?
bool statement_has_place (const char *user);

//  statement_run.c
CO void statement_run (req_t *req);
void statement_over (statement_t *self);
void statement_wake_queued (const char *user);
void statement_free (statement_t *self);
//  Commit statements under the claim of the user, however long the database is away.
CO void statement_commit (req_t *req, statement_t *self, void (*build) (unit_t *unit, void *arg),
                          void *arg);

//  ---------------------------------------------------------------- routes
extern const resource_t query_resource, saved_query_resource, statement_resource;
extern const field_t execute_query_fields [], submit_fields [], stream_fields [], await_fields [],
    result_fields [], statement_answer [];
CO void query_execute (req_t *req);
CO void query_explain (req_t *req);
CO void query_stream (req_t *req);
CO void statement_submit (req_t *req);
CO void statement_await (req_t *req);
CO void statement_get (req_t *req);
CO void statement_result (req_t *req);
CO void statement_stop (req_t *req);
//  main.c: the life of the process.
void statements_drain (actor_t *actor);
bool statements_busy (void);
void statements_fenced (const char *key);
CO void statements_orphans (req_t *req);
CO void statements_tick (req_t *req);
CO void statements_gone (req_t *req, const char *user);
CO void queries_of_workspace_gone (req_t *req, const char *workspace);

#define STATEMENT_ROUTES                                                                           \
    RESOURCE (query_resource), RESOURCE (saved_query_resource), RESOURCE (statement_resource),     \
        ACTION ("queries.execute", "POST", "/queries/execute", query_execute,                      \
                .spec.in = execute_query_fields, .spec.out = statement_answer, .spec.key = "user", \
                .spec.blocking = true, .spec.timeout = 630000, .spec.body_max = 4 * QUERY_MAX,     \
                .spec.events = STATEMENT_EVENTS, .spec.tag = "queries",                            \
                .spec.doc = "Run a statement and wait for its end (?wait=, default 30 s)"),        \
        ACTION ("queries.explain", "POST", "/queries/explain", query_explain,                      \
                .spec.in = execute_query_fields, .spec.out = statement_answer, .spec.key = "user", \
                .spec.blocking = true, .spec.timeout = 630000, .spec.body_max = 4 * QUERY_MAX,     \
                .spec.events = STATEMENT_EVENTS, .spec.tag = "queries",                            \
                .spec.doc = "How the engine would run a statement"),                               \
        ACTION ("queries.stream", "POST", "/queries/stream", query_stream,                         \
                .spec.in = stream_fields, .spec.reply = "stream", .spec.key = "user",              \
                .spec.timeout = 3600000, .spec.body_max = 4 * QUERY_MAX,                           \
                .spec.events = STATEMENT_EVENTS, .spec.tag = "queries",                            \
                .spec.doc = "Run a statement, its rows as they come: JSON lines or CSV"),          \
        ACTION ("statements.get", "GET", "/statements/:id", statement_get,                         \
                .spec.doc = "A statement without its rows"),                                       \
        ACTION ("statements.result", "GET", "/statements/:id/result", statement_result,            \
                .spec.in = result_fields, .spec.reply = "any", .spec.timeout = 600000,             \
                .spec.doc = "A page of the result; as JSON lines or CSV all of it"),               \
        ACTION ("statements.cancel", "POST", "/statements/:id/cancel", statement_stop,             \
                .spec.out = statement_answer, .spec.key = "user",                                  \
                .spec.doc = "Stop a statement; it is cancelled once the engine says so"),          \
        ACTION ("statements.submit", NULL, NULL, statement_submit, .spec.in = submit_fields,       \
                .spec.out = statement_answer, .spec.key = "user", .spec.timeout = 3600000,         \
                .spec.body_max = 4 * QUERY_MAX, .spec.events = STATEMENT_EVENTS,                   \
                .spec.doc = "Run a statement, for actors on behalf of a user"),                    \
        ACTION ("statements.await", NULL, NULL, statement_await, .spec.in = await_fields,          \
                .spec.out = statement_answer, .spec.key = "user", .spec.timeout = 3600000,         \
                .spec.idempotent = true, .spec.doc = "Wait for the end of a statement")

#define STATEMENT_EVENTS "statement.state|statement.progress|statement.rows|statement.deleted"

#define STATEMENT_OPTIONS                                                                          \
    { "trino-url", OPT_STR, NULL, 0, NULL, "address of a Trino coordinator, http or https" },      \
    { "trino-user", OPT_STR, "busbar", 0, NULL, "as whom statements run there" },                  \
    { "trino-ca", OPT_STR, NULL, 0, NULL, "file of the authorities to trust there" },              \
    { "trino-catalog", OPT_STR, NULL, 0, NULL, "catalog of unqualified names there" },             \
    { "trino-schema", OPT_STR, NULL, 0, NULL, "schema of unqualified names there" },               \
    { "trino-patience", OPT_INT, "30", 0, NULL, "seconds that an absent Trino is asked again" },   \
    { "spark-url", OPT_STR, NULL, 0, NULL, "address of a Spark; there is no driver yet" },         \
    { "snowflake-url", OPT_STR, NULL, 0, NULL, "address of a Snowflake; there is no driver yet" }, \
    { "statement-ttl", OPT_INT, "86400", 0, NULL, "seconds that a result is kept" },               \
    { "statement-store", OPT_INT, "256", 0, NULL, "MiB of results kept for one user" }

#endif
