//  up.c -- `busbar up`: database, broker, actors, edges; ready; and everything's end.
//
//  One step follows the other by callbacks: make the database once, start it, prepare it (a job),
//  start the crew, ask until it is ready (a job), say so.

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "crew.h"
#include "probe.h"
#include "proto/certificate.h"
#include "proto/fault.h"
#include "up.h"
#include "vault.h"

#define JWT_SECRET_MIN 32

typedef struct {
    loop_t *loop;
    super_t *super;
    place_t place;
    pg_t pg;
    opt_t *options;
    crew_t crew;
    prepare_t prepare;
    probe_t probe;
    char *host, *tls_cert, *tls_key, *broker_path;
    int port;
    int code;
} up_t;

static opt_t s_options [] = {
    { "var", OPT_STR, NULL, 0, "BUSBAR_VAR", "directory of everything that is kept [var]", NULL },
    { "port", OPT_INT, "8002", 0, "PORT", "where the edge listens; 0 picks a free port", NULL },
    { "host", OPT_STR, "127.0.0.1", 0, "HOST", "address it listens on", NULL },
    { "admin-port", OPT_INT, NULL, 0, "ADMIN_PORT", "/metrics on loopback; -1: none [PORT + 1]",
      NULL },
    { "instances", OPT_STR, NULL, 0, NULL, "how many of an actor or of edge: ACTOR=N[,ACTOR=N]",
      NULL },
    { "actor", OPT_STR, NULL, 0, NULL, "Python actor to run too: FILE.py[,FILE.py]", NULL },
    { "set", OPT_STR, NULL, 0, "BUSBAR_SET",
      "an option of one program: PROGRAM.OPTION=VALUE, again (a line each) for more", NULL },
    { "tls-cert", OPT_STR, NULL, 0, "TLS_CERT", "certificate chain; with it the edge speaks TLS",
      NULL },
    { "tls-key", OPT_STR, NULL, 0, "TLS_KEY", "its private key", NULL },
    { "door", OPT_STR, NULL, 0, "BUSBAR_DOOR_LISTEN",
      "endpoint for bus programs from elsewhere, such as tcp://127.0.0.1:7700", NULL },
    { "demo", OPT_BOOL, "false", 0, NULL, "fill in demonstration data once it is ready", NULL },
    { "log-level", OPT_STR, "info", 0, "LOG_LEVEL", "debug, info, warn or error", NULL },
    { "environment", OPT_STR, "development", 0, "ENVIRONMENT", "name that /health shows", NULL },
    { "api-prefix", OPT_STR, "/api/v1", 0, "API_V1_STR", "prefix of the versioned paths", NULL },
    PG_OPTIONS,
    { "jwt-secret", OPT_STR, NULL, OPT_SECRET, "JWT_SECRET|JWT_SECRET_KEY|SECRET_KEY",
      "signs access tokens, at least 32 bytes; made once when absent", NULL },
    { "token-minutes", OPT_INT, "1440", 0, "ACCESS_TOKEN_EXPIRE_MINUTES", "life of a token", NULL },
    { "anon-key", OPT_STR, NULL, OPT_SECRET, "ANON_KEY", "apikey of the table routes", NULL },
    { "admin-email", OPT_STR, NULL, 0, "ADMIN_EMAIL", "first superuser", NULL },
    { "admin-password", OPT_STR, NULL, OPT_SECRET, "ADMIN_PASSWORD", "the first superuser's",
      NULL },
    { "external-url", OPT_STR, NULL, 0, "EXTERNAL_URL", "outside address put into mails", NULL },
    { "cors-origins", OPT_STR, NULL, 0, "CORS_ORIGINS", "exact origins, with commas; default any",
      NULL },
    { "storage-service-url", OPT_STR, NULL, 0, "STORAGE_SERVICE_URL",
      "outside address in upload and download links", NULL },
    { "storage-external-url", OPT_STR, NULL, 0, "STORAGE_EXTERNAL_URL", "the same, for clients",
      NULL },
    { "emails-enabled", OPT_BOOL, NULL, 0, "EMAILS_ENABLED", "send mail", NULL },
    { "smtp-host", OPT_STR, NULL, 0, "SMTP_HOST", "mail server", NULL },
    { "smtp-port", OPT_INT, NULL, 0, "SMTP_PORT", "its port", NULL },
    { "smtp-user", OPT_STR, NULL, 0, "SMTP_USER", "who we are there", NULL },
    { "smtp-password", OPT_STR, NULL, OPT_SECRET, "SMTP_PASSWORD", "password there", NULL },
    { "trino-password", OPT_STR, NULL, OPT_SECRET, "TRINO_PASSWORD",
      "of platform.trino-user, sent over https only", NULL },
    { "emails-from", OPT_STR, NULL, 0, "EMAILS_FROM_EMAIL", "sender of our mail", NULL },
    { "aws-access-key-id", OPT_STR, NULL, OPT_SECRET, "AWS_ACCESS_KEY_ID", "AWS credentials",
      NULL },
    { "aws-secret-access-key", OPT_STR, NULL, OPT_SECRET, "AWS_SECRET_ACCESS_KEY", "the same",
      NULL },
    { "aws-session-token", OPT_STR, NULL, OPT_SECRET, "AWS_SESSION_TOKEN", "the same", NULL },
    { "aws-region", OPT_STR, NULL, 0, "AWS_REGION", "AWS region", NULL },
    { "openai-base-url", OPT_STR, NULL, 0, "OPENAI_BASE_URL", "endpoint of a language model",
      NULL },
    { "openai-api-key", OPT_STR, NULL, OPT_SECRET, "OPENAI_API_KEY", "its key", NULL },
    { "ollama-host", OPT_STR, NULL, 0, "OLLAMA_HOST", "address of an Ollama server", NULL },
    { "fault", OPT_STR, NULL, 0, "BUSBAR_FAULT",
      "a testing aid: let named places fail, as proto/fault.h says", NULL },
    { "redis-url", OPT_STR, NULL, OPT_SECRET, "REDIS_URL", "accepted and ignored", NULL },
    { 0 }
};

