//  connector_mariadb.c -- MariaDB and MySQL as data sources, on libmariadb's calls that do not
//  block: whoever waits can be told to stop, and then the server is told so on a second connection.

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <mariadb/errmsg.h>
#include <mariadb/mysql.h>

#include "connector.h"

#define GRACE 5000           //  ms for a killed statement to end before we hang up
#define KILL_SECONDS 3
#define CELL_FIRST 256       //  bytes of a value of a prepared statement before it is asked again
#define PARAMS_MAX 100
#define BINARY 63            //  character set of bytes

static const config_field_t s_fields [] = {
    { "host", NULL, CONFIG_REQUIRED | CONFIG_ADDRESS },
    { "port", NULL, CONFIG_PORT | CONFIG_ADDRESS, NULL, "3306" },
    { "database", "dbname", 0 },
    { "user", "username", CONFIG_REQUIRED | CONFIG_ADDRESS },
    { "password", NULL, CONFIG_SECRET },
    { "sslmode", NULL, CONFIG_ADDRESS, "disable|require", "disable" },
    { 0 } };

//  ---------------------------------------------------------------- waiting

typedef struct {
    MYSQL mysql;
    bool stopped;
} server_t;

static void
s_options (contact_t *self, MYSQL *mysql)
{
    my_bool yes = 1, no = 0;
    unsigned off = 0;
    unsigned long packet = ROW_MAX;
    mysql_options (mysql, MYSQL_OPT_MAX_ALLOWED_PACKET, &packet);
    mysql_options (mysql, MYSQL_SET_CHARSET_NAME, "utf8mb4");
    mysql_options (mysql, MYSQL_OPT_LOCAL_INFILE, &off);
    mysql_options (mysql, MYSQL_OPT_RECONNECT, &no);
    //  Newer libraries do it by default, and by the address instead of the name.
    mysql_options (mysql, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &no);
    if (strcmp (contact_text (self, "sslmode"), "require") == 0)
        mysql_options (mysql, MYSQL_OPT_SSL_ENFORCE, &yes);
    //  Passwords in the clear are only for a connection that is not.
    mysql_options (mysql, MYSQL_INIT_COMMAND, self->read_only
                   ? "SET SESSION TRANSACTION READ ONLY" : "SET NAMES utf8mb4");
}

//  KILL QUERY on a connection of its own, to the same address.
static void
s_kill (contact_t *self, server_t *server)
{
    MYSQL other;
    char text [64];
    unsigned seconds = KILL_SECONDS;
    mysql_init (&other);
    s_options (self, &other);
    mysql_options (&other, MYSQL_OPT_CONNECT_TIMEOUT, &seconds);
    mysql_options (&other, MYSQL_OPT_READ_TIMEOUT, &seconds);
    if (mysql_real_connect (&other, self->address, contact_text (self, "user"),
                            contact_text (self, "password"), NULL, (unsigned) atoi (self->port),
                            NULL, 0)) {
        snprintf (text, sizeof text, "KILL QUERY %lu", mysql_thread_id (&server->mysql));
        mysql_query (&other, text);
    }
    mysql_close (&other);
}

//  What the library wants to wait for, as it wants to be told. A server that does not even end when
//  it is killed is hung up on.
static int
s_wait (contact_t *self, int status)
{
    server_t *server = self->handle;
    int fd = mysql_get_socket (&server->mysql);
    short events = (short) ((status & MYSQL_WAIT_READ ? POLLIN : 0)
                            | (status & MYSQL_WAIT_WRITE ? POLLOUT : 0)
                            | (status & MYSQL_WAIT_EXCEPT ? POLLPRI : 0));
    for (;;) {
        int64_t left = server->stopped ? GRACE : contact_left (self);
        int seen = left ? contact_wait (self, fd, events, left) : 0;
        if (seen > 0)
            return (seen & (POLLIN | POLLHUP | POLLERR) ? status & MYSQL_WAIT_READ : 0)
                   | (seen & (POLLOUT | POLLERR) ? status & MYSQL_WAIT_WRITE : 0)
                   | (seen & POLLPRI ? MYSQL_WAIT_EXCEPT : 0);
        //  Who has not even let us in has nothing to end.
        if (server->stopped || mysql_thread_id (&server->mysql) == 0) {
            self->lost = server->stopped;
            shutdown (fd, SHUT_RDWR);
            return status;
        }
        server->stopped = true;
        s_kill (self, server);
    }
}

