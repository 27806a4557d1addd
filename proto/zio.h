//  zio.h -- a ZeroMQ socket on the loop. ZMQ_FD is edge-triggered and a send may swallow its signal
//  (traps of ZeroMQ): this class is the one place that knows.

#ifndef ZIO_H
#define ZIO_H

#include <zmq.h>

#include "loop.h"

typedef struct zio zio_t;

//  Called while the socket has input. Receive with ZMQ_DONTWAIT; what is left after one call is
//  served in the next turn, so that other descriptors get their share.
typedef void (zio_fn) (void *arg);

//  The socket stays the caller's; end the zio before closing it.
zio_t *zio_new (loop_t *loop, void *socket, zio_fn *fn, void *arg);
void zio_end (zio_t **self_p);

//  Say that the socket was sent to: input is looked for again at the end of this turn.
void zio_sent (zio_t *self);

#endif
