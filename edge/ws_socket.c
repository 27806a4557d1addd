//  ws_socket.c -- the socket of a WebSocket: its handshake, frames in, frames out, pings, the end.
//
//  libwebsockets answers the upgrade and keeps the descriptor; it reads and writes nothing behind
//  that. Its own frames need no mask, drop pings that come together, and go on behind a mistake.

#include <errno.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "edge/ws.h"

//  per turn and connection, so that nobody starves
#define READ_MAX (256 * 1024)
#define SEND_MAX (256 * 1024)
#define PONGS_MAX (64 * 1024)            //  that wait; beyond it the client's input waits, too
#define ANSWER_SECONDS 10                //  for anything, after a ping
#define CONFIRM_ASKS 32                  //  libwebsockets would wait for an hour
#define HEAD_ROOM 10                     //  of our frames

typedef struct ws_socket {
    ws_t *ws;
    conn_t *conn;
    edge_t *edge;
    frames_t frames;
    buf_t out;                           //  whole frames that the socket did not take yet
    size_t out_at;
    bool told, gone;                     //  close frame is in `out`; nothing is read or written
    bool halted, pinged, answered;       //  answered: something has come since the ping
    unsigned asks;
    int64_t heard;                       //  loop_now of the last byte
    watch_t *watch;
    ltimer_t *ping;
    hook_t hook;                         //  writes at the end of the turn
} ws_socket_t;

const char *const ws_subprotocols [] = { "busbar.v1.json", "busbar.v1.msgpack", NULL };

static void s_flush (void *arg);

bool
ws_path (text_t path)
{
    return text_is (path, "/ws") || text_is (path, "/api/v1/ws");
}

void
ws_wake (void *arg)
{
    ws_socket_t *self = ((ws_t *) arg)->socket;
    if (!self->gone)
        loop_at_end (self->edge->loop, &self->hook);
}

//  Nothing is read or written any more; conn_drop or conn_linger follows, and frees us later.
static void
s_leave (ws_socket_t *self)
{
    self->gone = true;
    self->ws->closing = true;
    watch_end (&self->watch);
    ltimer_stop (self->ping);
    loop_forget (self->edge->loop, &self->hook);
    ws_leave (self->ws);
}

void
ws_gone (ws_t *ws)
{
    ws_socket_t *self = ws->socket;
    if (self->gone)
        return;
    s_leave (self);
    conn_drop (self->conn);
}

//  ---------------------------------------------------------------- reading

static bool
s_on_message (void *arg, bool binary, text_t bytes)
{
    ws_socket_t *self = arg;
    ws_message (self->ws, binary, bytes);
    return !self->ws->closing;
}

static bool
s_on_control (void *arg, unsigned opcode, text_t bytes)
{
    ws_socket_t *self = arg;
    if (opcode == FRAME_PING)
        frame_control (&self->out, FRAME_PONG, bytes);
    else if (opcode == FRAME_CLOSE) {
        const uint8_t *code = (const uint8_t *) bytes.data;
        ws_close (self->ws, bytes.size ? (unsigned) (code [0] << 8 | code [1]) : 1000, "");
    }
    ws_wake (self->ws);
    return !self->ws->closing;
}

static bool
s_halted (const ws_socket_t *self)
{
    return ws_behind (self->ws) || self->out.size - self->out_at > PONGS_MAX;
}

