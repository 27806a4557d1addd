//  users.c -- one's own profile and preferences, user management by administrators, the audit
//  trail.

#include "identity.h"

//  Answer with the `body` of a row, or 404.
static void
reply_body (req_t *req, unsigned status, row_t row, const char *what)
{
    if (row_none (row))
        fail (req, E_NOT_FOUND, "%s not found", what);
    reply_json (req, status, text_of (row_str (row, "body")));
}

void
user_me (req_t *req)
{
    reply_body (req, 200, db_row (req, "user_get", req_user (req)), "user");
}

static void
add_update (req_t *req, unit_t *unit, const char *user)
{
    const char *name = req_str (req, "full_name");
    unit_add (unit, "user_update", user, name ? name : req_str (req, "name"),
              req_str (req, "avatar"), req_str (req, "email"), req_str (req, "username"),
              req_str (req, "department"), req_str (req, "organization"), audit_meta (req));
}

void
user_change_me (req_t *req)
{
    unit_t *unit = unit_new (req);
    add_update (req, unit, req_user (req));
    reply_body (req, 200, unit_commit (unit), "user");
}

void
user_preferences (req_t *req)
{
    reply_body (req, 200, db_row (req, "user_preferences", req_user (req)), "user");
}

void
user_change_preferences (req_t *req)
{
    buf_t *json = req_buf (req);
    buf_t *changes = req_buf (req);
    size_t mark = mp_open_map (changes);
    uint32_t count = 0;
    static const char *const names [] = { "theme",         "defaultTimeRange", "defaultCurrency",
                                          "defaultRegion", "dashboardLayout",  "notifications",
                                          "language" };
    for (size_t i = 0; i < sizeof names / sizeof names [0]; i++)
        if (req_has (req, names [i])) {
            mp_pair (changes, names [i], req_any (req, names [i]));
            count++;
        }
    mp_close (changes, mark, count);
    json_write (mp_buf (changes), json);
    unit_t *unit = unit_new (req);
    unit_add (unit, "user_set_preferences", req_user (req), req_copy (req, buf_text (json)));
    reply_body (req, 200, unit_commit (unit), "user");
}

void
user_anon_key (req_t *req)
{
    const char *key = actor_secret (req_actor (req), "anon_key");
    buf_t *body = req_buf (req);
    mp_put_map (body, 1);
    mp_pair_str (body, "anon_key", key ? key : "");
    reply_mp (req, 200, mp_buf (body));
}

static void
list (req_t *req, const char *plain)
{
    int64_t limit = req_has (req, "limit") ? req_int (req, "limit") : 1000;
    reply_body (req, 200,
                db_row (req, "users_list",
                        req_print (req, "%lld", (long long) req_int (req, "skip")),
                        req_print (req, "%lld", (long long) limit), plain),
                "users");
}

void
users_list (req_t *req)
{
    list (req, NULL);
}

void
users_list_plain (req_t *req)
{
    list (req, "true");
}

void
users_count (req_t *req)
{
    reply_json (req, 200, text_of (row_str (db_row (req, "users_count"), "n")));
}

//  :user is an id or a 12-digit account number. Others than administrators see themselves only.
void
users_get (req_t *req)
{
    row_t row = db_row (req, "user_find", req_str (req, "user"));
    if (!row_none (row) && !req_is_admin (req) && strcmp (row_str (row, "id"), req_user (req)) != 0)
        fail (req, E_NOT_FOUND, "user not found");
    reply_body (req, 200, row, "user");
}

//  Only a super administrator makes administrators.
static void
check_role (req_t *req, const char *role)
{
    bool high = strcmp (role, "admin") == 0 || strcmp (role, "super_admin") == 0;
    const char *mine = req_role (req);
    if (high && strcmp (mine, "super_admin") != 0 && strcmp (mine, "operator") != 0)
        fail (req, E_FORBIDDEN, "only a super administrator may give the role %s", role);
}

static const char *
role_of (req_t *req)
{
    const char *role = req_str (req, "role");
    if (role && strcmp (role, "user") == 0)
        role = "client";
    if (!role)
        role = req_bool (req, "is_superuser") ? "super_admin" : "client";
    check_role (req, role);
    return role;
}

void
users_create (req_t *req)
{
    const char *role = role_of (req);
    const char *hash = password_hash (req, req_str (req, "password"), "password");
    unit_t *unit = unit_new (req);
    unit_add (unit, "user_insert", req_str (req, "email"), req_str (req, "username"), hash,
              req_str (req, "full_name"), role,
              req_has (req, "is_active") && !req_bool (req, "is_active") ? "false" : "true",
              audit_meta (req));
    reply_body (req, 201, unit_commit (unit), "user");
}

