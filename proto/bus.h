//  bus.h -- the bus client: the one way to call, serve, publish and subscribe. Edge, actors, CLI
//  and the broker's own door use it. It follows the broker's directory, connects straight to each
//  actor, grants and respects credit, chooses the instance, knows every call in flight, re-sends,
//  times out, cancels.
//
//  All callbacks run on the loop thread; values handed to them are borrowed until they return.
//  Everything sent in one turn to one peer leaves as one frame at the end of the turn.

#ifndef BUS_H
#define BUS_H

#include "error.h"
#include "loop.h"
#include "wire.h"

typedef struct bus bus_t;

//  A peer that called us: opaque, small, valid until its call is answered or cancelled.
typedef struct bus_peer bus_peer_t;

typedef struct {
    const char *role;            //  "actor", "edge", "client"
    const char *name, *slot;     //  "clusters", "clusters.1"
    const char *broker;          //  endpoint of the broker: ipc://…/broker.s or tcp://…
    const char *run_dir;         //  where our ROUTER is bound (actors); NULL: served by the broker
    const char *server_key, *public_key, *secret_key;     //  CURVE (Z85), for tcp brokers
    const char *token;           //  for the door
    uint32_t credit;             //  calls a caller may have in flight here (0: 1024)
} bus_conf_t;

//  zmq_ctx is shared by the process. Nothing is sent before bus_start.
bus_t *bus_new (loop_t *loop, void *zmq_ctx, const bus_conf_t *conf);
//  Not from inside a callback. Calls still open are forgotten without an answer; what was answered
//  or published before still leaves.
void bus_destroy (bus_t **self_p);

//  ---------------------------------------------------------------- calling

typedef struct {
    uint64_t status;             //  HTTP status
    mp_t body, meta;             //  see REPLY in wire.def
} bus_reply_t;

//  Exactly one reply per call, also when nobody answered: status 503 UNAVAILABLE (meta.outcome
//  "unknown" when the call may have been executed, absent when it certainly was not), 504 TIMEOUT,
//  404 for a method nobody announced.
typedef void (bus_reply_fn) (void *arg, const bus_reply_t *reply);
//  Chunks of a streamed answer, after the reply; the last one has last = true (error: code or
//  empty).
typedef void (bus_chunk_fn) (void *arg, const wire_chunk_t *chunk);
//  The actor wants that many more chunks of our upload.
typedef void (bus_credit_fn) (void *arg, uint64_t count);

typedef struct {
    text_t method, key, trace;
    int64_t ttl;                 //  ms; 0: 30 s
    mp_t identity, params, body, meta;     //  copied; absent becomes nil
    bool idempotent;             //  may be sent again to another instance when one died
    const char *slot;            //  to exactly this instance (broadcasts), or NULL
    bus_reply_fn *on_reply;
    bus_chunk_fn *on_chunk;      //  NULL: a streamed answer is refused
    bus_credit_fn *on_credit;    //  for uploads
    void *arg;
} bus_call_t;

//  Send, or wait for credit or for an absent actor until the deadline (at most 10,000 calls wait,
//  then 503 at once). Returns the call's id. on_reply never runs inside bus_call.
uint64_t bus_call (bus_t *self, const bus_call_t *call);
//  Forget it: no callback any more, CANCEL to the actor. Unknown ids are ignored.
void bus_cancel (bus_t *self, uint64_t id);
//  Streamed answers: allow `count` more chunks (none come before the first grant).
void bus_grant (bus_t *self, uint64_t id, uint64_t count);
//  Uploads (meta.stream true in the call): one chunk, only under credit. False: call is over.
bool bus_upload (bus_t *self, uint64_t id, text_t data, bool last);

//  ---------------------------------------------------------------- serving

//  A call for us; `call` and its values are borrowed until we return. Answer with bus_answer
//  exactly once, then or later.
typedef void (bus_serve_fn) (void *arg, bus_peer_t *peer, const wire_call_t *call);
//  The caller gave up (or left): drop the call; answering is harmless.
typedef void (bus_cancelled_fn) (void *arg, bus_peer_t *peer, uint64_t id);
//  A chunk of the caller's upload / the caller allows more chunks of our answer.
typedef void (bus_received_fn) (void *arg, bus_peer_t *peer, const wire_chunk_t *chunk);
typedef void (bus_granted_fn) (void *arg, bus_peer_t *peer, uint64_t id, uint64_t count);

