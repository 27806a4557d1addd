//  test_db_row.c -- rows of every type as MessagePack, times, and the files of named statements.

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/secrets.h"
#include "tests/unit/db_help.h"

SQL_FILE (s_embedded, "db/migrations/0001_base.down.sql");

typedef struct {
    PGconn *pg;
    buf_t buf;
    mp_t row;
} ours_t;

static ours_t s_ours;

//  The first row of a statement.
static mp_t
s_row (const char *sql, db_rename_fn *rename)
{
    PGresult *result = PQexec (s_ours.pg, sql);
    if (PQresultStatus (result) != PGRES_TUPLES_OK)
        fail_msg ("%s", PQerrorMessage (s_ours.pg));
    buf_clear (&s_ours.buf);
    db_row_put (&s_ours.buf, result, 0, rename, NULL);
    PQclear (result);
    assert_int_equal (mp_valid (s_ours.buf.data, s_ours.buf.size, MP_DEPTH), s_ours.buf.size);
    return mp_buf (&s_ours.buf);
}

static void
s_text (mp_t value, const char *want)
{
    if (mp_type (value) != MP_TEXT || !text_is (mp_text (value), want))
        fail_msg ("%.*s is not %s", (int) mp_text (value).size, mp_text (value).data, want);
}

static void
s_real (const char *sql, double want)
{
    mp_t value = mp_get (s_row (sql, NULL), "v");
    assert_int_equal (mp_type (value), MP_REAL);
    assert_true (mp_real (value) == want);
}

static void
s_int (const char *sql, int64_t want)
{
    int64_t got;
    mp_t value = mp_get (s_row (sql, NULL), "v");
    assert_int_equal (mp_type (value), MP_INT);
    assert_true (mp_int_get (value, &got));
    assert_true (got == want);
}

static void
numbers_are_numbers (void **state)
{
    (void) state;
    s_int ("SELECT 7::smallint AS v", 7);
    s_int ("SELECT -70000::int AS v", -70000);
    s_int ("SELECT 9223372036854775807::bigint AS v", INT64_MAX);
    s_int ("SELECT (-9223372036854775807 - 1)::bigint AS v", INT64_MIN);
    s_int ("SELECT sum (n) AS v FROM generate_series (1, 4::bigint) n", 10);
    s_real ("SELECT 12.50::numeric AS v", 12.5);
    s_real ("SELECT 0.1::float8 AS v", 0.1);
    s_real ("SELECT 0.5::float4 AS v", 0.5);
    s_real ("SELECT 10.00::numeric (10, 2) AS v", 10.0);
    s_real ("SELECT 12345678901234567890123::numeric AS v", 12345678901234567890123.0);
    s_real ("SELECT 1e300::float8 AS v", 1e300);
    assert_int_equal (mp_type (mp_get (s_row ("SELECT 'NaN'::float8 AS v", NULL), "v")), MP_NIL);
    assert_int_equal (mp_type (mp_get (s_row ("SELECT '-inf'::float8 AS v", NULL), "v")), MP_NIL);
}

static void
other_scalars_keep_their_kind (void **state)
{
    (void) state;
    mp_t row = s_row ("SELECT true AS t, false AS f, NULL::int AS n, 'é\"x'::text AS s, "
                      "'0f9fcb22-8d5b-4a3e-9a3a-0b1c2d3e4f50'::uuid AS u, "
                      "'2026-11-22'::date AS d, '{\"a\": [1, null]}'::jsonb AS j, "
                      "'{\"b\":  1}'::json AS k, 'x'::varchar (4) AS c", NULL);
    assert_int_equal (mp_count (row), 9);
    assert_true (mp_bool (mp_get (row, "t")));
    assert_int_equal (mp_type (mp_get (row, "f")), MP_BOOL);
    assert_false (mp_bool (mp_get (row, "f")));
    assert_int_equal (mp_type (mp_get (row, "n")), MP_NIL);
    s_text (mp_get (row, "s"), "é\"x");
    s_text (mp_get (row, "u"), "0f9fcb22-8d5b-4a3e-9a3a-0b1c2d3e4f50");
    s_text (mp_get (row, "d"), "2026-11-22");
    s_text (mp_get (row, "c"), "x");
    int8_t type;
    assert_true (text_is (mp_ext (mp_get (row, "j"), &type), "{\"a\": [1, null]}"));
    assert_int_equal (type, MP_EXT_JSON);
    assert_true (text_is (mp_ext (mp_get (row, "k"), &type), "{\"b\":  1}"));
}

