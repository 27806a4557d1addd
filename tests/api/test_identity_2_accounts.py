"""One's own account: profile, preferences, passwords, codes, lock-out."""

import pytest

from client import User
from identity_world import (PASSWORD, address, administrator, code, codes, signed_in,
                            stranger)
from stack import SOON, wait_for

PROFILE = [("PUT", "/auth/profile"), ("PUT", "/users/me"), ("PUT", "/api/v1/users/me"),
           ("PUT", "/api/users/profile"), ("PATCH", "/users/me"), ("PATCH", "/api/v1/users/me")]
PREFERENCES = ["/api/users/preferences", "/users/preferences"]
NEW = "Another-horse-8-battery"


@pytest.mark.parametrize("verb, path", PROFILE)
def test_profile_changes_what_it_carries(sign_up, verb, path):
    user = sign_up("profile")
    before = user.get("/auth/me")
    after = user.request(verb, path, {"full_name": "New Name", "department": "R&D"}, expect=200).json()
    assert (after["full_name"], after["name"], after["department"]) == ("New Name", "New Name", "R&D")
    assert (after["email"], after["role"]) == (before["email"], before["role"])
    changed = user.request(verb, path, {"name": "By Other Name", "avatar": "https://a.example/b.png",
                                        "organization": "Ours"}, expect=200).json()
    assert changed["full_name"] == "By Other Name" and changed["department"] == "R&D"
    me = user.get("/auth/me")
    assert (me["organization"], me["avatar"]) == ("Ours", "https://a.example/b.png")
    assert changed["organization"] == "Ours"


def test_a_profile_gives_no_rights(sign_up):
    user = sign_up("rights")
    answer = user.request("PUT", "/users/me", {
        "role": "super_admin", "is_superuser": True, "is_active": False, "id": user.id[::-1],
        "account_id": "000000000000", "password": NEW, "organization_id": user.id,
        "email_verified": True, "full_name": "Still me"}, expect=200)
    me = user.get("/auth/me")
    assert (me["role"], me["is_superuser"], me["is_active"], me["id"]) == ("client", False, True, user.id)
    assert me["account_id"] != "000000000000" and me["is_verified"] is False
    assert "role" in answer.headers["x-ignored-fields"]
    signed_in(user_stack(user), user.user["email"])


def user_stack(user):
    """Something with a base, as signed_in wants it."""
    return type("Stack", (), {"base": user.base})


def test_a_taken_address_is_no_new_address(sign_up, bob):
    user = sign_up("moves")
    answer = user.put("/users/me", {"email": bob.user["email"]}, expect=409)
    assert "email" in answer["details"]
    fresh = address("moved")
    assert user.put("/users/me", {"email": fresh})["email"] == fresh
    signed_in(user_stack(user), fresh)


@pytest.mark.parametrize("field, value", [("email", "x"), ("full_name", 5), ("username", "a"),
                                          ("avatar", "u" * 3000), ("organization", "")])
def test_a_wrong_profile_names_the_field(bob, field, value):
    assert field in bob.put("/auth/profile", {field: value}, expect=400)["details"]


@pytest.mark.parametrize("path", PREFERENCES)
def test_preferences_merge(sign_up, path):
    user = sign_up("prefers")
    assert user.get(path) == {}
    user.put(path, {"theme": "dark", "notifications": {"email": True, "push": False}})
    user.put(path, {"defaultTimeRange": "30d", "notifications": {"push": True}})
    wanted = {"theme": "dark", "defaultTimeRange": "30d",
              "notifications": {"email": True, "push": True}}
    assert user.get(path) == wanted
    assert user.get("/auth/me")["preferences"] == wanted
    assert user.put(path, {"dashboardLayout": ["a", "b"]})["dashboardLayout"] == ["a", "b"]


@pytest.mark.parametrize("field, value", [
    ("theme", "pink"), ("defaultTimeRange", "8d"), ("defaultCurrency", "XXX"), ("language", "nl"),
    ("notifications", [1]), ("notifications", "all"), ("dashboardLayout", [1]), ("theme", 5)])
def test_wrong_preferences_name_the_field(bob, field, value):
    assert field in bob.put(PREFERENCES[0], {field: value}, expect=400)["details"]


@pytest.mark.parametrize("verb, path, answer", [
    ("POST", "/auth/change-password", None), ("POST", "/api/v1/auth/change-password", None),
    ("PUT", "/auth/password", None), ("PUT", "/api/v1/users/me/password", True),
    ("PUT", "/users/me/password", True)])
