//  fetch.h -- outgoing HTTP and mail on libcurl multi, inside the loop, with the SSRF guard.

#ifndef FETCH_H
#define FETCH_H

#include "req.h"

typedef struct {
    const char *method, *url;
    const char *const *headers;          //  "Name: value", NULL-terminated
    text_t body;
    int64_t timeout;                     //  ms (0: 30 s), never beyond the request's deadline
    size_t max;                          //  answer's body limit (0: 8 MiB)
    //  comma list host:port that the guard lets pass (operator's configuration only)
    const char *allow;
    //  hears each header of the answer (may be NULL); name and value are borrowed
    void (*header) (void *arg, text_t name, text_t value);
    void *arg;
    //  file of the authorities to trust, instead of the system's; NULL: those
    const char *ca;
    //  mail: url smtp://…, from, to; user and password there, or of Basic authentication
    const char *mail_from, *mail_to, *user, *password;
    //  "aws:amz:<region>:<service>": signed with user (key id) and password (its secret)
    const char *sigv4;
} fetch_t;

typedef struct {
    int status;                          //  0: no answer, see error
    text_t body;
    //  short text for people, or NULL; never contains credentials
    const char *error;
    const char *content_type;
} fetched_t;

//  Private, loopback, link-local, CGNAT, multicast and mapped addresses are refused after name
//  resolution, before connect; only http and https (mail: smtp, smtps); no proxy, no redirects
//  followed, no netrc.
CO fetched_t fetch (req_t *req, const fetch_t *what);
//  What this request fetches now is broken off; fetch answers "broken off".
void fetch_break (req_t *req);

#endif
