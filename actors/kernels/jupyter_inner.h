//  jupyter_inner.h -- what the files of a connection to a kernel share, and nobody else includes.

#ifndef KERNELS_JUPYTER_INNER_H
#define KERNELS_JUPYTER_INNER_H

#include "jupyter.h"
#include "proto/zio.h"
#include "signer.h"

#define NUDGES 16            //  handshake requests remembered

typedef struct {
    jupyter_t *jupyter;
    jupyter_channel_t channel;
    void *socket;
    zio_t *io;
} line_t;

struct jupyter {
    loop_t *loop;
    void *zmq;
    jupyter_life_t life;
    signer_t *signer;
    char session [37];
    uint64_t number;                     //  of the last request
    line_t lines [JUPYTER_CHANNELS];
    bool ready, ended;
    unsigned nesting;                    //  callbacks on the stack: destroy waits for them
    struct {
        char id [JUPYTER_ID];
        bool reply, idle;
    } nudges [NUDGES];                   //  by number
    uint64_t nudged;
    ltimer_t *timer;                     //  next nudge; later: the idle that is late
    char output [128];                   //  endpoint of iopub
    void *monitor;                       //  tells when iopub breaks off
    unsigned openings;                   //  of iopub
    zio_t *monitor_io;
    ltimer_t *reopen;

    char running [JUPYTER_ID];           //  empty: nothing runs
    char last [JUPYTER_ID];              //  what jupyter_execute answered
    bool replied, idled;
    buf_t reply;                         //  content of the reply, kept until the idle
    uint64_t running_number;             //  an idle of a later request proves that ours was lost
    buf_t asked;                         //  header of the input_request that waits; empty: none

    buf_t header, parent, content;       //  of the message at hand
    jupyter_stats_t stats;
};

//  jupyter_line.c
bool jupyter_line_open (jupyter_t *self, jupyter_channel_t channel, const char *endpoint);
void jupyter_lines_close (jupyter_t *self);
void jupyter_reopen (void *jupyter);             //  the timer: listen to the output anew

void jupyter_input_came (void *line);            //  jupyter.c: a line has messages

#endif
