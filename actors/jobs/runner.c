//  runner.c -- one instance, under a claim, fires schedules and works at runs; what it looks at,
//  and when.

#include <stdio.h>
#include <stdlib.h>

#include "jobs.h"

#define RETRY_EVERY 300              //  ms between attempts at a write
#define LOOK_EVERY 20                //  ms between looks, however much is told
#define LEAD_PATIENCE 10000          //  ms that a call waits until somebody leads

jobs_t jobs;

bool
runner_leads (void)
{
    return jobs.leads && !jobs.closing && claim_held (jobs.actor, RUNNER);
}

CO bool
runner_commit_ (req_t *req, row_t *row, const char *name, const char *const *params, size_t count)
{
    *row = (row_t) { NULL, -1 };
    while (runner_leads ()) {
        unit_t *unit = unit_new (req);
        unit_guard (unit, RUNNER);
        unit_add_ (unit, name, params, count);
        db_result_t result = unit_try (unit);
        if (result.code == E_NONE) {
            *row = (row_t) { result.result, PQntuples (result.result) > 0 ? 0 : -1 };
            return true;
        }
        //  It may have been kept all the same: then runs are at work that nobody here knows.
        jobs.reload = true;
        if (claim_is_fence (&result))
            break;
        if (!error_retry (result.code)) {
            log_error ("jobs: statement failed", "statement", name, "why", result.raw);
            break;
        }
        req_sleep (req, RETRY_EVERY);
    }
    return false;
}

CO row_t
runner_write_ (req_t *req, const char *name, const char *const *params, size_t count)
{
    row_t row;
    runner_commit_ (req, &row, name, params, count);
    return row;
}

//  ---- looking ----

static CO void
s_adopt (req_t *req)
{
    row_t rows = db_rows (req, "runs_alive");
    jobs.reload = false;
    for (int n = 0; n < rows_count (rows); n++)
        run_begin (row_str (rows_at (rows, n), "id"));
}

//  What waits and may begin. What can't now, can when another one has ended.
static CO void
s_admit (req_t *req)
{
    const char *user_max = req_print (req, "%lld", (long long) jobs.user_max);
    while (jobs.waiting && !jobs.reload) {
        int64_t free_slots = jobs.runs_max - (int64_t) hash_size (jobs.runs);
        if (free_slots <= 0)
            return;
        jobs.waiting = false;
        row_t rows = runner_write (req, "runs_admit",
                                   req_print (req, "%lld", (long long) free_slots), user_max);
        for (int n = 0; n < rows_count (rows); n++)
            run_begin (row_str (rows_at (rows, n), "id"));
        if (rows_count (rows) == 0)
            runner_write (req, "runs_skip");
        else
            jobs.waiting = true;
    }
}

static void
s_looked (void *unused)
{
    (void) unused;
    jobs.looking = false;
    if (jobs.again && !jobs.closing)
        runner_wake (NULL);
}

static CO void
s_look (req_t *req)
{
    bus_t *bus = jobs.actor->bus;
    req_defer (req, s_looked, NULL);
    jobs.again = false;
    if (jobs.closing || !bus_connected (bus))
        return;
    if (!claim_held (jobs.actor, RUNNER)) {
        jobs.leads = false;
        if (!bus_owns (bus, TEXT (RUNNER)))
            return;
        claim_take (req, RUNNER);
        jobs.reload = jobs.waiting = true;
    }
    jobs.leads = true;
    if (jobs.reload)
        s_adopt (req);
    s_admit (req);
    int64_t now = jobs_now ();
    if (now >= 0 && schedule_fire (req, now) > 0)
        s_admit (req);
    schedule_arm (req);
}

void
runner_wake (void *unused)
{
    (void) unused;
    int64_t now = loop_now (jobs.actor->loop), after = jobs.looked + LOOK_EVERY;
    if (jobs.looking || jobs.closing || now < after) {
        jobs.again = true;
        if (!jobs.looking && !jobs.closing)
            ltimer_set (jobs.timer, after - now);
        return;
    }
    //  It may have ended by the time that it is started.
    jobs.looking = true;
    jobs.looked = now;
    if (!actor_spawn (jobs.actor, s_look, NULL))
        jobs.looking = false;
}

CO void
runner_tick (req_t *req)
{
    (void) req;
    runner_wake (NULL);
}

//  ---- what others tell ----

CO void
runner_tell (req_t *req, const char *run)
{
    if (runner_leads ()) {
        if (run)
            run_look (run);
        jobs.waiting = true;
        runner_wake (NULL);
        return;
    }
    buf_t *params = req_buf (req);
    mp_put_map (params, run ? 1 : 0);
    if (run)
        mp_pair_str (params, "run", run);
    //  Should it not hear, it finds out when it looks.
    req_call (req, "jobs.wake", mp_buf (params), mp_none,
              &(req_call_t) { .key = RUNNER, .operator = true, .idempotent = true, .ttl = 2000 });
}

CO void
runner_told (req_t *req)
{
    if (req_str (req, "run"))
        run_look (req_str (req, "run"));
    jobs.waiting = true;
    runner_wake (NULL);
    reply_message (req, 200, "Woken");
}

//  True: we lead. False: another instance answered.
static CO bool
s_lead (req_t *req, const char *method)
{
    actor_t *actor = jobs.actor;
    int64_t until = loop_now (actor->loop) + LEAD_PATIENCE;
    while (!runner_leads ()) {
        if (req_elsewhere (req, RUNNER, method, mp_none, req_body (req)))
            return false;
        if (loop_now (actor->loop) > until)
            fail (req, E_UNAVAILABLE, "nobody fires schedules now");
        runner_wake (NULL);
        req_sleep (req, 20);
    }
    return true;
}

CO void
runner_advance (req_t *req)
{
    if (!jobs.fake_clock)
        fail (req, E_CONFLICT, "the clock can't be set: jobs.fake-clock is not on");
    if (!s_lead (req, "jobs.advance"))
        return;
    int64_t now = req_int (req, "now");
    if (!jobs_set_clock (now))
        fail (req, E_UNAVAILABLE, "the clock can't be kept");
    int64_t fired = schedule_fire (req, now);
    runner_wake (NULL);
    buf_t *body = req_buf (req);
    mp_put_map (body, 2);
    mp_pair_int (body, "now", now);
    mp_pair_int (body, "fired", fired);
    reply_mp (req, 200, mp_buf (body));
}

//  ---- the end ----

//  What is at work here is another process's, or the next one's.
static void
s_abandon (void)
{
    text_t key;
    void *item;
    jobs.leads = false;
    for (size_t at = 0; hash_each (jobs.runs, &at, &key, &item);) {
        live_run_t *run = item;
        run->abandoned = true;
        for (size_t n = 0; run->progress && n < run->dag.count; n++)
            if (run->progress [n].attempt && run->progress [n].attempt->req)
                req_wake (run->progress [n].attempt->req);
        if (run->req)
            req_wake (run->req);
    }
    hash_destroy (&jobs.runs);
    jobs.runs = hash_new (NULL);
}

void
runner_fenced (actor_t *actor, const char *key)
{
    (void) actor;
    (void) key;
    s_abandon ();
}

void
runner_drain (actor_t *actor)
{
    (void) actor;
    jobs.closing = true;
    ltimer_stop (jobs.timer);
    s_abandon ();
}
