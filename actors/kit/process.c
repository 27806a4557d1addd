//  process.c -- walks process trees in /proc.

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "process.h"

#define TREE_MAX 2048
#define DEPTH_MAX 8          //  bwrap is two deep

//  Content of a small file of /proc, terminated; false when the process is gone.
static bool
s_read (const char *path, char *out, size_t room)
{
    int fd = open (path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t size = read (fd, out, room - 1);
    close (fd);
    out [size > 0 ? size : 0] = 0;
    return size >= 0;
}

//  Children that one thread of a process has forked; appended to `out`.
static size_t
s_children (pid_t pid, const char *task, pid_t *out, size_t room)
{
    static char list [16384];
    char path [320];
    size_t count = 0;
    snprintf (path, sizeof path, "/proc/%d/task/%s/children", pid, task);
    if (!s_read (path, list, sizeof list))
        return 0;
    for (char *at = list, *next; count < room; at = next) {
        long child = strtol (at, &next, 10);
        if (next == at)
            break;
        out [count++] = (pid_t) child;
    }
    return count;
}

static pid_t
s_first_child (pid_t pid)
{
    char task [16];
    pid_t child = 0;
    snprintf (task, sizeof task, "%d", pid);
    return s_children (pid, task, &child, 1) ? child : 0;
}

bool
process_is (pid_t pid, const char *name)
{
    char path [64], text [32];
    size_t size = strlen (name);
    snprintf (path, sizeof path, "/proc/%d/comm", pid);
    return s_read (path, text, sizeof text) && strncmp (text, name, size) == 0
           && strcmp (text + size, "\n") == 0;
}

static bool
s_is_bwrap (pid_t pid)
{
    return process_is (pid, "bwrap");
}

uint64_t
process_started (pid_t pid)
{
    char path [64], text [1024];
    unsigned long long ticks = 0;
    snprintf (path, sizeof path, "/proc/%d/stat", pid);
    //  The name in parentheses may hold anything; the state behind it is the third of its fields.
    const char *at = s_read (path, text, sizeof text) ? strrchr (text, ')') : NULL;
    for (int field = 2; at && field < 22; field++)
        at = strchr (at + 1, ' ');
    return at && sscanf (at, " %llu", &ticks) == 1 ? ticks : 0;
}

pid_t
process_innermost (pid_t root)
{
    pid_t pid = root;
    for (int depth = 0; depth < DEPTH_MAX && s_is_bwrap (pid); depth++) {
        pid_t child = s_first_child (pid);
        if (!child)
            break;
        pid = child;
    }
    return pid;
}

void
process_kill (pid_t root)
{
    if (s_is_bwrap (root)) {
        pid_t first = s_first_child (root);
        if (first)
            kill (first, SIGKILL);
    }
    //  It leads a session of its own, so the group is its.
    kill (-root, SIGKILL);
    kill (root, SIGKILL);
}

static uint64_t
s_resident (pid_t pid)
{
    char path [64], text [128];
    unsigned long long pages = 0;
    snprintf (path, sizeof path, "/proc/%d/statm", pid);
    if (s_read (path, text, sizeof text))
        sscanf (text, "%*u %llu", &pages);
    return pages * (uint64_t) sysconf (_SC_PAGESIZE);
}

//  Shared pages divided by who shares them; the plain number where we may not look.
static uint64_t
s_proportional (pid_t pid)
{
    static char text [4096];
    char path [64];
    unsigned long long kib;
    snprintf (path, sizeof path, "/proc/%d/smaps_rollup", pid);
    const char *line = s_read (path, text, sizeof text) ? strstr (text, "\nPss:") : NULL;
    return line && sscanf (line, "\nPss: %llu", &kib) == 1 ? kib * 1024 : s_resident (pid);
}

static size_t
s_all_children (pid_t pid, pid_t *out, size_t room)
{
    char path [64];
    size_t count = 0;
    snprintf (path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir (path);
    if (!tasks)
        return 0;
    for (struct dirent *task; (task = readdir (tasks)) && count < room;)
        if (task->d_name [0] != '.')
            count += s_children (pid, task->d_name, out + count, room - count);
    closedir (tasks);
    return count;
}

process_tree_t
process_measure (pid_t root, uint64_t closer)
{
    static pid_t pids [TREE_MAX];
    process_tree_t tree = { 1, 0 };
    pids [0] = root;
    for (size_t n = 0; n < tree.processes; n++) {
        tree.memory += s_resident (pids [n]);
        tree.processes +=
            s_all_children (pids [n], pids + tree.processes, TREE_MAX - tree.processes);
    }
    if (tree.memory > closer && tree.processes > 1) {
        tree.memory = 0;
        for (size_t n = 0; n < tree.processes; n++)
            tree.memory += s_proportional (pids [n]);
    }
    return tree;
}

uint64_t
process_own_memory (void)
{
    return s_resident (getpid ());
}
