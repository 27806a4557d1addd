//  up.h -- what `busbar up` and `busbar migrate` share: the database before anybody serves.

#ifndef UP_H
#define UP_H

#include <stdio.h>

#include "pg.h"

typedef struct {
    const place_t *place;
    const pg_t *pg;
} prepare_t;

//  Wait for PostgreSQL, make databases, roles and passwords, migrate up. Blocking: the work of a
//  job. What it did becomes log lines. Exit code.
int prepare_database (void *prepare);

//  Make databases, roles and passwords only; messages on `out`.
bool prepare_server (const place_t *place, const pg_t *pg, FILE *out);
//  Directory of the migrations, or NULL after a message. The caller frees it.
char *prepare_migrations (const place_t *place);

#endif
