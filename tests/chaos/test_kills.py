"""kill -9 of every process while a cell streams and people read and write."""

import os
import signal
import threading
import uuid

import httpx
import pytest

from kernel_world import Notebook
from kills import BusViewer, EventViewer, Load, SocketViewer, all_up, now, serves
from stack import SLOWER, wait_for

COUNTER = "import time\nfor n in range({}):\n    print(n, flush=True)\n    time.sleep(0.02)"


LOST = 2 * SLOWER                               # s


def counted(count):
    return "".join(f"{n}\n" for n in range(count))


@pytest.fixture(scope="module")
def user(sign_up):
    return sign_up("viewer")


@pytest.fixture(scope="module")
def notebook(user):
    made = Notebook(user)
    made.run("1")                                # its kernel is warm
    return made


def watch(stack, user, execution):
    where = execution.answer["live"]
    follow = {"channel": where["ch"], "epoch": where["epoch"], "user": user, "stack": stack}
    return [SocketViewer(**follow), SocketViewer(**follow), EventViewer(**follow), BusViewer(**follow)]


def see(viewers, count):
    wait_for(lambda: all(viewer.seen(count) for viewer in viewers),
             f"{count} events, {[(len(v.events), v.failure) for v in viewers]}", 30)


@pytest.mark.parametrize("victim", ["edge", "broker", "platform", "identity"])
def test_every_viewer_ends_with_the_same_transcript(healthy, user, notebook, victim):
    execution = notebook.begin(COUNTER.format(200))
    viewers = watch(healthy, user, execution)
    see(viewers, 20)
    old = healthy.kill(victim)
    transcripts = [viewer.finish() for viewer in viewers]
    assert all(transcript == transcripts[0] for transcript in transcripts)
    assert viewers[0].text() == counted(200)
    assert transcripts[0][-1][2]["state"] == "succeeded"
    healthy.wait_restarted(victim, old)
    if victim == "edge":
        assert all(viewer.connections > 1 for viewer in viewers[:3])
    else:
        assert all(viewer.connections == 1 for viewer in viewers), \
            "only the edge holds their connections"


def test_everything_but_kernels_killed_in_one_stream(healthy, user, notebook):
    execution = notebook.begin(COUNTER.format(500))
    viewers = watch(healthy, user, execution)
    for number, victim in enumerate(("edge", "broker", "identity", "platform", "edge"), 1):
        see(viewers[:1], 20 * number)
        old = healthy.kill(victim)
        healthy.wait_restarted(victim, old)
    transcripts = [viewer.finish(60) for viewer in viewers]
    assert all(transcript == transcripts[0] for transcript in transcripts)
    assert viewers[0].text() == counted(500)


def test_a_cell_streams_on_while_the_database_comes_back(healthy, user, notebook):
    """Also what was on its way into a commit whose end nobody heard of is there once."""
    execution = notebook.begin(COUNTER.format(400))
    viewers = watch(healthy, user, execution)
    for number in (20, 60, 100):
        see(viewers[:1], number)
        old = healthy.kill("postgres")
        healthy.wait_restarted("postgres", old, 30)
    transcripts = [viewer.finish(60) for viewer in viewers]
    assert all(transcript == transcripts[0] for transcript in transcripts)
    assert viewers[0].text() == counted(400)
    assert transcripts[0][-1][2]["state"] == "succeeded"
    wait_for(lambda: serves(user), "answers again", 60)      # all may have been told before the last kill


def test_a_killed_kernels_process_loses_the_run_and_says_so(healthy, user, notebook):
    execution = notebook.begin(COUNTER.format(2000))
    viewers = watch(healthy, user, execution)
    see(viewers, 30)
    shown = viewers[0].text()
    died = now()
    old = healthy.kill("kernels")
    row = wait_for(lambda: lost(execution), "the state lost", 10)
    assert now() - died < LOST, "lost is told within two seconds"
    healthy.wait_restarted("kernels", old)
    transcripts = [viewer.finish() for viewer in viewers]
    assert all(transcript == transcripts[0] for transcript in transcripts)
    kept = viewers[0].text()
    assert counted(2000).startswith(kept) and kept.startswith(shown[:len(kept)]) and len(kept) >= len(shown)
    assert transcripts[0][-1][2]["state"] == "lost"
    assert row["success"] is False
    assert notebook.run("'again'")["output"] == "'again'"


