//  cron.h -- schedules: parsing, and when they fire next. Pure.
//
//  Five fields (minute, hour, day of month, month, day of week: 0 or 7 is Sunday), or six or seven
//  as Quartz has them (seconds first, a year of `*` last; day of week 1 is Sunday). Names of months
//  and days, lists, ranges, steps, `?` for "any", `L`, `L-3`, `LW`, `15W` as day of month, `5L` and
//  `5#3` as day of week; @hourly @daily @midnight @weekly @monthly @yearly @annually.
//  When day of month and day of week are both restricted, either is enough.
//
//  The wall clock is followed. A schedule of fixed hours and minutes that falls into the hour that
//  is skipped fires at the first instant behind it; in the hour that comes twice it fires once. One
//  whose hours or minutes begin with `*` fires whenever the clock shows its time.

#ifndef CRON_H
#define CRON_H

#include "zone.h"

typedef struct {
    uint64_t seconds, minutes;
    uint32_t hours, days, near_days; //  near_days: nW
    uint16_t months;
    uint8_t weekdays, last_weekdays; //  bit 0 is Sunday
    uint8_t nth_weekdays [5];        //  first … fifth of the month
    uint32_t from_last;              //  L, L-1 … L-30: bit n
    bool last_weekday;               //  LW
    bool any_day, any_weekday, wild;
} cron_t;

//  False: what is wrong is in `why`, lower case, without period.
bool cron_parse (const char *text, cron_t *self, char *why, size_t size);
//  Does it name a day that comes at all?
bool cron_ever (const cron_t *self);
//  The first firing behind that instant (Unix seconds); -1 when there is none within 40 years.
int64_t cron_next (const cron_t *self, const zone_t *zone, int64_t after);

#endif