//  One call of the library and its continuations.
#define AWAIT(self, start, go_on)                           \
    for (int status_ = start; status_;) {                   \
        int seen_ = s_wait (self, status_);                 \
        status_ = go_on;                                    \
    }

static bool
s_failed (contact_t *self, unsigned number, const char *text)
{
    server_t *server = self->handle;
    if (server->stopped && contact_stopped (self))
        return false;
    char code [16];
    snprintf (code, sizeof code, "%u", number);
    //  The library says that the connection is lost, or nothing; but the network had no part in it.
    bool lost = number == 0 || number == CR_SERVER_LOST;
    if (number == CR_NET_PACKET_TOO_LARGE || (lost && server->mysql.net.error == 1))
        return contact_fail (self, TOO_LARGE, "a row is larger than %d MiB", ROW_MAX >> 20);
    return contact_fail (self, code, "%s", *text ? text : "connection lost");
}

//  ---------------------------------------------------------------- logging in

static bool
s_open (contact_t *self)
{
    server_t *server = self->handle = xcalloc (1, sizeof *server);
    MYSQL *mysql = &server->mysql, *good = NULL;
    unsigned long flags = 0;             //  one statement at a time
    mysql_init (mysql);
    mysql_options (mysql, MYSQL_OPT_NONBLOCK, 0);
    s_options (self, mysql);
    AWAIT (self,
           mysql_real_connect_start (&good, mysql, self->address, contact_text (self, "user"),
                                     contact_text (self, "password"),
                                     contact_text (self, "database"), (unsigned) atoi (self->port),
                                     NULL, flags),
           mysql_real_connect_cont (&good, mysql, seen_));
    if (!good) {
        unsigned number = mysql_errno (mysql);
        //  2026: our side could not agree on TLS. 2000 to 2999 otherwise: whoever answers is no
        //  server.
        const char *text = number >= 2000 && number < 3000 && number != 2026
                               ? "the server does not answer as MariaDB or MySQL does"
                               : mysql_error (mysql);
        return contact_step_bad (self, number == 2026 ? "tls" : "auth", "%s", text);
    }
    const char *cipher = mysql_get_ssl_cipher (mysql);
    if (cipher)
        contact_step_good (self, "tls", cipher);
    contact_step_good (self, "auth", NULL);
    return true;
}

static void
s_close (contact_t *self)
{
    server_t *server = self->handle;
    //  Saying good-bye must not wait for one who does not read.
    if (server->stopped)
        shutdown (mysql_get_socket (&server->mysql), SHUT_RDWR);
    mysql_close (&server->mysql);
    free (server);
}

//  ---------------------------------------------------------------- values

static const struct {
    enum enum_field_types type;
    cell_kind_t kind;
    char *name;
} s_types [] = { { MYSQL_TYPE_TINY, CELL_INT, "tinyint" },
                { MYSQL_TYPE_SHORT, CELL_INT, "smallint" },
                { MYSQL_TYPE_LONG, CELL_INT, "int" },
                { MYSQL_TYPE_LONGLONG, CELL_INT, "bigint" },
                { MYSQL_TYPE_INT24, CELL_INT, "mediumint" },
                { MYSQL_TYPE_YEAR, CELL_INT, "year" },
                { MYSQL_TYPE_FLOAT, CELL_REAL, "float" },
                { MYSQL_TYPE_DOUBLE, CELL_REAL, "double" },
                { MYSQL_TYPE_NEWDECIMAL, CELL_TEXT, "decimal" },
                { MYSQL_TYPE_DATE, CELL_TEXT, "date" },
                { MYSQL_TYPE_TIME, CELL_TEXT, "time" },
                { MYSQL_TYPE_DATETIME, CELL_TEXT, "datetime" },
                { MYSQL_TYPE_TIMESTAMP, CELL_TEXT, "timestamp" },
                { MYSQL_TYPE_JSON, CELL_JSON, "json" },
                { MYSQL_TYPE_BIT, CELL_BYTES, "bit" },
                { MYSQL_TYPE_NULL, CELL_NULL, "null" } };

