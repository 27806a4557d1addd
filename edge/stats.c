//  stats.c -- counters per route for Prometheus, and the access log: one logfmt line per request,
//  written together every few milliseconds.

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "edge/edge.h"

#define STATUSES 64
#define LOG_FLUSH (32 * 1024)
#define LOG_KEEP 10                      //  ms

static const double s_bounds [] = {
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30
};
#define BOUNDS (sizeof s_bounds / sizeof *s_bounds)

typedef struct {
    char *verb, *endpoint;
    struct { unsigned status; uint64_t count; } statuses [STATUSES];
    uint64_t buckets [BOUNDS + 1];
    double seconds;
} counter_t;

struct stats {
    edge_t *edge;
    hash_t *counters;            //  "GET /clusters/:id"
    buf_t lines;
    ltimer_t *write;             //  lines wait for it
    bool log;
    uint64_t requests, bytes;
};

static void
counter_free (void *item)
{
    counter_t *counter = item;
    free (counter->verb);
    free (counter->endpoint);
    free (counter);
}

static void
on_write (void *arg)
{
    stats_flush (arg);
}

stats_t *
stats_new (edge_t *edge)
{
    stats_t *self = xcalloc (1, sizeof *self);
    self->edge = edge;
    self->counters = hash_new (counter_free);
    self->write = loop_timer (edge->loop, on_write, self);
    self->log = opt_bool (edge->options, "access-log");
    return self;
}

void
stats_destroy (stats_t **self_p)
{
    stats_t *self = *self_p;
    if (!self)
        return;
    stats_flush (self);
    ltimer_end (&self->write);
    hash_destroy (&self->counters);
    buf_free (&self->lines);
    free (self);
    *self_p = NULL;
}

static counter_t *
counter_get (stats_t *self, text_t verb, const char *endpoint)
{
    char name [512];
    int size = snprintf (name, sizeof name, "%.*s %s", (int) verb.size, verb.data, endpoint);
    bool fits = size > 0 && (size_t) size < sizeof name;
    text_t key = { name, fits ? (size_t) size : sizeof name - 1 };
    counter_t *counter = hash_get (self->counters, key);
    if (!counter) {
        counter = xcalloc (1, sizeof *counter);
        counter->verb = text_copy (verb);
        counter->endpoint = xstrdup (endpoint);
        hash_put (self->counters, key, counter);
    }
    return counter;
}

void *
stats_route (stats_t *self, const route_t *route)
{
    return counter_get (self, route->verb, route->pattern);
}

static void
counter_add (counter_t *counter, unsigned status, double seconds)
{
    for (size_t i = 0; i < STATUSES; i++)
        if (counter->statuses [i].status == status || !counter->statuses [i].status) {
            counter->statuses [i].status = status;
            counter->statuses [i].count++;
            break;
        }
    size_t bucket = 0;
    while (bucket < BOUNDS && seconds > s_bounds [bucket])
        bucket++;
    counter->buckets [bucket]++;
    counter->seconds += seconds;
}

//  ---------------------------------------------------------------- access log

static void
put_value (buf_t *out, const char *name, text_t value)
{
    buf_puts (out, " ");
    buf_puts (out, name);
    buf_puts (out, "=");
    bool plain = value.size > 0;
    for (size_t i = 0; i < value.size && plain; i++)
        plain = value.data [i] > ' ' && value.data [i] < 0x7f && value.data [i] != '"'
            && value.data [i] != '=' && value.data [i] != '\\';
    if (plain)
        buf_put (out, value.data, value.size);
    else
        json_quote (value, out);
}

static void
put_thousandths (buf_t *out, uint64_t value)
{
    char text [5] = { '.', (char) ('0' + value / 100), (char) ('0' + value / 10 % 10),
                      (char) ('0' + value % 10) };
    buf_puts (out, text);
}

static void
put_line (stats_t *self, const request_t *req, int64_t us)
{
    static time_t s_second;
    static char s_stamp [32];
    struct timespec now;
    clock_gettime (CLOCK_REALTIME, &now);
    if (now.tv_sec != s_second) {
        struct tm parts;
        s_second = now.tv_sec;
        gmtime_r (&s_second, &parts);
        strftime (s_stamp, sizeof s_stamp, "%Y-%m-%dT%H:%M:%S", &parts);
    }
    buf_t *out = &self->lines;
    buf_puts (out, "t=");
    buf_puts (out, s_stamp);
    put_thousandths (out, (uint64_t) now.tv_nsec / 1000000);
    buf_puts (out, "Z level=info actor=edge req=");
    buf_puts (out, req->id);
    buf_puts (out, " verb=");
    buf_puts (out, verb_name (req->verb));
    text_t path = buf_text (&req->path);
    if (path.size > 512)
        path.size = 512;
    put_value (out, "path", path);
    put_value (out, "route", text_of (req->endpoint));
    if (req->session && *req->session->user)
        put_value (out, "user", text_of (req->session->user));
    put_value (out, "ip", text_of (req->conn->ip));
    buf_puts (out, " status=");
    put_number (out, req->status);
    buf_puts (out, " ms=");
    put_number (out, (uint64_t) us / 1000);
    put_thousandths (out, (uint64_t) us % 1000);
    buf_puts (out, " bytes=");
    put_number (out, req->out_total);
    if (req->code) {
        buf_puts (out, " code=");
        buf_puts (out, req->code);
    }
    if (!req->finished)
        buf_puts (out, " cut=true");
    buf_putc (out, '\n');
    if (out->size > LOG_FLUSH)
        stats_flush (self);
    else if (!ltimer_active (self->write))
        ltimer_set (self->write, LOG_KEEP);
}

