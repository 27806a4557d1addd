//  migrate.h -- the schema over time, for the command line: blocking, messages for people.
//
//  Files are NNNN_name.up.sql and NNNN_name.down.sql. Each runs in one transaction, and what ran is
//  kept in base.schema_migrations with its checksum: a file that was changed afterwards stops
//  everything. Two tools at once wait for each other (advisory lock). All answer 0, or 1 after a
//  message on `out`.

#ifndef MIGRATE_H
#define MIGRATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

//  Apply what is missing, in order; one line per file.
int migrate_up (const char *conninfo, const char *dir, FILE *out);
//  Take back the last `count` migrations.
int migrate_down (const char *conninfo, const char *dir, unsigned count, FILE *out);
//  One line per migration: applied when, pending, changed, or missing.
int migrate_status (const char *conninfo, const char *dir, FILE *out);
//  Make an empty pair of files with the next number; prints their names.
int migrate_new (const char *dir, const char *name, FILE *out);

//  A login role and its password. Roles that keep guests may make, drop and stop guest roles.
typedef struct {
    const char *name;            //  "busbar_clusters"
    const char *password;
    bool keeps_guests;
} db_role_t;

typedef struct {
    const char *server;  //  connection string of the bootstrap role; its database must exist
    const char *database;        //  "busbar"
    const char *guest_database;  //  "busbar_guest"; NULL: no guests
    const db_role_t *roles;
    size_t role_count;
    bool ours;  //  nobody else uses this server: its other databases are closed to guests
    bool guests;                 //  out: the guest database is ready (it takes a superuser)
} db_bootstrap_t;

//  Make what is missing: databases, roles, passwords (always set anew), the guest database's
//  functions and its fences. Before or after migrate_up, again and again.
int db_bootstrap (db_bootstrap_t *what, FILE *out);

#endif
