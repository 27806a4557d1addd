//  ws.c -- WebSocket: the live protocol (PROTOCOL.md, part "WebSocket") as JSON text or MessagePack
//  messages. Frames and socket are ws_socket.c's.

#include <stdlib.h>

#include "ws.h"

#define CONTROL_MAX (1024 * 1024)  //  answers that wait; beyond it the client's input waits too
#define CALLS_MAX 64                     //  calls in flight of one client
#define CONNECT_MS 15000                 //  time to say connect
#define CLOSE_MS 5000                    //  for what is still to be sent at the end

struct ws_call {
    ws_t *ws;
    ws_call_t *next, **link;
    buf_t id;
    uint64_t call;
};

void
ws_close (void *arg, unsigned code, const char *reason)
{
    ws_t *self = arg;
    if (self->closing)
        return;
    self->closing = true;
    self->close_code = code;
    snprintf (self->close_reason, sizeof self->close_reason, "%.*s",
              (int) sizeof self->close_reason - 1, reason);
    //  A client that takes nothing more is not waited for.
    ltimer_set (self->timer, CLOSE_MS);
    ws_wake (self);
}

static void
on_timer (void *arg)
{
    ws_t *self = arg;
    if (self->closing)
        ws_gone (self);
    else if (self->client)
        ws_close (self, 3005, "token has expired");
    else
        ws_close (self, 3502, "no connect in time");
}

void
ws_ask (ws_t *self)
{
    static const uint8_t empty_map [] = { 0x80 };
    if (self->client && self->client->control.size == 0)
        client_say (self->client, mp_of (empty_map, 1));
}

//  ---------------------------------------------------------------- connect

static void
set_expiry (ws_t *self)
{
    int64_t exp = self->client->session->exp;
    if (!exp) {
        ltimer_stop (self->timer);
        return;
    }
    int64_t ms = exp * 1000 - loop_wall (self->edge->loop);
    ltimer_set (self->timer, ms > 0 ? ms : 0);
}

//  Before connect there is no client to speak through.
static void
refuse (ws_t *self, const fault_t *fault)
{
    ws_close (self, fault->code == E_UNAVAILABLE ? 1013 : 3500, fault->text);
}

static void handle_all (ws_t *self, text_t bytes);

//  What had to wait.
static void
handle_early (ws_t *self)
{
    buf_t early = self->early;
    self->early = (buf_t) { 0 };
    handle_all (self, buf_text (&early));
    buf_free (&early);
}

static void
welcome (ws_t *self, const char *what)
{
    session_t *session = self->client->session;
    buf_t body = { 0 };
    int64_t ttl = session->exp ? session->exp - loop_wall (self->edge->loop) / 1000 : 0;
    mp_put_map (&body, 4);
    mp_pair_str (&body, "client", self->client->id);
    mp_pair_str (&body, "user", session->user);
    mp_pair_int (&body, "ping", PING_SECONDS);
    mp_pair_int (&body, "ttl", ttl > 0 ? ttl : 0);
    if (self->connect_id.size)
        client_answer (self->client, mp_buf (&self->connect_id), what, mp_buf (&body));
    buf_free (&body);
}

static void
on_checked (void *arg, session_t *session, const fault_t *fault)
{
    ws_t *self = arg;
    self->auth_wait = NULL;
    self->checking = false;
    if (self->closing)
        return;
    if (self->client && (!session || !client_refresh (self->client, session))) {
        client_error (self->client, mp_buf (&self->connect_id), E_UNAUTHORIZED,
                      session ? "token of another user" : fault->text);
        return;
    }
    if (!session) {
        refuse (self, fault);
        return;
    }
    bool first = !self->client;
    if (first)
        self->client = client_new (self->edge->live, session,
                                   self->msgpack ? FORMAT_MSGPACK : FORMAT_JSON,
                                   &(sink_t){ .wake = ws_wake, .closed = ws_close, .arg = self });
    set_expiry (self);
    welcome (self, first ? "connect" : "refresh");
    handle_early (self);
}

static void
check_token (ws_t *self, mp_t id, text_t token)
{
    buf_clear (&self->connect_id);
    if (!mp_is_none (id))
        mp_put (&self->connect_id, id);
    self->checking = true;
    void *wait = auth_check (self->edge->auth, token, on_checked, self);
    if (self->checking)
        self->auth_wait = wait;
}

//  ---------------------------------------------------------------- calls

