//  unit.c -- write units: everything a request changes with its events, one commit; published after
//  it, never before.

#include <assert.h>
#include <stdlib.h>

#include "../../proto/fault.h"
#include "kit.h"

//  An event of the unit.
typedef struct told {
    struct told *next;
    live_event_t event;
    size_t behind;                   //  statements that came before it
} told_t;

typedef struct {
    told_t *first, **end;
} told_list_t;

struct unit {
    req_t *req;
    db_unit_t *inner;
    size_t count;
    size_t last;  //  position of the last statement of unit_add; the answer comes from there
    bool added;   //  there is one
    told_list_t own;                 //  unit_event's
    told_list_t told;                //  what the commit under way will tell
    const plan_t *plan;              //  the row of statement `plan_at` is told, as `what`
    const char *what;
    size_t plan_at;
    void (*build) (req_t *req, row_t last, buf_t *body);
    const char *message;
    claim_t *claim;  //  that it is good under
    bool stores;     //  the answer for who repeats the request
    pause_t pause;
    db_result_t *results;
};

static void
s_drop (void *inner)
{
    db_unit_drop (inner);
}

unit_t *
unit_new (req_t *req)
{
    unit_t *unit = req_alloc (req, sizeof *unit);
    unit->req = req;
    unit->own.end = &unit->own.first;
    unit->inner = db_unit_new (req->actor->db);
    req_defer (req, s_drop, &unit->inner);
    return unit;
}

void
unit_add_ (unit_t *unit, const char *name, const char *const *params, size_t count)
{
    db_unit_add (unit->inner, name, params, count);
    unit->last = unit->count++;
    unit->added = true;
}

void
unit_also_ (unit_t *unit, const char *name, const char *const *params, size_t count)
{
    db_unit_add (unit->inner, name, params, count);
    unit->count++;
}

void
unit_add_text (unit_t *unit, const char *text, const char *const *params, size_t count)
{
    db_unit_add_text (unit->inner, text, params, count);
    unit->last = unit->count++;
    unit->added = true;
}

//  A channel named without audience is the caller's own.
const char *
channel_full (req_t *req, const char *channel)
{
    size_t audience = strcspn (channel, "/");
    bool full = channel [audience]
                && (memchr (channel, ':', audience) || strncmp (channel, "sys/", 4) == 0);
    return full || !req->user ? channel : req_print (req, "user:%s/%s", req->user, channel);
}

static void
s_told_add (req_t *req, told_list_t *list, const live_event_t *event, size_t behind)
{
    told_t *told = req_alloc (req, sizeof *told);
    *told = (told_t) { .event = *event, .behind = behind };
    *list->end = told;
    list->end = &told->next;
}

void
unit_event (unit_t *unit, const char *channel, const char *key, const char *type, const char *data)
{
    req_t *req = unit->req;
    mp_t value = mp_none;
    if (data) {
        buf_t *json = &req->kit->body;
        buf_clear (json);
        live_data (json, text_of (data));
        value = req_keep_mp (req, mp_buf (json));
    }
    s_told_add (req, &unit->own, &(live_event_t) {
        .ch = text_of (req_copy (req, text_of (channel_full (req, channel)))),
        .key = text_of (key ? req_copy (req, text_of (key)) : NULL),
        .type = text_of (req_copy (req, text_of (type))), .data = value }, unit->count);
}

void
unit_tell (unit_t *unit, const plan_t *plan, const char *what)
{
    unit->plan = plan;
    unit->what = what;
    unit->plan_at = unit->last;
}

void
unit_answer (unit_t *unit, void (*build) (req_t *req, row_t last, buf_t *body))
{
    unit->build = build;
}

void
unit_message (unit_t *unit, const char *message)
{
    unit->message = message;
}

static void
s_unref (void *claim)
{
    claim_unref (claim);
}

void
unit_guard (unit_t *unit, const char *key)
{
    req_t *req = unit->req;
    unit->claim = claim_ref (req->kit, key);
    req_defer (req, s_unref, &unit->claim);
    //  A number that nobody has: what was lost before is as good as lost now.
    int64_t number = unit->claim ? claim_number (unit->claim) : 0;
    unit_also (unit, "kit.claim_check", key, req_print (req, "%lld", (long long) number));
}

//  ---------------------------------------------------------------- events made by SQL

typedef void (event_fn) (req_t *req, kit_t *kit, mp_t event);

