//  test_migrate.c -- migrations up and down, changed and broken files, the bootstrap of a server.

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "db/migrate.h"
#include "db/migrate_file.h"
#include "tests/unit/db_help.h"

static char s_dir [64], s_conninfo [768], s_database [64];
static char *s_said;
static size_t s_said_size;
static FILE *s_out;

static void
s_write (const char *name, const char *text)
{
    char path [256];
    snprintf (path, sizeof path, "%s/%s", s_dir, name);
    FILE *file = fopen (path, "w");
    assert_non_null (file);
    fputs (text, file);
    fclose (file);
}

static void
s_remove (const char *name)
{
    char path [256];
    snprintf (path, sizeof path, "%s/%s", s_dir, name);
    unlink (path);
}

static void
s_listen (void)
{
    if (s_out)
        fclose (s_out);
    free (s_said);
    s_said = NULL;
    s_out = open_memstream (&s_said, &s_said_size);
}

static int
s_up (void)
{
    s_listen ();
    int rc = migrate_up (s_conninfo, s_dir, s_out);
    fflush (s_out);
    return rc;
}

static void
s_heard (const char *part)
{
    if (!strstr (s_said, part))
        fail_msg ("\"%s\" is not in: %s", part, s_said);
}

static int
setup (void **state)
{
    (void) state;
    snprintf (s_dir, sizeof s_dir, "/tmp/migrateXXXXXX");
    assert_non_null (mkdtemp (s_dir));
    help_sql ("CREATE DATABASE %s", s_database);
    s_write ("0001_one.up.sql", "CREATE TABLE one (id int);\n");
    s_write ("0001_one.down.sql", "DROP TABLE one;\n");
    s_write ("0002_two.up.sql", "CREATE TABLE two (id int);\nINSERT INTO two VALUES (1);\n");
    s_write ("0002_two.down.sql", "DROP TABLE two;\n");
    s_write ("README", "not a migration");
    return 0;
}

static int
teardown (void **state)
{
    (void) state;
    help_sql ("DROP DATABASE %s WITH (FORCE)", s_database);
    char command [128];
    snprintf (command, sizeof command, "rm -r %s", s_dir);
    return system (command);
}

static void
files_are_applied_once_and_taken_back (void **state)
{
    (void) state;
    assert_int_equal (s_up (), 0);
    assert_string_equal (s_said, "applied 0001_one\napplied 0002_two\n");
    assert_int_equal (s_up (), 0);
    assert_string_equal (s_said, "schema is up to date\n");
    s_listen ();
    s_write ("0003_three.up.sql", "SELECT 1");
    assert_int_equal (migrate_status (s_conninfo, s_dir, s_out), 0);
    fflush (s_out);
    s_heard ("0003_three                       pending\n");
    s_heard ("0001_one                         20");
    s_remove ("0003_three.up.sql");
    s_listen ();
    assert_int_equal (migrate_down (s_conninfo, s_dir, 1, s_out), 0);
    fflush (s_out);
    assert_string_equal (s_said, "took back 0002_two\n");
    assert_int_equal (s_up (), 0);
    assert_string_equal (s_said, "applied 0002_two\n");
    assert_int_equal (migrate_down (s_conninfo, s_dir, 9, s_out), 0);
}

static void
a_changed_or_missing_file_stops_everything (void **state)
{
    (void) state;
    assert_int_equal (s_up (), 0);
    s_write ("0001_one.up.sql", "CREATE TABLE one (id bigint);\n");
    s_write ("0003_three.up.sql", "CREATE TABLE three (id int);\n");
    assert_int_equal (s_up (), 1);
    s_heard ("/0001_one.up.sql: was changed after it was applied");
    s_write ("0001_one.up.sql", "CREATE TABLE one (id int);\n");
    s_remove ("0002_two.up.sql");
    s_remove ("0002_two.down.sql");
    assert_int_equal (s_up (), 1);
    s_heard ("/0002_two.up.sql: was applied and is missing");
    s_write ("0002_two.up.sql", "CREATE TABLE two (id int);\nINSERT INTO two VALUES (1);\n");
    assert_int_equal (s_up (), 0);
    s_write ("0000_zero.up.sql", "SELECT 1");
    assert_int_equal (s_up (), 1);
    s_heard ("/0000_zero.up.sql: comes before 0003_three");
}

static void
a_broken_file_changes_nothing_and_is_named_with_its_line (void **state)
{
    (void) state;
    s_write ("0003_three.up.sql", "CREATE TABLE three (id int);\n--  é;\nSELECT 'a;b', $x$;$x$;\n\n"
                                  "CREATE TABLE three_b (id nonsense);\n");
    assert_int_equal (s_up (), 1);
    s_heard ("/0003_three.up.sql:5: type \"nonsense\" does not exist");
    //  An error without a position: the line where its statement begins.
    s_write ("0003_three.up.sql", "CREATE TABLE three (id int PRIMARY KEY);\n/* ; */\n"
                                  "INSERT INTO three\nVALUES (1), (1);\n");
    assert_int_equal (s_up (), 1);
    s_heard ("/0003_three.up.sql:3: duplicate key value");
    s_write ("0003_three.up.sql", "COMMIT;\nSELECT 1;\n");
    assert_int_equal (s_up (), 1);
    s_heard ("/0003_three.up.sql: ends its transaction itself");
    s_write ("0003_three.up.sql", "CREATE TABLE three (id int);\nCOPY three FROM STDIN;\n");
    assert_int_equal (s_up (), 1);
    s_write ("0003_three.up.sql", "CREATE TABLE three (id int);\n");
    assert_int_equal (s_up (), 0);
    assert_string_equal (s_said, "applied 0003_three\n");
}