static void
call_free (ws_call_t *call)
{
    *call->link = call->next;
    if (call->next)
        call->next->link = call->link;
    call->ws->call_count--;
    buf_free (&call->id);
    free (call);
}

static void
on_reply (void *arg, const bus_reply_t *reply)
{
    ws_call_t *call = arg;
    ws_t *self = call->ws;
    buf_t body = { 0 };
    if (reply->status >= 400) {
        text_t text = mp_text (mp_get (reply->body, "error"));
        mp_t outcome = mp_get (reply->meta, "outcome");
        mp_put_map (&body, mp_empty (outcome) ? 4 : 5);
        mp_pair_text (&body, "code", mp_text (mp_get (reply->body, "code")));
        mp_pair_text (&body, "message", text);
        mp_pair_int (&body, "status", (int64_t) reply->status);
        mp_pair (&body, "details", mp_get (reply->body, "details"));
        if (!mp_empty (outcome))
            mp_pair (&body, "outcome", outcome);
    }
    else {
        mp_put_map (&body, 2);
        mp_pair_int (&body, "status", (int64_t) reply->status);
        mp_pair (&body, "body", reply->body);
    }
    mp_t revoke = mp_get (reply->meta, "revoke");
    client_answer (self->client, mp_buf (&call->id), reply->status >= 400 ? "error" : "reply",
                   mp_buf (&body));
    buf_free (&body);
    call_free (call);
    if (!mp_empty (revoke))
        auth_revoke (self->edge->auth, revoke);
}

static void
command_call (ws_t *self, mp_t id, mp_t what)
{
    if (self->call_count >= CALLS_MAX) {
        client_error (self->client, id, E_RATE_LIMITED, "too many calls at once");
        return;
    }
    if (mp_type (mp_get (what, "method")) != MP_TEXT) {
        client_error (self->client, id, E_INVALID, "call.method: is required");
        return;
    }
    ws_call_t *call = xcalloc (1, sizeof *call);
    call->ws = self;
    mp_put (&call->id, id);
    call->next = self->calls;
    call->link = &self->calls;
    if (call->next)
        call->next->link = &call->next;
    self->calls = call;
    self->call_count++;
    fault_t fault = { 0 };
    call->call = edge_call (
        self->edge,
        &(edge_call_t){ .method = mp_text (mp_get (what, "method")),
                        .session = self->client->session,
                        .ip = self->conn->ip,
                        .params = mp_get (what, "params"),
                        .body = mp_get (what, "body"),
                        .idempotency_key = mp_text (mp_get (what, "idempotency_key")),
                        .request_id = mp_text (mp_get (what, "request_id")),
                        .on_reply = on_reply,
                        .arg = call },
        &fault);
    if (!call->call) {
        client_error (self->client, id, fault.code, fault.text);
        call_free (call);
    }
}

//  ---------------------------------------------------------------- commands

static void
command_subscribe (ws_t *self, mp_t id, mp_t what)
{
    mp_t off = mp_get (what, "off");
    uint64_t at = 0;
    if (mp_type (mp_get (what, "ch")) != MP_TEXT || (!mp_empty (off) && !mp_uint_get (off, &at))) {
        client_error (self->client, id, E_INVALID, "subscribe: ch must be a text, off a number");
        return;
    }
    client_subscribe (self->client,
                      &(subscribe_t){ .id = id,
                                      .channel = mp_text (mp_get (what, "ch")),
                                      .epoch = mp_text (mp_get (what, "epoch")),
                                      .has_off = !mp_empty (off),
                                      .off = at,
                                      .snapshot = mp_bool (mp_get (what, "snapshot")) });
}

static void
command (ws_t *self, mp_t object)
{
    if (mp_type (object) != MP_MAP) {
        ws_close (self, 3501, "a command is an object");
        return;
    }
    mp_t id = mp_get (object, "id"), what;
    if (!mp_is_none (what = mp_get (object, "connect"))) {
        if (self->client)
            client_error (self->client, id, E_CONFLICT, "connected already");
        else
            check_token (self, id, mp_text (mp_get (what, "token")));
    }
    else if (!self->client)
        ws_close (self, 3501, "connect comes first");
    else if (mp_count (object) == 0)
        return;                          //  {} answers our {}
    else if (!mp_is_none (what = mp_get (object, "subscribe")))
        command_subscribe (self, id, what);
    else if (!mp_is_none (what = mp_get (object, "unsubscribe")))
        client_unsubscribe (self->client, id, mp_text (mp_get (what, "ch")));
    else if (!mp_is_none (what = mp_get (object, "call")))
        command_call (self, id, what);
    else if (!mp_is_none (what = mp_get (object, "refresh")))
        check_token (self, id, mp_text (mp_get (what, "token")));
    else if (!mp_is_none (what = mp_get (object, "presence")))
        client_presence (self->client, id, mp_text (mp_get (what, "ch")));
    else if (!mp_is_none (mp_get (object, "ping")))
        client_answer (self->client, id, "pong", mp_none);
    else
        client_error (self->client, id, E_INVALID, "unknown command");
}

