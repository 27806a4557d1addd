//  req.h -- one request: its input, its memory, its answer, the database, other actors, blocking
//  work.
//
//  Everything a handler gets from here lives until the request ends; handlers contain no free and
//  no goto. fail () does not return.

#ifndef REQ_H
#define REQ_H

#include "../../db/db.h"
#include "../../proto/bus.h"
#include "../../proto/route.h"
#include "co.h"

typedef struct req req_t;
struct actor;

//  ---------------------------------------------------------------- memory
void *req_alloc (req_t *req, size_t size);                        //  zeroed
char *req_print (req_t *req, const char *format, ...) __attribute__ ((format (printf, 2, 3)));
char *req_copy (req_t *req, text_t text);                         //  terminated
//  run when the request ends, however it ends
void req_defer (req_t *req, void (*fn) (void *), void *arg);
//  an empty buffer, freed at the end
buf_t *req_buf (req_t *req);

//  ---------------------------------------------------------------- input
//  Declared fields are validated before the handler runs; looked up in path, then query, then body;
//  under .json and .also too.
struct actor *req_actor (req_t *req);
//  :id, a valid UUID (else the caller had 404 already)
const char *req_id (req_t *req);
//  Text form, as a statement's parameter: JSON for T_JSON, T_OBJECT, T_ARRAY and T_NAMES (jsonb
//  columns); NULL when absent or null. Fields that were not declared are given as they came.
const char *req_str (req_t *req, const char *name);
text_t req_text (req_t *req, const char *name);
int64_t req_int (req_t *req, const char *name);                   //  0 when absent
double req_real (req_t *req, const char *name);
bool req_bool (req_t *req, const char *name);
mp_t req_any (req_t *req, const char *name);
//  given by the caller (null counts)
bool req_has (req_t *req, const char *name);
//  value as JSON text (for jsonb parameters); NULL when absent
const char *req_json (req_t *req, const char *name);
//  what the statement will use for this field
void req_set (req_t *req, const char *name, const char *value);
//  whole body; bin when the route is raw
mp_t req_body (req_t *req);
//  ip, agent, idempotency_key, if_match, content_type …
mp_t req_meta (req_t *req, const char *name);
//  ?wait= in ms (seconds with fraction outside), capped by the deadline
int64_t req_wait (req_t *req, int64_t def_ms);
int64_t req_left (req_t *req);                                    //  ms until the deadline
bool req_cancelled (req_t *req);                                  //  nobody waits any more
//  called at once when the caller gives up
void req_on_cancel (req_t *req, void (*fn) (void *), void *arg);
void *req_arg (req_t *req);                                       //  of actor_spawn

//  ---------------------------------------------------------------- who asks
//  UUID text; NULL for anon and operator
const char *req_user (req_t *req);
//  "admin" …; "operator" over the ipc directory
const char *req_role (req_t *req);
const char *req_org (req_t *req);                                 //  or NULL
mp_t req_identity (req_t *req);                                   //  whole map, to pass on
bool req_is_admin (req_t *req);                                   //  admin, super_admin, operator
const char *req_trace (req_t *req);
const char *req_request_id (req_t *req);

//  ---------------------------------------------------------------- ending it
void fail (req_t *req, error_code_t code, const char *format, ...)
    __attribute__ ((noreturn, format (printf, 3, 4)));
//  With details: { field: text }.
void fail_field (req_t *req, error_code_t code, const char *field, const char *format, ...)
    __attribute__ ((noreturn, format (printf, 4, 5)));
void fail_result (req_t *req, const db_result_t *result) __attribute__ ((noreturn));
//  With a whole details map built by the caller.
void fail_details (req_t *req, error_code_t code, mp_t details, const char *format, ...)
    __attribute__ ((noreturn, format (printf, 4, 5)));
//  Pass on the error answer of another actor.
void fail_reply (req_t *req, const bus_reply_t *reply) __attribute__ ((noreturn));

//  Answer once. meta pairs may be set before. A handler that returns without answering answers 204.
void reply_header (req_t *req, const char *name, const char *value);      //  kept by fail () too
//  A pair of REPLY.meta for the caller itself (edge, door), such as revoke {user, jti}.
void reply_meta (req_t *req, const char *name, mp_t value);
//  CO, where reply_again was called.
void reply_mp (req_t *req, unsigned status, mp_t body);
//  The next answer is what who repeats the request with its key hears, not the unit's last row. To
//  be called where that row is less, and the answer holds no secret.
void reply_again (req_t *req);
void reply_json (req_t *req, unsigned status, text_t json);       //  ready JSON
void reply_message (req_t *req, unsigned status, const char *message);        //  {"message": …}
void reply_empty (req_t *req);                                    //  204
bool req_answered (req_t *req);

//  ---------------------------------------------------------------- database
//  Rows of one result.
typedef struct {
    PGresult *result;            //  freed with the request
    int row;                     //  -1: no row
} row_t;

static inline bool row_none (row_t row) { return row.row < 0; }
//  NULL when SQL NULL, or no such column in no row
const char *row_str (row_t row, const char *column);
int64_t row_int (row_t row, const char *column);
double row_real (row_t row, const char *column);
bool row_bool (row_t row, const char *column);
int rows_count (row_t rows);
row_t rows_at (row_t rows, int position);

