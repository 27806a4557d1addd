//  spec.h -- kernelspecs: which kernels are installed, and how each is started.

#ifndef KERNELS_SPEC_H
#define KERNELS_SPEC_H

#include "proto/mp.h"

#define SPEC_WORDS 32

typedef struct spec {
    struct spec *next;
    char *name, *language;               //  "ir", "R"
    char *dir;
    //  {connection_file} left as it is, {resource_dir} replaced
    char *argv [SPEC_WORDS + 1];
    char *env [2 * SPEC_WORDS + 1];      //  name, value, …
    bool messages;                       //  wants interrupts as messages, not as signals
} spec_t;

//  Read all specs of the usual directories and of `path` (colons between), which come first.
spec_t *spec_load (const char *path);
void spec_free (spec_t **list_p);

//  The kernel for a cell's language ("python", "r", "scala"): by name first (python3, ir), then by
//  language. NULL: none.
const spec_t *spec_find (const spec_t *list, const char *language);

#endif
