//  platform -- workspaces and notebooks; executions are asked of kernels.

#include "attach.h"
#include "catalog.h"
#include "platform.h"
#include "repository.h"
#include "source.h"
#include "sqlite_child.h"
#include "statement.h"

SQL_FILE (platform_sql, "db/queries/platform.sql");
SQL_FILE (repositories_sql, "db/queries/platform_repositories.sql");
SQL_FILE (catalog_sql, "db/queries/platform_catalog.sql");
SQL_FILE (sources_sql, "db/queries/platform_sources.sql");
SQL_FILE (statements_sql, "db/queries/platform_statements.sql");

//  A notebook in a shared workspace belongs to the workspace's owner, whoever made it.
static void
notebook_parent (req_t *req)
{
    const char *workspace = req_str (req, "workspace_id"), *owner = req_user (req);
    if (workspace) {
        owner = row_str (workspace_of (req, workspace, "workspace_id", true), "user_id");
        req_set (req, "user_id", owner);
    }
    attach_cluster (req, owner);
}

static void
notebook_before_update (req_t *req)
{
    row_t row = notebook_of (req, req_id (req), NULL, true);
    const char *workspace = req_str (req, "workspace_id");
    attach_cluster (req, row_str (row, "user_id"));
    if (!workspace)
        return;
    row_t target = workspace_of (req, workspace, "workspace_id", true);
    if (strcmp (row_str (target, "user_id"), row_str (row, "user_id")) != 0)
        fail_field (req, E_CONFLICT, "workspace_id", "belongs to another owner than the notebook");
}

static void
notebook_before_delete (req_t *req)
{
    notebook_of (req, req_id (req), NULL, true);
}

static const resource_t workspace = {
    .name = "workspace",
    .path = "/workspaces",
    .table = "workspaces",
    .ops = CRUD,
    .owner = "user_id",
    .parent_of = "workspace",
    //  A function, because a subquery is set up even where the owner asks, who does not need it.
    .see = "t.user_id = $1::uuid OR platform.workspace_role (t.id, $1::uuid) IS NOT NULL",
    .seen = "SELECT m.workspace_id FROM workspace_members m WHERE m.user_id = $1::uuid",
    .also_channels = "ARRAY [platform.shared_audience (t.id) || '/workspaces']",
    .begins_private = true,
    .before_create = workspace_before_create,
    .before_update = workspace_before_update,
    .tag = "workspaces",
    .doc = "a place for notebooks, queries, jobs and what they share",
    .fields = (const field_t []){ { "name", T_TEXT, REQUIRED | FILTER | SORT, .min = 1,
                                    .max = 255 },
                                  { "description", T_TEXT, NULLABLE },
                                  { "category", T_TEXT, NULLABLE | FILTER, .max = 255 },
                                  { "tags", T_NAMES, .def = "[]" },
                                  { "icon", T_TEXT, NULLABLE, .max = 255 },
                                  { "color", T_TEXT, NULLABLE, .max = 64 },
                                  { "cloud_profile_id", T_UUID, NULLABLE },
                                  { "provider", T_ENUM, NULLABLE, .values = "aws|azure|gcp" },
                                  { "config", T_OBJECT, .def = "{}" },
                                  { 0 } }
};

static const resource_t notebook = {
    .name = "notebook",
    .path = "/notebooks",
    .table = "notebooks",
    .ops = CRUD,
    .owner = "user_id",
    .parent_of = "notebook",
    .body_max = CONTENT_MAX,
    .weight = "t.content_bytes",
    .see = "t.user_id = $1::uuid OR platform.workspace_role (t.workspace_id, $1::uuid) IS NOT NULL",
    .change = "t.user_id = $1::uuid OR platform.workspace_role (t.workspace_id, $1::uuid) IN "
              "('owner', 'editor')",
    .seen =
        "SELECT n.id FROM workspace_members m JOIN notebooks n ON n.workspace_id = m.workspace_id "
        "WHERE m.user_id = $1::uuid",
    .also_channels = "ARRAY [platform.shared_audience (t.workspace_id) || '/notebooks']",
    .before_create = notebook_parent,
    .before_update = notebook_before_update,
    .before_delete = notebook_before_delete,
    .tag = "notebooks",
    .doc = "cells of code and text",
    .fields =
        (const field_t[]){ { "workspace_id", T_UUID, NULLABLE | FILTER },
                           { "name", T_TEXT, REQUIRED | FILTER | SORT, .min = 1, .max = 255 },
                           { "description", T_TEXT, NULLABLE },
                           { "language", T_ENUM, FILTER, .values = LANGUAGES, .def = "python" },
                           { "content", T_OBJECT, QUIET, .def = "{\"cells\": []}" },
                           { "cluster_id", T_UUID, NULLABLE },
                           { 0 } }
};

