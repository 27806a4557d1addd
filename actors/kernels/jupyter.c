//  jupyter.c -- requests, the handshake and the rule that says when a cell is complete.

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "proto/json.h"
#include "proto/token.h"
#include "jupyter_inner.h"
#include "lenient.h"
#include "signer.h"

#define DELIMITER "<IDS|MSG>"
#define PARTS_MAX 64         //  frames of a message that we look at
#define NUDGE_EVERY 250      //  ms between handshake requests
#define IDLE_LATE 2000       //  ms after a reply without idle until we look for it, again and again
#define REPLY_LATE 500       //  ms after an idle without reply until we do
#define TURN_MESSAGES 64     //  received before other descriptors get their share
#define TURN_BYTES (8 << 20)

typedef struct {
    zmq_msg_t parts [PARTS_MAX];
    size_t count, bytes;
} frames_t;

//  ---- sending ----

static void
s_date (char out [40])
{
    struct timespec now;
    struct tm parts;
    clock_gettime (CLOCK_REALTIME, &now);
    gmtime_r (&now.tv_sec, &parts);
    size_t size = strftime (out, 24, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf (out + size, 40 - size, ".%06ldZ", now.tv_nsec / 1000);
}

static bool
s_transmit (line_t *line, const text_t frames [FRAMES])
{
    char signature [SIGNATURE_SIZE + 1];
    signer_sign (line->jupyter->signer, frames, signature);
    if (zmq_send (line->socket, DELIMITER, sizeof DELIMITER - 1, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0)
        return false;
    //  The first part was taken, so the rest is.
    zmq_send (line->socket, signature, SIGNATURE_SIZE, ZMQ_SNDMORE | ZMQ_DONTWAIT);
    for (size_t n = 0; n < FRAMES; n++)
        zmq_send (line->socket, frames [n].data, frames [n].size,
                  ZMQ_DONTWAIT | (n + 1 < FRAMES ? ZMQ_SNDMORE : 0));
    zio_sent (line->io);
    return true;
}

//  Send a request and write its id into `id`.
static bool
s_request (jupyter_t *self, jupyter_channel_t channel, const char *type, text_t parent,
           text_t content, char id [JUPYTER_ID])
{
    char date [40];
    s_date (date);
    snprintf (id, JUPYTER_ID, "%s_%llu", self->session, (unsigned long long) ++self->number);
    buf_t header = { 0 };
    buf_putf (&header,
              "{\"msg_id\":\"%s\",\"session\":\"%s\",\"username\":\"busbar\",\"date\":\"%s\","
              "\"msg_type\":\"%s\",\"version\":\"5.3\"}",
              id, self->session, date, type);
    text_t frames [FRAMES] = { buf_text (&header), parent, TEXT ("{}"), content };
    bool ok = s_transmit (&self->lines [channel], frames);
    buf_free (&header);
    return ok;
}

static void
s_nudge (jupyter_t *self)
{
    size_t place = self->nudged++ % NUDGES;
    self->nudges [place].reply = self->nudges [place].idle = false;
    if (!s_request (self, JUPYTER_SHELL, "kernel_info_request", TEXT ("{}"), TEXT ("{}"),
                    self->nudges [place].id))
        self->nudges [place].id [0] = 0;
    ltimer_set (self->timer, NUDGE_EVERY);
}

static void
s_on_timer (void *arg)
{
    jupyter_t *self = arg;
    if (!self->ready)
        s_nudge (self);
    //  Publishing may lose what a slow reader has no room for, the idle too. And a request that is
    //  interrupted before its code begins is dropped without a reply. What comes for a later
    //  request comes behind either: when that arrives, neither will come any more.
    else if (self->replied != self->idled) {
        char id [JUPYTER_ID];
        s_request (self, JUPYTER_SHELL, "kernel_info_request", TEXT ("{}"), TEXT ("{}"), id);
        ltimer_set (self->timer, self->replied ? IDLE_LATE : REPLY_LATE);
    }
}

//  ---- what came ----

//  Without a reply it was aborted.
static void
s_finish (jupyter_t *self)
{
    char id [JUPYTER_ID];
    snprintf (id, sizeof id, "%s", self->running);
    self->running [0] = 0;
    buf_clear (&self->asked);
    ltimer_stop (self->timer);
    //  The callback may start the next cell, whose reply takes the buffer.
    buf_t reply = self->reply;
    self->reply = (buf_t) { 0 };
    mp_t content = mp_buf (&reply);
    self->life.finished (self->life.arg, text_of (id),
                         self->replied ? mp_text (mp_get (content, "status")) : TEXT ("aborted"),
                         content);
    buf_free (&reply);
}

static void
s_ready_when_nudged (jupyter_t *self, text_t parent, bool reply, bool idle)
{
    for (size_t n = 0; n < NUDGES && !self->ready; n++)
        if (parent.size && text_is (parent, self->nudges [n].id)) {
            self->nudges [n].reply |= reply;
            self->nudges [n].idle |= idle;
            if (self->nudges [n].reply && self->nudges [n].idle) {
                self->ready = true;
                ltimer_stop (self->timer);
                self->life.ready (self->life.arg);
            }
            return;
        }
}

//  The number in an id of ours, 0 for others.
static uint64_t
s_number (const jupyter_t *self, text_t id)
{
    size_t size = strlen (self->session);
    uint64_t number = 0;
    if (!text_starts (id, self->session) || id.size < size + 2 || id.size > size + 20)
        return 0;
    for (size_t at = size + 1; at < id.size; at++)
        number = number * 10 + (uint64_t) (id.data [at] - '0');
    return number;
}

static void
s_on_reply (jupyter_t *self, const jupyter_message_t *message)
{
    if (text_is (message->type, "kernel_info_reply")) {
        s_ready_when_nudged (self, message->parent, true, false);
        if (self->running [0] && self->idled && !self->replied
            && s_number (self, message->parent) > self->running_number) {
            self->stats.lost_replies++;
            s_finish (self);
            return;
        }
    }
    if (!text_is (message->type, "execute_reply") || !self->running [0]
        || !text_is (message->parent, self->running) || self->replied)
        return;
    self->replied = true;
    buf_clear (&self->reply);
    buf_put (&self->reply, message->content.data,
             (size_t) (message->content.end - message->content.data));
    text_t status = mp_text (mp_get (message->content, "status"));
    //  An aborted request gets a reply alone from IRkernel.
    if (self->idled || text_is (status, "aborted") || text_is (status, "abort"))
        s_finish (self);
    else
        ltimer_set (self->timer, IDLE_LATE);
}

static void
s_on_status (jupyter_t *self, const jupyter_message_t *message)
{
    if (!text_is (mp_text (mp_get (message->content, "execution_state")), "idle"))
        return;
    if (!self->ready) {
        s_ready_when_nudged (self, message->parent, false, true);
        return;
    }
    if (!self->running [0])
        return;
    if (text_is (message->parent, self->running))
        self->idled = true;
    else if (self->replied && s_number (self, message->parent) > self->running_number) {
        self->stats.lost_idles++;
        self->idled = true;
    }
    if (self->idled && self->replied)
        s_finish (self);
    else if (self->idled)
        ltimer_set (self->timer, REPLY_LATE);
}

static void
s_dispatch (jupyter_t *self, const jupyter_message_t *message)
{
    switch (message->channel) {
    case JUPYTER_SHELL:
        s_on_reply (self, message);
        break;
    case JUPYTER_IOPUB:
        if (text_is (message->type, "status"))
            s_on_status (self, message);
        else if (message->parent.size)
            self->life.message (self->life.arg, message);
        break;
    case JUPYTER_STDIN:
        if (!text_is (message->type, "input_request") || !self->running [0]
            || !text_is (message->parent, self->running))
            break;
        self->life.message (self->life.arg, message);
        break;
    default:
        break;
    }
}

static text_t
s_part (frames_t *frames, size_t position)
{
    return (text_t) { zmq_msg_data (&frames->parts [position]),
                     zmq_msg_size (&frames->parts [position]) };
}

static bool
s_map_read (text_t json, buf_t *out)
{
    buf_clear (out);
    return json.size && lenient_read (json, out) && mp_type (mp_buf (out)) == MP_MAP;
}

//  Find the delimiter; the frames after it are signature, header, parent, metadata, content,
//  buffers.
static bool
s_locate (frames_t *frames, text_t *signature, text_t found [FRAMES])
{
    for (size_t n = 0; n < frames->count; n++)
        if (text_eq (s_part (frames, n), TEXT (DELIMITER))) {
            if (frames->count - n < 2 + FRAMES)
                return false;
            *signature = s_part (frames, n + 1);
            for (size_t at = 0; at < FRAMES; at++)
                found [at] = s_part (frames, n + 2 + at);
            return true;
        }
    return false;
}

static void
s_receive (line_t *line, frames_t *frames)
{
    jupyter_t *self = line->jupyter;
    text_t signature, parts [FRAMES];
    jupyter_message_t message = { .channel = line->channel };
    self->stats.received++;
    self->stats.bytes += frames->bytes;
    if (!s_locate (frames, &signature, parts) || !s_map_read (parts [FRAME_HEADER], &self->header)
        || !s_map_read (parts [FRAME_PARENT], &self->parent)) {
        self->stats.malformed++;
        return;
    }
    message.type = mp_text (mp_get (mp_buf (&self->header), "msg_type"));
    message.parent = mp_text (mp_get (mp_buf (&self->parent), "msg_id"));
    message.size = parts [FRAME_CONTENT].size;
    if (line->channel == JUPYTER_IOPUB && !text_is (message.type, "status")
        && self->life.skip (self->life.arg, message.parent, message.type, message.size)) {
        self->stats.skipped++;
        return;
    }
    switch (signer_check (self->signer, signature, parts)) {
    case SIGNATURE_FORGED: self->stats.forged++; return;
    case SIGNATURE_REPLAYED: self->stats.replayed++; return;
    case SIGNATURE_GOOD: break;
    }
    if (!s_map_read (parts [FRAME_CONTENT], &self->content)) {
        self->stats.malformed++;
        return;
    }
    message.content = mp_buf (&self->content);
    if (line->channel == JUPYTER_STDIN && text_is (message.type, "input_request")) {
        buf_clear (&self->asked);
        buf_put (&self->asked, parts [FRAME_HEADER].data, parts [FRAME_HEADER].size);
    }
    s_dispatch (self, &message);
}

//  One message; parts beyond PARTS_MAX are read and dropped. False: nothing there.
static bool
s_take (line_t *line, frames_t *frames)
{
    frames->count = frames->bytes = 0;
    for (bool more = true; more;) {
        zmq_msg_t part;
        zmq_msg_init (&part);
        if (zmq_msg_recv (&part, line->socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close (&part);
            break;
        }
        frames->bytes += zmq_msg_size (&part);
        more = zmq_msg_more (&part);
        if (frames->count < PARTS_MAX) {
            zmq_msg_init (&frames->parts [frames->count]);
            zmq_msg_move (&frames->parts [frames->count++], &part);
        }
        zmq_msg_close (&part);
    }
    return frames->count > 0;
}

static void s_free (jupyter_t *self);

void
jupyter_input_came (void *arg)
{
    line_t *line = arg;
    jupyter_t *self = line->jupyter;
    //  4 KiB of heads: not for the stack; one thread, never nested
    static frames_t frames;
    size_t bytes = 0;
    self->nesting++;
    for (int n = 0;
         n < TURN_MESSAGES && bytes < TURN_BYTES && !self->ended && s_take (line, &frames); n++) {
        bytes += frames.bytes;
        s_receive (line, &frames);
        for (size_t at = 0; at < frames.count; at++)
            zmq_msg_close (&frames.parts [at]);
    }
    if (--self->nesting == 0 && self->ended)
        s_free (self);
}

//  ---- life ----

void
jupyter_connection_file (buf_t *out, const char *prefix, const char *key, const char *kernel)
{
    buf_puts (out, "{\"shell_port\":1,\"iopub_port\":2,\"stdin_port\":3,\"control_port\":4,"
                   "\"hb_port\":5,\"ip\":");
    json_quote (text_of (prefix), out);
    buf_puts (out, ",\"transport\":\"ipc\",\"signature_scheme\":\"hmac-sha256\",\"key\":");
    json_quote (text_of (key), out);
    buf_puts (out, ",\"kernel_name\":");
    json_quote (text_of (kernel), out);
    buf_puts (out, "}\n");
}

jupyter_t *
jupyter_new (loop_t *loop, void *zmq, text_t key, const jupyter_life_t *life)
{
    jupyter_t *self = xcalloc (1, sizeof *self);
    self->loop = loop;
    self->zmq = zmq;
    self->life = *life;
    self->signer = signer_new (key);
    self->timer = loop_timer (loop, s_on_timer, self);
    self->reopen = loop_timer (loop, jupyter_reopen, self);
    uuid_make (self->session);
    return self;
}

bool
jupyter_connect (jupyter_t *self, const char *const endpoints [JUPYTER_CHANNELS])
{
    snprintf (self->output, sizeof self->output, "%s", endpoints [JUPYTER_IOPUB]);
    for (jupyter_channel_t channel = 0; channel < JUPYTER_CHANNELS; channel++)
        if (!jupyter_line_open (self, channel, endpoints [channel]))
            return false;
    s_nudge (self);
    return true;
}

static void
s_free (jupyter_t *self)
{
    jupyter_lines_close (self);
    ltimer_end (&self->timer);
    ltimer_end (&self->reopen);
    signer_destroy (&self->signer);
    buf_free (&self->reply);
    buf_free (&self->asked);
    buf_free (&self->header);
    buf_free (&self->parent);
    buf_free (&self->content);
    free (self);
}

void
jupyter_destroy (jupyter_t **self_p)
{
    jupyter_t *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    self->ended = true;
    if (self->nesting == 0)
        s_free (self);
}

const char *
jupyter_execute (jupyter_t *self, text_t code)
{
    if (!self->ready || self->running [0])
        return NULL;
    buf_t content = { 0 };
    buf_puts (&content, "{\"code\":");
    json_quote (code, &content);
    //  The queue is ours, one request at a time. Told to stop on an error, a kernel would abort
    //  what comes within the moment after it: the next cell of somebody who asked for it.
    buf_puts (&content, ",\"silent\":false,\"store_history\":true,\"user_expressions\":{},"
              "\"allow_stdin\":true,\"stop_on_error\":false}");
    self->replied = self->idled = false;
    buf_clear (&self->asked);
    bool ok = s_request (self, JUPYTER_SHELL, "execute_request", TEXT ("{}"), buf_text (&content),
                         self->running);
    buf_free (&content);
    if (!ok)
        self->running [0] = 0;
    self->running_number = self->number;
    snprintf (self->last, sizeof self->last, "%s", self->running);
    return ok ? self->last : NULL;
}

bool
jupyter_input (jupyter_t *self, text_t value)
{
    if (!self->running [0] || self->asked.size == 0)
        return false;
    char id [JUPYTER_ID];
    buf_t content = { 0 };
    buf_puts (&content, "{\"value\":");
    json_quote (value, &content);
    buf_putc (&content, '}');
    bool ok = s_request (self, JUPYTER_STDIN, "input_reply", buf_text (&self->asked),
                         buf_text (&content), id);
    buf_free (&content);
    buf_clear (&self->asked);
    return ok;
}

void
jupyter_interrupt (jupyter_t *self)
{
    char id [JUPYTER_ID];
    if (self->lines [JUPYTER_CONTROL].io)
        s_request (self, JUPYTER_CONTROL, "interrupt_request", TEXT ("{}"), TEXT ("{}"), id);
}

void
jupyter_shutdown (jupyter_t *self)
{
    char id [JUPYTER_ID];
    if (self->lines [JUPYTER_CONTROL].io)
        s_request (self, JUPYTER_CONTROL, "shutdown_request", TEXT ("{}"),
                   TEXT ("{\"restart\":false}"), id);
}

const jupyter_stats_t *
jupyter_stats (const jupyter_t *self)
{
    return &self->stats;
}
