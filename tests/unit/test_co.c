//  test_co.c -- stackful coroutines.

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "actors/kit/co.h"

//  ThreadSanitizer keeps a megabyte of history for each.
#ifdef __SANITIZE_THREAD__
#define MANY 1000
#else
#define MANY 10000
#endif

static int s_order [16], s_steps;
static volatile int s_never = 1000000;       //  what no compiler knows

static void
s_twice (void *arg)
{
    int *state = arg;
    double half = 0.5;
    *state = 1;
    co_suspend ();
    *state += (int) (half * 2);
    co_suspend ();
    *state += 1;
}

static void
test_it_goes_on_where_it_stopped (void **state)
{
    (void) state;
    int step = 0;
    assert_null (co_self ());
    co_t *co = co_start (s_twice, &step);
    assert_non_null (co);
    assert_int_equal (step, 1);
    assert_int_equal (co_alive (), 1);
    co_resume (co);
    assert_int_equal (step, 2);
    co_resume (co);
    assert_int_equal (step, 3);
    assert_int_equal (co_alive (), 0);
    assert_null (co_self ());
}

static void
test_ten_thousand_live_at_once (void **state)
{
    (void) state;
    static int steps [MANY];
    static co_t *all [MANY];
    co_limit (MANY);
    for (int n = 0; n < MANY; n++) {
        all [n] = co_start (s_twice, &steps [n]);
        assert_non_null (all [n]);
    }
    int more = 0;
    assert_null (co_start (s_twice, &more));
    assert_int_equal (more, 0);
    for (int turn = 0; turn < 2; turn++)
        for (int n = MANY; n--;)
            co_resume (all [n]);
    for (int n = 0; n < MANY; n++)
        assert_int_equal (steps [n], 3);
    assert_int_equal (co_alive (), 0);
}

//  A jump stays within the stack of the coroutine, from however deep, also after suspensions.
static int
s_deep (jmp_buf *jump, int depth)
{
    volatile char room [256];
    room [0] = (char) depth;
    if (depth == 0) {
        co_suspend ();
        if (s_never)
            _longjmp (*jump, 7);
        return 0;
    }
    return s_deep (jump, depth - 1) + room [0];
}

static void
s_failing (void *arg)
{
    jmp_buf jump;
    int *result = arg;
    int code = _setjmp (jump);
    if (code == 0)
        s_deep (&jump, 40);
    co_suspend ();
    *result = code;
}

static void
test_a_failure_jumps_within_its_stack (void **state)
{
    (void) state;
    int results [3] = { 0 };
    co_t *all [3];
    for (int n = 0; n < 3; n++)
        all [n] = co_start (s_failing, &results [n]);
    for (int turn = 0; turn < 2; turn++)
        for (int n = 0; n < 3; n++)
            co_resume (all [n]);
    for (int n = 0; n < 3; n++)
        assert_int_equal (results [n], 7);
}

static co_t *s_sleeper;

static void
s_sleeping (void *arg)
{
    s_order [s_steps++] = *(int *) arg;
    s_sleeper = co_self ();
    co_suspend ();
    s_order [s_steps++] = *(int *) arg + 10;
}

//  Wakes another from inside, and starts one: the woken one waits for the loop's stack, the started
//  one runs at once.
static void
s_waking (void *arg)
{
    int one = 3;
    s_order [s_steps++] = *(int *) arg;
    co_wake (s_sleeper);
    co_wake (s_sleeper);
    co_start (s_sleeping, &one);
    s_order [s_steps++] = *(int *) arg + 10;
}

static void
test_waking_waits_for_the_loops_stack (void **state)
{
    (void) state;
    int one = 1, two = 2;
    s_steps = 0;
    co_start (s_sleeping, &one);
    co_start (s_waking, &two);
    const int expected [] = { 1, 2, 3, 12, 11 };
    assert_int_equal (s_steps, 5);
    assert_memory_equal (s_order, expected, sizeof expected);
    one = 3;
    co_wake (s_sleeper);
    assert_int_equal (co_alive (), 0);
}

static int __attribute__ ((noinline))
s_without_end (int depth)
{
    volatile char room [1024];
    memset ((char *) room, depth, sizeof room);
    if (depth == s_never)
        return 0;
    return s_without_end (depth + 1) + room [depth & 1023];
}

static void
s_overflow (void *arg)
{
    *(int *) arg = s_without_end (0);
}

static void
test_a_stack_that_is_too_deep_hits_the_guard (void **state)
{
    (void) state;
    int result = 0, status;
    pid_t child = fork ();
    if (child == 0) {
        signal (SIGSEGV, SIG_DFL);
        close (STDERR_FILENO);
        co_start (s_overflow, &result);
        _exit (0);
    }
    assert_int_equal (waitpid (child, &status, 0), child);
    //  A sanitizer ends the process in its own way.
    assert_true (WIFSIGNALED (status) || WEXITSTATUS (status) != 0);
}

static int
s_drained (void **state)
{
    (void) state;
    co_drain ();
    return 0;
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (test_it_goes_on_where_it_stopped),
        cmocka_unit_test (test_ten_thousand_live_at_once),
        cmocka_unit_test (test_a_failure_jumps_within_its_stack),
        cmocka_unit_test (test_waking_waits_for_the_loops_stack),
        cmocka_unit_test (test_a_stack_that_is_too_deep_hits_the_guard) };
    return cmocka_run_group_tests (tests, NULL, s_drained);
}
