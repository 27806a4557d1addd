//  top.c -- `busbar top`: processes and methods, twice: what the system counts now, and a second
//  later.

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client.h"
#include "proto/hash.h"

#define NAME_MAX_BYTES 96

//  One process of the supervisor's list.
typedef struct {
    char slot [NAME_MAX_BYTES];
    int pid;
    int64_t ticks;               //  CPU time at the last look
} proc_t;

//  One method of one instance, as its last `stats` said.
typedef struct {
    char name [NAME_MAX_BYTES];
    uint64_t calls, errors, us, max_us;
    uint64_t was_calls, was_errors, was_us;
} method_t;

typedef struct {
    client_t client;
    hash_t *procs;               //  slot → proc_t
    hash_t *methods;             //  slot " " method → method_t
    size_t pending;              //  answers still to come in this round
    int64_t at, was;             //  loop ms of this round and the one before
    uint64_t rounds;
    bool terminal;
    buf_t screen, queues;        //  queues: rows of this round, in order of arrival
} top_t;

static opt_t s_options [] = {
    CLIENT_OPTIONS,
    { "once", OPT_BOOL, "false", 0, NULL, "one table as plain rows, then end", NULL },
    { "interval", OPT_INT, "1", 0, NULL, "seconds between tables", NULL },
    { 0 } };

//  ---- processes ----

