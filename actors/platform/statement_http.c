//  statement_http.c -- methods on statements: begin, wait, look, cancel.

#include <stdio.h>
#include <stdlib.h>

#include "proto/hash.h"
#include "statement.h"
#include "statement_call.h"

#define SWEEP_DAYS 30            //  that the history is kept
#define CONFIRMED_SOON 3000      //  ms in which an engine is expected to confirm
#define RELEASES 64              //  claims given back in one go

static hash_t *s_users;          //  whose claim we have, and whose results were added to

const field_t statement_answer [] = { { "statement_id", T_UUID },
                                      { "state", T_TEXT },
                                      { "state_detail", T_TEXT, NULLABLE },
                                      { "state_seq", T_INT },
                                      { "success", T_BOOL, NULLABLE },
                                      { "engine", T_TEXT },
                                      { "fallback", T_BOOL },
                                      { "asked", T_TEXT, NULLABLE },
                                      { "shared", T_BOOL },
                                      { "error", T_TEXT, NULLABLE },
                                      { "termination", T_JSON, NULLABLE },
                                      { "data", T_JSON, NULLABLE },
                                      { "rowCount", T_INT },
                                      { "executionTime", T_INT, NULLABLE },
                                      { "timestamp", T_TIME },
                                      { "live", T_OBJECT },
                                      { 0 } };

void
statement_claimed (const char *user)
{
    if (!s_users)
        s_users = hash_new (NULL);
    hash_put (s_users, text_of (user), s_users);
}

//  ---------------------------------------------------------------- answers

static void
s_put_live (req_t *req, buf_t *body, row_t row)
{
    mp_put_str (body, "live");
    mp_put_map (body, 3);
    mp_pair_str (body, "ch", row_str (row, "channel"));
    mp_pair_str (body, "epoch", req_actor (req)->epoch);
    mp_pair_int (body, "off", row_int (row, "_top"));
}

static void
s_put_json (buf_t *body, const char *name, const char *json)
{
    mp_put_str (body, name);
    if (json)
        mp_put_ext (body, MP_EXT_JSON, json, strlen (json));
    else
        mp_put_nil (body);
}

static void
s_put_flag (buf_t *body, const char *name, const char *flag)
{
    mp_put_str (body, name);
    if (flag)
        mp_put_bool (body, *flag == 't');
    else
        mp_put_nil (body);
}

//  `here`: the statement while it is in memory, else NULL.
static CO void
s_answer_row (req_t *req, const statement_t *here, row_t row, bool shared)
{
    const char *state = row_str (row, "state"), *ms = row_str (row, "executionTime");
    mp_t data = mp_none;
    if (strcmp (state, "succeeded") == 0)
        data = result_data (req, here, row);
    buf_t *body = req_buf (req);
    mp_put_map (body, 16);
    mp_pair_str (body, "statement_id", row_str (row, "id"));
    mp_pair_str (body, "state", state);
    mp_pair_str (body, "state_detail", row_str (row, "state_detail"));
    mp_pair_int (body, "state_seq", row_int (row, "state_seq"));
    s_put_flag (body, "success", row_str (row, "success"));
    mp_pair_str (body, "engine", row_str (row, "engine"));
    mp_pair_bool (body, "fallback", row_str (row, "asked") != NULL);
    mp_pair_str (body, "asked", row_str (row, "asked"));
    mp_pair_bool (body, "shared", shared);
    mp_pair_str (body, "error", row_str (row, "error"));
    s_put_json (body, "termination", row_str (row, "termination"));
    mp_pair (body, "data", data);
    mp_pair_int (body, "rowCount", row_int (row, "row_count"));
    mp_put_str (body, "executionTime");
    if (ms)
        mp_put_int (body, row_int (row, "executionTime"));
    else
        mp_put_nil (body);
    mp_pair_str (body, "timestamp", row_str (row, "timestamp"));
    s_put_live (req, body, row);
    reply_mp (req, row_str (row, "success") ? 200 : 202, mp_buf (body));
}

static CO void
s_answer (req_t *req, const char *id, bool shared)
{
    row_t row = db_row (req, "statement_get", req_user (req), id);
    if (row_none (row))
        fail (req, E_NOT_FOUND, "statement not found");
    s_answer_row (req, statement_find (req_user (req), id), row, shared);
}

static CO void
s_wait_and_answer (req_t *req, const char *id, int64_t ms, bool shared)
{
    statement_t *self = statement_find (req_user (req), id);
    if (self && ms > 0)
        statement_wait (req, self, ms);
    s_answer (req, id, shared);
}

static CO void
s_begin_and_answer (req_t *req, const char *method, begin_t how, int64_t ms)
{
    begun_t begun;
    if (!statement_begin (req, method, how, ms, &begun))
        return;
    if (begun.ended)
        s_answer_row (req, begun.ended, begun.row, begun.shared);
    else
        s_wait_and_answer (req, begun.id, ms, begun.shared);
}

//  POST /queries/execute
void
query_execute (req_t *req)
{
    s_begin_and_answer (req, "queries.execute", BEGIN_SHARED, req_wait (req, STATEMENT_WAIT));
}

