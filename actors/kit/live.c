//  live.c -- the durable log of an actor's channels: what was missed (live.read), where to begin
//  (live.snapshot), how long it is kept.

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "kit.h"

#define READ_MAX 300
#define SNAPSHOT_ROWS 500
#define TRIM_ROWS 5000

void
live_statements (kit_t *kit)
{
    db_t *db = kit->actor->db;
    live_put_statement (kit);
    live_put_start (kit);
    //  A row when the batch of appended events is to be taken.
    db_statement (db, "kit.live_next",
                  "INSERT INTO idem AS i (user_id, key, method, hash, status) "
                  "VALUES ('kit', $1, 'live_append', $3, 200) ON CONFLICT (user_id, key) "
                  "DO UPDATE SET hash = excluded.hash, at = now () WHERE i.hash = $2 RETURNING 1");
    db_statement (db, "kit.live_head",
                  "SELECT (SELECT epoch FROM live_meta) AS epoch, "
                  "(SELECT coalesce (max (off), 0) FROM live_log WHERE ch = $1) AS top");
    db_statement (db, "kit.live_read",
                  "WITH h AS (SELECT (SELECT epoch FROM live_meta) AS epoch, "
                  "(SELECT coalesce (max (off), 0) FROM live_log WHERE ch = $1) AS top, "
                  "(SELECT coalesce (min (off), 0) FROM live_log WHERE ch = $1) AS floor) "
                  "SELECT h.epoch, h.top, h.floor, e.off, e.key, e.type, e.at, e.data "
                  "FROM h LEFT JOIN LATERAL (SELECT * FROM live_log l "
                  "WHERE l.ch = $1 AND l.off > $2::bigint ORDER BY l.off LIMIT $3::bigint) e "
                  "ON true ORDER BY e.off");
    db_statement (db, "kit.live_last",
                  "SELECT DISTINCT ON (l.ch) jsonb_build_object ('ch', l.ch, "
                  "'epoch', (SELECT epoch FROM live_meta), 'off', l.off, 'key', l.key, "
                  "'type', l.type, 'at', base.utc (l.at), 'data', l.data) AS live "
                  "FROM live_log l WHERE l.at > now () - interval '5 minutes' "
                  "ORDER BY l.ch, l.off DESC");
    db_statement (db, "kit.live_trim_age",
                  "WITH gone AS (DELETE FROM live_log WHERE (ch, off) IN ("
                  "SELECT l.ch, l.off FROM live_log l "
                  "WHERE l.at < now () - make_interval (days => $1::int) "
                  "AND l.off < (SELECT max (m.off) FROM live_log m WHERE m.ch = l.ch) "
                  "LIMIT 5000) RETURNING 1) SELECT count (*) AS n FROM gone");
    db_statement (db, "kit.live_trim_count",
                  "WITH top AS (SELECT ch, max (off) - $1::bigint AS below "
                  "FROM live_log GROUP BY ch), "
                  "gone AS (DELETE FROM live_log WHERE (ch, off) IN ("
                  "SELECT l.ch, l.off FROM top JOIN live_log l "
                  "ON l.ch = top.ch AND l.off <= top.below WHERE top.below > 0 "
                  "LIMIT 5000) RETURNING 1) SELECT count (*) AS n FROM gone");
}

//  ---------------------------------------------------------------- read

static void
s_put_event (buf_t *out, row_t row)
{
    char at [40];
    const char *data = row_str (row, "data");
    db_time_text (row_str (row, "at"), at);
    mp_put_map (out, 5);
    mp_pair_int (out, "off", row_int (row, "off"));
    mp_pair_str (out, "key", row_str (row, "key"));
    mp_pair_str (out, "type", row_str (row, "type"));
    mp_pair_str (out, "at", at);
    mp_put_str (out, "data");
    if (data)
        mp_put_ext (out, MP_EXT_JSON, data, strlen (data));
    else
        mp_put_nil (out);
}

