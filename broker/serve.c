//  serve.c -- one message of a peer: who may say what, and to whom it goes.

#include <stdio.h>
#include <stdlib.h>

#include "broker.h"
#include "door.h"
#include "proto/log.h"
#include "proto/token.h"

#define CALL_CREDIT 1024         //  calls that a peer may have in flight through us

void
serve_welcome (peer_t *peer)
{
    broker_t *broker = peer->broker;
    char client [17];
    random_text (client, 16);
    wire_welcome_t msg = { .version = WIRE_VERSION, .boot = text_of (broker->boot),
                           .heartbeat = (uint64_t) broker->conf.heartbeat, .credit = CALL_CREDIT,
                           .client = text_of (client) };
    wire_pack_welcome (peer_out (peer, 0), &msg);
    buf_t whole = { 0 };
    registry_pack_whole (broker->registry, peer->gate->door, &whole);
    buf_put (peer_out (peer, whole.size), whole.data, whole.size);
    buf_free (&whole);
    if (!peer->welcomed)
        log_info ("peer joined", "role", peer->role, "slot", peer->slot, "name", peer->name);
    peer->welcomed = true;
}

//  Whoever had the slot before has lost it: a crashed predecessor, a second process started by
//  mistake, or the same process on its former connection.
static void
serve_displace (peer_t *before, bool same)
{
    before->entry = NULL;
    if (same)
        peer_drop (before, "came back on another connection");
    else
        peer_refuse (before, "REPLACED", "another process took this slot");
}

bool
serve_announce (peer_t *peer, const wire_hello_t *hello, char *const *prefixes)
{
    registry_t *registry = peer->broker->registry;
    refusal_t why;
    entry_t *old = registry_slot (registry, hello->slot);
    peer_t *before = old ? old->peer : NULL;
    bool same = old && text_is (hello->boot, old->boot);
    if (peer->entry && peer->entry != old)
        registry_remove (registry, &peer->entry);
    entry_t *entry = registry_announce (registry, hello, peer->gate->door, prefixes, peer, &why);
    if (!entry) {
        peer_refuse (peer, why.code, why.text);
        return false;
    }
    peer->entry = entry;
    if (before && before != peer)
        serve_displace (before, same);
    broker_wake (peer->broker);
    return true;
}

static void
serve_hello (peer_t *peer, mp_t raw)
{
    wire_hello_t hello;
    if (!wire_unpack_hello (raw, &hello)) {
        peer_refuse (peer, "INVALID", "hello is malformed");
        return;
    }
    free (peer->role);
    free (peer->name);
    free (peer->slot);
    peer->role = text_copy (hello.role);
    peer->name = text_copy (hello.name);
    peer->slot = text_copy (hello.slot);
    if (hello.version != WIRE_VERSION) {
        char text [80];
        snprintf (text, sizeof text, "version %llu is not spoken here, version %d is",
                  (unsigned long long) hello.version, WIRE_VERSION);
        peer_refuse (peer, "VERSION", text);
    }
    else if (!text_is (hello.role, "actor") && !text_is (hello.role, "edge")
             && !text_is (hello.role, "client"))
        peer_refuse (peer, "INVALID", "role is not actor, edge or client");
    else if (peer->gate->door)
        guest_hello (peer, &hello, raw);
    else if (!text_is (hello.role, "actor") || serve_announce (peer, &hello, NULL))
        serve_welcome (peer);
}

//  What everybody hears holds keys and nothing else, whatever the sender wrote.
static void
keys_clean (mp_t said, buf_t *keys)
{
    size_t mark = mp_open_array (keys);
    uint32_t count = 0;
    for (mp_iter_t it = mp_iter (said); mp_type (said) == MP_ARRAY && mp_next (&it);) {
        if (mp_type (it.value) != MP_TEXT || mp_text (it.value).size == 0)
            continue;
        mp_put (keys, it.value);
        count++;
    }
    mp_close (keys, mark, count);
}

static void
serve_claim (peer_t *peer, wire_claim_t *claim)
{
    broker_t *broker = peer->broker;
    if (!peer->entry)
        return;
    buf_t keys = { 0 }, packed = { 0 };
    keys_clean (claim->keys, &keys);
    claim->keys = mp_buf (&keys);
    registry_claim (broker->registry, peer->entry, claim->keys, claim->release);
    claim->name = text_of (peer->entry->name);
    claim->slot = text_of (peer->entry->slot);
    claim->boot = text_of (peer->entry->boot);
    wire_pack_claim (&packed, claim);
    text_t id;
    void *item;
    for (size_t at = 0; hash_each (broker->inside->peers, &at, &id, &item);) {
        peer_t *other = item;
        if (other != peer && other->welcomed)
            buf_put (peer_out (other, packed.size), packed.data, packed.size);
    }
    buf_free (&packed);
    buf_free (&keys);
}

static void
serve_goodbye (peer_t *peer)
{
    if (!peer->entry)
        peer_drop (peer, "said goodbye");
    else if (!peer->entry->draining) {
        log_info ("draining", "slot", peer->slot);
        registry_drain (peer->broker->registry, peer->entry);
        broker_wake (peer->broker);
    }
}

