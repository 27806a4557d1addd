//  document.c -- rows out of JSON and CSV documents.

#include <stdio.h>
#include <stdlib.h>

#include "connector.h"
#include "proto/json.h"

#define COLUMNS_MAX 1000

//  ---------------------------------------------------------------- JSON

typedef struct {
    column_t columns [COLUMNS_MAX];
    cell_t cells [COLUMNS_MAX];
    int count;
    buf_t room;                  //  what the cells of a row point into
    size_t at [COLUMNS_MAX];
} table_t;

static int
s_find_column (const table_t *table, text_t name)
{
    for (int n = 0; n < table->count; n++)
        if (text_is (name, table->columns [n].name))
            return n;
    return -1;
}

static char *
s_type (mp_t value)
{
    switch (mp_type (value)) {
    case MP_BOOL:
        return "boolean";
    case MP_INT:
        return "bigint";
    case MP_REAL:
        return "double";
    case MP_ARRAY: case MP_MAP:
        return "json";
    default:
        return "text";
    }
}

//  The column of a name, made when it is new; a type that does not hold for all rows is text or, of
//  numbers, double.
static void
s_learn (table_t *table, text_t name, mp_t value)
{
    int n = s_find_column (table, name);
    if (n < 0 && table->count < COLUMNS_MAX) {
        n = table->count++;
        table->columns [n] = (column_t) { text_copy (name), NULL };
    }
    if (n < 0 || mp_empty (value))
        return;
    char *type = s_type (value), **known = &table->columns [n].type;
    bool numbers = *known && (strcmp (*known, "bigint") == 0 || strcmp (*known, "double") == 0)
                   && (strcmp (type, "bigint") == 0 || strcmp (type, "double") == 0);
    if (!*known)
        *known = type;
    else if (strcmp (*known, type) != 0)
        *known = numbers ? "double" : "text";
}

static cell_kind_t
s_put (buf_t *room, mp_t value)
{
    switch (mp_type (value)) {
    case MP_NONE: case MP_NIL:
        return CELL_NULL;
    case MP_TEXT:
        buf_put (room, mp_text (value).data, mp_text (value).size);
        return CELL_TEXT;
    case MP_BOOL:
        buf_puts (room, mp_bool (value) ? "true" : "false");
        return CELL_BOOL;
    case MP_INT: case MP_REAL:
        json_write (value, room);
        return mp_type (value) == MP_INT ? CELL_INT : CELL_REAL;
    default:
        json_write (value, room);
        return CELL_JSON;
    }
}

//  A row that is no object is one value.
static bool
s_row (table_t *table, mp_t row, const sink_t *sink)
{
    buf_clear (&table->room);
    for (int n = 0; n < table->count; n++) {
        mp_t value = mp_type (row) == MP_MAP ? mp_get (row, table->columns [n].name)
                     : strcmp (table->columns [n].name, "value") == 0 ? row : mp_none;
        table->at [n] = table->room.size;
        table->cells [n].kind = s_put (&table->room, value);
        table->cells [n].text.size = table->room.size - table->at [n];
        buf_putc (&table->room, 0);
    }
    for (int n = 0; n < table->count; n++)
        table->cells [n].text.data = (char *) table->room.data + table->at [n];
    return sink->row (sink->arg, table->cells, table->count);
}

static bool
s_rows (mp_t rows, const sink_t *sink)
{
    table_t *table = xcalloc (1, sizeof *table);
    for (mp_iter_t it = mp_iter (rows); mp_next (&it);)
        if (mp_type (it.value) == MP_MAP)
            for (mp_iter_t in = mp_iter (it.value); mp_next (&in);)
                s_learn (table, mp_text (in.key), in.value);
        else
            s_learn (table, TEXT ("value"), it.value);
    for (int n = 0; n < table->count; n++)
        if (!table->columns [n].type)
            table->columns [n].type = "text";
    bool more = sink->columns (sink->arg, table->columns, table->count);
    for (mp_iter_t it = mp_iter (rows); more && mp_next (&it);)
        more = s_row (table, it.value, sink);
    for (int n = 0; n < table->count; n++)
        free (table->columns [n].name);
    buf_free (&table->room);
    free (table);
    return true;
}

//  The rows of a value: itself, or the only array in an object; else the object is the one row.
static mp_t
s_array (mp_t value, buf_t *room)
{
    mp_t found = mp_none;
    int arrays = 0;
    if (mp_type (value) == MP_ARRAY)
        return value;
    for (mp_iter_t it = mp_iter (value); mp_type (value) == MP_MAP && mp_next (&it);)
        if (mp_type (it.value) == MP_ARRAY) {
            found = it.value;
            arrays++;
        }
    if (arrays == 1)
        return found;
    mp_put_array (room, 1);
    mp_put (room, value);
    return mp_buf (room);
}