static void
s_each_event (kit_t *kit, req_t *req, const PGresult *result, event_fn *fn)
{
    static buf_t parsed;
    char why [128];
    for (int column = 0; column < PQnfields (result); column++) {
        if (strncmp (PQfname (result, column), "live", 4) != 0)
            continue;
        for (int row = 0; row < PQntuples (result); row++) {
            if (PQgetisnull (result, row, column))
                continue;
            text_t json = { PQgetvalue (result, row, column),
                            (size_t) PQgetlength (result, row, column) };
            buf_clear (&parsed);
            if (!json_read (json, &parsed, why, sizeof why)) {
                //  Who watches sees the hole and asks for what the log holds.
                log_warn ("event is not published", "why", why);
                continue;
            }
            mp_t value = mp_buf (&parsed);
            if (mp_type (value) == MP_MAP)
                fn (req, kit, value);
            else if (mp_type (value) == MP_ARRAY)
                for (mp_iter_t it = mp_iter (value); mp_next (&it);)
                    fn (req, kit, it.value);
        }
    }
}

static void
s_note (req_t *req, kit_t *kit, mp_t event)
{
    (void) kit;
    if (!req || req->live_ch)
        return;
    req->live_ch = req_copy (req, mp_text (mp_get (event, "ch")));
    req->live_epoch = req_copy (req, mp_text (mp_get (event, "epoch")));
    req->live_off = mp_int (mp_get (event, "off"));
}

static void
s_publish (req_t *req, kit_t *kit, mp_t event)
{
    s_note (req, kit, event);
    bus_publish (kit->actor->bus, &(wire_event_t) {
        .channel = mp_text (mp_get (event, "ch")), .epoch = mp_text (mp_get (event, "epoch")),
        .off = mp_uint (mp_get (event, "off")), .key = mp_text (mp_get (event, "key")),
        .type = mp_text (mp_get (event, "type")), .at = mp_text (mp_get (event, "at")),
        .data = mp_get (event, "data") });
}

void
live_publish (kit_t *kit, req_t *req, const PGresult *result)
{
    s_each_event (kit, req, result, s_publish);
}

//  ---------------------------------------------------------------- events of the unit

static void
s_tell (void *arg, const live_event_t *event)
{
    unit_t *unit = arg;
    s_told_add (unit->req, &unit->told, event, 0);
}

//  A guarded transition that was refused has a row with a null id; `_id` in rows whose answer has
//  none.
static bool
s_refused (const PGresult *result)
{
    int id = PQfnumber (result, "id");
    if (id < 0)
        id = PQfnumber (result, "_id");
    return id >= 0 && PQgetisnull (result, 0, id);
}

//  Did the statement change anything?
static bool
s_changed (const PGresult *result)
{
    if (PQresultStatus (result) == PGRES_COMMAND_OK)
        return strcmp (PQcmdTuples ((PGresult *) result), "0") != 0;
    return PQntuples (result) > 0 && !s_refused (result);
}

//  All statements of the unit have run: what will be told of it.
static void
s_gather (unit_t *unit, const db_result_t *results)
{
    req_t *req = unit->req;
    unit->told = (told_list_t) { NULL, &unit->told.first };
    unit->stores = false;
    if (unit->plan && PQntuples (results [unit->plan_at].result))
        resource_events (req, unit->plan, unit->what,
                         (row_t) { results [unit->plan_at].result, 0 }, s_tell, unit);
    for (const told_t *own = unit->own.first; own; own = own->next)
        if (own->behind == 0 || s_changed (results [own->behind - 1].result))
            s_tell (unit, &own->event);
    for (told_t *told = unit->told.first; told; told = told->next)
        live_put (&told->event);
}

//  Position of the first event, for the answer.
static void
s_note_told (unit_t *unit)
{
    req_t *req = unit->req;
    if (!unit->told.first || req->live_ch)
        return;
    req->live_ch = unit->told.first->event.ch.data;
    req->live_epoch = req_copy (req, text_of (req->kit->epoch));
    req->live_off = unit->told.first->event.off;
}

//  ---------------------------------------------------------------- committing

