//  openapi.c -- OpenAPI 3.1 from the announced routes, made once per set of routes, and the page
//  that shows it.

#include <stdlib.h>

#include "edge/edge.h"

//  The page is embedded as it is.
__asm__ (".section .rodata\n"
         ".global docs_page\ndocs_page:\n.incbin \"edge/docs.html\"\n"
         ".global docs_page_end\ndocs_page_end:\n.byte 0\n.previous\n");
extern const char docs_page [], docs_page_end [];

static buf_t s_document;
static uint64_t s_revision = UINT64_MAX;

//  "/clusters/:id" as "/clusters/{id}".
static void
put_path (const char *pattern, buf_t *json)
{
    buf_putc (json, '"');
    for (const char *at = pattern; *at;) {
        bool param = at [0] == '/' && (at [1] == ':' || at [1] == '*');
        size_t size = 1 + strcspn (at + 1, "/");
        if (param)
            buf_putf (json, "/{%.*s}", (int) size - 2, at + 2);
        else
            buf_put (json, at, size);
        at += size;
    }
    buf_putc (json, '"');
}

static bool
is_path_param (const route_t *route, text_t name)
{
    for (size_t i = 0; i < route->param_count; i++)
        if (text_is (name, route->params [i]))
            return true;
    return false;
}

static mp_t
field_named (mp_t fields, const char *name)
{
    for (mp_iter_t it = mp_iter (fields); mp_next (&it);)
        if (text_is (mp_text (mp_get (it.value, "name")), name))
            return it.value;
    return mp_none;
}

//  Schema of one parameter; they are all texts on the way in, the type says what the text must be.
static void
put_schema (mp_t field, buf_t *json)
{
    text_t type = mp_text (mp_get (field, "type"));
    const char *name = text_is (type, "int") ? "integer"
        : text_is (type, "real") || text_is (type, "money") ? "number"
        : text_is (type, "bool") ? "boolean" : "string";
    buf_putf (json, "{\"type\":\"%s\"", name);
    if (text_is (type, "uuid") || text_is (type, "date") || text_is (type, "email"))
        buf_putf (json, ",\"format\":\"%.*s\"", (int) type.size, type.data);
    mp_t values = mp_get (field, "values");
    if (mp_type (values) == MP_ARRAY) {
        buf_puts (json, ",\"enum\":");
        json_write (values, json);
    }
    buf_putc (json, '}');
}

static void
put_parameter (const char *in, text_t name, bool required, mp_t field, bool first, buf_t *json)
{
    buf_puts (json, first ? "{\"name\":" : ",{\"name\":");
    json_quote (name, json);
    buf_putf (json, ",\"in\":\"%s\",\"required\":%s,\"schema\":", in, required ? "true" : "false");
    put_schema (field, json);
    text_t doc = mp_text (mp_get (field, "doc"));
    if (doc.size) {
        buf_puts (json, ",\"description\":");
        json_quote (doc, json);
    }
    buf_putc (json, '}');
}

static void
put_parameters (const route_t *route, bool query, buf_t *json)
{
    mp_t fields = mp_get (route->map, "in");
    bool first = true;
    buf_puts (json, ",\"parameters\":[");
    for (size_t i = 0; i < route->param_count; i++, first = false)
        put_parameter ("path", text_of (route->params [i]), true,
                       field_named (fields, route->params [i]), first, json);
    for (mp_iter_t it = mp_iter (fields); query && mp_next (&it);) {
        text_t name = mp_text (mp_get (it.value, "name"));
        text_t other = mp_text (mp_get (it.value, "json"));
        if (is_path_param (route, name) || mp_bool (mp_get (it.value, "hidden")))
            continue;
        put_parameter ("query", other.size ? other : name, mp_bool (mp_get (it.value, "required")),
                       it.value, first, json);
        first = false;
    }
    buf_putc (json, ']');
}

