//  statement_result.c -- results: pages as JSON, all of it as JSON lines or CSV.

#include <stdio.h>
#include <stdlib.h>

#include "lines.h"
#include "statement.h"
#include "statement_call.h"

#define ANSWER_MAX (4 << 20)         //  bytes of rows in one answer
#define PIECES 4                     //  pieces of a result read at once
#define PAGE_MAX 10000               //  rows of a page
#define OUT 65536                    //  bytes of a stream written at once

//  ---------------------------------------------------------------- from lines to objects

const text_t *
result_keys (req_t *req, text_t columns, size_t *count)
{
    char error [160];
    buf_t *plain = req_buf (req);
    *count = 0;
    if (!columns.size || !json_read (columns, plain, error, sizeof error))
        return NULL;
    mp_t list = mp_buf (plain);
    text_t *keys = req_alloc (req, (mp_count (list) + 1) * sizeof *keys);
    for (mp_iter_t it = mp_iter (list); mp_next (&it);) {
        buf_t *key = req_buf (req);
        json_quote (mp_text (mp_get (it.value, "name")), key);
        buf_putc (key, ':');
        keys [(*count)++] = buf_text (key);
    }
    return keys;
}

size_t
result_objects (req_t *req, text_t lines, text_t columns, size_t skip, size_t most, bool comma,
                buf_t *out)
{
    size_t count, found = 0;
    const text_t *keys = result_keys (req, columns, &count);
    text_t line;
    while (found < most && line_next (&lines, &line)) {
        if (skip) {
            skip--;
            continue;
        }
        if (comma || found)
            buf_putc (out, ',');
        line_object (line, keys, count, out);
        found++;
    }
    return found;
}

//  ---------------------------------------------------------------- pages

//  Rows from `first` on, before `end`, as long as they fit: how many.
static CO int64_t
s_page (req_t *req, const char *id, text_t columns, int64_t first, int64_t end, buf_t *out)
{
    int64_t at = first;
    while (at < end && out->size < ANSWER_MAX) {
        row_t rows = db_rows (req, "statement_rows", id, req_print (req, "%lld", (long long) at),
                              req_print (req, "%lld", (long long) end), "1");
        if (!rows_count (rows))
            break;
        row_t piece = rows_at (rows, 0);
        at += (int64_t) result_objects (req, text_of (row_str (piece, "data")), columns,
                                        (size_t) (at - row_int (piece, "first")),
                                        (size_t) (end - at), at > first, out);
    }
    return at - first;
}

static void
s_put_plan (text_t lines, buf_t *out)
{
    text_t line, value;
    if (line_next (&lines, &line) && line_values (line, &value, 1) && value.size) {
        buf_puts (out, ",\"plan\":");
        buf_put (out, value.data, value.size);
    }
}

CO mp_t
result_data (req_t *req, const statement_t *here, row_t row)
{
    buf_t *json = req_buf (req), *packed = req_buf (req), *rows = req_buf (req);
    const char *columns = row_str (row, "columns"), *id = row_str (row, "id"),
               *changed = row_str (row, "changed");
    int64_t total = row_int (row, "row_count"), count = 0;
    text_t names = text_of (columns), lines = { 0 };
    if (here && here->whole) {
        lines = buf_text (&here->pending);
        count = (int64_t) result_objects (req, lines, names, 0, SIZE_MAX, false, rows);
    }
    else if (total)
        count = s_page (req, id, names, 0, total, rows);
    buf_puts (json, "{\"columns\":");
    buf_puts (json, columns ? columns : "[]");
    buf_puts (json, ",\"rows\":[");
    buf_put (json, rows->data, rows->size);
    buf_putf (json, "],\"rowCount\":%s,\"truncated\":%s", columns ? row_str (row, "row_count")
              : changed ? changed : "0", row_bool (row, "truncated") ? "true" : "false");
    if (count < total)
        buf_putf (json, ",\"next\":\"/statements/%s/result?page=%lld&page_size=1000\"", id,
                  (long long) count / 1000 + 1);
    if (row_str (row, "tag")) {
        buf_puts (json, ",\"tag\":");
        json_quote (text_of (row_str (row, "tag")), json);
    }
    if (row_bool (row, "explain") && columns && strcmp (row_str (row, "engine"), "postgresql") == 0
        && lines.size)
        s_put_plan (lines, json);
    buf_putc (json, '}');
    mp_put_ext (packed, MP_EXT_JSON, json->data, json->size);
    return mp_buf (packed);
}

