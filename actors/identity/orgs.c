//  orgs.c -- organisations, their members (the grants of audience org:<id>), API keys.

#include "identity.h"

void
orgs_list (req_t *req)
{
    reply_rows (req, 200, db_rows (req, "orgs_list", req_user (req)));
}

static void
reply_found (req_t *req, unsigned status, row_t row)
{
    if (row_none (row))
        fail (req, E_NOT_FOUND, "organization not found");
    reply_row (req, status, row);
}

void
orgs_get (req_t *req)
{
    reply_found (req, 200, db_row (req, "org_get", req_user (req), req_id (req)));
}

void
orgs_create (req_t *req)
{
    unit_t *unit = unit_new (req);
    unit_add (unit, "org_insert", req_user (req), req_str (req, "name"), audit_meta (req));
    unit_also (unit, "grants_event", req_user (req));
    reply_row (req, 201, unit_commit (unit));
}

void
orgs_update (req_t *req)
{
    unit_t *unit = unit_new (req);
    unit_add (unit, "org_update", req_user (req), req_id (req), req_str (req, "name"));
    row_t row = unit_commit (unit);
    if (!row_none (row) && !row_str (row, "id"))
        fail (req, E_FORBIDDEN, "only owners and admins change an organization");
    reply_found (req, 200, row);
}

void
orgs_delete (req_t *req)
{
    unit_t *unit = unit_new (req);
    unit_add (unit, "org_delete", req_user (req), req_id (req), audit_meta (req));
    unit_also (unit, "grants_event_all");
    unit_message (unit, "Deleted");
    row_t row = unit_commit (unit);
    if (row_none (row))
        fail (req, E_NOT_FOUND, "organization not found");
    if (!row_str (row, "id"))
        fail (req, row_bool (row, "personal") ? E_CONFLICT : E_FORBIDDEN,
              row_bool (row, "personal") ? "a personal organization goes with its user"
                                         : "only the owner deletes an organization");
    reply_message (req, 200, "Deleted");
}

void
members_list (req_t *req)
{
    row_t row = db_row (req, "members_list", req_user (req), req_id (req));
    if (row_none (row))
        fail (req, E_NOT_FOUND, "organization not found");
    reply_json (req, 200, text_of (row_str (row, "body")));
}

static const char *
member_named (req_t *req)
{
    if (req_str (req, "user_id"))
        return req_str (req, "user_id");
    if (!req_str (req, "email"))
        fail_field (req, E_INVALID, "email", "is required (or user_id)");
    row_t row = db_row (req, "user_find_email", req_str (req, "email"));
    if (row_none (row))
        fail_field (req, E_NOT_FOUND, "email", "is no user's address");
    return row_str (row, "id");
}

//  A change of members and the news of it to edges commit together.
static row_t
change_member (req_t *req, const char *statement, const char *member, const char *role)
{
    unit_t *unit = unit_new (req);
    if (role)
        unit_add (unit, statement, req_user (req), req_id (req), member, role, audit_meta (req));
    else {
        unit_add (unit, statement, req_user (req), req_id (req), member, audit_meta (req));
        unit_message (unit, "Deleted");
    }
    unit_also (unit, "grants_event", member);
    row_t row = unit_commit (unit);
    if (row_none (row))
        fail (req, E_NOT_FOUND, "organization not found");
    if (!role && row_bool (row, "absent"))
        fail (req, E_NOT_FOUND, "member not found");
    if (!row_str (row, "user_id"))
        fail (req, E_FORBIDDEN,
              "only owners and admins change members, and nobody changes the owner");
    return row;
}

void
members_put (req_t *req)
{
    row_t row = change_member (req, "member_put", member_named (req),
                               req_str (req, "role") ? req_str (req, "role") : "viewer");
    reply_row (req, 201, row);
}

void
members_delete (req_t *req)
{
    change_member (req, "member_delete", req_str (req, "member"), NULL);
    reply_message (req, 200, "Deleted");
}

//  ---------------------------------------------------------------- API keys

void
keys_list (req_t *req)
{
    reply_rows (req, 200, db_rows (req, "keys_list", req_user (req)));
}

//  The key itself is shown once, here.
void
keys_create (req_t *req)
{
    char key [44] = "bb_", hash [65];
    random_text (key + 3, 40);
    sha256_hex (text_of (key), hash);
    unit_t *unit = unit_new (req);
    unit_add (unit, "key_insert", req_user (req), req_str (req, "name"),
              req_print (req, "%.10s", key), hash, req_str (req, "expires_at"), audit_meta (req));
    row_t row = unit_commit (unit);
    buf_t *body = req_buf (req);
    size_t mark = mp_open_map (body);
    uint32_t count = row_put (req, body, row);
    mp_pair_str (body, "key", key);
    mp_close (body, mark, count + 1);
    reply_mp (req, 201, mp_buf (body));
}

void
keys_delete (req_t *req)
{
    unit_t *unit = unit_new (req);
    unit_add (unit, "key_delete", req_user (req), req_id (req), audit_meta (req));
    unit_message (unit, "Deleted");
    if (row_none (unit_commit (unit)))
        fail (req, E_NOT_FOUND, "API key not found");
    reply_message (req, 200, "Deleted");
}
