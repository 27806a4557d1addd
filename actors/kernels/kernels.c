//  kernels.c -- the actor of Jupyter kernels and executions: options, routes, start and end.

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actors/kit/spawner.h"
#include "kernels.h"

SQL_FILE (kernels_sql, "db/queries/kernels.sql");

#define PROBE_PATIENCE 15000 //  ms
#define DRAIN_PATIENCE 7000  //  ms until kernels that do not end are dropped
#define CODE_MAX (1 << 20)   //  characters of one cell

static kernels_t s_kernels;
static int s_spawner = -1;

static opt_t s_options [] = {
    { "kernel-path", OPT_STR, "", 0, NULL, "further directories of kernelspecs, colons between" },
    { "kernel-memory", OPT_INT, "1024", 0, NULL, "MiB that a kernel may use" },
    { "kernel-disk", OPT_INT, "256", 0, NULL, "MiB of temporary files of a kernel" },
    { "kernel-processes", OPT_INT, "256", 0, NULL, "processes and threads of a kernel" },
    { "guest-disk", OPT_INT, "1024", 0, NULL,
      "MiB that the tables of a user's SQL cells may take" },
    { "kernel-output", OPT_INT, "8192", 0, NULL, "KiB of output kept per execution" },
    { "kernel-idle", OPT_INT, "1800", 0, NULL, "seconds until an idle kernel is stopped" },
    { "kernel-warm", OPT_INT, "1", 0, NULL, "python kernels kept in reserve" },
    { "kernels", OPT_INT, "32", 0, NULL, "kernels at once" },
    { "kernels-per-user", OPT_INT, "8", 0, NULL, "kernels of one user at once" },
    { "kernel-start", OPT_INT, "60", 0, NULL, "seconds until a kernel must be ready" },
    { "kernels-own-memory", OPT_INT, "1024", 0, NULL,
      "MiB of this process, above which the loudest kernel ends" },
    { "uid-base", OPT_INT, "60600", 0, NULL,
      "first of the uids of kernels, when root starts them" },
    { "uid-count", OPT_INT, "512", 0, NULL, "how many uids there are" },
    { "allow-unsandboxed", OPT_BOOL, "false", 0, NULL,
      "run kernels bare where no sandbox is possible" },
    { 0 }
};

kernels_t *
kernels_of (req_t *req)
{
    (void) req;
    return &s_kernels;
}

//  ---- kernels ----

static void
s_put_kernel (buf_t *out, const kernel_t *kernel, int64_t now)
{
    mp_put_map (out, 8);
    mp_pair_str (out, "id", kernel_id (kernel));
    mp_pair_str (out, "notebook_id", kernel_notebook (kernel));
    mp_pair_str (out, "session", kernel_session (kernel));
    mp_pair_str (out, "language", kernel_language (kernel));
    mp_pair_str (out, "state", kernel_state (kernel));
    mp_pair_int (out, "queued", (int64_t) kernel_queued (kernel));
    mp_pair_int (out, "memory", (int64_t) kernel_memory (kernel));
    mp_pair_int (out, "idle_ms", kernel_unused (kernel) ? now - kernel_used (kernel) : 0);
}

static bool
s_may (req_t *req, const kernel_t *kernel)
{
    const char *user = req_user (req), *owner = kernel_user (kernel);
    return user ? owner && strcmp (owner, user) == 0 : req_is_admin (req);
}

//  What the other instances have; one that does not answer is left out.
static CO uint32_t
s_put_others (req_t *req, buf_t *body)
{
    actor_t *actor = req_actor (req);
    const char *slots [16];
    size_t count = 0;
    uint32_t kernels = 0;
    bus_entry_t entry;
    for (size_t at = 0; count < 16 && bus_each_entry (actor->bus, &at, &entry);)
        if (strcmp (entry.name, actor->name) == 0 && strcmp (entry.slot, actor->slot) != 0
            && strcmp (entry.state, "up") == 0)
            slots [count++] = req_copy (req, text_of (entry.slot));
    buf_t *params = req_buf (req);
    mp_put_map (params, 1);
    mp_pair_bool (params, "here", true);
    for (size_t n = 0; n < count; n++) {
        bus_reply_t reply = req_call (
            req, "kernels.list", mp_buf (params), mp_none,
            &(req_call_t) { .slot = slots [n], .ttl = 2000, .operator = !req_user (req) });
        for (mp_iter_t it = mp_iter (reply.body);
             mp_type (reply.body) == MP_ARRAY && mp_next (&it);) {
            mp_put (body, it.value);
            kernels++;
        }
    }
    return kernels;
}

