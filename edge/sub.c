//  sub.c -- one subscription: opening, gaps, pages and snapshots from the owner, and what is pulled
//  next.

#include <stdlib.h>

#include "live.h"

static void sub_snapshot (sub_t *self);

void
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
    free (self->keys);
    free (self);
}

static void
sub_stand (sub_t *self, uint64_t off)
{
    self->off = off;
    self->skipped = 0;
}

//  The first offset that is neither delivered nor known to be replaced.
static uint64_t
sub_next (const sub_t *self)
{
    return self->off + self->skipped + 1;
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
        sub_stand (self, channel->top);
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
    sub_stand (self, strcmp (why, "epoch") == 0 && !self->channel->collection ? 0 : to);
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

//  In a collection only the newest event of a key matters once a client is behind.
static void
page_keys (sub_t *self, mp_t events)
{
    free (self->keys);
    self->keys = NULL;
    self->key_at = self->key_count = 0;
    if (!self->channel->collection || !self->current || mp_empty (events))
        return;
    self->keys = xcalloc (mp_count (events), sizeof *self->keys);
    for (mp_iter_t it = mp_iter (events); mp_next (&it);)
        self->keys [self->key_count++] = event_key (it.value);
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
        sub_gap (self, position_of (mp_get (gap, "from")), position_of (mp_get (gap, "to")),
                 "retention");
        if (self->channel->collection)
            return;
    }
    buf_clear (&self->page);
    mp_put (&self->page, events);
    self->page_at = mp_iter (mp_buf (&self->page));
    self->paging = mp_count (events) > 0;
    page_keys (self, events);
    if (!self->paging && sub_next (self) <= self->channel->top)
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
        self->snap_off = position_of (mp_get (reply->body, "off"));
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
    //  Who may hear the channel was settled when it was subscribed to: the owner needs no identity.
    self->call = bus_call (edge->bus, &(bus_call_t) {
        .method = text_of (method), .params = mp_buf (&params), .ttl = 5000, .idempotent = true,
        .on_reply = on_snapshot, .arg = self });
    buf_free (&params);
}

//  ---------------------------------------------------------------- pulling

static void
put_event (sub_t *self, event_t *event, buf_t *out)
{
    client_t *client = self->client;
    uint64_t prev = self->off;
    sub_stand (self, event->off);
    client->live->delivered++;
    if (self->channel->collection)
        client->live->coalesced += event->off - prev - 1;
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
        sub_stand (self, self->snap_off);
    }
    *out = client->control;
    client->control = control;
    buf_free (&object);
    if (more)
        sub_snapshot (self);
}

//  Is there a newer event of the same key in the ring, from `off` on?
static bool
replaced (const channel_t *channel, uint64_t key, uint64_t off)
{
    for (off = off > channel->floor ? off : channel->floor; key && off <= channel->top; off++)
        if (channel->ring [off % RING_EVENTS]->key_hash == key)
            return true;
    return false;
}

//  The same of the page's next event, in what is left of the page, too.
static bool
page_replaced (sub_t *self, uint64_t off)
{
    uint64_t key = self->key_at < self->key_count ? self->keys [self->key_at++] : 0;
    for (size_t n = self->key_at; key && n < self->key_count; n++)
        if (self->keys [n] == key)
            return true;
    return replaced (self->channel, key, off + 1);
}

static void
pull_page (sub_t *self, buf_t *out, size_t max)
{
    while (self->paging && out->size < max) {
        if (!mp_next (&self->page_at)) {
            self->paging = false;
            buf_clear (&self->page);
            page_keys (self, mp_none);
            break;
        }
        uint64_t off = position_of (mp_get (self->page_at.value, "off"));
        bool skip = page_replaced (self, off);
        if (off < sub_next (self))
            continue;
        if (skip) {
            self->skipped = off - self->off;
            continue;
        }
        event_t *event = event_from (self->page_at.value);
        put_event (self, event, out);
        event_drop (&event);
    }
}

bool
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
    pull_page (self, out, max);
    while (!self->paging && !self->call && sub_next (self) <= channel->top && out->size < max) {
        uint64_t next = sub_next (self);
        if (next < channel->floor) {             //  behind the ring
            self->call = channel_read (channel, next - 1, PAGE_EVENTS, on_page, self);
            break;
        }
        event_t *event = channel_event (channel, next);
        if (channel->collection && channel->top - next >= 16)
            while (next < channel->top && replaced (channel, event->key_hash, next + 1))
                event = channel_event (channel, ++next);
        put_event (self, event, out);
    }
    if (sub_next (self) > channel->top)
        self->current = true;
    return out->size > before;
}
