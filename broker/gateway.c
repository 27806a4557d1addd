//  gateway.c -- calls of guests: what the edge checks for HTTP is checked here for the door, then
//  our bus client makes the call.

#include <stdlib.h>

#include "door.h"

#define CALLS_MAX 1024           //  of one guest in flight, as WELCOME said
#define BODY_MAX (1024 * 1024)   //  unless the route says otherwise
#define TTL_MAX 3600000
#define STRICT_RATE (10.0 / 60)  //  sign-in and mail: ten a minute
#define STRICT_BURST 20

typedef struct {
    peer_t *peer;
    uint64_t id;                 //  the guest's
    uint64_t bus_id;
    uint64_t credit;             //  chunks of its upload that the actor asked for
    bool streaming;
} asked_t;

static text_t
key_of (const uint64_t *id)
{
    return (text_t) { (const char *) id, sizeof *id };
}

static asked_t *
asked_find (peer_t *peer, uint64_t id)
{
    return hash_get (peer->guest->calls, key_of (&id));
}

static void
asked_end (asked_t *self)
{
    uint64_t id = self->id;
    hash_del (self->peer->guest->calls, key_of (&id));
}

void
gateway_left (guest_t *guest)
{
    text_t key;
    void *item;
    for (size_t at = 0; hash_each (guest->calls, &at, &key, &item);) {
        bus_cancel (guest->door->bus, ((asked_t *) item)->bus_id);
        asked_end (item);
    }
}

//  ---- answers

static void
on_reply (void *arg, const bus_reply_t *reply)
{
    asked_t *self = arg;
    wire_reply_t msg = { .id = self->id, .status = reply->status, .body = reply->body,
                         .meta = reply->meta };
    size_t about = reply->body.data ? (size_t) (reply->body.end - reply->body.data) : 0;
    wire_pack_reply (peer_out (self->peer, about), &msg);
    self->streaming = mp_bool (mp_get (reply->meta, "stream"));
    if (!self->streaming)
        asked_end (self);
}

static void
on_chunk (void *arg, const wire_chunk_t *chunk)
{
    asked_t *self = arg;
    wire_chunk_t msg = *chunk;
    msg.id = self->id;
    wire_pack_chunk (peer_out (self->peer, chunk->data.size), &msg);
    if (chunk->last || chunk->error.size)
        asked_end (self);
}

static void
on_credit (void *arg, uint64_t count)
{
    asked_t *self = arg;
    self->credit += count;
    wire_credit_t msg = { .id = self->id, .count = count };
    wire_pack_credit (peer_out (self->peer, 0), &msg);
}

//  ---- may it?

static bool
bucket_take (bucket_t *self, int64_t now, double rate, double burst)
{
    self->level += self->filled ? (double) (now - self->filled) / 1000 * rate : burst;
    self->filled = now;
    if (self->level > burst)
        self->level = burst;
    if (self->level < 1)
        return false;
    self->level--;
    return true;
}

static bool
rate_fits (guest_t *guest, mp_t route)
{
    const broker_conf_t *conf = &guest->peer->broker->conf;
    int64_t now = loop_now (guest->peer->broker->loop);
    text_t limit = mp_text (mp_get (route, "limit"));
    bool strict = text_is (limit, "sign_in") || text_is (limit, "mail");
    return bucket_take (&guest->normal, now, (double) conf->rate, (double) conf->burst)
           && (!strict || bucket_take (&guest->strict, now, STRICT_RATE, STRICT_BURST));
}

static bool
role_listed (const char *role, text_t roles)
{
    while (roles.size > 0) {
        const char *bar = memchr (roles.data, '|', roles.size);
        text_t word = { roles.data, bar ? (size_t) (bar - roles.data) : roles.size };
        if (text_is (word, role))
            return true;
        size_t taken = word.size + (bar != NULL);
        roles = (text_t) { roles.data + taken, roles.size - taken };
    }
    return false;
}

static error_code_t
auth_of (const guest_t *guest, mp_t route)
{
    text_t auth = mp_text (mp_get (route, "auth")), roles = mp_text (mp_get (route, "roles"));
    const char *role = guest->role_name ? guest->role_name : "";
    bool super = strcmp (role, "super_admin") == 0;
    //  Operators come over ipc; at the door such a method does not exist.
    if (text_is (auth, "operator"))
        return E_NOT_FOUND;
    if (text_is (auth, "none") || text_is (auth, "optional"))
        return E_NONE;
    if (!guest->user)
        return E_UNAUTHORIZED;
    if ((text_is (auth, "admin") && !super && strcmp (role, "admin") != 0)
        || (text_is (auth, "super") && !super) || (roles.size > 0 && !role_listed (role, roles)))
        return E_FORBIDDEN;
    return E_NONE;
}

static error_code_t
call_refusal (peer_t *peer, const wire_call_t *call, mp_t route, const char **text)
{
    guest_t *guest = peer->guest;
    uint64_t max = mp_uint (mp_get (route, "body_max"));
    *text = NULL;
    if (call->id >= RELAY_ID || asked_find (peer, call->id)) {
        *text = "call id is in use or too large";
        return E_INVALID;
    }
    if (hash_size (guest->calls) >= CALLS_MAX || !rate_fits (guest, route))
        return E_RATE_LIMITED;
    if (guest_trusted (peer))
        return E_NONE;
    if (mp_is_none (route))
        return E_NOT_FOUND;
    if (!guest_fresh (guest)) {
        *text = "identity does not answer, try again later";
        return E_UNAVAILABLE;
    }
    if (call->body.data && (uint64_t) (call->body.end - call->body.data) > (max ? max : BODY_MAX))
        return E_TOO_LARGE;
    return auth_of (guest, route);
}

