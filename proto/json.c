//  json.c -- JSON in through jansson, JSON out by hand: replies are the hot path of the edge.

#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/json.h"
#include "proto/token.h"

//  Offset of the bracket that nests too deep, or -1. jansson recurses per level: look before it
//  does.
static ptrdiff_t
s_too_deep (text_t json)
{
    unsigned level = 0;
    bool quoted = false;
    for (size_t n = 0; n < json.size; n++) {
        char byte = json.data [n];
        if (quoted) {
            if (byte == '\\')
                n++;
            else if (byte == '"')
                quoted = false;
        }
        else if (byte == '"')
            quoted = true;
        else if (byte == '[' || byte == '{') {
            if (++level > JSON_DEPTH)
                return (ptrdiff_t) n;
        }
        else if ((byte == ']' || byte == '}') && level)
            level--;
    }
    return -1;
}

//  Depth is bounded by the check above.
static void
s_convert (json_t *json, buf_t *out)
{
    const char *key;
    json_t *item;
    size_t n;
    switch (json_typeof (json)) {
        case JSON_OBJECT:
            mp_put_map (out, (uint32_t) json_object_size (json));
            json_object_foreach (json, key, item) {
                mp_put_str (out, key);
                s_convert (item, out);
            }
            break;
        case JSON_ARRAY:
            mp_put_array (out, (uint32_t) json_array_size (json));
            json_array_foreach (json, n, item)
                s_convert (item, out);
            break;
        case JSON_STRING:
            mp_put_text (out, (text_t) { json_string_value (json), json_string_length (json) });
            break;
        case JSON_INTEGER:
            mp_put_int (out, json_integer_value (json));
            break;
        case JSON_REAL:
            mp_put_real (out, json_real_value (json));
            break;
        case JSON_TRUE:
        case JSON_FALSE:
            mp_put_bool (out, json_is_true (json));
            break;
        case JSON_NULL:
            mp_put_nil (out);
    }
}

//  The key that stands right before `end`, as it was written and without its quotes.
static text_t
s_key_before (text_t json, size_t end)
{
    if (end < 2 || end > json.size || json.data [end - 1] != '"')
        return (text_t) { "", 0 };
    size_t start = --end;
    while (start) {
        size_t slashes = 0;
        if (json.data [--start] != '"')
            continue;
        while (slashes < start && json.data [start - 1 - slashes] == '\\')
            slashes++;
        if (slashes % 2 == 0)
            break;
    }
    text_t key = { json.data + start + 1, end - start - 1 };
    //  Cut where a character begins.
    if (key.size > 40)
        for (key.size = 40; key.size && (key.data [key.size] & 0xc0) == 0x80;)
            key.size--;
    return key;
}

//  What is wrong, in our words: jansson's are those of its own inside.
static const char *
s_words (text_t json, const json_error_t *why)
{
    static const struct { const char *says, *means; } words [] = {
        { "invalid Unicode", "half of a surrogate pair" },
        { "invalid escape", "unknown escape in a text" },
        { "control character", "control character in a text" },
        { "unexpected newline", "control character in a text" },
        { "':' expected", "\":\" is missing" },
        { "string or '}' expected", "a key or } is expected" },
        { "'}' expected", ", or } is expected" },
        { "']' expected", ", or ] is expected" } };
    switch (json_error_code (why)) {
        case json_error_invalid_utf8:
            return "not utf-8";
        case json_error_premature_end_of_input:
            return "it ends too early";
        case json_error_end_of_input_expected:
            return "something follows the value";
        case json_error_null_character:
        case json_error_null_byte_in_key:
            return "a text may not hold \\u0000";
        case json_error_numeric_overflow:
            return "number is too large";
        default:
            break;
    }
    if (json.size >= 3 && memcmp (json.data, "\xef\xbb\xbf", 3) == 0)
        return "it starts with a byte order mark";
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strncmp (why->text, words [i].says, strlen (words [i].says)) == 0)
            return words [i].means;
    return "no json value";
}

