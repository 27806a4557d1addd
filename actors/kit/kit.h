//  kit.h -- what the files of the kit share and no actor sees: the process, a method served, a
//  request.

#ifndef KIT_H
#define KIT_H

#include <setjmp.h>

#include "../../proto/hash.h"
#include "actor.h"

#define REQUESTS_MAX 1024            //  live at once; then UNAVAILABLE
#define REQ_FIRST 4096               //  memory of a request before it asks malloc
#define CALLS_TABLE 2048             //  buckets of the table of calls in service
#define LIST_MAX 10000               //  rows of one page
#define LIST_BYTES (8 << 20)         //  where a page ends that holds large rows
#define COUNT(array) (sizeof (array) / sizeof *(array))

typedef struct kit kit_t;
typedef struct plan plan_t;

//  ---------------------------------------------------------------- a method served
//  What may be done with a field of `in` in this method.
enum { TAKE = 1, NEED = 2, DEFAULT = 4, IN_PATH = 8 };

typedef struct endpoint {
    route_spec_t spec;               //  as announced
    const route_t *route;            //  as declared; NULL: a method of the kit
    const resource_t *resource;      //  whose shape rows of the answer have, or NULL
    plan_t *plan;                    //  its statements
    CO void (*run) (req_t *req);
    const dependant_t *dependant;    //  of a method that lets go of a parent
    const field_t *in;               //  fields decoded before `run`; NULL: none declared
    uint8_t *take;                   //  for each of them
    size_t in_count;
    const char *in_path [8];         //  names of the :params of its paths
    bool needs_id;                   //  path has :id
    bool update;                     //  null clears, defaults do not apply
    bool writes;                     //  verb other than GET: Idempotency-Key counts
    bool keyed;                      //  BY_ID
    uint64_t calls, errors, us, us_max;
} endpoint_t;

//  ---------------------------------------------------------------- a request
typedef struct {
    mp_t raw;                        //  as given; mp_none: absent
    const char *text;                //  as parameter of a statement; NULL: absent or null
    bool given;                      //  by the caller
    bool set;                        //  by default or req_set
} value_t;

typedef struct extra {               //  req_set of what is no declared field; header of the answer
    struct extra *next;
    const char *name, *value;
} extra_t;

typedef struct pair {
    struct pair *next;
    const char *name;
    mp_t value;
} pair_t;

typedef struct deferred {
    struct deferred *next;
    void (*fn) (void *);
    void *arg;
} deferred_t;

typedef struct block {
    struct block *next;
    uint8_t data [];
} block_t;

typedef struct piece {               //  of an upload
    struct piece *next;
    size_t size;
    uint8_t data [];
} piece_t;

//  Someone waits for one callback. On the waiter's stack.
typedef struct {
    co_t *co;
    bool done;
} pause_t;

struct req {
    actor_t *actor;
    kit_t *kit;
    endpoint_t *endpoint;            //  NULL: no request, a context of the actor's own
    const char *what;                //  method, or what a background context does; for logs
    bus_peer_t *peer;                //  NULL: nobody waits (any more)
    uint64_t id;
    req_t *chain;                    //  in the kit's table by peer and id
    req_t *next;                     //  in a queue: behind the same key, ready, spare
    void (*fn) (req_t *req);
    void *arg;                       //  of actor_spawn
    int64_t started;                 //  µs
    int64_t deadline;                //  on the loop's clock; INT64_MAX: none

    text_t trace;
    mp_t identity, params, body, meta;
    const char *user, *role, *org;
    bool operator;
    const char *serial_key;          //  held while it runs

    value_t *values;                 //  parallel to endpoint->in
    extra_t *extras;
    extra_t *ignored;                //  unknown fields of the body
    unsigned ignored_count;

    jmp_buf jump;                    //  where fail () lands
    bool running;
    error_code_t code;               //  what it failed with
    const char *text;
    mp_t details;
    bool unknown;

    bool answered, cancelled;
    unsigned status;
    extra_t *headers;
    pair_t *pairs;                   //  of the answer's meta
    const char *live_ch, *live_epoch;     //  position of the last committed unit's first event
    int64_t live_off;

    const char *idem_key, *idem_hash;
    const char *idem_digest;         //  of the answer that is stored
    bool idem_stored;                //  an answer of ours was committed
    bool idem_whole;                 //  … and what is answered is to be stored in its place

    pause_t *sleeper;
    bool woken;
    deferred_t *on_cancel;

    bool uploading, upload_ended, upload_broken, streaming, stream_over;
    piece_t *pieces, **pieces_end, *piece;
    uint64_t wanted;                 //  chunks asked for and not here yet
    uint64_t credit;                 //  chunks we may send

    deferred_t *deferred;
    block_t *blocks;
    uint8_t *free, *free_end;
    _Alignas (16) uint8_t first [REQ_FIRST];
};

//  ---------------------------------------------------------------- the process
typedef struct live_queue live_queue_t;
typedef struct offload_pool offload_pool_t;
typedef struct fetcher fetcher_t;
typedef struct claim claim_t;

