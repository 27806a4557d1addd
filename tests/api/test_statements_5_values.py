"""Values through statements, in and out: every type of parameter, odd types of columns, limits at their edges, CSV, and
what each field refuses."""

import csv
import io
import json
import uuid

import pytest

NOWHERE = str(uuid.UUID(int=7))
LONG = "x" * ((1 << 20) + 1)


def execute(user, query, expect=200, **body):
    return user.post("/queries/execute", {"query": query, **body}, expect=expect)


def rows(user, query, **body):
    answer = execute(user, query, **body)
    assert answer["success"], answer
    return answer["data"]["rows"]


#  ---------------------------------------------------------------- parameters

TYPED = [
    ("text", "it's; DROP TABLE x", "it's; DROP TABLE x"), ("string", "", ""), ("varchar", "ü\u20ac\U0001f600\\'\"", "ü\u20ac\U0001f600\\'\""),
    ("int", 7, 7), ("integer", "-7", -7), ("bigint", 9223372036854775807, 9223372036854775807),
    ("bigint", "-9223372036854775808", -9223372036854775808), ("number", 1.5, 1.5), ("double", 1e300, 1e300), ("float", -0.25, -0.25),
    ("real", 3, 3), ("decimal", "0.1000", "0.1000"), ("numeric", 12.5, 12.5), ("bool", True, True), ("boolean", False, False),
    ("date", "2024-02-29", "2024-02-29"), ("timestamp", "2026-03-29T01:30:00Z", "2026-03-29 01:30:00+00"),
    ("timestamptz", "2026-03-29T01:30:00+02:00", "2026-03-28 23:30:00+00"), ("uuid", NOWHERE, NOWHERE),
    ("json", {"a": [1, None, "x"]}, {"a": [1, None, "x"]}), ("json", [], []), ("text", None, None), ("int", None, None), ("json", None, None)]


@pytest.mark.parametrize("kind, value, answer", TYPED)
def test_each_type_by_position_and_by_name(ann, kind, value, answer):
    given = {"type": kind, "value": value}
    for query, parameters in (("SELECT $1 AS v", [given]), ("SELECT :v_1 AS v", {"v_1": given})):
        text = json.dumps(rows(ann, query, parameters=parameters)[0]["v"])
        if isinstance(answer, str) and kind == "decimal":
            text = json.dumps(text)                # a number that keeps its digits
            assert float(json.loads(text)) == float(answer)
        else:
            assert json.loads(text) == answer


@pytest.mark.parametrize("value, query, answer", [
    (5, "SELECT $1 + 1 AS v", 6), (2147483648, "SELECT $1 AS v", 2147483648), (0.5, "SELECT $1 * 2 AS v", 1), (True, "SELECT NOT $1 AS v", False),
    ("2", "SELECT $1::int + 1 AS v", 3), ("x", "SELECT upper($1) AS v", "X"), (None, "SELECT $1::int IS NULL AS v", True),
    ([1, 2], "SELECT jsonb_array_length($1) AS v", 2), ({"a": 1}, "SELECT $1 ->> 'a' AS v", "1"),
    ("{1,2}", "SELECT array_length($1::int[], 1) AS v", 2)])
def test_plain_values_have_the_type_that_they_look_like(ann, value, query, answer):
    assert rows(ann, query, parameters=[value]) == [{"v": answer}]
    assert rows(ann, query.replace("$1", ":value"), parameters={"value": value}) == [{"v": answer}]


def test_a_hundred_parameters_and_not_one_more(ann):
    query = "SELECT " + " + ".join(f"${n}" for n in range(1, 101)) + " AS sum"
    assert rows(ann, query, parameters=list(range(1, 101))) == [{"sum": 5050}]
    assert "parameters" in execute(ann, query, parameters=list(range(101)), expect=400)["details"]


@pytest.mark.parametrize("given", [
    [{"type": "int", "value": "1.0"}], [{"type": "int", "value": "9223372036854775808"}], [{"type": "int", "value": ""}], [{"type": "int", "value": " 1"}],
    [{"type": "number", "value": "1e999"}], [{"type": "number", "value": "nan"}], [{"type": "decimal", "value": "1'"}], [{"type": "bool", "value": "maybe"}],
    [{"type": "bool", "value": 1}], [{"type": "date", "value": "today; DROP"}], [{"type": "uuid", "value": "7"}], [{"type": "int", "value": [1]}],
    [{"type": "nothing", "value": 1}], [{"type": 5, "value": 1}], "1", 5, True],
    ids=str)
def test_parameters_that_do_not_fit_are_refused_by_name(ann, given):
    assert "parameters" in execute(ann, "SELECT $1::text AS v", parameters=given, expect=400)["details"]


