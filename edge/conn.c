//  conn.c -- connections: libwebsockets' callback, upgrades, headers.

#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <strings.h>

#include "edge/process.h"

conn_t *
conn_new (edge_t *edge, int fd, const struct sockaddr *peer, bool admin)
{
    conn_t *conn = xcalloc (1, sizeof *conn);
    conn->edge = edge;
    conn->fd = fd;
    conn->admin = admin;
    if (peer->sa_family == AF_INET)
        inet_ntop (AF_INET, &((const struct sockaddr_in *) peer)->sin_addr, conn->ip,
                   sizeof conn->ip);
    else if (peer->sa_family == AF_INET6) {
        const struct in6_addr *address = &((const struct sockaddr_in6 *) peer)->sin6_addr;
        if (IN6_IS_ADDR_V4MAPPED (address))
            inet_ntop (AF_INET, address->s6_addr + 12, conn->ip, sizeof conn->ip);
        else
            inet_ntop (AF_INET6, address, conn->ip, sizeof conn->ip);
    }
    conn->next = edge->conns;
    conn->link = &edge->conns;
    if (conn->next)
        conn->next->link = &conn->next;
    edge->conns = conn;
    edge->conn_count++;
    edge->accepted++;
    return conn;
}

void
conn_free (conn_t *conn)
{
    if (conn->request)
        request_free (conn->request);
    conn_watch_end (conn);
    service_forget (conn);
    *conn->link = conn->next;
    if (conn->next)
        conn->next->link = conn->link;
    conn->edge->conn_count--;
    session_drop (&conn->session);
    buf_free (&conn->credential);
    free (conn);
}

//  ---------------------------------------------------------------- headers

static bool
value_whole (const char *value, int size)
{
    return size >= 0 && strlen (value) == (size_t) size;
}

bool
conn_header (conn_t *conn, enum lws_token_indexes token, char *out, size_t room)
{
    *out = 0;
    if (lws_hdr_total_length (conn->wsi, token) <= 0)
        return false;
    int size = lws_hdr_copy (conn->wsi, out, (int) room, token);
    if (size > 0 && value_whole (out, size))
        return true;
    *out = 0;
    return false;
}

bool
conn_header_twice (conn_t *conn, enum lws_token_indexes token)
{
    static char s_second [EDGE_HEADER_MAX];
    return lws_hdr_copy_fragment (conn->wsi, s_second, sizeof s_second, token, 1) >= 0;
}

bool
conn_header_named (conn_t *conn, const char *name, char *out, size_t room)
{
    *out = 0;
    int length = lws_hdr_custom_length (conn->wsi, name, (int) strlen (name));
    if (length < 0 || (size_t) length >= room)
        return false;
    int size = lws_hdr_custom_copy (conn->wsi, out, (int) room, name, (int) strlen (name));
    if (!value_whole (out, size)) {
        *out = 0;
        return false;
    }
    while (size && (out [size - 1] == ' ' || out [size - 1] == '\t'))
        out [--size] = 0;
    return true;
}

bool
conn_path (conn_t *conn, char *out, size_t room)
{
    char *path = NULL;
    int size = 0;
    *out = 0;
    if (lws_http_get_uri_and_method (conn->wsi, &path, &size) < 0 || !path || size <= 0
        || (size_t) size >= room || memchr (path, 0, (size_t) size))
        return false;
    memcpy (out, path, (size_t) size);
    out [size] = 0;
    return true;
}

bool
conn_query_read (conn_t *conn, buf_t *out)
{
    static char s_item [EDGE_HEADER_MAX];
    for (int i = 0;; i++) {
        int size = lws_hdr_copy_fragment (conn->wsi, s_item, sizeof s_item,
                                          WSI_TOKEN_HTTP_URI_ARGS, i);
        if (size < 0)
            return i > 0 || lws_hdr_total_length (conn->wsi, WSI_TOKEN_HTTP_URI_ARGS) <= 0;
        if (memchr (s_item, 0, (size_t) size))
            return false;
        if (size) {
            buf_put (out, s_item, (size_t) size);
            buf_putc (out, 0);
        }
    }
}

bool
origin_allowed (edge_t *edge, text_t origin)
{
    text_t list = edge->cors_origins;
    if (list.size == 0 || text_is (list, "*"))
        return true;
    for (size_t at = 0; at < list.size;) {
        const char *item = list.data + at;
        const char *comma = memchr (item, ',', list.size - at);
        size_t size = comma ? (size_t) (comma - item) : list.size - at;
        at += size + 1;
        text_t one = { item, size };
        while (one.size && *one.data == ' ') {
            one.data++;
            one.size--;
        }
        while (one.size && (one.data [one.size - 1] == ' ' || one.data [one.size - 1] == '/'))
            one.size--;
        if (text_eq (one, origin))
            return true;
    }
    return false;
}

