"""Two of everything, and one of the two killed with -9 under readers, writers and listeners: nobody
notices more than he was told to expect."""

import threading

import httpx
import pytest

from client import signed_up
from kernel_world import Notebook
from kills import BusViewer, EventViewer, Load, SocketViewer, all_up, now
from stack import Stack, wait_for

CONVERGED = 5.0                                  # s after the last write


@pytest.fixture(scope="module")
def pairs():
    system = Stack("--instances", "edge=2,platform=2,identity=2,kernels=2")
    system.wait()
    yield system
    assert system.stop() == 0


@pytest.fixture
def user(pairs):
    all_up(pairs)
    user = signed_up(pairs.base, "pair")
    yield user
    user.close()


def once_more(client, verb, path, body=None, **headers):
    """The answer, and how often it was asked for: a broken connection is answered by one more try, a
    moment later as clients do. The sockets of who dies close one by one, its listening one maybe last."""
    try:
        return client.request(verb, path, body, headers=headers), 1
    except httpx.HTTPError:
        threading.Event().wait(0.1)
        return client.request(verb, path, body, headers=headers), 2


def read(client, paths):
    def ask(own, name):
        answer, tries = once_more(own, "GET", paths[hash(name) % len(paths)])
        return answer.status_code if tries == 1 else f"{answer.status_code} again", \
            None if answer.status_code == 200 else answer.text
    return Load(client, ask, threads=6)


def write(client):
    def ask(own, name):
        answer, tries = once_more(own, "POST", "/workspaces", {"name": name},
                                  **{"Idempotency-Key": f"{own.token[-9:]}-{name}"})
        row = answer.json()
        return answer.status_code if tries == 1 else f"{answer.status_code} again", \
            (name, answer.status_code, row.get("id"), row.get("live", {}).get("off"), answer.text)
    return Load(client, ask, threads=4)


@pytest.mark.parametrize("victim", ["edge.1", "edge.2", "broker", "platform.1", "identity.1", "kernels.1"])
def test_nobody_notices(pairs, user, victim):
    notebook = Notebook(user)
    execution = notebook.run("'seen'")["execution_id"]
    made = user.post("/workspaces", {"name": "first"}, expect=201)
    where = {"channel": made["live"]["ch"], "epoch": made["live"]["epoch"], "user": user, "stack": pairs}
    listeners = [SocketViewer(**where), SocketViewer(**where), SocketViewer(**where),
                 EventViewer(**where), EventViewer(**where), BusViewer(**where)]
    reads = read(user, [f"/workspaces/{made['id']}", "/auth/me", f"/executions/{execution}"])
    writes = write(user)
    for load in (reads, writes):
        load.wait(60)
    old = pairs.kill(victim)
    for load in (reads, writes):
        load.wait(100)
    pairs.wait_restarted(victim, old)
    for load in (reads, writes):
        load.wait(60)
    seen, written = reads.stop(), writes.stop()
    began = now()

    expected = {200, "200 again"} if victim.startswith("edge") else {200}
    assert set(seen) <= expected, (seen, reads.strange[:3])
    expected = {201, "201 again"} if victim.startswith("edge") else {201}
    assert set(written) <= expected, (written, [row for row in writes.strange if row[1] != 201][:3])

    top = max(off for *_, off, _ in writes.strange)
    wait_for(lambda: all(listener.off >= top for listener in listeners),
             f"{top} everywhere: {[(listener.off, listener.failure) for listener in listeners]}",
             CONVERGED - (now() - began))
    rows = {row["id"]: row["name"] for row in user.get("/workspaces?limit=10000")}
    told = {key: name for name, _, key, *_ in writes.strange}
    assert told.items() <= rows.items() and len(set(told.values())) == len(told)
    assert len(rows) == len(told) + 2, "written twice, or by nobody"
    for listener in listeners:
        listener.ended.set()
        assert listener.gaps == []
        assert [off for off, _, _ in listener.events] == list(range(1, len(rows) + 1))
        assert [data["id"] for _, _, data in listener.events if data["id"] not in rows] == []
