//  output.c -- items that wait for the next flush, and items that are shown.

#include <stdlib.h>

#include "output.h"
#include "proto/json.h"

#define ERROR_MAX (64 << 10)         //  one error's text
#define ERROR_SHARE (1 << 20)        //  errors are told even when the cell has used up its share
#define ITEM_COST 128                //  what an item costs besides its content
#define STREAM_PIECE (512 << 10)     //  longest text in one event

typedef enum { ITEM_STREAM, ITEM_DISPLAY, ITEM_RESULT, ITEM_ERROR, ITEM_UPDATE, ITEM_CLEAR } kind_t;

typedef struct item {
    struct item *next;
    kind_t kind;
    bool flag;                       //  stream: it is stderr; clear: wait for the next output
    int64_t count;                   //  result: execution_count
    buf_t body;                      //  stream: the text; error: content; others: data, as JSON
    buf_t metadata;                  //  JSON
    char *display;                   //  display id, or NULL
    size_t cost;
} item_t;

typedef struct {
    item_t *first, *last;
} list_t;

struct output {
    size_t cap, used;
    uint64_t dropped;
    bool truncated, told;
    bool clear_first;                //  clear_output (wait) came: with the next output
    list_t waiting, shown;
};

//  ---- items ----

static void
s_item_free (item_t *item)
{
    buf_free (&item->body);
    buf_free (&item->metadata);
    free (item->display);
    free (item);
}

static void
s_list_clear (output_t *self, list_t *list)
{
    while (list->first) {
        item_t *next = list->first->next;
        if (list == &self->waiting)
            self->used -= list->first->cost;
        s_item_free (list->first);
        list->first = next;
    }
    list->last = NULL;
}

static void
s_list_add (list_t *list, item_t *item)
{
    item->next = NULL;
    if (list->last)
        list->last->next = item;
    else
        list->first = item;
    list->last = item;
}

static const char *
s_stream_name (const item_t *item)
{
    return item->flag ? "stderr" : "stdout";
}

//  ---- taking ----

output_t *
output_new (size_t cap)
{
    output_t *self = xcalloc (1, sizeof *self);
    self->cap = cap;
    return self;
}

void
output_destroy (output_t **self_p)
{
    output_t *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    s_list_clear (self, &self->waiting);
    s_list_clear (self, &self->shown);
    free (self);
}

bool
output_full (output_t *self, text_t type, size_t size)
{
    size_t cap = self->cap;
    if (text_is (type, "error"))
        cap += ERROR_SHARE;
    else if (self->truncated && !text_is (type, "clear_output"))
        cap = 0;
    if (self->used < cap && size + ITEM_COST <= cap - self->used)
        return false;
    self->truncated = true;
    self->dropped += size;
    return true;
}

void
output_lost (output_t *self)
{
    self->truncated = true;
}

//  Streams of one name that wait go together, with nothing but the other stream between them.
static item_t *
s_stream_waiting (output_t *self, bool standard_error)
{
    item_t *found = NULL;
    for (item_t *at = self->waiting.first; at; at = at->next)
        if (at->kind != ITEM_STREAM)
            found = NULL;
        else if (at->flag == standard_error)
            found = at;
    return found;
}

static void
s_add_stream (output_t *self, mp_t content)
{
    bool standard_error = text_is (mp_text (mp_get (content, "name")), "stderr");
    text_t text = mp_text (mp_get (content, "text"));
    item_t *item = s_stream_waiting (self, standard_error);
    if (!item) {
        item = xcalloc (1, sizeof *item);
        item->kind = ITEM_STREAM;
        item->flag = standard_error;
        item->cost = ITEM_COST;
        s_list_add (&self->waiting, item);
        self->used += ITEM_COST;
    }
    buf_put (&item->body, text.data, text.size);
    item->cost += text.size;
    self->used += text.size;
}

static void
s_write (buf_t *out, mp_t value)
{
    if (mp_type (value) == MP_MAP)
        json_write (value, out);
    else
        buf_puts (out, "{}");
}

static void
s_fill_display (item_t *item, mp_t content)
{
    buf_clear (&item->body);
    buf_clear (&item->metadata);
    s_write (&item->body, mp_get (content, "data"));
    s_write (&item->metadata, mp_get (content, "metadata"));
    item->cost = ITEM_COST + item->body.size + item->metadata.size;
}

static void
s_add_display (output_t *self, kind_t kind, mp_t content)
{
    text_t display = mp_text (mp_get (mp_get (content, "transient"), "display_id"));
    item_t *item = xcalloc (1, sizeof *item);
    item->kind = kind;
    item->count = mp_int (mp_get (content, "execution_count"));
    if (display.size) {
        item->display = xcalloc (display.size + 1, 1);
        memcpy (item->display, display.data, display.size);
    }
    s_fill_display (item, content);
    self->used += item->cost;
    s_list_add (&self->waiting, item);
}

