//  kit_actor.c -- an actor that uses everything the kit offers, for its tests.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actors/kit/actor.h"
#include "actors/kit/fetch.h"

static const char kit_sql [] =
    "-- :name book_lend\n"
    "WITH t AS (SELECT id, status FROM books\n"
    "            WHERE user_id = $1::uuid AND id = $2::uuid FOR UPDATE),\n"
    "     u AS (UPDATE books b SET status = 'lent', updated_at = clock_timestamp () FROM t\n"
    "            WHERE b.id = t.id AND t.status = 'in' RETURNING b.*)\n"
    "SELECT t.status AS was, u.* FROM t LEFT JOIN u USING (id)\n"
    "-- :name book_count\n"
    "SELECT jsonb_build_object ('count', count (*), 'about', $2::text) AS body\n"
    "  FROM books WHERE user_id = $1::uuid\n"
    "-- :name book_slow\n"
    "SELECT $1::text AS who, pg_sleep ($2::float8)::text AS slept\n"
    "-- :name books_of_shelf\n"
    "SELECT id FROM books WHERE shelf_id = $1::uuid\n"
    "-- :name book_drop\n"
    "WITH w AS (DELETE FROM books WHERE id = $1::uuid RETURNING id, user_id)\n"
    "SELECT id, base.live_add ('user:' || user_id || '/books', id::text, 'book.deleted', NULL)\n"
    "           AS live FROM w\n"
    "-- :name book_refuse\n"
    "SELECT base.api_fail ('U0409', 'book is on fire')\n";

static const resource_t shelf = {
    .name = "shelf", .path = "/shelves", .table = "shelves", .ops = CRUD,
    .owner = "user_id", .parent_of = "shelf",
    .fields = (const field_t []) { { "name", T_TEXT, REQUIRED, .max = 40 }, { 0 } } };

static void
book_check (req_t *req)
{
    if (req_str (req, "title") && strcmp (req_str (req, "title"), "forbidden") == 0)
        fail_field (req, E_INVALID, "title", "is forbidden");
    if (req_str (req, "title") && strcmp (req_str (req, "title"), "noted") == 0)
        req_set (req, "note", "set before the statement");
}

static const resource_t book = {
    .name = "book", .path = "/books", .alias = { "/tomes" }, .table = "books",
    .ops = CRUD, .owner = "user_id",
    .before_create = book_check, .before_update = book_check,
    .see = "t.shared", .also_channels = "CASE WHEN t.shared THEN ARRAY ['org:all/books'] END",
    .fields = (const field_t []) {
        { "shelf_id", T_UUID, NULLABLE | FILTER },
        { "title", T_TEXT, REQUIRED | FILTER | SORT, .min = 1, .max = 20, .also = "name" },
        { "pages", T_INT, NULLABLE | SORT, .min = 1, .max = 5000, .json = "pageCount" },
        { "genre", T_ENUM, .values = "novel|essay|poem", .def = "novel" },
        { "tags", T_NAMES, .def = "[]", .max = 3 },
        { "extra", T_JSON, NULLABLE },
        { "content", T_TEXT, NULLABLE | LISTED_NOT },
        { "price", T_MONEY, NULLABLE },
        { "printed", T_DATE, NULLABLE },
        { "read_at", T_TIME, NULLABLE },
        { "shared", T_BOOL, .def = "false" },
        { "code", T_TEXT, IMMUTABLE },
        { "pin", T_TEXT, SECRET },
        { "note", T_TEXT, HIDDEN },
        { "status", T_TEXT, READONLY },
        { 0 } } };

//  ---------------------------------------------------------------- actions

static void
lend (req_t *req)
{
    unit_t *unit = unit_new (req);
    unit_add (unit, "book_lend", req_user (req), req_id (req));
    unit_event (unit, "books", req_id (req), "book.lent", "{\"lent\": true}");
    row_t row = unit_commit (unit);
    if (row_none (row))
        fail (req, E_NOT_FOUND, NULL);
    if (!row_str (row, "id"))
        fail (req, E_CONFLICT, "book is %s", row_str (row, "was"));
    reply_row (req, 202, row);
}

