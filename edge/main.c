//  main.c -- the edge process: options, listeners, the two loops, signals, a graceful end.

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include "edge/edge.h"
#include "edge/process.h"
#include "proto/fault.h"
#include "proto/secrets.h"

#define PROTOCOLS_MAX 12
#define TIDY_MS 5000
#define START_MS 1500            //  that identity has before we listen without it
#define TIDY_AFTER 256
#define SERVE_BUF (64 * 1024 + LWS_PRE)
//  connections whose header is under way, 8 KiB each; others wait
#define HEADERS_MAX 4096

static opt_t s_options [] = {
    { "run-dir", OPT_STR, "var/run", 0, "BUSBAR_RUN", "directory of the local sockets", NULL },
    { "slot", OPT_STR, "edge.1", 0, NULL, "which of several edges this is", NULL },
    { "host", OPT_STR, "127.0.0.1", 0, "HOST", "address to listen on", NULL },
    { "port", OPT_INT, "8002", 0, "PORT", "port to listen on; 0: any free one, printed", NULL },
    { "admin-port", OPT_INT, "-1", 0, NULL,
      "port of /metrics on 127.0.0.1; 0: any free one, -1: none", NULL },
    { "jwt-secret", OPT_STR, NULL, OPT_SECRET, "JWT_SECRET|JWT_SECRET_KEY|SECRET_KEY",
      "secret that signs tokens, at least 32 bytes", NULL },
    { "anon-key", OPT_STR, NULL, OPT_SECRET, "ANON_KEY",
      "key that applications without a user send; unset: not asked for", NULL },
    { "anon-tags", OPT_STR, "baas", 0, NULL, "route tags that ask for the anon key", NULL },
    { "secrets-fd", OPT_INT, "-1", 0, NULL, "descriptor that hands over secrets", NULL },
    { "cors-origins", OPT_STR, NULL, 0, "CORS_ORIGINS|BACKEND_CORS_ORIGINS",
      "comma list of exact origins; unset: any, without credentials", NULL },
    { "trust-proxy", OPT_BOOL, NULL, 0, "TRUST_PROXY",
      "take the client address from X-Forwarded-For", NULL },
    { "environment", OPT_STR, "production", 0, "ENVIRONMENT", "name shown by /health", NULL },
    { "app-dir", OPT_STR, "edge/dashboard/dist", 0, "BUSBAR_APP", "directory served under /app/",
      NULL },
    { "tls-cert", OPT_STR, NULL, 0, "TLS_CERT", "certificate chain (PEM); unset: plain HTTP",
      NULL },
    { "tls-key", OPT_STR, NULL, 0, "TLS_KEY", "private key (PEM)", NULL },
    { "limit-normal", OPT_STR, "100000/s:200000", 0, "LIMIT_NORMAL",
      "requests of one user; 0: no limit", NULL },
    { "limit-sign-in", OPT_STR, "10/m:20", 0, "LIMIT_SIGN_IN", "sign-ins of one address", NULL },
    { "limit-mail", OPT_STR, "5/m", 0, "LIMIT_MAIL", "requests of one address that send mail",
      NULL },
    { "limit-heavy", OPT_STR, "60/m:30", 0, "LIMIT_HEAVY", "expensive requests of one user", NULL },
    { "upload-max", OPT_INT, "5368709120", 0, "UPLOAD_MAX", "largest streamed upload, bytes",
      NULL },
    { "body-timeout", OPT_INT, "30", 0, NULL, "s in which an ordinary body must have come", NULL },
    { "keep-alive", OPT_INT, "60", 0, NULL, "s that an idle connection is kept", NULL },
    { "max-files", OPT_INT, "16384", 0, NULL, "descriptors, so connections, at most", NULL },
    { "drain", OPT_INT, "10", 0, NULL, "s that requests under way get at the end", NULL },
    { "clock-offset-ms", OPT_INT, "0", 0, NULL, "shift of the wall clock (tests)", NULL },
    { "access-log", OPT_BOOL, "true", 0, "ACCESS_LOG", "one line per request", NULL },
    { "log-level", OPT_STR, "info", 0, "LOG_LEVEL", "debug, info, warn or error", NULL },
    { 0 } };

static edge_t s_edge;
static bool s_done;

//  ---------------------------------------------------------------- bus

static void
bus_ready (void *arg)
{
    edge_t *edge = arg;
    if (directory_refresh (edge))
        log_info ("routes", "rows", log_num ((int64_t) router_size (edge->router)));
    bus_subscribe (edge->bus, TEXT ("sys/identity"), TEXT (""), 0, false);
    auth_resync (edge->auth);
    live_directory (edge->live);
}

static void
bus_refused (void *arg, const wire_refused_t *why)
{
    (void) arg;
    char text [256];
    snprintf (text, sizeof text, "%.*s", (int) why->text.size,
              why->text.data ? why->text.data : "");
    log_error ("the broker refused us", "text", text);
    exit (1);
}

