//  test_guest.c -- statements of guests: answers, limits, stopping, and sessions that are kept.

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "db/guest_kept.h"
#include "proto/log.h"
#include "tests/unit/guest_help.h"

//  ---- what guests do ----

static void
a_guest_works_in_its_own_schema (void **state)
{
    (void) state;
    help_allowed (ANN, "CREATE TABLE things (id int PRIMARY KEY, note text)", "CREATE TABLE");
    help_allowed (ANN, "INSERT INTO things VALUES (1, 'one'), (2, 'two')", "INSERT 0 2");
    heard_t heard = help_ask (ANN, "SELECT note, id FROM things ORDER BY id");
    assert_int_equal (heard.code, E_NONE);
    assert_int_equal (heard.rows, 2);
    assert_int_equal (heard.columns, 2);
    assert_string_equal (heard.value, "one");
    assert_string_equal (heard.tag, "SELECT 2");
    heard = help_ask (ANN, "SELECT note FROM things WHERE id = 3");
    assert_int_equal (heard.columns, 1);
    assert_int_equal (heard.rows, 0);
    heard = help_ask (ANN, "SELECT string_agg (table_name, ' ') FROM information_schema.tables "
                        "WHERE table_schema = current_schema");
    assert_string_equal (heard.value, "things");
    heard = help_ask (ANN, "SELECT string_agg (column_name, ' ' ORDER BY ordinal_position) "
                        "FROM information_schema.columns WHERE table_name = 'things'");
    assert_string_equal (heard.value, "id note");
    help_allowed (ANN, "CREATE VIEW seen AS SELECT note FROM things", "CREATE VIEW");
    help_allowed (ANN, "EXPLAIN SELECT * FROM things", NULL);
    help_allowed (ANN, "SELECT '{\"a\": [1]}'::jsonb -> 'a', now (), md5 ('x'), random ()", NULL);
    help_allowed (ANN, "CREATE TABLE kids (id int, parent int REFERENCES things (id))", NULL);
    help_denied (ANN, "INSERT INTO kids VALUES (1, 404)", "23503");
}

static void
errors_of_the_statement_are_told (void **state)
{
    (void) state;
    heard_t heard = help_ask (ANN, "SELECT 1 FROM nowhere");
    assert_string_equal (heard.text, "relation \"nowhere\" does not exist");
    assert_string_equal (heard.sqlstate, "42P01");
    help_denied (ANN, "SELECT 1; SELECT 2", "42601");
    assert_int_equal (help_ask (ANN, "").code, E_INVALID);
    assert_int_equal (help_ask (ANN, "COPY (SELECT 1) TO STDOUT").code, E_INVALID);
    help_allowed (ANN, "CREATE TABLE copied (id int)", NULL);
    assert_int_equal (help_ask (ANN, "COPY copied FROM STDIN").code, E_INVALID);
}

static void
a_wrong_password_is_no_outcome_of_the_statement (void **state)
{
    (void) state;
    heard_t heard = help_ask ("guest_cccccccccccccccccccccccccccccccc", "SELECT 1");
    assert_int_equal (heard.code, E_UNAVAILABLE);
    assert_false (heard.unknown);
}

//  ---- limits ----

static void
rows_and_bytes_are_bounded (void **state)
{
    (void) state;
    heard_t heard = help_ask (ANN, "SELECT generate_series (1, 1000000000000)");
    assert_int_equal (heard.code, E_NONE);
    assert_int_equal (heard.rows, 100);
    assert_true (heard.truncated);
    heard = help_ask (ANN, "SELECT repeat ('x', 1000) FROM generate_series (1, 1000000) n");
    assert_int_equal (heard.code, E_NONE);
    assert_int_equal (heard.rows, 65);
    assert_true (heard.truncated);
    heard = help_ask (ANN, "SELECT n FROM generate_series (1, 100) n");
    assert_int_equal (heard.rows, 100);
    assert_false (heard.truncated);
    heard = help_ask (ANN, "SELECT repeat ('x', 30000000)");
    assert_int_equal (heard.code, E_TOO_LARGE);
    //  What PostgreSQL keeps on disk for a statement, too.
    heard = help_ask (ANN, "SELECT repeat (n::text, 20000) AS t "
                           "FROM generate_series (1, 1000000) n ORDER BY t");
    assert_int_equal (heard.code, E_TOO_LARGE);
    assert_string_equal (heard.sqlstate, "53400");
}

