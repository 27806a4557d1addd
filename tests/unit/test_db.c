//  test_db.c -- the lanes against a real PostgreSQL: order, batches, failures, loss, cancellation.

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/log.h"
#include "tests/unit/db_help.h"

static const char s_statements [] =
    "-- :name echo\n"
    "-- $1 any text\n"
    "SELECT $1::text AS value;\n"
    "-- :name nap\n"
    "SELECT pg_sleep ($1::float8), $2::text AS value\n"
    "-- :name add\n"
    "INSERT INTO things (id, note) VALUES ($1, $2) RETURNING id\n"
    "-- :name count\n"
    "SELECT count (*) AS n FROM things\n"
    "-- :name live\n"
    "SELECT live_add ($1, $2, 'thing.added', jsonb_build_object ('id', $2::text)) AS live\n"
    "-- :name die\n"
    "SELECT pg_terminate_backend (pg_backend_pid ())\n"
    "-- :name refuse\n"
    "SELECT api_fail ('U0409', 'thing is ' || $1)\n"
    "-- :name owe\n"
    "INSERT INTO debts (id, thing) VALUES ($1, $2)\n"
    "-- :name who\n"
    "SELECT pg_backend_pid () AS pid, current_setting ('search_path') AS path\n"
    "-- :name myself\n"
    "SELECT current_query () || $1 AS value\n";

//  What a completion heard.
typedef struct {
    help_lanes_t *ours;
    size_t calls, count, order;
    error_code_t code;
    bool unknown;
    char sqlstate [6], text [64], constraint [64], value [64], live [256];
    int rows;
} heard_t;

static size_t s_order;

static void
s_on_done (void *arg, db_result_t *results, size_t count)
{
    heard_t *heard = arg;
    heard->calls++;
    heard->count = count;
    heard->order = ++s_order;
    heard->code = results [0].code;
    heard->unknown = results [0].unknown;
    memcpy (heard->sqlstate, results [0].sqlstate, sizeof heard->sqlstate);
    snprintf (heard->text, sizeof heard->text, "%s", results [0].text ? results [0].text : "");
    snprintf (heard->constraint, sizeof heard->constraint, "%s",
              results [0].constraint ? results [0].constraint : "");
    for (size_t n = 0; n < count; n++) {
        PGresult *result = results [n].result;
        if (!result)
            continue;
        heard->rows = PQntuples (result);
        int value = PQfnumber (result, "value"), live = PQfnumber (result, "live");
        if (value >= 0 && heard->rows)
            snprintf (heard->value, sizeof heard->value, "%s", PQgetvalue (result, 0, value));
        if (live >= 0 && heard->rows)
            snprintf (heard->live, sizeof heard->live, "%s", PQgetvalue (result, 0, live));
        if (value < 0 && live < 0 && heard->rows)
            snprintf (heard->value, sizeof heard->value, "%s", PQgetvalue (result, 0, 0));
    }
    heard->ours->done++;
}

static int
setup (void **state)
{
    help_sql ("CREATE TABLE IF NOT EXISTS unit.things (id bigint PRIMARY KEY, note text)");
    help_sql ("CREATE TABLE IF NOT EXISTS unit.debts (id bigint PRIMARY KEY, thing bigint "
              "CONSTRAINT debts_thing REFERENCES unit.things (id) DEFERRABLE INITIALLY DEFERRED)");
    help_sql ("TRUNCATE unit.things, unit.debts, unit.live_log");
    help_lanes_t *ours = calloc (1, sizeof *ours);
    help_lanes_new (ours, s_statements, 0);
    help_lanes_start (ours);
    assert_string_equal (ours->error, "");
    *state = ours;
    return 0;
}

static int
teardown (void **state)
{
    help_lanes_t *ours = *state;
    help_lanes_end (ours);
    free (ours);
    return 0;
}

static heard_t
s_query (help_lanes_t *ours, db_lane_t lane, const char *name, const char *const *params,
         size_t count)
{
    heard_t heard = { .ours = ours };
    db_query (ours->db, lane, name, params, count, 0, s_on_done, &heard);
    assert_true (help_until (ours->loop, &heard.calls, 1));
    return heard;
}

