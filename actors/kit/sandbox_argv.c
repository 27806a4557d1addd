//  sandbox_argv.c -- what a box sees of the machine is what this list names.

#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox_argv.h"
#include "seccomp.h"
#include "spawner.h"

//  Read-only, where they exist. Nothing with secrets in it, nothing of a home, nothing of /var or
//  /run.
static const char *const etc [] = { "/etc/alternatives",    "/etc/ld.so.cache", "/etc/ld.so.conf",
                                   "/etc/ld.so.conf.d",    "/etc/localtime",   "/etc/timezone",
                                   "/etc/fonts",           "/etc/R",           "/etc/ssl/certs",
                                   "/etc/ssl/openssl.cnf", "/etc/mime.types",  "/etc/matplotlibrc",
                                   "/etc/papersize",       "/etc/magic",       "/etc/python3",
                                   "/etc/python3.11",      "/etc/python3.12",  "/etc/python3.13" };

//  Of a merged /usr these are links, of others directories.
static const char *const roots [] = { "bin", "sbin", "lib", "lib32", "lib64", "libx32" };

static void
s_add (buf_t *out, const char *word)
{
    buf_put (out, word, strlen (word) + 1);
}

static void
s_add_all (buf_t *out, ...)
{
    va_list words;
    va_start (words, out);
    for (const char *word; (word = va_arg (words, const char *));)
        s_add (out, word);
    va_end (words);
}

static void
s_add_number (buf_t *out, const char *prefix, uint64_t number, const char *suffix)
{
    char word [64];
    snprintf (word, sizeof word, "%s%llu%s", prefix, (unsigned long long) number, suffix);
    s_add (out, word);
}

static void
s_namespaces (buf_t *out, const sandbox_argv_t *box)
{
    sandbox_kind_t kind = box->kind;
    s_add (out, "/usr/bin/bwrap");
    if (kind != SANDBOX_SETPRIV)
        s_add (out, "--unshare-user");
    s_add_all (out, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts",
               "--unshare-cgroup-try", "--die-with-parent", "--new-session", "--clearenv",
               "--hostname", box->name, "--cap-drop", "ALL", NULL);
    if (kind == SANDBOX_SETPRIV)
        s_add_all (out, "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add",
                   "CAP_SETPCAP", NULL);
}

static void
s_system (buf_t *out)
{
    char from [16], to [24];
    struct stat about;
    s_add_all (out, "--ro-bind", "/usr", "/usr", NULL);
    for (size_t n = 0; n < sizeof roots / sizeof *roots; n++) {
        snprintf (from, sizeof from, "/%s", roots [n]);
        snprintf (to, sizeof to, "usr/%s", roots [n]);
        if (lstat (from, &about) != 0)
            continue;
        if (S_ISLNK (about.st_mode))
            s_add_all (out, "--symlink", to, from, NULL);
        else
            s_add_all (out, "--ro-bind", from, from, NULL);
    }
    s_add_all (out, "--perms", "0755", "--dir", "/etc", NULL);
    for (size_t n = 0; n < sizeof etc / sizeof *etc; n++)
        s_add_all (out, "--ro-bind-try", etc [n], etc [n], NULL);
}

static void
s_disk (buf_t *out, uint64_t size, const char *mode, const char *path)
{
    s_add (out, "--size");
    s_add_number (out, "", size, "");
    s_add_all (out, "--perms", mode, "--tmpfs", path, NULL);
}

static void
s_file (buf_t *out, int fd, const char *path)
{
    s_add_all (out, "--perms", "0644", "--file", NULL);
    s_add_number (out, "", (uint64_t) SPAWNER_FIRST_FD + (uint64_t) fd, "");
    s_add (out, path);
}

//  All that can be written has a size, and the root and /dev, memory disks without one, become
//  read-only.
static void
s_writable (buf_t *out, const sandbox_argv_t *box)
{
    uint64_t disk = (uint64_t) box->disk << 20;
    s_add_all (out, "--proc", "/proc", "--dev", "/dev", NULL);
    s_disk (out, disk, "1777", "/dev/shm");
    s_disk (out, disk, "1777", "/tmp");
    if (box->connection) {
        s_add_all (out, "--perms", "0755", "--dir", "/run", NULL);
        //  Not sticky: ipykernel replaces its connection file, which root may have written.
        s_disk (out, 1 << 20, "0777", SPAWNER_SOCKET_DIR);
        s_file (out, BOX_FD_OWN, BOX_CONNECTION_FILE);
    }
    s_file (out, BOX_FD_PASSWD, "/etc/passwd");
    s_file (out, BOX_FD_GROUP, "/etc/group");
    s_file (out, BOX_FD_HOSTS, "/etc/hosts");
    s_file (out, BOX_FD_NSSWITCH, "/etc/nsswitch.conf");
    if (box->dir && strncmp (box->dir, "/usr/", 5) != 0)
        s_add_all (out, "--ro-bind", box->dir, box->dir, NULL);
    s_add_all (out, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp", "--seccomp",
               NULL);
    s_add_number (out, "", SPAWNER_FIRST_FD + BOX_FD_SECCOMP, "");
}

