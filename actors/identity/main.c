//  identity -- users, organisations, sessions, keys: who somebody is and what they may hear.
//  This file holds the routes; every family's words for the same thing end in the same function.

#include "identity.h"

SQL_FILE (identity_sql, "db/queries/identity.sql");

#define ROLES "admin|analyst|viewer|client|user|lab|super_admin"

const field_t user_fields [] = { { "id", T_UUID, READONLY },
                                 { "email", T_EMAIL },
                                 { "username", T_TEXT },
                                 { "full_name", T_TEXT, NULLABLE },
                                 { "name", T_TEXT },
                                 { "role", T_TEXT },
                                 { "account_id", T_TEXT },
                                 { "icecube_id", T_TEXT },
                                 { "is_active", T_BOOL },
                                 { "is_superuser", T_BOOL },
                                 { "organization", T_TEXT, NULLABLE },
                                 { "preferences", T_OBJECT },
                                 { "created_at", T_TIME },
                                 { "updated_at", T_TIME },
                                 { 0 } };

static const field_t session_fields [] = { { "token", T_TEXT },         { "access_token", T_TEXT },
                                           { "refresh_token", T_TEXT }, { "token_type", T_TEXT },
                                           { "expires_in", T_INT },     { "expiresAt", T_TIME },
                                           { "success", T_BOOL },       { "user_id", T_UUID },
                                           { "email", T_TEXT },         { "is_superuser", T_BOOL },
                                           { "user", T_OBJECT },        { 0 } };

static const field_t message_fields [] = { { "message", T_TEXT }, { 0 } };

static const field_t sign_up_fields [] = {
    { "email", T_EMAIL, REQUIRED, .max = 254 },
    { "password", T_TEXT, REQUIRED | SECRET, .max = 1024 },
    { "full_name", T_TEXT, NULLABLE, .max = 255, .also = "name" },
    { "username", T_TEXT, NULLABLE, .min = 3, .max = 254 },
    { 0 } };

static const field_t sign_in_fields [] = { { "email", T_TEXT, .max = 254 },
                                           { "identifier", T_TEXT, .max = 254 },
                                           { "username", T_TEXT, .max = 254 },
                                           { "password", T_TEXT, REQUIRED | SECRET, .max = 1024 },
                                           { 0 } };

static const field_t refresh_fields [] = { { "refresh_token", T_TEXT, SECRET, .max = 512 }, { 0 } };

static const field_t change_fields [] = {
    { "current_password", T_TEXT, REQUIRED | SECRET, .max = 1024 },
    { "new_password", T_TEXT, REQUIRED | SECRET, .max = 1024 },
    { 0 }
};

static const field_t email_fields [] = { { "email", T_EMAIL, REQUIRED, .max = 254 }, { 0 } };

static const field_t reset_fields [] = { { "email", T_EMAIL, REQUIRED, .max = 254 },
                                         { "confirmation_code", T_TEXT, SECRET, .max = 128 },
                                         { "token", T_TEXT, SECRET, .max = 128 },
                                         { "new_password", T_TEXT, REQUIRED | SECRET, .max = 1024,
                                           .also = "password" },
                                         { 0 } };

static const field_t verify_fields [] = { { "email", T_EMAIL, REQUIRED, .max = 254 },
                                          { "confirmation_code", T_TEXT, SECRET, .max = 128 },
                                          { "token", T_TEXT, SECRET, .max = 128 },
                                          { 0 } };

static const field_t profile_fields [] = { { "full_name", T_TEXT, .max = 255 },
                                           { "name", T_TEXT, .max = 255 },
                                           { "avatar", T_TEXT, .max = 2048 },
                                           { "email", T_EMAIL, .max = 254 },
                                           { "username", T_TEXT, .min = 3, .max = 254 },
                                           { "department", T_TEXT, .max = 255 },
                                           { "organization", T_TEXT, .min = 1, .max = 255 },
                                           { 0 } };

