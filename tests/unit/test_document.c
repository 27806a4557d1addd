//  test_document.c -- rows out of JSON and CSV documents, and values as JSON.

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

#include "actors/platform/cell.c"
#include "actors/platform/document.c"

static contact_t s_contact;

bool
contact_fail (contact_t *self, const char *code, const char *format, ...)
{
    va_list args;
    (void) code;
    va_start (args, format);
    vsnprintf (self->error, sizeof self->error, format, args);
    va_end (args);
    return false;
}

static bool
s_take_columns (void *arg, const column_t *columns, int count)
{
    for (int n = 0; n < count; n++)
        buf_putf (arg, "%s%s:%s", n ? "," : "", columns [n].name, columns [n].type);
    buf_putc (arg, '\n');
    return true;
}

static bool
s_take_row (void *arg, const cell_t *cells, int count)
{
    for (int n = 0; n < count; n++) {
        if (n)
            buf_putc (arg, ' ');
        cell_put (arg, &cells [n]);
    }
    buf_putc (arg, '\n');
    return true;
}

//  What a document reads as: columns on the first line, then rows; NULL: the error.
static void
s_reads (const char *document, const char *format, const char *type, const char *wanted)
{
    buf_t out = { 0 };
    const sink_t sink = { s_take_columns, s_take_row, &out };
    s_contact.error [0] = 0;
    bool good = document_read (&s_contact, text_of (document), format, type, &sink);
    buf_putc (&out, 0);
    if (wanted)
        assert_string_equal ((char *) out.data, wanted);
    assert_int_equal (good, wanted != NULL);
    assert_int_equal (s_contact.error [0] != 0, wanted == NULL);
    buf_free (&out);
}

static void
json (void **state)
{
    (void) state;
    s_reads ("[{\"a\":1},{\"a\":2.5,\"b\":\"x\"}]", NULL, "",
             "a:double,b:text\n1 null\n2.5 \"x\"\n");
    s_reads ("{\"n\":1,\"rows\":[{\"a\":[1]},{\"a\":null}]}", NULL, "", "a:json\n[1]\nnull\n");
    s_reads ("{\"a\":true}", NULL, "", "a:boolean\ntrue\n");
    s_reads ("[1,\"x\"]", NULL, "", "value:text\n1\n\"x\"\n");
    s_reads (" {\"a\":1}\r\n\n{\"a\":2}\n", NULL, "", "a:bigint\n1\n2\n");
    s_reads ("[]", NULL, "", "\n");
    s_reads ("[1,", NULL, "", NULL);
    s_reads ("a,b\n1,2", "json", "", NULL);
    s_reads ("[\"\xff\"]", NULL, "", NULL);
}

static void
csv (void **state)
{
    (void) state;
    s_reads ("a,b\n1,\"x,\"\"y\"\"\"\r\n,\n\"\",z", NULL, "",
             "a:text,b:text\n\"1\" \"x,\\\"y\\\"\"\nnull null\n\"\" \"z\"\n");
    s_reads ("\xef\xbb\xbf" "a\n1\n\n2\n", "csv", "", "a:text\n\"1\"\n\"2\"\n");
    s_reads ("a,b\n1\n1,2,3\n", NULL, "text/csv", "a:text,b:text\n\"1\" null\n\"1\" \"2\"\n");
    s_reads ("[a]\n1", NULL, "text/csv", "[a]:text\n\"1\"\n");
    s_reads ("a\n\"line\nbreak\"", NULL, "", "a:text\n\"line\\nbreak\"\n");
    s_reads ("a\n\"open", NULL, "", "a:text\n\"open\"\n");
    s_reads ("", "csv", "", NULL);
}

static void
s_puts (cell_kind_t kind, text_t text, const char *wanted)
{
    buf_t out = { 0 };
    cell_put (&out, &(cell_t) { kind, text });
    buf_putc (&out, 0);
    assert_string_equal ((char *) out.data, wanted);
    buf_free (&out);
}

static void
values (void **state)
{
    (void) state;
    s_puts (CELL_INT, TEXT ("18446744073709551615"), "18446744073709551615");
    s_puts (CELL_REAL, TEXT ("-1.5e-07"), "-1.5e-07");
    s_puts (CELL_REAL, TEXT ("NaN"), "\"NaN\"");
    s_puts (CELL_REAL, TEXT ("-Infinity"), "\"-Infinity\"");
    s_puts (CELL_INT, TEXT ("0007"), "\"0007\"");
    s_puts (CELL_REAL, TEXT ("1."), "\"1.\"");
    s_puts (CELL_TEXT, TEXT ("a\n\"b\""), "\"a\\n\\\"b\\\"\"");
    s_puts (CELL_TEXT, TEXT ("\xff\x01"), "\"\\\\xff01\"");
    s_puts (CELL_BYTES, TEXT ("ab"), "\"\\\\x6162\"");
    s_puts (CELL_JSON, TEXT ("{\"a\":\n1}"), "{\"a\": 1}");
    s_puts (CELL_BOOL, TEXT ("true"), "true");
    s_puts (CELL_NULL, TEXT (""), "null");
}

static void
names (void **state)
{
    (void) state;
    buf_t out = { 0 };
    quote_name (&out, "\"", "a\"; DROP TABLE b; --");
    quote_name (&out, "`", "x`y");
    buf_putc (&out, 0);
    assert_string_equal ((char *) out.data, "\"a\"\"; DROP TABLE b; --\"`x``y`");
    buf_free (&out);
}

int
main (void)
{
    const struct CMUnitTest tests [] = { cmocka_unit_test (json), cmocka_unit_test (csv),
                                         cmocka_unit_test (values), cmocka_unit_test (names) };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
