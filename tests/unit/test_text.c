//  test_text.c -- slices, UTF-8, buffers.

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proto/text.h"

static void
hash_never_changes (void **state)
{
    (void) state;
    //  Python's side of the bus computes the same numbers.
    assert_true (text_hash (TEXT ("")) == 0xefd01f60ba992926u);
    assert_true (text_hash (TEXT ("a")) == 0x82a2a958a9bece5bu);
    assert_true (text_hash (TEXT ("user:42")) == 0x998817bee6718248u);
}

static void
utf8_is_exact (void **state)
{
    (void) state;
    static const struct { text_t text; bool good; } cases [] = {
        { { NULL, 0 }, true }, { { "\0", 1 }, true },
        { { "plain ascii of more than eight bytes", 36 }, true },
        { { "\xc3\xa9", 2 }, true }, { { "\xe2\x82\xac", 3 }, true },
        { { "\xf0\x9f\x98\x80", 4 }, true }, { { "\xf4\x8f\xbf\xbf", 4 }, true },
        { { "\xef\xbf\xbf", 3 }, true }, { { "\xed\x9f\xbf", 3 }, true },
        { { "\xc3", 1 }, false }, { { "\xe2\x82", 2 }, false }, { { "\xf0\x9f\x98", 3 }, false },
        { { "\x80", 1 }, false }, { { "\xc0\x80", 2 }, false }, { { "\xc1\xbf", 2 }, false },
        { { "\xe0\x9f\xbf", 3 }, false }, { { "\xf0\x8f\xbf\xbf", 4 }, false },
        { { "\xed\xa0\x80", 3 }, false }, { { "\xed\xbf\xbf", 3 }, false },
        { { "\xf4\x90\x80\x80", 4 }, false }, { { "\xf5\x80\x80\x80", 4 }, false },
        { { "\xff", 1 }, false }, { { "\xc3(", 2 }, false }, { { "\xe2(\xa1", 3 }, false } };
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++)
        for (size_t shift = 0; shift < 20; shift++) {
            //  The same at every place relative to the eight-byte steps, with and without a tail.
            buf_t buf = { 0 };
            for (size_t fill = 0; fill < shift; fill++)
                buf_putc (&buf, 'x');
            buf_put (&buf, cases [n].text.data, cases [n].text.size);
            assert_true (text_utf8 (buf_text (&buf)) == cases [n].good);
            buf_puts (&buf, "tail of ascii");
            assert_true (text_utf8 (buf_text (&buf)) == cases [n].good);
            buf_free (&buf);
        }
}

static void
slices_compare (void **state)
{
    (void) state;
    assert_true (text_eq ((text_t) { NULL, 0 }, TEXT ("")));
    assert_true (text_is (TEXT ("abc"), "abc"));
    assert_false (text_is (TEXT ("abc"), "ab"));
    assert_false (text_eq (TEXT ("abc"), TEXT ("abd")));
    assert_true (text_starts (TEXT ("abc"), "ab"));
    assert_true (text_starts (TEXT ("abc"), ""));
    assert_false (text_starts (TEXT ("ab"), "abc"));
}

static void
buffer_grows_and_forgets (void **state)
{
    (void) state;
    buf_t buf = { 0 };
    for (int n = 0; n < 1000; n++)
        buf_putf (&buf, "%d,", n);
    assert_int_equal (buf.size, 10 * 2 + 90 * 3 + 900 * 4);
    assert_memory_equal (buf.data, "0,1,2,3,", 8);
    buf_clear (&buf);
    assert_int_equal (buf.size, 0);
    assert_true (buf.room >= 64);
    buf_putf (&buf, "%*d", 300000, 7);
    assert_int_equal (buf.size, 300000);
    assert_int_equal (buf.data [299999], '7');
    buf_clear (&buf);
    assert_int_equal (buf.room, 0);
    buf_put (&buf, NULL, 0);
    assert_int_equal (buf.size, 0);
    buf_free (&buf);
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (hash_never_changes),
        cmocka_unit_test (utf8_is_exact),
        cmocka_unit_test (slices_compare),
        cmocka_unit_test (buffer_grows_and_forgets),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
