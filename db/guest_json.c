//  guest_json.c -- values of PostgreSQL, as it writes them, as JSON.

#include <stdio.h>

#include "../proto/json.h"
#include "guest_json.h"

enum { PG_BOOL = 16, PG_INT8 = 20, PG_INT2 = 21, PG_INT4 = 23, PG_OID = 26, PG_JSON = 114,
       PG_FLOAT4 = 700, PG_FLOAT8 = 701, PG_NUMERIC = 1700, PG_JSONB = 3802 };

static bool
s_is_number (const char *text)
{
    return strspn (text, "+-.0123456789eE") == strlen (text) && strpbrk (text, "0123456789");
}

//  As it was stored; what breaks a line stands between its tokens, never in a text.
static void
s_put_line (buf_t *out, text_t json)
{
    size_t at = out->size;
    buf_put (out, json.data, json.size);
    for (; at < out->size; at++)
        if (out->data [at] == '\n' || out->data [at] == '\r')
            out->data [at] = ' ';
}

void
guest_json_put (buf_t *out, const PGresult *result, int row, int column)
{
    if (PQgetisnull (result, row, column)) {
        buf_put (out, "null", 4);
        return;
    }
    const char *value = PQgetvalue (result, row, column);
    text_t text = { value, (size_t) PQgetlength (result, row, column) };
    switch (PQftype (result, column)) {
    case PG_BOOL:
        buf_puts (out, *value == 't' ? "true" : "false");
        return;
    case PG_INT8: case PG_INT2: case PG_INT4: case PG_OID: case PG_JSONB:
        buf_put (out, text.data, text.size);
        return;
    case PG_JSON:
        s_put_line (out, text);
        return;
    case PG_FLOAT4: case PG_FLOAT8: case PG_NUMERIC:
        //  NaN and Infinity are no numbers of JSON.
        if (s_is_number (value)) {
            buf_put (out, text.data, text.size);
            return;
        }
        break;
    }
    json_quote (text, out);
}

const char *
guest_type_name (Oid type, char room [24])
{
    static const struct {
        Oid type;
        const char *name;
    } known [] = {
        { PG_BOOL, "bool" }, { 17, "bytea" }, { 18, "char" }, { 19, "name" }, { PG_INT8, "int8" },
        { PG_INT2, "int2" }, { PG_INT4, "int4" }, { 25, "text" }, { PG_OID, "oid" },
        { PG_JSON, "json" }, { 142, "xml" }, { PG_FLOAT4, "float4" }, { PG_FLOAT8, "float8" },
        { 705, "unknown" }, { 790, "money" }, { 869, "inet" }, { 650, "cidr" },
        { 1000, "bool[]" }, { 1005, "int2[]" }, { 1007, "int4[]" }, { 1009, "text[]" },
        { 1016, "int8[]" }, { 1022, "float8[]" }, { 1042, "bpchar" }, { 1043, "varchar" },
        { 1082, "date" }, { 1083, "time" }, { 1114, "timestamp" }, { 1184, "timestamptz" },
        { 1186, "interval" }, { 1266, "timetz" }, { PG_NUMERIC, "numeric" }, { 2278, "void" },
        { 2249, "record" }, { 2950, "uuid" }, { PG_JSONB, "jsonb" } };
    for (size_t n = 0; n < sizeof known / sizeof *known; n++)
        if (known [n].type == type)
            return known [n].name;
    snprintf (room, 24, "oid %u", type);
    return room;
}
