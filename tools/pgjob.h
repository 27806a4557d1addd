//  pgjob.h -- commands that need the database but no bus: they use what runs, or start the private
//  PostgreSQL for as long as they take.

#ifndef PGJOB_H
#define PGJOB_H

#include <libpq-fe.h>

#include "pg.h"

typedef int (pgjob_fn) (const place_t *place, const pg_t *pg, void *arg);

//  Run `work` with PostgreSQL answering; its exit code. `alone`: refused while `busbar up` runs
//  here. Standard output is the command's own in either case.
int pgjob_run (const char *var, const opt_t *options, bool alone, pgjob_fn *work, void *arg);

//  Connect as the bootstrap role; database NULL: ours. NULL after a message. Blocking.
PGconn *pgjob_connect (const pg_t *pg, const char *database);
//  Run statements, or complain with what PostgreSQL said.
bool pgjob_execute (PGconn *connection, const char *sql);

//  Run one of PostgreSQL's programs (name first in argv) connected as the bootstrap role to
//  `database`. The password goes by descriptor, the rest by environment. Its exit code.
int pgjob_program (const pg_t *pg, const char *database, char *const *argv);
//  Run any other program, found on PATH. Its exit code.
int pgjob_spawn (char *const *argv);

#endif
