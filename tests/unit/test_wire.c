//  test_wire.c -- codecs of the bus messages: round trips, tolerance of one version, malformed
//  frames.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#include "proto/wire.h"

static void
test_call_comes_back_as_it_was (void **state)
{
    (void) state;
    buf_t frame = { 0 }, params = { 0 };
    mp_put_map (&params, 1);
    mp_pair_str (&params, "id", "7");
    wire_call_t in = { .id = UINT64_MAX, .method = TEXT ("a.b"), .key = TEXT ("user:1"),
                       .ttl = 30000, .params = mp_buf (&params) }, out;
    wire_pack_call (&frame, &in);
    text_t at = buf_text (&frame);
    mp_t message;
    assert_int_equal (wire_next (&at, &message), WIRE_CALL);
    assert_true (wire_unpack_call (message, &out));
    assert_true (out.id == UINT64_MAX && out.ttl == 30000);
    assert_true (text_is (out.method, "a.b") && text_is (out.key, "user:1"));
    assert_int_equal (out.trace.size, 0);
    assert_true (text_is (mp_text (mp_get (out.params, "id")), "7"));
    assert_true (mp_empty (out.body) && mp_empty (out.identity));
    assert_int_equal (wire_next (&at, &message), 0);
    buf_free (&frame);
    buf_free (&params);
}

static void
test_messages_ride_together (void **state)
{
    (void) state;
    buf_t frame = { 0 };
    for (uint64_t i = 0; i < 100; i++)
        wire_pack_chunk (&frame, &(wire_chunk_t) { .id = i, .data = TEXT ("x\0y"),
                                                   .last = i == 99 });
    text_t at = buf_text (&frame);
    mp_t message;
    wire_chunk_t chunk;
    for (uint64_t i = 0; i < 100; i++) {
        assert_int_equal (wire_next (&at, &message), WIRE_CHUNK);
        assert_true (wire_unpack_chunk (message, &chunk));
        assert_true (chunk.id == i && chunk.data.size == 3 && chunk.last == (i == 99));
    }
    assert_int_equal (wire_next (&at, &message), 0);
    buf_free (&frame);
}

//  One version apart: fewer fields are empty, further ones ignored, nil says nothing.
static void
test_shorter_and_longer_arrays_are_accepted (void **state)
{
    (void) state;
    buf_t frame = { 0 };
    mp_put_array (&frame, 2);
    mp_put_uint (&frame, WIRE_REPLY);
    mp_put_uint (&frame, 9);
    mp_put_array (&frame, 8);
    mp_put_uint (&frame, WIRE_REPLY);
    mp_put_uint (&frame, 10);
    mp_put_nil (&frame);
    for (int i = 0; i < 5; i++)
        mp_put_str (&frame, "later");
    text_t at = buf_text (&frame);
    mp_t message;
    wire_reply_t reply;
    assert_int_equal (wire_next (&at, &message), WIRE_REPLY);
    assert_true (wire_unpack_reply (message, &reply));
    assert_true (reply.id == 9 && reply.status == 0 && mp_is_none (reply.body));
    assert_int_equal (wire_next (&at, &message), WIRE_REPLY);
    assert_false (wire_unpack_reply (message, &reply));     //  load is a text
    buf_free (&frame);
}

static void
test_wrong_types_are_refused (void **state)
{
    (void) state;
    buf_t frame = { 0 };
    mp_put_array (&frame, 2);
    mp_put_uint (&frame, WIRE_CANCEL);
    mp_put_int (&frame, -1);
    wire_cancel_t cancel;
    assert_false (wire_unpack_cancel (mp_buf (&frame), &cancel));
    buf_free (&frame);
}

static void
test_malformed_frames_end_there (void **state)
{
    (void) state;
    static const char *const s_bad [] = { "\xc1", "\xdd\xff\xff\xff\xff", "\x92\x06", "\x80",
                                          "\x90", "\x91\xa1x", "\x91\xff", "\x05" };
    mp_t message;
    for (size_t i = 0; i < sizeof s_bad / sizeof *s_bad; i++) {
        text_t at = text_of (s_bad [i]);
        assert_int_equal (wire_next (&at, &message), -1);
    }
    text_t zero = { "\x91\x00", 2 };
    assert_int_equal (wire_next (&zero, &message), -1);
    text_t unknown = TEXT ("\x91\x7f");
    assert_int_equal (wire_next (&unknown, &message), 127);
    assert_string_equal (wire_name (127), "?");
    assert_string_equal (wire_name (WIRE_SUBSCRIBED), "SUBSCRIBED");
}

//  Every cut of a good frame is refused or a shorter frame, never more.
static void
test_every_truncation_is_safe (void **state)
{
    (void) state;
    buf_t frame = { 0 };
    wire_pack_hello (&frame, &(wire_hello_t) { .version = 1, .role = TEXT ("actor"),
                                               .name = TEXT ("clusters"), .token = TEXT ("t") });
    wire_pack_ping (&frame, &(wire_ping_t) { .load = 70000 });
    for (size_t size = 0; size < frame.size; size++) {
        uint8_t *copy = malloc (size ? size : 1);
        memcpy (copy, frame.data, size);
        text_t at = { (const char *) copy, size };
        mp_t message;
        int number, good = 0;
        while ((number = wire_next (&at, &message)) > 0)
            good++;
        assert_true (good <= 1 && (number == -1 || size == 0 || good == 1));
        free (copy);
    }
    buf_free (&frame);
}

//  Part of the contract: clients in other languages choose by it.
static void
test_the_rendezvous_hash_never_changes (void **state)
{
    (void) state;
    assert_true (text_hash ((text_t) { 0 }) == 0xefd01f60ba992926u);
    assert_true (text_hash (TEXT ("a")) == 0x82a2a958a9bece5bu);
    assert_true (text_hash (TEXT ("clusters.1\0user:42")) == 0x11dcb9275b9ae987u);
    assert_true (text_hash (TEXT ("clusters.2\0user:42")) == 0xc0af61d237c38949u);
    assert_true (text_hash (TEXT ("clusters.1\0user:7")) == 0xef05db55d4f78913u);
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (test_call_comes_back_as_it_was),
        cmocka_unit_test (test_messages_ride_together),
        cmocka_unit_test (test_shorter_and_longer_arrays_are_accepted),
        cmocka_unit_test (test_wrong_types_are_refused),
        cmocka_unit_test (test_malformed_frames_end_there),
        cmocka_unit_test (test_every_truncation_is_safe),
        cmocka_unit_test (test_the_rendezvous_hash_never_changes),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
