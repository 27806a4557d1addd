//  part.h -- the input of a fuzzer, cut at a byte.

#ifndef PART_H
#define PART_H

#include <string.h>

#include "proto/text.h"

//  What stands before the first `end`, or everything; `rest` is then what stands behind it.
static inline text_t
part_take (text_t *rest, char end)
{
    const char *at = memchr (rest->data, end, rest->size);
    size_t size = at ? (size_t) (at - rest->data) : rest->size, gone = size + (at != NULL);
    text_t part = { rest->data, size };
    *rest = (text_t) { rest->data + gone, rest->size - gone };
    return part;
}

#endif
