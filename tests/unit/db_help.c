//  db_help.c -- database of its own for a test program, and a loop that waits for a condition.

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/text.h"
#include "tests/unit/db_help.h"

#define PATIENCE 60000

static char s_name [64];
static char s_super [512], s_actor [768];
static PGconn *s_pg;

void
help_conninfo (char *out, size_t size, const char *base, const char *more)
{
    snprintf (out, size, "%s %s", base, more);
}

static PGconn *
s_connect (const char *conninfo)
{
    PGconn *pg = PQconnectdb (conninfo);
    if (PQstatus (pg) != CONNECTION_OK) {
        fprintf (stderr, "%s\n", PQerrorMessage (pg));
        abort ();
    }
    return pg;
}

static const char *
s_run (PGconn *pg, const char *text)
{
    static char value [8192];
    PGresult *result = PQexec (pg, text);
    ExecStatusType status = PQresultStatus (result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
        fprintf (stderr, "%s\n%s\n", text, PQresultErrorMessage (result));
        abort ();
    }
    bool any = status == PGRES_TUPLES_OK && PQntuples (result) && PQnfields (result);
    snprintf (value, sizeof value, "%s", any ? PQgetvalue (result, 0, 0) : "");
    PQclear (result);
    return value;
}

const char *
help_sql (const char *format, ...)
{
    char text [2048];
    va_list args;
    va_start (args, format);
    vsnprintf (text, sizeof text, format, args);
    va_end (args);
    //  A test may have shot the server down.
    if (PQstatus (s_pg) != CONNECTION_OK)
        PQreset (s_pg);
    return s_run (s_pg, text);
}

static char *
s_file (const char *name)
{
    FILE *file = fopen (name, "r");
    if (!file)
        abort ();
    buf_t text = { 0 };
    for (int byte; (byte = fgetc (file)) != EOF;)
        buf_putc (&text, (char) byte);
    buf_putc (&text, 0);
    fclose (file);
    return (char *) text.data;
}

const char *
help_database (void)
{
    const char *server = getenv ("BUSBAR_TEST_DATABASE");
    if (!server || !*server) {
        puts ("skipped: BUSBAR_TEST_DATABASE names no server (tests/api/pg_fixture.py starts one)");
        return NULL;
    }
    snprintf (s_name, sizeof s_name, "unit_%d", (int) getpid ());
    char more [128];
    snprintf (more, sizeof more, "dbname=%s", s_name);
    help_conninfo (s_super, sizeof s_super, server, more);
    help_conninfo (s_actor, sizeof s_actor, s_super, "user=busbar_unit password=unit");

    PGconn *pg = s_connect (server);
    char text [128];
    snprintf (text, sizeof text, "CREATE DATABASE %s", s_name);
    s_run (pg, text);
    PQfinish (pg);
    s_pg = s_connect (s_super);
    s_run (s_pg, "SET client_min_messages = warning");
    char *base = s_file ("db/migrations/0001_base.up.sql");
    s_run (s_pg, base);
    free (base);
    s_run (s_pg, "SELECT base.actor_install ('unit')");
    s_run (s_pg, "ALTER ROLE busbar_unit PASSWORD 'unit'");
    return s_super;
}

void
help_drop (void)
{
    if (!s_pg)
        return;
    PQfinish (s_pg);
    s_pg = s_connect (getenv ("BUSBAR_TEST_DATABASE"));
    char text [128];
    snprintf (text, sizeof text, "DROP DATABASE %s WITH (FORCE)", s_name);
    s_run (s_pg, text);
    s_run (s_pg, "DROP ROLE busbar_unit");
    PQfinish (s_pg);
    s_pg = NULL;
}

bool
help_until (loop_t *loop, const size_t *flag, size_t least)
{
    int64_t end = loop_now (loop) + PATIENCE;
    while (*flag < least) {
        if (loop_now (loop) > end)
            return false;
        loop_turn (loop, 50);
    }
    return true;
}

static void
s_on_ready (void *arg, const char *error)
{
    help_lanes_t *lanes = arg;
    lanes->ready++;
    snprintf (lanes->error, sizeof lanes->error, "%s", error ? error : "");
}

void
help_lanes_new (help_lanes_t *lanes, const char *statements, int64_t statement_timeout)
{
    *lanes = (help_lanes_t) { .loop = loop_new (),
                              .sql = sql_new ((const char *const []) { statements, NULL }) };
    lanes->db = db_new (lanes->loop, &(db_conf_t) { .conninfo = s_actor, .schema = "unit",
                                                    .sql = lanes->sql, .who = "test",
                                                    .statement_timeout = statement_timeout });
}

void
help_lanes_start (help_lanes_t *lanes)
{
    db_start (lanes->db, s_on_ready, lanes);
    if (!help_until (lanes->loop, &lanes->ready, 1)) {
        fputs ("the lanes do not get ready\n", stderr);
        abort ();
    }
}

void
help_lanes_end (help_lanes_t *lanes)
{
    db_destroy (&lanes->db);
    sql_destroy (&lanes->sql);
    loop_destroy (&lanes->loop);
}
