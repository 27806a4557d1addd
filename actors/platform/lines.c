//  lines.c -- rows of results, from JSON arrays to what clients want.

#include <stdlib.h>

#include "lines.h"

bool
line_next (text_t *rest, text_t *line)
{
    if (!rest->size)
        return false;
    const char *end = memchr (rest->data, '\n', rest->size);
    size_t size = end ? (size_t) (end - rest->data) : rest->size, used = size + (end ? 1 : 0);
    *line = (text_t) { rest->data, size };
    rest->data += used;
    rest->size -= used;
    return true;
}

//  Behind the value that begins at `at`: at its comma, or the bracket that ends the row.
static const char *
s_value_end (const char *at, const char *end)
{
    int depth = 0;
    for (; at < end; at++) {
        if (*at == '"') {
            for (at++; at < end && *at != '"'; at++)
                if (*at == '\\')
                    at++;
        }
        else if (*at == '[' || *at == '{')
            depth++;
        else if (depth == 0 && (*at == ',' || *at == ']'))
            return at;
        else if (*at == ']' || *at == '}')
            depth--;
    }
    return end;
}

//  Walks a row: false behind its last value.
static bool
s_value_next (const char **at, const char *end, text_t *value)
{
    if (*at >= end || **at == ']')
        return false;
    const char *stop = s_value_end (*at, end);
    *value = (text_t) { *at, (size_t) (stop - *at) };
    *at = stop < end && *stop == ',' ? stop + 1 : stop;
    return true;
}

size_t
line_values (text_t line, text_t *values, size_t room)
{
    const char *at = line.data + 1, *end = line.data + line.size;
    size_t count = 0;
    for (text_t value; line.size && s_value_next (&at, end, &value); count++)
        if (count < room)
            values [count] = value;
    return count;
}

void
line_object (text_t line, const text_t *keys, size_t count, buf_t *out)
{
    const char *at = line.data + 1, *end = line.data + line.size;
    text_t value;
    buf_putc (out, '{');
    for (size_t n = 0; n < count && s_value_next (&at, end, &value); n++) {
        if (n)
            buf_putc (out, ',');
        buf_put (out, keys [n].data, keys [n].size);
        buf_put (out, value.data, value.size);
    }
    buf_putc (out, '}');
}

//  ---- CSV ----

static unsigned
s_hex (const char *digits)
{
    char four [5] = { digits [0], digits [1], digits [2], digits [3], 0 };
    return (unsigned) strtoul (four, NULL, 16);
}

static void
s_put_point (unsigned point, buf_t *out)
{
    if (point < 0x80)
        buf_putc (out, (char) point);
    else if (point < 0x800) {
        buf_putc (out, (char) (0xc0 | point >> 6));
        buf_putc (out, (char) (0x80 | (point & 63)));
    }
    else if (point < 0x10000) {
        buf_putc (out, (char) (0xe0 | point >> 12));
        buf_putc (out, (char) (0x80 | (point >> 6 & 63)));
        buf_putc (out, (char) (0x80 | (point & 63)));
    }
    else {
        buf_putc (out, (char) (0xf0 | point >> 18));
        buf_putc (out, (char) (0x80 | (point >> 12 & 63)));
        buf_putc (out, (char) (0x80 | (point >> 6 & 63)));
        buf_putc (out, (char) (0x80 | (point & 63)));
    }
}

//  What a JSON text says, without its quotes.
static void
s_plain (text_t json, buf_t *out)
{
    static const char from [] = "bfnrt", to [] = "\b\f\n\r\t";
    const char *at = json.data + 1, *end = json.data + json.size - 1;
    while (at < end) {
        if (*at != '\\' || at + 1 == end) {
            buf_putc (out, *at++);
            continue;
        }
        const char *known = strchr (from, at [1]);
        if (at [1] != 'u' || end - at < 6) {
            buf_putc (out, known ? to [known - from] : at [1]);
            at += 2;
            continue;
        }
        unsigned point = s_hex (at + 2);
        at += 6;
        if (point >= 0xd800 && point < 0xdc00 && end - at >= 6 && at [0] == '\\' && at [1] == 'u') {
            point = 0x10000 + ((point - 0xd800) << 10) + (s_hex (at + 2) - 0xdc00);
            at += 6;
        }
        s_put_point (point, out);
    }
}

void
csv_put (text_t text, buf_t *out)
{
    //  A spreadsheet would run it.
    bool formula = text.size && memchr ("=+-@\t\r", text.data [0], 6);
    bool quoted = formula || !text.size;
    for (size_t n = 0; n < text.size && !quoted; n++)
        quoted = memchr ("\",\r\n", text.data [n], 4) != NULL;
    if (!quoted) {
        buf_put (out, text.data, text.size);
        return;
    }
    buf_putc (out, '"');
    if (formula)
        buf_putc (out, '\'');
    for (size_t n = 0; n < text.size; n++) {
        if (text.data [n] == '"')
            buf_putc (out, '"');
        buf_putc (out, text.data [n]);
    }
    buf_putc (out, '"');
}

void
line_csv (text_t line, buf_t *out)
{
    const char *at = line.data + 1, *end = line.data + line.size;
    text_t value;
    buf_t plain = { 0 };
    for (size_t n = 0; line.size && s_value_next (&at, end, &value); n++) {
        if (n)
            buf_putc (out, ',');
        bool text = *value.data == '"', nested = *value.data == '[' || *value.data == '{';
        if (text) {
            buf_clear (&plain);
            s_plain (value, &plain);
            csv_put (buf_text (&plain), out);
        }
        else if (nested)
            csv_put (value, out);
        else if (*value.data != 'n')
            buf_put (out, value.data, value.size);
    }
    buf_puts (out, "\r\n");
    buf_free (&plain);
}
