//  db_conn.c -- the life of a connection: dialling, its first words, flushing, loss, coming back.

#include <stdio.h>
#include <stdlib.h>

#include "db/db_inner.h"
#include "proto/fault.h"
#include "proto/log.h"

#define BACKOFF_MIN 50
#define BACKOFF_MAX 2000
#define DIAL_PATIENCE 5000
//  Beyond the time that PostgreSQL gives a statement. Who says nothing for that long is gone, and
//  without telling: its machine, or the net in between.
#define SILENCE_MORE 5000
#define DOUBT 500

static const char *
s_lane_name (db_lane_t lane)
{
    return lane == DB_READ ? "read" : lane == DB_WRITE ? "write" : "slow";
}

static void
s_keep_why (conn_t *conn)
{
    snprintf (conn->why, sizeof conn->why, "%s", PQerrorMessage (conn->pg));
}

void
conn_close (conn_t *conn)
{
    db_t *db = conn->db;
    bool was_up = conn->state == CONN_UP;
    bool told = conn->backoff > BACKOFF_MIN;
    conn->state = CONN_DOWN;
    conn->broken = conn->stepped = false;
    watch_end (&conn->watch);
    loop_forget (db->loop, &conn->flush);
    if (conn->deadline)
        ltimer_stop (conn->deadline);
    if (conn->why [0] == 0 && conn->pg)
        s_keep_why (conn);
    //  The handle goes first: what the waiters do next must not find a half-dead connection.
    PQfinish (conn->pg);
    conn->pg = NULL;
    if (!db->stopping) {
        if (was_up || !told)
            log_warn (was_up ? "database connection lost" : "database does not answer", "lane",
                      s_lane_name (conn->lane), "why", conn->why);
        ltimer_set (conn->timer, conn->backoff);
        conn->backoff = conn->backoff * 2 < BACKOFF_MAX ? conn->backoff * 2 : BACKOFF_MAX;
    }
    pipe_drop (conn);
    if (was_up)
        conn_changed (conn);
}

//  ---- input and output ----

//  SLOW statements may take as long as they like.
static bool
s_owes_an_answer (const conn_t *conn)
{
    return conn->first && conn->lane != DB_SLOW;
}

static int64_t
s_silence (const conn_t *conn)
{
    return conn->db->statement_timeout + SILENCE_MORE;
}

