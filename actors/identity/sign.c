//  sign.c -- sign-up, sign-in, refresh, sign-out, in the words of all five families at once.

#include <time.h>

#include "identity.h"

const char *
audit_meta (req_t *req)
{
    buf_t *buf = req_buf (req), *json = req_buf (req);
    mp_put_map (buf, 4);
    mp_pair_str (buf, "by", req_user (req) ? req_user (req) : req_role (req));
    mp_pair (buf, "ip", req_meta (req, "ip"));
    mp_pair (buf, "agent", req_meta (req, "agent"));
    mp_pair_str (buf, "request_id", req_request_id (req));
    json_write (mp_buf (buf), json);
    return req_copy (req, buf_text (json));
}

static int64_t
token_seconds (req_t *req)
{
    return opt_int (req_actor (req)->options, "token-minutes") * 60;
}

session_keys_t *
session_add (req_t *req, unit_t *unit, const char *user, const char *email)
{
    session_keys_t *keys = req_alloc (req, sizeof *keys);
    char hash [65];
    uuid_make (keys->jti);
    random_text (keys->refresh, sizeof keys->refresh - 1);
    sha256_hex (text_of (keys->refresh), hash);
    unit_add (unit, "session_insert", keys->jti, user, hash, req_print (req, "%d", REFRESH_SECONDS),
              req_print (req, "%lld", (long long) token_seconds (req)),
              req_copy (req, mp_text (req_meta (req, "ip"))),
              req_copy (req, mp_text (req_meta (req, "agent"))), audit_meta (req), email);
    return keys;
}

const char *
token_for (req_t *req, row_t user, const char *jti, int64_t *exp)
{
    int64_t now = loop_wall (req_actor (req)->loop) / 1000;
    *exp = now + token_seconds (req);
    buf_t *claims = req_buf (req), *out = req_buf (req);
    const char *id = row_str (user, "id");
    mp_put_map (claims, 9);
    mp_pair_str (claims, "sub", id);
    mp_pair_str (claims, "userId", id);
    mp_pair_str (claims, "user_id", id);
    mp_pair_str (claims, "email", row_str (user, "email"));
    mp_pair_str (claims, "role", row_str (user, "role"));
    mp_pair_str (claims, "org", row_str (user, "organization_id"));
    mp_pair_str (claims, "jti", jti);
    mp_pair_int (claims, "iat", now);
    mp_pair_int (claims, "exp", *exp);
    token_sign (mp_buf (claims), text_of (actor_secret (req_actor (req), "jwt_secret")), out);
    return req_copy (req, buf_text (out));
}

void
reply_session (req_t *req, unsigned status, row_t user, const char *jti, const char *refresh)
{
    int64_t exp;
    const char *token = token_for (req, user, jti, &exp), *role = row_str (user, "role");
    char expires [40];
    time_t at = (time_t) exp;
    struct tm tm;
    strftime (expires, sizeof expires, "%Y-%m-%dT%H:%M:%SZ", gmtime_r (&at, &tm));

    buf_t *body = req_buf (req);
    size_t mark = mp_open_map (body);
    uint32_t count = 13;
    mp_pair_bool (body, "success", true);
    mp_pair_str (body, "token", token);
    mp_pair_str (body, "access_token", token);
    mp_pair_str (body, "token_type", "bearer");
    mp_pair_int (body, "expires_in", token_seconds (req));
    mp_pair_str (body, "expiresAt", expires);
    mp_pair_str (body, "user_id", row_str (user, "id"));
    mp_pair_str (body, "email", row_str (user, "email"));
    mp_pair_str (body, "full_name", row_str (user, "full_name"));
    mp_pair_str (body, "role", role);
    mp_pair_bool (body, "is_superuser", role && strcmp (role, "super_admin") == 0);
    mp_put_str (body, "user");
    mp_put_ext (body, MP_EXT_JSON, row_str (user, "body"), strlen (row_str (user, "body")));
    mp_pair_str (body, "session_id", jti);
    if (refresh) {
        mp_pair_str (body, "refresh_token", refresh);
        count++;
    }
    mp_close (body, mark, count);
    reply_mp (req, status, mp_buf (body));
}

//  One unit: user, organisation, session, audit, event. A taken address or name is refused by the
//  index.
static row_t
add_user (req_t *req, session_keys_t **keys)
{
    const char *email = req_str (req, "email"), *name = req_str (req, "full_name");
    const char *username = req_str (req, "username");
    //  A client sends the address as user name too: that is no name of its own.
    if (username && email && strcasecmp (username, email) == 0)
        username = NULL;
    const char *hash = password_hash (req, req_str (req, "password"), "password");
    unit_t *unit = unit_new (req);
    unit_add (unit, "user_insert", email, username, hash, name, "client", "true", audit_meta (req));
    *keys = session_add (req, unit, NULL, email);
    return unit_commit (unit);
}

void
sign_up (req_t *req)
{
    session_keys_t *keys;
    row_t user = add_user (req, &keys);
    reply_session (req, 201, user, keys->jti, keys->refresh);
    email_send_code (req, row_str (user, "id"), row_str (user, "email"), "verify");
}

//  The two dialects under /api/v1: with a user name 201 and a token, without it 200 and the bare
//  user.
void
sign_up_v1 (req_t *req)
{
    session_keys_t *keys;
    bool fleet = req_str (req, "username") != NULL;
    row_t user = add_user (req, &keys);
    if (fleet)
        reply_session (req, 201, user, keys->jti, keys->refresh);
    else
        reply_json (req, 200, text_of (row_str (user, "body")));
    email_send_code (req, row_str (user, "id"), row_str (user, "email"), "verify");
}

