//  migrate_file.c -- reads a directory of migrations; a small lexer finds where statements begin.

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "db/migrate_file.h"

//  "0001_base.up.sql": its number, and how long "0001_base" is; 0 for any other file.
static size_t
s_name_size (const char *file, unsigned *number, bool *up)
{
    size_t size = strspn (file, "abcdefghijklmnopqrstuvwxyz0123456789_");
    *up = strcmp (file + size, ".up.sql") == 0;
    if (!*up && strcmp (file + size, ".down.sql") != 0)
        return 0;
    if (strspn (file, "0123456789") != 4 || file [4] != '_' || size < 6)
        return 0;
    *number = (unsigned) strtoul (file, NULL, 10);
    return size;
}

static migration_t *
s_place (migrations_t *self, const char *name, size_t size, unsigned number)
{
    for (size_t n = 0; n < self->count; n++)
        if (strlen (self->all [n].name) == size && memcmp (self->all [n].name, name, size) == 0)
            return &self->all [n];
    self->all = xrealloc (self->all, (self->count + 1) * sizeof (migration_t));
    migration_t *migration = &self->all [self->count++];
    *migration = (migration_t) { .number = number, .name = xmalloc (size + 1) };
    memcpy (migration->name, name, size);
    migration->name [size] = 0;
    return migration;
}

static int
s_compare (const void *a, const void *b)
{
    const migration_t *left = a, *right = b;
    return (left->number > right->number) - (left->number < right->number);
}

const char *
migrations_read (migrations_t *self, const char *dir)
{
    *self = (migrations_t) { .dir = xstrdup (dir) };
    DIR *open = opendir (dir);
    if (!open)
        return "cannot be read";
    for (const struct dirent *entry; (entry = readdir (open));) {
        unsigned number;
        bool up;
        size_t size = s_name_size (entry->d_name, &number, &up);
        if (size == 0)
            continue;
        migration_t *migration = s_place (self, entry->d_name, size, number);
        if (up)
            migration->up = true;
        else
            migration->down = true;
    }
    closedir (open);
    if (self->count)
        qsort (self->all, self->count, sizeof (migration_t), s_compare);
    static char text [256];
    for (size_t n = 0; n < self->count; n++) {
        const migration_t *at = &self->all [n];
        if (n && at->number == at [-1].number) {
            snprintf (text, sizeof text, "%.100s and %.100s have the same number", at [-1].name,
                      at->name);
            return text;
        }
        if (!at->up) {
            snprintf (text, sizeof text, "%.100s.up.sql is missing", at->name);
            return text;
        }
    }
    return NULL;
}

void
migrations_free (migrations_t *self)
{
    for (size_t n = 0; n < self->count; n++)
        free (self->all [n].name);
    free (self->all);
    free (self->dir);
    *self = (migrations_t) { 0 };
}

const migration_t *
migrations_find (const migrations_t *self, const char *name)
{
    for (size_t n = 0; n < self->count; n++)
        if (strcmp (self->all [n].name, name) == 0)
            return &self->all [n];
    return NULL;
}

void
migration_path (const migrations_t *self, const char *name, const char *way, buf_t *path)
{
    buf_clear (path);
    buf_putf (path, "%s/%s.%s.sql", self->dir, name, way);
    buf_putc (path, 0);
}

bool
migration_text (const char *path, buf_t *text)
{
    buf_clear (text);
    FILE *file = fopen (path, "r");
    if (!file)
        return false;
    for (size_t size; (size = fread (buf_room (text, 4096), 1, 4096, file)) > 0;)
        text->size += size;
    bool good = !ferror (file);
    fclose (file);
    //  PostgreSQL would stop at a zero byte and call it done.
    good = good && (text->size == 0 || !memchr (text->data, 0, text->size));
    buf_putc (text, 0);
    text->size--;
    return good;
}

//  ---- lines ----

static unsigned
s_line (const char *text, const char *at)
{
    unsigned line = 1;
    for (; text < at; text++)
        line += *text == '\n';
    return line;
}

unsigned
text_line_at (const char *text, long position)
{
    const char *at = text;
    //  PostgreSQL counts characters, not bytes.
    for (; *at && position > 1; at++)
        position -= (at [1] & 0xc0) != 0x80;
    return s_line (text, at);
}

//  Behind what ends with `end`, or at the end of the text.
static const char *
s_behind (const char *at, const char *end)
{
    const char *found = strstr (at, end);
    return found ? found + strlen (end) : at + strlen (at);
}

static const char *
s_behind_dollars (const char *at)
{
    size_t size = 1;
    while (isalnum ((unsigned char) at [size]) || at [size] == '_')
        size++;
    if (at [size] != '$' || isdigit ((unsigned char) at [1]) || size > 60)
        return at + 1;
    char mark [64];
    memcpy (mark, at, size + 1);
    mark [size + 1] = 0;
    return s_behind (at + size + 1, mark);
}

//  Behind the quotation, comment or single character at `at`.
static const char *
s_token (const char *at)
{
    if (strncmp (at, "--", 2) == 0)
        return s_behind (at, "\n");
    if (strncmp (at, "/*", 2) == 0)
        return s_behind (at + 2, "*/");
    if (*at == '\'' || *at == '"')
        return s_behind (at + 1, *at == '"' ? "\"" : "'");
    if (*at == '$')
        return s_behind_dollars (at);
    return at + 1;
}

unsigned
text_line_of (const char *text, unsigned statements)
{
    const char *begin = NULL, *at = text;
    while (*at) {
        bool blank = isspace ((unsigned char) *at) || strncmp (at, "--", 2) == 0
                     || strncmp (at, "/*", 2) == 0;
        if (*at == ';') {
            if (begin && statements-- == 0)
                break;
            begin = NULL;
        }
        else if (!blank && !begin)
            begin = at;
        at = s_token (at);
    }
    return s_line (text, begin ? begin : at);
}
