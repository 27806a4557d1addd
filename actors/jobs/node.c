//  node.c -- what the config of a node must be, and how a branch decides.

#include <stdio.h>

#include "node.h"
#include "proto/token.h"

#define QUERY_MAX (1 << 20)
#define URL_MAX 2000
#define HEADERS_MAX 50
#define PATH_MAX_PARTS 16

typedef enum { F_TEXT, F_NUMBER, F_UUID, F_ENUM, F_MAP, F_VALUES } form_t;

//  A field of a config.
typedef struct {
    const char *name, *also;
    form_t form;
    bool needed;
    double min, max;                 //  numbers; texts: bytes
    const char *values;              //  "a|b"
} want_t;

static const want_t s_sql [] = { { "query", "query_text", F_TEXT, true, 1, QUERY_MAX },
                                 { "source_id", NULL, F_UUID },
                                 { "cluster_id", NULL, F_UUID },
                                 { "engine", NULL, F_ENUM,
                                   .values = "postgresql|spark|trino|snowflake" },
                                 { "parameters", NULL, F_VALUES },
                                 { 0 } };
static const want_t s_notebook [] = { { "notebook_id", NULL, F_UUID, true },
                                      { "parameters", NULL, F_MAP },
                                      { 0 } };
static const want_t s_http [] = { { "url", NULL, F_TEXT, true, 8, URL_MAX },
                                  { "method", NULL, F_ENUM,
                                    .values = "GET|HEAD|POST|PUT|PATCH|DELETE" },
                                  { "headers", NULL, F_MAP },
                                  { "timeout", NULL, F_NUMBER, .min = 0.1, .max = 300 },
                                  { 0 } };
static const want_t s_copy [] = { { "query", "query_text", F_TEXT, true, 1, QUERY_MAX },
                                  { "source_id", NULL, F_UUID },
                                  { "target_id", "target_source_id", F_UUID },
                                  { "table", "target_table", F_TEXT, true, 1, 200 },
                                  { "mode", NULL, F_ENUM, .values = "append|replace" },
                                  { 0 } };
static const want_t s_branch [] = { { "node", NULL, F_TEXT, true, 1, 80 },
                                    { "path", NULL, F_TEXT, .min = 0, .max = 400 },
                                    { "operator", NULL, F_ENUM,
                                      .values = "==|!=|<|<=|>|>=|exists|contains" },
                                    { 0 } };
static const want_t s_wait [] = { { "seconds", NULL, F_NUMBER, true, 0, WAIT_MAX }, { 0 } };

//  Of every node: how its task is run.
static const want_t s_any [] = { { "max_retries", NULL, F_NUMBER, .min = 0, .max = 100 },
                                 { "max_infra_retries", NULL, F_NUMBER, .min = 0, .max = 100 },
                                 { "retry_delay_seconds", NULL, F_NUMBER, .min = 0, .max = 86400 },
                                 { "timeout_seconds", NULL, F_NUMBER, .min = 0, .max = WAIT_MAX },
                                 { "run_if", NULL, F_ENUM,
                                   .values = "ALL_SUCCESS|AT_LEAST_ONE_SUCCESS|NONE_FAILED|"
                                             "ALL_DONE|AT_LEAST_ONE_FAILED|ALL_FAILED" },
                                 { 0 } };

static const struct {
    const char *name;
    const want_t *wants;
} s_types [] = { [NODE_SQL] = { "sql", s_sql },       [NODE_NOTEBOOK] = { "notebook", s_notebook },
                 [NODE_HTTP] = { "http", s_http },    [NODE_COPY] = { "copy", s_copy },
                 [NODE_BRANCH] = { "branch", s_branch }, [NODE_WAIT] = { "wait", s_wait } };

bool
node_type_read (text_t name, node_type_t *type)
{
    for (size_t n = 0; n < sizeof s_types / sizeof *s_types; n++)
        if (text_is (name, s_types [n].name)) {
            *type = (node_type_t) n;
            return true;
        }
    return false;
}

