//  crowd.c -- people at work, each with a connection, a token and rows of their own: every answer
//  is looked at, and what was written must be read back and be heard.
//
//      crowd --port 8002 --seconds 20 --mix get=60,list=10,create=15,rename=15 --live <tokens
//      crowd --port 8002 --seconds 20 --mix signin=1 --users 100
//
//  It says when everybody is ready; in the end comes one line of JSON.

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "client.h"
#include "hist.h"
#include "proto/opt.h"

#define PEOPLE_MAX 10000
#define LAST_NS INT64_C (40000000000)        //  for what is under way at the end

typedef enum { GET, LIST, CREATE, RENAME, SIGNIN, OPS } op_t;

static const char *const s_names [OPS] = { "get", "list", "create", "rename", "signin" };

typedef struct {
    conn_t http, live;
    char *token, row [40], name [40];
    op_t op;
    bool busy;
    int64_t started, due;
    uint64_t renames, writes, first, off;    //  offsets heard: behind first, up to off
    bool heard;
} person_t;

typedef struct {
    int epoll, port;
    size_t count;
    person_t *people;
    unsigned weights [OPS], weight;
    int64_t think, end;
    uint64_t random, open, good, refused, failed;
    char failure [300];
    hist_t times;
} crowd_t;

static opt_t s_options [] = {
    { "port", OPT_INT, NULL, OPT_REQUIRED, NULL, "where the server listens", NULL },
    { "seconds", OPT_INT, "20", 0, NULL, "how long", NULL },
    { "mix", OPT_STR, NULL, OPT_REQUIRED, NULL, "get=60,list=10,… (also create, rename, signin)",
      NULL },
    { "live", OPT_BOOL, "false", 0, NULL, "each hears its own changes", NULL },
    { "think", OPT_INT, "0", 0, NULL, "ms between an answer and the next request", NULL },
    { "users", OPT_INT, "0", 0, NULL, "people without a token; 0: a token for each in the input",
      NULL },
    { "email", OPT_STR, NULL, OPT_SECRET, "BENCH_EMAIL", "who signs in", NULL },
    { "password", OPT_STR, NULL, OPT_SECRET, "BENCH_PASSWORD", "with what", NULL },
    { 0 } };

static bool
holds (text_t text, const char *part)
{
    return memmem (text.data, text.size, part, strlen (part)) != NULL;
}

//  ---------------------------------------------------------------- requests

static op_t
op_choose (crowd_t *self)
{
    self->random ^= self->random << 13;
    self->random ^= self->random >> 7;
    self->random ^= self->random << 17;
    unsigned left = (unsigned) (self->random >> 20) % self->weight;
    op_t op = 0;
    while (left >= self->weights [op])
        left -= self->weights [op++];
    return op;
}

static void
request_send (crowd_t *self, person_t *person, int64_t now)
{
    char path [100], body [300];
    snprintf (path, sizeof path, "/workspaces/%s", person->row);
    conn_t *http = &person->http;
    person->op = op_choose (self);
    person->busy = true;
    person->started = now;
    self->open++;
    switch (person->op) {
    case GET:
        http_send (http, "GET", path, person->token, NULL);
        break;
    case LIST:
        http_send (http, "GET", "/workspaces?limit=20", person->token, NULL);
        break;
    case CREATE:
        http_send (http, "POST", "/workspaces", person->token,
                   "{\"name\":\"made\",\"description\":\"by one of many\"}");
        break;
    case RENAME:
        snprintf (person->name, sizeof person->name, "\"name\":\"n%llu\"",
                  (unsigned long long) ++person->renames);
        snprintf (body, sizeof body, "{%s}", person->name);
        http_send (http, "PUT", path, person->token, body);
        break;
    default:
        snprintf (body, sizeof body, "{\"email\":\"%s\",\"password\":\"%s\"}",
                  opt_str (s_options, "email"), opt_str (s_options, "password"));
        http_send (http, "POST", "/auth/login", NULL, body);
    }
}

//  Is this the answer that it should be?
static bool
answer_good (crowd_t *self, const person_t *person, int status, text_t body)
{
    switch (person->op) {
    case GET:
    case RENAME:
        return status == 200 && holds (body, person->row) && holds (body, person->name);
    case LIST:
        return status == 200 && body.size > 2 && body.data [0] == '[';
    case CREATE:
        return status == 201 && holds (body, "\"name\":\"made\"");
    default:
        self->refused += status == 429;
        return (status == 200 && holds (body, "\"token\"")) || status == 429;
    }
}

