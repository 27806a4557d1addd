//  bus_link.c -- sockets of the bus client: outboxes that send one frame per turn, the DEALERs with
//  their monitors, and the unfolding of received frames.

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/bus_int.h"
#include "proto/fault.h"
#include "proto/log.h"
#include "proto/token.h"

#define FRAME_SPLIT (1024 * 1024)    //  a turn's messages beyond this leave as several frames
#define STALLED_MAX (64 * 1024 * 1024)     //  a caller with that much unread has left
#define RECEIVE_BATCH 32
#define BLOCKED_RETRY 5              //  ms
#define HIGH_WATER 10000             //  frames; calls are bounded by credit long before
#define KEEP_MAX 200                 //  µs that a turn collects before it sends what it has

//  ---------------------------------------------------------------- outboxes

void
outbox_init (outbox_t *box, bus_t *bus, void *socket, zio_t *zio)
{
    *box = (outbox_t) { .bus = bus, .socket = socket, .zio = zio };
}

void
outbox_free (outbox_t *box)
{
    while (box->first) {
        parcel_t *parcel = box->first;
        box->first = parcel->next;
        buf_free (&parcel->frame);
        free (parcel);
    }
    box->last = NULL;
    box->queued = 0;
    buf_free (&box->frame);
    if (box->dirty) {
        outbox_t **at = &box->bus->dirty;
        while (*at != box)
            at = &(*at)->next;
        *at = box->next;
        box->dirty = false;
    }
}

size_t
outbox_open (outbox_t *box)
{
    return box->frame.size;
}

static void
close_frame (outbox_t *box, size_t size)
{
    parcel_t *parcel = xcalloc (1, sizeof *parcel);
    buf_put (&parcel->frame, box->frame.data, size);
    if (box->last)
        box->last->next = parcel;
    else
        box->first = parcel;
    box->last = parcel;
    box->queued += size;
    memmove (box->frame.data, box->frame.data + size, box->frame.size - size);
    box->frame.size -= size;
    box->opened++;
}

bool
outbox_shut (outbox_t *box, size_t mark)
{
    if (mark == 0)
        box->since = clock_us ();
    if (box->frame.size - mark > WIRE_FRAME_MAX) {
        box->frame.size = mark;
        return false;
    }
    if (mark > 0 && box->frame.size > FRAME_SPLIT)
        close_frame (box, mark);
    if (box->route.size > 0 && box->queued > STALLED_MAX)
        box->lost = box->bus->lost = true;
    if (!box->dirty) {
        box->dirty = true;
        box->next = box->bus->dirty;
        box->bus->dirty = box;
        bus_wake (box->bus);
    }
    return true;
}

//  False: try later. A destination that does not exist is remembered in `lost`; what was meant for
//  it is gone.
static bool
send_frame (outbox_t *box, const buf_t *frame)
{
    int rc = 0;
    if (fault (BUS_SEND))
        return false;
    if (box->route.size > 0)
        rc = zmq_send (box->socket, box->route.data, box->route.size, ZMQ_DONTWAIT | ZMQ_SNDMORE);
    if (rc >= 0)
        rc = zmq_send (box->socket, frame->data, frame->size, ZMQ_DONTWAIT);
    if (rc < 0 && errno != EHOSTUNREACH)
        return false;
    if (rc < 0)
        box->lost = box->bus->lost = true;
    else
        box->bus->stats.frames_out++;
    box->taken++;
    return true;
}

bool
outbox_flush (outbox_t *box)
{
    if (box->held)
        return false;
    while (box->first) {
        parcel_t *parcel = box->first;
        if (!send_frame (box, &parcel->frame))
            return false;
        box->first = parcel->next;
        if (!box->first)
            box->last = NULL;
        box->queued -= parcel->frame.size;
        buf_free (&parcel->frame);
        free (parcel);
    }
    if (box->frame.size > 0) {
        if (!send_frame (box, &box->frame))
            return false;
        box->opened++;
        buf_clear (&box->frame);
    }
    zio_sent (box->zio);
    return true;
}

