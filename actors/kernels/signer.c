//  signer.c -- HMAC-SHA256 by OpenSSL, and a ring of the digests seen.

#include <assert.h>
#include <stdlib.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "signer.h"

#define DIGEST_SIZE 32
#define SEEN 8192            //  a power of two
#define SLOTS (2 * SEEN)

struct signer {
    EVP_MAC *mac;
    EVP_MAC_CTX *context;    //  keyed; a new init without key starts the next message
    uint64_t ring [SEEN];    //  the first eight bytes of the digests, in order of arrival; 0: free
    size_t at;
    uint64_t slots [SLOTS];  //  the same as a set: linear probing
};

signer_t *
signer_new (text_t key)
{
    signer_t *self = xcalloc (1, sizeof *self);
    self->mac = EVP_MAC_fetch (NULL, "HMAC", NULL);
    assert (self->mac);
    self->context = EVP_MAC_CTX_new (self->mac);
    assert (self->context);
    char digest [] = "SHA256";
    OSSL_PARAM params [] = { OSSL_PARAM_construct_utf8_string (OSSL_MAC_PARAM_DIGEST, digest, 0),
                             OSSL_PARAM_construct_end () };
    int ok = EVP_MAC_init (self->context, (const uint8_t *) key.data, key.size, params);
    assert (ok == 1);
    return self;
}

void
signer_destroy (signer_t **self_p)
{
    signer_t *self = *self_p;
    if (!self)
        return;
    EVP_MAC_CTX_free (self->context);
    EVP_MAC_free (self->mac);
    free (self);
    *self_p = NULL;
}

static void
s_digest (signer_t *self, const text_t frames [FRAMES], uint8_t out [DIGEST_SIZE])
{
    int ok = EVP_MAC_init (self->context, NULL, 0, NULL);
    for (size_t n = 0; n < FRAMES; n++)
        ok &= EVP_MAC_update (self->context, (const uint8_t *) frames [n].data, frames [n].size);
    size_t size = 0;
    ok &= EVP_MAC_final (self->context, out, &size, DIGEST_SIZE);
    assert (ok == 1 && size == DIGEST_SIZE);
}

static void
s_hex (const uint8_t digest [DIGEST_SIZE], char out [SIGNATURE_SIZE + 1])
{
    static const char digits [] = "0123456789abcdef";
    for (size_t n = 0; n < DIGEST_SIZE; n++) {
        out [2 * n] = digits [digest [n] >> 4];
        out [2 * n + 1] = digits [digest [n] & 15];
    }
    out [SIGNATURE_SIZE] = 0;
}

void
signer_sign (signer_t *self, const text_t frames [FRAMES], char out [SIGNATURE_SIZE + 1])
{
    uint8_t digest [DIGEST_SIZE];
    s_digest (self, frames, digest);
    s_hex (digest, out);
}

//  ---- the set ----

static size_t
s_slot (const signer_t *self, uint64_t mark)
{
    size_t slot = (size_t) mark & (SLOTS - 1);
    while (self->slots [slot] && self->slots [slot] != mark)
        slot = (slot + 1) & (SLOTS - 1);
    return slot;
}

//  Deleting from linear probing: whoever stands behind and could not be found any more moves up.
static void
s_forget (signer_t *self, uint64_t mark)
{
    size_t hole = s_slot (self, mark);
    self->slots [hole] = 0;
    for (size_t slot = (hole + 1) & (SLOTS - 1); self->slots [slot];
         slot = (slot + 1) & (SLOTS - 1)) {
        uint64_t moved = self->slots [slot];
        self->slots [slot] = 0;
        self->slots [s_slot (self, moved)] = moved;
    }
}

static bool
s_seen (signer_t *self, const uint8_t digest [DIGEST_SIZE])
{
    uint64_t mark;
    memcpy (&mark, digest, sizeof mark);
    mark |= !mark;
    size_t slot = s_slot (self, mark);
    if (self->slots [slot] == mark)
        return true;
    if (self->ring [self->at]) {
        s_forget (self, self->ring [self->at]);
        slot = s_slot (self, mark);
    }
    self->slots [slot] = mark;
    self->ring [self->at] = mark;
    self->at = (self->at + 1) & (SEEN - 1);
    return false;
}

signature_t
signer_check (signer_t *self, text_t signature, const text_t frames [FRAMES])
{
    if (signature.size != SIGNATURE_SIZE)
        return SIGNATURE_FORGED;
    uint8_t digest [DIGEST_SIZE];
    char expected [SIGNATURE_SIZE + 1];
    s_digest (self, frames, digest);
    s_hex (digest, expected);
    if (CRYPTO_memcmp (expected, signature.data, SIGNATURE_SIZE) != 0)
        return SIGNATURE_FORGED;
    return s_seen (self, digest) ? SIGNATURE_REPLAYED : SIGNATURE_GOOD;
}
