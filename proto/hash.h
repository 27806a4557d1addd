//  hash.h -- a hash table from text to pointer; keys are copied. Open addressing, never shrinks.

#ifndef HASH_H
#define HASH_H

#include "text.h"

typedef struct hash hash_t;
typedef void (hash_free_fn) (void *item);

//  `free` (may be NULL) is called for an item that is replaced, deleted or left at destroy.
hash_t *hash_new (hash_free_fn *free);
void hash_destroy (hash_t **self_p);
void *hash_get (hash_t *self, text_t key);         //  NULL when absent
void hash_put (hash_t *self, text_t key, void *item);         //  insert or replace
bool hash_del (hash_t *self, text_t key);
void *hash_take (hash_t *self, text_t key);        //  remove without freeing
size_t hash_size (const hash_t *self);

//  Walk:  for (size_t at = 0; hash_each (self, &at, &key, &item);)  The current item may be deleted
//  while walking; inserting while walking is not allowed.
bool hash_each (hash_t *self, size_t *at, text_t *key, void **item);

#endif
