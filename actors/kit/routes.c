//  routes.c -- from the declarations of an actor to the methods that it serves and announces.

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../proto/fault.h"
#include "kit.h"

typedef struct line {
    struct line *next;
    char text [];
} line_t;

static line_t *s_lines;

char *
kit_text (const char *format, ...)
{
    va_list args;
    va_start (args, format);
    int size = vsnprintf (NULL, 0, format, args);
    va_end (args);
    assert (size >= 0);
    line_t *line = xmalloc (sizeof *line + (size_t) size + 1);
    va_start (args, format);
    vsnprintf (line->text, (size_t) size + 1, format, args);
    va_end (args);
    line->next = s_lines;
    s_lines = line;
    return line->text;
}

//  ---------------------------------------------------------------- building

endpoint_t *
routes_add (kit_t *kit)
{
    return &kit->endpoints [kit->endpoint_count++];
}

static bool
s_in_path (const endpoint_t *endpoint, const char *name)
{
    for (size_t n = 0; endpoint->in_path [n]; n++)
        if (strcmp (endpoint->in_path [n], name) == 0)
            return true;
    return false;
}

//  Names of the :params of a path (and of *rest), each once.
static void
s_path_params (endpoint_t *endpoint, const char *path)
{
    size_t count = 0;
    while (endpoint->in_path [count])
        count++;
    for (const char *at = path;
         at && (at = strchr (at, '/')) && count + 1 < COUNT (endpoint->in_path);)
        if (*++at == ':' || *at == '*') {
            at++;
            const char *name = kit_text ("%.*s", (int) strcspn (at, "/"), at);
            if (!s_in_path (endpoint, name))
                endpoint->in_path [count++] = name;
        }
}

void
routes_finish (kit_t *kit, endpoint_t *endpoint)
{
    route_spec_t *spec = &endpoint->spec;
    bool id_declared = false;
    s_path_params (endpoint, spec->path);
    //  Not every path of several has it.
    bool has_id = s_in_path (endpoint, "id");
    for (size_t n = 0; n < COUNT (spec->alias) && spec->alias [n]; n++)
        s_path_params (endpoint, spec->alias [n]);
    while (endpoint->in && endpoint->in [endpoint->in_count].name)
        endpoint->in_count++;
    endpoint->take = xcalloc (endpoint->in_count + 1, 1);
    for (size_t n = 0; n < endpoint->in_count; n++) {
        const field_t *field = &endpoint->in [n];
        unsigned take = field->flags & (READONLY | HIDDEN) ? DEFAULT : TAKE | DEFAULT;
        if (field->flags & REQUIRED)
            take |= NEED;
        if (s_in_path (endpoint, field->name) || (field->json && s_in_path (endpoint, field->json)))
            take |= IN_PATH;
        endpoint->take [n] = (uint8_t) take;
        //  A read-only id belongs to the reply; what the path says is then a UUID like any other.
        id_declared |= take & TAKE && strcmp (field->name, "id") == 0;
    }
    endpoint->needs_id = has_id && !id_declared;
    bool get = spec->verb && strcmp (spec->verb, "GET") == 0;
    spec->idempotent |= get;
    endpoint->writes = spec->verb && !get;
    if (hash_get (kit->methods, text_of (spec->method))) {
        log_error ("method is declared twice", "method", spec->method);
        abort ();
    }
    hash_put (kit->methods, text_of (spec->method), endpoint);
}

endpoint_t *
routes_own (kit_t *kit, const char *name, CO void (*run) (req_t *req), const char *doc)
{
    endpoint_t *endpoint = routes_add (kit);
    endpoint->spec.method = kit_text ("%s.%s", kit->actor->name, name);
    endpoint->spec.auth = AUTH_OPERATOR;
    endpoint->spec.idempotent = true;
    endpoint->spec.doc = doc;
    endpoint->run = run;
    return endpoint;
}

