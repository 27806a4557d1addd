//  migrate.c -- `busbar migrate up|down [N]|status|new NAME`.

#include <stdio.h>
#include <stdlib.h>

#include "db/migrate.h"
#include "pgjob.h"
#include "up.h"

typedef struct {
    const char *what;
    unsigned count;
} migrate_t;

static opt_t s_options [] = {
    { "var", OPT_STR, NULL, 0, "BUSBAR_VAR", "directory of the system [var]", NULL },
    { "dir", OPT_STR, NULL, 0, NULL, "directory of the migrations [db/migrations]", NULL },
    PG_OPTIONS,
    { 0 } };

static char *
s_directory (const place_t *place)
{
    const char *given = opt_str (s_options, "dir");
    if (!given)
        return prepare_migrations (place);
    char *directory = realpath (given, NULL);
    if (!directory)
        complain (0, "--dir %s: there is no such directory", given);
    return directory;
}

static int
s_work (const place_t *place, const pg_t *pg, void *arg)
{
    const migrate_t *self = arg;
    char *directory = s_directory (place);
    int code = DONE_ERROR;
    if (!directory)
        return code;
    if (strcmp (self->what, "up") == 0)
        code = prepare_server (place, pg, stdout) ? migrate_up (pg->owner, directory, stdout)
                                                  : DONE_ERROR;
    else if (strcmp (self->what, "down") == 0)
        code = migrate_down (pg->owner, directory, self->count, stdout);
    else
        code = migrate_status (pg->owner, directory, stdout);
    free (directory);
    return code;
}

static int
s_new (const char *name)
{
    place_t place;
    int code = DONE_ERROR;
    char *directory = NULL;
    if (place_open (&place, opt_str (s_options, "var"), false)
        && (directory = s_directory (&place)))
        code = migrate_new (directory, name, stdout);
    place_close (&place);
    free (directory);
    return code;
}

int
migrate_command (int argc, char **argv)
{
    int rc =
        options_read (s_options, &argc, argv, "busbar migrate up | down [N] | status | new NAME");
    if (rc != DONE_OK)
        return options_exit (rc);
    migrate_t self = { .what = argc > 1 ? argv [1] : "", .count = 1 };
    bool down = strcmp (self.what, "down") == 0, new = strcmp (self.what, "new") == 0;
    if (new && argc == 3)
        return s_new (argv [2]);
    char *end = NULL;
    if (down && argc == 3)
        self.count = (unsigned) strtoul (argv [2], &end, 10);
    bool known = down || strcmp (self.what, "up") == 0 || strcmp (self.what, "status") == 0;
    if (!known || argc > (down ? 3 : 2) || (end && (*end || end == argv [2])) || self.count == 0)
        return complain (DONE_USAGE, "migrate: say up, down [N], status or new NAME");
    return pgjob_run (opt_str (s_options, "var"), s_options, false, s_work, &self);
}
