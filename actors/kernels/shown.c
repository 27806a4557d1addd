//  shown.c -- what users see of their kernels: a row while one lives, an event for each state. A
//  state that is over before it could be written is left out.

#include <stdio.h>
#include <stdlib.h>

#include "kernels.h"

typedef struct {
    char id [37], user [37], notebook [37], language [32];
    char state [16];
    bool dirty;              //  the state is not in the database, or on its way there
    bool busy;               //  somebody writes it
} shown_t;

//  False: the notebook is not ours any more, its kernels are for others to speak of.
static CO bool
s_write (req_t *req, const shown_t *shown)
{
    const char *const params [] = { shown->id, shown->user, shown->notebook, shown->language,
                                    shown->state };
    bool dead = strcmp (shown->state, "dead") == 0;
    return notebook_commit (req, shown->notebook, dead ? "kernel_dead" : "kernel_state", params,
                            dead ? 1 : sizeof params / sizeof *params).code == E_NONE;
}

static CO void
s_show (req_t *req)
{
    kernels_t *kernels = kernels_of (req);
    char *id = req_arg (req);
    req_defer (req, free, id);
    bool over = false;
    for (shown_t *shown; !over && (shown = hash_get (kernels->shown, text_of (id)));) {
        if (!shown->dirty) {
            shown->busy = false;
            return;
        }
        //  The state may change while it is written.
        shown_t now = *shown;
        shown->dirty = false;
        over = !s_write (req, &now) || strcmp (now.state, "dead") == 0;
    }
    hash_del (kernels->shown, text_of (id));
}

void
kernel_show (kernels_t *kernels, const kernel_t *kernel, const char *state)
{
    const char *id = kernel_id (kernel), *notebook = kernel_notebook (kernel);
    char key [NOTEBOOK_KEY];
    //  What people watch is their notebook's own.
    if (!notebook || !kernel_user (kernel) || kernel_session (kernel))
        return;
    notebook_key_write (key, notebook);
    shown_t *shown = hash_get (kernels->shown, text_of (id));
    if (!claim_held (kernels->actor, key)) {
        if (shown && !shown->busy)
            hash_del (kernels->shown, text_of (id));
        return;
    }
    if (!shown) {
        shown = xcalloc (1, sizeof *shown);
        snprintf (shown->id, sizeof shown->id, "%s", id);
        snprintf (shown->user, sizeof shown->user, "%s", kernel_user (kernel));
        snprintf (shown->notebook, sizeof shown->notebook, "%s", notebook);
        snprintf (shown->language, sizeof shown->language, "%s", kernel_language (kernel));
        hash_put (kernels->shown, text_of (id), shown);
    }
    if (strcmp (shown->state, state) == 0)
        return;
    snprintf (shown->state, sizeof shown->state, "%s", state);
    shown->dirty = true;
    if (shown->busy)
        return;
    char *copy = xstrdup (id);
    shown->busy = actor_spawn (kernels->actor, s_show, copy);
    if (!shown->busy)
        free (copy);
}