static void
arrays_are_arrays (void **state)
{
    (void) state;
    mp_t row = s_row ("SELECT ARRAY ['a', 'b \"c\"', NULL, 'NULL', '', 'd,e}', E'f\\\\g'] AS t, "
                      "ARRAY [1, NULL, -3] AS i, '{}'::text [] AS e, ARRAY [1.5, 2] AS n, "
                      "ARRAY [true, false] AS b, ARRAY [[1, 2], [3, 4]] AS m, "
                      "ARRAY ['{\"x\": \"y,z\"}'::jsonb] AS j, NULL::text [] AS z, "
                      "ARRAY ['2026-11-22 04:13:45+00'::timestamptz] AS w", NULL);
    mp_t texts = mp_get (row, "t");
    assert_int_equal (mp_count (texts), 7);
    s_text (mp_at (texts, 0), "a");
    s_text (mp_at (texts, 1), "b \"c\"");
    assert_int_equal (mp_type (mp_at (texts, 2)), MP_NIL);
    s_text (mp_at (texts, 3), "NULL");
    s_text (mp_at (texts, 4), "");
    s_text (mp_at (texts, 5), "d,e}");
    s_text (mp_at (texts, 6), "f\\g");
    assert_int_equal (mp_count (mp_get (row, "i")), 3);
    assert_int_equal (mp_int (mp_at (mp_get (row, "i"), 2)), -3);
    assert_int_equal (mp_type (mp_get (row, "e")), MP_ARRAY);
    assert_int_equal (mp_count (mp_get (row, "e")), 0);
    assert_true (mp_real (mp_at (mp_get (row, "n"), 0)) == 1.5);
    assert_true (mp_bool (mp_at (mp_get (row, "b"), 0)));
    s_text (mp_get (row, "m"), "{{1,2},{3,4}}");
    int8_t type;
    assert_true (text_is (mp_ext (mp_at (mp_get (row, "j"), 0), &type), "{\"x\": \"y,z\"}"));
    assert_int_equal (mp_type (mp_get (row, "z")), MP_NIL);
    s_text (mp_at (mp_get (row, "w"), 0), "2026-11-22T04:13:45.000000Z");
}

static const char *
s_rename (void *arg, const char *column)
{
    (void) arg;
    return strcmp (column, "user_id") == 0      ? NULL
           : strcmp (column, "created_at") == 0 ? "createdAt"
                                                : column;
}

static void
columns_are_renamed_and_left_out (void **state)
{
    (void) state;
    mp_t row = s_row ("SELECT 1 AS id, 2 AS user_id, 3 AS created_at, '{}'::jsonb AS live, "
                      "'{}'::jsonb AS live2, 4 AS _was, 5 AS lives, 6 AS live_x", s_rename);
    assert_int_equal (mp_count (row), 4);
    assert_int_equal (mp_int (mp_get (row, "id")), 1);
    assert_int_equal (mp_int (mp_get (row, "createdAt")), 3);
    assert_int_equal (mp_int (mp_get (row, "lives")), 5);
    assert_int_equal (mp_int (mp_get (row, "live_x")), 6);
}

static void
times_are_what_base_utc_says (void **state)
{
    (void) state;
    static const char *const times [] = {
        "2026-11-22 04:13:45.123456+00", "2026-11-22 04:13:45+00", "2026-11-22 04:13:45.1+00",
        "1969-12-31 23:59:59.999999+00", "12026-01-02 03:04:05+00", "infinity", "-infinity" };
    char sql [256];
    for (size_t n = 0; n < sizeof times / sizeof *times; n++) {
        snprintf (sql, sizeof sql, "SELECT t AS v, base.utc (t) AS u, t::text AS pg "
                  "FROM (SELECT '%s'::timestamptz AS t) x", times [n]);
        mp_t row = s_row (sql, NULL);
        char want [64];
        snprintf (want, sizeof want, "%.*s", (int) mp_text (mp_get (row, "u")).size,
                  mp_text (mp_get (row, "u")).data);
        s_text (mp_get (row, "v"), want);
    }
    char out [40];
    db_time_text ("2026-11-22 04:13:45.12+00", out);
    assert_string_equal (out, "2026-11-22T04:13:45.120000Z");
    db_time_text ("", out);
    assert_string_equal (out, "");
}

