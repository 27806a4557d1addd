"""Statements on data sources, and the catalogue of what is in them."""

import urllib.parse

import pytest

from client import person
from source_world import world  # noqa: F401
from stack import wait_for

NOWHERE = "5c1d7c0e-3c1f-4c2b-9d0a-0e6f6b1d2a77"
ann, bob = person("ann", on="world"), person("bob", on="world")


@pytest.fixture(scope="module")
def pg(world, ann):
    return world.make(ann, "postgresql")["id"]


@pytest.fixture(scope="module")
def maria(world, ann):
    return world.make(ann, "mariadb")["id"]


@pytest.fixture(scope="module")
def sqlite(world, ann):
    return world.make(ann, "sqlite")["id"]


def run(user, source, query, expect=200, **more):
    return user.post("/queries/execute", {"query": query, "source_id": source, **more}, expect=expect)


# ---- statements

def test_postgresql_answers_rows(ann, pg):
    body = run(ann, pg, "SELECT id, name, price, tags, at FROM shop.items ORDER BY id LIMIT 2")
    assert body["success"] and body["engine"] == "postgresql", body
    assert body["data"]["rows"][0] == {"id": 1, "name": "item 1", "price": "1.5", "tags": {"n": 1},
                                       "at": "2026-01-02 03:04:05+00"}
    assert body["data"]["rowCount"] == 2


def test_mariadb_answers_rows(ann, maria):
    body = run(ann, maria, "SELECT * FROM items ORDER BY id")
    assert body["success"] and body["engine"] == "mariadb", body
    assert body["data"]["rows"] == [
        {"id": 1, "name": "tea", "price": "2.50", "at": "2026-01-02 03:04:05", "data": "\\x00ff",
         "big": 18446744073709551615}, {name: 2 if name == "id" else None
                                        for name in ("id", "name", "price", "at", "data", "big")}]


def test_sqlite_answers_rows(ann, sqlite):
    body = run(ann, sqlite, "SELECT * FROM items ORDER BY id")
    assert body["success"] and body["engine"] == "sqlite", body
    assert body["data"]["rows"] == [{"id": 1, "name": "tea", "price": 2.5, "data": "\\x00ff"},
                                    {"id": 2, "name": "cake", "price": None, "data": None}]


@pytest.mark.parametrize("kind", ["pg", "maria", "sqlite"])
def test_parameters_are_bound(ann, kind, request):
    source = request.getfixturevalue(kind)
    table = "shop.items" if kind == "pg" else "items"
    evil = "tea' OR '1'='1"
    body = run(ann, source, f"SELECT count(*) AS n FROM {table} WHERE name = $1 OR (id = $2 AND name <> $1)",
               parameters=[evil, 1])
    assert body["success"] and body["data"]["rows"] == [{"n": 1}], body
    assert run(ann, source, f"SELECT id FROM {table} WHERE name = $1", parameters=[None])["data"]["rows"] == []


@pytest.mark.parametrize("kind", ["pg", "maria", "sqlite"])
def test_only_one_statement_at_a_time(ann, kind, request):
    body = run(ann, request.getfixturevalue(kind), "SELECT 1; SELECT 2")
    assert body["success"] is False and body["error"], body


@pytest.mark.parametrize("kind", ["pg", "maria", "sqlite"])
def test_mistakes_are_the_users_own(ann, kind, request):
    body = run(ann, request.getfixturevalue(kind), "SELECT * FROM no_such_table")
    assert body["success"] is False and "no_such_table" in str(body["error"]), body


def test_rows_can_be_changed_where_the_login_may(ann, pg, maria):
    for source, table in ((pg, "shop.made"), (maria, "made")):
        assert run(ann, source, f"CREATE TABLE {table} (n int)")["success"]
        body = run(ann, source, f"INSERT INTO {table} VALUES (1), (2), (3)")
        assert body["success"] and body["data"]["rowCount"] == 3, body
        assert run(ann, source, f"SELECT sum(n) AS s FROM {table}")["data"]["rows"][0]["s"] in (6, "6")
        assert run(ann, source, f"DROP TABLE {table}")["success"]


@pytest.mark.parametrize("query", [
    "ATTACH DATABASE '/etc/passwd' AS x", "PRAGMA journal_mode = DELETE", "INSERT INTO items VALUES (9, 'x', 1, NULL)",
    "SELECT load_extension ('x')", "CREATE TABLE t (a)", "VACUUM INTO '/tmp/copy.db'", "DROP TABLE items"])
