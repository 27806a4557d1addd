//  bus_call.c -- our calls: placed with an instance under its credit, known while in flight, sent again
//  when that is safe, and always answered exactly once.

#include <assert.h>
#include <stdlib.h>

#include "proto/bus_int.h"

#define ID_BITS 20
#define CALLS_MAX (1u << ID_BITS)
#define FRAME_KEEP 4096              //  memory an idle call may keep
#define TTL_DEFAULT 30000
#define LOOK_AHEAD 16                //  waiting calls looked at for one free credit

static const char s_no_instance [] = "no instance is running";
static const char s_busy [] = "too many calls wait";
static const char s_died [] = "the instance that had this call went away";
static const char s_late [] = "no answer in time";
static const char s_unknown [] = "no such method";
static const char s_large [] = "call is too large";
static const char s_stream [] = "answer is a stream, which this caller does not take";

//  ---------------------------------------------------------------- lists

static void
list_put (call_list_t *list, call_t *call)
{
    assert (!call->list);
    call->list = list;
    call->next = NULL;
    call->prev = list->last;
    if (list->last)
        list->last->next = call;
    else
        list->first = call;
    list->last = call;
}

static void
list_remove (call_t *call)
{
    call_list_t *list = call->list;
    if (call->prev)
        call->prev->next = call->next;
    else
        list->first = call->next;
    if (call->next)
        call->next->prev = call->prev;
    else
        list->last = call->prev;
    call->list = NULL;
}

//  ---------------------------------------------------------------- deadlines: a coarse wheel

static void
wheel_arm (bus_t *self, int64_t tick)
{
    calls_t *calls = &self->calls;
    if (ltimer_active (calls->wheel_timer) && calls->wheel_armed <= tick)
        return;
    calls->wheel_armed = tick;
    int64_t ms = tick * WHEEL_MS - bus_clock ();
    ltimer_set (calls->wheel_timer, ms > 0 ? ms : 0);
}

//  First tick after `at` on which this slot comes round.
static int64_t
wheel_visit (int64_t at, int slot)
{
    return at + 1 + ((slot - at - 1) & (WHEEL_SLOTS - 1));
}

static void
wheel_put (bus_t *self, call_t *call)
{
    calls_t *calls = &self->calls;
    if (calls->wheeled++ == 0)
        calls->wheel_at = bus_clock () / WHEEL_MS;
    int slot = (int) ((call->deadline / WHEEL_MS + 1) & (WHEEL_SLOTS - 1));
    call->wheel_slot = slot;
    call->wheel_prev = NULL;
    call->wheel_next = calls->wheel [slot];
    if (call->wheel_next)
        call->wheel_next->wheel_prev = call;
    calls->wheel [slot] = call;
    wheel_arm (self, wheel_visit (calls->wheel_at, slot));
}

static void
wheel_remove (bus_t *self, call_t *call)
{
    if (call->wheel_slot < 0)
        return;
    if (call->wheel_prev)
        call->wheel_prev->wheel_next = call->wheel_next;
    else
        self->calls.wheel [call->wheel_slot] = call->wheel_next;
    if (call->wheel_next)
        call->wheel_next->wheel_prev = call->wheel_prev;
    call->wheel_slot = -1;
    self->calls.wheeled--;
}

static void call_expired (bus_t *self, call_t *call);

static void
on_wheel (void *arg)
{
    bus_t *self = arg;
    calls_t *calls = &self->calls;
    int64_t now = bus_clock (), tick = now / WHEEL_MS;
    if (tick - calls->wheel_at > WHEEL_SLOTS)
        calls->wheel_at = tick - WHEEL_SLOTS;
    while (calls->wheel_at < tick) {
        calls->wheel_at++;
        call_t *call = calls->wheel [calls->wheel_at & (WHEEL_SLOTS - 1)];
        while (call) {
            call_t *next = call->wheel_next;
            if (call->deadline <= now)
                call_expired (self, call);
            call = next;
        }
    }
    for (int64_t at = tick + 1; calls->wheeled > 0 && at <= tick + WHEEL_SLOTS; at++)
        if (calls->wheel [at & (WHEEL_SLOTS - 1)]) {
            wheel_arm (self, at);
            break;
        }
}

//  ---------------------------------------------------------------- the table

void
calls_init (bus_t *self)
{
    calls_t *calls = &self->calls;
    calls->wheel_timer = loop_timer (self->loop, on_wheel, self);
    calls->random = (uint64_t) bus_clock () * 0x9e3779b97f4a7c15u
                    ^ text_hash (text_of (self->boot));
    //  Two incarnations, and the two directions of one connection, do not meet in their ids.
    calls->generation = (uint32_t) (text_hash (text_of (self->boot)) >> 33) | 1;
}

