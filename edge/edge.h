//  edge.h -- what the files of the edge share: the process, its connections and requests, and the
//  functions that one file offers to the others. The edge holds no domain word: every route comes
//  from the directory.
//
//  Everything runs on one thread: loop_t, which hands readable sockets to libwebsockets
//  (service.c). libwebsockets calls edge_callback (http.c) for every connection; ws_callback
//  (ws_socket.c) gets what concerns WebSocket.

#ifndef EDGE_H
#define EDGE_H

#include <libwebsockets.h>

#include "proto/bus.h"
#include "proto/error.h"
#include "proto/hash.h"
#include "proto/json.h"
#include "proto/log.h"
#include "proto/loop.h"
#include "proto/opt.h"
#include "proto/route.h"
#include "proto/token.h"

//  decimal; printf is too slow for every answer
void put_number (buf_t *out, uint64_t value);
void put_hex (char *out, uint64_t value, size_t digits); //  lower case, not terminated

#define EDGE_VERSION "1.0.0"
#define EDGE_HEADER_MAX 8192             //  longest single header value looked at
#define EDGE_PATH_MAX 4096
#define ROUTE_PARAMS 8

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
typedef struct directory directory_t;
typedef struct upload upload_t;
typedef struct local local_t;

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

    directory_t *directory;
    uint64_t router_revision;    //  grows when the router is built anew
    //  current; requests hold a reference to the one they were routed by
    router_t *router;
    auth_t *auth;
    limiter_t *limiter;
    stats_t *stats;
    live_t *live;

    conn_t *conns;               //  all connections, linked
    request_t *requests;         //  all requests under way, linked
    request_t *soon;             //  streams with something to write at the end of this turn
    hook_t soon_hook;
    ltimer_t *sweep;             //  deadlines of bodies and slow readers
    conn_t *answered;            //  for libwebsockets at the end of this turn (service.c)
    hook_t answered_hook;
    ltimer_t *tick;
    bool service_due;            //  libwebsockets has something to do that our loop does not see
    void *tls_shown;             //  SSL_CTX with the certificate for new connections
    size_t conn_count, request_count, ws_count;
    bool ready;                  //  broker heard and identity live
    bool draining;               //  no new connections, readiness says 503, keep-alive ends
    bool tls;
    const char *environment;
    text_t jwt_secret;
    int64_t drain_until;
    ltimer_t *drain_timer, *tidy;
    uint64_t accepted, tidied;   //  connections ever, and at the last malloc_trim
    text_t anon_key;             //  empty: not asked for
    text_t cors_origins;         //  comma list; empty: any origin, no credentials
};

//  ---------------------------------------------------------------- connections (http.c)

//  One per socket, made at accept, found with lws_get_opaque_user_data (wsi), freed when the wsi is
//  destroyed.
struct conn {
    edge_t *edge;
    struct lws *wsi;
    char ip [48];                //  of the peer, or the last X-Forwarded-For hop when trusted
    bool admin;                  //  came in on the admin listener
    bool tls;
    request_t *request;          //  the one being served, NULL between requests
    ws_t *ws;                    //  ws.c's own; NULL until it sets it
    int fd;
    void *ssl;                   //  SSL of libwebsockets once TLS is up; NULL: plain
    watch_t *watch;              //  of the socket, until a WebSocket has its own (send.c)
    uint32_t watched;            //  events
    bool halted;                 //  libwebsockets must not read
    conn_t *answered_next, **answered_link;
    bool closing;                //  nothing is read as a request any more
    int64_t linger_until;
    uint64_t lingered;           //  bytes thrown away after the last answer
    unsigned served;             //  requests so far
    bool body_ended;             //  libwebsockets said so, of the last one
    //  What the last request came with: the next one most likely does, and need not be hashed.
    buf_t credential;
    session_t *session;
    conn_t *next, **link;
};

//  Of an upgrade under way (until ESTABLISHED returned): decoded path.
bool conn_path (conn_t *conn, char *out, size_t room);

void quiet_open (void);              //  the log of libwebsockets becomes ours (quiet.c)

