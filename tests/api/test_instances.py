"""Several edges on one port, several instances of an actor: nobody can tell."""

import uuid

import pytest

from client import User
from stack import Stack


@pytest.fixture(scope="module")
def many():
    system = Stack("--instances", "edge=2,platform=2,identity=2")
    system.wait()
    yield system
    assert system.stop() == 0


def join(system, name):
    user = User(system.base)
    user.token = user.post("/auth/signup", {"email": f"{name}-{uuid.uuid4().hex[:8]}@example.org",
                                            "password": "Correct-horse-7"}, expect=201)["token"]
    user.user = user.get("/auth/me")
    return user


def test_every_users_changes_are_one_contiguous_log(many):
    users = [join(many, f"user{number}") for number in range(6)]
    for user in users:
        live = [user.another_live() for _ in range(4)]          # spread over both edges
        channels = [connection.subscribe("workspaces", off=0) for connection in live]
        made = user.post("/workspaces", {"name": "one"}, expect=201)
        for number in range(20):
            user.put(f"/workspaces/{made['id']}", {"name": f"name {number}"})
        for channel in channels:
            seen = channel.until(lambda frame: frame["data"]["name"] == "name 19")
            assert [frame["off"] for frame in seen] == list(range(1, 22))
        for connection in live:
            connection.close()
    for user in users:
        user.close()


def test_signing_out_at_one_edge_is_known_at_the_other(many):
    user = join(many, "leaver")
    live = [user.another_live() for _ in range(6)]
    user.post("/auth/signout")
    for connection in live:
        assert connection.closed.wait(5), "a socket outlived its session"
    for _ in range(8):                                          # every connection anew: both edges
        User(many.base, user.token).get("/auth/me", expect=401)
    user.close()


def test_writes_of_one_user_meet_whatever_edge_they_come_through(many):
    user = join(many, "writer")
    ids = set()
    for number in range(30):
        with_own_connection = User(many.base, user.token)
        ids.add(with_own_connection.post("/workspaces", {"name": str(number)}, expect=201)["id"])
        with_own_connection.close()
    assert {row["id"] for row in user.get("/workspaces")} == ids
    user.close()
