//  conform_actor.c -- the actor of PROTOCOL.md, section 17, made with the kit.

#include "actors/kit/actor.h"

static const char conform_sql [] = "-- :name conform_nothing\nSELECT 1 AS one\n";

static void
echo (req_t *req)
{
    buf_t *body = req_buf (req);
    mp_put_map (body, 1);
    mp_pair_str (body, "text", req_str (req, "text"));
    reply_mp (req, 200, mp_buf (body));
}

static void
refuse (req_t *req)
{
    fail_field (req, E_CONFLICT, "name", "taken");
}

static void
count (req_t *req)
{
    buf_t *piece = req_buf (req);
    stream_begin (req, 200, "text/plain", -1);
    for (int64_t n = 0, to = req_int (req, "to"); n < to; n++) {
        buf_putf (piece, "%lld\n", (long long) n);
        if (piece->size > 30000 || n + 1 == to) {
            stream_write (req, buf_text (piece));
            piece->size = 0;
        }
    }
    stream_end (req);
}

static void
pause_for (req_t *req)
{
    req_sleep (req, req_int (req, "ms"));
    buf_t *body = req_buf (req);
    mp_put_map (body, 1);
    mp_pair_bool (body, "waited", true);
    reply_mp (req, 200, mp_buf (body));
}

static void
size (req_t *req)
{
    text_t piece;
    int64_t sum = 0;
    while (req_read (req, &piece))
        sum += (int64_t) piece.size;
    buf_t *body = req_buf (req);
    mp_put_map (body, 1);
    mp_pair_int (body, "size", sum);
    reply_mp (req, 200, mp_buf (body));
}

static void
publish (req_t *req)
{
    for (int64_t n = 0; n < req_int (req, "count"); n++)
        live_append (req_actor (req), "org:conform/log", NULL, "conform.counted",
                     text_of (req_print (req, "{\"n\": %lld}", (long long) n)), NULL, NULL);
    reply_empty (req);
}

static const field_t text_in [] = { { "text", T_TEXT, REQUIRED, .max = 64 }, { 0 } };
static const field_t to_in [] = { { "to", T_INT, REQUIRED, .min = 0, .max = 1000000 }, { 0 } };
static const field_t ms_in [] = { { "ms", T_INT, REQUIRED, .min = 0, .max = 60000 }, { 0 } };
static const field_t count_in [] = { { "count", T_INT, REQUIRED, .min = 1, .max = 1000 }, { 0 } };

static const route_t routes [] = {
    ACTION ("conform.echo", "GET", "/conform/:text", echo, .spec.in = text_in,
            .spec.auth = AUTH_NONE),
    ACTION ("conform.fail", NULL, NULL, refuse, .spec.auth = AUTH_NONE),
    ACTION ("conform.count", NULL, NULL, count, .spec.in = to_in, .spec.reply = "stream",
            .spec.auth = AUTH_NONE),
    ACTION ("conform.wait", NULL, NULL, pause_for, .spec.in = ms_in, .spec.auth = AUTH_NONE),
    ACTION ("conform.size", "POST", "/conform/size", size, .spec.upload = true,
            .spec.auth = AUTH_NONE),
    ACTION ("conform.publish", NULL, NULL, publish, .spec.in = count_in, .spec.auth = AUTH_NONE),
    { 0 }
};

static const channel_t channels [] = { { "log", "log" }, { 0 } };

int
main (int argc, char **argv)
{
    actor_t actor = { .name = "conform",
                      .sql = (const char *const []) { conform_sql, NULL },
                      .routes = routes,
                      .channels = channels };
    return actor_main (argc, argv, &actor);
}