static const field_t preference_fields [] = {
    { "theme", T_ENUM, .values = "light|dark|system" },
    { "defaultTimeRange", T_ENUM, .values = "7d|30d|90d|1y" },
    { "defaultCurrency", T_ENUM, .values = "USD|EUR|GBP|JPY" },
    { "defaultRegion", T_TEXT, .max = 64 },
    { "dashboardLayout", T_NAMES },
    { "notifications", T_OBJECT },
    { "language", T_ENUM, .values = "en|es|fr|de" },
    { 0 }
};

static const field_t page_fields [] = { { "skip", T_INT, .min = 0, .max = 1000000000 },
                                        { "limit", T_INT, .min = 1, .max = 10000 },
                                        { 0 } };

static const field_t user_param [] = { { "user", T_TEXT, REQUIRED, .max = 64 }, { 0 } };

static const field_t user_new_fields [] = { { "email", T_EMAIL, REQUIRED, .max = 254 },
                                            { "password", T_TEXT, REQUIRED | SECRET, .max = 1024 },
                                            { "username", T_TEXT, .min = 3, .max = 254 },
                                            { "full_name", T_TEXT, .max = 255, .also = "name" },
                                            { "role", T_ENUM, .values = ROLES },
                                            { "is_active", T_BOOL },
                                            { "is_superuser", T_BOOL },
                                            { 0 } };

static const field_t user_change_fields [] = { { "user", T_TEXT, REQUIRED, .max = 64 },
                                               { "email", T_EMAIL, .max = 254 },
                                               { "password", T_TEXT, SECRET, .max = 1024 },
                                               { "username", T_TEXT, .min = 3, .max = 254 },
                                               { "full_name", T_TEXT, .max = 255, .also = "name" },
                                               { "role", T_ENUM, .values = ROLES },
                                               { "department", T_TEXT, .max = 255 },
                                               { "is_active", T_BOOL },
                                               { "is_superuser", T_BOOL },
                                               { 0 } };

static const field_t status_fields [] = { { "user", T_TEXT, REQUIRED, .max = 64 },
                                          { "is_active", T_BOOL, REQUIRED },
                                          { 0 } };
static const field_t role_fields [] = { { "user", T_TEXT, REQUIRED, .max = 64 },
                                        { "role", T_ENUM, REQUIRED, .values = ROLES },
                                        { 0 } };

static const field_t audit_fields [] = { { "user_id", T_UUID },
                                         { "before", T_INT, .min = 1, .max = INT64_MAX },
                                         { "limit", T_INT, .min = 1, .max = 1000 },
                                         { 0 } };

static const field_t org_fields [] = {
    { "id", T_UUID, READONLY },         { "name", T_TEXT, REQUIRED, .min = 1, .max = 255 },
    { "personal", T_BOOL, READONLY },   { "role", T_TEXT, READONLY },
    { "user_id", T_UUID, READONLY },    { "created_at", T_TIME, READONLY },
    { "updated_at", T_TIME, READONLY }, { 0 }
};

static const field_t member_fields [] = { { "email", T_EMAIL, .max = 254 },
                                          { "user_id", T_UUID },
                                          { "role", T_ENUM, .values = "admin|analyst|viewer" },
                                          { 0 } };

static const field_t member_param [] = { { "member", T_UUID, REQUIRED }, { 0 } };

static const field_t key_fields [] = {
    { "name", T_TEXT, REQUIRED, .min = 1, .max = 255 }, { "expires_at", T_TIME }, { 0 } };

static const field_t check_fields [] = {
    { "user", T_TEXT }, { "jti", T_TEXT }, { "api_key_hash", T_TEXT }, { "ticket_hash", T_TEXT },
    { 0 }
};
static const field_t ticket_fields [] = { { "ticket", T_TEXT, REQUIRED },
                                          { "expires_in", T_INT, REQUIRED },
                                          { 0 } };
static const field_t who_fields [] = { { "user", T_UUID, REQUIRED }, { 0 } };
static const field_t grant_fields [] = { { "user", T_UUID, NULLABLE },
                                         { "audience", T_TEXT, REQUIRED, .max = 100 },
                                         { "role", T_TEXT, .max = 32 },
                                         { 0 } };

