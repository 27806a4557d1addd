//  local_box.c -- one cluster on this machine: its box, and the conversation with the keeper in it.

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "db/sql.h"
#include "local_inner.h"
#include "proto/json.h"
#include "proto/log.h"

//  The whole program that runs in a box.
SQL_FILE (keeper_py, "actors/clusters/keeper.py");

#define LOOK_EVERY 1000          //  ms between looks at memory and silence
#define SILENCE_MAX 30000        //  ms: a keeper speaks twice a second
#define STOP_PATIENCE 3000       //  ms until a box that does not end is killed
#define HEAD_MEMORY 1024         //  MiB for scheduler and keeper
#define LINE_MAX (64 << 10)

//  Descriptors of a box beside those that every box has.
enum { FD_CONTROL = BOX_FD_OWN, FD_RELAY, FD_KEEPER, FDS };

static void
s_path (const nodes_t *self, const char *suffix, char path [108])
{
    snprintf (path, 108, "%s/%s.%s", self->local->conf.dir, self->id, suffix);
}

//  Which start of the machine this is: pids and start times mean nothing in another one.
static const char *
s_machine (void)
{
    static char boot [64];
    int fd = boot [0] ? -1 : open ("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t size = read (fd, boot, sizeof boot - 1);
        boot [size > 0 ? size : 0] = 0;
        boot [strcspn (boot, "\n")] = 0;
        close (fd);
    }
    return boot;
}

//  ---- the end ----

static void
s_free (nodes_t *self)
{
    for (nodes_t **at = &self->local->all; *at; at = &(*at)->next)
        if (*at == self) {
            *at = self->next;
            break;
        }
    watch_end (&self->death);
    watch_end (&self->reader);
    ltimer_end (&self->timer);
    if (self->pidfd >= 0)
        close (self->pidfd);
    if (self->control >= 0)
        close (self->control);
    buf_free (&self->line);
    free (self);
}

//  The last that it wrote, in one line.
static void
s_last_words (const nodes_t *self, char *out, size_t room)
{
    char path [108];
    s_path (self, "log", path);
    int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    off_t size = fd >= 0 ? lseek (fd, 0, SEEK_END) : 0;
    off_t from = size > (off_t) room - 1 ? size - (off_t) room + 1 : 0;
    ssize_t got = fd >= 0 ? pread (fd, out, room - 1, from) : 0;
    if (fd >= 0)
        close (fd);
    while (got > 0 && (out [got - 1] == '\n' || out [got - 1] == ' '))
        got--;
    out [got > 0 ? got : 0] = 0;
    char *line = strrchr (out, '\n');
    if (line)
        memmove (out, line + 1, strlen (line));
    if (!text_utf8 (text_of (out)))
        out [0] = 0;
}

void
box_ended (nodes_t *self)
{
    char path [108], said [512], why [640];
    if (self->state == NODES_ENDED)
        return;
    self->state = NODES_ENDED;
    s_last_words (self, said, sizeof said);
    snprintf (why, sizeof why, "%s",
              self->stopping ? "stopped" : self->limit ? self->limit : said [0] ? said
              : "its processes ended without a word");
    static const char *const suffixes [] = { "c", "r", "log" };
    for (size_t n = 0; n < sizeof suffixes / sizeof *suffixes; n++) {
        s_path (self, suffixes [n], path);
        unlink (path);
    }
    self->calls.ended (self->calls.arg, why);
    s_free (self);
}

static void
s_on_death (void *arg, uint32_t events)
{
    (void) events;
    box_ended (arg);
}

void
box_leave (nodes_t **self_p)
{
    nodes_t *self = *self_p;
    *self_p = NULL;
    if (self)
        s_free (self);
}

static void
s_kill (nodes_t *self)
{
    if (self->pid > 0)
        local_ask (self->local, ASK_KILL, self->pid, 0);
}

