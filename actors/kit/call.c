//  call.c -- another actor's method as one line of a handler.

#include <stdlib.h>
#include <string.h>

#include "kit.h"

typedef struct {
    req_t *req;
    pause_t pause;
    bus_reply_t reply;
} waiting_t;

static void
s_reply (void *arg, const bus_reply_t *reply)
{
    waiting_t *waiting = arg;
    waiting->reply.status = reply->status;
    waiting->reply.body = req_keep_mp (waiting->req, reply->body);
    waiting->reply.meta = req_keep_mp (waiting->req, reply->meta);
    pause_end (&waiting->pause);
}

static mp_t
s_identity (req_t *req, const req_call_t *how)
{
    if (how->operator)
        return mp_none;
    if (!how->user)
        return req->identity;
    buf_t *identity = req_buf (req);
    mp_put_map (identity, 3);
    mp_pair_str (identity, "user", how->user);
    mp_pair_str (identity, "role", "user");
    mp_pair_str (identity, "kind", "user");
    return mp_buf (identity);
}

CO bus_reply_t
req_call (req_t *req, const char *method, mp_t params, mp_t body, const req_call_t *how)
{
    static const req_call_t plain;
    waiting_t waiting = { .req = req };
    if (!how)
        how = &plain;
    int64_t left = req_left (req), ttl = how->ttl ? how->ttl : 30000;
    if (left < ttl || (!how->ttl && left != INT64_MAX))
        ttl = left;
    //  Whose request it is travels along, so that one line of the log finds all that belongs
    //  together.
    buf_t meta = { 0 };
    mp_put_map (&meta, how->idempotency_key ? 2 : 1);
    mp_pair (&meta, "request_id", mp_get (req->meta, "request_id"));
    if (how->idempotency_key)
        mp_pair_str (&meta, "idempotency_key", how->idempotency_key);
    bus_call (req->actor->bus, &(bus_call_t) {
        .method = text_of (method), .key = text_of (how->key), .trace = req->trace,
        .ttl = ttl > 0 ? ttl : 1, .identity = s_identity (req, how),
        .params = params, .body = body, .meta = mp_buf (&meta), .idempotent = how->idempotent,
        .slot = how->slot, .on_reply = s_reply, .arg = &waiting });
    buf_free (&meta);
    pause_wait (&waiting.pause);
    return waiting.reply;
}

CO bool
req_elsewhere (req_t *req, const char *key, const char *method, mp_t params, mp_t body)
{
    const actor_t *actor = req->actor;
    const char *owner = bus_owner (actor->bus, text_of (key));
    if (!owner || strcmp (owner, actor->slot) == 0)
        return false;
    bus_reply_t reply = req_call (req, method, params, body,
                                  &(req_call_t) { .slot = req_print (req, "%s", owner) });
    if (reply.status >= 400)
        fail_reply (req, &reply);
    reply_mp (req, (unsigned) reply.status, reply.body);
    return true;
}
