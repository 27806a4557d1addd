//  http.c -- a request from its first header on: header rules, route, deadlines. What follows is in
//  http_body.c and http_who.c.

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "edge/edge.h"

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
    if (request_body_prepare (req)) {
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
    return behind ? request_cut (conn) : 0;
}
