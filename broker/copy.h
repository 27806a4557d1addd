//  copy.h -- a terminated copy of a borrowed text, owned by the caller.

#ifndef COPY_H
#define COPY_H

#include "proto/text.h"

static inline char *
copy_text (text_t text)
{
    char *copy = xmalloc (text.size + 1);
    if (text.size)
        memcpy (copy, text.data, text.size);
    copy [text.size] = 0;
    return copy;
}

#endif
