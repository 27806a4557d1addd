//  sip.h -- a connection of libpq that takes in a little at a time, for a thread that waits. libpq
//  reads as long as there is something to read, and would take a row of a gigabyte in one call; so
//  the descriptor it knows becomes one end of a pair, and we carry between the other end and the
//  server. Encrypted bytes pass as they are.

#ifndef SIP_H
#define SIP_H

#include "connector.h"

typedef struct {
    int server, inner, outer;    //  outer: what libpq knows
    bool full, broken;       //  the server takes nothing just now; or never again
    size_t arrived;          //  bytes from the server; whoever counts sets it back
} sip_t;

//  Of an established connection; `fd` keeps its number, and its owner. False: no descriptor is
//  left.
bool sip_begin (sip_t *self, int fd);
//  Carry what there is, and wait until libpq has something to read: as contact_wait; 0 also when
//  the connection is broken.
int sip_wait (sip_t *self, contact_t *contact, int64_t ms);
//  What was written before `fd` was closed still goes out, as far as the server takes it.
void sip_end (sip_t *self);

#endif
