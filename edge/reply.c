//  reply.c -- answers: status line, headers, error bodies, ETag and 304, gzip, CORS. One buffer,
//  one write.

#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <zlib.h>

#include "edge/edge.h"

#define GZIP_MIN 1024
//  about 3 ms at level 1: longer would hold up everybody else
#define GZIP_MAX (256 * 1024)

void
fault_set (fault_t *fault, error_code_t code, const char *format, ...)
{
    fault->code = code;
    va_list args;
    va_start (args, format);
    vsnprintf (fault->text, sizeof fault->text, format, args);
    va_end (args);
    text_mend (fault->text);
}

void
fault_write (buf_t *json, error_code_t code, text_t text, mp_t details, text_t request_id,
             bool envelope)
{
    static const char *const names [] = { "{\"error\":", ",\"message\":", ",\"detail\":" };
    for (size_t i = 0; i < 3; i++) {
        buf_puts (json, names [i]);
        json_quote (text, json);
    }
    buf_puts (json, ",\"code\":");
    json_quote (text_of (error_name (code)), json);
    buf_puts (json, ",\"details\":");
    if (mp_type (details) == MP_MAP)
        json_write (details, json);
    else
        buf_puts (json, "{}");
    if (request_id.size) {
        buf_puts (json, ",\"request_id\":");
        json_quote (request_id, json);
    }
    buf_puts (json, envelope ? ",\"success\":false}" : "}");
}

static const char *
status_text (unsigned status)
{
    switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 206: return "Partial Content";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 303: return "See Other";
    case 304: return "Not Modified";
    case 307: return "Temporary Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 406: return "Not Acceptable";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 410: return "Gone";
    case 411: return "Length Required";
    case 412: return "Precondition Failed";
    case 413: return "Content Too Large";
    case 415: return "Unsupported Media Type";
    case 416: return "Range Not Satisfiable";
    case 422: return "Unprocessable Content";
    case 423: return "Locked";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 507: return "Insufficient Storage";
    default: return status < 400 ? "OK" : "Error";
    }
}

//  Header values come from actors and clients: a line break in one would start another header.
void
reply_header (request_t *req, const char *name, text_t value)
{
    for (size_t i = 0; i < value.size; i++)
        if ((unsigned char) value.data [i] < ' ' && value.data [i] != '\t')
            return;
    buf_puts (&req->extra, name);
    buf_puts (&req->extra, ": ");
    buf_put (&req->extra, value.data, value.size);
    buf_puts (&req->extra, "\r\n");
}

static bool
extra_has (const request_t *req, const char *name)
{
    size_t size = strlen (name);
    if (req->extra.size == 0)
        return false;
    const char *at = (const char *) req->extra.data, *end = at + req->extra.size;
    while (at && at < end) {
        if ((size_t) (end - at) > size && strncasecmp (at, name, size) == 0 && at [size] == ':')
            return true;
        const char *line = memchr (at, '\n', (size_t) (end - at));
        at = line ? line + 1 : NULL;
    }
    return false;
}

static void
put_cors (request_t *req, buf_t *out)
{
    edge_t *edge = req->edge;
    if (!*req->origin)
        return;
    if (edge->cors_origins.size == 0)
        buf_puts (out, "Access-Control-Allow-Origin: *\r\n");
    else {
        buf_puts (out, "Vary: Origin\r\n");
        if (!origin_allowed (edge, text_of (req->origin)))
            return;
        buf_putf (out, "Access-Control-Allow-Origin: %s\r\n"
                  "Access-Control-Allow-Credentials: true\r\n", req->origin);
    }
    buf_puts (out, "Access-Control-Expose-Headers: ETag, Location, Retry-After, X-Request-Id, "
              "X-Outcome, X-Ignored-Fields, Content-Disposition\r\n");
}