def test_sqlite_is_only_read(ann, sqlite, query):
    assert run(ann, sqlite, query)["success"] is False
    assert run(ann, sqlite, "SELECT count(*) AS n FROM items")["data"]["rows"] == [{"n": 2}]


@pytest.mark.parametrize("kind, query, left", [
    ("pg", "SELECT pg_sleep (60)", "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep (60%' AND state = 'active'"),
    ("maria", "SELECT SLEEP(60)", "SELECT count(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT SLEEP(60%'"),
    ("sqlite", "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n", None)])
def test_cancel_reaches_the_source(ann, world, kind, query, left, request):
    begun = run(ann, request.getfixturevalue(kind), query, expect=202, wait=0)
    path = f"/statements/{begun['statement_id']}"
    wait_for(lambda: ann.get(path)["state"] == "running", "the statement to run")

    def running():
        if kind == "pg":
            with world.pg.connect() as db, db.cursor() as cursor:
                cursor.execute(left)
                return cursor.fetchone()[0]
        return int(world.maria.rows(left)[0][0])

    if left:
        wait_for(running, "the source to be at work")
    ann.post(path + "/cancel", expect=(200, 202))
    wait_for(lambda: ann.get(path)["state"] == "cancelled", "the end")
    if left:
        wait_for(lambda: not running(), "the source to be at rest")


@pytest.mark.parametrize("kind, query", [("pg", "SELECT pg_sleep (60)"), ("maria", "SELECT * FROM items WHERE SLEEP(60)")])
def test_a_deadline_is_kept(ann, kind, query, request):
    body = run(ann, request.getfixturevalue(kind), query, timeout=1)
    assert body["success"] is False and body.get("state", "failed") == "failed"


def test_many_rows_stop_at_the_limit(ann, pg):
    body = run(ann, pg, "SELECT generate_series (1, 1000000000) AS n, repeat ('x', 1000) AS x", row_limit=5000)
    assert body["success"] and body["data"]["rowCount"] == 5000 and body["data"]["truncated"] is True


def test_others_have_no_part_in_it(bob, world, pg):
    for source in (pg, NOWHERE):
        assert "source_id" in run(bob, source, "SELECT 1", expect=404)["details"]
    http = world.make(bob, "http")["id"]
    assert "source_id" in run(bob, http, "SELECT 1", expect=409)["details"]


# ---- the catalogue

def ends_of(channel, waits):
    """The last event of each of these refreshes."""
    ends = {}
    while waits - set(ends):
        data = channel.next(60.0)["data"]
        if data["state"] != "running":
            ends[data["id"]] = data
    return ends


def refreshed(user, source=None):
    """Refresh, and follow it live to its end."""
    live = user.another_live()
    channel = live.subscribe("catalog")
    begun = user.post("/data-catalog/refresh", {"source_id": source} if source else {}, expect=202)
    ends = ends_of(channel, {row["id"] for row in begun["refreshes"]})
    live.close()
    return ends


def schema(user, database, table, source=None, expect=200):
    tail = f"?source_id={source}" if source else ""
    return user.get(f"/data-catalog/databases/{database}/tables/{table}/schema{tail}", expect=expect)


def test_a_refresh_finds_what_is_there(world):
    user = world.sign_up("finder")
    sources = {kind: world.make(user, kind)["id"] for kind in ("postgresql", "mariadb", "sqlite", "http", "s3")}
    sources["trino"] = world.make(user, "trino", port=world.trino.server_port)["id"]
    ends = refreshed(user)
    assert {ends[sources[kind]]["state"] for kind in sources} == {"succeeded"}, ends
    assert (ends[sources["postgresql"]]["databases"], ends[sources["postgresql"]]["tables"]) == (1, 2)
    found = {(row["database_name"], row["source_type"]): row["tables"] for row in user.get("/data-catalog/databases")}
    assert found == {("shop", "postgresql"): 2, ("shop", "mariadb"): 2, ("main", "sqlite"): 2, ("http", "http"): 1,
                     ("lake", "s3"): 2, ("lake.raw", "trino"): 1, ("lake.sales", "trino"): 2, ("mart.default", "trino"): 1}
    tables = user.get("/data-catalog/databases/shop/tables")
    assert [(row["table_name"], row["table_type"]) for row in tables if row["data_source_id"] == sources["postgresql"]] == \
        [("cheap", "view"), ("items", "table")]
    columns = schema(user, "shop", "items", sources["postgresql"])
    assert columns[0] == {"data_source_id": sources["postgresql"], "database_name": "shop", "table_name": "items",
                          "column_name": "id", "data_type": "integer", "is_nullable": False, "column_order": 1}
    assert [(row["column_name"], row["data_type"]) for row in columns] == [
        ("id", "integer"), ("name", "text"), ("price", "numeric"), ("tags", "jsonb"), ("at", "timestamp with time zone")]
    assert [row["data_type"] for row in schema(user, "shop", "items", sources["mariadb"])][:3] == \
        ["int(11)", "varchar(40)", "decimal(10,2)"]
    assert [row["column_name"] for row in schema(user, "http", "people.json")] == ["id", "name", "tags"]
    assert "source_id" in schema(user, "shop", "items", expect=409)["details"]
    schema(user, "shop", "none", expect=404)
    user.get("/data-catalog/databases/none/tables", expect=404)
    user.delete(f"/data-sources/{sources['mariadb']}")
    assert len(schema(user, "shop", "items")) == 5


