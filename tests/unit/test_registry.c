//  test_registry.c -- announcements, conflicts, claims, directory and topics of the broker.

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "broker/conflicts.c"
#include "broker/registry.c"
#include "broker/topics.c"

//  One route per call: verb NULL makes a bus method.
static void
route_put (buf_t *buf, const char *method, const char *verb, const char *path, const char *alias)
{
    mp_put_map (buf, (verb ? 3 : 1) + (alias ? 1 : 0));
    mp_pair_str (buf, "method", method);
    if (verb) {
        mp_pair_str (buf, "verb", verb);
        mp_pair_str (buf, "path", path);
    }
    if (alias) {
        mp_put_str (buf, "alias");
        mp_put_array (buf, 1);
        mp_put_str (buf, alias);
    }
}

typedef struct {
    buf_t routes, channels, claims;
    wire_hello_t hello;
} hello_t;

static void
hello_begin (hello_t *self, const char *name, const char *slot, const char *boot)
{
    *self = (hello_t) { .hello = { .version = 1, .role = TEXT ("actor"), .name = text_of (name),
                                   .slot = text_of (slot), .boot = text_of (boot),
                                   .endpoint = TEXT ("ipc:///x"), .pid = 7 } };
}

static entry_t *
hello_say (hello_t *self, registry_t *registry, bool outside, char *const *prefixes, refusal_t *why)
{
    self->hello.routes = self->routes.size ? mp_buf (&self->routes) : mp_none;
    self->hello.channels = self->channels.size ? mp_buf (&self->channels) : mp_none;
    self->hello.claims = self->claims.size ? mp_buf (&self->claims) : mp_none;
    entry_t *entry = registry_announce (registry, &self->hello, outside, prefixes, self, why);
    buf_free (&self->routes);
    buf_free (&self->channels);
    buf_free (&self->claims);
    return entry;
}

//  An actor with one route.
static entry_t *
announce (registry_t *registry, const char *name, const char *slot, const char *boot,
          const char *method, const char *verb, const char *path, refusal_t *why)
{
    hello_t hello;
    hello_begin (&hello, name, slot, boot);
    mp_put_array (&hello.routes, 1);
    route_put (&hello.routes, method, verb, path, NULL);
    return hello_say (&hello, registry, false, NULL, why);
}

static void
test_a_path_has_a_shape (void **state)
{
    (void) state;
    static const char *const s_rows [] [2] = {
        { "GET /a/:x", "GET /a/:" }, { "GET /a/:x/b/:y", "GET /a/:/b/:" }, { "GET /", "GET /" },
        { "GET /a/", "GET /a" }, { "GET /f/*rest", "GET /f/*" }, { "GET /a/b:c", "GET /a/b:c" } };
    char out [64];
    for (size_t n = 0; n < sizeof s_rows / sizeof s_rows [0]; n++) {
        assert_true (shape_of (text_of (s_rows [n] [0]), out, sizeof out));
        assert_string_equal (out, s_rows [n] [1]);
    }
    assert_false (shape_of (TEXT ("GET /too/long"), out, 8));
}

static void
test_conflicts_name_both_rows (void **state)
{
    (void) state;
    registry_t *registry = registry_new ();
    refusal_t why;
    assert_non_null (announce (registry, "clusters", "clusters.1", "b1", "clusters.start", "POST",
                               "/x/:id", &why));
    assert_null (announce (registry, "other", "other.1", "b2", "other.start", "POST", "/x/:name",
                           &why));
    assert_string_equal (why.code, "CONFLICT");
    assert_non_null (strstr (why.text, "`POST /x/:id clusters.start (clusters.1)`"));
    assert_non_null (strstr (why.text, "`POST /x/:name other.start (other.1)`"));

    assert_null (announce (registry, "other", "other.1", "b", "clusters.start", "GET", "/y", &why));
    assert_non_null (strstr (why.text, "method conflict"));
    assert_null (announce (registry, "other", "clusters.1", "b", "other.start", "GET", "/y", &why));
    assert_non_null (strstr (why.text, "slot conflict"));
    //  A literal beside a parameter is no conflict, another verb neither.
    assert_non_null (announce (registry, "other", "other.1", "b", "other.a", "POST", "/x/y", &why));
    assert_non_null (announce (registry, "third", "third.1", "b3", "third.a", "GET", "/x/:id",
                               &why));
    assert_int_equal (registry_size (registry), 3);
    registry_destroy (&registry);
}

