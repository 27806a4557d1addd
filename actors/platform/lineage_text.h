//  lineage_text.h -- statements that make a table or a view out of a query: PostgreSQL plans the
//  query alone, and what is made of it stands only in the text.

#ifndef LINEAGE_TEXT_H
#define LINEAGE_TEXT_H

#include "proto/text.h"

typedef struct {
    char *schema;            //  NULL: not named
    char *name;              //  NULL: it makes nothing
    const char *operation;   //  "create table", "create view"
    text_t query;            //  inside of the statement
} made_t;

//  CREATE TABLE … AS, CREATE [MATERIALIZED] VIEW … AS; not what ends with the session. False: none
//  of them.
bool made_read (made_t *self, const char *sql);
void made_free (made_t *self);

#endif
