//  test_hash.c -- the table against a plain model of it.

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proto/hash.h"

#define KEYS 500

static unsigned s_freed;

static void
count_free (void *item)
{
    (void) item;
    s_freed++;
}

static text_t
key_of (unsigned n, char room [16])
{
    snprintf (room, 16, "key-%u", n);
    return text_of (room);
}

static void
follows_a_model (void **state)
{
    (void) state;
    static char model [KEYS];          //  0: absent, else the item's offset in `things`
    static char things [128];
    hash_t *hash = hash_new (NULL);
    size_t live = 0;
    uint32_t random = 12345;
    for (int step = 0; step < 200000; step++) {
        random = random * 1664525 + 1013904223;
        unsigned n = (random >> 8) % KEYS;
        char room [16], item = (char) (1 + (random >> 20) % 100);
        text_t key = key_of (n, room);
        //  Phases of filling and of emptying, so that many deleted slots are met.
        bool fill = (step / 5000) % 2 == 0;
        if ((random >> 28) < (fill ? 11 : 5)) {
            hash_put (hash, key, &things [(int) item]);
            live += !model [n];
            model [n] = item;
        }
        else {
            assert_int_equal (hash_del (hash, key), model [n] != 0);
            live -= model [n] != 0;
            model [n] = 0;
        }
        assert_int_equal (hash_size (hash), live);
        unsigned other = (random >> 4) % KEYS;
        assert_ptr_equal (hash_get (hash, key_of (other, room)),
                          model [other] ? &things [(int) model [other]] : NULL);
    }
    hash_destroy (&hash);
    assert_null (hash);
}

static void
walk_may_delete (void **state)
{
    (void) state;
    hash_t *hash = hash_new (NULL);
    static char seen [KEYS];
    char room [16];
    for (unsigned n = 0; n < KEYS; n++)
        hash_put (hash, key_of (n, room), &seen [n]);
    text_t key;
    void *item;
    size_t visits = 0;
    for (size_t at = 0; hash_each (hash, &at, &key, &item); visits++) {
        assert_int_equal (*(char *) item, 0);
        *(char *) item = 1;
        if ((char *) item - seen < KEYS / 2)
            assert_true (hash_del (hash, key));
    }
    assert_int_equal (visits, KEYS);
    assert_int_equal (hash_size (hash), KEYS / 2);
    for (unsigned n = 0; n < KEYS; n++)
        assert_int_equal (hash_get (hash, key_of (n, room)) != NULL, n >= KEYS / 2);
    hash_destroy (&hash);
}

static void
items_are_freed_once (void **state)
{
    (void) state;
    int a, b;
    s_freed = 0;
    hash_t *hash = hash_new (count_free);
    hash_put (hash, TEXT ("x"), &a);
    hash_put (hash, TEXT ("x"), &a);
    assert_int_equal (s_freed, 0);
    hash_put (hash, TEXT ("x"), &b);
    assert_int_equal (s_freed, 1);
    assert_ptr_equal (hash_take (hash, TEXT ("x")), &b);
    assert_int_equal (s_freed, 1);
    assert_null (hash_take (hash, TEXT ("x")));
    hash_put (hash, TEXT ("y"), &b);
    assert_true (hash_del (hash, TEXT ("y")));
    assert_int_equal (s_freed, 2);
    hash_put (hash, TEXT ("z"), &b);
    hash_destroy (&hash);
    assert_int_equal (s_freed, 3);
}

static void
keys_are_bytes (void **state)
{
    (void) state;
    int a, b, c;
    hash_t *hash = hash_new (NULL);
    hash_put (hash, (text_t) { "k\0a", 3 }, &a);
    hash_put (hash, (text_t) { "k\0b", 3 }, &b);
    hash_put (hash, (text_t) { NULL, 0 }, &c);
    assert_ptr_equal (hash_get (hash, (text_t) { "k\0a", 3 }), &a);
    assert_ptr_equal (hash_get (hash, (text_t) { "k\0b", 3 }), &b);
    assert_ptr_equal (hash_get (hash, TEXT ("")), &c);
    assert_null (hash_get (hash, TEXT ("k")));
    hash_destroy (&hash);
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (follows_a_model),
        cmocka_unit_test (walk_may_delete),
        cmocka_unit_test (items_are_freed_once),
        cmocka_unit_test (keys_are_bytes),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
