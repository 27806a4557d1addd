"""Statements: what POST /queries/execute answers, what is kept of it, and what users may not do."""

import csv
import io
import json
import threading
import uuid

import pytest

from stack import wait_for

NOWHERE = str(uuid.UUID(int=7))
SLOW = "SELECT pg_sleep(60)"


def execute(user, query, expect=200, wait=20, **body):
    return user.post(f"/queries/execute?wait={wait}", {"query": query, **body}, expect=expect)


def begin(user, query, **body):
    return execute(user, query, expect=202, wait=0, **body)


def rows(user, query, **body):
    answer = execute(user, query, **body)
    assert answer["success"], answer
    return answer["data"]["rows"]


def ended(user, answer, state, patience=15):
    path = f"/statements/{answer['statement_id']}"
    return wait_for(lambda: (row := user.get(path))["state"] == state and row, f"it to be {state}", patience)


#  ---------------------------------------------------------------- the documented answer

def test_a_select_is_answered_with_its_rows(ann):
    answer = execute(ann, "SELECT 1 AS one, 'x' AS text, NULL AS nothing, true AS yes, 1.5 AS half")
    assert answer["success"] is True and answer["state"] == "succeeded" and answer["engine"] == "postgresql"
    assert answer["data"]["rows"] == [{"one": 1, "text": "x", "nothing": None, "yes": True, "half": 1.5}]
    assert answer["data"]["rowCount"] == 1 and answer["error"] is None
    assert answer["termination"] == {"type": "success", "code": "SUCCESS", "message": "succeeded"}
    assert answer["data"]["columns"][0] == {"name": "one", "type": "int4"}
    assert answer["executionTime"] >= 0 and answer["timestamp"].endswith("Z")
    assert answer["live"]["ch"].endswith(f"/statements/{answer['statement_id']}")


@pytest.mark.parametrize("name", ["query", "query_text", "sql"])
def test_the_text_has_three_names(ann, name):
    assert ann.post("/queries/execute", {name: "SELECT 7 AS n;"})["data"]["rows"] == [{"n": 7}]


def test_tables_of_one_are_nobody_elses(ann, bob):
    assert execute(ann, "CREATE TABLE kept (n int)")["data"]["rows"] == []
    assert execute(ann, "INSERT INTO kept VALUES (1), (2)")["data"]["rowCount"] == 2
    assert rows(ann, "SELECT sum(n) AS sum FROM kept") == [{"sum": 3}]
    failed = execute(bob, "SELECT * FROM kept")
    assert failed["success"] is False and failed["data"] is None
    assert failed["error"] == 'relation "kept" does not exist'
    assert failed["termination"] == {"type": "user", "code": "42P01", "message": failed["error"], "position": 15}
    execute(ann, "DROP TABLE kept")


def test_odd_columns(ann):
    answer = execute(ann, "SELECT 1 AS a, 2 AS a, 'NaN'::float8 AS nan, '{\"b\":\n [1]}'::json AS j, '\u00fc\"\\\n' AS t")
    assert answer["data"]["rows"] == [{"a": 1, "a_2": 2, "nan": "NaN", "j": {"b": [1]}, "t": "\u00fc\"\\\n"}]
    assert rows(ann, "SELECT 1 WHERE false") == []


@pytest.mark.parametrize("query, code", [
    ("SELECT 1; SELECT 2", "42601"), ("COPY (SELECT 1) TO STDOUT", "USER_ERROR"), ("DO $$ BEGIN END $$", "42501"),
    ("SELECT pg_read_file('/etc/passwd')", "42501"), ("SELECT pg_advisory_lock(1)", "42501"),
    ("SELECT * FROM pg_stat_activity", "42501"), ("SELECT lo_import('/etc/passwd')", "42501"),
    ("COPY kept FROM PROGRAM 'id'", None), ("SELECT pg_terminate_backend(1)", "42501"), ("SET ROLE postgres", None)])
def test_what_users_may_not(ann, query, code):
    answer = execute(ann, query)
    assert answer["success"] is False and answer["termination"]["type"] == "user", answer
    assert code is None or answer["termination"]["code"] == code


