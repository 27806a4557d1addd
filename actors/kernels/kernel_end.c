//  kernel_end.c -- how a cell is made to end, and how a kernel is: politely, then less so.

#include <signal.h>

#include "kernel_inner.h"

#define STOP_STEP 2500           //  ms from one word of farewell to the next, louder one

//  What is done about a cell that shall end, and when.
static const struct {
    int64_t after;               //  ms since the interrupt
    int signo;
    const char *name;
} harsher [] = { { 0, SIGINT, "SIGINT" }, { 3000, SIGINT, "SIGINT" },
                 { 10000, SIGTERM, "SIGTERM" }, { 15000, SIGKILL, "SIGKILL" } };

#define STEPS (sizeof harsher / sizeof *harsher)

//  ---- interrupting ----

void
kernel_harsh (void *arg)
{
    kernel_t *self = arg;
    if (!self->running || self->step >= STEPS)
        return;
    int signo = harsher [self->step].signo;
    cell_event (self, self->running, "interrupting", "{\"step\":%zu,\"signal\":\"%s\"}",
                self->step + 1, harsher [self->step].name);
    if (signo == SIGKILL)
        box_kill (self->box);
    else if (signo == SIGINT && self->spec->messages)
        jupyter_interrupt (self->jupyter);
    else
        box_signal (self->box, signo);
    if (++self->step < STEPS)
        ltimer_set (self->harsh,
                    self->interrupted + harsher [self->step].after - loop_now (self->conf->loop));
}

void
kernel_interrupt (kernel_t *self, cell_t *cell)
{
    if (cell == self->running) {
        //  Asked again, it does not begin anew: the steps go on.
        bool first = !cell->interrupted;
        cell->interrupted = true;
        if (!first || !kernel_step (self, "interrupt"))
            return;
        self->interrupted = loop_now (self->conf->loop);
        self->step = 0;
        kernel_harsh (self);
        return;
    }
    for (cell_t **at = &self->queue; *at; at = &(*at)->next)
        if (*at == cell) {
            *at = cell->next;
            cell->interrupted = true;
            cell_error (cell, "Interrupted", "execution was cancelled before it began");
            cell_finish (self, cell, "cancelled");
            return;
        }
}

bool
kernel_input (kernel_t *self, cell_t *cell, text_t value)
{
    if (cell != self->running || !cell->asked || !jupyter_input (self->jupyter, value))
        return false;
    cell->asked = false;
    return true;
}

//  ---- farewell ----

void
kernel_farewell (void *arg)
{
    kernel_t *self = arg;
    if (strcmp (self->state, "starting") == 0) {
        self->late = true;
        box_kill (self->box);
        return;
    }
    if (self->step++ == 0)
        box_signal (self->box, SIGTERM);
    else
        box_kill (self->box);
    ltimer_set (self->farewell, STOP_STEP);
}

void
kernel_stop (kernel_t *self, const char *why, bool at_once)
{
    //  A busy one would not listen (R), and nobody waits for what it does.
    at_once |= self->running || strcmp (self->state, "starting") == 0;
    if (!kernel_step (self, "stop"))
        return;
    ltimer_stop (self->harsh);
    cells_fail (self, "aborted", "aborted", "KernelStopped", why);
    self->step = 0;
    if (at_once)
        box_kill (self->box);
    else
        jupyter_shutdown (self->jupyter);
    ltimer_set (self->farewell, STOP_STEP);
}
