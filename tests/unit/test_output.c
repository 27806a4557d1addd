//  test_output.c -- events and notebook outputs of a cell, from messages as kernels send them.

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "actors/kernels/output.h"
#include "proto/json.h"

static buf_t s_events;

static void
on_event (void *arg, const char *type, text_t data)
{
    (void) arg;
    buf_putf (&s_events, "%s %.*s\n", type, (int) data.size, data.data);
}

static bool
s_add (output_t *output, const char *type, const char *content)
{
    char why [128];
    buf_t packed = { 0 };
    assert_true (json_read (text_of (content), &packed, why, sizeof why));
    bool full = output_full (output, text_of (type), strlen (content));
    if (!full)
        output_add (output, text_of (type), mp_buf (&packed));
    buf_free (&packed);
    return !full;
}

static const char *
s_flush (output_t *output)
{
    buf_clear (&s_events);
    output_flush (output, on_event, NULL);
    buf_putc (&s_events, 0);
    return (const char *) s_events.data;
}

static void
s_expect_notebook (output_t *output, const char *expected)
{
    buf_t json = { 0 };
    output_notebook (output, &json);
    buf_putc (&json, 0);
    assert_string_equal ((const char *) json.data, expected);
    buf_free (&json);
}

static void
test_streams_go_together (void **state)
{
    (void) state;
    output_t *output = output_new (1 << 20);
    s_add (output, "stream", "{\"name\":\"stdout\",\"text\":\"a\"}");
    s_add (output, "stream", "{\"name\":\"stderr\",\"text\":\"x\"}");
    s_add (output, "stream", "{\"name\":\"stdout\",\"text\":\"b\\n\"}");
    assert_string_equal (s_flush (output), "stream {\"name\":\"stdout\",\"text\":\"ab\\n\"}\n"
                         "stream {\"name\":\"stderr\",\"text\":\"x\"}\n");
    s_add (output, "stream", "{\"name\":\"stderr\",\"text\":\"y\"}");
    assert_string_equal (s_flush (output), "stream {\"name\":\"stderr\",\"text\":\"y\"}\n");
    assert_string_equal (s_flush (output), "");
    s_expect_notebook (output,
                       "[{\"output_type\":\"stream\",\"name\":\"stdout\",\"text\":\"ab\\n\"},"
                       "{\"output_type\":\"stream\",\"name\":\"stderr\",\"text\":\"xy\"}]");
    output_destroy (&output);
}

static void
test_displays_are_updated (void **state)
{
    (void) state;
    output_t *output = output_new (1 << 20);
    s_add (
        output, "display_data",
        "{\"data\":{\"text/plain\":\"1\"},\"metadata\":{},\"transient\":{\"display_id\":\"d\"}}");
    s_add (
        output, "update_display_data",
        "{\"data\":{\"text/plain\":\"2\"},\"metadata\":{},\"transient\":{\"display_id\":\"d\"}}");
    assert_string_equal (
        s_flush (output),
        "display_data {\"data\":{\"text/plain\":\"2\"},\"metadata\":{},\"display_id\":\"d\"}\n");
    for (int n = 0; n < 1000; n++)
        s_add (output, "update_display_data",
               "{\"data\":{\"text/"
               "plain\":\"3\"},\"metadata\":{},\"transient\":{\"display_id\":\"d\"}}");
    assert_string_equal (
        s_flush (output),
        "update_display_data "
        "{\"data\":{\"text/plain\":\"3\"},\"metadata\":{},\"display_id\":\"d\"}\n");
    s_expect_notebook (
        output,
        "[{\"output_type\":\"display_data\",\"data\":{\"text/plain\":\"3\"},\"metadata\":{}}]");
    assert_true (output_has_display (output, TEXT ("d")));
    assert_false (output_has_display (output, TEXT ("e")));
    output_destroy (&output);
}

static void
test_clearing (void **state)
{
    (void) state;
    output_t *output = output_new (1 << 20);
    for (int n = 0; n < 100; n++) {
        s_add (output, "stream", "{\"name\":\"stdout\",\"text\":\"tick\"}");
        s_add (output, "clear_output", "{\"wait\":true}");
    }
    assert_string_equal (
        s_flush (output),
        "clear_output {\"wait\":true}\n"
        "stream {\"name\":\"stdout\",\"text\":\"tick\"}\nclear_output {\"wait\":true}\n");
    //  It is shown until something replaces it.
    s_expect_notebook (output,
                       "[{\"output_type\":\"stream\",\"name\":\"stdout\",\"text\":\"tick\"}]");
    s_add (output, "stream", "{\"name\":\"stdout\",\"text\":\"tock\"}");
    s_flush (output);
    s_expect_notebook (output,
                       "[{\"output_type\":\"stream\",\"name\":\"stdout\",\"text\":\"tock\"}]");
    s_add (output, "clear_output", "{\"wait\":false}");
    assert_string_equal (s_flush (output), "clear_output {\"wait\":false}\n");
    s_expect_notebook (output, "[]");
    output_destroy (&output);
}

