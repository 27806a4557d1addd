//  crew.c -- the processes of a system. Every child gets an environment made here: settings for
//  all, and nothing that somebody who lists processes should not see; secrets go by descriptor to
//  those who need them.

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "crew.h"
#include "probe.h"
#include "vault.h"

#define INSTANCES_MAX 64
#define PYTHON "/usr/bin/python3"

extern char **environ;

//  A secret option of `up`, and who is told its value.
static const struct {
    const char *option, *secret, *crew;
} s_told [] = {
    { "anon-key",              "anon_key",              "identity storage tables" },
    { "admin-password",        "admin_password",        "identity" },
    { "smtp-password",         "smtp_password",         "identity jobs costs" },
    { "trino-password",        "trino_password",        "platform" },
    { "aws-access-key-id",     "aws_access_key_id",     "clusters jobs costs fleet storage chat" },
    { "aws-secret-access-key", "aws_secret_access_key", "clusters jobs costs fleet storage chat" },
    { "aws-session-token",     "aws_session_token",     "clusters jobs costs fleet storage chat" },
    { "openai-api-key",        "openai_api_key",        "chat platform costs" } };

//  Is `name` one of the words?
static bool
s_listed (const char *words, const char *name)
{
    size_t size = strlen (name);
    for (const char *at = words; (at = strstr (at, name)); at += size)
        if ((at == words || at [-1] == ' ') && (at [size] == ' ' || !at [size]))
            return true;
    return false;
}

//  ---- lists of strings ----

typedef struct {
    char **items;
    size_t count;
} list_t;

static void
s_add (list_t *list, char *item)
{
    list->items = xrealloc (list->items, (list->count + 2) * sizeof *list->items);
    list->items [list->count++] = item;
    list->items [list->count] = NULL;
}

void
crew_free_names (char ***names_p)
{
    for (char **name = *names_p; name && *name; name++)
        free (*name);
    free (*names_p);
    *names_p = NULL;
}

char **
crew_actors (const place_t *place)
{
    char *pattern = text_format ("%s/busbar-*", place->bin);
    list_t names = { 0 };
    glob_t found;
    if (glob (pattern, 0, NULL, &found) == 0) {
        for (size_t n = 0; n < found.gl_pathc; n++) {
            const char *name = strrchr (found.gl_pathv [n], '-') + 1;
            if (!strchr (name, '.') && !s_listed ("broker edge", name)
                && access (found.gl_pathv [n], X_OK) == 0)
                s_add (&names, xstrdup (name));
        }
        globfree (&found);
    }
    free (pattern);
    if (!names.items)
        names.items = xcalloc (1, sizeof *names.items);
    return names.items;
}

//  ---- how many ----

//  "identity=2,edge=2": the count for one name, 1 when it is not named, -1 when its number is no
//  good.
static int
s_instances (const crew_t *self, const char *name)
{
    const char *at = opt_str (self->options, "instances");
    size_t size = strlen (name);
    int count = 1;
    while (at && *at) {
        if (strncmp (at, name, size) == 0 && at [size] == '=') {
            char *end;
            long number = strtol (at + size + 1, &end, 10);
            count = end == at + size + 1 || (*end && *end != ',') || number < 0
                || number > INSTANCES_MAX ? -1 : (int) number;
        }
        at = strchr (at, ',');
        at += at ? 1 : 0;
    }
    return count;
}

bool
crew_check (const place_t *place, const opt_t *options)
{
    char **actors = crew_actors (place);
    bool good = true;
    for (const char *at = opt_str (options, "instances"); good && at && *at;) {
        char name [64];
        size_t size = strcspn (at, "=,");
        snprintf (name, sizeof name, "%.*s", (int) size, at);
        bool known = strcmp (name, "edge") == 0;
        for (char **actor = actors; *actor; actor++)
            known = known || strcmp (*actor, name) == 0;
        crew_t crew = { .options = options };
        if (!known || at [size] != '=')
            good = complain (false, "--instances %s: %s", at, known ? "is not ACTOR=NUMBER"
                             : "there is no such actor");
        else if (s_instances (&crew, name) < 0)
            good = complain (false, "--instances %s: must be 0 to %d", at, INSTANCES_MAX);
        at = strchr (at, ',');
        at += at ? 1 : 0;
    }
    crew_free_names (&actors);
    return good;
}