//  When libwebsockets gets to work (service.c): a turn of everything, false at the end; with the
//  first connection; a readable socket; an answer that is out; a connection that ends.
bool service_turn (edge_t *edge);
void service_begin (edge_t *edge);
void service_input (conn_t *conn, uint32_t events);
void service_answered (conn_t *conn);
void service_forget (conn_t *conn);

//  For libwebsockets, in every protocols[] row.
int edge_callback (struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                   size_t size);

//  ws.c: gets, with `in` and `size` as libwebsockets says, FILTER_PROTOCOL_CONNECTION (headers
//  readable; refuse with non-zero), ESTABLISHED, RECEIVE, RECEIVE_PONG, SERVER_WRITEABLE of an
//  upgraded connection, WS_PEER_INITIATED_CLOSE, CLOSED (free conn->ws there). The answer goes back
//  to libwebsockets. Upgrades to anything but "websocket" never get here.
int ws_callback (conn_t *conn, enum lws_callback_reasons reason, void *in, size_t size);
//  ws.c: subprotocol names it speaks, NULL-terminated (protocols[1…] are made from it).
extern const char *const ws_subprotocols [];
//  ws.c: is this decoded path one where WebSockets are served ("/ws", "/api/v1/ws")? Others get
//  404.
bool ws_path (text_t path);

//  Copy one header of the request under way; false when absent, longer than `room` - 1, or holding
//  a NUL. Known headers by token, others by lower-case name with colon ("idempotency-key:").
bool conn_header (conn_t *conn, enum lws_token_indexes token, char *out, size_t room);
bool conn_header_named (conn_t *conn, const char *name, char *out, size_t room);
//  Walk request.query, which holds decoded "name=value" texts, each with a NUL behind it
//  (libwebsockets decodes before we see anything):  for (size_t at = 0; query_each (query, &at,
//  &name, &value);)
bool query_each (text_t query, size_t *at, text_t *name, text_t *value);
text_t query_get (text_t query, const char *name);       //  data NULL when absent
//  Is this Origin one that may use us? (CORS_ORIGINS; empty list: any.)
bool origin_allowed (edge_t *edge, text_t origin);

//  ---------------------------------------------------------------- requests (http.c, call.c,
//  reply.c)

typedef enum {
    VERB_GET, VERB_HEAD, VERB_POST, VERB_PUT, VERB_PATCH, VERB_DELETE, VERB_OPTIONS, VERB_COUNT
} verb_t;
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
    bool body_done, answered, finished;
    bool close;                  //  the connection ends with the answer
    buf_t path;                  //  decoded
    buf_t query;                 //  see query_each
    char id [40];                //  X-Request-Id, taken or made
    char trace [60];             //  traceparent
    char origin [256];           //  Origin, or empty
    char if_none_match [256], if_match [256];
    char idempotency_key [256], prefer [128], content_type [256];
    char agent [256], host [256], accept [256];
    //  that came to a route which needs none and proved nobody (a refresh token)
    char credential [520];
    char boundary [80];          //  of multipart
    char range [64];
    bool gzip;                   //  client takes gzip
    bool anon;                   //  the anon key came and was right (or none is configured)
    bool idempotent;

    const route_t *route;        //  announced route, NULL for our own
    const local_t *local;        //  our own endpoint, NULL for announced ones
    router_t *router;            //  reference that keeps route alive
    const char *endpoint;        //  pattern for metrics and log: "/clusters/:id"
    session_t *session;          //  who asks; NULL: nobody. Referenced.
    void *auth_wait;             //  identity was asked
    int64_t started;             //  loop_now at arrival
    int64_t started_us;          //  for the histogram
    int64_t deadline;            //  loop_now by which the body must have come

    body_kind_t body_kind;
    uint64_t body_size, body_seen;          //  announced and read
    bool maybe_behind;           //  perhaps read together with the request before
    buf_t body;                  //  collected bytes, later the MessagePack of the call
    buf_t params;                //  MessagePack map under construction
    uint32_t param_count;
    upload_t *upload;            //  upload.c: multipart state and chunks that wait for credit
    uint64_t taken;              //  chunks of a download handed on since the last grant
    uint64_t call;               //  bus call in flight, 0: none

    buf_t extra;                 //  header lines for the answer (reply_header)
    buf_t out;                   //  what is to be written
    size_t out_at;               //  next byte of it
    int64_t moved;               //  loop_now when the socket last took something
    uint64_t out_total;          //  bytes written so far, for the log
    unsigned status;
    const char *code;            //  error code, for the log
    bool chunked, stream_end, broken;
    int64_t stream_left;         //  bytes of a stream of known size still to come; -1: unknown

    //  Owner of a streamed answer (sse.c, upload.c)
    void *owner;
    void (*on_drained) (request_t *req);    //  everything pushed was handed to the socket
    //  client went away, or reply_end was written; forget req now
    void (*on_closed) (request_t *req);

    bool soon;                   //  in edge->soon
    request_t *soon_next;
    request_t *prev, *next;      //  of all requests
};

