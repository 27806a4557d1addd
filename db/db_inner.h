//  db_inner.h -- what the files of the database client share; nobody else includes it.
//
//  A connection carries segments: statements with one sync behind them, answered in the order of
//  sending. The lanes decide what becomes a segment.

#ifndef DB_INNER_H
#define DB_INNER_H

#include "../proto/hash.h"
#include "db.h"
#include "db_cancel.h"

//  A statement that connections prepare when they first need it. Statements by text come and
//  go: their place is given to another text, with a new generation.
typedef struct {
    char *name;              //  NULL: known by its text
    char *text;
    size_t index;            //  place in db->statements and in the connections' tables
    uint32_t generation;
    unsigned refs;           //  calls that hold it
    uint64_t used;           //  when it was last asked for
} statement_t;

//  A statement with its parameters and, later, its result; one block of memory.
typedef struct call {
    struct call *next;
    statement_t *statement;
    PGresult *result;
    char comment [96];       //  in front of the text; empty: sent by its prepared name
    size_t size;             //  of the block
    size_t count;
    const int *sizes;        //  of binary parameters; NULL: they are texts
    const char *params [];
} call_t;

typedef struct segment segment_t;
typedef struct conn conn_t;

typedef struct {
    call_t *call;            //  NULL: a statement of our own, nobody wants its result
    size_t index;            //  of the statement
    uint64_t serial;         //  name under which it is being prepared; 0: no preparation
} step_t;

struct segment {
    segment_t *next;
    conn_t *conn;
    step_t *steps;
    size_t count, room, at;  //  at: whose result comes next
    step_t few [4];
    bool synced;             //  the sync was handed to libpq: from here the outcome may be unknown
    PGresult *error;         //  the first failure
    size_t wrong;            //  whose it was
    //  Everything sent so far has its result and no sync was sent; called once.
    void (*answered) (segment_t *self);
    //  After the sync's result, or when the connection was lost.
    void (*ended) (segment_t *self, bool lost);
    void *arg;
};

//  What a connection knows about a statement.
typedef struct {
    uint32_t generation;
    enum { PREPARED_NOT, PREPARED_SENT, PREPARED_YES } state;
    uint64_t serial;         //  its name there is s<serial>
} prepared_t;

typedef enum { CONN_DOWN, CONN_DIALLING, CONN_GREETING, CONN_UP } conn_state_t;

struct conn {
    db_t *db;
    db_lane_t lane;
    conn_state_t state;
    bool broken;             //  found dead while sending; buried where nobody uses it
    bool stepped;            //  the step at hand has had a result
    PGconn *pg;
    watch_t *watch;
    ltimer_t *timer;         //  until the next attempt, or patience with this one or its silence
    int64_t heard;           //  when something came, or was sent with nothing under way
    bool doubted;            //  silent for so long that it is closed next time
    ltimer_t *deadline;      //  of the SLOW statement in flight
    db_cancel_t *cancel;
    int64_t backoff;
    hook_t flush;
    segment_t *first, *last;
    size_t in_flight;        //  segments
    prepared_t *prepared;
    size_t prepared_room;
    uint64_t serial;
    buf_t stale;             //  names to deallocate, each terminated
    char why [256];          //  the last loss
};

//  A queued statement of the READ or SLOW lane.
typedef struct op {
    struct op *next;         //  in its list, or in its group once it was sent
    uint64_t handle;
    db_lane_t lane;
    call_t *call;
    db_done_fn *done;        //  NULL: nobody listens any more
    void *arg;
    int64_t due;             //  loop time, 0: none
    bool cancelled, retried;
    bool alone;              //  its group failed: it runs again with a sync of its own
} op_t;

typedef struct {
    op_t *first, *last;
} op_list_t;

struct db_unit {
    db_unit_t *next;
    db_t *db;
    uint64_t handle;
    call_t *first, *last;
    size_t count;
    size_t own;              //  statements that were there before before_commit added more
    db_before_fn *before;
    void *before_arg;
    db_done_fn *done;
    void *arg;
    unsigned tries;
    bool decided;            //  before_commit need not be asked again
    bool alone;              //  it made a batch fail: in a batch of its own
    bool refused;            //  by before_commit, with:
    error_code_t code;
    char *text;
};

