//  token.c -- `busbar token --user EMAIL`: an access token, printed alone for use in scripts.

#include <stdio.h>

#include "client.h"

typedef struct {
    client_t client;
    bool asked;
} token_t;

static opt_t s_options [] = {
    CLIENT_OPTIONS,
    { "user", OPT_STR, NULL, OPT_REQUIRED, NULL, "address of the user", NULL },
    { 0 } };

static void
s_on_reply (void *arg, const bus_reply_t *reply)
{
    token_t *self = arg;
    text_t token = mp_text (mp_get (reply->body, "token"));
    if (reply->status < 400 && token.size)
        printf ("%.*s\n", (int) token.size, token.data);
    client_stop (&self->client, client_code (reply, true));
}

static void
s_on_ready (void *arg)
{
    token_t *self = arg;
    if (self->asked)
        return;
    self->asked = true;
    buf_t body = { 0 };
    mp_put_map (&body, 1);
    mp_pair_str (&body, "email", opt_str (s_options, "user"));
    client_call (&self->client, "identity.token", mp_buf (&body), s_on_reply, self);
    buf_free (&body);
}

int
token_command (int argc, char **argv)
{
    int rc = options_read (s_options, &argc, argv, "busbar token --user EMAIL");
    if (rc != DONE_OK)
        return options_exit (rc);
    if (argc > 1)
        return complain (DONE_USAGE, "%s: token takes options only", argv [1]);
    token_t self = { 0 };
    return client_run (&self.client, s_options, s_on_ready, &self);
}
