//  conflicts.c -- may these routes and channels live beside those? Refusals name both rows.

#include <stdio.h>
#include <stdlib.h>

#include "conflicts.h"
#include "proto/route.h"

#define ADDRESS_MAX 600

struct rows {
    hash_t *methods;             //  method → printed row
    hash_t *shapes;              //  "POST /a/:" → printed row
    hash_t *collections;         //  collection → printed row
    char slot [128];
};

bool
shape_of (text_t address, char *out, size_t size)
{
    size_t to = 0;
    for (size_t at = 0; at < address.size; at++) {
        char byte = address.data [at];
        //  A trailing slash is the same address for the edge.
        if (byte == '/' && at + 1 == address.size && at > 0 && address.data [at - 1] != ' ')
            break;
        if (to + 2 > size)
            return false;
        out [to++] = byte;
        if (byte == '/' && at + 1 < address.size
            && (address.data [at + 1] == ':' || address.data [at + 1] == '*')) {
            if (to + 2 > size)
                return false;
            out [to++] = address.data [at + 1];
            while (at + 1 < address.size && address.data [at + 1] != '/')
                at++;
        }
    }
    out [to] = 0;
    return to > 0;
}

//  The n-th address of a route, "POST /a/:x": its own, then its aliases. False when there is none.
static bool
address_at (mp_t route, size_t n, char *out, size_t size)
{
    text_t verb = mp_text (mp_get (route, "verb")), path = mp_text (mp_get (route, "path"));
    if (n > 0) {
        path = mp_text (mp_at (mp_get (route, "alias"), n - 1));
        if (path.size > 0 && path.data [0] != '/')
            verb = (text_t) { 0 };
    }
    if (path.size == 0)
        return false;
    snprintf (out, size, "%.*s%s%.*s", (int) verb.size, verb.data ? verb.data : "",
              verb.size ? " " : "", (int) path.size, path.data);
    return true;
}

//  As people read it:  POST /x clusters.start (clusters.1)
static char *
row_print (const char *address, text_t method, const char *slot)
{
    buf_t row = { 0 };
    buf_putf (&row, "%s%s%.*s (%s)", address, *address ? " " : "", (int) method.size,
              method.data ? method.data : "", slot);
    buf_putc (&row, 0);
    return (char *) row.data;
}

static bool
refuse_both (refusal_t *why, const char *what, const char *mine, const char *theirs)
{
    why->code = "CONFLICT";
    snprintf (why->text, sizeof why->text, "%s: `%s` is announced already, refused `%s`", what,
              theirs, mine);
    return false;
}

static bool
refuse (refusal_t *why, const char *code, const char *text)
{
    why->code = code;
    snprintf (why->text, sizeof why->text, "%.500s", text);
    return false;
}

//  Enter a row of ours; twice the same is a conflict with ourselves. Takes `row`.
static bool
rows_enter (hash_t *rows, const char *key, const char *what, char *row, refusal_t *why)
{
    const char *before = hash_get (rows, text_of (key));
    if (before) {
        refuse_both (why, what, row, before);
        free (row);
        return false;
    }
    hash_put (rows, text_of (key), row);
    return true;
}

static bool
under_prefix (const char *address, char *const *prefixes)
{
    const char *path = strchr (address, '/');
    for (; prefixes && *prefixes; prefixes++) {
        size_t size = strlen (*prefixes);
        while (size > 1 && (*prefixes) [size - 1] == '/')
            size--;
        if (strncmp (path, *prefixes, size) == 0
            && (path [size] == 0 || path [size] == '/' || size == 1))
            return true;
    }
    return false;
}

//  What an outside actor may call itself: its methods begin with its name.
static bool
method_own (text_t method, text_t name)
{
    return method.size > name.size && memcmp (method.data, name.data, name.size) == 0
           && method.data [name.size] == '.';
}

