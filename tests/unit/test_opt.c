//  test_opt.c -- who wins: flags, environment, .env, default; and what is refused.

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "proto/opt.h"

static opt_t s_table [] = {
    { "port", OPT_INT, "8000", 0, "TEST_PORT|TEST_LISTEN", "port to listen on", NULL },
    { "name", OPT_STR, NULL, 0, "TEST_NAME", "a name", NULL },
    { "fast", OPT_BOOL, "false", 0, "TEST_FAST", NULL, NULL },
    { "secret", OPT_STR, "dev", OPT_SECRET, "TEST_SECRET", "signs tokens", NULL },
    { 0 } };

static opt_t s_strict [] = {
    { "url", OPT_STR, NULL, OPT_REQUIRED, "TEST_URL", "where", NULL }, { 0 } };

static int s_argc;
static char *s_argv [12];
static char s_output [8192];

//  Read with these arguments; stdout and stderr go to s_output.
static int
reads (opt_t *table, ...)
{
    va_list args;
    s_argc = 1;
    s_argv [0] = (char *) "/usr/bin/busbar-test";
    va_start (args, table);
    while ((s_argv [s_argc] = va_arg (args, char *)))
        s_argc++;
    va_end (args);
    fflush (stdout);
    int out = dup (1), err = dup (2);
    FILE *file = tmpfile ();
    dup2 (fileno (file), 1);
    dup2 (fileno (file), 2);
    int rc = opt_read (table, &s_argc, s_argv, "busbar-test [options] THING");
    fflush (stdout);
    dup2 (out, 1), dup2 (err, 2), close (out), close (err);
    rewind (file);
    s_output [fread (s_output, 1, sizeof s_output - 1, file)] = 0;
    fclose (file);
    return rc;
}

static int
set_up (void **state)
{
    (void) state;
    static char place [] = "/tmp/opt-XXXXXX";
    static bool made;
    if (!made)
        assert_non_null (mkdtemp (place));
    made = true;
    assert_int_equal (chdir (place), 0);
    unlink (".env");
    static const char *const names []
        = { "TEST_PORT", "TEST_LISTEN", "TEST_NAME", "TEST_FAST", "TEST_SECRET", "TEST_URL" };
    for (size_t n = 0; n < 6; n++)
        unsetenv (names [n]);
    return 0;
}

static int
clean_up (void **state)
{
    (void) state;
    char place [64];
    unlink (".env");
    return getcwd (place, sizeof place) ? rmdir (place) : -1;
}

static void
env_file (const char *text)
{
    FILE *file = fopen (".env", "w");
    fputs (text, file);
    fclose (file);
}

static void
sources_win_in_order (void **state)
{
    (void) state;
    assert_int_equal (reads (s_table, NULL), 0);
    assert_int_equal (opt_int (s_table, "port"), 8000);
    assert_null (opt_str (s_table, "name"));
    assert_false (opt_bool (s_table, "fast"));
    env_file ("TEST_LISTEN=7\n");
    assert_int_equal (reads (s_table, NULL), 0);
    assert_int_equal (opt_int (s_table, "port"), 7);
    setenv ("TEST_LISTEN", "8", 1);
    assert_int_equal (reads (s_table, NULL), 0);
    assert_int_equal (opt_int (s_table, "port"), 8);
    setenv ("TEST_PORT", "9", 1);
    assert_int_equal (reads (s_table, NULL), 0);
    assert_int_equal (opt_int (s_table, "port"), 9);
    setenv ("TEST_PORT", "", 1);
    assert_int_equal (reads (s_table, NULL), 0);
    assert_int_equal (opt_int (s_table, "port"), 8);
    assert_int_equal (reads (s_table, "--port", "10", NULL), 0);
    assert_int_equal (opt_int (s_table, "port"), 10);
    assert_int_equal (reads (s_table, "--port=-11", NULL), 0);
    assert_int_equal (opt_int (s_table, "port"), -11);
}

static void
rest_moves_to_the_front (void **state)
{
    (void) state;
    assert_int_equal (reads (s_table, "call", "--fast", "a=b", "--name", "n", "--", "--port", NULL),
                      0);
    assert_int_equal (s_argc, 4);
    assert_string_equal (s_argv [1], "call");
    assert_string_equal (s_argv [2], "a=b");
    assert_string_equal (s_argv [3], "--port");
    assert_null (s_argv [4]);
    assert_true (opt_bool (s_table, "fast"));
    assert_string_equal (opt_str (s_table, "name"), "n");
}

