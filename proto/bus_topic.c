//  bus_topic.c -- events: what we publish, and the channels that we listen to.

#include <stdlib.h>

#include "proto/bus_int.h"
#include "proto/fault.h"

#define BACKLOG_MAX (32 * 1024 * 1024)     //  bytes for the broker; events beyond are dropped
#define UNSAID_MAX 1000                    //  channels

//  A channel that we subscribed. The position is where a new broker is asked to go on from.
typedef struct {
    uint64_t id, off;
    bool resume, answered;
    buf_t epoch;
    char channel [];
} topic_t;

static void
topic_free (void *item)
{
    topic_t *topic = item;
    buf_free (&topic->epoch);
    free (topic);
}

static void
unsaid_free (void *item)
{
    buf_free (item);
    free (item);
}

void
topics_init (bus_t *self)
{
    self->topics = hash_new (topic_free);
    self->unsaid = hash_new (unsaid_free);
}

void
topics_free (bus_t *self)
{
    hash_destroy (&self->topics);
    hash_destroy (&self->unsaid);
}

static void
topic_position (topic_t *topic, text_t epoch, uint64_t off)
{
    if (!text_eq (buf_text (&topic->epoch), epoch)) {
        buf_clear (&topic->epoch);
        buf_put (&topic->epoch, epoch.data, epoch.size);
    }
    topic->off = off;
}

static void
topic_send (bus_t *self, topic_t *topic)
{
    if (self->broker_state < BROKER_WELCOME)
        return;
    wire_subscribe_t msg = { .id = topic->id, .channel = text_of (topic->channel),
                             .epoch = buf_text (&topic->epoch), .off = topic->off,
                             .resume = topic->resume };
    size_t mark = outbox_open (&self->broker->box);
    wire_pack_subscribe (&self->broker->box.frame, &msg);
    outbox_shut (&self->broker->box, mark);
}

void
topics_again (bus_t *self)
{
    text_t key;
    void *item;
    for (size_t at = 0; hash_each (self->topics, &at, &key, &item);)
        topic_send (self, item);
    for (size_t at = 0; hash_each (self->unsaid, &at, &key, &item);) {
        const buf_t *event = item;
        size_t mark = outbox_open (&self->broker->box);
        buf_put (&self->broker->box.frame, event->data, event->size);
        outbox_shut (&self->broker->box, mark);
        hash_del (self->unsaid, key);
    }
}

void
bus_listen (bus_t *self, const bus_listener_t *listener)
{
    self->listener = *listener;
}

void
bus_subscribe (bus_t *self, text_t channel, text_t epoch, uint64_t off, bool resume)
{
    topic_t *topic = xcalloc (1, sizeof *topic + channel.size + 1);
    memcpy (topic->channel, channel.data, channel.size);
    topic->id = ++self->topic_id;
    topic->resume = resume;
    topic_position (topic, epoch, off);
    hash_put (self->topics, channel, topic);
    topic_send (self, topic);
}

void
bus_unsubscribe (bus_t *self, text_t channel)
{
    if (!hash_del (self->topics, channel) || self->broker_state < BROKER_WELCOME)
        return;
    size_t mark = outbox_open (&self->broker->box);
    wire_pack_unsubscribe (&self->broker->box.frame, &(wire_unsubscribe_t) { .channel = channel });
    outbox_shut (&self->broker->box, mark);
}

//  Without a broker. Who comes to the next one before us, and reads our log before this is in it,
//  sees the hole only by what comes later: so the last of each channel is told to it.
static void
event_keep (bus_t *self, const wire_event_t *event)
{
    if (event->off == 0
        || (hash_size (self->unsaid) >= UNSAID_MAX && !hash_get (self->unsaid, event->channel)))
        return;
    buf_t *kept = xcalloc (1, sizeof *kept);
    wire_pack_event (kept, event);
    hash_put (self->unsaid, event->channel, kept);
}

