//  kinds.c -- which kinds of task there are, and what they share.

#include "pipeline.h"

#define CALL_PATIENCE 60000          //  ms that nobody may be able to answer
#define POLL 3000                    //  ms that one call waits for the end of a statement

static const task_kind_t *const s_kinds [] = { &notebook_kind, &sql_kind,  &pipeline_kind,
                                              &branch_kind,   &wait_kind, &http_kind,
                                              &copy_kind };

const task_kind_t *
task_kind (text_t name)
{
    for (size_t n = 0; n < sizeof s_kinds / sizeof *s_kinds; n++)
        if (text_is (name, s_kinds [n]->name))
            return s_kinds [n];
    return NULL;
}

//  Nobody could answer, or not now: that may be different in a moment. The request that a former
//  process made may still be waiting there.
static bool
s_is_passing (const bus_reply_t *reply)
{
    unsigned status = (unsigned) reply->status;
    return status == 503 || status == 502 || status == 504 || status == 429
           || (status == 409 && text_starts (mp_text (mp_get (reply->body, "error")),
                                             "a request with idempotency key"));
}

CO bus_reply_t
kind_call (req_t *req, const task_t *task, const char *method, mp_t params, mp_t body,
           const char *key, const char *idem)
{
    loop_t *loop = jobs.actor->loop;
    int64_t until = loop_now (loop) + CALL_PATIENCE;
    bool said = false;
    for (int64_t pause = 100;; pause = pause < 2000 ? 2 * pause : pause) {
        bus_reply_t reply = req_call (
            req, method, params, body,
            &(req_call_t) { .user = task->user, .key = key, .idempotency_key = idem,
                            .idempotent = true, .ttl = 20000 });
        //  What has no room now will have some, however long others take.
        bool full = reply.status == 429;
        bool cancelled = task_cancelled (task);
        if (!s_is_passing (&reply) || ((!full || cancelled) && loop_now (loop) > until))
            return reply;
        if (full && !said && pause > 1000) {
            text_t why = mp_text (mp_get (reply.body, "error"));
            task_log (req, task, "waits: %.*s", (int) why.size, why.size ? why.data : "");
            said = true;
        }
        req_sleep (req, pause);
        //  What was begun elsewhere is cancelled once its end is known.
        if (task_abandoned (task) || (task_cancelled (task) && !task->ref))
            return (bus_reply_t) { 0 };
    }
}

task_end_t
kind_refused (req_t *req, const bus_reply_t *reply)
{
    if (reply->status == 0)
        return (task_end_t) { .code = TASK_CANCELLED };
    bool ours = reply->status >= 500 || reply->status == 429;
    text_t text = mp_text (mp_get (reply->body, "error"));
    return (task_end_t) { .code = ours ? TASK_BROKEN : TASK_FAILED,
                          .message = text.size
                                         ? req_copy (req, text)
                                         : req_print (req, "status %d", (int) reply->status) };
}

static bool
s_is_open (mp_t answer)
{
    text_t state = mp_text (mp_get (answer, "state"));
    return text_is (state, "queued") || text_is (state, "running")
           || text_is (state, "cancelling");
}

CO bool
statement_run (req_t *req, task_t *task, mp_t body, mp_t *answer, task_end_t *end)
{
    const char *key = req_print (req, "user:%s", task->user), *id = NULL;
    buf_t *room = req_buf (req), *params = req_buf (req);
    bus_reply_t reply = kind_call (req, task, "statements.submit", mp_none, body, key, NULL);
    for (;;) {
        if (reply.status == 0 || reply.status >= 400) {
            *end = kind_refused (req, &reply);
            return false;
        }
        *answer = json_plain (reply.body, room);
        if (!s_is_open (*answer))
            return true;
        if (!id) {
            id = req_copy (req, mp_text (mp_get (*answer, "statement_id")));
            task_ref (req, task, id);
            mp_put_map (params, 2);
            mp_pair_str (params, "id", id);
            mp_pair_int (params, "wait_ms", POLL);
            //  It could not be told before.
            if (task_cancelled (task))
                statement_cancel (req, task);
        }
        if (task_abandoned (task)) {
            *end = (task_end_t) { .code = TASK_CANCELLED };
            return false;
        }
        reply = kind_call (req, task, "statements.await", mp_buf (params), mp_none, key, NULL);
    }
}

CO void
statement_cancel (req_t *req, task_t *task)
{
    if (!task->ref)
        return;
    buf_t *params = req_buf (req);
    mp_put_map (params, 1);
    mp_pair_str (params, "id", task->ref);
    req_call (req, "statements.cancel", mp_buf (params), mp_none,
              &(req_call_t) { .user = task->user, .key = req_print (req, "user:%s", task->user),
                              .idempotent = true, .ttl = 5000 });
}

CO void
may_use (req_t *req, const char *method, const char *id, const char *field, const char *what)
{
    if (!id || !uuid_valid (text_of (id)))
        fail_field (req, E_NOT_FOUND, field, "no such %s", what);
    buf_t *params = req_buf (req);
    mp_put_map (params, 1);
    mp_pair_str (params, "id", id);
    bus_reply_t reply = req_call (req, method, mp_buf (params), mp_none,
                                  &(req_call_t) { .idempotent = true });
    if (reply.status == 404)
        fail_field (req, E_NOT_FOUND, field, "no such %s", what);
    if (reply.status >= 400)
        fail_reply (req, &reply);
}
