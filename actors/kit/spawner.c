//  spawner.c -- starts, signals and reaps what users run; single-threaded, knows nothing of the
//  bus.

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "process.h"
#include "spawner.h"

#define ARGS_MAX 256
#define SPARE_FD 100         //  out of the way of the numbers that the child gets
#define CHILDREN_MAX 1024
#define GUARD "busbar-guard"
#define END_TURN 5               //  ms
#define END_TURNS 400

typedef struct {
    int socket, signals;
    pid_t starter;                       //  of the actor
    pid_t children [CHILDREN_MAX];       //  not yet reaped, so the numbers are theirs; 0: free
    bool guards [CHILDREN_MAX];
    uint64_t adopted [CHILDREN_MAX];     //  when that one began, which nobody reaps here; 0: ours
    char data [SPAWNER_PACKET];
    int fds [SPAWNER_FDS];
    size_t count;
} spawner_t;

//  ---- in the child ----

static void
s_limit (int resource, rlim_t value)
{
    struct rlimit limit = { value, value };
    setrlimit (resource, &limit);
}

static void
s_write (const char *path, const char *text)
{
    int fd = open (path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write (fd, text, strlen (text)) < 0)
        (void) 0;            //  where it may not be written the kernel runs without
    if (fd >= 0)
        close (fd);
}

static void
s_child (spawner_t *self, const packet_t *ask, char *const *argv)
{
    sigset_t none;
    sigemptyset (&none);
    setsid ();
    prctl (PR_SET_PDEATHSIG, SIGKILL);
    //  First out of each other's way, then to their numbers, which ends close-on-exec.
    for (size_t n = 0; n < self->count; n++)
        self->fds [n] = fcntl (self->fds [n], F_DUPFD_CLOEXEC, SPARE_FD);
    int null = open ("/dev/null", O_RDWR | O_CLOEXEC);
    dup2 (null, STDIN_FILENO);
    dup2 (self->count ? self->fds [0] : null, STDOUT_FILENO);
    dup2 (self->count ? self->fds [0] : null, STDERR_FILENO);
    for (size_t n = 1; n < self->count; n++)
        dup2 (self->fds [n], SPAWNER_FIRST_FD + (int) n - 1);
    s_limit (RLIMIT_CORE, 0);
    s_limit (RLIMIT_NOFILE, 1024);
    s_limit (RLIMIT_FSIZE, (rlim_t) ask->pid << 20);
    //  The machine in need takes kernels first, and the bus comes before them.
    s_write ("/proc/self/oom_score_adj", "800");
    //  Who began nicer than that may not become less nice, and need not.
    if (getpriority (PRIO_PROCESS, 0) < 5 && setpriority (PRIO_PROCESS, 0, 5) != 0)
        _exit (126);
    //  A socket in a mount namespace of its own is reached by nobody else; the actor may have
    //  another uid.
    umask (0);
    if (ask->number > 0) {
        uid_t uid = (uid_t) ask->number;
        if (setgroups (0, NULL) != 0 || setresgid (uid, uid, uid) != 0
            || setresuid (uid, uid, uid) != 0)
            _exit (126);
        //  Changing the uid forgot it.
        prctl (PR_SET_PDEATHSIG, SIGKILL);
    }
    if (chdir ("/") != 0)
        _exit (126);
    //  The loop ignores and blocks signals that a kernel wants.
    for (int signo = 1; signo < NSIG; signo++)
        signal (signo, SIG_DFL);
    sigprocmask (SIG_SETMASK, &none, NULL);
    static char *const environment [] = { "PATH=/usr/local/bin:/usr/bin:/bin", NULL };
    execve (argv [0], argv, environment);
    _exit (127);
}

//  ---- the guard of what outlives the actor ----

//  Follows one child until it ends, somebody wants its end, or nobody is left who would serve it.
static void
s_guard (pid_t child, int signals, int starter)
{
    struct pollfd polls [] = { { signals, POLLIN, 0 }, { starter, POLLIN, 0 } };
    struct signalfd_siginfo info;
    int status;
    while (waitpid (child, &status, WNOHANG) == 0) {
        if (poll (polls, 2, -1) < 0 && errno != EINTR)
            _exit (70);
        bool end = polls [1].revents;
        while (read (signals, &info, sizeof info) > 0)
            end |= info.ssi_signo == SIGTERM;
        if (end)
            process_kill (child);
        //  Said once is enough.
        if (polls [1].revents)
            polls [1].fd = -1;
    }
    _exit (WIFEXITED (status) ? WEXITSTATUS (status) : 128 + WTERMSIG (status));
}