static void
s_done (void *arg, db_result_t *results, size_t count)
{
    unit_t *unit = arg;
    req_t *req = unit->req;
    unit->results = req_alloc (req, (count + 1) * sizeof *unit->results);
    req->live_ch = NULL;
    for (size_t n = 0; n < count; n++) {
        unit->results [n] = results [n];
        results [n].result = NULL;
        result_keep (req, &unit->results [n]);
        if (unit->results [n].code == E_NONE && !(unit->plan && n == unit->plan_at))
            live_publish (req->kit, req, unit->results [n].result);
    }
    if (unit->results [0].code == E_NONE) {
        req->idem_stored |= unit->stores;
        s_note_told (unit);
        for (const told_t *told = unit->told.first; told; told = told->next)
            live_tell (req->kit, &told->event);
    }
    if (unit->claim && claim_is_fence (&unit->results [0]))
        claim_fenced (req->kit, unit->claim);
    pause_end (&unit->pause);
}

static row_t
s_row (const db_result_t *result)
{
    return (row_t) { result->result, result->result && PQntuples (result->result) > 0 ? 0 : -1 };
}

//  A column named body is the whole answer, ready JSON.
static void
s_put_answer (unit_t *unit, row_t row, buf_t *body)
{
    req_t *req = unit->req;
    int whole = unit->message ? -1 : PQfnumber (row.result, "body");
    if (whole >= 0 && !PQgetisnull (row.result, row.row, whole)) {
        const char *json = PQgetvalue (row.result, row.row, whole);
        mp_put_ext (body, MP_EXT_JSON, json, strlen (json));
        return;
    }
    size_t mark = mp_open_map (body);
    uint32_t pairs = 1;
    if (unit->message)
        mp_pair_str (body, "message", unit->message);
    else
        pairs = row_put (req, body, row);
    mp_close (body, mark, pairs + req_live_put (req, body));
}

//  The answer that a repeated request will get, in the same commit. Nothing is stored for a row
//  that is not there or that a guarded transition refused (null id): that request may be made
//  again. Nor for what a request only took along, such as a claim.
static void
s_store_answer (unit_t *unit, db_unit_t *inner, const db_result_t *results, size_t count)
{
    req_t *req = unit->req;
    row_t row = count ? s_row (&results [unit->last]) : (row_t) { NULL, -1 };
    if (!unit->build && (!unit->added || row_none (row) || s_refused (row.result)))
        return;
    req->live_ch = NULL;
    for (size_t n = 0; n < count; n++)
        s_each_event (req->kit, req, results [n].result, s_note);
    s_note_told (unit);
    buf_t *body = &req->kit->body;
    buf_clear (body);
    if (unit->build)
        unit->build (req, row, body);
    else
        s_put_answer (unit, row, body);
    unit->stores = body->size > 0;
    if (unit->stores)
        idem_store (req, inner, mp_buf (body));
}

static db_verdict_t
s_before (void *arg, db_unit_t *inner, unsigned round, db_result_t *results, size_t count,
          error_code_t *code, const char **text)
{
    unit_t *unit = arg;
    (void) text;
    if (round == 0)
        s_gather (unit, results);
    if (!unit->req->idem_key)
        return DB_COMMIT;
    //  The answer names the position of the event, which is known when it was written.
    if (round == 0 && unit->told.first)
        return DB_LOOK;
    if (fault (KIT_STORE)) {
        *code = E_UNAVAILABLE;
        return DB_REFUSE;
    }
    s_store_answer (unit, inner, results, count);
    return DB_COMMIT;
}

CO db_result_t
unit_try (unit_t *unit)
{
    assert (unit->count || unit->own.first);
    //  What tells nothing but what SQL made of it, and stores no answer, is one round trip.
    if (unit->plan || unit->own.first || unit->req->idem_key)
        db_unit_before_commit (unit->inner, s_before, unit);
    db_unit_commit (&unit->inner, s_done, unit);
    pause_wait (&unit->pause);
    //  All statements of a failed unit say the same. Who asks again gets the stored answer.
    db_result_t result = unit->results [unit->last];
    if (idem_taken (&result)) {
        result.code = E_UNAVAILABLE;
        result.text = error_text (E_UNAVAILABLE);
    }
    return result;
}

CO row_t
unit_commit (unit_t *unit)
{
    db_result_t result = unit_try (unit);
    if (result.code != E_NONE)
        fail_result (unit->req, &result);
    return s_row (&result);
}

row_t
unit_rows (unit_t *unit, size_t position)
{
    assert (unit->results && position < unit->count);
    return s_row (&unit->results [position]);
}
