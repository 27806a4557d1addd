//  upload.c -- bodies that stream: chunks go to the actor as it asks for them, the socket is not
//  read while too much waits. Of a multipart form the fields become parameters and the file
//  streams.

#include <stdlib.h>

#include "edge/edge.h"
#include "edge/multipart.h"

#define QUEUE_HIGH (256 * 1024)
#define QUEUE_LOW (64 * 1024)
//  forms up to this are read whole, so fields may follow the file
#define WHOLE_MAX (1024 * 1024)
#define FIELDS_MAX (256 * 1024)

struct upload {
    multipart_t *parser;         //  NULL: the body itself is the file
    bool in_file, file_seen, file_whole, second_file;
    bool admitted;               //  auth and limits passed
    bool called, over, halted;
    uint64_t credit;
    buf_t queue;                 //  bytes of the file that wait for credit
    size_t at;
    buf_t field_name, field_value;
    size_t fields_size;
    char filename [256], type [128], field [64];
};

static void
keep (char *out, size_t room, text_t text)
{
    size_t size = text.size < room ? text.size : room - 1;
    if (size)
        memcpy (out, text.data, size);
    out [size] = 0;
    text_mend (out);
}

static void
part_begins (void *arg, text_t name, text_t filename, text_t type)
{
    request_t *req = arg;
    upload_t *self = req->upload;
    self->in_file = filename.data != NULL;
    if (self->in_file) {
        self->second_file |= self->file_seen;
        self->file_seen = true;
        keep (self->filename, sizeof self->filename, filename);
        keep (self->type, sizeof self->type, type);
        keep (self->field, sizeof self->field, name);
        return;
    }
    buf_clear (&self->field_name);
    buf_clear (&self->field_value);
    buf_put (&self->field_name, name.data, name.size);
}

static void
part_data (void *arg, text_t data)
{
    upload_t *self = ((request_t *) arg)->upload;
    if (self->in_file) {
        if (!self->second_file)
            buf_put (&self->queue, data.data, data.size);
        return;
    }
    self->fields_size += data.size;
    if (self->fields_size <= FIELDS_MAX)
        buf_put (&self->field_value, data.data, data.size);
}

static void
part_ends (void *arg)
{
    request_t *req = arg;
    upload_t *self = req->upload;
    if (self->in_file)
        self->file_whole = true;
    else if (!self->called) {
        mp_put_text (&req->params, buf_text (&self->field_name));
        mp_put_text (&req->params, buf_text (&self->field_value));
        req->param_count++;
    }
    self->in_file = false;
}

void
upload_new (request_t *req)
{
    upload_t *self = xcalloc (1, sizeof *self);
    req->upload = self;
    if (req->body_kind != BODY_MULTIPART)
        return;
    multipart_sink_t sink = { part_begins, part_data, part_ends, req };
    self->parser = multipart_new (req->boundary, &sink);
}

void
upload_free (request_t *req)
{
    upload_t *self = req->upload;
    req->upload = NULL;
    if (!self)
        return;
    multipart_destroy (&self->parser);
    buf_free (&self->queue);
    buf_free (&self->field_name);
    buf_free (&self->field_value);
    free (self);
}

static size_t
upload_waiting (const upload_t *self)
{
    return self->queue.size - self->at;
}

//  Stop or resume reading the socket as the queue fills and drains.
static void
upload_pace (request_t *req)
{
    upload_t *self = req->upload;
    bool halt = upload_waiting (self) > (self->halted ? QUEUE_LOW : QUEUE_HIGH);
    //  A form that is read whole is bounded by its size.
    if (self->parser && req->body_size <= WHOLE_MAX)
        halt = false;
    if (halt != self->halted && !req->body_done && !req->answered) {
        self->halted = halt;
        conn_flow (req->conn, !halt);
    }
}

static void
upload_pump (request_t *req)
{
    upload_t *self = req->upload;
    bool end = req->body_done && !self->in_file;
    if (self->parser && self->file_whole)
        end = true;
    while (self->called && !self->over && self->credit) {
        size_t size = upload_waiting (self);
        if (size < WIRE_CHUNK_MAX && !end)
            break;
        bool last = end && size <= WIRE_CHUNK_MAX;
        size = size < WIRE_CHUNK_MAX ? size : WIRE_CHUNK_MAX;
        text_t chunk = { size ? (const char *) self->queue.data + self->at : "", size };
        self->credit--;
        self->over = last;
        if (!bus_upload (req->edge->bus, req->call, chunk, last))
            self->over = true;
        self->at += size;
    }
    if (self->at == self->queue.size) {
        buf_clear (&self->queue);
        self->at = 0;
    }
    else if (self->at > QUEUE_HIGH) {
        memmove (self->queue.data, self->queue.data + self->at, upload_waiting (self));
        self->queue.size -= self->at;
        self->at = 0;
    }
    upload_pace (req);
}