static void
s_unit (help_lanes_t *ours, heard_t *heard, long id)
{
    char text [32];
    snprintf (text, sizeof text, "%ld", id);
    db_unit_t *unit = db_unit_new (ours->db);
    db_unit_add (unit, "add", P (text, "note"));
    db_unit_add (unit, "live", P ("user:1/things", text));
    heard->ours = ours;
    db_unit_commit (&unit, s_on_done, heard);
}

//  ---- reads ----

static void
a_refused_statement_is_named (void **state)
{
    (void) state;
    help_lanes_t lanes;
    help_lanes_new (&lanes, "-- :name good\nSELECT 1\n"
                            "-- :name bad\nSELECT nothing FROM nowhere\n", 0);
    help_lanes_start (&lanes);
    assert_string_equal (lanes.error, "statement bad: relation \"nowhere\" does not exist");
    help_lanes_end (&lanes);
}

static void
reads_come_back_with_their_values (void **state)
{
    help_lanes_t *ours = *state;
    enum { COUNT = 500 };
    static heard_t heard [COUNT];
    memset (heard, 0, sizeof heard);
    for (int n = 0; n < COUNT; n++) {
        char text [32];
        snprintf (text, sizeof text, "value %d", n);
        heard [n].ours = ours;
        db_query (ours->db, DB_READ, "echo", P (text), 0, s_on_done, &heard [n]);
    }
    assert_true (help_until (ours->loop, &ours->done, COUNT));
    for (int n = 0; n < COUNT; n++) {
        char text [32];
        snprintf (text, sizeof text, "value %d", n);
        assert_int_equal (heard [n].code, E_NONE);
        assert_string_equal (heard [n].value, text);
    }
    assert_true (db_up (ours->db));
    assert_int_equal (db_stats (ours->db)->in_flight, 0);
    assert_int_equal (db_stats (ours->db)->waiting, 0);
    heard_t null = s_query (ours, DB_READ, "echo", P (NULL));
    assert_int_equal (null.code, E_NONE);
    assert_string_equal (null.value, "");
}

static void
a_failed_read_hurts_no_other (void **state)
{
    help_lanes_t *ours = *state;
    heard_t heard [3] = { { .ours = ours }, { .ours = ours }, { .ours = ours } };
    db_query (ours->db, DB_READ, "echo", P ("a"), 0, s_on_done, &heard [0]);
    db_query (ours->db, DB_READ, "refuse", P ("broken"), 0, s_on_done, &heard [1]);
    db_query (ours->db, DB_READ, "echo", P ("b"), 0, s_on_done, &heard [2]);
    assert_true (help_until (ours->loop, &ours->done, 3));
    assert_string_equal (heard [0].value, "a");
    assert_string_equal (heard [2].value, "b");
    assert_int_equal (heard [1].code, E_CONFLICT);
    assert_string_equal (heard [1].sqlstate, "U0409");
    assert_string_equal (heard [1].text, "thing is broken");
}

static void
texts_are_prepared_once_and_forgotten_in_turn (void **state)
{
    help_lanes_t *ours = *state;
    for (int round = 0; round < 2; round++)
        for (int n = 0; n < 300; n++) {
            char text [64], want [32];
            snprintf (text, sizeof text, "SELECT %d + $1::int AS value", n);
            snprintf (want, sizeof want, "%d", n + 1);
            heard_t heard = { .ours = ours };
            db_query_text (ours->db, DB_WRITE, text, P ("1"), 0, s_on_done, &heard);
            assert_true (help_until (ours->loop, &heard.calls, 1));
            assert_string_equal (heard.value, want);
        }
    heard_t heard = { .ours = ours };
    db_query_text (ours->db, DB_WRITE,
                   "SELECT count (*) AS value FROM pg_prepared_statements WHERE NOT from_sql",
                   NULL, 0, 0, s_on_done, &heard);
    assert_true (help_until (ours->loop, &heard.calls, 1));
    assert_true (atoi (heard.value) <= 257);
    assert_true (atoi (heard.value) >= 250);
}

