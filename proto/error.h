//  error.h -- the codes that clients see, each once in error.def, and the map from SQLSTATE.

#ifndef ERROR_H
#define ERROR_H

#include "text.h"

typedef enum {
    E_NONE,
#define ERROR(code, http, text, retry) E_##code,
#include "error.def"
#undef ERROR
    E_COUNT
} error_t_;

typedef error_t_ error_code_t;

const char *error_name (error_code_t code);       //  "CONFLICT"
int error_status (error_code_t code);             //  409
const char *error_text (error_code_t code);       //  default text
bool error_retry (error_code_t code);             //  true: the same request may succeed later
error_code_t error_by_name (text_t name);         //  E_INTERNAL when unknown
error_code_t error_by_status (int status);        //  nearest code; E_NONE below 400

//  The code of a failed statement: unique and exclusion violations CONFLICT, foreign key
//  NOT_FOUND, check / not null / bad text INVALID, cancelled TIMEOUT, connection and resource
//  classes UNAVAILABLE, disk full STORAGE_FULL, our own class U0 ("U0409") the code of that HTTP
//  status, else INTERNAL.
error_code_t error_by_sqlstate (const char *sqlstate);

#endif
