//  route.c -- route declarations as announced in HELLO: written, checked, turned into JSON Schema.

#include <inttypes.h>
#include <stdio.h>

#include "proto/json.h"
#include "proto/route.h"

static const char *const s_types [] = {
    [T_TEXT] = "text", [T_INT] = "int", [T_REAL] = "real", [T_BOOL] = "bool", [T_UUID] = "uuid",
    [T_ENUM] = "enum", [T_JSON] = "json", [T_OBJECT] = "object", [T_ARRAY] = "array",
    [T_TIME] = "time", [T_DATE] = "date", [T_EMAIL] = "email", [T_MONEY] = "money",
    [T_NAMES] = "names"
};
static const char *const s_auths [] = { "user", "none", "optional", "admin", "super", "operator" };
static const char *const s_limits [] = { "normal", "sign_in", "mail", "heavy" };

//  Flags of a field that travel as a true under their name.
static const struct {
    unsigned flag;
    const char *name;
} s_flags [] = {
    { REQUIRED, "required" }, { READONLY, "readonly" }, { FILTER, "filter" },
    { SECRET, "secret" }, { IMMUTABLE, "immutable" }, { NULLABLE, "nullable" },
    { HIDDEN, "hidden" }, { LISTED_NOT, "unlisted" }, { SORT, "sort" }
};

#define COUNT(array) (sizeof (array) / sizeof *(array))

const char *
field_type_name (field_type_t type)
{
    return type >= T_TEXT && type < COUNT (s_types) ? s_types [type] : "?";
}

//  ---------------------------------------------------------------- writing

static uint32_t
pack_str (buf_t *buf, const char *name, const char *value)
{
    if (value)
        mp_pair_str (buf, name, value);
    return value != NULL;
}

static uint32_t
pack_uint (buf_t *buf, const char *name, uint64_t value)
{
    if (value)
        mp_pair_int (buf, name, (int64_t) value);
    return value != 0;
}

static uint32_t
pack_true (buf_t *buf, const char *name, bool value)
{
    if (value)
        mp_pair_bool (buf, name, true);
    return value;
}

//  "a|b|c" as an array of texts.
static void
pack_words (buf_t *buf, const char *words)
{
    uint32_t count = 0;
    size_t mark = mp_open_array (buf);
    for (const char *at = words; at; count++) {
        const char *bar = strchr (at, '|');
        mp_put_text (buf, (text_t) { at, bar ? (size_t) (bar - at) : strlen (at) });
        at = bar ? bar + 1 : NULL;
    }
    mp_close (buf, mark, count);
}

void
field_pack (buf_t *buf, const field_t *field)
{
    uint32_t count = 2;
    size_t mark = mp_open_map (buf);
    mp_pair_str (buf, "name", field->name);
    mp_pair_str (buf, "type", field_type_name (field->type));
    for (size_t i = 0; i < COUNT (s_flags); i++)
        count += pack_true (buf, s_flags [i].name, field->flags & s_flags [i].flag);

    //  0, 0 is unlimited. On the wire an absent bound is no bound, so a zero that bounds is
    //  written.
    bool number = field->type == T_INT || field->type == T_REAL || field->type == T_MONEY;
    if (field->min != 0 || (number && field->max > 0)) {
        mp_pair_int (buf, "min", field->min);
        count++;
    }
    if (field->max != 0 || (number && field->min < 0)) {
        mp_pair_int (buf, "max", field->max);
        count++;
    }
    if (field->values) {
        mp_put_str (buf, "values");
        pack_words (buf, field->values);
        count++;
    }
    count += pack_str (buf, "def", field->def);
    count += pack_str (buf, "json", field->json);
    count += pack_str (buf, "also", field->also);
    count += pack_str (buf, "doc", field->doc);
    mp_close (buf, mark, count);
}

static uint32_t
pack_fields (buf_t *buf, const char *name, const field_t *fields)
{
    if (!fields)
        return 0;
    uint32_t count = 0;
    mp_put_str (buf, name);
    size_t mark = mp_open_array (buf);
    for (; fields->name; fields++, count++)
        field_pack (buf, fields);
    mp_close (buf, mark, count);
    return 1;
}