//  Is everything there that the call itself must say?
static void
upload_call (request_t *req)
{
    upload_t *self = req->upload;
    if (self->called || !self->admitted || req->answered)
        return;
    if (self->parser && !req->body_done && (req->body_size <= WHOLE_MAX || !self->file_seen))
        return;
    self->called = true;
    request_called (req);
}

//  Calling may end the request at once.
static void
upload_go_on (request_t *req)
{
    conn_t *conn = req->conn;
    upload_call (req);
    if (conn->request == req && !req->answered)
        upload_pump (req);
}

void
upload_data (request_t *req, text_t data)
{
    upload_t *self = req->upload;
    if (req->answered || self->over)
        return;
    if (!self->parser)
        buf_put (&self->queue, data.data, data.size);
    else if (!multipart_feed (self->parser, data) || self->fields_size > FIELDS_MAX) {
        request_refuse (req, E_INVALID, "multipart body is malformed");
        return;
    }
    upload_go_on (req);
}

void
upload_end (request_t *req)
{
    upload_t *self = req->upload;
    if (req->answered)
        return;
    if (self->parser && (!multipart_whole (self->parser) || self->second_file))
        request_refuse (req, E_INVALID, self->second_file ? "one file per request, please"
                        : "multipart body ends before its closing boundary");
    else
        upload_go_on (req);
}

void
upload_start (request_t *req)
{
    req->upload->admitted = true;
    //  An empty body is over before it began.
    if (req->body_size == 0)
        upload_end (req);
    else
        upload_go_on (req);
}

//  Pairs for CALL.meta; returns how many.
uint32_t
upload_meta (request_t *req, buf_t *meta)
{
    upload_t *self = req->upload;
    mp_pair_bool (meta, "stream", true);
    if (!self->parser) {
        mp_pair_int (meta, "size", (int64_t) req->body_size);
        return 2;
    }
    mp_put_str (meta, "filename");
    mp_put_text (meta, text_of (self->filename));
    mp_pair_str (meta, "file_type", self->type);
    mp_pair_str (meta, "file_field", self->field);
    mp_pair_bool (meta, "file", self->file_seen);
    if (!self->file_whole)
        return 5;
    mp_pair_int (meta, "size", (int64_t) upload_waiting (self));
    return 6;
}

bool
upload_halted (const request_t *req)
{
    return req->upload->halted;
}

void
upload_credit (void *arg, uint64_t count)
{
    request_t *req = arg;
    upload_t *self = req->upload;
    if (!self || req->answered)
        return;
    self->credit += count;
    upload_pump (req);
}

//  ---------------------------------------------------------------- forms that are read whole

typedef struct {
    buf_t *out;
    buf_t value;
    uint32_t count;
    bool file;
    char filename [256], type [128];
} form_t;

static void
form_part (void *arg, text_t name, text_t filename, text_t type)
{
    form_t *form = arg;
    mp_put_text (form->out, name);
    form->count++;
    form->file = filename.data != NULL;
    keep (form->filename, sizeof form->filename, filename);
    keep (form->type, sizeof form->type, type);
    buf_clear (&form->value);
}

static void
form_data (void *arg, text_t data)
{
    buf_put (&((form_t *) arg)->value, data.data, data.size);
}

static void
form_part_end (void *arg)
{
    form_t *form = arg;
    if (!form->file) {
        mp_put_text (form->out, buf_text (&form->value));
        return;
    }
    mp_put_map (form->out, 3);
    mp_pair_str (form->out, "filename", form->filename);
    mp_pair_str (form->out, "content_type", form->type);
    mp_put_str (form->out, "data");
    mp_put_bin (form->out, form->value.data, form->value.size);
}

bool
multipart_read (const char *boundary, text_t body, buf_t *out)
{
    form_t form = { .out = out };
    size_t mark = mp_open_map (out);
    multipart_sink_t sink = { form_part, form_data, form_part_end, &form };
    multipart_t *parser = multipart_new (boundary, &sink);
    bool good = multipart_feed (parser, body) && multipart_whole (parser);
    if (good)
        mp_close (out, mark, form.count);
    multipart_destroy (&parser);
    buf_free (&form.value);
    //  Names and values came as bytes: what is not UTF-8 must not reach the bus.
    return good && mp_valid (out->data, out->size, MP_DEPTH) == out->size;
}
