//  loop.c -- epoll, a timer heap, an eventfd for posts, a signalfd, and hooks at the end of a turn.
//
//  While nobody nests the loop, the wait of epoll is the timer; once loop_fd was asked for, a
//  timerfd is kept armed for the nearest timer, and hooks queued between turns make the eventfd
//  readable.

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "proto/loop.h"
#include "proto/text.h"

#define EVENTS_MAX 64
#define SIGNALS_MAX 65
#define IDLE SIZE_MAX

struct watch {
    loop_t *loop;
    int fd;
    uint32_t events;         //  0: not in the epoll set, so that a hang-up does not spin
    watch_fn *fn;
    void *arg;
    watch_t *next;           //  in the list of the dead: events of this turn may still name them
};

struct timer_node {
    loop_t *loop;
    loop_fn *fn;
    void *arg;
    int64_t due;
    uint64_t order;          //  equal times fire in the order of setting
    size_t place;            //  in the heap, or IDLE
};

typedef struct post {
    loop_fn *fn;
    void *arg;
    struct post *next;
} post_t;

struct loop {
    int epoll_fd, event_fd, timer_fd, signal_fd;
    bool stopped;
    bool nested;             //  loop_fd was given away
    bool woken;              //  event_fd was written for hooks queued between turns
    unsigned depth;          //  turns on the stack: a callback may run one
    int64_t now;
    int64_t wall_offset;
    int64_t armed;           //  what timer_fd is set to, 0: nothing
    uint64_t order;
    ltimer_t **heap;
    size_t timers, heap_room;
    hook_t *hooks, *last_hook;
    watch_t *dead;
    watch_t *post_watch, *timer_watch, *signal_watch;
    sigset_t signals;
    struct {
        loop_fn *fn;
        void *arg;
    } on_signal [SIGNALS_MAX];
    pthread_mutex_t mutex;   //  guards the posts, which any thread adds
    post_t *posts, *last_post;
};

