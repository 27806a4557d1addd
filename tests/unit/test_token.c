//  test_token.c -- every way of RFC 8725 to be fooled, and the secrets around tokens.

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proto/json.h"
#include "proto/token.h"

#define NOW 1700000000
#define KEY TEXT ("0123456789abcdef0123456789abcdef")
#define HEADER "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"
#define CLAIMS "{\"sub\":\"ann\",\"exp\":1700000001}"

//  header.claims.signature, all of it ours to choose; `signature` NULL: the right one.
static void
make (buf_t *out, const char *header, const char *claims, text_t key, const char *signature)
{
    uint8_t digest [32];
    base64_put (out, text_of (header), true);
    buf_putc (out, '.');
    base64_put (out, text_of (claims), true);
    hmac_sha256 (key, buf_text (out), digest);
    buf_putc (out, '.');
    if (signature)
        buf_puts (out, signature);
    else
        base64_put (out, (text_t) { (char *) digest, sizeof digest }, true);
}

static token_verdict_t
verdict_of (text_t token)
{
    buf_t claims = { 0 };
    buf_puts (&claims, "before");
    token_verdict_t verdict = token_verify (token, KEY, NOW, &claims);
    if (verdict == TOKEN_OK)
        assert_true (claims.size > 6);
    else
        assert_int_equal (claims.size, 6);
    buf_free (&claims);
    return verdict;
}

static token_verdict_t
verdict_made (const char *header, const char *claims, text_t key, const char *signature)
{
    buf_t token = { 0 };
    make (&token, header, claims, key, signature);
    token_verdict_t verdict = verdict_of (buf_text (&token));
    buf_free (&token);
    return verdict;
}

static void
known_token_is_good (void **state)
{
    (void) state;
    //  The example of jwt.io, whose claims have no exp: its signature is known to be right.
    static const char example [] = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
        "eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ."
        "SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c";
    buf_t claims = { 0 };
    assert_int_equal (token_verify (text_of (example), TEXT ("your-256-bit-secret"), NOW, &claims),
                      TOKEN_MALFORMED);
    assert_int_equal (token_verify (text_of (example), KEY, NOW, &claims), TOKEN_FORGED);
    buf_free (&claims);
}

static void
signed_claims_come_back (void **state)
{
    (void) state;
    buf_t in = { 0 }, token = { 0 }, out = { 0 };
    mp_put_map (&in, 3);
    mp_pair_str (&in, "sub", "ann");
    mp_pair_int (&in, "exp", NOW + 60);
    mp_pair_int (&in, "big", INT64_MAX);
    token_sign (mp_buf (&in), KEY, &token);
    assert_int_equal (token_verify (buf_text (&token), KEY, NOW, &out), TOKEN_OK);
    assert_true (text_is (mp_text (mp_get (mp_buf (&out), "sub")), "ann"));
    assert_true (mp_int (mp_get (mp_buf (&out), "big")) == INT64_MAX);
    //  Nothing is accepted with another key, an empty one, or one bit changed.
    out.size = 0;
    assert_int_equal (token_verify (buf_text (&token), TEXT ("x"), NOW, &out), TOKEN_FORGED);
    assert_int_equal (token_verify (buf_text (&token), TEXT (""), NOW, &out), TOKEN_FORGED);
    for (size_t n = 0; n < token.size; n++) {
        token.data [n] ^= 1;
        assert_int_not_equal (verdict_of (buf_text (&token)), TOKEN_OK);
        token.data [n] ^= 1;
        assert_int_not_equal (verdict_of ((text_t) { (char *) token.data, n }), TOKEN_OK);
    }
    assert_int_equal (verdict_of (buf_text (&token)), TOKEN_OK);
    buf_free (&in), buf_free (&token), buf_free (&out);
}

static void
only_hs256_is_an_algorithm (void **state)
{
    (void) state;
    static const char *const headers [] = { "{\"alg\":\"none\"}", "{\"alg\":\"None\"}",
        "{\"alg\":\"nOnE\"}", "{\"alg\":\"hs256\"}", "{\"alg\":\"HS384\"}", "{\"alg\":\"HS512\"}",
        "{\"alg\":\"RS256\"}", "{\"alg\":\"ES256\"}", "{\"alg\":\"\"}", "{\"alg\":null}",
        "{\"alg\":256}", "{\"alg\":[\"HS256\"]}", "{}", "[]", "\"HS256\"", "null", "",
        "{\"alg\":\"HS256\",\"alg\":\"none\"}", "{\"alg\":\"none\",\"alg\":\"HS256\"}",
        "{\"alg\":\"HS256\",\"typ\":\"at+jwt\"}", "{\"alg\":\"HS256\",\"typ\":null}",
        "{\"alg\":\"HS256\",\"crit\":[\"exp\"]}", "{\"alg\":\"HS256\",\"crit\":[]}",
        "{\"alg\":\"HS256\",\"crit\":null}", "{\"alg\":\"HS256\\u0000\"}", "{\"alg\":\"HS256 \"}" };
    for (size_t n = 0; n < sizeof headers / sizeof *headers; n++) {
        //  Even with the right signature; without one; with the one of the empty key.
        assert_int_not_equal (verdict_made (headers [n], CLAIMS, KEY, NULL), TOKEN_OK);
        assert_int_not_equal (verdict_made (headers [n], CLAIMS, KEY, ""), TOKEN_OK);
        assert_int_not_equal (verdict_made (headers [n], CLAIMS, TEXT (""), NULL), TOKEN_OK);
    }
    assert_int_equal (verdict_made ("{\"alg\":\"HS256\"}", CLAIMS, KEY, NULL), TOKEN_OK);
    assert_int_equal (verdict_made (HEADER, CLAIMS, KEY, NULL), TOKEN_OK);
    //  Who names a key of his own is not asked for it.
    static const char kid []
        = "{\"alg\":\"HS256\",\"kid\":\"../../dev/null\",\"jku\":\"http://x\"}";
    assert_int_equal (verdict_made (kid, CLAIMS, KEY, NULL), TOKEN_OK);
    assert_int_equal (verdict_made (kid, CLAIMS, TEXT (""), NULL), TOKEN_FORGED);
}