static uint32_t
s_put_gap (buf_t *out, int64_t from, int64_t to, const char *why)
{
    mp_put_str (out, "gap");
    mp_put_map (out, 3);
    mp_pair_int (out, "from", from);
    mp_pair_int (out, "to", to);
    mp_pair_str (out, "why", why);
    return 1;
}

static CO void
s_read (req_t *req)
{
    const char *epoch = req_str (req, "epoch"), *limit = req_str (req, "limit");
    int64_t from = req_int (req, "from");
    row_t rows = db_rows (req, "kit.live_read", req_str (req, "ch"),
                          req_print (req, "%" PRId64, from), limit);
    int64_t top = row_int (rows, "top"), floor = row_int (rows, "floor");
    bool other = epoch && *epoch && strcmp (epoch, row_str (rows, "epoch")) != 0;
    //  A position that this log never had is one of another log.
    bool beyond = !other && from > top;
    uint32_t pairs = 4, count = 0;

    buf_t *out = &req->kit->body;
    buf_clear (out);
    size_t mark = mp_open_map (out);
    mp_pair_str (out, "epoch", row_str (rows, "epoch"));
    mp_pair_int (out, "top", top);
    mp_pair_int (out, "floor", floor);
    mp_put_str (out, "events");
    size_t list = mp_open_array (out);
    if (!other && !beyond && row_str (rows, "off"))
        for (; count < (uint32_t) rows_count (rows); count++)
            s_put_event (out, rows_at (rows, (int) count));
    mp_close (out, list, count);
    if (other || beyond)
        pairs += s_put_gap (out, other ? from + 1 : top + 1, top, "epoch");
    else if (floor > from + 1)
        pairs += s_put_gap (out, from + 1, floor - 1, "retention");
    mp_close (out, mark, pairs);
    reply_mp (req, 200, mp_buf (out));
}

//  ---------------------------------------------------------------- snapshot

typedef struct {
    char epoch [64], id [40], at [64];
    int64_t off;
} place_t;

//  Where the page before ended: "<epoch> <off> <id> <time>"; the position stays the one of the
//  first page.
static bool
s_read_place (const char *cursor, place_t *place)
{
    int got = sscanf (cursor, "%63s %" SCNd64 " %36s %63[^\n]", place->epoch, &place->off,
                      place->id, place->at);
    return got == 4 && uuid_valid (text_of (place->id));
}

//  Rows of a collection as its list shows them.
static row_t
s_snapshot_rows (req_t *req, const char *ch, const char *user, const place_t *from)
{
    const char *name = strchr (ch, '/');
    for (size_t n = 0; name && req->kit->plans [n]; n++)
        if (strcmp (plan_channel (req->kit->plans [n]), name + 1) == 0)
            return db_rows (req, plan_snapshot (req->kit->plans [n]), user, ch,
                            req_print (req, "%d", SNAPSHOT_ROWS + 1), from ? from->at : NULL,
                            from ? from->id : NULL);
    for (const channel_t *at = req->actor->channels; name && at && at->name; at++)
        if (strcmp (at->name, name + 1) == 0 && at->snapshot)
            return db_rows (req, at->snapshot, user, ch);
    return (row_t) { NULL, -1 };
}

static void
s_snapshot_answer (req_t *req, const place_t *place, row_t rows)
{
    buf_t *out = &req->kit->body;
    int count = rows_count (rows);
    bool paged = count > SNAPSHOT_ROWS && PQfnumber (rows.result, "_at") >= 0;
    if (paged)
        count = SNAPSHOT_ROWS;
    buf_clear (out);
    mp_put_map (out, 4);
    mp_pair_str (out, "epoch", place->epoch);
    mp_pair_int (out, "off", place->off);
    mp_put_str (out, "rows");
    mp_put_array (out, (uint32_t) count);
    for (int n = 0; n < count; n++)
        db_row_put (out, rows.result, n, NULL, NULL);
    row_t last = rows_at (rows, count - 1);
    mp_pair_str (out, "cursor",
                 paged ? req_print (req, "%s %" PRId64 " %s %s", place->epoch, place->off,
                                    row_str (last, "id"), row_str (last, "_at"))
                       : NULL);
    reply_mp (req, 200, mp_buf (out));
}

