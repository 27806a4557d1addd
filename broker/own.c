//  own.c -- the broker's own methods, for operators: broker.stats, broker.directory, broker.peers.

#include <stdio.h>

#include "broker.h"

void
own_reply (peer_t *peer, uint64_t id, uint64_t status, const buf_t *body)
{
    wire_reply_t msg = { .id = id, .status = status, .body = mp_buf (body) };
    wire_pack_reply (peer_out (peer, body->size), &msg);
}

void
own_error (peer_t *peer, uint64_t id, error_code_t code, const char *text, bool unknown)
{
    buf_t body = { 0 }, meta = { 0 };
    mp_put_map (&body, 3);
    mp_pair_str (&body, "code", error_name (code));
    mp_pair_str (&body, "error", text ? text : error_text (code));
    mp_put_str (&body, "details");
    mp_put_map (&body, 0);
    mp_put_map (&meta, unknown ? 1 : error_retry (code) ? 1 : 0);
    if (unknown)
        mp_pair_str (&meta, "outcome", "unknown");
    else if (error_retry (code))
        mp_pair_int (&meta, "retry_after", 1);
    wire_reply_t msg = { .id = id, .status = (uint64_t) error_status (code),
                         .body = mp_buf (&body), .meta = mp_buf (&meta) };
    wire_pack_reply (peer_out (peer, body.size), &msg);
    buf_free (&body);
    buf_free (&meta);
}

static void
own_stats (broker_t *self, buf_t *body)
{
    const broker_stats_t *stats = &self->stats;
    struct { const char *name; uint64_t value; } rows [] = {
        { "uptime_ms", (uint64_t) (loop_now (self->loop) - self->started) },
        { "peers", hash_size (self->inside->peers) },
        { "door_peers", self->outside ? hash_size (self->outside->peers) : 0 },
        { "entries", registry_size (self->registry) },
        { "channels", topics_size (self->topics) },
        { "revision", registry_revision (self->registry) },
        { "relayed_now", relay_in_flight (self->relay) },
        { "frames_in", stats->frames_in },
        { "frames_out", stats->frames_out },
        { "events_in", stats->events_in },
        { "events_out", stats->events_out },
        { "events_dropped", stats->events_dropped },
        { "calls_relayed", stats->calls_relayed },
        { "malformed", stats->malformed },
        { "unknown", stats->unknown },
        { "refused", stats->refused },
        { "deaths", stats->deaths } };
    mp_put_map (body, sizeof rows / sizeof rows [0]);
    for (size_t n = 0; n < sizeof rows / sizeof rows [0]; n++)
        mp_pair_int (body, rows [n].name, (int64_t) rows [n].value);
}

static void
own_peers (broker_t *self, buf_t *body)
{
    gate_t *gates [] = { self->inside, self->outside };
    mp_put_map (body, 1);
    mp_put_str (body, "peers");
    size_t mark = mp_open_array (body);
    uint32_t count = 0;
    for (int n = 0; n < 2; n++) {
        text_t id;
        void *item;
        for (size_t at = 0; gates [n] && hash_each (gates [n]->peers, &at, &id, &item); count++) {
            peer_t *peer = item;
            mp_put_map (body, 7);
            mp_pair_str (body, "role", peer->role);
            mp_pair_str (body, "name", peer->name);
            mp_pair_str (body, "slot", peer->slot);
            mp_pair_bool (body, "door", peer->gate->door);
            mp_pair_int (body, "subscriptions", (int64_t) hash_size (peer->subs));
            mp_pair_int (body, "dropped", (int64_t) peer->dropped);
            mp_pair_int (body, "heard_ms", loop_now (self->loop) - peer->heard);
        }
    }
    mp_close (body, mark, count);
}

static void
own_directory (broker_t *self, buf_t *body)
{
    buf_t frame = { 0 };
    registry_pack_whole (self->registry, false, &frame);
    text_t rest = buf_text (&frame);
    mp_t raw;
    wire_directory_t directory;
    if (wire_next (&rest, &raw) == WIRE_DIRECTORY && wire_unpack_directory (raw, &directory)) {
        mp_put_map (body, 2);
        mp_pair_int (body, "revision", (int64_t) directory.revision);
        mp_pair (body, "entries", directory.entries);
    }
    buf_free (&frame);
}

bool
own_call (peer_t *peer, const wire_call_t *call)
{
    bool stats = text_is (call->method, "broker.stats"),
         peers = text_is (call->method, "broker.peers");
    if (!stats && !peers && !text_is (call->method, "broker.directory"))
        return false;
    text_t kind = mp_text (mp_get (call->identity, "kind"));
    if (!(mp_empty (call->identity) || text_is (kind, "operator"))) {
        own_error (peer, call->id, E_FORBIDDEN, NULL, false);
        return true;
    }
    buf_t body = { 0 };
    if (stats)
        own_stats (peer->broker, &body);
    else if (peers)
        own_peers (peer->broker, &body);
    else
        own_directory (peer->broker, &body);
    own_reply (peer, call->id, 200, &body);
    buf_free (&body);
    return true;
}
