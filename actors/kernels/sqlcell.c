//  sqlcell.c -- SQL cells: each user is a guest with a login role of its own in the guest database.

#include <stdio.h>
#include <stdlib.h>

#include "actors/kit/guests.h"
#include "actors/kit/secret.h"
#include "db/guest.h"
#include "db/guest_json.h"
#include "kernels.h"

#define ROWS_MAX 10000
#define BYTES_MAX (6 << 20)
#define TEXT_ROWS 50         //  of the plain text
#define CELL_MAX 60          //  characters of a value there
#define DEADLINE (10 * 60 * 1000)
#define AT_ONCE 3            //  statements of one user; PostgreSQL lets a guest in eight times
#define WAIT_MAX 200         //  statements of one user that run or wait
#define RETRY 100            //  ms
#define LOOK 500             //  ms between two looks at a statement that runs
#define LOOKS 4              //  for one at what it has written
#define COLUMNS_MAX 1664     //  PostgreSQL's own limit

typedef struct job job_t;

//  What the coroutine that looks after a statement knows of it.
typedef struct {
    job_t *job;                          //  NULL: it has ended
} seen_t;

struct job {
    record_t *record;
    kernels_t *kernels;
    char *owner, *code;
    guest_t *guest;
    seen_t *seen;
    bool cancelled, running;
    bool limited;                        //  may only read: its user's tables take too much
    bool over;                           //  stopped, because they do now
    buf_t columns, rows, text;           //  JSON, JSON, plain
    char **names;                        //  of the columns, told apart
    int column_count;
    size_t row_count;
};

static size_t
s_running (const kernels_t *kernels, const char *owner)
{
    text_t key;
    void *item;
    size_t count = 0;
    for (size_t at = 0; hash_each (kernels->records, &at, &key, &item);) {
        const job_t *job = ((record_t *) item)->job;
        count += job && job->running && strcmp (job->owner, owner) == 0;
    }
    return count;
}

//  ---- rows ----

//  Two columns of one name: the second becomes name_2.
static char *
s_unique (job_t *job, const char *name)
{
    char text [96];
    snprintf (text, sizeof text, "%s", name);
    for (int number = 2, n = 0; n < job->column_count; n++)
        if (strcmp (job->names [n], text) == 0) {
            snprintf (text, sizeof text, "%.80s_%d", name, number++);
            n = -1;
        }
    return xstrdup (text);
}

static void
s_on_columns (void *arg, const PGresult *result)
{
    job_t *job = arg;
    int count = PQnfields (result) < COLUMNS_MAX ? PQnfields (result) : COLUMNS_MAX;
    job->names = xcalloc ((size_t) count + 1, sizeof *job->names);
    for (int n = 0; n < count; n++) {
        job->names [n] = s_unique (job, PQfname (result, n));
        job->column_count++;
        buf_puts (&job->columns, n ? ",{\"name\":" : "{\"name\":");
        json_quote (text_of (job->names [n]), &job->columns);
        buf_putf (&job->columns, ",\"type_oid\":%u}", PQftype (result, n));
        buf_putf (&job->text, "%s%s", n ? " | " : "", job->names [n]);
    }
    buf_putc (&job->text, '\n');
}

static void
s_on_row (void *arg, const PGresult *result)
{
    job_t *job = arg;
    buf_puts (&job->rows, job->row_count ? ",{" : "{");
    for (int n = 0; n < job->column_count; n++) {
        const char *value = PQgetisnull (result, 0, n) ? NULL : PQgetvalue (result, 0, n);
        if (n)
            buf_putc (&job->rows, ',');
        json_quote (text_of (job->names [n]), &job->rows);
        buf_putc (&job->rows, ':');
        guest_json_put (&job->rows, result, 0, n);
        if (job->row_count < TEXT_ROWS)
            buf_putf (&job->text, "%s%.*s", n ? " | " : "", CELL_MAX, value ? value : "");
    }
    buf_putc (&job->rows, '}');
    if (job->row_count < TEXT_ROWS)
        buf_putc (&job->text, '\n');
    job->row_count++;
}

