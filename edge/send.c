//  send.c -- answers on their way to the socket.
//
//  While a request is under way libwebsockets does not read the connection (rx flow control),
//  because a pending GET with the peer's FIN or pipelined bytes behind it would spin the loop; but
//  then its h1 role does not serve POLLOUT either. So HTTP answers are sent here, straight to the
//  socket or its SSL, with an own watch when the peer is slow. WebSocket frames go the
//  same way (ws_socket.c).

#include <errno.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "edge/edge.h"

#define LINGER_MS 2000
//  More than any route takes as a body: who sends a little too much still reads why it was refused.
#define LINGER_BYTES (32 * 1024 * 1024)
//  per turn and connection, so that one download starves nobody
#define SEND_MAX (256 * 1024)

static void conn_ready (void *arg, uint32_t events);

void
conn_watch_end (conn_t *conn)
{
    watch_end (&conn->watch);
    conn->watched = 0;
}

static void
conn_watch_set (conn_t *conn, uint32_t events)
{
    conn->watched = events;
    if (conn->watch)
        watch_set (conn->watch, events);
    else
        conn->watch = loop_watch (conn->edge->loop, conn->fd, events, conn_ready, conn);
}

//  A peer that hung up is noticed whatever else is asked for.
static void
conn_watch_for (conn_t *conn, uint32_t events)
{
    conn_watch_set (conn, events | EPOLLRDHUP);
}

void
conn_watch_input (conn_t *conn)
{
    conn_watch_set (conn, EPOLLIN);
}

void
conn_watch_peer (conn_t *conn)
{
    if (!(conn->watched & EPOLLRDHUP))
        conn_watch_for (conn, 0);
}

//  What is watched changes only once there are bytes that nobody wants: most requests are answered
//  before the next one comes.
void
conn_flow (conn_t *conn, bool on)
{
    lws_rx_flow_control (conn->wsi, on);
    conn->halted = !on;
    if (on)
        conn_watch_input (conn);
}

void
conn_drop (conn_t *conn)
{
    conn_watch_end (conn);
    conn->closing = true;
    if (conn->request)
        request_free (conn->request);
    //  Not now: we may be inside a callback of this very connection.
    lws_set_timeout (conn->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
    conn->edge->service_due = true;
}

void
conn_linger (conn_t *conn)
{
    conn->closing = true;
    conn->linger_until = loop_now (conn->edge->loop) + LINGER_MS;
    conn_flow (conn, false);
    lws_set_timeout (conn->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LINGER_MS / 1000 + 1);
    if (conn->ssl)
        SSL_shutdown (conn->ssl);
    if (shutdown (conn->fd, SHUT_WR) != 0) {
        conn_drop (conn);
        return;
    }
    conn_watch_for (conn, EPOLLIN);
}

//  Closing with unread input would make the kernel send RST, which can overtake our answer.
static void
conn_discard (conn_t *conn)
{
    if (!socket_drain (conn->fd, &conn->lingered, LINGER_BYTES))
        conn_drop (conn);
}

static void
conn_ready (void *arg, uint32_t events)
{
    conn_t *conn = arg;
    if (conn->closing) {
        conn_discard (conn);
        return;
    }
    if (!conn->halted) {
        service_input (conn, events);
        return;
    }
    request_t *req = conn->request;
    if (!req || (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))) {
        //  A peer that only closed its sending half and waits for a long answer is a client that
        //  left, too.
        conn_drop (conn);
        return;
    }
    if (events & EPOLLOUT)
        request_flush (req);
    else
        conn_watch_set (conn, 0);
}

ssize_t
conn_send (conn_t *conn, const void *data, size_t size)
{
    if (!conn->ssl) {
        ssize_t sent = send (conn->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        return sent >= 0 ? sent : errno == EAGAIN || errno == EINTR ? 0 : -1;
    }
    size_t sent = 0;
    int rc = SSL_write_ex (conn->ssl, data, size < 65536 ? size : 65536, &sent);
    if (rc == 1)
        return (ssize_t) sent;
    int why = SSL_get_error (conn->ssl, rc);
    return why == SSL_ERROR_WANT_WRITE || why == SSL_ERROR_WANT_READ ? 0 : -1;
}

void
conn_send_now (conn_t *conn, text_t text)
{
    if (conn_send (conn, text.data, text.size) != (ssize_t) text.size)
        conn_drop (conn);
}

//  The answer is out: count it, then the next request or the end of the connection.
static void
request_finish (request_t *req)
{
    conn_t *conn = req->conn;
    bool close = req->close || req->broken || conn->edge->draining;
    bool broken = req->broken;
    void (*on_closed) (request_t *) = req->on_closed;
    req->on_closed = NULL;
    req->finished = true;
    if (on_closed)
        on_closed (req);
    stats_request (conn->edge->stats, req);
    request_free (req);
    if (broken)
        conn_drop (conn);
    else if (close)
        conn_linger (conn);
    else {
        conn_flow (conn, true);
        if (lws_http_transaction_completed (conn->wsi))
            conn_linger (conn);
        else
            service_answered (conn);
    }
}

void
request_flush (request_t *req)
{
    conn_t *conn = req->conn;
    size_t budget = SEND_MAX;
    while (req->out_at < req->out.size && budget) {
        size_t size = req->out.size - req->out_at;
        ssize_t sent = conn_send (conn, req->out.data + req->out_at, size < budget ? size : budget);
        if (sent < 0) {
            conn_drop (conn);
            return;
        }
        if (sent == 0)
            break;
        req->out_at += (size_t) sent;
        req->out_total += (uint64_t) sent;
        budget -= (size_t) sent < budget ? (size_t) sent : budget;
        req->moved = loop_now (conn->edge->loop);
    }
    if (req->out_at < req->out.size) {
        conn_watch_for (conn, EPOLLOUT);
        return;
    }
    buf_clear (&req->out);
    req->out_at = 0;
    if (req->state == STATE_STREAM && !req->stream_end) {
        conn_watch_for (conn, 0);
        if (req->on_drained)
            req->on_drained (req);
        return;
    }
    request_finish (req);
}

//  ---------------------------------------------------------------- streams: all that a turn gave,
//  in one write

static void
soon_flush (void *arg)
{
    edge_t *edge = arg;
    while (edge->soon) {
        request_t *req = edge->soon;
        edge->soon = req->soon_next;
        req->soon = false;
        request_flush (req);
    }
}

void
request_soon (request_t *req)
{
    edge_t *edge = req->edge;
    if (req->soon)
        return;
    req->soon = true;
    req->soon_next = edge->soon;
    edge->soon = req;
    edge->soon_hook.fn = soon_flush;
    edge->soon_hook.arg = edge;
    loop_at_end (edge->loop, &edge->soon_hook);
}

void
request_soon_forget (request_t *req)
{
    if (!req->soon)
        return;
    for (request_t **at = &req->edge->soon; *at; at = &(*at)->soon_next)
        if (*at == req) {
            *at = req->soon_next;
            break;
        }
    req->soon = false;
}