static void
bus_directory (void *arg)
{
    edge_t *edge = arg;
    if (directory_refresh (edge))
        log_info ("routes", "rows", log_num ((int64_t) router_size (edge->router)));
    live_directory (edge->live);
    //  Identity may just have come: nobody gets in before it was heard.
    if (!auth_fresh (edge->auth))
        auth_resync (edge->auth);
}

static void
bus_event (void *arg, const wire_event_t *event)
{
    edge_t *edge = arg;
    if (text_is (event->channel, "sys/identity"))
        auth_event (edge->auth, event);
    else
        live_event (edge->live, event);
}

static void
bus_subscribed (void *arg, const wire_subscribed_t *answer, bool again)
{
    edge_t *edge = arg;
    if (text_is (answer->channel, "sys/identity"))
        auth_resync (edge->auth);
    else
        live_subscribed (edge->live, answer, again);
}

static bool
bus_open (edge_t *edge)
{
    static char s_broker [256];
    snprintf (s_broker, sizeof s_broker, "ipc://%s/broker.s", opt_str (s_options, "run-dir"));
    edge->zmq = zmq_ctx_new ();
    if (!edge->zmq)
        return false;
    edge->bus = bus_new (edge->loop, edge->zmq, &(bus_conf_t) {
        .role = "edge", .name = "edge", .slot = opt_str (s_options, "slot"), .broker = s_broker });
    bus_listen (edge->bus, &(bus_listener_t) {
        .on_event = bus_event, .on_subscribed = bus_subscribed, .arg = edge });
    return true;
}

//  ---------------------------------------------------------------- libwebsockets

static struct lws_context *
context_open (edge_t *edge)
{
    static struct lws_protocols s_protocols [PROTOCOLS_MAX];
    //  WebSockets are asked by ws_socket.c whether they live, which says so here, too.
    static const lws_retry_bo_t retry = {
        .secs_since_valid_ping = 3600, .secs_since_valid_hangup = 3610 };
    size_t count = 0;
    s_protocols [count++] = (struct lws_protocols) {
        .name = "http", .callback = edge_callback, .rx_buffer_size = 65536,
        .tx_packet_size = 65536 };
    for (size_t i = 0; ws_subprotocols [i] && count < PROTOCOLS_MAX - 1; i++)
        s_protocols [count++] = (struct lws_protocols) {
            .name = ws_subprotocols [i], .callback = edge_callback, .rx_buffer_size = 128,
            .tx_packet_size = 65536 };

    //  Its tables are as large as the limit, and every close walks them: set before the context is
    //  made.
    rlim_t files = (rlim_t) opt_int (s_options, "max-files");
    struct rlimit limit;
    getrlimit (RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < files)
        files = limit.rlim_max;
    limit.rlim_cur = files;
    setrlimit (RLIMIT_NOFILE, &limit);

    quiet_open ();
    const char *cert = opt_str (s_options, "tls-cert"), *key = opt_str (s_options, "tls-key");
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER, .protocols = s_protocols, .user = edge,
        .options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS,
        .pt_serv_buf_size = SERVE_BUF, .max_http_header_data = 8192,
        .max_http_header_pool = HEADERS_MAX,
        .timeout_secs = 20, .timeout_secs_ah_idle = 10,
        .keepalive_timeout = (int) opt_int (s_options, "keep-alive"),
        .retry_and_idle_policy = &retry, .alpn = "http/1.1", .vhost_name = "edge",
        .gid = (gid_t) -1, .uid = (uid_t) -1 };
    if (edge->tls) {
        info.options |= LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
        info.ssl_cert_filepath = cert;
        info.ssl_private_key_filepath = key;
        info.ssl_cipher_list = "ECDHE+AESGCM:ECDHE+CHACHA20";       //  of TLS 1.2
    }
    struct lws_context *context = lws_create_context (&info);
    edge->vhost = context ? lws_create_vhost (context, &info) : NULL;
    return edge->vhost ? context : NULL;
}

//  Every connection begins with 8 KiB for its header; what is free between those that stay goes
//  back to the system after a wave of them.
static void
tidy (void *arg)
{
    edge_t *edge = arg;
    if (edge->accepted - edge->tidied > TIDY_AFTER) {
        edge->tidied = edge->accepted;
        malloc_trim (0);
    }
    ltimer_set (edge->tidy, TIDY_MS);
}

//  ---------------------------------------------------------------- the end

static void
drain_check (void *arg)
{
    edge_t *edge = arg;
    if (edge->request_count == 0 && edge->ws_count == 0)
        s_done = true;
    else if (loop_now (edge->loop) > edge->drain_until) {
        log_warn ("requests cut at the end", "requests", log_num ((int64_t) edge->request_count));
        s_done = true;
    }
    else
        ltimer_set (edge->drain_timer, 50);
}

