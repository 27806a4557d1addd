//  source.c -- data sources as rows, and trying them out.

#include <stdlib.h>
#include <time.h>

#include "actors/kit/guests.h"
#include "source.h"

static const connector_t *
s_kind (req_t *req)
{
    const char *type = req_str (req, "source_type");
    if (!type)
        fail_field (req, E_INVALID, "source_type", "is required");
    const connector_t *kind = connector_find (type);
    if (!kind)
        fail_field (req, E_INVALID, "source_type", "must be one of " SOURCE_TYPES);
    return kind;
}

static void
s_set_config (req_t *req, const connector_t *kind, const char *const *config)
{
    source_need_config (req, kind, config);
    req_set (req, "connection_config", source_shown (req, kind, config));
    req_set (req, "secrets", source_sealed (req, req_user (req), kind, config));
}

static void
s_before_create (req_t *req)
{
    const connector_t *kind = s_kind (req);
    const char *config [CONFIG_MAX] = { NULL };
    source_read_config (req, kind, req_any (req, "connection_config"), config);
    s_set_config (req, kind, config);
}

static row_t
s_row (req_t *req, const char *user, const char *id, const char *field)
{
    row_t row = db_row (req, "source_get", user, id);
    if (!row_none (row))
        return row;
    if (field)
        fail_field (req, E_NOT_FOUND, field, "no such data source");
    fail (req, E_NOT_FOUND, "data source not found");
}

//  What was tested is not what it is now.
static void
s_before_update (req_t *req)
{
    if (!req_has (req, "connection_config") && !req_has (req, "source_type"))
        return;
    row_t row = s_row (req, req_user (req), req_id (req), NULL);
    const char *type = req_str (req, "source_type"), *config [CONFIG_MAX] = { NULL };
    if (type && strcmp (type, row_str (row, "source_type")) != 0)
        fail_field (req, E_CONFLICT, "source_type", "is %s and stays so: make another data source",
                    row_str (row, "source_type"));
    if (!req_has (req, "connection_config"))
        return;
    const connector_t *kind = connector_find (row_str (row, "source_type"));
    source_unseal (req, req_user (req), kind, row, config);
    source_change_config (req, kind, req_any (req, "connection_config"), true, config);
    const char *shown = source_shown (req, kind, config);
    bool same = row_bool (db_row (req, "source_same", req_id (req), shown), "same");
    s_set_config (req, kind, config);
    if (!same)
        req_set (req, "status", "inactive");
}

const resource_t data_source = {
    .name = "data_source",
    .path = "/data-sources",
    .table = "data_sources",
    .ops = CRUD,
    .owner = "user_id",
    .tag = "data_sources",
    .doc = "where else data lives, and how to get there",
    .before_create = s_before_create,
    .before_update = s_before_update,
    .fields = (const field_t []){
        { "name", T_TEXT, REQUIRED | FILTER | SORT, .min = 1, .max = 255 },
        { "description", T_TEXT, NULLABLE },
        { "source_type", T_ENUM, REQUIRED | FILTER, .values = SOURCE_TYPES, .also = "type" },
        { "connection_config", T_OBJECT, REQUIRED, .also = "config",
          .doc = "host, port, database, user, password …; secrets are taken and never shown; "
                 "kept when absent or null, but given again when host, port, user, sslmode, url, "
                 "endpoint, region or access_key change" },
        { "secrets", T_TEXT, HIDDEN },
        { "status", T_ENUM, READONLY | FILTER, .values = "active|inactive|error" },
        { "state_detail", T_TEXT, READONLY, .doc = "why it is in error" },
        { "last_tested_at", T_TIME, READONLY, .also = "last_tested" },
        { 0 } }
};

//  ---------------------------------------------------------------- opened

void
source_load (req_t *req, const char *user, const char *id, const char *field, source_t *out)
{
    row_t row = s_row (req, user, id, field);
    *out = (source_t) { .id = row_str (row, "id"), .name = row_str (row, "name"),
                        .kind = connector_find (row_str (row, "source_type")) };
    source_unseal (req, user, out->kind, row, out->config);
}

//  Quoted for a connection string.
static void
s_put_word (buf_t *out, const char *name, text_t value)
{
    buf_putf (out, " %s='", name);
    for (size_t n = 0; n < value.size; n++) {
        if (value.data [n] == '\'' || value.data [n] == '\\')
            buf_putc (out, '\\');
        buf_putc (out, value.data [n]);
    }
    buf_putc (out, '\'');
}

bool
source_guest (req_t *req, const char *user, source_t *out, bus_reply_t *why)
{
    buf_t *body = req_buf (req), *text = req_buf (req);
    mp_put_map (body, 1);
    mp_pair_str (body, "user", user);
    *why = req_call (req, "guests.open", mp_none, mp_buf (body),
                     &(req_call_t){ .operator = true, .idempotent = true });
    if (why->status >= 400)
        return false;
    char *server = guests_server (req_actor (req));
    buf_puts (text, server);
    free (server);
    s_put_word (text, "dbname", TEXT (GUESTS_DATABASE));
    s_put_word (text, "user", mp_text (mp_get (why->body, "role")));
    s_put_word (text, "password", mp_text (mp_get (why->body, "password")));
    *out = (source_t) { .name = "own tables", .kind = &connector_guest,
                        .config = { req_copy (req, buf_text (text)) } };
    return true;
}