//  Commands of a message, already MessagePack, one behind the other.
static void
handle_all (ws_t *self, text_t bytes)
{
    const uint8_t *at = (const uint8_t *) bytes.data;
    size_t left = bytes.size;
    while (left && !self->closing) {
        //  The rest waits while a token is looked at, or until answers are gone: a message of
        //  small commands can ask for gigabytes.
        if (self->checking || self->early.size || ws_behind (self)) {
            buf_put (&self->early, at, left);
            if (self->early.size > 2 * MESSAGE_MAX)
                ws_close (self, 3501, "too much before the answers to it");
            return;
        }
        size_t size = mp_valid (at, left, MP_DEPTH);
        if (!size || (self->msgpack && !mp_plain (mp_of (at, size)))) {
            ws_close (self, 3501, "malformed message");
            return;
        }
        command (self, mp_of (at, size));
        at += size;
        left -= size;
    }
}

//  A JSON message is one object, or several, each on a line of its own.
static void
handle_json (ws_t *self, text_t text)
{
    buf_t packed = { 0 };
    char error [120];
    if (!json_read (text, &packed, error, sizeof error)) {
        buf_clear (&packed);
        while (text.size && !self->closing) {
            const char *end = memchr (text.data, '\n', text.size);
            text_t line = { text.data, end ? (size_t) (end - text.data) : text.size };
            text.data += line.size + (end != NULL);
            text.size -= line.size + (end != NULL);
            if (line.size && !json_read (line, &packed, error, sizeof error))
                ws_close (self, 3501, error);
        }
    }
    if (!self->closing)
        handle_all (self, buf_text (&packed));
    buf_free (&packed);
}

void
ws_message (ws_t *self, bool binary, text_t bytes)
{
    if (bytes.size == 0)
        return;
    if (binary != self->msgpack)
        ws_close (self, 1003, binary ? "text frames only" : "binary frames only");
    else if (binary)
        handle_all (self, bytes);
    else
        handle_json (self, bytes);
}

bool
ws_behind (const ws_t *self)
{
    return (self->client && self->client->control.size > CONTROL_MAX)
        || (self->early.size && !self->checking);
}

bool
ws_pull (ws_t *self, buf_t *out)
{
    if (!self->client || !client_pull (self->client, out, PULL_MAX))
        return false;
    if (self->early.size && !self->checking)
        handle_early (self);
    if (!self->msgpack && out->data [out->size - 1] == '\n')
        out->size--;
    return true;
}

//  ---------------------------------------------------------------- life

ws_t *
ws_new (edge_t *edge, conn_t *conn, bool msgpack)
{
    ws_t *self = xcalloc (1, sizeof *self);
    self->edge = edge;
    self->conn = conn;
    self->msgpack = msgpack;
    self->timer = loop_timer (edge->loop, on_timer, self);
    ltimer_set (self->timer, CONNECT_MS);
    edge->ws_count++;
    return self;
}

void
ws_greet (ws_t *self, text_t credential)
{
    if (credential.size)
        check_token (self, mp_none, credential);
}

void
ws_leave (ws_t *self)
{
    if (self->auth_wait)
        auth_cancel (self->edge->auth, self->auth_wait);
    self->auth_wait = NULL;
    while (self->calls) {
        bus_cancel (self->edge->bus, self->calls->call);
        call_free (self->calls);
    }
    client_free (&self->client);
    ltimer_stop (self->timer);
}

void
ws_free (ws_t **self_p)
{
    ws_t *self = *self_p;
    if (!self)
        return;
    *self_p = NULL;
    ws_leave (self);
    ltimer_end (&self->timer);
    buf_free (&self->connect_id);
    buf_free (&self->early);
    self->edge->ws_count--;
    free (self);
}
