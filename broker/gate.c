//  gate.c -- a ROUTER and who speaks through it.

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "broker.h"
#include "door.h"
#include "proto/log.h"

//  ZeroMQ's limit; above WIRE_FRAME_MAX because a frame is closed by the message that fills it.
#define MESSAGE_MAX (WIRE_FRAME_MAX + (1 << 20))
#define HANDSHAKE_MS 2000
#define PROBES 3

//  Forget the parts of a message that we do not want.
static void
gate_skip (gate_t *self)
{
    int more = 1;
    size_t size = sizeof more;
    while (zmq_getsockopt (self->socket, ZMQ_RCVMORE, &more, &size) == 0 && more) {
        zmq_msg_t part;
        zmq_msg_init (&part);
        int rc = zmq_msg_recv (&part, self->socket, ZMQ_DONTWAIT);
        zmq_msg_close (&part);
        if (rc < 0)
            return;
    }
}

static void
gate_receive (void *arg)
{
    gate_t *self = arg;
    zmq_msg_t id, frame;
    zmq_msg_init (&id);
    zmq_msg_init (&frame);
    if (zmq_msg_recv (&id, self->socket, ZMQ_DONTWAIT) >= 0) {
        self->broker->stats.frames_in++;
        if (zmq_msg_more (&id) && zmq_msg_recv (&frame, self->socket, ZMQ_DONTWAIT) >= 0
            && !zmq_msg_more (&frame))
            serve_frame (self, (text_t) { zmq_msg_data (&id), zmq_msg_size (&id) },
                         (text_t) { zmq_msg_data (&frame), zmq_msg_size (&frame) },
                         self->door ? zmq_msg_gets (&frame, "User-Id") : NULL,
                         self->door ? zmq_msg_gets (&frame, "Peer-Address") : NULL);
        else {
            gate_skip (self);
            self->broker->stats.malformed++;
        }
    }
    zmq_msg_close (&id);
    zmq_msg_close (&frame);
}

//  Somebody's connection ended; a ROUTER does not say whose. Whom a PING cannot reach is gone. The
//  pipe is taken down by ZeroMQ's thread, so one look may be too early.
static void
gate_probe (void *arg)
{
    gate_t *self = arg;
    text_t id;
    void *item;
    for (size_t at = 0; hash_each (self->peers, &at, &id, &item);)
        wire_pack_ping (peer_out (item, 0), &(wire_ping_t) { 0 });
    if (--self->probes > 0)
        ltimer_set (self->probe, 15);
}

static void
gate_monitor (void *arg)
{
    gate_t *self = arg;
    zmq_msg_t part;
    zmq_msg_init (&part);
    while (zmq_msg_recv (&part, self->monitor, ZMQ_DONTWAIT) >= 0)
        ;
    zmq_msg_close (&part);
    self->probes = PROBES;
    if (!ltimer_active (self->probe))
        ltimer_set (self->probe, 1);
}

static void
gate_watch (gate_t *self)
{
    char name [64];
    snprintf (name, sizeof name, "inproc://monitor-%s", self->door ? "door" : "inside");
    int linger = 0;
    if (zmq_socket_monitor (self->socket, name, ZMQ_EVENT_DISCONNECTED) != 0)
        return;
    self->monitor = zmq_socket (self->broker->zmq, ZMQ_PAIR);
    zmq_setsockopt (self->monitor, ZMQ_LINGER, &linger, sizeof linger);
    zmq_connect (self->monitor, name);
    self->monitor_zio = zio_new (self->broker->loop, self->monitor, gate_monitor, self);
}

static void
gate_options (gate_t *self)
{
    int zero = 0, one = 1, hwm = PEER_FRAMES_MAX, handshake = HANDSHAKE_MS;
    int64_t max = MESSAGE_MAX;
    zmq_setsockopt (self->socket, ZMQ_LINGER, &zero, sizeof zero);
    zmq_setsockopt (self->socket, ZMQ_ROUTER_MANDATORY, &one, sizeof one);
    zmq_setsockopt (self->socket, ZMQ_SNDHWM, &hwm, sizeof hwm);
    zmq_setsockopt (self->socket, ZMQ_RCVHWM, &hwm, sizeof hwm);
    zmq_setsockopt (self->socket, ZMQ_MAXMSGSIZE, &max, sizeof max);
    zmq_setsockopt (self->socket, ZMQ_HANDSHAKE_IVL, &handshake, sizeof handshake);
}

gate_t *
gate_new (broker_t *broker, const char *endpoint, bool door)
{
    gate_t *self = xcalloc (1, sizeof *self);
    self->broker = broker;
    self->door = door;
    self->peers = hash_new (NULL);
    self->socket = zmq_socket (broker->zmq, ZMQ_ROUTER);
    gate_options (self);
    if (door)
        door_guard (broker->door, self->socket);
    if (zmq_bind (self->socket, endpoint) != 0) {
        log_error ("cannot bind", "endpoint", endpoint, "why", zmq_strerror (errno));
        gate_destroy (&self);
        return NULL;
    }
    char bound [256] = "";
    size_t size = sizeof bound;
    zmq_getsockopt (self->socket, ZMQ_LAST_ENDPOINT, bound, &size);
    self->endpoint = xstrdup (bound);
    self->probe = loop_timer (broker->loop, gate_probe, self);
    gate_watch (self);
    self->zio = zio_new (broker->loop, self->socket, gate_receive, self);
    log_info ("listening", "endpoint", bound);
    return self;
}

void
gate_destroy (gate_t **self_p)
{
    gate_t *self = *self_p;
    if (!self)
        return;
    text_t id;
    void *item;
    for (size_t at = 0; hash_each (self->peers, &at, &id, &item);)
        peer_drop (item, NULL);
    hash_destroy (&self->peers);
    zio_end (&self->monitor_zio);
    zio_end (&self->zio);
    if (self->monitor)
        zmq_close (self->monitor);
    zmq_close (self->socket);
    ltimer_end (&self->probe);
    free (self->endpoint);
    free (self);
    *self_p = NULL;
}
