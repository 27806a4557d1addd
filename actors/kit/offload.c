//  offload.c -- two threads for what blocks or computes; a handler waits for them as it waits for
//  the database.

#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../../proto/fault.h"
#include "kit.h"

#define THREADS 2
#define WAITING_MAX 64
#define WAITING_MS 5000    //  who waited longer is refused: the caller may be about to give up
#define NICE 5                   //  loops that wake up go before what computes

typedef struct job {
    struct job *next;
    offload_pool_t *pool;
    void (*fn) (void *);
    void *arg;
    int64_t since;
    bool late;
    pause_t pause;
} job_t;

struct offload_pool {
    loop_t *loop;
    pthread_t threads [THREADS];
    pthread_mutex_t lock;
    pthread_cond_t work;
    job_t *first, **end;             //  guarded by lock, as the two below
    size_t waiting;
    bool stop;
};

static void
s_ended (void *arg)
{
    job_t *job = arg;
    pause_end (&job->pause);
}

static void *
s_thread (void *arg)
{
    offload_pool_t *pool = arg;
    //  On Linux, of this thread alone. Where it is not allowed, it goes on as it is.
    setpriority (PRIO_PROCESS, (id_t) gettid (), NICE);
    pthread_mutex_lock (&pool->lock);
    for (;;) {
        while (!pool->first && !pool->stop)
            pthread_cond_wait (&pool->work, &pool->lock);
        if (!pool->first)
            break;
        job_t *job = pool->first;
        pool->first = job->next;
        if (!pool->first)
            pool->end = &pool->first;
        pool->waiting--;
        pthread_mutex_unlock (&pool->lock);
        job->late = clock_ms () - job->since > WAITING_MS;
        if (!job->late)
            job->fn (job->arg);
        loop_post (pool->loop, s_ended, job);
        pthread_mutex_lock (&pool->lock);
    }
    pthread_mutex_unlock (&pool->lock);
    return NULL;
}

static offload_pool_t *
s_pool (kit_t *kit)
{
    if (kit->offload)
        return kit->offload;
    offload_pool_t *pool = xcalloc (1, sizeof *pool);
    pool->loop = kit->actor->loop;
    pool->end = &pool->first;
    pthread_mutex_init (&pool->lock, NULL);
    pthread_cond_init (&pool->work, NULL);
    for (size_t n = 0; n < THREADS; n++)
        if (pthread_create (&pool->threads [n], NULL, s_thread, pool) != 0)
            abort ();
    return kit->offload = pool;
}

CO bool
offload (req_t *req, void (*fn) (void *), void *arg)
{
    offload_pool_t *pool = s_pool (req->kit);
    job_t job = { .pool = pool, .fn = fn, .arg = arg, .since = clock_ms () };
    pthread_mutex_lock (&pool->lock);
    bool full = pool->waiting >= WAITING_MAX || fault (KIT_OFFLOAD);
    if (!full) {
        *pool->end = &job;
        pool->end = &job.next;
        pool->waiting++;
        pthread_cond_signal (&pool->work);
    }
    pthread_mutex_unlock (&pool->lock);
    if (full)
        return false;
    pause_wait (&job.pause);
    return !job.late;
}

void
offload_end (kit_t *kit)
{
    offload_pool_t *pool = kit->offload;
    if (!pool)
        return;
    pthread_mutex_lock (&pool->lock);
    pool->stop = true;
    pthread_cond_broadcast (&pool->work);
    pthread_mutex_unlock (&pool->lock);
    for (size_t n = 0; n < THREADS; n++)
        pthread_join (pool->threads [n], NULL);
    pthread_cond_destroy (&pool->work);
    pthread_mutex_destroy (&pool->lock);
    free (pool);
    kit->offload = NULL;
}
