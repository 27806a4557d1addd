//  engine_trino.c -- statements at Trino: POST /v1/statement, then its nextUri until there is none.

#include <stdio.h>
#include <stdlib.h>

#include "actors/kit/fetch.h"
#include "source.h"
#include "statement.h"
#include "trino_page.h"
#include "trino_session.h"

#define PAGE_BYTES (32 << 20)    //  of one answer
#define REQUEST 30000            //  ms of one request; Trino itself answers within a second or so
#define PAUSE 100                //  ms more before each try
#define CONFIRM 10000            //  ms until a statement that was stopped must have stopped
#define HEADERS 96
#define LOOK 1000

//  Where it is and who we are there: as the operator's settings say, or a data source.
typedef struct {
    const char *url, *user, *password, *catalog, *schema, *ca;   //  NULL: none
    const char *allow;           //  host:port,… on private addresses; NULL: the url's own
    const char *session;         //  whose
    const char *trouble;         //  why it cannot be used
} place_t;

//  One request, in a context of its own: what it reads is given back with it. Freed by whoever is
//  last, it or who asked.
typedef struct {
    req_t *asker;                //  NULL: nobody wants to know any more
    const char *method;
    char *url, *allow, *body, *user, *password, *ca;
    char *headers [HEADERS];
    size_t header_count;
    trino_session_t *session;
    bool done;
    int status;                  //  0: no answer
    buf_t answer;
    char error [160];
} ask_t;

typedef struct {
    place_t place;
    char *base, *allow;          //  "http://host:port", "host:port"
    char *next;                  //  NULL: no more
    trino_session_t *session;
    ask_t *asking;
    ask_t *stopping;
    int64_t until, patience;
    int64_t stop_until;          //  0: not stopping
    bool expired, stop_sent, stopped;
    size_t rows, bytes;
    buf_t early;                 //  rows that came with the first answer
    size_t early_count;
    bool finished;               //  with it
} trino_run_t;

bool
trino_is_configured (const actor_t *actor)
{
    const char *url = actor_opt ((actor_t *) actor, "trino-url");
    return url && *url;
}

//  ---------------------------------------------------------------- one request

static void
s_ask_free (ask_t *ask)
{
    for (size_t n = 0; n < ask->header_count; n++)
        free (ask->headers [n]);
    free (ask->url);
    free (ask->allow);
    free (ask->body);
    free (ask->user);
    free (ask->ca);
    if (ask->password)
        explicit_bzero (ask->password, strlen (ask->password));
    free (ask->password);
    buf_free (&ask->answer);
    free (ask);
}

static void
s_asked (void *arg)
{
    ask_t *ask = arg;
    ask->done = true;
    if (ask->asker)
        req_wake (ask->asker);
    else
        s_ask_free (ask);
}

static void
s_hear (void *arg, text_t name, text_t value)
{
    trino_session_hear (arg, name, value);
}

static CO void
s_ask_run (req_t *req)
{
    ask_t *ask = req_arg (req);
    req_defer (req, s_asked, ask);
    fetched_t answer = fetch (req, &(fetch_t){ .method = ask->method, .url = ask->url,
                                               .headers = (const char *const *) ask->headers,
                                               .body = text_of (ask->body), .timeout = REQUEST,
                                               .max = PAGE_BYTES, .allow = ask->allow,
                                               .header = s_hear, .arg = ask->session,
                                               .user = ask->user, .password = ask->password,
                                               .ca = ask->ca });
    ask->status = answer.status;
    buf_put (&ask->answer, answer.body.data, answer.body.size);
    snprintf (ask->error, sizeof ask->error, "%s", answer.error ? answer.error : "");
}

static void
s_add (void *arg, const char *header)
{
    ask_t *ask = arg;
    if (ask->header_count < HEADERS - 1)
        ask->headers [ask->header_count++] = xstrdup (header);
}

static void
s_add_value (ask_t *ask, const char *value, const char *header)
{
    if (!value || trino_session_has (ask->session, header))
        return;
    char *text = text_format ("%s: %s", header, value);
    s_add (ask, text);
    free (text);
}

