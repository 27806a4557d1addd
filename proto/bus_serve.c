//  bus_serve.c -- calls for us: our ROUTER, the peers behind it, the calls in service. What the
//  broker relays to an actor without a ROUTER arrives here as one more peer.

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/bus_int.h"
#include "proto/log.h"

#define RECEIVE_BATCH 32
#define PING_BUSY 1000               //  ms between looks at a caller with calls in service
#define PING_IDLE 15000              //  the same, at one without
#define LEASE 60000                  //  ms of silence after which a caller has left
#define QUARANTINE 600000            //  ms before the memory of a peer means another: late answers
#define EXTRA_CREDIT BUS_CREDIT_EARLY     //  calls sent before our WELCOME arrived

//  ---------------------------------------------------------------- calls in service

static served_t **
bucket_of (serving_t *self, const bus_peer_t *peer, uint64_t id)
{
    uint64_t hash = (id ^ (uintptr_t) peer >> 4) * 0x9e3779b97f4a7c15u;
    return &self->buckets [(hash >> 32) & (self->bucket_count - 1)];
}

static served_t *
served_find (serving_t *self, const bus_peer_t *peer, uint64_t id)
{
    served_t *served = *bucket_of (self, peer, id);
    while (served && (served->id != id || served->peer != peer))
        served = served->chain;
    return served;
}

static void
buckets_grow (serving_t *self)
{
    served_t **old = self->buckets;
    size_t count = self->bucket_count;
    self->bucket_count = count * 2;
    self->buckets = xcalloc (self->bucket_count, sizeof *self->buckets);
    for (size_t i = 0; i < count; i++)
        while (old [i]) {
            served_t *served = old [i];
            old [i] = served->chain;
            served_t **bucket = bucket_of (self, served->peer, served->id);
            served->chain = *bucket;
            *bucket = served;
        }
    free (old);
}

static served_t *
served_new (serving_t *self, bus_peer_t *peer, uint64_t id)
{
    if (self->count >= self->bucket_count)
        buckets_grow (self);
    served_t *served = self->idle;
    if (served)
        self->idle = served->chain;
    else
        served = xmalloc (sizeof *served);
    served_t **bucket = bucket_of (self, peer, id);
    *served = (served_t) { .peer = peer, .id = id, .next = peer->first, .chain = *bucket };
    *bucket = served;
    if (peer->first)
        peer->first->prev = served;
    peer->first = served;
    peer->in_service++;
    self->count++;
    return served;
}

static void
served_end (serving_t *self, served_t *served)
{
    served_t **at = bucket_of (self, served->peer, served->id);
    while (*at != served)
        at = &(*at)->chain;
    *at = served->chain;
    if (served->prev)
        served->prev->next = served->next;
    else
        served->peer->first = served->next;
    if (served->next)
        served->next->prev = served->prev;
    served->peer->in_service--;
    self->count--;
    served->chain = self->idle;
    self->idle = served;
}

static void
served_cancel (bus_t *bus, served_t *served)
{
    serving_t *self = &bus->serving;
    bus_peer_t *peer = served->peer;
    uint64_t id = served->id;
    served_end (self, served);
    if (self->service.cancelled)
        self->service.cancelled (self->service.arg, peer, id);
}

//  ---------------------------------------------------------------- peers

static bus_peer_t *
peer_get (bus_t *bus, text_t id, int64_t now)
{
    serving_t *self = &bus->serving;
    bus_peer_t *peer = hash_get (self->peers, id);
    if (peer) {
        peer->heard = now;
        return peer;
    }
    if (self->dead && now - self->dead->heard > QUARANTINE) {
        peer = self->dead;
        self->dead = peer->next;
        if (!self->dead)
            self->dead_last = NULL;
    }
    else
        peer = xmalloc (sizeof *peer);
    *peer = (bus_peer_t) { .id_size = id.size, .heard = now, .pinged = now, .next = self->live };
    memcpy (peer->id, id.data, id.size);
    outbox_init (&peer->own, bus, self->socket, self->zio);
    peer->own.route = (text_t) { peer->id, peer->id_size };
    peer->box = &peer->own;
    self->live = peer;
    hash_put (self->peers, id, peer);
    return peer;
}

void
serving_drop_all (bus_t *bus, bus_peer_t *peer)
{
    while (peer->first)
        served_cancel (bus, peer->first);
}

