//  bus_wheel.c -- deadlines of calls in a coarse wheel: one timer, set for the next slot that holds
//  any.

#include "proto/bus_int.h"

static void
wheel_arm (bus_t *self, int64_t tick)
{
    calls_t *calls = &self->calls;
    if (ltimer_active (calls->wheel_timer) && calls->wheel_armed <= tick)
        return;
    calls->wheel_armed = tick;
    int64_t ms = tick * WHEEL_MS - clock_ms ();
    ltimer_set (calls->wheel_timer, ms > 0 ? ms : 0);
}

//  First tick after `at` on which this slot comes round.
static int64_t
wheel_visit (int64_t at, int slot)
{
    return at + 1 + ((slot - at - 1) & (WHEEL_SLOTS - 1));
}

void
wheel_put (bus_t *self, call_t *call)
{
    calls_t *calls = &self->calls;
    if (calls->wheeled++ == 0)
        calls->wheel_at = clock_ms () / WHEEL_MS;
    int slot = (int) ((call->deadline / WHEEL_MS + 1) & (WHEEL_SLOTS - 1));
    call->wheel_slot = slot;
    call->wheel_prev = NULL;
    call->wheel_next = calls->wheel [slot];
    if (call->wheel_next)
        call->wheel_next->wheel_prev = call;
    calls->wheel [slot] = call;
    wheel_arm (self, wheel_visit (calls->wheel_at, slot));
}

void
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

static void
on_time (void *arg)
{
    bus_t *self = arg;
    calls_t *calls = &self->calls;
    int64_t now = clock_ms (), tick = now / WHEEL_MS;
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

void
wheel_init (bus_t *self)
{
    self->calls.wheel_timer = loop_timer (self->loop, on_time, self);
}
