//  kernel.c -- states, queue and watch of one kernel.

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/wait.h>

#include "actors/kit/fsm.h"
#include "kernel_inner.h"
#include "proto/json.h"
#include "proto/log.h"
#include "proto/token.h"

#define LOOK_BUSY 200            //  ms between looks at memory while a cell runs
#define LOOK_IDLE 2000

//  from, event, to
static const move_t moves [] = {
    { "starting", "ready", "idle", NULL },
    { "idle", "run", "busy", NULL },
    { "busy", "done", "idle", NULL },
    { "busy", "interrupt", "interrupting", NULL },
    { "interrupting", "done", "idle", NULL },
    { "starting", "stop", "stopping", NULL },
    { "idle", "stop", "stopping", NULL },
    { "busy", "stop", "stopping", NULL },
    { "interrupting", "stop", "stopping", NULL },
    { "starting", "died", "dead", NULL },
    { "idle", "died", "dead", NULL },
    { "busy", "died", "dead", NULL },
    { "interrupting", "died", "dead", NULL },
    { "stopping", "died", "dead", NULL },
    { 0 } };

static void s_next (kernel_t *self);

//  ---- states ----

bool
kernel_step (kernel_t *self, const char *event)
{
    const char *state = fsm_step (moves, self->state, event, self);
    if (!state)
        return false;
    self->state = state;
    ltimer_set (self->look, self->running ? LOOK_BUSY : LOOK_IDLE);
    self->conf->calls.kernel (self->conf->calls.arg, self, state);
    return true;
}

static void
s_free (kernel_t *self)
{
    jupyter_destroy (&self->jupyter);
    box_destroy (&self->box);
    relay_destroy (&self->relay);
    ltimer_end (&self->flush);
    ltimer_end (&self->look);
    ltimer_end (&self->harsh);
    ltimer_end (&self->farewell);
    free (self->language);
    free (self->notebook);
    free (self->session);
    free (self->user);
    free (self);
}

//  The last line of what a process said, for people.
static void
s_last_line (text_t said, char *out, size_t room)
{
    while (said.size && (said.data [said.size - 1] == '\n' || said.data [said.size - 1] == ' '))
        said.size--;
    size_t from = said.size;
    while (from && said.data [from - 1] != '\n')
        from--;
    text_t line = { said.data + from, said.size - from };
    if (line.size > 200)
        line.size = 200;
    while (line.size && !text_utf8 (line))
        line.size--;
    snprintf (out, room, "%.*s", (int) line.size, line.size ? line.data : "");
}

static void
s_why_dead (kernel_t *self, int status, text_t said, char *why, size_t room)
{
    char line [256];
    s_last_line (said, line, sizeof line);
    if (self->out_of_memory)
        snprintf (why, room, "memory limit of %llu MiB exceeded",
                  (unsigned long long)self->conf->memory >> 20);
    else if (self->late)
        snprintf (why, room, "kernel was not ready in time");
    else if (strcmp (self->state, "starting") == 0)
        snprintf (why, room, "kernel did not start%s%s", *line ? ": " : "", line);
    else if (WIFSIGNALED (status) || (WIFEXITED (status) && WEXITSTATUS (status) > 128))
        snprintf (why, room, "kernel was killed by signal %d",
                  WIFSIGNALED (status) ? WTERMSIG (status) : WEXITSTATUS (status) - 128);
    else
        snprintf (why, room, "kernel exited with code %d",
                  WIFEXITED (status) ? WEXITSTATUS (status) : -1);
}

static void
s_on_ended (void *arg, int status, text_t said)
{
    kernel_t *self = arg;
    char why [512];
    s_why_dead (self, status, said, why, sizeof why);
    self->gone = true;
    if (strcmp (self->state, "stopping") != 0)
        log_warn ("kernel died", "kernel", self->id, "language", self->language, "why", why);
    cells_fail (self, "failed", "aborted", self->out_of_memory ? "OutOfMemory" : "KernelDied", why);
    kernel_step (self, "died");
    while (self->recent) {
        cell_t *cell = self->recent;
        self->recent = cell->next;
        cell_flush (self, cell);
        cell_forget (self, cell);
    }
    s_free (self);
}

