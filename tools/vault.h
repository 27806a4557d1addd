//  vault.h -- the secrets of one installation: files of 0600 in var/secrets, each made once.

#ifndef VAULT_H
#define VAULT_H

#include "busbar.h"

//  The secret of this name, made of 43 random characters when it is not there. The caller wipes
//  and frees it (vault_forget). NULL after a message on stderr.
char *vault_get (const place_t *place, const char *name);
//  The same for a key of 32 random bytes, in base64.
char *vault_get_key (const place_t *place, const char *name);
void vault_forget (char **secret_p);

//  Is it there already?
bool vault_has (const place_t *place, const char *name);

//  Append `secret_key_<n>=…` lines for one actor: each version of the installation's key, bound
//  to the actor's name, so that no actor can open what another has sealed. Makes version 1 when
//  there is none.
bool vault_put_keys (const place_t *place, const char *actor, buf_t *lines);

#endif
