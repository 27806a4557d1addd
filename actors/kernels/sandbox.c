//  sandbox.c -- boxes: asks the spawner, follows their life by pidfd, keeps what they say at the
//  end.

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/log.h"
#include "proto/token.h"
#include "sandbox.h"

#define SAID_MAX 8192        //  of a box's own output, the last half of it at least
#define SOCKETS_EVERY 20     //  ms between looks for a starting kernel's sockets
#define STATUS_LATE 1000     //  ms from a death by pidfd to its wait status
#define SPAWNER_END 2000     //  ms that the spawner has for its end
#define LINGER 1000          //  ms that descriptors named in endpoints stay ours after the end

#define BOX_FDS (BOX_FD_OWN + 1)      //  with the connection file

typedef enum { BOX_STARTING, BOX_BINDING, BOX_BOUND, BOX_ENDED } box_state_t;

struct box {
    sandbox_t *sandbox;
    box_t *next;
    box_life_t life;
    box_state_t state;
    bool orphan;                         //  the owner is gone
    bool killed;
    bool asked;                          //  for sockets, no answer yet
    uint32_t serial;
    uint32_t uid;                        //  0: not of its own
    pid_t pid;
    int pidfd, output;
    watch_t *death, *reader;
    ltimer_t *timer;
    buf_t said;
    int sockets [SPAWNER_SOCKETS];       //  -1: none
    char endpoints [JUPYTER_CHANNELS][128];
    char dir [64];                       //  without sandbox; empty otherwise
};

struct sandbox {
    loop_t *loop;
    int spawner;
    watch_t *watch;
    sandbox_conf_t conf;
    bool root;
    bool known;                          //  the probe ended
    sandbox_kind_t kind;
    bool usable;
    box_t *boxes;
    uint32_t serial;
    uint32_t next_uid;                   //  not the same again at once
    struct {
        sandbox_kind_t kind;
        box_t *box;
        void (*done) (void *arg, const char *kind, const char *why);
        void *arg;
        char why [256];
    } probe;
};

static const char *const kind_names [] = { "none", "own uid in a user namespace", "own uid",
                                          "user namespace" };

//  ---- the end of a box ----

static void
s_box_free (box_t *self)
{
    for (box_t **at = &self->sandbox->boxes; *at; at = &(*at)->next)
        if (*at == self) {
            *at = self->next;
            break;
        }
    watch_end (&self->death);
    watch_end (&self->reader);
    ltimer_end (&self->timer);
    if (self->pidfd >= 0)
        close (self->pidfd);
    if (self->output >= 0)
        close (self->output);
    for (size_t n = 0; n < SPAWNER_SOCKETS; n++)
        if (self->sockets [n] >= 0)
            close (self->sockets [n]);
    if (self->dir [0]) {
        char path [96];
        for (int n = 0; n <= SPAWNER_SOCKETS; n++) {
            snprintf (path, sizeof path, n ? "%s/s-%d" : "%s/connection.json", self->dir, n);
            unlink (path);
        }
        rmdir (self->dir);
    }
    buf_free (&self->said);
    free (self);
}

static void
s_read_output (box_t *self)
{
    char piece [2048];
    ssize_t size;
    while (self->output >= 0 && (size = read (self->output, piece, sizeof piece)) != -1) {
        if (size == 0) {
            watch_end (&self->reader);
            close (self->output);
            self->output = -1;
            break;
        }
        buf_put (&self->said, piece, (size_t) size);
        if (self->said.size > SAID_MAX) {
            memmove (self->said.data, self->said.data + self->said.size - SAID_MAX / 2,
                     SAID_MAX / 2);
            self->said.size = SAID_MAX / 2;
        }
    }
}

static void
s_on_output (void *arg, uint32_t events)
{
    (void) events;
    s_read_output (arg);
}

//  Who names our descriptors in an endpoint may try to connect once more while it is being closed.
static void
s_box_linger (box_t *self)
{
    ltimer_set (self->timer, LINGER);
}

static void
s_box_ended (box_t *self, int status)
{
    if (self->state == BOX_ENDED)
        return;
    self->state = BOX_ENDED;
    watch_end (&self->death);
    ltimer_stop (self->timer);
    s_read_output (self);
    if (self->orphan)
        s_box_linger (self);
    else
        self->life.ended (self->life.arg, status, buf_text (&self->said));
}

static void
s_on_death (void *arg, uint32_t events)
{
    (void) events;
    box_t *self = arg;
    //  Its status comes from the spawner, in a moment.
    watch_set (self->death, 0);
    ltimer_set (self->timer, STATUS_LATE);
    self->killed = true;
}

//  ---- what the spawner tells ----

