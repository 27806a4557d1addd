//  fuzz_route.c -- route maps of strangers: checked, and when accepted their schemas are JSON.

#include <assert.h>

#include "proto/json.h"
#include "proto/route.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static void
schema_reads_back (mp_t fields, bool reply)
{
    buf_t json = { 0 }, back = { 0 };
    char error [256];
    field_schema (fields, reply, &json);
    //  Two fields of one name make two equal keys, which only the reader minds.
    if (!json_read (buf_text (&json), &back, error, sizeof error))
        assert (strstr (error, "twice"));
    buf_free (&json);
    buf_free (&back);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    size_t valid = mp_valid (data, size, MP_DEPTH);
    if (valid == 0)
        return 0;
    mp_t route = mp_of (data, valid);
    char error [128] = "";
    if (!route_check (route, error, sizeof error)) {
        assert (error [0]);
        return 0;
    }
    schema_reads_back (mp_get (route, "in"), false);
    schema_reads_back (mp_get (route, "out"), true);
    return 0;
}
