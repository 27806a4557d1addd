//  recover.c -- password change and recovery, proof of an address; mail through SMTP when it is
//  configured.

#include <ctype.h>
#include <stdlib.h>
#include <time.h>

#include "identity.h"

#define CODE_SECONDS_RESET 3600
#define CODE_SECONDS_VERIFY (24 * 3600)
#define CHANGED "Password changed"
#define RESET "Password has been reset"

static bool
is_reset (const char *purpose)
{
    return strcmp (purpose, "reset") == 0;
}

//  Where the code is used; the address may hold '+' and '&'.
static const char *
link_to (req_t *req, const char *email, const char *purpose, const char *code)
{
    buf_t *escaped = req_buf (req);
    for (const char *at = email; *at; at++)
        if (isalnum ((unsigned char) *at) || strchr ("-._~", *at))
            buf_putc (escaped, *at);
        else
            buf_putf (escaped, "%%%02X", (unsigned char) *at);
    return req_print (req, "%s/app/%s?email=%s&code=%s",
                      opt_str (req_actor (req)->options, "external-url"),
                      is_reset (purpose) ? "reset-password" : "verify-email",
                      req_copy (req, buf_text (escaped)), code);
}

static const char *
mail_text (req_t *req, const char *email, const char *purpose, const char *code)
{
    const char *from = opt_str (req_actor (req)->options, "emails-from");
    char date [64], id [37];
    time_t now = (time_t) (loop_wall (req_actor (req)->loop) / 1000);
    struct tm tm;
    strftime (date, sizeof date, "%a, %d %b %Y %H:%M:%S +0000", gmtime_r (&now, &tm));
    uuid_make (id);
    return req_print (req,
                      "Date: %s\r\nMessage-ID: <%s@busbar>\r\nFrom: %s\r\nTo: %s\r\nSubject: %s\r\n"
                      "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
                      "%s\r\n\r\nCode: %s\r\n%s\r\n\r\n"
                      "If you did not ask for this, ignore this message.\r\n",
                      date, id, from ? from : "busbar@localhost", email,
                      is_reset (purpose) ? "Reset your password" : "Confirm your address",
                      is_reset (purpose) ? "Use this code within an hour to set a new password."
                                         : "Use this code within a day to confirm your address.",
                      code, link_to (req, email, purpose, code));
}

static void
send_mail (req_t *req, const char *email, const char *purpose, const char *code)
{
    opt_t *options = req_actor (req)->options;
    const char *host = opt_str (options, "smtp-host");
    if (!host || !opt_bool (options, "emails-enabled")) {
        //  No mail server: the operator hands the link on.
        log_info ("mail is not configured", "purpose", purpose, "email", email, "link",
                  link_to (req, email, purpose, code));
        return;
    }
    int64_t port = opt_int (options, "smtp-port");
    fetched_t sent = fetch (
        req, &(fetch_t){ .url = req_print (req, "%s://%s:%lld", port == 465 ? "smtps" : "smtp",
                                           host, (long long) port),
                         .body = text_of (mail_text (req, email, purpose, code)),
                         .mail_from = opt_str (options, "emails-from"),
                         .mail_to = email,
                         .user = opt_str (options, "smtp-user"),
                         .password = actor_secret (req_actor (req), "smtp_password"),
                         .allow = req_print (req, "%s:%lld", host, (long long) port),
                         .timeout = 20000 });
    if (sent.error)
        log_warn ("mail was not sent", "purpose", purpose, "email", email, "error", sent.error);
}

typedef struct {
    char email [256], purpose [16], code [40];
} mail_t;

static void
mail_later (req_t *req)
{
    mail_t *mail = req_arg (req);
    req_defer (req, free, mail);
    send_mail (req, mail->email, mail->purpose, mail->code);
}

