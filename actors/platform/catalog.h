//  catalog.h -- databases, tables and columns of a user's own schema and data sources: found by
//  refreshes, searched, looked into; and which tables statements read and wrote.

#ifndef CATALOG_H
#define CATALOG_H

#include "source.h"

extern const resource_t data_catalog;
extern const field_t refresh_in [], refresh_out [], catalog_place_in [], catalog_table_in [],
                      catalog_named_in [],
    database_out [], table_out [], column_out [], search_in [], search_out [], preview_in [],
    preview_out [], lineage_out [];

//  catalog.c
CO void catalog_databases (req_t *req);
CO void catalog_tables (req_t *req);
CO void catalog_schema (req_t *req);
CO void catalog_search (req_t *req);
//  The table that path and ?source_id= name: 404, or 409 when it is in several sources.
CO row_t catalog_table (req_t *req);

//  catalog_refresh.c
CO void catalog_refresh (req_t *req);
//  The user's own schema changes with each of their statements: look again, unless that was just
//  done.
CO void catalog_refresh_own (req_t *req, const char *user);
//  Refreshes that ended without a word have failed.
CO void catalog_watch (req_t *req);

//  catalog_look.c
CO void catalog_preview (req_t *req);
CO void catalog_statistics (req_t *req);

//  lineage.c
CO void catalog_lineage (req_t *req);
engine_noted_t lineage_note;

#define CATALOG_CHANNELS { "catalog", "collection", "catalog_snapshot" }

#define CATALOG_ROUTES                                                                          \
    RESOURCE (data_catalog),                                                                    \
    ACTION ("data_catalog.databases", "GET", "/data-catalog/databases", catalog_databases,      \
            .spec.in = catalog_place_in, .spec.out = database_out, .spec.reply = "array",       \
            .spec.idempotent = true, .spec.doc = "Databases of your sources and your own"),     \
    ACTION ("data_catalog.tables", "GET", "/data-catalog/databases/:database/tables",           \
            catalog_tables, .spec.in = catalog_table_in + 1, .spec.out = table_out,             \
            .spec.reply = "array", .spec.idempotent = true, .spec.doc = "Tables of a database"), \
    ACTION ("data_catalog.schema", "GET",                                                       \
            "/data-catalog/databases/:database/tables/:table/schema", catalog_schema,           \
            .spec.in = catalog_table_in, .spec.out = column_out, .spec.reply = "array",         \
            .spec.idempotent = true, .spec.doc = "Columns of a table"),                         \
    ACTION ("data_catalog.preview", "GET",                                                      \
            "/data-catalog/databases/:database/tables/:table/preview", catalog_preview,         \
            .spec.in = preview_in, .spec.out = preview_out, .spec.idempotent = true,            \
            .spec.doc = "The first rows of a table"),                                           \
    ACTION ("data_catalog.statistics", "POST",                                                  \
            "/data-catalog/databases/:database/tables/:table/statistics", catalog_statistics,   \
            .spec.in = catalog_table_in, .spec.timeout = 90000,                                 \
            .spec.doc = "Count rows, nulls and different values, and keep that"),               \
    ACTION ("data_catalog.lineage", "GET",                                                      \
            "/data-catalog/databases/:database/tables/:table/lineage", catalog_lineage,         \
            .spec.in = catalog_table_in, .spec.out = lineage_out, .spec.reply = "array",        \
            .spec.idempotent = true, .spec.doc = "What was read into it, and out of it"),       \
    ACTION ("data_catalog.named_schema", "GET", "/data-catalog/schema", catalog_schema,         \
            .spec.in = catalog_named_in, .spec.out = column_out, .spec.reply = "array",         \
            .spec.idempotent = true, .spec.doc = "Columns of a table whose name holds slashes"), \
    ACTION ("data_catalog.named_preview", "GET", "/data-catalog/preview", catalog_preview,      \
            .spec.in = catalog_named_in, .spec.out = preview_out, .spec.idempotent = true,      \
            .spec.doc = "The first rows of a table whose name holds slashes"),                  \
    ACTION ("data_catalog.named_lineage", "GET", "/data-catalog/lineage", catalog_lineage,      \
            .spec.in = catalog_named_in, .spec.out = lineage_out, .spec.reply = "array",        \
            .spec.idempotent = true, .spec.doc = "Lineage of a table whose name holds slashes"), \
    ACTION ("data_catalog.search", "GET", "/data-catalog/search", catalog_search,               \
            .spec.in = search_in, .spec.out = search_out, .spec.reply = "array",                \
            .spec.idempotent = true, .spec.doc = "Tables and columns whose names hold a text"), \
    ACTION ("data_catalog.refresh", "POST", "/data-catalog/refresh", catalog_refresh,           \
            .spec.in = refresh_in, .spec.status = 202, .spec.key = "user",                      \
            .spec.events = "catalog.refresh",                                                   \
            .spec.doc = "Look again at what is there; how it goes is told on user:<id>/catalog")

#endif
