//  connector_postgresql.c -- PostgreSQL as a data source, on libpq: fixed keywords, the address
//  that was judged, one statement at a time by the extended protocol, rows one by one.

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include <libpq-fe.h>

#include "connector_postgresql.h"
#include "sip.h"

#define NO_FILE "/dev/null/none"
#define GRACE 5000           //  ms for a cancelled statement to end before we hang up

static const config_field_t s_fields [] = {
    { "host", NULL, CONFIG_REQUIRED | CONFIG_ADDRESS },
    { "port", NULL, CONFIG_PORT | CONFIG_ADDRESS, NULL, "5432" },
    { "database", "dbname", CONFIG_REQUIRED },
    { "user", "username", CONFIG_REQUIRED | CONFIG_ADDRESS },
    { "password", NULL, CONFIG_SECRET },
    { "sslmode", NULL, CONFIG_ADDRESS, "disable|prefer|require|verify-full", "prefer" },
    { 0 } };

typedef struct {
    PGconn *conn;
    sip_t sip;
    bool sips;                   //  it has begun
} server_t;

//  "FATAL:  no such role\nmore": the text of its last line.
static const char *
s_message (PGconn *conn, char *text, size_t size)
{
    snprintf (text, size, "%s", PQerrorMessage (conn));
    size_t length = strlen (text);
    while (length && text [length - 1] == '\n')
        text [--length] = 0;
    char *line = strrchr (text, '\n');
    line = line ? line + 1 : text;
    //  libpq names the address in front of what is wrong.
    char *failed = strstr (line, " failed: "), *fatal = strstr (line, "FATAL:  ");
    return fatal ? fatal + 8 : failed ? failed + 9 : line;
}

static PGconn *
s_start (contact_t *self)
{
    //  Where there is a file, "require" would look into it, too.
    bool verify = strcmp (contact_text (self, "sslmode"), "verify-full") == 0;
    const struct {
        const char *name, *value;
    } words [] = {
        { "host", contact_text (self, "host") },
        { "hostaddr", self->address },
        { "port", self->port },
        { "dbname", contact_text (self, "database") },
        { "user", contact_text (self, "user") },
        { "password", contact_text (self, "password") },
        { "sslmode", contact_text (self, "sslmode") },
        { "sslrootcert", verify ? self->reach.ca_file : NO_FILE },
        { "gssencmode", "disable" },
        { "passfile", "/dev/null" },
        { "client_encoding", "UTF8" },
        { "application_name", "busbar" },
        { "options", self->read_only ? "-c default_transaction_read_only=on -c TimeZone=UTC"
                                     : "-c TimeZone=UTC" } };
    const char *names [sizeof words / sizeof *words + 1] = { NULL };
    const char *values [sizeof words / sizeof *words + 1] = { NULL };
    for (size_t n = 0; n < sizeof words / sizeof *words; n++) {
        names [n] = words [n].name;
        values [n] = words [n].value;
    }
    return PQconnectStartParams (names, values, 0);
}

static bool
s_bad (contact_t *self, PGconn *conn, bool ssl)
{
    char text [300];
    return contact_step_bad (self, ssl ? "tls" : "auth", "%s", s_message (conn, text, sizeof text));
}

bool
postgresql_login (contact_t *self, PGconn *conn)
{
    bool ssl = false;
    server_t *server = self->handle = xcalloc (1, sizeof *server);
    server->conn = conn;
    if (!conn)
        abort ();
    for (PostgresPollingStatusType next = PGRES_POLLING_WRITING; next != PGRES_POLLING_OK;) {
        if (next == PGRES_POLLING_FAILED)
            return s_bad (self, conn, ssl);
        int64_t left = contact_left (self);
        int seen = left && PQsocket (conn) >= 0
                       ? contact_wait (self, PQsocket (conn),
                                    next == PGRES_POLLING_READING ? POLLIN : POLLOUT, left)
                       : PQsocket (conn) >= 0 ? 0 : 1;
        if (seen <= 0)
            return contact_step_bad (self, "auth", "the server does not answer as PostgreSQL does");
        next = PQconnectPoll (conn);
        //  Which part it was in is forgotten when it fails.
        if (next != PGRES_POLLING_FAILED)
            ssl = PQstatus (conn) == CONNECTION_SSL_STARTUP;
    }
    if (PQsslInUse (conn))
        contact_step_good (self, "tls", PQsslAttribute (conn, "protocol"));
    contact_step_good (self, "auth", NULL);
    PQsetErrorVerbosity (conn, PQERRORS_TERSE);
    server->sips = PQsetnonblocking (conn, 1) == 0 && sip_begin (&server->sip, PQsocket (conn));
    return server->sips || contact_fail (self, NULL, "no descriptor is left");
}

