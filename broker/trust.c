//  trust.c -- what identity says about sessions: pushed on `sys/identity`, asked when in doubt.
//  When nothing was heard from it for 30 s, nobody who showed a token is served.

#include <stdio.h>
#include <stdlib.h>

#include "door.h"
#include "proto/json.h"
#include "proto/log.h"

#define CHANNEL "sys/identity"
#define FRESH_MS 30000
#define ASK_AFTER 10000          //  silence after which we ask ourselves
#define REVOKED_MAX 200000       //  sessions remembered; more than live tokens can be

struct trust {
    door_t *door;
    hash_t *jtis;                //  sessions that were ended
    hash_t *users;               //  user → int64_t: tokens issued before that time are void
    char *epoch;                 //  position in the log of identity
    uint64_t off;
    int64_t heard;               //  loop_now of the last word of identity; 0: never
    int64_t asked;
    uint64_t asking;             //  identity.revocations in flight
};

trust_t *
trust_new (door_t *door)
{
    trust_t *self = xcalloc (1, sizeof *self);
    self->door = door;
    self->jtis = hash_new (NULL);
    self->users = hash_new (free);
    self->epoch = xstrdup ("");
    return self;
}

void
trust_destroy (trust_t **self_p)
{
    trust_t *self = *self_p;
    if (!self)
        return;
    if (self->asking)
        bus_cancel (self->door->bus, self->asking);
    hash_destroy (&self->jtis);
    hash_destroy (&self->users);
    free (self->epoch);
    free (self);
    *self_p = NULL;
}

static int64_t
trust_now (const trust_t *self)
{
    return loop_now (self->door->broker->loop);
}

bool
trust_fresh (const trust_t *self)
{
    return self->heard && trust_now (self) - self->heard < FRESH_MS;
}

void
trust_heard (trust_t *self)
{
    self->heard = trust_now (self);
}

bool
trust_revoked (const trust_t *self, const char *user, const char *jti, int64_t issued)
{
    if (jti && *jti && hash_get (self->jtis, text_of (jti)))
        return true;
    const int64_t *before = user ? hash_get (self->users, text_of (user)) : NULL;
    return before && issued && issued < *before;
}

static void
trust_enforce (trust_t *self)
{
    guest_t *guest;
    for (size_t at = 0; (guest = door_each (self->door, &at));)
        if (guest->user && !guest->checking
            && trust_revoked (self, guest->user, guest->jti, guest->issued))
            peer_refuse (guest->peer, "UNAUTHORIZED", "session was ended");
}

static void
trust_end_session (trust_t *self, text_t jti)
{
    if (hash_size (self->jtis) >= REVOKED_MAX) {
        hash_destroy (&self->jtis);
        self->jtis = hash_new (NULL);
    }
    if (jti.size > 0)
        hash_put (self->jtis, jti, self);
}

static void
trust_end_user (trust_t *self, text_t user, int64_t before)
{
    int64_t *time = xmalloc (sizeof *time);
    *time = before;
    if (user.size > 0)
        hash_put (self->users, user, time);
    else
        free (time);
}

static void
trust_place (trust_t *self, text_t epoch, uint64_t off)
{
    free (self->epoch);
    self->epoch = text_copy (epoch);
    self->off = off;
}

//  ---- asking

static void
on_revocations (void *arg, const bus_reply_t *reply)
{
    trust_t *self = arg;
    self->asking = 0;
    if (reply->status != 200)
        return;
    trust_heard (self);
    static buf_t s_room;
    mp_t body = json_plain (reply->body, &s_room);
    for (mp_iter_t it = mp_iter (mp_get (body, "jtis")); mp_next (&it);)
        trust_end_session (self, mp_text (it.value));
    for (mp_iter_t it = mp_iter (mp_get (body, "users")); mp_next (&it);)
        trust_end_user (self, mp_text (mp_get (it.value, "user")),
                        mp_int (mp_get (it.value, "before")));
    trust_place (self, mp_text (mp_get (body, "epoch")), mp_uint (mp_get (body, "off")));
    trust_enforce (self);
}

