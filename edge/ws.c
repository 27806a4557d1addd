//  ws.c -- WebSocket: the live protocol (PROTOCOL.md, part "WebSocket") as JSON text or MessagePack
//  frames.

#include <stdlib.h>

#include "live.h"

#define MESSAGE_MAX (1024 * 1024)        //  one message from a client, all its fragments together
#define PULL_MAX (64 * 1024)             //  of one frame to a client
#define CONTROL_MAX (1024 * 1024)  //  answers that wait; beyond it the client's input waits too
#define CALLS_MAX 64                     //  calls in flight of one client
#define CONNECT_MS 15000                 //  time to say connect
#define PING_SECONDS 25

typedef struct ws_call ws_call_t;

struct ws {
    edge_t *edge;
    conn_t *conn;
    client_t *client;                    //  NULL before connect
    bool msgpack, closing, checking, halted;
    unsigned close_code;
    char close_reason [124];         //  as long as a close frame allows
    void *auth_wait;
    buf_t connect_id;                    //  id of the connect or refresh under way
    bool refreshing;
    buf_t in;                            //  message being assembled
    buf_t early;                         //  commands behind a connect that is being checked
    buf_t out;                           //  LWS_PRE, then a frame
    ltimer_t *timer;                     //  time to connect, later the session's end
    ltimer_t *ping;
    ws_call_t *calls;
    unsigned call_count;
};

struct ws_call {
    ws_t *ws;
    ws_call_t *next, **link;
    buf_t id;
    uint64_t call;
};

const char *const ws_subprotocols [] = { "busbar.v1.json", "busbar.v1.msgpack", NULL };

bool
ws_path (text_t path)
{
    return text_is (path, "/ws") || text_is (path, "/api/v1/ws");
}

static void
ws_wake (void *arg)
{
    ws_t *self = arg;
    if (!self->closing)
        lws_callback_on_writable (self->conn->wsi);
}

static void
ws_close (void *arg, unsigned code, const char *reason)
{
    ws_t *self = arg;
    if (self->closing)
        return;
    self->closing = true;
    self->close_code = code;
    snprintf (self->close_reason, sizeof self->close_reason, "%.120s", reason);
    lws_callback_on_writable (self->conn->wsi);
}

static void
on_timer (void *arg)
{
    ws_t *self = arg;
    if (self->client)
        ws_close (self, 3005, "token has expired");
    else
        ws_close (self, 3502, "no connect in time");
}