static CO void
s_answer_page (req_t *req, row_t row)
{
    int64_t size = req_int (req, "page_size"), total = row_int (row, "row_count"),
            page = req_str (req, "page") ? req_int (req, "page") : 1, first = (page - 1) * size,
            end = first + size < total ? first + size : total;
    const char *id = req_id (req), *columns = row_str (row, "columns");
    int64_t pages = total ? (total + size - 1) / size : 1;
    if (page > pages)
        fail_field (req, E_NOT_FOUND, "page", "is behind the last one, %lld", (long long) pages);
    buf_t *json = req_buf (req), *rows = req_buf (req);
    int64_t count = s_page (req, id, text_of (columns), first, end, rows);
    if (first + count < end)
        fail_field (req, E_TOO_LARGE, "page_size", "is too much for one answer: %lld rows fit",
                    (long long) count);
    buf_putf (json,
              "{\"statement_id\":\"%s\",\"page\":%lld,\"page_size\":%lld,\"pages\":%lld,"
              "\"rowCount\":%lld,\"truncated\":%s,\"columns\":",
              id, (long long)page, (long long)size, (long long)pages, (long long)total,
              row_bool (row, "truncated") ? "true" : "false");
    buf_puts (json, columns ? columns : "[]");
    buf_puts (json, ",\"rows\":[");
    buf_put (json, rows->data, rows->size);
    buf_puts (json, "],\"next\":");
    if (page < pages)
        buf_putf (json, "\"/statements/%s/result?page=%lld&page_size=%lld\"", id,
                  (long long) page + 1, (long long) size);
    else
        buf_puts (json, "null");
    buf_putc (json, '}');
    reply_json (req, 200, buf_text (json));
}

//  ---------------------------------------------------------------- streams

typedef struct {
    req_t *req;
    bool csv;
    const text_t *keys;
    size_t count;
    buf_t *out;
} sheet_t;

static void
s_sheet_begin (sheet_t *self, text_t columns, const char *name)
{
    req_t *req = self->req;
    self->out = req_buf (req);
    self->keys = result_keys (req, columns, &self->count);
    if (self->csv)
        reply_header (req, "Content-Disposition",
                      req_print (req, "attachment; filename=\"%s.csv\"", name));
    stream_begin (req, 200, self->csv ? "text/csv; charset=utf-8" : "application/x-ndjson", -1);
    if (!self->csv || !columns.size)
        return;
    char error [160];
    buf_t *plain = req_buf (req);
    uint32_t n = 0;
    json_read (columns, plain, error, sizeof error);
    for (mp_iter_t it = mp_iter (mp_buf (plain)); mp_next (&it); n++) {
        if (n)
            buf_putc (self->out, ',');
        csv_put (mp_text (mp_get (it.value, "name")), self->out);
    }
    buf_puts (self->out, "\r\n");
}

static CO void
s_sheet_flush (sheet_t *self)
{
    stream_write (self->req, buf_text (self->out));
    buf_clear (self->out);
}

static CO void
s_sheet_put (sheet_t *self, text_t lines)
{
    text_t line;
    while (line_next (&lines, &line)) {
        if (self->csv)
            line_csv (line, self->out);
        else {
            line_object (line, self->keys, self->count, self->out);
            buf_putc (self->out, '\n');
        }
        if (self->out->size >= OUT)
            s_sheet_flush (self);
    }
}

//  One piece at a time, each in a context of its own: what is read is given back before the next.
typedef struct {
    req_t *asker;
    const char *id;
    int64_t first;
    buf_t *data;
    int count;
    bool done;
} piece_t;

static void
s_piece_end (void *arg)
{
    piece_t *piece = arg;
    piece->done = true;
    req_wake (piece->asker);
}

static CO void
s_piece_read (req_t *req)
{
    piece_t *piece = req_arg (req);
    req_defer (req, s_piece_end, piece);
    row_t rows = db_rows (req, "statement_rows", piece->id,
                          req_print (req, "%lld", (long long) piece->first),
                          req_print (req, "%lld", (long long) INT64_MAX), "1");
    if (!rows_count (rows)) {
        piece->count = 0;
        return;
    }
    row_t row = rows_at (rows, 0);
    buf_puts (piece->data, row_str (row, "data"));
    piece->count = (int) row_int (row, "count");
}

