//  guest.c -- one statement of a guest: connect, run, deliver rows within limits, stop, hang up.

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "db/db_cancel.h"
#include "db/guest.h"
#include "db/guest_kept.h"

//  After a cancellation: how long to wait before the session is ended, and then before hanging up.
#define CANCEL_PATIENCE 1000
#define TERMINATE_PATIENCE 2000
//  What a row may weigh beside its values.
#define ROW_OVERHEAD 65536
//  A session that has delivered more is not kept.
#define KEEP_BYTES (1 << 20)
//  ms in which one turns out to have been over before.
#define STALE 1000
//  Sessions are kept by their settings: deadlines in these steps are one.
#define TIMEOUT_STEP 600000

typedef enum { GUEST_DIALLING, GUEST_RUNNING, GUEST_STOPPING, GUEST_ENDING, GUEST_OVER } state_t;

struct guest {
    loop_t *loop;
    state_t state;
    guest_session_t session; //  its sluice once it is connected
    watch_t *watch;
    ltimer_t *timer;         //  the deadline, then patience with the stopping
    db_cancel_t *cancel;
    guest_limits_t limits;
    guest_calls_t calls;
    void *arg;
    char *sql, *role, *keeper;
    char *key;               //  of sessions that may serve this statement; NULL: only a new one
    bool in_order;           //  the session may serve another statement
    int64_t served;          //  since when it serves this one, after another; 0: its first
    bool harmless;           //  stopping it in the middle undoes nothing
    bool began;              //  columns were told
    bool timed_out;
    bool paused;
    hook_t resume;
    Oid *types;              //  of the parameters
    char **values;
    int value_count;
    size_t bytes;            //  of the rows delivered
    size_t arrived;          //  since the last whole row
    PGresult *error;
    char tag [64];
    char raw [256];          //  of the connection
    guest_outcome_t outcome;
};

//  ---- the end ----

void
guest_destroy (guest_t **self_p)
{
    guest_t *self = *self_p;
    if (!self)
        return;
    *self_p = NULL;
    db_cancel_destroy (&self->cancel);
    watch_end (&self->watch);
    ltimer_end (&self->timer);
    loop_forget (self->loop, &self->resume);
    for (int n = 0; n < self->value_count; n++)
        free (self->values [n]);
    free (self->values);
    free (self->types);
    PQclear (self->error);
    guest_session_end (&self->session);
    if (self->keeper)
        explicit_bzero (self->keeper, strlen (self->keeper));
    free (self->keeper);
    free (self->role);
    free (self->key);
    free (self->sql);
    free (self);
}

static void
s_over (void *arg)
{
    guest_t *self = arg;
    self->state = GUEST_OVER;
    self->outcome.tag = self->tag;
    if (!self->outcome.sqlstate)
        self->outcome.sqlstate = "";
    if (!self->outcome.text)
        self->outcome.text = error_text (self->outcome.code);
    self->calls.done (self->arg, &self->outcome);
    if (self->in_order)
        guest_kept_give (self->loop, self->role, self->key, &self->session);
    guest_destroy (&self);
}

//  Told from the loop, when the thread that spoke to PostgreSQL is back.
static void
s_finish (guest_t *self, error_code_t code, const char *text)
{
    self->outcome.code = code;
    self->outcome.text = text;
    self->state = GUEST_OVER;
    watch_end (&self->watch);
    if (!self->cancel)
        ltimer_set (self->timer, 0);
    else
        ltimer_stop (self->timer);
}

static void
s_finish_stopped (guest_t *self)
{
    if (self->timed_out || self->outcome.cancelled)
        s_finish (self, E_TIMEOUT, self->timed_out ? "statement took too long" : "cancelled");
    else if (self->harmless) {
        self->outcome.sqlstate = "";
        self->outcome.detail = self->outcome.hint = NULL;
        s_finish (self, E_NONE, NULL);
    }
    else
        s_finish (self, E_TOO_LARGE, "a row is larger than the limit");
}

static void
s_lost (guest_t *self)
{
    if (self->state != GUEST_DIALLING && self->state != GUEST_RUNNING) {
        s_finish_stopped (self);
        return;
    }
    self->paused = false;
    snprintf (self->raw, sizeof self->raw, "%s", PQerrorMessage (self->session.pg));
    self->outcome.detail = self->raw;
    self->outcome.unknown = self->state == GUEST_RUNNING && !self->harmless;
    self->outcome.stale = self->served && self->harmless && !self->began
                          && loop_now (self->loop) - self->served < STALE;
    self->outcome.unheard = self->state == GUEST_DIALLING || self->outcome.stale;
    s_finish (self, E_UNAVAILABLE, NULL);
}

