//  guest.c -- who a guest is: the role of its key, then the token that it shows.

#include <stdio.h>
#include <stdlib.h>

#include "door.h"
#include "proto/log.h"
#include "proto/token.h"

#define CHECK_MS 5000            //  identity has that long to answer

guest_t *
guest_new (peer_t *peer, const char *key, const char *address)
{
    guest_t *self = xcalloc (1, sizeof *self);
    self->peer = peer;
    self->door = peer->broker->door;
    snprintf (self->key, sizeof self->key, "%s", key ? key : "");
    snprintf (self->address, sizeof self->address, "%s", address ? address : "");
    keyfile_t *file = door_key (self->door, self->key);
    self->role = file ? file->role : KEY_CLIENT;
    self->calls = hash_new (free);
    self->credit = EVENT_CREDIT;
    return self;
}

static void
guest_forget (guest_t *self)
{
    free (self->user);
    free (self->jti);
    free (self->role_name);
    self->user = self->jti = self->role_name = NULL;
    self->issued = self->expires = 0;
    self->granted = false;
    buf_clear (&self->identity);
    buf_clear (&self->audiences);
}

void
guest_left (guest_t *self)
{
    gateway_left (self);
    if (self->checking)
        bus_cancel (self->door->bus, self->checking);
    if (self->asking)
        bus_cancel (self->door->bus, self->asking);
    self->checking = self->asking = 0;
}

void
guest_destroy (guest_t **self_p)
{
    guest_t *self = *self_p;
    if (!self)
        return;
    guest_forget (self);
    buf_free (&self->identity);
    buf_free (&self->audiences);
    buf_free (&self->hello);
    buf_free (&self->claims);
    hash_destroy (&self->calls);
    free (self);
    *self_p = NULL;
}

bool
guest_trusted (const peer_t *peer)
{
    return peer->guest && peer->guest->role == KEY_EDGE;
}

bool
guest_fresh (const guest_t *self)
{
    return !self->user
           || (trust_fresh (self->door->trust)
               && (!self->expires || door_now (self->door) < self->expires));
}

bool
guest_hears (const guest_t *self, text_t audience)
{
    if (!self->user)
        return false;
    if (text_starts (audience, "user:"))
        return text_is ((text_t) { audience.data + 5, audience.size - 5 }, self->user);
    if (self->audiences.size > 0)
        for (mp_iter_t it = mp_iter (mp_buf (&self->audiences)); mp_next (&it);)
            if (text_eq (mp_text (it.value), audience))
                return true;
    return false;
}

//  What it may be was decided; now it takes part.
static void
guest_admit (guest_t *self, const wire_hello_t *hello)
{
    peer_t *peer = self->peer;
    keyfile_t *key = door_key (self->door, self->key);
    if (text_is (hello->role, "actor")
        && !serve_announce (peer, hello, key ? key->prefixes : (char *[]) { NULL }))
        return;
    serve_welcome (peer);
    if (self->user) {
        log_info ("guest", "key", self->key, "user", self->user, "address", self->address);
        trust_grants (self->door->trust, self);
    }
}

static void
guest_admit_kept (guest_t *self)
{
    text_t rest = buf_text (&self->hello);
    mp_t raw;
    wire_hello_t hello;
    if (wire_next (&rest, &raw) == WIRE_HELLO && wire_unpack_hello (raw, &hello))
        guest_admit (self, &hello);
    buf_clear (&self->hello);
}

//  Without a token: nobody, or the actor that its key names.
static void
guest_nobody (guest_t *self)
{
    mp_put_map (&self->identity, 1);
    mp_pair_str (&self->identity, "kind", self->role == KEY_ACTOR ? "actor" : "anon");
}

