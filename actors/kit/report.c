//  report.c -- a named statement as handler; its answer may be used again for a while by the same
//  caller.

#include <stdlib.h>

#include "kit.h"

#define CACHED_MAX 256

typedef struct {
    int64_t until;                   //  on the loop's clock
    unsigned status;
    size_t size;
    uint8_t body [];
} cached_t;

void
report_cache_trim (kit_t *kit)
{
    int64_t now = loop_now (kit->actor->loop);
    bool full = hash_size (kit->cache) >= CACHED_MAX;
    text_t key;
    void *item;
    for (size_t at = 0; hash_each (kit->cache, &at, &key, &item);)
        if (full || ((cached_t *) item)->until <= now)
            hash_del (kit->cache, key);
}

static text_t
s_key (req_t *req, const char *const *params, size_t count)
{
    buf_t *key = req_buf (req);
    mp_put_str (key, req->endpoint->spec.method);
    for (size_t n = 0; n < count; n++)
        mp_put_str (key, params [n]);
    return buf_text (key);
}

static bool
s_from_cache (req_t *req, text_t key)
{
    cached_t *cached = hash_get (req->kit->cache, key);
    if (!cached || cached->until <= loop_now (req->actor->loop))
        return false;
    reply_mp (req, cached->status, mp_of (cached->body, cached->size));
    return true;
}

static void
s_to_cache (req_t *req, text_t key, unsigned status, mp_t body)
{
    size_t size = (size_t) (body.end - body.data);
    if (hash_size (req->kit->cache) >= CACHED_MAX)
        report_cache_trim (req->kit);
    cached_t *cached = xmalloc (sizeof *cached + size);
    cached->until = loop_now (req->actor->loop) + (int64_t) req->endpoint->route->cache * 1000;
    cached->status = status;
    cached->size = size;
    memcpy (cached->body, body.data, size);
    hash_put (req->kit->cache, key, cached);
}

//  The document of a column `body`; else the row, or all rows where an array was announced.
static void
s_build (req_t *req, row_t rows, buf_t *body)
{
    const route_spec_t *spec = &req->endpoint->spec;
    const char *document = row_str (rows, "body");
    if (document)
        mp_put_ext (body, MP_EXT_JSON, document, strlen (document));
    else if (spec->reply && strcmp (spec->reply, "array") == 0) {
        mp_put_array (body, (uint32_t) rows_count (rows));
        for (int n = 0; n < rows_count (rows); n++) {
            size_t mark = mp_open_map (body);
            mp_close (body, mark, row_put (req, body, rows_at (rows, n)));
        }
    }
    else if (row_none (rows))
        fail (req, E_NOT_FOUND, NULL);
    else {
        size_t mark = mp_open_map (body);
        mp_close (body, mark, row_put (req, body, rows));
    }
}

CO void
report_run (req_t *req)
{
    const endpoint_t *endpoint = req->endpoint;
    const char **params = req_alloc (req, (endpoint->in_count + 1) * sizeof *params);
    params [0] = req->user;
    for (size_t n = 0; n < endpoint->in_count; n++)
        params [n + 1] = req->values [n].text;
    size_t count = endpoint->in_count + 1;
    bool cached = endpoint->route->cache > 0;
    text_t key = { NULL, 0 };
    if (cached) {
        key = s_key (req, params, count);
        if (s_from_cache (req, key))
            return;
    }
    row_t rows =
        req_db_rows (req, endpoint->route->lane, endpoint->route->statement, params, count);
    unsigned status = endpoint->spec.status ? endpoint->spec.status : 200;
    buf_t *body = &req->kit->body;
    buf_clear (body);
    s_build (req, rows, body);
    if (cached)
        s_to_cache (req, key, status, mp_buf (body));
    reply_mp (req, status, mp_buf (body));
}
