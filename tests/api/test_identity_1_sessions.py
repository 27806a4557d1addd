"""Sign-up, sign-in, refresh and sign-out in the words of all five API families."""

import time
import uuid

import msgpack
import pytest

from client import LiveError, User
from identity_world import PASSWORD, address, claims, signed_in, stranger
from stack import SOON, wait_for
from wsocket import Socket

SIGN_UP = ["/auth/signup", "/auth/register", "/api/auth/register", "/api/auth/signup"]
SIGN_IN = ["/auth/signin", "/auth/login", "/api/auth/login", "/api/v1/auth/login",
           "/api/v1/auth/signin"]
ME = ["/auth/me", "/auth/user", "/auth/profile", "/api/auth/me", "/api/v1/auth/me", "/users/me",
      "/api/v1/users/me", "/api/users/profile"]
SIGN_OUT = ["/auth/signout", "/auth/logout", "/api/auth/logout", "/api/v1/auth/logout"]
REFRESH = ["/auth/refresh", "/api/auth/refresh", "/api/v1/auth/refresh"]


def check_session(answer, email):
    """Everything that some family reads after a sign-in."""
    assert answer["success"] is True
    assert answer["token"] == answer["access_token"]
    assert answer["token_type"] == "bearer"
    assert answer["expires_in"] == 86400
    assert answer["expiresAt"].endswith("Z")
    assert len(answer["refresh_token"]) >= 43
    assert answer["email"] == email
    assert answer["is_superuser"] is False
    user = answer["user"]
    assert answer["user_id"] == user["id"] == user["user_id"]
    assert user["email"] == email
    assert user["role"] == "client"
    assert user["account_id"] == user["icecube_id"] and len(user["account_id"]) == 12
    assert user["is_active"] is True
    assert user["organization_id"] and user["organization"]
    assert not {"password", "password_hash"} & (set(user) | set(answer))
    said = claims(answer["token"])
    assert said["sub"] == said["userId"] == said["user_id"] == user["id"]
    assert (said["email"], said["role"], said["org"]) == (email, "client", user["organization_id"])
    assert uuid.UUID(said["jti"])
    assert said["exp"] - said["iat"] == 86400
    assert abs(said["iat"] - time.time()) < 60


@pytest.mark.parametrize("path", SIGN_UP)
def test_sign_up(anyone, path):
    email = address("up")
    answer = anyone.post(path, {"email": email, "password": PASSWORD, "full_name": "Uta P."},
                         expect=201)
    check_session(answer, email)
    assert answer["user"]["full_name"] == "Uta P." and answer["user"]["name"] == "Uta P."


def test_sign_up_of_the_web_application_sends_the_address_as_user_name(anyone):
    email = address("web")
    answer = anyone.post("/auth/signup", {"username": email, "email": email, "password": PASSWORD,
                                          "full_name": "Web"}, expect=201)
    check_session(answer, email)
    again = anyone.post("/auth/signin", {"email": email, "password": PASSWORD})
    assert again["user"]["id"] == answer["user"]["id"]


def test_register_under_v1_answers_by_its_body(anyone):
    fleet, baas = address("fleet"), address("baas")
    name = "fleet_" + uuid.uuid4().hex[:8]
    answer = anyone.post("/api/v1/auth/register", {
        "email": fleet, "username": name, "password": PASSWORD, "full_name": "F"}, expect=201)
    check_session(answer, fleet)
    assert answer["user"]["username"] == name
    plain = anyone.post("/api/v1/auth/register", {"email": baas, "password": PASSWORD}, expect=200)
    assert plain["email"] == baas and "access_token" not in plain
    assert {"id", "is_active", "is_superuser", "full_name", "created_at", "updated_at"} <= set(plain)


@pytest.mark.parametrize("path", SIGN_UP + ["/api/v1/auth/register"])
def test_nobody_makes_themselves_an_administrator(anyone, path):
    answer = anyone.post(path, {"email": address(), "password": PASSWORD, "is_superuser": True,
                                "role": "super_admin", "is_active": False, "id": str(uuid.uuid4())},
                         expect=(200, 201))
    user = answer.get("user", answer)
    assert user["role"] == "client" and user["is_superuser"] is False and user["is_active"] is True


@pytest.mark.parametrize("path", SIGN_UP + ["/api/v1/auth/register"])
def test_a_taken_address_names_the_field(anyone, bob, path):
    response = anyone.request("POST", path, {"email": bob.user["email"].upper(),
                                             "password": PASSWORD}, expect=409)
    body = response.json()
    assert body["code"] == "CONFLICT" and "email" in body["details"]
    assert body["error"] == body["message"] == body["detail"]
    assert bob.user["email"] not in body["error"] or "key" not in body["error"]


def test_a_taken_user_name_names_the_field(anyone):
    name = "taken_" + uuid.uuid4().hex[:8]
    anyone.post("/auth/register", {"email": address(), "password": PASSWORD, "username": name},
                expect=201)
    body = anyone.post("/auth/register", {"email": address(), "password": PASSWORD,
                                          "username": name.upper()}, expect=409)
    assert "username" in body["details"]


