//  test_bus_failures.c -- who died, and what callers see: re-sent, unknown, waiting, draining;
//  broker restart; strangers' bytes.

#include "tests/unit/bus_world.h"

//  Two instances in processes of their own; the first never answers, so calls pile up there.
static world_t *
world_with_children (void)
{
    world_t *world = world_new ();
    world->children [0] = actor_fork (world->dir, "echo.1", true);
    world->children [1] = actor_fork (world->dir, "echo.2", false);
    world_open (world, 0, 0);
    return world;
}

static void
kill_child (world_t *world, int number)
{
    kill (world->children [number], SIGKILL);
    waitpid (world->children [number], NULL, 0);
    world->children [number] = 0;
}

static void
settle (world_t *world)
{
    size_t before;
    do {
        before = world->replies;
        for (int i = 0; i < 10; i++)
            loop_turn (world->loop, 5);
    } while (world->replies != before);
}

static void
test_idempotent_calls_survive_kill_9 (void **state)
{
    (void) state;
    world_t *world = world_with_children ();
    for (int i = 0; i < 200; i++)
        CALL (world, "echo.back", .idempotent = true);
    settle (world);
    assert_true (world->replies < 200);
    int64_t start = world_clock ();
    kill_child (world, 0);
    UNTIL (world, world->replies == 200);
    assert_true (world_clock () - start < 1800);     //  noticed at once, not by silence
    assert_int_equal (world->statuses [200], 200);
    assert_true (bus_stats (world->client)->resent > 0);
    world_close (world);
}

static void
test_other_calls_have_an_unknown_outcome (void **state)
{
    (void) state;
    world_t *world = world_with_children ();
    for (int i = 0; i < 200; i++)
        CALL (world, "echo.back");
    settle (world);
    size_t answered = world->replies;
    assert_true (answered > 0 && answered < 200);
    kill_child (world, 0);
    UNTIL (world, world->replies == 200);
    assert_int_equal (world->statuses [200], answered);
    assert_int_equal (world->statuses [503], 200 - answered);
    assert_string_equal (world->outcome, "unknown");
    assert_int_equal (bus_stats (world->client)->unknown, 200 - answered);
    world_close (world);
}

//  The last instance is killed: calls wait for the next one of that slot, until their deadline.
static void
test_calls_wait_for_an_absent_actor (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 1, 0);
    bus_destroy (&world->actors [0].bus);
    small_gone (&world->broker, "echo.1");
    UNTIL (world, live (world) == 0);
    assert_false (mp_is_none (bus_route (world->client, TEXT ("echo.back"), NULL)));
    CALL (world, "echo.back", .ttl = 100);
    UNTIL (world, world->replies == 1);
    assert_int_equal (world->statuses [503], 1);
    assert_string_equal (world->outcome, "");
    CALL (world, "echo.back");
    CALL (world, "echo.back", .key = TEXT ("user:1"));
    loop_turn (world->loop, 20);
    assert_int_equal (bus_stats (world->client)->waiting, 2);
    actor_open (&world->actors [0], world->loop, world->zmq, world->dir, "echo.1", 0, false);
    UNTIL (world, world->replies == 3);
    assert_int_equal (world->statuses [200], 2);
    world_close (world);
}

//  The directory lists an endpoint where nobody is: the call never left, so it is not lost.
static void
test_a_dead_endpoint_costs_nothing (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 1, 0);
    buf_t entry = { 0 };
    mp_put_map (&entry, 6);
    mp_pair_str (&entry, "name", "echo");
    mp_pair_str (&entry, "slot", "echo.9");
    mp_pair_str (&entry, "boot", "gone");
    mp_pair_str (&entry, "endpoint", "ipc:///tmp/bus-test-nobody.s");
    mp_pair_str (&entry, "state", "up");
    mp_put_str (&entry, "routes");
    mp_put_array (&entry, 1);
    mp_put_map (&entry, 1);
    mp_pair_str (&entry, "method", "echo.back");
    small_tell (&world->broker, mp_buf (&entry));
    buf_free (&entry);
    UNTIL (world, live (world) == 2);
    for (int i = 0; i < 50; i++)
        CALL (world, "echo.back");
    UNTIL (world, world->replies == 50);
    assert_int_equal (world->statuses [200], 50);
    world_close (world);
}

static void
test_a_draining_actor_finishes_and_gets_nothing_new (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 2, 0);
    test_actor_t *leaver = &world->actors [0];
    CALL (world, "echo.hold", .slot = "echo.1");
    UNTIL (world, leaver->held_count == 1);
    bus_leave (leaver->bus);
    UNTIL (world, live (world) == 1);
    size_t served = leaver->served, replies = world->replies;
    for (int i = 0; i < 50; i++)
        CALL (world, "echo.back");
    UNTIL (world, world->replies == replies + 50);
    assert_int_equal (leaver->served, served);
    while (leaver->held_count > 0)
        bus_answer (leaver->bus, leaver->peer, leaver->held [--leaver->held_count], 202, mp_none,
                    mp_none);
    UNTIL (world, world->statuses [202] > 0);
    world_close (world);
}

