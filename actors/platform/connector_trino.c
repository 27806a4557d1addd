//  connector_trino.c -- a Trino coordinator as a data source: is it there, what does it hold, and
//  the rows of statements of our own. Those of users run in engine_trino.c.

#include <stdlib.h>

#include "connector.h"
#include "proto/json.h"
#include "trino_page.h"

#define TRIES 10             //  of a request to a Trino that is busy
#define PAUSE 100            //  ms more before each try
#define STOP_MS 2000         //  to tell that nobody reads on
#define NAMES_MAX (1 << 20)  //  bytes of the names of all catalogs

static const config_field_t s_fields [] = {
    { "host", NULL, CONFIG_REQUIRED | CONFIG_ADDRESS },
    { "port", NULL, CONFIG_PORT | CONFIG_ADDRESS, NULL, "8080" },
    { "database", "catalog", 0 },
    { "user", "username", CONFIG_REQUIRED | CONFIG_ADDRESS },
    { "password", NULL, CONFIG_SECRET },
    { "sslmode", NULL, CONFIG_ADDRESS, "disable|require", "disable" },
    { 0 } };

//  ---------------------------------------------------------------- one request

//  As the user of the source. The status, and in `value` the object that was answered: empty when
//  it was none.
static int
s_ask (contact_t *self, web_ask_t *ask, buf_t *value)
{
    const char *name = contact_text (self, "user"), *password = contact_text (self, "password");
    char type [80], error [100], *user = text_format ("X-Trino-User: %s", name);
    const char *headers [] = { user, "X-Trino-Source: busbar", NULL, NULL, NULL, NULL };
    buf_t answer = { 0 };
    if (ask->body.size) {
        headers [2] = "Content-Type: text/plain; charset=utf-8";
        headers [3] = "X-Trino-Client-Capabilities: PARAMETRIC_DATETIME";
        headers [4] = "X-Trino-Time-Zone: UTC";
    }
    ask->headers = headers;
    ask->user = password ? name : NULL;
    ask->password = password;
    int status = 0;
    for (int tries = 1; tries <= TRIES; tries++) {
        buf_clear (&answer);
        status = web_ask (self, ask, &answer, type);
        if (!trino_is_busy (status) || ask->grace || contact_left (self) <= PAUSE * tries)
            break;
        contact_wait (self, -1, 0, PAUSE * tries);
    }
    buf_clear (value);
    if (status == 200
        && (!json_read (buf_text (&answer), value, error, sizeof error)
            || mp_type (mp_buf (value)) != MP_MAP))
        buf_clear (value);
    ask->headers = NULL;
    buf_free (&answer);
    free (user);
    return status;
}

//  ---------------------------------------------------------------- a statement

typedef struct {
    contact_t *contact;
    const sink_t *sink;
    char *next;                  //  where it goes on; NULL: it is over
    buf_t value;                 //  the last answer
    int count;                   //  columns; -1: not yet known
    cell_t *cells;
    buf_t texts;                 //  of the cells, each with a NUL
    bool enough;
} talk_t;

static bool
s_garbage (contact_t *self)
{
    return contact_fail (self, "", "the server does not answer as Trino does");
}

//  A statement that nobody reads goes on for minutes: it is ended, also when our time is over.
static void
s_stop (talk_t *talk)
{
    contact_t *self = talk->contact;
    char error [sizeof self->error];
    memcpy (error, self->error, sizeof error);
    web_ask_t ask = { .verb = "DELETE", .url = talk->next, .grace = STOP_MS };
    s_ask (self, &ask, &talk->value);
    memcpy (self->error, error, sizeof error);
}

static bool
s_columns (talk_t *talk, mp_t list)
{
    column_t *columns = xcalloc (mp_count (list) + 1, sizeof *columns);
    talk->count = 0;
    talk->cells = xcalloc (mp_count (list) + 1, sizeof *talk->cells);
    for (mp_iter_t it = mp_iter (list); mp_next (&it); talk->count++)
        columns [talk->count] = (column_t) { text_copy (mp_text (mp_get (it.value, "name"))),
                                             text_copy (mp_text (mp_get (it.value, "type"))) };
    bool more = talk->sink->columns (talk->sink->arg, columns, talk->count);
    for (int n = 0; n < talk->count; n++) {
        free (columns [n].name);
        free (columns [n].type);
    }
    free (columns);
    return more;
}

