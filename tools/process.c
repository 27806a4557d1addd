//  process.c -- starting one child: who it is, what it sees, and that it dies with us.

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "process.h"

#define SECRETS_FD 3
#define LINE_MAX_BYTES 4096

static char **
s_copy_list (char *const *list)
{
    size_t count = 0;
    while (list && list [count])
        count++;
    char **copy = xcalloc (count + 1, sizeof *copy);
    for (size_t n = 0; n < count; n++)
        copy [n] = xstrdup (list [n]);
    return copy;
}

static void
s_free_list (char *const *list)
{
    for (size_t n = 0; list [n]; n++)
        free (list [n]);
    free ((void *) list);
}

process_t *
process_new (super_t *super, const process_spec_t *spec)
{
    process_t *self = xcalloc (1, sizeof *self);
    self->spec = *spec;
    self->spec.name = xstrdup (spec->name);
    self->spec.slot = xstrdup (spec->slot ? spec->slot : spec->name);
    self->spec.argv = s_copy_list (spec->argv);
    self->spec.envp = s_copy_list (spec->envp);
    char *secrets = xmalloc (spec->secrets.size + 1);
    if (spec->secrets.size)
        memcpy (secrets, spec->secrets.data, spec->secrets.size);
    self->spec.secrets.data = secrets;
    if (!self->spec.stop_signal)
        self->spec.stop_signal = SIGTERM;
    if (!self->spec.death_signal)
        self->spec.death_signal = SIGKILL;
    if (!self->spec.patience)
        self->spec.patience = 12000;
    self->super = super;
    self->out = -1;
    return self;
}

void
process_destroy (process_t **self_p)
{
    process_t *self = *self_p;
    if (!self)
        return;
    process_ended (self);
    ltimer_end (&self->again);
    free ((void *) self->spec.name), free ((void *) self->spec.slot);
    s_free_list (self->spec.argv), s_free_list (self->spec.envp);
    explicit_bzero ((void *) self->spec.secrets.data, self->spec.secrets.size);
    free ((void *) self->spec.secrets.data);
    buf_free (&self->line);
    free (self);
    *self_p = NULL;
}

//  ---- what a foreign process prints ----

//  PostgreSQL says its level in the line; others do not. What a job tells of its progress is for
//  the curious.
static log_level_t
s_level (const process_t *self, const char *line)
{
    //  Somebody came a moment too early or too late: ourselves, waiting for it.
    if (strstr (line, "FATAL:  the database system is"))
        return LOG_DEBUG;
    if (strstr (line, "FATAL:") || strstr (line, "PANIC:") || strstr (line, "error:"))
        return LOG_ERROR;
    if (strstr (line, "ERROR:") || strstr (line, "WARNING:"))
        return LOG_WARN;
    if (strstr (line, "LOG:") || strstr (line, "HINT:") || strstr (line, "DETAIL:"))
        return LOG_DEBUG;
    return self->spec.done ? LOG_DEBUG : LOG_INFO;
}

static void
s_flush_line (process_t *self)
{
    if (self->line.size == 0)
        return;
    buf_putc (&self->line, 0);
    const char *line = (const char *) self->line.data;
    log_event (s_level (self, line), "output", "of", self->spec.slot, "line", line, NULL);
    buf_clear (&self->line);
}

static void
s_take_output (void *arg, uint32_t events)
{
    (void) events;
    process_t *self = arg;
    char piece [2048];
    ssize_t size = read (self->out, piece, sizeof piece);
    for (ssize_t n = 0; n < size; n++)
        if (piece [n] == '\n' || self->line.size >= LINE_MAX_BYTES)
            s_flush_line (self);
        else
            buf_putc (&self->line, piece [n]);
    if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR)) {
        watch_end (&self->watch);
        close (self->out);
        self->out = -1;
    }
}

void
process_ended (process_t *self)
{
    //  Its own children may hold the pipe open, so an end of file need not come.
    for (int n = 0; n < 64 && self->out >= 0; n++)
        s_take_output (self, 0);
    s_flush_line (self);
    if (self->out >= 0) {
        watch_end (&self->watch);
        close (self->out);
        self->out = -1;
    }
}

//  ---- in the child ----

static void
s_quit (const char *what, const char *path)
{
    log_error (what, "path", path, "error", strerror (errno));
    _exit (127);
}

static void
s_reset_signals (void)
{
    for (int signo = 1; signo < NSIG; signo++)
        signal (signo, SIG_DFL);
    sigset_t none;
    sigemptyset (&none);
    sigprocmask (SIG_SETMASK, &none, NULL);
}

