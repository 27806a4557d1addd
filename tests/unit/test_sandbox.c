//  test_sandbox.c -- what a cell may not do: each test is an attempt to get out, or to take more
//  than its share.

#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <arpa/inet.h>

#include "kernel_harness.h"

static const sandbox_conf_t conf = {
    .dir = "/tmp", .uid_base = 60600, .uid_count = 64, .disk = 32, .processes = 96
};
static bench_t s_bench;      //  one kernel for all; who kills it starts it anew

static void
s_start (void)
{
    bench_start (&s_bench, python_argv);
    bench_run (&s_bench,
               "import os, socket, ctypes, subprocess\n"
               "libc = ctypes.CDLL (None, use_errno = True)\n"
               "def attempt (fn, *args):\n"
               "    try: return repr (fn (*args))\n"
               "    except OSError as error: return 'refused'\n"
               "def call (name, *args):\n"
               "    return 'refused' if getattr (libc, name) (*args) == -1 else 'allowed'\n");
}

static int
setup (void **state)
{
    (void) state;
    bench_open (&s_bench, &conf);
    s_start ();
    return 0;
}

static int
teardown (void **state)
{
    (void) state;
    bench_close (&s_bench);
    return 0;
}

static void
s_expect (const char *code, const char *expected)
{
    const char *said = bench_run (&s_bench, code);
    if (strcmp (said, expected) != 0)
        fail_msg ("%s\n  said %s\n  instead of %s", code, said, expected);
}

static void
test_files_of_the_host_are_not_there (void **state)
{
    (void) state;
    s_expect ("print (sorted (os.listdir ('/')) == sorted (set (os.listdir ('/')) & "
              "{'bin', 'dev', 'etc', 'lib', 'lib32', 'lib64', 'libx32', 'proc', 'run', 'sbin', "
              "'tmp', 'usr'}))",
              "True\n");
    s_expect ("for path in ['/home', '/root', '/var', '/work', '/srv', '/opt', '/sys', '/boot', "
              "'/etc/shadow', '/etc/ssh',\n"
              "             '/etc/postgresql', '/run/postgresql', '/run/user', '/var/run', "
              "'/etc/ssl/private']:\n"
              "    if os.path.exists (path): print (path)",
              "");
    s_expect ("print (os.listdir ('/run'), sorted (os.listdir ('/run/k')))",
              "['k'] ['connection.json', 's-1', 's-2', 's-3', 's-4', 's-5']\n");
    s_expect ("print (len ([name for name in os.environ if 'SECRET' in name or 'DATABASE' in name "
              "or 'PG' in name]))",
              "0\n");
}

static void
test_nothing_is_inherited (void **state)
{
    (void) state;
    //  Whatever is open is a pipe, a socket or event of the kernel itself, or a file that it may
    //  read anyway.
    s_expect ("for fd in os.listdir ('/proc/self/fd'):\n"
              "    try: target = os.readlink ('/proc/self/fd/' + fd)\n"
              "    except OSError: continue\n"
              "    if not target.startswith (('pipe:', 'socket:', 'anon_inode:', '/dev/null', "
              "'/proc/', '/tmp/', '/usr/')): print (target)\n",
              "");
    s_expect ("print (open ('/proc/1/environ').read ().count ('='))", "1\n");
}

static void
test_files_cannot_be_changed (void **state)
{
    (void) state;
    s_expect (
        "for path in ['/x', '/usr/x', '/etc/x', '/etc/passwd', '/dev/x', '/run/x', '/usr/bin/x', "
        "'/proc/sys/kernel/hostname',\n"
        "             '/proc/self/oom_score_adj_', '/proc/sysrq-trigger', "
        "'/proc/sys/kernel/core_pattern']:\n"
        "    print (attempt (open, path, 'w'), end = ' ')",
        "refused refused refused refused refused refused refused refused refused refused refused ");
}

static void
test_other_processes_are_not_there (void **state)
{
    (void) state;
    s_expect ("print (max (int (pid) for pid in os.listdir ('/proc') if pid.isdigit ()) < 100)",
              "True\n");
    s_expect ("print (os.getuid () != 0, attempt (os.setuid, 0), attempt (os.kill, 1, 9))",
              "True refused None\n");
    s_expect ("status = open ('/proc/self/status').read ()\n"
              "print ([line.split () [1] for line in status.splitlines () if line.startswith "
              "(('CapEff', 'CapPrm', 'CapBnd', 'NoNewPrivs', 'Seccomp:'))])",
              "['0000000000000000', '0000000000000000', '0000000000000000', '1', '2']\n");
}

