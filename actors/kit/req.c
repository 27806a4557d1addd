//  req.c -- a request's memory, who asks, how long it may take, and how it fails.

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "kit.h"

#define SPARES_MAX 64
#define BLOCK_SIZE 16384
#define IN_VAIN 10                   //  ms of a sleep for which nobody waits any more

//  ---------------------------------------------------------------- life and memory

req_t *
req_new (actor_t *actor)
{
    kit_t *kit = actor->kit;
    req_t *req = kit->spare;
    if (req) {
        kit->spare = req->next;
        kit->spares--;
    }
    else
        req = xmalloc (sizeof *req);
    memset (req, 0, offsetof (req_t, first));
    req->actor = actor;
    req->kit = kit;
    req->deadline = INT64_MAX;
    req->pieces_end = &req->pieces;
    req->free = req->first;
    req->free_end = req->free + sizeof req->first;
    return req;
}

void
req_free (req_t *req)
{
    kit_t *kit = req->kit;
    while (req->deferred) {
        deferred_t *deferred = req->deferred;
        req->deferred = deferred->next;
        deferred->fn (deferred->arg);
    }
    stream_free (req);
    while (req->blocks) {
        block_t *next = req->blocks->next;
        free (req->blocks);
        req->blocks = next;
    }
    if (kit->spares >= SPARES_MAX) {
        free (req);
        return;
    }
    req->next = kit->spare;
    kit->spare = req;
    kit->spares++;
}

//  Memory that is not zeroed.
static void *
s_memory (req_t *req, size_t size)
{
    size = (size + 15) & ~(size_t) 15;
    if ((size_t) (req->free_end - req->free) < size) {
        size_t room = size > BLOCK_SIZE ? size : BLOCK_SIZE;
        block_t *block = xmalloc (sizeof *block + 16 + room);
        block->next = req->blocks;
        req->blocks = block;
        uint8_t *data = (uint8_t *) (((uintptr_t) block->data + 15) & ~(uintptr_t) 15);
        //  A large piece stands alone, so that the rest of the current block is still used.
        if (room == size)
            return data;
        req->free = data;
        req->free_end = data + room;
    }
    void *memory = req->free;
    req->free += size;
    return memory;
}

void *
req_alloc (req_t *req, size_t size)
{
    return memset (s_memory (req, size), 0, size);
}

char *
req_print (req_t *req, const char *format, ...)
{
    char small [256];
    va_list args;
    va_start (args, format);
    int size = vsnprintf (small, sizeof small, format, args);
    va_end (args);
    assert (size >= 0);
    char *out = s_memory (req, (size_t) size + 1);
    if ((size_t) size < sizeof small)
        return memcpy (out, small, (size_t) size + 1);
    va_start (args, format);
    vsnprintf (out, (size_t) size + 1, format, args);
    va_end (args);
    return out;
}

char *
req_copy (req_t *req, text_t text)
{
    char *out = s_memory (req, text.size + 1);
    if (text.size)
        memcpy (out, text.data, text.size);
    out [text.size] = 0;
    return out;
}

mp_t
req_keep_mp (req_t *req, mp_t value)
{
    if (mp_is_none (value))
        return mp_none;
    size_t size = (size_t) (value.end - value.data);
    return mp_of (memcpy (s_memory (req, size), value.data, size), size);
}

void
req_defer (req_t *req, void (*fn) (void *), void *arg)
{
    deferred_t *deferred = req_alloc (req, sizeof *deferred);
    *deferred = (deferred_t) { req->deferred, fn, arg };
    req->deferred = deferred;
}

static void
s_buf_end (void *buf)
{
    buf_free (buf);
}

buf_t *
req_buf (req_t *req)
{
    buf_t *buf = req_alloc (req, sizeof *buf);
    req_defer (req, s_buf_end, buf);
    return buf;
}

//  ---------------------------------------------------------------- who asks

struct actor *
req_actor (req_t *req)
{
    return req->actor;
}

