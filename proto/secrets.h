//  secrets.h -- what a process must know and nobody else may see: `name=value` lines from an
//  inherited descriptor, kept out of swap and core dumps where the system allows, wiped at exit.

#ifndef SECRETS_H
#define SECRETS_H

//  Read all lines of `fd` and close it. -1: nothing was handed over, only the environment counts.
//  A later call replaces what an earlier one read. Lines without a `=` are skipped.
void secrets_read (int fd);

//  Value of a name ("db_password"), borrowed until the next secrets_read; NULL when absent. For
//  runs by hand the environment is asked for the name in upper case; jwt_secret answers to
//  JWT_SECRET_KEY and SECRET_KEY.
const char *secrets_get (const char *name);

#endif
