"""Others: administration by role, organisations and members, API keys, the public key, the trail."""

import uuid

import pytest

from client import LiveError, User
from identity_world import PASSWORD, address, administrator, claims, signed_in, stranger
from stack import SOON, wait_for


@pytest.fixture(scope="module")
def admin(stack):
    user = administrator(stack)
    yield user
    user.close()


@pytest.fixture(scope="module")
def officer(stack, admin):
    """An administrator who is no super administrator."""
    email = address("officer")
    admin.post("/api/v1/users", {"email": email, "password": PASSWORD, "role": "admin"}, expect=201)
    user = signed_in(stack, email)
    yield user
    user.close()


ADMIN_ROUTES = [("GET", "/users"), ("GET", "/api/v1/users"), ("GET", "/api/v1/users/"),
                ("GET", "/admin/users"), ("GET", "/api/v1/users/list"), ("GET", "/users/count"),
                ("POST", "/api/v1/users"), ("POST", "/admin/clients"), ("GET", "/admin/audit"),
                ("PUT", "/users/{id}"), ("PATCH", "/users/{id}"), ("DELETE", "/users/{id}"),
                ("DELETE", "/admin/users/{id}"), ("PUT", "/admin/users/{id}/status"),
                ("PUT", "/admin/users/{id}/role"), ("POST", "/admin/users/{id}/toggle-active")]


@pytest.mark.parametrize("verb, path", ADMIN_ROUTES)
def test_administration_is_for_administrators(ann, bob, anyone, verb, path):
    path = path.format(id=bob.id)
    body = {"email": address(), "password": PASSWORD, "role": "admin", "is_active": False}
    given = body if verb in ("POST", "PUT", "PATCH") else None
    assert ann.request(verb, path, given, expect=403).json()["code"] == "FORBIDDEN"
    anyone.request(verb, path, given, expect=401)
    assert bob.get("/auth/me")["is_active"] is True


def test_the_first_administrator_is_a_superuser(admin):
    me = admin.get("/auth/me")
    assert (me["role"], me["is_superuser"]) == ("super_admin", True)
    assert claims(admin.token)["role"] == "super_admin"


def test_administrators_list_users(admin, officer, ann):
    for path in ("/api/v1/users", "/api/v1/users/?skip=0&limit=10000", "/users", "/admin/users"):
        rows = officer.get(path)
        assert isinstance(rows, list)
        row = next(row for row in rows if row["id"] == ann.id)
        assert {"email", "username", "name", "full_name", "role", "is_active", "last_login",
                "created_at"} <= set(row)
        assert not any("password" in key for row in rows for key in row)
    ids = {row["id"] for row in admin.get("/api/v1/users/list?limit=10000")}
    assert admin.get("/auth/me")["id"] not in ids and ann.id in ids
    assert admin.get("/api/v1/users/count") == len(admin.get("/api/v1/users?limit=10000"))
    pages = [admin.get(f"/api/v1/users?skip={skip}&limit=1")[0]["id"] for skip in (0, 1)]
    assert len(set(pages)) == 2
    for bad in ("skip=-1", "limit=0", "limit=x", "limit=99999", "skip=1.5"):
        admin.get(f"/api/v1/users?{bad}", expect=400)


def test_users_are_found_by_id_and_account_number(admin, ann, bob):
    for name in (ann.id, ann.id.upper(), ann.get("/auth/me")["account_id"]):
        assert admin.get(f"/api/v1/users/{name}")["id"] == ann.id
        assert ann.get(f"/users/{name}")["id"] == ann.id
        bob.get(f"/users/{name}", expect=404)
    for name in (str(uuid.uuid4()), "nobody", "000000000000", "x" * 100):
        admin.get(f"/users/{name}", expect=(400, 404))


