//  test_guest.c -- statements of guests: limits, stopping, and a list of attacks on the fences.

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "db/guest.h"
#include "db/guest_kept.h"
#include "db/migrate.h"
#include "proto/log.h"
#include "tests/unit/db_help.h"

#define ANN "guest_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define BOB "guest_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define SECRET "a password of a guest"

static char s_database [64], s_guest_database [64], s_keeper [512], s_keeper_name [64];

typedef struct {
    size_t done, rows, columns;
    error_code_t code;
    char sqlstate [6], text [128], tag [32], value [128];
    bool truncated, cancelled, unknown;
} heard_t;

static void
s_columns (void *arg, const PGresult *result)
{
    heard_t *heard = arg;
    assert_int_equal (heard->columns, 0);
    heard->columns = (size_t) PQnfields (result);
}

static void
s_row (void *arg, const PGresult *result)
{
    heard_t *heard = arg;
    if (heard->rows++ == 0)
        snprintf (heard->value, sizeof heard->value, "%s", PQgetvalue (result, 0, 0));
}

static void
s_done (void *arg, const guest_outcome_t *outcome)
{
    heard_t *heard = arg;
    heard->done++;
    heard->code = outcome->code;
    snprintf (heard->sqlstate, sizeof heard->sqlstate, "%s", outcome->sqlstate);
    snprintf (heard->text, sizeof heard->text, "%s", outcome->text ? outcome->text : "");
    snprintf (heard->tag, sizeof heard->tag, "%s", outcome->tag);
    heard->truncated = outcome->truncated;
    heard->cancelled = outcome->cancelled;
    heard->unknown = outcome->unknown;
    assert_int_equal (heard->rows, outcome->rows);
}

static const guest_calls_t s_calls = { s_columns, s_row, s_done };

static guest_t *
s_begin (loop_t *loop, const char *role, const char *sql, const guest_limits_t *limits,
         heard_t *heard)
{
    *heard = (heard_t) { 0 };
    guest_conf_t conf = { .server = getenv ("BUSBAR_TEST_DATABASE"), .database = s_guest_database,
                          .role = role, .password = SECRET, .keeper = s_keeper };
    return guest_run (loop, &conf, text_of (sql), limits, &s_calls, heard);
}

static heard_t
s_run_limited (const char *role, const char *sql, guest_limits_t limits)
{
    loop_t *loop = loop_new ();
    heard_t heard;
    s_begin (loop, role, sql, &limits, &heard);
    assert_true (help_until (loop, &heard.done, 1));
    loop_destroy (&loop);
    return heard;
}

static heard_t
s_run (const char *role, const char *sql)
{
    return s_run_limited (role, sql, (guest_limits_t) { 8000, 100, 65536 });
}

static void
s_allowed (const char *role, const char *sql, const char *tag)
{
    heard_t heard = s_run (role, sql);
    if (heard.code != E_NONE)
        fail_msg ("%s: %s", sql, heard.text);
    if (tag)
        assert_string_equal (heard.tag, tag);
}

static void
s_denied (const char *role, const char *sql, const char *sqlstate)
{
    heard_t heard = s_run (role, sql);
    if (heard.code == E_NONE || strcmp (heard.sqlstate, sqlstate) != 0)
        fail_msg ("%s: code %d, sqlstate %s, %s", sql, heard.code, heard.sqlstate, heard.text);
}

//  ---- what guests do ----

