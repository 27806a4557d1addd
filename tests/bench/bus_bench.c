//  bus_bench.c -- round trips of the bus, caller and actor in two processes: per second with 64 in
//  flight, and p50 / p99 of one at a time. One line of JSON.

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hist.h"
#include "proto/bus.h"
#include "tests/unit/small_broker.h"

#define IN_FLIGHT 64
#define ALONE 20000

typedef struct {
    loop_t *loop;
    bus_t *bus;
    buf_t params;
    uint64_t done, target;
    int in_flight;
    int64_t started, *times;
    bool ready;
} bench_t;

static bench_t s_server;

static void
serve (void *arg, bus_peer_t *peer, const wire_call_t *call)
{
    (void) arg;
    bus_answer (s_server.bus, peer, call->id, 200, call->params, mp_none);
}

//  The actor, and the broker that only introduces.
static int
server_main (const char *dir, const char *broker)
{
    void *zmq = zmq_ctx_new ();
    loop_t *loop = loop_new ();
    static small_broker_t small;
    small_open (&small, loop, zmq, broker);
    s_server.bus = bus_new (loop, zmq, &(bus_conf_t) {
        .role = "actor", .name = "echo", .slot = "echo.1", .broker = broker, .run_dir = dir });
    buf_t routes = { 0 };
    mp_put_array (&routes, 1);
    mp_put_map (&routes, 1);
    mp_pair_str (&routes, "method", "echo.back");
    bus_service (s_server.bus, &(bus_service_t) { .serve = serve, .routes = mp_buf (&routes) });
    bus_start (s_server.bus, NULL);
    return loop_run (loop);
}

static void on_reply (void *arg, const bus_reply_t *reply);

static void
call (bench_t *self)
{
    bus_call (self->bus, &(bus_call_t) {
        .method = TEXT ("echo.back"), .params = mp_buf (&self->params), .idempotent = true,
        .on_reply = on_reply, .arg = self });
}

static void
on_reply (void *arg, const bus_reply_t *reply)
{
    bench_t *self = arg;
    if (reply->status != 200) {
        fprintf (stderr, "bus_bench: status %d\n", (int) reply->status);
        exit (1);
    }
    if (self->times) {
        int64_t now = nanoseconds (CLOCK_MONOTONIC);
        self->times [self->done] = now - self->started;
        self->started = now;
    }
    if (++self->done + (uint64_t) self->in_flight <= self->target)
        call (self);
    else if (self->done == self->target)
        loop_stop (self->loop);
}

static void
on_directory (void *arg)
{
    bench_t *self = arg;
    size_t live;
    bus_route (self->bus, TEXT ("echo.back"), &live);
    if (live > 0 && !self->ready) {
        self->ready = true;
        loop_stop (self->loop);
    }
}

static double
measure (bench_t *self, int in_flight, uint64_t target)
{
    self->in_flight = in_flight;
    self->done = 0;
    self->target = target;
    int64_t start = self->started = nanoseconds (CLOCK_MONOTONIC);
    for (int i = 0; i < in_flight; i++)
        call (self);
    loop_run (self->loop);
    return (double) (nanoseconds (CLOCK_MONOTONIC) - start) / 1e9;
}

static int
compare (const void *a, const void *b)
{
    int64_t x = *(const int64_t *) a, y = *(const int64_t *) b;
    return (x > y) - (x < y);
}

//  Processor time of both processes, in ns.
static int64_t
used (pid_t server)
{
    clockid_t clock;
    if (clock_getcpuclockid (server, &clock) != 0)
        return 0;
    return nanoseconds (clock) + nanoseconds (CLOCK_PROCESS_CPUTIME_ID);
}

static void
client_main (const char *broker, pid_t server, uint64_t target)
{
    void *zmq = zmq_ctx_new ();
    bench_t bench = { .loop = loop_new () };
    bench.bus = bus_new (bench.loop, zmq, &(bus_conf_t) {
        .role = "client", .name = "bench", .slot = "bench.1", .broker = broker });
    mp_put_map (&bench.params, 1);
    mp_pair_str (&bench.params, "id", "7f1c6a52-0d1c-4f5e-9a5e-1f6f6f3c2b11");
    bus_start (bench.bus, &(bus_life_t) { .on_directory = on_directory, .arg = &bench });
    loop_run (bench.loop);

    measure (&bench, IN_FLIGHT, target / 10);
    int64_t before = used (server);
    double seconds = measure (&bench, IN_FLIGHT, target);
    int64_t work = used (server) - before;
    bench.times = xcalloc (ALONE, sizeof *bench.times);
    measure (&bench, 1, ALONE);
    qsort (bench.times, ALONE, sizeof *bench.times, compare);
    printf ("{\"bench\":\"bus\",\"in_flight\":%d,\"calls\":%llu,\"per_second\":%.0f,"
            "\"cpu\":%.3f,\"alone_p50_us\":%.1f,\"alone_p99_us\":%.1f}\n", IN_FLIGHT,
            (unsigned long long) target, (double) target / seconds,
            (double) work / 1e3 / (double) target,
            (double) bench.times [ALONE / 2] / 1e3, (double) bench.times [ALONE * 99 / 100] / 1e3);
    free (bench.times);
    bus_destroy (&bench.bus);
    buf_free (&bench.params);
    loop_destroy (&bench.loop);
    zmq_ctx_term (zmq);
}

int
main (int argc, char **argv)
{
    uint64_t target = argc > 1 ? strtoull (argv [1], NULL, 10) : 500000;
    char dir [] = "/tmp/bus-bench-XXXXXX", broker [64];
    if (!mkdtemp (dir)) {
        perror (dir);
        return 1;
    }
    snprintf (broker, sizeof broker, "ipc://%s/broker.s", dir);
    pid_t server = fork ();
    if (server == 0)
        return server_main (dir, broker);
    client_main (broker, server, target);
    kill (server, SIGKILL);
    waitpid (server, NULL, 0);
    char command [80];
    snprintf (command, sizeof command, "rm -r %s", dir);
    return system (command) != 0;
}