//  The first request carries all that Trino is to know; those behind it only who asks.
static ask_t *
s_ask (engine_run_t *run, const char *method, const char *url, const char *body)
{
    trino_run_t *self = run->state;
    const place_t *place = &self->place;
    ask_t *ask = xcalloc (1, sizeof *ask);
    *ask = (ask_t) { .asker = run->req, .method = method, .url = xstrdup (url),
                     .allow = xstrdup (self->allow), .body = xstrdup (body ? body : ""),
                     .session = self->session,
                     .user = xstrdup (place->password ? place->user : NULL),
                     .password = xstrdup (place->password), .ca = xstrdup (place->ca) };
    s_add_value (ask, place->user, "X-Trino-User");
    s_add (ask, "X-Trino-Source: busbar");
    if (body) {
        s_add (ask, "Content-Type: text/plain; charset=utf-8");
        s_add (ask, "X-Trino-Client-Capabilities: PATH,PARAMETRIC_DATETIME,SESSION_AUTHORIZATION");
        s_add (ask, "X-Trino-Time-Zone: UTC");
        s_add (ask, req_print (run->req, "X-Trino-Trace-Token: %s", run->id));
        s_add (ask, req_print (run->req, "X-Trino-Client-Tags: user-%s", run->user));
        s_add_value (ask, place->catalog, "X-Trino-Catalog");
        s_add_value (ask, place->schema, "X-Trino-Schema");
        trino_session_each (self->session, s_add, ask);
    }
    if (!actor_spawn (req_actor (run->req), s_ask_run, ask)) {
        snprintf (ask->error, sizeof ask->error, "too much goes on at once");
        ask->done = true;
    }
    return ask;
}

static void
s_let_go (ask_t **ask_p)
{
    ask_t *ask = *ask_p;
    *ask_p = NULL;
    if (ask && ask->done)
        s_ask_free (ask);
    else if (ask)
        ask->asker = NULL;
}

//  ---------------------------------------------------------------- stopping

static bool
s_stopping (engine_run_t *run)
{
    trino_run_t *self = run->state;
    int64_t now = loop_now (req_actor (run->req)->loop);
    if (!self->stop_until && (run->cancelled || now >= self->until)) {
        self->expired = !run->cancelled;
        self->stop_until = now + CONFIRM;
    }
    return self->stop_until != 0;
}

static engine_step_t
s_stopped (engine_run_t *run, bool confirmed)
{
    const trino_run_t *self = run->state;
    const char *more = confirmed ? "" : ", and trino has not confirmed that it stopped";
    if (self->expired)
        return engine_fail (run, FAULT_TIMEOUT, "TIMED_OUT", "statement took too long%s", more);
    if (confirmed)
        return engine_fail (run, FAULT_CANCELLED, "USER_CANCELED", "cancelled");
    return engine_fail (run, FAULT_LOST, "UNCONFIRMED",
                        "trino has not confirmed that the statement stopped");
}

static void
s_send_stop (engine_run_t *run)
{
    trino_run_t *self = run->state;
    if (self->stop_sent || !self->next)
        return;
    self->stop_sent = true;
    self->stopping = s_ask (run, "DELETE", self->next, NULL);
}

//  Wait for the request under way. False: there is no time left to.
static CO bool
s_await (engine_run_t *run)
{
    trino_run_t *self = run->state;
    while (!self->asking->done) {
        int64_t now = loop_now (req_actor (run->req)->loop);
        if (s_stopping (run)) {
            s_send_stop (run);
            if (now >= self->stop_until)
                return false;
        }
        req_sleep (run->req, LOOK);
    }
    return true;
}

//  ---------------------------------------------------------------- asking until it answers

