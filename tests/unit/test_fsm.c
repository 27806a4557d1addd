//  test_fsm.c -- state machines as tables.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "actors/kit/fsm.h"

static void
s_count (void *arg)
{
    ++*(int *) arg;
}

static const move_t s_moves [] = {
    { "stopped", "start", "starting", s_count },
    { "error", "start", "starting", s_count },
    { "starting", "ready", "running", NULL },
    { "running", "stop", "stopped", s_count },
    { 0 } };

static void
test_legal_moves_act_and_lead_on (void **state)
{
    (void) state;
    int acted = 0;
    assert_string_equal (fsm_step (s_moves, "stopped", "start", &acted), "starting");
    assert_string_equal (fsm_step (s_moves, "starting", "ready", &acted), "running");
    assert_int_equal (acted, 1);
    assert_string_equal (fsm_step (s_moves, "running", "stop", &acted), "stopped");
    assert_string_equal (fsm_find (s_moves, "error", "start")->to, "starting");
    assert_int_equal (acted, 2);
}

static void
test_illegal_moves_do_nothing (void **state)
{
    (void) state;
    int acted = 0;
    assert_null (fsm_step (s_moves, "running", "start", &acted));
    assert_null (fsm_step (s_moves, "nowhere", "start", &acted));
    assert_null (fsm_step (s_moves, "stopped", "explode", &acted));
    assert_int_equal (acted, 0);
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (test_legal_moves_act_and_lead_on),
        cmocka_unit_test (test_illegal_moves_do_nothing) };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
