//  relay.h -- the way from a kernel's box to the scheduler of a cluster: the box asks, and gets a
//  connection that was made out here. Knows sockets, not clusters.

#ifndef KERNELS_RELAY_H
#define KERNELS_RELAY_H

#include "proto/loop.h"

typedef struct relay relay_t;

//  What a notebook is attached to, and how programs look for it.
typedef struct {
    char cluster [37];           //  id; empty: to nothing
    char socket [108];           //  of its scheduler, out here
    int port;                    //  that leads there, in the box
    char variable [64], value [128];     //  of the environment
} attachment_t;

//  `box` is the end for the box, to be closed once it was handed over. NULL with errno.
relay_t *relay_new (loop_t *loop, const char *socket, int *box);
void relay_destroy (relay_t **self_p);

//  The program that speaks with it in the box, as a file; -1 with errno.
int relay_program (void);

#endif
