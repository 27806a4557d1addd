"""Jobs really run: notebooks cell by cell, tasks in order, with parameters, retries, cancellation."""

import uuid

import pytest

from jobs_world import done, end, job, notebook, start, until_state
from stack import wait_for

NOBODY = str(uuid.uuid4())


def tasks_of(row):
    return {task["task_key"]: task["state"] for task in row["tasks"]}


def sql_task(user, key, code, **fields):
    """A task that runs one SQL cell, without a kernel."""
    return {"task_key": key, "type": "notebook",
            "notebook_id": notebook(user, *([code] if isinstance(code, str) else code),
                                    language="sql"), **fields}


def test_a_notebook_runs_cell_by_cell(ann):
    book = notebook(ann, "kept = [1]\nprint('first', day)",
                    {"id": "m", "type": "markdown", "content": "# no code"},
                    "kept.append(2)\nprint('second', kept, count * 2)")
    work = job(ann, notebook_id=book, name="nightly", parameters={"day": "mon", "count": 1})
    assert (work["job_type"], work["enabled"], work["schedule"]) == ("notebook", True, None)
    run = start(ann, work, count=21)
    assert run["status"] == "pending" and run["job_id"] == work["id"]
    row = end(ann, run)
    assert (row["status"], row["state_detail"], row["error_message"]) == ("success", "succeeded", None)
    assert row["termination"]["code"] == "SUCCESS"
    assert "first mon" in row["logs"] and "second [1, 2] 42" in row["logs"]
    assert row["duration_seconds"] > 0 and row["parameters"] == {"day": "mon", "count": 21}
    assert tasks_of(row) == {"notebook": "succeeded"}
    assert [one["id"] for one in ann.get(f"/jobs/{work['id']}/runs")] == [run["id"]]
    assert ann.get(f"/jobs/{work['id']}/runs/{run['id']}")["logs"] == row["logs"]


def test_a_cell_that_fails_ends_the_run(ann):
    row = done(ann, job(ann, notebook_id=notebook(ann, "1 / 0", "print('never')")))
    assert (row["status"], row["state_detail"]) == ("failed", "failed")
    assert "cell 1" in row["error_message"] and "ZeroDivisionError" in row["error_message"]
    assert "never" not in row["logs"]
    assert row["termination"] == {"code": "RUN_EXECUTION_ERROR", "type": "CLIENT_ERROR",
                                  "message": row["error_message"]}


def kernels_of(user, book):
    return {(one["session"], one["state"]) for one in user.get("/kernels")
            if one["notebook_id"] == book}


def test_a_run_has_a_kernel_of_its_own(ann):
    """It knows nothing of what a person does at the notebook, nor they of it; then it goes."""
    book = notebook(ann, "print('known' if 'mine' in globals () else 'unknown'); mine = 'job'",
                    "print(mine)")
    ann.post(f"/notebooks/{book}/execute?wait=60", {"code": "mine = 'person'"}, expect=200,
             timeout=80)
    row = done(ann, job(ann, notebook_id=book))
    assert row["status"] == "success" and "unknown" in row["logs"] and "job" in row["logs"]
    session = row["tasks"][0]["result"]["session"]
    assert session.startswith(row["id"])
    body = ann.post(f"/notebooks/{book}/execute?wait=60", {"code": "print(mine)"}, expect=200,
                    timeout=80)
    assert body["output"].strip() == "person"
    wait_for(lambda: {one for one, state in kernels_of(ann, book) if state != "stopping"} == {None},
             "the end of the run's kernel", 20, 0.1)
    #  What came out of it is kept with it, and is not the notebook's.
    kept = ann.get(f"/executions?session={session}")
    assert sorted(one["cell_id"] for one in kept) == ["c1", "c2"]
    assert ann.get(f"/executions/{kept[0]['id']}")["output"].strip() == "job"
    assert {one["session"] for one in ann.get(f"/executions?notebook_id={book}")} == {None, session}


