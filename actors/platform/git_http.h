//  git_http.h -- how libgit2 reaches a server: its smart protocol over our own libcurl, so that
//  every connection passes the guard of addresses, and a deadline or a wish to stop is heard at
//  once.

#ifndef GIT_HTTP_H
#define GIT_HTTP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <git2.h>

//  What one conversation with a server may do. Lives longer than the remote that uses it.
typedef struct {
    const char *user, *password;     //  NULL: anonymous
    const char *allow;               //  host:port,… that the guard lets pass; NULL: none
    int64_t deadline;                //  ms of CLOCK_MONOTONIC
    const atomic_bool *stop;         //  somebody's wish to break off; NULL: nobody's
    //  Why it failed, for people; never with credentials. `fault`: their settings are wrong, not
    //  the way.
    char error [200];
    bool fault;
} git_line_t;

//  For git_remote_callbacks.transport; its payload is the git_line_t.
int git_http_transport (git_transport **out, git_remote *owner, void *line);

//  Deadline passed, or asked to stop? Says so in line->error.
bool git_line_over (git_line_t *line);

#endif
