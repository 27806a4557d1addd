//  query.c -- a statement as one line of a handler: queue it, suspend, go on with its rows.

#include <stdlib.h>

#include "kit.h"

typedef struct {
    req_t *req;
    pause_t pause;
    db_result_t result;
} query_t;

static void
s_clear (void *result)
{
    PQclear (result);
}

//  What a failure says is borrowed from the database's side: keep it with the request. The rows are
//  taken over.
void
result_keep (req_t *req, db_result_t *result)
{
    if (result->result)
        req_defer (req, s_clear, result->result);
    if (result->code == E_NONE)
        return;
    result->text = result->text ? req_copy (req, text_of (result->text)) : NULL;
    result->constraint = result->constraint ? req_copy (req, text_of (result->constraint)) : NULL;
    result->raw = result->raw ? req_copy (req, text_of (result->raw)) : NULL;
}

static void
s_done (void *arg, db_result_t *results, size_t count)
{
    query_t *query = arg;
    if (count) {
        query->result = results [0];
        results [0].result = NULL;
        result_keep (query->req, &query->result);
    }
    pause_end (&query->pause);
}

typedef struct {
    db_t *db;
    uint64_t handle;
} stop_t;

static void
s_stop (void *arg)
{
    stop_t *stop = arg;
    if (stop->handle)
        db_cancel (stop->db, stop->handle);
}

CO db_result_t
req_db_try (req_t *req, db_lane_t lane, const char *name, const char *const *params, size_t count)
{
    query_t query = { .req = req, .result.code = E_UNAVAILABLE };
    int64_t left = req_left (req);
    db_t *db = req->actor->db;
    uint64_t handle =
        db_query (db, lane, name, params, count, left == INT64_MAX ? 0 : left, s_done, &query);
    stop_t *stop = NULL;
    if (lane == DB_SLOW && !query.pause.done) {
        db_comment (db, handle, req_trace (req));
        stop = req_alloc (req, sizeof *stop);
        *stop = (stop_t) { db, handle };
        if (req->cancelled)
            s_stop (stop);
        else
            req_on_cancel (req, s_stop, stop);
    }
    pause_wait (&query.pause);
    if (stop)
        stop->handle = 0;
    return query.result;
}

CO row_t
req_db_rows (req_t *req, db_lane_t lane, const char *name, const char *const *params, size_t count)
{
    db_result_t result = req_db_try (req, lane, name, params, count);
    if (result.code != E_NONE)
        fail_result (req, &result);
    return (row_t) { result.result, PQntuples (result.result) > 0 ? 0 : -1 };
}

//  ---------------------------------------------------------------- rows

const char *
row_str (row_t row, const char *column)
{
    if (row_none (row))
        return NULL;
    for (int at = 0; at < PQnfields (row.result); at++)
        if (strcmp (PQfname (row.result, at), column) == 0)
            return PQgetisnull (row.result, row.row, at) ? NULL
                                                         : PQgetvalue (row.result, row.row, at);
    return NULL;
}

int64_t
row_int (row_t row, const char *column)
{
    const char *text = row_str (row, column);
    return text ? strtoll (text, NULL, 10) : 0;
}

double
row_real (row_t row, const char *column)
{
    const char *text = row_str (row, column);
    return text ? strtod (text, NULL) : 0;
}

bool
row_bool (row_t row, const char *column)
{
    const char *text = row_str (row, column);
    return text && *text == 't';
}

int
rows_count (row_t rows)
{
    return rows.result ? PQntuples (rows.result) : 0;
}

row_t
rows_at (row_t rows, int position)
{
    return (row_t) { rows.result, position < rows_count (rows) ? position : -1 };
}

//  The field that a violated constraint speaks of, by PostgreSQL's way of naming:
//  <table>_<columns>_<kind>. The longest name that fits; the owner's column never is the one.
const char *
constraint_field (const field_t *fields, const char *constraint)
{
    const field_t *best = NULL;
    size_t size = strlen (constraint);
    for (const field_t *field = fields; field && field->name; field++) {
        size_t length = strlen (field->name);
        const char *at = strstr (constraint, field->name);
        bool whole = at && at > constraint && at [-1] == '_' && at + length < constraint + size
                     && at [length] == '_';
        if (whole && strcmp (field->name, "user_id") != 0
            && (!best || length > strlen (best->name)))
            best = field;
    }
    return best ? best->json ? best->json : best->name : NULL;
}