//  Of many updates between two flushes the last one counts.
static void
s_add_update (output_t *self, mp_t content)
{
    text_t display = mp_text (mp_get (mp_get (content, "transient"), "display_id"));
    for (item_t *at = self->waiting.first; at; at = at->next)
        if (at->display && text_is (display, at->display)) {
            self->used -= at->cost;
            s_fill_display (at, content);
            self->used += at->cost;
            return;
        }
    s_add_display (self, ITEM_UPDATE, content);
}

//  Our own words around it: a kernel may send anything as content.
static void
s_add_error (output_t *self, mp_t content)
{
    item_t *item = xcalloc (1, sizeof *item);
    text_t name = mp_text (mp_get (content, "ename")), value = mp_text (mp_get (content, "evalue"));
    mp_t lines = mp_get (content, "traceback");
    bool first = true;
    item->kind = ITEM_ERROR;
    buf_puts (&item->body, "{\"ename\":");
    json_quote (name.size <= ERROR_MAX ? name : TEXT ("Error"), &item->body);
    buf_puts (&item->body, ",\"evalue\":");
    json_quote (value.size <= ERROR_MAX ? value : TEXT ("text is too long"), &item->body);
    buf_puts (&item->body, ",\"traceback\":[");
    for (mp_iter_t it = mp_iter (lines); mp_type (lines) == MP_ARRAY && mp_next (&it);
         first = false) {
        text_t line = mp_text (it.value);
        if (item->body.size + line.size > ERROR_MAX)
            break;
        buf_puts (&item->body, first ? "" : ",");
        json_quote (line, &item->body);
    }
    buf_puts (&item->body, "]}");
    item->cost = ITEM_COST + item->body.size;
    self->used += item->cost;
    s_list_add (&self->waiting, item);
}

//  What waits and would be cleared again need not be shown; unless the clearing itself waits for
//  something to show.
static void
s_add_clear (output_t *self, mp_t content)
{
    bool wait = mp_bool (mp_get (content, "wait"));
    if (!wait)
        s_list_clear (self, &self->waiting);
    if (self->waiting.last && self->waiting.last->kind == ITEM_CLEAR)
        return;
    item_t *item = xcalloc (1, sizeof *item);
    item->kind = ITEM_CLEAR;
    item->flag = wait;
    s_list_add (&self->waiting, item);
}

//  Something to show follows a clearing that waited for it: all before that clearing is gone.
static void
s_collapse (output_t *self)
{
    item_t *before = NULL, *clear = NULL;
    for (item_t *at = self->waiting.first, *last = NULL; at; last = at, at = at->next)
        if (at->kind == ITEM_CLEAR) {
            before = last;
            clear = at;
        }
    if (!before)
        return;
    item_t *last = self->waiting.last;
    before->next = NULL;
    s_list_clear (self, &self->waiting);
    self->waiting = (list_t) { clear, last };
}

bool
output_add (output_t *self, text_t type, mp_t content)
{
    if (!text_is (type, "clear_output"))
        s_collapse (self);
    if (text_is (type, "stream"))
        s_add_stream (self, content);
    else if (text_is (type, "display_data"))
        s_add_display (self, ITEM_DISPLAY, content);
    else if (text_is (type, "execute_result"))
        s_add_display (self, ITEM_RESULT, content);
    else if (text_is (type, "update_display_data"))
        s_add_update (self, content);
    else if (text_is (type, "error"))
        s_add_error (self, content);
    else if (text_is (type, "clear_output"))
        s_add_clear (self, content);
    return self->waiting.first || self->truncated != self->told;
}

//  ---- showing ----

static void
s_show_update (output_t *self, const item_t *item)
{
    for (item_t *at = self->shown.first; at && item->display; at = at->next)
        if (at->display && strcmp (at->display, item->display) == 0) {
            buf_clear (&at->body);
            buf_clear (&at->metadata);
            buf_put (&at->body, item->body.data, item->body.size);
            buf_put (&at->metadata, item->metadata.data, item->metadata.size);
        }
}

static void
s_show (output_t *self, item_t *item)
{
    if (item->kind == ITEM_UPDATE) {
        s_show_update (self, item);
        s_item_free (item);
        return;
    }
    if (item->kind == ITEM_CLEAR) {
        if (item->flag)
            self->clear_first = true;
        else
            s_list_clear (self, &self->shown);
        s_item_free (item);
        return;
    }
    if (self->clear_first)
        s_list_clear (self, &self->shown);
    self->clear_first = false;
    item_t *last = self->shown.last;
    if (item->kind == ITEM_STREAM && last && last->kind == ITEM_STREAM
        && last->flag == item->flag) {
        buf_put (&last->body, item->body.data, item->body.size);
        s_item_free (item);
    }
    else
        s_list_add (&self->shown, item);
}

static void
s_put_buf (buf_t *out, const char *name, const buf_t *value)
{
    buf_puts (out, name);
    buf_put (out, value->data, value->size);
}

