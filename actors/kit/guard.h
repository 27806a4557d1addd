//  guard.h -- which addresses an outgoing connection may reach.

#ifndef GUARD_H
#define GUARD_H

#include <stdbool.h>
#include <sys/socket.h>

//  False for loopback, private, link-local, CGNAT, multicast, reserved and mapped forms of these.
bool guard_allows (const struct sockaddr *address);
//  Is host:port named in a comma list of the operator's?
bool guard_listed (const char *list, const char *host, const char *port);

#endif
