//  test_route.c -- route maps: what is written, what is refused and how, the schemas made of them.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#include "proto/json.h"
#include "proto/route.h"

static const field_t s_fields [] = {
    { "id", T_UUID, READONLY | REQUIRED },
    { "name", T_TEXT, REQUIRED | SORT, .max = 255, .doc = "what it is called" },
    { "kind", T_ENUM, REQUIRED | FILTER, .values = "spark|dask", .def = "dask",
      .also = "provider" },
    { "workers", T_INT, .min = 1, .max = 10, .json = "numWorkers" },
    { "offset", T_INT, .max = 5 },
    { "secret", T_TEXT, SECRET },
    { "config", T_JSON, HIDDEN },
    { "note", T_TEXT, NULLABLE | LISTED_NOT },
    { 0 } };

static const route_spec_t s_spec = {
    .method = "compute_clusters.start", .verb = "POST", .path = "/compute-clusters/:id/start",
    .alias = { "/clusters/:id/start", "PUT /x/*rest" }, .auth = AUTH_ADMIN, .limit = LIMIT_HEAVY,
    .key = "param:id", .in = s_fields, .out = s_fields, .status = 202, .timeout = 5000,
    .events = "compute_cluster.starting", .doc = "Start" };

static void
test_only_what_is_not_default_is_written (void **state)
{
    (void) state;
    buf_t buf = { 0 }, json = { 0 };
    route_pack (&buf, &(route_spec_t) { .method = "a.b", .verb = "GET", .path = "/a" });
    json_write (mp_buf (&buf), &json);
    buf_putc (&json, 0);
    assert_string_equal ((char *) json.data,
                         "{\"method\":\"a.b\",\"verb\":\"GET\",\"path\":\"/a\"}");
    buf_clear (&buf);
    buf_clear (&json);
    field_pack (&buf, &s_fields [2]);
    json_write (mp_buf (&buf), &json);
    buf_putc (&json, 0);
    assert_string_equal ((char *) json.data,
                         "{\"name\":\"kind\",\"type\":\"enum\",\"required\":true,\"filter\":true,"
                         "\"values\":[\"spark\",\"dask\"],\"def\":\"dask\",\"also\":\"provider\"}");
    buf_clear (&buf);
    field_pack (&buf, &s_fields [4]);
    assert_false (mp_is_none (mp_get (mp_buf (&buf), "min")));     //  0 … 5, so 0 is said
    buf_free (&buf);
    buf_free (&json);
}

static void
test_our_own_routes_pass_the_check (void **state)
{
    (void) state;
    buf_t buf = { 0 };
    char error [256] = "";
    route_pack (&buf, &s_spec);
    mp_t route = mp_buf (&buf);
    assert_true (mp_valid (buf.data, buf.size, MP_DEPTH) == buf.size);
    if (!route_check (route, error, sizeof error))
        fail_msg ("%s", error);
    assert_true (text_is (mp_text (mp_get (route, "auth")), "admin"));
    assert_true (text_is (mp_text (mp_get (route, "limit")), "heavy"));
    assert_int_equal (mp_count (mp_get (route, "alias")), 2);
    assert_int_equal (mp_count (mp_get (route, "in")), 8);
    buf_free (&buf);
}

static void
refused (const char *route, const char *why)
{
    buf_t buf = { 0 };
    char error [256] = "";
    assert_true (json_read (text_of (route), &buf, error, sizeof error));
    assert_false (route_check (mp_buf (&buf), error, sizeof error));
    assert_string_equal (error, why);
    buf_free (&buf);
}