//  ENGINE_ROWS: there is an answer of 200 in `asking`.
static CO engine_step_t
s_answered (engine_run_t *run, const char *method, const char *url, const char *body)
{
    trino_run_t *self = run->state;
    int64_t since = loop_now (req_actor (run->req)->loop);
    for (int tries = 1; ; tries++) {
        self->asking = s_ask (run, method, url, body);
        if (!s_await (run))
            return s_stopped (run, false);
        ask_t *ask = self->asking;
        if (ask->status == 200)
            return ENGINE_ROWS;
        bool gone = ask->status == 404 || ask->status == 410;
        if (s_stopping (run) && (gone || ask->status == 204))
            return s_stopped (run, true);
        //  A statement that may have been begun is not begun again.
        bool again = ask->status == 0 ? body == NULL : trino_is_busy (ask->status);
        int64_t now = loop_now (req_actor (run->req)->loop);
        if (!again || now - since >= self->patience)
            return ask->status == 0 ? engine_fail (run, FAULT_PLATFORM, "NO_ANSWER",
                                                   "trino does not answer: %s", ask->error)
                                    : engine_fail (run, FAULT_PLATFORM, "BAD_ANSWER",
                                                   "trino answered %d", ask->status);
        s_let_go (&self->asking);
        if (s_stopping (run) && now >= self->stop_until)
            return s_stopped (run, false);
        req_sleep (run->req, PAUSE * tries);
    }
}

//  ---------------------------------------------------------------- answers

static engine_step_t
s_error (engine_run_t *run, mp_t error)
{
    text_t name = mp_text (mp_get (error, "errorName")),
           type = mp_text (mp_get (error, "errorType"));
    mp_t place = mp_get (error, "errorLocation");
    if (s_stopping (run) && text_is (name, "USER_CANCELED"))
        return s_stopped (run, true);
    engine_fault_t fault = FAULT_PLATFORM;
    if (text_is (name, "EXCEEDED_TIME_LIMIT"))
        fault = FAULT_TIMEOUT;
    else if (text_is (type, "USER_ERROR"))
        fault = FAULT_USER;
    else if (text_is (type, "INSUFFICIENT_RESOURCES"))
        fault = FAULT_LIMIT;
    if (mp_type (place) == MP_MAP)
        run->position = trino_position (run->sql, mp_int (mp_get (place, "lineNumber")),
                                        mp_int (mp_get (place, "columnNumber")));
    text_t message = mp_text (mp_get (error, "message"));
    return engine_fail (run, fault, req_copy (run->req, name), "%.*s", (int) message.size,
                        message.size ? message.data : "");
}

static engine_step_t
s_garbage (engine_run_t *run, const char *what)
{
    return engine_fail (run, FAULT_PLATFORM, "BAD_ANSWER", "trino answered what it should not: %s",
                        what);
}

static bool
s_follow (trino_run_t *self, text_t next)
{
    free (self->next);
    self->next = NULL;
    if (!next.size)
        return true;
    //  Nowhere else than where the operator said.
    if (!trino_leads (self->base, next))
        return false;
    self->next = text_copy (next);
    return true;
}

static engine_step_t
s_take (engine_run_t *run, buf_t *rows, size_t *count)
{
    trino_run_t *self = run->state;
    char error [160];
    buf_t plain = { 0 };
    engine_step_t step = ENGINE_ROWS;
    const char *why = NULL;
    text_t json = buf_text (&self->asking->answer);
    if (!json_read (json, &plain, error, sizeof error) || mp_type (mp_buf (&plain)) != MP_MAP)
        step = s_garbage (run, "no JSON object");
    else {
        mp_t page = mp_buf (&plain), failed = mp_get (page, "error");
        trino_note (run, page);
        if (mp_type (failed) == MP_MAP)
            step = s_error (run, failed);
        else if (!s_follow (self, mp_text (mp_get (page, "nextUri"))))
            step = s_garbage (run, "a nextUri elsewhere");
        else if ((why = trino_rows (run, page, &self->rows, &self->bytes, rows, count)))
            step = s_garbage (run, why);
        else if (run->truncated || !self->next)
            step = ENGINE_DONE;
    }
    buf_free (&plain);
    s_let_go (&self->asking);
    return step;
}

//  ---------------------------------------------------------------- the engine

//  Its scheme, host and port.
static bool
s_set_base (trino_run_t *self)
{
    const char *url = self->place.url, *host = strstr (url, "://");
    if (!host)
        return false;
    host += 3;
    size_t size = strcspn (host, "/?#");
    bool port = memchr (host, ':', size) != NULL;
    self->base = text_format ("%.*s", (int) (host - url + (ptrdiff_t) size), url);
    if (self->place.allow)
        self->allow = xstrdup (self->place.allow);
    else
        self->allow = text_format ("%.*s%s", (int) size, host,
                                   port ? "" : strncmp (url, "https", 5) == 0 ? ":443" : ":80");
    return true;
}

