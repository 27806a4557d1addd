//  client.c -- a subscriber of any transport: its subscriptions, their positions, what it is told
//  next.

#include <stdlib.h>

#include "live.h"

//  ---------------------------------------------------------------- saying something

void
client_say (client_t *self, mp_t object)
{
    if (self->format == FORMAT_MSGPACK)
        mp_put (&self->control, object);
    else {
        if (self->format == FORMAT_SSE)
            buf_puts (&self->control, "event: notice\ndata: ");
        json_write (object, &self->control);
        buf_puts (&self->control, self->format == FORMAT_SSE ? "\n\n" : "\n");
    }
    self->sink.wake (self->sink.arg);
}

void
client_answer (client_t *self, mp_t id, const char *name, mp_t body)
{
    if (mp_is_none (id))
        return;
    buf_t out = { 0 };
    mp_put_map (&out, 2);
    mp_pair (&out, "id", id);
    mp_pair (&out, name, body);
    client_say (self, mp_buf (&out));
    buf_free (&out);
}

void
client_error (client_t *self, mp_t id, error_code_t code, const char *text)
{
    buf_t body = { 0 };
    mp_put_map (&body, 4);
    mp_pair_str (&body, "code", error_name (code));
    mp_pair_str (&body, "message", text);
    mp_pair_int (&body, "status", error_status (code));
    mp_pair_bool (&body, "temporary", error_retry (code));
    client_answer (self, mp_is_none (id) ? mp_of ("\xc0", 1) : id, "error", mp_buf (&body));
    buf_free (&body);
}

//  ---------------------------------------------------------------- subscriptions

static sub_t *
sub_find (client_t *self, text_t name)
{
    for (sub_t *sub = self->subs; sub; sub = sub->client_next)
        if (text_is (name, sub->channel->name))
            return sub;
    return NULL;
}

static void
client_detach (client_t *self, sub_t *sub)
{
    for (sub_t **at = &self->subs; *at; at = &(*at)->client_next)
        if (*at == sub) {
            *at = sub->client_next;
            break;
        }
    if (self->turn == sub)
        self->turn = NULL;
    self->count--;
    sub_free (sub);
}

//  Full name of a channel as this client may write it; false when it is no channel name.
static bool
full_name (client_t *self, text_t name, buf_t *out)
{
    if (name.size == 0 || name.size > CHANNEL_NAME_MAX - 42)
        return false;
    for (size_t i = 0; i < name.size; i++) {
        unsigned char c = (unsigned char) name.data [i];
        if (c <= ' ' || c >= 127 || c == '"' || c == '\\')
            return false;
    }
    const char *slash = memchr (name.data, '/', name.size),
               *colon = memchr (name.data, ':', name.size);
    bool audience = (colon && slash && colon < slash) || text_starts (name, "sys/");
    if (!audience)
        buf_putf (out, "user:%s/", self->session->user);
    buf_put (out, name.data, name.size);
    return slash == NULL || slash > name.data;
}

bool
client_pull (client_t *self, buf_t *out, size_t max)
{
    size_t before = out->size;
    if (self->control.size) {
        buf_put (out, self->control.data, self->control.size);
        buf_clear (&self->control);
    }
    //  Nothing is told to a session that may have been revoked without our knowing.
    fault_t fault = { 0 };
    bool good = auth_good (self->live->edge->auth, self->session, &fault);
    if (!good && self->subs)
        live_hold (self->live);
    //  In turn, so that one busy channel can't starve the others.
    sub_t *first = !good ? NULL : self->turn ? self->turn : self->subs;
    for (sub_t *sub = first; sub && out->size < max;) {
        sub_pull (sub, out, max);
        sub = sub->client_next ? sub->client_next : self->subs;
        self->turn = sub;
        if (sub == first)
            break;
    }
    //  Notices that came up while pulling (a gap) stand before what follows them.
    if (self->control.size) {
        buf_put (out, self->control.data, self->control.size);
        buf_clear (&self->control);
    }
    return out->size > before;
}