//  POST /queries/explain
void
query_explain (req_t *req)
{
    s_begin_and_answer (req, "queries.explain", BEGIN_EXPLAIN, req_wait (req, STATEMENT_WAIT));
}

void
statement_submit (req_t *req)
{
    s_begin_and_answer (req, "statements.submit", BEGIN_ALONE, req_int (req, "wait_ms"));
}

//  Ours to write, whoever had the user before us.
static CO bool
s_here (req_t *req, const char *method)
{
    buf_t *params = req_buf (req);
    mp_put_map (params, 2);
    mp_pair_str (params, "id", req_id (req));
    mp_pair_int (params, "wait_ms", req_int (req, "wait_ms"));
    if (!req_user (req))
        fail (req, E_NOT_FOUND, "statement not found");
    return !req_elsewhere (req, statement_key (req, req_user (req)), method, mp_buf (params),
                           mp_none);
}

void
statement_await (req_t *req)
{
    if (s_here (req, "statements.await"))
        s_wait_and_answer (req, req_id (req), req_int (req, "wait_ms"), false);
}

//  GET /statements/:id
void
statement_get (req_t *req)
{
    row_t row = db_row (req, "statement_get", req_user (req), req_id (req));
    if (row_none (row))
        fail (req, E_NOT_FOUND, "statement not found");
    buf_t *body = req_buf (req);
    size_t mark = mp_open_map (body);
    uint32_t pairs = row_put (req, body, row);
    s_put_live (req, body, row);
    mp_close (body, mark, pairs + 1);
    reply_mp (req, 200, mp_buf (body));
}

static void
s_answer_nothing (req_t *req, row_t last, buf_t *body)
{
    (void) req, (void) last, (void) body;        //  asked again, it says what is so by then
}

//  An engine that takes its time: whoever looks is told that it is not forgotten.
static void
s_build_detail (unit_t *unit, void *arg)
{
    unit_add (unit, "statement_detail", ((statement_t *) arg)->id,
              "the engine has not confirmed yet that it stopped");
}

static CO void
s_escalate (req_t *req)
{
    statement_t *self = req_arg (req);
    if (!statement_wait (req, self, CONFIRMED_SOON) && !self->fenced)
        statement_commit (req, self, s_build_detail, self);
}

//  POST /statements/:id/cancel. It is over when the engine says so.
void
statement_stop (req_t *req)
{
    const char *user = req_user (req), *id = req_id (req);
    if (!s_here (req, "statements.cancel"))
        return;
    statement_claim (req, user);
    unit_t *unit = unit_new (req);
    unit_guard (unit, statement_key (req, user));
    unit_add (unit, "statement_cancelling", user, id);
    unit_answer (unit, s_answer_nothing);
    row_t row = unit_commit (unit);
    if (row_none (row))
        fail (req, E_NOT_FOUND, "statement not found");
    statement_t *self = statement_find (user, id);
    if (self && !self->cancelled) {
        statement_cancel (self);
        actor_spawn (req_actor (req), s_escalate, self);
    }
    s_answer (req, id, false);
}

//  ---------------------------------------------------------------- the life of the process

CO void
statements_orphans (req_t *req)
{
    unit_t *unit = unit_new (req);
    unit_add (unit, "statements_lost", "the process that ran it is gone", NULL);
    row_t rows = unit_commit (unit);
    if (rows_count (rows) > 0)
        log_warn ("statements are lost", "count", log_num (rows_count (rows)));
}

static CO void
s_expire (req_t *req, const char *user)
{
    long long store = strtoll (actor_opt (req_actor (req), "statement-store"), NULL, 10);
    unit_t *unit = unit_new (req);
    unit_add (unit, "statements_expire", user,
              user ? req_print (req, "%lld", store << 20) : NULL);
    unit_commit (unit);
}

//  Claims of users without statement are given back, and what they have stored is looked at.
CO void
statements_tick (req_t *req)
{
    const char *idle [RELEASES];
    size_t count = 0;
    text_t key;
    void *item;
    s_expire (req, NULL);
    for (size_t at = 0; s_users && count < RELEASES && hash_each (s_users, &at, &key, &item);) {
        const char *user = req_copy (req, key);
        if (!statements_of (user, false))
            idle [count++] = user;
    }
    for (size_t n = 0; n < count; n++) {
        s_expire (req, idle [n]);
        if (statements_of (idle [n], false))
            continue;
        hash_del (s_users, text_of (idle [n]));
        claim_release (req, statement_key (req, idle [n]));
    }
    unit_t *unit = unit_new (req);
    unit_add (unit, "statements_forget", req_print (req, "%d", SWEEP_DAYS));
    unit_commit (unit);
}

//  The user goes: what runs stops, and nothing is left to write to.
CO void
statements_gone (req_t *req, const char *user)
{
    statements_fenced (statement_key (req, user));
    unit_t *unit = unit_new (req);
    unit_add (unit, "statements_of_user_delete", user);
    unit_add (unit, "queries_of_user_delete", user);
    unit_commit (unit);
}

CO void
queries_of_workspace_gone (req_t *req, const char *workspace)
{
    unit_t *unit = unit_new (req);
    unit_add (unit, "queries_of_workspace_delete", workspace);
    unit_commit (unit);
}
