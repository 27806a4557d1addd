//  call.c -- a request becomes a CALL, its REPLY an answer; and the same for calls over WebSocket.

#include <stdio.h>
#include <stdlib.h>

#include "edge/edge.h"

#define TTL_DEFAULT 30000
#define TTL_MAX 600000                   //  that a caller may ask for
//  Gigabytes over a slow line; stalls are noticed much sooner.
#define TTL_UPLOAD 3600000
#define ABSENT_MS 10000                  //  an actor away for longer is refused at once
#define WINDOW 4                         //  chunks of a download under way

//  Deadline of a call: the route's, or what a caller of a blocking route asks for (?wait=seconds).
static int64_t
ttl_of (const route_t *route, text_t wait)
{
    int64_t ttl = route->timeout ? route->timeout : route->upload ? TTL_UPLOAD : TTL_DEFAULT;
    uint64_t seconds;
    if (route->blocking && wait.size && length_parse (wait, &seconds)) {
        ttl = (int64_t) (seconds > TTL_MAX / 1000 ? TTL_MAX / 1000 : seconds) * 1000;
        //  The actor answers when the time is over; what it says then must still get through.
        ttl += 5000;
    }
    return ttl;
}

//  The routing key that the route asks for.
static text_t
key_of (const route_t *route, const session_t *session, mp_t params, mp_t body, char *room,
        size_t size)
{
    if (text_is (route->key, "user")) {
        int length = snprintf (room, size, "user:%s", session ? session->user : "");
        return (text_t) { room, length > 0 && (size_t) length < size ? (size_t) length : 0 };
    }
    if (!text_starts (route->key, "param:"))
        return (text_t) { NULL, 0 };
    char name [64];
    snprintf (name, sizeof name, "%.*s", (int) route->key.size - 6, route->key.data + 6);
    mp_t value = mp_get (params, name);
    if (mp_is_none (value) && mp_type (body) == MP_MAP)
        value = mp_get (body, name);
    return mp_type (value) == MP_TEXT ? mp_text (value) : (text_t) { NULL, 0 };
}

//  Nobody is somebody, too: without an identity a call over the local bus would be the operator's.
static mp_t
identity_of (edge_t *edge, session_t *session)
{
    return mp_buf (&(session ? session : auth_anon (edge->auth))->identity);
}

static bool
absent_too_long (edge_t *edge, const route_t *route, fault_t *fault)
{
    if (directory_absent (edge, route->actor) < ABSENT_MS)
        return false;
    fault_set (fault, E_UNAVAILABLE, "%s is not running, try again later", route->actor);
    fault->retry_after = 5;
    return true;
}

//  ---------------------------------------------------------------- HTTP

static void
download_drained (request_t *req)
{
    if (req->call && req->taken) {
        bus_grant (req->edge->bus, req->call, req->taken);
        req->taken = 0;
    }
}

static void
called_chunk (void *arg, const wire_chunk_t *chunk)
{
    request_t *req = arg;
    if (chunk->last)
        req->call = 0;
    req->taken++;
    reply_push (req, chunk->data);
    if (chunk->last)
        reply_end (req, chunk->error.size > 0);
}

static void
called_reply (void *arg, const bus_reply_t *reply)
{
    request_t *req = arg;
    bool stream = mp_bool (mp_get (reply->meta, "stream")) && reply->status < 400;
    if (!stream) {
        req->call = 0;
        reply_bus (req, reply);
        return;
    }
    char type [128];
    text_t text = mp_text (mp_get (reply->meta, "content_type"));
    snprintf (type, sizeof type, "%.*s", (int) text.size, text.data ? text.data : "");
    mp_t size = mp_get (reply->meta, "size");
    reply_meta (req, reply->meta);
    reply_stream (req, (unsigned) reply->status, *type ? type : "application/octet-stream",
                  mp_empty (size) ? -1 : (int64_t) mp_uint (size));
    if (req->head) {
        bus_cancel (req->edge->bus, req->call);
        req->call = 0;
        return;
    }
    req->on_drained = download_drained;
    bus_grant (req->edge->bus, req->call, WINDOW);
}

