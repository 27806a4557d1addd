//  guest_help.c -- databases for guests of a test program, and their statements.

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "db/migrate.h"
#include "tests/unit/guest_help.h"

static char s_database [64], s_guest_database [64], s_keeper [512], s_keeper_name [64];

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

guest_conf_t
help_guest (const char *role)
{
    return (guest_conf_t) { .server = getenv ("BUSBAR_TEST_DATABASE"),
                            .database = s_guest_database, .role = role, .password = SECRET,
                            .keeper = s_keeper };
}

guest_t *
help_begin (loop_t *loop, const guest_conf_t *conf, const char *sql, guest_limits_t limits,
            heard_t *heard)
{
    static const guest_calls_t calls = { s_columns, s_row, s_done };
    *heard = (heard_t) { 0 };
    return guest_run (loop, conf, text_of (sql), &limits, &calls, heard);
}

heard_t
help_hear (loop_t *loop, const guest_conf_t *conf, const char *sql, guest_limits_t limits)
{
    heard_t heard;
    help_begin (loop, conf, sql, limits, &heard);
    assert_true (help_until (loop, &heard.done, 1));
    return heard;
}

heard_t
help_ask_limited (const char *role, const char *sql, guest_limits_t limits)
{
    loop_t *loop = loop_new ();
    guest_conf_t conf = help_guest (role);
    heard_t heard = help_hear (loop, &conf, sql, limits);
    loop_destroy (&loop);
    return heard;
}

heard_t
help_ask (const char *role, const char *sql)
{
    return help_ask_limited (role, sql, HELP_LIMITS);
}

void
help_allowed (const char *role, const char *sql, const char *tag)
{
    heard_t heard = help_ask (role, sql);
    if (heard.code != E_NONE)
        fail_msg ("%s: %s", sql, heard.text);
    if (tag)
        assert_string_equal (heard.tag, tag);
}

void
help_denied (const char *role, const char *sql, const char *sqlstate)
{
    heard_t heard = help_ask (role, sql);
    if (heard.code == E_NONE || strcmp (heard.sqlstate, sqlstate) != 0)
        fail_msg ("%s: code %d, sqlstate %s, %s", sql, heard.code, heard.sqlstate, heard.text);
}

PGconn *
help_keeper (void)
{
    PGconn *pg = PQconnectdb (s_keeper);
    assert_int_equal (PQstatus (pg), CONNECTION_OK);
    return pg;
}

bool
help_keeper_may (PGconn *pg, const char *text)
{
    PGresult *result = PQexec (pg, text);
    bool good = PQresultStatus (result) == PGRES_TUPLES_OK;
    PQclear (result);
    return good;
}

const char *
help_main_database (void)
{
    return s_database;
}

//  Both databases with the keeper's role; then the guests, as the keeper.
static bool
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
        return false;
    PGconn *pg = help_keeper ();
    bool good = help_keeper_may (pg, "SELECT base.guest_create ('" ANN "', '" SECRET "')")
                && help_keeper_may (pg, "SELECT base.guest_create ('" BOB "', '" SECRET "')");
    if (!good)
        fputs (PQerrorMessage (pg), stderr);
    PQfinish (pg);
    return good;
}

bool
help_guests (void)
{
    if (!help_database ())
        return false;
    if (!s_prepare ())
        exit (1);
    return true;
}

static void
s_drop (PGconn *pg, const char *kind, const char *name, const char *how)
{
    char text [128];
    snprintf (text, sizeof text, "DROP %s %s %s", kind, name, how);
    PQclear (PQexec (pg, text));
}

void
help_guests_drop (void)
{
    help_drop ();
    PGconn *pg = PQconnectdb (getenv ("BUSBAR_TEST_DATABASE"));
    s_drop (pg, "DATABASE", s_guest_database, "WITH (FORCE)");
    s_drop (pg, "DATABASE", s_database, "WITH (FORCE)");
    s_drop (pg, "ROLE", ANN, "");
    s_drop (pg, "ROLE", BOB, "");
    s_drop (pg, "ROLE", s_keeper_name, "");
    PQfinish (pg);
}