def test_who_changes_the_own_password_is_let_in_again(ann):
    assert execute(ann, "ALTER ROLE CURRENT_USER PASSWORD 'something-else-of-mine'")["success"]
    assert rows(ann, "SELECT 1 AS n") == [{"n": 1}]


#  ---------------------------------------------------------------- parameters

@pytest.mark.parametrize("query, parameters, row", [
    ("SELECT $1 + 1 AS a, $2 AS b, $3 AS c", [41, "it's", True], {"a": 42, "b": "it's", "c": True}),
    ("SELECT :n + :n AS a, ':n' AS b, '{5}'::int[] AS c -- :no", {"n": 4}, {"a": 8, "b": ":n", "c": "{5}"}),
    ("SELECT :d - 1 AS d", {"d": {"type": "date", "value": "2026-03-01"}}, {"d": "2026-02-28"}),
    ("SELECT $1 AS n", [{"type": "decimal", "value": "12345678901234567890.5"}], {"n": 12345678901234567890.5}),
    ("SELECT $1::text AS nothing, $2 -> 'a' AS a", [None, {"type": "json", "value": {"a": [1]}}],
     {"nothing": None, "a": [1]}),
    ("SELECT count(*) AS n FROM generate_series(1, $1)", [10], {"n": 10})])
def test_parameters_are_bound(ann, query, parameters, row):
    assert rows(ann, query, parameters=parameters) == [row]


def test_a_parameter_is_never_sql(ann):
    text = "1'; DROP TABLE x; --"
    assert rows(ann, "SELECT :text AS t", parameters={"text": text}) == [{"t": text}]


@pytest.mark.parametrize("body, field", [
    ({}, "query"), ({"query": " ; "}, "query"), ({"query": "SELECT :a", "parameters": {}}, "parameters"),
    ({"query": "SELECT $1", "parameters": "x"}, "parameters"), ({"query": "SELECT 1", "engine": "oracle"}, "engine"),
    ({"query": "SELECT $1", "parameters": [{"type": "int", "value": "4.5"}]}, "parameters"),
    ({"query": "SELECT $1", "parameters": [{"type": "blob", "value": "4"}]}, "parameters"),
    ({"query": "SELECT 1", "row_limit": 0}, "row_limit"), ({"query": "SELECT 1", "timeout": 0}, "timeout"),
    ({"query": "SELECT 1", "cluster_id": "x"}, "cluster_id")])
def test_bad_input_names_its_field(ann, body, field):
    assert field in ann.post("/queries/execute", body, expect=400)["details"]


def test_what_belongs_to_nobody_or_others_is_not_found(ann, bob, anyone):
    for field in ("cluster_id", "source_id"):
        answer = ann.post("/queries/execute", {"query": "SELECT 1", field: NOWHERE}, expect=404)
        assert field in answer["details"]
    own = execute(ann, "SELECT 1")["statement_id"]
    for user, path in ((bob, own), (ann, NOWHERE)):
        user.get(f"/statements/{path}", expect=404)
        user.get(f"/statements/{path}/result", expect=404)
        user.post(f"/statements/{path}/cancel", expect=404)
        user.delete(f"/statements/{path}", expect=404)
    anyone.post("/queries/execute", {"query": "SELECT 1"}, expect=401)
    assert own not in {row["id"] for row in bob.get("/statements")}


#  ---------------------------------------------------------------- engines

@pytest.mark.parametrize("engine", ["spark", "trino", "snowflake"])
def test_an_engine_that_is_not_configured_is_said_to_be(ann, engine):
    answer = ann.post("/queries/execute", {"query": "SELECT 1 AS n", "engine": engine}, expect=409)
    assert answer["details"] == {"engine": "is not configured", "setting": f"platform.{engine}-url"}
    answer = execute(ann, "SELECT 1 AS n", engine=engine, fallback=True)
    assert answer["data"]["rows"] == [{"n": 1}]
    assert (answer["engine"], answer["fallback"], answer["asked"]) == ("postgresql", True, engine)


