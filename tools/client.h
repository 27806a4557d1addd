//  client.h -- a command that speaks on the bus: connects to the running system as its operator.

#ifndef CLIENT_H
#define CLIENT_H

#include "busbar.h"
#include "proto/bus.h"
#include "proto/json.h"

//  The rows for an options table that say which system.
#define CLIENT_OPTIONS \
    { "var", OPT_STR, NULL, 0, "BUSBAR_VAR", "directory of the running system [var]", NULL }, \
    { "run-dir", OPT_STR, NULL, 0, "BUSBAR_RUN", "its sockets [VAR/run]", NULL }, \
    { "timeout", OPT_INT, "30", 0, NULL, "seconds to wait for an answer", NULL }

typedef struct {
    loop_t *loop;
    bus_t *bus;
    void *zmq;
    place_t place;
    char *run;
    int64_t timeout;             //  ms
    ltimer_t *patience;          //  ends the wait for the broker
    ltimer_t *again;             //  for the command's own use; ended with the loop
    void (*ready) (void *arg);
    void *arg;
    bool seen;                   //  was ready once
    int code;                    //  what the command will exit with
} client_t;

//  Connect and serve the loop until client_stop: `ready` is called once the directory is known,
//  and again after each restart of the broker. Answers the exit code: DONE_UNREACHABLE, after a
//  message, when no broker is there.
int client_run (client_t *self, const opt_t *options, void (*ready) (void *arg), void *arg);
void client_stop (client_t *self, int code);

//  Call a method with `body` (mp_none: nil); the client stays usable after the answer.
void client_call (client_t *self, const char *method, mp_t body, bus_reply_fn *on_reply, void *arg);

//  Exit code for the status of an answer; errors are printed on stderr when `say`.
int client_code (const bus_reply_t *reply, bool say);

//  Print a value as one line of JSON.
void client_print (mp_t value);

#endif