static void
put_body (const route_t *route, buf_t *json)
{
    if (route->upload) {
        buf_puts (json, ",\"requestBody\":{\"content\":{\"multipart/form-data\":{\"schema\":{"
                  "\"type\":\"object\",\"properties\":{\"file\":{\"type\":\"string\","
                  "\"format\":\"binary\"}}}},\"application/octet-stream\":{\"schema\":{\"type\":"
                  "\"string\",\"format\":\"binary\"}}}}");
        return;
    }
    mp_t fields = mp_get (route->map, "in");
    if (mp_type (fields) != MP_ARRAY || mp_count (fields) == 0)
        return;
    buf_puts (json, ",\"requestBody\":{\"content\":{\"application/json\":{\"schema\":");
    field_schema (fields, false, json);
    buf_puts (json, "}}}");
}

static void
put_responses (const route_t *route, buf_t *json)
{
    mp_t out = mp_get (route->map, "out");
    text_t reply = mp_text (mp_get (route->map, "reply"));
    unsigned status = route->status ? route->status : 200;
    buf_putf (json, ",\"responses\":{\"%u\":{\"description\":\"success\"", status);
    if (text_is (reply, "stream"))
        buf_puts (json, ",\"content\":{\"application/octet-stream\":{}}");
    else if (status != 204) {
        bool array = text_is (reply, "array"), any = text_is (reply, "any");
        buf_puts (json, ",\"content\":{\"application/json\":{\"schema\":");
        if (array)
            buf_puts (json, "{\"type\":\"array\",\"items\":");
        if (any)
            buf_puts (json, "{}");
        else if (mp_type (out) == MP_ARRAY)
            field_schema (out, true, json);
        else
            buf_puts (json, "{\"type\":\"object\"}");
        buf_puts (json, array ? "}}}" : "}}");
    }
    buf_puts (json, "},\"default\":{\"$ref\":\"#/components/responses/Error\"}}");
}

static void
put_operation (const route_t *route, size_t position, buf_t *json)
{
    static const char *const lower [VERB_COUNT] = {
        "get", "head", "post", "put", "patch", "delete", "options" };
    unsigned verb = 0;
    while (verb < VERB_COUNT - 1 && !text_is (route->verb, verb_name ((verb_t) verb)))
        verb++;
    text_t tag = route->tag;
    if (tag.size == 0) {
        const char *dot = memchr (route->method.data, '.', route->method.size);
        tag = (text_t) { route->method.data,
                         dot ? (size_t) (dot - route->method.data) : route->method.size };
    }
    text_t path = mp_text (mp_get (route->map, "path"));
    bool alias = !text_eq (path, route->path)
        || !text_eq (mp_text (mp_get (route->map, "verb")), route->verb);
    buf_putf (json, "\"%s\":{\"operationId\":\"%.*s", lower [verb], (int) route->method.size,
              route->method.data);
    if (alias)
        buf_putf (json, "_%zu", position);
    buf_puts (json, "\",\"tags\":[");
    json_quote (tag, json);
    buf_puts (json, "],\"summary\":");
    json_quote (mp_text (mp_get (route->map, "doc")), json);
    put_parameters (route, verb == VERB_GET || verb == VERB_DELETE, json);
    if (verb == VERB_POST || verb == VERB_PUT || verb == VERB_PATCH)
        put_body (route, json);
    put_responses (route, json);
    if (route->auth == AUTH_NONE)
        buf_puts (json, ",\"security\":[]");
    else if (route->auth == AUTH_OPTIONAL)
        buf_puts (json, ",\"security\":[{},{\"bearer\":[]},{\"apiKey\":[]}]");
    buf_puts (json, "}");
}

static int
by_path (const void *a, const void *b)
{
    const route_t *left = *(const route_t *const *) a, *right = *(const route_t *const *) b;
    int order = strcmp (left->pattern, right->pattern);
    if (order)
        return order;
    if (text_eq (left->verb, right->verb))
        return 0;
    return left->verb.data [1] < right->verb.data [1] ? -1 : 1;
}