static void
test_aliases_and_twice_the_same_conflict (void **state)
{
    (void) state;
    registry_t *registry = registry_new ();
    refusal_t why;
    hello_t hello;
    hello_begin (&hello, "a", "a.1", "b");
    mp_put_array (&hello.routes, 1);
    route_put (&hello.routes, "a.one", "GET", "/one", "POST /two/:x");
    assert_non_null (hello_say (&hello, registry, false, NULL, &why));
    assert_null (announce (registry, "c", "c.1", "b", "c.two", "POST", "/two/:y", &why));
    assert_non_null (strstr (why.text, "POST /two/:x a.one (a.1)"));

    hello_begin (&hello, "d", "d.1", "b");
    mp_put_array (&hello.routes, 2);
    route_put (&hello.routes, "d.one", "GET", "/d/:x", NULL);
    route_put (&hello.routes, "d.two", "GET", "/d/:y", NULL);
    assert_null (hello_say (&hello, registry, false, NULL, &why));
    assert_non_null (strstr (why.text, "GET /d/:x d.one (d.1)"));
    assert_non_null (strstr (why.text, "GET /d/:y d.two (d.1)"));
    registry_destroy (&registry);
}

static void
test_a_collection_has_one_owner (void **state)
{
    (void) state;
    registry_t *registry = registry_new ();
    refusal_t why;
    hello_t hello;
    static const char *const s_names [] = { "a", "a", "b" };
    static const char *const s_slots [] = { "a.1", "a.2", "b.1" };
    for (int n = 0; n < 3; n++) {
        hello_begin (&hello, s_names [n], s_slots [n], "b");
        mp_put_array (&hello.channels, 1);
        mp_put_map (&hello.channels, 2);
        mp_pair_str (&hello.channels, "name", "rows");
        mp_pair_str (&hello.channels, "kind", "log");
        entry_t *entry = hello_say (&hello, registry, false, NULL, &why);
        assert_true ((entry != NULL) == (n < 2));
        if (entry) {
            assert_true (registry_owns_channel (entry, TEXT ("user:1/rows")));
            assert_true (registry_owns_channel (entry, TEXT ("user:1/rows/7")));
            assert_false (registry_owns_channel (entry, TEXT ("user:1/rowsx")));
            assert_false (registry_owns_channel (entry, TEXT ("rows")));
        }
    }
    assert_non_null (strstr (why.text, "channel rows (a."));
    assert_non_null (strstr (why.text, "channel rows (b.1)"));
    registry_destroy (&registry);
}

static void
test_outside_actors_keep_to_their_prefixes (void **state)
{
    (void) state;
    static const struct { const char *method, *path; bool good; } s_rows [] = {
        { "hello.a", "/hello", true },      { "hello.a", "/hello/:name", true },
        { "hello.a", "/helloo", false },    { "hello.a", "/auth/login", false },
        { "auth.login", "/hello/x", false } };
    char *prefixes [] = { "/hello", NULL };
    for (size_t n = 0; n < sizeof s_rows / sizeof s_rows [0]; n++) {
        registry_t *registry = registry_new ();
        refusal_t why;
        hello_t hello;
        hello_begin (&hello, "hello", "hello.1", "b");
        mp_put_array (&hello.routes, 1);
        route_put (&hello.routes, s_rows [n].method, "GET", s_rows [n].path, NULL);
        entry_t *entry = hello_say (&hello, registry, true, prefixes, &why);
        assert_true ((entry != NULL) == s_rows [n].good);
        if (entry)
            assert_string_equal (entry->endpoint, "");
        else
            assert_string_equal (why.code, "FORBIDDEN");
        registry_destroy (&registry);
    }
}

//  The delta as states by "slot boot", for comparison.
static void
delta_print (registry_t *registry, bool door, char *out, size_t size)
{
    buf_t frame = { 0 };
    registry_pack_changes (registry, door, &frame);
    text_t rest = buf_text (&frame);
    mp_t raw;
    wire_directory_t msg;
    assert_int_equal (wire_next (&rest, &raw), WIRE_DIRECTORY);
    assert_true (wire_unpack_directory (raw, &msg));
    out [0] = 0;
    for (mp_iter_t it = mp_iter (msg.entries); mp_next (&it);) {
        text_t slot = mp_text (mp_get (it.value, "slot"));
        text_t boot = mp_text (mp_get (it.value, "boot"));
        text_t what = mp_text (mp_get (it.value, "state"));
        size_t at = strlen (out);
        snprintf (out + at, size - at, "%.*s %.*s %.*s;", (int) slot.size, slot.data,
                  (int) boot.size, boot.data, (int) what.size, what.data);
        if (door)
            assert_int_equal (mp_text (mp_get (it.value, "endpoint")).size, 0);
    }
    buf_free (&frame);
    registry_settle (registry);
}

