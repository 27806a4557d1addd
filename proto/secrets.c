//  secrets.c -- one locked region holds the lines; names and values are terminated in place.

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/secrets.h"
#include "proto/text.h"

#define ROOM (64 * 1024)

static char *s_region;       //  lines, each terminated, behind them an empty one
static size_t s_used;

static void
s_wipe (void)
{
    if (s_region)
        explicit_bzero (s_region, ROOM);
    s_used = 0;
}

//  Locking and keeping out of dumps may be refused (limits of a container): plain memory then.
static void
s_prepare (void)
{
    if (s_region) {
        s_wipe ();
        return;
    }
    void *region
        = mmap (NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (region == MAP_FAILED)
        abort ();
    (void) mlock (region, ROOM);
    (void) madvise (region, ROOM, MADV_DONTDUMP);
    s_region = region;
    atexit (s_wipe);
}

void
secrets_read (int fd)
{
    s_prepare ();
    if (fd < 0)
        return;
    //  Two bytes stay zero behind the last line.
    while (s_used < ROOM - 2) {
        ssize_t size = read (fd, s_region + s_used, ROOM - 2 - s_used);
        if (size < 0 && errno == EINTR)
            continue;
        if (size <= 0)
            break;
        s_used += (size_t) size;
    }
    close (fd);
    for (size_t n = 0; n < s_used; n++)
        if (s_region [n] == '\n' || s_region [n] == '\r')
            s_region [n] = 0;
}

static const char *
s_find (const char *name)
{
    size_t size = strlen (name);
    for (size_t at = 0; at < s_used; at += strlen (s_region + at) + 1) {
        const char *line = s_region + at;
        if (strncmp (line, name, size) == 0 && line [size] == '=')
            return line + size + 1;
    }
    return NULL;
}

static const char *
s_environment (const char *name)
{
    char upper [64];
    size_t size = strlen (name);
    if (size >= sizeof upper)
        return NULL;
    for (size_t n = 0; n <= size; n++)
        upper [n] = (char) toupper ((unsigned char) name [n]);
    return getenv (upper);
}

const char *
secrets_get (const char *name)
{
    const char *value = s_find (name);
    if (!value)
        value = s_environment (name);
    if (!value && strcmp (name, "jwt_secret") == 0) {
        value = getenv ("JWT_SECRET_KEY");
        if (!value)
            value = getenv ("SECRET_KEY");
    }
    return value && *value ? value : NULL;
}
