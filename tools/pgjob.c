//  pgjob.c -- the database for the time of one command.

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pgjob.h"

typedef struct {
    place_t place;
    pg_t pg;
    loop_t *loop;
    super_t *super;
    pgjob_fn *work;
    void *arg;
    int code;
} pgjob_t;

//  ---- with a PostgreSQL of our own ----

static int
s_work (void *arg)
{
    pgjob_t *self = arg;
    return pg_wait (&self->pg, 30000) ? self->work (&self->place, &self->pg, self->arg)
                                      : DONE_UNREACHABLE;
}

static void
s_worked (void *arg, int code)
{
    pgjob_t *self = arg;
    self->code = code;
    super_stop (self->super);
}

static void
s_ended (void *arg, int code)
{
    pgjob_t *self = arg;
    self->code = self->code < 0 ? code : self->code;
    loop_stop (self->loop);
}

static void
s_on_stop (void *arg)
{
    super_fail (((pgjob_t *) arg)->super);
}

static void
s_start (pgjob_t *self)
{
    if (!pg_serve (&self->pg, &self->place, self->super)) {
        super_fail (self->super);
        return;
    }
    super_run (self->super, &(process_spec_t) { .name = "command", .stage = STAGE_JOB,
               .privileged = true, .talks = true, .work = s_work, .done = s_worked, .arg = self });
}

static void
s_made (void *arg, int code)
{
    pgjob_t *self = arg;
    if (code != 0 || !pg_keep (&self->place))
        super_fail (self->super);
    else
        s_start (self);
}

static int
s_with_own (pgjob_t *self)
{
    if (!place_lock (&self->place))
        return DONE_ERROR;
    self->code = -1;
    self->loop = loop_new ();
    self->super = super_new (self->loop, &self->place, s_ended, self);
    loop_signal (self->loop, SIGTERM, s_on_stop, self);
    loop_signal (self->loop, SIGINT, s_on_stop, self);
    if (pg_made (&self->place))
        s_start (self);
    else if (!pg_make (&self->pg, &self->place, self->super, s_made, self))
        super_fail (self->super);
    loop_run (self->loop);
    super_destroy (&self->super);
    loop_destroy (&self->loop);
    return self->code;
}

int
pgjob_run (const char *var, const opt_t *options, bool alone, pgjob_fn *work, void *arg)
{
    log_open ("busbar", LOG_WARN);
    pgjob_t self = { .work = work, .arg = arg };
    int code = DONE_ERROR;
    if (place_open (&self.place, var, true) && pg_open (&self.pg, &self.place, options)) {
        bool busy = place_busy (&self.place);
        if (busy && alone)
            code = complain (DONE_ERROR, "busbar is running in %s: stop it first", self.place.var);
        else if (busy || !self.pg.private)
            code = s_work (&self);
        else
            code = s_with_own (&self);
    }
    pg_close (&self.pg);
    place_close (&self.place);
    return code;
}

//  ---- for the commands ----

PGconn *
pgjob_connect (const pg_t *pg, const char *database)
{
    char *conninfo = text_format ("%s%s%s", pg->owner, database ? " dbname=" : "",
                                  database ? database : "");
    PGconn *connection = PQconnectdb (conninfo);
    explicit_bzero (conninfo, strlen (conninfo));
    free (conninfo);
    if (PQstatus (connection) == CONNECTION_OK)
        return connection;
    complain (0, "database %s: %s", database ? database : pg->database,
              PQerrorMessage (connection));
    PQfinish (connection);
    return NULL;
}

bool
pgjob_execute (PGconn *connection, const char *sql)
{
    PGresult *result = PQexec (connection, sql);
    ExecStatusType status = PQresultStatus (result);
    bool good = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
    if (!good)
        complain (0, "%s", PQresultErrorMessage (result));
    PQclear (result);
    return good;
}

//  A password file that is no file. libpq asks that nobody else may read it.
static int
s_password_fd (const char *password)
{
    buf_t line = { 0 };
    buf_puts (&line, "*:*:*:*:");
    for (const char *at = password; *at; at++)
        buf_putf (&line, "%s%c", *at == ':' || *at == '\\' ? "\\" : "", *at);
    buf_putc (&line, '\n');
    int fd = memfd_create ("pgpass", 0);
    bool good = fd >= 0 && fchmod (fd, 0600) == 0
        && write (fd, line.data, line.size) == (ssize_t) line.size;
    explicit_bzero (line.data, line.size);
    buf_free (&line);
    return good ? fd : -1;
}

//  Every keyword of a conninfo has a variable that says the same.
static void
s_set_environment (const pg_t *pg, const char *database)
{
    PQconninfoOption *options = PQconninfoParse (pg->owner, NULL);
    for (PQconninfoOption *option = options; option && option->keyword; option++)
        if (strcmp (option->keyword, "password") == 0 && option->val) {
            char path [32];
            snprintf (path, sizeof path, "/dev/fd/%d", s_password_fd (option->val));
            setenv ("PGPASSFILE", path, 1);
        }
        else if (option->envvar && option->val)
            setenv (option->envvar, option->val, 1);
    PQconninfoFree (options);
    setenv ("PGDATABASE", database, 1);
}

static int
s_wait_for (pid_t pid, const char *name)
{
    int status;
    while (pid > 0 && waitpid (pid, &status, 0) < 0)
        if (errno != EINTR)
            pid = -1;
    if (pid < 0)
        return complain (DONE_ERROR, "%s: %s", name, strerror (errno));
    return WIFEXITED (status) ? WEXITSTATUS (status) : DONE_ERROR;
}

int
pgjob_program (const pg_t *pg, const char *database, char *const *argv)
{
    pid_t pid = fork ();
    if (pid == 0) {
        s_set_environment (pg, database);
        char *path = pg->bin ? text_format ("%s/%s", pg->bin, argv [0]) : xstrdup (argv [0]);
        execvp (path, argv);
        _exit (complain (127, "%s: %s", path, strerror (errno)));
    }
    return s_wait_for (pid, argv [0]);
}

int
pgjob_spawn (char *const *argv)
{
    pid_t pid = fork ();
    if (pid == 0) {
        execvp (argv [0], argv);
        _exit (complain (127, "%s: %s", argv [0], strerror (errno)));
    }
    return s_wait_for (pid, argv [0]);
}
