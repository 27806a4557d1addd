//  test_limit.c -- token buckets on a clock of our own.

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "edge/edge.h"

static long s_now;
#define loop_now(loop) ((void) (loop), (int64_t) s_now)
#include "edge/limit.c"
#undef loop_now

void
fault_set (fault_t *fault, error_code_t code, const char *format, ...)
{
    (void) format;
    fault->code = code;
}

static opt_t s_options [] = {
    { "limit-normal", OPT_STR, "10/s:20", 0, NULL, "", "10/s:20" },
    { "limit-sign-in", OPT_STR, "6/m:3", 0, NULL, "", "6/m:3" },
    { "limit-mail", OPT_STR, "0", 0, NULL, "", "0" },
    { "limit-heavy", OPT_STR, "1/h", 0, NULL, "", "1/h" },
    { 0 } };

static edge_t s_edge;

static void
test_rates_are_read (void **state)
{
    (void) state;
    double rate, burst;
    assert_true (limit_parse ("2000/s:4000", &rate, &burst) && rate == 2 && burst == 4000);
    assert_true (limit_parse ("60/m", &rate, &burst) && rate == 0.001 && burst == 60);
    assert_true (limit_parse ("0", &rate, &burst) && rate == 0);
    assert_false (limit_parse ("", &rate, &burst));
    assert_false (limit_parse ("x/s", &rate, &burst));
    assert_false (limit_parse ("5/y", &rate, &burst));
    assert_false (limit_parse ("-5/s", &rate, &burst));
    assert_false (limit_parse ("5/s:0", &rate, &burst));
}

static unsigned
take (limiter_t *limiter, route_limit_t limit, const char *who, unsigned tries)
{
    unsigned good = 0;
    fault_t fault = { 0 };
    while (tries--)
        good += limiter_take (limiter, limit, who, &fault);
    return good;
}

static void
test_buckets (void **state)
{
    (void) state;
    s_now = 1000;
    limiter_t *limiter = limiter_new (&s_edge);
    assert_int_equal (take (limiter, LIMIT_NORMAL, "ann", 30), 20);
    assert_int_equal (take (limiter, LIMIT_NORMAL, "bob", 5), 5);
    assert_int_equal (take (limiter, LIMIT_SIGN_IN, "ann", 30), 3);
    assert_int_equal (take (limiter, LIMIT_MAIL, "ann", 1000), 1000);
    s_now += 500;
    assert_int_equal (take (limiter, LIMIT_NORMAL, "ann", 30), 5);
    s_now += 10000;
    assert_int_equal (take (limiter, LIMIT_NORMAL, "ann", 30), 20);
    assert_int_equal (take (limiter, LIMIT_SIGN_IN, "ann", 30), 1);

    fault_t fault = { 0 };
    assert_false (limiter_take (limiter, LIMIT_SIGN_IN, "ann", &fault));
    assert_int_equal (fault.code, E_RATE_LIMITED);
    assert_in_range (fault.retry_after, 9, 10);
    assert_int_equal (take (limiter, LIMIT_HEAVY, "ann", 3), 1);
    assert_false (limiter_take (limiter, LIMIT_HEAVY, "ann", &fault));
    assert_in_range (fault.retry_after, 3599, 3601);

    //  Full buckets are forgotten, others are not.
    s_now += 120000;
    limiter_sweep (limiter);
    assert_int_equal (hash_size (limiter->buckets), 1);
    assert_int_equal (take (limiter, LIMIT_HEAVY, "ann", 3), 0);
    limiter_destroy (&limiter);
    assert_null (limiter);
}

static void
test_a_flood_of_callers_does_not_fill_the_memory (void **state)
{
    (void) state;
    s_now = 1000;
    limiter_t *limiter = limiter_new (&s_edge);
    for (unsigned i = 0; i < BUCKETS_MAX + 5000; i++) {
        char who [32];
        fault_t fault = { 0 };
        snprintf (who, sizeof who, "10.0.%u.%u", i / 256, i % 256);
        s_now += 1;
        limiter_take (limiter, LIMIT_NORMAL, who, &fault);
    }
    assert_in_range (hash_size (limiter->buckets), 1, BUCKETS_MAX);
    limiter_destroy (&limiter);
}

int
main (void)
{
    s_edge.options = s_options;
    s_edge.loop = loop_new ();
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (test_rates_are_read), cmocka_unit_test (test_buckets),
        cmocka_unit_test (test_a_flood_of_callers_does_not_fill_the_memory)
    };
    int failed = cmocka_run_group_tests (tests, NULL, NULL);
    loop_destroy (&s_edge.loop);
    return failed;
}