contact_t *
source_contact (req_t *req, const source_t *source, bool read_only, int64_t ms)
{
    actor_t *actor = req_actor (req);
    const char *root = actor_opt (actor, "sqlite-root");
    reach_t reach = { .allow = actor_opt (actor, "source-allow"),
                      .sqlite_root = root && *root ? root : NULL,
                      .ca_file = actor_opt (actor, "source-ca") };
    contact_t *self = contact_new (source->kind, source->config, &reach, ms);
    self->read_only = read_only;
    return self;
}

//  ---------------------------------------------------------------- trying it out

const field_t source_test_in [] = {
    { "id", T_UUID, NULLABLE, .doc = "of a data source, instead of or behind the rest" },
    { "name", T_TEXT, NULLABLE },
    { "description", T_TEXT, NULLABLE },
    { "source_type", T_ENUM, NULLABLE, .values = SOURCE_TYPES, .also = "type" },
    { "connection_config", T_OBJECT, NULLABLE, .also = "config" },
    { 0 } };

const field_t source_test_out [] = { { "success", T_BOOL },
                                     { "steps", T_ARRAY, .doc = "{name, ok, ms, message}" },
                                     { "error", T_TEXT, NULLABLE },
                                     { "timestamp", T_TIME },
                                     { 0 } };

static bool
s_some_columns (void *arg, const column_t *columns, int count)
{
    (void) arg, (void) columns, (void) count;
    return true;
}

static bool
s_some_row (void *arg, const cell_t *cells, int count)
{
    (void) arg, (void) cells, (void) count;
    return true;
}

//  On a thread.
static void
s_try (void *arg)
{
    contact_t *self = arg;
    static const sink_t sink = { s_some_columns, s_some_row, NULL };
    if (!contact_open (self))
        return;
    contact_step_begin (self);
    if (self->kind->query) {
        if (contact_query (self, "SELECT 1", NULL, 0, &sink))
            contact_step_good (self, "query", "SELECT 1");
        else
            contact_step_bad (self, "query", "%s", self->error);
    } else if (self->kind->read && self->kind != &connector_s3) {
        if (self->kind->read (self, "", &sink))
            contact_step_good (self, "query", NULL);
        else
            contact_step_bad (self, "query", "%s", self->error);
    }
}

static void
s_destroy (void *arg)
{
    contact_t *self = arg;
    contact_destroy (&self);
}

static contact_t *
s_tried (req_t *req, const source_t *source)
{
    int64_t seconds = strtoll (actor_opt (req_actor (req), "source-test-timeout"), NULL, 10);
    contact_t *self = source_contact (req, source, true, seconds * 1000);
    req_defer (req, s_destroy, self);
    if (!work_run (req, req_user (req), s_try, self))
        fail (req, E_UNAVAILABLE, "too many data sources are being asked; try again later");
    return self;
}

//  Always 200: that a source does not answer is the answer.
static void
s_answer (req_t *req, const contact_t *self)
{
    char now [40];
    buf_t *body = req_buf (req);
    mp_put_map (body, 4);
    mp_pair_bool (body, "success", !*self->error);
    mp_put_str (body, "steps");
    mp_put_array (body, (uint32_t) self->step_count);
    for (int n = 0; n < self->step_count; n++) {
        const step_t *step = &self->steps [n];
        mp_put_map (body, 4);
        mp_pair_str (body, "name", step->name);
        mp_pair_bool (body, "ok", step->ok);
        mp_put_str (body, "ms");
        mp_put_real (body, step->ms);
        mp_pair_str (body, "message", *step->message ? step->message : NULL);
    }
    mp_pair_str (body, "error", *self->error ? self->error : NULL);
    int64_t wall = loop_wall (req_actor (req)->loop);
    time_t seconds = (time_t) (wall / 1000);
    struct tm utc;
    gmtime_r (&seconds, &utc);
    strftime (now, sizeof now, "%Y-%m-%dT%H:%M:%S", &utc);
    mp_pair_str (body, "timestamp", req_print (req, "%s.%03dZ", now, (int) (wall % 1000)));
    reply_mp (req, 200, mp_buf (body));
}

//  Its row says what came out, and whoever looks at the list sees it.
static void
s_note (req_t *req, const char *id, const contact_t *self)
{
    unit_t *unit = unit_new (req);
    unit_add (unit, "source_tested", req_user (req), id, *self->error ? "error" : "active",
              *self->error ? self->error : NULL);
    unit_commit (unit);
}

void
source_test (req_t *req)
{
    const char *id = req_str (req, "id");
    bool given = !mp_empty (req_any (req, "connection_config"));
    source_t source = { 0 };
    if (id)
        source_load (req, req_user (req), id, "id", &source);
    else
        source.kind = s_kind (req);
    if (given || !id) {
        if (!given)
            fail_field (req, E_INVALID, "connection_config", "is required");
        source_change_config (req, source.kind, req_any (req, "connection_config"), false,
                              source.config);
        source_need_config (req, source.kind, source.config);
    }
    contact_t *self = s_tried (req, &source);
    //  What was tried with another config says nothing of the one that is saved.
    if (id && !given)
        s_note (req, id, self);
    s_answer (req, self);
}

void
source_test_one (req_t *req)
{
    source_t source;
    source_load (req, req_user (req), req_id (req), NULL, &source);
    contact_t *self = s_tried (req, &source);
    s_note (req, req_id (req), self);
    s_answer (req, self);
}