//  A value on each line.
static bool
s_read_lines (text_t document, buf_t *rows, char *error, size_t size)
{
    size_t mark = mp_open_array (rows);
    uint32_t count = 0;
    for (const char *at = document.data, *end = at + document.size; at < end;) {
        const char *stop = memchr (at, '\n', (size_t) (end - at));
        text_t line = { at, (size_t) ((stop ? stop : end) - at) };
        at += line.size + 1;
        if (line.size && line.data [line.size - 1] == '\r')
            line.size--;
        if (line.size == 0)
            continue;
        if (!json_read (line, rows, error, size))
            return false;
        count++;
    }
    mp_close (rows, mark, count);
    return true;
}

static bool
s_read_json (contact_t *self, text_t document, const sink_t *sink)
{
    buf_t value = { 0 }, room = { 0 };
    char error [160], line_error [160];
    bool whole = json_read (document, &value, error, sizeof error);
    if (!whole)
        buf_clear (&value);
    bool lines = !whole && s_read_lines (document, &value, line_error, sizeof line_error);
    bool good = whole || lines;
    if (good)
        good = s_rows (s_array (mp_buf (&value), &room), sink);
    else
        contact_fail (self, "", "the document is no JSON: %s", error);
    buf_free (&value);
    buf_free (&room);
    return good;
}

//  ---------------------------------------------------------------- CSV

typedef struct {
    const char *at, *end;
    buf_t room;
    size_t starts [COLUMNS_MAX], sizes [COLUMNS_MAX];
    bool quoted [COLUMNS_MAX];
    int count;
} csv_t;

static void
s_csv_quoted (csv_t *csv)
{
    for (csv->at++; csv->at < csv->end; csv->at++) {
        if (*csv->at == '"') {
            if (csv->at + 1 >= csv->end || csv->at [1] != '"') {
                csv->at++;
                return;
            }
            csv->at++;
        }
        buf_putc (&csv->room, *csv->at);
    }
}

//  The next record; false at the end of the document.
static bool
s_csv_next (csv_t *csv)
{
    csv->count = 0;
    buf_clear (&csv->room);
    while (csv->at < csv->end && (*csv->at == '\n' || *csv->at == '\r'))
        csv->at++;
    if (csv->at >= csv->end)
        return false;
    for (;;) {
        size_t start = csv->room.size;
        bool quoted = csv->at < csv->end && *csv->at == '"';
        if (quoted)
            s_csv_quoted (csv);
        while (csv->at < csv->end && !memchr (",\r\n", *csv->at, 3))
            buf_putc (&csv->room, *csv->at++);
        if (csv->count < COLUMNS_MAX) {
            csv->starts [csv->count] = start;
            csv->sizes [csv->count] = csv->room.size - start;
            csv->quoted [csv->count++] = quoted;
        }
        buf_putc (&csv->room, 0);
        if (csv->at >= csv->end || *csv->at != ',')
            return true;
        csv->at++;
    }
}

static bool
s_read_csv (contact_t *self, text_t document, const sink_t *sink)
{
    csv_t *csv = xcalloc (1, sizeof *csv);
    column_t *columns = xcalloc (COLUMNS_MAX, sizeof *columns);
    cell_t *cells = xcalloc (COLUMNS_MAX, sizeof *cells);
    csv->at = document.data;
    csv->end = document.data + document.size;
    if (text_starts (document, "\xef\xbb\xbf"))
        csv->at += 3;
    bool good = s_csv_next (csv) || contact_fail (self, "", "the document is empty");
    int count = csv->count;
    for (int n = 0; good && n < count; n++)
        columns [n] = (column_t) { text_copy ((text_t) { (char *) csv->room.data + csv->starts [n],
                                                         csv->sizes [n] }), "text" };
    bool more = good && sink->columns (sink->arg, columns, count);
    while (more && s_csv_next (csv)) {
        for (int n = 0; n < count; n++) {
            bool there = n < csv->count && (csv->sizes [n] || csv->quoted [n]);
            cells [n] = there ? (cell_t) { CELL_TEXT, { (char *) csv->room.data + csv->starts [n],
                                                        csv->sizes [n] } }
                              : (cell_t) { CELL_NULL, { NULL, 0 } };
        }
        more = sink->row (sink->arg, cells, count);
    }
    for (int n = 0; n < count; n++)
        free (columns [n].name);
    free (columns);
    free (cells);
    buf_free (&csv->room);
    free (csv);
    return good;
}

bool
document_read (contact_t *self, text_t document, const char *format, const char *type,
               const sink_t *sink)
{
    if (!text_utf8 (document))
        return contact_fail (self, "", "the document is no UTF-8");
    size_t blank = 0;
    while (blank < document.size && strchr (" \t\r\n", document.data [blank]))
        blank++;
    bool json = blank < document.size && strchr ("[{", document.data [blank]);
    if (format ? strcmp (format, "csv") == 0 : (strstr (type, "csv") || !json))
        return s_read_csv (self, document, sink);
    return s_read_json (self, document, sink);
}