//  ---- stopping ----

static void
s_stopped (void *arg)
{
    guest_t *self = arg;
    db_cancel_destroy (&self->cancel);
    if (self->state == GUEST_OVER)
        ltimer_set (self->timer, 0);
}

static void
s_stop (guest_t *self)
{
    if (self->state == GUEST_DIALLING)
        s_finish_stopped (self);
    else if (self->state == GUEST_RUNNING) {
        self->state = GUEST_STOPPING;
        guest_resume (self);
        self->cancel = db_cancel_start (self->loop, self->session.pg, s_stopped, self);
        ltimer_set (self->timer, CANCEL_PATIENCE);
    }
}

static void
s_timer (void *arg)
{
    guest_t *self = arg;
    switch (self->state) {
    case GUEST_DIALLING:
    case GUEST_RUNNING:
        self->timed_out = true;
        s_stop (self);
        break;
    case GUEST_STOPPING:
        if (self->cancel)
            ltimer_set (self->timer, CANCEL_PATIENCE);
        else if (!self->keeper) {
            self->outcome.unconfirmed = true;
            s_finish_stopped (self);
        }
        else {
            self->state = GUEST_ENDING;
            self->cancel = db_terminate_start (self->loop, self->keeper, self->role,
                                               PQbackendPID (self->session.pg), s_stopped, self);
            ltimer_set (self->timer, TERMINATE_PATIENCE);
        }
        break;
    case GUEST_ENDING:
        self->outcome.unconfirmed = true;
        s_finish_stopped (self);
        break;
    case GUEST_OVER:
        s_over (self);
    }
}

void
guest_cancel (guest_t *self)
{
    if (self->state != GUEST_DIALLING && self->state != GUEST_RUNNING)
        return;
    self->outcome.cancelled = true;
    s_stop (self);
}

//  ---- results ----

static size_t
s_weight (const PGresult *row)
{
    size_t bytes = 0;
    int columns = PQnfields (row);
    for (int n = 0; n < columns; n++)
        bytes += (size_t) PQgetlength (row, 0, n);
    return bytes;
}

static void
s_columns (guest_t *self, const PGresult *result)
{
    if (!self->began && self->calls.columns)
        self->calls.columns (self->arg, result);
    self->began = true;
}

static void
s_row (guest_t *self, const PGresult *row)
{
    s_columns (self, row);
    if (self->state != GUEST_RUNNING)
        return;
    self->bytes += s_weight (row);
    if (!self->outcome.truncated && self->outcome.rows < self->limits.rows
        && self->bytes <= self->limits.bytes) {
        self->outcome.rows++;
        self->calls.row (self->arg, row);
        return;
    }
    self->outcome.truncated = true;
    //  A statement that writes goes on to its end: stopped, it would undo what its answer promises.
    if (self->harmless)
        s_stop (self);
}

static void
s_failed (guest_t *self, PGresult *error)
{
    if (self->error) {
        PQclear (error);
        return;
    }
    self->error = error;
    const char *sqlstate = PQresultErrorField (error, PG_DIAG_SQLSTATE);
    const char *position = PQresultErrorField (error, PG_DIAG_STATEMENT_POSITION);
    self->outcome.sqlstate = sqlstate ? sqlstate : "";
    self->outcome.code = sqlstate ? error_by_sqlstate (sqlstate) : E_UNAVAILABLE;
    //  temp_file_limit: not the server's trouble but the statement's.
    if (sqlstate && strcmp (sqlstate, "53400") == 0)
        self->outcome.code = E_TOO_LARGE;
    self->outcome.text = PQresultErrorField (error, PG_DIAG_MESSAGE_PRIMARY);
    self->outcome.detail = PQresultErrorField (error, PG_DIAG_MESSAGE_DETAIL);
    self->outcome.hint = PQresultErrorField (error, PG_DIAG_MESSAGE_HINT);
    self->outcome.position = position ? atoi (position) : 0;
}

