//  db_cancel.c -- one thread per cancellation: they are rare, and bounded by the connections.

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "db/db_cancel.h"
#include "proto/log.h"
#include "proto/text.h"

struct db_cancel {
    pthread_t thread;
    PGcancel *cancel;        //  or, to end a session:
    char *keeper, *role;
    int pid;
    int fd;                  //  written by the thread as its last act
    watch_t *watch;
    loop_fn *done;
    void *arg;
    char error [256];
};

static void
s_terminate (db_cancel_t *self)
{
    const char *keys [] = { "dbname", "connect_timeout", NULL };
    const char *values [] = { self->keeper, "5", NULL };
    PGconn *pg = PQconnectdbParams (keys, values, 1);
    char pid [16];
    snprintf (pid, sizeof pid, "%d", self->pid);
    const char *params [] = { self->role, pid };
    PGresult *result = PQstatus (pg) != CONNECTION_OK
                           ? NULL
                           : PQexecParams (pg, "SELECT base.guest_terminate ($1, $2::int)", 2,
                                           NULL, params, NULL, NULL, 0);
    if (PQresultStatus (result) != PGRES_TUPLES_OK)
        snprintf (self->error, sizeof self->error, "%s", PQerrorMessage (pg));
    PQclear (result);
    PQfinish (pg);
}

static void *
s_run (void *arg)
{
    db_cancel_t *self = arg;
    if (self->keeper)
        s_terminate (self);
    else if (PQcancel (self->cancel, self->error, sizeof self->error))
        self->error [0] = 0;
    uint64_t one = 1;
    ssize_t rc = write (self->fd, &one, sizeof one);
    assert (rc == sizeof one);
    return NULL;
}

static void
s_ready (void *arg, uint32_t events)
{
    (void) events;
    db_cancel_t *self = arg;
    watch_end (&self->watch);
    //  Reading is what makes the thread's writes ours.
    uint64_t one;
    ssize_t rc = read (self->fd, &one, sizeof one);
    assert (rc == sizeof one);
    if (self->error [0])
        log_warn ("a statement could not be stopped", "why", self->error);
    self->done (self->arg);
}

static void
s_start (db_cancel_t *self, loop_t *loop, loop_fn *done, void *arg)
{
    self->done = done;
    self->arg = arg;
    self->fd = eventfd (0, EFD_CLOEXEC);
    assert (self->fd >= 0);
    self->watch = loop_watch (loop, self->fd, EPOLLIN, s_ready, self);
    //  Signals belong to the loop thread.
    sigset_t all, before;
    sigfillset (&all);
    pthread_sigmask (SIG_SETMASK, &all, &before);
    int rc = pthread_create (&self->thread, NULL, s_run, self);
    pthread_sigmask (SIG_SETMASK, &before, NULL);
    assert (rc == 0);
}

db_cancel_t *
db_cancel_start (loop_t *loop, PGconn *pg, loop_fn *done, void *arg)
{
    db_cancel_t *self = xcalloc (1, sizeof *self);
    self->cancel = PQgetCancel (pg);
    s_start (self, loop, done, arg);
    return self;
}

db_cancel_t *
db_terminate_start (loop_t *loop, const char *keeper, const char *role, int pid, loop_fn *done,
                    void *arg)
{
    db_cancel_t *self = xcalloc (1, sizeof *self);
    self->keeper = xstrdup (keeper);
    self->role = xstrdup (role);
    self->pid = pid;
    s_start (self, loop, done, arg);
    return self;
}

void
db_cancel_destroy (db_cancel_t **self_p)
{
    db_cancel_t *self = *self_p;
    if (!self)
        return;
    *self_p = NULL;
    pthread_join (self->thread, NULL);
    watch_end (&self->watch);
    close (self->fd);
    PQfreeCancel (self->cancel);
    if (self->keeper)
        explicit_bzero (self->keeper, strlen (self->keeper));
    free (self->keeper);
    free (self->role);
    free (self);
}