//  {} asks for {}. Whether the peer lives is found out by WebSocket pings; this one is for pages,
//  which don't see those.
static void
on_ping (void *arg)
{
    static const uint8_t empty_map [] = { 0x80 };
    ws_t *self = arg;
    if (self->client->control.size == 0)
        client_say (self->client, mp_of (empty_map, 1));
    ltimer_set (self->ping, PING_SECONDS * 1000);
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
    ltimer_set (self->ping, PING_SECONDS * 1000);
    welcome (self, first ? "connect" : "refresh");
    buf_t early = self->early;
    self->early = (buf_t) { 0 };
    handle_all (self, buf_text (&early));
    buf_free (&early);
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
        if (self->checking) {            //  a token is being looked at: the rest waits for it
            buf_put (&self->early, at, left);
            if (self->early.size > MESSAGE_MAX)
                ws_close (self, 3501, "too much before connect was answered");
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

static void
receive (ws_t *self, const void *in, size_t size)
{
    struct lws *wsi = self->conn->wsi;
    if (self->closing)
        return;
    if (self->in.size + size > MESSAGE_MAX) {
        ws_close (self, 1009, "message is too large");
        return;
    }
    buf_put (&self->in, in, size);
    if (!lws_is_final_fragment (wsi) || lws_remaining_packet_payload (wsi))
        return;
    bool binary = lws_frame_is_binary (wsi);
    buf_t message = self->in;
    self->in = (buf_t) { 0 };
    if (binary != self->msgpack)
        ws_close (self, 1003, binary ? "text frames only" : "binary frames only");
    else if (binary)
        handle_all (self, buf_text (&message));
    else
        handle_json (self, buf_text (&message));
    buf_free (&message);
    if (self->client && self->client->control.size > CONTROL_MAX && !self->halted) {
        self->halted = true;             //  it asks faster than it reads
        lws_rx_flow_control (wsi, 0);
    }
}

//  ---------------------------------------------------------------- writing

static int
writeable (ws_t *self)
{
    struct lws *wsi = self->conn->wsi;
    if (self->client && !lws_partial_buffered (wsi)) {
        buf_clear (&self->out);
        buf_room (&self->out, LWS_PRE);
        self->out.size = LWS_PRE;
        if (client_pull (self->client, &self->out, PULL_MAX)) {
            if (!self->msgpack && self->out.data [self->out.size - 1] == '\n')
                self->out.size--;
            size_t size = self->out.size - LWS_PRE;
            if (lws_write (wsi, self->out.data + LWS_PRE, size,
                           self->msgpack ? LWS_WRITE_BINARY : LWS_WRITE_TEXT)
                < (int) size)
                return -1;
            if (self->halted && self->client->control.size == 0) {
                self->halted = false;
                lws_rx_flow_control (wsi, 1);
            }
            lws_callback_on_writable (wsi);      //  more may wait; the next turn finds out
            return 0;
        }
    }
    if (self->closing) {
        //  1004–2999 are not ours to send but for those the standard names
        lws_close_reason (wsi, (enum lws_close_status) self->close_code,
                          (unsigned char *) self->close_reason, strlen (self->close_reason));
        return -1;
    }
    return 0;
}

//  ---------------------------------------------------------------- life

static bool
origin_good (conn_t *conn)
{
    char origin [256];
    if (lws_hdr_total_length (conn->wsi, WSI_TOKEN_ORIGIN) <= 0)
        return true;                     //  no browser
    return conn_header (conn, WSI_TOKEN_ORIGIN, origin, sizeof origin)
           && origin_allowed (conn->edge, text_of (origin));
}

static void
ws_open (conn_t *conn)
{
    ws_t *self = xcalloc (1, sizeof *self);
    self->edge = conn->edge;
    self->conn = conn;
    const struct lws_protocols *protocol = lws_get_protocol (conn->wsi);
    self->msgpack = protocol && protocol->name && strcmp (protocol->name, ws_subprotocols [1]) == 0;
    self->timer = loop_timer (self->edge->loop, on_timer, self);
    self->ping = loop_timer (self->edge->loop, on_ping, self);
    ltimer_set (self->timer, CONNECT_MS);
    conn->ws = self;
    self->edge->ws_count++;
}

//  A credential that came with the upgrade (Authorization or ?ticket=) connects without a connect
//  command.
static void
ws_greet (ws_t *self, text_t credential)
{
    if (credential.size)
        check_token (self, mp_none, credential);
}

static void
ws_free (conn_t *conn)
{
    ws_t *self = conn->ws;
    conn->ws = NULL;
    if (!self)
        return;
    if (self->auth_wait)
        auth_cancel (self->edge->auth, self->auth_wait);
    while (self->calls) {
        bus_cancel (self->edge->bus, self->calls->call);
        call_free (self->calls);
    }
    client_free (&self->client);
    ltimer_end (&self->timer);
    ltimer_end (&self->ping);
    buf_free (&self->connect_id);
    buf_free (&self->in);
    buf_free (&self->early);
    buf_free (&self->out);
    self->edge->ws_count--;
    free (self);
}

static void
established (conn_t *conn)
{
    static char header [TOKEN_MAX + 16];
    buf_t query = { 0 };
    ws_open (conn);
    //  Headers of the upgrade are still there in this callback.
    text_t ticket = conn_query_read (conn, &query) ? query_get (buf_text (&query), "ticket")
                                                   : (text_t){ NULL, 0 };
    if (ticket.data) {
        if (text_starts (ticket, "bt_"))
            ws_greet (conn->ws, ticket);
        else
            ws_close (conn->ws, 3500, "ticket is unknown, used or too old");
    }
    else if (conn_header (conn, WSI_TOKEN_HTTP_AUTHORIZATION, header, sizeof header)
             && strncasecmp (header, "Bearer ", 7) == 0)
        ws_greet (conn->ws, text_of (header + 7));
    buf_free (&query);
}

int
ws_callback (conn_t *conn, enum lws_callback_reasons reason, void *in, size_t size)
{
    switch (reason) {
        case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
            return origin_good (conn) ? 0 : 1;
        case LWS_CALLBACK_ESTABLISHED:
            established (conn);
            return 0;
        case LWS_CALLBACK_RECEIVE:
            if (conn->ws)
                receive (conn->ws, in, size);
            return 0;
        case LWS_CALLBACK_SERVER_WRITEABLE:
            return conn->ws ? writeable (conn->ws) : 0;
        case LWS_CALLBACK_CLOSED:
            ws_free (conn);
            return 0;
        default:
            return 0;
    }
}
