//  db.c -- the client as a whole: making and ending it, when lanes are usable, outcomes.

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "db/db_inner.h"

//  How long a lane without a connection lets those wait that were not sent yet.
#define LANE_PATIENCE 1000
#define TIMEOUT_DEFAULT 15000

static void
s_pump (void *arg)
{
    db_t *db = arg;
    ops_stopped (db);
    for (size_t n = 0; n < LANES; n++) {
        lane_t *lane = &db->lanes [n];
        if (lane->refusing || db->stopping) {
            lane_refuse (db, lane, "no connection");
            if (n == DB_WRITE)
                units_refuse (db, "no connection");
        }
        else if (n == DB_WRITE)
            units_run (db);
        else
            lane_run (db, lane);
    }
}

void
db_wake (db_t *db)
{
    loop_at_end (db->loop, &db->pump);
}

static void
s_patience_over (void *arg)
{
    lane_t *lane = arg;
    lane->refusing = true;
    db_wake (lane->conns->db);
}

static bool
s_lane_up (const lane_t *lane)
{
    for (size_t n = 0; n < lane->count; n++)
        if (lane->conns [n].state == CONN_UP)
            return true;
    return false;
}

static bool
s_all_up (const db_t *db)
{
    for (size_t n = 0; n < CONNS; n++)
        if (db->conns [n].state != CONN_UP)
            return false;
    return true;
}

void
conn_changed (conn_t *conn)
{
    db_t *db = conn->db;
    lane_t *lane = &db->lanes [conn->lane];
    if (conn->state == CONN_UP) {
        lane->refusing = false;
        ltimer_stop (lane->patience);
        if (!db->ready && db->checked)
            db->stats.reconnects++;
    }
    else if (!s_lane_up (lane) && !db->stopping)
        ltimer_set (lane->patience, LANE_PATIENCE);
    db_wake (db);
    if (db->ready && db->checked && s_all_up (db)) {
        void (*ready) (void *, const char *) = db->ready;
        db->ready = NULL;
        ready (db->ready_arg, NULL);
    }
}

bool
db_up (const db_t *db)
{
    return s_lane_up (&db->lanes [DB_WRITE]) && s_lane_up (&db->lanes [DB_READ]);
}

static void
s_lanes_new (db_t *db)
{
    static const size_t counts [LANES]
        = { [DB_READ] = READ_CONNS, [DB_WRITE] = 1, [DB_SLOW] = SLOW_CONNS };
    conn_t *conn = db->conns;
    for (size_t n = 0; n < LANES; n++) {
        lane_t *lane = &db->lanes [n];
        lane->conns = conn;
        lane->count = counts [n];
        lane->patience = loop_timer (db->loop, s_patience_over, lane);
        for (size_t c = 0; c < counts [n]; c++, conn++) {
            conn->db = db;
            conn->lane = (db_lane_t) n;
        }
    }
}

db_t *
db_new (loop_t *loop, const db_conf_t *conf)
{
    //  It becomes part of a setting.
    assert (conf->schema [strspn (conf->schema, "abcdefghijklmnopqrstuvwxyz0123456789_")] == 0);
    db_t *db = xcalloc (1, sizeof *db);
    db->loop = loop;
    db->conninfo = xstrdup (conf->conninfo);
    db->schema = xstrdup (conf->schema);
    db->who = xstrdup (conf->who);
    db->statement_timeout = conf->statement_timeout ? conf->statement_timeout : TIMEOUT_DEFAULT;
    db->pump = (hook_t) { .fn = s_pump, .arg = db };
    db->by_name = hash_new (NULL);
    db->by_text = hash_new (NULL);
    for (size_t n = 0; conf->sql && n < sql_count (conf->sql); n++) {
        const char *name = sql_name (conf->sql, n);
        db_statement (db, name, sql_text (conf->sql, name));
    }
    s_lanes_new (db);
    return db;
}

void
db_start (db_t *db, void (*ready) (void *arg, const char *error), void *arg)
{
    db->ready = ready;
    db->ready_arg = arg;
    for (size_t n = 0; n < CONNS; n++)
        conn_open (&db->conns [n]);
}

void
db_destroy (db_t **self_p)
{
    db_t *db = *self_p;
    if (!db)
        return;
    *self_p = NULL;
    db->stopping = true;
    for (size_t n = 0; n < CONNS; n++) {
        conn_t *conn = &db->conns [n];
        conn_close (conn);
        db_cancel_destroy (&conn->cancel);
        ltimer_end (&conn->timer);
        ltimer_end (&conn->deadline);
        buf_free (&conn->stale);
    }
    //  Whoever hears the refusal may ask for more.
    while (db->units.first || db->stopped.first || db->lanes [DB_READ].waiting.first
           || db->lanes [DB_SLOW].waiting.first)
        s_pump (db);
    loop_forget (db->loop, &db->pump);
    for (size_t n = 0; n < LANES; n++)
        ltimer_end (&db->lanes [n].patience);
    statements_free (db);
    free (db->outcome);
    explicit_bzero (db->conninfo, strlen (db->conninfo));
    free (db->conninfo);
    free (db->schema);
    free (db->who);
    free (db);
}

const db_stats_t *
db_stats (const db_t *db)
{
    return &db->stats;
}

//  ---- outcomes ----

db_result_t *
outcome_room (db_t *db, size_t count)
{
    if (db->outcome_room < count) {
        db->outcome_room = count;
        db->outcome = xrealloc (db->outcome, count * sizeof (db_result_t));
    }
    return db->outcome;
}

void
outcome_ok (db_result_t *out, PGresult *result)
{
    *out = (db_result_t) { .result = result, .code = E_NONE };
}

void
outcome_code (db_result_t *out, error_code_t code, const char *sqlstate, const char *raw)
{
    *out = (db_result_t) { .code = code, .text = error_text (code), .raw = raw };
    snprintf (out->sqlstate, sizeof out->sqlstate, "%s", sqlstate);
}

void
outcome_failed (db_result_t *out, const PGresult *error)
{
    const char *sqlstate = PQresultErrorField (error, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField (error, PG_DIAG_MESSAGE_PRIMARY);
    if (!sqlstate)
        sqlstate = "XX000";
    outcome_code (out, error_by_sqlstate (sqlstate), sqlstate, message);
    out->constraint = PQresultErrorField (error, PG_DIAG_CONSTRAINT_NAME);
    //  Only texts that our own SQL wrote for clients may reach them.
    if (sqlstate [0] == 'U' && sqlstate [1] == '0' && message)
        out->text = message;
}

bool
sqlstate_is (const PGresult *error, const char *sqlstate)
{
    const char *is = PQresultErrorField (error, PG_DIAG_SQLSTATE);
    return is && strcmp (is, sqlstate) == 0;
}