static void
test_deltas_tell_who_came_and_went (void **state)
{
    (void) state;
    registry_t *registry = registry_new ();
    refusal_t why;
    char delta [256];
    entry_t *entry = announce (registry, "a", "a.1", "one", "a.x", NULL, NULL, &why);
    delta_print (registry, false, delta, sizeof delta);
    assert_string_equal (delta, "a.1 one up;");
    assert_false (registry_changed (registry));

    registry_drain (registry, entry);
    delta_print (registry, true, delta, sizeof delta);
    assert_string_equal (delta, "a.1 one draining;");

    //  A successor in the slot: the old one is gone first.
    announce (registry, "a", "a.1", "two", "a.x", NULL, NULL, &why);
    delta_print (registry, false, delta, sizeof delta);
    assert_string_equal (delta, "a.1 one gone;a.1 two up;");

    //  The same incarnation again did not die.
    entry = announce (registry, "a", "a.1", "two", "a.x", NULL, NULL, &why);
    delta_print (registry, false, delta, sizeof delta);
    assert_string_equal (delta, "a.1 two up;");
    registry_remove (registry, &entry);
    assert_null (entry);
    delta_print (registry, false, delta, sizeof delta);
    assert_string_equal (delta, "a.1 two gone;");
    assert_int_equal (registry_size (registry), 0);
    registry_destroy (&registry);
}

static void
keys_put (buf_t *buf, const char *key)
{
    buf_clear (buf);
    mp_put_array (buf, 1);
    mp_put_str (buf, key);
}

static void
test_claims_decide_then_rendezvous (void **state)
{
    (void) state;
    registry_t *registry = registry_new ();
    refusal_t why;
    entry_t *sisters [3];
    char slot [8];
    for (int n = 0; n < 3; n++) {
        snprintf (slot, sizeof slot, "a.%d", n + 1);
        sisters [n] = announce (registry, "a", slot, "b", "a.x", NULL, NULL, &why);
        sisters [n]->endpoint [0] = 0;
    }
    size_t count;
    mp_t route;
    entry_t **entries = registry_method (registry, TEXT ("a.x"), &count, &route);
    assert_int_equal (count, 3);
    assert_true (text_is (mp_text (mp_get (route, "method")), "a.x"));
    assert_null (registry_method (registry, TEXT ("a.y"), &count, &route));
    entries = registry_method (registry, TEXT ("a.x"), &count, &route);

    entry_t *first = registry_choose (entries, count, TEXT ("user:1"));
    assert_ptr_equal (first, registry_choose (entries, count, TEXT ("user:1")));
    entry_t *other = first == sisters [0] ? sisters [1] : sisters [0];
    buf_t keys = { 0 };
    keys_put (&keys, "user:1");
    registry_claim (registry, other, mp_buf (&keys), false);
    assert_ptr_equal (registry_choose (entries, count, TEXT ("user:1")), other);
    //  Claimed by a sister: the claim moves.
    registry_claim (registry, first, mp_buf (&keys), false);
    assert_ptr_equal (registry_choose (entries, count, TEXT ("user:1")), first);
    assert_int_equal (hash_size (other->claims), 0);
    registry_claim (registry, first, mp_buf (&keys), true);
    assert_int_equal (hash_size (first->claims), 0);
    //  One that comes back says what it had claimed: not what is a sister's by now.
    registry_claim (registry, other, mp_buf (&keys), false);
    registry_keep_claims (registry, first, mp_buf (&keys));
    assert_ptr_equal (registry_choose (entries, count, TEXT ("user:1")), other);
    registry_claim (registry, other, mp_buf (&keys), true);
    registry_keep_claims (registry, first, mp_buf (&keys));
    assert_ptr_equal (registry_choose (entries, count, TEXT ("user:1")), first);
    registry_claim (registry, first, mp_buf (&keys), true);

    registry_claim (registry, first, mp_buf (&keys), false);
    first->draining = true;
    assert_null (registry_choose (entries, count, TEXT ("user:1")));
    first->draining = false;
    registry_claim (registry, first, mp_buf (&keys), true);

    sisters [0]->in_flight = sisters [1]->in_flight = 5;
    assert_ptr_equal (registry_choose (entries, count, TEXT ("")), sisters [2]);
    for (int n = 0; n < 3; n++)
        registry_drain (registry, sisters [n]);
    entries = registry_method (registry, TEXT ("a.x"), &count, &route);
    assert_null (registry_choose (entries, count, TEXT ("user:1")));
    buf_free (&keys);
    registry_destroy (&registry);
}

