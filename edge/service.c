//  service.c -- when libwebsockets gets to work.
//
//  Left to itself it waits in poll () with every connection there is, and looks through all of them
//  after each wait. So our loop waits, and hands over the one socket that is readable. What remains
//  are its timers and bytes that it has read already: for these it is called a few times a second,
//  or at once where somebody knows of them.

#include <poll.h>

#include "edge/edge.h"

#define TICK_MS 200                      //  its shortest timeouts are seconds

static void
on_tick (void *arg)
{
    edge_t *edge = arg;
    edge->service_due = true;
    if (edge->conn_count)
        ltimer_set (edge->tick, TICK_MS);
}

static void
service_fd (edge_t *edge, int fd, short events)
{
    struct lws_pollfd item = { .fd = fd, .events = POLLIN | POLLOUT, .revents = events };
    if (lws_service_fd (edge->context, &item) < 0)
        edge->service_due = true;
}

//  The connection may be gone afterwards.
void
service_input (conn_t *conn, uint32_t events)
{
    short found = 0;
    if (events & EPOLLIN)
        found |= POLLIN;
    if (events & EPOLLHUP)
        found |= POLLHUP;
    if (events & EPOLLERR)
        found |= POLLERR;
    service_fd (conn->edge, conn->fd, found);
}

//  After an answer libwebsockets wants to hear that the socket is writable before it reads again:
//  it always says yes, because answers are not sent by libwebsockets.
static void
on_answered (void *arg)
{
    edge_t *edge = arg;
    while (edge->answered) {
        conn_t *conn = edge->answered;
        service_forget (conn);
        service_fd (edge, conn->fd, POLLOUT);
    }
}

void
service_answered (conn_t *conn)
{
    edge_t *edge = conn->edge;
    if (conn->answered_link)
        return;
    conn->answered_next = edge->answered;
    conn->answered_link = &edge->answered;
    if (conn->answered_next)
        conn->answered_next->answered_link = &conn->answered_next;
    edge->answered = conn;
    edge->answered_hook.fn = on_answered;
    edge->answered_hook.arg = edge;
    loop_at_end (edge->loop, &edge->answered_hook);
}

void
service_forget (conn_t *conn)
{
    if (!conn->answered_link)
        return;
    *conn->answered_link = conn->answered_next;
    if (conn->answered_next)
        conn->answered_next->answered_link = conn->answered_link;
    conn->answered_link = NULL;
}

void
service_begin (edge_t *edge)
{
    if (!edge->tick)
        edge->tick = loop_timer (edge->loop, on_tick, edge);
    if (!ltimer_active (edge->tick))
        ltimer_set (edge->tick, TICK_MS);
}

bool
service_turn (edge_t *edge)
{
    loop_turn (edge->loop, -1);
    if (!edge->service_due && lws_service_adjust_timeout (edge->context, 1, 0) != 0)
        return true;
    edge->service_due = false;
    return lws_service (edge->context, -1) >= 0;
}
