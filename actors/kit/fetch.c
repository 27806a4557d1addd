//  fetch.c -- outgoing HTTP and mail on libcurl multi, inside the loop. libcurl runs on the loop's
//  own stack only: its frames are larger than a coroutine's.

#include <ctype.h>
#include <stdlib.h>
#include <unistd.h>

#include <curl/curl.h>

#include "../../proto/fault.h"
#include "fetch.h"
#include "guard.h"
#include "kit.h"

#define TIMEOUT_MS 30000
#define CONNECT_MS 10000
#define ANSWER_MAX (8 * 1024 * 1024)

typedef struct job {
    struct job *next;
    fetcher_t *fetcher;
    const fetch_t *what;
    CURL *easy;
    struct curl_slist *headers, *to;
    buf_t *body;
    size_t max, sent;
    int64_t timeout;
    bool listed;                     //  the operator lets this host and port pass
    bool refused, too_large, cancelled, over;
    fetched_t answer;
    req_t *req;
    pause_t pause;
} job_t;

struct fetcher {
    kit_t *kit;
    CURLM *multi;
    ltimer_t *timer;
    job_t *waiting;                  //  to be started, or to be broken off, on the loop's stack
    hook_t hook;
    size_t running;
};

typedef struct {
    fetcher_t *fetcher;
    curl_socket_t fd;
    watch_t *watch;
} line_t;

//  ---------------------------------------------------------------- the end of a transfer

