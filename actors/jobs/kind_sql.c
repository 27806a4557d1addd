//  kind_sql.c -- one statement, by the statement service.

#include "jobs.h"


//  The text of the statement, under any of the names that it goes by.
static text_t
s_query (mp_t config)
{
    static const char *const names [] = { "query", "query_text", "sql" };
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        if (mp_text (mp_get (config, names [n])).size)
            return mp_text (mp_get (config, names [n]));
    return (text_t) { NULL, 0 };
}

static CO void
s_check (req_t *req, mp_t config, const char *where)
{
    mp_t saved = mp_get (config, "query_id"), source = mp_get (config, "source_id");
    mp_t cluster = mp_get (config, "cluster_id");
    if (s_query (config).size == 0 && mp_empty (saved))
        fail_field (req, E_INVALID, "config", "%s needs query, or query_id", where);
    if (!mp_empty (saved))
        may_use (req, "queries.get", req_copy (req, mp_text (saved)), "query_id", "query");
    if (!mp_empty (source))
        may_use (req, "data_sources.get", req_copy (req, mp_text (source)), "source_id",
                 "data source");
    if (!mp_empty (cluster))
        may_use (req, "compute_clusters.get", req_copy (req, mp_text (cluster)), "cluster_id",
                 "cluster");
}

//  Of a saved query. False: *end says why there is none.
static CO bool
s_saved (req_t *req, task_t *task, text_t *query, text_t *engine, task_end_t *end)
{
    buf_t *params = req_buf (req), *room = req_buf (req);
    mp_put_map (params, 1);
    mp_pair (params, "id", mp_get (task->config, "query_id"));
    bus_reply_t reply = kind_call (req, task, "queries.get", mp_buf (params), mp_none, NULL, NULL);
    if (reply.status == 0 || reply.status >= 400) {
        *end = kind_refused (req, &reply);
        return false;
    }
    mp_t saved = json_plain (reply.body, room);
    *query = mp_text (mp_get (saved, "query_text"));
    *engine = mp_text (mp_get (saved, "engine"));
    return true;
}

static mp_t
s_body (req_t *req, const task_t *task, text_t query, text_t engine)
{
    static const char *const passed [] = { "engine", "source_id", "cluster_id", "row_limit",
                                          "timeout", "fallback" };
    buf_t *body = req_buf (req);
    size_t mark = mp_open_map (body);
    uint32_t pairs = 3;
    mp_pair_text (body, "query", query);
    mp_pair_str (body, "idempotency_key", task->idem);
    mp_pair_int (body, "wait_ms", STATEMENT_SOON);
    for (size_t n = 0; n < sizeof passed / sizeof *passed; n++) {
        mp_t value = mp_get (task->config, passed [n]);
        if (mp_empty (value))
            continue;
        mp_pair (body, passed [n], value);
        pairs++;
    }
    if (engine.size && mp_empty (mp_get (task->config, "engine"))) {
        mp_pair_text (body, "engine", engine);
        pairs++;
    }
    const char *cluster = task->inner->run->cluster;
    if (cluster && mp_empty (mp_get (task->config, "cluster_id"))) {
        mp_pair_str (body, "cluster_id", cluster);
        pairs++;
    }
    //  Those of the task itself go before those of the run.
    mp_t own = mp_get (task->config, "parameters");
    bool given = !mp_empty (own);
    if (given || mp_count (task->parameters)) {
        mp_pair (body, "parameters", given ? own : task->parameters);
        pairs++;
    }
    mp_close (body, mark, pairs);
    return mp_buf (body);
}

static CO task_end_t
s_ended (req_t *req, task_t *task, mp_t answer)
{
    text_t state = mp_text (mp_get (answer, "state")), error = mp_text (mp_get (answer, "error"));
    mp_t why = mp_get (answer, "termination");
    text_t type = mp_text (mp_get (why, "type")), said = mp_text (mp_get (why, "message"));
    if (text_is (state, "succeeded") || text_is (state, "expired")) {
        task_log (req, task, "statement %s: %lld rows", task->ref,
                  (long long) mp_int (mp_get (answer, "rowCount")));
        buf_t *result = req_buf (req);
        mp_put_map (result, 3);
        mp_pair_str (result, "statement_id", task->ref);
        mp_pair (result, "rowCount", mp_get (answer, "rowCount"));
        //  What a branch looks at.
        mp_t rows = mp_get (mp_get (answer, "data"), "rows");
        mp_t first = mp_type (rows) == MP_ARRAY ? mp_at (rows, 0) : mp_none;
        mp_pair (result, "first", first.end - first.data < 8192 ? first : mp_none);
        return (task_end_t) { .code = TASK_SUCCEEDED, .result = mp_buf (result) };
    }
    if (text_is (state, "cancelled") && task_cancelled (task))
        return (task_end_t) { .code = TASK_CANCELLED };
    bool ours = text_is (type, "platform") || text_is (type, "lost") || text_is (state, "lost")
                || text_is (state, "aborted");
    text_t message = said.size ? said : error.size ? error : state;
    return (task_end_t) { .code = ours ? TASK_BROKEN : TASK_FAILED,
                          .message = req_copy (req, message) };
}

static CO task_end_t
s_run (req_t *req, task_t *task)
{
    text_t query = s_query (task->config), engine = { NULL, 0 };
    task_end_t end = { .code = TASK_FAILED };
    if (query.size == 0 && !s_saved (req, task, &query, &engine, &end))
        return end;
    mp_t answer;
    if (!statement_run (req, task, s_body (req, task, query, engine), &answer, &end))
        return end;
    if (!task->ref)
        task_ref (req, task, req_copy (req, mp_text (mp_get (answer, "statement_id"))));
    return s_ended (req, task, answer);
}

const task_kind_t sql_kind = { .name = "sql", .repeatable = true, .check = s_check, .run = s_run,
                               .cancel = statement_cancel };
