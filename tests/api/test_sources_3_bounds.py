"""What statements on data sources may use up, and what they may not."""

import os
import pathlib

import pytest

from client import person
from source_world import world  # noqa: F401
from stack import wait_for

MIB = 1 << 20
eve = person("eve", on="world")


@pytest.fixture(scope="module")
def sources(world, eve):
    return {kind: world.make(eve, kind)["id"] for kind in ("postgresql", "mariadb", "sqlite")}


@pytest.fixture(autouse=True)
def nothing_falls_over(world):
    pid = world.stack.pid("platform")
    yield
    assert world.stack.pid("platform") == pid


def run(user, source, query, **more):
    return user.post("/queries/execute", {"query": query, "source_id": source, **more})


def peak(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))


def children(pid):
    return [child for there in pathlib.Path(f"/proc/{pid}/task").glob("*/children") for child in there.read_text().split()]


@pytest.mark.parametrize("query, why", [
    ("SELECT zeroblob (1e9)", "a value is larger than 8 MiB"),
    ("SELECT randomblob (1000000000)", "a value is larger than 8 MiB"),
    ("SELECT hex (randomblob (5000000))", "a value is larger than 8 MiB"),
    ("SELECT " + ", ".join(["zeroblob (1000000)"] * 1500), "the statement needs more than 64 MiB of memory"),
    ("SELECT " + ", ".join(["zeroblob (1000000)"] * 20), "a row is larger than 8 MiB"),
    ("WITH RECURSIVE n (b) AS (SELECT randomblob (900000) UNION ALL SELECT randomblob (900000) FROM n LIMIT 1000)"
     " SELECT b FROM n ORDER BY b", "the statement needs more than 64 MiB of memory")],
    ids=["zeros", "random", "hex", "many", "row", "sorted"])
def test_what_sqlite_uses_up_is_its_own(eve, sources, query, why):
    body = run(eve, sources["sqlite"], query)
    assert (body["success"], body["error"]) == (False, why)
    assert body["termination"]["type"] == "limit"
    assert run(eve, sources["sqlite"], "SELECT 1 AS n")["data"]["rows"] == [{"n": 1}]


def test_what_cannot_be_interrupted_is_killed(eve, sources, world):
    endless = "SELECT trim (printf ('%.*c', 4000000, 'a'), printf ('%.*c', 500000, 'b') || 'a')"
    begun = eve.post("/queries/execute", {"query": endless, "source_id": sources["sqlite"], "wait": 0}, expect=202)
    path = f"/statements/{begun['statement_id']}"
    platform = world.stack.pid("platform")
    wait_for(lambda: eve.get(path)["state"] == "running" and children(platform), "the statement to run")
    eve.post(path + "/cancel", expect=(200, 202))
    wait_for(lambda: eve.get(path)["state"] == "cancelled", "the end")
    assert run(eve, sources["sqlite"], endless, timeout=1)["termination"]["type"] == "timeout"
    wait_for(lambda: not children(platform), "the processes to be gone")


@pytest.mark.parametrize("kind, query", [
    ("mariadb", "SELECT repeat ('x', 15000000) AS x"), ("mariadb", "SELECT repeat ('x', 15000000) AS x, $1 AS y"),
    ("postgresql", "SELECT repeat ('x', 200000000) AS x"), ("postgresql", "SELECT repeat ('x', 200000000) AS x, $1 AS y")],
    ids=["mariadb", "mariadb prepared", "postgresql", "postgresql prepared"])
def test_rows_that_are_too_large_are_not_taken_in(eve, sources, world, kind, query):
    body = run(eve, sources[kind], query, parameters=["y"] if "$1" in query else [])
    assert (body["success"], body["error"]) == (False, "a row is larger than 8 MiB"), body
    assert body["termination"]["type"] == "limit"
    assert run(eve, sources[kind], "SELECT 1 AS n")["success"]
    if not os.environ.get("SANITIZED"):
        assert peak(world.stack.pid("platform")) < 160 * MIB


@pytest.mark.parametrize("kind", ["mariadb", "postgresql"])
def test_large_rows_end_at_the_limit_of_bytes(eve, sources, kind):
    rows = "FROM generate_series (1, 50)" if kind == "postgresql" else "FROM seq_1_to_50"
    body = run(eve, sources[kind], f"SELECT repeat ('x', 3000000) AS x {rows}")
    assert body["success"] and body["data"]["truncated"] is True
    assert body["data"]["rowCount"] == 2, body["data"]["rowCount"]


def test_many_columns_of_one_name_are_told_apart(eve, sources):
    body = run(eve, sources["sqlite"], "SELECT " + ", ".join(["1 AS n"] * 1500))
    names = [column["name"] for column in body["data"]["columns"]]
    assert names == ["n"] + [f"n_{number}" for number in range(2, 1501)]
    body = run(eve, sources["sqlite"], "SELECT 1 AS a, 2 AS a_7, 3 AS a, 4 AS a, 5 AS A")
    assert body["data"]["rows"] == [{"a": 1, "a_7": 2, "a_8": 3, "a_9": 4, "A": 5}]


def test_previews_show_the_beginning_of_what_is_long(world, eve, sources):
    world.maria.ask("CREATE TABLE shop.long (t LONGTEXT, j JSON, b LONGBLOB);"
                    "INSERT INTO shop.long VALUES (repeat('é', 20000), json_array(repeat('x', 20000)), repeat('x', 20000))")
    eve.post("/data-catalog/refresh", {"source_id": sources["mariadb"]}, expect=202)
    path = "/data-catalog/databases/shop/tables/long/preview"
    wait_for(lambda: eve.request("GET", path).status_code == 200, "the table to be found")
    body = eve.get(path)
    row, = body["rows"]
    assert body["truncated"] is True and row["t"] == "é" * 8192
    assert row["j"] == '["' + "x" * 16382 and row["b"] == "\\x" + "78" * 16384
    world.maria.ask("DROP TABLE shop.long")


@pytest.mark.parametrize("rows, words", [
    ([[None] * 7], "does not say what it holds"), ([["d"]], "does not say what it holds"), ([[None]], "does not say what it holds"),
    ([["d", "t", "table", "1", "c", "int", "t"], ["d", "u", "table", "1", "c", "int", "t"], ["d", "t", "table", "1", "d", "int", "t"]],
     "t twice"),
    ([["d", "t", "a\",\"x", "much", "c", "int", "t"]], None)], ids=["NULLs", "one column", "one NULL", "twice", "no type"])
def test_a_server_that_lies_about_what_it_holds(world, eve, rows, words):
    world.liar.rows = rows
    source = world.make(eve, "postgresql", port=world.liar.port)["id"]
    live = eve.another_live()
    channel = live.subscribe("catalog")
    eve.post("/data-catalog/refresh", {"source_id": source}, expect=202)
    end = channel.until(lambda frame: frame["data"]["id"] == source and frame["data"]["state"] != "running", 60.0)[-1]["data"]
    live.close()
    if words:
        assert end["state"] == "failed" and words in end["error"], end
    else:
        assert end["state"] == "succeeded", end
        assert eve.get(f"/data-catalog/databases/d/tables?source_id={source}")[0]["table_type"] == "table"
        world.liar.rows = [["a"], ["a", "b" * 100]]
        eve.get(f"/data-catalog/databases/d/tables/t/preview?source_id={source}", expect=502)
