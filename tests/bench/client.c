//  client.c -- see client.h.

#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_MS 30000
#define READ_MAX (64 * 1024)

enum { WS_TEXT = 1, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

void
stop_with (const char *format, ...)
{
    va_list arguments;
    va_start (arguments, format);
    vfprintf (stderr, format, arguments);
    va_end (arguments);
    fputc ('\n', stderr);
    exit (1);
}

void
files_raise (void)
{
    struct rlimit limit;
    if (getrlimit (RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit (RLIMIT_NOFILE, &limit);
    }
}

//  ---------------------------------------------------------------- bytes

void
conn_open (conn_t *self, int port, int window)
{
    int one = 1;
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons ((uint16_t) port),
                                   .sin_addr.s_addr = htonl (INADDR_LOOPBACK) };
    *self = (conn_t) { .fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
    if (self->fd < 0)
        stop_with ("socket: %s", strerror (errno));
    if (window)
        setsockopt (self->fd, SOL_SOCKET, SO_RCVBUF, &window, sizeof window);
    setsockopt (self->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect (self->fd, (struct sockaddr *) &address, sizeof address))
        stop_with ("connect to port %d: %s", port, strerror (errno));
}

void
conn_send (conn_t *self, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t sent = send (self->fd, data, size, MSG_NOSIGNAL);
        if (sent < 0)
            stop_with ("send: %s", strerror (errno));
        data += sent;
        size -= (size_t) sent;
    }
}

bool
conn_read (conn_t *self, size_t max)
{
    if (self->at == self->in.size) {
        buf_clear (&self->in);
        self->at = 0;
    }
    else if (self->at > READ_MAX) {
        self->in.size -= self->at;
        memmove (self->in.data, self->in.data + self->at, self->in.size);
        self->at = 0;
    }
    static char bytes [READ_MAX];
    ssize_t got = recv (self->fd, bytes, max < READ_MAX ? max : READ_MAX, MSG_DONTWAIT);
    if (got > 0)
        buf_put (&self->in, bytes, (size_t) got);
    else if (got == 0 || (errno != EAGAIN && errno != EINTR))
        self->closed = true;
    return got > 0;
}

void
conn_wait (conn_t *self)
{
    struct pollfd ready = { .fd = self->fd, .events = POLLIN };
    if (poll (&ready, 1, PATIENCE_MS) != 1)
        stop_with ("no answer in %d s", PATIENCE_MS / 1000);
    if (!conn_read (self, READ_MAX) && self->closed)
        stop_with ("the server closed a connection");
}

void
conn_close (conn_t *self)
{
    close (self->fd);
    buf_free (&self->in);
}

static text_t
conn_rest (const conn_t *self)
{
    return (text_t) { (const char *) self->in.data + self->at, self->in.size - self->at };
}

//  ---------------------------------------------------------------- HTTP

void
http_send (conn_t *self, const char *verb, const char *path, const char *token, const char *body)
{
    static buf_t out;
    buf_clear (&out);
    buf_putf (&out, "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\n", verb, path);
    if (token)
        buf_putf (&out, "Authorization: Bearer %s\r\n", token);
    if (body)
        buf_putf (&out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen (body));
    buf_puts (&out, "\r\n");
    if (body)
        buf_puts (&out, body);
    conn_send (self, (const char *) out.data, out.size);
}

//  Where the header ends, behind its empty line; 0 when it hasn't come whole.
static size_t
header_size (text_t text)
{
    const char *end = text.size ? memmem (text.data, text.size, "\r\n\r\n", 4) : NULL;
    return end ? (size_t) (end - text.data) + 4 : 0;
}

static size_t
content_length (text_t header)
{
    for (size_t at = 0; at + 16 < header.size; at++)
        if (header.data [at] == '\n'
            && strncasecmp (header.data + at + 1, "content-length:", 15) == 0)
            return strtoul (header.data + at + 16, NULL, 10);
    stop_with ("an answer without content-length");
}

int
http_take (conn_t *self, text_t *body)
{
    text_t rest = conn_rest (self);
    size_t header = header_size (rest);
    if (header < 16)
        return 0;
    size_t size = content_length ((text_t) { rest.data, header });
    if (rest.size < header + size)
        return 0;
    *body = (text_t) { rest.data + header, size };
    self->at += header + size;
    return atoi (rest.data + 9);
}

//  ---------------------------------------------------------------- WebSocket

//  Masked with zeros: as good as any other mask to a server, and free.
void
ws_send (conn_t *self, unsigned opcode, const char *data, size_t size)
{
    static buf_t out;
    buf_clear (&out);
    unsigned char head [8] = { (unsigned char) (0x80 | opcode), 0x80 };
    size_t head_size = 2;
    if (size < 126)
        head [1] |= (unsigned char) size;
    else {
        head [1] |= 126;
        head [2] = (unsigned char) (size >> 8);
        head [3] = (unsigned char) size;
        head_size = 4;
    }
    buf_put (&out, head, head_size);
    buf_put (&out, "\0\0\0\0", 4);
    buf_put (&out, data, size);
    conn_send (self, (const char *) out.data, out.size);
}

//  One frame of at most 4 GiB, when it is whole.
static bool
frame_take (conn_t *self, unsigned *opcode, text_t *payload)
{
    text_t rest = conn_rest (self);
    const unsigned char *head = (const unsigned char *) rest.data;
    if (rest.size < 2)
        return false;
    size_t size = head [1] & 127, begin = size == 126 ? 4 : size == 127 ? 10 : 2;
    if (rest.size < begin)
        return false;
    if (size >= 126) {
        size = 0;
        for (size_t n = 2; n < begin; n++)
            size = size << 8 | head [n];
    }
    if (rest.size < begin + size)
        return false;
    if (!(head [0] & 0x80))
        stop_with ("a fragmented message");
    *opcode = head [0] & 15;
    *payload = (text_t) { rest.data + begin, size };
    self->at += begin + size;
    return true;
}

bool
ws_take (conn_t *self, text_t *message)
{
    unsigned opcode;
    while (frame_take (self, &opcode, message)) {
        if (opcode == WS_TEXT)
            return true;
        if (opcode == WS_PING)
            ws_send (self, WS_PONG, message->data, message->size);
        else if (opcode == WS_CLOSE && message->size >= 2)
            stop_with ("the server closed a WebSocket: %u %.*s",
                       (unsigned) ((message->data [0] & 255) << 8 | (message->data [1] & 255)),
                       (int) message->size - 2, message->data + 2);
        else if (opcode == WS_CLOSE)
            stop_with ("the server closed a WebSocket");
    }
    return false;
}

static void
ws_answer (conn_t *self, int id)
{
    char wanted [24];
    int size = snprintf (wanted, sizeof wanted, "\"id\":%d,", id);
    for (text_t message;;) {
        if (ws_take (self, &message)) {
            if (memmem (message.data, message.size, "\"error\"", 7))
                stop_with ("refused: %.*s", (int) message.size, message.data);
            if (memmem (message.data, message.size, wanted, (size_t) size))
                return;
        }
        else
            conn_wait (self);
    }
}

void
ws_open (conn_t *self, int port, int window, const char *path, const char *hello)
{
    char request [300];
    conn_open (self, port, window);
    int size = snprintf (request, sizeof request,
                         "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                         "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                         "Sec-WebSocket-Protocol: busbar.v1.json\r\n\r\n", path);
    conn_send (self, request, (size_t) size);
    size_t header;
    while ((header = header_size (conn_rest (self))) == 0)
        conn_wait (self);
    text_t answer = conn_rest (self);
    if (strncmp (answer.data + 9, "101", 3) != 0)
        stop_with ("no WebSocket: %.40s", answer.data);
    self->at = header;
    int id = 0;
    while (*hello) {
        size_t line = strcspn (hello, "\n");
        ws_send (self, WS_TEXT, hello, line);
        ws_answer (self, ++id);
        hello += line + (hello [line] == '\n');
    }
}