//  Everything up to the empty line. length < 0: unknown.
static void
put_head (request_t *req, unsigned status, const char *type, int64_t length)
{
    buf_t *out = &req->out;
    req->status = status;
    buf_puts (out, "HTTP/1.1 ");
    put_number (out, status);
    buf_puts (out, " ");
    buf_puts (out, status_text (status));
    if (type && *type) {
        buf_puts (out, "\r\nContent-Type: ");
        buf_puts (out, type);
    }
    buf_puts (out, "\r\n");
    if (length >= 0 && status != 204 && status != 304) {
        buf_puts (out, "Content-Length: ");
        put_number (out, (uint64_t) length);
        buf_puts (out, "\r\n");
    }
    else if (req->chunked)
        buf_puts (out, "Transfer-Encoding: chunked\r\n");
    if (req->close || req->edge->draining)
        buf_puts (out, "Connection: close\r\n");
    else if (req->http10)
        buf_puts (out, "Connection: keep-alive\r\n");
    buf_puts (out, "X-Request-Id: ");
    buf_puts (out, req->id);
    buf_puts (out, "\r\nX-Content-Type-Options: nosniff\r\n");
    if (!extra_has (req, "Cache-Control"))
        buf_puts (out, req->session ? "Cache-Control: private, no-cache\r\n"
                  : "Cache-Control: no-cache\r\n");
    if (status == 401 && !extra_has (req, "WWW-Authenticate"))
        buf_puts (out, "WWW-Authenticate: Bearer\r\n");
    put_cors (req, out);
    buf_put (out, req->extra.data, req->extra.size);
    buf_puts (out, "\r\n");
}

//  What must be true of every answer before its head is written.
static bool
reply_starts (request_t *req)
{
    if (req->answered)
        return false;
    req->answered = true;
    //  A body that nobody will read: the connection cannot carry another request.
    if (!req->body_done && req->body_size > 0)
        req->close = true;
    conn_flow (req->conn, false);
    return true;
}

static bool
compressible (const char *type)
{
    return type && (strncmp (type, "application/json", 16) == 0 || strncmp (type, "text/", 5) == 0
                    || strncmp (type, "application/javascript", 22) == 0
                    || strncmp (type, "image/svg", 9) == 0 || strstr (type, "+json")
                    || strstr (type, "ndjson"));
}

//  Compressed into a static buffer, if that is worth it.
static bool
gzip_try (request_t *req, const char *type, text_t *data)
{
    static buf_t s_packed;
    static z_stream s_stream;
    static bool s_ready;
    if (!req->gzip || req->head || data->size < GZIP_MIN || data->size > GZIP_MAX
        || !compressible (type) || extra_has (req, "Content-Encoding"))
        return false;
    if (!s_ready)
        s_ready = deflateInit2 (&s_stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK;
    if (!s_ready || deflateReset (&s_stream) != Z_OK)
        return false;
    buf_clear (&s_packed);
    size_t room = deflateBound (&s_stream, data->size);
    s_stream.next_out = buf_room (&s_packed, room);
    s_stream.avail_out = (unsigned) room;
    s_stream.next_in = (Bytef *) data->data;
    s_stream.avail_in = (unsigned) data->size;
    if (deflate (&s_stream, Z_FINISH) != Z_STREAM_END)
        return false;
    size_t size = room - s_stream.avail_out;
    if (size + size / 8 > data->size)
        return false;
    *data = (text_t) { (const char *) s_packed.data, size };
    return true;
}

//  Reads carry an ETag: the actor's, or one of the bytes.
static bool
etag_settle (request_t *req, unsigned status, text_t data)
{
    if (status != 200 || (req->verb != VERB_GET && !req->head))
        return false;
    char tag [] = "W/\"0123456789abcdef\"";
    if (!extra_has (req, "ETag")) {
        put_hex (tag + 3, text_hash (data), 16);
        reply_header (req, "ETag", text_of (tag));
        return *req->if_none_match && etag_matches (req->if_none_match, text_of (tag));
    }
    return false;
}

static void
reply_write (request_t *req, unsigned status, const char *type, text_t data)
{
    if (etag_settle (req, status, data)) {
        status = 304;
        data = TEXT ("");
        type = NULL;
    }
    int64_t length = (int64_t) data.size;
    if (gzip_try (req, type, &data)) {
        length = (int64_t) data.size;
        reply_header (req, "Content-Encoding", TEXT ("gzip"));
    }
    if (compressible (type))
        reply_header (req, "Vary", TEXT ("Accept-Encoding"));
    put_head (req, status, type, length);
    if (!req->head && status != 204 && status != 304)
        buf_put (&req->out, data.data, data.size);
    req->state = STATE_REPLY;
    request_flush (req);
}

void
reply_bytes (request_t *req, unsigned status, const char *content_type, text_t data)
{
    if (reply_starts (req))
        reply_write (req, status, content_type, data);
}

void
reply_json (request_t *req, unsigned status, text_t json)
{
    reply_bytes (req, status, "application/json", json);
}

static void
put_seconds (request_t *req, const char *name, uint64_t seconds)
{
    char text [24];
    snprintf (text, sizeof text, "%llu", (unsigned long long) seconds);
    reply_header (req, name, text_of (text));
}

//  Routes under /api/ but not under /api/v1 wrap their answers.
static bool
envelope_wanted (const request_t *req)
{
    text_t path = buf_text (&req->path);
    return text_starts (path, "/api/") && !text_starts (path, "/api/v1/");
}

void
reply_fault (request_t *req, const fault_t *fault)
{
    static buf_t s_json;
    buf_clear (&s_json);
    req->code = error_name (fault->code);
    if (fault->retry_after)
        put_seconds (req, "Retry-After", fault->retry_after);
    else if (fault->code == E_UNAVAILABLE)
        put_seconds (req, "Retry-After", 2);
    fault_write (&s_json, fault->code, text_of (fault->text), mp_none, text_of (req->id),
                 envelope_wanted (req));
    reply_json (req, (unsigned) error_status (fault->code), buf_text (&s_json));
}

//  ---------------------------------------------------------------- answers of actors

static void
put_text (request_t *req, const char *name, mp_t value)
{
    if (mp_type (value) == MP_TEXT)
        reply_header (req, name, mp_text (value));
}

static void
put_names (request_t *req, const char *name, mp_t list)
{
    buf_t text = { 0 };
    for (mp_iter_t it = mp_iter (list); mp_next (&it);) {
        text_t word = mp_text (it.value);
        if (text.size)
            buf_puts (&text, ", ");
        buf_put (&text, word.data, word.size);
    }
    if (text.size)
        reply_header (req, name, buf_text (&text));
    buf_free (&text);
}

//  A header name that an actor gave: token characters only.
static bool
name_read (text_t name, char *out, size_t room)
{
    if (name.size == 0 || name.size >= room)
        return false;
    for (size_t i = 0; i < name.size; i++) {
        char c = name.data [i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')
              || c == '-' || c == '_'))
            return false;
        out [i] = c;
    }
    out [name.size] = 0;
    return strcasecmp (out, "content-length") != 0 && strcasecmp (out, "transfer-encoding") != 0
        && strcasecmp (out, "connection") != 0;
}