@pytest.mark.parametrize("query, parameters, code", [
    ("SELECT $1 AS v", [1, "unused"], "42P18"), ("SELECT $1::int AS v", ["x"], "22P02"), ("SELECT $1::date AS v", ["2026-02-30"], "22008"),
    ("SELECT 1 / $1 AS v", [0], "22012"), ("SELECT $1::int2 AS v", [70000], "22003")])
def test_what_only_the_engine_can_tell_is_its_error(ann, query, parameters, code):
    answer = execute(ann, query, parameters=parameters)
    assert answer["success"] is False and answer["termination"]["type"] == "user", answer
    assert answer["termination"]["code"] == code, answer


@pytest.mark.parametrize("query, parameters", [("SELECT $1 AS v", None), ("SELECT $2 AS v", [1]), ("SELECT $1, $101", [1]),
                                               ("SELECT :a, $2", {"a": 1})])
def test_a_parameter_that_is_not_given_is_named(ann, query, parameters):
    answer = execute(ann, query, parameters=parameters, expect=400)
    assert "is not given" in answer["details"]["parameters"]
    assert rows(ann, "SELECT '$7' AS a, $$ $8 $$ AS b, 1 AS a$9 -- $10") == [{"a": "$7", "b": " $8 ", "a$9": 1}]


def test_a_zero_byte_is_refused(ann):
    for body in ({"query": "SELECT '\0'"}, {"query": "SELECT $1", "parameters": ["a\0b"]}, {"query": "SELECT 1", "engine": "\0"}):
        ann.post("/queries/execute", body, expect=400)


#  ---------------------------------------------------------------- columns

@pytest.mark.parametrize("expression, kind, value", [
    ("9007199254740993::bigint", "int8", 9007199254740993), ("12345678901234567890.123456789::numeric", "numeric", 12345678901234567890.123456789),
    ("'NaN'::numeric", "numeric", "NaN"), ("'-Infinity'::float8", "float8", "-Infinity"), ("1e-7::float8", "float8", 1e-7),
    ("'0001-01-01 BC'::date", "date", "0001-01-01 BC"), ("'infinity'::date", "date", "infinity"), ("'2026-01-31 23:59:59.999999Z'::timestamptz",
     "timestamptz", "2026-01-31 23:59:59.999999+00"), ("interval '1 month -3 hours'", "interval", "1 mon -03:00:00"), ("time '24:00'", "time", "24:00:00"),
    ("ARRAY[1,NULL,3]", "int4[]", "{1,NULL,3}"), ("ARRAY['a,b','\"']", "text[]", '{"a,b","\\""}'), ("'\\x00ff'::bytea", "bytea", "\\x00ff"),
    ("true", "bool", True), ("NULL", "text", None), ("''", "text", ""), ("'null'::jsonb", "jsonb", None), ("'\"x\"'::json", "json", "x"),
    ("'{\"a\": 1.50}'::jsonb", "jsonb", {"a": 1.5}), ("ROW(1,'x')", "record", "(1,x)"), ("'10.0.0.1/8'::inet", "inet", "10.0.0.1/8"),
    ("B'101'", "oid 1560", "101"), ("'[1,5)'::int4range", "oid 3904", "[1,5)"), ("repeat(chr(8364), 3)", "text", "\u20ac" * 3),
    ("chr(1) || chr(31) || chr(127) || chr(8232)", "text", "\x01\x1f\x7f\u2028"), ("'\U0001f600\u0301'", "text", "\U0001f600\u0301")])
def test_values_of_each_type(ann, expression, kind, value):
    data = execute(ann, f"SELECT {expression} AS v")["data"]
    assert data["columns"] == [{"name": "v", "type": kind}] and data["rows"] == [{"v": value}]


def test_large_numbers_keep_their_digits_on_the_wire(ann):
    answer = ann.request("POST", "/queries/execute", {"query": "SELECT 12345678901234567890123.5 AS n, 9007199254740993 AS i"}, expect=200)
    assert '"n":12345678901234567890123.5,"i":9007199254740993' in answer.text


def test_names_of_columns(ann):
    data = execute(ann, 'SELECT 1 AS a, 2 AS a, 3 AS "a_2", 4, 5, 6, 7 AS "ü \"\" \\", 8 AS "__proto__"')["data"]
    names = [column["name"] for column in data["columns"]]
    assert len(set(names)) == len(names) == 8 and list(data["rows"][0].values()) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert list(data["rows"][0]) == names and names [0] == "a" and names [6] == 'ü " \\'
    assert execute(ann, "SELECT FROM generate_series(1, 2)")["data"]["rowCount"] == 2
    wide = execute(ann, "SELECT " + ", ".join(f"{n} AS c{n}" for n in range(1600)))["data"]
    assert len(wide["columns"]) == 1600 and wide["rows"][0]["c1599"] == 1599


