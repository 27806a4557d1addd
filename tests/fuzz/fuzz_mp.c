//  fuzz_mp.c -- what the scan lets through can be read, walked, written as JSON and copied.

#include <assert.h>
#include <stdlib.h>

#include "proto/json.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static void
read_all (mp_t value)
{
    int64_t number;
    uint64_t positive;
    double real;
    int8_t type;
    mp_int_get (value, &number);
    mp_uint_get (value, &positive);
    mp_real_get (value, &real);
    mp_ext (value, &type);
    mp_text (value);
    mp_get (value, "a");
    mp_at (value, 3);
    size_t entries = 0;
    for (mp_iter_t it = mp_iter (value); mp_next (&it); entries++) {
        assert (it.value.data < it.value.end && it.value.end <= value.end);
        read_all (it.value);
    }
    assert (entries == mp_count (value));
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    size_t valid = mp_valid (data, size, MP_DEPTH);
    assert (valid <= size);
    if (valid == 0)
        return 0;
    mp_t value = mp_of (data, valid);
    //  Walking level by level skips what is inside at each: small inputs are enough.
    if (valid < 4096)
        read_all (value);
    buf_t json = { 0 };
    json_write (value, &json);
    assert (json.size > 0 && text_utf8 (buf_text (&json)));
    buf_free (&json);
    return 0;
}
