//  input.c -- declared fields of a call, decoded in one pass over what came; then how handlers read
//  them.

#include <stdio.h>
#include <stdlib.h>

#include "kit.h"

#define IGNORED_MAX 32               //  unknown fields that are named

//  ---------------------------------------------------------------- decoding

static const char *
s_outside (const field_t *field)
{
    return field->json ? field->json : field->name;
}

//  Position of the field with that outside name, in any spelling; in_count when there is none.
static size_t
s_position (const endpoint_t *endpoint, text_t name)
{
    for (size_t n = 0; n < endpoint->in_count; n++) {
        const field_t *field = &endpoint->in [n];
        if (text_is (name, field->name) || (field->json && text_is (name, field->json))
            || (field->also && text_is (name, field->also)))
            return n;
    }
    return endpoint->in_count;
}

static bool
s_is_standard (text_t name)
{
    static const char *const names [] = { "id", "user_id", "created_at", "updated_at", "live" };
    for (size_t n = 0; n < COUNT (names); n++)
        if (text_is (name, names [n]))
            return true;
    return false;
}

//  An entry of the body that no field takes: sent back unchanged by many clients when it is one of
//  our own, else a mistake that is named in the answer.
static void
s_unknown (req_t *req, text_t name)
{
    if ((req->endpoint->resource && s_is_standard (name)) || req->ignored_count == IGNORED_MAX)
        return;
    req->ignored_count++;
    extra_t *extra = req_alloc (req, sizeof *extra);
    extra->name = req_copy (req, name);
    extra->next = req->ignored;
    req->ignored = extra;
}

static void
s_collect (req_t *req, mp_t map, bool body)
{
    const endpoint_t *endpoint = req->endpoint;
    if (mp_type (map) != MP_MAP)
        return;
    for (mp_iter_t it = mp_iter (map); mp_next (&it);) {
        text_t name = mp_text (it.key);
        size_t n = s_position (endpoint, name);
        if (n < endpoint->in_count) {
            //  A path parameter is what the address says, whatever the body repeats.
            if (endpoint->take [n] & TAKE)
                req->values [n].raw = it.value;
        }
        else if (body)
            s_unknown (req, name);
    }
}

static bool
s_lenient_body (req_t *req)
{
    text_t type = mp_text (mp_get (req->meta, "content_type"));
    return text_starts (type, "application/x-www-form-urlencoded")
           || text_starts (type, "multipart/");
}

typedef struct {
    req_t *req;
    buf_t *details;
    size_t mark;
    uint32_t count;
    const char *field, *why;         //  the first one
    bool missing_path;               //  a UUID of the path is none: not found
} faults_t;

static void
s_fault (faults_t *faults, const char *field, const char *why)
{
    if (faults->count++ == 0) {
        faults->details = req_buf (faults->req);
        faults->mark = mp_open_map (faults->details);
        faults->field = field;
        faults->why = why;
    }
    mp_pair_str (faults->details, field, why);
}

static void
s_decode_one (faults_t *faults, size_t n, bool lenient)
{
    req_t *req = faults->req;
    const endpoint_t *endpoint = req->endpoint;
    const field_t *field = &endpoint->in [n];
    value_t *value = &req->values [n];
    unsigned take = endpoint->take [n];

    value->given = !mp_is_none (value->raw);
    if (value->given && mp_empty (value->raw)) {
        //  null: clears on update what may be cleared; elsewhere it is as good as absent.
        if (endpoint->update && !(field->flags & NULLABLE))
            s_fault (faults, s_outside (field), "must not be null");
        if (endpoint->update)
            return;
    }
    else if (value->given) {
        const char *why = check_value (req, field, value->raw, lenient, &value->text);
        if (why && (take & IN_PATH) && field->type == T_UUID)
            faults->missing_path = true;
        else if (why)
            s_fault (faults, s_outside (field), why);
        return;
    }
    if (field->def && (take & DEFAULT)) {
        value->text = field->def;
        value->set = true;
    }
    else if (take & NEED)
        s_fault (faults, s_outside (field), "is required");
}

//  Unknown fields are only named in the answer, unless the caller prefers to be refused.
static void
s_strict (faults_t *faults)
{
    text_t prefer = mp_text (mp_get (faults->req->meta, "prefer"));
    if (prefer.size == 0 || !faults->req->ignored
        || !strcasestr (req_copy (faults->req, prefer), "handling=strict"))
        return;
    for (extra_t *at = faults->req->ignored; at; at = at->next)
        s_fault (faults, at->name, "is not known");
}

