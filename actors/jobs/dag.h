//  dag.h -- the tasks of a job as a graph: which there are, what each waits for.

#ifndef DAG_H
#define DAG_H

#include "run.h"

#define TASKS_MAX 200

typedef struct {
    size_t task;                     //  position
    const char *outcome;             //  that it must have ended with; NULL: any
} need_t;

typedef enum {
    ALL_SUCCESS, AT_LEAST_ONE_SUCCESS, NONE_FAILED, ALL_DONE, AT_LEAST_ONE_FAILED, ALL_FAILED
} run_if_t;

typedef struct {
    const char *key, *type;
    const task_kind_t *kind;
    mp_t config;
    need_t *needs;
    size_t need_count;
    run_if_t run_if;
    bool leaf;                       //  nobody waits for it
    //  -1: as the job says
    int64_t max_retries, max_infra_retries;
    double retry_delay, timeout;     //  seconds
} dag_task_t;

typedef struct {
    dag_task_t *tasks;
    size_t count;
} dag_t;

//  The tasks of a job's config: its `tasks` (or an array of them), or the config itself as one task
//  of the job's type. False: what is wrong is in *why. All of it lives as long as the request.
bool dag_read (req_t *req, mp_t config, const char *job_type, dag_t *dag, const char **why);

//  How a task stands, for those that wait for it.
typedef enum { STAND_OPEN, STAND_SUCCESS, STAND_FAILED, STAND_SKIPPED } stand_t;
typedef enum { TASK_WAITS, TASK_RUNS, TASK_SKIPPED, TASK_UPSTREAM_FAILED } verdict_t;
//  What becomes of a task, from how all of them stand and what they ended with.
verdict_t dag_verdict (const dag_t *dag, size_t task, const stand_t *stands,
                       const char *const *outcomes);

#endif