static void
s_tell (nodes_t *self, const char *line)
{
    size_t size = strlen (line);
    if (self->control >= 0 && send (self->control, line, size, MSG_NOSIGNAL | MSG_DONTWAIT)
                                  != (ssize_t) size)
        log_warn ("keeper of a cluster does not listen", "cluster", self->id);
}

void
box_resize (nodes_t *self, int64_t workers)
{
    char line [64];
    self->wanted = workers;
    self->memory = ((uint64_t) workers * self->local->conf.memory + HEAD_MEMORY) << 20;
    snprintf (line, sizeof line, "{\"target\": %lld}\n", (long long) workers);
    s_tell (self, line);
}

void
box_stop (nodes_t *self, bool at_once)
{
    self->stopping = true;
    if (at_once || self->control < 0) {
        s_kill (self);
        self->kill_at = loop_now (self->local->loop) + STOP_PATIENCE;
        return;
    }
    s_tell (self, "{\"stop\": true}\n");
    self->kill_at = loop_now (self->local->loop) + STOP_PATIENCE;
}

//  ---- what the keeper says ----

static void
s_hear (nodes_t *self, text_t line)
{
    char why [128];
    buf_t value = { 0 };
    if (json_read (line, &value, why, sizeof why)) {
        mp_t said = mp_buf (&value);
        char *last = mp_empty (mp_get (said, "why")) ? NULL
                                                     : text_copy (mp_text (mp_get (said, "why")));
        report_t report = { mp_bool (mp_get (said, "up")), mp_int (mp_get (said, "workers")),
                            mp_int (mp_get (said, "desired")), mp_int (mp_get (said, "lost")),
                            mp_int (mp_get (said, "idle")), last };
        self->heard = loop_now (self->local->loop);
        self->calls.said (self->calls.arg, &report);
        free (last);
    }
    buf_free (&value);
}

static void
s_on_control (void *arg, uint32_t events)
{
    (void) events;
    nodes_t *self = arg;
    char piece [2048];
    ssize_t size = read (self->control, piece, sizeof piece);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size <= 0) {
        //  Its end is told by the death of its guard.
        watch_end (&self->reader);
        close (self->control);
        self->control = -1;
        self->kill_at = loop_now (self->local->loop) + STOP_PATIENCE;
        return;
    }
    buf_put (&self->line, piece, (size_t) size);
    char *end;
    while (self->line.size && (end = memchr (self->line.data, '\n', self->line.size))) {
        size_t length = (size_t) (end - (char *) self->line.data);
        s_hear (self, (text_t) { (char *) self->line.data, length });
        memmove (self->line.data, end + 1, self->line.size - length - 1);
        self->line.size -= length + 1;
    }
    if (self->line.size > LINE_MAX)
        buf_clear (&self->line);
}

static bool
s_connect (nodes_t *self)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    s_path (self, "c", address.sun_path);
    self->control = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (self->control < 0
        || connect (self->control, (struct sockaddr *) &address, sizeof address) != 0)
        return false;
    self->reader = loop_watch (self->local->loop, self->control, EPOLLIN, s_on_control, self);
    return true;
}

//  ---- the watch over it ----

static void
s_on_timer (void *arg)
{
    nodes_t *self = arg;
    int64_t now = loop_now (self->local->loop);
    ltimer_set (self->timer, LOOK_EVERY);
    if (self->pid <= 0)
        return;
    if (!self->stopping && !self->limit && now - self->heard > SILENCE_MAX) {
        self->limit = "does not answer any more";
        self->kill_at = now;
    }
    if (self->kill_at && now >= self->kill_at)
        s_kill (self);
    local_ask (self->local, ASK_MEASURE, self->pid, (int) (self->memory >> 20));
}

void
box_measured (nodes_t *self, process_tree_t tree)
{
    if (tree.memory <= self->memory || self->limit || self->stopping)
        return;
    snprintf (self->limit_text, sizeof self->limit_text, "memory limit of %llu MiB exceeded",
              (unsigned long long) self->memory >> 20);
    self->limit = self->limit_text;
    s_kill (self);
}