def lost(execution):
    answer = execution.user.request("GET", f"/executions/{execution.id}")
    if answer.status_code == 200 and answer.json()["state"] == "lost":
        return answer.json()
    return None


def test_a_caller_that_waits_hears_of_the_loss(healthy, user, notebook):
    key = uuid.uuid4().hex
    answers = []
    load = Load(user, lambda client, _: waits(client, notebook, key, answers), threads=1)
    wait_for(lambda: running(user, notebook), "the run to begin", 20)
    healthy.kill("kernels")
    wait_for(lambda: answers, "its answer", 40)
    load.stop()
    assert answers[0].status_code in (200, 503), answers[0].text
    if answers[0].status_code == 200:
        assert answers[0].json()["success"] is False
    else:
        assert "unknown" in answers[0].text or "x-outcome" in answers[0].headers or \
            "retry-after" in answers[0].headers


def waits(client, notebook, key, answers):
    if answers:
        return "done", None
    answers.append(client.request("POST", "/notebooks/execute", {
        "notebookId": notebook.id, "code": f"import time\ntime.sleep(60)  # {key}"}))
    return answers[0].status_code, None


def running(user, notebook):
    return any(row["state"] == "running"
               for row in user.get(f"/executions?notebook_id={notebook.id}"))


# ---------------------------------------------------------------- reads


READS = {"platform": "/workspaces/{workspace}", "identity": "/auth/me", "broker": "/workspaces/{workspace}",
         "kernels": "/executions/{execution}"}


@pytest.mark.parametrize("victim", READS)
def test_reads_lose_nothing(healthy, user, notebook, victim):
    execution = notebook.run("2")["execution_id"]
    path = READS[victim].format(workspace=notebook.workspace, execution=execution)

    def read(client, _):
        answer = client.request("GET", path)
        return answer.status_code, None if answer.status_code == 200 else answer.text

    load = Load(user, read, threads=8)
    load.through_kills(healthy, victim, 200)
    statuses = load.stop()
    assert set(statuses) == {200}, (statuses, load.strange[:3])


# ---------------------------------------------------------------- writes


def write(client, name):
    answer = client.request("POST", "/workspaces", {"name": f"w {name}"})
    return answer.status_code, (name, answer.status_code, answer.text)


def written(load, user):
    """Their rows, once the load has stopped: none that was acknowledged is missing."""
    told = {name for name, status, _ in load.strange if status == 201}
    rows = user.get("/workspaces?limit=10000")
    names = {row["name"][2:] for row in rows}
    assert told <= names, f"acknowledged and lost: {sorted(told - names)[:5]}"
    return rows


@pytest.mark.parametrize("victim", ["platform", "broker", "identity", "kernels", "edge"])
def test_acknowledged_writes_are_there(healthy, sign_up, victim):
    user = sign_up("writes")
    channel = user.another_live().subscribe("workspaces")
    load = Load(user, write)
    load.through_kills(healthy, victim, 100)
    statuses = load.stop()
    all_up(healthy)
    rows = written(load, user)
    assert len(rows) == len({row["name"] for row in rows})
    refused = {status for status in statuses if status != 201}
    if victim in ("broker", "identity", "kernels"):
        assert not refused, (statuses, [row for row in load.strange if row[1] != 201][:3])
    for _, status, text in load.strange:
        assert status in (201, 503), text
    if victim != "edge":                         # every row that is there was told once, in order
        offsets, keys = [], set()
        while len(keys) < len(rows):
            frame = channel.next()
            assert "gap" not in frame, frame
            offsets.append(frame["off"])
            keys.add(frame["key"])
        assert offsets == list(range(1, len(rows) + 1))
        assert keys == {row["id"] for row in rows}


