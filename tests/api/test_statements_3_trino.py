"""Trino as an engine, against recorded dialogues: rows, errors, garbage, silence, death; and over TLS."""

import base64
import subprocess

import pytest

from client import person
from stack import Stack, shared, wait_for
from trino_dialogue import Trino


@pytest.fixture(scope="module")
def trino():
    server = Trino()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def system(trino):
    stack = Stack(f"--set=platform.trino-url={trino.base}", "--set=platform.trino-catalog=lake",
                  "--set=platform.trino-patience=1").wait()
    yield stack
    trino.release.set()
    assert stack.stop() == 0


ann = person("ann")


def execute(user, query, expect=200, wait=20, **body):
    return user.post(f"/queries/execute?wait={wait}", {"query": query, "engine": "trino", **body}, expect=expect)


def test_rows_come_page_by_page_through_moments_of_503(ann, trino):
    answer = execute(ann, "SELECT n, word FROM t -- rows;")
    assert answer["success"] and answer["engine"] == "trino", answer
    assert answer["data"]["rows"] == [{"n": 1, "word": "a"}, {"n": 2, "word": None},
                                      {"n": 9007199254740993, "word": "ü\"\n"}]
    assert answer["data"]["columns"] == [{"name": "n", "type": "bigint"}, {"name": "word", "type": "varchar(5)"}]
    verb, path, headers, text = next(seen for seen in trino.seen if seen[3])
    assert (verb, path, text) == ("POST", "/v1/statement", "SELECT n, word FROM t -- rows")
    assert headers["X-Trino-User"] == "busbar" and headers["X-Trino-Catalog"] == "lake"
    row = ann.get(f"/statements/{answer['statement_id']}")
    assert row["engine_id"] == "20260101_000000_00001_abcde" and row["info_uri"].startswith("http")
    assert headers["X-Trino-Trace-Token"] == answer["statement_id"]


def test_what_is_set_is_sent_along_with_the_next_statement(ann, trino):
    trino.headers = {"X-Trino-Set-Schema": "sales", "X-Trino-Set-Session": "query_max_run_time=1h"}
    execute(ann, "USE sales -- update")
    trino.headers = {"X-Trino-Clear-Session": "query_max_run_time"}
    execute(ann, "RESET SESSION query_max_run_time -- update")
    asked = [seen for seen in trino.seen if seen[3].startswith("RESET")][0][2]
    assert asked["X-Trino-Schema"] == "sales" and asked["X-Trino-Session"] == "query_max_run_time=1h"
    trino.headers = {}
    assert execute(ann, "INSERT INTO t VALUES (1) -- update")["data"]["rowCount"] == 3
    last = [seen for seen in trino.seen if seen[3].startswith("INSERT")][0][2]
    assert last["X-Trino-Schema"] == "sales" and "X-Trino-Session" not in last


def test_parameters_are_bound_by_execute_immediate(ann, trino):
    execute(ann, "SELECT :name, ':name', :day, :name -- rows",
            parameters={"name": "O'Hara", "day": {"type": "date", "value": "2026-01-31"}})
    text = trino.seen[-1][3] or [seen[3] for seen in trino.seen if seen[3]][-1]
    assert text == ("EXECUTE IMMEDIATE 'SELECT ?, '':name'', ?, ? -- rows' "
                    "USING 'O''Hara', DATE '2026-01-31', 'O''Hara'")


def test_an_error_of_the_user_says_where(ann):
    answer = execute(ann, "SELECT x -- error")
    assert answer["success"] is False and answer["state"] == "failed"
    assert answer["error"] == "line 1:8: Column 'x' cannot be resolved"
    assert answer["termination"] == {"type": "user", "code": "COLUMN_NOT_FOUND", "message": answer["error"], "position": 8}


@pytest.mark.parametrize("dialogue, kind, code", [
    ("resources", "limit", "EXCEEDED_MEMORY_LIMIT"), ("garbage", "platform", "BAD_ANSWER"),
    ("wide", "platform", "BAD_ANSWER"), ("bare", "platform", "BAD_ANSWER"), ("elsewhere", "platform", "BAD_ANSWER"),
    ("dies", "platform", "NO_ANSWER")])
def test_whose_fault_it_was(ann, dialogue, kind, code):
    answer = execute(ann, f"SELECT 1 -- {dialogue}")
    assert answer["success"] is False and answer["data"] is None
    assert (answer["termination"]["type"], answer["termination"]["code"]) == (kind, code), answer


def test_one_that_never_answers_ends_with_its_deadline(ann):
    answer = execute(ann, "SELECT 1 -- silent", timeout=1, wait=30)
    assert answer["state"] == "failed" and answer["state_detail"] == "timed_out"
    assert answer["termination"]["type"] == "timeout"


