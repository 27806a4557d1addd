//  fuzz_frame.c -- frames of a client, in whatever pieces: the same messages come out, or the same
//  mistake is found, and a text that is handed on is UTF-8.
//
//  Input: a byte (size of the pieces), then what the client sends.

#include <assert.h>
#include <stdlib.h>

#include "edge/frame.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

#define MESSAGE_MAX 1000

static bool s_closed;

static bool
on_message (void *arg, bool binary, text_t bytes)
{
    buf_t *said = arg;
    assert (binary || text_utf8 (bytes));
    assert (bytes.size <= MESSAGE_MAX);
    buf_putf (said, "%s %zu:", binary ? "binary" : "text", bytes.size);
    buf_put (said, bytes.data, bytes.size);
    return true;
}

static bool
on_control (void *arg, unsigned opcode, text_t bytes)
{
    buf_t *said = arg;
    assert (bytes.size <= FRAME_CONTROL_MAX && (opcode != FRAME_CLOSE || bytes.size != 1));
    buf_putf (said, "%u %zu:", opcode, bytes.size);
    buf_put (said, bytes.data, bytes.size);
    s_closed = opcode == FRAME_CLOSE;
    return !s_closed;
}

//  What comes out of it in pieces of this size.
static unsigned
taken (const uint8_t *data, size_t size, size_t step, buf_t *said)
{
    static const frame_calls_t calls = { on_message, on_control };
    frames_t frames = { .max = MESSAGE_MAX };
    unsigned code = 0;
    s_closed = false;
    for (size_t at = 0; at < size && !code && !s_closed; at += step) {
        size_t piece = step < size - at ? step : size - at;
        const char *why = NULL;
        //  A copy, so that reading beyond its end is seen.
        char *bytes = text_copy ((text_t) { (const char *) data + at, piece });
        code = frames_take (&frames, (uint8_t *) bytes, piece, &calls, said, &why);
        assert (!code || (why && text_utf8 (text_of (why))));
        free (bytes);
    }
    frames_free (&frames);
    return code;
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    buf_t whole = { 0 }, pieces = { 0 };
    unsigned code = taken (data + 1, size - 1, size, &whole);
    unsigned other = taken (data + 1, size - 1, data [0] % 16 + 1, &pieces);
    assert (code == other && text_eq (buf_text (&whole), buf_text (&pieces)));
    buf_free (&whole);
    buf_free (&pieces);
    return 0;
}
