//  http.c -- a request from its first header to the call: header rules, route, who asks, limits,
//  body.

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "edge/edge.h"

#define BODY_MAX_DEFAULT (1024 * 1024)
#define LOCAL_BODY_MAX 65536
#define SPARE_MAX 64
#define STALL_MS 30000                   //  a peer that takes or gives nothing for so long
#define WATCH_MS 250                     //  from then on we look whether the client is still there
#define SWEEP_MS 250

static request_t *s_spare;
static size_t s_spares;

//  ---------------------------------------------------------------- life of the struct

static request_t *
request_new (conn_t *conn)
{
    request_t *req = s_spare;
    if (req) {
        s_spare = req->next;
        s_spares--;
        buf_t path = req->path, query = req->query, body = req->body, params = req->params;
        buf_t extra = req->extra, out = req->out;
        memset (req, 0, sizeof *req);
        req->path = path;
        req->query = query;
        req->body = body;
        req->params = params;
        req->extra = extra;
        req->out = out;
    }
    else
        req = xcalloc (1, sizeof *req);
    edge_t *edge = conn->edge;
    req->edge = edge;
    req->conn = conn;
    req->endpoint = "(none)";
    req->started = req->moved = loop_now (edge->loop);
    req->started_us = lws_now_usecs ();
    req->stream_left = -1;
    req->next = edge->requests;
    if (req->next)
        req->next->prev = req;
    edge->requests = req;
    edge->request_count++;
    conn->request = req;
    conn->served++;
    if (!ltimer_active (edge->sweep))
        ltimer_set (edge->sweep, SWEEP_MS);
    return req;
}

void
request_free (request_t *req)
{
    edge_t *edge = req->edge;
    if (req->call)
        bus_cancel (edge->bus, req->call);
    if (req->auth_wait)
        auth_cancel (edge->auth, req->auth_wait);
    if (req->on_closed)
        req->on_closed (req);
    if (!req->finished) {
        //  The client left before anything was said: 499, as others call it.
        if (!req->answered)
            req->status = 499;
        stats_request (edge->stats, req);
    }
    upload_free (req);
    request_soon_forget (req);
    session_drop (&req->session);
    router_drop (&req->router);
    req->conn->request = NULL;
    if (req->prev)
        req->prev->next = req->next;
    else
        edge->requests = req->next;
    if (req->next)
        req->next->prev = req->prev;
    edge->request_count--;

    buf_t *bufs [] = { &req->path, &req->query, &req->body, &req->params, &req->extra, &req->out };
    bool keep = s_spares < SPARE_MAX;
    for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++)
        if (keep && bufs [i]->room <= 65536)
            buf_clear (bufs [i]);
        else
            buf_free (bufs [i]);
    if (!keep) {
        free (req);
        return;
    }
    req->next = s_spare;
    s_spare = req;
    s_spares++;
}

void
requests_forget (void)
{
    while (s_spare) {
        request_t *req = s_spare;
        s_spare = req->next;
        buf_t *bufs [] = {
            &req->path, &req->query, &req->body, &req->params, &req->extra, &req->out };
        for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++)
            buf_free (bufs [i]);
        free (req);
    }
    s_spares = 0;
}

void
request_refuse (request_t *req, error_code_t code, const char *text)
{
    fault_t fault = { 0 };
    fault_set (&fault, code, "%s", text ? text : error_text (code));
    reply_fault (req, &fault);
}

//  ---------------------------------------------------------------- headers

static void
random_hex (char *out, size_t size)        //  of 16s
{
    static uint64_t s_state;
    if (!s_state)
        random_bytes (&s_state, sizeof s_state);
    for (size_t i = 0; i < size; i += 16) {
        //  splitmix64: ids need to differ, not to be secret
        uint64_t z = s_state += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        put_hex (out + i, z ^ (z >> 31), 16);
    }
    out [size] = 0;
}

void
request_ids (char id [40], char trace [60])
{
    if (!*id)
        random_hex (id, 16);
    if (!*trace) {
        memcpy (trace, "00-", 3);
        random_hex (trace + 3, 32);
        trace [35] = '-';
        random_hex (trace + 36, 16);
        memcpy (trace + 52, "-01", 4);
    }
}

