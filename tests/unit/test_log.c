//  test_log.c -- what a line looks like, whatever is in its values.

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "proto/log.h"

//  Run the statement with stderr going into a pipe; what came out is in `line`, terminated.
static char s_line [16384];
static int s_ends [2], s_saved;

static void
catch_start (void)
{
    assert_int_equal (pipe (s_ends), 0);
    s_saved = dup (2);
    dup2 (s_ends [1], 2);
    close (s_ends [1]);
}

static void
catch_end (void)
{
    dup2 (s_saved, 2);
    close (s_saved);
    ssize_t size = read (s_ends [0], s_line, sizeof s_line - 1);
    s_line [size > 0 ? size : 0] = 0;
    close (s_ends [0]);
}

#define CAUGHT(statement) ({ catch_start (); statement; catch_end (); s_line; })

//  The line behind its time.
static const char *
rest (const char *line)
{
    static const char form [] = "t=0000-00-00T00:00:00.000Z ";
    assert_true (strlen (line) > sizeof form);
    for (size_t n = 0; form [n]; n++)
        assert_true (form [n] == '0' ? line [n] >= '0' && line [n] <= '9' : line [n] == form [n]);
    return line + sizeof form - 1;
}

static void
a_line_is_logfmt (void **state)
{
    (void) state;
    log_open ("clusters", LOG_INFO);
    assert_string_equal (rest (CAUGHT (log_info ("started", "req", "8f2c", "none", NULL, "n",
                                                 log_num (-42)))),
                         "level=info actor=clusters msg=started req=8f2c n=-42\n");
    assert_string_equal (rest (CAUGHT (log_warn ("two words"))),
                         "level=warn actor=clusters msg=\"two words\"\n");
}

static void
values_cannot_forge_lines (void **state)
{
    (void) state;
    log_open ("a", LOG_INFO);
    assert_string_equal (
        rest (CAUGHT (log_error ("m", "v", "x\nt=fake \"q\" \\ \x01\x7f", "e", "", "k", "a=b"))),
        "level=error actor=a msg=m v=\"x\\nt=fake \\\"q\\\" \\\\ \\x01\\x7f\" e=\"\" k=\"a=b\"\n");
    assert_string_equal (rest (CAUGHT (log_error ("m", "good", "\xc3\xa9", "bad", "\xc3("))),
                         "level=error actor=a msg=m good=\"\xc3\xa9\" bad=\"\\xc3(\"\n");
}

static void
long_values_are_cut_between_letters (void **state)
{
    (void) state;
    static char value [6001];
    for (int n = 0; n < 6000; n += 3)
        memcpy (value + n, "\xe2\x82\xac", 3);
    const char *line = CAUGHT (log_info ("m", "v", value));
    assert_true (text_utf8 (text_of (line)));
    assert_in_range (strlen (line), 2040, 2120);
}

static void
levels_are_heard (void **state)
{
    (void) state;
    log_open ("a", log_level_by_name ("warn"));
    assert_string_equal (CAUGHT (log_info ("quiet")), "");
    assert_string_equal (CAUGHT (log_debug ("quiet")), "");
    assert_false (log_on (LOG_DEBUG));
    assert_int_equal (log_level_by_name ("debug"), LOG_DEBUG);
    assert_int_equal (log_level_by_name ("loud"), LOG_INFO);
    assert_int_equal (log_level_by_name (NULL), LOG_INFO);
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (a_line_is_logfmt),
        cmocka_unit_test (values_cannot_forge_lines),
        cmocka_unit_test (long_values_are_cut_between_letters),
        cmocka_unit_test (levels_are_heard),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
