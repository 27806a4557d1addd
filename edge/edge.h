//  edge.h -- what the files of the edge share: the process, its connections and requests, and the functions
//  that one file offers to the others. The edge holds no domain word: every route comes from the directory.
//
//  Everything runs on one thread: libwebsockets' service loop with loop_t nested in it. libwebsockets calls
//  edge_callback (http.c) for every connection; ws_callback (ws.c) gets what concerns WebSocket.

#ifndef EDGE_H
#define EDGE_H

#include <libwebsockets.h>

#include "../proto/bus.h"
#include "../proto/error.h"
#include "../proto/hash.h"
#include "../proto/json.h"
#include "../proto/log.h"
#include "../proto/loop.h"
#include "../proto/opt.h"
#include "../proto/route.h"
#include "../proto/token.h"

#define EDGE_VERSION "1.0.0"
#define EDGE_PIECE 65536                 //  bytes handed to one lws_write
#define EDGE_HEADER_MAX 8192             //  longest single header value looked at
#define EDGE_PATH_MAX 4096

typedef struct edge edge_t;
typedef struct conn conn_t;
typedef struct request request_t;
typedef struct session session_t;
typedef struct router router_t;
typedef struct route route_t;
typedef struct live live_t;              //  live.c: channels and their subscribers
typedef struct ws ws_t;                  //  ws.c: one WebSocket
typedef struct auth auth_t;
typedef struct limiter limiter_t;
typedef struct stats stats_t;

//  Why the edge itself refuses something.
typedef struct {
    error_code_t code;           //  E_NONE: no fault
    char text [192];
    unsigned retry_after;        //  seconds; 0: not said
} fault_t;

void fault_set (fault_t *fault, error_code_t code, const char *format, ...)
    __attribute__ ((format (printf, 3, 4)));
//  The error body of design: error, message, detail, code, details, request_id. `details` may be
//  mp_none; `envelope` adds "success": false.
void fault_write (buf_t *json, error_code_t code, text_t text, mp_t details, text_t request_id,
                  bool envelope);

//  ---------------------------------------------------------------- process (main.c)

struct edge {
    loop_t *loop;
    void *zmq;
    bus_t *bus;
    struct lws_context *context;
    struct lws_vhost *vhost;
    opt_t *options;              //  opt_str (edge->options, "…")

    router_t *router;            //  current; requests hold a reference to the one they were routed by
    auth_t *auth;
    limiter_t *limiter;
    stats_t *stats;
    live_t *live;

    conn_t *conns;               //  all connections, linked
    size_t conn_count, request_count, ws_count;
    bool ready;                  //  broker heard and identity live
    bool draining;               //  no new connections, readiness says 503, keep-alive ends
    bool tls;
    const char *environment;
    text_t anon_key;             //  empty: not asked for
    text_t cors_origins;         //  comma list; empty: any origin, no credentials
};

//  ---------------------------------------------------------------- connections (http.c)

//  One per socket, made at accept, found with lws_get_opaque_user_data (wsi), freed when the wsi is destroyed.
struct conn {
    edge_t *edge;
    struct lws *wsi;
    char ip [48];                //  of the peer, or the last X-Forwarded-For hop when trusted
    bool admin;                  //  came in on the admin listener
    bool tls;
    request_t *request;          //  the one being served, NULL between requests
    ws_t *ws;                    //  ws.c's own; NULL until it sets it
    conn_t *next, **link;
};

//  For libwebsockets, in every protocols[] row.
int edge_callback (struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t size);

//  ws.c: gets, with `in` and `size` as libwebsockets says, FILTER_PROTOCOL_CONNECTION (headers readable; refuse
//  with non-zero), ESTABLISHED, RECEIVE, RECEIVE_PONG, SERVER_WRITEABLE of an upgraded connection,
//  WS_PEER_INITIATED_CLOSE, CLOSED (free conn->ws there). The answer goes back to libwebsockets. Upgrades to
//  anything but "websocket" never get here.
int ws_callback (conn_t *conn, enum lws_callback_reasons reason, void *in, size_t size);
//  ws.c: subprotocol names it speaks, NULL-terminated (protocols[1…] are made from it).
extern const char *const ws_subprotocols [];
//  ws.c: is this decoded path one where WebSockets are served ("/ws", "/api/v1/ws", …)? Others get 404.
bool ws_path (text_t path);

//  Copy one header of the request under way; false when absent, longer than `room` - 1, or holding a NUL.
//  Known headers by token, others by lower-case name with colon ("idempotency-key:").
bool conn_header (conn_t *conn, enum lws_token_indexes token, char *out, size_t room);
bool conn_header_named (conn_t *conn, const char *name, char *out, size_t room);
//  Value of a query argument of the request under way (raw query kept by http.c for upgrades too): decoded.
bool query_get (text_t query, const char *name, buf_t *out);
//  Decode %XX (and + when `plus`) onto `out`; false on bad digits, %00 and control bytes below space.
bool percent_decode (text_t in, bool plus, buf_t *out);
//  Is this Origin one that may use us? (CORS_ORIGINS; empty list: any.)
bool origin_allowed (edge_t *edge, text_t origin);

