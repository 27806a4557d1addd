"""Statements at a real Trino: its own classes from Maven Central, a release that runs on Java 17."""

import glob
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "api"))

from client import own_system  # noqa: E402
from stack import wait_for  # noqa: E402

PLACE = pathlib.Path(os.environ.get("BUSBAR_BUILD", HERE.parents[1] / "build")).resolve() / "engines" / "trino"
RESOLVE = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:build-classpath"
BIG = "SELECT count(*) FROM tpch.sf1000.lineitem a CROSS JOIN tpch.sf1000.lineitem b"


def java():
    """Trino 435 wants Java 17 or a little later."""
    homes = glob.glob("/usr/lib/jvm/java-17-*/bin/java")
    if not homes:
        pytest.skip("there is no Java 17")
    return homes[0]


def classpath():
    """What mvn has fetched, once."""
    path = PLACE / "classpath"
    if not path.exists():
        PLACE.mkdir(parents=True, exist_ok=True)
        try:
            done = subprocess.run(["mvn", "-q", "-B", "-f", HERE / "trino" / "pom.xml", RESOLVE,
                                   f"-Dmdep.outputFile={path}", f"-Dmaven.repo.local={PLACE / 'm2'}"],
                                  capture_output=True, text=True, check=False,
                                  timeout=float(os.environ.get("TRINO_PATIENCE", "1800")))
        except FileNotFoundError:
            pytest.skip("there is no mvn to fetch Trino with")
        except subprocess.TimeoutExpired:
            pytest.skip("Maven Central is too slow")
        if done.returncode:
            why = [line for line in done.stdout.splitlines() if "ERROR" in line]
            pytest.skip(f"Maven Central does not give it: {''.join(why[:1])[:300]}")
    return path.read_text()


