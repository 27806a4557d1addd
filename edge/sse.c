//  sse.c -- the same channels as server-sent events, and tickets for clients that cannot send
//  headers.
//
//  GET /events?ch=notebooks&ch=executions/… [&off=0] [&snapshot=1] with Authorization or
//  ?ticket=; one stream carries many channels. `id:` is the position in all of them, so
//  Last-Event-ID resumes exactly there.

#include <stdlib.h>

#include "live.h"

#define PULL_MAX (64 * 1024)
#define PENDING_MAX                                                                                \
    (64 * 1024)  //  bytes the socket has not taken; more is pulled when they are gone
#define COMMENT_MS 15000

typedef struct {
    request_t *req;
    client_t *client;
    ltimer_t *expiry;                    //  the token runs out
    ltimer_t *comment;                   //  keeps proxies from closing an idle stream
    hook_t pull;                         //  once per turn, however many events came
    void *auth_wait;
    bool ending;
} sse_t;

static void
sse_pull (void *arg)
{
    sse_t *self = arg;
    if (!self->req || reply_pending (self->req) > PENDING_MAX)
        return;
    buf_t out = { 0 };
    bool some = client_pull (self->client, &out, PULL_MAX);
    if (self->ending)
        buf_puts (&out, "event: end\ndata: {}\n\n");
    if (out.size) {
        ltimer_set (self->comment, COMMENT_MS);
        reply_push (self->req, buf_text (&out));
    }
    buf_free (&out);
    if (self->ending)
        reply_end (self->req, false);
    else if (some && self->req)
        loop_at_end (self->client->live->edge->loop, &self->pull);
}

static void
sse_wake (void *arg)
{
    sse_t *self = arg;
    loop_at_end (self->client->live->edge->loop, &self->pull);
}

static void
sse_closed (void *arg, unsigned code, const char *reason)
{
    sse_t *self = arg;
    (void) code;
    (void) reason;
    self->ending = true;                 //  EventSource comes back by itself, with Last-Event-ID
    sse_wake (self);
}

static void
sse_comment (void *arg)
{
    sse_t *self = arg;
    if (self->req && reply_pending (self->req) == 0)
        reply_push (self->req, TEXT (": \n\n"));
    ltimer_set (self->comment, COMMENT_MS);
}

static void
sse_expired (void *arg)
{
    sse_closed (arg, 3005, "token has expired");
}

static void
on_drained (request_t *req)
{
    sse_pull (req->owner);
}

static void
on_closed (request_t *req)
{
    sse_t *self = req->owner;
    edge_t *edge = req->edge;
    req->owner = NULL;
    self->req = NULL;
    if (self->auth_wait)
        auth_cancel (edge->auth, self->auth_wait);
    loop_forget (edge->loop, &self->pull);
    ltimer_end (&self->comment);
    ltimer_end (&self->expiry);
    client_free (&self->client);
    free (self);
}

//  Every ch= of the query, in order.
static void
subscribe_all (sse_t *self, text_t query, text_t cursor)
{
    unsigned index = 0;
    text_t name, value;
    buf_t id = { 0 };
    bool snapshot = query_get (query, "snapshot").data != NULL;
    text_t off = query_get (query, "off");
    for (size_t at = 0; query_each (query, &at, &name, &value);) {
        if (!text_is (name, "ch"))
            continue;
        buf_clear (&id);
        mp_put_int (&id, index);
        subscribe_t want = {
            .id = mp_buf (&id), .channel = value, .snapshot = snapshot, .index = index
        };
        want.has_off = cursor_find (cursor, index, &want.epoch, &want.off);
        if (!want.has_off && off.size)
            want.has_off = offset_read (off, &want.off);
        client_subscribe (self->client, &want);
        index++;
    }
    buf_free (&id);
}

static void
sse_start (request_t *req, session_t *session)
{
    char last [2048] = "";
    text_t query = buf_text (&req->query);
    sse_t *self = xcalloc (1, sizeof *self);
    self->req = req;
    self->pull = (hook_t) { .fn = sse_pull, .arg = self };
    self->comment = loop_timer (req->edge->loop, sse_comment, self);
    self->expiry = loop_timer (req->edge->loop, sse_expired, self);
    if (session->exp) {
        int64_t left = session->exp * 1000 - loop_wall (req->edge->loop);
        ltimer_set (self->expiry, left > 0 ? left : 0);
    }
    self->client = client_new (req->edge->live, session, FORMAT_SSE,
                               &(sink_t) { .wake = sse_wake, .closed = sse_closed, .arg = self });
    if (!conn_header_named (req->conn, "last-event-id:", last, sizeof last)) {
        text_t since = query_get (query, "since");
        snprintf (last, sizeof last, "%.*s", (int) since.size, since.size ? since.data : "");
    }
    req->owner = self;
    req->on_drained = on_drained;
    req->on_closed = on_closed;
    reply_header (req, "Cache-Control", TEXT ("no-store"));
    reply_header (req, "X-Accel-Buffering", TEXT ("no"));
    reply_stream (req, 200, "text/event-stream", -1);
    reply_push (req, TEXT ("retry: 2000\n\n"));
    ltimer_set (self->comment, COMMENT_MS);
    subscribe_all (self, query, text_of (last));
}

static void
events (request_t *req)
{
    fault_t fault = { 0 };
    text_t query = buf_text (&req->query), ticket = query_get (query, "ticket");
    session_t *session = req->session ? session_ref (req->session) : NULL;
    if (!session || !*session->user)
        fault_set (&fault, E_UNAUTHORIZED,
                   ticket.data ? "ticket is unknown, used or too old" : "authentication required");
    else if (!query_get (query, "ch").data)
        fault_set (&fault, E_INVALID, "ch: is required");
    if (fault.code)
        reply_fault (req, &fault);
    else
        sse_start (req, session);
    session_drop (&session);
}

const local_t live_locals [] = { { VERB_GET, "/events", .optional = true, .ticket = true,
                                   .serve = events,
                                   .doc = "Channels as server-sent events: ?ch=…&ch=…" },
                                 { 0 } };
