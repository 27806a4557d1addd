//  fuzz_token.c -- no foreign token is good; claims of ours, whatever they are, never break the
//  rules; base64 has one text per value.

#include <assert.h>
#include <stdlib.h>

#include "proto/token.h"

#define KEY TEXT ("0123456789abcdef0123456789abcdef")

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

//  The input as claims under a good signature.
static void
signed_claims (text_t input)
{
    buf_t token = { 0 }, claims = { 0 };
    uint8_t digest [32];
    base64_put (&token, TEXT ("{\"alg\":\"HS256\"}"), true);
    buf_putc (&token, '.');
    base64_put (&token, input, true);
    hmac_sha256 (KEY, buf_text (&token), digest);
    buf_putc (&token, '.');
    base64_put (&token, (text_t) { (char *) digest, sizeof digest }, true);
    if (token_verify (buf_text (&token), KEY, 1700000000, &claims) == TOKEN_OK) {
        assert (mp_int (mp_get (mp_buf (&claims), "exp")) > 1700000000);
        assert (mp_text (mp_get (mp_buf (&claims), "sub")).size > 0);
    }
    else
        assert (claims.size == 0);
    buf_free (&token), buf_free (&claims);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    text_t input = { (const char *) data, size };
    buf_t out = { 0 }, back = { 0 };
    token_verdict_t verdict = token_verify (input, KEY, 1700000000, &out);
    assert (verdict != TOKEN_OK && out.size == 0);
    signed_claims (input);
    for (int url = 0; url < 2; url++) {
        buf_clear (&out), buf_clear (&back);
        if (base64_get (&out, input, url)) {
            base64_put (&back, buf_text (&out), url);
            assert (text_eq (buf_text (&back), input));
        }
    }
    buf_free (&out), buf_free (&back);
    return 0;
}