typedef struct {
    db_unit_t *first, *last;
    size_t count;
} unit_list_t;

//  Units on their way to one commit, and what was gathered of them.
typedef struct {
    segment_t *segment;      //  NULL: none is in flight
    unit_list_t units;
    call_t *first, *last;
    size_t count;
    unsigned round;
    bool gathered;           //  they have heard of the results
} batch_t;

#define PARAMS_BINARY 8              //  at most of one statement
#define RECENT 64
#define READ_CONNS 2
#define SLOW_CONNS 2
#define CONNS (READ_CONNS + 1 + SLOW_CONNS)
#define LANES 3

typedef struct {
    conn_t *conns;
    size_t count;
    op_list_t waiting;
    ltimer_t *patience;      //  without a connection; when it is over newcomers are refused at once
    bool refusing;
} lane_t;

struct db {
    loop_t *loop;
    char *conninfo, *schema, *who;
    int64_t statement_timeout;
    const sql_t *sql;
    conn_t conns [CONNS];
    lane_t lanes [LANES];
    hook_t pump;
    op_list_t stopped;       //  cancelled before they were sent; they hear at the end of the turn
    unit_list_t units;       //  waiting
    batch_t batch;
    db_gather_t gather;
    statement_t **statements;
    size_t statement_count, statement_room, text_count;
    hash_t *by_name, *by_text;
    statement_t *recent [RECENT];        //  by the address that a text was given at last
    uint64_t clock;          //  of the use of statements
    uint64_t handle;
    db_result_t *outcome;    //  reused array for completions
    size_t outcome_room;
    db_stats_t stats;
    void (*ready) (void *arg, const char *error);
    void *ready_arg;
    bool checked;            //  every named statement was accepted once
    bool stopping;
};

//  db_statement.c
statement_t *statement_named (db_t *db, const char *name);
statement_t *statement_by_text (db_t *db, const char *text);
void statements_free (db_t *db);
call_t *call_new (statement_t *statement, const char *const *params, size_t count);
call_t *call_new_binary (statement_t *statement, const text_t *params, size_t count);
void call_free (call_t *call);   //  with its result

//  db_pipe.c
segment_t *segment_new (conn_t *conn, void (*ended) (segment_t *, bool), void *arg);
void segment_run (segment_t *self, call_t *call);
void segment_text (segment_t *self, const char *text);
void segment_prepare (segment_t *self, statement_t *statement);
void segment_flush (segment_t *self);    //  ask for results without a sync
void segment_sync (segment_t *self);
//  Take what has arrived; conn->broken afterwards means it is dead.
void pipe_read (conn_t *conn);
//  Every segment ends as lost.
void pipe_drop (conn_t *conn);

//  db_conn.c
void conn_open (conn_t *conn);
//  Everybody in flight hears of it; attempts to come back follow, unless this is the end.
void conn_close (conn_t *conn);
void conn_flush_soon (conn_t *conn);

//  db_lane.c, db_unit.c, db_batch.c
void lane_run (db_t *db, lane_t *lane);
void conn_stop (conn_t *conn);
void lane_refuse (db_t *db, lane_t *lane, const char *why);
void ops_stopped (db_t *db);
void units_run (db_t *db);
void units_refuse (db_t *db, const char *why);
bool unit_cancel (db_t *db, uint64_t handle);
void unit_append (unit_list_t *list, db_unit_t *unit);
db_unit_t *unit_pop (unit_list_t *list);
size_t unit_outcomes (db_unit_t *unit);  //  of its statements so far, in db->outcome
//  As it was before its first run.
void unit_rewind (db_unit_t *unit);
//  Tell its owner, and that was it.
void unit_report_ok (db_unit_t *unit);
void unit_report_failure (db_unit_t *unit, const db_result_t *failure);

//  db.c
void db_wake (db_t *db);
void conn_changed (conn_t *conn);        //  it came up or went down
db_result_t *outcome_room (db_t *db, size_t count);
void outcome_ok (db_result_t *out, PGresult *result);
void outcome_failed (db_result_t *out, const PGresult *error);
void outcome_code (db_result_t *out, error_code_t code, const char *sqlstate, const char *raw);
bool sqlstate_is (const PGresult *error, const char *sqlstate);

#endif
