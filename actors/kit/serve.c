//  serve.c -- from CALL to answer: existence, authorisation, owner, input; then the handler in its
//  coroutine.

#include <stdlib.h>

#include "../../proto/fault.h"
#include "kit.h"

//  ---------------------------------------------------------------- calls in service

static req_t **
s_bucket (kit_t *kit, bus_peer_t *peer, uint64_t id)
{
    uint64_t mix = ((uintptr_t) peer >> 4) * 0x9e3779b97f4a7c15u ^ id * 0xff51afd7ed558ccdu;
    return &kit->calls [(mix ^ mix >> 32) % CALLS_TABLE];
}

req_t *
serve_find (kit_t *kit, bus_peer_t *peer, uint64_t id)
{
    req_t *req = *s_bucket (kit, peer, id);
    while (req && (req->peer != peer || req->id != id))
        req = req->chain;
    return req;
}

void
serve_forget (req_t *req)
{
    if (!req->peer)
        return;
    req_t **at = s_bucket (req->kit, req->peer, req->id);
    while (*at && *at != req)
        at = &(*at)->chain;
    if (*at)
        *at = req->chain;
    req->peer = NULL;
}

void
serve_cancelled (void *arg, bus_peer_t *peer, uint64_t id)
{
    actor_t *actor = arg;
    req_t *req = serve_find (actor->kit, peer, id);
    if (!req)
        return;
    serve_forget (req);
    req->cancelled = true;
    req->upload_broken = req->uploading && !req->upload_ended;
    for (deferred_t *hook = req->on_cancel; hook; hook = hook->next)
        hook->fn (hook->arg);
    if (req->sleeper)
        pause_end (req->sleeper);
}

//  ---------------------------------------------------------------- who may

static bool
s_role_listed (const char *roles, const char *role)
{
    //  `user` is another name of `client`.
    const char *other = role;
    if (strcmp (role, "user") == 0)
        other = "client";
    else if (strcmp (role, "client") == 0)
        other = "user";
    for (const char *at = roles; at;) {
        const char *bar = strchr (at, '|');
        text_t word = { at, bar ? (size_t) (bar - at) : strlen (at) };
        if (text_is (word, role) || text_is (word, other))
            return true;
        at = bar ? bar + 1 : NULL;
    }
    return false;
}

static error_code_t
s_authorise (const req_t *req, const route_spec_t *spec)
{
    if (req->operator)
        return E_NONE;
    bool super = strcmp (req->role, "super_admin") == 0;
    switch (spec->auth) {
    case AUTH_NONE:
    case AUTH_OPTIONAL:
        return E_NONE;
    case AUTH_OPERATOR:
        return E_FORBIDDEN;
    default:
        break;
    }
    if (!req->user)
        return E_UNAUTHORIZED;
    if (spec->auth == AUTH_SUPER && !super)
        return E_FORBIDDEN;
    if (spec->auth == AUTH_ADMIN && !super && strcmp (req->role, "admin") != 0)
        return E_FORBIDDEN;
    return spec->roles && !super && !s_role_listed (spec->roles, req->role) ? E_FORBIDDEN : E_NONE;
}

//  ---------------------------------------------------------------- calls for another instance

typedef struct {
    actor_t *actor;
    bus_peer_t *peer;
    uint64_t id;
} relay_t;

static void
s_relayed (void *arg, const bus_reply_t *reply)
{
    relay_t *relay = arg;
    bus_answer (relay->actor->bus, relay->peer, relay->id, reply->status, reply->body, reply->meta);
    free (relay);
}

//  Writes of an audience belong to one instance. A call that reached another (the directory had
//  just changed) goes on by its key, once: to the owner, or to who is it by then, should the owner
//  just die. Two that both think they own it are kept apart by the primary key of the log.
static bool
s_relay (req_t *req, const wire_call_t *call)
{
    const route_spec_t *spec = &req->endpoint->spec;
    text_t key = call->key;
    if (!spec->key || spec->upload || mp_bool (mp_get (req->meta, "relayed")))
        return false;
    if (key.size == 0 && strcmp (spec->key, "user") == 0 && req->user)
        key = text_of (req_print (req, "user:%s", req->user));
    if (key.size == 0 || bus_owns (req->actor->bus, key))
        return false;
    const char *owner = bus_owner (req->actor->bus, key);
    if (!owner || strcmp (owner, req->actor->slot) == 0)
        return false;

    buf_t *meta = &req->kit->meta;
    buf_clear (meta);
    size_t mark = mp_open_map (meta);
    uint32_t count = 1;
    mp_pair_bool (meta, "relayed", true);
    if (mp_type (call->meta) == MP_MAP)
        for (mp_iter_t it = mp_iter (call->meta); mp_next (&it); count++) {
            mp_put (meta, it.key);
            mp_put (meta, it.value);
        }
    mp_close (meta, mark, count);
    relay_t *relay = xmalloc (sizeof *relay);
    *relay = (relay_t) { req->actor, req->peer, req->id };
    bus_call (req->actor->bus, &(bus_call_t) {
        .method = call->method, .key = key, .trace = call->trace, .ttl = (int64_t) call->ttl,
        .identity = call->identity, .params = call->params, .body = call->body,
        .meta = mp_buf (meta),
        .idempotent = spec->idempotent || !mp_empty (mp_get (call->meta, "idempotency_key")),
        .on_reply = s_relayed, .arg = relay });
    return true;
}

//  ---------------------------------------------------------------- running

