"""Who may what: tokens, keys, roles, sign-out, limits; and identity that falls silent."""

import base64
import json

import pytest
from http_fixtures import ANON_KEY, Edge, b64, token, wait_for


@pytest.fixture(scope="module")
def edge():
    edge = Edge("--limit-normal", "0", env={"ANON_KEY": ANON_KEY}).ready()
    yield edge
    codes = edge.stop()
    assert codes["edge.1"] == 0


def test_a_good_token_carries_an_identity(edge):
    answer = edge.get("/me", token=token("ann", jti="j1"))
    assert answer.status == 200
    assert answer.json == {"user": "ann", "role": "analyst", "kind": "user", "jti": "j1", "org": "o1",
                           "email": "ann@example.org"}
    assert answer.headers["cache-control"] == "private, no-cache"


def test_no_token_is_401_with_a_challenge(edge):
    answer = edge.get("/me")
    assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert answer.json["code"] == "UNAUTHORIZED"


def forged():
    good = token()
    head, body, mac = good.split(".")
    none = b64(json.dumps({"alg": "none"}).encode())
    yield "another secret", token(secret="another-secret-that-is-also-long-enough")
    yield "no signature", f"{none}.{body}."
    yield "none", f"{none}.{body}.{mac}"
    yield "HS384", token(alg="HS384")
    yield "four parts", good + ".x"
    yield "expired", token(life=-1)
    yield "padding", good + "="
    yield "other body", f"{head}.{b64(json.dumps({'sub': 'sue', 'exp': 9999999999}).encode())}.{mac}"
    yield "empty", ""
    yield "garbage", "x" * 3000
    yield "huge", "x" * 5000
    yield "standard base64", base64.b64encode(b"{}").decode()


@pytest.mark.parametrize("bad", [text for _, text in forged()], ids=[name for name, _ in forged()])
def test_a_bad_token_is_401_where_one_is_needed_and_ignored_where_not(edge, bad):
    assert edge.get("/me", token=bad).status == 401
    assert edge.post("/sign-in", {}, {"Authorization": "Bearer " + bad}).status in (200, 429)
    answer = edge.get("/maybe", token=bad)
    assert answer.status == 200 and answer.json["kind"] == "anon"


def test_nobody_is_never_the_operator(edge):
    assert edge.get("/open").json["identity"]["kind"] == "anon"
    assert edge.get("/maybe").json["kind"] == "anon"


def test_an_unknown_user_is_401(edge):
    assert edge.get("/me", token=token("ghost")).status == 401


def test_roles(edge):
    for path, allowed in (("/admin-only", {"adam", "sue"}), ("/super-only", {"sue"}),
                          ("/analysts", {"ann", "adam", "sue"})):
        for user in ("ann", "adam", "sue", "vic"):
            answer = edge.get(path, token=token(user))
            assert answer.status == (200 if user in allowed else 403), (path, user)
    assert edge.get("/admin-only").status == 401


def test_an_api_key_is_an_identity(edge):
    for headers in ({"Authorization": "Bearer bb_test_key"}, {"X-API-Key": "bb_test_key"}):
        assert edge.get("/me", headers).json["kind"] == "key"
    assert edge.get("/me", {"X-API-Key": "bb_other"}).status == 401


def test_the_anon_key_opens_routes_of_its_family(edge):
    assert edge.get("/api/v1/tables").status == 401
    assert edge.get("/api/v1/tables", {"apikey": "wrong"}).status == 401
    assert edge.get("/api/v1/tables", {"apikey": ANON_KEY}).json["kind"] == "anon"
    assert edge.get("/api/v1/tables", {"anon-key": ANON_KEY}).status == 200
    assert edge.get("/api/v1/tables?apikey=" + ANON_KEY).status == 200
    assert edge.get("/api/v1/tables?anon-key=" + ANON_KEY).status == 200
    assert edge.get("/api/v1/tables", token=token()).json["user"] == "ann"
    assert edge.get("/api/v1/tables", token="bad").status == 401
    assert edge.request("OPTIONS", "/api/v1/tables").status == 204
    assert edge.get("/open").status == 200


def test_sign_out_holds_at_this_edge_before_its_answer(edge):
    mine = token("ann", jti="to-be-signed-out")
    for _ in range(3):
        assert edge.get("/me", token=mine).status == 200
    assert edge.post("/sign-out", {}, token=mine).status == 200
    assert edge.get("/me", token=mine).status == 401
    assert edge.get("/me", token=token("ann", jti="another")).status == 200


def test_a_revocation_reaches_the_edge_as_an_event(edge):
    import sys

    from http_fixtures import HOME
    sys.path.insert(0, str(HOME / "proto" / "python"))
    import busbar
    mine = token("vic", jti="revoked-by-event")
    assert edge.get("/me", token=mine).status == 200
    with busbar.Client(edge.run) as bus:
        bus.call("identity.revoke", {"jti": "revoked-by-event", "user": "vic"})
    wait_for(lambda: edge.get("/me", token=mine).status == 401, "revocation", 2)


def test_sign_in_is_limited_per_account_and_per_address():
    edge = Edge("--limit-sign-in", "6/m:3").ready()
    try:
        for _ in range(3):
            assert edge.post("/sign-in", {"email": "a"}).status == 200
        answer = edge.post("/sign-in", {"email": "a"})
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert edge.post("/sign-in", b"username=a", form).status == 429
        answers = [edge.post("/sign-in", {"email": f"b{n}"}).status for n in range(40)]
        assert answers[:20] == [200] * 20 and answers[-1] == 429
        assert answer.status == 429 and answer.json["code"] == "RATE_LIMITED"
        assert 1 <= int(answer.headers["retry-after"]) <= 11
        assert edge.get("/open").status == 200
    finally:
        assert edge.stop()["edge.1"] == 0


def test_users_have_their_own_buckets():
    edge = Edge("--limit-normal", "1/h:4").ready("/health")
    try:
        wait_for(lambda: edge.get("/health").json["services"].get("shop") == "healthy")
        assert [edge.get("/me", token=token("ann")).status for _ in range(6)] == [200] * 4 + [429] * 2
        assert edge.get("/me", token=token("adam")).status == 200
    finally:
        assert edge.stop()["edge.1"] == 0


def test_cors_with_a_list_names_exact_origins():
    edge = Edge("--cors-origins", "https://a.example, https://b.example").ready()
    try:
        answer = edge.get("/open", {"Origin": "https://b.example"})
        assert answer.headers["access-control-allow-origin"] == "https://b.example"
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert "access-control-allow-origin" not in edge.get("/open", {"Origin": "https://a.example.evil"}).headers
    finally:
        edge.stop()


def test_when_identity_is_silent_nobody_gets_in():
    edge = Edge().ready()
    mine = token("ann")
    try:
        assert edge.get("/me", token=mine).status == 200
        edge.kill("identity.1")
        assert edge.get("/me", token=mine).status == 200
        wait_for(lambda: edge.get("/me", token=mine).status == 503, "failing closed", 40)
        assert edge.get("/health/ready").status == 503
        assert edge.get("/open").status == 200
        edge.actor("identity")
        wait_for(lambda: edge.get("/me", token=mine).status == 200, "open again")
    finally:
        edge.stop()