void
reply_meta (request_t *req, mp_t meta)
{
    if (mp_type (meta) != MP_MAP)
        return;
    put_text (req, "Location", mp_get (meta, "location"));
    put_text (req, "X-Outcome", mp_get (meta, "outcome"));
    mp_t retry = mp_get (meta, "retry_after");
    if (!mp_empty (retry))
        put_seconds (req, "Retry-After", mp_uint (retry));
    mp_t etag = mp_get (meta, "etag");
    if (mp_type (etag) == MP_TEXT) {
        text_t tag = mp_text (etag);
        bool quoted = tag.size && (tag.data [0] == '"' || text_starts (tag, "W/\""));
        buf_t text = { 0 };
        buf_putf (&text, quoted ? "%.*s" : "\"%.*s\"", (int) tag.size, tag.data);
        reply_header (req, "ETag", buf_text (&text));
        buf_free (&text);
    }
    if (mp_type (mp_get (meta, "ignored")) == MP_ARRAY)
        put_names (req, "X-Ignored-Fields", mp_get (meta, "ignored"));
    for (mp_iter_t it = mp_iter (mp_get (meta, "headers")); mp_next (&it);) {
        char name [64];
        if (name_read (mp_text (it.key), name, sizeof name))
            put_text (req, name, it.value);
    }
}

static void
reply_error (request_t *req, const bus_reply_t *reply)
{
    static buf_t s_json;
    mp_t code = mp_get (reply->body, "code"), text = mp_get (reply->body, "error");
    error_code_t error = mp_type (code) == MP_TEXT ? error_by_name (mp_text (code))
        : error_by_status ((int) reply->status);
    text_t words = mp_type (text) == MP_TEXT ? mp_text (text) : text_of (error_text (error));
    req->code = error_name (error);
    buf_clear (&s_json);
    fault_write (&s_json, error, words, mp_get (reply->body, "details"), text_of (req->id),
                 envelope_wanted (req));
    mp_t outcome = mp_get (reply->meta, "outcome");
    if (mp_type (outcome) == MP_TEXT) {
        s_json.size--;
        buf_puts (&s_json, ",\"outcome\":");
        json_quote (mp_text (outcome), &s_json);
        buf_puts (&s_json, "}");
    }
    //  What an actor says besides the usual fields stays.
    for (mp_iter_t it = mp_iter (reply->body); mp_next (&it);) {
        static const char *const known [] = {
            "error", "message", "detail", "code", "details", "request_id", "success", "outcome"
        };
        bool usual = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            usual |= text_is (mp_text (it.key), known [i]);
        if (usual)
            continue;
        s_json.size--;
        buf_puts (&s_json, ",");
        json_quote (mp_text (it.key), &s_json);
        buf_puts (&s_json, ":");
        json_write (it.value, &s_json);
        buf_puts (&s_json, "}");
    }
    reply_json (req, (unsigned) reply->status, buf_text (&s_json));
}

