//  sqlite_child.h -- SQLite in a process of its own. It shares the memory and the processor of
//  nobody: some statements cannot be stopped but by its end, and what they use up is its own.
//
//  Both sides say frames: four bytes of size, and so much MessagePack, an array whose first value
//  is a number from here. Texts are binary, for a file may hold anything.

#ifndef SQLITE_CHILD_H
#define SQLITE_CHILD_H

#include "connector.h"

#define CHILD_OPTION "--sqlite"
#define CHILD_FRAME (4 * ROW_MAX)        //  bytes of a frame at most

enum {
    CHILD_OPEN = 1,      //  to the child: path, root
    CHILD_QUERY,         //  statement, and kind and text of each parameter
    CHILD_FIND,
    CHILD_STEP,          //  from the child: name, ok, ms, message
    CHILD_COLUMNS,       //  name and type of each
    CHILD_ROW,           //  kind and text of each cell
    CHILD_FOUND,         //  database, table, type of table, column, type, nullable
    CHILD_END            //  of what was asked: good, code, error, position
};

extern const config_field_t sqlite_fields [];
extern const connector_t connector_sqlite_file;

//  The child: asked on descriptor 0, answers there, ends with it.
int sqlite_main (void);

#endif