//  ---------------------------------------------------------------- requests (http.c, call.c, reply.c)

typedef enum { VERB_GET, VERB_HEAD, VERB_POST, VERB_PUT, VERB_PATCH, VERB_DELETE, VERB_OPTIONS, VERB_COUNT } verb_t;
const char *verb_name (verb_t verb);

typedef enum {
    BODY_NONE, BODY_JSON, BODY_FORM, BODY_MULTIPART, BODY_RAW, BODY_STREAM
} body_kind_t;

typedef enum {
    STATE_AUTH,                  //  waits for identity
    STATE_BODY,                  //  collects the body
    STATE_CALL,                  //  the actor works
    STATE_REPLY,                 //  answer is being written
    STATE_STREAM                 //  streamed answer (download, server-sent events)
} state_t;

struct request {
    edge_t *edge;
    conn_t *conn;
    state_t state;
    verb_t verb;
    bool head;                   //  HEAD: headers of the GET, no body
    bool http10, keep_alive;
    bool halted;                 //  reading from the socket is stopped
    bool body_done, answered, finished;
    buf_t path;                  //  decoded
    buf_t query;                 //  raw, without '?'
    char id [40];                //  X-Request-Id, taken or made
    char trace [60];             //  traceparent
    char origin [256];           //  Origin, or empty
    char if_none_match [256];
    bool gzip;                   //  client takes gzip
    bool anon;                   //  the anon key came and was right (or none is configured)

    const route_t *route;        //  announced route, NULL for our own
    router_t *router;            //  reference that keeps route alive
    const char *endpoint;        //  pattern for metrics and log: "/clusters/:id"
    session_t *session;          //  who asks; NULL: nobody. Referenced.
    void *auth_wait;             //  identity was asked
    int64_t started;             //  loop_now at arrival
    int64_t started_us;          //  for the histogram
    int64_t deadline;            //  loop_now by which the body must have come

    body_kind_t body_kind;
    uint64_t body_size, body_seen;          //  announced and read
    buf_t body;                  //  collected bytes, later the MessagePack of the call
    buf_t params;                //  MessagePack map under construction
    uint32_t param_count;
    void *upload;                //  upload.c: multipart state and chunks that wait for credit
    uint64_t call;               //  bus call in flight, 0: none

    buf_t out;                   //  LWS_PRE bytes of room, then what is to be written
    size_t out_at;               //  next byte of it
    uint64_t out_total;          //  bytes written so far, for the log
    unsigned status;
    const char *code;            //  error code, for the log
    bool chunked, stream_end, broken;
    int64_t stream_left;         //  bytes of a stream of known size still to come; -1: unknown

    //  Owner of a streamed answer (sse.c, upload.c)
    void *owner;
    void (*on_drained) (request_t *req);    //  everything pushed was handed to the socket
    void (*on_closed) (request_t *req);     //  client went away, or reply_end was written; forget req now

    request_t *prev, *next;      //  of all requests that wait
};

//  Answers. Each request gets exactly one; all of them may be called at any time on the loop thread.
void reply_json (request_t *req, unsigned status, text_t json);
void reply_bytes (request_t *req, unsigned status, const char *content_type, text_t data);
void reply_fault (request_t *req, const fault_t *fault);
void reply_bus (request_t *req, const bus_reply_t *reply);
//  Add a header to the answer that will come (before it is given). Name as on the wire.
void reply_header (request_t *req, const char *name, text_t value);

//  A streamed answer: head now, bytes as they come. size -1: chunked (or until close for HTTP/1.0).
void reply_stream (request_t *req, unsigned status, const char *content_type, int64_t size);
void reply_push (request_t *req, text_t data);
size_t reply_pending (const request_t *req);     //  pushed, not yet handed to the socket
void reply_end (request_t *req, bool broken);    //  broken: the connection is cut so that the client notices

//  An endpoint of the edge itself (health, docs, /live/…). Tables of them end with {0}. With `body` the request is
//  handed over when its body (JSON, ≤ 64 KiB, decoded in req->body as MessagePack) is there.
typedef struct {
    verb_t verb;
    const char *path;            //  exact, or a prefix when it ends with "*"
    bool auth;                   //  a good token is required; req->session is set
    bool body;
    bool admin;                  //  only on the admin listener
    void (*serve) (request_t *req);
    const char *doc;             //  NULL: not in /openapi.json
} local_t;
extern const local_t edge_locals [];             //  local.c
extern const local_t live_locals [];             //  sse.c: POST /live/ticket, GET /live/… (server-sent events)

//  ---------------------------------------------------------------- calls for WebSocket and others (call.c)

typedef struct {
    text_t method;
    session_t *session;          //  NULL: nobody
    const char *ip;
    mp_t params, body;           //  as the client sent them
    text_t idempotency_key;      //  may be empty
    text_t request_id;           //  may be empty: one is made
    int64_t ttl;                 //  ms; 0: the route's
    bus_reply_fn *on_reply;
    bus_chunk_fn *on_chunk;      //  NULL: streams refused
    void *arg;
} edge_call_t;