//  ---- environment ----

//  What the sanitizers, the C library and outgoing TLS ask the environment for, and names with an
//  open end.
static const char *const s_inherited [] = {
    "LANG", "TZ", "ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "SSL_CERT_FILE",
    "SSL_CERT_DIR", "AWS_ENDPOINT_URL", NULL };

static void
s_inherit (list_t *list)
{
    for (char **entry = environ; *entry; entry++)
        for (const char *const *name = s_inherited; *name; name++) {
            size_t size = strlen (*name);
            bool open = strcmp (*name, "AWS_ENDPOINT_URL") == 0;
            if (strncmp (*entry, *name, size) == 0 && ((*entry) [size] == '=' || open))
                s_add (list, xstrdup (*entry));
        }
}

static void
s_basics (list_t *list, const place_t *place)
{
    s_add (list, xstrdup ("PATH=/usr/local/bin:/usr/bin:/bin"));
    s_add (list, text_format ("HOME=%s", place->var));
    s_add (list, text_format ("BUSBAR_RUN=%s", place->run));
    s_inherit (list);
}

//  Our own options under the first of their environment names, so that .env counts as well; not
//  what is secret, and not what concerns only the supervisor.
static void
s_settings (list_t *list, const opt_t *options, const char *host, int port)
{
    for (const opt_t *opt = options; opt->name; opt++) {
        bool own = s_listed (
            "port host admin-port database-url db-host db-port db-name db-user var", opt->name);
        if (!opt->env || !opt->value || own || (opt->flags & OPT_SECRET))
            continue;
        s_add (list, text_format ("%.*s=%s", (int) strcspn (opt->env, "|"), opt->env, opt->value));
    }
    //  Where people reach us, unless the operator knows better.
    if (!opt_str (options, "external-url"))
        s_add (list, text_format ("EXTERNAL_URL=http%s://%s:%d",
                                  opt_str (options, "tls-cert") ? "s" : "", host, port));
}

char **
crew_python_environment (const place_t *place)
{
    char *package = place_lend (place, place_share (place, "proto/python"));
    list_t list = { 0 };
    s_basics (&list, place);
    s_add (&list, xstrdup ("PYTHONUNBUFFERED=1"));
    if (package)
        s_add (&list, text_format ("PYTHONPATH=%s", package));
    free (package);
    return list.items;
}

//  ---- secrets ----

static void
s_tell (const crew_t *self, const char *name, buf_t *lines)
{
    for (size_t n = 0; n < sizeof s_told / sizeof *s_told; n++) {
        const char *value = opt_str (self->options, s_told [n].option);
        if (value && s_listed (s_told [n].crew, name))
            buf_putf (lines, "%s=%s\n", s_told [n].secret, value);
    }
    if (!s_listed ("broker edge identity", name))
        return;
    const char *given = opt_str (self->options, "jwt-secret");
    char *made = given ? NULL : vault_get (self->place, "jwt_secret");
    if (given || made)
        buf_putf (lines, "jwt_secret=%s\n", given ? given : made);
    vault_forget (&made);
}

static bool
s_tell_actor (const crew_t *self, const char *name, buf_t *lines)
{
    s_tell (self, name, lines);
    char *file = text_format ("db_%s", name);
    char *password = vault_get (self->place, file);
    free (file);
    if (!password)
        return false;
    buf_putf (lines, "db_password=%s\n", password);
    vault_forget (&password);
    return vault_put_keys (self->place, name, lines);
}