static bool
s_open (contact_t *self)
{
    return postgresql_login (self, s_start (self));
}

static void
s_close (contact_t *self)
{
    server_t *server = self->handle;
    PQfinish (server->conn);
    if (server->sips)
        sip_end (&server->sip);
    free (server);
}

//  ---------------------------------------------------------------- statements

static cell_kind_t
s_kind (Oid type)
{
    switch (type) {
    case 16:
        return CELL_BOOL;
    case 20: case 21: case 23: case 26:
        return CELL_INT;
    case 700: case 701:
        return CELL_REAL;
    case 114: case 3802:
        return CELL_JSON;
    }
    return CELL_TEXT;
}

static bool
s_columns (const PGresult *result, const sink_t *sink)
{
    int count = PQnfields (result);
    column_t *columns = xcalloc ((size_t) count + 1, sizeof *columns);
    char (*types) [16] = xcalloc ((size_t) count + 1, sizeof *types);
    static const struct {
        Oid oid;
        char *name;
    } known [] = { { 16, "boolean" }, { 20, "bigint" }, { 21, "smallint" }, { 23, "integer" },
                   { 25, "text" }, { 700, "real" }, { 701, "double" }, { 1700, "numeric" },
                   { 1043, "varchar" }, { 1082, "date" }, { 1114, "timestamp" },
                   { 1184, "timestamptz" }, { 2950, "uuid" }, { 114, "json" }, { 3802, "jsonb" },
                   { 17, "bytea" } };
    for (int n = 0; n < count; n++) {
        columns [n] = (column_t) { PQfname (result, n), types [n] };
        snprintf (types [n], sizeof *types, "oid %u", PQftype (result, n));
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            if (known [k].oid == PQftype (result, n))
                columns [n].type = known [k].name;
    }
    bool more = sink->columns (sink->arg, columns, count);
    free (columns);
    free (types);
    return more;
}

static bool
s_row (const PGresult *result, const sink_t *sink)
{
    int count = PQnfields (result);
    cell_t *cells = xcalloc ((size_t) count + 1, sizeof *cells);
    for (int n = 0; n < count; n++)
        if (!PQgetisnull (result, 0, n)) {
            cells [n].kind = s_kind (PQftype (result, n));
            cells [n].text =
                (text_t) { PQgetvalue (result, 0, n), (size_t) PQgetlength (result, 0, n) };
            if (cells [n].kind == CELL_BOOL)
                cells [n].text = *cells [n].text.data == 't' ? TEXT ("true") : TEXT ("false");
        }
    bool more = sink->row (sink->arg, cells, count);
    free (cells);
    return more;
}

static void
s_stop (PGconn *conn)
{
    char why [256];
    PGcancel *cancel = PQgetCancel (conn);
    if (cancel)
        PQcancel (cancel, why, sizeof why);
    PQfreeCancel (cancel);
}

//  Until PQgetResult would not block. False: it does not answer any more, or with a row that is not
//  to be taken in.
static bool
s_ready (contact_t *self, bool *stopped)
{
    server_t *server = self->handle;
    PGconn *conn = server->conn;
    server->sip.arrived = 0;
    while (PQflush (conn) == 1 || PQisBusy (conn)) {
        int64_t left = *stopped ? GRACE : contact_left (self);
        int seen = left ? sip_wait (&server->sip, self, left) : 0;
        if (seen <= 0 && *stopped)
            return false;
        if (seen <= 0) {
            *stopped = true;
            s_stop (conn);
        } else if (!PQconsumeInput (conn))
            return false;
        if (server->sip.arrived > ROW_MAX && PQisBusy (conn)) {
            s_stop (conn);
            return contact_fail (self, TOO_LARGE, "a row is larger than %d MiB", ROW_MAX >> 20);
        }
    }
    return true;
}

