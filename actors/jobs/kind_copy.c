//  kind_copy.c -- rows from one source into a table of another, through the statement service: read
//  once, written in statements of many rows, each begun only once however often it is asked for.

#include <stdlib.h>

#include "node.h"
#include "pipeline.h"

#define PAGE 200                     //  rows of one statement
#define VALUES_MAX 100               //  parameters of one statement
#define COLUMNS_MAX 200
#define ROWS_MAX 100000

//  ---- statements ----

static mp_t
s_body (req_t *req, const char *idem, text_t query, mp_t source, mp_t parameters, int64_t rows)
{
    buf_t *body = req_buf (req);
    size_t mark = mp_open_map (body);
    uint32_t pairs = 3;
    mp_pair_text (body, "query", query);
    mp_pair_str (body, "idempotency_key", idem);
    mp_pair_int (body, "wait_ms", STATEMENT_SOON);
    if (!mp_empty (source)) {
        mp_pair (body, "source_id", source);
        pairs++;
    }
    if (!mp_empty (parameters)) {
        mp_pair (body, "parameters", parameters);
        pairs++;
    }
    if (rows) {
        mp_pair_int (body, "row_limit", rows);
        pairs++;
    }
    mp_close (body, mark, pairs);
    return mp_buf (body);
}

//  To its end. False: *end says how it ended. The statement's id is in `id`.
static CO bool
s_statement (req_t *req, task_t *task, mp_t body, mp_t *answer, const char **id, task_end_t *end)
{
    if (!statement_run (req, task, body, answer, end))
        return false;
    text_t state = mp_text (mp_get (*answer, "state"));
    *id = req_copy (req, mp_text (mp_get (*answer, "statement_id")));
    if (text_is (state, "succeeded"))
        return true;
    mp_t why = mp_get (*answer, "termination");
    text_t type = mp_text (mp_get (why, "type")), said = mp_text (mp_get (why, "message"));
    bool ours = text_is (type, "platform") || text_is (type, "lost");
    *end = (task_end_t) { .code = ours ? TASK_BROKEN : TASK_FAILED,
                          .message = req_copy (req, said.size ? said : state) };
    if (text_is (state, "cancelled") && task_cancelled (task))
        end->code = TASK_CANCELLED;
    return false;
}

//  ---- writing ----

//  MariaDB quotes by backticks; both take plain names, and nothing else is a column of a copy.
static bool
s_is_plain (text_t name)
{
    bool good = name.size > 0 && name.size <= 63 && !(name.data [0] >= '0' && name.data [0] <= '9');
    for (size_t n = 0; good && n < name.size; n++) {
        char c = name.data [n];
        good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')
               || c == '_';
    }
    return good;
}

typedef struct {
    text_t table;
    const char *columns [COLUMNS_MAX];
    size_t count;
    mp_t target;
    bool postgresql;                 //  takes all rows as one parameter, each as the table wants it
} sink_t;

//  Columns of the result, by their names. NULL, or what is wrong.
static const char *
s_columns (req_t *req, mp_t columns, sink_t *sink)
{
    if (mp_type (columns) != MP_ARRAY || mp_count (columns) == 0)
        return "the query answers no rows";
    if (mp_count (columns) > COLUMNS_MAX)
        return req_print (req, "the query answers more than %d columns", COLUMNS_MAX);
    for (mp_iter_t it = mp_iter (columns); mp_next (&it);) {
        text_t name = mp_text (mp_type (it.value) == MP_MAP ? mp_get (it.value, "name") : it.value);
        if (!s_is_plain (name))
            return req_print (req, "column %zu has no name of letters, digits and _: give it one "
                              "with AS", sink->count + 1);
        sink->columns [sink->count++] = req_copy (req, name);
    }
    return NULL;
}

static void
s_put_columns (buf_t *text, const sink_t *sink)
{
    for (size_t n = 0; n < sink->count; n++)
        buf_putf (text, "%s%s", n ? ", " : "", sink->columns [n]);
}

static text_t
s_insert_records (req_t *req, const sink_t *sink, mp_t rows, mp_t *parameters)
{
    buf_t *text = req_buf (req), *values = req_buf (req), *json = req_buf (req);
    buf_putf (text, "INSERT INTO %.*s (", (int) sink->table.size, sink->table.data);
    s_put_columns (text, sink);
    buf_puts (text, ") SELECT ");
    s_put_columns (text, sink);
    buf_putf (text, " FROM jsonb_populate_recordset (NULL::%.*s, $1::text::jsonb)",
              (int) sink->table.size, sink->table.data);
    json_write (rows, json);
    mp_put_array (values, 1);
    mp_put_text (values, buf_text (json));
    *parameters = mp_buf (values);
    return buf_text (text);
}

//  INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4) and its parameters.
static text_t
s_insert_values (req_t *req, const sink_t *sink, mp_t rows, size_t first, size_t count,
                 mp_t *parameters)
{
    buf_t *text = req_buf (req), *values = req_buf (req);
    unsigned number = 1;
    buf_putf (text, "INSERT INTO %.*s (", (int) sink->table.size, sink->table.data);
    s_put_columns (text, sink);
    buf_puts (text, ") VALUES ");
    mp_put_array (values, (uint32_t) (count * sink->count));
    for (size_t row = 0; row < count; row++) {
        mp_t from = mp_at (rows, first + row);
        buf_puts (text, row ? ", (" : "(");
        for (size_t n = 0; n < sink->count; n++) {
            buf_putf (text, "%s$%u", n ? ", " : "", number++);
            mp_put (values, mp_get (from, sink->columns [n]));
        }
        buf_puts (text, ")");
    }
    *parameters = mp_buf (values);
    return buf_text (text);
}

