//  db.h -- PostgreSQL in pipeline mode on the loop: statements in, completions out, in lanes.
//
//  Knows nothing of coroutines or actors. All callbacks run on the loop thread, after the
//  sync's result (so what they hear of is committed). Results are borrowed until the callback
//  returns.

#ifndef DB_H
#define DB_H

#include <libpq-fe.h>

#include "../proto/error.h"
#include "../proto/loop.h"
#include "../proto/mp.h"
#include "sql.h"

typedef struct db db_t;

//  READ: short reads, each its own sync, two connections. WRITE: units in batches, one connection.
//  SLOW: reports, one statement in flight per connection, cancellable, two connections.
typedef enum { DB_READ, DB_WRITE, DB_SLOW } db_lane_t;

typedef struct {
    const char *conninfo;        //  keyword/value string; the password in it is never logged
    const char *schema;          //  first in search_path ("clusters"), then "base"
    const sql_t *sql;            //  named statements; prepared at connect
    const char *who;             //  application_name
    int64_t statement_timeout;   //  ms for READ and WRITE (0: 15,000); SLOW follows its deadline
} db_conf_t;

db_t *db_new (loop_t *loop, const db_conf_t *conf);
//  Whoever still waits hears E_UNAVAILABLE. Not to be called from a completion.
void db_destroy (db_t **self_p);

//  Register a statement made at run time (resources), before db_start. Text is kept by copy;
//  the name must be new.
void db_statement (db_t *self, const char *name, const char *text);

//  Connect all lanes and let PostgreSQL prepare every statement once; `ready` with error
//  NULL, or with a text that names the statement that it refused (then the process should log
//  and exit). Reconnects by itself ever after (backoff 50 ms … 2 s). While a lane has no
//  connection, what was never sent waits up to a second for one; then, and for all that comes
//  meanwhile, it is E_UNAVAILABLE.
void db_start (db_t *self, void (*ready) (void *arg, const char *error), void *arg);
bool db_up (const db_t *self);   //  WRITE and at least one READ connection live

//  One statement's outcome.
typedef struct {
    //  NULL unless tuples or command ok. To keep it beyond the callback, take it: set this to
    //  NULL, and PQclear it one day.
    PGresult *result;
    error_code_t code;           //  E_NONE on success
    char sqlstate [6];
    const char *text;            //  for clients: message of our class U0, else the default text
    const char *constraint;      //  violated constraint, or NULL
    const char *raw;             //  PostgreSQL's message; for the log only
    bool unknown;                //  connection lost after the sync was sent: it may have happened
} db_result_t;

typedef void (db_done_fn) (void *arg, db_result_t *results, size_t count);

//  Queue one statement by name. Parameters are texts (NULL: SQL NULL), copied. Returns a handle
//  for db_cancel. deadline_ms: from now, 0: none; a statement not sent by then fails with
//  E_TIMEOUT, a SLOW one is stopped then. On the WRITE lane it is a unit of one. `done` is never
//  called from in here.
uint64_t db_query (db_t *self, db_lane_t lane, const char *name, const char *const *params,
                   size_t count, int64_t deadline_ms, db_done_fn *done, void *arg);
//  The same with the statement's text (varying column sets); prepared once per connection and text
//  (cache of 256).
uint64_t db_query_text (db_t *self, db_lane_t lane, const char *text, const char *const *params,
                        size_t count, int64_t deadline_ms, db_done_fn *done, void *arg);

//  Put a traceparent in front of a SLOW statement, as the comment that pg_stat_activity and
//  PostgreSQL's own log show. Right after db_query; such a statement is sent as text, so a plan is
//  made for it.
void db_comment (db_t *self, uint64_t handle, const char *traceparent);

