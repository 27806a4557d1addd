//  test_resource.c -- the statements written from a descriptor.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

//  Before cmocka, which has a macro of the name fail.
#include "actors/kit/kit.h"

#include <cmocka.h>

static const resource_t s_cluster = {
    .name = "cluster",
    .path = "/clusters",
    .table = "clusters",
    .ops = CRUD,
    .fields =
        (const field_t []) { { "name", T_TEXT, REQUIRED | FILTER | SORT },
                           { "node_count", T_INT, SORT, .json = "nodeCount" },
                           { "provider", T_TEXT, FILTER, .also = "cloud_provider" },
                           { "config", T_JSON, LISTED_NOT },
                           { "token", T_TEXT, SECRET },
                           { "trail", T_TEXT, HIDDEN },
                           { "busy", T_BOOL, READONLY,
                             .sql = "EXISTS (SELECT 1 FROM runs WHERE runs.cluster_id = t.id)" },
                           { "ended_at", T_TIME, NULLABLE },
                           { 0 } }
};

static bool
s_has (const char *text, const char *part)
{
    if (strstr (text, part))
        return true;
    print_error ("no <%s> in <%s>\n", part, text);
    return false;
}

static void
test_reading_names_what_the_outside_sees (void **state)
{
    (void) state;
    plan_t *plan = plan_new (&s_cluster);
    assert_string_equal (plan_get_text (plan),
                         "SELECT t.id, t.user_id, t.name AS \"name\", t.node_count AS "
                         "\"nodeCount\", t.provider AS \"provider\", "
                         "t.provider AS \"cloud_provider\", t.config AS \"config\", "
                         "(EXISTS (SELECT 1 FROM runs WHERE runs.cluster_id = t.id)) AS \"busy\", "
                         "t.ended_at AS \"ended_at\", "
                         "t.created_at, t.updated_at FROM clusters AS t WHERE t.id = $2::uuid AND "
                         "t.user_id = $1::uuid");
    assert_null (strstr (plan_list_text (plan), "config"));
    assert_true (
        s_has (plan_list_text (plan),
               "WHERE t.user_id = $1::uuid ORDER BY t.created_at DESC, t.id DESC LIMIT $2"));
    plan_destroy (&plan);
    assert_null (plan);
}

static void
test_writing_takes_the_columns_that_are_given (void **state)
{
    (void) state;
    plan_t *plan = plan_new (&s_cluster);
    const char *create = plan_create_text (plan, 1 | 4);
    assert_true (s_has (
        create,
        "INSERT INTO clusters AS t (user_id, name, provider) VALUES ($1, $2, $3) "
        "RETURNING t.id, "));
    assert_true (s_has (create, "t.user_id AS \"_owner\""));
    assert_null (strstr (create, "t.token"));
    assert_ptr_equal (plan_create_text (plan, 1 | 4), create);
    assert_ptr_not_equal (plan_create_text (plan, 1), create);
    const char *update = plan_update_text (plan, 2 | 16);
    assert_true (s_has (update, "SET node_count = $4, token = $5, updated_at = greatest ("));
    assert_true (s_has (update, "$3::timestamptz IS NULL OR t.updated_at = $3::timestamptz"));
    assert_true (s_has (update, "t.id = $2::uuid AND t.user_id = $1::uuid"));
    plan_destroy (&plan);
}

static void
test_lists_filter_sort_and_go_on (void **state)
{
    (void) state;
    plan_t *plan = plan_new (&s_cluster);
    buf_t text = { 0 };
    plan_list_build (plan, &text, 1 | 4, 1, false, 1);
    buf_putc (&text, 0);
    assert_true (s_has ((char *) text.data,
                        "WHERE t.user_id = $1::uuid AND t.name = $3 AND t.provider = $4 "
                        "AND ((t.node_count, t.id) > ($5, $6::uuid) OR t.node_count IS NULL) "
                        "ORDER BY t.node_count ASC NULLS LAST, t.id ASC LIMIT $2"));
    buf_clear (&text);
    plan_list_build (plan, &text, 0, 1, true, 2);
    buf_putc (&text, 0);
    assert_true (
        s_has ((char *) text.data, "AND t.node_count IS NULL AND t.id < $3::uuid ORDER BY"));
    buf_clear (&text);
    plan_list_build (plan, &text, 0, -2, true, 1);
    buf_putc (&text, 0);
    assert_true (s_has (
        (char *) text.data,
        "AND ((t.updated_at, t.id) < ($3, $4::uuid)) ORDER BY t.updated_at DESC, t.id DESC"));
    buf_free (&text);
    plan_destroy (&plan);
}

//  So many rows are read as an answer holds, and one where that alone is larger.
static void
test_lists_of_large_rows_end_by_their_weight (void **state)
{
    (void) state;
    resource_t heavy = s_cluster;
    heavy.weight = "t.bytes";
    plan_t *plan = plan_new (&heavy);
    assert_true (s_has (plan_list_text (plan),
                        "t._more FROM (SELECT t.*, sum (t.bytes) OVER w - t.bytes AS _before, lead "
                        "(t.id) OVER w IS NOT NULL AS _more FROM (SELECT t.* FROM clusters AS t "
                        "WHERE t.user_id = $1::uuid ORDER BY t.created_at DESC, t.id DESC LIMIT "
                        "$2::bigint) AS t WINDOW w AS ( ORDER BY t.created_at DESC, t.id DESC "
                        "ROWS UNBOUNDED PRECEDING)) AS t WHERE t._before < 8388608 "
                        "ORDER BY t.created_at DESC, t.id DESC"));
    plan_destroy (&plan);
}

static void
test_conditions_widen_the_owners_right (void **state)
{
    (void) state;
    resource_t shared = s_cluster;
    shared.see = "is_member (t.id, $1)";
    shared.change = "is_editor (t.id, $1)";
    shared.also_channels = "ARRAY ['project:' || t.name]";
    shared.channel = "fleet";
    plan_t *plan = plan_new (&shared);
    assert_true (s_has (plan_get_text (plan), "(t.user_id = $1::uuid OR (is_member (t.id, $1)))"));
    assert_true (s_has (plan_own_text (plan), "(t.user_id = $1::uuid OR (is_editor (t.id, $1)))"));
    assert_true (
        s_has (plan_delete_text (plan), "(t.user_id = $1::uuid OR (is_editor (t.id, $1)))"));
    assert_true (
        s_has (plan_delete_text (plan), "(ARRAY ['project:' || t.name]) AS \"_also\""));
    assert_true (s_has (plan_snapshot_text (plan),
                        "(t.user_id = $1::uuid OR $2::text = ANY (ARRAY ['project:' || t.name]))"));
    assert_string_equal (plan_get (plan), "fleet.get");
    plan_destroy (&plan);
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (test_reading_names_what_the_outside_sees),
        cmocka_unit_test (test_writing_takes_the_columns_that_are_given),
        cmocka_unit_test (test_lists_filter_sort_and_go_on),
        cmocka_unit_test (test_lists_of_large_rows_end_by_their_weight),
        cmocka_unit_test (test_conditions_widen_the_owners_right) };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