static void
answer_take (crowd_t *self, person_t *person, int64_t now)
{
    text_t body;
    while (conn_read (&person->http, SIZE_MAX))
        ;
    int status = http_take (&person->http, &body);
    if (status == 0) {
        if (person->http.closed)
            stop_with ("the server closed a connection during %s", s_names [person->op]);
        return;
    }
    person->busy = false;
    person->due = now + self->think;
    self->open--;
    hist_add (&self->times, now - person->started);
    if (answer_good (self, person, status, body))
        self->good += status < 300;
    else if (self->failed++ == 0)
        snprintf (self->failure, sizeof self->failure, "%s: %d %.*s", s_names [person->op], status,
                  (int) (body.size < 200 ? body.size : 200), body.data);
    if ((person->op == CREATE || person->op == RENAME) && status < 300)
        person->writes++;
}

//  ---------------------------------------------------------------- what they hear

static uint64_t
number_after (text_t text, const char *name)
{
    const char *at = memmem (text.data, text.size, name, strlen (name));
    return at ? strtoull (at + strlen (name), NULL, 10) : 0;
}

static void
live_take (person_t *person)
{
    text_t message;
    while (conn_read (&person->live, SIZE_MAX))
        ;
    while (ws_take (&person->live, &message))
        while (message.size > 0) {
            const char *end = memchr (message.data, '\n', message.size);
            size_t size = end ? (size_t) (end - message.data) : message.size;
            text_t head = { message.data, size < 200 ? size : 200 };
            uint64_t prev = number_after (head, "\"prev\":");
            if (size == 2)
                ws_send (&person->live, 1, "{}", 2);
            else if (size > 2) {
                if (person->heard && prev != person->off)
                    stop_with ("a hole before %.*s", (int) head.size, head.data);
                if (!person->heard)
                    person->first = prev;
                person->heard = true;
                person->off = number_after (head, "\"off\":");
            }
            size += end != NULL;
            message = (text_t) { message.data + size, message.size - size };
        }
    if (person->live.closed)
        stop_with ("the server closed a WebSocket");
}

static uint64_t
unheard (const crowd_t *self)
{
    uint64_t missing = 0;
    for (size_t n = 0; opt_bool (s_options, "live") && n < self->count; n++) {
        const person_t *one = &self->people [n];
        missing += one->writes - (one->off - one->first);
    }
    return missing;
}

//  ---------------------------------------------------------------- the course of it

static void
listen_to (crowd_t *self, conn_t *conn, size_t number, bool live)
{
    struct epoll_event event = { .events = EPOLLIN, .data.u64 = number << 1 | live };
    if (epoll_ctl (self->epoll, EPOLL_CTL_ADD, conn->fd, &event))
        stop_with ("epoll: %s", strerror (errno));
}

//  A row of one's own, and the channel that tells of it.
static void
person_prepare (crowd_t *self, person_t *person, size_t number)
{
    conn_open (&person->http, self->port, 0);
    if (person->token) {
        text_t body;
        snprintf (person->name, sizeof person->name, "\"name\":\"n0\"");
        http_send (&person->http, "POST", "/workspaces", person->token, "{\"name\":\"n0\"}");
        int status;
        while ((status = http_take (&person->http, &body)) == 0)
            conn_wait (&person->http);
        const char *id = memmem (body.data, body.size, "\"id\":\"", 6);
        if (status != 201 || !id)
            stop_with ("create: %d %.*s", status, (int) body.size, body.data);
        snprintf (person->row, sizeof person->row, "%.36s", id + 6);
    }
    if (opt_bool (s_options, "live")) {
        char *hello = text_format ("{\"id\":1,\"connect\":{\"token\":\"%s\"}}\n"
                                   "{\"id\":2,\"subscribe\":{\"ch\":\"workspaces\"}}",
                                   person->token);
        ws_open (&person->live, self->port, 0, "/ws", hello);
        listen_to (self, &person->live, number, true);
        free (hello);
    }
    listen_to (self, &person->http, number, false);
}

