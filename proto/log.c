//  log.c -- logfmt lines, each written with one call so that processes sharing stderr never mix.

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "proto/log.h"

#define VALUE_MAX 2048

static const char *s_who = "busbar";
static log_level_t s_from = LOG_INFO;
static const char *const names [] = { "debug", "info", "warn", "error" };

void
log_open (const char *who, log_level_t from)
{
    s_who = who;
    s_from = from;
}

log_level_t
log_level_by_name (const char *name)
{
    for (log_level_t level = LOG_DEBUG; name && level <= LOG_ERROR; level++)
        if (strcmp (name, names [level]) == 0)
            return level;
    return LOG_INFO;
}

bool
log_on (log_level_t level)
{
    return level >= s_from;
}

//  The first bytes of a long value, not ending within a UTF-8 sequence.
static text_t
s_cut (const char *string)
{
    size_t size = strnlen (string, VALUE_MAX + 1);
    if (size > VALUE_MAX) {
        size = VALUE_MAX;
        while (size > VALUE_MAX - 4 && ((uint8_t) string [size] & 0xc0) == 0x80)
            size--;
    }
    return (text_t) { string, size };
}

static bool
s_is_plain (text_t value)
{
    for (size_t n = 0; n < value.size; n++) {
        uint8_t byte = (uint8_t) value.data [n];
        if (byte <= ' ' || byte == '"' || byte == '=' || byte == '\\' || byte >= 0x7f)
            return false;
    }
    return value.size > 0;
}

static void
s_put_value (buf_t *line, const char *string)
{
    text_t value = s_cut (string);
    if (s_is_plain (value)) {
        buf_put (line, value.data, value.size);
        return;
    }
    bool utf8 = text_utf8 (value);
    buf_putc (line, '"');
    for (size_t n = 0; n < value.size; n++) {
        uint8_t byte = (uint8_t) value.data [n];
        if (byte == '"' || byte == '\\')
            buf_putf (line, "\\%c", byte);
        else if (byte == '\n')
            buf_puts (line, "\\n");
        else if (byte < ' ' || byte == 0x7f || (byte >= 0x80 && !utf8))
            buf_putf (line, "\\x%02x", byte);
        else
            buf_putc (line, (char) byte);
    }
    buf_putc (line, '"');
}

static void
s_put_time (buf_t *line)
{
    struct timespec now;
    struct tm parts;
    clock_gettime (CLOCK_REALTIME, &now);
    gmtime_r (&now.tv_sec, &parts);
    char text [32];
    strftime (text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
    buf_putf (line, "t=%s.%03dZ", text, (int) (now.tv_nsec / 1000000));
}

void
log_event (log_level_t level, const char *msg, ...)
{
    if (!log_on (level))
        return;
    buf_t line = { 0 };
    s_put_time (&line);
    buf_putf (&line, " level=%s actor=", names [level]);
    s_put_value (&line, s_who);
    buf_puts (&line, " msg=");
    s_put_value (&line, msg);
    va_list pairs;
    va_start (pairs, msg);
    for (const char *name; (name = va_arg (pairs, const char *));) {
        const char *value = va_arg (pairs, const char *);
        if (!value)
            continue;
        buf_putf (&line, " %s=", name);
        s_put_value (&line, value);
    }
    va_end (pairs);
    buf_putc (&line, '\n');
    //  A log that nobody takes must not stop the process.
    ssize_t ignored = write (STDERR_FILENO, line.data, line.size);
    (void) ignored;
    buf_free (&line);
}

const char *
log_num (int64_t value)
{
    static _Thread_local char texts [8] [24];
    static _Thread_local unsigned next;
    char *text = texts [next++ % 8];
    snprintf (text, sizeof texts [0], "%lld", (long long) value);
    return text;
}