bool
json_read (text_t json, buf_t *out, char *error, size_t error_size)
{
    if (json.size == 0) {
        mp_put_nil (out);
        return true;
    }
    ptrdiff_t deep = s_too_deep (json);
    if (deep >= 0) {
        snprintf (error, error_size, "json nests deeper than %d levels at byte %td",
                  JSON_DEPTH, deep);
        return false;
    }
    json_error_t why;
    int flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;
    json_t *root = json_loadb (json.data, json.size, flags, &why);
    if (!root) {
        bool twice = json_error_code (&why) == json_error_duplicate_key;
        text_t key = s_key_before (json, twice ? (size_t) why.position : 0);
        if (twice)
            snprintf (error, error_size, "json is not valid at line %d, column %d: key \"%.*s\" "
                      "comes twice", why.line, why.column, (int) key.size, key.data);
        else
            snprintf (error, error_size, "json is not valid at line %d, column %d: %s", why.line,
                      why.column, s_words (json, &why));
        return false;
    }
    s_convert (root, out);
    json_decref (root);
    return true;
}

//  What follows the backslash; other control bytes become \u00xx.
static const char escapes [256] = {
    ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't',
    ['"'] = '"', ['\\'] = '\\' };

//  Are there a control byte, a quote or a backslash among these eight? (A byte beyond 0x7f may say
//  yes without being one.)
static bool
s_must_escape (const char *bytes)
{
    const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
    uint64_t word;
    memcpy (&word, bytes, sizeof word);
    uint64_t quote = word ^ ones * '"', slash = word ^ ones * '\\';
    return ((word - ones * ' ') | (quote - ones) | (slash - ones)) & tops;
}

void
json_quote (text_t text, buf_t *out)
{
    static const char hex [] = "0123456789abcdef";
    buf_room (out, text.size + 2);
    buf_putc (out, '"');
    size_t done = 0;
    for (size_t n = 0; n < text.size; n++) {
        while (text.size - n >= 8 && !s_must_escape (text.data + n))
            n += 8;
        if (n == text.size)
            break;
        uint8_t byte = (uint8_t) text.data [n];
        char escape = escapes [byte];
        if (!escape && byte >= ' ')
            continue;
        buf_put (out, text.data + done, n - done);
        done = n + 1;
        char code [6] = { '\\', escape ? escape : 'u', '0', '0', hex [byte >> 4], hex [byte & 15] };
        buf_put (out, code, escape ? 2 : 6);
    }
    if (text.size > done)
        buf_put (out, text.data + done, text.size - done);
    buf_putc (out, '"');
}

static void
s_write_uint (uint64_t value, bool negative, buf_t *out)
{
    char text [21], *at = text + sizeof text;
    do {
        *--at = (char) ('0' + value % 10);
    } while (value /= 10);
    if (negative)
        *--at = '-';
    buf_put (out, at, (size_t) (text + sizeof text - at));
}

static void
s_write_int (mp_t value, buf_t *out)
{
    int64_t number;
    if (!mp_int_get (value, &number))
        s_write_uint (mp_uint (value), false, out);
    else if (number < 0)
        s_write_uint (- (uint64_t) number, true, out);
    else
        s_write_uint ((uint64_t) number, false, out);
}

//  Amounts and percentages: a number of few decimals is written without printf. Exact, because the
//  division is rounded correctly: what reads back is the same quotient.
static bool
s_write_decimal (double number, buf_t *out)
{
    static const double powers [] = { 1, 10, 100, 1000, 10000, 100000, 1000000 };
    if (fabs (number) >= 1e9 || fabs (number) < 1e-4)
        return false;
    for (unsigned places = 1; places <= 6; places++) {
        double whole = nearbyint (fabs (number) * powers [places]);
        if (whole / powers [places] != fabs (number))
            continue;
        uint64_t digits = (uint64_t) whole, power = (uint64_t) powers [places];
        s_write_uint (digits / power, number < 0, out);
        size_t point = out->size;
        //  The 1 in front of the places keeps their zeros, and gives way to the point.
        s_write_uint (power + digits % power, false, out);
        out->data [point] = '.';
        return true;
    }
    return false;
}

static void
s_write_real (double number, buf_t *out)
{
    if (!isfinite (number)) {
        buf_puts (out, "null");
        return;
    }
    if (fabs (number) < 1e15 && number == (double) (int64_t) number) {
        //  As text -0 would come back as the integer 0.
        if (number == 0 && signbit (number))
            buf_puts (out, "-0.0");
        else
            s_write_uint ((uint64_t) fabs (number), number < 0, out);
        return;
    }
    if (s_write_decimal (number, out))
        return;
    char text [32];
    //  15 digits are never too many for a normal number, but a subnormal one has fewer.
    for (int digits = fabs (number) < DBL_MIN ? 1 : 15; digits <= 17; digits++) {
        snprintf (text, sizeof text, "%.*g", digits, number);
        if (strtod (text, NULL) == number)
            break;
    }
    buf_puts (out, text);
}

