//  kernel_harness.h -- a real kernel in a real box for the tests that drive one: start, run a cell,
//  hear what it says.

#ifndef KERNEL_HARNESS_H
#define KERNEL_HARNESS_H

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "proto/json.h"
#include "proto/token.h"
#include "actors/kernels/jupyter.h"
#include "actors/kernels/sandbox.h"
#include "actors/kit/spawner.h"

//  From Python 3.12 on a fork beside threads is warned of, and a kernel has threads: not what is
//  looked at here.
static const char *const python_argv [] = {
    "/usr/bin/python3", "-W", "ignore::DeprecationWarning", "-m", "ipykernel_launcher", "-f",
    "{connection_file}", NULL };
static const char *const r_argv [] = { "R",      "--slave",           "-e", "IRkernel::main()",
                                      "--args", "{connection_file}", NULL };

typedef struct {
    loop_t *loop;
    void *zmq;
    sandbox_t *sandbox;
    box_t *box;
    jupyter_t *jupyter;
    bool probed, ready, finished, ended, asked;
    process_tree_t tree;
    bool measured;
    int status;              //  of the process
    int lost;                //  times that output broke off
    char verdict [32];       //  status of the reply
    size_t cap;              //  output beyond it is skipped
    buf_t text;              //  all output of the cell: streams, text/plain, errors
} bench_t;


static void
bench_on_probe (void *arg, const char *kind, const char *why)
{
    bench_t *self = arg;
    self->probed = true;
    if (!kind)
        print_message ("no sandbox: %s\n", why);
}

//  Turn the loop until *flag; false after `seconds`.
static bool
bench_wait (bench_t *self, const bool *flag, int seconds)
{
    int64_t end = loop_now (self->loop) + seconds * 1000;
    while (!*flag && loop_now (self->loop) < end)
        loop_turn (self->loop, 50);
    return *flag;
}

//  Does this machine give us what a box is made of? An ordinary user in a container often gets no
//  user namespace.
static bool
bench_possible (void)
{
    if (geteuid () == 0)
        return true;
    int status = 0;
    pid_t pid = fork ();
    if (pid == 0)
        _exit (unshare (CLONE_NEWUSER) != 0);
    if (waitpid (pid, &status, 0) == pid && status == 0)
        return true;
    print_message ("skipped: this machine gives ordinary users no user namespaces\n");
    return false;
}

static void
bench_open (bench_t *self, const sandbox_conf_t *conf)
{
    if (!bench_possible ())
        skip ();
    *self = (bench_t) { .loop = loop_new (), .zmq = zmq_ctx_new (), .cap = SIZE_MAX };
    self->sandbox = sandbox_new (self->loop, spawner_start (), conf);
    sandbox_probe (self->sandbox, bench_on_probe, self);
    assert_true (bench_wait (self, &self->probed, 10));
}

static void
bench_on_ready (void *arg)
{
    ((bench_t *) arg)->ready = true;
}

static void
bench_on_message (void *arg, const jupyter_message_t *message)
{
    bench_t *self = arg;
    text_t text = mp_text (mp_get (message->content, "text"));
    if (text_is (message->type, "input_request")) {
        text = mp_text (mp_get (message->content, "prompt"));
        self->asked = true;
    }
    if (text_is (message->type, "error"))
        text = mp_text (mp_get (message->content, "ename"));
    if (text_is (message->type, "execute_result") || text_is (message->type, "display_data"))
        text = mp_text (mp_get (mp_get (message->content, "data"), "text/plain"));
    buf_put (&self->text, text.data, text.size);
}

static void
bench_on_finished (void *arg, text_t id, text_t status, mp_t reply)
{
    (void) id;
    (void) reply;
    bench_t *self = arg;
    snprintf (self->verdict, sizeof self->verdict, "%.*s", (int) status.size, status.data);
    self->finished = true;
}

static bool
bench_skip (void *arg, text_t parent, text_t type, size_t size)
{
    (void) parent;
    (void) type;
    bench_t *self = arg;
    return self->text.size + size > self->cap;
}

static void
bench_on_lost (void *arg)
{
    ((bench_t *) arg)->lost++;
}

static void
bench_on_bound (void *arg, const char *const endpoints [JUPYTER_CHANNELS])
{
    bench_t *self = arg;
    assert_true (jupyter_connect (self->jupyter, endpoints));
}

static void
bench_on_ended (void *arg, int status, text_t said)
{
    bench_t *self = arg;
    self->ended = true;
    self->status = status;
    if (!self->ready)
        print_message ("kernel said: %.*s\n", (int) said.size, said.data);
}

static void
bench_on_measured (void *arg, process_tree_t tree)
{
    bench_t *self = arg;
    self->tree = tree;
    self->measured = true;
}

static inline process_tree_t
bench_measure (bench_t *self, uint64_t closer)
{
    self->measured = false;
    box_measure (self->box, closer);
    assert_true (bench_wait (self, &self->measured, 10));
    return self->tree;
}

static void
bench_start (bench_t *self, const char *const *argv)
{
    static const char key [] = "5e1f0c9b4a7d4c0f8b3e2a1d6c5b4a39";
    self->ready = self->ended = false;
    self->jupyter = jupyter_new (self->loop, self->zmq, TEXT (key), &(jupyter_life_t) {
        bench_on_ready, bench_on_message, bench_on_finished, bench_skip, bench_on_lost, self });
    self->box =
        box_start (self->sandbox, &(box_conf_t){ .argv = argv, .kernel = "test", .key = key },
                   &(box_life_t){ bench_on_bound, bench_on_ended, bench_on_measured, self });
    assert_non_null (self->box);
    assert_true (bench_wait (self, &self->ready, 30));
}

static void
bench_stop (bench_t *self)
{
    jupyter_destroy (&self->jupyter);
    box_destroy (&self->box);
}

static void
bench_close (bench_t *self)
{
    bench_stop (self);
    sandbox_destroy (&self->sandbox);
    loop_destroy (&self->loop);
    zmq_ctx_term (self->zmq);
    buf_free (&self->text);
}

static void
bench_begin (bench_t *self, const char *code)
{
    self->finished = self->asked = false;
    buf_clear (&self->text);
    assert_non_null (jupyter_execute (self->jupyter, text_of (code)));
}

//  Run a cell to its end; what it said.
static const char *
bench_run (bench_t *self, const char *code)
{
    bench_begin (self, code);
    if (!bench_wait (self, &self->finished, 60))
        fail_msg ("not finished: %s", code);
    buf_putc (&self->text, 0);
    self->text.size--;
    return (const char *) self->text.data;
}

#endif
