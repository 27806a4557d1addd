//  limit.c -- token buckets per caller and class. The table is bounded: buckets that are full again
//  are forgotten.

#include <stdio.h>
#include <stdlib.h>

#include "edge/edge.h"

#define CLASSES 5                        //  those of routes, and LIMIT_ADDRESS
#define BUCKETS_MAX 100000
#define SWEEP_MS 10000
#define LIMIT_ADDRESS (LIMIT_HEAVY + 1)   //  sign-ins of one address, whatever the account
#define ADDRESS_TIMES 10

typedef struct {
    double tokens;
    int64_t at;                  //  loop_now of the last look
    route_limit_t limit;
} bucket_t;

struct limiter {
    edge_t *edge;
    struct {
        double per_ms, burst;    //  per_ms 0: no limit
    } classes [CLASSES];
    hash_t *buckets;
    ltimer_t *sweep;
};

static double
bucket_now (const limiter_t *self, const bucket_t *bucket, int64_t now)
{
    double tokens = bucket->tokens
        + (double) (now - bucket->at) * self->classes [bucket->limit].per_ms;
    double burst = self->classes [bucket->limit].burst;
    return tokens < burst ? tokens : burst;
}

static void
limiter_sweep (void *arg)
{
    limiter_t *self = arg;
    int64_t now = loop_now (self->edge->loop);
    text_t key;
    void *item;
    for (size_t at = 0; hash_each (self->buckets, &at, &key, &item);) {
        bucket_t *bucket = item;
        if (bucket_now (self, bucket, now) >= self->classes [bucket->limit].burst)
            hash_del (self->buckets, key);
    }
    ltimer_set (self->sweep, SWEEP_MS);
}

//  "2000/s", "10/m", "5/h", with an own burst behind a colon: "2000/s:4000"; "0" is no limit.
bool
limit_parse (const char *text, double *per_ms, double *burst)
{
    char *end;
    double count = strtod (text, &end);
    double window = end [0] != '/' ? 1000 : end [1] == 's' ? 1000 : end [1] == 'm' ? 60000
        : end [1] == 'h' ? 3600000 : 0;
    if (end == text || count < 0 || window <= 0)
        return false;
    const char *colon = strchr (text, ':');
    *per_ms = count / window;
    *burst = colon ? strtod (colon + 1, NULL) : count;
    return count <= 0 || *burst >= 1;
}

limiter_t *
limiter_new (edge_t *edge)
{
    static const char *const options [] = {
        "limit-normal", "limit-sign-in", "limit-mail", "limit-heavy"
    };
    limiter_t *self = xcalloc (1, sizeof *self);
    self->edge = edge;
    for (size_t i = 0; i < LIMIT_ADDRESS; i++) {
        const char *text = opt_str (edge->options, options [i]);
        if (!limit_parse (text, &self->classes [i].per_ms, &self->classes [i].burst)) {
            log_error ("option is not a rate like 10/m:20", "option", options [i], "value", text);
            exit (2);
        }
    }
    //  An office behind one address signs in more often than one account; so does a guesser.
    self->classes [LIMIT_ADDRESS].per_ms = self->classes [LIMIT_SIGN_IN].per_ms * ADDRESS_TIMES;
    self->classes [LIMIT_ADDRESS].burst = self->classes [LIMIT_SIGN_IN].burst * ADDRESS_TIMES;
    self->buckets = hash_new (free);
    self->sweep = loop_timer (edge->loop, limiter_sweep, self);
    ltimer_set (self->sweep, SWEEP_MS);
    return self;
}

void
limiter_destroy (limiter_t **self_p)
{
    limiter_t *self = *self_p;
    if (!self)
        return;
    ltimer_end (&self->sweep);
    hash_destroy (&self->buckets);
    free (self);
    *self_p = NULL;
}

bool
limiter_take (limiter_t *self, route_limit_t limit, const char *who, fault_t *fault)
{
    if (self->classes [limit].per_ms <= 0)
        return true;
    char name [160];
    int size = snprintf (name, sizeof name, "%d %s", (int) limit, who);
    if (size < 0)
        return true;
    text_t key = { name, (size_t) size < sizeof name ? (size_t) size : sizeof name - 1 };
    int64_t now = loop_now (self->edge->loop);
    bucket_t *bucket = hash_get (self->buckets, key);
    if (!bucket) {
        //  A flood of callers: the sweep makes room again, until then newcomers share what is free.
        if (hash_size (self->buckets) >= BUCKETS_MAX)
            limiter_sweep (self);
        bucket = xcalloc (1, sizeof *bucket);
        *bucket = (bucket_t) { self->classes [limit].burst, now, limit };
        hash_put (self->buckets, key, bucket);
    }
    bucket->tokens = bucket_now (self, bucket, now);
    bucket->at = now;
    if (bucket->tokens < 1) {
        double wait = (1 - bucket->tokens) / self->classes [limit].per_ms / 1000;
        fault_set (fault, E_RATE_LIMITED, "too many requests, try again in %u s",
                   (unsigned) wait + 1);
        fault->retry_after = (unsigned) wait + 1;
        return false;
    }
    bucket->tokens -= 1;
    return true;
}

//  What a sign-in is tried for, by the usual names.
static text_t
account_of (mp_t body)
{
    static const char *const names [] = { "email", "username", "identifier", "user" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        mp_t value = mp_get (body, names [i]);
        if (mp_type (value) == MP_TEXT)
            return mp_text (value);
    }
    return TEXT ("");
}

bool
limiter_take_for (limiter_t *self, route_limit_t limit, const char *user, const char *ip, mp_t body,
                  fault_t *fault)
{
    if (limit == LIMIT_MAIL)
        return limiter_take (self, limit, ip, fault);
    if (limit != LIMIT_SIGN_IN)
        return limiter_take (self, limit, user && *user ? user : ip, fault);
    text_t account = mp_type (body) == MP_MAP ? account_of (body) : TEXT ("");
    char who [160];
    snprintf (who, sizeof who, "%s %.*s", ip, account.size < 100 ? (int) account.size : 100,
              account.data);
    return limiter_take (self, LIMIT_ADDRESS, ip, fault)
        && limiter_take (self, limit, who, fault);
}
