//  work.c -- threads for conversations with data sources.

#include <pthread.h>
#include <string.h>

#include <curl/curl.h>
#include <mariadb/mysql.h>

#include "work.h"

#define LOOK 60000           //  ms; who waits is woken, this is only how often it looks besides

//  A place for a thread; fn NULL: free.
typedef struct {
    void (*fn) (void *arg);
    void *arg;
    char user [37];
} work_t;

static work_t s_works [WORK_MAX];
static pthread_mutex_t s_lock = PTHREAD_MUTEX_INITIALIZER;

static void
s_leave (work_t *work)
{
    pthread_mutex_lock (&s_lock);
    work->fn = NULL;
    pthread_mutex_unlock (&s_lock);
}

static void *
s_thread (void *arg)
{
    work_t *work = arg;
    work->fn (work->arg);
    mysql_thread_end ();
    s_leave (work);
    return NULL;
}

//  NULL: all places are taken, or this user has enough of them.
static work_t *
s_enter (const char *user, void (*fn) (void *arg), void *arg)
{
    work_t *found = NULL;
    int own = 0;
    pthread_mutex_lock (&s_lock);
    for (int n = 0; n < WORK_MAX; n++)
        if (!s_works [n].fn)
            found = &s_works [n];
        else if (strcmp (s_works [n].user, user) == 0)
            own++;
    if (own >= WORK_MAX_EACH)
        found = NULL;
    if (found) {
        *found = (work_t) { .fn = fn, .arg = arg };
        memcpy (found->user, user, strnlen (user, sizeof found->user - 1));
    }
    pthread_mutex_unlock (&s_lock);
    return found;
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
work_start (const char *user, void (*fn) (void *arg), void *arg)
{
    pthread_t thread;
    s_begin ();
    work_t *work = s_enter (user, fn, arg);
    if (!work)
        return false;
    if (pthread_create (&thread, NULL, s_thread, work) != 0) {
        s_leave (work);
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
work_run (req_t *req, const char *user, void (*fn) (void *arg), void *arg)
{
    turn_t *turn = req_alloc (req, sizeof *turn);
    *turn = (turn_t) { fn, arg, req_actor (req)->loop, req, false };
    if (!work_start (user, s_turn, turn))
        return false;
    while (!turn->over)
        req_sleep (req, LOOK);
    return true;
}