static void
serve_call (peer_t *peer, const wire_call_t *call)
{
    if (peer->guest)
        gateway_call (peer, call);
    else if (!own_call (peer, call))
        relay_call (peer, call);
}

static void
serve_event (peer_t *peer, const wire_event_t *event, mp_t raw)
{
    //  From outside only what was announced: a channel speaks for its owner.
    if (!peer->entry || (peer->gate->door && !registry_owns_channel (peer->entry, event->channel)))
        peer->broker->stats.unknown++;
    else
        events_publish (peer, event, raw);
}

static void
serve_credit (peer_t *peer, const wire_credit_t *credit)
{
    if (credit->id == 0 && peer->guest)
        replay_credit (peer, credit->count);
    else if (peer->guest && credit->id < RELAY_ID)
        gateway_credit (peer, credit);
    else
        relay_credit (peer, credit);
}

//  What a guest says about a call of its own goes to our bus client; the rest are relayed calls.
static void
serve_chunk (peer_t *peer, const wire_chunk_t *chunk)
{
    if (peer->guest && chunk->id < RELAY_ID)
        gateway_chunk (peer, chunk);
    else
        relay_chunk (peer, chunk);
}

static void
serve_cancel (peer_t *peer, const wire_cancel_t *cancel)
{
    if (peer->guest)
        gateway_cancel (peer, cancel->id);
    else
        relay_cancel (peer, cancel);
}

//  Unpack as `name` and do this with it; false when it was malformed.
#define SERVE(name, ...)                         \
    {                                            \
        wire_##name##_t msg;                     \
        if (!wire_unpack_##name (raw, &msg))     \
            return false;                        \
        __VA_ARGS__;                             \
        return true;                             \
    }

static bool
serve_welcomed (peer_t *peer, int number, mp_t raw)
{
    switch (number) {
    case WIRE_CALL: SERVE (call, serve_call (peer, &msg))
    case WIRE_REPLY: SERVE (reply, relay_reply (peer, &msg))
    case WIRE_CHUNK: SERVE (chunk, serve_chunk (peer, &msg))
    case WIRE_CREDIT: SERVE (credit, serve_credit (peer, &msg))
    case WIRE_CANCEL: SERVE (cancel, serve_cancel (peer, &msg))
    case WIRE_CLAIM: SERVE (claim, serve_claim (peer, &msg))
    case WIRE_SUBSCRIBE: SERVE (subscribe, events_subscribe (peer, &msg))
    case WIRE_UNSUBSCRIBE: SERVE (unsubscribe, events_unsubscribe (peer, msg.channel))
    case WIRE_EVENT: SERVE (event, serve_event (peer, &msg, raw))
    default:
        peer->broker->stats.unknown++;
        return true;
    }
}

static bool
serve_message (peer_t *peer, int number, mp_t raw)
{
    switch (number) {
    case WIRE_HELLO:
        serve_hello (peer, raw);
        return true;
    case WIRE_PING: {
        wire_ping_t ping;
        if (!wire_unpack_ping (raw, &ping))
            return false;
        if (peer->entry)
            peer->entry->load = ping.load;
        wire_pack_pong (peer_out (peer, 0), &(wire_pong_t) { 0 });
        return true;
    }
    case WIRE_PONG:
        return true;
    case WIRE_GOODBYE:
        serve_goodbye (peer);
        return true;
    default:
        //  Nothing is served before WELCOME.
        if (peer->welcomed)
            return serve_welcomed (peer, number, raw);
        peer->broker->stats.unknown++;
        return true;
    }
}

//  Somebody we have not met (we were restarted, or took it for dead): it says HELLO again.
static void
serve_stranger (gate_t *gate, text_t id, int number)
{
    gate->broker->stats.unknown++;
    if (number == WIRE_GOODBYE || number == WIRE_PONG)
        return;
    buf_t frame = { 0 };
    wire_refused_t msg = { .code = TEXT ("UNKNOWN"), .text = TEXT ("say hello first") };
    wire_pack_refused (&frame, &msg);
    if (zmq_send (gate->socket, id.data, id.size, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0)
        zmq_send (gate->socket, frame.data, frame.size, ZMQ_DONTWAIT);
    zio_sent (gate->zio);
    buf_free (&frame);
}

void
serve_frame (gate_t *gate, text_t id, text_t frame, const char *user, const char *address)
{
    broker_t *broker = gate->broker;
    peer_t *peer = hash_get (gate->peers, id);
    mp_t raw;
    int number;
    if (peer)
        peer->heard = loop_now (broker->loop);
    while ((number = wire_next (&frame, &raw)) > 0) {
        if (!peer && number == WIRE_HELLO) {
            peer = peer_new (gate, id);
            if (gate->door)
                peer->guest = guest_new (peer, user, address);
        }
        if (!peer) {
            serve_stranger (gate, id, number);
            return;
        }
        if (peer->dead)
            return;
        if (!serve_message (peer, number, raw))
            broker->stats.malformed++;
    }
    if (number < 0) {
        broker->stats.malformed++;
        log_warn ("malformed frame", "gate", gate->endpoint, "slot", peer ? peer->slot : NULL);
    }
}