void
bus_publish (bus_t *self, const wire_event_t *event)
{
    self->stats.events_out++;
    if (self->broker_state < BROKER_WELCOME) {
        event_keep (self, event);
        return;
    }
    //  Whoever misses it sees the hole and asks the owner.
    if (self->broker->box.queued > BACKLOG_MAX || fault (BUS_EVENT))
        return;
    size_t mark = outbox_open (&self->broker->box);
    wire_pack_event (&self->broker->box.frame, event);
    outbox_shut (&self->broker->box, mark);
}

//  ---------------------------------------------------------------- what the broker sends

//  Credit of the door goes back in portions, as events are taken.
static void
event_taken (bus_t *self)
{
    if (!bus_through_door (self) || ++self->event_debt < BUS_EVENT_CREDIT)
        return;
    wire_credit_t credit = { .count = self->event_debt };
    size_t mark = outbox_open (&self->broker->box);
    wire_pack_credit (&self->broker->box.frame, &credit);
    outbox_shut (&self->broker->box, mark);
    self->event_debt = 0;
}

static bool
topic_event (bus_t *self, mp_t message)
{
    wire_event_t event;
    if (!wire_unpack_event (message, &event))
        return false;
    self->stats.events_in++;
    event_taken (self);
    topic_t *topic = hash_get (self->topics, event.channel);
    if (!topic)
        return true;
    if (event.off > 0)
        topic_position (topic, event.epoch, event.off);
    if (self->listener.on_event)
        self->listener.on_event (self->listener.arg, &event);
    return true;
}

//  The broker completes short names of the door ("clusters" is "user:42/clusters"): the topic moves
//  to its full name, under which its events come.
static bool
topic_subscribed (bus_t *self, mp_t message)
{
    wire_subscribed_t msg;
    if (!wire_unpack_subscribed (message, &msg))
        return false;
    text_t key;
    void *item;
    topic_t *topic = hash_get (self->topics, msg.channel);
    for (size_t at = 0; !topic && hash_each (self->topics, &at, &key, &item);)
        if (((topic_t *) item)->id == msg.id)
            topic = item;
    if (!topic || topic->id != msg.id)
        return true;
    bool again = topic->answered;
    topic->answered = true;
    if (msg.code.size > 0)
        hash_del (self->topics, text_of (topic->channel));
    else {
        if (bus_through_door (self)) {
            topic->resume = true;
            if (!msg.recovered)
                topic_position (topic, msg.epoch, msg.off);
        }
        if (!text_is (msg.channel, topic->channel)) {
            topic_t *full = xcalloc (1, sizeof *full + msg.channel.size + 1);
            *full = *topic;
            memcpy (full->channel, msg.channel.data, msg.channel.size);
            topic->epoch = (buf_t) { 0 };
            hash_del (self->topics, text_of (topic->channel));
            hash_put (self->topics, msg.channel, full);
        }
    }
    if (self->listener.on_subscribed)
        self->listener.on_subscribed (self->listener.arg, &msg, again);
    return true;
}

static bool
topic_gap (bus_t *self, mp_t message)
{
    wire_gap_t gap;
    if (!wire_unpack_gap (message, &gap))
        return false;
    topic_t *topic = hash_get (self->topics, gap.channel);
    if (topic)
        topic_position (topic, gap.epoch, gap.to);
    if (topic && self->listener.on_gap)
        self->listener.on_gap (self->listener.arg, &gap);
    return true;
}

static bool
topic_ended (bus_t *self, mp_t message)
{
    wire_unsubscribe_t msg;
    if (!wire_unpack_unsubscribe (message, &msg))
        return false;
    if (hash_del (self->topics, msg.channel) && self->listener.on_unsubscribed)
        self->listener.on_unsubscribed (self->listener.arg, &msg);
    return true;
}

void
topic_message (bus_t *self, int number, mp_t message)
{
    bool good = number == WIRE_EVENT ? topic_event (self, message)
                : number == WIRE_SUBSCRIBED ? topic_subscribed (self, message)
                : number == WIRE_GAP ? topic_gap (self, message)
                : number == WIRE_UNSUBSCRIBE ? topic_ended (self, message) : true;
    self->stats.malformed += !good;
}
