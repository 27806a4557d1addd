//  rules.c -- what a request's headers must look like; no sockets here, so that tests can ask
//  everything.

#include <stdlib.h>
#include <strings.h>

#include "edge/edge.h"

void
put_number (buf_t *out, uint64_t value)
{
    char digits [20];
    size_t at = sizeof digits;
    do
        digits [--at] = (char) ('0' + value % 10);
    while (value /= 10);
    buf_put (out, digits + at, sizeof digits - at);
}

void
put_hex (char *out, uint64_t value, size_t digits)
{
    for (size_t i = digits; i-- > 0; value >>= 4)
        out [i] = "0123456789abcdef" [value & 15];
}

//  At most 19 of them: they always fit.
static bool
digits_read (text_t text, size_t most, uint64_t *out)
{
    if (text.size == 0 || text.size > most)
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data [i] < '0' || text.data [i] > '9')
            return false;
        value = value * 10 + (uint64_t) (text.data [i] - '0');
    }
    *out = value;
    return true;
}

bool
length_parse (text_t text, uint64_t *out)
{
    return digits_read (text, 10, out);
}

bool
offset_read (text_t text, uint64_t *off)
{
    uint64_t value;
    if (!digits_read (text, 19, &value) || value > INT64_MAX)
        return false;
    *off = value;
    return true;
}

//  What comes before the byte; the rest goes on behind it.
static text_t
text_upto (text_t *rest, char byte)
{
    const char *end = rest->size ? memchr (rest->data, byte, rest->size) : NULL;
    text_t part = { rest->data, end ? (size_t) (end - rest->data) : rest->size };
    size_t step = part.size + (end != NULL);
    *rest = (text_t) { rest->data + step, rest->size - step };
    return part;
}

bool
cursor_find (text_t cursor, unsigned index, text_t *epoch, uint64_t *off)
{
    while (cursor.size) {
        text_t part = text_upto (&cursor, ';');
        uint64_t number;
        if (!offset_read (text_upto (&part, ':'), &number) || number != index)
            continue;
        text_t name = text_upto (&part, ':');
        if (name.size == 0 || name.size > 63 || !offset_read (part, off))
            return false;
        *epoch = name;
        return true;
    }
    return false;
}

//  Does `list` start with this media type, whatever parameters follow?
static bool
media_is (const char *type, const char *want)
{
    size_t size = strlen (want);
    if (strncasecmp (type, want, size) != 0)
        return false;
    return type [size] == 0 || type [size] == ';' || type [size] == ' ' || type [size] == '\t';
}

body_kind_t
body_kind_of (const char *content_type)
{
    if (!*content_type || media_is (content_type, "application/json")
        || media_is (content_type, "text/json"))
        return BODY_JSON;
    if (media_is (content_type, "application/x-www-form-urlencoded"))
        return BODY_FORM;
    if (media_is (content_type, "multipart/form-data"))
        return BODY_MULTIPART;
    //  application/merge-patch+json and its relatives
    size_t size = strcspn (content_type, "; \t");
    if (size > 5 && strncasecmp (content_type + size - 5, "+json", 5) == 0)
        return BODY_JSON;
    return BODY_NONE;
}

bool
boundary_parse (const char *content_type, char *out, size_t room)
{
    const char *at = strcasestr (content_type, "boundary=");
    if (!at)
        return false;
    at += 9;
    size_t size;
    if (*at == '"') {
        at++;
        size = strcspn (at, "\"");
        if (at [size] != '"')
            return false;
    }
    else
        size = strcspn (at, "; \t");
    //  RFC 2046: at most 70 characters
    if (size == 0 || size > 70 || size >= room)
        return false;
    memcpy (out, at, size);
    out [size] = 0;
    return true;
}

bool
accepts_gzip (const char *list)
{
    for (const char *at = list; *at;) {
        at += strspn (at, ", \t");
        size_t size = strcspn (at, ",");
        if (strncasecmp (at, "gzip", 4) == 0
            && (at [4] == 0 || at [4] == ',' || at [4] == ';' || at [4] == ' ')) {
            const char *q = memmem (at, size, "q=", 2);
            return !q || strtod (q + 2, NULL) > 0;
        }
        at += size;
    }
    return false;
}

bool
accepts_html (const char *accept)
{
    const char *html = strcasestr (accept, "text/html");
    const char *json = strcasestr (accept, "application/json");
    return html && (!json || html < json);
}

//  The tag without W/ in front.
static text_t
etag_core (text_t tag)
{
    if (tag.size > 2 && memcmp (tag.data, "W/", 2) == 0)
        return (text_t) { tag.data + 2, tag.size - 2 };
    return tag;
}