static void
test_sockets_of_the_host_are_not_there (void **state)
{
    (void) state;
    //  One in the file system that everybody may use, and an abstract one.
    struct sockaddr_un file = { .sun_family = AF_UNIX }, abstract = { .sun_family = AF_UNIX };
    snprintf (file.sun_path, sizeof file.sun_path, "/tmp/busbar-test-%d.s", getpid ());
    snprintf (abstract.sun_path + 1, sizeof abstract.sun_path - 1, "busbar-test-%d", getpid ());
    int fds [] = { socket (AF_UNIX, SOCK_STREAM, 0), socket (AF_UNIX, SOCK_STREAM, 0) };
    assert_int_equal (bind (fds [0], (struct sockaddr *) &file, sizeof file), 0);
    assert_int_equal (bind (fds [1], (struct sockaddr *) &abstract, sizeof abstract), 0);
    chmod (file.sun_path, 0777);
    assert_int_equal (listen (fds [0], 1) | listen (fds [1], 1), 0);
    char code [1024];
    snprintf (code, sizeof code,
              "s = socket.socket (socket.AF_UNIX)\n"
              "print (attempt (s.connect, '%s'), attempt (s.connect, '\\0' + '%s' + '\\0' * %zu))\n"
              "print (attempt (s.connect, '/run/postgresql/.s.PGSQL.5432'))",
              file.sun_path, abstract.sun_path + 1,
              sizeof abstract.sun_path - 1 - strlen (abstract.sun_path + 1));
    s_expect (code, "refused refused\nrefused\n");
    close (fds [0]);
    close (fds [1]);
    unlink (file.sun_path);
}