static void
put_paths (const router_t *router, buf_t *json)
{
    size_t count = 0, total = router_size (router);
    const route_t **sorted = xmalloc ((total + 1) * sizeof *sorted);
    for (size_t i = 0; i < total; i++) {
        const route_t *route = router_at (router, i);
        if (route->verb.size && route->auth != AUTH_OPERATOR)
            sorted [count++] = route;
    }
    qsort (sorted, count, sizeof *sorted, by_path);
    for (size_t i = 0; i < count; i++) {
        bool fresh = i == 0 || strcmp (sorted [i - 1]->pattern, sorted [i]->pattern) != 0;
        if (fresh) {
            if (i)
                buf_puts (json, "},");
            put_path (sorted [i]->pattern, json);
            buf_puts (json, ":{");
        }
        else
            buf_putc (json, ',');
        put_operation (sorted [i], i, json);
    }
    if (count)
        buf_putc (json, '}');
    free (sorted);
}

//  Does an actor announce something under a path that we serve, too? Then it describes the path.
static bool
is_announced (const router_t *router, const char *path)
{
    for (size_t i = 0; i < router_size (router); i++) {
        const route_t *route = router_at (router, i);
        if (route->verb.size && route->auth != AUTH_OPERATOR && text_is (route->path, path))
            return true;
    }
    return false;
}

static void
put_locals (const router_t *router, const local_t *table, bool comma, buf_t *json)
{
    for (; table->path; table++) {
        if (!table->doc || table->admin || is_announced (router, table->path))
            continue;
        buf_putf (json, "%s\"%s\":{\"%s\":{\"tags\":[\"edge\"],\"summary\":", comma ? "," : "",
                  table->path, table->verb == VERB_POST ? "post" : "get");
        json_quote (text_of (table->doc), json);
        buf_puts (json, table->auth ? ",\"responses\":{\"200\":{\"description\":\"success\"}}}}"
                  : ",\"security\":[],\"responses\":{\"200\":{\"description\":\"success\"}}}}");
        comma = true;
    }
}

//  Everything before the paths.
static const char s_preface [] =
    "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"Busbar\",\"version\":\"" EDGE_VERSION
    "\",\"description\":\"Made from the routes that actors announce.\"},"
    "\"servers\":[{\"url\":\"/\"}],\"security\":[{\"bearer\":[]},{\"apiKey\":[]}],"
    "\"components\":{\"securitySchemes\":{\"bearer\":{\"type\":\"http\","
    "\"scheme\":\"bearer\",\"bearerFormat\":\"JWT\"},\"apiKey\":{\"type\":\"apiKey\","
    "\"in\":\"header\",\"name\":\"X-API-Key\"}},\"schemas\":{\"Error\":{\"type\":\"object\","
    "\"required\":[\"error\",\"message\",\"detail\",\"code\",\"details\"],"
    "\"properties\":{\"error\":{\"type\":\"string\"},\"message\":{\"type\":\"string\"},"
    "\"detail\":{\"type\":\"string\"},\"code\":{\"type\":\"string\"},"
    "\"details\":{\"type\":\"object\"},\"request_id\":{\"type\":\"string\"},"
    "\"success\":{\"type\":\"boolean\"}}}},"
    "\"responses\":{\"Error\":{\"description\":\"error\","
    "\"content\":{\"application/json\":{\"schema\":{\"$ref\":\"#/components/schemas/Error\"}}}}}},"
    "\"paths\":{";

static void
document_make (edge_t *edge)
{
    buf_t *json = &s_document;
    buf_clear (json);
    buf_puts (json, s_preface);
    size_t before = json->size;
    put_paths (edge->router, json);
    put_locals (edge->router, edge_locals, json->size > before, json);
    put_locals (edge->router, live_locals, json->size > before, json);
    buf_puts (json, "}}");
    s_revision = edge->router_revision;
}

void
openapi_serve (request_t *req)
{
    if (s_revision != req->edge->router_revision)
        document_make (req->edge);
    reply_json (req, 200, buf_text (&s_document));
}

void
docs_serve (request_t *req)
{
    reply_header (req, "Content-Security-Policy",
                  TEXT ("default-src 'none'; script-src 'unsafe-inline'; "
                        "style-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'"));
    text_t page = { docs_page, (size_t) (docs_page_end - docs_page) };
    reply_bytes (req, 200, "text/html; charset=utf-8", page);
}
