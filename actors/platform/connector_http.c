//  connector_http.c -- a document at an HTTP address as a table.

#include <stdio.h>
#include <stdlib.h>

#include "connector.h"

static const config_field_t s_fields [] = {
    { "url", NULL, CONFIG_REQUIRED | CONFIG_ADDRESS },
    { "format", NULL, 0, "json|csv", NULL },
    { "user", "username", CONFIG_ADDRESS },
    { "password", NULL, CONFIG_SECRET },
    { "authorization", NULL, CONFIG_SECRET },
    { 0 } };

typedef struct {
    buf_t body;
    char type [80];
} document_t;

static bool
s_where (contact_t *self, char *host, size_t size, char port [8])
{
    return web_where (self, contact_text (self, "url"), host, size, port);
}

static bool
s_open (contact_t *self)
{
    document_t *document = self->handle = xcalloc (1, sizeof *document);
    const char *secret = contact_text (self, "authorization");
    char *header = secret ? text_format ("Authorization: %s", secret) : NULL;
    web_ask_t ask = { .url = contact_text (self, "url"),
                  .headers = (const char *const []){ header, NULL },
                  .user = contact_text (self, "user"),
                  .password = contact_text (self, "password") };
    int status = web_ask (self, &ask, &document->body, document->type);
    free (header);
    return web_steps (self, &ask, status);
}

static void
s_close (contact_t *self)
{
    document_t *document = self->handle;
    buf_free (&document->body);
    free (document);
}

static bool
s_read (contact_t *self, const char *table, const sink_t *sink)
{
    document_t *document = self->handle;
    (void) table;
    return document_read (self, buf_text (&document->body), contact_text (self, "format"),
                          document->type, sink);
}

//  The only table: the last part of the path, without query and ending.
static void
s_name (const char *url, char *name, size_t size)
{
    const char *path = strstr (url, "://");
    path = path ? path + 3 : url;
    size_t length = strcspn (path, "?#");
    while (length && path [length - 1] == '/')
        length--;
    const char *start = memrchr (path, '/', length);
    start = start ? start + 1 : path;
    snprintf (name, size, "%.*s", (int) (path + length - start), start);
}

typedef struct {
    const finder_t *finder;
    const char *table;
} found_t;

static bool
s_columns (void *arg, const column_t *columns, int count)
{
    const found_t *found = arg;
    bool more = true;
    for (int n = 0; more && n < count; n++)
        more = found->finder->column (found->finder->arg, "http", found->table, "table", -1,
                                      columns [n].name, columns [n].type, true);
    return false;
}

static bool
s_row (void *arg, const cell_t *cells, int count)
{
    (void) arg, (void) cells, (void) count;
    return false;
}

static bool
s_find (contact_t *self, const finder_t *finder)
{
    char name [256];
    s_name (contact_text (self, "url"), name, sizeof name);
    found_t found = { finder, name };
    const sink_t sink = { s_columns, s_row, &found };
    return s_read (self, name, &sink);
}

const connector_t connector_http = { .name = "http", .fields = s_fields, .open = s_open,
                                     .close = s_close, .find = s_find, .read = s_read,
                                     .where = s_where };
