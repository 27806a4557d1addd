//  actor.c -- the process of an actor: options, secrets, database, load, HELLO, service, ticks,
//  drain.

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>
#include <zmq.h>

#include "../../proto/fault.h"
#include "../../proto/secrets.h"
#include "kit.h"

#define DRAIN_MS 10000

static const opt_t s_common [] = {
    { "run-dir", OPT_STR, "var/run", 0, "BUSBAR_RUN", "directory of the ipc sockets" },
    { "var-dir", OPT_STR, "var", 0, "BUSBAR_VAR", "directory of everything kept on disk" },
    { "slot", OPT_STR, NULL, 0, NULL, "which of several instances this is (clusters.1)" },
    { "database", OPT_STR, "dbname=busbar", 0, "BUSBAR_DATABASE|DATABASE_URL",
      "PostgreSQL connection string, without password" },
    { "secrets-fd", OPT_INT, "-1", 0, NULL, "descriptor with name=value lines of secrets" },
    { "log-level", OPT_STR, "info", 0, "BUSBAR_LOG", "debug, info, warn or error" },
    { "clock-offset-ms", OPT_INT, "0", 0, NULL, "shift of the wall clock, for tests" },
    { "live-days", OPT_INT, "7", 0, NULL, "days that events are kept" },
    { "live-max", OPT_INT, "100000", 0, NULL, "events kept per channel" },
    { "live-trim", OPT_INT, "600", 0, NULL,
      "seconds between removals of what is no longer kept" } };

//  ---------------------------------------------------------------- options and secrets

static size_t
s_opt_count (const opt_t *options)
{
    size_t count = 0;
    while (options && options [count].name)
        count++;
    return count;
}

//  The common options and the actor's own in one table; the actor's own table is filled too.
static int
s_options (kit_t *kit, int *argc, char **argv)
{
    actor_t *actor = kit->actor;
    size_t own = s_opt_count (actor->options);
    kit->options = xcalloc (COUNT (s_common) + own + 1, sizeof *kit->options);
    memcpy (kit->options, s_common, sizeof s_common);
    if (own)
        memcpy (kit->options + COUNT (s_common), actor->options, own * sizeof *kit->options);
    int code = opt_read (kit->options, argc, argv, kit_text ("busbar-%s [options]", actor->name));
    for (size_t n = 0; n < own; n++)
        actor->options [n].value = kit->options [COUNT (s_common) + n].value;
    return code;
}

const char *
actor_opt (actor_t *actor, const char *name)
{
    return opt_str (actor->kit->options, name);
}

const char *
actor_secret (actor_t *actor, const char *name)
{
    (void) actor;
    return secrets_get (name);
}

static void
s_conn_word (buf_t *out, const char *keyword, const char *value)
{
    buf_putf (out, "%s='", keyword);
    for (; *value; value++) {
        if (*value == '\'' || *value == '\\')
            buf_putc (out, '\\');
        buf_putc (out, *value);
    }
    buf_puts (out, "' ");
}

//  What the operator gave, with the actor's own role and its password.
static char *
s_conninfo (kit_t *kit)
{
    buf_t out = { 0 };
    char *why = NULL;
    bool user = false, password = secrets_get ("db_password") != NULL;
    PQconninfoOption *parts = PQconninfoParse (actor_opt (kit->actor, "database"), &why);
    if (!parts)
        log_error ("database option is not a connection string", "why", why);
    PQfreemem (why);
    if (!parts)
        return NULL;
    for (PQconninfoOption *at = parts; at->keyword; at++) {
        if (!at->val || (password && strcmp (at->keyword, "password") == 0))
            continue;
        user |= strcmp (at->keyword, "user") == 0;
        s_conn_word (&out, at->keyword, at->val);
    }
    PQconninfoFree (parts);
    if (!user)
        s_conn_word (&out, "user", kit_text ("busbar_%s", kit->actor->name));
    if (password)
        s_conn_word (&out, "password", secrets_get ("db_password"));
    buf_putc (&out, 0);
    return (char *) out.data;
}

//  ---------------------------------------------------------------- ticks

typedef struct ticker {
    actor_t *actor;
    tick_t tick;
    const char *what;
    ltimer_t *timer;
} ticker_t;

static void
s_tick_over (void *arg, bool good)
{
    ticker_t *ticker = arg;
    (void) good;
    if (!ticker->actor->kit->draining)
        ltimer_set (ticker->timer, ticker->tick.every);
}

static void
s_tick (void *arg)
{
    ticker_t *ticker = arg;
    if (!spawn (ticker->actor, ticker->what, ticker->tick.fn, NULL, s_tick_over, ticker))
        s_tick_over (ticker, false);
}

