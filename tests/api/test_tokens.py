"""Tokens that must not open anything: RFC 8725 and what attackers try, on REST and on WebSocket."""

import base64
import hashlib
import hmac
import json
import time
import uuid

import httpx
import pytest

from client import LiveError, User
from identity_world import administrator, claims, signed_in
from stack import wait_for
from wsocket import Closed, Socket


def b64(data):
    data = json.dumps(data).encode() if isinstance(data, dict) else data
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


HEADER = {"alg": "HS256", "typ": "JWT"}
HASHES = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}


def signed(secret, body, header=None, hash=hashlib.sha256):
    header = HEADER if header is None else header
    text = f"{b64(header)}.{b64(body)}"
    return f"{text}.{b64(hmac.new(secret, text.encode(), hash).digest())}"


@pytest.fixture(scope="module")
def secret(stack):
    """The key that this system made for itself."""
    lines = [line for path in (stack.var / "v" / "secrets").rglob("*") if path.is_file()
             for line in path.read_text(errors="replace").splitlines()]
    found = {line.split("=", 1)[1] for line in lines if line.lower().startswith("jwt_secret=")}
    if not found:
        found = {path.read_text().strip() for path in (stack.var / "v" / "secrets").rglob("jwt*")}
    assert len(found) == 1, "one JWT secret"
    return found.pop().encode()


@pytest.fixture(scope="module")
def good(ann):
    return claims(ann.token)


def refused(stack, token):
    """401 on REST, closed on the socket."""
    answer = User(stack.base, token).request("GET", "/auth/me", expect=401)
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["code"] == "UNAUTHORIZED"
    with Socket(stack.base.replace("http", "ws", 1) + "/ws") as socket:
        socket.send(json.dumps({"id": 1, "connect": {"token": token}}))
        with pytest.raises(Closed) as closed:
            socket.recv()
            socket.recv()
        assert closed.value.code == 3500


def test_our_signing_is_theirs(stack, secret, good, ann):
    """Everything below fails for its own reason, not for a wrong key."""
    assert User(stack.base, signed(secret, good)).get("/auth/me")["id"] == ann.id
    assert User(stack.base, signed(secret, good, {"alg": "HS256"})).get("/auth/me")["id"] == ann.id


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None])
@pytest.mark.parametrize("mac", ["", "AAAA", "keep"])
def test_no_algorithm(stack, secret, good, alg, mac):
    head = f"{b64({'alg': alg, 'typ': 'JWT'})}.{b64(good)}"
    signature = signed(secret, good).split(".")[2] if mac == "keep" else mac
    refused(stack, f"{head}.{signature}")


@pytest.mark.parametrize("alg", ["none", "None", "hs256", "Hs256", "HS384", "HS512", "RS256", "ES256",
                                 "PS256", "EdDSA", "HS256 ", "HS256,none", None, 256, ["HS256"]])
def test_other_algorithms_with_the_right_key(stack, secret, good, alg):
    refused(stack, signed(secret, good, {"alg": alg, "typ": "JWT"}, HASHES.get(str(alg), hashlib.sha256)))


@pytest.mark.parametrize("alg", ["HS384", "HS512"])
def test_a_header_that_lies_about_its_hash(stack, secret, good, alg):
    refused(stack, signed(secret, good, HEADER, HASHES[alg]))


@pytest.mark.parametrize("header", [
    {"alg": "HS256", "crit": ["exp"]}, {"alg": "HS256", "crit": ["b64"], "b64": False},
    {"alg": "HS256", "typ": "at+jwt"}, {"alg": "HS256", "typ": "JWE"}, {"typ": "JWT"}, {},
    {"alg": "HS256", "typ": ["JWT"]}])
def test_headers_that_ask_for_more(stack, secret, good, header):
    refused(stack, signed(secret, good, header))


