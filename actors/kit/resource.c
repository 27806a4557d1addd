//  resource.c -- what a declared table does when it is asked: list, get, create, update, delete.

#include <stdlib.h>

#include "kit.h"

#define LIST_DEFAULT 1000

static const resource_t *
s_resource (req_t *req)
{
    return req->endpoint->resource;
}

static const char *
s_caller (req_t *req)
{
    if (!req->user)
        fail (req, E_UNAUTHORIZED, "a user is needed for this method");
    return req->user;
}

//  ---------------------------------------------------------------- versions

//  ETag of a row: the digits of its updated_at, down to the microsecond, whichever way it is
//  written.
static const char *
s_etag (req_t *req, text_t updated_at)
{
    char digits [21];
    size_t count = 0;
    bool fraction = false;
    for (size_t n = 0; n < updated_at.size && count < 20; n++) {
        char c = updated_at.data [n];
        if (c >= '0' && c <= '9')
            digits [count++] = c;
        else if (c == '.')
            fraction = true;
        else if (c == '+' || c == 'Z' || (c == '-' && fraction))
            break;
    }
    if (count < 14)
        return NULL;
    while (count < 20)
        digits [count++] = '0';
    digits [count] = 0;
    return req_print (req, "\"%s\"", digits);
}

//  If-Match back as a time for the statement. NULL: no condition. An ETag that is none of ours
//  matches no version.
static const char *
s_if_match (req_t *req)
{
    text_t match = mp_text (mp_get (req->meta, "if_match"));
    if (match.size == 0 || text_is (match, "*"))
        return NULL;
    char d [21] = { 0 };
    if (match.size != 22 || match.data [0] != '"' || match.data [21] != '"'
        || strspn (memcpy (d, match.data + 1, 20), "0123456789") < 20)
        fail (req, E_PRECONDITION, NULL);
    const char *time = req_print (req, "%.4s-%.2s-%.2s %.2s:%.2s:%.2s.%.6s+00", d, d + 4, d + 6,
                                  d + 8, d + 10, d + 12, d + 14);
    if (!check_time (text_of (time)))
        fail (req, E_PRECONDITION, NULL);
    return time;
}

void
resource_headers (req_t *req, text_t id, text_t updated_at)
{
    const char *etag = s_etag (req, updated_at);
    if (etag)
        reply_header (req, "ETag", etag);
    const resource_t *resource = req->endpoint->resource;
    if (req->endpoint->spec.status == 201 && id.size && !strchr (resource->path, ':'))
        reply_header (req, "Location",
                      req_print (req, "%s/%.*s", resource->path, (int) id.size, id.data));
}

static void
s_answer (req_t *req, unsigned status, row_t row)
{
    resource_headers (req, text_of (row_str (row, "id")), text_of (row_str (row, "updated_at")));
    reply_row (req, status, row);
}

//  ---------------------------------------------------------------- reading

static CO row_t
s_get_row (req_t *req)
{
    return db_row (req, plan_get (req->endpoint->plan), s_caller (req), req_id (req));
}

CO void
resource_get (req_t *req)
{
    row_t row = s_get_row (req);
    if (row_none (row))
        fail (req, E_NOT_FOUND, NULL);
    s_answer (req, 200, row);
}

typedef struct {
    uint64_t filters;
    int sort;
    bool descending;
    int cursor;                      //  as plan_list_build wants it
    const char *cursor_value, *cursor_id;
    const char *sort_text;
    int64_t limit;
} query_t;

static const char *
s_param (req_t *req, const char *name)
{
    mp_t value = mp_get (req->params, name);
    int64_t number;
    if (mp_int_get (value, &number))
        return req_print (req, "%lld", (long long) number);
    text_t text = mp_text (value);
    return text.size ? req_copy (req, text) : NULL;
}

static void
s_read_limit (req_t *req, query_t *query)
{
    const char *limit = s_param (req, "limit");
    char *end = NULL;
    query->limit = limit ? strtoll (limit, &end, 10) : LIST_DEFAULT;
    if (limit && (*end || query->limit < 1 || query->limit > LIST_MAX))
        fail_field (req, E_INVALID, "limit", "must be between 1 and %d", LIST_MAX);
}

static void
s_read_sort (req_t *req, query_t *query)
{
    const char *sort = s_param (req, "sort");
    query->sort = -1;
    query->descending = true;
    query->sort_text = sort ? sort : "-created_at";
    if (!sort)
        return;
    query->descending = *sort == '-';
    sort += *sort == '-' || *sort == '+';
    if (strcmp (sort, "created_at") == 0)
        return;
    if (strcmp (sort, "updated_at") == 0) {
        query->sort = -2;
        return;
    }
    const field_t *fields = s_resource (req)->fields;
    for (int n = 0; fields [n].name; n++)
        if (fields [n].flags & SORT
            && (!strcmp (sort, fields [n].name)
                || (fields [n].json && !strcmp (sort, fields [n].json)))) {
            query->sort = n;
            return;
        }
    fail_field (req, E_INVALID, "sort", "cannot be by %s", sort);
}