static void
nap (req_t *req)
{
    bool woken = req_sleep (req, req_int (req, "ms"));
    reply_message (req, 200, woken ? "woken" : req_cancelled (req) ? "cancelled" : "slept");
}

//  For what ends by itself, whoever is still there.
static void
stay (req_t *req)
{
    loop_t *loop = req_actor (req)->loop;
    int64_t until = loop_now (loop) + req_int (req, "ms");
    while (loop_now (loop) < until)
        req_sleep (req, until - loop_now (loop));
    reply_message (req, 200, "stayed");
}

//  In arrival order for one id: each call notes when it began and ended.
static void
turn (req_t *req)
{
    static int inside;
    inside++;
    int before = inside;
    req_sleep (req, 30);
    inside--;
    buf_t *body = req_buf (req);
    mp_put_map (body, 1);
    mp_pair_int (body, "inside", before);
    reply_mp (req, 200, mp_buf (body));
}

static void
slow_work (void *arg)
{
    usleep ((useconds_t) * (int *) arg * 1000);
    *(int *) arg = 42;
}

static void
work (req_t *req)
{
    int answer = (int) req_int (req, "ms");
    if (!offload (req, slow_work, &answer))
        fail (req, E_RATE_LIMITED, NULL);
    reply_message (req, 200, req_print (req, "%d", answer));
}

static void
download (req_t *req)
{
    int64_t left = req_int (req, "size");
    char *block = req_alloc (req, 100000);
    memset (block, 'x', 100000);
    stream_begin (req, 200, "application/octet-stream", left);
    for (; left > 0; left -= 100000)
        stream_write (req, (text_t) { block, (size_t) (left < 100000 ? left : 100000) });
    if (req_bool (req, "broken"))
        fail (req, E_UPSTREAM, NULL);
    stream_end (req);
}

static void
upload (req_t *req)
{
    text_t piece;
    int64_t size = 0;
    while (req_read (req, &piece))
        size += (int64_t) piece.size;
    buf_t *body = req_buf (req);
    mp_put_map (body, 1);
    mp_pair_int (body, "size", size);
    reply_mp (req, 200, mp_buf (body));
}

static void
pass (req_t *req)
{
    bus_reply_t reply = req_call (req, req_str (req, "method"), req_any (req, "params"),
                                  req_any (req, "body"), NULL);
    if (reply.status >= 400)
        fail_reply (req, &reply);
    reply_mp (req, (unsigned) reply.status, reply.body);
}

static void
append (req_t *req)
{
    const char *channel = req_str (req, "ch");
    for (int64_t n = 0; n < req_int (req, "count"); n++)
        live_append (req_actor (req), channel, NULL, "log.line",
                     text_of (req_print (req, "{\"n\":\n %d}", (int) n)), NULL, NULL);
    if (req_bool (req, "bad"))
        live_append (req_actor (req), channel, NULL, "log.bad", TEXT ("{not json"), NULL, NULL);
    reply_empty (req);
}

static void
get_url (req_t *req)
{
    fetched_t got = fetch (req, &(fetch_t) { .url = req_str (req, "url"),
                                            .allow = req_str (req, "allow"),
                                            .timeout = 2000 });
    buf_t *body = req_buf (req);
    mp_put_map (body, 3);
    mp_pair_int (body, "status", got.status);
    mp_pair_str (body, "error", got.error);
    mp_pair_text (body, "body", got.body);
    reply_mp (req, 200, mp_buf (body));
}

static void
slow (req_t *req)
{
    row_t row = db_slow (req, "book_slow", "me", req_str (req, "seconds"));
    reply_row (req, 200, row);
}

static void
refuse (req_t *req)
{
    db_row (req, "book_refuse");
}