static void
trust_ask (trust_t *self)
{
    if (self->asking)
        return;
    self->asked = trust_now (self);
    bus_call_t call = { .method = TEXT ("identity.revocations"), .ttl = 5000, .idempotent = true,
                        .on_reply = on_revocations, .arg = self };
    self->asking = bus_call (self->door->bus, &call);
}

static void
on_grants (void *arg, const bus_reply_t *reply)
{
    guest_t *guest = arg;
    guest->asking = 0;
    if (reply->status != 200) {
        //  What was asked for stays denied until identity answers; the next tick asks again.
        log_warn ("grants are not known", "user", guest->user);
        return;
    }
    static buf_t s_room;
    buf_clear (&guest->audiences);
    mp_put (&guest->audiences, mp_get (json_plain (reply->body, &s_room), "audiences"));
    guest->granted = true;
    replay_allowed (guest);
}

void
trust_grants (trust_t *self, guest_t *guest)
{
    if (guest->asking || !guest->user)
        return;
    buf_t params = { 0 };
    mp_put_map (&params, 1);
    mp_pair_str (&params, "user", guest->user);
    bus_call_t call = { .method = TEXT ("identity.grants"), .ttl = 5000, .idempotent = true,
                        .params = mp_buf (&params), .on_reply = on_grants, .arg = guest };
    guest->asking = bus_call (self->door->bus, &call);
    buf_free (&params);
}

//  Events were missed: ask for everything anew.
static void
trust_doubt (trust_t *self)
{
    trust_ask (self);
    guest_t *guest;
    for (size_t at = 0; (guest = door_each (self->door, &at));)
        trust_grants (self, guest);
}

//  ---- hearing

static void
trust_granted (trust_t *self, mp_t data)
{
    text_t user = mp_text (mp_get (data, "user"));
    guest_t *guest;
    for (size_t at = 0; (guest = door_each (self->door, &at));) {
        if (!guest->user || !text_is (user, guest->user))
            continue;
        buf_clear (&guest->audiences);
        mp_put (&guest->audiences, mp_get (data, "audiences"));
        guest->granted = true;
        replay_allowed (guest);
    }
}

void
trust_event (trust_t *self, const wire_event_t *event)
{
    if (!text_is (event->channel, CHANNEL))
        return;
    trust_heard (self);
    if (text_is (event->type, "beat")) {
        if (!text_is (event->epoch, self->epoch) || event->off != self->off)
            trust_doubt (self);
        return;
    }
    bool hole = !text_is (event->epoch, self->epoch) || event->off > self->off + 1;
    static buf_t s_room;
    mp_t data = json_plain (event->data, &s_room);
    if (text_is (event->type, "revoked.session"))
        trust_end_session (self, mp_text (mp_get (data, "jti")));
    else if (text_is (event->type, "revoked.user")) {
        for (mp_iter_t it = mp_iter (mp_get (data, "jtis")); mp_next (&it);)
            trust_end_session (self, mp_text (it.value));
        trust_end_user (self, mp_text (mp_get (data, "user")), mp_int (mp_get (data, "before")));
    }
    else if (text_is (event->type, "grants"))
        trust_granted (self, data);
    if (hole)
        trust_doubt (self);
    else if (event->off > self->off)
        self->off = event->off;
    trust_enforce (self);
}

void
trust_ready (trust_t *self)
{
    bus_subscribe (self->door->bus, TEXT (CHANNEL), (text_t) { 0 }, 0, false);
    trust_ask (self);
}

void
trust_tick (trust_t *self)
{
    int64_t now = trust_now (self);
    int64_t since = now - (self->heard > self->asked ? self->heard : self->asked);
    if (self->heard ? since >= ASK_AFTER : since >= 1000)
        trust_ask (self);
    guest_t *guest;
    for (size_t at = 0; (guest = door_each (self->door, &at));)
        if (guest->user && !guest->granted && guest->peer->welcomed)
            trust_grants (self, guest);
}
