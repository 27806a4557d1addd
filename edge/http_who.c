//  http_who.c -- who asks, and whether that may be: credentials, the anon key, limits.

#include <strings.h>

#include "edge/edge.h"

//  Limits, then the body; the call when both are there.
static void
request_admit (request_t *req)
{
    edge_t *edge = req->edge;
    fault_t fault = { 0 };
    const char *user = req->session ? req->session->user : NULL;
    route_limit_t limit = req->route ? req->route->limit : LIMIT_NORMAL;
    //  A sign-in is counted by account, too, so when its body is there (call.c).
    bool counted = req->route ? limit != LIMIT_SIGN_IN : req->local->auth || req->local->optional;
    if ((counted && !limiter_take_for (edge->limiter, limit, user, req->conn->ip, mp_none, &fault))
        || (req->route && !auth_allows (edge->auth, req->session, req->route, &fault))) {
        reply_fault (req, &fault);
        return;
    }
    req->state = STATE_BODY;
    if (!req->body_done && !req->answered)
        request_body_expect (req);
    if (req->upload)
        upload_start (req);
    else if (req->body_done)
        request_called (req);
}

static void
request_authed (void *arg, session_t *session, const fault_t *fault)
{
    request_t *req = arg;
    bool optional = req->route ? req->route->auth == AUTH_OPTIONAL || req->route->auth == AUTH_NONE
        : req->local->optional;
    req->auth_wait = NULL;
    if (session) {
        req->session = session_ref (session);
        if (!req->conn->session)
            req->conn->session = session_ref (session);
    }
    else if (!optional || fault->code == E_UNAVAILABLE) {
        reply_fault (req, fault);
        return;
    }
    else if (req->route && req->route->anon_key && !req->anon) {
        request_refuse (req, E_UNAUTHORIZED, "missing or invalid anon-key: every request needs a "
                        "valid anon-key in a header or in the query");
        return;
    }
    request_admit (req);
}

//  The anon key of a request: headers apikey and anon-key, or the same names in the query.
static bool
anon_key_came (request_t *req)
{
    text_t want = req->edge->anon_key;
    if (want.size == 0)
        return true;
    char value [256];
    if (conn_header_named (req->conn, "apikey:", value, sizeof value)
        && secret_eq (text_of (value), want))
        return true;
    if (conn_header_named (req->conn, "anon-key:", value, sizeof value)
        && secret_eq (text_of (value), want))
        return true;
    text_t query = buf_text (&req->query);
    text_t key = query_get (query, "apikey");
    if (!key.data)
        key = query_get (query, "anon-key");
    return key.data && secret_eq (key, want);
}

//  Nothing that lasts is taken from an address.
static text_t
ticket_of (request_t *req)
{
    text_t ticket = query_get (buf_text (&req->query), "ticket");
    return credential_is_ticket (ticket) ? ticket : TEXT ("");
}

//  What came in addresses is good for what needs it there, and nothing else.
static bool
ticket_strays (const request_t *req, text_t credential)
{
    return credential_is_ticket (credential) && !(req->local && req->local->ticket);
}

void
request_auth (request_t *req, route_auth_t auth, bool anon_key)
{
    static char s_value [EDGE_HEADER_MAX];
    text_t credential = { NULL, 0 };
    req->anon = anon_key && anon_key_came (req);
    if (conn_header_twice (req->conn, WSI_TOKEN_HTTP_AUTHORIZATION)) {
        request_refuse (req, E_INVALID, "more than one authorization header");
        return;
    }
    if (conn_header (req->conn, WSI_TOKEN_HTTP_AUTHORIZATION, s_value, sizeof s_value)) {
        if (strncasecmp (s_value, "bearer ", 7) == 0)
            credential = text_of (s_value + 7 + strspn (s_value + 7, " "));
    }
    else if (conn_header_named (req->conn, "x-api-key:", s_value, sizeof s_value))
        credential = text_of (s_value);
    else if (req->local && req->local->ticket)
        credential = ticket_of (req);

    //  A token is not even looked at where none is wanted: a stale one must not stop a sign-in.
    if (auth == AUTH_NONE && (!anon_key || req->anon)) {
        request_admit (req);
        return;
    }
    if (credential.size == 0 || ticket_strays (req, credential)) {
        fault_t fault = { 0 };
        fault_set (&fault, E_UNAUTHORIZED, "%s", credential.size
                   ? "a ticket opens a stream or a socket, nothing else" : req->anon
                   ? "authentication with user credentials required for this endpoint"
                   : "authentication required");
        request_authed (req, NULL, &fault);
        return;
    }
    conn_t *conn = req->conn;
    if (conn->session && text_eq (credential, buf_text (&conn->credential))
        && auth_known (req->edge->auth, conn->session)) {
        request_authed (req, conn->session, NULL);
        return;
    }
    session_drop (&conn->session);
    buf_clear (&conn->credential);
    //  A ticket is not good for the next request.
    if (!credential_is_ticket (credential))
        buf_put (&conn->credential, credential.data, credential.size);
    if (auth == AUTH_OPTIONAL && credential.size < sizeof req->credential)
        memcpy (req->credential, credential.data, credential.size);
    req->state = STATE_AUTH;
    //  The answer may come before auth_check returns, and the request may be gone by then.
    void *wait = auth_check (req->edge->auth, credential, request_authed, req);
    if (wait && conn->request == req)
        req->auth_wait = wait;
}
