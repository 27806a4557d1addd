//  jupyter_line.c -- the sockets to a kernel, and output that breaks off.

#include <stdio.h>

#include "jupyter_inner.h"

#define REOPEN_AFTER 50      //  ms from losing the kernel's output to listening anew
#define MONITOR_SIZE 64      //  "inproc://", a session's id and how often it was opened

//  ---- output that breaks off ----

//  ZeroMQ ends a connection over which too large a message comes, and for good: nobody connects
//  again.
static void
s_on_monitor (void *arg)
{
    jupyter_t *self = arg;
    zmq_msg_t part;
    bool broken = false;
    zmq_msg_init (&part);
    //  Two parts: number and value of the event, address. Only the one event was asked for.
    while (zmq_msg_recv (&part, self->monitor, ZMQ_DONTWAIT) >= 0)
        broken = true;
    zmq_msg_close (&part);
    if (broken && !ltimer_active (self->reopen)) {
        ltimer_set (self->reopen, REOPEN_AFTER);
        self->life.lost (self->life.arg);
    }
}

static void
s_monitor_close (jupyter_t *self)
{
    zio_end (&self->monitor_io);
    if (self->monitor)
        zmq_close (self->monitor);
    self->monitor = NULL;
}

//  Before there is a connection, or its end may be missed. The name of a monitor that was closed is
//  free only once ZeroMQ's own thread has come by: each gets a new one.
static bool
s_monitor_open (jupyter_t *self, void *output)
{
    char name [MONITOR_SIZE];
    snprintf (name, sizeof name, "inproc://%s-%u", self->session, ++self->openings);
    if (zmq_socket_monitor (output, name, ZMQ_EVENT_DISCONNECTED) != 0)
        return false;
    self->monitor = zmq_socket (self->zmq, ZMQ_PAIR);
    if (!self->monitor || zmq_connect (self->monitor, name) != 0)
        return false;
    self->monitor_io = zio_new (self->loop, self->monitor, s_on_monitor, self);
    return true;
}

//  ---- lines ----

bool
jupyter_line_open (jupyter_t *self, jupyter_channel_t channel, const char *endpoint)
{
    line_t *line = &self->lines [channel];
    *line = (line_t) { .jupyter = self, .channel = channel };
    line->socket = zmq_socket (self->zmq, channel == JUPYTER_IOPUB ? ZMQ_SUB : ZMQ_DEALER);
    if (!line->socket)
        return false;
    int linger = 0, unlimited = 0, reconnect = 20, reconnect_max = 500;
    int64_t largest = JUPYTER_MESSAGE_MAX;
    zmq_setsockopt (line->socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt (line->socket, ZMQ_MAXMSGSIZE, &largest, sizeof largest);
    zmq_setsockopt (line->socket, ZMQ_RECONNECT_IVL, &reconnect, sizeof reconnect);
    zmq_setsockopt (line->socket, ZMQ_RECONNECT_IVL_MAX, &reconnect_max, sizeof reconnect_max);
    if (channel == JUPYTER_IOPUB) {
        //  With a limit the kernel's publisher drops silently while we are slow; what is kept is
        //  bounded above us.
        zmq_setsockopt (line->socket, ZMQ_RCVHWM, &unlimited, sizeof unlimited);
        zmq_setsockopt (line->socket, ZMQ_SUBSCRIBE, "", 0);
        if (!s_monitor_open (self, line->socket))
            return false;
    }
    else
        //  The kernel asks for input on stdin by the routing id that it saw on shell.
        zmq_setsockopt (line->socket, ZMQ_ROUTING_ID, self->session, strlen (self->session));
    if (zmq_connect (line->socket, endpoint) != 0)
        return false;
    line->io = zio_new (self->loop, line->socket, jupyter_input_came, line);
    return true;
}

static void
s_line_close (line_t *line)
{
    zio_end (&line->io);
    if (line->socket)
        zmq_close (line->socket);
    line->socket = NULL;
}

void
jupyter_lines_close (jupyter_t *self)
{
    s_monitor_close (self);
    for (size_t n = 0; n < JUPYTER_CHANNELS; n++)
        s_line_close (&self->lines [n]);
}

void
jupyter_reopen (void *arg)
{
    jupyter_t *self = arg;
    zmq_socket_monitor (self->lines [JUPYTER_IOPUB].socket, NULL, 0);
    s_monitor_close (self);
    s_line_close (&self->lines [JUPYTER_IOPUB]);
    //  Without it no cell would ever be seen to end.
    if (!jupyter_line_open (self, JUPYTER_IOPUB, self->output))
        ltimer_set (self->reopen, REOPEN_AFTER);
}
