//  jobs.h -- what the files of the jobs actor share.

#ifndef JOBS_H
#define JOBS_H

#include "cron.h"
#include "dag.h"
#include "proto/hash.h"

//  The instance that has this claim fires schedules and works at runs; the others only answer.
#define RUNNER "runner"

typedef struct live_run live_run_t;

typedef struct {
    actor_t *actor;
    hash_t *zones;                   //  by name, kept
    hash_t *runs;                    //  live_run_t by id: those this process works at
    bool leads;                      //  had the claim when it looked last
    bool reload;                     //  runs may be alive that nobody works at
    bool looking, again;             //  a look is under way; look again after it
    int64_t looked;                  //  of the loop's clock: when the last one began
    bool waiting;                    //  runs wait in the queue, or may
    bool closing;
    ltimer_t *timer;                 //  of the next firing
    int64_t fire_after;              //  of the loop's clock: none before, the last one failed
    bool fake_clock;
    int64_t runs_max, user_max;      //  runs at once, of all and of one user
} jobs_t;

extern jobs_t jobs;

//  ---------------------------------------------------------------- schedules (schedule.c)

//  Unix seconds by the clock that decides what is due; -1: a fake clock that nobody has set.
int64_t jobs_now (void);
//  Set the fake one forward; false: it can't be kept.
bool jobs_set_clock (int64_t now);
//  By name, kept; NULL: there is no such zone.
const zone_t *zone_known (const char *name);
//  Parse; false with a text for the user in why [200].
bool schedule_read (const char *schedule, const char *timezone, cron_t *cron, const zone_t **zone,
                    char why [200]);
//  Of a row of jobs_due: appends its firings at `now`, "at,from" each with commas between; how
//  many. The one that comes next: -1 for none.
size_t schedule_due (row_t row, int64_t now, int64_t *next, buf_t *fires);
//  Fire what is due at `now`; how many runs began to exist (fire.c).
CO int64_t schedule_fire (req_t *req, int64_t now);
//  Set the timer for the firing after this.
CO void schedule_arm (req_t *req);

//  ---------------------------------------------------------------- the runner (runner.c)

//  Something may have changed: look soon at what is due and what waits.
void runner_wake (void *unused);
CO void runner_tick (req_t *req);
//  Let the instance that runs know: of a run (cancelled meanwhile), or NULL: of new work.
CO void runner_tell (req_t *req, const char *run);
CO void runner_told (req_t *req);            //  jobs.wake
CO void runner_advance (req_t *req);         //  jobs.advance
void runner_fenced (actor_t *actor, const char *key);
void runner_drain (actor_t *actor);
//  Is this process still the one that works at runs?
bool runner_leads (void);

//  One write of the runner's, under its claim, repeated until the database has taken it. No row:
//  the statement had none, or we do not lead any more.
#define runner_write(req, name, ...) runner_write_ (req, name, DB_PARAMS (__VA_ARGS__))
CO row_t runner_write_ (req_t *req, const char *name, const char *const *params, size_t count);
//  The same; false: the database refuses it (that is logged), or we do not lead any more.
#define runner_commit(req, row, name, ...)                                           \
    runner_commit_ (req, row, name, DB_PARAMS (__VA_ARGS__))
CO bool runner_commit_ (req_t *req, row_t *row, const char *name, const char *const *params,
                        size_t count);

//  ---------------------------------------------------------------- runs at work (run.c, attempt.c)

//  An attempt at a task, from its beginning to its end in the database. The run's coroutine owns
//  it, and outlives the attempt's.
struct attempt {
    live_run_t *run;
    size_t task;
    task_t view;                     //  what the kind sees
    char *idem, *ref;                //  of the view
    bool known;                      //  its row is there already
    int64_t until, told_at;          //  of the loop's clock: its timeout, the last cancellation
    bool cancelled, timed_out;
    bool over, recorded;             //  its coroutine has ended; its end is in the database
    bool telling;                    //  its engine is being told to stop
    req_t *req;                      //  its coroutine, while it lives
};

typedef struct {
    stand_t stand;
    char *outcome, *result;          //  JSON
    char *message;                   //  of what it ended with, when that was no success
    bool lost, timed_out;            //  that is how it failed
    int number;                      //  of the newest attempt
    int64_t failures, breaks;        //  attempts that count against retries
    int64_t retry_at;                //  of the loop's clock; 0: not waiting for a retry
    attempt_t *attempt;              //  at work
} progress_t;

struct live_run {
    char *id;
    const char *user, *cluster;      //  these live as long as its coroutine
    mp_t parameters;
    dag_t dag;
    req_t *req;
    progress_t *progress;            //  one per task
    bool abandoned;                  //  another process goes on with it, or its row is gone
    bool look;                       //  the database knows something new
    bool cancelled, timed_out;
    bool retrying;                   //  the database says waiting_retry
    const char *why;                 //  of the cancellation
    double retry_delay, backoff;
    int64_t max_retries, max_infra_retries, until;
};

//  Work at a run, in a coroutine of its own.
void run_begin (const char *id);
//  The database says that it is to be cancelled: find out.
void run_look (const char *id);
//  The newest attempt was begun by another process (`ref` may be NULL), or it is a new one.
void attempt_begin (live_run_t *run, size_t task, bool known, const char *ref, double age);
//  It is to end: tell its engine, again every few seconds.
void attempt_cancel (attempt_t *attempt);
//  Keep how it ended, and whether it is tried again.
CO void attempt_record (req_t *req, attempt_t *attempt, const task_end_t *end);
void attempt_free (attempt_t *attempt);
CO void run_log (req_t *req, const live_run_t *run, const char *task, const char *text);

//  ---------------------------------------------------------------- methods (job.c, runs.c)

CO void job_before_create (req_t *req);
CO void job_before_update (req_t *req);
CO void job_before_delete (req_t *req);
void job_after_change (req_t *req, const char *id, const char *what);
CO void job_run (req_t *req);
CO void job_pause (req_t *req);
CO void job_resume (req_t *req);
CO void job_backfill (req_t *req);
CO void job_runs (req_t *req);
CO void run_get (req_t *req);
CO void run_cancel (req_t *req);
CO void run_repair (req_t *req);
CO void workspace_gone (req_t *req, const char *id);
CO void cluster_gone (req_t *req, const char *id);
CO void user_gone (req_t *req, const char *id);

//  ---------------------------------------------------------------- kinds

extern const task_kind_t notebook_kind, sql_kind;
//  A method of another actor, in the name of `user`: called again while nobody can answer, for a
//  minute. Status 0: given up because the task was abandoned, or cancelled with nothing begun
//  elsewhere.
CO bus_reply_t kind_call (req_t *req, const task_t *task, const char *method, mp_t params,
                          mp_t body, const char *key, const char *idem);
//  A statement in the name of the task's user, to its end: what `body` asks of statements.submit,
//  whose key is that of the same statement however often it is asked. False: *end says why not.
CO bool statement_run (req_t *req, task_t *task, mp_t body, mp_t *answer, task_end_t *end);
//  Tell the statement at work to stop.
CO void statement_cancel (req_t *req, task_t *task);
//  What a call of statements.submit waits for the end: what takes longer gets a name first, by
//  which it can be cancelled. ms.
#define STATEMENT_SOON 100
//  The end that an error answer means.
task_end_t kind_refused (req_t *req, const bus_reply_t *reply);
//  May the caller of req use what this id names? Asked by `method`; 404 on field `where` else.
CO void may_use (req_t *req, const char *method, const char *id, const char *field,
                 const char *what);

#endif
