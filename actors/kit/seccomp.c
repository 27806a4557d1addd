//  seccomp.c -- a deny list in front of the kernel's large and rarely used surfaces: namespaces,
//  tracing, keys, BPF, io_uring, odd sockets; and memory that no process size shows.

#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <seccomp.h>

#include "seccomp.h"

//  By name: what a library or an architecture does not know is skipped.
static const char *const refused [] = {
    "acct", "add_key", "adjtimex", "bpf", "clock_adjtime", "clock_settime", "delete_module",
    "fanotify_init", "finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "init_module",
    "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load", "keyctl", "lookup_dcookie",
    "mount", "mount_setattr", "move_mount", "move_pages", "name_to_handle_at", "nfsservctl",
    "open_by_handle_at", "open_tree", "perf_event_open", "personality", "pidfd_getfd",
    "pivot_root", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace",
    "quotactl", "quotactl_fd", "reboot", "request_key", "setdomainname", "sethostname", "setns",
    "settimeofday", "swapoff", "swapon", "syslog", "umount", "umount2", "unshare", "uselib",
    "userfaultfd", "ustat", "vhangup", "vmsplice"
};

//  These have a fallback in every library that tries them, if they are "not there".
static const char *const absent [] = {
    "clone3", "io_uring_enter", "io_uring_register", "io_uring_setup",
    //  Memory that belongs to nobody's size: files without a mount whose size is limited.
    "memfd_create", "memfd_secret", "shmget"
};

static int
s_deny (scmp_filter_ctx filter, const char *const *names, size_t count, int error)
{
    int failed = 0;
    for (size_t n = 0; n < count; n++) {
        int number = seccomp_syscall_resolve_name (names [n]);
        if (number != __NR_SCMP_ERROR && number >= 0)
            failed |= seccomp_rule_add (filter, SCMP_ACT_ERRNO (error), number, 0);
    }
    return failed;
}

static int
s_deny_by_argument (scmp_filter_ctx filter)
{
    static const uint32_t namespaces [] = { CLONE_NEWUSER,  CLONE_NEWNS,  CLONE_NEWPID,
                                           CLONE_NEWNET,   CLONE_NEWIPC, CLONE_NEWUTS,
                                           CLONE_NEWCGROUP };
    int failed = 0;
    for (size_t n = 0; n < sizeof namespaces / sizeof *namespaces; n++)
        failed |= seccomp_rule_add (filter, SCMP_ACT_ERRNO (EPERM), SCMP_SYS (clone), 1,
                                    SCMP_A0 (SCMP_CMP_MASKED_EQ, namespaces [n], namespaces [n]));
    failed |= seccomp_rule_add (filter, SCMP_ACT_ERRNO (EPERM), SCMP_SYS (ioctl), 1,
                                SCMP_A1 (SCMP_CMP_MASKED_EQ, 0xffffffff, TIOCSTI));
    failed |= seccomp_rule_add (filter, SCMP_ACT_ERRNO (EPERM), SCMP_SYS (ioctl), 1,
                                SCMP_A1 (SCMP_CMP_MASKED_EQ, 0xffffffff, TIOCLINUX));
    //  Unix, IPv4, IPv6 and netlink (address look-up asks it) remain.
    for (unsigned family = 0; family < AF_MAX; family++)
        if (family != AF_UNIX && family != AF_INET && family != AF_INET6 && family != AF_NETLINK)
            failed |= seccomp_rule_add (filter, SCMP_ACT_ERRNO (EAFNOSUPPORT), SCMP_SYS (socket), 1,
                                        SCMP_A0 (SCMP_CMP_EQ, family, 0));
    failed |= seccomp_rule_add (filter, SCMP_ACT_ERRNO (EAFNOSUPPORT), SCMP_SYS (socket), 1,
                                SCMP_A0 (SCMP_CMP_GE, AF_MAX, 0));
    return failed;
}

int
seccomp_program (void)
{
    scmp_filter_ctx filter = seccomp_init (SCMP_ACT_ALLOW);
    if (!filter)
        return -1;
    int failed = s_deny (filter, refused, sizeof refused / sizeof *refused, EPERM)
                 | s_deny (filter, absent, sizeof absent / sizeof *absent, ENOSYS)
                 | s_deny_by_argument (filter);
    int fd = failed ? -1 : memfd_create ("seccomp", MFD_CLOEXEC);
    if (fd >= 0 && (seccomp_export_bpf (filter, fd) != 0 || lseek (fd, 0, SEEK_SET) != 0)) {
        close (fd);
        fd = -1;
    }
    seccomp_release (filter);
    return fd;
}
