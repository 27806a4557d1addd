//  ws.h -- one WebSocket: what it says (ws.c), and its socket (ws_socket.c).

#ifndef WS_H
#define WS_H

#include "edge/frame.h"
#include "edge/live.h"

#define MESSAGE_MAX (1024 * 1024)        //  one message from a client, all its fragments together
#define PULL_MAX (64 * 1024)             //  of one frame to a client
#define PING_SECONDS 25

typedef struct ws_call ws_call_t;

struct ws {
    edge_t *edge;
    conn_t *conn;
    client_t *client;                    //  NULL before connect
    bool msgpack, closing, checking;
    unsigned close_code;
    char close_reason [124];             //  as long as a close frame allows
    void *auth_wait;
    buf_t connect_id;                    //  id of the connect or refresh under way
    buf_t early;                         //  commands behind a connect that is being checked
    ltimer_t *timer;                     //  time to connect, later the session's end, then ours
    ws_call_t *calls;
    unsigned call_count;
    struct ws_socket *socket;            //  ws_socket.c's own
};

//  ---- ws.c, which knows no socket

ws_t *ws_new (edge_t *edge, conn_t *conn, bool msgpack);
//  Ends what is under way; nothing comes back any more.
void ws_leave (ws_t *self);
void ws_free (ws_t **self_p);
//  A credential that came with the upgrade (Authorization or ?ticket=) connects without a connect
//  command.
void ws_greet (ws_t *self, text_t credential);
//  A whole message of the client.
void ws_message (ws_t *self, bool binary, text_t bytes);
//  It asks faster than it reads: nothing more is to be read from it.
bool ws_behind (const ws_t *self);
//  Append the next message to the client; false: nothing to say now.
bool ws_pull (ws_t *self, buf_t *out);
//  {} asks for {}. Whether the peer lives is found out by pings of WebSocket's own; this one is for
//  pages, which don't see those.
void ws_ask (ws_t *self);
//  Say good-bye, after what is still to be said. Arguments as a client's sink has them.
void ws_close (void *self, unsigned code, const char *reason);

//  ---- ws_socket.c

//  There is something to pull, or the end to be told.
void ws_wake (void *self);
//  No good-bye: the connection ends.
void ws_gone (ws_t *self);

#endif