static void
test_bad_routes_are_refused_with_row_and_key (void **state)
{
    (void) state;
    refused ("[]", "route: key \"method\" is not like domain.verb");
    refused ("{\"method\":\"start\"}", "route: key \"method\" is not like domain.verb");
    refused ("{\"method\":\"a.b\",\"verb\":\"FETCH\",\"path\":\"/a\"}",
             "route a.b: key \"verb\" is not one of GET|POST|PUT|PATCH|DELETE");
    refused ("{\"method\":\"a.b\",\"verb\":\"GET\"}",
             "route a.b: key \"path\" is missing beside its other half");
    refused ("{\"method\":\"a.b\",\"verb\":\"GET\",\"path\":\"/a//b\"}",
             "route a.b: key \"path\" is no path");
    refused ("{\"method\":\"a.b\",\"verb\":\"GET\",\"path\":\"/a/../b\"}",
             "route a.b: key \"path\" is no path");
    refused ("{\"method\":\"a.b\",\"verb\":\"GET\",\"path\":\"/*rest/b\"}",
             "route a.b: key \"path\" is no path");
    refused ("{\"method\":\"a.b\",\"verb\":\"GET\",\"path\":\"/a?x=1\"}",
             "route a.b: key \"path\" is no path");
    refused ("{\"method\":\"a.b\",\"auth\":\"root\"}",
             "route a.b: key \"auth\" is not one of user|none|optional|admin|super|operator");
    refused ("{\"method\":\"a.b\",\"verb\":\"GET\",\"path\":\"/a\",\"auth\":\"operator\"}",
             "route a.b: key \"auth\" is operator, so the route can have no verb and path");
    refused ("{\"method\":\"a.b\",\"key\":\"name\"}",
             "route a.b: key \"key\" is not \"user\" or \"param:NAME\"");
    refused ("{\"method\":\"a.b\",\"status\":500}",
             "route a.b: key \"status\" is not a number from 200 to 299");
    refused ("{\"method\":\"a.b\",\"raw\":1}",
             "route a.b: key \"raw\" is not a boolean");
    refused ("{\"method\":\"a.b\",\"in\":[{\"type\":\"int\"}]}",
             "route a.b: key \"in\" holds a field without a valid name");
    refused ("{\"method\":\"a.b\",\"in\":[{\"name\":\"n\",\"type\":\"int32\"}]}",
             "route a.b field n: key \"type\" is not a field type");
    refused ("{\"method\":\"a.b\",\"out\":[{\"name\":\"n\",\"type\":\"enum\"}]}",
             "route a.b field n: key \"values\" is missing");
}

static void
schema_is (bool reply, const char *expected)
{
    buf_t fields = { 0 }, json = { 0 };
    mp_put_array (&fields, 8);
    for (const field_t *at = s_fields; at->name; at++)
        field_pack (&fields, at);
    field_schema (mp_buf (&fields), reply, &json);
    buf_putc (&json, 0);
    assert_string_equal ((char *) json.data, expected);
    buf_free (&fields);
    buf_free (&json);
}

static void
test_schemas_of_body_and_reply (void **state)
{
    (void) state;
    schema_is (true,
        "{\"type\":\"object\",\"properties\":{"
        "\"id\":{\"description\":\"\",\"type\":\"string\",\"format\":\"uuid\",\"readOnly\":true},"
        "\"name\":{\"description\":\"what it is called\",\"type\":\"string\"},"
        "\"kind\":{\"description\":\"\",\"type\":\"string\",\"enum\":[\"spark\",\"dask\"]},"
        "\"provider\":{\"description\":\"\",\"type\":\"string\",\"enum\":[\"spark\",\"dask\"]},"
        "\"numWorkers\":{\"description\":\"\",\"type\":[\"integer\",\"null\"]},"
        "\"offset\":{\"description\":\"\",\"type\":[\"integer\",\"null\"]},"
        "\"note\":{\"description\":\"\",\"type\":[\"string\",\"null\"]}},"
        "\"required\":[\"id\",\"name\",\"kind\"]}");
    schema_is (false,
        "{\"type\":\"object\",\"properties\":{"
        "\"name\":{\"description\":\"what it is called\",\"type\":\"string\",\"maxLength\":255},"
        "\"kind\":{\"description\":\"\",\"type\":\"string\",\"enum\":[\"spark\",\"dask\"],"
        "\"default\":\"dask\"},"
        "\"provider\":{\"description\":\"\",\"type\":\"string\",\"enum\":[\"spark\",\"dask\"],"
        "\"default\":\"dask\"},"
        "\"numWorkers\":{\"description\":\"\",\"type\":\"integer\",\"minimum\":1,\"maximum\":10},"
        "\"offset\":{\"description\":\"\",\"type\":\"integer\",\"minimum\":0,\"maximum\":5},"
        "\"secret\":{\"description\":\"\",\"type\":\"string\",\"writeOnly\":true},"
        "\"note\":{\"description\":\"\",\"type\":[\"string\",\"null\"]}},"
        "\"required\":[\"name\"],"
        "\"allOf\":[{\"anyOf\":[{\"required\":[\"kind\"]},{\"required\":[\"provider\"]}]}]}");
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (test_only_what_is_not_default_is_written),
        cmocka_unit_test (test_our_own_routes_pass_the_check),
        cmocka_unit_test (test_bad_routes_are_refused_with_row_and_key),
        cmocka_unit_test (test_schemas_of_body_and_reply),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
