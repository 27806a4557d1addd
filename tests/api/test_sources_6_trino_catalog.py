"""What a Trino holds, in the catalogue."""

import contextlib
import copy
import json
import urllib.parse

import pytest

from source_world import PASSWORD
from trino_dialogue import CATALOGS, ERROR, HEADS, page

HEAD = [{"name": name, "type": kind} for name, kind in HEADS["listing"]]
ORDER = ["lake.sales", "orders", "table", None, "id", "bigint", "YES"]


@pytest.fixture(scope="module")
def world(source_world):
    return source_world


@pytest.fixture
def ann(world):
    return world.sign_up("ann")


@pytest.fixture
def trino(world):
    """With what it holds at first, and no trouble."""
    server = world.trino
    server.catalogs, server.troubles = copy.deepcopy(CATALOGS), {}
    answers = dict(server.answers)
    yield server
    server.catalogs, server.troubles, server.answers = copy.deepcopy(CATALOGS), {}, answers


def make(world, user, **changes):
    return world.make(user, "trino", **{"port": world.trino.server_port, **changes})["id"]


def refreshed(user, source=None):
    """Refresh one source, and follow it live to its end: all of its events."""
    live = user.another_live()
    channel = live.subscribe("catalog")
    user.post("/data-catalog/refresh", {"source_id": source}, expect=202)
    frames = channel.until(lambda frame: frame["data"]["id"] == source and frame["data"]["state"] != "running", 60.0)
    live.close()
    return [frame["data"] for frame in frames if frame["data"]["id"] == source]


def known(user, source):
    """{database: {table: kind}}."""
    return {row["name"]: {table["table_name"]: table["table_type"] for table in user.get(
        f"/data-catalog/databases/{urllib.parse.quote(row['name'], safe='')}/tables?source_id={source}")}
            for row in user.get(f"/data-catalog/databases?source_id={source}")}


EVERYTHING = {"lake.raw": {"events": "table"}, "lake.sales": {"cheap": "view", "orders": "table"},
              "mart.default": {"nation": "table"}}


@contextlib.contextmanager
def said(server):
    """The statements that it hears meanwhile, and the numbers of those that were ended."""
    first = len(server.statements)
    heard, ended = [], []
    yield heard, ended
    heard += [statement.text for statement in server.statements[first:]]
    ended += [number - first for number in server.deleted if number >= first]


def test_all_catalogs_but_its_own_are_found(ann, world, trino):
    source = make(world, ann)
    with said(trino) as (heard, ended):
        events = refreshed(ann, source)
    assert events[-1]["state"] == "succeeded" and events[-1]["error"] is None, events
    assert (events[-1]["databases"], events[-1]["tables"], events[-1]["added"]) == (3, 4, 4)
    assert [(event["state"], event["databases"], event["added"]) for event in events] == [
        ("running", 0, 0), ("running", 1, 1), ("running", 2, 3), ("running", 3, 4), ("succeeded", 3, 4)]
    assert known(ann, source) == EVERYTHING
    assert heard[0] == "SHOW CATALOGS" and len(heard) == 3 and not ended, heard
    path = "/data-catalog/databases/{}/tables/{}/schema"
    columns = ann.get(path.format("lake.sales", "orders"))
    assert columns[2] == {"data_source_id": source, "database_name": "lake.sales", "table_name": "orders",
                          "column_name": "price", "data_type": "decimal(3,2)", "is_nullable": True, "column_order": 3}
    assert [row["column_order"] for row in columns] == list(range(1, 10))
    assert [row["is_nullable"] for row in ann.get(path.format("mart.default", "nation"))] == [False, False]
    assert next(row for row in ann.get("/data-catalog/databases") if row["data_source_id"] == source)["source_type"] == "trino"


def test_only_what_differs_is_written(ann, world, trino):
    source = make(world, ann)
    refreshed(ann, source)
    end = refreshed(ann, source)[-1]
    assert (end["state"], end["added"], end["changed"], end["removed"]) == ("succeeded", 0, 0, 0)
    del trino.catalogs["lake"]["raw"]["events"]
    trino.catalogs["lake"]["sales"]["more"] = ("table", [("x", "date", "YES")])
    trino.catalogs["mart"]["default"]["nation"][1].append(("comment", "varchar(152)", "YES"))
    end = refreshed(ann, source)[-1]
    assert (end["added"], end["changed"], end["removed"]) == (1, 1, 1)
    assert known(ann, source) == {"lake.sales": {"cheap": "view", "more": "table", "orders": "table"},
                                  "mart.default": {"nation": "table"}}
    del trino.catalogs["mart"]
    assert refreshed(ann, source)[-1]["removed"] == 1
    assert list(known(ann, source)) == ["lake.sales"]


