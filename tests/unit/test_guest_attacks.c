//  test_guest_attacks.c -- a list of attacks on the fences around guests, and around keepers.

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/log.h"
#include "tests/unit/guest_help.h"

#define CREATE(name) "SELECT base.guest_create (" name ", 'a password of ours')"

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
    help_allowed (ANN, "CREATE TABLE copied (id int)", NULL);
    for (size_t n = 0; n < sizeof attacks / sizeof *attacks; n++) {
        heard_t heard = help_ask (ANN, attacks [n]);
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
    help_allowed (BOB, "CREATE TABLE secrets (word text)", NULL);
    help_allowed (BOB, "INSERT INTO secrets VALUES ('sesame')", NULL);
    help_allowed (BOB, "GRANT ALL ON secrets TO PUBLIC", NULL);
    help_denied (ANN, "SELECT * FROM " BOB ".secrets", "42501");
    help_denied (ANN, "CREATE TABLE " BOB ".mine (id int)", "42501");
    help_denied (ANN, "DROP SCHEMA " BOB " CASCADE", "42501");
    help_denied (ANN, "ALTER TABLE " BOB ".secrets ADD x int", "42501");
    help_denied (ANN, "SET ROLE " BOB, "42501");
    help_denied (ANN, "SET SESSION AUTHORIZATION bootstrap", "42501");
    help_denied (ANN, "CREATE ROLE mine", "42501");
    help_denied (ANN, "ALTER ROLE CURRENT_USER SUPERUSER", "42501");
    help_denied (ANN, "ALTER ROLE CURRENT_USER CONNECTION LIMIT 1000", "42501");
    help_denied (ANN, "ALTER ROLE " BOB " PASSWORD 'x'", "42501");
    help_denied (ANN, "GRANT " ANN " TO " BOB, "42501");
    help_denied (ANN, "GRANT pg_read_server_files TO " ANN, "42501");
    help_denied (ANN, "SELECT base.guest_create ('" BOB "', 'another password of bob')", "42501");
    help_denied (ANN, "SELECT base.guest_drop ('" BOB "')", "42501");
    snprintf (text, sizeof text, "SELECT pg_terminate_backend (%s)",
              help_sql ("SELECT pg_backend_pid ()"));
    help_denied (ANN, text, "42501");
    //  RESET ROLE leads nowhere: the guest logged in as itself.
    help_allowed (ANN, "RESET ROLE", NULL);
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
        help_denied (ANN, text, "42501");
    }
    help_denied (ANN, "SELECT pg_stat_get_activity (NULL)", "42501");
    help_denied (ANN, "SELECT pg_get_functiondef (1)", "42501");
    help_denied (ANN, "SELECT pg_get_userbyid (10)", "42501");
    help_denied (ANN, "SELECT pg_database_size (1)", "42501");
    help_allowed (BOB, "REVOKE ALL ON secrets FROM PUBLIC", NULL);
    heard_t heard = help_ask (ANN, "SELECT count (*) FROM information_schema.tables "
                                "WHERE table_schema LIKE 'guest_b%'");
    assert_string_equal (heard.value, "0");
    heard = help_ask (ANN, "SELECT count (*) FROM information_schema.schemata");
    assert_int_equal (heard.code, E_NONE);
}

static void
other_databases_are_closed (void **state)
{
    (void) state;
    const char *const names [] = { "postgres", "template1", help_main_database () };
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
    help_allowed (ANN, "ALTER ROLE CURRENT_USER SET work_mem = '2GB'", NULL);
    help_allowed (ANN, "ALTER ROLE CURRENT_USER SET statement_timeout = 0", NULL);
    help_allowed (ANN, "ALTER ROLE CURRENT_USER RESET ALL", NULL);
    help_allowed (ANN, "ALTER ROLE CURRENT_USER SET search_path = pg_temp", NULL);
    assert_string_equal (help_ask (ANN, "SHOW work_mem").value, "16MB");
    assert_string_equal (help_ask (ANN, "SHOW search_path").value, ANN);
    assert_string_equal (help_ask (ANN, "SHOW temp_file_limit").value, "256MB");
    assert_string_equal (help_ask (ANN, "SHOW statement_timeout").value, "9s");
    help_allowed (ANN, "SET statement_timeout = 0", NULL);
    heard_t heard = help_ask_limited (ANN, "SELECT pg_sleep (60)", (guest_limits_t) { 300, 1, 1 });
    assert_int_equal (heard.code, E_TIMEOUT);
}

//  ---- keepers ----

static void
a_spoilt_guest_is_put_right (void **state)
{
    (void) state;
    help_allowed (ANN, "ALTER ROLE CURRENT_USER PASSWORD 'mine alone'", NULL);
    assert_int_equal (help_ask (ANN, "SELECT 1").code, E_UNAVAILABLE);
    PGconn *pg = help_keeper ();
    assert_true (help_keeper_may (pg, "SELECT base.guest_create ('" ANN "', '" SECRET "')"));
    PQfinish (pg);
    help_allowed (ANN, "SELECT 1", NULL);
}

static void
keepers_touch_guests_only (void **state)
{
    (void) state;
    PGconn *pg = help_keeper ();
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
        if (help_keeper_may (pg, denied [n]))
            fail_msg ("a keeper may %s", denied [n]);
    assert_true (help_keeper_may (pg, "SELECT base.guest_terminate ('" BOB "')"));
    assert_true (help_keeper_may (pg, "SELECT 1 / base.guest_size ('" BOB "')"));
    assert_true (help_keeper_may (pg, "SELECT base.guest_drop ('" BOB "')"));
    assert_true (help_keeper_may (pg, "SELECT base.guest_drop ('" BOB "')"));
    PQfinish (pg);
    assert_int_equal (help_ask (BOB, "SELECT 1").code, E_UNAVAILABLE);
}

int
main (void)
{
    log_open ("test", LOG_ERROR);
    if (!help_guests ())
        return 0;
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (the_server_is_out_of_reach),
        cmocka_unit_test (other_roles_are_out_of_reach),
        cmocka_unit_test (the_catalogue_is_shut),
        cmocka_unit_test (other_databases_are_closed),
        cmocka_unit_test (settings_of_its_own_do_not_help),
        cmocka_unit_test (a_spoilt_guest_is_put_right),
        cmocka_unit_test (keepers_touch_guests_only),
    };
    int failed = cmocka_run_group_tests (tests, NULL, NULL);
    help_guests_drop ();
    return failed;
}