static const char *
s_option (actor_t *actor, const char *name)
{
    const char *value = actor_opt (actor, name);
    return value && *value ? value : NULL;
}

static place_t
s_place_of_settings (actor_t *actor, const char *user)
{
    place_t place = { .url = s_option (actor, "trino-url"), .user = s_option (actor, "trino-user"),
                      .password = actor_secret (actor, "trino_password"),
                      .catalog = s_option (actor, "trino-catalog"),
                      .schema = s_option (actor, "trino-schema"),
                      .ca = s_option (actor, "trino-ca"), .session = user };
    if (!strstr (place.url, "://"))
        place.trouble = "platform.trino-url is no address";
    else if (place.password && strncmp (place.url, "https:", 6) != 0)
        place.trouble = "TRINO_PASSWORD is only sent to a platform.trino-url of https";
    return place;
}

//  What it has set is remembered apart from what is set at other places.
static place_t
s_place_of_source (req_t *req, const char *user, const source_t *source)
{
    bool https = strcmp (source_text (source, "sslmode"), "require") == 0;
    char *url = trino_base (source_text (source, "host"), source_text (source, "port"), https);
    place_t place = {
        .url = req_copy (req, text_of (url)),
        .user = source_text (source, "user"), .password = source_text (source, "password"),
        .catalog = source_text (source, "database"), .ca = actor_opt (req_actor (req), "source-ca"),
        .allow = actor_opt (req_actor (req), "source-allow"),
        .session = req_print (req, "%s/%s", user, source->id) };
    free (url);
    if (place.password && !https)
        place.trouble = "data source: a password is only sent with sslmode require";
    return place;
}

static CO engine_step_t
s_open (engine_run_t *run)
{
    actor_t *actor = req_actor (run->req);
    trino_run_t *self = run->state = xcalloc (1, sizeof *self);
    self->until = loop_now (actor->loop) + run->deadline;
    self->patience = 1000 * strtoll (actor_opt (actor, "trino-patience"), NULL, 10);
    self->place = run->source ? s_place_of_source (run->req, run->user, run->target)
                              : s_place_of_settings (actor, run->user);
    self->session = trino_session (self->place.session);
    if (self->place.trouble || !s_set_base (self))
        return engine_fail (run, run->source ? FAULT_USER : FAULT_PLATFORM, "BAD_SETTING", "%s",
                            self->place.trouble);
    const char *sql = trino_text (run);
    if (!sql)
        return engine_fail (run, FAULT_USER, "INVALID_PARAMETER_USAGE",
                            "the statement names a parameter that was not given");
    char *url = req_print (run->req, "%s/v1/statement", self->base);
    engine_step_t step = s_answered (run, "POST", url, sql);
    if (step == ENGINE_ROWS)
        step = s_take (run, &self->early, &self->early_count);
    self->finished = step == ENGINE_DONE;
    return step == ENGINE_FAILED ? step : ENGINE_ROWS;
}

static CO engine_step_t
s_pull (engine_run_t *run, buf_t *rows, size_t *count)
{
    trino_run_t *self = run->state;
    buf_put (rows, self->early.data, self->early.size);
    *count += self->early_count;
    buf_free (&self->early);
    self->early_count = 0;
    if (self->finished)
        return ENGINE_DONE;
    if (s_stopping (run))
        s_send_stop (run);
    engine_step_t step = s_answered (run, "GET", self->next, NULL);
    return step == ENGINE_ROWS ? s_take (run, rows, count) : step;
}

static void
s_cancel (engine_run_t *run)
{
    req_wake (run->req);
}

static void
s_close (engine_run_t *run)
{
    trino_run_t *self = run->state;
    if (!self)
        return;
    //  More rows than anybody wants: Trino is told, and nobody waits for it.
    if (self->next && !self->stop_sent)
        s_send_stop (run);
    s_let_go (&self->asking);
    s_let_go (&self->stopping);
    buf_free (&self->early);
    free (self->base);
    free (self->allow);
    free (self->next);
    free (self);
    run->state = NULL;
}

const engine_t engine_trino = { "trino", s_open, s_pull, s_cancel, s_close };
