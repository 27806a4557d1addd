//  kernel_inner.h -- what the files of a kernel share, and nobody else includes.

#ifndef KERNELS_KERNEL_INNER_H
#define KERNELS_KERNEL_INNER_H

#include "kernel.h"
#include "relay.h"

struct kernel {
    const kernel_conf_t *conf;
    const spec_t *spec;
    char *language, *notebook, *user, *session;
    char id [37];
    const char *state;
    box_t *box;
    relay_t *relay;                      //  NULL: not attached
    char cluster [37];
    jupyter_t *jupyter;
    cell_t *queue, *running;
    cell_t *recent;                      //  newest first
    ltimer_t *flush, *look, *harsh, *farewell;
    int64_t flushed;                     //  when output was last told
    int64_t interrupted;                 //  when
    size_t step;                         //  of `harsher`, or of the farewell
    int64_t used;
    uint64_t memory, peak, traffic;
    bool out_of_memory, late;            //  why it was killed: too large; not ready in time
    bool gone;                           //  box has ended
};

bool kernel_step (kernel_t *self, const char *event);    //  false: not in this state

//  ---------------------------------------------------------------- kernel_cell.c

void cell_free (cell_t *cell);
void cell_forget (kernel_t *self, cell_t *cell);
void cell_event (kernel_t *self, cell_t *cell, const char *type, const char *format, ...)
    __attribute__ ((format (printf, 4, 5)));
void cell_error (cell_t *cell, const char *name, const char *text);
void cell_flush (kernel_t *self, cell_t *cell);
void cell_dirty (kernel_t *self, cell_t *cell);          //  flushed soon
void cells_flush (void *kernel);                         //  the timer
void cells_trim (kernel_t *self, const char *cell_id);
void cell_finish (kernel_t *self, cell_t *cell, const char *outcome);
void cells_fail (kernel_t *self, const char *running, const char *queued, const char *name,
                 const char *why);

//  ---------------------------------------------------------------- kernel_end.c: timers

void kernel_harsh (void *kernel);
void kernel_farewell (void *kernel);

#endif
