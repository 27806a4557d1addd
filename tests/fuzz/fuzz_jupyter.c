//  fuzz_jupyter.c -- what a kernel sends, signed or not: messages are found in their parts, the
//  cell ends at most once, and what it said is kept as JSON that can be read.
//
//  Input: a byte of flags, then messages that end with 0xfe, each a byte for its channel and parts
//  that end with 0xff.

#include <assert.h>

#include "actors/kernels/output.h"
//  Parts are handed in where the sockets would.
#include "actors/kernels/jupyter.c"
#include "tests/fuzz/part.h"

enum { FLAG_READY = 1, FLAG_RUNNING = 2, FLAG_SIGNED = 4, FLAG_ANSWERS = 8 };

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

typedef struct {
    jupyter_t *kernel;
    output_t *output;
    unsigned readies, ends;
    bool answers;
} cell_t;

static void
on_ready (void *arg)
{
    cell_t *cell = arg;
    assert (++cell->readies == 1);
}

static void
on_message (void *arg, const jupyter_message_t *message)
{
    cell_t *cell = arg;
    assert (mp_type (message->content) == MP_MAP);
    if (message->channel == JUPYTER_IOPUB)
        output_add (cell->output, message->type, message->content);
    else if (cell->answers)
        jupyter_input (cell->kernel, TEXT ("a\"b"));
}

static void
on_finished (void *arg, text_t id, text_t status, mp_t reply)
{
    cell_t *cell = arg;
    assert (++cell->ends == 1 && id.size && mp_type (reply) == MP_MAP);
    assert (status.size == 0 || text_utf8 (status));
    //  There is no socket to send it to.
    assert (!jupyter_execute (cell->kernel, TEXT ("1")));
}

static bool
on_skip (void *arg, text_t parent, text_t type, size_t size)
{
    (void) parent;
    return output_full (((cell_t *) arg)->output, type, size);
}

static void
on_event (void *arg, const char *type, text_t data)
{
    (void) arg, (void) type;
    char error [200];
    buf_t read = { 0 };
    assert (json_read (data, &read, error, sizeof error));
    buf_free (&read);
}

static void
frames_add (frames_t *frames, text_t part)
{
    if (frames->count == PARTS_MAX)
        return;
    zmq_msg_t *message = &frames->parts [frames->count++];
    zmq_msg_init_size (message, part.size);
    if (part.size)
        memcpy (zmq_msg_data (message), part.data, part.size);
    frames->bytes += part.size;
}

//  In front of four parts or more: routing id, delimiter and the right signature.
static void
frames_sign (cell_t *cell, frames_t *frames, const text_t *parts)
{
    char signature [SIGNATURE_SIZE + 1];
    signer_sign (cell->kernel->signer, parts, signature);
    frames_add (frames, TEXT ("id"));
    frames_add (frames, TEXT (DELIMITER));
    frames_add (frames, text_of (signature));
}

static void
receive (cell_t *cell, text_t message, bool signs)
{
    static frames_t frames;
    text_t parts [16];
    size_t count = 0;
    jupyter_channel_t channel = (uint8_t) *message.data % JUPYTER_CHANNELS;
    message = (text_t) { message.data + 1, message.size - 1 };
    while (message.size && count < 16)
        parts [count++] = part_take (&message, (char) 0xff);
    if (count == 0)
        return;
    frames.count = frames.bytes = 0;
    if (signs && count >= FRAMES)
        frames_sign (cell, &frames, parts);
    for (size_t n = 0; n < count; n++)
        frames_add (&frames, parts [n]);
    s_receive (&cell->kernel->lines [channel], &frames);
    for (size_t n = 0; n < frames.count; n++)
        zmq_msg_close (&frames.parts [n]);
}

static cell_t
cell_new (uint8_t flags)
{
    static loop_t *s_loop;
    if (!s_loop)
        s_loop = loop_new ();
    jupyter_life_t life = { on_ready, on_message, on_finished, on_skip, NULL, NULL };
    cell_t cell = { .output = output_new (2048), .answers = flags & FLAG_ANSWERS };
    cell.kernel = jupyter_new (s_loop, NULL, TEXT ("key"), &life);
    for (size_t n = 0; n < JUPYTER_CHANNELS; n++)
        cell.kernel->lines [n] = (line_t) { .jupyter = cell.kernel, .channel = n };
    snprintf (cell.kernel->session, sizeof cell.kernel->session, "s");
    snprintf (cell.kernel->nudges [0].id, JUPYTER_ID, "s_1");
    cell.kernel->ready = flags & FLAG_READY;
    if (flags & FLAG_RUNNING) {
        cell.kernel->number = cell.kernel->running_number = 2;
        snprintf (cell.kernel->running, JUPYTER_ID, "s_2");
    }
    return cell;
}

//  All that was kept can be read again.
static void
cell_check (cell_t *cell)
{
    char error [200];
    buf_t json = { 0 }, read = { 0 };
    output_flush (cell->output, on_event, NULL);
    output_notebook (cell->output, &json);
    assert (json_read (buf_text (&json), &read, error, sizeof error));
    buf_clear (&json), buf_clear (&read);
    output_error (cell->output, &json);
    assert (json.size == 0 || json_read (buf_text (&json), &read, error, sizeof error));
    buf_clear (&json);
    output_text (cell->output, &json);
    assert (text_utf8 (buf_text (&json)));
    buf_free (&json), buf_free (&read);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    text_t rest = { (const char *) data + 1, size - 1 };
    cell_t cell = cell_new (data [0]);
    cell.kernel->life.arg = &cell;
    while (rest.size) {
        text_t message = part_take (&rest, (char) 0xfe);
        if (message.size)
            receive (&cell, message, data [0] & FLAG_SIGNED);
    }
    cell_check (&cell);
    jupyter_destroy (&cell.kernel);
    output_destroy (&cell.output);
    return 0;
}
