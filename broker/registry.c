//  registry.c -- who serves what: slots, routes, channels, claims, and the DIRECTORY made of them.

#include <stdio.h>
#include <stdlib.h>

#include "conflicts.h"
#include "registry.h"

#define NAME_MAX_SIZE 64

//  Instances by method; built anew after a change, when somebody asks.
typedef struct {
    entry_t **entries;
    size_t count, room;
    mp_t route;
} served_t;

//  One that left, kept until everybody was told.
typedef struct gone {
    char *name, *slot, *boot;
    struct gone *next;
} gone_t;

struct registry {
    hash_t *slots;               //  slot → entry_t
    hash_t *methods;             //  method → served_t; NULL: to be built
    gone_t *gone, **gone_end;    //  in order of leaving
    uint64_t revision;
    bool changed;
};

static void
entry_free (void *item)
{
    entry_t *entry = item;
    free (entry->name);
    free (entry->slot);
    free (entry->boot);
    free (entry->endpoint);
    buf_free (&entry->announced);
    hash_destroy (&entry->claims);
    free (entry);
}

static void
served_free (void *item)
{
    served_t *served = item;
    free (served->entries);
    free (served);
}

registry_t *
registry_new (void)
{
    registry_t *self = xcalloc (1, sizeof *self);
    self->slots = hash_new (entry_free);
    self->gone_end = &self->gone;
    return self;
}

void
registry_destroy (registry_t **self_p)
{
    registry_t *self = *self_p;
    if (!self)
        return;
    registry_settle (self);
    hash_destroy (&self->methods);
    hash_destroy (&self->slots);
    free (self);
    *self_p = NULL;
}

static void
registry_touch (registry_t *self, entry_t *entry)
{
    if (entry)
        entry->changed = true;
    self->changed = true;
    self->revision++;
    hash_destroy (&self->methods);
}

