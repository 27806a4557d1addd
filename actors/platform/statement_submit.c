//  statement_submit.c -- a statement begins: which engine, with what, and whether one of the same
//  kind runs already.

#include <stdio.h>
#include <stdlib.h>

#include "proto/token.h"
#include "sqltext.h"
#include "statement.h"
#include "statement_call.h"

#define WAIT_MAX 200         //  statements of one user that run or wait
#define FIRST_TRIES 2
#define LIKE_LOOK 5          //  ms
#define BEGINNING 14         //  parameters of statement_add before those of the end
#define SMALL 20             //  ms in which a small one ends: its row is written with its end

typedef struct {
    const char *user, *sql, *asked, *source, *cluster, *idem, *parameters;
    const engine_t *engine;
    params_t params;
    int64_t rows, bytes, timeout, wait;
    bool explain, streams, alone;
} wish_t;

//  ---------------------------------------------------------------- which engine

static const struct {
    const char *engine, *setting;
} s_settings [] = { { "trino", "trino-url" }, { "spark", "spark-url" },
                    { "snowflake", "snowflake-url" } };

static void
s_not_configured (req_t *req, const char *engine)
{
    const char *setting = "";
    for (size_t n = 0; n < sizeof s_settings / sizeof *s_settings; n++)
        if (strcmp (engine, s_settings [n].engine) == 0)
            setting = s_settings [n].setting;
    const char *value = actor_opt (req_actor (req), setting);
    buf_t *details = req_buf (req);
    mp_put_map (details, 2);
    mp_pair_str (details, "engine", value && *value ? "has no driver here" : "is not configured");
    mp_pair_str (details, "setting", req_print (req, "platform.%s", setting));
    fail_details (req, E_CONFLICT, mp_buf (details),
                  value && *value ? "there is no driver for engine %s, which platform.%s names"
                                  : "engine %s is not configured: set platform.%s",
                  engine, setting);
}

static CO void
s_choose (req_t *req, wish_t *wish)
{
    const char *engine = req_str (req, "engine");
    void *target;
    wish->engine = &engine_guest;
    if (wish->source)
        wish->engine = engine_of_source (req, wish->user, wish->source, &target);
    else if (engine && strcmp (engine, "trino") == 0 && trino_is_configured (req_actor (req)))
        wish->engine = &engine_trino;
    else if (engine && strcmp (engine, "postgresql") != 0) {
        if (!req_bool (req, "fallback"))
            s_not_configured (req, engine);
        wish->asked = engine;
    }
}

//  ---------------------------------------------------------------- what is wished

static void
s_check_cluster (req_t *req, const char *user, const char *cluster)
{
    buf_t *body = req_buf (req);
    mp_put_map (body, 2);
    mp_pair_str (body, "id", cluster);
    mp_pair_str (body, "user", user);
    bus_reply_t reply = req_call (req, "compute_clusters.check", mp_none, mp_buf (body),
                                  &(req_call_t){ .operator= true, .idempotent = true });
    if (reply.status == 404)
        fail_field (req, E_NOT_FOUND, "cluster_id", "no such compute cluster");
    if (reply.status >= 400)
        fail_reply (req, &reply);
}

void
cluster_check (req_t *req, const char *user, const char *field)
{
    if (req_str (req, field))
        s_check_cluster (req, user, req_str (req, field));
}

static int64_t
s_given (req_t *req, const char *field, int64_t otherwise)
{
    return req_str (req, field) ? req_int (req, field) : otherwise;
}

//  The parameters as a JSON array of their texts, so that the history shows them.
static const char *
s_parameters (req_t *req)
{
    return mp_empty (req_any (req, "parameters")) ? NULL : req_json (req, "parameters");
}

static CO void
s_read (req_t *req, wish_t *wish)
{
    text_t sql = req_text (req, "query");
    if (!sql.size)
        sql = req_text (req, "sql");
    sql = sql_trim (sql);
    if (!sql.size)
        fail_field (req, E_INVALID, "query", "is required");
    if (memchr (sql.data, 0, sql.size))
        fail_field (req, E_INVALID, "query", "contains a zero byte");
    wish->user = req_user (req);
    if (!wish->user)
        fail (req, E_FORBIDDEN, "statements belong to users: say in whose name");
    wish->sql = req_copy (req, sql);
    wish->source = req_str (req, "source_id");
    wish->cluster = req_str (req, "cluster_id");
    wish->explain = wish->explain || req_bool (req, "explain");
    wish->timeout = s_given (req, "timeout", STATEMENT_TIMEOUT);
    wish->rows = s_given (req, "row_limit", wish->streams ? INT64_MAX : STATEMENT_ROWS);
    wish->bytes = s_given (req, "byte_limit", wish->streams ? INT64_MAX : STATEMENT_BYTES);
    wish->parameters = s_parameters (req);
    params_read (req, req_any (req, "parameters"), wish->sql, &wish->params);
    mp_t key = req_meta (req, "idempotency_key");
    wish->idem = req_str (req, "idempotency_key");
    if (!wish->idem && !mp_empty (key))
        wish->idem = req_copy (req, mp_text (key));
    s_choose (req, wish);
    if (wish->cluster)
        s_check_cluster (req, wish->user, wish->cluster);
}