static void
a_guest_works_in_its_own_schema (void **state)
{
    (void) state;
    s_allowed (ANN, "CREATE TABLE things (id int PRIMARY KEY, note text)", "CREATE TABLE");
    s_allowed (ANN, "INSERT INTO things VALUES (1, 'one'), (2, 'two')", "INSERT 0 2");
    heard_t heard = s_run (ANN, "SELECT note, id FROM things ORDER BY id");
    assert_int_equal (heard.code, E_NONE);
    assert_int_equal (heard.rows, 2);
    assert_int_equal (heard.columns, 2);
    assert_string_equal (heard.value, "one");
    assert_string_equal (heard.tag, "SELECT 2");
    heard = s_run (ANN, "SELECT note FROM things WHERE id = 3");
    assert_int_equal (heard.columns, 1);
    assert_int_equal (heard.rows, 0);
    heard = s_run (ANN, "SELECT string_agg (table_name, ' ') FROM information_schema.tables "
                        "WHERE table_schema = current_schema");
    assert_string_equal (heard.value, "things");
    heard = s_run (ANN, "SELECT string_agg (column_name, ' ' ORDER BY ordinal_position) "
                        "FROM information_schema.columns WHERE table_name = 'things'");
    assert_string_equal (heard.value, "id note");
    s_allowed (ANN, "CREATE VIEW seen AS SELECT note FROM things", "CREATE VIEW");
    s_allowed (ANN, "EXPLAIN SELECT * FROM things", NULL);
    s_allowed (ANN, "SELECT '{\"a\": [1]}'::jsonb -> 'a', now (), md5 ('x'), random ()", NULL);
    s_allowed (ANN, "CREATE TABLE kids (id int, parent int REFERENCES things (id))", NULL);
    s_denied (ANN, "INSERT INTO kids VALUES (1, 404)", "23503");
}

static void
errors_of_the_statement_are_told (void **state)
{
    (void) state;
    heard_t heard = s_run (ANN, "SELECT 1 FROM nowhere");
    assert_string_equal (heard.text, "relation \"nowhere\" does not exist");
    assert_string_equal (heard.sqlstate, "42P01");
    s_denied (ANN, "SELECT 1; SELECT 2", "42601");
    assert_int_equal (s_run (ANN, "").code, E_INVALID);
    assert_int_equal (s_run (ANN, "COPY (SELECT 1) TO STDOUT").code, E_INVALID);
    s_allowed (ANN, "CREATE TABLE copied (id int)", NULL);
    assert_int_equal (s_run (ANN, "COPY copied FROM STDIN").code, E_INVALID);
}

static void
a_wrong_password_is_no_outcome_of_the_statement (void **state)
{
    (void) state;
    heard_t heard = s_run ("guest_cccccccccccccccccccccccccccccccc", "SELECT 1");
    assert_int_equal (heard.code, E_UNAVAILABLE);
    assert_false (heard.unknown);
}

//  ---- limits ----

static void
rows_and_bytes_are_bounded (void **state)
{
    (void) state;
    heard_t heard = s_run (ANN, "SELECT generate_series (1, 1000000000000)");
    assert_int_equal (heard.code, E_NONE);
    assert_int_equal (heard.rows, 100);
    assert_true (heard.truncated);
    heard = s_run (ANN, "SELECT repeat ('x', 1000) FROM generate_series (1, 1000000) n");
    assert_int_equal (heard.code, E_NONE);
    assert_int_equal (heard.rows, 65);
    assert_true (heard.truncated);
    heard = s_run (ANN, "SELECT n FROM generate_series (1, 100) n");
    assert_int_equal (heard.rows, 100);
    assert_false (heard.truncated);
    heard = s_run (ANN, "SELECT repeat ('x', 30000000)");
    assert_int_equal (heard.code, E_TOO_LARGE);
    //  What PostgreSQL keeps on disk for a statement, too.
    heard = s_run (ANN, "SELECT repeat (n::text, 20000) AS t FROM generate_series (1, 1000000) n "
                        "ORDER BY t");
    assert_int_equal (heard.code, E_TOO_LARGE);
    assert_string_equal (heard.sqlstate, "53400");
}

static void
a_write_with_many_rows_is_not_cut_off (void **state)
{
    (void) state;
    s_allowed (ANN, "CREATE TABLE many (n int)", NULL);
    heard_t heard
        = s_run (ANN, "INSERT INTO many SELECT generate_series (1, 5000) RETURNING n");
    assert_int_equal (heard.code, E_NONE);
    assert_int_equal (heard.rows, 100);
    assert_true (heard.truncated);
    assert_string_equal (heard.tag, "INSERT 0 5000");
    assert_string_equal (s_run (ANN, "SELECT count (*) FROM many").value, "5000");
}