//  ---- steps, last one first ----

static void
s_demo_done (void *arg, int code)
{
    (void) arg;
    if (code != 0)
        log_error ("demonstration data could not be made", "exit_code", log_num (code));
}

static void
s_start_demo (up_t *self)
{
    char *script = place_share (&self->place, "tools/demo.py");
    if (!script) {
        log_error ("there is no tools/demo.py here");
        return;
    }
    char *base = text_format ("http%s://%s:%d", self->probe.tls ? "s" : "", self->host, self->port);
    char *argv [] = { "/usr/bin/python3", script, base, NULL };
    char **envp = crew_python_environment (&self->place);
    super_run (self->super, &(process_spec_t) { .name = "demo", .stage = STAGE_JOB, .argv = argv,
               .envp = envp, .privileged = true, .talks = true,
               .done = s_demo_done, .arg = self });
    crew_free_names (&envp);
    free (base), free (script);
}

static void
s_ready (void *arg, int code)
{
    up_t *self = arg;
    if (code != 0) {
        super_fail (self->super);
        return;
    }
    if (self->crew.edge)
        printf ("ready http%s://%s:%d\n", self->probe.tls ? "s" : "", self->host, self->port);
    else
        printf ("ready ipc://%s\n", self->broker_path);
    fflush (stdout);
    if (opt_bool (self->options, "demo"))
        s_start_demo (self);
}

static int
s_probe (void *arg)
{
    return probe_wait (&((up_t *) arg)->probe);
}

static void
s_prepared (void *arg, int code)
{
    up_t *self = arg;
    if (code != 0) {
        log_error ("the database could not be prepared");
        super_fail (self->super);
        return;
    }
    self->crew = (crew_t) { .place = &self->place, .pg = &self->pg, .options = self->options,
                            .super = self->super, .host = self->host, .port = self->port };
    if (!crew_start (&self->crew)) {
        super_fail (self->super);
        return;
    }
    if (!self->crew.edge)
        log_warn ("no edge is running: only the bus serves");
    self->probe = (probe_t) { .host = self->host, .port = self->crew.edge ? self->port : 0,
                              .tls = self->tls_cert != NULL, .path = self->broker_path,
                              .actors = self->crew.actors };
    super_run (self->super, &(process_spec_t) { .name = "probe", .stage = STAGE_JOB,
               .work = s_probe, .done = s_ready, .arg = self });
}

static int
s_prepare (void *arg)
{
    return prepare_database (&((up_t *) arg)->prepare);
}

static void
s_start_database (up_t *self)
{
    if (self->pg.private && !pg_serve (&self->pg, &self->place, self->super)) {
        super_fail (self->super);
        return;
    }
    self->prepare = (prepare_t) { .place = &self->place, .pg = &self->pg };
    super_run (self->super, &(process_spec_t) { .name = "prepare", .stage = STAGE_JOB,
               .privileged = true, .work = s_prepare, .done = s_prepared, .arg = self });
}

static void
s_made (void *arg, int code)
{
    up_t *self = arg;
    if (code != 0 || !pg_keep (&self->place)) {
        log_error ("the database could not be made", "exit_code", log_num (code));
        super_fail (self->super);
        return;
    }
    s_start_database (self);
}

//  ---- before the first step ----

//  "--instances a=2 --instances b=2" is the list a=2,b=2; the table of options keeps one value.
static void
s_join_repeated (int *argc, char **argv, const char *name, char separator)
{
    int first = -1, rest = 1;
    size_t size = strlen (name);
    for (int at = 1; at < *argc; at++) {
        bool split = strcmp (argv [at], name) == 0 && at + 1 < *argc;
        bool joined = strncmp (argv [at], name, size) == 0 && argv [at] [size] == '=';
        const char *value = split ? argv [at + 1] : joined ? argv [at] + size + 1 : NULL;
        at += split;
        if (!value)
            argv [rest++] = argv [at];
        else if (first < 0) {
            first = rest++;
            argv [first] = text_format ("%s=%s", name, value);
        }
        else {
            char *longer = text_format ("%s%c%s", argv [first], separator, value);
            free (argv [first]);
            argv [first] = longer;
        }
    }
    argv [*argc = rest] = NULL;
}

