"""The supervisor killed with -9 under load: everything ends with it, and the next one goes on."""

import pathlib

import pytest

from identity_world import PASSWORD, address
from client import User
from kernel_world import Notebook
from kills import Load, all_up
from stack import Stack, wait_for


def processes_below(var):
    """Pids of every process that has the directory in its command line or its environment's HOME."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
            state = (entry / "stat").read_text().rsplit(") ", 1)[1][0]
        except OSError:
            continue
        if state != "Z" and str(var).encode() in line:
            found.append(int(entry.name))
    return found


def write(client, name):
    answer = client.request("POST", "/workspaces", {"name": name})
    return answer.status_code, (name, answer.status_code)


@pytest.fixture
def systems():
    running = [Stack().wait()]
    yield running
    for system in reversed(running):
        system.stop()


def test_the_next_one_goes_on_where_the_killed_one_was(systems):
    system = systems[0]
    all_up(system)
    email = address("goes-on")
    user = User(system.base)
    user.token = user.post("/auth/signup", {"email": email, "password": PASSWORD}, expect=201)["token"]
    notebook = Notebook(user)
    running = notebook.begin("import time\nfor n in range(10000):\n    print(n, flush=True); time.sleep(.02)")
    running.until("stream")
    channel = user.live.subscribe("workspaces", off=0)
    load = Load(user, write)
    load.wait(100)
    system.process.kill()
    system.process.wait()
    statuses = load.stop()
    wait_for(lambda: not processes_below(system.var / "v"), "the end of every process", 20)
    told = {name for name, status in load.strange if status == 201}
    assert len(told) >= 50, statuses
    seen = []
    while not channel.frames.empty():
        seen.append(channel.frames.get())

    systems.append(Stack(var=system.var).wait())
    again = User(systems[1].base)
    again.token = again.post("/auth/signin", {"email": email, "password": PASSWORD})["token"]
    rows = {row["id"]: row["name"] for row in again.get("/workspaces?limit=10000")}
    assert told <= set(rows.values()), "acknowledged and lost"
    rest = again.live.subscribe("workspaces", off=seen[-1]["off"], epoch=channel.answer["epoch"])
    assert rest.answer["recovered"] is True
    while seen[-1]["off"] < rest.answer["off"]:
        seen.append(rest.next())
    assert [frame["off"] for frame in seen] == list(range(1, len(rows) + 1))
    assert {frame["key"] for frame in seen} == set(rows)
    assert again.get(f"/executions/{running.id}")["state"] == "lost"
    notebook.user = again
    assert notebook.run("1 + 1")["output"] == "2"
    again.close()
    assert systems[1].stop() == 0