static void
s_keep (spawner_t *self, const packet_t *ask, char *const *argv)
{
    sigset_t signals;
    setsid ();
    prctl (PR_SET_NAME, GUARD);
    close (self->socket);
    close (self->signals);
    //  The log of the actor ends with the actor.
    int null = open ("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        dup2 (null, fd);
    sigemptyset (&signals);
    sigaddset (&signals, SIGCHLD);
    sigaddset (&signals, SIGTERM);
    int wait = signalfd (-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    int starter = (int) syscall (SYS_pidfd_open, self->starter, 0);
    pid_t child = wait >= 0 && starter >= 0 ? fork () : -1;
    if (child == 0)
        s_child (self, ask, argv);
    for (size_t n = 0; n < self->count; n++)
        close (self->fds [n]);
    if (child < 0)
        _exit (126);
    s_guard (child, wait, starter);
}

//  ---- requests ----

//  Where a child stands in the table, or the place of `pid` 0: a free one. NULL: not there.
static pid_t *
s_child_slot (spawner_t *self, pid_t pid)
{
    for (size_t n = 0; n < CHILDREN_MAX; n++)
        if (self->children [n] == pid) {
            //  The number of one that nobody reaps here may be another's by now.
            if (!pid || !self->adopted [n] || process_started (pid) == self->adopted [n])
                return &self->children [n];
            self->children [n] = 0;
        }
    return NULL;
}

static void
s_child_put (spawner_t *self, pid_t *slot, pid_t pid, bool guard, uint64_t adopted)
{
    *slot = pid;
    self->guards [slot - self->children] = guard;
    self->adopted [slot - self->children] = adopted;
}

static void
s_child_kill (spawner_t *self, const pid_t *slot)
{
    if (self->guards [slot - self->children])
        kill (*slot, SIGTERM);
    else
        process_kill (*slot);
}

static void
s_tell_started (spawner_t *self, const packet_t *tell)
{
    int pidfd = tell->pid > 0 ? (int) syscall (SYS_pidfd_open, tell->pid, 0) : -1;
    packet_send (self->socket, tell, NULL, 0, &pidfd, pidfd >= 0);
    if (pidfd >= 0)
        close (pidfd);
}

static void
s_start (spawner_t *self, const packet_t *ask, size_t size)
{
    char *argv [ARGS_MAX + 1];
    size_t argc = 0;
    packet_t tell = { TELL_STARTED, ask->serial, -1, E2BIG };
    for (size_t at = 0; at < size && argc < ARGS_MAX; at += strlen (self->data + at) + 1)
        argv [argc++] = self->data + at;
    argv [argc] = NULL;
    bool keep = ask->kind == ASK_KEEP;
    pid_t *slot = s_child_slot (self, 0);
    if (slot && argc > 0 && argc < ARGS_MAX && self->data [size - 1] == 0) {
        tell.pid = fork ();
        if (tell.pid == 0) {
            if (keep)
                s_keep (self, ask, argv);
            s_child (self, ask, argv);
        }
        tell.number = tell.pid < 0 ? errno : 0;
        s_child_put (self, slot, tell.pid > 0 ? tell.pid : 0, keep, 0);
    }
    s_tell_started (self, &tell);
}

//  Only what such a spawner has left behind.
static void
s_adopt (spawner_t *self, const packet_t *ask, size_t size)
{
    packet_t tell = { TELL_STARTED, ask->serial, -1, ESRCH };
    char path [64];
    struct stat about;
    uint64_t started = 0;
    if (size == sizeof started)
        memcpy (&started, self->data, sizeof started);
    snprintf (path, sizeof path, "/proc/%d", ask->pid);
    pid_t *slot = s_child_slot (self, ask->pid);
    slot = slot ? slot : s_child_slot (self, 0);
    if (slot && started && ask->pid > 0 && stat (path, &about) == 0 && about.st_uid == geteuid ()
        && process_is (ask->pid, GUARD) && process_started (ask->pid) == started) {
        tell.pid = ask->pid;
        tell.number = 0;
        s_child_put (self, slot, ask->pid, true, started);
    }
    s_tell_started (self, &tell);
}

//  Only what this kernel put there itself, and really a socket: no link leads us to another one.
static int
s_socket (int dir, int number)
{
    char name [16];
    struct open_how how = { .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
                            .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH | RESOLVE_NO_XDEV };
    snprintf (name, sizeof name, "s-%d", number);
    int fd = (int) syscall (SYS_openat2, dir, name, &how, sizeof how);
    struct stat about;
    if (fd >= 0 && (fstat (fd, &about) != 0 || !S_ISSOCK (about.st_mode))) {
        close (fd);
        return -1;
    }
    return fd;
}

static void
s_sockets (spawner_t *self, const packet_t *ask)
{
    char path [64];
    int fds [SPAWNER_SOCKETS];
    int count = 0;
    snprintf (path, sizeof path, "/proc/%d/root" SPAWNER_SOCKET_DIR, process_innermost (ask->pid));
    int dir = open (path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    while (dir >= 0 && count < SPAWNER_SOCKETS && (fds [count] = s_socket (dir, count + 1)) >= 0)
        count++;
    packet_t tell = { TELL_SOCKETS, ask->serial, ask->pid, 0 };
    packet_send (self->socket, &tell, NULL, 0, fds, count == SPAWNER_SOCKETS ? SPAWNER_SOCKETS : 0);
    while (count > 0)
        close (fds [--count]);
    if (dir >= 0)
        close (dir);
}

//  Here and not in the actor: it may not look closely at processes of another uid.
static void
s_measure (spawner_t *self, const packet_t *ask)
{
    process_tree_t tree = process_measure (ask->pid, (uint64_t) ask->number << 20);
    packet_t tell = { TELL_MEASURED, ask->serial, ask->pid, 0 };
    packet_send (self->socket, &tell, &tree, sizeof tree, NULL, 0);
}

static void
s_reap (spawner_t *self)
{
    struct signalfd_siginfo info;
    while (read (self->signals, &info, sizeof info) > 0)
        ;
    int status;
    pid_t pid;
    while ((pid = waitpid (-1, &status, WNOHANG)) > 0) {
        pid_t *slot = s_child_slot (self, pid);
        if (slot)
            *slot = 0;
        packet_t tell = { TELL_ENDED, 0, pid, status };
        packet_send (self->socket, &tell, NULL, 0, NULL, 0);
    }
}

//  False: the actor is gone.
static bool
s_serve (spawner_t *self)
{
    packet_t ask;
    ssize_t size =
        packet_receive (self->socket, &ask, self->data, sizeof self->data, self->fds, &self->count);
    if (size == -1)
        return true;
    if (size < 0)
        return false;
    bool starts = ask.kind == ASK_START || ask.kind == ASK_KEEP;
    pid_t *ours = !starts && ask.pid > 0 ? s_child_slot (self, ask.pid) : NULL;
    if (starts)
        s_start (self, &ask, (size_t) size);
    else if (ask.kind == ASK_ADOPT)
        s_adopt (self, &ask, (size_t) size);
    else if (ask.kind == ASK_SIGNAL && ours)
        kill (process_innermost (ask.pid), ask.number);
    else if (ask.kind == ASK_KILL && ours)
        s_child_kill (self, ours);
    else if (ask.kind == ASK_SOCKETS && ours)
        s_sockets (self, &ask);
    else if (ask.kind == ASK_MEASURE && ours)
        s_measure (self, &ask);
    for (size_t n = 0; n < self->count; n++)
        close (self->fds [n]);
    return true;
}

//  Nobody is left behind but guards, not even as a zombie for init.
static void
s_end (spawner_t *self)
{
    size_t left = 0;
    for (size_t n = 0; n < CHILDREN_MAX; n++)
        if (self->children [n] && !self->guards [n]) {
            process_kill (self->children [n]);
            left++;
        }
    for (int turn = 0; turn < END_TURNS && left > 0; turn++) {
        pid_t pid = waitpid (-1, NULL, WNOHANG);
        if (pid > 0) {
            pid_t *slot = s_child_slot (self, pid);
            left -= slot && !self->guards [slot - self->children];
        }
        else if (pid < 0)
            break;
        else
            poll (NULL, 0, END_TURN);
    }
}

static void
s_run (int socket, pid_t starter)
{
    static spawner_t self;
    sigset_t signals;
    self.socket = socket;
    self.starter = starter;
    setsid ();
    prctl (PR_SET_NAME, "busbar-spawner");
    //  Whatever was inherited (the descriptor of secrets) is not ours.
    if (socket > 3)
        close_range (3, (unsigned) socket - 1, 0);
    close_range ((unsigned) socket + 1, ~0U, 0);
    clearenv ();
    sigfillset (&signals);
    sigprocmask (SIG_BLOCK, &signals, NULL);
    sigemptyset (&signals);
    sigaddset (&signals, SIGCHLD);
    self.signals = signalfd (-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    struct pollfd polls [] = { { socket, POLLIN, 0 }, { self.signals, POLLIN, 0 } };
    do {
        if (poll (polls, 2, -1) < 0 && errno != EINTR)
            break;
        if (polls [1].revents)
            s_reap (&self);
    } while (!polls [0].revents || s_serve (&self));
    s_end (&self);
}

//  ---- the other side ----

//  Become somebody else, and still die with the supervisor: the change of user forgets that wish.
static bool
s_become (uid_t user, gid_t group)
{
    int death = 0;
    pid_t parent = getppid ();
    prctl (PR_GET_PDEATHSIG, &death);
    return setgroups (0, NULL) == 0 && setresgid (group, group, group) == 0
           && setresuid (user, user, user) == 0 && prctl (PR_SET_PDEATHSIG, death) == 0
           && getppid () == parent;
}

bool
spawner_drop_root (int argc, char **argv)
{
    static const char flag [] = "--run-dir=";
    struct stat about;
    if (geteuid () != 0)
        return true;
    for (int n = 1; n < argc; n++)
        if (strncmp (argv [n], flag, sizeof flag - 1) == 0
            && stat (argv [n] + sizeof flag - 1, &about) == 0 && about.st_uid != 0)
            return s_become (about.st_uid, about.st_gid);
    return true;
}

static bool s_root;

bool
spawner_root (void)
{
    return s_root;
}

int
spawner_start (void)
{
    int ends [2];
    pid_t starter = getppid ();
    s_root = geteuid () == 0;
    if (socketpair (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return -1;
    pid_t pid = fork ();
    if (pid == 0) {
        close (ends [0]);
        s_run (ends [1], starter);
        _exit (0);
    }
    close (ends [1]);
    if (pid < 0) {
        close (ends [0]);
        return -1;
    }
    return ends [0];
}