struct kit {
    actor_t *actor;
    opt_t *options;
    endpoint_t *endpoints;
    size_t endpoint_count;
    hash_t *methods;                 //  name → endpoint
    plan_t **plans;                  //  NULL-terminated
    sql_t *sql;
    req_t *calls [CALLS_TABLE];
    size_t live;                     //  requests in service
    size_t background;               //  contexts of the actor's own
    req_t *spare;
    size_t spares;
    req_t *ready, **ready_end;       //  to be started by the hook
    hook_t start;
    hash_t *serial;                  //  key → queue
    hash_t *in_flight;               //  user and Idempotency-Key of running requests
    hash_t *cache;                   //  answers of reports
    live_queue_t *appends;
    hash_t *claims;                  //  key → claim_t, those that we hold
    uint64_t claims_made;
    hash_t *siblings;                //  "slot/boot" → state, of our name in the directory
    offload_pool_t *offload;
    fetcher_t *fetcher;
    buf_t body, meta;                //  of the answer being built; never held over a suspension
    struct ticker **tickers;         //  NULL-terminated
    ltimer_t *drain_timer;
    int64_t drain_until;
    char epoch [64];
    bool draining;
    error_code_t failed;             //  what work of the actor's own ended with last
    int exit_code;
};

//  req.c
req_t *req_new (actor_t *actor);
void req_free (req_t *req);
mp_t req_keep_mp (req_t *req, mp_t value);
void req_take_identity (req_t *req, mp_t identity);
//  Run fn (req) on the running coroutine's stack; false when it failed (code, text, details are
//  set).
bool req_guard (req_t *req, void (*fn) (req_t *req));
void pause_wait (pause_t *pause);
void pause_end (pause_t *pause);

//  serve.c
void serve_call (void *arg, bus_peer_t *peer, const wire_call_t *call);
void serve_cancelled (void *arg, bus_peer_t *peer, uint64_t id);
req_t *serve_find (kit_t *kit, bus_peer_t *peer, uint64_t id);
//  The caller has its answer: from now on nobody knows the request by peer and id.
void serve_forget (req_t *req);
void serve_start_later (req_t *req);
void serve_ready (void *kit);

//  reply.c
void reply_error (req_t *req);
void reply_error_to (kit_t *kit, bus_peer_t *peer, uint64_t id, error_code_t code,
                     const char *text);
//  meta of the answer into kit->meta.
mp_t answer_meta (req_t *req, unsigned status);

//  input.c, check.c
//  Decode the declared fields. False: code, text and details of the request are set.
bool input_decode (req_t *req);
const value_t *input_value (req_t *req, const char *name);
//  A value against its field: the parameter text in *text, or what is wrong with it (in request
//  memory). `lenient`: it came as text (path, query, form).
const char *check_value (req_t *req, const field_t *field, mp_t value, bool lenient,
                         const char **text);
bool check_time (text_t text);
bool check_date (text_t text);
const char *mp_json (req_t *req, mp_t value);

//  query.c
void result_keep (req_t *req, db_result_t *result);
const char *constraint_field (const field_t *fields, const char *constraint);

//  An event on its way to the log.
typedef struct {
    text_t ch, key, type;            //  key: data NULL when it has none
    mp_t data;
    int64_t off;                     //  once it was written
    char at [40];
} live_event_t;

//  unit.c, idem.c
void unit_add_text (unit_t *unit, const char *text, const char *const *params, size_t count);
//  The row of the last statement is told as `what` of the plan's resource ("created").
void unit_tell (unit_t *unit, const plan_t *plan, const char *what);
const char *channel_full (req_t *req, const char *channel);
CO bool idem_begin (req_t *req);     //  true: answered already (replay), or failed
void idem_end (req_t *req, bool failed);
void idem_statements (kit_t *kit);
void idem_store (req_t *req, db_unit_t *unit, mp_t body);
//  The caller is about to hear `body`: store it, where a unit stored something else, so that who
//  repeats the request hears it, too. The body, where it is safe.
CO mp_t idem_answer (req_t *req, unsigned status, mp_t body);
//  Did it fail because the same request is done already?
bool idem_taken (const db_result_t *result);
//  Publish the live columns of a committed result; position of the first in the request (may be
//  NULL).
void live_publish (kit_t *kit, req_t *req, const PGresult *result);

//  resource_live.c: the events of a row that a statement of `plan` returned, one per channel, are
//  given to `fn`; what they hold lives as long as the request. `what`: created, updated, deleted.
void resource_events (req_t *req, const plan_t *plan, const char *what, row_t row,
                      void (*fn) (void *arg, const live_event_t *event), void *arg);

