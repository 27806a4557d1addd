//  sql.h -- named statements embedded from db/queries/<actor>.sql.
//
//  A file is a sequence of   -- :name some_statement   followed by comment lines (parameters,
//  what no row means) and one statement. Names are unique within an actor.

#ifndef SQL_H
#define SQL_H

#include <stddef.h>

typedef struct sql sql_t;

//  Embed a file:  SQL_FILE (clusters_sql, "db/queries/clusters.sql")  defines  const char
//  clusters_sql [] (terminated). Works with gcc and clang; the build runs in the root of the
//  tree.
#define SQL_FILE(symbol, file)                                          \
    __asm__ (".section .rodata\n.global " #symbol "\n" #symbol ":\n"    \
             ".incbin \"" file "\"\n.byte 0\n.previous\n");             \
    extern const char symbol []

//  Parse one or more terminated texts (NULL-terminated list). Aborts on a duplicate name or
//  malformed file: our bug.
sql_t *sql_new (const char *const *texts);
void sql_destroy (sql_t **self_p);
const char *sql_text (const sql_t *self, const char *name);       //  NULL when missing
size_t sql_count (const sql_t *self);
const char *sql_name (const sql_t *self, size_t position);

#endif