static void
kernels_list (req_t *req)
{
    kernels_t *kernels = kernels_of (req);
    buf_t *body = req_buf (req);
    size_t mark = mp_open_array (body);
    uint32_t count = 0;
    kernel_t *kernel;
    for (size_t at = 0; (kernel = pool_each (kernels->pool, &at));)
        if (s_may (req, kernel)) {
            s_put_kernel (body, kernel, loop_now (kernels->actor->loop));
            count++;
        }
    if (!req_bool (req, "here"))
        count += s_put_others (req, body);
    mp_close (body, mark, count);
    reply_mp (req, 200, mp_buf (body));
}

//  Stop the notebook's kernels, or those of one session; the languages that they spoke,
//  NULL-terminated. NULL: another instance answered.
static CO const char **
s_stop (req_t *req, const char *method, const char *why)
{
    kernels_t *kernels = kernels_of (req);
    const char *notebook = req_str (req, "notebook_id");
    const char *session = req_has (req, "session") ? req_str (req, "session") : NULL;
    const char **languages = req_alloc (req, 9 * sizeof *languages);
    size_t count = 0;
    kernel_t *kernel;
    for (size_t at = 0; (kernel = pool_each (kernels->pool, &at)) && count < 8;)
        if (kernel_notebook (kernel) && strcmp (kernel_notebook (kernel), notebook) == 0
            && kernel_serves (kernel, session)
            && strcmp (kernel_state (kernel), "stopping") != 0) {
            if (!s_may (req, kernel))
                fail (req, E_NOT_FOUND, "no kernel runs for this notebook");
            languages [count++] = req_copy (req, text_of (kernel_language (kernel)));
            kernel_stop (kernel, why, false);
        }
    if (count)
        return languages;
    buf_t *params = req_buf (req);
    mp_put_map (params, session ? 2 : 1);
    mp_pair_str (params, "notebook_id", notebook);
    if (session)
        mp_pair_str (params, "session", session);
    if (req_elsewhere (req, notebook_key (req, notebook), method, mp_buf (params), mp_none))
        return NULL;
    fail (req, E_NOT_FOUND, "no kernel runs for this notebook");
}

static void
kernels_shutdown (req_t *req)
{
    if (s_stop (req, "kernels.shutdown", "kernel was shut down"))
        reply_message (req, 200, "Deleted");
}

static void
kernels_restart (req_t *req)
{
    kernels_t *kernels = kernels_of (req);
    const char *notebook = req_str (req, "notebook_id"), *owner = req_user (req), *why;
    error_code_t code;
    kernel_t *kernel = NULL;
    for (size_t at = 0; !owner && (kernel = pool_each (kernels->pool, &at));)
        if (kernel_notebook (kernel) && strcmp (kernel_notebook (kernel), notebook) == 0)
            owner = req_copy (req, text_of (kernel_user (kernel)));
    const char **languages = s_stop (req, "kernels.restart", "kernel was restarted");
    if (!languages)
        return;
    buf_t *body = req_buf (req);
    size_t mark = mp_open_array (body);
    uint32_t count = 0;
    for (; *languages; languages++)
        if ((kernel = pool_take (kernels->pool, notebook, NULL, *languages, owner, NULL, &code,
                                 &why))) {
            s_put_kernel (body, kernel, loop_now (kernels->actor->loop));
            count++;
        }
    mp_close (body, mark, count);
    reply_mp (req, 200, mp_buf (body));
}

