//  mirror.h -- bare copies of git repositories: brought up to date, listed and read through
//  libgit2. Every function here blocks and belongs on a thread, except mirror_init.

#ifndef MIRROR_H
#define MIRROR_H

#include <stdatomic.h>

#include "git_http.h"
#include "proto/mp.h"

#define COMMIT_SIZE 41               //  of its name in hexadecimal, terminated
#define MIRROR_FILES_MAX 10000       //  entries of one directory that are listed

typedef struct {
    const char *url, *branch;        //  branch NULL: the server's default
    const char *path;                //  of the copy
    int64_t bytes_max;               //  of the copy on disk
    git_line_t line;
    char raw [160];                  //  what libgit2 said of a failure, for the log alone
    //  How far it is, for others to look at meanwhile.
    atomic_llong bytes;
    atomic_uint objects, objects_all;
    char commit [COMMIT_SIZE];       //  result: what the branch points to
    char branch_found [256];
    int64_t size;                    //  of the copy, bytes
} mirror_t;

//  On the loop's thread, before anything else of git; only the first call does something. Nothing
//  of the user's or the machine's git settings counts.
void mirror_init (void);

//  Fetch the branch into the copy, which is made if need be. False: see line.error.
bool mirror_sync (mirror_t *self);
//  Only what the branch points to.
bool mirror_resolve (mirror_t *self);

typedef enum { MIRROR_GOOD, MIRROR_ABSENT, MIRROR_NOT_DIRECTORY, MIRROR_NOT_FILE, MIRROR_TOO_LARGE,
               MIRROR_BROKEN } mirror_code_t;

//  Entries of a directory ("" is the root) as an array of {name, path, type: "file" | "directory" |
//  "link" | "module", size, oid}, directories first.
mirror_code_t mirror_list (const char *copy, const char *commit, const char *path, buf_t *out);
//  Contents of a file of at most `max` bytes.
mirror_code_t mirror_read (const char *copy, const char *commit, const char *path, size_t max,
                           buf_t *out);
//  The copy goes.
void mirror_remove (const char *copy);

#endif