//  ---- the end ----

static void
s_free (job_t *job)
{
    for (int n = 0; n < job->column_count; n++)
        free (job->names [n]);
    free (job->names);
    if (job->seen)
        job->seen->job = NULL;
    free (job->owner);
    free (job->code);
    buf_free (&job->columns);
    buf_free (&job->rows);
    buf_free (&job->text);
    free (job);
}

static char *
s_string (buf_t *buf)
{
    buf_putc (buf, 0);
    char *text = (char *) buf->data;
    *buf = (buf_t) { 0 };
    return text;
}

static void
s_fail (job_t *job, const char *state, const char *name, const char *text)
{
    buf_t error = { 0 }, outputs = { 0 };
    record_t *record = job->record;
    buf_puts (&error, "{\"ename\":");
    json_quote (text_of (name), &error);
    buf_puts (&error, ",\"evalue\":");
    json_quote (text_of (text), &error);
    buf_puts (&error, ",\"traceback\":[]}");
    record_event (record, "error", buf_text (&error));
    buf_puts (&outputs, "[{\"output_type\":\"error\",");
    buf_put (&outputs, error.data + 1, error.size - 1);
    buf_putc (&outputs, ']');
    record->job = NULL;
    record->stop = NULL;
    record_end (record, state, 0, s_string (&error), xstrdup (""), s_string (&outputs), false, 0);
    s_free (job);
}

static void
s_succeed (job_t *job, const guest_outcome_t *outcome)
{
    buf_t data = { 0 }, outputs = { 0 };
    record_t *record = job->record;
    //  What changed rows instead of answering some says how many in its tag.
    const char *number = outcome->tag ? strrchr (outcome->tag, ' ') : NULL;
    size_t count =
        job->columns.size || !number ? job->row_count : (size_t) strtoull (number, NULL, 10);
    if (job->columns.size == 0)
        buf_puts (&job->text, outcome->tag && *outcome->tag ? outcome->tag : "OK");
    else
        buf_putf (&job->text, "(%zu row%s%s)", job->row_count, job->row_count == 1 ? "" : "s",
                  outcome->truncated ? ", there are more" : "");
    buf_puts (&data, "\"data\":{\"application/json\":{\"columns\":[");
    buf_put (&data, job->columns.data, job->columns.size);
    buf_puts (&data, "],\"rows\":[");
    buf_put (&data, job->rows.data, job->rows.size);
    buf_putf (&data, "],\"rowCount\":%zu,\"truncated\":%s,\"tag\":", count,
              outcome->truncated ? "true" : "false");
    json_quote (text_of (outcome->tag ? outcome->tag : ""), &data);
    buf_puts (&data, "},\"text/plain\":");
    json_quote (buf_text (&job->text), &data);
    buf_puts (&data, "},\"metadata\":{},\"execution_count\":null}");
    buf_puts (&outputs, "{");
    buf_put (&outputs, data.data, data.size);
    record_event (record, "execute_result", buf_text (&outputs));
    buf_clear (&outputs);
    buf_puts (&outputs, "[{\"output_type\":\"execute_result\",");
    buf_put (&outputs, data.data, data.size);
    buf_putc (&outputs, ']');
    buf_free (&data);
    record->job = NULL;
    record->stop = NULL;
    record_end (record, "succeeded", 0, NULL, s_string (&job->text), s_string (&outputs),
                outcome->truncated, 0);
    s_free (job);
}