void
client_cursor (const client_t *self, buf_t *out)
{
    const char *comma = "";
    for (sub_t *sub = self->subs; sub; sub = sub->client_next) {
        buf_putf (out, "%s%u:%s:%llu", comma, sub->index, sub->channel->epoch,
                  (unsigned long long) sub->off);
        comma = ";";
    }
}

//  ---------------------------------------------------------------- commands

static void
subscribe_now (client_t *self, const subscribe_t *want, text_t name)
{
    channel_t *channel = channel_of (self->live, name);
    if (!channel) {
        client_error (self, want->id, E_NOT_FOUND, "no such channel");
        return;
    }
    sub_t *sub = xcalloc (1, sizeof *sub);
    sub->client = self;
    if (!mp_is_none (want->id)) {
        mp_put (&sub->id_buf, want->id);
        sub->id = mp_buf (&sub->id_buf);
    }
    sub->has_off = want->has_off;
    sub->index = want->index;
    sub->off = want->off;
    sub->snapshot = want->snapshot;
    snprintf (sub->want_epoch, sizeof sub->want_epoch, "%.*s", (int) want->epoch.size,
              want->epoch.data ? want->epoch.data : "");
    sub_t **at = &self->subs;
    while (*at)
        at = &(*at)->client_next;
    *at = sub;
    self->count++;
    channel_add (channel, sub);
}

//  A subscription to somebody else's audience before identity said what this user may hear.
struct waiting {
    waiting_t *next;
    buf_t id, channel, epoch;
    subscribe_t want;
};

static void
wait_for_grants (client_t *self, const subscribe_t *want)
{
    waiting_t *waiting = xcalloc (1, sizeof *waiting), **at = &self->waiting;
    waiting->want = *want;
    buf_put (&waiting->channel, want->channel.data, want->channel.size);
    buf_put (&waiting->epoch, want->epoch.data, want->epoch.size);
    if (!mp_is_none (want->id)) {
        mp_put (&waiting->id, want->id);
        waiting->want.id = mp_buf (&waiting->id);
    }
    waiting->want.channel = buf_text (&waiting->channel);
    waiting->want.epoch = buf_text (&waiting->epoch);
    while (*at)
        at = &(*at)->next;
    *at = waiting;
    self->count++;                               //  counts for the limit while it waits
    live_ask_grants (self->live, self->session->user);
}

static void
waiting_free (client_t *self, waiting_t *waiting)
{
    self->count--;
    buf_free (&waiting->id);
    buf_free (&waiting->channel);
    buf_free (&waiting->epoch);
    free (waiting);
}

//  The grants are known: ask again for what waited.
static void
client_granted (client_t *self)
{
    waiting_t *list = self->waiting, *next;
    self->waiting = NULL;
    for (waiting_t *waiting = list; waiting; waiting = next) {
        next = waiting->next;
        subscribe_t want = waiting->want;
        client_subscribe (self, &want);
        waiting_free (self, waiting);
    }
}

void
client_subscribe (client_t *self, const subscribe_t *want)
{
    buf_t name = { 0 };
    bool ask = false;
    if (!full_name (self, want->channel, &name))
        client_error (self, want->id, E_INVALID, "ch: not a channel name");
    else if (sub_find (self, buf_text (&name)))
        client_error (self, want->id, E_CONFLICT, "already subscribed");
    else if (self->count >= CLIENT_CHANNELS)
        client_error (self, want->id, E_RATE_LIMITED, "too many channels on one connection");
    else {
        const char *slash = memchr (name.data, '/', name.size);
        text_t audience = { (const char *) name.data,
                            slash ? (size_t) (slash - (const char *) name.data) : name.size };
        if (live_may (self->live, self->session, audience, &ask))
            subscribe_now (self, want, buf_text (&name));
        else if (ask)
            wait_for_grants (self, want);
        else
            client_error (self, want->id, E_NOT_FOUND, "no such channel");
    }
    buf_free (&name);
}

