//  connector_web.c -- one HTTP request of a source, blocking: to the address that was judged, no
//  redirects, no proxy, no netrc; bounded.

#include <ctype.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <curl/curl.h>

#include "connector.h"

#define ANSWER_MAX (16 << 20)

typedef struct {
    contact_t *contact;
    buf_t *answer;
    int64_t grace;
    bool refused, too_large;
} transfer_t;

bool
web_where (contact_t *self, const char *url, char *host, size_t size, char port [8])
{
    CURLU *parts = curl_url ();
    char *scheme = NULL, *name = NULL, *number = NULL;
    bool good = parts && curl_url_set (parts, CURLUPART_URL, url, 0) == CURLUE_OK
                && curl_url_get (parts, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK
                && (strcmp (scheme, "http") == 0 || strcmp (scheme, "https") == 0)
                && curl_url_get (parts, CURLUPART_HOST, &name, 0) == CURLUE_OK
                && curl_url_get (parts, CURLUPART_PORT, &number, CURLU_DEFAULT_PORT) == CURLUE_OK;
    if (good) {
        //  An IPv6 address stands in brackets.
        size_t skip = *name == '[';
        snprintf (host, size, "%.*s", (int) (strlen (name) - 2 * skip), name + skip);
        snprintf (port, 8, "%s", number);
    }
    curl_free (scheme);
    curl_free (name);
    curl_free (number);
    curl_url_cleanup (parts);
    if (good)
        return true;
    contact_step_begin (self);
    return contact_step_bad (self, "resolve", "url must be one of http or https");
}

//  Only to the address that was judged, whatever a name says by now.
static curl_socket_t
s_open_socket (void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    transfer_t *transfer = arg;
    char text [64];
    (void) purpose;
    if (getnameinfo (&address->addr, address->addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST)
            != 0
        || strcmp (text, transfer->contact->address) != 0) {
        transfer->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket (address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static size_t
s_received (char *data, size_t size, size_t count, void *arg)
{
    transfer_t *transfer = arg;
    size *= count;
    if (transfer->answer->size + size > ANSWER_MAX) {
        transfer->too_large = true;
        return 0;
    }
    buf_put (transfer->answer, data, size);
    return size;
}

static int
s_look (void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void) a, (void) b, (void) c, (void) d;
    const transfer_t *transfer = arg;
    return !transfer->grace && contact_left (transfer->contact) == 0;
}

static void
s_set (CURL *easy, transfer_t *transfer, const web_ask_t *ask)
{
    curl_easy_setopt (easy, CURLOPT_URL, ask->url);
    curl_easy_setopt (easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt (easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt (easy, CURLOPT_PROXY, "");
    curl_easy_setopt (easy, CURLOPT_CAINFO, transfer->contact->reach.ca_file);
    curl_easy_setopt (easy, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
    curl_easy_setopt (easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt (easy, CURLOPT_TIMEOUT_MS,
                      ask->grace ? (long) ask->grace : (long) contact_left (transfer->contact) + 1);
    curl_easy_setopt (easy, CURLOPT_OPENSOCKETFUNCTION, s_open_socket);
    curl_easy_setopt (easy, CURLOPT_OPENSOCKETDATA, transfer);
    curl_easy_setopt (easy, CURLOPT_WRITEFUNCTION, s_received);
    curl_easy_setopt (easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt (easy, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt (easy, CURLOPT_XFERINFOFUNCTION, s_look);
    curl_easy_setopt (easy, CURLOPT_XFERINFODATA, transfer);
    curl_easy_setopt (easy, CURLOPT_USERNAME, ask->user);
    curl_easy_setopt (easy, CURLOPT_PASSWORD, ask->password);
    if (ask->sigv4)
        curl_easy_setopt (easy, CURLOPT_AWS_SIGV4, ask->sigv4);
    if (ask->body.size) {
        curl_easy_setopt (easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) ask->body.size);
        curl_easy_setopt (easy, CURLOPT_POSTFIELDS, ask->body.data);
    }
}

static int
s_failed (contact_t *self, transfer_t *transfer, web_ask_t *ask, CURLcode code)
{
    if (transfer->refused)
        contact_fail (self, "", "address is not allowed");
    else if (transfer->too_large)
        contact_fail (self, "", "answer is larger than %d MiB", ANSWER_MAX >> 20);
    else if (!contact_stopped (self)) {
        char text [160];
        snprintf (text, sizeof text, "%s", curl_easy_strerror (code));
        *text = (char) tolower ((unsigned char) *text);
        contact_fail (self, "", "%s", text);
    }
    ask->tls = code == CURLE_SSL_CONNECT_ERROR || code == CURLE_PEER_FAILED_VERIFICATION;
    return 0;
}

int
web_ask (contact_t *self, web_ask_t *ask, buf_t *answer, char type [80])
{
    transfer_t transfer = { .contact = self, .answer = answer, .grace = ask->grace };
    struct curl_slist *headers = NULL, *pinned = NULL;
    char host [256], port [8], pin [400], *content = NULL;
    long status = 0;
    if (!web_where (self, ask->url, host, sizeof host, port))
        return 0;
    CURL *easy = curl_easy_init ();
    if (!easy)
        abort ();
    snprintf (pin, sizeof pin, "%s:%s:%s", host, port, self->address);
    pinned = curl_slist_append (NULL, pin);
    for (size_t n = 0; ask->headers && ask->headers [n]; n++)
        headers = curl_slist_append (headers, ask->headers [n]);
    s_set (easy, &transfer, ask);
    curl_easy_setopt (easy, CURLOPT_RESOLVE, pinned);
    curl_easy_setopt (easy, CURLOPT_HTTPHEADER, headers);
    if (ask->verb)
        curl_easy_setopt (easy, CURLOPT_CUSTOMREQUEST, ask->verb);
    CURLcode code = curl_easy_perform (easy);
    curl_easy_getinfo (easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo (easy, CURLINFO_CONTENT_TYPE, &content);
    snprintf (type, 80, "%s", content ? content : "");
    if (code != CURLE_OK)
        status = s_failed (self, &transfer, ask, code);
    curl_easy_cleanup (easy);
    curl_slist_free_all (headers);
    curl_slist_free_all (pinned);
    return (int) status;
}

bool
web_steps (contact_t *self, const web_ask_t *ask, int status)
{
    bool https = strncasecmp (ask->url, "https:", 6) == 0;
    if (status == 0)
        return contact_step_bad (self, ask->tls ? "tls" : "query", "%s", self->error);
    if (https)
        contact_step_good (self, "tls", NULL);
    if (status == 401 || status == 403)
        return contact_step_bad (self, "auth", "the server answers %d", status);
    if (status < 200 || status >= 300)
        return contact_step_bad (self, "query", "the server answers %d", status);
    contact_step_good (self, "auth", NULL);
    return true;
}