@pytest.mark.parametrize("extra", [
    {"kid": "../../../../dev/null"}, {"kid": "' UNION SELECT 'key"}, {"kid": "| id"},
    {"jku": "http://127.0.0.1:1/keys"}, {"x5u": "http://127.0.0.1:1/"},
    {"jwk": {"kty": "oct", "k": b64(b"attacker" * 4)}}])
@pytest.mark.parametrize("key", [b"", b"\0", b"key", b"attacker" * 4])
def test_a_key_is_never_chosen_by_the_token(stack, good, extra, key):
    refused(stack, signed(key, good, {**HEADER, **extra}))


@pytest.mark.parametrize("key", [b"", b"secret", b"changeme", b"your-secret-key", b"0" * 32])
def test_keys_that_anybody_knows(stack, good, key):
    refused(stack, signed(key, good))


@pytest.mark.parametrize("exp", [0, -1, 1.5, 1e30, "9999999999", None, True, [9999999999],
                                 2**63, 2**64, -(2**63)])
def test_an_end_that_is_no_time(stack, secret, good, exp):
    refused(stack, signed(secret, {**good, "exp": exp}))


def test_a_token_without_end(stack, secret, good):
    refused(stack, signed(secret, {name: good[name] for name in good if name != "exp"}))


@pytest.mark.parametrize("change", [
    {"nbf": 2**40}, {"nbf": "0"}, {"nbf": 1.5}, {"iat": "0"}, {"iat": 1.5}, {"iat": None, "nbf": []},
    {"sub": ""}, {"sub": 5}, {"sub": None}, {"sub": ["a"]}])
def test_wrong_claims(stack, secret, good, change):
    body = {**good, **change}
    if "sub" in change:                          # every spelling of whose it is
        body = {**body, "user_id": change["sub"], "userId": change["sub"]}
    refused(stack, signed(secret, body))


@pytest.mark.parametrize("name", ["exp", "sub", "jti"])
def test_claims_that_come_twice(stack, secret, good, name):
    body = json.dumps(good)[:-1] + f', "{name}": {json.dumps(good[name])}}}'
    refused(stack, signed(secret, body.encode()))


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"a"', b"{", b"{}", b"\xff\xfe", b"{}{}",
                                  b'{"sub":"\xed\xa0\x80","exp":9999999999}', b"[" * 3000])
def test_bodies_that_are_no_claims(stack, secret, body):
    refused(stack, signed(secret, body))


def variants(token):
    head, body, mac = token.split(".")
    yield "no signature", f"{head}.{body}."
    yield "two parts", f"{head}.{body}"
    yield "one part", head
    yield "four parts", f"{token}.{mac}"
    yield "five parts", f"{head}.{body}.{mac}.{head}.{body}"
    yield "only dots", ".."
    yield "empty head", f".{body}.{mac}"
    yield "padded", f"{token}="
    yield "padded body", f"{head}.{body}=.{mac}"
    yield "short signature", token[:-4]
    yield "doubled signature", token + mac
    yield "inner space", f"{head}. {body}.{mac}"
    yield "tab at the end", f"{head}.{body}.{mac}\t."
    yield "plus", f"{head}.{body}.+{mac[1:]}"
    yield "percent", f"{head}.{body}.%41{mac[1:]}"
    yield "other case", f"{head}.{body}.{mac.swapcase()}"
    yield "foreign head", f"{b64({'alg': 'HS256', 'typ': 'JWT', 'x': 1})}.{body}.{mac}"
    yield "huge", "x" * 5000
    yield "huge and dotted", f"{head}.{'A' * 5000}.{mac}"


VARIANTS = ["no signature", "two parts", "one part", "four parts", "five parts", "only dots", "empty head",
            "padded", "padded body", "short signature", "doubled signature", "inner space",
            "tab at the end", "plus", "percent", "other case", "foreign head", "huge", "huge and dotted"]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_good_token_bent(stack, ann, name):
    refused(stack, dict(variants(ann.token))[name])