static void
s_wipe (buf_t *lines)
{
    if (lines->data)
        explicit_bzero (lines->data, lines->size);
    buf_free (lines);
}

//  ---- each kind ----

//  --set PROGRAM.OPTION=VALUE, one a line, as arguments of that program.
static void
s_put_set (list_t *argv, const opt_t *options, const char *name)
{
    size_t size = strlen (name);
    for (const char *at = opt_str (options, "set"); at && *at;) {
        size_t line = strcspn (at, "\n");
        if (strncmp (at, name, size) == 0 && at [size] == '.')
            s_add (argv, text_format ("--%.*s", (int) (line - size - 1), at + size + 1));
        at += line + (at [line] == '\n');
    }
}

static void
s_run (const crew_t *self, process_spec_t *spec, list_t *argv, list_t *envp, buf_t *secrets)
{
    spec->argv = argv->items;
    spec->envp = envp->items;
    spec->secrets = buf_text (secrets);
    super_run (self->super, spec);
    crew_free_names (&argv->items);
    crew_free_names (&envp->items);
    s_wipe (secrets);
}

static void
s_start_broker (const crew_t *self)
{
    list_t argv = { 0 }, envp = { 0 };
    buf_t secrets = { 0 };
    s_add (&argv, text_format ("%s/busbar-broker", self->place->bin));
    s_add (&argv, text_format ("--run-dir=%s", self->place->run));
    s_add (&argv, text_format ("--keys-dir=%s", self->place->keys));
    s_add (&argv, xstrdup ("--secrets-fd=3"));
    if (opt_str (self->options, "door"))
        s_add (&argv, text_format ("--door=%s", opt_str (self->options, "door")));
    s_add (&argv, text_format ("--log-level=%s", opt_str (self->options, "log-level")));
    s_put_set (&argv, self->options, "broker");
    s_basics (&envp, self->place);
    s_settings (&envp, self->options, self->host, self->port);
    s_tell (self, "broker", &secrets);
    s_run (self, &(process_spec_t) { .name = "broker", .stage = STAGE_BROKER }, &argv, &envp,
           &secrets);
}

static bool
s_start_actor (const crew_t *self, const char *name, int instance)
{
    list_t argv = { 0 }, envp = { 0 };
    buf_t secrets = { 0 };
    char slot [96];
    snprintf (slot, sizeof slot, "%s.%d", name, instance);
    s_add (&argv, text_format ("%s/busbar-%s", self->place->bin, name));
    s_add (&argv, text_format ("--run-dir=%s", self->place->run));
    s_add (&argv, text_format ("--var-dir=%s", self->place->var));
    s_add (&argv, text_format ("--slot=%s", slot));
    s_add (&argv, xstrdup ("--secrets-fd=3"));
    s_add (&argv, text_format ("--log-level=%s", opt_str (self->options, "log-level")));
    s_put_set (&argv, self->options, name);
    s_basics (&envp, self->place);
    s_settings (&envp, self->options, self->host, self->port);
    s_add (&envp, text_format ("BUSBAR_DATABASE=%s user=busbar_%s", self->pg->plain, name));
    bool good = s_tell_actor (self, name, &secrets);
    //  Kernels and clusters each get a uid of their own; only root can give it to them.
    process_spec_t spec = { .name = name, .slot = slot, .stage = STAGE_ACTOR,
                            .privileged = s_listed ("kernels clusters", name) };
    s_run (self, &spec, &argv, &envp, &secrets);
    return good;
}

//  /metrics, on loopback: the port after the public one, or any free one when that is taken.
static int
s_admin_port (const crew_t *self, int instance)
{
    const char *given = opt_str (self->options, "admin-port");
    int port = given ? (int) opt_int (self->options, "admin-port") : self->port;
    if (given && port <= 0)
        return port;
    port += given ? instance - 1 : instance;
    return given || (port < 65536 && probe_is_free (port)) ? port : 0;
}

