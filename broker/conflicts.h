//  conflicts.h -- may these routes and channels live beside those?

#ifndef CONFLICTS_H
#define CONFLICTS_H

#include "registry.h"

//  A hello's rows, gathered to be held against those of others.
typedef struct rows rows_t;

//  Check the announcement in itself: every route well-formed, no method or address twice, every
//  path under one of `prefixes` (NULL: anywhere). NULL when refused.
rows_t *rows_new (const wire_hello_t *hello, char *const *prefixes, refusal_t *why);
void rows_destroy (rows_t **self_p);

//  False with both rows named when another actor has the same method, the same verb and path shape
//  (`/a/:x` and `/a/:y` are one shape) or the same collection.
bool rows_fit (rows_t *self, const entry_t *other, refusal_t *why);

//  "POST /a/:x/b" → "POST /a/:/b". False when it does not fit.
bool shape_of (text_t address, char *out, size_t size);

#endif