@pytest.fixture(scope="module")
def trino():
    command = [java(), "-Xmx1g", "-cp", classpath(), str(HERE / "trino" / "Server.java")]
    with open(PLACE / "server.log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    for line in server.stdout:
        if line.startswith("ready "):
            break
    else:
        pytest.fail(f"Trino did not start: {PLACE / 'server.log'} says why")
    yield line.split()[1]
    server.kill()
    server.wait()


@pytest.fixture(scope="module")
def ann(trino):
    with own_system(f"--set=platform.trino-url={trino}",
                    f"--set=platform.source-allow={trino.rsplit(chr(47), 1)[1]}", "--set=platform.trino-catalog=tpch",
                    "--set=platform.trino-schema=tiny") as (_, user):
        yield user


def execute(user, query, **body):
    return user.post("/queries/execute?wait=60", {"query": query, "engine": "trino", **body}, timeout=90)


def test_rows(ann):
    answer = execute(ann, "SELECT nationkey, name FROM nation ORDER BY nationkey")
    assert answer["success"], answer
    assert answer["data"]["rowCount"] == 25 and answer["data"]["rows"][0] == {"nationkey": 0, "name": "ALGERIA"}


def test_all_pages_of_a_large_result(ann):
    answer = execute(ann, "SELECT orderkey FROM orders", row_limit=20000)
    assert answer["success"] and answer["data"]["rowCount"] == 15000 and not answer["data"]["truncated"]


def test_types(ann):
    row = execute(ann, "SELECT 9007199254740993 AS a, DECIMAL '1.50' AS b, DATE '2026-01-31' AS c, ARRAY[1, 2] AS d, "
                       "nan() AS e, CAST(NULL AS varchar) AS f, 'ü''' AS g")["data"]["rows"][0]
    assert row == {"a": 9007199254740993, "b": "1.50", "c": "2026-01-31", "d": [1, 2], "e": "NaN", "f": None, "g": "ü'"}


def test_parameters(ann):
    answer = execute(ann, "SELECT name FROM nation WHERE regionkey = :region AND name < :name ORDER BY 1",
                     parameters={"region": 3, "name": "O'"})
    assert [row["name"] for row in answer["data"]["rows"]] == ["FRANCE", "GERMANY"], answer


def test_session_goes_on(ann):
    assert execute(ann, "USE memory.default")["success"]
    assert execute(ann, "CREATE TABLE t AS SELECT 1 AS n")["data"]["rowCount"] == 1
    assert execute(ann, "SELECT n FROM t")["data"]["rows"] == [{"n": 1}]
    assert execute(ann, "USE tpch.tiny")["success"]


def test_an_error_says_where(ann):
    answer = execute(ann, "SELECT nothing FROM nation")
    assert answer["success"] is False
    assert answer["termination"]["code"] == "COLUMN_NOT_FOUND" and answer["termination"]["position"] == 8


def test_cancel(ann):
    begun = ann.post("/queries/execute?wait=0", {"query": BIG, "engine": "trino"}, expect=202)
    path = f"/statements/{begun['statement_id']}"
    wait_for(lambda: ann.get(path)["engine_id"], "it to run", patience=30)
    ann.post(f"{path}/cancel", expect=(200, 202))
    wait_for(lambda: ann.get(path)["state"] == "cancelled", "the end", patience=20)


def test_as_a_data_source(ann, trino):
    host, port = trino.rsplit("//", 1)[1].split(":")
    source = ann.post("/data-sources", {"name": "t", "type": "trino", "config": {
        "host": host, "port": int(port), "user": "ann", "database": "tpch"}}, expect=201)["id"]
    assert ann.post(f"/data-sources/{source}/test")["success"]
    answer = ann.post("/queries/execute?wait=60", {"query": "SELECT name, current_user AS who FROM tiny.region ORDER BY 1",
                                                   "source_id": source}, timeout=90)
    assert answer["success"] and answer["engine"] == "trino", answer
    assert answer["data"]["rows"][0] == {"name": "AFRICA", "who": "ann"} and answer["data"]["rowCount"] == 5


def refreshed(user, source):
    live = user.another_live()
    channel = live.subscribe("catalog")
    user.post("/data-catalog/refresh", {"source_id": source}, expect=202)
    end = channel.until(lambda frame: frame["data"]["id"] == source and frame["data"]["state"] != "running", 90.0)[-1]["data"]
    live.close()
    return end


def test_what_it_holds(ann, trino):
    host, port = trino.rsplit("//", 1)[1].split(":")
    config = {"host": host, "port": int(port), "user": "ann"}
    source = ann.post("/data-sources", {"name": "all", "type": "trino", "config": config}, expect=201)["id"]
    for query in ("CREATE SCHEMA memory.sales", "CREATE TABLE memory.sales.orders AS SELECT * FROM (VALUES "
                  "(BIGINT '1', CAST('tea' AS varchar(10)), DECIMAL '2.50', DOUBLE '0.5', ARRAY[1, 2], MAP(ARRAY['a'], ARRAY[1]), "
                  "TIMESTAMP '2026-01-02 03:04:05.678901 UTC', X'00ff'), (BIGINT '9007199254740993', NULL, NULL, nan(), NULL, "
                  "NULL, NULL, NULL)) AS t (id, name, price, ratio, marks, more, at, data)",
                  "CREATE VIEW memory.sales.cheap AS SELECT id FROM memory.sales.orders WHERE price < 10"):
        assert execute(ann, query)["success"], query
    end = refreshed(ann, source)
    assert end["state"] == "succeeded", end
    found = {row["name"]: row["tables"] for row in ann.get(f"/data-catalog/databases?source_id={source}")}
    assert found["tpch.tiny"] == 8 and found["memory.sales"] == 2 and not [name for name in found if "system" in name], found
    again = refreshed(ann, source)
    assert (again["added"], again["changed"], again["removed"]) == (0, 0, 0)
    path = f"/data-catalog/databases/{{}}/tables/{{}}/{{}}?source_id={source}"
    columns = ann.get(path.format("memory.sales", "orders", "schema"))
    assert [(row["column_name"], row["data_type"]) for row in columns] == [
        ("id", "bigint"), ("name", "varchar(10)"), ("price", "decimal(3,2)"), ("ratio", "double"), ("marks", "array(integer)"),
        ("more", "map(varchar(1), integer)"), ("at", "timestamp(6) with time zone"), ("data", "varbinary")]
    assert {row["is_nullable"] for row in ann.get(path.format("tpch.tiny", "nation", "schema"))} == {False}
    tables = ann.get(f"/data-catalog/databases/memory.sales/tables?source_id={source}")
    assert [(row["table_name"], row["table_type"]) for row in tables] == [("cheap", "view"), ("orders", "table")]
    rows = ann.get(path.format("memory.sales", "orders", "preview"))["rows"]
    assert sorted(rows, key=lambda row: row["id"])[0] == {
        "id": 1, "name": "tea", "price": "2.50", "ratio": 0.5, "marks": [1, 2], "more": {"a": 1},
        "at": "2026-01-02 03:04:05.678901 UTC", "data": "AP8="}
    large = ann.get(path.format("tpch.sf1", "lineitem", "preview") + "&limit=1000")
    assert (large["rowCount"], large["truncated"]) == (1000, True)
    counted = ann.post("/data-catalog/databases/memory.sales/tables/orders/statistics", {"source_id": source})
    assert counted["rows"] == 2 and counted["columns"][0] == {"column_name": "id", "nulls": 0, "distinct": 2, "min": "1",
                                                              "max": "9007199254740993"}
    assert {row["table_name"] for row in ann.get("/data-catalog/search?q=nationkey")} >= {"nation", "customer", "supplier"}
    assert execute(ann, "DROP VIEW memory.sales.cheap")["success"]
    assert refreshed(ann, source)["removed"] == 1
    one = ann.post("/data-sources", {"name": "one", "type": "trino", "config": {**config, "catalog": "memory"}}, expect=201)["id"]
    assert refreshed(ann, one)["state"] == "succeeded"
    assert {row["name"] for row in ann.get(f"/data-catalog/databases?source_id={one}")} == {"memory.default", "memory.sales"}
