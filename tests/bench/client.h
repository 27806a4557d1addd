//  client.h -- HTTP and WebSocket from the side of a client that must cost less than any server:
//  plain sockets to loopback, opened and greeted blocking, then read without waiting. What goes
//  wrong ends the program with a message.

#ifndef CLIENT_H
#define CLIENT_H

#include <stdint.h>

#include "proto/text.h"

typedef struct {
    int fd;
    buf_t in;                        //  bytes that came; those before `at` have been taken
    size_t at;
    bool closed;
} conn_t;

//  Print what went wrong and exit with 1.
void stop_with (const char *format, ...) __attribute__ ((format (printf, 1, 2), noreturn));

//  As many descriptors as are allowed.
void files_raise (void);

//  `window`: bytes of the receive buffer, 0: as the system likes.
void conn_open (conn_t *self, int port, int window);
void conn_send (conn_t *self, const char *data, size_t size);
//  Take what is there, at most `max` bytes. False when nothing was.
bool conn_read (conn_t *self, size_t max);
void conn_wait (conn_t *self);
void conn_close (conn_t *self);

//  One request with a token (NULL: none) and a JSON body (NULL: none).
void http_send (conn_t *self, const char *verb, const char *path, const char *token,
                const char *body);
//  A whole answer, when it is there: its status and body, borrowed until the next read; else 0.
int http_take (conn_t *self, text_t *body);

//  Become a WebSocket and say hello: each line of `hello` is one text frame, answered by an object
//  with its number as `id`. In the end it doesn't block any more. Objects that came behind the last
//  answer are taken next.
void ws_open (conn_t *self, int port, int window, const char *path, const char *hello);
void ws_send (conn_t *self, unsigned opcode, const char *data, size_t size);
//  The next whole text message, when there is one. Answers pings.
bool ws_take (conn_t *self, text_t *message);

#endif
