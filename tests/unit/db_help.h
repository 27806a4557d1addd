//  db_help.h -- a database for tests: BUSBAR_TEST_DATABASE names a server on which everything is
//  allowed (tests/api/pg_fixture.py starts one).

#ifndef DB_HELP_H
#define DB_HELP_H

#include "db/db.h"

//  Parameters of a statement, and how many.
#define P(...) ((const char *const []) { __VA_ARGS__ }), \
    sizeof ((const char *const []) { __VA_ARGS__ }) / sizeof (char *)

//  A fresh database with the base migration and the schema and role `unit`, or NULL when no
//  server was named, which it says. Its superuser connection string.
const char *help_database (void);
void help_drop (void);

//  The role's lanes, on a loop of their own.
typedef struct {
    loop_t *loop;
    sql_t *sql;
    db_t *db;
    size_t ready, done;          //  who is done, a test counts
    char error [256];            //  that start-up told, or ""
} help_lanes_t;

//  Ready, or refused, once help_lanes_start returns. Before it a gatherer can be set.
void help_lanes_new (help_lanes_t *lanes, const char *statements, int64_t statement_timeout);
void help_lanes_start (help_lanes_t *lanes);
void help_lanes_end (help_lanes_t *lanes);

//  Blocking, as the superuser; the first value of the result, or "" (static memory). Aborts
//  on errors.
const char *help_sql (const char *format, ...) __attribute__ ((format (printf, 1, 2)));

//  Connection string `base` with other parts put behind it.
void help_conninfo (char *out, size_t size, const char *base, const char *more);

//  Turn the loop until `*flag` is at least `least`; false after a minute.
bool help_until (loop_t *loop, const size_t *flag, size_t least);

#endif
