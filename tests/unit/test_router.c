//  test_router.c -- which row a path finds.

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "edge/router.c"

static const char *const s_rows [] [3] = {
    { "a.root", "GET", "/" },
    { "a.list", "GET", "/things" },
    { "a.make", "POST", "/things" },
    { "a.get", "GET", "/things/:id" },
    { "a.drop", "DELETE", "/things/:id" },
    { "a.new", "GET", "/things/new" },
    { "a.start", "POST", "/things/:id/start" },
    { "a.parts", "GET", "/things/:id/parts/:part" },
    { "a.deep", "GET", "/things/new/parts/first/last" },
    { "a.tree", "GET", "/tree/*rest" },
    { "a.leaf", "GET", "/tree/leaf" }
};
#define ROWS (sizeof s_rows / sizeof *s_rows)

static router_t *
make (void)
{
    buf_t rows = { 0 };
    mp_put_array (&rows, ROWS);
    for (size_t i = 0; i < ROWS; i++) {
        mp_put_map (&rows, 3);
        mp_pair_str (&rows, "method", s_rows [i] [0]);
        mp_pair_str (&rows, "verb", s_rows [i] [1]);
        mp_pair_str (&rows, "path", s_rows [i] [2]);
    }
    router_t *router = router_new ();
    assert_int_equal (router_add (router, "a", mp_buf (&rows)), 0);
    buf_free (&rows);
    return router;
}

static void
check (const router_t *router, verb_t verb, const char *path, const char *method, const char *first)
{
    match_t match = router_find (router, verb, text_of (path));
    if (!method) {
        assert_null (match.route);
        return;
    }
    assert_non_null (match.route);
    assert_true (text_is (match.route->method, method));
    if (first)
        assert_true (text_is (match.values [0], first));
}

static void
test_rows_are_found (void **state)
{
    (void) state;
    router_t *router = make ();
    check (router, VERB_GET, "/", "a.root", NULL);
    check (router, VERB_GET, "/things", "a.list", NULL);
    check (router, VERB_GET, "/things/", "a.list", NULL);
    check (router, VERB_GET, "/things/7", "a.get", "7");
    check (router, VERB_HEAD, "/things/7", "a.get", "7");
    check (router, VERB_POST, "/things/7/start", "a.start", "7");
    check (router, VERB_GET, "/things/7/parts/8", "a.parts", "7");
    check (router, VERB_GET, "/thing", NULL, NULL);
    check (router, VERB_GET, "/things/7/start/x", NULL, NULL);
    router_drop (&router);
}

static void
test_literals_win_and_fall_back (void **state)
{
    (void) state;
    router_t *router = make ();
    check (router, VERB_GET, "/things/new", "a.new", NULL);
    check (router, VERB_DELETE, "/things/new", "a.drop", "new");
    check (router, VERB_GET, "/things/new/parts/first", "a.parts", "new");
    check (router, VERB_GET, "/things/new/parts/first/last", "a.deep", NULL);
    check (router, VERB_GET, "/tree/leaf", "a.leaf", NULL);
    check (router, VERB_GET, "/tree/leaf/x", "a.tree", "leaf/x");
    check (router, VERB_GET, "/tree/a/b/c", "a.tree", "a/b/c");
    check (router, VERB_GET, "/tree", NULL, NULL);
    router_drop (&router);
}

static void
test_verbs_of_a_path_are_collected (void **state)
{
    (void) state;
    router_t *router = make ();
    match_t match = router_find (router, VERB_PATCH, TEXT ("/things/new"));
    assert_null (match.route);
    assert_int_equal (match.verbs, 1u << VERB_GET | 1u << VERB_HEAD | 1u << VERB_DELETE);
    assert_int_equal (router_find (router, VERB_GET, TEXT ("/no")).verbs, 0);
    router_drop (&router);
}

static void
add_one (router_t *router, const char *verb, const char *path, const char *auth, size_t refused)
{
    buf_t rows = { 0 };
    mp_put_array (&rows, 1);
    mp_put_map (&rows, 4);
    mp_pair_str (&rows, "method", "b.x");
    mp_pair_str (&rows, "verb", verb);
    mp_pair_str (&rows, "path", path);
    mp_pair_str (&rows, "auth", auth);
    assert_int_equal (router_add (router, "b", mp_buf (&rows)), refused);
    buf_free (&rows);
}

static void
test_bad_rows_are_refused_and_unknown_auth_is_not_open (void **state)
{
    (void) state;
    router_t *router = make ();
    add_one (router, "GET", "/things/:other", "none", 1);
    add_one (router, "BREW", "/pot", "none", 1);
    add_one (router, "GET", "pot", "none", 1);
    add_one (router, "GET", "/:a/:b/:c/:d/:e/:f/:g/:h/:i", "none", 1);
    add_one (router, "GET", "/odd", "everyone", 0);
    check (router, VERB_GET, "/odd", NULL, NULL);
    check (router, VERB_GET, "/things/7", "a.get", "7");
    router_drop (&router);
}

static void
test_aliases_and_methods (void **state)
{
    (void) state;
    buf_t rows = { 0 };
    mp_put_array (&rows, 2);
    mp_put_map (&rows, 4);
    mp_pair_str (&rows, "method", "c.x");
    mp_pair_str (&rows, "verb", "POST");
    mp_pair_str (&rows, "path", "/c");
    mp_put_str (&rows, "alias");
    mp_put_array (&rows, 2);
    mp_put_str (&rows, "/d/:id");
    mp_put_str (&rows, "PUT /c");
    mp_put_map (&rows, 1);
    mp_pair_str (&rows, "method", "c.inside");
    router_t *router = router_new (), *second = router_ref (router);
    assert_int_equal (router_add (router, "c", mp_buf (&rows)), 0);
    buf_free (&rows);
    check (router, VERB_POST, "/d/5", "c.x", "5");
    check (router, VERB_PUT, "/c", "c.x", NULL);
    assert_non_null (router_method (router, TEXT ("c.inside")));
    assert_null (router_method (router, TEXT ("c.none")));
    router_drop (&router);
    assert_int_equal (router_size (second), 4);
    router_drop (&second);
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (test_rows_are_found),
        cmocka_unit_test (test_literals_win_and_fall_back),
        cmocka_unit_test (test_verbs_of_a_path_are_collected),
        cmocka_unit_test (test_bad_rows_are_refused_and_unknown_auth_is_not_open),
        cmocka_unit_test (test_aliases_and_methods)
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