const char *
node_type_name (node_type_t type)
{
    return s_types [type].name;
}

//  ---- checking ----

static bool
s_is_one_of (const char *values, text_t text)
{
    for (const char *at = values; *at;) {
        size_t size = strcspn (at, "|");
        if (text.size == size && memcmp (at, text.data, size) == 0)
            return true;
        at += size + (at [size] == '|');
    }
    return false;
}

//  NULL when it is right, else what it must be.
static const char *
s_wrong (const want_t *want, mp_t value, char *room, size_t size)
{
    double number;
    text_t text = mp_text (value);
    bool is_text = mp_type (value) == MP_TEXT;
    switch (want->form) {
    case F_TEXT:
        if (is_text && text.size >= (size_t) want->min && text.size <= (size_t) want->max)
            return NULL;
        snprintf (room, size, "must be a text of %.0f to %.0f bytes", want->min, want->max);
        return room;
    case F_NUMBER:
        if (mp_real_get (value, &number) && number >= want->min && number <= want->max)
            return NULL;
        snprintf (room, size, "must be a number from %g to %.0f", want->min, want->max);
        return room;
    case F_UUID:
        return is_text && uuid_valid (text) ? NULL : "must be an id";
    case F_ENUM:
        if (is_text && s_is_one_of (want->values, text))
            return NULL;
        snprintf (room, size, "must be one of %s", want->values);
        return room;
    case F_MAP:
        return mp_type (value) == MP_MAP ? NULL : "must be an object";
    case F_VALUES:
        return mp_type (value) == MP_MAP || mp_type (value) == MP_ARRAY
               ? NULL : "must be an array or an object";
    }
    return NULL;
}

static bool
s_check_http (mp_t config, char *why, size_t size)
{
    text_t url = mp_text (mp_get (config, "url"));
    mp_t headers = mp_get (config, "headers");
    if (!text_starts (url, "http://") && !text_starts (url, "https://")) {
        snprintf (why, size, "url must begin with http:// or https://");
        return false;
    }
    if (mp_empty (headers))
        return true;
    bool good = mp_count (headers) <= HEADERS_MAX;
    for (mp_iter_t it = mp_iter (headers); good && mp_next (&it);) {
        text_t name = mp_text (it.key), value = mp_text (it.value);
        good = mp_type (it.value) == MP_TEXT && name.size > 0 && value.size < 8192;
        for (size_t n = 0; good && n < name.size; n++)
            good = name.data [n] > ' ' && name.data [n] < 127 && name.data [n] != ':';
        for (size_t n = 0; good && n < value.size; n++)
            good = (unsigned char) value.data [n] >= ' ' && value.data [n] != 127;
    }
    if (!good)
        snprintf (why, size, "headers must be at most %d names with one line of text each",
                  HEADERS_MAX);
    return good;
}

//  schema.table at most; quoted by us.
static bool
s_check_copy (mp_t config, char *why, size_t size)
{
    mp_t table = mp_get (config, "table");
    text_t name = mp_text (mp_empty (table) ? mp_get (config, "target_table") : table);
    unsigned dots = 0;
    bool good = name.size && name.data [0] != '.' && name.data [name.size - 1] != '.';
    for (size_t n = 0; good && n < name.size; n++) {
        char c = name.data [n];
        dots += c == '.';
        good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')
               || c == '_' || c == '.';
    }
    if (!good || dots > 1)
        snprintf (why, size, "table must be a name, or schema.name, of letters, digits and _");
    return good && dots <= 1;
}

static bool
s_check (mp_t config, const want_t *wants, char *why, size_t size)
{
    char room [160];
    for (const want_t *want = wants; want->name; want++) {
        mp_t value = mp_get (config, want->name);
        if (mp_empty (value) && want->also)
            value = mp_get (config, want->also);
        if (mp_empty (value) && !want->needed)
            continue;
        const char *wrong = mp_empty (value) ? "is required"
                                             : s_wrong (want, value, room, sizeof room);
        if (wrong) {
            snprintf (why, size, "%s %s", want->name, wrong);
            return false;
        }
    }
    return true;
}

