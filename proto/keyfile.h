//  keyfile.h -- who may come to the door: CURVE keys in small files of `name = value` lines.
//
//      NAME.key   (0600) what the holder gets: its public and secret key, the server's public key
//      NAME.pub   what the broker reads: the public key and what its holder may be
//
//      role = client                    must show a token, or calls what needs none
//      role = actor:hello               may serve as actor hello …
//      prefix = /hello                  … under these paths (one per line)
//      role = edge                      asserts who calls; for our own edges on other hosts
//
//  Keys are Z85, 40 characters.

#ifndef KEYFILE_H
#define KEYFILE_H

#include <time.h>

#include "proto/text.h"

#define KEY_TEXT 41              //  a key and its NUL
#define KEY_PREFIXES 16

typedef enum { KEY_CLIENT, KEY_ACTOR, KEY_EDGE, KEY_SERVER } key_role_t;

typedef struct {
    char name [64];              //  of the file, without its ending
    char public [KEY_TEXT], secret [KEY_TEXT];     //  secret is empty in .pub
    char server [KEY_TEXT];      //  .key: whom to expect at the other end; may be empty
    key_role_t role;
    char actor [64];             //  KEY_ACTOR: its name
    char *prefixes [KEY_PREFIXES + 1];   //  NULL-terminated, owned
    struct timespec changed;     //  of the file, when it was read
} keyfile_t;

//  Read one file, .key or .pub. NULL with a text that names file and line.
keyfile_t *keyfile_read (const char *path, char *error, size_t size);
void keyfile_free (keyfile_t **self_p);

//  Make a pair and write NAME.key and NAME.pub into `dir` (made with 0700 when absent). `role` is
//  "client", "actor:NAME" or "edge". False: the name is taken or bad, or a file cannot be written.
bool keyfile_make (const char *dir, const char *name, const char *role,
                   const char *const *prefixes, char *error, size_t size);

//  The server's own pair, `dir`/broker.key, made when it is not there.
keyfile_t *keyfile_server (const char *dir, char *error, size_t size);

#endif
