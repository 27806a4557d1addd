//  test_loop.c -- timers, hooks, posts, signals, watches, and the loop nested in another one.

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "proto/loop.h"

//  What callbacks write down, in order.
static char s_trace [256];
static size_t s_traced;

static loop_t *s_loop;

static void
trace (char mark)
{
    s_trace [s_traced++ % (sizeof s_trace - 1)] = mark;
}

static void
on_mark (void *arg)
{
    trace (*(const char *) arg);
}

static void
on_mark_and_stop (void *arg)
{
    on_mark (arg);
    loop_stop (s_loop);
}

static int
set_up (void **state)
{
    (void) state;
    memset (s_trace, 0, sizeof s_trace);
    s_traced = 0;
    s_loop = loop_new ();
    return 0;
}

static int
tear_down (void **state)
{
    (void) state;
    loop_destroy (&s_loop);
    return s_loop != NULL;
}

static void
timers_fire_in_order (void **state)
{
    (void) state;
    ltimer_t *timers [5];
    static char marks [] = "abcde";
    for (int n = 0; n < 5; n++)
        timers [n] = loop_timer (s_loop, n == 4 ? on_mark_and_stop : on_mark, &marks [n]);
    int64_t start = clock_ms ();
    ltimer_set (timers [4], 30);
    ltimer_set (timers [2], 10);
    ltimer_set (timers [3], 10);
    ltimer_set (timers [0], 500);
    ltimer_set (timers [1], 0);
    ltimer_set (timers [0], 0);          //  again: moves it
    assert_true (ltimer_active (timers [4]));
    assert_int_equal (loop_run (s_loop), 0);
    assert_string_equal (s_trace, "bacde");
    assert_true (clock_ms () - start >= 29);
    assert_false (ltimer_active (timers [4]));
    for (int n = 0; n < 5; n++)
        ltimer_end (&timers [n]);
    assert_null (timers [0]);
}

static void
timer_heap_keeps_order_under_changes (void **state)
{
    (void) state;
    enum { COUNT = 500 };
    static char marks [COUNT];
    ltimer_t *timers [COUNT];
    uint32_t random = 7;
    for (int n = 0; n < COUNT; n++)
        timers [n] = loop_timer (s_loop, on_mark, &marks [n]);
    for (int step = 0; step < 20000; step++) {
        random = random * 1664525 + 1013904223;
        ltimer_t *timer = timers [(random >> 8) % COUNT];
        if (random >> 30 == 0)
            ltimer_stop (timer);
        else
            ltimer_set (timer, (random >> 20) % 20);
    }
    size_t active = 0;
    for (int n = 0; n < COUNT; n++)
        active += ltimer_active (timers [n]);
    int64_t deadline = clock_ms () + 5000;
    while (s_traced < active && clock_ms () < deadline)
        loop_turn (s_loop, 20);
    assert_int_equal (s_traced, active);
    loop_turn (s_loop, 0);
    assert_int_equal (s_traced, active);
    for (int n = 0; n < COUNT; n++)
        ltimer_end (&timers [n]);
}

static ltimer_t *s_again;

static void
on_again (void *arg)
{
    on_mark (arg);
    ltimer_set (s_again, 0);
}

static void
timer_set_by_itself_waits_a_turn (void **state)
{
    (void) state;
    static char mark = 't';
    s_again = loop_timer (s_loop, on_again, &mark);
    ltimer_set (s_again, 0);
    for (size_t turn = 1; turn <= 3; turn++) {
        loop_turn (s_loop, -1);
        assert_int_equal (s_traced, turn);
    }
    ltimer_end (&s_again);
}

static void
on_end_timer (void *arg)
{
    trace ('x');
    ltimer_end (arg);
}

static void
timer_may_end_another_that_is_due (void **state)
{
    (void) state;
    static char mark = 'y';
    ltimer_t *victim = loop_timer (s_loop, on_mark, &mark);
    ltimer_t *killer = loop_timer (s_loop, on_end_timer, &victim);
    ltimer_set (killer, 0);
    ltimer_set (victim, 0);
    loop_turn (s_loop, 0);
    loop_turn (s_loop, 0);
    assert_string_equal (s_trace, "x");
    assert_null (victim);
    ltimer_end (&killer);
}

static hook_t s_second;

