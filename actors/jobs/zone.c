//  zone.c -- reading compiled time zones. Beyond the last transition of a table the rule at its end
//  holds, written as POSIX writes TZ: "CET-1CEST,M3.5.0,M10.5.0/3".

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/text.h"
#include "zone.h"

#define ZONES "/usr/share/zoneinfo"
#define TABLE_MAX (256 * 1024)       //  bytes of a table
#define DAY 86400

typedef struct {
    char kind;                       //  'M' month.week.day, 'J' day without 29 February, 'D' day
    int month, week, day;
    int32_t time;                    //  seconds of that day
} turn_t;

typedef struct {
    bool given, saves;               //  is there a rule; does it have summer time
    int32_t standard, summer;        //  seconds east
    turn_t begin, end;
} rule_t;

struct zone {
    size_t count;
    int64_t *at;                     //  transitions in order
    int32_t *offset;                 //  from there on
    int32_t first;                   //  before the first one
    rule_t rule;
};

//  ---- the calendar ----

int64_t
date_days (int64_t year, int month, int day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t y = year - era * 400;
    int64_t d = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + y * 365 + y / 4 - y / 100 + d - 719468;
}

void
date_of (int64_t days, int64_t *year, int *month, int *day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t e = days - era * 146097;
    int64_t y = (e - e / 1460 + e / 36524 - e / 146096) / 365;
    int64_t d = e - (365 * y + y / 4 - y / 100), m = (5 * d + 2) / 153;
    *day = (int) (d - (153 * m + 2) / 5 + 1);
    *month = (int) (m < 10 ? m + 3 : m - 9);
    *year = y + era * 400 + (*month <= 2);
}

static int64_t
s_floor_day (int64_t at)
{
    return (at >= 0 ? at : at - DAY + 1) / DAY;
}

//  ---- the rule ----

static bool
s_number (const char **at, int max, int *out)
{
    if (!isdigit ((unsigned char) **at))
        return false;
    for (*out = 0; isdigit ((unsigned char) **at); (*at)++)
        if ((*out = *out * 10 + (**at - '0')) > max)
            return false;
    return true;
}

//  hh[:mm[:ss]], signed.
static bool
s_time (const char **at, int32_t *out)
{
    int sign = **at == '-' ? -1 : 1, part, scale = 3600;
    *at += **at == '-' || **at == '+';
    if (!s_number (at, 167, &part))
        return false;
    int32_t seconds = part * scale;
    while (**at == ':' && scale > 1) {
        ++*at;
        scale /= 60;
        if (!s_number (at, 59, &part))
            return false;
        seconds += part * scale;
    }
    *out = sign * seconds;
    return true;
}

static bool
s_abbreviation (const char **at)
{
    const char *from = *at;
    if (**at == '<') {
        const char *end = strchr (*at, '>');
        *at = end ? end + 1 : *at;
        return end != NULL;
    }
    while (isalpha ((unsigned char) **at))
        ++*at;
    return *at - from >= 3;
}

static bool
s_turn (const char **at, turn_t *turn)
{
    *turn = (turn_t) { .kind = 'D', .time = 7200 };
    bool good;
    if (**at == 'M') {
        turn->kind = 'M';
        ++*at;
        good = s_number (at, 12, &turn->month) && turn->month >= 1 && *(*at)++ == '.'
               && s_number (at, 5, &turn->week) && turn->week >= 1 && *(*at)++ == '.'
               && s_number (at, 6, &turn->day);
    }
    else {
        turn->kind = **at == 'J' ? 'J' : 'D';
        *at += **at == 'J';
        good = s_number (at, 365, &turn->day);
    }
    if (good && **at == '/') {
        ++*at;
        good = s_time (at, &turn->time);
    }
    return good;
}

static bool
s_rule (const char *text, rule_t *rule)
{
    int32_t west;
    if (!s_abbreviation (&text) || !s_time (&text, &west))
        return false;
    *rule = (rule_t) { .given = true, .standard = -west, .summer = 3600 - west };
    if (!*text)
        return true;
    rule->saves = true;
    if (!s_abbreviation (&text))
        return false;
    if (*text && *text != ',') {
        if (!s_time (&text, &west))
            return false;
        rule->summer = -west;
    }
    return *text++ == ',' && s_turn (&text, &rule->begin) && *text++ == ','
           && s_turn (&text, &rule->end) && !*text;
}

//  The turn of a year, on the wall clock that holds until then.
static int64_t
s_turn_local (const turn_t *turn, int64_t year)
{
    int64_t first = date_days (year, 1, 1), day;
    bool leap = date_days (year + 1, 1, 1) - first == 366;
    if (turn->kind == 'M') {
        int64_t month = date_days (year, turn->month, 1);
        int64_t next = turn->month == 12 ? date_days (year + 1, 1, 1)
                                         : date_days (year, turn->month + 1, 1);
        int weekday = (int) (((month + 4) % 7 + 7) % 7);
        day = month + (turn->day - weekday + 7) % 7 + 7 * (turn->week - 1);
        while (day >= next)
            day -= 7;
    }
    else if (turn->kind == 'J')
        day = first + turn->day - 1 + (leap && turn->day >= 60);
    else
        day = first + turn->day;
    return day * DAY + turn->time;
}

static int32_t
s_rule_offset (const rule_t *rule, int64_t at)
{
    if (!rule->saves)
        return rule->standard;
    int64_t year;
    int month, day;
    date_of (s_floor_day (at + rule->standard), &year, &month, &day);
    int64_t begin = s_turn_local (&rule->begin, year) - rule->standard;
    int64_t end = s_turn_local (&rule->end, year) - rule->summer;
    bool summer = begin < end ? at >= begin && at < end : at >= begin || at < end;
    return summer ? rule->summer : rule->standard;
}

