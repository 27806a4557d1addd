//  process.h -- what /proc says about a kernel's processes.

#ifndef BOX_PROCESS_H
#define BOX_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct {
    size_t processes;
    uint64_t memory;         //  bytes resident, shared pages counted once where that can be known
} process_tree_t;

//  Below bwrap's two processes stands the kernel: signals for the kernel must not hit them. `root`
//  itself when it is not bwrap.
pid_t process_innermost (pid_t root);

//  SIGKILL to the first process of the tree's pid namespace (everything in it goes with it) and to
//  `root`'s session.
void process_kill (pid_t root);

//  Everything below and with `root`. Shared pages are told apart only when the plain sum is above
//  `closer`, which costs more.
process_tree_t process_measure (pid_t root, uint64_t closer);

//  When it was started, in ticks since the machine was; 0: it is gone. With its pid it names a
//  process for ever.
uint64_t process_started (pid_t pid);

//  Is that its name, as it said itself (PR_SET_NAME)?
bool process_is (pid_t pid, const char *name);

//  Resident bytes of this very process.
uint64_t process_own_memory (void);

#endif
