//  client.c -- a subscriber of any transport: its subscriptions, their positions, what it is told
//  next.

#include <stdlib.h>

#include "live.h"

static void sub_snapshot (sub_t *self);

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

static void
sub_free (sub_t *self)
{
    bus_t *bus = self->client->live->edge->bus;
    if (self->call)
        bus_cancel (bus, self->call);
    ltimer_end (&self->retry);
    if (self->channel)
        channel_remove (self->channel, self);
    buf_free (&self->page);
    buf_free (&self->cursor);
    buf_free (&self->id_buf);
    free (self);
}

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

static void
subscribe_answer (sub_t *self)
{
    if (mp_is_none (self->id))
        return;
    channel_t *channel = self->channel;
    buf_t body = { 0 };
    mp_put_map (&body, 4);
    mp_pair_str (&body, "ch", channel->name);
    mp_pair_str (&body, "epoch", channel->epoch);
    mp_put_str (&body, "off");
    mp_put_uint (&body, channel->top);
    mp_pair_bool (&body, "recovered", self->recovered);
    client_answer (self->client, self->id, "subscribe", mp_buf (&body));
    buf_free (&body);
}

void
sub_opened (sub_t *self)
{
    channel_t *channel = self->channel;
    bool same = self->want_epoch [0] == 0 || strcmp (self->want_epoch, channel->epoch) == 0;
    uint64_t asked = self->off;
    self->recovered = self->has_off && same && asked <= channel->top;
    if (!self->recovered)
        self->off = channel->top;
    self->ready = true;
    subscribe_answer (self);
    if (self->has_off && !self->recovered)
        sub_gap (self, asked + 1, channel->top, "epoch");
    else if (self->snapshot && !self->has_off)
        sub_snapshot (self);
    self->client->sink.wake (self->client->sink.arg);
}

void
sub_more (sub_t *self)
{
    self->client->sink.wake (self->client->sink.arg);
}

//  Offsets that will not come. A collection goes on with a snapshot, a log with what its owner
//  still has.
void
sub_gap (sub_t *self, uint64_t from, uint64_t to, const char *why)
{
    buf_t out = { 0 };
    mp_put_map (&out, 3);
    mp_pair_str (&out, "ch", self->channel->name);
    mp_put_str (&out, "gap");
    mp_put_map (&out, 3);
    mp_put_str (&out, "from");
    mp_put_uint (&out, from);
    mp_put_str (&out, "to");
    mp_put_uint (&out, to);
    mp_pair_str (&out, "why", why);
    mp_pair_str (&out, "epoch", self->channel->epoch);
    client_say (self->client, mp_buf (&out));
    buf_free (&out);
    self->client->live->gaps++;
    if (self->call) {
        bus_cancel (self->client->live->edge->bus, self->call);
        self->call = 0;
    }
    self->paging = self->snapping = false;
    buf_clear (&self->page);
    self->off = strcmp (why, "epoch") == 0 && !self->channel->collection ? 0 : to;
    if (self->channel->collection)
        sub_snapshot (self);
}

//  ---------------------------------------------------------------- pages from the owner

static void
sub_again (void *arg)
{
    sub_t *self = arg;
    if (self->snapping && !self->call)
        sub_snapshot (self);
    else
        sub_more (self);
}

static void
sub_try_later (sub_t *self)
{
    if (!self->retry)
        self->retry = loop_timer (self->client->live->edge->loop, sub_again, self);
    ltimer_set (self->retry, 300);
}

static void
on_page (void *arg, const bus_reply_t *reply)
{
    sub_t *self = arg;
    self->call = 0;
    if (reply->status != 200) {
        sub_try_later (self);
        return;
    }
    text_t epoch = mp_text (mp_get (reply->body, "epoch"));
    mp_t gap = mp_get (reply->body, "gap"), events = mp_get (reply->body, "events");
    if (!text_is (epoch, self->channel->epoch))
        return;                                  //  the channel finds out itself and says gap
    if (!mp_empty (gap)) {
        sub_gap (self, mp_uint (mp_get (gap, "from")), mp_uint (mp_get (gap, "to")), "retention");
        if (self->channel->collection)
            return;
    }
    buf_clear (&self->page);
    mp_put (&self->page, events);
    self->page_at = mp_iter (mp_buf (&self->page));
    self->paging = mp_count (events) > 0;
    if (!self->paging && self->off < self->channel->top)
        sub_try_later (self);
    else
        sub_more (self);
}

static void
on_snapshot (void *arg, const bus_reply_t *reply)
{
    sub_t *self = arg;
    self->call = 0;
    if (reply->status == 503 || reply->status == 504) {
        sub_try_later (self);
        return;
    }
    if (reply->status != 200) {  //  a log, or a collection that has no rows to show: go on live
        self->snapping = false;
        sub_more (self);
        return;
    }
    if (self->cursor.size == 0)
        self->snap_off = mp_uint (mp_get (reply->body, "off"));
    mp_t cursor = mp_get (reply->body, "cursor"), rows = mp_get (reply->body, "rows");
    buf_clear (&self->cursor);
    if (!mp_empty (cursor)) {
        text_t text = mp_text (cursor);
        buf_put (&self->cursor, text.data, text.size);
    }
    buf_clear (&self->page);
    mp_put (&self->page, rows);
    self->page_json = true;
    sub_more (self);
}