static bool
s_check_tls (up_t *self)
{
    const char *cert = opt_str (s_options, "tls-cert"), *key = opt_str (s_options, "tls-key");
    if (!cert != !key)
        return complain (false, "--tls-cert and --tls-key come together");
    if (!cert)
        return true;
    self->tls_cert = realpath (cert, NULL);
    if (!self->tls_cert)
        return complain (false, "--tls-cert %s: %s", cert, strerror (errno));
    self->tls_key = realpath (key, NULL);
    if (!self->tls_key)
        return complain (false, "--tls-key %s: %s", key, strerror (errno));
    char *why = NULL;
    SSL_CTX *good = certificate_open (self->tls_cert, self->tls_key, &why);
    if (!good)
        complain (false, "%s", why);
    SSL_CTX_free (good);
    free (why);
    return good != NULL;
}

//  Options that say one thing each, but not in words that others understand: paths become absolute.
static void
s_set (const char *name, const char *value)
{
    for (opt_t *opt = s_options; opt->name; opt++)
        if (strcmp (opt->name, name) == 0)
            opt->value = value;
}

static int
s_check_options (up_t *self)
{
    const char *secret = opt_str (s_options, "jwt-secret");
    int64_t port = opt_int (s_options, "port");
    if (port < 0 || port > 65535)
        return complain (DONE_USAGE, "--port %lld: must be 0 to 65535", (long long) port);
    if (secret && strlen (secret) < JWT_SECRET_MIN)
        return complain (DONE_USAGE, "JWT_SECRET has %zu bytes: must have at least %d",
                         strlen (secret), JWT_SECRET_MIN);
    const char *faults = opt_str (s_options, "fault");
    char *why = faults ? fault_check (text_of (faults)) : NULL;
    if (why) {
        int done = complain (DONE_USAGE, "--fault: %s", why);
        free (why);
        return done;
    }
    if (!s_check_tls (self) || !crew_check (&self->place, s_options))
        return DONE_USAGE;
    s_set ("tls-cert", self->tls_cert);
    s_set ("tls-key", self->tls_key);
    self->host = xstrdup (opt_str (s_options, "host"));
    self->port = (int) port;
    if (opt_str (s_options, "redis-url"))
        log_info ("REDIS_URL is ignored: no cache server is needed");
    return DONE_OK;
}

//  ---- life ----

static void
s_ended (void *arg, int code)
{
    up_t *self = arg;
    self->code = code;
    loop_stop (self->loop);
}

static void
s_on_stop (void *arg)
{
    super_stop (((up_t *) arg)->super);
}

static void
s_on_hangup (void *arg)
{
    super_signal (((up_t *) arg)->super, "edge", SIGHUP);
}

static void
s_serve (up_t *self)
{
    self->loop = loop_new ();
    self->super = super_new (self->loop, &self->place, s_ended, self);
    loop_signal (self->loop, SIGTERM, s_on_stop, self);
    loop_signal (self->loop, SIGINT, s_on_stop, self);
    loop_signal (self->loop, SIGHUP, s_on_hangup, self);
    super_publish (self->super, self->port);
    if (self->place.drop)
        log_info ("started by root, serving as an ordinary user", "user", self->place.user);
    if (!self->pg.private || pg_made (&self->place))
        s_start_database (self);
    else if (!pg_make (&self->pg, &self->place, self->super, s_made, self))
        super_fail (self->super);
    loop_run (self->loop);
    super_destroy (&self->super);
    loop_destroy (&self->loop);
}

static int
s_up (up_t *self)
{
    if (!place_open (&self->place, opt_str (s_options, "var"), true) || !place_lock (&self->place))
        return DONE_ERROR;
    int rc = s_check_options (self);
    if (rc != DONE_OK)
        return rc;
    if (!probe_free (self->host, &self->port) || !pg_open (&self->pg, &self->place, s_options))
        return DONE_ERROR;
    self->broker_path = text_format ("%s/broker.s", self->place.run);
    signal (SIGPIPE, SIG_IGN);
    s_serve (self);
    return self->code;
}

int
up_command (int argc, char **argv)
{
    s_join_repeated (&argc, argv, "--instances", ',');
    s_join_repeated (&argc, argv, "--actor", ',');
    s_join_repeated (&argc, argv, "--set", '\n');
    int rc = options_read (s_options, &argc, argv, "busbar up [OPTIONS]");
    if (rc != DONE_OK)
        return options_exit (rc);
    if (argc > 1)
        return complain (DONE_USAGE, "%s: up takes options only", argv [1]);
    log_open ("busbar", log_level_by_name (opt_str (s_options, "log-level")));
    up_t up = { .options = s_options };
    int code = s_up (&up);
    crew_free_names (&up.crew.actors);
    pg_close (&up.pg);
    place_close (&up.place);
    free (up.host), free (up.tls_cert), free (up.tls_key), free (up.broker_path);
    return code;
}
