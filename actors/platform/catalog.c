//  catalog.c -- what was found, as people ask for it; and what they wrote down themselves.

#include "catalog.h"

#define SEARCH_LIMIT "200"

const field_t catalog_place_in [] = { { "source_id", T_UUID, .also = "data_source_id",
                                        .doc = "of one data source only" },
                                      { 0 } };

const field_t catalog_table_in [] = { { "table", T_TEXT, .max = 1024 },
                                      { "database", T_TEXT, .max = 1024 },
                                      { "source_id", T_UUID, .also = "data_source_id" },
                                      { 0 } };

const field_t catalog_named_in [] = { { "database", T_TEXT, REQUIRED, .max = 1024 },
                                      { "table", T_TEXT, REQUIRED, .max = 1024 },
                                      { "source_id", T_UUID, .also = "data_source_id" },
                                      { "limit", T_INT, .min = 1, .max = 1000, .def = "50",
                                        .doc = "of a preview" },
                                      { 0 } };

const field_t search_in [] = { { "q", T_TEXT, REQUIRED, .min = 1, .max = 200 }, { 0 } };

const field_t database_out [] = { { "name", T_TEXT },
                                  { "database_name", T_TEXT },
                                  { "data_source_id", T_UUID, NULLABLE },
                                  { "source_name", T_TEXT },
                                  { "source_type", T_TEXT },
                                  { "tables", T_INT },
                                  { 0 } };

const field_t table_out [] = { { "id", T_UUID },
                               { "name", T_TEXT },
                               { "data_source_id", T_UUID, NULLABLE },
                               { "database_name", T_TEXT },
                               { "table_name", T_TEXT },
                               { "table_type", T_TEXT },
                               { "row_estimate", T_INT, NULLABLE },
                               { "column_count", T_INT },
                               { "statistics", T_OBJECT, NULLABLE },
                               { "updated_at", T_TIME },
                               { 0 } };

const field_t column_out [] = { { "data_source_id", T_UUID, NULLABLE },
                                { "database_name", T_TEXT },
                                { "table_name", T_TEXT },
                                { "column_name", T_TEXT },
                                { "data_type", T_TEXT },
                                { "is_nullable", T_BOOL },
                                { "column_order", T_INT },
                                { 0 } };

const field_t search_out [] = { { "kind", T_TEXT, .doc = "table or column" },
                                { "data_source_id", T_UUID, NULLABLE },
                                { "database_name", T_TEXT },
                                { "table_name", T_TEXT },
                                { "table_type", T_TEXT },
                                { "column_name", T_TEXT, NULLABLE },
                                { "data_type", T_TEXT, NULLABLE },
                                { 0 } };

//  ---------------------------------------------------------------- written down

static void
s_check (req_t *req)
{
    const char *workspace = req_str (req, "workspace_id"),
               *profile = req_str (req, "cloud_profile_id");
    if (workspace) {
        row_t row = workspace_of (req, workspace, "workspace_id", true);
        req_set (req, "user_id", row_str (row, "user_id"));
    }
    if (!profile)
        return;
    buf_t *params = req_buf (req);
    mp_put_map (params, 1);
    mp_pair_str (params, "id", profile);
    bus_reply_t reply = req_call (req, "cloud_profiles.get", mp_buf (params), mp_none,
                                  &(req_call_t){ .idempotent = true });
    if (reply.status == 404)
        fail_field (req, E_NOT_FOUND, "cloud_profile_id", "no such cloud profile");
    if (reply.status >= 400)
        fail_reply (req, &reply);
}

static void
s_before_update (req_t *req)
{
    if (!req_str (req, "workspace_id")) {
        s_check (req);
        return;
    }
    row_t row = workspace_of (req, req_str (req, "workspace_id"), "workspace_id", true);
    if (strcmp (row_str (row, "user_id"), req_user (req)) != 0)
        fail_field (req, E_CONFLICT, "workspace_id", "belongs to another owner");
    s_check (req);
}

const resource_t data_catalog = {
    .name = "data_catalog",
    .path = "/data-catalog",
    .table = "data_catalogs",
    .ops = CRUD,
    .owner = "user_id",
    .see = "t.user_id = $1::uuid OR platform.workspace_role (t.workspace_id, $1::uuid) IS NOT NULL",
    .seen = "SELECT c.id FROM workspace_members m JOIN data_catalogs c ON c.workspace_id = "
            "m.workspace_id "
            "WHERE m.user_id = $1::uuid",
    .before_create = s_check,
    .before_update = s_before_update,
    .tag = "data_catalog",
    .doc = "databases, tables and views that people wrote down themselves",
    .fields = (const field_t []){ { "workspace_id", T_UUID, NULLABLE | FILTER },
                                 { "name", T_TEXT, REQUIRED | FILTER | SORT, .min = 1, .max = 255 },
                                 { "catalog_type", T_ENUM, REQUIRED | FILTER,
                                   .values = "database|table|view" },
                                 { "cloud_profile_id", T_UUID, NULLABLE },
                                 { "schema_info", T_JSON, NULLABLE | QUIET },
                                 { "location", T_TEXT, NULLABLE, .max = 500 },
                                 { 0 } }
};

//  ---------------------------------------------------------------- found

//  ?source_id= of one's own, or NULL: all. What the user's own schema holds is looked at now.
static CO const char *
s_source (req_t *req)
{
    const char *id = req_str (req, "source_id");
    source_t source;
    if (id)
        source_load (req, req_user (req), id, "source_id", &source);
    else
        catalog_refresh_own (req, req_user (req));
    return id;
}

void
catalog_databases (req_t *req)
{
    const char *source = s_source (req);
    reply_rows (req, 200, db_rows (req, "catalog_databases", req_user (req), source));
}

void
catalog_tables (req_t *req)
{
    const char *source = s_source (req);
    row_t rows = db_rows (req, "catalog_tables", req_user (req), req_str (req, "database"), source);
    if (row_none (rows))
        fail (req, E_NOT_FOUND, "database not found");
    reply_rows (req, 200, rows);
}

row_t
catalog_table (req_t *req)
{
    const char *source = s_source (req);
    row_t rows = db_rows (req, "catalog_table", req_user (req), req_str (req, "database"),
                          req_str (req, "table"), source);
    if (row_none (rows))
        fail (req, E_NOT_FOUND, "table not found");
    if (rows_count (rows) > 1)
        fail_field (req, E_CONFLICT, "source_id", "is needed: this table is in %d sources",
                    rows_count (rows));
    return rows;
}

void
catalog_schema (req_t *req)
{
    row_t table = catalog_table (req);
    reply_rows (req, 200, db_rows (req, "catalog_columns", row_str (table, "id")));
}

void
catalog_search (req_t *req)
{
    buf_t *pattern = req_buf (req);
    buf_putc (pattern, '%');
    for (const char *at = req_str (req, "q"); *at; at++) {
        if (strchr ("%_\\", *at))
            buf_putc (pattern, '\\');
        buf_putc (pattern, *at);
    }
    buf_puts (pattern, "%");
    catalog_refresh_own (req, req_user (req));
    reply_rows (req, 200, db_rows (req, "catalog_search", req_user (req),
                                   req_copy (req, buf_text (pattern)), SEARCH_LIMIT));
}
