//  Schedules and time zones: numbers by hand, and by Python's zoneinfo.

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "actors/jobs/cron.h"

#define FEB_28_2024 1709078400       //  00:00 UTC
#define MAR_30_2024 1711756800
#define OCT_26_2024 1729900800

//  The n-th firing behind `after`.
static int64_t
s_fire (const char *schedule, const char *name, int64_t after, int n)
{
    cron_t cron;
    char why [200];
    zone_t *zone = zone_load (name);
    assert_non_null (zone);
    assert_true (cron_parse (schedule, &cron, why, sizeof why));
    while (n-- > 0)
        after = cron_next (&cron, zone, after);
    zone_free (&zone);
    return after;
}

static void
s_refused (const char *schedule, const char *expected)
{
    cron_t cron;
    char why [200] = "";
    assert_false (cron_parse (schedule, &cron, why, sizeof why));
    assert_non_null (strstr (why, expected));
}

static void
test_plain (void **state)
{
    (void) state;
    assert_int_equal (s_fire ("0 0 * * *", "UTC", FEB_28_2024, 1), FEB_28_2024 + 86400);
    assert_int_equal (s_fire ("0 0 * * *", "UTC", FEB_28_2024 - 1, 1), FEB_28_2024);
    assert_int_equal (s_fire ("*/15 * * * *", "UTC", FEB_28_2024, 3), FEB_28_2024 + 45 * 60);
    assert_int_equal (s_fire ("5-7,30 1 * * *", "UTC", FEB_28_2024, 4), FEB_28_2024 + 5400);
    assert_int_equal (s_fire ("@hourly", "UTC", FEB_28_2024 + 1, 1), FEB_28_2024 + 3600);
    assert_int_equal (s_fire ("0 9 * * MON-fri", "UTC", FEB_28_2024, 4),
                      FEB_28_2024 + 5 * 86400 + 9 * 3600);
    assert_int_equal (s_fire ("0 0 * * 7", "UTC", FEB_28_2024, 1), FEB_28_2024 + 4 * 86400);
    assert_int_equal (s_fire ("0 0 * * sat-sun", "UTC", FEB_28_2024, 2), FEB_28_2024 + 4 * 86400);
    assert_int_equal (s_fire ("0 0 29 2 *", "UTC", FEB_28_2024, 1), FEB_28_2024 + 86400);
    //  29 February 2028.
    assert_int_equal (s_fire ("0 0 29 2 *", "UTC", FEB_28_2024, 2), 1835395200);
    //  Both days are restricted: either is enough. Friday 1 March, Wednesday 13.
    assert_int_equal (s_fire ("0 0 13 * 5", "UTC", FEB_28_2024, 1), FEB_28_2024 + 2 * 86400);
    assert_int_equal (s_fire ("0 0 13 * 5", "UTC", FEB_28_2024, 3), FEB_28_2024 + 14 * 86400);
}

static void
test_quartz (void **state)
{
    (void) state;
    //  Seconds first; Sunday is 1.
    assert_int_equal (s_fire ("15 30 6 ? * 1", "UTC", FEB_28_2024, 1),
                      FEB_28_2024 + 4 * 86400 + 6 * 3600 + 30 * 60 + 15);
    assert_int_equal (s_fire ("*/20 0 0 * * ?", "UTC", FEB_28_2024, 2), FEB_28_2024 + 40);
    assert_int_equal (s_fire ("0 0 0 L * ? *", "UTC", FEB_28_2024, 1), FEB_28_2024 + 86400);
    assert_int_equal (s_fire ("0 0 0 L-1 * ?", "UTC", FEB_28_2024 - 1, 1), FEB_28_2024);
    //  31 March 2024 is a Sunday.
    assert_int_equal (s_fire ("0 0 0 LW 3 ?", "UTC", FEB_28_2024, 1), FEB_28_2024 + 30 * 86400);
    //  Friday 15 March; the 16th is a Saturday, the 17th a Sunday.
    assert_int_equal (s_fire ("0 0 0 16W 3 ?", "UTC", FEB_28_2024, 1), FEB_28_2024 + 16 * 86400);
    assert_int_equal (s_fire ("0 0 0 17W 3 ?", "UTC", FEB_28_2024, 1), FEB_28_2024 + 19 * 86400);
    //  Saturday 1 June: the next weekday, because the one before is in May.
    assert_int_equal (s_fire ("0 0 0 1W 6 ?", "UTC", FEB_28_2024, 1), 1717372800);
    //  Last Friday of March; third Thursday.
    assert_int_equal (s_fire ("0 0 0 ? 3 6L", "UTC", FEB_28_2024, 1), FEB_28_2024 + 30 * 86400);
    assert_int_equal (s_fire ("0 0 0 ? 3 5#3", "UTC", FEB_28_2024, 1), FEB_28_2024 + 22 * 86400);
}