static cell_kind_t
s_kind (mp_t value)
{
    switch (mp_type (value)) {
    case MP_NIL: return CELL_NULL;
    case MP_BOOL: return CELL_BOOL;
    case MP_INT: return CELL_INT;
    case MP_REAL: return CELL_REAL;
    case MP_TEXT: return CELL_TEXT;
    default: return CELL_JSON;
    }
}

static bool
s_row (talk_t *talk, mp_t row)
{
    int count = 0;
    buf_clear (&talk->texts);
    for (mp_iter_t it = mp_iter (row); mp_next (&it); count++) {
        cell_t *cell = &talk->cells [count];
        size_t before = talk->texts.size;
        cell->kind = s_kind (it.value);
        if (cell->kind == CELL_TEXT)
            buf_put (&talk->texts, mp_text (it.value).data, mp_text (it.value).size);
        else if (cell->kind != CELL_NULL)
            json_write (it.value, &talk->texts);
        cell->text.size = talk->texts.size - before;
        buf_putc (&talk->texts, 0);
    }
    const char *at = (const char *) talk->texts.data;
    for (int n = 0; n < count; n++) {
        talk->cells [n].text.data = at;
        at += talk->cells [n].text.size + 1;
    }
    return talk->sink->row (talk->sink->arg, talk->cells, count);
}

static bool
s_rows (talk_t *talk, mp_t page)
{
    mp_t columns = mp_get (page, "columns"), data = mp_get (page, "data");
    if (talk->count < 0 && mp_type (columns) == MP_ARRAY)
        talk->enough = !s_columns (talk, columns);
    if (mp_empty (data))
        return true;
    if (mp_type (data) != MP_ARRAY || talk->count < 0)
        return s_garbage (talk->contact);
    for (mp_iter_t it = mp_iter (data); !talk->enough && mp_next (&it);) {
        if (mp_type (it.value) != MP_ARRAY || mp_count (it.value) != (size_t) talk->count)
            return s_garbage (talk->contact);
        talk->enough = !s_row (talk, it.value);
    }
    return true;
}

//  What the last answer says.
static bool
s_take (talk_t *talk)
{
    contact_t *self = talk->contact;
    if (!talk->value.size)
        return s_garbage (self);
    mp_t page = mp_buf (&talk->value), error = mp_get (page, "error");
    text_t next = mp_text (mp_get (page, "nextUri"));
    if (!mp_empty (error)) {
        text_t text = mp_text (mp_get (error, "message"));
        free (talk->next);
        talk->next = NULL;
        if (!text.size)
            text = TEXT ("the statement failed");
        return contact_fail (self, "", "%.*s", (int) text.size, text.data);
    }
    if (next.size && !trino_leads (self->handle, next))
        return contact_fail (self, "", "the server leads elsewhere");
    free (talk->next);
    talk->next = next.size ? text_copy (next) : NULL;
    return s_rows (talk, page);
}

//  Page by page to its end, or until the sink has enough.
static bool
s_talk (talk_t *talk, const char *sql)
{
    contact_t *self = talk->contact;
    char *url = text_format ("%s/v1/statement", (char *) self->handle);
    text_t body = text_of (sql);
    for (bool good = true; url;) {
        web_ask_t ask = { .url = url, .body = body };
        int status = s_ask (self, &ask, &talk->value);
        if (status != 200)
            good = *self->error ? false : contact_fail (self, "", "the server answers %d", status);
        else
            good = s_take (talk);
        free (url);
        if (!good)
            return false;
        url = talk->next && !talk->enough ? xstrdup (talk->next) : NULL;
        body.size = 0;
    }
    return true;
}

static bool
s_query (contact_t *self, const char *sql, const cell_t *params, int count, const sink_t *sink)
{
    talk_t talk = { .contact = self, .sink = sink, .count = -1 };
    (void) params;
    if (count)
        return contact_fail (self, "", "parameters are bound by the engine");
    bool good = s_talk (&talk, sql);
    if (talk.next)
        s_stop (&talk);
    free (talk.next);
    free (talk.cells);
    buf_free (&talk.value);
    buf_free (&talk.texts);
    return good;
}

//  ---------------------------------------------------------------- saying hello