static void
a_changed_table_does_not_stop_a_prepared_read (void **state)
{
    help_lanes_t *ours = *state;
    const char *text = "SELECT * FROM changing";
    help_sql ("CREATE TABLE unit.changing AS SELECT 1 AS a");
    for (int n = 0; n < 8; n++) {
        heard_t heard = { .ours = ours };
        db_query_text (ours->db, n % 2 ? DB_WRITE : DB_READ, text, NULL, 0, 0, s_on_done, &heard);
        assert_true (help_until (ours->loop, &heard.calls, 1));
        assert_int_equal (heard.code, E_NONE);
        if (n == 4)
            help_sql ("ALTER TABLE unit.changing ADD b int");
    }
    help_sql ("DROP TABLE unit.changing");
}

//  ---- lanes ----

static void
lanes_do_not_wait_for_each_other (void **state)
{
    help_lanes_t *ours = *state;
    heard_t slow = { .ours = ours }, read = { .ours = ours }, write = { .ours = ours };
    uint64_t handle
        = db_query (ours->db, DB_SLOW, "nap", P ("60", "x"), 0, s_on_done, &slow);
    db_query (ours->db, DB_READ, "echo", P ("r"), 0, s_on_done, &read);
    s_unit (ours, &write, 1);
    assert_true (help_until (ours->loop, &ours->done, 2));
    assert_int_equal (slow.calls, 0);
    assert_string_equal (read.value, "r");
    assert_int_equal (write.code, E_NONE);
    db_cancel (ours->db, handle);
    assert_true (help_until (ours->loop, &slow.calls, 1));
    assert_int_equal (slow.code, E_TIMEOUT);
    //  The connection serves on.
    for (int n = 0; n < 4; n++)
        assert_int_equal (s_query (ours, DB_SLOW, "echo", P ("s")).code, E_NONE);
}

static void
a_slow_statement_ends_at_its_deadline (void **state)
{
    help_lanes_t *ours = *state;
    heard_t heard [3] = { { .ours = ours }, { .ours = ours }, { .ours = ours } };
    int64_t begin = loop_now (ours->loop);
    for (int n = 0; n < 3; n++)
        db_query (ours->db, DB_SLOW, "nap", P ("60", "x"), 150, s_on_done, &heard [n]);
    assert_true (help_until (ours->loop, &ours->done, 3));
    assert_true (loop_now (ours->loop) - begin < 5000);
    for (int n = 0; n < 3; n++)
        assert_int_equal (heard [n].code, E_TIMEOUT);
}

static void
a_slow_statement_carries_its_trace (void **state)
{
    help_lanes_t *ours = *state;
    static const char trace [] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const char *const comments [] = { trace, "*/ DROP TABLE things", NULL };
    for (int n = 0; n < 3; n++) {
        heard_t heard = { .ours = ours };
        uint64_t handle = db_query (ours->db, DB_SLOW, "myself", P ("!"), 0, s_on_done, &heard);
        db_comment (ours->db, handle, comments [n]);
        assert_true (help_until (ours->loop, &heard.calls, 1));
        assert_int_equal (heard.code, E_NONE);
        assert_true (!strstr (heard.value, n ? "/*" : "no such text"));
        assert_true (n || strstr (heard.value, "/*traceparent='00-0af7651916cd43dd8448"));
    }
}

static void
a_cancelled_statement_that_waits_is_never_sent (void **state)
{
    help_lanes_t *ours = *state;
    heard_t heard [4] = { { .ours = ours }, { .ours = ours }, { .ours = ours }, { .ours = ours } };
    uint64_t handles [4];
    for (int n = 0; n < 3; n++)
        handles [n]
            = db_query (ours->db, DB_SLOW, "nap", P ("60", "x"), 0, s_on_done, &heard [n]);
    handles [3] = db_query (ours->db, DB_READ, "echo", P ("x"), 0, s_on_done, &heard [3]);
    db_cancel (ours->db, handles [3]);
    db_cancel (ours->db, handles [2]);
    assert_int_equal (heard [2].calls, 0);
    loop_turn (ours->loop, 50);
    assert_int_equal (heard [2].calls, 1);
    assert_int_equal (heard [2].code, E_TIMEOUT);
    db_cancel (ours->db, handles [0]);
    db_cancel (ours->db, handles [1]);
    db_cancel (ours->db, 123456);
    assert_true (help_until (ours->loop, &ours->done, 3));
    assert_int_equal (heard [3].calls, 0);
}

