//  live_load.c -- many WebSockets that hear one channel, and one who changes rows: what arrives,
//  how late, and whether every event is accounted for at every one of them.
//
//      live_load --port 8002 --connections 1000 --seconds 3 --window 8     as fast as they hear it
//      live_load --port 8002 --connections 1000 --seconds 3 --rate 20      so many changes a second
//      live_load --port 8002 --connections 5000 --hold                     until input ends
//
//  --rows ID,… changes these rows in turn (PUT) instead of making new ones (POST): a subscriber
//  that is behind then hears only the newest state of each. --runs ID,… are runs that wait, which
//  are cancelled and repaired in turn. --slow and --never so many of the connections read 4 KiB
//  five times a second, or nothing before the end. One line of JSON follows.

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "client.h"
#include "hist.h"
#include "proto/opt.h"

#define WRITERS 8
#define SLOW_BYTES 4096
#define SLOW_NS 200000000
#define DRAIN_NS INT64_C (30000000000)
#define DAY_NS INT64_C (86400000000000)

typedef enum { HEALTHY, SLOW, NEVER, KINDS } kind_t;

typedef struct {
    conn_t conn;
    kind_t kind;
    uint64_t off, first;             //  last and first position it was told of
    uint64_t delivered, coalesced, gaps, lost;
} hearer_t;

typedef struct {
    conn_t conn;
    bool busy;
} writer_t;

typedef struct {
    int epoll, port, good;
    size_t count, next_writer, rows, next_row;
    bool runs;
    hearer_t *hearers;
    writer_t writer [WRITERS];
    const char *token, *row [64];
    char *padding;
    uint64_t sent, answered, failed, late, heard;
    bool over;
    hist_t from_request, from_commit;
} load_t;

static opt_t s_options [] = {
    { "port", OPT_INT, NULL, OPT_REQUIRED, NULL, "where the server listens", NULL },
    { "token", OPT_STR, NULL, OPT_SECRET, "BENCH_TOKEN", "access token", NULL },
    { "channel", OPT_STR, "workspaces", 0, NULL, "what is heard", NULL },
    { "connections", OPT_INT, "1000", 0, NULL, "how many hear it", NULL },
    { "seconds", OPT_INT, "3", 0, NULL, "how long", NULL },
    { "window", OPT_INT, "8", 0, NULL, "events on their way at most", NULL },
    { "rate", OPT_INT, "0", 0, NULL, "changes a second; 0: as the window allows", NULL },
    { "size", OPT_INT, "100", 0, NULL, "bytes of the changing text", NULL },
    { "slow", OPT_INT, "0", 0, NULL, "how many read little", NULL },
    { "never", OPT_INT, "0", 0, NULL, "how many do not read", NULL },
    { "hold", OPT_BOOL, "false", 0, NULL, "only connect, and stay", NULL },
    { "idle", OPT_BOOL, "false", 0, NULL, "connected without a subscription", NULL },
    { "rows", OPT_STR, NULL, 0, NULL, "ids of rows to change, with commas", NULL },
    { "runs", OPT_STR, NULL, 0, NULL, "ids of runs to cancel and repair, with commas", NULL },
    { 0 } };

//  ---------------------------------------------------------------- hearing

//  Behind `name`, which stands early in the object; 0 when it isn't there.
static uint64_t
number_after (text_t object, const char *name)
{
    size_t size = strlen (name);
    const char *at = memmem (object.data, object.size, name, size);
    return at ? strtoull (at + size, NULL, 10) : 0;
}

//  "at":"2026-11-22T07:40:00.123456Z": ns of the day.
static int64_t
time_of_day (const char *at)
{
    int hour, minute;
    double second;
    if (sscanf (at, "%2d:%2d:%lf", &hour, &minute, &second) != 3)
        return -1;
    return (hour * 60 + minute) * INT64_C (60000000000) + (int64_t) (second * 1e9);
}

static void
note_times (load_t *self, text_t object)
{
    uint64_t started = number_after (object, "\"t=");
    if (started)
        hist_add (&self->from_request, nanoseconds (CLOCK_MONOTONIC) - (int64_t) started);
    const char *at = memmem (object.data, object.size, "\"at\":\"", 6);
    int64_t begun = at ? time_of_day (at + 17) : -1;
    if (begun >= 0) {
        int64_t now = nanoseconds (CLOCK_REALTIME) % DAY_NS;
        hist_add (&self->from_commit, (now - begun + DAY_NS) % DAY_NS);
    }
}

