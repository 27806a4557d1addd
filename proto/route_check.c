//  route_check.c -- is a route map that somebody announced one that we can serve? The text of a
//  refusal names the row and the key, because its reader is the author of that actor.

#include <stdio.h>

#include "proto/route.h"

#define METHOD_MAX 120
#define PATH_MAX_SIZE 512
#define FIELDS_MAX 256
#define TIMEOUT_MAX 3600000
#define BODY_MAX 0xffffffffu

//  What is being checked, for the text.
typedef struct {
    char row [160];
    char *error;
    size_t size;
} check_t;

static bool
refuse (check_t *self, const char *key, const char *why)
{
    snprintf (self->error, self->size, "%s: key \"%s\" %s", self->row, key, why);
    return false;
}

static bool
word_of (text_t word, const char *words)
{
    while (*words) {
        size_t size = strcspn (words, "|");
        if (word.size == size && memcmp (word.data, words, size) == 0)
            return true;
        words += size + (words [size] == '|');
    }
    return false;
}

static bool
is_name (text_t text, const char *also)
{
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data [i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && !(c >= 'A' && c <= 'Z')
            && c != '_' && (c == 0 || !strchr (also, c)))
            return false;
    }
    return text.size > 0;
}

//  Text that can be written as JSON and read again: our reader refuses NUL.
static bool
is_text (mp_t value)
{
    text_t text = mp_text (value);
    return mp_type (value) == MP_TEXT && (text.size == 0 || !memchr (text.data, 0, text.size));
}

//  "domain.verb", at least one dot inside.
static bool
is_method (text_t method)
{
    if (method.size > METHOD_MAX || !is_name (method, ".-"))
        return false;
    const char *dot = memchr (method.data, '.', method.size);
    return dot && dot > method.data && method.data [method.size - 1] != '.'
           && !memmem (method.data, method.size, "..", 2);
}

//  "/a/:id/b" or "/a/*rest"; printable ASCII without query, fragment, empty or dot segments.
static bool
is_path (text_t path)
{
    if (path.size == 0 || path.size > PATH_MAX_SIZE || path.data [0] != '/')
        return false;
    for (size_t at = 1; path.size > 1 && at <= path.size;) {
        const char *slash = memchr (path.data + at, '/', path.size - at);
        size_t end = slash ? (size_t) (slash - path.data) : path.size;
        text_t part = { path.data + at, end - at };
        if (part.size == 0 || text_is (part, ".") || text_is (part, ".."))
            return false;
        bool param = part.data [0] == ':' || part.data [0] == '*';
        if (param && (!is_name ((text_t) { part.data + 1, part.size - 1 }, "-")
                      || (part.data [0] == '*' && slash)))
            return false;
        for (size_t i = 0; i < part.size; i++)
            if (part.data [i] <= ' ' || part.data [i] > '~' || strchr ("?#%\\\"<>", part.data [i]))
                return false;
        at += part.size + 1;
    }
    return true;
}

static bool
check_text (check_t *self, mp_t route, const char *key, const char *words)
{
    mp_t value = mp_get (route, key);
    if (mp_empty (value))
        return true;
    if (!is_text (value))
        return refuse (self, key, "is not text");
    if (words && !word_of (mp_text (value), words)) {
        char why [128];
        snprintf (why, sizeof why, "is not one of %s", words);
        return refuse (self, key, why);
    }
    return true;
}

static bool
check_bool (check_t *self, mp_t map, const char *key)
{
    mp_t value = mp_get (map, key);
    return mp_empty (value) || mp_type (value) == MP_BOOL || refuse (self, key, "is not a boolean");
}

static bool
check_uint (check_t *self, mp_t map, const char *key, uint64_t min, uint64_t max)
{
    mp_t value = mp_get (map, key);
    uint64_t number;
    if (mp_empty (value))
        return true;
    if (!mp_uint_get (value, &number) || number < min || number > max) {
        char why [96];
        snprintf (why, sizeof why, "is not a number from %llu to %llu", (unsigned long long) min,
                  (unsigned long long) max);
        return refuse (self, key, why);
    }
    return true;
}

static bool
check_alias (check_t *self, mp_t route)
{
    mp_t alias = mp_get (route, "alias");
    if (mp_empty (alias))
        return true;
    if (mp_type (alias) != MP_ARRAY)
        return refuse (self, "alias", "is not an array");
    for (mp_iter_t it = mp_iter (alias); mp_next (&it);) {
        text_t path = mp_type (it.value) == MP_TEXT ? mp_text (it.value) : (text_t) { 0 };
        const char *space = path.size ? memchr (path.data, ' ', path.size) : NULL;
        if (space) {
            text_t verb = { path.data, (size_t) (space - path.data) };
            if (!word_of (verb, "GET|POST|PUT|PATCH|DELETE"))
                return refuse (self, "alias", "has an unknown verb");
            path = (text_t) { space + 1, path.size - verb.size - 1 };
        }
        if (!is_path (path))
            return refuse (self, "alias", "holds something that is no path");
    }
    return true;
}

