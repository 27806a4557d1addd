//  internal.c -- what edges, the broker's door and other actors ask: is this session good, who may
//  hear what; tokens for the operator; the first administrator; the heartbeat of sys/identity.

#include "identity.h"

//  Identity map of the row {id, email, role, organization_id, jti, exp}.
static void
reply_identity (req_t *req, row_t row, const char *kind)
{
    buf_t *body = req_buf (req);
    mp_put_map (body, 7);
    mp_pair_str (body, "user", row_str (row, "id"));
    mp_pair_str (body, "email", row_str (row, "email"));
    mp_pair_str (body, "role", row_str (row, "role"));
    mp_pair_str (body, "org", row_str (row, "organization_id"));
    mp_pair_str (body, "kind", kind);
    mp_pair_str (body, "jti", row_str (row, "jti"));
    mp_pair_int (body, "exp", row_int (row, "exp"));
    reply_mp (req, 200, mp_buf (body));
}

//  A ticket is good once, wherever it is shown.
static void
ticket_check (req_t *req)
{
    unit_t *unit = unit_new (req);
    unit_add (unit, "ticket_take", req_str (req, "ticket_hash"));
    row_t row = unit_commit (unit);
    if (row_none (row))
        fail (req, E_UNAUTHORIZED, "ticket is unknown, used or too old");
    reply_identity (req, row, row_str (row, "kind"));
}

//  A ticket is not kept to be given again.
static void
answer_nothing (req_t *req, row_t row, buf_t *body)
{
    (void) req;
    (void) row;
    (void) body;
}

void
tickets_create (req_t *req)
{
    char ticket [44] = TICKET_PREFIX, hash [65];
    text_t jti = mp_text (mp_get (req_identity (req), "jti"));
    if (!uuid_valid (jti))
        fail (req, E_FORBIDDEN, "only sessions and API keys have tickets");
    random_text (ticket + sizeof TICKET_PREFIX - 1, 40);
    sha256_hex (text_of (ticket), hash);
    unit_t *unit = unit_new (req);
    unit_add (unit, "ticket_add", hash, req_user (req), req_copy (req, jti));
    unit_answer (unit, answer_nothing);
    unit_commit (unit);
    buf_t *body = req_buf (req);
    mp_put_map (body, 2);
    mp_pair_str (body, "ticket", ticket);
    mp_pair_int (body, "expires_in", 60);
    reply_mp (req, 201, mp_buf (body));
}

void
identity_check (req_t *req)
{
    if (req_str (req, "ticket_hash")) {
        ticket_check (req);
        return;
    }
    const char *key = req_str (req, "api_key_hash"), *user = req_str (req, "user"),
               *jti = req_str (req, "jti");
    if (!key && (!user || !jti || !uuid_valid (text_of (user)) || !uuid_valid (text_of (jti))))
        fail (req, E_UNAUTHORIZED, "token is not valid");
    row_t row = key ? db_row (req, "key_check", key) : db_row (req, "session_check", user, jti);
    if (row_none (row))
        fail (req, E_UNAUTHORIZED, key ? "API key is not valid" : "token is not valid");
    reply_identity (req, row, key ? "key" : "user");
}

void
identity_grants (req_t *req)
{
    buf_t *body = req_buf (req);
    row_t row = db_row (req, "audiences", req_str (req, "user"));
    mp_put_map (body, 1);
    mp_put_str (body, "audiences");
    mp_put_ext (body, MP_EXT_JSON, row_str (row, "body"), strlen (row_str (row, "body")));
    reply_mp (req, 200, mp_buf (body));
}

void
identity_revocations (req_t *req)
{
    reply_json (req, 200, text_of (row_str (db_row (req, "revocations"), "body")));
}

//  A session for a user by address: `busbar token`, demonstration data.
void
identity_token (req_t *req)
{
    row_t user = db_row (req, "user_find_email", req_str (req, "email"));
    if (row_none (user))
        fail_field (req, E_NOT_FOUND, "email", "is no user's address");
    unit_t *unit = unit_new (req);
    session_keys_t *keys = session_add (req, unit, row_str (user, "id"), NULL);
    reply_session (req, 200, unit_commit (unit), keys->jti, keys->refresh);
}

void
identity_find (req_t *req)
{
    row_t user = db_row (req, "user_find_email", req_str (req, "email"));
    if (row_none (user))
        fail_field (req, E_NOT_FOUND, "email", "is no user's address");
    reply_row (req, 200, user);
}

void
identity_grant (req_t *req)
{
    unit_t *unit = unit_new (req);
    unit_add (unit, "grant_put", req_str (req, "user"), req_str (req, "audience"),
              req_str (req, "role") ? req_str (req, "role") : "viewer");
    if (req_str (req, "user"))
        unit_also (unit, "grants_event", req_str (req, "user"));
    if (row_none (unit_commit (unit)))
        fail_field (req, E_NOT_FOUND, "user", "is unknown");
    reply_message (req, 200, "Granted");
}

void
identity_ungrant (req_t *req)
{
    unit_t *unit = unit_new (req);
    unit_add (unit, "grant_delete", req_str (req, "user"), req_str (req, "audience"));
    unit_also (unit, "grants_event_all");
    unit_commit (unit);
    reply_message (req, 200, "Revoked");
}

//  Edges and the door fail closed when they hear nothing for 30 s, and see holes by `off`.
void
identity_beat (req_t *req)
{
    actor_t *actor = req_actor (req);
    row_t top = db_row (req, "live_top");
    bus_publish (actor->bus, &(wire_event_t){ .channel = TEXT ("sys/identity"),
                                              .epoch = text_of (row_str (top, "epoch")),
                                              .off = (uint64_t) row_int (top, "off"),
                                              .type = TEXT ("beat") });
}

void
identity_purge (req_t *req)
{
    unit_t *unit = unit_new (req);
    unit_add (unit, "session_purge");
    unit_commit (unit);
}

//  The first start makes the first administrator.
void
identity_load (req_t *req)
{
    if (!actor_secret (req_actor (req), "jwt_secret")
        || strlen (actor_secret (req_actor (req), "jwt_secret")) < 32)
        fail (req, E_INVALID, "JWT_SECRET must have at least 32 bytes");
    if (row_bool (db_row (req, "super_exists"), "found"))
        return;
    const char *email = opt_str (req_actor (req)->options, "admin-email"),
               *password = actor_secret (req_actor (req), "admin_password");
    char made [17];
    if (!password) {
        random_text (made, 16);
        password = made;
    }
    unit_t *unit = unit_new (req);
    unit_add (unit, "user_insert", email, NULL, password_hash (req, password, "ADMIN_PASSWORD"),
              "Administrator", "super_admin", "true", audit_meta (req));
    unit_commit (unit);
    if (password == made)
        log_info ("made the first administrator, this password is shown once", "email", email,
                  "password", made);
    else
        log_info ("made the first administrator", "email", email);
}
