//  guests.h -- the guest database (db/guest.h) as its keepers see it: actors that run what users
//  wrote.

#ifndef GUESTS_H
#define GUESTS_H

#include "req.h"

#define GUESTS_DATABASE "busbar_guest"

//  Connection strings, to be freed: of the server, to which a guest's database, name and password
//  are added; and our own to the guest database.
char *guests_server (const struct actor *actor);
char *guests_keeper (const struct actor *actor);

//  Ask as keeper: what a statement with one value answers, NULL: it failed, which is logged. $1
//  role, $2 password, unless NULL.
CO const char *guests_ask (req_t *req, const char *statement, const char *role,
                           const char *password);
//  Do the tables of a guest take `limit` MiB or more? False when that can't be told now.
CO bool guests_over (req_t *req, const char *role, int64_t limit, bool *over);

#endif
