//  guest_kept.c -- sessions of guests between two statements.

#include <stdlib.h>
#include <string.h>

#include "db/guest_kept.h"
#include "proto/text.h"

#define KEPT_MAX 32          //  of all guests; PostgreSQL has other work, too
#define KEPT_OF_ONE 2
#define KEPT_FOR 10000       //  ms without a statement
#define AGE_MAX 120000       //  ms after which a session has remembered enough

typedef struct kept {
    struct kept *next;
    char *role, *key;
    guest_session_t session;
    watch_t *watch;
    ltimer_t *timer;
    bool clean;              //  DISCARD ALL has been answered
} kept_t;

static kept_t *s_first;

void
guest_session_end (guest_session_t *session)
{
    PQfinish (session->pg);
    session->pg = NULL;
    sluice_destroy (&session->sluice);
}

//  Out of the list; its session, too, unless the caller has taken that.
static void
s_end (kept_t *self)
{
    kept_t **at = &s_first;
    while (*at != self)
        at = &(*at)->next;
    *at = self->next;
    watch_end (&self->watch);
    ltimer_end (&self->timer);
    guest_session_end (&self->session);
    free (self->role);
    free (self->key);
    free (self);
}

static void
s_expired (void *arg)
{
    s_end (arg);
}

//  The answer to DISCARD ALL; anything behind that is the end of the session.
static void
s_ready (void *arg, uint32_t events)
{
    kept_t *self = arg;
    PGconn *pg = self->session.pg;
    bool good = !self->clean && PQconsumeInput (pg);
    while (good && !PQisBusy (pg)) {
        PGresult *result = PQgetResult (pg);
        if (!result) {
            self->clean = true;
            ltimer_set (self->timer, KEPT_FOR);
            break;
        }
        good = PQresultStatus (result) == PGRES_COMMAND_OK;
        PQclear (result);
    }
    int rc = good && events & EPOLLOUT ? PQflush (pg) : 0;
    if (good && rc >= 0)
        watch_set (self->watch, rc ? EPOLLIN | EPOLLOUT : EPOLLIN);
    else
        s_end (self);
}

void
guest_kept_give (loop_t *loop, const char *role, const char *key, guest_session_t *session)
{
    size_t all = 0, same = 0;
    for (const kept_t *at = s_first; at; at = at->next) {
        all++;
        same += strcmp (at->role, role) == 0;
    }
    if (all >= KEPT_MAX || same >= KEPT_OF_ONE || loop_now (loop) - session->since >= AGE_MAX
        || !PQsendQuery (session->pg, "DISCARD ALL") || PQflush (session->pg) < 0) {
        guest_session_end (session);
        return;
    }
    kept_t *self = xcalloc (1, sizeof *self);
    *self = (kept_t) { .next = s_first, .role = xstrdup (role), .key = xstrdup (key),
                       .session = *session };
    *session = (guest_session_t) { 0 };
    s_first = self;
    self->watch = loop_watch (loop, PQsocket (self->session.pg), EPOLLIN | EPOLLOUT, s_ready, self);
    self->timer = loop_timer (loop, s_expired, self);
    ltimer_set (self->timer, KEPT_FOR);
}

bool
guest_kept_take (const char *role, const char *key, guest_session_t *session)
{
    kept_t *other = NULL;
    for (kept_t *at = s_first; at; at = at->next) {
        if (strcmp (at->role, role) != 0)
            continue;
        if (!at->clean)
            continue;
        if (strcmp (at->key, key) == 0) {
            *session = at->session;
            at->session = (guest_session_t) { 0 };
            s_end (at);
            return true;
        }
        other = at;
    }
    if (other)
        s_end (other);
    return false;
}

void
guest_kept_end (void)
{
    while (s_first)
        s_end (s_first);
}
