"""A whole system in which places fail now and then: whoever insists gets one row and one event for each write."""

import time
import uuid

import pytest

from client import User
from identity_world import PASSWORD, address
from stack import Stack, wait_for

FAULTS = ("edge/bus.send:every/7,platform/db.commit:every/40,platform/db.ended:every/31,platform/bus.event:every/4,"
          "platform/bus.send:every/9,platform/kit.co:every/23,identity/db.sync:every/60,identity/db.read:every/70")


@pytest.fixture(scope="module")
def stack():
    system = Stack(environment={"BUSBAR_FAULT": FAULTS}).wait()
    yield system
    assert system.stop() == 0, "busbar up did not end in order"


def insist(user, verb, path, body, good, headers=None):
    """Until it is done. Anything but `good` and a clear `not now` is wrong."""
    def done():
        answer = user.request(verb, path, body, headers=headers)
        if answer.status_code == good:
            return answer
        assert answer.status_code == 503 and answer.json()["code"] == "UNAVAILABLE", answer.text
        assert "retry-after" in answer.headers or "unknown" in answer.text or "x-outcome" in answer.headers, \
            (answer.headers, answer.text)
        return None
    return wait_for(done, f"{verb} {path}", 30)


def test_a_name_that_is_none_is_refused_at_the_start():
    system = Stack(environment={"BUSBAR_FAULT": "platform/db.nothing:1"})
    assert system.process.wait(30) == 2
    assert "fault db.nothing: is none of db.dial, " in system.log_text()
    system.stop()


def test_whoever_insists_gets_one_of_each(stack):
    user = User(stack.base)
    credentials = {"email": address("insists"), "password": PASSWORD}
    #  A sign-up may have happened whose answer was lost: then its address is taken.
    wait_for(lambda: user.request("POST", "/auth/signup", credentials).status_code in (201, 400, 409), "an account")
    answer = insist(user, "POST", "/auth/signin", credentials, 200).json()
    user.token, user.user = answer["token"], answer["user"]
    channel = wait_for(lambda: followed(user), "a subscription")
    began, made = time.monotonic(), []
    while len(made) < 120 and time.monotonic() - began < 40:
        key = {"Idempotency-Key": uuid.uuid4().hex}
        made.append(insist(user, "POST", "/workspaces", {"name": f"w {len(made)}"}, 201, key).json()["id"])
        assert insist(user, "GET", f"/workspaces/{made[-1]}", None, 200).json()["id"] == made[-1]
    rows = insist(user, "GET", "/workspaces?limit=10000", None, 200).json()
    assert sorted(row["id"] for row in rows) == sorted(made)
    while True:                                  # the last event may be one of those that nobody was told
        made.append(insist(user, "POST", "/workspaces", {"name": "last"}, 201,
                           {"Idempotency-Key": uuid.uuid4().hex}).json()["id"])
        if not channel.nothing_waits():
            break
    seen = channel.until(lambda frame: frame.get("off", 0) >= len(made) - 4)
    assert [frame["off"] for frame in seen] == list(range(1, len(seen) + 1))
    assert {frame["key"] for frame in seen} <= set(made)


def followed(user):
    try:
        return user.another_live().subscribe("workspaces", off=0)
    except Exception:                            # refused for now
        return None
