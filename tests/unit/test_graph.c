//  test_graph.c -- graphs of pipelines: what is refused and how it is named, order, tasks,
//  branches, and the state machines made of them.

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "actors/jobs/asl.h"
#include "actors/jobs/node.h"
#include "proto/json.h"

#define ID "5c1d7c0e-3c1f-4c2b-9d0a-0e6f6b1d2a77"
#define WAIT(id) "{\"id\":\"" id "\",\"type\":\"wait\",\"config\":{\"seconds\":0}}"
#define EDGE(a, b) "{\"from\":\"" a "\",\"to\":\"" b "\"}"
#define GRAPH(nodes, edges) "{\"nodes\":[" nodes "],\"edges\":[" edges "]}"

static mp_t
value_of (const char *json, buf_t *room)
{
    char why [160];
    buf_clear (room);
    if (!json_read (text_of (json), room, why, sizeof why))
        fail_msg ("%s: %s", json, why);
    return mp_buf (room);
}

static bool
reads (const char *json, char why [GRAPH_WHY])
{
    buf_t room = { 0 };
    graph_t graph;
    bool good = graph_read (value_of (json, &room), &graph, why);
    graph_free (&graph);
    buf_free (&room);
    return good;
}

static void
test_refusals_name_the_node (void **state)
{
    (void) state;
    static const struct { const char *json, *why;
    } cases[] = {
        { "[]", "must be an object with nodes and edges" },
        { "{\"nodes\":1}", "nodes must be an array" },
        { GRAPH ("1", ""), "nodes [0] needs an id of 1 to 80 bytes" },
        { GRAPH ("{\"id\":7,\"type\":\"wait\"}", ""), "nodes [0] needs an id of 1 to 80 bytes" },
        { GRAPH ("{\"id\":\"a\\u0001\",\"type\":\"wait\"}", ""),
          "nodes [0]: the id has control characters" },
        { GRAPH (WAIT ("a") "," WAIT ("a"), ""), "node a is there twice" },
        { GRAPH ("{\"id\":\"a\",\"type\":\"shell\"}", ""),
          "node a: there is no type shell; there are sql, notebook, http, copy, branch and wait" },
        { GRAPH ("{\"id\":\"a\",\"type\":\"wait\"}", ""), "node a: seconds is required" },
        { GRAPH ("{\"id\":\"a\",\"type\":\"wait\",\"seconds\":-1}", ""),
          "node a: seconds must be a number from 0 to 604800" },
        { GRAPH ("{\"id\":\"a\",\"type\":\"sql\",\"config\":{}}", ""),
          "node a: query is required" },
        { GRAPH ("{\"id\":\"a\",\"type\":\"notebook\",\"config\":{\"notebook_id\":\"x\"}}", ""),
          "node a: notebook_id must be an id" },
        { GRAPH ("{\"id\":\"a\",\"type\":\"http\",\"url\":\"file:///etc/passwd\"}", ""),
          "node a: url must begin with http:// or https://" },
        { GRAPH ("{\"id\":\"a\",\"type\":\"http\",\"url\":\"http://x.y\",\"method\":\"CONNECT\"}",
                 ""),
          "node a: method must be one of GET|HEAD|POST|PUT|PATCH|DELETE" },
        { GRAPH ("{\"id\":\"a\",\"type\":\"copy\",\"query\":\"select 1\",\"table\":\"a;b\"}", ""),
          "node a: table must be a name, or schema.name, of letters, digits and _" },
        { GRAPH ("{\"id\":\"a\",\"type\":\"wait\",\"seconds\":1,\"max_retries\":101}", ""),
          "node a: max_retries must be a number from 0 to 100" },
        { GRAPH (WAIT ("a"), "1"), "edges [0] must be an object" },
        { GRAPH (WAIT ("a"), "{\"from\":\"a\"}"), "edges [0] needs to, the id of a node" },
        { GRAPH (WAIT ("a"), EDGE ("a", "b")), "edges [0]: there is no node b" },
        { GRAPH (WAIT ("a") "," WAIT ("b"), EDGE ("a", "b") "," EDGE ("a", "b")),
          "nodes a and b are joined by two edges" },
        { GRAPH (WAIT ("a") "," WAIT ("b"), "{\"from\":\"a\",\"to\":\"b\",\"condition\":\"true\"}"),
          "node a is no branch: an edge from it has no condition" },
        { GRAPH (WAIT ("a"), EDGE ("a", "a")), "nodes form a cycle: a -> a" },
        { GRAPH (WAIT ("x") "," WAIT ("a") "," WAIT ("b") "," WAIT ("c"),
                 EDGE ("x", "a") "," EDGE ("a", "b") "," EDGE ("b", "c") "," EDGE ("c", "a")),
          "nodes form a cycle: b -> c -> a -> b" },
        { GRAPH (WAIT ("a") ",{\"id\":\"b\",\"type\":\"branch\",\"node\":\"a\"}", ""),
          "node b: it asks about a, which is no node before it" }
    };
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        char why [GRAPH_WHY];
        assert_false (reads (cases [n].json, why));
        assert_string_equal (why, cases [n].why);
    }
}