static char *
s_likeness (req_t *req, const wish_t *wish)
{
    if (wish->streams || wish->alone || wish->idem
        || !(wish->explain || sql_is_read (wish->sql)))
        return NULL;
    buf_t *all = req_buf (req);
    buf_putf (all, "%s\n%s\n%d %lld %lld %lld\n", wish->engine->name,
              wish->source ? wish->source : "", wish->explain, (long long) wish->rows,
              (long long) wish->bytes, (long long) wish->timeout);
    for (size_t n = 0; n < wish->params.count; n++) {
        const param_t *param = &wish->params.list [n];
        buf_putf (all, "%d %zu ", param->type, param->text ? strlen (param->text) + 1 : 0);
        buf_puts (all, param->text ? param->text : "");
    }
    buf_puts (all, wish->params.sql);
    char *hash = xmalloc (65);
    sha256_hex (buf_text (all), hash);
    return hash;
}

//  ---------------------------------------------------------------- the claim

static void
s_answer_nothing (req_t *req, row_t last, buf_t *body)
{
    //  A repeated request is answered from the statement, which goes on meanwhile.
    (void) req, (void) last, (void) body;
}

//  What an instance began that had the user before us, it cannot end any more.
CO void
statement_claim (req_t *req, const char *user)
{
    const char *key = statement_key (req, user);
    bool fresh = claim_take (req, key);
    statement_claimed (user);
    if (!fresh)
        return;
    unit_t *unit = unit_new (req);
    unit_guard (unit, key);
    unit_also (unit, "statements_lost", "the process that ran it is gone", user);
    unit_commit (unit);
}

//  ---------------------------------------------------------------- it begins

static const char *
s_number (req_t *req, int64_t number)
{
    return req_print (req, "%lld", (long long) number);
}

static statement_t *
s_new (req_t *req, const wish_t *wish)
{
    statement_t *self = statement_new (wish->user, wish->engine, wish->source, &wish->params);
    self->explain = wish->explain;
    self->streams = wish->streams;
    self->rows = wish->rows == INT64_MAX ? SIZE_MAX : (size_t) wish->rows;
    self->bytes = wish->bytes == INT64_MAX ? SIZE_MAX : (size_t) wish->bytes;
    self->deadline = wish->timeout * 1000;
    self->likeness = s_likeness (req, wish);
    return self;
}

//  Its place is taken before its row is written: what comes meanwhile waits behind it.
static void
s_drop (void *arg)
{
    statement_t **self_p = arg;
    if (*self_p)
        statement_drop (self_p);
}

//  The id of one that does the same and has not ended; NULL: there is none. Its row may be on its
//  way.
static CO const char *
s_like (req_t *req, const wish_t *wish)
{
    char *likeness = s_likeness (req, wish);
    req_defer (req, free, likeness);
    statement_t *like;
    while (likeness && (like = statement_like (wish->user, likeness))) {
        if (like->written)
            return req_copy (req, text_of (like->id));
        req_sleep (req, LIKE_LOOK);
        if (req_cancelled (req) || req_left (req) == 0)
            fail (req, E_TIMEOUT, NULL);
    }
    return NULL;
}

//  Its row; with its end when that waits for it.
static CO db_result_t
s_add (req_t *req, const wish_t *wish, const statement_t *self, int64_t ago)
{
    const char *params [BEGINNING + STATEMENT_ENDING] = {
        self->id, wish->user, wish->sql, wish->engine->name, wish->asked, wish->source,
        wish->cluster, wish->parameters, wish->explain ? "true" : "false",
        s_number (req, wish->rows), s_number (req, wish->bytes), s_number (req, wish->timeout),
        wish->idem, s_number (req, ago) };
    statement_ending (self, params + BEGINNING);
    unit_t *unit = unit_new (req);
    unit_guard (unit, statement_key (req, wish->user));
    unit_add_ (unit, "statement_add", params, BEGINNING + STATEMENT_ENDING);
    unit_answer (unit, s_answer_nothing);
    return unit_try (unit);
}

