//  test_mp.c -- what the scan refuses, and that numbers survive exactly.

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proto/mp.h"

//  One value of every form.
static void
put_everything (buf_t *buf)
{
    static const uint8_t bytes [70000];
    static const size_t sizes [] = { 0, 1, 2, 3, 4, 8, 15, 16, 17, 31, 32, 255, 256, 65535, 65536 };
    size_t mark = mp_open_array (buf);
    uint32_t count = 0;
    mp_put_nil (buf), mp_put_bool (buf, true), mp_put_bool (buf, false), count += 3;
    for (unsigned shift = 0; shift < 64; shift++, count += 2) {
        mp_put_uint (buf, UINT64_C (1) << shift);
        mp_put_int (buf, (int64_t) (UINT64_MAX << shift));
    }
    mp_put_real (buf, 0.1), count++;
    for (size_t n = 0; n < sizeof sizes / sizeof *sizes; n++, count += 3) {
        mp_put_text (buf, (text_t) { (const char *) bytes, sizes [n] });
        mp_put_bin (buf, bytes, sizes [n]);
        mp_put_ext (buf, MP_EXT_JSON, bytes, sizes [n]);
    }
    size_t map = mp_open_map (buf);
    mp_pair_int (buf, "int", -5);
    mp_pair_str (buf, "none", NULL);
    mp_put_str (buf, "many"), mp_put_array (buf, 20);
    for (int n = 0; n < 20; n++)
        mp_put_map (buf, 0);
    mp_close (buf, map, 3), count++;
    mp_close (buf, mark, count);
}

static void
scan_takes_whole_values_only (void **state)
{
    (void) state;
    buf_t buf = { 0 };
    put_everything (&buf);
    assert_int_equal (mp_valid (buf.data, buf.size, MP_DEPTH), buf.size);
    //  Near every head: cut everywhere, in memory of that very size so that a sanitizer sees an
    //  overrun.
    for (size_t size = 0; size < buf.size; size += size < 3000 ? 1 : 4099) {
        uint8_t *cut = malloc (size ? size : 1);
        memcpy (cut, buf.data, size);
        assert_int_equal (mp_valid (cut, size, MP_DEPTH), 0);
        free (cut);
    }
    buf_putc (&buf, (char) 0xc1);
    assert_int_equal (mp_valid (buf.data, buf.size, MP_DEPTH), buf.size - 1);
    buf_free (&buf);
    assert_int_equal (mp_valid (NULL, 0, MP_DEPTH), 0);
}

static void
every_first_byte_is_cut_safely (void **state)
{
    (void) state;
    for (unsigned first = 0; first < 256; first++)
        for (size_t size = 1; size <= 20; size++) {
            uint8_t *bytes = calloc (1, size);
            bytes [0] = (uint8_t) first;
            size_t valid = mp_valid (bytes, size, MP_DEPTH);
            assert_true (valid <= size);
            if (valid) {
                //  Whatever was found valid can be read whole.
                mp_t value = mp_of (bytes, valid);
                for (mp_iter_t it = mp_iter (value); mp_next (&it);)
                    assert_true (it.value.end <= value.end);
            }
            assert_true (first != 0xc1 || valid == 0);
            free (bytes);
        }
}

static void
announced_sizes_cost_nothing (void **state)
{
    (void) state;
    static const struct { const char *bytes; size_t size; } bombs [] = {
        { "\xdd\xff\xff\xff\xff", 5 }, { "\xdf\xff\xff\xff\xff", 5 }, { "\xdb\xff\xff\xff\xff", 5 },
        { "\xc6\xff\xff\xff\xff", 5 }, { "\xc9\xff\xff\xff\xff", 5 }, { "\xdf\x80\x00\x00\x00", 5 },
        { "\xc9\xff\xff\xff\xff\x01", 6 }, { "\xdc\xff\xff", 3 }, { "\xde\xff\xff", 3 },
        { "\x92\xdd\xff\xff\xff\xff", 6 }, { "\x81\xa1k\xdf\xff\xff\xff\xff", 8 },
        { "\xde\x00\x02\x01\x01\x01", 6 }, { "\x82\x01\x01\x01", 4 } };
    for (size_t n = 0; n < sizeof bombs / sizeof *bombs; n++)
        assert_int_equal (mp_valid (bombs [n].bytes, bombs [n].size, MP_DEPTH), 0);
}

static void
depth_is_bounded (void **state)
{
    (void) state;
    static uint8_t nest [200000];
    memset (nest, 0x91, sizeof nest);
    assert_int_equal (mp_valid (nest, sizeof nest, 1000000), 0);
    for (size_t depth = 1; depth <= 66; depth++) {
        nest [depth] = 0xc0;
        assert_int_equal (mp_valid (nest, depth + 1, MP_DEPTH), depth <= 64 ? depth + 1 : 0);
        nest [depth] = 0x91;
    }
    nest [0] = 0x90;
    assert_int_equal (mp_valid (nest, 1, 0), 0);
    assert_int_equal (mp_valid (nest, 1, 1), 1);
}

static void
text_and_json_are_utf8 (void **state)
{
    (void) state;
    assert_int_equal (mp_valid ("\xa1\xff", 2, 4), 0);
    assert_int_equal (mp_valid ("\xd9\x02\xc3\xa9", 4, 4), 4);
    assert_int_equal (mp_valid ("\xc4\x01\xff", 3, 4), 3);
    assert_int_equal (mp_valid ("\xd4\x01\xff", 3, 4), 0);
    assert_int_equal (mp_valid ("\xd4\x02\xff", 3, 4), 3);
    assert_int_equal (mp_valid ("\x81\xa1\xc3\x01", 4, 4), 0);
}

