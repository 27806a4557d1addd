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
    free (self);
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
