//  notebook.c -- which instance serves a notebook: its claim, calls for others, and what is left of
//  an instance that is gone.

#include <stdio.h>

#include "kernels.h"

#define PREFIX "notebook:"
#define AGAIN 200            //  ms until an absent database is asked again
#define RELEASES 64          //  claims given back in one go
#define WHY_LOST "kernels process restarted"

void
notebook_key_write (char out [NOTEBOOK_KEY], const char *notebook)
{
    snprintf (out, NOTEBOOK_KEY, PREFIX "%s", notebook);
}

const char *
notebook_key (req_t *req, const char *notebook)
{
    return req_print (req, PREFIX "%s", notebook);
}

CO db_result_t
notebook_commit (req_t *req, const char *notebook, const char *statement,
                 const char *const *params, size_t count)
{
    for (;;) {
        unit_t *unit = unit_new (req);
        unit_guard (unit, notebook_key (req, notebook));
        unit_add_ (unit, statement, params, count);
        db_result_t result = unit_try (unit);
        if (!error_retry (result.code) || claim_is_fence (&result))
            return result;
        req_sleep (req, AGAIN);
    }
}

static CO void
s_lose (unit_t *unit, const char *notebook)
{
    unit_also (unit, "kernels_gone", notebook);
    unit_add (unit, "executions_lost", WHY_LOST, notebook);
    row_t rows = unit_commit (unit);
    if (rows_count (rows) > 0)
        log_warn ("executions are lost", "count", log_num (rows_count (rows)));
}

//  What an instance began that had the notebook before us, it cannot end any more.
CO void
notebook_take (req_t *req, const char *notebook)
{
    kernels_t *kernels = kernels_of (req);
    const char *key = notebook_key (req, notebook);
    bool fresh = claim_take (req, key);
    hash_put (kernels->claims, text_of (key), kernels);
    if (!fresh)
        return;
    unit_t *unit = unit_new (req);
    unit_guard (unit, key);
    s_lose (unit, notebook);
}

CO void
notebook_orphans (req_t *req)
{
    s_lose (unit_new (req), NULL);
}

void
notebook_fenced (actor_t *actor, const char *key)
{
    kernels_t *kernels = actor->state;
    const char *notebook = key + sizeof PREFIX - 1;
    text_t id;
    void *item;
    hash_del (kernels->claims, text_of (key));
    for (size_t at = 0; hash_each (kernels->records, &at, &id, &item);) {
        record_t *record = item;
        if (strcmp (record->notebook, notebook) != 0)
            continue;
        record->fenced = true;
        if (record->stop)
            record->stop (record);
    }
    kernel_t *kernel;
    for (size_t at = 0; (kernel = pool_each (kernels->pool, &at));)
        if (kernel_notebook (kernel) && strcmp (kernel_notebook (kernel), notebook) == 0)
            kernel_stop (kernel, "another process serves this notebook now", true);
}

static bool
s_is_used (kernels_t *kernels, text_t claim)
{
    kernel_t *kernel;
    text_t key, notebook = { claim.data + sizeof PREFIX - 1, claim.size - sizeof PREFIX + 1 };
    void *item;
    for (size_t at = 0; (kernel = pool_each (kernels->pool, &at));)
        if (kernel_notebook (kernel) && text_is (notebook, kernel_notebook (kernel)))
            return true;
    for (size_t at = 0; hash_each (kernels->records, &at, &key, &item);)
        if (text_is (notebook, ((record_t *) item)->notebook))
            return true;
    return false;
}

//  Claims of notebooks without kernel are given back: their next kernel may be anywhere.
CO void
notebook_release (req_t *req)
{
    kernels_t *kernels = kernels_of (req);
    const char *unused [RELEASES];
    text_t key;
    void *item;
    size_t count = 0;
    for (size_t at = 0; count < RELEASES && hash_each (kernels->claims, &at, &key, &item);)
        if (!s_is_used (kernels, key))
            unused [count++] = req_copy (req, key);
    for (size_t n = 0; n < count; n++)
        if (!s_is_used (kernels, text_of (unused [n]))) {
            hash_del (kernels->claims, text_of (unused [n]));
            claim_release (req, unused [n]);
        }
}
