//  probe.c -- blocking on purpose: it runs in a fork of the supervisor.

#include <errno.h>
#include <netdb.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "busbar.h"
#include "probe.h"

#define EAGER_ROUNDS 100                 //  of 20 ms; then it takes longer, and we ask less often
#define COMPLAIN_EVERY 100

static const char *
s_reachable_host (const char *host)
{
    return strcmp (host, "0.0.0.0") == 0 ? "127.0.0.1" : strcmp (host, "::") == 0 ? "::1" : host;
}

static struct addrinfo *
s_resolve (const char *host, int port, int flags)
{
    char service [16];
    snprintf (service, sizeof service, "%d", port);
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = flags }, *found = NULL;
    return getaddrinfo (host, service, &hints, &found) == 0 ? found : NULL;
}

static int
s_connect (const probe_t *probe)
{
    struct addrinfo *address = s_resolve (s_reachable_host (probe->host), probe->port, 0);
    if (!address)
        return -1;
    int fd = socket (address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval limit = { 3, 0 };
    setsockopt (fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt (fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect (fd, address->ai_addr, address->ai_addrlen) != 0) {
        close (fd);
        fd = -1;
    }
    freeaddrinfo (address);
    return fd;
}

//  It is our own server whose health we ask, so its certificate is not what matters here.
static ssize_t
s_exchange_tls (int fd, const char *question, char *answer, size_t size)
{
    SSL_CTX *context = SSL_CTX_new (TLS_client_method ());
    SSL *ssl = context ? SSL_new (context) : NULL;
    ssize_t got = -1;
    if (ssl && SSL_set_fd (ssl, fd) == 1 && SSL_connect (ssl) == 1
        && SSL_write (ssl, question, (int) strlen (question)) > 0)
        got = SSL_read (ssl, answer, (int) size);
    SSL_free (ssl);
    SSL_CTX_free (context);
    return got;
}

//  The HTTP status of /health/ready, 0 when there is no answer.
static int
s_status (const probe_t *probe)
{
    static const char question [] =
        "GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    int fd = s_connect (probe);
    if (fd < 0)
        return 0;
    char answer [64] = "";
    ssize_t got = -1;
    if (probe->tls)
        got = s_exchange_tls (fd, question, answer, sizeof answer - 1);
    else if (send (fd, question, strlen (question), MSG_NOSIGNAL) > 0)
        got = recv (fd, answer, sizeof answer - 1, 0);
    close (fd);
    int status = 0;
    return got > 0 && sscanf (answer, "HTTP/1.%*d %d", &status) == 1 ? status : 0;
}

static bool
s_listens (const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf (address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool listens = connect (fd, (struct sockaddr *) &address, sizeof address) == 0;
    close (fd);
    return listens;
}

int
probe_wait (const probe_t *probe)
{
    const struct timespec eager = { 0, 20000000 }, patient = { 0, 100000000 };
    for (int round = 1; ; round++) {
        int status = probe->port ? s_status (probe) : s_listens (probe->path) ? 200 : 0;
        if (status == 200)
            return 0;
        if (round > EAGER_ROUNDS && round % COMPLAIN_EVERY == 0)
            log_warn ("not ready yet", "status", status ? log_num (status) : "no answer");
        nanosleep (round < EAGER_ROUNDS ? &eager : &patient, NULL);
    }
}

//  A listener on this address, or -1. Without SO_REUSEPORT: our edges share the port among
//  themselves, not with strangers.
static int
s_listen (const char *host, int port)
{
    struct addrinfo *address = s_resolve (host, port, AI_PASSIVE);
    if (!address) {
        errno = EADDRNOTAVAIL;
        return -1;
    }
    int fd = socket (address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    setsockopt (fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    bool good = bind (fd, address->ai_addr, address->ai_addrlen) == 0 && listen (fd, 1) == 0;
    int error = errno;
    freeaddrinfo (address);
    if (good)
        return fd;
    close (fd);
    errno = error;
    return -1;
}

bool
probe_is_free (int port)
{
    int fd = s_listen ("127.0.0.1", port);
    if (fd >= 0)
        close (fd);
    return fd >= 0;
}

bool
probe_free (const char *host, int *port)
{
    int fd = s_listen (host, *port);
    if (fd < 0)
        return complain (false, "cannot listen on %s port %d: %s", host, *port, strerror (errno));
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    char service [16] = "0";
    if (*port == 0 && getsockname (fd, (struct sockaddr *) &bound, &size) == 0
        && getnameinfo ((struct sockaddr *) &bound, size, NULL, 0, service, sizeof service,
                        NI_NUMERICSERV) == 0)
        *port = atoi (service);
    close (fd);
    return true;
}
