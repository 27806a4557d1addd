//  resource_sql.c -- the statements of a resource, written from its descriptor. Those that write
//  return what the live events are made of (resource_live.c).

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "kit.h"

#define WRITTEN_MAX 128              //  sets of columns remembered per kind of statement

typedef struct written {             //  a statement for one set of columns
    struct written *next;
    uint64_t mask;
    char *text;
} written_t;

struct plan {
    const resource_t *resource;
    const char *table, *channel, *owner;
    char *see, *change;              //  conditions on alias t, $1 the caller
    char *columns, *listed, *told;   //  what an answer, a list, an event shows of t
    char *get_name, *list_name, *own_name, *delete_name, *snapshot_name;
    char *get, *list, *own, *delete, *snapshot;
    //  Parallel to `columns`: does an event show it?
    bool *tells;
    size_t tells_count;
    written_t *created, *updated;
};

static char *
s_taken (buf_t *buf)
{
    buf_putc (buf, 0);
    return (char *) buf->data;
}

static char *
s_condition (const char *owner, const char *others)
{
    return others ? text_format ("(t.%s = $1::uuid OR (%s))", owner, others)
                  : text_format ("t.%s = $1::uuid", owner);
}

static const char *
s_outside (const field_t *field)
{
    return field->json ? field->json : field->name;
}

//  Value of a field in a row of alias t.
static void
s_expression (buf_t *out, const field_t *field)
{
    if (field->sql)
        buf_putf (out, "(%s)", field->sql);
    else
        buf_putf (out, "t.%s", field->name);
}

//  Columns of t, but those with one of these flags.
static char *
s_columns (const resource_t *resource, unsigned without)
{
    buf_t out = { 0 };
    buf_puts (&out, "t.id, t.user_id");
    for (const field_t *field = resource->fields; field->name; field++) {
        if (field->flags & (SECRET | HIDDEN | without))
            continue;
        buf_puts (&out, ", ");
        s_expression (&out, field);
        buf_putf (&out, " AS \"%s\"", s_outside (field));
        if (field->also) {
            buf_puts (&out, ", ");
            s_expression (&out, field);
            buf_putf (&out, " AS \"%s\"", field->also);
        }
    }
    buf_puts (&out, ", t.created_at, t.updated_at");
    return s_taken (&out);
}

//  What the events of a written row are made of, besides its columns.
static void
s_events (buf_t *out, const plan_t *plan, bool further)
{
    buf_putf (out, ", t.%s AS \"_owner\"", plan->owner);
    if (plan->resource->also_channels && further)
        buf_putf (out, ", (%s) AS \"_also\"", plan->resource->also_channels);
}

static void
s_tells (plan_t *plan, bool told)
{
    plan->tells = xrealloc (plan->tells, (plan->tells_count + 1) * sizeof *plan->tells);
    plan->tells [plan->tells_count++] = told;
}

static void
s_note_tells (plan_t *plan)
{
    s_tells (plan, true);                //  id
    s_tells (plan, true);                //  user_id
    for (const field_t *field = plan->resource->fields; field->name; field++) {
        if (field->flags & (SECRET | HIDDEN))
            continue;
        bool told = !(field->flags & (LISTED_NOT | QUIET));
        s_tells (plan, told);
        if (field->also)
            s_tells (plan, told);
    }
    s_tells (plan, true);                //  created_at
    s_tells (plan, true);                //  updated_at
}

static void
s_order (buf_t *out)
{
    buf_puts (out, " ORDER BY t.created_at DESC, t.id DESC");
}

static void
s_build (plan_t *plan)
{
    const resource_t *resource = plan->resource;
    plan->get = text_format ("SELECT %s FROM %s AS t WHERE t.id = $2::uuid AND %s", plan->columns,
                        plan->table, plan->see);
    plan->own = text_format ("SELECT t.id, t.%s AS owner, t.updated_at FROM %s AS t "
                        "WHERE t.id = $2::uuid AND %s", plan->owner, plan->table, plan->change);

    buf_t list = { 0 };
    plan_list_build (plan, &list, 0, -1, true, 0);
    plan->list = s_taken (&list);

    buf_t gone = { 0 };
    buf_putf (&gone,
              "DELETE FROM %s AS t WHERE t.id = $2::uuid AND %s "
              "AND ($3::timestamptz IS NULL OR t.updated_at = $3::timestamptz) RETURNING t.id",
              plan->table, plan->change);
    s_events (&gone, plan, true);
    plan->delete = s_taken (&gone);

    buf_t snapshot = { 0 };
    buf_putf (&snapshot,
              "SELECT %s, t.created_at::text AS _at FROM %s AS t WHERE (t.%s = $1::uuid",
              plan->told, plan->table, plan->owner);
    if (resource->also_channels)
        buf_putf (&snapshot, " OR $2::text = ANY (%s)", resource->also_channels);
    else
        buf_puts (&snapshot, " AND $2::text IS NOT NULL");
    buf_puts (&snapshot, ") AND ($4::timestamptz IS NULL "
                         "OR (t.created_at, t.id) < ($4::timestamptz, $5::uuid))");
    s_order (&snapshot);
    buf_puts (&snapshot, " LIMIT $3::bigint");
    plan->snapshot = s_taken (&snapshot);
}

