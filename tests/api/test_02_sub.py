"""`busbar sub` beside a cluster that starts, a query and a run of a job: each followed to its end."""

import json
import queue
import threading

import pytest

from cluster_world import Cluster
from jobs_world import job, start


class Follower:
    """A `busbar sub` that runs; its lines as they come."""

    def __init__(self, stack, channel):
        self.process = stack.start_busbar("sub", channel, "--from", "0")
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line))

    def until(self, condition, patience=60):
        """Events up to the first that satisfies; offsets without a hole."""
        events = []
        while not (events and condition(events[-1])):
            try:
                events.append(self.lines.get(timeout=patience))
            except queue.Empty:
                raise AssertionError(f"nothing more behind {events[-3:]}") from None
        assert [event["off"] for event in events] == list(range(1, len(events) + 1))
        return events

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        self.process.stdout.close()


@pytest.fixture
def follow(stack):
    """follow(channel) → Follower"""
    made = []

    def begin(channel):
        made.append(Follower(stack, channel))
        return made[-1]

    yield begin
    for follower in made:
        follower.stop()


@pytest.fixture(scope="module")
def user(sign_up):
    return sign_up("follows")


def details(events, key):
    """The states that one object went through, in order."""
    seen = [event["data"]["state_detail"] for event in events if event["key"] == key]
    return [state for place, state in enumerate(seen) if place == 0 or seen[place - 1] != state]


def test_the_start_of_a_cluster(follow, user):
    rows = follow(f"user:{user.id}/compute_clusters")
    cluster = Cluster(user)
    log = follow(f"user:{user.id}/compute_clusters/{cluster.id}")
    cluster.start()
    events = rows.until(lambda event: event["data"].get("status") == "running" and event["data"]["workers"] == 1)
    assert details(events, cluster.id) == ["stopped", "provisioning", "starting", "running"]
    assert events[-1]["data"]["endpoint_url"].startswith("tcp://")
    told = [event["data"]["type"] for event in log.until(lambda event: event["data"]["type"] == "RUNNING")]
    assert told[0] == "STARTING"
    cluster.delete()
    assert rows.lines.get(timeout=30)["key"] == cluster.id


def test_a_query(follow, user):
    rows = follow(f"user:{user.id}/statements")
    answer = user.post("/queries/execute?wait=0", {"query": "SELECT n FROM generate_series (1, 2000) n"},
                       expect=(200, 202))
    mine = answer["statement_id"]
    log = follow(f"user:{user.id}/statements/{mine}")
    assert answer["live"]["ch"] == f"user:{user.id}/statements/{mine}"
    states = [event["data"]["state"] for event in
              rows.until(lambda event: event["data"].get("state") == "succeeded")]
    assert states[0] in ("queued", "running") and states[-1] == "succeeded"
    events = log.until(lambda event: event["data"].get("state") == "succeeded")
    given = [row for event in events if event["type"] == "statement.rows" for row in event["data"]["rows"]]
    assert given and given == [{"n": n} for n in range(1, len(given) + 1)]


def test_a_run_of_a_job(follow, user):
    rows = follow(f"user:{user.id}/job_runs")
    made = start(user, job(user, query="SELECT 42 AS answer"))
    log = follow(made["live"]["ch"])
    events = rows.until(lambda event: event["type"] == "job_run.succeeded")
    assert details(events, made["id"]) == ["queued", "running", "succeeded"]
    told = log.until(lambda event: event["type"] == "job_run.succeeded")
    assert {"job_task.running", "job_task.succeeded"} <= {event["type"] for event in told}