def test_an_administrator_makes_and_changes_users(stack, admin):
    email, name = address("made"), "made_" + uuid.uuid4().hex[:8]
    made = admin.post("/admin/clients", {"email": email, "password": PASSWORD, "username": name,
                                         "full_name": "Made", "role": "user"}, expect=201)
    assert (made["email"], made["username"], made["role"]) == (email, name, "client")
    assert "email" in admin.post("/users", {"email": email, "password": PASSWORD},
                                 expect=409)["details"]
    user = signed_in(stack, email)
    changed = admin.put(f"/api/v1/users/{made['id']}", {"full_name": "Changed", "role": "analyst"})
    assert (changed["full_name"], changed["role"]) == ("Changed", "analyst")
    wait_for(lambda: user.request("GET", "/auth/me").status_code == 401, "the old role's end")
    assert claims(signed_in(stack, email).token)["role"] == "analyst"
    admin.patch(f"/users/{made['id']}", {"password": "New-password-9"})
    signed_in(stack, email, "New-password-9")
    refused = admin.put(f"/users/{made['id']}", {"role": "king"}, expect=400)
    assert "role" in refused["details"]


def test_a_user_who_is_sent_back_as_they_are_stays_signed_in(admin, sign_up):
    user = sign_up("same")
    shown = admin.get(f"/users/{user.id}")
    again = admin.put(f"/users/{user.id}", {name: shown[name] for name in (
        "email", "full_name", "role", "is_superuser")})
    assert again["role"] == "client"
    assert user.get("/auth/me")["id"] == user.id


REPEATED = [("POST", "/users", lambda: {"email": address(), "password": PASSWORD}),
            ("PUT", "/users/me", lambda: {"full_name": "Once"}),
            ("PUT", "/users/preferences", lambda: {"theme": "dark"}),
            ("POST", "/organizations", lambda: {"name": "Once"}),
            ("POST", "/auth/change-password", lambda: {"current_password": PASSWORD,
                                                       "new_password": "Once-and-again-1"}),
            ("PUT", "/users/me/password", lambda: {"current_password": PASSWORD,
                                                   "new_password": "Once-and-again-1"})]


@pytest.mark.parametrize("verb, path, make", REPEATED)
def test_a_repeated_request_gets_the_same_answer(stack, admin, verb, path, make):
    email = address("repeats")
    admin.post("/users", {"email": email, "password": PASSWORD}, expect=201)
    user = admin if path == "/users" else signed_in(stack, email)
    body, key = make(), {"Idempotency-Key": uuid.uuid4().hex}
    first = user.request(verb, path, body, headers=key, expect=(200, 201))
    second = user.request(verb, path, body, headers=key, expect=first.status_code)
    assert second.json() == first.json()
    assert second.headers["idempotency-replayed"] == "true"
    other = {**body, next(iter(body)): "something-else@example.org"}
    assert user.request(verb, path, other, headers=key, expect=(400, 422))


@pytest.mark.parametrize("verb, path, body", [
    ("PUT", "/admin/users/{}/status", {"is_active": False}),
    ("PUT", "/admin/users/{}/role", {"role": "analyst"}),
    ("POST", "/admin/users/{}/toggle-active", None),
    ("DELETE", "/admin/users/{}", None), ("DELETE", "/users/{}", None)])
def test_a_repeated_change_of_somebody_gets_the_same_answer(admin, verb, path, body):
    made = admin.post("/users", {"email": address("again"), "password": PASSWORD}, expect=201)
    key, path = {"Idempotency-Key": uuid.uuid4().hex}, path.format(made["id"])
    first = admin.request(verb, path, body, headers=key, expect=200)
    second = admin.request(verb, path, body, headers=key, expect=200)
    assert second.json() == first.json()
    assert second.headers["idempotency-replayed"] == "true"


def test_a_refused_change_changes_nothing(stack, admin, bob):
    email = address("whole")
    made = admin.post("/users", {"email": email, "password": PASSWORD}, expect=201)
    admin.put(f"/users/{made['id']}", {"password": "New-password-9", "email": bob.user["email"]},
              expect=409)
    signed_in(stack, email)


