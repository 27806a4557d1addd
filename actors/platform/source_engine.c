//  source_engine.c -- statements on data sources: a thread talks to the source, the statement's
//  coroutine takes what it has read. While nobody takes anything the thread waits, and so does the
//  source.

#include <pthread.h>
#include <stdlib.h>

#include "source.h"
#include "statement.h"

#define QUIET 250            //  ms after which a pull answers with what there is

//  Shared by thread and loop; whoever lets go last frees it.
typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t taken;
    int refs;                            //  guarded by lock, as all below it
    buf_t rows;                          //  JSON lines
    size_t count;
    column_t *columns;                   //  once
    int column_count;
    bool told;                           //  columns are there, or there will be none
    bool ended, closed, posted, opened, good, truncated;
    size_t rows_left, bytes_left;

    req_t *req;                          //  of the loop thread alone; NULL: nobody listens
    loop_t *loop;
    contact_t *contact;
    char *sql;
    cell_t params [ENGINE_PARAMS];
    int param_count;
} stream_t;

static void
s_free (stream_t *self)
{
    for (int n = 0; n < self->column_count; n++) {
        free (self->columns [n].name);
        free (self->columns [n].type);
    }
    for (int n = 0; n < self->param_count; n++)
        free ((char *) self->params [n].text.data);
    free (self->columns);
    free (self->sql);
    buf_free (&self->rows);
    contact_destroy (&self->contact);
    pthread_cond_destroy (&self->taken);
    pthread_mutex_destroy (&self->lock);
    free (self);
}

static void
s_release (stream_t *self)
{
    pthread_mutex_lock (&self->lock);
    bool last = --self->refs == 0;
    pthread_mutex_unlock (&self->lock);
    if (last)
        s_free (self);
}

//  ---------------------------------------------------------------- the thread

static void
s_woken (void *arg)
{
    stream_t *self = arg;
    pthread_mutex_lock (&self->lock);
    self->posted = false;
    pthread_mutex_unlock (&self->lock);
    if (self->req)
        req_wake (self->req);
    s_release (self);
}

//  With the lock held.
static void
s_post (stream_t *self)
{
    if (self->posted)
        return;
    self->posted = true;
    self->refs++;
    loop_post (self->loop, s_woken, self);
}

static bool
s_columns (void *arg, const column_t *columns, int count)
{
    stream_t *self = arg;
    pthread_mutex_lock (&self->lock);
    self->columns = xcalloc ((size_t) count + 1, sizeof *self->columns);
    for (int n = 0; n < count; n++)
        self->columns [n] = (column_t) { xstrdup (columns [n].name), xstrdup (columns [n].type) };
    self->column_count = count;
    self->told = true;
    s_post (self);
    pthread_mutex_unlock (&self->lock);
    return true;
}

//  With the lock held. How many bytes it became; more than are left: not all of it is there.
static size_t
s_put_row (stream_t *self, const cell_t *cells, int count)
{
    size_t before = self->rows.size;
    buf_putc (&self->rows, '[');
    for (int n = 0; n < count; n++) {
        if (self->rows.size - before + cells [n].text.size > self->bytes_left)
            return SIZE_MAX;
        if (n)
            buf_putc (&self->rows, ',');
        cell_put (&self->rows, &cells [n]);
    }
    buf_puts (&self->rows, "]\n");
    return self->rows.size - before;
}

static bool
s_row (void *arg, const cell_t *cells, int count)
{
    stream_t *self = arg;
    pthread_mutex_lock (&self->lock);
    while (self->rows.size >= ENGINE_BATCH && !self->closed)
        pthread_cond_wait (&self->taken, &self->lock);
    size_t before = self->rows.size, size = s_put_row (self, cells, count);
    bool more = self->rows_left > 0 && size <= self->bytes_left && !self->closed;
    if (more) {
        self->rows_left--;
        self->bytes_left -= size;
        self->count++;
    } else {
        self->rows.size = before;
        self->truncated = !self->closed;
    }
    if (self->rows.size >= ENGINE_BATCH)
        s_post (self);
    pthread_mutex_unlock (&self->lock);
    return more;
}

