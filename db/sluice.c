//  sluice.c -- two flows between a server and one end of a pair.

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "db/sluice.h"
#include "proto/text.h"

typedef struct {
    int from, to;
    size_t size, sent;       //  read, and of that written
    bool ended;              //  nothing more comes, or nobody takes it
    char data [SLUICE_SIP];
} flow_t;

struct sluice {
    int server, inner;
    watch_t *server_watch, *inner_watch;
    flow_t down, up;         //  from the server; to it
};

//  After recv or send.
static bool
s_failed (ssize_t size)
{
    return size < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR;
}

static void
s_carry (flow_t *flow)
{
    if (flow->size == 0 && !flow->ended) {
        ssize_t size = recv (flow->from, flow->data, sizeof flow->data, MSG_DONTWAIT);
        flow->size = size > 0 ? (size_t) size : 0;
        if (size == 0 || s_failed (size)) {
            flow->ended = true;
            shutdown (flow->to, SHUT_WR);
        }
    }
    if (flow->size) {
        ssize_t size = send (flow->to, flow->data + flow->sent, flow->size - flow->sent,
                             MSG_DONTWAIT | MSG_NOSIGNAL);
        flow->sent += size > 0 ? (size_t) size : 0;
        flow->ended |= s_failed (size);
    }
    if (flow->sent == flow->size || flow->ended)
        flow->size = flow->sent = 0;
}

//  Who has hung up would be told of for ever.
static void
s_flow (sluice_t *self)
{
    s_carry (&self->down);
    s_carry (&self->up);
    if (self->down.ended)
        watch_end (&self->server_watch);
    if (self->server_watch)
        watch_set (self->server_watch,
                   (self->down.size ? 0 : EPOLLIN) | (self->up.size ? EPOLLOUT : 0));
    if (self->inner_watch)
        watch_set (self->inner_watch, (self->up.size || self->up.ended ? 0 : EPOLLIN)
                                          | (self->down.size ? EPOLLOUT : 0));
}

static void
s_on_server (void *arg, uint32_t events)
{
    (void) events;
    s_flow (arg);
}

static void
s_on_inner (void *arg, uint32_t events)
{
    sluice_t *self = arg;
    if (events & EPOLLHUP)
        watch_end (&self->inner_watch);
    s_flow (self);
}

sluice_t *
sluice_new (loop_t *loop, int fd)
{
    int pair [2], server = fcntl (fd, F_DUPFD_CLOEXEC, 0);
    if (server < 0)
        return NULL;
    if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) {
        close (server);
        return NULL;
    }
    dup3 (pair [0], fd, O_CLOEXEC);
    close (pair [0]);
    sluice_t *self = xmalloc (sizeof *self);
    self->server = server;
    self->inner = pair [1];
    self->down.from = self->up.to = server;
    self->down.to = self->up.from = self->inner;
    self->down.size = self->down.sent = self->up.size = self->up.sent = 0;
    self->down.ended = self->up.ended = false;
    self->server_watch = loop_watch (loop, self->server, EPOLLIN, s_on_server, self);
    self->inner_watch = loop_watch (loop, self->inner, EPOLLIN, s_on_inner, self);
    return self;
}

void
sluice_destroy (sluice_t **self_p)
{
    sluice_t *self = *self_p;
    if (!self)
        return;
    *self_p = NULL;
    watch_end (&self->server_watch);
    watch_end (&self->inner_watch);
    do
        s_carry (&self->up);
    while (self->up.size == 0 && !self->up.ended);
    close (self->server);
    close (self->inner);
    free (self);
}
