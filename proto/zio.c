//  zio.c -- drain a ZeroMQ socket whenever its descriptor, or a send of ours, may mean input.

#include <assert.h>
#include <stdlib.h>

#include "proto/text.h"
#include "proto/zio.h"

#define CALLS_MAX 64         //  per turn; then other descriptors get their share

struct zio {
    loop_t *loop;
    void *socket;
    zio_fn *fn;
    void *arg;
    watch_t *watch;
    ltimer_t *again;         //  the rest, in the next turn
    hook_t check;            //  after sends, which may swallow the signal of the descriptor
    int calls;               //  left in this turn
    unsigned busy;           //  calls of s_drain on the stack: fn may run a turn itself
    bool ended;              //  by fn
};

static bool
s_has_input (zio_t *self)
{
    int events = 0;
    size_t size = sizeof events;
    //  Only a terminated context fails here, and that has no input.
    return zmq_getsockopt (self->socket, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLIN);
}

static void
s_drain (zio_t *self)
{
    self->busy++;
    while (!self->ended && s_has_input (self)) {
        if (self->calls == 0) {
            ltimer_set (self->again, 0);
            break;
        }
        self->calls--;
        self->fn (self->arg);
    }
    if (--self->busy == 0 && self->ended)
        free (self);
}

static void
s_on_ready (void *arg, uint32_t events)
{
    (void) events;
    zio_t *self = arg;
    self->calls = CALLS_MAX;
    s_drain (self);
}

static void
s_on_again (void *arg)
{
    zio_t *self = arg;
    self->calls = CALLS_MAX;
    s_drain (self);
}

static void
s_on_check (void *arg)
{
    s_drain (arg);
}

zio_t *
zio_new (loop_t *loop, void *socket, zio_fn *fn, void *arg)
{
    zio_t *self = xcalloc (1, sizeof *self);
    *self = (zio_t) { .loop = loop, .socket = socket, .fn = fn, .arg = arg, .calls = CALLS_MAX };
    int fd;
    size_t size = sizeof fd;
    int rc = zmq_getsockopt (socket, ZMQ_FD, &fd, &size);
    assert (rc == 0);
    self->watch = loop_watch (loop, fd, EPOLLIN, s_on_ready, self);
    self->again = loop_timer (loop, s_on_again, self);
    self->check = (hook_t) { .fn = s_on_check, .arg = self };
    //  The signal of what came before us may be gone already.
    loop_at_end (loop, &self->check);
    return self;
}

void
zio_end (zio_t **self_p)
{
    zio_t *self = *self_p;
    if (!self)
        return;
    *self_p = NULL;
    watch_end (&self->watch);
    ltimer_end (&self->again);
    loop_forget (self->loop, &self->check);
    self->ended = true;
    if (!self->busy)
        free (self);
}

void
zio_sent (zio_t *self)
{
    loop_at_end (self->loop, &self->check);
}
