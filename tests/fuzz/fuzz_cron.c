//  A schedule from anywhere: it is refused with a reason, or fires, ever later; and a table of a
//  time zone from anywhere is refused or answers.

#include <stdlib.h>
#include <string.h>

#include "actors/jobs/cron.h"

static zone_t *s_berlin;

static void
s_must (bool condition)
{
    if (!condition)
        abort ();
}

static void
s_schedule (const uint8_t *data, size_t size)
{
    char text [160], why [200] = "";
    cron_t cron;
    size = size < sizeof text - 1 ? size : sizeof text - 1;
    memcpy (text, data, size);
    text [size] = 0;
    if (!cron_parse (text, &cron, why, sizeof why)) {
        s_must (*why);
        return;
    }
    int64_t at = 1711756800;
    for (int n = 0; n < 5 && at >= 0; n++) {
        int64_t next = cron_next (&cron, s_berlin, at);
        s_must (next < 0 || next > at);
        at = next;
    }
}

static void
s_zone (const uint8_t *data, size_t size)
{
    zone_t *zone = zone_read (data, size);
    int64_t at [2];
    for (int64_t local = -4000000000; zone && local < 8000000000; local += 123456789) {
        zone_offset (zone, local);
        int count = zone_instants (zone, local, at);
        s_must (count >= 0 && count <= 2);
    }
    zone_free (&zone);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    if (!s_berlin)
        s_berlin = zone_load ("Europe/Berlin");
    if (size > 4 && memcmp (data, "TZif", 4) == 0)
        s_zone (data, size);
    else
        s_schedule (data, size);
    return 0;
}
