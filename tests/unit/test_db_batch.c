//  test_db_batch.c -- what the units of a batch have in common, looked at and written before the
//  commit.

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/log.h"
#include "tests/unit/db_help.h"

static const char s_statements [] =
    "-- :name add\n"
    "INSERT INTO things (id) VALUES ($1) RETURNING id\n"
    "-- :name gather\n"
    "INSERT INTO gathered (id) SELECT id::bigint FROM string_to_table ($1::text, ' ') AS id "
    "RETURNING id\n"
    "-- :name note\n"
    "INSERT INTO notes (id, gathered) VALUES ($1, $2)\n";

typedef struct {
    help_lanes_t lanes;
    size_t begun, ran, rows;     //  calls of the gatherer; rows that it heard of
    buf_t list;
} ours_t;

typedef struct {
    ours_t *ours;
    char id [24];
    bool look, kill;
    unsigned rounds;
    size_t calls, rows;          //  rows that were gathered when it was told
    error_code_t code;
    bool unknown;
    char constraint [64];
} heard_t;

static void
s_on_done (void *arg, db_result_t *results, size_t count)
{
    heard_t *heard = arg;
    assert_true (count > 0);
    heard->calls++;
    heard->code = results [0].code;
    heard->unknown = results [0].unknown;
    heard->rows = heard->ours->rows;
    snprintf (heard->constraint, sizeof heard->constraint, "%s",
              results [0].constraint ? results [0].constraint : "");
    heard->ours->lanes.done++;
}

static db_verdict_t
s_before (void *arg, db_unit_t *unit, unsigned round, db_result_t *results, size_t count,
          error_code_t *code, const char **text)
{
    heard_t *heard = arg;
    ours_t *ours = heard->ours;
    (void) code;
    (void) text;
    heard->rounds = round + 1;
    assert_int_equal (count, 1);
    assert_string_equal (PQgetvalue (results [0].result, 0, 0), heard->id);
    if (round == 0) {
        if (ours->list.size)
            buf_putc (&ours->list, ' ');
        buf_puts (&ours->list, heard->id);
        if (heard->kill)
            help_sql ("SELECT pg_terminate_backend (pid) FROM pg_stat_activity "
                      "WHERE usename = 'busbar_unit'");
        return heard->look ? DB_LOOK : DB_COMMIT;
    }
    char rows [24];
    snprintf (rows, sizeof rows, "%zu", ours->rows);
    db_unit_add (unit, "note", P (heard->id, rows));
    return DB_COMMIT;
}

static void
s_begin (void *arg)
{
    ours_t *ours = arg;
    ours->begun++;
    buf_clear (&ours->list);
}

static void
s_add (void *arg, db_t *db)
{
    text_t list = buf_text (&((ours_t *) arg)->list);
    db_gather_add (db, "gather", &list, 1);
}

static void
s_ran (void *arg, db_result_t *results, size_t count)
{
    ours_t *ours = arg;
    assert_int_equal (count, 1);
    ours->ran++;
    ours->rows += (size_t) PQntuples (results [0].result);
}

static int
setup (void **state)
{
    help_sql ("CREATE TABLE IF NOT EXISTS unit.things (id bigint PRIMARY KEY)");
    help_sql ("CREATE TABLE IF NOT EXISTS unit.gathered (id bigint PRIMARY KEY)");
    help_sql ("CREATE TABLE IF NOT EXISTS unit.notes (id bigint PRIMARY KEY, gathered bigint)");
    help_sql ("TRUNCATE unit.things, unit.gathered, unit.notes");
    ours_t *ours = calloc (1, sizeof *ours);
    help_lanes_new (&ours->lanes, s_statements, 0);
    db_gather (ours->lanes.db, &(db_gather_t) { .begin = s_begin, .add = s_add, .ran = s_ran,
                                                .arg = ours });
    help_lanes_start (&ours->lanes);
    assert_string_equal (ours->lanes.error, "");
    *state = ours;
    return 0;
}

static int
teardown (void **state)
{
    ours_t *ours = *state;
    help_lanes_end (&ours->lanes);
    buf_free (&ours->list);
    free (ours);
    return 0;
}

static void
s_unit (ours_t *ours, heard_t *heard, long id)
{
    heard->ours = ours;
    snprintf (heard->id, sizeof heard->id, "%ld", id);
    db_unit_t *unit = db_unit_new (ours->lanes.db);
    db_unit_add (unit, "add", P (heard->id));
    db_unit_before_commit (unit, s_before, heard);
    db_unit_commit (&unit, s_on_done, heard);
}