static void
s_on_bound (void *arg, const char *const endpoints [JUPYTER_CHANNELS])
{
    kernel_t *self = arg;
    if (!jupyter_connect (self->jupyter, endpoints))
        box_kill (self->box);
}

static void
s_on_ready (void *arg)
{
    kernel_t *self = arg;
    ltimer_stop (self->farewell);
    if (kernel_step (self, "ready"))
        s_next (self);
}

//  ---- running ----

static void
s_next (kernel_t *self)
{
    cell_t *cell = self->queue;
    if (!cell || strcmp (self->state, "idle") != 0)
        return;
    const char *request = jupyter_execute (self->jupyter, text_of (cell->code));
    if (!request) {
        box_kill (self->box);            //  its shell takes nothing any more
        return;
    }
    self->queue = cell->next;
    cell->next = NULL;
    cells_trim (self, cell->cell_id);
    self->running = cell;
    snprintf (cell->request, sizeof cell->request, "%s", request);
    cell->began = self->used = loop_now (self->conf->loop);
    kernel_step (self, "run");
    self->conf->calls.began (self->conf->calls.arg, cell);
}

static cell_t *
s_cell_of (kernel_t *self, text_t request)
{
    if (self->running && text_is (request, self->running->request))
        return self->running;
    for (cell_t *cell = self->recent; cell; cell = cell->next)
        if (cell->request [0] && text_is (request, cell->request))
            return cell;
    return NULL;
}

static bool
s_is_output (text_t type)
{
    static const char *const types [] = { "stream",         "display_data", "update_display_data",
                                         "execute_result", "error",        "clear_output" };
    for (size_t n = 0; n < sizeof types / sizeof *types; n++)
        if (text_is (type, types [n]))
            return true;
    return false;
}

static bool
s_on_skip (void *arg, text_t request, text_t type, size_t size)
{
    kernel_t *self = arg;
    cell_t *cell = s_is_output (type) ? s_cell_of (self, request) : NULL;
    if (!cell)
        return true;
    if (!output_full (cell->output, type, size))
        return false;
    cell_dirty (self, cell);
    return true;
}

//  A display may stand in another cell than the one that updates it.
static void
s_update_others (kernel_t *self, const cell_t *from, const jupyter_message_t *message)
{
    text_t id = mp_text (mp_get (mp_get (message->content, "transient"), "display_id"));
    for (cell_t *cell = self->recent; cell && id.size; cell = cell->next)
        if (cell != from && output_has_display (cell->output, id)
            && output_add (cell->output, message->type, message->content))
            cell_dirty (self, cell);
}

static void
s_on_input_request (kernel_t *self, cell_t *cell, const jupyter_message_t *message)
{
    buf_t json = { 0 };
    buf_puts (&json, "{\"prompt\":");
    json_quote (mp_text (mp_get (message->content, "prompt")), &json);
    buf_putf (&json, ",\"password\":%s}",
              mp_bool (mp_get (message->content, "password")) ? "true" : "false");
    cell_flush (self, cell);
    cell->asked = true;
    self->conf->calls.event (self->conf->calls.arg, cell, "input_request", buf_text (&json));
    buf_free (&json);
}

static void
s_on_message (void *arg, const jupyter_message_t *message)
{
    kernel_t *self = arg;
    cell_t *cell = s_cell_of (self, message->parent);
    if (!cell)
        return;
    if (text_is (message->type, "input_request")) {
        s_on_input_request (self, cell, message);
        return;
    }
    if (text_is (message->type, "update_display_data"))
        s_update_others (self, cell, message);
    if (output_add (cell->output, message->type, message->content))
        cell_dirty (self, cell);
}

static void
s_on_lost (void *arg)
{
    kernel_t *self = arg;
    if (self->running) {
        output_lost (self->running->output);
        cell_dirty (self, self->running);
    }
}

