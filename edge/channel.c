//  channel.c -- one channel at this edge: subscribed at the broker, in order, without holes. A hole
//  is filled from the owner (live.read); while the owner is away everybody waits.

#include <stdlib.h>

#include "live.h"

//  To tell somebody is a write to a socket, and costs them as much: from so many subscribers on,
//  events that come close upon another are told together. The first of them goes at once.
#define PACED_SUBS 32
#define PACE_MS 5

static void channel_fill (void *arg);

uint64_t
event_key (mp_t map)
{
    text_t key = mp_text (mp_get (map, "key"));
    return key.size ? text_hash (key) | 1 : 0;
}

event_t *
event_from (mp_t map)
{
    event_t *event = xcalloc (1, sizeof *event);
    event->refs = 1;
    event->off = position_of (mp_get (map, "off"));
    event->key_hash = event_key (map);
    static const char *const names [] = { "key", "type", "at", "data" };
    for (size_t i = 0; i < 4; i++) {
        mp_t value = mp_get (map, names [i]);
        if (mp_empty (value) || (i == 0 && event->key_hash == 0))
            continue;
        buf_putf (&event->json, ",\"%s\":", names [i]);
        json_write (value, &event->json);
    }
    buf_putc (&event->json, '}');
    event->size = sizeof *event + event->json.room;
    return event;
}

void
event_drop (event_t **self_p)
{
    event_t *self = *self_p;
    *self_p = NULL;
    if (self && --self->refs == 0) {
        buf_free (&self->json);
        buf_free (&self->packed);
        free (self);
    }
}

//  MessagePack clients get plain values, not ready JSON.
static void
pack_pairs (event_t *event)
{
    char error [80];
    buf_t text = { 0 };
    buf_putc (&text, '{');
    buf_put (&text, event->json.data + 1, event->json.size - 1);     //  without the leading comma
    if (!json_read (buf_text (&text), &event->packed, error, sizeof error))
        mp_put_map (&event->packed, 0);
    buf_free (&text);
}

void
event_write (event_t *event, const channel_t *channel, uint64_t prev, format_t format, buf_t *out)
{
    if (format == FORMAT_MSGPACK) {
        if (event->packed.size == 0)
            pack_pairs (event);
        mp_t pairs = mp_buf (&event->packed);
        mp_put_map (out, 3 + (uint32_t) mp_count (pairs));
        mp_pair_str (out, "ch", channel->name);
        mp_put_str (out, "off");
        mp_put_uint (out, event->off);
        mp_put_str (out, "prev");
        mp_put_uint (out, prev);
        for (mp_iter_t it = mp_iter (pairs); mp_next (&it);) {
            mp_put (out, it.key);
            mp_put (out, it.value);
        }
        return;
    }
    buf_puts (out, "{\"ch\":");
    json_quote (text_of (channel->name), out);
    buf_putf (out, ",\"off\":%llu,\"prev\":%llu", (unsigned long long) event->off,
              (unsigned long long) prev);
    buf_put (out, event->json.data, event->json.size);
}

//  ---------------------------------------------------------------- ring

event_t *
channel_event (const channel_t *self, uint64_t off)
{
    return off >= self->floor && off <= self->top ? self->ring [off % RING_EVENTS] : NULL;
}

static void
ring_drop_oldest (channel_t *self)
{
    event_t **slot = &self->ring [self->floor++ % RING_EVENTS];
    self->bytes -= (*slot)->size;
    event_drop (slot);
}

static void
ring_clear (channel_t *self)
{
    while (self->floor <= self->top)
        ring_drop_oldest (self);
}

static void
ring_push (channel_t *self, event_t *event)
{
    if (self->top + 1 - self->floor >= RING_EVENTS)
        ring_drop_oldest (self);
    while (self->floor <= self->top && self->bytes + event->size > RING_BYTES)
        ring_drop_oldest (self);
    self->top = event->off;
    self->ring [self->top % RING_EVENTS] = event;
    self->bytes += event->size;
}

//  ---------------------------------------------------------------- reading from the owner

