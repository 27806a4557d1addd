//  statement.c -- statements that live in this process, and who waits for them.

#include <stdio.h>
#include <stdlib.h>

#include "db/guest_kept.h"
#include "statement.h"

#define AT_ONCE 3            //  statements of one user; PostgreSQL lets a guest in eight times
#define RUNNING_MAX 64       //  of all users

struct statement_waiter {
    statement_waiter_t *next;
    statement_t *statement;  //  NULL: it is gone
    req_t *req;
};

static statement_t *s_statements;

statement_t *
statement_find (const char *user, const char *id)
{
    for (statement_t *self = s_statements; self; self = self->next)
        if (strcmp (self->id, id) == 0 && strcmp (self->user, user) == 0)
            return self;
    return NULL;
}

statement_t *
statement_like (const char *user, const char *likeness)
{
    for (statement_t *self = s_statements; self; self = self->next)
        if (self->likeness && !self->over && !self->cancelled && !self->fenced
            && strcmp (self->user, user) == 0 && strcmp (self->likeness, likeness) == 0)
            return self;
    return NULL;
}

size_t
statements_of (const char *user, bool running)
{
    size_t count = 0;
    for (statement_t *self = s_statements; self; self = self->next)
        count += (!user || strcmp (self->user, user) == 0) && !self->over
                 && (!running || self->running);
    return count;
}

bool
statement_has_place (const char *user)
{
    return statements_of (user, true) < AT_ONCE && statements_of (NULL, true) < RUNNING_MAX;
}

//  ---- life ----

statement_t *
statement_new (const char *user, const engine_t *engine, const char *source, const params_t *params)
{
    statement_t *self = xcalloc (1, sizeof *self);
    snprintf (self->user, sizeof self->user, "%s", user);
    self->engine = engine;
    self->source = xstrdup (source);
    self->sql = xstrdup (params->sql);
    self->params = xcalloc (params->count + 1, sizeof *self->params);
    self->param_count = params->count;
    for (size_t n = 0; n < params->count; n++)
        self->params [n] = (param_t) { params->list [n].type, xstrdup (params->list [n].text) };
    self->next = s_statements;
    s_statements = self;
    return self;
}

static void
s_free (statement_t *self)
{
    for (statement_t **at = &s_statements; *at; at = &(*at)->next)
        if (*at == self) {
            *at = self->next;
            break;
        }
    for (statement_waiter_t *at = self->waiters; at; at = at->next)
        at->statement = NULL;
    for (size_t n = 0; n < self->param_count; n++)
        free ((char *) self->params [n].text);
    free (self->params);
    free (self->sql);
    free (self->source);
    free (self->likeness);
    buf_free (&self->columns);
    buf_free (&self->pending);
    free (self);
}

void
statement_drop (statement_t **self_p)
{
    statement_t *self = *self_p;
    *self_p = NULL;
    char user [37];
    memcpy (user, self->user, sizeof user);
    s_free (self);
    statement_wake_queued (user);
}

bool
statement_start (actor_t *actor, statement_t *self)
{
    return actor_spawn (actor, statement_run, self);
}

//  The first that waits may have the place of one that ended.
void
statement_wake_queued (const char *user)
{
    for (statement_t *self = s_statements; self; self = self->next)
        if (!self->running && !self->over && self->runner
            && (!user || strcmp (self->user, user) == 0))
            req_wake (self->runner);
}

void
statement_free (statement_t *self)
{
    if (self->over && !self->waiters && !self->runner && !self->listener && !self->beginner)
        s_free (self);
}

void
statement_over (statement_t *self)
{
    self->over = true;
    self->running = false;
    for (statement_waiter_t *at = self->waiters; at; at = at->next)
        req_wake (at->req);
    if (self->listener)
        req_wake (self->listener);
    statement_wake_queued (NULL);
}

void
statement_cancel (statement_t *self)
{
    if (self->cancelled || self->over)
        return;
    self->cancelled = true;
    if (self->run) {
        self->run->cancelled = true;
        self->run->engine->cancel (self->run);
    }
    if (self->runner)
        req_wake (self->runner);
}

//  ---- waiting ----

static void
s_waiter_end (void *arg)
{
    statement_waiter_t *self = arg;
    statement_t *statement = self->statement;
    if (!statement)
        return;
    self->statement = NULL;
    for (statement_waiter_t **at = &statement->waiters; *at; at = &(*at)->next)
        if (*at == self) {
            *at = self->next;
            break;
        }
    statement_free (statement);
}

//  It stays until the request ends, so that its result can be looked at.
CO bool
statement_wait (req_t *req, statement_t *self, int64_t ms)
{
    int64_t until = loop_now (req_actor (req)->loop) + ms, left;
    statement_waiter_t *waiter = req_alloc (req, sizeof *waiter);
    *waiter = (statement_waiter_t) { self->waiters, self, req };
    self->waiters = waiter;
    req_defer (req, s_waiter_end, waiter);
    while (!self->over && (left = until - loop_now (req_actor (req)->loop)) > 0
           && !req_cancelled (req))
        req_sleep (req, left);
    return self->over;
}

const char *
statement_key (req_t *req, const char *user)
{
    return req_print (req, "user:%s", user);
}

//  ---- the life of the process ----

void
statements_drain (actor_t *actor)
{
    (void) actor;
    guest_kept_end ();
    for (statement_t *self = s_statements; self; self = self->next)
        if (!self->over && !self->cancelled) {
            self->aborted = true;
            statement_cancel (self);
        }
}

bool
statements_busy (void)
{
    return statements_of (NULL, false) > 0;
}

void
statements_fenced (const char *key)
{
    for (statement_t *self = s_statements; self; self = self->next)
        if (strncmp (key, "user:", 5) == 0 && strcmp (self->user, key + 5) == 0) {
            self->fenced = true;
            statement_cancel (self);
        }
}
