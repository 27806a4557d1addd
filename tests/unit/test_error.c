//  test_error.c -- the table, and the ways into it.

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proto/error.h"

static void
names_and_statuses_lead_back (void **state)
{
    (void) state;
    for (error_code_t code = E_NONE + 1; code < E_COUNT; code++) {
        assert_int_equal (error_by_name (text_of (error_name (code))), code);
        assert_int_equal (error_by_status (error_status (code)), code);
        assert_true (error_text (code) [strlen (error_text (code)) - 1] != '.');
    }
    assert_int_equal (error_by_name (TEXT ("NO_SUCH")), E_INTERNAL);
    assert_int_equal (error_by_name (TEXT ("NONE")), E_INTERNAL);
    assert_int_equal (error_by_status (200), E_NONE);
    assert_int_equal (error_by_status (399), E_NONE);
    assert_int_equal (error_by_status (418), E_INVALID);
    assert_int_equal (error_by_status (599), E_INTERNAL);
    assert_int_equal (error_status (E_CONFLICT), 409);
    assert_true (error_retry (E_UNAVAILABLE));
    assert_false (error_retry (E_CONFLICT));
}

static void
sqlstates_have_codes (void **state)
{
    (void) state;
    static const struct { const char *sqlstate; error_code_t code; } cases [] = {
        { "23505", E_CONFLICT }, { "23P01", E_CONFLICT }, { "23001", E_CONFLICT },
        { "23503", E_NOT_FOUND }, { "23514", E_INVALID }, { "23502", E_INVALID },
        { "22P02", E_INVALID }, { "22021", E_INVALID }, { "22003", E_INVALID },
        { "57014", E_TIMEOUT }, { "57P01", E_UNAVAILABLE }, { "57P03", E_UNAVAILABLE },
        { "08006", E_UNAVAILABLE }, { "40001", E_UNAVAILABLE }, { "40P01", E_UNAVAILABLE },
        { "53300", E_UNAVAILABLE }, { "53100", E_STORAGE_FULL }, { "55P03", E_UNAVAILABLE },
        { "42P01", E_INTERNAL }, { "42501", E_INTERNAL }, { "XX000", E_INTERNAL },
        { "U0409", E_CONFLICT }, { "U0404", E_NOT_FOUND }, { "U0423", E_LOCKED },
        { "U0418", E_INVALID }, { "U0200", E_INTERNAL }, { "U0abc", E_INTERNAL },
        { "U0", E_INTERNAL }, { "U", E_INTERNAL }, { "", E_UNAVAILABLE }, { NULL, E_UNAVAILABLE } };
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++)
        assert_int_equal (error_by_sqlstate (cases [n].sqlstate), cases [n].code);
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (names_and_statuses_lead_back),
        cmocka_unit_test (sqlstates_have_codes),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
