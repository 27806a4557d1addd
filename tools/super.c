//  super.c -- keeps processes running: restart at once, then with backoff, and not for ever.

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "process.h"
#include "proto/json.h"

#define BACKOFF_FIRST 100
#define BACKOFF_MAX 5000
#define SETTLED          10000  //  ms alive after which a process is taken as healthy again
#define INTENSITY_WINDOW 60000           //  ten restarts in this many ms are borne, one more is not
#define AGAIN_MS 1000

struct super {
    loop_t *loop;
    const place_t *place;
    void (*ended) (void *arg, int code);
    void *arg;
    process_t *processes;        //  in order of their start
    bool stopping;
    int stage;                   //  being ended, while stopping
    int64_t asked;               //  loop ms of the first wish to stop
    int code;
    int port;                    //  -1: no list is kept
    hook_t publish;
    hook_t advance;              //  looks whether a stage has ended
};

static void s_begin (process_t *process);

//  ---- the list of what runs ----

static void
s_publish (void *arg)
{
    super_t *self = arg;
    if (self->port < 0)
        return;
    buf_t json = { 0 };
    buf_putf (&json, "{\"supervisor\": %d, \"port\": %d, \"processes\": [", (int) getpid (),
              self->port);
    const char *comma = "";
    for (process_t *process = self->processes; process; process = process->next) {
        if (process->spec.done)
            continue;
        buf_putf (&json, "%s\n  {\"name\": ", comma);
        json_quote (text_of (process->spec.name), &json);
        buf_puts (&json, ", \"slot\": ");
        json_quote (text_of (process->spec.slot), &json);
        buf_putf (&json, ", \"pid\": %d, \"restarts\": %llu}", (int) process->pid,
                  (unsigned long long) process->restarts);
        comma = ",";
    }
    buf_puts (&json, "]}\n");
    char *path = text_format ("%s/pids.json", self->place->run);
    if (!file_write (path, buf_text (&json), 0644, false))
        log_warn ("cannot write", "path", path, "error", strerror (errno));
    free (path);
    buf_free (&json);
}

void
super_publish (super_t *self, int port)
{
    self->port = port;
    loop_at_end (self->loop, &self->publish);
}

//  ---- ending ----

//  The process and whatever shares its session's first group.
static void
s_kill (void *arg)
{
    process_t *process = arg;
    if (process->pid <= 0)
        return;
    log_warn ("does not end, is killed", "slot", process->spec.slot, "pid", log_num (process->pid));
    kill (process->pid, SIGKILL);
    kill (-process->pid, SIGKILL);
}

static void
s_tell (super_t *self, process_t *process)
{
    if (process->told)
        return;
    process->told = true;
    kill (process->pid, process->spec.stop_signal);
    ltimer_end (&process->again);
    process->again = loop_timer (self->loop, s_kill, process);
    ltimer_set (process->again, process->spec.patience);
}

//  Processes that a child left behind have become ours (we are the subreaper): they end with us.
static void
s_kill_orphans (void)
{
    for (int turn = 0; turn < 100; turn++) {
        char *path = text_format ("/proc/self/task/%d/children", (int) getpid ());
        char *list = file_read (path, NULL);
        free (path);
        for (char *at = list, *end; at && (end = at, strtol (at, &end, 10) > 0 && end != at);
             at = end)
            kill ((pid_t) strtol (at, NULL, 10), SIGKILL);
        bool some = list && *list;
        free (list);
        if (!some || waitpid (-1, NULL, 0) < 0)
            return;
    }
}

static void
s_advance (void *arg)
{
    super_t *self = arg;
    if (!self->stopping || self->stage < 0)
        return;
    for (; self->stage >= 0; self->stage--) {
        bool some = false;
        for (process_t *process = self->processes; process; process = process->next)
            if (process->pid > 0 && (int) process->spec.stage == self->stage) {
                s_tell (self, process);
                some = true;
            }
        if (some)
            return;
    }
    s_kill_orphans ();
    self->ended (self->arg, self->code);
}

void
super_stop (super_t *self)
{
    if (self->stopping) {
        //  One wish may come as two signals, to us and to our group.
        if (loop_now (self->loop) - self->asked < AGAIN_MS)
            return;
        log_warn ("asked again to stop: everything ends at once");
        for (process_t *process = self->processes; process; process = process->next)
            if (process->pid > 0)
                kill (process->pid, process->spec.stage == STAGE_DATABASE ? SIGQUIT : SIGKILL);
        return;
    }
    self->stopping = true;
    self->asked = loop_now (self->loop);
    self->stage = STAGE_COUNT - 1;
    for (process_t *process = self->processes; process; process = process->next)
        ltimer_end (&process->again);
    loop_at_end (self->loop, &self->advance);
}

