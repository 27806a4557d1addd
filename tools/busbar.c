//  busbar.c -- the command line: `busbar COMMAND …`.

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "busbar.h"

typedef struct {
    const char *name;
    int (*run) (int argc, char **argv);
    const char *doc;
} command_t;

static const command_t s_commands [] = {
    { "up",      up_command,      "start everything and keep it running" },
    { "call",    call_command,    "call a method and print its answer" },
    { "sub",     sub_command,     "print the events of a channel as JSON lines" },
    { "routes",  routes_command,  "list the methods and paths that live actors announce" },
    { "top",     top_command,     "watch processes, methods, rates and latencies" },
    { "actor",   actor_command,   "run a Python actor beside a running system" },
    { "conform", conform_command, "look whether a client or actor of yours keeps to the protocol" },
    { "token",   token_command,   "make an access token for a user" },
    { "key",     key_command,     "make a key for a program that connects from outside" },
    { "migrate", migrate_command, "bring the database schema up or down" },
    { "backup",  backup_command,  "write the databases into one file" },
    { "restore", restore_command, "replace the databases by those of a backup" },
    { "version", version_command, "print the version" },
    { 0 } };

int
complain (int code, const char *format, ...)
{
    fputs ("busbar: ", stderr);
    va_list args;
    va_start (args, format);
    vfprintf (stderr, format, args);
    va_end (args);
    fputc ('\n', stderr);
    return code;
}

int
options_read (opt_t *table, int *argc, char **argv, const char *usage)
{
    int rc = opt_read (table, argc, argv, usage);
    return rc == 0 ? DONE_OK : rc == 1 ? -1 : DONE_USAGE;
}

int
version_command (int argc, char **argv)
{
    (void) argv;
    if (argc > 1)
        return complain (DONE_USAGE, "version takes no arguments");
    puts ("busbar " BUSBAR_VERSION);
    return DONE_OK;
}

static void
s_help (FILE *to)
{
    fputs ("usage: busbar COMMAND [ARGUMENTS]\n\n", to);
    for (const command_t *command = s_commands; command->name; command++)
        fprintf (to, "  %-8s  %s\n", command->name, command->doc);
    fputs ("\n`busbar COMMAND --help` says more. Exit codes: 0 done, 1 failed or answered with an "
           "error,\n"
           "2 wrong usage, 3 nobody answers, 4 too late.\n",
           to);
}

int
main (int argc, char **argv)
{
    log_open ("busbar", log_level_by_name (getenv ("LOG_LEVEL")));
    if (argc < 2) {
        s_help (stderr);
        return DONE_USAGE;
    }
    const char *name = argv [1];
    if (strcmp (name, "--help") == 0 || strcmp (name, "-h") == 0 || strcmp (name, "help") == 0) {
        s_help (stdout);
        return DONE_OK;
    }
    if (strcmp (name, "--version") == 0)
        name = "version";
    for (const command_t *command = s_commands; command->name; command++)
        if (strcmp (name, command->name) == 0) {
            char *title = text_format ("busbar %s", name), *settings = place_settings ();
            opt_settings (settings);
            argv [1] = title;
            int code = command->run (argc - 1, argv + 1);
            free (title), free (settings);
            return fflush (stdout) == 0 ? code : DONE_ERROR;
        }
    return complain (DONE_USAGE, "%s: no such command (try busbar --help)", name);
}
