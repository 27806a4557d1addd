//  bootstrap.c -- databases, roles and passwords of a server, and the fences of the guest database.

#include <libpq-fe.h>
#include <stdlib.h>

#include "db/migrate.h"
#include "db/sql.h"
#include "proto/text.h"
#include "proto/token.h"

SQL_FILE (guest_sql, "db/guest.sql");

static void
s_quiet (void *arg, const char *message)
{
    (void) arg;
    (void) message;
}

static PGconn *
s_connect (const char *server, const char *database, FILE *out)
{
    const char *keys [] = { "dbname", database ? "dbname" : NULL, NULL };
    const char *values [] = { server, database, NULL };
    PGconn *pg = PQconnectdbParams (keys, values, 1);
    PQsetNoticeProcessor (pg, s_quiet, NULL);
    if (PQstatus (pg) == CONNECTION_OK)
        return pg;
    fprintf (out, "database: %s", PQerrorMessage (pg));
    PQfinish (pg);
    return NULL;
}

//  Statements are never shown: some carry passwords.
static bool
s_run (PGconn *pg, const char *text, FILE *out)
{
    PGresult *result = PQexec (pg, text);
    ExecStatusType status = PQresultStatus (result);
    bool good = status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
    if (!good)
        fprintf (out, "database: %s", PQresultErrorMessage (result));
    PQclear (result);
    return good;
}

//  A question, perhaps about one name; false when it has no answer.
static bool
s_ask (PGconn *pg, const char *text, const char *name)
{
    PGresult *result = PQexecParams (pg, text, name ? 1 : 0, NULL, &name, NULL, NULL, 0);
    bool yes = PQresultStatus (result) == PGRES_TUPLES_OK && PQntuples (result)
               && PQgetvalue (result, 0, 0) [0] == 't';
    PQclear (result);
    return yes;
}

//  A statement with one identifier in it.
static bool
s_run_for (PGconn *pg, const char *before, const char *name, const char *behind, FILE *out)
{
    char *quoted = PQescapeIdentifier (pg, name, strlen (name));
    buf_t text = { 0 };
    buf_puts (&text, before);
    buf_puts (&text, quoted);
    buf_puts (&text, behind);
    buf_putc (&text, 0);
    bool good = s_run (pg, (const char *) text.data, out);
    explicit_bzero (text.data, text.size);
    buf_free (&text);
    PQfreemem (quoted);
    return good;
}

static bool
s_database (PGconn *pg, const char *name, FILE *out)
{
    if (s_ask (pg, "SELECT true FROM pg_database WHERE datname = $1", name))
        return true;
    //  template0: nothing that somebody left in template1, and any encoding.
    return s_run_for (pg, "CREATE DATABASE ", name,
                      " TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'",
                      out)
           && s_run_for (pg, "REVOKE ALL ON DATABASE ", name, " FROM PUBLIC", out);
}

//  The server gets the verifier: the password itself would be in its log of statements.
static bool
s_role (PGconn *pg, const db_role_t *role, FILE *out)
{
    if (!s_ask (pg, "SELECT true FROM pg_roles WHERE rolname = $1", role->name)
        && !s_run_for (pg, "CREATE ROLE ", role->name, " LOGIN", out))
        return false;
    char *verifier = PQencryptPasswordConn (pg, role->password, role->name, "scram-sha-256");
    if (!verifier) {
        fprintf (out, "password of %s: %s", role->name, PQerrorMessage (pg));
        return false;
    }
    buf_t behind = { 0 };
    buf_putf (&behind, " LOGIN PASSWORD '%s'", verifier);
    buf_putc (&behind, 0);
    bool good = s_run_for (pg, "ALTER ROLE ", role->name, (const char *) behind.data, out);
    explicit_bzero (behind.data, behind.size);
    buf_free (&behind);
    PQfreemem (verifier);
    return good;
}

//  The fences touch hundreds of rows of the catalogue: they are put up once per text and version of
//  the server, which the comment of their schema names.
static bool
s_fences (PGconn *pg, FILE *out)
{
    char checksum [65], mark [128];
    sha256_hex (text_of (guest_sql), checksum);
    snprintf (mark, sizeof mark, "fences %.16s of server %d", checksum, PQserverVersion (pg));
    if (s_ask (pg, "SELECT obj_description (oid, 'pg_namespace') = $1 FROM pg_namespace "
                   "WHERE nspname = 'base'", mark))
        return true;
    char comment [192];
    snprintf (comment, sizeof comment, "COMMENT ON SCHEMA base IS '%s'", mark);
    return s_run (pg, guest_sql, out) && s_run (pg, comment, out);
}

static bool
s_guests (const db_bootstrap_t *what, FILE *out)
{
    PGconn *pg = s_connect (what->server, what->guest_database, out);
    if (!pg)
        return false;
    bool good = s_run (pg, "BEGIN; SELECT pg_advisory_xact_lock (107083779043698)", out)
                && s_fences (pg, out);
    for (size_t n = 0; good && n < what->role_count; n++)
        if (what->roles [n].keeps_guests)
            good = s_run_for (pg, "GRANT busbar_guest_keeper TO ", what->roles [n].name, "", out);
    good = good && s_run (pg, "COMMIT", out);
    PQfinish (pg);
    return good;
}

//  Every database lets everybody in unless told otherwise.
static bool
s_close_others (PGconn *pg, FILE *out)
{
    return s_run (pg,
                  "DO $$ DECLARE name text; BEGIN "
                  "FOR name IN SELECT datname FROM pg_database LOOP "
                  "EXECUTE format ('REVOKE CONNECT, TEMPORARY ON DATABASE %I FROM PUBLIC', name); "
                  "END LOOP; END $$", out);
}

int
db_bootstrap (db_bootstrap_t *what, FILE *out)
{
    what->guests = false;
    PGconn *pg = s_connect (what->server, NULL, out);
    if (!pg)
        return 1;
    bool super = s_ask (pg, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user", NULL);
    bool good = s_run (pg, "SELECT pg_advisory_lock (107083779043698)", out)
                && s_database (pg, what->database, out);
    for (size_t n = 0; good && n < what->role_count; n++)
        good = s_role (pg, &what->roles [n], out);
    if (good && super && what->guest_database)
        good = s_database (pg, what->guest_database, out);
    if (good && super && what->ours)
        good = s_close_others (pg, out);
    PQfinish (pg);
    if (!good)
        return 1;
    if (!what->guest_database)
        return 0;
    if (!super) {
        fprintf (out, "no guest database: its fences take a superuser\n");
        return 0;
    }
    what->guests = s_guests (what, out);
    return what->guests ? 0 : 1;
}