void
super_fail (super_t *self)
{
    self->code = DONE_ERROR;
    if (!self->stopping)
        super_stop (self);
}

//  ---- a child has ended ----

static void
s_again (void *arg)
{
    process_t *process = arg;
    process->restarts++;
    s_begin (process);
}

//  Too often? The ring holds the times of the last ten restarts.
static bool
s_too_often (process_t *process, int64_t now)
{
    size_t slots = sizeof process->recent / sizeof *process->recent;
    int64_t *oldest = &process->recent [process->oldest];
    bool often = *oldest && now - *oldest < INTENSITY_WINDOW;
    *oldest = now;
    process->oldest = (process->oldest + 1) % slots;
    return often;
}

//  `waits`: it could not begin yet, because of somebody else.
static void
s_restart (super_t *self, process_t *process, const char *how, bool waits)
{
    int64_t now = loop_now (self->loop);
    if (now - process->since >= SETTLED)
        process->backoff = 0;
    if (!waits && s_too_often (process, now)) {
        log_error ("ended too often, everything is stopped", "slot", process->spec.slot, "how",
                   how);
        super_fail (self);
        return;
    }
    log_error ("ended, starts again", "slot", process->spec.slot, "how", how,
               "in_ms", log_num (process->backoff));
    if (!process->again)
        process->again = loop_timer (self->loop, s_again, process);
    ltimer_set (process->again, process->backoff);
    int64_t twice = process->backoff * 2;
    process->backoff = twice == 0 ? BACKOFF_FIRST : twice > BACKOFF_MAX ? BACKOFF_MAX : twice;
}

static void
s_ended (super_t *self, process_t *process, int status)
{
    int code = WIFSIGNALED (status) ? 128 + WTERMSIG (status) : WEXITSTATUS (status);
    char *how = WIFSIGNALED (status)
        ? text_format ("signal %d (%s)", WTERMSIG (status), strsignal (WTERMSIG (status)))
        : text_format ("exit code %d", code);
    process_ended (process);
    if (self->stopping) {
        ltimer_end (&process->again);
        loop_at_end (self->loop, &self->advance);
    }
    else if (process->spec.done)
        process->spec.done (process->spec.arg, code);
    else
        s_restart (self, process, how, code == EX_TEMPFAIL);
    free (how);
}

//  The list is written while the pid is still taken: nobody reads one there that nobody has, or
//  somebody else.
static void
s_reap (void *arg)
{
    super_t *self = arg;
    siginfo_t about = { 0 };
    while (waitid (P_ALL, 0, &about, WEXITED | WNOHANG | WNOWAIT) == 0 && about.si_pid > 0) {
        process_t *process = self->processes;
        while (process && process->pid != about.si_pid)
            process = process->next;
        if (process) {
            process->pid = 0;
            s_publish (self);
        }
        int status = 0;
        waitpid (about.si_pid, &status, 0);
        if (process)
            s_ended (self, process, status);
        about.si_pid = 0;
    }
}

//  ---- life ----

static void
s_begin (process_t *process)
{
    super_t *self = process->super;
    if (self->stopping)
        return;
    if (!process_start (process, self->loop, self->place)) {
        super_fail (self);
        return;
    }
    log_info ("started", "slot", process->spec.slot, "pid", log_num (process->pid));
    loop_at_end (self->loop, &self->publish);
}

void
super_run (super_t *self, const process_spec_t *spec)
{
    process_t *process = process_new (self, spec);
    process_t **link = &self->processes;
    while (*link)
        link = &(*link)->next;
    *link = process;
    s_begin (process);
}

void
super_signal (super_t *self, const char *name, int signo)
{
    for (process_t *process = self->processes; process; process = process->next)
        if (process->pid > 0 && strcmp (process->spec.name, name) == 0)
            kill (process->pid, signo);
}

super_t *
super_new (loop_t *loop, const place_t *place, void (*ended) (void *arg, int code), void *arg)
{
    super_t *self = xcalloc (1, sizeof *self);
    self->loop = loop;
    self->place = place;
    self->ended = ended;
    self->arg = arg;
    self->port = -1;
    self->publish = (hook_t) { .fn = s_publish, .arg = self };
    self->advance = (hook_t) { .fn = s_advance, .arg = self };
    prctl (PR_SET_CHILD_SUBREAPER, 1);
    loop_signal (loop, SIGCHLD, s_reap, self);
    return self;
}

void
super_destroy (super_t **self_p)
{
    super_t *self = *self_p;
    if (!self)
        return;
    loop_forget (self->loop, &self->publish);
    loop_forget (self->loop, &self->advance);
    while (self->processes) {
        process_t *process = self->processes;
        self->processes = process->next;
        process_destroy (&process);
    }
    free (self);
    *self_p = NULL;
}
