//  guest_kept.h -- sessions of guests that have ended a statement in good order, kept for some
//  seconds for the next one: logging in costs many times what a small statement does.
//
//  A session is only ever given to the guest who logged in, with the same settings. Between two
//  statements DISCARD ALL takes away what the first one left: settings, prepared statements,
//  cursors, temporary tables, locks, LISTEN.

#ifndef GUEST_KEPT_H
#define GUEST_KEPT_H

#include <libpq-fe.h>

#include "db/sluice.h"

typedef struct {
    PGconn *pg;                  //  NULL: none
    sluice_t *sluice;
    int64_t since;               //  when it logged in, on the loop's clock
} guest_session_t;

void guest_session_end (guest_session_t *session);

//  One that waits under this key, which names server, guest and settings; the caller's from now on.
//  False: there is none; then another one of this guest ends, so that PostgreSQL, which counts the
//  connections of a guest, lets in who asks.
bool guest_kept_take (const char *role, const char *key, guest_session_t *session);
//  Keep it; taken, and ended when there is no room. It is idle, outside of a transaction, and
//  nobody watches it.
void guest_kept_give (loop_t *loop, const char *role, const char *key, guest_session_t *session);
//  All of them end, before their loop does.
void guest_kept_end (void);

#endif