//  A cursor is the sort, the value and the id of the last row that was given, in base64.
static void
s_read_cursor (req_t *req, query_t *query)
{
    const char *text = s_param (req, "cursor");
    if (!text)
        return;
    buf_t *bytes = req_buf (req);
    bool good = base64_get (bytes, text_of (text), true)
                && mp_valid (bytes->data, bytes->size, 2) == bytes->size;
    mp_t cursor = good ? mp_buf (bytes) : mp_none;
    mp_t value = mp_at (cursor, 1);
    text_t id = mp_text (mp_at (cursor, 2));
    if (!text_is (mp_text (mp_at (cursor, 0)), query->sort_text) || !uuid_valid (id)
        || (mp_type (value) != MP_TEXT && mp_type (value) != MP_NIL))
        fail_field (req, E_INVALID, "cursor", "is not one of this list");
    query->cursor = mp_empty (value) ? 2 : 1;
    query->cursor_value = req_copy (req, mp_text (value));
    query->cursor_id = req_copy (req, id);
}

static const char *
s_next_cursor (req_t *req, const query_t *query, row_t last)
{
    buf_t bytes = { 0 };
    buf_t *text = req_buf (req);
    mp_put_array (&bytes, 3);
    mp_put_str (&bytes, query->sort_text);
    mp_put_str (&bytes, row_str (last, "_at"));
    mp_put_str (&bytes, row_str (last, "id"));
    base64_put (text, buf_text (&bytes), true);
    buf_free (&bytes);
    buf_putc (text, 0);
    return (const char *) text->data;
}

typedef struct {
    req_t *req;
    pause_t pause;
    db_result_t result;
} list_t;

static void
s_listed (void *arg, db_result_t *results, size_t count)
{
    list_t *list = arg;
    (void) count;
    list->result = results [0];
    results [0].result = NULL;
    result_keep (list->req, &list->result);
    pause_end (&list->pause);
}

static CO row_t
s_list_rows (req_t *req, const query_t *query)
{
    const endpoint_t *endpoint = req->endpoint;
    const char *params [70] = { s_caller (req),
                               req_print (req, "%lld", (long long)query->limit + 1) };
    size_t count = 2;
    if (!query->filters && !query->cursor && query->sort == -1 && query->descending)
        return req_db_rows (req, DB_READ, plan_list (endpoint->plan), params, count);
    for (size_t n = 0; n < endpoint->in_count; n++)
        if (query->filters >> n & 1)
            params [count++] = req->values [n].text;
    if (query->cursor == 1)
        params [count++] = query->cursor_value;
    if (query->cursor)
        params [count++] = query->cursor_id;
    buf_t *text = req_buf (req);
    plan_list_build (endpoint->plan, text, query->filters, query->sort, query->descending,
                     query->cursor);
    buf_putc (text, 0);
    list_t list = { .req = req };
    int64_t left = req_left (req);
    db_query_text (req->actor->db, DB_READ, (const char *) text->data, params, count,
                   left == INT64_MAX ? 0 : left, s_listed, &list);
    pause_wait (&list.pause);
    if (list.result.code != E_NONE)
        fail_result (req, &list.result);
    return (row_t) { list.result.result, PQntuples (list.result.result) > 0 ? 0 : -1 };
}

CO void
resource_list (req_t *req)
{
    query_t query = { 0 };
    s_read_limit (req, &query);
    s_read_sort (req, &query);
    s_read_cursor (req, &query);
    for (size_t n = 0; n < req->endpoint->in_count; n++)
        if (req->values [n].text && *req->values [n].text)
            query.filters |= (uint64_t) 1 << n;
    row_t rows = s_list_rows (req, &query);
    bool weighed = s_resource (req)->weight;
    int count = rows_count (rows), limit = (int) query.limit, given = 0;
    buf_t *body = &req->kit->body;
    buf_clear (body);
    size_t mark = mp_open_array (body), size = body->size;
    for (; given < count && given < limit; given++) {
        db_row_put (body, rows.result, given, NULL, NULL);
        if (given > 0 && body->size > LIST_BYTES)
            break;
        size = body->size;
    }
    body->size = size;
    mp_close (body, mark, (uint32_t) given);
    if (given > 0) {
        row_t last = rows_at (rows, given - 1);
        if (given < count || (weighed && row_bool (last, "_more")))
            reply_header (req, "X-Next-Cursor", s_next_cursor (req, &query, last));
    }
    reply_mp (req, 200, mp_buf (body));
}

