//  text.c -- hash and UTF-8 check of a slice, memory that is always there, the growing buffer.

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/text.h"

#define BUF_KEEP (256 * 1024)

uint64_t
text_hash (text_t a)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t n = 0; n < a.size; n++)
        hash = (hash ^ (uint8_t) a.data [n]) * 0x100000001b3u;
    hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccdu;
    hash = (hash ^ (hash >> 33)) * 0xc4ceb9fe1a85ec53u;
    return hash ^ (hash >> 33);
}

//  Size of the well-formed sequence at `at` (of at least one byte, the first >= 0x80), 0 if it is
//  not.
static size_t
s_utf8_sequence (const uint8_t *at, const uint8_t *end)
{
    static const uint8_t sizes [16] = { [0xc] = 2, [0xd] = 2, [0xe] = 3, [0xf] = 4 };
    size_t size = sizes [*at >> 4];
    if (size == 0 || (size_t) (end - at) < size)
        return 0;
    for (size_t n = 1; n < size; n++)
        if ((at [n] & 0xc0) != 0x80)
            return 0;
    //  Overlong forms, surrogates and what is beyond U+10FFFF show in the first two bytes.
    uint8_t first = at [0], second = at [1];
    if (first < 0xc2 || first > 0xf4 || (first == 0xe0 && second < 0xa0)
        || (first == 0xed && second > 0x9f) || (first == 0xf0 && second < 0x90)
        || (first == 0xf4 && second > 0x8f))
        return 0;
    return size;
}

bool
text_utf8 (text_t a)
{
    if (a.size == 0)
        return true;
    const uint8_t *at = (const uint8_t *) a.data, *end = at + a.size;
    while (at < end) {
        uint64_t word;
        while (end - at >= 8) {
            memcpy (&word, at, 8);
            if (word & 0x8080808080808080u)
                break;
            at += 8;
        }
        while (at < end && *at < 0x80)
            at++;
        while (at < end && *at >= 0x80) {
            size_t size = s_utf8_sequence (at, end);
            if (size == 0)
                return false;
            at += size;
        }
    }
    return true;
}

static void *
s_checked (void *memory)
{
    if (!memory) {
        fputs ("out of memory\n", stderr);
        abort ();
    }
    return memory;
}

void *
xmalloc (size_t size)
{
    return s_checked (malloc (size ? size : 1));
}

void *
xcalloc (size_t count, size_t size)
{
    return s_checked (calloc (count ? count : 1, size ? size : 1));
}

void *
xrealloc (void *memory, size_t size)
{
    return s_checked (realloc (memory, size ? size : 1));
}

char *
xstrdup (const char *string)
{
    return string ? s_checked (strdup (string)) : NULL;
}

uint8_t *
buf_grow (buf_t *buf, size_t more)
{
    if (more > SIZE_MAX / 4 - buf->size)
        s_checked (NULL);
    size_t room = buf->room ? buf->room * 2 : 64;
    if (room < buf->size + more)
        room = buf->size + more;
    buf->data = xrealloc (buf->data, room);
    buf->room = room;
    return buf->data + buf->size;
}

void
buf_puts (buf_t *buf, const char *string)
{
    buf_put (buf, string, strlen (string));
}

void
buf_putf (buf_t *buf, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    char *to = (char *) buf_room (buf, 64);
    int size = vsnprintf (to, buf->room - buf->size, format, args);
    va_end (args);
    if (size < 0)
        abort ();
    if ((size_t) size >= buf->room - buf->size) {
        to = (char *) buf_room (buf, (size_t) size + 1);
        va_start (args, format);
        vsnprintf (to, (size_t) size + 1, format, args);
        va_end (args);
    }
    buf->size += (size_t) size;
}

void
buf_clear (buf_t *buf)
{
    buf->size = 0;
    if (buf->room > BUF_KEEP)
        buf_free (buf);
}

void
buf_free (buf_t *buf)
{
    free (buf->data);
    *buf = (buf_t) { 0 };
}

char *
text_copy (text_t a)
{
    char *copy = xmalloc (a.size + 1);
    if (a.size)
        memcpy (copy, a.data, a.size);
    copy [a.size] = 0;
    return copy;
}

char *
text_format (const char *format, ...)
{
    char *out;
    va_list args;
    va_start (args, format);
    int size = vasprintf (&out, format, args);
    va_end (args);
    if (size < 0)
        abort ();
    return out;
}
