//  trino_page.c -- statements for Trino and its answers.

#include "trino_page.h"

#define MARKS 1000

static void
s_put_text (buf_t *out, const char *text)
{
    buf_putc (out, '\'');
    for (; *text; text++) {
        if (*text == '\'')
            buf_putc (out, '\'');
        buf_putc (out, *text);
    }
    buf_putc (out, '\'');
}

//  Trino binds by literals behind USING, never inside of the statement.
static void
s_put_param (buf_t *out, const param_t *param)
{
    static const char *const words [] = { [P_REAL] = "DOUBLE ", [P_DECIMAL] = "DECIMAL ",
                                          [P_DATE] = "DATE ", [P_TIME] = "TIMESTAMP ",
                                          [P_UUID] = "UUID ", [P_JSON] = "JSON " };
    if (!param->text) {
        buf_puts (out, "NULL");
        return;
    }
    if (param->type == P_INT || param->type == P_BOOL) {
        buf_puts (out, param->text);
        return;
    }
    const char *word =
        (size_t)param->type < sizeof words / sizeof *words ? words[param->type] : NULL;
    size_t at;
    buf_puts (out, word ? word : "");
    at = out->size;
    s_put_text (out, param->text);
    //  2026-01-31T12:00:00Z is '2026-01-31 12:00:00 UTC' there.
    if (param->type == P_TIME) {
        uint8_t *letter = memchr (out->data + at, 'T', out->size - at);
        if (letter)
            *letter = ' ';
        if (out->data [out->size - 2] == 'Z') {
            out->size -= 2;
            buf_puts (out, " UTC'");
        }
    }
}

const char *
trino_text (engine_run_t *run)
{
    buf_t *out = req_buf (run->req), *marked = req_buf (run->req);
    if (run->explain)
        buf_puts (out, "EXPLAIN (FORMAT JSON) ");
    int *order = req_alloc (run->req, MARKS * sizeof *order);
    int count = engine_marks (run->sql, "?", run->param_count, marked, order, MARKS);
    if (count < 0)
        return NULL;
    if (count == 0)
        buf_put (out, marked->data, marked->size);
    else {
        out->size = 0;
        buf_puts (out, "EXECUTE IMMEDIATE ");
        s_put_text (out, req_print (run->req, "%s%s", run->explain ? "EXPLAIN (FORMAT JSON) " : "",
                                    req_copy (run->req, buf_text (marked))));
        for (int n = 0; n < count; n++) {
            buf_puts (out, n ? ", " : " USING ");
            s_put_param (out, &run->params [order [n]]);
        }
    }
    return req_copy (run->req, buf_text (out));
}

//  Copied once: a statement may have thousands of pages.
static const char *
s_once (engine_run_t *run, const char *have, mp_t value)
{
    text_t text = mp_text (value);
    return have || !text.size ? have : req_copy (run->req, text);
}

void
trino_note (engine_run_t *run, mp_t page)
{
    mp_t stats = mp_get (page, "stats");
    double percent;
    int64_t changed;
    run->engine_id = s_once (run, run->engine_id, mp_get (page, "id"));
    run->info = s_once (run, run->info, mp_get (page, "infoUri"));
    run->tag = s_once (run, run->tag, mp_get (page, "updateType"));
    if (mp_int_get (mp_get (page, "updateCount"), &changed))
        run->changed = changed;
    if (mp_type (stats) == MP_MAP && mp_bool (mp_get (stats, "scheduled"))) {
        int64_t all = mp_int (mp_get (stats, "totalSplits")),
                done = mp_int (mp_get (stats, "completedSplits"));
        percent = all > 0 ? 100.0 * (double) done / (double) all : 0;
        run->progress = percent > 100 ? 100 : percent < 0 ? 0 : (int) percent;
    }
}

static const char *
s_columns (engine_run_t *run, mp_t columns)
{
    size_t count = mp_count (columns), n = 0;
    run->columns = req_alloc (run->req, (count + 1) * sizeof *run->columns);
    for (mp_iter_t it = mp_iter (columns); mp_next (&it); n++) {
        if (mp_type (it.value) != MP_MAP || mp_type (mp_get (it.value, "name")) != MP_TEXT)
            return "a column without name";
        const char *name = req_copy (run->req, mp_text (mp_get (it.value, "name")));
        run->columns [n].name = engine_column_name (run->req, run->columns, n, name);
        run->columns [n].type = req_copy (run->req, mp_text (mp_get (it.value, "type")));
        run->column_count = n + 1;
    }
    return NULL;
}

const char *
trino_rows (engine_run_t *run, mp_t page, size_t *rows_so_far, size_t *bytes_so_far, buf_t *rows,
            size_t *count)
{
    mp_t columns = mp_get (page, "columns"), data = mp_get (page, "data");
    const char *wrong =
        !run->columns && mp_type (columns) == MP_ARRAY ? s_columns (run, columns) : NULL;
    if (wrong || mp_empty (data))
        return wrong;
    if (!run->columns)
        return "rows without columns";
    if (mp_type (data) != MP_ARRAY)
        return "rows that are no array";
    for (mp_iter_t it = mp_iter (data); mp_next (&it);) {
        if (mp_type (it.value) != MP_ARRAY || mp_count (it.value) != run->column_count)
            return "a row of another width";
        size_t at = rows->size;
        json_write (it.value, rows);
        buf_putc (rows, '\n');
        *bytes_so_far += rows->size - at;
        if (*rows_so_far >= run->rows || *bytes_so_far > run->bytes) {
            rows->size = at;
            run->truncated = true;
            return NULL;
        }
        ++*rows_so_far;
        ++*count;
    }
    return NULL;
}

bool
trino_is_busy (int status)
{
    return status == 502 || status == 503 || status == 504 || status == 429;
}

char *
trino_base (const char *host, const char *port, bool https)
{
    bool six = strchr (host, ':'), usual = strcmp (port, https ? "443" : "80") == 0;
    return text_format ("http%s://%s%s%s%s%s", https ? "s" : "", six ? "[" : "", host,
                        six ? "]" : "", usual ? "" : ":", usual ? "" : port);
}

bool
trino_leads (const char *base, text_t next)
{
    size_t size = strlen (base);
    return next.size > size && memcmp (next.data, base, size) == 0 && next.data [size] == '/';
}

int
trino_position (const char *sql, int64_t line, int64_t column)
{
    const char *at = sql;
    for (; line > 1 && at; line--)
        if ((at = strchr (at, '\n')))
            at++;
    return at ? (int) (at - sql) + (int) column : 0;
}
