//  db_help.h -- a database for tests: BUSBAR_TEST_DATABASE names a server on which everything is
//  allowed (tests/api/pg_fixture.py starts one).

#ifndef DB_HELP_H
#define DB_HELP_H

#include "db/db.h"

//  A fresh database with the base migration and the schema and role `unit`, or NULL when no
//  server was named. Its superuser connection string; help_actor gives that of the role.
const char *help_database (void);
const char *help_actor (void);
void help_drop (void);

//  Blocking, as the superuser; the first value of the result, or "" (static memory). Aborts
//  on errors.
const char *help_sql (const char *format, ...) __attribute__ ((format (printf, 1, 2)));

//  Connection string `base` with other parts put behind it.
void help_conninfo (char *out, size_t size, const char *base, const char *more);

//  Turn the loop until `*flag` is at least `least`; false after five seconds.
bool help_until (loop_t *loop, const size_t *flag, size_t least);

#endif