void
calls_free (bus_t *self)
{
    calls_t *calls = &self->calls;
    for (size_t i = 0; i < calls->count; i++) {
        buf_free (&calls->all [i]->frame);
        free (calls->all [i]->slot);
        free (calls->all [i]);
    }
    free (calls->all);
    ltimer_end (&calls->wheel_timer);
}

static call_t *
call_take (bus_t *self)
{
    calls_t *calls = &self->calls;
    call_t *call = calls->idle.first;
    if (call)
        list_remove (call);
    else {
        if (calls->count == CALLS_MAX)
            return NULL;
        if (calls->count == calls->room) {
            calls->room = calls->room ? calls->room * 2 : 64;
            calls->all = xrealloc (calls->all, calls->room * sizeof *calls->all);
        }
        call = xcalloc (1, sizeof *call);
        call->id = calls->count;
        calls->all [calls->count++] = call;
    }
    uint64_t index = call->id & (CALLS_MAX - 1);
    buf_t frame = call->frame;
    *call = (call_t) { .id = (uint64_t) calls->generation++ << ID_BITS | index,
                       .frame = frame, .wheel_slot = -1 };
    self->stats.in_flight++;
    return call;
}

static call_t *
call_find (bus_t *self, uint64_t id)
{
    size_t index = id & (CALLS_MAX - 1);
    if (index >= self->calls.count)
        return NULL;
    call_t *call = self->calls.all [index];
    return call->id == id && call->state != CALL_FREE ? call : NULL;
}

//  Out of whatever it is in; credit and load come back.
static void
call_detach (bus_t *self, call_t *call)
{
    if (call->state == CALL_FLYING) {
        instance_t *instance = call->instance;
        link_t *link = instance->endpoint [0] ? instance->link : self->broker;
        instance->in_flight--;
        if (link)
            link->in_flight--;
    }
    else if (call->state == CALL_WAITING)
        self->stats.waiting--;
    if (call->list)
        list_remove (call);
}

static void
call_release (bus_t *self, call_t *call)
{
    call_detach (self, call);
    wheel_remove (self, call);
    call->state = CALL_FREE;
    call->frame.size = 0;
    if (call->frame.room > FRAME_KEEP)
        buf_free (&call->frame);
    free (call->slot);
    call->slot = NULL;
    list_put (&self->calls.idle, call);
    self->stats.in_flight--;
}

static void
call_wait (bus_t *self, call_t *call, call_list_t *list)
{
    call->state = CALL_WAITING;
    call->fresh = false;
    self->stats.waiting++;
    list_put (list, call);
}

//  Told at the end of the turn, never from inside whatever found out.
static void
call_fail (bus_t *self, call_t *call, error_code_t error, const char *text)
{
    call_detach (self, call);
    wheel_remove (self, call);
    call->state = CALL_FAILED;
    call->error = error;
    call->text = text;
    list_put (&self->calls.failed, call);
    bus_wake (self);
}

static void
tell_failure (bus_t *self, call_t *call)
{
    buf_t *buf = &self->scratch;
    buf_clear (buf);
    mp_put_map (buf, 2);
    mp_pair_str (buf, "code", error_name (call->error));
    mp_pair_str (buf, "error", call->text);
    size_t body_size = buf->size;
    bool later = call->error == E_UNAVAILABLE;
    mp_put_map (buf, call->exposed + later);
    if (call->exposed)
        mp_pair_str (buf, "outcome", "unknown");
    if (later)
        mp_pair_int (buf, "retry_after", 1);
    bus_reply_t reply = {
        .status = (uint64_t) error_status (call->error),
        .body = mp_of (buf->data, body_size),
        .meta = mp_of (buf->data + body_size, buf->size - body_size)
    };
    bus_reply_fn *fn = call->on_reply;
    void *arg = call->arg;
    if (call->exposed && call->error == E_UNAVAILABLE)
        self->stats.unknown++;
    call_release (self, call);
    if (fn)
        fn (arg, &reply);
}

void
calls_failed (bus_t *self)
{
    while (self->calls.failed.first) {
        call_t *call = self->calls.failed.first;
        if (!call->streaming) {
            tell_failure (self, call);
            continue;
        }
        wire_chunk_t chunk = { .id = call->id, .last = true,
                               .error = text_of (error_name (call->error)) };
        bus_chunk_fn *fn = call->on_chunk;
        void *arg = call->arg;
        call_release (self, call);
        fn (arg, &chunk);
    }
}

//  ---------------------------------------------------------------- placing