static uint32_t
pack_aliases (buf_t *buf, const route_spec_t *spec)
{
    if (!spec->alias [0])
        return 0;
    uint32_t count = 0;
    mp_put_str (buf, "alias");
    size_t mark = mp_open_array (buf);
    for (; count < COUNT (spec->alias) && spec->alias [count]; count++)
        mp_put_str (buf, spec->alias [count]);
    mp_close (buf, mark, count);
    return 1;
}

void
route_pack (buf_t *buf, const route_spec_t *spec)
{
    uint32_t count = 1;
    size_t mark = mp_open_map (buf);
    mp_pair_str (buf, "method", spec->method);
    count += pack_str (buf, "verb", spec->verb);
    count += pack_str (buf, "path", spec->path);
    count += pack_aliases (buf, spec);
    count += pack_str (buf, "auth", spec->auth ? s_auths [spec->auth] : NULL);
    count += pack_str (buf, "roles", spec->roles);
    count += pack_str (buf, "limit", spec->limit ? s_limits [spec->limit] : NULL);
    count += pack_str (buf, "key", spec->key);
    count += pack_fields (buf, "in", spec->in);
    count += pack_fields (buf, "out", spec->out);
    count += pack_str (buf, "reply", spec->reply);
    count += pack_uint (buf, "status", spec->status);
    count += pack_true (buf, "idempotent", spec->idempotent);
    count += pack_true (buf, "upload", spec->upload);
    count += pack_true (buf, "raw", spec->raw);
    count += pack_true (buf, "blocking", spec->blocking);
    count += pack_uint (buf, "timeout", spec->timeout);
    count += pack_uint (buf, "body_max", spec->body_max);
    count += pack_str (buf, "events", spec->events);
    count += pack_str (buf, "doc", spec->doc);
    count += pack_str (buf, "tag", spec->tag);
    mp_close (buf, mark, count);
}

//  ---------------------------------------------------------------- JSON Schema

//  Types and formats of JSON Schema, by field type; an empty type allows anything.
static const struct {
    const char *name, *type, *format;
} s_schemas [] = {
    { "text", "string", NULL },       { "int", "integer", NULL },
    { "real", "number", NULL },       { "bool", "boolean", NULL },
    { "uuid", "string", "uuid" },     { "enum", "string", NULL },
    { "json", NULL, NULL },           { "object", "object", NULL },
    { "array", "array", NULL },       { "time", "string", "date-time" },
    { "date", "string", "date" },     { "email", "string", "email" },
    { "money", "number", NULL },      { "names", "array", NULL }
};

static void
schema_default (mp_t field, text_t type, buf_t *json)
{
    text_t def = mp_text (mp_get (field, "def"));
    if (def.size == 0)
        return;
    bool bare = text_is (type, "int") || text_is (type, "real") || text_is (type, "bool")
                || text_is (type, "money") || text_is (type, "json") || text_is (type, "object")
                || text_is (type, "array") || text_is (type, "names");
    buf_t scratch = { 0 };
    char error [128];
    //  A default that is no JSON value (an expression like "now") is left to the description.
    if (!bare || json_read (def, &scratch, error, sizeof error)) {
        buf_puts (json, ",\"default\":");
        if (bare)
            buf_put (json, def.data, def.size);
        else
            json_quote (def, json);
    }
    buf_free (&scratch);
}

static void
schema_bounds (mp_t field, const char *type, buf_t *json)
{
    bool string = strcmp (type, "string") == 0, array = strcmp (type, "array") == 0;
    mp_t min = mp_get (field, "min"), max = mp_get (field, "max");
    if (!mp_empty (min))
        buf_putf (json, ",\"%s\":%" PRId64,
                  string ? "minLength" : array ? "minItems" : "minimum", mp_int (min));
    if (!mp_empty (max))
        buf_putf (json, ",\"%s\":%" PRId64,
                  string ? "maxLength" : array ? "maxItems" : "maximum", mp_int (max));
}

static void
schema_enum (mp_t values, bool null, buf_t *json)
{
    const char *comma = "";
    buf_puts (json, ",\"enum\":[");
    for (mp_iter_t it = mp_iter (values); mp_next (&it); comma = ",") {
        buf_puts (json, comma);
        json_quote (mp_text (it.value), json);
    }
    buf_puts (json, null ? ",null]" : "]");
}