typedef struct {
    bus_serve_fn *serve;
    bus_cancelled_fn *cancelled;
    bus_received_fn *received;
    bus_granted_fn *granted;
    void *arg;
    mp_t routes, claims, channels, dependants;    //  for HELLO; copied
} bus_service_t;

//  Before bus_start. Binds our ROUTER when run_dir is set.
void bus_service (bus_t *self, const bus_service_t *service);

void bus_answer (bus_t *self, bus_peer_t *peer, uint64_t id, uint64_t status, mp_t body, mp_t meta);
//  Chunks of an answer whose meta said stream: true; only as many as were granted (an empty last
//  one is free of credit; an error ends the stream). False: the call
//  is over.
bool bus_send_chunk (bus_t *self, bus_peer_t *peer, uint64_t id, text_t data, bool last,
                     const char *error);
//  Ask the caller for `count` more chunks of its upload.
void bus_want (bus_t *self, bus_peer_t *peer, uint64_t id, uint64_t count);

void bus_claim (bus_t *self, text_t key, bool release);
//  Is this key ours (claimed by us, or unclaimed and the rendezvous choice falls on us)?
bool bus_owns (bus_t *self, text_t key);
//  Who else? Slot of the owner instance, or NULL.
const char *bus_owner (bus_t *self, text_t key);

//  ---------------------------------------------------------------- events

void bus_publish (bus_t *self, const wire_event_t *event);

typedef void (bus_event_fn) (void *arg, const wire_event_t *event);
//  Answer to bus_subscribe: code empty on success. Comes again (resumed = true) after the broker
//  restarted and we subscribed anew: what was published in between must be asked for with
//  live.read.
typedef void (bus_subscribed_fn) (void *arg, const wire_subscribed_t *answer, bool again);
typedef void (bus_gap_fn) (void *arg, const wire_gap_t *gap);
typedef void (bus_unsubscribed_fn) (void *arg, const wire_unsubscribe_t *why);

typedef struct {
    bus_event_fn *on_event;
    bus_subscribed_fn *on_subscribed;
    bus_gap_fn *on_gap;                   //  door clients
    bus_unsubscribed_fn *on_unsubscribed; //  door clients: permission went
    void *arg;
} bus_listener_t;

//  One listener per bus; channels are told apart by name.
void bus_listen (bus_t *self, const bus_listener_t *listener);
void bus_subscribe (bus_t *self, text_t channel, text_t epoch, uint64_t off, bool resume);
void bus_unsubscribe (bus_t *self, text_t channel);

//  ---------------------------------------------------------------- life

//  Connect and say HELLO; on_ready after WELCOME and the first whole DIRECTORY (again after a
//  broker restart), on_refused when the broker will not have us (the process should exit 1 after
//  logging), on_directory after each change.
typedef struct {
    void (*on_ready) (void *arg);
    void (*on_refused) (void *arg, const wire_refused_t *why);
    void (*on_directory) (void *arg);
    void *arg;
} bus_life_t;
void bus_start (bus_t *self, const bus_life_t *life);
//  GOODBYE: nothing new comes; answers in flight still go out. Then destroy when idle.
void bus_leave (bus_t *self);
bool bus_connected (bus_t *self);         //  broker heard within its heartbeat limit
const char *bus_boot (const bus_t *self); //  this incarnation, as the directory names it

//  One instance as the directory knows it; borrowed until the next turn.
typedef struct {
    const char *name, *slot, *boot, *endpoint, *state;
    mp_t routes, channels, dependants;
    uint64_t load, pid;
    bool self;
} bus_entry_t;
//  Walk:  for (size_t at = 0; bus_each_entry (bus, &at, &entry);)
bool bus_each_entry (bus_t *self, size_t *at, bus_entry_t *entry);
uint64_t bus_revision (bus_t *self);
//  Route map of a method (from the directory), mp_none when nobody announced it. `live`: instances
//  up now.
mp_t bus_route (bus_t *self, text_t method, size_t *live);
//  Name of the actor that answers live.* for a channel's collection ("user:42/clusters" →
//  "clusters" actor), or NULL.
const char *bus_channel_actor (bus_t *self, text_t channel);

typedef struct {
    uint64_t calls, replies, resent, unknown, timeouts, waiting, in_flight, served;
    uint64_t events_in, events_out, frames_in, frames_out, malformed;
} bus_stats_t;
const bus_stats_t *bus_stats (bus_t *self);

#endif
