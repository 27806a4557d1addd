//  git_http.c -- the two requests of git's smart protocol: GET …/info/refs and POST
//  …/git-upload-pack. What the server sends is pulled piece by piece, so a large pack needs no
//  memory.

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include <curl/curl.h>
#include <git2/sys/transport.h>
#if __has_include(<git2/sys/errors.h>)
#include <git2/sys/errors.h>         //  of later releases
#endif

#include "actors/kit/guard.h"
#include "git_http.h"
#include "proto/text.h"

#define CONNECT_MS 10000L
#define SILENCE_S 30L        //  of a server that sends nothing
#define POLL_MS 200

typedef struct {
    git_smart_subtransport base;
    git_transport *owner;
    git_line_t *line;
} port_t;

typedef struct {
    git_smart_subtransport_stream base;
    git_line_t *line;
    char *url;
    bool post, listed, refused, sent, ended;
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers;
    buf_t out, in;
    size_t taken;                    //  of `in`
} stream_t;

static int64_t
s_now (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int
s_broken (git_line_t *line, bool fault, const char *why)
{
    if (!*line->error) {
        snprintf (line->error, sizeof line->error, "%s", why);
        line->fault = fault;
    }
    git_error_set_str (GIT_ERROR_NET, line->error);
    return -1;
}

bool
git_line_over (git_line_t *line)
{
    if (line->stop && atomic_load (line->stop))
        s_broken (line, false, "broken off");
    else if (s_now () > line->deadline)
        s_broken (line, false, "the server took too long");
    return *line->error != 0;
}

//  ---- libcurl's questions ----

static curl_socket_t
s_open_socket (void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    stream_t *self = arg;
    (void) purpose;
    if (!self->listed && !guard_allows (&address->addr)) {
        self->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket (address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                   address->protocol);
}

static size_t
s_received (char *data, size_t size, size_t count, void *arg)
{
    stream_t *self = arg;
    buf_put (&self->in, data, size * count);
    return size * count;
}

static bool
s_listed (const git_line_t *line, const char *address)
{
    CURLU *url = curl_url ();
    char *host = NULL, *port = NULL;
    bool listed = line->allow && url && curl_url_set (url, CURLUPART_URL, address, 0) == CURLUE_OK
                  && curl_url_get (url, CURLUPART_HOST, &host, 0) == CURLUE_OK
                  && curl_url_get (url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK
                  && guard_listed (line->allow, host, port);
    curl_free (host);
    curl_free (port);
    curl_url_cleanup (url);
    return listed;
}

//  ---- one request ----

static void
s_set_headers (stream_t *self)
{
    self->headers = curl_slist_append (NULL, "Expect:");
    if (self->post) {
        self->headers = curl_slist_append (self->headers,
                                           "Content-Type: application/x-git-upload-pack-request");
        self->headers = curl_slist_append (self->headers,
                                           "Accept: application/x-git-upload-pack-result");
        curl_easy_setopt (self->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) self->out.size);
        curl_easy_setopt (self->easy, CURLOPT_POSTFIELDS, self->out.data);
    }
    curl_easy_setopt (self->easy, CURLOPT_HTTPHEADER, self->headers);
}

static int
s_send (stream_t *self)
{
    git_line_t *line = self->line;
    self->sent = true;
    self->multi = curl_multi_init ();
    CURL *easy = self->easy = curl_easy_init ();
    if (!easy || !self->multi)
        abort ();
    self->listed = s_listed (line, self->url);
    //  A token is for nobody who listens on the way.
    if (line->password && strncasecmp (self->url, "https:", 6) != 0 && !self->listed)
        return s_broken (line, true, "a token is sent by https only");
    curl_easy_setopt (easy, CURLOPT_URL, self->url);
    curl_easy_setopt (easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt (easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt (easy, CURLOPT_PROXY, "");
    curl_easy_setopt (easy, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
    curl_easy_setopt (easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt (easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt (easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt (easy, CURLOPT_LOW_SPEED_TIME, SILENCE_S);
    curl_easy_setopt (easy, CURLOPT_OPENSOCKETFUNCTION, s_open_socket);
    curl_easy_setopt (easy, CURLOPT_OPENSOCKETDATA, self);
    curl_easy_setopt (easy, CURLOPT_WRITEFUNCTION, s_received);
    curl_easy_setopt (easy, CURLOPT_WRITEDATA, self);
    curl_easy_setopt (easy, CURLOPT_USERAGENT, "git/2 (busbar)");
    if (line->password) {
        curl_easy_setopt (easy, CURLOPT_HTTPAUTH, (long) CURLAUTH_BASIC);
        curl_easy_setopt (easy, CURLOPT_USERNAME, line->user ? line->user : "git");
        curl_easy_setopt (easy, CURLOPT_PASSWORD, line->password);
    }
    s_set_headers (self);
    curl_multi_add_handle (self->multi, easy);
    return 0;
}

//  Is what begins to arrive what git servers say?
static int
s_check (stream_t *self)
{
    long status = 0;
    char *type = NULL, text [80];
    curl_easy_getinfo (self->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo (self->easy, CURLINFO_CONTENT_TYPE, &type);
    if (status == 401 || status == 403)
        return s_broken (self->line, true, self->line->password
                         ? "the server refuses this username and token"
                         : "the server asks for a username and token");
    if (status == 404)
        return s_broken (self->line, true, "the server has no such repository");
    if (status >= 300 && status < 400)
        return s_broken (self->line, true, "the repository has moved to another address");
    if (status != 200) {
        snprintf (text, sizeof text, "the server answered %ld", status);
        return s_broken (self->line, false, text);
    }
    const char *wanted = self->post ? "application/x-git-upload-pack-result"
                                    : "application/x-git-upload-pack-advertisement";
    if (!type || strncasecmp (type, wanted, strlen (wanted)) != 0)
        return s_broken (self->line, true, "there is no git repository at this address");
    return 0;
}

static int
s_over (stream_t *self)
{
    int left;
    for (CURLMsg *msg; (msg = curl_multi_info_read (self->multi, &left));) {
        if (msg->msg != CURLMSG_DONE)
            continue;
        self->ended = true;
        if (msg->data.result == CURLE_OK)
            continue;
        char text [160];
        snprintf (text, sizeof text, "no connection: %s", curl_easy_strerror (msg->data.result));
        if (self->refused)
            return s_broken (self->line, true, "address is not allowed");
        return s_broken (self->line, false, text);
    }
    return 0;
}

//  More bytes, or the end.
static int
s_pull (stream_t *self)
{
    buf_clear (&self->in);
    self->taken = 0;
    while (self->in.size == 0 && !self->ended) {
        int running;
        if (git_line_over (self->line))
            return -1;
        curl_multi_perform (self->multi, &running);
        if (s_over (self) != 0)
            return -1;
        if (self->in.size == 0 && !self->ended)
            curl_multi_poll (self->multi, NULL, 0, POLL_MS, NULL);
    }
    return s_check (self);
}

//  ---- what libgit2 asks of a stream ----

static int
s_read (git_smart_subtransport_stream *base, char *to, size_t room, size_t *count)
{
    stream_t *self = (stream_t *) base;
    *count = 0;
    if (!self->sent && s_send (self) != 0)
        return -1;
    if (self->taken == self->in.size && s_pull (self) != 0)
        return -1;
    size_t left = self->in.size - self->taken;
    *count = left < room ? left : room;
    if (*count)
        memcpy (to, self->in.data + self->taken, *count);
    self->taken += *count;
    return 0;
}

static int
s_write (git_smart_subtransport_stream *base, const char *data, size_t size)
{
    stream_t *self = (stream_t *) base;
    buf_put (&self->out, data, size);
    return 0;
}

static void
s_free (git_smart_subtransport_stream *base)
{
    stream_t *self = (stream_t *) base;
    if (self->easy) {
        curl_multi_remove_handle (self->multi, self->easy);
        curl_easy_cleanup (self->easy);
    }
    if (self->multi)
        curl_multi_cleanup (self->multi);
    curl_slist_free_all (self->headers);
    buf_free (&self->in);
    buf_free (&self->out);
    free (self->url);
    free (self);
}

//  ---- and of what makes streams ----

static int
s_action (git_smart_subtransport_stream **out, git_smart_subtransport *base, const char *url,
          git_smart_service_t action)
{
    port_t *port = (port_t *) base;
    if (action != GIT_SERVICE_UPLOADPACK_LS && action != GIT_SERVICE_UPLOADPACK)
        return s_broken (port->line, true, "repositories are read only");
    size_t size = strlen (url);
    while (size && url [size - 1] == '/')
        size--;
    stream_t *self = xcalloc (1, sizeof *self);
    self->base = (git_smart_subtransport_stream) { base, s_read, s_write, s_free };
    self->line = port->line;
    self->post = action == GIT_SERVICE_UPLOADPACK;
    self->url = text_format ("%.*s/%s", (int) size, url, self->post
                             ? "git-upload-pack" : "info/refs?service=git-upload-pack");
    *out = &self->base;
    return 0;
}

static int
s_close (git_smart_subtransport *base)
{
    (void) base;
    return 0;
}

static void
s_free_port (git_smart_subtransport *base)
{
    free (base);
}

static int
s_make_port (git_smart_subtransport **out, git_transport *owner, void *line)
{
    port_t *self = xcalloc (1, sizeof *self);
    *self = (port_t) { { s_action, s_close, s_free_port }, owner, line };
    *out = &self->base;
    return 0;
}

int
git_http_transport (git_transport **out, git_remote *owner, void *line)
{
    git_smart_subtransport_definition definition = { s_make_port, 1, line };
    return git_transport_smart (out, owner, &definition);
}