void
stats_flush (stats_t *self)
{
    size_t at = 0;
    while (at < self->lines.size) {
        ssize_t size = write (STDERR_FILENO, self->lines.data + at, self->lines.size - at);
        if (size < 0 && errno == EINTR)
            continue;
        //  A log that takes nothing must not stop the service.
        if (size <= 0)
            break;
        at += (size_t) size;
    }
    buf_clear (&self->lines);
}

void
stats_request (stats_t *self, request_t *req)
{
    int64_t us = (int64_t) lws_now_usecs () - req->started_us;
    counter_t *counter = req->route ? req->route->counters
        : counter_get (self, text_of (verb_name (req->verb)), req->endpoint);
    counter_add (counter, req->status, (double) us / 1e6);
    self->requests++;
    self->bytes += req->out_total;
    if (self->log)
        put_line (self, req, us);
}

//  ---------------------------------------------------------------- Prometheus

static void
put_counter (buf_t *out, const counter_t *counter)
{
    for (size_t i = 0; i < STATUSES && counter->statuses [i].status; i++)
        buf_putf (out, "api_requests_total{method=\"%s\",endpoint=\"%s\",status=\"%u\"} %llu\n",
                  counter->verb, counter->endpoint, counter->statuses [i].status,
                  (unsigned long long) counter->statuses [i].count);
}

static void
put_histogram (buf_t *out, const counter_t *counter)
{
    uint64_t sum = 0;
    if (!counter->statuses [0].status)
        return;
    for (size_t i = 0; i <= BOUNDS; i++) {
        char bound [16] = "+Inf";
        if (i < BOUNDS)
            snprintf (bound, sizeof bound, "%g", s_bounds [i]);
        sum += counter->buckets [i];
        buf_putf (out, "api_request_duration_seconds_bucket{method=\"%s\",endpoint=\"%s\","
                  "le=\"%s\"} %llu\n", counter->verb, counter->endpoint, bound,
                  (unsigned long long) sum);
    }
    buf_putf (out, "api_request_duration_seconds_sum{method=\"%s\",endpoint=\"%s\"} %.6f\n"
              "api_request_duration_seconds_count{method=\"%s\",endpoint=\"%s\"} %llu\n",
              counter->verb, counter->endpoint, counter->seconds, counter->verb, counter->endpoint,
              (unsigned long long) sum);
}

static void
put_own (buf_t *out, const char *name, const char *type, uint64_t value)
{
    buf_putf (out, "# TYPE busbar_edge_%s %s\nbusbar_edge_%s %llu\n", name, type, name,
              (unsigned long long) value);
}

void
stats_metrics (request_t *req)
{
    edge_t *edge = req->edge;
    stats_t *self = edge->stats;
    buf_t out = { 0 };
    text_t key;
    void *item;
    buf_puts (&out, "# TYPE api_requests_total counter\n");
    for (size_t at = 0; hash_each (self->counters, &at, &key, &item);)
        put_counter (&out, item);
    buf_puts (&out, "# TYPE api_request_duration_seconds histogram\n");
    for (size_t at = 0; hash_each (self->counters, &at, &key, &item);)
        put_histogram (&out, item);
    const bus_stats_t *bus = bus_stats (edge->bus);
    put_own (&out, "connections", "gauge", edge->conn_count);
    put_own (&out, "websockets", "gauge", edge->ws_count);
    put_own (&out, "requests_in_flight", "gauge", edge->request_count);
    put_own (&out, "requests_total", "counter", self->requests);
    put_own (&out, "sent_bytes_total", "counter", self->bytes);
    put_own (&out, "ready", "gauge", edge->ready);
    put_own (&out, "bus_calls_total", "counter", bus->calls);
    put_own (&out, "bus_resent_total", "counter", bus->resent);
    put_own (&out, "bus_unknown_total", "counter", bus->unknown);
    put_own (&out, "bus_timeouts_total", "counter", bus->timeouts);
    put_own (&out, "bus_waiting", "gauge", bus->waiting);
    put_own (&out, "bus_in_flight", "gauge", bus->in_flight);
    put_own (&out, "bus_events_total", "counter", bus->events_in);
    put_own (&out, "bus_malformed_total", "counter", bus->malformed);
    live_metrics (edge->live, &out);
    reply_bytes (req, 200, "text/plain; version=0.0.4", buf_text (&out));
    buf_free (&out);
}