//  Sessions and keys belong to one user, so calls that change one go to that audience's owner.
static const route_t routes [] = {
    ACTION ("auth.signup", "POST", "/auth/signup", sign_up,
            .spec.alias = { "/auth/register", "/api/auth/register", "/api/auth/signup" },
            .spec.auth = AUTH_OPTIONAL, .spec.limit = LIMIT_SIGN_IN, .spec.in = sign_up_fields,
            .spec.out = session_fields, .spec.status = 201, .spec.tag = "auth",
            .spec.doc = "Create an account and sign in"),
    ACTION ("auth.register", "POST", "/api/v1/auth/register", sign_up_v1,
            .spec.alias = { "/api/v1/auth/signup" }, .spec.auth = AUTH_OPTIONAL,
            .spec.limit = LIMIT_SIGN_IN, .spec.in = sign_up_fields, .spec.tag = "auth",
            .spec.doc =
                "Create an account: with a user name 201 and a token, without it 200 and the user"),
    ACTION ("auth.signin", "POST", "/auth/signin", sign_in,
            .spec.alias = { "/auth/login", "/api/auth/login", "/api/v1/auth/login",
                            "/api/v1/auth/signin" },
            .spec.auth = AUTH_OPTIONAL, .spec.limit = LIMIT_SIGN_IN, .spec.in = sign_in_fields,
            .spec.out = session_fields, .spec.tag = "auth",
            .spec.doc = "Sign in with an address or a user name; JSON or form"),
    ACTION ("auth.signout", "POST", "/auth/signout", sign_out,
            .spec.alias = { "/auth/logout", "/api/auth/logout", "/api/v1/auth/logout" },
            .spec.out = message_fields, .spec.tag = "auth",
            .spec.doc = "End this session; its token is dead when the answer arrives"),
    ACTION ("auth.signout_all", "POST", "/auth/logout-all", sign_out_all,
            .spec.alias = { "/auth/signout-all", "/api/v1/auth/logout-all" },
            .spec.out = message_fields, .spec.tag = "auth",
            .spec.doc = "End every session of the caller"),
    ACTION ("auth.refresh", "POST", "/auth/refresh", sign_refresh,
            .spec.alias = { "/api/auth/refresh", "/api/v1/auth/refresh" },
            .spec.auth = AUTH_OPTIONAL, .spec.in = refresh_fields, .spec.out = session_fields,
            .spec.tag = "auth",
            .spec.doc = "A new access token for a refresh token (body or Bearer)"),
    ACTION ("auth.me", "GET", "/auth/me", user_me,
            .spec.alias = { "/auth/user", "/api/auth/me", "/api/v1/auth/me", "/auth/profile",
                            "/api/v1/auth/profile" },
            .spec.out = user_fields, .spec.tag = "auth", .spec.doc = "Who am I"),
    ACTION ("auth.verify", "GET", "/auth/verify", sign_verify,
            .spec.alias = { "/api/v1/auth/verify" }, .spec.tag = "auth",
            .spec.doc = "Is my token good"),
    ACTION ("auth.change_password", "POST", "/auth/change-password", password_change,
            .spec.alias = { "/api/v1/auth/change-password", "PUT /auth/password" },
            .spec.limit = LIMIT_SIGN_IN, .spec.in = change_fields, .spec.out = message_fields,
            .spec.tag = "auth", .spec.doc = "Set a new password; every other session ends"),
    ACTION ("auth.forgot_password", "POST", "/auth/forgot-password", password_forgot,
            .spec.alias = { "/api/v1/auth/forgot-password" }, .spec.auth = AUTH_OPTIONAL,
            .spec.limit = LIMIT_MAIL, .spec.in = email_fields, .spec.out = message_fields,
            .spec.tag = "auth", .spec.doc = "Send a code for a new password"),
    ACTION ("auth.reset_password", "POST", "/auth/reset-password", password_reset,
            .spec.alias = { "/api/v1/auth/reset-password" }, .spec.auth = AUTH_OPTIONAL,
            .spec.limit = LIMIT_SIGN_IN, .spec.in = reset_fields, .spec.out = message_fields,
            .spec.tag = "auth", .spec.doc = "Set a new password with a code"),
    ACTION ("auth.verify_email", "POST", "/auth/verify-email", email_verify,
            .spec.alias = { "/api/v1/auth/verify-email" }, .spec.auth = AUTH_OPTIONAL,
            .spec.limit = LIMIT_SIGN_IN, .spec.in = verify_fields, .spec.out = message_fields,
            .spec.tag = "auth", .spec.doc = "Confirm an address with a code"),
    ACTION ("auth.resend_verification", "POST", "/auth/resend-verification", email_verify_again,
            .spec.auth = AUTH_OPTIONAL, .spec.limit = LIMIT_MAIL, .spec.in = email_fields,
            .spec.out = message_fields, .spec.tag = "auth",
            .spec.doc = "Send the confirmation code again"),

    ACTION ("users.me", "GET", "/api/v1/users/me", user_me,
            .spec.alias = { "/users/me", "/api/users/profile", "/users/profile" },
            .spec.out = user_fields, .spec.doc = "One's own profile"),
    ACTION ("users.change_me", "PUT", "/auth/profile", user_change_me,
            .spec.alias = { "/users/me", "/api/v1/users/me", "/api/users/profile",
                            "PATCH /users/me", "PATCH /api/v1/users/me" },
            .spec.in = profile_fields, .spec.out = user_fields,
            .spec.doc = "Change one's own profile"),
    ACTION ("users.preferences", "GET", "/api/users/preferences", user_preferences,
            .spec.alias = { "/users/preferences" }, .spec.doc = "One's preferences"),
    ACTION ("users.change_preferences", "PUT", "/api/users/preferences", user_change_preferences,
            .spec.alias = { "/users/preferences", "PATCH /api/users/preferences" },
            .spec.in = preference_fields,
            .spec.doc = "Change preferences; what is not named stays"),
    ACTION ("users.change_password", "PUT", "/api/v1/users/me/password", password_change_true,
            .spec.alias = { "/users/me/password" }, .spec.limit = LIMIT_SIGN_IN,
            .spec.in = change_fields, .spec.reply = "any",
            .spec.doc = "Set a new password; answers true"),
    ACTION ("users.anon_key", "GET", "/api/v1/users/me/anon-key", user_anon_key,
            .spec.alias = { "/users/me/anon-key" },
            .spec.doc = "The public key of this installation"),
    ACTION ("users.list", "GET", "/api/v1/users", users_list,
            .spec.alias = { "/users", "/admin/users", "/api/v1/admin/users" },
            .spec.auth = AUTH_ADMIN, .spec.in = page_fields, .spec.out = user_fields,
            .spec.reply = "array", .spec.doc = "All users"),
    ACTION ("users.list_plain", "GET", "/api/v1/users/list", users_list_plain,
            .spec.alias = { "/users/list" }, .spec.auth = AUTH_ADMIN, .spec.in = page_fields,
            .spec.out = user_fields, .spec.reply = "array",
            .spec.doc = "All users but super administrators"),
    ACTION ("users.count", "GET", "/api/v1/users/count", users_count,
            .spec.alias = { "/users/count" }, .spec.auth = AUTH_ADMIN, .spec.reply = "any",
            .spec.doc = "How many users"),
    ACTION ("users.get", "GET", "/api/v1/users/:user", users_get, .spec.alias = { "/users/:user" },
            .spec.in = user_param, .spec.out = user_fields,
            .spec.doc = "A user by id or account number"),
    ACTION ("users.create", "POST", "/api/v1/users", users_create,
            .spec.alias = { "/users", "/admin/clients", "/api/v1/admin/clients" },
            .spec.auth = AUTH_ADMIN, .spec.in = user_new_fields, .spec.out = user_fields,
            .spec.status = 201, .spec.doc = "Add a user"),
    ACTION ("users.update", "PUT", "/api/v1/users/:user", users_update,
            .spec.alias = { "/users/:user", "PATCH /users/:user", "PATCH /api/v1/users/:user" },
            .spec.auth = AUTH_ADMIN, .spec.in = user_change_fields, .spec.out = user_fields,
            .spec.doc = "Change a user"),
    ACTION ("users.delete", "DELETE", "/api/v1/users/:user", users_delete,
            .spec.alias = { "/users/:user" }, .spec.auth = AUTH_ADMIN, .spec.in = user_param,
            .spec.reply = "any", .spec.doc = "Delete a user and everything they own; answers true"),
    ACTION ("users.remove", "DELETE", "/admin/users/:user", users_remove,
            .spec.alias = { "/api/v1/admin/users/:user" }, .spec.auth = AUTH_ADMIN,
            .spec.in = user_param, .spec.doc = "Delete a user and everything they own"),
    ACTION ("users.set_status", "PUT", "/admin/users/:user/status", users_set_status,
            .spec.alias = { "/api/v1/admin/users/:user/status" }, .spec.auth = AUTH_ADMIN,
            .spec.in = status_fields, .spec.doc = "Switch a user on or off"),
    ACTION ("users.toggle", "POST", "/admin/users/:user/toggle-active", users_toggle,
            .spec.alias = { "/api/v1/admin/users/:user/toggle-active" }, .spec.auth = AUTH_ADMIN,
            .spec.in = user_param, .spec.doc = "Switch a user on or off"),
    ACTION ("users.set_role", "PUT", "/admin/users/:user/role", users_set_role,
            .spec.alias = { "/api/v1/admin/users/:user/role" }, .spec.auth = AUTH_ADMIN,
            .spec.in = role_fields, .spec.doc = "Give a role; the user signs in anew"),
    ACTION ("audit.list", "GET", "/admin/audit", audit_list,
            .spec.alias = { "/api/v1/admin/audit" }, .spec.auth = AUTH_ADMIN,
            .spec.in = audit_fields, .spec.reply = "array",
            .spec.doc = "Audit trail, newest first"),

    ACTION ("organizations.list", "GET", "/organizations", orgs_list, .spec.out = org_fields,
            .spec.reply = "array", .spec.doc = "One's organizations"),
    ACTION ("organizations.get", "GET", "/organizations/:id", orgs_get, .spec.out = org_fields,
            .spec.doc = "An organization"),
    ACTION ("organizations.create", "POST", "/organizations", orgs_create, .spec.in = org_fields,
            .spec.out = org_fields, .spec.status = 201, .spec.doc = "Found an organization"),
    ACTION ("organizations.update", "PUT", "/organizations/:id", orgs_update,
            .spec.alias = { "PATCH /organizations/:id" }, .spec.in = org_fields,
            .spec.out = org_fields, .spec.doc = "Rename an organization"),
    ACTION ("organizations.delete", "DELETE", "/organizations/:id", orgs_delete,
            .spec.out = message_fields, .spec.doc = "Delete an organization"),
    ACTION ("organizations.members", "GET", "/organizations/:id/members", members_list,
            .spec.reply = "array", .spec.doc = "Members"),
    ACTION ("organizations.put_member", "POST", "/organizations/:id/members", members_put,
            .spec.in = member_fields, .spec.status = 201,
            .spec.doc = "Add a member or change their role"),
    ACTION ("organizations.delete_member", "DELETE", "/organizations/:id/members/:member",
            members_delete, .spec.in = member_param, .spec.out = message_fields,
            .spec.doc = "Remove a member, or leave"),

    ACTION ("api_keys.list", "GET", "/api-keys", keys_list, .spec.reply = "array",
            .spec.doc = "One's API keys"),
    ACTION ("api_keys.create", "POST", "/api-keys", keys_create, .spec.in = key_fields,
            .spec.status = 201, .spec.doc = "A new API key, shown once"),
    ACTION ("api_keys.delete", "DELETE", "/api-keys/:id", keys_delete, .spec.out = message_fields,
            .spec.doc = "Revoke an API key"),

    ACTION ("identity.check", NULL, NULL, identity_check, .spec.auth = AUTH_OPERATOR,
            .spec.in = check_fields, .spec.idempotent = true,
            .spec.doc = "Is this session, API key or ticket good, and whose is it"),
    ACTION ("tickets.create", "POST", "/live/ticket", tickets_create, .spec.status = 201,
            .spec.out = ticket_fields, .spec.tag = "live",
            .spec.doc = "A ticket for /events and /ws, good once within 60 s"),
    ACTION ("identity.grants", NULL, NULL, identity_grants, .spec.auth = AUTH_OPERATOR,
            .spec.in = who_fields, .spec.idempotent = true, .spec.doc = "What a user may hear"),
    ACTION ("identity.revocations", NULL, NULL, identity_revocations, .spec.auth = AUTH_OPERATOR,
            .spec.idempotent = true, .spec.doc = "Sessions revoked before their end"),
    ACTION ("identity.token", NULL, NULL, identity_token, .spec.auth = AUTH_OPERATOR,
            .spec.in = email_fields, .spec.doc = "A session for a user"),
    ACTION ("identity.find", NULL, NULL, identity_find, .spec.auth = AUTH_OPERATOR,
            .spec.in = email_fields, .spec.idempotent = true, .spec.doc = "A user by address"),
    ACTION ("identity.grant", NULL, NULL, identity_grant, .spec.auth = AUTH_OPERATOR,
            .spec.in = grant_fields, .spec.idempotent = true,
            .spec.doc = "Let a user hear an audience"),
    ACTION ("identity.ungrant", NULL, NULL, identity_ungrant, .spec.auth = AUTH_OPERATOR,
            .spec.in = grant_fields, .spec.idempotent = true, .spec.doc = "Take a grant back"),
    { 0 }
};

