"""Several edges on one port, several instances of an actor: nobody can tell."""

import json
import threading

import httpx
import pytest

from client import User, signed_up
from stack import SOON, Stack
from wsocket import Closed, Socket


@pytest.fixture(scope="module")
def many():
    system = Stack("--instances", "edge=2,platform=2,identity=2")
    system.wait()
    yield system
    assert system.stop() == 0


def test_every_users_changes_are_one_contiguous_log(many):
    users = [signed_up(many.base, f"user{number}") for number in range(6)]
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
    user = signed_up(many.base, "leaver")
    live = [user.another_live() for _ in range(6)]
    user.post("/auth/signout")
    for connection in live:
        assert connection.closed.wait(SOON), "a socket outlived its session"
    for _ in range(8):                                          # every connection anew: both edges
        User(many.base, user.token).get("/auth/me", expect=401)
    user.close()


def test_a_ticket_is_good_once_at_whichever_edge(many):
    user = signed_up(many.base, "ticket")
    address = many.base.replace("http", "ws", 1) + "/ws?ticket="
    for _ in range(8):                                          # made at one edge, shown at any
        ticket = user.post("/live/ticket", expect=201)["ticket"]
        with Socket(address + ticket, "busbar.v1.json") as socket:
            socket.send(json.dumps({"id": 1, "subscribe": {"ch": "workspaces"}}))
            assert json.loads(socket.recv(5))["subscribe"]["ch"] == f"user:{user.id}/workspaces"
        for _ in range(2):
            with Socket(address + ticket, "busbar.v1.json") as socket, pytest.raises(Closed):
                socket.recv(5)
            assert httpx.get(f"{many.base}/events?ch=workspaces&ticket={ticket}",
                             trust_env=False).status_code == 401
    for _ in range(4):                                          # shown to all of them at once
        url = f"{many.base}/events?ch=workspaces&ticket={user.post('/live/ticket', expect=201)['ticket']}"
        statuses = []

        def show():
            with httpx.stream("GET", url, trust_env=False, timeout=10) as answer:
                statuses.append(answer.status_code)

        threads = [threading.Thread(target=show) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
        assert sorted(statuses) == [200] + [401] * 5
    user.close()


def test_a_ticket_ends_with_what_it_stands_for(many):
    user = signed_up(many.base, "early")
    ticket = user.post("/live/ticket", expect=201)["ticket"]
    assert httpx.get(f"{many.base}/events?ch=workspaces&ticket={user.token}",
                     trust_env=False).status_code == 401, "a token in an address"
    user.post("/auth/signout")
    assert httpx.get(f"{many.base}/events?ch=workspaces&ticket={ticket}",
                     trust_env=False).status_code == 401
    user.close()


def test_writes_of_one_user_meet_whatever_edge_they_come_through(many):
    user = signed_up(many.base, "writer")
    ids = set()
    for number in range(30):
        with_own_connection = User(many.base, user.token)
        ids.add(with_own_connection.post("/workspaces", {"name": str(number)}, expect=201)["id"])
        with_own_connection.close()
    assert {row["id"] for row in user.get("/workspaces")} == ids
    user.close()