plan_t *
plan_new (const resource_t *resource)
{
    plan_t *plan = xcalloc (1, sizeof *plan);
    size_t count = 0;
    while (resource->fields [count].name)
        count++;
    assert (count <= 64);
    plan->resource = resource;
    plan->table = resource->table;
    plan->channel = resource->channel ? resource->channel : resource->table;
    plan->owner = resource->owner ? resource->owner : "user_id";
    const char *owned = plan->owner, *see = resource->see, *change = resource->change;
    plan->see = s_condition (owned, see);
    plan->change = s_condition (owned, change);
    plan->columns = s_columns (resource, 0);
    plan->listed = s_columns (resource, LISTED_NOT);
    plan->told = s_columns (resource, LISTED_NOT | QUIET);
    plan->get_name = text_format ("%s.get", plan->channel);
    plan->list_name = text_format ("%s.list", plan->channel);
    plan->own_name = text_format ("%s.own", plan->channel);
    plan->delete_name = text_format ("%s.delete", plan->channel);
    plan->snapshot_name = text_format ("%s.snapshot", plan->channel);
    s_note_tells (plan);
    s_build (plan);
    return plan;
}

static void
s_forget (written_t **list)
{
    while (*list) {
        written_t *next = (*list)->next;
        free ((*list)->text);
        free (*list);
        *list = next;
    }
}

void
plan_destroy (plan_t **self_p)
{
    plan_t *plan = *self_p;
    if (!plan)
        return;
    *self_p = NULL;
    char *const texts [] = {
        plan->see, plan->change, plan->columns, plan->listed, plan->told, plan->get_name,
        plan->list_name, plan->own_name, plan->delete_name, plan->snapshot_name, plan->get,
        plan->list, plan->own, plan->delete, plan->snapshot };
    for (size_t n = 0; n < COUNT (texts); n++)
        free (texts [n]);
    s_forget (&plan->created);
    s_forget (&plan->updated);
    free (plan->tells);
    free (plan);
}

void
plan_register (plan_t *plan, db_t *db)
{
    db_statement (db, plan->get_name, plan->get);
    db_statement (db, plan->list_name, plan->list);
    db_statement (db, plan->own_name, plan->own);
    db_statement (db, plan->delete_name, plan->delete);
    db_statement (db, plan->snapshot_name, plan->snapshot);
}

//  ---------------------------------------------------------------- writing a set of columns

static char *
s_create (const plan_t *plan, uint64_t mask)
{
    buf_t out = { 0 };
    unsigned count = 1;
    buf_putf (&out, "INSERT INTO %s AS t (%s", plan->table, plan->owner);
    for (size_t n = 0; plan->resource->fields [n].name; n++)
        if (mask >> n & 1) {
            buf_putf (&out, ", %s", plan->resource->fields [n].name);
            count++;
        }
    buf_puts (&out, ") VALUES ($1");
    for (unsigned n = 2; n <= count; n++)
        buf_putf (&out, ", $%u", n);
    buf_putf (&out, ") RETURNING %s", plan->columns);
    s_events (&out, plan, !plan->resource->begins_private);
    return s_taken (&out);
}

static char *
s_update (const plan_t *plan, uint64_t mask)
{
    buf_t out = { 0 };
    unsigned number = 4;
    buf_putf (&out, "UPDATE %s AS t SET ", plan->table);
    for (size_t n = 0; plan->resource->fields [n].name; n++)
        if (mask >> n & 1)
            buf_putf (&out, "%s = $%u, ", plan->resource->fields [n].name, number++);
    //  The version grows with every change, also with several in one transaction.
    buf_putf (&out,
              "updated_at = greatest (clock_timestamp (), t.updated_at + interval '1 microsecond') "
              "WHERE t.id = $2::uuid AND %s "
              "AND ($3::timestamptz IS NULL OR t.updated_at = $3::timestamptz) RETURNING %s",
              plan->change, plan->columns);
    s_events (&out, plan, true);
    return s_taken (&out);
}

static const char *
s_written (written_t **list, const plan_t *plan, uint64_t mask,
           char *(*write) (const plan_t *plan, uint64_t mask))
{
    size_t count = 0;
    for (written_t *at = *list; at; at = at->next, count++)
        if (at->mask == mask)
            return at->text;
    //  Callers choose the columns: what they may make us remember has an end.
    if (count >= WRITTEN_MAX)
        s_forget (list);
    written_t *made = xmalloc (sizeof *made);
    *made = (written_t) { *list, mask, write (plan, mask) };
    *list = made;
    return made->text;
}

