//  hello_lws.c -- the least that libwebsockets can do: one answer for every GET, headers and body
//  in one write. What HTTP alone costs before there is a token, a bus or a database.

#include <libwebsockets.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct lws_context *s_context;
static volatile sig_atomic_t s_stop;

static void
on_signal (int signal)
{
    (void) signal;
    s_stop = 1;
    lws_cancel_service (s_context);
}

static int
hello (struct lws *wsi)
{
    static const char body [] = "{\"hello\":\"world\"}";
    const size_t size = sizeof body - 1;
    unsigned char buffer [LWS_PRE + 512], *start = buffer + LWS_PRE, *at = start;
    unsigned char *end = buffer + sizeof buffer - size;
    if (lws_add_http_common_headers (wsi, 200, "application/json", size, &at, end)
        || lws_finalize_http_header (wsi, &at, end))
        return 1;
    memcpy (at, body, size);
    at += size;
    if (lws_write (wsi, start, (size_t) (at - start), LWS_WRITE_HTTP_FINAL) < 0)
        return 1;
    return lws_http_transaction_completed (wsi) ? -1 : 0;
}

static int
on_event (struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t size)
{
    if (reason == LWS_CALLBACK_HTTP)
        return hello (wsi);
    return lws_callback_http_dummy (wsi, reason, user, in, size);
}

int
main (int argc, char **argv)
{
    static const struct lws_protocols protocols [] = {
        { "http", on_event, 0, 4096, 0, NULL, 65536 },
        { NULL, NULL, 0, 0, 0, NULL, 0 } };
    if (argc != 2) {
        fputs ("usage: hello_lws PORT\n", stderr);
        return 2;
    }
    lws_set_log_level (LLL_ERR, NULL);
    struct lws_context_creation_info info = {
        .port = atoi (argv [1]), .iface = "127.0.0.1", .protocols = protocols,
        .keepalive_timeout = 60 };
    s_context = lws_create_context (&info);
    if (!s_context)
        return 1;
    signal (SIGTERM, on_signal);
    puts ("ready");
    fflush (stdout);
    while (!s_stop && lws_service (s_context, 0) >= 0)
        ;
    lws_context_destroy (s_context);
    return 0;
}