static cell_kind_t
s_kind (const MYSQL_FIELD *field, char **name)
{
    for (size_t n = 0; n < sizeof s_types / sizeof *s_types; n++)
        if (s_types [n].type == field->type) {
            *name = s_types [n].name;
            return s_types [n].kind;
        }
    bool bytes = field->charsetnr == BINARY;
    bool large = field->type == MYSQL_TYPE_BLOB;
    *name = bytes ? (large ? "blob" : "binary") : large ? "text" : "varchar";
    return bytes ? CELL_BYTES : CELL_TEXT;
}

//  What the sink needs of a result, for both ways to get one.
typedef struct {
    int count;
    column_t *columns;
    cell_kind_t *kinds;
    cell_t *cells;
} shape_t;

static void
s_shape (shape_t *shape, MYSQL_RES *result)
{
    shape->count = (int) mysql_num_fields (result);
    shape->columns = xcalloc ((size_t) shape->count + 1, sizeof *shape->columns);
    shape->kinds = xcalloc ((size_t) shape->count + 1, sizeof *shape->kinds);
    shape->cells = xcalloc ((size_t) shape->count + 1, sizeof *shape->cells);
    const MYSQL_FIELD *fields = mysql_fetch_fields (result);
    for (int n = 0; n < shape->count; n++) {
        shape->columns [n].name = fields [n].name;
        shape->kinds [n] = s_kind (&fields [n], &shape->columns [n].type);
    }
}

static void
s_shape_free (shape_t *shape)
{
    free (shape->columns);
    free (shape->kinds);
    free (shape->cells);
}

//  Nobody wants the rest: a stream that is read to its end could take for ever.
static void
s_enough (contact_t *self)
{
    server_t *server = self->handle;
    if (!server->stopped)
        s_kill (self, server);
    server->stopped = true;
}

static void
s_tag (contact_t *self, my_ulonglong changed)
{
    snprintf (self->tag, sizeof self->tag, "OK %llu", (unsigned long long) changed);
}

//  ---------------------------------------------------------------- statements as text

static bool
s_rows (contact_t *self, MYSQL *mysql, MYSQL_RES *result, const sink_t *sink)
{
    shape_t shape;
    MYSQL_ROW row = NULL;
    s_shape (&shape, result);
    bool more = sink->columns (sink->arg, shape.columns, shape.count), good = true;
    for (;;) {
        AWAIT (self, mysql_fetch_row_start (&row, result),
               mysql_fetch_row_cont (&row, result, seen_));
        if (!row)
            break;
        const unsigned long *sizes = mysql_fetch_lengths (result);
        for (int n = 0; n < shape.count; n++)
            shape.cells [n] = row [n] ? (cell_t) { shape.kinds [n], { row [n], sizes [n] } }
                                      : (cell_t) { CELL_NULL, { NULL, 0 } };
        if (more && !(more = sink->row (sink->arg, shape.cells, shape.count)))
            s_enough (self);
    }
    if (mysql_errno (mysql) && more)
        good = s_failed (self, mysql_errno (mysql), mysql_error (mysql));
    s_shape_free (&shape);
    AWAIT (self, mysql_free_result_start (result), mysql_free_result_cont (result, seen_));
    return good;
}

static bool
s_query_text (contact_t *self, const char *sql, const sink_t *sink)
{
    MYSQL *mysql = &((server_t *) self->handle)->mysql;
    int code = 0;
    AWAIT (self, mysql_real_query_start (&code, mysql, sql, strlen (sql)),
           mysql_real_query_cont (&code, mysql, seen_));
    if (code)
        return s_failed (self, mysql_errno (mysql), mysql_error (mysql));
    MYSQL_RES *result = mysql_use_result (mysql);
    if (result)
        return s_rows (self, mysql, result, sink);
    if (mysql_field_count (mysql))
        return s_failed (self, mysql_errno (mysql), mysql_error (mysql));
    s_tag (self, mysql_affected_rows (mysql));
    return true;
}