#  ---------------------------------------------------------------- limits

@pytest.mark.parametrize("wanted, there, truncated", [(1, 1, False), (1, 2, True), (3, 2, False), (10000, 10000, False), (10000, 10001, True)])
def test_rows_at_the_limit(ann, wanted, there, truncated):
    data = execute(ann, f"SELECT n FROM generate_series(1, {there}) n", row_limit=wanted)["data"]
    assert (data["rowCount"], data["truncated"]) == (min(wanted, there), truncated)


def test_bytes_at_the_limit(ann):
    """Counted are the values as PostgreSQL sends them."""
    query = "SELECT repeat('x', 1024) AS x FROM generate_series(1, 4)"
    assert execute(ann, query, byte_limit=4096)["data"] | {"rows": []} == {
        "columns": [{"name": "x", "type": "text"}], "rows": [], "rowCount": 4, "truncated": False, "tag": "SELECT 4"}
    data = execute(ann, query, byte_limit=4095)["data"]
    assert (data["rowCount"], data["truncated"]) == (3, True)


def test_what_only_reads_is_stopped_at_its_limit(ann):
    data = execute(ann, "WITH RECURSIVE n AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM n) SELECT n FROM n", row_limit=3)["data"]
    assert data["rows"] == [{"n": 1}, {"n": 2}, {"n": 3}] and data["truncated"] is True


def test_a_write_beyond_the_limits_is_done_whole(ann):
    execute(ann, "CREATE TABLE many (n int)")
    answer = execute(ann, "INSERT INTO many SELECT generate_series(1, 500) RETURNING n", row_limit=2)
    assert answer["success"] and answer["data"]["rowCount"] == 2 and answer["data"]["truncated"] is True
    assert rows(ann, "SELECT count(*) AS n FROM many") == [{"n": 500}]
    execute(ann, "DROP TABLE many")


#  ---------------------------------------------------------------- CSV

def test_csv_is_what_rfc_4180_says(ann):
    query = """SELECT n, v FROM (VALUES (1, 'plain'), (2, 'a,b'), (3, 'say "x"'), (4, E'two\\r\\nlines'), (5, E'\\n'), (6, ''),
               (7, NULL), (8, ' blank '), (9, 'ü\u20ac'), (10, ','), (11, '"')) t (n, v)"""
    path = f"/statements/{execute(ann, query)['statement_id']}/result?format=csv"
    text = ann.request("GET", path, expect=200).content.decode()
    assert text.startswith("n,v\r\n1,plain\r\n2,\"a,b\"\r\n3,\"say \"\"x\"\"\"\r\n") and text.endswith("\r\n")
    assert '\r\n6,""\r\n7,\r\n8, blank \r\n' in text                # an empty text is not NULL
    found = [row[1] for row in csv.reader(io.StringIO(text, newline=""))][1:]
    assert found == ["plain", "a,b", 'say "x"', "two\r\nlines", "\n", "", "", " blank ", "ü\u20ac", ",", '"']


def test_csv_of_other_types_and_of_what_a_spreadsheet_would_run(ann):
    query = """SELECT 1.50 AS "n,1", true AS yes, '{"a": [1, "x"]}'::jsonb AS j, ARRAY[1,2] AS a, '\\x00ff'::bytea AS b,
               '=1+1' AS f, '@x' AS g, '-1' AS h, -1 AS i"""
    path = f"/statements/{execute(ann, query)['statement_id']}/result?format=csv"
    head, row = csv.reader(io.StringIO(ann.request("GET", path, expect=200).content.decode(), newline=""))
    assert head == ["n,1", "yes", "j", "a", "b", "f", "g", "h", "i"]
    assert row == ["1.50", "true", '{"a": [1, "x"]}', "{1,2}", "\\x00ff", "'=1+1", "'@x", "'-1", "-1"]


def test_results_without_rows(ann):
    for query, columns in (("SELECT 1 AS n WHERE false", ["n"]), ("CREATE TABLE IF NOT EXISTS empty (n int)", [])):
        path = f"/statements/{execute(ann, query)['statement_id']}/result"
        page = ann.get(path)
        assert (page["rows"], page["pages"], page["rowCount"]) == ([], 1, 0)
        assert [column["name"] for column in page["columns"]] == columns
        assert ann.request("GET", path + "?format=csv", expect=200).text == "".join(f"{name}\r\n" for name in columns)
        assert ann.request("GET", path + "?format=jsonl", expect=200).text == ""
        assert ann.request("POST", "/queries/stream", {"query": query, "format": "csv"}, expect=200).text == \
            "".join(f"{name}\r\n" for name in columns)


#  ---------------------------------------------------------------- what fields refuse

