//  crew.h -- which processes make up a system, with what arguments, environment and secrets.

#ifndef CREW_H
#define CREW_H

#include "pg.h"
#include "super.h"

typedef struct {
    const place_t *place;
    const pg_t *pg;
    const opt_t *options;        //  of `busbar up`
    super_t *super;
    const char *host;
    int port;
    bool edge;                   //  out: is there an edge?
    char **actors;               //  out: names of the programs that were started; crew_free_names
} crew_t;

//  Programs busbar-NAME beside this executable that are actors; NULL-terminated, sorted;
//  crew_free_names.
char **crew_actors (const place_t *place);
void crew_free_names (char ***names_p);

//  Start broker, actors, Python actors, edges. False after a message: an option is wrong or a
//  file absent.
bool crew_start (crew_t *self);

//  Does the text after --instances make sense? False after a message.
bool crew_check (const place_t *place, const opt_t *options);

//  Environment and argument list of a Python program that speaks on the bus; NULL when there is
//  no Python package. Free with crew_free_names.
char **crew_python_environment (const place_t *place);

#endif