static void
a_write_with_many_rows_is_not_cut_off (void **state)
{
    (void) state;
    help_allowed (ANN, "CREATE TABLE many (n int)", NULL);
    heard_t heard
        = help_ask (ANN, "INSERT INTO many SELECT generate_series (1, 5000) RETURNING n");
    assert_int_equal (heard.code, E_NONE);
    assert_int_equal (heard.rows, 100);
    assert_true (heard.truncated);
    assert_string_equal (heard.tag, "INSERT 0 5000");
    assert_string_equal (help_ask (ANN, "SELECT count (*) FROM many").value, "5000");
}

static void
a_statement_ends_at_its_deadline (void **state)
{
    (void) state;
    heard_t heard = help_ask_limited (ANN, "SELECT pg_sleep (60)", (guest_limits_t) { 300, 1, 1 });
    assert_int_equal (heard.code, E_TIMEOUT);
    assert_false (heard.cancelled);
    heard = help_ask_limited (ANN, "SELECT count (*) FROM generate_series (1, 100000) a, "
                                "generate_series (1, 100000) b", (guest_limits_t) { 300, 1, 1 });
    assert_int_equal (heard.code, E_TIMEOUT);
    assert_string_equal (help_sql ("SELECT count (*) FROM pg_stat_activity WHERE usename = '%s' "
                                   "AND state = 'active'", ANN), "0");
}

static void
a_cancelled_statement_stops (void **state)
{
    (void) state;
    loop_t *loop = loop_new ();
    heard_t heard;
    guest_conf_t conf = help_guest (ANN);
    guest_limits_t limits = { 60000, 1, 1 };
    guest_t *guest = help_begin (loop, &conf, "SELECT pg_sleep (60)", limits, &heard);
    while (strcmp (help_sql ("SELECT count (*) FROM pg_stat_activity WHERE usename = '%s' AND "
                             "state = 'active'", ANN), "1") != 0)
        loop_turn (loop, 10);
    guest_cancel (guest);
    assert_true (help_until (loop, &heard.done, 1));
    assert_int_equal (heard.code, E_TIMEOUT);
    assert_true (heard.cancelled);
    //  Before it has even logged in, too.
    guest = help_begin (loop, &conf, "SELECT 1", limits, &heard);
    guest_cancel (guest);
    assert_int_equal (heard.done, 0);
    assert_true (help_until (loop, &heard.done, 1));
    assert_int_equal (heard.code, E_TIMEOUT);
    loop_destroy (&loop);
}

static void
a_read_only_guest_changes_nothing (void **state)
{
    (void) state;
    loop_t *loop = loop_new ();
    guest_conf_t conf = help_guest (ANN);
    conf.read_only = true;
    heard_t heard = help_hear (loop, &conf, "CREATE TABLE written (id int)", HELP_LIMITS);
    assert_string_equal (heard.sqlstate, "25006");
    loop_destroy (&loop);
}

//  ---- sessions that are kept ----

static heard_t
s_run_kept (loop_t *loop, const char *role, const char *sql, bool read_only)
{
    guest_conf_t conf = help_guest (role);
    conf.keep = true;
    conf.read_only = read_only;
    return help_hear (loop, &conf, sql, HELP_LIMITS);
}

//  Until a session serves again that has served before; what it answers.
static heard_t
s_served_again (loop_t *loop, const char *role, bool read_only)
{
    int pids [100];
    for (int n = 0; n < 100; n++) {
        heard_t heard = s_run_kept (loop, role, "SELECT pg_backend_pid () || ' ' || "
                                    "current_setting ('work_mem') || ' ' || "
                                    "current_setting ('default_transaction_read_only')", read_only);
        assert_int_equal (heard.code, E_NONE);
        pids [n] = atoi (heard.value);
        for (int before = 0; before < n; before++)
            if (pids [before] == pids [n])
                return heard;
        loop_turn (loop, 20);
    }
    fail_msg ("no session serves twice");
    return (heard_t) { 0 };
}

