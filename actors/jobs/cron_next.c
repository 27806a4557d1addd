//  cron_next.c -- when a schedule fires next.

#include "cron.h"

#define DAY 86400
#define DAYS_MAX (40 * 366)

typedef struct {
    int month, day, length, weekday; //  length of the month
} date_t;

static date_t
s_date (int64_t days)
{
    int64_t year;
    date_t date = { .weekday = (int) (((days + 4) % 7 + 7) % 7) };
    date_of (days, &year, &date.month, &date.day);
    int64_t next = date.month == 12 ? date_days (year + 1, 1, 1)
                                    : date_days (year, date.month + 1, 1);
    date.length = (int) (next - date_days (year, date.month, 1));
    return date;
}

//  Is it the weekday next to `day` of its month? It never leaves the month.
static bool
s_is_near (const date_t *date, int day)
{
    if (day > date->length || date->weekday == 0 || date->weekday == 6)
        return false;
    if (day == date->day)
        return true;
    int weekday = ((date->weekday + day - date->day) % 7 + 7) % 7, shift = 0;
    if (weekday == 6)
        shift = day > 1 ? -1 : 2;
    else if (weekday == 0)
        shift = day < date->length ? 1 : -2;
    return shift && day + shift == date->day;
}

static bool
s_is_day (const cron_t *self, const date_t *date)
{
    if (self->days >> date->day & 1 || self->from_last >> (date->length - date->day) & 1
        || (self->last_weekday && s_is_near (date, date->length)))
        return true;
    for (int day = 1; day <= 31 && self->near_days >> day; day++)
        if (self->near_days >> day & 1 && s_is_near (date, day))
            return true;
    return false;
}

static bool
s_is_weekday (const cron_t *self, const date_t *date)
{
    return self->weekdays >> date->weekday & 1
           || (self->last_weekdays >> date->weekday & 1 && date->day + 7 > date->length)
           || self->nth_weekdays [(date->day - 1) / 7] >> date->weekday & 1;
}

static bool
s_matches (const cron_t *self, int64_t days)
{
    date_t date = s_date (days);
    if (!(self->months >> date.month & 1))
        return false;
    bool day = s_is_day (self, &date), weekday = s_is_weekday (self, &date);
    return self->any_day || self->any_weekday ? day && weekday : day || weekday;
}

bool
cron_ever (const cron_t *self)
{
    for (int64_t days = 0; days < DAYS_MAX; days++)
        if (s_matches (self, days))
            return true;
    return false;
}

//  The next time of day at or behind `second`; -1 when the day has none.
static int
s_time (const cron_t *self, int second)
{
    for (int hour = second / 3600; hour < 24; hour++) {
        if (!(self->hours >> hour & 1))
            continue;
        for (int minute = hour == second / 3600 ? second / 60 % 60 : 0; minute < 60; minute++) {
            if (!(self->minutes >> minute & 1))
                continue;
            int begin = hour * 3600 + minute * 60, from = second > begin ? second - begin : 0;
            uint64_t left = from < 60 ? self->seconds >> from : 0;
            if (left)
                return begin + from + __builtin_ctzll (left);
        }
    }
    return -1;
}

//  The first firing of a day (of the wall clock) behind `after`; -1: none. A day on which the clock
//  is changed is looked at time by time.
static int64_t
s_of_day (const cron_t *self, const zone_t *zone, int64_t days, int64_t after, bool *changes)
{
    int64_t midnight = days * DAY, best = -1, at [2];
    int32_t offset = zone_offset (zone, midnight - DAY);
    *changes = offset != zone_offset (zone, midnight + 2 * DAY);
    int64_t from = *changes ? 0 : after + 1 + offset - midnight;
    int time = from < DAY ? s_time (self, from > 0 ? (int) from : 0) : -1;
    if (!*changes)
        return time < 0 ? -1 : midnight + time - offset;
    for (; time >= 0; time = time + 1 < DAY ? s_time (self, time + 1) : -1) {
        int count = zone_instants (zone, midnight + time, at);
        if (count == 0 && self->wild)
            continue;
        if (at [0] > after && (best < 0 || at [0] < best))
            best = at [0];
        if (count == 2 && self->wild && at [1] > after && (best < 0 || at [1] < best))
            best = at [1];
    }
    return best;
}

int64_t
cron_next (const cron_t *self, const zone_t *zone, int64_t after)
{
    int64_t local = after + zone_offset (zone, after);
    int64_t days = (local >= 0 ? local : local - DAY + 1) / DAY - 1;
    for (int64_t end = days + DAYS_MAX; days < end; days++) {
        bool changes = false;
        int64_t best = s_matches (self, days) ? s_of_day (self, zone, days, after, &changes) : -1;
        if (best < 0)
            continue;
        //  A clock that is set back over midnight shows times of the next day first.
        int64_t other = changes && s_matches (self, days + 1)
                            ? s_of_day (self, zone, days + 1, after, &changes) : -1;
        return other >= 0 && other < best ? other : best;
    }
    return -1;
}