//  ---- parents that go ----

static CO void
s_drop_notebook (req_t *req, const char *notebook)
{
    kernels_t *kernels = kernels_of (req);
    pool_stop (kernels->pool, notebook, "notebook was deleted");
    const char *key = notebook_key (req, notebook);
    const char *owner = bus_owner (kernels->actor->bus, text_of (key));
    if (owner && strcmp (owner, kernels->actor->slot) != 0) {
        buf_t *params = req_buf (req);
        mp_put_map (params, 1);
        mp_pair_str (params, "notebook_id", notebook);
        req_call (req, "kernels.shutdown", mp_buf (params), mp_none,
                  &(req_call_t) { .slot = req_print (req, "%s", owner), .operator = true });
    }
    unit_t *unit = unit_new (req);
    unit_add (unit, "executions_of_notebook_delete", notebook);
    unit_commit (unit);
}

static CO void
s_drop_user (req_t *req, const char *user)
{
    row_t rows = db_rows (req, "notebooks_of_user", user);
    for (int n = 0; n < rows_count (rows); n++)
        s_drop_notebook (req, row_str (rows_at (rows, n), "notebook_id"));
    guest_forget (req, user);
}

//  ---- start ----

typedef struct {
    req_t *req;
    bool done;
} probing_t;

static void
s_on_probed (void *arg, const char *kind, const char *why)
{
    probing_t *probing = arg;
    probing->done = true;
    if (kind)
        log_info ("kernels run in a sandbox", "kind", kind);
    else {
        buf_t text = { 0 };
        buf_putf (&text,
                  "notebooks can't run here: kernels need a sandbox, and none is possible (%s)",
                  why);
        buf_putc (&text, 0);
        s_kernels.refusal = (char *) text.data;
        log_warn ("no kernel will be started", "why", why);
    }
    req_wake (probing->req);
}

//  Of instances on one machine each has a quarter of the uids.
static uint32_t
s_uid_base (const actor_t *actor, uint32_t count)
{
    const char *number = strrchr (actor->slot, '.');
    uint32_t instance = number ? (uint32_t) strtoul (number + 1, NULL, 10) : 1;
    return (uint32_t) opt_int (s_options, "uid-base") + (instance + 3) % 4 * count;
}

static void
s_configure (kernels_t *kernels)
{
    actor_t *actor = kernels->actor;
    uint32_t uids = (uint32_t) opt_int (s_options, "uid-count") / 4;
    snprintf (kernels->dir, sizeof kernels->dir, "%s/k", actor->var_dir);
    kernels->sandbox = sandbox_new (actor->loop, s_spawner, &(sandbox_conf_t) {
        .dir = kernels->dir, .unsandboxed = opt_bool (s_options, "allow-unsandboxed"),
        .uid_base = s_uid_base (actor, uids), .uid_count = uids,
        .disk = (unsigned) opt_int (s_options, "kernel-disk"),
        .processes = (unsigned) opt_int (s_options, "kernel-processes") });
    kernels->records = hash_new (NULL);
    kernels->claims = hash_new (NULL);
    kernels->shown = hash_new (free);
    kernels->guests = hash_new (NULL);
    kernels->full = hash_new (NULL);
    pool_conf_t conf = {
        .kernel = { .loop = actor->loop, .zmq = actor->zmq, .sandbox = kernels->sandbox,
                    .memory = (uint64_t) opt_int (s_options, "kernel-memory") << 20,
                    .output = (size_t) opt_int (s_options, "kernel-output") << 10,
                    .start_timeout = 1000 * opt_int (s_options, "kernel-start"),
                    .calls = record_calls },
        .path = opt_str (s_options, "kernel-path"),
        .warm = (size_t) opt_int (s_options, "kernel-warm"),
        .most = (size_t) opt_int (s_options, "kernels"),
        .per_user = (size_t) opt_int (s_options, "kernels-per-user"),
        .cull = 1000 * opt_int (s_options, "kernel-idle"),
        .own_memory = (uint64_t) opt_int (s_options, "kernels-own-memory") << 20 };
    conf.kernel.calls.arg = kernels;
    kernels->pool = pool_new (&conf);
}

