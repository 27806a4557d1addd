//  relay.c -- answers a box that asks for a connection.

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "actors/kit/sandbox_argv.h"
#include "db/sql.h"
#include "relay.h"

//  The whole program.
SQL_FILE (relay_py, "actors/kernels/relay.py");

struct relay {
    int fd;
    watch_t *watch;
    struct sockaddr_un address;
};

typedef union {
    struct cmsghdr head;
    char room [CMSG_SPACE (sizeof (int))];
} control_t;

//  One byte, and a descriptor unless it is -1.
static bool
s_answer (int to, int fd)
{
    struct iovec byte = { "!", 1 };
    control_t control = { 0 };
    struct msghdr message = { .msg_iov = &byte, .msg_iovlen = 1 };
    if (fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control.room;
        control.head = (struct cmsghdr) { .cmsg_len = CMSG_LEN (sizeof fd),
                                          .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
        memcpy (CMSG_DATA (&control.head), &fd, sizeof fd);
    }
    return sendmsg (to, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
}

//  Where nobody listens, or too many wait already, there is none.
static int
s_connect (const relay_t *self)
{
    int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0
        && connect (fd, (const struct sockaddr *) &self->address, sizeof self->address) != 0) {
        close (fd);
        return -1;
    }
    return fd;
}

static void
s_on_ask (void *arg, uint32_t events)
{
    (void) events;
    relay_t *self = arg;
    char byte;
    ssize_t size = recv (self->fd, &byte, 1, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    int fd = size > 0 ? s_connect (self) : -1;
    //  A box that is gone, or does not take its answers, asks no more.
    if (size <= 0 || !s_answer (self->fd, fd))
        watch_end (&self->watch);
    if (fd >= 0)
        close (fd);
}

relay_t *
relay_new (loop_t *loop, const char *path, int *box)
{
    int ends [2];
    if (socketpair (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return NULL;
    relay_t *self = xcalloc (1, sizeof *self);
    self->fd = ends [0];
    self->address.sun_family = AF_UNIX;
    strncpy (self->address.sun_path, path, sizeof self->address.sun_path - 1);
    self->watch = loop_watch (loop, self->fd, EPOLLIN, s_on_ask, self);
    *box = ends [1];
    return self;
}

void
relay_destroy (relay_t **self_p)
{
    relay_t *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    watch_end (&self->watch);
    close (self->fd);
    free (self);
}

int
relay_program (void)
{
    return sandbox_file (text_of (relay_py));
}