row_t
workspace_of (req_t *req, const char *id, const char *field, bool write)
{
    row_t row = db_row (req, "workspace_access", req_user (req), id);
    if (row_none (row)) {
        if (field)
            fail_field (req, E_NOT_FOUND, field, "no such workspace");
        fail (req, E_NOT_FOUND, "workspace not found");
    }
    if (write && strcmp (row_str (row, "role"), "viewer") == 0)
        fail (req, E_FORBIDDEN, "viewers of a workspace can't change it");
    return row;
}

row_t
notebook_of (req_t *req, const char *id, const char *cell, bool write)
{
    row_t row = db_row (req, "notebook_access", req_user (req), id, cell);
    if (row_none (row))
        fail (req, E_NOT_FOUND, "notebook not found");
    if (write && strcmp (row_str (row, "role"), "viewer") == 0)
        fail (req, E_FORBIDDEN, "viewers of a workspace can't change or run its notebooks");
    return row;
}

static void
delete_notebook (req_t *req, const char *id)
{
    saga_delete (req, "notebook", id);
    unit_t *unit = unit_new (req);
    unit_add (unit, "notebook_delete", id);
    unit_commit (unit);
}

static void
workspace_gone (req_t *req, const char *id)
{
    queries_of_workspace_gone (req, id);
    row_t rows = db_rows (req, "notebooks_of_workspace", id);
    for (int i = 0; i < rows_count (rows); i++)
        delete_notebook (req, row_str (rows_at (rows, i), "id"));
    //  Members stop hearing of it.
    buf_t *body = req_buf (req);
    mp_put_map (body, 1);
    mp_pair_str (body, "audience", req_print (req, "project:%s", id));
    bus_reply_t reply = req_call (req, "identity.ungrant", mp_none, mp_buf (body),
                                  &(req_call_t){ .operator= true, .idempotent = true });
    if (reply.status >= 400)
        fail_reply (req, &reply);
}

static void
user_gone (req_t *req, const char *id)
{
    repositories_gone (req, id);
    statements_gone (req, id);
    row_t rows = db_rows (req, "owned_by_user", id);
    for (int i = 0; i < rows_count (rows); i++) {
        row_t row = rows_at (rows, i);
        if (strcmp (row_str (row, "kind"), "notebook") == 0) {
            delete_notebook (req, row_str (row, "id"));
            continue;
        }
        saga_delete (req, "workspace", row_str (row, "id"));
        unit_t *unit = unit_new (req);
        unit_add (unit, "workspace_delete", row_str (row, "id"));
        unit_commit (unit);
    }
}

#define SESSION_FIELDS                                                                          \
    { "session", T_TEXT, NULLABLE, .min = 1, .max = 500,                                        \
      .doc = "run in a kernel apart from the notebook's, which all cells of this session share" }, \
    { "continues", T_BOOL, NULLABLE, .doc = "only when the session has a kernel" }

static const field_t execute_fields [] = {
    { "cellId", T_TEXT, NULLABLE, .max = 255, .also = "cell_id" },
    { "code", T_TEXT, .max = 4 * 1024 * 1024 },
    { "language", T_ENUM, NULLABLE, .values = LANGUAGES },
    SESSION_FIELDS,
    { "wait", T_REAL, .min = 0, .max = 600, .doc = "seconds to wait for the end" },
    { 0 } };

static const field_t execute_named_fields [] = {
    { "notebookId", T_UUID, REQUIRED, .also = "notebook_id" },
    { "cellId", T_TEXT, NULLABLE, .max = 255, .also = "cell_id" },
    { "code", T_TEXT, .max = 4 * 1024 * 1024 },
    { "language", T_ENUM, NULLABLE, .values = LANGUAGES },
    SESSION_FIELDS,
    { "wait", T_REAL, .min = 0, .max = 600, .doc = "seconds to wait for the end" },
    { 0 } };

static const field_t execution_fields [] = { { "execution_id", T_UUID },
                                             { "success", T_BOOL, NULLABLE },
                                             { "output", T_TEXT, NULLABLE },
                                             { "error", T_TEXT, NULLABLE },
                                             { "executionTime", T_REAL, NULLABLE },
                                             { "timestamp", T_TIME, NULLABLE },
                                             { "language", T_TEXT },
                                             { "state", T_TEXT },
                                             { "live", T_OBJECT },
                                             { 0 } };

