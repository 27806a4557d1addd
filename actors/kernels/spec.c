//  spec.c -- kernel.json files.

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "proto/json.h"
#include "proto/log.h"
#include "spec.h"

#define FILE_MAX (64 << 10)

static const char usual [] = "/usr/local/share/jupyter/kernels:/usr/share/jupyter/kernels";

static void
s_free_one (spec_t *self)
{
    free (self->name);
    free (self->language);
    free (self->dir);
    for (size_t n = 0; self->argv [n]; n++)
        free (self->argv [n]);
    for (size_t n = 0; self->env [n]; n++)
        free (self->env [n]);
    free (self);
}

static char *
s_copy (text_t text)
{
    char *copy = xmalloc (text.size + 1);
    memcpy (copy, text.data, text.size);
    copy [text.size] = 0;
    return copy;
}

//  A word with {resource_dir} replaced by where the spec lies.
static char *
s_word (text_t word, const char *dir)
{
    static const char hole [] = "{resource_dir}";
    char *plain = s_copy (word), *at = strstr (plain, hole);
    if (!at)
        return plain;
    buf_t out = { 0 };
    buf_put (&out, plain, (size_t) (at - plain));
    buf_puts (&out, dir);
    buf_put (&out, at + sizeof hole - 1, strlen (at + sizeof hole - 1) + 1);
    free (plain);
    return (char *) out.data;
}

static spec_t *
s_parse (const char *name, const char *dir, mp_t json)
{
    spec_t *self = xcalloc (1, sizeof *self);
    mp_t argv = mp_get (json, "argv");
    self->name = xstrdup (name);
    self->dir = xstrdup (dir);
    self->language = s_copy (mp_text (mp_get (json, "language")));
    self->messages = text_is (mp_text (mp_get (json, "interrupt_mode")), "message");
    size_t count = 0;
    for (mp_iter_t it = mp_iter (argv);
         mp_type (argv) == MP_ARRAY && count < SPEC_WORDS && mp_next (&it);)
        self->argv [count++] = s_word (mp_text (it.value), dir);
    mp_t env = mp_get (json, "env");
    size_t pairs = 0;
    for (mp_iter_t it = mp_iter (env);
         mp_type (env) == MP_MAP && pairs < SPEC_WORDS && mp_next (&it); pairs++) {
        self->env [2 * pairs] = s_copy (mp_text (it.key));
        self->env [2 * pairs + 1] = s_copy (mp_text (it.value));
    }
    if (count == 0 || strcasecmp (self->language, "") == 0) {
        s_free_one (self);
        return NULL;
    }
    return self;
}

static spec_t *
s_read (const char *root, const char *name)
{
    char dir [512], path [600], why [128];
    spec_t *self = NULL;
    buf_t text = { 0 }, json = { 0 };
    snprintf (dir, sizeof dir, "%s/%s", root, name);
    snprintf (path, sizeof path, "%s/kernel.json", dir);
    int fd = open (path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    ssize_t size = read (fd, buf_room (&text, FILE_MAX), FILE_MAX);
    close (fd);
    text.size = size > 0 ? (size_t) size : 0;
    if (json_read (buf_text (&text), &json, why, sizeof why))
        self = s_parse (name, dir, mp_buf (&json));
    if (!self)
        log_warn ("kernelspec is not usable", "path", path);
    buf_free (&text);
    buf_free (&json);
    return self;
}

static void
s_load_dir (const char *root, spec_t ***end)
{
    DIR *dir = opendir (root);
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir (dir));) {
        spec_t *spec = entry->d_name [0] == '.' ? NULL : s_read (root, entry->d_name);
        if (spec) {
            **end = spec;
            *end = &spec->next;
        }
    }
    closedir (dir);
}

spec_t *
spec_load (const char *path)
{
    spec_t *list = NULL, **end = &list;
    const char *const paths [] = { path, usual };
    for (size_t n = 0; n < 2; n++) {
        char *copy = xstrdup (paths [n]), *rest = copy;
        for (char *root; rest && (root = strsep (&rest, ":"));)
            if (*root)
                s_load_dir (root, &end);
        free (copy);
    }
    return list;
}

void
spec_free (spec_t **list_p)
{
    while (*list_p) {
        spec_t *next = (*list_p)->next;
        s_free_one (*list_p);
        *list_p = next;
    }
}

const spec_t *
spec_find (const spec_t *list, const char *language)
{
    const char *name = strcmp (language, "python") == 0 ? "python3"
                     : strcmp (language, "r") == 0 ? "ir" : language;
    for (const spec_t *at = list; at; at = at->next)
        if (strcmp (at->name, name) == 0)
            return at;
    for (const spec_t *at = list; at; at = at->next)
        if (strcasecmp (at->language, language) == 0)
            return at;
    return NULL;
}
