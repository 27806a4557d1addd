//  test_dag.c -- the tasks of a job: what is refused and how it is named, and what becomes of a
//  task when others end.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

//  Before cmocka, which has a macro of the name fail.
#include "actors/kit/kit.h"

#include <cmocka.h>

#include "actors/jobs/dag.h"

#define TASK(key, more) "{\"task_key\":\"" key "\",\"type\":\"sql\"" more "}"
#define AFTER(keys) ",\"depends_on\":[" keys "]"

static kit_t s_kit;
static actor_t s_actor = { .name = "test", .kit = &s_kit };

//  Two kinds are all that reading asks for.
const task_kind_t *
task_kind (text_t name)
{
    static const task_kind_t kinds [] = { { .name = "sql" }, { .name = "notebook" } };
    return text_is (name, "sql") ? &kinds [0] : text_is (name, "notebook") ? &kinds [1] : NULL;
}

static int
s_end (void **state)
{
    (void) state;
    while (s_kit.spare) {
        req_t *next = s_kit.spare->next;
        free (s_kit.spare);
        s_kit.spare = next;
    }
    return 0;
}

static mp_t
s_value (req_t *req, const char *json)
{
    char why [160];
    buf_t *room = req_buf (req);
    if (!json_read (text_of (json), room, why, sizeof why))
        fail_msg ("%s: %s", json, why);
    return mp_buf (room);
}

static dag_t
s_read (req_t *req, const char *json)
{
    dag_t dag;
    const char *why;
    if (!dag_read (req, s_value (req, json), "sql", &dag, &why))
        fail_msg ("%s: %s", json, why);
    return dag;
}

static void
test_refusals_name_the_task (void **state)
{
    (void) state;
    static const struct { const char *tasks, *why; } cases [] = {
        { "7", "tasks must be an array of 1 to 200 tasks" },
        { "{}", "tasks must be an array of 1 to 200 tasks" },
        { "[]", "tasks must be an array of 1 to 200 tasks" },
        { "[1]", "tasks [0] needs a task_key of 1 to 100 characters" },
        { "[" TASK ("a", "") ",{\"task_key\":\"\"}]",
          "tasks [1] needs a task_key of 1 to 100 characters" },
        { "[" TASK ("a", "") "," TASK ("a", "") "]", "task a is there twice" },
        { "[{\"task_key\":\"a\",\"type\":\"magic\"}]", "task a: there is no type magic" },
        { "[{\"task_key\":\"a\",\"type\":5}]", "task a: type must be a text" },
        { "[" TASK ("a", ",\"max_retries\":101") "]",
          "task a: max_retries must be a number from 0 to 100" },
        { "[" TASK ("a", ",\"max_infra_retries\":\"1\"") "]",
          "task a: max_infra_retries must be a number from 0 to 100" },
        { "[" TASK ("a", ",\"retry_delay_seconds\":-1") "]",
          "task a: retry_delay_seconds must be a number from 0 to 86400" },
        { "[" TASK ("a", ",\"timeout_seconds\":1e9") "]",
          "task a: timeout_seconds must be a number from 0 to 604800" },
        { "[" TASK ("a", ",\"run_if\":\"NEVER\"") "]",
          "task a: run_if must be one of ALL_SUCCESS, AT_LEAST_ONE_SUCCESS, NONE_FAILED, ALL_DONE, "
          "AT_LEAST_ONE_FAILED, ALL_FAILED" },
        { "[" TASK ("a", ",\"depends_on\":\"b\"") "]", "task a: depends_on must be an array" },
        { "[" TASK ("a", AFTER ("\"b\"")) "]", "task a depends on b, which is not there" },
        { "[" TASK ("a", AFTER ("{\"key\":\"a\"}")) "]",
          "task a depends on , which is not there" },
        { "[" TASK ("a", AFTER ("\"a\"")) "]",
          "tasks depend on each other in a circle through a" },
        { "[" TASK ("a", "") "," TASK ("b", AFTER ("\"a\",\"d\"")) "," TASK ("c", AFTER ("\"b\""))
          "," TASK ("d", AFTER ("\"c\"")) "]",
          "tasks depend on each other in a circle through b" } };
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        req_t *req = req_new (&s_actor);
        dag_t dag;
        const char *why = NULL;
        mp_t config = s_value (req, req_print (req, "{\"tasks\":%s}", cases [n].tasks));
        assert_false (dag_read (req, config, "sql", &dag, &why));
        assert_string_equal (why, cases [n].why);
        req_free (req);
    }
}

static void
test_no_more_than_there_may_be (void **state)
{
    (void) state;
    for (int count = TASKS_MAX; count <= TASKS_MAX + 1; count++) {
        req_t *req = req_new (&s_actor);
        buf_t *json = req_buf (req);
        dag_t dag;
        const char *why = NULL;
        //  Each behind the one before: the longest chain.
        for (int n = 0; n < count; n++) {
            buf_putf (json, "%s{\"task_key\":\"t%d\",\"type\":\"sql\"", n ? "," : "[", n);
            if (n)
                buf_putf (json, ",\"depends_on\":[\"t%d\"]", n - 1);
            buf_putc (json, '}');
        }
        buf_put (json, "]", 2);
        bool good = dag_read (req, s_value (req, (const char *) json->data), "sql", &dag, &why);
        assert_int_equal (good, count <= TASKS_MAX);
        if (good)
            assert_int_equal (dag.count, count);
        req_free (req);
    }
}