def test_only_what_differs_is_written(ann, world, maria):
    world.maria.ask("CREATE DATABASE moving; GRANT ALL ON moving.* TO 'reader'@'%'; CREATE TABLE moving.a (x INT); CREATE TABLE moving.b (x INT)")
    refreshed(ann, maria)
    again = refreshed(ann, maria)[maria]
    assert (again["added"], again["changed"], again["removed"]) == (0, 0, 0)
    world.maria.ask("DROP TABLE moving.a; ALTER TABLE moving.b ADD COLUMN y TEXT; CREATE TABLE moving.c (z INT)")
    third = refreshed(ann, maria)[maria]
    assert (third["added"], third["changed"], third["removed"]) == (1, 1, 1)
    assert [row["table_name"] for row in ann.get("/data-catalog/databases/moving/tables")] == ["b", "c"]
    world.maria.ask("DROP DATABASE moving")
    assert refreshed(ann, maria)[maria]["removed"] == 2
    ann.get("/data-catalog/databases/moving/tables", expect=404)


def test_names_that_differ_by_case_alone_are_two(ann, world, maria):
    world.maria.ask("CREATE DATABASE twins; CREATE DATABASE Twins; GRANT ALL ON twins.* TO 'reader'@'%'; GRANT ALL ON Twins.* TO 'reader'@'%';"
                    "CREATE TABLE twins.a (x INT, y TEXT); CREATE TABLE twins.A (z DATE, u INT); CREATE TABLE Twins.a (v INT)")
    end = refreshed(ann, maria)[maria]
    world.maria.ask("DROP DATABASE twins; DROP DATABASE Twins")
    assert end["state"] == "succeeded", end
    assert {(database, table): [row["column_name"] for row in schema(ann, database, table, maria)]
            for database, table in (("twins", "a"), ("twins", "A"), ("Twins", "a"))} == {
                ("twins", "a"): ["x", "y"], ("twins", "A"): ["z", "u"], ("Twins", "a"): ["v"]}
    refreshed(ann, maria)


def test_a_source_that_is_gone_says_why(ann, world):
    lost = world.make(ann, "postgresql", "lost", port=world.closed)["id"]
    end = refreshed(ann, lost)[lost]
    assert end["state"] == "failed" and "could not connect" in end["error"]
    assert "source_id" in ann.post("/data-catalog/refresh", {"source_id": NOWHERE}, expect=404)["details"]


def test_a_refresh_that_was_killed_is_lost(ann, world):
    mute = world.make(ann, "postgresql", "mute", port=world.mute.port)["id"]
    live = ann.another_live()
    channel = live.subscribe("catalog")
    ann.post("/data-catalog/refresh", {"source_id": mute}, expect=202)
    old = world.stack.kill("platform")
    world.stack.wait_restarted("platform", old)
    lost = channel.until(lambda frame: frame["data"]["id"] == mute and frame["data"]["state"] != "running", 60.0)[-1]["data"]
    assert lost["state"] == "lost" and lost["finished_at"]
    live.close()
    ann.delete(f"/data-sources/{mute}")


def test_rows_are_shown(ann, pg, world):
    refreshed(ann, pg)
    body = ann.get(f"/data-catalog/databases/shop/tables/items/preview?limit=3&source_id={pg}")
    assert (body["rowCount"], body["truncated"], body["rows"][2]["name"]) == (3, True, "item 3")
    assert body["columns"][0] == {"name": "id", "type": "integer"}
    user = world.sign_up("looker")
    http, s3 = world.make(user, "http")["id"], world.make(user, "s3")["id"]
    refreshed(user)
    assert user.get(f"/data-catalog/databases/http/tables/people.json/preview?source_id={http}")["rows"] == [
        {"id": 1, "name": "Ann", "tags": None}, {"id": 2.5, "name": None, "tags": ["a"]}]
    assert user.get(f"/data-catalog/databases/lake/tables/people.csv/preview?source_id={s3}")["rows"] == [
        {"id": "1", "name": "Ann, the first", "note": 'said "hi"'}, {"id": "2", "name": "Bob", "note": None}]
    assert user.get("/data-catalog/databases/lake/tables/a%20%26%20b.json/preview")["rows"] == [{"x": 1}]