static bool
is_word (text_t text)
{
    for (size_t i = 0; i < text.size; i++) {
        char byte = text.data [i];
        if (!((byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z')
              || (byte >= '0' && byte <= '9') || byte == '_' || byte == '-' || byte == '.'))
            return false;
    }
    return text.size > 0 && text.size <= NAME_MAX_SIZE;
}

static bool
hello_good (const wire_hello_t *hello, refusal_t *why)
{
    why->code = "INVALID";
    why->text [0] = 0;
    if (!is_word (hello->name) || text_is (hello->name, "broker"))
        snprintf (why->text, sizeof why->text, "name \"%.*s\" is no actor name",
                  (int) (hello->name.size < 80 ? hello->name.size : 80), hello->name.data);
    else if (!is_word (hello->slot))
        snprintf (why->text, sizeof why->text, "slot of %.*s is missing or no word",
                  (int) hello->name.size, hello->name.data);
    else if (hello->boot.size == 0 || hello->boot.size > NAME_MAX_SIZE)
        snprintf (why->text, sizeof why->text, "boot of %.*s is missing or too long",
                  (int) hello->slot.size, hello->slot.data);
    const mp_t lists [] = { hello->routes, hello->claims, hello->channels, hello->dependants };
    static const char *const s_names [] = { "routes", "claims", "channels", "dependants" };
    for (size_t n = 0; n < 4 && !why->text [0]; n++)
        if (!mp_empty (lists [n]) && mp_type (lists [n]) != MP_ARRAY)
            snprintf (why->text, sizeof why->text, "%s of %.*s is not an array", s_names [n],
                      (int) hello->slot.size, hello->slot.data);
    return !why->text [0];
}

//  Nobody of another name has these slot, methods, addresses or channels.
static bool
hello_fits (registry_t *self, const wire_hello_t *hello, char *const *prefixes, refusal_t *why)
{
    entry_t *before = registry_slot (self, hello->slot), *other;
    if (before && !text_is (hello->name, before->name)) {
        why->code = "CONFLICT";
        snprintf (why->text, sizeof why->text,
                  "slot conflict: `%s (%s)` is alive, refused `%.*s (%.*s)`", before->name,
                  before->slot, (int) hello->name.size, hello->name.data, (int) hello->slot.size,
                  hello->slot.data);
        return false;
    }
    rows_t *rows = rows_new (hello, prefixes, why);
    bool fits = rows != NULL;
    for (size_t at = 0; fits && registry_each (self, &at, &other);)
        if (!text_is (hello->name, other->name))
            fits = rows_fit (rows, other, why);
    rows_destroy (&rows);
    return fits;
}

static void
entry_keep (entry_t *entry, const wire_hello_t *hello)
{
    size_t starts [4] = { 0 };
    mp_put (&entry->announced, hello->routes);
    starts [1] = entry->announced.size;
    mp_put (&entry->announced, hello->channels);
    starts [2] = entry->announced.size;
    mp_put (&entry->announced, hello->dependants);
    starts [3] = entry->announced.size;
    const uint8_t *data = entry->announced.data;
    entry->routes = mp_of (data, starts [1]);
    entry->channels = mp_of (data + starts [1], starts [2] - starts [1]);
    entry->dependants = mp_of (data + starts [2], starts [3] - starts [2]);
}

static bool
claimed_by_other (registry_t *self, const entry_t *entry, text_t key)
{
    entry_t *other;
    for (size_t at = 0; registry_each (self, &at, &other);)
        if (other != entry && strcmp (other->name, entry->name) == 0
            && hash_get (other->claims, key))
            return true;
    return false;
}

//  What HELLO names was claimed before; whoever claimed it since then has it now.
static void
registry_keep_claims (registry_t *self, entry_t *entry, mp_t keys)
{
    for (mp_iter_t it = mp_iter (keys); mp_next (&it);) {
        text_t key = mp_text (it.value);
        if (key.size > 0 && !claimed_by_other (self, entry, key))
            hash_put (entry->claims, key, entry);
    }
}

entry_t *
registry_announce (registry_t *self, const wire_hello_t *hello, bool outside,
                   char *const *prefixes, void *peer, refusal_t *why)
{
    if (!hello_good (hello, why) || !hello_fits (self, hello, prefixes, why))
        return NULL;

    entry_t *before = registry_slot (self, hello->slot);
    //  The same incarnation again (after our restart, or on a new connection) did not die.
    if (before && text_is (hello->boot, before->boot))
        hash_del (self->slots, hello->slot);
    else if (before)
        registry_remove (self, &before);

    entry_t *entry = xcalloc (1, sizeof *entry);
    entry->name = text_copy (hello->name);
    entry->slot = text_copy (hello->slot);
    entry->boot = text_copy (hello->boot);
    entry->endpoint = outside ? xstrdup ("") : text_copy (hello->endpoint);
    entry->credit = hello->credit ? hello->credit : 1024;
    entry->pid = hello->pid;
    entry->outside = outside;
    entry->peer = peer;
    entry->claims = hash_new (NULL);
    entry_keep (entry, hello);
    hash_put (self->slots, hello->slot, entry);
    registry_touch (self, entry);
    registry_keep_claims (self, entry, hello->claims);
    return entry;
}

entry_t *
registry_slot (registry_t *self, text_t slot)
{
    return hash_get (self->slots, slot);
}

void
registry_drain (registry_t *self, entry_t *entry)
{
    entry->draining = true;
    registry_touch (self, entry);
}

void
registry_remove (registry_t *self, entry_t **entry_p)
{
    entry_t *entry = *entry_p;
    gone_t *gone = xcalloc (1, sizeof *gone);
    gone->name = xstrdup (entry->name);
    gone->slot = xstrdup (entry->slot);
    gone->boot = xstrdup (entry->boot);
    *self->gone_end = gone;
    self->gone_end = &gone->next;
    registry_touch (self, NULL);
    hash_del (self->slots, text_of (gone->slot));
    *entry_p = NULL;
}

void
registry_claim (registry_t *self, entry_t *entry, mp_t keys, bool release)
{
    bool moved = false;
    for (mp_iter_t it = mp_iter (keys); mp_next (&it);) {
        text_t key = mp_text (it.value);
        if (mp_type (it.value) != MP_TEXT || key.size == 0)
            continue;
        entry_t *other;
        for (size_t at = 0; !release && registry_each (self, &at, &other);)
            if (other != entry && strcmp (other->name, entry->name) == 0)
                hash_del (other->claims, key);
        if (release)
            hash_del (entry->claims, key);
        else
            hash_put (entry->claims, key, entry);
        moved = true;
    }
    if (moved)
        self->revision++;
}

static void
registry_index (registry_t *self)
{
    entry_t *entry;
    self->methods = hash_new (served_free);
    for (size_t at = 0; registry_each (self, &at, &entry);)
        for (mp_iter_t it = mp_iter (entry->routes); mp_next (&it);) {
            text_t method = mp_text (mp_get (it.value, "method"));
            served_t *served = hash_get (self->methods, method);
            if (!served) {
                served = xcalloc (1, sizeof *served);
                hash_put (self->methods, method, served);
            }
            if (served->count == served->room) {
                served->room = served->room ? served->room * 2 : 2;
                served->entries = xrealloc (served->entries,
                                            served->room * sizeof *served->entries);
            }
            served->entries [served->count++] = entry;
            served->route = it.value;
        }
}

entry_t **
registry_method (registry_t *self, text_t method, size_t *count, mp_t *route)
{
    if (!self->methods)
        registry_index (self);
    served_t *served = hash_get (self->methods, method);
    *count = served ? served->count : 0;
    *route = served ? served->route : mp_none;
    return served ? served->entries : NULL;
}

entry_t *
registry_choose (entry_t **entries, size_t count, text_t key)
{
    entry_t *best = NULL;
    uint64_t high = 0;
    for (size_t n = 0; n < count; n++) {
        entry_t *entry = entries [n];
        if (*entry->endpoint)
            continue;
        //  Who claimed it and is leaving still owns it: there are never two owners.
        if (key.size > 0 && hash_get (entry->claims, key))
            return entry->draining ? NULL : entry;
        if (entry->draining)
            continue;
        if (key.size == 0) {
            if (!best || entry->in_flight < best->in_flight)
                best = entry;
            continue;
        }
        buf_t pair = { 0 };
        buf_puts (&pair, entry->slot);
        buf_putc (&pair, 0);
        buf_put (&pair, key.data, key.size);
        uint64_t hash = text_hash (buf_text (&pair));
        buf_free (&pair);
        if (!best || hash > high) {
            best = entry;
            high = hash;
        }
    }
    return best;
}

bool
registry_owns_channel (const entry_t *entry, text_t channel)
{
    const char *slash = channel.size ? memchr (channel.data, '/', channel.size) : NULL;
    if (!slash)
        return false;
    text_t rest = { slash + 1, channel.size - (size_t) (slash + 1 - channel.data) };
    const char *end = rest.size ? memchr (rest.data, '/', rest.size) : NULL;
    if (end)
        rest.size = (size_t) (end - rest.data);
    for (mp_iter_t it = mp_iter (entry->channels); mp_next (&it);)
        if (text_eq (mp_text (mp_get (it.value, "name")), rest))
            return true;
    return false;
}

bool
registry_changed (const registry_t *self)
{
    return self->changed;
}

uint64_t
registry_revision (const registry_t *self)
{
    return self->revision;
}

size_t
registry_size (const registry_t *self)
{
    return hash_size (self->slots);
}

bool
registry_each (registry_t *self, size_t *at, entry_t **entry)
{
    text_t slot;
    void *item;
    if (!hash_each (self->slots, at, &slot, &item))
        return false;
    *entry = item;
    return true;
}

void
registry_settle (registry_t *self)
{
    entry_t *entry;
    for (size_t at = 0; registry_each (self, &at, &entry);)
        entry->changed = false;
    while (self->gone) {
        gone_t *gone = self->gone;
        self->gone = gone->next;
        free (gone->name);
        free (gone->slot);
        free (gone->boot);
        free (gone);
    }
    self->gone_end = &self->gone;
    self->changed = false;
}

static void
pack_routes (const entry_t *entry, bool door, buf_t *out)
{
    size_t mark = mp_open_array (out);
    uint32_t count = 0;
    for (mp_iter_t it = mp_iter (entry->routes); mp_next (&it);) {
        if (door && text_is (mp_text (mp_get (it.value, "auth")), "operator"))
            continue;
        mp_put (out, it.value);
        count++;
    }
    mp_close (out, mark, count);
}

static void
pack_entry (const entry_t *entry, bool door, buf_t *out)
{
    size_t mark = mp_open_map (out);
    mp_pair_str (out, "name", entry->name);
    mp_pair_str (out, "slot", entry->slot);
    mp_pair_str (out, "boot", entry->boot);
    mp_pair_str (out, "endpoint", door ? "" : entry->endpoint);
    mp_pair_int (out, "credit", (int64_t) entry->credit);
    mp_pair_int (out, "load", (int64_t) entry->load);
    mp_pair_str (out, "state", entry->draining ? "draining" : "up");
    uint32_t pairs = 7;
    if (!door)
        mp_pair_int (out, "pid", (int64_t) entry->pid), pairs++;
    if (!entry->draining) {
        mp_put_str (out, "routes");
        pack_routes (entry, door, out);
        mp_pair (out, "channels", entry->channels);
        pairs += 2;
        if (!door) {
            mp_pair (out, "dependants", entry->dependants);
            mp_put_str (out, "claims");
            mp_put_array (out, (uint32_t) hash_size (entry->claims));
            text_t key;
            void *item;
            for (size_t at = 0; hash_each (entry->claims, &at, &key, &item);)
                mp_put_text (out, key);
            pairs += 2;
        }
    }
    mp_close (out, mark, pairs);
}

//  The broker itself serves a few methods for operators; it is an entry like others.
static void
pack_broker (buf_t *out)
{
    static const char *const s_methods [] = { "broker.directory", "broker.peers", "broker.stats" };
    size_t mark = mp_open_map (out);
    mp_pair_str (out, "name", "broker");
    mp_pair_str (out, "slot", "broker");
    mp_pair_str (out, "boot", "broker");
    mp_pair_str (out, "endpoint", "");
    mp_pair_int (out, "credit", 1024);
    mp_pair_str (out, "state", "up");
    mp_put_str (out, "routes");
    mp_put_array (out, 3);
    for (size_t n = 0; n < 3; n++) {
        mp_put_map (out, 3);
        mp_pair_str (out, "method", s_methods [n]);
        mp_pair_str (out, "auth", "operator");
        mp_pair_bool (out, "idempotent", true);
    }
    mp_close (out, mark, 7);
}

static void
pack_directory (registry_t *self, bool whole, buf_t *entries, buf_t *frame)
{
    wire_directory_t msg = { .revision = self->revision, .whole = whole,
                             .entries = mp_buf (entries) };
    wire_pack_directory (frame, &msg);
    buf_free (entries);
}

void
registry_pack_whole (registry_t *self, bool door, buf_t *frame)
{
    buf_t entries = { 0 };
    size_t mark = mp_open_array (&entries);
    uint32_t count = 0;
    entry_t *entry;
    for (size_t at = 0; registry_each (self, &at, &entry); count++)
        pack_entry (entry, door, &entries);
    if (!door)
        pack_broker (&entries), count++;
    mp_close (&entries, mark, count);
    pack_directory (self, true, &entries, frame);
}

void
registry_pack_changes (registry_t *self, bool door, buf_t *frame)
{
    buf_t entries = { 0 };
    size_t mark = mp_open_array (&entries);
    uint32_t count = 0;
    //  First who left: a successor in the same slot must not be taken for the one that went.
    for (gone_t *gone = self->gone; gone; gone = gone->next, count++) {
        mp_put_map (&entries, 4);
        mp_pair_str (&entries, "name", gone->name);
        mp_pair_str (&entries, "slot", gone->slot);
        mp_pair_str (&entries, "boot", gone->boot);
        mp_pair_str (&entries, "state", "gone");
    }
    entry_t *entry;
    for (size_t at = 0; registry_each (self, &at, &entry);)
        if (entry->changed) {
            pack_entry (entry, door, &entries);
            count++;
        }
    mp_close (&entries, mark, count);
    pack_directory (self, false, &entries, frame);
}
