//  test_statement_text.c -- statements as text: parameters found, kinds told; rows as JSON and CSV.

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

//  Before cmocka, which has a fail of its own.
#include "actors/platform/engine.h"
#include "actors/platform/lines.h"
#include "actors/platform/sqltext.h"

#include <cmocka.h>

static void
s_is (buf_t *buf, const char *expected)
{
    buf_putc (buf, 0);
    assert_string_equal ((char *) buf->data, expected);
    buf_clear (buf);
}

static void
marks_stand_outside_of_texts (void **state)
{
    (void) state;
    static const struct { const char *sql, *out; int count, order [4]; } cases [] = {
        { "SELECT $1, $2, $1", "SELECT ?, ?, ?", 3, { 0, 1, 0 } },
        { "SELECT '$1', \"$2\", `$1` -- $1", "SELECT '$1', \"$2\", `$1` -- $1", 0, { 0 } },
        { "SELECT /* $1 /* $2 */ $1 */ $2", "SELECT /* $1 /* $2 */ $1 */ ?", 1, { 1 } },
        { "SELECT $$ $1 $$, $a$ $$ $1 $a$, $2", "SELECT $$ $1 $$, $a$ $$ $1 $a$, ?", 1, { 1 } },
        { "SELECT E'\\'$1', 'it''s $1', $1", "SELECT E'\\'$1', 'it''s $1', ?", 1, { 0 } },
        { "SELECT a$1, $1::int", "SELECT a$1, ?::int", 1, { 0 } },
        { "SELECT '$1", "SELECT '$1", 0, { 0 } },
        { "SELECT $3", NULL, -1, { 0 } },
        { "SELECT $0", NULL, -1, { 0 } } };
    buf_t out = { 0 };
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        int order [4] = { 0 };
        int count = engine_marks (cases [n].sql, "?", 2, &out, order, 4);
        assert_int_equal (count, cases [n].count);
        if (count < 0) {
            buf_clear (&out);
            continue;
        }
        s_is (&out, cases [n].out);
        assert_memory_equal (order, cases [n].order, sizeof order);
    }
    buf_free (&out);
}

static int
s_number (void *arg, text_t name)
{
    (void) arg;
    return text_is (name, "a") ? 1 : text_is (name, "b_2") ? 2 : 0;
}

static void
names_become_numbers (void **state)
{
    (void) state;
    buf_t out = { 0 };
    text_t unknown = { 0 };
    assert_true (sql_name_marks ("SELECT :a, x::text, ':a', t[1:2], t[n:a], :b_2 -- :a", s_number,
                                 NULL, &out, &unknown));
    s_is (&out, "SELECT $1, x::text, ':a', t[1:2], t[n:a], $2 -- :a");
    assert_false (sql_name_marks ("SELECT :a, :c", s_number, NULL, &out, &unknown));
    assert_true (text_is (unknown, "c"));
    buf_free (&out);
}

static void
reading_is_told_from_writing (void **state)
{
    (void) state;
    assert_true (sql_is_read ("SELECT 'into' AS \"delete\" -- insert"));
    assert_true (sql_is_read ("  (VALUES (1))"));
    assert_true (sql_is_read ("WITH a AS (SELECT 1) SELECT * FROM a"));
    assert_false (sql_is_read ("WITH a AS (INSERT INTO t VALUES (1) RETURNING 1) SELECT * FROM a"));
    assert_false (sql_is_read ("SELECT 1 INTO t"));
    assert_false (sql_is_read ("EXPLAIN ANALYZE DELETE FROM t"));
    assert_false (sql_is_read ("WITH d AS (DELETE FROM t RETURNING 1) SELECT * FROM d"));
    assert_false (sql_is_read ("SELECT nextval ('s')"));
    assert_false (sql_names_tables ("SELECT 'from' AS \"into\", from_a + 1 -- table"));
    assert_true (sql_names_tables ("SELECT 1 FROM(VALUES (1)) v"));
    assert_true (sql_names_tables ("TABLE t"));
    assert_int_equal (sql_trim (TEXT ("SELECT 1 ; \n;")).size, 8);
    assert_int_equal (sql_trim (TEXT (" ;")).size, 0);
}

static void
a_row_becomes_an_object (void **state)
{
    (void) state;
    static const text_t keys [] = { { "\"a\":", 4 }, { "\"b\":", 4 }, { "\"c\":", 4 } };
    text_t rest = TEXT ("[1,\"x,]\\\"\",{\"k\":[1,2]}]\n[null,true,[]]\n"), line, values [3];
    buf_t out = { 0 };
    assert_true (line_next (&rest, &line));
    assert_int_equal (line_values (line, values, 3), 3);
    assert_true (text_is (values [1], "\"x,]\\\"\""));
    line_object (line, keys, 3, &out);
    s_is (&out, "{\"a\":1,\"b\":\"x,]\\\"\",\"c\":{\"k\":[1,2]}}");
    assert_true (line_next (&rest, &line));
    line_object (line, keys, 3, &out);
    s_is (&out, "{\"a\":null,\"b\":true,\"c\":[]}");
    assert_false (line_next (&rest, &line));
    assert_int_equal (line_values (TEXT ("[]"), values, 3), 0);
    buf_free (&out);
}

static void
a_row_becomes_csv (void **state)
{
    (void) state;
    buf_t out = { 0 };
    line_csv (TEXT ("[1,null,\"\",\"a,b\",\"say \\\"hi\\\"\",\"x\\ny\","
                    "\"\\u00fc\\ud83d\\ude00\"]"), &out);
    s_is (&out, "1,,\"\",\"a,b\",\"say \"\"hi\"\"\",\"x\ny\",\xc3\xbc\xf0\x9f\x98\x80\r\n");
    //  A number may begin with a sign, a text that does is no formula any more.
    line_csv (TEXT ("[-1,\"-1\",\"=A1\",\"@x\",{\"a\":1},true]"), &out);
    s_is (&out, "-1,\"'-1\",\"'=A1\",\"'@x\",\"{\"\"a\"\":1}\",true\r\n");
    buf_free (&out);
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (marks_stand_outside_of_texts),
        cmocka_unit_test (names_become_numbers),
        cmocka_unit_test (reading_is_told_from_writing),
        cmocka_unit_test (a_row_becomes_an_object),
        cmocka_unit_test (a_row_becomes_csv),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