//  Header rules, without any socket (rules.c).
//  Content-Length: digits only, at most ten of them.
bool length_parse (text_t text, uint64_t *out);
//  A position of a channel: digits only, as far as PostgreSQL counts.
bool offset_read (text_t text, uint64_t *off);
//  "0:epoch:off;1:epoch:off": the position of the channel with that index. *epoch stays a view.
bool cursor_find (text_t cursor, unsigned index, text_t *epoch, uint64_t *off);
body_kind_t body_kind_of (const char *content_type);     //  BODY_NONE: media type is not supported
bool boundary_parse (const char *content_type, char *out, size_t room);
bool accepts_gzip (const char *accept_encoding);
bool accepts_html (const char *accept);
bool etag_matches (const char *list, text_t etag);       //  If-None-Match: weak comparison, "*"
bool trace_valid (const char *traceparent);
bool request_id_valid (const char *id);
bool path_valid (text_t path);                           //  absolute, no control bytes, UTF-8
//  Bytes that are no UTF-8, perhaps because they were cut, become question marks.
void text_mend (char *text);
//  A urlencoded form as pairs of a MessagePack map appended to `out`; false: malformed.
bool form_read (text_t form, buf_t *out);

//  conn.c. Peers: what the listener accepted.
struct sockaddr;
conn_t *conn_new (edge_t *edge, int fd, const struct sockaddr *peer, bool admin);
void conn_free (conn_t *conn);
bool conn_header_twice (conn_t *conn, enum lws_token_indexes token);
bool conn_query_read (conn_t *conn, buf_t *out);
void conn_forwarded (conn_t *conn);

//  send.c
void conn_watch_end (conn_t *conn);
//  the next bytes are for libwebsockets
void conn_watch_input (conn_t *conn);
//  notice when the client leaves, though nothing is read
void conn_watch_peer (conn_t *conn);
//  May libwebsockets read?
void conn_flow (conn_t *conn, bool on);
//  Bytes taken; 0: not now; -1: the connection is broken.
ssize_t conn_send (conn_t *conn, const void *data, size_t size);
void conn_send_now (conn_t *conn, text_t text);  //  a few bytes, or the connection goes
//  The client is gone or must go: forget the request, cut the connection.
void conn_drop (conn_t *conn);
//  Close after what was sent: tell the peer, throw away what still comes, then cut.
void conn_linger (conn_t *conn);
//  linger.c: libwebsockets is about to close the socket; tell the peer, throw away what still
//  comes.
void linger_take (edge_t *edge, int fd);
void lingers_end (void);
//  Throw away what has come, and count it in `bytes`. False: the peer's end, an error, or more than
//  `most` by now.
bool socket_drain (int fd, uint64_t *bytes, uint64_t most);
//  Try to write what is in req->out. May finish the request.
void request_flush (request_t *req);
void request_soon (request_t *req);              //  the same, at the end of this turn
void request_soon_forget (request_t *req);

//  http.c
int request_begin (conn_t *conn, const char *path, size_t size);
//  text NULL: the default
void request_refuse (request_t *req, error_code_t code, const char *text);
void request_free (request_t *req);
void request_ids (char id [40], char trace [60]);        //  make those that are empty
void requests_forget (void);                             //  spare structs, at the end
void requests_sweep (void *edge);                        //  timer: deadlines, clients that left

//  http_body.c
//  What the body will be, and whether it may be that large. Answers and returns false when not.
bool request_body_prepare (request_t *req);
void request_body_expect (request_t *req);               //  100 Continue, where it is waited for
int request_body (conn_t *conn, const char *data, size_t size);
int request_body_end (conn_t *conn);
//  libwebsockets closes when it gets this. What the peer was told arrives although it still sends.
int request_cut (conn_t *conn);

