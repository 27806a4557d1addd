//  repository_sync.c -- fetching: libgit2 works on a thread of its own, a coroutine tells how far
//  it is and keeps the row's lease. Whoever asked may wait for the end or not.

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "repository.h"

#define SYNCS_MAX 4          //  at once, in one process
#define LOOK_MS 500
#define LEASE_EVERY 4        //  looks
#define LEASE_S "10"         //  without a word from us, others say that it is lost
#define AGAIN_MS 500
#define LOOKS_AFTER 20

typedef struct sync {
    struct sync *next;
    actor_t *actor;
    char *id, *user, *token, *url, *branch, *name, *password, *allow, *copy;
    mirror_t mirror;
    atomic_bool stop;
    bool good, over, told;   //  of the thread: its result, its end; the row says so, too
    bool deleted;
    req_t *worker, *waiter;
    long long shown;         //  bytes, as was told last
} sync_t;

static sync_t *s_syncs;
static size_t s_count;

const char *
repository_copy (req_t *req, const char *id)
{
    return req_print (req, "%s/repositories/%s.git", req_actor (req)->var_dir, id);
}

void
repository_line (req_t *req, mirror_t *mirror, row_t row, int64_t deadline)
{
    struct timespec now;
    mirror_init ();
    clock_gettime (CLOCK_MONOTONIC, &now);
    mirror->line.deadline = (now.tv_sec + deadline) * 1000 + now.tv_nsec / 1000000;
    mirror->line.allow = actor_opt (req_actor (req), "repository-allow");
    mirror->line.user = row_str (row, "username");
}

void
repository_fail (req_t *req, const mirror_t *mirror)
{
    if (*mirror->raw)
        log_info ("git server refused", "why", mirror->line.error, "git", mirror->raw);
    fail (req, mirror->line.fault ? E_CONFLICT : E_UPSTREAM, "%s", mirror->line.error);
}

//  ---- the thread ----

static void
s_ended (void *arg)
{
    sync_t *self = arg;
    self->over = true;
    req_wake (self->worker);
}

static void *
s_fetch (void *arg)
{
    sync_t *self = arg;
    self->good = mirror_sync (&self->mirror);
    loop_post (self->actor->loop, s_ended, self);
    return NULL;
}

//  ---- the coroutine beside it ----

static void
s_free (void *arg)
{
    sync_t *self = arg;
    for (sync_t **at = &s_syncs; *at; at = &(*at)->next)
        if (*at == self) {
            *at = self->next;
            break;
        }
    s_count--;
    if (self->password)
        explicit_bzero (self->password, strlen (self->password));
    char *const texts [] = { self->id, self->user, self->token, self->url, self->branch,
                             self->name, self->password, self->allow, self->copy };
    for (size_t n = 0; n < sizeof texts / sizeof *texts; n++)
        free (texts [n]);
    free (self);
}

static void
s_progress (req_t *req, sync_t *self)
{
    long long bytes = atomic_load (&self->mirror.bytes);
    if (bytes == self->shown)
        return;
    self->shown = bytes;
    const char *data = req_print (req, "{\"bytes\": %lld, \"objects\": %u, \"objects_all\": %u}",
                                  bytes, atomic_load (&self->mirror.objects),
                                  atomic_load (&self->mirror.objects_all));
    live_append (self->actor, req_print (req, "user:%s/repositories/%s", self->user, self->id),
                 NULL, "sync.progress", text_of (data), NULL, NULL);
}

static CO void
s_keep_lease (req_t *req, sync_t *self)
{
    unit_t *unit = unit_new (req);
    unit_add (unit, "repository_sync_goes_on", self->id, self->token, LEASE_S);
    db_result_t result = unit_try (unit);
    //  Deleted, or somebody gave us up for lost.
    if (result.code == E_NONE && PQntuples (result.result) == 0)
        atomic_store (&self->stop, true);
}

static const char *
s_termination (req_t *req, const sync_t *self)
{
    const git_line_t *line = &self->mirror.line;
    if (self->good)
        return "{\"code\": \"SUCCESS\", \"type\": \"SUCCESS\", \"message\": null}";
    buf_t *out = req_buf (req);
    buf_putf (out, "{\"code\": \"%s\", \"type\": \"%s\", \"message\": ",
              line->fault ? "REPOSITORY_REFUSED" : "REPOSITORY_UNREACHABLE",
              line->fault ? "CLIENT_ERROR" : "INFRASTRUCTURE");
    json_quote (text_of (line->error), out);
    buf_puts (out, "}");
    return req_copy (req, buf_text (out));
}

static CO void
s_finish (req_t *req, sync_t *self)
{
    const mirror_t *mirror = &self->mirror;
    const char *size = req_print (req, "%lld", (long long) mirror->size);
    for (;;) {
        unit_t *unit = unit_new (req);
        unit_add (unit, "repository_sync_end", self->id, self->token, s_termination (req, self),
                  self->good ? mirror->commit : NULL, self->good ? mirror->branch_found : NULL,
                  size);
        db_result_t result = unit_try (unit);
        if (result.code == E_NONE || !error_retry (result.code))
            break;
        req_sleep (req, AGAIN_MS);
    }
    if (!self->good)
        log_info ("repository is not fetched", "repository", self->id, "why", mirror->line.error,
                  "git", mirror->raw);
}