static void
s_declared (kit_t *kit, const route_t *route)
{
    endpoint_t *endpoint = routes_add (kit);
    endpoint->route = route;
    endpoint->spec = route->spec;
    endpoint->resource = route->resource;
    endpoint->in = route->spec.in;
    endpoint->keyed = route->serial == BY_ID;
    endpoint->run = route->action ? route->action : report_run;
    if (!route->action && !sql_text (kit->sql, route->statement)) {
        log_error ("report has no such statement", "method", route->spec.method, "statement",
                   route->statement);
        abort ();
    }
    routes_finish (kit, endpoint);
}

static bool
s_is_resource (const route_t *route)
{
    return route->resource && !route->action;
}

static size_t
s_end (const route_t *routes)
{
    size_t count = 0;
    while (routes && (routes [count].action || routes [count].statement || routes [count].resource))
        count++;
    return count;
}

void
routes_build (kit_t *kit)
{
    actor_t *actor = kit->actor;
    size_t count = s_end (actor->routes), room = 8, plans = 0;
    for (size_t n = 0; n < count; n++)
        room += s_is_resource (&actor->routes [n])
                    ? resource_endpoint_count (actor->routes [n].resource)
                    : 1;
    for (const dependant_t *at = actor->dependants; at && at->parent; at++)
        room++;
    kit->endpoints = xcalloc (room, sizeof *kit->endpoints);
    kit->plans = xcalloc (count + 1, sizeof *kit->plans);
    for (size_t n = 0; n < count; n++)
        if (s_is_resource (&actor->routes [n])) {
            kit->plans [plans] = plan_new (actor->routes [n].resource);
            resource_endpoints (kit, &actor->routes [n], kit->plans [plans++]);
        }
        else
            s_declared (kit, &actor->routes [n]);
    live_endpoints (kit);
    stats_endpoints (kit);
    if (fault_allowed ())
        faults_endpoint (kit);
    saga_endpoints (kit);
    assert (kit->endpoint_count <= room);
}

void
routes_destroy (kit_t *kit)
{
    for (size_t n = 0; n < kit->endpoint_count; n++) {
        endpoint_t *endpoint = &kit->endpoints [n];
        free (endpoint->take);
        //  Field lists of resources were put together by us.
        if (endpoint->plan) {
            free ((void *) endpoint->spec.in);
            free ((void *) endpoint->spec.out);
        }
    }
    for (size_t n = 0; kit->plans && kit->plans [n]; n++)
        plan_destroy (&kit->plans [n]);
    free (kit->plans);
    free (kit->endpoints);
    while (s_lines) {
        line_t *next = s_lines->next;
        free (s_lines);
        s_lines = next;
    }
}

//  ---------------------------------------------------------------- announcing

static void
s_pack_channel (buf_t *out, const char *name, const char *kind)
{
    mp_put_map (out, 2);
    mp_pair_str (out, "name", name);
    mp_pair_str (out, "kind", kind);
}

void
routes_pack (kit_t *kit, buf_t *routes, buf_t *channels, buf_t *dependants)
{
    mp_put_array (routes, (uint32_t) kit->endpoint_count);
    for (size_t n = 0; n < kit->endpoint_count; n++)
        route_pack (routes, &kit->endpoints [n].spec);

    uint32_t count = 0;
    size_t mark = mp_open_array (channels);
    for (size_t n = 0; kit->plans [n]; n++, count++)
        s_pack_channel (channels, plan_channel (kit->plans [n]), "collection");
    for (const channel_t *at = kit->actor->channels; at && at->name; at++, count++)
        s_pack_channel (channels, at->name, at->kind);
    mp_close (channels, mark, count);

    count = 0;
    mark = mp_open_array (dependants);
    for (const dependant_t *at = kit->actor->dependants; at && at->parent; at++, count++) {
        mp_put_map (dependants, 2);
        mp_pair_str (dependants, "parent", at->parent);
        mp_put_str (dependants, "method");
        mp_put_str (dependants, kit_text ("%s.on_delete.%s", kit->actor->name, at->parent));
    }
    mp_close (dependants, mark, count);
}
