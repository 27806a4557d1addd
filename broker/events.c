//  events.c -- subscriptions and the fan-out of events. Inside it is plain: who listens gets it,
//  who does not read loses it and asks the owner. What the door adds is in replay.c.

#include <stdlib.h>

#include "broker.h"
#include "door.h"

#define CHANNEL_MAX 255
#define SUBSCRIPTIONS_MAX 10000              //  of a peer at the door; an edge serves many users

listener_t *
events_listen (peer_t *peer, text_t channel)
{
    listener_t *listener = hash_get (peer->subs, channel);
    if (listener)
        return listener;
    listener = xcalloc (1, sizeof *listener);
    listener->sub.peer = peer;
    hash_put (peer->subs, channel, listener);
    topics_add (peer->broker->topics, channel, &listener->sub);
    return listener;
}

void
listener_end (peer_t *peer, listener_t *listener)
{
    if (peer->guest)
        replay_end (peer, listener);
    hash_del (peer->subs, text_of (listener->sub.topic->channel));
    topics_remove (peer->broker->topics, &listener->sub);
    free (listener);
}

void
events_subscribe (peer_t *peer, const wire_subscribe_t *msg)
{
    wire_subscribed_t answer = { .id = msg->id, .channel = msg->channel };
    if (msg->channel.size == 0 || msg->channel.size > CHANNEL_MAX) {
        answer.code = TEXT ("INVALID");
        answer.text = TEXT ("channel is empty or longer than 255 bytes");
    }
    else if (peer->guest && hash_size (peer->subs) >= SUBSCRIPTIONS_MAX) {
        answer.code = TEXT ("RATE_LIMITED");
        answer.text = TEXT ("too many subscriptions");
    }
    else if (peer->guest && !guest_trusted (peer)) {
        replay_subscribe (peer, msg);
        return;
    }
    else
        events_listen (peer, msg->channel)->id = msg->id;
    wire_pack_subscribed (peer_out (peer, 0), &answer);
}

//  What a peer lost while it did not read, no later event may ever show: it is subscribed anew,
//  and asks the owner.
void
events_lost (peer_t *peer)
{
    text_t channel;
    void *item;
    peer->lost = false;
    for (size_t at = 0; hash_each (peer->subs, &at, &channel, &item);) {
        listener_t *listener = item;
        if (!listener->lost)
            continue;
        listener->lost = false;
        wire_pack_subscribed (peer_out (peer, 0),
                              &(wire_subscribed_t) { .id = listener->id, .channel = channel });
    }
}

void
events_unsubscribe (peer_t *peer, text_t channel)
{
    listener_t *listener = hash_get (peer->subs, channel);
    if (listener)
        listener_end (peer, listener);
}

void
events_publish (peer_t *from, const wire_event_t *event, mp_t raw)
{
    broker_t *broker = from->broker;
    broker->stats.events_in++;
    topic_t *topic = topics_find (broker->topics, event->channel);
    if (!topic)
        return;
    size_t size = (size_t) (raw.end - raw.data);
    for (size_t n = 0; n < topic->count; n++) {
        peer_t *peer = topic->subs [n]->peer;
        if (peer->guest && !guest_trusted (peer))
            replay_event (peer, (listener_t *) topic->subs [n], event);
        else if (peer_open (peer)) {
            buf_put (peer_out (peer, size), raw.data, size);
            broker->stats.events_out++;
        }
        else
            peer->lost = ((listener_t *) topic->subs [n])->lost = true;
    }
}
