//  bus_load.c -- calls by the bus to a running system, from inside or through the door; or the
//  actor that answers them with what they say.
//
//      bus_load --broker ENDPOINT --in-flight 64 --seconds 3 <lines
//      bus_load --broker ENDPOINT --serve --run-dir DIR
//
//  Each line of input is `METHOD PARAMS`, the latter as JSON; they are sent in turn, over and over.
//  One line of JSON about the answers comes out.

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zmq.h>

#include "hist.h"
#include "proto/bus.h"
#include "proto/json.h"
#include "proto/keyfile.h"
#include "proto/opt.h"

typedef struct load load_t;

typedef struct {
    load_t *load;
    int64_t started;
} call_t;

typedef struct {
    char *method;
    buf_t params;
} line_t;

struct load {
    loop_t *loop;
    bus_t *bus;
    ltimer_t *end;
    line_t *lines;
    size_t count, next;
    buf_t identity;
    call_t *calls;
    int64_t in_flight, open, seconds, started, ended;
    bool going, over;
    uint64_t answered, failed, bad_status;
    hist_t times;
};

static opt_t s_options [] = {
    { "broker", OPT_STR, NULL, OPT_REQUIRED, NULL, "its endpoint", NULL },
    { "run-dir", OPT_STR, NULL, 0, NULL, "where an actor binds its socket", NULL },
    { "serve", OPT_BOOL, "false", 0, NULL, "be the actor `echo`", NULL },
    { "key", OPT_STR, NULL, 0, NULL, "key file, for the door", NULL },
    { "token", OPT_STR, NULL, OPT_SECRET, "BENCH_TOKEN", "access token, for the door", NULL },
    { "user", OPT_STR, NULL, 0, NULL, "id of the user in whose name it calls", NULL },
    { "in-flight", OPT_INT, "64", 0, NULL, "calls at once", NULL },
    { "seconds", OPT_INT, "3", 0, NULL, "how long", NULL },
    { 0 } };

static int
complain (const char *what)
{
    fprintf (stderr, "bus_load: %s\n", what);
    return 1;
}

//  ---------------------------------------------------------------- the actor

static bus_t *s_server;

static void
serve (void *arg, bus_peer_t *peer, const wire_call_t *call)
{
    (void) arg;
    bus_answer (s_server, peer, call->id, 200, call->params, mp_none);
}

static void
on_signal (void *arg)
{
    loop_stop (arg);
}

static int
server_main (loop_t *loop, void *zmq)
{
    s_server = bus_new (loop, zmq, &(bus_conf_t) {
        .role = "actor", .name = "echo", .slot = "echo.1", .broker = opt_str (s_options, "broker"),
        .run_dir = opt_str (s_options, "run-dir") });
    buf_t routes = { 0 };
    mp_put_array (&routes, 1);
    mp_put_map (&routes, 1);
    mp_pair_str (&routes, "method", "echo.back");
    bus_service (s_server, &(bus_service_t) { .serve = serve, .routes = mp_buf (&routes) });
    bus_start (s_server, NULL);
    loop_signal (loop, SIGTERM, on_signal, loop);
    loop_run (loop);
    bus_destroy (&s_server);
    buf_free (&routes);
    return 0;
}

//  ---------------------------------------------------------------- the callers

static void on_reply (void *arg, const bus_reply_t *reply);

static void
send_next (call_t *call)
{
    load_t *self = call->load;
    const line_t *line = &self->lines [self->next++ % self->count];
    call->started = nanoseconds (CLOCK_MONOTONIC);
    self->open++;
    bus_call (self->bus, &(bus_call_t) {
        .method = text_of (line->method), .params = mp_buf (&line->params), .key = TEXT ("bench"),
        .identity = mp_buf (&self->identity), .on_reply = on_reply, .arg = call });
}

static void
on_reply (void *arg, const bus_reply_t *reply)
{
    call_t *call = arg;
    load_t *self = call->load;
    int64_t now = nanoseconds (CLOCK_MONOTONIC);
    self->open--;
    if (reply->status >= 300) {
        self->failed++;
        self->bad_status = reply->status;
    }
    else {
        self->answered++;
        if (!self->over)
            hist_add (&self->times, now - call->started);
    }
    if (!self->over)
        send_next (call);
    else if (self->open == 0)
        loop_stop (self->loop);
}

static void
on_end (void *arg)
{
    load_t *self = arg;
    if (self->over || !self->going)              //  nobody serves, or answers stay away
        exit (complain ("no answers"));
    self->over = true;
    self->ended = nanoseconds (CLOCK_MONOTONIC);
    ltimer_set (self->end, 40000);
}