def test_explain_tells_the_plan_and_runs_nothing(ann):
    execute(ann, "CREATE TABLE looked (n int)")
    answer = ann.post("/queries/explain", {"query": "DELETE FROM looked WHERE n = $1", "parameters": [1]})
    assert answer["success"] and answer["data"]["plan"][0]["Plan"]["Operation"] == "Delete", answer
    assert execute(ann, "INSERT INTO looked VALUES (1)", explain=True)["data"]["plan"]
    assert rows(ann, "SELECT count(*) AS n FROM looked") == [{"n": 0}]
    failed = ann.post("/queries/explain", {"query": "SELECT nothing"})
    assert failed["success"] is False and failed["termination"]["position"] == 8
    execute(ann, "DROP TABLE looked")


#  ---------------------------------------------------------------- limits, results

def test_limits(ann):
    answer = execute(ann, "SELECT n FROM generate_series(1, 100000) n", row_limit=3)
    assert answer["data"]["rows"] == [{"n": 1}, {"n": 2}, {"n": 3}] and answer["data"]["truncated"] is True
    answer = execute(ann, "SELECT repeat('x', 1000) AS x FROM generate_series(1, 100)", byte_limit=10240)
    assert answer["data"]["truncated"] is True and answer["data"]["rowCount"] < 11
    answer = execute(ann, SLOW, timeout=1)
    assert (answer["state"], answer["state_detail"], answer["termination"]["type"]) == ("failed", "timed_out", "timeout")


@pytest.fixture(scope="module")
def large(ann):
    return execute(ann, "SELECT n, '=' || n AS formula, NULL AS nothing, 'a,\"b\"' AS quoted "
                        "FROM generate_series(1, 25000) n", row_limit=30000, byte_limit=10 << 20)


def test_a_result_is_fetched_in_pages(ann, large):
    path = f"/statements/{large['statement_id']}/result"
    assert large["data"]["rowCount"] == 25000 and not large["data"]["truncated"]
    page = ann.get(f"{path}?page=2&page_size=9999")
    assert (page["pages"], page["rowCount"], len(page["rows"])) == (3, 25000, 9999)
    assert page["rows"][0]["n"] == 10000 and page["rows"][-1]["n"] == 19998
    last = ann.get(page["next"])
    assert last["rows"][-1]["n"] == 25000 and last["next"] is None
    assert "page" in ann.get(f"{path}?page=4&page_size=9999", expect=404)["details"]
    assert ann.get(f"/statements/{large['statement_id']}")["row_count"] == 25000


def test_a_result_as_json_lines_and_as_csv(ann, large):
    path = f"/statements/{large['statement_id']}/result?format="
    lines = ann.request("GET", path + "jsonl", expect=200).text.splitlines()
    assert len(lines) == 25000
    assert json.loads(lines[-1]) == {"n": 25000, "formula": "=25000", "nothing": None, "quoted": 'a,"b"'}
    answer = ann.request("GET", path + "csv", expect=200)
    assert answer.headers["content-type"].startswith("text/csv")
    found = list(csv.reader(io.StringIO(answer.text)))
    assert found[0] == ["n", "formula", "nothing", "quoted"] and len(found) == 25001
    assert found[1] == ["1", "'=1", "", 'a,"b"']


def test_rows_stream_as_they_come(ann):
    body = {"query": "SELECT n, md5(n::text) AS text FROM generate_series(1, 200000) n"}
    with ann.http.stream("POST", "/queries/stream", json=body,
                         headers={"Authorization": f"Bearer {ann.token}"}) as answer:
        assert answer.status_code == 200 and "ndjson" in answer.headers["content-type"]
        lines = b"".join(answer.iter_bytes()).splitlines()
    assert len(lines) == 200000 and json.loads(lines[0])["n"] == 1
    row = next(row for row in ann.get("/statements") if row["query_text"] == body["query"])
    assert row["state"] == "succeeded" and row["row_count"] == 200000
    assert "state" in ann.get(f"/statements/{row['id']}/result", expect=409)["details"]
    failed = ann.post("/queries/stream", {"query": "SELECT nothing"}, expect=400)
    assert failed["details"]["code"] == "42703"