void
req_take_identity (req_t *req, mp_t identity)
{
    text_t user = { NULL, 0 }, role = { NULL, 0 }, org = { NULL, 0 }, kind = { NULL, 0 };
    if (mp_type (identity) == MP_MAP)
        for (mp_iter_t it = mp_iter (identity); mp_next (&it);) {
            text_t key = mp_text (it.key);
            if (text_is (key, "user"))
                user = mp_text (it.value);
            else if (text_is (key, "role"))
                role = mp_text (it.value);
            else if (text_is (key, "org"))
                org = mp_text (it.value);
            else if (text_is (key, "kind"))
                kind = mp_text (it.value);
        }
    req->operator = mp_empty (identity) || text_is (kind, "operator");
    req->user = user.size ? req_copy (req, user) : NULL;
    req->org = org.size ? req_copy (req, org) : NULL;
    req->role = req->operator ? "operator" : role.size ? req_copy (req, role) : "user";
}

const char *
req_user (req_t *req)
{
    return req->user;
}

const char *
req_role (req_t *req)
{
    return req->role;
}

const char *
req_org (req_t *req)
{
    return req->org;
}

mp_t
req_identity (req_t *req)
{
    return req->identity;
}

bool
req_is_admin (req_t *req)
{
    return req->operator || strcmp (req->role, "admin") == 0
           || strcmp (req->role, "super_admin") == 0;
}

const char *
req_trace (req_t *req)
{
    return req->trace.size ? req_copy (req, req->trace) : NULL;
}

const char *
req_request_id (req_t *req)
{
    text_t id = mp_text (mp_get (req->meta, "request_id"));
    return id.size ? req_copy (req, id) : NULL;
}

void *
req_arg (req_t *req)
{
    return req->arg;
}

mp_t
req_body (req_t *req)
{
    return req->body;
}

mp_t
req_meta (req_t *req, const char *name)
{
    return mp_get (req->meta, name);
}

//  ---------------------------------------------------------------- time

int64_t
req_left (req_t *req)
{
    if (req->deadline == INT64_MAX)
        return INT64_MAX;
    int64_t left = req->deadline - loop_now (req->actor->loop);
    return left > 0 ? left : 0;
}

int64_t
req_wait (req_t *req, int64_t def_ms)
{
    int64_t ms = def_ms, left = req_left (req);
    mp_t wait = mp_get (req->params, "wait");
    double seconds;
    if (mp_is_none (wait))
        wait = mp_get (req->body, "wait");
    if (mp_type (wait) == MP_TEXT) {
        char *end, *text = req_copy (req, mp_text (wait));
        seconds = strtod (text, &end);
        if (end != text && *end == 0 && seconds >= 0 && seconds <= 86400)
            ms = (int64_t) (seconds * 1000);
    }
    else if (mp_real_get (wait, &seconds) && seconds >= 0 && seconds <= 86400)
        ms = (int64_t) (seconds * 1000);
    //  A little is kept back for the answer itself.
    int64_t margin = left == INT64_MAX ? 0 : left > 2000 ? 500 : left / 4;
    return ms < left - margin ? ms : left - margin;
}

bool
req_cancelled (req_t *req)
{
    return req->cancelled;
}

void
req_on_cancel (req_t *req, void (*fn) (void *), void *arg)
{
    deferred_t *hook = req_alloc (req, sizeof *hook);
    *hook = (deferred_t) { req->on_cancel, fn, arg };
    req->on_cancel = hook;
}

void
pause_wait (pause_t *pause)
{
    while (!pause->done) {
        pause->co = co_self ();
        co_suspend ();
        pause->co = NULL;
    }
}

void
pause_end (pause_t *pause)
{
    pause->done = true;
    if (pause->co)
        co_wake (pause->co);
}

static void
s_sleep_over (void *pause)
{
    pause_end (pause);
}

