//  local.c -- the endpoints that the edge serves itself. An announced route of the same path is
//  never reached.

#include "edge/edge.h"

const local_t edge_locals [] = {
    { .verb = VERB_GET, .path = "/", .serve = root_serve,
      .doc = "The page for a browser, the JSON root for others" },
    { .verb = VERB_GET, .path = "/health", .serve = health_serve,
      .doc = "State of every part" },
    { .verb = VERB_GET, .path = "/health/live", .serve = health_live_serve,
      .doc = "Does the process answer?" },
    { .verb = VERB_GET, .path = "/health/ready", .serve = health_ready_serve,
      .doc = "Can requests be served?" },
    { .verb = VERB_GET, .path = "/openapi.json", .serve = openapi_serve },
    { .verb = VERB_GET, .path = "/api/v1/openapi.json", .serve = openapi_serve },
    { .verb = VERB_GET, .path = "/docs", .serve = docs_serve },
    { .verb = VERB_GET, .path = "/redoc", .serve = docs_serve },
    { .verb = VERB_GET, .path = "/app", .serve = static_serve },
    { .verb = VERB_GET, .path = "/app/*", .serve = static_serve },
    { .verb = VERB_GET, .path = "/metrics", .admin = true, .serve = stats_metrics },
    { .verb = VERB_GET, .path = "/health", .admin = true, .serve = health_serve },
    { .verb = VERB_GET, .path = "/health/live", .admin = true, .serve = health_live_serve },
    { .verb = VERB_GET, .path = "/health/ready", .admin = true, .serve = health_ready_serve },
    { .path = NULL } };