static void
read_common (request_t *req)
{
    conn_t *conn = req->conn;
    char text [256];
    if (!conn_header_named (conn, "x-request-id:", req->id, sizeof req->id)
        || !request_id_valid (req->id))
        *req->id = 0;
    if (!conn_header_named (conn, "traceparent:", req->trace, sizeof req->trace)
        || !trace_valid (req->trace))
        *req->trace = 0;
    request_ids (req->id, req->trace);
    conn_header (conn, WSI_TOKEN_ORIGIN, req->origin, sizeof req->origin);
    conn_header (conn, WSI_TOKEN_HTTP_IF_NONE_MATCH, req->if_none_match, sizeof req->if_none_match);
    conn_header (conn, WSI_TOKEN_HTTP_IF_MATCH, req->if_match, sizeof req->if_match);
    conn_header (conn, WSI_TOKEN_HTTP_USER_AGENT, req->agent, sizeof req->agent);
    conn_header (conn, WSI_TOKEN_HTTP_ACCEPT, req->accept, sizeof req->accept);
    conn_header (conn, WSI_TOKEN_HOST, req->host, sizeof req->host);
    conn_header (conn, WSI_TOKEN_HTTP_CONTENT_TYPE, req->content_type, sizeof req->content_type);
    conn_header (conn, WSI_TOKEN_HTTP_RANGE, req->range, sizeof req->range);
    conn_header_named (conn, "prefer:", req->prefer, sizeof req->prefer);
    conn_header_named (conn, "idempotency-key:", req->idempotency_key, sizeof req->idempotency_key);
    req->gzip = conn_header (conn, WSI_TOKEN_HTTP_ACCEPT_ENCODING, text, sizeof text)
        && accepts_gzip (text);
    bool connection = conn_header (conn, WSI_TOKEN_CONNECTION, text, sizeof text);
    req->close = (connection && strcasestr (text, "close"))
        || (req->http10 && !(connection && strcasestr (text, "keep-alive")));
}