static void
two_numbers_alike_are_refused (void **state)
{
    (void) state;
    s_write ("0002_other.up.sql", "SELECT 1");
    assert_int_equal (s_up (), 1);
    s_heard ("have the same number");
    s_remove ("0002_other.up.sql");
    s_write ("0003_three.down.sql", "SELECT 1");
    assert_int_equal (s_up (), 1);
    s_heard ("0003_three.up.sql is missing");
}

static void
a_new_pair_has_the_next_number (void **state)
{
    (void) state;
    char path [256];
    struct stat stat_;
    s_listen ();
    assert_int_equal (migrate_new (s_dir, "add_things", s_out), 0);
    snprintf (path, sizeof path, "%s/0003_add_things.down.sql", s_dir);
    assert_int_equal (stat (path, &stat_), 0);
    assert_int_equal (migrate_new (s_dir, "../evil", s_out), 1);
    assert_int_equal (migrate_new (s_dir, "Upper", s_out), 1);
}

static void
tools_at_once_wait_for_each_other (void **state)
{
    (void) state;
    pid_t pids [4];
    fflush (NULL);
    for (int n = 0; n < 4; n++) {
        pids [n] = fork ();
        if (pids [n] == 0) {
            FILE *out = fopen ("/dev/null", "w");
            _exit (migrate_up (s_conninfo, s_dir, out));
        }
    }
    for (int n = 0; n < 4; n++) {
        int status;
        assert_int_equal (waitpid (pids [n], &status, 0), pids [n]);
        assert_int_equal (status, 0);
    }
    assert_int_equal (s_up (), 0);
    assert_string_equal (s_said, "schema is up to date\n");
}

static void
no_server_is_a_message (void **state)
{
    (void) state;
    s_listen ();
    assert_int_equal (migrate_up ("host=/nonexistent", s_dir, s_out), 1);
    fflush (s_out);
    s_heard ("database: ");
}

//  Everything there is, in a fresh database, up, down to nothing, and up again.
static void
our_own_migrations_go_both_ways (void **state)
{
    (void) state;
    s_listen ();
    for (int round = 0; round < 2; round++) {
        int rc = migrate_up (s_conninfo, "db/migrations", s_out);
        fflush (s_out);
        if (rc)
            fail_msg ("%s", s_said);
        rc = migrate_down (s_conninfo, "db/migrations", 9999, s_out);
        fflush (s_out);
        if (rc)
            fail_msg ("%s", s_said);
    }
}

static void
the_bootstrap_sets_passwords_again_and_again (void **state)
{
    (void) state;
    char name [64], conninfo [1024], more [256];
    snprintf (name, sizeof name, "busbar_boot_%d", (int) getpid ());
    for (int n = 0; n < 2; n++) {
        char password [16];
        snprintf (password, sizeof password, "pass'word%d", n);
        db_role_t role = { .name = name, .password = password };
        db_bootstrap_t what = { .server = getenv ("BUSBAR_TEST_DATABASE"), .database = s_database,
                                .roles = &role, .role_count = 1 };
        s_listen ();
        assert_int_equal (db_bootstrap (&what, s_out), 0);
        assert_false (what.guests);
        help_sql ("GRANT CONNECT ON DATABASE %s TO %s", s_database, name);
        snprintf (more, sizeof more, "user=%s password='pass\\'word%d'", name, n);
        help_conninfo (conninfo, sizeof conninfo, s_conninfo, more);
        PGconn *pg = PQconnectdb (conninfo);
        assert_int_equal (PQstatus (pg), CONNECTION_OK);
        PQfinish (pg);
        snprintf (more, sizeof more, "user=%s password=wrong", name);
        help_conninfo (conninfo, sizeof conninfo, s_conninfo, more);
        pg = PQconnectdb (conninfo);
        assert_int_equal (PQstatus (pg), CONNECTION_BAD);
        PQfinish (pg);
    }
    help_sql ("REVOKE ALL ON DATABASE %s FROM %s", s_database, name);
    help_sql ("DROP ROLE %s", name);
}

int
main (void)
{
    const char *database = help_database ();
    if (!database)
        return 0;
    snprintf (s_database, sizeof s_database, "migrate_%d", (int) getpid ());
    char more [128];
    snprintf (more, sizeof more, "dbname=%s", s_database);
    help_conninfo (s_conninfo, sizeof s_conninfo, database, more);
#define TEST(name) cmocka_unit_test_setup_teardown (name, setup, teardown)
    const struct CMUnitTest tests [] = {
        TEST (files_are_applied_once_and_taken_back),
        TEST (a_changed_or_missing_file_stops_everything),
        TEST (a_broken_file_changes_nothing_and_is_named_with_its_line),
        TEST (two_numbers_alike_are_refused),
        TEST (a_new_pair_has_the_next_number),
        TEST (tools_at_once_wait_for_each_other),
        TEST (no_server_is_a_message),
        TEST (our_own_migrations_go_both_ways),
        TEST (the_bootstrap_sets_passwords_again_and_again),
    };
    int failed = cmocka_run_group_tests (tests, NULL, NULL);
    if (s_out)
        fclose (s_out);
    free (s_said);
    help_drop ();
    return failed;
}
