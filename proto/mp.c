//  mp.c -- MessagePack: pre-scan of foreign bytes, and readers that trust it.

#include <assert.h>

#include "proto/mp.h"

#define NEST_MAX 128         //  what the scan can track, whatever depth a caller asks for

//  How a first byte is read: `length` bytes of big-endian length follow it, `fixed` says the size
//  or count where none does; `extra` is the type byte of an ext.
typedef struct {
    uint8_t type, length, fixed, extra;
} kind_t;

static const kind_t kinds [128] = {
    [0x00 ... 0x0f] = { MP_MAP, 0, 0, 0 },
    [0x10 ... 0x1f] = { MP_ARRAY, 0, 0, 0 },
    [0x20 ... 0x3f] = { MP_TEXT, 0, 0, 0 },
    [0x40] = { MP_NIL, 0, 0, 0 },
    [0x41] = { MP_NONE, 0, 0, 0 },
    [0x42 ... 0x43] = { MP_BOOL, 0, 0, 0 },
    [0x44] = { MP_BIN, 1, 0, 0 }, [0x45] = { MP_BIN, 2, 0, 0 }, [0x46] = { MP_BIN, 4, 0, 0 },
    [0x47] = { MP_EXT, 1, 0, 1 }, [0x48] = { MP_EXT, 2, 0, 1 }, [0x49] = { MP_EXT, 4, 0, 1 },
    [0x4a] = { MP_REAL, 0, 4, 0 }, [0x4b] = { MP_REAL, 0, 8, 0 },
    [0x4c] = { MP_INT, 0, 1, 0 }, [0x4d] = { MP_INT, 0, 2, 0 },
    [0x4e] = { MP_INT, 0, 4, 0 }, [0x4f] = { MP_INT, 0, 8, 0 },
    [0x50] = { MP_INT, 0, 1, 0 }, [0x51] = { MP_INT, 0, 2, 0 },
    [0x52] = { MP_INT, 0, 4, 0 }, [0x53] = { MP_INT, 0, 8, 0 },
    [0x54] = { MP_EXT, 0, 1, 1 }, [0x55] = { MP_EXT, 0, 2, 1 }, [0x56] = { MP_EXT, 0, 4, 1 },
    [0x57] = { MP_EXT, 0, 8, 1 }, [0x58] = { MP_EXT, 0, 16, 1 },
    [0x59] = { MP_TEXT, 1, 0, 0 }, [0x5a] = { MP_TEXT, 2, 0, 0 }, [0x5b] = { MP_TEXT, 4, 0, 0 },
    [0x5c] = { MP_ARRAY, 2, 0, 0 }, [0x5d] = { MP_ARRAY, 4, 0, 0 },
    [0x5e] = { MP_MAP, 2, 0, 0 }, [0x5f] = { MP_MAP, 4, 0, 0 },
    [0x60 ... 0x7f] = { MP_INT, 0, 0, 0 } };

static uint64_t
s_big_endian (const uint8_t *at, size_t size)
{
    uint64_t value = 0;
    for (size_t n = 0; n < size; n++)
        value = value << 8 | at [n];
    return value;
}

bool
mp_head (const uint8_t *at, const uint8_t *end, mp_head_t *head)
{
    if (at >= end)
        return false;
    uint8_t byte = *at++;
    if (byte < 0x80) {
        *head = (mp_head_t) { MP_INT, at, 0, 0 };
        return true;
    }
    const kind_t *kind = &kinds [byte - 0x80];
    size_t room = (size_t) (end - at), number = kind->fixed;
    if (kind->type == MP_NONE || room < kind->length)
        return false;
    if (kind->length)
        number = (size_t) s_big_endian (at, kind->length);
    else if (byte < 0xa0)
        number = byte & 0x0f;
    else if (byte < 0xc0)
        number = byte & 0x1f;
    at += kind->length;
    room -= kind->length;
    bool container = kind->type == MP_MAP || kind->type == MP_ARRAY;
    //  Every entry takes at least one byte, so a count beyond the bytes that are there is a lie.
    size_t need = kind->type == MP_MAP ? number * 2 : number + kind->extra;
    if (room < need)
        return false;
    *head = (mp_head_t) { kind->type, at, container ? 0 : need, container ? number : 0 };
    return true;
}

//  Text, and JSON that will be spliced into text, must be UTF-8.
static bool
s_payload_valid (const mp_head_t *head)
{
    if (head->type == MP_TEXT)
        return text_utf8 ((text_t) { (const char *) head->data, head->size });
    if (head->type == MP_EXT && head->data [0] == MP_EXT_JSON)
        return text_utf8 ((text_t) { (const char *) head->data + 1, head->size - 1 });
    return true;
}

size_t
mp_valid (const void *data, size_t size, unsigned depth)
{
    const uint8_t *at = data;
    if (size == 0)
        return 0;
    const uint8_t *end = at + size;
    size_t left [NEST_MAX + 1];
    unsigned level = 0;
    if (depth > NEST_MAX)
        depth = NEST_MAX;
    left [0] = 1;
    for (;;) {
        while (left [level] == 0)
            if (level-- == 0)
                return (size_t) (at - (const uint8_t *) data);
        left [level]--;
        if (at < end && (*at < 0x80 || *at >= 0xe0)) {
            at++;
            continue;
        }
        mp_head_t head;
        if (!mp_head (at, end, &head))
            return 0;
        at = head.data + head.size;
        if (head.type == MP_MAP || head.type == MP_ARRAY) {
            if (level == depth)
                return 0;
            left [++level] = head.type == MP_MAP ? head.count * 2 : head.count;
        }
        else if (!s_payload_valid (&head))
            return 0;
    }
}

