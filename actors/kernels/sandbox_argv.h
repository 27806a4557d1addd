//  sandbox_argv.h -- the command line of a box.

#ifndef KERNELS_SANDBOX_ARGV_H
#define KERNELS_SANDBOX_ARGV_H

#include "sandbox.h"

typedef enum { SANDBOX_NONE, SANDBOX_OWN_UID, SANDBOX_SETPRIV, SANDBOX_USERNS } sandbox_kind_t;

//  Descriptors that the command line names, by position behind SPAWNER_FIRST_FD.
enum {
    BOX_FD_CONNECTION,
    BOX_FD_PASSWD,
    BOX_FD_GROUP,
    BOX_FD_HOSTS,
    BOX_FD_NSSWITCH,
    BOX_FD_SECCOMP,
    BOX_FDS
};

#define BOX_CONNECTION_FILE "/run/k/connection.json"

//  Append the words, each terminated. `uid` is what the kernel runs as (SANDBOX_SETPRIV). For
//  SANDBOX_NONE the connection file lies at `connection`.
void sandbox_argv (buf_t *out, sandbox_kind_t kind, const sandbox_conf_t *conf, uint32_t uid,
                   const box_conf_t *box, const char *connection);

#endif
