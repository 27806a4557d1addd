//  test_bus.c -- the bus client over real sockets: one call, one answer, whatever happens.

#include "tests/unit/bus_world.h"

static void
test_a_call_is_answered (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 1, 0);
    uint64_t id = CALL (world, "echo.back");
    assert_true (id > 0);
    assert_int_equal (world->replies, 0);     //  never inside bus_call
    UNTIL (world, world->replies == 1);
    assert_int_equal (world->statuses [200], 1);
    assert_int_equal (bus_stats (world->client)->in_flight, 0);
    assert_true (bus_connected (world->client));
    world_close (world);
}

static void
test_unknown_methods_are_not_found (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 1, 0);
    CALL (world, "echo.nothing");
    assert_int_equal (world->replies, 0);
    UNTIL (world, world->replies == 1);
    assert_int_equal (world->statuses [404], 1);
    assert_string_equal (world->code, "NOT_FOUND");
    world_close (world);
}

//  A caller that knows no directory yet holds its calls.
static void
test_calls_before_the_directory_wait (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 1, 0);
    bus_t *early = bus_new (world->loop, world->zmq, &(bus_conf_t) {
        .role = "client", .name = "early", .slot = "early.1", .broker = world->endpoint });
    bus_call (early, &(bus_call_t) { .method = TEXT ("echo.back"), .on_reply = on_reply,
                                     .arg = world });
    bus_start (early, NULL);
    UNTIL (world, world->replies == 1);
    assert_int_equal (world->statuses [200], 1);
    bus_destroy (&early);
    world_close (world);
}

static void
test_a_deadline_is_504_and_cancels (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 1, 0);
    int64_t start = world_clock ();
    CALL (world, "echo.hold", .ttl = 100);
    UNTIL (world, world->replies == 1);
    int64_t took = world_clock () - start;
    assert_true (took >= 100 && took < 5000);
    assert_int_equal (world->statuses [504], 1);
    assert_string_equal (world->code, "TIMEOUT");
    UNTIL (world, world->actors [0].cancelled == 1);
    //  Answering what was cancelled is harmless.
    bus_answer (world->actors [0].bus, world->actors [0].peer, world->actors [0].held [0], 200,
                mp_none, mp_none);
    CALL (world, "echo.back");
    UNTIL (world, world->replies == 2);
    world_close (world);
}

static void
test_deadlines_of_all_lengths_keep_their_order (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 1, 0);
    int64_t start = world_clock ();
    for (int i = 0; i < 300; i++)
        CALL (world, "echo.hold", .ttl = 1 + (i * 37) % 700);
    UNTIL (world, world->replies == 300);
    assert_true (world_clock () - start >= 600);
    assert_int_equal (world->statuses [504], 300);
    assert_int_equal (bus_stats (world->client)->in_flight, 0);
    world_close (world);
}

static void
test_a_cancelled_call_is_forgotten (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 1, 0);
    test_actor_t *actor = &world->actors [0];
    uint64_t id = CALL (world, "echo.hold");
    UNTIL (world, actor->held_count == 1);
    bus_cancel (world->client, id);
    bus_cancel (world->client, id);
    bus_cancel (world->client, 12345);
    UNTIL (world, actor->cancelled == 1);
    CALL (world, "echo.back");
    UNTIL (world, world->replies == 1);
    assert_int_equal (bus_stats (world->client)->in_flight, 0);
    world_close (world);
}

static void
answer_held (test_actor_t *actor, size_t count)
{
    for (size_t i = 0; i < count; i++)
        bus_answer (actor->bus, actor->peer, actor->held [--actor->held_count], 200, mp_none,
                    mp_none);
}

static void
test_credit_is_respected (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 1, 3);
    test_actor_t *actor = &world->actors [0];
    CALL (world, "echo.back");
    UNTIL (world, world->replies == 1);     //  WELCOME has come
    for (int i = 0; i < 20; i++)
        CALL (world, "echo.hold");
    UNTIL (world, actor->held_count == 3);
    for (int i = 0; i < 20; i++)
        loop_turn (world->loop, 1);
    assert_int_equal (actor->held_count, 3);
    assert_int_equal (bus_stats (world->client)->waiting, 17);
    while (world->replies < 21) {
        assert_true (actor->held_count <= 3);
        answer_held (actor, actor->held_count);
        loop_turn (world->loop, 10);
    }
    assert_int_equal (world->statuses [200], 21);
    assert_int_equal (bus_stats (world->client)->waiting, 0);
    world_close (world);
}

static void
test_waiting_calls_are_bounded (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 1, 1);
    CALL (world, "echo.back");
    UNTIL (world, world->replies == 1);
    for (int i = 0; i < 10001; i++)
        CALL (world, "echo.hold");
    CALL (world, "echo.hold");
    UNTIL (world, world->replies == 2);
    assert_int_equal (world->statuses [503], 1);
    assert_string_equal (world->outcome, "");
    assert_int_equal (bus_stats (world->client)->waiting, 10000);
    world_close (world);
}

