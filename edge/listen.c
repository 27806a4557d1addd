//  listen.c -- listeners of our own: libwebsockets 4.1 sets SO_REUSEPORT only with several threads,
//  and spins when descriptors run out.

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "edge/process.h"

#define ACCEPT_BATCH 64
#define FILES_LEFT 64                    //  kept free for sockets of the bus and files of the page

//  Bytes that may wait in the system for a client that doesn't read, of 4 MiB that it would take:
//  what waits here instead is the newest state. Accepted sockets inherit it.
#define UNSENT_MAX (128 * 1024)

typedef struct {
    edge_t *edge;
    int fd;
    bool admin;
    watch_t *watch;
} listener_t;

static listener_t s_listeners [2] = { { .fd = -1 }, { .fd = -1, .admin = true } };
static int s_spare = -1;                 //  given up for a moment to turn a connection away

static int
listener_bind (const char *host, int port)
{
    char service [16];
    snprintf (service, sizeof service, "%d", port);
    struct addrinfo hints = { .ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM };
    struct addrinfo *found = NULL;
    if (getaddrinfo (host, service, &hints, &found) != 0)
        return -1;
    int fd = -1;
    for (struct addrinfo *at = found; at && fd < 0; at = at->ai_next) {
        int one = 1, off = 0, unsent = UNSENT_MAX;
        fd = socket (at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
            continue;
        setsockopt (fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        setsockopt (fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
        setsockopt (fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
        if (at->ai_family == AF_INET6)
            setsockopt (fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
        if (bind (fd, at->ai_addr, at->ai_addrlen) != 0 || listen (fd, 1024) != 0) {
            close (fd);
            fd = -1;
        }
    }
    freeaddrinfo (found);
    return fd;
}

static void
conn_adopt (listener_t *self, int fd, const struct sockaddr *peer)
{
    edge_t *edge = self->edge;
    int one = 1;
    setsockopt (fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    conn_t *conn = conn_new (edge, fd, peer, self->admin);
    lws_adopt_desc_t info = {
        .vh = edge->vhost, .fd.sockfd = fd, .opaque = conn,
        .type = LWS_ADOPT_SOCKET | LWS_ADOPT_HTTP | (self->admin ? 0 : LWS_ADOPT_ALLOW_SSL) };
    //  A failure closes the descriptor and, when it came late, has freed the connection through
    //  WSI_DESTROY.
    if (lws_adopt_descriptor_vhost_via_info (&info)) {
        conn_watch_input (conn);
        service_begin (edge);
    }
    else if (edge->conns == conn)
        conn_free (conn);
}

//  Out of descriptors: take the connection with the spare one and close it, or the listener stays
//  readable.
static void
conn_turn_away (int listener)
{
    if (s_spare >= 0)
        close (s_spare);
    int fd = accept4 (listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close (fd);
    s_spare = open ("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void
listener_ready (void *arg, uint32_t events)
{
    (void) events;
    listener_t *self = arg;
    size_t most = (size_t) opt_int (self->edge->options, "max-files");
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        struct sockaddr_storage peer = { 0 };
        socklen_t size = sizeof peer;
        if (!self->watch)
            return;
        int fd = accept4 (self->fd, (struct sockaddr *) &peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE))
            conn_turn_away (self->fd);
        if (fd < 0)
            return;
        if (self->edge->conn_count + FILES_LEFT > most)
            close (fd);
        else
            conn_adopt (self, fd, (struct sockaddr *) &peer);
    }
}

static bool
listener_open (edge_t *edge, listener_t *self, const char *host, int64_t port)
{
    self->edge = edge;
    self->fd = listener_bind (host, (int) port);
    if (self->fd < 0) {
        log_error ("cannot listen", "host", host, "port", log_num (port), "why", strerror (errno));
        return false;
    }
    struct sockaddr_storage bound = { 0 };
    socklen_t size = sizeof bound;
    getsockname (self->fd, (struct sockaddr *) &bound, &size);
    int real = ntohs (bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *) &bound)->sin6_port
                      : ((struct sockaddr_in *) &bound)->sin_port);
    self->watch = loop_watch (edge->loop, self->fd, EPOLLIN, listener_ready, self);
    log_info (self->admin ? "admin listening" : "listening", "host", host, "port", log_num (real),
              "tls", edge->tls && !self->admin ? "true" : "false");
    return true;
}

bool
listeners_open (edge_t *edge)
{
    int64_t admin = opt_int (edge->options, "admin-port");
    s_spare = open ("/dev/null", O_RDONLY | O_CLOEXEC);
    return listener_open (edge, &s_listeners [0], opt_str (edge->options, "host"),
                          opt_int (edge->options, "port"))
        && (admin < 0 || listener_open (edge, &s_listeners [1], "127.0.0.1", admin));
}

void
listeners_close (edge_t *edge)
{
    (void) edge;
    for (size_t i = 0; i < 2; i++) {
        listener_t *self = &s_listeners [i];
        if (self->fd < 0)
            continue;
        watch_end (&self->watch);
        close (self->fd);
        self->fd = -1;
    }
    if (s_spare >= 0)
        close (s_spare);
    s_spare = -1;
}
