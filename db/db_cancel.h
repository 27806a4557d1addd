//  db_cancel.h -- tell PostgreSQL to stop what a session is doing, from a thread, for it blocks.

#ifndef DB_CANCEL_H
#define DB_CANCEL_H

#include <libpq-fe.h>

#include "../proto/loop.h"

typedef struct db_cancel db_cancel_t;

//  `done` runs on the loop thread once the word has reached the server; until then the connection
//  must not begin anything else, or that would be hit. The object lives until db_cancel_destroy.
db_cancel_t *db_cancel_start (loop_t *loop, PGconn *pg, loop_fn *done, void *arg);
//  End the session `pid` of the guest `role` (base.guest_terminate) as the role in `keeper`.
db_cancel_t *db_terminate_start (loop_t *loop, const char *keeper, const char *role, int pid,
                                 loop_fn *done, void *arg);
//  Waits for the thread. May be called from `done`.
void db_cancel_destroy (db_cancel_t **self_p);

#endif