static void
a_statement_ends_at_its_deadline (void **state)
{
    (void) state;
    heard_t heard = s_run_limited (ANN, "SELECT pg_sleep (60)", (guest_limits_t) { 300, 1, 1 });
    assert_int_equal (heard.code, E_TIMEOUT);
    assert_false (heard.cancelled);
    heard = s_run_limited (ANN, "SELECT count (*) FROM generate_series (1, 100000) a, "
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
    guest_limits_t limits = { 60000, 1, 1 };
    guest_t *guest = s_begin (loop, ANN, "SELECT pg_sleep (60)", &limits, &heard);
    while (strcmp (help_sql ("SELECT count (*) FROM pg_stat_activity WHERE usename = '%s' AND "
                             "state = 'active'", ANN), "1") != 0)
        loop_turn (loop, 10);
    guest_cancel (guest);
    assert_true (help_until (loop, &heard.done, 1));
    assert_int_equal (heard.code, E_TIMEOUT);
    assert_true (heard.cancelled);
    //  Before it has even logged in, too.
    guest = s_begin (loop, ANN, "SELECT 1", &limits, &heard);
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
    heard_t heard = { 0 };
    guest_conf_t conf = { .server = getenv ("BUSBAR_TEST_DATABASE"), .database = s_guest_database,
                          .role = ANN, .password = SECRET, .read_only = true };
    guest_limits_t limits = { 8000, 100, 65536 };
    guest_run (loop, &conf, TEXT ("CREATE TABLE written (id int)"), &limits, &s_calls, &heard);
    assert_true (help_until (loop, &heard.done, 1));
    assert_string_equal (heard.sqlstate, "25006");
    loop_destroy (&loop);
}

//  ---- attacks ----

static void
the_server_is_out_of_reach (void **state)
{
    (void) state;
    static const char *const attacks [] = {
        "COPY (SELECT 1) TO PROGRAM 'id'", "COPY copied FROM PROGRAM 'id'",
        "COPY copied FROM '/etc/passwd'", "SELECT pg_read_file ('/etc/passwd')",
        "SELECT pg_read_binary_file ('/etc/passwd')", "SELECT pg_ls_dir ('/')",
        "SELECT pg_stat_file ('/etc/passwd')", "SELECT lo_import ('/etc/passwd')",
        "SELECT lo_create (0)", "SELECT lo_from_bytea (0, 'x')", "SELECT lo_creat (-1)",
        "DO $$ BEGIN PERFORM 1; END $$", "CREATE EXTENSION dblink", "CREATE EXTENSION hstore",
        "CREATE FUNCTION f () RETURNS int LANGUAGE sql SET work_mem = '9GB' AS 'SELECT 1'",
        "CREATE FUNCTION f () RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
        "CREATE FUNCTION f () RETURNS int LANGUAGE c AS '/lib/x86_64-linux-gnu/libc.so.6', 'x'",
        "CREATE FUNCTION f () RETURNS int LANGUAGE internal AS 'pg_backend_pid'",
        "ALTER SYSTEM SET work_mem = '1GB'", "SELECT set_config ('work_mem', '9GB', false)",
        "SET temp_file_limit = -1", "SET session_preload_libraries = 'x'", "CHECKPOINT",
        "SELECT pg_reload_conf ()", "SELECT pg_advisory_lock (1)",
        "SELECT pg_try_advisory_lock (1)",
        "SELECT pg_advisory_xact_lock_shared (1, 2)", "SELECT pg_notify ('a', 'b')",
        "SELECT pg_switch_wal ()", "SELECT pg_export_snapshot ()",
        "SELECT pg_create_logical_replication_slot ('a', 'pgoutput')",
        "SELECT pg_logical_emit_message (false, 'a', 'b')", "CREATE PUBLICATION p FOR ALL TABLES",
        "CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p", "CREATE DATABASE mine",
        "CREATE SCHEMA mine", "CREATE TEMP TABLE t (id int)", "CREATE TABLE public.t (id int)",
        "CREATE TABLE base.t (id int)",
        "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f ()",
        "CREATE SERVER s FOREIGN DATA WRAPPER x",
        "SELECT query_to_xml ('SELECT 1', true, true, '')",
    };
    for (size_t n = 0; n < sizeof attacks / sizeof *attacks; n++) {
        heard_t heard = s_run (ANN, attacks [n]);
        if (heard.code == E_NONE || heard.sqlstate [0] == 0 || heard.sqlstate [0] == '0')
            if (strcmp (heard.sqlstate, "0A000") != 0)
                fail_msg ("%s: %s %s", attacks [n], heard.sqlstate, heard.text);
    }
}

static void
other_roles_are_out_of_reach (void **state)
{
    (void) state;
    char text [256];
    s_allowed (BOB, "CREATE TABLE secrets (word text)", NULL);
    s_allowed (BOB, "INSERT INTO secrets VALUES ('sesame')", NULL);
    s_allowed (BOB, "GRANT ALL ON secrets TO PUBLIC", NULL);
    s_denied (ANN, "SELECT * FROM " BOB ".secrets", "42501");
    s_denied (ANN, "CREATE TABLE " BOB ".mine (id int)", "42501");
    s_denied (ANN, "DROP SCHEMA " BOB " CASCADE", "42501");
    s_denied (ANN, "ALTER TABLE " BOB ".secrets ADD x int", "42501");
    s_denied (ANN, "SET ROLE " BOB, "42501");
    s_denied (ANN, "SET SESSION AUTHORIZATION bootstrap", "42501");
    s_denied (ANN, "CREATE ROLE mine", "42501");
    s_denied (ANN, "ALTER ROLE CURRENT_USER SUPERUSER", "42501");
    s_denied (ANN, "ALTER ROLE CURRENT_USER CONNECTION LIMIT 1000", "42501");
    s_denied (ANN, "ALTER ROLE " BOB " PASSWORD 'x'", "42501");
    s_denied (ANN, "GRANT " ANN " TO " BOB, "42501");
    s_denied (ANN, "GRANT pg_read_server_files TO " ANN, "42501");
    s_denied (ANN, "SELECT base.guest_create ('" BOB "', 'another password of bob')", "42501");
    s_denied (ANN, "SELECT base.guest_drop ('" BOB "')", "42501");
    snprintf (text, sizeof text, "SELECT pg_terminate_backend (%s)",
              help_sql ("SELECT pg_backend_pid ()"));
    s_denied (ANN, text, "42501");
    //  RESET ROLE leads nowhere: the guest logged in as itself.
    s_allowed (ANN, "RESET ROLE", NULL);
}

static void
the_catalogue_is_shut (void **state)
{
    (void) state;
    static const char *const names [] = {
        "pg_class", "pg_namespace", "pg_attribute", "pg_proc", "pg_roles", "pg_user", "pg_authid",
        "pg_shadow", "pg_database", "pg_tables", "pg_views", "pg_stat_activity", "pg_locks",
        "pg_stat_user_tables", "pg_stats", "pg_settings", "pg_file_settings", "pg_hba_file_rules",
        "pg_prepared_xacts", "pg_replication_slots", "pg_largeobject", "pg_auth_members" };
    char text [128];
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        snprintf (text, sizeof text, "SELECT * FROM %s", names [n]);
        s_denied (ANN, text, "42501");
    }
    s_denied (ANN, "SELECT pg_stat_get_activity (NULL)", "42501");
    s_denied (ANN, "SELECT pg_get_functiondef (1)", "42501");
    s_denied (ANN, "SELECT pg_get_userbyid (10)", "42501");
    s_denied (ANN, "SELECT pg_database_size (1)", "42501");
    s_allowed (BOB, "REVOKE ALL ON secrets FROM PUBLIC", NULL);
    heard_t heard = s_run (ANN, "SELECT count (*) FROM information_schema.tables "
                                "WHERE table_schema LIKE 'guest_b%'");
    assert_string_equal (heard.value, "0");
    heard = s_run (ANN, "SELECT count (*) FROM information_schema.schemata");
    assert_int_equal (heard.code, E_NONE);
}

