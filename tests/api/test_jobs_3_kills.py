"""kill -9 of what runs jobs, at every state of a run: it goes on, nothing is done twice, nothing is
left behind."""

import uuid

import pytest

from client import own_system
from jobs_world import end, job, notebook, start, state_of, until_state
from stack import held, wait_for
from test_jobs_1_runs import fails_once, sql_task


@pytest.fixture(scope="module")
def world():
    with own_system() as world:
        yield world


def kill(system, name="jobs"):
    system.wait_restarted(name, system.kill(name), 30)


def executions(user, book):
    """How often each cell was begun, and how that ended."""
    return sorted((one["cell_id"], one["state"]) for one in user.get(f"/executions?notebook_id={book}"))


def test_while_it_waits_in_the_queue(world):
    system, user = world
    book = notebook(user, "SELECT pg_sleep (1)", language="sql")
    work = job(user, notebook_id=book)
    first, second = start(user, work), start(user, work)
    until_state(user, first, "running")
    assert state_of(user, second) == "queued"
    kill(system)
    assert [end(user, run)["status"] for run in (first, second)] == ["success", "success"]
    assert executions(user, book) == [("c1", "succeeded")] * 2


def test_while_a_cell_runs(world):
    system, user = world
    book = notebook(user, "print('one')", "import time\nprint('two', flush=True)\ntime.sleep(3)",
                    "print('three')")
    run = start(user, job(user, notebook_id=book))
    wait_for(lambda: any(cell == "c2" for cell, _ in executions(user, book)), "the second cell", 40)
    kill(system)
    row = end(user, run)
    assert row["status"] == "success" and "three" in row["logs"]
    assert executions(user, book) == [(f"c{n}", "succeeded") for n in (1, 2, 3)]
    assert [(task["attempt"], task["state"]) for task in row["tasks"]] == [(1, "succeeded")]


def test_while_it_waits_for_a_retry(world):
    system, user = world
    run = start(user, job(user, notebook_id=notebook(user, *fails_once(), language="sql"),
                          max_retries=1, retry_delay_seconds=2))
    until_state(user, run, "waiting_retry")
    kill(system)
    row = end(user, run)
    assert row["status"] == "success" and len(row["tasks"]) == 2


def test_while_it_is_cancelled(world):
    system, user = world
    book = notebook(user, "SELECT pg_sleep (60)", language="sql")
    run = start(user, job(user, notebook_id=book))
    wait_for(lambda: executions(user, book) == [("c1", "running")], "the cell", 20)
    user.post(f"/job-runs/{run['id']}/cancel", expect=202)
    kill(system)
    row = end(user, run)
    assert row["state_detail"] == "cancelled"
    assert executions(user, book) == [("c1", "cancelled")]


def test_cancelled_while_kernels_do_not_hear(world):
    """It is over once the cell is: what nobody answers is asked again, by the next process, too."""
    system, user = world
    book = notebook(user, "import time\nprint('on', flush=True)\ntime.sleep(60)")
    run = start(user, job(user, notebook_id=book))
    wait_for(lambda: executions(user, book) == [("c1", "running")], "the cell", 30)
    with held(system.pid("kernels")):
        user.post(f"/job-runs/{run['id']}/cancel", expect=202)
        kill(system)
        assert user.get(f"/job-runs/{run['id']}?wait=3", timeout=30)["state_detail"] == "cancelling"
    assert end(user, run)["state_detail"] == "cancelled"
    assert [state for _, state in executions(user, book)] in (["cancelled"], ["lost"])


def test_between_tasks(world):
    """Again and again, wherever it is: each task is done once, in order."""
    system, user = world
    name = "log_" + uuid.uuid4().hex
    end(user, start(user, job(user, notebook_id=notebook(
        user, f"CREATE TABLE {name} (n int)", language="sql"))))
    steps = [sql_task(user, f"step {n}", f"INSERT INTO {name} VALUES ({n})",
                      depends_on=[f"step {n - 1}"] if n else []) for n in range(12)]
    run = start(user, job(user, config={"tasks": steps}))
    for n in range(0, 12, 4):
        wait_for(lambda: len(user.get(f"/job-runs/{run['id']}")["tasks"]) > n, f"step {n}", 30)
        kill(system)
    row = end(user, run)
    assert row["status"] == "success", row
    assert [task["attempt"] for task in row["tasks"]] == [1] * 12
    book = notebook(user, f"SELECT array_agg (n) FROM {name}", language="sql")
    assert str(list(range(12))).replace(" ", "") in end(user, start(user, job(
        user, notebook_id=book)))["logs"].replace(" ", "").replace("{", "[").replace("}", "]")


def test_kernels_killed_is_not_the_users_fault(world):
    system, user = world
    book = notebook(user, "import time\nprint('go', flush=True)\ntime.sleep(2)\nprint('end')")
    run = start(user, job(user, notebook_id=book))
    wait_for(lambda: executions(user, book) == [("c1", "running")], "the cell", 30)
    kill(system, "kernels")
    row = end(user, run)
    assert row["status"] == "success", row
    assert [(task["state"], task["infra"]) for task in row["tasks"]] == [("failed", True),
                                                                        ("succeeded", False)]
    assert row["tasks"][0]["termination"]["code"] == "DRIVER_ERROR"


def test_platform_killed_is_waited_for(world):
    system, user = world
    book = notebook(user, *[f"SELECT pg_sleep (0.3), {n}" for n in range(4)], language="sql")
    run = start(user, job(user, notebook_id=book))
    until_state(user, run, "running")
    kill(system, "platform")
    assert end(user, run)["status"] == "success"
    assert executions(user, book) == [(f"c{n}", "succeeded") for n in (1, 2, 3, 4)]
