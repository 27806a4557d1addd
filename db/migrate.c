//  migrate.c -- applies and takes back migrations, one transaction each.

#include <libpq-fe.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "db/migrate.h"
#include "db/migrate_file.h"
#include "proto/token.h"

//  "busbar" in ASCII: two tools that migrate the same database wait for each other.
#define LOCK "107083779043698"

typedef struct {
    PGconn *pg;
    FILE *out;
    migrations_t files;
    PGresult *done;          //  name, checksum, at of what was applied, in order
} work_t;

static void
s_quiet (void *arg, const char *message)
{
    (void) arg;
    (void) message;
}

//  NULL after a message. A result that is none of ours to read may be cleared at once.
static PGresult *
s_query (work_t *work, const char *text, const char *const *params, int count)
{
    PGresult *result = PQexecParams (work->pg, text, count, NULL, params, NULL, NULL, 0);
    ExecStatusType status = PQresultStatus (result);
    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
        return result;
    fprintf (work->out, "database: %s", PQresultErrorMessage (result));
    PQclear (result);
    return NULL;
}

static bool
s_run (work_t *work, const char *text, const char *const *params, int count)
{
    PGresult *result = s_query (work, text, params, count);
    PQclear (result);
    return result != NULL;
}

//  ---- beginning and end ----

static bool
s_connect (work_t *work, const char *conninfo)
{
    work->pg = PQconnectdb (conninfo);
    if (PQstatus (work->pg) != CONNECTION_OK) {
        fprintf (work->out, "database: %s", PQerrorMessage (work->pg));
        return false;
    }
    PQsetNoticeProcessor (work->pg, s_quiet, NULL);
    return s_run (work, "SET client_min_messages = warning", NULL, 0)
           && s_run (work, "SELECT pg_advisory_lock (" LOCK ")", NULL, 0)
           && s_run (work, "CREATE SCHEMA IF NOT EXISTS base", NULL, 0)
           && s_run (work,
                     "CREATE TABLE IF NOT EXISTS base.schema_migrations ("
                     "name text PRIMARY KEY, checksum text NOT NULL, "
                     "at timestamptz NOT NULL DEFAULT now ())", NULL, 0);
}

static bool
s_begin (work_t *work, const char *conninfo, const char *dir, FILE *out)
{
    *work = (work_t) { .out = out };
    const char *wrong = migrations_read (&work->files, dir);
    if (wrong) {
        fprintf (out, "%s: %s\n", dir, wrong);
        return false;
    }
    if (!s_connect (work, conninfo))
        return false;
    work->done = s_query (work,
                          "SELECT name, checksum, to_char (at AT TIME ZONE 'UTC', "
                          "'YYYY-MM-DD HH24:MI') FROM base.schema_migrations ORDER BY name",
                          NULL, 0);
    return work->done != NULL;
}

static void
s_end (work_t *work)
{
    PQclear (work->done);
    PQfinish (work->pg);
    migrations_free (&work->files);
}

static int
s_done_row (const work_t *work, const char *name)
{
    for (int row = 0; row < PQntuples (work->done); row++)
        if (strcmp (PQgetvalue (work->done, row, 0), name) == 0)
            return row;
    return -1;
}

//  ---- one file ----

static void
s_explain (work_t *work, const char *path, const char *text, const PGresult *error,
           unsigned statements)
{
    const char *position = PQresultErrorField (error, PG_DIAG_STATEMENT_POSITION);
    const char *message = PQresultErrorField (error, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField (error, PG_DIAG_MESSAGE_DETAIL);
    const char *hint = PQresultErrorField (error, PG_DIAG_MESSAGE_HINT);
    unsigned line = position ? text_line_at (text, strtol (position, NULL, 10))
                             : text_line_of (text, statements);
    fprintf (work->out, "%s:%u: %s\n", path, line, message ? message : PQerrorMessage (work->pg));
    if (detail)
        fprintf (work->out, "%s:%u: %s\n", path, line, detail);
    if (hint)
        fprintf (work->out, "%s:%u: %s\n", path, line, hint);
}

//  All statements of a file; the first that fails is explained.
static bool
s_run_file (work_t *work, const char *path, const char *text)
{
    unsigned statements = 0;
    bool good = PQsendQuery (work->pg, text);
    if (!good)
        fprintf (work->out, "%s: %s", path, PQerrorMessage (work->pg));
    for (PGresult *result; (result = PQgetResult (work->pg)); PQclear (result)) {
        ExecStatusType status = PQresultStatus (result);
        if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK
            || status == PGRES_EMPTY_QUERY) {
            statements++;
            continue;
        }
        if (good)
            s_explain (work, path, text, result, statements);
        good = false;
        //  COPY FROM STDIN has nobody to read from; what follows is the error of that.
        if (status == PGRES_COPY_IN)
            PQputCopyEnd (work->pg, "not in a migration");
        else if (status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH)
            break;
    }
    if (good && PQtransactionStatus (work->pg) != PQTRANS_INTRANS) {
        fprintf (work->out, "%s: ends its transaction itself; leave BEGIN and COMMIT out\n", path);
        return false;
    }
    return good;
}

