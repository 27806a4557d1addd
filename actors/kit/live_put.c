//  live_put.c -- the events of a batch of units, appended to the log by one statement before the
//  commit. It counts on from what the log holds; where another instance was faster, its primary key
//  refuses the batch, which then runs again.

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "kit.h"

enum { CHANNELS, CH, CHANNEL, NTH, KEY, TYPE, DATA, PARAMS };

//  Of pg_type: these numbers are part of PostgreSQL's protocol.
enum { OID_INT4 = 23, OID_TEXT = 25, OID_JSONB = 3802 };

typedef struct {
    live_event_t *event;
    size_t place;                    //  in the order of telling
} put_t;

//  The batch at hand; there is one at a time.
static struct {
    put_t *list;
    size_t count, room;
    bool sorted;                     //  by channel
    buf_t params [PARAMS];
} s_puts;

void
live_put_statement (kit_t *kit)
{
    db_statement (kit->actor->db, "kit.live_put",
                  "INSERT INTO live_log (ch, off, key, type, data) "
                  "SELECT e.ch, (ARRAY (SELECT coalesce ((SELECT max (m.off) FROM live_log m "
                  "WHERE m.ch = c), 0) FROM unnest ($1::text[]) AS c)) [e.channel] + e.nth, "
                  "e.key, e.type, e.data FROM unnest ($2::text[], $3::int[], $4::int[], "
                  "$5::text[], $6::text[], $7::jsonb[]) AS e (ch, channel, nth, key, type, data) "
                  "RETURNING off, at, (SELECT epoch FROM live_meta)");
}

void
live_put (live_event_t *event)
{
    if (s_puts.count == s_puts.room) {
        s_puts.room = s_puts.room ? s_puts.room * 2 : 64;
        s_puts.list = xrealloc (s_puts.list, s_puts.room * sizeof *s_puts.list);
    }
    if (s_puts.count && !text_eq (s_puts.list [s_puts.count - 1].event->ch, event->ch))
        s_puts.sorted = false;
    s_puts.list [s_puts.count] = (put_t) { event, s_puts.count };
    s_puts.count++;
}

void
live_data (buf_t *out, text_t json)
{
    char why [128];
    //  Who prints events prints one in a line; what is no JSON is for the database to refuse.
    bool lines = json.size && (memchr (json.data, '\n', json.size)
                               || memchr (json.data, '\r', json.size));
    if (!lines || !json_read (json, out, why, sizeof why))
        mp_put_ext (out, MP_EXT_JSON, json.data, json.size);
}

//  ---------------------------------------------------------------- arrays in binary format

static void
s_int (buf_t *buf, int32_t value)
{
    uint32_t net = htonl ((uint32_t) value);
    buf_put (buf, &net, sizeof net);
}

static void
s_array (buf_t *buf, int32_t oid, bool nulls)
{
    buf_clear (buf);
    s_int (buf, 1);                  //  dimension
    s_int (buf, nulls);
    s_int (buf, oid);
    s_int (buf, 0);                  //  elements, told by s_close
    s_int (buf, 1);                  //  the first one's number
}

static void
s_close (buf_t *buf, size_t count)
{
    uint32_t net = htonl ((uint32_t) count);
    memcpy (buf->data + 12, &net, sizeof net);
}

static void
s_text (buf_t *buf, text_t text)
{
    s_int (buf, text.data ? (int32_t) text.size : -1);
    buf_put (buf, text.data, text.size);
}

static void
s_number (buf_t *buf, size_t number)
{
    s_int (buf, 4);
    s_int (buf, (int32_t) number);
}

static void
s_json (buf_t *buf, mp_t value)
{
    if (mp_empty (value)) {
        s_int (buf, -1);
        return;
    }
    size_t mark = buf->size;
    s_int (buf, 0);
    buf_putc (buf, 1);               //  version of the format
    json_write (value, buf);
    uint32_t net = htonl ((uint32_t) (buf->size - mark - 4));
    memcpy (buf->data + mark, &net, sizeof net);
}

//  ---------------------------------------------------------------- the batch

static void
s_begin (void *arg)
{
    (void) arg;
    s_puts.count = 0;
    s_puts.sorted = true;
}

//  Channels in one order everywhere: two instances never wait for each other crosswise.
static int
s_by_channel (const void *a, const void *b)
{
    const put_t *left = a, *right = b;
    text_t one = left->event->ch, other = right->event->ch;
    int order = memcmp (one.data, other.data, one.size < other.size ? one.size : other.size);
    if (order == 0 && one.size != other.size)
        order = one.size < other.size ? -1 : 1;
    return order ? order : left->place < right->place ? -1 : 1;
}

static void
s_add (void *arg, db_t *db)
{
    (void) arg;
    if (!s_puts.count)
        return;
    if (!s_puts.sorted)
        qsort (s_puts.list, s_puts.count, sizeof *s_puts.list, s_by_channel);
    static const int32_t oids [] = { OID_TEXT, OID_TEXT, OID_INT4, OID_INT4, OID_TEXT, OID_TEXT,
                                     OID_JSONB };
    buf_t *params = s_puts.params;
    for (size_t n = 0; n < PARAMS; n++)
        s_array (&params [n], oids [n], n == KEY || n == DATA);
    size_t channels = 0, nth = 0;
    for (size_t n = 0; n < s_puts.count; n++) {
        const live_event_t *event = s_puts.list [n].event;
        nth++;
        if (n == 0 || !text_eq (event->ch, s_puts.list [n - 1].event->ch)) {
            s_text (&params [CHANNELS], event->ch);
            channels++;
            nth = 1;
        }
        s_text (&params [CH], event->ch);
        s_number (&params [CHANNEL], channels);
        s_number (&params [NTH], nth);
        s_text (&params [KEY], event->key);
        s_text (&params [TYPE], event->type);
        s_json (&params [DATA], event->data);
    }
    text_t texts [PARAMS];
    for (size_t n = 0; n < PARAMS; n++) {
        s_close (&params [n], n == CHANNELS ? channels : s_puts.count);
        texts [n] = buf_text (&params [n]);
    }
    db_gather_add (db, "kit.live_put", texts, PARAMS);
}

static void
s_ran (void *arg, db_result_t *results, size_t count)
{
    kit_t *kit = arg;
    const PGresult *rows = count ? results [0].result : NULL;
    for (size_t n = 0; rows && n < s_puts.count && (int) n < PQntuples (rows); n++) {
        live_event_t *event = s_puts.list [n].event;
        event->off = strtoll (PQgetvalue (rows, (int) n, 0), NULL, 10);
        db_time_text (PQgetvalue (rows, (int) n, 1), event->at);
    }
    if (rows && PQntuples (rows))
        snprintf (kit->epoch, sizeof kit->epoch, "%s", PQgetvalue (rows, 0, 2));
}

void
live_put_start (kit_t *kit)
{
    db_gather (kit->actor->db,
               &(db_gather_t) { .begin = s_begin, .add = s_add, .ran = s_ran, .arg = kit });
}

void
live_tell (kit_t *kit, const live_event_t *event)
{
    bus_publish (kit->actor->bus, &(wire_event_t) {
        .channel = event->ch, .epoch = text_of (kit->epoch), .off = (uint64_t) event->off,
        .key = event->key, .type = event->type, .at = text_of (event->at),
        .data = event->data });
}