//  ---------------------------------------------------------------- statements with parameters

typedef struct {
    MYSQL_BIND *binds;
    unsigned long *sizes;
    my_bool *nulls, *errors;
    char **rooms;
    unsigned long *room_sizes;
} cells_t;

static void
s_cells (cells_t *cells, int count)
{
    size_t items = (size_t) count + 1;
    cells->binds = xcalloc (items, sizeof *cells->binds);
    cells->sizes = xcalloc (items, sizeof *cells->sizes);
    cells->nulls = xcalloc (items, sizeof *cells->nulls);
    cells->errors = xcalloc (items, sizeof *cells->errors);
    cells->rooms = xcalloc (items, sizeof *cells->rooms);
    cells->room_sizes = xcalloc (items, sizeof *cells->room_sizes);
    for (int n = 0; n < count; n++) {
        cells->rooms [n] = xmalloc (CELL_FIRST);
        cells->room_sizes [n] = CELL_FIRST;
        cells->binds [n] = (MYSQL_BIND) { .buffer_type = MYSQL_TYPE_STRING,
                                        .buffer = cells->rooms [n],
                                        .buffer_length = CELL_FIRST,
                                        .length = &cells->sizes [n],
                                        .is_null = &cells->nulls [n],
                                        .error = &cells->errors [n] };
    }
}

static void
s_cells_free (cells_t *cells, int count)
{
    for (int n = 0; n < count; n++)
        free (cells->rooms [n]);
    free (cells->binds);
    free (cells->sizes);
    free (cells->nulls);
    free (cells->errors);
    free (cells->rooms);
    free (cells->room_sizes);
}

//  Values that did not fit are fetched again, into as much room as they need.
static void
s_cell (MYSQL_STMT *stmt, cells_t *cells, const shape_t *shape, int n)
{
    if (cells->nulls [n]) {
        shape->cells [n] = (cell_t) { CELL_NULL, { NULL, 0 } };
        return;
    }
    if (cells->sizes [n] > cells->room_sizes [n]) {
        cells->room_sizes [n] = cells->sizes [n];
        cells->rooms [n] = xrealloc (cells->rooms [n], cells->room_sizes [n]);
        cells->binds [n].buffer = cells->rooms [n];
        cells->binds [n].buffer_length = cells->room_sizes [n];
        mysql_stmt_fetch_column (stmt, &cells->binds [n], (unsigned) n, 0);
    }
    shape->cells [n] = (cell_t) { shape->kinds [n], { cells->rooms [n], cells->sizes [n] } };
}

static bool
s_stmt_rows (contact_t *self, MYSQL_STMT *stmt, MYSQL_RES *meta, const sink_t *sink)
{
    shape_t shape;
    cells_t cells;
    int code = 0;
    s_shape (&shape, meta);
    s_cells (&cells, shape.count);
    bool more = sink->columns (sink->arg, shape.columns, shape.count);
    mysql_stmt_bind_result (stmt, cells.binds);
    for (;;) {
        AWAIT (self, mysql_stmt_fetch_start (&code, stmt),
               mysql_stmt_fetch_cont (&code, stmt, seen_));
        if (code != 0 && code != MYSQL_DATA_TRUNCATED)
            break;
        for (int n = 0; n < shape.count; n++)
            s_cell (stmt, &cells, &shape, n);
        if (more && !(more = sink->row (sink->arg, shape.cells, shape.count)))
            s_enough (self);
        //  Rooms that grew are where the next row goes.
        mysql_stmt_bind_result (stmt, cells.binds);
    }
    s_cells_free (&cells, shape.count);
    s_shape_free (&shape);
    return code == MYSQL_NO_DATA || !more
           || s_failed (self, mysql_stmt_errno (stmt), mysql_stmt_error (stmt));
}