//  End of the value at `at`.
static const uint8_t *
s_skip (const uint8_t *at, const uint8_t *end)
{
    for (size_t left = 1; left; left--) {
        mp_head_t head;
        bool fits = mp_head (at, end, &head);
        assert (fits);
        at = head.data + head.size;
        left += head.type == MP_MAP ? head.count * 2 : head.count;
    }
    return at;
}

bool
mp_plain (mp_t value)
{
    mp_head_t head;
    for (const uint8_t *at = value.data; at && at < value.end; at = head.data + head.size)
        if (!mp_head (at, value.end, &head) || head.type == MP_EXT)
            return false;
    return true;
}

//  Head of a value, MP_NONE for an absent one.
static mp_head_t
s_head (mp_t value)
{
    mp_head_t head = { MP_NONE, NULL, 0, 0 };
    if (value.data)
        mp_head (value.data, value.end, &head);
    return head;
}

mp_t
mp_of (const void *data, size_t size)
{
    return size ? (mp_t) { data, (const uint8_t *) data + size } : mp_none;
}

mp_type_t
mp_type (mp_t value)
{
    return s_head (value).type;
}

bool
mp_empty (mp_t value)
{
    return !value.data || *value.data == 0xc0;
}

bool
mp_int_get (mp_t value, int64_t *out)
{
    mp_head_t head = s_head (value);
    if (head.type != MP_INT)
        return false;
    uint8_t byte = *value.data;
    if (head.size == 0) {
        *out = (int8_t) byte;
        return true;
    }
    uint64_t bits = s_big_endian (head.data, head.size);
    if (byte >= 0xd0) {
        unsigned unused = 64 - 8 * (unsigned) head.size;
        *out = (int64_t) (bits << unused) >> unused;
        return true;
    }
    *out = (int64_t) bits;
    return bits <= INT64_MAX;
}

bool
mp_uint_get (mp_t value, uint64_t *out)
{
    if (value.data && *value.data == 0xcf) {
        *out = s_big_endian (value.data + 1, 8);
        return true;
    }
    int64_t number;
    if (!mp_int_get (value, &number) || number < 0)
        return false;
    *out = (uint64_t) number;
    return true;
}

bool
mp_real_get (mp_t value, double *out)
{
    mp_head_t head = s_head (value);
    if (head.type == MP_REAL) {
        uint64_t bits = s_big_endian (head.data, head.size);
        if (head.size == 4) {
            uint32_t half = (uint32_t) bits;
            float single;
            memcpy (&single, &half, sizeof single);
            *out = (double) single;
        }
        else
            memcpy (out, &bits, sizeof *out);
        return true;
    }
    int64_t number;
    uint64_t positive;
    if (mp_int_get (value, &number))
        *out = (double) number;
    else if (mp_uint_get (value, &positive))
        *out = (double) positive;
    else
        return false;
    return true;
}

int64_t
mp_int (mp_t value)
{
    int64_t number;
    return mp_int_get (value, &number) ? number : 0;
}

uint64_t
mp_uint (mp_t value)
{
    uint64_t number;
    return mp_uint_get (value, &number) ? number : 0;
}

double
mp_real (mp_t value)
{
    double number;
    return mp_real_get (value, &number) ? number : 0;
}

bool
mp_bool (mp_t value)
{
    return value.data && *value.data == 0xc3;
}

text_t
mp_text (mp_t value)
{
    mp_head_t head = s_head (value);
    if (head.type != MP_TEXT && head.type != MP_BIN)
        return (text_t) { NULL, 0 };
    return (text_t) { (const char *) head.data, head.size };
}

text_t
mp_ext (mp_t value, int8_t *type)
{
    mp_head_t head = s_head (value);
    *type = 0;
    if (head.type != MP_EXT)
        return (text_t) { NULL, 0 };
    *type = (int8_t) head.data [0];
    return (text_t) { (const char *) head.data + 1, head.size - 1 };
}

size_t
mp_count (mp_t value)
{
    return s_head (value).count;
}

mp_iter_t
mp_iter (mp_t value)
{
    mp_head_t head = s_head (value);
    return (mp_iter_t) { mp_none, mp_none, head.data, value.end, head.count, head.type == MP_MAP };
}

bool
mp_next (mp_iter_t *it)
{
    if (it->left == 0)
        return false;
    it->left--;
    if (it->map) {
        it->key = (mp_t) { it->at, s_skip (it->at, it->end) };
        it->at = it->key.end;
    }
    it->value = (mp_t) { it->at, s_skip (it->at, it->end) };
    it->at = it->value.end;
    return true;
}

mp_t
mp_get (mp_t map, const char *name)
{
    text_t wanted = text_of (name);
    if (mp_type (map) != MP_MAP)
        return mp_none;
    for (mp_iter_t it = mp_iter (map); mp_next (&it);)
        if (mp_type (it.key) == MP_TEXT && text_eq (mp_text (it.key), wanted))
            return it.value;
    return mp_none;
}

mp_t
mp_at (mp_t array, size_t position)
{
    if (mp_type (array) != MP_ARRAY)
        return mp_none;
    for (mp_iter_t it = mp_iter (array); mp_next (&it); position--)
        if (position == 0)
            return it.value;
    return mp_none;
}
