"""A backup made while everybody writes, restored where nothing was before."""

import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from client import User
from identity_world import PASSWORD, address
from kernel_world import Notebook
from kills import Load, all_up
from stack import BIN, HOME, Stack, wait_for

COUNTER = "import time\nfor n in range(100000):\n    print(n, flush=True)\n    time.sleep(0.02)"


class Person:
    """Writes all the time, listens, has a table of their own and a cell that runs."""

    def __init__(self, system, number):
        self.email = address(f"kept{number}")
        self.user = User(system.base)
        self.user.token = self.user.post("/auth/signup", {"email": self.email, "password": PASSWORD},
                                         expect=201)["token"]
        self.channel = self.user.live.subscribe("workspaces")
        self.notebook = Notebook(self.user)
        self.notebook.run(f"CREATE TABLE kept AS SELECT {number} AS n", "sql")
        self.running = self.notebook.begin(COUNTER)
        self.running.until("stream")
        self.load = Load(self.user, change, threads=2)
        self.load.wait(20)

    def again(self, system):
        user = User(system.base)
        user.token = user.post("/auth/signin", {"email": self.email, "password": PASSWORD})["token"]
        return user


def change(client, name):
    """A row of its own, changed, and every third time removed."""
    row = client.post("/workspaces", {"name": name}, expect=201)
    client.put(f"/workspaces/{row['id']}", {"name": name + " changed"})
    if int(name.split("-")[1]) % 3 == 0:
        client.delete(f"/workspaces/{row['id']}")
    return 200, None


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """The old system, as far as people remember it, and the new one made of its backup."""
    system = Stack().wait()
    file = tmp_path_factory.mktemp("backup") / "all.tar"
    try:
        people = [Person(system, number) for number in range(3)]
        late = []

        def newcomer(client, name):                     # guests come while the backup is made
            person = User(client.base)
            person.token = person.post("/auth/signup", {"email": address(f"late{name}"),
                                                        "password": PASSWORD}, expect=201)["token"]
            Notebook(person).run("CREATE TABLE mine (n int)", "sql")
            late.append(person)
            return 201, None

        comers = Load(people[0].user, newcomer, threads=1)
        comers.wait(1)
        said = subprocess.run([str(BIN / "busbar"), "backup", str(file)], capture_output=True, text=True,
                              check=False, env=system._environment())
        assert said.returncode == 0, said.stderr
        assert "secret_key_*: keep those apart" in said.stderr
        comers.wait(1)
        for person in people:
            person.load.wait(20)
        for load in (comers, *(person.load for person in people)):
            assert set(load.stop()) <= {200, 201}, load.statuses
        for person in people:
            last = person.user.post("/workspaces", {"name": "the last"}, expect=201)["live"]
            person.epoch, person.off = last["epoch"], last["off"]
        system.process.terminate()
        assert system.process.wait(60) == 0
    finally:
        system.stop()
    place = pathlib.Path(tempfile.mkdtemp(prefix="bb", dir="/tmp"))
    place.chmod(0o755)
    try:
        done = subprocess.run([str(BIN / "busbar"), "restore", str(file)], capture_output=True, text=True,
                              check=False, env={**os.environ, "BUSBAR_HOME": str(HOME),
                                                "BUSBAR_VAR": str(place / "v")})
        assert done.returncode == 0, done.stderr
        assert f"they belong into {place / 'v' / 'secrets'}" in done.stderr
        new = Stack(var=place).wait()
        try:
            all_up(new)
            yield new, people
        finally:
            assert new.stop() == 0
    finally:
        shutil.rmtree(place, ignore_errors=True)


def test_every_row_has_its_events_and_no_event_is_without(places):
    system, people = places
    for person in people:
        user = person.again(system)
        rows = {row["id"]: row for row in user.get("/workspaces?limit=10000")}
        channel = user.another_live().subscribe("workspaces", off=0)
        top = channel.answer["off"]
        assert channel.answer["epoch"] != person.epoch and 0 < top < person.off
        #  Collections coalesce: the newest event of a key is what counts.
        frames, state = [], {}
        while not frames or frames[-1]["off"] < top:
            frames.append(channel.next())
        for frame in frames:
            assert "gap" not in frame, frame
            if frame["type"] == "workspace.deleted":
                state.pop(frame["key"], None)
            else:
                state[frame["key"]] = frame["data"]["name"]
        assert state == {key: row["name"] for key, row in rows.items()}
        made = user.post("/workspaces", {"name": "new"}, expect=201)
        assert made["live"]["off"] == top + 1
        user.close()


def test_who_comes_back_with_an_old_position_hears_gap_and_begins_anew(places):
    system, people = places
    for person in people:
        user = person.again(system)
        rows = {row["id"]: row["name"] for row in user.get("/workspaces?limit=10000")}
        channel = user.another_live().subscribe("workspaces", off=person.off, epoch=person.epoch)
        assert channel.answer["recovered"] is False
        gap = channel.next()
        assert gap["gap"]["why"] == "epoch" and gap["epoch"] == channel.answer["epoch"]
        seen = {}
        frame = channel.next()
        while "snap_end" not in frame:
            seen.update({row["id"]: row["name"] for row in frame["snap"]})
            frame = channel.next()
        assert seen == rows
        user.close()


def test_what_ran_is_lost_and_says_so(places):
    system, people = places
    for person in people:
        user = person.again(system)
        row = wait_for(lambda: lost(user, person.running.id), "the state lost", 5)
        events = user.get(f"/executions/{person.running.id}/events?limit=1000")["events"]
        assert events[-1]["type"] == "execution.finished" and events[-1]["data"]["state"] == "lost"
        assert [event["off"] for event in events] == list(range(1, len(events) + 1))
        assert row["success"] is False
        user.close()


def lost(user, execution):
    row = user.get(f"/executions/{execution}")
    return row["state"] == "lost" and row


def test_tables_of_guests_are_theirs_again(places):
    system, people = places
    for number, person in enumerate(people):
        person.notebook.user = user = person.again(system)
        answer = person.notebook.run("SELECT n FROM kept", "sql")
        assert answer["data"]["rows"] == [{"n": number}], answer
        assert person.notebook.run("DROP TABLE kept", "sql")["success"] is True
        user.close()