//  Its calls are cancelled; its memory stays, because late answers may still name it.
static void
peer_drop (bus_t *bus, bus_peer_t *peer)
{
    serving_t *self = &bus->serving;
    peer->dead = true;
    hash_del (self->peers, (text_t) { peer->id, peer->id_size });
    bus_peer_t **at = &self->live;
    while (*at != peer)
        at = &(*at)->next;
    *at = peer->next;
    peer->next = NULL;
    if (self->dead_last)
        self->dead_last->next = peer;
    else
        self->dead = peer;
    self->dead_last = peer;
    serving_drop_all (bus, peer);
    outbox_free (&peer->own);
    peer->heard = clock_ms ();
}

void
serving_lost (bus_t *bus)
{
    bus_peer_t *next;
    for (bus_peer_t *peer = bus->serving.live; peer; peer = next) {
        next = peer->next;
        if (peer->own.lost)
            peer_drop (bus, peer);
    }
}

//  A PING to a caller that is gone fails at once (the ROUTER knows no route), so the death of a
//  caller is noticed while it has calls in service, without asking anything of live ones but a
//  PONG.
void
serving_tick (bus_t *bus, int64_t now)
{
    serving_t *self = &bus->serving;
    bus_peer_t *next;
    for (bus_peer_t *peer = self->live; peer; peer = next) {
        next = peer->next;
        if (now - peer->heard > LEASE)
            peer_drop (bus, peer);
        else if (now - peer->pinged >= (peer->in_service ? PING_BUSY : PING_IDLE)) {
            wire_ping_t ping = { .load = self->count };
            size_t mark = outbox_open (&peer->own);
            wire_pack_ping (&peer->own.frame, &ping);
            outbox_shut (&peer->own, mark);
            peer->pinged = now;
        }
    }
}

//  ---------------------------------------------------------------- messages

static void
serve_call (bus_t *bus, bus_peer_t *peer, mp_t message)
{
    serving_t *self = &bus->serving;
    wire_call_t call;
    if (!wire_unpack_call (message, &call) || served_find (self, peer, call.id)) {
        bus->stats.malformed++;
        return;
    }
    served_new (self, peer, call.id);
    bus->stats.served++;
    if (peer->in_service > (size_t) bus->conf.credit + EXTRA_CREDIT || !self->service.serve) {
        buf_t body = { 0 };
        mp_put_map (&body, 2);
        mp_pair_str (&body, "code", error_name (E_UNAVAILABLE));
        mp_pair_str (&body, "error", "caller has more calls in flight than granted");
        bus_answer (bus, peer, call.id, 503, mp_buf (&body), mp_none);
        buf_free (&body);
        return;
    }
    self->service.serve (self->service.arg, peer, &call);
}

void
serving_chunk (bus_t *bus, bus_peer_t *peer, const wire_chunk_t *chunk)
{
    serving_t *self = &bus->serving;
    if (self->service.received && served_find (self, peer, chunk->id))
        self->service.received (self->service.arg, peer, chunk);
}

void
serving_credit (bus_t *bus, bus_peer_t *peer, const wire_credit_t *credit)
{
    serving_t *self = &bus->serving;
    served_t *served = served_find (self, peer, credit->id);
    if (!served)
        return;
    served->granted += credit->count;
    if (self->service.granted)
        self->service.granted (self->service.arg, peer, credit->id, credit->count);
}

//  CALL and CANCEL, and on our ROUTER the rest of the conversation.
void
serving_message (bus_t *bus, bus_peer_t *peer, int number, mp_t message)
{
    outbox_t *box = peer->box;
    size_t mark = outbox_open (box);
    union {
        wire_hello_t hello;
        wire_chunk_t chunk;
        wire_credit_t credit;
        wire_cancel_t cancel;
    } msg;
    bool good = true;
    switch (number) {
    case WIRE_CALL:
        serve_call (bus, peer, message);
        break;
    case WIRE_CANCEL:
        if ((good = wire_unpack_cancel (message, &msg.cancel))) {
            served_t *served = served_find (&bus->serving, peer, msg.cancel.id);
            if (served)
                served_cancel (bus, served);
        }
        break;
    case WIRE_CHUNK:
        if ((good = wire_unpack_chunk (message, &msg.chunk)))
            serving_chunk (bus, peer, &msg.chunk);
        break;
    case WIRE_CREDIT:
        if ((good = wire_unpack_credit (message, &msg.credit)))
            serving_credit (bus, peer, &msg.credit);
        break;
    case WIRE_HELLO:
        if ((good = wire_unpack_hello (message, &msg.hello))) {
            wire_pack_welcome (&box->frame, &(wire_welcome_t) {
                .version = WIRE_VERSION, .boot = text_of (bus->boot),
                .heartbeat = PING_IDLE, .credit = bus->conf.credit });
            outbox_shut (box, mark);
        }
        break;
    case WIRE_PING:
        wire_pack_pong (&box->frame, &(wire_pong_t) { .load = bus->serving.count });
        outbox_shut (box, mark);
        break;
    case WIRE_GOODBYE:
        peer_drop (bus, peer);
        break;
    default:
        break;
    }
    bus->stats.malformed += !good;
}

