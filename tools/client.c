//  client.c -- the operator's end of the bus.

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zmq.h>

#include "client.h"

#define REACH_MS 3000  //  a broker that is there answers in far less, also after its restart

static void
s_on_ready (void *arg)
{
    client_t *self = arg;
    ltimer_stop (self->patience);
    self->seen = true;
    self->ready (self->arg);
}

static void
s_on_refused (void *arg, const wire_refused_t *why)
{
    client_t *self = arg;
    complain (0, "the broker refuses: %.*s", (int) why->text.size, why->text.data);
    client_stop (self, DONE_ERROR);
}

static void
s_on_patience (void *arg)
{
    client_t *self = arg;
    complain (0, "no answer from %s/broker.s: is `busbar up` running there?", self->run);
    client_stop (self, DONE_UNREACHABLE);
}

static void
s_on_interrupt (void *arg)
{
    client_stop (arg, DONE_OK);
}

void
client_stop (client_t *self, int code)
{
    self->code = code;
    loop_stop (self->loop);
}

static bool
s_find (client_t *self, const opt_t *options)
{
    const char *run = opt_str (options, "run-dir");
    if (!place_open (&self->place, opt_str (options, "var"), false))
        return false;
    self->run = xstrdup (run ? run : self->place.run);
    char *socket = text_format ("%s/broker.s", self->run);
    bool there = access (socket, F_OK) == 0;
    free (socket);
    return there
           || complain (false, "no broker in %s: is `busbar up` running there? (--var says where)",
                        self->run);
}

static void
s_serve (client_t *self)
{
    self->loop = loop_new ();
    self->zmq = zmq_ctx_new ();
    self->patience = loop_timer (self->loop, s_on_patience, self);
    ltimer_set (self->patience, REACH_MS);
    loop_signal (self->loop, SIGINT, s_on_interrupt, self);
    loop_signal (self->loop, SIGTERM, s_on_interrupt, self);
    char slot [32];
    snprintf (slot, sizeof slot, "cli.%d", (int) getpid ());
    char *broker = text_format ("ipc://%s/broker.s", self->run);
    bus_conf_t conf = { .role = "client", .name = "cli", .slot = slot, .broker = broker };
    self->bus = bus_new (self->loop, self->zmq, &conf);
    bus_life_t life = { .on_ready = s_on_ready, .on_refused = s_on_refused, .arg = self };
    bus_start (self->bus, &life);
    loop_run (self->loop);
    bus_destroy (&self->bus);
    ltimer_end (&self->patience);
    ltimer_end (&self->again);
    loop_destroy (&self->loop);
    zmq_ctx_term (self->zmq);
    free (broker);
}

int
client_run (client_t *self, const opt_t *options, void (*ready) (void *arg), void *arg)
{
    *self =
        (client_t) { .ready = ready, .arg = arg, .timeout = opt_int (options, "timeout") * 1000 };
    if (self->timeout <= 0)
        return complain (DONE_USAGE, "--timeout must be at least 1");
    //  What the bus client logs on its way is no output of a command.
    log_open ("busbar", LOG_WARN);
    if (s_find (self, options))
        s_serve (self);
    else
        self->code = DONE_UNREACHABLE;
    free (self->run);
    place_close (&self->place);
    return self->code;
}

void
client_call (client_t *self, const char *method, mp_t body, bus_reply_fn *on_reply, void *arg)
{
    bus_call (self->bus, &(bus_call_t) { .method = text_of (method), .ttl = self->timeout,
              .body = body, .on_reply = on_reply, .arg = arg });
}

void
client_print (mp_t value)
{
    buf_t json = { 0 };
    json_write (value, &json);
    buf_putc (&json, '\n');
    fwrite (json.data, 1, json.size, stdout);
    fflush (stdout);
    buf_free (&json);
}

int
client_code (const bus_reply_t *reply, bool say)
{
    if (reply->status < 400)
        return DONE_OK;
    text_t text = mp_text (mp_get (reply->body, "error")),
           code = mp_text (mp_get (reply->body, "code"));
    if (say)
        complain (0, "%.*s (%.*s, %llu)", (int) text.size, text.data, (int) code.size, code.data,
                  (unsigned long long) reply->status);
    return reply->status == 504 ? DONE_LATE : reply->status == 503 ? DONE_UNREACHABLE : DONE_ERROR;
}
