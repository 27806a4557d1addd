//  test_keyfile.c -- key files: what is written reads back, what is broken is refused by line.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/keyfile.h"

static char s_dir [] = "/tmp/bbkeysXXXXXX";
static char s_error [512];

static const char *
path_of (const char *file)
{
    static char s_path [128];
    snprintf (s_path, sizeof s_path, "%s/%s", s_dir, file);
    return s_path;
}

static keyfile_t *
read_text (const char *text)
{
    FILE *file = fopen (path_of ("some.pub"), "w");
    fputs (text, file);
    fclose (file);
    s_error [0] = 0;
    return keyfile_read (path_of ("some.pub"), s_error, sizeof s_error);
}

static mode_t
mode_of (const char *file)
{
    struct stat about;
    assert_int_equal (stat (path_of (file), &about), 0);
    return about.st_mode & 0777;
}

static void
test_the_servers_pair_is_made_once (void **state)
{
    (void) state;
    keyfile_t *first = keyfile_server (s_dir, s_error, sizeof s_error);
    keyfile_t *again = keyfile_server (s_dir, s_error, sizeof s_error);
    assert_non_null (first);
    assert_string_equal (first->public, again->public);
    assert_string_equal (first->secret, again->secret);
    assert_int_equal (first->role, KEY_SERVER);
    assert_int_equal (mode_of ("broker.key"), 0600);
    keyfile_free (&first);
    keyfile_free (&again);
}

static void
test_a_pair_reads_back (void **state)
{
    (void) state;
    const char *prefixes [] = { "/hello", "/hi", NULL };
    assert_true (keyfile_make (s_dir, "hello", "actor:hello", prefixes, s_error, sizeof s_error));
    assert_int_equal (mode_of ("hello.key"), 0600);
    keyfile_t *server = keyfile_server (s_dir, s_error, sizeof s_error);
    keyfile_t *holder = keyfile_read (path_of ("hello.key"), s_error, sizeof s_error);
    keyfile_t *ours = keyfile_read (path_of ("hello.pub"), s_error, sizeof s_error);
    assert_non_null (holder);
    assert_non_null (ours);
    assert_string_equal (holder->server, server->public);
    assert_string_equal (holder->public, ours->public);
    assert_int_equal (strlen (holder->secret), 40);
    assert_string_equal (ours->secret, "");
    assert_string_equal (ours->name, "hello");
    assert_int_equal (ours->role, KEY_ACTOR);
    assert_string_equal (ours->actor, "hello");
    assert_string_equal (ours->prefixes [0], "/hello");
    assert_string_equal (ours->prefixes [1], "/hi");
    assert_null (ours->prefixes [2]);
    keyfile_free (&server);
    keyfile_free (&holder);
    keyfile_free (&ours);
}

static void
test_names_are_taken_once_and_checked (void **state)
{
    (void) state;
    assert_true (keyfile_make (s_dir, "web", "client", NULL, s_error, sizeof s_error));
    assert_false (keyfile_make (s_dir, "web", "client", NULL, s_error, sizeof s_error));
    assert_non_null (strstr (s_error, "web.key"));
    static const char *const s_names [] = { "", "../x", "a b", "broker", "a.b" };
    for (size_t n = 0; n < sizeof s_names / sizeof s_names [0]; n++)
        assert_false (keyfile_make (s_dir, s_names [n], "client", NULL, s_error, sizeof s_error));
    static const char *const s_roles [] = { "", "server", "actor:", "actor:a/b", "root" };
    for (size_t n = 0; n < sizeof s_roles / sizeof s_roles [0]; n++)
        assert_false (keyfile_make (s_dir, "new", s_roles [n], NULL, s_error, sizeof s_error));
    const char *prefixes [] = { "no-slash", NULL };
    assert_false (keyfile_make (s_dir, "new", "actor:a", prefixes, s_error, sizeof s_error));
    assert_int_not_equal (access (path_of ("new.key"), F_OK), 0);
}

static void
test_broken_files_are_refused_with_their_line (void **state)
{
    (void) state;
    static const char *const s_texts [] [2] = {
        { "", "public key is missing" },
        { "# only\n\nrole = client\n", "public key is missing" },
        { "role = client\npublic = short\n", "line 2" },
        { "role = emperor\n", "line 1" },
        { "nonsense\n", "line 1" },
        { "prefix = x\n", "line 1" } };
    for (size_t n = 0; n < sizeof s_texts / sizeof s_texts [0]; n++) {
        assert_null (read_text (s_texts [n] [0]));
        assert_non_null (strstr (s_error, s_texts [n] [1]));
        assert_non_null (strstr (s_error, "some.pub"));
    }
    assert_null (keyfile_read (path_of ("absent.pub"), s_error, sizeof s_error));
    //  Spaces, comments, unknown names and a missing last newline are fine.
    keyfile_t *good = read_text ("  # x\r\n\n new-name = 1\nrole=edge\n"
                                 "public = Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID");
    assert_non_null (good);
    assert_int_equal (good->role, KEY_EDGE);
    keyfile_free (&good);
}

static int
s_begin (void **state)
{
    (void) state;
    return mkdtemp (s_dir) ? 0 : -1;
}

static int
s_end (void **state)
{
    (void) state;
    static const char *const s_files [] = { "broker.key", "hello.key", "hello.pub", "web.key",
                                            "web.pub",    "some.pub" };
    for (size_t n = 0; n < sizeof s_files / sizeof s_files [0]; n++)
        unlink (path_of (s_files [n]));
    return rmdir (s_dir);
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (test_the_servers_pair_is_made_once),
        cmocka_unit_test (test_a_pair_reads_back),
        cmocka_unit_test (test_names_are_taken_once_and_checked),
        cmocka_unit_test (test_broken_files_are_refused_with_their_line),
    };
    return cmocka_run_group_tests (tests, s_begin, s_end);
}