//  Look the method up, check role and limits exactly as over HTTP, and call. 0: refused, see fault; else the id for
//  bus_cancel and bus_grant. on_reply never runs inside.
uint64_t edge_call (edge_t *edge, const edge_call_t *call, fault_t *fault);

//  ---------------------------------------------------------------- routes (router.c)

struct route {
    mp_t map;                    //  the announced map, owned by the router
    text_t method, path, verb;   //  path of this row (an alias has its own)
    const char *pattern;         //  terminated copy of path
    const char *actor;
    route_auth_t auth;
    route_limit_t limit;
    text_t roles, key, tag;
    bool upload, raw, blocking, idempotent, anon_key;
    uint32_t timeout, body_max;
    unsigned status;
    size_t param_count;
    const char *params [8];      //  names of :params, in order
    void *counters;              //  stats.c
};

typedef struct {
    const route_t *route;        //  NULL: see verbs
    unsigned verbs;              //  bit per verb_t that this path has; 0: no such path
    text_t values [8];           //  of :params, views into the looked-up path
} match_t;

router_t *router_new (void);
router_t *router_ref (router_t *self);
void router_drop (router_t **self_p);
//  Take the announced routes of an actor (an array of route maps, copied). Returns the number of rows refused.
size_t router_add (router_t *self, const char *actor, mp_t routes);
match_t router_find (const router_t *self, verb_t verb, text_t path);
const route_t *router_method (const router_t *self, text_t method);     //  also bus-only ones
size_t router_size (const router_t *self);
const route_t *router_at (const router_t *self, size_t position);
//  Rebuild edge->router from the directory when an announcement changed. True: it did.
bool router_refresh (edge_t *edge);
//  How long has no instance of this actor been up, ms; 0: one is.
int64_t router_absent (edge_t *edge, const char *actor);

//  ---------------------------------------------------------------- who asks (auth.c)

//  Shared by the requests and connections of one token; referenced. When `revoked` turns true live_revoked is called.
struct session {
    unsigned refs;
    char *user, *role, *org, *email, *kind, *jti;     //  "" when absent
    int64_t iat, exp;            //  Unix seconds; 0: none
    int64_t checked;             //  loop_now when identity last confirmed it
    buf_t identity;              //  MessagePack map for CALL.identity
    bool revoked;
    char hash [65];              //  of the credential
};

session_t *session_ref (session_t *self);
void session_drop (session_t **self_p);

auth_t *auth_new (edge_t *edge);
void auth_destroy (auth_t **self_p);

//  Check a token or API key. Calls fn exactly once, often before it returns (then the answer is NULL); session is
//  NULL with a fault otherwise, borrowed (session_ref to keep). auth_cancel: fn will not be called.
typedef void (auth_fn) (void *arg, session_t *session, const fault_t *fault);
void *auth_check (auth_t *self, text_t credential, auth_fn *fn, void *arg);
void auth_cancel (auth_t *self, void *wait);
//  The session of whoever holds only the anon key.
session_t *auth_anon (auth_t *self);
//  May this session (NULL: nobody) use the route? False fills the fault. Also false when the session was revoked or
//  has expired, or nothing was heard from identity for 30 s.
bool auth_allows (auth_t *self, session_t *session, const route_t *route, fault_t *fault);
//  Is this session good now (not revoked, not expired, identity heard)? WebSockets ask before they deliver.
bool auth_good (auth_t *self, session_t *session, fault_t *fault);
bool auth_fresh (auth_t *self);                  //  identity was heard within 30 s
//  Called by main.c's bus listener for channel "sys/identity" and after (re)subscription.
void auth_event (auth_t *self, const wire_event_t *event);
void auth_resync (auth_t *self);
//  REPLY.meta.revoke {user, jti}: applied before the answer leaves.
void auth_revoke (auth_t *self, mp_t revoke);

//  ---------------------------------------------------------------- limits (limit.c)

limiter_t *limiter_new (edge_t *edge);
void limiter_destroy (limiter_t **self_p);
//  Take one token of the class; who: user id or address. False: fault says when to try again.
bool limiter_take (limiter_t *self, route_limit_t limit, const char *who, fault_t *fault);

//  ---------------------------------------------------------------- live (live.c), called by main.c

live_t *live_new (edge_t *edge);
void live_destroy (live_t **self_p);
void live_event (live_t *self, const wire_event_t *event);           //  every event but sys/identity
void live_subscribed (live_t *self, const wire_subscribed_t *answer, bool again);
void live_directory (live_t *self);                                  //  actors came or went
void live_revoked (live_t *self, session_t *session);                //  close what rests on it
void live_grants (live_t *self, text_t user, mp_t audiences);        //  memberships changed
void live_drain (live_t *self);                                      //  process ends: tell clients 1012, staggered
void live_metrics (live_t *self, buf_t *out);                        //  Prometheus lines

#endif
