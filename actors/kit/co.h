//  co.h -- stackful coroutines on the loop thread. A function marked CO may suspend: everything
//  else goes on meanwhile, so state read before it must be looked up again after it.

#ifndef CO_H
#define CO_H

#include <stdbool.h>
#include <stddef.h>

#define CO               //  marks functions that may suspend

typedef struct co co_t;
typedef void (co_fn) (void *arg);

//  Start fn (arg) on a guarded 64 KiB stack and run it until it first suspends or ends. Ended
//  stacks are re-used. NULL when `limit` (co_limit) coroutines live already.
co_t *co_start (co_fn *fn, void *arg);
//  The running coroutine; NULL on the loop's own stack.
co_t *co_self (void);
//  Give the loop its stack back until somebody calls co_resume.
CO void co_suspend (void);
//  Continue a suspended coroutine now (from the loop's stack only; from another coroutine use
//  co_wake).
void co_resume (co_t *co);
//  Continue it from anywhere: now on the loop's stack, else as soon as the running coroutine gives
//  that back.
void co_wake (co_t *co);
size_t co_alive (void);
void co_limit (size_t limit);            //  default 4,096
void co_drain (void);                    //  free parked stacks (shutdown)

#endif
