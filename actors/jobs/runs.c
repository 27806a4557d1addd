//  runs.c -- methods on runs: begin, look at, cancel, repair, backfill.

#include <stdio.h>
#include <stdlib.h>

#include "jobs.h"

#define BACKFILL_MAX 100000          //  runs of one backfill
#define BACKFILL_BATCH 5000          //  of one commit
#define LOOK_EVERY 250               //  ms, while somebody waits for the end of a run

static const char *
s_user (req_t *req)
{
    if (!req_user (req))
        fail (req, E_UNAUTHORIZED, "a user is needed for this method");
    return req_user (req);
}

CO void
job_run (req_t *req)
{
    mp_t parameters = req_any (req, "parameters");
    unit_t *unit = unit_new (req);
    unit_add (unit, "run_add", s_user (req), req_id (req),
              mp_empty (parameters) ? NULL : req_json (req, "parameters"));
    row_t row = unit_commit (unit);
    if (row_none (row))
        fail (req, E_NOT_FOUND, "job not found");
    job_after_change (req, NULL, NULL);
    reply_header (req, "Location", req_print (req, "/job-runs/%s", row_str (row, "id")));
    reply_row (req, 201, row);
}

CO void
job_runs (req_t *req)
{
    const char *job = req_has (req, "id") || req_str (req, "id") ? req_str (req, "id") : NULL;
    if (job && row_none (db_row (req, "job_own", s_user (req), job)))
        fail (req, E_NOT_FOUND, "job not found");
    row_t rows = db_rows (req, "runs_list", s_user (req), job ? job : req_str (req, "job_id"),
                          req_str (req, "status"), req_str (req, "state_detail"),
                          req_str (req, "limit"), req_str (req, "before"));
    reply_rows (req, 200, rows);
}

//  ---- one ----

static CO row_t
s_row (req_t *req)
{
    row_t row = db_row (req, "run_get", s_user (req), req_str (req, "run"), req_str (req, "id"));
    if (row_none (row))
        fail (req, E_NOT_FOUND, "run not found");
    return row;
}

static void
s_answer (req_t *req, unsigned status, row_t row)
{
    buf_t *body = req_buf (req);
    size_t mark = mp_open_map (body);
    uint32_t pairs = row_put (req, body, row);
    mp_put_str (body, "live");
    mp_put_map (body, 3);
    mp_pair_str (body, "ch", row_str (row, "channel"));
    mp_pair_str (body, "epoch", req_actor (req)->epoch);
    mp_pair_int (body, "off", row_int (row, "top"));
    mp_close (body, mark, pairs + 1);
    reply_mp (req, status, mp_buf (body));
}

CO void
run_get (req_t *req)
{
    loop_t *loop = req_actor (req)->loop;
    int64_t until = loop_now (loop) + req_wait (req, 0);
    row_t row = s_row (req);
    while (!row_str (row, "completed_at") && loop_now (loop) < until && !req_cancelled (req)) {
        req_sleep (req, LOOK_EVERY);
        row = s_row (req);
    }
    s_answer (req, 200, row);
}

static CO void
s_change (req_t *req, const char *statement, const char *wish, const char *why)
{
    const char *run = req_str (req, "run");
    unit_t *unit = unit_new (req);
    if (why)
        unit_add (unit, statement, s_user (req), run, why);
    else
        unit_add (unit, statement, s_user (req), run);
    row_t row = unit_commit (unit);
    if (row_none (row))
        fail (req, E_NOT_FOUND, "run not found");
    if (!row_str (row, "id")) {
        const char *was = row_str (row, "_was");
        buf_t *details = req_buf (req);
        mp_put_map (details, 2);
        mp_pair_str (details, "from", was);
        mp_pair_str (details, "to", wish);
        fail_details (req, E_CONFLICT, mp_buf (details), "run is %s, it can't become %s", was,
                      wish);
    }
    runner_tell (req, run);
    reply_row (req, 202, row);
}

CO void
run_cancel (req_t *req)
{
    s_change (req, "run_cancel", "cancelled", "cancelled by the user");
}

