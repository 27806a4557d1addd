//  catalog_refresh.c -- looking at what is in a source. A thread asks; then one database after
//  another is compared with what was known, and only what differs is written.

#include <stdlib.h>

#include "catalog.h"
#include "proto/hash.h"

#define REFRESH_MS (5 * 60 * 1000)
#define OWN_MS 5000
#define OWN_FRESH 2000           //  ms that a look at the user's own schema is good for
#define LOOKED_MAX 10000         //  users whose last look is remembered
#define TABLES_MAX 10000
#define BYTES_MAX (16 << 20)
#define DATABASES_MAX 1000

const field_t refresh_in [] = { { "source_id", T_UUID, NULLABLE, .also = "data_source_id",
                                  .doc = "absent: all, and your own tables" },
                                { 0 } };

//  ---------------------------------------------------------------- on the thread

typedef struct {
    char *name;
    buf_t tables;                //  JSON
    int count;
} database_t;

typedef struct {
    contact_t *contact;
    database_t databases [DATABASES_MAX];
    int count, tables, columns;
    char *table;                 //  the last one
    hash_t *seen;                //  names of databases, and of tables behind theirs
    size_t bytes;
    bool good, truncated;
    bool partly;                 //  not good, but what was found is to be kept
} survey_t;

static void
s_table_end (survey_t *survey)
{
    if (survey->table)
        buf_puts (&survey->databases [survey->count - 1].tables, "]}");
    free (survey->table);
    survey->table = NULL;
}

//  False: it was there before, and something else between. table NULL: the database itself.
static bool
s_first (survey_t *survey, const char *database, const char *table)
{
    char *key = text_format ("%zu %s%s%s", strlen (database), database, table ? "." : "",
                             table ? table : "");
    bool first = !hash_get (survey->seen, text_of (key));
    hash_put (survey->seen, text_of (key), survey);
    free (key);
    return first || contact_fail (survey->contact, "", "the source lists %s twice",
                                  table ? table : database);
}

static bool
s_table_begin (survey_t *survey, const char *database, const char *table, const char *type,
               long long rows)
{
    bool fresh =
        survey->count == 0 || strcmp (survey->databases [survey->count - 1].name, database) != 0;
    s_table_end (survey);
    if (survey->tables == TABLES_MAX || (fresh && survey->count == DATABASES_MAX)
        || survey->bytes > BYTES_MAX) {
        survey->truncated = true;
        return false;
    }
    if ((fresh && !s_first (survey, database, NULL)) || !s_first (survey, database, table))
        return false;
    if (fresh)
        survey->databases [survey->count++].name = xstrdup (database);
    buf_t *out = &survey->databases [survey->count - 1].tables;
    buf_puts (out, out->size ? ",{\"t\":" : "{\"t\":");
    json_quote (text_of (table), out);
    buf_putf (out, ",\"k\":\"%s\",", type);
    if (rows >= 0)
        buf_putf (out, "\"r\":%lld,", rows);
    buf_puts (out, "\"c\":[");
    survey->table = xstrdup (table);
    survey->columns = 0;
    survey->tables++;
    survey->databases [survey->count - 1].count++;
    return true;
}

//  What has no name in UTF-8 could not be asked for.
static bool
s_column (void *arg, const char *database, const char *table, const char *table_type,
          long long rows, const char *column, const char *type, bool nullable)
{
    survey_t *survey = arg;
    if (!text_utf8 (text_of (database)) || !text_utf8 (text_of (table))
        || !text_utf8 (text_of (column)))
        return true;
    bool same = survey->table && strcmp (survey->table, table) == 0
                && strcmp (survey->databases [survey->count - 1].name, database) == 0;
    if (!same && !s_table_begin (survey, database, table, table_type, rows))
        return false;
    buf_t *out = &survey->databases [survey->count - 1].tables;
    size_t before = out->size;
    buf_puts (out, survey->columns++ ? ",{\"column_name\":" : "{\"column_name\":");
    json_quote (text_of (column), out);
    buf_puts (out, ",\"data_type\":");
    json_quote (text_of (text_utf8 (text_of (type)) ? type : "any"), out);
    buf_putf (out, ",\"is_nullable\":%s,\"column_order\":%d}", nullable ? "true" : "false",
              survey->columns);
    survey->bytes += out->size - before;
    return true;
}

static void
s_drop (void *arg, const char *catalog)
{
    survey_t *survey = arg;
    size_t size = strlen (catalog);
    s_table_end (survey);
    survey->partly = true;
    for (; survey->count; survey->count--) {
        database_t *last = &survey->databases [survey->count - 1];
        if (strncmp (last->name, catalog, size) != 0 || last->name [size] != '.')
            break;
        survey->tables -= last->count;
        free (last->name);
        buf_free (&last->tables);
        *last = (database_t) { 0 };
    }
}