//  resource_sql.c, resource.c
plan_t *plan_new (const resource_t *resource);
void plan_destroy (plan_t **self_p);
void plan_register (plan_t *plan, db_t *db);
const char *plan_channel (const plan_t *plan);
const resource_t *plan_resource (const plan_t *plan);
//  Do events show this column of what a write returns?
bool plan_tells (const plan_t *plan, size_t column);
const char *plan_get (const plan_t *plan);                        //  names of statements
const char *plan_own (const plan_t *plan);
const char *plan_delete (const plan_t *plan);
const char *plan_list (const plan_t *plan);
//  Text of the statement that writes the columns of `mask` (bit per field), until the next one is
//  asked for. Parameters: $1 user, [update: $2 id, $3 version or NULL], then the columns in order
//  of fields.
const char *plan_create_text (plan_t *plan, uint64_t mask);
const char *plan_update_text (plan_t *plan, uint64_t mask);
const char *plan_delete_text (const plan_t *plan);
const char *plan_get_text (const plan_t *plan);
const char *plan_own_text (const plan_t *plan);
const char *plan_list_text (const plan_t *plan);
//  List with filters (bit per field), sorted by `sort` (position of a field; -1 created_at, -2
//  updated_at), from a cursor on (0 none, 1 value, 2 null). Parameters: $1 user, $2 limit, filters
//  in order of fields, [cursor value,] cursor id.
void plan_list_build (const plan_t *plan, buf_t *out, uint64_t filters, int sort, bool descending,
                      int cursor);
//  Rows of a channel. Parameters: $1 user of the audience or NULL, $2 channel, $3 limit, $4 cursor
//  time or NULL, $5 cursor id.
const char *plan_snapshot_text (const plan_t *plan);
const char *plan_snapshot (const plan_t *plan);
//  ETag and Location of an answer that shows a row of a resource.
void resource_headers (req_t *req, text_t id, text_t updated_at);
CO void resource_list (req_t *req);
CO void resource_get (req_t *req);
CO void resource_create (req_t *req);
CO void resource_update (req_t *req);
CO void resource_delete (req_t *req);
//  resource_routes.c
void resource_endpoints (kit_t *kit, const route_t *route, plan_t *plan);
size_t resource_endpoint_count (const resource_t *resource);

//  routes.c
//  A text that lives as long as the process serves.
char *kit_text (const char *format, ...) __attribute__ ((format (printf, 1, 2)));
void routes_build (kit_t *kit);
void routes_destroy (kit_t *kit);
endpoint_t *routes_add (kit_t *kit);
void routes_finish (kit_t *kit, endpoint_t *endpoint);
void routes_pack (kit_t *kit, buf_t *routes, buf_t *channels, buf_t *dependants);

//  live_put.c: while a batch is looked at before its commit, its events are handed in, which must
//  stay where they are until they are told; by then they have their offsets.
void live_put_statement (kit_t *kit);
void live_put_start (kit_t *kit);
void live_put (live_event_t *event);
//  Append a text of JSON as the data of an event.
void live_data (buf_t *out, text_t json);
//  Publish it, after the commit.
void live_tell (kit_t *kit, const live_event_t *event);

//  live.c, live_append.c
void live_statements (kit_t *kit);
void live_endpoints (kit_t *kit);
CO void live_retention (req_t *req);
CO void live_repeat (req_t *req);
CO void live_load (req_t *req);
live_queue_t *live_queue_new (kit_t *kit);
void live_queue_destroy (live_queue_t **self_p);
bool live_queue_idle (const live_queue_t *self);

//  claim.c
void claim_statements (kit_t *kit);
hash_t *claims_new (void);
CO void claims_load (req_t *req);
CO void claims_verify (req_t *req);
void claims_directory (void *kit);     //  on_directory of the bus
tick_t claims_tick (const kit_t *kit);
//  NULL when we do not hold it. Referred to, it outlives its loss.
claim_t *claim_ref (kit_t *kit, const char *key);
void claim_unref (claim_t **claim_p);
bool claim_good (const claim_t *claim);
//  As JSON: {key, number}.
void claim_put (buf_t *out, const claim_t *claim);
int64_t claim_number (const claim_t *claim);
void claim_fenced (kit_t *kit, claim_t *claim);

//  faults.c
void faults_endpoint (kit_t *kit);

//  saga.c
CO void saga_delete_of (req_t *req, const char *parent, const char *id, const char *owner);
void saga_endpoints (kit_t *kit);

//  Method of ours under the actor's name: "clusters.stats".
endpoint_t *routes_own (kit_t *kit, const char *name, CO void (*run) (req_t *req), const char *doc);

//  keyed.c: true: it is this request's turn; false: it waits and is started later.
bool keyed_enter (req_t *req);
void keyed_leave (req_t *req);

//  report.c, stats.c
CO void report_run (req_t *req);
void report_cache_trim (kit_t *kit);
void stats_endpoints (kit_t *kit);

//  offload.c, fetch.c, stream.c
void offload_end (kit_t *kit);
void fetch_end (kit_t *kit);
void stream_received (void *arg, bus_peer_t *peer, const wire_chunk_t *chunk);
void stream_granted (void *arg, bus_peer_t *peer, uint64_t id, uint64_t count);
CO void stream_finish (req_t *req, error_code_t code);
void stream_free (req_t *req);

//  spawn.c: a context of the actor's own; `then` (may be NULL) hears whether fn came to its end.
bool spawn (actor_t *actor, const char *what, CO void (*fn) (req_t *req), void *arg,
            void (*then) (void *arg, bool good), void *then_arg);

#endif