static CO void
s_answer_sheet (req_t *req, row_t row, bool csv)
{
    sheet_t sheet = { .req = req, .csv = csv };
    int64_t total = row_int (row, "row_count");
    s_sheet_begin (&sheet, text_of (row_str (row, "columns")), req_id (req));
    piece_t *piece = req_alloc (req, sizeof *piece);
    for (int64_t at = 0; at < total; at += piece->count) {
        *piece = (piece_t) { .asker = req, .id = req_id (req), .first = at, .data = req_buf (req),
                             .count = -1 };
        if (!actor_spawn (req_actor (req), s_piece_read, piece))
            fail (req, E_UNAVAILABLE, "too much goes on at once");
        while (!piece->done)
            req_sleep (req, 1000);
        if (piece->count <= 0)
            fail (req, E_UNAVAILABLE, "the result cannot be read to its end");
        s_sheet_put (&sheet, buf_text (piece->data));
        buf_free (piece->data);
    }
    s_sheet_flush (&sheet);
    stream_end (req);
}

//  GET /statements/:id/result
void
statement_result (req_t *req)
{
    row_t row = db_row (req, "statement_get", req_user (req), req_id (req));
    if (row_none (row))
        fail (req, E_NOT_FOUND, "statement not found");
    const char *state = row_str (row, "state"), *format = req_str (req, "format");
    if (strcmp (state, "succeeded") != 0)
        fail_field (req, E_CONFLICT, "state",
                    "statement is %s, only one that succeeded has a result", state);
    if (!row_str (row, "expires_at"))
        fail_field (req, E_CONFLICT, "state", "the result of this statement was not kept");
    if (strcmp (format, "json") == 0)
        s_answer_page (req, row);
    else
        s_answer_sheet (req, row, strcmp (format, "csv") == 0);
}

//  ---------------------------------------------------------------- straight from the engine

static void
s_listener_gone (void *arg)
{
    statement_t *self = arg;
    self->deaf = true;
    self->listener = NULL;
    if (!self->over)
        statement_cancel (self);
    statement_free (self);
}

static CO void
s_failed_answer (req_t *req, row_t row)
{
    mp_t termination = mp_none;
    buf_t *room = req_buf (req);
    char error [160];
    if (row_str (row, "termination")
        && json_read (text_of (row_str (row, "termination")), room, error, sizeof error))
        termination = mp_buf (room);
    text_t type = mp_text (mp_get (termination, "type"));
    error_code_t code = text_is (type, "user") ? E_INVALID
                      : text_is (type, "limit") ? E_TOO_LARGE
                      : text_is (type, "timeout") ? E_TIMEOUT
                      : text_is (type, "cancelled") ? E_CONFLICT : E_UNAVAILABLE;
    const char *text = row_str (row, "error");
    fail_details (req, code, termination, "%s", text ? text : error_text (code));
}

static void
s_take (statement_t *self, buf_t *into)
{
    buf_clear (into);
    buf_t empty = *into;
    *into = self->pending;
    self->pending = empty;
    //  Not unless it waits for that: two that wake each other would keep the loop from turning.
    if (self->held && self->runner)
        req_wake (self->runner);
    self->held = false;
}

//  POST /queries/stream
void
query_stream (req_t *req)
{
    begun_t begun;
    statement_begin (req, "queries.stream", BEGIN_STREAM, 0, &begun);
    const char *id = begun.id, *user = req_user (req);
    statement_t *self = statement_find (user, id);
    //  A repeated request: its rows went to the first one.
    if (!self || self->listener != req)
        fail (req, E_CONFLICT, "the rows of this statement go to somebody else");
    req_defer (req, s_listener_gone, self);
    reply_header (req, "X-Statement-Id", id);
    sheet_t sheet = { .req = req, .csv = strcmp (req_str (req, "format"), "csv") == 0 };
    buf_t *lines = req_buf (req);
    bool headed = false;
    for (bool last = false; !last;) {
        if (!self->over && !(self->pending.size && self->columns.size))
            req_sleep (req, req_left (req));
        if (req_left (req) == 0 || req_cancelled (req))
            fail (req, E_TIMEOUT, NULL);
        last = self->over && !self->pending.size;
        if (!headed && (self->columns.size || last)) {
            row_t row = last ? db_row (req, "statement_get", user, id) : (row_t) { .row = -1 };
            if (last && !row_bool (row, "success"))
                s_failed_answer (req, row);
            s_sheet_begin (&sheet, buf_text (&self->columns), id);
            headed = true;
        }
        s_take (self, lines);
        s_sheet_put (&sheet, buf_text (lines));
        if (headed && sheet.out->size && !self->over)
            s_sheet_flush (&sheet);
    }
    row_t row = db_row (req, "statement_get", user, id);
    if (!row_bool (row, "success"))
        s_failed_answer (req, row);
    s_sheet_flush (&sheet);
    stream_end (req);
}