static void
test_a_new_boot_replaces_the_predecessor (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 1, 0);
    CALL (world, "echo.hold");
    UNTIL (world, world->actors [0].held_count == 1);
    actor_open (&world->actors [1], world->loop, world->zmq, world->dir, "echo.1", 0, false);
    UNTIL (world, world->replies == 1);
    assert_int_equal (world->statuses [503], 1);
    assert_string_equal (world->outcome, "unknown");
    CALL (world, "echo.back");
    UNTIL (world, world->replies == 2);
    assert_int_equal (world->actors [1].served, 1);
    world_close (world);
}

static void
test_calls_to_one_slot_do_not_wander (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 2, 0);
    for (int i = 0; i < 20; i++)
        CALL (world, "echo.back", .slot = "echo.2");
    UNTIL (world, world->replies == 20);
    assert_int_equal (world->actors [1].served, 20);
    CALL (world, "echo.back", .slot = "echo.7");
    UNTIL (world, world->replies == 21);
    assert_int_equal (world->statuses [503], 1);
    world_close (world);
}

//  The caller's death reaches the actor while it works for it.
static void
test_calls_of_a_dead_caller_are_cancelled (void **state)
{
    (void) state;
    world_t *world = world_new ();
    pid_t pid = fork ();
    if (pid == 0) {
        prctl (PR_SET_PDEATHSIG, SIGKILL);
        loop_t *loop = loop_new ();
        bus_t *bus = bus_new (loop, zmq_ctx_new (), &(bus_conf_t) {
            .role = "client", .name = "doomed", .slot = "doomed.1", .broker = world->endpoint });
        bus_start (bus, NULL);
        while (mp_is_none (bus_route (bus, TEXT ("echo.hold"), NULL)))
            loop_turn (loop, 10);
        for (int i = 0; i < 5; i++)
            bus_call (bus, &(bus_call_t) { .method = TEXT ("echo.hold") });
        loop_run (loop);
    }
    world_open (world, 1, 0);
    test_actor_t *actor = &world->actors [0];
    UNTIL (world, actor->held_count == 5);
    kill (pid, SIGKILL);
    waitpid (pid, NULL, 0);
    UNTIL (world, actor->cancelled == 5);
    //  Late answers find nobody, and no new caller either.
    CALL (world, "echo.hold");
    UNTIL (world, actor->held_count == 6);
    for (size_t i = 0; i < 5; i++)
        bus_answer (actor->bus, actor->peer, actor->held [i], 200, mp_none, mp_none);
    settle (world);
    assert_int_equal (world->replies, 0);
    world_close (world);
}

//  ---------------------------------------------------------------- the broker

static void
test_a_dead_broker_stops_no_call (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 2, 0);
    test_actor_t *actor = &world->actors [0];
    CALL (world, "echo.hold", .slot = "echo.1");
    UNTIL (world, actor->held_count == 1);
    small_close (&world->broker);
    UNTIL (world, !bus_connected (world->client));
    size_t replies = world->replies;
    for (int i = 0; i < 100; i++)
        CALL (world, "echo.back");
    UNTIL (world, world->replies == replies + 100);
    assert_int_equal (world->statuses [200], 100);

    int64_t start = world_clock ();
    small_open (&world->broker, world->loop, world->zmq, world->endpoint);
    UNTIL (world, world->broker.hellos == 3 && world->ready == 2);
    assert_true (world_clock () - start < 1800);
    assert_int_equal (live (world), 2);
    //  What was in flight all the time is answered still.
    bus_answer (actor->bus, actor->peer, actor->held [0], 202, mp_none, mp_none);
    UNTIL (world, world->statuses [202] == 1);
    world_close (world);
}

static void
test_an_actor_that_does_not_come_back_is_dropped (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 2, 0);
    small_close (&world->broker);
    bus_destroy (&world->actors [1].bus);
    UNTIL (world, !bus_connected (world->client));
    small_open (&world->broker, world->loop, world->zmq, world->endpoint);
    UNTIL (world, world->ready == 2);
    UNTIL (world, live (world) == 1);
    world_close (world);
}

static void
test_a_silent_broker_is_left (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 1, 0);
    world->broker.mute = true;
    UNTIL (world, !bus_connected (world->client));
    world->broker.mute = false;
    UNTIL (world, bus_connected (world->client) && world->ready == 2);
    world_close (world);
}

