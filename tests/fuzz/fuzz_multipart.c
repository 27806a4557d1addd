//  fuzz_multipart.c -- a body means the same however it arrives in pieces.
//
//  Input: two bytes that choose the pieces, then the body with boundary "b".

#include <assert.h>
#include <stdlib.h>

#include "edge/multipart.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

//  What the sink was told. The data of a part stays together, in however many calls it came.
typedef struct {
    buf_t said;
    size_t parts, ends;
} told_t;

static void
part_begins (void *arg, text_t name, text_t filename, text_t type)
{
    told_t *told = arg;
    assert (told->parts == told->ends);
    told->parts++;
    buf_putf (&told->said, "[%zu %zu%c %zu:", name.size, filename.size, filename.data ? 'f' : '-',
              type.size);
    buf_put (&told->said, name.data, name.size);
    buf_put (&told->said, filename.data, filename.size);
    buf_put (&told->said, type.data, type.size);
    buf_putc (&told->said, '|');
}

static void
part_data (void *arg, text_t data)
{
    told_t *told = arg;
    assert (told->parts == told->ends + 1 && data.size);
    buf_put (&told->said, data.data, data.size);
}

static void
part_ends (void *arg)
{
    told_t *told = arg;
    assert (told->parts == ++told->ends);
    buf_putc (&told->said, ']');
}

//  Pieces of one byte up to `largest`; 0: all at once.
static void
feed (text_t body, size_t largest, unsigned seed, told_t *told)
{
    multipart_sink_t sink = { part_begins, part_data, part_ends, told };
    multipart_t *parser = multipart_new ("b", &sink);
    bool good = true;
    while (good && body.size) {
        seed = seed * 1103515245 + 12345;
        size_t piece = largest ? 1 + (seed >> 16) % largest : body.size;
        piece = piece < body.size ? piece : body.size;
        good = multipart_feed (parser, (text_t) { body.data, piece });
        body = (text_t) { body.data + piece, body.size - piece };
    }
    bool whole = good && multipart_whole (parser);
    assert (!whole || told->parts == told->ends);
    buf_puts (&told->said, !good ? "malformed" : whole ? "whole" : "unfinished");
    multipart_destroy (&parser);
    assert (!parser);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    text_t body = { (const char *) data + 2, size - 2 };
    told_t once = { 0 }, pieces = { 0 };
    feed (body, 0, 0, &once);
    feed (body, 1 + data [0] % 64, data [1], &pieces);
    assert (text_eq (buf_text (&once.said), buf_text (&pieces.said)));
    buf_free (&once.said), buf_free (&pieces.said);
    return 0;
}
