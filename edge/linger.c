//  linger.c -- the end of a connection that libwebsockets closes at once although the peer still
//  sends. Closing with unread input makes the kernel send RST, which overtakes our last answer: so
//  a second descriptor of the socket stays until the peer has seen the end.

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "edge/edge.h"

#define LINGER_MS 2000
#define LINGER_BYTES (1024 * 1024)
#define LINGERS_MAX 32                   //  beyond it peers may miss the answer

typedef struct parting parting_t;
struct parting {
    int fd;
    watch_t *watch;
    ltimer_t *timer;
    uint64_t bytes;
    parting_t *next, **link;
};

static parting_t *s_lingers;
static size_t s_count;

static void
linger_end (void *arg)
{
    parting_t *self = arg;
    watch_end (&self->watch);
    ltimer_end (&self->timer);
    close (self->fd);
    *self->link = self->next;
    if (self->next)
        self->next->link = self->link;
    s_count--;
    free (self);
}

bool
socket_drain (int fd, uint64_t *bytes, uint64_t most)
{
    static char s_sink [65536];
    ssize_t size;
    while ((size = recv (fd, s_sink, sizeof s_sink, MSG_DONTWAIT)) > 0) {
        *bytes += (uint64_t) size;
        if (*bytes > most)
            return false;
    }
    return size < 0 && (errno == EAGAIN || errno == EINTR);
}

static void
linger_ready (void *arg, uint32_t events)
{
    (void) events;
    parting_t *self = arg;
    if (!socket_drain (self->fd, &self->bytes, LINGER_BYTES))
        linger_end (self);
}

void
linger_take (edge_t *edge, int fd)
{
    int own = s_count < LINGERS_MAX ? fcntl (fd, F_DUPFD_CLOEXEC, 3) : -1;
    if (own < 0)
        return;
    parting_t *self = xcalloc (1, sizeof *self);
    self->fd = own;
    self->next = s_lingers;
    self->link = &s_lingers;
    if (self->next)
        self->next->link = &self->next;
    s_lingers = self;
    s_count++;
    self->watch = loop_watch (edge->loop, own, EPOLLIN, linger_ready, self);
    self->timer = loop_timer (edge->loop, linger_end, self);
    ltimer_set (self->timer, LINGER_MS);
    shutdown (own, SHUT_WR);
}

void
lingers_end (void)
{
    while (s_lingers)
        linger_end (s_lingers);
}