def test_a_source_with_a_catalog_shows_that_one(ann, world, trino):
    source = make(world, ann, catalog="lake")
    with said(trino) as (heard, _):
        assert refreshed(ann, source)[-1]["state"] == "succeeded"
    assert len(heard) == 1 and '"lake".information_schema' in heard[0]
    assert list(known(ann, source)) == ["lake.raw", "lake.sales"]
    none = make(world, ann, catalog="none")
    assert refreshed(ann, none)[-1]["error"].endswith("Catalog 'none' does not exist")


def test_odd_names_are_quoted(ann, world, trino):
    trino.catalogs = {'the "lake"': {"a.b c": {'say "hi".é': ("table", [('x"y', "integer", "YES")])}}}
    select = 'SELECT {} FROM "the ""lake"""."a.b c"."say ""hi"".é"'
    trino.answers[select.format("*") + " LIMIT 3"] = ([('x"y', "integer")], [[7]])
    trino.answers[select.format('count(*),count("x""y"),count(DISTINCT "x""y"),CAST(min("x""y") AS VARCHAR),'
                                'CAST(max("x""y") AS VARCHAR)')] = ([(f"_col{n}", "bigint") for n in range(5)], [[1, 1, 1, "7", "7"]])
    source = make(world, ann)
    refreshed(ann, source)
    database, table = 'the "lake".a.b c', 'say "hi".é'
    assert known(ann, source) == {database: {table: "table"}}
    query = urllib.parse.urlencode({"database": database, "table": table})
    assert ann.get(f"/data-catalog/preview?{query}&limit=2")["rows"] == [{'x"y': 7}]
    quote = urllib.parse.quote
    counted = ann.post(f"/data-catalog/databases/{quote(database, safe='')}/tables/{quote(table, safe='')}/statistics", {})
    assert counted["columns"] == [{"column_name": 'x"y', "nulls": 0, "distinct": 1, "min": "7", "max": "7"}]


def test_rows_are_shown_and_columns_counted(ann, world, trino):
    source = make(world, ann)
    refreshed(ann, source)
    path = "/data-catalog/databases/lake.sales/tables/orders"
    body = ann.get(f"{path}/preview")
    assert body["columns"][2] == {"name": "price", "type": "decimal(3, 2)"} and body["truncated"] is False
    assert body["rows"] == [
        {"id": 1, "name": "tea", "price": "2.50", "paid": True, "ratio": 0.5, "marks": [1, 2], "more": {"a": 1},
         "at": "2026-01-02 03:04:05.678901 UTC", "data": "AP8="},
        {"id": 9007199254740993, "name": "Tee, süß", "price": None, "paid": None, "ratio": "NaN", "marks": None,
         "more": None, "at": None, "data": None}]
    counted = ann.post(f"{path}/statistics", {"source_id": source})
    assert counted["rows"] == 2
    columns = {row.pop("column_name"): row for row in counted["columns"]}
    assert columns["id"] == {"nulls": 0, "distinct": 2, "min": "1", "max": "9007199254740993"}
    assert columns["at"]["min"] == "2026-01-02 03:04:05.678901 UTC" and columns["price"]["nulls"] == 1
    assert columns["marks"] == {"nulls": 1, "distinct": None, "min": None, "max": None}
    kept = ann.get("/data-catalog/databases/lake.sales/tables")
    assert next(row for row in kept if row["table_name"] == "orders")["statistics"]["rows"] == 2


def test_names_are_searched(ann, world, trino):
    source = make(world, ann)
    refreshed(ann, source)
    found = ann.get("/data-catalog/search?q=nation")
    assert [(row["kind"], row["database_name"], row["table_name"], row["column_name"]) for row in found] == [
        ("table", "mart.default", "nation", None), ("column", "mart.default", "nation", "nationkey")]
    assert {row["data_source_id"] for row in found} == {source}


