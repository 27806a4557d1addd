//  trino_session.h -- what a user's statements have set at Trino (USE, SET SESSION, SET ROLE,
//  PREPARE), kept by us and sent along with the next one: Trino itself forgets.

#ifndef TRINO_SESSION_H
#define TRINO_SESSION_H

#include "proto/text.h"

typedef struct trino_session trino_session_t;

//  The session of a user, made when there is none; lives as long as the process.
trino_session_t *trino_session (const char *user);
//  A header of an answer; others than X-Trino-Set-… and the like are ignored.
void trino_session_hear (trino_session_t *self, text_t name, text_t value);
//  Each header to be sent, "Name: value", in the order of names.
void trino_session_each (const trino_session_t *self, void (*fn) (void *arg, const char *header),
                         void *arg);
//  Has it set a catalog, a schema?
bool trino_session_has (const trino_session_t *self, const char *header);

#endif
