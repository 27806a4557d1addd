"""Statements when something dies, results that grow old, and two instances."""

import signal

import pytest

from client import User
from conftest import PASSWORD
from stack import Stack, wait_for

SLOW = "SELECT pg_sleep(60)"
FINAL = {"succeeded", "failed", "cancelled", "aborted", "lost", "expired"}


def join(system, name):
    user = User(system.base)
    user.token = user.post("/auth/signup", {"email": f"{name}@example.org", "password": PASSWORD, "name": name},
                           expect=(200, 201))["token"]
    return user


@pytest.fixture(scope="module")
def system():
    stack = Stack("--instances=platform=2", "--set=platform.statement-ttl=1", "--set=platform.statement-store=1",
                  "--set=kernels.guest-disk=24").wait()
    yield stack
    assert stack.stop() == 0


@pytest.fixture(scope="module")
def eve(system):
    return join(system, "eve")


def execute(user, query, wait=20, expect=200, **body):
    return user.post(f"/queries/execute?wait={wait}", {"query": query, **body}, expect=expect)


def state(user, statement, *wanted, patience=20):
    """Its row once it is in one of these states; while nobody serves it, it is asked again."""
    def look():
        answer = user.request("GET", f"/statements/{statement}")
        row = answer.json() if answer.status_code == 200 else {}
        return row if row.get("state") in wanted else None
    return wait_for(look, f"{statement} to be {wanted}", patience)


@pytest.mark.parametrize("when", ["running", "queued", "cancelling"])
def test_killed_while_a_statement_is(system, eve, when):
    begun = [execute(eve, f"{SLOW}, '{when}', {n}", wait=0, expect=202)["statement_id"] for n in range(4)]
    state(eve, begun[0], "running")
    state(eve, begun[3], "queued")
    if when == "cancelling":
        eve.post(f"/statements/{begun[1]}/cancel", expect=(200, 202))
    killed = {slot: system.kill(slot) for slot in ("platform.1", "platform.2")}
    for slot, pid in killed.items():
        system.wait_restarted(slot, pid)
    for statement in begun:
        row = state(eve, statement, *FINAL)
        if row["state"] == "lost":
            assert row["termination"]["type"] == "lost" and row["termination"]["message"]
        assert row["state"] in ("lost", "cancelled") and row["success"] is False
    assert state(eve, begun[3], "lost")
    answer = wait_for(lambda: (got := eve.request("POST", "/queries/execute", {"query": f"SELECT '{when}' AS w"}))
                      .status_code == 200 and got.json(), "the service to be back")
    assert answer["data"]["rows"] == [{"w": when}]


def test_stopped_in_order_a_statement_is_aborted(system, eve):
    begun = execute(eve, f"{SLOW}, 'aborted'", wait=0, expect=202)["statement_id"]
    state(eve, begun, "running")
    for slot in ("platform.1", "platform.2"):
        system.wait_restarted(slot, system.kill(slot, signal.SIGTERM), patience=30)
    row = state(eve, begun, *FINAL)
    assert row["state"] == "aborted" and row["state_detail"] == "the service was stopped"


def test_both_instances_serve_and_each_finds_what_the_other_runs(system):
    for n in range(4):
        user = join(system, f"user-{n}")
        begun = execute(user, f"{SLOW}, {n}", wait=0, expect=202)["statement_id"]
        state(user, begun, "running")
        assert user.post(f"/statements/{begun}/cancel", expect=(200, 202))["statement_id"] == begun
        state(user, begun, "cancelled")
        user.close()


def test_results_are_dropped_when_their_time_is_over(eve):
    answer = execute(eve, "SELECT 'old' AS word")
    row = state(eve, answer["statement_id"], "expired")
    assert row["success"] is True and row["row_count"] == 1
    refused = eve.get(f"/statements/{answer['statement_id']}/result", expect=409)
    assert "expired" in refused["error"]


def test_whose_tables_take_too_much_may_only_read_and_free(eve):
    execute(eve, "CREATE TABLE heap AS SELECT n, repeat(md5(n::text), 60) AS text FROM generate_series(1, 20000) n")
    refused = wait_for(lambda: (answer := execute(eve, "INSERT INTO heap VALUES (1, 'x')"))["success"] is False and answer,
                       "the disk to be full")
    assert refused["termination"]["type"] == "limit" and "24 MiB" in refused["error"]
    assert execute(eve, "SELECT count(*) > 0 AS some FROM heap")["data"]["rows"] == [{"some": True}]
    assert execute(eve, "DROP TABLE heap")["success"]
    wait_for(lambda: execute(eve, "CREATE TABLE IF NOT EXISTS small (n int)")["success"], "room again")


def test_results_of_one_user_are_bounded(eve):
    first = execute(eve, "SELECT repeat('x', 1000) AS x FROM generate_series(1, 900)")["statement_id"]
    execute(eve, "SELECT repeat('y', 1000) AS y FROM generate_series(1, 900)")
    state(eve, first, "expired")


def test_cells_and_queries_share_what_a_user_has(eve):
    execute(eve, "CREATE TABLE shared (n int)")
    workspace = eve.post("/workspaces", {"name": "w"}, expect=201)["id"]
    notebook = eve.post("/notebooks", {"name": "n", "workspace_id": workspace, "language": "sql"}, expect=201)["id"]
    cell = eve.post("/notebooks/execute", {"notebookId": notebook, "code": "INSERT INTO shared VALUES (5) RETURNING n"})
    assert cell["success"] is True, cell
    assert execute(eve, "SELECT n FROM shared")["data"]["rows"] == [{"n": 5}]


def test_a_user_that_goes_takes_everything_along(system):
    user = join(system, "goes")
    execute(user, "CREATE TABLE mine (n int)")
    begun = execute(user, f"{SLOW}, 'goes'", wait=0, expect=202)["statement_id"]
    state(user, begun, "running")
    user.post("/queries", {"name": "q", "query_text": "SELECT 1"}, expect=201)
    system.busbar("call", "users.remove", f"user={user.get('/auth/me')['id']}")
    wait_for(lambda: user.request("GET", "/statements").status_code == 401, "the token to be worth nothing")
    user.close()