static void
on_peer_message (void *arg, int number, mp_t message)
{
    bus_peer_t *peer = arg;
    if (!peer->dead)
        serving_message (peer->own.bus, peer, number, message);
}

//  [routing id][frame]; anything else is counted and dropped.
static void
on_router (void *arg)
{
    bus_t *bus = arg;
    serving_t *self = &bus->serving;
    int64_t now = clock_ms ();
    zmq_msg_t id, frame;
    zmq_msg_init (&id);
    zmq_msg_init (&frame);
    for (int i = 0; i < RECEIVE_BATCH; i++) {
        if (zmq_msg_recv (&id, self->socket, ZMQ_DONTWAIT) < 0)
            break;
        int parts = 0;
        for (zmq_msg_t *part = &id; zmq_msg_more (part); part = &frame, parts++)
            if (zmq_msg_recv (&frame, self->socket, ZMQ_DONTWAIT) < 0)
                break;
        text_t name = { zmq_msg_data (&id), zmq_msg_size (&id) };
        if (parts == 1 && name.size > 0 && name.size < 256)
            bus_unfold (bus, &frame, on_peer_message, peer_get (bus, name, now));
        else
            bus->stats.malformed++;
    }
    zmq_msg_close (&id);
    zmq_msg_close (&frame);
}

//  ---------------------------------------------------------------- answering

void
bus_answer (bus_t *bus, bus_peer_t *peer, uint64_t id, uint64_t status, mp_t body, mp_t meta)
{
    serving_t *self = &bus->serving;
    served_t *served = served_find (self, peer, id);
    if (!served || served->answered)
        return;
    bool stream = mp_bool (mp_get (meta, "stream"));
    served->answered = stream;
    if (!stream)
        served_end (self, served);
    wire_reply_t reply = { .id = id, .status = status, .body = body, .meta = meta,
                           .load = self->count };
    outbox_t *box = peer->box;
    size_t mark = outbox_open (box);
    wire_pack_reply (&box->frame, &reply);
    if (outbox_shut (box, mark)) {
        outbox_hurry (box);
        return;
    }
    log_error ("answer is larger than a frame", "bytes", log_num (body.end - body.data));
    buf_t error = { 0 };
    mp_put_map (&error, 2);
    mp_pair_str (&error, "code", error_name (E_INTERNAL));
    mp_pair_str (&error, "error", "answer is too large");
    reply.status = 500;
    reply.body = mp_buf (&error);
    reply.meta = mp_none;
    wire_pack_reply (&box->frame, &reply);
    outbox_shut (box, mark);
    buf_free (&error);
    if (stream)
        served_end (self, served);
}

bool
bus_send_chunk (bus_t *bus, bus_peer_t *peer, uint64_t id, text_t data, bool last,
                const char *error)
{
    serving_t *self = &bus->serving;
    served_t *served = served_find (self, peer, id);
    if (!served)
        return false;
    assert (served->answered && data.size <= WIRE_CHUNK_MAX);
    last = last || (error && *error);
    //  The end of a stream without data costs no credit.
    bool free_of_charge = last && data.size == 0;
    assert (served->granted > 0 || free_of_charge);
    served->granted -= !free_of_charge;
    if (last)
        served_end (self, served);
    wire_chunk_t chunk = { .id = id, .data = data, .last = last, .error = text_of (error) };
    size_t mark = outbox_open (peer->box);
    wire_pack_chunk (&peer->box->frame, &chunk);
    outbox_shut (peer->box, mark);
    return true;
}

