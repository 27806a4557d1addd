//  live.c -- who may hear what at this edge, and the life of everything live together.

#include <stdlib.h>

#include "live.h"

#define HOLD_MS 500
#define GRANTS_USERS 10000               //  users whose audiences are remembered

typedef struct {
    live_t *live;
    char *user;
    buf_t audiences;                     //  MessagePack array of texts
    bool known;
    uint64_t call;
    ltimer_t *retry;
} grants_t;

static void
grants_free (void *item)
{
    grants_t *self = item;
    if (self->call)
        bus_cancel (self->live->edge->bus, self->call);
    ltimer_end (&self->retry);
    buf_free (&self->audiences);
    free (self->user);
    free (self);
}

static void
wake_all (void *arg)
{
    live_t *live = arg;
    for (client_t *client = live->clients; client; client = client->next)
        client->sink.wake (client->sink.arg);
}

void
live_hold (live_t *live)
{
    if (!ltimer_active (live->hold))
        ltimer_set (live->hold, HOLD_MS);
}

live_t *
live_new (edge_t *edge)
{
    live_t *self = xcalloc (1, sizeof *self);
    self->edge = edge;
    self->channels = hash_new (NULL);
    self->grants = hash_new (grants_free);
    self->hold = loop_timer (edge->loop, wake_all, self);
    return self;
}

//  Clients are gone by now: their transports were closed.
void
live_destroy (live_t **self_p)
{
    live_t *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    hash_destroy (&self->channels);
    hash_destroy (&self->grants);
    ltimer_end (&self->hold);
    free (self);
}

//  ---------------------------------------------------------------- grants

bool
live_may (live_t *live, session_t *session, text_t audience, bool *ask)
{
    *ask = false;
    if (session->user [0] && text_starts (audience, "user:"))
        return strlen (session->user) == audience.size - 5
               && memcmp (audience.data + 5, session->user, audience.size - 5) == 0;
    if (!session->user [0]
        || (!text_starts (audience, "org:") && !text_starts (audience, "project:")))
        return false;
    grants_t *grants = hash_get (live->grants, text_of (session->user));
    if (!grants || !grants->known) {
        *ask = true;
        return false;
    }
    for (mp_iter_t it = mp_iter (mp_buf (&grants->audiences)); mp_next (&it);)
        if (text_eq (mp_text (it.value), audience))
            return true;
    return false;
}

static void
grants_ask (void *arg);

static void
grants_set (grants_t *self, mp_t audiences)
{
    static buf_t s_room;
    audiences = json_plain (audiences, &s_room);
    buf_clear (&self->audiences);
    if (mp_type (audiences) == MP_ARRAY)
        mp_put (&self->audiences, audiences);
    else
        mp_put_array (&self->audiences, 0);
    self->known = true;
}

static void
on_grants (void *arg, const bus_reply_t *reply)
{
    grants_t *self = arg;
    self->call = 0;
    if (reply->status != 200) {
        ltimer_set (self->retry, 300);
        return;
    }
    grants_set (self, mp_get (reply->body, "audiences"));
    live_grants_changed (self->live, text_of (self->user));
}

static void
grants_ask (void *arg)
{
    grants_t *self = arg;
    buf_t params = { 0 };
    mp_put_map (&params, 1);
    mp_pair_str (&params, "user", self->user);
    self->call = bus_call (self->live->edge->bus, &(bus_call_t){ .method = TEXT ("identity.grants"),
                                                                 .params = mp_buf (&params),
                                                                 .ttl = 5000,
                                                                 .idempotent = true,
                                                                 .on_reply = on_grants,
                                                                 .arg = self });
    buf_free (&params);
}

//  Those without a client here are forgotten when there are too many.
static void
grants_trim (live_t *live)
{
    size_t at = 0;
    text_t user;
    void *item;
    while (hash_size (live->grants) > GRANTS_USERS / 2
           && hash_each (live->grants, &at, &user, &item)) {
        bool used = false;
        for (client_t *client = live->clients; client && !used; client = client->next)
            used = text_is (user, client->session->user);
        if (!used)
            hash_del (live->grants, user);
    }
}

void
live_ask_grants (live_t *live, const char *user)
{
    grants_t *grants = hash_get (live->grants, text_of (user));
    if (!grants) {
        if (hash_size (live->grants) >= GRANTS_USERS)
            grants_trim (live);
        grants = xcalloc (1, sizeof *grants);
        grants->live = live;
        grants->user = text_copy (text_of (user));
        grants->retry = loop_timer (live->edge->loop, grants_ask, grants);
        hash_put (live->grants, text_of (user), grants);
    }
    if (!grants->call)
        grants_ask (grants);
}

void
live_grants (live_t *self, text_t user, mp_t audiences)
{
    grants_t *grants = hash_get (self->grants, user);
    if (!grants)
        return;
    grants_set (grants, audiences);
    live_grants_changed (self, user);
}

//  ---------------------------------------------------------------- ends

void
live_revoked (live_t *self, session_t *session)
{
    for (client_t *client = self->clients, *next; client; client = next) {
        next = client->next;
        if (client->session == session)
            client->sink.closed (client->sink.arg, 3500, "session revoked");
    }
}

void
live_drain (live_t *self)
{
    for (client_t *client = self->clients, *next; client; client = next) {
        next = client->next;
        client->sink.closed (client->sink.arg, 1012, "restarting");
    }
}

void
live_metrics (live_t *self, buf_t *out)
{
    size_t clients = 0, subscriptions = 0;
    for (client_t *client = self->clients; client; client = client->next) {
        clients++;
        subscriptions += client->count;
    }
    buf_putf (out, "# TYPE busbar_live_clients gauge\nbusbar_live_clients %zu\n", clients);
    buf_putf (out, "# TYPE busbar_live_subscriptions gauge\nbusbar_live_subscriptions %zu\n",
              subscriptions);
    buf_putf (out, "# TYPE busbar_live_channels gauge\nbusbar_live_channels %zu\n",
              hash_size (self->channels));
    static const char *const names [] = { "delivered", "coalesced", "gaps", "reads", "holes" };
    const uint64_t values [] = { self->delivered, self->coalesced, self->gaps, self->reads,
                                 self->holes };
    for (size_t i = 0; i < sizeof names / sizeof names [0]; i++)
        buf_putf (out, "# TYPE busbar_live_%s_total counter\nbusbar_live_%s_total %llu\n",
                  names [i], names [i], (unsigned long long) values [i]);
}
