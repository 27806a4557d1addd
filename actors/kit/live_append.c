//  live_append.c -- events of loop code (kernel output, log lines): gathered while a commit is
//  under way, committed together, published in order. Batches are numbered, and a batch is only
//  taken behind its predecessor: one whose commit may or may not have happened is sent again.

#include <stdio.h>
#include <stdlib.h>

#include "kit.h"

#define BATCH_EVENTS 500
#define BATCH_BYTES (1024 * 1024)
#define QUEUE_BYTES (64 * 1024 * 1024)
#define AGAIN 200                    //  ms until an absent database is asked again

typedef struct event {
    struct event *next;
    void (*done) (void *arg, int64_t off);
    void *arg;
    claim_t *claim;                  //  that it is good under, or NULL
    live_event_t event;
    size_t size;
    char bytes [];                   //  what it points to
} event_t;

struct live_queue {
    kit_t *kit;
    event_t *first, **end;
    size_t bytes, in_flight;         //  events at the head that are being committed
    bool alone;                      //  a batch was refused: one by one until that many have passed
    size_t alone_left;
    char writer [37];                //  of this process: nobody else continues its numbers
    uint64_t kept;                   //  number of the last batch that is known to be committed
    size_t repeat;                   //  events of the batch whose end is unknown, 0: none
    bool taken;                      //  the batch under way: not committed already
    hook_t start;
    ltimer_t *again;
};

static void s_commit (void *arg);

live_queue_t *
live_queue_new (kit_t *kit)
{
    live_queue_t *self = xcalloc (1, sizeof *self);
    self->kit = kit;
    self->end = &self->first;
    uuid_make (self->writer);
    self->start = (hook_t) { .fn = s_commit, .arg = self };
    self->again = loop_timer (kit->actor->loop, s_commit, self);
    return self;
}

void
live_queue_destroy (live_queue_t **self_p)
{
    live_queue_t *self = *self_p;
    if (!self)
        return;
    *self_p = NULL;
    loop_forget (self->kit->actor->loop, &self->start);
    ltimer_end (&self->again);
    while (self->first) {
        event_t *next = self->first->next;
        claim_unref (&self->first->claim);
        free (self->first);
        self->first = next;
    }
    free (self);
}

bool
live_queue_idle (const live_queue_t *self)
{
    return !self->first;
}

//  Take the first event off and tell its owner: where it went, or -1.
static void
s_pop (live_queue_t *self, int64_t off)
{
    event_t *event = self->first;
    self->first = event->next;
    if (!self->first)
        self->end = &self->first;
    self->bytes -= event->size;
    claim_unref (&event->claim);
    if (event->done)
        event->done (event->arg, off);
    free (event);
}

static void
s_committed (live_queue_t *self, size_t count)
{
    self->kept++;
    self->repeat = 0;
    const event_t *event = self->first;
    for (size_t n = 0; self->taken && n < count; n++, event = event->next)
        live_tell (self->kit, &event->event);
    //  It was committed the first time: where its events went is told from the log.
    if (!self->taken)
        actor_spawn (self->kit->actor, live_repeat, NULL);
    for (size_t n = 0; n < count; n++)
        s_pop (self, self->taken ? self->first->event.off : -1);
}

static void
s_done (void *arg, db_result_t *results, size_t result_count)
{
    live_queue_t *self = arg;
    const db_result_t *result = &results [result_count - 1];
    size_t count = self->in_flight;
    self->in_flight = 0;
    if (self->alone && --self->alone_left == 0)
        self->alone = false;
    if (result->code == E_NONE)
        s_committed (self, count);
    else if (error_retry (result->code) && !claim_is_fence (result)) {
        if (result->unknown)
            self->repeat = count;
        ltimer_set (self->again, AGAIN);
        self->alone_left += self->alone;
        return;
    }
    else if (count > 1) {
        //  One of them is to blame: the others shall not suffer.
        self->alone = true;
        self->alone_left = count;
        self->repeat = 0;
    }
    else if (claim_is_fence (result)) {
        claim_fenced (self->kit, self->first->claim);
        self->repeat = 0;
        s_pop (self, -1);
    }
    else {
        log_error ("an event was not kept", "why", result->raw);
        self->repeat = 0;
        s_pop (self, -1);
    }
    if (self->first)
        loop_at_end (self->kit->actor->loop, &self->start);
}

//  The claims of a batch, each once.
static void
s_put_claim (const live_queue_t *self, const event_t *event, buf_t *claims)
{
    const event_t *at = self->first;
    while (at->claim != event->claim)
        at = at->next;
    if (!event->claim || at != event)
        return;
    buf_putc (claims, claims->size ? ',' : '[');
    claim_put (claims, event->claim);
}