void
reply_bus (request_t *req, const bus_reply_t *reply)
{
    static buf_t s_json;
    mp_t meta = reply->meta;
    mp_t revoke = mp_get (meta, "revoke");
    if (mp_type (revoke) == MP_MAP)
        auth_revoke (req->edge->auth, revoke);
    reply_meta (req, meta);
    if (reply->status >= 400) {
        reply_error (req, reply);
        return;
    }
    unsigned status = reply->status >= 200 && reply->status <= 399 ? (unsigned) reply->status : 200;
    mp_t etag = mp_get (meta, "etag");
    if (status == 200 && mp_type (etag) == MP_TEXT && *req->if_none_match
        && (req->verb == VERB_GET || req->head)) {
        buf_t tag = { 0 };
        text_t text = mp_text (etag);
        bool quoted = text.size && (text.data [0] == '"' || text_starts (text, "W/\""));
        buf_putf (&tag, quoted ? "%.*s" : "\"%.*s\"", (int) text.size, text.data);
        bool same = etag_matches (req->if_none_match, buf_text (&tag));
        buf_free (&tag);
        if (same) {
            reply_bytes (req, 304, NULL, TEXT (""));
            return;
        }
    }
    mp_type_t type = mp_type (reply->body);
    mp_t content = mp_get (meta, "content_type");
    if (mp_type (content) == MP_TEXT && (type == MP_TEXT || type == MP_BIN)) {
        char name [128];
        text_t text = mp_text (content);
        snprintf (name, sizeof name, "%.*s", (int) text.size, text.data);
        bool clean = !strpbrk (name, "\r\n");
        reply_bytes (req, status, clean ? name : "application/octet-stream", mp_text (reply->body));
        return;
    }
    if (status == 204) {
        reply_bytes (req, 204, NULL, TEXT (""));
        return;
    }
    buf_clear (&s_json);
    if (mp_is_none (reply->body))
        buf_puts (&s_json, "null");
    else
        json_write (reply->body, &s_json);
    reply_json (req, status, buf_text (&s_json));
}

//  ---------------------------------------------------------------- streams

void
reply_stream (request_t *req, unsigned status, const char *content_type, int64_t size)
{
    if (!reply_starts (req))
        return;
    req->stream_left = size;
    req->chunked = size < 0 && !req->http10;
    if (size < 0 && req->http10)
        req->close = true;
    put_head (req, status, content_type, size);
    req->state = STATE_STREAM;
    if (req->head)
        req->stream_end = true;
    conn_watch_peer (req->conn);
    request_soon (req);
}

void
reply_push (request_t *req, text_t data)
{
    if (req->state != STATE_STREAM || req->stream_end || data.size == 0)
        return;
    if (req->stream_left >= 0) {
        if ((int64_t) data.size > req->stream_left)
            data.size = (size_t) req->stream_left;
        req->stream_left -= (int64_t) data.size;
    }
    if (req->chunked)
        buf_putf (&req->out, "%zx\r\n", data.size);
    buf_put (&req->out, data.data, data.size);
    if (req->chunked)
        buf_puts (&req->out, "\r\n");
    request_soon (req);
}

size_t
reply_pending (const request_t *req)
{
    return req->out.size - req->out_at;
}

void
reply_end (request_t *req, bool broken)
{
    if (req->state != STATE_STREAM || req->stream_end)
        return;
    req->stream_end = true;
    //  Fewer bytes than announced: only a cut connection tells the client.
    req->broken = broken || req->stream_left > 0;
    if (req->chunked && !req->broken)
        buf_puts (&req->out, "0\r\n\r\n");
    request_soon (req);
}