static void
s_ask (sandbox_t *self, packet_kind_t kind, pid_t pid, int number)
{
    packet_t ask = { kind, 0, pid, number };
    packet_send (self->spawner, &ask, NULL, 0, NULL, 0);
}

static void
s_on_timer (void *arg)
{
    box_t *self = arg;
    if (self->state == BOX_ENDED)
        s_box_free (self);
    else if (self->killed && self->death)
        s_box_ended (self, -1);
    else if (self->state == BOX_BINDING) {
        if (!self->asked)
            s_ask (self->sandbox, ASK_SOCKETS, self->pid, 0);
        self->asked = true;
        ltimer_set (self->timer, SOCKETS_EVERY);
    }
}

static void
s_box_bound (box_t *self)
{
    const char *endpoints [JUPYTER_CHANNELS];
    //  The connection file's order is shell, iopub, stdin, control, hb.
    for (size_t n = 0; n < JUPYTER_CHANNELS; n++) {
        if (self->dir [0])
            snprintf (self->endpoints [n], sizeof self->endpoints [n], "ipc://%s/s-%zu", self->dir,
                      n + 1);
        else
            snprintf (self->endpoints [n], sizeof self->endpoints [n], "ipc:///proc/self/fd/%d",
                      self->sockets [n]);
        endpoints [n] = self->endpoints [n];
    }
    self->state = BOX_BOUND;
    ltimer_stop (self->timer);
    self->life.bound (self->life.arg, endpoints);
}

static void
s_on_started (box_t *self, const packet_t *tell, int pidfd)
{
    if (tell->pid < 0) {
        log_error ("kernel process not started", "error", strerror (tell->number));
        s_box_ended (self, -1);
        return;
    }
    self->pid = tell->pid;
    self->pidfd = pidfd;
    if (pidfd >= 0)
        self->death = loop_watch (self->sandbox->loop, pidfd, EPOLLIN, s_on_death, self);
    self->state = BOX_BINDING;
    if (self->orphan)
        box_kill (self);
    else if (self->dir [0])
        s_box_bound (self);
    else
        ltimer_set (self->timer, SOCKETS_EVERY);
}

static void
s_on_sockets (box_t *self, const int *fds, size_t count)
{
    self->asked = false;
    if (self->state != BOX_BINDING || self->orphan || count != SPAWNER_SOCKETS) {
        for (size_t n = 0; n < count; n++)
            close (fds [n]);
        return;
    }
    memcpy (self->sockets, fds, sizeof self->sockets);
    s_box_bound (self);
}

static box_t *
s_find (sandbox_t *self, const packet_t *tell)
{
    for (box_t *box = self->boxes; box; box = box->next)
        if (box->state != BOX_ENDED
            && (tell->kind == TELL_STARTED
                    ? box->state == BOX_STARTING && box->serial == tell->serial
                    : box->state != BOX_STARTING && box->pid == tell->pid))
            return box;
    return NULL;
}

static void
s_on_spawner (void *arg, uint32_t events)
{
    (void) events;
    sandbox_t *self = arg;
    packet_t tell;
    process_tree_t tree;
    int fds [SPAWNER_FDS];
    size_t count;
    ssize_t got;
    while ((got = packet_receive (self->spawner, &tell, &tree, sizeof tree, fds, &count)) >= 0) {
        box_t *box = s_find (self, &tell);
        if (box && tell.kind == TELL_STARTED)
            s_on_started (box, &tell, count ? fds [0] : -1);
        else if (box && tell.kind == TELL_SOCKETS)
            s_on_sockets (box, fds, count);
        else
            for (size_t n = 0; n < count; n++)
                close (fds [n]);
        if (box && tell.kind == TELL_MEASURED && got == sizeof tree && !box->orphan)
            box->life.measured (box->life.arg, tree);
        else if (box && tell.kind == TELL_ENDED)
            s_box_ended (box, tell.number);
    }
    if (got == -2) {
        //  Everything it had started dies with it; without it we are of no use, and started anew
        //  all is well.
        log_error ("the process that starts kernels is gone");
        exit (70);
    }
}

//  ---- starting ----

static bool
s_uid_free (sandbox_t *self, uint32_t uid)
{
    for (box_t *box = self->boxes; box; box = box->next)
        if (box->uid == uid && box->state != BOX_ENDED)
            return false;
    return true;
}

//  0: all are taken.
static uint32_t
s_uid (sandbox_t *self)
{
    for (uint32_t n = 0; n < self->conf.uid_count; n++) {
        uint32_t uid = self->conf.uid_base + self->next_uid;
        self->next_uid = (self->next_uid + 1) % self->conf.uid_count;
        if (s_uid_free (self, uid))
            return uid;
    }
    return 0;
}

