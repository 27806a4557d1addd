//  router.c -- announced routes as a trie of path segments: a literal wins over a :param, a last
//  segment "*name" takes the rest of the path. Built anew when announcements change; requests under
//  way keep the one they were routed by.

#include <stdlib.h>
#include <strings.h>

#include "edge/edge.h"

typedef struct node {
    char *text;                  //  segment; NULL at the root and for parameters
    struct node *literals, *param, *rest, *next;
    const route_t *routes [VERB_COUNT];
} node_t;

struct router {
    unsigned refs;
    node_t root;
    hash_t *methods;             //  method → route_t (its first row)
    route_t **routes;            //  rows with a path, and bus-only ones
    size_t count, room;
    buf_t **maps;                //  announcements, copied; routes point into them
    size_t map_count;
};

static const char *const s_verbs [VERB_COUNT] = {
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"
};

const char *
verb_name (verb_t verb)
{
    return s_verbs [verb];
}

static bool
verb_parse (text_t text, verb_t *out)
{
    for (unsigned i = 0; i < VERB_COUNT; i++)
        if (text_is (text, s_verbs [i])) {
            *out = (verb_t) i;
            return true;
        }
    return false;
}

router_t *
router_new (void)
{
    router_t *self = xcalloc (1, sizeof *self);
    self->refs = 1;
    self->methods = hash_new (NULL);
    return self;
}

router_t *
router_ref (router_t *self)
{
    self->refs++;
    return self;
}

static void
node_free (node_t *node)
{
    for (node_t *at = node->literals, *next; at; at = next) {
        next = at->next;
        node_free (at);
        free (at);
    }
    if (node->param) {
        node_free (node->param);
        free (node->param);
    }
    free (node->rest);
    free (node->text);
}

static void
route_free (route_t *route)
{
    for (size_t i = 0; i < route->param_count; i++)
        free ((char *) route->params [i]);
    free ((char *) route->pattern);
    free ((char *) route->actor);
    free (route);
}

void
router_drop (router_t **self_p)
{
    router_t *self = *self_p;
    *self_p = NULL;
    if (!self || --self->refs)
        return;
    node_free (&self->root);
    for (size_t i = 0; i < self->count; i++)
        route_free (self->routes [i]);
    for (size_t i = 0; i < self->map_count; i++) {
        buf_free (self->maps [i]);
        free (self->maps [i]);
    }
    free (self->routes);
    free (self->maps);
    hash_destroy (&self->methods);
    free (self);
}

//  ---------------------------------------------------------------- building

static unsigned
word_index (text_t word, const char *const *words, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (text_is (word, words [i]))
            return i;
    return count;
}

static const char *const s_auths [] = { "user", "none", "optional", "admin", "super", "operator" };
static const char *const s_limits [] = { "normal", "sign_in", "mail", "heavy" };

//  Everything but the path. An auth word that we do not know is the strictest: operator.
static route_t *
route_new (const char *actor, mp_t map, text_t verb, text_t path)
{
    route_t *route = xcalloc (1, sizeof *route);
    *route = (route_t) {
        .map = map, .method = mp_text (mp_get (map, "method")), .path = path, .verb = verb,
        .pattern = text_copy (path), .actor = xstrdup (actor),
        .roles = mp_text (mp_get (map, "roles")), .key = mp_text (mp_get (map, "key")),
        .tag = mp_text (mp_get (map, "tag")), .upload = mp_bool (mp_get (map, "upload")),
        .raw = mp_bool (mp_get (map, "raw")), .blocking = mp_bool (mp_get (map, "blocking")),
        .idempotent = mp_bool (mp_get (map, "idempotent")) || text_is (verb, "GET"),
        .timeout = (uint32_t) mp_uint (mp_get (map, "timeout")),
        .body_max = (uint32_t) mp_uint (mp_get (map, "body_max")),
        .status = (unsigned) mp_uint (mp_get (map, "status"))
    };
    text_t auth = mp_text (mp_get (map, "auth")), limit = mp_text (mp_get (map, "limit"));
    unsigned index = auth.size ? word_index (auth, s_auths, 6) : 0;
    route->auth = index < 6 ? (route_auth_t) index : AUTH_OPERATOR;
    index = limit.size ? word_index (limit, s_limits, 4) : 0;
    route->limit = index < 4 ? (route_limit_t) index : LIMIT_NORMAL;
    return route;
}

static void
router_keep (router_t *self, route_t *route)
{
    if (self->count == self->room) {
        self->room = self->room ? self->room * 2 : 64;
        self->routes = xrealloc (self->routes, self->room * sizeof *self->routes);
    }
    self->routes [self->count++] = route;
    if (!hash_get (self->methods, route->method))
        hash_put (self->methods, route->method, route);
}

//  Take the next segment off a path; false at its end.
static bool
segment_next (text_t *path, text_t *segment)
{
    while (path->size && *path->data == '/') {
        path->data++;
        path->size--;
    }
    if (path->size == 0)
        return false;
    const char *slash = memchr (path->data, '/', path->size);
    size_t size = slash ? (size_t) (slash - path->data) : path->size;
    *segment = (text_t) { path->data, size };
    path->data += size;
    path->size -= size;
    return true;
}