static void
test_an_unknown_peer_says_hello_again (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 1, 0);
    uint64_t hellos = world->broker.hellos;
    int64_t start = world_clock ();
    UNTIL (world, world_clock () > start + 250);
    buf_t frame = { 0 };
    wire_pack_refused (&frame, &(wire_refused_t) { .code = TEXT ("UNKNOWN") });
    small_send (&world->broker, small_slot (&world->broker, "test.1"), &frame);
    UNTIL (world, world->broker.hellos == hellos + 1 && world->ready == 2);
    world_close (world);
}

static void
test_events_come_and_go_on_after_a_restart (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 1, 0);
    bus_subscribe (world->client, TEXT ("user:1/echoes"), TEXT (""), 0, false);
    UNTIL (world, world->subscribed == 1);
    wire_event_t event = { .channel = TEXT ("user:1/echoes"), .epoch = TEXT ("e"), .off = 1 };
    bus_publish (world->actors [0].bus, &event);
    UNTIL (world, world->events == 1);
    small_close (&world->broker);
    UNTIL (world, !bus_connected (world->client));
    for (event.off = 2; event.off <= 4; event.off++)
        bus_publish (world->actors [0].bus, &event);     //  nobody there: the last is said later
    small_open (&world->broker, world->loop, world->zmq, world->endpoint);
    UNTIL (world, world->again == 1);
    UNTIL (world, world->broker.off == 4);
    for (event.off = 5; event.off <= 100; event.off++)
        bus_publish (world->actors [0].bus, &event);
    UNTIL (world, world->last_off == 100);
    bus_unsubscribe (world->client, TEXT ("user:1/echoes"));
    size_t events = world->events;
    bus_publish (world->actors [0].bus, &event);
    settle (world);
    assert_int_equal (world->events, events);
    assert_string_equal (bus_channel_actor (world->client, TEXT ("user:1/echoes/7")), "echo");
    assert_null (bus_channel_actor (world->client, TEXT ("user:1/others")));
    world_close (world);
}

//  ---------------------------------------------------------------- keys

static void
test_keys_stay_with_their_instance (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 3, 0);
    UNTIL (world, all_know (world, 3));
    size_t owned [3] = { 0 };
    for (int user = 0; user < 60; user++) {
        char key [16];
        snprintf (key, sizeof key, "user:%d", user);
        int owner = -1;
        for (int i = 0; i < 3; i++)
            if (bus_owns (world->actors [i].bus, text_of (key)))
                owner = owner < 0 ? i : 99;
        assert_in_range (owner, 0, 2);     //  exactly one
        owned [owner]++;
        size_t before = world->actors [owner].served, replies = world->replies;
        for (int i = 0; i < 3; i++)
            CALL (world, "echo.back", .key = text_of (key));
        UNTIL (world, world->replies == replies + 3);
        assert_int_equal (world->actors [owner].served, before + 3);
        assert_string_equal (world->actors [owner].key, key);
    }
    assert_true (owned [0] > 5 && owned [1] > 5 && owned [2] > 5);
    world_close (world);
}

static void
test_a_claim_wins_over_the_hash (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 2, 0);
    text_t key = TEXT ("user:1");
    UNTIL (world, all_know (world, 2));
    int other = bus_owns (world->actors [0].bus, key) ? 1 : 0;
    bus_claim (world->actors [other].bus, key, false);
    assert_true (bus_owns (world->actors [other].bus, key));
    UNTIL (world, !bus_owns (world->actors [1 - other].bus, key));
    UNTIL (world, world->broker.claims == 1);
    settle (world);
    CALL (world, "echo.back", .key = key);
    UNTIL (world, world->replies == 1);
    assert_int_equal (world->actors [other].served, 1);
    bus_claim (world->actors [other].bus, key, true);
    UNTIL (world, bus_owns (world->actors [1 - other].bus, key));
    world_close (world);
}

//  A broker listens to claims from WELCOME on.
static void
test_a_claim_behind_hello_is_told (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 2, 0);
    text_t key = TEXT ("user:1");
    UNTIL (world, world->broker.hellos >= 2);
    bus_claim (world->actors [0].bus, key, false);
    bus_claim (world->actors [1].bus, TEXT ("user:2"), false);
    UNTIL (world, all_know (world, 2));
    UNTIL (world, world->broker.claims == 2);
    UNTIL (world, !bus_owns (world->actors [1].bus, key)
                      && !bus_owns (world->actors [0].bus, TEXT ("user:2")));
    world_close (world);
}

//  ---------------------------------------------------------------- through the broker

