//  queries.c -- what people keep: queries of workspaces, saved queries, and the list of statements.

#include "statement.h"
#include "statement_call.h"

#define ENGINES "spark|trino|snowflake|postgresql"

static row_t
s_query_of (req_t *req, const char *id)
{
    row_t row = db_row (req, "query_access", req_user (req), id);
    if (row_none (row))
        fail (req, E_NOT_FOUND, "query not found");
    if (strcmp (row_str (row, "role"), "viewer") == 0)
        fail (req, E_FORBIDDEN, "viewers of a workspace can't change its queries");
    return row;
}

//  A query in a shared workspace belongs to the workspace's owner, whoever made it.
static void
s_before_create (req_t *req)
{
    const char *workspace = req_str (req, "workspace_id"), *owner = req_user (req);
    if (workspace) {
        row_t row = workspace_of (req, workspace, "workspace_id", true);
        owner = row_str (row, "user_id");
        req_set (req, "user_id", owner);
    }
    cluster_check (req, owner, "cluster_id");
}

static void
s_before_update (req_t *req)
{
    row_t row = s_query_of (req, req_id (req));
    const char *workspace = req_str (req, "workspace_id"), *owner = row_str (row, "user_id");
    if (workspace) {
        row_t target = workspace_of (req, workspace, "workspace_id", true);
        if (strcmp (row_str (target, "user_id"), owner) != 0)
            fail_field (req, E_CONFLICT, "workspace_id", "belongs to another owner than the query");
    }
    cluster_check (req, owner, "cluster_id");
}

static void
s_before_delete (req_t *req)
{
    s_query_of (req, req_id (req));
}

const resource_t query_resource = {
    .name = "query",
    .path = "/queries",
    .table = "queries",
    .ops = CRUD,
    .owner = "user_id",
    .body_max = 4 * QUERY_MAX,
    .see = "t.user_id = $1::uuid OR platform.workspace_role (t.workspace_id, $1::uuid) IS NOT NULL",
    .change = "t.user_id = $1::uuid OR platform.workspace_role (t.workspace_id, $1::uuid) IN "
              "('owner', 'editor')",
    .seen =
        "SELECT q.id FROM workspace_members m JOIN queries q ON q.workspace_id = m.workspace_id "
        "WHERE m.user_id = $1::uuid",
    .also_channels = "ARRAY [platform.shared_audience (t.workspace_id) || '/queries']",
    .before_create = s_before_create,
    .before_update = s_before_update,
    .before_delete = s_before_delete,
    .tag = "queries",
    .doc = "a query to be run again",
    .fields =
        (const field_t[]){
            { "workspace_id", T_UUID, NULLABLE | FILTER },
            { "name", T_TEXT, REQUIRED | FILTER | SORT, .min = 1, .max = 255 },
            { "description", T_TEXT, NULLABLE },
            { "query_text", T_TEXT, REQUIRED, .min = 1, .max = QUERY_MAX, .also = "query" },
            { "engine", T_ENUM, FILTER, .values = ENGINES, .def = "postgresql" },
            { "cluster_id", T_UUID, NULLABLE },
            { 0 } }
};

const resource_t saved_query_resource = {
    .name = "saved_query",
    .path = "/saved-queries",
    .table = "saved_queries",
    .ops = CRUD,
    .owner = "user_id",
    .body_max = 4 * QUERY_MAX,
    .tag = "queries",
    .doc = "a query to find again",
    .fields = (const field_t[]){ { "name", T_TEXT, REQUIRED | FILTER | SORT, .min = 1, .max = 255 },
                                 { "description", T_TEXT, NULLABLE },
                                 { "query_text", T_TEXT, REQUIRED, .min = 1, .max = QUERY_MAX },
                                 { "tags", T_NAMES, .def = "[]" },
                                 { "is_favorite", T_BOOL, FILTER, .def = "false" },
                                 { 0 } }
};

//  Runs forbid nothing: one that goes on stops when its row is gone.
static void
s_before_forget (req_t *req)
{
    row_t row = db_row (req, "statement_get", req_user (req), req_id (req));
    if (row_none (row))
        fail (req, E_NOT_FOUND, "statement not found");
    if (!row_str (row, "success"))
        fail_field (req, E_CONFLICT, "state", "statement is %s: cancel it first",
                    row_str (row, "state"));
}