bool
etag_matches (const char *list, text_t etag)
{
    text_t want = etag_core (etag);
    for (const char *at = list; *at;) {
        at += strspn (at, ", \t");
        if (*at == '*')
            return true;
        size_t size = strcspn (at, ",");
        text_t tag = { at, size };
        while (tag.size && (tag.data [tag.size - 1] == ' ' || tag.data [tag.size - 1] == '\t'))
            tag.size--;
        if (want.size && text_eq (etag_core (tag), want))
            return true;
        at += size;
    }
    return false;
}

bool
trace_valid (const char *trace)
{
    static const char shape [] = "00-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";
    if (strlen (trace) != sizeof shape - 1)
        return false;
    bool id = false, parent = false;
    for (size_t i = 0; i < sizeof shape - 1; i++) {
        if (shape [i] != 'x') {
            if (trace [i] != shape [i])
                return false;
            continue;
        }
        if (!strchr ("0123456789abcdef", trace [i]))
            return false;
        if (trace [i] != '0' && i < 52)
            *(i < 35 ? &id : &parent) = true;
    }
    return id && parent;
}

bool
request_id_valid (const char *id)
{
    size_t size = strlen (id);
    if (size == 0 || size > 39)
        return false;
    for (size_t i = 0; i < size; i++)
        if (id [i] <= ' ' || id [i] > '~' || strchr ("\"\\,;<>", id [i]))
            return false;
    return true;
}

//  UTF-8 by the bus's own scan, so that nothing the edge lets in is refused as a frame later.
static bool
text_valid (text_t text)
{
    static buf_t s_scratch;
    buf_clear (&s_scratch);
    mp_put_text (&s_scratch, text);
    return mp_valid (s_scratch.data, s_scratch.size, 1) == s_scratch.size;
}

void
text_mend (char *text)
{
    size_t left = strlen (text);
    if (text_utf8 ((text_t) { text, left }))
        return;
    while (left) {
        size_t size = 1;
        while (size < 4 && size < left && !text_utf8 ((text_t) { text, size }))
            size++;
        if (!text_utf8 ((text_t) { text, size })) {
            *text = '?';
            size = 1;
        }
        text += size;
        left -= size;
    }
}

bool
path_valid (text_t path)
{
    if (path.size == 0 || path.data [0] != '/' || path.size > EDGE_PATH_MAX)
        return false;
    for (size_t i = 0; i < path.size; i++)
        if ((unsigned char) path.data [i] < ' ' || path.data [i] == 0x7f)
            return false;
    return text_valid (path);
}

bool
query_each (text_t query, size_t *at, text_t *name, text_t *value)
{
    if (*at >= query.size)
        return false;
    const char *item = query.data + *at;
    size_t size = strnlen (item, query.size - *at);
    *at += size + 1;
    const char *equal = memchr (item, '=', size);
    size_t length = equal ? (size_t) (equal - item) : size;
    *name = (text_t) { item, length };
    *value = equal ? (text_t) { equal + 1, size - length - 1 } : (text_t) { "", 0 };
    return true;
}

text_t
query_get (text_t query, const char *want)
{
    text_t name, value;
    for (size_t at = 0; query_each (query, &at, &name, &value);)
        if (text_is (name, want))
            return value;
    return (text_t) { NULL, 0 };
}

static int
hex_digit (char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

//  Append the decoded text as a MessagePack text; false on bad digits, NUL or broken UTF-8.
static bool
form_text (text_t in, buf_t *out)
{
    static buf_t s_plain;
    buf_clear (&s_plain);
    for (size_t i = 0; i < in.size; i++) {
        char c = in.data [i];
        if (c == '%') {
            if (i + 2 >= in.size || hex_digit (in.data [i + 1]) < 0
                || hex_digit (in.data [i + 2]) < 0)
                return false;
            c = (char) (hex_digit (in.data [i + 1]) * 16 + hex_digit (in.data [i + 2]));
            if (c == 0)
                return false;
            i += 2;
        }
        else if (c == '+')
            c = ' ';
        buf_putc (&s_plain, c);
    }
    if (!text_valid (buf_text (&s_plain)))
        return false;
    mp_put_text (out, buf_text (&s_plain));
    return true;
}

bool
form_read (text_t form, buf_t *out)
{
    size_t before = out->size, mark = mp_open_map (out);
    uint32_t count = 0;
    for (size_t at = 0; at < form.size;) {
        const char *item = form.data + at;
        const char *end = memchr (item, '&', form.size - at);
        size_t size = end ? (size_t) (end - item) : form.size - at;
        at += size + 1;
        if (size == 0)
            continue;
        const char *equal = memchr (item, '=', size);
        size_t length = equal ? (size_t) (equal - item) : size;
        text_t name = { item, length };
        text_t value = { equal ? equal + 1 : item + size, equal ? size - length - 1 : 0 };
        if (count == 1000 || !form_text (name, out) || !form_text (value, out)) {
            out->size = before;
            return false;
        }
        count++;
    }
    mp_close (out, mark, count);
    return true;
}
