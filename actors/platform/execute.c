//  execute.c -- running a cell: the caller's right to it is settled here, the work is done by
//  kernels.

#include "platform.h"

//  kernels answers when the execution ended or the wait is over, whichever is first.
static void
execute (req_t *req, const char *notebook, int64_t def_wait)
{
    const char *cell = req_str (req, "cellId"), *code = req_str (req, "code"),
               *language = req_str (req, "language");
    row_t row = notebook_of (req, notebook, cell, true);
    if (!code)
        code = row_str (row, "cell_content");        //  run what the notebook holds
    if (!code)
        fail_field (req, E_INVALID, "code", "is required");
    if (!language) {
        const char *type = row_str (row, "cell_type");
        language = type && strcmp (type, "sql") == 0 ? "sql" : row_str (row, "language");
    }
    int64_t wait = req_wait (req, def_wait);
    buf_t *body = req_buf (req);
    mp_put_map (body, 13);
    mp_pair_str (body, "notebook_id", row_str (row, "id"));
    mp_pair_str (body, "owner", row_str (row, "user_id"));
    mp_pair_str (body, "user", req_user (req));
    mp_pair_str (body, "audience", row_str (row, "audience"));
    mp_pair_str (body, "cell_id", cell);
    mp_pair_str (body, "cluster_id", row_str (row, "cluster_id"));
    mp_pair_str (body, "code", code);
    mp_pair_str (body, "language", language);
    mp_pair_int (body, "wait_ms", wait);
    mp_pair_bool (body, "blocking", def_wait > 0 || wait > 0);
    mp_pair (body, "idempotency_key", req_meta (req, "idempotency_key"));
    mp_pair_str (body, "session", req_str (req, "session"));
    mp_pair_bool (body, "continues", req_bool (req, "continues"));
    bus_reply_t reply = req_call (
        req, "executions.start", mp_none, mp_buf (body),
        &(req_call_t){ .key = req_print (req, "notebook:%s", row_str (row, "id")),
                       .ttl = wait + 20000,
                       //  Nobody else may say for whom a cell runs.
                       .operator = true,
                       .idempotent = !mp_empty (req_meta (req, "idempotency_key")) });
    if (reply.status >= 400)
        fail_reply (req, &reply);
    reply_mp (req, (unsigned) reply.status, reply.body);
}

void
notebook_execute (req_t *req)
{
    execute (req, req_id (req), 0);
}

void
notebook_execute_named (req_t *req)
{
    execute (req, req_str (req, "notebookId"), 30000);
}
