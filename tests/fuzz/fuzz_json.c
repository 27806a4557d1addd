//  fuzz_json.c -- what is read is valid MessagePack, and once written stays the same for ever.

#include <assert.h>
#include <stdlib.h>

#include "proto/json.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    char error [200] = "";
    buf_t first = { 0 }, json = { 0 }, second = { 0 }, again = { 0 };
    if (json_read ((text_t) { (const char *) data, size }, &first, error, sizeof error)) {
        assert (mp_valid (first.data, first.size, MP_DEPTH) == first.size);
        json_write (mp_buf (&first), &json);
        bool good = json_read (buf_text (&json), &second, error, sizeof error);
        assert (good);
        json_write (mp_buf (&second), &again);
        assert (text_eq (buf_text (&json), buf_text (&again)));
    }
    else
        assert (first.size == 0 && *error && text_utf8 (text_of (error)));
    buf_free (&first), buf_free (&json), buf_free (&second), buf_free (&again);
    return 0;
}