//  The map that its calls carry: what identity says, with the session and end of this token.
static void
guest_identify (guest_t *self, mp_t said, mp_t claims)
{
    guest_forget (self);
    mp_t jti = mp_get (claims, "jti"), expires = mp_get (claims, "exp");
    if (mp_empty (jti))
        jti = mp_get (said, "jti");
    if (mp_empty (expires))
        expires = mp_get (said, "exp");
    size_t mark = mp_open_map (&self->identity);
    uint32_t pairs = 2;
    for (mp_iter_t it = mp_iter (said); mp_next (&it);) {
        text_t name = mp_text (it.key);
        if (text_is (name, "jti") || text_is (name, "exp"))
            continue;
        mp_put (&self->identity, it.key);
        mp_put (&self->identity, it.value);
        pairs++;
    }
    mp_pair (&self->identity, "jti", jti);
    mp_pair (&self->identity, "exp", expires);
    mp_close (&self->identity, mark, pairs);
    self->user = text_copy (mp_text (mp_get (said, "user")));
    self->role_name = text_copy (mp_text (mp_get (said, "role")));
    self->jti = text_copy (mp_text (jti));
    self->issued = mp_int (mp_get (claims, "iat"));
    self->expires = mp_int (expires);
}

static void
on_checked (void *arg, const bus_reply_t *reply)
{
    guest_t *self = arg;
    self->checking = 0;
    mp_t claims = self->claims.size ? mp_buf (&self->claims) : mp_none;
    if (reply->status == 200 && mp_text (mp_get (reply->body, "user")).size > 0) {
        guest_identify (self, reply->body, claims);
        trust_heard (self->door->trust);
        if (trust_revoked (self->door->trust, self->user, self->jti, self->issued))
            peer_refuse (self->peer, "UNAUTHORIZED", "session was ended");
        else
            guest_admit_kept (self);
    }
    else if (reply->status == 401 || reply->status == 403)
        peer_refuse (self->peer, "UNAUTHORIZED", "token is not valid");
    else
        peer_refuse (self->peer, "UNAVAILABLE", "identity does not answer, try again later");
}

//  Who it is so far stays until identity has answered: a token is renewed on a living connection.
static void
guest_check (guest_t *self, text_t token)
{
    buf_t body = { 0 };
    buf_clear (&self->claims);
    if (text_starts (token, "bb_")) {
        char hash [65];
        sha256_hex (token, hash);
        mp_put_map (&body, 1);
        mp_pair_str (&body, "api_key_hash", hash);
    }
    else {
        const char *secret = self->door->broker->conf.secret;
        token_verdict_t verdict = TOKEN_FORGED;
        if (secret)
            verdict = token_verify (token, text_of (secret), door_now (self->door), &self->claims);
        if (verdict != TOKEN_OK) {
            peer_refuse (self->peer, "UNAUTHORIZED", token_verdict_text (verdict));
            return;
        }
        mp_put_map (&body, 2);
        mp_pair (&body, "user", mp_get (mp_buf (&self->claims), "sub"));
        mp_pair (&body, "jti", mp_get (mp_buf (&self->claims), "jti"));
    }
    bus_call_t call = { .method = TEXT ("identity.check"), .ttl = CHECK_MS, .body = mp_buf (&body),
                        .idempotent = true, .on_reply = on_checked, .arg = self };
    self->checking = bus_call (self->door->bus, &call);
    buf_free (&body);
}

//  What the key allows its holder to be.
static bool
guest_role_fits (const guest_t *self, const wire_hello_t *hello)
{
    keyfile_t *key = door_key (self->door, self->key);
    if (!key)
        return false;
    if (text_is (hello->role, "client"))
        return true;
    if (text_is (hello->role, "edge"))
        return key->role == KEY_EDGE;
    return key->role == KEY_ACTOR && text_is (hello->name, key->actor);
}

void
guest_hello (peer_t *peer, const wire_hello_t *hello, mp_t raw)
{
    guest_t *self = peer->guest;
    if (self->checking)
        return;
    if (!guest_role_fits (self, hello)) {
        char text [160];
        snprintf (text, sizeof text, "key %s does not make its holder %.*s %.*s", self->key,
                  (int) (hello->role.size < 16 ? hello->role.size : 16), hello->role.data,
                  (int) (hello->name.size < 64 ? hello->name.size : 64), hello->name.data);
        peer_refuse (peer, "FORBIDDEN", text);
        return;
    }
    if (hello->token.size == 0 || guest_trusted (peer)) {
        guest_forget (self);
        guest_nobody (self);
        guest_admit (self, hello);
        return;
    }
    buf_clear (&self->hello);
    buf_put (&self->hello, raw.data, (size_t) (raw.end - raw.data));
    guest_check (self, hello->token);
}