static mp_t
one (buf_t *buf)
{
    assert_int_equal (mp_valid (buf->data, buf->size, 4), buf->size);
    return mp_buf (buf);
}

static void
integers_are_exact (void **state)
{
    (void) state;
    static const int64_t edges [] = { 0, 31, 32, 33, 127, 128, 255, 256, 32767, 32768, 65535, 65536,
        INT32_MAX, UINT32_MAX, INT64_C (1) << 53, INT64_MAX };
    buf_t buf = { 0 };
    for (size_t n = 0; n < sizeof edges / sizeof *edges; n++)
        for (int64_t near = -2; near <= 2; near++)
            for (int sign = -1; sign <= 1; sign += 2) {
                uint64_t size = (uint64_t) edges [n] + (uint64_t) near;
                int64_t value = (int64_t) ((uint64_t) sign * size);
                int64_t back;
                buf_clear (&buf);
                mp_put_int (&buf, value);
                assert_true (mp_int_get (one (&buf), &back) && back == value);
                uint64_t positive;
                assert_true (mp_uint_get (one (&buf), &positive) == (value >= 0));
            }
    uint64_t big;
    int64_t number;
    buf_clear (&buf);
    mp_put_uint (&buf, UINT64_MAX);
    assert_true (mp_uint_get (one (&buf), &big) && big == UINT64_MAX);
    assert_false (mp_int_get (one (&buf), &number));
    assert_int_equal (mp_int (one (&buf)), 0);
    buf_clear (&buf);
    mp_put_int (&buf, INT64_MIN);
    assert_true (mp_int (one (&buf)) == INT64_MIN);
    buf_free (&buf);
    assert_int_equal (mp_int (mp_of ("\xd0\xff", 2)), -1);
    assert_int_equal (mp_int (mp_of ("\xd1\xff\x00", 3)), -256);
    assert_int_equal (mp_int (mp_of ("\xcc\xff", 2)), 255);
}

static void
reals_are_exact (void **state)
{
    (void) state;
    double real;
    buf_t buf = { 0 };
    mp_put_real (&buf, 0.1);
    assert_true (mp_real_get (one (&buf), &real) && real == 0.1);
    assert_true (mp_real_get (mp_of ("\xca\x3f\x80\x00\x00", 5), &real) && real == 1.0);
    assert_true (mp_real_get (mp_of ("\xff", 1), &real) && real == -1.0);
    assert_true (mp_real_get (mp_of ("\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 9), &real));
    assert_true (real == 18446744073709551616.0);
    assert_false (mp_real_get (mp_of ("\xa1" "1", 2), &real));
    buf_free (&buf);
}

static void
readers_answer_empty_for_other_types (void **state)
{
    (void) state;
    int8_t type;
    mp_t text = mp_of ("\xa2hi", 3), nil = mp_of ("\xc0", 1), list = mp_of ("\x92\x01\x02", 3);
    assert_int_equal (mp_int (text), 0);
    assert_false (mp_bool (text));
    assert_int_equal (mp_count (text), 0);
    assert_int_equal (mp_ext (text, &type).size, 0);
    assert_true (mp_is_none (mp_get (list, "a")));
    assert_true (mp_is_none (mp_at (list, 2)));
    assert_int_equal (mp_int (mp_at (list, 1)), 2);
    assert_int_equal (mp_text (list).size, 0);
    assert_true (mp_empty (nil) && mp_empty (mp_none) && !mp_empty (text));
    assert_int_equal (mp_type (mp_none), MP_NONE);
    for (mp_iter_t it = mp_iter (text); mp_next (&it);)
        fail ();
}

static void
maps_and_lists_are_walked (void **state)
{
    (void) state;
    buf_t buf = { 0 }, copy = { 0 };
    mp_put_map (&buf, 4);
    mp_put_int (&buf, 7), mp_put_array (&buf, 1), mp_put_map (&buf, 0);
    mp_pair_text (&buf, "a", TEXT ("first"));
    mp_pair_bool (&buf, "a", true);
    mp_put_str (&buf, "ext"), mp_put_ext (&buf, -3, "xyz", 3);
    mp_t map = one (&buf);
    assert_int_equal (mp_count (map), 4);
    assert_true (text_is (mp_text (mp_get (map, "a")), "first"));
    int8_t type;
    assert_true (text_is (mp_ext (mp_get (map, "ext"), &type), "xyz") && type == -3);
    size_t entries = 0;
    for (mp_iter_t it = mp_iter (map); mp_next (&it); entries++)
        assert_int_equal (mp_type (it.key), entries ? MP_TEXT : MP_INT);
    assert_int_equal (entries, 4);
    mp_put (&copy, map);
    assert_true (text_eq (buf_text (&copy), buf_text (&buf)));
    mp_put (&copy, mp_none);
    assert_int_equal (copy.data [copy.size - 1], 0xc0);
    buf_free (&buf);
    buf_free (&copy);
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (scan_takes_whole_values_only),
        cmocka_unit_test (every_first_byte_is_cut_safely),
        cmocka_unit_test (announced_sizes_cost_nothing),
        cmocka_unit_test (depth_is_bounded),
        cmocka_unit_test (text_and_json_are_utf8),
        cmocka_unit_test (integers_are_exact),
        cmocka_unit_test (reals_are_exact),
        cmocka_unit_test (readers_answer_empty_for_other_types),
        cmocka_unit_test (maps_and_lists_are_walked),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
