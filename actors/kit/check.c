//  check.c -- one value against one declared field, and its form as a parameter of a statement.

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kit.h"

#define TEXT_BYTES (64 * 1024)

typedef const char *(check_fn) (req_t *req, const field_t *field, mp_t value, bool lenient,
                               const char **text);

static bool
s_digits (text_t text, size_t at, size_t count, int *out)
{
    int number = 0;
    if (text.size < at + count)
        return false;
    for (size_t n = at; n < at + count; n++) {
        if (text.data [n] < '0' || text.data [n] > '9')
            return false;
        number = number * 10 + text.data [n] - '0';
    }
    *out = number;
    return true;
}

static bool
s_day (text_t text)
{
    static const int days [] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    int year, month, day;
    if (!s_digits (text, 0, 4, &year) || !s_digits (text, 5, 2, &month)
        || !s_digits (text, 8, 2, &day) || text.data [4] != '-' || text.data [7] != '-' || year < 1
        || month < 1 || month > 12 || day < 1)
        return false;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return day <= days [month - 1] + (month == 2 && leap);
}

bool
check_date (text_t text)
{
    return text.size == 10 && s_day (text);
}

//  Z, +hh, +hhmm, +hh:mm, or nothing (UTC).
static bool
s_zone (text_t text, size_t at)
{
    int hours, minutes = 0;
    if (at == text.size
        || (at + 1 == text.size && (text.data [at] == 'Z' || text.data [at] == 'z')))
        return true;
    if ((text.data [at] != '+' && text.data [at] != '-') || !s_digits (text, at + 1, 2, &hours))
        return false;
    at += 3;
    if (at < text.size && text.data [at] == ':')
        at++;
    if (at < text.size && (!s_digits (text, at, 2, &minutes) || at + 2 != text.size))
        return false;
    return hours <= 15 && minutes < 60;
}

bool
check_time (text_t text)
{
    int hours, minutes, seconds = 0;
    if (text.size == 10)
        return check_date (text);
    if (text.size < 16 || text.size > 40 || !s_day (text)
        || (text.data [10] != 'T' && text.data [10] != ' ' && text.data [10] != 't')
        || !s_digits (text, 11, 2, &hours) || text.data [13] != ':'
        || !s_digits (text, 14, 2, &minutes))
        return false;
    size_t at = 16;
    if (at < text.size && text.data [at] == ':') {
        if (!s_digits (text, 17, 2, &seconds))
            return false;
        at = 19;
        if (at < text.size && text.data [at] == '.') {
            size_t from = ++at;
            while (at < text.size && text.data [at] >= '0' && text.data [at] <= '9')
                at++;
            if (at == from)
                return false;
        }
    }
    return hours < 24 && minutes < 60 && seconds < 60 && s_zone (text, at);
}

static const char *
s_bounds_text (req_t *req, const field_t *field, const char *unit)
{
    if (field->min && field->max)
        return req_print (req, "must have %" PRId64 " to %" PRId64 " %s", field->min, field->max,
                          unit);
    if (field->max)
        return req_print (req, "must have at most %" PRId64 " %s", field->max, unit);
    return req_print (req, "must have at least %" PRId64 " %s", field->min, unit);
}

//  A text without NUL, which PostgreSQL cannot hold.
static const char *
s_plain (req_t *req, mp_t value, const char **text)
{
    text_t got = mp_text (value);
    if (mp_type (value) != MP_TEXT)
        return "must be a text";
    if (got.size && memchr (got.data, 0, got.size))
        return "must not contain a NUL character";
    *text = req_copy (req, got);
    return NULL;
}

static const char *
s_text (req_t *req, const field_t *field, mp_t value, bool lenient, const char **text)
{
    (void) lenient;
    const char *wrong = s_plain (req, value, text);
    if (wrong)
        return wrong;
    text_t got = mp_text (value);
    int64_t characters = 0;
    for (size_t n = 0; n < got.size; n++)
        characters += (got.data [n] & 0xc0) != 0x80;
    if (characters < field->min || (field->max && characters > field->max))
        return s_bounds_text (req, field, "characters");
    if (!field->max && got.size > TEXT_BYTES)
        return "must have at most 65536 bytes";
    return NULL;
}