static void
later (req_t *req)
{
    req_sleep (req, 10);
    live_append (req_actor (req), "sys/kit", NULL, "later", TEXT ("1"), NULL, NULL);
}

static void
spawn_it (req_t *req)
{
    actor_spawn (req_actor (req), later, NULL);
}

//  With --hurry work of the actor's own is under way at any time.
static void
hurry (req_t *req)
{
    if (strcmp (actor_opt (req_actor (req), "hurry"), "yes") == 0)
        db_slow (req, "book_slow", "tick", "0.1");
}

static void
shelf_gone (req_t *req, const char *id)
{
    row_t rows = db_rows (req, "books_of_shelf", id);
    for (int n = 0; n < rows_count (rows); n++) {
        unit_t *unit = unit_new (req);
        unit_add (unit, "book_drop", row_str (rows_at (rows, n), "id"));
        unit_commit (unit);
    }
}

static const field_t ms [] = { { "ms", T_INT, REQUIRED, .min = 0, .max = 60000 }, { 0 } };
static const field_t effort [] = { { "ms", T_INT, .def = "20", .min = 0, .max = 60000 }, { 0 } };
static const field_t size [] = { { "size", T_INT, REQUIRED }, { "broken", T_BOOL }, { 0 } };
static const field_t about [] = { { "about", T_TEXT, .def = "all" }, { 0 } };
static const field_t book_out [] = {
    { "id", T_UUID }, { "title", T_TEXT, .also = "name" }, { "status", T_TEXT }, { 0 }
};

static const route_t routes [] = {
    RESOURCE (shelf),
    RESOURCE (book),
    ACTION ("books.lend", "POST", "/books/:id/lend", lend, .spec.out = book_out, .spec.status = 202,
            .spec.key = "user", .serial = BY_ID),
    ACTION ("books.turn", "POST", "/books/:id/turn", turn, .serial = BY_ID),
    ACTION ("kit.nap", "GET", "/kit/nap", nap, .spec.in = ms),
    ACTION ("kit.stay", "GET", "/kit/stay", stay, .spec.in = ms),
    ACTION ("kit.work", "POST", "/kit/work", work, .spec.in = effort),
    ACTION ("kit.download", "GET", "/kit/download", download, .spec.in = size,
            .spec.reply = "stream"),
    ACTION ("kit.upload", "POST", "/kit/upload", upload, .spec.upload = true),
    ACTION ("kit.pass", NULL, NULL, pass, .spec.auth = AUTH_NONE),
    ACTION ("kit.append", "POST", "/kit/append", append, .spec.auth = AUTH_NONE),
    ACTION ("kit.fetch", "GET", "/kit/fetch", get_url, .spec.auth = AUTH_NONE),
    ACTION ("kit.slow", "GET", "/kit/slow", slow),
    ACTION ("kit.refuse", "POST", "/kit/refuse", refuse),
    ACTION ("kit.spawn", "POST", "/kit/spawn", spawn_it),
    ACTION ("kit.admin", "GET", "/kit/admin", nap, .spec.auth = AUTH_ADMIN),
    REPORT ("books.count", "/books/count", "book_count", .spec.in = about, .cache = 60),
    { 0 }
};

static const channel_t channels [] = { { "lines", "log" }, { 0 } };
static const dependant_t dependants [] = { { "shelf", shelf_gone }, { 0 } };
static const tick_t ticks [] = { { 20, hurry }, { 30, hurry }, { 0 } };

int
main (int argc, char **argv)
{
    static opt_t options [] = { { "hurry", OPT_STR, "no", 0, NULL, "yes: always at work" }, { 0 } };
    actor_t actor = { .name = "kit",
                      .sql = (const char *const []) { kit_sql, NULL },
                      .routes = routes,
                      .channels = channels,
                      .dependants = dependants,
                      .every = ticks,
                      .options = options };
    return actor_main (argc, argv, &actor);
}