//  ---- the beginning ----

static bool
s_uid_free (local_t *self, uint32_t uid)
{
    for (nodes_t *nodes = self->all; nodes; nodes = nodes->next)
        if (nodes->uid == uid)
            return false;
    return true;
}

//  0: all are taken.
static uint32_t
s_uid (local_t *self)
{
    for (uint32_t n = 0; n < self->conf.uid_count; n++) {
        uint32_t uid = self->conf.uid_base + self->next_uid;
        self->next_uid = (self->next_uid + 1) % self->conf.uid_count;
        if (s_uid_free (self, uid))
            return uid;
    }
    return 0;
}

static nodes_t *
s_new (local_t *local, const nodes_conf_t *conf, const nodes_calls_t *calls)
{
    nodes_t *self = xcalloc (1, sizeof *self);
    self->local = local;
    self->calls = *calls;
    self->pidfd = self->control = -1;
    self->heard = loop_now (local->loop);
    snprintf (self->id, sizeof self->id, "%s", conf->id);
    self->next = local->all;
    local->all = self;
    self->timer = loop_timer (local->loop, s_on_timer, self);
    ltimer_set (self->timer, LOOK_EVERY);
    self->serial = ++local->serial;
    box_resize (self, conf->workers);
    return self;
}

void
box_started (nodes_t *self, const packet_t *tell, int pidfd)
{
    char text [256];
    if (tell->pid < 0 || pidfd < 0) {
        if (pidfd >= 0)
            close (pidfd);
        self->limit = self->adopted ? "its processes are gone" : "its processes cannot be started";
        box_ended (self);
        return;
    }
    self->pid = tell->pid;
    self->pidfd = pidfd;
    self->death = loop_watch (self->local->loop, pidfd, EPOLLIN, s_on_death, self);
    self->state = NODES_ALIVE;
    if (self->stopping)
        s_kill (self);
    if (self->adopted)
        return;
    snprintf (text, sizeof text,
              "{\"provider\":\"local\",\"pid\":%d,\"started\":%llu,\"uid\":%u,\"machine\":\"%s\"}",
              self->pid, (unsigned long long) process_started (self->pid), self->uid,
              s_machine ());
    self->calls.begun (self->calls.arg, text_of (text));
}

//  A box that nobody has written down, because its actor died first, makes room.
static void
s_oust (nodes_t *self)
{
    if (s_connect (self))
        s_tell (self, "{\"stop\": true}\n");
    watch_end (&self->reader);
    if (self->control >= 0)
        close (self->control);
    self->control = -1;
}

static int
s_listen (nodes_t *self, const char *suffix)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    s_path (self, suffix, address.sun_path);
    unlink (address.sun_path);
    int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0
        && (bind (fd, (struct sockaddr *) &address, sizeof address) != 0
            || listen (fd, 128) != 0)) {
        close (fd);
        return -1;
    }
    return fd;
}

static void
s_argv (nodes_t *self, const nodes_conf_t *conf, buf_t *out)
{
    local_t *local = self->local;
    char options [1024], script [32], control [16], relay [16], root [512] = "";
    bool ray = strcmp (conf->type, "ray") == 0;
    const char *python = ray ? local->conf.ray_python : "/usr/bin/python3";
    snprintf (options, sizeof options,
              "{\"kind\":\"%s\",\"workers\":%lld,\"memory\":%u,\"python\":\"%s\"}", conf->type,
              (long long) conf->workers, local->conf.memory, python);
    snprintf (script, sizeof script, "/proc/self/fd/%d", SPAWNER_FIRST_FD + FD_KEEPER);
    snprintf (control, sizeof control, "%d", SPAWNER_FIRST_FD + FD_CONTROL);
    snprintf (relay, sizeof relay, "%d", SPAWNER_FIRST_FD + FD_RELAY);
    //  PREFIX/bin/python: all of PREFIX is seen.
    if (ray && strstr (python, "/bin/"))
        snprintf (root, sizeof root, "%.*s", (int) (strstr (python, "/bin/") - python), python);
    const char *const argv [] = { "/usr/bin/python3", "-I", script, options, control, relay, NULL };
    static const char *const env [] = { "OMP_NUM_THREADS", "1", NULL };
    sandbox_argv (out, &(sandbox_argv_t) {
        .kind = local->kind, .uid = self->uid, .disk = local->conf.disk,
        .processes = local->conf.processes, .name = "cluster", .argv = argv, .env = env,
        .dir = root [0] ? root : NULL });
}

