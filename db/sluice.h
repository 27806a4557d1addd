//  sluice.h -- a connection of libpq behind a pair of sockets: what it can read at once is bounded.
//
//  libpq reads as long as there is something, and a server that sends one large row is faster than
//  its reader: a single call would take the whole row, a gigabyte, and the loop with it. So the
//  descriptor that libpq knows becomes one end of a pair, and each turn of the loop carries a sip
//  between the other end and the server. Encrypted bytes pass as they are.

#ifndef SLUICE_H
#define SLUICE_H

#include "../proto/loop.h"

#define SLUICE_SIP 65536     //  bytes a turn, each way

typedef struct sluice sluice_t;

//  Of an established connection that nobody watches; `fd` keeps its number, and its owner. NULL: no
//  descriptor is left.
sluice_t *sluice_new (loop_t *loop, int fd);
//  What was written into `fd` before it was closed still goes out, as far as the server takes it.
void sluice_destroy (sluice_t **self_p);

#endif
