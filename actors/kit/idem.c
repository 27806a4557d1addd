//  idem.c -- Idempotency-Key: the stored answer of a write, committed with it, given again to who
//  repeats the request.

#include <stdlib.h>

#include "kit.h"

#define CHANGE_PATIENCE 2000     //  ms

void
idem_statements (kit_t *kit)
{
    db_t *db = kit->actor->db;
    db_statement (db, "kit.idem_get",
                  "SELECT hash, status, body FROM idem WHERE user_id = $1 AND key = $2");
    //  One that was given up, but whose commit was still under way, waits here or is waited for:
    //  whoever is second is rolled back.
    db_statement (db, "kit.idem_put",
                  "INSERT INTO idem (user_id, key, method, hash, status, body) "
                  "VALUES ($1, $2, $3, $4, $5::int, $6::bytea)");
    //  A request with several units overwrites its own answer.
    db_statement (db, "kit.idem_change",
                  "UPDATE idem SET status = $5::int, body = $6::bytea "
                  "WHERE user_id = $1 AND key = $2 AND method = $3 AND hash = $4");
    db_statement (db, "kit.idem_del",
                  "DELETE FROM idem WHERE user_id = $1 AND key = $2 AND hash = $3");
    db_statement (db, "kit.idem_trim", "DELETE FROM idem WHERE at < now () - interval '24 hours'");
}

static const char *
s_who (req_t *req)
{
    return req->user ? req->user : "operator";
}

//  What makes two requests the same: method, parameters, body.
static const char *
s_hash (req_t *req)
{
    buf_t all = { 0 };
    mp_put_str (&all, req->endpoint->spec.method);
    mp_put (&all, req->params);
    mp_put (&all, req->body);
    char *out = req_alloc (req, 65);
    sha256_hex (buf_text (&all), out);
    buf_free (&all);
    return out;
}

static text_t
s_flight (req_t *req)
{
    return text_of (req_print (req, "%s %s", s_who (req), req->idem_key));
}

static void
s_free_bytes (void *bytes)
{
    PQfreemem (bytes);
}

static void
s_replay (req_t *req, row_t row)
{
    const char *hex = row_str (row, "body");
    size_t size = 0;
    unsigned char *bytes = hex ? PQunescapeBytea ((const unsigned char *) hex, &size) : NULL;
    if (bytes)
        req_defer (req, s_free_bytes, bytes);
    reply_header (req, "Idempotency-Replayed", "true");
    mp_t body = bytes && mp_valid (bytes, size, MP_DEPTH) == size ? mp_of (bytes, size) : mp_none;
    if (req->endpoint->plan)
        resource_headers (req, mp_text (mp_get (body, "id")),
                          mp_text (mp_get (body, "updated_at")));
    reply_mp (req, (unsigned) row_int (row, "status"), body);
}

CO bool
idem_begin (req_t *req)
{
    const char *key = req->idem_key;
    text_t flight = s_flight (req);
    if (hash_get (req->kit->in_flight, flight)) {
        req->idem_key = NULL;
        fail (req, E_CONFLICT, "a request with idempotency key %.64s is still running", key);
    }
    hash_put (req->kit->in_flight, flight, req);
    req->idem_hash = s_hash (req);
    row_t row = db_row (req, "kit.idem_get", s_who (req), key);
    if (row_none (row))
        return false;
    if (strcmp (row_str (row, "hash"), req->idem_hash) != 0)
        fail (req, E_KEY_REUSED, NULL);
    s_replay (req, row);
    return true;
}

//  As a bytea is written.
static void
s_put_hex (buf_t *hex, mp_t body)
{
    static const char digits [] = "0123456789abcdef";
    buf_puts (hex, "\\x");
    for (const uint8_t *at = body.data; at < body.end; at++) {
        uint8_t *to = buf_room (hex, 2);
        to [0] = (uint8_t) digits [*at >> 4];
        to [1] = (uint8_t) digits [*at & 15];
        hex->size += 2;
    }
    buf_putc (hex, 0);
}

static const char *
s_digest (req_t *req, mp_t body)
{
    char *out = req_alloc (req, 65);
    sha256_hex ((text_t) { (const char *) body.data, (size_t) (body.end - body.data) }, out);
    return out;
}

void
idem_store (req_t *req, db_unit_t *unit, mp_t body)
{
    buf_t hex = { 0 };
    s_put_hex (&hex, body);
    unsigned status = req->endpoint->spec.status ? req->endpoint->spec.status : 200;
    req->idem_digest = s_digest (req, body);
    const char *const params [] = { s_who (req),
                                   req->idem_key,
                                   req->endpoint->spec.method,
                                   req->idem_hash,
                                   req_print (req, "%u", status),
                                   (const char *) hex.data };
    db_unit_add (unit, req->idem_stored ? "kit.idem_change" : "kit.idem_put", params,
                 COUNT (params));
    buf_free (&hex);
}

static void
s_on_changed (void *arg, db_result_t *results, size_t count)
{
    (void) results, (void) count;
    pause_end (arg);
}

CO mp_t
idem_answer (req_t *req, unsigned status, mp_t body)
{
    if (strcmp (s_digest (req, body), req->idem_digest) == 0)
        return body;
    pause_t pause = { 0 };
    buf_t hex = { 0 };
    body = req_keep_mp (req, body);
    s_put_hex (&hex, body);
    const char *const params [] = { s_who (req),
                                   req->idem_key,
                                   req->endpoint->spec.method,
                                   req->idem_hash,
                                   req_print (req, "%u", status),
                                   (const char *) hex.data };
    db_query (req->actor->db, DB_WRITE, "kit.idem_change", params, COUNT (params), CHANGE_PATIENCE,
              s_on_changed, &pause);
    buf_free (&hex);
    pause_wait (&pause);
    return body;
}

bool
idem_taken (const db_result_t *result)
{
    return result->constraint && strcmp (result->constraint, "idem_pkey") == 0;
}

void
idem_end (req_t *req, bool failed)
{
    if (hash_get (req->kit->in_flight, s_flight (req)) == req)
        hash_del (req->kit->in_flight, s_flight (req));
    if (!failed || !req->idem_stored)
        return;
    //  It failed after a unit of it was committed: the answer stored there is not what the caller
    //  heard.
    const char *const params [] = { s_who (req), req->idem_key, req->idem_hash };
    db_query (req->actor->db, DB_WRITE, "kit.idem_del", params, COUNT (params), 0, NULL, NULL);
}
