//  small_broker.h -- just enough broker for tests of the bus client: registers peers, hands out the
//  directory, fans events out, relays between one caller and one actor without an endpoint. It can
//  fall silent, be closed and come back.

#ifndef SMALL_BROKER_H
#define SMALL_BROKER_H

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/bus.h"
#include "proto/zio.h"

#define SMALL_PEERS 32

typedef struct {
    char id [64], slot [64], boot [16];
    size_t id_size;
    buf_t entry;                     //  empty: not an actor
    char channels [8] [64];
    bool live;
} small_peer_t;

typedef struct {
    loop_t *loop;
    void *socket;
    zio_t *zio;
    small_peer_t peers [SMALL_PEERS];
    uint64_t revision, hellos, goodbyes, pings, claims;
    uint64_t off;                    //  of the last event that was heard
    bool mute;                       //  hears, but says nothing
    small_peer_t *caller, *outside;  //  the two sides of the relay
} small_broker_t;

static inline void
small_send (small_broker_t *self, const small_peer_t *peer, buf_t *frame)
{
    if (!self->mute) {
        zmq_send (self->socket, peer->id, peer->id_size, ZMQ_DONTWAIT | ZMQ_SNDMORE);
        zmq_send (self->socket, frame->data, frame->size, ZMQ_DONTWAIT);
        zio_sent (self->zio);
    }
    buf_free (frame);
}

static inline void
small_directory (small_broker_t *self, const small_peer_t *to)
{
    buf_t entries = { 0 }, frame = { 0 };
    uint32_t count = 0;
    size_t mark = mp_open_array (&entries);
    for (size_t i = 0; i < SMALL_PEERS; i++)
        if (self->peers [i].live && self->peers [i].entry.size > 0) {
            mp_put (&entries, mp_buf (&self->peers [i].entry));
            count++;
        }
    mp_close (&entries, mark, count);
    wire_pack_directory (&frame, &(wire_directory_t) { .revision = self->revision, .whole = true,
                                                       .entries = mp_buf (&entries) });
    buf_free (&entries);
    small_send (self, to, &frame);
}

//  One changed entry to everybody.
static inline void
small_tell (small_broker_t *self, mp_t entry)
{
    self->revision++;
    buf_t entries = { 0 };
    mp_put_array (&entries, 1);
    mp_put (&entries, entry);
    for (size_t i = 0; i < SMALL_PEERS; i++)
        if (self->peers [i].live) {
            buf_t frame = { 0 };
            wire_pack_directory (&frame, &(wire_directory_t) {
                .revision = self->revision, .entries = mp_buf (&entries) });
            small_send (self, &self->peers [i], &frame);
        }
    buf_free (&entries);
}

static inline void
small_state (small_broker_t *self, small_peer_t *peer, const char *state)
{
    buf_t entry = { 0 };
    mp_put_map (&entry, 3);
    mp_pair_str (&entry, "slot", peer->slot);
    mp_pair_str (&entry, "boot", peer->boot);
    mp_pair_str (&entry, "state", state);
    small_tell (self, mp_buf (&entry));
    buf_free (&entry);
}

static inline small_peer_t *
small_slot (small_broker_t *self, const char *slot)
{
    for (size_t i = 0; i < SMALL_PEERS; i++)
        if (self->peers [i].live && strcmp (self->peers [i].slot, slot) == 0)
            return &self->peers [i];
    return NULL;
}

static inline void
small_gone (small_broker_t *self, const char *slot)
{
    small_peer_t *peer = small_slot (self, slot);
    assert (peer);
    peer->live = false;
    small_state (self, peer, "gone");
}

static inline void
small_hello (small_broker_t *self, small_peer_t *peer, const wire_hello_t *hello)
{
    self->hellos++;
    snprintf (peer->slot, sizeof peer->slot, "%.*s", (int) hello->slot.size, hello->slot.data);
    snprintf (peer->boot, sizeof peer->boot, "%.*s", (int) hello->boot.size, hello->boot.data);
    buf_t frame = { 0 };
    wire_pack_welcome (&frame, &(wire_welcome_t) { .version = 1, .boot = TEXT ("small"),
                                                   .heartbeat = 200, .credit = 16 });
    small_send (self, peer, &frame);
    if (text_is (hello->role, "actor")) {
        buf_t *to = &peer->entry;
        buf_clear (to);
        mp_put_map (to, 10);
        mp_pair_text (to, "name", hello->name);
        mp_pair_text (to, "slot", hello->slot);
        mp_pair_text (to, "boot", hello->boot);
        mp_pair_text (to, "endpoint", hello->endpoint);
        mp_pair_str (to, "state", "up");
        mp_pair_int (to, "credit", (int64_t) hello->credit);
        mp_pair (to, "routes", hello->routes);
        mp_pair (to, "channels", hello->channels);
        mp_pair (to, "dependants", hello->dependants);
        mp_pair (to, "claims", hello->claims);
    }
    small_directory (self, peer);
    if (peer->entry.size > 0 && hello->endpoint.size == 0)
        self->outside = peer;
    if (peer->entry.size > 0)
        small_tell (self, mp_buf (&peer->entry));
}

