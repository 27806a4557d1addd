//  routes.c -- `busbar routes`: what live actors announce.

#include <stdio.h>
#include <stdlib.h>

#include "client.h"

typedef struct {
    client_t client;
} routes_t;

static opt_t s_options [] = {
    CLIENT_OPTIONS,
    { "json", OPT_BOOL, "false", 0, NULL, "whole announcements, one JSON object a line", NULL },
    { 0 } };

static const char *
s_string (mp_t map, const char *name, const char *absent, char *out, size_t size)
{
    text_t text = mp_text (mp_get (map, name));
    if (!text.size)
        return absent;
    snprintf (out, size, "%.*s", (int) text.size, text.data);
    return out;
}

static void
s_print (mp_t route)
{
    char method [128], verb [16], path [256], auth [32], doc [256];
    printf ("%-34s %-6s %-46s %-8s %s\n", s_string (route, "method", "?", method, sizeof method),
            s_string (route, "verb", "-", verb, sizeof verb),
            s_string (route, "path", "-", path, sizeof path),
            s_string (route, "auth", "user", auth, sizeof auth),
            s_string (route, "doc", "", doc, sizeof doc));
}

static void
s_on_ready (void *arg)
{
    routes_t *self = arg;
    bool json = opt_bool (s_options, "json");
    bus_entry_t entry;
    const char *last = "";
    char name [128] = "";
    for (size_t at = 0; bus_each_entry (self->client.bus, &at, &entry);) {
        //  Further instances of an actor announce the same.
        if (strcmp (entry.name, last) == 0)
            continue;
        snprintf (name, sizeof name, "%s", entry.name);
        last = name;
        for (mp_iter_t it = mp_iter (entry.routes); mp_next (&it);)
            if (json)
                client_print (it.value);
            else
                s_print (it.value);
    }
    client_stop (&self->client, DONE_OK);
}

int
routes_command (int argc, char **argv)
{
    int rc = options_read (s_options, &argc, argv, "busbar routes [--json]");
    if (rc != DONE_OK)
        return options_exit (rc);
    if (argc > 1)
        return complain (DONE_USAGE, "%s: routes takes options only", argv [1]);
    routes_t self = { 0 };
    return client_run (&self.client, s_options, s_on_ready, &self);
}