//  ---- the call

//  The routing key follows from the route, not from what the guest says.
static void
key_make (const guest_t *guest, const wire_call_t *call, mp_t route, buf_t *key)
{
    text_t rule = mp_text (mp_get (route, "key"));
    if (text_is (rule, "user") && guest->user)
        buf_putf (key, "user:%s", guest->user);
    else if (text_starts (rule, "param:")) {
        char name [80];
        size_t size = rule.size - 6 < sizeof name - 1 ? rule.size - 6 : sizeof name - 1;
        memcpy (name, rule.data + 6, size);
        name [size] = 0;
        text_t value = mp_text (mp_get (call->params, name));
        if (value.size == 0 && mp_type (call->body) == MP_MAP)
            value = mp_text (mp_get (call->body, name));
        buf_put (key, value.data, value.size);
    }
}

//  Of its meta only what a caller may say, and where it comes from.
static void
meta_make (const guest_t *guest, mp_t said, buf_t *meta)
{
    static const char *const s_names [] = { "request_id", "if_match", "if_none_match",
                                            "idempotency_key", "prefer", "content_type", "stream",
                                            "size", NULL };
    size_t mark = mp_open_map (meta);
    uint32_t pairs = 2;
    for (const char *const *name = s_names; mp_type (said) == MP_MAP && *name; name++) {
        mp_t value = mp_get (said, *name);
        if (mp_is_none (value))
            continue;
        mp_pair (meta, *name, value);
        pairs++;
    }
    mp_pair_str (meta, "ip", guest->address);
    mp_pair_str (meta, "agent", guest->key);
    mp_close (meta, mark, pairs);
}

static void
call_forward (peer_t *peer, const wire_call_t *call, mp_t route)
{
    guest_t *guest = peer->guest;
    buf_t key = { 0 }, meta = { 0 };
    bool trusted = guest_trusted (peer);
    asked_t *asked = xcalloc (1, sizeof *asked);
    asked->peer = peer;
    asked->id = call->id;
    uint64_t ttl = call->ttl < TTL_MAX ? call->ttl : TTL_MAX;
    bus_call_t on = { .method = call->method, .trace = call->trace, .params = call->params,
                      .body = call->body, .ttl = (int64_t) ttl,
                      .on_reply = on_reply, .on_chunk = on_chunk, .on_credit = on_credit,
                      .arg = asked };
    if (trusted) {
        on.key = call->key;
        on.identity = call->identity;
        on.meta = call->meta;
    }
    else {
        key_make (guest, call, route, &key);
        meta_make (guest, call->meta, &meta);
        on.key = buf_text (&key);
        on.identity = mp_buf (&guest->identity);
        on.meta = mp_buf (&meta);
    }
    on.idempotent = mp_bool (mp_get (route, "idempotent"))
                    || !mp_empty (mp_get (on.meta, "idempotency_key"));
    hash_put (guest->calls, key_of (&asked->id), asked);
    peer->broker->stats.calls_relayed++;
    asked->bus_id = bus_call (guest->door->bus, &on);
    buf_free (&key);
    buf_free (&meta);
}

void
gateway_call (peer_t *peer, const wire_call_t *call)
{
    const char *text;
    size_t live;
    mp_t route = bus_route (peer->guest->door->bus, call->method, &live);
    error_code_t refusal = call_refusal (peer, call, route, &text);
    if (refusal)
        own_error (peer, call->id, refusal, text, false);
    else
        call_forward (peer, call, route);
}

//  ---- what a guest says about a call of its own

void
gateway_chunk (peer_t *peer, const wire_chunk_t *chunk)
{
    asked_t *asked = asked_find (peer, chunk->id);
    bus_t *bus = peer->guest->door->bus;
    bool end = chunk->last && chunk->data.size == 0;         //  needs no credit
    if (!asked)
        peer->broker->stats.unknown++;
    else if (chunk->error.size || chunk->data.size > WIRE_CHUNK_MAX
             || (!end && asked->credit == 0)) {
        bus_cancel (bus, asked->bus_id);
        if (!chunk->error.size && !asked->streaming)
            own_error (peer, asked->id, E_INVALID, "chunk without credit or above 64 KiB", false);
        asked_end (asked);
    }
    else {
        asked->credit -= !end;
        bus_upload (bus, asked->bus_id, chunk->data, chunk->last);
    }
}

void
gateway_credit (peer_t *peer, const wire_credit_t *credit)
{
    asked_t *asked = asked_find (peer, credit->id);
    if (asked)
        bus_grant (peer->guest->door->bus, asked->bus_id, credit->count);
}

void
gateway_cancel (peer_t *peer, uint64_t id)
{
    asked_t *asked = asked_find (peer, id);
    if (!asked)
        return;
    bus_cancel (peer->guest->door->bus, asked->bus_id);
    asked_end (asked);
}