//  ---- units ----

static void
one_bad_unit_among_a_thousand (void **state)
{
    help_lanes_t *ours = *state;
    enum { COUNT = 1000, BAD = 617 };
    static heard_t heard [COUNT];
    memset (heard, 0, sizeof heard);
    help_sql ("INSERT INTO unit.things VALUES (%d, 'in the way')", BAD);
    for (long n = 0; n < COUNT; n++)
        s_unit (ours, &heard [n], n);
    assert_true (help_until (ours->loop, &ours->done, COUNT));
    long off = 0;
    for (long n = 0; n < COUNT; n++) {
        if (n == BAD) {
            assert_int_equal (heard [n].code, E_CONFLICT);
            assert_string_equal (heard [n].constraint, "things_pkey");
            assert_int_equal (heard [n].count, 2);
            continue;
        }
        assert_int_equal (heard [n].code, E_NONE);
        char want [32];
        snprintf (want, sizeof want, "\"off\": %ld,", ++off);
        assert_non_null (strstr (heard [n].live, want));
    }
    assert_string_equal (help_sql ("SELECT count (*) || ' ' || max (off) FROM unit.live_log"),
                         "999 999");
    assert_true (db_stats (ours->db)->batches < 20);
    assert_int_equal (db_stats (ours->db)->failures, 1);
}

//  A constraint that speaks only at the commit: the error comes in place of the sync.
static void
a_failure_at_the_commit_is_its_own (void **state)
{
    help_lanes_t *ours = *state;
    heard_t heard [3] = { { .ours = ours }, { .ours = ours }, { .ours = ours } };
    s_unit (ours, &heard [0], 1);
    db_unit_t *unit = db_unit_new (ours->db);
    db_unit_add (unit, "owe", P ("1", "404"));
    db_unit_commit (&unit, s_on_done, &heard [1]);
    s_unit (ours, &heard [2], 2);
    assert_true (help_until (ours->loop, &ours->done, 3));
    assert_int_equal (heard [0].code, E_NONE);
    assert_int_equal (heard [2].code, E_NONE);
    assert_int_equal (heard [1].code, error_by_sqlstate ("23503"));
    assert_string_equal (heard [1].constraint, "debts_thing");
    assert_string_equal (help_sql ("SELECT count (*) FROM unit.things"), "2");
    assert_string_equal (help_sql ("SELECT max (off) FROM unit.live_log"), "2");
    assert_int_equal (s_query (ours, DB_WRITE, "echo", P ("on")).code, E_NONE);
}

static db_verdict_t
s_add_more (void *arg, db_unit_t *unit, unsigned round, db_result_t *results, size_t count,
            error_code_t *code, const char **text)
{
    (void) round;
    (void) code;
    (void) text;
    size_t *seen = arg;
    ++*seen;
    assert_int_equal (count, 2);
    assert_int_equal (PQntuples (results [0].result), 1);
    db_unit_add (unit, "add", P ("1000", PQgetvalue (results [0].result, 0, 0)));
    return DB_COMMIT;
}

static db_verdict_t
s_say_no (void *arg, db_unit_t *unit, unsigned round, db_result_t *results, size_t count,
          error_code_t *code, const char **text)
{
    (void) round;
    (void) unit;
    (void) results;
    (void) count;
    ++*(size_t *) arg;
    *code = E_KEY_REUSED;
    *text = "not this one";
    return DB_REFUSE;
}

static void
s_unit_before (help_lanes_t *ours, heard_t *heard, const char *id, db_before_fn *fn, size_t *seen)
{
    heard->ours = ours;
    db_unit_t *unit = db_unit_new (ours->db);
    db_unit_add (unit, "add", P (id, "note"));
    db_unit_add (unit, "echo", P ("second"));
    db_unit_before_commit (unit, fn, seen);
    db_unit_commit (&unit, s_on_done, heard);
}

