//  test_req.c -- decoding of declared fields, and a request's memory.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

//  Before cmocka, which has a macro of the name fail.
#include "actors/kit/kit.h"

#include <cmocka.h>

static kit_t s_kit;
static actor_t s_actor = { .name = "test", .kit = &s_kit };
static endpoint_t s_endpoint;
static uint8_t s_take [32];

//  A request for `field` with params and body as JSON.
static req_t *
s_request (const field_t *fields, const char *params, const char *body)
{
    req_t *req = req_new (&s_actor);
    buf_t *bytes [2] = { req_buf (req), req_buf (req) };
    char why [128];
    if (!json_read (text_of (params), bytes [0], why, sizeof why)
        || !json_read (text_of (body), bytes [1], why, sizeof why))
        fail_msg ("%s", why);
    s_endpoint = (endpoint_t) { .in = fields, .take = s_take };
    for (; fields [s_endpoint.in_count].name; s_endpoint.in_count++) {
        unsigned flags = fields [s_endpoint.in_count].flags;
        s_take [s_endpoint.in_count] =
            (uint8_t) ((flags & READONLY ? 0 : TAKE) | (flags & REQUIRED ? NEED : 0) | DEFAULT);
    }
    req->endpoint = &s_endpoint;
    req->params = mp_buf (bytes [0]);
    req->body = mp_buf (bytes [1]);
    return req;
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

//  ---------------------------------------------------------------- one value

typedef struct {
    field_t field;
    const char *json;
    const char *text;                //  parameter; NULL: refused
    const char *why;                 //  begins like this
} row_t_;

static const row_t_ s_rows [] = {
    { { "f", T_TEXT }, "\"abc\"", "abc", NULL },
    { { "f", T_TEXT }, "\"\"", "", NULL },
    { { "f", T_TEXT }, "5", NULL, "must be a text" },
    { { "f", T_TEXT, .min = 2 }, "\"a\"", NULL, "must have at least 2 characters" },
    { { "f", T_TEXT, .max = 3 }, "\"\xc3\xa4\xc3\xb6\xc3\xbc\"", "\xc3\xa4\xc3\xb6\xc3\xbc", NULL },
    { { "f", T_TEXT, .max = 3 }, "\"abcd\"", NULL, "must have at most 3 characters" },
    { { "f", T_INT }, "5", "5", NULL },
    { { "f", T_INT }, "-9223372036854775808", "-9223372036854775808", NULL },
    { { "f", T_INT }, "5.0", "5", NULL },
    { { "f", T_INT }, "5.5", NULL, "must be an integer" },
    { { "f", T_INT }, "\"5\"", NULL, "must be an integer" },
    { { "f", T_INT }, "true", NULL, "must be an integer" },
    { { "f", T_INT }, "[5]", NULL, "must be an integer" },
    { { "f", T_INT, .min = 1, .max = 10 }, "10", "10", NULL },
    { { "f", T_INT, .min = 1, .max = 10 }, "11", NULL, "must be between 1 and 10" },
    { { "f", T_INT, .min = 1 }, "0", NULL, "must be at least 1" },
    { { "f", T_INT, .min = 1 }, "100000", "100000", NULL },
    { { "f", T_INT, .min = -5 }, "-6", NULL, "must be between -5 and 0" },
    { { "f", T_REAL }, "1.25", "1.25", NULL },
    { { "f", T_REAL }, "3", "3", NULL },
    { { "f", T_REAL }, "\"1\"", NULL, "must be a number" },
    { { "f", T_REAL, .max = 1 }, "1.5", NULL, "must be between 0 and 1" },
    { { "f", T_MONEY }, "\"12.3400\"", "12.3400", NULL },
    { { "f", T_MONEY }, "\"nan\"", NULL, "must be a number" },
    { { "f", T_MONEY }, "\"0x10\"", NULL, "must be a number" },
    { { "f", T_BOOL }, "true", "true", NULL },
    { { "f", T_BOOL }, "0", NULL, "must be true or false" },
    { { "f", T_BOOL }, "\"true\"", NULL, "must be true or false" },
    { { "f", T_UUID },
      "\"7f3b8a52-0c1d-4e5f-8a9b-0c1d2e3f4a5b\"",
      "7f3b8a52-0c1d-4e5f-8a9b-0c1d2e3f4a5b",
      NULL },
    { { "f", T_UUID }, "\"7f3b8a520c1d4e5f8a9b0c1d2e3f4a5b\"", NULL, "must be a UUID" },
    { { "f", T_ENUM, .values = "a|bc" }, "\"bc\"", "bc", NULL },
    { { "f", T_ENUM, .values = "a|bc" }, "\"b\"", NULL, "must be one of a, bc" },
    { { "f", T_ENUM, .values = "a|bc" }, "\"\"", NULL, "must be one of a, bc" },
    { { "f", T_JSON }, "{\"a\":[1,null]}", "{\"a\":[1,null]}", NULL },
    { { "f", T_JSON }, "\"5\"", "\"5\"", NULL },
    { { "f", T_OBJECT }, "{}", "{}", NULL },
    { { "f", T_OBJECT }, "[]", NULL, "must be an object" },
    { { "f", T_ARRAY, .max = 1 }, "[1]", "[1]", NULL },
    { { "f", T_ARRAY, .max = 1 }, "[1,2]", NULL, "must have at most 1 entries" },
    { { "f", T_TIME }, "\"2026-01-31T12:00:00Z\"", "2026-01-31T12:00:00Z", NULL },
    { { "f", T_TIME },
      "\"2026-01-31T12:00:00.123456+02:00\"",
      "2026-01-31T12:00:00.123456+02:00",
      NULL },
    { { "f", T_TIME }, "\"2026-01-31\"", "2026-01-31", NULL },
    { { "f", T_TIME }, "\"2026-01-31T25:00:00Z\"", NULL, "must be a time" },
    { { "f", T_TIME }, "\"2026-01-31T12:00:00+99:00\"", NULL, "must be a time" },
    { { "f", T_TIME }, "\"now\"", NULL, "must be a time" },
    { { "f", T_DATE }, "\"2024-02-29\"", "2024-02-29", NULL },
    { { "f", T_DATE }, "\"2026-02-29\"", NULL, "must be a date" },
    { { "f", T_DATE }, "\"infinity\"", NULL, "must be a date" },
    { { "f", T_EMAIL }, "\"a.b@c.de\"", "a.b@c.de", NULL },
    { { "f", T_EMAIL }, "\"a@b@c.de\"", NULL, "must be an e-mail" },
    { { "f", T_EMAIL }, "\"a@c\"", NULL, "must be an e-mail" },
    { { "f", T_EMAIL }, "\"a b@c.de\"", NULL, "must be an e-mail" },
    { { "f", T_NAMES }, "[\"a\",\"b\\\"c\"]", "[\"a\",\"b\\\"c\"]", NULL },
    { { "f", T_NAMES }, "[\"a\",1]", NULL, "must be an array of texts" },
    { { "f", T_NAMES }, "\"a\"", NULL, "must be an array of texts" }
};

static void
test_values_are_checked_by_type (void **state)
{
    (void) state;
    for (size_t n = 0; n < COUNT (s_rows); n++) {
        const row_t_ *row = &s_rows [n];
        const field_t fields [] = { row->field, { 0 } };
        char body [256];
        snprintf (body, sizeof body, "{\"f\":%s}", row->json);
        req_t *req = s_request (fields, "{}", body);
        bool good = input_decode (req);
        if (row->text) {
            if (!good)
                print_error ("row %zu: %s\n", n, req->text);
            assert_true (good);
            assert_string_equal (req_str (req, "f"), row->text);
        }
        else {
            if (good)
                print_error ("row %zu passed\n", n);
            assert_false (good);
            assert_int_equal (req->code, E_INVALID);
            assert_true (text_starts (mp_text (mp_get (req->details, "f")), row->why));
        }
        req_free (req);
    }
}

//  What comes in an address is text and read as what it is meant to be.
static void
test_addresses_are_read_leniently (void **state)
{
    (void) state;
    static const field_t fields [] = { { "i", T_INT },
                                      { "b", T_BOOL },
                                      { "r", T_REAL },
                                      { "o", T_OBJECT },
                                      { "n", T_NAMES },
                                      { "j", T_JSON },
                                      { 0 } };
    req_t *req = s_request (fields,
                            "{\"i\":\"-7\",\"b\":\"1\",\"r\":\"2.5\",\"o\":\"{\\\"a\\\":1}\",\"n\":"
                            "\"x,y\",\"j\":\"plain\"}",
                            "null");
    assert_true (input_decode (req));
    assert_int_equal (req_int (req, "i"), -7);
    assert_true (req_bool (req, "b"));
    assert_true (req_real (req, "r") == 2.5);
    assert_string_equal (req_str (req, "o"), "{\"a\":1}");
    assert_string_equal (req_str (req, "n"), "[\"x\",\"y\"]");
    assert_string_equal (req_str (req, "j"), "\"plain\"");
    req_free (req);
    static const char *const bad [] = { "", "+", "7x", " 7", "0x7", "99999999999999999999" };
    for (size_t n = 0; n < COUNT (bad); n++) {
        char params [64];
        snprintf (params, sizeof params, "{\"i\":\"%s\"}", bad [n]);
        req = s_request (fields, params, "null");
        assert_false (input_decode (req));
        req_free (req);
    }
}

static void
test_the_address_wins_and_spellings_are_one (void **state)
{
    (void) state;
    static const field_t fields [] = { { "parent_id", T_TEXT },
                                      { "created", T_TEXT, .json = "createdAt" },
                                      { "kind", T_TEXT, .also = "type" },
                                      { "state", T_TEXT, READONLY },
                                      { "size", T_INT, .def = "3" },
                                      { "must", T_TEXT, REQUIRED },
                                      { 0 } };
    req_t *req = s_request (fields, "{\"parent_id\":\"path\"}",
                            "{\"parent_id\":\"body\",\"createdAt\":\"c\",\"type\":\"k\",\"state\":"
                            "\"s\",\"odd\":1,\"must\":null}");
    assert_false (input_decode (req));
    assert_string_equal (req->text, "must is required");
    assert_string_equal (req_str (req, "parent_id"), "path");
    assert_string_equal (req_str (req, "created"), "c");
    assert_string_equal (req_str (req, "kind"), "k");
    assert_null (req_str (req, "state"));
    assert_int_equal (req_int (req, "size"), 3);
    assert_false (req_has (req, "size"));
    assert_int_equal (mp_int (req_any (req, "size")), 3);
    assert_true (req_has (req, "must"));
    assert_string_equal (req->ignored->name, "odd");
    req_set (req, "state", "set");
    req_set (req, "other", "more");
    assert_string_equal (req_str (req, "state"), "set");
    assert_string_equal (req_str (req, "other"), "more");
    req_free (req);
}

static void
test_null_clears_on_update_only (void **state)
{
    (void) state;
    static const field_t fields [] = { { "a", T_TEXT, NULLABLE }, { "b", T_TEXT }, { 0 } };
    req_t *req = s_request (fields, "{}", "{\"a\":null,\"b\":null}");
    assert_true (input_decode (req));
    req_free (req);
    req = s_request (fields, "{}", "{\"a\":null,\"b\":null}");
    s_endpoint.update = true;
    assert_false (input_decode (req));
    assert_int_equal (mp_count (req->details), 1);
    assert_true (text_is (mp_text (mp_get (req->details, "b")), "must not be null"));
    assert_true (req_has (req, "a"));
    req_free (req);
}

//  ---------------------------------------------------------------- memory

static int s_deferred;

static void
s_note (void *arg)
{
    s_deferred = s_deferred * 10 + *(int *) arg;
}

static void
test_memory_ends_with_the_request (void **state)
{
    (void) state;
    static int one = 1, two = 2;
    for (int round = 0; round < 3; round++) {
        req_t *req = req_new (&s_actor);
        char *last = NULL;
        for (int n = 0; n < 2000; n++) {
            char *text = req_print (req, "%d %s", n, "some text that takes a little room");
            assert_int_equal ((uintptr_t) text % 16, 0);
            if (last)
                assert_int_equal (atoi (last), n - 1);
            last = text;
        }
        uint8_t *large = req_alloc (req, 1 << 20);
        for (size_t n = 0; n < 1 << 20; n += 4096)
            assert_int_equal (large [n], 0);
        buf_puts (req_buf (req), "freed with it");
        s_deferred = 0;
        req_defer (req, s_note, &one);
        req_defer (req, s_note, &two);
        req_free (req);
        assert_int_equal (s_deferred, 21);
    }
}

static void
test_constraints_name_their_field (void **state)
{
    (void) state;
    static const field_t fields [] = { { "name", T_TEXT },
                                      { "workspace_id", T_UUID },
                                      { "id", T_UUID },
                                      { "email", T_EMAIL, .json = "eMail" },
                                      { 0 } };
    assert_string_equal (constraint_field (fields, "notebooks_workspace_id_user_id_fkey"),
                         "workspace_id");
    assert_string_equal (constraint_field (fields, "users_email_key"), "eMail");
    assert_string_equal (constraint_field (fields, "shelves_user_id_name_key"), "name");
    assert_null (constraint_field (fields, "shelves_pkey"));
    assert_null (constraint_field (NULL, "users_email_key"));
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (test_values_are_checked_by_type),
        cmocka_unit_test (test_addresses_are_read_leniently),
        cmocka_unit_test (test_the_address_wins_and_spellings_are_one),
        cmocka_unit_test (test_null_clears_on_update_only),
        cmocka_unit_test (test_memory_ends_with_the_request),
        cmocka_unit_test (test_constraints_name_their_field) };
    return cmocka_run_group_tests (tests, NULL, s_end);
}
