//  guest_json.h -- values of PostgreSQL, as it writes them, as JSON.

#ifndef GUEST_JSON_H
#define GUEST_JSON_H

#include <libpq-fe.h>

#include "../proto/text.h"

//  Append one value: numbers, booleans and JSON as they are, the rest as text; NULL as null.
//  Nothing in it breaks a line.
void guest_json_put (buf_t *out, const PGresult *result, int row, int column);
//  PostgreSQL's own word for a type: "int4"; "oid 12345" for one that is not built in (in `room`).
const char *guest_type_name (Oid type, char room [24]);

#endif
