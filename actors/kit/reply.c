//  reply.c -- answers: body, meta, errors; rows with the names that the outside knows.

#include <assert.h>
#include <stdlib.h>

#include "../../proto/fault.h"
#include "kit.h"

void
reply_header (req_t *req, const char *name, const char *value)
{
    extra_t *header = req_alloc (req, sizeof *header);
    header->name = req_copy (req, text_of (name));
    header->value = req_copy (req, text_of (value));
    header->next = req->headers;
    req->headers = header;
}

//  Headers that have a place of their own in meta.
static const char *
s_meta_name (const char *header)
{
    static const char *const names [] [2] = {
        { "ETag", "etag" }, { "Location", "location" }, { "Content-Type", "content_type" } };
    for (size_t n = 0; n < COUNT (names); n++)
        if (strcasecmp (header, names [n] [0]) == 0)
            return names [n] [1];
    return NULL;
}

static uint32_t
s_put_headers (req_t *req, buf_t *meta)
{
    uint32_t pairs = 0, others = 0;
    for (extra_t *at = req->headers; at; at = at->next)
        if (s_meta_name (at->name)) {
            mp_pair_str (meta, s_meta_name (at->name), at->value);
            pairs++;
        }
        else
            others++;
    if (others == 0)
        return pairs;
    mp_put_str (meta, "headers");
    mp_put_map (meta, others);
    for (extra_t *at = req->headers; at; at = at->next)
        if (!s_meta_name (at->name))
            mp_pair_str (meta, at->name, at->value);
    return pairs + 1;
}

void
reply_meta (req_t *req, const char *name, mp_t value)
{
    pair_t *pair = req_alloc (req, sizeof *pair);
    *pair = (pair_t) { req->pairs, req_copy (req, text_of (name)), req_keep_mp (req, value) };
    req->pairs = pair;
}

//  A handler that knows better when to try again has said so in a header.
static bool
s_says_when (req_t *req)
{
    for (extra_t *at = req->headers; at; at = at->next)
        if (strcasecmp (at->name, "Retry-After") == 0)
            return true;
    return false;
}

mp_t
answer_meta (req_t *req, unsigned status)
{
    buf_t *meta = &req->kit->meta;
    bool retry = status >= 400 && error_retry (req->code) && !req->unknown && !s_says_when (req);
    buf_clear (meta);
    if (!req->headers && !req->pairs && !req->ignored && !retry && !req->unknown && !req->streaming
        && !req->live_ch)
        return mp_none;
    size_t mark = mp_open_map (meta);
    uint32_t pairs = s_put_headers (req, meta) + req_live_put (req, meta);
    if (req->ignored) {
        mp_put_str (meta, "ignored");
        size_t list = mp_open_array (meta);
        uint32_t count = 0;
        for (extra_t *at = req->ignored; at; at = at->next, count++)
            mp_put_str (meta, at->name);
        mp_close (meta, list, count);
        pairs++;
    }
    for (pair_t *at = req->pairs; at; at = at->next, pairs++)
        mp_pair (meta, at->name, at->value);
    if (retry) {
        mp_pair_int (meta, "retry_after", 1);
        pairs++;
    }
    if (req->unknown) {
        mp_pair_str (meta, "outcome", "unknown");
        pairs++;
    }
    if (req->streaming) {
        mp_pair_bool (meta, "stream", true);
        pairs++;
    }
    mp_close (meta, mark, pairs);
    return mp_buf (meta);
}

void
reply_again (req_t *req)
{
    req->idem_whole = true;
}

void
reply_mp (req_t *req, unsigned status, mp_t body)
{
    assert (!req->answered);
    req->answered = true;
    req->status = status;
    if (!req->peer)
        return;
    if (req->idem_stored && req->idem_whole && status < 400)
        body = idem_answer (req, status, body);
    if (!req->peer)
        return;
    if (req->endpoint->spec.auth == AUTH_OPERATOR || !fault (KIT_ANSWER))
        bus_answer (req->actor->bus, req->peer, req->id, status, body, answer_meta (req, status));
    serve_forget (req);
}

void
reply_json (req_t *req, unsigned status, text_t json)
{
    buf_t *body = &req->kit->body;
    buf_clear (body);
    mp_put_ext (body, MP_EXT_JSON, json.data, json.size);
    reply_mp (req, status, mp_buf (body));
}

void
reply_message (req_t *req, unsigned status, const char *message)
{
    buf_t *body = &req->kit->body;
    buf_clear (body);
    size_t mark = mp_open_map (body);
    mp_pair_str (body, "message", message);
    mp_close (body, mark, 1 + req_live_put (req, body));
    reply_mp (req, status, mp_buf (body));
}

