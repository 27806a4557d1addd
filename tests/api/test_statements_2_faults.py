"""Statements when something dies, results that grow old, and two instances."""

import signal
import threading

import pytest

from client import User, person, signed_up
from stack import Stack, family, held, wait_for

SLOW = "SELECT pg_sleep(60)"
FINAL = {"succeeded", "failed", "cancelled", "aborted", "lost", "expired"}


@pytest.fixture(scope="module")
def system():
    stack = Stack("--instances=platform=2", "--set=platform.statement-ttl=1", "--set=platform.statement-store=1",
                  "--set=kernels.guest-disk=24").wait()
    yield stack
    assert stack.stop() == 0


eve = person("eve")


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


def test_killed_while_rows_are_stored(system, eve):
    """What was stored of them goes with the statement, which is lost."""
    begun = execute(eve, "SELECT n, repeat('x', 9000) AS x, pg_sleep(0.05) FROM generate_series(1, 100000) n", wait=0,
                    expect=202, row_limit=100000)
    log = eve.live.subscribe(f"statements/{begun['statement_id']}", off=0, epoch=begun["live"]["epoch"])
    log.until(lambda frame: frame.get("type") == "statement.rows")
    killed = {slot: system.kill(slot) for slot in ("platform.1", "platform.2")}
    for slot, pid in killed.items():
        system.wait_restarted(slot, pid)
    assert state(eve, begun["statement_id"], *FINAL)["state"] == "lost"
    refused = wait_for(lambda: (answer := eve.request("GET", f"/statements/{begun['statement_id']}/result"))
                       .status_code == 409 and answer.json(), "the result to be refused")
    assert "lost" in refused["error"]


def test_stopped_in_order_a_statement_is_aborted(system, eve):
    begun = execute(eve, f"{SLOW}, 'aborted'", wait=0, expect=202)["statement_id"]
    state(eve, begun, "running")
    for slot in ("platform.1", "platform.2"):
        system.wait_restarted(slot, system.kill(slot, signal.SIGTERM), patience=30)
    row = state(eve, begun, *FINAL)
    assert row["state"] == "aborted" and row["state_detail"] == "the service was stopped"


#  ---------------------------------------------------------------- PostgreSQL, ours and the guests': one server

def served_again(user, word, patience=40):
    """Whatever is answered until then is a 503 that says when to ask again."""
    def ask():
        answer = user.request("POST", "/queries/execute", {"query": f"SELECT '{word}' AS word"})
        if answer.status_code == 503:
            assert answer.headers["retry-after"] and answer.json()["code"] == "UNAVAILABLE"
            return None
        assert answer.status_code == 200, answer.text
        answer = answer.json()
        if answer["success"]:
            return answer["data"]["rows"] == [{"word": word}]
        assert answer["termination"]["type"] in ("platform", "lost"), answer
    wait_for(ask, "statements to be run again", patience)


def test_postgresql_dies_under_statements(system, eve):
    reads = execute(eve, f"{SLOW}, 'dies'", wait=0, expect=202)["statement_id"]
    writes = execute(eve, "CREATE TABLE dies AS SELECT 1 AS n, pg_sleep(60) IS NULL AS slept", wait=0, expect=202)["statement_id"]
    for statement in (reads, writes):
        state(eve, statement, "running")
    kept = execute(eve, "SELECT 'kept' AS word")["statement_id"]
    old = system.kill("postgres")
    #  200: it came in time; 409: its time was over.
    assert eve.request("GET", f"/statements/{kept}/result").status_code in (200, 409, 503)
    served_again(eve, "risen")
    system.wait_restarted("postgres", old, 30)
    for statement in (reads, writes):
        row = state(eve, statement, *FINAL, patience=40)
        assert row["success"] is False and row["termination"]["type"] in ("platform", "lost"), row["termination"]
        assert row["termination"]["code"] and row["termination"]["message"]


def test_a_postgresql_that_hangs_keeps_nobody_waiting(system, eve):
    answers = {}

    def ask(name, verb, path, body=None):
        answers[name] = User(system.base, token=eve.token).request(verb, path, body)
    threads = [threading.Thread(target=ask, args=arguments) for arguments in (
        ("read", "POST", "/queries/execute?wait=1", {"query": "SELECT 'hangs' AS word"}),
        ("write", "POST", "/queries/execute?wait=1", {"query": "CREATE TABLE hangs (n int)"}))]
    with held(*family(system.pid("postgres"))):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(answers) == len(threads)
    assert all(answer.status_code in (503, 504) for answer in answers.values()), answers
    served_again(eve, "moves")


def test_both_instances_serve_and_each_finds_what_the_other_runs(system):
    for n in range(4):
        user = signed_up(system.base, f"user-{n}")
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
    user = signed_up(system.base, "goes")
    execute(user, "CREATE TABLE mine (n int)")
    begun = execute(user, f"{SLOW}, 'goes'", wait=0, expect=202)["statement_id"]
    state(user, begun, "running")
    user.post("/queries", {"name": "q", "query_text": "SELECT 1"}, expect=201)
    system.busbar("call", "users.remove", f"user={user.get('/auth/me')['id']}")
    wait_for(lambda: user.request("GET", "/statements").status_code == 401, "the token to be worth nothing")
    user.close()
