//  token.c -- HS256 JSON Web Tokens, verified by our own few rules and nothing else.

#include "proto/json.h"
#include "proto/token.h"

//  What is between the dots, each not empty.
static bool
s_split (text_t token, text_t parts [3])
{
    const char *at = token.data, *end = at + token.size;
    for (size_t n = 0; n < 3; n++) {
        const char *dot = memchr (at, '.', (size_t) (end - at));
        if (!dot != (n == 2))
            return false;
        parts [n] = (text_t) { at, (size_t) ((dot ? dot : end) - at) };
        if (parts [n].size == 0)
            return false;
        at = dot ? dot + 1 : end;
    }
    return true;
}

static bool
s_signature_good (text_t token, text_t signature, text_t key)
{
    buf_t given = { 0 };
    uint8_t wanted [32];
    hmac_sha256 (key, (text_t) { token.data, token.size - signature.size - 1 }, wanted);
    bool good = key.size > 0 && base64_get (&given, signature, true)
        && secret_eq (buf_text (&given), (text_t) { (const char *) wanted, sizeof wanted });
    buf_free (&given);
    return good;
}

//  Append the object in a part to `out`; nothing is appended when it is none.
static bool
s_object (text_t part, buf_t *out)
{
    buf_t text = { 0 };
    char ignored [128];
    size_t before = out->size;
    bool good = base64_get (&text, part, true) && text.size
        && json_read (buf_text (&text), out, ignored, sizeof ignored)
        && mp_type (mp_of (out->data + before, out->size - before)) == MP_MAP;
    buf_free (&text);
    if (!good)
        out->size = before;
    return good;
}

//  A token names its own algorithm; there is one that we take, and no extension that we must know.
static bool
s_header_good (text_t part)
{
    buf_t buf = { 0 };
    bool good = false;
    if (s_object (part, &buf)) {
        mp_t header = mp_buf (&buf), type = mp_get (header, "typ"), alg = mp_get (header, "alg");
        good = mp_type (alg) == MP_TEXT && text_is (mp_text (alg), "HS256")
            && (mp_is_none (type) || (mp_type (type) == MP_TEXT && text_is (mp_text (type), "JWT")))
            && mp_is_none (mp_get (header, "crit"));
    }
    buf_free (&buf);
    return good;
}

static token_verdict_t
s_claims_verdict (mp_t claims, int64_t now)
{
    int64_t expires, number;
    mp_t subject = mp_get (claims, "sub");
    mp_t not_before = mp_get (claims, "nbf"), issued = mp_get (claims, "iat");
    if (!mp_int_get (mp_get (claims, "exp"), &expires) || mp_type (subject) != MP_TEXT
        || mp_text (subject).size == 0)
        return TOKEN_MALFORMED;
    if (!mp_is_none (issued) && !mp_int_get (issued, &number))
        return TOKEN_MALFORMED;
    if (!mp_is_none (not_before) && !mp_int_get (not_before, &number))
        return TOKEN_MALFORMED;
    if (expires <= now)
        return TOKEN_EXPIRED;
    return !mp_is_none (not_before) && mp_int (not_before) > now ? TOKEN_NOT_YET : TOKEN_OK;
}

token_verdict_t
token_verify (text_t token, text_t key, int64_t now, buf_t *claims)
{
    text_t parts [3];
    if (token.size == 0 || token.size > TOKEN_MAX || !s_split (token, parts))
        return TOKEN_MALFORMED;
    //  First of all the signature: nobody without the key gets as far as our JSON code.
    if (!s_signature_good (token, parts [2], key))
        return TOKEN_FORGED;
    if (!s_header_good (parts [0]))
        return TOKEN_FORGED;
    size_t before = claims->size;
    if (!s_object (parts [1], claims))
        return TOKEN_MALFORMED;
    mp_t map = mp_of (claims->data + before, claims->size - before);
    token_verdict_t verdict = s_claims_verdict (map, now);
    if (verdict != TOKEN_OK)
        claims->size = before;
    return verdict;
}

const char *
token_verdict_text (token_verdict_t verdict)
{
    static const char *const texts [] = {
        [TOKEN_OK] = "token is good",
        [TOKEN_MALFORMED] = "token is malformed",
        [TOKEN_FORGED] = "token signature is not valid",
        [TOKEN_EXPIRED] = "token has expired",
        [TOKEN_NOT_YET] = "token is not valid yet" };
    return texts [verdict];
}

void
token_sign (mp_t claims, text_t key, buf_t *out)
{
    size_t start = out->size;
    buf_t json = { 0 };
    uint8_t signature [32];
    json_write (claims, &json);
    base64_put (out, TEXT ("{\"alg\":\"HS256\",\"typ\":\"JWT\"}"), true);
    buf_putc (out, '.');
    base64_put (out, buf_text (&json), true);
    buf_free (&json);
    hmac_sha256 (key, (text_t) { (char *) out->data + start, out->size - start }, signature);
    buf_putc (out, '.');
    base64_put (out, (text_t) { (char *) signature, sizeof signature }, true);
}