def test_status_and_role_routes(stack, admin, sign_up):
    user = sign_up("status")
    path = f"/admin/users/{user.id}"
    assert admin.put(f"{path}/status", {"is_active": False}) == \
        {"status": "success", "user_id": user.id, "is_active": False}
    wait_for(lambda: user.request("GET", "/auth/me").status_code == 401, "the token's end")
    refused = User(stack.base).request("POST", "/auth/signin", {
        "email": user.user["email"], "password": PASSWORD}, expect=403)
    assert refused.json()["detail"] == "account is inactive"
    stranger(stack).post("/auth/signin", {"email": user.user["email"], "password": "wrong one"}, expect=401)
    assert admin.post(f"{path}/toggle-active")["is_active"] is True
    assert signed_in(stack, user.user["email"]).get("/auth/me")["is_active"] is True
    assert admin.put(f"{path}/role", {"role": "lab"}) == \
        {"status": "success", "user_id": user.id, "role": "lab"}
    assert "role" in admin.put(f"{path}/role", {"role": "boss"}, expect=400)["details"]
    assert "is_active" in admin.put(f"{path}/status", {}, expect=400)["details"]
    removed = admin.delete(path)
    assert removed == {"status": "success", "message": "User deleted"}
    admin.delete(path, expect=404)


def test_nobody_removes_or_demotes_themselves(admin):
    me = admin.get("/auth/me")["id"]
    for verb, path, body in (("DELETE", f"/admin/users/{me}", None),
                             ("PUT", f"/admin/users/{me}/status", {"is_active": False}),
                             ("PUT", f"/admin/users/{me}/role", {"role": "client"})):
        admin.request(verb, path, body, expect=400)


def test_administrators_do_not_rise_above_themselves(admin, officer, sign_up):
    chief = admin.get("/auth/me")["id"]
    user = sign_up("riser")
    for role in ("admin", "super_admin"):
        officer.put(f"/admin/users/{user.id}/role", {"role": role}, expect=403)
        officer.put(f"/users/{user.id}", {"role": role}, expect=403)
        officer.post("/users", {"email": address(), "password": PASSWORD, "role": role}, expect=403)
    officer.post("/users", {"email": address(), "password": PASSWORD, "is_superuser": True}, expect=403)
    for verb, path, body in (("DELETE", f"/users/{chief}", None),
                             ("PUT", f"/users/{chief}", {"password": "taken-over-1"}),
                             ("PUT", f"/users/{chief}", {"email": address()}),
                             ("PUT", f"/admin/users/{chief}/status", {"is_active": False}),
                             ("PUT", f"/admin/users/{chief}/role", {"role": "client"})):
        officer.request(verb, path, body, expect=403)
    assert officer.put(f"/admin/users/{user.id}/role", {"role": "viewer"})["role"] == "viewer"


def test_an_administrator_does_not_raise_themselves(officer):
    me = officer.get("/auth/me")["id"]
    for body in ({"role": "super_admin"}, {"is_superuser": True}):
        officer.put(f"/users/{me}", body, expect=(400, 403))
        officer.put("/users/me", body)
    assert officer.get("/auth/me")["role"] == "admin"


# ---------------------------------------------------------------- organisations


def test_organisations_and_members(stack, sign_up):
    owner, member, stranger = sign_up("owns"), sign_up("joins"), sign_up("stranger")
    personal = owner.get("/organizations")
    assert [org["personal"] for org in personal] == [True]
    org = owner.post("/organizations", {"name": "Wharf"}, expect=201)
    assert (org["name"], org["personal"], org["role"]) == ("Wharf", False, "owner")
    path = f"/organizations/{org['id']}"
    for user in (member, stranger):
        user.get(path, expect=404)
        user.get(f"{path}/members", expect=404)
        user.put(path, {"name": "mine"}, expect=404)
        user.delete(path, expect=404)
        user.post(f"{path}/members", {"email": user.user["email"]}, expect=404)
        user.delete(f"{path}/members/{owner.id}", expect=404)
    added = owner.post(f"{path}/members", {"email": member.user["email"], "role": "viewer"}, expect=201)
    assert (added["user_id"], added["role"]) == (member.id, "viewer")
    assert member.get(path)["role"] == "viewer"
    assert {row["user_id"]: row["role"] for row in member.get(f"{path}/members")} == \
        {owner.id: "owner", member.id: "viewer"}
    member.put(path, {"name": "taken"}, expect=403)
    member.post(f"{path}/members", {"user_id": stranger.id}, expect=403)
    member.delete(f"{path}/members/{owner.id}", expect=403)
    member.delete(path, expect=403)
    owner.post(f"{path}/members", {"user_id": member.id, "role": "admin"}, expect=201)
    assert member.patch(path, {"name": "Quay"})["name"] == "Quay"
    member.delete(f"{path}/members/{owner.id}", expect=403)
    member.post(f"{path}/members", {"user_id": owner.id, "role": "viewer"}, expect=403)
    assert owner.get(path)["role"] == "owner"
    assert member.delete(f"{path}/members/{member.id}")["message"] == "Deleted"
    member.get(path, expect=404)
    assert owner.delete(path)["message"] == "Deleted"
    owner.get(path, expect=404)