//  http_who.c
//  Find out who asks; then the call, or an answer of our own.
void request_auth (request_t *req, route_auth_t auth, bool anon_key);

//  call.c
void request_called (request_t *req);            //  auth, limits and body are there: call the actor

//  upload.c
void upload_new (request_t *req);
void upload_free (request_t *req);
void upload_data (request_t *req, text_t data);
void upload_start (request_t *req);              //  who asks is known and may
void upload_end (request_t *req);
uint32_t upload_meta (request_t *req, buf_t *meta);
void upload_credit (void *arg, uint64_t count);
bool upload_halted (const request_t *req);
bool multipart_read (const char *boundary, text_t body, buf_t *out);

//  Answers. Each request gets exactly one; all of them may be called at any time on the loop
//  thread.
void reply_json (request_t *req, unsigned status, text_t json);
void reply_bytes (request_t *req, unsigned status, const char *content_type, text_t data);
void reply_fault (request_t *req, const fault_t *fault);
void reply_bus (request_t *req, const bus_reply_t *reply);
void reply_meta (request_t *req, mp_t meta);     //  the headers that REPLY.meta asks for
//  Add a header to the answer that will come (before it is given). Name as on the wire.
void reply_header (request_t *req, const char *name, text_t value);

//  A streamed answer: head now, bytes as they come. size -1: chunked (or until close for HTTP/1.0).
void reply_stream (request_t *req, unsigned status, const char *content_type, int64_t size);
void reply_push (request_t *req, text_t data);
size_t reply_pending (const request_t *req);     //  pushed, not yet handed to the socket
//  broken: the connection is cut so that the client notices
void reply_end (request_t *req, bool broken);

//  An endpoint of the edge itself (health, docs, …). Tables of them end with {0}. With `body`
//  the request is handed over when its body (JSON, ≤ 64 KiB, decoded in req->body as MessagePack)
//  is there.
struct local {
    verb_t verb;
    const char *path;            //  exact, or a prefix when it ends with "*"
    bool auth;                   //  a good token is required; req->session is set
    bool body;
    bool admin;                  //  only on the admin listener
    void (*serve) (request_t *req);
    const char *doc;             //  NULL: not in /openapi.json
    bool optional;               //  a good token is looked at, a missing or bad one is no error
    bool ticket;                 //  ?ticket= does, too
};
extern const local_t edge_locals [];             //  local.c
//  sse.c: GET /events (server-sent events)
extern const local_t live_locals [];

//  ---------------------------------------------------------------- calls for WebSocket and others
//  (call.c)

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

//  Look the method up, check role and limits exactly as over HTTP, and call. 0: refused, see fault;
//  else the id for bus_cancel and bus_grant. on_reply never runs inside.
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
    const char *params [ROUTE_PARAMS];    //  names of :params, in order
    void *counters;              //  stats.c
};

typedef struct {
    const route_t *route;        //  NULL: see verbs
    unsigned verbs;              //  bit per verb_t that this path has; 0: no such path
    text_t values [ROUTE_PARAMS];         //  of :params, views into the looked-up path
} match_t;

router_t *router_new (void);
router_t *router_ref (router_t *self);
void router_drop (router_t **self_p);
//  Take the announced routes of an actor (an array of route maps, copied). Returns the number of
//  rows refused.
size_t router_add (router_t *self, const char *actor, mp_t routes);
match_t router_find (const router_t *self, verb_t verb, text_t path);
const route_t *router_method (const router_t *self, text_t method);     //  also bus-only ones
size_t router_size (const router_t *self);
const route_t *router_at (const router_t *self, size_t position);
//  ---------------------------------------------------------------- directory.c

directory_t *directory_new (void);
void directory_destroy (directory_t **self_p);
//  Rebuild edge->router when an announcement changed. True: it did.
bool directory_refresh (edge_t *edge);
//  How long has no instance of this actor been up, ms; 0: one is (or it was never seen).
int64_t directory_absent (edge_t *edge, const char *actor);
//  Walk the actors ever seen:  for (size_t at = 0; directory_each (edge, &at, &name, &up);)
bool directory_each (edge_t *edge, size_t *at, const char **name, size_t *up);

