//  sqlite_child.c -- the process that opens one SQLite file for its parent, and runs what it is
//  told.

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "proto/mp.h"
#include "sqlite_child.h"

#define MEMORY_MAX (384 << 20)       //  bytes of address space, libraries and all
#define LIFE_MS (24 * 3600 * 1000)   //  the parent keeps the time

//  ---------------------------------------------------------------- frames

static bool
s_read (void *to, size_t size)
{
    for (char *at = to; size;) {
        ssize_t got = read (STDIN_FILENO, at, size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        at += got;
        size -= (size_t) got;
    }
    return true;
}

//  Whoever does not listen any more has no use for us.
static void
s_send (const buf_t *frame)
{
    uint32_t size = (uint32_t) frame->size;
    buf_t out = { 0 };
    buf_put (&out, &size, sizeof size);
    buf_put (&out, frame->data, frame->size);
    for (size_t sent = 0; sent < out.size;) {
        ssize_t put = write (STDIN_FILENO, out.data + sent, out.size - sent);
        if (put < 0 && errno != EINTR)
            _exit (1);
        sent += put > 0 ? (size_t) put : 0;
    }
    buf_free (&out);
}

static void
s_put_bytes (buf_t *out, const char *text)
{
    mp_put_bin (out, text ? text : "", text ? strlen (text) : 0);
}

static char *
s_copy (mp_t frame, size_t n)
{
    return text_copy (mp_text (mp_at (frame, n)));
}

//  ---------------------------------------------------------------- what comes out

static bool
s_columns (void *arg, const column_t *columns, int count)
{
    buf_t out = { 0 };
    (void) arg;
    mp_put_array (&out, (uint32_t) (1 + 2 * count));
    mp_put_int (&out, CHILD_COLUMNS);
    for (int n = 0; n < count; n++) {
        s_put_bytes (&out, columns [n].name);
        s_put_bytes (&out, columns [n].type);
    }
    s_send (&out);
    buf_free (&out);
    return true;
}

static bool
s_row (void *arg, const cell_t *cells, int count)
{
    contact_t *self = arg;
    buf_t out = { 0 };
    size_t size = 0;
    for (int n = 0; n < count; n++)
        size += cells [n].text.size;
    if (size > ROW_MAX)
        return contact_fail (self, TOO_LARGE, "a row is larger than %d MiB", ROW_MAX >> 20);
    mp_put_array (&out, (uint32_t) (1 + 2 * count));
    mp_put_int (&out, CHILD_ROW);
    for (int n = 0; n < count; n++) {
        mp_put_int (&out, cells [n].kind);
        mp_put_bin (&out, cells [n].text.data, cells [n].text.size);
    }
    s_send (&out);
    buf_free (&out);
    return true;
}

static bool
s_column (void *arg, const char *database, const char *table, const char *table_type,
          long long rows, const char *column, const char *type, bool nullable)
{
    buf_t out = { 0 };
    (void) arg, (void) rows;
    mp_put_array (&out, 7);
    mp_put_int (&out, CHILD_FOUND);
    s_put_bytes (&out, database);
    s_put_bytes (&out, table);
    s_put_bytes (&out, table_type);
    s_put_bytes (&out, column);
    s_put_bytes (&out, type);
    mp_put_bool (&out, nullable);
    s_send (&out);
    buf_free (&out);
    return true;
}

static void
s_send_step (const step_t *step)
{
    buf_t out = { 0 };
    mp_put_array (&out, 5);
    mp_put_int (&out, CHILD_STEP);
    s_put_bytes (&out, step->name);
    mp_put_bool (&out, step->ok);
    mp_put_real (&out, step->ms);
    s_put_bytes (&out, step->message);
    s_send (&out);
    buf_free (&out);
}

static void
s_send_end (const contact_t *self, bool good)
{
    buf_t out = { 0 };
    mp_put_array (&out, 5);
    mp_put_int (&out, CHILD_END);
    mp_put_bool (&out, good && !*self->error);
    s_put_bytes (&out, self->code);
    s_put_bytes (&out, self->error);
    mp_put_int (&out, self->position);
    s_send (&out);
    buf_free (&out);
}

//  ---------------------------------------------------------------- what is asked

static contact_t *
s_open (mp_t frame)
{
    char *path = s_copy (frame, 1), *root = s_copy (frame, 2);
    const char *const config [CONFIG_MAX] = { path };
    reach_t reach = { .sqlite_root = *root ? root : NULL };
    contact_t *self = contact_new (&connector_sqlite_file, config, &reach, LIFE_MS);
    bool good = contact_open (self);
    for (int n = 0; n < self->step_count; n++)
        s_send_step (&self->steps [n]);
    s_send_end (self, good);
    free (path);
    return self;
}

static void
s_query (contact_t *self, mp_t frame)
{
    const sink_t sink = { s_columns, s_row, self };
    int count = (int) (mp_count (frame) - 2) / 2;
    cell_t *params = xcalloc ((size_t) count + 1, sizeof *params);
    char *sql = s_copy (frame, 1);
    for (int n = 0; n < count; n++)
        params [n] =
            (cell_t) { (cell_kind_t) mp_int (mp_at (frame, 2 + 2 * (size_t) n)),
                       text_of (s_copy (frame, 3 + 2 * (size_t) n)) };
    s_send_end (self, contact_query (self, sql, params, count, &sink));
    for (int n = 0; n < count; n++)
        free ((char *) params [n].text.data);
    free (params);
    free (sql);
}

//  A sanitizer keeps shadows of all memory there could be.
static void
s_limit (void)
{
    static const struct {
        __rlimit_resource_t which;
        rlim_t most;
    } limits [] = {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        { RLIMIT_AS, MEMORY_MAX },
#endif
        { RLIMIT_FSIZE, 0 }, { RLIMIT_NOFILE, 16 }, { RLIMIT_CORE, 0 } };
    for (size_t n = 0; n < sizeof limits / sizeof *limits; n++)
        setrlimit (limits [n].which, &(struct rlimit) { limits [n].most, limits [n].most });
    prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl (PR_SET_PDEATHSIG, SIGKILL);
}

int
sqlite_main (void)
{
    static const finder_t finder = { s_column, NULL };
    contact_t *self = NULL;
    buf_t frame = { 0 };
    uint32_t size;
    s_limit ();
    while (s_read (&size, sizeof size) && size <= CHILD_FRAME) {
        buf_clear (&frame);
        if (!s_read (buf_room (&frame, size), size) || mp_valid (frame.data, size, 2) != size)
            break;
        mp_t asked = mp_of (frame.data, size);
        int64_t what = mp_int (mp_at (asked, 0));
        if (what == CHILD_OPEN && !self)
            self = s_open (asked);
        else if (what == CHILD_QUERY && self)
            s_query (self, asked);
        else if (what == CHILD_FIND && self)
            s_send_end (self, self->kind->find (self, &finder));
    }
    _exit (0);
}
