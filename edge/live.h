//  live.h -- channels and their subscribers inside one edge, whatever the transport.
//
//  A channel keeps the newest events in a ring; a subscription keeps its position and nothing else.
//  A client pulls when its socket can take more: from the ring, or, when it fell behind, page by
//  page from the channel's owner. So a slow client costs one page, and nothing is ever dropped
//  silently.

#ifndef LIVE_H
#define LIVE_H

#include "edge.h"

#define CHANNEL_NAME_MAX 200
#define CLIENT_CHANNELS 128              //  subscriptions of one client
#define RING_EVENTS 256                  //  newest events kept per channel (a power of two)
#define RING_BYTES (512 * 1024)
#define PAGE_EVENTS 300                  //  events of one page from the owner

typedef struct channel channel_t;
typedef struct client client_t;
typedef struct sub sub_t;
typedef struct waiting waiting_t;

typedef enum { FORMAT_JSON, FORMAT_MSGPACK, FORMAT_SSE } format_t;

//  An event as delivered: immutable, shared by all who get it.
typedef struct {
    unsigned refs;
    uint64_t off;
    uint64_t key_hash;                   //  0: no key
    size_t size;                         //  memory it takes
    buf_t json;  //  pairs behind "prev", ready to splice: ,"key":…,"at":…,"data":…}
    buf_t packed;  //  the same as MessagePack pairs; made when first asked for
} event_t;

struct channel {
    live_t *live;
    char *name, *actor;
    bool collection, open;               //  open: epoch and top are known
    char epoch [64];
    uint64_t top, floor;                 //  the ring holds floor … top (floor > top: nothing)
    uint64_t seen;                       //  highest offset heard of
    event_t *ring [RING_EVENTS];
    size_t bytes;
    uint64_t call;                       //  live.read in flight
    ltimer_t *retry;
    unsigned tries;
    sub_t *subs;
    size_t count;
    //  many subscribers: woken again at the earliest when the timer fires
    ltimer_t *pace;
    uint64_t told;                       //  top when they were woken last
    size_t untold;                       //  bytes of events since then
};

struct sub {
    client_t *client;
    channel_t *channel;
    sub_t *next, **link;                 //  of the channel
    sub_t *client_next;
    bool ready;                          //  subscribe was answered
    mp_t id;                             //  of the subscribe command (id_buf), for the answer
    buf_t id_buf;
    bool has_off, snapshot;              //  what was asked for
    char want_epoch [64];
    uint64_t off;                        //  delivered so far
    uint64_t skipped;                    //  offsets behind it that newer ones of their keys replace
    bool current;                        //  has been up to date: pages may be shortened since
    bool recovered;
    unsigned index;                      //  which of the asked-for channels, for the cursor
    //  behind the ring, or snapshot: one page of the owner
    bool snapping;                       //  snapshot under way
    uint64_t call;
    buf_t page;
    mp_iter_t page_at;
    //  of a collection's page: hashes of the keys, and which is next
    uint64_t *keys;
    size_t key_count, key_at;
    bool paging, page_json;              //  page_json: the page is a snapshot's rows
    buf_t cursor;                        //  of the snapshot's next page; empty: last one
    uint64_t snap_off;
    ltimer_t *retry;
};

//  wake: something is to be pulled. closed: the client must go (code and reason for its transport);
//  may be called inside any client_* function but client_pull; the transport frees the client
//  later.
typedef struct {
    void (*wake) (void *arg);
    void (*closed) (void *arg, unsigned code, const char *reason);
    void *arg;
} sink_t;

struct client {
    live_t *live;
    session_t *session;
    format_t format;
    sink_t sink;
    char id [25];
    buf_t control;                       //  answers and notices, before events
    sub_t *subs, *turn;                  //  turn: who is served first next time
    size_t count;
    client_t *next, **link;
    waiting_t *waiting;                  //  subscriptions that wait for the user's grants
};

struct live {
    edge_t *edge;
    hash_t *channels;                    //  name → channel_t
    hash_t *grants;                      //  user → grants_t (audiences beyond their own)
    client_t *clients;
    ltimer_t *hold;
    uint64_t delivered, coalesced, gaps, reads, holes;
};

//  ---------------------------------------------------------------- clients (client.c)

client_t *client_new (live_t *live, session_t *session, format_t format, const sink_t *sink);
void client_free (client_t **self_p);
//  Take over a fresh token of the same user. False: another user's.
bool client_refresh (client_t *self, session_t *session);

typedef struct {
    mp_t id;                             //  echoed in the answer; absent: none is given
    text_t channel, epoch;
    bool has_off, snapshot;
    uint64_t off;
    unsigned index;
} subscribe_t;
void client_subscribe (client_t *self, const subscribe_t *want);
void client_unsubscribe (client_t *self, mp_t id, text_t channel);
//  Who watches a channel at this edge: {ch, clients: [{client, user}], count}.
void client_presence (client_t *self, mp_t id, text_t channel);
//  Queue an answer: {id, name: body} or {id, error: {code, message}}.
void client_answer (client_t *self, mp_t id, const char *name, mp_t body);
void client_error (client_t *self, mp_t id, error_code_t code, const char *text);
//  Queue any object.
void client_say (client_t *self, mp_t object);
//  Append what may be sent now, about `max` bytes; whole objects. Returns false when nothing was to
//  be said.
bool client_pull (client_t *self, buf_t *out, size_t max);
//  Position of all subscriptions for server-sent events: "0:epoch:off;1:epoch:off".
void client_cursor (const client_t *self, buf_t *out);

//  ---------------------------------------------------------------- between channel.c and client.c

//  Find or make; NULL when no actor answers for its collection.
channel_t *channel_of (live_t *live, text_t name);
void channel_add (channel_t *self, sub_t *sub);
//  The last one leaving ends the channel.
void channel_remove (channel_t *self, sub_t *sub);
//  The event at an offset inside the ring.
event_t *channel_event (const channel_t *self, uint64_t off);
//  Ask the owner for events after `from`; reply to fn. Returns the bus call.
uint64_t channel_read (channel_t *self, uint64_t from, unsigned limit, bus_reply_fn *fn, void *arg);
//  Events as they lie in a page {off, key, type, at, data}.
event_t *event_from (mp_t map);
//  Hash of the key of an event that is a map; 0 when it has none.
uint64_t event_key (mp_t map);
void event_drop (event_t **self_p);
void event_write (event_t *event, const channel_t *channel, uint64_t prev, format_t format,
                  buf_t *out);

//  A position as its owner says it; PostgreSQL counts no further, and beyond it ours would wrap.
static inline uint64_t
position_of (mp_t value)
{
    uint64_t off;
    return mp_uint_get (value, &off) && off < INT64_MAX ? off : 0;
}

//  Called by the channel: it is open now; there is more; its epoch changed or offsets are lost.
void sub_opened (sub_t *self);
void sub_more (sub_t *self);
void sub_gap (sub_t *self, uint64_t from, uint64_t to, const char *why);

//  sub.c. Pull appends at most about `max` bytes; false: nothing to say now.
void sub_free (sub_t *self);
bool sub_pull (sub_t *self, buf_t *out, size_t max);

//  May this session hear that audience? `ask` is set when only identity knows: then
//  live_ask_grants, and try again in live_grants_changed.
bool live_may (live_t *live, session_t *session, text_t audience, bool *ask);
void live_ask_grants (live_t *live, const char *user);
//  Deliveries wait for identity: look again soon.
void live_hold (live_t *live);
//  client.c: what a user may hear is known, or changed.
void live_grants_changed (live_t *live, text_t user);

#endif
