//  lineage.c -- which tables a statement read and wrote, as PostgreSQL's own plan says; asked for
//  once the statement has succeeded, one after another, behind everybody's back.

#include <stdlib.h>

#include "catalog.h"
#include "lineage_text.h"
#include "db/guest.h"
#include "sqltext.h"

#define EXPLAIN "EXPLAIN (VERBOSE, FORMAT JSON) "
#define EXPLAIN_MS 5000
#define WAITING_MAX 1000
#define EDGES_MAX 200

const field_t lineage_out [] = { { "data_source_id", T_UUID, NULLABLE },
                                 { "from_database", T_TEXT, NULLABLE },
                                 { "from_table", T_TEXT, NULLABLE },
                                 { "to_database", T_TEXT, NULLABLE },
                                 { "to_table", T_TEXT, NULLABLE },
                                 { "operation", T_TEXT },
                                 { "runs", T_INT },
                                 { "statement_id", T_UUID, NULLABLE },
                                 { "first_at", T_TIME },
                                 { "last_at", T_TIME },
                                 { 0 } };

typedef struct note {
    struct note *next;
    char user [37], source [37], id [37];
    char *sql;                   //  EXPLAIN …
    cell_t params [ENGINE_PARAMS];
    int count;
    made_t made;
    contact_t *contact;
    buf_t plan, schema;
} note_t;

static note_t *s_first, **s_end = &s_first;
static size_t s_waiting;
static bool s_running;

static void
s_free (void *arg)
{
    note_t *note = arg;
    for (int n = 0; n < note->count; n++)
        free ((char *) note->params [n].text.data);
    free (note->sql);
    made_free (&note->made);
    buf_free (&note->plan);
    buf_free (&note->schema);
    contact_destroy (&note->contact);
    free (note);
}

//  ---------------------------------------------------------------- on the thread

static bool
s_columns (void *arg, const column_t *columns, int count)
{
    (void) arg, (void) columns, (void) count;
    return true;
}

static bool
s_row (void *arg, const cell_t *cells, int count)
{
    if (count == 1)
        buf_put (arg, cells->text.data, cells->text.size);
    return true;
}

//  A statement that has no plan is an error here, and no lineage.
static void
s_explain (void *arg)
{
    note_t *note = arg;
    const sink_t plan = { s_columns, s_row, &note->plan },
                 schema = { s_columns, s_row, &note->schema };
    bool good = contact_open (note->contact)
                && contact_query (note->contact, note->sql, note->params, note->count, &plan);
    if (good && note->made.name && !note->made.schema)
        good = contact_query (note->contact, "SELECT current_schema ()", NULL, 0, &schema);
    if (!good)
        buf_clear (&note->plan);
}

//  ---------------------------------------------------------------- the plan

typedef struct {
    text_t database, table;
} place_t;

typedef struct {
    place_t read [EDGES_MAX], wrote [EDGES_MAX];
    text_t operation;
    int reads, writes;
} tables_t;

static void
s_add (place_t *places, int *count, mp_t node)
{
    place_t place = { mp_text (mp_get (node, "Schema")), mp_text (mp_get (node, "Relation Name")) };
    for (int n = 0; n < *count; n++)
        if (text_eq (places [n].database, place.database)
            && text_eq (places [n].table, place.table))
            return;
    if (place.table.size && *count < EDGES_MAX)
        places [(*count)++] = place;
}

static void
s_walk (tables_t *tables, mp_t node)
{
    bool writes = text_is (mp_text (mp_get (node, "Node Type")), "ModifyTable");
    if (writes) {
        s_add (tables->wrote, &tables->writes, node);
        tables->operation = mp_text (mp_get (node, "Operation"));
    } else
        s_add (tables->read, &tables->reads, node);
    for (mp_iter_t it = mp_iter (mp_get (node, "Plans")); mp_next (&it);)
        s_walk (tables, it.value);
}

static void
s_put_edge (buf_t *out, const place_t *from, const place_t *to, text_t operation)
{
    const struct {
        const char *name;
        const text_t *value;
    } parts [] = { { "fd", from ? &from->database : NULL }, { "ft", from ? &from->table : NULL },
                   { "td", to ? &to->database : NULL }, { "tt", to ? &to->table : NULL } };
    buf_puts (out, out->size > 1 ? ",{" : "{");
    for (size_t n = 0; n < sizeof parts / sizeof *parts; n++)
        if (parts [n].value) {
            buf_putf (out, "\"%s\":", parts [n].name);
            json_quote (*parts [n].value, out);
            buf_putc (out, ',');
        }
    buf_puts (out, "\"op\":\"");
    for (size_t n = 0; n < operation.size; n++)
        buf_putc (out, operation.data [n] | 0x20);
    buf_puts (out, "\"}");
}