//  How long is the body? libwebsockets takes "5,6" and "-1", knows no chunked coding and would wait
//  for 100 MiB where a length is missing: what is not one plain number ends the connection.
static error_code_t
read_length (request_t *req)
{
    conn_t *conn = req->conn;
    char text [32];
    if (lws_hdr_total_length (conn->wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0)
        return E_LENGTH;
    enum lws_token_indexes token = WSI_TOKEN_HTTP_CONTENT_LENGTH;
    if (lws_hdr_copy_fragment (conn->wsi, text, sizeof text, token, 0) < 0) {
        if (lws_hdr_total_length (conn->wsi, token) > 0)
            return E_INVALID;
        //  No length, no body; but should one follow all the same, nobody may take it for a
        //  request.
        if (req->verb == VERB_POST || req->verb == VERB_PUT || req->verb == VERB_PATCH)
            req->close = true;
        return E_NONE;
    }
    if (conn_header_twice (conn, token))
        return E_INVALID;
    return length_parse (text_of (text), &req->body_size) ? E_NONE : E_INVALID;
}

static bool
read_line (request_t *req, const char *path, size_t size)
{
    static const verb_t verbs [] = {
        [LWSHUMETH_GET] = VERB_GET, [LWSHUMETH_POST] = VERB_POST,
        [LWSHUMETH_OPTIONS] = VERB_OPTIONS, [LWSHUMETH_PUT] = VERB_PUT,
        [LWSHUMETH_PATCH] = VERB_PATCH, [LWSHUMETH_DELETE] = VERB_DELETE,
        [LWSHUMETH_CONNECT] = VERB_COUNT, [LWSHUMETH_HEAD] = VERB_HEAD,
        [LWSHUMETH_COLON_PATH] = VERB_COUNT
    };
    char *uri = NULL;
    int uri_size = 0;
    int method = lws_http_get_uri_and_method (req->conn->wsi, &uri, &uri_size);
    if (method < 0 || method > LWSHUMETH_COLON_PATH || verbs [method] == VERB_COUNT)
        return false;
    //  A decoded line break in the address ends the line for libwebsockets: then there is no
    //  version behind it.
    char version [16];
    if (!conn_header (req->conn, WSI_TOKEN_HTTP, version, sizeof version)
        || (strcmp (version, "HTTP/1.1") != 0 && strcmp (version, "HTTP/1.0") != 0))
        return false;
    req->verb = verbs [method];
    req->http10 = strcmp (version, "HTTP/1.0") == 0;
    req->head = req->verb == VERB_HEAD;
    buf_put (&req->path, path, size);
    return path_valid (buf_text (&req->path)) && conn_query_read (req->conn, &req->query);
}

//  ---------------------------------------------------------------- preflight, 404, 405

static void
allow_write (unsigned verbs, buf_t *out)
{
    for (unsigned i = 0; i < VERB_COUNT; i++)
        if (verbs & (1u << i) || i == VERB_OPTIONS)
            buf_putf (out, "%s%s", out->size ? ", " : "", verb_name ((verb_t) i));
}

static void
answer_options (request_t *req, unsigned verbs)
{
    char wanted [512];
    buf_t allow = { 0 };
    allow_write (verbs ? verbs : (1u << VERB_COUNT) - 1, &allow);
    reply_header (req, "Allow", buf_text (&allow));
    if (*req->origin) {
        reply_header (req, "Access-Control-Allow-Methods", buf_text (&allow));
        bool asked = conn_header (req->conn, WSI_TOKEN_HTTP_AC_REQUEST_HEADERS, wanted,
                                  sizeof wanted)
            || conn_header_named (req->conn, "access-control-request-headers:", wanted,
                                  sizeof wanted);
        reply_header (req, "Access-Control-Allow-Headers", text_of (asked ? wanted : "*"));
        reply_header (req, "Access-Control-Max-Age", TEXT ("86400"));
    }
    buf_free (&allow);
    reply_bytes (req, 204, NULL, TEXT (""));
}

static void
answer_unrouted (request_t *req, unsigned verbs)
{
    fault_t fault = { 0 };
    //  Who has not heard of anybody yet does not know what there is.
    if (!verbs && !auth_fresh (req->edge->auth)) {
        fault_set (&fault, E_UNAVAILABLE, "starting, try again in a moment");
        fault.retry_after = 1;
        reply_fault (req, &fault);
        return;
    }
    if (!verbs) {
        fault_set (&fault, E_NOT_FOUND, "no such path: %.*s",
                   req->path.size < 100 ? (int) req->path.size : 100, (char *) req->path.data);
        reply_fault (req, &fault);
        return;
    }
    buf_t allow = { 0 };
    allow_write (verbs, &allow);
    reply_header (req, "Allow", buf_text (&allow));
    fault_set (&fault, E_METHOD, "%s is not allowed here, use %.*s", verb_name (req->verb),
               (int) allow.size, (char *) allow.data);
    buf_free (&allow);
    reply_fault (req, &fault);
}

//  ---------------------------------------------------------------- body

static void
expect_continue (request_t *req)
{
    char text [32];
    if (conn_header (req->conn, WSI_TOKEN_HTTP_EXPECT, text, sizeof text)
        && strcasecmp (text, "100-continue") == 0)
        conn_send_now (req->conn, TEXT ("HTTP/1.1 100 Continue\r\n\r\n"));
}

//  What the body will be, and whether it may be that large. Answers and returns false when not.
static bool
body_prepare (request_t *req)
{
    const route_t *route = req->route;
    uint64_t max = LOCAL_BODY_MAX;
    if (route)
        max = route->body_max ? route->body_max
            : route->upload ? (uint64_t) opt_int (req->edge->options, "upload-max")
            : BODY_MAX_DEFAULT;
    if (req->body_size > max) {
        fault_t fault = { 0 };
        fault_set (&fault, E_TOO_LARGE, "body of %llu bytes is larger than %llu",
                   (unsigned long long) req->body_size, (unsigned long long) max);
        reply_fault (req, &fault);
        return false;
    }
    if (req->body_size == 0 && !(route && route->upload)) {
        req->body_done = true;
        return true;
    }
    body_kind_t kind = body_kind_of (req->content_type);
    char encoding [32];
    if (!(route && (route->raw || route->upload))
        && conn_header (req->conn, WSI_TOKEN_HTTP_CONTENT_ENCODING, encoding, sizeof encoding)
        && strcasecmp (encoding, "identity") != 0) {
        request_refuse (req, E_MEDIA_TYPE, "compressed bodies are not supported");
        return false;
    }
    if (kind == BODY_MULTIPART
        && !boundary_parse (req->content_type, req->boundary, sizeof req->boundary)) {
        request_refuse (req, E_INVALID, "multipart body needs a boundary");
        return false;
    }
    if (route && route->upload)
        req->body_kind = kind == BODY_MULTIPART ? BODY_MULTIPART : BODY_STREAM;
    else if (route && route->raw)
        req->body_kind = BODY_RAW;
    else if (kind == BODY_NONE) {
        fault_t fault = { 0 };
        fault_set (&fault, E_MEDIA_TYPE, "media type %.80s is not supported", req->content_type);
        reply_fault (req, &fault);
        return false;
    }
    else
        req->body_kind = kind;
    if (route && route->upload)
        upload_new (req);
    if (req->body_size == 0)
        req->body_done = true;
    req->deadline = loop_now (req->edge->loop)
        + opt_int (req->edge->options, "body-timeout") * 1000 + (int64_t) (req->body_size / 16);
    return true;
}

//  libwebsockets closes now. What the peer was told must arrive although it still sends.
static int
conn_cut (conn_t *conn)
{
    linger_take (conn->edge, conn->fd);
    return -1;
}

int
request_body_end (conn_t *conn)
{
    request_t *req = conn->request;
    //  Where bytes are left behind a body, libwebsockets may say for ever that it is whole.
    if (conn->body_ended)
        return conn_cut (conn);
    conn->body_ended = true;
    if (!req || conn->closing || req->body_done || req->answered)
        return 0;
    if (req->body_seen != req->body_size)
        return -1;
    req->body_done = true;
    conn_flow (conn, false);
    if (req->upload)
        upload_end (req);
    else if (req->state == STATE_BODY)
        request_called (req);
    return 0;
}

//  Is that the beginning of the request itself, perhaps cut where the body would end?
static bool
is_own_head (const request_t *req, const char *data, size_t size)
{
    const char *verb = verb_name (req->verb);
    size_t length = strlen (verb), blank = 0;
    while (blank < size && (data [blank] == '\r' || data [blank] == '\n'))
        blank++;
    data += blank;
    size -= blank;
    return memcmp (data, verb, size < length ? size : length) == 0
        && (size <= length || data [length] == ' ');
}

int
request_body (conn_t *conn, const char *data, size_t size)
{
    request_t *req = conn->request;
    if (!req || conn->closing || req->body_done || req->answered || size == 0)
        return 0;
    if (req->body_seen == 0 && req->maybe_behind && is_own_head (req, data, size))
        return conn_cut (conn);
    //  4.3 hands over what is pipelined behind the body as body, and never says that it is whole.
    bool excess = req->body_seen + size > req->body_size;
    if (excess) {
        size = req->body_size - req->body_seen;
        req->close = true;
    }
    req->body_seen += size;
    req->moved = loop_now (conn->edge->loop);
    if (req->upload)
        upload_data (req, (text_t) { data, size });
    else
        buf_put (&req->body, data, size);
    return excess && conn->request == req ? request_body_end (conn) : 0;
}

//  ---------------------------------------------------------------- who asks

//  Limits, then the body; the call when both are there.
static void
request_admit (request_t *req)
{
    edge_t *edge = req->edge;
    fault_t fault = { 0 };
    const char *user = req->session ? req->session->user : NULL;
    route_limit_t limit = req->route ? req->route->limit : LIMIT_NORMAL;
    //  A sign-in is counted by account, too, so when its body is there (call.c).
    bool counted = req->route ? limit != LIMIT_SIGN_IN : req->local->auth || req->local->optional;
    if ((counted && !limiter_take_for (edge->limiter, limit, user, req->conn->ip, mp_none, &fault))
        || (req->route && !auth_allows (edge->auth, req->session, req->route, &fault))) {
        reply_fault (req, &fault);
        return;
    }
    req->state = STATE_BODY;
    if (!req->body_done && !req->answered)
        expect_continue (req);
    if (req->upload)
        upload_start (req);
    else if (req->body_done)
        request_called (req);
}

static void
request_authed (void *arg, session_t *session, const fault_t *fault)
{
    request_t *req = arg;
    bool optional = req->route ? req->route->auth == AUTH_OPTIONAL || req->route->auth == AUTH_NONE
        : req->local->optional;
    req->auth_wait = NULL;
    if (session) {
        req->session = session_ref (session);
        if (!req->conn->session)
            req->conn->session = session_ref (session);
    }
    else if (!optional || fault->code == E_UNAVAILABLE) {
        reply_fault (req, fault);
        return;
    }
    else if (req->route && req->route->anon_key && !req->anon) {
        request_refuse (req, E_UNAUTHORIZED, "missing or invalid anon-key: every request needs a "
                        "valid anon-key in a header or in the query");
        return;
    }
    request_admit (req);
}

//  The anon key of a request: headers apikey and anon-key, or the same names in the query.
static bool
anon_key_came (request_t *req)
{
    text_t want = req->edge->anon_key;
    if (want.size == 0)
        return true;
    char value [256];
    if (conn_header_named (req->conn, "apikey:", value, sizeof value)
        && secret_eq (text_of (value), want))
        return true;
    if (conn_header_named (req->conn, "anon-key:", value, sizeof value)
        && secret_eq (text_of (value), want))
        return true;
    text_t query = buf_text (&req->query);
    text_t key = query_get (query, "apikey");
    if (!key.data)
        key = query_get (query, "anon-key");
    return key.data && secret_eq (key, want);
}

//  Nothing that lasts is taken from an address.
static text_t
ticket_of (request_t *req)
{
    text_t ticket = query_get (buf_text (&req->query), "ticket");
    return text_starts (ticket, "bt_") ? ticket : TEXT ("");
}

static void
request_auth (request_t *req, route_auth_t auth, bool anon_key)
{
    static char s_value [EDGE_HEADER_MAX];
    text_t credential = { NULL, 0 };
    req->anon = anon_key && anon_key_came (req);
    if (conn_header_twice (req->conn, WSI_TOKEN_HTTP_AUTHORIZATION)) {
        request_refuse (req, E_INVALID, "more than one authorization header");
        return;
    }
    if (conn_header (req->conn, WSI_TOKEN_HTTP_AUTHORIZATION, s_value, sizeof s_value)) {
        if (strncasecmp (s_value, "bearer ", 7) == 0)
            credential = text_of (s_value + 7 + strspn (s_value + 7, " "));
    }
    else if (conn_header_named (req->conn, "x-api-key:", s_value, sizeof s_value))
        credential = text_of (s_value);
    else if (req->local && req->local->ticket)
        credential = ticket_of (req);

    //  A token is not even looked at where none is wanted: a stale one must not stop a sign-in.
    if (auth == AUTH_NONE && (!anon_key || req->anon)) {
        request_admit (req);
        return;
    }
    if (credential.size == 0) {
        fault_t fault = { 0 };
        fault_set (&fault, E_UNAUTHORIZED, "%s", req->anon
                   ? "authentication with user credentials required for this endpoint"
                   : "authentication required");
        request_authed (req, NULL, &fault);
        return;
    }
    conn_t *conn = req->conn;
    if (conn->session && text_eq (credential, buf_text (&conn->credential))
        && auth_known (req->edge->auth, conn->session)) {
        request_authed (req, conn->session, NULL);
        return;
    }
    session_drop (&conn->session);
    buf_clear (&conn->credential);
    //  A ticket is not good for the next request.
    if (!text_starts (credential, "bt_"))
        buf_put (&conn->credential, credential.data, credential.size);
    if (auth == AUTH_OPTIONAL && credential.size < sizeof req->credential)
        memcpy (req->credential, credential.data, credential.size);
    req->state = STATE_AUTH;
    //  The answer may come before auth_check returns, and the request may be gone by then.
    void *wait = auth_check (req->edge->auth, credential, request_authed, req);
    if (wait && conn->request == req)
        req->auth_wait = wait;
}

//  ---------------------------------------------------------------- deadlines

static void
request_overdue (request_t *req, int64_t now)
{
    conn_t *conn = req->conn;
    bool reading = req->state == STATE_BODY && !req->body_done && !req->answered;
    bool halted = req->upload && upload_halted (req);
    //  libwebsockets sets its own short timeout with every piece of a body.
    if (req->body_size)
        lws_set_timeout (conn->wsi, NO_PENDING_TIMEOUT, 0);
    if (reading && !halted && (req->upload ? now - req->moved > STALL_MS : now > req->deadline))
        request_refuse (req, E_TIMED_OUT, NULL);
    else if (reply_pending (req) && now - req->moved > STALL_MS)
        conn_drop (conn);
    else if (req->state == STATE_CALL && req->body_done && now - req->started > WATCH_MS)
        conn_watch_peer (conn);
}

void
requests_sweep (void *arg)
{
    edge_t *edge = arg;
    int64_t now = loop_now (edge->loop);
    for (request_t *req = edge->requests, *next; req; req = next) {
        next = req->next;
        request_overdue (req, now);
    }
    if (edge->requests)
        ltimer_set (edge->sweep, SWEEP_MS);
}

//  ---------------------------------------------------------------- begin

static bool
local_matches (const local_t *local, text_t path)
{
    size_t size = strlen (local->path);
    if (local->path [size - 1] == '*')
        return path.size >= size - 1 && memcmp (path.data, local->path, size - 1) == 0;
    return text_is (path, local->path);
}

//  Our own endpoint for the path; `verbs` collects what the path has.
static const local_t *
local_find (const request_t *req, const local_t *table, unsigned *verbs)
{
    text_t path = buf_text (&req->path);
    for (const local_t *at = table; at->path; at++) {
        if (at->admin != req->conn->admin || !local_matches (at, path))
            continue;
        *verbs |= 1u << at->verb | (at->verb == VERB_GET ? 1u << VERB_HEAD : 0);
        if (at->verb == req->verb || (req->head && at->verb == VERB_GET))
            return at;
    }
    return NULL;
}

static void
path_params (request_t *req, const match_t *match)
{
    for (size_t i = 0; i < match->route->param_count; i++) {
        mp_put_str (&req->params, match->route->params [i]);
        mp_put_text (&req->params, match->values [i]);
        req->param_count++;
    }
}

static void
request_route (request_t *req)
{
    edge_t *edge = req->edge;
    unsigned verbs = 0;
    req->local = local_find (req, edge_locals, &verbs);
    if (!req->local)
        req->local = local_find (req, live_locals, &verbs);
    match_t match = { 0 };
    if (!req->local && !req->conn->admin)
        match = router_find (edge->router, req->verb, buf_text (&req->path));
    if (!req->local && !match.route) {
        if (req->verb == VERB_OPTIONS)
            answer_options (req, verbs | match.verbs);
        else
            answer_unrouted (req, verbs | match.verbs);
        return;
    }
    req->route = match.route;
    req->endpoint = req->local ? req->local->path : match.route->pattern;
    if (match.route) {
        req->router = router_ref (edge->router);
        path_params (req, &match);
    }
    if (body_prepare (req)) {
        if (req->local)
            request_auth (req, req->local->auth ? AUTH_USER
                          : req->local->optional ? AUTH_OPTIONAL : AUTH_NONE, false);
        else
            request_auth (req, match.route->auth, match.route->anon_key);
    }
}

//  Was this request read together with the one before it? A request with a body that is served out
//  of what libwebsockets keeps gets its own header as body, and endless news of its end. Whether it
//  keeps something shows in whether it would wait; *maybe: somebody else's bytes do that, too.
static bool
read_ahead (conn_t *conn, bool *maybe)
{
    struct lws_context *context = conn->edge->context;
    lws_rx_flow_control (conn->wsi, 0);
    bool others = lws_service_adjust_timeout (context, 1, 0) == 0;
    lws_rx_flow_control (conn->wsi, 1);
    bool any = lws_service_adjust_timeout (context, 1, 0) == 0;
    *maybe = others;
    return any && !others;
}

//  Will libwebsockets look for a body? Where no length is given it waits for 100 MiB.
static bool
brings_body (const request_t *req)
{
    return req->body_size || req->verb == VERB_POST || req->verb == VERB_PUT
        || req->verb == VERB_PATCH
        || lws_hdr_total_length (req->conn->wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH) > 0;
}

int
request_begin (conn_t *conn, const char *path, size_t size)
{
    if (conn->request || conn->closing)
        return -1;
    conn->ssl = lws_get_ssl (conn->wsi);
    conn_forwarded (conn);
    request_t *req = request_new (conn);
    bool line = read_line (req, path, size);
    read_common (req);
    error_code_t length = read_length (req);
    bool host = *req->host || req->http10;
    bool behind = conn->served > 1 && brings_body (req) && read_ahead (conn, &req->maybe_behind);
    conn->body_ended = false;
    //  From here on our own deadlines hold.
    lws_set_timeout (conn->wsi, NO_PENDING_TIMEOUT, 0);
    if (length || !line || !host || behind) {
        req->close = true;
        request_refuse (req, length ? length : E_INVALID,
                        length == E_INVALID ? "content-length is not one plain number"
                        : length ? "transfer-encoding is not supported, send a content-length"
                        : !host ? "host header is missing"
                        : !line ? "path or query is not valid"
                        : "a request with a body must wait for the answer to the one before it");
    }
    else
        request_route (req);
    //  Nothing more is read until the answer is out, except the body.
    req = conn->request;
    if (req && req->body_done)
        conn_flow (conn, false);
    return behind ? conn_cut (conn) : 0;
}