static int64_t
s_ticks (int pid)
{
    char path [64];
    snprintf (path, sizeof path, "/proc/%d/stat", pid);
    char *text = file_read (path, NULL);
    //  Behind the name, which may hold anything: fields 3 … of which 14 and 15 are CPU time.
    const char *at = text ? strrchr (text, ')') : NULL;
    long long user = 0, system = 0;
    if (at)
        sscanf (at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lld %lld", &user, &system);
    free (text);
    return user + system;
}

//  Memory of its own, in KiB; 0 when we may not look.
static long
s_pss (int pid)
{
    char path [64];
    snprintf (path, sizeof path, "/proc/%d/smaps_rollup", pid);
    char *text = file_read (path, NULL);
    const char *at = text ? strstr (text, "\nPss:") : NULL;
    long size = at ? strtol (at + 5, NULL, 10) : 0;
    free (text);
    return size;
}

static void
s_put_process (top_t *self, mp_t row)
{
    text_t slot = mp_text (mp_get (row, "slot"));
    int pid = (int) mp_int (mp_get (row, "pid"));
    proc_t *proc = hash_get (self->procs, slot);
    if (!proc) {
        proc = xcalloc (1, sizeof *proc);
        snprintf (proc->slot, sizeof proc->slot, "%.*s", (int) slot.size, slot.data);
        hash_put (self->procs, slot, proc);
    }
    int64_t ticks = pid ? s_ticks (pid) : 0;
    double share = 0;
    if (proc->pid == pid && self->at > self->was)
        share = 100000.0 * (double) (ticks - proc->ticks)
            / (double) sysconf (_SC_CLK_TCK) / (double) (self->at - self->was);
    proc->pid = pid;
    proc->ticks = ticks;
    buf_putf (&self->screen, "%-20s %8d %8.1f %10ld %9lld\n", proc->slot, pid, share,
              pid ? s_pss (pid) : 0, (long long) mp_int (mp_get (row, "restarts")));
}

static void
s_put_processes (top_t *self)
{
    char *path = text_format ("%s/pids.json", self->client.run), error [128];
    size_t size = 0;
    char *json = file_read (path, &size);
    buf_t value = { 0 };
    buf_putf (&self->screen, "%-20s %8s %8s %10s %9s\n", "PROCESS", "PID", "CPU %", "PSS KIB",
              "RESTARTS");
    if (json && json_read ((text_t) { json, size }, &value, error, sizeof error))
        for (mp_iter_t it = mp_iter (mp_get (mp_buf (&value), "processes")); mp_next (&it);)
            s_put_process (self, it.value);
    buf_free (&value);
    free (json), free (path);
}

//  ---- methods ----

static int
s_by_calls (const void *a, const void *b)
{
    const method_t *left = *(method_t *const *) a, *right = *(method_t *const *) b;
    uint64_t x = left->calls - left->was_calls, y = right->calls - right->was_calls;
    return x != y                        ? (x < y ? 1 : -1)
           : left->calls != right->calls ? (left->calls < right->calls ? 1 : -1)
                                         : strcmp (left->name, right->name);
}

static void
s_put_method (top_t *self, const method_t *method)
{
    double seconds = (double) (self->at - self->was) / 1000.0;
    uint64_t calls = method->calls - method->was_calls, us = method->us - method->was_us;
    //  In the first table there is no interval yet: totals since the start.
    bool totals = self->was == 0;
    double per = totals || seconds <= 0 ? 1 : seconds;
    buf_putf (&self->screen, "%-44s %10llu %10.1f %8.1f %9.2f %9.2f\n", method->name,
              (unsigned long long) method->calls, totals ? 0 : (double) calls / per,
              totals ? 0 : (double) (method->errors - method->was_errors) / per,
              calls ? (double) us / (double) calls / 1000.0 : 0, (double) method->max_us / 1000.0);
}

static void
s_put_methods (top_t *self, size_t limit)
{
    size_t count = 0, at = 0;
    method_t **rows = xcalloc (hash_size (self->methods) + 1, sizeof *rows);
    text_t key;
    void *item;
    while (hash_each (self->methods, &at, &key, &item))
        if (((method_t *) item)->calls)
            rows [count++] = item;
    qsort (rows, count, sizeof *rows, s_by_calls);
    buf_putf (&self->screen, "\n%-44s %10s %10s %8s %9s %9s\n", "INSTANCE METHOD", "CALLS",
              "CALLS/S", "ERRORS/S", "MEAN MS", "MAX MS");
    for (size_t n = 0; n < count && n < limit; n++)
        s_put_method (self, rows [n]);
    free (rows);
}

//  ---- rounds ----

static void
s_show (top_t *self)
{
    if (self->terminal)
        fputs ("\033[H\033[J", stdout);
    fwrite (self->screen.data, 1, self->screen.size, stdout);
    fflush (stdout);
    self->was = self->at;
    if (opt_bool (s_options, "once") && ++self->rounds)
        client_stop (&self->client, DONE_OK);
    else
        ltimer_set (self->client.again, opt_int (s_options, "interval") * 1000);
}

static void
s_answered (top_t *self)
{
    if (--self->pending)
        return;
    buf_putc (&self->screen, '\n');
    s_put_processes (self);
    buf_putf (&self->screen, "\n%-20s %9s %11s %13s %10s %11s\n", "INSTANCE", "REQUESTS",
              "SQL WAITING", "SQL IN FLIGHT", "SERVED", "EVENTS OUT");
    buf_put (&self->screen, self->queues.data, self->queues.size);
    s_put_methods (self, self->terminal ? 24 : 10000);
    s_show (self);
}

static void
s_on_broker (void *arg, const bus_reply_t *reply)
{
    top_t *self = arg;
    buf_putf (&self->screen, "broker:");
    for (mp_iter_t it = mp_iter (reply->body); mp_next (&it);) {
        text_t name = mp_text (it.key);
        if (mp_type (it.value) == MP_INT)
            buf_putf (&self->screen, " %.*s=%lld", (int) name.size, name.data,
                      (long long) mp_int (it.value));
    }
    buf_putc (&self->screen, '\n');
    s_answered (self);
}

//  Answers carry the instance that counted.
static void
s_put_queues (top_t *self, text_t slot, mp_t body)
{
    mp_t db = mp_get (body, "db"), bus = mp_get (body, "bus");
    buf_putf (&self->queues, "%-20.*s %9lld %11lld %13lld %10lld %11lld\n", (int) slot.size,
              slot.data, (long long) mp_int (mp_get (body, "live")),
              (long long) mp_int (mp_get (db, "waiting")),
              (long long) mp_int (mp_get (db, "in_flight")),
              (long long) mp_int (mp_get (bus, "served")),
              (long long) mp_int (mp_get (bus, "events_out")));
}

static void
s_on_stats (void *arg, const bus_reply_t *reply)
{
    top_t *self = arg;
    text_t slot = mp_text (mp_get (reply->body, "slot"));
    if (reply->status == 200)
        s_put_queues (self, slot, reply->body);
    for (mp_iter_t it = mp_iter (mp_get (reply->body, "methods")); mp_next (&it);) {
        char name [NAME_MAX_BYTES];
        text_t method = mp_text (it.key);
        snprintf (name, sizeof name, "%.*s %.*s", (int) slot.size, slot.data, (int) method.size,
                  method.data);
        method_t *row = hash_get (self->methods, text_of (name));
        if (!row) {
            row = xcalloc (1, sizeof *row);
            snprintf (row->name, sizeof row->name, "%s", name);
            hash_put (self->methods, text_of (name), row);
        }
        row->was_calls = row->calls, row->was_errors = row->errors, row->was_us = row->us;
        row->calls = mp_uint (mp_get (it.value, "calls"));
        row->errors = mp_uint (mp_get (it.value, "errors"));
        row->us = mp_uint (mp_get (it.value, "us"));
        row->max_us = mp_uint (mp_get (it.value, "us_max"));
        //  The process began anew.
        if (row->calls < row->was_calls)
            row->was_calls = row->was_errors = row->was_us = 0;
    }
    s_answered (self);
}

static void
s_ask (void *arg)
{
    top_t *self = arg;
    buf_clear (&self->screen);
    buf_clear (&self->queues);
    self->at = loop_now (self->client.loop);
    self->pending = 1;
    client_call (&self->client, "broker.stats", mp_none, s_on_broker, self);
    bus_entry_t entry;
    for (size_t at = 0; bus_each_entry (self->client.bus, &at, &entry);) {
        char *method = text_format ("%s.stats", entry.name);
        size_t live = 0;
        if (strcmp (entry.name, "broker") != 0
            && !mp_is_none (bus_route (self->client.bus, text_of (method), &live))) {
            self->pending++;
            bus_call (self->client.bus, &(bus_call_t) { .method = text_of (method),
                                                       .ttl = 2000,
                                                       .slot = entry.slot,
                                                       .idempotent = true,
                                                       .on_reply = s_on_stats,
                                                       .arg = self });
        }
        free (method);
    }
}

static void
s_on_ready (void *arg)
{
    top_t *self = arg;
    if (self->client.again)
        return;
    self->client.again = loop_timer (self->client.loop, s_ask, self);
    s_ask (self);
}

int
top_command (int argc, char **argv)
{
    int rc = options_read (s_options, &argc, argv, "busbar top [--once] [--interval SECONDS]");
    if (rc != DONE_OK)
        return options_exit (rc);
    if (argc > 1 || opt_int (s_options, "interval") < 1)
        return complain (DONE_USAGE, "top: options only, and --interval must be at least 1");
    top_t self = { .procs = hash_new (free), .methods = hash_new (free),
                   .terminal = isatty (STDOUT_FILENO) && !opt_bool (s_options, "once") };
    int code = client_run (&self.client, s_options, s_on_ready, &self);
    hash_destroy (&self.procs);
    hash_destroy (&self.methods);
    buf_free (&self.screen);
    buf_free (&self.queues);
    return code;
}
