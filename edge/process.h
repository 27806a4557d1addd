//  process.h -- what main.c and conn.c need of listen.c and tls.c.

#ifndef PROCESS_H
#define PROCESS_H

#include "edge/edge.h"

//  The public port and the admin port, each an own SO_REUSEPORT listener, so that several edges
//  share a port.
bool listeners_open (edge_t *edge);
void listeners_close (edge_t *edge);

//  Take the certificate files, at the start and once more; false: logged why, what was shown before
//  still is. Connections keep theirs.
bool tls_load (edge_t *edge);
//  Rules for an SSL_CTX of libwebsockets.
void tls_prepare (edge_t *edge, void *context);
void tls_close (edge_t *edge);

#endif