static void
s_reply_error (cell_t *cell, mp_t reply)
{
    if (mp_type (mp_get (reply, "ename")) != MP_TEXT)
        return;
    //  Through the same limits as an error on iopub.
    output_t *output = output_new (0);
    output_add (output, TEXT ("error"), reply);
    buf_clear (&cell->error);
    output_error (output, &cell->error);
    output_destroy (&output);
}

static void
s_on_finished (void *arg, text_t id, text_t status, mp_t reply)
{
    kernel_t *self = arg;
    cell_t *cell = self->running;
    if (!cell || !text_is (id, cell->request))
        return;
    self->running = NULL;
    ltimer_stop (self->harsh);
    cell->execution_count = mp_int (mp_get (reply, "execution_count"));
    s_reply_error (cell, reply);
    bool aborted = text_is (status, "aborted") || text_is (status, "abort");
    const char *outcome = text_is (status, "ok") ? "succeeded" : aborted ? "aborted" : "failed";
    if (cell->interrupted && !text_is (status, "ok"))
        outcome = "cancelled";
    if (cell->interrupted && cell->error.size == 0 && !text_is (status, "ok"))
        cell_error (cell, "Interrupted", "execution was interrupted");
    kernel_step (self, "done");
    cell_finish (self, cell, outcome);
    s_next (self);
}

//  ---- the watch ----

static void
s_on_look (void *arg)
{
    kernel_t *self = arg;
    ltimer_set (self->look, self->running ? LOOK_BUSY : LOOK_IDLE);
    box_measure (self->box, self->conf->memory);
}

static void
s_on_measured (void *arg, process_tree_t tree)
{
    kernel_t *self = arg;
    self->memory = tree.memory;
    if (self->memory > self->peak)
        self->peak = self->memory;
    if (self->memory <= self->conf->memory || self->out_of_memory)
        return;
    self->out_of_memory = true;
    if (self->running) {
        cell_flush (self, self->running);
        cell_event (self, self->running, "oom", "{\"limit\":%llu,\"peak\":%llu}",
                    (unsigned long long) self->conf->memory, (unsigned long long) self->peak);
    }
    box_kill (self->box);
}

//  ---- life ----

//  Start its box; when attached, behind the program that gives it the way to the cluster.
static box_t *
s_box (kernel_t *self, const char *key, const attachment_t *to)
{
    const spec_t *spec = self->spec;
    const box_life_t life = { s_on_bound, s_on_ended, s_on_measured, self };
    box_conf_t box = { .argv = (const char *const *) spec->argv,
                       .env = (const char *const *) spec->env, .kernel = spec->name, .key = key,
                       .dir = spec->dir };
    if (!to)
        return box_start (self->conf->sandbox, &box, &life);
    const char *argv [SPEC_WORDS + 6], *env [2 * SPEC_WORDS + 3];
    char program [32], control [16], port [16];
    size_t words = 0, pairs = 0;
    snprintf (program, sizeof program, "/proc/self/fd/%d", BOX_FIRST_FD);
    snprintf (control, sizeof control, "%d", BOX_FIRST_FD + 1);
    snprintf (port, sizeof port, "%d", to->port);
    const char *const relay [] = { "/usr/bin/python3", "-I", program, control, port };
    for (size_t n = 0; n < sizeof relay / sizeof *relay; n++)
        argv [words++] = relay [n];
    for (size_t n = 0; n == 0 || spec->argv [n - 1]; n++)
        argv [words++] = spec->argv [n];
    while (spec->env [pairs]) {
        env [pairs] = spec->env [pairs];
        pairs++;
    }
    env [pairs] = to->variable;
    env [pairs + 1] = to->value;
    env [pairs + 2] = NULL;
    box.argv = argv;
    box.env = env;
    box.fds [0] = relay_program ();
    box.fds [1] = -1;
    self->relay = relay_new (self->conf->loop, to->socket, &box.fds [1]);
    box.fd_count = 2;
    snprintf (self->cluster, sizeof self->cluster, "%s", to->cluster);
    box_t *made = self->relay && box.fds [0] >= 0 ? box_start (self->conf->sandbox, &box, &life)
                                                  : NULL;
    for (size_t n = 0; n < box.fd_count; n++)
        if (box.fds [n] >= 0)
            close (box.fds [n]);
    return made;
}