static void
on_hook_schedules (void *arg)
{
    on_mark (arg);
    loop_at_end (s_loop, &s_second);
    loop_at_end (s_loop, &s_second);
}

static void
hooks_run_once_and_in_the_same_turn (void **state)
{
    (void) state;
    static char marks [] = "123";
    hook_t first = { .fn = on_hook_schedules, .arg = &marks [0] };
    hook_t third = { .fn = on_mark, .arg = &marks [2] };
    s_second = (hook_t) { .fn = on_mark, .arg = &marks [1] };
    loop_at_end (s_loop, &first);
    loop_at_end (s_loop, &third);
    loop_at_end (s_loop, &first);
    loop_turn (s_loop, -1);              //  does not wait
    assert_string_equal (s_trace, "132");
    loop_at_end (s_loop, &first);
    loop_at_end (s_loop, &s_second);
    loop_at_end (s_loop, &third);
    loop_forget (s_loop, &third);        //  the last
    loop_forget (s_loop, &third);
    loop_at_end (s_loop, &third);
    loop_forget (s_loop, &s_second);     //  in the middle
    loop_forget (s_loop, &first);        //  the first
    loop_turn (s_loop, 0);
    assert_string_equal (s_trace, "1323");
}

static int s_pipes [2] [2];
static watch_t *s_watches [2];

static void
on_readable_end_both (void *arg, uint32_t events)
{
    assert_true (events & EPOLLIN);
    on_mark (arg);
    watch_end (&s_watches [0]);
    watch_end (&s_watches [1]);
}

static void
watch_may_end_others_of_the_same_turn (void **state)
{
    (void) state;
    static char mark = 'w';
    for (int n = 0; n < 2; n++) {
        assert_int_equal (pipe (s_pipes [n]), 0);
        assert_int_equal (write (s_pipes [n] [1], "x", 1), 1);
        s_watches [n]
            = loop_watch (s_loop, s_pipes [n] [0], EPOLLIN, on_readable_end_both, &mark);
    }
    loop_turn (s_loop, -1);
    loop_turn (s_loop, 0);
    assert_string_equal (s_trace, "w");
    for (int n = 0; n < 4; n++)
        close (s_pipes [n / 2] [n % 2]);
}

static void
on_events (void *arg, uint32_t events)
{
    *(uint32_t *) arg |= events;
}

static void
watch_without_interest_is_silent (void **state)
{
    (void) state;
    int ends [2];
    uint32_t seen = 0;
    assert_int_equal (pipe (ends), 0);
    watch_t *watch = loop_watch (s_loop, ends [1], EPOLLOUT, on_events, &seen);
    loop_turn (s_loop, -1);
    assert_int_equal (seen, EPOLLOUT);
    watch_set (watch, 0);
    close (ends [0]);                    //  a hang-up, which epoll tells everybody who listens
    seen = 0;
    loop_turn (s_loop, 0);
    assert_int_equal (seen, 0);
    watch_set (watch, EPOLLOUT);
    loop_turn (s_loop, -1);
    assert_true (seen & EPOLLERR);
    watch_end (&watch);
    close (ends [1]);
}

static int s_posted;

static void
on_post (void *arg)
{
    //  In the order of posting.
    assert_int_equal (s_posted, (intptr_t) arg);
    s_posted++;
}

static void *
poster (void *arg)
{
    for (intptr_t n = 0; n < 10000; n++)
        loop_post (s_loop, on_post, (void *) n);
    static char mark = 'p';
    loop_post (s_loop, on_mark_and_stop, &mark);
    return arg;
}

static void
posts_arrive_in_order (void **state)
{
    (void) state;
    pthread_t thread;
    s_posted = 0;
    assert_int_equal (pthread_create (&thread, NULL, poster, NULL), 0);
    loop_run (s_loop);
    pthread_join (thread, NULL);
    assert_int_equal (s_posted, 10000);
    loop_post (s_loop, on_post, NULL);   //  left behind: freed, not run
}

static void
signals_are_events (void **state)
{
    (void) state;
    static char marks [] = "uh";
    loop_signal (s_loop, SIGUSR1, on_mark, &marks [0]);
    loop_signal (s_loop, SIGHUP, on_mark_and_stop, &marks [1]);
    kill (getpid (), SIGUSR1);
    loop_turn (s_loop, -1);
    kill (getpid (), SIGHUP);
    loop_run (s_loop);
    assert_string_equal (s_trace, "uh");
}