static void
s_run (void *arg)
{
    stream_t *self = arg;
    const sink_t sink = { s_columns, s_row, self };
    bool opened = contact_open (self->contact);
    pthread_mutex_lock (&self->lock);
    self->opened = opened;
    pthread_mutex_unlock (&self->lock);
    bool good =
        opened && contact_query (self->contact, self->sql, self->params, self->param_count, &sink);
    pthread_mutex_lock (&self->lock);
    self->good = good;
    self->told = self->ended = true;
    s_post (self);
    pthread_mutex_unlock (&self->lock);
    s_release (self);
}

//  ---------------------------------------------------------------- the coroutine

static cell_kind_t
s_kind (param_type_t type)
{
    switch (type) {
    case P_INT:
        return CELL_INT;
    case P_REAL:
        return CELL_REAL;
    case P_BOOL:
        return CELL_BOOL;
    default:
        return CELL_TEXT;
    }
}

static bool
s_put_params (engine_run_t *run, stream_t *stream, bool marks)
{
    int order [ENGINE_PARAMS];
    buf_t *sql = req_buf (run->req);
    int count = (int) run->param_count;
    if (run->explain)
        buf_puts (sql,
                  stream->contact->kind == &connector_sqlite ? "EXPLAIN QUERY PLAN " : "EXPLAIN ");
    if (marks)
        count = engine_marks (run->sql, "?", run->param_count, sql, order, ENGINE_PARAMS);
    else
        buf_puts (sql, run->sql);
    if (count < 0)
        return false;
    for (int n = 0; n < count; n++) {
        const param_t *param = &run->params [marks ? order [n] : n];
        char *text = xstrdup (param->text);
        stream->params [n] = (cell_t) { text ? s_kind (param->type) : CELL_NULL, text_of (text) };
    }
    stream->param_count = count;
    stream->sql = text_copy (buf_text (sql));
    return true;
}

//  Columns once they are there: names told apart, in request memory.
static void
s_take_columns (engine_run_t *run, const stream_t *stream)
{
    if (run->columns || stream->column_count == 0)
        return;
    engine_column_t *columns =
        req_alloc (run->req, ((size_t) stream->column_count + 1) * sizeof *columns);
    for (int n = 0; n < stream->column_count; n++)
        columns [n] = (engine_column_t) {
            engine_column_name (run->req, columns, (size_t) n, stream->columns [n].name),
            req_copy (run->req, text_of (stream->columns [n].type)) };
    run->columns = columns;
    run->column_count = (size_t) stream->column_count;
}

static engine_step_t
s_failed (engine_run_t *run, const stream_t *stream)
{
    const contact_t *contact = stream->contact;
    const char *step = contact->step_count ? contact->steps [contact->step_count - 1].name : "";
    const char *text = *contact->error ? contact->error : "the data source broke off";
    if (run->cancelled)
        return engine_fail (run, contact->lost ? FAULT_LOST : FAULT_CANCELLED, contact->code, "%s",
                            text);
    if (strcmp (text, "took too long") == 0)
        return engine_fail (run, FAULT_TIMEOUT, contact->code, "%s", text);
    if (!stream->opened) {
        //  Who it is was refused, or how: that gets no better by trying again.
        bool own = strcmp (step, "auth") == 0 || strcmp (step, "tls") == 0;
        return engine_fail (run, own ? FAULT_USER : FAULT_PLATFORM, contact->code,
                            "data source: %s", text);
    }
    if (strcmp (contact->code, TOO_LARGE) == 0)
        return engine_fail (run, FAULT_LIMIT, contact->code, "%s", text);
    bool gone = contact->lost || strcmp (text, "connection lost") == 0;
    run->position = contact->position;
    return engine_fail (run, gone ? FAULT_LOST : FAULT_USER, contact->code, "%s", text);
}

static engine_step_t
s_over (engine_run_t *run, const stream_t *stream)
{
    run->truncated = stream->truncated;
    if (!stream->good && !stream->truncated)
        return s_failed (run, stream);
    const char *number = strrchr (stream->contact->tag, ' ');
    run->tag = *stream->contact->tag ? req_copy (run->req, text_of (stream->contact->tag)) : NULL;
    run->changed = run->column_count == 0 && number ? strtoll (number, NULL, 10) : -1;
    return ENGINE_DONE;
}

