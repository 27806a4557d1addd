//  test_db_silent.c -- a server that says nothing any more: who waits for it hears so, and others
//  go on over a new connection.

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/log.h"
#include "tests/unit/db_help.h"

static const char s_statements [] =
    "-- :name who\n"
    "SELECT pg_backend_pid () AS pid\n"
    "-- :name keep\n"
    "INSERT INTO kept (id) VALUES ($1)\n";

typedef struct {
    size_t calls;
    error_code_t code;
    bool unknown;
    int pid;
} heard_t;

static void
s_on_done (void *arg, db_result_t *results, size_t count)
{
    heard_t *heard = arg;
    assert_int_equal (count, 1);
    heard->calls++;
    heard->code = results [0].code;
    heard->unknown = results [0].unknown;
    if (results [0].result && PQntuples (results [0].result))
        heard->pid = atoi (PQgetvalue (results [0].result, 0, 0));
}

static heard_t
s_ask (help_lanes_t *ours, const char *name, const char *param)
{
    heard_t heard = { 0 };
    db_query (ours->db, DB_WRITE, name, &param, param ? 1 : 0, 0, s_on_done, &heard);
    assert_true (help_until (ours->loop, &heard.calls, 1));
    return heard;
}

static void
silence_ends_a_connection (void **state)
{
    (void) state;
    help_sql ("CREATE TABLE unit.kept (id bigint PRIMARY KEY)");
    help_lanes_t ours;
    help_lanes_new (&ours, s_statements, 100);
    help_lanes_start (&ours);
    assert_string_equal (ours.error, "");

    heard_t first = s_ask (&ours, "who", NULL);
    assert_int_equal (kill (first.pid, SIGSTOP), 0);
    heard_t lost = s_ask (&ours, "keep", "1");
    assert_int_equal (lost.code, E_UNAVAILABLE);
    assert_true (lost.unknown);
    heard_t second = s_ask (&ours, "who", NULL);
    assert_int_equal (second.code, E_NONE);
    assert_int_not_equal (second.pid, first.pid);
    kill (first.pid, SIGCONT);
    help_lanes_end (&ours);
}

int
main (void)
{
    log_open ("test", LOG_ERROR);
    if (!help_database ())
        return 0;
    const struct CMUnitTest tests [] = { cmocka_unit_test (silence_ends_a_connection) };
    int failed = cmocka_run_group_tests (tests, NULL, NULL);
    help_drop ();
    return failed;
}
