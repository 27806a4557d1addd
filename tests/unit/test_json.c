//  test_json.c -- strict reading, exact writing, and there and back again.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proto/json.h"

static char s_error [256];

//  Parse and write again; NULL when refused. The text is good until the next call.
static const char *
again (const char *json, size_t size)
{
    static buf_t out;
    buf_t mp = { 0 };
    //  Memory of that very size, so that a sanitizer sees an overrun.
    char *copy = malloc (size ? size : 1);
    memcpy (copy, json, size);
    bool good = json_read ((text_t) { copy, size }, &mp, s_error, sizeof s_error);
    free (copy);
    buf_clear (&out);
    if (good) {
        assert_int_equal (mp_valid (mp.data, mp.size, MP_DEPTH), mp.size);
        json_write (mp_buf (&mp), &out);
        buf_putc (&out, 0);
    }
    else
        assert_int_equal (mp.size, 0);
    buf_free (&mp);
    return good ? (const char *) out.data : NULL;
}

#define AGAIN(literal) again ((literal), sizeof (literal) - 1)

static void
values_come_back (void **state)
{
    (void) state;
    static const char *const same [] = {
        "null", "true", "false", "0", "-1", "127", "9223372036854775807", "-9223372036854775808",
        "0.1", "-2.5", "-0.05", "12.050001", "999999999.999999", "0.0001", "1e-05",
        "1000000000.5", "0.1234567", "1e+300", "5e-324", "1.7976931348623157e+308",
        "0.30000000000000004",
        "\"\"", "\"a\\\"b\\\\c\\n\\t\\u0001\"", "\"caf\xc3\xa9 \xf0\x9f\x98\x80\"", "[]", "{}",
        "[1,[2,[3]],{\"a\":{\"b\":[]}}]", "{\"b\":1,\"a\":2,\"\":3}" };
    for (size_t n = 0; n < sizeof same / sizeof *same; n++) {
        const char *back = again (same [n], strlen (same [n]));
        assert_non_null (back);
        assert_string_equal (back, same [n]);
    }
    assert_string_equal (AGAIN (" [ 1 , 2 ] "), "[1,2]");
    assert_string_equal (AGAIN ("\"\\u00e9\\ud83d\\ude00\\/\""), "\"\xc3\xa9\xf0\x9f\x98\x80/\"");
    assert_string_equal (AGAIN ("1.0"), "1");
    assert_string_equal (AGAIN ("-0.0"), "-0.0");
    assert_string_equal (AGAIN ("1e15"), "1e+15");
}

static void
empty_is_nil (void **state)
{
    (void) state;
    assert_string_equal (again ("", 0), "null");
}

static void
bad_json_is_refused (void **state)
{
    (void) state;
    static const struct { const char *text; size_t size; } bad [] = {
#define BAD(literal) { literal, sizeof (literal) - 1 }
        BAD ("{\"a\":1,\"a\":2}"), BAD ("{\"x\":{\"a\":1,\"\\u0061\":2}}"), BAD ("\"\\ud800\""),
        BAD ("\"\\udc00\""), BAD ("\"\\ud800\\u0041\""), BAD ("\"\\u0000\""),
        BAD ("{\"\\u0000\":1}"),
        BAD ("\"a\0b\""), BAD ("\"\xff\""), BAD ("\"\xc3\""), BAD ("\"\xed\xa0\x80\""), BAD ("NaN"),
        BAD ("Infinity"), BAD ("-Infinity"), BAD ("1e400"), BAD ("9223372036854775808"),
        BAD ("-9223372036854775809"), BAD ("01"), BAD ("+1"), BAD (".5"), BAD ("1."), BAD ("0x10"),
        BAD ("[1,]"), BAD ("{\"a\":1,}"), BAD ("{a:1}"), BAD ("{'a':1}"),
        BAD ("[1 2]"), BAD ("1 2"),
        BAD ("{}x"), BAD ("[]\0"), BAD ("\xef\xbb\xbf[]"), BAD ("\"a\nb\""), BAD ("\"\\x41\""),
        BAD ("tru"), BAD ("nul"), BAD ("["), BAD ("{"), BAD ("\""), BAD ("]"), BAD ("{\"a\"}"),
        BAD ("//\n1"), BAD (" ") };
    for (size_t n = 0; n < sizeof bad / sizeof *bad; n++) {
        s_error [0] = 0;
        const char *back = again (bad [n].text, bad [n].size);
        if (back)
            fail_msg ("%s was taken as %s", bad [n].text, back);
        assert_true (strlen (s_error) > 10 && text_utf8 (text_of (s_error)));
    }
    assert_null (AGAIN ("{\"a\":1,\n\"a\":2}"));
    assert_non_null (strstr (s_error, "line 2"));
    assert_non_null (strstr (s_error, "key \"a\" comes twice"));
}