//  ---------------------------------------------------------------- writing

//  Columns that have a value to be written, and the values behind those that `params` has already.
static uint64_t
s_columns (req_t *req, const char **params, size_t *count)
{
    const endpoint_t *endpoint = req->endpoint;
    uint64_t mask = 0;
    for (size_t n = 0; n < endpoint->in_count; n++) {
        const value_t *value = &req->values [n];
        bool cleared = endpoint->update && value->given;
        if (!value->text && !cleared && !value->set)
            continue;
        mask |= (uint64_t) 1 << n;
        params [(*count)++] = value->text;
    }
    return mask;
}

static void
s_changed (req_t *req, const char *id, const char *what)
{
    if (s_resource (req)->after_change)
        s_resource (req)->after_change (req, id, what);
}

//  Whose the new row will be: the caller's, unless before_create said otherwise with req_set.
static const char *
s_owner (req_t *req)
{
    const resource_t *resource = s_resource (req);
    const char *name = resource->owner ? resource->owner : "user_id";
    for (extra_t *at = req->extras; at; at = at->next)
        if (strcmp (at->name, name) == 0)
            return at->value;
    return s_caller (req);
}

CO void
resource_create (req_t *req)
{
    const char *params [66] = { s_caller (req) };
    size_t count = 1;
    if (s_resource (req)->before_create)
        s_resource (req)->before_create (req);
    params [0] = s_owner (req);
    uint64_t mask = s_columns (req, params, &count);
    unit_t *unit = unit_new (req);
    plan_t *plan = req->endpoint->plan;
    unit_add_text (unit, plan_create_text (plan, mask), params, count);
    unit_tell (unit, plan, "created");
    row_t row = unit_commit (unit);
    s_changed (req, row_str (row, "id"), "created");
    s_answer (req, 201, row);
}

//  Nothing was written: because it is not there, was changed meanwhile, or may be seen but not
//  changed.
static CO void
s_refused (req_t *req)
{
    row_t row = s_get_row (req);
    if (row_none (row))
        fail (req, E_NOT_FOUND, NULL);
    const char *etag = s_etag (req, text_of (row_str (row, "updated_at")));
    text_t match = mp_text (mp_get (req->meta, "if_match"));
    if (match.size && !text_is (match, "*") && etag && !text_is (match, etag))
        fail (req, E_PRECONDITION, NULL);
    fail (req, E_FORBIDDEN, "may be seen but not changed");
}

CO void
resource_update (req_t *req)
{
    const char *params [68] = { s_caller (req), req_id (req), s_if_match (req) };
    size_t count = 3;
    if (s_resource (req)->before_update)
        s_resource (req)->before_update (req);
    uint64_t mask = s_columns (req, params, &count);
    unit_t *unit = unit_new (req);
    plan_t *plan = req->endpoint->plan;
    unit_add_text (unit, plan_update_text (plan, mask), params, count);
    unit_tell (unit, plan, "updated");
    row_t row = unit_commit (unit);
    if (row_none (row))
        s_refused (req);
    s_changed (req, row_str (row, "id"), "updated");
    s_answer (req, 200, row);
}

static void
s_deleted_body (req_t *req, row_t row, buf_t *body)
{
    if (row_none (row))
        return;
    mp_put_map (body, req->live_ch ? 2 : 1);
    mp_pair_str (body, "message", "Deleted");
    req_live_put (req, body);
}

CO void
resource_delete (req_t *req)
{
    const resource_t *resource = s_resource (req);
    const char *id = req_id (req), *version = s_if_match (req);
    if (resource->before_delete)
        resource->before_delete (req);
    if (resource->parent_of) {
        row_t row = db_row (req, plan_own (req->endpoint->plan), s_caller (req), id);
        if (row_none (row))
            s_refused (req);
        const char *etag = s_etag (req, text_of (row_str (row, "updated_at")));
        if (version && !text_is (mp_text (mp_get (req->meta, "if_match")), etag))
            fail (req, E_PRECONDITION, NULL);
        saga_delete_of (req, resource->parent_of, id, row_str (row, "owner"));
    }
    unit_t *unit = unit_new (req);
    unit_add (unit, plan_delete (req->endpoint->plan), s_caller (req), id, version);
    unit_tell (unit, req->endpoint->plan, "deleted");
    unit_answer (unit, s_deleted_body);
    db_result_t result = unit_try (unit);
    if (result.code == E_NOT_FOUND)
        fail (req, E_CONFLICT, "is still referred to by others");
    if (result.code != E_NONE)
        fail_result (req, &result);
    if (PQntuples (result.result) == 0)
        s_refused (req);
    s_changed (req, id, "deleted");
    reply_message (req, 200, "Deleted");
}
