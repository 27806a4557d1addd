//  spawn.c -- contexts of the actor's own: load, ticks, work that outlives a request. The same
//  req_t, without caller.

#include <stdlib.h>

#include "kit.h"

typedef struct {
    req_t *req;
    void (*then) (void *arg, bool good);
    void *then_arg;
} spawn_t;

static void
s_run (void *arg)
{
    spawn_t *spawn = arg;
    req_t *req = spawn->req;
    kit_t *kit = req->kit;
    bool good = req_guard (req, req->fn);
    kit->failed = good ? E_NONE : req->code;
    if (!good)
        log_error ("work of the actor failed", "what", req->what, "code", error_name (req->code),
                   "why", req->text ? req->text : error_text (req->code));
    req_free (req);
    kit->background--;
    if (spawn->then)
        spawn->then (spawn->then_arg, good);
    free (spawn);
}

bool
spawn (actor_t *actor, const char *what, CO void (*fn) (req_t *req), void *arg,
       void (*then) (void *arg, bool good), void *then_arg)
{
    spawn_t *self = xmalloc (sizeof *self);
    req_t *req = req_new (actor);
    *self = (spawn_t) { req, then, then_arg };
    req->what = what;
    req->operator = true;
    req->role = "operator";
    req->fn = fn;
    req->arg = arg;
    actor->kit->background++;
    if (co_start (s_run, self))
        return true;
    actor->kit->background--;
    req_free (req);
    free (self);
    return false;
}

bool
actor_spawn (actor_t *actor, CO void (*fn) (req_t *req), void *arg)
{
    return spawn (actor, "spawned", fn, arg, NULL, NULL);
}
