//  params.c -- parameters of a statement, from JSON to typed values that are bound.

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "sqltext.h"
#include "statement.h"

typedef struct {
    req_t *req;
    params_t *out;
    mp_t given;
    const char *names [ENGINE_PARAMS];           //  of those in the list
} reading_t;

static const struct {
    const char *name;
    param_type_t type;
} s_types [] = { { "text", P_TEXT }, { "string", P_TEXT }, { "varchar", P_TEXT }, { "int", P_INT },
                 { "integer", P_INT }, { "bigint", P_INT }, { "number", P_REAL },
                 { "real", P_REAL }, { "double", P_REAL }, { "float", P_REAL },
                 { "decimal", P_DECIMAL }, { "numeric", P_DECIMAL }, { "bool", P_BOOL },
                 { "boolean", P_BOOL }, { "date", P_DATE }, { "timestamp", P_TIME },
                 { "timestamptz", P_TIME }, { "uuid", P_UUID }, { "json", P_JSON },
                 { "auto", P_AUTO } };

static bool
s_type (text_t name, param_type_t *type)
{
    for (size_t n = 0; n < sizeof s_types / sizeof *s_types; n++)
        if (text_is (name, s_types [n].name)) {
            *type = s_types [n].type;
            return true;
        }
    return false;
}

static bool
s_fits (param_type_t type, const char *text)
{
    char *end;
    errno = 0;
    switch (type) {
    case P_INT:
        strtoll (text, &end, 10);
        return *text && !*end && !errno && *text != ' ';
    case P_REAL:
        return isfinite (strtod (text, &end)) && *text && !*end && *text != ' ';
    case P_DECIMAL:
        return text [strspn (text, "+-0123456789.eE")] == 0 && strpbrk (text, "0123456789");
    case P_BOOL:
        return strcmp (text, "true") == 0 || strcmp (text, "false") == 0;
    case P_DATE: case P_TIME:
        return *text && text [strspn (text, "0123456789-+:.TZ ")] == 0;
    case P_UUID:
        return strlen (text) == 36 && text [strspn (text, "0123456789abcdefABCDEF-")] == 0;
    default:
        return true;
    }
}

static const char *
s_json (req_t *req, mp_t value)
{
    buf_t *json = req_buf (req);
    json_write (value, json);
    return req_copy (req, buf_text (json));
}

//  A value without a word on its type.
static void
s_plain (req_t *req, mp_t value, param_t *out)
{
    switch (mp_type (value)) {
    case MP_NIL:
        *out = (param_t) { P_AUTO, NULL };
        break;
    case MP_BOOL:
        *out = (param_t) { P_BOOL, mp_bool (value) ? "true" : "false" };
        break;
    case MP_INT:
        *out = (param_t) { P_INT, s_json (req, value) };
        break;
    case MP_REAL:
        *out = (param_t) { P_REAL, s_json (req, value) };
        break;
    case MP_ARRAY: case MP_MAP: case MP_EXT:
        *out = (param_t) { P_JSON, s_json (req, value) };
        break;
    default:
        *out = (param_t) { P_AUTO, req_copy (req, mp_text (value)) };
    }
}

//  5, or {"type": "date", "value": "2026-01-31"}.
static void
s_add (reading_t *self, mp_t value, const char *name)
{
    req_t *req = self->req;
    params_t *out = self->out;
    if (out->count == ENGINE_PARAMS)
        fail_field (req, E_INVALID, "parameters", "must be at most %d", ENGINE_PARAMS);
    param_t *param = &out->list [out->count];
    mp_t type = mp_type (value) == MP_MAP ? mp_get (value, "type") : mp_none;
    bool typed = mp_type (value) == MP_MAP && !mp_is_none (mp_get (value, "value"));
    s_plain (req, typed ? mp_get (value, "value") : value, param);
    if (typed && !mp_empty (type) && !s_type (mp_text (type), &param->type))
        fail_field (req, E_INVALID, "parameters", "%s has a type that is unknown", name);
    if (param->text && !s_fits (param->type, param->text))
        fail_field (req, E_INVALID, "parameters", "%s does not fit its type", name);
    //  A zero byte ends texts of every engine.
    if (param->text && mp_type (value) == MP_TEXT && strlen (param->text) != mp_text (value).size)
        fail_field (req, E_INVALID, "parameters", "%s contains a zero byte", name);
    self->names [out->count++] = name;
}

static int
s_number (void *arg, text_t name)
{
    reading_t *self = arg;
    for (size_t n = 0; n < self->out->count; n++)
        if (text_is (name, self->names [n]))
            return (int) n + 1;
    const char *copy = req_copy (self->req, name);
    mp_t value = mp_get (self->given, copy);
    if (mp_is_none (value))
        return 0;
    s_add (self, value, copy);
    return (int) self->out->count;
}

static void
s_read (req_t *req, mp_t given, const char *sql, params_t *out)
{
    buf_t *room = req_buf (req), *text = req_buf (req);
    reading_t reading = { .req = req, .out = out, .given = json_plain (given, room) };
    *out = (params_t) { .sql = sql, .list = req_alloc (req, ENGINE_PARAMS * sizeof *out->list) };
    if (mp_empty (given))
        return;
    text_t unknown = { 0 };
    char name [16];
    switch (mp_type (reading.given)) {
    case MP_ARRAY:
        for (mp_iter_t it = mp_iter (reading.given); mp_next (&it);) {
            snprintf (name, sizeof name, "$%zu", out->count + 1);
            s_add (&reading, it.value, req_copy (req, text_of (name)));
        }
        return;
    case MP_MAP:
        if (!sql_name_marks (sql, s_number, &reading, text, &unknown))
            fail_field (req, E_INVALID, "parameters", ":%.*s is not given", (int) unknown.size,
                        unknown.data);
        out->sql = req_copy (req, buf_text (text));
        return;
    default:
        fail_field (req, E_INVALID, "parameters", "must be an array or an object");
    }
}

void
params_read (req_t *req, mp_t given, const char *sql, params_t *out)
{
    s_read (req, given, sql, out);
    unsigned long most = sql_marks (sql);
    if (most == ULONG_MAX)
        fail_field (req, E_INVALID, "parameters", "are counted from $1");
    if (most > (mp_type (given) == MP_MAP ? 0 : out->count))
        fail_field (req, E_INVALID, "parameters", "$%lu is not given", most);
}
