//  replay.c -- events for guests: authorised by audience, under credit, without holes.
//
//  A listener has a position (epoch, off): what its guest was sent last. An event that follows it
//  is sent on. Anything else (no credit, a hole, another epoch) only makes the listener `behind`:
//  we keep the position, and ask the owner's log for what comes after it, at the guest's pace.

#include <stdio.h>
#include <stdlib.h>

#include "door.h"

#define READ_MAX 300             //  events asked for at once
#define READ_MS 5000
#define RETRY_MS 500
#define CREDIT_MAX 100000
#define CHANNEL_MAX 255
#define UNSUBSCRIBED 2501        //  code of UNSUBSCRIBE when permission went

static void listener_read (listener_t *self);

static peer_t *
peer_of (const listener_t *self)
{
    return self->sub.peer;
}

static text_t
channel_of (const listener_t *self)
{
    return text_of (self->sub.topic->channel);
}

static text_t
audience_of (text_t channel)
{
    const char *slash = channel.size ? memchr (channel.data, '/', channel.size) : NULL;
    return (text_t) { channel.data, slash ? (size_t) (slash - channel.data) : channel.size };
}

static void
listener_place (listener_t *self, text_t epoch, uint64_t off)
{
    snprintf (self->epoch, sizeof self->epoch, "%.*s", (int) epoch.size,
              epoch.data ? epoch.data : "");
    self->off = off;
    self->placed = true;
}

//  May anything go out to this guest now?
static bool
guest_open (const guest_t *guest)
{
    return guest->user && guest->credit > 0 && !guest->peer->blocked && guest_fresh (guest);
}

static void
listener_answer (listener_t *self, uint64_t top, bool recovered)
{
    if (self->answered)
        return;
    self->answered = true;
    wire_subscribed_t msg = { .id = self->id, .channel = channel_of (self),
                              .epoch = text_of (self->epoch), .off = top, .recovered = recovered };
    wire_pack_subscribed (peer_out (peer_of (self), 0), &msg);
}

static void
listener_send (listener_t *self, const wire_event_t *event)
{
    peer_t *peer = peer_of (self);
    wire_event_t msg = *event;
    msg.prev = event->off ? self->off : 0;
    size_t about = event->data.data ? (size_t) (event->data.end - event->data.data) : 0;
    wire_pack_event (peer_out (peer, about), &msg);
    peer->guest->credit--;
    peer->broker->stats.events_out++;
    if (event->off)
        listener_place (self, event->epoch, event->off);
}

static void
listener_gap (listener_t *self, text_t epoch, uint64_t from, uint64_t to, text_t why)
{
    wire_gap_t msg = { .channel = channel_of (self), .epoch = epoch, .from = from, .to = to,
                       .why = why };
    wire_pack_gap (peer_out (peer_of (self), 0), &msg);
}

//  ---- catching up

//  Nobody keeps this channel: what is missing cannot be had.
static void
listener_unkept (listener_t *self)
{
    self->behind = self->missed = false;
    listener_answer (self, self->off, false);
}

static void
listener_take (listener_t *self, mp_t body)
{
    text_t epoch = mp_text (mp_get (body, "epoch"));
    uint64_t top = mp_uint (mp_get (body, "top"));
    mp_t gap = mp_get (body, "gap"), events = mp_get (body, "events");
    bool same = text_is (epoch, self->epoch) || !self->epoch [0];
    if (!self->answered) {
        bool recovered = same && mp_empty (gap);
        self->answered = true;
        wire_subscribed_t msg = { .id = self->id, .channel = channel_of (self), .epoch = epoch,
                                  .off = top, .recovered = recovered };
        wire_pack_subscribed (peer_out (peer_of (self), 0), &msg);
    }
    if (!mp_empty (gap)) {
        uint64_t to = mp_uint (mp_get (gap, "to"));
        listener_gap (self, epoch, mp_uint (mp_get (gap, "from")), to,
                      mp_text (mp_get (gap, "why")));
        listener_place (self, epoch, to);
    }
    else if (!same) {
        uint64_t first = mp_uint (mp_get (mp_at (events, 0), "off"));
        uint64_t to = first ? first - 1 : top;
        listener_gap (self, epoch, 1, to, TEXT ("epoch"));
        listener_place (self, epoch, to);
    }
    else if (mp_count (events) == 0 && self->off < top) {
        listener_gap (self, epoch, self->off + 1, top, TEXT ("retention"));
        listener_place (self, epoch, top);
    }
    for (mp_iter_t it = mp_iter (events); guest_open (peer_of (self)->guest) && mp_next (&it);) {
        wire_event_t event = { .channel = channel_of (self), .epoch = epoch,
                               .off = mp_uint (mp_get (it.value, "off")),
                               .key = mp_text (mp_get (it.value, "key")),
                               .type = mp_text (mp_get (it.value, "type")),
                               .at = mp_text (mp_get (it.value, "at")),
                               .data = mp_get (it.value, "data") };
        if (event.off > self->off)
            listener_send (self, &event);
    }
    self->behind = self->off < top;
}