//  Behind its predecessor, the batch is taken.
static db_verdict_t
s_before (void *arg, db_unit_t *unit, unsigned round, db_result_t *results, size_t count,
          error_code_t *code, const char **text)
{
    live_queue_t *self = arg;
    (void) unit;
    (void) round;
    (void) code;
    (void) text;
    self->taken = PQntuples (results [count - 1].result) > 0;
    event_t *event = self->first;
    for (size_t n = 0; self->taken && n < self->in_flight; n++, event = event->next)
        live_put (&event->event);
    return DB_COMMIT;
}

static void
s_commit (void *arg)
{
    live_queue_t *self = arg;
    if (self->in_flight || ltimer_active (self->again))
        return;
    while (!self->repeat && self->first && self->first->claim && !claim_good (self->first->claim))
        s_pop (self, -1);
    if (!self->first)
        return;
    size_t most = self->repeat ? self->repeat : self->alone ? 1 : BATCH_EVENTS, bytes = 0;
    buf_t claims = { 0 };
    for (const event_t *at = self->first;
         at && self->in_flight < most && (self->repeat || bytes < BATCH_BYTES); at = at->next) {
        self->in_flight++;
        bytes += at->size;
        s_put_claim (self, at, &claims);
    }
    char before [24], number [24];
    snprintf (before, sizeof before, "%llu", (unsigned long long) self->kept);
    snprintf (number, sizeof number, "%llu", (unsigned long long) self->kept + 1);
    const char *const params [] = { self->writer, before, number };
    db_unit_t *unit = db_unit_new (self->kit->actor->db);
    if (claims.size) {
        buf_put (&claims, "]", 2);
        const char *const check [] = { (const char *) claims.data, self->writer, number };
        db_unit_add (unit, "kit.claim_check_all", check, COUNT (check));
    }
    db_unit_add (unit, "kit.live_next", params, COUNT (params));
    db_unit_before_commit (unit, s_before, self);
    db_unit_commit (&unit, s_done, self);
    buf_free (&claims);
}

static text_t
s_keep (char **at, text_t text)
{
    text_t kept = { *at, text.size };
    if (!text.data)
        return text;
    *at = mempcpy (*at, text.data, text.size);
    return kept;
}

static event_t *
s_event (const char *channel, const char *key, const char *type, text_t data)
{
    buf_t json = { 0 };
    if (data.size)
        live_data (&json, data);
    text_t ch = text_of (channel), keys = text_of (key), types = text_of (type);
    size_t size = ch.size + keys.size + types.size + json.size;
    event_t *event = xmalloc (sizeof *event + size);
    *event = (event_t) { .size = size };
    char *at = event->bytes;
    event->event.ch = s_keep (&at, ch);
    event->event.key = s_keep (&at, keys);
    event->event.type = s_keep (&at, types);
    text_t kept = s_keep (&at, buf_text (&json));
    event->event.data = data.size ? mp_of (kept.data, kept.size) : mp_none;
    buf_free (&json);
    return event;
}

static void
s_append (actor_t *actor, claim_t *claim, const char *channel, const char *key, const char *type,
          text_t data, void (*done) (void *arg, int64_t off), void *arg)
{
    live_queue_t *self = actor->kit->appends;
    if (self->bytes > QUEUE_BYTES) {
        claim_unref (&claim);
        log_error ("event is dropped", "channel", channel, "why", "database is too slow");
        if (done)
            done (arg, -1);
        return;
    }
    event_t *event = s_event (channel, key, type, data);
    event->done = done;
    event->arg = arg;
    event->claim = claim;
    *self->end = event;
    self->end = &event->next;
    self->bytes += event->size;
    if (!self->in_flight)
        loop_at_end (actor->loop, &self->start);
}

void
live_append (struct actor *actor, const char *channel, const char *key, const char *type,
             text_t data, void (*done) (void *arg, int64_t off), void *arg)
{
    s_append (actor, NULL, channel, key, type, data, done, arg);
}

void
live_append_guarded (struct actor *actor, const char *key_of_claim, const char *channel,
                     const char *key, const char *type, text_t data,
                     void (*done) (void *arg, int64_t off), void *arg)
{
    claim_t *claim = claim_ref (actor->kit, key_of_claim);
    if (claim)
        s_append (actor, claim, channel, key, type, data, done, arg);
    else if (done)
        done (arg, -1);
}
