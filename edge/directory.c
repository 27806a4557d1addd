//  directory.c -- what the broker's directory means for the edge: which routes exist, whose actor
//  lives.

#include <stdlib.h>

#include "edge/edge.h"

//  One actor by name, kept after its last instance went: its routes then wait or answer 503, not
//  404.
typedef struct {
    char *name;
    buf_t routes;                //  as last announced
    size_t up;
    int64_t absent_since;        //  loop_now when the last instance went; 0: one is up
} actor_t;

struct directory {
    hash_t *actors;
};

static void
actor_free (void *item)
{
    actor_t *actor = item;
    buf_free (&actor->routes);
    free (actor->name);
    free (actor);
}

directory_t *
directory_new (void)
{
    directory_t *self = xcalloc (1, sizeof *self);
    self->actors = hash_new (actor_free);
    return self;
}

void
directory_destroy (directory_t **self_p)
{
    if (!*self_p)
        return;
    hash_destroy (&(*self_p)->actors);
    free (*self_p);
    *self_p = NULL;
}

static actor_t *
directory_actor (directory_t *self, const char *name)
{
    actor_t *actor = hash_get (self->actors, text_of (name));
    if (!actor) {
        actor = xcalloc (1, sizeof *actor);
        actor->name = xstrdup (name);
        hash_put (self->actors, text_of (name), actor);
    }
    return actor;
}

//  Count live instances; true when an announcement differs from what we had.
static bool
directory_read (edge_t *edge)
{
    directory_t *self = edge->directory;
    text_t name;
    void *item;
    for (size_t at = 0; hash_each (self->actors, &at, &name, &item);)
        ((actor_t *) item)->up = 0;

    bool changed = false;
    bus_entry_t entry;
    for (size_t at = 0; bus_each_entry (edge->bus, &at, &entry);) {
        if (strcmp (entry.state, "up") != 0)
            continue;
        actor_t *actor = directory_actor (self, entry.name);
        actor->up++;
        size_t size = mp_is_none (entry.routes) ? 0
            : (size_t) (entry.routes.end - entry.routes.data);
        text_t routes = { (const char *) entry.routes.data, size };
        if (size && !text_eq (routes, buf_text (&actor->routes))) {
            buf_clear (&actor->routes);
            buf_put (&actor->routes, routes.data, routes.size);
            changed = true;
        }
    }
    for (size_t at = 0; hash_each (self->actors, &at, &name, &item);) {
        actor_t *actor = item;
        if (actor->up)
            actor->absent_since = 0;
        else if (!actor->absent_since)
            actor->absent_since = loop_now (edge->loop);
    }
    return changed;
}

//  Is one of the words of the tag a family that asks for the anon key?
static bool
tag_wants_key (text_t tag, const char *families)
{
    for (size_t from = 0; from < tag.size;) {
        size_t size = 0;
        while (from + size < tag.size && tag.data [from + size] != ' ')
            size++;
        for (const char *at = families; size && *at;) {
            size_t length = strcspn (at, ",");
            if (length == size && memcmp (at, tag.data + from, size) == 0)
                return true;
            at += length + (at [length] == ',');
        }
        from += size + 1;
    }
    return false;
}

bool
directory_refresh (edge_t *edge)
{
    if (!directory_read (edge))
        return false;
    router_t *fresh = router_new ();
    text_t name;
    void *item;
    for (size_t at = 0; hash_each (edge->directory->actors, &at, &name, &item);) {
        actor_t *actor = item;
        if (actor->routes.size == 0)
            continue;
        size_t refused = router_add (fresh, actor->name, mp_buf (&actor->routes));
        if (refused)
            log_warn ("routes refused", "actor", actor->name, "rows", log_num ((int64_t) refused));
    }
    const char *families = opt_str (edge->options, "anon-tags");
    for (size_t i = 0; i < router_size (fresh); i++) {
        route_t *route = (route_t *) router_at (fresh, i);
        route->anon_key = tag_wants_key (route->tag, families ? families : "");
        route->counters = stats_route (edge->stats, route);
    }
    router_drop (&edge->router);
    edge->router = fresh;
    edge->router_revision++;
    return true;
}

int64_t
directory_absent (edge_t *edge, const char *name)
{
    actor_t *actor = hash_get (edge->directory->actors, text_of (name));
    if (!actor || !actor->absent_since)
        return 0;
    return loop_now (edge->loop) - actor->absent_since + 1;
}

bool
directory_each (edge_t *edge, size_t *at, const char **name, size_t *up)
{
    text_t key;
    void *item;
    if (!hash_each (edge->directory->actors, at, &key, &item))
        return false;
    *name = ((actor_t *) item)->name;
    *up = ((actor_t *) item)->up;
    return true;
}