static void
on_read (void *arg, const bus_reply_t *reply)
{
    listener_t *self = arg;
    self->read = 0;
    if (reply->status == 404) {
        listener_unkept (self);
        return;
    }
    if (reply->status != 200) {
        //  The owner is away: that is a wait, not a gap. The subscription holds meanwhile.
        self->retry = loop_now (peer_of (self)->broker->loop) + RETRY_MS;
        listener_answer (self, self->off, self->placed);
        return;
    }
    if (self->placed)
        listener_take (self, reply->body);
    else {
        uint64_t top = mp_uint (mp_get (reply->body, "top"));
        listener_place (self, mp_text (mp_get (reply->body, "epoch")), top);
        listener_answer (self, top, false);
        self->behind = false;
    }
    self->behind = self->behind || self->missed;
    listener_read (self);
}

//  Ask the owner for what comes after our position, if there is something to ask and to send.
static void
listener_read (listener_t *self)
{
    peer_t *peer = peer_of (self);
    guest_t *guest = peer->guest;
    bus_t *bus = guest->door->bus;
    if (!self->behind || self->read || self->denied
        || loop_now (peer->broker->loop) < self->retry || (self->answered && !guest_open (guest)))
        return;
    const char *actor = bus_channel_actor (bus, channel_of (self));
    if (!actor) {
        listener_unkept (self);
        return;
    }
    char method [160];
    snprintf (method, sizeof method, "%s.live.read", actor);
    uint64_t limit = guest->credit < READ_MAX ? guest->credit : READ_MAX;
    buf_t params = { 0 };
    mp_put_map (&params, 4);
    mp_pair_text (&params, "ch", channel_of (self));
    mp_pair_str (&params, "epoch", self->epoch);
    mp_pair_int (&params, "from", (int64_t) self->off);
    mp_pair_int (&params, "limit", self->placed && limit ? (int64_t) limit : 1);
    bus_call_t call = { .method = text_of (method), .key = audience_of (channel_of (self)),
                        .ttl = READ_MS, .params = mp_buf (&params), .idempotent = true,
                        .on_reply = on_read, .arg = self };
    self->missed = false;
    self->read = bus_call (bus, &call);
    buf_free (&params);
}

void
replay_end (peer_t *peer, listener_t *listener)
{
    if (listener->read)
        bus_cancel (peer->guest->door->bus, listener->read);
    listener->read = 0;
}

//  ---- what is published

//  It follows on what was sent, or nobody can tell what is between.
static void
listener_event (listener_t *self, const wire_event_t *event)
{
    if (!self->placed)
        listener_place (self, event->epoch, event->off - 1);
    bool same = text_is (event->epoch, self->epoch);
    if (same && event->off <= self->off)
        return;
    if (same && event->off == self->off + 1) {
        listener_send (self, event);
        return;
    }
    if (bus_channel_actor (peer_of (self)->guest->door->bus, channel_of (self))) {
        self->behind = true;
        listener_read (self);
        return;
    }
    listener_gap (self, event->epoch, same ? self->off + 1 : 1, event->off - 1,
                  same ? TEXT ("slow") : TEXT ("epoch"));
    listener_place (self, event->epoch, event->off - 1);
    listener_send (self, event);
}

