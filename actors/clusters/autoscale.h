//  autoscale.h -- when a cluster grows and when it shrinks.

#ifndef CLUSTERS_AUTOSCALE_H
#define CLUSTERS_AUTOSCALE_H

#include <stdint.h>

//  How many workers it should have, `least` to `most`: more as soon as `desired` says so, fewer
//  only once that many have been too many for `patience` ms. *since is where that is remembered (0:
//  they were not).
int64_t autoscale (int64_t now, int64_t target, int64_t desired, int64_t least, int64_t most,
                   int64_t patience, int64_t *since);

#endif