static void
s_start_edge (const crew_t *self, int instance)
{
    list_t argv = { 0 }, envp = { 0 };
    buf_t secrets = { 0 };
    char slot [32];
    snprintf (slot, sizeof slot, "edge.%d", instance);
    s_add (&argv, text_format ("%s/busbar-edge", self->place->bin));
    s_add (&argv, text_format ("--run-dir=%s", self->place->run));
    s_add (&argv, text_format ("--slot=%s", slot));
    s_add (&argv, text_format ("--host=%s", self->host));
    s_add (&argv, text_format ("--port=%d", self->port));
    s_add (&argv, xstrdup ("--secrets-fd=3"));
    if (opt_str (self->options, "tls-cert")) {
        s_add (&argv, text_format ("--tls-cert=%s", opt_str (self->options, "tls-cert")));
        s_add (&argv, text_format ("--tls-key=%s", opt_str (self->options, "tls-key")));
    }
    char *page = place_lend (self->place, place_share (self->place, "edge/dashboard/dist"));
    if (page)
        s_add (&argv, text_format ("--app-dir=%s", page));
    free (page);
    int admin = s_admin_port (self, instance);
    s_add (&argv, text_format ("--admin-port=%d", admin));
    s_add (&argv, text_format ("--log-level=%s", opt_str (self->options, "log-level")));
    s_put_set (&argv, self->options, "edge");
    s_basics (&envp, self->place);
    s_settings (&envp, self->options, self->host, self->port);
    //  Handed to every browser, so no secret; and where the edge looks for it.
    if (opt_str (self->options, "anon-key"))
        s_add (&envp, text_format ("ANON_KEY=%s", opt_str (self->options, "anon-key")));
    s_tell (self, "edge", &secrets);
    s_run (self, &(process_spec_t) { .name = "edge", .slot = slot, .stage = STAGE_EDGE },
           &argv, &envp, &secrets);
}

static bool
s_start_python (const crew_t *self, const char *file)
{
    char *path = realpath (file, NULL);
    if (!path)
        return complain (false, "--actor %s: %s", file, strerror (errno));
    path = place_lend (self->place, path);
    list_t argv = { 0 }, envp = { .items = crew_python_environment (self->place) };
    buf_t secrets = { 0 };
    s_add (&argv, xstrdup (PYTHON));
    s_add (&argv, path);
    const char *name = strrchr (path, '/') + 1;
    char slot [128];
    snprintf (slot, sizeof slot, "%.*s", (int) strcspn (name, "."), name);
    s_run (self, &(process_spec_t) { .name = slot, .stage = STAGE_ACTOR, .foreign = true },
           &argv, &envp, &secrets);
    return true;
}

static bool
s_start_pythons (const crew_t *self)
{
    char *files = xstrdup (opt_str (self->options, "actor")), *state = NULL;
    bool good = true;
    for (char *file = files ? strtok_r (files, ",", &state) : NULL; good && file;
         file = strtok_r (NULL, ",", &state))
        good = s_start_python (self, file);
    free (files);
    return good;
}

bool
crew_start (crew_t *self)
{
    s_start_broker (self);
    char **actors = crew_actors (self->place);
    list_t started = { 0 };
    bool good = true;
    for (char **actor = actors; good && *actor; actor++) {
        for (int n = 1; good && n <= s_instances (self, *actor); n++)
            good = s_start_actor (self, *actor, n);
        if (s_instances (self, *actor) > 0)
            s_add (&started, xstrdup (*actor));
    }
    crew_free_names (&actors);
    self->actors = started.items;
    if (!good || !s_start_pythons (self))
        return false;
    char *edge = text_format ("%s/busbar-edge", self->place->bin);
    int edges = access (edge, X_OK) == 0 ? s_instances (self, "edge") : 0;
    free (edge);
    for (int n = 1; n <= edges; n++)
        s_start_edge (self, n);
    self->edge = edges > 0;
    return true;
}
