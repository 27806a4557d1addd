//  process.h -- what main.c needs of listen.c.

#ifndef PROCESS_H
#define PROCESS_H

#include "edge/edge.h"

//  The public port and the admin port, each an own SO_REUSEPORT listener, so that several edges
//  share a port.
bool listeners_open (edge_t *edge);
void listeners_close (edge_t *edge);
//  Take the certificate files again, if they are good; connections keep theirs.
void tls_reload (edge_t *edge);

#endif