static bool
s_files (box_t *self, const box_conf_t *conf, int fds [BOX_FDS])
{
    uid_t uid = self->uid ? self->uid : getuid ();
    gid_t gid = self->uid ? self->uid : getgid ();
    buf_t text = { 0 };
    jupyter_connection_file (&text, SPAWNER_SOCKET_DIR "/s", conf->key, conf->kernel);
    bool ok = sandbox_files ("kernel", uid, gid, fds);
    fds [BOX_FD_OWN] = sandbox_file (buf_text (&text));
    buf_free (&text);
    return ok && fds [BOX_FD_OWN] >= 0;
}

//  Without sandbox: a directory of its own with the connection file in it.
static bool
s_bare_dir (box_t *self, const box_conf_t *conf, char connection [96])
{
    char name [9];
    uint8_t random [4];
    random_bytes (random, sizeof random);
    for (size_t n = 0; n < sizeof random; n++)
        snprintf (name + 2 * n, 3, "%02x", random [n]);
    //  Longer ones would not fit into the address of a socket either.
    if (snprintf (self->dir, sizeof self->dir, "%s/%s", self->sandbox->conf.dir, name)
        >= (int) sizeof self->dir) {
        self->dir [0] = 0;
        return false;
    }
    snprintf (connection, 96, "%s/connection.json", self->dir);
    char prefix [80];
    snprintf (prefix, sizeof prefix, "%s/s", self->dir);
    mkdir (self->sandbox->conf.dir, 0700);
    int fd = mkdir (self->dir, 0700) == 0
                 ? open (connection, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)
                 : -1;
    if (fd < 0)
        return false;
    buf_t text = { 0 };
    jupyter_connection_file (&text, prefix, conf->key, conf->kernel);
    bool ok = write (fd, text.data, text.size) == (ssize_t) text.size;
    buf_free (&text);
    close (fd);
    return ok;
}

static bool
s_box_ask (box_t *self, sandbox_kind_t kind, const box_conf_t *conf)
{
    sandbox_t *sandbox = self->sandbox;
    int fds [SPAWNER_FDS], pipes [2];
    char connection [96] = "";
    buf_t argv = { 0 };
    for (size_t n = 0; n < SPAWNER_FDS; n++)
        fds [n] = -1;
    bool ok = pipe2 (pipes, O_CLOEXEC) == 0;
    if (ok) {
        self->output = pipes [0];
        fds [0] = pipes [1];
        fcntl (self->output, F_SETFL, O_NONBLOCK);
        self->reader = loop_watch (sandbox->loop, self->output, EPOLLIN, s_on_output, self);
        ok = kind == SANDBOX_NONE ? s_bare_dir (self, conf, connection)
                                  : s_files (self, conf, fds + 1);
    }
    memcpy (fds + 1 + BOX_FDS, conf->fds, conf->fd_count * sizeof *fds);
    sandbox_argv (&argv, &(sandbox_argv_t) {
        .kind = kind, .uid = self->uid, .disk = sandbox->conf.disk,
        .processes = sandbox->conf.processes, .name = "kernel", .argv = conf->argv,
        .env = conf->env, .dir = conf->dir, .connection = connection });
    packet_t ask = { ASK_START, self->serial, (int32_t) sandbox->conf.disk,
                     kind == SANDBOX_OWN_UID ? (int32_t) self->uid : 0 };
    ok = ok && argv.size < SPAWNER_PACKET
         && packet_send (sandbox->spawner, &ask, argv.data, argv.size, fds,
                         kind == SANDBOX_NONE ? 1 : 1 + BOX_FDS + conf->fd_count);
    for (size_t n = 0; n < 1 + BOX_FDS; n++)
        if (fds [n] >= 0)
            close (fds [n]);
    buf_free (&argv);
    return ok;
}

static box_t *
s_box_new (sandbox_t *sandbox, sandbox_kind_t kind, const box_conf_t *conf, const box_life_t *life)
{
    bool own = kind == SANDBOX_OWN_UID || kind == SANDBOX_SETPRIV;
    uint32_t uid = own ? s_uid (sandbox) : 0;
    if (own && !uid)
        return NULL;
    box_t *self = xcalloc (1, sizeof *self);
    self->sandbox = sandbox;
    self->life = *life;
    self->serial = ++sandbox->serial;
    self->uid = uid;
    self->pidfd = self->output = -1;
    for (size_t n = 0; n < SPAWNER_SOCKETS; n++)
        self->sockets [n] = -1;
    self->timer = loop_timer (sandbox->loop, s_on_timer, self);
    self->next = sandbox->boxes;
    sandbox->boxes = self;
    if (!s_box_ask (self, kind, conf)) {
        log_error ("kernel process not started", "error", strerror (errno));
        s_box_free (self);
        return NULL;
    }
    return self;
}