def test_a_new_password_ends_the_other_sessions(stack, sign_up, verb, path, answer):
    user = sign_up("secret")
    other = signed_in(stack, user.user["email"])
    other.get("/auth/me")
    wrong = user.request(verb, path, {"current_password": "not mine", "new_password": NEW}, expect=400)
    assert "current_password" in wrong.json()["details"]
    for bad in ("short", "x" * 73, "ä" * 37):
        refused = user.request(verb, path, {"current_password": PASSWORD, "new_password": bad},
                               expect=400)
        assert "new_password" in refused.json()["details"]
    done = user.request(verb, path, {"current_password": PASSWORD, "new_password": NEW}, expect=200)
    assert answer is None or done.json() is answer
    user.get("/auth/me")                         # this session stays
    wait_for(lambda: other.request("GET", "/auth/me").status_code == 401, "the other's end")
    stranger(stack).post("/auth/signin", {"email": user.user["email"], "password": PASSWORD}, expect=401)
    signed_in(stack, user.user["email"], NEW)


@pytest.mark.parametrize("root", ["/auth", "/api/v1/auth"])
def test_a_forgotten_password_is_set_with_the_code(stack, sign_up, anyone, root):
    user = sign_up("forgets")
    email = user.user["email"]
    answer = anyone.request("POST", root + "/forgot-password", {"email": email}, expect=200)
    secret = code(stack, email, "reset")
    assert secret not in answer.text
    for bad in ("short", "x" * 73):              # the code outlives a password that is refused
        refused = anyone.post(root + "/reset-password", {
            "email": email, "confirmation_code": secret, "new_password": bad}, expect=400)
        assert "new_password" in refused["details"]
    for wrong in (secret[:-1], "x" * 32, ""):
        refused = anyone.post(root + "/reset-password", {
            "email": email, "confirmation_code": wrong, "new_password": NEW}, expect=400)
        assert "confirmation_code" in refused["details"]
    anyone.post(root + "/reset-password",
                {"email": email, "confirmation_code": secret, "new_password": NEW})
    wait_for(lambda: user.request("GET", "/auth/me").status_code == 401, "the old session's end")
    stranger(stack).post("/auth/signin", {"email": email, "password": PASSWORD}, expect=401)
    signed_in(stack, email, NEW)
    again = anyone.post(root + "/reset-password", {
        "email": email, "confirmation_code": secret, "new_password": PASSWORD}, expect=400)
    assert "confirmation_code" in again["details"]


def test_a_code_by_its_other_name_and_a_newer_one(stack, sign_up, anyone):
    email = sign_up("token").user["email"]
    anyone.post("/auth/forgot-password", {"email": email})
    old = code(stack, email, "reset")
    anyone.post("/auth/forgot-password", {"email": email})
    new = code(stack, email, "reset", known={old})
    anyone.post("/auth/reset-password", {"email": email, "token": old, "password": NEW}, expect=400)
    anyone.post("/auth/reset-password", {"email": email, "token": new, "password": NEW})
    signed_in(stack, email, NEW)


def test_a_code_of_another_user_or_purpose_is_wrong(stack, sign_up, anyone, bob):
    email = sign_up("codes").user["email"]
    verify = code(stack, email, "verify")
    anyone.post("/auth/reset-password", {"email": email, "confirmation_code": verify,
                                         "new_password": NEW}, expect=400)
    anyone.post("/auth/forgot-password", {"email": email})
    reset = code(stack, email, "reset")
    anyone.post("/auth/reset-password", {"email": bob.user["email"], "confirmation_code": reset,
                                         "new_password": NEW}, expect=400)
    anyone.post("/auth/verify-email", {"email": email, "confirmation_code": reset}, expect=400)
    anyone.post("/auth/verify-email", {"email": email, "confirmation_code": verify})


def test_a_code_is_guessed_ten_times_at_most(stack, sign_up, anyone):
    email = sign_up("guess").user["email"]
    anyone.post("/auth/forgot-password", {"email": email})
    secret = code(stack, email, "reset")
    for _ in range(10):
        anyone.post("/auth/reset-password", {"email": email, "confirmation_code": "guess",
                                             "new_password": NEW}, expect=400)
    anyone.post("/auth/reset-password", {"email": email, "confirmation_code": secret,
                                         "new_password": NEW}, expect=400)


def test_forgetting_says_nothing_about_who_is_known(stack, anyone, bob):
    unknown = address("unknown")
    answers = [anyone.request("POST", "/auth/forgot-password", {"email": email}, expect=200)
               for email in (bob.user["email"], unknown)]
    assert answers[0].json() == answers[1].json()
    code(stack, bob.user["email"], "reset")
    assert codes(stack, unknown, "reset") == []
    assert "email" in anyone.post("/auth/forgot-password", {"email": "x"}, expect=400)["details"]


