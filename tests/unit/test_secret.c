//  test_secret.c -- sealing of secrets.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "actors/kit/secret.h"
#include "proto/token.h"

static void
s_key (int version, char fill)
{
    char bytes [32], name [32];
    buf_t text = { 0 };
    memset (bytes, fill, sizeof bytes);
    base64_put (&text, (text_t) { bytes, sizeof bytes }, false);
    buf_putc (&text, 0);
    snprintf (name, sizeof name, "SECRET_KEY_%d", version);
    setenv (name, (const char *) text.data, 1);
    buf_free (&text);
}

static bool
s_opens (text_t sealed, const char *context, const char *expected)
{
    buf_t plain = { 0 };
    bool good = secret_open (NULL, sealed, context, &plain);
    if (good && expected)
        assert_true (text_is (buf_text (&plain), expected));
    else if (!good)
        assert_int_equal (plain.size, 0);
    buf_free (&plain);
    return good;
}

static int
s_one_key (void **state)
{
    (void) state;
    unsetenv ("SECRET_KEY_2");
    s_key (1, 'a');
    return 0;
}

static void
test_what_was_sealed_opens_for_its_context_only (void **state)
{
    (void) state;
    buf_t sealed = { 0 }, again = { 0 }, empty = { 0 };
    secret_seal (NULL, TEXT ("s3cret"), "u/t/r/c", &sealed);
    secret_seal (NULL, TEXT ("s3cret"), "u/t/r/c", &again);
    secret_seal (NULL, TEXT (""), "u/t/r/c", &empty);
    assert_true (text_starts (buf_text (&sealed), "v1.1."));
    assert_false (text_eq (buf_text (&sealed), buf_text (&again)));
    assert_true (s_opens (buf_text (&sealed), "u/t/r/c", "s3cret"));
    assert_true (s_opens (buf_text (&empty), "u/t/r/c", ""));
    assert_false (s_opens (buf_text (&sealed), "u/t/r/d", NULL));
    buf_free (&sealed);
    buf_free (&again);
    buf_free (&empty);
}

static void
test_any_changed_or_missing_character_is_noticed (void **state)
{
    (void) state;
    buf_t sealed = { 0 };
    secret_seal (NULL, TEXT ("s3cret"), "c", &sealed);
    for (size_t n = 0; n < sealed.size; n++) {
        uint8_t was = sealed.data [n];
        sealed.data [n] = was == 'A' ? 'B' : 'A';
        //  The last character holds bits that belong to no byte: a reader may refuse or ignore
        //  them.
        if (n + 1 < sealed.size)
            assert_false (s_opens (buf_text (&sealed), "c", NULL));
        sealed.data [n] = was;
        assert_false (s_opens ((text_t) { (char *) sealed.data, n }, "c", NULL));
    }
    assert_false (s_opens (TEXT ("v1.99.AAAA"), "c", NULL));
    assert_false (s_opens (TEXT ("plain text"), "c", NULL));
    buf_free (&sealed);
}

static void
test_older_keys_open_and_are_stale (void **state)
{
    (void) state;
    buf_t old = { 0 }, new = { 0 };
    secret_seal (NULL, TEXT ("x"), "c", &old);
    assert_false (secret_stale (NULL, buf_text (&old)));
    s_key (2, 'b');
    secret_seal (NULL, TEXT ("x"), "c", &new);
    assert_true (text_starts (buf_text (&new), "v1.2."));
    assert_true (s_opens (buf_text (&old), "c", "x"));
    assert_true (secret_stale (NULL, buf_text (&old)));
    assert_false (secret_stale (NULL, buf_text (&new)));
    unsetenv ("SECRET_KEY_1");
    assert_false (s_opens (buf_text (&old), "c", NULL));
    buf_free (&old);
    buf_free (&new);
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test_setup (test_what_was_sealed_opens_for_its_context_only, s_one_key),
        cmocka_unit_test_setup (test_any_changed_or_missing_character_is_noticed, s_one_key),
        cmocka_unit_test_setup (test_older_keys_open_and_are_stale, s_one_key) };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