static CO void
s_load (req_t *req)
{
    kernels_t *kernels = kernels_of (req);
    kernels->actor = req_actor (req);
    kernels->actor->state = kernels;
    s_configure (kernels);
    probing_t probing = { .req = req };
    sandbox_probe (kernels->sandbox, s_on_probed, &probing);
    int64_t until = loop_now (kernels->actor->loop) + PROBE_PATIENCE;
    while (!probing.done && loop_now (kernels->actor->loop) < until)
        req_sleep (req, until - loop_now (kernels->actor->loop));
    if (!probing.done)
        fail (req, E_INTERNAL, "sandbox cannot be tried");
    if (!kernels->refusal)
        pool_open (kernels->pool);
}

//  ---- end ----

static int64_t s_drop_at;

static void
s_drain (actor_t *actor)
{
    s_kernels.closing = true;
    s_drop_at = loop_now (actor->loop) + DRAIN_PATIENCE;
    if (!s_kernels.pool)
        return;
    pool_close (s_kernels.pool, "kernels process is stopping");
    text_t key;
    void *item;
    for (size_t at = 0; hash_each (s_kernels.records, &at, &key, &item);)
        if (((record_t *) item)->stop)
            ((record_t *) item)->stop (item);
}

static bool
s_busy (actor_t *actor)
{
    kernels_t *kernels = &s_kernels;
    if (!kernels->pool)
        return false;
    if (loop_now (actor->loop) < s_drop_at
        && (!pool_empty (kernels->pool) || records_alive (kernels) > 0))
        return true;
    //  Their sockets must be closed before ZeroMQ ends.
    pool_destroy (&kernels->pool);
    sandbox_destroy (&kernels->sandbox);
    return false;
}

//  ---- declarations ----

static const field_t start_fields [] = { { "notebook_id", T_UUID, REQUIRED },
                                        { "owner", T_UUID, REQUIRED },
                                        { "user", T_UUID, NULLABLE },
                                        { "audience", T_TEXT, REQUIRED, .min = 1, .max = 100 },
                                        { "cell_id", T_TEXT, NULLABLE, .max = 255 },
                                        { "language", T_TEXT, REQUIRED, .min = 1, .max = 32 },
                                        { "code", T_TEXT, REQUIRED, .max = CODE_MAX },
                                        { "cluster_id", T_UUID, NULLABLE },
                                        { "wait_ms", T_INT, .min = 0, .max = 3600000, .def = "0" },
                                        { "blocking", T_BOOL, NULLABLE },
                                        { "idempotency_key", T_TEXT, NULLABLE, .max = 255 },
                                        { "session", T_TEXT, NULLABLE, .max = 500 },
                                        { "continues", T_BOOL, NULLABLE },
                                        { 0 } };

static const field_t list_fields [] = {
    { "notebook_id", T_UUID, FILTER }, { "state", T_TEXT, FILTER, .max = 32 },
    { "session", T_TEXT, FILTER, .max = 500 },
    { "limit", T_INT, .min = 1, .max = 1000, .def = "100" }, { 0 } };

static const field_t event_fields [] = { { "from", T_INT, .min = 0, .max = INT64_MAX, .def = "0",
                                          .doc = "offset after which events are wanted" },
                                        { "limit", T_INT, .min = 1, .max = 1000, .def = "300" },
                                        { 0 } };

static const field_t input_fields [] = { { "value", T_TEXT, REQUIRED, .max = 65536 }, { 0 } };
static const field_t here_fields [] = {
    { "here", T_BOOL, .doc = "only those of the process that answers" }, { 0 } };
static const field_t guest_fields [] = { { "user", T_UUID, REQUIRED },
                                        { "again", T_BOOL, .doc = "it could not log in" },
                                        { 0 } };