const char *
plan_create_text (plan_t *plan, uint64_t mask)
{
    return s_written (&plan->created, plan, mask, s_create);
}

const char *
plan_update_text (plan_t *plan, uint64_t mask)
{
    return s_written (&plan->updated, plan, mask, s_update);
}

//  ---------------------------------------------------------------- lists

static void
s_sorted_by (buf_t *out, const plan_t *plan, int sort)
{
    if (sort < 0)
        buf_puts (out, sort == -1 ? "t.created_at" : "t.updated_at");
    else
        s_expression (out, &plan->resource->fields [sort]);
}

//  The rows that a list is made of: the caller's, filtered, behind the cursor.
static void
s_listed_rows (const plan_t *plan, buf_t *out, uint64_t filters, const char *key, bool nulls,
               bool descending, int cursor)
{
    const field_t *fields = plan->resource->fields;
    unsigned number = 3;
    buf_putf (out, "FROM %s AS t WHERE ", plan->table);
    if (plan->resource->seen)
        buf_putf (out, "t.id IN (SELECT i.id FROM %s AS i WHERE i.%s = $1::uuid UNION ALL (%s))",
                  plan->table, plan->owner, plan->resource->seen);
    else
        buf_puts (out, plan->see);
    for (size_t n = 0; fields [n].name; n++)
        if (filters >> n & 1) {
            buf_puts (out, " AND ");
            s_expression (out, &fields [n]);
            buf_putf (out, " = $%u", number++);
        }
    if (cursor == 1) {
        buf_putf (out, " AND ((%s, t.id) %c ($%u, $%u::uuid)", key, descending ? '<' : '>', number,
                  number + 1);
        buf_puts (out, nulls ? "" : ")");
        if (nulls)
            buf_putf (out, " OR %s IS NULL)", key);
    }
    else if (cursor == 2)
        buf_putf (out, " AND %s IS NULL AND t.id %c $%u::uuid", key, descending ? '<' : '>',
                  number);
}

void
plan_list_build (const plan_t *plan, buf_t *out, uint64_t filters, int sort, bool descending,
                 int cursor)
{
    const char *weight = plan->resource->weight, *way = descending ? "DESC" : "ASC";
    //  Rows without a value come last, whichever way it goes.
    bool nulls = sort >= 0;
    buf_t by = { 0 }, order = { 0 };
    s_sorted_by (&by, plan, sort);
    buf_putc (&by, 0);
    const char *key = (const char *) by.data;
    buf_putf (&order, " ORDER BY %s %s%s, t.id %s", key, way, nulls ? " NULLS LAST" : "", way);
    buf_putc (&order, 0);

    buf_putf (out, "SELECT %s, %s::text AS _at ", plan->listed, key);
    if (weight)
        buf_putf (out, ", t._more FROM (SELECT t.*, sum (%s) OVER w - %s AS _before, "
                  "lead (t.id) OVER w IS NOT NULL AS _more FROM (SELECT t.* ", weight, weight);
    s_listed_rows (plan, out, filters, key, nulls, descending, cursor);
    buf_putf (out, "%s LIMIT $2::bigint", (const char *) order.data);
    if (weight)
        buf_putf (out, ") AS t WINDOW w AS (%s ROWS UNBOUNDED PRECEDING)) AS t "
                  "WHERE t._before < %d%s", (const char *) order.data, LIST_BYTES,
                  (const char *) order.data);
    buf_free (&by);
    buf_free (&order);
}

//  ---------------------------------------------------------------- what others ask

const char *plan_channel (const plan_t *plan) { return plan->channel; }
const resource_t *plan_resource (const plan_t *plan) { return plan->resource; }

bool
plan_tells (const plan_t *plan, size_t column)
{
    return column < plan->tells_count && plan->tells [column];
}

const char *plan_get (const plan_t *plan) { return plan->get_name; }
const char *plan_own (const plan_t *plan) { return plan->own_name; }
const char *plan_delete (const plan_t *plan) { return plan->delete_name; }
const char *plan_list (const plan_t *plan) { return plan->list_name; }
const char *plan_snapshot (const plan_t *plan) { return plan->snapshot_name; }
const char *plan_get_text (const plan_t *plan) { return plan->get; }
const char *plan_own_text (const plan_t *plan) { return plan->own; }
const char *plan_delete_text (const plan_t *plan) { return plan->delete; }
const char *plan_list_text (const plan_t *plan) { return plan->list; }
const char *plan_snapshot_text (const plan_t *plan) { return plan->snapshot; }
