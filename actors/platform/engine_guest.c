//  engine_guest.c -- the default engine: PostgreSQL's guest database, as the user's own login
//  there. kernels keeps the logins.

#include <stdio.h>
#include <stdlib.h>

#include "actors/kit/guests.h"
#include "db/guest.h"
#include "db/guest_json.h"
#include "proto/hash.h"
#include "sqltext.h"
#include "statement.h"

#define QUIET 200            //  ms without a row, after which what there is goes on
#define LOOK 2000            //  ms between looks at what a guest that writes has written
#define LOGIN_PATIENCE 20000 //  ms
#define TRIES 12             //  more, of a statement that PostgreSQL has not heard
#define AGAIN 100            //  ms before each of them, times its number
#define PLAN "EXPLAIN (FORMAT JSON) "

typedef struct {
    char *role, *password;
    int64_t disk;            //  MiB that the user's tables may take
    bool full;
} login_t;

//  What the watching coroutine shares with the statement; freed by the last of them.
typedef struct {
    int refs;
    struct guest_run *of;    //  NULL: it is over
    char *user, *role;
} watched_t;

typedef struct guest_run {
    engine_run_t *run;
    guest_t *guest;          //  NULL: over
    watched_t *watched;
    buf_t rows;
    size_t count;
    bool unheard;            //  by the server: worth another try
    bool repaired;           //  the login was put right
    int tries;
    bool limited;            //  may only read
    bool over;               //  stopped, for its tables take too much
    guest_outcome_t outcome;
} guest_run_t;

static hash_t *s_logins;     //  user → login_t

//  ---------------------------------------------------------------- logins

static void
s_login_free (void *item)
{
    login_t *login = item;
    explicit_bzero (login->password, strlen (login->password));
    free (login->password);
    free (login->role);
    free (login);
}

static CO login_t *
s_login (req_t *req, const char *user, bool again)
{
    if (!s_logins)
        s_logins = hash_new (s_login_free);
    login_t *login = hash_get (s_logins, text_of (user));
    if (login && !again)
        return login;
    buf_t *body = req_buf (req);
    mp_put_map (body, 2);
    mp_pair_str (body, "user", user);
    mp_pair_bool (body, "again", again);
    bus_reply_t reply = req_call (req, "guests.open", mp_none, mp_buf (body),
                                  &(req_call_t){ .operator= true, .idempotent = true,
                                                 .key = user, .ttl = LOGIN_PATIENCE });
    if (reply.status >= 400) {
        log_warn ("no login for SQL", "user", user, "status", log_num ((int64_t) reply.status),
                  "why", req_copy (req, mp_text (mp_get (reply.body, "error"))));
        return NULL;
    }
    login = xcalloc (1, sizeof *login);
    login->role = text_copy (mp_text (mp_get (reply.body, "role")));
    login->password = text_copy (mp_text (mp_get (reply.body, "password")));
    login->disk = mp_int (mp_get (reply.body, "disk"));
    hash_put (s_logins, text_of (user), login);
    return login;
}

//  ---------------------------------------------------------------- room on disk

static void
s_unwatch (void *arg)
{
    watched_t *self = arg;
    if (--self->refs)
        return;
    free (self->user);
    free (self->role);
    free (self);
}

static CO void
s_look (req_t *req, watched_t *self)
{
    login_t *login = hash_get (s_logins, text_of (self->user));
    bool over = false;
    if (!login || !guests_over (req, self->role, login->disk, &over))
        return;
    login = hash_get (s_logins, text_of (self->user));
    if (login)
        login->full = over;
    if (over && self->of && self->of->guest && !guest_frees (self->of->run->sql)) {
        self->of->over = true;
        guest_cancel (self->of->guest);
    }
}

//  While a statement that may write runs, and once it has ended.
static CO void
s_watch (req_t *req)
{
    watched_t *self = req_arg (req);
    req_defer (req, s_unwatch, self);
    while (self->of) {
        req_sleep (req, LOOK);
        s_look (req, self);
    }
}

//  ---------------------------------------------------------------- what libpq says