static void
take_gap (hearer_t *hearer, text_t object)
{
    uint64_t from = number_after (object, "\"from\":"), to = number_after (object, "\"to\":");
    if (from != hearer->off + 1)
        hearer->lost += from > hearer->off ? from - hearer->off - 1 : 1;
    hearer->gaps += to - from + 1;
    hearer->off = to;
}

static void
take_object (load_t *self, hearer_t *hearer, text_t object)
{
    if (object.size == 2) {
        ws_send (&hearer->conn, 1, "{}", 2);
        return;
    }
    //  Names and numbers stand before the data.
    text_t head = { object.data, object.size < 200 ? object.size : 200 };
    uint64_t off = number_after (head, "\"off\":"), prev = number_after (head, "\"prev\":");
    if (memmem (head.data, head.size, "\"gap\":", 6))
        take_gap (hearer, object);
    else if (off == 0 || !memmem (head.data, head.size, "\"prev\":", 7))
        stop_with ("unexpected: %.*s", (int) head.size, head.data);
    else {
        if (hearer->delivered == 0 && hearer->gaps == 0)
            hearer->off = hearer->first = prev;
        //  What `prev` does not join on to is lost; what it jumps over, newer states replaced.
        if (prev != hearer->off || off <= prev)
            hearer->lost++;
        else
            hearer->coalesced += off - prev - 1;
        hearer->off = off;
        hearer->delivered++;
        if (hearer->kind == HEALTHY)
            self->heard++;
        if (hearer->kind == HEALTHY && !self->over)
            note_times (self, object);
    }
}

static bool
hear (load_t *self, hearer_t *hearer, size_t max)
{
    text_t message;
    static const char *const names [] = { "one", "a slow one", "one that never read" };
    if (!conn_read (&hearer->conn, max)) {
        if (hearer->conn.closed)
            stop_with ("the server hung up on %s", names [hearer->kind]);
        return false;
    }
    while (ws_take (&hearer->conn, &message))
        while (message.size > 0) {
            const char *end = memchr (message.data, '\n', message.size);
            size_t size = end ? (size_t) (end - message.data) : message.size;
            if (size > 0)
                take_object (self, hearer, (text_t) { message.data, size });
            size += end != NULL;
            message = (text_t) { message.data + size, message.size - size };
        }
    return true;
}

//  ---------------------------------------------------------------- changing

//  The next change: a new row, another text of a row, or another state of a run.
static void
write_one (load_t *self, conn_t *conn)
{
    static buf_t body;
    char path [100];
    size_t place = self->next_row++;
    const char *row = self->rows ? self->row [place % self->rows] : NULL;
    buf_clear (&body);
    if (self->runs) {
        snprintf (path, sizeof path, "/job-runs/%s/%s", row,
                  place / self->rows % 2 ? "repair" : "cancel");
        http_send (conn, "POST", path, self->token, "{}");
        return;
    }
    buf_putf (&body, "{\"name\":\"load\",\"icon\":\"t=%lld\",\"description\":\"%s\"}",
              (long long) nanoseconds (CLOCK_MONOTONIC), self->padding);
    buf_putc (&body, 0);
    snprintf (path, sizeof path, row ? "/workspaces/%s" : "/workspaces", row);
    http_send (conn, row ? "PUT" : "POST", path, self->token, (char *) body.data);
}

static bool
write_next (load_t *self)
{
    //  In turn, so that no connection stays idle until the server ends it.
    writer_t *writer = &self->writer [self->next_writer];
    if (writer->busy)
        return false;
    self->next_writer = (self->next_writer + 1) % WRITERS;
    write_one (self, &writer->conn);
    writer->busy = true;
    self->sent++;
    return true;
}

static void
take_answer (load_t *self, writer_t *writer)
{
    text_t body;
    while (conn_read (&writer->conn, SIZE_MAX))
        ;
    int status = http_take (&writer->conn, &body);
    if (writer->conn.closed)
        stop_with ("the server hung up on who changes rows");
    if (status == 0)
        return;
    writer->busy = false;
    self->answered++;
    if (status != self->good) {
        self->failed++;
        fprintf (stderr, "status %d: %.*s\n", status, (int) body.size, body.data);
    }
}