def test_parameters_come_behind_the_cell_that_has_their_defaults(ann):
    book = notebook(ann, {"id": "p", "type": "code", "content": "day = 'none'; count = 1",
                          "metadata": {"tags": ["parameters"]}}, "print(day, count)")
    assert "none 1" in done(ann, job(ann, notebook_id=book))["logs"]
    row = done(ann, job(ann, notebook_id=book, parameters={"count": 7}), day="mon")
    assert "mon 7" in row["logs"], row["logs"]


def test_a_session_that_is_not_there_is_not_gone_on_with(ann):
    book = notebook(ann, "1")
    answer = ann.post(f"/notebooks/{book}/execute",
                      {"code": "1", "session": "none", "continues": True}, expect=409)
    assert "session" in answer["details"]
    ann.request("DELETE", f"/kernels/{book}?session=none", expect=404)


FAILS_ONCE = ("CREATE TABLE IF NOT EXISTS tries_{0} (n int)", "INSERT INTO tries_{0} VALUES (1)",
              "SELECT 1 / (count(*) - 1) FROM tries_{0}")


def fails_once():
    name = uuid.uuid4().hex
    return [cell.format(name) for cell in FAILS_ONCE]


def test_retries_are_attempts_of_their_own(ann):
    work = job(ann, notebook_id=notebook(ann, *fails_once(), language="sql"), max_retries=2,
               retry_delay_seconds=0.2)
    row = done(ann, work)
    assert row["status"] == "success"
    assert [(task["attempt"], task["state"]) for task in row["tasks"]] == [(1, "failed"),
                                                                          (2, "succeeded")]
    assert "division by zero" in row["tasks"][0]["termination"]["message"]
    assert "again in 0.2 s" in row["logs"]


def test_a_run_that_waits_for_a_retry_says_so_and_can_be_cancelled(ann):
    work = job(ann, notebook_id=notebook(ann, "SELECT 1 / 0", language="sql"), max_retries=5,
               retry_delay_seconds=600)
    run = start(ann, work)
    until_state(ann, run, "waiting_retry")
    assert ann.get(f"/job-runs/{run['id']}")["status"] == "pending"
    assert ann.post(f"/job-runs/{run['id']}/cancel", expect=202)["id"] == run["id"]
    row = end(ann, run)
    assert (row["status"], row["state_detail"]) == ("failed", "cancelled")
    again = ann.post(f"/job-runs/{run['id']}/cancel", expect=409)
    assert again["details"] == {"from": "cancelled", "to": "cancelled"}


def test_cancel_reaches_the_engine(ann):
    book = notebook(ann, "SELECT pg_sleep (60)", language="sql")
    run = start(ann, job(ann, notebook_id=book))
    until_state(ann, run, "running")
    live = [one for one in ann.get(f"/executions?notebook_id={book}")] or None
    ann.post(f"/job-runs/{run['id']}/cancel", expect=202)
    row = end(ann, run, 20)
    assert row["state_detail"] == "cancelled" and row["duration_seconds"] < 20
    states = {one["state"] for one in ann.get(f"/executions?notebook_id={book}")}
    assert states <= {"cancelled"}, (states, live)


def test_a_task_and_a_run_have_their_time(ann):
    slow = sql_task(ann, "slow", "SELECT pg_sleep (60)", timeout_seconds=0.5)
    row = done(ann, job(ann, config={"tasks": [slow]}))
    assert (row["status"], row["state_detail"]) == ("failed", "timed_out")
    slow = sql_task(ann, "slow", "SELECT pg_sleep (60)")
    row = done(ann, job(ann, config={"tasks": [slow]}, timeout_seconds=0.5))
    assert (row["state_detail"], row["termination"]["code"]) == ("timed_out", "TIMED_OUT")


def test_tasks_follow_each_other(ann):
    row = done(ann, job(ann, config={"tasks": [
        sql_task(ann, "last", "SELECT 3", depends_on=["left", {"task_key": "right"}]),
        sql_task(ann, "first", "SELECT 1"),
        sql_task(ann, "left", "SELECT 2", depends_on=["first"]),
        sql_task(ann, "right", "SELECT 2", depends_on=["first"])]}))
    assert row["status"] == "success"
    begun = [task["task_key"] for task in row["tasks"]]
    assert begun[0] == "first" and begun[-1] == "last"