//  What the user reads says where and what, in words of ours.
static void
errors_say_what_is_wrong (void **state)
{
    (void) state;
    static const struct { const char *json, *says; } bad [] = {
        { "NaN", "line 1, column 3: no json value" }, { "[Infinity]", "no json value" },
        { "\xef\xbb\xbf{}", "byte order mark" }, { "{} x", "something follows the value" },
        { "\"\\ud800\"", "surrogate" }, { "\"\\udc00x\"", "surrogate" },
        { "\"\\u0000\"", "may not hold \\u0000" }, { "{\"a\\u0000\":1}", "may not hold \\u0000" },
        { "1e400", "too large" }, { "[123456789012345678901]", "too large" },
        { "\"\xff\"", "not utf-8" }, { "\"\xc0\xaf\"", "not utf-8" },
        { "\"a\tb\"", "control character" },
        { "\"\\q\"", "unknown escape" }, { "[1", "ends too early" }, { "{\"a\":1,}", "a key or }" },
        { "{\"a\" 1}", "\":\" is missing" }, { "[1 2]", ", or ]" },
        { "{\"a\":{\"b\\\"\":1,\"b\\\"\":2}}", "key \"b\\\"\" comes twice" },
        { "{\"\":1,\"\":2}", "key \"\" comes twice" },
        { "{\"a\":1,\"\\u0061\":2}", "key \"\\u0061\" comes twice" } };
    for (size_t n = 0; n < sizeof bad / sizeof *bad; n++) {
        assert_null (again (bad [n].json, strlen (bad [n].json)));
        if (!strstr (s_error, bad [n].says))
            fail_msg ("%s: %s", bad [n].json, s_error);
    }
    //  A long key is cut, but not inside of a character.
    char json [400] = "{";
    for (int key = 0; key < 2; key++) {
        strcat (json, key ? ",\"x" : "\"x");
        for (int n = 0; n < 60; n++)
            strcat (json, "\xc3\xa4");
        strcat (json, "\":1");
    }
    assert_null (again (json, strlen (json)));
    assert_true (text_utf8 (text_of (s_error)));
    assert_non_null (strstr (s_error, "\xc3\xa4\" comes twice"));
}

static void
depth_is_bounded (void **state)
{
    (void) state;
    char nest [2 * 65 + 1];
    for (size_t depth = 64; depth <= 65; depth++) {
        memset (nest, '[', depth);
        memset (nest + depth, ']', depth);
        assert_int_equal (again (nest, 2 * depth) != NULL, depth == 64);
    }
    size_t size = 200000;
    char *many = malloc (size);
    for (const char *bracket = "[{"; *bracket; bracket++) {
        memset (many, *bracket, size);
        assert_null (again (many, size));
        assert_non_null (strstr (s_error, "deeper"));
    }
    //  Brackets in strings are no depth, behind an escaped quote too.
    memset (many, '[', size);
    many [0] = '"', many [1] = '\\', many [2] = '"', many [size - 1] = '"';
    assert_non_null (again (many, size));
    free (many);
}

static const char *
written (const char *bytes, size_t size)
{
    static buf_t out;
    buf_clear (&out);
    assert_int_equal (mp_valid (bytes, size, MP_DEPTH), size);
    json_write (mp_of (bytes, size), &out);
    buf_putc (&out, 0);
    return (const char *) out.data;
}

#define WRITTEN(literal) written ((literal), sizeof (literal) - 1)