//  ---- the table ----

static uint32_t
s_u32 (const uint8_t *data)
{
    return (uint32_t) data [0] << 24 | (uint32_t) data [1] << 16 | (uint32_t) data [2] << 8
           | data [3];
}

static int64_t
s_i64 (const uint8_t *data)
{
    return (int64_t) ((uint64_t) s_u32 (data) << 32 | s_u32 (data + 4));
}

typedef struct {
    uint32_t isut, isstd, leap, times, types, chars;
} counts_t;

static bool
s_head (const uint8_t *data, size_t size, counts_t *out)
{
    if (size < 44 || memcmp (data, "TZif", 4) != 0 || data [4] < '2')
        return false;
    *out = (counts_t) { s_u32 (data + 20), s_u32 (data + 24), s_u32 (data + 28), s_u32 (data + 32),
                        s_u32 (data + 36), s_u32 (data + 40) };
    //  Leap seconds would make another clock than the one we count by.
    return out->times < 20000 && out->types >= 1 && out->types < 256 && out->chars < 4096
           && out->isut < 256 && out->isstd < 256 && out->leap == 0;
}

static size_t
s_body (const counts_t *counts, size_t wide)
{
    return counts->times * (wide + 1) + counts->types * 6 + counts->chars + counts->isstd
           + counts->isut;
}

static bool
s_fill (zone_t *self, const uint8_t *data, const counts_t *counts)
{
    const uint8_t *index = data + counts->times * 8, *types = index + counts->times;
    self->count = counts->times;
    self->at = xcalloc (self->count + 1, sizeof *self->at);
    self->offset = xcalloc (self->count + 1, sizeof *self->offset);
    self->first = (int32_t) s_u32 (types);
    for (size_t n = 0; n < self->count; n++) {
        self->at [n] = s_i64 (data + n * 8);
        if (index [n] >= counts->types || (n && self->at [n] <= self->at [n - 1]))
            return false;
        self->offset [n] = (int32_t) s_u32 (types + index [n] * 6);
        if (abs (self->offset [n]) > 26 * 3600)
            return false;
    }
    return abs (self->first) <= 26 * 3600;
}

zone_t *
zone_read (const uint8_t *data, size_t size)
{
    counts_t old, counts;
    if (!s_head (data, size, &old))
        return NULL;
    size_t skip = 44 + s_body (&old, 4);
    if (skip > size || !s_head (data + skip, size - skip, &counts))
        return NULL;
    data += skip + 44;
    size -= skip + 44;
    size_t body = s_body (&counts, 8);
    if (body + 2 > size)
        return NULL;
    zone_t *self = xcalloc (1, sizeof *self);
    const uint8_t *line = data + body + 1, *end = memchr (line, '\n', size - body - 1);
    bool good = s_fill (self, data, &counts) && data [body] == '\n' && end;
    if (good && end > line) {
        char *text = text_copy ((text_t) { (const char *) line, (size_t) (end - line) });
        good = s_rule (text, &self->rule);
        free (text);
    }
    if (!good)
        zone_free (&self);
    return self;
}

zone_t *
zone_load (const char *name)
{
    size_t size = strlen (name);
    //  Names of zones only, and not those that count leap seconds.
    if (size == 0 || size > 64 || strstr (name, "..") || *name == '/' || !isalpha (*name)
        || name [strspn (name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                               "_+-/")])
        return NULL;
    char path [128];
    snprintf (path, sizeof path, ZONES "/%s", name);
    FILE *file = fopen (path, "re");
    if (!file)
        return NULL;
    uint8_t *data = xmalloc (TABLE_MAX);
    size_t got = fread (data, 1, TABLE_MAX, file);
    fclose (file);
    zone_t *self = got < TABLE_MAX ? zone_read (data, got) : NULL;
    free (data);
    return self;
}

void
zone_free (zone_t **self_p)
{
    zone_t *self = *self_p;
    if (!self)
        return;
    free (self->at);
    free (self->offset);
    free (self);
    *self_p = NULL;
}

//  ---- asking it ----

int32_t
zone_offset (const zone_t *self, int64_t at)
{
    if (self->count == 0)
        return self->rule.given ? s_rule_offset (&self->rule, at) : self->first;
    if (at < self->at [0])
        return self->first;
    if (at >= self->at [self->count - 1] && self->rule.given)
        return s_rule_offset (&self->rule, at);
    size_t low = 0, high = self->count;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (self->at [middle] <= at)
            low = middle;
        else
            high = middle;
    }
    return self->offset [low];
}

int
zone_instants (const zone_t *self, int64_t local, int64_t out [2])
{
    //  No zone changes twice within two days.
    int32_t before = zone_offset (self, local - DAY), after = zone_offset (self, local + DAY);
    int64_t one = local - before, two = local - after;
    bool first = zone_offset (self, one) == before, second = zone_offset (self, two) == after;
    if (before == after || (first && !second)) {
        out [0] = one;
        return 1;
    }
    if (second && !first) {
        out [0] = two;
        return 1;
    }
    if (first) {
        out [0] = one < two ? one : two;
        out [1] = one < two ? two : one;
        return 2;
    }
    //  Skipped: the change is behind `two` and not behind `one`.
    while (one - two > 1) {
        int64_t middle = two + (one - two) / 2;
        if (zone_offset (self, middle) == before)
            two = middle;
        else
            one = middle;
    }
    out [0] = one;
    return 0;
}