def test_what_a_failure_does_to_others(ann):
    row = done(ann, job(ann, config={"tasks": [
        sql_task(ann, "bad", "SELECT 1 / 0"),
        sql_task(ann, "after", "SELECT 1", depends_on=["bad"]),
        sql_task(ann, "anyway", "SELECT 1", depends_on=["bad"], run_if="ALL_DONE"),
        sql_task(ann, "alarm", "SELECT 1", depends_on=["bad"], run_if="AT_LEAST_ONE_FAILED")]}))
    assert tasks_of(row) == {"bad": "failed", "after": "upstream_failed", "anyway": "succeeded",
                             "alarm": "succeeded"}
    assert row["state_detail"] == "failed" and row["error_message"].startswith("task bad: ")


def test_failures_that_no_leaf_minds_are_named(ann):
    row = done(ann, job(ann, config={"tasks": [
        sql_task(ann, "bad", "SELECT 1 / 0"),
        sql_task(ann, "anyway", "SELECT 1", depends_on=["bad"], run_if="ALL_DONE")]}))
    assert (row["status"], row["state_detail"]) == ("success", "succeeded_with_failures")


def test_repair_does_only_what_has_not_succeeded(ann):
    work = job(ann, config={"tasks": [
        sql_task(ann, "good", "SELECT 1"),
        sql_task(ann, "flaky", fails_once(), depends_on=["good"]),
        sql_task(ann, "then", "SELECT 1", depends_on=["flaky"])]})
    run = start(ann, work)
    ann.post(f"/job-runs/{run['id']}/repair", expect=409)
    row = end(ann, run)
    assert tasks_of(row) == {"good": "succeeded", "flaky": "failed", "then": "upstream_failed"}
    ann.post(f"/job-runs/{run['id']}/repair", expect=202)
    row = end(ann, run)
    assert (row["status"], row["repair"]) == ("success", 1)
    assert sorted((task["task_key"], task["attempt"], task["repair"]) for task in row["tasks"]) == \
        [("flaky", 1, 0), ("flaky", 2, 1), ("good", 1, 0), ("then", 1, 0), ("then", 2, 1)]


def test_runs_beyond_the_limit_wait_and_with_zero_are_skipped(ann):
    work = job(ann, notebook_id=notebook(ann, "SELECT pg_sleep (0.3)", language="sql"))
    runs = [start(ann, work) for _ in range(3)]
    rows = [end(ann, run) for run in runs]
    assert all(row["status"] == "success" for row in rows)
    assert rows[0]["completed_at"] <= rows[1]["started_at"]
    assert rows[1]["completed_at"] <= rows[2]["started_at"]
    none = job(ann, notebook_id=notebook(ann, "SELECT 1", language="sql"), max_concurrent_runs=0)
    row = done(ann, none)
    assert (row["status"], row["state_detail"]) == ("failed", "skipped")
    assert row["termination"]["code"] == "MAX_CONCURRENT_RUNS_EXCEEDED"


def test_a_run_is_followed_live_and_from_its_beginning(ann):
    runs = ann.live.subscribe("job_runs")
    work = job(ann, notebook_id=notebook(ann, "SELECT 42 AS answer", language="sql"))
    run = start(ann, work)
    end(ann, run)
    seen = runs.until(lambda frame: frame.get("ev", {}).get("type") == "job_run.succeeded"
                      or frame.get("type") == "job_run.succeeded")
    assert seen
    log = ann.live.subscribe(run["live"]["ch"], off=0, epoch=run["live"]["epoch"])
    kinds = [frame.get("type") for frame in log.until(
        lambda frame: frame.get("type") == "job_run.succeeded")]
    assert [kind for kind in kinds if kind != "job_run.log"] == [
        "job_run.queued", "job_run.running", "job_task.running", "job_task.succeeded",
        "job_run.succeeded"], kinds


def test_a_repeated_request_begins_one_run(ann):
    work = job(ann, notebook_id=notebook(ann, "SELECT 1", language="sql"))
    key = {"Idempotency-Key": uuid.uuid4().hex}
    one = ann.post(f"/jobs/{work['id']}/run", expect=201, headers=key)
    two = ann.post(f"/jobs/{work['id']}/run", expect=201, headers=key)
    assert one["id"] == two["id"] and len(ann.get(f"/jobs/{work['id']}/runs")) == 1


