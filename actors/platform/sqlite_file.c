//  sqlite_file.c -- SQLite files under the operator's directory, read only: no links, no way out of
//  it, nothing attached. Runs in a process of its own (sqlite_child.c), that may be killed.

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <sqlite3.h>

#include "sqlite_child.h"

#define HEAP_MAX (64 << 20)  //  bytes that SQLite may use, with what it sorts
#define SETTING "platform.sqlite-root"

const config_field_t sqlite_fields [] = { { "path", "database", CONFIG_REQUIRED }, { 0 } };

//  The file below the root, and nothing but a file, without one link on the way. To be freed.
static char *
s_place (contact_t *self)
{
    const char *name = contact_text (self, "path");
    char *root = self->reach.sqlite_root ? realpath (self->reach.sqlite_root, NULL) : NULL;
    struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
                            .resolve =
                                RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS };
    struct stat about;
    contact_step_begin (self);
    if (!root) {
        contact_step_bad (self, "resolve",
                          "there is no directory for SQLite files: the operator sets " SETTING);
        return NULL;
    }
    int dir = open (root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = dir < 0 ? -1 : (int) syscall (SYS_openat2, dir, name, &how, sizeof how);
    if (dir >= 0)
        close (dir);
    bool good = fd >= 0 && fstat (fd, &about) == 0 && S_ISREG (about.st_mode);
    if (fd >= 0)
        close (fd);
    char *path = good ? text_format ("%s/%s", root, name) : NULL;
    free (root);
    //  One text for what is not there and what may not be seen.
    if (good)
        contact_step_good (self, "resolve", NULL);
    else
        contact_step_bad (self, "resolve", "no such file in the directory for SQLite files");
    return path;
}

//  Statements may look at tables; they open no other file and change no setting.
static int
s_allow (void *arg, int action, const char *one, const char *two, const char *database,
         const char *trigger)
{
    static const char *const harmless [] = { "table_info",   "table_xinfo",      "index_list",
                                            "index_info",   "foreign_key_list", "table_list",
                                            "database_list" };
    (void) arg, (void) database, (void) trigger;
    switch (action) {
    case SQLITE_SELECT: case SQLITE_READ: case SQLITE_RECURSIVE: case SQLITE_TRANSACTION:
    case SQLITE_SAVEPOINT:
        return SQLITE_OK;
    case SQLITE_FUNCTION:
        return two && (strcmp (two, "load_extension") == 0 || strcmp (two, "fts3_tokenizer") == 0)
                   ? SQLITE_DENY : SQLITE_OK;
    case SQLITE_PRAGMA:
        for (size_t n = 0; n < sizeof harmless / sizeof *harmless; n++)
            if (one && strcmp (one, harmless [n]) == 0)
                return SQLITE_OK;
        return SQLITE_DENY;
    }
    return SQLITE_DENY;
}

static bool
s_failed (contact_t *self, sqlite3 *db)
{
    char code [16];
    snprintf (code, sizeof code, "%d", sqlite3_extended_errcode (db));
    if (sqlite3_errcode (db) == SQLITE_NOMEM)
        return contact_fail (self, TOO_LARGE, "the statement needs more than %d MiB of memory",
                             HEAP_MAX >> 20);
    if (sqlite3_errcode (db) == SQLITE_TOOBIG)
        return contact_fail (self, TOO_LARGE, "a value is larger than %d MiB", ROW_MAX >> 20);
    return contact_fail (self, code, "%s", sqlite3_errmsg (db));
}