#define DB_PARAMS(...)                                       \
    ((const char *const []) { NULL, ##__VA_ARGS__ } + 1),    \
    (sizeof ((const char *const []) { NULL, ##__VA_ARGS__ }) / sizeof (char *) - 1)
//  One statement by name on the READ lane; parameters are const char *, NULL for SQL NULL. A failed
//  statement fails the request.
#define db_row(req, name, ...)  req_db_rows (req, DB_READ, name, DB_PARAMS (__VA_ARGS__))
#define db_rows(req, name, ...) req_db_rows (req, DB_READ, name, DB_PARAMS (__VA_ARGS__))
#define db_slow(req, name, ...) req_db_rows (req, DB_SLOW, name, DB_PARAMS (__VA_ARGS__))
CO row_t req_db_rows (req_t *req, db_lane_t lane, const char *name, const char *const *params,
                      size_t count);
//  The same, but answers a failure instead of failing the request.
CO db_result_t req_db_try (req_t *req, db_lane_t lane, const char *name, const char *const *params,
                           size_t count);

//  A write unit: everything this request changes, with its events, committed together. Events are
//  those of unit_event, or made in SQL by base.live_add (…) in a column named live, live2, …:
//  after the commit they are published, and the answer carries "live": {ch, epoch, off} of the
//  first. With an Idempotency-Key the answer (first row of the last statement, or just its column
//  `body`; status of the route; or what unit_message says or unit_answer builds) is stored in the
//  same commit and given again to a repeated request.
typedef struct unit unit_t;
unit_t *unit_new (req_t *req);
#define unit_add(unit, name, ...) unit_add_ (unit, name, DB_PARAMS (__VA_ARGS__))
void unit_add_ (unit_t *unit, const char *name, const char *const *params, size_t count);
//  A statement besides, whose row is not the answer.
#define unit_also(unit, name, ...) unit_also_ (unit, name, DB_PARAMS (__VA_ARGS__))
void unit_also_ (unit_t *unit, const char *name, const char *const *params, size_t count);
//  Event of our own making besides: key may be NULL; data is JSON text, or NULL. It is told only if
//  the statement before it changed something: not when that has no row, or one whose id is null (a
//  refused transition).
void unit_event (unit_t *unit, const char *channel, const char *key, const char *type,
                 const char *data);
//  `build` runs before the commit, maybe twice: it neither fails nor suspends. An empty body stores
//  nothing; so does a last row that is absent or whose id is null (a refused transition). A row
//  whose answer has no id may have a column _id instead, which is not answered.
void unit_answer (unit_t *unit, void (*build) (req_t *req, row_t last, buf_t *body));
//  The answer will be {"message": …}; the text must live as long as the request.
void unit_message (unit_t *unit, const char *message);
//  Commit; rows of the last statement added by unit_add. A failure fails the request.
CO row_t unit_commit (unit_t *unit);
CO db_result_t unit_try (unit_t *unit);                           //  answers a failure instead
//  of the statement at that position, after the commit
row_t unit_rows (unit_t *unit, size_t position);

//  Answer with a row / all rows, fields renamed as the resource or .out of the route says; columns
//  that these don't name stay inside. Adds live. Neither declared: the columns as they are.
void reply_row (req_t *req, unsigned status, row_t row);
void reply_rows (req_t *req, unsigned status, row_t rows);
//  Pairs of a row into a map under construction; returns how many.
uint32_t row_put (req_t *req, buf_t *buf, row_t row);
//  The "live" pair of the last committed unit, when there is one; returns 0 or 1.
uint32_t req_live_put (req_t *req, buf_t *buf);

//  Publish-only writes outside a request's unit, from loop code (kernel output): the JSON events
//  are committed in batches, in order per channel, then published. `done` (may be NULL) hears the
//  offset of the last one, or -1.
void live_append (struct actor *actor, const char *channel, const char *key, const char *type,
                  text_t data, void (*done) (void *arg, int64_t off), void *arg);

//  ---------------------------------------------------------------- others
//  Call another actor with our caller's identity (req_call) or as the operator (how->operator).
//  Waits; idempotent when said.
typedef struct {
    const char *key;
    int64_t ttl;
    bool idempotent;
    bool operator;
    const char *slot;
    //  In whose name: for work that goes on behind a request of theirs, or without one. NULL: our
    //  caller's.
    const char *user;
    //  The same as a client's Idempotency-Key; NULL: none.
    const char *idempotency_key;
} req_call_t;
CO bus_reply_t req_call (req_t *req, const char *method, mp_t params, mp_t body,
                         const req_call_t *how);
//  Is it another instance of this actor that has the key? Then that one is asked, itself, so that
//  two that disagree do not pass a call to and fro, and its answer is ours.
CO bool req_elsewhere (req_t *req, const char *key, const char *method, mp_t params, mp_t body);

//  Before a parent row goes: ask every actor that announced dependants of `parent` ("workspace") to
//  let go. Fails the request when one of them can't.
CO void saga_delete (req_t *req, const char *parent, const char *id);

//  Wait until somebody calls req_wake (req), or `ms` passed (false). Wakes that came before are
//  remembered once. When nobody waits for the answer any more, or its time is over, this is short,
//  but the loop turns: a wait for what must end first may go on.
CO bool req_sleep (req_t *req, int64_t ms);
void req_wake (req_t *req);

//  Blocking or CPU-heavy work on one of two threads: fn (arg) must touch nothing of the loop
//  thread. False: queue full (64 waiting) or 5 s waited in it, nothing was done.
CO bool offload (req_t *req, void (*fn) (void *), void *arg);

//  ---------------------------------------------------------------- streams
//  Body of an upload route, piece by piece; false at its end. Fails the request when the caller
//  broke off.
CO bool req_read (req_t *req, text_t *piece);
//  Streamed answer: head once, then pieces under the caller's credit, then the end. stream_write
//  fails when the caller left. size -1: unknown
void stream_begin (req_t *req, unsigned status, const char *content_type, int64_t size);
CO void stream_write (req_t *req, text_t data);
void stream_end (req_t *req);

#endif
