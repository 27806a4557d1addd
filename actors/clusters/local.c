//  local.c -- the provider on this machine: the dialogue with the spawner, and which sandbox is
//  possible.

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "local_inner.h"
#include "proto/log.h"
#include "proto/token.h"

static const char *const kind_names [] = { "none", "own uid in a user namespace", "own uid",
                                           "user namespace" };

void
local_ask (local_t *self, packet_kind_t kind, pid_t pid, int number)
{
    packet_t ask = { kind, 0, pid, number };
    packet_send (self->spawner, &ask, NULL, 0, NULL, 0);
}

void
local_relay (const provider_t *provider, const char *id, char path [108])
{
    const local_t *self = (const local_t *) provider;
    snprintf (path, 108, "%s/%s.r", self->conf.dir, id);
}

static const char *
s_missing (provider_t *provider, const char *type, bool *given)
{
    const local_t *self = (const local_t *) provider;
    *given = false;
    if (strcmp (type, "dask") == 0)
        return NULL;
    if (strcmp (type, "ray") == 0)
        return self->conf.ray_python ? NULL : "clusters.ray-python";
    *given = self->conf.spark_home;
    return "clusters.spark-home";
}

static bool
s_tells_load (const char *type)
{
    return strcmp (type, "ray") != 0;
}

static const char *
s_endpoint (const char *type, const char **variable, int *port)
{
    bool ray = strcmp (type, "ray") == 0;
    *variable = ray ? "RAY_ADDRESS" : "DASK_SCHEDULER_ADDRESS";
    *port = ray ? 10001 : 8786;
    return ray ? "ray://127.0.0.1:10001" : "tcp://127.0.0.1:8786";
}

//  ---- the probe ----

static void
s_probe_end (local_t *self, bool usable, const char *why)
{
    self->usable = usable;
    self->kind = self->probe.kind;
    self->probe.serial = 0;
    self->probe.pid = 0;
    self->probe.done (self->probe.arg, usable ? kind_names [self->kind] : NULL, why);
}

static bool
s_probe_start (local_t *self)
{
    static const char *const command [] = { "/usr/bin/true", NULL };
    sandbox_kind_t kind = self->probe.kind;
    bool own = kind != SANDBOX_USERNS;
    int fds [1 + BOX_FD_OWN] = { open ("/dev/null", O_WRONLY | O_CLOEXEC) };
    buf_t argv = { 0 };
    uid_t uid = own ? self->conf.uid_base : getuid ();
    bool ok = sandbox_files ("cluster", uid, own ? uid : getgid (), fds + 1);
    sandbox_argv (&argv, &(sandbox_argv_t) {
        .kind = kind, .uid = uid, .disk = self->conf.disk, .processes = self->conf.processes,
        .name = "cluster", .argv = command });
    packet_t ask = { ASK_START, self->probe.serial = ++self->serial, (int32_t) self->conf.disk,
                     kind == SANDBOX_OWN_UID ? (int32_t) uid : 0 };
    ok = ok && packet_send (self->spawner, &ask, argv.data, argv.size, fds, 1 + BOX_FD_OWN);
    for (size_t n = 0; n < 1 + BOX_FD_OWN; n++)
        if (fds [n] >= 0)
            close (fds [n]);
    buf_free (&argv);
    return ok;
}

static void
s_probe_next (local_t *self)
{
    sandbox_kind_t last = self->root ? SANDBOX_SETPRIV : SANDBOX_USERNS;
    while (self->probe.kind < last) {
        self->probe.kind++;
        if (self->root == (self->probe.kind != SANDBOX_USERNS) && s_probe_start (self))
            return;
    }
    s_probe_end (self, false, "bubblewrap cannot make a sandbox here");
}

void
local_probe (provider_t *provider, void (*done) (void *arg, const char *kind, const char *why),
             void *arg)
{
    local_t *self = (local_t *) provider;
    self->probe.done = done;
    self->probe.arg = arg;
    self->probe.kind = SANDBOX_NONE;
    s_probe_next (self);
}

//  ---- what the spawner tells ----

static nodes_t *
s_find (local_t *self, const packet_t *tell)
{
    for (nodes_t *nodes = self->all; nodes; nodes = nodes->next)
        if (nodes->state != NODES_ENDED
            && (tell->kind == TELL_STARTED ? !nodes->pid && nodes->serial == tell->serial
                                           : nodes->pid == tell->pid))
            return nodes;
    return NULL;
}

//  Was it about the probe?
static bool
s_about_probe (local_t *self, const packet_t *tell)
{
    if (tell->kind == TELL_STARTED && self->probe.serial && tell->serial == self->probe.serial) {
        self->probe.pid = tell->pid;
        if (tell->pid < 0)
            s_probe_next (self);
        return true;
    }
    if (tell->kind != TELL_ENDED || !self->probe.pid || tell->pid != self->probe.pid)
        return false;
    self->probe.pid = 0;
    if (tell->number == 0)
        s_probe_end (self, true, NULL);
    else
        s_probe_next (self);
    return true;
}

static void
s_on_spawner (void *arg, uint32_t events)
{
    (void) events;
    local_t *self = arg;
    packet_t tell;
    process_tree_t tree;
    int fds [SPAWNER_FDS];
    size_t count;
    ssize_t got;
    while ((got = packet_receive (self->spawner, &tell, &tree, sizeof tree, fds, &count)) >= 0) {
        nodes_t *nodes = s_about_probe (self, &tell) ? NULL : s_find (self, &tell);
        if (nodes && tell.kind == TELL_STARTED && count) {
            box_started (nodes, &tell, fds [0]);
            count = 0;
        }
        else if (nodes && tell.kind == TELL_STARTED)
            box_started (nodes, &tell, -1);
        else if (nodes && tell.kind == TELL_ENDED)
            box_ended (nodes);
        else if (nodes && tell.kind == TELL_MEASURED && got == sizeof tree)
            box_measured (nodes, tree);
        for (size_t n = 0; n < count; n++)
            close (fds [n]);
    }
    if (got == -2) {
        //  Started anew, this program finds its clusters again.
        log_error ("the process that starts clusters is gone");
        exit (70);
    }
}

//  ---- life ----

provider_t *
local_new (loop_t *loop, int spawner, const local_conf_t *conf)
{
    local_t *self = xcalloc (1, sizeof *self);
    self->base = (provider_t) { .name = "local", .missing = s_missing,
                                .tells_load = s_tells_load, .start = box_begin,
                                .attach = box_attach, .resize = box_resize, .stop = box_stop,
                                .leave = box_leave, .endpoint = s_endpoint };
    self->loop = loop;
    self->spawner = spawner;
    self->conf = *conf;
    self->root = spawner_root ();
    random_bytes (&self->serial, sizeof self->serial);
    self->serial |= 1;
    self->watch = loop_watch (loop, spawner, EPOLLIN, s_on_spawner, self);
    mkdir (conf->dir, 0700);
    return &self->base;
}

void
local_destroy (provider_t **self_p)
{
    local_t *self = (local_t *) *self_p;
    *self_p = NULL;
    if (!self)
        return;
    while (self->all)
        box_leave (&(nodes_t *) { self->all });
    watch_end (&self->watch);
    close (self->spawner);
    free (self);
}
