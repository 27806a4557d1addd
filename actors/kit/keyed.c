//  keyed.c -- calls for one id run one after another, in the order they came; others go on beside
//  them.

#include <stdlib.h>

#include "kit.h"

typedef struct {
    req_t *first, **end;             //  who waits
} queue_t;

bool
keyed_enter (req_t *req)
{
    text_t id = mp_text (mp_get (req->params, "id"));
    if (id.size == 0)
        return true;
    req->serial_key = req_copy (req, id);
    queue_t *queue = hash_get (req->kit->serial, id);
    if (!queue) {
        queue = xcalloc (1, sizeof *queue);
        queue->end = &queue->first;
        hash_put (req->kit->serial, id, queue);
        return true;
    }
    req->next = NULL;
    *queue->end = req;
    queue->end = &req->next;
    return false;
}

void
keyed_leave (req_t *req)
{
    if (!req->serial_key)
        return;
    text_t key = text_of (req->serial_key);
    queue_t *queue = hash_get (req->kit->serial, key);
    req_t *next = queue->first;
    if (!next) {
        hash_del (req->kit->serial, key);
        return;
    }
    queue->first = next->next;
    if (!queue->first)
        queue->end = &queue->first;
    serve_start_later (next);
}