static bool
s_apply (work_t *work, const char *name, bool up)
{
    buf_t path = { 0 }, text = { 0 };
    migration_path (&work->files, name, up ? "up" : "down", &path);
    const char *file = (const char *) path.data;
    bool good = migration_text (file, &text);
    if (!good)
        fprintf (work->out, "%s: cannot be read\n", file);
    char checksum [65];
    if (good)
        sha256_hex (buf_text (&text), checksum);
    const char *const params [] = { name, checksum };
    //  Whatever a file set for itself must not reach the next one.
    good = good && s_run (work, "BEGIN", NULL, 0)
           && s_run_file (work, file, (const char *) text.data)
           && (up ? s_run (work,
                           "INSERT INTO base.schema_migrations (name, checksum) VALUES ($1, $2)",
                           params, 2)
                  : s_run (work, "DELETE FROM base.schema_migrations WHERE name = $1", params, 1))
           && s_run (work, "COMMIT", NULL, 0) && s_run (work, "RESET ALL", NULL, 0)
           && s_run (work, "SET client_min_messages = warning", NULL, 0);
    if (good)
        fprintf (work->out, "%s %s\n", up ? "applied" : "took back", name);
    buf_free (&path);
    buf_free (&text);
    return good;
}

//  Is the file still what was applied?
static bool
s_unchanged (work_t *work, const char *name, const char *checksum)
{
    buf_t path = { 0 }, text = { 0 };
    migration_path (&work->files, name, "up", &path);
    char now [65] = "";
    if (migration_text ((const char *) path.data, &text))
        sha256_hex (buf_text (&text), now);
    buf_free (&path);
    buf_free (&text);
    return strcmp (now, checksum) == 0;
}

//  What was applied must be there, unchanged, and no file may have slipped in before it.
static bool
s_consistent (work_t *work)
{
    int rows = PQntuples (work->done);
    bool good = true;
    for (int row = 0; row < rows; row++) {
        const char *name = PQgetvalue (work->done, row, 0);
        if (!migrations_find (&work->files, name)) {
            fprintf (work->out, "%s/%s.up.sql: was applied and is missing\n", work->files.dir,
                     name);
            good = false;
        }
        else if (!s_unchanged (work, name, PQgetvalue (work->done, row, 1))) {
            fprintf (work->out, "%s/%s.up.sql: was changed after it was applied; "
                     "put it back and add a new migration\n", work->files.dir, name);
            good = false;
        }
    }
    const char *last = rows ? PQgetvalue (work->done, rows - 1, 0) : "";
    for (size_t n = 0; n < work->files.count; n++) {
        const char *name = work->files.all [n].name;
        if (s_done_row (work, name) < 0 && strcmp (name, last) < 0) {
            fprintf (work->out, "%s/%s.up.sql: comes before %s, which was applied already\n",
                     work->files.dir, name, last);
            good = false;
        }
    }
    return good;
}

//  ---- the commands ----

int
migrate_up (const char *conninfo, const char *dir, FILE *out)
{
    work_t work;
    bool good = s_begin (&work, conninfo, dir, out) && s_consistent (&work);
    size_t applied = 0;
    for (size_t n = 0; good && n < work.files.count; n++) {
        const char *name = work.files.all [n].name;
        if (s_done_row (&work, name) >= 0)
            continue;
        good = s_apply (&work, name, true);
        applied++;
    }
    if (good && applied == 0)
        fprintf (out, "schema is up to date\n");
    s_end (&work);
    return good ? 0 : 1;
}

int
migrate_down (const char *conninfo, const char *dir, unsigned count, FILE *out)
{
    work_t work;
    bool good = s_begin (&work, conninfo, dir, out);
    for (int row = good ? PQntuples (work.done) - 1 : -1; good && row >= 0 && count; row--, count--)
        good = s_apply (&work, PQgetvalue (work.done, row, 0), false);
    s_end (&work);
    return good ? 0 : 1;
}

int
migrate_status (const char *conninfo, const char *dir, FILE *out)
{
    work_t work;
    bool good = s_begin (&work, conninfo, dir, out);
    for (size_t n = 0; good && n < work.files.count; n++) {
        const char *name = work.files.all [n].name;
        int row = s_done_row (&work, name);
        const char *what = row < 0 ? "pending"
                           : s_unchanged (&work, name, PQgetvalue (work.done, row, 1))
                               ? PQgetvalue (work.done, row, 2)
                               : "changed after it was applied";
        fprintf (out, "%-32s %s\n", name, what);
    }
    for (int row = 0; good && row < PQntuples (work.done); row++)
        if (!migrations_find (&work.files, PQgetvalue (work.done, row, 0)))
            fprintf (out, "%-32s applied, its file is missing\n", PQgetvalue (work.done, row, 0));
    s_end (&work);
    return good ? 0 : 1;
}

static bool
s_create (const char *path, FILE *out)
{
    int fd = open (path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) {
        fprintf (out, "%s: %s\n", path, strerror (errno));
        return false;
    }
    close (fd);
    fprintf (out, "%s\n", path);
    return true;
}

int
migrate_new (const char *dir, const char *name, FILE *out)
{
    if (!islower ((unsigned char) *name)
        || name [strspn (name, "abcdefghijklmnopqrstuvwxyz0123456789_")] || strlen (name) > 60) {
        fprintf (out, "name %.80s is not lower-case letters, digits and _\n", name);
        return 1;
    }
    migrations_t files;
    const char *wrong = migrations_read (&files, dir);
    if (wrong)
        fprintf (out, "%s: %s\n", dir, wrong);
    unsigned number = files.count ? files.all [files.count - 1].number + 1 : 1;
    buf_t path = { 0 };
    char full [80];
    snprintf (full, sizeof full, "%04u_%s", number, name);
    bool good = !wrong;
    for (int n = 0; n < 2 && good; n++) {
        migration_path (&files, full, n ? "down" : "up", &path);
        good = s_create ((const char *) path.data, out);
    }
    buf_free (&path);
    migrations_free (&files);
    return good ? 0 : 1;
}