static void
claims_are_checked_by_type (void **state)
{
    (void) state;
    static const struct { const char *claims; token_verdict_t verdict; } cases [] = {
        { "{\"sub\":\"a\",\"exp\":1700000000}", TOKEN_EXPIRED },
        { "{\"sub\":\"a\",\"exp\":1699999999}", TOKEN_EXPIRED },
        { "{\"sub\":\"a\",\"exp\":-1}", TOKEN_EXPIRED },
        { "{\"sub\":\"a\",\"exp\":0}", TOKEN_EXPIRED },
        { "{\"sub\":\"a\",\"exp\":9223372036854775807}", TOKEN_OK },
        { "{\"sub\":\"a\",\"exp\":9223372036854775808}", TOKEN_MALFORMED },
        { "{\"sub\":\"a\",\"exp\":1e300}", TOKEN_MALFORMED },
        { "{\"sub\":\"a\",\"exp\":1700000001.5}", TOKEN_MALFORMED },
        { "{\"sub\":\"a\",\"exp\":\"1700000001\"}", TOKEN_MALFORMED },
        { "{\"sub\":\"a\",\"exp\":null}", TOKEN_MALFORMED },
        { "{\"sub\":\"a\",\"exp\":true}", TOKEN_MALFORMED },
        { "{\"sub\":\"a\"}", TOKEN_MALFORMED },
        { "{\"exp\":1700000001}", TOKEN_MALFORMED },
        { "{\"sub\":\"\",\"exp\":1700000001}", TOKEN_MALFORMED },
        { "{\"sub\":7,\"exp\":1700000001}", TOKEN_MALFORMED },
        { "{\"sub\":\"a\",\"sub\":\"b\",\"exp\":1700000001}", TOKEN_MALFORMED },
        { "{\"sub\":\"a\",\"exp\":1,\"exp\":1700000001}", TOKEN_MALFORMED },
        { "{\"sub\":\"a\",\"exp\":1700000001,\"nbf\":1700000000}", TOKEN_OK },
        { "{\"sub\":\"a\",\"exp\":1700000009,\"nbf\":1700000001}", TOKEN_NOT_YET },
        { "{\"sub\":\"a\",\"exp\":1700000001,\"nbf\":\"0\"}", TOKEN_MALFORMED },
        { "{\"sub\":\"a\",\"exp\":1700000001,\"nbf\":null}", TOKEN_MALFORMED },
        { "{\"sub\":\"a\",\"exp\":1700000001,\"iat\":1.5}", TOKEN_MALFORMED },
        { "{\"sub\":\"a\",\"exp\":1700000001,\"iat\":1600000000}", TOKEN_OK },
        { "[\"sub\",\"exp\"]", TOKEN_MALFORMED },
        { "null", TOKEN_MALFORMED }, { "1", TOKEN_MALFORMED }, { "{", TOKEN_MALFORMED },
        { "{\"sub\":\"\xff\",\"exp\":1700000001}", TOKEN_MALFORMED } };
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++)
        if (verdict_made (HEADER, cases [n].claims, KEY, NULL) != cases [n].verdict)
            fail_msg ("%s: %s", cases [n].claims,
                      token_verdict_text (verdict_made (HEADER, cases [n].claims, KEY, NULL)));
}