@pytest.mark.parametrize("field, value", [
    ("email", None), ("email", ""), ("email", "nobody"), ("email", "a@"), ("email", "@b.org"),
    ("email", "a b@c.org"), ("email", 5), ("email", ["a@b.org"]), ("email", "a" * 250 + "@b.org"),
    ("email", "a@b.org\r\nBcc: c@d.org"), ("password", None), ("password", "short"),
    ("password", "x" * 73), ("password", "ä" * 37), ("password", 12345678), ("username", "ab"),
    ("full_name", "n" * 256), ("full_name", {"a": 1})])
def test_sign_up_names_the_wrong_field(anyone, field, value):
    body = {"email": address(), "password": PASSWORD, field: value}
    answer = anyone.post("/auth/signup", {k: v for k, v in body.items() if v is not None}, expect=400)
    assert answer["code"] == "INVALID" and field in answer["details"], answer
    assert field in answer["error"]


def test_72_bytes_of_password_all_count(stack, anyone):
    email, password = address("long"), "ä" * 35 + "xy"
    assert len(password.encode()) == 72
    anyone.post("/auth/signup", {"email": email, "password": password}, expect=201)
    signed_in(stack, email, password)
    for wrong in (password[:-1], password[:-1] + "z", password + "z"):
        stranger(stack).post("/auth/signin", {"email": email, "password": wrong}, expect=401)


def test_a_nul_never_cuts_a_password(stack, anyone, bob):
    anyone.post("/auth/signup", {"email": address(), "password": "abcdefgh\0 and more"}, expect=400)
    form = {"username": bob.user["email"], "password": bob.password + "\0 and more"}
    stranger(stack).request("POST", "/auth/login", data=form, expect=(400, 401))
    parts = {name: (None, value) for name, value in form.items()}
    stranger(stack).request("POST", "/auth/login", files=parts, expect=(400, 401))
    stranger(stack).request("POST", "/auth/signin", data={**form, "username": form["username"] + "\0x",
                                                 "password": bob.password}, expect=(400, 401))
    with Socket(stack.base.replace("http", "ws", 1) + "/ws", "busbar.v1.msgpack") as socket:
        socket.send(msgpack.packb({"id": 1, "connect": {"token": bob.token}}))
        socket.recv()
        socket.send(msgpack.packb({"id": 2, "call": {"method": "auth.signin", "body": {
            "email": bob.user["email"], "password": bob.password + "\0 and more"}}}))
        answer = msgpack.unpackb(socket.recv())
        assert answer["error"]["code"] in ("INVALID", "UNAUTHORIZED")


@pytest.mark.parametrize("path", SIGN_IN)
def test_sign_in(anyone, bob, path):
    answer = anyone.post(path, {"email": bob.user["email"], "password": bob.password})
    check_session(answer, bob.user["email"])
    assert answer["user"]["id"] == bob.id


@pytest.mark.parametrize("path", SIGN_IN)
@pytest.mark.parametrize("field", ["identifier", "username"])
def test_sign_in_by_other_words(anyone, bob, path, field):
    answer = anyone.post(path, {field: bob.user["email"].upper(), "password": bob.password})
    check_session(answer, bob.user["email"])


@pytest.mark.parametrize("path", ["/auth/login", "/api/v1/auth/login"])
def test_sign_in_by_form(anyone, bob, path):
    fields = {"username": bob.user["email"], "password": bob.password}
    answer = anyone.request("POST", path, data=fields, expect=200).json()
    check_session(answer, bob.user["email"])
    with_grant = {**fields, "grant_type": "password", "scope": ""}
    assert anyone.request("POST", path, data=with_grant, expect=200).json()["user_id"] == bob.id
    parts = {name: (None, value) for name, value in fields.items()}
    answer = anyone.request("POST", path, files=parts, expect=200).json()
    check_session(answer, bob.user["email"])


def test_sign_in_by_user_name(anyone):
    name, email = "pat_" + uuid.uuid4().hex[:8], address("pat")
    anyone.post("/auth/register", {"email": email, "password": PASSWORD, "username": name},
                expect=201)
    for field in ("identifier", "username", "email"):
        answer = anyone.post("/auth/login", {field: name.upper(), "password": PASSWORD})
        check_session(answer, email)


@pytest.mark.parametrize("path", SIGN_IN)
def test_a_wrong_password_and_an_unknown_user_look_alike(stack, sign_up, path):
    user, client = sign_up("wrong"), stranger(stack)
    wrong = client.request("POST", path, {"email": user.user["email"], "password": "not it at all"},
                           expect=401)
    unknown = client.request("POST", path, {"email": address(), "password": PASSWORD}, expect=401)
    assert wrong.headers["www-authenticate"] == unknown.headers["www-authenticate"] == "Bearer"
    without_id = [{k: v for k, v in answer.json().items() if k != "request_id"}
                  for answer in (wrong, unknown)]
    assert without_id[0] == without_id[1]