void
email_send_code (req_t *req, const char *user, const char *email, const char *purpose)
{
    mail_t *mail = calloc (1, sizeof *mail);
    if (!mail)
        return;
    char hash [65];
    random_text (mail->code, 32);
    sha256_hex (text_of (mail->code), hash);
    snprintf (mail->email, sizeof mail->email, "%s", email);
    snprintf (mail->purpose, sizeof mail->purpose, "%s", purpose);
    unit_t *unit = unit_new (req);
    unit_add (unit, "code_put", user, purpose, hash,
              req_print (req, "%d", is_reset (purpose) ? CODE_SECONDS_RESET : CODE_SECONDS_VERIFY));
    db_result_t done = unit_try (unit);
    //  The mail goes out beside the request: how long it takes says nothing about the account.
    if (done.code != E_NONE || !actor_spawn (req_actor (req), mail_later, mail)) {
        log_warn ("no code was sent", "purpose", purpose, "email", email);
        free (mail);
    }
}

static void
put_true (req_t *req, row_t row, buf_t *body)
{
    (void) req;
    if (!row_none (row))
        mp_put_bool (body, true);
}

//  Set a new password; every other session of the user ends. No message: the answer will be true.
static void
set_password (req_t *req, const char *user, const char *password, const char *spare,
              const char *message)
{
    const char *hash = password_hash (req, password, "new_password");
    unit_t *unit = unit_new (req);
    unit_add (unit, "user_set_password", user, hash, spare, audit_meta (req));
    if (message)
        unit_message (unit, message);
    else
        unit_answer (unit, put_true);
    if (row_none (unit_commit (unit)))
        fail (req, E_NOT_FOUND, "user not found");
}

static void
change (req_t *req, const char *message)
{
    row_t row = db_row (req, "user_hash", req_user (req));
    const char *hash = row_none (row) ? NULL : row_str (row, "password_hash");
    if (!password_fits (req, req_str (req, "current_password"), hash))
        fail_field (req, E_INVALID, "current_password", "is not your password");
    set_password (req, req_user (req), req_str (req, "new_password"),
                  req_copy (req, mp_text (mp_get (req_identity (req), "jti"))), message);
}


void
password_change (req_t *req)
{
    change (req, CHANGED);
    reply_message (req, 200, CHANGED);
}

void
password_change_true (req_t *req)
{
    change (req, NULL);
    reply_json (req, 200, TEXT ("true"));
}

//  The answer and its time are the same for known and unknown addresses.
void
password_forgot (req_t *req)
{
    row_t user = db_row (req, "user_find_email", req_str (req, "email"));
    if (!row_none (user))
        email_send_code (req, row_str (user, "id"), row_str (user, "email"), "reset");
    reply_message (req, 200, "If the address is known, a message with a code is on its way");
}

//  User whose code was right; fails the request otherwise.
static const char *
use_code (req_t *req, const char *purpose)
{
    char hash [65];
    const char *code = req_str (req, "confirmation_code");
    if (!code)
        code = req_str (req, "token");
    if (!code)
        fail_field (req, E_INVALID, "confirmation_code", "is required");
    sha256_hex (text_of (code), hash);
    unit_t *unit = unit_new (req);
    unit_add (unit, "code_use", req_str (req, "email"), purpose, hash);
    row_t row = unit_commit (unit);
    if (row_none (row) || !row_bool (row, "ok"))
        fail_field (req, E_INVALID, "confirmation_code", "is wrong or has expired");
    return row_str (row, "user_id");
}

void
password_reset (req_t *req)
{
    const char *password = req_str (req, "new_password");
    password_check (req, password, "new_password");  //  before the code is used up
    set_password (req, use_code (req, "reset"), password, NULL, RESET);
    reply_message (req, 200, RESET);
}

void
email_verify (req_t *req)
{
    const char *user = use_code (req, "verify");
    unit_t *unit = unit_new (req);
    unit_add (unit, "user_verified", user, audit_meta (req));
    unit_commit (unit);
    reply_message (req, 200, "Email verified");
}

void
email_verify_again (req_t *req)
{
    row_t user = db_row (req, "user_find_email", req_str (req, "email"));
    if (!row_none (user))
        email_send_code (req, row_str (user, "id"), row_str (user, "email"), "verify");
    reply_message (req, 200, "If the address is known, a message with a code is on its way");
}