box_t *
box_start (sandbox_t *sandbox, const box_conf_t *conf, const box_life_t *life)
{
    return sandbox->usable ? s_box_new (sandbox, sandbox->kind, conf, life) : NULL;
}

void
box_destroy (box_t **self_p)
{
    box_t *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    self->orphan = true;
    if (self->state == BOX_ENDED)
        s_box_linger (self);
    else
        box_kill (self);
}

void
box_signal (box_t *self, int signo)
{
    if (self->pid && self->state != BOX_ENDED)
        s_ask (self->sandbox, ASK_SIGNAL, self->pid, signo);
}

void
box_kill (box_t *self)
{
    if (self->pid && self->state != BOX_ENDED)
        s_ask (self->sandbox, ASK_KILL, self->pid, 0);
}

void
box_measure (box_t *self, uint64_t closer)
{
    if (self->pid && self->state != BOX_ENDED)
        s_ask (self->sandbox, ASK_MEASURE, self->pid, (int) (closer >> 20));
}

//  ---- the probe ----

static void s_probe_next (sandbox_t *self);

static void
s_probe_bound (void *arg, const char *const endpoints [JUPYTER_CHANNELS])
{
    (void) arg;
    (void) endpoints;
}

static void
s_probe_measured (void *arg, process_tree_t tree)
{
    (void) arg;
    (void) tree;
}

static void
s_probe_end (sandbox_t *self, bool usable, sandbox_kind_t kind)
{
    self->known = true;
    self->usable = usable;
    self->kind = kind;
    self->probe.done (self->probe.arg, sandbox_kind (self), usable ? NULL : self->probe.why);
}

static void
s_probe_ended (void *arg, int status, text_t said)
{
    sandbox_t *self = arg;
    box_destroy (&self->probe.box);
    if (status == 0) {
        s_probe_end (self, true, self->probe.kind);
        return;
    }
    while (said.size && (said.data [said.size - 1] == '\n' || said.data [said.size - 1] == ' '))
        said.size--;
    if (WIFEXITED (status) && WEXITSTATUS (status) == 127)
        snprintf (self->probe.why, sizeof self->probe.why, "bubblewrap is not installed");
    else
        snprintf (self->probe.why, sizeof self->probe.why, "%.*s", (int) said.size, said.data);
    s_probe_next (self);
}

static void
s_probe_next (sandbox_t *self)
{
    static const char *const command [] = { "/usr/bin/true", NULL };
    box_conf_t conf = { .argv = command, .kernel = "probe", .key = "probe" };
    box_life_t life = { s_probe_bound, s_probe_ended, s_probe_measured, self };
    sandbox_kind_t last = self->root ? SANDBOX_SETPRIV : SANDBOX_USERNS;
    while (!self->probe.box && self->probe.kind < last) {
        self->probe.kind++;
        if (self->root == (self->probe.kind != SANDBOX_USERNS))
            self->probe.box = s_box_new (self, self->probe.kind, &conf, &life);
    }
    if (!self->probe.box)
        s_probe_end (self, self->conf.unsandboxed, SANDBOX_NONE);
}

void
sandbox_probe (sandbox_t *self, void (*done) (void *arg, const char *kind, const char *why),
               void *arg)
{
    self->probe.done = done;
    self->probe.arg = arg;
    self->probe.kind = SANDBOX_NONE;
    snprintf (self->probe.why, sizeof self->probe.why, "no process could be started");
    s_probe_next (self);
}

const char *
sandbox_kind (const sandbox_t *self)
{
    return self->known && self->usable ? kind_names [self->kind] : NULL;
}

//  ---- life ----

sandbox_t *
sandbox_new (loop_t *loop, int spawner, const sandbox_conf_t *conf)
{
    sandbox_t *self = xcalloc (1, sizeof *self);
    self->loop = loop;
    self->spawner = spawner;
    self->conf = *conf;
    self->root = spawner_root ();
    random_bytes (&self->serial, sizeof self->serial);
    self->watch = loop_watch (loop, spawner, EPOLLIN, s_on_spawner, self);
    return self;
}

void
sandbox_destroy (sandbox_t **self_p)
{
    sandbox_t *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    watch_end (&self->watch);
    while (self->boxes) {
        box_kill (self->boxes);
        s_box_free (self->boxes);
    }
    //  The spawner sees it and ends, and whatever is left of its children with it.
    struct pollfd end = { self->spawner, POLLIN, 0 };
    packet_t tell;
    int fds [SPAWNER_FDS];
    size_t count;
    shutdown (self->spawner, SHUT_WR);
    while (poll (&end, 1, SPAWNER_END) > 0
           && packet_receive (self->spawner, &tell, NULL, 0, fds, &count) != -2)
        while (count > 0)
            close (fds [--count]);
    close (self->spawner);
    free (self);
}