static const char *
s_range (req_t *req, const field_t *field, double number)
{
    if (field->min == 0 && field->max == 0)
        return NULL;
    bool open = field->max < field->min;             //  only a lower bound
    if (number >= (double) field->min && (open || number <= (double) field->max))
        return NULL;
    if (open)
        return req_print (req, "must be at least %" PRId64, field->min);
    return req_print (req, "must be between %" PRId64 " and %" PRId64, field->min, field->max);
}

static const char *
s_int (req_t *req, const field_t *field, mp_t value, bool lenient, const char **text)
{
    int64_t number;
    double real;
    if (mp_type (value) == MP_REAL && mp_real_get (value, &real) && real == floor (real)
        && fabs (real) < 9e15)
        number = (int64_t) real;
    else if (mp_type (value) == MP_TEXT && lenient) {
        char *end, *copy = req_copy (req, mp_text (value));
        bool digit = (*copy >= '0' && *copy <= '9') || ((*copy == '-' || *copy == '+') && copy [1]);
        number = strtoll (copy, &end, 10);
        if (!digit || *end || mp_text (value).size > 19)
            return "must be an integer";
    }
    else if (!mp_int_get (value, &number))
        return "must be an integer";
    *text = req_print (req, "%" PRId64, number);
    return s_range (req, field, (double) number);
}

static const char *
s_real (req_t *req, const field_t *field, mp_t value, bool lenient, const char **text)
{
    double number;
    if (mp_type (value) == MP_TEXT && (lenient || field->type == T_MONEY)) {
        //  A decimal in a text is handed on as it is: money loses nothing on the way.
        char *end, *copy = req_copy (req, mp_text (value));
        number = strtod (copy, &end);
        if (!*copy || *end || strspn (copy, "0123456789.eE+-") != strlen (copy))
            return "must be a number";
        *text = copy;
    }
    else if (mp_real_get (value, &number))
        *text = mp_json (req, value);
    else
        return "must be a number";
    if (!isfinite (number))
        return "must be a finite number";
    return s_range (req, field, number);
}

static const char *
s_bool (req_t *req, const field_t *field, mp_t value, bool lenient, const char **text)
{
    (void) field;
    if (mp_type (value) == MP_BOOL) {
        *text = mp_bool (value) ? "true" : "false";
        return NULL;
    }
    const char *word = lenient ? req_copy (req, mp_text (value)) : "";
    if (!strcasecmp (word, "true") || !strcmp (word, "1") || !strcasecmp (word, "on"))
        *text = "true";
    else if (!strcasecmp (word, "false") || !strcmp (word, "0") || !strcasecmp (word, "off"))
        *text = "false";
    else
        return "must be true or false";
    return NULL;
}

static const char *
s_uuid (req_t *req, const field_t *field, mp_t value, bool lenient, const char **text)
{
    (void) field;
    (void) lenient;
    if (mp_type (value) != MP_TEXT || !uuid_valid (mp_text (value)))
        return "must be a UUID";
    *text = req_copy (req, mp_text (value));
    return NULL;
}

static const char *
s_enum (req_t *req, const field_t *field, mp_t value, bool lenient, const char **text)
{
    (void) lenient;
    text_t got = mp_text (value);
    buf_t *list = NULL;
    for (const char *at = field->values; at && mp_type (value) == MP_TEXT;) {
        const char *bar = strchr (at, '|');
        if (text_eq (got, (text_t) { at, bar ? (size_t) (bar - at) : strlen (at) })) {
            *text = req_copy (req, got);
            return NULL;
        }
        at = bar ? bar + 1 : NULL;
    }
    list = req_buf (req);
    buf_puts (list, "must be one of ");
    for (const char *at = field->values; at && *at; at++)
        buf_puts (list, *at == '|' ? ", " : (char []) { *at, 0 });
    buf_putc (list, 0);
    return (const char *) list->data;
}