//  ---------------------------------------------------------------- the course of it

static void
listen_to (load_t *self, conn_t *conn, void *what)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = what };
    if (epoll_ctl (self->epoll, EPOLL_CTL_ADD, conn->fd, &event))
        stop_with ("epoll: %s", strerror (errno));
}

static bool
is_writer (const load_t *self, const void *what)
{
    return what >= (const void *) self->writer
           && what < (const void *) (self->writer + WRITERS);
}

static void
turn (load_t *self, int wait_ms)
{
    struct epoll_event events [256];
    int count = epoll_wait (self->epoll, events, 256, wait_ms);
    for (int n = 0; n < count; n++) {
        void *what = events [n].data.ptr;
        if (is_writer (self, what))
            take_answer (self, what);
        else
            hear (self, what, SIZE_MAX);
    }
}

static void
open_all (load_t *self)
{
    buf_t hello = { 0 };
    buf_putf (&hello, "{\"id\":1,\"connect\":{\"token\":\"%s\"}}", self->token);
    if (!opt_bool (s_options, "idle"))
        buf_putf (&hello, "\n{\"id\":2,\"subscribe\":{\"ch\":\"%s\"}}",
                  opt_str (s_options, "channel"));
    buf_putc (&hello, 0);
    size_t slow = (size_t) opt_int (s_options, "slow");
    size_t never = (size_t) opt_int (s_options, "never");
    self->hearers = xcalloc (self->count, sizeof *self->hearers);
    for (size_t n = 0; n < self->count; n++) {
        hearer_t *hearer = &self->hearers [n];
        hearer->kind = n < never ? NEVER : n < never + slow ? SLOW : HEALTHY;
        ws_open (&hearer->conn, self->port, hearer->kind == HEALTHY ? 0 : SLOW_BYTES, "/ws",
                 (char *) hello.data);
        if (hearer->kind == HEALTHY)
            listen_to (self, &hearer->conn, hearer);
    }
    buf_free (&hello);
}

//  Those who read little take their share.
static void
sip (load_t *self, int64_t now)
{
    static int64_t due;
    if (now < due)
        return;
    due = now + SLOW_NS;
    for (size_t n = 0; n < self->count; n++)
        if (self->hearers [n].kind == SLOW)
            hear (self, &self->hearers [n], SLOW_BYTES);
}

//  Events that healthy ones have not heard yet, at most.
static uint64_t
on_their_way (const load_t *self, size_t healthy)
{
    return self->sent - self->heard / healthy;
}

static double
drive (load_t *self, size_t healthy)
{
    int64_t rate = opt_int (s_options, "rate"), window = opt_int (s_options, "window");
    int64_t start = nanoseconds (CLOCK_MONOTONIC), now = start;
    int64_t end = start + opt_int (s_options, "seconds") * 1000000000;
    while (now < end) {
        if (rate) {
            int64_t due = start + (int64_t) self->sent * 1000000000 / rate;
            if (now >= due && !write_next (self))
                self->late++;
        }
        else
            while (on_their_way (self, healthy) < (uint64_t) window && write_next (self))
                ;
        turn (self, rate ? 1 : 100);
        now = nanoseconds (CLOCK_MONOTONIC);
        sip (self, now);
    }
    return (double) (now - start) / 1e9;
}

//  Of how many events this one knows what became of them.
static uint64_t
known (const hearer_t *hearer)
{
    return hearer->delivered + hearer->coalesced + hearer->gaps;
}

//  Now everybody reads until all of them know of every event.
static void
drain (load_t *self)
{
    self->over = true;
    for (size_t n = 0; n < self->count; n++)
        if (self->hearers [n].kind != HEALTHY)
            listen_to (self, &self->hearers [n].conn, &self->hearers [n]);
    int64_t end = nanoseconds (CLOCK_MONOTONIC) + DRAIN_NS;
    for (size_t behind = 1; behind > 0 && nanoseconds (CLOCK_MONOTONIC) < end;) {
        turn (self, 20);
        behind = self->sent - self->answered;
        for (size_t n = 0; n < self->count; n++)
            behind += known (&self->hearers [n]) < self->answered;
    }
}