static void
test_bad_announcements_are_refused (void **state)
{
    (void) state;
    registry_t *registry = registry_new ();
    refusal_t why;
    assert_null (announce (registry, "", "a.1", "b", "a.x", NULL, NULL, &why));
    assert_null (announce (registry, "broker", "a.1", "b", "a.x", NULL, NULL, &why));
    assert_null (announce (registry, "a/b", "a.1", "b", "a.x", NULL, NULL, &why));
    assert_null (announce (registry, "a", "", "b", "a.x", NULL, NULL, &why));
    assert_null (announce (registry, "a", "a.1", "", "a.x", NULL, NULL, &why));
    assert_null (announce (registry, "a", "a.1", "b", "nodot", NULL, NULL, &why));
    assert_string_equal (why.code, "INVALID");
    assert_null (announce (registry, "a", "a.1", "b", "a.x", "GET", "no-slash", &why));
    hello_t hello;
    hello_begin (&hello, "a", "a.1", "b");
    mp_put_int (&hello.channels, 5);
    assert_null (hello_say (&hello, registry, false, NULL, &why));
    assert_string_equal (why.text, "channels of a.1 is not an array");
    assert_int_equal (registry_size (registry), 0);
    registry_destroy (&registry);
}

static void
test_the_door_hides_what_is_ours (void **state)
{
    (void) state;
    registry_t *registry = registry_new ();
    refusal_t why;
    hello_t hello;
    hello_begin (&hello, "a", "a.1", "b");
    mp_put_array (&hello.routes, 2);
    route_put (&hello.routes, "a.open", "GET", "/a", NULL);
    mp_put_map (&hello.routes, 2);
    mp_pair_str (&hello.routes, "method", "a.secret");
    mp_pair_str (&hello.routes, "auth", "operator");
    keys_put (&hello.claims, "user:1");
    assert_non_null (hello_say (&hello, registry, false, NULL, &why));
    for (int door = 0; door < 2; door++) {
        buf_t frame = { 0 };
        registry_pack_whole (registry, door, &frame);
        text_t rest = buf_text (&frame);
        mp_t raw;
        wire_directory_t msg;
        assert_int_equal (wire_next (&rest, &raw), WIRE_DIRECTORY);
        assert_true (wire_unpack_directory (raw, &msg) && msg.whole);
        mp_t entry = mp_at (msg.entries, 0);
        assert_int_equal (mp_count (mp_get (entry, "routes")), door ? 1 : 2);
        assert_int_equal (mp_is_none (mp_get (entry, "claims")), door);
        assert_int_equal (mp_is_none (mp_get (entry, "pid")), door);
        assert_int_equal (mp_count (msg.entries), door ? 1 : 2);
        buf_free (&frame);
    }
    registry_destroy (&registry);
}

static void
test_topics_know_who_listens (void **state)
{
    (void) state;
    topics_t *topics = topics_new ();
    sub_t subs [10];
    for (int n = 0; n < 10; n++)
        topics_add (topics, n % 2 ? TEXT ("odd") : TEXT ("even"), &subs [n]);
    assert_int_equal (topics_size (topics), 2);
    assert_int_equal (topics_find (topics, TEXT ("odd"))->count, 5);
    for (int n = 1; n < 10; n += 2)
        topics_remove (topics, &subs [n]);
    assert_null (topics_find (topics, TEXT ("odd")));
    for (int n = 8; n >= 0; n -= 2) {
        topic_t *topic = topics_find (topics, TEXT ("even"));
        assert_ptr_equal (topic->subs [subs [n].place], &subs [n]);
        topics_remove (topics, &subs [n]);
    }
    assert_int_equal (topics_size (topics), 0);
    topics_destroy (&topics);
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (test_a_path_has_a_shape),
        cmocka_unit_test (test_conflicts_name_both_rows),
        cmocka_unit_test (test_aliases_and_twice_the_same_conflict),
        cmocka_unit_test (test_a_collection_has_one_owner),
        cmocka_unit_test (test_outside_actors_keep_to_their_prefixes),
        cmocka_unit_test (test_deltas_tell_who_came_and_went),
        cmocka_unit_test (test_claims_decide_then_rendezvous),
        cmocka_unit_test (test_bad_announcements_are_refused),
        cmocka_unit_test (test_the_door_hides_what_is_ours),
        cmocka_unit_test (test_topics_know_who_listens),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
