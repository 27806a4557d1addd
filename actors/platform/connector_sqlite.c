//  connector_sqlite.c -- SQLite files as data sources: a child of ours opens the file and runs the
//  statements; who does not want to wait any longer kills it.

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/mp.h"
#include "sqlite_child.h"

#define SELF "/proc/self/exe"

typedef struct {
    pid_t pid;
    int fd;
    buf_t frame;
} child_t;

//  ---------------------------------------------------------------- the process

//  It inherits nothing but its end of the pair: no secrets, no environment.
static bool
s_spawn (child_t *child, int theirs)
{
    char *args [] = { "busbar-platform", CHILD_OPTION, NULL }, *environment [] = { NULL };
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigemptyset (&none);
    posix_spawn_file_actions_init (&actions);
    posix_spawn_file_actions_adddup2 (&actions, theirs, STDIN_FILENO);
    posix_spawn_file_actions_addopen (&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addclosefrom_np (&actions, STDERR_FILENO + 1);
    posix_spawnattr_init (&attributes);
    posix_spawnattr_setsigmask (&attributes, &none);
    posix_spawnattr_setflags (&attributes, POSIX_SPAWN_SETSIGMASK);
    int code = posix_spawn (&child->pid, SELF, &actions, &attributes, args, environment);
    posix_spawnattr_destroy (&attributes);
    posix_spawn_file_actions_destroy (&actions);
    return code == 0;
}

static void
s_close (contact_t *self)
{
    child_t *child = self->handle;
    if (child->fd >= 0)
        close (child->fd);
    if (child->pid > 0) {
        kill (child->pid, SIGKILL);
        while (waitpid (child->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    buf_free (&child->frame);
    free (child);
}

static bool
s_begin (contact_t *self)
{
    child_t *child = self->handle = xcalloc (1, sizeof *child);
    int pair [2];
    child->fd = -1;
    if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return false;
    child->fd = pair [0];
    bool good = s_spawn (child, pair [1]);
    close (pair [1]);
    return good;
}

//  ---------------------------------------------------------------- frames

static bool
s_lost (contact_t *self)
{
    return contact_stopped (self)
               ? false
               : contact_fail (self, TOO_LARGE, "the statement used up what a process may have");
}

static bool
s_send (contact_t *self, const buf_t *frame)
{
    child_t *child = self->handle;
    uint32_t size = (uint32_t) frame->size;
    struct iovec parts [] = { { &size, sizeof size }, { frame->data, frame->size } };
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
    while (parts [1].iov_len) {
        ssize_t put = sendmsg (child->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (put < 0 && errno == EAGAIN) {
            if (contact_wait (self, child->fd, POLLOUT, contact_left (self)) <= 0)
                return s_lost (self);
            continue;
        }
        if (put < 0 && errno != EINTR)
            return s_lost (self);
        for (size_t n = 0, left = put > 0 ? (size_t) put : 0; n < 2; n++) {
            size_t took = left < parts [n].iov_len ? left : parts [n].iov_len;
            parts [n].iov_base = (char *) parts [n].iov_base + took;
            parts [n].iov_len -= took;
            left -= took;
        }
    }
    return true;
}

static bool
s_read (contact_t *self, void *to, size_t size)
{
    child_t *child = self->handle;
    for (char *at = to; size;) {
        ssize_t got = recv (child->fd, at, size, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN) {
            if (contact_wait (self, child->fd, POLLIN, contact_left (self)) <= 0)
                return s_lost (self);
            continue;
        }
        if (got == 0 || (got < 0 && errno != EINTR))
            return s_lost (self);
        at += got > 0 ? got : 0;
        size -= got > 0 ? (size_t) got : 0;
    }
    return true;
}

//  The next frame, good until the one after it; absent when there will be none.
static mp_t
s_next (contact_t *self)
{
    child_t *child = self->handle;
    uint32_t size;
    if (!s_read (self, &size, sizeof size) || size > CHILD_FRAME)
        return mp_none;
    buf_clear (&child->frame);
    if (!s_read (self, buf_room (&child->frame, size), size)
        || mp_valid (child->frame.data, size, 2) != size)
        return mp_none;
    return mp_of (child->frame.data, size);
}

//  ---------------------------------------------------------------- what comes in

static void
s_step (contact_t *self, mp_t frame)
{
    static const char *const names [] = { "resolve", "connect" };
    text_t name = mp_text (mp_at (frame, 1)), message = mp_text (mp_at (frame, 4));
    for (size_t n = 0; n < sizeof names / sizeof *names && self->step_count < STEPS_MAX; n++)
        if (text_is (name, names [n])) {
            step_t *step = &self->steps [self->step_count++];
            *step = (step_t) { .name = names [n], .ok = mp_bool (mp_at (frame, 2)),
                               .ms = mp_real (mp_at (frame, 3)) };
            memcpy (step->message, message.data,
                    message.size < sizeof step->message ? message.size : 0);
        }
}

static bool
s_columns (mp_t frame, const sink_t *sink)
{
    int count = (int) (mp_count (frame) - 1) / 2, n = 0;
    column_t *columns = xcalloc ((size_t) count + 1, sizeof *columns);
    mp_iter_t it = mp_iter (frame);
    for (mp_next (&it); n < count; n++) {
        mp_next (&it);
        columns [n].name = text_copy (mp_text (it.value));
        mp_next (&it);
        columns [n].type = text_copy (mp_text (it.value));
    }
    bool more = sink->columns (sink->arg, columns, count);
    while (n--) {
        free (columns [n].name);
        free (columns [n].type);
    }
    free (columns);
    return more;
}

static bool
s_row (mp_t frame, const sink_t *sink)
{
    int count = (int) (mp_count (frame) - 1) / 2;
    cell_t *cells = xcalloc ((size_t) count + 1, sizeof *cells);
    mp_iter_t it = mp_iter (frame);
    mp_next (&it);
    for (int n = 0; n < count; n++) {
        mp_next (&it);
        cells [n].kind = (cell_kind_t) mp_int (it.value);
        mp_next (&it);
        cells [n].text = mp_text (it.value);
    }
    bool more = sink->row (sink->arg, cells, count);
    free (cells);
    return more;
}

static bool
s_found (mp_t frame, const finder_t *finder)
{
    char *texts [5];
    for (size_t n = 0; n < 5; n++)
        texts [n] = text_copy (mp_text (mp_at (frame, n + 1)));
    bool more = finder->column (finder->arg, texts [0], texts [1], texts [2], -1, texts [3],
                                texts [4], mp_bool (mp_at (frame, 6)));
    for (size_t n = 0; n < 5; n++)
        free (texts [n]);
    return more;
}

static bool
s_end (contact_t *self, mp_t frame)
{
    text_t code = mp_text (mp_at (frame, 2)), error = mp_text (mp_at (frame, 3));
    self->position = (int) mp_int (mp_at (frame, 4));
    if (mp_bool (mp_at (frame, 1)))
        return true;
    char name [sizeof self->code] = "";
    memcpy (name, code.data, code.size < sizeof name ? code.size : 0);
    return contact_fail (self, name, "%.*s", (int) error.size, error.data);
}

//  Ask, and take what comes until the end. Who has enough leaves: the child is not asked again.
static bool
s_ask (contact_t *self, const buf_t *frame, const sink_t *sink, const finder_t *finder)
{
    bool more = s_send (self, frame);
    while (more) {
        mp_t answer = s_next (self);
        switch (mp_is_none (answer) ? 0 : mp_int (mp_at (answer, 0))) {
        case CHILD_STEP: s_step (self, answer); break;
        case CHILD_COLUMNS: more = s_columns (answer, sink); break;
        case CHILD_ROW: more = s_row (answer, sink); break;
        case CHILD_FOUND: more = s_found (answer, finder); break;
        case CHILD_END: return s_end (self, answer);
        default: return *self->error ? false : s_lost (self);
        }
    }
    return !*self->error;
}

//  ---------------------------------------------------------------- what is asked

static void
s_put_text (buf_t *out, const char *text)
{
    mp_put_bin (out, text ? text : "", text ? strlen (text) : 0);
}

static bool
s_open (contact_t *self)
{
    buf_t frame = { 0 };
    contact_step_begin (self);
    if (!s_begin (self))
        return contact_step_bad (self, "resolve", "no process could be started for it");
    mp_put_array (&frame, 3);
    mp_put_int (&frame, CHILD_OPEN);
    s_put_text (&frame, contact_text (self, "path"));
    s_put_text (&frame, self->reach.sqlite_root);
    bool good = s_ask (self, &frame, NULL, NULL);
    buf_free (&frame);
    return good;
}

static bool
s_query (contact_t *self, const char *sql, const cell_t *params, int count, const sink_t *sink)
{
    buf_t frame = { 0 };
    mp_put_array (&frame, (uint32_t) (2 + 2 * count));
    mp_put_int (&frame, CHILD_QUERY);
    s_put_text (&frame, sql);
    for (int n = 0; n < count; n++) {
        mp_put_int (&frame, params [n].kind);
        mp_put_bin (&frame, params [n].text.data, params [n].text.size);
    }
    bool good = s_ask (self, &frame, sink, NULL);
    buf_free (&frame);
    return good;
}

static bool
s_find (contact_t *self, const finder_t *finder)
{
    buf_t frame = { 0 };
    mp_put_array (&frame, 1);
    mp_put_int (&frame, CHILD_FIND);
    bool good = s_ask (self, &frame, NULL, finder);
    buf_free (&frame);
    return good;
}

const connector_t connector_sqlite = { .name = "sqlite", .fields = sqlite_fields, .quote = "\"",
                                       .open = s_open, .close = s_close, .query = s_query,
                                       .find = s_find };