//  Of one kind of hearers: what every one should have heard, and what became of it.
static void
account (const load_t *self, kind_t kind, const char *name, buf_t *out)
{
    uint64_t hearers = 0, delivered = 0, coalesced = 0, gaps = 0, lost = 0, missing = 0;
    for (size_t n = 0; n < self->count; n++) {
        const hearer_t *one = &self->hearers [n];
        if (one->kind != kind)
            continue;
        hearers++;
        delivered += one->delivered;
        coalesced += one->coalesced;
        gaps += one->gaps;
        lost += one->lost;
        missing += self->answered > known (one) ? self->answered - known (one)
                                                : known (one) - self->answered;
    }
    buf_putf (out, ",\"%s\":{\"hearers\":%llu,\"delivered\":%llu,\"coalesced\":%llu,\"gaps\":%llu,"
              "\"lost\":%llu,\"missing\":%llu}", name, (unsigned long long) hearers,
              (unsigned long long) delivered, (unsigned long long) coalesced,
              (unsigned long long) gaps, (unsigned long long) lost, (unsigned long long) missing);
}

//  `requests` are all deliveries, those of the end, too; per_second counts those of the time.
static void
report (const load_t *self, double seconds, uint64_t heard)
{
    buf_t out = { 0 };
    uint64_t delivered = 0;
    for (size_t n = 0; n < self->count; n++)
        delivered += self->hearers [n].delivered;
    account (self, HEALTHY, "healthy", &out);
    account (self, SLOW, "slow", &out);
    account (self, NEVER, "never", &out);
    buf_putc (&out, 0);
    printf ("{\"events\":%llu,\"requests\":%llu,\"per_second\":%.0f,\"seconds\":%.6f,"
            "\"failed\":%llu,\"late\":%llu,\"p50\":%.3f,\"p99\":%.3f,"
            "\"commit_p50\":%.3f,\"commit_p99\":%.3f%s}\n",
            (unsigned long long) self->answered, (unsigned long long) delivered,
            (double) heard / seconds, seconds, (unsigned long long) self->failed,
            (unsigned long long) self->late, hist_ms (&self->from_request, 0.5),
            hist_ms (&self->from_request, 0.99), hist_ms (&self->from_commit, 0.5),
            hist_ms (&self->from_commit, 0.99), (char *) out.data);
    buf_free (&out);
}

static void
rows_read (load_t *self)
{
    self->runs = opt_str (s_options, "runs") != NULL;
    char *rows = xstrdup (opt_str (s_options, self->runs ? "runs" : "rows"));
    for (char *row = rows ? strtok (rows, ",") : NULL; row && self->rows < 64;
         row = strtok (NULL, ","))
        self->row [self->rows++] = row;
    self->good = self->runs ? 202 : self->rows ? 200 : 201;
}

int
main (int argc, char **argv)
{
    int rc = opt_read (s_options, &argc, argv, "live_load: many subscribers of one channel");
    if (rc)
        return rc == 1 ? 0 : rc;
    static load_t load;
    load_t *self = &load;
    files_raise ();
    self->epoll = epoll_create1 (EPOLL_CLOEXEC);
    self->port = (int) opt_int (s_options, "port");
    self->token = opt_str (s_options, "token") ? opt_str (s_options, "token") : "none";
    self->count = (size_t) opt_int (s_options, "connections");
    size_t size = (size_t) opt_int (s_options, "size");
    self->padding = xcalloc (size + 1, 1);
    memset (self->padding, 'x', size);
    rows_read (self);
    open_all (self);
    puts ("ready");
    fflush (stdout);
    if (opt_bool (s_options, "hold"))
        return getchar () != EOF;
    for (size_t n = 0; n < WRITERS; n++) {
        conn_open (&self->writer [n].conn, self->port, 0);
        listen_to (self, &self->writer [n].conn, &self->writer [n]);
    }
    size_t apart = (size_t) (opt_int (s_options, "slow") + opt_int (s_options, "never"));
    double seconds = drive (self, self->count - apart);
    uint64_t heard = self->heard;
    drain (self);
    report (self, seconds, heard);
    return 0;
}