//  The last result was seen.
static void
s_complete (guest_t *self)
{
    bool stopped = self->error
                   && (strcmp (self->outcome.sqlstate, "57014") == 0
                       || strcmp (self->outcome.sqlstate, "57P01") == 0);
    if (stopped && self->state != GUEST_RUNNING)
        s_finish_stopped (self);
    else if (self->error && self->outcome.sqlstate [0] == 0)
        s_lost (self);
    else {
        //  Not one that was told to stop: that may reach it later. Nor one that a large row has
        //  made large.
        self->in_order = self->key && self->state == GUEST_RUNNING && self->bytes <= KEEP_BYTES
                         && PQtransactionStatus (self->session.pg) == PQTRANS_IDLE;
        s_finish (self, self->outcome.code, self->outcome.text);
    }
}

//  Takes the result. False: nothing more is to be read.
static bool
s_result (guest_t *self, PGresult *result)
{
    ExecStatusType status = PQresultStatus (result);
    self->arrived = 0;
    switch (status) {
    case PGRES_SINGLE_TUPLE:
        s_row (self, result);
        break;
    case PGRES_TUPLES_OK:
        s_columns (self, result);
        snprintf (self->tag, sizeof self->tag, "%s", PQcmdStatus (result));
        break;
    case PGRES_COMMAND_OK:
        snprintf (self->tag, sizeof self->tag, "%s", PQcmdStatus (result));
        break;
    case PGRES_EMPTY_QUERY:
        s_finish (self, E_INVALID, "statement is empty");
        break;
    case PGRES_COPY_IN:
    case PGRES_COPY_OUT:
    case PGRES_COPY_BOTH:
        s_finish (self, E_INVALID, "COPY is not available here");
        break;
    default:
        s_failed (self, result);
        return true;
    }
    PQclear (result);
    return self->state != GUEST_OVER;
}

static void
s_results (guest_t *self)
{
    while (!self->paused && !PQisBusy (self->session.pg)) {
        PGresult *result = PQgetResult (self->session.pg);
        if (!result) {
            s_complete (self);
            return;
        }
        if (!s_result (self, result))
            return;
    }
    //  libpq keeps a row until it is whole, however large: one that will never fit is not
    //  waited for. (It can't come all at once: the sluice.)
    if (!self->paused && self->arrived > self->limits.bytes + ROW_OVERHEAD
        && self->state == GUEST_RUNNING) {
        self->harmless = false;
        s_finish_stopped (self);
    }
}

//  ---- input and output ----

static void
s_flush (guest_t *self)
{
    int rc = PQflush (self->session.pg);
    if (rc < 0)
        s_lost (self);
    else
        watch_set (self->watch, (self->paused ? 0 : EPOLLIN) | (rc ? EPOLLOUT : 0));
}

void
guest_pause (guest_t *self)
{
    if (self->state != GUEST_RUNNING || self->paused)
        return;
    self->paused = true;
    watch_set (self->watch, 0);
}

//  What libpq has already read is gone through as well.
static void
s_resumed (void *arg)
{
    guest_t *self = arg;
    if (self->state == GUEST_OVER || self->state == GUEST_DIALLING || self->paused)
        return;
    s_results (self);
}

void
guest_resume (guest_t *self)
{
    if (!self->paused)
        return;
    self->paused = false;
    watch_set (self->watch, EPOLLIN);
    loop_at_end (self->loop, &self->resume);
}

static void
s_ready (void *arg, uint32_t events)
{
    guest_t *self = arg;
    int before = 0, after = 0;
    ioctl (PQsocket (self->session.pg), FIONREAD, &before);
    if (!PQconsumeInput (self->session.pg)) {
        //  With the server's last words, which say why.
        self->paused = false;
        s_results (self);
        if (self->state != GUEST_OVER)
            s_lost (self);
        return;
    }
    ioctl (PQsocket (self->session.pg), FIONREAD, &after);
    if (before > after)
        self->arrived += (size_t) (before - after);
    s_results (self);
    if (self->state != GUEST_OVER && events & EPOLLOUT)
        s_flush (self);
}

static void
s_quiet (void *arg, const char *message)
{
    (void) arg;
    (void) message;
}

static void
s_send (guest_t *self)
{
    self->state = GUEST_RUNNING;
    self->watch = loop_watch (self->loop, PQsocket (self->session.pg), EPOLLIN, s_ready, self);
    if (PQsendQueryParams (self->session.pg, self->sql, self->value_count, self->types,
                           (const char *const *) self->values, NULL, NULL, 0)
        && PQsetSingleRowMode (self->session.pg))
        s_flush (self);
    else
        s_lost (self);
}