static void
test_an_empty_graph_is_one (void **state)
{
    (void) state;
    char why [GRAPH_WHY];
    assert_true (reads ("{}", why));
    assert_true (reads (GRAPH ("", ""), why));
}

static void
test_limits (void **state)
{
    (void) state;
    buf_t json = { 0 };
    char why [GRAPH_WHY];
    for (int count = GRAPH_NODES; count <= GRAPH_NODES + 1; count++) {
        buf_clear (&json);
        buf_puts (&json, "{\"nodes\":[");
        for (int n = 0; n < count; n++)
            buf_putf (&json, "%s{\"id\":\"n%d\",\"type\":\"wait\",\"seconds\":0}", n ? "," : "", n);
        buf_puts (&json, "],\"edges\":[");
        //  A chain the wrong way round: the worst case for the order.
        for (int n = 1; n < count; n++)
            buf_putf (&json, "%s{\"source\":\"n%d\",\"target\":\"n%d\"}", n > 1 ? "," : "", n,
                      n - 1);
        buf_puts (&json, "]}");
        buf_putc (&json, 0);
        assert_int_equal (reads ((char *) json.data, why), count == GRAPH_NODES);
    }
    assert_string_equal (why, "there are 101 nodes, at most 100 are possible");
    buf_free (&json);
}

#define QUERY(id) "{\"id\":\"" id "\",\"type\":\"sql\",\"config\":{\"query\":\"select 1\"}}"
#define DECIDE                                                                                     \
    GRAPH ("{\"id\":\"late\",\"type\":\"sql\",\"data\":{\"query\":\"select 2\"}}," QUERY (         \
               "yes") "," QUERY ("no") ",{\"id\":\"if\",\"type\":\"branch\",\"config\":{\"node\":" \
                                       "\"first\","                                                \
                                       "\"path\":\"rows.0\",\"operator\":\">\",\"value\":3}}"      \
                                       "," QUERY ("first"),                                        \
           EDGE ("first",                                                                          \
                 "if") ",{\"from\":\"if\",\"to\":\"yes\",\"condition\":true},"                     \
                       "{\"source\":\"if\",\"target\":\"no\",\"condition\":\"false\"}," EDGE (     \
                           "yes", "late") "," EDGE ("no", "late"))

