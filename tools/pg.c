//  pg.c -- finding, making and starting PostgreSQL.

#include <errno.h>
#include <ftw.h>
#include <glob.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "pg.h"
#include "vault.h"

//  ---- which one ----

//  keyword='value', quoted for libpq.
static void
s_pair (buf_t *out, const char *keyword, const char *value)
{
    if (!value || !*value)
        return;
    buf_putf (out, "%s%s='", out->size ? " " : "", keyword);
    for (const char *at = value; *at; at++) {
        if (*at == '\'' || *at == '\\')
            buf_putc (out, '\\');
        buf_putc (out, *at);
    }
    buf_putc (out, '\'');
}

static char *
s_taken (buf_t *buf)
{
    buf_putc (buf, 0);
    return (char *) buf->data;
}

//  SQLAlchemy writes postgresql+driver://; libpq knows no drivers.
static char *
s_without_driver (const char *url)
{
    const char *plus = strchr (url, '+'), *colon = strstr (url, "://");
    if (!plus || !colon || plus > colon)
        return xstrdup (url);
    return text_format ("%.*s%s", (int) (plus - url), url, colon);
}

static bool
s_open_url (pg_t *self, const char *given)
{
    char *url = s_without_driver (given);
    PQconninfoOption *options = PQconninfoParse (url, NULL);
    free (url);
    if (!options)
        return complain (false, "DATABASE_URL is not a PostgreSQL address");
    buf_t owner = { 0 }, plain = { 0 };
    for (PQconninfoOption *option = options; option->keyword; option++) {
        if (strcmp (option->keyword, "dbname") == 0) {
            self->database = xstrdup (option->val && *option->val ? option->val : PG_DATABASE);
            s_pair (&owner, "dbname", self->database);
            s_pair (&plain, "dbname", self->database);
            continue;
        }
        s_pair (&owner, option->keyword, option->val);
        if (strcmp (option->keyword, "user") != 0 && strcmp (option->keyword, "password") != 0)
            s_pair (&plain, option->keyword, option->val);
    }
    PQconninfoFree (options);
    self->owner = s_taken (&owner);
    self->plain = s_taken (&plain);
    return true;
}

static bool
s_open_parts (pg_t *self, const char *host, const char *port, const char *database,
              const char *user, const char *password)
{
    buf_t owner = { 0 }, plain = { 0 };
    self->database = xstrdup (database ? database : PG_DATABASE);
    s_pair (&plain, "host", host);
    s_pair (&plain, "port", port);
    s_pair (&plain, "dbname", self->database);
    buf_put (&owner, plain.data, plain.size);
    s_pair (&owner, "user", user ? user : "postgres");
    s_pair (&owner, "password", password);
    self->owner = s_taken (&owner);
    self->plain = s_taken (&plain);
    return true;
}

//  The programs of the version that made the cluster, else the newest that is installed.
static bool
s_find_programs (pg_t *self, const place_t *place)
{
    char *version_path = text_format ("%s/PG_VERSION", place->pg);
    char *version = file_read (version_path, NULL);
    free (version_path);
    if (version)
        version [strcspn (version, "\n")] = 0;
    char *pattern = text_format ("/usr/lib/postgresql/%s/bin/postgres", version ? version : "*");
    glob_t found;
    if (glob (pattern, 0, NULL, &found) == 0) {
        int best = -1;
        for (size_t n = 0; n < found.gl_pathc; n++) {
            int number = atoi (found.gl_pathv [n] + strlen ("/usr/lib/postgresql/"));
            if (number <= best)
                continue;
            best = number;
            free (self->bin);
            self->bin = text_format ("/usr/lib/postgresql/%d/bin", number);
        }
        globfree (&found);
    }
    free (pattern);
    if (!self->bin && version)
        complain (0, "%s was made by PostgreSQL %s, which is not installed here", place->pg,
                  version);
    else if (!self->bin)
        complain (0, "PostgreSQL is not installed: install it, or set DATABASE_URL");
    free (version);
    return self->bin != NULL;
}

bool
pg_open (pg_t *self, const place_t *place, const opt_t *options)
{
    *self = (pg_t) { 0 };
    const char *url = opt_str (options, "database-url"), *host = opt_str (options, "db-host");
    if (url)
        return s_open_url (self, url);
    if (host)
        return s_open_parts (self, host, opt_str (options, "db-port"), opt_str (options, "db-name"),
                             opt_str (options, "db-user"), opt_str (options, "db-password"));
    self->private = true;
    char *password = s_find_programs (self, place) ? vault_get (place, "pg_owner") : NULL;
    if (!password)
        return false;
    char *sockets = text_format ("%s/pg", place->run);
    s_open_parts (self, sockets, "5432", PG_DATABASE, PG_OWNER, password);
    free (sockets);
    vault_forget (&password);
    return true;
}

void
pg_close (pg_t *self)
{
    vault_forget (&self->owner);
    free (self->bin), free (self->plain), free (self->database);
    *self = (pg_t) { 0 };
}

//  ---- making the private one ----

static char *
s_unfinished (const place_t *place)
{
    return text_format ("%s.new", place->pg);
}

bool
pg_made (const place_t *place)
{
    char *path = text_format ("%s/PG_VERSION", place->pg);
    bool made = access (path, F_OK) == 0;
    free (path);
    return made;
}

static int
s_remove (const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void) info, (void) type, (void) walk;
    return remove (path);
}

