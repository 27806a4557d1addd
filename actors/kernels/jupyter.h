//  jupyter.h -- one kernel spoken to with the Jupyter messaging protocol (5.3) over ZeroMQ, on the
//  loop.
//
//  The kernel binds, we connect. One execution at a time; who wants a queue keeps it. A kernel is
//  foreign code: whatever it sends is checked, counted when it makes no sense, and never believed
//  to be well-formed.

#ifndef KERNELS_JUPYTER_H
#define KERNELS_JUPYTER_H

#include "proto/loop.h"
#include "proto/mp.h"

typedef struct jupyter jupyter_t;

typedef enum {
    JUPYTER_SHELL,
    JUPYTER_IOPUB,
    JUPYTER_STDIN,
    JUPYTER_CONTROL,
    JUPYTER_CHANNELS
} jupyter_channel_t;

#define JUPYTER_ID 64        //  longest message id of ours, with NUL
#define JUPYTER_MESSAGE_MAX (64 << 20)  //  a kernel that publishes more at once loses it

//  One message of the kernel; borrowed.
typedef struct {
    jupyter_channel_t channel;
    text_t type;             //  "stream"
    text_t parent;           //  id of the request that caused it; empty: none
    mp_t content;
    size_t size;             //  bytes of the content as sent
} jupyter_message_t;

typedef struct {
    //  The handshake is done: nothing is lost from here on.
    void (*ready) (void *arg);
    //  Output of a request (iopub), or "input_request" (stdin). Busy and idle are not told.
    void (*message) (void *arg, const jupyter_message_t *message);
    //  Reply and idle of the execution have both arrived; content of the reply, `status` its status
    //  ("ok", "error", "aborted"). When the kernel dropped the request: no content, "aborted".
    void (*finished) (void *arg, text_t id, text_t status, mp_t reply);
    //  Asked before output of `size` bytes is verified and parsed: true drops it unread (a flood
    //  costs little then).
    bool (*skip) (void *arg, text_t parent, text_t type, size_t size);
    //  Output broke off (a message above JUPYTER_MESSAGE_MAX): some of it is lost, and it is
    //  listened to anew.
    void (*lost) (void *arg);
    void *arg;
} jupyter_life_t;

typedef struct {
    uint64_t received, bytes;            //  messages, and bytes of all their frames
    uint64_t malformed, forged, replayed, skipped;
    uint64_t lost_idles, lost_replies;   //  executions ended by the answer to a later request
} jupyter_stats_t;

//  The connection file for a kernel whose sockets are ipc://<prefix>-1 … -5, in the order shell,
//  iopub, stdin, control, hb.
void jupyter_connection_file (buf_t *out, const char *prefix, const char *key, const char *kernel);

jupyter_t *jupyter_new (loop_t *loop, void *zmq, text_t key, const jupyter_life_t *life);
void jupyter_destroy (jupyter_t **self_p);

//  Connect and begin the handshake; the kernel may bind later. False: an endpoint is no endpoint.
bool jupyter_connect (jupyter_t *self, const char *const endpoints [JUPYTER_CHANNELS]);

//  Id of the request (valid until the next one), NULL while another one runs or before ready.
const char *jupyter_execute (jupyter_t *self, text_t code);
//  Answer the last input_request; false when nothing is asked.
bool jupyter_input (jupyter_t *self, text_t value);
//  On control, for kernels whose spec wants interrupts as messages.
void jupyter_interrupt (jupyter_t *self);
void jupyter_shutdown (jupyter_t *self);

const jupyter_stats_t *jupyter_stats (const jupyter_t *self);

#endif