static const field_t member_fields [] = { { "email", T_EMAIL, REQUIRED, .max = 254 },
                                          { "role", T_ENUM, .values = "editor|viewer",
                                            .def = "viewer" },
                                          { 0 } };

static const field_t member_param [] = { { "member", T_UUID, REQUIRED }, { 0 } };

static const field_t member_out [] = {
    { "user_id", T_UUID }, { "email", T_TEXT }, { "role", T_TEXT }, { "created_at", T_TIME }, { 0 }
};

static const field_t import_fields [] = {
    { "workspace_id", T_UUID }, { "name", T_TEXT, .min = 1, .max = 255 }, { 0 } };

static const route_t routes [] = {
    RESOURCE (workspace),
    ACTION ("workspaces.members", "GET", "/workspaces/:id/members", members_list,
            .spec.out = member_out, .spec.reply = "array", .spec.doc = "Who shares the workspace"),
    ACTION ("workspaces.put_member", "POST", "/workspaces/:id/members", members_put,
            .spec.in = member_fields, .spec.out = member_out, .spec.status = 201,
            .spec.key = "user",
            .spec.doc = "Share the workspace with a user, or change their role"),
    ACTION ("workspaces.delete_member", "DELETE", "/workspaces/:id/members/:member", members_delete,
            .spec.in = member_param, .spec.key = "user", .spec.doc = "Stop sharing, or leave"),
    RESOURCE (notebook),
    ACTION ("notebooks.execute", "POST", "/notebooks/:id/execute", notebook_execute,
            .spec.in = execute_fields, .spec.out = execution_fields, .spec.status = 202,
            .spec.blocking = true, .spec.timeout = 630000, .spec.body_max = 5 * 1024 * 1024,
            .spec.events = "execution.queued",
            .spec.doc = "Run a cell; answers at once unless ?wait= says otherwise"),
    ACTION ("notebooks.execute_named", "POST", "/notebooks/execute", notebook_execute_named,
            .spec.in = execute_named_fields, .spec.out = execution_fields, .spec.blocking = true,
            .spec.timeout = 630000, .spec.body_max = 5 * 1024 * 1024,
            .spec.events = "execution.queued",
            .spec.doc = "Run a cell and wait for its end (?wait=, default 30 s)"),
    ACTION ("notebooks.import", "POST", "/notebooks/import", notebook_import,
            .spec.in = import_fields, .spec.status = 201, .spec.key = "user",
            .spec.body_max = CONTENT_MAX,
            .spec.doc = "A notebook from an .ipynb document (the body)"),
    ACTION ("notebooks.export", "GET", "/notebooks/:id/export", notebook_export,
            .spec.alias = { "/notebooks/:id/ipynb" }, .spec.reply = "any", .spec.idempotent = true,
            .spec.doc = "The notebook as .ipynb document"),
    REPOSITORY_ROUTES,
    SOURCE_ROUTES,
    CATALOG_ROUTES,
    STATEMENT_ROUTES,
    { 0 }
};

static const dependant_t dependants [] = { { "workspace", workspace_gone },
                                           { "compute_cluster", cluster_gone },
                                           { "cloud_profile", profile_gone },
                                           { "user", user_gone },
                                           { 0 } };

static const channel_t channels [] = { CATALOG_CHANNELS, { 0 } };

static const tick_t ticks [] = { { 2000, repositories_watch },
                                 { 2000, catalog_watch },
                                 { 5000, statements_tick },
                                 { 0 } };

static void
drain (actor_t *actor)
{
    repositories_drain ();
    statements_drain (actor);
}

static bool
busy (actor_t *actor)
{
    (void) actor;
    return statements_busy ();
}

static void
fenced (actor_t *actor, const char *key)
{
    (void) actor;
    statements_fenced (key);
}

int
main (int argc, char **argv)
{
    static opt_t options [] = { REPOSITORY_OPTIONS, SOURCE_OPTIONS, STATEMENT_OPTIONS,
                              { 0 } };
    actor_t actor = { .name = "platform",
                      .sql = (const char *const []){ platform_sql, repositories_sql, sources_sql,
                                                     catalog_sql, statements_sql, NULL },
                      .routes = routes,
                      .channels = channels,
                      .dependants = dependants,
                      .every = ticks,
                      .drain = drain,
                      .busy = busy,
                      .on_fenced = fenced,
                      .orphans = statements_orphans,
                      .options = options };
    if (argc == 2 && strcmp (argv [1], CHILD_OPTION) == 0)
        return sqlite_main ();
    engine_use_sources (source_engine);
    engine_use_notes (lineage_note);
    return actor_main (argc, argv, &actor);
}
