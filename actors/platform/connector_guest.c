//  connector_guest.c -- what users made with SQL of their own: their schema in the guest database.

#include <stdio.h>
#include <stdlib.h>

#include "connector_postgresql.h"

static const config_field_t s_fields [] = { { "conninfo", NULL, CONFIG_REQUIRED | CONFIG_SECRET },
                                            { 0 } };

static bool
s_open (contact_t *self)
{
    char *text =
        text_format ("%s options='-c TimeZone=UTC%s' client_encoding=UTF8 passfile=/dev/null",
                     contact_text (self, "conninfo"),
                     self->read_only ? " -c default_transaction_read_only=on" : "");
    PGconn *conn = PQconnectStart (text);
    explicit_bzero (text, strlen (text));
    free (text);
    contact_step_begin (self);
    return postgresql_login (self, conn);
}

static void
s_close (contact_t *self)
{
    connector_postgresql.close (self);
}

static bool
s_query (contact_t *self, const char *sql, const cell_t *params, int count, const sink_t *sink)
{
    return connector_postgresql.query (self, sql, params, count, sink);
}

//  Guests see nothing of pg_catalog.
static bool
s_find (contact_t *self, const finder_t *finder)
{
    static const char sql [] =
        "SELECT c.table_schema, c.table_name,"
        " CASE WHEN t.table_type LIKE '%VIEW' THEN 'view' ELSE 'table' END, NULL::bigint, "
        "c.column_name,"
        " c.data_type, c.is_nullable = 'YES'"
        " FROM information_schema.columns c JOIN information_schema.tables t"
        " ON t.table_schema = c.table_schema AND t.table_name = c.table_name"
        " WHERE c.table_schema = current_user ORDER BY 1, 2, c.ordinal_position";
    return contact_list (self, sql, finder);
}

const connector_t connector_guest = { .name = "postgresql", .fields = s_fields, .quote = "\"",
                                      .open = s_open, .close = s_close, .query = s_query,
                                      .find = s_find };