//  From each table that was read into each that was written; a table is no source of itself.
static void
s_put_edges (const tables_t *tables, buf_t *out)
{
    buf_putc (out, '[');
    for (int r = 0; tables->writes == 0 && r < tables->reads; r++)
        s_put_edge (out, &tables->read [r], NULL, TEXT ("select"));
    for (int w = 0; w < tables->writes; w++) {
        bool fed = false;
        for (int r = 0; r < tables->reads; r++) {
            if (text_eq (tables->read [r].database, tables->wrote [w].database)
                && text_eq (tables->read [r].table, tables->wrote [w].table))
                continue;
            s_put_edge (out, &tables->read [r], &tables->wrote [w], tables->operation);
            fed = true;
        }
        if (!fed)
            s_put_edge (out, NULL, &tables->wrote [w], tables->operation);
    }
    buf_puts (out, "]");
}

//  ---------------------------------------------------------------- one after another

static void
s_note (req_t *req)
{
    note_t *note = req_arg (req);
    const char *source_id = *note->source ? note->source : NULL;
    source_t source;
    bus_reply_t why;
    char error [100];
    buf_t *plan = req_buf (req), *edges = req_buf (req);
    req_defer (req, s_free, note);
    if (source_id)
        source_load (req, note->user, source_id, NULL, &source);
    else if (!source_guest (req, note->user, &source, &why))
        return;
    note->contact = source_contact (req, &source, true, EXPLAIN_MS);
    if (!work_run (req, note->user, s_explain, note) || !note->plan.size
        || !json_read (buf_text (&note->plan), plan, error, sizeof error))
        return;
    tables_t *tables = req_alloc (req, sizeof *tables);
    s_walk (tables, mp_get (mp_at (mp_buf (plan), 0), "Plan"));
    if (note->made.name) {
        text_t schema = note->made.schema ? text_of (note->made.schema) : buf_text (&note->schema);
        tables->wrote [tables->writes++] = (place_t) { schema, text_of (note->made.name) };
        tables->operation = text_of (note->made.operation);
    }
    s_put_edges (tables, edges);
    if (edges->size == 2)
        return;
    unit_t *unit = unit_new (req);
    unit_add (unit, "lineage_put", note->user, source_id, note->id,
              req_copy (req, buf_text (edges)));
    unit_commit (unit);
}

static void s_next (actor_t *actor);

static void
s_over (void *actor)
{
    s_running = false;
    s_next (actor);
}

//  Its context ends with it, however it ends.
static void
s_run (req_t *req)
{
    req_defer (req, s_over, req_actor (req));
    s_note (req);
}

static void
s_next (actor_t *actor)
{
    note_t *note = s_first;
    if (!note || s_running)
        return;
    s_first = note->next;
    if (!s_first)
        s_end = &s_first;
    s_waiting--;
    s_running = true;
    if (!actor_spawn (actor, s_run, note)) {
        s_running = false;
        s_free (note);
    }
}

void
lineage_note (const engine_run_t *run)
{
    const source_t *source = run->target;
    bool plans = run->source ? source && source->kind == &connector_postgresql
                             : strcmp (run->engine->name, "postgresql") == 0;
    made_t made = { 0 };
    text_t query = text_of (run->sql);
    if (!plans || run->explain || s_waiting >= WAITING_MAX || !sql_names_tables (run->sql))
        return;
    if (made_read (&made, run->sql))
        query = made.query;
    else if (!guest_plans (run->sql))
        return;
    note_t *note = xcalloc (1, sizeof *note);
    note->made = made;
    memcpy (note->user, run->user, sizeof note->user - 1);
    memcpy (note->id, run->id, sizeof note->id - 1);
    if (run->source)
        memcpy (note->source, run->source, sizeof note->source - 1);
    note->sql = text_format (EXPLAIN "%.*s", (int) query.size, query.data);
    for (size_t n = 0; n < run->param_count; n++) {
        char *text = xstrdup (run->params [n].text);
        note->params [note->count++] = (cell_t) { text ? CELL_TEXT : CELL_NULL, text_of (text) };
    }
    *s_end = note;
    s_end = &note->next;
    s_waiting++;
    s_next (req_actor (run->req));
}

//  Of a table that is gone the lineage may still be known.
void
catalog_lineage (req_t *req)
{
    const char *id = req_str (req, "source_id"), *database = req_str (req, "database"),
               *table = req_str (req, "table");
    source_t source;
    if (id)
        source_load (req, req_user (req), id, "source_id", &source);
    row_t rows = db_rows (req, "lineage_of", req_user (req), database, table, id);
    if (row_none (rows)
        && row_none (db_rows (req, "catalog_table", req_user (req), database, table, id)))
        fail (req, E_NOT_FOUND, "table not found");
    reply_rows (req, 200, rows);
}
