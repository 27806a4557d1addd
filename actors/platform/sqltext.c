//  sqltext.c -- SQL as text. It is only looked at to find parameters: values are always bound, so
//  what is taken for a text wrongly ends as an error of the engine.

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "db/guest.h"
#include "engine.h"
#include "sqltext.h"

static bool
s_is_word (char c)
{
    return isalnum ((unsigned char) c) || c == '_' || (unsigned char) c >= 128;
}

//  Behind a text in `quote`s; doubled quotes stand for themselves, `escaped` ones behind \ too.
static size_t
s_skip_quoted (const char *sql, size_t at, bool escaped)
{
    char quote = sql [at++];
    for (; sql [at]; at++) {
        if (escaped && sql [at] == '\\' && sql [at + 1])
            at++;
        else if (sql [at] == quote && sql [at + 1] == quote)
            at++;
        else if (sql [at] == quote)
            return at + 1;
    }
    return at;
}

static size_t
s_skip_comment (const char *sql, size_t at)
{
    int depth = 0;
    for (; sql [at]; at++) {
        if (sql [at] == '/' && sql [at + 1] == '*')
            depth++, at++;
        else if (sql [at] == '*' && sql [at + 1] == '/') {
            at++;
            if (--depth == 0)
                return at + 1;
        }
    }
    return at;
}

//  $tag$ … $tag$; `at` when it is none.
static size_t
s_skip_dollars (const char *sql, size_t at)
{
    size_t end = at + 1;
    if ((at && s_is_word (sql [at - 1])) || isdigit ((unsigned char) sql [end]))
        return at;
    while (s_is_word (sql [end]))
        end++;
    if (sql [end] != '$')
        return at;
    size_t size = end + 1 - at;
    for (const char *look = sql + end + 1; (look = strchr (look, '$')); look++)
        if (strncmp (look, sql + at, size) == 0)
            return (size_t) (look - sql) + size;
    return strlen (sql);
}

size_t
sql_skip (const char *sql, size_t at)
{
    switch (sql [at]) {
    case '\'': {
        bool escaped = at && (sql [at - 1] == 'e' || sql [at - 1] == 'E')
                       && (at == 1 || !s_is_word (sql [at - 2]));
        return s_skip_quoted (sql, at, escaped);
    }
    case '"': case '`':
        return s_skip_quoted (sql, at, false);
    case '-':
        return sql [at + 1] == '-' ? at + strcspn (sql + at, "\n") : at;
    case '/':
        return sql [at + 1] == '*' ? s_skip_comment (sql, at) : at;
    case '$':
        return s_skip_dollars (sql, at);
    }
    return at;
}

bool
sql_name_marks (const char *sql, int (*number) (void *arg, text_t name), void *arg, buf_t *out,
                text_t *unknown)
{
    for (size_t at = 0; sql [at];) {
        size_t end = sql_skip (sql, at);
        if (end > at) {
            buf_put (out, sql + at, end - at);
            at = end;
            continue;
        }
        //  Not in a::text, nor in a[1:n].
        bool mark =
            sql[at] == ':' && (isalpha ((unsigned char)sql[at + 1]) || sql[at + 1] == '_')
            && !(at && (sql[at - 1] == ':' || sql[at - 1] == ']' || s_is_word (sql[at - 1])));
        if (!mark) {
            buf_putc (out, sql [at++]);
            continue;
        }
        text_t name = { sql + at + 1, 0 };
        while (s_is_word (name.data [name.size]))
            name.size++;
        int n = number (arg, name);
        if (n == 0) {
            *unknown = name;
            return false;
        }
        buf_putf (out, "$%d", n);
        at += 1 + name.size;
    }
    return true;
}

//  A $n at `at`: its n, and where it ends; 0: none is there.
static unsigned long
s_mark (const char *sql, size_t at, size_t *end)
{
    if (sql [at] != '$' || !isdigit ((unsigned char) sql [at + 1])
        || (at && s_is_word (sql [at - 1])))
        return 0;
    char *stop;
    unsigned long number = strtoul (sql + at + 1, &stop, 10);
    *end = (size_t) (stop - sql);
    return number ? number : ULONG_MAX;
}

unsigned long
sql_marks (const char *sql)
{
    unsigned long most = 0;
    for (size_t at = 0; sql [at];) {
        size_t end = sql_skip (sql, at);
        unsigned long number = end == at ? s_mark (sql, at, &end) : 0;
        most = number > most ? number : most;
        at = end > at ? end : at + 1;
    }
    return most;
}

int
engine_marks (const char *sql, const char *mark, size_t params, buf_t *out, int *order, size_t room)
{
    size_t count = 0;
    for (size_t at = 0; sql [at];) {
        size_t end = sql_skip (sql, at);
        unsigned long number = end == at ? s_mark (sql, at, &end) : 0;
        if (number) {
            if (number > params || count == room)
                return -1;
            order [count++] = (int) number - 1;
            buf_puts (out, mark);
            at = end;
            continue;
        }
        if (end == at)
            end++;
        buf_put (out, sql + at, end - at);
        at = end;
    }
    return (int) count;
}

//  Is one of these words in it, outside of texts and comments?
static bool
s_has_word (const char *sql, const char *const *words)
{
    for (size_t at = 0; sql [at];) {
        size_t end = sql_skip (sql, at);
        if (end > at || !s_is_word (sql [at])) {
            at = end > at ? end : at + 1;
            continue;
        }
        while (s_is_word (sql [end]))
            end++;
        for (const char *const *word = words; *word; word++)
            if (strlen (*word) == end - at && strncasecmp (sql + at, *word, end - at) == 0)
                return true;
        at = end;
    }
    return false;
}

bool
sql_is_read (const char *sql)
{
    static const char *const writes[] = { "into",   "explain", "nextval", "setval", "insert",
                                          "update", "delete",  "merge",   NULL };
    return (guest_reads (sql) || guest_combines (sql)) && !s_has_word (sql, writes);
}

bool
sql_names_tables (const char *sql)
{
    static const char *const words [] = { "from", "into", "table", "update", NULL };
    return s_has_word (sql, words);
}

text_t
sql_trim (text_t sql)
{
    while (sql.size && strchr (" \t\r\n;", sql.data [sql.size - 1]))
        sql.size--;
    return sql;
}
