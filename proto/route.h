//  route.h -- how an endpoint is declared, and how the declaration travels (HELLO) and is read back
//  by the edge.

#ifndef ROUTE_H
#define ROUTE_H

#include "mp.h"

typedef enum {
    T_TEXT = 1,
    T_INT,
    T_REAL,
    T_BOOL,
    T_UUID,
    T_ENUM,
    T_JSON,
    T_OBJECT,
    T_ARRAY,
    T_TIME,
    T_DATE,
    T_EMAIL,
    T_MONEY,
    T_NAMES
    //  T_JSON any value · T_OBJECT / T_ARRAY of anything · T_NAMES array of texts
} field_type_t;

enum {
    REQUIRED = 1,                //  on create (and on actions)
    READONLY = 2,                //  never taken from a client; ignored when sent back
    FILTER = 4,                  //  may filter a list (?name=value)
    SECRET = 8,                  //  taken, never returned, never logged
    IMMUTABLE = 16,              //  on create only
    NULLABLE = 32,               //  explicit null clears it
    HIDDEN = 64,                 //  column of ours, not in replies or OpenAPI
    LISTED_NOT = 128,            //  left out of list answers (large)
    QUIET = 512,                 //  left out of events and snapshots (large); not announced
    SORT = 256                   //  may be sorted by (?sort=name or -name)
};

//  One field of a resource, of an action's input, of a report's parameters. {0} ends an array.
typedef struct {
    const char *name;            //  column and JSON name
    field_type_t type;
    unsigned flags;
    //  T_TEXT: characters; T_INT/T_REAL: values; 0,0: unlimited (texts: 64 KiB, T_JSON: body limit)
    int64_t min, max;
    const char *values;          //  T_ENUM: "spark|dask|ray"
    const char *def;             //  default, as text; T_JSON: JSON text
    const char *json;            //  JSON name when it differs ("createdAt")
    const char *also;            //  second spelling, accepted and returned ("provider")
    const char *doc;
    const char *sql;             //  resource: column expression on read, when not the plain column
} field_t;

typedef enum {
    AUTH_USER,
    AUTH_NONE,
    AUTH_OPTIONAL,
    AUTH_ADMIN,
    AUTH_SUPER,
    AUTH_OPERATOR
} route_auth_t;
//  AUTH_OPTIONAL: identity when a good token comes, a bad or stale one is ignored
//  AUTH_ADMIN: role admin or super_admin · AUTH_OPERATOR: bus only, never over HTTP

typedef enum { LIMIT_NORMAL, LIMIT_SIGN_IN, LIMIT_MAIL, LIMIT_HEAVY } route_limit_t;

//  The declaration as data, shared by C actors, the wire and the edge.
typedef struct {
    const char *method;          //  "compute_clusters.start"
    const char *verb;            //  "POST"; NULL: bus only
    const char *path;            //  "/compute-clusters/:id/start"
    //  further "VERB /path" or "/path" (same verb) under which it answers
    const char *alias [6];
    route_auth_t auth;
    const char *roles;           //  "admin|analyst"; NULL: any
    route_limit_t limit;
    //  routing key: NULL any instance · "user" the caller's audience · "param:NAME" that field
    const char *key;
    const field_t *in;           //  input fields, {0}-terminated; NULL: none declared
    const field_t *out;          //  reply fields; NULL: free object
    const char *reply;           //  "object" (default) · "array" of out · "any" · "stream"
    unsigned status;             //  usual success status (200)
    bool idempotent;             //  safe to send again (all GETs)
    bool upload;                 //  body streams in chunks (any content type)
    bool raw;                    //  body is handed over as bytes, not parsed
    bool blocking;               //  may take long: edge takes the timeout from ?wait=
    uint32_t timeout;            //  ms; 0: 30 s
    uint32_t body_max;           //  bytes; 0: 1 MiB
    const char *events;          //  "compute_cluster.starting|…" that it causes
    const char *doc;
    const char *tag;             //  group in OpenAPI; NULL: first word of method
} route_spec_t;

//  Append the route map as announced. Its keys and shapes are part of PROTOCOL.md.
void route_pack (buf_t *buf, const route_spec_t *spec);
//  Append one field map:  {name, type, required, readonly, min, max, values, def, json, also, doc,
//  …}
void field_pack (buf_t *buf, const field_t *field);

const char *field_type_name (field_type_t type);  //  "text", "int", …
//  JSON Schema of a packed field list (for replies: skips secret and hidden ones; for bodies: skips
//  readonly). Written as JSON text; used by the edge for OpenAPI and by tests for replies.
void field_schema (mp_t fields, bool reply, buf_t *json);

//  Check a route map received in HELLO (somebody else's actor): false with a clear text naming the
//  row and key.
bool route_check (mp_t route, char *error, size_t size);

#endif