static void
test_order_and_tasks (void **state)
{
    (void) state;
    buf_t room = { 0 }, tasks = { 0 }, json = { 0 };
    graph_t graph;
    char why [GRAPH_WHY];
    assert_true (graph_read (value_of (DECIDE, &room), &graph, why));
    graph_tasks (&graph, &tasks);
    json_write (mp_buf (&tasks), &json);
    buf_putc (&json, 0);
    assert_string_equal ((char *) json.data,
        "[{\"task_key\":\"first\",\"type\":\"sql\",\"depends_on\":[],\"query\":\"select 1\"},"
        "{\"task_key\":\"if\",\"type\":\"branch\",\"depends_on\":[{\"task_key\":\"first\"}],"
        "\"node\":\"first\",\"path\":\"rows.0\",\"operator\":\">\",\"value\":3},"
        "{\"task_key\":\"yes\",\"type\":\"sql\",\"depends_on\":[{\"task_key\":\"if\","
        "\"outcome\":\"true\"}],\"query\":\"select 1\"},"
        "{\"task_key\":\"no\",\"type\":\"sql\",\"depends_on\":[{\"task_key\":\"if\","
        "\"outcome\":\"false\"}],\"query\":\"select 1\"},"
        "{\"task_key\":\"late\",\"type\":\"sql\",\"depends_on\":[{\"task_key\":\"yes\"},"
        "{\"task_key\":\"no\"}],\"run_if\":\"NONE_FAILED\",\"query\":\"select 2\"}]");
    graph_free (&graph);
    buf_free (&room);
    buf_free (&tasks);
    buf_free (&json);
}

static void
test_decisions (void **state)
{
    (void) state;
    static const struct { const char *config, *result; bool yes;
    } cases[] = {
        { "{\"path\":\"a.b.1\",\"operator\":\"==\",\"value\":5}", "{\"a\":{\"b\":[4,5]}}", true },
        { "{\"path\":\"a.b.2\",\"operator\":\"exists\"}", "{\"a\":{\"b\":[4,5]}}", false },
        { "{\"path\":\"a\",\"operator\":\">\",\"value\":2.5}", "{\"a\":3}", true },
        { "{\"path\":\"a\",\"operator\":\">\",\"value\":2.5}", "{\"a\":\"3\"}", false },
        { "{\"path\":\"a\",\"operator\":\"!=\",\"value\":2.5}", "{\"a\":\"3\"}", true },
        { "{\"path\":\"a\",\"operator\":\"<=\",\"value\":\"b\"}", "{\"a\":\"aa\"}", true },
        { "{\"path\":\"a\",\"operator\":\"contains\",\"value\":\"ell\"}", "{\"a\":\"hello\"}",
          true },
        { "{\"path\":\"a\",\"operator\":\"contains\",\"value\":2}", "{\"a\":[1,2]}", true },
        { "{\"path\":\"a\",\"value\":true}", "{\"a\":true}", true },
        { "{\"path\":\"a\"}", "{\"a\":false}", true },
        { "{\"path\":\"x.y.z\",\"value\":null}", "7", true },
        { "{\"value\":7}", "7", true }
    };
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        buf_t config = { 0 }, result = { 0 };
        bool yes = node_decides (value_of (cases [n].config, &config),
                                 value_of (cases [n].result, &result));
        if (yes != cases [n].yes)
            fail_msg ("%s of %s", cases [n].config, cases [n].result);
        buf_free (&config);
        buf_free (&result);
    }
}

//  ---- state machines ----

//  The rules of the language for one machine: whole, closed, every state reached, names unique.
typedef struct {
    const char *names [1000];
    size_t count;
} machine_t;

static void
check_next (mp_t states, mp_t state, const char *name, buf_t *reached)
{
    mp_t next = mp_get (state, name);
    if (mp_empty (next))
        return;
    char *text = text_copy (mp_text (next));
    assert_int_equal (mp_type (mp_get (states, text)), MP_MAP);
    buf_putf (reached, "|%s|", text);
    free (text);
}

