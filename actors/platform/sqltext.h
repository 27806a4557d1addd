//  sqltext.h -- SQL as text: where parameters stand in it, and what kind of statement it is.

#ifndef SQLTEXT_H
#define SQLTEXT_H

#include "proto/text.h"

//  Behind the text, name, comment or dollar-quoted text that begins at `at`; `at` when none does.
size_t sql_skip (const char *sql, size_t at);

//  Write `sql` with each :name replaced by $n; `number` (arg, name) answers n from 1, or 0 for an
//  unknown name: then false, and `unknown` is that name.
bool sql_name_marks (const char *sql, int (*number) (void *arg, text_t name), void *arg, buf_t *out,
                     text_t *unknown);

//  The highest n of $n, 0: there is none.
unsigned long sql_marks (const char *sql);

//  Does it only read, as far as its text tells?
bool sql_is_read (const char *sql);
//  May it name a table at all? One that does not has no lineage.
bool sql_names_tables (const char *sql);

//  Cut off blanks and semicolons at the end.
text_t sql_trim (text_t sql);

#endif