static uint32_t
meta_pair (buf_t *meta, const char *name, const char *value)
{
    if (*value)
        mp_pair_str (meta, name, value);
    return *value != 0;
}

//  Texts of headers may hold bytes that are no UTF-8; such a one is left out.
static uint32_t
meta_header (buf_t *meta, const char *name, const char *value)
{
    size_t before = meta->size;
    uint32_t count = meta_pair (meta, name, value);
    if (!count || mp_valid (meta->data + before, meta->size - before, 1) == 0)
        return 0;
    size_t key = mp_valid (meta->data + before, meta->size - before, 1);
    if (mp_valid (meta->data + before + key, meta->size - before - key, 1))
        return count;
    meta->size = before;
    return 0;
}

static void
meta_write (request_t *req, buf_t *meta)
{
    buf_clear (meta);
    size_t mark = mp_open_map (meta);
    uint32_t count = 0;
    count += meta_pair (meta, "request_id", req->id);
    count += meta_pair (meta, "ip", req->conn->ip);
    count += meta_pair (meta, "verb", verb_name (req->verb));
    count += meta_header (meta, "route", req->endpoint);
    count += meta_header (meta, "host", req->host);
    count += meta_header (meta, "agent", req->agent);
    count += meta_header (meta, "if_match", req->if_match);
    count += meta_header (meta, "if_none_match", req->if_none_match);
    count += meta_header (meta, "idempotency_key", req->idempotency_key);
    count += meta_header (meta, "prefer", req->prefer);
    if (!req->session)
        count += meta_header (meta, "credential", req->credential);
    count += meta_header (meta, "accept", req->accept);
    count += meta_header (meta, "content_type", req->content_type);
    count += meta_header (meta, "range", req->range);
    if (req->conn->ssl) {
        mp_pair_bool (meta, "tls", true);
        count++;
    }
    if (req->upload)
        count += upload_meta (req, meta);
    mp_close (meta, mark, count);
}

static bool
params_write (request_t *req, buf_t *params)
{
    buf_clear (params);
    size_t mark = mp_open_map (params);
    buf_put (params, req->params.data, req->params.size);
    uint32_t count = req->param_count;
    text_t name, value;
    for (size_t at = 0; query_each (buf_text (&req->query), &at, &name, &value);) {
        if (req->route->anon_key && (text_is (name, "apikey") || text_is (name, "anon-key")))
            continue;
        mp_put_text (params, name);
        mp_put_text (params, value);
        count++;
    }
    mp_close (params, mark, count);
    return mp_valid (params->data, params->size, MP_DEPTH) == params->size;
}

//  The collected bytes as MessagePack. False: refused already.
static bool
body_write (request_t *req, buf_t *body)
{
    char error [160] = "form is malformed";
    text_t text = buf_text (&req->body);
    bool good = true;
    buf_clear (body);
    switch (req->body_kind) {
    case BODY_JSON:
        good = json_read (text, body, error, sizeof error);
        break;
    case BODY_FORM:
        good = form_read (text, body);
        break;
    case BODY_MULTIPART:
        good = req->upload || multipart_read (req->boundary, text, body);
        break;
    case BODY_RAW:
        mp_put_bin (body, text.data, text.size);
        break;
    default:
        break;
    }
    if (good && body->size == 0)
        mp_put_nil (body);
    if (!good)
        request_refuse (req, E_INVALID, error);
    return good;
}

static void
request_local (request_t *req)
{
    static buf_t s_body;
    if (req->local->body) {
        if (!body_write (req, &s_body))
            return;
        buf_clear (&req->body);
        buf_put (&req->body, s_body.data, s_body.size);
    }
    req->local->serve (req);
}

