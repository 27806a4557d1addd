//  prepare.c -- databases, roles and schema, before anybody serves. All of it may run again and
//  again.

#include <stdlib.h>

#include "crew.h"
#include "db/migrate.h"
#include "up.h"
#include "vault.h"

//  Actors that run what users wrote, as guest roles that they make and drop.
static bool
s_keeps_guests (const char *actor)
{
    static const char *const keepers [] = { "kernels", "platform", "costs", "tables" };
    for (size_t n = 0; n < sizeof keepers / sizeof *keepers; n++)
        if (strcmp (actor, keepers [n]) == 0)
            return true;
    return false;
}

char *
prepare_migrations (const place_t *place)
{
    char *directory = place_share (place, "db/migrations");
    if (!directory)
        complain (0, "db/migrations is nowhere: set BUSBAR_HOME to where the tree is");
    return directory;
}

static db_role_t *
s_roles (const place_t *place, char **actors, size_t *count)
{
    db_role_t *roles = NULL;
    for (*count = 0; actors [*count]; ++*count) {
        const char *actor = actors [*count];
        char *file = text_format ("db_%s", actor);
        roles = xrealloc (roles, (*count + 1) * sizeof *roles);
        roles [*count] = (db_role_t) { .name = text_format ("busbar_%s", actor),
                                       .password = vault_get (place, file),
                                       .keeps_guests = s_keeps_guests (actor) };
        free (file);
    }
    return roles;
}

bool
prepare_server (const place_t *place, const pg_t *pg, FILE *out)
{
    char **actors = crew_actors (place), *server = text_format ("%s dbname=postgres", pg->owner);
    size_t count;
    db_role_t *roles = s_roles (place, actors, &count);
    bool good = true;
    for (size_t n = 0; n < count; n++)
        good = good && roles [n].password;
    db_bootstrap_t bootstrap = { .server = server, .database = pg->database,
                                 .guest_database = PG_GUEST_DATABASE, .roles = roles,
                                 .role_count = count, .ours = pg->private };
    good = good && db_bootstrap (&bootstrap, out) == 0;
    if (good && !bootstrap.guests)
        fprintf (out, "there is no guest database: SQL that users write cannot run\n");
    for (size_t n = 0; n < count; n++) {
        char *password = (char *) roles [n].password;
        vault_forget (&password);
        free ((char *) roles [n].name);
    }
    free (roles);
    vault_forget (&server);
    crew_free_names (&actors);
    return good;
}

//  Messages meant for people, as log lines.
static void
s_log (char *text, bool good)
{
    char *state = NULL;
    for (char *line = strtok_r (text, "\n", &state); line; line = strtok_r (NULL, "\n", &state))
        log_event (good ? LOG_INFO : LOG_ERROR, "database", "line", line, NULL);
}

int
prepare_database (void *arg)
{
    const prepare_t *self = arg;
    char *directory = prepare_migrations (self->place), *text = NULL;
    size_t size = 0;
    if (!directory)
        return DONE_ERROR;
    if (!pg_wait (self->pg, 30000)) {
        free (directory);
        return DONE_UNREACHABLE;
    }
    FILE *out = open_memstream (&text, &size);
    bool good = prepare_server (self->place, self->pg, out)
        && migrate_up (self->pg->owner, directory, out) == 0;
    fclose (out);
    s_log (text, good);
    free (text);
    free (directory);
    return good ? DONE_OK : DONE_ERROR;
}
