//  catalog_look.c -- into a table: its first rows, and what its columns hold.

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "catalog.h"

#define PREVIEW_MS 20000
#define PREVIEW_BYTES (2 << 20)
#define PREVIEW_CELL 16384       //  bytes of a value that are shown
#define STATISTICS_MS 60000
#define COLUMNS_MAX 200          //  of a table that are counted

const field_t preview_in [] = { { "table", T_TEXT, .max = 1024 },
                                { "database", T_TEXT, .max = 1024 },
                                { "source_id", T_UUID, .also = "data_source_id" },
                                { "limit", T_INT, .min = 1, .max = 1000, .def = "50" },
                                { 0 } };

const field_t preview_out [] = { { "columns", T_ARRAY, .doc = "{name, type}" },
                                 { "rows", T_ARRAY },
                                 { "rowCount", T_INT },
                                 { "truncated", T_BOOL },
                                 { 0 } };

//  What a thread brings back.
typedef struct {
    contact_t *contact;
    char *sql;                   //  NULL: the kind reads the table itself
    char *table;
    buf_t columns, rows, keys;   //  JSON; names of the columns, each with a NUL
    size_t limit, count;
    bool arrays, truncated, good;
} look_t;

static void
s_look_free (void *arg)
{
    look_t *look = arg;
    contact_destroy (&look->contact);
    free (look->sql);
    free (look->table);
    buf_free (&look->columns);
    buf_free (&look->rows);
    buf_free (&look->keys);
    free (look);
}

static bool
s_columns (void *arg, const column_t *columns, int count)
{
    look_t *look = arg;
    for (int n = 0; n < count; n++) {
        buf_puts (&look->columns, n ? ",{\"name\":" : "{\"name\":");
        json_quote (text_of (columns [n].name), &look->columns);
        buf_puts (&look->columns, ",\"type\":");
        json_quote (text_of (columns [n].type), &look->columns);
        buf_putc (&look->columns, '}');
        buf_put (&look->keys, columns [n].name, strlen (columns [n].name) + 1);
    }
    return true;
}

//  The beginning of what is long, in whole characters.
static void
s_put_cell (look_t *look, cell_t cell)
{
    if (cell.text.size > PREVIEW_CELL) {
        look->truncated = true;
        cell.text.size = PREVIEW_CELL;
        while (cell.kind != CELL_BYTES
               && ((unsigned char) cell.text.data [cell.text.size] & 0xc0) == 0x80)
            cell.text.size--;
        if (cell.kind == CELL_JSON)
            cell.kind = CELL_TEXT;
    }
    cell_put (&look->rows, &cell);
}

static bool
s_row (void *arg, const cell_t *cells, int count)
{
    look_t *look = arg;
    const char *key = (char *) look->keys.data;
    size_t before = look->rows.size;
    if (look->count == look->limit) {
        look->truncated = true;
        return false;
    }
    buf_puts (&look->rows, look->count++ ? "," : "");
    buf_putc (&look->rows, look->arrays ? '[' : '{');
    for (int n = 0; n < count; n++, key += strlen (key) + 1) {
        if (n)
            buf_putc (&look->rows, ',');
        if (!look->arrays) {
            json_quote (text_of (key), &look->rows);
            buf_putc (&look->rows, ':');
        }
        s_put_cell (look, cells [n]);
    }
    buf_putc (&look->rows, look->arrays ? ']' : '}');
    if (look->rows.size <= PREVIEW_BYTES)
        return true;
    look->rows.size = before;
    look->count--;
    look->truncated = true;
    return false;
}

static void
s_run (void *arg)
{
    look_t *look = arg;
    const sink_t sink = { s_columns, s_row, look };
    if (!contact_open (look->contact))
        return;
    look->good = look->sql ? contact_query (look->contact, look->sql, NULL, 0, &sink)
                           : look->contact->kind->read (look->contact, look->table, &sink);
}

//  The source of a table that was found.
static CO void
s_source (req_t *req, row_t table, source_t *source)
{
    const char *id = row_str (table, "data_source_id");
    bus_reply_t why;
    if (id)
        source_load (req, req_user (req), id, "source_id", source);
    else if (!source_guest (req, req_user (req), source, &why))
        fail_reply (req, &why);
}

static CO look_t *
s_looked (req_t *req, const source_t *source, const char *sql, size_t limit, bool arrays,
          int64_t ms)
{
    look_t *look = xcalloc (1, sizeof *look);
    req_defer (req, s_look_free, look);
    look->contact = source_contact (req, source, true, ms);
    look->sql = xstrdup (sql);
    look->table = xstrdup (req_str (req, "table"));
    look->limit = limit;
    look->arrays = arrays;
    if (!work_run (req, req_user (req), s_run, look))
        fail (req, E_UNAVAILABLE, "too many data sources are being asked; try again later");
    if (!look->good)
        fail (req, strcmp (look->contact->error, "took too long") == 0 ? E_TIMEOUT : E_UPSTREAM,
              "data source: %s", look->contact->error);
    return look;
}

//  "database"."table": names out of the catalogue, quoted as the source does.
static void
s_put_place (req_t *req, const source_t *source, buf_t *sql)
{
    const char *database = req_str (req, "database"),
               *dot = source->kind->nested ? strchr (database, '.') : NULL;
    if (dot) {
        text_t outer = { database, (size_t) (dot - database) };
        quote_name (sql, source->kind->quote, req_copy (req, outer));
        buf_putc (sql, '.');
        database = dot + 1;
    }
    quote_name (sql, source->kind->quote, database);
    buf_putc (sql, '.');
    quote_name (sql, source->kind->quote, req_str (req, "table"));
}