static CO bool
s_write_page (req_t *req, task_t *task, const sink_t *sink, mp_t rows, int64_t page,
              task_end_t *end)
{
    size_t step = VALUES_MAX / sink->count ? VALUES_MAX / sink->count : 1,
           count = mp_type (rows) == MP_ARRAY ? mp_count (rows) : 0;
    if (sink->postgresql)
        step = count;
    for (size_t first = 0; first < count; first += step) {
        size_t some = count - first < step ? count - first : step;
        mp_t parameters, answer;
        const char *id, *idem = req_print (req, "%s-w%lld-%zu", task->idem, (long long)page, first);
        text_t query = sink->postgresql
                           ? s_insert_records (req, sink, rows, &parameters)
                           : s_insert_values (req, sink, rows, first, some, &parameters);
        if (!s_statement (req, task, s_body (req, idem, query, sink->target, parameters, 0),
                          &answer, &id, end))
            return false;
        if (task_cancelled (task)) {
            *end = (task_end_t) { .code = TASK_CANCELLED };
            return false;
        }
    }
    return true;
}

//  ---- reading ----

static CO bool
s_read_page (req_t *req, task_t *task, int64_t page, mp_t *answer, task_end_t *end)
{
    buf_t *params = req_buf (req), *room = req_buf (req);
    mp_put_map (params, 3);
    mp_pair_str (params, "id", task->ref);
    mp_pair_int (params, "page", page);
    mp_pair_int (params, "page_size", PAGE);
    bus_reply_t reply = kind_call (req, task, "statements.result", mp_buf (params), mp_none,
                                   req_print (req, "user:%s", task->user), NULL);
    if (reply.status == 0 || reply.status >= 400) {
        *end = kind_refused (req, &reply);
        return false;
    }
    *answer = json_plain (reply.body, room);
    return true;
}

static CO bool
s_empty_table (req_t *req, task_t *task, const sink_t *sink, task_end_t *end)
{
    mp_t answer;
    const char *id;
    text_t query = text_of (req_print (req, "DELETE FROM %.*s", (int) sink->table.size,
                                       sink->table.data));
    return s_statement (req, task, s_body (req, req_print (req, "%s-d", task->idem), query,
                                           sink->target, mp_none, 0), &answer, &id, end);
}

//  The guest's own schema, or a source that is one.
static CO bool
s_is_postgresql (req_t *req, task_t *task, mp_t target)
{
    buf_t *params = req_buf (req), *room = req_buf (req);
    if (mp_empty (target))
        return true;
    mp_put_map (params, 1);
    mp_pair (params, "id", target);
    bus_reply_t reply = kind_call (req, task, "data_sources.get", mp_buf (params), mp_none, NULL,
                                   NULL);
    return reply.status == 200
           && text_is (mp_text (mp_get (json_plain (reply.body, room), "source_type")),
                       "postgresql");
}

static mp_t
s_either (mp_t config, const char *name, const char *also)
{
    mp_t value = mp_get (config, name);
    return mp_empty (value) ? mp_get (config, also) : value;
}

static CO task_end_t
s_run (req_t *req, task_t *task)
{
    mp_t config = task->config, answer, page;
    task_end_t end = { .code = TASK_FAILED };
    const char *id, *why;
    sink_t *sink = req_alloc (req, sizeof *sink);
    sink->table = mp_text (s_either (config, "table", "target_table"));
    sink->target = s_either (config, "target_id", "target_source_id");
    sink->postgresql = s_is_postgresql (req, task, sink->target);
    text_t query = mp_text (s_either (config, "query", "query_text"));
    mp_t body = s_body (req, req_print (req, "%s-r", task->idem), query,
                        mp_get (config, "source_id"), mp_none, ROWS_MAX + 1);
    if (!s_statement (req, task, body, &answer, &id, &end))
        return end;
    if (!task->ref)
        task_ref (req, task, id);
    int64_t total = mp_int (mp_get (answer, "rowCount"));
    if (total > ROWS_MAX)
        return (task_end_t) { .code = TASK_FAILED,
                              .message = req_print (req, "more than %d rows", ROWS_MAX) };
    if (!s_read_page (req, task, 1, &page, &end))
        return end;
    if ((why = s_columns (req, mp_get (page, "columns"), sink)))
        return (task_end_t) { .code = TASK_FAILED, .message = why };
    if (text_is (mp_text (mp_get (config, "mode")), "replace")
        && !s_empty_table (req, task, sink, &end))
        return end;
    for (int64_t n = 1;; n++) {
        if (n > 1 && !s_read_page (req, task, n, &page, &end))
            return end;
        if (!s_write_page (req, task, sink, mp_get (page, "rows"), n, &end))
            return end;
        if (n * PAGE >= total)
            break;
    }
    task_log (req, task, "%lld rows copied to %.*s", (long long) total, (int) sink->table.size,
              sink->table.data);
    buf_t *result = req_buf (req);
    mp_put_map (result, 1);
    mp_pair_int (result, "rows", total);
    return (task_end_t) { .code = TASK_SUCCEEDED, .result = mp_buf (result) };
}

static CO void
s_check (req_t *req, mp_t config, const char *where)
{
    char why [300];
    const node_t node = { .type = NODE_COPY, .config = config };
    if (!node_check (&node, why, sizeof why))
        fail_field (req, E_INVALID, "config", "%s: %s", where, why);
    static const char *const names [] = { "source_id", "target_id", "target_source_id" };
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        text_t id = mp_text (mp_get (config, names [n]));
        if (id.size)
            may_use (req, "data_sources.get", req_copy (req, id), names [n], "data source");
    }
}

const task_kind_t copy_kind = { .name = "copy", .repeatable = true, .check = s_check, .run = s_run,
                                .cancel = statement_cancel };