static void
wrong_use_is_told (void **state)
{
    (void) state;
    assert_int_equal (reads (s_table, "--port=80x", NULL), 2);
    assert_non_null (strstr (s_output, "whole number"));
    assert_int_equal (reads (s_table, "--port=99999999999999999999", NULL), 2);
    assert_int_equal (reads (s_table, "--port=", NULL), 2);
    assert_int_equal (reads (s_table, "--fast=maybe", NULL), 2);
    assert_int_equal (reads (s_table, "--name", NULL), 2);
    assert_int_equal (reads (s_table, "--prot=hush", NULL), 2);
    assert_non_null (strstr (s_output, "--prot:"));
    assert_null (strstr (s_output, "hush"));
    assert_int_equal (reads (s_strict, NULL), 2);
    assert_non_null (strstr (s_output, "TEST_URL"));
    setenv ("TEST_URL", "u", 1);
    assert_int_equal (reads (s_strict, NULL), 0);
    assert_string_equal (opt_str (s_strict, "url"), "u");
}

static void
secrets_are_not_flags (void **state)
{
    (void) state;
    assert_int_equal (reads (s_table, "--secret=hush", NULL), 2);
    assert_null (strstr (s_output, "hush"));
    assert_non_null (strstr (s_output, "TEST_SECRET"));
    setenv ("TEST_SECRET", "hush", 1);
    assert_int_equal (reads (s_table, NULL), 0);
    assert_string_equal (opt_str (s_table, "secret"), "hush");
    assert_int_equal (reads (s_table, "--help", NULL), 1);
    assert_null (strstr (s_output, "hush"));
    assert_null (strstr (s_output, "[dev]"));
}

static void
help_and_version_answer (void **state)
{
    (void) state;
    assert_int_equal (reads (s_strict, "-h", NULL), 1);
    assert_non_null (strstr (s_output, "usage: busbar-test [options] THING"));
    assert_non_null (strstr (s_output, "--url TEXT"));
    assert_int_equal (reads (s_table, "--version", NULL), 1);
    assert_string_equal (s_output, "busbar-test " BUSBAR_VERSION "\n");
}

static void
env_file_has_quotes_and_comments (void **state)
{
    (void) state;
    static const struct { const char *line, *value; } cases [] = {
        { "TEST_NAME=plain", "plain" },
        { "  export TEST_NAME = spaced out  # not this", "spaced out" },
        { "TEST_NAME=a#b", "a#b" },
        { "TEST_NAME=\"a # \\\"b\\\"\\n\" # c", "a # \"b\"\n" },
        { "TEST_NAME='a \\n $b'", "a \\n $b" },
        { "TEST_NAME=crlf\r", "crlf" },
        { "TEST_NAME=postgres://u:p=1@h/db?x=y", "postgres://u:p=1@h/db?x=y" },
        { "# TEST_NAME=no\n\nnot a line\nTEST_NAME=yes", "yes" },
        { "TEST_NAME=first\nTEST_NAME=last", "last" },
        { "#TEST_NAME=no", NULL },
        { "TEST_NAME=", NULL },
        { "TEST_NAME= # empty", NULL },
        { "=x\n=\n\"\nTEST_NAME=\"open", "open" } };
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        env_file (cases [n].line);
        assert_int_equal (reads (s_table, NULL), 0);
        if (cases [n].value) {
            assert_non_null (opt_str (s_table, "name"));
            assert_string_equal (opt_str (s_table, "name"), cases [n].value);
        }
        else
            assert_null (opt_str (s_table, "name"));
    }
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test_setup (sources_win_in_order, set_up),
        cmocka_unit_test_setup (rest_moves_to_the_front, set_up),
        cmocka_unit_test_setup (wrong_use_is_told, set_up),
        cmocka_unit_test_setup (secrets_are_not_flags, set_up),
        cmocka_unit_test_setup (help_and_version_answer, set_up),
        cmocka_unit_test_setup (env_file_has_quotes_and_comments, set_up),
    };
    return cmocka_run_group_tests (tests, NULL, clean_up);
}