static void
check_machine (mp_t machine, machine_t *all)
{
    mp_t states = mp_get (machine, "States");
    buf_t reached = { 0 };
    assert_true (mp_count (states) > 0);
    check_next (states, machine, "StartAt", &reached);
    for (mp_iter_t it = mp_iter (states); mp_next (&it);) {
        text_t type = mp_text (mp_get (it.value, "Type")), name = mp_text (it.key);
        bool choice = text_is (type, "Choice");
        size_t ends = !mp_empty (mp_get (it.value, "Next")) + mp_bool (mp_get (it.value, "End"));
        assert_true (name.size > 0 && name.size <= 80);
        for (size_t n = 0; n < all->count; n++)
            assert_false (text_is (name, all->names [n]));
        assert_true (all->count < 1000);
        all->names [all->count++] = text_copy (name);
        assert_int_equal (ends, choice ? 0 : 1);
        check_next (states, it.value, "Next", &reached);
        check_next (states, it.value, "Default", &reached);
        mp_t rules = mp_get (it.value, "Choices"), branches = mp_get (it.value, "Branches");
        assert_int_equal (choice, mp_type (rules) == MP_ARRAY && mp_count (rules) > 0);
        for (mp_iter_t rule = mp_iter (rules); choice && mp_next (&rule);) {
            assert_int_equal (mp_type (mp_get (rule.value, "Next")), MP_TEXT);
            check_next (states, rule.value, "Next", &reached);
        }
        if (text_is (type, "Parallel")) {
            assert_true (mp_count (branches) > 0);
            for (mp_iter_t branch = mp_iter (branches); mp_next (&branch);)
                check_machine (branch.value, all);
        }
        else if (text_is (type, "Task"))
            assert_true (
                text_starts (mp_text (mp_get (it.value, "Resource")), "arn:aws:states:::"));
        else if (text_is (type, "Wait"))
            assert_int_equal (mp_type (mp_get (it.value, "Seconds")), MP_INT);
        else
            assert_true (choice || text_is (type, "Pass"));
    }
    buf_putc (&reached, 0);
    for (mp_iter_t it = mp_iter (states); mp_next (&it);) {
        char *mark = text_format ("|%.*s|", (int) mp_text (it.key).size, mp_text (it.key).data);
        assert_non_null (strstr ((char *) reached.data, mark));
        free (mark);
    }
    buf_free (&reached);
}

static const asl_t whole = { .pipeline = ID, .name = "p", .runner = "arn:aws:lambda:::f",
                             .athena_output = "s3://b/", .http_connection = "arn:c" };

//  The machine as text; NULL: refused.
static char *
machine_of (const char *json, const asl_t *how, char why [GRAPH_WHY])
{
    buf_t room = { 0 }, out = { 0 }, read = { 0 };
    graph_t graph;
    static machine_t all;
    char wrong [160];
    assert_true (graph_read (value_of (json, &room), &graph, why));
    bool good = asl_write (&graph, how, &out, why);
    graph_free (&graph);
    buf_free (&room);
    if (good) {
        assert_true (json_read (buf_text (&out), &read, wrong, sizeof wrong));
        check_machine (mp_buf (&read), &all);
        buf_putc (&out, 0);
    }
    while (all.count)
        free ((char *) all.names [--all.count]);
    buf_free (&read);
    if (!good)
        buf_free (&out);
    return good ? (char *) out.data : NULL;
}

static void
test_state_machines (void **state)
{
    (void) state;
    char why [GRAPH_WHY];
    char *text = machine_of (DECIDE, &whole, why);
    assert_non_null (text);
    //  The branch asks, with care, for what the first node answered; what it leads to is
    //  conditional.
    assert_non_null (strstr (text, "{\"Variable\":\"$.level0.n4.result['rows'][0]\","
                                   "\"NumericGreaterThan\":3}"));
    assert_non_null (strstr (text,
                             "\"n1: when\":{\"Type\":\"Choice\",\"Choices\":[{\"And\":[{\"And\":"
                             "[{\"Variable\":\"$.level1.n3.state\",\"StringEquals\":"
                             "\"succeeded\"},{\"Variable\":\"$.level1.n3.outcome\","
                             "\"StringEquals\":\"true\"}]}],\"Next\":\"n1 yes\"}],"
                             "\"Default\":\"n1: skipped\"}"));
    assert_non_null (strstr (text, "athena:startQueryExecution.sync"));
    free (text);
    free (text = machine_of (GRAPH (WAIT ("Level 0") "," WAIT ("n0: waited"), ""), &whole, why));
    assert_non_null (text);
    free (text = machine_of (GRAPH ("{\"id\":\"a\",\"type\":\"http\",\"url\":\"http://x.y/z\","
                                    "\"max_retries\":2,\"timeout_seconds\":1.5}",
                                    ""),
                             &whole, why));
    assert_non_null (text);
    buf_t id = { 0 };
    buf_puts (&id, "{\"nodes\":[{\"id\":\"a");
    for (int n = 0; n < 39; n++)
        buf_puts (&id, "\xc3\xa9");
    buf_puts (&id, "\",\"type\":\"wait\",\"seconds\":0.2}]}");
    buf_putc (&id, 0);
    free (text = machine_of ((char *) id.data, &whole, why));
    assert_non_null (text);
    buf_free (&id);
}

