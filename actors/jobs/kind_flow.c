//  kind_flow.c -- kinds of task that pipelines add: branch, wait, http.

#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "actors/kit/fetch.h"
#include "node.h"
#include "pipeline.h"

#define HTTP_MS 30000
#define BODY_KEPT (32 * 1024)        //  bytes of an answer that later nodes may ask about
#define ANSWER_MAX (8 << 20)
#define HEADERS_MAX 64

//  The same rules as for a node of a pipeline.
static CO void
s_check (req_t *req, mp_t config, const char *where, node_type_t type)
{
    char why [300];
    const node_t node = { .type = type, .config = config };
    if (!node_check (&node, why, sizeof why))
        fail_field (req, E_INVALID, "config", "%s: %s", where, why);
}

//  ---- branch ----

static CO void
s_check_branch (req_t *req, mp_t config, const char *where)
{
    s_check (req, config, where, NODE_BRANCH);
}

static CO task_end_t
s_branch (req_t *req, task_t *task)
{
    const char *asked = req_copy (req, mp_text (mp_get (task->config, "node")));
    bool yes = node_decides (task->config, task_result (req, task, asked));
    buf_t *result = req_buf (req);
    mp_put_map (result, 1);
    mp_pair_bool (result, "outcome", yes);
    task_log (req, task, "%s: %s", asked, yes ? "true" : "false");
    return (task_end_t) { .code = TASK_SUCCEEDED, .outcome = yes ? "true" : "false",
                          .result = mp_buf (result) };
}

const task_kind_t branch_kind = { .name = "branch", .repeatable = true, .check = s_check_branch,
                                  .run = s_branch };

//  ---- wait ----

static CO void
s_check_wait (req_t *req, mp_t config, const char *where)
{
    s_check (req, config, where, NODE_WAIT);
}

static int64_t
s_clock (void)
{
    struct timespec now;
    clock_gettime (CLOCK_REALTIME, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

//  Until when is kept, so that a restart does not begin it anew.
static CO task_end_t
s_wait (req_t *req, task_t *task)
{
    if (!task->ref) {
        double ms = 1000 * mp_real (mp_get (task->config, "seconds"));
        task_ref (req, task, req_print (req, "%lld", (long long)(s_clock () + (int64_t)ceil (ms))));
    }
    int64_t left = strtoll (task->ref, NULL, 10) - s_clock ();
    if (left > 0 && !task_wait (req, task, left))
        return (task_end_t) { .code = TASK_CANCELLED };
    return (task_end_t) { .code = TASK_SUCCEEDED };
}

const task_kind_t wait_kind = { .name = "wait", .repeatable = true, .check = s_check_wait,
                                .run = s_wait };

//  ---- http ----

static CO void
s_check_http (req_t *req, mp_t config, const char *where)
{
    s_check (req, config, where, NODE_HTTP);
}

//  The body as given when it is text, else as JSON.
static text_t
s_body (req_t *req, mp_t body)
{
    buf_t *json = req_buf (req);
    if (mp_empty (body))
        return (text_t) { NULL, 0 };
    if (mp_type (body) == MP_TEXT)
        return mp_text (body);
    json_write (body, json);
    return buf_text (json);
}

static const char *const *
s_headers (req_t *req, const task_t *task)
{
    const char **headers = req_alloc (req, (HEADERS_MAX + 3) * sizeof *headers);
    size_t count = 0;
    mp_t given = mp_get (task->config, "headers"), body = mp_get (task->config, "body");
    bool typed = false;
    if (mp_type (given) == MP_MAP)
        for (mp_iter_t it = mp_iter (given); count < HEADERS_MAX && mp_next (&it);) {
            text_t name = mp_text (it.key), value = mp_text (it.value);
            typed |= name.size == 12 && strncasecmp (name.data, "content-type", 12) == 0;
            headers [count++] = req_print (req, "%.*s: %.*s", (int) name.size, name.data,
                                           (int) value.size, value.size ? value.data : "");
        }
    if (!typed && !mp_empty (body))
        headers [count++] = mp_type (body) == MP_TEXT ? "Content-Type: text/plain; charset=utf-8"
                                                      : "Content-Type: application/json";
    headers [count++] = req_print (req, "Idempotency-Key: %s", task->idem);
    return headers;
}

static mp_t
s_result (req_t *req, const fetched_t *answer)
{
    buf_t *result = req_buf (req), *body = req_buf (req);
    char why [160];
    const char *type = answer->content_type ? answer->content_type : "";
    mp_put_map (result, 3);
    mp_pair_int (result, "status", answer->status);
    mp_pair_str (result, "content_type", answer->content_type);
    bool kept = answer->body.size <= BODY_KEPT;
    if (kept && strstr (type, "json") && json_read (answer->body, body, why, sizeof why))
        mp_pair (result, "body", mp_buf (body));
    else if (kept && text_utf8 (answer->body)
             && !memchr (answer->body.data ? answer->body.data : "", 0, answer->body.size))
        mp_pair_text (result, "body", answer->body);
    else
        mp_pair (result, "body", mp_none);
    return mp_buf (result);
}

static CO task_end_t
s_http (req_t *req, task_t *task)
{
    mp_t method = mp_get (task->config, "method"), seconds = mp_get (task->config, "timeout");
    fetch_t *what = req_alloc (req, sizeof *what);
    *what = (fetch_t) {
        .method = mp_empty (method) ? "GET" : req_copy (req, mp_text (method)),
        .url = req_copy (req, mp_text (mp_get (task->config, "url"))),
        .headers = s_headers (req, task),
        .body = s_body (req, mp_get (task->config, "body")),
        .timeout = mp_empty (seconds) ? HTTP_MS : (int64_t) (1000 * mp_real (seconds)),
        .max = ANSWER_MAX,
        .allow = actor_opt (req_actor (req), "http-allow") };
    fetched_t answer = fetch (req, what);
    if (task_cancelled (task))
        return (task_end_t) { .code = TASK_CANCELLED };
    if (answer.status == 0)
        return (task_end_t) { .code = TASK_FAILED,
                              .message = req_print (req, "no answer: %s", answer.error) };
    task_log (req, task, "%s answered %d, %zu bytes", what->method, answer.status,
              answer.body.size);
    if (answer.status >= 400 || answer.status < 200)
        return (task_end_t) { .code = TASK_FAILED,
                              .message = req_print (req, "the server answered %d", answer.status) };
    return (task_end_t) { .code = TASK_SUCCEEDED, .result = s_result (req, &answer) };
}

static CO void
s_cancel_http (req_t *req, task_t *task)
{
    (void) req;
    if (task->inner->req)
        fetch_break (task->inner->req);
}

//  What was sent may have been done: it is not sent again by itself.
const task_kind_t http_kind = { .name = "http", .check = s_check_http, .run = s_http,
                                .cancel = s_cancel_http };
