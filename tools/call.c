//  call.c -- `busbar call METHOD …`: one call, its answer as JSON on stdout.

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "client.h"

typedef struct {
    client_t client;
    const char *method;
    buf_t body;
    uint64_t id;                 //  of the call, once it is under way
} call_t;

static opt_t s_options [] = {
    CLIENT_OPTIONS,
    { "key", OPT_STR, NULL, 0, NULL, "routing key, when one instance must answer", NULL },
    { "idempotent", OPT_BOOL, "false", 0, NULL, "may be sent again when an instance dies", NULL },
    { "as", OPT_STR, NULL, 0, NULL, "user id to call as; default: the operator", NULL },
    { 0 } };

static void
s_on_chunk (void *arg, const wire_chunk_t *chunk)
{
    call_t *self = arg;
    fwrite (chunk->data.data, 1, chunk->data.size, stdout);
    if (chunk->error.size)
        complain (0, "the answer broke off: %.*s", (int) chunk->error.size, chunk->error.data);
    if (chunk->last || chunk->error.size) {
        fflush (stdout);
        client_stop (&self->client, chunk->error.size ? DONE_ERROR : DONE_OK);
    }
    else
        bus_grant (self->client.bus, self->id, 1);
}

static void
s_on_reply (void *arg, const bus_reply_t *reply)
{
    call_t *self = arg;
    if (mp_bool (mp_get (reply->meta, "stream")) && reply->status < 400) {
        bus_grant (self->client.bus, self->id, 16);
        return;
    }
    client_print (reply->body);
    client_stop (&self->client, client_code (reply, false));
}

//  The names behind ':' in "/notebooks/:id/execute".
static bool
s_in_path (text_t path, text_t name)
{
    for (size_t at = 0; at + name.size < path.size; at++)
        if (path.data [at] == ':' && memcmp (path.data + at + 1, name.data, name.size) == 0
            && (at + 1 + name.size == path.size || path.data [at + 1 + name.size] == '/'))
            return true;
    return false;
}

//  Parameters as an edge would make them: texts. What a method without a path takes there stays
//  as it is.
static uint32_t
s_put_param (mp_t value, bool text, buf_t *out)
{
    mp_type_t type = mp_type (value);
    if (!text || type == MP_TEXT) {
        mp_put (out, value);
        return 1;
    }
    buf_t json = { 0 };
    json_write (value, &json);
    mp_put_text (out, buf_text (&json));
    buf_free (&json);
    return 1;
}

//  Where each given value goes: path and query for what has a path, the body for the rest.
static void
s_split (mp_t route, mp_t given, buf_t *params, buf_t *body)
{
    text_t path = mp_text (mp_get (route, "path")), verb = mp_text (mp_get (route, "verb"));
    bool bodiless = text_is (verb, "GET") || text_is (verb, "DELETE");
    size_t params_mark = mp_open_map (params), body_mark = mp_open_map (body);
    uint32_t params_count = 0, body_count = 0;
    for (mp_iter_t it = mp_iter (given); mp_next (&it);) {
        if (!path.size || bodiless || s_in_path (path, mp_text (it.key))) {
            mp_put (params, it.key);
            params_count += s_put_param (it.value, path.size > 0, params);
        }
        if (!path.size || (!bodiless && !s_in_path (path, mp_text (it.key)))) {
            mp_put (body, it.key);
            mp_put (body, it.value);
            body_count++;
        }
    }
    mp_close (params, params_mark, params_count);
    mp_close (body, body_mark, body_count);
}

//  The routing key that the route asks for: the caller's audience, or the value of a parameter.
static void
s_put_key (mp_t route, mp_t params, mp_t body, const char *user, buf_t *key)
{
    text_t wanted = mp_text (mp_get (route, "key"));
    if (text_is (wanted, "user") && user)
        buf_putf (key, "user:%s", user);
    else if (text_starts (wanted, "param:")) {
        char name [64];
        snprintf (name, sizeof name, "%.*s", (int) wanted.size - 6, wanted.data + 6);
        mp_t value = mp_get (params, name);
        text_t text = mp_text (mp_is_none (value) ? mp_get (body, name) : value);
        buf_put (key, text.data, text.size);
    }
}

