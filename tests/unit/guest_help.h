//  guest_help.h -- two guests in a database of their own, for tests: they ask, and say what they
//  heard.

#ifndef GUEST_HELP_H
#define GUEST_HELP_H

#include "db/guest.h"
#include "tests/unit/db_help.h"

#define ANN "guest_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define BOB "guest_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define SECRET "a password of a guest"

//  Limits that are in nobody's way.
#define HELP_LIMITS ((guest_limits_t) { 8000, 100, 65536 })

//  Of one statement; `value` is the first one of the first row.
typedef struct {
    size_t done, rows, columns;
    error_code_t code;
    char sqlstate [6], text [128], tag [32], value [128];
    bool truncated, cancelled, unknown;
} heard_t;

//  Both databases, guests and a keeper on a server; false when none was named. Ends the program
//  where they cannot be made.
bool help_guests (void);
void help_guests_drop (void);

//  The database beside theirs, which is none of theirs.
const char *help_main_database (void);

//  How a guest of that name comes in.
guest_conf_t help_guest (const char *role);

//  What it hears of one statement; help_begin does not wait for it, and help_ask* want no loop.
guest_t *help_begin (loop_t *loop, const guest_conf_t *conf, const char *sql,
                     guest_limits_t limits, heard_t *heard);
heard_t help_hear (loop_t *loop, const guest_conf_t *conf, const char *sql, guest_limits_t limits);
heard_t help_ask_limited (const char *role, const char *sql, guest_limits_t limits);
heard_t help_ask (const char *role, const char *sql);

//  With that tag (NULL: any), and refused with that SQLSTATE.
void help_allowed (const char *role, const char *sql, const char *tag);
void help_denied (const char *role, const char *sql, const char *sqlstate);

//  As the keeper: a connection, and whether it may run that.
PGconn *help_keeper (void);
bool help_keeper_may (PGconn *pg, const char *text);

#endif
