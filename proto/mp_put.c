//  mp_put.c -- the builder of MessagePack: every value in its shortest form, but what is closed
//  later.

#include <assert.h>

#include "proto/mp.h"

//  A first byte and `size` big-endian bytes of a number.
static void
s_put (buf_t *buf, uint8_t byte, uint64_t number, size_t size)
{
    uint8_t *to = buf_room (buf, 9);
    to [0] = byte;
    for (size_t n = size; n; n--, number >>= 8)
        to [n] = (uint8_t) number;
    buf->size += 1 + size;
}

void
mp_put_nil (buf_t *buf)
{
    s_put (buf, 0xc0, 0, 0);
}

void
mp_put_bool (buf_t *buf, bool value)
{
    s_put (buf, value ? 0xc3 : 0xc2, 0, 0);
}

void
mp_put_int (buf_t *buf, int64_t value)
{
    if (value >= 0)
        mp_put_uint (buf, (uint64_t) value);
    else if (value >= -32)
        s_put (buf, (uint8_t) value, 0, 0);
    else if (value >= INT8_MIN)
        s_put (buf, 0xd0, (uint64_t) value, 1);
    else if (value >= INT16_MIN)
        s_put (buf, 0xd1, (uint64_t) value, 2);
    else if (value >= INT32_MIN)
        s_put (buf, 0xd2, (uint64_t) value, 4);
    else
        s_put (buf, 0xd3, (uint64_t) value, 8);
}

void
mp_put_uint (buf_t *buf, uint64_t value)
{
    if (value < 0x80)
        s_put (buf, (uint8_t) value, 0, 0);
    else if (value <= UINT8_MAX)
        s_put (buf, 0xcc, value, 1);
    else if (value <= UINT16_MAX)
        s_put (buf, 0xcd, value, 2);
    else if (value <= UINT32_MAX)
        s_put (buf, 0xce, value, 4);
    else
        s_put (buf, 0xcf, value, 8);
}

void
mp_put_real (buf_t *buf, double value)
{
    uint64_t bits;
    memcpy (&bits, &value, sizeof bits);
    s_put (buf, 0xcb, bits, 8);
}

void
mp_put_text (buf_t *buf, text_t value)
{
    assert (value.size <= UINT32_MAX);
    if (value.size < 32)
        s_put (buf, (uint8_t) (0xa0 | value.size), 0, 0);
    else if (value.size <= UINT8_MAX)
        s_put (buf, 0xd9, value.size, 1);
    else if (value.size <= UINT16_MAX)
        s_put (buf, 0xda, value.size, 2);
    else
        s_put (buf, 0xdb, value.size, 4);
    buf_put (buf, value.data, value.size);
}

void
mp_put_str (buf_t *buf, const char *value)
{
    if (value)
        mp_put_text (buf, text_of (value));
    else
        mp_put_nil (buf);
}

void
mp_put_bin (buf_t *buf, const void *data, size_t size)
{
    assert (size <= UINT32_MAX);
    if (size <= UINT8_MAX)
        s_put (buf, 0xc4, size, 1);
    else if (size <= UINT16_MAX)
        s_put (buf, 0xc5, size, 2);
    else
        s_put (buf, 0xc6, size, 4);
    buf_put (buf, data, size);
}

void
mp_put_ext (buf_t *buf, int8_t type, const void *data, size_t size)
{
    assert (size <= UINT32_MAX);
    if (size && size <= 16 && (size & (size - 1)) == 0)
        s_put (buf, (uint8_t) (0xd4 + __builtin_ctzl (size)), 0, 0);
    else if (size <= UINT8_MAX)
        s_put (buf, 0xc7, size, 1);
    else if (size <= UINT16_MAX)
        s_put (buf, 0xc8, size, 2);
    else
        s_put (buf, 0xc9, size, 4);
    buf_putc (buf, (char) type);
    buf_put (buf, data, size);
}

void
mp_put_array (buf_t *buf, uint32_t count)
{
    if (count < 16)
        s_put (buf, (uint8_t) (0x90 | count), 0, 0);
    else if (count <= UINT16_MAX)
        s_put (buf, 0xdc, count, 2);
    else
        s_put (buf, 0xdd, count, 4);
}

void
mp_put_map (buf_t *buf, uint32_t count)
{
    if (count < 16)
        s_put (buf, (uint8_t) (0x80 | count), 0, 0);
    else if (count <= UINT16_MAX)
        s_put (buf, 0xde, count, 2);
    else
        s_put (buf, 0xdf, count, 4);
}

void
mp_put (buf_t *buf, mp_t value)
{
    if (value.data)
        buf_put (buf, value.data, (size_t) (value.end - value.data));
    else
        mp_put_nil (buf);
}

size_t
mp_open_map (buf_t *buf)
{
    s_put (buf, 0xdf, 0, 4);
    return buf->size - 5;
}

size_t
mp_open_array (buf_t *buf)
{
    s_put (buf, 0xdd, 0, 4);
    return buf->size - 5;
}

void
mp_close (buf_t *buf, size_t mark, uint32_t count)
{
    assert (mark + 5 <= buf->size && (buf->data [mark] | 2) == 0xdf);
    for (size_t n = 4; n; n--, count >>= 8)
        buf->data [mark + n] = (uint8_t) count;
}

void
mp_pair_str (buf_t *buf, const char *name, const char *value)
{
    mp_put_str (buf, name);
    mp_put_str (buf, value);
}

void
mp_pair_text (buf_t *buf, const char *name, text_t value)
{
    mp_put_str (buf, name);
    mp_put_text (buf, value);
}

void
mp_pair_int (buf_t *buf, const char *name, int64_t value)
{
    mp_put_str (buf, name);
    mp_put_int (buf, value);
}

void
mp_pair_bool (buf_t *buf, const char *name, bool value)
{
    mp_put_str (buf, name);
    mp_put_bool (buf, value);
}

void
mp_pair (buf_t *buf, const char *name, mp_t value)
{
    mp_put_str (buf, name);
    mp_put (buf, value);
}
