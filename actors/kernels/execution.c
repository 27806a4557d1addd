//  execution.c -- methods on executions.

#include <stdio.h>

#include "kernels.h"

#define EVENTS_WAIT 25000    //  ms that a poll waits at most
#define QUEUE_MAX 200        //  cells that wait for one kernel
#define ELSEWHERE_EVERY 250  //  ms between looks at an execution that runs in another instance

//  ---- answers ----

static CO row_t
s_row (req_t *req, const char *id)
{
    row_t row = db_row (req, "execution_get", req_user (req), id);
    if (row_none (row))
        fail (req, E_NOT_FOUND, "execution not found");
    return row;
}

//  Is this one of the audiences that the caller may hear? Memberships are identity's.
static CO bool
s_may_hear (req_t *req, const char *audience)
{
    buf_t *params = req_buf (req), *room = req_buf (req);
    mp_put_map (params, 1);
    mp_pair_str (params, "user", req_user (req));
    bus_reply_t reply = req_call (req, "identity.grants", mp_buf (params), mp_none,
                                  &(req_call_t) { .operator = true, .idempotent = true });
    if (reply.status != 200)
        fail_reply (req, &reply);
    mp_t audiences = mp_get (json_plain (reply.body, room), "audiences");
    for (mp_iter_t it = mp_iter (audiences); mp_next (&it);)
        if (text_is (mp_text (it.value), audience))
            return true;
    return false;
}

//  For reading: whoever shares the workspace sees what runs there.
static CO row_t
s_shown (req_t *req, const char *id)
{
    row_t row = db_row (req, "execution_get", req_user (req), id);
    if (!row_none (row))
        return row;
    row_t shared = db_row (req, "execution_shared", id);
    if (row_none (shared) || !s_may_hear (req, row_str (shared, "audience")))
        fail (req, E_NOT_FOUND, "execution not found");
    return db_row (req, "execution_get", NULL, id);
}

static bool
s_is_over (row_t row)
{
    return row_str (row, "finished_at") != NULL;
}

//  The row, and where its log can be followed from.
static void
s_answer (req_t *req, unsigned status, row_t row)
{
    buf_t *body = req_buf (req);
    size_t mark = mp_open_map (body);
    uint32_t pairs = row_put (req, body, row), live = req_live_put (req, body);
    if (!live) {
        mp_put_str (body, "live");
        mp_put_map (body, 3);
        mp_pair_str (body, "ch", row_str (row, "channel"));
        mp_pair_str (body, "epoch", req_actor (req)->epoch);
        mp_pair_int (body, "off", row_int (row, "_top"));
        live = 1;
    }
    mp_close (body, mark, pairs + live);
    reply_mp (req, status, mp_buf (body));
}

void
execution_get (req_t *req)
{
    s_answer (req, 200, s_shown (req, req_id (req)));
}

void
execution_list (req_t *req)
{
    reply_rows (req, 200,
                db_rows (req, "executions_list", req_user (req), req_str (req, "notebook_id"),
                         req_str (req, "state"), req_str (req, "limit"),
                        req_str (req, "session")));
}

//  ---- start ----

//  What its notebook is attached to, or NULL. Whether it is the owner's cluster, who owns it says.
static CO const attachment_t *
s_attachment (req_t *req)
{
    const char *cluster = req_str (req, "cluster_id");
    if (!cluster)
        return NULL;
    buf_t *params = req_buf (req);
    mp_put_map (params, 2);
    mp_pair_str (params, "id", cluster);
    mp_pair_str (params, "user", req_str (req, "owner"));
    bus_reply_t reply = req_call (req, "compute_clusters.relay", mp_buf (params), mp_none,
                                  &(req_call_t) { .idempotent = true, .operator = true });
    if (reply.status == 404)
        fail_field (req, E_NOT_FOUND, "cluster_id", "no such cluster");
    if (reply.status >= 400)
        fail_reply (req, &reply);
    attachment_t *to = req_alloc (req, sizeof *to);
    text_t path = mp_text (mp_get (reply.body, "socket"));
    mp_iter_t names = mp_iter (mp_get (reply.body, "environment"));
    if (path.size >= sizeof to->socket || !mp_next (&names))
        fail (req, E_INTERNAL, "cluster cannot be reached");
    text_t name = mp_text (names.key), value = mp_text (names.value);
    snprintf (to->cluster, sizeof to->cluster, "%s", cluster);
    snprintf (to->socket, sizeof to->socket, "%.*s", (int) path.size, path.data);
    snprintf (to->variable, sizeof to->variable, "%.*s", (int) name.size, name.data);
    snprintf (to->value, sizeof to->value, "%.*s", (int) value.size, value.data);
    to->port = (int) mp_int (mp_get (reply.body, "port"));
    return to;
}