static void
test_conditions (void **state)
{
    (void) state;
    static const char *const good [] = {
        "\"value\":7", "\"operator\":\"!=\",\"value\":\"x\"", "\"operator\":\"!=\",\"value\":null",
        "\"value\":null", "\"operator\":\"exists\"", "\"operator\":\"<=\",\"value\":1.5",
        "\"operator\":\"contains\",\"value\":\"a*b\"", "\"value\":true,\"path\":\"it's.0.\\\\\"" };
    static const char *const bad [] = { "\"operator\":\"contains\",\"value\":1",
                                        "\"operator\":\"<\",\"value\":true",
                                        "\"operator\":\"<\"", "\"value\":[1]" };
    char why [GRAPH_WHY];
    for (size_t n = 0; n < sizeof good / sizeof *good + sizeof bad / sizeof *bad; n++) {
        size_t at = n < sizeof good / sizeof *good ? n : n - sizeof good / sizeof *good;
        char *json =
            text_format (GRAPH (WAIT ("a") ",{\"id\":\"b\",\"type\":\"branch\",\"node\":\"a\",%s}",
                                EDGE ("a", "b")),
                         at == n ? good[at] : bad[at]);
        char *text = machine_of (json, &whole, why);
        assert_int_equal (text != NULL, at == n);
        if (!text)
            assert_non_null (strstr (why, "node b: "));
        free (text);
        free (json);
    }
}

static void
test_what_is_missing_is_named (void **state)
{
    (void) state;
    static const struct { const char *json, *why;
    } cases[] = {
        { GRAPH (QUERY ("q"), ""),
          "node q: a sql node needs athena_output or runner_function_arn in "
          "the config of the deployment" },
        { GRAPH ("{\"id\":\"h\",\"type\":\"http\",\"url\":\"http://x.y\"}", ""),
          "node h: a http node needs http_connection_arn or runner_function_arn in the config of "
          "the "
          "deployment" },
        { GRAPH ("{\"id\":\"n\",\"type\":\"notebook\",\"notebook_id\":\"" ID "\"}", ""),
          "node n: a notebook node needs runner_function_arn in the config of the deployment" },
        { GRAPH (
              WAIT ("a") ",{\"id\":\"b\",\"type\":\"wait\",\"seconds\":1,\"run_if\":\"ALL_DONE\"}",
              EDGE ("a", "b")),
          "node b: run_if ALL_DONE is not possible on aws-step-functions" }
    };
    static const asl_t nothing = { .pipeline = ID, .name = "p" };
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        char why [GRAPH_WHY];
        assert_null (machine_of (cases [n].json, &nothing, why));
        assert_string_equal (why, cases [n].why);
    }
    char why [GRAPH_WHY];
    assert_null (
        machine_of (GRAPH ("{\"id\":\"h\",\"type\":\"http\",\"url\":\"http://x.y\",\"body\":"
                           "{\"a\":[{\"b.$\":\"$\"}]}}",
                           ""),
                    &whole, why));
    assert_string_equal (why, "node h: names in headers and body must not end with .$");
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (test_refusals_name_the_node),
        cmocka_unit_test (test_an_empty_graph_is_one),
        cmocka_unit_test (test_limits),
        cmocka_unit_test (test_order_and_tasks),
        cmocka_unit_test (test_decisions),
        cmocka_unit_test (test_state_machines),
        cmocka_unit_test (test_conditions),
        cmocka_unit_test (test_what_is_missing_is_named),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