def test_who_leaves_a_stream_stops_it(ann):
    query = "SELECT generate_series(1, 100000000) AS n"
    with ann.http.stream("POST", "/queries/stream", json={"query": query},
                         headers={"Authorization": f"Bearer {ann.token}"}) as answer:
        next(answer.iter_lines())
    wait_for(lambda: [row for row in ann.get("/statements?state=cancelled") if row["query_text"] == query],
             "the statement to be stopped")


#  ---------------------------------------------------------------- waiting, cancelling, sharing

def test_one_that_is_not_waited_for_is_found_again(ann):
    begun = begin(ann, "SELECT pg_sleep(0.3), 5 AS n")
    assert begun["state"] in ("queued", "running") and begun["success"] is None and begun["data"] is None
    row = ended(ann, begun, "succeeded")
    assert row["success"] is True and row["state_seq"] == 2
    assert ann.get(f"/statements/{begun['statement_id']}/result")["rows"][0]["n"] == 5
    listed = ann.get("/statements?limit=1")[0]
    assert (listed["id"], listed["error"], listed["success"]) == (begun["statement_id"], None, True)


def test_cancel_reaches_postgresql(ann):
    begun = begin(ann, SLOW)
    ended(ann, begun, "running")
    path = f"/statements/{begun['statement_id']}"
    assert "state" in ann.get(f"{path}/result", expect=409)["details"]
    assert "state" in ann.delete(path, expect=409)["details"]
    assert ann.post(f"{path}/cancel", expect=(200, 202))["state"] in ("cancelling", "cancelled")
    row = ended(ann, begun, "cancelled", 5)
    assert (row["termination"]["type"], row["termination"]["code"]) == ("cancelled", "57014")
    assert row["success"] is False
    assert ann.post(f"{path}/cancel")["state"] == "cancelled"
    ann.delete(path)
    ann.get(path, expect=404)


def test_the_fourth_waits_for_a_place_and_can_be_cancelled_there(ann):
    #  Different texts: equal ones would be one statement.
    begun = [begin(ann, f"{SLOW}, {n} AS n") for n in range(4)]
    ended(ann, begun[2], "running")
    assert ann.get(f"/statements/{begun[3]['statement_id']}")["state"] == "queued"
    extra = begin(ann, f"{SLOW}, 5 AS n")
    ann.post(f"/statements/{extra['statement_id']}/cancel", expect=(200, 202))
    ended(ann, extra, "cancelled", 5)
    ann.post(f"/statements/{begun[0]['statement_id']}/cancel", expect=(200, 202))
    ended(ann, begun[3], "running")
    for one in begun[1:]:
        ann.post(f"/statements/{one['statement_id']}/cancel", expect=(200, 202))
        ended(ann, one, "cancelled", 5)


def test_equal_statements_that_only_read_run_once(ann, bob):
    query = "SELECT pg_sleep(1), 'together' AS word"
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(execute(ann, query))) for _ in range(3)]
    for thread in threads:
        thread.start()
    other = execute(bob, query)
    for thread in threads:
        thread.join()
    assert len({answer["statement_id"] for answer in answers}) == 1
    assert sorted(answer["shared"] for answer in answers) == [False, True, True]
    assert other["statement_id"] != answers[0]["statement_id"] and other["shared"] is False


def test_a_repeated_request_starts_nothing_twice(ann, sign_up):
    """The very first of a user, too, for which much else is done."""
    headers, user = {"Idempotency-Key": uuid.uuid4().hex}, sign_up("repeats")
    body = {"query": "CREATE TABLE once AS SELECT 1 AS n"}
    first, second = (user.post("/queries/execute", body, headers=headers) for _ in range(2))
    assert first["statement_id"] == second["statement_id"] and second["success"]
    execute(ann, "CREATE TABLE once (n int)")
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"query": "INSERT INTO once VALUES (1)"}
    first, second = (ann.post("/queries/execute", body, headers=headers) for _ in range(2))
    assert first["statement_id"] == second["statement_id"] and second["success"]
    assert rows(ann, "SELECT count(*) AS n FROM once") == [{"n": 1}]
    execute(ann, "DROP TABLE once")