//  A kernel for it, or the reason why there is none, before anything is written.
static CO kernel_t *
s_kernel (req_t *req, const char *notebook, const char *session, const char *language,
          const char *owner, const attachment_t *to)
{
    kernels_t *kernels = kernels_of (req);
    error_code_t code = E_NONE;
    const char *why = NULL;
    if (kernels->closing)
        fail (req, E_UNAVAILABLE, "kernels are being restarted");
    if (kernels->refusal)
        fail (req, E_UNAVAILABLE, "%s", kernels->refusal);
    if (session && req_bool (req, "continues")
        && !pool_find (kernels->pool, notebook, session, language))
        fail_field (req, E_CONFLICT, "session", "its kernel is not there any more");
    kernel_t *kernel = pool_take (kernels->pool, notebook, session, language, owner, to, &code,
                                  &why);
    if (!kernel)
        fail (req, code, "%s", why);
    if (kernel_queued (kernel) >= QUEUE_MAX)
        fail (req, E_RATE_LIMITED, "%d cells wait for this kernel already", QUEUE_MAX);
    return kernel;
}

static void
s_run (req_t *req, const char *id, const char *channel, const attachment_t *to)
{
    kernels_t *kernels = kernels_of (req);
    const char *notebook = req_str (req, "notebook_id"), *language = req_str (req, "language");
    const char *owner = req_str (req, "owner"), *session = req_str (req, "session");
    record_t *record = record_new (kernels, id, channel, notebook, language, owner);
    if (strcmp (language, "sql") == 0) {
        sql_start (record, owner, req_str (req, "code"));
        return;
    }
    //  The world may have changed during the commit.
    error_code_t code = E_NONE;
    const char *why = "kernels are being restarted";
    kernel_t *kernel = kernels->closing ? NULL
                     : pool_take (kernels->pool, notebook, session, language, owner, to, &code,
                                  &why);
    if (!kernel) {
        buf_t error = { 0 };
        buf_puts (&error, "{\"ename\":\"KernelUnavailable\",\"traceback\":[],\"evalue\":");
        json_quote (text_of (why), &error);
        buf_put (&error, "}", 2);
        record_end (record, "failed", 0, (char *) error.data, NULL, xstrdup ("[]"), false, 0);
        return;
    }
    kernel_show (kernels, kernel, kernel_state (kernel));
    record->kernel = kernel;
    record->cell = cell_new (id, req_str (req, "cell_id"), req_text (req, "code"),
                             pool_kernel_conf (kernels->pool)->output);
    record->cell->arg = record;
    kernel_run (kernel, record->cell);
}

//  Write it down and run it; its id. A request that came before finds what that one began. NULL:
//  another process has taken the notebook over meanwhile.
static CO const char *
s_begin (req_t *req, const attachment_t *to)
{
    const char *notebook = req_str (req, "notebook_id"), *owner = req_str (req, "owner");
    const char *user = req_has (req, "user") ? req_str (req, "user") : owner;
    const char *idem = req_str (req, "idempotency_key");
    unit_t *unit = unit_new (req);
    unit_guard (unit, notebook_key (req, notebook));
    unit_add (unit, "execution_add", owner, user ? user : owner, notebook, req_str (req, "cell_id"),
              req_str (req, "language"), req_str (req, "code"), req_str (req, "audience"),
              req_actor (req)->slot, idem, req_str (req, "session"));
    db_result_t result = unit_try (unit);
    if (claim_is_fence (&result))
        return NULL;
    if (result.code != E_NONE)
        fail_result (req, &result);
    row_t row = { result.result, PQntuples (result.result) > 0 ? 0 : -1 };
    if (row_none (row)) {
        row = db_row (req, "execution_again", notebook, user ? user : owner, idem);
        if (row_none (row))
            fail (req, E_NOT_FOUND, "execution not found");
        return row_str (row, "id");
    }
    s_run (req, row_str (row, "id"), row_str (row, "channel"), to);
    return row_str (row, "id");
}

static CO const char *
s_try (req_t *req)
{
    const char *notebook = req_str (req, "notebook_id"), *language = req_str (req, "language");
    kernels_t *kernels = kernels_of (req);
    if (kernels->closing)
        fail (req, E_UNAVAILABLE, "kernels are being restarted");
    bool sql = strcmp (language, "sql") == 0;
    const attachment_t *to = sql ? NULL : s_attachment (req);
    if (!sql)
        s_kernel (req, notebook, req_str (req, "session"), language, req_str (req, "owner"), to);
    else if (sql_full (kernels, req_str (req, "owner")))
        fail (req, E_RATE_LIMITED, "too many SQL cells wait already");
    notebook_take (req, notebook);
    return s_begin (req, to);
}

void
execution_start (req_t *req)
{
    const char *notebook = req_str (req, "notebook_id"), *id = NULL;
    for (int tries = 0; !id && tries < 2; tries++) {
        if (req_elsewhere (req, notebook_key (req, notebook), "executions.start", mp_none,
                           req_body (req)))
            return;
        id = s_try (req);
    }
    if (!id)
        fail (req, E_UNAVAILABLE, "another instance has taken over");
    record_wait (req, id, false, req_int (req, "wait_ms"));
    row_t row = s_row (req, id);
    s_answer (req, s_is_over (row) ? 200 : 202, row);
}