//  A unit: everything one request changes. Units waiting while a batch is in flight form the
//  next batch: one sync, one commit. When a batch fails, the unit that made it fail runs again by
//  itself and the others without it, so `done` hears only of its own faults.
typedef struct db_unit db_unit_t;
db_unit_t *db_unit_new (db_t *self);
void db_unit_add (db_unit_t *unit, const char *name, const char *const *params, size_t count);
void db_unit_add_text (db_unit_t *unit, const char *text, const char *const *params, size_t count);
//  A unit that is not to be committed after all.
void db_unit_drop (db_unit_t **unit_p);
//  Before the commit, look at the results of the statements so far (borrowed, not to be
//  taken) and add more (the stored idempotent answer). DB_LOOK: ask again, with the next
//  `round`, when what was added has run. DB_REFUSE: roll back with `*code` and `*text`
//  (copied). After a failure all may run again, from round 0 on.
typedef enum { DB_COMMIT, DB_LOOK, DB_REFUSE } db_verdict_t;
typedef db_verdict_t (db_before_fn) (void *arg, db_unit_t *unit, unsigned round,
                                     db_result_t *results, size_t count, error_code_t *code,
                                     const char **text);
void db_unit_before_commit (db_unit_t *unit, db_before_fn *fn, void *arg);
//  What the units of a batch have in common (the rows of their events) is written once for all of
//  them. Of batches in which somebody looks before the commit:
typedef struct {
    void (*begin) (void *arg);       //  before the units are asked the first time
    //  They were asked: db_gather_add what they gave.
    void (*add) (void *arg, db_t *db);
    //  That has run, `results` of it (borrowed); before the units are asked again, or, after the
    //  commit, before any of them is told.
    void (*ran) (void *arg, db_result_t *results, size_t count);
    void *arg;
} db_gather_t;
void db_gather (db_t *self, const db_gather_t *gather);
//  Parameters in PostgreSQL's binary format, copied; data NULL: SQL NULL.
void db_gather_add (db_t *self, const char *name, const text_t *params, size_t count);
//  Queue it; the unit is consumed. `done` gets one result per statement, those added before
//  the commit included (all with the failure's code when it failed; the failing statement's
//  detail is in each).
uint64_t db_unit_commit (db_unit_t **unit_p, db_done_fn *done, void *arg);

//  READ and WRITE: `done` is not called any more, the statement finishes (a READ that was not
//  sent yet is dropped). SLOW: PostgreSQL is told to stop (from a thread of its own: PQcancel
//  blocks) and `done` hears E_TIMEOUT. Unknown handles are ignored.
void db_cancel (db_t *self, uint64_t handle);

//  Row of a result as MessagePack map (by column type: bool, integers, reals and numeric →
//  numbers, json/jsonb → ext 1, timestamptz → RFC 3339 with Z, date, uuid and the rest →
//  text, flat arrays → arrays; NaN and infinity → nil). Columns named live, live2 … and those
//  beginning with "_" are left out. `rename` (may be NULL) maps a column name to its outside
//  name, NULL leaves it out.
typedef const char *(db_rename_fn) (void *arg, const char *column);
void db_row_put (buf_t *buf, const PGresult *result, int row, db_rename_fn *rename, void *arg);
//  Pairs only, for maps with more.
uint32_t db_row_pairs (buf_t *buf, const PGresult *result, int row, db_rename_fn *rename,
                       void *arg);

//  One element of an array's text, {a,"b \"c\"",NULL}, from `at` (behind the brace or comma) into
//  `out` (terminated); where it ends, or NULL when this is no flat array. `quoted` tells the word
//  NULL from SQL NULL.
const char *db_array_next (const char *at, buf_t *out, bool *quoted);

//  PostgreSQL's "2026-11-22 04:13:45.12+00" as RFC 3339 UTC with Z, always six digits of a
//  second, like base.utc (out: 40 bytes).
void db_time_text (const char *pg, char out [40]);

typedef struct {
    uint64_t queries, units, batches, reruns, failures, reconnects, unknown;
    uint64_t waiting, in_flight;
} db_stats_t;
const db_stats_t *db_stats (const db_t *self);

#endif