//  Failed sign-ins count for the account, known or not, and for the address.
static void
refuse_sign_in (req_t *req, const char *account, const char *address, const char *user)
{
    unit_t *unit = unit_new (req);
    unit_add (unit, "lockout_fail", account, address, audit_meta (req), user);
    unit_commit (unit);
    reply_header (req, "WWW-Authenticate", "Bearer");
    fail (req, E_UNAUTHORIZED, "incorrect email or password");
}

void
sign_in (req_t *req)
{
    const char *login = req_str (req, "email"), *password = req_str (req, "password");
    if (!login)
        login = req_str (req, "identifier");
    if (!login)
        login = req_str (req, "username");
    if (!login)
        fail_field (req, E_INVALID, "email", "is required");

    const char *account = req_print (req, "account:%s", login);
    for (char *at = (char *) account; *at; at++)
        if (*at >= 'A' && *at <= 'Z')
            *at = (char) (*at - 'A' + 'a');
    text_t ip = mp_text (req_meta (req, "ip"));
    const char *address = req_print (req, "ip:%.*s", (int) ip.size, ip.data ? ip.data : "");
    int64_t wait = row_int (db_row (req, "lockout_get", account, address), "wait");
    if (wait > 0) {
        reply_header (req, "Retry-After", req_print (req, "%lld", (long long) wait));
        fail (req, E_RATE_LIMITED, "too many failed sign-ins, try again in %lld s",
              (long long) wait);
    }
    row_t found = db_row (req, "user_by_login", login);
    if (!password_fits (req, password, row_none (found) ? NULL : row_str (found, "password_hash")))
        refuse_sign_in (req, account, address, row_none (found) ? NULL : row_str (found, "id"));
    if (!row_bool (found, "is_active"))
        fail (req, E_FORBIDDEN, "account is inactive");

    unit_t *unit = unit_new (req);
    unit_add (unit, "lockout_clear", account);
    session_keys_t *keys = session_add (req, unit, row_str (found, "id"), NULL);
    row_t user = unit_commit (unit);
    if (row_none (user))
        fail (req, E_UNAUTHORIZED, "incorrect email or password");
    reply_session (req, 200, user, keys->jti, keys->refresh);
}

//  The session that the caller's token is of. NULL: an API key, whose jti is its own id.
static const char *
own_jti (req_t *req)
{
    if (!text_is (mp_text (mp_get (req_identity (req), "kind")), "user"))
        return NULL;
    return req_copy (req, mp_text (mp_get (req_identity (req), "jti")));
}

//  The refresh token comes in the body or as Bearer; a live access token may be exchanged too.
void
sign_refresh (req_t *req)
{
    const char *refresh = req_str (req, "refresh_token");
    if (!refresh && !mp_empty (req_meta (req, "credential")))
        refresh = req_copy (req, mp_text (req_meta (req, "credential")));
    const char *seconds = req_print (req, "%lld", (long long) token_seconds (req));
    unit_t *unit = unit_new (req);
    if (refresh) {
        char hash [65];
        sha256_hex (text_of (refresh), hash);
        unit_add (unit, "session_refresh", hash, seconds);
    }
    else if (req_user (req))
        unit_add (unit, "session_extend", req_user (req), own_jti (req), seconds);
    else
        fail_field (req, E_INVALID, "refresh_token", "is required");
    row_t user = unit_commit (unit);
    if (row_none (user)) {
        reply_header (req, "WWW-Authenticate", "Bearer");
        fail (req, E_UNAUTHORIZED, "refresh token is invalid or has expired");
    }
    reply_session (req, 200, user, row_str (user, "jti"), refresh);
}

//  The caller's edge forgets the token before the answer leaves: meta.revoke; with `all` every
//  token issued before now.
static void
tell_edge (req_t *req, const char *jti, bool all)
{
    buf_t *revoke = req_buf (req);
    mp_put_map (revoke, all ? 3 : 2);
    mp_pair_str (revoke, "user", req_user (req));
    mp_pair_str (revoke, "jti", jti);
    if (all)
        mp_pair_int (revoke, "before", loop_wall (req_actor (req)->loop) / 1000);
    reply_meta (req, "revoke", mp_buf (revoke));
}

void
sign_out (req_t *req)
{
    const char *jti = own_jti (req);
    if (!jti)
        fail (req, E_INVALID, "an API key has no session to end");
    unit_t *unit = unit_new (req);
    unit_add (unit, "session_end", req_user (req), jti, audit_meta (req));
    unit_commit (unit);
    tell_edge (req, jti, false);
    reply_message (req, 200, "Signed out successfully");
}

void
sign_out_all (req_t *req)
{
    unit_t *unit = unit_new (req);
    unit_add (unit, "sessions_end", req_user (req), audit_meta (req));
    unit_message (unit, "Signed out everywhere");
    unit_commit (unit);
    tell_edge (req, own_jti (req), true);
    reply_message (req, 200, "Signed out everywhere");
}

void
sign_verify (req_t *req)
{
    row_t user = db_row (req, "user_get", req_user (req));
    if (row_none (user))
        fail (req, E_UNAUTHORIZED, "token is not valid");
    buf_t *body = req_buf (req);
    mp_put_map (body, 2);
    mp_pair_bool (body, "valid", true);
    mp_put_str (body, "user");
    mp_put_ext (body, MP_EXT_JSON, row_str (user, "body"), strlen (row_str (user, "body")));
    reply_mp (req, 200, mp_buf (body));
}