static void
s_put_identity (const char *user, buf_t *identity)
{
    mp_put_map (identity, 3);
    mp_pair_str (identity, "user", user);
    mp_pair_str (identity, "role", "client");
    mp_pair_str (identity, "kind", "user");
}

static void
s_on_ready (void *arg)
{
    call_t *self = arg;
    if (self->id)
        return;
    buf_t identity = { 0 }, params = { 0 }, body = { 0 }, key = { 0 };
    const char *user = opt_str (s_options, "as"), *given_key = opt_str (s_options, "key");
    if (user)
        s_put_identity (user, &identity);
    mp_t route = bus_route (self->client.bus, text_of (self->method), NULL),
         given = mp_buf (&self->body);
    if (mp_type (given) == MP_MAP)
        s_split (route, given, &params, &body);
    mp_t params_map = params.size ? mp_buf (&params) : mp_none;
    mp_t body_value = body.size ? mp_buf (&body) : given;
    s_put_key (route, params_map, body_value, user, &key);
    self->id = bus_call (self->client.bus, &(bus_call_t) {
        .method = text_of (self->method), .key = given_key ? text_of (given_key) : buf_text (&key),
        .ttl = self->client.timeout, .identity = user ? mp_buf (&identity) : mp_none,
        .params = params_map, .body = body_value,
        .idempotent = opt_bool (s_options, "idempotent") || mp_bool (mp_get (route, "idempotent")),
        .on_reply = s_on_reply, .on_chunk = s_on_chunk, .arg = self });
    buf_free (&identity), buf_free (&params), buf_free (&body), buf_free (&key);
}

//  ---- what to send ----

static bool
s_read_json (const char *from, text_t json, buf_t *out)
{
    char error [256];
    return json_read (json, out, error, sizeof error) || complain (false, "%s: %s", from, error);
}

static bool
s_read_file (const char *path, buf_t *out)
{
    size_t size;
    char *json = file_read (strcmp (path, "-") == 0 ? "/dev/stdin" : path, &size);
    if (!json)
        return complain (false, "%s: %s", path, strerror (errno));
    bool good = s_read_json (path, (text_t) { json, size }, out);
    free (json);
    return good;
}

//  name=value: the value is JSON when it reads as JSON, else text.
static bool
s_put_pair (const char *pair, buf_t *out)
{
    const char *equals = strchr (pair, '=');
    if (!equals || equals == pair)
        return complain (false, "%s: is not name=value, @FILE or -", pair);
    mp_put_text (out, (text_t) { pair, (size_t) (equals - pair) });
    char error [256];
    if (!equals [1] || !json_read (text_of (equals + 1), out, error, sizeof error))
        mp_put_str (out, equals + 1);
    return true;
}

static bool
s_put_body (int count, char **args, buf_t *out)
{
    if (count == 1 && strcmp (args [0], "-") == 0)
        return s_read_file ("-", out);
    if (count == 1 && args [0] [0] == '@')
        return s_read_file (args [0] + 1, out);
    mp_put_map (out, (uint32_t) count);
    for (int n = 0; n < count; n++)
        if (!s_put_pair (args [n], out))
            return false;
    return true;
}

int
call_command (int argc, char **argv)
{
    int rc = options_read (s_options, &argc, argv,
                           "busbar call METHOD [NAME=VALUE … | @FILE.json | -] [OPTIONS]");
    if (rc != DONE_OK)
        return options_exit (rc);
    if (argc < 2)
        return complain (DONE_USAGE, "call: which method? (`busbar routes` lists them)");
    call_t self = { .method = argv [1] };
    int code = DONE_USAGE;
    if (s_put_body (argc - 2, argv + 2, &self.body))
        code = client_run (&self.client, s_options, s_on_ready, &self);
    buf_free (&self.body);
    return code;
}
