//  main.c -- the broker process: options, signals, loop.

#include <signal.h>
#include <stdio.h>

#include "broker.h"
#include "proto/fault.h"
#include "proto/log.h"
#include "proto/opt.h"
#include "proto/secrets.h"

static opt_t s_options [] = {
    { "run-dir", OPT_STR, "var/run", 0, "BUSBAR_RUN",
      "directory of the local sockets (0700)", NULL },
    { "door", OPT_STR, NULL, 0, "BUSBAR_DOOR_LISTEN",
      "TCP endpoint for programs from elsewhere, tcp://127.0.0.1:7700; empty: none", NULL },
    { "keys-dir", OPT_STR, "var/keys", 0, "BUSBAR_KEYS",
      "key files of who may come to the door", NULL },
    { "jwt-secret", OPT_STR, NULL, OPT_SECRET, "JWT_SECRET|JWT_SECRET_KEY|SECRET_KEY",
      "secret that signs tokens (door)", NULL },
    { "secrets-fd", OPT_INT, "-1", 0, NULL, "descriptor that hands over secrets", NULL },
    { "heartbeat", OPT_INT, "500", 0, "BUSBAR_HEARTBEAT", "ms; four silent ones mean death", NULL },
    { "door-rate", OPT_INT, "1000", 0, NULL, "calls a second of one client at the door", NULL },
    { "door-burst", OPT_INT, "2000", 0, NULL, "calls at once of one client at the door", NULL },
    { "log-level", OPT_STR, "info", 0, "LOG_LEVEL", "debug, info, warn or error", NULL },
    { 0 } };

static void
on_signal (void *arg)
{
    loop_stop (arg);
}

int
main (int argc, char **argv)
{
    int rc = opt_read (s_options, &argc, argv, "the bus broker: directory, liveness, events, door");
    if (rc)
        return rc == 1 ? 0 : rc;
    log_open ("broker", log_level_by_name (opt_str (s_options, "log-level")));
    if (!fault_open ("broker"))
        return 2;
    secrets_read ((int) opt_int (s_options, "secrets-fd"));
    const char *secret = opt_str (s_options, "jwt-secret");
    broker_conf_t conf = { .run_dir = opt_str (s_options, "run-dir"),
                           .door = opt_str (s_options, "door"),
                           .keys_dir = opt_str (s_options, "keys-dir"),
                           .secret = secret ? secret : secrets_get ("jwt_secret"),
                           .heartbeat = opt_int (s_options, "heartbeat"),
                           .rate = opt_int (s_options, "door-rate"),
                           .burst = opt_int (s_options, "door-burst") };
    if (conf.heartbeat < 20 || conf.heartbeat > 60000 || conf.rate < 1 || conf.burst < 1) {
        fprintf (stderr, "heartbeat must be 20 to 60000 ms, door-rate and door-burst at least 1\n");
        return 2;
    }
    loop_t *loop = loop_new ();
    loop_signal (loop, SIGTERM, on_signal, loop);
    loop_signal (loop, SIGINT, on_signal, loop);
    broker_t *broker = broker_new (loop, &conf);
    if (!broker)
        return 1;
    loop_run (loop);
    broker_destroy (&broker);
    loop_destroy (&loop);
    log_info ("stopped");
    return 0;
}