void
bus_want (bus_t *bus, bus_peer_t *peer, uint64_t id, uint64_t count)
{
    if (!served_find (&bus->serving, peer, id))
        return;
    wire_credit_t credit = { .id = id, .count = count };
    size_t mark = outbox_open (peer->box);
    wire_pack_credit (&peer->box->frame, &credit);
    outbox_shut (peer->box, mark);
}

//  ---------------------------------------------------------------- life

void
serving_init (bus_t *bus)
{
    serving_t *self = &bus->serving;
    self->peers = hash_new (NULL);
    self->own_claims = hash_new (NULL);
    self->bucket_count = 256;
    self->buckets = xcalloc (self->bucket_count, sizeof *self->buckets);
}

static void
peers_free (bus_peer_t *peer)
{
    while (peer) {
        bus_peer_t *next = peer->next;
        outbox_free (&peer->own);
        free (peer);
        peer = next;
    }
}

void
serving_free (bus_t *bus)
{
    serving_t *self = &bus->serving;
    zio_end (&self->zio);
    peers_free (self->live);
    peers_free (self->dead);
    if (self->socket) {
        //  The last answers may still be on their way.
        int linger = 200;
        zmq_setsockopt (self->socket, ZMQ_LINGER, &linger, sizeof linger);
        zmq_close (self->socket);
    }
    for (size_t i = 0; i < self->bucket_count; i++)
        while (self->buckets [i]) {
            served_t *served = self->buckets [i];
            self->buckets [i] = served->chain;
            free (served);
        }
    while (self->idle) {
        served_t *served = self->idle;
        self->idle = served->chain;
        free (served);
    }
    free (self->buckets);
    hash_destroy (&self->peers);
    hash_destroy (&self->own_claims);
    buf_free (&self->late_claims);
    for (size_t i = 0; i < 4; i++)
        buf_free (&self->copies [i]);
}

static void
serving_bind (bus_t *bus)
{
    serving_t *self = &bus->serving;
    const size_t room = sizeof ((struct sockaddr_un *) 0)->sun_path;
    int size = snprintf (self->endpoint, sizeof self->endpoint, "ipc://%s/%s-%s.s",
                         bus->conf.run_dir, bus->conf.slot, bus->boot);
    self->failed = true;
    if (size < 0 || (size_t) size >= sizeof self->endpoint || (size_t) size - 6 >= room) {
        log_error ("path of a socket is too long", "path", self->endpoint);
        return;
    }
    int yes = 1, backlog = 1024;
    self->socket = zmq_socket (bus->zmq, ZMQ_ROUTER);
    if (self->socket) {
        socket_common (self->socket);
        zmq_setsockopt (self->socket, ZMQ_ROUTER_MANDATORY, &yes, sizeof yes);
        zmq_setsockopt (self->socket, ZMQ_BACKLOG, &backlog, sizeof backlog);
    }
    if (!self->socket || zmq_bind (self->socket, self->endpoint) != 0) {
        log_error ("cannot bind", "endpoint", self->endpoint, "why", zmq_strerror (errno));
        return;
    }
    self->zio = zio_new (bus->loop, self->socket, on_router, bus);
    self->failed = false;
    self->bound = true;
}

void
bus_service (bus_t *bus, const bus_service_t *service)
{
    serving_t *self = &bus->serving;
    assert (!bus->started);
    self->service = *service;
    mp_t *parts [4] = { &self->service.routes, &self->service.claims, &self->service.channels,
                        &self->service.dependants };
    for (size_t i = 0; i < 4; i++) {
        mp_put (&self->copies [i], *parts [i]);
        *parts [i] = mp_buf (&self->copies [i]);
    }
    for (mp_iter_t it = mp_iter (self->service.claims); mp_next (&it);)
        hash_put (self->own_claims, mp_text (it.value), self);
    if (bus->conf.run_dir)
        serving_bind (bus);
}

void
serving_sweep (bus_t *bus)
{
    serving_t *self = &bus->serving;
    if (!self->bound)
        return;
    DIR *dir = opendir (bus->conf.run_dir);
    if (!dir)
        return;
    const char *ours = strrchr (self->endpoint, '/') + 1;
    size_t slot = strlen (bus->conf.slot), size = strlen (ours);
    const struct dirent *each;
    while ((each = readdir (dir)))
        if (strlen (each->d_name) == size && strncmp (each->d_name, ours, slot + 1) == 0
            && strcmp (each->d_name, ours) != 0)
            unlinkat (dirfd (dir), each->d_name, 0);
    closedir (dir);
}