def test_bad_organisations(sign_up, bob):
    user = sign_up("orgs")
    for body in ({}, {"name": ""}, {"name": 5}, {"name": "n" * 256}):
        assert "name" in user.post("/organizations", body, expect=400)["details"]
    personal = user.get("/organizations")[0]["id"]
    user.delete(f"/organizations/{personal}", expect=409)
    assert "email" in user.post(f"/organizations/{personal}/members", {}, expect=400)["details"]
    assert "email" in user.post(f"/organizations/{personal}/members", {"email": address()},
                                expect=404)["details"]
    assert "role" in user.post(f"/organizations/{personal}/members", {
        "email": bob.user["email"], "role": "owner"}, expect=400)["details"]
    user.post(f"/organizations/{personal}/members", {"user_id": str(uuid.uuid4())}, expect=(400, 404))
    user.get("/organizations/not-an-id", expect=404)


def test_a_refused_change_of_members_may_be_made_again(sign_up):
    owner, member, third = sign_up("decides"), sign_up("asks"), sign_up("waits")
    org = owner.post("/organizations", {"name": "Gate"}, expect=201)["id"]
    path, body, key = f"/organizations/{org}/members", {"user_id": third.id}, {"Idempotency-Key": uuid.uuid4().hex}
    owner.post(path, {"user_id": member.id, "role": "viewer"}, expect=201)
    member.request("POST", path, body, headers=key, expect=403)
    owner.post(path, {"user_id": member.id, "role": "admin"}, expect=201)
    first = member.request("POST", path, body, headers=key, expect=201)
    second = member.request("POST", path, body, headers=key, expect=201)
    assert second.json() == first.json() and second.headers["idempotency-replayed"] == "true"
    assert set(first.json()) >= {"user_id", "role", "created_at"} and "_id" not in first.json()


def test_members_hear_their_organisation(sign_up):
    owner, member = sign_up("speaks"), sign_up("hears")
    org = owner.post("/organizations", {"name": "Ears"}, expect=201)["id"]
    channel = f"org:{org}/workspaces"
    with pytest.raises(LiveError) as error:
        member.live.subscribe(channel)
    assert error.value.code == "NOT_FOUND"
    owner.post(f"/organizations/{org}/members", {"user_id": member.id}, expect=201)
    heard = wait_for(lambda: may_hear(member, channel), "the grant")
    owner.delete(f"/organizations/{org}/members/{member.id}")
    assert heard.next()["unsub"]["code"] == 2501


def test_who_lost_an_organisation_hears_nothing_of_it(sign_up):
    """The loss and the news of it are one commit, for all members; also for grants of others."""
    owner, members = sign_up("deletes"), [sign_up("lost") for _ in range(3)]
    org = owner.post("/organizations", {"name": "Brief"}, expect=201)["id"]
    channel = f"org:{org}/workspaces"
    for member in members:
        owner.post(f"/organizations/{org}/members", {"user_id": member.id}, expect=201)
    heard = [wait_for(lambda m=member: may_hear(m, channel), "the grant") for member in members]
    owner.delete(f"/organizations/{org}")
    for channel in heard:
        assert channel.next()["unsub"]["code"] == 2501


def test_grants_end_for_everybody_at_once(stack, sign_up):
    users = [sign_up("granted") for _ in range(3)]
    audience = f"project:{uuid.uuid4()}"
    for user in users:
        stack.busbar("call", "identity.grant", f"user={user.id}", f"audience={audience}")
    heard = [wait_for(lambda u=user: may_hear(u, f"{audience}/workspaces"), "the grant")
             for user in users]
    stack.busbar("call", "identity.ungrant", f"audience={audience}")
    for channel in heard:
        assert channel.next()["unsub"]["code"] == 2501