static const uint8_t *s_write (const uint8_t *at, const uint8_t *end, buf_t *out);

//  The key of a pair. Only text is a key in JSON; numbers and the like are written as text.
static const uint8_t *
s_write_key (const uint8_t *at, const uint8_t *end, const mp_head_t *head, buf_t *out)
{
    bool quoted = head->type == MP_TEXT || head->type == MP_BIN;
    if (!quoted)
        buf_putc (out, '"');
    at = s_write (at, end, out);
    if (!quoted)
        buf_putc (out, '"');
    return at;
}

static const uint8_t *
s_write_map (const mp_head_t *map, const uint8_t *end, buf_t *out)
{
    const uint8_t *at = map->data;
    bool first = true;
    buf_putc (out, '{');
    for (size_t n = 0; n < map->count; n++) {
        mp_head_t key;
        mp_head (at, end, &key);
        size_t mark = out->size;
        if (!first)
            buf_putc (out, ',');
        //  No text stands for a container or an ext: such a pair is left out.
        bool skip = key.type == MP_MAP || key.type == MP_ARRAY || key.type == MP_EXT;
        at = skip ? s_write (at, end, out) : s_write_key (at, end, &key, out);
        buf_putc (out, ':');
        at = s_write (at, end, out);
        if (skip)
            out->size = mark;
        else
            first = false;
    }
    buf_putc (out, '}');
    return at;
}

static const uint8_t *
s_write_array (const mp_head_t *array, const uint8_t *end, buf_t *out)
{
    const uint8_t *at = array->data;
    buf_putc (out, '[');
    for (size_t n = 0; n < array->count; n++) {
        if (n)
            buf_putc (out, ',');
        at = s_write (at, end, out);
    }
    buf_putc (out, ']');
    return at;
}

static void
s_write_ext (const mp_head_t *ext, buf_t *out)
{
    if (ext->data [0] == MP_EXT_JSON && ext->size > 1)
        buf_put (out, ext->data + 1, ext->size - 1);
    else
        buf_puts (out, "null");
}

//  Write the value at `at` and return where the next one is: one pass, however deep.
static const uint8_t *
s_write (const uint8_t *at, const uint8_t *end, buf_t *out)
{
    mp_head_t head;
    if (!mp_head (at, end, &head)) {
        buf_puts (out, "null");
        return end;
    }
    text_t payload = { (const char *) head.data, head.size };
    mp_t value = { at, head.data + head.size };
    switch (head.type) {
        case MP_MAP:
            return s_write_map (&head, end, out);
        case MP_ARRAY:
            return s_write_array (&head, end, out);
        case MP_TEXT:
            json_quote (payload, out);
            break;
        case MP_INT:
            s_write_int (value, out);
            break;
        case MP_REAL:
            s_write_real (mp_real (value), out);
            break;
        case MP_BOOL:
            buf_puts (out, mp_bool (value) ? "true" : "false");
            break;
        case MP_BIN:
            buf_putc (out, '"');
            base64_put (out, payload, false);
            buf_putc (out, '"');
            break;
        case MP_EXT:
            s_write_ext (&head, out);
            break;
        case MP_NIL:
        case MP_NONE:
            buf_puts (out, "null");
    }
    return value.end;
}

void
json_write (mp_t value, buf_t *out)
{
    if (mp_is_none (value))
        buf_puts (out, "null");
    else
        s_write (value.data, value.end, out);
}

static void
s_expand (mp_t value, buf_t *out)
{
    int8_t type;
    char error [80];
    switch (mp_type (value)) {
        case MP_ARRAY:
            mp_put_array (out, (uint32_t) mp_count (value));
            for (mp_iter_t it = mp_iter (value); mp_next (&it);)
                s_expand (it.value, out);
            break;
        case MP_MAP:
            mp_put_map (out, (uint32_t) mp_count (value));
            for (mp_iter_t it = mp_iter (value); mp_next (&it);) {
                mp_put (out, it.key);
                s_expand (it.value, out);
            }
            break;
        case MP_EXT: {
            text_t text = mp_ext (value, &type);
            if (type != MP_EXT_JSON || !json_read (text, out, error, sizeof error))
                mp_put_nil (out);
            break;
        }
        default:
            mp_put (out, value);
    }
}

mp_t
json_plain (mp_t value, buf_t *room)
{
    if (mp_is_none (value) || mp_plain (value))
        return value;
    buf_clear (room);
    s_expand (value, room);
    return mp_buf (room);
}