static bool
s_stmt_run (contact_t *self, MYSQL_STMT *stmt, const char *sql, MYSQL_BIND *binds, int count,
            const sink_t *sink)
{
    int code = 0;
    AWAIT (self, mysql_stmt_prepare_start (&code, stmt, sql, strlen (sql)),
           mysql_stmt_prepare_cont (&code, stmt, seen_));
    if (!code && mysql_stmt_param_count (stmt) != (unsigned long) count)
        return contact_fail (self, "", "the statement has %lu parameters, %d are given",
                          mysql_stmt_param_count (stmt), count);
    if (!code)
        code = mysql_stmt_bind_param (stmt, binds);
    if (!code) {
        AWAIT (self, mysql_stmt_execute_start (&code, stmt),
               mysql_stmt_execute_cont (&code, stmt, seen_));
    }
    if (code)
        return s_failed (self, mysql_stmt_errno (stmt), mysql_stmt_error (stmt));
    MYSQL_RES *meta = mysql_stmt_result_metadata (stmt);
    bool good = true;
    if (meta)
        good = s_stmt_rows (self, stmt, meta, sink);
    else
        s_tag (self, mysql_stmt_affected_rows (stmt));
    if (meta)
        mysql_free_result (meta);
    return good;
}

static bool
s_query (contact_t *self, const char *sql, const cell_t *params, int count, const sink_t *sink)
{
    if (count == 0)
        return s_query_text (self, sql, sink);
    if (count > PARAMS_MAX)
        return contact_fail (self, "", "at most %d parameters", PARAMS_MAX);
    MYSQL_BIND *binds = xcalloc ((size_t) count, sizeof *binds);
    for (int n = 0; n < count; n++) {
        bool null = params [n].kind == CELL_NULL;
        binds [n] = (MYSQL_BIND) { .buffer_type = null ? MYSQL_TYPE_NULL : MYSQL_TYPE_STRING,
                                   .buffer = (void *) params [n].text.data,
                                   .buffer_length = params [n].text.size };
    }
    MYSQL_STMT *stmt = mysql_stmt_init (&((server_t *) self->handle)->mysql);
    bool good = s_stmt_run (self, stmt, sql, binds, count, sink);
    my_bool closed;
    AWAIT (self, mysql_stmt_close_start (&closed, stmt),
           mysql_stmt_close_cont (&closed, stmt, seen_));
    free (binds);
    return good;
}

//  ---------------------------------------------------------------- what is there

//  To its information_schema "Items" is "items", and they may both be there.
static bool
s_find (contact_t *self, const finder_t *finder)
{
    static const char sql [] =
        "SELECT c.TABLE_SCHEMA, c.TABLE_NAME, IF(t.TABLE_TYPE LIKE '%VIEW', 'view', 'table'),"
        " t.TABLE_ROWS, c.COLUMN_NAME, c.COLUMN_TYPE, c.IS_NULLABLE"
        " FROM information_schema.COLUMNS c JOIN information_schema.TABLES t"
        " ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME"
        " AND CAST(t.TABLE_SCHEMA AS BINARY) = CAST(c.TABLE_SCHEMA AS BINARY)"
        " AND CAST(t.TABLE_NAME AS BINARY) = CAST(c.TABLE_NAME AS BINARY)"
        " WHERE c.TABLE_SCHEMA NOT IN ('information_schema', 'performance_schema', 'mysql', 'sys')"
        " ORDER BY CAST(c.TABLE_SCHEMA AS BINARY), CAST(c.TABLE_NAME AS BINARY),"
        " c.ORDINAL_POSITION";
    return contact_list (self, sql, finder);
}

const connector_t connector_mariadb = { .name = "mariadb", .fields = s_fields, .quote = "`",
                                        .open = s_open, .close = s_close, .query = s_query,
                                        .find = s_find };
const connector_t connector_mysql = { .name = "mysql", .fields = s_fields, .quote = "`",
                                      .open = s_open, .close = s_close, .query = s_query,
                                      .find = s_find };
