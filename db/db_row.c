//  db_row.c -- rows of PostgreSQL as MessagePack, by the type of each column.

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "db/db.h"

//  Of pg_type: these numbers are part of PostgreSQL's protocol.
enum {
    OID_BOOL = 16, OID_INT8 = 20, OID_INT2 = 21, OID_INT4 = 23, OID_TEXT = 25, OID_OID = 26,
    OID_JSON = 114, OID_FLOAT4 = 700, OID_FLOAT8 = 701, OID_TIMESTAMPTZ = 1184,
    OID_NUMERIC = 1700, OID_JSONB = 3802
};

//  Array types and their elements.
static const struct {
    Oid array, element;
} s_arrays [] = {
    { 1000, OID_BOOL }, { 1005, OID_INT2 }, { 1007, OID_INT4 }, { 1016, OID_INT8 },
    { 1009, OID_TEXT }, { 1015, OID_TEXT }, { 1014, OID_TEXT }, { 2951, OID_TEXT },
    { 1021, OID_FLOAT4 }, { 1022, OID_FLOAT8 }, { 1231, OID_NUMERIC }, { 1182, OID_TEXT },
    { 1185, OID_TIMESTAMPTZ }, { 199, OID_JSON }, { 3807, OID_JSONB } };

void
db_time_text (const char *pg, char out [40])
{
    //  Always six digits of a second, as base.utc gives them: REST and live updates never disagree,
    //  and times sort as text.
    size_t whole = strspn (pg, "0123456789-"), day = whole;
    if (pg [whole] == ' ')
        whole += 1 + strspn (pg + whole + 1, "0123456789:");
    size_t fraction = pg [whole] == '.' ? strspn (pg + whole + 1, "0123456789") : 0;
    const char *zone = pg + whole + (fraction ? fraction + 1 : 0);
    if (whole >= 19 && whole < 24 && whole == day + 9 && fraction <= 6
        && strcmp (zone, "+00") == 0) {
        memcpy (out, pg, whole);
        out [day] = 'T';
        memcpy (out + whole, ".000000Z", 9);
        memcpy (out + whole + 1, pg + whole + 1, fraction);
        return;
    }
    //  infinity, years before Christ: as PostgreSQL says it.
    snprintf (out, 40, "%s", pg);
}

//  JSON has no NaN and no infinity.
static void
s_put_number (buf_t *buf, const char *value)
{
    if (!strpbrk (value, ".eEnN")) {
        char *end;
        errno = 0;
        long long whole = strtoll (value, &end, 10);
        if (errno == 0 && *end == 0 && end != value) {
            mp_put_int (buf, whole);
            return;
        }
    }
    double real = strtod (value, NULL);
    if (isfinite (real))
        mp_put_real (buf, real);
    else
        mp_put_nil (buf);
}

static void
s_put_scalar (buf_t *buf, Oid type, text_t value)
{
    char time [40];
    switch (type) {
    case OID_BOOL:
        mp_put_bool (buf, value.data [0] == 't');
        break;
    case OID_INT2:
    case OID_INT4:
    case OID_INT8:
    case OID_OID:
    case OID_FLOAT4:
    case OID_FLOAT8:
    case OID_NUMERIC:
        s_put_number (buf, value.data);
        break;
    case OID_JSON:
    case OID_JSONB:
        mp_put_ext (buf, MP_EXT_JSON, value.data, value.size);
        break;
    case OID_TIMESTAMPTZ:
        db_time_text (value.data, time);
        mp_put_text (buf, text_of (time));
        break;
    default:
        mp_put_text (buf, value);
    }
}

const char *
db_array_next (const char *at, buf_t *out, bool *quoted)
{
    buf_clear (out);
    *quoted = *at == '"';
    if (*quoted) {
        for (at++; *at && *at != '"'; at++) {
            if (*at == '\\')
                at++;
            buf_putc (out, *at);
        }
        if (*at++ != '"')
            return NULL;
    }
    else
        for (; *at && *at != ',' && *at != '}'; at++) {
            if (*at == '{')
                return NULL;
            buf_putc (out, *at);
        }
    buf_putc (out, 0);
    out->size--;
    return *at == ',' || *at == '}' ? at : NULL;
}

//  False, and nothing written, when the array has more than one dimension.
static bool
s_put_array (buf_t *buf, Oid element, const char *at)
{
    if (*at != '{')
        return false;
    size_t before = buf->size, mark = mp_open_array (buf);
    uint32_t count = 0;
    buf_t item = { 0 };
    bool quoted;
    for (at++; at && *at != '}'; count++) {
        at = db_array_next (at, &item, &quoted);
        if (!at)
            break;
        if (!quoted && text_is (buf_text (&item), "NULL"))
            mp_put_nil (buf);
        else
            s_put_scalar (buf, element, buf_text (&item));
        if (*at == ',')
            at++;
    }
    buf_free (&item);
    if (at)
        mp_close (buf, mark, count);
    else
        buf->size = before;
    return at != NULL;
}

static void
s_put_value (buf_t *buf, Oid type, text_t value)
{
    for (size_t n = 0; n < sizeof s_arrays / sizeof *s_arrays; n++)
        if (s_arrays [n].array == type && s_put_array (buf, s_arrays [n].element, value.data))
            return;
    s_put_scalar (buf, type, value);
}

//  live, live2 … are for the kit, _names for the statement itself.
static bool
s_hidden (const char *name)
{
    if (name [0] == '_')
        return true;
    return strncmp (name, "live", 4) == 0 && name [4 + strspn (name + 4, "0123456789")] == 0;
}

uint32_t
db_row_pairs (buf_t *buf, const PGresult *result, int row, db_rename_fn *rename, void *arg)
{
    uint32_t pairs = 0;
    int columns = PQnfields (result);
    for (int n = 0; n < columns; n++) {
        const char *name = PQfname (result, n);
        if (s_hidden (name))
            continue;
        if (rename && !(name = rename (arg, name)))
            continue;
        mp_put_str (buf, name);
        if (PQgetisnull (result, row, n))
            mp_put_nil (buf);
        else
            s_put_value (buf, PQftype (result, n),
                         (text_t) { PQgetvalue (result, row, n),
                                    (size_t) PQgetlength (result, row, n) });
        pairs++;
    }
    return pairs;
}

void
db_row_put (buf_t *buf, const PGresult *result, int row, db_rename_fn *rename, void *arg)
{
    size_t mark = mp_open_map (buf);
    mp_close (buf, mark, db_row_pairs (buf, result, row, rename, arg));
}
