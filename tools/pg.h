//  pg.h -- which PostgreSQL we use: one given by the environment, or a private one under var/pg.

#ifndef PG_H
#define PG_H

#include "busbar.h"
#include "super.h"

#define PG_OWNER "busbar_owner"          //  bootstrap role of the private one
#define PG_DATABASE "busbar"
#define PG_GUEST_DATABASE "busbar_guest"

typedef struct {
    bool private;                //  ours to start and stop
    char *bin;                   //  directory of postgres and initdb; NULL when not private
    char *owner;                 //  conninfo of the bootstrap role, with its password
    char *plain;                 //  the same without user and password
    char *database;              //  its name
} pg_t;

//  The rows for an options table that say which PostgreSQL: DATABASE_URL and its relatives.
#define PG_OPTIONS \
    { "database-url", OPT_STR, NULL, OPT_SECRET, "DATABASE_URL", \
      "PostgreSQL to use instead of the private one", NULL }, \
    { "db-host", OPT_STR, NULL, 0, "POSTGRES_SERVER|DB_HOST", "its host, in parts", NULL }, \
    { "db-port", OPT_STR, NULL, 0, "POSTGRES_PORT|DB_PORT", "its port", NULL }, \
    { "db-name", OPT_STR, NULL, 0, "POSTGRES_DB|DB_NAME", "its database", NULL }, \
    { "db-user", OPT_STR, NULL, 0, "POSTGRES_USER|DB_USER", "its bootstrap role", NULL }, \
    { "db-password", OPT_STR, NULL, OPT_SECRET, "POSTGRES_PASSWORD|DB_PASSWORD", \
      "password of that role", NULL }

//  Find out. Makes the private one's password. False after a message on stderr.
bool pg_open (pg_t *self, const place_t *place, const opt_t *options);
void pg_close (pg_t *self);

//  Is the private cluster there (initdb came to its end)?
bool pg_made (const place_t *place);
//  Start initdb as a job; `done` calls pg_keep after exit code 0. False after a message.
bool pg_make (const pg_t *self, const place_t *place, super_t *super,
              void (*done) (void *arg, int code), void *arg);
bool pg_keep (const place_t *place);
//  Write its settings (at each start: they belong to this version) and start it.
bool pg_serve (const pg_t *self, const place_t *place, super_t *super);

//  Wait, blocking, until the bootstrap role can log in. False after a message: not within `ms`.
bool pg_wait (const pg_t *self, int ms);

#endif
