"""SQL jobs run by the statement service."""

import uuid

import pytest

from client import own_system, signed_up
from jobs_world import done, end, job, start, until_state
from stack import wait_for


@pytest.fixture(scope="module")
def world():
    with own_system() as world:
        yield world


def statement_of(user, run):
    """What its task is at, once it is."""
    refs = wait_for(lambda: [task["ref"] for task in user.get(f"/job-runs/{run['id']}")["tasks"]
                             if task["ref"]], "a statement", 30)
    return user.get(f"/statements/{refs[-1]}")


def test_a_statement_runs(world):
    _, user = world
    row = done(user, job(user, query="SELECT n FROM generate_series (1, 7) n"))
    assert row["status"] == "success", row
    assert row["tasks"][0]["result"]["rowCount"] == 7 and "7 rows" in row["logs"]
    assert statement_of(user, row)["state"] == "succeeded"


def test_parameters_are_bound(world):
    _, user = world
    evil = "'; DROP TABLE x; --"
    work = job(user, query="SELECT :word::text AS word, :count::int + 1 AS count",
               parameters={"word": "plain", "count": 1})
    row = done(user, work, word=evil)
    assert row["status"] == "success", row
    assert row["tasks"][0]["result"]["first"] in ([evil, 2], {"word": evil, "count": 2})


def test_a_mistake_is_the_users_fault(world):
    _, user = world
    row = done(user, job(user, query="SELECT * FROM nowhere", max_infra_retries=5))
    assert row["state_detail"] == "failed" and len(row["tasks"]) == 1
    assert "nowhere" in row["error_message"]


def test_an_engine_that_is_not_configured_is_named(world):
    _, user = world
    row = done(user, job(user, config={"query": "SELECT 1", "engine": "trino"}))
    assert row["status"] == "failed" and "trino" in row["error_message"]


def test_a_saved_query_runs(world):
    system, user = world
    query = user.post("/queries", {"name": "q", "query_text": "SELECT 1, 2"}, expect=201)
    row = done(user, job(user, config={"query_id": query["id"]}))
    assert row["status"] == "success", row
    other = signed_up(system.base, "bob")
    for missing in (query["id"], str(uuid.uuid4())):
        assert "query_id" in job(other, config={"query_id": missing}, expect=404)["details"]
    other.close()


def test_clusters_of_others_are_not_there(world):
    system, user = world
    cluster = user.post("/compute-clusters", {"name": "c", "compute_type": "dask",
                                              "node_type": "local"}, expect=201)["id"]
    work = job(user, query="SELECT 1", cluster_id=cluster)
    other = signed_up(system.base, "bob")
    for missing in (cluster, str(uuid.uuid4())):
        assert "cluster_id" in job(other, query="SELECT 1", cluster_id=missing,
                                   expect=404)["details"]
    other.close()
    user.delete(f"/compute-clusters/{cluster}")
    assert user.get(f"/jobs/{work['id']}")["cluster_id"] is None


def test_cancel_reaches_the_statement(world):
    _, user = world
    run = start(user, job(user, query="SELECT pg_sleep (60)"))
    assert statement_of(user, run)["state"] in ("queued", "running")
    user.post(f"/job-runs/{run['id']}/cancel", expect=202)
    assert end(user, run, 20)["state_detail"] == "cancelled"
    assert statement_of(user, run)["state"] == "cancelled"


@pytest.mark.parametrize("config", [
    {"query": "SELECT pg_sleep (600)"},
    {"tasks": [{"task_key": "c", "type": "copy", "query": "SELECT pg_sleep (600) AS n", "table": "t"}]}])
def test_cancel_at_once_reaches_the_statement(world, config):
    """Also while it is being submitted."""
    _, user = world
    run = start(user, job(user, config=config))
    user.post(f"/job-runs/{run['id']}/cancel", expect=202)
    assert end(user, run, 20)["state_detail"] == "cancelled"
    wait_for(lambda: all(one["state"] not in ("queued", "running", "cancelling")
                         for one in user.get("/statements")), "all statements to end", 20, 0.1)


def test_killed_jobs_find_their_statement_again(world):
    system, user = world
    run = start(user, job(user, query="SELECT pg_sleep (3)"))
    statement = statement_of(user, run)
    system.wait_restarted("jobs", system.kill("jobs"), 30)
    row = end(user, run)
    assert row["status"] == "success"
    assert [task["ref"] for task in row["tasks"]] == [statement["id"]]


def test_platform_killed_is_not_the_users_fault(world):
    system, user = world
    run = start(user, job(user, query="SELECT pg_sleep (2)"))
    statement_of(user, run)
    system.wait_restarted("platform", system.kill("platform"), 30)
    row = end(user, run)
    assert row["status"] == "success", row
    assert [task["state"] for task in row["tasks"]] in (["failed", "succeeded"], ["succeeded"])
    until_state(user, run, "succeeded")
