//  bus_call.c -- our calls: placed with an instance under its credit, known while in flight, sent
//  again when that is safe, and always answered exactly once.

#include <assert.h>
#include <stdlib.h>

#include "proto/bus_int.h"

#define ID_BITS 20
#define CALLS_MAX (1u << ID_BITS)
#define FRAME_KEEP 4096              //  memory an idle call may keep
#define TTL_DEFAULT 30000

//  ---------------------------------------------------------------- the table

void
calls_init (bus_t *self)
{
    calls_t *calls = &self->calls;
    wheel_init (self);
    calls->random = (uint64_t) clock_ms () * 0x9e3779b97f4a7c15u
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
        call_list_remove (call);
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
void
call_detach (bus_t *self, call_t *call)
{
    if (call->state == CALL_FLYING) {
        instance_t *instance = call->instance;
        link_t *link = instance_path (instance);
        instance->in_flight--;
        if (link)
            link->in_flight--;
    }
    else if (call->state == CALL_WAITING)
        self->stats.waiting--;
    if (call->list)
        call_list_remove (call);
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
    call_list_put (&self->calls.idle, call);
    self->stats.in_flight--;
}

void
call_wait (bus_t *self, call_t *call, call_list_t *list)
{
    call->state = CALL_WAITING;
    call->fresh = false;
    self->stats.waiting++;
    call_list_put (list, call);
}

//  Told at the end of the turn, never from inside whatever found out.
void
call_fail (bus_t *self, call_t *call, error_code_t error, const char *text)
{
    call_detach (self, call);
    wheel_remove (self, call);
    call->state = CALL_FAILED;
    call->error = error;
    call->text = text;
    call_list_put (&self->calls.failed, call);
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

//  ---------------------------------------------------------------- what may go wrong

void
cancel_pack (const call_t *call)
{
    link_t *link = instance_path (call->instance);
    if (!link || link->dead)
        return;
    wire_cancel_t cancel = { .id = call->id };
    size_t mark = outbox_open (&link->box);
    wire_pack_cancel (&link->box.frame, &cancel);
    outbox_shut (&link->box, mark);
}

void
call_expired (bus_t *self, call_t *call)
{
    self->stats.timeouts++;
    if (call->state == CALL_FLYING) {
        cancel_pack (call);
        call->exposed = true;
        call_fail (self, call, E_TIMEOUT, "no answer in time");
    }
    else
        call_fail (self, call, E_UNAVAILABLE, "no instance took the call in time");
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
    return instance_path (instance) == link ? call : NULL;
}

//  What the broker says of a relayed call whose actor died is what we see ourselves of a direct
//  one.
static bool
call_again (bus_t *self, call_t *call, const wire_reply_t *reply)
{
    if (!call->idempotent || call->slot || call->wanted > 0 || ++call->attempts >= BUS_ATTEMPTS
        || !text_is (mp_text (mp_get (reply->meta, "outcome")), "unknown"))
        return false;
    //  News of its death follow; until then nothing more goes there.
    call->instance->suspect_until = clock_ms () + BUS_SUSPECT;
    call->exposed = true;
    self->stats.resent++;
    call_detach (self, call);
    call->instance = NULL;
    call_wait (self, call, &self->calls.limbo);
    calls_rehome (self);
    return true;
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
    //  Behind the broker an actor died with this call.
    if (!link->instance && msg.status == 503 && call_again (self, call, &msg))
        return;
    self->stats.replies++;
    call->instance->load = msg.load;
    bool stream = mp_bool (mp_get (msg.meta, "stream"));
    if (stream && !call->on_chunk) {
        cancel_pack (call);
        call_fail (self, call, E_INTERNAL, "answer is a stream, which this caller does not take");
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
    //  A stream that broke is over, also when its sender forgot to say last.
    wire_chunk_t told = *chunk;
    told.last = chunk->last || chunk->error.size > 0;
    if (told.last)
        call_release (link->bus, call);
    else if (call->granted > 0)
        call->granted--;
    fn (arg, &told);
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
    call->born = clock_ms ();
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
        call_fail (self, call, E_TOO_LARGE, "call is too large");
    else if (self->stats.waiting >= BUS_WAITING_MAX)
        call_fail (self, call, E_UNAVAILABLE, "too many calls wait");
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
        cancel_pack (call);
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
    credit_pack (instance_path (instance), id, count);
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
    link_t *link = instance_path (instance);
    wire_chunk_t chunk = { .id = id, .data = data, .last = last };
    size_t mark = outbox_open (&link->box);
    wire_pack_chunk (&link->box.frame, &chunk);
    outbox_shut (&link->box, mark);
    return true;
}
