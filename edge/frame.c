//  frame.c -- frames of RFC 6455, strictly.

#include <string.h>

#include "edge/frame.h"

enum { PROTOCOL = 1002, NO_TEXT = 1007, TOO_LARGE = 1009 };

//  Kept between messages; more goes back.
#define KEEP_MAX 4096

void
frames_free (frames_t *self)
{
    buf_free (&self->message);
}

//  ---- texts ----

//  Goes on where the last fragment ended, perhaps inside of a character.
static bool
s_utf8 (frames_t *self, const uint8_t *at, size_t size)
{
    const uint8_t *end = at + size;
    while (at < end) {
        if (self->more) {
            if (*at < self->low || *at > self->high)
                return false;
            self->more--;
            self->low = 0x80;
            self->high = 0xbf;
            at++;
            continue;
        }
        uint64_t eight;
        while (end - at >= 8 && (memcpy (&eight, at, 8), !(eight & 0x8080808080808080u)))
            at += 8;
        if (at == end)
            break;
        uint8_t byte = *at++;
        if (byte < 0x80)
            continue;
        if (byte < 0xc2 || byte > 0xf4)
            return false;
        self->more = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
        //  No second spelling, no surrogates, nothing beyond U+10FFFF.
        self->low = byte == 0xe0 ? 0xa0 : byte == 0xf0 ? 0x90 : 0x80;
        self->high = byte == 0xed ? 0x9f : byte == 0xf4 ? 0x8f : 0xbf;
    }
    return true;
}

//  ---- heads ----

static unsigned
s_wrong (const char **why, unsigned code, const char *text)
{
    *why = text;
    return code;
}

static size_t
s_head_need (const frames_t *self)
{
    if (self->head_size < 2)
        return 2;
    unsigned size = self->head [1] & 0x7f;
    return size == 127 ? 14 : size == 126 ? 8 : 6;
}

//  What the first two bytes say.
static unsigned
s_head_begun (const frames_t *self, const char **why)
{
    unsigned opcode = self->head [0] & 0x0f;
    bool final = self->head [0] & 0x80;
    if (self->head [0] & 0x70)
        return s_wrong (why, PROTOCOL, "reserved bit");
    if (!(self->head [1] & 0x80))
        return s_wrong (why, PROTOCOL, "frame without a mask");
    if (opcode >= FRAME_CLOSE) {
        if (opcode > FRAME_PONG)
            return s_wrong (why, PROTOCOL, "unknown opcode");
        if (!final)
            return s_wrong (why, PROTOCOL, "fragmented control frame");
        if ((self->head [1] & 0x7f) > FRAME_CONTROL_MAX)
            return s_wrong (why, PROTOCOL, "control frame is too large");
        return 0;
    }
    if (opcode > FRAME_BINARY)
        return s_wrong (why, PROTOCOL, "unknown opcode");
    if ((opcode == FRAME_CONTINUATION) != self->open)
        return s_wrong (why, PROTOCOL, self->open ? "a message has not ended"
                                                  : "nothing to continue");
    return 0;
}

//  All of it is there.
static unsigned
s_head_whole (frames_t *self, const char **why)
{
    unsigned opcode = self->head [0] & 0x0f, bytes = (unsigned) self->head_size - 6;
    uint64_t size = self->head [1] & 0x7f;
    if (bytes) {
        size = 0;
        for (unsigned n = 0; n < bytes; n++)
            size = size << 8 | self->head [2 + n];
        if (size < (bytes == 2 ? 126 : 65536) || size >> 63)
            return s_wrong (why, PROTOCOL, "size is not written as it has to be");
    }
    if (opcode < FRAME_CLOSE && size > self->max - self->message.size)
        return s_wrong (why, TOO_LARGE, "message is too large");
    if (opcode == FRAME_TEXT || opcode == FRAME_BINARY) {
        self->open = true;
        self->binary = opcode == FRAME_BINARY;
    }
    self->inside = true;
    self->left = size;
    self->mask_at = 0;
    self->control_size = 0;
    return 0;
}

//  ---- payloads ----

static void
s_unmask (frames_t *self, uint8_t *at, size_t size)
{
    uint8_t mask [8];
    const uint8_t *key = self->head + self->head_size - 4;
    for (unsigned n = 0; n < 8; n++)
        mask [n] = key [(self->mask_at + n) & 3];
    uint64_t wide, eight;
    memcpy (&wide, mask, 8);
    size_t n = 0;
    for (; n + 8 <= size; n += 8) {
        memcpy (&eight, at + n, 8);
        eight ^= wide;
        memcpy (at + n, &eight, 8);
    }
    for (; n < size; n++)
        at [n] ^= mask [n & 7];
    self->mask_at = (unsigned) ((self->mask_at + size) & 3);
}