//  So much memory, and no files to sort in.
static void
s_bound (sqlite3 *db)
{
    sqlite3_hard_heap_limit64 (HEAP_MAX);
    sqlite3_limit (db, SQLITE_LIMIT_LENGTH, ROW_MAX);
    sqlite3_limit (db, SQLITE_LIMIT_ATTACHED, 0);
    sqlite3_db_config (db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config (db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_exec (db, "PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0", NULL, NULL, NULL);
    sqlite3_busy_timeout (db, 2000);
}

static bool
s_open (contact_t *self)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;
    char *path = s_place (self);
    if (!path)
        return false;
    int code = sqlite3_open_v2 (path, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOFOLLOW
                                | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL);
    self->handle = db;
    free (path);
    if (code == SQLITE_OK) {
        s_bound (db);
        //  Only now is the file looked at.
        code = sqlite3_prepare_v2 (db, "SELECT count(*) FROM sqlite_schema", -1, &stmt, NULL);
        if (code == SQLITE_OK && sqlite3_step (stmt) != SQLITE_ROW)
            code = sqlite3_errcode (db);
        sqlite3_finalize (stmt);
        sqlite3_set_authorizer (db, s_allow, NULL);
    }
    if (code != SQLITE_OK)
        return contact_step_bad (self, "connect", "%s", sqlite3_errstr (code));
    contact_step_good (self, "connect", NULL);
    return true;
}

static void
s_close (contact_t *self)
{
    sqlite3_close_v2 (self->handle);
}

//  ---------------------------------------------------------------- statements

static cell_t
s_cell (sqlite3_stmt *stmt, int n, char *number)
{
    switch (sqlite3_column_type (stmt, n)) {
    case SQLITE_INTEGER:
        snprintf (number, 32, "%lld", (long long) sqlite3_column_int64 (stmt, n));
        return (cell_t) { CELL_INT, text_of (number) };
    case SQLITE_FLOAT:
        snprintf (number, 32, "%.17g", sqlite3_column_double (stmt, n));
        return (cell_t) { CELL_REAL, text_of (number) };
    case SQLITE_NULL:
        return (cell_t) { CELL_NULL, { NULL, 0 } };
    }
    bool bytes = sqlite3_column_type (stmt, n) == SQLITE_BLOB;
    const char *data =
        bytes ? sqlite3_column_blob (stmt, n) : (const char *) sqlite3_column_text (stmt, n);
    //  Without memory to make them there are no bytes, whatever their number is said to be.
    return (cell_t) { bytes ? CELL_BYTES : CELL_TEXT,
                      { data ? data : "", data ? (size_t) sqlite3_column_bytes (stmt, n) : 0 } };
}

static bool
s_rows (contact_t *self, sqlite3 *db, sqlite3_stmt *stmt, const sink_t *sink)
{
    int count = sqlite3_column_count (stmt), code = SQLITE_DONE;
    column_t *columns = xcalloc ((size_t) count + 1, sizeof *columns);
    cell_t *cells = xcalloc ((size_t) count + 1, sizeof *cells);
    char (*numbers) [32] = xcalloc ((size_t) count + 1, sizeof *numbers);
    for (int n = 0; n < count; n++) {
        const char *type = sqlite3_column_decltype (stmt, n);
        columns [n] =
            (column_t) { (char *) sqlite3_column_name (stmt, n), type ? (char *) type : "any" };
    }
    bool more = count == 0 || sink->columns (sink->arg, columns, count);
    while (more && (code = sqlite3_step (stmt)) == SQLITE_ROW) {
        for (int n = 0; n < count; n++)
            cells [n] = s_cell (stmt, n, numbers [n]);
        if ((code = sqlite3_errcode (db)) != SQLITE_ROW)
            break;
        more = sink->row (sink->arg, cells, count);
    }
    free (columns);
    free (cells);
    free (numbers);
    return code == SQLITE_DONE || !more || s_failed (self, db);
}

static void
s_bind (sqlite3_stmt *stmt, int at, const cell_t *param)
{
    if (param->kind == CELL_INT)
        sqlite3_bind_int64 (stmt, at, strtoll (param->text.data, NULL, 10));
    else if (param->kind == CELL_REAL)
        sqlite3_bind_double (stmt, at, strtod (param->text.data, NULL));
    else if (param->kind == CELL_BOOL)
        sqlite3_bind_int (stmt, at, *param->text.data == 't');
    else if (param->kind != CELL_NULL)
        sqlite3_bind_text (stmt, at, param->text.data, (int) param->text.size, SQLITE_STATIC);
}

static bool
s_query (contact_t *self, const char *sql, const cell_t *params, int count, const sink_t *sink)
{
    sqlite3 *db = self->handle;
    sqlite3_stmt *stmt = NULL, *second = NULL;
    const char *rest = NULL;
    if (sqlite3_prepare_v2 (db, sql, -1, &stmt, &rest) != SQLITE_OK) {
        self->position = sqlite3_error_offset (db) + 1;
        return s_failed (self, db);
    }
    //  Comments and blanks may follow, another statement not.
    int code = sqlite3_prepare_v2 (db, rest, -1, &second, NULL);
    sqlite3_finalize (second);
    bool good = !second && code == SQLITE_OK;
    if (!good)
        contact_fail (self, "", "only one statement at a time");
    else if (!stmt)
        good = contact_fail (self, "", "there is no statement");
    else if (sqlite3_bind_parameter_count (stmt) != count)
        good = contact_fail (self, "", "the statement has %d parameters, %d are given",
                          sqlite3_bind_parameter_count (stmt), count);
    for (int n = 0; good && n < count; n++)
        s_bind (stmt, n + 1, &params [n]);
    if (good)
        good = s_rows (self, db, stmt, sink);
    sqlite3_finalize (stmt);
    return good;
}

//  ---------------------------------------------------------------- what is there

static bool
s_find (contact_t *self, const finder_t *finder)
{
    static const char sql [] =
        "SELECT 'main', m.name, m.type, NULL, c.name, coalesce (nullif (c.type, ''), 'any'), "
        "c.\"notnull\" = 0"
        " FROM sqlite_schema m, pragma_table_info (m.name) c"
        " WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        " ORDER BY m.name, c.cid";
    //  Pragmas as tables ask for more than users may; this statement is ours.
    sqlite3_set_authorizer (self->handle, NULL, NULL);
    bool good = contact_list (self, sql, finder);
    sqlite3_set_authorizer (self->handle, s_allow, NULL);
    return good;
}

const connector_t connector_sqlite_file = { .name = "sqlite", .fields = sqlite_fields,
                                            .open = s_open, .close = s_close, .query = s_query,
                                            .find = s_find };
