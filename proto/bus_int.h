//  bus_int.h -- what the files of the bus client share, and nobody else includes.
//
//    bus.c        life, heartbeat, broker connection          bus_link.c   sockets, outboxes
//    bus_dir.c    directory: who lives, who owns a key        bus_call.c   our calls
//    bus_place.c  which instance takes a call, and when       bus_wheel.c  deadlines
//    bus_serve.c  calls for us                                bus_topic.c  events
//
//  Nothing is freed and no failure is told while a message is being handled: both wait for the end
//  of the turn, so a callback may call anything here.

#ifndef BUS_INT_H
#define BUS_INT_H

#include "proto/bus.h"
#include "proto/hash.h"
#include "proto/zio.h"

#define BUS_CREDIT 1024              //  calls one caller may have in flight here, by default
#define BUS_CREDIT_EARLY 64          //  calls sent to an actor before its WELCOME
#define BUS_WAITING_MAX 10000
#define BUS_ATTEMPTS 3               //  instances a call may die with
#define BUS_SUSPECT 500              //  ms until a listed instance that broke is tried again
#define BUS_HEARTBEAT 500            //  ms, until WELCOME says
#define BUS_EVENT_CREDIT 64          //  door: credit goes back in such portions
#define WHEEL_SLOTS 256
#define WHEEL_MS 20

typedef struct call call_t;
typedef struct instance instance_t;
typedef struct group group_t;
typedef struct served served_t;

//  ---------------------------------------------------------------- out

//  A closed frame that its socket did not take yet.
typedef struct parcel {
    struct parcel *next;
    buf_t frame;
} parcel_t;

//  What waits to leave for one destination. Frames are counted, so a call knows whether the frame
//  it is in was taken by the socket (frame_no < taken) or certainly never left.
typedef struct outbox {
    bus_t *bus;
    void *socket;
    zio_t *zio;
    text_t route;                    //  routing id when the socket is our ROUTER
    buf_t frame;                     //  open frame: what this turn produced
    parcel_t *first, *last;          //  closed frames before it
    size_t queued;                   //  bytes in closed frames
    uint64_t opened, taken;          //  number of the open frame; frames taken by the socket
    int64_t since;                   //  when the open frame got its first message, in µs
    bool dirty, lost;                //  in the list of boxes to flush; destination does not exist
    bool held;                       //  nobody is connected yet: what left would count as taken
    struct outbox *next;
} outbox_t;

//  Our DEALER to the broker or to one actor.
typedef struct link {
    bus_t *bus;
    instance_t *instance;            //  NULL: the broker
    void *socket, *monitor;
    zio_t *zio, *monitor_zio;
    outbox_t box;
    uint64_t credit, in_flight;
    bool connected, dead;
    struct link *next;               //  in the graveyard
} link_t;

//  ---------------------------------------------------------------- calls

typedef enum { CALL_FREE, CALL_WAITING, CALL_FLYING, CALL_FAILED } call_state_t;

typedef struct {
    call_t *first, *last;
} call_list_t;

struct call {
    uint64_t id;                     //  generation << 20 | index
    call_state_t state;
    bool idempotent, streaming;      //  streaming: head delivered, chunks follow
    bool exposed;                    //  some actor may have executed it
    bool fresh;                      //  the ttl in `frame` is right: it never waited
    uint8_t attempts;
    int64_t born, deadline;          //  ms of clock_ms
    group_t *group;                  //  whose method it is; NULL in limbo and for slot calls
    instance_t *instance;            //  where it flies, or the only one it waits for
    uint64_t frame_no;               //  frame of the link's outbox it went into
    uint64_t granted;                //  chunks of the answer allowed
    uint64_t uploads, wanted;        //  upload credit left, and ever given
    char *slot;
    buf_t frame;                     //  the CALL message, to send again
    bus_reply_fn *on_reply;
    bus_chunk_fn *on_chunk;
    bus_credit_fn *on_credit;
    void *arg;
    error_code_t error;              //  CALL_FAILED: what to tell
    const char *text;
    call_list_t *list;               //  the one list it is in
    call_t *prev, *next;
    call_t *wheel_prev, *wheel_next;
    int wheel_slot;                  //  -1: no deadline
};