def test_limits_stop_it_there(ann, trino):
    answer = execute(ann, "SELECT * FROM big -- endless", row_limit=25)
    assert answer["success"] and answer["data"]["rowCount"] == 25 and answer["data"]["truncated"] is True
    number = len(trino.statements) - 1
    wait_for(lambda: number in trino.deleted, "the statement to be stopped at Trino")


def test_cancel_is_over_when_trino_says_so(ann, trino):
    begun = execute(ann, "SELECT 2 -- endless", wait=0, expect=202, row_limit=1000000)
    path = f"/statements/{begun['statement_id']}"
    wait_for(lambda: ann.get(path)["state"] == "running" and len(trino.seen) > 3, "it to run")
    stopping = ann.post(f"{path}/cancel", expect=(200, 202))
    assert stopping["state"] in ("cancelling", "cancelled")
    wait_for(lambda: ann.get(path)["state"] == "cancelled", "the end")
    assert any(verb == "DELETE" for verb, *_ in trino.seen)


def test_one_that_does_not_confirm_stays_cancelling_and_is_lost(ann):
    begun = execute(ann, "SELECT 3 -- stuck", wait=0, expect=202)
    path = f"/statements/{begun['statement_id']}"
    wait_for(lambda: ann.get(path)["engine_id"] or ann.get(path)["state"] == "running", "it to run")
    assert ann.post(f"{path}/cancel", expect=202)["state"] == "cancelling"
    wait_for(lambda: ann.get(path)["state_detail"], "word that nobody confirms", patience=8)
    assert ann.get(path)["state"] == "cancelling"
    wait_for(lambda: ann.get(path)["state"] == "lost", "the end", patience=20)
    assert ann.get(path)["termination"]["type"] == "lost"


#  ---------------------------------------------------------------- TLS, a password, and our own death

PASSWORD_THERE = "pass:word of ours"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    place = tmp_path_factory.mktemp("trino")
    key, certificate = place / "key.pem", place / "certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=trino",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
                   check=True, capture_output=True)
    shared(place)
    return certificate, key


@pytest.fixture(scope="module")
def secured(certificate):
    server = Trino(certificate, "Basic " + base64.b64encode(f"analyst:{PASSWORD_THERE}".encode()).decode())
    yield server
    server.stop()


@pytest.fixture(scope="module")
def walled(secured, certificate):
    stack = Stack(f"--set=platform.trino-url={secured.base}", "--set=platform.trino-user=analyst",
                  f"--set=platform.trino-ca={certificate[0]}", "--set=platform.trino-patience=1",
                  environment={"TRINO_PASSWORD": PASSWORD_THERE}).wait()
    yield stack
    secured.release.set()
    assert stack.stop() == 0


tom = person("tom", on="walled")


def test_over_tls_with_a_password(tom, secured):
    answer = execute(tom, "SELECT n, word FROM t -- rows")
    assert answer["success"] and answer["data"]["rowCount"] == 3, answer
    assert all(headers["Authorization"] == secured.basic for _, _, headers, _ in secured.seen)
    assert PASSWORD_THERE not in str(tom.get(f"/statements/{answer['statement_id']}"))


def test_a_password_that_is_refused_is_told_without_it(tom, secured):
    basic, secured.basic = secured.basic, "Basic other"
    answer = execute(tom, "SELECT 1 -- rows")
    secured.basic = basic
    assert (answer["termination"]["type"], answer["error"]) == ("platform", "trino answered 401")


def test_killed_while_trino_works_it_is_lost_and_says_so(tom, walled):
    """What runs at Trino is not taken up again: whoever knows of the statement hears that nobody waits for it, and
    what Trino calls it."""
    begun = execute(tom, "SELECT 4 -- endless", wait=0, expect=202, row_limit=1000000)
    path = f"/statements/{begun['statement_id']}"
    wait_for(lambda: tom.get(path)["engine_id"], "Trino's own id", 20)
    walled.wait_restarted("platform", walled.kill("platform"))

    def lost():
        answer = tom.request("GET", path)
        return answer.status_code == 200 and answer.json()["state"] == "lost" and answer.json()
    row = wait_for(lost, "it to be lost", 20)
    assert row["termination"] == {"type": "lost", "code": "RESTARTED", "message": "the process that ran it is gone"}
    assert row["engine_id"] == "20260101_000000_00001_abcde" and row["success"] is False
    wait_for(lambda: tom.request("POST", "/queries/execute", {"query": "SELECT n -- rows", "engine": "trino"})
             .status_code == 200, "the service to be back")