static void
s_environment (buf_t *out, const sandbox_argv_t *box)
{
    const char *const always [] = { "PATH",    "/usr/local/bin:/usr/bin:/bin",
                                    "HOME",    "/tmp",
                                    "TMPDIR",  "/tmp",
                                    "USER",    box->name,
                                    "LOGNAME", box->name,
                                    "LANG",    "C.UTF-8",
                                    "TERM",    "dumb",
                                    "SHELL",   "/bin/sh",
                                    NULL };
    for (const char *const *pair = always; *pair; pair += 2)
        s_add_all (out, "--setenv", pair [0], pair [1], NULL);
    for (const char *const *pair = box->env; pair && *pair; pair += 2)
        s_add_all (out, "--setenv", pair [0], pair [1], NULL);
}

static void
s_command (buf_t *out, const sandbox_argv_t *box, const char *connection)
{
    static const char hole [] = "{connection_file}";
    for (const char *const *word = box->argv; *word; word++) {
        const char *at = connection ? strstr (*word, hole) : NULL;
        if (at) {
            buf_put (out, *word, (size_t) (at - *word));
            buf_puts (out, connection);
            s_add (out, at + sizeof hole - 1);
        }
        else
            s_add (out, *word);
    }
}

void
sandbox_argv (buf_t *out, const sandbox_argv_t *box)
{
    if (box->kind == SANDBOX_NONE) {
        s_add_all (out, "/usr/bin/env", "HOME=/tmp", "LANG=C.UTF-8", NULL);
        s_command (out, box, box->connection);
        return;
    }
    s_namespaces (out, box);
    s_system (out);
    s_writable (out, box);
    s_environment (out, box);
    s_add (out, "--");
    if (box->kind == SANDBOX_SETPRIV) {
        s_add (out, "/usr/bin/setpriv");
        s_add_number (out, "--reuid=", box->uid, "");
        s_add_number (out, "--regid=", box->uid, "");
        s_add_all (out, "--clear-groups", "--bounding-set=-all", "--inh-caps=-all",
                   "--no-new-privs", NULL);
    }
    //  Behind the user namespace: before it, the limit would count what else this user runs.
    s_add (out, "/usr/bin/prlimit");
    s_add_number (out, "--nproc=", box->processes, "");
    s_command (out, box, box->connection ? BOX_CONNECTION_FILE : NULL);
}

//  ---- files ----

int
sandbox_file (text_t content)
{
    int fd = memfd_create ("box", MFD_CLOEXEC);
    if (fd >= 0
        && (write (fd, content.data, content.size) != (ssize_t) content.size
            || lseek (fd, 0, SEEK_SET) != 0)) {
        close (fd);
        return -1;
    }
    return fd;
}

bool
sandbox_files (const char *name, uid_t uid, gid_t gid, int fds [BOX_FD_OWN])
{
    buf_t text [BOX_FD_OWN] = { { 0 } };
    bool ok = true;
    buf_putf (&text [BOX_FD_PASSWD], "%s:x:%u:%u:%s:/tmp:/bin/sh\n", name, uid, gid, name);
    buf_putf (&text [BOX_FD_GROUP], "%s:x:%u:\n", name, gid);
    buf_putf (&text [BOX_FD_HOSTS], "127.0.0.1 localhost %s\n::1 localhost\n", name);
    buf_puts (&text [BOX_FD_NSSWITCH], "passwd: files\ngroup: files\nhosts: files\n");
    for (size_t n = 0; n < BOX_FD_OWN; n++) {
        fds [n] = n == BOX_FD_SECCOMP ? seccomp_program () : sandbox_file (buf_text (&text [n]));
        ok &= fds [n] >= 0;
        buf_free (&text [n]);
    }
    return ok;
}
