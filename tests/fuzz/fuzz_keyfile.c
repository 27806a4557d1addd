//  fuzz_keyfile.c -- a key file is refused with a reason, or holds whole keys and clean words.

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/keyfile.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static void
key_is_whole (const char key [KEY_TEXT], bool needed)
{
    size_t size = strlen (key);
    assert (size == KEY_TEXT - 1 || (size == 0 && !needed));
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    static int s_fd = -1;
    if (s_fd < 0)
        s_fd = memfd_create ("key", MFD_CLOEXEC);
    char path [64], error [400] = "";
    snprintf (path, sizeof path, "/proc/self/fd/%d", s_fd);
    assert (ftruncate (s_fd, 0) == 0 && pwrite (s_fd, data, size, 0) == (ssize_t) size);
    keyfile_t *key = keyfile_read (path, error, sizeof error);
    if (!key) {
        assert (*error);
        return 0;
    }
    key_is_whole (key->public, true);
    key_is_whole (key->secret, false);
    key_is_whole (key->server, false);
    assert (key->role != KEY_ACTOR || *key->actor);
    for (size_t i = 0; key->prefixes [i]; i++)
        assert (i < KEY_PREFIXES && key->prefixes [i] [0] == '/');
    //  What follows a NUL would be read by nobody: a prefix "/" would be what is left of another.
    assert (!memchr (data, 0, size));
    keyfile_free (&key);
    assert (!key);
    return 0;
}
