//  identity.h -- what the files of the identity actor share.

#ifndef IDENTITY_H
#define IDENTITY_H

#include "actors/kit/actor.h"
#include "actors/kit/fetch.h"

#define PASSWORD_MIN 8
#define PASSWORD_MAX 72  //  bcrypt looks at no more: longer ones are refused, not cut
#define REFRESH_SECONDS (30 * 24 * 3600)

//  Everybody's own seat in the routes table: each file declares its rows, main.c puts them
//  together.
extern const field_t user_fields [];     //  reply shape of a user object

//  ---------------------------------------------------------------- password.c
//  Fail the request on `field` when the password is too short or too long.
void password_check (req_t *req, const char *password, const char *field);
//  Hash a new password that passes the check. Request memory.
CO const char *password_hash (req_t *req, const char *password, const char *field);
//  Does it fit the hash? A NULL hash costs the same time and never fits.
CO bool password_fits (req_t *req, const char *password, const char *hash);

//  ---------------------------------------------------------------- sign.c
//  {"by", "ip", "agent", "request_id"} as JSON text for the audit trail.
const char *audit_meta (req_t *req);
//  Add a session for `user` (or, when NULL, for the user of `email`, made by an earlier statement
//  of the unit).
typedef struct {
    char jti [37];
    char refresh [65];
} session_keys_t;
session_keys_t *session_add (req_t *req, unit_t *unit, const char *user, const char *email);
//  Answer with everything the five families want to see after a sign-in. The row has body, id,
//  email, role, organization_id.
void reply_session (req_t *req, unsigned status, row_t user, const char *jti, const char *refresh);
//  Append an access token for the user in the row.
const char *token_for (req_t *req, row_t user, const char *jti, int64_t *exp);

CO void sign_up (req_t *req);
CO void sign_up_v1 (req_t *req);
CO void sign_in (req_t *req);
CO void sign_out (req_t *req);
CO void sign_out_all (req_t *req);
CO void sign_refresh (req_t *req);
CO void sign_verify (req_t *req);

//  ---------------------------------------------------------------- recover.c
CO void password_change (req_t *req);
CO void password_change_true (req_t *req);
CO void password_forgot (req_t *req);
CO void password_reset (req_t *req);
CO void email_verify (req_t *req);
CO void email_verify_again (req_t *req);
//  Send (or, without SMTP, log) the code that proves an address.
CO void email_send_code (req_t *req, const char *user, const char *email, const char *purpose);

//  ---------------------------------------------------------------- users.c
CO void user_me (req_t *req);
CO void user_change_me (req_t *req);
CO void user_preferences (req_t *req);
CO void user_change_preferences (req_t *req);
CO void user_anon_key (req_t *req);
CO void users_list (req_t *req);
CO void users_list_plain (req_t *req);
CO void users_count (req_t *req);
CO void users_get (req_t *req);
CO void users_create (req_t *req);
CO void users_update (req_t *req);
CO void users_delete (req_t *req);
CO void users_remove (req_t *req);
CO void users_set_status (req_t *req);
CO void users_toggle (req_t *req);
CO void users_set_role (req_t *req);
CO void audit_list (req_t *req);

//  ---------------------------------------------------------------- orgs.c
CO void orgs_list (req_t *req);
CO void orgs_get (req_t *req);
CO void orgs_create (req_t *req);
CO void orgs_update (req_t *req);
CO void orgs_delete (req_t *req);
CO void members_list (req_t *req);
CO void members_put (req_t *req);
CO void members_delete (req_t *req);
CO void keys_list (req_t *req);
CO void keys_create (req_t *req);
CO void keys_delete (req_t *req);

//  ---------------------------------------------------------------- internal.c: for edges, door and
//  other actors
CO void identity_check (req_t *req);
CO void tickets_create (req_t *req);
CO void identity_grants (req_t *req);
CO void identity_revocations (req_t *req);
CO void identity_token (req_t *req);
CO void identity_find (req_t *req);
CO void identity_grant (req_t *req);
CO void identity_ungrant (req_t *req);
CO void identity_beat (req_t *req);
CO void identity_purge (req_t *req);
CO void identity_load (req_t *req);

#endif