static void
s_start (req_t *req, statement_t *self)
{
    if (statement_start (req_actor (req), self))
        return;
    self->over = true;
    log_error ("statement is not run", "id", self->id, "why", "too much goes on at once");
    statement_drop (&self);
    fail (req, E_RATE_LIMITED, "too much goes on at once");
}

//  Whoever began it looks at it until its own request ends. Without a row it never was.
static void
s_let_go (void *arg)
{
    statement_t *self = arg;
    self->beginner = NULL;
    if (!self->written) {
        self->fenced = true;
        statement_cancel (self);
    }
    if (self->runner)
        req_wake (self->runner);
    statement_free (self);
}

//  One that changes nothing may begin before its row is there. When it ends soon, both are one
//  commit. False: another instance has the user.
static CO bool
s_begin_small (req_t *req, const wish_t *wish, statement_t *self, begun_t *out)
{
    loop_t *loop = req_actor (req)->loop;
    int64_t began = loop_now (loop), left;
    s_start (req, self);
    self->beginner = req;
    req_defer (req, s_let_go, self);
    while (!self->wants && !self->over && (left = began + SMALL - loop_now (loop)) > 0)
        req_sleep (req, left);
    if (self->over)
        fail (req, E_UNAVAILABLE, NULL);
    bool ends = self->end != NULL;
    db_result_t result = s_add (req, wish, self, loop_now (loop) - began);
    if (claim_is_fence (&result))
        return false;
    if (result.code != E_NONE)
        fail_result (req, &result);
    self->written = true;
    self->settled = ends;
    if (ends) {
        out->row = (row_t) { result.result, 0 };
        out->ended = self;
    }
    else if (self->runner)
        req_wake (self->runner);
    return true;
}

static CO bool
s_begin (req_t *req, const wish_t *wish, statement_t *self, begun_t *out)
{
    statement_t **self_p = req_alloc (req, sizeof *self_p);
    *self_p = self;
    req_defer (req, s_drop, self_p);
    db_result_t result = s_add (req, wish, self, 0);
    if (claim_is_fence (&result))
        return false;
    if (result.code != E_NONE)
        fail_result (req, &result);
    if (PQntuples (result.result) == 0) {
        statement_drop (self_p);
        row_t row = db_row (req, "statement_again", wish->user, wish->idem);
        out->id = row_none (row) ? NULL : req_copy (req, text_of (row_str (row, "id")));
        return out->id != NULL;
    }
    *self_p = NULL;
    self->written = true;
    if (wish->streams)
        self->listener = req;
    s_start (req, self);
    return true;
}

static CO bool
s_try (req_t *req, const wish_t *wish, begun_t *out)
{
    const char *user = wish->user;
    statement_claim (req, user);
    if (statements_of (user, false) >= WAIT_MAX)
        fail (req, E_RATE_LIMITED, "%d statements of yours wait already", WAIT_MAX);
    *out = (begun_t) { .id = s_like (req, wish), .row.row = -1 };
    out->shared = out->id != NULL;
    if (out->shared)
        return true;
    statement_t *self = s_new (req, wish);
    self->running = statement_has_place (user);
    uuid_make (self->id);
    out->id = req_copy (req, text_of (self->id));
    bool small = wish->wait > 0 && !wish->idem && !wish->streams && self->running
                 && wish->engine == &engine_guest
                 && (wish->explain || sql_is_read (wish->sql));
    return small ? s_begin_small (req, wish, self, out) : s_begin (req, wish, self, out);
}

CO bool
statement_begin (req_t *req, const char *method, begin_t how, int64_t wait, begun_t *out)
{
    wish_t wish = { .explain = how == BEGIN_EXPLAIN, .streams = how == BEGIN_STREAM,
                    .alone = how == BEGIN_ALONE, .wait = wait };
    s_read (req, &wish);
    for (int tries = 0; tries < FIRST_TRIES; tries++) {
        if (how != BEGIN_STREAM
            && req_elsewhere (req, statement_key (req, wish.user), method, mp_none,
                              req_body (req)))
            return false;
        if (s_try (req, &wish, out))
            return true;
    }
    fail (req, E_UNAVAILABLE, "another instance has taken over");
}
