//  test_zio.c -- no message is left lying, whoever sends when.

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "proto/zio.h"

typedef struct {
    loop_t *loop;
    void *context, *left, *right;
    zio_t *left_io, *right_io;
    int got_left, got_right;
    bool end_at_first;
} world_t;

static void
on_left (void *arg)
{
    world_t *self = arg;
    char byte;
    if (zmq_recv (self->left, &byte, 1, ZMQ_DONTWAIT) == 1)
        self->got_left++;
    if (self->end_at_first)
        zio_end (&self->left_io);
}

//  Answers each message, so that sends and receives mix.
static void
on_right (void *arg)
{
    world_t *self = arg;
    char byte;
    if (zmq_recv (self->right, &byte, 1, ZMQ_DONTWAIT) != 1)
        return;
    self->got_right++;
    assert_int_equal (zmq_send (self->right, "r", 1, ZMQ_DONTWAIT), 1);
    zio_sent (self->right_io);
}

static int
set_up (void **state)
{
    static int number;
    char endpoint [40];
    world_t *self = calloc (1, sizeof *self);
    int unlimited = 0;
    snprintf (endpoint, sizeof endpoint, "inproc://pair-%d", number++);
    self->loop = loop_new ();
    self->context = zmq_ctx_new ();
    self->left = zmq_socket (self->context, ZMQ_DEALER);
    self->right = zmq_socket (self->context, ZMQ_DEALER);
    zmq_setsockopt (self->left, ZMQ_SNDHWM, &unlimited, sizeof unlimited);
    zmq_setsockopt (self->right, ZMQ_SNDHWM, &unlimited, sizeof unlimited);
    zmq_setsockopt (self->left, ZMQ_RCVHWM, &unlimited, sizeof unlimited);
    zmq_setsockopt (self->right, ZMQ_RCVHWM, &unlimited, sizeof unlimited);
    assert_int_equal (zmq_bind (self->left, endpoint), 0);
    assert_int_equal (zmq_connect (self->right, endpoint), 0);
    *state = self;
    return 0;
}

static int
tear_down (void **state)
{
    world_t *self = *state;
    zio_end (&self->left_io);
    zio_end (&self->right_io);
    zmq_close (self->left);
    zmq_close (self->right);
    zmq_ctx_term (self->context);
    loop_destroy (&self->loop);
    free (self);
    return 0;
}

static void
turns_until (world_t *self, const int *counter, int wanted)
{
    time_t deadline = time (NULL) + 10;
    while (*counter < wanted && time (NULL) < deadline)
        loop_turn (self->loop, 1000);
    assert_int_equal (*counter, wanted);
}

static void
all_answers_arrive (void **state)
{
    world_t *self = *state;
    self->left_io = zio_new (self->loop, self->left, on_left, self);
    self->right_io = zio_new (self->loop, self->right, on_right, self);
    for (int n = 0; n < 5000; n++)
        assert_int_equal (zmq_send (self->left, "q", 1, ZMQ_DONTWAIT), 1);
    zio_sent (self->left_io);
    turns_until (self, &self->got_left, 5000);
    //  One at a time.
    for (int n = 1; n <= 300; n++) {
        assert_int_equal (zmq_send (self->left, "q", 1, ZMQ_DONTWAIT), 1);
        zio_sent (self->left_io);
        turns_until (self, &self->got_left, 5000 + n);
    }
}

static void
input_from_before_is_found (void **state)
{
    world_t *self = *state;
    assert_int_equal (zmq_send (self->right, "q", 1, ZMQ_DONTWAIT), 1);
    //  This swallows the signal of the descriptor.
    int events;
    size_t size = sizeof events;
    zmq_getsockopt (self->left, ZMQ_EVENTS, &events, &size);
    self->left_io = zio_new (self->loop, self->left, on_left, self);
    turns_until (self, &self->got_left, 1);
}

static void
a_turn_is_bounded (void **state)
{
    world_t *self = *state;
    for (int n = 0; n < 1000; n++)
        assert_int_equal (zmq_send (self->right, "q", 1, ZMQ_DONTWAIT), 1);
    self->left_io = zio_new (self->loop, self->left, on_left, self);
    loop_turn (self->loop, -1);
    assert_in_range (self->got_left, 1, 256);
    turns_until (self, &self->got_left, 1000);
}

static void
nested_loop_gets_the_rest (void **state)
{
    world_t *self = *state;
    struct pollfd item = { .fd = loop_fd (self->loop), .events = POLLIN };
    self->left_io = zio_new (self->loop, self->left, on_left, self);
    for (int n = 0; n < 1000; n++)
        assert_int_equal (zmq_send (self->right, "q", 1, ZMQ_DONTWAIT), 1);
    while (self->got_left < 1000) {
        assert_int_equal (poll (&item, 1, 5000), 1);
        loop_turn (self->loop, 0);
    }
}

static void
may_end_in_its_own_callback (void **state)
{
    world_t *self = *state;
    self->end_at_first = true;
    self->left_io = zio_new (self->loop, self->left, on_left, self);
    for (int n = 0; n < 3; n++)
        assert_int_equal (zmq_send (self->right, "q", 1, ZMQ_DONTWAIT), 1);
    turns_until (self, &self->got_left, 1);
    loop_turn (self->loop, 0);
    assert_int_equal (self->got_left, 1);
    assert_null (self->left_io);
}

int
main (void)
{
#define TEST(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)
    const struct CMUnitTest tests [] = {
        TEST (all_answers_arrive),
        TEST (input_from_before_is_found),
        TEST (a_turn_is_bounded),
        TEST (nested_loop_gets_the_rest),
        TEST (may_end_in_its_own_callback),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