static inline void
small_event (small_broker_t *self, const wire_event_t *event)
{
    self->off = event->off;
    for (size_t i = 0; i < SMALL_PEERS; i++)
        for (size_t k = 0; k < 8; k++)
            if (self->peers [i].live && text_is (event->channel, self->peers [i].channels [k])) {
                buf_t frame = { 0 };
                wire_pack_event (&frame, event);
                small_send (self, &self->peers [i], &frame);
            }
}

static inline void
small_subscribe (small_broker_t *self, small_peer_t *peer, const wire_subscribe_t *msg)
{
    size_t k = 0;
    while (peer->channels [k] [0])
        k++;
    assert (k < 8);
    snprintf (peer->channels [k], 64, "%.*s", (int) msg->channel.size, msg->channel.data);
    buf_t frame = { 0 };
    wire_pack_subscribed (&frame, &(wire_subscribed_t) { .id = msg->id, .channel = msg->channel });
    small_send (self, peer, &frame);
}

//  Word for word: one caller, one actor, so ids do not meet.
static inline void
small_relay (small_broker_t *self, small_peer_t *from, mp_t message)
{
    const small_peer_t *to = from == self->outside ? self->caller : self->outside;
    if (from != self->outside)
        self->caller = from;
    if (!to)
        return;
    buf_t frame = { 0 };
    mp_put (&frame, message);
    small_send (self, to, &frame);
}

static inline void
small_message (small_broker_t *self, small_peer_t *peer, int number, mp_t message)
{
    union {
        wire_hello_t hello;
        wire_event_t event;
        wire_subscribe_t subscribe;
        wire_claim_t claim;
    } msg;
    buf_t frame = { 0 };
    if (number == WIRE_HELLO && wire_unpack_hello (message, &msg.hello))
        small_hello (self, peer, &msg.hello);
    else if (number == WIRE_EVENT && wire_unpack_event (message, &msg.event))
        small_event (self, &msg.event);
    else if (number == WIRE_SUBSCRIBE && wire_unpack_subscribe (message, &msg.subscribe))
        small_subscribe (self, peer, &msg.subscribe);
    else if (number == WIRE_GOODBYE) {
        self->goodbyes++;
        small_state (self, peer, "draining");
    }
    else if (number == WIRE_CLAIM && wire_unpack_claim (message, &msg.claim)) {
        self->claims++;
        for (size_t i = 0; i < SMALL_PEERS; i++)
            if (self->peers [i].live) {
                buf_t copy = { 0 };
                wire_pack_claim (&copy, &msg.claim);
                small_send (self, &self->peers [i], &copy);
            }
    }
    else if (number == WIRE_PING) {
        self->pings++;
        wire_pack_pong (&frame, &(wire_pong_t) { 0 });
        small_send (self, peer, &frame);
    }
    else if (number >= WIRE_CALL && number <= WIRE_CANCEL)
        small_relay (self, peer, message);
}

static inline small_peer_t *
small_peer (small_broker_t *self, const void *id, size_t size)
{
    small_peer_t *free_one = NULL;
    for (size_t i = 0; i < SMALL_PEERS; i++) {
        small_peer_t *each = &self->peers [i];
        if (each->live && each->id_size == size && memcmp (each->id, id, size) == 0)
            return each;
        if (!each->live)
            free_one = each;
    }
    assert (free_one && size <= sizeof free_one->id);
    buf_free (&free_one->entry);
    *free_one = (small_peer_t) { .id_size = size, .live = true };
    memcpy (free_one->id, id, size);
    return free_one;
}

static inline void
small_input (void *arg)
{
    small_broker_t *self = arg;
    zmq_msg_t id, part;
    zmq_msg_init (&id);
    zmq_msg_init (&part);
    if (zmq_msg_recv (&id, self->socket, ZMQ_DONTWAIT) >= 0
        && zmq_msg_recv (&part, self->socket, ZMQ_DONTWAIT) >= 0) {
        small_peer_t *peer = small_peer (self, zmq_msg_data (&id), zmq_msg_size (&id));
        text_t frame = { zmq_msg_data (&part), zmq_msg_size (&part) };
        mp_t message;
        int number;
        while ((number = wire_next (&frame, &message)) > 0)
            small_message (self, peer, number, message);
    }
    zmq_msg_close (&id);
    zmq_msg_close (&part);
}

static inline void
small_open (small_broker_t *self, loop_t *loop, void *zmq, const char *endpoint)
{
    *self = (small_broker_t) { .loop = loop };
    int linger = 0;
    self->socket = zmq_socket (zmq, ZMQ_ROUTER);
    zmq_setsockopt (self->socket, ZMQ_LINGER, &linger, sizeof linger);
    int rc = zmq_bind (self->socket, endpoint);
    assert (rc == 0);
    self->zio = zio_new (loop, self->socket, small_input, self);
}

static inline void
small_close (small_broker_t *self)
{
    zio_end (&self->zio);
    zmq_close (self->socket);
    self->socket = NULL;
    for (size_t i = 0; i < SMALL_PEERS; i++)
        buf_free (&self->peers [i].entry);
}

#endif
