//  connector_s3.c -- a bucket of an S3-compatible store: its objects listed, and read as tables.

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>

#include "connector.h"

#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define OBJECTS_MAX 1000

static const config_field_t s_fields [] = {
    { "bucket", NULL, CONFIG_REQUIRED },
    { "region", NULL, CONFIG_ADDRESS, NULL, "us-east-1" },
    { "access_key", NULL, CONFIG_ADDRESS },
    { "secret_key", NULL, CONFIG_SECRET },
    { "endpoint", NULL, CONFIG_ADDRESS },
    { "prefix", NULL, 0, NULL, "" },
    { 0 } };

typedef struct {
    buf_t listing, object;
    char type [80];
} store_t;

//  "https://s3.eu-west-1.amazonaws.com", or what the config says, without a slash at its end.
static char *
s_endpoint (contact_t *self)
{
    const char *given = contact_text (self, "endpoint");
    char *endpoint =
        given ? text_format ("%s", given)
              : text_format ("https://s3.%s.amazonaws.com", contact_text (self, "region"));
    size_t size = strlen (endpoint);
    while (size && endpoint [size - 1] == '/')
        endpoint [--size] = 0;
    return endpoint;
}

static bool
s_where (contact_t *self, char *host, size_t size, char port [8])
{
    char *endpoint = s_endpoint (self);
    bool good = web_where (self, endpoint, host, size, port);
    free (endpoint);
    return good;
}

//  Percent-encoded as signatures want it; slashes stay in a key.
static void
s_put_encoded (buf_t *out, const char *text, bool slashes)
{
    for (; *text; text++)
        if ((*text >= '0' && *text <= '9') || (*text >= 'a' && *text <= 'z')
            || (*text >= 'A' && *text <= 'Z') || strchr ("-._~", *text)
            || (slashes && *text == '/'))
            buf_putc (out, *text);
        else
            buf_putf (out, "%%%02X", (unsigned char) *text);
}

//  Path-style, which every store understands. `key` NULL: the listing.
static int
s_ask (contact_t *self, const char *key, buf_t *answer, web_ask_t *ask)
{
    store_t *store = self->handle;
    static const char *const headers [] = { "x-amz-content-sha256: " EMPTY_SHA256, NULL };
    buf_t url = { 0 };
    char *endpoint = s_endpoint (self), *scheme = NULL;
    buf_puts (&url, endpoint);
    free (endpoint);
    buf_putc (&url, '/');
    s_put_encoded (&url, contact_text (self, "bucket"), false);
    buf_putc (&url, '/');
    if (key)
        s_put_encoded (&url, key, true);
    else {
        //  In the order of the alphabet: that is what gets signed.
        buf_putf (&url, "?list-type=2&max-keys=%d&prefix=", OBJECTS_MAX);
        s_put_encoded (&url, contact_text (self, "prefix"), false);
    }
    buf_putc (&url, 0);
    if (contact_text (self, "access_key"))
        scheme = text_format ("aws:amz:%s:s3", contact_text (self, "region"));
    *ask = (web_ask_t) { .url = (char *) url.data, .sigv4 = scheme,
                         .headers = scheme ? headers : NULL,
                         .user = contact_text (self, "access_key"),
                         .password = contact_text (self, "secret_key") };
    int status = web_ask (self, ask, answer, store->type);
    //  Its steps ask for the scheme alone.
    ask->url = strncasecmp ((char *) url.data, "https:", 6) == 0 ? "https:" : "http:";
    free (scheme);
    buf_free (&url);
    return status;
}

static bool
s_open (contact_t *self)
{
    store_t *store = self->handle = xcalloc (1, sizeof *store);
    web_ask_t ask;
    int status = s_ask (self, NULL, &store->listing, &ask);
    if (!web_steps (self, &ask, status))
        return false;
    buf_putc (&store->listing, 0);
    if (!strstr ((char *) store->listing.data, "<ListBucketResult"))
        return contact_step_bad (self, "query", "the server does not answer as an S3 store does");
    contact_step_good (self, "query", NULL);
    return true;
}

static void
s_close (contact_t *self)
{
    store_t *store = self->handle;
    buf_free (&store->listing);
    buf_free (&store->object);
    free (store);
}

//  Text of the element that begins at or after `at` and before `end`, its entities resolved.
static bool
s_element (const char *at, const char *end, const char *name, char *out, size_t size)
{
    static const struct {
        const char *entity;
        char byte;
    } entities [] = {
        { "&amp;", '&' }, { "&lt;", '<' }, { "&gt;", '>' }, { "&quot;", '"' }, { "&apos;", '\'' }
    };
    char open [32];
    snprintf (open, sizeof open, "<%s>", name);
    const char *from = strstr (at, open);
    if (!from || from >= end)
        return false;
    size_t used = 0;
    for (from += strlen (open); *from && *from != '<' && used + 1 < size;) {
        size_t skip = 1;
        char byte = *from;
        for (size_t n = 0; byte == '&' && n < sizeof entities / sizeof *entities; n++)
            if (strncmp (from, entities [n].entity, strlen (entities [n].entity)) == 0) {
                byte = entities [n].byte;
                skip = strlen (entities [n].entity);
                break;
            }
        out [used++] = byte;
        from += skip;
    }
    out [used] = 0;
    return true;
}

//  Each object is a table, with what the listing knows of it; its own columns show when it is read.
static bool
s_find (contact_t *self, const finder_t *finder)
{
    store_t *store = self->handle;
    const char *bucket = contact_text (self, "bucket");
    char key [1100], size [32];
    bool more = true;
    for (const char *at = (char *) store->listing.data; more && (at = strstr (at, "<Contents>"));) {
        const char *end = strstr (at, "</Contents>");
        if (!end)
            break;
        if (s_element (at, end, "Key", key, sizeof key) && text_utf8 (text_of (key))
            && s_element (at, end, "Size", size, sizeof size))
            more =
                finder->column (finder->arg, bucket, key, "table", -1, "content", "object", false);
        at = end;
    }
    return true;
}

static bool
s_read (contact_t *self, const char *table, const sink_t *sink)
{
    store_t *store = self->handle;
    const char *dot = strrchr (table, '.');
    web_ask_t ask;
    buf_clear (&store->object);
    int status = s_ask (self, table, &store->object, &ask);
    if (status == 0)
        return false;
    if (status != 200)
        return contact_fail (self, "", "the server answers %d", status);
    return document_read (self, buf_text (&store->object),
                          dot && strcasecmp (dot, ".csv") == 0 ? "csv" : NULL, store->type, sink);
}

const connector_t connector_s3 = { .name = "s3",
                                   .fields = s_fields,
                                   .open = s_open,
                                   .close = s_close,
                                   .find = s_find,
                                   .read = s_read,
                                   .where = s_where };
