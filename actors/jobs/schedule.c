//  schedule.c -- what is due. The clock that decides is ours, never the database's, and what comes
//  next is reckoned from the last firing, never from now.

#include <stdio.h>
#include <stdlib.h>

#include "jobs.h"

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

static size_t
s_put (buf_t *out, size_t count, int64_t at, int64_t from)
{
    buf_putf (out, "%s%lld,%lld", count ? "," : "", (long long) at, (long long) from);
    return count + 1;
}

size_t
schedule_due (row_t row, int64_t now, int64_t *next, buf_t *fires)
{
    cron_t cron;
    const zone_t *zone;
    char why [200];
    size_t count = 0;
    const char *catchup = row_str (row, "catchup");
    bool all = strcmp (catchup, "all") == 0, skip = strcmp (catchup, "skip") == 0;
    int64_t at = row_int (row, "next"), last = -1;
    *next = -1;
    if (!schedule_read (row_str (row, "schedule"), row_str (row, "timezone"), &cron, &zone, why)) {
        log_warn ("schedule can't be read", "job", row_str (row, "id"), "why", why);
        return 0;
    }
    for (size_t n = 0; at >= 0 && at <= now && n < STEPS_MAX && count < FIRES_MAX; n++) {
        if (all)
            count = s_put (fires, count, at, last < 0 ? s_before (&cron, zone, at) : last);
        last = at;
        at = cron_next (&cron, zone, at);
    }
    //  Many were missed: the rest is looked at in the next round, and decides.
    bool more = at >= 0 && at <= now;
    if (!all && !more && last >= 0 && (!skip || now - last <= LATE_MAX))
        count = s_put (fires, count, last, s_before (&cron, zone, last));
    *next = at;
    return count;
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
    int64_t pause = jobs.fire_after - loop_now (jobs.actor->loop);
    ms = ms < pause ? pause : ms;
    ltimer_set (jobs.timer, ms < 0 ? 0 : ms > 3600000 ? 3600000 : ms + 1);
}