static bool
rows_route (rows_t *self, mp_t route, text_t actor, char *const *prefixes, refusal_t *why)
{
    char address [ADDRESS_MAX] = "", shape [ADDRESS_MAX], error [256];
    if (!route_check (route, error, sizeof error))
        return refuse (why, "INVALID", error);
    text_t method = mp_text (mp_get (route, "method"));
    char name [128];
    snprintf (name, sizeof name, "%.*s", (int) method.size, method.data);
    if (prefixes && !method_own (method, actor))
        return refuse (why, "FORBIDDEN", "methods of an actor at the door begin with its name");
    address_at (route, 0, address, sizeof address);
    if (!rows_enter (self->methods, name, "method conflict",
                     row_print (address, method, self->slot), why))
        return false;

    for (size_t n = 0; n == 0 || n <= mp_count (mp_get (route, "alias")); n++) {
        if (!address_at (route, n, address, sizeof address))
            continue;
        if (prefixes && !under_prefix (address, prefixes)) {
            char text [800];
            snprintf (text, sizeof text, "`%s` is outside the path prefixes of this key", address);
            return refuse (why, "FORBIDDEN", text);
        }
        if (!shape_of (text_of (address), shape, sizeof shape))
            return refuse (why, "INVALID", "path is too long");
        if (!rows_enter (self->shapes, shape, "route conflict",
                         row_print (address, method, self->slot), why))
            return false;
    }
    return true;
}

static bool
rows_channel (rows_t *self, mp_t channel, refusal_t *why)
{
    text_t name = mp_text (mp_get (channel, "name")), kind = mp_text (mp_get (channel, "kind"));
    if (name.size == 0 || name.size > 64 || memchr (name.data, '/', name.size)
        || (!text_is (kind, "collection") && !text_is (kind, "log")))
        return refuse (why, "INVALID", "channels need a name without slash and the kind "
                                       "collection or log");
    char key [80];
    snprintf (key, sizeof key, "%.*s", (int) name.size, name.data);
    return rows_enter (self->collections, key, "channel conflict",
                       row_print ("channel", name, self->slot), why);
}

rows_t *
rows_new (const wire_hello_t *hello, char *const *prefixes, refusal_t *why)
{
    rows_t *self = xcalloc (1, sizeof *self);
    self->methods = hash_new (free);
    self->shapes = hash_new (free);
    self->collections = hash_new (free);
    snprintf (self->slot, sizeof self->slot, "%.*s", (int) hello->slot.size, hello->slot.data);
    bool good = true;
    for (mp_iter_t it = mp_iter (hello->routes); good && mp_next (&it);)
        good = rows_route (self, it.value, hello->name, prefixes, why);
    for (mp_iter_t it = mp_iter (hello->channels); good && mp_next (&it);)
        good = rows_channel (self, it.value, why);
    if (!good)
        rows_destroy (&self);
    return self;
}

void
rows_destroy (rows_t **self_p)
{
    rows_t *self = *self_p;
    if (!self)
        return;
    hash_destroy (&self->methods);
    hash_destroy (&self->shapes);
    hash_destroy (&self->collections);
    free (self);
    *self_p = NULL;
}

//  Held against one of theirs: NULL, or our row that is in the way.
static bool
row_clash (const char *mine, const char *what, const char *address, text_t method,
           const char *slot, refusal_t *why)
{
    if (!mine)
        return false;
    char *theirs = row_print (address, method, slot);
    refuse_both (why, what, mine, theirs);
    free (theirs);
    return true;
}

bool
rows_fit (rows_t *self, const entry_t *other, refusal_t *why)
{
    char address [ADDRESS_MAX], shape [ADDRESS_MAX];
    for (mp_iter_t it = mp_iter (other->routes); mp_next (&it);) {
        text_t method = mp_text (mp_get (it.value, "method"));
        address [0] = 0;
        address_at (it.value, 0, address, sizeof address);
        if (row_clash (hash_get (self->methods, method), "method conflict", address, method,
                       other->slot, why))
            return false;
        for (size_t n = 0; n == 0 || n <= mp_count (mp_get (it.value, "alias")); n++)
            if (address_at (it.value, n, address, sizeof address)
                && shape_of (text_of (address), shape, sizeof shape)
                && row_clash (hash_get (self->shapes, text_of (shape)), "route conflict", address,
                              method, other->slot, why))
                return false;
    }
    for (mp_iter_t it = mp_iter (other->channels); mp_next (&it);) {
        text_t name = mp_text (mp_get (it.value, "name"));
        if (row_clash (hash_get (self->collections, name), "channel conflict", "channel", name,
                       other->slot, why))
            return false;
    }
    return true;
}