//  ---------------------------------------------------------------- who asks (auth.c)

static inline bool
credential_is_ticket (text_t credential)
{
    return text_starts (credential, TICKET_PREFIX);
}

//  Shared by the requests and connections of one token; referenced. When `revoked` turns true
//  live_revoked is called.
struct session {
    unsigned refs;
    char *user, *role, *org, *email, *kind, *jti;     //  "" when absent
    int64_t iat, exp;            //  Unix seconds; 0: none
    int64_t checked;             //  loop_now when identity last confirmed it
    buf_t identity;              //  MessagePack map for CALL.identity
    bool revoked;
    char hash [65];              //  of the credential
    auth_t *auth;
    session_t *prev, *next;      //  of all sessions that somebody holds
};

session_t *session_ref (session_t *self);
void session_drop (session_t **self_p);

//  session.c, for auth.c
session_t *session_new (auth_t *auth, session_t **list, mp_t identity);
void session_fill (session_t *self, mp_t identity);
void session_forget (session_t *self);
void auth_list_head (auth_t *self, session_t *session);
text_t claims_user (mp_t claims);                //  user id that a token's claims name

auth_t *auth_new (edge_t *edge);
void auth_destroy (auth_t **self_p);

//  Check a token or API key. Calls fn exactly once, often before it returns (then the answer is
//  NULL); session is NULL with a fault otherwise, borrowed (session_ref to keep). auth_cancel: fn
//  will not be called.
typedef void (auth_fn) (void *arg, session_t *session, const fault_t *fault);
void *auth_check (auth_t *self, text_t credential, auth_fn *fn, void *arg);
void auth_cancel (auth_t *self, void *wait);
//  Is a session that auth_check gave before good without asking again?
bool auth_known (auth_t *self, session_t *session);
//  The session of whoever holds only the anon key.
session_t *auth_anon (auth_t *self);
//  May this session (NULL: nobody) use the route? False fills the fault. Also false when the
//  session was revoked or has expired, or nothing was heard from identity for 30 s.
bool auth_allows (auth_t *self, session_t *session, const route_t *route, fault_t *fault);
//  Is this session good now (not revoked, not expired, identity heard)? WebSockets ask before they
//  deliver.
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
bool limit_parse (const char *text, double *per_ms, double *burst);     //  "10/m:20"
//  The same for a route: by user or address; sign-ins by address and by account and address.
bool limiter_take_for (limiter_t *self, route_limit_t limit, const char *user, const char *ip,
                       mp_t body, fault_t *fault);
bool limiter_take (limiter_t *self, route_limit_t limit, const char *who, fault_t *fault);

//  ---------------------------------------------------------------- counters and access log
//  (stats.c)

stats_t *stats_new (edge_t *edge);
void stats_destroy (stats_t **self_p);
//  Counters of a row, by verb and pattern; they outlive the router.
void *stats_route (stats_t *self, const route_t *route);
void stats_request (stats_t *self, request_t *req);          //  answered: count, time, log
void stats_flush (stats_t *self);                            //  write what access lines there are
void stats_metrics (request_t *req);                         //  GET /metrics

//  Served as they are (openapi.c, static.c, health.c)
void openapi_serve (request_t *req);
void docs_serve (request_t *req);
void root_serve (request_t *req);
void static_serve (request_t *req);
void health_serve (request_t *req);
void health_live_serve (request_t *req);
void health_ready_serve (request_t *req);

//  ---------------------------------------------------------------- live (live.c), called by main.c

live_t *live_new (edge_t *edge);
void live_destroy (live_t **self_p);
//  every event but sys/identity
void live_event (live_t *self, const wire_event_t *event);
void live_subscribed (live_t *self, const wire_subscribed_t *answer, bool again);
void live_directory (live_t *self);                                  //  actors came or went
void live_revoked (live_t *self, session_t *session);                //  close what rests on it
void live_grants (live_t *self, text_t user, mp_t audiences);        //  memberships changed
//  process ends: tell clients 1012, staggered
void live_drain (live_t *self);
void live_metrics (live_t *self, buf_t *out);                        //  Prometheus lines

#endif