CO void
run_repair (req_t *req)
{
    s_change (req, "run_repair", "queued", NULL);
}

//  ---- backfill ----

//  RFC 3339 as Unix seconds; the field was checked already.
static int64_t
s_seconds (const char *text)
{
    int year, month, day, hour = 0, minute = 0, second = 0, used = 0;
    sscanf (text, "%4d-%2d-%2d%*1[Tt ]%2d:%2d:%2d%n", &year, &month, &day, &hour, &minute, &second,
            &used);
    int64_t at = date_days (year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
    const char *zone = text + used + strcspn (text + used, "+-Zz");
    if (*zone == '+' || *zone == '-') {
        int east = 0, minutes = 0;
        sscanf (zone + 1, "%2d%*1[:]%2d", &east, &minutes);
        at -= (*zone == '+' ? 1 : -1) * (east * 3600 + minutes * 60);
    }
    return at;
}

typedef struct {
    const char *parameters, *reprocess;
    int64_t created, again, seen;
} backfill_t;

static CO void
s_batch (req_t *req, backfill_t *self, buf_t *fires)
{
    buf_put (fires, "]", 2);
    unit_t *unit = unit_new (req);
    unit_add (unit, "backfill_add", req_user (req), req_id (req), (const char *) fires->data,
              self->parameters, self->reprocess);
    row_t row = unit_commit (unit);
    self->created += row_int (row, "created");
    self->again += row_int (row, "again");
    buf_clear (fires);
}

CO void
job_backfill (req_t *req)
{
    s_user (req);
    row_t job = db_row (req, "job_own", s_user (req), req_id (req));
    if (row_none (job))
        fail (req, E_NOT_FOUND, "job not found");
    cron_t cron;
    const zone_t *zone;
    char why [200];
    if (!row_str (job, "schedule"))
        fail (req, E_CONFLICT, "the job has no schedule to fill back");
    if (!schedule_read (row_str (job, "schedule"), row_str (job, "timezone"), &cron, &zone, why))
        fail (req, E_CONFLICT, "%s", why);
    int64_t from = s_seconds (req_str (req, "from")), to = s_seconds (req_str (req, "to"));
    if (to <= from)
        fail_field (req, E_INVALID, "to", "must be behind from");
    int64_t now = jobs_now ();
    if (from < 0)
        fail_field (req, E_INVALID, "from", "must not be before 1970");
    if (now >= 0 && from > now)
        fail_field (req, E_INVALID, "from", "must not be in the future");
    if (now >= 0 && to > now)
        to = now + 1;
    size_t count = 0;
    for (int64_t at = cron_next (&cron, zone, from - 1); at >= 0 && at < to;
         at = cron_next (&cron, zone, at))
        if (++count > BACKFILL_MAX)
            fail_field (req, E_INVALID, "to", "asks for more than %d runs", BACKFILL_MAX);
    mp_t parameters = req_any (req, "parameters");
    backfill_t self = { mp_empty (parameters) ? NULL : req_json (req, "parameters"),
                        req_str (req, "reprocess"), 0, 0, (int64_t) count };
    buf_t *fires = req_buf (req);
    int64_t last = -1;
    count = 0;
    for (int64_t at = cron_next (&cron, zone, from - 1); at >= 0 && at < to;
         at = cron_next (&cron, zone, at)) {
        buf_putf (fires, "%s{\"at\":%lld,\"from\":%lld}", count % BACKFILL_BATCH ? "," : "[",
                  (long long) at, (long long) (last < 0 ? from : last));
        last = at;
        if (++count % BACKFILL_BATCH == 0)
            s_batch (req, &self, fires);
    }
    if (fires->size)
        s_batch (req, &self, fires);
    runner_tell (req, NULL);
    buf_t *body = req_buf (req);
    mp_put_map (body, 3);
    mp_pair_int (body, "intervals", self.seen);
    mp_pair_int (body, "created", self.created);
    mp_pair_int (body, "again", self.again);
    reply_mp (req, 202, mp_buf (body));
}
