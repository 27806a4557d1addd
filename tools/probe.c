//  probe.c -- blocking on purpose: it runs in a fork of the supervisor.

#include <errno.h>
#include <netdb.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "busbar.h"
#include "probe.h"

#define EAGER_ROUNDS 100                 //  of 20 ms; then it takes longer, and we ask less often
#define COMPLAIN_EVERY 100
#define MISSING_ROUNDS 150               //  that the rest waits for an actor

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
static SSL *
s_secure (int fd, SSL_CTX **context)
{
    *context = SSL_CTX_new (TLS_client_method ());
    SSL *ssl = *context ? SSL_new (*context) : NULL;
    if (ssl && SSL_set_fd (ssl, fd) == 1 && SSL_connect (ssl) == 1)
        return ssl;
    SSL_free (ssl);
    return NULL;
}

//  Ask for a path. The answer as far as there is room, with NUL; empty when there is none.
static void
s_ask (const probe_t *probe, const char *path, char *answer, size_t room)
{
    char question [128];
    int size = snprintf (question, sizeof question, "GET %s HTTP/1.1\r\nHost: localhost\r\n"
                         "Connection: close\r\n\r\n", path);
    size_t filled = 0;
    int fd = s_connect (probe);
    SSL_CTX *context = NULL;
    SSL *ssl = fd >= 0 && probe->tls ? s_secure (fd, &context) : NULL;
    bool asked = fd >= 0 && (ssl ? SSL_write (ssl, question, size) > 0
                                 : !probe->tls && send (fd, question, (size_t) size,
                                                        MSG_NOSIGNAL) > 0);
    while (asked && filled + 1 < room) {
        ssize_t got = ssl ? SSL_read (ssl, answer + filled, (int) (room - filled - 1))
                          : recv (fd, answer + filled, room - filled - 1, 0);
        if (got <= 0)
            break;
        filled += (size_t) got;
    }
    answer [filled] = 0;
    SSL_free (ssl);
    SSL_CTX_free (context);
    if (fd >= 0)
        close (fd);
}

//  The HTTP status of /health/ready, 0 when there is no answer.
static int
s_status (const probe_t *probe)
{
    char answer [64];
    int status = 0;
    s_ask (probe, "/health/ready", answer, sizeof answer);
    return sscanf (answer, "HTTP/1.%*d %d", &status) == 1 ? status : 0;
}

//  The first of the actors that the edge has not heard of: it does not know their paths before.
static const char *
s_missing (const probe_t *probe)
{
    char answer [2048], word [128];
    if (!probe->port || !probe->actors)
        return NULL;
    s_ask (probe, "/health", answer, sizeof answer);
    for (char *const *actor = probe->actors; *actor; actor++) {
        snprintf (word, sizeof word, "\"%s\":\"healthy\"", *actor);
        if (!strstr (answer, word))
            return *actor;
    }
    return NULL;
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
    int waited = 0;
    for (int round = 1; ; round++) {
        int status = probe->port ? s_status (probe) : s_listens (probe->path) ? 200 : 0;
        const char *missing = status == 200 ? s_missing (probe) : NULL;
        if (status == 200 && !missing)
            return 0;
        if (missing && waited++ == MISSING_ROUNDS) {
            log_warn ("ready without an actor", "actor", missing);
            return 0;
        }
        if (!missing && round > EAGER_ROUNDS && round % COMPLAIN_EVERY == 0)
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