def test_sign_in_without_a_name_or_password(anyone):
    for path in ("/auth/signin", "/api/v1/auth/login"):
        assert "email" in anyone.post(path, {"password": PASSWORD}, expect=400)["details"]
        assert "password" in anyone.post(path, {"email": address()}, expect=400)["details"]
        anyone.post(path, expect=400)
        for body in (b"{", b"[1]", b'"a"', b'{"email":"a","email":"b","password":"c"}', b"\xff"):
            anyone.request("POST", path, content=body, expect=400,
                           headers={"Content-Type": "application/json"})


@pytest.mark.parametrize("stale", ["x", "a.b.c", "bb_unknown", "expired"])
def test_a_stale_token_is_ignored_where_one_signs_in(stack, bob, stale):
    user = User(stack.base, stale)
    user.post("/auth/signin", {"email": bob.user["email"], "password": bob.password})
    user.post("/auth/signup", {"email": address(), "password": PASSWORD}, expect=201)
    user.post("/api/v1/auth/register", {"email": address(), "password": PASSWORD})
    user.get("/auth/me", expect=401)
    user.close()


@pytest.mark.parametrize("path", ME)
def test_me(bob, anyone, path):
    me = bob.get(path)
    assert (me["id"], me["email"], me["role"]) == (bob.id, bob.user["email"], "client")
    assert {"full_name", "account_id", "icecube_id", "username", "is_active", "created_at",
            "organization", "preferences", "active_sessions_count"} <= set(me)
    assert me["created_at"].endswith("Z")
    assert "password_hash" not in me
    refused = anyone.request("GET", path, expect=401)
    assert refused.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["/auth/verify", "/api/v1/auth/verify"])
def test_verify_says_whose_token_it_is(bob, anyone, path):
    answer = bob.get(path)
    assert answer["valid"] is True
    assert (answer["user"]["id"], answer["user"]["role"]) == (bob.id, "client")
    anyone.get(path, expect=401)


@pytest.mark.parametrize("path", REFRESH)
def test_refresh(stack, sign_up, path):
    user = signed_in(stack, sign_up("fresh").user["email"])
    stranger = User(stack.base)
    by_body = stranger.post(path, {"refresh_token": user.refresh})
    by_bearer = User(stack.base, user.refresh).post(path)
    for answer in (by_body, by_bearer):
        assert answer["access_token"] == answer["token"] and answer["token_type"] == "bearer"
        assert answer["refresh_token"] == user.refresh
        assert User(stack.base, answer["token"]).get("/auth/me")["id"] == user.id
    exchanged = user.post(path)                  # a live access token may be exchanged
    assert User(stack.base, exchanged["token"]).get("/auth/me")["id"] == user.id
    stale = User(stack.base, "stale.access.token")
    assert stale.post(path, {"refresh_token": user.refresh})["user_id"] == user.id
    assert User(stack.base, user.refresh).request("GET", "/auth/me").status_code == 401


@pytest.mark.parametrize("path", REFRESH)
def test_a_bad_refresh_token_is_refused(anyone, path):
    refused = anyone.request("POST", path, {"refresh_token": "x" * 64}, expect=401)
    assert refused.headers["www-authenticate"] == "Bearer"
    assert "refresh_token" in anyone.post(path, expect=400)["details"]
    assert "refresh_token" in anyone.post(path, {"refresh_token": 5}, expect=400)["details"]
    assert "refresh_token" in anyone.post(path, {"refresh_token": "x" * 600}, expect=400)["details"]


@pytest.mark.parametrize("path", SIGN_OUT)
def test_sign_out_ends_this_session_and_no_other(stack, sign_up, path):
    first = sign_up("out")
    second = signed_in(stack, first.user["email"])
    live = second.another_live()
    assert second.get("/auth/me")["active_sessions_count"] == 2
    assert second.post(path)["message"]
    second.get("/auth/me", expect=401)           # at once, not soon
    second.post(path, expect=401)
    User(stack.base).post("/auth/refresh", {"refresh_token": second.refresh}, expect=401)
    assert live.closed.wait(SOON) and live.close_code == 3500
    assert first.get("/auth/me")["active_sessions_count"] == 1


@pytest.mark.parametrize("path", ["/auth/logout-all", "/auth/signout-all", "/api/v1/auth/logout-all"])
def test_sign_out_everywhere(stack, sign_up, path):
    first = sign_up("all")
    others = [signed_in(stack, first.user["email"]) for _ in range(3)]
    for user in others:
        user.get("/auth/me")
    live = others[0].another_live()
    first.post(path)
    first.get("/auth/me", expect=401)
    for user in others:
        wait_for(lambda u=user: u.request("GET", "/auth/me").status_code == 401, "the news")
        user.post("/auth/refresh", {"refresh_token": user.refresh}, expect=401)
    assert live.closed.wait(SOON) and live.close_code == 3500
    again = signed_in(stack, first.user["email"])     # in the same second
    again.get("/auth/me")


def test_a_revoked_token_opens_no_socket(stack, sign_up):
    user = sign_up("gone")
    user.post("/auth/signout")
    with pytest.raises((LiveError, AssertionError)):
        user.another_live()