bool
pg_make (const pg_t *self, const place_t *place, super_t *super, void (*done) (void *arg, int code),
         void *arg)
{
    //  Beside its place, so that an initdb that was killed half-way is never taken for a database.
    char *unfinished = s_unfinished (place);
    nftw (unfinished, s_remove, 16, FTW_DEPTH | FTW_PHYS);
    char *password = vault_get (place, "pg_owner");
    if (!password) {
        free (unfinished);
        return false;
    }
    char *program = text_format ("%s/initdb", self->bin);
    char *lines = text_format ("%s\n", password);
    char *argv [] = { program, "-D", unfinished, "-U", PG_OWNER, "--pwfile=/dev/fd/3",
                      "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8",
                      "--data-checksums", NULL };
    char *envp [] = { "PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", NULL };
    log_info ("making the database, once", "directory", place->pg);
    super_run (super, &(process_spec_t) { .name = "initdb",
                                         .stage = STAGE_JOB,
                                         .argv = argv,
                                         .envp = envp,
                                         .secrets = text_of (lines),
                                         .foreign = true,
                                         .done = done,
                                         .arg = arg });
    vault_forget (&password), vault_forget (&lines);
    free (unfinished), free (program);
    return true;
}

bool
pg_keep (const place_t *place)
{
    char *unfinished = s_unfinished (place);
    rmdir (place->pg);
    bool kept = rename (unfinished, place->pg) == 0;
    if (!kept)
        log_error ("cannot keep the database", "directory", place->pg, "error", strerror (errno));
    free (unfinished);
    return kept;
}

//  ---- starting it ----

//  Small, durable, no TCP. Whoever wants it otherwise writes a local.conf beside it.
static const char s_settings [] =
    "#  Written at each start. Your own settings belong into local.conf beside this file.\n"
    "listen_addresses = ''\n"
    "port = 5432\n"
    "unix_socket_directories = '%s/pg'\n"
    "password_encryption = 'scram-sha-256'\n"
    "max_connections = 200\n"
    "shared_buffers = '64MB'\n"
    "work_mem = '8MB'\n"
    "maintenance_work_mem = '64MB'\n"
    "max_wal_size = '1GB'\n"
    "wal_level = 'logical'\n"
    "max_wal_senders = 10\n"
    "max_replication_slots = 10\n"
    "max_slot_wal_keep_size = '1GB'\n"
    "jit = off\n"
    "timezone = 'UTC'\n"
    "log_timezone = 'UTC'\n"
    "lc_messages = 'C'\n"
    "logging_collector = off\n"
    "log_line_prefix = ''\n"
    "log_min_messages = 'warning'\n"
    "log_min_error_statement = 'panic'\n"        //  a statement may carry a password
    "include_if_exists = 'local.conf'\n";

static const char s_access [] =
    "#  Written at each start. Every role shows its password, local sockets included.\n"
    "local all all scram-sha-256\n"
    "local replication all scram-sha-256\n"
    "host all all 127.0.0.1/32 scram-sha-256\n"
    "host all all ::1/128 scram-sha-256\n";

static bool
s_write (const place_t *place, const char *name, const char *content)
{
    char *path = text_format ("%s/%s", place->pg, name);
    //  Readable by the server's user although root may be who writes; the directory is 0700.
    bool good = file_write (path, text_of (content), 0644, true) && chmod (path, 0644) == 0;
    if (!good)
        log_error ("cannot write", "path", path, "error", strerror (errno));
    free (path);
    return good;
}

static bool
s_make_socket_directory (const place_t *place)
{
    char *path = text_format ("%s/pg", place->run);
    bool good = (mkdir (path, 0700) == 0 || errno == EEXIST)
        && (geteuid () != 0 || chown (path, place->uid, place->gid) == 0);
    if (!good)
        log_error ("cannot make", "directory", path, "error", strerror (errno));
    free (path);
    return good;
}

bool
pg_serve (const pg_t *self, const place_t *place, super_t *super)
{
    char *settings = text_format (s_settings, place->run);
    bool good = s_make_socket_directory (place) && s_write (place, "postgresql.conf", settings)
        && s_write (place, "pg_hba.conf", s_access);
    free (settings);
    if (!good)
        return false;
    char *program = text_format ("%s/postgres", self->bin);
    char *argv [] = { program, "-D", place->pg, NULL };
    char *envp [] = { "PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC", NULL };
    //  SIGINT is its fast shutdown: sessions end, what is committed is written.
    super_run (super, &(process_spec_t) { .name = "postgres", .stage = STAGE_DATABASE, .argv = argv,
               .envp = envp, .foreign = true, .stop_signal = SIGINT, .death_signal = SIGINT,
               .patience = 30000 });
    free (program);
    return true;
}

//  ---- reaching it ----

bool
pg_wait (const pg_t *self, int ms)
{
    const struct timespec pause = { 0, 20000000 };
    //  A database of this name may not be there yet; the bootstrap makes it. `postgres` always is.
    char *conninfo = text_format ("%s dbname=postgres connect_timeout=3", self->owner);
    char why [512] = "";
    struct timespec now, begin;
    clock_gettime (CLOCK_MONOTONIC, &begin);
    bool up = false;
    do {
        PGconn *connection = PQconnectdb (conninfo);
        up = PQstatus (connection) == CONNECTION_OK;
        snprintf (why, sizeof why, "%s", PQerrorMessage (connection));
        PQfinish (connection);
        if (!up)
            nanosleep (&pause, NULL);
        clock_gettime (CLOCK_MONOTONIC, &now);
    } while (!up && (now.tv_sec - begin.tv_sec) * 1000 < ms);
    vault_forget (&conninfo);
    why [strcspn (why, "\n")] = 0;
    return up || complain (false, "PostgreSQL does not answer: %s", why);
}