@pytest.mark.parametrize("victim", ["platform", "edge"])
def test_writes_with_a_key_happen_once_whatever_is_killed(healthy, sign_up, victim):
    user = sign_up("once")

    def insist(client, name):
        key = {"Idempotency-Key": f"{name}-{user.id}"}
        ends, answer = now() + 20, None
        while now() < ends:
            try:
                answer = client.request("POST", "/workspaces", {"name": f"w {name}"}, headers=key)
            except httpx.HTTPError:              # the edge went away: ask again
                threading.Event().wait(0.05)
                continue
            if answer.status_code == 201:
                return 201, (name, answer.json()["id"])
            if answer.status_code not in (409, 503):
                return answer.status_code, (name, answer.text)
        return "never", (name, answer and answer.text)

    load = Load(user, insist)
    load.through_kills(healthy, victim, 50)
    assert set(load.stop()) == {201}, load.strange[-3:]
    all_up(healthy)
    rows = {row["name"][2:]: row["id"] for row in user.get("/workspaces?limit=10000")}
    assert len(rows) == len(user.get("/workspaces?limit=10000"))
    assert rows == dict(load.strange)


def test_everybody_killed_at_once(healthy, sign_up):
    user = sign_up("all")
    channel = user.another_live().subscribe("workspaces")
    load = Load(user, write)
    load.wait(50)
    old = {row["slot"]: row["pid"] for row in healthy.processes() if row["name"] != "postgres"}
    for pid in old.values():
        os.kill(pid, signal.SIGKILL)
    for slot, pid in old.items():
        healthy.wait_restarted(slot, pid)
    all_up(healthy)
    load.wait(50)
    load.stop()
    rows = written(load, user)
    seen = user.another_live().subscribe("workspaces", off=channel.answer["off"],
                                         epoch=channel.answer["epoch"]).until(
        lambda frame: frame["off"] == channel.answer["off"] + len(rows))
    assert {frame["key"] for frame in seen} == {row["id"] for row in rows}
    assert [frame["off"] for frame in seen] == list(range(1, len(rows) + 1))


# ---------------------------------------------------------------- the supervisor


def is_there(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_list_names_nobody_who_is_gone(healthy):
    for victim in ("edge", "broker", "platform", "identity"):
        old, pids = healthy.kill(victim), {}
        while not pids.get(victim) or pids[victim] == old:
            pids = {row["name"]: row["pid"] for row in healthy.processes()}
            for gone in [pid for pid in pids.values() if pid and not is_there(pid)]:
                #  It ended after we had read: then the list has been written since.
                assert gone not in {row["pid"] for row in healthy.processes()}


# ---------------------------------------------------------------- the database


def test_a_killed_database_comes_back_without_us(healthy, sign_up):
    user = sign_up("database")
    pids = {row["slot"]: row["pid"] for row in healthy.processes() if row["name"] != "postgres"}
    load = Load(user, write)
    load.wait(50)
    old = healthy.pid("postgres")
    os.kill(old, signal.SIGKILL)
    healthy.wait_restarted("postgres", old, 30)
    wait_for(lambda: serves(user), "answers again", 60)
    load.wait(50)
    statuses = load.stop()
    all_up(healthy)
    written(load, user)
    assert set(statuses) <= {201, 503}, (statuses, [row for row in load.strange if row[1] not in (201, 503)][:3])
    assert {row["slot"]: row["pid"] for row in healthy.processes() if row["name"] != "postgres"} == pids, \
        "nobody else had to be started again"


def test_while_the_database_is_away_callers_are_told_when_to_come_back(healthy, user):
    postgres = healthy.pid("postgres")
    os.kill(postgres, signal.SIGKILL)
    seen = []

    def answers():
        answer = user.request("GET", "/workspaces")
        seen.append(answer)
        return answer.status_code == 200

    healthy.wait_restarted("postgres", postgres, 30)
    wait_for(answers, "answers again", 60)
    wait_for(lambda: serves(user), "answers to everything", 30)
    for answer in seen:
        assert answer.status_code in (200, 503), answer.text
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["code"] == "UNAVAILABLE"
            assert not any(word in answer.text.lower() for word in ("postgres", "pq", "sql", "socket"))