#  ---------------------------------------------------------------- live

def test_states_and_rows_are_told_live(ann):
    listed = ann.live.subscribe("statements")
    begun = begin(ann, "SELECT n, pg_sleep(0.3) FROM generate_series(1, 4) n")
    log = ann.live.subscribe(f"statements/{begun['statement_id']}", off=0, epoch=begun["live"]["epoch"])
    events = log.until(lambda frame: frame.get("data", {}).get("state") == "succeeded")
    types = [event["type"] for event in events]
    assert types[0] == types[-1] == "statement.state" and types.count("statement.rows") >= 1
    told = [row["n"] for event in events if event["type"] == "statement.rows" for row in event["data"]["rows"]]
    assert told == [1, 2, 3, 4]
    assert [event["off"] for event in events] == list(range(1, len(events) + 1))
    sequence = [event["data"]["state_seq"] for event in events if event["type"] == "statement.state"]
    assert sequence == sorted(set(sequence))
    listed.until(lambda frame: frame.get("key") == begun["statement_id"] and frame["data"]["state"] == "succeeded")
    again = ann.another_live()
    half = again.subscribe(f"statements/{begun['statement_id']}", off=2, epoch=begun["live"]["epoch"])
    assert half.next()["off"] == 3
    again.close()


#  ---------------------------------------------------------------- for actors

def test_actors_submit_in_a_users_name(stack, ann):
    def call(method, **body):
        return json.loads(stack.busbar("call", f"--as={ann.id}", f"--key=user:{ann.id}", method,
                                       *(f"{name}={json.dumps(value)}" for name, value in body.items())))

    key = uuid.uuid4().hex
    first = call("statements.submit", query="SELECT pg_sleep(0.3), 3 AS n", idempotency_key=key)
    assert first["state"] in ("running", "queued")
    again = call("statements.submit", query="SELECT pg_sleep(0.3), 3 AS n", idempotency_key=key, wait_ms=10000)
    assert again["statement_id"] == first["statement_id"] and again["state"] == "succeeded"
    assert call("statements.await", id=first["statement_id"], wait_ms=1000)["data"]["rows"][0]["n"] == 3


#  ---------------------------------------------------------------- what is kept for later

def test_queries_and_saved_queries(ann, bob):
    workspace = ann.post("/workspaces", {"name": "w"}, expect=201)["id"]
    query = ann.post("/queries", {"name": "q", "query_text": "SELECT 1", "engine": "snowflake",
                                  "workspace_id": workspace}, expect=201)
    assert query["engine"] == "snowflake" and query["cluster_id"] is None
    assert [row["id"] for row in ann.get(f"/queries?workspace_id={workspace}")] == [query["id"]]
    assert ann.put(f"/queries/{query['id']}", {"query_text": "SELECT 2"})["query_text"] == "SELECT 2"
    assert "engine" in ann.post("/queries", {"name": "q", "query_text": "x", "engine": "hive"}, expect=400)["details"]
    assert "cluster_id" in ann.put(f"/queries/{query['id']}", {"cluster_id": NOWHERE}, expect=404)["details"]
    assert "workspace_id" in bob.post("/queries", {"name": "q", "query_text": "x", "workspace_id": workspace},
                                      expect=404)["details"]
    for verb in ("get", "delete"):
        getattr(bob, verb)(f"/queries/{query['id']}", expect=404)
    saved = ann.post("/saved-queries", {"name": "s", "query_text": "SELECT 1", "tags": ["a"], "is_favorite": True},
                     expect=201)
    assert [row["id"] for row in ann.get("/saved-queries")] == [saved["id"]] and bob.get("/saved-queries") == []
    assert ann.put(f"/saved-queries/{saved['id']}", {"is_favorite": False})["is_favorite"] is False
    assert ann.delete(f"/saved-queries/{saved['id']}")["message"] == "Deleted"
    ann.delete(f"/workspaces/{workspace}")
    ann.get(f"/queries/{query['id']}", expect=404)