//  ---- events ----

static void
s_put_event (buf_t *out, row_t row)
{
    char at [40];
    const char *data = row_str (row, "data");
    db_time_text (row_str (row, "at"), at);
    mp_put_map (out, data ? 4 : 3);
    mp_pair_int (out, "off", row_int (row, "off"));
    mp_pair_str (out, "type", row_str (row, "type"));
    mp_pair_str (out, "at", at);
    if (data) {
        mp_put_str (out, "data");
        mp_put_ext (out, MP_EXT_JSON, data, strlen (data));
    }
}

//  Nothing new: wait here for what is alive here, look again and again for what runs in another
//  instance.
static CO void
s_wait_for_events (req_t *req, const char *id, row_t row, int64_t from, int64_t left)
{
    kernels_t *kernels = kernels_of (req);
    record_t *record = record_get (kernels, id);
    if (record && record->last > from)
        return;
    if (record && !record->over)
        record_wait (req, id, true, left);
    else if (!s_is_over (row))
        req_sleep (req, left < ELSEWHERE_EVERY ? left : ELSEWHERE_EVERY);
}

void
execution_events (req_t *req)
{
    const char *id = req_id (req), *limit = req_str (req, "limit");
    int64_t from = req_int (req, "from"), wait = req_wait (req, 0);
    int64_t until = loop_now (req_actor (req)->loop) + (wait < EVENTS_WAIT ? wait : EVENTS_WAIT),
            left;
    row_t row, rows;
    for (;;) {
        row = s_shown (req, id);
        rows = db_rows (req, "execution_events", row_str (row, "channel"),
                        req_print (req, "%lld", (long long)from), limit);
        left = until - loop_now (req_actor (req)->loop);
        if (rows_count (rows) > 0 || s_is_over (row) || left <= 0 || req_cancelled (req))
            break;
        s_wait_for_events (req, id, row, from, left);
    }
    buf_t *body = req_buf (req);
    int count = rows_count (rows);
    //  What is not kept any more is named.
    int64_t first = count ? row_int (rows_at (rows, 0), "off") : from + 1;
    mp_put_map (body, first > from + 1 ? 6 : 5);
    mp_pair_str (body, "epoch", req_actor (req)->epoch);
    if (first > from + 1) {
        mp_put_str (body, "gap");
        mp_put_map (body, 3);
        mp_pair_int (body, "from", from + 1);
        mp_pair_int (body, "to", first - 1);
        mp_pair_str (body, "why", "retention");
    }
    mp_pair_str (body, "ch", row_str (row, "channel"));
    mp_pair_str (body, "state", row_str (row, "state"));
    mp_put_str (body, "events");
    mp_put_array (body, (uint32_t) count);
    for (int n = 0; n < count; n++)
        s_put_event (body, rows_at (rows, n));
    mp_pair_int (body, "next", count ? row_int (rows_at (rows, count - 1), "off") : from);
    reply_mp (req, 200, mp_buf (body));
}

//  ---- interrupt, input ----

//  The execution, alive here; NULL when the instance that has it answers instead.
static CO record_t *
s_alive (req_t *req, const char *method, mp_t body)
{
    row_t row = s_row (req, req_id (req));
    if (s_is_over (row))
        fail (req, E_CONFLICT, "execution is %s", row_str (row, "state"));
    record_t *record = record_get (kernels_of (req), req_id (req));
    if (record && !record->ending && !record->over)
        return record;
    buf_t *params = req_buf (req);
    mp_put_map (params, 1);
    mp_pair_str (params, "id", req_id (req));
    if (!record
        && req_elsewhere (req, notebook_key (req, row_str (row, "notebook_id")), method,
                          mp_buf (params), body))
        return NULL;
    fail (req, E_CONFLICT, "execution is about to end");
}

void
execution_interrupt (req_t *req)
{
    record_t *record = s_alive (req, "executions.interrupt", mp_none);
    if (!record)
        return;
    if (record->stop)
        record->stop (record);
    else if (record->kernel && record->cell)
        kernel_interrupt (record->kernel, record->cell);
    buf_t *body = req_buf (req);
    mp_put_map (body, 2);
    mp_pair_str (body, "execution_id", req_id (req));
    mp_pair_str (body, "message", "interrupting");
    reply_mp (req, 202, mp_buf (body));
}

void
execution_input (req_t *req)
{
    buf_t *input = req_buf (req);
    mp_put_map (input, 1);
    mp_pair_text (input, "value", req_text (req, "value"));
    record_t *record = s_alive (req, "executions.input", mp_buf (input));
    if (!record)
        return;
    if (!record->kernel || !record->cell
        || !kernel_input (record->kernel, record->cell, req_text (req, "value")))
        fail (req, E_CONFLICT, "execution does not ask for input");
    buf_t *body = req_buf (req);
    mp_put_map (body, 2);
    mp_pair_str (body, "execution_id", req_id (req));
    mp_pair_str (body, "message", "accepted");
    reply_mp (req, 200, mp_buf (body));
}
