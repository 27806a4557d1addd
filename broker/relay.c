//  relay.c -- calls from inside to instances that are served through their connection to us: actors
//  at the door, and those inside that bind no socket of their own.

#include <stdlib.h>

#include "broker.h"

#define GRACE_MS 1000            //  the caller watches the deadline itself; we clean up after it

//  A call on its way.
typedef struct {
    uint64_t id;                 //  ours, towards who serves
    uint64_t caller_id;          //  the caller's
    peer_t *caller, *server;
    int64_t deadline;
    bool streaming;              //  the head of the answer went out, chunks follow
    char key [sizeof (void *) + 8];          //  caller and its id, for the table
} passing_t;

struct relay {
    broker_t *broker;
    hash_t *by_id;               //  owns
    hash_t *by_caller;
    uint64_t last;
};

relay_t *
relay_new (broker_t *broker)
{
    relay_t *self = xcalloc (1, sizeof *self);
    self->broker = broker;
    self->by_id = hash_new (free);
    self->by_caller = hash_new (NULL);
    self->last = RELAY_ID;
    return self;
}

void
relay_destroy (relay_t **self_p)
{
    if (!*self_p)
        return;
    hash_destroy (&(*self_p)->by_caller);
    hash_destroy (&(*self_p)->by_id);
    free (*self_p);
    *self_p = NULL;
}

size_t
relay_in_flight (relay_t *self)
{
    return hash_size (self->by_id);
}

static text_t
key_of_id (const uint64_t *id)
{
    return (text_t) { (const char *) id, sizeof *id };
}

static text_t
key_of_caller (char *key, const peer_t *caller, uint64_t id)
{
    memcpy (key, &caller, sizeof caller);
    memcpy (key + sizeof caller, &id, sizeof id);
    return (text_t) { key, sizeof caller + sizeof id };
}

static passing_t *
passing_served (peer_t *server, uint64_t id)
{
    passing_t *call = hash_get (server->broker->relay->by_id, key_of_id (&id));
    return call && call->server == server ? call : NULL;
}

static passing_t *
passing_called (peer_t *caller, uint64_t id)
{
    char key [sizeof (void *) + 8];
    return hash_get (caller->broker->relay->by_caller, key_of_caller (key, caller, id));
}

static void
passing_end (relay_t *self, passing_t *call)
{
    if (call->server->entry && call->server->entry->in_flight > 0)
        call->server->entry->in_flight--;
    hash_del (self->by_caller, (text_t) { call->key, sizeof call->key });
    uint64_t id = call->id;
    hash_del (self->by_id, key_of_id (&id));
}

static void
passing_cancel (passing_t *call)
{
    wire_pack_cancel (peer_out (call->server, 0), &(wire_cancel_t) { .id = call->id });
}

void
relay_call (peer_t *peer, const wire_call_t *call)
{
    broker_t *broker = peer->broker;
    relay_t *self = broker->relay;
    size_t count;
    mp_t route;
    entry_t **entries = registry_method (broker->registry, call->method, &count, &route);
    entry_t *entry = registry_choose (entries, count, call->key);
    if (call->id >= RELAY_ID || passing_called (peer, call->id))
        own_error (peer, call->id, E_INVALID, "call id is in use or too large", false);
    else if (!entry)
        own_error (peer, call->id, count ? E_UNAVAILABLE : E_NOT_FOUND, NULL, false);
    else if (entry->in_flight >= entry->credit)
        own_error (peer, call->id, E_UNAVAILABLE, "actor has too many calls in service", false);
    else {
        passing_t *pass = xcalloc (1, sizeof *pass);
        pass->id = ++self->last;
        pass->caller_id = call->id;
        pass->caller = peer;
        pass->server = entry->peer;
        pass->deadline = loop_now (broker->loop) + GRACE_MS
                         + (int64_t) (call->ttl < INT32_MAX ? call->ttl : INT32_MAX);
        hash_put (self->by_id, key_of_id (&pass->id), pass);
        hash_put (self->by_caller, key_of_caller (pass->key, peer, call->id), pass);
        entry->in_flight++;
        broker->stats.calls_relayed++;
        wire_call_t on = *call;
        on.id = pass->id;
        size_t about = call->body.data ? (size_t) (call->body.end - call->body.data) : 0;
        wire_pack_call (peer_out (pass->server, about), &on);
    }
}

void
relay_reply (peer_t *peer, const wire_reply_t *reply)
{
    passing_t *call = passing_served (peer, reply->id);
    if (!call || call->streaming)
        return;
    wire_reply_t on = *reply;
    on.id = call->caller_id;
    size_t about = reply->body.data ? (size_t) (reply->body.end - reply->body.data) : 0;
    wire_pack_reply (peer_out (call->caller, about), &on);
    if (mp_bool (mp_get (reply->meta, "stream")))
        call->streaming = true;
    else
        passing_end (peer->broker->relay, call);
}

void
relay_chunk (peer_t *peer, const wire_chunk_t *chunk)
{
    wire_chunk_t on = *chunk;
    passing_t *call = chunk->id >= RELAY_ID ? passing_served (peer, chunk->id)
                                            : passing_called (peer, chunk->id);
    if (!call)
        return;
    if (chunk->id >= RELAY_ID) {
        on.id = call->caller_id;
        wire_pack_chunk (peer_out (call->caller, chunk->data.size), &on);
        if (chunk->last || chunk->error.size)
            passing_end (peer->broker->relay, call);
    }
    else {
        on.id = call->id;
        wire_pack_chunk (peer_out (call->server, chunk->data.size), &on);
    }
}

void
relay_credit (peer_t *peer, const wire_credit_t *credit)
{
    wire_credit_t on = *credit;
    passing_t *call = credit->id >= RELAY_ID ? passing_served (peer, credit->id)
                                             : passing_called (peer, credit->id);
    if (!call)
        return;
    on.id = credit->id >= RELAY_ID ? call->caller_id : call->id;
    wire_pack_credit (peer_out (credit->id >= RELAY_ID ? call->caller : call->server, 0), &on);
}

void
relay_cancel (peer_t *peer, const wire_cancel_t *cancel)
{
    passing_t *call = passing_called (peer, cancel->id);
    if (!call)
        return;
    passing_cancel (call);
    passing_end (peer->broker->relay, call);
}

static void
passing_fail (passing_t *call, error_code_t code)
{
    if (call->streaming)
        wire_pack_chunk (peer_out (call->caller, 0),
                         &(wire_chunk_t) { .id = call->caller_id, .last = true,
                                           .error = text_of (error_name (code)) });
    else
        own_error (call->caller, call->caller_id, code, NULL, code == E_UNAVAILABLE);
}

void
relay_left (peer_t *peer)
{
    relay_t *self = peer->broker->relay;
    text_t key;
    void *item;
    for (size_t at = 0; hash_each (self->by_id, &at, &key, &item);) {
        passing_t *call = item;
        if (call->caller == peer) {
            passing_cancel (call);
            passing_end (self, call);
        }
        else if (call->server == peer) {
            passing_fail (call, E_UNAVAILABLE);
            passing_end (self, call);
        }
    }
}

void
relay_tick (relay_t *self)
{
    int64_t now = loop_now (self->broker->loop);
    text_t key;
    void *item;
    for (size_t at = 0; hash_each (self->by_id, &at, &key, &item);) {
        passing_t *call = item;
        //  A stream lives as long as both ends do.
        if (call->streaming || now < call->deadline)
            continue;
        passing_cancel (call);
        passing_fail (call, E_TIMEOUT);
        passing_end (self, call);
    }
}