void
client_unsubscribe (client_t *self, mp_t id, text_t channel)
{
    buf_t name = { 0 };
    sub_t *sub = full_name (self, channel, &name) ? sub_find (self, buf_text (&name)) : NULL;
    if (!sub)
        client_error (self, id, E_NOT_FOUND, "not subscribed");
    else {
        client_detach (self, sub);
        buf_t body = { 0 };
        mp_put_map (&body, 1);
        mp_pair_text (&body, "ch", buf_text (&name));
        client_answer (self, id, "unsubscribe", mp_buf (&body));
        buf_free (&body);
    }
    buf_free (&name);
}

void
client_presence (client_t *self, mp_t id, text_t channel)
{
    buf_t name = { 0 }, body = { 0 };
    sub_t *mine = full_name (self, channel, &name) ? sub_find (self, buf_text (&name)) : NULL;
    if (!mine)
        client_error (self, id, E_NOT_FOUND, "not subscribed");
    else {
        mp_put_map (&body, 3);
        mp_pair_text (&body, "ch", buf_text (&name));
        mp_pair_int (&body, "count", (int64_t) mine->channel->count);
        mp_put_str (&body, "clients");
        mp_put_array (&body, (uint32_t) mine->channel->count);
        for (sub_t *sub = mine->channel->subs; sub; sub = sub->next) {
            mp_put_map (&body, 2);
            mp_pair_str (&body, "client", sub->client->id);
            mp_pair_str (&body, "user", sub->client->session->user);
        }
        client_answer (self, id, "presence", mp_buf (&body));
    }
    buf_free (&body);
    buf_free (&name);
}

//  ---------------------------------------------------------------- life

client_t *
client_new (live_t *live, session_t *session, format_t format, const sink_t *sink)
{
    client_t *self = xcalloc (1, sizeof *self);
    self->live = live;
    self->session = session_ref (session);
    self->format = format;
    self->sink = *sink;
    random_text (self->id, sizeof self->id - 1);
    self->next = live->clients;
    self->link = &live->clients;
    if (self->next)
        self->next->link = &self->next;
    live->clients = self;
    return self;
}

void
client_free (client_t **self_p)
{
    client_t *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    while (self->subs) {
        sub_t *sub = self->subs;
        self->subs = sub->client_next;
        sub_free (sub);
    }
    while (self->waiting) {
        waiting_t *waiting = self->waiting;
        self->waiting = waiting->next;
        waiting_free (self, waiting);
    }
    *self->link = self->next;
    if (self->next)
        self->next->link = self->link;
    session_drop (&self->session);
    buf_free (&self->control);
    free (self);
}

bool
client_refresh (client_t *self, session_t *session)
{
    if (strcmp (self->session->user, session->user) != 0)
        return false;
    session_drop (&self->session);
    self->session = session_ref (session);
    return true;
}

//  Memberships changed: what is no longer theirs ends, with the reason.
void
live_grants_changed (live_t *live, text_t user)
{
    for (client_t *client = live->clients; client; client = client->next) {
        if (!text_is (user, client->session->user))
            continue;
        client_granted (client);
        for (sub_t *sub = client->subs, *next; sub; sub = next) {
            next = sub->client_next;
            bool ask = false;
            const char *slash = strchr (sub->channel->name, '/');
            text_t audience = { sub->channel->name, slash ? (size_t) (slash - sub->channel->name)
                                                          : strlen (sub->channel->name) };
            if (live_may (live, client->session, audience, &ask))
                continue;
            buf_t out = { 0 };
            mp_put_map (&out, 2);
            mp_pair_str (&out, "ch", sub->channel->name);
            mp_put_str (&out, "unsub");
            mp_put_map (&out, 2);
            mp_pair_int (&out, "code", 2501);
            mp_pair_str (&out, "reason", "permission revoked");
            client_say (client, mp_buf (&out));
            buf_free (&out);
            client_detach (client, sub);
        }
    }
}
