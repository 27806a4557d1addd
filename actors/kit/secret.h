//  secret.h -- sealing of secrets at rest: AES-256-GCM with versioned keys.

#ifndef SECRET_H
#define SECRET_H

#include "../../proto/text.h"

struct actor;

//  Seal `plain` for `context` ("user/table/row/column": bound as additional data). Text form
//  "v1.<key version>.<base64url>". Uses the newest key of --secrets-fd (secret_key_<n>, 32 bytes in
//  base64).
void secret_seal (struct actor *actor, text_t plain, const char *context, buf_t *out);
//  False: forged, truncated, other context, or key unknown.
bool secret_open (struct actor *actor, text_t sealed, const char *context, buf_t *out);
//  Sealed with an older key than the newest: to be sealed again.
bool secret_stale (struct actor *actor, text_t sealed);

#endif
