//  pyactor.c -- `busbar actor FILE.py`: a Python actor beside a running system, started again
//  when it dies.

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "crew.h"

typedef struct {
    loop_t *loop;
    super_t *super;
    int code;
} pyactor_t;

static opt_t s_options [] = {
    { "var", OPT_STR, NULL, 0, "BUSBAR_VAR", "directory of the running system [var]", NULL },
    { 0 } };

static void
s_ended (void *arg, int code)
{
    pyactor_t *self = arg;
    self->code = code;
    loop_stop (self->loop);
}

static void
s_on_stop (void *arg)
{
    super_stop (((pyactor_t *) arg)->super);
}

static int
s_serve (const place_t *place, char *file, int count, char **rest)
{
    pyactor_t self = { .loop = loop_new () };
    char **argv = xcalloc ((size_t) count + 3, sizeof *argv),
         **envp = crew_python_environment (place);
    argv [0] = "/usr/bin/python3";
    argv [1] = file;
    for (int n = 0; n < count; n++)
        argv [n + 2] = rest [n];
    self.super = super_new (self.loop, place, s_ended, &self);
    loop_signal (self.loop, SIGTERM, s_on_stop, &self);
    loop_signal (self.loop, SIGINT, s_on_stop, &self);
    super_run (self.super, &(process_spec_t) { .name = strrchr (file, '/') + 1,
                                              .stage = STAGE_ACTOR,
                                              .argv = argv,
                                              .envp = envp });
    loop_run (self.loop);
    super_destroy (&self.super);
    loop_destroy (&self.loop);
    crew_free_names (&envp);
    free (argv);
    return self.code;
}

int
actor_command (int argc, char **argv)
{
    int rc = options_read (s_options, &argc, argv, "busbar actor FILE.py [-- ARGUMENTS]");
    if (rc != DONE_OK)
        return options_exit (rc);
    if (argc < 2)
        return complain (DONE_USAGE, "actor: which file?");
    char *file = realpath (argv [1], NULL);
    if (!file)
        return complain (DONE_USAGE, "%s: %s", argv [1], strerror (errno));
    place_t place;
    int code = DONE_ERROR;
    if (place_open (&place, opt_str (s_options, "var"), false)) {
        char *socket = text_format ("%s/broker.s", place.run);
        file = place_lend (&place, file);
        if (access (socket, F_OK) == 0)
            code = s_serve (&place, file, argc - 2, argv + 2);
        else
            code = complain (DONE_UNREACHABLE, "no broker in %s: is `busbar up` running there?",
                             place.run);
        free (socket);
    }
    place_close (&place);
    free (file);
    return code;
}