//  As a constant of that kind would be; of texts PostgreSQL finds out itself what they are.
static Oid
s_oid (const cell_t *param)
{
    long long number = param->kind == CELL_INT ? strtoll (param->text.data, NULL, 10) : 0;
    switch (param->kind) {
    case CELL_BOOL:
        return 16;
    case CELL_INT:
        return number >= INT32_MIN && number <= INT32_MAX ? 23 : 20;
    case CELL_REAL:
        return 701;
    default:
        return 0;
    }
}

static bool
s_failed (contact_t *self, const PGresult *result)
{
    const char *text = PQresultErrorField (result, PG_DIAG_MESSAGE_PRIMARY),
               *position = PQresultErrorField (result, PG_DIAG_STATEMENT_POSITION),
               *state = PQresultErrorField (result, PG_DIAG_SQLSTATE);
    self->position = position ? atoi (position) : 0;
    return contact_fail (self, state, "%s", text ? text : "connection lost");
}

static bool
s_query (contact_t *self, const char *sql, const cell_t *params, int count, const sink_t *sink)
{
    PGconn *conn = ((server_t *) self->handle)->conn;
    const char **values = xcalloc ((size_t) count + 1, sizeof *values);
    Oid *types = xcalloc ((size_t) count + 1, sizeof *types);
    bool stopped = false, enough = false, good = true, told = false;
    for (int n = 0; n < count; n++) {
        values [n] = params [n].kind == CELL_NULL ? NULL : params [n].text.data;
        types [n] = s_oid (&params [n]);
    }
    int sent = PQsendQueryParams (conn, sql, count, types, values, NULL, NULL, 0);
    free (values);
    free (types);
    if (!sent)
        return contact_fail (self, "08006", "connection lost");
    PQsetSingleRowMode (conn);
    while (good || PQstatus (conn) == CONNECTION_OK) {
        if (!s_ready (self, &stopped)) {
            if (*self->error)
                return false;
            self->lost = true;
            return contact_stopped (self) ? false : contact_fail (self, "08006", "connection lost");
        }
        PGresult *result = PQgetResult (conn);
        if (!result)
            break;
        ExecStatusType status = PQresultStatus (result);
        bool rows = status == PGRES_SINGLE_TUPLE || status == PGRES_TUPLES_OK;
        if (rows && !told)
            enough = !s_columns (result, sink);
        told |= rows;
        if (status == PGRES_SINGLE_TUPLE && !enough)
            enough = !s_row (result, sink);
        if (enough && !stopped) {
            stopped = true;
            s_stop (conn);
        }
        if (rows || status == PGRES_COMMAND_OK)
            snprintf (self->tag, sizeof self->tag, "%s", PQcmdStatus (result));
        else if (!enough)
            good = s_failed (self, result);
        PQclear (result);
        if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH)
            return contact_fail (self, "0A000", "COPY is not possible here");
    }
    if (!good && stopped)
        contact_stopped (self);
    return good;
}

//  ---------------------------------------------------------------- what is there

static bool
s_find (contact_t *self, const finder_t *finder)
{
    static const char sql [] =
        "SELECT n.nspname, c.relname, CASE WHEN c.relkind IN ('v', 'm') THEN 'view' ELSE 'table' "
        "END,"
        " CASE WHEN c.reltuples >= 0 AND c.relkind <> 'v' THEN c.reltuples::bigint END, a.attname,"
        " format_type (a.atttypid, a.atttypmod), NOT a.attnotnull"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_'"
        " AND n.nspname <> 'information_schema' AND has_table_privilege (c.oid, 'SELECT')"
        " ORDER BY 1, 2, a.attnum";
    return contact_list (self, sql, finder);
}

const connector_t connector_postgresql = { .name = "postgresql", .fields = s_fields, .quote = "\"",
                                           .open = s_open, .close = s_close, .query = s_query,
                                           .find = s_find };
