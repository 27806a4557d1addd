//  stats.c -- what an actor has done so far, by method.

#include "kit.h"

static void
s_methods (kit_t *kit, buf_t *out)
{
    uint32_t count = 0;
    mp_put_str (out, "methods");
    size_t mark = mp_open_map (out);
    for (size_t n = 0; n < kit->endpoint_count; n++) {
        const endpoint_t *endpoint = &kit->endpoints [n];
        if (endpoint->calls == 0)
            continue;
        mp_put_str (out, endpoint->spec.method);
        mp_put_map (out, 4);
        mp_pair_int (out, "calls", (int64_t) endpoint->calls);
        mp_pair_int (out, "errors", (int64_t) endpoint->errors);
        mp_pair_int (out, "us", (int64_t) endpoint->us);
        mp_pair_int (out, "us_max", (int64_t) endpoint->us_max);
        count++;
    }
    mp_close (out, mark, count);
}

static void
s_stats (req_t *req)
{
    kit_t *kit = req->kit;
    buf_t *out = &kit->body;
    const db_stats_t *db = db_stats (req->actor->db);
    const bus_stats_t *bus = bus_stats (req->actor->bus);
    buf_clear (out);
    mp_put_map (out, 6);
    mp_pair_str (out, "slot", req->actor->slot);
    mp_pair_int (out, "live", (int64_t) kit->live);
    mp_pair_int (out, "coroutines", (int64_t) co_alive ());
    s_methods (kit, out);
    mp_put_str (out, "db");
    mp_put_map (out, 8);
    mp_pair_int (out, "queries", (int64_t) db->queries);
    mp_pair_int (out, "units", (int64_t) db->units);
    mp_pair_int (out, "batches", (int64_t) db->batches);
    mp_pair_int (out, "reruns", (int64_t) db->reruns);
    mp_pair_int (out, "failures", (int64_t) db->failures);
    mp_pair_int (out, "reconnects", (int64_t) db->reconnects);
    mp_pair_int (out, "waiting", (int64_t) db->waiting);
    mp_pair_int (out, "in_flight", (int64_t) db->in_flight);
    mp_put_str (out, "bus");
    mp_put_map (out, 5);
    mp_pair_int (out, "served", (int64_t) bus->served);
    mp_pair_int (out, "calls", (int64_t) bus->calls);
    mp_pair_int (out, "events_out", (int64_t) bus->events_out);
    mp_pair_int (out, "frames_in", (int64_t) bus->frames_in);
    mp_pair_int (out, "malformed", (int64_t) bus->malformed);
    reply_mp (req, 200, mp_buf (out));
}

void
stats_endpoints (kit_t *kit)
{
    routes_finish (kit, routes_own (kit, "stats", s_stats, "Counters since the start"));
}