static void
form_is_exact (void **state)
{
    (void) state;
    buf_t good = { 0 }, bad = { 0 };
    make (&good, HEADER, CLAIMS, KEY, NULL);
    static const char *const around []
        = { " %s", "%s ", "%s\n", "%s=", "%s.", ".%s", "%s.x", "x%s" };
    for (size_t n = 0; n < sizeof around / sizeof *around; n++) {
        const char *mark = strchr (around [n], '%');
        buf_clear (&bad);
        buf_put (&bad, around [n], (size_t) (mark - around [n]));
        buf_put (&bad, good.data, good.size);
        buf_puts (&bad, mark + 2);
        assert_int_not_equal (verdict_of (buf_text (&bad)), TOKEN_OK);
    }
    //  The last letter of a signature has two bits to spare: the other three texts are refused.
    uint8_t *last = &good.data [good.size - 1], first = *last;
    for (uint8_t letter = 'A'; letter <= 'z'; letter++) {
        *last = letter;
        assert_int_equal (verdict_of (buf_text (&good)) == TOKEN_OK, letter == first);
        *last = first;
    }
    buf_clear (&bad);
    while (bad.size < TOKEN_MAX)
        buf_puts (&bad, "aaaa.");
    assert_int_equal (verdict_of (buf_text (&bad)), TOKEN_MALFORMED);
    static const char *const broken []
        = { "", ".", "..", "...", "a", "a.b", "a.b.", ".b.c", "a..c" };
    for (size_t n = 0; n < sizeof broken / sizeof *broken; n++)
        assert_int_equal (verdict_of (text_of (broken [n])), TOKEN_MALFORMED);
    buf_free (&good), buf_free (&bad);
}

static void
length_is_bounded (void **state)
{
    (void) state;
    for (int fill = 2900; fill < 3100; fill++) {
        buf_t claims = { 0 }, token = { 0 };
        buf_putf (&claims, "{\"sub\":\"a\",\"exp\":1700000001,\"x\":\"%*d\"}%c", fill, 1, 0);
        make (&token, HEADER, (char *) claims.data, KEY, NULL);
        assert_int_equal (verdict_of (buf_text (&token)),
                          token.size <= TOKEN_MAX ? TOKEN_OK : TOKEN_MALFORMED);
        buf_free (&claims), buf_free (&token);
    }
}

static bool
decodes (const char *text, bool url)
{
    buf_t out = { 0 };
    bool good = base64_get (&out, text_of (text), url);
    assert_true (good || out.size == 0);
    buf_free (&out);
    return good;
}

static void
base64_is_strict (void **state)
{
    (void) state;
    static const char *const vectors [] [2] = { { "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" },
        { "foo", "Zm9v" }, { "foob", "Zm9vYg==" }, { "fooba", "Zm9vYmE=" },
        { "foobar", "Zm9vYmFy" } };
    for (size_t n = 0; n < 7; n++)
        for (int url = 0; url < 2; url++) {
            buf_t text = { 0 }, back = { 0 };
            base64_put (&text, text_of (vectors [n] [0]), url);
            size_t size = url ? strcspn (vectors [n] [1], "=") : strlen (vectors [n] [1]);
            assert_true (text_eq (buf_text (&text), (text_t) { vectors [n] [1], size }));
            assert_true (base64_get (&back, buf_text (&text), url));
            assert_true (text_is (buf_text (&back), vectors [n] [0]));
            buf_free (&text), buf_free (&back);
        }
    assert_true (decodes ("+/8=", false) && decodes ("-_8", true));
    assert_false (decodes ("+/8", true) || decodes ("-_8=", false) || decodes ("-_8=", true));
    static const char *const bad [] = { "Z", "Zh==", "Zg=", "Zg", "Z===", "====", "=", "Zg==Zg==",
        "Zm9=", "Zm 8=", "Zm8=\n", "Zm8*", "=Zm8" };
    for (size_t n = 0; n < sizeof bad / sizeof *bad; n++)
        assert_false (decodes (bad [n], false));
    assert_false (decodes ("Zh", true) || decodes ("Zm9", true) || decodes ("Z", true));
}

static void
random_things_have_their_form (void **state)
{
    (void) state;
    char id [37], other [37], text [23], digest [65];
    uuid_make (id);
    uuid_make (other);
    assert_true (uuid_valid (text_of (id)) && id [14] == '4' && strchr ("89ab", id [19]));
    assert_string_not_equal (id, other);
    assert_true (uuid_valid (TEXT ("0123ABCD-0123-0123-0123-0123456789ab")));
    assert_false (uuid_valid (TEXT ("0123abcd-0123-0123-0123-0123456789a")));
    assert_false (uuid_valid (TEXT ("0123abcd-0123-0123-0123-0123456789ag")));
    assert_false (uuid_valid (TEXT ("0123abcd00123-0123-0123-0123456789ab")));
    assert_false (uuid_valid (TEXT ("{123abcd-0123-0123-0123-0123456789a}")));
    random_text (text, 22);
    assert_int_equal (strspn (text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                    "0123456789-_"), 22);
    sha256_hex (TEXT ("abc"), digest);
    assert_string_equal (digest,
                         "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_true (secret_eq (TEXT ("abc"), TEXT ("abc")) && secret_eq (TEXT (""), TEXT ("")));
    assert_false (secret_eq (TEXT ("abc"), TEXT ("abd")) || secret_eq (TEXT ("abc"), TEXT ("ab")));
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (known_token_is_good),
        cmocka_unit_test (signed_claims_come_back),
        cmocka_unit_test (only_hs256_is_an_algorithm),
        cmocka_unit_test (claims_are_checked_by_type),
        cmocka_unit_test (form_is_exact),
        cmocka_unit_test (length_is_bounded),
        cmocka_unit_test (base64_is_strict),
        cmocka_unit_test (random_things_have_their_form),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
