//  opt.c -- options from flags, environment and `.env`, by one table.

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/hash.h"
#include "proto/opt.h"

//  Values that are neither in argv nor in the table's own text; they live as long as the process.
typedef struct kept {
    struct kept *next;
    char text [];
} kept_t;

static kept_t *s_kept;
static const char *s_settings;

static const char *
s_keep (const char *text, size_t size)
{
    kept_t *kept = xmalloc (sizeof *kept + size + 1);
    memcpy (kept->text, text, size);
    kept->text [size] = 0;
    kept->next = s_kept;
    s_kept = kept;
    return kept->text;
}

static const char *
s_program (char **argv)
{
    const char *slash = strrchr (argv [0], '/');
    return slash ? slash + 1 : argv [0];
}

static opt_t *
s_find (opt_t *table, text_t name)
{
    for (opt_t *opt = table; opt->name; opt++)
        if (text_is (name, opt->name))
            return opt;
    return NULL;
}

static bool
s_int_of (const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    long long number = strtoll (text, &end, 10);
    *out = number;
    return *text && *text != ' ' && !*end && errno == 0;
}

//  1, 0, or -1 when the text is neither.
static int
s_bool_of (const char *text)
{
    static const char *const words [] = { "0", "1", "false", "true", "no", "yes", "off", "on" };
    for (int n = 0; n < 8; n++)
        if (strcasecmp (text, words [n]) == 0)
            return n % 2;
    return -1;
}

//  ---- .env ----

//  A quoted value: bare up to the quote between ', with \n \t \" \\ and \$ between ".
static void
s_env_quoted (const char *at, const char *end, buf_t *out)
{
    char quote = *at++;
    for (; at < end && *at != quote; at++) {
        if (quote == '"' && *at == '\\' && at + 1 < end) {
            at++;
            buf_putc (out, *at == 'n' ? '\n' : *at == 't' ? '\t' : *at);
        }
        else
            buf_putc (out, *at);
    }
}

//  An unquoted value ends at a comment, which a space must precede.
static void
s_env_bare (const char *at, const char *end, buf_t *out)
{
    const char *stop = at;
    while (stop < end && !(*stop == '#' && (stop == at || stop [-1] == ' ' || stop [-1] == '\t')))
        stop++;
    while (stop > at && (stop [-1] == ' ' || stop [-1] == '\t'))
        stop--;
    buf_put (out, at, (size_t) (stop - at));
}

static const char *
s_blanks (const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    return at;
}

static void
s_env_line (hash_t *values, text_t line)
{
    const char *end = line.data + line.size, *at = s_blanks (line.data, end);
    if (end > at && end [-1] == '\r')
        end--;
    if (end - at > 7 && strncmp (at, "export ", 7) == 0)
        at = s_blanks (at + 7, end);
    const char *equals = at < end && *at != '#' ? memchr (at, '=', (size_t) (end - at)) : NULL;
    if (!equals)
        return;
    text_t name = { at, (size_t) (equals - at) };
    while (name.size && (name.data [name.size - 1] == ' ' || name.data [name.size - 1] == '\t'))
        name.size--;
    buf_t value = { 0 };
    at = s_blanks (equals + 1, end);
    if (at < end && (*at == '"' || *at == '\''))
        s_env_quoted (at, end, &value);
    else
        s_env_bare (at, end, &value);
    buf_putc (&value, 0);
    hash_put (values, name, xstrdup ((const char *) value.data));
    buf_free (&value);
}

//  NAME=value lines of `.env`; none when there is no such file.
static hash_t *
s_env_file (void)
{
    hash_t *values = hash_new (free);
    FILE *file = fopen (".env", "re");
    if (!file && s_settings)
        file = fopen (s_settings, "re");
    if (!file)
        return values;
    char *line = NULL;
    size_t room = 0;
    ssize_t size;
    while ((size = getline (&line, &room, file)) >= 0) {
        if (size && line [size - 1] == '\n')
            size--;
        s_env_line (values, (text_t) { line, (size_t) size });
    }
    free (line);
    fclose (file);
    return values;
}

void
opt_settings (const char *path)
{
    s_settings = path;
}

//  The first of the names "A|B|C" that has a value, in the environment or else in the file. An
//  empty variable is an unset one: that is how compose files leave things out.
static const char *
s_env_value (const opt_t *opt, hash_t *file)
{
    for (int source = 0; source < 2; source++)
        for (const char *at = opt->env; at && *at;) {
            size_t size = strcspn (at, "|");
            char name [64];
            snprintf (name, sizeof name, "%.*s", (int) size, at);
            const char *value = source ? hash_get (file, text_of (name)) : getenv (name);
            if (value && *value)
                return s_keep (value, strlen (value));
            at += size + (at [size] == '|');
        }
    return NULL;
}

//  ---- flags ----

static int
s_complain (char **argv, const char *text, const char *what)
{
    fprintf (stderr, "%s: %s: %s (try --help)\n", s_program (argv), what, text);
    return 2;
}

