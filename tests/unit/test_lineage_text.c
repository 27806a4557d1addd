//  test_lineage_text.c -- what a statement makes, and out of which query.

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

//  Before cmocka, which has a fail of its own.
#include "actors/platform/lineage_text.h"

#include <cmocka.h>

static void
what_is_made_is_read (void **state)
{
    (void) state;
    static const struct {
        const char *sql, *schema, *name, *operation, *query;
    } cases [] = {
        { "CREATE TABLE a AS SELECT 1", NULL, "a", "create table", "SELECT 1" },
        { "create unlogged table if not exists S.B (x, y) as (select 1, 2) with no data", "s", "b",
          "create table", "(select 1, 2)" },
        { "CREATE TABLE \"As \"\"x\"\"\".\"T\" AS WITH d AS (SELECT 1) SELECT * FROM d WITH DATA",
          "As \"x\"", "T", "create table", "WITH d AS (SELECT 1) SELECT * FROM d" },
        { "-- as\n/* create */ CREATE OR REPLACE VIEW v AS SELECT 'as' AS data", NULL, "v",
          "create view",
          "SELECT 'as' AS data" },
        { "CREATE VIEW v WITH (security_barrier) AS TABLE t WITH LOCAL CHECK OPTION", NULL, "v",
          "create view", "TABLE t" },
        { "CREATE VIEW v AS SELECT 1 WITH CHECK OPTION", NULL, "v", "create view", "SELECT 1" },
        { "CREATE MATERIALIZED VIEW IF NOT EXISTS m USING heap AS SELECT 1 AS option", NULL, "m",
          "create view",
          "SELECT 1 AS option" } };
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        made_t made;
        assert_true (made_read (&made, cases [n].sql));
        assert_string_equal (made.name, cases [n].name);
        assert_string_equal (made.schema ? made.schema : "",
                             cases [n].schema ? cases [n].schema : "");
        assert_string_equal (made.operation, cases [n].operation);
        assert_true (text_is (made.query, cases [n].query));
        made_free (&made);
    }
}

static void
others_make_nothing (void **state)
{
    (void) state;
    static const char *const cases [] = {
        "", "CREATE", "CREATE TABLE", "CREATE TABLE a", "CREATE TABLE a (as int)",
        "CREATE TEMP TABLE a AS SELECT 1", "CREATE TABLE a AS", "CREATE TABLE a. AS SELECT 1",
        "CREATE INDEX i ON a (b)", "SELECT 1 AS a", "CREATE MATERIALIZED TABLE a AS SELECT 1",
        "CREATE TABLE 1 AS SELECT 1", "CREATE TABLE IF a AS SELECT 1", "CREATE TABLE \"a" };
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        made_t made;
        assert_false (made_read (&made, cases [n]));
        assert_null (made.name);
    }
}

int
main (void)
{
    const struct CMUnitTest tests [] = { cmocka_unit_test (what_is_made_is_read),
                                         cmocka_unit_test (others_make_nothing) };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
