//  contact.c -- a connection to a data source: names resolved once and judged, the address pinned,
//  steps and what went wrong noted without secrets.

#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "actors/kit/guard.h"
#include "connector.h"

#define OPEN_MS 20000        //  to resolve, connect and log in
#define TRY_MS 5000          //  for one address
#define LISTED 7             //  columns of a list of columns
#define ROWS_ABOUT 3         //  the one of them that may be NULL

static const connector_t *const s_kinds [] = {
    &connector_postgresql, &connector_mysql, &connector_mariadb, &connector_sqlite, &connector_http,
    &connector_s3, &connector_trino };

const connector_t *
connector_find (const char *name)
{
    for (size_t n = 0; n < sizeof s_kinds / sizeof *s_kinds; n++)
        if (strcmp (s_kinds [n]->name, name) == 0)
            return s_kinds [n];
    return NULL;
}

static int64_t
s_microseconds (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

contact_t *
contact_new (const connector_t *kind, const char *const *config, const reach_t *reach, int64_t ms)
{
    contact_t *self = xcalloc (1, sizeof *self);
    self->kind = kind;
    self->reach = *reach;
    for (int n = 0; kind->fields [n].name; n++)
        self->config [n] = xstrdup (config [n]);
    self->deadline = s_microseconds () / 1000 + ms;
    self->wake = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->wake < 0)
        abort ();
    return self;
}

void
contact_destroy (contact_t **self_p)
{
    contact_t *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    if (self->handle)
        self->kind->close (self);
    close (self->wake);
    for (int n = 0; n < CONFIG_MAX; n++)
        if (self->config [n]) {
            explicit_bzero (self->config [n], strlen (self->config [n]));
            free (self->config [n]);
        }
    free (self);
}

void
contact_cancel (contact_t *self)
{
    uint64_t one = 1;
    self->cancelled = true;
    //  Full means that it was told before.
    if (write (self->wake, &one, sizeof one) < 0 && errno != EAGAIN)
        abort ();
}

int64_t
contact_left (const contact_t *self)
{
    int64_t left = self->deadline - s_microseconds () / 1000;
    return left > 0 && !self->cancelled ? left : 0;
}

int
contact_wait (contact_t *self, int fd, short events, int64_t ms)
{
    struct pollfd fds [] = { { .fd = fd, .events = events },
                             { .fd = self->cancelled ? -1 : self->wake, .events = POLLIN } };
    int count;
    while ((count = poll (fds, 2, (int) (ms > 0 ? ms : 0))) < 0 && errno == EINTR)
        ;
    if (count <= 0)
        return 0;
    return fds [0].revents ? fds [0].revents : -1;
}

bool
contact_stopped (contact_t *self)
{
    if (self->cancelled)
        return !contact_fail (self, "57014", "cancelled");
    if (contact_left (self) == 0)
        return !contact_fail (self, "57014", "took too long");
    return false;
}

//  ---------------------------------------------------------------- config

static int
s_position (const connector_t *kind, const char *name)
{
    for (int n = 0; kind->fields [n].name; n++)
        if (strcmp (kind->fields [n].name, name) == 0)
            return n;
    return -1;
}

const char *
contact_text (const contact_t *self, const char *name)
{
    int n = s_position (self->kind, name);
    return n < 0 ? NULL : self->config [n] ? self->config [n] : self->kind->fields [n].def;
}

//  ---------------------------------------------------------------- steps and errors

//  Whatever a server echoes: no secret in it, one line, no control characters.
static void
s_clean (const contact_t *self, char *text)
{
    for (int n = 0; self->kind->fields [n].name; n++) {
        const char *secret = self->config [n];
        if (!(self->kind->fields [n].flags & CONFIG_SECRET) || !secret || strlen (secret) < 3)
            continue;
        //  One of stars alone would be found for ever.
        for (char *at = text; (at = strstr (at, secret)); at += strlen (secret))
            memset (at, '*', strlen (secret));
    }
    size_t size = strlen (text);
    while (size && isspace ((unsigned char) text [size - 1]))
        text [--size] = 0;
    for (; *text; text++)
        if ((unsigned char) *text < ' ')
            *text = ' ';
}

//  The first `size - 1` bytes that are whole characters.
static void
s_cut (char *to, size_t size, const char *from)
{
    snprintf (to, size, "%s", from);
    size_t length = strlen (to);
    while (length && !text_utf8 ((text_t) { to, length }))
        to [--length] = 0;
}

void
contact_step_begin (contact_t *self)
{
    self->step_since = s_microseconds ();
}

static void
s_step (contact_t *self, const char *name, bool ok, const char *message)
{
    if (self->step_count == STEPS_MAX)
        return;
    step_t *step = &self->steps [self->step_count++];
    *step = (step_t) { .name = name, .ok = ok,
                       .ms = (double) (s_microseconds () - self->step_since) / 1000 };
    s_cut (step->message, sizeof step->message, message ? message : "");
    self->step_since = s_microseconds ();
}

void
contact_step_good (contact_t *self, const char *name, const char *message)
{
    s_step (self, name, true, message);
}

