//  multipart.c -- see multipart.h.

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "edge/multipart.h"

#define HEADER_MAX 8192
#define PARTS_MAX 1000

typedef enum { PREAMBLE, DELIMITER, HEADER, DATA, EPILOGUE } place_t;

struct multipart {
    multipart_sink_t sink;
    place_t place;
    char delimiter [80];         //  "\r\n--boundary"
    size_t size;
    unsigned parts;
    buf_t in;                    //  not yet understood
};

multipart_t *
multipart_new (const char *boundary, const multipart_sink_t *sink)
{
    multipart_t *self = xcalloc (1, sizeof *self);
    self->sink = *sink;
    self->size = (size_t) snprintf (self->delimiter, sizeof self->delimiter, "\r\n--%s", boundary);
    //  The first boundary may stand at the very beginning.
    buf_puts (&self->in, "\r\n");
    return self;
}

void
multipart_destroy (multipart_t **self_p)
{
    if (!*self_p)
        return;
    buf_free (&(*self_p)->in);
    free (*self_p);
    *self_p = NULL;
}

//  Value of a parameter of Content-Disposition: name="x" or name=x. Browsers write %22 for a quote,
//  others \".
static text_t
parameter (text_t line, const char *name, buf_t *out)
{
    size_t length = strlen (name);
    for (size_t i = 0; i + length + 1 < line.size; i++) {
        if ((i && line.data [i - 1] != ';' && line.data [i - 1] != ' ')
            || strncasecmp (line.data + i, name, length) != 0 || line.data [i + length] != '=')
            continue;
        const char *at = line.data + i + length + 1, *end = line.data + line.size;
        bool quoted = at < end && *at == '"';
        at += quoted;
        size_t start = out->size;
        for (; at < end && (quoted ? *at != '"' : *at != ';' && *at != ' '); at++) {
            if (quoted && *at == '\\' && at + 1 < end && at [1] == '"')
                at++;
            buf_putc (out, *at);
        }
        return (text_t) { (const char *) out->data + start, out->size - start };
    }
    return (text_t) { NULL, 0 };
}

static void
header_read (multipart_t *self, text_t header)
{
    buf_t scratch = { 0 };
    //  One growth, so that the texts taken from it stay where they are.
    buf_room (&scratch, header.size * 2 + 16);
    text_t name = { "", 0 }, filename = { NULL, 0 }, type = { "", 0 };
    while (header.size) {
        const char *end = memmem (header.data, header.size, "\r\n", 2);
        text_t line = { header.data, end ? (size_t) (end - header.data) : header.size };
        size_t used = line.size + (end ? 2 : 0);
        header = (text_t) { header.data + used, header.size - used };
        if (line.size > 20 && strncasecmp (line.data, "content-disposition:", 20) == 0) {
            text_t found = parameter (line, "name", &scratch);
            name = found.data ? found : name;
            filename = parameter (line, "filename", &scratch);
        }
        else if (line.size > 13 && strncasecmp (line.data, "content-type:", 13) == 0) {
            type = (text_t) { line.data + 13, line.size - 13 };
            while (type.size && *type.data == ' ')
                type = (text_t) { type.data + 1, type.size - 1 };
        }
    }
    self->sink.part (self->sink.arg, name, filename, type);
    buf_free (&scratch);
}

static void
consume (multipart_t *self, size_t size)
{
    memmove (self->in.data, self->in.data + size, self->in.size - size);
    self->in.size -= size;
}

//  One step; 1: went on, 0: needs more bytes, -1: malformed.
static int
step (multipart_t *self)
{
    const char *data = (const char *) self->in.data;
    size_t size = self->in.size;
    const char *found;
    switch (self->place) {
    case PREAMBLE:
    case DATA:
        found = size ? memmem (data, size, self->delimiter, self->size) : NULL;
        size_t whole = found ? (size_t) (found - data)
            : size >= self->size ? size - self->size + 1 : 0;
        if (whole && self->place == DATA)
            self->sink.data (self->sink.arg, (text_t) { data, whole });
        consume (self, whole + (found ? self->size : 0));
        if (found && self->place == DATA)
            self->sink.part_end (self->sink.arg);
        if (found)
            self->place = DELIMITER;
        return found ? 1 : 0;
    case DELIMITER:
        if (size < 2)
            return 0;
        if (memcmp (data, "--", 2) == 0)
            self->place = EPILOGUE;
        else if (memcmp (data, "\r\n", 2) == 0)
            self->place = HEADER;
        else
            return -1;
        //  The line end stays, so that a part without any header ends with an empty line, too.
        return self->place == EPILOGUE || ++self->parts <= PARTS_MAX ? 1 : -1;
    case HEADER:
        found = memmem (data, size, "\r\n\r\n", 4);
        //  The same verdict however it arrives: the end may be on its way with three bytes here.
        size_t length = found ? (size_t) (found - data) : size < 3 ? 0 : size - 3;
        if (length > HEADER_MAX)
            return -1;
        if (!found)
            return 0;
        header_read (self, (text_t) { data + 2, length > 2 ? length - 2 : 0 });
        consume (self, length + 4);
        self->place = DATA;
        return 1;
    case EPILOGUE:
        consume (self, size);
        return 0;
    }
    return -1;
}

bool
multipart_feed (multipart_t *self, text_t data)
{
    buf_put (&self->in, data.data, data.size);
    int rc;
    while ((rc = step (self)) > 0)
        ;
    return rc == 0;
}

bool
multipart_whole (const multipart_t *self)
{
    return self->place == EPILOGUE;
}