static const char *
s_json (req_t *req, const field_t *field, mp_t value, bool lenient, const char **text)
{
    mp_type_t type = mp_type (value);
    if (lenient && type == MP_TEXT
        && (field->type != T_JSON || strchr ("{[\"", *req_copy (req, mp_text (value))))) {
        //  JSON within a query parameter or a form.
        buf_t *parsed = req_buf (req);
        char why [128];
        if (!json_read (mp_text (value), parsed, why, sizeof why))
            return req_print (req, "must be JSON: %s", why);
        value = mp_buf (parsed);
        type = mp_type (value);
    }
    if (field->type == T_OBJECT && type != MP_MAP && type != MP_EXT)
        return "must be an object";
    if (field->type == T_ARRAY && type != MP_ARRAY && type != MP_EXT)
        return "must be an array";
    int64_t entries = (int64_t) mp_count (value);
    if (type == MP_ARRAY && (entries < field->min || (field->max && entries > field->max)))
        return s_bounds_text (req, field, "entries");
    *text = mp_json (req, value);
    //  PostgreSQL's jsonb has no U+0000.
    if (strstr (*text, "\\u0000"))
        return "must not contain a NUL character";
    return NULL;
}

static const char *
s_time (req_t *req, const field_t *field, mp_t value, bool lenient, const char **text)
{
    (void) lenient;
    bool day = field->type == T_DATE;
    text_t got = mp_text (value);
    if (mp_type (value) != MP_TEXT || !(day ? check_date (got) : check_time (got)))
        return day ? "must be a date like 2026-01-31" : "must be a time like 2026-01-31T12:00:00Z";
    *text = req_copy (req, got);
    return NULL;
}

static const char *
s_email (req_t *req, const field_t *field, mp_t value, bool lenient, const char **text)
{
    (void) field;
    (void) lenient;
    const char *wrong = s_plain (req, value, text);
    if (wrong)
        return wrong;
    const char *at = strchr (*text, '@');
    const char *dot = at ? strrchr (at, '.') : NULL;
    bool good = at && at != *text && dot > at + 1 && dot [1] && !strchr (at + 1, '@')
                && strlen (*text) <= 254;
    for (const char *c = *text; good && *c; c++)
        good = (unsigned char) *c > ' ' && !strchr ("<>()[],;:\\\"", *c);
    return good ? NULL : "must be an e-mail address";
}

//  An array of texts, as JSON. In a query parameter or a form also a,b,c.
static const char *
s_names (req_t *req, const field_t *field, mp_t value, bool lenient, const char **text)
{
    buf_t *list = req_buf (req);
    if (lenient && mp_type (value) == MP_TEXT && !text_starts (mp_text (value), "[")) {
        char *rest = req_copy (req, mp_text (value)), *word;
        uint32_t count = 0;
        size_t mark = mp_open_array (list);
        while ((word = strsep (&rest, ",")))
            if (*word) {
                mp_put_str (list, word);
                count++;
            }
        mp_close (list, mark, count);
        value = mp_buf (list);
    }
    const field_t array = {
        .name = field->name, .type = T_ARRAY, .min = field->min, .max = field->max };
    if (mp_type (value) == MP_ARRAY)
        for (mp_iter_t it = mp_iter (value); mp_next (&it);)
            if (mp_type (it.value) != MP_TEXT)
                return "must be an array of texts";
    const char *wrong = s_json (req, &array, value, lenient, text);
    return wrong && strcmp (wrong, "must be an array") == 0 ? "must be an array of texts" : wrong;
}

const char *
check_value (req_t *req, const field_t *field, mp_t value, bool lenient, const char **text)
{
    static check_fn *const checks [] = {
        [T_TEXT] = s_text, [T_INT] = s_int, [T_REAL] = s_real, [T_BOOL] = s_bool,
        [T_UUID] = s_uuid, [T_ENUM] = s_enum, [T_JSON] = s_json, [T_OBJECT] = s_json,
        [T_ARRAY] = s_json, [T_TIME] = s_time, [T_DATE] = s_time, [T_EMAIL] = s_email,
        [T_MONEY] = s_real, [T_NAMES] = s_names };
    *text = NULL;
    return checks [field->type] (req, field, value, lenient, text);
}
