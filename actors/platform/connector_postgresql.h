//  connector_postgresql.h -- what other kinds that speak PostgreSQL's protocol share with it.

#ifndef CONNECTOR_POSTGRESQL_H
#define CONNECTOR_POSTGRESQL_H

#include <libpq-fe.h>

#include "connector.h"

//  Bring a connection that was started (PQconnectStart) to its end; it is the contact's from now
//  on.
bool postgresql_login (contact_t *self, PGconn *conn);

#endif