//  The user that :user names, who must not outrank the caller.
static const char *
subject (req_t *req, bool self_too)
{
    row_t row = db_row (req, "user_find", req_str (req, "user"));
    if (row_none (row))
        fail (req, E_NOT_FOUND, "user not found");
    const char *id = row_str (row, "id");
    if (!self_too && req_user (req) && strcmp (id, req_user (req)) == 0)
        fail (req, E_INVALID, "not your own account");
    row_t full = db_row (req, "user_role", id);
    if (!row_none (full) && (!req_user (req) || strcmp (id, req_user (req)) != 0))
        check_role (req, row_str (full, "role"));
    return id;
}

//  What the update makes of the role. NULL: it stays, also when a client sends back what is there.
static const char *
new_role (req_t *req, const char *user)
{
    row_t row = db_row (req, "user_role", user);
    const char *now = row_none (row) ? "" : row_str (row, "role"), *role = req_str (req, "role");
    bool is_super = strcmp (now, "super_admin") == 0;
    if (role ? strcmp (role, now) == 0
             : !req_has (req, "is_superuser") || req_bool (req, "is_superuser") == is_super)
        return NULL;
    return role_of (req);
}

//  Everything or nothing.
void
users_update (req_t *req)
{
    const char *id = subject (req, true), *role = new_role (req, id), *hash = NULL;
    if (req_has (req, "password"))
        hash = password_hash (req, req_str (req, "password"), "password");
    unit_t *unit = unit_new (req);
    if (hash)
        unit_also (unit, "user_set_password", id, hash, NULL, audit_meta (req));
    if (req_has (req, "is_active"))
        unit_also (unit, "user_set_active", id, req_bool (req, "is_active") ? "true" : "false",
                   audit_meta (req));
    if (role)
        unit_also (unit, "user_set_role", id, role, audit_meta (req));
    add_update (req, unit, id);
    reply_body (req, 200, unit_commit (unit), "user");
}

//  What is answered is what a repeated request will get, too.
typedef void (answer_fn) (req_t *req, row_t row, buf_t *body);

static void
commit_answer (req_t *req, unit_t *unit, answer_fn *answer)
{
    unit_answer (unit, answer);
    row_t row = unit_commit (unit);
    if (row_none (row))
        fail (req, E_NOT_FOUND, "user not found");
    buf_t *body = req_buf (req);
    answer (req, row, body);
    reply_mp (req, 200, mp_buf (body));
}

static void
delete_user (req_t *req, answer_fn *answer)
{
    const char *id = subject (req, false);
    saga_delete (req, "user", id);
    unit_t *unit = unit_new (req);
    unit_add (unit, "user_delete", id, audit_meta (req));
    commit_answer (req, unit, answer);
}

static void
answer_true (req_t *req, row_t row, buf_t *body)
{
    (void) req;
    if (!row_none (row))
        mp_put_bool (body, true);
}

void
users_delete (req_t *req)
{
    delete_user (req, answer_true);
}

static void
answer_deleted (req_t *req, row_t row, buf_t *body)
{
    (void) req;
    if (row_none (row))
        return;
    mp_put_map (body, 2);
    mp_pair_str (body, "status", "success");
    mp_pair_str (body, "message", "User deleted");
}

void
users_remove (req_t *req)
{
    delete_user (req, answer_deleted);
}

//  {"status", "user_id", …}: one pair is to follow. False: there is nobody to answer of.
static bool
answer_begin (row_t row, buf_t *body)
{
    if (row_none (row))
        return false;
    mp_put_map (body, 3);
    mp_pair_str (body, "status", "success");
    mp_pair_str (body, "user_id", row_str (row, "id"));
    return true;
}

static void
answer_active (req_t *req, row_t row, buf_t *body)
{
    (void) req;
    if (answer_begin (row, body))
        mp_pair_bool (body, "is_active", row_bool (row, "is_active"));
}

static void
set_active (req_t *req, const char *value)
{
    const char *id = subject (req, false);
    unit_t *unit = unit_new (req);
    unit_add (unit, "user_set_active", id, value, audit_meta (req));
    commit_answer (req, unit, answer_active);
}

void
users_set_status (req_t *req)
{
    set_active (req, req_bool (req, "is_active") ? "true" : "false");
}

void
users_toggle (req_t *req)
{
    set_active (req, NULL);
}

static void
answer_role (req_t *req, row_t row, buf_t *body)
{
    (void) req;
    if (answer_begin (row, body))
        mp_pair_str (body, "role", row_str (row, "role"));
}

void
users_set_role (req_t *req)
{
    const char *role = role_of (req), *id = subject (req, false);
    unit_t *unit = unit_new (req);
    unit_add (unit, "user_set_role", id, role, audit_meta (req));
    commit_answer (req, unit, answer_role);
}

void
audit_list (req_t *req)
{
    const char *before = req_has (req, "before")
                             ? req_print (req, "%lld", (long long) req_int (req, "before"))
                             : NULL;
    int64_t limit = req_has (req, "limit") ? req_int (req, "limit") : 100;
    reply_rows (req, 200,
                db_rows (req, "audit_list", req_str (req, "user_id"), before,
                         req_print (req, "%lld", (long long) limit)));
}