static void
s_flush (void *arg)
{
    conn_t *conn = arg;
    if (conn->state == CONN_UP && s_owes_an_answer (conn) && !ltimer_active (conn->timer))
        ltimer_set (conn->timer, s_silence (conn));
    bool breaks = conn->first && fault (DB_FLUSH);
    int rc = conn->broken || breaks ? -1 : PQflush (conn->pg);
    if (rc < 0 || (rc == 0 && conn->first && fault (DB_SENT)))
        conn_close (conn);
    else
        watch_set (conn->watch, rc ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

void
conn_flush_soon (conn_t *conn)
{
    loop_at_end (conn->db->loop, &conn->flush);
}

static void
s_ready (void *arg, uint32_t events)
{
    conn_t *conn = arg;
    bool alive = !(conn->first && fault (DB_READ)) && PQconsumeInput (conn->pg);
    //  What came before the end still counts: a commit may have been confirmed.
    pipe_read (conn);
    conn->heard = loop_now (conn->db->loop);
    conn->doubted = false;
    if (!alive || conn->broken) {
        if (conn->why [0] == 0)
            s_keep_why (conn);
        conn_close (conn);
    }
    else if (events & EPOLLOUT)
        s_flush (conn);
}

//  ---- first words ----

static void
s_refused (conn_t *conn, const segment_t *segment)
{
    db_t *db = conn->db;
    const char *raw = PQresultErrorField (segment->error, PG_DIAG_MESSAGE_PRIMARY);
    const step_t *step = &segment->steps [segment->wrong];
    snprintf (conn->why, sizeof conn->why, "%s", raw ? raw : "refused");
    conn->broken = true;
    if (step->serial == 0 || !db->ready)
        return;
    buf_t text = { 0 };
    buf_putf (&text, "statement %s: %s", db->statements [step->index]->name, conn->why);
    buf_putc (&text, 0);
    void (*ready) (void *, const char *) = db->ready;
    db->ready = NULL;
    ready (db->ready_arg, (const char *) text.data);
    buf_free (&text);
}

static void
s_greeted (segment_t *segment, bool lost)
{
    conn_t *conn = segment->conn;
    if (lost)
        return;
    if (segment->error) {
        s_refused (conn, segment);
        return;
    }
    if (segment->count > 1)
        conn->db->checked = true;
    conn->state = CONN_UP;
    conn->backoff = BACKOFF_MIN;
    conn->why [0] = 0;
    ltimer_stop (conn->timer);
    conn_changed (conn);
}

//  Settings of the session; and once in the life of the process every named statement, so that one
//  that does not fit the schema is known before anybody is served.
static void
s_greet (conn_t *conn)
{
    db_t *db = conn->db;
    char text [640];
    bool slow = conn->lane == DB_SLOW;
    snprintf (text, sizeof text,
              "SELECT set_config ('search_path', '%s, base', false), "
              "set_config ('statement_timeout', '%lld', false), "
              "set_config ('client_connection_check_interval', '%s', false), "
              "set_config ('TimeZone', 'UTC', false), set_config ('DateStyle', 'ISO', false), "
              "set_config ('jit', 'off', false), set_config ('plan_cache_mode', '%s', false)",
              db->schema, slow ? 0LL : (long long) db->statement_timeout, slow ? "2s" : "0",
              //  What is written is found by its key; an array would be planned for anew each time.
              conn->lane == DB_WRITE ? "force_generic_plan" : "auto");
    conn->state = CONN_GREETING;
    segment_t *segment = segment_new (conn, s_greeted, NULL);
    segment_text (segment, text);
    if (!db->checked && conn == db->lanes [DB_READ].conns)
        for (size_t n = 0; n < db->statement_count; n++)
            if (db->statements [n]->name)
                segment_prepare (segment, db->statements [n]);
    segment_sync (segment);
}

static void
s_notice (void *arg, const char *message)
{
    (void) arg;
    log_debug ("database notice", "text", message);
}

//  ---- dialling ----

static void
s_dial (void *arg, uint32_t events)
{
    (void) events;
    conn_t *conn = arg;
    //  libpq may close the socket and take another one: the watch never outlives its descriptor.
    watch_end (&conn->watch);
    PostgresPollingStatusType status = PQconnectPoll (conn->pg);
    if (status == PGRES_POLLING_FAILED) {
        s_keep_why (conn);
        conn_close (conn);
        return;
    }
    bool done = status == PGRES_POLLING_OK;
    uint32_t want = status == PGRES_POLLING_WRITING ? EPOLLOUT : EPOLLIN;
    conn->watch
        = loop_watch (conn->db->loop, PQsocket (conn->pg), want, done ? s_ready : s_dial, conn);
    if (!done)
        return;
    PQsetnonblocking (conn->pg, 1);
    PQsetNoticeProcessor (conn->pg, s_notice, NULL);
    if (!PQenterPipelineMode (conn->pg))
        abort ();
    s_greet (conn);
}

static void
s_give_up (conn_t *conn, int64_t patience)
{
    snprintf (conn->why, sizeof conn->why, "no answer in %lld ms", (long long) patience);
    conn_close (conn);
}

//  It is up and may have been silent for too long. If it was we who slept, what it said is still to
//  be read.
static void
s_look (conn_t *conn)
{
    int64_t patience = s_silence (conn), silent = loop_now (conn->db->loop) - conn->heard;
    if (!s_owes_an_answer (conn))
        return;
    if (silent >= patience && conn->doubted)
        s_give_up (conn, patience);
    else {
        conn->doubted = silent >= patience;
        ltimer_set (conn->timer, conn->doubted ? DOUBT : patience - silent);
    }
}

static void
s_timer (void *arg)
{
    conn_t *conn = arg;
    if (conn->state == CONN_DOWN)
        conn_open (conn);
    else if (conn->state == CONN_UP)
        s_look (conn);
    else
        s_give_up (conn, DIAL_PATIENCE);
}

static void
s_deadline (void *arg)
{
    conn_stop (arg);
}

void
conn_open (conn_t *conn)
{
    db_t *db = conn->db;
    if (!conn->timer) {
        conn->timer = loop_timer (db->loop, s_timer, conn);
        conn->deadline = loop_timer (db->loop, s_deadline, conn);
        conn->backoff = BACKOFF_MIN;
        conn->flush.fn = s_flush;
        conn->flush.arg = conn;
    }
    conn->why [0] = 0;
    //  What dbname holds overrides what stands before it.
    const char *keys [] = { "keepalives_idle", "keepalives_interval", "keepalives_count",
                            "tcp_user_timeout", "dbname", "fallback_application_name",
                            "client_encoding", NULL };
    const char *values [] = { "30", "10", "3", "30000", db->conninfo, db->who, "UTF8", NULL };
    conn->pg = PQconnectStartParams (keys, values, 1);
    conn->state = CONN_DIALLING;
    ltimer_set (conn->timer, DIAL_PATIENCE);
    if (!conn->pg || PQstatus (conn->pg) == CONNECTION_BAD || fault (DB_DIAL)) {
        conn_close (conn);
        return;
    }
    conn->watch = loop_watch (db->loop, PQsocket (conn->pg), EPOLLOUT, s_dial, conn);
}