//  Stdout, then what every box needs, then its sockets and its keeper.
static bool
s_files (nodes_t *self, int fds [1 + FDS])
{
    char path [108];
    s_path (self, "log", path);
    for (size_t n = 0; n < 1 + FDS; n++)
        fds [n] = -1;
    bool own = self->uid;
    fds [0] = open (path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = sandbox_files ("cluster", own ? self->uid : getuid (), own ? self->uid : getgid (),
                             fds + 1);
    fds [1 + FD_CONTROL] = s_listen (self, "c");
    fds [1 + FD_RELAY] = s_listen (self, "r");
    fds [1 + FD_KEEPER] = sandbox_file (text_of (keeper_py));
    for (size_t n = 0; n < 1 + FDS; n++)
        ok &= fds [n] >= 0;
    return ok;
}

nodes_t *
box_begin (provider_t *provider, const nodes_conf_t *conf, const nodes_calls_t *calls,
           const char **why)
{
    local_t *local = (local_t *) provider;
    int fds [1 + FDS];
    buf_t argv = { 0 };
    bool own = local->kind == SANDBOX_OWN_UID || local->kind == SANDBOX_SETPRIV;
    uint32_t uid = own ? s_uid (local) : 0;
    *why = !local->usable ? "clusters need a sandbox, and none is possible here"
         : own && !uid    ? "too many clusters run on this machine already" : NULL;
    if (*why)
        return NULL;
    nodes_t *self = s_new (local, conf, calls);
    self->uid = uid;
    s_oust (self);
    bool ok = s_files (self, fds);
    s_argv (self, conf, &argv);
    packet_t ask = { ASK_KEEP, self->serial, (int32_t) local->conf.disk,
                     local->kind == SANDBOX_OWN_UID ? (int32_t) uid : 0 };
    ok = ok && argv.size < SPAWNER_PACKET && s_connect (self)
         && packet_send (local->spawner, &ask, argv.data, argv.size, fds, 1 + FDS);
    for (size_t n = 0; n < 1 + FDS; n++)
        if (fds [n] >= 0)
            close (fds [n]);
    buf_free (&argv);
    if (ok)
        return self;
    log_error ("cluster not started", "cluster", self->id, "error", strerror (errno));
    *why = "its processes cannot be started";
    s_free (self);
    return NULL;
}

nodes_t *
box_attach (provider_t *provider, const nodes_conf_t *conf, mp_t runtime,
            const nodes_calls_t *calls, const char **why)
{
    local_t *local = (local_t *) provider;
    pid_t pid = (pid_t) mp_int (mp_get (runtime, "pid"));
    uint64_t started = mp_uint (mp_get (runtime, "started"));
    bool here = text_is (mp_text (mp_get (runtime, "machine")), s_machine ());
    *why = here ? "its processes ended while nobody looked after it" : "the machine was restarted";
    if (pid <= 0 || !started || !here || process_started (pid) != started)
        return NULL;
    nodes_t *self = s_new (local, conf, calls);
    self->uid = (uint32_t) mp_uint (mp_get (runtime, "uid"));
    self->adopted = true;
    packet_t ask = { ASK_ADOPT, self->serial, pid, 0 };
    if (s_connect (self)
        && packet_send (local->spawner, &ask, &started, sizeof started, NULL, 0)) {
        box_resize (self, conf->workers);
        return self;
    }
    s_free (self);
    return NULL;
}
