"""Instances that hang, are believed dead, and come back: what they began is no longer theirs."""

import threading
import uuid

import httpx
import pytest

from busbar import wire
from client import signed_up
from kernel_world import Notebook, descendants
from kills import Load, all_up, now
from stack import Stack, held, wait_for

ENDLESS = "import time\nkept = 1\nfor n in range(100000):\n    print(n, flush=True)\n    time.sleep(0.02)"


@pytest.fixture(scope="module")
def pair():
    system = Stack("--instances", "kernels=2,platform=2")
    system.wait()
    yield system
    assert system.stop() == 0


def events(execution):
    return execution.user.get(f"/executions/{execution.id}/events?limit=1000")["events"]


def pythons(processes):
    """Kernels, without the sandboxes around them."""
    return {pid for pid, line in processes.items()
            if "ipykernel" in line and "python" in line.split("\0")[0]}


def home(notebook):
    """Which instance gets its cells: of those that live, the one with the highest hash."""
    return max(("kernels.1", "kernels.2"),
               key=lambda slot: wire.text_hash(f"{slot}\0notebook:{notebook.id}".encode()))


def notebooks_of_both(user):
    """At least four, with some at either instance."""
    notebooks = []
    while len(notebooks) < 4 or len({home(notebook) for notebook in notebooks}) < 2:
        notebooks.append(Notebook(user))
    return notebooks


def test_an_instance_that_was_believed_dead_can_change_nothing(pair):
    all_up(pair)
    user = signed_up(pair.base, "fence")
    notebooks = notebooks_of_both(user)
    running = [notebook.begin(ENDLESS) for notebook in notebooks]
    for execution in running:
        execution.until("stream")
    pid = pair.pid("kernels.1")
    with held(pid):
        wait_for(lambda: any(e.row()["state"] == "lost" for e in running), "executions that are lost", 20)
        lost = [pair_ for pair_ in zip(notebooks, running) if pair_[1].row()["state"] == "lost"]
        told = {execution.id: events(execution) for _, execution in lost}
        assert all(log[-1]["type"] == "execution.finished" for log in told.values())
        #  The other one serves the first of these notebooks now, the last of them nobody does.
        mine = lost[0][0]
        assert mine.run("kept = 2\nkept")["output"] == "2"
        before = descendants(pid)
    wait_for(lambda: pair.log_text().count('"another instance has taken over"') >= len(lost),
             "the one that came back to see it", 20)
    wait_for(lambda: len(pythons(descendants(pid)) & pythons(before)) == len(pythons(before)) - len(lost),
             "its kernels to end", 20)
    for _, execution in lost:
        assert execution.row()["state"] == "lost"
        assert events(execution) == told[execution.id], "who was fenced has appended"
    assert mine.run("kept += 1\nkept")["output"] == "3", "the successor's kernel was taken from it"
    for notebook, execution in zip(notebooks, running):
        if (notebook, execution) not in lost:
            assert execution.row()["state"] == "running"
            execution.interrupt()
            assert execution.finish()["state"] == "cancelled"
        assert notebook.run("1 + 1")["output"] == "2"
    user.close()


def insist(client, name):
    """A write with a key, repeated until it is known to be there."""
    ends = now() + 30
    while now() < ends:
        try:
            answer = client.request("POST", "/workspaces", {"name": name},
                                    headers={"Idempotency-Key": f"{client.token[-9:]}-{name}"})
        except httpx.HTTPError:
            threading.Event().wait(0.05)
            continue
        if answer.status_code == 201:
            return 201, (client.token, answer.json()["id"], answer.json()["live"]["off"])
        if answer.status_code not in (409, 503, 504):
            return answer.status_code, answer.text
    return "never", None


@pytest.mark.parametrize("slot", ["platform.1", "platform.2"])
def test_an_audience_has_one_log_whoever_writes_it(pair, slot):
    """One of two stops with transactions open, the other takes over, the first comes back and
    ends what it had begun."""
    all_up(pair)
    users = [signed_up(pair.base, f"audience{number}") for number in range(4)]
    channels = {user.token: user.another_live().subscribe("workspaces") for user in users}
    loads = [Load(user, insist, threads=2) for user in users]
    for load in loads:
        load.wait(30)
    with held(pair.pid(slot)):
        before = [load.done() for load in loads]
        wait_for(lambda: all(load.done() > done + 20 for load, done in zip(loads, before)),
                 f"everybody to go on, {before} {[load.statuses for load in loads]}", 20)
    before = [load.done() for load in loads]
    wait_for(lambda: all(load.done() > done + 50 for load, done in zip(loads, before)),
             "everybody to go on", 20)
    for user, load in zip(users, loads):
        assert set(load.stop()) == {201}, load.statuses
        rows = {row["id"] for row in user.get("/workspaces?limit=10000")}
        told = {key: off for _, key, off in load.strange}
        assert set(told) == rows, "a row that nobody asked for, or one that is missing"
        seen = {}
        while len(seen) < len(rows):
            frame = channels[user.token].next()
            assert "gap" not in frame
            assert frame["off"] == len(seen) + 1
            assert frame["key"] not in seen
            seen[frame["key"]] = frame["off"]
        assert seen == told
        user.close()


def run_again(notebook, code):
    """Its output. What was on its way to a process that died is asked again."""
    def run():
        answer = notebook.user.request("POST", "/notebooks/execute",
                                       {"notebookId": notebook.id, "code": code})
        assert answer.status_code in (200, 503), answer.text
        return answer.status_code == 200 and answer.json()
    answer = wait_for(run, "an answer", 20)
    return answer["output"]


def test_a_killed_instances_notebooks_move_and_those_of_the_other_stay(pair):
    all_up(pair)
    user = signed_up(pair.base, "move")
    notebooks = notebooks_of_both(user)
    for number, notebook in enumerate(notebooks):
        notebook.run(f"kept = {number}")
    old = pair.kill("kernels.2")
    kept = []
    for number, notebook in enumerate(notebooks):
        answer = run_again(notebook, "globals().get('kept')")
        assert answer in (str(number), ""), answer
        kept.append(answer == str(number))
    assert any(kept) and not all(kept)
    pair.wait_restarted("kernels.2", old)
    all_up(pair)
    for number, notebook in enumerate(notebooks):        # joining takes nothing from anybody
        notebook.run(f"kept = {number + 10}")
        assert notebook.run("kept")["output"] == str(number + 10)
        if kept[number]:
            assert notebook.run(f"'{uuid.uuid4().hex}', kept")["success"] is True
    user.close()
