//  session.c -- what identity said about one credential, shared by everybody who came with it.

#include <stdlib.h>

#include "edge/edge.h"

static char *
member (mp_t map, const char *name)
{
    return text_copy (mp_text (mp_get (map, name)));
}

session_t *
session_new (auth_t *auth, session_t **list, mp_t identity)
{
    session_t *self = xcalloc (1, sizeof *self);
    self->refs = 1;
    self->auth = auth;
    self->next = *list;
    if (self->next)
        self->next->prev = self;
    *list = self;
    session_fill (self, identity);
    return self;
}

//  Take over what identity says now; the same session may be confirmed with another role.
void
session_fill (session_t *self, mp_t identity)
{
    session_forget (self);
    self->user = member (identity, "user");
    self->role = member (identity, "role");
    self->org = member (identity, "org");
    self->email = member (identity, "email");
    self->kind = member (identity, "kind");
    self->jti = member (identity, "jti");
    int64_t exp;
    if (mp_int_get (mp_get (identity, "exp"), &exp))
        self->exp = exp;
    buf_clear (&self->identity);
    mp_put (&self->identity, identity);
}

void
session_forget (session_t *self)
{
    char **texts [] = {
        &self->user, &self->role, &self->org, &self->email, &self->kind, &self->jti };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        free (*texts [i]);
        *texts [i] = NULL;
    }
}

session_t *
session_ref (session_t *self)
{
    self->refs++;
    return self;
}

void
session_drop (session_t **self_p)
{
    session_t *self = *self_p;
    *self_p = NULL;
    if (!self || --self->refs)
        return;
    if (self->prev)
        self->prev->next = self->next;
    else
        auth_list_head (self->auth, self->next);
    if (self->next)
        self->next->prev = self->prev;
    session_forget (self);
    buf_free (&self->identity);
    free (self);
}