def test_a_job_that_runs_is_deleted_with_its_engine(ann):
    book = notebook(ann, "SELECT pg_sleep (60)", language="sql")
    work = job(ann, notebook_id=book)
    run = start(ann, work)
    until_state(ann, run, "running")
    assert ann.delete(f"/jobs/{work['id']}")["message"] == "Deleted"
    ann.get(f"/job-runs/{run['id']}", expect=404)
    assert {one["state"] for one in ann.get(f"/executions?notebook_id={book}")} <= {"cancelled"}


def test_a_workspace_takes_its_jobs_along(ann):
    place = ann.post("/workspaces", {"name": "gone"}, expect=201)["id"]
    work = job(ann, notebook_id=notebook(ann, "SELECT 1", language="sql"), workspace_id=place)
    assert [one["id"] for one in ann.get(f"/jobs?workspace_id={place}")] == [work["id"]]
    done(ann, work)
    ann.delete(f"/workspaces/{place}")
    ann.get(f"/jobs/{work['id']}", expect=404)


@pytest.mark.parametrize("fields, field", [
    ({"schedule": "61 * * * *"}, "schedule"),
    ({"schedule": "* * *"}, "schedule"),
    ({"schedule": "0 0 30 2 *"}, "schedule"),
    ({"schedule": "@sometimes"}, "schedule"),
    ({"schedule": "0 0 * * *", "timezone": "Mars/Olympus"}, "timezone"),
    ({"timezone": "../../etc/passwd"}, "timezone"),
    ({"job_type": "shell"}, "job_type"),
    ({"job_type": "sql", "config": {}}, "config"),
    ({"job_type": "notebook", "config": {}}, "config"),
    ({"config": {"tasks": []}}, "config"),
    ({"config": {"tasks": [{"type": "sql", "query": "SELECT 1"}]}}, "config"),
    ({"config": {"tasks": [{"task_key": "a", "type": "magic"}]}}, "config"),
    ({"config": {"tasks": [{"task_key": "a", "type": 5}]}}, "config"),
    ({"config": {"tasks": [{"task_key": "a", "type": "branch", "node": "b", "operator": ">",
                            "value": 1}]}}, "config"),
    ({"config": {"tasks": [{"task_key": f"t{n}", "query": "SELECT 1"} for n in range(10000)]}}, "config"),
    ({"schedule": "*/0 * * * *"}, "schedule"), ({"schedule": "0 0 * * * 1999"}, "schedule"),
    ({"parameters": [1]}, "parameters"), ({"timezone": ""}, "timezone"),
    ({"config": {"tasks": [{"task_key": "a", "query": "SELECT 1", "depends_on": ["b"]}]}}, "config"),
    ({"config": {"tasks": [{"task_key": "a", "query": "SELECT 1", "depends_on": ["a"]}]}}, "config"),
    ({"config": {"tasks": [{"task_key": "a", "query": "SELECT 1", "run_if": "NEVER"}]}}, "config"),
    ({"config": {"tasks": [{"task_key": "a", "query": "SELECT 1"},
                           {"task_key": "a", "query": "SELECT 1"}]}}, "config"),
    ({"max_retries": -1}, "max_retries"), ({"catchup": "some"}, "catchup"),
    ({"retry_backoff": 0}, "retry_backoff"), ({"name": ""}, "name")])
def test_bad_jobs_are_refused_by_name(ann, fields, field):
    answer = job(ann, **{"name": "bad", "job_type": "sql", "config": {"query": "SELECT 1"}, **fields},
                 expect=400)
    assert field in answer["details"], answer


def test_what_a_job_carries_has_a_limit(ann):
    work = job(ann, query="SELECT 1", parameters={"x": "y" * 100000})
    assert len(ann.get(f"/jobs/{work['id']}")["parameters"]["x"]) == 100000
    ann.request("POST", f"/jobs/{work['id']}/run", {"parameters": {"x": "y" * 2000000}}, expect=413)
    answer = ann.post(f"/jobs/{work['id']}/run", {"parameters": [1]}, expect=400)
    assert "parameters" in answer["details"]
    row = done(ann, work)
    assert ann.post(f"/job-runs/{row['id']}/repair", expect=409)["details"]["from"] == "succeeded"


