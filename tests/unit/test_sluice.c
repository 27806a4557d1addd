//  test_sluice.c -- however fast a server sends, a turn brings a sip; nothing is lost or mixed up.

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "db/sluice.h"
#include "proto/text.h"

#define SIZE (8 << 20)

typedef struct {
    loop_t *loop;
    int server, fd;          //  the far end; what libpq would know
    sluice_t *sluice;
    char *content, *got;
} world_t;

static int
set_up (void **state)
{
    world_t *self = *state = xcalloc (1, sizeof *self);
    int pair [2];
    assert_int_equal (socketpair (AF_UNIX, SOCK_STREAM, 0, pair), 0);
    self->server = pair [0];
    self->fd = pair [1];
    self->loop = loop_new ();
    self->sluice = sluice_new (self->loop, self->fd);
    assert_non_null (self->sluice);
    self->content = xmalloc (SIZE);
    self->got = xmalloc (SIZE + 1);
    for (size_t n = 0; n < SIZE; n++)
        self->content [n] = (char) (n * 31 + n / 4099);
    return 0;
}

static int
tear_down (void **state)
{
    world_t *self = *state;
    if (self->fd >= 0)
        close (self->fd);
    sluice_destroy (&self->sluice);
    if (self->server >= 0)
        close (self->server);
    loop_destroy (&self->loop);
    free (self->content);
    free (self->got);
    free (self);
    return 0;
}

//  As fast as it is taken.
static void *
s_send (void *arg)
{
    world_t *self = arg;
    for (size_t sent = 0; sent < SIZE;) {
        ssize_t size = send (self->server, self->content + sent, SIZE - sent, MSG_NOSIGNAL);
        assert_true (size > 0);
        sent += (size_t) size;
    }
    shutdown (self->server, SHUT_WR);
    return NULL;
}

static void
a_turn_brings_a_sip (void **state)
{
    world_t *self = *state;
    pthread_t thread;
    size_t got = 0;
    pthread_create (&thread, NULL, s_send, self);
    for (bool ended = false; !ended;) {
        size_t before = got;
        ssize_t size;
        loop_turn (self->loop, 1000);
        while ((size = recv (self->fd, self->got + got, SIZE - got + 1, MSG_DONTWAIT)) > 0)
            got += (size_t) size;
        ended = size == 0;
        assert_true (got - before <= 2 * SLUICE_SIP);
    }
    pthread_join (thread, NULL);
    assert_int_equal (got, SIZE);
    assert_memory_equal (self->got, self->content, SIZE);
}

static void
what_is_written_arrives_whole (void **state)
{
    world_t *self = *state;
    size_t sent = 0, got = 0;
    while (got < SIZE) {
        ssize_t size = send (self->fd, self->content + sent, SIZE - sent, MSG_DONTWAIT);
        sent += size > 0 ? (size_t) size : 0;
        loop_turn (self->loop, 0);
        size = recv (self->server, self->got + got, SIZE - got, MSG_DONTWAIT);
        got += size > 0 ? (size_t) size : 0;
    }
    assert_memory_equal (self->got, self->content, SIZE);
}

static void
the_last_words_go_out (void **state)
{
    world_t *self = *state;
    char got [8];
    assert_int_equal (send (self->fd, "bye", 3, 0), 3);
    close (self->fd);
    self->fd = -1;
    sluice_destroy (&self->sluice);
    assert_int_equal (recv (self->server, got, sizeof got, MSG_WAITALL), 3);
    assert_memory_equal (got, "bye", 3);
}

static void
who_hangs_up_is_not_told_of_again_and_again (void **state)
{
    world_t *self = *state;
    char got;
    close (self->server);
    self->server = -1;
    loop_turn (self->loop, 1000);
    assert_int_equal (recv (self->fd, &got, 1, MSG_DONTWAIT), 0);
    close (self->fd);
    self->fd = -1;
    loop_turn (self->loop, 1000);
    int64_t before = clock_ms ();
    loop_turn (self->loop, 50);
    assert_true (clock_ms () - before >= 45);
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test_setup_teardown (a_turn_brings_a_sip, set_up, tear_down),
        cmocka_unit_test_setup_teardown (what_is_written_arrives_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown (the_last_words_go_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown (who_hangs_up_is_not_told_of_again_and_again, set_up,
                                         tear_down),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
