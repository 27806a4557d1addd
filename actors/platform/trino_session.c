//  trino_session.c -- session state of Trino, which travels in headers.

#include <stdlib.h>

#include <strings.h>

#include "proto/hash.h"
#include "trino_session.h"

#define ITEMS_MAX 64
#define ITEM_MAX 8192                //  bytes of one

typedef struct item {
    struct item *next;
    const char *header;              //  under which it is sent
    char *name, *value;              //  name "" where there is one only
} item_t;

struct trino_session {
    item_t *items;
    size_t count;
};

//  What an answer says, what that sets, and whether it is name=value or takes a name away.
static const struct {
    const char *heard, *header;
    enum { ONE, NAMED, CLEARS } kind;
} s_words [] = { { "X-Trino-Set-Catalog", "X-Trino-Catalog", ONE },
                 { "X-Trino-Set-Schema", "X-Trino-Schema", ONE },
                 { "X-Trino-Set-Path", "X-Trino-Path", ONE },
                 { "X-Trino-Set-Session", "X-Trino-Session", NAMED },
                 { "X-Trino-Clear-Session", "X-Trino-Session", CLEARS },
                 { "X-Trino-Set-Role", "X-Trino-Role", NAMED },
                 { "X-Trino-Added-Prepare", "X-Trino-Prepared-Statement", NAMED },
                 { "X-Trino-Deallocated-Prepare", "X-Trino-Prepared-Statement", CLEARS } };

static hash_t *s_sessions;

trino_session_t *
trino_session (const char *user)
{
    if (!s_sessions)
        s_sessions = hash_new (NULL);
    trino_session_t *self = hash_get (s_sessions, text_of (user));
    if (!self) {
        self = xcalloc (1, sizeof *self);
        hash_put (s_sessions, text_of (user), self);
    }
    return self;
}

static void
s_remove (trino_session_t *self, const char *header, text_t name)
{
    for (item_t **at = &self->items; *at; at = &(*at)->next)
        if (strcmp ((*at)->header, header) == 0 && text_is (name, (*at)->name)) {
            item_t *item = *at;
            *at = item->next;
            free (item->name);
            free (item->value);
            free (item);
            self->count--;
            return;
        }
}

static void
s_set (trino_session_t *self, const char *header, text_t name, text_t value)
{
    s_remove (self, header, name);
    if (self->count == ITEMS_MAX || name.size + value.size > ITEM_MAX)
        return;
    item_t *item = xcalloc (1, sizeof *item), **end = &self->items;
    *item = (item_t) { .header = header, .name = text_copy (name), .value = text_copy (value) };
    while (*end)
        end = &(*end)->next;
    *end = item;
    self->count++;
}

void
trino_session_hear (trino_session_t *self, text_t name, text_t value)
{
    for (size_t n = 0; n < sizeof s_words / sizeof *s_words; n++) {
        if (name.size != strlen (s_words [n].heard)
            || strncasecmp (name.data, s_words [n].heard, name.size) != 0)
            continue;
        const char *header = s_words [n].header;
        const char *equals = value.size ? memchr (value.data, '=', value.size) : NULL;
        if (s_words [n].kind == ONE)
            s_set (self, header, (text_t) { "", 0 }, value);
        else if (s_words [n].kind == CLEARS)
            s_remove (self, header, value);
        else if (equals) {
            size_t size = (size_t) (equals - value.data);
            s_set (self, header, (text_t) { value.data, size },
                   (text_t) { equals + 1, value.size - size - 1 });
        }
    }
}

void
trino_session_each (const trino_session_t *self, void (*fn) (void *arg, const char *header),
                    void *arg)
{
    for (const item_t *item = self->items; item; item = item->next) {
        char *header = text_format ("%s: %s%s%s", item->header, item->name, *item->name ? "=" : "",
                                    item->value);
        fn (arg, header);
        free (header);
    }
}

bool
trino_session_has (const trino_session_t *self, const char *header)
{
    for (const item_t *item = self->items; item; item = item->next)
        if (strcmp (item->header, header) == 0)
            return true;
    return false;
}
