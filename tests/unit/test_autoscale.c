//  test_autoscale.c -- growing at once, shrinking with patience, never beyond the limits.

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "actors/clusters/autoscale.h"

enum { LEAST = 1, MOST = 8, PATIENCE = 1000 };

static int64_t since;

static int64_t
ask (int64_t now, int64_t target, int64_t desired)
{
    return autoscale (now, target, desired, LEAST, MOST, PATIENCE, &since);
}

static void
test_grows_at_once_up_to_the_limit (void **state)
{
    (void) state;
    since = 0;
    assert_int_equal (ask (1, 2, 5), 5);
    assert_int_equal (ask (2, 5, 100), MOST);
    assert_int_equal (ask (3, MOST, 100), MOST);
}

static void
test_shrinks_only_when_fewer_were_enough_for_long (void **state)
{
    (void) state;
    since = 0;
    assert_int_equal (ask (100, 5, 2), 5);
    assert_int_equal (ask (1099, 5, 0), 5);
    assert_int_equal (ask (1100, 5, 0), LEAST);
    assert_int_equal (since, 0);
}

static void
test_a_moment_of_load_starts_the_patience_anew (void **state)
{
    (void) state;
    since = 0;
    assert_int_equal (ask (100, 5, 2), 5);
    assert_int_equal (ask (900, 5, 5), 5);
    assert_int_equal (ask (1200, 5, 2), 5);
    assert_int_equal (ask (2199, 5, 2), 5);
    assert_int_equal (ask (2200, 5, 2), 2);
}

static void
test_limits_that_were_lowered_count_at_once (void **state)
{
    (void) state;
    since = 0;
    assert_int_equal (ask (1, 20, 100), MOST);
    assert_int_equal (ask (2, 20, 3), MOST);
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (test_grows_at_once_up_to_the_limit),
        cmocka_unit_test (test_shrinks_only_when_fewer_were_enough_for_long),
        cmocka_unit_test (test_a_moment_of_load_starts_the_patience_anew),
        cmocka_unit_test (test_limits_that_were_lowered_count_at_once) };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
