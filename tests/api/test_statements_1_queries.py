"""Statements: what POST /queries/execute answers, what is kept of it, and what users may not do."""

import pytest

FINAL = {"succeeded", "failed", "cancelled", "aborted", "lost", "expired"}


def execute(user, query, expect=200, **body):
    return user.post("/queries/execute", {"query": query, **body}, expect=expect)


def test_a_select_is_answered_with_its_rows(ann):
    answer = execute(ann, "SELECT 1 AS one, 'x' AS text, NULL AS nothing, true AS yes, 1.5 AS half")
    assert answer["success"] is True and answer["state"] == "succeeded" and answer["engine"] == "postgresql"
    assert answer["data"]["rows"] == [{"one": 1, "text": "x", "nothing": None, "yes": True, "half": 1.5}]
    assert answer["data"]["rowCount"] == 1
    assert [column["name"] for column in answer["data"]["columns"]] == ["one", "text", "nothing", "yes", "half"]
    assert answer["executionTime"] >= 0 and answer["timestamp"].endswith("Z")
    assert answer["live"]["ch"].endswith(f"/statements/{answer['statement_id']}")


@pytest.mark.parametrize("name", ["query", "query_text", "sql"])
def test_the_text_has_three_names(ann, name):
    assert ann.post("/queries/execute", {name: "SELECT 7 AS n;"})["data"]["rows"] == [{"n": 7}]
