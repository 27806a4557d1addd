//  fuzz_router.c -- routes as somebody announces them: each row that the broker would let through
//  is found again, and whatever the rows, no path reaches outside.
//
//  Input: an array of route maps, or lines "VERB /path" (announced) and "/path" (looked up).

#include <assert.h>
#include <stdlib.h>

#include "edge/edge.h"
#include "tests/fuzz/part.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static void
values_are_inside (const match_t *match, text_t path)
{
    if (!match->route)
        return;
    assert (match->route->param_count <= ROUTE_PARAMS && match->verbs);
    for (size_t i = 0; i < match->route->param_count; i++) {
        text_t value = match->values [i];
        assert (value.size && value.data >= path.data
                && value.data + value.size <= path.data + path.size);
    }
}

static void
look_up (const router_t *router, text_t path)
{
    for (unsigned verb = 0; verb < VERB_COUNT; verb++) {
        match_t match = router_find (router, (verb_t) verb, path);
        values_are_inside (&match, path);
        assert (!match.route || match.verbs & 1u << verb);
    }
}

//  A path that the pattern describes. Nothing behind "*rest" counts.
static void
path_like (text_t pattern, buf_t *out)
{
    bool skip = false;
    for (size_t i = 0; i < pattern.size; i++) {
        char c = pattern.data [i];
        bool first = i && pattern.data [i - 1] == '/';
        skip = (skip && c != '/') || (first && c == ':');
        if (first && c == '*') {
            buf_puts (out, "some/rest");
            return;
        }
        if (!skip || (first && c == ':'))
            buf_putc (out, c == ':' && first ? 'v' : c);
    }
}

static void
rows_are_found (const router_t *router)
{
    for (size_t i = 0; i < router_size (router); i++) {
        const route_t *route = router_at (router, i);
        assert (router_method (router, route->method));
        char error [256];
        if (route->verb.size == 0 || route->auth == AUTH_OPERATOR
            || !route_check (route->map, error, sizeof error))
            continue;
        buf_t path = { 0 };
        path_like (route->path, &path);
        unsigned verb = 0;
        while (!text_is (route->verb, verb_name ((verb_t) verb)))
            verb++;
        match_t match = router_find (router, (verb_t) verb, buf_text (&path));
        assert (match.route && text_eq (match.route->verb, route->verb));
        values_are_inside (&match, buf_text (&path));
        buf_free (&path);
    }
}

//  One map per line that has a verb.
static void
rows_of (text_t lines, buf_t *out)
{
    size_t mark = mp_open_array (out);
    uint32_t count = 0;
    while (lines.size) {
        text_t line = part_take (&lines, '\n');
        const char *space = line.size ? memchr (line.data, ' ', line.size) : NULL;
        if (!space)
            continue;
        size_t verb = (size_t) (space - line.data);
        mp_put_map (out, 4);
        mp_pair_str (out, "method", "a.b");
        mp_pair_text (out, "verb", (text_t) { line.data, verb });
        mp_pair_text (out, "path", (text_t) { space + 1, line.size - verb - 1 });
        mp_put_str (out, "alias");
        mp_put_array (out, 1);
        mp_put_text (out, line);
        count++;
    }
    mp_close (out, mark, count);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    router_t *router = router_new ();
    buf_t rows = { 0 };
    size_t valid = mp_valid (data, size, MP_DEPTH);
    text_t rest = { (const char *) data, size };
    if (valid && mp_type (mp_of (data, valid)) == MP_ARRAY) {
        buf_put (&rows, data, valid);
        rest = (text_t) { rest.data + valid, size - valid };
    }
    else
        rows_of (rest, &rows);
    router_add (router, "one", mp_buf (&rows));
    //  A second instance announces the same.
    router_add (router, "two", mp_buf (&rows));
    rows_are_found (router);
    while (rest.size)
        look_up (router, part_take (&rest, '\n'));
    router_drop (&router);
    buf_free (&rows);
    return 0;
}
