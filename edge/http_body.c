//  http_body.c -- the body of a request: whether it may come, and its bytes.

#include <strings.h>

#include "edge/edge.h"

#define BODY_MAX_DEFAULT (1024 * 1024)
#define LOCAL_BODY_MAX 65536

void
request_body_expect (request_t *req)
{
    char text [32];
    if (conn_header (req->conn, WSI_TOKEN_HTTP_EXPECT, text, sizeof text)
        && strcasecmp (text, "100-continue") == 0)
        conn_send_now (req->conn, TEXT ("HTTP/1.1 100 Continue\r\n\r\n"));
}

bool
request_body_prepare (request_t *req)
{
    const route_t *route = req->route;
    uint64_t max = LOCAL_BODY_MAX;
    if (route)
        max = route->body_max ? route->body_max
            : route->upload ? (uint64_t) opt_int (req->edge->options, "upload-max")
            : BODY_MAX_DEFAULT;
    if (req->body_size > max) {
        fault_t fault = { 0 };
        fault_set (&fault, E_TOO_LARGE, "body of %llu bytes is larger than %llu",
                   (unsigned long long) req->body_size, (unsigned long long) max);
        reply_fault (req, &fault);
        return false;
    }
    if (req->body_size == 0 && !(route && route->upload)) {
        req->body_done = true;
        return true;
    }
    body_kind_t kind = body_kind_of (req->content_type);
    char encoding [32];
    if (!(route && (route->raw || route->upload))
        && conn_header (req->conn, WSI_TOKEN_HTTP_CONTENT_ENCODING, encoding, sizeof encoding)
        && strcasecmp (encoding, "identity") != 0) {
        request_refuse (req, E_MEDIA_TYPE, "compressed bodies are not supported");
        return false;
    }
    if (kind == BODY_MULTIPART
        && !boundary_parse (req->content_type, req->boundary, sizeof req->boundary)) {
        request_refuse (req, E_INVALID, "multipart body needs a boundary");
        return false;
    }
    if (route && route->upload)
        req->body_kind = kind == BODY_MULTIPART ? BODY_MULTIPART : BODY_STREAM;
    else if (route && route->raw)
        req->body_kind = BODY_RAW;
    else if (kind == BODY_NONE) {
        fault_t fault = { 0 };
        fault_set (&fault, E_MEDIA_TYPE, "media type %.80s is not supported", req->content_type);
        reply_fault (req, &fault);
        return false;
    }
    else
        req->body_kind = kind;
    if (route && route->upload)
        upload_new (req);
    if (req->body_size == 0)
        req->body_done = true;
    req->deadline = loop_now (req->edge->loop)
        + opt_int (req->edge->options, "body-timeout") * 1000 + (int64_t) (req->body_size / 16);
    return true;
}

int
request_cut (conn_t *conn)
{
    linger_take (conn->edge, conn->fd);
    return -1;
}

int
request_body_end (conn_t *conn)
{
    request_t *req = conn->request;
    //  Where bytes are left behind a body, libwebsockets may say for ever that it is whole.
    if (conn->body_ended)
        return request_cut (conn);
    conn->body_ended = true;
    if (!req || conn->closing || req->body_done || req->answered)
        return 0;
    if (req->body_seen != req->body_size)
        return -1;
    req->body_done = true;
    conn_flow (conn, false);
    if (req->upload)
        upload_end (req);
    else if (req->state == STATE_BODY)
        request_called (req);
    return 0;
}

//  Is that the beginning of the request itself, perhaps cut where the body would end?
static bool
is_own_head (const request_t *req, const char *data, size_t size)
{
    const char *verb = verb_name (req->verb);
    size_t length = strlen (verb), blank = 0;
    while (blank < size && (data [blank] == '\r' || data [blank] == '\n'))
        blank++;
    data += blank;
    size -= blank;
    return memcmp (data, verb, size < length ? size : length) == 0
        && (size <= length || data [length] == ' ');
}

int
request_body (conn_t *conn, const char *data, size_t size)
{
    request_t *req = conn->request;
    if (!req || conn->closing || req->body_done || req->answered || size == 0)
        return 0;
    if (req->body_seen == 0 && req->maybe_behind && is_own_head (req, data, size))
        return request_cut (conn);
    //  4.3 hands over what is pipelined behind the body as body, and never says that it is whole.
    bool excess = req->body_seen + size > req->body_size;
    if (excess) {
        size = req->body_size - req->body_seen;
        req->close = true;
    }
    req->body_seen += size;
    req->moved = loop_now (conn->edge->loop);
    if (req->upload)
        upload_data (req, (text_t) { data, size });
    else
        buf_put (&req->body, data, size);
    return excess && conn->request == req ? request_body_end (conn) : 0;
}