static void
other_databases_are_closed (void **state)
{
    (void) state;
    static const char *const names [] = { "postgres", "template1", s_database };
    char text [1024], more [256];
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        snprintf (more, sizeof more, "dbname=%s user=%s password='%s'", names [n], ANN, SECRET);
        help_conninfo (text, sizeof text, getenv ("BUSBAR_TEST_DATABASE"), more);
        PGconn *pg = PQconnectdb (text);
        assert_int_equal (PQstatus (pg), CONNECTION_BAD);
        assert_non_null (strstr (PQerrorMessage (pg), "permission denied for database"));
        PQfinish (pg);
    }
}

//  What a guest sets for its own role does not outlive the next log-in, nor lift limits.
static void
settings_of_its_own_do_not_help (void **state)
{
    (void) state;
    s_allowed (ANN, "ALTER ROLE CURRENT_USER SET work_mem = '2GB'", NULL);
    s_allowed (ANN, "ALTER ROLE CURRENT_USER SET statement_timeout = 0", NULL);
    s_allowed (ANN, "ALTER ROLE CURRENT_USER RESET ALL", NULL);
    s_allowed (ANN, "ALTER ROLE CURRENT_USER SET search_path = pg_temp", NULL);
    assert_string_equal (s_run (ANN, "SHOW work_mem").value, "16MB");
    assert_string_equal (s_run (ANN, "SHOW search_path").value, ANN);
    assert_string_equal (s_run (ANN, "SHOW temp_file_limit").value, "256MB");
    assert_string_equal (s_run (ANN, "SHOW statement_timeout").value, "9s");
    s_allowed (ANN, "SET statement_timeout = 0", NULL);
    heard_t heard = s_run_limited (ANN, "SELECT pg_sleep (60)", (guest_limits_t) { 300, 1, 1 });
    assert_int_equal (heard.code, E_TIMEOUT);
}