static const channel_t channels [] = { { "profile", "collection", NULL },
                                       { "identity", "log", NULL },
                                       { 0 } };

static opt_t options [] = {
    { .name = "token-minutes",
      .type = OPT_INT,
      .def = "1440",
      .env = "ACCESS_TOKEN_EXPIRE_MINUTES",
      .doc = "life of an access token" },
    { .name = "bcrypt-cost",
      .type = OPT_INT,
      .def = "12",
      .env = "BUSBAR_BCRYPT_COST",
      .doc = "cost of password hashes (4 to 31)" },
    { .name = "admin-email",
      .type = OPT_STR,
      .def = "admin@busbar.local",
      .env = "ADMIN_EMAIL",
      .doc = "address of the first administrator" },
    { .name = "external-url",
      .type = OPT_STR,
      .def = "http://127.0.0.1:8002",
      .env = "EXTERNAL_URL",
      .doc = "address put into mails" },
    { .name = "emails-enabled",
      .type = OPT_BOOL,
      .def = "true",
      .env = "EMAILS_ENABLED",
      .doc = "send mail when a server is configured" },
    { .name = "emails-from",
      .type = OPT_STR,
      .def = "busbar@localhost",
      .env = "EMAILS_FROM_EMAIL",
      .doc = "sender of mails" },
    { .name = "smtp-host",
      .type = OPT_STR,
      .env = "SMTP_HOST",
      .doc = "mail server; without one codes are logged for the operator" },
    { .name = "smtp-port",
      .type = OPT_INT,
      .def = "587",
      .env = "SMTP_PORT",
      .doc = "its port; 465 means TLS from the start" },
    { .name = "smtp-user", .type = OPT_STR, .env = "SMTP_USER", .doc = "user there" },
    { 0 }
};

int
main (int argc, char **argv)
{
    actor_t actor = { .name = "identity",
                      .sql = (const char *const []){ identity_sql, NULL },
                      .routes = routes,
                      .channels = channels,
                      .options = options,
                      .load = identity_load,
                      .every = (const tick_t []){
                          { 5000, identity_beat }, { 3600000, identity_purge }, { 0 } } };
    return actor_main (argc, argv, &actor);
}