static void
s_survey (void *arg)
{
    survey_t *survey = arg;
    const finder_t finder = { s_column, s_drop, survey };
    survey->seen = hash_new (NULL);
    survey->good = contact_open (survey->contact)
                   && survey->contact->kind->find (survey->contact, &finder)
                   && !*survey->contact->error;
    hash_destroy (&survey->seen);
    s_table_end (survey);
}

static void
s_survey_free (void *arg)
{
    survey_t *survey = arg;
    for (int n = 0; n < survey->count; n++) {
        free (survey->databases [n].name);
        buf_free (&survey->databases [n].tables);
    }
    contact_destroy (&survey->contact);
    free (survey);
}

static CO survey_t *
s_surveyed (req_t *req, const char *user, const source_t *source, int64_t ms)
{
    survey_t *survey = xcalloc (1, sizeof *survey);
    req_defer (req, s_survey_free, survey);
    survey->contact = source_contact (req, source, true, ms);
    if (!work_run (req, user, s_survey, survey))
        contact_fail (survey->contact, "",
                      "too many data sources are being asked; try again later");
    return survey;
}

//  ---------------------------------------------------------------- what differs

typedef struct {
    int64_t added, changed, removed;
} counts_t;

static void
s_count (counts_t *counts, row_t row)
{
    counts->added += row_int (row, "added");
    counts->changed += row_int (row, "changed");
    counts->removed += row_int (row, "removed");
}

static CO void
s_put (req_t *req, const char *user, const char *source, const survey_t *survey, int n,
       counts_t *counts)
{
    buf_t *json = req_buf (req);
    buf_putc (json, '[');
    buf_put (json, survey->databases [n].tables.data, survey->databases [n].tables.size);
    buf_puts (json, "]");
    bool whole = !survey->truncated || n < survey->count - 1;
    unit_t *unit = unit_new (req);
    unit_add (unit, "catalog_put", user, source, survey->databases [n].name,
              req_copy (req, buf_text (json)), whole ? "true" : "false");
    s_count (counts, unit_commit (unit));
}

static CO void
s_prune (req_t *req, const char *user, const char *source, const survey_t *survey, counts_t *counts)
{
    buf_t *names = req_buf (req);
    buf_putc (names, '[');
    for (int n = 0; n < survey->count; n++) {
        if (n)
            buf_putc (names, ',');
        json_quote (text_of (survey->databases [n].name), names);
    }
    buf_puts (names, "]");
    unit_t *unit = unit_new (req);
    unit_add (unit, "catalog_prune", user, source, req_copy (req, buf_text (names)));
    row_t row = unit_commit (unit);
    counts->removed += row_int (row, "removed");
}

static CO row_t
s_note (req_t *req, const char *user, const char *source, const char *state, const survey_t *survey,
        int databases, const counts_t *counts, const char *error)
{
    unit_t *unit = unit_new (req);
    unit_add (unit, "refresh_note", user, source, req_actor (req)->slot, state,
              req_print (req, "%d", databases), req_print (req, "%d", survey ? survey->tables : 0),
              req_print (req, "%lld", (long long) counts->added),
              req_print (req, "%lld", (long long) counts->changed),
              req_print (req, "%lld", (long long) counts->removed),
              survey && survey->truncated ? "true" : "false", error);
    return unit_commit (unit);
}

//  ---------------------------------------------------------------- one refresh

typedef struct job {
    struct job *next;
    char user [37], source [37];         //  source "": the user's own schema
} job_t;

static job_t *s_jobs;                    //  those that run here

static job_t *
s_find (const char *user, const char *source)
{
    for (job_t *job = s_jobs; job; job = job->next)
        if (strcmp (job->user, user) == 0 && strcmp (job->source, source ? source : "") == 0)
            return job;
    return NULL;
}

static void
s_job_end (void *arg)
{
    for (job_t **at = &s_jobs; *at; at = &(*at)->next)
        if (*at == arg) {
            *at = (*at)->next;
            break;
        }
    free (arg);
}