static void
before_the_commit_a_unit_may_grow_or_stop (void **state)
{
    help_lanes_t *ours = *state;
    heard_t heard [6] = { 0 };
    size_t grown = 0, stopped = 0, late = 0;
    s_unit (ours, &heard [0], 1);
    s_unit_before (ours, &heard [1], "2", s_add_more, &grown);
    s_unit_before (ours, &heard [2], "3", s_say_no, &stopped);
    s_unit (ours, &heard [3], 4);
    s_unit_before (ours, &heard [4], "1", s_say_no, &late);
    s_unit (ours, &heard [5], 5);
    assert_true (help_until (ours->loop, &ours->done, 6));
    assert_int_equal (heard [1].code, E_NONE);
    assert_int_equal (heard [1].count, 3);
    assert_int_equal (heard [1].order, heard [0].order + 1);
    assert_true (grown >= 1);
    assert_int_equal (heard [2].code, E_KEY_REUSED);
    assert_string_equal (heard [2].text, "not this one");
    assert_true (stopped >= 1);
    assert_int_equal (heard [3].code, E_NONE);
    //  It failed before it could be asked.
    assert_int_equal (heard [4].code, E_CONFLICT);
    assert_int_equal (late, 0);
    assert_int_equal (heard [5].code, E_NONE);
    assert_string_equal (help_sql ("SELECT string_agg (id || '', ' ' ORDER BY id) "
                                   "FROM unit.things"), "1 2 4 5 1000");
    assert_string_equal (help_sql ("SELECT note FROM unit.things WHERE id = 1000"), "2");
}

static void
another_writer_of_the_channel_costs_a_re_run_only (void **state)
{
    help_lanes_t *ours = *state;
    heard_t heard = { 0 };
    help_sql ("BEGIN; SELECT set_config ('search_path', 'unit, base', true); "
              "SELECT live_add ('user:1/things', 'k', 't', '{}')");
    s_unit (ours, &heard, 1);
    for (int n = 0; n < 10; n++)
        loop_turn (ours->loop, 20);
    assert_int_equal (heard.calls, 0);
    help_sql ("COMMIT");
    assert_true (help_until (ours->loop, &heard.calls, 1));
    assert_int_equal (heard.code, E_NONE);
    assert_non_null (strstr (heard.live, "\"off\": 2,"));
}

//  ---- loss ----

static void
a_lost_connection_leaves_writes_unknown (void **state)
{
    help_lanes_t *ours = *state;
    heard_t heard = { .ours = ours }, next = { 0 };
    heard = s_query (ours, DB_WRITE, "die", NULL, 0);
    assert_int_equal (heard.code, E_UNAVAILABLE);
    assert_true (heard.unknown);
    //  What was not sent yet waits for the next connection.
    s_unit (ours, &next, 1);
    assert_true (help_until (ours->loop, &next.calls, 1));
    assert_int_equal (next.code, E_NONE);
    assert_int_equal (db_stats (ours->db)->reconnects, 1);
    assert_int_equal (db_stats (ours->db)->unknown, 1);

    heard_t read = s_query (ours, DB_READ, "die", NULL, 0);
    assert_int_equal (read.code, E_UNAVAILABLE);
    assert_false (read.unknown);
    assert_int_equal (s_query (ours, DB_READ, "echo", P ("still")).code, E_NONE);
}

