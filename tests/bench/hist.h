//  hist.h -- times in a histogram whose steps are 3 %: percentiles of any number of them in 20 kB.

#ifndef HIST_H
#define HIST_H

#include <stdint.h>
#include <time.h>

#define HIST_STEPS 64
#define HIST_OCTAVES 40

typedef struct {
    uint64_t count, most;
    uint64_t slots [HIST_OCTAVES * HIST_STEPS];
} hist_t;

static inline int64_t
nanoseconds (clockid_t clock)
{
    struct timespec now;
    clock_gettime (clock, &now);
    return now.tv_sec * INT64_C (1000000000) + now.tv_nsec;
}

static inline void
hist_add (hist_t *self, int64_t ns)
{
    uint64_t value = ns > 0 ? (uint64_t) ns : 0;
    int shift = value < HIST_STEPS ? 0 : 58 - __builtin_clzll (value);
    uint64_t at = (uint64_t) shift * (HIST_STEPS / 2) + (value >> shift);
    if (at >= HIST_OCTAVES * HIST_STEPS)
        at = HIST_OCTAVES * HIST_STEPS - 1;
    self->slots [at]++;
    self->count++;
    if (value > self->most)
        self->most = value;
}

//  In ms; part 0.99 is the 99th percentile.
static inline double
hist_ms (const hist_t *self, double part)
{
    uint64_t left = (uint64_t) ((double) self->count * part);
    for (uint64_t at = 0; at < HIST_OCTAVES * HIST_STEPS; at++) {
        if (left < self->slots [at]) {
            uint64_t shift = at < HIST_STEPS ? 0 : at / (HIST_STEPS / 2) - 1;
            return (double) ((at - shift * (HIST_STEPS / 2)) << shift) / 1e6;
        }
        left -= self->slots [at];
    }
    return (double) self->most / 1e6;
}

#endif