static void
test_clocks_go_forward (void **state)
{
    (void) state;
    //  Berlin, 31 March 2024: 02:00 becomes 03:00, at 01:00 UTC.
    int64_t turn = MAR_30_2024 + 86400 + 3600;
    assert_int_equal (s_fire ("30 2 * * *", "Europe/Berlin", MAR_30_2024 + 7200, 1), turn);
    assert_int_equal (s_fire ("30 2 * * *", "Europe/Berlin", turn, 1), turn + 84600);
    assert_int_equal (s_fire ("0,30 2,3 * * *", "Europe/Berlin", turn - 1, 1), turn);
    assert_int_equal (s_fire ("0,30 2,3 * * *", "Europe/Berlin", turn - 1, 2), turn + 1800);
    //  Wildcards follow the clock: 01:45, 03:00.
    assert_int_equal (s_fire ("*/15 * * * *", "Europe/Berlin", turn - 901, 2), turn);
    assert_int_equal (s_fire ("0 */2 * * *", "Europe/Berlin", turn - 1, 1), turn + 3600);
    //  Half an hour on Lord Howe Island, 6 October 2024: 02:00 becomes 02:30.
    assert_int_equal (s_fire ("15 2 * * *", "Australia/Lord_Howe", 1728142200 - 60, 1), 1728142200);
}

static void
test_clocks_go_back (void **state)
{
    (void) state;
    //  Berlin, 27 October 2024: 03:00 becomes 02:00, at 01:00 UTC.
    int64_t turn = OCT_26_2024 + 86400 + 3600;
    assert_int_equal (s_fire ("30 2 * * *", "Europe/Berlin", turn - 7200, 1), turn - 1800);
    assert_int_equal (s_fire ("30 2 * * *", "Europe/Berlin", turn - 7200, 2),
                      turn - 1800 + 25 * 3600);
    assert_int_equal (s_fire ("30 * * * *", "Europe/Berlin", turn - 1801, 2), turn + 1800);
    //  Midnight itself comes twice in Havana, 3 November 2024: 01:00 becomes 00:00 at 05:00 UTC.
    assert_int_equal (s_fire ("0 0 * * *", "America/Havana", 1730606400 - 1, 1), 1730606400);
    assert_int_equal (s_fire ("0 0 * * *", "America/Havana", 1730606400, 1),
                      1730606400 + 25 * 3600);
}

static void
test_zones (void **state)
{
    (void) state;
    static const char *const bad [] = { "", "Mars/Olympus", "../passwd", "/etc/passwd", "Europe",
                                        "right/UTC", "posixrules.x", "tzdata.zi", "UTC\n" };
    for (size_t n = 0; n < sizeof bad / sizeof *bad; n++) {
        zone_t *zone = zone_load (bad [n]);
        assert_null (zone);
    }
    zone_t *zone = zone_load ("America/New_York");
    //  The rule beyond the table: July 2099 and January 2100.
    assert_int_equal (zone_offset (zone, 4086806400), -4 * 3600);
    assert_int_equal (zone_offset (zone, 4102704000), -5 * 3600);
    assert_int_equal (zone_offset (zone, -3000000000), -17762);
    zone_free (&zone);
    zone = zone_load ("Pacific/Apia");
    int64_t at [2];
    //  30 December 2011 was left out.
    assert_int_equal (zone_instants (zone, 1325203200 + 43200, at), 0);
    assert_int_equal (at [0], 1325239200);
    zone_free (&zone);
}

static void
test_bad_schedules (void **state)
{
    (void) state;
    s_refused ("", "five fields");
    s_refused ("* * * *", "five fields");
    s_refused ("* * * * * * * *", "five fields");
    s_refused ("60 * * * *", "minute");
    s_refused ("* 24 * * *", "hour");
    s_refused ("* * 0 * *", "day of month");
    s_refused ("* * * 13 *", "month");
    s_refused ("* * * * 8", "day of week");
    s_refused ("0 0 0 ? * 0", "day of week");
    s_refused ("*/0 * * * *", "minute");
    s_refused ("5-1 * * * *", "minute");
    s_refused ("1, * * * *", "minute");
    s_refused ("1.5 * * * *", "minute");
    s_refused ("* * * feb-x *", "month");
    s_refused ("0 0 30 2 *", "never");
    s_refused ("0 0 0 1 1 ? 2020", "year");
    s_refused ("@reboot", "five fields");
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (test_plain),            cmocka_unit_test (test_quartz),
        cmocka_unit_test (test_clocks_go_forward), cmocka_unit_test (test_clocks_go_back),
        cmocka_unit_test (test_zones),            cmocka_unit_test (test_bad_schedules) };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
