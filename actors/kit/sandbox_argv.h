//  sandbox_argv.h -- the command line of a sandbox: bubblewrap with own process, network, IPC and
//  user namespaces, no file of the host but /usr and a few of /etc, all that can be written on
//  memory disks of limited size, system calls filtered.

#ifndef SANDBOX_ARGV_H
#define SANDBOX_ARGV_H

#include <sys/types.h>

#include "proto/text.h"

typedef enum { SANDBOX_NONE, SANDBOX_OWN_UID, SANDBOX_SETPRIV, SANDBOX_USERNS } sandbox_kind_t;

//  Descriptors that the command line names, by position behind SPAWNER_FIRST_FD; then come those of
//  whoever starts it.
enum {
    BOX_FD_PASSWD,
    BOX_FD_GROUP,
    BOX_FD_HOSTS,
    BOX_FD_NSSWITCH,
    BOX_FD_SECCOMP,
    BOX_FD_OWN
};

#define BOX_CONNECTION_FILE "/run/k/connection.json"

typedef struct {
    sandbox_kind_t kind;
    uint32_t uid;                        //  that it runs as (SANDBOX_SETPRIV)
    unsigned disk;                       //  MiB of /tmp and of /dev/shm
    unsigned processes;
    const char *name;                    //  of the host and the user in it
    const char *const *argv;             //  {connection_file} is replaced
    const char *const *env;              //  name, value, …; NULL: none
    const char *dir;                     //  of the host, visible too; NULL: none
    //  Where its connection file lies; inside a box it comes from BOX_FD_OWN. NULL: it has none.
    const char *connection;
} sandbox_argv_t;

//  Append the words, each terminated.
void sandbox_argv (buf_t *out, const sandbox_argv_t *box);

//  A file in memory with that content, read from its start; -1 with errno.
int sandbox_file (text_t content);
//  Those that every box needs, positions before BOX_FD_OWN. False with errno; what was made is in
//  `fds`, the others -1.
bool sandbox_files (const char *name, uid_t uid, gid_t gid, int fds [BOX_FD_OWN]);

#endif