def may_hear(user, channel):
    try:
        return user.live.subscribe(channel)
    except LiveError:
        return None


# ---------------------------------------------------------------- API keys


def test_an_api_key_is_its_user(stack, sign_up):
    user = sign_up("key")
    made = user.post("/api-keys", {"name": "ci"}, expect=201)
    assert made["key"].startswith("bb_") and made["key"].startswith(made["prefix"])
    listed = user.get("/api-keys")
    assert [key["id"] for key in listed] == [made["id"]] and "key" not in listed[0]
    by_bearer = User(stack.base, made["key"])
    by_header = User(stack.base, headers={"X-API-Key": made["key"]})
    for client in (by_bearer, by_header):
        assert client.get("/auth/me")["id"] == user.id
        client.post("/workspaces", {"name": "by key"}, expect=201)
    live = by_bearer.another_live()
    live.subscribe("workspaces")
    assert user.delete(f"/api-keys/{made['id']}")["message"] == "Deleted"
    for client in (by_bearer, by_header):
        wait_for(lambda c=client: c.request("GET", "/auth/me").status_code == 401, "its end")
    assert live.closed.wait(SOON) and live.close_code == 3500
    assert user.get("/api-keys") == []
    user.delete(f"/api-keys/{made['id']}", expect=404)
    assert user.get("/auth/me")["id"] == user.id


def test_api_keys_of_others_do_not_exist(ann, bob):
    made = bob.post("/api-keys", {"name": "mine"}, expect=201)
    ann.delete(f"/api-keys/{made['id']}", expect=404)
    assert made["id"] not in {key["id"] for key in ann.get("/api-keys")}
    bob.delete(f"/api-keys/{made['id']}")


@pytest.mark.parametrize("body, field", [({}, "name"), ({"name": ""}, "name"), ({"name": 1}, "name"),
                                         ({"name": "x", "expires_at": "soon"}, "expires_at")])
def test_bad_api_keys(bob, body, field):
    assert field in bob.post("/api-keys", body, expect=400)["details"]


def test_an_api_key_ends_with_its_time(stack, sign_up):
    user = sign_up("brief")
    made = user.post("/api-keys", {"name": "old", "expires_at": "2020-01-01T00:00:00Z"},
                     expect=(201, 400))
    if "key" in made:
        User(stack.base, made["key"]).get("/auth/me", expect=401)


@pytest.mark.parametrize("key", ["bb_", "bb_x", "bb_" + "x" * 40, "bb_" + "'" * 40])
def test_unknown_api_keys(stack, key):
    User(stack.base, key).get("/auth/me", expect=401)
    User(stack.base, headers={"X-API-Key": key}).get("/auth/me", expect=401)


def test_an_api_key_ends_with_its_user(stack, admin, sign_up):
    user = sign_up("ends")
    key = user.post("/api-keys", {"name": "k"}, expect=201)["key"]
    client = User(stack.base, key)
    client.get("/auth/me")
    admin.put(f"/admin/users/{user.id}/status", {"is_active": False})
    wait_for(lambda: client.request("GET", "/auth/me").status_code == 401, "the key's end")


# ---------------------------------------------------------------- the rest


def test_the_public_key(ann, anyone):
    for path in ("/api/v1/users/me/anon-key", "/users/me/anon-key"):
        assert set(ann.get(path)) == {"anon_key"}
        anyone.get(path, expect=401)


def test_the_trail_names_who_did_what(admin, sign_up):
    user = sign_up("trail")
    user.post("/auth/signout")
    admin.put(f"/admin/users/{user.id}/role", {"role": "viewer"})
    rows = admin.get(f"/admin/audit?user_id={user.id}")
    actions = [row["action"] for row in rows]
    assert actions == ["user.role", "session.ended", "session.created", "user.created"]
    assert rows[0]["by"] == admin.get("/auth/me")["id"]
    assert all(row["ip"] == "127.0.0.1" and row["request_id"] for row in rows)
    older = admin.get(f"/admin/audit?user_id={user.id}&before={rows[1]['id']}&limit=1")
    assert [row["id"] for row in older] == [rows[2]["id"]]
    assert not any(PASSWORD in str(row) for row in admin.get("/admin/audit?limit=1000"))