//  The link to an instance, opened when first needed; NULL while it cannot be used.
static link_t *
instance_link (bus_t *self, instance_t *instance)
{
    if (instance->suspect_until)
        return NULL;
    if (!instance->endpoint [0])
        return self->broker_state >= BROKER_WELCOME ? self->broker : NULL;
    if (!instance->link) {
        instance->link = link_new (self, instance, instance->endpoint);
        if (!instance->link) {
            instance->suspect_until = bus_clock () + 1000;
            return NULL;
        }
        wire_hello_t hello = { .version = WIRE_VERSION, .role = TEXT ("caller"),
                               .name = text_of (self->conf.name), .boot = text_of (self->boot) };
        size_t mark = outbox_open (&instance->link->box);
        wire_pack_hello (&instance->link->box.frame, &hello);
        outbox_shut (&instance->link->box, mark);
    }
    return instance->link;
}

static bool
has_room (bus_t *self, instance_t *instance)
{
    link_t *link = instance_link (self, instance);
    return link && !instance->draining && link->in_flight < link->credit;
}

static void
credit_pack (link_t *link, uint64_t id, uint64_t count)
{
    wire_credit_t credit = { .id = id, .count = count };
    size_t mark = outbox_open (&link->box);
    wire_pack_credit (&link->box.frame, &credit);
    outbox_shut (&link->box, mark);
}

//  The caller made sure that there is room.
static void
call_send (bus_t *self, call_t *call, instance_t *instance)
{
    link_t *link = instance_link (self, instance);
    outbox_t *box = &link->box;
    size_t mark = outbox_open (box);
    if (call->fresh)
        buf_put (&box->frame, call->frame.data, call->frame.size);
    else {
        int64_t now = bus_clock ();
        wire_call_t msg;
        wire_unpack_call (mp_buf (&call->frame), &msg);
        msg.ttl = call->deadline > now ? (uint64_t) (call->deadline - now) : 1;
        wire_pack_call (&box->frame, &msg);
    }
    outbox_shut (box, mark);
    call->frame_no = box->opened;
    call->state = CALL_FLYING;
    call->instance = instance;
    list_put (&instance->flying, call);
    instance->in_flight++;
    link->in_flight++;
    if (call->granted > 0)
        credit_pack (link, call->id, call->granted);
}

static uint64_t
random_next (bus_t *self)
{
    uint64_t x = self->calls.random | 1;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return self->calls.random = x;
}

//  Two at random, the one with less of our own load; another only when neither has room.
static instance_t *
method_choose (bus_t *self, const method_t *method)
{
    size_t count = method->count;
    if (count == 0)
        return NULL;
    uint64_t random = random_next (self);
    size_t first = (random >> 8) % count;
    instance_t *a = method->live [first];
    if (count > 1) {
        instance_t *b = method->live [(first + 1 + (random >> 40) % (count - 1)) % count];
        bool a_room = has_room (self, a), b_room = has_room (self, b);
        if (b_room && (!a_room || b->in_flight < a->in_flight))
            return b;
        if (a_room)
            return a;
    }
    for (size_t i = 0; i < count; i++)
        if (has_room (self, method->live [(first + i) % count]))
            return method->live [(first + i) % count];
    return NULL;
}

//  To exactly this instance: now, or behind those that wait for it already.
static void
place_with (bus_t *self, call_t *call, instance_t *instance)
{
    if (!instance->waiting.first && has_room (self, instance))
        call_send (self, call, instance);
    else {
        call->instance = instance;
        call_wait (self, call, &instance->waiting);
    }
}

static void
call_place (bus_t *self, call_t *call, text_t name, text_t key)
{
    directory_t *dir = &self->dir;
    if (!dir->known) {
        call_wait (self, call, &self->calls.limbo);
        return;
    }
    if (call->slot) {
        instance_t *instance = hash_get (dir->slots, text_of (call->slot));
        if (instance && !instance->draining)
            place_with (self, call, instance);
        else
            call_fail (self, call, E_UNAVAILABLE, s_no_instance);
        return;
    }
    method_t *method = directory_method (self, name);
    if (!method) {
        call_fail (self, call, E_NOT_FOUND, s_unknown);
        return;
    }
    call->group = method->group;
    instance_t *instance = key.size > 0 ? group_owner (method->group, key)
                                        : method_choose (self, method);
    if (!instance)
        call_wait (self, call, &method->group->waiting);
    else if (key.size > 0)
        place_with (self, call, instance);
    else
        call_send (self, call, instance);
}

static void
list_empty_into (bus_t *self, call_list_t *from, call_list_t *to)
{
    while (from->first) {
        call_t *call = from->first;
        call_detach (self, call);
        call->instance = NULL;
        list_put (to, call);
    }
}