static void
turn (crowd_t *self, int wait_ms)
{
    struct epoll_event events [256];
    int count = epoll_wait (self->epoll, events, 256, wait_ms);
    for (int n = 0; n < count; n++) {
        person_t *person = &self->people [events [n].data.u64 >> 1];
        if (events [n].data.u64 & 1)
            live_take (person);
        else
            answer_take (self, person, nanoseconds (CLOCK_MONOTONIC));
    }
}

static double
work (crowd_t *self)
{
    int64_t start = nanoseconds (CLOCK_MONOTONIC), now = start;
    int64_t end = start + opt_int (s_options, "seconds") * 1000000000;
    while (now < end) {
        for (size_t n = 0; n < self->count; n++)
            if (!self->people [n].busy && self->people [n].due <= now)
                request_send (self, &self->people [n], now);
        turn (self, self->think ? 1 : 100);
        now = nanoseconds (CLOCK_MONOTONIC);
    }
    double seconds = (double) (now - start) / 1e9;
    while ((self->open > 0 || unheard (self) > 0) && now < end + LAST_NS) {
        turn (self, 10);
        now = nanoseconds (CLOCK_MONOTONIC);
    }
    if (self->open > 0)
        snprintf (self->failure, sizeof self->failure, "no answer to %llu requests",
                  (unsigned long long) self->open);
    self->failed += self->open;
    return seconds;
}

static void
people_read (crowd_t *self)
{
    self->people = xcalloc (PEOPLE_MAX, sizeof *self->people);
    self->count = (size_t) opt_int (s_options, "users");
    char *line = NULL;
    size_t room = 0;
    if (self->count == 0)
        while (self->count < PEOPLE_MAX && getline (&line, &room, stdin) > 0) {
            line [strcspn (line, "\n")] = 0;
            self->people [self->count++].token = xstrdup (line);
        }
    free (line);
}

static void
mix_read (crowd_t *self)
{
    char *mix = xstrdup (opt_str (s_options, "mix"));
    for (char *one = strtok (mix, ","); one; one = strtok (NULL, ",")) {
        op_t op = 0;
        size_t size = strcspn (one, "=");
        while (op < OPS && (strlen (s_names [op]) != size || strncmp (s_names [op], one, size)))
            op++;
        if (op == OPS || one [size] != '=')
            stop_with ("mix: what is %s?", one);
        self->weights [op] = (unsigned) atoi (one + size + 1);
        self->weight += self->weights [op];
    }
    free (mix);
    if (self->weight == 0)
        stop_with ("mix: nothing to do");
}

int
main (int argc, char **argv)
{
    int rc = opt_read (s_options, &argc, argv, "crowd: people at work");
    if (rc)
        return rc == 1 ? 0 : rc;
    static crowd_t crowd;
    crowd_t *self = &crowd;
    files_raise ();
    self->epoll = epoll_create1 (EPOLL_CLOEXEC);
    self->port = (int) opt_int (s_options, "port");
    self->think = opt_int (s_options, "think") * 1000000;
    self->random = 88172645463325252;
    mix_read (self);
    people_read (self);
    for (size_t n = 0; n < self->count; n++)
        person_prepare (self, &self->people [n], n);
    puts ("ready");
    fflush (stdout);
    double seconds = work (self);
    uint64_t events = 0;
    for (size_t n = 0; n < self->count; n++)
        events += self->people [n].off - self->people [n].first;
    for (char *at = self->failure; *at; at++)
        if (*at == '"' || *at == '\\' || (unsigned char) *at < ' ')
            *at = '\'';
    printf ("{\"requests\":%llu,\"seconds\":%.6f,\"per_second\":%.0f,\"p50\":%.3f,\"p99\":%.3f,"
            "\"most\":%.3f,\"good\":%llu,\"refused\":%llu,\"failed\":%llu,\"events\":%llu,"
            "\"unheard\":%llu,\"first_failure\":\"%s\"}\n",
            (unsigned long long) self->times.count, seconds, (double) self->times.count / seconds,
            hist_ms (&self->times, 0.5), hist_ms (&self->times, 0.99),
            (double) self->times.most / 1e6, (unsigned long long) self->good,
            (unsigned long long) self->refused, (unsigned long long) self->failed,
            (unsigned long long) events, (unsigned long long) unheard (self), self->failure);
    return 0;
}
