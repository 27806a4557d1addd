//  sql.c -- cuts files of named statements at their `-- :name` lines.

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "db/sql.h"
#include "proto/hash.h"
#include "proto/text.h"

#define MARK "-- :name"

typedef struct {
    char *name, *text;
} named_t;

struct sql {
    hash_t *by_name;         //  to the texts below
    named_t *all;
    size_t count, room;
};

static void
s_broken (const char *what, text_t where)
{
    fprintf (stderr, "statement file: %s: %.*s\n", what, (int) where.size, where.data);
    abort ();
}

//  The next line, without its end; false behind the last one.
static bool
s_line (const char **at, text_t *line)
{
    if (!**at)
        return false;
    size_t size = strcspn (*at, "\n");
    *line = (text_t) { *at, size };
    *at += size + ((*at) [size] == '\n');
    return true;
}

static text_t
s_trim (text_t text)
{
    while (text.size && isspace ((unsigned char) text.data [0])) {
        text.data++;
        text.size--;
    }
    while (text.size && isspace ((unsigned char) text.data [text.size - 1]))
        text.size--;
    return text;
}

static char *
s_copy (text_t text)
{
    char *copy = xmalloc (text.size + 1);
    memcpy (copy, text.data, text.size);
    copy [text.size] = 0;
    return copy;
}

static void
s_add (sql_t *self, text_t name, text_t body)
{
    body = s_trim (body);
    if (body.size && body.data [body.size - 1] == ';')
        body.size--;
    if (body.size == 0)
        s_broken ("no statement under the name", name);
    if (hash_get (self->by_name, name))
        s_broken ("name used twice", name);
    if (self->count == self->room) {
        self->room = self->room ? self->room * 2 : 32;
        self->all = xrealloc (self->all, self->room * sizeof (named_t));
    }
    named_t *named = &self->all [self->count++];
    *named = (named_t) { s_copy (name), s_copy (body) };
    hash_put (self->by_name, name, named->text);
}

//  The head comment (parameters, what no row means) is for people and not sent to PostgreSQL.
static void
s_parse (sql_t *self, const char *at)
{
    text_t line, name = { 0 }, body = { 0 };
    while (s_line (&at, &line)) {
        if (text_starts (line, MARK)) {
            if (name.size)
                s_add (self, name, body);
            name = s_trim ((text_t) { line.data + strlen (MARK), line.size - strlen (MARK) });
            body = (text_t) { 0 };
            if (name.size == 0)
                s_broken ("a name is missing", line);
        }
        else if (body.size)
            body.size = (size_t) (line.data + line.size - body.data);
        else if (s_trim (line).size && !text_starts (s_trim (line), "--")) {
            if (name.size == 0)
                s_broken ("text before the first name", line);
            body = line;
        }
    }
    if (name.size)
        s_add (self, name, body);
}

sql_t *
sql_new (const char *const *texts)
{
    sql_t *self = xcalloc (1, sizeof *self);
    self->by_name = hash_new (NULL);
    for (; texts && *texts; texts++)
        s_parse (self, *texts);
    return self;
}

void
sql_destroy (sql_t **self_p)
{
    sql_t *self = *self_p;
    if (!self)
        return;
    *self_p = NULL;
    for (size_t n = 0; n < self->count; n++) {
        free (self->all [n].name);
        free (self->all [n].text);
    }
    free (self->all);
    hash_destroy (&self->by_name);
    free (self);
}

const char *
sql_text (const sql_t *self, const char *name)
{
    return hash_get (self->by_name, text_of (name));
}

size_t
sql_count (const sql_t *self)
{
    return self->count;
}

const char *
sql_name (const sql_t *self, size_t position)
{
    return position < self->count ? self->all [position].name : NULL;
}