static void
test_there_is_no_network (void **state)
{
    (void) state;
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl (INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    int fd = socket (AF_INET, SOCK_STREAM, 0);
    assert_int_equal (bind (fd, (struct sockaddr *) &address, sizeof address), 0);
    assert_int_equal (listen (fd, 1), 0);
    getsockname (fd, (struct sockaddr *) &address, &size);
    char code [512];
    snprintf (code, sizeof code,
              "def reach (host, port): return attempt (socket.create_connection, (host, port), 3)\n"
              "print (reach ('127.0.0.1', %d), reach ('10.0.0.1', 80), reach ('169.254.169.254', "
              "80), reach ('deb.debian.org', 80))\n"
              "print ([name for _, name in socket.if_nameindex ()])",
              ntohs (address.sin_port));
    s_expect (code, "refused refused refused refused\n['lo']\n");
    s_expect ("for family in [socket.AF_PACKET, socket.AF_VSOCK, socket.AF_ALG, "
              "socket.AF_BLUETOOTH, 15, 40]:\n"
              "    print (attempt (socket.socket, family, socket.SOCK_RAW), end = ' ')",
              "refused refused refused refused refused refused ");
    close (fd);
}

static void
test_system_calls_are_refused (void **state)
{
    (void) state;
    s_expect ("print (call ('ptrace', 16, 1, 0, 0), call ('unshare', 0x10000000), call ('mount', "
              "b'none', b'/tmp', b'tmpfs', 0, None))",
              "refused refused refused\n");
    s_expect ("print (call ('process_vm_readv', 1, None, 0, None, 0, 0), call ('setns', 0, 0), "
              "call ('chroot', b'/tmp'))",
              "refused refused refused\n");
    s_expect ("print (call ('memfd_create', b'x', 0), call ('shmget', 0, 1 << 30, 0o1600))",
              "refused refused\n");
#ifdef __x86_64__
    //  bpf, perf_event_open, io_uring_setup, userfaultfd, kexec_load, open_by_handle_at, keyctl
    s_expect ("print ([call ('syscall', number, 0, 0, 0, 0, 0) for number in (321, 298, 425, 323, "
              "246, 304, 250)])",
              "['refused', 'refused', 'refused', 'refused', 'refused', 'refused', 'refused']\n");
#endif
    s_expect (
        "print (subprocess.run (['unshare', '-U', 'true'], capture_output = True).returncode != 0)",
        "True\n");
}

static void
test_disk_is_bounded (void **state)
{
    (void) state;
    s_expect ("def fill (dir):\n"
              "    total = 0\n"
              "    try:\n"
              "        for n in range (100):\n"
              "            with open (f'{dir}/fill{n}', 'wb', buffering = 0) as file:\n"
              "                for _ in range (16):\n"
              "                    total += file.write (b'x' * (1 << 20))\n"
              "    except OSError: pass\n"
              "    for n in range (100):\n"
              "        if os.path.exists (f'{dir}/fill{n}'): os.unlink (f'{dir}/fill{n}')\n"
              "    return total >> 20\n"
              "print (fill ('/tmp') <= 32, fill ('/dev/shm') <= 32, fill ('/run/k') <= 1)",
              "True True True\n");
}

static void
test_a_fork_bomb_stops_itself (void **state)
{
    (void) state;
    s_expect ("children = []\n"
              "try:\n"
              "    while len (children) < 1000:\n"
              "        pid = os.fork ()\n"
              "        if pid == 0:\n"
              "            import time; time.sleep (60); os._exit (0)\n"
              "        children.append (pid)\n"
              "except OSError: pass\n"
              "for pid in children: os.kill (pid, 9); os.waitpid (pid, 0)\n"
              "print (10 < len (children) < 96)", "True\n");
}

static void
test_a_real_fork_bomb_hurts_nobody (void **state)
{
    (void) state;
    bool never = false;
    bench_begin (&s_bench, "import os\nwhile True:\n    try: os.fork ()\n    except OSError: pass");
    bench_wait (&s_bench, &never, 2);
    assert_true (bench_measure (&s_bench, INT32_MAX).processes <= 100);
    box_kill (s_bench.box);
    assert_true (bench_wait (&s_bench, &s_bench.ended, 10));
    bench_stop (&s_bench);
    s_start ();
}

static void
test_memory_is_seen (void **state)
{
    (void) state;
    uint64_t before = bench_measure (&s_bench, 0).memory;
    bench_run (
        &s_bench,
        "block = bytearray (100 << 20)\nfor n in range (0, len (block), 4096): block [n] = 1");
    uint64_t after = bench_measure (&s_bench, 0).memory;
    assert_in_range (after - before, 90 << 20, 130 << 20);
    //  Shared with a child it counts once.
    bench_run (&s_bench,
               "import time\npid = os.fork ()\nif pid == 0: time.sleep (60); os._exit (0)");
    assert_true (bench_measure (&s_bench, 0).memory < after + (60 << 20));
    bench_run (&s_bench, "os.kill (pid, 9); os.waitpid (pid, 0); del block");
}

static void
test_kernels_do_not_see_one_another (void **state)
{
    (void) state;
    bench_t other;
    bench_open (&other, &conf);
    bench_start (&other, python_argv);
    bench_run (&other, "open ('/tmp/mine', 'w').write ('secret')");
    s_expect ("print (os.listdir ('/tmp').count ('mine'))", "0\n");
    if (geteuid () == 0) {
        char uid [32];
        snprintf (uid, sizeof uid, "%s", bench_run (&other, "import os; print (os.getuid ())"));
        assert_string_not_equal (bench_run (&s_bench, "print (os.getuid ())"), uid);
    }
    bench_close (&other);
}

static void
test_a_planted_link_is_not_followed (void **state)
{
    (void) state;
    //  Sockets were taken by inode before any cell ran: what a cell puts in their place changes
    //  nothing.
    s_expect ("for n in range (1, 6): os.rename (f'/run/k/s-{n}', f'/run/k/old-{n}'); os.symlink "
              "('/proc/1/root/run/x', f'/run/k/s-{n}')\n"
              "print ('done')",
              "done\n");
    s_expect ("print ('still here')", "still here\n");
    s_expect ("for n in range (1, 6): os.unlink (f'/run/k/s-{n}'); os.rename (f'/run/k/old-{n}', "
              "f'/run/k/s-{n}')",
              "");
}

//  Run fn in a process whose user namespace has ids 0 … `ids` - 1 and allows no further one. Its
//  exit code.
static int
s_without_user_namespaces (unsigned ids, int (*fn) (void))
{
    int ready [2], mapped [2], status;
    char byte = 0, path [64], map [32];
    assert_int_equal (pipe (ready) | pipe (mapped), 0);
    pid_t pid = fork ();
    if (pid == 0) {
        if (unshare (CLONE_NEWUSER) != 0)
            _exit (100);
        if (write (ready [1], &byte, 1) != 1 || read (mapped [0], &byte, 1) != 1)
            _exit (101);
        int fd = open ("/proc/sys/user/max_user_namespaces", O_WRONLY);
        if (setresgid (0, 0, 0) != 0 || setresuid (0, 0, 0) != 0 || write (fd, "0", 1) != 1)
            _exit (102);
        _exit (fn ());
    }
    assert_int_equal (read (ready [0], &byte, 1), 1);
    const char *const maps [] = { "uid_map", "gid_map" };
    for (size_t n = 0; n < 2; n++) {
        snprintf (path, sizeof path, "/proc/%d/%s", pid, maps [n]);
        int size = snprintf (map, sizeof map, "0 0 %u", ids), fd = open (path, O_WRONLY);
        assert_int_equal (write (fd, map, (size_t) size), size);
        close (fd);
    }
    assert_int_equal (write (mapped [1], &byte, 1), 1);
    assert_int_equal (waitpid (pid, &status, 0), pid);
    close (ready [0]);
    close (ready [1]);
    close (mapped [0]);
    close (mapped [1]);
    return WIFEXITED (status) ? WEXITSTATUS (status) : -1;
}

static const char *s_probed;
static char s_why [256];

static void
on_probe (void *arg, const char *kind, const char *why)
{
    s_probed = kind;
    snprintf (s_why, sizeof s_why, "%s", why ? why : "");
    *(bool *) arg = true;
}

static int
s_probe_refuses (void)
{
    bool done = false;
    bench_t bench = { .loop = loop_new () };
    bench.sandbox = sandbox_new (bench.loop, spawner_start (), &conf);
    sandbox_probe (bench.sandbox, on_probe, &done);
    if (!bench_wait (&bench, &done, 10))
        return 1;
    return s_probed || !*s_why                                                 ? 2
           : box_start (bench.sandbox, &(box_conf_t){ 0 }, &(box_life_t){ 0 }) ? 3
                                                                               : 0;
}

//  Only who says so gets kernels without a sandbox.
static int
s_bare_serves (void)
{
    bench_t bench;
    char dir [] = "/tmp/bareXXXXXX";
    sandbox_conf_t bare = conf;
    bare.unsandboxed = true;
    bare.dir = mkdtemp (dir);
    bench_open (&bench, &bare);
    if (!sandbox_kind (bench.sandbox) || strcmp (sandbox_kind (bench.sandbox), "none") != 0)
        return 1;
    bench_start (&bench, python_argv);
    int code = strcmp (bench_run (&bench, "print (6 * 7)"), "42\n") == 0 ? 0 : 2;
    box_kill (bench.box);
    code |= bench_wait (&bench, &bench.ended, 10) ? 0 : 4;
    bench_close (&bench);
    //  Its directory went with it.
    return rmdir (dir) == 0 ? code : 8;
}

//  Root without user namespaces: setpriv gives the uid.
static int
s_setpriv_serves (void)
{
    bench_t bench;
    bench_open (&bench, &conf);
    if (!sandbox_kind (bench.sandbox) || strcmp (sandbox_kind (bench.sandbox), "own uid") != 0)
        return 1;
    bench_start (&bench, python_argv);
    const char *said =
        bench_run (&bench, "import os\nstatus = open ('/proc/self/status').read ()\n"
                           "print (os.getuid () >= 60600, os.getgid () >= 60600, os.getgroups (), "
                           "all (line.endswith ('\\t0000000000000000') for line in "
                           "status.splitlines () if line.startswith ('Cap')), "
                           "os.access ('/root', os.F_OK), open ('/tmp/x', 'w').write ('y'))");
    int code = strcmp (said, "True True [] True False 1\n") == 0 ? 0 : 2;
    if (code)
        print_message ("said %s\n", said);
    bench_close (&bench);
    return code;
}

static void
test_without_sandbox_nothing_is_started (void **state)
{
    (void) state;
    if (geteuid () != 0)
        skip ();
    assert_int_equal (s_without_user_namespaces (1, s_probe_refuses), 0);
}

static void
test_bare_kernels_are_possible (void **state)
{
    (void) state;
    if (geteuid () != 0)
        skip ();
    assert_int_equal (s_without_user_namespaces (1, s_bare_serves), 0);
}

static void
test_root_needs_no_user_namespaces (void **state)
{
    (void) state;
    if (geteuid () != 0)
        skip ();
    assert_int_equal (s_without_user_namespaces (65536, s_setpriv_serves), 0);
}

int
main (int argc, char **argv)
{
    if (!bench_possible ())
        return 0;
    if (argc > 1)
        cmocka_set_test_filter (argv [1]);
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (test_files_of_the_host_are_not_there),
        cmocka_unit_test (test_nothing_is_inherited),
        cmocka_unit_test (test_files_cannot_be_changed),
        cmocka_unit_test (test_other_processes_are_not_there),
        cmocka_unit_test (test_sockets_of_the_host_are_not_there),
        cmocka_unit_test (test_there_is_no_network),
        cmocka_unit_test (test_system_calls_are_refused),
        cmocka_unit_test (test_disk_is_bounded),
        cmocka_unit_test (test_a_fork_bomb_stops_itself),
        cmocka_unit_test (test_a_real_fork_bomb_hurts_nobody),
        cmocka_unit_test (test_memory_is_seen),
        cmocka_unit_test (test_kernels_do_not_see_one_another),
        cmocka_unit_test (test_a_planted_link_is_not_followed),
        cmocka_unit_test (test_without_sandbox_nothing_is_started),
        cmocka_unit_test (test_bare_kernels_are_possible),
        cmocka_unit_test (test_root_needs_no_user_namespaces),
    };
    return cmocka_run_group_tests (tests, setup, teardown);
}