@pytest.mark.parametrize("kind, database, rows, distinct", [("pg", "shop", 1000, 1000), ("maria", "shop", 2, 1),
                                                            ("sqlite", "main", 2, 2)])
def test_columns_are_counted(ann, kind, database, rows, distinct, request):
    source = request.getfixturevalue(kind)
    refreshed(ann, source)
    body = ann.post(f"/data-catalog/databases/{database}/tables/items/statistics", {"source_id": source})
    assert body["rows"] == rows
    columns = {row["column_name"]: row for row in body["columns"]}
    assert columns["id"] == {"column_name": "id", "nulls": 0, "distinct": rows, "min": "1", "max": str(rows)}
    assert columns["name"]["distinct"] == distinct
    kept = ann.get(f"/data-catalog/databases/{database}/tables?source_id={source}")
    assert next(row for row in kept if row["table_name"] == "items")["statistics"] == body


def test_names_are_searched(ann, pg):
    refreshed(ann, pg)
    found = ann.get("/data-catalog/search?q=ITEM")
    assert found[0]["kind"] == "table" and found[0]["table_name"] == "items"
    assert any(row["kind"] == "column" and row["column_name"] == "tags" for row in ann.get("/data-catalog/search?q=tag"))
    assert ann.get("/data-catalog/search?q=%25") == [] and ann.get("/data-catalog/search?q=_____") == []
    assert "q" in ann.get("/data-catalog/search", expect=400)["details"]


def test_own_tables_and_what_they_came_from(world):
    user = world.sign_up("maker")
    for query in ("CREATE TABLE raw (id int, name text)", "CREATE TABLE clean (id int)", "INSERT INTO raw VALUES (1, 'a')",
                  "INSERT INTO clean SELECT id FROM raw WHERE id > 0", "SELECT count(*) FROM clean"):
        assert user.post("/queries/execute", {"query": query})["success"], query
    database = wait_for(lambda: next((row["database_name"] for row in user.get("/data-catalog/databases")
                                      if row["data_source_id"] is None and row["tables"] == 2), None), "own tables")
    assert [row["column_name"] for row in schema(user, database, "raw")] == ["id", "name"]
    path = f"/data-catalog/databases/{database}/tables/clean/lineage"
    edges = wait_for(lambda: {(row["from_table"], row["to_table"], row["operation"]) for row in user.get(path)}
                     >= {("raw", "clean", "insert"), ("clean", None, "select")} and user.get(path), "the lineage")
    assert all(row["from_database"] == database and row["statement_id"] for row in edges)
    assert user.get(f"/data-catalog/databases/{database}/tables/clean/preview")["rows"] == [{"id": 1}]


def test_odd_names_are_found_and_shown(world):
    user = world.sign_up("odd")
    names = ["100%", "a_b", "axb", 'say "hi"', "it's", "back\\slash", "Größe", "two words", "a?b#c"]
    for name in names:
        quoted = '"' + name.replace('"', '""') + '"'
        answer = user.post("/queries/execute", {"query": f"CREATE TABLE {quoted} AS SELECT 1 AS {quoted}"})
        assert answer["success"], answer
    refreshed(user)
    database = next(row["database_name"] for row in user.get("/data-catalog/databases"))

    def found(words):
        rows = user.get("/data-catalog/search?q=" + urllib.parse.quote(words))
        return {row["table_name"] for row in rows if row["kind"] == "table"}
    for name in names:
        assert found(name) == {name}, name
        path = f"/data-catalog/databases/{database}/tables/{urllib.parse.quote(name, safe='')}"
        assert user.get(path + "/schema")[0]["column_name"] == name
        assert user.get(path + "/preview")["rows"] == [{name: 1}]
        counted = user.post(path + "/statistics", {})
        assert counted["columns"][0]["distinct"] == 1, counted
    assert user.post("/queries/execute", {"query": 'CREATE TABLE "a/b" AS SELECT 1 AS x FROM "100%"'})["success"]
    refreshed(user)
    query = f"database={database}&table=a%2Fb"
    assert user.get(f"/data-catalog/preview?{query}&limit=3")["rows"] == [{"x": 1}]
    assert user.get(f"/data-catalog/schema?{query}")[0]["table_name"] == "a/b"
    wait_for(lambda: user.get(f"/data-catalog/lineage?{query}"), "the lineage")
    assert "table" in user.get(f"/data-catalog/schema?database={database}", expect=400)["details"]
    assert found("%") == {"100%"} and found("a_") == {"a_b"} and found("\\") == {"back\\slash"}
    assert found("GRÖSSE") == set() and found("größe") == {"Größe"} and found("' OR 1=1 --") == set()