void
catalog_preview (req_t *req)
{
    row_t table = catalog_table (req);
    source_t source;
    buf_t *sql = req_buf (req), *body = req_buf (req);
    size_t limit = (size_t) req_int (req, "limit");
    s_source (req, table, &source);
    if (source.kind->query) {
        buf_puts (sql, "SELECT * FROM ");
        s_put_place (req, &source, sql);
        buf_putf (sql, " LIMIT %zu", limit + 1);
    }
    look_t *look = s_looked (req, &source, sql->size ? req_copy (req, buf_text (sql)) : NULL, limit,
                             false, PREVIEW_MS);
    buf_puts (body, "{\"columns\":[");
    buf_put (body, look->columns.data, look->columns.size);
    buf_puts (body, "],\"rows\":[");
    buf_put (body, look->rows.data, look->rows.size);
    buf_putf (body, "],\"rowCount\":%zu,\"truncated\":%s}", look->count,
              look->truncated ? "true" : "false");
    reply_json (req, 200, buf_text (body));
}

//  ---------------------------------------------------------------- statistics

//  Values of these have an order and can be told apart in every kind of source.
static bool
s_is_plain (const char *type)
{
    static const char *const plain [] = { "int",    "serial", "numeric", "decimal", "real",
                                         "double", "float",  "date",    "time",    "char",
                                         "text",   "year",   "enum",    "any" };
    //  "array(integer)" and "point" hold the word, too.
    static const char *const other [] = { "[]",     "array", "map(",   "row(",
                                         "digest", "range", "point", "vector" };
    for (size_t n = 0; n < sizeof other / sizeof *other; n++)
        if (strcasestr (type, other [n]))
            return false;
    for (size_t n = 0; n < sizeof plain / sizeof *plain; n++)
        if (strcasestr (type, plain [n]))
            return true;
    return false;
}

//  SELECT count (*), and for each column: how many, how many different, least, greatest.
static void
s_put_select (req_t *req, const source_t *source, mp_t columns, buf_t *sql)
{
    const char *text = *source->kind->quote == '`' ? "CHAR" : "VARCHAR";
    size_t count = 0;
    buf_puts (sql, "SELECT count(*)");
    for (mp_iter_t it = mp_iter (columns); mp_next (&it) && count++ < COLUMNS_MAX;) {
        const char *name = req_copy (req, mp_text (mp_get (it.value, "column_name")));
        buf_t *quoted = req_buf (req);
        quote_name (quoted, source->kind->quote, name);
        buf_putc (quoted, 0);
        const char *c = (char *) quoted->data;
        if (s_is_plain (req_copy (req, mp_text (mp_get (it.value, "data_type")))))
            buf_putf (sql, ",count(%s),count(DISTINCT %s),CAST(min(%s) AS %s),CAST(max(%s) AS %s)",
                      c, c, c, text, c, text);
        else
            buf_putf (sql, ",count(%s),NULL,NULL,NULL", c);
    }
    buf_puts (sql, " FROM ");
    s_put_place (req, source, sql);
}

static void
s_put_columns (buf_t *json, mp_t columns, mp_t values)
{
    int64_t rows = mp_int (mp_at (values, 0));
    size_t n = 0, count = mp_count (values);
    for (mp_iter_t it = mp_iter (columns); mp_next (&it) && 4 * n + 4 < count; n++) {
        buf_puts (json, n ? ",{\"column_name\":" : "{\"column_name\":");
        json_write (mp_get (it.value, "column_name"), json);
        buf_putf (json, ",\"nulls\":%lld,\"distinct\":",
                  (long long) (rows - mp_int (mp_at (values, 4 * n + 1))));
        json_write (mp_at (values, 4 * n + 2), json);
        buf_puts (json, ",\"min\":");
        json_write (mp_at (values, 4 * n + 3), json);
        buf_puts (json, ",\"max\":");
        json_write (mp_at (values, 4 * n + 4), json);
        buf_putc (json, '}');
    }
}

void
catalog_statistics (req_t *req)
{
    row_t table = catalog_table (req);
    source_t source;
    char error [100];
    buf_t *columns = req_buf (req), *sql = req_buf (req), *values = req_buf (req),
          *json = req_buf (req);
    s_source (req, table, &source);
    if (!source.kind->query)
        fail_field (req, E_CONFLICT, "source_id", "a data source of type %s takes no SQL",
                    source.kind->name);
    if (!json_read (text_of (row_str (table, "columns")), columns, error, sizeof error))
        fail (req, E_INTERNAL, NULL);
    s_put_select (req, &source, mp_buf (columns), sql);
    look_t *look = s_looked (req, &source, req_copy (req, buf_text (sql)), 1, true, STATISTICS_MS);
    if (!json_read (buf_text (&look->rows), values, error, sizeof error))
        fail (req, E_UPSTREAM, "data source: the answer is no row");
    buf_putf (json, "{\"rows\":%lld,\"columns\":[", (long long)mp_int (mp_at (mp_buf (values), 0)));
    s_put_columns (json, mp_buf (columns), mp_buf (values));
    buf_puts (json, "]}");
    unit_t *unit = unit_new (req);
    unit_add (unit, "catalog_statistics", req_user (req), row_str (table, "id"),
              req_copy (req, buf_text (json)));
    unit_commit (unit);
    reply_json (req, 200, buf_text (json));
}