def test_a_statement_that_nobody_reads_on_is_ended(ann, world, trino):
    trino.answers['SELECT * FROM "lake"."raw"."events" LIMIT 1001'] = ([("n", "varchar")], [["x" * 16000]] * 1001)
    source = make(world, ann)
    refreshed(ann, source)
    with said(trino) as (heard, ended):
        body = ann.get("/data-catalog/databases/lake.raw/tables/events/preview?limit=1000")
    assert body["truncated"] is True and 100 < body["rowCount"] < 135
    assert len(heard) == 1 and ended == [0]


def test_a_statement_is_ended_when_time_is_over(ann, world, trino):
    trino.answers["SELECT 1"] = [page(0), page(1), "hang"]
    source = make(world, ann)
    with said(trino) as (_, ended):
        tried = ann.post(f"/data-sources/{source}/test")
    assert (tried["error"], tried["steps"][-1]["name"], ended) == ("took too long", "query", [0])
    trino.release.set()
    trino.release.clear()


def test_what_is_too_much_is_left_out(ann, world, trino):
    trino.catalogs = {"lake": {"many": {f"t{n:05}": ("table", [("n", "integer", "YES")]) for n in range(12000)}},
                      "mart": CATALOGS["mart"]}
    source = make(world, ann)
    with said(trino) as (heard, ended):
        end = refreshed(ann, source)[-1]
    assert (end["state"], end["tables"], end["truncated"]) == ("succeeded", 10000, True), end
    assert len(heard) == 2 and ended == [1]


BAD = "does not answer as Trino does"
TROUBLES = {
    "no JSON": ([b"<html>proxy</html>"], BAD), "no object": ([b"[1]"], BAD), "nothing": ([b""], BAD),
    "bytes": ([b"\xff\x00{"], BAD), "a status": ([500], "the server answers 500"),
    "an error": ([page(9, last=True, error={**ERROR, "message": "Error listing tables for catalog lake: Connection refused",
                                            "errorType": "EXTERNAL"})], "Error listing tables for catalog lake"),
    "an error without words": ([page(9, last=True, error={})], "the statement failed"),
    "other widths": ([page(9, columns=HEAD, data=[ORDER[:3]])], BAD), "rows that are none": ([page(9, columns=HEAD, data=[7])], BAD),
    "data that is none": ([page(9, columns=HEAD, data={"encoding": "json"})], BAD),
    "no names": ([page(9, columns=HEAD, data=[[None] * 7])], "does not say what it holds"),
    "a table twice": ([page(9, columns=HEAD, data=[["lake.raw", "zzz", "table", None, "x", "date", "YES"],
                                                   ["lake.raw", "events", "table", None, "n", "integer", "NO"]])], "events twice"),
    "a database twice": ([page(9, columns=HEAD, data=[["lake.zzz", "a", "table", None, "x", "date", "YES"],
                                                      ["lake.raw", "b", "table", None, "x", "date", "YES"]])], "twice"),
    "elsewhere": ([page(9, nextUri="http://127.0.0.1:1/v1/steal")], "leads elsewhere"),
    "another port": ([page(9, nextUri="http://127.0.0.1:1@127.0.0.1/v1/steal")], "leads elsewhere")}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_trino_that_answers_garbage_fails_and_what_was_known_stays(ann, world, trino, trouble):
    steps, words = TROUBLES[trouble]
    source = make(world, ann)
    assert refreshed(ann, source)[-1]["state"] == "succeeded"
    del trino.catalogs["lake"]["sales"], trino.catalogs["mart"]
    trino.catalogs["lake"]["raw"]["new"] = ("table", [("x", "date", "YES")])
    trino.troubles["lake"] = steps
    with said(trino) as (_, ended):
        end = refreshed(ann, source)[-1]
    assert len(ended) == (0 if trouble.startswith("an error") else 1)
    assert (end["state"], end["added"], end["removed"]) == ("failed", 0, 0), end
    assert end["error"].startswith("catalog lake: ") and words in end["error"], end
    assert known(ann, source) == EVERYTHING
    trino.troubles = {}
    assert refreshed(ann, source)[-1]["state"] == "succeeded"
    assert known(ann, source) == {"lake.raw": {"events": "table", "new": "table"}}


