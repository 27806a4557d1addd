//  fuzz_rules.c -- header values, paths and forms of strangers: what passes the rules keeps what
//  they promise.

#include <assert.h>
#include <stdlib.h>

#include "edge/edge.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static void
headers_keep_rules (text_t input, const char *text)
{
    uint64_t length;
    if (length_parse (input, &length))
        assert (input.size <= 10 && length <= 9999999999u);
    char boundary [80];
    if (boundary_parse (text, boundary, sizeof boundary))
        assert (*boundary && strlen (boundary) <= 70);
    char narrow [4];
    if (boundary_parse (text, narrow, sizeof narrow))
        assert (strlen (narrow) < sizeof narrow);
    if (trace_valid (text))
        assert (strlen (text) == 55);
    if (request_id_valid (text))
        assert (strlen (text) <= 39 && !strpbrk (text, " \r\n\""));
    body_kind_of (text);
    accepts_gzip (text);
    accepts_html (text);
    //  A list always has its own first entry.
    size_t first = strcspn (text, ", \t");
    if (first && first == strlen (text))
        assert (etag_matches (text, (text_t) { text, first }));
    else
        etag_matches (text, TEXT ("\"tag\""));
}

static void
query_is_inside (text_t query)
{
    text_t name, value;
    size_t items = 0;
    for (size_t at = 0; query_each (query, &at, &name, &value); items++) {
        assert (name.data >= query.data && name.size <= query.size);
        assert (value.size == 0 || value.data + value.size <= query.data + query.size);
    }
    assert (items <= query.size);
    query_get (query, "wait");
}

//  A position that is read is the same once it is written again.
static void
cursor_comes_back (text_t cursor)
{
    for (unsigned index = 0; index < 3; index++) {
        text_t epoch, same;
        uint64_t off, again;
        if (!cursor_find (cursor, index, &epoch, &off))
            continue;
        assert (epoch.size && epoch.size < 64 && off <= INT64_MAX);
        buf_t written = { 0 };
        buf_putf (&written, "%u:", index);
        buf_put (&written, epoch.data, epoch.size);
        buf_putf (&written, ":%llu", (unsigned long long) off);
        bool found = cursor_find (buf_text (&written), index, &same, &again);
        assert (found && again == off && text_eq (epoch, same));
        buf_free (&written);
    }
}

//  A form comes as one valid map behind what was there, or changes nothing.
static void
form_is_map (text_t input)
{
    buf_t out = { 0 };
    mp_put_nil (&out);
    if (form_read (input, &out)) {
        assert (mp_valid (out.data + 1, out.size - 1, MP_DEPTH) == out.size - 1);
        for (mp_iter_t it = mp_iter (mp_of (out.data + 1, out.size - 1)); mp_next (&it);)
            assert (mp_type (it.key) == MP_TEXT && mp_type (it.value) == MP_TEXT
                    && text_utf8 (mp_text (it.value)));
    }
    else
        assert (out.size == 1);
    buf_free (&out);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    text_t input = { (const char *) data, size };
    char *text = text_copy (input);
    headers_keep_rules (input, text);
    if (path_valid (input))
        assert (size <= EDGE_PATH_MAX && text_utf8 (input) && !memchr (data, 0, size));
    text_mend (text);
    assert (text_utf8 (text_of (text)) && strlen (text) == strnlen ((const char *) data, size));
    query_is_inside (input);
    cursor_comes_back (input);
    form_is_map (input);
    free (text);
    return 0;
}