uint64_t
channel_read (channel_t *self, uint64_t from, unsigned limit, bus_reply_fn *fn, void *arg)
{
    buf_t params = { 0 };
    char method [128];
    mp_put_map (&params, 4);
    mp_pair_str (&params, "ch", self->name);
    mp_pair_str (&params, "epoch", self->open ? self->epoch : "");
    mp_put_str (&params, "from");
    mp_put_uint (&params, from);
    mp_pair_int (&params, "limit", limit);
    snprintf (method, sizeof method, "%s.live.read", self->actor);
    uint64_t call = bus_call (self->live->edge->bus, &(bus_call_t){ .method = text_of (method),
                                                                    .params = mp_buf (&params),
                                                                    .ttl = 5000,
                                                                    .idempotent = true,
                                                                    .on_reply = fn,
                                                                    .arg = arg });
    buf_free (&params);
    self->live->reads++;
    return call;
}

//  A new epoch: what was delivered before counts no more.
static void
channel_epoch (channel_t *self, text_t epoch, uint64_t top)
{
    ring_clear (self);
    snprintf (self->epoch, sizeof self->epoch, "%.*s", (int) epoch.size, epoch.data);
    self->top = top;
    self->floor = top + 1;
    self->seen = top;
    for (sub_t *sub = self->subs, *next; sub; sub = next) {
        next = sub->next;
        if (sub->ready)
            sub_gap (sub, sub->off + 1, top, "epoch");
    }
}

static void
wake_subs (channel_t *self)
{
    self->told = self->top;
    self->untold = 0;
    for (sub_t *sub = self->subs; sub; sub = sub->next)
        if (sub->ready)
            sub_more (sub);
}

static void
pace_over (void *arg)
{
    channel_t *self = arg;
    if (self->told == self->top)
        return;
    wake_subs (self);
    ltimer_set (self->pace, PACE_MS);
}

//  There is a new event. Nobody may fall behind the ring by waiting.
static void
tell_subs (channel_t *self)
{
    self->untold += self->ring [self->top % RING_EVENTS]->size;
    bool full = self->top - self->told > RING_EVENTS / 4 || self->untold > RING_BYTES / 4;
    if (self->pace && ltimer_active (self->pace) && !full)
        return;
    wake_subs (self);
    if (self->count < PACED_SUBS)
        return;
    if (!self->pace)
        self->pace = loop_timer (self->live->edge->loop, pace_over, self);
    ltimer_set (self->pace, PACE_MS);
}

static void
try_later (channel_t *self)
{
    int64_t ms = 100 << (self->tries < 5 ? self->tries++ : 5);
    ltimer_set (self->retry, ms);
}

static void
on_read (void *arg, const bus_reply_t *reply)
{
    channel_t *self = arg;
    self->call = 0;
    if (reply->status != 200) {
        try_later (self);
        return;
    }
    self->tries = 0;
    text_t epoch = mp_text (mp_get (reply->body, "epoch"));
    uint64_t top = position_of (mp_get (reply->body, "top"));
    if (!self->open) {
        snprintf (self->epoch, sizeof self->epoch, "%.*s", (int) epoch.size, epoch.data);
        self->top = top;
        self->floor = top + 1;
        self->open = true;
        for (sub_t *sub = self->subs, *next; sub; sub = next) {
            next = sub->next;
            sub_opened (sub);
        }
    }
    else if (!text_is (epoch, self->epoch))
        channel_epoch (self, epoch, top);
    else {
        for (mp_iter_t it = mp_iter (mp_get (reply->body, "events")); mp_next (&it);) {
            uint64_t off = position_of (mp_get (it.value, "off"));
            if (off > self->top
                          + 1) {  //  retention took the middle: subscribers find the gap themselves
                ring_clear (self);
                self->floor = off;
                self->top = off - 1;
            }
            if (off == self->top + 1)
                ring_push (self, event_from (it.value));
        }
        if (top > self->seen)
            self->seen = top;
        wake_subs (self);
    }
    if (self->seen > self->top)
        channel_fill (self);
}

