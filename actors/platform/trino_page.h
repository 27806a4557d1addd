//  trino_page.h -- what travels between us and Trino, as texts: no connection is needed to look at
//  it.

#ifndef TRINO_PAGE_H
#define TRINO_PAGE_H

#include "engine.h"

//  What is sent for a run: its statement, with parameters by EXECUTE IMMEDIATE. NULL: it names one
//  that was not given. In the request's memory.
const char *trino_text (engine_run_t *run);
//  Id, progress, counts of an answer.
void trino_note (engine_run_t *run, mp_t page);
//  Columns and rows of an answer, within the limits of the run; `rows_so_far` and `bytes_so_far`
//  rise. NULL, or what is wrong with it.
const char *trino_rows (engine_run_t *run, mp_t page, size_t *rows_so_far, size_t *bytes_so_far,
                        buf_t *rows, size_t *count);
//  Is that status how Trino, or a proxy before it, says: the same again, in a moment?
bool trino_is_busy (int status);
//  Scheme, host and port as Trino itself writes them: without a port that goes without saying. To
//  be freed.
char *trino_base (const char *host, const char *port, bool https);
//  Does a nextUri lead there, and nowhere else?
bool trino_leads (const char *base, text_t next);
//  Characters from 1 of a line and column, both from 1.
int trino_position (const char *sql, int64_t line, int64_t column);

#endif