void
reply_empty (req_t *req)
{
    reply_mp (req, 204, mp_none);
}

bool
req_answered (req_t *req)
{
    return req->answered;
}

//  ---------------------------------------------------------------- errors

static void
s_error_body (buf_t *body, error_code_t code, const char *text, mp_t details)
{
    buf_clear (body);
    mp_put_map (body, mp_empty (details) ? 2 : 3);
    mp_pair_str (body, "code", error_name (code));
    mp_pair_str (body, "error", text ? text : error_text (code));
    if (!mp_empty (details))
        mp_pair (body, "details", details);
}

void
reply_error (req_t *req)
{
    s_error_body (&req->kit->body, req->code, req->text, req->details);
    req->answered = false;
    reply_mp (req, (unsigned) error_status (req->code), mp_buf (&req->kit->body));
}

void
reply_error_to (kit_t *kit, bus_peer_t *peer, uint64_t id, error_code_t code, const char *text)
{
    s_error_body (&kit->body, code, text, mp_none);
    buf_clear (&kit->meta);
    mp_put_map (&kit->meta, 1);
    mp_pair_int (&kit->meta, "retry_after", 1);
    bus_answer (kit->actor->bus, peer, id, (uint64_t) error_status (code), mp_buf (&kit->body),
                error_retry (code) ? mp_buf (&kit->meta) : mp_none);
}

//  ---------------------------------------------------------------- rows

//  What an answer may hold: the fields of the resource or of .out; everything else stays inside.
typedef struct {
    const field_t *fields;
    bool resource;
    bool also;                       //  second pass: only the second spellings
} naming_t;

static const char *
s_rename (void *arg, const char *column)
{
    static const char *const ours [] = { "id", "user_id", "created_at", "updated_at" };
    const naming_t *naming = arg;
    for (const field_t *field = naming->fields; field->name; field++)
        if (strcmp (field->name, column) == 0) {
            if (field->flags & (SECRET | HIDDEN))
                return NULL;
            if (naming->also)
                return field->also;
            return field->json ? field->json : field->name;
        }
    if (naming->resource && !naming->also)
        for (size_t n = 0; n < COUNT (ours); n++)
            if (strcmp (ours [n], column) == 0)
                return column;
    return NULL;
}

static bool
s_naming (req_t *req, naming_t *naming)
{
    const endpoint_t *endpoint = req->endpoint;
    *naming = (naming_t) { NULL, false, false };
    if (!endpoint)
        return false;
    //  Statements of a resource name their columns for the outside themselves.
    if (endpoint->plan && !(endpoint->route && endpoint->route->action))
        return false;
    naming->resource = endpoint->resource != NULL;
    naming->fields = endpoint->resource ? endpoint->resource->fields : endpoint->spec.out;
    return naming->fields != NULL;
}

uint32_t
row_put (req_t *req, buf_t *buf, row_t row)
{
    naming_t naming;
    if (row_none (row))
        return 0;
    if (!s_naming (req, &naming))
        return db_row_pairs (buf, row.result, row.row, NULL, NULL);
    uint32_t pairs = db_row_pairs (buf, row.result, row.row, s_rename, &naming);
    for (const field_t *field = naming.fields; field->name; field++)
        naming.also |= field->also != NULL;
    if (naming.also)
        pairs += db_row_pairs (buf, row.result, row.row, s_rename, &naming);
    return pairs;
}

uint32_t
req_live_put (req_t *req, buf_t *buf)
{
    if (!req->live_ch)
        return 0;
    mp_put_str (buf, "live");
    mp_put_map (buf, 3);
    mp_pair_str (buf, "ch", req->live_ch);
    mp_pair_str (buf, "epoch", req->live_epoch);
    mp_pair_int (buf, "off", req->live_off);
    return 1;
}

void
reply_row (req_t *req, unsigned status, row_t row)
{
    if (row_none (row))
        fail (req, E_NOT_FOUND, NULL);
    buf_t *body = &req->kit->body;
    buf_clear (body);
    size_t mark = mp_open_map (body);
    uint32_t pairs = row_put (req, body, row);
    mp_close (body, mark, pairs + req_live_put (req, body));
    reply_mp (req, status, mp_buf (body));
}

void
reply_rows (req_t *req, unsigned status, row_t rows)
{
    buf_t *body = &req->kit->body;
    int count = rows_count (rows);
    buf_clear (body);
    mp_put_array (body, (uint32_t) count);
    for (int n = 0; n < count; n++) {
        size_t mark = mp_open_map (body);
        mp_close (body, mark, row_put (req, body, rows_at (rows, n)));
    }
    reply_mp (req, status, mp_buf (body));
}
