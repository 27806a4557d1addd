//  db_cancel.c -- one thread per cancellation: they are rare, and bounded by the connections.

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "db/db_cancel.h"
#include "proto/log.h"
#include "proto/text.h"

struct db_cancel {
    pthread_t thread;
    PGcancel *cancel;
    int fd;                  //  written by the thread as its last act
    watch_t *watch;
    loop_fn *done;
    void *arg;
    char error [256];
};

static void *
s_run (void *arg)
{
    db_cancel_t *self = arg;
    if (PQcancel (self->cancel, self->error, sizeof self->error))
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
    if (self->error [0])
        log_warn ("a statement could not be cancelled", "why", self->error);
    self->done (self->arg);
}

db_cancel_t *
db_cancel_start (loop_t *loop, PGconn *pg, loop_fn *done, void *arg)
{
    db_cancel_t *self = xcalloc (1, sizeof *self);
    self->done = done;
    self->arg = arg;
    self->cancel = PQgetCancel (pg);
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
    free (self);
}