@pytest.mark.parametrize("span, field", [
    ({"from": "1969-12-31T00:00:00Z", "to": "1971-01-01T00:00:00Z"}, "from"),
    ({"from": "2999-01-01T00:00:00Z", "to": "2999-01-02T00:00:00Z"}, "from"),
    ({"from": "2020-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "to"),
    ({"from": "2020-01-01T00:00:00Z", "to": "2020-01-01T00:00:00Z"}, "to"),
    ({"from": "2020-01-01T00:00:00Z"}, "to"), ({"from": "monday", "to": "tuesday"}, "from")])
def test_what_cannot_be_filled_back(ann, span, field):
    work = job(ann, query="SELECT 1", schedule="* * * * *", enabled=False)
    assert field in ann.post(f"/jobs/{work['id']}/backfill", span, expect=400)["details"]


def test_tasks_name_only_ones_own(ann, bob):
    theirs = {"notebook_id": notebook(bob, "1"),
              "query_id": bob.post("/queries", {"name": "q", "query_text": "SELECT 1"}, expect=201)["id"],
              "pipeline_id": bob.post("/pipelines", {"name": "p"}, expect=201)["id"],
              "source_id": bob.post("/data-sources", {"name": "s", "source_type": "sqlite",
                                                      "connection_config": {"path": "x.db"}}, expect=201)["id"],
              "cluster_id": bob.post("/compute-clusters", {"name": "c", "compute_type": "dask",
                                                           "node_type": "local"}, expect=201)["id"]}
    for field, kind, more in (("notebook_id", "notebook", {}), ("query_id", "sql", {}),
                              ("source_id", "sql", {"query": "SELECT 1"}),
                              ("cluster_id", "sql", {"query": "SELECT 1"}),
                              ("source_id", "copy", {"query": "SELECT 1", "table": "t"})):
        for value in (theirs[field], NOBODY):
            task = {"task_key": "t", "type": kind, **more, field: value}
            assert field in job(ann, config={"tasks": [task]}, expect=404)["details"], task
    for value in (theirs["pipeline_id"], NOBODY):
        answer = job(ann, job_type="pipeline", config={"pipeline_id": value}, expect=404)
        assert "pipeline_id" in answer["details"]


def test_what_belongs_to_others_is_not_there(ann, bob):
    book = notebook(bob, "SELECT 1", language="sql")
    place = bob.post("/workspaces", {"name": "bob's"}, expect=201)["id"]
    for missing in (book, NOBODY):
        assert "notebook_id" in job(ann, notebook_id=missing, expect=404)["details"]
    mine = notebook(ann, "SELECT 1", language="sql")
    for missing in (place, NOBODY):
        answer = job(ann, notebook_id=mine, workspace_id=missing, expect=404)
        assert "workspace_id" in answer["details"]
    for missing in (NOBODY,):
        assert "cluster_id" in job(ann, notebook_id=mine, cluster_id=missing, expect=404)["details"]
    work = job(bob, notebook_id=book)
    run = start(bob, work)
    for verb, path in (("GET", f"/jobs/{work['id']}"), ("PUT", f"/jobs/{work['id']}"),
                       ("DELETE", f"/jobs/{work['id']}"), ("POST", f"/jobs/{work['id']}/run"),
                       ("GET", f"/jobs/{work['id']}/runs"), ("GET", f"/job-runs/{run['id']}"),
                       ("POST", f"/job-runs/{run['id']}/cancel"),
                       ("POST", f"/job-runs/{run['id']}/repair"),
                       ("POST", f"/jobs/{work['id']}/pause")):
        ann.request(verb, path, {} if verb in ("PUT", "POST") else None, expect=404)
    assert end(bob, run)["status"] == "success"
    assert work["id"] not in {one["id"] for one in ann.get("/jobs")}
    assert run["id"] not in {one["id"] for one in ann.get("/job-runs?limit=200")}