bool
input_decode (req_t *req)
{
    const endpoint_t *endpoint = req->endpoint;
    if (!endpoint->in)
        return true;
    if (endpoint->plan && !mp_empty (req->body) && mp_type (req->body) != MP_MAP) {
        req->code = E_INVALID;
        req->text = "body must be an object";
        return false;
    }
    req->values = req_alloc (req, endpoint->in_count * sizeof *req->values + 1);
    bool form = s_lenient_body (req);
    const uint8_t *body_from = req->body.data, *body_end = req->body.end;
    s_collect (req, req->body, !endpoint->spec.raw);
    s_collect (req, req->params, false);

    faults_t faults = { .req = req };
    for (size_t n = 0; n < endpoint->in_count; n++) {
        const uint8_t *at = req->values [n].raw.data;
        bool from_body = at && at >= body_from && at < body_end;
        s_decode_one (&faults, n, !from_body || form);
    }
    s_strict (&faults);
    if (faults.missing_path) {
        req->code = E_NOT_FOUND;
        return false;
    }
    if (faults.count == 0)
        return true;
    mp_close (faults.details, faults.mark, faults.count);
    req->code = E_INVALID;
    req->details = mp_buf (faults.details);
    req->text = faults.count == 1 ? req_print (req, "%s %s", faults.field, faults.why)
                                  : req_print (req, "%s %s, and %u more", faults.field, faults.why,
                                               faults.count - 1);
    return false;
}

//  ---------------------------------------------------------------- reading

const value_t *
input_value (req_t *req, const char *name)
{
    const endpoint_t *endpoint = req->endpoint;
    if (endpoint && req->values)
        for (size_t n = 0; n < endpoint->in_count; n++)
            if (strcmp (endpoint->in [n].name, name) == 0)
                return &req->values [n];
    return NULL;
}

static const char *
s_extra (req_t *req, const char *name, bool *found)
{
    for (extra_t *at = req->extras; at; at = at->next)
        if (strcmp (at->name, name) == 0) {
            *found = true;
            return at->value;
        }
    return NULL;
}

//  What was not declared is still there, as it came.
static mp_t
s_raw (req_t *req, const char *name)
{
    mp_t value = mp_get (req->params, name);
    return mp_is_none (value) ? mp_get (req->body, name) : value;
}

const char *
mp_json (req_t *req, mp_t value)
{
    if (mp_is_none (value))
        return NULL;
    buf_t out = { 0 };
    json_write (value, &out);
    const char *text = req_copy (req, buf_text (&out));
    buf_free (&out);
    return text;
}

const char *
req_str (req_t *req, const char *name)
{
    bool found = false;
    const char *extra = s_extra (req, name, &found);
    if (found)
        return extra;
    const value_t *value = input_value (req, name);
    if (value)
        return value->text;
    mp_t raw = s_raw (req, name);
    if (mp_empty (raw))
        return NULL;
    return mp_type (raw) == MP_TEXT ? req_copy (req, mp_text (raw)) : mp_json (req, raw);
}

text_t
req_text (req_t *req, const char *name)
{
    return text_of (req_str (req, name));
}

int64_t
req_int (req_t *req, const char *name)
{
    const char *text = req_str (req, name);
    return text ? strtoll (text, NULL, 10) : 0;
}

double
req_real (req_t *req, const char *name)
{
    const char *text = req_str (req, name);
    return text ? strtod (text, NULL) : 0;
}

bool
req_bool (req_t *req, const char *name)
{
    const char *text = req_str (req, name);
    return text && (strcmp (text, "true") == 0 || strcmp (text, "1") == 0);
}

//  A default as a value: JSON when it reads as such, else a text.
static mp_t
s_default (req_t *req, const char *text)
{
    char why [64];
    buf_t *out = req_buf (req);
    if (!json_read (text_of (text), out, why, sizeof why))
        mp_put_str (out, text);
    return mp_buf (out);
}

mp_t
req_any (req_t *req, const char *name)
{
    const value_t *value = input_value (req, name);
    if (value && value->set && value->text)
        return s_default (req, value->text);
    return value ? value->raw : s_raw (req, name);
}

bool
req_has (req_t *req, const char *name)
{
    const value_t *value = input_value (req, name);
    return value ? value->given : !mp_is_none (s_raw (req, name));
}

const char *
req_json (req_t *req, const char *name)
{
    bool found = false;
    const char *extra = s_extra (req, name, &found);
    if (found)
        return extra;
    mp_t any = req_any (req, name);
    return mp_empty (any) ? NULL : mp_json (req, any);
}

const char *
req_id (req_t *req)
{
    text_t id = mp_text (mp_get (req->params, "id"));
    return id.size ? req_copy (req, id) : req_str (req, "id");
}

void
req_set (req_t *req, const char *name, const char *value)
{
    const char *copy = value ? req_copy (req, text_of (value)) : NULL;
    value_t *known = (value_t *) input_value (req, name);
    if (known) {
        known->text = copy;
        known->set = true;
        return;
    }
    extra_t *extra = req_alloc (req, sizeof *extra);
    *extra = (extra_t) { req->extras, req_copy (req, text_of (name)), copy };
    req->extras = extra;
}
