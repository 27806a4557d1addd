//  fire.c -- runs of what is due begin to exist: read in pages, and written by two coroutines, so
//  that the database has the next page already when it has done one. Only when all of them exist
//  are their jobs told what comes next: until then they are due, whoever is killed, and a run that
//  is there already is not made twice.

#include <stdio.h>
#include <stdlib.h>

#include "jobs.h"

#define PAGE "1000"                  //  jobs that are read at once
#define FIRES_MOST 5000              //  firings of one statement
#define WRITERS 2
#define PAUSE 5000                   //  ms before what can't be fired is tried again
#define LONG (60 * 60 * 1000)        //  ms

typedef struct page page_t;

typedef struct {
    req_t *req;                      //  its coroutine, which ends after the writers
    int64_t now, fired;
    hash_t *known;                   //  due_t by what it is reckoned from
    page_t *first, **end;
    int writers;
    bool failed;
} round_t;

typedef struct {
    int64_t next;
    size_t count;
    buf_t fires;
} due_t;

struct page {
    page_t *next;
    round_t *round;
    const PGresult *rows;
    bool *refused;                   //  by row
    bool written;                    //  the runs of all others exist
};

//  Arrays of the statement.
typedef struct {
    buf_t *jobs, *was, *next, *fires;
} batch_t;

static void
s_free_due (void *item)
{
    due_t *self = item;
    buf_free (&self->fires);
    free (self);
}

//  Many jobs have the same schedule, and are due together: it is reckoned once.
static const due_t *
s_due (round_t *self, row_t row)
{
    char key [256];
    snprintf (key, sizeof key, "%s|%s|%s|%s", row_str (row, "next"), row_str (row, "catchup"),
              row_str (row, "timezone"), row_str (row, "schedule"));
    due_t *due = hash_get (self->known, text_of (key));
    if (!due) {
        due = xcalloc (1, sizeof *due);
        due->count = schedule_due (row, self->now, &due->next, &due->fires);
        hash_put (self->known, text_of (key), due);
    }
    return due;
}

static void
s_put (batch_t *batch, row_t row, const due_t *due)
{
    const char *comma = batch->jobs->size > 1 ? "," : "";
    text_t fires = buf_text (&due->fires);
    buf_putf (batch->jobs, "%s%s", comma, row_str (row, "id"));
    buf_putf (batch->was, "%s%s", comma, row_str (row, "next"));
    if (due->next >= 0)
        buf_putf (batch->next, "%s%lld", comma, (long long) due->next);
    else
        buf_putf (batch->next, "%snull", comma);
    buf_putf (batch->fires, "%s\"{", comma);
    buf_put (batch->fires, fires.data, fires.size);
    buf_puts (batch->fires, "}\"");
}

//  Rows from `from` on, as far as they are no more than one statement should do; where it ends.
static int
s_fill (req_t *req, const page_t *page, int from, int to, batch_t *batch)
{
    size_t count = 0;
    buf_t **all [] = { &batch->jobs, &batch->was, &batch->next, &batch->fires };
    for (size_t n = 0; n < sizeof all / sizeof *all; n++)
        buf_putc (*all [n] = req_buf (req), '{');
    int row = from;
    for (; row < to && count < FIRES_MOST; row++) {
        row_t one = { (PGresult *) page->rows, row };
        if (page->refused [row])
            continue;
        const due_t *due = s_due (page->round, one);
        s_put (batch, one, due);
        count += due->count;
    }
    for (size_t n = 0; n < sizeof all / sizeof *all; n++)
        buf_put (*all [n], "}", 2);
    return row;
}

//  What is refused is tried in halves: one job does not keep the others from firing. False: we do
//  not lead any more.
static CO bool
s_write (req_t *req, page_t *page, int from, int to)
{
    while (from < to) {
        batch_t batch;
        row_t rows;
        int end = s_fill (req, page, from, to, &batch), middle = from + (end - from) / 2;
        if (runner_commit (req, &rows, "jobs_fire", (const char *) batch.jobs->data,
                           (const char *) batch.was->data, (const char *) batch.fires->data))
            page->round->fired += rows_count (rows);
        else if (!runner_leads ())
            return false;
        else if (end - from > 1) {
            if (!s_write (req, page, from, middle) || !s_write (req, page, middle, end))
                return false;
        } else {
            page->refused [from] = page->round->failed = true;
            log_error ("jobs: schedule can't be fired", "job",
                       PQgetvalue (page->rows, from, PQfnumber (page->rows, "id")));
        }
        from = end;
    }
    return true;
}

static void
s_written (void *item)
{
    page_t *page = item;
    page->round->writers--;
    req_wake (page->round->req);
}

static CO void
s_writer (req_t *req)
{
    page_t *page = req_arg (req);
    req_defer (req, s_written, page);
    page->written = s_write (req, page, 0, PQntuples (page->rows));
}

static CO void
s_wait (round_t *self, int writers)
{
    while (self->writers > writers)
        req_sleep (self->req, LONG);
}

static CO void
s_pages (round_t *self)
{
    char now [24];
    const char *due = "-infinity", *id = "00000000-0000-0000-0000-000000000000";
    snprintf (now, sizeof now, "%lld", (long long) self->now);
    while (runner_leads ()) {
        db_result_t rows = req_db_try (self->req, DB_READ, "jobs_due",
                                       DB_PARAMS (now, PAGE, due, id));
        int count = rows.code == E_NONE ? PQntuples (rows.result) : 0;
        if (count == 0)
            break;
        row_t last = { rows.result, count - 1 };
        due = row_str (last, "due");
        id = row_str (last, "id");
        s_wait (self, WRITERS - 1);
        page_t *page = req_alloc (self->req, sizeof *page);
        *page = (page_t) { NULL, self, rows.result,
                           req_alloc (self->req, (size_t) count * sizeof *page->refused), false };
        self->writers++;
        if (!actor_spawn (jobs.actor, s_writer, page)) {
            s_written (page);
            break;
        }
        *self->end = page;
        self->end = &page->next;
    }
    s_wait (self, 0);
}

//  What is due, once. False: nothing is.
static CO bool
s_round (round_t *self)
{
    self->first = NULL;
    self->end = &self->first;
    s_pages (self);
    for (const page_t *page = self->first; page && page->written; page = page->next) {
        batch_t batch;
        row_t rows;
        for (int row = 0, end; row < PQntuples (page->rows); row = end) {
            end = s_fill (self->req, page, row, PQntuples (page->rows), &batch);
            self->failed |= !runner_commit (self->req, &rows, "jobs_fired",
                                            (const char *) batch.jobs->data,
                                            (const char *) batch.was->data,
                                            (const char *) batch.next->data);
        }
    }
    return self->first != NULL;
}

static void
s_free_known (void *known)
{
    hash_destroy ((hash_t **) &known);
}

CO int64_t
schedule_fire (req_t *req, int64_t now)
{
    loop_t *loop = jobs.actor->loop;
    round_t self = { .req = req, .now = now, .known = hash_new (s_free_due) };
    req_defer (req, s_free_known, self.known);
    if (jobs.fire_after > loop_now (loop))
        return 0;
    while (!self.failed && runner_leads () && s_round (&self))
        ;
    if (self.failed)
        jobs.fire_after = loop_now (loop) + PAUSE;
    jobs.waiting |= self.fired > 0;
    return self.fired;
}
