//  registry.h -- who serves what: slots, routes, channels, claims. Pure bookkeeping, no sockets.
//
//  The registry accepts or refuses announcements (HELLO of role "actor") and writes the DIRECTORY
//  that everybody follows. Refusals name both rows of a conflict.

#ifndef REGISTRY_H
#define REGISTRY_H

#include "proto/hash.h"
#include "proto/wire.h"

typedef struct registry registry_t;

//  One instance of an actor. Owned by the registry; gone after registry_remove.
typedef struct entry {
    char *name, *slot, *boot;
    char *endpoint;              //  empty: calls go through the broker's connection to it
    uint64_t credit, load, pid;
    bool outside;                //  announced at the door
    bool draining;               //  said GOODBYE: gets nothing new
    bool changed;                //  must appear in the next delta
    mp_t routes, channels, dependants;      //  views into `announced`
    buf_t announced;
    hash_t *claims;              //  routing keys that it owns; items are the entry itself
    void *peer;                  //  the connection that announced it
    uint64_t in_flight;          //  calls that we relayed to it and that wait for an answer
} entry_t;

typedef struct {
    const char *code;            //  "CONFLICT", "INVALID", "VERSION"
    char text [512];
} refusal_t;

registry_t *registry_new (void);
void registry_destroy (registry_t **self_p);

//  Take an announcement. A slot that exists is replaced when the name is the same (another boot is
//  another incarnation: the old one is reported gone). NULL: refused, `why` says it for people.
//  `prefixes` (NULL: any) are the only paths its routes may have, as a NULL-terminated list.
entry_t *registry_announce (registry_t *self, const wire_hello_t *hello, bool outside,
                            char *const *prefixes, void *peer, refusal_t *why);

entry_t *registry_slot (registry_t *self, text_t slot);       //  NULL when absent
void registry_drain (registry_t *self, entry_t *entry);
void registry_remove (registry_t *self, entry_t **entry_p);   //  everybody hears "gone"

//  Keys owned from now on (or free again); a key that a sister instance held moves.
void registry_claim (registry_t *self, entry_t *entry, mp_t keys, bool release);

//  Instances that serve a method: the returned array is valid until the registry changes.
entry_t **registry_method (registry_t *self, text_t method, size_t *count, mp_t *route);
//  Among those of them that are served through us (empty endpoint) the one for a key: who claimed
//  it, else the rendezvous choice; without key the one with the fewest calls in flight. NULL: none
//  is up, or who claimed the key is leaving.
entry_t *registry_choose (entry_t **entries, size_t count, text_t key);
//  Does this actor answer live.* for the collection of that channel?
bool registry_owns_channel (const entry_t *entry, text_t channel);

//  DIRECTORY messages. At the door every endpoint is empty, and claims, pids and what only
//  operators may call stay inside.
void registry_pack_whole (registry_t *self, bool door, buf_t *frame);
void registry_pack_changes (registry_t *self, bool door, buf_t *frame);
bool registry_changed (const registry_t *self);
void registry_settle (registry_t *self);           //  changes were sent to everybody
uint64_t registry_revision (const registry_t *self);
size_t registry_size (const registry_t *self);

//  Walk:  for (size_t at = 0; registry_each (self, &at, &entry);)
bool registry_each (registry_t *self, size_t *at, entry_t **entry);

#endif