static void
channel_fill (void *arg)
{
    channel_t *self = arg;
    if (self->call == 0)
        self->call = channel_read (self, self->open ? self->top : INT64_MAX,
                                   self->open ? PAGE_EVENTS : 1, on_read, self);
}

//  ---------------------------------------------------------------- life

channel_t *
channel_of (live_t *live, text_t name)
{
    channel_t *self = hash_get (live->channels, name);
    if (self)
        return self;
    const char *actor = bus_channel_actor (live->edge->bus, name);
    if (!actor)
        return NULL;
    self = xcalloc (1, sizeof *self);
    self->live = live;
    self->name = text_copy (name);
    self->actor = text_copy (text_of (actor));
    //  audience/collection has one slash, audience/collection/id is a log
    const char *slash = strchr (self->name, '/');
    self->collection = slash && !strchr (slash + 1, '/');
    self->floor = 1;
    self->retry = loop_timer (live->edge->loop, channel_fill, self);
    hash_put (live->channels, name, self);
    bus_subscribe (live->edge->bus, name, TEXT (""), 0, false);
    return self;
}

static void
channel_end (channel_t *self)
{
    bus_unsubscribe (self->live->edge->bus, text_of (self->name));
    hash_take (self->live->channels, text_of (self->name));
    if (self->call)
        bus_cancel (self->live->edge->bus, self->call);
    ltimer_end (&self->retry);
    ltimer_end (&self->pace);
    ring_clear (self);
    free (self->name);
    free (self->actor);
    free (self);
}

void
channel_add (channel_t *self, sub_t *sub)
{
    sub->channel = self;
    sub->next = self->subs;
    sub->link = &self->subs;
    if (sub->next)
        sub->next->link = &sub->next;
    self->subs = sub;
    self->count++;
    if (self->open)
        sub_opened (sub);
}

void
channel_remove (channel_t *self, sub_t *sub)
{
    *sub->link = sub->next;
    if (sub->next)
        sub->next->link = sub->link;
    sub->channel = NULL;
    if (--self->count == 0)
        channel_end (self);
}

//  ---------------------------------------------------------------- what the bus says

void
live_event (live_t *live, const wire_event_t *event)
{
    channel_t *self = hash_get (live->channels, event->channel);
    if (event->off >= INT64_MAX)
        return;
    if (!self || !self->open) {
        if (self && event->off > self->seen)
            self->seen = event->off;
        return;
    }
    if (!text_is (event->epoch, self->epoch)) {
        channel_fill (self);                         //  the owner says which epoch holds
        return;
    }
    if (event->off > self->seen)
        self->seen = event->off;
    if (event->off == self->top + 1) {
        buf_t map = { 0 };
        mp_put_map (&map, 5);
        mp_put_str (&map, "off");
        mp_put_uint (&map, event->off);
        mp_pair_text (&map, "key", event->key);
        mp_pair_text (&map, "type", event->type);
        mp_pair_text (&map, "at", event->at);
        mp_pair (&map, "data", event->data);
        ring_push (self, event_from (mp_buf (&map)));
        buf_free (&map);
        tell_subs (self);
    }
    else if (event->off > self->top) {
        live->holes++;
        channel_fill (self);
    }
}

//  Subscribed (anew, after the broker came back): whatever was missed is read from the owner.
void
live_subscribed (live_t *live, const wire_subscribed_t *answer, bool again)
{
    (void) again;
    channel_t *self = hash_get (live->channels, answer->channel);
    if (!self)
        return;
    if (answer->code.size)
        try_later (self);
    else
        channel_fill (self);
}

//  An actor came (back): those who wait for it need not wait for their timers.
void
live_directory (live_t *live)
{
    size_t at = 0;
    text_t name;
    void *item;
    while (hash_each (live->channels, &at, &name, &item)) {
        channel_t *self = item;
        if (ltimer_active (self->retry)) {
            ltimer_set (self->retry, 0);
            self->tries = 0;
        }
    }
}
