//  bus_world.h -- a loop with a small broker, actors that answer in a few ways, and one caller.

#ifndef BUS_WORLD_H
#define BUS_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/small_broker.h"

#define PATIENCE 30000               //  ms a test waits for what must happen
#define HELD_MAX 20000

typedef struct {
    bus_t *bus;
    bus_peer_t *peer;                //  of the latest call
    uint64_t held [HELD_MAX];        //  ids of echo.hold, not answered
    size_t held_count, served, cancelled, granted, received;
    uint64_t stream, credit, sent, total;     //  echo.stream: id, credit, chunks sent of total
    char key [64];
    bool holds;                      //  echo.back is held too
} test_actor_t;

typedef struct {
    loop_t *loop;
    void *zmq;
    char dir [32], endpoint [64];
    small_broker_t broker;
    test_actor_t actors [3];
    bus_t *client;
    size_t ready, directories;
    //  What the client was told.
    size_t replies, statuses [600], chunks, ends, unknown;
    char code [64], outcome [32], chunk_error [32];
    uint64_t upload_credit;
    size_t events, subscribed, again;
    uint64_t last_off;
    pid_t children [2];
    char refused [300];
} world_t;

static inline int64_t
world_clock (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

//  Turn the loop until the condition holds.
#define UNTIL(world, condition)                                       \
    do {                                                              \
        int64_t until_end = world_clock () + PATIENCE;                \
        while (!(condition)) {                                        \
            if (world_clock () > until_end)                           \
                fail_msg ("still not: %s", #condition);               \
            loop_turn ((world)->loop, 10);                            \
        }                                                             \
    } while (0)

static inline void
copy_to (char *to, size_t size, text_t from)
{
    snprintf (to, size, "%.*s", (int) from.size, from.data ? from.data : "");
}

static inline void
stream_more (test_actor_t *self)
{
    while (self->stream && self->credit > 0 && self->sent < self->total) {
        bool last = ++self->sent == self->total;
        self->credit--;
        uint64_t id = self->stream;
        if (last)
            self->stream = 0;
        bus_send_chunk (self->bus, self->peer, id, TEXT ("0123456789"), last, NULL);
    }
}

static inline void
actor_serve (void *arg, bus_peer_t *peer, const wire_call_t *call)
{
    test_actor_t *self = arg;
    self->peer = peer;
    self->served++;
    copy_to (self->key, sizeof self->key, call->key);
    buf_t buf = { 0 };
    if (text_is (call->method, "echo.back") && !self->holds)
        bus_answer (self->bus, peer, call->id, 200, call->params, mp_none);
    else if (text_is (call->method, "echo.stream")) {
        self->stream = call->id;
        self->sent = self->credit = 0;
        mp_put_map (&buf, 1);
        mp_pair_bool (&buf, "stream", true);
        bus_answer (self->bus, peer, call->id, 200, mp_none, mp_buf (&buf));
    }
    else if (text_is (call->method, "echo.upload"))
        bus_want (self->bus, peer, call->id, 4);
    else {
        assert (self->held_count < HELD_MAX);
        self->held [self->held_count++] = call->id;
    }
    buf_free (&buf);
}

static inline void
actor_cancelled (void *arg, bus_peer_t *peer, uint64_t id)
{
    (void) peer;
    test_actor_t *self = arg;
    self->cancelled++;
    if (self->stream == id)
        self->stream = 0;
}

static inline void
actor_received (void *arg, bus_peer_t *peer, const wire_chunk_t *chunk)
{
    test_actor_t *self = arg;
    self->received += chunk->data.size;
    if (chunk->last)
        bus_answer (self->bus, peer, chunk->id, 201, mp_none, mp_none);
    else
        bus_want (self->bus, peer, chunk->id, 1);
}

static inline void
actor_granted (void *arg, bus_peer_t *peer, uint64_t id, uint64_t count)
{
    test_actor_t *self = arg;
    (void) peer;
    self->granted += count;
    if (id == self->stream) {
        self->credit += count;
        stream_more (self);
    }
}

static inline void
actor_open (test_actor_t *self, loop_t *loop, void *zmq, const char *dir, const char *slot,
            uint32_t credit, bool outside)
{
    char endpoint [64];
    snprintf (endpoint, sizeof endpoint, "ipc://%s/broker.s", dir);
    self->bus = bus_new (loop, zmq, &(bus_conf_t) {
        .role = "actor", .name = "echo", .slot = slot, .broker = endpoint,
        .run_dir = outside ? NULL : dir, .credit = credit });
    static const char *const s_methods [] = { "echo.back", "echo.hold", "echo.stream",
                                              "echo.upload" };
    buf_t routes = { 0 }, channels = { 0 };
    mp_put_array (&routes, 4);
    for (size_t i = 0; i < 4; i++) {
        mp_put_map (&routes, 1);
        mp_pair_str (&routes, "method", s_methods [i]);
    }
    mp_put_array (&channels, 1);
    mp_put_map (&channels, 2);
    mp_pair_str (&channels, "name", "echoes");
    mp_pair_str (&channels, "kind", "log");
    bus_service (self->bus, &(bus_service_t) {
        .serve = actor_serve, .cancelled = actor_cancelled, .received = actor_received,
        .granted = actor_granted, .arg = self, .routes = mp_buf (&routes),
        .channels = mp_buf (&channels) });
    buf_free (&routes);
    buf_free (&channels);
    bus_start (self->bus, NULL);
}

//  An actor in a process of its own, to be killed. Forked before this process has any socket, or
//  the child would keep our connections open.
static inline pid_t
actor_fork (const char *dir, const char *slot, bool holds)
{
    pid_t pid = fork ();
    if (pid != 0)
        return pid;
    prctl (PR_SET_PDEATHSIG, SIGKILL);
    static test_actor_t actor;
    actor.holds = holds;
    loop_t *loop = loop_new ();
    actor_open (&actor, loop, zmq_ctx_new (), dir, slot, 0, false);
    loop_run (loop);
    _exit (0);
}

//  ---------------------------------------------------------------- the caller

static inline void
on_reply (void *arg, const bus_reply_t *reply)
{
    world_t *self = arg;
    self->replies++;
    assert (reply->status < 600);
    self->statuses [reply->status]++;
    copy_to (self->code, sizeof self->code, mp_text (mp_get (reply->body, "code")));
    copy_to (self->outcome, sizeof self->outcome, mp_text (mp_get (reply->meta, "outcome")));
}

static inline void
on_chunk (void *arg, const wire_chunk_t *chunk)
{
    world_t *self = arg;
    self->chunks++;
    self->ends += chunk->last;
    copy_to (self->chunk_error, sizeof self->chunk_error, chunk->error);
}

static inline void
on_upload_credit (void *arg, uint64_t count)
{
    world_t *self = arg;
    self->upload_credit += count;
}

static inline void
on_ready (void *arg)
{
    world_t *self = arg;
    self->ready++;
}

static inline void
on_change (void *arg)
{
    world_t *self = arg;
    self->directories++;
}

static inline void
on_event (void *arg, const wire_event_t *event)
{
    world_t *self = arg;
    self->events++;
    self->last_off = event->off;
}

static inline void
on_subscribed (void *arg, const wire_subscribed_t *answer, bool again)
{
    (void) answer;
    world_t *self = arg;
    self->subscribed++;
    self->again += again;
}

static inline size_t
live (world_t *self)
{
    size_t count;
    bus_route (self->client, TEXT ("echo.back"), &count);
    return count;
}

//  Every actor of this process knows that many instances.
static inline bool
all_know (world_t *self, size_t count)
{
    for (int i = 0; i < 3; i++) {
        size_t known = count;
        if (self->actors [i].bus)
            bus_route (self->actors [i].bus, TEXT ("echo.back"), &known);
        if (known != count)
            return false;
    }
    return true;
}

static inline world_t *
world_new (void)
{
    world_t *self = xcalloc (1, sizeof *self);
    strcpy (self->dir, "/tmp/bus-test-XXXXXX");
    assert (mkdtemp (self->dir));
    snprintf (self->endpoint, sizeof self->endpoint, "ipc://%s/broker.s", self->dir);
    return self;
}

//  Broker, `count` actors in this process, and the caller; children were forked before.
static inline void
world_open (world_t *self, int count, uint32_t credit)
{
    static const char *const s_slots [] = { "echo.1", "echo.2", "echo.3" };
    self->zmq = zmq_ctx_new ();
    self->loop = loop_new ();
    small_open (&self->broker, self->loop, self->zmq, self->endpoint);
    for (int i = 0; i < count; i++)
        actor_open (&self->actors [i], self->loop, self->zmq, self->dir, s_slots [i], credit,
                    false);
    self->client = bus_new (self->loop, self->zmq, &(bus_conf_t) {
        .role = "client", .name = "test", .slot = "test.1", .broker = self->endpoint });
    bus_listen (self->client, &(bus_listener_t) {
        .on_event = on_event, .on_subscribed = on_subscribed, .arg = self });
    bus_start (self->client, &(bus_life_t) {
        .on_ready = on_ready, .on_directory = on_change, .arg = self });
    size_t expected = (size_t) count + (self->children [0] > 0) + (self->children [1] > 0);
    UNTIL (self, self->ready > 0 && live (self) == expected);
}

static inline void
world_close (world_t *self)
{
    for (int i = 0; i < 2; i++)
        if (self->children [i] > 0) {
            kill (self->children [i], SIGKILL);
            waitpid (self->children [i], NULL, 0);
        }
    bus_destroy (&self->client);
    for (int i = 0; i < 3; i++)
        bus_destroy (&self->actors [i].bus);
    if (self->broker.socket)
        small_close (&self->broker);
    loop_destroy (&self->loop);
    zmq_ctx_term (self->zmq);
    DIR *dir = opendir (self->dir);
    struct dirent *each;
    while (dir && (each = readdir (dir)))
        unlinkat (dirfd (dir), each->d_name, 0);
    closedir (dir);
    rmdir (self->dir);
    free (self);
}

static inline uint64_t
world_call (world_t *self, bus_call_t call)
{
    call.on_reply = on_reply;
    call.arg = self;
    return bus_call (self->client, &call);
}

#define CALL(world, name, ...) \
    world_call ((world), (bus_call_t) { .method = TEXT (name), __VA_ARGS__ })

#endif