static void
sub_snapshot (sub_t *self)
{
    channel_t *channel = self->channel;
    edge_t *edge = self->client->live->edge;
    buf_t params = { 0 };
    char method [128];
    self->snapping = true;
    mp_put_map (&params, self->cursor.size ? 2 : 1);
    mp_pair_str (&params, "ch", channel->name);
    if (self->cursor.size)
        mp_pair_text (&params, "cursor", buf_text (&self->cursor));
    snprintf (method, sizeof method, "%s.live.snapshot", channel->actor);
    self->call = bus_call (edge->bus,
                           &(bus_call_t){ .method = text_of (method),
                                          .params = mp_buf (&params),
                                          .identity = mp_buf (&self->client->session->identity),
                                          .ttl = 5000,
                                          .idempotent = true,
                                          .on_reply = on_snapshot,
                                          .arg = self });
    buf_free (&params);
}

//  ---------------------------------------------------------------- pulling

static void
put_event (sub_t *self, event_t *event, buf_t *out)
{
    client_t *client = self->client;
    uint64_t prev = self->off;
    self->off = event->off;
    client->live->delivered++;
    if (client->format == FORMAT_SSE) {
        buf_puts (out, "id: ");
        client_cursor (client, out);
        buf_puts (out, "\ndata: ");
    }
    event_write (event, self->channel, prev, client->format, out);
    if (client->format != FORMAT_MSGPACK)
        buf_puts (out, client->format == FORMAT_SSE ? "\n\n" : "\n");
}

static void
put_snapshot_page (sub_t *self, buf_t *out)
{
    client_t *client = self->client;
    bool more = self->cursor.size > 0;
    buf_t object = { 0 };
    mp_put_map (&object, more ? 3 : 2);
    mp_pair_str (&object, "ch", self->channel->name);
    mp_pair (&object, "snap", mp_buf (&self->page));
    if (more)
        mp_pair_bool (&object, "more", true);
    buf_t control = client->control;             //  say it at its place among the events
    client->control = *out;
    client_say (client, mp_buf (&object));
    buf_clear (&object);
    self->page_json = false;
    buf_clear (&self->page);
    if (!more) {
        mp_put_map (&object, 4);
        mp_pair_str (&object, "ch", self->channel->name);
        mp_pair_bool (&object, "snap_end", true);
        mp_put_str (&object, "off");
        mp_put_uint (&object, self->snap_off);
        mp_pair_str (&object, "epoch", self->channel->epoch);
        client_say (client, mp_buf (&object));
        self->snapping = false;
        self->off = self->snap_off;
    }
    *out = client->control;
    client->control = control;
    buf_free (&object);
    if (more)
        sub_snapshot (self);
}

//  In a collection only the newest event of a key matters once a client is behind: is there a newer
//  one up to `top`?
static bool
superseded (const channel_t *channel, const event_t *event)
{
    if (!channel->collection || event->key_hash == 0)
        return false;
    for (uint64_t off = event->off + 1; off <= channel->top; off++)
        if (channel->ring [off % RING_EVENTS]->key_hash == event->key_hash)
            return true;
    return false;
}

static bool
sub_pull (sub_t *self, buf_t *out, size_t max)
{
    channel_t *channel = self->channel;
    size_t before = out->size;
    if (!self->ready || (self->call && self->snapping))
        return false;
    if (self->page_json)
        put_snapshot_page (self, out);
    if (self->snapping)
        return out->size > before;
    while (self->paging && out->size < max) {
        if (!mp_next (&self->page_at)) {
            self->paging = false;
            buf_clear (&self->page);
            break;
        }
        event_t *event = event_from (self->page_at.value);
        if (event->off > self->off)
            put_event (self, event, out);
        event_drop (&event);
    }
    while (!self->paging && !self->call && self->off < channel->top && out->size < max) {
        if (self->off + 1 < channel->floor) {    //  behind the ring
            self->call = channel_read (channel, self->off, PAGE_EVENTS, on_page, self);
            break;
        }
        event_t *event = channel_event (channel, self->off + 1);
        if (channel->top - self->off > 16 && superseded (channel, event)) {
            uint64_t off = self->off + 1;
            while (off < channel->top && superseded (channel, channel_event (channel, off)))
                off++;
            client_t *client = self->client;
            client->live->coalesced += off - self->off - 1;
            event = channel_event (channel, off);
        }
        put_event (self, event, out);
    }
    return out->size > before;
}

bool
client_pull (client_t *self, buf_t *out, size_t max)
{
    size_t before = out->size;
    if (self->control.size) {
        buf_put (out, self->control.data, self->control.size);
        buf_clear (&self->control);
    }
    //  In turn, so that one busy channel can't starve the others.
    sub_t *first = self->turn ? self->turn : self->subs;
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
