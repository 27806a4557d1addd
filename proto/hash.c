//  hash.c -- linear probing with tombstones, so that deleting never moves an item under a walk.

#include <stdlib.h>

#include "proto/hash.h"

typedef struct {
    char *key;               //  NULL: never used, s_gone: deleted
    size_t size;             //  of the key
    uint64_t hash;
    void *item;
} slot_t;

struct hash {
    slot_t *slots;
    size_t room;             //  a power of two
    size_t used;             //  live and deleted slots
    size_t live;
    hash_free_fn *free;
};

static char s_gone [1];

static bool
s_is_live (const slot_t *slot)
{
    return slot->key && slot->key != s_gone;
}

hash_t *
hash_new (hash_free_fn *free_fn)
{
    hash_t *self = xcalloc (1, sizeof *self);
    self->room = 8;
    self->slots = xcalloc (self->room, sizeof (slot_t));
    self->free = free_fn;
    return self;
}

void
hash_destroy (hash_t **self_p)
{
    hash_t *self = *self_p;
    if (!self)
        return;
    *self_p = NULL;
    for (size_t n = 0; n < self->room; n++) {
        slot_t *slot = &self->slots [n];
        if (!s_is_live (slot))
            continue;
        free (slot->key);
        if (self->free)
            self->free (slot->item);
    }
    free (self->slots);
    free (self);
}

static slot_t *
s_find (hash_t *self, text_t key, uint64_t hash)
{
    size_t mask = self->room - 1;
    for (size_t at = hash & mask;; at = (at + 1) & mask) {
        slot_t *slot = &self->slots [at];
        if (!slot->key)
            return NULL;
        if (slot->hash == hash && s_is_live (slot)
            && text_eq (key, (text_t) { slot->key, slot->size }))
            return slot;
    }
}

static slot_t *
s_free_slot (hash_t *self, uint64_t hash)
{
    size_t mask = self->room - 1, at = hash & mask;
    while (s_is_live (&self->slots [at]))
        at = (at + 1) & mask;
    return &self->slots [at];
}

//  Keep a quarter of the slots unused: probes stay short and always end.
static void
s_make_room (hash_t *self)
{
    if ((self->used + 1) * 4 <= self->room * 3)
        return;
    slot_t *old = self->slots;
    size_t count = self->room;
    if (self->live * 2 >= self->room)
        self->room *= 2;
    self->slots = xcalloc (self->room, sizeof (slot_t));
    for (size_t n = 0; n < count; n++)
        if (s_is_live (&old [n]))
            *s_free_slot (self, old [n].hash) = old [n];
    self->used = self->live;
    free (old);
}

void *
hash_get (hash_t *self, text_t key)
{
    slot_t *slot = s_find (self, key, text_hash (key));
    return slot ? slot->item : NULL;
}

void
hash_put (hash_t *self, text_t key, void *item)
{
    uint64_t hash = text_hash (key);
    slot_t *slot = s_find (self, key, hash);
    if (slot) {
        void *old = slot->item;
        slot->item = item;
        if (self->free && old != item)
            self->free (old);
        return;
    }
    s_make_room (self);
    slot = s_free_slot (self, hash);
    if (!slot->key)
        self->used++;
    self->live++;
    *slot = (slot_t) { xmalloc (key.size + 1), key.size, hash, item };
    if (key.size)
        memcpy (slot->key, key.data, key.size);
    slot->key [key.size] = 0;
}

static void *
s_remove (hash_t *self, slot_t *slot)
{
    void *item = slot->item;
    free (slot->key);
    *slot = (slot_t) { .key = s_gone };
    self->live--;
    //  Deleted slots in front of an unused one stop no probe: give them back.
    size_t mask = self->room - 1, at = (size_t) (slot - self->slots);
    while (!self->slots [(at + 1) & mask].key && self->slots [at].key == s_gone) {
        self->slots [at].key = NULL;
        self->used--;
        at = (at - 1) & mask;
    }
    return item;
}

void *
hash_take (hash_t *self, text_t key)
{
    slot_t *slot = s_find (self, key, text_hash (key));
    return slot ? s_remove (self, slot) : NULL;
}

bool
hash_del (hash_t *self, text_t key)
{
    slot_t *slot = s_find (self, key, text_hash (key));
    if (!slot)
        return false;
    void *item = s_remove (self, slot);
    if (self->free)
        self->free (item);
    return true;
}

size_t
hash_size (const hash_t *self)
{
    return self->live;
}

bool
hash_each (hash_t *self, size_t *at, text_t *key, void **item)
{
    while (*at < self->room) {
        slot_t *slot = &self->slots [(*at)++];
        if (!s_is_live (slot))
            continue;
        if (key)
            *key = (text_t) { slot->key, slot->size };
        if (item)
            *item = slot->item;
        return true;
    }
    return false;
}