static void
test_a_job_without_tasks_is_one (void **state)
{
    (void) state;
    req_t *req = req_new (&s_actor);
    dag_t dag = s_read (req, "{\"query\":\"SELECT 1\",\"task_key\":\"x\",\"depends_on\":[\"y\"],"
                             "\"timeout_seconds\":2.5}");
    assert_int_equal (dag.count, 1);
    assert_string_equal (dag.tasks [0].key, "sql");
    assert_int_equal (dag.tasks [0].need_count, 0);
    assert_true (dag.tasks [0].leaf);
    assert_true (dag.tasks [0].timeout > 2.4 && dag.tasks [0].timeout < 2.6);
    assert_int_equal (dag.tasks [0].max_retries, -1);
    assert_true (text_is (mp_text (mp_get (dag.tasks [0].config, "query")), "SELECT 1"));
    req_free (req);
}

static void
test_leaves_are_what_nobody_waits_for (void **state)
{
    (void) state;
    req_t *req = req_new (&s_actor);
    dag_t dag = s_read (
        req, "[" TASK ("c", AFTER ("\"a\",{\"task_key\":\"b\",\"outcome\":\"true\"}"))
             "," TASK ("a", "") "," TASK ("b", ",\"max_retries\":3") "]");
    assert_true (dag.tasks [0].leaf && !dag.tasks [1].leaf && !dag.tasks [2].leaf);
    assert_int_equal (dag.tasks [0].need_count, 2);
    assert_null (dag.tasks [0].needs [0].outcome);
    assert_string_equal (dag.tasks [0].needs [1].outcome, "true");
    assert_int_equal (dag.tasks [2].max_retries, 3);
    req_free (req);
}

//  What becomes of a task that waits for two, by its rule and how they stand: o open, s success,
//  f failed, - skipped.
static void
test_what_becomes_of_a_task (void **state)
{
    (void) state;
    //  By position, as verdict_t has them: it waits, runs, is skipped, or fails with them.
    static const char letters [] = "wrsu";
    static const char *const pairs [] = { "oo", "os", "of", "ss", "sf", "ff", "s-", "f-", "--" };
    static const struct { const char *rule, *verdicts; } cases [] = {
        { "ALL_SUCCESS",          "wwwruusus" },
        { "AT_LEAST_ONE_SUCCESS", "wwwrrurus" },
        { "NONE_FAILED",          "wwwruurus" },
        { "ALL_DONE",             "wwwrrrrrr" },
        { "AT_LEAST_ONE_FAILED",  "wwwsrrsrs" },
        { "ALL_FAILED",           "wwwssrsss" } };
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        req_t *req = req_new (&s_actor);
        dag_t dag = s_read (req, req_print (req, "[" TASK ("a", "") "," TASK ("b", "")
                                            ",{\"task_key\":\"c\",\"depends_on\":[\"a\",\"b\"],"
                                            "\"run_if\":\"%s\"}]", cases [n].rule));
        const char *const none [3] = { NULL };
        for (size_t pair = 0; pair < 9; pair++) {
            stand_t stands [3] = { STAND_OPEN, STAND_OPEN, STAND_OPEN };
            for (int i = 0; i < 2; i++)
                stands [i] = pairs [pair] [i] == 's' ? STAND_SUCCESS
                           : pairs [pair] [i] == 'f' ? STAND_FAILED
                           : pairs [pair] [i] == '-' ? STAND_SKIPPED : STAND_OPEN;
            if (letters [dag_verdict (&dag, 2, stands, none)] != cases [n].verdicts [pair])
                fail_msg ("%s with %s", cases [n].rule, pairs [pair]);
            assert_int_equal (dag_verdict (&dag, 0, stands, none), TASK_RUNS);
        }
        req_free (req);
    }
}

static void
test_only_the_way_that_was_taken_goes_on (void **state)
{
    (void) state;
    req_t *req = req_new (&s_actor);
    dag_t dag = s_read (req, "[" TASK ("if", "")
        "," TASK ("yes", AFTER ("{\"task_key\":\"if\",\"outcome\":\"true\"}"))
        "," TASK ("no", AFTER ("{\"task_key\":\"if\",\"outcome\":\"false\"}"))
        ",{\"task_key\":\"then\",\"depends_on\":[\"yes\",\"no\"],\"run_if\":\"NONE_FAILED\"}]");
    stand_t stands [4] = { STAND_SUCCESS, STAND_OPEN, STAND_OPEN, STAND_OPEN };
    const char *outcomes [4] = { "true" };
    assert_int_equal (dag_verdict (&dag, 1, stands, outcomes), TASK_RUNS);
    assert_int_equal (dag_verdict (&dag, 2, stands, outcomes), TASK_SKIPPED);
    assert_int_equal (dag_verdict (&dag, 3, stands, outcomes), TASK_WAITS);
    stands [1] = STAND_SUCCESS;
    stands [2] = STAND_SKIPPED;
    assert_int_equal (dag_verdict (&dag, 3, stands, outcomes), TASK_RUNS);
    outcomes [0] = NULL;
    assert_int_equal (dag_verdict (&dag, 1, stands, outcomes), TASK_SKIPPED);
    stands [0] = STAND_FAILED;
    assert_int_equal (dag_verdict (&dag, 1, stands, outcomes), TASK_UPSTREAM_FAILED);
    req_free (req);
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (test_refusals_name_the_task),
        cmocka_unit_test (test_no_more_than_there_may_be),
        cmocka_unit_test (test_a_job_without_tasks_is_one),
        cmocka_unit_test (test_leaves_are_what_nobody_waits_for),
        cmocka_unit_test (test_what_becomes_of_a_task),
        cmocka_unit_test (test_only_the_way_that_was_taken_goes_on),
    };
    return cmocka_run_group_tests (tests, NULL, s_end);
}