static void
what_units_share_is_written_once_for_a_batch (void **state)
{
    ours_t *ours = *state;
    enum { COUNT = 600 };
    static heard_t heard [COUNT];
    memset (heard, 0, sizeof heard);
    for (long n = 0; n < COUNT; n++)
        s_unit (ours, &heard [n], n);
    assert_true (help_until (ours->lanes.loop, &ours->lanes.done, COUNT));
    assert_int_equal (ours->rows, COUNT);
    assert_true (ours->ran < 10);
    assert_int_equal (ours->begun, ours->ran);
    for (size_t n = 0; n < COUNT; n++) {
        assert_int_equal (heard [n].code, E_NONE);
        assert_int_equal (heard [n].rounds, 1);
        //  Told when what was gathered of its batch was known.
        assert_true (heard [n].rows > n);
    }
    assert_string_equal (help_sql ("SELECT count (*) FROM unit.gathered"), "600");
}

static void
who_looks_again_sees_what_was_gathered (void **state)
{
    ours_t *ours = *state;
    heard_t heard [5] = { 0 };
    heard [1].look = heard [3].look = true;
    for (long n = 0; n < 5; n++)
        s_unit (ours, &heard [n], n);
    assert_true (help_until (ours->lanes.loop, &ours->lanes.done, 5));
    assert_int_equal (db_stats (ours->lanes.db)->batches, 1);
    for (long n = 0; n < 5; n++) {
        assert_int_equal (heard [n].code, E_NONE);
        assert_int_equal (heard [n].rounds, heard [n].look ? 2 : 1);
    }
    assert_string_equal (help_sql ("SELECT string_agg (id || ':' || gathered, ' ' ORDER BY id) "
                                   "FROM unit.notes"), "1:5 3:5");
}

//  It fails for all, and nobody knows whose part it was.
static void
a_failure_of_what_was_gathered_is_its_owners (void **state)
{
    ours_t *ours = *state;
    enum { COUNT = 50, BAD = 17 };
    static heard_t heard [COUNT];
    memset (heard, 0, sizeof heard);
    help_sql ("INSERT INTO unit.gathered VALUES (%d)", BAD);
    for (long n = 0; n < COUNT; n++)
        s_unit (ours, &heard [n], n);
    assert_true (help_until (ours->lanes.loop, &ours->lanes.done, COUNT));
    for (int n = 0; n < COUNT; n++) {
        assert_int_equal (heard [n].calls, 1);
        assert_int_equal (heard [n].code, n == BAD ? E_CONFLICT : E_NONE);
        assert_string_equal (heard [n].constraint, n == BAD ? "gathered_pkey" : "");
    }
    assert_string_equal (help_sql ("SELECT count (*) FROM unit.things"), "49");
    assert_string_equal (help_sql ("SELECT count (*) FROM unit.gathered"), "50");
}

//  Who makes a batch fail runs by itself; those before and behind it stay together.
static void
a_failing_unit_costs_two_more_commits (void **state)
{
    ours_t *ours = *state;
    enum { COUNT = 200, BAD = 120 };
    static heard_t heard [COUNT];
    memset (heard, 0, sizeof heard);
    help_sql ("INSERT INTO unit.things VALUES (%d)", BAD);
    for (long n = 0; n < COUNT; n++)
        s_unit (ours, &heard [n], n);
    assert_true (help_until (ours->lanes.loop, &ours->lanes.done, COUNT));
    for (int n = 0; n < COUNT; n++)
        assert_int_equal (heard [n].code, n == BAD ? E_CONFLICT : E_NONE);
    assert_int_equal (db_stats (ours->lanes.db)->batches, 4);
    assert_int_equal (ours->rows, COUNT - 1);
}

//  Before the sync was sent, nothing can have been committed.
static void
a_loss_between_looks_is_known (void **state)
{
    ours_t *ours = *state;
    heard_t heard = { .look = true, .kill = true }, next = { 0 };
    s_unit (ours, &heard, 1);
    assert_true (help_until (ours->lanes.loop, &ours->lanes.done, 1));
    assert_int_equal (heard.code, E_UNAVAILABLE);
    assert_false (heard.unknown);
    //  The lane comes back, which under valgrind takes its time.
    int64_t end = loop_now (ours->lanes.loop) + 60000;
    do {
        loop_turn (ours->lanes.loop, 50);
        next = (heard_t) { 0 };
        s_unit (ours, &next, 1);
        assert_true (help_until (ours->lanes.loop, &next.calls, 1));
    } while (next.code == E_UNAVAILABLE && loop_now (ours->lanes.loop) < end);
    assert_int_equal (next.code, E_NONE);
}

int
main (void)
{
    log_open ("test", LOG_ERROR);
    if (!help_database ())
        return 0;
#define TEST(name) cmocka_unit_test_setup_teardown (name, setup, teardown)
    const struct CMUnitTest tests [] = {
        TEST (what_units_share_is_written_once_for_a_batch),
        TEST (who_looks_again_sees_what_was_gathered),
        TEST (a_failure_of_what_was_gathered_is_its_owners),
        TEST (a_failing_unit_costs_two_more_commits),
        TEST (a_loss_between_looks_is_known),
    };
    int failed = cmocka_run_group_tests (tests, NULL, NULL);
    help_drop ();
    return failed;
}