static void __attribute__ ((format (printf, 3, 0)))
s_error (contact_t *self, const char *code, const char *format, va_list args)
{
    char text [sizeof self->error];
    vsnprintf (text, sizeof text, format, args);
    s_clean (self, text);
    s_cut (self->error, sizeof self->error, text);
    snprintf (self->code, sizeof self->code, "%s", code ? code : "");
}

bool
contact_fail (contact_t *self, const char *code, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    s_error (self, code, format, args);
    va_end (args);
    return false;
}

bool
contact_step_bad (contact_t *self, const char *name, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    s_error (self, NULL, format, args);
    va_end (args);
    s_step (self, name, false, self->error);
    return false;
}

//  ---------------------------------------------------------------- where it is

static bool
s_try (contact_t *self, const struct addrinfo *at, char *why, size_t size)
{
    int fd = socket (at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), error = 0;
    socklen_t error_size = sizeof error;
    if (fd < 0)
        return false;
    if (connect (fd, at->ai_addr, at->ai_addrlen) != 0) {
        error = errno;
        if (error == EINPROGRESS) {
            int64_t left = contact_left (self);
            error = ETIMEDOUT;
            if (left && contact_wait (self, fd, POLLOUT, left < TRY_MS ? left : TRY_MS) > 0)
                getsockopt (fd, SOL_SOCKET, SO_ERROR, &error, &error_size);
        }
    }
    close (fd);
    if (error) {
        s_cut (why, size, strerror (error));
        *why = (char) tolower ((unsigned char) *why);
        return false;
    }
    getnameinfo (at->ai_addr, at->ai_addrlen, self->address, sizeof self->address, NULL, 0,
                 NI_NUMERICHOST);
    self->family = at->ai_family;
    return true;
}

//  The first address that is allowed and answers. From here on nobody asks for the name again.
static bool
s_connect (contact_t *self, const char *host, const struct addrinfo *found)
{
    bool listed = guard_listed (self->reach.allow, host, self->port), allowed = false;
    char why [120] = "no address";
    for (const struct addrinfo *at = found; at; at = at->ai_next) {
        if (!listed && !guard_allows (at->ai_addr))
            continue;
        allowed = true;
        if (s_try (self, at, why, sizeof why)) {
            contact_step_good (self, "connect", NULL);
            return true;
        }
    }
    if (!allowed)
        return contact_step_bad (self, "connect", "address is not allowed");
    return contact_step_bad (self, "connect", "could not connect: %s", why);
}

static bool
s_reach (contact_t *self)
{
    char host [256];
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV },
                    *found = NULL;
    if (self->kind->where) {
        if (!self->kind->where (self, host, sizeof host, self->port))
            return false;
    } else {
        snprintf (host, sizeof host, "%s", contact_text (self, "host"));
        snprintf (self->port, sizeof self->port, "%s", contact_text (self, "port"));
    }
    contact_step_begin (self);
    int code = getaddrinfo (host, self->port, &hints, &found);
    if (code != 0 || !found)
        return contact_step_bad (self, "resolve", "host cannot be resolved");
    contact_step_good (self, "resolve", NULL);
    bool good = s_connect (self, host, found);
    freeaddrinfo (found);
    return good;
}

bool
contact_open (contact_t *self)
{
    int64_t whole = self->deadline, now = s_microseconds () / 1000;
    //  Who does not even let us in is not waited for as long as a statement is.
    if (whole > now + OPEN_MS)
        self->deadline = now + OPEN_MS;
    //  A kind without host and port is a file.
    bool good = ((!self->kind->where && s_position (self->kind, "host") < 0) || s_reach (self))
                && self->kind->open (self);
    self->deadline = whole;
    return good;
}

bool
contact_query (contact_t *self, const char *sql, const cell_t *params, int count,
               const sink_t *sink)
{
    self->error [0] = self->code [0] = self->tag [0] = 0;
    self->position = 0;
    return self->kind->query (self, sql, params, count, sink);
}

//  ---------------------------------------------------------------- what is there

static bool
s_no_columns (void *arg, const column_t *columns, int count)
{
    (void) arg, (void) columns, (void) count;
    return true;
}

typedef struct {
    contact_t *contact;
    const finder_t *finder;
} list_t;

//  Kinds end each text with a NUL. A server that is none may answer what was never asked.
static bool
s_found (void *arg, const cell_t *cells, int count)
{
    const list_t *list = arg;
    const finder_t *finder = list->finder;
    bool whole = count >= LISTED;
    for (int n = 0; whole && n < LISTED; n++)
        whole = n == ROWS_ABOUT || cells [n].kind != CELL_NULL;
    if (!whole)
        return contact_fail (list->contact, "", "the server does not say what it holds");
    char nullable = *cells [6].text.data;
    return finder->column (
        finder->arg, cells [0].text.data, cells [1].text.data,
        strcmp (cells [2].text.data, "view") == 0 ? "view" : "table",
        cells [ROWS_ABOUT].kind == CELL_NULL ? -1 : atoll (cells [ROWS_ABOUT].text.data),
        cells [4].text.data, cells [5].text.data,
        nullable == 't' || nullable == 'Y' || nullable == '1');
}

bool
contact_list (contact_t *self, const char *sql, const finder_t *finder)
{
    list_t list = { self, finder };
    const sink_t sink = { s_no_columns, s_found, &list };
    return contact_query (self, sql, NULL, 0, &sink) && !*self->error;
}