//  A reply may hold null wherever the field was not required: the column is empty.
static void
schema_field (mp_t field, bool reply, buf_t *json)
{
    text_t type = mp_text (mp_get (field, "type"));
    size_t row = 0;
    while (row < COUNT (s_schemas) && !text_is (type, s_schemas [row].name))
        row++;
    bool null = mp_bool (mp_get (field, "nullable"))
                || (reply && !mp_bool (mp_get (field, "required")));
    const char *schema = row < COUNT (s_schemas) ? s_schemas [row].type : NULL;

    buf_puts (json, "{\"description\":");
    json_quote (mp_text (mp_get (field, "doc")), json);
    if (schema) {
        buf_putf (json, null ? ",\"type\":[\"%s\",\"null\"]" : ",\"type\":\"%s\"", schema);
        if (s_schemas [row].format)
            buf_putf (json, ",\"format\":\"%s\"", s_schemas [row].format);
        if (text_is (type, "names"))
            buf_puts (json, ",\"items\":{\"type\":\"string\"}");
        if (text_is (type, "enum"))
            schema_enum (mp_get (field, "values"), null, json);
        if (!reply)
            schema_bounds (field, schema, json);
    }
    if (reply && mp_bool (mp_get (field, "readonly")))
        buf_puts (json, ",\"readOnly\":true");
    if (mp_bool (mp_get (field, "secret")))
        buf_puts (json, ",\"writeOnly\":true");
    if (!reply)
        schema_default (field, type, json);
    buf_putc (json, '}');
}

static bool
schema_shows (mp_t field, bool reply)
{
    if (mp_bool (mp_get (field, "hidden")))
        return false;
    return !mp_bool (mp_get (field, reply ? "secret" : "readonly"));
}

static text_t
field_json_name (mp_t field)
{
    mp_t json = mp_get (field, "json");
    return mp_text (mp_empty (json) ? mp_get (field, "name") : json);
}

//  Names that must be there. In a body either spelling will do, so those go to schema_either.
static void
schema_required (mp_t fields, bool reply, buf_t *json)
{
    const char *comma = ",\"required\":[";
    bool any = false;
    for (mp_iter_t it = mp_iter (fields); mp_next (&it);) {
        bool except = reply ? mp_bool (mp_get (it.value, "unlisted"))
                            : !mp_empty (mp_get (it.value, "also"));
        if (except || !schema_shows (it.value, reply) || !mp_bool (mp_get (it.value, "required")))
            continue;
        buf_puts (json, comma);
        json_quote (field_json_name (it.value), json);
        comma = ",";
        any = true;
    }
    if (any)
        buf_putc (json, ']');
}

static void
schema_either (mp_t fields, buf_t *json)
{
    const char *comma = ",\"allOf\":[";
    bool any = false;
    for (mp_iter_t it = mp_iter (fields); mp_next (&it);) {
        mp_t also = mp_get (it.value, "also");
        if (mp_empty (also) || !schema_shows (it.value, false)
            || !mp_bool (mp_get (it.value, "required")))
            continue;
        buf_puts (json, comma);
        buf_puts (json, "{\"anyOf\":[{\"required\":[");
        json_quote (field_json_name (it.value), json);
        buf_puts (json, "]},{\"required\":[");
        json_quote (mp_text (also), json);
        buf_puts (json, "]}]}");
        comma = ",";
        any = true;
    }
    if (any)
        buf_putc (json, ']');
}

void
field_schema (mp_t fields, bool reply, buf_t *json)
{
    const char *comma = "";
    buf_puts (json, "{\"type\":\"object\",\"properties\":{");
    for (mp_iter_t it = mp_iter (fields); mp_next (&it);) {
        if (!schema_shows (it.value, reply))
            continue;
        text_t names [2] = { field_json_name (it.value), mp_text (mp_get (it.value, "also")) };
        for (size_t i = 0; i < 2 && names [i].size > 0; i++, comma = ",") {
            buf_puts (json, comma);
            json_quote (names [i], json);
            buf_putc (json, ':');
            schema_field (it.value, reply, json);
        }
    }
    buf_putc (json, '}');
    schema_required (fields, reply, json);
    if (!reply)
        schema_either (fields, json);
    buf_putc (json, '}');
}
