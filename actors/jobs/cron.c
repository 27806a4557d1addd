//  cron.c -- parsing of schedules.

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "cron.h"
#include "proto/text.h"

typedef struct {
    const char *name;
    int min, max;
    const char *words;               //  names of three letters, the first is `word_base`
    int word_base;
} range_t;

enum { SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY };

static const range_t s_ranges [] = { { "second", 0, 59, NULL, 0 },
                                     { "minute", 0, 59, NULL, 0 },
                                     { "hour", 0, 23, NULL, 0 },
                                     { "day of month", 1, 31, NULL, 0 },
                                     { "month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec", 1 },
                                     { "day of week", 0, 7, "sunmontuewedthufrisat", 0 } };

typedef struct {
    cron_t *cron;
    bool quartz;                     //  days of week are 1 (Sunday) to 7
    char *why;
    size_t size;
} parser_t;

static bool
s_wrong (parser_t *self, int field, const char *text)
{
    snprintf (self->why, self->size, "has no valid %s: \"%.40s\"", s_ranges [field].name, text);
    return false;
}

//  A number or a name at *at. Days of week are answered as 0 (Sunday) to 7 (Sunday again).
static bool
s_value (const parser_t *self, int field, const char **at, int *out)
{
    const range_t *range = &s_ranges [field];
    if (range->words && isalpha ((unsigned char) **at)) {
        for (int n = 0; range->words [3 * n]; n++)
            if (strncasecmp (*at, range->words + 3 * n, 3) == 0) {
                *at += 3;
                *out = n + range->word_base;
                return true;
            }
        return false;
    }
    if (!isdigit ((unsigned char) **at))
        return false;
    for (*out = 0; isdigit ((unsigned char) **at); ++*at)
        if ((*out = *out * 10 + (**at - '0')) > 99)
            return false;
    if (field == WEEKDAY && self->quartz && --*out < 0)
        return false;
    return *out >= range->min && *out <= range->max
           && !(field == WEEKDAY && self->quartz && *out > 6);
}

static void
s_set (parser_t *self, int field, int value)
{
    cron_t *cron = self->cron;
    switch (field) {
    case SECOND: cron->seconds |= 1ull << value; break;
    case MINUTE: cron->minutes |= 1ull << value; break;
    case HOUR: cron->hours |= 1u << value; break;
    case DAY: cron->days |= 1u << value; break;
    case MONTH: cron->months |= (uint16_t) (1u << value); break;
    default: cron->weekdays |= (uint8_t) (1u << value % 7);
    }
}

//  What only days have: L, L-3, LW, 15W; 5L, 5#3. True when it was one, `*good` whether it was
//  right.
static bool
s_special (parser_t *self, int field, const char *text, bool *good)
{
    cron_t *cron = self->cron;
    const char *at = text;
    int value, other;
    *good = true;
    if (field == DAY && (*at == 'L' || *at == 'l')) {
        value = 0;
        if (strcasecmp (at, "LW") == 0)
            cron->last_weekday = true;
        else if (at [1] == '-') {
            at += 2;
            *good = s_value (self, DAY, &at, &value) && !*at && value <= 30;
        }
        else
            *good = !at [1];
        if (*good && !cron->last_weekday)
            cron->from_last |= 1u << value;
        return true;
    }
    if (field == WEEKDAY && strcasecmp (at, "L") == 0) {
        s_set (self, WEEKDAY, 6);
        return true;
    }
    if ((field != DAY && field != WEEKDAY) || !s_value (self, field, &at, &value))
        return false;
    if (field == DAY && (*at == 'W' || *at == 'w')) {
        *good = !at [1];
        cron->near_days |= 1u << value;
        return true;
    }
    if (field == WEEKDAY && (*at == 'L' || *at == 'l')) {
        *good = !at [1];
        cron->last_weekdays |= (uint8_t) (1u << value % 7);
        return true;
    }
    if (field == WEEKDAY && *at == '#') {
        other = at [1] - '0';
        *good = other >= 1 && other <= 5 && !at [2];
        if (*good)
            cron->nth_weekdays [other - 1] |= (uint8_t) (1u << value % 7);
        return true;
    }
    return false;
}

