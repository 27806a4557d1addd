//  loop.h -- the one loop of a process: descriptors, timers, signals, end-of-turn hooks, posts from
//  other threads, on epoll. Its own descriptor (loop_fd) may be nested in another loop: that is how
//  the edge runs it inside libwebsockets.
//
//  Everything here is for the loop thread, except loop_post.

#ifndef LOOP_H
#define LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

typedef struct loop loop_t;
typedef struct watch watch_t;
typedef struct timer_node ltimer_t;

typedef void (loop_fn) (void *arg);
typedef void (watch_fn) (void *arg, uint32_t events);

loop_t *loop_new (void);
void loop_destroy (loop_t **self_p);

//  Serve until loop_stop. Returns 0.
int loop_run (loop_t *self);
void loop_stop (loop_t *self);

//  One turn: wait at most `timeout` ms (-1: until something happens), call what is due, then the
//  end-of-turn hooks.
void loop_turn (loop_t *self, int timeout);

//  Readable whenever a turn has work, timers included.
int loop_fd (loop_t *self);

//  Monotonic ms, read once per turn. loop_wall: Unix time in ms, through the injectable clock.
int64_t loop_now (loop_t *self);
int64_t loop_wall (loop_t *self);
//  Shift the wall clock by so many ms (tests; option --clock-offset-ms).
void loop_set_wall_offset (loop_t *self, int64_t ms);

//  Monotonic, read now: fresh also between two turns of a nested loop. From any thread.
int64_t clock_ms (void);
int64_t clock_us (void);

//  Watch a descriptor for EPOLLIN/EPOLLOUT (level). The descriptor stays the caller's: end the
//  watch before closing it. It may be ended inside its own callback.
watch_t *loop_watch (loop_t *self, int fd, uint32_t events, watch_fn *fn, void *arg);
void watch_set (watch_t *self, uint32_t events);
void watch_end (watch_t **self_p);

//  A timer, idle until set. timer_set (0) fires next turn; it fires once, set it again to repeat.
ltimer_t *loop_timer (loop_t *self, loop_fn *fn, void *arg);
void ltimer_set (ltimer_t *self, int64_t ms);
void ltimer_stop (ltimer_t *self);
bool ltimer_active (const ltimer_t *self);
void ltimer_end (ltimer_t **self_p);

//  Run at the end of this turn, before the loop waits again. The hook is the caller's memory (put
//  it in your struct, zeroed, with fn and arg set); scheduling it twice in a turn runs it once.
//  Hooks scheduled by hooks run in the same turn.
typedef struct hook {
    loop_fn *fn;
    void *arg;
    struct hook *next;
    bool queued;
} hook_t;

void loop_at_end (loop_t *self, hook_t *hook);
//  Take a queued hook back (its owner is about to be freed).
void loop_forget (loop_t *self, hook_t *hook);

//  A signal as an ordinary event (signalfd; the signal is blocked in the process).
void loop_signal (loop_t *self, int signo, loop_fn *fn, void *arg);

//  From any thread: run fn (arg) on the loop thread soon, in order of posting.
void loop_post (loop_t *self, loop_fn *fn, void *arg);

#endif
