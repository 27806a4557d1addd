//  test_http_rules.c -- header rules, forms, multipart.

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "edge/multipart.c"
#include "edge/rules.c"

static void
test_lengths (void **state)
{
    (void) state;
    uint64_t value = 7;
    static const char *const bad [] = {
        "", " ", "-1", "+1", "5,6", "5abc", "0x5", "1 2", "12345678901", "5 ", "\t5" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false (length_parse (text_of (bad [i]), &value));
    assert_int_equal (value, 7);
    assert_true (length_parse (TEXT ("0"), &value) && value == 0);
    assert_true (length_parse (TEXT ("9999999999"), &value) && value == 9999999999u);
    assert_true (length_parse (TEXT ("007"), &value) && value == 7);
}

static void
test_media_types (void **state)
{
    (void) state;
    assert_int_equal (body_kind_of (""), BODY_JSON);
    assert_int_equal (body_kind_of ("application/json; charset=utf-8"), BODY_JSON);
    assert_int_equal (body_kind_of ("Application/JSON"), BODY_JSON);
    assert_int_equal (body_kind_of ("application/merge-patch+json"), BODY_JSON);
    assert_int_equal (body_kind_of ("application/jsonx"), BODY_NONE);
    assert_int_equal (body_kind_of ("application/x-www-form-urlencoded"), BODY_FORM);
    assert_int_equal (body_kind_of ("multipart/form-data; boundary=x"), BODY_MULTIPART);
    assert_int_equal (body_kind_of ("text/plain"), BODY_NONE);
}

static void
test_boundaries (void **state)
{
    (void) state;
    char out [80];
    assert_true (boundary_parse ("multipart/form-data; boundary=abc; x=y", out, sizeof out));
    assert_string_equal (out, "abc");
    assert_true (boundary_parse ("multipart/form-data; Boundary=\"a b;c\"", out, sizeof out));
    assert_string_equal (out, "a b;c");
    assert_false (boundary_parse ("multipart/form-data; boundary=", out, sizeof out));
    assert_false (boundary_parse ("multipart/form-data; boundary=\"a", out, sizeof out));
    assert_false (boundary_parse ("multipart/form-data", out, sizeof out));
    char large [200] = "multipart/form-data; boundary=";
    memset (large + 30, 'x', 71);
    large [101] = 0;
    assert_false (boundary_parse (large, out, sizeof out));
}

static void
test_accept (void **state)
{
    (void) state;
    assert_true (accepts_gzip ("gzip"));
    assert_true (accepts_gzip ("br, gzip;q=0.2"));
    assert_false (accepts_gzip ("gzip;q=0"));
    assert_false (accepts_gzip ("gzip;q=0.000, br"));
    assert_false (accepts_gzip ("br"));
    assert_false (accepts_gzip ("gzipped"));
    assert_true (accepts_html ("text/html,application/xhtml+xml,*/*;q=0.8"));
    assert_false (accepts_html ("application/json, text/html"));
    assert_false (accepts_html ("*/*"));
}

static void
test_etags (void **state)
{
    (void) state;
    assert_true (etag_matches ("\"a\"", TEXT ("\"a\"")));
    assert_true (etag_matches ("W/\"a\"", TEXT ("\"a\"")));
    assert_true (etag_matches ("\"x\", \"a\" ,\"z\"", TEXT ("W/\"a\"")));
    assert_true (etag_matches ("*", TEXT ("\"a\"")));
    assert_false (etag_matches ("\"ab\"", TEXT ("\"a\"")));
    assert_false (etag_matches ("", TEXT ("\"a\"")));
}

static void
test_traces_and_ids (void **state)
{
    (void) state;
    assert_true (trace_valid ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    assert_false (trace_valid ("00-00000000000000000000000000000000-b7ad6b7169203331-01"));
    assert_false (trace_valid ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"));
    assert_false (trace_valid ("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    assert_false (trace_valid (""));
    assert_true (request_id_valid ("abc-1.2_3"));
    assert_false (request_id_valid (""));
    assert_false (request_id_valid ("a b"));
    assert_false (request_id_valid ("a\"b"));
    assert_false (request_id_valid ("0123456789012345678901234567890123456789"));
}

static void
test_paths (void **state)
{
    (void) state;
    assert_true (path_valid (TEXT ("/a/\xc3\xa4")));
    assert_false (path_valid (TEXT ("a")));
    assert_false (path_valid (TEXT ("")));
    assert_false (path_valid (TEXT ("/a\nb")));
    assert_false (path_valid ((text_t) { "/a\0b", 4 }));
    assert_false (path_valid (TEXT ("/\xc3(")));
}

static void
test_queries (void **state)
{
    (void) state;
    text_t query = { "a=1\0b\0c=x=y\0=z\0a=2\0", 19 };
    assert_true (text_is (query_get (query, "a"), "1"));
    assert_true (text_is (query_get (query, "c"), "x=y"));
    text_t b = query_get (query, "b");
    assert_true (b.data && b.size == 0);
    assert_null (query_get (query, "none").data);
    size_t at = 0, count = 0;
    for (text_t name, value; query_each (query, &at, &name, &value);)
        count++;
    assert_int_equal (count, 5);
}

static void
test_forms (void **state)
{
    (void) state;
    buf_t out = { 0 };
    assert_true (form_read (TEXT ("a=1&b=x+y%26&&c"), &out));
    mp_t map = mp_buf (&out);
    assert_int_equal (mp_count (map), 3);
    assert_true (text_is (mp_text (mp_get (map, "b")), "x y&"));
    assert_true (text_is (mp_text (mp_get (map, "c")), ""));
    size_t before = out.size;
    assert_false (form_read (TEXT ("a=%zz"), &out));
    assert_false (form_read (TEXT ("a=%4"), &out));
    assert_false (form_read (TEXT ("a=%00"), &out));
    assert_false (form_read (TEXT ("a=%ff"), &out));
    assert_int_equal (out.size, before);
    buf_free (&out);
}

//  ---------------------------------------------------------------- multipart, written down as a
//  text

static void
write_part (void *arg, text_t name, text_t filename, text_t type)
{
    buf_putf (arg, "[%.*s|%.*s|%.*s:", (int) name.size, name.data, (int) filename.size,
              filename.data ? filename.data : "", (int) type.size, type.data);
}

static void
write_data (void *arg, text_t data)
{
    buf_put (arg, data.data, data.size);
}

static void
write_end (void *arg)
{
    buf_putc (arg, ']');
}

//  Feed in pieces of `step` bytes; the outcome, "!" in front when malformed, "?" when not whole.
static void
feed (const char *form, size_t size, size_t step, const char *want)
{
    buf_t out = { 0 };
    multipart_sink_t sink = { write_part, write_data, write_end, &out };
    multipart_t *parser = multipart_new ("B", &sink);
    bool good = true;
    for (size_t at = 0; good && at < size; at += step)
        good = multipart_feed (parser, (text_t) { form + at, size - at < step ? size - at : step });
    buf_puts (&out, !good ? "!" : multipart_whole (parser) ? "" : "?");
    buf_putc (&out, 0);
    assert_string_equal ((char *) out.data, want);
    multipart_destroy (&parser);
    buf_free (&out);
}

static void
feed_all (const char *form, const char *want)
{
    size_t size = strlen (form);
    for (size_t step = 1; step <= size; step++)
        feed (form, size, step, want);
}

#define FIELD "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n"

static void
test_multipart (void **state)
{
    (void) state;
    feed_all (FIELD "1\r\n--B--\r\n", "[a||:1]");
    feed_all (FIELD "\r\n--B--", "[a||:]");
    feed_all ("preamble\r\n" FIELD "1\r\n" FIELD "2\r\n--B--\r\nepilogue", "[a||:1][a||:2]");
    feed_all ("--B\r\nContent-Disposition: form-data; name=f; filename=\"x \\\"y\\\".txt\"\r\n"
              "Content-Type: text/plain\r\n\r\nab\r\n--\r\n-B\r\n--B--",
              "[f|x \"y\".txt|text/plain:ab\r\n--\r\n-B]");
    feed_all (FIELD "1\r\n--Bxy", "[a||:1]!");
    feed_all (FIELD "1", "[a||:?");
    feed_all ("--B\r\nnothing", "?");
    feed_all ("--B--", "");
    feed_all ("--B\r\n\r\nx\r\n--B--", "[||:x]");
}

static void
test_a_part_header_without_end_is_bounded (void **state)
{
    (void) state;
    buf_t form = { 0 };
    buf_puts (&form, "--B\r\nX: ");
    for (size_t i = 0; i < 10000; i++)
        buf_putc (&form, 'x');
    feed ((char *) form.data, form.size, 4096, "!");
    buf_free (&form);
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (test_lengths), cmocka_unit_test (test_media_types),
        cmocka_unit_test (test_boundaries), cmocka_unit_test (test_accept),
        cmocka_unit_test (test_etags), cmocka_unit_test (test_traces_and_ids),
        cmocka_unit_test (test_paths), cmocka_unit_test (test_queries),
        cmocka_unit_test (test_forms), cmocka_unit_test (test_multipart),
        cmocka_unit_test (test_a_part_header_without_end_is_bounded)
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