//  One of a list: *, a, a-b, each with /step.
static bool
s_item (parser_t *self, int field, const char *text)
{
    const range_t *range = &s_ranges [field];
    const char *at = text;
    int from = range->min, to = field == WEEKDAY ? 6 : range->max, step = 1;
    bool good;
    if (s_special (self, field, text, &good))
        return good || s_wrong (self, field, text);
    if (*at == '*' || (*at == '?' && (field == DAY || field == WEEKDAY)))
        at++;
    else {
        if (!s_value (self, field, &at, &from))
            return s_wrong (self, field, text);
        bool open = *at == '/';
        if (*at == '-') {
            at++;
            if (!s_value (self, field, &at, &to))
                return s_wrong (self, field, text);
            //  Saturday to Sunday.
            if (field == WEEKDAY && to < from)
                to += 7;
        }
        else if (!open)
            to = from;
        if (to < from)
            return s_wrong (self, field, text);
    }
    if (*at == '/') {
        char *end;
        at++;
        step = isdigit ((unsigned char) *at) ? (int) strtol (at, &end, 10) : 0;
        if (step < 1 || step > 99 || *end)
            return s_wrong (self, field, text);
        at = end;
    }
    if (*at)
        return s_wrong (self, field, text);
    for (int value = from; value <= to; value += step)
        s_set (self, field, value);
    return true;
}

static bool
s_field (parser_t *self, int field, char *text)
{
    char *state = NULL;
    if (text [0] == ',' || text [strlen (text) - 1] == ',' || strstr (text, ",,"))
        return s_wrong (self, field, text);
    if ((field == MINUTE || field == HOUR) && *text == '*')
        self->cron->wild = true;
    if (field == DAY)
        self->cron->any_day = *text == '*' || *text == '?';
    if (field == WEEKDAY)
        self->cron->any_weekday = *text == '*' || *text == '?';
    for (char *item = strtok_r (text, ",", &state); item; item = strtok_r (NULL, ",", &state))
        if (!s_item (self, field, item))
            return false;
    return true;
}

static const char *
s_nickname (const char *text)
{
    static const char *const names [] [2] = {
        { "@hourly", "0 * * * *" },   { "@daily", "0 0 * * *" },  { "@midnight", "0 0 * * *" },
        { "@weekly", "0 0 * * 0" },   { "@monthly", "0 0 1 * *" },
        { "@yearly", "0 0 1 1 *" },   { "@annually", "0 0 1 1 *" } };
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        if (strcasecmp (names [n] [0], text) == 0)
            return names [n] [1];
    return text;
}

bool
cron_parse (const char *text, cron_t *self, char *why, size_t size)
{
    parser_t parser = { self, false, why, size };
    char copy [128], *fields [8], *state = NULL;
    size_t count = 0;
    *self = (cron_t) { 0 };
    text = s_nickname (text);
    if (snprintf (copy, sizeof copy, "%s", text) >= (int) sizeof copy) {
        snprintf (why, size, "is longer than %zu characters", sizeof copy - 1);
        return false;
    }
    for (char *at = strtok_r (copy, " \t", &state); at && count < 8;
         at = strtok_r (NULL, " \t", &state))
        fields [count++] = at;
    if (count < 5 || count > 7) {
        snprintf (why, size, "needs five fields (minute, hour, day of month, month, day of week), "
                             "or six with seconds first");
        return false;
    }
    if (count == 7 && strcmp (fields [6], "*") != 0) {
        snprintf (why, size, "year must be *");
        return false;
    }
    parser.quartz = count > 5;
    if (!parser.quartz)
        self->seconds = 1;
    for (int n = parser.quartz ? SECOND : MINUTE; n <= WEEKDAY; n++)
        if (!s_field (&parser, n, fields [n - !parser.quartz]))
            return false;
    if (!cron_ever (self)) {
        snprintf (why, size, "names a day that never comes");
        return false;
    }
    return true;
}