static void
s_answer (job_t *job, CURLcode code)
{
    long status = 0;
    char *type = NULL;
    curl_easy_getinfo (job->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo (job->easy, CURLINFO_CONTENT_TYPE, &type);
    job->answer.body = buf_text (job->body);
    job->answer.content_type = type ? req_copy (job->req, text_of (type)) : NULL;
    if (code == CURLE_OK) {
        job->answer.status = status ? (int) status : 200;
        return;
    }
    char *text = req_copy (job->req, text_of (curl_easy_strerror (code)));
    *text = (char) tolower ((unsigned char) *text);
    job->answer.error = text;
    if (job->refused)
        job->answer.error = "address is not allowed";
    else if (job->too_large)
        job->answer.error = "answer is too large";
    else if (job->cancelled)
        job->answer.error = "broken off";
}

static void
s_end (job_t *job, CURLcode code)
{
    s_answer (job, code);
    curl_multi_remove_handle (job->fetcher->multi, job->easy);
    curl_easy_cleanup (job->easy);
    curl_slist_free_all (job->headers);
    curl_slist_free_all (job->to);
    job->fetcher->running--;
    job->over = true;
    pause_end (&job->pause);
}

static void
s_look (fetcher_t *self)
{
    int left;
    for (CURLMsg *msg; (msg = curl_multi_info_read (self->multi, &left));) {
        job_t *job;
        if (msg->msg != CURLMSG_DONE)
            continue;
        CURLcode code = msg->data.result;
        curl_easy_getinfo (msg->easy_handle, CURLINFO_PRIVATE, &job);
        s_end (job, code);
    }
}

//  ---------------------------------------------------------------- libcurl on the loop

static void
s_ready (void *arg, uint32_t events)
{
    line_t *line = arg;
    fetcher_t *self = line->fetcher;
    int running, mask = (events & EPOLLIN ? CURL_CSELECT_IN : 0)
                        | (events & EPOLLOUT ? CURL_CSELECT_OUT : 0)
                        | (events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
    curl_multi_socket_action (self->multi, line->fd, mask, &running);
    s_look (self);
}

static int
s_socket (CURL *easy, curl_socket_t fd, int what, void *arg, void *line_p)
{
    fetcher_t *self = arg;
    line_t *line = line_p;
    (void) easy;
    if (what == CURL_POLL_REMOVE) {
        if (line) {
            watch_end (&line->watch);
            free (line);
            curl_multi_assign (self->multi, fd, NULL);
        }
        return 0;
    }
    uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
    if (line) {
        watch_set (line->watch, events);
        return 0;
    }
    line = xmalloc (sizeof *line);
    *line = (line_t) { self, fd, NULL };
    line->watch = loop_watch (self->kit->actor->loop, fd, events, s_ready, line);
    curl_multi_assign (self->multi, fd, line);
    return 0;
}

static int
s_timer (CURLM *multi, long ms, void *arg)
{
    fetcher_t *self = arg;
    (void) multi;
    if (ms < 0)
        ltimer_stop (self->timer);
    else
        ltimer_set (self->timer, ms);
    return 0;
}

static void
s_timeout (void *arg)
{
    fetcher_t *self = arg;
    int running;
    curl_multi_socket_action (self->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    s_look (self);
}

//  ---------------------------------------------------------------- one transfer

static curl_socket_t
s_open_socket (void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    job_t *job = arg;
    (void) purpose;
    if (!job->listed && !guard_allows (&address->addr)) {
        job->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket (address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                   address->protocol);
}

static size_t
s_received (char *data, size_t size, size_t count, void *arg)
{
    job_t *job = arg;
    size *= count;
    if (job->body->size + size > job->max) {
        job->too_large = true;
        return 0;
    }
    buf_put (job->body, data, size);
    return size;
}

static size_t
s_header (char *data, size_t size, size_t count, void *arg)
{
    const fetch_t *what = ((job_t *) arg)->what;
    size_t all = size * count, end = all;
    const char *colon = memchr (data, ':', all);
    while (end && strchr ("\r\n ", data [end - 1]))
        end--;
    if (!colon || (size_t) (colon - data) >= end)
        return all;
    text_t name = { data, (size_t) (colon - data) };
    const char *value = colon + 1 + strspn (colon + 1, " ");
    what->header (what->arg, name, (text_t) { value, (size_t) (data + end - value) });
    return all;
}

static size_t
s_send (char *data, size_t size, size_t count, void *arg)
{
    job_t *job = arg;
    size_t left = job->what->body.size - job->sent;
    size *= count;
    if (size > left)
        size = left;
    if (size)
        memcpy (data, job->what->body.data + job->sent, size);
    job->sent += size;
    return size;
}

static bool
s_listed (const fetch_t *what)
{
    CURLU *url = curl_url ();
    char *host = NULL, *port = NULL;
    bool listed = what->allow && url && curl_url_set (url, CURLUPART_URL, what->url, 0) == CURLUE_OK
                  && curl_url_get (url, CURLUPART_HOST, &host, 0) == CURLUE_OK
                  && curl_url_get (url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK
                  && guard_listed (what->allow, host, port);
    curl_free (host);
    curl_free (port);
    curl_url_cleanup (url);
    return listed;
}

static void
s_set_mail (job_t *job)
{
    const fetch_t *what = job->what;
    CURL *easy = job->easy;
    char *rest = req_copy (job->req, text_of (what->mail_to)), *to;
    while ((to = strsep (&rest, ", ")))
        if (*to)
            job->to = curl_slist_append (job->to, to);
    curl_easy_setopt (easy, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    curl_easy_setopt (easy, CURLOPT_USE_SSL, (long) CURLUSESSL_TRY);
    curl_easy_setopt (easy, CURLOPT_MAIL_FROM, what->mail_from);
    curl_easy_setopt (easy, CURLOPT_MAIL_RCPT, job->to);
    curl_easy_setopt (easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt (easy, CURLOPT_READFUNCTION, s_send);
    curl_easy_setopt (easy, CURLOPT_READDATA, job);
    curl_easy_setopt (easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t) what->body.size);
}

static void
s_set_http (job_t *job)
{
    const fetch_t *what = job->what;
    CURL *easy = job->easy;
    const char *method = what->method ? what->method : "GET";
    curl_easy_setopt (easy, CURLOPT_PROTOCOLS_STR, "http,https");
    for (size_t n = 0; what->headers && what->headers [n]; n++)
        job->headers = curl_slist_append (job->headers, what->headers [n]);
    //  No waiting for a 100 that many servers never send.
    job->headers = curl_slist_append (job->headers, "Expect:");
    curl_easy_setopt (easy, CURLOPT_HTTPHEADER, job->headers);
    if (what->body.size || (strcmp (method, "GET") != 0 && strcmp (method, "HEAD") != 0)) {
        curl_easy_setopt (easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) what->body.size);
        curl_easy_setopt (easy, CURLOPT_POSTFIELDS, what->body.size ? what->body.data : "");
    }
    if (strcmp (method, "HEAD") == 0)
        curl_easy_setopt (easy, CURLOPT_NOBODY, 1L);
    else
        curl_easy_setopt (easy, CURLOPT_CUSTOMREQUEST, method);
}

static void
s_start (job_t *job)
{
    const fetch_t *what = job->what;
    CURL *easy = job->easy = curl_easy_init ();
    if (!easy)
        abort ();
    job->listed = s_listed (what);
    curl_easy_setopt (easy, CURLOPT_PRIVATE, job);
    curl_easy_setopt (easy, CURLOPT_URL, what->url);
    curl_easy_setopt (easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt (easy, CURLOPT_PROXY, "");
    curl_easy_setopt (easy, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
    curl_easy_setopt (easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt (easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt (easy, CURLOPT_TIMEOUT_MS, (long) job->timeout);
    curl_easy_setopt (easy, CURLOPT_CONNECTTIMEOUT_MS,
                      (long) (job->timeout < CONNECT_MS ? job->timeout : CONNECT_MS));
    curl_easy_setopt (easy, CURLOPT_OPENSOCKETFUNCTION, s_open_socket);
    curl_easy_setopt (easy, CURLOPT_OPENSOCKETDATA, job);
    //  A connection that was opened for one who may is not for one who may not.
    curl_easy_setopt (easy, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt (easy, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt (easy, CURLOPT_WRITEFUNCTION, s_received);
    curl_easy_setopt (easy, CURLOPT_WRITEDATA, job);
    if (what->header) {
        curl_easy_setopt (easy, CURLOPT_HEADERFUNCTION, s_header);
        curl_easy_setopt (easy, CURLOPT_HEADERDATA, job);
    }
    curl_easy_setopt (easy, CURLOPT_USERNAME, what->user);
    curl_easy_setopt (easy, CURLOPT_PASSWORD, what->password);
    if (what->ca)
        curl_easy_setopt (easy, CURLOPT_CAINFO, what->ca);
    if (what->sigv4)
        curl_easy_setopt (easy, CURLOPT_AWS_SIGV4, what->sigv4);
    if (what->mail_to)
        s_set_mail (job);
    else
        s_set_http (job);
    job->fetcher->running++;
    curl_multi_add_handle (job->fetcher->multi, easy);
}

static void
s_hook (void *arg)
{
    fetcher_t *self = arg;
    while (self->waiting) {
        job_t *job = self->waiting;
        self->waiting = job->next;
        if (!job->easy)
            s_start (job);
        if (job->cancelled && !job->over)
            s_end (job, CURLE_ABORTED_BY_CALLBACK);
    }
}

static void
s_queue (job_t *job)
{
    fetcher_t *self = job->fetcher;
    job->next = self->waiting;
    self->waiting = job;
    loop_at_end (self->kit->actor->loop, &self->hook);
}

static void
s_cancel (void *arg)
{
    job_t *job = arg;
    if (job->over || job->cancelled)
        return;
    job->cancelled = true;
    //  Not even started: it stands in the queue already.
    if (job->easy)
        s_queue (job);
}

void
fetch_break (req_t *req)
{
    for (deferred_t *hook = req->on_cancel; hook; hook = hook->next)
        if (hook->fn == s_cancel)
            s_cancel (hook->arg);
}

static fetcher_t *
s_fetcher (kit_t *kit)
{
    if (kit->fetcher)
        return kit->fetcher;
    curl_global_init (CURL_GLOBAL_DEFAULT);
    fetcher_t *self = xcalloc (1, sizeof *self);
    self->kit = kit;
    self->multi = curl_multi_init ();
    self->timer = loop_timer (kit->actor->loop, s_timeout, self);
    self->hook = (hook_t) { .fn = s_hook, .arg = self };
    curl_multi_setopt (self->multi, CURLMOPT_SOCKETFUNCTION, s_socket);
    curl_multi_setopt (self->multi, CURLMOPT_SOCKETDATA, self);
    curl_multi_setopt (self->multi, CURLMOPT_TIMERFUNCTION, s_timer);
    curl_multi_setopt (self->multi, CURLMOPT_TIMERDATA, self);
    return kit->fetcher = self;
}

CO fetched_t
fetch (req_t *req, const fetch_t *what)
{
    int64_t left = req_left (req), timeout = what->timeout ? what->timeout : TIMEOUT_MS;
    job_t *job = req_alloc (req, sizeof *job);
    *job = (job_t) { .fetcher = s_fetcher (req->kit),
                    .what = what,
                    .req = req,
                    .body = req_buf (req),
                    .max = what->max ? what->max : ANSWER_MAX,
                    .timeout = timeout < left ? timeout : left };
    if (job->timeout <= 0 || req->cancelled)
        return (fetched_t) { .error = "no time left" };
    if (fault (KIT_FETCH))
        return (fetched_t) { .error = "could not connect" };
    req_on_cancel (req, s_cancel, job);
    s_queue (job);
    pause_wait (&job->pause);
    return job->answer;
}

void
fetch_end (kit_t *kit)
{
    fetcher_t *self = kit->fetcher;
    if (!self)
        return;
    kit->fetcher = NULL;
    loop_forget (kit->actor->loop, &self->hook);
    curl_multi_cleanup (self->multi);
    ltimer_end (&self->timer);
    free (self);
}
