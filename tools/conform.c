//  conform.c -- `busbar conform client|actor COMMAND …`: does a program keep to the protocol?

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "busbar.h"

static opt_t s_options [] = { { 0 } };

static int
s_become (const place_t *place, int argc, char **argv)
{
    char *script = place_share (place, "tools/conform");
    char *package = place_share (place, "proto/python");
    char *broker = text_format ("%s/busbar-broker", place->bin);
    if (!script || !package)
        return complain (DONE_ERROR, "there is no tools/conform here");
    setenv ("BUSBAR_BROKER", broker, 1);
    setenv ("PYTHONPATH", package, 1);
    setenv ("PYTHONDONTWRITEBYTECODE", "1", 1);
    char **line = xcalloc ((size_t) argc + 2, sizeof *line);
    line [0] = "/usr/bin/python3";
    line [1] = script;
    for (int n = 1; n < argc; n++)
        line [n + 1] = argv [n];
    execv (line [0], line);
    return complain (DONE_ERROR, "%s: %s", line [0], strerror (errno));
}

//  What follows the kind is a command with flags of its own.
int
conform_command (int argc, char **argv)
{
    int rc = DONE_OK;
    if (argc > 1 && argv [1] [0] == '-')
        rc = options_read (s_options, &argc, argv, "busbar conform client|actor COMMAND …");
    if (rc != DONE_OK)
        return options_exit (rc);
    if (argc < 3)
        return complain (DONE_USAGE, "conform: client or actor, and the command that starts it");
    place_t place;
    int code = place_open (&place, NULL, false) ? s_become (&place, argc, argv) : DONE_ERROR;
    place_close (&place);
    return code;
}