void
replay_event (peer_t *peer, listener_t *listener, const wire_event_t *event)
{
    if (listener->denied)
        return;
    if (event->off == 0) {
        if (guest_open (peer->guest))
            listener_send (listener, event);
        else {
            listener->lost = true;
            peer->dropped++;
            peer->broker->stats.events_dropped++;
        }
    }
    else if (listener->behind || listener->read)
        listener->missed = true;
    else if (guest_open (peer->guest))
        listener_event (listener, event);
    else
        listener->behind = true;
}

static void
listener_go_on (listener_t *self)
{
    if (self->lost && guest_open (peer_of (self)->guest)) {
        self->lost = false;
        listener_gap (self, text_of (self->epoch), 0, 0, TEXT ("slow"));
    }
    listener_read (self);
}

void
replay_tick (guest_t *guest)
{
    text_t channel;
    void *item;
    for (size_t at = 0; hash_each (guest->peer->subs, &at, &channel, &item);)
        listener_go_on (item);
}

void
replay_credit (peer_t *peer, uint64_t count)
{
    guest_t *guest = peer->guest;
    guest->credit += count < CREDIT_MAX ? count : CREDIT_MAX;
    if (guest->credit > CREDIT_MAX)
        guest->credit = CREDIT_MAX;
    replay_tick (guest);
}

//  ---- permission

static void
subscribe_refuse (peer_t *peer, uint64_t id, text_t channel, error_code_t code, const char *text)
{
    wire_subscribed_t msg = { .id = id, .channel = channel, .code = text_of (error_name (code)),
                              .text = text_of (text) };
    wire_pack_subscribed (peer_out (peer, 0), &msg);
}

void
replay_allowed (guest_t *guest)
{
    text_t channel;
    void *item;
    for (size_t at = 0; hash_each (guest->peer->subs, &at, &channel, &item);) {
        listener_t *listener = item;
        bool hears = guest_hears (guest, audience_of (channel));
        if (hears && listener->denied) {
            listener->denied = false;
            listener_read (listener);
        }
        else if (!hears && listener->denied) {
            subscribe_refuse (guest->peer, listener->id, channel, E_FORBIDDEN,
                              "this audience is not yours");
            listener_end (guest->peer, listener);
        }
        else if (!hears) {
            wire_unsubscribe_t msg = { .channel = channel, .code = UNSUBSCRIBED,
                                       .reason = TEXT ("permission revoked") };
            wire_pack_unsubscribe (peer_out (guest->peer, 0), &msg);
            listener_end (guest->peer, listener);
        }
    }
}

//  "clusters" is the guest's own, "org:7/clusters" says whose it is.
static bool
channel_full (const guest_t *guest, text_t said, char *out, size_t size)
{
    text_t first = audience_of (said);
    bool whose = first.size > 0 && memchr (first.data, ':', first.size);
    int length = snprintf (out, size, "%s%s%s%.*s", whose ? "" : "user:", whose ? "" : guest->user,
                           whose ? "" : "/", (int) said.size, said.data);
    return length > 0 && (size_t) length < size;
}

void
replay_subscribe (peer_t *peer, const wire_subscribe_t *msg)
{
    guest_t *guest = peer->guest;
    char name [CHANNEL_MAX + 1];
    if (!guest->user || !channel_full (guest, msg->channel, name, sizeof name)) {
        subscribe_refuse (peer, msg->id, msg->channel, guest->user ? E_INVALID : E_UNAUTHORIZED,
                          guest->user ? "channel is too long" : "a token is needed to listen");
        return;
    }
    text_t channel = text_of (name), audience = audience_of (channel);
    bool hears = guest_hears (guest, audience);
    bool shared = text_starts (audience, "org:") || text_starts (audience, "project:");
    if (!hears && (!shared || guest->granted)) {
        subscribe_refuse (peer, msg->id, channel, E_FORBIDDEN, "this audience is not yours");
        return;
    }
    listener_t *listener = events_listen (peer, channel);
    replay_end (peer, listener);
    listener->id = msg->id;
    listener->answered = listener->missed = listener->lost = false;
    listener->denied = !hears;
    listener->placed = false;
    listener_place (listener, msg->epoch, msg->off);
    listener->placed = msg->resume;
    listener->behind = true;
    listener->retry = 0;
    listener_read (listener);
    if (listener->denied)
        trust_grants (guest->door->trust, guest);
}