static void
s_ticks_start (kit_t *kit)
{
    const tick_t own [] = { { opt_int (kit->options, "live-trim") * 1000, live_retention },
                            claims_tick (kit) };
    static const char *const names [] = { "retention", "claims" };
    const tick_t *every = kit->actor->every;
    size_t count = 0, owns = own [1].fn ? 2 : 1;
    while (every && every [count].fn)
        count++;
    kit->tickers = xcalloc (count + owns + 1, sizeof *kit->tickers);
    for (size_t n = 0; n < count + owns; n++) {
        ticker_t *ticker = xmalloc (sizeof *ticker);
        *ticker = (ticker_t) { kit->actor, n < count ? every [n] : own [n - count],
                              n < count ? "tick" : names [n - count], NULL };
        ticker->timer = loop_timer (kit->actor->loop, s_tick, ticker);
        ltimer_set (ticker->timer, ticker->tick.every);
        kit->tickers [n] = ticker;
    }
}

static void
s_ticks_end (kit_t *kit)
{
    for (size_t n = 0; kit->tickers && kit->tickers [n]; n++)
        ltimer_end (&kit->tickers [n]->timer);
}

static void
s_ticks_free (kit_t *kit)
{
    for (size_t n = 0; kit->tickers && kit->tickers [n]; n++)
        free (kit->tickers [n]);
    free (kit->tickers);
}

//  ---------------------------------------------------------------- start, step by step

static void
s_stop (kit_t *kit, int code)
{
    kit->exit_code = code;
    loop_stop (kit->actor->loop);
}

static void
s_on_ready (void *arg)
{
    kit_t *kit = arg;
    log_info ("serving", "slot", kit->actor->slot);
    if (kit->tickers) {
        if (kit->actor->on_fenced)
            actor_spawn (kit->actor, claims_verify, NULL);
        return;
    }
    s_ticks_start (kit);
    actor_spawn (kit->actor, live_repeat, NULL);
}

static void
s_on_refused (void *arg, const wire_refused_t *why)
{
    kit_t *kit = arg;
    log_error ("broker refused us", "code", kit_text ("%.*s", (int) why->code.size, why->code.data),
               "why", kit_text ("%.*s", (int) why->text.size, why->text.data));
    s_stop (kit, 1);
}

static void
s_serve (kit_t *kit)
{
    actor_t *actor = kit->actor;
    buf_t routes = { 0 }, channels = { 0 }, dependants = { 0 };
    routes_pack (kit, &routes, &channels, &dependants);
    bus_service (actor->bus, &(bus_service_t) {
        .serve = serve_call, .cancelled = serve_cancelled, .received = stream_received,
        .granted = stream_granted, .arg = actor, .routes = mp_buf (&routes), .claims = mp_none,
        .channels = mp_buf (&channels), .dependants = mp_buf (&dependants) });
    buf_free (&routes);
    buf_free (&channels);
    buf_free (&dependants);
    bus_start (actor->bus,
               &(bus_life_t) { .on_ready = s_on_ready, .on_refused = s_on_refused,
                               .on_directory = claims_directory, .arg = kit });
}

static CO void
s_load (req_t *req)
{
    live_load (req);
    req->actor->epoch = req->kit->epoch;
    claims_load (req);
    if (req->actor->orphans)
        req->actor->orphans (req);
    if (req->actor->load)
        req->actor->load (req);
}

static void
s_loaded (void *arg, bool good)
{
    kit_t *kit = arg;
    if (kit->draining)
        return;
    if (good)
        s_serve (kit);
    else
        s_stop (kit, error_retry (kit->failed) ? EX_TEMPFAIL : 1);
}

static void
s_db_ready (void *arg, const char *error)
{
    kit_t *kit = arg;
    if (error) {
        log_error ("database does not fit", "why", error);
        s_stop (kit, 1);
    }
    else if (!spawn (kit->actor, "load", s_load, NULL, s_loaded, kit))
        s_stop (kit, 1);
}

//  ---------------------------------------------------------------- the end

static bool
s_busy (kit_t *kit)
{
    actor_t *actor = kit->actor;
    return kit->live > 0 || kit->background > 0 || !live_queue_idle (kit->appends)
           || (actor->busy && actor->busy (actor));
}

static void
s_drain_look (void *arg)
{
    kit_t *kit = arg;
    actor_t *actor = kit->actor;
    if (s_busy (kit) && loop_now (actor->loop) < kit->drain_until)
        ltimer_set (kit->drain_timer, 10);
    else
        s_stop (kit, 0);
}

static void
s_terminate (void *arg)
{
    kit_t *kit = arg;
    if (kit->draining)
        return;
    kit->draining = true;
    s_ticks_end (kit);
    log_info ("draining", "live", log_num ((int64_t) kit->live));
    bus_leave (kit->actor->bus);
    if (kit->actor->drain)
        kit->actor->drain (kit->actor);
    kit->drain_until = loop_now (kit->actor->loop) + DRAIN_MS;
    kit->drain_timer = loop_timer (kit->actor->loop, s_drain_look, kit);
    ltimer_set (kit->drain_timer, 1);
}