//  Standard input is empty, standard output is for `ready` alone, 3 holds the secrets, nothing
//  else stays.
static void
s_set_descriptors (const process_t *self, int secrets, int out)
{
    int null = open ("/dev/null", O_RDONLY);
    //  Away from the places that are about to be filled.
    if (secrets >= 0)
        secrets = fcntl (secrets, F_DUPFD_CLOEXEC, 10);
    dup2 (null, 0);
    if (out >= 0)
        dup2 (out, 2);
    if (!self->spec.talks)
        dup2 (2, 1);
    if (secrets >= 0)
        dup2 (secrets, SECRETS_FD);
    close_range (secrets >= 0 ? SECRETS_FD + 1 : SECRETS_FD, ~0U,
                 self->spec.work ? 0 : CLOSE_RANGE_CLOEXEC);
}

static void
s_become_user (const process_t *self, const place_t *place)
{
    if (!place->drop)
        return;
    if (setgroups (0, NULL) != 0 || setresgid (place->gid, place->gid, place->gid) != 0)
        s_quit ("cannot take the group of", place->user);
    //  What stays root shares the group, so that its sockets take connections from the others.
    if (self->spec.privileged)
        umask (0007);
    else if (setresuid (place->uid, place->uid, place->uid) != 0)
        s_quit ("cannot become user", place->user);
}

//  The directory is opened before privileges go: the user we become need not be able to walk to
//  where root keeps its checkout. A name below a directory, not a bare descriptor, so that `ps`
//  shows it.
static void
s_execute (const process_t *self, int bin)
{
    char *const *argv = self->spec.argv, *const *envp = self->spec.envp;
    const char *slash = strrchr (argv [0], '/');
    if (bin >= 0)
        execveat (bin, slash + 1, argv, envp, 0);
    else
        execve (argv [0], argv, envp);
    s_quit ("cannot execute", argv [0]);
}

static int
s_open_directory_of (const char *path)
{
    const char *slash = strrchr (path, '/');
    if (!slash)
        return -1;
    char *directory = text_format ("%.*s", slash == path ? 1 : (int) (slash - path), path);
    int fd = open (directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    free (directory);
    return fd;
}

static void
s_child (const process_t *self, const place_t *place, pid_t parent, int secrets, int out)
{
    s_reset_signals ();
    //  A session of its own: control-C in the terminal is for the supervisor, which ends us in
    //  order.
    setsid ();
    umask (0077);
    s_set_descriptors (self, secrets, out);
    int bin = self->spec.work ? -1 : s_open_directory_of (self->spec.argv [0]);
    s_become_user (self, place);
    //  After the change of user, which would forget it.
    prctl (PR_SET_PDEATHSIG, self->spec.death_signal);
    if (getppid () != parent)
        _exit (127);
    if (chdir (place->var) != 0)
        s_quit ("cannot enter", place->var);
    if (self->spec.work) {
        int code = self->spec.work (self->spec.arg);
        fflush (stdout);
        _exit (code);
    }
    s_execute (self, bin);
}

//  ---- in the supervisor ----

//  Secrets travel in memory that is no file: nothing to read in argv, environment or on disk.
static int
s_secrets_fd (const process_t *self)
{
    text_t secrets = self->spec.secrets;
    if (secrets.size == 0)
        return -1;
    int fd = memfd_create ("secrets", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || write (fd, secrets.data, secrets.size) != (ssize_t) secrets.size
        || lseek (fd, 0, SEEK_SET) != 0) {
        log_error ("cannot hand over secrets", "slot", self->spec.slot, "error", strerror (errno));
        abort ();
    }
    fcntl (fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK);
    return fd;
}

bool
process_start (process_t *self, loop_t *loop, const place_t *place)
{
    process_ended (self);
    int pipes [2] = { -1, -1 };
    if (self->spec.foreign && pipe2 (pipes, O_CLOEXEC) != 0)
        pipes [0] = pipes [1] = -1;
    int secrets = s_secrets_fd (self);
    pid_t parent = getpid (), pid = fork ();
    if (pid == 0)
        s_child (self, place, parent, secrets, pipes [1]);
    if (secrets >= 0)
        close (secrets);
    if (pipes [1] >= 0)
        close (pipes [1]);
    if (pipes [0] >= 0) {
        fcntl (pipes [0], F_SETFL, O_NONBLOCK);
        self->out = pipes [0];
        self->watch = loop_watch (loop, self->out, EPOLLIN, s_take_output, self);
    }
    if (pid < 0) {
        log_error ("cannot fork", "slot", self->spec.slot, "error", strerror (errno));
        return false;
    }
    self->pid = pid;
    self->since = loop_now (loop);
    self->told = false;
    return true;
}
