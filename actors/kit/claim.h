//  claim.h -- keys that one instance of an actor alone may write for: leases in the actor's schema.
//
//  The broker routes calls by claims, PostgreSQL fences by them: a unit that is guarded by a key
//  commits only while this process holds the claim. Should another instance have taken it (we were
//  believed dead), the unit fails with 503, nothing of it is kept, and the actor's `on_fenced`
//  hears of it once.

#ifndef CLAIM_H
#define CLAIM_H

#include "req.h"

//  Take the claim, or keep it. True when it was not ours: what a former holder began and did not
//  end is nobody's now.
CO bool claim_take (req_t *req, const char *key);
bool claim_held (const struct actor *actor, const char *key);
//  Others may have it.
CO void claim_release (req_t *req, const char *key);

//  The unit is good only under the claim of this key.
void unit_guard (unit_t *unit, const char *key);
//  It was refused because it was not ours any more.
bool claim_is_fence (const db_result_t *result);
//  The same for an event of loop code.
void live_append_guarded (struct actor *actor, const char *key_of_claim, const char *channel,
                          const char *key, const char *type, text_t data,
                          void (*done) (void *arg, int64_t off), void *arg);

#endif