static bool
check_field (check_t *self, mp_t field, const char *key)
{
    static const char *const s_bools [] = { "required", "readonly", "filter", "secret", "immutable",
                                            "nullable", "hidden", "unlisted", "sort", NULL };
    static const char *const s_texts [] = { "def", "json", "also", "doc", NULL };
    text_t name = mp_text (mp_get (field, "name"));
    if (mp_type (field) != MP_MAP || name.size > 64 || !is_name (name, "-."))
        return refuse (self, key, "holds a field without a valid name");

    size_t end = strlen (self->row);
    snprintf (self->row + end, sizeof self->row - end, " field %.*s", (int) name.size, name.data);
    text_t type = mp_text (mp_get (field, "type"));
    bool known = false;
    for (int i = T_TEXT; i <= T_NAMES && !known; i++)
        known = text_is (type, field_type_name ((field_type_t) i));
    if (!known)
        return refuse (self, "type", "is not a field type");
    for (const char *const *at = s_bools; *at; at++)
        if (!check_bool (self, field, *at))
            return false;
    for (const char *const *at = s_texts; *at; at++)
        if (!check_text (self, field, *at, NULL))
            return false;
    int64_t bound;
    if (!mp_empty (mp_get (field, "min")) && !mp_int_get (mp_get (field, "min"), &bound))
        return refuse (self, "min", "is not an integer");
    if (!mp_empty (mp_get (field, "max")) && !mp_int_get (mp_get (field, "max"), &bound))
        return refuse (self, "max", "is not an integer");
    mp_t values = mp_get (field, "values");
    if (text_is (type, "enum") && (mp_type (values) != MP_ARRAY || mp_count (values) == 0))
        return refuse (self, "values", "is missing");
    for (mp_iter_t it = mp_iter (values); mp_next (&it);)
        if (!is_text (it.value))
            return refuse (self, "values", "holds something that is not text");
    self->row [end] = 0;
    return true;
}

static bool
check_fields (check_t *self, mp_t route, const char *key)
{
    mp_t fields = mp_get (route, key);
    if (mp_empty (fields))
        return true;
    if (mp_type (fields) != MP_ARRAY)
        return refuse (self, key, "is not an array");
    if (mp_count (fields) > FIELDS_MAX)
        return refuse (self, key, "has more than 256 fields");
    for (mp_iter_t it = mp_iter (fields); mp_next (&it);)
        if (!check_field (self, it.value, key))
            return false;
    return true;
}

static bool
check_http (check_t *self, mp_t route)
{
    mp_t verb = mp_get (route, "verb"), path = mp_get (route, "path");
    if (!check_text (self, route, "verb", "GET|POST|PUT|PATCH|DELETE")
        || !check_text (self, route, "path", NULL))
        return false;
    if (mp_empty (verb) != mp_empty (path))
        return refuse (self, mp_empty (verb) ? "verb" : "path", "is missing beside its other half");
    if (!mp_empty (path) && !is_path (mp_text (path)))
        return refuse (self, "path", "is no path");
    if (!mp_empty (path) && text_is (mp_text (mp_get (route, "auth")), "operator"))
        return refuse (self, "auth", "is operator, so the route can have no verb and path");
    return check_alias (self, route);
}

bool
route_check (mp_t route, char *error, size_t size)
{
    static const char *const s_bools [] = { "idempotent", "upload", "raw", "blocking", NULL };
    static const char *const s_texts [] = { "roles", "events", "doc", "tag", NULL };
    check_t self = { .row = "route", .error = error, .size = size };
    if (mp_type (route) != MP_MAP || !is_method (mp_text (mp_get (route, "method"))))
        return refuse (&self, "method", "is not like domain.verb");

    text_t method = mp_text (mp_get (route, "method"));
    snprintf (self.row, sizeof self.row, "route %.*s", (int) method.size, method.data);
    for (const char *const *at = s_bools; *at; at++)
        if (!check_bool (&self, route, *at))
            return false;
    for (const char *const *at = s_texts; *at; at++)
        if (!check_text (&self, route, *at, NULL))
            return false;
    if (!check_http (&self, route)
        || !check_text (&self, route, "auth", "user|none|optional|admin|super|operator")
        || !check_text (&self, route, "limit", "normal|sign_in|mail|heavy")
        || !check_text (&self, route, "reply", "object|array|any|stream")
        || !check_text (&self, route, "key", NULL)
        || !check_uint (&self, route, "status", 200, 299)
        || !check_uint (&self, route, "timeout", 0, TIMEOUT_MAX)
        || !check_uint (&self, route, "body_max", 0, BODY_MAX))
        return false;
    text_t key = mp_text (mp_get (route, "key"));
    if (key.size > 0 && !text_is (key, "user")
        && !(text_starts (key, "param:") && is_name ((text_t) { key.data + 6, key.size - 6 }, "-")))
        return refuse (&self, "key", "is not \"user\" or \"param:NAME\"");
    return check_fields (&self, route, "in") && check_fields (&self, route, "out");
}
