"""Statements at a Trino that is a data source."""

import json

from client import person
from source_world import PASSWORD, world  # noqa: F401

ann = person("ann", on="world")


def run(user, source, query):
    return user.post("/queries/execute", {"query": query, "source_id": source})


def heard(server, text):
    """Headers of the last statement that was this."""
    return [seen[2] for seen in server.seen if seen[3] == text][-1]


def test_rows_come_from_the_source(ann, world):
    source = world.make(ann, "trino", port=world.trino.server_port, catalog="lake")["id"]
    body = run(ann, source, "SELECT n, word FROM t -- rows")
    assert body["success"] and body["engine"] == "trino", body
    assert body["data"]["rows"][0] == {"n": 1, "word": "a"}
    headers = heard(world.trino, "SELECT n, word FROM t -- rows")
    assert (headers["X-Trino-User"], headers["X-Trino-Catalog"]) == ("ann", "lake")
    assert "Authorization" not in headers
    wrong = run(ann, source, "SELECT x -- error")
    assert wrong["success"] is False and wrong["termination"]["type"] == "user"


def test_what_is_set_stays_at_the_source(ann, world):
    one, two = (world.make(ann, "trino", port=world.trino.server_port, catalog=name)["id"] for name in ("one", "two"))
    world.trino.headers = {"X-Trino-Set-Schema": "sales"}
    run(ann, one, "USE sales -- update")
    world.trino.headers = {}
    run(ann, one, "SELECT 1 AS one -- rows")
    run(ann, two, "SELECT 1 AS two -- rows")
    assert heard(world.trino, "SELECT 1 AS one -- rows")["X-Trino-Schema"] == "sales"
    assert "X-Trino-Schema" not in heard(world.trino, "SELECT 1 AS two -- rows")


def test_a_password_goes_over_tls_alone(ann, world):
    plain = world.make(ann, "trino", port=world.trino.server_port, password=PASSWORD)["id"]
    body = run(ann, plain, "SELECT 1 AS plain -- rows")
    assert body["error"] == "data source: a password is only sent with sslmode require", body
    assert not [seen for seen in world.trino.seen if "plain" in seen[3]]
    tried = ann.post(f"/data-sources/{plain}/test")
    assert (tried["success"], tried["steps"][-1]["name"]) == (False, "auth")
    safe = world.make(ann, "trino", port=world.trino_tls.server_port, password=PASSWORD, sslmode="require")["id"]
    body = run(ann, safe, "SELECT n, word FROM t -- rows")
    assert body["success"] and len(body["data"]["rows"]) == 3, body
    wrong = world.make(ann, "trino", port=world.trino_tls.server_port, password="another", sslmode="require")["id"]
    body = run(ann, wrong, "SELECT 1 -- rows")
    assert body["error"] == "trino answered 401" and PASSWORD not in json.dumps(body), body


def test_only_what_the_operator_allows_is_reached(ann, world):
    inside = world.make(ann, "trino", port=1)["id"]
    body = run(ann, inside, "SELECT 1")
    assert body["success"] is False and "not allowed" in body["error"], body
    away = world.make(ann, "trino", port=world.trino.server_port)["id"]
    body = run(ann, away, "SELECT 1 -- elsewhere")
    assert body["success"] is False and "a nextUri elsewhere" in body["error"], body