CO bool
req_sleep (req_t *req, int64_t ms)
{
    int64_t left = req_left (req);
    //  Who waits here for something else than the caller may not keep it from happening.
    if (req->cancelled || left == 0)
        left = IN_VAIN;
    if (ms > left)
        ms = left;
    if (!req->woken && ms > 0) {
        pause_t pause = { 0 };
        ltimer_t *timer = loop_timer (req->actor->loop, s_sleep_over, &pause);
        ltimer_set (timer, ms);
        req->sleeper = &pause;
        pause_wait (&pause);
        req->sleeper = NULL;
        ltimer_end (&timer);
    }
    bool woken = req->woken;
    req->woken = false;
    return woken;
}

void
req_wake (req_t *req)
{
    req->woken = true;
    if (req->sleeper)
        pause_end (req->sleeper);
}

//  ---------------------------------------------------------------- failing

bool
req_guard (req_t *req, void (*fn) (req_t *req))
{
    if (_setjmp (req->jump) == 0) {
        req->running = true;
        fn (req);
        req->running = false;
        return true;
    }
    req->running = false;
    return false;
}

static void s_fail (req_t *req, error_code_t code, mp_t details, const char *format, va_list args)
    __attribute__ ((noreturn, format (printf, 4, 0)));

static void
s_fail (req_t *req, error_code_t code, mp_t details, const char *format, va_list args)
{
    assert (req->running && co_self ());
    req->code = code;
    req->details = details;
    if (format) {
        char text [1024];
        vsnprintf (text, sizeof text, format, args);
        req->text = req_copy (req, text_of (text));
    }
    _longjmp (req->jump, 1);
}

void
fail (req_t *req, error_code_t code, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    s_fail (req, code, mp_none, format, args);
}

void
fail_field (req_t *req, error_code_t code, const char *field, const char *format, ...)
{
    char text [512];
    va_list args;
    va_start (args, format);
    vsnprintf (text, sizeof text, format, args);
    va_end (args);
    buf_t *details = req_buf (req);
    mp_put_map (details, 1);
    mp_pair_str (details, field, text);
    if (text_starts (text_of (text), field))
        fail_details (req, code, mp_buf (details), "%s", text);
    fail_details (req, code, mp_buf (details), "%s %s", field, text);
}

void
fail_details (req_t *req, error_code_t code, mp_t details, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    s_fail (req, code, details, format, args);
}

void
fail_result (req_t *req, const db_result_t *result)
{
    req->unknown = result->unknown;
    log_event (result->code == E_INTERNAL || result->code == E_UNAVAILABLE ? LOG_ERROR : LOG_INFO,
               "statement failed", "method", req->what, "req", req_request_id (req), "sqlstate",
               result->sqlstate, "constraint", result->constraint, "why", result->raw, NULL);
    const char *field = req->endpoint && result->constraint
                            ? constraint_field (req->endpoint->in, result->constraint) : NULL;
    if (field && result->code == E_CONFLICT)
        fail_field (req, E_CONFLICT, field, "is already taken");
    if (field && result->code == E_NOT_FOUND)
        fail_field (req, E_NOT_FOUND, field, "does not exist");
    if (field && result->code == E_INVALID)
        fail_field (req, E_INVALID, field, "is not valid");
    const char *text = result->text ? result->text : error_text (result->code);
    fail (req, result->code, "%s", text);
}

void
fail_reply (req_t *req, const bus_reply_t *reply)
{
    mp_t text = mp_get (reply->body, "error");
    error_code_t code = mp_empty (mp_get (reply->body, "code"))
                            ? error_by_status ((int) reply->status)
                            : error_by_name (mp_text (mp_get (reply->body, "code")));
    mp_t details = mp_get (reply->body, "details");
    req->unknown = text_is (mp_text (mp_get (reply->meta, "outcome")), "unknown");
    if (code == E_NONE)
        code = E_INTERNAL;
    fail_details (req, code, req_keep_mp (req, details), "%s",
                  mp_empty (text) ? error_text (code) : req_copy (req, mp_text (text)));
}
