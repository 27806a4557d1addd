//  schedule.c -- what is due. The clock that decides is ours, never the database's, and what comes
//  next is reckoned from the last firing, never from now.

#include <stdio.h>
#include <stdlib.h>

#include "jobs.h"

#define BATCH "1000"                 //  jobs of one statement
#define FIRES_MAX 1000               //  firings of one job in one statement
#define STEPS_MAX 200000             //  times looked at, of one job that was missed for long
#define LATE_MAX 60                  //  seconds after which a firing counts as missed ("skip")

//  A clock for tests is a file, so that all instances have the same, and the next ones too.
static void
s_clock_path (char path [256])
{
    snprintf (path, 256, "%s/jobs.clock", jobs.actor->run_dir);
}

int64_t
jobs_now (void)
{
    char path [256];
    long long now = -1;
    if (!jobs.fake_clock)
        return loop_wall (jobs.actor->loop) / 1000;
    s_clock_path (path);
    FILE *file = fopen (path, "re");
    if (file) {
        if (fscanf (file, "%20lld", &now) != 1)
            now = -1;
        fclose (file);
    }
    return now;
}

bool
jobs_set_clock (int64_t now)
{
    char path [256], other [264];
    if (now <= jobs_now ())
        return true;
    s_clock_path (path);
    snprintf (other, sizeof other, "%s.new", path);
    FILE *file = fopen (other, "we");
    bool good = file && fprintf (file, "%lld\n", (long long) now) > 0;
    if (file)
        good = fclose (file) == 0 && good;
    return good && rename (other, path) == 0;
}

const zone_t *
zone_known (const char *name)
{
    zone_t *zone = hash_get (jobs.zones, text_of (name));
    if (!zone && (zone = zone_load (name)))
        hash_put (jobs.zones, text_of (name), zone);
    return zone;
}

bool
schedule_read (const char *schedule, const char *timezone, cron_t *cron, const zone_t **zone,
               char why [200])
{
    if (!cron_parse (schedule, cron, why, 200))
        return false;
    *zone = zone_known (timezone);
    if (!*zone)
        snprintf (why, 200, "timezone %.64s is not known", timezone);
    return *zone != NULL;
}

typedef struct {
    int64_t at, from;                //  the interval that it ends began at `from`
} fire_t;

static void
s_put_fires (buf_t *out, const fire_t *fires, size_t count)
{
    buf_putc (out, '[');
    for (size_t n = 0; n < count; n++)
        buf_putf (out, "%s{\"at\":%lld,\"from\":%lld}", n ? "," : "", (long long) fires [n].at,
                  (long long) fires [n].from);
    buf_putc (out, ']');
}

//  The firing before `at`: the interval that ends at `at` begins there.
static int64_t
s_before (const cron_t *cron, const zone_t *zone, int64_t at)
{
    for (int64_t back = 3600; back < (int64_t) 40 * 366 * 86400; back *= 4) {
        int64_t last = -1;
        for (int64_t t = cron_next (cron, zone, at - back); t >= 0 && t < at;
             t = cron_next (cron, zone, t))
            last = t;
        if (last >= 0)
            return last;
    }
    return at;
}

//  When a job that is due fires and comes next, as the end of its entry in the batch.
static void
s_put_due (buf_t *out, row_t row, int64_t now)
{
    static fire_t fires [FIRES_MAX];
    cron_t cron;
    const zone_t *zone;
    char why [200];
    size_t count = 0;
    const char *catchup = row_str (row, "catchup");
    bool all = strcmp (catchup, "all") == 0, skip = strcmp (catchup, "skip") == 0;
    int64_t at = row_int (row, "next"), last = -1;
    bool good = schedule_read (row_str (row, "schedule"), row_str (row, "timezone"), &cron, &zone,
                               why);
    if (!good)
        log_warn ("schedule can't be read", "job", row_str (row, "id"), "why", why);
    for (size_t n = 0; good && at >= 0 && at <= now && n < STEPS_MAX && count < FIRES_MAX; n++) {
        if (all)
            fires [count++] = (fire_t) { at, last < 0 ? s_before (&cron, zone, at) : last };
        last = at;
        at = cron_next (&cron, zone, at);
    }
    //  Many were missed: the rest is looked at in the next round, and decides.
    bool more = at >= 0 && at <= now;
    if (good && !all && !more && last >= 0 && (!skip || now - last <= LATE_MAX))
        fires [count++] = (fire_t) { last, s_before (&cron, zone, last) };
    if (good && at >= 0)
        buf_putf (out, "%lld,\"fires\":", (long long) at);
    else
        buf_puts (out, "null,\"fires\":");
    s_put_fires (out, fires, count);
    buf_putc (out, '}');
}

//  Many jobs have the same schedule, and are due together: it is reckoned once.
static const char *
s_due (hash_t *known, row_t row, int64_t now)
{
    char key [256];
    snprintf (key, sizeof key, "%s|%s|%s|%s", row_str (row, "next"), row_str (row, "catchup"),
              row_str (row, "timezone"), row_str (row, "schedule"));
    char *entry = hash_get (known, text_of (key));
    if (entry)
        return entry;
    buf_t out = { 0 };
    s_put_due (&out, row, now);
    buf_putc (&out, 0);
    hash_put (known, text_of (key), out.data);
    return (const char *) out.data;
}

static const char *
s_batch (req_t *req, const db_result_t *due, int64_t now)
{
    hash_t *known = hash_new (free);
    buf_t *batch = req_buf (req);
    for (int n = 0; n < PQntuples (due->result); n++) {
        row_t row = { due->result, n };
        buf_putf (batch, "%s{\"job\":\"%s\",\"was\":%s,\"next\":", n ? "," : "[",
                  row_str (row, "id"), row_str (row, "next"));
        buf_puts (batch, s_due (known, row, now));
    }
    buf_put (batch, "]", 2);
    hash_destroy (&known);
    return (const char *) batch->data;
}

CO int64_t
schedule_fire (req_t *req, int64_t now)
{
    int64_t fired = 0;
    char text [24];
    snprintf (text, sizeof text, "%lld", (long long) now);
    for (;;) {
        db_result_t due = req_db_try (req, DB_READ, "jobs_due", DB_PARAMS (text, BATCH));
        if (due.code != E_NONE || PQntuples (due.result) == 0 || !runner_leads ())
            return fired;
        fired += rows_count (runner_write (req, "jobs_fire", s_batch (req, &due, now)));
        jobs.waiting = true;
    }
}

CO void
schedule_arm (req_t *req)
{
    db_result_t next = req_db_try (req, DB_READ, "jobs_next", DB_PARAMS ());
    row_t row = { next.result, next.code == E_NONE && PQntuples (next.result) > 0 ? 0 : -1 };
    if (jobs.fake_clock || !row_str (row, "next"))
        return;
    //  The timer counts from the turn's time, so look at the clock in the same units.
    int64_t ms = row_int (row, "next") * 1000 - loop_wall (jobs.actor->loop);
    ltimer_set (jobs.timer, ms < 0 ? 0 : ms > 3600000 ? 3600000 : ms + 1);
}
