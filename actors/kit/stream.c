//  stream.c -- bodies in pieces: uploads under the credit we grant, downloads under the caller's.

#include <stdlib.h>

#include "kit.h"

#define WINDOW 4                     //  chunks of an upload under way

void
stream_free (req_t *req)
{
    free (req->piece);
    while (req->pieces) {
        piece_t *next = req->pieces->next;
        free (req->pieces);
        req->pieces = next;
    }
}

static void
s_wake (req_t *req)
{
    if (req->sleeper)
        pause_end (req->sleeper);
}

//  Until something comes for this request, it is cancelled, or its time is over.
static void
s_wait (req_t *req)
{
    if (req_left (req) == 0)
        fail (req, E_TIMEOUT, NULL);
    req_sleep (req, INT64_MAX / 2);
}

//  ---------------------------------------------------------------- up

void
stream_received (void *arg, bus_peer_t *peer, const wire_chunk_t *chunk)
{
    actor_t *actor = arg;
    req_t *req = serve_find (actor->kit, peer, chunk->id);
    if (!req || !req->uploading || req->upload_ended)
        return;
    if (req->wanted)
        req->wanted--;
    if (chunk->error.size)
        req->upload_broken = true;
    else if (chunk->data.size) {
        piece_t *piece = xmalloc (sizeof *piece + chunk->data.size);
        piece->next = NULL;
        piece->size = chunk->data.size;
        memcpy (piece->data, chunk->data.data, chunk->data.size);
        *req->pieces_end = piece;
        req->pieces_end = &piece->next;
    }
    req->upload_ended = chunk->last || req->upload_broken;
    s_wake (req);
}

CO bool
req_read (req_t *req, text_t *piece)
{
    free (req->piece);
    req->piece = NULL;
    while (!req->pieces) {
        if (req->upload_broken || req->cancelled)
            fail (req, E_INVALID, "upload was broken off");
        if (!req->uploading || req->upload_ended)
            return false;
        if (req->wanted < WINDOW) {
            bus_want (req->actor->bus, req->peer, req->id, WINDOW - req->wanted);
            req->wanted = WINDOW;
        }
        s_wait (req);
    }
    req->piece = req->pieces;
    req->pieces = req->piece->next;
    if (!req->pieces)
        req->pieces_end = &req->pieces;
    if (!req->upload_ended && req->peer && req->wanted < WINDOW) {
        bus_want (req->actor->bus, req->peer, req->id, 1);
        req->wanted++;
    }
    *piece = (text_t) { (const char *) req->piece->data, req->piece->size };
    return true;
}

//  ---------------------------------------------------------------- down

void
stream_granted (void *arg, bus_peer_t *peer, uint64_t id, uint64_t count)
{
    actor_t *actor = arg;
    req_t *req = serve_find (actor->kit, peer, id);
    if (!req)
        return;
    req->credit += count;
    s_wake (req);
}

void
stream_begin (req_t *req, unsigned status, const char *content_type, int64_t size)
{
    if (content_type)
        reply_header (req, "Content-Type", content_type);
    req->streaming = true;
    req->answered = true;
    req->status = status;
    if (!req->peer)
        return;
    mp_t meta = answer_meta (req, status);
    if (size >= 0) {
        //  The map was closed with a count of 32 bits: one pair more.
        buf_t *buf = &req->kit->body;
        buf_clear (buf);
        mp_put_map (buf, (uint32_t) mp_count (meta) + 1);
        mp_pair_int (buf, "size", size);
        for (mp_iter_t it = mp_iter (meta); mp_next (&it);) {
            mp_put (buf, it.key);
            mp_put (buf, it.value);
        }
        meta = mp_buf (buf);
    }
    bus_answer (req->actor->bus, req->peer, req->id, status, mp_none, meta);
}

CO void
stream_write (req_t *req, text_t data)
{
    while (data.size) {
        if (req->cancelled)
            fail (req, E_UNAVAILABLE, "caller left");
        if (req->credit == 0) {
            s_wait (req);
            continue;
        }
        text_t part = { data.data, data.size < WIRE_CHUNK_MAX ? data.size : WIRE_CHUNK_MAX };
        req->credit--;
        if (!bus_send_chunk (req->actor->bus, req->peer, req->id, part, false, NULL))
            fail (req, E_UNAVAILABLE, "caller left");
        data.data += part.size;
        data.size -= part.size;
    }
}

void
stream_end (req_t *req)
{
    stream_finish (req, E_NONE);
}

//  The last chunk, good or broken. It needs credit like any other, and nobody waits for it when the
//  time is over.
CO void
stream_finish (req_t *req, error_code_t code)
{
    if (req->stream_over)
        return;
    while (req->credit == 0 && !req->cancelled && req_left (req) > 0)
        req_sleep (req, INT64_MAX / 2);
    req->stream_over = true;
    if (!req->peer)
        return;
    bus_send_chunk (req->actor->bus, req->peer, req->id, (text_t) { NULL, 0 }, true,
                    code == E_NONE ? NULL : error_name (code));
    serve_forget (req);
}