static CO void
s_snapshot (req_t *req)
{
    const char *ch = req_str (req, "ch"), *cursor = req_str (req, "cursor"), *user = NULL;
    place_t place = { .off = 0 };
    if (cursor && !s_read_place (cursor, &place))
        fail_field (req, E_INVALID, "cursor", "is not one of this snapshot");
    if (!cursor) {
        //  The position first, the rows after it: what changes in between comes as an event too,
        //  never not at all.
        row_t head = db_row (req, "kit.live_head", ch);
        snprintf (place.epoch, sizeof place.epoch, "%s", row_str (head, "epoch"));
        place.off = row_int (head, "top");
    }
    if (strncmp (ch, "user:", 5) == 0) {
        user = req_print (req, "%.*s", (int) strcspn (ch + 5, "/"), ch + 5);
        if (!uuid_valid (text_of (user)))
            fail_field (req, E_NOT_FOUND, "ch", "does not exist");
    }
    s_snapshot_answer (req, &place, s_snapshot_rows (req, ch, user, cursor ? &place : NULL));
}

void
live_endpoints (kit_t *kit)
{
    static const field_t read [] = {
        { "ch", T_TEXT, REQUIRED, .max = 200 }, { "epoch", T_TEXT, .max = 64 },
        { "from", T_INT, .max = INT64_MAX, .def = "0" },
        { "limit", T_INT, .min = 1, .max = READ_MAX, .def = "300" }, { 0 } };
    static const field_t snapshot [] = {
        { "ch", T_TEXT, REQUIRED, .max = 200 }, { "cursor", T_TEXT, .max = 255 }, { 0 } };
    endpoint_t *endpoint =
        routes_own (kit, "live.read", s_read, "Events of a channel after a position");
    endpoint->spec.in = endpoint->in = read;
    routes_finish (kit, endpoint);
    endpoint = routes_own (kit, "live.snapshot", s_snapshot,
                           "Rows of a collection, with the position to go on from");
    endpoint->spec.in = endpoint->in = snapshot;
    routes_finish (kit, endpoint);
}

//  ---------------------------------------------------------------- start and retention

CO void
live_load (req_t *req)
{
    row_t head = db_row (req, "kit.live_head", "");
    if (!row_str (head, "epoch"))
        fail (req, E_INTERNAL, "schema has no epoch");
    snprintf (req->kit->epoch, sizeof req->kit->epoch, "%s", row_str (head, "epoch"));
}

//  What a predecessor committed and did not live to publish, nobody has heard of, and no later
//  event may ever show the hole. So the newest events are told again; who has them takes no notice.
CO void
live_repeat (req_t *req)
{
    row_t rows = db_slow (req, "kit.live_last");
    live_publish (req->kit, NULL, rows.result);
}

//  Old and surplus events, never the last one of a channel: its offset is where the next one
//  begins. In small pieces and beside the lane of writes.
CO void
live_retention (req_t *req)
{
    static const char *const statements [] = { "kit.live_trim_age", "kit.live_trim_count" };
    const char *const keep [] = { opt_str (req->kit->options, "live-days"),
                                 opt_str (req->kit->options, "live-max") };
    for (size_t n = 0; n < COUNT (statements); n++)
        for (int64_t gone = TRIM_ROWS; gone >= TRIM_ROWS && !req->kit->draining;)
            gone = row_int (db_slow (req, statements [n], keep [n]), "n");
    db_slow (req, "kit.idem_trim");
}
