//  lineage_text.c -- a small reader of CREATE.

#include <ctype.h>
#include <stdlib.h>
#include <strings.h>

#include "lineage_text.h"
#include "sqltext.h"

//  A word, a quoted name, or one character of anything else; empty at the end.
typedef struct {
    const char *sql;
    size_t at, end;
} token_t;

static bool
s_is_word (char c)
{
    return isalnum ((unsigned char) c) || c == '_' || c == '$' || (unsigned char) c >= 128;
}

static size_t
s_word (const char *text)
{
    size_t size = 0;
    while (s_is_word (text [size]))
        size++;
    return size;
}

static bool
s_next (token_t *token)
{
    const char *sql = token->sql;
    for (size_t at = token->end; sql [at];) {
        size_t end = sql_skip (sql, at);
        bool comment = end > at && (sql [at] == '-' || sql [at] == '/');
        if (comment || isspace ((unsigned char) sql [at])) {
            at = comment ? end : at + 1;
            continue;
        }
        if (end == at)
            end += s_is_word (sql [at]) ? s_word (sql + at) : 1;
        token->at = at;
        token->end = end;
        return true;
    }
    token->at = token->end = token->end + strlen (sql + token->end);
    return false;
}

static bool
s_is (const token_t *token, const char *word)
{
    size_t size = token->end - token->at;
    return strlen (word) == size && strncasecmp (token->sql + token->at, word, size) == 0;
}

//  Pass over it when it is there.
static bool
s_take (token_t *token, const char *word)
{
    if (!s_is (token, word))
        return false;
    s_next (token);
    return true;
}

//  As PostgreSQL understands it; NULL: it is no name.
static char *
s_take_name (token_t *token)
{
    const char *from = token->sql + token->at;
    size_t size = token->end - token->at;
    buf_t name = { 0 };
    bool quoted = *from == '"' && size > 2;
    if (!quoted && !isalpha ((unsigned char) *from) && *from != '_' && (unsigned char) *from < 128)
        return NULL;
    for (size_t n = quoted; n < size - quoted; n++) {
        buf_putc (&name, quoted ? from [n] : (char) tolower ((unsigned char) from [n]));
        n += quoted && from [n] == '"';
    }
    char *text = text_copy (buf_text (&name));
    buf_free (&name);
    s_next (token);
    return text;
}

static bool
s_names (made_t *self, token_t *token)
{
    if (s_take (token, "if") && !(s_take (token, "not") && s_take (token, "exists")))
        return false;
    self->name = s_take_name (token);
    if (!self->name || !s_take (token, "."))
        return self->name != NULL;
    self->schema = self->name;
    self->name = s_take_name (token);
    return self->name != NULL;
}

//  What stands behind the query: WITH [NO] DATA, WITH [LOCAL | CASCADED] CHECK OPTION.
static size_t
s_end (token_t token)
{
    token_t last [4] = { token, token, token, token };
    do {
        memmove (last, last + 1, sizeof last - sizeof *last);
        last [3] = token;
    } while (s_next (&token));
    bool data = s_is (&last [3], "data"), option = s_is (&last [3], "option");
    size_t with = data ? (s_is (&last [2], "no") ? 1 : 2)
                       : s_is (&last [1], "with") ? 1 : 0;
    if ((data || (option && s_is (&last [2], "check"))) && s_is (&last [with], "with"))
        return last [with].at;
    return last [3].end;
}

bool
made_read (made_t *self, const char *sql)
{
    token_t token = { sql, 0, 0 };
    *self = (made_t) { 0 };
    s_next (&token);
    if (!s_take (&token, "create"))
        return false;
    if (s_take (&token, "or"))
        s_take (&token, "replace");
    s_take (&token, "unlogged");
    s_take (&token, "recursive");
    bool view = s_take (&token, "materialized");
    if (s_take (&token, "view"))
        view = true;
    else if (view || !s_take (&token, "table"))
        return false;
    self->operation = view ? "create view" : "create table";
    int depth = 0;
    bool good = s_names (self, &token);
    for (; good && !(depth == 0 && s_is (&token, "as")); good = s_next (&token))
        depth += s_is (&token, "(") ? 1 : s_is (&token, ")") ? -1 : 0;
    if (good && s_next (&token)) {
        self->query = sql_trim ((text_t) { sql + token.at, s_end (token) - token.at });
        return true;
    }
    made_free (self);
    return false;
}

void
made_free (made_t *self)
{
    free (self->schema);
    free (self->name);
    *self = (made_t) { 0 };
}
