//  engine.c -- what all engines share.

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine.h"
#include "statement.h"

static engine_sources_t *s_sources;
static engine_noted_t *s_noted;

void
engine_use_sources (engine_sources_t *sources)
{
    s_sources = sources;
}

void
engine_use_notes (engine_noted_t *noted)
{
    s_noted = noted;
}

void
engine_note (const engine_run_t *run)
{
    if (s_noted)
        s_noted (run);
}

const engine_t *
engine_of_source (req_t *req, const char *user, const char *source, void **target)
{
    if (!s_sources)
        fail_field (req, E_NOT_FOUND, "source_id", "no such data source");
    return s_sources (req, user, source, target);
}

engine_step_t
engine_fail (engine_run_t *run, engine_fault_t fault, const char *code, const char *format, ...)
{
    char text [1024];
    va_list arguments;
    va_start (arguments, format);
    vsnprintf (text, sizeof text, format, arguments);
    va_end (arguments);
    run->fault = fault;
    run->code = req_copy (run->req, text_of (code ? code : ""));
    run->message = req_copy (run->req, text_of (text));
    return ENGINE_FAILED;
}

//  The number behind "name_"; 0: it is another name.
static long long
s_suffix (const char *column, const char *name, size_t size)
{
    const char *digits = column + size + 1;
    if (strncmp (column, name, size) != 0 || column [size] != '_' || !*digits
        || strlen (digits) > 15 || strspn (digits, "0123456789") != strlen (digits))
        return 0;
    return strtoll (digits, NULL, 10);
}

//  In one pass: a thousand columns of the same name are nothing that anybody should wait for.
char *
engine_column_name (req_t *req, const engine_column_t *columns, size_t count, const char *name)
{
    size_t size = strlen (name);
    long long most = 1;
    bool taken = false;
    for (size_t n = 0; n < count; n++) {
        long long number = s_suffix (columns [n].name, name, size);
        most = number > most ? number : most;
        taken |= strcmp (columns [n].name, name) == 0;
    }
    if (!taken)
        return req_copy (req, text_of (name));
    return engine_column_name (req, columns, count, req_print (req, "%s_%lld", name, most + 1));
}