void
calls_rehome (bus_t *self)
{
    text_t key;
    void *item;
    if (self->stats.waiting == 0)
        return;
    call_list_t all = { 0 };
    list_empty_into (self, &self->calls.limbo, &all);
    for (size_t at = 0; hash_each (self->dir.groups, &at, &key, &item);)
        list_empty_into (self, &((group_t *) item)->waiting, &all);
    for (size_t at = 0; hash_each (self->dir.slots, &at, &key, &item);)
        list_empty_into (self, &((instance_t *) item)->waiting, &all);
    while (all.first) {
        call_t *call = all.first;
        wire_call_t msg;
        list_remove (call);
        call->state = CALL_FREE;
        wire_unpack_call (mp_buf (&call->frame), &msg);
        call_place (self, call, msg.method, msg.key);
    }
}

//  The next waiting call that this instance may take: its own, or any that its group has.
static call_t *
next_waiting (bus_t *self, instance_t *instance)
{
    call_t *own = instance->waiting.first, *any = instance->group->waiting.first;
    for (int i = 0; any && i < LOOK_AHEAD; i++, any = any->next) {
        wire_call_t msg;
        wire_unpack_call (mp_buf (&any->frame), &msg);
        const method_t *method = directory_method (self, msg.method);
        if (msg.key.size == 0 && method && instance_serves (instance, method))
            break;
    }
    if (!own || !any)
        return own ? own : any;
    return own->born <= any->born ? own : any;
}

static void
instance_pump (bus_t *self, instance_t *instance)
{
    call_t *call;
    while (has_room (self, instance) && (call = next_waiting (self, instance))) {
        call_detach (self, call);
        call_send (self, call, instance);
    }
}

void
calls_pump (bus_t *self, link_t *link)
{
    if (self->stats.waiting == 0)
        return;
    if (link->instance) {
        instance_pump (self, link->instance);
        return;
    }
    text_t key;
    void *item;
    for (size_t at = 0; hash_each (self->dir.slots, &at, &key, &item);)
        if (!((instance_t *) item)->endpoint [0])
            instance_pump (self, item);
}

//  ---------------------------------------------------------------- what may go wrong

//  The instance cannot answer any more. What never left us is simply placed again; what may have been
//  executed only when that is harmless.
void
calls_abandon (instance_t *instance)
{
    bus_t *self = instance->bus;
    const link_t *link = instance->endpoint [0] ? instance->link : self->broker;
    uint64_t taken = link ? link->box.taken : UINT64_MAX;
    call_t *next;
    for (call_t *call = instance->flying.first; call; call = next) {
        next = call->next;
        bool sent = call->frame_no < taken;
        call->exposed = call->exposed || sent;
        call->attempts += sent;
        bool again = !sent || (call->idempotent && call->attempts < BUS_ATTEMPTS && !call->slot);
        if (call->streaming || call->wanted > 0 || !again)
            call_fail (self, call, E_UNAVAILABLE, s_died);
        else {
            self->stats.resent += sent;
            call_detach (self, call);
            call->instance = NULL;
            call_wait (self, call, &self->calls.limbo);
        }
    }
    while (instance->waiting.first) {
        call_t *call = instance->waiting.first;
        call_detach (self, call);
        call->instance = NULL;
        call_wait (self, call, &self->calls.limbo);
    }
}

static void
cancel_pack (bus_t *self, const call_t *call)
{
    instance_t *instance = call->instance;
    link_t *link = instance->endpoint [0] ? instance->link : self->broker;
    if (!link || link->dead)
        return;
    wire_cancel_t cancel = { .id = call->id };
    size_t mark = outbox_open (&link->box);
    wire_pack_cancel (&link->box.frame, &cancel);
    outbox_shut (&link->box, mark);
}

static void
call_expired (bus_t *self, call_t *call)
{
    self->stats.timeouts++;
    if (call->state == CALL_FLYING) {
        cancel_pack (self, call);
        call->exposed = true;
        call_fail (self, call, E_TIMEOUT, s_late);
    }
    else
        call_fail (self, call, E_UNAVAILABLE, s_no_instance);
}

//  ---------------------------------------------------------------- answers

static call_t *
call_on_link (link_t *link, uint64_t id)
{
    bus_t *self = link->bus;
    call_t *call = call_find (self, id);
    if (!call || call->state != CALL_FLYING)
        return NULL;
    const instance_t *instance = call->instance;
    return (instance->endpoint [0] ? instance->link : self->broker) == link ? call : NULL;
}

