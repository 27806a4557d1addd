//  repository_files.c -- what a fetched repository holds, and things made of its files.

#include <stdlib.h>

#include "repository.h"

#define SHOWN_MAX (8 << 20)  //  bytes of a file in an answer
#define FILE_MAX (1 << 20)   //  bytes of one that a deployment asks for
#define RESOLVE_S 20

const field_t repository_sync_in [] = {
    { "wait", T_REAL, .min = 0, .max = 600, .doc = "seconds to wait for the end (30)" }, { 0 } };
const field_t repository_path_in [] = {
    { "path", T_TEXT, .max = 4096, .doc = "within the repository; its root when absent" }, { 0 } };
const field_t repository_file_out [] = { { "name", T_TEXT },
                                         { "path", T_TEXT },
                                         { "type", T_ENUM, .values = "file|directory|link|module" },
                                         { "size", T_INT, NULLABLE },
                                         { "oid", T_TEXT },
                                         { 0 } };
const field_t repository_content_out [] = { { "path", T_TEXT },
                                            { "commit", T_TEXT },
                                            { "size", T_INT },
                                            { "encoding", T_ENUM, .values = "utf-8|base64" },
                                            { "content", T_TEXT },
                                            { 0 } };
const field_t repository_import_in [] = { { "path", T_TEXT, REQUIRED, .min = 1, .max = 4096 },
                                          { "workspace_id", T_UUID, NULLABLE },
                                          { "name", T_TEXT, .min = 1, .max = 255 },
                                          { 0 } };
const field_t repository_resolve_in [] = { { "user", T_UUID, REQUIRED },
                                           { "url", T_TEXT, REQUIRED, .max = 2000 },
                                           { "branch", T_TEXT, NULLABLE, .max = 240 },
                                           { "path", T_TEXT, NULLABLE, .max = 4096,
                                             .doc = "a file there, whose content is answered" },
                                           { 0 } };

typedef struct {
    const char *copy, *commit, *path;
    size_t max;
    buf_t *out;
    mirror_code_t code;
} look_t;

static void
s_list (void *arg)
{
    look_t *look = arg;
    look->code = mirror_list (look->copy, look->commit, look->path, look->out);
}

static void
s_read (void *arg)
{
    look_t *look = arg;
    look->code = mirror_read (look->copy, look->commit, look->path, look->max, look->out);
}

//  "a//b/" means "a/b".
static const char *
s_path (req_t *req)
{
    const char *given = req_str (req, "path");
    char *path = req_copy (req, text_of (given ? given : "")), *to = path;
    for (const char *from = path; *from; from++)
        if (*from != '/' || (to > path && to [-1] != '/'))
            *to++ = *from;
    if (to > path && to [-1] == '/')
        to--;
    *to = 0;
    return path;
}

static CO void
s_look (req_t *req, look_t *look, void (*fn) (void *))
{
    row_t row = db_row (req, "repository_secret", req_user (req), req_id (req));
    if (row_none (row))
        fail (req, E_NOT_FOUND, "repository not found");
    look->commit = row_str (row, "head_commit");
    if (!look->commit)
        fail (req, E_CONFLICT, "the repository has not been synced yet");
    look->copy = repository_copy (req, req_id (req));
    look->path = s_path (req);
    look->out = req_buf (req);
    repository_line (req, &(mirror_t) { 0 }, row, 0);
    if (!offload (req, fn, look))
        fail (req, E_UNAVAILABLE, NULL);
    switch (look->code) {
    case MIRROR_GOOD:
        return;
    case MIRROR_ABSENT:
        fail_field (req, E_NOT_FOUND, "path", "%s is not in the repository", look->path);
    case MIRROR_NOT_DIRECTORY:
        fail_field (req, E_INVALID, "path", "%s is no directory", look->path);
    case MIRROR_NOT_FILE:
        fail_field (req, E_INVALID, "path", "%s is no file", look->path);
    case MIRROR_TOO_LARGE:
        fail_field (req, E_TOO_LARGE, "path", "%s is larger than %zu bytes", look->path, look->max);
    default:
        fail (req, E_CONFLICT, "the copy of the repository is not whole: sync it again");
    }
}

CO void
repository_files (req_t *req)
{
    look_t look = { 0 };
    s_look (req, &look, s_list);
    reply_mp (req, 200, mp_buf (look.out));
}

CO void
repository_content (req_t *req)
{
    look_t look = { .max = SHOWN_MAX };
    s_look (req, &look, s_read);
    text_t content = buf_text (look.out);
    bool text = text_utf8 (content) && !memchr (content.data ? content.data : "", 0, content.size);
    buf_t *body = req_buf (req), *coded = req_buf (req);
    if (!text)
        base64_put (coded, content, false);
    mp_put_map (body, 5);
    mp_pair_str (body, "path", look.path);
    mp_pair_str (body, "commit", look.commit);
    mp_pair_int (body, "size", (int64_t) content.size);
    mp_pair_str (body, "encoding", text ? "utf-8" : "base64");
    mp_pair_text (body, "content", text ? content : buf_text (coded));
    reply_mp (req, 200, mp_buf (body));
}

//  ---- importing ----

//  A script is a notebook of one cell.
static void
s_put_script (buf_t *content, text_t script)
{
    char id [37];
    uuid_make (id);
    mp_put_map (content, 1);
    mp_put_str (content, "cells");
    mp_put_array (content, 1);
    mp_put_map (content, 3);
    mp_pair_str (content, "id", id);
    mp_pair_str (content, "type", "code");
    mp_pair_text (content, "content", script);
}

