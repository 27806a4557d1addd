//  multipart.h -- a streaming parser of multipart/form-data: memory is bounded by one part's
//  header.

#ifndef MULTIPART_H
#define MULTIPART_H

#include "proto/text.h"

typedef struct multipart multipart_t;

typedef struct {
    //  A part begins. filename.data is NULL for a plain field. The texts live until the function
    //  returns.
    void (*part) (void *arg, text_t name, text_t filename, text_t type);
    void (*data) (void *arg, text_t data);
    void (*part_end) (void *arg);
    void *arg;
} multipart_sink_t;

multipart_t *multipart_new (const char *boundary, const multipart_sink_t *sink);
void multipart_destroy (multipart_t **self_p);
//  False: malformed; feed no more.
bool multipart_feed (multipart_t *self, text_t data);
//  Was the closing boundary seen?
bool multipart_whole (const multipart_t *self);

#endif
