//  token.h -- HS256 JSON Web Tokens and the random and hashed secrets around them. The one place
//  that decides whether a token is good: edge, broker door and identity use it.

#ifndef TOKEN_H
#define TOKEN_H

#include "mp.h"

#define TOKEN_MAX 4096       //  longest token looked at
#define TICKET_PREFIX "bt_"  //  of the credentials for one use; what tells them from tokens

typedef enum {
    TOKEN_OK, TOKEN_MALFORMED, TOKEN_FORGED, TOKEN_EXPIRED, TOKEN_NOT_YET
} token_verdict_t;

//  Verify. Accepted: exactly three base64url parts without padding or foreign bytes, header alg
//  exactly "HS256" (typ absent or JWT, no crit), signature over the bytes of `key` compared in
//  constant time, claims a JSON object without duplicate keys, exp an integer > now (no leeway),
//  nbf and iat integers when present (nbf <= now), sub a non-empty text. On TOKEN_OK the claims
//  are appended to `claims` as MessagePack. `now` is Unix seconds.
token_verdict_t token_verify (text_t token, text_t key, int64_t now, buf_t *claims);
const char *token_verdict_text (token_verdict_t verdict);     //  "token has expired", …

//  Sign a map of claims (written as JSON) with HS256; the text is appended to `out`.
void token_sign (mp_t claims, text_t key, buf_t *out);

//  `size` random bytes; aborts if the kernel has none.
void random_bytes (void *data, size_t size);
//  Random id (UUID v4) as 36 characters and NUL.
void uuid_make (char out [37]);
bool uuid_valid (text_t text);
//  Random url-safe text of `size` characters (6 bit each) and NUL; out has size + 1 bytes.
void random_text (char *out, size_t size);

//  Lower-case hex SHA-256 and NUL.
void sha256_hex (text_t data, char out [65]);
void hmac_sha256 (text_t key, text_t data, uint8_t out [32]);
bool secret_eq (text_t a, text_t b);               //  constant time for equal sizes
void base64_put (buf_t *out, text_t data, bool url);          //  url: url-safe alphabet, no padding
bool base64_get (buf_t *out, text_t text, bool url);          //  false on any foreign byte

#endif