static CO void
s_run (req_t *req)
{
    sync_t *self = req_arg (req);
    pthread_t thread;
    self->worker = req;
    req_defer (req, s_free, self);
    if (pthread_create (&thread, NULL, s_fetch, self) != 0)
        abort ();
    pthread_detach (thread);
    for (unsigned looks = 1; !self->over; looks++) {
        req_sleep (req, LOOK_MS);
        s_progress (req, self);
        if (looks % LEASE_EVERY == 0 && !self->over)
            s_keep_lease (req, self);
    }
    s_finish (req, self);
    if (self->deleted)
        mirror_remove (self->copy);
    self->told = true;
    if (self->waiter)
        req_wake (self->waiter);
}

//  ---- who asks for it ----

static char *
s_dup (const char *text)
{
    return text ? xstrdup (text) : NULL;
}

static sync_t *
s_new (req_t *req, row_t row, const char *token, const char *password)
{
    actor_t *actor = req_actor (req);
    sync_t *self = xcalloc (1, sizeof *self);
    char *all = text_format ("%s/repositories", actor->var_dir);
    mkdir (all, 0700);
    free (all);
    self->actor = actor;
    self->id = s_dup (row_str (row, "id"));
    self->user = s_dup (row_str (row, "user_id"));
    self->url = s_dup (row_str (row, "url"));
    self->branch = s_dup (row_str (row, "branch"));
    self->name = s_dup (row_str (row, "username"));
    self->token = s_dup (token);
    self->password = s_dup (password);
    self->copy = s_dup (repository_copy (req, self->id));
    mirror_t *mirror = &self->mirror;
    repository_line (req, mirror, row,
                     strtoll (actor_opt (actor, "repository-deadline"), NULL, 10));
    self->allow = s_dup (mirror->line.allow);
    mirror->url = self->url;
    mirror->branch = self->branch;
    mirror->path = self->copy;
    mirror->bytes_max = strtoll (actor_opt (actor, "repository-size"), NULL, 10) << 20;
    mirror->line.allow = self->allow;
    mirror->line.user = self->name;
    mirror->line.password = self->password;
    mirror->line.stop = &self->stop;
    self->next = s_syncs;
    s_syncs = self;
    s_count++;
    return self;
}

static sync_t *
s_find (const char *token)
{
    for (sync_t *self = s_syncs; self; self = self->next)
        if (strcmp (self->token, token) == 0)
            return self;
    return NULL;
}

static void
s_leave (void *token)
{
    sync_t *self = s_find (token);
    if (self)
        self->waiter = NULL;
}

//  True when it came to its end in time.
static CO bool
s_wait (req_t *req, char *token, int64_t ms)
{
    int64_t until = loop_now (req_actor (req)->loop) + ms;
    sync_t *self = s_find (token);
    if (self)
        self->waiter = req;
    req_defer (req, s_leave, token);
    while ((self = s_find (token)) && !self->told && !req_cancelled (req)) {
        int64_t left = until - loop_now (req_actor (req)->loop);
        if (left <= 0)
            return false;
        req_sleep (req, left);
    }
    return true;
}

CO void
repository_sync (req_t *req)
{
    const char *user = req_user (req), *id = req_id (req);
    int64_t wait = req_wait (req, 30000);
    row_t row = db_row (req, "repository_secret", user, id);
    if (row_none (row))
        fail (req, E_NOT_FOUND, "repository not found");
    if (s_count >= SYNCS_MAX)
        fail (req, E_UNAVAILABLE, "%d repositories are being fetched already", SYNCS_MAX);
    const char *password = repository_token (req, user, row);
    char *token = req_alloc (req, 37);
    uuid_make (token);
    unit_t *unit = unit_new (req);
    unit_add (unit, "repository_sync_begin", user, id, token, LEASE_S);
    row_t begun = unit_commit (unit);
    if (row_none (begun))
        fail (req, E_NOT_FOUND, "repository not found");
    if (!row_str (begun, "id"))
        fail_field (req, E_CONFLICT, "status", "repository is %s already", row_str (begun, "was"));
    sync_t *self = s_new (req, begun, token, password);
    if (!actor_spawn (self->actor, s_run, self)) {
        s_free (self);
        fail (req, E_UNAVAILABLE, "too much goes on already");
    }
    bool ended = s_wait (req, token, wait);
    row_t now = db_row (req, "repository_get", user, id);
    if (row_none (now))
        fail (req, E_NOT_FOUND, "repository was deleted meanwhile");
    reply_row (req, ended ? 200 : 202, now);
}

//  ---- ends ----

static void
s_remove (void *copy)
{
    mirror_remove (copy);
}

static CO void
s_remove_later (req_t *req)
{
    char *copy = req_arg (req);
    req_defer (req, free, copy);
    for (int n = 0; n < LOOKS_AFTER && !offload (req, s_remove, copy); n++)
        req_sleep (req, AGAIN_MS);
}

void
repository_forget (actor_t *actor, const char *id)
{
    for (sync_t *self = s_syncs; self; self = self->next)
        if (strcmp (self->id, id) == 0) {
            self->deleted = true;
            atomic_store (&self->stop, true);
            return;
        }
    char *copy = text_format ("%s/repositories/%s.git", actor->var_dir, id);
    if (!actor_spawn (actor, s_remove_later, copy))
        free (copy);
}

CO void
repositories_watch (req_t *req)
{
    unit_t *unit = unit_new (req);
    unit_add (unit, "repositories_lost");
    row_t rows = unit_commit (unit);
    for (int n = 0; n < rows_count (rows); n++)
        log_warn ("fetch is lost", "repository", row_str (rows_at (rows, n), "id"));
}

void
repositories_drain (void)
{
    for (sync_t *self = s_syncs; self; self = self->next)
        atomic_store (&self->stop, true);
}
