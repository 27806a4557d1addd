//  broker.c -- the broker: gates, heartbeat, and the end of a turn.

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "broker.h"
#include "door.h"
#include "proto/log.h"
#include "proto/token.h"

static void
beat_gate (gate_t *gate)
{
    broker_t *broker = gate->broker;
    int64_t now = loop_now (broker->loop), beat = broker->conf.heartbeat;
    text_t id;
    void *item;
    for (size_t at = 0; hash_each (gate->peers, &at, &id, &item);) {
        peer_t *peer = item;
        if (now - peer->heard > BROKER_SILENCE * beat) {
            broker->stats.deaths++;
            peer_drop (peer, "silent");
        }
        else if (now - peer->sent >= beat / 2)
            wire_pack_ping (peer_out (peer, 0), &(wire_ping_t) { 0 });
    }
}

static void
broker_beat (void *arg)
{
    broker_t *self = arg;
    beat_gate (self->inside);
    if (self->outside)
        beat_gate (self->outside);
    relay_tick (self->relay);
    if (self->door)
        door_tick (self->door);
    ltimer_set (self->beat, self->conf.heartbeat / 2);
}

//  Frames that ZeroMQ did not take are tried again.
static void
broker_retry (void *arg)
{
    broker_t *self = arg;
    gate_t *gates [] = { self->inside, self->outside };
    for (int n = 0; n < 2; n++) {
        text_t id;
        void *item;
        for (size_t at = 0; gates [n] && hash_each (gates [n]->peers, &at, &id, &item);)
            if (((peer_t *) item)->blocked)
                peer_out (item, 0);
    }
}

static bool
broker_open (broker_t *self)
{
    char endpoint [256];
    snprintf (endpoint, sizeof endpoint, "ipc://%s/broker.s", self->conf.run_dir);
    if (mkdir (self->conf.run_dir, 0700) != 0 && errno != EEXIST) {
        log_error ("cannot make directory", "path", self->conf.run_dir, "why", strerror (errno));
        return false;
    }
    self->inside = gate_new (self, endpoint, false);
    if (!self->inside)
        return false;
    if (!self->conf.door || !*self->conf.door)
        return true;
    self->door = door_new (self);
    self->outside = self->door ? gate_new (self, self->conf.door, true) : NULL;
    if (self->outside)
        door_start (self->door);
    return self->outside != NULL;
}

broker_t *
broker_new (loop_t *loop, const broker_conf_t *conf)
{
    broker_t *self = xcalloc (1, sizeof *self);
    self->conf = *conf;
    self->loop = loop;
    self->started = loop_now (loop);
    self->zmq = zmq_ctx_new ();
    self->registry = registry_new ();
    self->topics = topics_new ();
    self->relay = relay_new (self);
    self->flush = (hook_t) { .fn = broker_flush, .arg = self };
    random_text (self->boot, sizeof self->boot - 1);
    self->beat = loop_timer (loop, broker_beat, self);
    self->retry = loop_timer (loop, broker_retry, self);
    if (broker_open (self))
        ltimer_set (self->beat, conf->heartbeat / 2);
    else
        broker_destroy (&self);
    return self;
}

void
broker_destroy (broker_t **self_p)
{
    broker_t *self = *self_p;
    if (!self)
        return;
    gate_destroy (&self->outside);
    gate_destroy (&self->inside);
    door_destroy (&self->door);
    relay_destroy (&self->relay);
    registry_settle (self->registry);
    broker_flush (self);
    loop_forget (self->loop, &self->flush);
    ltimer_end (&self->beat);
    ltimer_end (&self->retry);
    registry_destroy (&self->registry);
    topics_destroy (&self->topics);
    zmq_ctx_term (self->zmq);
    free (self);
    *self_p = NULL;
}