def test_one_catalog_that_fails_is_not_all(ann, world, trino):
    source = make(world, ann)
    refreshed(ann, source)
    trino.catalogs["zoo"] = {"new": {"apes": ("table", [("x", "date", "YES")])}}
    trino.catalogs["lake"]["sales"]["late"] = ("table", [("x", "date", "YES")])
    del trino.catalogs["mart"]["default"]["nation"]
    trino.catalogs["mart"]["default"]["region"] = ("table", [("x", "date", "YES")])
    trino.troubles["lake"] = TROUBLES["an error"][0]
    events = refreshed(ann, source)
    assert [event["state"] for event in events] == ["running"] * 3 + ["failed"]
    assert events[-1]["error"] == "catalog lake: Error listing tables for catalog lake: Connection refused"
    assert [events[-1][name] for name in ("databases", "tables", "added", "changed", "removed")] == [2, 2, 2, 0, 1]
    assert known(ann, source) == {**EVERYTHING, "mart.default": {"region": "table"}, "zoo.new": {"apes": "table"}}


def test_a_trino_that_dies_in_the_middle_fails_and_what_was_known_stays(ann, world, trino):
    source = make(world, ann)
    refreshed(ann, source)
    for where in ("SHOW CATALOGS", "mart"):
        trino.troubles = {where: ["die"]}
        end = refreshed(ann, source)[-1]
        assert end["state"] == "failed" and end["error"] and end["removed"] == 0, end
        assert known(ann, source) == EVERYTHING


def test_a_list_without_columns_is_none(ann, world, trino):
    source = make(world, ann)
    for answer in (([], [[]]), [page(0), page(1, data=[["lake"]])], ([("Catalog", "integer")], [[7]]), [page(0), b"<html>"]):
        trino.answers["SHOW CATALOGS"] = answer
        end = refreshed(ann, source)[-1]
        assert (end["state"], BAD in end["error"], known(ann, source)) == ("failed", True, {}), end


def test_moments_of_503_are_waited_for(ann, world, trino):
    source = make(world, ann)
    trino.troubles = {"lake": [503, 502, 429]}
    assert refreshed(ann, source)[-1]["state"] == "succeeded"
    assert known(ann, source) == EVERYTHING


def test_a_trino_behind_tls_and_a_password(ann, world):
    safe = make(world, ann, port=world.trino_tls.server_port, password=PASSWORD, sslmode="require")
    assert refreshed(ann, safe)[-1]["state"] == "succeeded"
    assert known(ann, safe) == EVERYTHING
    tried = ann.post(f"/data-sources/{safe}/test")
    assert tried["success"] and [step["name"] for step in tried["steps"]] == ["resolve", "connect", "tls", "auth", "query"]
    for changes, words in (({"password": "another"}, "answers 401"), ({"sslmode": "disable"}, "only sent with sslmode require")):
        config = {"port": world.trino_tls.server_port, "password": PASSWORD, "sslmode": "require", **changes}
        end = refreshed(ann, make(world, ann, **config))[-1]
        assert end["state"] == "failed" and words in end["error"] and PASSWORD not in json.dumps(end), end


def test_only_what_the_operator_allows_is_reached(ann, world):
    end = refreshed(ann, make(world, ann, port=1))[-1]
    assert end["state"] == "failed" and "not allowed" in end["error"], end


def test_the_catalogue_is_ones_own(ann, world, trino):
    source, bob = make(world, ann), world.sign_up("bob")
    refreshed(ann, source)
    bob.post("/data-catalog/refresh", {"source_id": source}, expect=404)
    for path in ("", f"/lake.sales/tables?source_id={source}", f"/lake.sales/tables/orders/schema?source_id={source}",
                 f"/lake.sales/tables/orders/preview?source_id={source}", "/lake.sales/tables", "/lake.sales/tables/orders/preview"):
        if path:
            bob.get(f"/data-catalog/databases{path}", expect=404)
    with said(trino) as (heard, _):
        bob.post("/data-catalog/databases/lake.sales/tables/orders/statistics", {}, expect=404)
    assert not heard and bob.get("/data-catalog/search?q=orders") == []
    assert all(row["data_source_id"] is None for row in bob.get("/data-catalog/databases"))
    own = make(world, bob, catalog="mart")
    refreshed(bob, own)
    assert known(bob, own) == {"mart.default": EVERYTHING["mart.default"]}
    assert known(ann, source) == EVERYTHING
