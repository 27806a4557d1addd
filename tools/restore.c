//  restore.c -- `busbar restore FILE`: the databases become those of a backup, or stay what they
//  were.
//
//  Each database is put aside, restored, and only then dropped. Every channel gets a new epoch,
//  so that no client mistakes an offset of today for one of the past; nothing is claimed any more.

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "pgjob.h"

static opt_t s_options [] = {
    { "var", OPT_STR, NULL, 0, "BUSBAR_VAR", "directory of the system [var]", NULL },
    PG_OPTIONS,
    { 0 } };

static const char s_new_epochs [] =
    "DO $$ DECLARE place regclass; BEGIN\n"
    "  FOR place IN SELECT oid FROM pg_class WHERE relname = 'live_meta' AND relkind = 'r' LOOP\n"
    "    EXECUTE format ('UPDATE %s SET epoch = left (replace ("
    "gen_random_uuid ()::text, ''-'', ''''), 12)', place);\n"
    "  END LOOP;\n"
    "  FOR place IN SELECT oid FROM pg_class WHERE relname = 'claims' AND relkind = 'r' LOOP\n"
    "    EXECUTE format ('DELETE FROM %s', place);\n"
    "  END LOOP; END $$";

static bool
s_statement (const pg_t *pg, const char *database, char *sql)
{
    PGconn *connection = pgjob_connect (pg, database);
    bool good = connection && pgjob_execute (connection, sql);
    PQfinish (connection);
    free (sql);
    return good;
}

//  Names here are ours or come from the environment of the operator; still they are quoted.
static char *
s_quoted (const char *name)
{
    buf_t out = { 0 };
    buf_putc (&out, '"');
    for (; *name; name++)
        buf_putf (&out, "%s%c", *name == '"' ? "\"" : "", *name);
    buf_puts (&out, "\"");
    buf_putc (&out, 0);
    return (char *) out.data;
}

static bool
s_has (const pg_t *pg, const char *database)
{
    PGconn *connection = pgjob_connect (pg, "postgres");
    if (!connection)
        return false;
    PGresult *result = PQexecParams (connection, "SELECT 1 FROM pg_database WHERE datname = $1", 1,
                                     NULL, &database, NULL, NULL, 0);
    bool has = PQntuples (result) == 1;
    PQclear (result);
    PQfinish (connection);
    return has;
}

static bool
s_load (const pg_t *pg, const char *database, const char *dump)
{
    char *name = s_quoted (database), *aside_name = text_format ("%s_before_restore", database);
    char *aside = s_quoted (aside_name), *copy = xstrdup (dump);
    char *argv [] = { "pg_restore", "--exit-on-error", "--no-password", "--create",
                      "--dbname=postgres", copy, NULL };
    bool had = s_has (pg, database);
    bool good = !had
                || (s_statement (pg, "postgres",
                                 text_format ("DROP DATABASE IF EXISTS %s WITH (FORCE)", aside))
                    && s_statement (pg, "postgres",
                                    text_format ("ALTER DATABASE %s RENAME TO %s", name, aside)));
    if (good) {
        good = pgjob_program (pg, "postgres", argv) == 0;
        if (good && had)
            s_statement (pg, "postgres", text_format ("DROP DATABASE %s WITH (FORCE)", aside));
        else if (!good) {
            s_statement (pg, "postgres",
                         text_format ("DROP DATABASE IF EXISTS %s WITH (FORCE)", name));
            if (had)
                s_statement (pg, "postgres",
                             text_format ("ALTER DATABASE %s RENAME TO %s", aside, name));
        }
    }
    free (name), free (aside_name), free (aside), free (copy);
    return good;
}

static bool
s_load_roles (const pg_t *pg, const char *directory)
{
    char *path = text_format ("%s/roles.sql", directory);
    char *sql = file_read (path, NULL);
    if (!sql)
        complain (0, "%s: %s", path, strerror (errno));
    free (path);
    return sql && s_statement (pg, "postgres", sql);
}

static bool
s_load_all (const pg_t *pg, const char *directory)
{
    char *ours = text_format ("%s/busbar.dump", directory),
         *guest = text_format ("%s/guest.dump", directory);
    bool good = s_load_roles (pg, directory) && s_load (pg, pg->database, ours)
        && s_statement (pg, NULL, xstrdup (s_new_epochs))
        && (access (guest, F_OK) != 0 || s_load (pg, PG_GUEST_DATABASE, guest));
    free (ours), free (guest);
    return good;
}

static int
s_restore (const place_t *place, const pg_t *pg, void *arg)
{
    const char *file = arg;
    char directory [] = "/tmp/busbar-restore-XXXXXX";
    if (!mkdtemp (directory))
        return complain (DONE_ERROR, "%s: %s", directory, strerror (errno));
    char *unpack [] = { "tar", "-xf", arg, "-C", directory, "--no-same-owner", NULL };
    char *clean [] = { "rm", "-rf", "--", directory, NULL };
    bool good = pgjob_spawn (unpack) == 0 && s_load_all (pg, directory);
    pgjob_spawn (clean);
    if (!good)
        return complain (DONE_ERROR, "%s: could not be restored", file);
    fprintf (stderr,
             "busbar: %s is restored. What is sealed in it opens only with the secret_key_* of the "
             "system it was made of: they belong into %s\n",
             file, place->secrets);
    return DONE_OK;
}

int
restore_command (int argc, char **argv)
{
    int rc = options_read (s_options, &argc, argv, "busbar restore FILE");
    if (rc != DONE_OK)
        return options_exit (rc);
    if (argc != 2)
        return complain (DONE_USAGE, "restore: from which file?");
    char *file = realpath (argv [1], NULL);
    if (!file)
        return complain (DONE_USAGE, "%s: %s", argv [1], strerror (errno));
    int code = pgjob_run (opt_str (s_options, "var"), s_options, true, s_restore, file);
    free (file);
    return code;
}
