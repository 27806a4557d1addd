//  bus_place.c -- where a call goes: to an instance with credit, behind others, or on when that one
//  died.

#include <assert.h>

#include "proto/bus_int.h"

#define LOOK_AHEAD 16                //  waiting calls looked at for one free credit

void
call_list_put (call_list_t *list, call_t *call)
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

void
call_list_remove (call_t *call)
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
            instance->suspect_until = clock_ms () + BUS_SUSPECT;
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

void
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
        int64_t now = clock_ms ();
        wire_call_t msg;
        wire_unpack_call (mp_buf (&call->frame), &msg);
        msg.ttl = call->deadline > now ? (uint64_t) (call->deadline - now) : 1;
        wire_pack_call (&box->frame, &msg);
    }
    outbox_shut (box, mark);
    call->frame_no = box->opened;
    call->state = CALL_FLYING;
    call->instance = instance;
    call_list_put (&instance->flying, call);
    instance->in_flight++;
    link->in_flight++;
    if (call->granted > 0)
        credit_pack (link, call->id, call->granted);
    outbox_hurry (box);
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

void
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
            call_fail (self, call, E_UNAVAILABLE, "that instance is not running");
        return;
    }
    method_t *method = directory_method (self, name);
    if (!method) {
        call_fail (self, call, E_NOT_FOUND, "no such method");
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
        call_list_put (to, call);
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
        call_list_remove (call);
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

//  The instance cannot answer any more. What never left us is simply placed again; what may have
//  been executed only when that is harmless.
void
calls_abandon (instance_t *instance)
{
    bus_t *self = instance->bus;
    const link_t *link = instance_path (instance);
    uint64_t taken = link ? link->box.taken : UINT64_MAX;
    call_t *next;
    for (call_t *call = instance->flying.first; call; call = next) {
        next = call->next;
        bool sent = call->frame_no < taken;
        call->exposed = call->exposed || sent;
        call->attempts += sent;
        bool again = !sent || (call->idempotent && call->attempts < BUS_ATTEMPTS && !call->slot);
        if (call->streaming || call->wanted > 0 || !again)
            call_fail (self, call, E_UNAVAILABLE, "the instance that had this call went away");
        else {
            self->stats.resent += sent;
            //  The broker chose for itself: it may still have this id with another instance.
            if (!instance->endpoint [0])
                cancel_pack (call);
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