static void
on_directory (void *arg)
{
    load_t *self = arg;
    size_t live;
    bus_route (self->bus, text_of (self->lines [0].method), &live);
    if (live == 0 || self->going)
        return;
    self->going = true;
    self->started = nanoseconds (CLOCK_MONOTONIC);
    ltimer_set (self->end, self->seconds * 1000);
    for (int64_t n = 0; n < self->in_flight; n++)
        send_next (&self->calls [n]);
}

static void
on_refused (void *arg, const wire_refused_t *why)
{
    (void) arg;
    fprintf (stderr, "bus_load: refused: %.*s\n", (int) why->text.size, why->text.data);
    exit (1);
}

static void
lines_read (load_t *self)
{
    char *text = NULL, error [200];
    size_t room = 0;
    ssize_t size;
    while ((size = getline (&text, &room, stdin)) > 0) {
        char *space = memchr (text, ' ', (size_t) size);
        self->lines = realloc (self->lines, (self->count + 1) * sizeof *self->lines);
        line_t *line = &self->lines [self->count++];
        *line = (line_t) { 0 };
        if (!space || !json_read ((text_t) { space, (size_t) (text + size - space) }, &line->params,
                                  error, sizeof error))
            exit (complain ("input is lines of METHOD PARAMS"));
        line->method = strndup (text, (size_t) (space - text));
    }
    free (text);
    if (self->count == 0)
        exit (complain ("no input"));
}

static void
load_report (const load_t *self)
{
    double seconds = (double) (self->ended - self->started) / 1e9;
    printf ("{\"requests\":%llu,\"seconds\":%.6f,\"per_second\":%.0f,\"p50\":%.4f,\"p99\":%.4f,"
            "\"answered\":%llu,\"failed\":%llu,\"bad_status\":%llu}\n",
            (unsigned long long) self->times.count, seconds,
            (double) self->times.count / seconds, hist_ms (&self->times, 0.5),
            hist_ms (&self->times, 0.99), (unsigned long long) self->answered,
            (unsigned long long) self->failed,
            (unsigned long long) self->bad_status);
}

static int
client_main (loop_t *loop, void *zmq)
{
    static load_t load;
    load_t *self = &load;
    self->loop = loop;
    self->in_flight = opt_int (s_options, "in-flight");
    self->seconds = opt_int (s_options, "seconds");
    self->calls = xcalloc ((size_t) self->in_flight, sizeof *self->calls);
    for (int64_t n = 0; n < self->in_flight; n++)
        self->calls [n].load = self;
    lines_read (self);
    if (opt_str (s_options, "user")) {
        mp_put_map (&self->identity, 3);
        mp_pair_str (&self->identity, "user", opt_str (s_options, "user"));
        mp_pair_str (&self->identity, "role", "user");
        mp_pair_str (&self->identity, "kind", "user");
    }
    keyfile_t *key = NULL;
    char error [200];
    if (opt_str (s_options, "key")) {
        key = keyfile_read (opt_str (s_options, "key"), error, sizeof error);
        if (!key)
            return complain (error);
    }
    self->end = loop_timer (loop, on_end, self);
    ltimer_set (self->end, 15000);
    self->bus = bus_new (loop, zmq, &(bus_conf_t) {
        .role = "client", .name = "bench", .slot = "bench.1",
        .broker = opt_str (s_options, "broker"), .token = opt_str (s_options, "token"),
        .server_key = key ? key->server : NULL, .public_key = key ? key->public : NULL,
        .secret_key = key ? key->secret : NULL });
    bus_start (self->bus, &(bus_life_t) {
        .on_directory = on_directory, .on_refused = on_refused, .arg = self });
    loop_run (loop);
    load_report (self);
    bus_destroy (&self->bus);
    keyfile_free (&key);
    for (size_t n = 0; n < self->count; n++) {
        free (self->lines [n].method);
        buf_free (&self->lines [n].params);
    }
    free (self->lines);
    free (self->calls);
    buf_free (&self->identity);
    ltimer_end (&self->end);
    return 0;
}

int
main (int argc, char **argv)
{
    int rc = opt_read (s_options, &argc, argv, "bus_load: calls by the bus");
    if (rc)
        return rc == 1 ? 0 : rc;
    void *zmq = zmq_ctx_new ();
    loop_t *loop = loop_new ();
    rc = opt_bool (s_options, "serve") ? server_main (loop, zmq) : client_main (loop, zmq);
    loop_destroy (&loop);
    zmq_ctx_term (zmq);
    return rc;
}