static void
s_run (req_t *req)
{
    job_t *job = req_arg (req);
    const char *source_id = *job->source ? job->source : NULL;
    counts_t counts = { 0 };
    source_t source;
    bus_reply_t why;
    req_defer (req, s_job_end, job);
    if (source_id)
        source_load (req, job->user, source_id, NULL, &source);
    else if (!source_guest (req, job->user, &source, &why)) {
        s_note (req, job->user, NULL, "failed", NULL, 0, &counts,
                "your own tables are out of reach");
        return;
    }
    survey_t *survey = s_surveyed (req, job->user, &source, REFRESH_MS);
    for (int n = 0; (survey->good || survey->partly) && n < survey->count; n++) {
        s_put (req, job->user, source_id, survey, n, &counts);
        s_note (req, job->user, source_id, "running", survey, n + 1, &counts, NULL);
    }
    if (survey->good && !survey->truncated)
        s_prune (req, job->user, source_id, survey, &counts);
    s_note (req, job->user, source_id, survey->good ? "succeeded" : "failed", survey, survey->count,
            &counts, survey->good ? NULL : survey->contact->error);
}

static bool
s_start (req_t *req, const char *source)
{
    job_t *job = xcalloc (1, sizeof *job);
    memcpy (job->user, req_user (req), sizeof job->user - 1);
    if (source)
        memcpy (job->source, source, sizeof job->source - 1);
    job->next = s_jobs;
    s_jobs = job;
    bool started = actor_spawn (req_actor (req), s_run, job);
    if (!started)
        s_job_end (job);
    return started;
}

//  One at a time for each source: who asks while one runs hears how that one stands.
static CO row_t
s_begin (req_t *req, const char *source)
{
    const counts_t none = { 0 };
    if (s_find (req_user (req), source))
        return db_row (req, "refresh_get", req_user (req), source);
    row_t row = s_note (req, req_user (req), source, "running", NULL, 0, &none, NULL);
    //  Another may have come first meanwhile.
    if (!s_find (req_user (req), source) && !s_start (req, source))
        return s_note (req, req_user (req), source, "failed", NULL, 0, &none,
                       "too much goes on at once");
    return row;
}

void
catalog_refresh (req_t *req)
{
    const char *id = req_str (req, "source_id");
    source_t source;
    buf_t *body = req_buf (req);
    uint32_t count = 1;
    row_t rows = { .row = -1 };
    if (id)
        source_load (req, req_user (req), id, "source_id", &source);
    else {
        rows = db_rows (req, "refresh_sources", req_user (req));
        count += (uint32_t) rows_count (rows);
    }
    mp_put_map (body, 2);
    mp_put_str (body, "refreshes");
    mp_put_array (body, count);
    for (uint32_t n = 0; n < count; n++) {
        row_t row = s_begin (req, id ? id : n ? row_str (rows_at (rows, (int) n - 1), "id") : NULL);
        size_t mark = mp_open_map (body);
        mp_close (body, mark, row_put (req, body, row));
    }
    if (!req_live_put (req, body)) {
        mp_put_str (body, "live");
        mp_put_nil (body);
    }
    reply_mp (req, 202, mp_buf (body));
}

//  ---------------------------------------------------------------- the user's own schema

//  When it was looked at last, by user.
static hash_t *s_looked;

static bool
s_is_fresh (req_t *req, const char *user)
{
    int64_t now = loop_now (req_actor (req)->loop);
    //  Forgetting costs a look.
    if (s_looked && hash_size (s_looked) > LOOKED_MAX)
        hash_destroy (&s_looked);
    if (!s_looked)
        s_looked = hash_new (NULL);
    int64_t at = (int64_t) (intptr_t) hash_get (s_looked, text_of (user));
    if (at && now - at < OWN_FRESH)
        return true;
    hash_put (s_looked, text_of (user), (void *) (intptr_t) (now ? now : 1));
    return false;
}

void
catalog_refresh_own (req_t *req, const char *user)
{
    counts_t counts = { 0 };
    source_t source;
    bus_reply_t why;
    //  What was known is better than nothing.
    if (s_is_fresh (req, user) || s_find (user, NULL) || !source_guest (req, user, &source, &why))
        return;
    survey_t *survey = s_surveyed (req, user, &source, OWN_MS);
    if (!survey->good) {
        log_warn ("own tables were not looked at", "user", user, "why", survey->contact->error);
        return;
    }
    for (int n = 0; n < survey->count; n++)
        s_put (req, user, NULL, survey, n, &counts);
    if (!survey->truncated)
        s_prune (req, user, NULL, survey, &counts);
}

void
catalog_watch (req_t *req)
{
    const counts_t none = { 0 };
    row_t rows = db_rows (req, "refreshes_running", req_actor (req)->slot);
    for (int n = 0; n < rows_count (rows); n++) {
        row_t row = rows_at (rows, n);
        const char *user = row_str (row, "user_id"), *source = row_str (row, "data_source_id");
        if (!s_find (user, source))
            s_note (req, user, source, "lost", NULL, 0, &none, "it ended without a word");
    }
}