//  A query is made as if the caller had sent it.
static CO void
s_import_query (req_t *req, const char *workspace, const char *name, text_t sql)
{
    buf_t *body = req_buf (req);
    mp_put_map (body, 3);
    mp_pair_str (body, "name", name);
    mp_pair_str (body, "workspace_id", workspace);
    mp_pair_text (body, "query_text", sql);
    bus_reply_t reply = req_call (req, "queries.create", mp_none, mp_buf (body),
                                  &(req_call_t) {
                                      .key = req_print (req, "user:%s", req_user (req)) });
    if (reply.status >= 400)
        fail_reply (req, &reply);
    reply_mp (req, (unsigned) reply.status, reply.body);
}

static CO void
s_import_notebook (req_t *req, const char *owner, const char *workspace, const char *name,
                   const char *ending, text_t text)
{
    buf_t *content = req_buf (req), *document = req_buf (req), *json = req_buf (req);
    char language [16], why [160];
    const char *error = NULL;
    snprintf (language, sizeof language, "%s", strcmp (ending, ".py") == 0 ? "python" : ending + 1);
    if (strcmp (ending, ".ipynb") != 0)
        s_put_script (content, text);
    else if (!json_read (text, document, why, sizeof why))
        fail_field (req, E_INVALID, "path", "is no notebook document: %s", why);
    else if (!ipynb_read (mp_buf (document), content, language, &error))
        fail_field (req, E_INVALID, "path", "is no notebook document: %s", error);
    json_write (mp_buf (content), json);
    unit_t *unit = unit_new (req);
    unit_add (unit, "notebook_import", owner, workspace, name, language,
              req_copy (req, buf_text (json)));
    reply_row (req, 201, unit_commit (unit));
}

CO void
repository_import (req_t *req)
{
    static const char *const endings [] = { ".ipynb", ".py", ".r", ".scala", ".sql", NULL };
    look_t look = { .max = CONTENT_MAX };
    s_look (req, &look, s_read);
    const char *base = strrchr (look.path, '/'), *name = req_str (req, "name"),
               *workspace = req_str (req, "workspace_id"), *owner = req_user (req);
    base = base ? base + 1 : look.path;
    const char *dot = strrchr (base, '.'), *ending = NULL;
    for (size_t n = 0; dot && endings [n]; n++)
        if (strcasecmp (dot, endings [n]) == 0)
            ending = endings [n];
    if (!ending)
        fail_field (req, E_INVALID, "path", "must end with .ipynb, .py, .r, .scala or .sql");
    text_t text = buf_text (look.out);
    if (!text_utf8 (text) || memchr (text.data ? text.data : "", 0, text.size))
        fail_field (req, E_INVALID, "path", "%s is no text", look.path);
    if (workspace && strcmp (ending, ".sql") != 0)
        owner = row_str (workspace_of (req, workspace, "workspace_id", true), "user_id");
    if (!name)
        name = req_print (req, "%.*s", (int) (dot > base ? dot - base : 1), base);
    if (strcmp (ending, ".sql") == 0)
        s_import_query (req, workspace, name, text);
    else
        s_import_notebook (req, owner, workspace, name, ending, text);
}

//  ---- for a deployment ----

typedef struct {
    mirror_t mirror;
    look_t look;                     //  at a file; path NULL: only the commit
} resolve_t;

//  Whether it went well is said by line.error, too.
static void
s_resolve (void *arg)
{
    resolve_t *self = arg;
    if (!self->look.path)
        mirror_resolve (&self->mirror);
    else if (mirror_sync (&self->mirror)) {
        self->look.commit = self->mirror.commit;
        s_read (&self->look);
    }
}

static void
s_put_file (req_t *req, const resolve_t *self, buf_t *body)
{
    text_t content = buf_text (self->look.out);
    if (self->look.code == MIRROR_TOO_LARGE)
        fail_field (req, E_CONFLICT, "path", "%s is larger than %zu bytes", self->look.path,
                    self->look.max);
    if (self->look.code != MIRROR_GOOD)
        fail_field (req, E_CONFLICT, "path", "%s is no file of the repository", self->look.path);
    if (!text_utf8 (content))
        fail_field (req, E_CONFLICT, "path", "%s is no text", self->look.path);
    mp_pair_text (body, "content", content);
}

//  With the token of the user's repository of the same address, when they have one.
CO void
repository_resolve (req_t *req)
{
    const char *user = req_str (req, "user");
    resolve_t *self = req_alloc (req, sizeof *self);
    mirror_t *mirror = &self->mirror;
    row_t row = db_row (req, "repository_of_url", user, req_str (req, "url"));
    mirror->url = req_str (req, "url");
    mirror->branch = req_str (req, "branch");
    repository_line (req, mirror, row, RESOLVE_S);
    if (!row_none (row))
        mirror->line.password = repository_token (req, user, row);
    if (req_str (req, "path")) {
        if (row_none (row))
            fail_field (req, E_CONFLICT, "url", "is the address of none of your repositories");
        mirror->path = repository_copy (req, row_str (row, "id"));
        mirror->bytes_max = strtoll (actor_opt (req_actor (req), "repository-size"), NULL, 10)
                            << 20;
        self->look = (look_t) { .copy = mirror->path, .path = s_path (req), .max = FILE_MAX,
                                .out = req_buf (req) };
    }
    if (!offload (req, s_resolve, self))
        fail (req, E_UNAVAILABLE, NULL);
    if (*mirror->line.error)
        repository_fail (req, mirror);
    buf_t *body = req_buf (req);
    mp_put_map (body, self->look.path ? 3 : 2);
    mp_pair_str (body, "commit", mirror->commit);
    mp_pair_str (body, "branch", mirror->branch_found);
    if (self->look.path)
        s_put_file (req, self, body);
    reply_mp (req, 200, mp_buf (body));
}
