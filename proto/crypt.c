//  crypt.c -- random bytes, ids, digests and base64 of token.h.

#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <sys/random.h>

#include "proto/token.h"

static const char hex [] = "0123456789abcdef";
static const char base64 []
    = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64_url []
    = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void
random_bytes (void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t got = getrandom ((uint8_t *) data + done, size - done, 0);
        if (got > 0)
            done += (size_t) got;
        else if (errno != EINTR)
            abort ();
    }
}

void
uuid_make (char out [37])
{
    uint8_t bytes [16];
    random_bytes (bytes, sizeof bytes);
    bytes [6] = (bytes [6] & 0x0f) | 0x40;
    bytes [8] = (bytes [8] & 0x3f) | 0x80;
    char *to = out;
    for (size_t n = 0; n < sizeof bytes; n++) {
        if (n == 4 || n == 6 || n == 8 || n == 10)
            *to++ = '-';
        *to++ = hex [bytes [n] >> 4];
        *to++ = hex [bytes [n] & 15];
    }
    *to = 0;
}

bool
uuid_valid (text_t text)
{
    if (text.size != 36)
        return false;
    for (size_t n = 0; n < 36; n++) {
        char byte = text.data [n];
        bool digit = (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f')
            || (byte >= 'A' && byte <= 'F');
        bool dash = n == 8 || n == 13 || n == 18 || n == 23;
        if (dash ? byte != '-' : !digit)
            return false;
    }
    return true;
}

void
random_text (char *out, size_t size)
{
    random_bytes (out, size);
    for (size_t n = 0; n < size; n++)
        out [n] = base64_url [(uint8_t) out [n] & 63];
    out [size] = 0;
}

void
sha256_hex (text_t data, char out [65])
{
    uint8_t digest [32];
    int good = EVP_Digest (data.data, data.size, digest, NULL, EVP_sha256 (), NULL);
    assert (good);
    for (size_t n = 0; n < sizeof digest; n++) {
        out [2 * n] = hex [digest [n] >> 4];
        out [2 * n + 1] = hex [digest [n] & 15];
    }
    out [64] = 0;
}

void
hmac_sha256 (text_t key, text_t data, uint8_t out [32])
{
    //  A NULL key would mean "the key of last time" to OpenSSL.
    const uint8_t *done = HMAC (EVP_sha256 (), key.size ? key.data : "", (int) key.size,
                                (const uint8_t *) data.data, data.size, out, NULL);
    assert (done);
}

bool
secret_eq (text_t a, text_t b)
{
    return a.size == b.size && (a.size == 0 || CRYPTO_memcmp (a.data, b.data, a.size) == 0);
}

void
base64_put (buf_t *out, text_t data, bool url)
{
    const char *alphabet = url ? base64_url : base64;
    uint8_t *to = buf_room (out, data.size / 3 * 4 + 4);
    for (size_t n = 0; n < data.size; n += 3) {
        size_t left = data.size - n;
        uint32_t bits = (uint32_t) (uint8_t) data.data [n] << 16;
        if (left > 1)
            bits |= (uint32_t) (uint8_t) data.data [n + 1] << 8;
        if (left > 2)
            bits |= (uint8_t) data.data [n + 2];
        *to++ = (uint8_t) alphabet [bits >> 18];
        *to++ = (uint8_t) alphabet [bits >> 12 & 63];
        if (left > 1 || !url)
            *to++ = left > 1 ? (uint8_t) alphabet [bits >> 6 & 63] : '=';
        if (left > 2 || !url)
            *to++ = left > 2 ? (uint8_t) alphabet [bits & 63] : '=';
    }
    out->size = (size_t) (to - out->data);
}

//  Value of a letter, or -1.
static int
s_sextet (char letter, bool url)
{
    if (letter >= 'A' && letter <= 'Z')
        return letter - 'A';
    if (letter >= 'a' && letter <= 'z')
        return letter - 'a' + 26;
    if (letter >= '0' && letter <= '9')
        return letter - '0' + 52;
    if (letter == (url ? '-' : '+'))
        return 62;
    return letter == (url ? '_' : '/') ? 63 : -1;
}

bool
base64_get (buf_t *out, text_t text, bool url)
{
    if (!url) {
        if (text.size % 4)
            return false;
        for (int pad = 0; pad < 2 && text.size && text.data [text.size - 1] == '='; pad++)
            text.size--;
    }
    size_t rest = text.size % 4, before = out->size;
    uint32_t bits = 0;
    bool good = rest != 1;
    for (size_t n = 0; good && n < text.size; n++) {
        int sextet = s_sextet (text.data [n], url);
        good = sextet >= 0;
        bits = bits << 6 | ((uint32_t) sextet & 63);
        if (n % 4)
            buf_putc (out, (char) (bits >> (6 - n % 4 * 2)));
    }
    //  Bits that belong to no byte must be 0, or one value would have several texts.
    if (rest && (bits & (rest == 2 ? 0x0f : 0x03)))
        good = false;
    if (!good)
        out->size = before;
    return good;
}
