//  repository.h -- git repositories of users: fetched into bare copies, listed, read, imported
//  from.

#ifndef REPOSITORY_H
#define REPOSITORY_H

#include "mirror.h"
#include "platform.h"

#define REPOSITORY_NAMES "github|gitlab|bitbucket|generic"

extern const resource_t repository;
extern const field_t repository_sync_in [], repository_path_in [], repository_file_out [],
    repository_content_out [], repository_import_in [], repository_resolve_in [];

//  repository.c: fetch now; 200 when it is done in time, else 202.
CO void repository_sync (req_t *req);
//  repository_files.c
CO void repository_files (req_t *req);
CO void repository_content (req_t *req);
CO void repository_import (req_t *req);
CO void repository_resolve (req_t *req);

//  repository_sync.c

//  The opened token of a row, or NULL; fails the request when it cannot be opened.
const char *repository_token (req_t *req, const char *user, row_t row);
//  What every conversation with a server is given. `deadline`: seconds.
void repository_line (req_t *req, mirror_t *mirror, row_t row, int64_t deadline);
//  Where its copy is.
const char *repository_copy (req_t *req, const char *id);
//  Fails the request with what a conversation ended with.
void repository_fail (req_t *req, const mirror_t *mirror) __attribute__ ((noreturn));
//  A fetch that somebody else waits for goes no further, and the copy goes.
void repository_forget (actor_t *actor, const char *id);
//  Fetches of processes that are gone have ended.
CO void repositories_watch (req_t *req);
//  Break off what runs.
void repositories_drain (void);
CO void repositories_gone (req_t *req, const char *user);

#define REPOSITORY_OPTIONS                                                                     \
    { "repository-allow", OPT_STR, "", 0, NULL,                                                \
      "host:port,… of git servers on private addresses that users may reach" },                \
    { "repository-size", OPT_INT, "512", 0, NULL, "MiB that the copy of a repository may take" }, \
    { "repository-deadline", OPT_INT, "600", 0, NULL, "seconds that a fetch may take" }

#define REPOSITORY_ROUTES                                                                      \
    RESOURCE (repository),                                                                     \
    ACTION ("repositories.sync", "POST", "/repositories/:id/sync", repository_sync,            \
            .resource = &repository, .spec.in = repository_sync_in, .spec.key = "user",        \
            .spec.blocking = true, .spec.timeout = 630000,                                     \
            .spec.events = "repository.syncing|repository.synced|repository.failed",           \
            .spec.doc = "Fetch the repository; 202 when that takes longer than ?wait="),       \
    ACTION ("repositories.files", "GET", "/repositories/:id/files", repository_files,          \
            .spec.in = repository_path_in, .spec.out = repository_file_out,                    \
            .spec.reply = "array", .spec.idempotent = true,                                    \
            .spec.doc = "What a directory of the fetched branch holds"),                       \
    ACTION ("repositories.content", "GET", "/repositories/:id/content", repository_content,    \
            .spec.in = repository_path_in, .spec.out = repository_content_out,                 \
            .spec.idempotent = true, .spec.doc = "A file of the fetched branch"),              \
    ACTION ("repositories.import", "POST", "/repositories/:id/import", repository_import,      \
            .spec.in = repository_import_in, .spec.status = 201, .spec.key = "user",           \
            .spec.events = "notebook.created",                                                 \
            .spec.doc = "A notebook (.ipynb, .py, .r, .scala) or a query (.sql) from a file"), \
    ACTION ("repositories.resolve", NULL, NULL, repository_resolve,                            \
            .spec.auth = AUTH_OPERATOR, .spec.in = repository_resolve_in,                      \
            .spec.timeout = 60000, .spec.doc = "Which commit a branch points to now")

#endif