void
request_called (request_t *req)
{
    static buf_t s_params, s_body, s_meta;
    edge_t *edge = req->edge;
    const route_t *route = req->route;
    req->state = STATE_CALL;
    if (!route) {
        request_local (req);
        return;
    }
    fault_t fault = { 0 };
    if (absent_too_long (edge, route, &fault)) {
        reply_fault (req, &fault);
        return;
    }
    if (!body_write (req, &s_body))
        return;
    if (route->limit == LIMIT_SIGN_IN
        && !limiter_take_for (edge->limiter, route->limit, NULL, req->conn->ip, mp_buf (&s_body),
                              &fault)) {
        reply_fault (req, &fault);
        return;
    }
    if (!params_write (req, &s_params)) {
        request_refuse (req, E_INVALID, "path or query is not valid UTF-8");
        return;
    }
    meta_write (req, &s_meta);
    char room [160];
    mp_t params = mp_buf (&s_params), body = mp_buf (&s_body);
    req->call = bus_call (edge->bus, &(bus_call_t) {
        .method = route->method,
        .key = key_of (route, req->session, params, body, room, sizeof room),
        .trace = text_of (req->trace),
        .ttl = ttl_of (route, query_get (buf_text (&req->query), "wait")),
        .identity = identity_of (edge, req->session),
        .params = params, .body = body, .meta = mp_buf (&s_meta),
        .idempotent = !req->upload && (route->idempotent || *req->idempotency_key),
        .on_reply = called_reply, .on_chunk = called_chunk,
        .on_credit = req->upload ? upload_credit : NULL, .arg = req });
}

//  ---------------------------------------------------------------- WebSocket and others

static void
call_meta (const edge_call_t *call, buf_t *meta)
{
    char id [40] = "", trace [60] = "-";
    if (call->request_id.size && call->request_id.size < sizeof id) {
        memcpy (id, call->request_id.data, call->request_id.size);
        id [call->request_id.size] = 0;
    }
    request_ids (id, trace);
    buf_clear (meta);
    size_t mark = mp_open_map (meta);
    uint32_t count = 1;
    mp_pair_str (meta, "request_id", id);
    count += meta_pair (meta, "ip", call->ip ? call->ip : "");
    if (call->idempotency_key.size) {
        mp_pair_text (meta, "idempotency_key", call->idempotency_key);
        count++;
    }
    mp_close (meta, mark, count);
}

uint64_t
edge_call (edge_t *edge, const edge_call_t *call, fault_t *fault)
{
    static buf_t s_meta;
    const route_t *route = router_method (edge->router, call->method);
    //  Bus-only methods are not for clients; they look as if they did not exist.
    if (!route || route->verb.size == 0 || route->auth == AUTH_OPERATOR || route->upload) {
        fault_set (fault, E_NOT_FOUND, "no such method: %.*s",
                   call->method.size < 80 ? (int) call->method.size : 80, call->method.data);
        return 0;
    }
    const char *user = call->session ? call->session->user : NULL;
    if (!limiter_take_for (edge->limiter, route->limit, user, call->ip, call->body, fault)
        || !auth_allows (edge->auth, call->session, route, fault)
        || absent_too_long (edge, route, fault))
        return 0;
    call_meta (call, &s_meta);
    char room [160];
    text_t wait = mp_text (mp_get (call->params, "wait"));
    return bus_call (edge->bus, &(bus_call_t) {
        .method = route->method,
        .key = key_of (route, call->session, call->params, call->body, room, sizeof room),
        .ttl = call->ttl ? call->ttl : ttl_of (route, wait),
        .identity = identity_of (edge, call->session),
        .params = call->params, .body = call->body, .meta = mp_buf (&s_meta),
        .idempotent = route->idempotent || call->idempotency_key.size,
        .on_reply = call->on_reply, .on_chunk = call->on_chunk, .arg = call->arg });
}
