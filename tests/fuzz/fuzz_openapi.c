//  fuzz_openapi.c -- rows that the broker would let through make a document that can be read, with
//  every path in it.
//
//  Input: an array of route maps, or lines "VERB /path method".

#include <assert.h>
#include <stdlib.h>

//  The writer of the document is the file's own.
#include "edge/openapi.c"
#include "tests/fuzz/part.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static buf_t s_answer;

const local_t edge_locals [] = {
    { VERB_GET, "/health", .doc = "Is it \"well\"?" }, { VERB_GET, "/docs" }, { 0 } };
const local_t live_locals [] = { { VERB_POST, "/live/ticket", .auth = true, .doc = "one" }, { 0 } };

void
reply_json (request_t *req, unsigned status, text_t json)
{
    assert (req && status == 200);
    buf_put (&s_answer, json.data, json.size);
}

void
reply_bytes (request_t *req, unsigned status, const char *type, text_t data)
{
    (void) req, (void) status, (void) type;
    assert (data.size > 100);
}

void
reply_header (request_t *req, const char *name, text_t value)
{
    (void) req, (void) name, (void) value;
}

static void
rows_of (text_t lines, buf_t *out)
{
    size_t mark = mp_open_array (out);
    uint32_t count = 0;
    while (lines.size) {
        text_t line = part_take (&lines, '\n');
        char *copy = text_copy (line), *verb = copy, *rest = copy;
        verb = strsep (&rest, " ");
        char *path = rest ? strsep (&rest, " ") : NULL;
        if (path) {
            mp_put_map (out, 4);
            mp_pair_str (out, "method", rest ? rest : "a.b");
            mp_pair_str (out, "verb", verb);
            mp_pair_str (out, "path", path);
            mp_pair_str (out, "doc", copy);
            count++;
        }
        free (copy);
    }
    mp_close (out, mark, count);
}

//  Only what the broker accepts is ever announced.
static void
rows_let_through (mp_t rows, buf_t *out)
{
    size_t mark = mp_open_array (out);
    uint32_t count = 0;
    char error [256];
    for (mp_iter_t it = mp_iter (rows); mp_next (&it);)
        if (route_check (it.value, error, sizeof error)) {
            mp_put (out, it.value);
            count++;
        }
    mp_close (out, mark, count);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    buf_t rows = { 0 }, good = { 0 }, read = { 0 };
    char error [256] = "";
    size_t valid = mp_valid (data, size, MP_DEPTH);
    if (valid && mp_type (mp_of (data, valid)) == MP_ARRAY)
        buf_put (&rows, data, valid);
    else
        rows_of ((text_t) { (const char *) data, size }, &rows);
    rows_let_through (mp_buf (&rows), &good);
    edge_t edge = { .router = router_new () };
    static uint64_t s_builds;
    edge.router_revision = ++s_builds;
    router_add (edge.router, "one", mp_buf (&good));
    request_t req = { .edge = &edge };
    buf_clear (&s_answer);
    openapi_serve (&req);
    //  Two fields of one name make equal keys, which only the reader minds.
    if (!json_read (buf_text (&s_answer), &read, error, sizeof error))
        assert (strstr (error, "twice"));
    else
        assert (mp_type (mp_get (mp_buf (&read), "paths")) == MP_MAP);
    router_drop (&edge.router);
    buf_free (&rows), buf_free (&good), buf_free (&read);
    return 0;
}