typedef struct {
    call_t **all;                    //  by index
    size_t count, room;
    call_list_t idle, limbo, failed; //  limbo: to be placed when the directory is known
    uint32_t generation;
    call_t *wheel [WHEEL_SLOTS];
    size_t wheeled;
    int64_t wheel_at, wheel_armed;   //  ticks: done up to, timer set for
    ltimer_t *wheel_timer;
    uint64_t random;
} calls_t;

//  ---------------------------------------------------------------- directory

struct instance {
    bus_t *bus;
    group_t *group;
    char *slot, *boot, *endpoint;
    bool draining;
    buf_t entry;                     //  as announced; the views below look into it
    mp_t routes, channels, dependants;
    uint64_t load, pid;
    link_t *link;                    //  once needed; with an empty endpoint the broker's is used
    call_list_t flying, waiting;
    size_t in_flight, claims;
    int64_t suspect_until;           //  connection broke: not chosen until then or news of it
    int64_t missing_since;           //  a new broker does not know it yet: kept for a while
};

//  All instances of one actor. Groups and methods stay known when their instances are gone.
struct group {
    char *name;
    hash_t *claims;                  //  key → instance_t
    instance_t **members;
    size_t count, room;
    call_list_t waiting;             //  for any instance
};

typedef struct {
    char *name;
    group_t *group;
    buf_t route;
    instance_t **live;
    size_t count, room;
} method_t;

typedef struct {
    hash_t *slots, *groups, *methods, *collections;
    uint64_t revision;
    bool known;                      //  a whole directory came
} directory_t;

//  ---------------------------------------------------------------- serving

struct bus_peer {
    outbox_t own, *box;              //  box: &own, or the broker's
    char id [256];
    size_t id_size;
    served_t *first;
    size_t in_service;
    int64_t heard, pinged;
    bool dead;
    struct bus_peer *next;           //  live or dead list
};

//  One call in service.
struct served {
    bus_peer_t *peer;
    uint64_t id, granted;
    bool answered;                   //  head of a stream was sent
    served_t *prev, *next;           //  of its peer
    served_t *chain;                 //  of its bucket, or of the free list
};

typedef struct {
    bus_service_t service;
    buf_t copies [4];                //  routes, claims, channels, dependants
    hash_t *own_claims;
    buf_t late_claims;               //  CLAIMs made behind HELLO, for when the broker knows us
    bool bound, failed;              //  failed: could not bind
    char endpoint [128];
    void *socket;
    zio_t *zio;
    hash_t *peers;
    bus_peer_t *live, *dead, *dead_last;
    bus_peer_t through_broker;
    served_t **buckets, *idle;
    size_t bucket_count, count;
} serving_t;

//  ---------------------------------------------------------------- the bus

typedef enum { BROKER_CLOSED, BROKER_GREETED, BROKER_WELCOME, BROKER_READY } broker_state_t;

struct bus {
    loop_t *loop;
    void *zmq;
    bus_conf_t conf;                 //  texts copied
    char boot [9];
    bus_life_t life;
    bus_listener_t listener;
    link_t *broker;                  //  NULL between two connections
    broker_state_t broker_state;
    char broker_boot [65];
    uint64_t heartbeat, tick_taken;
    unsigned silent_ticks, backoff;
    int64_t greeted_at;
    ltimer_t *tick, *retry, *blocked;
    hook_t hook;
    outbox_t *dirty;
    link_t *graveyard;
    bool started, leaving, refused;
    bool lost;                       //  some outbox found nobody
    calls_t calls;
    directory_t dir;
    serving_t serving;
    hash_t *topics;
    hash_t *unsaid;                      //  channel -> its last event, packed: no broker heard it
    uint64_t topic_id, event_debt;
    buf_t scratch;
    bus_stats_t stats;
};

void bus_wake (bus_t *self);         //  run the end-of-turn work
bool bus_through_door (const bus_t *self);