//  Would an outer loop run a turn now, or within `ms`?
static bool
is_ready (int fd, int ms)
{
    struct pollfd item = { .fd = fd, .events = POLLIN };
    return poll (&item, 1, ms) == 1;
}

static void
nested_loop_tells_of_its_work (void **state)
{
    (void) state;
    static char marks [] = "tph";
    int fd = dup (loop_fd (s_loop));
    assert_false (is_ready (fd, 0));

    ltimer_t *timer = loop_timer (s_loop, on_mark, &marks [0]);
    ltimer_set (timer, 20);
    assert_false (is_ready (fd, 0));
    assert_true (is_ready (fd, 5000));
    loop_turn (s_loop, 0);
    assert_string_equal (s_trace, "t");
    assert_false (is_ready (fd, 0));

    loop_post (s_loop, on_mark, &marks [1]);
    assert_true (is_ready (fd, 0));
    loop_turn (s_loop, 0);
    assert_string_equal (s_trace, "tp");
    assert_false (is_ready (fd, 0));

    hook_t hook = { .fn = on_mark, .arg = &marks [2] };
    loop_at_end (s_loop, &hook);
    assert_true (is_ready (fd, 0));
    loop_turn (s_loop, 0);
    assert_string_equal (s_trace, "tph");
    assert_false (is_ready (fd, 0));
    loop_at_end (s_loop, &hook);
    assert_true (is_ready (fd, 0));
    loop_turn (s_loop, 0);

    //  Put off: one turn of nothing when the old time comes, then the new time.
    ltimer_set (timer, 10);
    ltimer_set (timer, 60);
    int64_t start = clock_ms ();
    for (size_t before = s_traced; s_traced == before;) {
        assert_true (is_ready (fd, 5000));
        loop_turn (s_loop, 0);
    }
    assert_true (clock_ms () - start >= 58);
    assert_false (is_ready (fd, 0));

    //  Brought forward.
    ltimer_set (timer, 60000);
    ltimer_set (timer, 1);
    assert_true (is_ready (fd, 5000));
    ltimer_end (&timer);
    close (fd);
}

static void
late_nesting_finds_what_is_queued (void **state)
{
    (void) state;
    static char marks [] = "ht";
    hook_t hook = { .fn = on_mark, .arg = &marks [0] };
    ltimer_t *timer = loop_timer (s_loop, on_mark, &marks [1]);
    ltimer_set (timer, 5);
    loop_at_end (s_loop, &hook);
    int fd = loop_fd (s_loop);
    assert_true (is_ready (fd, 0));
    loop_turn (s_loop, 0);
    assert_true (is_ready (fd, 5000));
    while (s_traced < 2)
        loop_turn (s_loop, 0);
    assert_string_equal (s_trace, "ht");
    ltimer_end (&timer);
}

static void
on_run_a_turn (void *arg)
{
    on_mark (arg);
    loop_turn (s_loop, 0);
    trace (')');
}

static void
callback_may_run_a_turn (void **state)
{
    (void) state;
    static char marks [] = "(p";
    loop_post (s_loop, on_run_a_turn, &marks [0]);
    loop_turn (s_loop, 0);
    loop_post (s_loop, on_mark, &marks [1]);
    loop_turn (s_loop, 0);
    assert_string_equal (s_trace, "()p");
}

static void
wall_clock_can_be_shifted (void **state)
{
    (void) state;
    int64_t before = loop_wall (s_loop);
    loop_set_wall_offset (s_loop, 86400000);
    assert_in_range (loop_wall (s_loop) - before, 86400000, 86405000);
}

int
main (void)
{
#define TEST(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)
    const struct CMUnitTest tests [] = {
        TEST (timers_fire_in_order),
        TEST (timer_heap_keeps_order_under_changes),
        TEST (timer_set_by_itself_waits_a_turn),
        TEST (timer_may_end_another_that_is_due),
        TEST (hooks_run_once_and_in_the_same_turn),
        TEST (watch_may_end_others_of_the_same_turn),
        TEST (watch_without_interest_is_silent),
        TEST (posts_arrive_in_order),
        TEST (signals_are_events),
        TEST (nested_loop_tells_of_its_work),
        TEST (late_nesting_finds_what_is_queued),
        TEST (callback_may_run_a_turn),
        TEST (wall_clock_can_be_shifted),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
