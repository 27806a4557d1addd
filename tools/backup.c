//  backup.c -- `busbar backup FILE`: both databases and their roles in one tar file, while
//  everything runs.
//
//      busbar.dump, guest.dump    pg_dump's custom format, each a consistent snapshot
//      roles.sql                  the actors' and guests' roles

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgjob.h"

static opt_t s_options [] = {
    { "var", OPT_STR, NULL, 0, "BUSBAR_VAR", "directory of the system [var]", NULL },
    PG_OPTIONS,
    { 0 } };

//  Roles are not in a dump. The bootstrap role stays whose system it is. pg_authid holds what
//  guests log in with; a managed PostgreSQL does not show it.
static const char s_roles [] =
    "SELECT format ($f$DO $$ BEGIN CREATE ROLE %I; EXCEPTION WHEN duplicate_object THEN "
    "NULL; END $$;"
    " ALTER ROLE %I %s CONNECTION LIMIT %s$f$, rolname, rolname,"
    " CASE WHEN rolcanlogin THEN 'LOGIN' ELSE 'NOLOGIN' END, rolconnlimit)"
    " || coalesce (format (' PASSWORD %L', rolpassword), '') || ';'"
    " FROM pg_authid WHERE rolname ~ '^(busbar_|guest_)'"
    " AND rolname <> current_user ORDER BY rolname";

//  Before the dumps and after them: a guest may come or go meanwhile, and what a dump says of it
//  needs its role.
static bool
s_add_roles (const pg_t *pg, buf_t *sql)
{
    PGconn *connection = pgjob_connect (pg, NULL);
    if (!connection)
        return false;
    PGresult *result = PQexec (connection, s_roles);
    bool good = PQresultStatus (result) == PGRES_TUPLES_OK;
    if (!good)
        complain (0, "roles: %s", PQresultErrorMessage (result));
    for (int row = 0; good && row < PQntuples (result); row++)
        buf_putf (sql, "%s\n", PQgetvalue (result, row, 0));
    PQclear (result);
    PQfinish (connection);
    return good;
}

static bool
s_write_roles (const char *directory, buf_t *sql)
{
    char *path = text_format ("%s/roles.sql", directory);
    bool good = file_write (path, buf_text (sql), 0600, false);
    free (path);
    return good;
}

static bool
s_has_database (const pg_t *pg, const char *name)
{
    PGconn *connection = pgjob_connect (pg, NULL);
    if (!connection)
        return false;
    PGresult *result = PQexecParams (connection, "SELECT 1 FROM pg_database WHERE datname = $1", 1,
                                     NULL, &name, NULL, NULL, 0);
    bool has = PQntuples (result) == 1;
    PQclear (result);
    PQfinish (connection);
    return has;
}

static bool
s_dump (const pg_t *pg, const char *database, const char *directory, const char *name)
{
    char *file = text_format ("--file=%s/%s.dump", directory, name);
    char *argv [] = { "pg_dump", "--format=custom", "--no-password", file, NULL };
    bool good = pgjob_program (pg, database, argv) == 0;
    free (file);
    return good;
}

static int
s_backup (const place_t *place, const pg_t *pg, void *arg)
{
    const char *file = arg;
    char *directory = text_format ("%s.parts", file), *whole = text_format ("%s.new", file);
    umask (0077);
    bool guests = s_has_database (pg, PG_GUEST_DATABASE);
    bool good =
        mkdir (directory, 0700) == 0 || complain (false, "%s: %s", directory, strerror (errno));
    if (good) {
        buf_t roles = { 0 };
        good = s_add_roles (pg, &roles) && s_dump (pg, pg->database, directory, "busbar")
            && (!guests || s_dump (pg, PG_GUEST_DATABASE, directory, "guest"))
            && s_add_roles (pg, &roles) && s_write_roles (directory, &roles);
        buf_free (&roles);
        char *pack [] = { "tar", "-cf", whole, "-C", directory, ".", NULL };
        char *clean [] = { "rm", "-rf", "--", directory, NULL };
        good = good && pgjob_spawn (pack) == 0 && rename (whole, file) == 0;
        pgjob_spawn (clean);
    }
    if (good)
        fprintf (
            stderr,
            "busbar: %s is written. What is sealed in it opens only with %s/secret_key_*: keep "
            "those apart from it\n",
            file, place->secrets);
    free (directory), free (whole);
    return good ? DONE_OK : complain (DONE_ERROR, "%s: the backup could not be made", file);
}

int
backup_command (int argc, char **argv)
{
    int rc = options_read (s_options, &argc, argv, "busbar backup FILE");
    if (rc != DONE_OK)
        return options_exit (rc);
    if (argc != 2)
        return complain (DONE_USAGE, "backup: into which file?");
    char *here = argv [1] [0] == '/' ? NULL : getcwd (NULL, 0);
    char *file = text_format ("%s%s%s", here ? here : "", here ? "/" : "", argv [1]);
    int code = pgjob_run (opt_str (s_options, "var"), s_options, false, s_backup, file);
    free (here), free (file);
    return code;
}