//  Nothing new, what is under way is answered, WebSockets are told to come back elsewhere.
static void
on_end (void *arg)
{
    edge_t *edge = arg;
    if (edge->draining) {
        s_done = true;
        return;
    }
    edge->draining = true;
    log_info ("draining");
    listeners_close (edge);
    live_drain (edge->live);
    edge->drain_until = loop_now (edge->loop) + opt_int (s_options, "drain") * 1000;
    edge->drain_timer = loop_timer (edge->loop, drain_check, edge);
    ltimer_set (edge->drain_timer, 0);
}

static void
on_reload (void *arg)
{
    edge_t *edge = arg;
    if (edge->tls)
        tls_load (edge);
}

//  ---------------------------------------------------------------- start

static bool
secrets_settle (edge_t *edge)
{
    secrets_read ((int) opt_int (s_options, "secrets-fd"));
    const char *secret = opt_str (s_options, "jwt-secret");
    if (!secret)
        secret = secrets_get ("jwt_secret");
    if (!secret || strlen (secret) < 32) {
        fprintf (stderr, "jwt secret is missing or shorter than 32 bytes: set JWT_SECRET\n");
        return false;
    }
    edge->jwt_secret = text_of (xstrdup (secret));
    const char *anon = opt_str (s_options, "anon-key");
    if (!anon)
        anon = secrets_get ("anon_key");
    edge->anon_key = text_of (xstrdup (anon ? anon : ""));
    const char *origins = opt_str (s_options, "cors-origins");
    edge->cors_origins = text_of (origins ? origins : "");
    edge->environment = opt_str (s_options, "environment");
    return true;
}

static void
edge_make (edge_t *edge)
{
    edge->options = s_options;
    edge->directory = directory_new ();
    edge->router = router_new ();
    edge->stats = stats_new (edge);
    edge->auth = auth_new (edge);
    edge->limiter = limiter_new (edge);
    edge->live = live_new (edge);
    edge->sweep = loop_timer (edge->loop, requests_sweep, edge);
    edge->tidy = loop_timer (edge->loop, tidy, edge);
    ltimer_set (edge->tidy, TIDY_MS);
}

static void
edge_free (edge_t *edge)
{
    lws_context_destroy (edge->context);
    lingers_end ();
    tls_close (edge);
    live_destroy (&edge->live);
    limiter_destroy (&edge->limiter);
    auth_destroy (&edge->auth);
    stats_destroy (&edge->stats);
    router_drop (&edge->router);
    directory_destroy (&edge->directory);
    bus_destroy (&edge->bus);
    ltimer_end (&edge->sweep);
    ltimer_end (&edge->tick);
    ltimer_end (&edge->tidy);
    ltimer_end (&edge->drain_timer);
    zmq_ctx_term (edge->zmq);
    loop_destroy (&edge->loop);
    requests_forget ();
    free ((char *) edge->jwt_secret.data);
    free ((char *) edge->anon_key.data);
}

//  One of several that comes back takes no connection from the others before it can answer.
static void
wait_for_identity (edge_t *edge)
{
    int64_t until = loop_now (edge->loop) + START_MS;
    while (!s_done && !auth_fresh (edge->auth) && loop_now (edge->loop) < until)
        loop_turn (edge->loop, 10);
}

int
main (int argc, char **argv)
{
    edge_t *edge = &s_edge;
    int rc = opt_read (s_options, &argc, argv, "the network edge: REST and WebSocket");
    if (rc)
        return rc == 1 ? 0 : rc;
    log_open ("edge", log_level_by_name (opt_str (s_options, "log-level")));
    signal (SIGPIPE, SIG_IGN);
    if (!fault_open ("edge") || !secrets_settle (edge))
        return 2;
    edge->loop = loop_new ();
    loop_set_wall_offset (edge->loop, opt_int (s_options, "clock-offset-ms"));
    edge->options = s_options;
    const char *cert = opt_str (s_options, "tls-cert");
    edge->tls = cert && *cert;
    if (edge->tls && !tls_load (edge))
        return 2;
    if (!bus_open (edge) || !(edge->context = context_open (edge))) {
        log_error ("the edge cannot start: sockets, certificate or memory");
        return 1;
    }
    edge_make (edge);
    loop_signal (edge->loop, SIGTERM, on_end, edge);
    loop_signal (edge->loop, SIGINT, on_end, edge);
    loop_signal (edge->loop, SIGHUP, on_reload, edge);
    bus_start (edge->bus, &(bus_life_t) {
        .on_ready = bus_ready, .on_refused = bus_refused, .on_directory = bus_directory,
        .arg = edge });
    wait_for_identity (edge);
    if (!listeners_open (edge))
        return 1;
    loop_turn (edge->loop, 0);
    while (!s_done && service_turn (edge))
        continue;
    bus_leave (edge->bus);
    loop_turn (edge->loop, 0);
    edge_free (edge);
    log_info ("stopped");
    return 0;
}