//  Bytes read; 0: none now; -1: the connection is at its end.
static ssize_t
s_recv (const conn_t *conn, void *bytes, size_t room)
{
    if (!conn->ssl) {
        ssize_t size = recv (conn->fd, bytes, room, MSG_DONTWAIT);
        return size > 0 ? size : size < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
    }
    size_t size = 0;
    int rc = SSL_read_ex (conn->ssl, bytes, room, &size);
    if (rc == 1)
        return (ssize_t) size;
    int why = SSL_get_error (conn->ssl, rc);
    return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static void
s_read (ws_socket_t *self)
{
    static const frame_calls_t calls = { s_on_message, s_on_control };
    static uint8_t s_bytes [65536];
    size_t total = 0;
    //  What SSL has already taken out of the socket is announced by nobody.
    while (!self->ws->closing && !self->halted
           && (total < READ_MAX || (self->conn->ssl && SSL_pending (self->conn->ssl)))) {
        ssize_t size = s_recv (self->conn, s_bytes, sizeof s_bytes);
        if (size < 0) {
            ws_gone (self->ws);
            return;
        }
        if (size == 0)
            return;
        total += (size_t) size;
        self->heard = loop_now (self->edge->loop);
        self->answered = true;
        const char *why = "";
        unsigned code = frames_take (&self->frames, s_bytes, (size_t) size, &calls, self, &why);
        if (code)
            ws_close (self->ws, code, why);
        self->halted = s_halted (self);
    }
}

//  ---------------------------------------------------------------- writing

//  The next frames into `out`, which is empty. False: nothing to say now.
static bool
s_fill (ws_socket_t *self)
{
    if (self->told)
        return false;
    buf_clear (&self->out);
    buf_room (&self->out, HEAD_ROOM);
    self->out.size = HEAD_ROOM;
    if (ws_pull (self->ws, &self->out)) {
        unsigned opcode = self->ws->msgpack ? FRAME_BINARY : FRAME_TEXT;
        self->out_at = HEAD_ROOM
            - frame_head (self->out.data + HEAD_ROOM, opcode, self->out.size - HEAD_ROOM);
        return true;
    }
    buf_clear (&self->out);
    self->out_at = 0;
    if (!self->ws->closing)
        return false;
    frame_close (&self->out, self->ws->close_code, self->ws->close_reason);
    self->told = true;
    return true;
}

static void
s_watch (ws_socket_t *self, bool blocked)
{
    bool reads = !self->ws->closing && !self->halted;
    //  With nothing asked for it would not be watched at all; the end is told always.
    watch_set (self->watch, EPOLLHUP | (reads ? EPOLLIN : 0u) | (blocked ? EPOLLOUT : 0u));
}

static void
s_flush (void *arg)
{
    ws_socket_t *self = arg;
    size_t budget = SEND_MAX;
    bool more = true;
    while (budget && (self->out_at < self->out.size || (more = s_fill (self)))) {
        size_t size = self->out.size - self->out_at;
        ssize_t sent = conn_send (self->conn, self->out.data + self->out_at, size);
        if (sent < 0) {
            ws_gone (self->ws);
            return;
        }
        self->out_at += (size_t) sent;
        budget -= (size_t) sent < budget ? (size_t) sent : budget;
        if ((size_t) sent < size)
            break;
    }
    if (!more) {
        buf_free (&self->out);
        self->out_at = 0;
        if (self->told) {
            s_leave (self);
            conn_linger (self->conn);
            return;
        }
    }
    bool halted = self->halted;
    self->halted = s_halted (self);
    s_watch (self, more);
    if (halted && !self->halted)
        s_read (self);
}

static void
s_ready (void *arg, uint32_t events)
{
    ws_socket_t *self = arg;
    if (events & EPOLLIN)
        s_read (self);
    else if (events & (EPOLLHUP | EPOLLERR))
        ws_gone (self->ws);
    if (!self->gone && events & EPOLLOUT)
        s_flush (self);
}

//  ---------------------------------------------------------------- life

//  Who says nothing is asked, and who does not answer has gone.
static void
s_on_ping (void *arg)
{
    ws_socket_t *self = arg;
    int64_t silent = loop_now (self->edge->loop) - self->heard;
    bool asked = self->pinged;
    if (asked && !self->answered) {
        ws_gone (self->ws);
        return;
    }
    self->pinged = !asked && silent >= ANSWER_SECONDS * 1000;
    self->answered = false;
    //  Its timers are one sorted list, which this walks through.
    if (++self->asks % CONFIRM_ASKS == 0)
        lws_validity_confirmed (self->conn->wsi);
    if (self->pinged)
        frame_control (&self->out, FRAME_PING, TEXT (""));
    if (!asked)
        ws_ask (self->ws);
    ws_wake (self->ws);
    ltimer_set (self->ping, (self->pinged ? ANSWER_SECONDS : PING_SECONDS) * 1000);
}

static void
s_open (conn_t *conn)
{
    const struct lws_protocols *protocol = lws_get_protocol (conn->wsi);
    bool msgpack = protocol && protocol->name && strcmp (protocol->name, ws_subprotocols [1]) == 0;
    ws_socket_t *self = xcalloc (1, sizeof *self);
    self->ws = ws_new (conn->edge, conn, msgpack);
    self->ws->socket = self;
    self->conn = conn;
    self->edge = conn->edge;
    self->frames.max = MESSAGE_MAX;
    self->heard = loop_now (conn->edge->loop);
    self->hook = (hook_t) { .fn = s_flush, .arg = self };
    self->ping = loop_timer (conn->edge->loop, s_on_ping, self);
    ltimer_set (self->ping, PING_SECONDS * 1000);
    conn->ws = self->ws;
    lws_rx_flow_control (conn->wsi, 0);
    conn_watch_end (conn);
    self->watch = loop_watch (conn->edge->loop, conn->fd, EPOLLIN | EPOLLHUP, s_ready, self);
}

static void
s_closed (conn_t *conn)
{
    ws_t *ws = conn->ws;
    if (!ws)
        return;
    ws_socket_t *self = ws->socket;
    conn->ws = NULL;
    conn_watch_end (conn);
    if (!self->gone)
        s_leave (self);
    ws_free (&ws);
    frames_free (&self->frames);
    buf_free (&self->out);
    ltimer_end (&self->ping);
    free (self);
}

//  What libwebsockets takes as it comes.
static bool
s_handshake_good (conn_t *conn)
{
    char text [64];
    buf_t key = { 0 };
    bool good = conn_header (conn, WSI_TOKEN_VERSION, text, sizeof text) && strcmp (text, "13") == 0
        && conn_header (conn, WSI_TOKEN_KEY, text, sizeof text)
        && base64_get (&key, text_of (text), false) && key.size == 16
        && conn_header (conn, WSI_TOKEN_HTTP, text, sizeof text)
        && strcmp (text, "HTTP/1.1") == 0 && lws_hdr_total_length (conn->wsi, WSI_TOKEN_HOST) > 0;
    buf_free (&key);
    if (!good)
        conn_send_now (conn, TEXT ("HTTP/1.1 400 Bad Request\r\nSec-WebSocket-Version: 13\r\n"
                                   "Content-Length: 0\r\nConnection: close\r\n\r\n"));
    return good;
}

static bool
s_origin_good (conn_t *conn)
{
    char origin [256];
    if (lws_hdr_total_length (conn->wsi, WSI_TOKEN_ORIGIN) <= 0)
        return true;                     //  no browser
    return conn_header (conn, WSI_TOKEN_ORIGIN, origin, sizeof origin)
           && origin_allowed (conn->edge, text_of (origin));
}

static void
s_established (conn_t *conn)
{
    static char header [TOKEN_MAX + 16];
    buf_t query = { 0 };
    s_open (conn);
    //  Headers of the upgrade are still there in this callback.
    text_t ticket = conn_query_read (conn, &query) ? query_get (buf_text (&query), "ticket")
                                                   : (text_t){ NULL, 0 };
    if (ticket.data) {
        if (credential_is_ticket (ticket))
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
    (void) in;
    (void) size;
    switch (reason) {
        case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
            return s_handshake_good (conn) && s_origin_good (conn) ? 0 : 1;
        case LWS_CALLBACK_ESTABLISHED:
            s_established (conn);
            return 0;
        //  Nobody asked for it but bytes that came before the upgrade was answered, out of our
        //  reach.
        case LWS_CALLBACK_SERVER_WRITEABLE:
            if (conn->ws)
                ws_close (conn->ws, 1002, "nothing may come before the handshake is answered");
            return 0;
        case LWS_CALLBACK_CLOSED:
            s_closed (conn);
            return 0;
        default:
            return 0;
    }
}