static bool
s_close_code_good (unsigned code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014)
           || (code >= 3000 && code <= 4999);
}

static unsigned
s_close_check (const frames_t *self, const char **why)
{
    size_t size = self->control_size;
    if (size == 0)
        return 0;
    if (size == 1 || !s_close_code_good ((unsigned) (self->control [0] << 8 | self->control [1])))
        return s_wrong (why, PROTOCOL, "close code is not one to be sent");
    if (!text_utf8 ((text_t) { (const char *) self->control + 2, size - 2 }))
        return s_wrong (why, NO_TEXT, "close reason is not UTF-8");
    return 0;
}

//  Some bytes of a payload.
static unsigned
s_payload (frames_t *self, uint8_t *bytes, size_t size, const char **why)
{
    s_unmask (self, bytes, size);
    self->left -= size;
    if ((self->head [0] & 0x0f) >= FRAME_CLOSE) {
        memcpy (self->control + self->control_size, bytes, size);
        self->control_size = (uint8_t) (self->control_size + size);
        return 0;
    }
    if (!self->binary && !s_utf8 (self, bytes, size))
        return s_wrong (why, NO_TEXT, "message is not UTF-8");
    buf_put (&self->message, bytes, size);
    return 0;
}

//  A frame is whole. *go: whether to go on.
static unsigned
s_frame_end (frames_t *self, const frame_calls_t *calls, void *arg, bool *go, const char **why)
{
    unsigned opcode = self->head [0] & 0x0f;
    self->inside = false;
    self->head_size = 0;
    if (opcode >= FRAME_CLOSE) {
        unsigned code = opcode == FRAME_CLOSE ? s_close_check (self, why) : 0;
        if (!code)
            *go = calls->control (
                arg, opcode, (text_t) { (const char *) self->control, self->control_size });
        return code;
    }
    if (!(self->head [0] & 0x80))
        return 0;
    if (self->more)
        return s_wrong (why, NO_TEXT, "message ends inside of a character");
    self->open = false;
    *go = calls->message (arg, self->binary, buf_text (&self->message));
    if (self->message.room > KEEP_MAX)
        buf_free (&self->message);
    else
        buf_clear (&self->message);
    return 0;
}

unsigned
frames_take (frames_t *self, uint8_t *bytes, size_t size, const frame_calls_t *calls, void *arg,
             const char **why)
{
    unsigned code = 0;
    bool go = true;
    while (!code && go && (size || (self->inside && !self->left))) {
        size_t step;
        if (!self->inside) {
            size_t need = s_head_need (self) - self->head_size;
            step = need < size ? need : size;
            memcpy (self->head + self->head_size, bytes, step);
            bool begins = self->head_size < 2;
            self->head_size = (uint8_t) (self->head_size + step);
            if (begins && self->head_size >= 2)
                code = s_head_begun (self, why);
            if (!code && self->head_size > 2 && self->head_size == s_head_need (self))
                code = s_head_whole (self, why);
        }
        else {
            step = self->left < size ? (size_t) self->left : size;
            code = s_payload (self, bytes, step, why);
            if (!code && !self->left)
                code = s_frame_end (self, calls, arg, &go, why);
        }
        bytes += step;
        size -= step;
    }
    return code;
}

//  ---- ours ----

size_t
frame_head (uint8_t *at, unsigned opcode, size_t size)
{
    size_t bytes = size < 126 ? 0 : size < 65536 ? 2 : 8;
    uint8_t *head = at - 2 - bytes;
    head [0] = (uint8_t) (0x80 | opcode);
    head [1] = (uint8_t) (bytes == 0 ? size : bytes == 2 ? 126 : 127);
    for (size_t n = 0; n < bytes; n++)
        head [2 + n] = (uint8_t) ((uint64_t) size >> (8 * (bytes - 1 - n)));
    return 2 + bytes;
}

void
frame_control (buf_t *out, unsigned opcode, text_t bytes)
{
    buf_putc (out, (char) (0x80 | opcode));
    buf_putc (out, (char) bytes.size);
    buf_put (out, bytes.data, bytes.size);
}

void
frame_close (buf_t *out, unsigned code, const char *reason)
{
    char bytes [FRAME_CONTROL_MAX];
    size_t size = strnlen (reason, sizeof bytes - 2);
    //  Not cut inside of a character.
    while (!text_utf8 ((text_t) { reason, size }))
        size--;
    bytes [0] = (char) (code >> 8);
    bytes [1] = (char) code;
    memcpy (bytes + 2, reason, size);
    frame_control (out, FRAME_CLOSE, (text_t) { bytes, size + 2 });
}
