//  error.c -- the table of errors, and where other numberings lead into it.

#include <stdlib.h>

#include "proto/error.h"

enum { NO, LATER };

static const struct {
    const char *name;
    int status;
    const char *text;
    int retry;
} errors [E_COUNT] = {
    [E_NONE] = { "NONE", 200, "no error", NO },
#define ERROR(code, http, text, retry) [E_##code] = { #code, http, text, retry },
#include "proto/error.def"
#undef ERROR
};

//  The longest prefix that fits decides, so it stands first.
static const struct {
    const char *prefix;
    error_code_t code;
} sqlstates [] = {
    { "23001", E_CONFLICT },           //  restrict: it is still referred to
    { "23503", E_NOT_FOUND },
    { "23505", E_CONFLICT },
    { "23P01", E_CONFLICT },           //  exclusion
    { "23502", E_INVALID },
    { "23514", E_INVALID },
    { "25006", E_UNAVAILABLE },        //  read only: a standby, not our server
    { "53100", E_STORAGE_FULL },
    { "54000", E_TOO_LARGE },
    { "55P03", E_UNAVAILABLE },        //  lock not available
    { "57014", E_TIMEOUT },            //  cancelled
    { "22", E_INVALID },               //  bad text, numbers out of range
    { "08", E_UNAVAILABLE },           //  connection
    { "40", E_UNAVAILABLE },           //  serialisation, deadlock
    { "53", E_UNAVAILABLE },           //  resources
    { "57", E_UNAVAILABLE },           //  shutdown, starting up
};

const char *
error_name (error_code_t code)
{
    return errors [code].name;
}

int
error_status (error_code_t code)
{
    return errors [code].status;
}

const char *
error_text (error_code_t code)
{
    return errors [code].text;
}

bool
error_retry (error_code_t code)
{
    return errors [code].retry == LATER;
}

error_code_t
error_by_name (text_t name)
{
    for (error_code_t code = E_NONE + 1; code < E_COUNT; code++)
        if (text_is (name, errors [code].name))
            return code;
    return E_INTERNAL;
}

error_code_t
error_by_status (int status)
{
    if (status < 400)
        return E_NONE;
    for (error_code_t code = E_NONE + 1; code < E_COUNT; code++)
        if (errors [code].status == status)
            return code;
    return status < 500 ? E_INVALID : E_INTERNAL;
}

//  "U0409": what SQL of ours raises, by HTTP status.
static error_code_t
s_own_sqlstate (const char *digits)
{
    for (size_t n = 0; n < 3; n++)
        if (digits [n] < '0' || digits [n] > '9')
            return E_INTERNAL;
    error_code_t code = error_by_status (atoi (digits));
    return code == E_NONE ? E_INTERNAL : code;
}

error_code_t
error_by_sqlstate (const char *sqlstate)
{
    //  A result without a state was made by libpq: the connection is lost.
    if (!sqlstate || !*sqlstate)
        return E_UNAVAILABLE;
    if (strlen (sqlstate) == 5 && strncmp (sqlstate, "U0", 2) == 0)
        return s_own_sqlstate (sqlstate + 2);
    for (size_t n = 0; n < sizeof sqlstates / sizeof *sqlstates; n++)
        if (text_starts (text_of (sqlstate), sqlstates [n].prefix))
            return sqlstates [n].code;
    return E_INTERNAL;
}
