//  kernel_cell.c -- cells: what they say is told in portions; some are kept once they are over.

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernel_inner.h"
#include "proto/json.h"

#define FLUSH_EVERY 50           //  ms: at most 20 events a second of one kind
#define RECENT_MAX 32            //  finished cells that may still say something
#define RECENT_BYTES (16 << 20)  //  of their outputs together

//  ---- cells ----

cell_t *
cell_new (const char *id, const char *cell_id, text_t code, size_t cap)
{
    cell_t *self = xcalloc (1, sizeof *self);
    snprintf (self->id, sizeof self->id, "%s", id);
    self->cell_id = xstrdup (cell_id);
    self->code = xmalloc (code.size + 1);
    memcpy (self->code, code.data, code.size);
    self->code [code.size] = 0;
    self->output = output_new (cap);
    return self;
}

void
cell_free (cell_t *cell)
{
    output_destroy (&cell->output);
    buf_free (&cell->error);
    free (cell->cell_id);
    free (cell->code);
    free (cell);
}

void
cell_forget (kernel_t *self, cell_t *cell)
{
    self->conf->calls.forgotten (self->conf->calls.arg, cell);
    cell_free (cell);
}

void
cell_event (kernel_t *self, cell_t *cell, const char *type, const char *format, ...)
{
    char json [256];
    va_list args;
    va_start (args, format);
    vsnprintf (json, sizeof json, format, args);
    va_end (args);
    self->conf->calls.event (self->conf->calls.arg, cell, type, text_of (json));
}

void
cell_error (cell_t *cell, const char *name, const char *text)
{
    buf_clear (&cell->error);
    buf_puts (&cell->error, "{\"ename\":");
    json_quote (text_of (name), &cell->error);
    buf_puts (&cell->error, ",\"evalue\":");
    json_quote (text_of (text), &cell->error);
    buf_puts (&cell->error, ",\"traceback\":[]}");
}

//  ---- telling output ----

typedef struct {
    kernel_t *kernel;
    cell_t *cell;
} flushing_t;

static void
s_on_output_event (void *arg, const char *type, text_t data)
{
    flushing_t *at = arg;
    at->kernel->conf->calls.event (at->kernel->conf->calls.arg, at->cell, type, data);
}

void
cell_flush (kernel_t *self, cell_t *cell)
{
    if (!cell->dirty)
        return;
    cell->dirty = false;
    output_flush (cell->output, s_on_output_event, &(flushing_t) { self, cell });
    if (cell->outcome)
        self->conf->calls.changed (self->conf->calls.arg, cell);
}

void
cells_flush (void *arg)
{
    kernel_t *self = arg;
    self->flushed = loop_now (self->conf->loop);
    if (self->running)
        cell_flush (self, self->running);
    for (cell_t *cell = self->recent; cell; cell = cell->next)
        cell_flush (self, cell);
}

void
cell_dirty (kernel_t *self, cell_t *cell)
{
    cell->dirty = true;
    if (!ltimer_active (self->flush)) {
        int64_t since = loop_now (self->conf->loop) - self->flushed;
        ltimer_set (self->flush, since >= FLUSH_EVERY ? 0 : FLUSH_EVERY - since);
    }
}

//  ---- finished cells ----

//  They stay for what their threads still say, until the same cell runs again or others need the
//  room.
void
cells_trim (kernel_t *self, const char *cell_id)
{
    size_t count = 0, bytes = 0;
    for (cell_t **at = &self->recent; *at;) {
        cell_t *cell = *at;
        count++;
        bytes += output_size (cell->output);
        bool again = cell_id && cell->cell_id && strcmp (cell_id, cell->cell_id) == 0;
        if (count > RECENT_MAX || bytes > RECENT_BYTES || again) {
            *at = cell->next;
            cell_flush (self, cell);
            cell_forget (self, cell);
        }
        else
            at = &cell->next;
    }
}

void
cell_finish (kernel_t *self, cell_t *cell, const char *outcome)
{
    cell_flush (self, cell);
    cell->outcome = outcome;
    cell->asked = false;
    cell->ended = loop_now (self->conf->loop);
    cell->next = self->recent;
    self->recent = cell;
    self->used = cell->ended;
    self->conf->calls.finished (self->conf->calls.arg, cell);
    cells_trim (self, NULL);
}

void
cells_fail (kernel_t *self, const char *running, const char *queued, const char *name,
            const char *why)
{
    cell_t *cell = self->running;
    self->running = NULL;
    if (cell) {
        cell_error (cell, name, why);
        cell_finish (self, cell, cell->interrupted ? "cancelled" : running);
    }
    while ((cell = self->queue)) {
        self->queue = cell->next;
        cell_error (cell, name, why);
        cell_finish (self, cell, queued);
    }
}
