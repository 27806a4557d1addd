//  probe.h -- is the edge (or, without one, the broker) serving?

#ifndef PROBE_H
#define PROBE_H

#include <stdbool.h>

typedef struct {
    const char *host;  //  as the edge was told; "0.0.0.0" and "::" are asked through loopback
    int port;                    //  0: ask only whether the Unix socket at `path` takes connections
    bool tls;
    const char *path;
    char *const *actors;         //  whose paths the edge must know, too; NULL-terminated, or NULL
} probe_t;

//  Wait, blocking, until GET /health/ready answers 200 and the actors are there. Never gives up on
//  the former: what is missing may still come, and says so in the log meanwhile; an actor that does
//  not come holds the others up for some seconds. Exit code 0.
int probe_wait (const probe_t *probe);

//  Can this address be listened on now? With *port 0 a free port is picked. False after a message.
bool probe_free (const char *host, int *port);
//  The same for loopback, without a message.
bool probe_is_free (int port);

#endif
