//  text.h -- a borrowed slice of bytes, and a growing buffer of our own.

#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

//  A view of bytes owned by somebody else; not terminated. Empty: size 0, data may be NULL.
typedef struct {
    const char *data;
    size_t size;
} text_t;

#define TEXT(literal) ((text_t) { (literal), sizeof (literal) - 1 })

static inline text_t
text_of (const char *string)
{
    return (text_t) { string, string ? strlen (string) : 0 };
}

static inline bool
text_eq (text_t a, text_t b)
{
    return a.size == b.size && (a.size == 0 || memcmp (a.data, b.data, a.size) == 0);
}

static inline bool
text_is (text_t a, const char *string)
{
    return text_eq (a, text_of (string));
}

static inline bool
text_starts (text_t a, const char *prefix)
{
    size_t size = strlen (prefix);
    return a.size >= size && memcmp (a.data, prefix, size) == 0;
}

//  Terminated copies, to be freed: of a slice, and of a formatted text.
char *text_copy (text_t a);
char *text_format (const char *format, ...) __attribute__ ((format (printf, 1, 2)));

//  64-bit hash of bytes (FNV-1a with a final mix): for tables and for rendezvous choice, so it is
//  part of the bus contract (PROTOCOL.md) and never changes.
uint64_t text_hash (text_t a);

//  Well-formed UTF-8 (no surrogates, no overlong forms)?
bool text_utf8 (text_t a);

//  Memory that is always there: these abort where malloc would give NULL.
void *xmalloc (size_t size);
void *xcalloc (size_t count, size_t size);         //  zeroed
void *xrealloc (void *memory, size_t size);
char *xstrdup (const char *string);                //  NULL gives NULL

//  A growing buffer. {0} is an empty one. Growth failure aborts: there is no useful way on.
typedef struct {
    uint8_t *data;
    size_t size, room;
} buf_t;

//  Make room for `more` bytes and return where they go; `size` is not changed.
uint8_t *buf_grow (buf_t *buf, size_t more);

static inline uint8_t *
buf_room (buf_t *buf, size_t more)
{
    return buf->data && buf->room - buf->size >= more ? buf->data + buf->size
                                                      : buf_grow (buf, more);
}

static inline void
buf_put (buf_t *buf, const void *data, size_t size)
{
    if (size) {
        memcpy (buf_room (buf, size), data, size);
        buf->size += size;
    }
}

static inline void
buf_putc (buf_t *buf, char byte)
{
    *buf_room (buf, 1) = (uint8_t) byte;
    buf->size++;
}

void buf_puts (buf_t *buf, const char *string);
void buf_putf (buf_t *buf, const char *format, ...) __attribute__ ((format (printf, 2, 3)));

//  Forget the contents, keep the memory (shrinks when it had grown beyond 256 KiB).
void buf_clear (buf_t *buf);
void buf_free (buf_t *buf);

static inline text_t
buf_text (const buf_t *buf)
{
    return (text_t) { (const char *) buf->data, buf->size };
}

#endif
