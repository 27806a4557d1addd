//  packet.c -- packets with descriptors between the actor and its spawner.

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "spawner.h"

typedef union {
    struct cmsghdr head;
    char room [CMSG_SPACE (sizeof (int) * SPAWNER_FDS)];
} control_t;

bool
packet_send (int fd, const packet_t *packet, const void *data, size_t size, const int *fds,
             size_t count)
{
    struct iovec parts [] = { { (void *) packet, sizeof *packet }, { (void *) data, size } };
    control_t control = { 0 };
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = size ? 2 : 1 };
    if (count) {
        message.msg_control = control.room;
        message.msg_controllen = CMSG_SPACE (sizeof (int) * count);
        struct cmsghdr *head = CMSG_FIRSTHDR (&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN (sizeof (int) * count);
        memcpy (CMSG_DATA (head), fds, sizeof (int) * count);
    }
    ssize_t sent;
    do
        sent = sendmsg (fd, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent >= 0;
}

ssize_t
packet_receive (int fd, packet_t *packet, void *data, size_t room, int fds [SPAWNER_FDS],
                size_t *count)
{
    struct iovec parts [] = { { packet, sizeof *packet }, { data, room } };
    control_t control = { 0 };
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2,
                              .msg_control = control.room, .msg_controllen = sizeof control };
    *count = 0;
    ssize_t got;
    do
        got = recvmsg (fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return errno == EAGAIN ? -1 : -2;
    if ((size_t) got < sizeof *packet)
        return -2;
    struct cmsghdr *head = CMSG_FIRSTHDR (&message);
    if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS) {
        *count = (head->cmsg_len - CMSG_LEN (0)) / sizeof (int);
        memcpy (fds, CMSG_DATA (head), *count * sizeof (int));
    }
    return got - (ssize_t) sizeof *packet;
}