//  What was answered last is still on its way out.
static void
s_flush (actor_t *actor)
{
    int64_t until = loop_now (actor->loop) + 50;
    do
        loop_turn (actor->loop, 10);
    while (loop_now (actor->loop) < until);
}

static void
s_close (kit_t *kit)
{
    actor_t *actor = kit->actor;
    kit->draining = true;
    s_ticks_end (kit);
    s_flush (actor);
    //  What has not come to its end by now holds on to what would be freed below, perhaps in a
    //  thread.
    if (s_busy (kit)) {
        log_warn ("ends with work in flight", "live", log_num ((int64_t) kit->live), "background",
                  log_num ((int64_t) kit->background));
        _exit (kit->exit_code);
    }
    s_ticks_free (kit);
    if (kit->drain_timer)
        ltimer_end (&kit->drain_timer);
    fetch_end (kit);
    offload_end (kit);
    bus_destroy (&actor->bus);
    live_queue_destroy (&kit->appends);
    db_destroy (&actor->db);
    zmq_ctx_term (actor->zmq);
    loop_destroy (&actor->loop);
    while (kit->spare) {
        req_t *next = kit->spare->next;
        free (kit->spare);
        kit->spare = next;
    }
    co_drain ();
    hash_destroy (&kit->methods);
    hash_destroy (&kit->serial);
    hash_destroy (&kit->in_flight);
    hash_destroy (&kit->cache);
    hash_destroy (&kit->claims);
    hash_destroy (&kit->siblings);
    sql_destroy (&kit->sql);
    buf_free (&kit->body);
    buf_free (&kit->meta);
    routes_destroy (kit);
    free (kit->options);
}

static bool
s_open (kit_t *kit)
{
    actor_t *actor = kit->actor;
    actor->run_dir = actor_opt (actor, "run-dir");
    actor->var_dir = actor_opt (actor, "var-dir");
    actor->slot = actor_opt (actor, "slot");
    if (!actor->slot)
        actor->slot = kit_text ("%s.1", actor->name);
    log_open (actor->slot, log_level_by_name (actor_opt (actor, "log-level")));
    if (!fault_open (actor->name))
        return false;
    secrets_read ((int) opt_int (kit->options, "secrets-fd"));
    char *conninfo = s_conninfo (kit);
    if (!conninfo)
        return false;

    actor->loop = loop_new ();
    loop_set_wall_offset (actor->loop, opt_int (kit->options, "clock-offset-ms"));
    actor->zmq = zmq_ctx_new ();
    kit->methods = hash_new (NULL);
    kit->serial = hash_new (free);
    kit->in_flight = hash_new (NULL);
    kit->cache = hash_new (free);
    kit->claims = claims_new ();
    kit->siblings = hash_new (free);
    kit->ready_end = &kit->ready;
    kit->start = (hook_t) { .fn = serve_ready, .arg = kit };
    kit->sql = sql_new (actor->sql ? actor->sql : (const char *const []) { NULL });
    actor->bus = bus_new (actor->loop, actor->zmq, &(bus_conf_t) {
        .role = "actor", .name = actor->name, .slot = actor->slot, .run_dir = actor->run_dir,
        .broker = kit_text ("ipc://%s/broker.s", actor->run_dir) });
    //  By this name others end our sessions, should we be gone without a word.
    actor->db = db_new (actor->loop, &(db_conf_t) {
        .conninfo = conninfo, .schema = actor->name, .sql = kit->sql,
        .who = kit_text ("%s/%s", actor->slot, bus_boot (actor->bus)) });
    free (conninfo);
    kit->appends = live_queue_new (kit);
    return true;
}

int
actor_main (int argc, char **argv, actor_t *actor)
{
    static kit_t kit;
    kit.actor = actor;
    actor->kit = &kit;
    int code = s_options (&kit, &argc, argv);
    if (code)
        return code == 1 ? 0 : code;
    if (argc > 1) {
        fprintf (stderr, "busbar-%s: unexpected argument %s\n", actor->name, argv [1]);
        return 2;
    }
    if (!s_open (&kit))
        return 2;
    routes_build (&kit);
    live_statements (&kit);
    idem_statements (&kit);
    claim_statements (&kit);
    for (size_t n = 0; kit.plans [n]; n++)
        plan_register (kit.plans [n], actor->db);
    signal (SIGPIPE, SIG_IGN);
    co_limit (4 * REQUESTS_MAX);
    loop_signal (actor->loop, SIGTERM, s_terminate, &kit);
    loop_signal (actor->loop, SIGINT, s_terminate, &kit);
    db_start (actor->db, s_db_ready, &kit);
    loop_run (actor->loop);
    s_close (&kit);
    return kit.exit_code;
}
