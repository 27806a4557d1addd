//  password.c -- bcrypt on the offload threads. An unknown user costs what a known one costs.

#include <crypt.h>

#include "identity.h"

//  Of a password nobody has; only its cost counts. Made at first use with the configured cost.
static char s_dummy [CRYPT_OUTPUT_SIZE];

typedef struct {
    char password [PASSWORD_MAX + 1];
    char setting [CRYPT_OUTPUT_SIZE];
    struct crypt_data crypt;
} work_t;

static void
wipe (void *arg)
{
    explicit_bzero (arg, sizeof (work_t));
}

static void
hash_one (void *arg)
{
    work_t *work = arg;
    if (!crypt_r (work->password, work->setting, &work->crypt))
        work->crypt.output [0] = 0;
}

//  The output field, or NULL when crypt refused the setting.
static const char *
hash_with (req_t *req, const char *password, const char *setting)
{
    work_t *work = req_alloc (req, sizeof (work_t));
    req_defer (req, wipe, work);
    strncpy (work->password, password, sizeof work->password - 1);
    strncpy (work->setting, setting, sizeof work->setting - 1);
    if (!offload (req, hash_one, work)) {
        reply_header (req, "Retry-After", "1");
        fail (req, E_RATE_LIMITED, "too many sign-ins at once, try again in a moment");
    }
    return work->crypt.output [0] == '$' ? work->crypt.output : NULL;
}

static const char *
new_setting (req_t *req)
{
    char salt [16], *setting = req_alloc (req, CRYPT_GENSALT_OUTPUT_SIZE);
    random_bytes (salt, sizeof salt);
    unsigned long cost = (unsigned long) opt_int (req_actor (req)->options, "bcrypt-cost");
    if (!crypt_gensalt_rn ("$2b$", cost, salt, sizeof salt, setting, CRYPT_GENSALT_OUTPUT_SIZE))
        fail (req, E_INTERNAL, "cannot make a password salt");
    return setting;
}

void
password_check (req_t *req, const char *password, const char *field)
{
    size_t size = strlen (password);
    if (size < PASSWORD_MIN)
        fail_field (req, E_INVALID, field, "must have at least %d characters", PASSWORD_MIN);
    if (size > PASSWORD_MAX)
        fail_field (req, E_INVALID, field, "must have at most %d bytes", PASSWORD_MAX);
}

const char *
password_hash (req_t *req, const char *password, const char *field)
{
    password_check (req, password, field);
    const char *hash = hash_with (req, password, new_setting (req));
    if (!hash)
        fail (req, E_INTERNAL, "cannot hash the password");
    return req_print (req, "%s", hash);
}

bool
password_fits (req_t *req, const char *password, const char *hash)
{
    if (!hash && !s_dummy [0]) {
        const char *made = hash_with (req, "nobody has this one", new_setting (req));
        snprintf (s_dummy, sizeof s_dummy, "%s", made ? made : "*");
    }
    const char *want = hash ? hash : s_dummy;
    bool too_long = strlen (password) > PASSWORD_MAX;
    const char *got = hash_with (req, too_long ? "" : password, want);
    return hash && got && !too_long && secret_eq (text_of (got), text_of (want));
}
