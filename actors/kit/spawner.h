//  spawner.h -- the process that starts sandboxes. It is forked before this program has threads,
//  sockets or secrets, so none of them leak into a box; what needs root stays there when the
//  actor itself has given root up.
//
//  It is told what to do over a socket of packets and dies, with everything it started, when the
//  other end closes. Only what was started with ASK_KEEP stays: a guard of its own waits for it,
//  and ends it when the process that started the actor (the supervisor) is gone.

#ifndef SPAWNER_H
#define SPAWNER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define SPAWNER_PACKET (64 << 10)
#define SPAWNER_FDS 12
//  Of passed descriptors the first becomes stdout and stderr, the others appear from here on.
#define SPAWNER_FIRST_FD 10

typedef enum {
    ASK_START,               //  number: uid (0: stay); pid: largest file, MiB; argv follows
    ASK_KEEP,                //  the same, under a guard, whose pid it is from then on
    ASK_ADOPT,               //  pid: a guard of a predecessor; its start time (uint64_t) follows
    ASK_SIGNAL,              //  pid, number: signal for the innermost process
    ASK_KILL,                //  pid: the whole tree, at once
    ASK_SOCKETS,             //  pid: descriptors of the kernel's sockets, none while one is missing
    ASK_MEASURE,             //  pid, number: MiB above which shared pages are told apart
    TELL_STARTED,            //  pid, or -1 and number: errno; with a pidfd; of ASK_ADOPT, too
    TELL_ENDED,              //  pid, number: wait status; not of those adopted
    TELL_SOCKETS,            //  pid; with one descriptor per socket
    TELL_MEASURED            //  pid; a process_tree_t follows
} packet_kind_t;

typedef struct {
    packet_kind_t kind;
    uint32_t serial;         //  of what starts or adopts, comes back
    int32_t pid, number;
} packet_t;

//  Where a sandboxed kernel puts its sockets: SPAWNER_SOCKETS of them, named s-1 …
#define SPAWNER_SOCKET_DIR "/run/k"
#define SPAWNER_SOCKETS 5

//  Fork it. Call first in main. Returns our end of the socket, -1 with errno.
int spawner_start (void);
//  Was it root that started it? Then each kernel can have a uid of its own.
bool spawner_root (void);
//  Root is for the spawner alone: this process becomes who owns the directory of its sockets
//  (--run-dir=…), and still dies with its parent.
bool spawner_drop_root (int argc, char **argv);

//  Both ends: one packet with `size` bytes behind it and descriptors. Receiving answers the bytes
//  behind the packet, -1 when there is nothing, -2 when the other end is gone.
bool packet_send (int fd, const packet_t *packet, const void *data, size_t size, const int *fds,
                  size_t count);
ssize_t packet_receive (int fd, packet_t *packet, void *data, size_t room, int fds [SPAWNER_FDS],
                        size_t *count);

#endif