kernel_t *
kernel_new (const kernel_conf_t *conf, const spec_t *spec, const char *language,
            const attachment_t *to)
{
    kernel_t *self = xcalloc (1, sizeof *self);
    char key [41];
    self->conf = conf;
    self->spec = spec;
    self->language = xstrdup (language);
    self->state = "starting";
    self->used = loop_now (conf->loop);
    uuid_make (self->id);
    random_text (key, sizeof key - 1);
    self->flush = loop_timer (conf->loop, cells_flush, self);
    self->look = loop_timer (conf->loop, s_on_look, self);
    self->harsh = loop_timer (conf->loop, kernel_harsh, self);
    self->farewell = loop_timer (conf->loop, kernel_farewell, self);
    self->jupyter = jupyter_new (conf->loop, conf->zmq, text_of (key), &(jupyter_life_t) {
        s_on_ready, s_on_message, s_on_finished, s_on_skip, s_on_lost, self });
    self->box = s_box (self, key, to);
    if (!self->box) {
        s_free (self);
        return NULL;
    }
    ltimer_set (self->farewell, conf->start_timeout);
    ltimer_set (self->look, LOOK_IDLE);
    return self;
}

void
kernel_destroy (kernel_t **self_p)
{
    kernel_t *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    cell_t *lists [] = { self->running, self->queue, self->recent };
    for (size_t n = 0; n < 3; n++)
        for (cell_t *cell = lists [n], *next; cell; cell = next) {
            next = cell->next;
            cell_free (cell);
        }
    s_free (self);
}

void
kernel_assign (kernel_t *self, const char *notebook, const char *user, const char *session)
{
    free (self->notebook);
    free (self->user);
    free (self->session);
    self->notebook = xstrdup (notebook);
    self->user = xstrdup (user);
    self->session = xstrdup (session);
    self->used = loop_now (self->conf->loop);
}

void
kernel_run (kernel_t *self, cell_t *cell)
{
    cell_t **at = &self->queue;
    while (*at)
        at = &(*at)->next;
    *at = cell;
    cell->next = NULL;
    self->used = loop_now (self->conf->loop);
    s_next (self);
}

const char *
kernel_notebook (const kernel_t *self)
{
    return self->notebook;
}

const char *
kernel_session (const kernel_t *self)
{
    return self->session;
}

bool
kernel_serves (const kernel_t *self, const char *session)
{
    return session ? self->session && strcmp (self->session, session) == 0 : !self->session;
}

const char *
kernel_cluster (const kernel_t *self)
{
    return self->cluster;
}

const char *
kernel_user (const kernel_t *self)
{
    return self->user;
}

const char *
kernel_state (const kernel_t *self)
{
    return self->state;
}

const char *
kernel_language (const kernel_t *self)
{
    return self->language;
}

const char *
kernel_id (const kernel_t *self)
{
    return self->id;
}

bool
kernel_unused (const kernel_t *self)
{
    return !self->running && !self->queue;
}

int64_t
kernel_used (const kernel_t *self)
{
    return self->used;
}

uint64_t
kernel_memory (const kernel_t *self)
{
    return self->memory;
}

uint64_t
kernel_traffic (kernel_t *self)
{
    uint64_t bytes = jupyter_stats (self->jupyter)->bytes, since = bytes - self->traffic;
    self->traffic = bytes;
    return since;
}

size_t
kernel_queued (const kernel_t *self)
{
    size_t count = 0;
    for (const cell_t *cell = self->queue; cell; cell = cell->next)
        count++;
    return count;
}