static void
a_kept_session_has_forgotten_everything (void **state)
{
    (void) state;
    static const char *const left [] = {
        "SET work_mem = '1MB'", "SET default_transaction_read_only = on", "SET ROLE NONE",
        "PREPARE p AS SELECT 1", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "LISTEN unit", "BEGIN",
        "SET search_path = pg_catalog", "SELECT nothing", "SELECT setseed (0.5)" };
    loop_t *loop = loop_new ();
    for (size_t n = 0; n < sizeof left / sizeof *left; n++) {
        s_run_kept (loop, ANN, left [n], false);
        heard_t heard = s_served_again (loop, ANN, false);
        assert_non_null (strstr (heard.value, " 16MB off"));
        assert_string_equal (s_run_kept (loop, ANN, "EXECUTE p", false).sqlstate, "26000");
        assert_string_equal (s_run_kept (loop, ANN, "FETCH ALL FROM c", false).sqlstate, "34000");
        assert_string_equal (s_run_kept (loop, ANN, "SHOW search_path", false).value, ANN);
    }
    guest_kept_end ();
    loop_destroy (&loop);
}

static void
a_kept_session_serves_its_own_guest_with_its_own_settings (void **state)
{
    (void) state;
    loop_t *loop = loop_new ();
    s_served_again (loop, ANN, false);
    assert_string_equal (s_run_kept (loop, BOB, "SELECT session_user", false).value, BOB);
    heard_t heard = s_run_kept (loop, ANN, "SHOW default_transaction_read_only", true);
    assert_string_equal (heard.value, "on");
    heard = s_served_again (loop, ANN, true);
    assert_non_null (strstr (heard.value, " on"));
    guest_kept_end ();
    loop_destroy (&loop);
}

static size_t
s_descriptors (void)
{
    size_t count = 0;
    DIR *all = opendir ("/proc/self/fd");
    while (readdir (all))
        count++;
    closedir (all);
    return count;
}

//  Whoever ends a guest's sessions ends those that wait, too, and the next statement does not mind.
static void
a_kept_session_that_was_ended_is_not_used (void **state)
{
    (void) state;
    loop_t *loop = loop_new ();
    size_t none = s_descriptors ();
    heard_t before = s_served_again (loop, ANN, false);
    assert_true (s_descriptors () > none);
    PGconn *pg = help_keeper ();
    PQclear (PQexec (pg, "SELECT base.guest_terminate ('" ANN "')"));
    PQfinish (pg);
    for (int n = 0; n < 500 && s_descriptors () > none; n++)
        loop_turn (loop, 20);
    heard_t after = s_run_kept (loop, ANN, "SELECT pg_backend_pid ()", false);
    assert_int_equal (after.code, E_NONE);
    assert_int_not_equal (atoi (before.value), atoi (after.value));
    guest_kept_end ();
    loop_destroy (&loop);
}

int
main (void)
{
    log_open ("test", LOG_ERROR);
    if (!help_guests ())
        return 0;
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (a_guest_works_in_its_own_schema),
        cmocka_unit_test (errors_of_the_statement_are_told),
        cmocka_unit_test (a_wrong_password_is_no_outcome_of_the_statement),
        cmocka_unit_test (rows_and_bytes_are_bounded),
        cmocka_unit_test (a_write_with_many_rows_is_not_cut_off),
        cmocka_unit_test (a_statement_ends_at_its_deadline),
        cmocka_unit_test (a_cancelled_statement_stops),
        cmocka_unit_test (a_read_only_guest_changes_nothing),
        cmocka_unit_test (a_kept_session_has_forgotten_everything),
        cmocka_unit_test (a_kept_session_serves_its_own_guest_with_its_own_settings),
        cmocka_unit_test (a_kept_session_that_was_ended_is_not_used),
    };
    int failed = cmocka_run_group_tests (tests, NULL, NULL);
    help_guests_drop ();
    return failed;
}