static void
s_on_done (void *arg, const guest_outcome_t *outcome)
{
    job_t *job = arg;
    char name [32];
    job->guest = NULL;
    if (outcome->code == E_NONE) {
        s_succeed (job, outcome);
        return;
    }
    if (job->over || (job->limited && strcmp (outcome->sqlstate, "25006") == 0)) {
        char text [160];
        snprintf (text, sizeof text, "your tables take more than %s MiB: delete, drop or truncate "
                  "some of them first", actor_opt (job->kernels->actor, "guest-disk"));
        s_fail (job, "failed", "SQLSTATE 53100", text);
        return;
    }
    if (job->cancelled || outcome->cancelled) {
        s_fail (job, "cancelled", "Interrupted", "execution was interrupted");
        return;
    }
    if (outcome->code == E_UNAVAILABLE)
        hash_del (job->kernels->guests, text_of (job->owner));
    snprintf (name, sizeof name, "SQLSTATE %s",
              outcome->sqlstate && *outcome->sqlstate ? outcome->sqlstate : "08006");
    s_fail (job, "failed", name, outcome->text ? outcome->text : error_text (outcome->code));
}

static void
s_stop (record_t *record)
{
    job_t *job = record->job;
    if (job->cancelled)
        return;
    job->cancelled = true;
    if (job->guest)
        guest_cancel (job->guest);
}

//  ---- guests ----

static int64_t
s_disk (const kernels_t *kernels)
{
    return strtoll (actor_opt (kernels->actor, "guest-disk"), NULL, 10);
}

//  Put right again once per process, and after each time it could not log in: a guest may change
//  its own password.
CO bool
guest_open (req_t *req, const char *owner, const char **role, const char **password)
{
    kernels_t *kernels = kernels_of (req);
    const char *context = req_print (req, "%s/kernels.guests/password", owner);
    row_t row = db_row (req, "guest_get", owner);
    buf_t *plain = req_buf (req), *sealed = req_buf (req);
    if (!row_none (row)
        && secret_open (req_actor (req), text_of (row_str (row, "password")), context, plain)) {
        *role = row_str (row, "role");
        *password = req_copy (req, buf_text (plain));
        bool seen = hash_get (kernels->guests, text_of (owner));
        hash_put (kernels->guests, text_of (owner), kernels);
        return seen || guests_ask (req, "SELECT base.guest_create ($1, $2)", *role, *password);
    }
    char hash [65], *fresh = req_alloc (req, 41);
    sha256_hex (text_of (req_print (req, "guest of %s", owner)), hash);
    random_text (fresh, 40);
    secret_seal (req_actor (req), text_of (fresh), context, sealed);
    unit_t *unit = unit_new (req);
    if (!row_none (row))
        unit_also (unit, "guest_delete", owner);         //  sealed with a key that is lost
    unit_add (unit, "guest_put", owner, req_print (req, "guest_%.32s", hash),
              req_copy (req, buf_text (sealed)));
    //  Somebody may have been faster: what is stored counts.
    row = unit_commit (unit);
    buf_clear (plain);
    if (!secret_open (req_actor (req), text_of (row_str (row, "password")), context, plain))
        return false;
    *role = row_str (row, "role");
    *password = req_copy (req, buf_text (plain));
    return guests_ask (req, "SELECT base.guest_create ($1, $2)", *role, *password);
}

//  For others that run what users wrote.
CO void
guest_answer (req_t *req)
{
    kernels_t *kernels = kernels_of (req);
    const char *owner = req_str (req, "user"), *role, *password;
    if (req_bool (req, "again"))
        hash_del (kernels->guests, text_of (owner));
    if (!guest_open (req, owner, &role, &password))
        fail (req, E_UNAVAILABLE, "the guest database is not available");
    buf_t *body = req_buf (req);
    mp_put_map (body, 3);
    mp_pair_str (body, "role", role);
    mp_pair_str (body, "password", password);
    mp_pair_int (body, "disk", s_disk (kernels));
    reply_mp (req, 200, mp_buf (body));
}

CO void
guest_forget (req_t *req, const char *user)
{
    row_t row = db_row (req, "guest_get", user);
    if (row_none (row))
        return;
    guests_ask (req, "SELECT base.guest_drop ($1)", row_str (row, "role"), NULL);
    unit_t *unit = unit_new (req);
    unit_add (unit, "guest_delete", user);
    unit_commit (unit);
}

//  ---- room on disk ----

