//  members.c -- sharing a workspace: rows here, grants for audience project:<workspace> with
//  identity.

#include "platform.h"

//  Tell identity what a user may hear. Idempotent, so a lost answer is asked again.
static void
grant (req_t *req, const char *method, const char *workspace, const char *user, const char *role)
{
    buf_t *body = req_buf (req);
    mp_put_map (body, role ? 3 : 2);
    mp_pair_str (body, "user", user);
    mp_pair_str (body, "audience", req_print (req, "project:%s", workspace));
    if (role)
        mp_pair_str (body, "role", role);
    bus_reply_t reply = req_call (req, method, mp_none, mp_buf (body),
                                  &(req_call_t){ .operator= true, .idempotent = true });
    if (reply.status >= 400)
        fail_reply (req, &reply);
}

void
members_list (req_t *req)
{
    workspace_of (req, req_id (req), NULL, false);
    reply_rows (req, 200, db_rows (req, "members_list", req_id (req)));
}

static row_t
owned (req_t *req)
{
    row_t row = workspace_of (req, req_id (req), NULL, false);
    if (strcmp (row_str (row, "role"), "owner") != 0)
        fail (req, E_FORBIDDEN, "only the owner shares a workspace");
    return row;
}

void
members_put (req_t *req)
{
    row_t workspace = owned (req);
    buf_t *body = req_buf (req);
    mp_put_map (body, 1);
    mp_pair_str (body, "email", req_str (req, "email"));
    bus_reply_t found = req_call (req, "identity.find", mp_none, mp_buf (body),
                                  &(req_call_t){ .operator= true, .idempotent = true });
    if (found.status >= 400)
        fail_reply (req, &found);
    const char *member = req_copy (req, mp_text (mp_get (found.body, "id")));
    //  Grants first: a grant without a row is harmless, a row without a grant would be deaf.
    const char *id = req_id (req), *role = req_str (req, "role") ? req_str (req, "role") : "viewer";
    if (strcmp (member, row_str (workspace, "user_id")) == 0)
        fail_field (req, E_CONFLICT, "email", "owns the workspace");
    grant (req, "identity.grant", id, row_str (workspace, "user_id"), "owner");
    grant (req, "identity.grant", id, member, role);
    unit_t *unit = unit_new (req);
    unit_add (unit, "member_put", id, member, req_str (req, "email"), role);
    row_t row = unit_commit (unit);
    if (row_none (row))
        fail_field (req, E_CONFLICT, "email", "owns the workspace");
    reply_row (req, 201, row);
}

//  The owner ends it for anybody, members for themselves.
void
members_delete (req_t *req)
{
    const char *member = req_str (req, "member");
    row_t workspace = workspace_of (req, req_id (req), NULL, false);
    if (strcmp (row_str (workspace, "role"), "owner") != 0 && strcmp (member, req_user (req)) != 0)
        fail (req, E_FORBIDDEN, "only the owner removes others");
    unit_t *unit = unit_new (req);
    unit_add (unit, "member_delete", req_id (req), member);
    unit_message (unit, "Deleted");
    row_t row = unit_commit (unit);
    if (row_none (row))
        fail (req, E_NOT_FOUND, "member not found");
    grant (req, "identity.ungrant", req_id (req), member, NULL);
    reply_message (req, 200, "Deleted");
}
