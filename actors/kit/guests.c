//  guests.c -- the guest database as its keepers see it.

#include <stdlib.h>

#include <libpq-fe.h>

#include "../../proto/log.h"
#include "actor.h"
#include "guests.h"

//  The server's connection string without database, user and password.
static buf_t
s_conninfo (const actor_t *actor)
{
    static const char *const own [] = { "dbname", "user", "password" };
    buf_t out = { 0 };
    PQconninfoOption *parts = PQconninfoParse (actor_opt ((actor_t *) actor, "database"), NULL);
    for (PQconninfoOption *at = parts; at && at->keyword; at++) {
        bool ours = !at->val;
        for (size_t n = 0; n < 3; n++)
            ours |= strcmp (at->keyword, own [n]) == 0;
        if (!ours)
            buf_putf (&out, "%s='%s' ", at->keyword, at->val);
    }
    PQconninfoFree (parts);
    return out;
}

char *
guests_server (const actor_t *actor)
{
    buf_t out = s_conninfo (actor);
    buf_putc (&out, 0);
    return (char *) out.data;
}

char *
guests_keeper (const actor_t *actor)
{
    buf_t out = s_conninfo (actor);
    const char *password = actor_secret ((actor_t *) actor, "db_password");
    buf_putf (&out, "dbname='" GUESTS_DATABASE "' user='busbar_%s' ", actor->name);
    if (password)
        buf_putf (&out, "password='%s' ", password);
    buf_putc (&out, 0);
    return (char *) out.data;
}

//  On a thread of its own: libpq blocks.
typedef struct {
    char *conninfo;
    const char *statement, *params [2];
    int count;
    bool good;
    char value [32], why [256];
} keep_t;

static void
s_quiet (void *arg, const char *notice)
{
    (void) arg, (void) notice;       //  "already exists, skipping"
}

static void
s_keep (void *arg)
{
    keep_t *keep = arg;
    PGconn *conn = PQconnectdb (keep->conninfo);
    PQsetNoticeProcessor (conn, s_quiet, NULL);
    PGresult *result =
        PQstatus (conn) == CONNECTION_OK
            ? PQexecParams (conn, keep->statement, keep->count, NULL, keep->params, NULL, NULL, 0)
            : NULL;
    keep->good = result && PQresultStatus (result) == PGRES_TUPLES_OK;
    if (keep->good)
        snprintf (keep->value, sizeof keep->value, "%s", PQgetvalue (result, 0, 0));
    else
        snprintf (keep->why, sizeof keep->why, "%s", PQerrorMessage (conn));
    PQclear (result);
    PQfinish (conn);
}

CO const char *
guests_ask (req_t *req, const char *statement, const char *role, const char *password)
{
    keep_t *keep = req_alloc (req, sizeof *keep);
    keep->conninfo = guests_keeper (req_actor (req));
    req_defer (req, free, keep->conninfo);
    keep->statement = statement;
    keep->params [0] = role;
    keep->params [1] = password;
    keep->count = password ? 2 : 1;
    if (!offload (req, s_keep, keep))
        return NULL;
    if (!keep->good)
        log_warn ("guest is not kept", "role", role, "why", keep->why);
    return keep->good ? keep->value : NULL;
}

CO bool
guests_over (req_t *req, const char *role, int64_t limit, bool *over)
{
    const char *size = guests_ask (req, "SELECT base.guest_size ($1)", role, NULL);
    if (size)
        *over = strtoll (size, NULL, 10) >> 20 >= limit;
    return size != NULL;
}