//  Does what the user has take more than it may? False also when that can't be told now.
static CO bool
s_is_over (req_t *req, const char *owner, const char *role)
{
    kernels_t *kernels = kernels_of (req);
    bool over = false;
    if (!guests_over (req, role, s_disk (kernels), &over))
        return false;
    if (over)
        hash_put (kernels->full, text_of (owner), kernels);
    else
        hash_del (kernels->full, text_of (owner));
    return over;
}

//  While a statement runs, and once it has ended.
static CO void
s_look_after (req_t *req, seen_t *seen, const char *role)
{
    kernels_t *kernels = kernels_of (req);
    const char *code = seen->job->code, *owner = req_print (req, "%s", seen->job->owner);
    bool writes = !seen->job->limited && (!guest_reads (code) || strcasestr (code, "into")
                                          || strcasestr (code, "explain"));
    for (unsigned look = 1; seen->job && !kernels->closing; look++) {
        req_sleep (req, LOOK);
        if (writes && seen->job && look % LOOKS == 0 && s_is_over (req, owner, role) && seen->job
            && seen->job->guest && !guest_frees (seen->job->code)) {
            seen->job->over = true;
            guest_cancel (seen->job->guest);
        }
    }
    if (seen->job)
        seen->job->seen = NULL;
    else if (writes)
        s_is_over (req, owner, role);
}

//  ---- running ----

static CO void
s_run (req_t *req)
{
    static const guest_calls_t calls = { s_on_columns, s_on_row, s_on_done };
    job_t *job = req_arg (req);
    actor_t *actor = req_actor (req);
    const char *role, *password;
    while (!job->cancelled && !job->kernels->closing
           && s_running (job->kernels, job->owner) >= AT_ONCE)
        req_sleep (req, RETRY);
    if (job->cancelled || job->kernels->closing) {
        s_fail (job, job->cancelled ? "cancelled" : "aborted", "Interrupted",
                "execution was cancelled before it began");
        return;
    }
    job->running = true;
    record_begin (job->record);
    bool first = !hash_get (job->kernels->guests, text_of (job->owner));
    if (!guest_open (req, job->owner, &role, &password)) {
        s_fail (job, "failed", "GuestUnavailable", "the database for SQL cells is not available");
        return;
    }
    //  Looked at again: there may be room meanwhile.
    bool over = (first || hash_get (job->kernels->full, text_of (job->owner)))
                && s_is_over (req, job->owner, role);
    if (job->cancelled) {
        s_fail (job, "cancelled", "Interrupted", "execution was interrupted");
        return;
    }
    job->limited = over && !guest_frees (job->code);
    seen_t *seen = req_alloc (req, sizeof *seen);
    seen->job = job;
    job->seen = seen;
    char *server = guests_server (actor), *keeper = guests_keeper (actor);
    job->guest = guest_run (actor->loop,
                            &(guest_conf_t){ .server = server,
                                             .database = GUESTS_DATABASE,
                                             .role = role,
                                             .password = password,
                                             .keeper = keeper,
                                             .read_only = job->limited },
                            text_of (job->code), &(guest_limits_t){ DEADLINE, ROWS_MAX, BYTES_MAX },
                            &calls, job);
    free (server);
    free (keeper);
    s_look_after (req, seen, role);
}

bool
sql_full (const kernels_t *kernels, const char *owner)
{
    text_t key;
    void *item;
    size_t count = 0;
    for (size_t at = 0; hash_each (kernels->records, &at, &key, &item);) {
        const job_t *job = ((record_t *) item)->job;
        count += job && strcmp (job->owner, owner) == 0;
    }
    return count >= WAIT_MAX;
}

void
sql_start (record_t *record, const char *owner, const char *code)
{
    job_t *job = xcalloc (1, sizeof *job);
    job->record = record;
    job->kernels = record->kernels;
    job->owner = xstrdup (owner);
    job->code = xstrdup (code);
    record->job = job;
    record->stop = s_stop;
    if (!actor_spawn (job->kernels->actor, s_run, job))
        s_fail (job, "failed", "Busy", "too much goes on at once");
}