//  ---- sessions that are kept ----

static heard_t
s_run_kept (loop_t *loop, const char *role, const char *sql, bool read_only)
{
    heard_t heard = { 0 };
    guest_conf_t conf = { .server = getenv ("BUSBAR_TEST_DATABASE"), .database = s_guest_database,
                          .role = role, .password = SECRET, .keeper = s_keeper, .keep = true,
                          .read_only = read_only };
    guest_limits_t limits = { 8000, 100, 65536 };
    guest_run (loop, &conf, text_of (sql), &limits, &s_calls, &heard);
    assert_true (help_until (loop, &heard.done, 1));
    return heard;
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
    PGconn *pg = PQconnectdb (s_keeper);
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

#define CREATE(name) "SELECT base.guest_create (" name ", 'a password of ours')"

static PGconn *
s_keeper_open (void)
{
    PGconn *pg = PQconnectdb (s_keeper);
    assert_int_equal (PQstatus (pg), CONNECTION_OK);
    return pg;
}

static bool
s_keeper_may (PGconn *pg, const char *text)
{
    PGresult *result = PQexec (pg, text);
    bool good = PQresultStatus (result) == PGRES_TUPLES_OK;
    PQclear (result);
    return good;
}

static void
a_spoilt_guest_is_put_right (void **state)
{
    (void) state;
    s_allowed (ANN, "ALTER ROLE CURRENT_USER PASSWORD 'mine alone'", NULL);
    assert_int_equal (s_run (ANN, "SELECT 1").code, E_UNAVAILABLE);
    PGconn *pg = s_keeper_open ();
    assert_true (s_keeper_may (pg, "SELECT base.guest_create ('" ANN "', '" SECRET "')"));
    PQfinish (pg);
    s_allowed (ANN, "SELECT 1", NULL);
}

static void
keepers_touch_guests_only (void **state)
{
    (void) state;
    PGconn *pg = s_keeper_open ();
    static const char *const denied [] = {
        CREATE ("'bootstrap'"),
        CREATE ("'guest_x'"),
        CREATE ("'guest_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'"),
        CREATE ("E'guest_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\\n'"),
        CREATE ("'guest_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'"),
        CREATE ("NULL"),
        "SELECT base.guest_create ('" BOB "', 'short')", "SELECT base.guest_drop ('bootstrap')",
        "SELECT base.guest_terminate ('bootstrap')", "SELECT base.guest_name ('x')",
        "SELECT * FROM " BOB ".secrets", "CREATE TABLE base.x (id int)" };
    for (size_t n = 0; n < sizeof denied / sizeof *denied; n++)
        if (s_keeper_may (pg, denied [n]))
            fail_msg ("a keeper may %s", denied [n]);
    assert_true (s_keeper_may (pg, "SELECT base.guest_terminate ('" BOB "')"));
    assert_true (s_keeper_may (pg, "SELECT 1 / base.guest_size ('" BOB "')"));
    assert_true (s_keeper_may (pg, "SELECT base.guest_drop ('" BOB "')"));
    assert_true (s_keeper_may (pg, "SELECT base.guest_drop ('" BOB "')"));
    PQfinish (pg);
    assert_int_equal (s_run (BOB, "SELECT 1").code, E_UNAVAILABLE);
}

static int
s_prepare (void)
{
    snprintf (s_database, sizeof s_database, "main_%d", (int) getpid ());
    snprintf (s_guest_database, sizeof s_guest_database, "guest_%d", (int) getpid ());
    snprintf (s_keeper_name, sizeof s_keeper_name, "busbar_keeper_%d", (int) getpid ());
    char more [256];
    snprintf (more, sizeof more, "dbname=%s user=%s password=keep", s_guest_database,
              s_keeper_name);
    const char *server = getenv ("BUSBAR_TEST_DATABASE");
    help_conninfo (s_keeper, sizeof s_keeper, server, more);
    db_role_t roles [] = { { s_keeper_name, "keep", true } };
    db_bootstrap_t what = { .server = server, .database = s_database,
                            .guest_database = s_guest_database, .roles = roles, .role_count = 1,
                            .ours = true };
    //  Twice: it puts right what is there.
    if (db_bootstrap (&what, stderr) || db_bootstrap (&what, stderr) || !what.guests)
        return 1;
    PGconn *pg = s_keeper_open ();
    bool good = s_keeper_may (pg, "SELECT base.guest_create ('" ANN "', '" SECRET "')")
                && s_keeper_may (pg, "SELECT base.guest_create ('" BOB "', '" SECRET "')");
    if (!good)
        fputs (PQerrorMessage (pg), stderr);
    PQfinish (pg);
    return good ? 0 : 1;
}

static void
s_clean (void)
{
    help_drop ();
    PGconn *pg = PQconnectdb (getenv ("BUSBAR_TEST_DATABASE"));
    const char *databases [] = { s_guest_database, s_database };
    for (int n = 0; n < 2; n++) {
        char text [128];
        snprintf (text, sizeof text, "DROP DATABASE %s WITH (FORCE)", databases [n]);
        PQclear (PQexec (pg, text));
    }
    PQclear (PQexec (pg, "DROP ROLE " ANN));
    char text [128];
    snprintf (text, sizeof text, "DROP ROLE %s", s_keeper_name);
    PQclear (PQexec (pg, text));
    PQfinish (pg);
}

int
main (void)
{
    log_open ("test", LOG_ERROR);
    if (!help_database ()) {
        puts ("skipped: BUSBAR_TEST_DATABASE names no server (tests/api/pg_fixture.py starts one)");
        return 0;
    }
    if (s_prepare ())
        return 1;
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (a_guest_works_in_its_own_schema),
        cmocka_unit_test (errors_of_the_statement_are_told),
        cmocka_unit_test (a_wrong_password_is_no_outcome_of_the_statement),
        cmocka_unit_test (rows_and_bytes_are_bounded),
        cmocka_unit_test (a_write_with_many_rows_is_not_cut_off),
        cmocka_unit_test (a_statement_ends_at_its_deadline),
        cmocka_unit_test (a_cancelled_statement_stops),
        cmocka_unit_test (a_read_only_guest_changes_nothing),
        cmocka_unit_test (the_server_is_out_of_reach),
        cmocka_unit_test (other_roles_are_out_of_reach),
        cmocka_unit_test (the_catalogue_is_shut),
        cmocka_unit_test (other_databases_are_closed),
        cmocka_unit_test (settings_of_its_own_do_not_help),
        cmocka_unit_test (a_kept_session_has_forgotten_everything),
        cmocka_unit_test (a_kept_session_serves_its_own_guest_with_its_own_settings),
        cmocka_unit_test (a_kept_session_that_was_ended_is_not_used),
        cmocka_unit_test (a_spoilt_guest_is_put_right),
        cmocka_unit_test (keepers_touch_guests_only),
    };
    int failed = cmocka_run_group_tests (tests, NULL, NULL);
    s_clean ();
    return failed;
}