//  ---- statements ----

static void
statements_are_cut_at_their_names (void **state)
{
    (void) state;
    const char *one = "--  A file of statements.\n\n-- :name first\n-- $1 id. No row: not found\n"
                      "SELECT 1,\n       -- inside\n       2;\n\n-- :name second  \nSELECT 'x;'";
    const char *two = "-- :name third\r\nSELECT 3\r\n";
    sql_t *sql = sql_new ((const char *const []) { one, two, NULL });
    assert_int_equal (sql_count (sql), 3);
    assert_string_equal (sql_name (sql, 1), "second");
    assert_null (sql_name (sql, 3));
    assert_string_equal (sql_text (sql, "first"), "SELECT 1,\n       -- inside\n       2");
    assert_string_equal (sql_text (sql, "second"), "SELECT 'x;'");
    assert_string_equal (sql_text (sql, "third"), "SELECT 3");
    assert_null (sql_text (sql, "fourth"));
    sql_destroy (&sql);
    assert_null (sql);
    assert_non_null (strstr (s_embedded, "DROP FUNCTION base.api_fail (text, text);"));
    assert_int_equal (s_embedded [strlen (s_embedded) - 1], '\n');
}

//  ---- secrets ----

static void
secrets_come_from_a_descriptor (void **state)
{
    (void) state;
    int pipe_fd [2];
    assert_int_equal (pipe (pipe_fd), 0);
    const char *lines = "db_password=a=b\nempty=\nnot a line\nsecret_key_1=k\ndb=short";
    assert_int_equal (write (pipe_fd [1], lines, strlen (lines)), (ssize_t) strlen (lines));
    close (pipe_fd [1]);
    unsetenv ("JWT_SECRET");
    unsetenv ("JWT_SECRET_KEY");
    setenv ("SECRET_KEY", "from the environment", 1);
    setenv ("DB_PASSWORD", "not this", 1);
    secrets_read (pipe_fd [0]);
    assert_int_equal (close (pipe_fd [0]), -1);
    assert_string_equal (secrets_get ("db_password"), "a=b");
    assert_string_equal (secrets_get ("db"), "short");
    assert_string_equal (secrets_get ("secret_key_1"), "k");
    assert_null (secrets_get ("empty"));
    assert_null (secrets_get ("secret_key_2"));
    assert_string_equal (secrets_get ("jwt_secret"), "from the environment");
    secrets_read (-1);
    assert_string_equal (secrets_get ("db_password"), "not this");
    unsetenv ("DB_PASSWORD");
    unsetenv ("SECRET_KEY");
    assert_null (secrets_get ("db_password"));
}

int
main (void)
{
    const struct CMUnitTest alone [] = {
        cmocka_unit_test (statements_are_cut_at_their_names),
        cmocka_unit_test (secrets_come_from_a_descriptor),
    };
    int failed = cmocka_run_group_tests (alone, NULL, NULL);
    const char *database = help_database ();
    if (!database)
        return failed;
    s_ours.pg = PQconnectdb (database);
    PQclear (PQexec (s_ours.pg, "SET TimeZone = 'UTC'"));
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (numbers_are_numbers),
        cmocka_unit_test (other_scalars_keep_their_kind),
        cmocka_unit_test (arrays_are_arrays),
        cmocka_unit_test (columns_are_renamed_and_left_out),
        cmocka_unit_test (times_are_what_base_utc_says),
    };
    failed += cmocka_run_group_tests (tests, NULL, NULL);
    PQfinish (s_ours.pg);
    buf_free (&s_ours.buf);
    help_drop ();
    return failed;
}
