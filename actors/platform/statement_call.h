//  statement_call.h -- what the requests on statements share.

#ifndef STATEMENT_CALL_H
#define STATEMENT_CALL_H

#include "statement.h"

typedef enum { BEGIN_SHARED, BEGIN_ALONE, BEGIN_EXPLAIN, BEGIN_STREAM } begin_t;

typedef struct {
    const char *id;
    bool shared;                 //  it ran already
    //  It has ended: what statement_get answers, and, until the request ends, itself.
    row_t row;
    const statement_t *ended;    //  NULL: it goes on
} begun_t;

//  Begin what the request asks for, which waits so many ms for its end. False: another instance has
//  answered. BEGIN_SHARED and BEGIN_EXPLAIN may answer a statement that runs already.
CO bool statement_begin (req_t *req, const char *method, begin_t how, int64_t wait, begun_t *out);
//  The last parameters of statement_add, from the state on; its end and rows when these wait for
//  the row.
#define STATEMENT_ENDING 15
void statement_ending (const statement_t *self, const char *params [STATEMENT_ENDING]);
//  Take the claim of a user; what was begun under an older one is lost.
CO void statement_claim (req_t *req, const char *user);
//  To be given back once nothing of the user's runs, and what is stored of theirs to be looked at.
void statement_claimed (const char *user);
//  A cluster named by a field is the user's own; 404 on the field else.
CO void cluster_check (req_t *req, const char *user, const char *field);

//  ---------------------------------------------------------------- statement_result.c

//  The "name": of each column, from columns as JSON; in request memory.
const text_t *result_keys (req_t *req, text_t columns, size_t *count);
//  Append rows of lines as JSON objects, with commas between (and before the first, when `comma`):
//  `most` at most, behind the first `skip`. How many.
size_t result_objects (req_t *req, text_t lines, text_t columns, size_t skip, size_t most,
                       bool comma, buf_t *out);
//  {columns, rows, rowCount, …} as ready JSON: a first page that fits into an answer.
CO mp_t result_data (req_t *req, const statement_t *here, row_t row);

#endif