static void
writer_knows_what_json_lacks (void **state)
{
    (void) state;
    assert_string_equal (WRITTEN ("\xc7\x0f\x01{\"ready\":[1,2]}"), "{\"ready\":[1,2]}");
    assert_string_equal (WRITTEN ("\x92\xd4\x01" "7\xc7\x00\x01"), "[7,null]");
    assert_string_equal (WRITTEN ("\xd4\x05x"), "null");
    assert_string_equal (WRITTEN ("\xc4\x02\xfb\xff"), "\"+/8=\"");
    assert_string_equal (WRITTEN ("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), "18446744073709551615");
    assert_string_equal (WRITTEN ("\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"), "null");
    assert_string_equal (WRITTEN ("\xcb\xff\xf0\x00\x00\x00\x00\x00\x00"), "null");
    assert_string_equal (WRITTEN ("\x83\x07\xa1x\xc3\x01\x90\x02"), "{\"7\":\"x\",\"true\":1}");
    assert_string_equal (WRITTEN ("\x82\x80\x01\xd4\x01x\x02"), "{}");
    buf_t out = { 0 };
    json_write (mp_none, &out);
    assert_true (text_is (buf_text (&out), "null"));
    buf_free (&out);
}

static void
reals_print_shortest_and_read_back (void **state)
{
    (void) state;
    uint64_t bits = 0x9e3779b97f4a7c15u;
    buf_t mp = { 0 }, json = { 0 }, back = { 0 };
    for (int n = 0; n < 100000; n++) {
        bits = bits * 6364136223846793005u + 1442695040888963407u;
        double real, got;
        memcpy (&real, &bits, sizeof real);
        if (n % 2)
            real = (double) (int64_t) (bits >> 20) / 100;
        if (!isfinite (real))
            continue;
        buf_clear (&mp), buf_clear (&json), buf_clear (&back);
        mp_put_real (&mp, real);
        json_write (mp_buf (&mp), &json);
        assert_true (json_read (buf_text (&json), &back, s_error, sizeof s_error));
        assert_true (mp_real_get (mp_buf (&back), &got) && got == real);
    }
    buf_free (&mp), buf_free (&json), buf_free (&back);
}

static void
every_byte_is_quoted_right (void **state)
{
    (void) state;
    for (unsigned byte = 1; byte < 128; byte++) {
        char text [20] = "before ? after";
        text [7] = (char) byte;
        buf_t json = { 0 }, back = { 0 };
        json_quote (text_of (text), &json);
        assert_true (json_read (buf_text (&json), &back, s_error, sizeof s_error));
        assert_true (text_is (mp_text (mp_buf (&back)), text));
        buf_free (&json), buf_free (&back);
    }
}

static void
ready_json_becomes_plain (void **state)
{
    (void) state;
    buf_t buf = { 0 }, room = { 0 }, text = { 0 };
    mp_put_map (&buf, 2);
    mp_pair_int (&buf, "n", 1);
    mp_put_str (&buf, "doc"), mp_put_ext (&buf, MP_EXT_JSON, "{\"a\":[1,{}]}", 12);
    mp_t plain = json_plain (mp_buf (&buf), &room);
    assert_true (mp_plain (plain) && !mp_plain (mp_buf (&buf)));
    json_write (plain, &text);
    assert_true (text_is (buf_text (&text), "{\"n\":1,\"doc\":{\"a\":[1,{}]}}"));
    assert_ptr_equal (json_plain (plain, &text).data, plain.data);
    assert_true (mp_is_none (json_plain (mp_none, &room)));
    buf_free (&buf), buf_free (&room), buf_free (&text);
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (values_come_back),
        cmocka_unit_test (empty_is_nil),
        cmocka_unit_test (bad_json_is_refused),
        cmocka_unit_test (errors_say_what_is_wrong),
        cmocka_unit_test (depth_is_bounded),
        cmocka_unit_test (writer_knows_what_json_lacks),
        cmocka_unit_test (reals_print_shortest_and_read_back),
        cmocka_unit_test (every_byte_is_quoted_right),
        cmocka_unit_test (ready_json_becomes_plain),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