void
call_replied (link_t *link, mp_t message)
{
    bus_t *self = link->bus;
    wire_reply_t msg;
    if (!wire_unpack_reply (message, &msg)) {
        self->stats.malformed++;
        return;
    }
    //  Answers to calls that timed out or were cancelled meet nobody.
    call_t *call = call_on_link (link, msg.id);
    if (!call || call->streaming)
        return;
    self->stats.replies++;
    call->instance->load = msg.load;
    bool stream = mp_bool (mp_get (msg.meta, "stream"));
    if (stream && !call->on_chunk) {
        cancel_pack (self, call);
        call_fail (self, call, E_INTERNAL, s_stream);
        return;
    }
    bus_reply_fn *fn = call->on_reply;
    void *arg = call->arg;
    if (stream) {
        call->streaming = true;
        wheel_remove (self, call);
    }
    else
        call_release (self, call);
    if (fn)
        fn (arg, &(bus_reply_t) { .status = msg.status, .body = msg.body, .meta = msg.meta });
}

bool
call_chunk (link_t *link, const wire_chunk_t *chunk)
{
    call_t *call = call_on_link (link, chunk->id);
    if (!call)
        return false;
    if (!call->streaming)
        return true;
    bus_chunk_fn *fn = call->on_chunk;
    void *arg = call->arg;
    if (chunk->last)
        call_release (link->bus, call);
    else if (call->granted > 0)
        call->granted--;
    fn (arg, chunk);
    return true;
}

bool
call_credit (link_t *link, const wire_credit_t *credit)
{
    call_t *call = call_on_link (link, credit->id);
    if (!call)
        return false;
    call->uploads += credit->count;
    call->wanted += credit->count;
    if (call->on_credit)
        call->on_credit (call->arg, credit->count);
    return true;
}

//  ---------------------------------------------------------------- for our caller

static bool
call_pack (call_t *call, const bus_call_t *from, uint64_t ttl)
{
    wire_call_t msg = {
        .id = call->id, .method = from->method, .key = from->key, .ttl = ttl,
        .trace = from->trace, .identity = from->identity, .params = from->params,
        .body = from->body, .meta = from->meta
    };
    wire_pack_call (&call->frame, &msg);
    return call->frame.size <= WIRE_FRAME_MAX;
}

uint64_t
bus_call (bus_t *self, const bus_call_t *from)
{
    call_t *call = call_take (self);
    assert (call);
    int64_t ttl = from->ttl > 0 ? from->ttl : TTL_DEFAULT;
    call->born = bus_clock ();
    call->fresh = true;
    call->deadline = call->born + ttl;
    call->idempotent = from->idempotent;
    call->slot = xstrdup (from->slot);
    call->on_reply = from->on_reply;
    call->on_chunk = from->on_chunk;
    call->on_credit = from->on_credit;
    call->arg = from->arg;
    self->stats.calls++;
    if (!call_pack (call, from, (uint64_t) ttl))
        call_fail (self, call, E_TOO_LARGE, s_large);
    else if (self->stats.waiting >= BUS_WAITING_MAX)
        call_fail (self, call, E_UNAVAILABLE, s_busy);
    else {
        wheel_put (self, call);
        call_place (self, call, from->method, from->key);
    }
    return call->id;
}

void
bus_cancel (bus_t *self, uint64_t id)
{
    call_t *call = call_find (self, id);
    if (!call)
        return;
    if (call->state == CALL_FLYING) {
        cancel_pack (self, call);
        bus_wake (self);
    }
    call_release (self, call);
}

void
bus_grant (bus_t *self, uint64_t id, uint64_t count)
{
    call_t *call = call_find (self, id);
    if (!call || count == 0)
        return;
    call->granted += count;
    if (call->state != CALL_FLYING)
        return;
    const instance_t *instance = call->instance;
    credit_pack (instance->endpoint [0] ? instance->link : self->broker, id, count);
}

bool
bus_upload (bus_t *self, uint64_t id, text_t data, bool last)
{
    call_t *call = call_find (self, id);
    if (!call || call->state != CALL_FLYING)
        return false;
    assert (data.size <= WIRE_CHUNK_MAX);
    bool free_of_charge = last && data.size == 0;
    assert (call->uploads > 0 || free_of_charge);
    call->uploads -= !free_of_charge;
    const instance_t *instance = call->instance;
    link_t *link = instance->endpoint [0] ? instance->link : self->broker;
    wire_chunk_t chunk = { .id = id, .data = data, .last = last };
    size_t mark = outbox_open (&link->box);
    wire_pack_chunk (&link->box.frame, &chunk);
    outbox_shut (&link->box, mark);
    return true;
}