static void
test_an_actor_without_endpoint_is_served_through_the_broker (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 0, 0);
    test_actor_t *actor = &world->actors [0];
    actor_open (actor, world->loop, world->zmq, world->dir, "echo.1", 0, true);
    UNTIL (world, live (world) == 1);
    for (int i = 0; i < 100; i++)
        CALL (world, "echo.back");
    UNTIL (world, world->replies == 100);
    actor->total = 20;
    uint64_t id = CALL (world, "echo.stream", .on_chunk = on_chunk);
    bus_grant (world->client, id, 20);
    UNTIL (world, world->ends == 1);
    id = CALL (world, "echo.upload", .on_credit = on_upload_credit);
    UNTIL (world, world->upload_credit == 4);
    assert_true (bus_upload (world->client, id, TEXT ("abc"), true));
    UNTIL (world, world->statuses [201] == 1);
    CALL (world, "echo.hold", .ttl = 50);
    UNTIL (world, actor->cancelled == 1);

    //  The broker's death ends what went through it, on both sides.
    CALL (world, "echo.hold");
    UNTIL (world, actor->held_count == 2);
    size_t replies = world->replies;
    small_close (&world->broker);
    UNTIL (world, world->replies == replies + 1 && actor->cancelled == 2);
    assert_string_equal (world->outcome, "unknown");
    world_close (world);
}

//  ---------------------------------------------------------------- strangers

static void
say (world_t *world, void *socket, const void *data, size_t size, int flags)
{
    zmq_send (socket, data, size, flags);
    loop_turn (world->loop, 1);
}

static void
test_malformed_frames_are_counted (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 1, 0);
    test_actor_t *actor = &world->actors [0];
    bus_entry_t entry;
    char endpoint [128] = "";
    for (size_t at = 0; bus_each_entry (world->client, &at, &entry);)
        snprintf (endpoint, sizeof endpoint, "%s", entry.endpoint);
    void *socket = zmq_socket (world->zmq, ZMQ_DEALER);
    int linger = 0;
    zmq_setsockopt (socket, ZMQ_LINGER, &linger, sizeof linger);
    assert_int_equal (zmq_connect (socket, endpoint), 0);

    buf_t good = { 0 };
    wire_pack_call (&good, &(wire_call_t) { .id = 1, .method = TEXT ("echo.hold") });
    say (world, socket, "\xc1", 1, 0);                          //  no msgpack
    say (world, socket, "\xdd\xff\xff\xff\xff", 5, 0);          //  a lie about its size
    say (world, socket, good.data, good.size - 1, 0);           //  cut
    say (world, socket, "\x92\x06\xa1x", 4, 0);                 //  id is a text
    say (world, socket, "", 0, ZMQ_SNDMORE);                    //  three parts
    say (world, socket, good.data, good.size, 0);
    say (world, socket, "", 0, 0);                              //  an empty frame is just empty
    say (world, socket, "\x91\x7b", 2, 0);                      //  a number of a later version
    say (world, socket, good.data, good.size, 0);
    say (world, socket, good.data, good.size, 0);               //  the same id again
    UNTIL (world, bus_stats (actor->bus)->malformed >= 6);
    assert_int_equal (bus_stats (actor->bus)->malformed, 6);
    assert_int_equal (actor->held_count, 1);
    zmq_close (socket);

    //  The caller's side: strange bytes from the broker.
    buf_t frame = { 0 };
    buf_puts (&frame, "\x92\x04\xa1x");
    small_send (&world->broker, small_slot (&world->broker, "test.1"), &frame);
    UNTIL (world, bus_stats (world->client)->malformed == 1);
    CALL (world, "echo.back");
    UNTIL (world, world->statuses [200] == 1);
    buf_free (&good);
    world_close (world);
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (test_idempotent_calls_survive_kill_9),
        cmocka_unit_test (test_other_calls_have_an_unknown_outcome),
        cmocka_unit_test (test_calls_wait_for_an_absent_actor),
        cmocka_unit_test (test_a_dead_endpoint_costs_nothing),
        cmocka_unit_test (test_a_draining_actor_finishes_and_gets_nothing_new),
        cmocka_unit_test (test_a_new_boot_replaces_the_predecessor),
        cmocka_unit_test (test_calls_to_one_slot_do_not_wander),
        cmocka_unit_test (test_calls_of_a_dead_caller_are_cancelled),
        cmocka_unit_test (test_a_dead_broker_stops_no_call),
        cmocka_unit_test (test_an_actor_that_does_not_come_back_is_dropped),
        cmocka_unit_test (test_a_silent_broker_is_left),
        cmocka_unit_test (test_an_unknown_peer_says_hello_again),
        cmocka_unit_test (test_events_come_and_go_on_after_a_restart),
        cmocka_unit_test (test_keys_stay_with_their_instance),
        cmocka_unit_test (test_a_claim_wins_over_the_hash),
        cmocka_unit_test (test_a_claim_behind_hello_is_told),
        cmocka_unit_test (test_an_actor_without_endpoint_is_served_through_the_broker),
        cmocka_unit_test (test_malformed_frames_are_counted),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
