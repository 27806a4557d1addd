//  peer.c -- somebody who said HELLO, and the frames that wait to go to it.

#include <errno.h>
#include <stdlib.h>

#include "broker.h"
#include "door.h"
#include "proto/log.h"

#define FRAME_FULL (64 * 1024)              //  a frame that has that much takes nothing more
#define WAITING_MAX (64 * 1024 * 1024)      //  bytes that may wait here before the peer is given up
#define RETRY_MS 10

peer_t *
peer_new (gate_t *gate, text_t id)
{
    peer_t *self = xcalloc (1, sizeof *self);
    self->broker = gate->broker;
    self->gate = gate;
    self->id = (text_t) { text_copy (id), id.size };
    self->subs = hash_new (NULL);
    self->heard = self->sent = loop_now (gate->broker->loop);
    hash_put (gate->peers, id, self);
    return self;
}

static void
peer_forget_frames (peer_t *self)
{
    while (self->frames) {
        frame_t *frame = self->frames;
        self->frames = frame->next;
        buf_free (&frame->data);
        free (frame);
    }
    self->last = NULL;
}

void
peer_drop (peer_t *self, const char *why)
{
    if (self->dead)
        return;
    self->dead = true;
    broker_t *broker = self->broker;
    if (why)
        log_info ("peer left", "role", self->role, "slot", self->slot, "name", self->name, "why",
                  why);
    text_t channel;
    void *item;
    for (size_t at = 0; hash_each (self->subs, &at, &channel, &item);)
        listener_end (self, item);
    if (self->entry)
        registry_remove (broker->registry, &self->entry);
    relay_left (self);
    if (self->guest)
        guest_left (self->guest);
    hash_del (self->gate->peers, self->id);
    self->next_grave = broker->grave;
    broker->grave = self;
    broker_wake (broker);
}

void
peer_free (peer_t *self)
{
    peer_forget_frames (self);
    hash_destroy (&self->subs);
    if (self->guest)
        guest_destroy (&self->guest);
    free ((char *) self->id.data);
    free (self->role);
    free (self->name);
    free (self->slot);
    free (self);
}

buf_t *
peer_out (peer_t *self, size_t about)
{
    broker_t *broker = self->broker;
    if (!self->last || self->last->data.size + about > FRAME_FULL) {
        if (!self->last || self->last->data.size > 0) {
            frame_t *frame = xcalloc (1, sizeof *frame);
            if (self->last)
                self->last->next = frame;
            else
                self->frames = frame;
            self->last = frame;
        }
    }
    if (!self->is_dirty) {
        self->is_dirty = true;
        self->next_dirty = broker->dirty;
        broker->dirty = self;
        broker_wake (broker);
    }
    return &self->last->data;
}

bool
peer_open (peer_t *self)
{
    if (!self->blocked)
        return true;
    self->dropped++;
    self->broker->stats.events_dropped++;
    return false;
}

void
peer_refuse (peer_t *self, const char *code, const char *text)
{
    self->broker->stats.refused++;
    log_warn ("refused", "role", self->role, "slot", self->slot, "code", code, "text", text);
    wire_refused_t msg = { .code = text_of (code), .text = text_of (text) };
    wire_pack_refused (peer_out (self, 0), &msg);
    peer_flush (self);
    peer_drop (self, NULL);
}

//  Hand one frame to ZeroMQ; errno tells why not.
static bool
peer_send (peer_t *self, const buf_t *data)
{
    void *socket = self->gate->socket;
    if (zmq_send (socket, self->id.data, self->id.size, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0)
        return false;
    return zmq_send (socket, data->data, data->size, ZMQ_DONTWAIT) >= 0;
}

bool
peer_flush (peer_t *self)
{
    broker_t *broker = self->broker;
    size_t waiting = 0;
    while (self->frames) {
        frame_t *frame = self->frames;
        if (frame->data.size > 0 && !peer_send (self, &frame->data)) {
            zio_sent (self->gate->zio);
            if (errno != EAGAIN && errno != EINTR)
                return false;
            for (; frame; frame = frame->next)
                waiting += frame->data.size;
            self->blocked = true;
            ltimer_set (broker->retry, RETRY_MS);
            return waiting < WAITING_MAX;
        }
        broker->stats.frames_out++;
        self->frames = frame->next;
        buf_free (&frame->data);
        free (frame);
    }
    self->last = NULL;
    self->blocked = false;
    if (self->lost)
        events_lost (self);
    self->sent = loop_now (broker->loop);
    zio_sent (self->gate->zio);
    return true;
}

//  What changed in the directory, once for each side.
static void
flush_directory (broker_t *self)
{
    if (!registry_changed (self->registry))
        return;
    gate_t *gates [] = { self->inside, self->outside };
    for (int n = 0; n < 2; n++) {
        if (!gates [n])
            continue;
        buf_t delta = { 0 };
        registry_pack_changes (self->registry, gates [n]->door, &delta);
        text_t id;
        void *item;
        for (size_t at = 0; hash_each (gates [n]->peers, &at, &id, &item);) {
            peer_t *peer = item;
            if (peer->welcomed)
                buf_put (peer_out (peer, delta.size), delta.data, delta.size);
        }
        buf_free (&delta);
    }
    registry_settle (self->registry);
}

void
broker_flush (void *arg)
{
    broker_t *self = arg;
    //  A peer that cannot be reached changes the directory once more.
    do {
        flush_directory (self);
        while (self->dirty) {
            peer_t *peer = self->dirty;
            self->dirty = peer->next_dirty;
            peer->is_dirty = false;
            if (!peer->dead && !peer_flush (peer)) {
                self->stats.deaths++;
                peer_drop (peer, "connection ended");
            }
        }
    } while (registry_changed (self->registry) || self->dirty);
    while (self->grave) {
        peer_t *peer = self->grave;
        self->grave = peer->next_grave;
        peer_free (peer);
    }
}

void
broker_wake (broker_t *self)
{
    loop_at_end (self->loop, &self->flush);
}