@pytest.mark.parametrize("path", ["/auth/verify-email", "/api/v1/auth/verify-email"])
def test_an_address_is_proven_by_its_code(stack, sign_up, anyone, path):
    user = sign_up("proves")
    email = user.user["email"]
    first = code(stack, email, "verify")
    assert user.get("/auth/me")["is_verified"] is False
    anyone.post(path, {"email": email, "confirmation_code": "wrong"}, expect=400)
    anyone.post("/auth/resend-verification", {"email": email})
    second = code(stack, email, "verify", known={first})
    anyone.post(path, {"email": email, "confirmation_code": first}, expect=400)
    anyone.post(path, {"email": email.upper(), "confirmation_code": second})
    assert user.get("/auth/me")["is_verified"] is True
    user.put("/users/me", {"full_name": "Same address"})
    assert user.get("/auth/me")["is_verified"] is True
    user.put("/users/me", {"email": address("other")})
    assert user.get("/auth/me")["is_verified"] is False


def test_failed_sign_ins_lock_the_account_a_while(stack):
    client, email = stranger(stack), address("locks")
    client.post("/auth/signup", {"email": email, "password": PASSWORD}, expect=201)
    for _ in range(5):
        client.post("/auth/signin", {"email": email, "password": "wrong password"}, expect=401)
    locked = client.request("POST", "/auth/signin", {"email": email, "password": PASSWORD}, expect=429)
    assert int(locked.headers["retry-after"]) == 1
    assert locked.json()["code"] == "RATE_LIMITED"
    elsewhere = stranger(stack).request("POST", "/auth/login", expect=429,
                                        data={"username": email.upper(), "password": PASSWORD})
    assert int(elsewhere.headers["retry-after"]) == 1
    wait_for(lambda: is_free(client, email), "the lock to open", 5)
    for _ in range(4):                           # success has cleared the count
        client.post("/auth/signin", {"email": email, "password": "wrong password"}, expect=401)
    client.post("/auth/signin", {"email": email, "password": PASSWORD})


def is_free(client, email):
    return client.request("POST", "/auth/signin", {"email": email, "password": PASSWORD},
                          expect=(200, 401, 429)).status_code != 429


def test_unknown_accounts_lock_like_known_ones_and_longer_each_time(stack):
    client, email = stranger(stack), address("nobody")
    locks = []
    for n in range(7):
        wait_for(lambda: is_free(client, email), "the lock to open", 6)      # itself a failure
        if n >= 4:
            locks.append(int(client.request("POST", "/auth/signin", {
                "email": email, "password": PASSWORD}, expect=429).headers["retry-after"]))
    assert locks == [1, 3, 7]


def test_failed_sign_ins_lock_their_address(stack, bob):
    client = stranger(stack)
    for _ in range(25):
        client.post("/auth/signin", {"email": address(), "password": PASSWORD}, expect=401)
    refused = client.request("POST", "/auth/signin", {"email": bob.user["email"],
                                                      "password": bob.password}, expect=429)
    assert int(refused.headers["retry-after"]) == 1
    stranger(stack).post("/auth/signin", {"email": bob.user["email"], "password": bob.password})


def test_a_signed_in_user_stays_so_while_somebody_guesses(stack, sign_up):
    user, client = sign_up("guessed"), stranger(stack)
    for _ in range(6):
        client.request("POST", "/auth/signin", {"email": user.user["email"], "password": "wrong one"},
                       expect=(401, 429))
    assert user.get("/auth/me")["id"] == user.id


def test_a_deleted_account_is_gone_with_all_it_owns(stack, sign_up):
    admin = administrator(stack)
    user = sign_up("leaves")
    workspace = user.post("/workspaces", {"name": "w"}, expect=201)
    notebook = user.post("/notebooks", {"name": "n", "workspace_id": workspace["id"]}, expect=201)
    refresh = signed_in(stack, user.user["email"]).refresh
    live = user.another_live()
    assert admin.delete(f"/api/v1/users/{user.id}") is True
    wait_for(lambda: user.request("GET", f"/notebooks/{notebook['id']}").status_code == 401,
             "the token's end")
    assert live.closed.wait(SOON) and live.close_code == 3500
    User(stack.base).post("/auth/refresh", {"refresh_token": refresh}, expect=401)
    stranger(stack).post("/auth/signin", {"email": user.user["email"], "password": PASSWORD}, expect=401)
    admin.get(f"/api/v1/users/{user.id}", expect=404)
