//  guest_words.c -- what the first word of a statement says.

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "db/guest.h"

static const char *
s_first_word (const char *at)
{
    for (;;) {
        at += strspn (at, " \t\r\n\f(");
        const char *end = strncmp (at, "--", 2) == 0   ? strchr (at, '\n')
                          : strncmp (at, "/*", 2) == 0 ? strstr (at + 2, "*/")
                                                       : NULL;
        if (!end)
            return at;
        at = *end == '*' ? end + 2 : end;
    }
}

static bool
s_begins_with (const char *sql, const char *const *words, size_t count)
{
    const char *word = s_first_word (sql);
    for (size_t n = 0; n < count; n++) {
        size_t size = strlen (words [n]);
        if (strncasecmp (word, words [n], size) == 0 && !isalnum ((unsigned char) word [size])
            && word [size] != '_')
            return true;
    }
    return false;
}

//  WITH may carry an INSERT, SELECT an INTO, EXPLAIN runs what it explains; a function of the
//  guest's own is not to be had.
bool
guest_reads (const char *sql)
{
    static const char *const words [] = { "select", "values", "table", "show", "explain" };
    return s_begins_with (sql, words, sizeof words / sizeof *words);
}

bool
guest_plans (const char *sql)
{
    static const char *const words [] = { "select", "values", "table",  "with",
                                          "insert", "update", "delete", "merge" };
    return s_begins_with (sql, words, sizeof words / sizeof *words);
}

bool
guest_combines (const char *sql)
{
    static const char *const words [] = { "with" };
    return s_begins_with (sql, words, 1);
}

bool
guest_frees (const char *sql)
{
    static const char *const words [] = { "delete", "drop", "truncate" };
    return s_begins_with (sql, words, sizeof words / sizeof *words);
}