def test_the_last_character_of_a_signature_counts(stack, ann):
    """43 characters hold 258 bits: the two spare ones are no second spelling."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(ann.token[-1])
    for other in {last ^ 1, last ^ 2, last ^ 3, last ^ 4}:
        refused(stack, ann.token[:-1] + alphabet[other])


def test_an_unknown_user(stack, secret, good):
    ghost = str(uuid.uuid4())
    refused(stack, signed(secret, {**good, "sub": ghost, "user_id": ghost, "userId": ghost}))
    refused(stack, signed(secret, {**good, "sub": "admin", "user_id": "admin", "userId": "admin"}))


def test_an_unknown_or_foreign_session(stack, secret, good, bob):
    foreign = claims(bob.token)["jti"]
    for jti in (str(uuid.uuid4()), foreign, "", None, 5, "x", good["jti"].replace("-", "")):
        if jti != good["jti"].replace("-", ""):
            refused(stack, signed(secret, {**good, "jti": jti}))
    refused(stack, signed(secret, {name: good[name] for name in good if name != "jti"}))


@pytest.mark.parametrize("names", [("sub",), ("userId",), ("user_id",), ("sub", "userId"),
                                   ("sub", "user_id"), ("userId", "user_id")])
def test_claims_that_name_two_users(stack, secret, good, bob, names):
    """Ann's session and Bob's name: neither of them."""
    token = signed(secret, {**good, **{name: bob.id for name in names}})
    answer = User(stack.base, token).request("GET", "/auth/me", expect=(200, 401))
    assert answer.status_code == 401 or answer.json()["id"] != bob.id


def test_a_role_in_a_token_gives_no_right(stack, secret, good):
    """Who somebody is says identity; the token only says who asks."""
    raised = User(stack.base, signed(secret, {**good, "role": "super_admin"}))
    raised.get("/users", expect=403)
    assert raised.get("/auth/me")["role"] == "client"


def test_the_end_is_the_end(stack, secret, good):
    """No leeway: a token is good until its last second begins, not longer."""
    now = int(time.time())
    refused(stack, signed(secret, {**good, "exp": now}))
    refused(stack, signed(secret, {**good, "exp": now - 1}))
    ends = int(time.time()) + 3
    user = User(stack.base, signed(secret, {**good, "exp": ends}))
    assert user.get("/auth/me")["id"] == good["sub"]
    wait_for(lambda: user.request("GET", "/auth/me").status_code == 401, "its end", 6)
    assert ends <= time.time() < ends + 2


def test_a_socket_ends_with_its_token(stack, secret, good):
    live = User(stack.base, signed(secret, {**good, "exp": int(time.time()) + 4})).another_live()
    live.subscribe("workspaces")
    assert live.closed.wait(30)
    assert live.close_code == 3005


def test_replay_after_sign_out(stack, sign_up, secret):
    user = sign_up("replays")
    again = signed_in(stack, user.user["email"])
    token = again.token
    other = signed(secret, {**claims(token), "exp": claims(token)["exp"] - 1})
    User(stack.base, other).get("/auth/me")
    again.post("/auth/signout")
    for replayed in (token, other, signed(secret, claims(token))):
        refused(stack, replayed)
    with pytest.raises((LiveError, AssertionError)):
        User(stack.base, token).another_live()
    user.get("/auth/me")


def test_a_refresh_token_is_no_access_token(stack, sign_up):
    refused(stack, signed_in(stack, sign_up("refresh").user["email"]).refresh)


@pytest.mark.parametrize("value", ["", "Bearer", "Basic YTpi", "bearer", "Token x", "Bearer a b",
                                   "Bearer \x7f", "Bearer ,"])
def test_odd_authorization_headers(anyone, value):
    anyone.request("GET", "/auth/me", headers={"Authorization": value}, expect=(400, 401))


def test_the_scheme_has_no_case(anyone, ann):
    for scheme in ("bearer", "BEARER"):
        answer = anyone.request("GET", "/auth/me", headers={"Authorization": f"{scheme} {ann.token}"})
        assert answer.status_code == 200


def test_tokens_in_addresses_are_not_looked_at(anyone, ann):
    for name in ("token", "access_token", "jwt"):
        anyone.get(f"/auth/me?{name}={ann.token}", expect=401)


def test_nothing_secret_is_logged(stack, ann, secret):
    text = stack.log_text()
    assert secret.decode() not in text
    assert ann.token not in text and ann.token.split(".")[2] not in text
    administrator(stack)


def test_live_streams_end_with_their_token(stack, secret, good):
    short = signed(secret, {**good, "exp": int(time.time()) + 3})
    with Socket(stack.base.replace("http", "ws", 1) + "/ws") as socket:
        socket.send(json.dumps({"id": 1, "connect": {"token": short}}))
        assert json.loads(socket.recv())["connect"]["ttl"] <= 3
        with httpx.Client(base_url=stack.base, timeout=15, trust_env=False) as http:
            with http.stream("GET", "/events", params={"ch": "workspaces"},
                             headers={"Authorization": f"Bearer {short}"}) as response:
                text = b"".join(response.iter_raw()).decode()      # to its end
        assert "event: end" in text
        with pytest.raises(Closed) as closed:
            socket.recv(10)
        assert closed.value.code == 3005


#  ---------------------------------------------------------------- every door

def by_socket_header(stack, token):
    """An upgrade that brings it: closed at once."""
    with Socket(stack.base.replace("http", "ws", 1) + "/ws",
                headers={"Authorization": f"Bearer {token}"}) as socket:
        with pytest.raises(Closed) as closed:
            socket.recv()
        assert closed.value.code == 3500


def by_ticket(stack, token):
    """A token is no ticket."""
    with Socket(stack.base.replace("http", "ws", 1) + f"/ws?ticket={token}") as socket:
        with pytest.raises(Closed) as closed:
            socket.recv()
        assert closed.value.code == 3500
    assert httpx.get(stack.base + "/events", params={"ch": "workspaces", "ticket": token},
                     trust_env=False).status_code == 401


def by_events(stack, token):
    answer = httpx.get(stack.base + "/events", params={"ch": "workspaces"}, trust_env=False,
                       headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


def by_ticket_desk(stack, token):
    User(stack.base, token).post("/live/ticket", expect=401)


DOORS = (by_socket_header, by_ticket, by_events, by_ticket_desk)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("what", ["alg none", "other key", "expired", "no end", "crit", "no session", "HS512"])
def test_no_door_takes_less(stack, secret, good, door, what):
    now = int(time.time())
    door(stack, {
        "alg none": f"{b64({'alg': 'none'})}.{b64(good)}.AAAA",
        "other key": signed(b"another key of thirty-two bytes!", good),
        "expired": signed(secret, {**good, "exp": now - 1}),
        "no end": signed(secret, {name: good[name] for name in good if name != "exp"}),
        "crit": signed(secret, good, {**HEADER, "crit": ["exp"]}),
        "no session": signed(secret, {**good, "jti": str(uuid.uuid4())}),
        "HS512": signed(secret, good, {"alg": "HS512", "typ": "JWT"}, hashlib.sha512)}[what])


@pytest.mark.parametrize("door", DOORS)
def test_no_door_takes_what_was_signed_out_or_is_a_refresh_token(stack, sign_up, door):
    user = sign_up("doors")
    again = signed_in(stack, user.user["email"])
    door(stack, again.refresh)
    again.post("/auth/signout")
    door(stack, again.token)


@pytest.mark.parametrize("change", [
    {"iss": "https://evil.example"}, {"aud": "another"}, {"iss": 5}, {"aud": ["another"]}, {"iat": 2**40}])
def test_claims_that_we_do_not_make_give_nothing(stack, secret, good, change):
    """Issuer and audience are not ours to check: the session is, and it is Ann's whatever else is said."""
    answer = User(stack.base, signed(secret, {**good, **change})).request("GET", "/auth/me", expect=(200, 401))
    assert answer.status_code == 401 or answer.json()["id"] == good["sub"]
