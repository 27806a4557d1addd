//  health.c -- /health for people and pages, /health/live and /health/ready for those who restart
//  us.

#include <stdio.h>
#include <time.h>

#include "edge/edge.h"

static void
put_stamp (buf_t *json)
{
    struct timespec now;
    struct tm parts;
    char stamp [32];
    clock_gettime (CLOCK_REALTIME, &now);
    gmtime_r (&now.tv_sec, &parts);
    strftime (stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &parts);
    buf_putf (json, "\"timestamp\":\"%s.%03ldZ\"", stamp, now.tv_nsec / 1000000);
}

static bool
ready (edge_t *edge)
{
    return !edge->draining && bus_connected (edge->bus) && auth_fresh (edge->auth);
}

//  One word for the whole: healthy, or degraded while some actor is away.
void
health_serve (request_t *req)
{
    edge_t *edge = req->edge;
    buf_t json = { 0 }, services = { 0 };
    const char *name;
    size_t up;
    bool all = ready (edge), identity = false;
    for (size_t at = 0; directory_each (edge, &at, &name, &up);) {
        if (strcmp (name, "broker") == 0)
            continue;
        buf_puts (&services, ",");
        json_quote (text_of (name), &services);
        buf_putf (&services, ":\"%s\"", up ? "healthy" : "down");
        all = all && up;
        identity = identity || (up && strcmp (name, "identity") == 0);
    }
    buf_putf (&json, "{\"status\":\"%s\",\"version\":\"" EDGE_VERSION "\",",
              all ? "healthy" : "degraded");
    put_stamp (&json);
    buf_puts (&json, ",\"environment\":");
    json_quote (text_of (edge->environment), &json);
    //  Identity serves only while it reaches its database, so its life is the database's.
    buf_putf (&json, ",\"database\":\"%s\",\"services\":{\"broker\":\"%s\"",
              identity ? "connected" : "disconnected",
              bus_connected (edge->bus) ? "healthy" : "down");
    buf_put (&json, services.data, services.size);
    buf_puts (&json, "}}");
    reply_json (req, 200, buf_text (&json));
    buf_free (&json);
    buf_free (&services);
}

void
health_live_serve (request_t *req)
{
    reply_json (req, 200, TEXT ("{\"status\":\"alive\"}"));
}

void
health_ready_serve (request_t *req)
{
    edge_t *edge = req->edge;
    if (ready (edge)) {
        reply_json (req, 200, TEXT ("{\"status\":\"ready\"}"));
        return;
    }
    fault_t fault = { 0 };
    fault_set (&fault, E_UNAVAILABLE, "%s", edge->draining ? "shutting down"
               : !bus_connected (edge->bus) ? "broker is not heard" : "identity is not heard");
    fault.retry_after = 1;
    reply_fault (req, &fault);
}
