//  work.c -- threads for conversations with data sources.

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <curl/curl.h>
#include <mariadb/mysql.h>

#include "work.h"

#define LOOK 60000           //  ms; who waits is woken, this is only how often it looks besides

typedef struct {
    void (*fn) (void *arg);
    void *arg;
} work_t;

static atomic_int s_running;

static void *
s_thread (void *arg)
{
    work_t work = *(work_t *) arg;
    free (arg);
    work.fn (work.arg);
    mysql_thread_end ();
    s_running--;
    return NULL;
}

//  Libraries that want to be woken before there are threads.
static void
s_begin (void)
{
    static bool begun;
    if (begun)
        return;
    begun = true;
    curl_global_init (CURL_GLOBAL_DEFAULT);
    mysql_library_init (0, NULL, NULL);
}

bool
work_start (void (*fn) (void *arg), void *arg)
{
    pthread_t thread;
    s_begin ();
    if (s_running >= WORK_MAX)
        return false;
    work_t *work = xmalloc (sizeof *work);
    *work = (work_t) { fn, arg };
    s_running++;
    if (pthread_create (&thread, NULL, s_thread, work) != 0) {
        s_running--;
        free (work);
        return false;
    }
    pthread_detach (thread);
    return true;
}

typedef struct {
    void (*fn) (void *arg);
    void *arg;
    loop_t *loop;
    req_t *req;
    bool over;
} turn_t;

static void
s_over (void *arg)
{
    turn_t *turn = arg;
    turn->over = true;
    req_wake (turn->req);
}

static void
s_turn (void *arg)
{
    turn_t *turn = arg;
    turn->fn (turn->arg);
    loop_post (turn->loop, s_over, turn);
}

CO bool
work_run (req_t *req, void (*fn) (void *arg), void *arg)
{
    turn_t *turn = req_alloc (req, sizeof *turn);
    *turn = (turn_t) { fn, arg, req_actor (req)->loop, req, false };
    if (!work_start (s_turn, turn))
        return false;
    while (!turn->over)
        req_sleep (req, LOOK);
    return true;
}