static void
test_too_large_calls_and_answers_are_refused (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 1, 0);
    test_actor_t *actor = &world->actors [0];
    buf_t big = { 0 };
    size_t size = WIRE_FRAME_MAX;
    char *bytes = xcalloc (1, size);
    mp_put_bin (&big, bytes, size);
    CALL (world, "echo.back", .body = mp_buf (&big));
    UNTIL (world, world->replies == 1);
    assert_int_equal (world->statuses [413], 1);
    CALL (world, "echo.hold");
    UNTIL (world, actor->held_count == 1);
    bus_answer (actor->bus, actor->peer, actor->held [0], 200, mp_buf (&big), mp_none);
    UNTIL (world, world->replies == 2);
    assert_int_equal (world->statuses [500], 1);
    //  Just below passes, and several of them become several frames.
    buf_clear (&big);
    mp_put_bin (&big, bytes, size - 1024);
    for (int i = 0; i < 3; i++)
        CALL (world, "echo.back", .params = mp_buf (&big));
    UNTIL (world, world->replies == 5);
    assert_int_equal (world->statuses [200], 3);
    free (bytes);
    buf_free (&big);
    world_close (world);
}

static void
test_streams_keep_to_the_credit_of_a_slow_reader (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 1, 0);
    test_actor_t *actor = &world->actors [0];
    actor->total = 50;
    uint64_t id = CALL (world, "echo.stream", .on_chunk = on_chunk);
    UNTIL (world, world->replies == 1);
    assert_int_equal (world->chunks, 0);
    for (size_t given = 0; given < 50; given += 5) {
        bus_grant (world->client, id, 5);
        UNTIL (world, world->chunks == given + 5);
        loop_turn (world->loop, 1);
        assert_int_equal (actor->sent, given + 5);
    }
    assert_int_equal (world->ends, 1);
    assert_int_equal (bus_stats (world->client)->in_flight, 0);
    assert_false (bus_send_chunk (actor->bus, actor->peer, id, TEXT ("x"), false, NULL));
    world_close (world);
}

//  Credit that was given before the call left goes with it; the stream is cut short by a cancel.
static void
test_streams_with_early_credit_and_a_cancel (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 1, 0);
    test_actor_t *actor = &world->actors [0];
    actor->total = 1000;
    uint64_t id = CALL (world, "echo.stream", .on_chunk = on_chunk);
    bus_grant (world->client, id, 7);
    UNTIL (world, world->chunks == 7);
    bus_cancel (world->client, id);
    UNTIL (world, actor->cancelled == 1);
    CALL (world, "echo.stream");     //  nobody takes chunks
    UNTIL (world, world->replies == 2);
    assert_int_equal (world->statuses [500], 1);
    UNTIL (world, actor->cancelled == 2);
    world_close (world);
}

static void
test_uploads_go_under_credit (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 1, 0);
    uint64_t id = CALL (world, "echo.upload", .on_credit = on_upload_credit);
    char data [1000] = { 0 };
    for (int i = 0; i < 100; i++) {
        UNTIL (world, world->upload_credit > 0);
        world->upload_credit--;
        assert_true (bus_upload (world->client, id, (text_t) { data, sizeof data }, i == 99));
    }
    UNTIL (world, world->replies == 1);
    assert_int_equal (world->statuses [201], 1);
    assert_int_equal (world->actors [0].received, 100000);
    assert_false (bus_upload (world->client, id, TEXT ("x"), true));
    world_close (world);
}

static void
test_a_hundred_thousand_calls_leave_nothing (void **state)
{
    (void) state;
    world_t *world = world_new ();
    world_open (world, 2, 0);
    size_t sent = 0, target = 100000;
    int64_t end = world_clock () + 60000;
    while (world->replies < target && world_clock () < end) {
        while (sent < target && sent - world->replies < 500) {
            CALL (world, "echo.back", .idempotent = sent % 2);
            sent++;
        }
        loop_turn (world->loop, 10);
    }
    assert_int_equal (world->statuses [200], target);
    assert_int_equal (bus_stats (world->client)->in_flight, 0);
    assert_int_equal (bus_stats (world->client)->waiting, 0);
    //  Two random choices by own load: neither instance starves.
    assert_true (world->actors [0].served > target / 4 && world->actors [1].served > target / 4);
    world_close (world);
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (test_a_call_is_answered),
        cmocka_unit_test (test_unknown_methods_are_not_found),
        cmocka_unit_test (test_calls_before_the_directory_wait),
        cmocka_unit_test (test_a_deadline_is_504_and_cancels),
        cmocka_unit_test (test_deadlines_of_all_lengths_keep_their_order),
        cmocka_unit_test (test_a_cancelled_call_is_forgotten),
        cmocka_unit_test (test_credit_is_respected),
        cmocka_unit_test (test_waiting_calls_are_bounded),
        cmocka_unit_test (test_too_large_calls_and_answers_are_refused),
        cmocka_unit_test (test_streams_keep_to_the_credit_of_a_slow_reader),
        cmocka_unit_test (test_streams_with_early_credit_and_a_cancel),
        cmocka_unit_test (test_uploads_go_under_credit),
        cmocka_unit_test (test_a_hundred_thousand_calls_leave_nothing),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