static void
s_on_columns (void *arg, const PGresult *result)
{
    guest_run_t *self = arg;
    engine_run_t *run = self->run;
    size_t count = (size_t) PQnfields (result);
    char room [24];
    run->columns = req_alloc (run->req, (count + 1) * sizeof *run->columns);
    for (size_t n = 0; n < count; n++) {
        const char *type = guest_type_name (PQftype (result, (int) n), room);
        run->columns [n].name = engine_column_name (run->req, run->columns, n,
                                                    PQfname (result, (int) n));
        run->columns [n].type = req_copy (run->req, text_of (type));
        run->column_count = n + 1;
    }
}

static void
s_on_row (void *arg, const PGresult *result)
{
    guest_run_t *self = arg;
    int columns = PQnfields (result);
    buf_putc (&self->rows, '[');
    for (int n = 0; n < columns; n++) {
        if (n)
            buf_putc (&self->rows, ',');
        guest_json_put (&self->rows, result, 0, n);
    }
    buf_put (&self->rows, "]\n", 2);
    self->count++;
    if (self->rows.size >= ENGINE_BATCH) {
        guest_pause (self->guest);
        req_wake (self->run->req);
    }
}

static void
s_on_done (void *arg, const guest_outcome_t *outcome)
{
    guest_run_t *self = arg;
    req_t *req = self->run->req;
    self->guest = NULL;
    self->outcome = *outcome;
    self->outcome.sqlstate = req_copy (req, text_of (outcome->sqlstate));
    self->outcome.text = req_copy (req, text_of (outcome->text));
    self->outcome.hint = outcome->hint ? req_copy (req, text_of (outcome->hint)) : NULL;
    self->outcome.tag = req_copy (req, text_of (outcome->tag));
    self->unheard = outcome->unheard;
    req_wake (req);
}

//  ---------------------------------------------------------------- one statement

static Oid
s_oid (const param_t *param)
{
    switch (param->type) {
    case P_TEXT: return 25;
    case P_INT: {
        //  The smaller fits wherever the larger does, and more.
        long long value = param->text ? strtoll (param->text, NULL, 10) : 0;
        return value >= INT32_MIN && value <= INT32_MAX ? 23 : 20;
    }
    case P_REAL: return 701;
    case P_DECIMAL: return 1700;
    case P_BOOL: return 16;
    case P_DATE: return 1082;
    case P_TIME: return 1184;
    case P_UUID: return 2950;
    case P_JSON: return 3802;
    default: return 0;
    }
}

static void
s_start (engine_run_t *run, const login_t *login)
{
    static const guest_calls_t calls = { s_on_columns, s_on_row, s_on_done };
    guest_run_t *self = run->state;
    actor_t *actor = req_actor (run->req);
    guest_param_t params [ENGINE_PARAMS];
    for (size_t n = 0; n < run->param_count; n++)
        params [n] = (guest_param_t) { s_oid (&run->params [n]), run->params [n].text };
    char *server = guests_server (actor), *keeper = guests_keeper (actor);
    const char *sql = run->explain ? req_print (run->req, PLAN "%s", run->sql) : run->sql;
    self->guest = guest_run (
        actor->loop,
        &(guest_conf_t){ .server = server, .database = GUESTS_DATABASE, .role = login->role,
                         .password = login->password, .keeper = keeper, .keep = true,
                         .read_only = run->read_only || run->explain || self->limited,
                         .harmless = sql_is_read (run->sql), .params = params,
                         .param_count = run->param_count },
        text_of (sql), &(guest_limits_t){ run->deadline, run->rows, run->bytes }, &calls, self);
    free (server);
    explicit_bzero (keeper, strlen (keeper));
    free (keeper);
}

static void
s_begin_watch (engine_run_t *run, const char *role)
{
    guest_run_t *self = run->state;
    if (self->limited || run->read_only || run->explain || sql_is_read (run->sql))
        return;
    watched_t *watched = xcalloc (1, sizeof *watched);
    *watched = (watched_t) { 2, self, xstrdup (run->user), xstrdup (role) };
    self->watched = watched;
    if (!actor_spawn (req_actor (run->req), s_watch, watched))
        s_unwatch (watched);
}

