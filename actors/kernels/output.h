//  output.h -- what one cell says: gathered into few events, limited in size, and kept as a
//  notebook's outputs.
//
//  Knows nothing of kernels or channels: messages in, events out at output_flush.

#ifndef KERNELS_OUTPUT_H
#define KERNELS_OUTPUT_H

#include "proto/mp.h"

typedef struct output output_t;

//  One event: type behind "execution.", data as JSON.
typedef void (output_event_fn) (void *arg, const char *type, text_t data);

//  At most `cap` bytes of content are taken, then one event "truncated" follows and nothing but
//  errors.
output_t *output_new (size_t cap);
void output_destroy (output_t **self_p);

//  Is there no room for `size` more bytes of that type of message? Then they are counted as
//  dropped.
bool output_full (output_t *self, text_t type, size_t size);
//  Something was lost on the way here.
void output_lost (output_t *self);

//  Take a message of iopub. True when something waits for output_flush.
bool output_add (output_t *self, text_t type, mp_t content);
void output_flush (output_t *self, output_event_fn *fn, void *arg);

//  Is something shown under that display id? Then updates of it from other cells are for this one
//  too.
bool output_has_display (const output_t *self, text_t display_id);

//  Outputs of the cell in nbformat 4.5, a JSON array.
void output_notebook (const output_t *self, buf_t *json);
//  The last error, {ename, evalue, traceback}; nothing when there is none.
void output_error (const output_t *self, buf_t *json);
//  What a person would read: streams and plain texts.
void output_text (const output_t *self, buf_t *text);

size_t output_size (const output_t *self);        //  bytes kept
uint64_t output_dropped (const output_t *self);
bool output_truncated (const output_t *self);

#endif