//  Pack between open and shut:  size_t mark = outbox_open (box); wire_pack_x (&box->frame, &msg);
//  False when the message is beyond the frame limit: it was taken back.
size_t outbox_open (outbox_t *box);
bool outbox_shut (outbox_t *box, size_t mark);
void outbox_init (outbox_t *box, bus_t *bus, void *socket, zio_t *zio);
void outbox_free (outbox_t *box);
bool outbox_flush (outbox_t *box);   //  false: the socket is full or not connected
//  A turn that takes long does not keep what it has: the other side works meanwhile.
void outbox_hurry (outbox_t *box);
void outboxes_flush (bus_t *self);

link_t *link_new (bus_t *bus, instance_t *instance, const char *endpoint);
void link_bury (link_t *link);       //  dead now, freed at the end of the turn
void links_free_buried (bus_t *self);
bool link_receive (link_t *link);                    //  false: there was nothing
void socket_common (void *socket);   //  limits that every socket of ours has

//  Messages of one received frame, each to fn; counts what is malformed.
typedef void (message_fn) (void *arg, int number, mp_t message);
void bus_unfold (bus_t *self, zmq_msg_t *part, message_fn *fn, void *arg);

void broker_message (link_t *link, int number, mp_t message);
void broker_lost (bus_t *self, bool refused_key);
void actor_message (link_t *link, int number, mp_t message);

void directory_init (bus_t *self);
void directory_free (bus_t *self);
void directory_apply (bus_t *self, const wire_directory_t *msg);
void directory_claim (bus_t *self, const wire_claim_t *msg);
void directory_tick (bus_t *self, int64_t now);
method_t *directory_method (bus_t *self, text_t name);
instance_t *group_owner (group_t *group, text_t key);
void instance_broken (instance_t *instance);         //  its connection ended
bool instance_serves (const instance_t *instance, const method_t *method);

//  The link over which an instance is reached; NULL when there is none now.
static inline link_t *
instance_path (const instance_t *instance)
{
    return instance->endpoint [0] ? instance->link : instance->bus->broker;
}

void calls_init (bus_t *self);
void calls_free (bus_t *self);
void calls_rehome (bus_t *self);                     //  place again whatever waits
void calls_abandon (instance_t *instance);           //  its calls fail or go to limbo
void calls_failed (bus_t *self);                     //  tell what failed this turn
void calls_pump (bus_t *self, link_t *link);         //  credit came back
void call_place (bus_t *self, call_t *call, text_t method, text_t key);
void call_list_put (call_list_t *list, call_t *call);
void call_list_remove (call_t *call);
void call_wait (bus_t *self, call_t *call, call_list_t *list);
void call_detach (bus_t *self, call_t *call);        //  out of its list; credit and load come back
void call_fail (bus_t *self, call_t *call, error_code_t error, const char *text);
void call_expired (bus_t *self, call_t *call);
void cancel_pack (const call_t *call);
void credit_pack (link_t *link, uint64_t id, uint64_t count);
void wheel_init (bus_t *self);
void wheel_put (bus_t *self, call_t *call);
void wheel_remove (bus_t *self, call_t *call);
void call_replied (link_t *link, mp_t message);
bool call_chunk (link_t *link, const wire_chunk_t *chunk);
bool call_credit (link_t *link, const wire_credit_t *credit);

void serving_init (bus_t *self);
void serving_free (bus_t *self);
void serving_message (bus_t *self, bus_peer_t *peer, int number, mp_t message);
void serving_chunk (bus_t *self, bus_peer_t *peer, const wire_chunk_t *chunk);
void serving_credit (bus_t *self, bus_peer_t *peer, const wire_credit_t *credit);
void serving_drop_all (bus_t *self, bus_peer_t *peer);
void serving_tick (bus_t *self, int64_t now);
void serving_lost (bus_t *self);                     //  drop peers whose outbox found nobody
void serving_sweep (bus_t *self);                    //  files of predecessors of our slot

void topics_init (bus_t *self);
void topics_free (bus_t *self);
void topics_again (bus_t *self);                     //  subscribe anew, and say what was not heard
void topic_message (bus_t *self, int number, mp_t message);

#endif