const resource_t statement_resource = {
    .name = "statement",
    .path = "/statements",
    .table = "statements",
    .ops = OP_LIST | OP_DELETE,
    .owner = "user_id",
    .before_delete = s_before_forget,
    .tag = "statements",
    .doc = "a statement that was run",
    .fields =
        (const field_t[]){
            { "statement_id", T_UUID, READONLY, .sql = "t.id" },
            { "query_text", T_TEXT, READONLY },
            { "engine", T_TEXT, READONLY | FILTER },
            { "asked", T_TEXT, READONLY },
            { "source_id", T_UUID, READONLY | FILTER },
            { "cluster_id", T_UUID, READONLY },
            { "explain", T_BOOL, READONLY },
            { "state", T_TEXT, READONLY | FILTER },
            { "state_detail", T_TEXT, READONLY },
            { "state_seq", T_INT, READONLY },
            { "termination", T_JSON, READONLY },
            { "error", T_TEXT, READONLY, .sql = "platform.statement_error (t)" },
            { "success", T_BOOL, READONLY,
              .sql = "CASE WHEN t.finished_at IS NOT NULL THEN t.state IN ('succeeded', 'expired') "
                     "END" },
            { "row_count", T_INT, READONLY },
            { "truncated", T_BOOL, READONLY },
            { "progress", T_INT, READONLY },
            { "execution_ms", T_INT, READONLY, .json = "executionTime",
              .sql =
                  "(extract (epoch FROM t.finished_at - coalesce (t.started_at, t.created_at)) * "
                  "1000)::bigint" },
            { "started_at", T_TIME, READONLY },
            { "finished_at", T_TIME, READONLY },
            { "expires_at", T_TIME, READONLY },
            { 0 } }
};

//  ---------------------------------------------------------------- input of the methods

#define WHAT                                                                                       \
    { "query", T_TEXT, .max = QUERY_MAX, .also = "query_text", .doc = "one statement" },           \
    { "sql", T_TEXT, .max = QUERY_MAX, .doc = "another name for query" },                          \
    { "engine", T_ENUM, NULLABLE, .values = ENGINES },                                             \
    { "fallback", T_BOOL, .doc = "let postgresql run it when the engine is not configured" },      \
    { "source_id", T_UUID, NULLABLE, .doc = "a data source to ask instead of an engine" },         \
    { "cluster_id", T_UUID, NULLABLE },                                                            \
    { "parameters", T_JSON, NULLABLE,                                                              \
      .doc = "bound: an array for $1, $2, …, or an object for :name" },                            \
    { "timeout", T_INT, NULLABLE, .min = 1, .max = 3600, .doc = "seconds" },                       \
    { "explain", T_BOOL, .doc = "tell the plan instead of running it" }
#define LIMITS                                                                                     \
    { "row_limit", T_INT, NULLABLE, .min = 1, .max = STATEMENT_ROWS_MAX },                         \
    { "byte_limit", T_INT, NULLABLE, .min = 1024, .max = STATEMENT_BYTES_MAX }

const field_t execute_query_fields [] = { WHAT, LIMITS,
                                          { "wait", T_REAL, .min = 0, .max = 600,
                                            .doc = "seconds to wait for the end; 30" },
                                          { 0 } };
const field_t submit_fields [] = { WHAT, LIMITS,
                                   { "wait_ms", T_INT, .min = 0, .max = 3600000, .def = "0" },
                                   { "idempotency_key", T_TEXT, NULLABLE, .min = 1, .max = 255 },
                                   { 0 } };
const field_t stream_fields [] = { WHAT,
                                   { "row_limit", T_INT, NULLABLE, .min = 1 },
                                   { "byte_limit", T_INT, NULLABLE, .min = 1024 },
                                   { "format", T_ENUM, .values = "jsonl|csv", .def = "jsonl" },
                                   { 0 } };
const field_t await_fields[] = { { "wait_ms", T_INT, .min = 0, .max = 3600000, .def = "0" },
                                 { 0 } };
const field_t result_fields [] = { { "page", T_INT, .min = 1, .max = INT32_MAX },
                                   { "page_size", T_INT, .min = 1, .max = 10000, .def = "1000" },
                                   { "format", T_ENUM, .values = "json|csv|jsonl", .def = "json" },
                                   { 0 } };
