//  repository.c -- repositories as rows: what may be said of one, and what follows from a change.

#include <curl/curl.h>

#include "actors/kit/secret.h"
#include "repository.h"

#define URL_MAX 2000

//  Only what is fetched by our own hand, so that the guard sees every address.
static void
s_check_url (req_t *req)
{
    const char *text = req_str (req, "url");
    if (!text)
        return;
    for (const char *at = text; *at; at++)
        if ((unsigned char) *at <= ' ' || *at == '\\' || *at == 127)
            fail_field (req, E_INVALID, "url", "must not have blanks or backslashes");
    CURLU *url = curl_url ();
    char *scheme = NULL, *user = NULL, *host = NULL, *query = NULL;
    bool good = url
                && curl_url_set (url, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK
                && curl_url_get (url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK
                && (strcmp (scheme, "https") == 0 || strcmp (scheme, "http") == 0)
                && curl_url_get (url, CURLUPART_HOST, &host, 0) == CURLUE_OK;
    bool named = good && curl_url_get (url, CURLUPART_USER, &user, 0) == CURLUE_OK;
    bool asked = good && curl_url_get (url, CURLUPART_QUERY, &query, 0) == CURLUE_OK;
    curl_free (scheme);
    curl_free (user);
    curl_free (host);
    curl_free (query);
    curl_url_cleanup (url);
    if (!good)
        fail_field (req, E_INVALID, "url", "must begin with https:// or http:// and name a host");
    if (named)
        fail_field (req, E_INVALID, "url", "must not carry a username; there are fields for it");
    if (asked || strchr (text, '#'))
        fail_field (req, E_INVALID, "url", "must have no query and no fragment");
}

static void
s_check_branch (req_t *req)
{
    const char *branch = req_str (req, "branch");
    int valid = 0;
    mirror_init ();
    if (branch
        && (git_reference_name_is_valid (&valid, req_print (req, "refs/heads/%s", branch)) != 0
            || !valid))
        fail_field (req, E_INVALID, "branch", "%s is no name of a branch", branch);
}

static const char *
s_context (req_t *req, const char *user)
{
    return req_print (req, "%s/repositories/access_token", user);
}

static void
s_check (req_t *req)
{
    s_check_url (req);
    s_check_branch (req);
    const char *token = req_str (req, "access_token");
    if (!token)
        return;
    if (strpbrk (token, "\r\n"))
        fail_field (req, E_INVALID, "access_token", "must be one line");
    buf_t *sealed = req_buf (req);
    secret_seal (req_actor (req), text_of (token), s_context (req, req_user (req)), sealed);
    req_set (req, "access_token", req_copy (req, buf_text (sealed)));
}

const char *
repository_token (req_t *req, const char *user, row_t row)
{
    const char *sealed = row_str (row, "access_token");
    buf_t *token = req_buf (req);
    if (!sealed)
        return NULL;
    if (!secret_open (req_actor (req), text_of (sealed), s_context (req, user), token))
        fail (req, E_CONFLICT, "the access token cannot be opened any more: give it again");
    return req_copy (req, buf_text (token));
}

static CO void
s_before_update (req_t *req)
{
    s_check (req);
    if (!req_has (req, "url") && !req_has (req, "branch"))
        return;
    row_t row = db_row (req, "repository_secret", req_user (req), req_id (req));
    if (row_none (row))
        fail (req, E_NOT_FOUND, "repository not found");
    const char *url = req_str (req, "url"), *branch = req_str (req, "branch"),
               *was = row_str (row, "branch");
    bool moved = url && strcmp (url, row_str (row, "url")) != 0;
    //  Who may change a row need not know its token, and must not have it sent elsewhere.
    if (moved && row_str (row, "access_token") && !req_has (req, "access_token"))
        fail_field (req, E_INVALID, "access_token", "must be given again when url changes");
    bool other = req_has (req, "branch") && strcmp (branch ? branch : "", was ? was : "") != 0;
    if (!moved && !other)
        return;
    if (strcmp (row_str (row, "status"), "syncing") == 0)
        fail_field (req, E_CONFLICT, moved ? "url" : "branch",
                    "cannot change while the repository is syncing");
    //  What was fetched is not what it names now.
    req_set (req, "head_commit", NULL);
    req_set (req, "head_branch", NULL);
    req_set (req, "last_sync", NULL);
    req_set (req, "status", "connected");
    req_set (req, "state_detail", "never_synced");
}

static void
s_after_change (req_t *req, const char *id, const char *what)
{
    if (strcmp (what, "deleted") == 0)
        repository_forget (req_actor (req), id);
}

const resource_t repository = {
    .name = "repository",
    .path = "/repositories",
    .table = "repositories",
    .ops = CRUD,
    .owner = "user_id",
    .before_create = s_check,
    .before_update = s_before_update,
    .after_change = s_after_change,
    .tag = "repositories",
    .doc = "a git repository that notebooks and queries come from",
    .fields = (const field_t []) {
        { "provider", T_ENUM, FILTER, .values = REPOSITORY_NAMES, .def = "generic" },
        { "name", T_TEXT, REQUIRED | FILTER | SORT, .min = 1, .max = 255 },
        { "url", T_TEXT, REQUIRED, .min = 8, .max = URL_MAX },
        { "branch", T_TEXT, NULLABLE, .min = 1, .max = 240, .doc = "null: the server's default" },
        { "username", T_TEXT, NULLABLE, .max = 255 },
        { "access_token", T_TEXT, SECRET | NULLABLE, .min = 1, .max = 4096,
          .doc = "given again, or null, when url changes" },
        { "has_token", T_BOOL, READONLY, .sql = "t.access_token IS NOT NULL" },
        { "description", T_TEXT, NULLABLE },
        { "status", T_ENUM, READONLY | FILTER, .values = "connected|syncing|error" },
        { "state_detail", T_ENUM, READONLY,
          .values = "never_synced|syncing|synced|failed|lost" },
        { "state_seq", T_INT, READONLY },
        { "termination", T_OBJECT, READONLY | NULLABLE },
        { "last_sync", T_TIME, READONLY | NULLABLE },
        { "head_commit", T_TEXT, READONLY | NULLABLE },
        { "head_branch", T_TEXT, READONLY | NULLABLE },
        { "size_bytes", T_INT, READONLY | NULLABLE },
        { 0 } }
};

CO void
repositories_gone (req_t *req, const char *user)
{
    row_t rows = db_rows (req, "repositories_of_user", user);
    for (int n = 0; n < rows_count (rows); n++) {
        const char *id = row_str (rows_at (rows, n), "id");
        unit_t *unit = unit_new (req);
        unit_add (unit, "repository_delete", id);
        unit_commit (unit);
        repository_forget (req_actor (req), id);
    }
}