static CO engine_step_t
s_open (engine_run_t *run)
{
    const source_t *source = run->target;
    bool marks = source->kind != &connector_postgresql;
    stream_t *stream = run->state = xcalloc (1, sizeof *stream);
    pthread_mutex_init (&stream->lock, NULL);
    pthread_cond_init (&stream->taken, NULL);
    stream->refs = 1;
    stream->req = run->req;
    stream->loop = req_actor (run->req)->loop;
    stream->rows_left = run->rows;
    stream->bytes_left = run->bytes;
    stream->contact = source_contact (run->req, source, run->read_only, run->deadline);
    run->changed = run->progress = -1;
    if (!s_put_params (run, stream, marks))
        return engine_fail (run, FAULT_USER, "",
                            "the statement names a parameter that is not given");
    stream->refs++;
    if (!work_start (run->user, s_run, stream)) {
        stream->refs--;
        return engine_fail (run, FAULT_PLATFORM, "", "too many data sources are being asked");
    }
    for (;;) {
        pthread_mutex_lock (&stream->lock);
        bool told = stream->told, ended = stream->ended && stream->count == 0;
        if (told)
            s_take_columns (run, stream);
        pthread_mutex_unlock (&stream->lock);
        if (ended && (!stream->good || stream->column_count == 0))
            return s_over (run, stream);
        if (told)
            return ENGINE_ROWS;
        req_sleep (run->req, 60000);
    }
}

static CO engine_step_t
s_pull (engine_run_t *run, buf_t *rows, size_t *count)
{
    stream_t *stream = run->state;
    for (bool waited = false;; waited = true) {
        pthread_mutex_lock (&stream->lock);
        bool full = stream->rows.size >= ENGINE_BATCH, ended = stream->ended;
        bool take = full || ended || (waited && stream->count);
        if (take) {
            buf_put (rows, stream->rows.data, stream->rows.size);
            *count += stream->count;
            stream->count = 0;
            buf_clear (&stream->rows);
            pthread_cond_signal (&stream->taken);
        }
        pthread_mutex_unlock (&stream->lock);
        if (ended)
            return s_over (run, stream);
        if (take || waited)
            return ENGINE_ROWS;
        req_sleep (run->req, QUIET);
    }
}

static void
s_cancel (engine_run_t *run)
{
    stream_t *stream = run->state;
    if (stream)
        contact_cancel (stream->contact);
}

static void
s_close (engine_run_t *run)
{
    stream_t *stream = run->state;
    if (!stream)
        return;
    run->state = NULL;
    stream->req = NULL;
    pthread_mutex_lock (&stream->lock);
    stream->closed = true;
    if (!stream->ended)
        contact_cancel (stream->contact);
    pthread_cond_signal (&stream->taken);
    pthread_mutex_unlock (&stream->lock);
    s_release (stream);
}

static const engine_t s_engines [] = {
    { .name = "postgresql", .open = s_open, .pull = s_pull, .cancel = s_cancel, .close = s_close },
    { .name = "mysql", .open = s_open, .pull = s_pull, .cancel = s_cancel, .close = s_close },
    { .name = "mariadb", .open = s_open, .pull = s_pull, .cancel = s_cancel, .close = s_close },
    { .name = "sqlite", .open = s_open, .pull = s_pull, .cancel = s_cancel, .close = s_close } };

CO const engine_t *
source_engine (req_t *req, const char *user, const char *source_id, void **target)
{
    source_t *source = req_alloc (req, sizeof *source);
    source_load (req, user, source_id, "source_id", source);
    *target = source;
    if (source->kind == &connector_trino)
        return &engine_trino;
    for (size_t n = 0; n < sizeof s_engines / sizeof *s_engines; n++)
        if (strcmp (s_engines [n].name, source->kind->name) == 0)
            return &s_engines [n];
    fail_field (req, E_CONFLICT, "source_id", "a data source of type %s takes no SQL",
                source->kind->name);
}
