//  broker.h -- what the files of the broker share: gates, peers, frames that wait to go out.
//
//  A gate is a ROUTER: one inside (ipc) and, when wanted, one at the door (TCP, CURVE). A peer is
//  somebody who said HELLO at a gate. What a turn produces for a peer leaves as one frame when the
//  turn ends.

#ifndef BROKER_H
#define BROKER_H

#include "proto/bus.h"
#include "proto/loop.h"
#include "proto/zio.h"
#include "registry.h"
#include "topics.h"

#define BROKER_SILENCE 4         //  silent heartbeats that mean death
#define PEER_FRAMES_MAX 1000     //  frames of up to 64 KiB that ZeroMQ keeps for one peer

typedef struct broker broker_t;
typedef struct gate gate_t;
typedef struct peer peer_t;
typedef struct door door_t;
typedef struct guest guest_t;
typedef struct relay relay_t;
typedef struct listener listener_t;

typedef struct {
    const char *run_dir;         //  holds broker.s
    const char *door;            //  TCP endpoint, NULL or empty: no door
    const char *keys_dir;
    const char *secret;          //  JWT_SECRET; NULL: tokens cannot be checked
    int64_t heartbeat;           //  ms
    int64_t rate, burst;         //  calls a second of one client at the door
} broker_conf_t;

typedef struct {
    uint64_t frames_in, frames_out, events_in, events_out, events_dropped, calls_relayed, malformed,
        unknown, refused, deaths;
} broker_stats_t;

struct broker {
    broker_conf_t conf;
    loop_t *loop;
    void *zmq;
    gate_t *inside, *outside;    //  outside: NULL without a door
    registry_t *registry;
    topics_t *topics;
    relay_t *relay;
    door_t *door;                //  NULL without a door
    ltimer_t *beat, *retry;      //  heartbeats; a peer did not take its frames
    hook_t flush;
    peer_t *dirty;               //  peers with something to send
    peer_t *grave;               //  dropped in this turn, freed at its end
    broker_stats_t stats;
    int64_t started;
    char boot [13];
};

struct gate {
    broker_t *broker;
    void *socket, *monitor;
    zio_t *zio, *monitor_zio;
    ltimer_t *probe;             //  set after a disconnect: who is not there any more?
    int probes;
    hash_t *peers;               //  routing id → peer_t
    char *endpoint;              //  as bound
    bool door;
};

//  A frame on its way to a peer.
typedef struct frame {
    buf_t data;
    struct frame *next;
} frame_t;

struct peer {
    broker_t *broker;
    gate_t *gate;
    text_t id;                   //  routing id, owned
    char *role, *name, *slot;
    entry_t *entry;              //  actors
    guest_t *guest;              //  who it is at the door; NULL inside
    hash_t *subs;                //  channel → listener_t
    frame_t *frames, *last;      //  what waits to go out; the last one is still filled
    peer_t *next_dirty, *next_grave;
    int64_t heard, sent;         //  loop_now of the last frame from and to it
    uint64_t dropped;            //  events it never got
    bool is_dirty, blocked, welcomed, dead;
    bool lost;                   //  some of its listeners lost events while it was blocked
};

//  ---- broker.c
broker_t *broker_new (loop_t *loop, const broker_conf_t *conf);     //  NULL after a log line
void broker_destroy (broker_t **self_p);

//  ---- gate.c
gate_t *gate_new (broker_t *broker, const char *endpoint, bool door);
void gate_destroy (gate_t **self_p);

//  ---- peer.c
peer_t *peer_new (gate_t *gate, text_t id);
//  Forget a peer: its entry is gone, its subscriptions end, what it was asked fails. Its memory
//  stays until the end of the turn.
void peer_drop (peer_t *self, const char *why);
//  Where to append a message of `about` that many bytes; it leaves at the end of the turn.
buf_t *peer_out (peer_t *self, size_t about);
//  REFUSED, and nothing else will come for this peer: it is dropped unless `stay`.
void peer_refuse (peer_t *self, const char *code, const char *text);
//  May events be appended now? False: it does not read, they are dropped and counted.
bool peer_open (peer_t *self);
void peer_free (peer_t *self);
//  Hand what waits to ZeroMQ. False when the peer is not there any more.
bool peer_flush (peer_t *self);
//  End of turn: directory changes, then all dirty peers.
void broker_flush (void *arg);
void broker_wake (broker_t *self);

//  ---- serve.c: one message of a peer
//  `user` (door): name of the key that the connection was made with; `address`: where from.
void serve_frame (gate_t *gate, text_t id, text_t frame, const char *user, const char *address);
//  Say WELCOME and the directory.
void serve_welcome (peer_t *peer);
//  The announcement of an actor that may announce. False: refused.
bool serve_announce (peer_t *peer, const wire_hello_t *hello, char *const *prefixes);

//  ---- events.c
struct listener {
    sub_t sub;                   //  first: topics give it back
    uint64_t id;                 //  of the SUBSCRIBE, for its answers
    bool lost;                   //  events were not sent (at the door: without a position)
    //  At the door: what was delivered, so that holes are filled and nothing comes twice.
    bool answered;               //  SUBSCRIBED was sent
    bool denied;                 //  waits for the audiences of its guest to be known
    uint64_t off;                //  last offset delivered (or skipped by a gap)
    uint64_t read;               //  live.read in flight, 0 none
    int64_t retry;               //  not before this time, after a failed read
    char epoch [64];
    bool placed;                 //  epoch and off are known
    bool behind;                 //  must catch up from the owner's log
    bool missed;                 //  … and something was published since we asked for it
};
//  It reads again.
void events_lost (peer_t *peer);
void events_publish (peer_t *from, const wire_event_t *event, mp_t raw);
void events_subscribe (peer_t *peer, const wire_subscribe_t *msg);
void events_unsubscribe (peer_t *peer, text_t channel);
listener_t *events_listen (peer_t *peer, text_t channel);
void listener_end (peer_t *peer, listener_t *listener);

//  ---- own.c: broker.stats, broker.directory, broker.peers. False: not one of ours.
bool own_call (peer_t *peer, const wire_call_t *call);
void own_reply (peer_t *peer, uint64_t id, uint64_t status, const buf_t *body);
void own_error (peer_t *peer, uint64_t id, error_code_t code, const char *text, bool unknown);

//  ---- relay.c: calls from inside to instances that are served through their connection to us
//  Ids that we give have this bit, ids of callers have not: a peer that serves and calls on one
//  connection tells them apart by it.
#define RELAY_ID (UINT64_C (1) << 62)
relay_t *relay_new (broker_t *broker);
void relay_destroy (relay_t **self_p);
void relay_call (peer_t *peer, const wire_call_t *call);
//  A message about a call, from its caller or from the instance that serves it.
void relay_reply (peer_t *peer, const wire_reply_t *reply);
void relay_chunk (peer_t *peer, const wire_chunk_t *chunk);
void relay_credit (peer_t *peer, const wire_credit_t *credit);
void relay_cancel (peer_t *peer, const wire_cancel_t *cancel);
//  A peer left: its own calls are cancelled, those it served are answered 503.
void relay_left (peer_t *peer);
void relay_tick (relay_t *self);
size_t relay_in_flight (relay_t *self);

#endif
