//  door.h -- programs from elsewhere: who they are, what they may, what reaches them.
//
//  A guest is a peer at the door. Its key (CURVE) says what its holder may be: a client that shows
//  a token, one named actor with its path prefixes, or an edge that we trust. Identities are made
//  here; what a guest says about itself is ignored.

#ifndef DOOR_H
#define DOOR_H

#include "broker.h"
#include "proto/keyfile.h"

#define EVENT_CREDIT 256         //  events that a guest gets before it grants more

typedef struct trust trust_t;

struct door {
    broker_t *broker;
    keyfile_t *server;           //  our own pair
    hash_t *keys;                //  public key → keyfile_t
    uint64_t keys_seen;          //  names and times of the files that were read
    int64_t keys_checked;        //  when
    void *zap;
    zio_t *zap_zio;
    bus_t *bus;                  //  calls for guests, and ours
    trust_t *trust;
};

//  A bucket of tokens that fills with time.
typedef struct {
    double level;
    int64_t filled;
} bucket_t;

struct guest {
    peer_t *peer;
    door_t *door;
    char key [64];               //  name of its key file
    char address [64];
    key_role_t role;
    buf_t identity;              //  map that its calls carry
    char *user, *jti;            //  views for revocation; NULL: anonymous
    char *role_name;             //  "admin", …
    int64_t issued, expires;     //  Unix seconds; 0: unknown, never
    buf_t hello, claims;         //  HELLO that waits for its token to be checked; what that says
    uint64_t checking;           //  identity.check in flight
    uint64_t asking;             //  identity.grants in flight
    buf_t audiences;             //  array of what it may listen to beyond its own
    bool granted;                //  audiences are known
    hash_t *calls;               //  its call id → what became of it (gateway.c)
    uint64_t credit;             //  events that may still go to it
    bucket_t normal, strict;     //  calls; sign-in and mail
};

//  ---- door.c
door_t *door_new (broker_t *broker);               //  NULL after a log line
void door_destroy (door_t **self_p);
void door_start (door_t *self);                    //  our own bus client joins
//  Make a socket a CURVE server that admits known keys only.
void door_guard (door_t *self, void *socket);
void door_tick (door_t *self);
keyfile_t *door_key (door_t *self, const char *name);         //  NULL: withdrawn
//  Walk guests:  for (size_t at = 0; (guest = door_each (self, &at));)
guest_t *door_each (door_t *self, size_t *at);
int64_t door_now (door_t *self);                   //  Unix seconds

//  ---- guest.c
//  `key`: name of its key file; `address`: where it comes from.
guest_t *guest_new (peer_t *peer, const char *key, const char *address);
void guest_destroy (guest_t **self_p);
void guest_left (guest_t *self);                   //  its peer is dropped: forget what is in flight
//  HELLO of a guest: check key role and token, then welcome or refuse.
void guest_hello (peer_t *peer, const wire_hello_t *hello, mp_t raw);
//  An edge: asserts identities itself, sees every event, without credit.
bool guest_trusted (const peer_t *peer);
//  May it listen to audience "org:7"? Its own, or one of those granted.
bool guest_hears (const guest_t *self, text_t audience);
//  Its token, its session and our knowledge about both are good now. Anonymous guests always are.
bool guest_fresh (const guest_t *self);

//  ---- trust.c: what identity says about sessions, pushed and asked
trust_t *trust_new (door_t *door);
void trust_destroy (trust_t **self_p);
void trust_ready (trust_t *self);                  //  our bus client is connected (again)
void trust_event (trust_t *self, const wire_event_t *event);
void trust_tick (trust_t *self);
bool trust_fresh (const trust_t *self);            //  identity was heard within 30 s
void trust_heard (trust_t *self);
bool trust_revoked (const trust_t *self, const char *user, const char *jti, int64_t issued);
//  Learn what `guest` may listen to; replay.c goes on when it is known.
void trust_grants (trust_t *self, guest_t *guest);

//  ---- gateway.c: calls of guests
void gateway_call (peer_t *peer, const wire_call_t *call);
void gateway_chunk (peer_t *peer, const wire_chunk_t *chunk);
void gateway_credit (peer_t *peer, const wire_credit_t *credit);
void gateway_cancel (peer_t *peer, uint64_t id);
void gateway_left (guest_t *guest);

//  ---- replay.c: events for guests, under credit, without holes
void replay_subscribe (peer_t *peer, const wire_subscribe_t *msg);
void replay_event (peer_t *peer, listener_t *listener, const wire_event_t *event);
void replay_end (peer_t *peer, listener_t *listener);
void replay_credit (peer_t *peer, uint64_t count);
//  Audiences changed: subscriptions that wait for them go on, those without permission end.
void replay_allowed (guest_t *guest);
//  Listeners that have something to catch up with try again.
void replay_tick (guest_t *guest);

#endif