static CO engine_step_t
s_open (engine_run_t *run)
{
    guest_run_t *self = xcalloc (1, sizeof *self);
    self->run = run;
    run->state = self;
    login_t *login = s_login (run->req, run->user, false);
    if (!login)
        return engine_fail (run, FAULT_PLATFORM, "GUEST_UNAVAILABLE",
                            "the database for users' SQL is not available");
    if (login->full) {
        //  Looked at again: there may be room meanwhile.
        bool over = false;
        const char *role = req_copy (run->req, text_of (login->role));
        bool told = guests_over (run->req, role, login->disk, &over);
        if (!(login = hash_get (s_logins, text_of (run->user))))
            return engine_fail (run, FAULT_PLATFORM, "GUEST_UNAVAILABLE", "try again later");
        login->full = told ? over : login->full;
        self->limited = login->full && !guest_frees (run->sql);
    }
    if (run->cancelled)
        return engine_fail (run, FAULT_CANCELLED, "", "cancelled");
    s_begin_watch (run, login->role);
    s_start (run, login);
    return ENGINE_ROWS;
}

//  It was told to have failed.
static engine_step_t
s_failed (engine_run_t *run)
{
    guest_run_t *self = run->state;
    const guest_outcome_t *outcome = &self->outcome;
    engine_fault_t fault = FAULT_USER;
    login_t *login = hash_get (s_logins, text_of (run->user));
    if (outcome->unconfirmed)
        return engine_fail (run, FAULT_LOST, "57014",
                            "postgresql has not confirmed that the statement stopped");
    if (self->over || (self->limited && strcmp (outcome->sqlstate, "25006") == 0))
        return engine_fail (run, FAULT_LIMIT, "53100",
                            "your tables take more than %lld MiB: delete, drop or truncate some of "
                            "them first", login ? (long long) login->disk : 0LL);
    if (outcome->cancelled || (outcome->unheard && run->cancelled))
        fault = FAULT_CANCELLED;
    else if (outcome->unknown)
        fault = FAULT_LOST;
    else if (outcome->code == E_TIMEOUT)
        fault = FAULT_TIMEOUT;
    else if (outcome->code == E_TOO_LARGE)
        fault = FAULT_LIMIT;
    else if (outcome->code == E_UNAVAILABLE)
        fault = FAULT_PLATFORM;
    int shift = run->explain ? (int) sizeof PLAN - 1 : 0;
    run->hint = outcome->hint;
    run->position = outcome->position > shift ? outcome->position - shift : 0;
    return engine_fail (run, fault, outcome->sqlstate, "%s", outcome->text);
}

static engine_step_t
s_done (engine_run_t *run)
{
    const guest_outcome_t *outcome = &((guest_run_t *) run->state)->outcome;
    const char *number = strrchr (outcome->tag, ' ');
    run->truncated = outcome->truncated;
    run->tag = outcome->tag;
    run->changed = number && !run->columns && strncmp (outcome->tag, "SELECT", 6) != 0
                       ? strtoll (number, NULL, 10) : -1;
    return ENGINE_DONE;
}

static CO engine_step_t
s_pull (engine_run_t *run, buf_t *rows, size_t *count)
{
    guest_run_t *self = run->state;
    if (self->guest && self->rows.size < ENGINE_BATCH)
        req_sleep (run->req, QUIET);
    if (!self->guest && self->unheard && !run->cancelled && self->tries++ < TRIES) {
        //  A guest may change its own password: put right, and tried once more. Or PostgreSQL
        //  counts sessions that have not ended yet, and lets nobody else in.
        self->unheard = false;
        if (self->tries > 1)
            req_sleep (run->req, AGAIN * self->tries);
        bool again = !self->outcome.stale && !self->repaired;
        self->repaired |= again;
        login_t *login = s_login (run->req, run->user, again);
        if (login && !run->cancelled) {
            s_start (run, login);
            return ENGINE_ROWS;
        }
    }
    bool over = !self->guest;
    buf_put (rows, self->rows.data, self->rows.size);
    *count += self->count;
    buf_clear (&self->rows);
    self->count = 0;
    if (!over) {
        guest_resume (self->guest);
        return ENGINE_ROWS;
    }
    return self->outcome.code == E_NONE ? s_done (run) : s_failed (run);
}

static void
s_cancel (engine_run_t *run)
{
    guest_run_t *self = run->state;
    if (self && self->guest)
        guest_cancel (self->guest);
}

static void
s_close (engine_run_t *run)
{
    guest_run_t *self = run->state;
    if (!self)
        return;
    guest_destroy (&self->guest);
    if (self->watched) {
        self->watched->of = NULL;
        s_unwatch (self->watched);
    }
    buf_free (&self->rows);
    free (self);
    run->state = NULL;
}

const engine_t engine_guest = { "postgresql", s_open, s_pull, s_cancel, s_close };
