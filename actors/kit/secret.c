//  secret.c -- secrets at rest: AES-256-GCM, the key's version and what the secret is for bound
//  into the seal.

#include <stdio.h>
#include <stdlib.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "kit.h"
#include "secret.h"

#define KEY_SIZE 32
#define NONCE_SIZE 12
#define TAG_SIZE 16
#define VERSIONS_MAX 64

static bool
s_key (struct actor *actor, int version, uint8_t key [KEY_SIZE])
{
    char name [32];
    buf_t bytes = { 0 };
    snprintf (name, sizeof name, "secret_key_%d", version);
    const char *text = actor_secret (actor, name);
    bool good = text && base64_get (&bytes, text_of (text), false) && bytes.size == KEY_SIZE;
    if (text && !good)
        log_error ("secret key is not 32 bytes in base64", "name", name);
    if (good)
        memcpy (key, bytes.data, KEY_SIZE);
    if (bytes.size)
        OPENSSL_cleanse (bytes.data, bytes.size);
    buf_free (&bytes);
    return good;
}

//  0: there is none.
static int
s_newest (struct actor *actor)
{
    char name [32];
    for (int version = VERSIONS_MAX; version > 0; version--) {
        snprintf (name, sizeof name, "secret_key_%d", version);
        if (actor_secret (actor, name))
            return version;
    }
    return 0;
}

//  "v1.<version>." of a sealed text and what follows it; 0: not ours.
static int
s_parse (text_t sealed, text_t *rest)
{
    size_t at = 3;
    int version = 0;
    if (!text_starts (sealed, "v1."))
        return 0;
    while (at < sealed.size && at < 6 && sealed.data [at] >= '0' && sealed.data [at] <= '9')
        version = version * 10 + sealed.data [at++] - '0';
    if (at >= sealed.size || sealed.data [at] != '.')
        return 0;
    *rest = (text_t) { sealed.data + at + 1, sealed.size - at - 1 };
    return version;
}

//  What the seal vouches for besides the secret.
static void
s_bind (EVP_CIPHER_CTX *cipher, int version, const char *context, bool seal)
{
    char head [32];
    int size;
    snprintf (head, sizeof head, "v1.%d.", version);
    text_t parts [] = { text_of (head), text_of (context) };
    for (size_t n = 0; n < COUNT (parts); n++)
        if (seal)
            EVP_EncryptUpdate (cipher, NULL, &size, (const uint8_t *) parts [n].data,
                               (int) parts [n].size);
        else
            EVP_DecryptUpdate (cipher, NULL, &size, (const uint8_t *) parts [n].data,
                               (int) parts [n].size);
}

static EVP_CIPHER_CTX *
s_cipher (void)
{
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new ();
    if (!cipher)
        abort ();
    return cipher;
}

void
secret_seal (struct actor *actor, text_t plain, const char *context, buf_t *out)
{
    uint8_t key [KEY_SIZE];
    int version = s_newest (actor), size;
    //  Storing a secret in the open instead is no way on.
    if (version == 0 || !s_key (actor, version, key)) {
        log_error ("no key to seal secrets with (secret_key_1)");
        abort ();
    }
    buf_t box = { 0 };
    uint8_t *to = buf_room (&box, NONCE_SIZE + plain.size + TAG_SIZE);
    random_bytes (to, NONCE_SIZE);
    EVP_CIPHER_CTX *cipher = s_cipher ();
    if (EVP_EncryptInit_ex (cipher, EVP_aes_256_gcm (), NULL, key, to) != 1)
        abort ();
    s_bind (cipher, version, context, true);
    EVP_EncryptUpdate (cipher, to + NONCE_SIZE, &size, (const uint8_t *) plain.data,
                       (int) plain.size);
    EVP_EncryptFinal_ex (cipher, to + NONCE_SIZE + size, &size);
    EVP_CIPHER_CTX_ctrl (cipher, EVP_CTRL_GCM_GET_TAG, TAG_SIZE, to + NONCE_SIZE + plain.size);
    EVP_CIPHER_CTX_free (cipher);
    OPENSSL_cleanse (key, sizeof key);
    box.size = NONCE_SIZE + plain.size + TAG_SIZE;
    buf_putf (out, "v1.%d.", version);
    base64_put (out, buf_text (&box), true);
    buf_free (&box);
}

bool
secret_open (struct actor *actor, text_t sealed, const char *context, buf_t *out)
{
    uint8_t key [KEY_SIZE];
    text_t rest;
    buf_t box = { 0 };
    int version = s_parse (sealed, &rest), size;
    if (version < 1 || version > VERSIONS_MAX || !base64_get (&box, rest, true)
        || box.size < NONCE_SIZE + TAG_SIZE || !s_key (actor, version, key)) {
        buf_free (&box);
        return false;
    }
    size_t plain = box.size - NONCE_SIZE - TAG_SIZE;
    uint8_t *to = buf_room (out, plain + 1);
    EVP_CIPHER_CTX *cipher = s_cipher ();
    bool good = EVP_DecryptInit_ex (cipher, EVP_aes_256_gcm (), NULL, key, box.data) == 1;
    s_bind (cipher, version, context, false);
    good = good && EVP_DecryptUpdate (cipher, to, &size, box.data + NONCE_SIZE, (int) plain) == 1
           && EVP_CIPHER_CTX_ctrl (cipher, EVP_CTRL_GCM_SET_TAG, TAG_SIZE,
                                   box.data + NONCE_SIZE + plain)
                  == 1
           && EVP_DecryptFinal_ex (cipher, to + plain, &size) == 1;
    EVP_CIPHER_CTX_free (cipher);
    OPENSSL_cleanse (key, sizeof key);
    buf_free (&box);
    if (good)
        out->size += plain;
    else
        OPENSSL_cleanse (to, plain);
    return good;
}

bool
secret_stale (struct actor *actor, text_t sealed)
{
    text_t rest;
    return s_parse (sealed, &rest) < s_newest (actor);
}