static void
test_output_is_limited_but_errors_are_told (void **state)
{
    (void) state;
    output_t *output = output_new (1000);
    size_t taken = 0;
    while (s_add (output, "display_data",
                  "{\"data\":{\"text/plain\":\"1234567890\"},\"metadata\":{}}"))
        taken++;
    assert_in_range (taken, 3, 8);
    assert_true (output_truncated (output));
    assert_false (s_add (output, "stream", "{\"name\":\"stdout\",\"text\":\"x\"}"));
    assert_true (output_dropped (output) > 0);
    assert_true (
        s_add (output, "error", "{\"ename\":\"E\",\"evalue\":\"v\",\"traceback\":[\"t\",5]}"));
    assert_non_null (strstr (s_flush (output),
                             "error {\"ename\":\"E\",\"evalue\":\"v\",\"traceback\":[\"t\",\"\"]}\n"
                             "truncated {\"limit\":1000}\n"));
    assert_string_equal (s_flush (output), "");
    size_t errors = 0;
    while (errors < 100000 && s_add (output, "error", "{\"ename\":\"E\"}"))
        errors++;
    assert_true (errors < 100000);
    output_destroy (&output);
}

static void
test_nonsense_is_shown_as_nothing_worse (void **state)
{
    (void) state;
    output_t *output = output_new (1 << 20);
    s_add (output, "error", "{}");
    s_add (output, "display_data", "{\"data\":5,\"metadata\":[],\"transient\":\"x\"}");
    s_add (output, "stream", "{\"text\":{}}");
    s_add (output, "update_display_data", "{}");
    s_add (output, "comm_open", "{}");
    s_flush (output);
    buf_t json = { 0 }, packed = { 0 };
    char why [128];
    output_notebook (output, &json);
    assert_true (json_read (buf_text (&json), &packed, why, sizeof why));
    assert_int_equal (mp_count (mp_buf (&packed)), 3);
    buf_free (&json);
    buf_free (&packed);
    output_destroy (&output);
}

static void
test_long_streams_are_cut_between_characters (void **state)
{
    (void) state;
    output_t *output = output_new (8 << 20);
    buf_t json = { 0 };
    buf_puts (&json, "{\"name\":\"stdout\",\"text\":\"a");
    for (int n = 0; n < 400000; n++)
        buf_puts (&json, "\xe2\x82\xac");
    buf_puts (&json, "\"}");
    buf_putc (&json, 0);
    s_add (output, "stream", (const char *) json.data);
    assert_true (text_utf8 (text_of (s_flush (output))));
    assert_non_null (strstr ((const char *) s_events.data + 10, "stream"));
    buf_free (&json);
    output_destroy (&output);
}

static void
test_plain_text_is_for_people (void **state)
{
    (void) state;
    output_t *output = output_new (1 << 20);
    s_add (output, "stream", "{\"name\":\"stdout\",\"text\":\"hello\"}");
    s_add (output, "execute_result",
           "{\"data\":{\"text/plain\":\"42\",\"text/"
           "html\":\"<b>\"},\"metadata\":{},\"execution_count\":3}");
    s_flush (output);
    buf_t text = { 0 };
    output_text (output, &text);
    buf_putc (&text, 0);
    assert_string_equal ((const char *) text.data, "hello\n42");
    buf_free (&text);
    output_destroy (&output);
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (test_streams_go_together),
        cmocka_unit_test (test_displays_are_updated),
        cmocka_unit_test (test_clearing),
        cmocka_unit_test (test_output_is_limited_but_errors_are_told),
        cmocka_unit_test (test_nonsense_is_shown_as_nothing_worse),
        cmocka_unit_test (test_long_streams_are_cut_between_characters),
        cmocka_unit_test (test_plain_text_is_for_people),
    };
    int failed = cmocka_run_group_tests (tests, NULL, NULL);
    buf_free (&s_events);
    return failed;
}
