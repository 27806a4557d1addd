//  sip.c -- between a server and libpq.

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sip.h"

#define SIP 65536            //  bytes at once

bool
sip_begin (sip_t *self, int fd)
{
    int pair [2], server = fcntl (fd, F_DUPFD_CLOEXEC, 0);
    if (server < 0)
        return false;
    if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) {
        close (server);
        return false;
    }
    dup3 (pair [0], fd, O_CLOEXEC);
    close (pair [0]);
    *self = (sip_t) { .server = server, .inner = pair [1], .outer = fd };
    return true;
}

//  As much as the other side takes at once: how many bytes, -1 when that failed. It is looked at
//  before it is taken, for there is nowhere to keep what is not.
static ssize_t
s_carry (int from, int to)
{
    char *data = xmalloc (SIP);
    ssize_t there = recv (from, data, SIP, MSG_DONTWAIT | MSG_PEEK), sent = 0;
    if (there == 0 || (there < 0 && errno != EAGAIN && errno != EINTR))
        shutdown (to, SHUT_WR);
    if (there > 0)
        sent = send (to, data, (size_t) there, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0)
        recv (from, data, (size_t) sent, MSG_DONTWAIT);
    free (data);
    return sent >= 0 ? sent : errno == EAGAIN || errno == EINTR ? 0 : -1;
}

int
sip_wait (sip_t *self, contact_t *contact, int64_t ms)
{
    struct pollfd fds [] = {
        { .fd = self->server, .events = (short) (POLLIN | (self->full ? POLLOUT : 0)) },
        { .fd = self->full ? -1 : self->inner, .events = POLLIN },
        { .fd = contact->cancelled ? -1 : contact->wake, .events = POLLIN },
        { .fd = self->outer, .events = POLLIN } };
    int count;
    while ((count = poll (fds, 4, (int) (ms > 0 ? ms : 0))) < 0 && errno == EINTR)
        ;
    if (count <= 0 || self->broken)
        return 0;
    if (fds [1].revents || fds [0].revents & POLLOUT) {
        ssize_t carried = s_carry (self->inner, self->server);
        self->broken = carried < 0;
        self->full = carried == 0;
    }
    //  libpq leaves some of it for the next time.
    if (fds [3].revents)
        return 1;
    if (fds [0].revents & ~POLLOUT) {
        ssize_t carried = s_carry (self->server, self->inner);
        self->arrived += carried > 0 ? (size_t) carried : 0;
    }
    return fds [0].revents || fds [1].revents ? 1 : -1;
}

void
sip_end (sip_t *self)
{
    s_carry (self->inner, self->server);
    close (self->server);
    close (self->inner);
}