static void
s_emit_stream (const item_t *item, output_event_fn *fn, void *arg)
{
    buf_t json = { 0 };
    for (size_t at = 0; at < item->body.size;) {
        size_t size = item->body.size - at;
        if (size > STREAM_PIECE)
            //  Not inside a character.
            for (size = STREAM_PIECE; size > 0 && (item->body.data [at + size] & 0xc0) == 0x80;
                 size--)
                ;
        buf_clear (&json);
        buf_putf (&json, "{\"name\":\"%s\",\"text\":", s_stream_name (item));
        json_quote ((text_t) { (const char *) item->body.data + at, size }, &json);
        buf_putc (&json, '}');
        fn (arg, "stream", buf_text (&json));
        at += size;
    }
    buf_free (&json);
}

static void
s_emit (const item_t *item, output_event_fn *fn, void *arg)
{
    static const char *const types [] = { "stream", "display_data", "execute_result", "error",
                                          "update_display_data", "clear_output" };
    buf_t json = { 0 };
    if (item->kind == ITEM_STREAM) {
        s_emit_stream (item, fn, arg);
        return;
    }
    if (item->kind == ITEM_CLEAR)
        buf_putf (&json, "{\"wait\":%s}", item->flag ? "true" : "false");
    else if (item->kind == ITEM_ERROR)
        buf_put (&json, item->body.data, item->body.size);
    else {
        s_put_buf (&json, "{\"data\":", &item->body);
        s_put_buf (&json, ",\"metadata\":", &item->metadata);
        if (item->kind == ITEM_RESULT)
            buf_putf (&json, ",\"execution_count\":%lld", (long long) item->count);
        if (item->display) {
            buf_puts (&json, ",\"display_id\":");
            json_quote (text_of (item->display), &json);
        }
        buf_putc (&json, '}');
    }
    fn (arg, types [item->kind], buf_text (&json));
    buf_free (&json);
}

void
output_flush (output_t *self, output_event_fn *fn, void *arg)
{
    item_t *item = self->waiting.first;
    self->waiting = (list_t) { NULL, NULL };
    while (item) {
        item_t *next = item->next;
        s_emit (item, fn, arg);
        s_show (self, item);
        item = next;
    }
    if (self->truncated && !self->told) {
        buf_t json = { 0 };
        buf_putf (&json, "{\"limit\":%zu}", self->cap);
        self->told = true;
        fn (arg, "truncated", buf_text (&json));
        buf_free (&json);
    }
}

bool
output_has_display (const output_t *self, text_t display_id)
{
    for (const item_t *at = self->shown.first; at; at = at->next)
        if (at->display && text_is (display_id, at->display))
            return true;
    return false;
}

//  ---- what stays ----

static void
s_notebook_item (const item_t *item, buf_t *json)
{
    switch (item->kind) {
    case ITEM_STREAM:
        buf_putf (json,
                  "{\"output_type\":\"stream\",\"name\":\"%s\",\"text\":", s_stream_name (item));
        json_quote (buf_text (&item->body), json);
        break;
    case ITEM_ERROR:
        buf_puts (json, "{\"output_type\":\"error\",");
        buf_put (json, item->body.data + 1, item->body.size - 2);
        break;
    default:
        buf_putf (json, "{\"output_type\":\"%s\"",
                  item->kind == ITEM_RESULT ? "execute_result" : "display_data");
        s_put_buf (json, ",\"data\":", &item->body);
        s_put_buf (json, ",\"metadata\":", &item->metadata);
        if (item->kind == ITEM_RESULT)
            buf_putf (json, ",\"execution_count\":%lld", (long long) item->count);
    }
    buf_putc (json, '}');
}

void
output_notebook (const output_t *self, buf_t *json)
{
    buf_putc (json, '[');
    for (const item_t *at = self->shown.first; at; at = at->next) {
        if (at != self->shown.first)
            buf_putc (json, ',');
        s_notebook_item (at, json);
    }
    buf_putc (json, ']');
}

static void
s_plain (const item_t *item, buf_t *text)
{
    char why [64];
    buf_t parsed = { 0 };
    if (json_read (buf_text (&item->body), &parsed, why, sizeof why)) {
        text_t plain = mp_text (mp_get (mp_buf (&parsed), "text/plain"));
        if (text->size && text->data [text->size - 1] != '\n')
            buf_putc (text, '\n');
        buf_put (text, plain.data, plain.size);
    }
    buf_free (&parsed);
}

void
output_text (const output_t *self, buf_t *text)
{
    for (const item_t *at = self->shown.first; at; at = at->next)
        if (at->kind == ITEM_STREAM)
            buf_put (text, at->body.data, at->body.size);
        else if (at->kind != ITEM_ERROR)
            s_plain (at, text);
}

void
output_error (const output_t *self, buf_t *json)
{
    const item_t *error = NULL;
    const list_t *const lists [] = { &self->shown, &self->waiting };
    for (size_t n = 0; n < 2; n++)
        for (const item_t *at = lists [n]->first; at; at = at->next)
            if (at->kind == ITEM_ERROR)
                error = at;
    if (error)
        buf_put (json, error->body.data, error->body.size);
}

size_t
output_size (const output_t *self)
{
    return self->used;
}

uint64_t
output_dropped (const output_t *self)
{
    return self->dropped;
}

bool
output_truncated (const output_t *self)
{
    return self->truncated;
}
