//  quiet.c -- what libwebsockets logs.
//
//  Debian 12 has a debug build of it: it logs every byte of every header, and finds out behind two
//  calls that nobody wants the line. The dynamic linker finds these two before the library's own.

#include <stdarg.h>
#include <stdio.h>

#include "edge/edge.h"

#define WANTED (LLL_ERR | LLL_WARN)

static void
line_put (int level, const char *line)
{
    char text [512];
    snprintf (text, sizeof text, "%s", line);
    text [strcspn (text, "\n")] = 0;
    if (level & LLL_ERR)
        log_warn (text);
    else
        log_debug ("libwebsockets", "text", text);
}

static void __attribute__ ((noinline, format (printf, 2, 0)))
line_format (int level, const char *format, va_list args)
{
    char line [512];
    vsnprintf (line, sizeof line, format, args);
    line_put (level, line);
}

void __attribute__ ((format (printf, 2, 0)))
_lws_logv (int level, const char *format, va_list args)
{
    if (level & WANTED)
        line_format (level, format, args);
}

void
_lws_log (int level, const char *format, ...)
{
    if (!(level & WANTED))
        return;
    va_list args;
    va_start (args, format);
    line_format (level, format, args);
    va_end (args);
}

//  Newer versions have other ways to a line, too.
void
quiet_open (void)
{
    lws_set_log_level (WANTED, line_put);
}
