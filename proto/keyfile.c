//  keyfile.c -- read and write the small files that hold CURVE keys.

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "proto/keyfile.h"

#define FILE_MAX 3072

static bool
refuse (char *error, size_t size, const char *path, const char *why)
{
    snprintf (error, size, "%.300s: %s", path, why);
    return false;
}

static text_t
trimmed (text_t text)
{
    while (text.size && (text.data [0] == ' ' || text.data [0] == '\t'))
        text.data++, text.size--;
    while (text.size && strchr (" \t\r", text.data [text.size - 1]))
        text.size--;
    return text;
}

static bool
take_key (char *to, text_t value)
{
    uint8_t binary [32];
    if (value.size != KEY_TEXT - 1)
        return false;
    memcpy (to, value.data, value.size);
    to [value.size] = 0;
    return zmq_z85_decode (binary, to) != NULL;
}

static bool
take_word (char *to, size_t room, text_t value)
{
    if (value.size == 0 || value.size >= room)
        return false;
    for (size_t i = 0; i < value.size; i++) {
        char byte = value.data [i];
        if (!((byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z')
              || (byte >= '0' && byte <= '9') || byte == '-' || byte == '_'))
            return false;
    }
    memcpy (to, value.data, value.size);
    to [value.size] = 0;
    return true;
}

static bool
take_role (keyfile_t *self, text_t value)
{
    if (text_is (value, "client"))
        self->role = KEY_CLIENT;
    else if (text_is (value, "edge"))
        self->role = KEY_EDGE;
    else if (text_is (value, "server"))
        self->role = KEY_SERVER;
    else if (text_starts (value, "actor:")) {
        self->role = KEY_ACTOR;
        return take_word (self->actor, sizeof self->actor,
                          (text_t) { value.data + 6, value.size - 6 });
    }
    else
        return false;
    return true;
}

static bool
take_prefix (keyfile_t *self, text_t value)
{
    size_t count = 0;
    while (self->prefixes [count])
        count++;
    if (count == KEY_PREFIXES || value.size == 0 || value.data [0] != '/')
        return false;
    char *copy = xmalloc (value.size + 1);
    memcpy (copy, value.data, value.size);
    copy [value.size] = 0;
    self->prefixes [count] = copy;
    return true;
}

//  One `name = value`. Names that we do not know are left to later versions.
static bool
take_pair (keyfile_t *self, text_t name, text_t value)
{
    if (text_is (name, "public"))
        return take_key (self->public, value);
    if (text_is (name, "secret"))
        return take_key (self->secret, value);
    if (text_is (name, "server"))
        return take_key (self->server, value);
    if (text_is (name, "role"))
        return take_role (self, value);
    if (text_is (name, "prefix"))
        return take_prefix (self, value);
    return true;
}

static bool
take_lines (keyfile_t *self, text_t rest, const char *path, char *error, size_t size)
{
    for (int number = 1; rest.size > 0; number++) {
        const char *end = memchr (rest.data, '\n', rest.size);
        text_t line = { rest.data, end ? (size_t) (end - rest.data) : rest.size };
        size_t taken = line.size + (end != NULL);
        rest = (text_t) { rest.data + taken, rest.size - taken };
        line = trimmed (line);
        if (line.size == 0 || line.data [0] == '#')
            continue;
        const char *equals = memchr (line.data, '=', line.size);
        size_t before = equals ? (size_t) (equals - line.data) : 0;
        if (!equals
            || !take_pair (self, trimmed ((text_t) { line.data, before }),
                           trimmed ((text_t) { equals + 1, line.size - before - 1 }))) {
            char why [64];
            snprintf (why, sizeof why, "line %d is not understood", number);
            return refuse (error, size, path, why);
        }
    }
    return self->public [0] || refuse (error, size, path, "public key is missing");
}

static bool
take_name (keyfile_t *self, const char *path)
{
    const char *name = strrchr (path, '/');
    name = name ? name + 1 : path;
    const char *dot = strrchr (name, '.');
    return take_word (self->name, sizeof self->name,
                      (text_t) { name, dot ? (size_t) (dot - name) : strlen (name) });
}

keyfile_t *
keyfile_read (const char *path, char *error, size_t size)
{
    char data [FILE_MAX];
    struct stat about;
    int fd = open (path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 || fstat (fd, &about) != 0 ? -1 : read (fd, data, sizeof data);
    int why = errno;
    if (fd >= 0)
        close (fd);
    if (got < 0) {
        refuse (error, size, path, strerror (why));
        return NULL;
    }
    keyfile_t *self = xcalloc (1, sizeof *self);
    self->changed = about.st_mtim;
    if (got == (ssize_t) sizeof data)
        refuse (error, size, path, "is too large for a key file");
    //  Values are used up to a NUL: "/" would be what is left of a longer prefix.
    else if (memchr (data, 0, (size_t) got))
        refuse (error, size, path, "is no text");
    else if (!take_name (self, path))
        refuse (error, size, path, "name is not of letters, digits, - and _");
    else if (take_lines (self, (text_t) { data, (size_t) got }, path, error, size))
        return self;
    keyfile_free (&self);
    return NULL;
}

void
keyfile_free (keyfile_t **self_p)
{
    keyfile_t *self = *self_p;
    if (!self)
        return;
    for (char **prefix = self->prefixes; *prefix; prefix++)
        free (*prefix);
    explicit_bzero (self->secret, sizeof self->secret);
    free (self);
    *self_p = NULL;
}

//  A new file, complete before it has its name. An existing one is not replaced.
static bool
write_new (const char *path, mode_t mode, const buf_t *text, char *error, size_t size)
{
    char part [512];
    snprintf (part, sizeof part, "%.480s.%ld", path, (long) getpid ());
    int fd = open (part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    bool good = fd >= 0 && write (fd, text->data, text->size) == (ssize_t) text->size
                && fsync (fd) == 0;
    if (fd >= 0)
        good = close (fd) == 0 && good;
    good = good && link (part, path) == 0;
    int why = errno;
    unlink (part);
    return good || refuse (error, size, path, strerror (why));
}

static bool
make_dir (const char *dir, char *error, size_t size)
{
    return mkdir (dir, 0700) == 0 || errno == EEXIST
           || refuse (error, size, dir, strerror (errno));
}

keyfile_t *
keyfile_server (const char *dir, char *error, size_t size)
{
    char path [512];
    snprintf (path, sizeof path, "%.490s/broker.key", dir);
    if (!make_dir (dir, error, size))
        return NULL;
    if (access (path, F_OK) != 0) {
        char public [KEY_TEXT], secret [KEY_TEXT];
        if (zmq_curve_keypair (public, secret) != 0) {
            refuse (error, size, path, "this libzmq has no CURVE");
            return NULL;
        }
        buf_t text = { 0 };
        buf_putf (&text, "# the broker's own pair: never leaves this machine\n"
                         "name = broker\nrole = server\npublic = %s\nsecret = %s\n",
                  public, secret);
        bool good = write_new (path, 0600, &text, error, size);
        explicit_bzero (text.data, text.size);
        buf_free (&text);
        //  Somebody may have made it at the same time; then theirs is the one.
        if (!good && access (path, F_OK) != 0)
            return NULL;
    }
    keyfile_t *self = keyfile_read (path, error, size);
    if (self && !self->secret [0]) {
        refuse (error, size, path, "secret key is missing");
        keyfile_free (&self);
    }
    return self;
}

static bool
write_pair (const char *dir, const keyfile_t *key, const char *role, const char *const *prefixes,
            char *error, size_t size)
{
    char holder [512], ours [512];
    snprintf (holder, sizeof holder, "%.400s/%s.key", dir, key->name);
    snprintf (ours, sizeof ours, "%.400s/%s.pub", dir, key->name);
    buf_t text = { 0 };
    buf_putf (&text, "# for the holder only\nname = %s\npublic = %s\nsecret = %s\nserver = %s\n",
              key->name, key->public, key->secret, key->server);
    bool good = write_new (holder, 0600, &text, error, size);
    explicit_bzero (text.data, text.size);
    buf_clear (&text);
    buf_putf (&text, "name = %s\npublic = %s\nrole = %s\n", key->name, key->public, role);
    for (; prefixes && *prefixes; prefixes++)
        buf_putf (&text, "prefix = %s\n", *prefixes);
    if (good && !write_new (ours, 0644, &text, error, size)) {
        unlink (holder);
        good = false;
    }
    buf_free (&text);
    return good;
}

bool
keyfile_make (const char *dir, const char *name, const char *role, const char *const *prefixes,
              char *error, size_t size)
{
    keyfile_t key = { 0 };
    bool good = take_word (key.name, sizeof key.name, text_of (name))
                    ? strcmp (name, "broker") != 0 || refuse (error, size, name, "is the broker's")
                    : refuse (error, size, name, "is not of letters, digits, - and _");
    if (good && (!take_role (&key, text_of (role)) || key.role == KEY_SERVER))
        good = refuse (error, size, role, "is not client, actor:NAME or edge");
    for (const char *const *prefix = prefixes; good && prefix && *prefix; prefix++)
        good = (*prefix) [0] == '/' || refuse (error, size, *prefix, "is no path prefix");
    keyfile_t *server = good ? keyfile_server (dir, error, size) : NULL;
    if (server) {
        memcpy (key.server, server->public, KEY_TEXT);
        good = zmq_curve_keypair (key.public, key.secret) == 0
               && write_pair (dir, &key, role, prefixes, error, size);
    }
    explicit_bzero (key.secret, sizeof key.secret);
    good = good && server;
    keyfile_free (&server);
    return good;
}
