//  vault.c -- secrets are made once and then only read.

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/token.h"
#include "vault.h"

#define SECRET_SIZE 43           //  characters of 6 bits each: 258 bits

void
vault_forget (char **secret_p)
{
    if (*secret_p)
        explicit_bzero (*secret_p, strlen (*secret_p));
    free (*secret_p);
    *secret_p = NULL;
}

static char *
s_path (const place_t *place, const char *name)
{
    return text_format ("%s/%s", place->secrets, name);
}

bool
vault_has (const place_t *place, const char *name)
{
    char *path = s_path (place, name);
    bool has = access (path, F_OK) == 0;
    free (path);
    return has;
}

//  What is there, without its newline. Others being able to read it is not a thing to go on with.
static char *
s_read (const char *path)
{
    struct stat info;
    if (stat (path, &info) == 0 && (info.st_mode & 077)) {
        complain (0, "%s: others may read it (mode %03o): set it to 0600", path,
                  info.st_mode & 0777);
        return NULL;
    }
    char *secret = file_read (path, NULL);
    if (!secret) {
        complain (0, "%s: %s", path, strerror (errno));
        return NULL;
    }
    secret [strcspn (secret, "\r\n")] = 0;
    if (*secret)
        return secret;
    free (secret);
    complain (0, "%s: is empty", path);
    return NULL;
}

static char *
s_get (const place_t *place, const char *name, bool key)
{
    char *path = s_path (place, name), *secret = NULL;
    if (access (path, F_OK) != 0 && errno == ENOENT) {
        buf_t made = { 0 };
        if (key) {
            uint8_t bytes [32];
            random_bytes (bytes, sizeof bytes);
            base64_put (&made, (text_t) { (char *) bytes, sizeof bytes }, false);
            explicit_bzero (bytes, sizeof bytes);
        }
        else
            random_text ((char *)buf_room (&made, SECRET_SIZE + 1), SECRET_SIZE),
                made.size = SECRET_SIZE;
        buf_putc (&made, '\n');
        if (!file_write (path, buf_text (&made), 0600, true))
            complain (0, "%s: %s", path, strerror (errno));
        explicit_bzero (made.data, made.size);
        buf_free (&made);
    }
    secret = s_read (path);
    free (path);
    return secret;
}

char *
vault_get (const place_t *place, const char *name)
{
    return s_get (place, name, false);
}

char *
vault_get_key (const place_t *place, const char *name)
{
    return s_get (place, name, true);
}

bool
vault_put_keys (const place_t *place, const char *actor, buf_t *lines)
{
    char name [32];
    for (int version = 1; ; version++) {
        snprintf (name, sizeof name, "secret_key_%d", version);
        if (version > 1 && !vault_has (place, name))
            return true;
        char *key = vault_get_key (place, name);
        if (!key)
            return false;
        uint8_t own [32];
        hmac_sha256 (text_of (key), text_of (actor), own);
        vault_forget (&key);
        buf_putf (lines, "%s=", name);
        base64_put (lines, (text_t) { (char *) own, sizeof own }, false);
        buf_putc (lines, '\n');
        explicit_bzero (own, sizeof own);
    }
}