static void
s_count (req_t *req, unsigned status)
{
    endpoint_t *endpoint = req->endpoint;
    uint64_t us = (uint64_t) (clock_us () - req->started);
    endpoint->calls++;
    endpoint->errors += status >= 400;
    endpoint->us += us;
    if (us > endpoint->us_max)
        endpoint->us_max = us;
    if (log_on (LOG_DEBUG) || status >= 500)
        log_event (status >= 500 ? LOG_WARN : LOG_DEBUG, "request", "method", req->what, "req",
                   req_request_id (req), "user", req->user, "status", log_num (status), "us",
                   log_num ((int64_t) us), "code", req->code ? error_name (req->code) : NULL, NULL);
}

//  Answer if nobody did, and let go of everything the request held.
static void
s_finish (req_t *req, bool good)
{
    kit_t *kit = req->kit;
    if (req->streaming)
        stream_finish (req, good ? E_NONE : req->code);
    else if (!req->answered) {
        if (good)
            reply_empty (req);
        else
            reply_error (req);
    }
    s_count (req, good || req->streaming ? req->status : (unsigned) error_status (req->code));
    if (req->idem_key)
        idem_end (req, !good);
    keyed_leave (req);
    serve_forget (req);
    kit->live--;
    req_free (req);
}

static void
s_handle (req_t *req)
{
    if (req->cancelled)
        return;
    if (req_left (req) == 0)
        fail (req, E_TIMEOUT, NULL);
    if (req->idem_key && idem_begin (req))
        return;
    req->endpoint->run (req);
}

static void
s_run (void *arg)
{
    req_t *req = arg;
    bool good = req_guard (req, s_handle);
    s_finish (req, good);
}

static void
s_start (req_t *req)
{
    //  Operators can always ask how it fails.
    bool fails = req->endpoint->spec.auth != AUTH_OPERATOR && fault (KIT_CO);
    if (!fails && co_start (s_run, req))
        return;
    req->code = E_UNAVAILABLE;
    s_finish (req, false);
}

//  Not now (the loop is inside somebody else's coroutine), but in this turn.
void
serve_start_later (req_t *req)
{
    kit_t *kit = req->kit;
    req->next = NULL;
    *kit->ready_end = req;
    kit->ready_end = &req->next;
    loop_at_end (kit->actor->loop, &kit->start);
}

void
serve_ready (void *arg)
{
    kit_t *kit = arg;
    while (kit->ready) {
        req_t *req = kit->ready;
        kit->ready = req->next;
        if (!kit->ready)
            kit->ready_end = &kit->ready;
        s_start (req);
    }
}

static req_t *
s_request (actor_t *actor, endpoint_t *endpoint, bus_peer_t *peer, const wire_call_t *call)
{
    req_t *req = req_new (actor);
    req->endpoint = endpoint;
    req->what = endpoint->spec.method;
    req->peer = peer;
    req->id = call->id;
    req->started = clock_us ();
    req->deadline = call->ttl < (uint64_t) INT64_MAX / 2
                        ? loop_now (actor->loop) + (int64_t) call->ttl
                        : INT64_MAX;
    req->trace = (text_t) { req_copy (req, call->trace), call->trace.size };
    req->identity = req_keep_mp (req, call->identity);
    req->params = req_keep_mp (req, call->params);
    req->body = req_keep_mp (req, call->body);
    req->meta = req_keep_mp (req, call->meta);
    req->uploading = endpoint->spec.upload && mp_bool (mp_get (req->meta, "stream"));
    req_take_identity (req, req->identity);
    actor->kit->live++;
    return req;
}

//  Ids are checked before anything else hears of them: what is no UUID is simply not there.
static bool
s_ids_good (req_t *req)
{
    return !req->endpoint->needs_id || uuid_valid (mp_text (mp_get (req->params, "id")));
}

static const char *
s_idempotency_key (req_t *req)
{
    text_t key = mp_text (mp_get (req->meta, "idempotency_key"));
    //  An answer stored for nobody in particular could be fetched by anybody.
    if (key.size == 0 || key.size > 255 || !req->endpoint->writes || (!req->user && !req->operator))
        return NULL;
    return req_copy (req, key);
}

void
serve_call (void *arg, bus_peer_t *peer, const wire_call_t *call)
{
    actor_t *actor = arg;
    kit_t *kit = actor->kit;
    endpoint_t *endpoint = hash_get (kit->methods, call->method);
    if (!endpoint) {
        reply_error_to (kit, peer, call->id, E_NOT_FOUND, "no such method");
        return;
    }
    if (kit->live >= REQUESTS_MAX) {
        endpoint->calls++;
        endpoint->errors++;
        reply_error_to (kit, peer, call->id, E_UNAVAILABLE, "too many requests at once");
        return;
    }
    req_t *req = s_request (actor, endpoint, peer, call);
    req->code = s_authorise (req, &endpoint->spec);
    if (req->code == E_NONE && !s_ids_good (req))
        req->code = E_NOT_FOUND;
    if (req->code == E_NONE && s_relay (req, call)) {
        kit->live--;
        req_free (req);
        return;
    }
    req_t **bucket = s_bucket (kit, peer, call->id);
    req->chain = *bucket;
    *bucket = req;
    if (req->code != E_NONE || !input_decode (req)) {
        s_finish (req, false);
        return;
    }
    req->idem_key = s_idempotency_key (req);
    if (!endpoint->keyed || keyed_enter (req))
        s_start (req);
}
