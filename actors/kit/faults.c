//  faults.c -- failures on purpose while we serve: `<actor>.faults` answers what has failed so far
//  and sets others. There only when the process was started with BUSBAR_FAULT.

#include <stdlib.h>

#include "../../proto/fault.h"
#include "kit.h"

static void
s_faults (req_t *req)
{
    const char *set = req_str (req, "set");
    char *why = set ? fault_check (text_of (set)) : NULL;
    if (why) {
        const char *text = req_copy (req, text_of (why));
        free (why);
        fail_field (req, E_INVALID, "set", "%s", text);
    }
    buf_t *out = &req->kit->body;
    buf_clear (out);
    mp_put_map (out, FAULT_COUNT);
    for (fault_id_t id = 0; id < FAULT_COUNT; id++) {
        uint64_t passed, failed;
        fault_counts (id, &passed, &failed);
        mp_put_str (out, fault_name (id));
        mp_put_map (out, 3);
        mp_pair_str (out, "what", fault_what (id));
        mp_pair_int (out, "passed", (int64_t) passed);
        mp_pair_int (out, "failed", (int64_t) failed);
    }
    reply_mp (req, 200, mp_buf (out));
    free (set ? fault_arm (req->actor->name, text_of (set)) : NULL);
}

void
faults_endpoint (kit_t *kit)
{
    static const field_t in [] = { { "set", T_TEXT, .max = 1000 }, { 0 } };
    endpoint_t *endpoint =
        routes_own (kit, "faults", s_faults, "Set failures on purpose, and count them");
    endpoint->spec.in = endpoint->in = in;
    routes_finish (kit, endpoint);
}