//  No way back for a while: who waits is told after a second, who comes then at once.
static void
without_a_connection_nobody_waits_for_long (void **state)
{
    help_lanes_t *ours = *state;
    heard_t who = s_query (ours, DB_WRITE, "who", NULL, 0);
    help_sql ("ALTER ROLE busbar_unit NOLOGIN");
    help_sql ("SELECT pg_terminate_backend (pid) FROM pg_stat_activity "
              "WHERE usename = 'busbar_unit'");
    //  Once the process is gone, its end of the socket is closed.
    while (db_up (ours->db) || kill (atoi (who.value), 0) == 0 || errno != ESRCH)
        loop_turn (ours->loop, 10);
    for (int n = 0; n < 10; n++)
        loop_turn (ours->loop, 0);
    heard_t unit = { 0 };
    s_unit (ours, &unit, 1);
    int64_t begin = loop_now (ours->loop);
    heard_t read = s_query (ours, DB_READ, "echo", P ("r"));
    assert_int_equal (read.code, E_UNAVAILABLE);
    assert_true (help_until (ours->loop, &unit.calls, 1));
    assert_int_equal (unit.code, E_UNAVAILABLE);
    assert_false (unit.unknown);
    assert_true (loop_now (ours->loop) - begin < 5000);
    begin = loop_now (ours->loop);
    assert_int_equal (s_query (ours, DB_READ, "echo", P ("r")).code, E_UNAVAILABLE);
    assert_true (loop_now (ours->loop) - begin < 2500);
    help_sql ("ALTER ROLE busbar_unit LOGIN");
    int64_t end = loop_now (ours->loop) + 60000;
    while (!db_up (ours->db) && loop_now (ours->loop) < end)
        loop_turn (ours->loop, 50);
    assert_int_equal (s_query (ours, DB_WRITE, "echo", P ("w")).code, E_NONE);
    assert_int_equal (s_query (ours, DB_READ, "echo", P ("r")).code, E_NONE);
}

//  The server crashes under load: every unit is told exactly once, and those told "done" are there.
static void
a_crash_of_the_server_is_survived (void **state)
{
    help_lanes_t *ours = *state;
    enum { COUNT = 400 };
    static heard_t heard [COUNT];
    memset (heard, 0, sizeof heard);
    heard_t who = s_query (ours, DB_WRITE, "who", NULL, 0);
    for (long n = 0; n < COUNT; n++)
        s_unit (ours, &heard [n], n);
    ours->done = 0;
    assert_true (help_until (ours->loop, &ours->done, 100));
    kill (atoi (who.value), SIGKILL);
    assert_true (help_until (ours->loop, &ours->done, COUNT));
    size_t good = 0, unknown = 0;
    for (int n = 0; n < COUNT; n++) {
        assert_int_equal (heard [n].calls, 1);
        good += heard [n].code == E_NONE;
        unknown += heard [n].unknown;
        if (heard [n].code != E_NONE)
            assert_int_equal (heard [n].code, E_UNAVAILABLE);
    }
    assert_true (good >= 100);
    //  Comes back by itself.
    heard_t again = { .code = E_UNAVAILABLE };
    int64_t end = loop_now (ours->loop) + 60000;
    while (again.code != E_NONE && loop_now (ours->loop) < end)
        again = s_query (ours, DB_WRITE, "count", NULL, 0);
    assert_int_equal (again.code, E_NONE);
    size_t there = (size_t) atoi (again.value);
    assert_true (there >= good && there <= good + unknown);
}

int
main (void)
{
    log_open ("test", LOG_ERROR);
    if (!help_database ())
        return 0;
#define TEST(name) cmocka_unit_test_setup_teardown (name, setup, teardown)
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (a_refused_statement_is_named),
        TEST (reads_come_back_with_their_values),
        TEST (a_failed_read_hurts_no_other),
        TEST (texts_are_prepared_once_and_forgotten_in_turn),
        TEST (a_changed_table_does_not_stop_a_prepared_read),
        TEST (lanes_do_not_wait_for_each_other),
        TEST (a_slow_statement_ends_at_its_deadline),
        TEST (a_slow_statement_carries_its_trace),
        TEST (a_cancelled_statement_that_waits_is_never_sent),
        TEST (one_bad_unit_among_a_thousand),
        TEST (a_failure_at_the_commit_is_its_own),
        TEST (before_the_commit_a_unit_may_grow_or_stop),
        TEST (another_writer_of_the_channel_costs_a_re_run_only),
        TEST (a_lost_connection_leaves_writes_unknown),
        TEST (without_a_connection_nobody_waits_for_long),
        TEST (a_crash_of_the_server_is_survived),
    };
    int failed = cmocka_run_group_tests (tests, NULL, NULL);
    help_drop ();
    return failed;
}
