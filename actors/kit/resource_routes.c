//  resource_routes.c -- the methods of a declared table as they are announced: paths, fields,
//  replies.

#include <stdlib.h>

#include "kit.h"

static const field_t s_id = { "id", T_UUID, READONLY };
static const field_t s_user_id = { "user_id", T_UUID, READONLY };
static const field_t s_created_at = { "created_at", T_TIME, READONLY };
static const field_t s_updated_at = { "updated_at", T_TIME, READONLY };
static const field_t s_live = { "live", T_OBJECT, READONLY,
                                .doc = "position of the event of this change" };

static size_t
s_count (const field_t *fields)
{
    size_t count = 0;
    while (fields [count].name)
        count++;
    return count;
}

//  Reply fields: ids, what may be shown, times; `live` after a write. Freed with the endpoints.
static field_t *
s_out (const resource_t *resource, bool write)
{
    field_t *out = xcalloc (s_count (resource->fields) + 6, sizeof *out), *at = out;
    *at++ = s_id;
    *at++ = s_user_id;
    for (const field_t *field = resource->fields; field->name; field++)
        if (!(field->flags & (SECRET | HIDDEN)))
            *at++ = *field;
    *at++ = s_created_at;
    *at++ = s_updated_at;
    if (write)
        *at++ = s_live;
    return out;
}

static field_t *
s_filters (const resource_t *resource)
{
    static const field_t pages [] = {
        { "limit", T_INT, .min = 1, .max = LIST_MAX, .def = "1000" },
        { "cursor", T_TEXT, .doc = "X-Next-Cursor of the page before" },
        { "sort", T_TEXT, .doc = "field, or -field for descending" } };
    field_t *out = xcalloc (s_count (resource->fields) + 4, sizeof *out), *at = out;
    for (const field_t *field = resource->fields; field->name; field++)
        if (field->flags & FILTER) {
            *at = *field;
            at->flags &= ~(unsigned) (REQUIRED | READONLY | IMMUTABLE);
            at++->def = NULL;
        }
    memcpy (at, pages, sizeof pages);
    return out;
}

//  Fields of a body: on update nothing is required, and what is fixed at creation is ignored.
static field_t *
s_in (const resource_t *resource, bool update)
{
    field_t *out = xcalloc (s_count (resource->fields) + 1, sizeof *out), *at = out;
    for (const field_t *field = resource->fields; field->name; field++) {
        if (field->flags & HIDDEN)
            continue;
        *at = *field;
        if (update) {
            at->flags |= at->flags & IMMUTABLE ? READONLY : 0;
            at->flags &= ~(unsigned) REQUIRED;
            at->def = NULL;
        }
        at++;
    }
    return out;
}

typedef struct {
    unsigned op;
    const char *name, *verb;
    bool item;                       //  /:id
    unsigned status;
    CO void (*run) (req_t *req);
    const char *doc;
} op_t;

static const op_t s_ops [] = {
    { OP_LIST, "list", "GET", false, 200, resource_list, "List" },
    { OP_GET, "get", "GET", true, 200, resource_get, "Get one" },
    { OP_CREATE, "create", "POST", false, 201, resource_create, "Create" },
    { OP_UPDATE, "update", "PUT", true, 200, resource_update, "Change the fields that are given" },
    { OP_DELETE, "delete", "DELETE", true, 200, resource_delete, "Delete" } };

size_t
resource_endpoint_count (const resource_t *resource)
{
    return (size_t) __builtin_popcount (resource->ops);
}

static void
s_paths (endpoint_t *endpoint, const resource_t *resource, const op_t *op)
{
    route_spec_t *spec = &endpoint->spec;
    const char *tail = op->item ? "/:id" : "";
    size_t count = 0;
    spec->path = kit_text ("%s%s", resource->path, tail);
    if (op->op == OP_UPDATE)
        spec->alias [count++] = kit_text ("PATCH %s/:id", resource->path);
    for (size_t n = 0; n < COUNT (resource->alias) && resource->alias [n]; n++) {
        if (count < COUNT (spec->alias))
            spec->alias [count++] = kit_text ("%s%s", resource->alias [n], tail);
        if (op->op == OP_UPDATE && count < COUNT (spec->alias))
            spec->alias [count++] = kit_text ("PATCH %s/:id", resource->alias [n]);
    }
}

//  Which fields of the resource a call of this kind may give.
static void
s_take (endpoint_t *endpoint, const resource_t *resource, unsigned op)
{
    for (size_t n = 0; n < endpoint->in_count; n++) {
        unsigned flags = resource->fields [n].flags;
        bool closed = flags & (READONLY | HIDDEN);
        if (op == OP_LIST)
            endpoint->take [n] = flags & FILTER ? TAKE : 0;
        if (op == OP_CREATE)
            endpoint->take [n] = closed ? DEFAULT
                                 : flags & REQUIRED ? TAKE | NEED | DEFAULT : TAKE | DEFAULT;
        if (op == OP_UPDATE)
            endpoint->take [n] = closed || flags & IMMUTABLE ? 0 : TAKE;
    }
}

static void
s_endpoint (kit_t *kit, plan_t *plan, const resource_t *resource, const op_t *op)
{
    endpoint_t *endpoint = routes_add (kit);
    route_spec_t *spec = &endpoint->spec;
    bool write = op->op & (OP_CREATE | OP_UPDATE | OP_DELETE);
    static const char *const done [] = {
        [OP_CREATE] = "created", [OP_UPDATE] = "updated", [OP_DELETE] = "deleted" };
    endpoint->resource = resource;
    endpoint->plan = plan;
    endpoint->run = op->run;
    endpoint->update = op->op == OP_UPDATE;
    spec->method = kit_text ("%s.%s", plan_channel (plan), op->name);
    spec->verb = op->verb;
    s_paths (endpoint, resource, op);
    spec->status = op->status;
    spec->idempotent = !write;
    spec->key = write ? "user" : NULL;
    spec->tag = resource->tag;
    spec->doc = resource->doc ? kit_text ("%s: %s", op->doc, resource->doc) : op->doc;
    spec->reply = op->op == OP_LIST ? "array" : "object";
    spec->events = write ? kit_text ("%s.%s", resource->name, done [op->op]) : NULL;
    spec->body_max = op->op & (OP_CREATE | OP_UPDATE) ? resource->body_max : 0;
    if (op->op != OP_DELETE)
        spec->out = s_out (resource, write);
    spec->in = op->op == OP_LIST ? s_filters (resource)
               : op->op & (OP_CREATE | OP_UPDATE) ? s_in (resource, endpoint->update) : NULL;
    //  Decoding goes by the resource's own fields, so that a position is a column.
    endpoint->in = op->op & (OP_LIST | OP_CREATE | OP_UPDATE) ? resource->fields : NULL;
    routes_finish (kit, endpoint);
    s_take (endpoint, resource, op->op);
    for (size_t n = 0; n < endpoint->in_count; n++)
        for (size_t p = 0; endpoint->in_path [p]; p++)
            if (strcmp (resource->fields [n].name, endpoint->in_path [p]) == 0)
                //  A parent in the path: filter of the list, value of what is created.
                endpoint->take [n] =
                    op->op == OP_UPDATE ? 0 : (uint8_t) (endpoint->take [n] | TAKE | IN_PATH);
}

void
resource_endpoints (kit_t *kit, const route_t *route, plan_t *plan)
{
    for (size_t n = 0; n < COUNT (s_ops); n++)
        if (route->resource->ops & s_ops [n].op)
            s_endpoint (kit, plan, route->resource, &s_ops [n]);
}