static bool
s_open (contact_t *self)
{
    buf_t value = { 0 };
    bool https = strcmp (contact_text (self, "sslmode"), "require") == 0;
    if (contact_text (self, "password") && !https)
        return contact_step_bad (self, "auth", "a password is only sent with sslmode require");
    self->handle = trino_base (contact_text (self, "host"), self->port, https);
    char *info = text_format ("%s/v1/info", (char *) self->handle);
    web_ask_t ask = { .url = info };
    int status = s_ask (self, &ask, &value);
    bool good = web_steps (self, &ask, status);
    if (good && (!value.size || mp_is_none (mp_get (mp_buf (&value), "nodeVersion"))))
        good = contact_step_bad (self, "auth", "the server does not answer as Trino does");
    free (info);
    buf_free (&value);
    return good;
}

static void
s_close (contact_t *self)
{
    free (self->handle);
}

//  ---------------------------------------------------------------- what is there

typedef struct {
    contact_t *contact;
    buf_t names;                 //  of catalogs, each with a NUL
    const finder_t *finder;
    bool enough;
} found_t;

static bool
s_heads (void *arg, const column_t *columns, int count)
{
    (void) arg, (void) columns, (void) count;
    return true;
}

//  Those of Trino itself hold nothing of the user's.
static bool
s_catalog (void *arg, const cell_t *cells, int count)
{
    found_t *found = arg;
    if (count < 1 || cells [0].kind != CELL_TEXT)
        return s_garbage (found->contact);
    const char *name = cells [0].text.data;
    if (strcmp (name, "system") != 0 && strcmp (name, "jmx") != 0)
        buf_put (&found->names, name, strlen (name) + 1);
    return found->names.size <= NAMES_MAX
           || contact_fail (found->contact, "", "there are too many catalogs");
}

static bool
s_column (void *arg, const char *database, const char *table, const char *table_type,
          long long rows, const char *column, const char *type, bool nullable)
{
    found_t *found = arg;
    found->enough = !found->finder->column (found->finder->arg, database, table, table_type, rows,
                                            column, type, nullable);
    return !found->enough;
}

static bool
s_list (found_t *found, const char *catalog)
{
    const finder_t finder = { s_column, NULL, found };
    buf_t name = { 0 };
    quote_name (&name, "\"", catalog);
    int size = (int) name.size;
    const char *quoted = (char *) name.data;
    char *sql = text_format (
        "SELECT c.table_catalog || '.' || c.table_schema, c.table_name,"
        " CASE t.table_type WHEN 'VIEW' THEN 'view' ELSE 'table' END, NULL,"
        " c.column_name, c.data_type, c.is_nullable"
        " FROM %.*s.information_schema.columns c JOIN %.*s.information_schema.tables t"
        " ON t.table_schema = c.table_schema AND t.table_name = c.table_name"
        " WHERE c.table_schema <> 'information_schema'"
        " ORDER BY c.table_schema, c.table_name, c.ordinal_position",
        size, quoted, size, quoted);
    bool good = contact_list (found->contact, sql, &finder);
    free (sql);
    buf_free (&name);
    return good || contact_fail (found->contact, "", "catalog %s: %s", catalog,
                                 found->contact->error);
}

//  One catalog that does not answer makes it fail; the others are looked at all the same.
static bool
s_find (contact_t *self, const finder_t *finder)
{
    found_t found = { .contact = self, .finder = finder };
    const sink_t sink = { s_heads, s_catalog, &found };
    const char *one = contact_text (self, "database");
    char first [sizeof self->error] = "";
    bool good = true;
    if (one)
        buf_put (&found.names, one, strlen (one) + 1);
    else
        good = contact_query (self, "SHOW CATALOGS", NULL, 0, &sink) && !*self->error;
    for (size_t at = 0; good && !found.enough && at < found.names.size;) {
        const char *name = (char *) found.names.data + at;
        at += strlen (name) + 1;
        if (s_list (&found, name))
            continue;
        finder->drop (finder->arg, name);
        found.enough = contact_left (self) == 0;
        if (!*first)
            memcpy (first, self->error, sizeof first);
    }
    buf_free (&found.names);
    return *first ? contact_fail (self, "", "%s", first) : good;
}

const connector_t connector_trino = { .name = "trino", .fields = s_fields, .quote = "\"",
                                      .nested = true, .open = s_open, .close = s_close,
                                      .query = s_query, .find = s_find };