//  Behind a proxy that we trust: the address that it saw, the last of the list.
void
conn_forwarded (conn_t *conn)
{
    char list [512];
    if (!opt_bool (conn->edge->options, "trust-proxy")
        || !conn_header (conn, WSI_TOKEN_X_FORWARDED_FOR, list, sizeof list))
        return;
    char *last = strrchr (list, ',');
    last = last ? last + 1 : list;
    last += strspn (last, " ");
    struct in6_addr address;
    if (inet_pton (AF_INET, last, &address) == 1 || inet_pton (AF_INET6, last, &address) == 1)
        strcpy (conn->ip, last);
}

//  ---------------------------------------------------------------- upgrades

//  A refusal before any request exists. The peer's whole header was read, so closing loses nothing.
static int
upgrade_refuse (conn_t *conn, error_code_t code)
{
    buf_t body = { 0 }, out = { 0 };
    fault_write (&body, code, text_of (error_text (code)), mp_none, TEXT (""), false);
    buf_putf (&out, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
              "Connection: close\r\n\r\n", error_status (code), error_name (code), body.size);
    buf_put (&out, body.data, body.size);
    conn_send_now (conn, buf_text (&out));
    buf_free (&body);
    buf_free (&out);
    return -1;
}

//  libwebsockets goes on with a freed pointer after refusing an unknown protocol, and would speak
//  h2c: only "websocket" passes here. What it hands us in `in` may be freed, so the header is read
//  again.
static int
conn_upgrade (conn_t *conn)
{
    char text [512];
    conn->ssl = lws_get_ssl (conn->wsi);
    if (lws_hdr_total_length (conn->wsi, WSI_TOKEN_UPGRADE) <= 0
        || lws_hdr_copy (conn->wsi, text, sizeof text, WSI_TOKEN_UPGRADE) <= 0
        || strcasecmp (text, "websocket") != 0)
        return -1;
    if (conn->edge->draining)
        return upgrade_refuse (conn, E_UNAVAILABLE);
    if (conn->admin || lws_hdr_total_length (conn->wsi, WSI_TOKEN_GET_URI) <= 0
        || !conn_path (conn, text, sizeof text) || !ws_path (text_of (text)))
        return upgrade_refuse (conn, E_NOT_FOUND);
    conn_forwarded (conn);
    return 0;
}

//  ---------------------------------------------------------------- the callback

static int
conn_callback (conn_t *conn, enum lws_callback_reasons reason, void *in, size_t size)
{
    switch (reason) {
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return conn_upgrade (conn);
    case LWS_CALLBACK_HTTP:
        return request_begin (conn, in, size);
    case LWS_CALLBACK_HTTP_BODY:
        return request_body (conn, in, size);
    case LWS_CALLBACK_HTTP_BODY_COMPLETION:
        return request_body_end (conn);
    case LWS_CALLBACK_ESTABLISHED:
    case LWS_CALLBACK_CLOSED:
    case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
    case LWS_CALLBACK_RECEIVE:
    case LWS_CALLBACK_RECEIVE_PONG:
    case LWS_CALLBACK_SERVER_WRITEABLE:
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        return ws_callback (conn, reason, in, size);
    case LWS_CALLBACK_CLOSED_HTTP:
        //  The descriptor is closed next: nothing may watch it any more.
        if (conn->request)
            request_free (conn->request);
        conn_watch_end (conn);
        conn->closing = true;
        return 0;
    case LWS_CALLBACK_WSI_DESTROY:
        lws_set_opaque_user_data (conn->wsi, NULL);
        conn_free (conn);
        return 0;
    //  CONNECT turns a connection into a raw one without any timeout.
    case LWS_CALLBACK_RAW_ADOPT:
    case LWS_CALLBACK_RAW_CONNECTED:
    case LWS_CALLBACK_RAW_RX:
    case LWS_CALLBACK_RAW_WRITEABLE:
        return -1;
    default:
        return 0;
    }
}

int
edge_callback (struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t size)
{
    if (reason == LWS_CALLBACK_OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS) {
        tls_prepare (lws_context_user (lws_get_context (wsi)), user);
        return 0;
    }
    conn_t *conn = wsi ? lws_get_opaque_user_data (wsi) : NULL;
    if (!conn)
        return 0;
    conn->wsi = wsi;
    return conn_callback (conn, reason, in, size);
}