def edges_of(user, database, table, wanted, source=""):
    path = f"/data-catalog/databases/{database}/tables/{table}/lineage{source}"

    def found():
        answer = user.request("GET", path)
        rows = answer.json() if answer.status_code == 200 else []
        return {(row["from_database"], row["from_table"], row["operation"]) for row in rows if row["to_table"] == table}
    wait_for(lambda: found() == wanted, f"the lineage of {table}")


def test_what_is_made_of_a_query_comes_from_its_tables(world):
    user = world.sign_up("weaver")
    for query in ("CREATE TABLE raw (id int, name text)", "CREATE TABLE more (id int)",
                  'CREATE TABLE "As is" AS SELECT r.id FROM raw r JOIN more USING (id) WITH NO DATA',
                  "CREATE VIEW seen AS SELECT name FROM raw", "CREATE TABLE again AS SELECT name FROM seen",
                  "MERGE INTO more m USING raw r ON r.id = m.id WHEN NOT MATCHED THEN INSERT VALUES (r.id)"):
        answer = user.post("/queries/execute", {"query": query})
        assert answer["success"], answer
    user.post("/data-catalog/refresh", {}, expect=202)
    database = wait_for(lambda: next((row["database_name"] for row in user.get("/data-catalog/databases")
                                      if row["data_source_id"] is None), None), "own tables")
    edges_of(user, database, "As is", {(database, "raw", "create table"), (database, "more", "create table")})
    edges_of(user, database, "seen", {(database, "raw", "create view")})
    edges_of(user, database, "again", {(database, "raw", "create table")})
    edges_of(user, database, "more", {(database, "raw", "merge")})


def test_lineage_inside_of_a_source(ann, pg):
    for query in ("CREATE TABLE shop.top AS SELECT id FROM shop.items WHERE id < 5", "CREATE VIEW shop.best AS TABLE shop.top"):
        assert run(ann, pg, query)["success"]
    edges_of(ann, "shop", "top", {("shop", "items", "create table")}, f"?source_id={pg}")
    edges_of(ann, "shop", "best", {("shop", "top", "create view")}, f"?source_id={pg}")
    for query in ("DROP VIEW shop.best", "DROP TABLE shop.top"):
        assert run(ann, pg, query)["success"]


def test_the_catalogue_is_ones_own(ann, bob, pg):
    refreshed(ann, pg)
    assert all(row["data_source_id"] is None for row in bob.get("/data-catalog/databases"))
    bob.get("/data-catalog/databases/shop/tables", expect=404)
    bob.get(f"/data-catalog/databases?source_id={pg}", expect=404)
    bob.get(f"/data-catalog/databases/shop/tables/items/preview?source_id={pg}", expect=404)
    bob.get("/data-catalog/databases/shop/tables/items/lineage", expect=404)
    bob.post("/data-catalog/refresh", {"source_id": pg}, expect=404)
    assert bob.get("/data-catalog/search?q=items") == []


def test_items_that_people_write_down(ann, bob):
    workspace = ann.post("/workspaces", {"name": "ours"}, expect=201)["id"]
    made = ann.post("/data-catalog", {"workspace_id": workspace, "name": "sales", "catalog_type": "table",
                                      "schema_info": {"columns": []}, "location": "s3://lake/sales"}, expect=201)
    assert ann.get(f"/data-catalog?workspace_id={workspace}") == [
        {name: value for name, value in made.items() if name != "live"}]
    assert "catalog_type" in ann.post("/data-catalog", {"name": "x", "catalog_type": "index"}, expect=400)["details"]
    for user in (ann, bob):
        wanted = workspace if user is bob else NOWHERE
        assert "workspace_id" in user.post("/data-catalog", {"name": "x", "catalog_type": "view", "workspace_id": wanted},
                                           expect=404)["details"]
    assert "cloud_profile_id" in ann.post("/data-catalog", {"name": "x", "catalog_type": "view", "cloud_profile_id": NOWHERE},
                                          expect=404)["details"]
    bob.get(f"/data-catalog/{made['id']}", expect=404)
    assert ann.delete(f"/data-catalog/{made['id']}")["message"] == "Deleted"
    ann.delete(f"/workspaces/{workspace}")
