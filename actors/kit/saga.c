//  saga.c -- a parent goes only after everybody who announced dependants has let go: schedules
//  stop, events are sent, memory agrees. The foreign key only guarantees that nobody was forgotten.

#include <stdlib.h>

#include "kit.h"

typedef struct name {
    struct name *next;
    const char *method;
} name_t;

//  Methods to ask, one per actor; copied, because the directory changes while we wait.
static name_t *
s_others (req_t *req, const char *parent)
{
    name_t *names = NULL;
    bus_entry_t entry;
    for (size_t at = 0; bus_each_entry (req->actor->bus, &at, &entry);) {
        if (strcmp (entry.name, req->actor->name) == 0 || mp_type (entry.dependants) != MP_ARRAY)
            continue;
        for (mp_iter_t it = mp_iter (entry.dependants); mp_next (&it);) {
            text_t method = mp_text (mp_get (it.value, "method"));
            bool known = !text_is (mp_text (mp_get (it.value, "parent")), parent);
            for (name_t *n = names; n && !known; n = n->next)
                known = text_is (method, n->method);
            if (known)
                continue;
            name_t *name = req_alloc (req, sizeof *name);
            *name = (name_t) { names, req_copy (req, method) };
            names = name;
        }
    }
    return names;
}

CO void
saga_delete_of (req_t *req, const char *parent, const char *id, const char *owner)
{
    for (const dependant_t *at = req->actor->dependants; at && at->parent; at++)
        if (strcmp (at->parent, parent) == 0)
            at->on_delete (req, id);
    buf_t *params = req_buf (req);
    mp_put_map (params, 2);
    mp_pair_str (params, "id", id);
    mp_pair_str (params, "user", owner);
    for (name_t *name = s_others (req, parent); name; name = name->next) {
        const char *key = owner ? req_print (req, "user:%s", owner) : NULL;
        const req_call_t how = { .key = key, .idempotent = true, .operator = true };
        bus_reply_t reply = req_call (req, name->method, mp_buf (params), mp_none, &how);
        if (reply.status >= 400)
            fail_reply (req, &reply);
    }
}

CO void
saga_delete (req_t *req, const char *parent, const char *id)
{
    saga_delete_of (req, parent, id, req->user);
}

//  ---------------------------------------------------------------- the other side

static CO void
s_let_go (req_t *req)
{
    //  The operator asks on behalf of the owner, whose audience hears of it.
    if (!req->user)
        req->user = req_str (req, "user");
    req->endpoint->dependant->on_delete (req, req_str (req, "id"));
    if (!req->answered)
        reply_message (req, 200, "Released");
}

void
saga_endpoints (kit_t *kit)
{
    static const field_t in [] = { { "id", T_UUID, REQUIRED }, { "user", T_UUID }, { 0 } };
    for (const dependant_t *at = kit->actor->dependants; at && at->parent; at++) {
        endpoint_t *endpoint =
            routes_own (kit, kit_text ("on_delete.%s", at->parent), s_let_go,
                        kit_text ("Let go of everything under a %s that is deleted", at->parent));
        endpoint->spec.in = endpoint->in = in;
        endpoint->spec.key = "user";
        endpoint->dependant = at;
        routes_finish (kit, endpoint);
    }
}
