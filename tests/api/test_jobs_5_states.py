"""The process that runs jobs dies at one step of a run after the other, and beside requests that it
can't take back."""

import datetime
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from client import own_system
from jobs_world import done, end, job, notebook, until_state
from stack import wait_for


class Far(ThreadingHTTPServer):
    """Answers when it is told to."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.held = 0, threading.Event()
        self.where = f"127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.asked += 1
        self.server.held.wait(60)
        try:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
        except OSError:
            pass                                # who asked is gone

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def far():
    far = Far()
    yield far
    far.held.set()
    far.shutdown()
    far.server_close()


@pytest.fixture(scope="module")
def world(far):
    import busbar

    with own_system(f"--set=jobs.http-allow={far.where}", environment={"BUSBAR_FAULT": "none"}) as (system, user), \
            busbar.Client(str(system.run)) as client:
        yield system, user, client


def begin(user, work):
    """A run, begun once, however often that has to be asked."""
    key = {"Idempotency-Key": uuid.uuid4().hex}

    def ask():
        answer = user.request("POST", f"/jobs/{work['id']}/run", headers=key)
        return answer.status_code == 201 and answer.json()
    return wait_for(ask, "a run to begin", 40, 0.1)


def over(user, run):
    """The run once it is over, though who is asked may die meanwhile."""
    def look():
        answer = user.request("GET", f"/job-runs/{run['id']}")
        return answer.status_code == 200 and answer.json()["completed_at"] and answer.json()
    return wait_for(look, "the end of the run", 60, 0.1)


def rows_of(user, table):
    body = user.post("/queries/execute", {"query": f"SELECT n FROM {table} ORDER BY n"})
    return [row[0] if isinstance(row, list) else row["n"] for row in body["data"]["rows"]]


@pytest.mark.parametrize("step", (5, 12, 19))
def test_each_task_is_done_once(world, step):
    """Dead at so many of its reads and commits after the run was asked for."""
    import busbar

    _, user, client = world
    table = "log_" + uuid.uuid4().hex
    user.post("/queries/execute", {"query": f"CREATE TABLE {table} (n int)"})
    tasks = [{"task_key": f"t{n}", "type": "sql", "query": f"INSERT INTO {table} VALUES ({n})",
              "depends_on": [f"t{n - 1}"] if n else []} for n in range(3)]
    work = job(user, config={"tasks": tasks})
    client.call("jobs.faults", body={"set": f"db.commit:{step}=die"}, timeout=20)
    row = over(user, begin(user, work))
    try:
        client.call("jobs.faults", body={"set": "none"}, timeout=20)
    except (busbar.BusError, TimeoutError, OSError):
        pass
    wait_for(lambda: user.request("GET", "/jobs").status_code == 200, "jobs to be back", 40, 0.1)
    assert row["status"] == "success", row
    assert [(task["task_key"], task["attempt"]) for task in row["tasks"]] == \
        [("t0", 1), ("t1", 1), ("t2", 1)]
    assert rows_of(user, table) == [0, 1, 2]
    assert len(user.get(f"/jobs/{work['id']}/runs")) == 1


def seconds_of(user, work):
    """When its runs were due, as whole seconds; none while nobody can answer."""
    answer = user.request("GET", f"/jobs/{work['id']}/runs?limit=200")
    rows = answer.json() if answer.status_code == 200 else []
    return sorted(int(datetime.datetime.fromisoformat(row["scheduled_for"].replace("Z", "+00:00"))
                      .timestamp()) for row in rows)


def test_each_time_fires_once_wherever_the_process_dies(world):
    """Runs begin to exist in one commit, what comes next is kept in another."""
    import busbar

    _, user, client = world
    work = job(user, query="SELECT 1", schedule="* * * * * *", catchup="all", max_concurrent_runs=0)
    for step in (3, 4):
        begun = 4 * (step - 3)
        client.call("jobs.faults", body={"set": f"db.commit:{step}=die"}, timeout=20)
        wait_for(lambda: len(seconds_of(user, work)) >= begun + 4, "more firings", 60, 0.2)
        try:
            client.call("jobs.faults", body={"set": "none"}, timeout=20)
        except (busbar.BusError, TimeoutError, OSError):
            pass
        wait_for(lambda: user.request("GET", "/jobs").status_code == 200, "jobs to be back", 40, 0.1)
    user.post(f"/jobs/{work['id']}/pause")
    times = wait_for(lambda: seconds_of(user, work), "its runs", 20, 0.1)
    assert times == list(range(times[0], times[0] + len(times))) and len(times) >= 8
    user.delete(f"/jobs/{work['id']}")


def far_job(user, far):
    return job(user, config={"tasks": [{"task_key": "call", "type": "http", "method": "POST",
                                        "url": f"http://{far.where}/"}]})


def test_a_request_whose_answer_nobody_heard_is_lost_and_not_sent_again(world, far):
    system, user, _ = world
    before = far.asked
    run = begin(user, far_job(user, far))
    wait_for(lambda: far.asked > before, "the request", 30)
    system.wait_restarted("jobs", system.kill("jobs"), 30)
    row = over(user, run)
    assert (row["status"], row["state_detail"], row["termination"]["code"]) == \
        ("failed", "lost", "LOST")
    assert "nobody can say" in row["error_message"] and far.asked == before + 1
    far.held.set()
    user.post(f"/job-runs/{run['id']}/repair", expect=202)
    assert end(user, run)["status"] == "success" and far.asked == before + 2
    far.held.clear()


def test_cancelled_and_killed(world, far):
    system, user, _ = world
    before = far.asked
    run = begin(user, far_job(user, far))
    wait_for(lambda: far.asked > before, "the request", 30)
    user.post(f"/job-runs/{run['id']}/cancel", expect=202)
    system.wait_restarted("jobs", system.kill("jobs"), 30)
    assert over(user, run)["state_detail"] == "cancelled"


def test_a_copy_is_whole(world):
    system, user, _ = world
    table = "copy_" + uuid.uuid4().hex
    user.post("/queries/execute", {"query": f"CREATE TABLE {table} (n int)"})
    run = begin(user, job(user, config={"tasks": [{
        "task_key": "copy", "type": "copy", "table": table, "mode": "replace",
        "query": "SELECT g AS n FROM generate_series (1, 3000) g"}]}))
    until_state(user, run, "running", "succeeded")
    system.wait_restarted("jobs", system.kill("jobs"), 30)
    assert over(user, run)["status"] == "success"
    body = user.post("/queries/execute", {"query": f"SELECT count (*), count (DISTINCT n) FROM {table}"})
    assert list(body["data"]["rows"][0].values() if isinstance(body["data"]["rows"][0], dict)
                else body["data"]["rows"][0]) == [3000, 3000]


def test_afterwards_all_is_as_it_was(world):
    _, user, _ = world
    assert done(user, job(user, notebook_id=notebook(user, "SELECT 1", language="sql")))["status"] \
        == "success"