static const field_t notebook_fields [] = { { "notebook_id", T_UUID, REQUIRED }, { 0 } };
static const field_t shutdown_fields [] = {
    { "notebook_id", T_UUID, REQUIRED },
    { "session", T_TEXT, .min = 1, .max = 500,
      .doc = "only those of that session, which is apart from the notebook" },
    { 0 } };

#define EVENTS                                                                                     \
    "execution.queued|execution.started|execution.stream|execution.display_data|"                  \
    "execution.update_display_data|execution.execute_result|execution.error|execution.clear_"      \
    "output|"                                                                                      \
    "execution.input_request|execution.truncated|execution.oom|execution.interrupting|execution."  \
    "finished|"                                                                                    \
    "kernel.starting|kernel.idle|kernel.busy|kernel.interrupting|kernel.stopping|kernel.dead"

static const route_t routes [] = {
    ACTION ("executions.start", NULL, NULL, execution_start, .spec.auth = AUTH_OPERATOR,
            .spec.in = start_fields, .spec.timeout = 3600000, .spec.body_max = 4 * CODE_MAX,
            .spec.status = 202, .spec.events = EVENTS,
            .spec.doc = "Run a cell (platform asks, after it has checked who may)"),
    ACTION ("executions.list", "GET", "/executions", execution_list, .spec.in = list_fields,
            .spec.reply = "array", .spec.doc = "Executions, newest first, without their output"),
    ACTION ("executions.get", "GET", "/executions/:id", execution_get,
            .spec.doc = "An execution with its outputs"),
    ACTION ("executions.events", "GET", "/executions/:id/events", execution_events,
            .spec.in = event_fields, .spec.blocking = true,
            .spec.doc = "Events of an execution after an offset; waits for the next up to ?wait="),
    ACTION ("executions.interrupt", "POST", "/executions/:id/interrupt", execution_interrupt,
            .spec.status = 202, .spec.doc = "Stop an execution, harder and harder until it ends"),
    ACTION ("executions.input", "POST", "/executions/:id/input", execution_input,
            .spec.in = input_fields, .spec.doc = "Answer what the execution asks"),
    ACTION ("kernels.list", "GET", "/kernels", kernels_list, .spec.in = here_fields,
            .spec.reply = "array", .spec.doc = "Kernels of the caller that run now"),
    ACTION ("kernels.restart", "POST", "/kernels/:notebook_id/restart", kernels_restart,
            .spec.in = notebook_fields, .spec.reply = "array",
            .spec.doc = "Give a notebook fresh kernels"),
    ACTION ("kernels.shutdown", "DELETE", "/kernels/:notebook_id", kernels_shutdown,
            .spec.in = shutdown_fields, .spec.doc = "Stop a notebook's kernels"),
    ACTION ("guests.open", NULL, NULL, guest_answer, .spec.auth = AUTH_OPERATOR,
            .spec.in = guest_fields, .spec.idempotent = true, .spec.key = "param:user",
            .spec.doc = "A user's login in the guest database"),
    { 0 }
};

//  And executions/<id>, the log of one.
static const channel_t channels [] = { { "executions", "collection", "executions_snapshot" },
                                       { "kernels", "collection", "kernels_snapshot" },
                                       { 0 } };
static const dependant_t dependants [] = { { "notebook", s_drop_notebook },
                                          { "user", s_drop_user },
                                          { 0 } };
static const tick_t ticks [] = { { 60000, notebook_release }, { 0 } };

int
main (int argc, char **argv)
{
    s_spawner = spawner_start ();
    if (s_spawner < 0 || !spawner_drop_root (argc, argv)) {
        perror ("busbar-kernels");
        return 70;
    }
    return actor_main (argc, argv, &(actor_t) {
        .name = "kernels", .sql = (const char *const []) { kernels_sql, NULL }, .routes = routes,
        .channels = channels, .dependants = dependants, .every = ticks, .options = s_options,
        .load = s_load, .drain = s_drain, .busy = s_busy, .on_fenced = notebook_fenced,
        .orphans = notebook_orphans });
}