void
outbox_hurry (outbox_t *box)
{
    if (!ltimer_active (box->bus->blocked) && clock_us () - box->since >= KEEP_MAX)
        outbox_flush (box);
}

//  What a socket did not take stays in the list, and a timer tries again.
void
outboxes_flush (bus_t *self)
{
    outbox_t *box = self->dirty, *blocked = NULL;
    self->dirty = NULL;
    while (box) {
        outbox_t *next = box->next;
        if (outbox_flush (box))
            box->dirty = false;
        else {
            box->next = blocked;
            blocked = box;
        }
        box = next;
    }
    self->dirty = blocked;
    if (blocked && !ltimer_active (self->blocked))
        ltimer_set (self->blocked, BLOCKED_RETRY);
}

//  ---------------------------------------------------------------- links

void
socket_common (void *socket)
{
    int linger = 0, high_water = HIGH_WATER;
    int64_t frame_max = WIRE_FRAME_MAX + 1024;
    zmq_setsockopt (socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt (socket, ZMQ_SNDHWM, &high_water, sizeof high_water);
    zmq_setsockopt (socket, ZMQ_RCVHWM, &high_water, sizeof high_water);
    zmq_setsockopt (socket, ZMQ_MAXMSGSIZE, &frame_max, sizeof frame_max);
}

static void
link_options (link_t *link)
{
    bus_t *bus = link->bus;
    int yes = 1, retry = 50, retry_max = 200, handshake = 2000;
    socket_common (link->socket);
    zmq_setsockopt (link->socket, ZMQ_RECONNECT_IVL, &retry, sizeof retry);
    zmq_setsockopt (link->socket, ZMQ_RECONNECT_IVL_MAX, &retry_max, sizeof retry_max);
    zmq_setsockopt (link->socket, ZMQ_HANDSHAKE_IVL, &handshake, sizeof handshake);
    if (link->instance)
        return;
    //  What a broker that went did not take, the next one must not get. With an actor, whose socket
    //  is held back here instead, it would cost answers: IMMEDIATE drops what arrived together with
    //  the end of a connection.
    zmq_setsockopt (link->socket, ZMQ_IMMEDIATE, &yes, sizeof yes);
    //  A new name for every connection, so the broker never takes us for what it still remembers.
    char name [25];
    random_text (name, sizeof name - 1);
    zmq_setsockopt (link->socket, ZMQ_ROUTING_ID, name, sizeof name - 1);
    if (bus->conf.server_key) {
        zmq_setsockopt (link->socket, ZMQ_CURVE_SERVERKEY, bus->conf.server_key, 40);
        zmq_setsockopt (link->socket, ZMQ_CURVE_PUBLICKEY, bus->conf.public_key, 40);
        zmq_setsockopt (link->socket, ZMQ_CURVE_SECRETKEY, bus->conf.secret_key, 40);
    }
}

static void
link_ended (link_t *link, bool refused_key)
{
    //  What the other side said before it went comes first.
    while (!link->dead && link_receive (link))
        continue;
    if (link->dead)
        return;
    if (link->instance)
        instance_broken (link->instance);
    else
        broker_lost (link->bus, refused_key);
}

static void
on_monitor (void *arg)
{
    link_t *link = arg;
    zmq_msg_t part;
    zmq_msg_init (&part);
    uint16_t event = 0;
    if (!link->dead && zmq_msg_recv (&part, link->monitor, ZMQ_DONTWAIT) >= 6)
        memcpy (&event, zmq_msg_data (&part), sizeof event);
    while (zmq_msg_more (&part) && zmq_msg_recv (&part, link->monitor, ZMQ_DONTWAIT) >= 0)
        continue;
    zmq_msg_close (&part);

    switch (event) {
    case ZMQ_EVENT_CONNECTED:
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        link->connected = event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
        link->box.held = link->box.held && !link->connected;
        if (link->box.dirty)
            bus_wake (link->bus);
        break;
    case ZMQ_EVENT_DISCONNECTED:
        link_ended (link, false);
        break;
    case ZMQ_EVENT_CONNECT_RETRIED:
        //  The broker's endpoint comes back; that of an actor belongs to one incarnation.
        if (link->instance)
            link_ended (link, false);
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        link_ended (link, true);
        break;
    default:
        break;
    }
}

static void
on_input (void *arg)
{
    link_receive (arg);
}

static void
link_watch (link_t *link)
{
    static unsigned s_number;
    char name [64];
    snprintf (name, sizeof name, "inproc://bus-monitor-%p-%u", (void *) link, s_number++);
    int events = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED
                 | ZMQ_EVENT_CONNECT_RETRIED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
    int linger = 0;
    zmq_socket_monitor (link->socket, name, events);
    link->monitor = zmq_socket (link->bus->zmq, ZMQ_PAIR);
    zmq_setsockopt (link->monitor, ZMQ_LINGER, &linger, sizeof linger);
    zmq_connect (link->monitor, name);
    link->monitor_zio = zio_new (link->bus->loop, link->monitor, on_monitor, link);
}

//  NULL when the endpoint is none or descriptors have run out.
link_t *
link_new (bus_t *bus, instance_t *instance, const char *endpoint)
{
    void *socket = zmq_socket (bus->zmq, ZMQ_DEALER);
    if (!socket) {
        log_error ("no socket for the bus", "why", zmq_strerror (errno));
        return NULL;
    }
    link_t *link = xcalloc (1, sizeof *link);
    *link = (link_t) { .bus = bus, .instance = instance, .socket = socket };
    link->credit = instance ? BUS_CREDIT_EARLY : 0;
    link_options (link);
    link_watch (link);
    link->zio = zio_new (bus->loop, socket, on_input, link);
    outbox_init (&link->box, bus, socket, link->zio);
    link->box.held = instance;
    if (zmq_connect (socket, endpoint) != 0) {
        log_error ("bad endpoint", "endpoint", endpoint, "why", zmq_strerror (errno));
        link_bury (link);
        return NULL;
    }
    return link;
}

void
link_bury (link_t *link)
{
    bus_t *bus = link->bus;
    link->dead = true;
    link->instance = NULL;
    outbox_free (&link->box);
    link->next = bus->graveyard;
    bus->graveyard = link;
    bus_wake (bus);
}

void
links_free_buried (bus_t *self)
{
    while (self->graveyard) {
        link_t *link = self->graveyard;
        self->graveyard = link->next;
        zio_end (&link->zio);
        zio_end (&link->monitor_zio);
        zmq_socket_monitor (link->socket, NULL, 0);
        zmq_close (link->monitor);
        zmq_close (link->socket);
        outbox_free (&link->box);
        free (link);
    }
}

//  ---------------------------------------------------------------- receiving

void
bus_unfold (bus_t *self, zmq_msg_t *part, message_fn *fn, void *arg)
{
    text_t frame = { zmq_msg_data (part), zmq_msg_size (part) };
    mp_t message;
    int number;
    self->stats.frames_in++;
    while ((number = wire_next (&frame, &message)) > 0)
        fn (arg, number, message);
    if (number < 0)
        self->stats.malformed++;
}

static void
link_message (void *arg, int number, mp_t message)
{
    link_t *link = arg;
    if (link->dead)
        return;
    if (link->instance)
        actor_message (link, number, message);
    else
        broker_message (link, number, message);
}

bool
link_receive (link_t *link)
{
    bus_t *bus = link->bus;
    int count = 0;
    zmq_msg_t part;
    zmq_msg_init (&part);
    while (count < RECEIVE_BATCH && !link->dead
           && zmq_msg_recv (&part, link->socket, ZMQ_DONTWAIT) >= 0) {
        bus_unfold (bus, &part, link_message, link);
        count++;
    }
    zmq_msg_close (&part);
    if (!link->dead)
        calls_pump (bus, link);
    return count > 0;
}