static int64_t
s_clock (clockid_t clock)
{
    struct timespec time;
    clock_gettime (clock, &time);
    return (int64_t) time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

int64_t
clock_us (void)
{
    return s_clock (CLOCK_MONOTONIC);
}

int64_t
clock_ms (void)
{
    return clock_us () / 1000;
}

//  ---- timers: a binary heap by time, then order ----

static bool
s_before (const ltimer_t *a, const ltimer_t *b)
{
    return a->due != b->due ? a->due < b->due : a->order < b->order;
}

static void
s_heap_place (loop_t *self, ltimer_t *timer, size_t place)
{
    self->heap [place] = timer;
    timer->place = place;
}

//  Move a timer from `place`, which is a hole now, to where it belongs.
static void
s_heap_settle (loop_t *self, ltimer_t *timer, size_t place)
{
    while (place > 0 && s_before (timer, self->heap [(place - 1) / 2])) {
        s_heap_place (self, self->heap [(place - 1) / 2], place);
        place = (place - 1) / 2;
    }
    for (;;) {
        size_t child = place * 2 + 1;
        if (child + 1 < self->timers && s_before (self->heap [child + 1], self->heap [child]))
            child++;
        if (child >= self->timers || !s_before (self->heap [child], timer))
            break;
        s_heap_place (self, self->heap [child], place);
        place = child;
    }
    s_heap_place (self, timer, place);
}

//  Later than needed is never armed; earlier is left, and costs one empty turn.
static void
s_timer_arm (loop_t *self)
{
    if (!self->nested || self->timers == 0)
        return;
    int64_t due = self->heap [0]->due;
    if (self->armed && self->armed <= due)
        return;
    struct itimerspec at = { .it_value = { due / 1000, due % 1000 * 1000000 } };
    int rc = timerfd_settime (self->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
    assert (rc == 0);
    self->armed = due;
}

ltimer_t *
loop_timer (loop_t *self, loop_fn *fn, void *arg)
{
    ltimer_t *timer = xcalloc (1, sizeof *timer);
    *timer = (ltimer_t) { .loop = self, .fn = fn, .arg = arg, .place = IDLE };
    return timer;
}

void
ltimer_set (ltimer_t *self, int64_t ms)
{
    loop_t *loop = self->loop;
    ltimer_stop (self);
    if (loop->timers == loop->heap_room) {
        loop->heap_room = loop->heap_room ? loop->heap_room * 2 : 16;
        loop->heap = xrealloc (loop->heap, loop->heap_room * sizeof (ltimer_t *));
    }
    self->due = loop_now (loop) + (ms > 0 ? ms : 0);
    self->order = ++loop->order;
    s_heap_settle (loop, self, loop->timers++);
    //  Within a turn many timers may be set: the turn arms once, at its end.
    if (loop->depth == 0)
        s_timer_arm (loop);
}

void
ltimer_stop (ltimer_t *self)
{
    loop_t *loop = self->loop;
    if (self->place == IDLE)
        return;
    ltimer_t *last = loop->heap [--loop->timers];
    if (last != self)
        s_heap_settle (loop, last, self->place);
    self->place = IDLE;
}

bool
ltimer_active (const ltimer_t *self)
{
    return self->place != IDLE;
}

void
ltimer_end (ltimer_t **self_p)
{
    if (!*self_p)
        return;
    ltimer_stop (*self_p);
    free (*self_p);
    *self_p = NULL;
}

//  Fire what is due; timers set meanwhile, even to 0, wait for the next turn.
static void
s_timers_fire (loop_t *self)
{
    uint64_t last = self->order;
    while (self->timers) {
        ltimer_t *timer = self->heap [0];
        if (timer->due > self->now || timer->order > last)
            break;
        ltimer_stop (timer);
        timer->fn (timer->arg);
    }
}

static void
s_timer_fd_ready (void *arg, uint32_t events)
{
    (void) events;
    loop_t *self = arg;
    uint64_t count;
    if (read (self->timer_fd, &count, sizeof count) == sizeof count)
        self->armed = 0;
}

//  ---- watches ----

static void
s_epoll (watch_t *self, uint32_t events)
{
    if (events == self->events)
        return;
    int what = !self->events ? EPOLL_CTL_ADD : !events ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    struct epoll_event event = { .events = events, .data.ptr = self };
    int rc = epoll_ctl (self->loop->epoll_fd, what, self->fd, &event);
    assert (rc == 0 || what == EPOLL_CTL_DEL);
    self->events = events;
}

watch_t *
loop_watch (loop_t *self, int fd, uint32_t events, watch_fn *fn, void *arg)
{
    watch_t *watch = xcalloc (1, sizeof *watch);
    *watch = (watch_t) { .loop = self, .fd = fd, .fn = fn, .arg = arg };
    s_epoll (watch, events);
    return watch;
}

void
watch_set (watch_t *self, uint32_t events)
{
    s_epoll (self, events);
}

void
watch_end (watch_t **self_p)
{
    watch_t *self = *self_p;
    if (!self)
        return;
    *self_p = NULL;
    s_epoll (self, 0);
    if (self->loop->depth) {
        self->next = self->loop->dead;
        self->loop->dead = self;
    }
    else
        free (self);
}

//  ---- hooks, posts, signals ----

static void
s_wake (loop_t *self)
{
    uint64_t one = 1;
    while (write (self->event_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

//  Between turns nobody else would tell a nested loop that there is work.
static void
s_wake_for_hooks (loop_t *self)
{
    if (self->nested && self->depth == 0 && self->hooks && !self->woken) {
        self->woken = true;
        s_wake (self);
    }
}

void
loop_at_end (loop_t *self, hook_t *hook)
{
    if (hook->queued)
        return;
    hook->queued = true;
    hook->next = NULL;
    if (self->hooks)
        self->last_hook->next = hook;
    else
        self->hooks = hook;
    self->last_hook = hook;
    s_wake_for_hooks (self);
}

void
loop_forget (loop_t *self, hook_t *hook)
{
    if (!hook->queued)
        return;
    hook_t *before = NULL;
    for (hook_t **at = &self->hooks; *at; before = *at, at = &(*at)->next)
        if (*at == hook) {
            *at = hook->next;
            if (self->last_hook == hook)
                self->last_hook = before;
            break;
        }
    hook->queued = false;
}

static void
s_hooks_run (loop_t *self)
{
    while (self->hooks) {
        hook_t *hook = self->hooks;
        self->hooks = hook->next;
        hook->queued = false;
        hook->fn (hook->arg);
    }
}

void
loop_post (loop_t *self, loop_fn *fn, void *arg)
{
    post_t *post = xmalloc (sizeof *post);
    *post = (post_t) { fn, arg, NULL };
    pthread_mutex_lock (&self->mutex);
    bool first = !self->posts;
    if (first)
        self->posts = post;
    else
        self->last_post->next = post;
    self->last_post = post;
    //  Written under the lock: once the posts are seen, this thread touches the loop no more.
    if (first)
        s_wake (self);
    pthread_mutex_unlock (&self->mutex);
}

static post_t *
s_posts_take (loop_t *self)
{
    pthread_mutex_lock (&self->mutex);
    post_t *posts = self->posts;
    self->posts = self->last_post = NULL;
    pthread_mutex_unlock (&self->mutex);
    return posts;
}

static void
s_event_fd_ready (void *arg, uint32_t events)
{
    (void) events;
    loop_t *self = arg;
    uint64_t count;
    if (read (self->event_fd, &count, sizeof count) < 0)
        return;
    self->woken = false;
    for (post_t *post = s_posts_take (self), *next; post; post = next) {
        next = post->next;
        loop_fn *fn = post->fn;
        void *fn_arg = post->arg;
        free (post);
        fn (fn_arg);
    }
}

static void
s_signal_fd_ready (void *arg, uint32_t events)
{
    (void) events;
    loop_t *self = arg;
    struct signalfd_siginfo info;
    while (read (self->signal_fd, &info, sizeof info) == sizeof info)
        if (info.ssi_signo < SIGNALS_MAX && self->on_signal [info.ssi_signo].fn)
            self->on_signal [info.ssi_signo].fn (self->on_signal [info.ssi_signo].arg);
}

void
loop_signal (loop_t *self, int signo, loop_fn *fn, void *arg)
{
    assert (signo > 0 && signo < SIGNALS_MAX);
    self->on_signal [signo].fn = fn;
    self->on_signal [signo].arg = arg;
    sigaddset (&self->signals, signo);
    pthread_sigmask (SIG_BLOCK, &self->signals, NULL);
    self->signal_fd = signalfd (self->signal_fd, &self->signals, SFD_CLOEXEC | SFD_NONBLOCK);
    assert (self->signal_fd >= 0);
    if (!self->signal_watch)
        self->signal_watch
            = loop_watch (self, self->signal_fd, EPOLLIN, s_signal_fd_ready, self);
}

//  ---- the loop ----

loop_t *
loop_new (void)
{
    loop_t *self = xcalloc (1, sizeof *self);
    self->epoll_fd = epoll_create1 (EPOLL_CLOEXEC);
    self->event_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert (self->epoll_fd >= 0 && self->event_fd >= 0);
    self->timer_fd = self->signal_fd = -1;
    sigemptyset (&self->signals);
    pthread_mutex_init (&self->mutex, NULL);
    self->now = clock_ms ();
    self->post_watch = loop_watch (self, self->event_fd, EPOLLIN, s_event_fd_ready, self);
    return self;
}

void
loop_destroy (loop_t **self_p)
{
    loop_t *self = *self_p;
    if (!self)
        return;
    *self_p = NULL;
    assert (self->depth == 0);
    watch_end (&self->post_watch);
    watch_end (&self->timer_watch);
    watch_end (&self->signal_watch);
    for (post_t *post = s_posts_take (self), *next; post; post = next) {
        next = post->next;
        free (post);
    }
    close (self->epoll_fd);
    close (self->event_fd);
    if (self->timer_fd >= 0)
        close (self->timer_fd);
    if (self->signal_fd >= 0)
        close (self->signal_fd);
    pthread_mutex_destroy (&self->mutex);
    free (self->heap);
    free (self);
}

int
loop_run (loop_t *self)
{
    while (!self->stopped)
        loop_turn (self, -1);
    self->stopped = false;
    return 0;
}

void
loop_stop (loop_t *self)
{
    self->stopped = true;
}

int
loop_fd (loop_t *self)
{
    if (!self->nested) {
        self->nested = true;
        self->timer_fd = timerfd_create (CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        assert (self->timer_fd >= 0);
        self->timer_watch = loop_watch (self, self->timer_fd, EPOLLIN, s_timer_fd_ready, self);
        s_timer_arm (self);
        s_wake_for_hooks (self);
    }
    return self->epoll_fd;
}

int64_t
loop_now (loop_t *self)
{
    //  Between turns (callbacks of an outer loop) the time of the last turn would be stale.
    if (self->depth == 0)
        self->now = clock_ms ();
    return self->now;
}

int64_t
loop_wall (loop_t *self)
{
    return s_clock (CLOCK_REALTIME) / 1000 + self->wall_offset;
}

void
loop_set_wall_offset (loop_t *self, int64_t ms)
{
    self->wall_offset = ms;
}

//  How long to wait: not at all with hooks queued, not beyond the nearest timer.
static int
s_patience (loop_t *self, int timeout)
{
    if (self->hooks || timeout == 0)
        return 0;
    if (self->timers == 0)
        return timeout;
    int64_t left = self->heap [0]->due - clock_ms ();
    if (left <= 0)
        return 0;
    if (timeout >= 0 && timeout < left)
        return timeout;
    return left < INT_MAX ? (int) left : INT_MAX;
}

static void
s_dead_free (loop_t *self)
{
    while (self->dead) {
        watch_t *next = self->dead->next;
        free (self->dead);
        self->dead = next;
    }
}

void
loop_turn (loop_t *self, int timeout)
{
    struct epoll_event events [EVENTS_MAX];
    int count = epoll_wait (self->epoll_fd, events, EVENTS_MAX, s_patience (self, timeout));
    self->now = clock_ms ();
    self->depth++;
    for (int n = 0; n < count; n++) {
        watch_t *watch = events [n].data.ptr;
        //  An earlier callback of this turn may have ended this watch or lost interest.
        uint32_t ready = events [n].events & (watch->events | EPOLLERR | EPOLLHUP);
        if (watch->events && ready)
            watch->fn (watch->arg, ready);
    }
    s_timers_fire (self);
    s_hooks_run (self);
    if (--self->depth == 0)
        s_dead_free (self);
    s_timer_arm (self);
}
