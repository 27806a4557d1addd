//  lenient.c -- one pass over JSON text that replaces what PostgreSQL and browsers would refuse.

#include "proto/json.h"
#include "lenient.h"

#define REPLACEMENT "\xef\xbf\xbd"

//  Bytes of the UTF-8 sequence at `at`, 0 when it is none.
static size_t
s_sequence (const char *at, const char *end)
{
    uint8_t lead = (uint8_t) *at;
    size_t size = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    return (size_t) (end - at) >= size && text_utf8 ((text_t) { at, size }) ? size : 0;
}

//  Value of "\uXXXX" at `at`, -1 when it is none.
static int
s_unit (const char *at, const char *end)
{
    if (end - at < 6 || at [0] != '\\' || at [1] != 'u')
        return -1;
    int unit = 0;
    for (size_t n = 2; n < 6; n++) {
        char c = at [n];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
                  : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0)
            return -1;
        unit = unit * 16 + digit;
    }
    return unit;
}

//  Copy one escape, or its replacement; answers the bytes read.
static size_t
s_escape (const char *at, const char *end, buf_t *out)
{
    int unit = s_unit (at, end);
    if (unit < 0) {
        size_t size = end - at < 2 ? 1 : 2;
        buf_put (out, at, size);
        return size;
    }
    if (unit >= 0xd800 && unit < 0xdc00) {
        int low = s_unit (at + 6, end);
        if (low >= 0xdc00 && low < 0xe000) {
            buf_put (out, at, 12);
            return 12;
        }
    }
    if (unit == 0 || (unit >= 0xd800 && unit < 0xe000))
        buf_puts (out, REPLACEMENT);
    else
        buf_put (out, at, 6);
    return 6;
}

static size_t
s_word (const char *at, const char *end, buf_t *out)
{
    static const char *const words [] = { "NaN", "-Infinity", "Infinity" };
    text_t rest = { at, (size_t) (end - at) };
    for (size_t n = 0; n < sizeof words / sizeof *words; n++)
        if (text_starts (rest, words [n])) {
            buf_puts (out, "null");
            return strlen (words [n]);
        }
    buf_putc (out, *at);
    return 1;
}

static void
s_repair (text_t json, buf_t *out)
{
    const char *end = json.data + json.size;
    bool quoted = false;
    for (const char *at = json.data; at < end;) {
        if (*at == '"')
            quoted = !quoted;
        if (quoted && *at == '\\')
            at += s_escape (at, end, out);
        else if (!quoted)
            at += s_word (at, end, out);
        else {
            size_t size = s_sequence (at, end);
            if (size)
                buf_put (out, at, size);
            else
                buf_puts (out, REPLACEMENT);
            at += size ? size : 1;
        }
    }
}

bool
lenient_read (text_t json, buf_t *out)
{
    char error [128];
    if (json_read (json, out, error, sizeof error))
        return true;
    buf_t repaired = { 0 };
    s_repair (json, &repaired);
    bool ok = json_read (buf_text (&repaired), out, error, sizeof error);
    buf_free (&repaired);
    return ok;
}