bool
node_check (const node_t *node, char *why, size_t size)
{
    if (!s_check (node->config, s_types [node->type].wants, why, size)
        || !s_check (node->config, s_any, why, size))
        return false;
    if (node->type == NODE_HTTP)
        return s_check_http (node->config, why, size);
    return node->type != NODE_COPY || s_check_copy (node->config, why, size);
}

//  ---- deciding ----

static mp_t
s_walk (mp_t value, text_t path)
{
    for (unsigned parts = 0; path.size && parts < PATH_MAX_PARTS; parts++) {
        const char *dot = memchr (path.data, '.', path.size);
        size_t size = dot ? (size_t) (dot - path.data) : path.size;
        char name [401];
        snprintf (name, sizeof name, "%.*s", (int) size, path.data);
        if (mp_type (value) == MP_ARRAY) {
            size_t at = 0;
            for (size_t n = 0; n < size; n++) {
                if (name [n] < '0' || name [n] > '9' || n > 8)
                    return mp_none;
                at = at * 10 + (size_t) (name [n] - '0');
            }
            value = mp_at (value, at);
        }
        else
            value = mp_type (value) == MP_MAP ? mp_get (value, name) : mp_none;
        path = dot ? (text_t) { dot + 1, path.size - size - 1 } : (text_t) { NULL, 0 };
    }
    return value;
}

//  -1, 0, 1; 2: cannot be compared.
static int
s_compare (mp_t a, mp_t b)
{
    double x, y;
    if (mp_real_get (a, &x) && mp_real_get (b, &y))
        return x < y ? -1 : x > y;
    if (mp_type (a) == MP_TEXT && mp_type (b) == MP_TEXT) {
        text_t s = mp_text (a), t = mp_text (b);
        size_t size = s.size < t.size ? s.size : t.size;
        int order = size ? memcmp (s.data, t.data, size) : 0;
        if (order == 0)
            order = s.size < t.size ? -1 : s.size > t.size;
        return order < 0 ? -1 : order > 0;
    }
    if (mp_type (a) == MP_BOOL && mp_type (b) == MP_BOOL)
        return (int) mp_bool (a) - (int) mp_bool (b);
    return mp_empty (a) && mp_empty (b) ? 0 : 2;
}

static bool
s_contains (mp_t value, mp_t wanted)
{
    text_t text = mp_text (value), part = mp_text (wanted);
    if (mp_type (value) == MP_TEXT)
        return mp_type (wanted) == MP_TEXT
               && (part.size == 0 || memmem (text.data, text.size, part.data, part.size));
    if (mp_type (value) == MP_ARRAY)
        for (mp_iter_t it = mp_iter (value); mp_next (&it);)
            if (s_compare (it.value, wanted) == 0)
                return true;
    return false;
}

bool
node_decides (mp_t config, mp_t result)
{
    text_t word = mp_text (mp_get (config, "operator"));
    mp_t value = s_walk (result, mp_text (mp_get (config, "path"))),
         wanted = mp_get (config, "value");
    int order = s_compare (value, wanted);
    if (word.size == 0)
        word = mp_is_none (wanted) ? TEXT ("exists") : TEXT ("==");
    if (text_is (word, "exists"))
        return !mp_empty (value);
    if (text_is (word, "contains"))
        return s_contains (value, wanted);
    if (text_is (word, "!="))
        return order != 0;
    if (text_is (word, "=="))
        return order == 0;
    if (order == 2)
        return false;
    return text_is (word, "<") ? order < 0 : text_is (word, "<=") ? order <= 0
           : text_is (word, ">") ? order > 0 : order >= 0;
}
