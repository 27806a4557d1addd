//  key.c -- `busbar key new NAME`: a key pair for a program that comes to the door.

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "busbar.h"
#include "proto/keyfile.h"

static opt_t s_options [] = {
    { "var", OPT_STR, NULL, 0, "BUSBAR_VAR", "directory of the system [var]", NULL },
    { "role", OPT_STR, "client", 0, NULL, "client, actor:NAME or edge", NULL },
    { "prefix", OPT_STR, NULL, 0, NULL, "paths an actor may serve: /p[,/q]", NULL },
    { 0 } };

//  The broker reads the public half; root keeps nothing that the broker's user cannot open.
static bool
s_give_away (const place_t *place, const char *name)
{
    //  Making the first key makes the server's own pair, too.
    char *const paths [] = { text_format ("%s/%s.key", place->keys, name),
                             text_format ("%s/%s.pub", place->keys, name),
                             text_format ("%s/broker.key", place->keys) };
    bool good = true;
    for (int n = 0; n < 3; n++) {
        good = (!place->drop || chown (paths [n], place->uid, place->gid) == 0) && good;
        free (paths [n]);
    }
    return good || complain (false, "%s: cannot give the key to %s", name, place->user);
}

static int
s_new (const place_t *place, const char *name)
{
    const char *prefixes [KEY_PREFIXES + 1] = { NULL }, *role = opt_str (s_options, "role");
    char *list = xstrdup (opt_str (s_options, "prefix")), *state = NULL;
    size_t count = 0;
    for (char *one = list ? strtok_r (list, ",", &state) : NULL; one && count < KEY_PREFIXES;
         one = strtok_r (NULL, ",", &state))
        prefixes [count++] = one;
    char error [256];
    //  The server's own pair first: the holder's file names whom to expect.
    keyfile_t *server = keyfile_server (place->keys, error, sizeof error);
    bool good = server && keyfile_make (place->keys, name, role, prefixes, error, sizeof error);
    keyfile_free (&server);
    free (list);
    if (!good)
        return complain (DONE_ERROR, "%s", error);
    if (!s_give_away (place, name))
        return DONE_ERROR;
    printf ("%s/%s.key\n", place->keys, name);
    return DONE_OK;
}

int
key_command (int argc, char **argv)
{
    int rc =
        options_read (s_options, &argc, argv,
                      "busbar key new NAME [--role client|actor:NAME|edge] [--prefix /p[,/q]]");
    if (rc != DONE_OK)
        return options_exit (rc);
    if (argc != 3 || strcmp (argv [1], "new") != 0)
        return complain (DONE_USAGE, "key: say `key new NAME`");
    place_t place;
    int code = DONE_ERROR;
    if (place_open (&place, opt_str (s_options, "var"), true))
        code = s_new (&place, argv [2]);
    place_close (&place);
    return code;
}
