//  work.h -- threads for conversations with data sources: they may last for minutes, so they do not
//  take the two that the kit offloads to.

#ifndef WORK_H
#define WORK_H

#include "actors/kit/actor.h"

#define WORK_MAX 32          //  at once in a process
#define WORK_MAX_EACH 8      //  for one user

//  Run fn (arg) on a thread of its own, for a user (UUID); false: too many run.
bool work_start (const char *user, void (*fn) (void *arg), void *arg);
//  The same, and wait for its end.
CO bool work_run (req_t *req, const char *user, void (*fn) (void *arg), void *arg);

#endif
