//  test_bus_broker.c -- the bus client with the real broker: registration, conflict, relay,
//  restart.

#include <libgen.h>
#include <limits.h>

#include "tests/unit/bus_world.h"

static char s_broker [PATH_MAX];

static pid_t
broker_start (const world_t *world)
{
    pid_t pid = fork ();
    if (pid == 0) {
        prctl (PR_SET_PDEATHSIG, SIGKILL);
        execl (s_broker, "busbar-broker", "--run-dir", world->dir, "--log-level", "error", NULL);
        _exit (127);
    }
    assert_true (pid > 0);
    return pid;
}

static void
broker_kill (pid_t pid)
{
    kill (pid, SIGKILL);
    waitpid (pid, NULL, 0);
}

static void
on_refusal (void *arg, const wire_refused_t *why)
{
    world_t *world = arg;
    copy_to (world->refused, sizeof world->refused, why->text);
}

static void
client_open (world_t *world)
{
    world->client = bus_new (world->loop, world->zmq, &(bus_conf_t) {
        .role = "client", .name = "test", .slot = "test.1", .broker = world->endpoint });
    bus_listen (world->client, &(bus_listener_t) {
        .on_event = on_event, .on_subscribed = on_subscribed, .arg = world });
    bus_start (world->client, &(bus_life_t) {
        .on_ready = on_ready, .on_directory = on_change, .arg = world });
}

static world_t *
world_with_broker (pid_t *broker, int actors, bool outside)
{
    static const char *const s_slots [] = { "echo.1", "echo.2", "echo.3" };
    world_t *world = world_new ();
    *broker = broker_start (world);
    world->zmq = zmq_ctx_new ();
    world->loop = loop_new ();
    for (int i = 0; i < actors; i++)
        actor_open (&world->actors [i], world->loop, world->zmq, world->dir, s_slots [i], 0,
                    outside);
    client_open (world);
    UNTIL (world, world->ready > 0 && live (world) == (size_t) actors);
    return world;
}

static void
test_calls_and_claims (void **state)
{
    (void) state;
    pid_t broker;
    world_t *world = world_with_broker (&broker, 2, false);
    for (int i = 0; i < 1000; i++)
        CALL (world, "echo.back");
    UNTIL (world, world->replies == 1000);
    assert_int_equal (world->statuses [200], 1000);
    text_t key = TEXT ("user:9");
    UNTIL (world, all_know (world, 2));
    int other = bus_owns (world->actors [0].bus, key) ? 1 : 0;
    bus_claim (world->actors [other].bus, key, false);
    UNTIL (world, !bus_owns (world->actors [1 - other].bus, key));
    assert_string_equal (bus_owner (world->actors [other].bus, key), other ? "echo.2" : "echo.1");
    CALL (world, "broker.stats");
    UNTIL (world, world->replies == 1001);
    assert_int_equal (world->statuses [200], 1001);
    broker_kill (broker);
    world_close (world);
}

static void
test_a_killed_broker_comes_back (void **state)
{
    (void) state;
    pid_t broker;
    world_t *world = world_with_broker (&broker, 2, false);
    bus_subscribe (world->client, TEXT ("user:1/echoes"), TEXT (""), 0, false);
    UNTIL (world, world->subscribed == 1);
    broker_kill (broker);
    size_t sent = 0;
    UNTIL (world, !bus_connected (world->client));
    broker = broker_start (world);
    int64_t start = world_clock ();
    while (world->again == 0 || live (world) < 2 || !bus_connected (world->actors [0].bus)) {
        CALL (world, "echo.back");
        sent++;
        loop_turn (world->loop, 5);
        assert_true (world_clock () - start < PATIENCE);
    }
    UNTIL (world, world->replies == sent);
    assert_int_equal (world->statuses [200], sent);
    wire_event_t event = { .channel = TEXT ("user:1/echoes"), .epoch = TEXT ("e"), .off = 5 };
    bus_publish (world->actors [0].bus, &event);
    UNTIL (world, world->last_off == 5);
    broker_kill (broker);
    world_close (world);
}

static void
test_a_conflict_is_refused_with_both_rows (void **state)
{
    (void) state;
    pid_t broker;
    world_t *world = world_with_broker (&broker, 1, false);
    bus_t *rival = bus_new (world->loop, world->zmq, &(bus_conf_t) {
        .role = "actor", .name = "rival", .slot = "rival.1", .broker = world->endpoint,
        .run_dir = world->dir });
    buf_t routes = { 0 };
    mp_put_array (&routes, 1);
    mp_put_map (&routes, 1);
    mp_pair_str (&routes, "method", "echo.back");
    bus_service (rival, &(bus_service_t) { .routes = mp_buf (&routes) });
    bus_start (rival, &(bus_life_t) { .on_refused = on_refusal, .arg = world });
    UNTIL (world, world->refused [0]);
    assert_non_null (strstr (world->refused, "echo.1"));
    assert_non_null (strstr (world->refused, "rival.1"));
    buf_free (&routes);
    bus_destroy (&rival);
    broker_kill (broker);
    world_close (world);
}

