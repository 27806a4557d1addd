//  frame.h -- frames of RFC 6455, without any socket: bytes of a client to messages, and the heads
//  of our own frames. No extensions.

#ifndef FRAME_H
#define FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/text.h"

enum { FRAME_CONTINUATION, FRAME_TEXT, FRAME_BINARY, FRAME_CLOSE = 8, FRAME_PING, FRAME_PONG };

#define FRAME_HEAD_MAX 14                //  of a client's frame; ours have no mask
#define FRAME_CONTROL_MAX 125

//  Reading state; zeroed at first, but for `max`. Free with frames_free.
typedef struct {
    size_t max;                          //  bytes of a message
    buf_t message;                       //  fragments so far
    bool open;                           //  a message began and has not ended
    bool binary;
    uint8_t head [FRAME_HEAD_MAX], head_size;
    bool inside;                         //  the head is whole, `left` bytes are still to come
    uint64_t left;
    unsigned mask_at;
    uint8_t control [FRAME_CONTROL_MAX], control_size;
    //  a character under way: bytes to come, bounds of the next one
    uint8_t more, low, high;
} frames_t;

//  Either may end the reading: the rest of the bytes is not looked at when false comes back.
typedef struct {
    bool (*message) (void *arg, bool binary, text_t bytes);
    bool (*control) (void *arg, unsigned opcode, text_t bytes);      //  a close is a sound one
} frame_calls_t;

//  Take bytes as they come; they are changed. 0, or the close code of a mistake, of which *why
//  tells: nothing more may be taken then.
unsigned frames_take (frames_t *self, uint8_t *bytes, size_t size, const frame_calls_t *calls,
                      void *arg, const char **why);
void frames_free (frames_t *self);

//  The head of a whole frame of ours, right before `at`. Its size.
size_t frame_head (uint8_t *at, unsigned opcode, size_t size);
//  Append a control frame.
void frame_control (buf_t *out, unsigned opcode, text_t bytes);
void frame_close (buf_t *out, unsigned code, const char *reason);

#endif