static node_t *
node_literal (node_t *node, text_t text)
{
    for (node_t *at = node->literals; at; at = at->next)
        if (text_is (text, at->text))
            return at;
    node_t *made = xcalloc (1, sizeof *made);
    made->text = text_copy (text);
    made->next = node->literals;
    node->literals = made;
    return made;
}

static node_t *
node_child (node_t **child)
{
    if (!*child)
        *child = xcalloc (1, sizeof **child);
    return *child;
}

//  Put the row into the trie. False: too many parameters, or the place is taken.
static bool
router_place (router_t *self, route_t *route, verb_t verb)
{
    node_t *node = &self->root;
    text_t path = route->path, segment;
    while (segment_next (&path, &segment)) {
        bool rest = segment.data [0] == '*';
        if (segment.data [0] != ':' && !rest) {
            node = node_literal (node, segment);
            continue;
        }
        if (route->param_count == ROUTE_PARAMS)
            return false;
        text_t param = { segment.data + 1, segment.size - 1 };
        route->params [route->param_count++] = text_copy (param);
        node = node_child (rest ? &node->rest : &node->param);
        if (rest)
            break;
    }
    if (node->routes [verb])
        return false;
    node->routes [verb] = route;
    return true;
}

static bool
router_row (router_t *self, const char *actor, mp_t map, text_t verb, text_t path)
{
    verb_t parsed;
    //  Segments are kept as strings: what a NUL cuts short would stand in the way of another.
    if (path.size == 0 || path.data [0] != '/' || memchr (path.data, 0, path.size)
        || !verb_parse (verb, &parsed))
        return false;
    route_t *route = route_new (actor, map, verb, path);
    bool placed = route->auth == AUTH_OPERATOR || router_place (self, route, parsed);
    if (placed)
        router_keep (self, route);
    else
        route_free (route);
    return placed;
}

//  "VERB /path" or "/path".
static bool
router_alias (router_t *self, const char *actor, mp_t map, text_t verb, text_t alias)
{
    const char *space = alias.size ? memchr (alias.data, ' ', alias.size) : NULL;
    if (space) {
        size_t size = (size_t) (space - alias.data);
        verb = (text_t) { alias.data, size };
        alias = (text_t) { space + 1, alias.size - size - 1 };
    }
    return router_row (self, actor, map, verb, alias);
}

size_t
router_add (router_t *self, const char *actor, mp_t routes)
{
    if (mp_type (routes) != MP_ARRAY)
        return 0;
    buf_t *copy = xcalloc (1, sizeof *copy);
    mp_put (copy, routes);
    self->maps = xrealloc (self->maps, (self->map_count + 1) * sizeof *self->maps);
    self->maps [self->map_count++] = copy;

    size_t refused = 0;
    for (mp_iter_t it = mp_iter (mp_buf (copy)); mp_next (&it);) {
        mp_t map = it.value;
        text_t method = mp_text (mp_get (map, "method"));
        if (mp_type (map) != MP_MAP || method.size == 0) {
            refused++;
            continue;
        }
        text_t verb = mp_text (mp_get (map, "verb")), path = mp_text (mp_get (map, "path"));
        if (verb.size == 0) {
            router_keep (self, route_new (actor, map, verb, path));
            continue;
        }
        refused += !router_row (self, actor, map, verb, path);
        for (mp_iter_t alias = mp_iter (mp_get (map, "alias")); mp_next (&alias);)
            refused += !router_alias (self, actor, map, verb, mp_text (alias.value));
    }
    return refused;
}

//  ---------------------------------------------------------------- looking up

//  What a node says about the verb; HEAD is served by GET.
static bool
node_answer (const node_t *node, verb_t verb, match_t *match)
{
    for (unsigned i = 0; i < VERB_COUNT; i++)
        if (node->routes [i])
            match->verbs |= 1u << i;
    if (node->routes [VERB_GET])
        match->verbs |= 1u << VERB_HEAD;
    match->route = node->routes [verb];
    if (!match->route && verb == VERB_HEAD)
        match->route = node->routes [VERB_GET];
    return match->route != NULL;
}

//  Depth is bounded by the parameters and segments of announced routes: a node has at most one
//  parameter child.
static bool
node_find (const node_t *node, text_t path, size_t params, verb_t verb, match_t *match)
{
    text_t after = path, segment;
    if (!segment_next (&after, &segment))
        return node_answer (node, verb, match);
    for (const node_t *at = node->literals; at; at = at->next)
        if (text_is (segment, at->text)) {
            if (node_find (at, after, params, verb, match))
                return true;
            break;
        }
    if (params == ROUTE_PARAMS)
        return false;
    if (node->param) {
        match->values [params] = segment;
        if (node_find (node->param, after, params + 1, verb, match))
            return true;
    }
    if (node->rest) {
        size_t size = (size_t) (path.data + path.size - segment.data);
        match->values [params] = (text_t) { segment.data, size };
        return node_answer (node->rest, verb, match);
    }
    return false;
}

match_t
router_find (const router_t *self, verb_t verb, text_t path)
{
    match_t match = { 0 };
    node_find (&self->root, path, 0, verb, &match);
    return match;
}

const route_t *
router_method (const router_t *self, text_t method)
{
    return hash_get (self->methods, method);
}

size_t
router_size (const router_t *self)
{
    return self->count;
}

const route_t *
router_at (const router_t *self, size_t position)
{
    return self->routes [position];
}