//  An actor without a socket of its own: calls, streams and its death go through the broker.
static void
test_relayed_calls (void **state)
{
    (void) state;
    pid_t broker;
    world_t *world = world_with_broker (&broker, 2, true);
    for (int i = 0; i < 500; i++)
        CALL (world, "echo.back");
    UNTIL (world, world->replies == 500);
    assert_int_equal (world->statuses [200], 500);
    world->actors [0].total = world->actors [1].total = 100;
    uint64_t id = CALL (world, "echo.stream", .on_chunk = on_chunk);
    for (size_t given = 0; given < 100; given += 10) {
        bus_grant (world->client, id, 10);
        UNTIL (world, world->chunks == given + 10);
    }
    assert_int_equal (world->ends, 1);
    id = CALL (world, "echo.upload", .on_credit = on_upload_credit);
    UNTIL (world, world->upload_credit == 4);
    bus_upload (world->client, id, TEXT ("abc"), true);
    UNTIL (world, world->statuses [201] == 1);

    world->actors [0].holds = true;
    size_t replies = world->replies;
    for (int i = 0; i < 100; i++)
        CALL (world, "echo.back", .idempotent = true);
    UNTIL (world, world->actors [0].held_count > 0 && world->actors [1].served > 30);
    bus_destroy (&world->actors [0].bus);
    UNTIL (world, world->replies == replies + 100);
    assert_int_equal (world->statuses [503], 0);
    broker_kill (broker);
    world_close (world);
}

//  ---------------------------------------------------------------- a subscriber that does not read

typedef struct {
    world_t *world;
    void *socket;
    size_t subscribed;
    uint64_t off;                //  of the newest event
} lazy_t;

//  A bare DEALER that keeps few frames for a reader that is late.
static void
lazy_open (lazy_t *self, world_t *world)
{
    int few = 5, none = 0;
    *self = (lazy_t) { .world = world, .socket = zmq_socket (world->zmq, ZMQ_DEALER) };
    zmq_setsockopt (self->socket, ZMQ_RCVHWM, &few, sizeof few);
    zmq_setsockopt (self->socket, ZMQ_LINGER, &none, sizeof none);
    assert_int_equal (zmq_connect (self->socket, world->endpoint), 0);
    buf_t frame = { 0 };
    wire_pack_hello (&frame, &(wire_hello_t) { .version = 1, .role = TEXT ("client"),
                                               .name = TEXT ("lazy"), .slot = TEXT ("lazy.1"),
                                               .boot = TEXT ("1") });
    wire_pack_subscribe (&frame, &(wire_subscribe_t) { .id = 7,
                                                       .channel = TEXT ("user:1/echoes") });
    zmq_send (self->socket, frame.data, frame.size, 0);
    buf_free (&frame);
}

static void
lazy_ping (lazy_t *self)
{
    buf_t ping = { 0 };
    wire_pack_ping (&ping, &(wire_ping_t) { 0 });
    zmq_send (self->socket, ping.data, ping.size, ZMQ_DONTWAIT);
    buf_free (&ping);
}

static bool
lazy_read (lazy_t *self)
{
    lazy_ping (self);
    zmq_msg_t frame;
    zmq_msg_init (&frame);
    while (zmq_msg_recv (&frame, self->socket, ZMQ_DONTWAIT) >= 0) {
        text_t rest = { zmq_msg_data (&frame), zmq_msg_size (&frame) };
        mp_t message;
        for (int number; (number = wire_next (&rest, &message)) > 0;) {
            wire_subscribed_t answer;
            wire_event_t event;
            if (number == WIRE_SUBSCRIBED && wire_unpack_subscribed (message, &answer)
                && answer.id == 7)
                self->subscribed++;
            if (number == WIRE_EVENT && wire_unpack_event (message, &event))
                self->off = event.off;
        }
    }
    zmq_msg_close (&frame);
    return true;
}

static void
on_stats (void *arg, const bus_reply_t *reply)
{
    int64_t *dropped = arg;
    *dropped = mp_int (mp_get (reply->body, "events_dropped"));
}

//  What it lost was the last on the channel: no later event shows the hole, so it is told.
static void
test_who_lost_events_is_subscribed_anew (void **state)
{
    (void) state;
    pid_t broker;
    world_t *world = world_with_broker (&broker, 1, false);
    lazy_t lazy;
    lazy_open (&lazy, world);
    UNTIL (world, lazy_read (&lazy) && lazy.subscribed == 1);
    static char data [40000];
    buf_t body = { 0 };
    mp_put_str (&body, memset (data, 'x', sizeof data - 1));
    wire_event_t event = { .channel = TEXT ("user:1/echoes"), .epoch = TEXT ("e"),
                           .data = mp_buf (&body) };
    int64_t dropped = 0;
    while (dropped == 0) {
        for (int i = 0; i < 100; i++) {
            event.off++;
            bus_publish (world->actors [0].bus, &event);
        }
        lazy_ping (&lazy);
        dropped = -1;
        bus_call (world->client, &(bus_call_t) { .method = TEXT ("broker.stats"),
                                                 .on_reply = on_stats, .arg = &dropped });
        UNTIL (world, dropped >= 0);
    }
    UNTIL (world, lazy_read (&lazy) && lazy.subscribed == 2);
    assert_true (lazy.off < event.off);
    event.data = mp_none;
    event.off++;
    bus_publish (world->actors [0].bus, &event);
    UNTIL (world, lazy_read (&lazy) && lazy.off == event.off);
    assert_int_equal (lazy.subscribed, 2);
    buf_free (&body);
    zmq_close (lazy.socket);
    broker_kill (broker);
    world_close (world);
}

int
main (int argc, char **argv)
{
    (void) argc;
    static char path [PATH_MAX];
    assert (realpath (argv [0], path));
    snprintf (s_broker, sizeof s_broker, "%.4000s/../bin/busbar-broker", dirname (path));
    if (access (s_broker, X_OK) != 0) {
        fprintf (stderr, "no broker at %s\n", s_broker);
        return 1;
    }
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (test_calls_and_claims),
        cmocka_unit_test (test_a_killed_broker_comes_back),
        cmocka_unit_test (test_a_conflict_is_refused_with_both_rows),
        cmocka_unit_test (test_relayed_calls),
        cmocka_unit_test (test_who_lost_events_is_subscribed_anew),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