static void
s_dial (void *arg, uint32_t events)
{
    (void) events;
    guest_t *self = arg;
    watch_end (&self->watch);
    PostgresPollingStatusType status = PQconnectPoll (self->session.pg);
    if (status == PGRES_POLLING_FAILED) {
        s_lost (self);
        return;
    }
    bool done = status == PGRES_POLLING_OK;
    if (done && !(self->session.sluice = sluice_new (self->loop, PQsocket (self->session.pg)))) {
        s_lost (self);
        return;
    }
    if (done) {
        self->session.since = loop_now (self->loop);
        PQsetnonblocking (self->session.pg, 1);
        PQsetNoticeProcessor (self->session.pg, s_quiet, NULL);
        s_send (self);
        return;
    }
    uint32_t want = status == PGRES_POLLING_WRITING ? EPOLLOUT : EPOLLIN;
    self->watch = loop_watch (self->loop, PQsocket (self->session.pg), want, s_dial, self);
}

//  ---- beginning ----

static void
s_connect (guest_t *self, const guest_conf_t *conf)
{
    //  Said at the start, these outrank what the guest has set for its own role.
    char options [512];
    int64_t timeout = self->limits.deadline + CANCEL_PATIENCE;
    if (conf->keep)
        timeout += TIMEOUT_STEP - timeout % TIMEOUT_STEP;
    snprintf (options, sizeof options,
              "-c statement_timeout=%lld -c work_mem=16MB -c maintenance_work_mem=64MB "
              "-c search_path=%s -c TimeZone=UTC -c DateStyle=ISO -c jit=off "
              "-c max_parallel_workers_per_gather=0 -c client_connection_check_interval=2s "
              "-c idle_in_transaction_session_timeout=5s -c default_transaction_read_only=%s",
              (long long) timeout, conf->role, conf->read_only ? "on" : "off");
    if (conf->keep)
        self->key = text_format ("%s\n%s\n%s", conf->server, conf->database, options);
    if (self->key && guest_kept_take (self->role, self->key, &self->session)) {
        self->served = loop_now (self->loop);
        s_send (self);
        return;
    }
    const char *keys [] = { "dbname",          "dbname",  "user",             "password",
                            "client_encoding", "options", "application_name", NULL };
    const char *values [] = { conf->server, conf->database, conf->role, conf->password,
                              "UTF8",       options,        "guest",    NULL };
    self->session.pg = PQconnectStartParams (keys, values, 1);
    if (!self->session.pg || PQstatus (self->session.pg) == CONNECTION_BAD)
        s_lost (self);
    else
        self->watch
            = loop_watch (self->loop, PQsocket (self->session.pg), EPOLLOUT, s_dial, self);
}

static void
s_params (guest_t *self, const guest_conf_t *conf)
{
    self->value_count = (int) conf->param_count;
    self->types = xcalloc (conf->param_count + 1, sizeof *self->types);
    self->values = xcalloc (conf->param_count + 1, sizeof *self->values);
    for (size_t n = 0; n < conf->param_count; n++) {
        self->types [n] = conf->params [n].type;
        self->values [n] = xstrdup (conf->params [n].value);
    }
}

guest_t *
guest_run (loop_t *loop, const guest_conf_t *conf, text_t sql, const guest_limits_t *limits,
           const guest_calls_t *calls, void *arg)
{
    //  It becomes part of a setting.
    assert (conf->role [strspn (conf->role, "abcdefghijklmnopqrstuvwxyz0123456789_")] == 0);
    guest_t *self = xcalloc (1, sizeof *self);
    self->loop = loop;
    self->limits = *limits;
    self->calls = *calls;
    self->arg = arg;
    self->sql = xmalloc (sql.size + 1);
    if (sql.size)
        memcpy (self->sql, sql.data, sql.size);
    self->sql [sql.size] = 0;
    self->role = xstrdup (conf->role);
    self->keeper = xstrdup (conf->keeper);
    self->harmless = conf->read_only || conf->harmless || guest_reads (self->sql);
    self->resume = (hook_t) { .fn = s_resumed, .arg = self };
    s_params (self, conf);
    self->timer = loop_timer (loop, s_timer, self);
    ltimer_set (self->timer, limits->deadline);
    //  What follows a zero byte would be lost without a word.
    if (strlen (self->sql) != sql.size)
        s_finish (self, E_INVALID, "statement contains a zero byte");
    else
        s_connect (self, conf);
    return self;
}