//  One flag at argv [*at]; moves *at over its value.
static int
s_flag (opt_t *table, int argc, char **argv, int *at)
{
    const char *flag = argv [*at] + 2, *equals = strchr (flag, '=');
    text_t name = { flag, equals ? (size_t) (equals - flag) : strlen (flag) };
    opt_t *opt = s_find (table, name);
    if (!opt) {
        //  Without its value: that may be a secret under a mistyped name.
        fprintf (stderr, "%s: --%.*s: no such option (try --help)\n", s_program (argv),
                 (int) name.size, name.data);
        return 2;
    }
    if (opt->flags & OPT_SECRET) {
        //  Whoever lists processes would read it; the value is not repeated here either.
        fprintf (stderr, "%s: --%s: a secret is taken from the environment only%s%s\n",
                 s_program (argv), opt->name, opt->env ? ", as " : "", opt->env ? opt->env : "");
        return 2;
    }
    if (equals)
        opt->value = equals + 1;
    else if (opt->type == OPT_BOOL)
        opt->value = "true";
    else if (*at + 1 < argc)
        opt->value = argv [++*at];
    else
        return s_complain (argv, "a value is missing", argv [*at]);
    return 0;
}

static void
s_help (const opt_t *table, const char *usage)
{
    printf ("usage: %s\n\n", usage);
    for (const opt_t *opt = table; opt->name; opt++) {
        static const char *const kinds [] = { " TEXT", " NUMBER", "" };
        bool secret = opt->flags & OPT_SECRET;
        char flag [64];
        snprintf (flag, sizeof flag, "%s%s%s", secret ? "" : "--", secret ? "" : opt->name,
                  secret ? "" : kinds [opt->type]);
        printf ("  %-28s %s", secret ? "(environment only)" : flag, opt->doc ? opt->doc : "");
        if (opt->def && !secret)
            printf (" [%s]", opt->def);
        if (opt->env)
            printf (" (%s)", opt->env);
        printf ("%s\n", opt->flags & OPT_REQUIRED ? ", required" : "");
    }
    printf ("  %-28s %s\n  %-28s %s\n", "--help", "this text", "--version", "what this is");
}

static int
s_flags_read (opt_t *table, int *argc, char **argv, const char *usage)
{
    int rest = 1;
    bool flags = true;
    for (int at = 1; at < *argc; at++) {
        const char *arg = argv [at];
        if (!flags || (strncmp (arg, "--", 2) != 0 && strcmp (arg, "-h") != 0)) {
            argv [rest++] = argv [at];
            continue;
        }
        int rc = 0;
        if (strcmp (arg, "--") == 0)
            flags = false;
        else if (strcmp (arg, "--help") == 0 || strcmp (arg, "-h") == 0) {
            s_help (table, usage);
            return 1;
        }
        else if (strcmp (arg, "--version") == 0) {
            printf ("%s %s\n", s_program (argv), BUSBAR_VERSION);
            return 1;
        }
        else
            rc = s_flag (table, *argc, argv, &at);
        if (rc)
            return rc;
    }
    argv [rest < *argc ? rest : *argc] = NULL;
    *argc = rest;
    return 0;
}

//  Is the value there where it must be, and of its type?
static int
s_check (const opt_t *opt, char **argv)
{
    int64_t number;
    char what [128];
    snprintf (what, sizeof what, "--%s%s%s%s", opt->name, opt->env ? " (" : "",
              opt->env ? opt->env : "", opt->env ? ")" : "");
    if (!opt->value)
        return opt->flags & OPT_REQUIRED ? s_complain (argv, "is required", what) : 0;
    if (opt->type == OPT_INT && !s_int_of (opt->value, &number))
        return s_complain (argv, "must be a whole number", what);
    if (opt->type == OPT_BOOL && s_bool_of (opt->value) < 0)
        return s_complain (argv, "must be true or false", what);
    return 0;
}

int
opt_read (opt_t *table, int *argc, char **argv, const char *usage)
{
    for (opt_t *opt = table; opt->name; opt++)
        opt->value = NULL;
    int rc = s_flags_read (table, argc, argv, usage);
    if (rc)
        return rc;
    hash_t *file = s_env_file ();
    for (opt_t *opt = table; opt->name; opt++) {
        if (!opt->value)
            opt->value = s_env_value (opt, file);
        if (!opt->value)
            opt->value = opt->def;
        if (rc == 0)
            rc = s_check (opt, argv);
    }
    hash_destroy (&file);
    return rc;
}

static const opt_t *
s_get (const opt_t *table, const char *name)
{
    for (const opt_t *opt = table; opt->name; opt++)
        if (strcmp (opt->name, name) == 0)
            return opt;
    fprintf (stderr, "option --%s is in no table\n", name);
    abort ();
}

const char *
opt_str (const opt_t *table, const char *name)
{
    return s_get (table, name)->value;
}

int64_t
opt_int (const opt_t *table, const char *name)
{
    const opt_t *opt = s_get (table, name);
    int64_t number;
    return opt->value && s_int_of (opt->value, &number) ? number : 0;
}

bool
opt_bool (const opt_t *table, const char *name)
{
    const opt_t *opt = s_get (table, name);
    return opt->value && s_bool_of (opt->value) == 1;
}

void
opt_markdown (const opt_t *table)
{
    printf ("| option | environment | default | what it does |\n|---|---|---|---|\n");
    for (const opt_t *opt = table; opt->name; opt++) {
        bool secret = opt->flags & OPT_SECRET;
        printf ("| %s%s%s | ", secret ? "" : "`--", secret ? "(environment only)" : opt->name,
                secret ? "" : "`");
        for (const char *at = opt->env; at && *at;) {
            size_t size = strcspn (at, "|");
            printf ("%s`%.*s`", at == opt->env ? "" : ", ", (int) size, at);
            at += size + (at [size] == '|');
        }
        printf (" | %s%s%s | %s |\n", opt->def && !secret ? "`" : "",
                opt->def && !secret ? opt->def : opt->flags & OPT_REQUIRED ? "required" : "",
                opt->def && !secret ? "`" : "", opt->doc ? opt->doc : "");
    }
}