@pytest.mark.parametrize("field, value", [
    ("query", ""), ("query", "  ;; "), ("query", 5), ("query", None), ("query", ["SELECT 1"]), ("query", {"a": 1}), ("query", LONG),
    ("engine", 5), ("engine", ""), ("engine", "postgres"), ("engine", "POSTGRESQL"), ("cluster_id", 5), ("cluster_id", ""),
    ("source_id", "x"), ("source_id", {}), ("row_limit", "many"), ("row_limit", -1), ("row_limit", 1.5), ("row_limit", 10000001), ("row_limit", 1 << 62),
    ("byte_limit", 0), ("byte_limit", "8 MB"), ("byte_limit", (64 << 20) + 1), ("timeout", -1), ("timeout", 0.5), ("timeout", "soon"),
    ("timeout", 1 << 40), ("fallback", "yes"), ("fallback", 1), ("explain", "no"), ("explain", 2)],
    ids=lambda value: str(value)[:30])
def test_fields_of_execute(ann, field, value):
    answer = ann.post("/queries/execute", {"query": "SELECT 1", field: value}, expect=400)
    assert list(answer["details"]) == [field]


@pytest.mark.parametrize("wait", ["-1", "x", "601", "nan"])
def test_the_wait_has_bounds_too(ann, wait):
    assert "wait" in ann.post(f"/queries/execute?wait={wait}", {"query": "SELECT 1"}, expect=400)["details"]


@pytest.mark.parametrize("query", ["page=0", "page=-1", "page=x", "page=1.5", "page_size=0", "page_size=10001", "page_size=x", "format=xml", "format="])
def test_fields_of_a_result(ann, query):
    path = f"/statements/{execute(ann, 'SELECT 1')['statement_id']}/result"
    assert query.split("=")[0] in ann.get(f"{path}?{query}", expect=400)["details"]


BOTH = [("name", ""), ("name", "x" * 256), ("name", 5), ("name", None), ("description", 5), ("query_text", ""), ("query_text", None),
        ("query_text", LONG), ("query_text", 5)]
QUERIES = [("engine", "hive"), ("engine", 1), ("workspace_id", "x"), ("cluster_id", 5)]
SAVED = [("tags", "a"), ("tags", [1]), ("tags", {"a": 1}), ("is_favorite", "maybe")]


@pytest.mark.parametrize("path, field, value", [("/queries", *one) for one in BOTH + QUERIES] +
                         [("/saved-queries", *one) for one in BOTH + SAVED], ids=lambda value: str(value)[:30])
def test_fields_of_queries(ann, path, field, value):
    good = {"name": "n", "query_text": "SELECT 1"}
    assert list(ann.post(path, {**good, field: value}, expect=400)["details"]) == [field]
    row = ann.post(path, good, expect=201)
    assert list(ann.put(f"{path}/{row['id']}", {field: value}, expect=400)["details"]) == [field]
    assert ann.get(f"{path}/{row['id']}")["updated_at"] == row["updated_at"]
    ann.delete(f"{path}/{row['id']}")


def test_the_longest_text_is_kept_as_it_is(ann):
    text = "SELECT 1 -- " + "\u20ac" * 1000 + "x" * ((1 << 20) - 1012)
    assert len(text) == 1 << 20
    for path in ("/queries", "/saved-queries"):
        row = ann.post(path, {"name": "long", "query_text": text}, expect=201)
        assert ann.get(f"{path}/{row['id']}")["query_text"] == text
        ann.delete(f"{path}/{row['id']}")
    assert execute(ann, text)["success"]


def test_what_is_others_is_nowhere(ann, bob):
    cluster = bob.post("/compute-clusters", {"name": "his", "compute_type": "dask", "node_type": "local"}, expect=201)["id"]
    source = bob.post("/data-sources", {"name": "his", "source_type": "postgresql", "connection_config": {
        "host": "db.example.org", "database": "d", "user": "u", "password": "p"}}, expect=201)["id"]
    for field, value in (("cluster_id", cluster), ("source_id", source)):
        theirs = ann.post("/queries/execute", {"query": "SELECT 1", field: value}, expect=404)
        missing = ann.post("/queries/execute", {"query": "SELECT 1", field: NOWHERE}, expect=404)
        assert (theirs["details"], theirs["error"]) == (missing["details"], missing["error"])
        for path in ("/queries/explain", "/queries/stream"):
            assert field in ann.post(path, {"query": "SELECT 1", field: value}, expect=404)["details"]
    assert "cluster_id" in ann.post("/queries", {"name": "q", "query_text": "x", "cluster_id": cluster}, expect=404)["details"]
    assert execute(bob, "SELECT 1 AS n", cluster_id=cluster)["success"]
    bob.delete(f"/data-sources/{source}")
    bob.delete(f"/compute-clusters/{cluster}")


