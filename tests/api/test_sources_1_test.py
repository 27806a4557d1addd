"""Data sources: as rows, with sealed secrets, and tried out against real servers."""

import json
import socket

import pytest

from client import person
from source_world import PASSWORD, S3_SECRET, world  # noqa: F401

NOWHERE = "5c1d7c0e-3c1f-4c2b-9d0a-0e6f6b1d2a77"
ann, bob = person("ann", on="world"), person("bob", on="world")


def probe(user, world, kind, **changes):
    """Test without saving: the answer, and the last step."""
    body = user.post("/data-sources/test", {"name": kind, "type": kind, "config": world.config(kind, **changes)})
    return body, body["steps"][-1]


def test_both_spellings_are_taken_and_given(ann, world):
    one = world.make(ann, "postgresql", "first")
    two = ann.post("/data-sources", {"name": "second", "type": "postgresql", "description": "ours",
                                     "config": world.config("postgresql")}, expect=201)
    for made in (one, two):
        assert made["source_type"] == made["type"] == "postgresql"
        assert made["connection_config"] == made["config"]
        assert made["connection_config"] == {"host": "127.0.0.1", "port": world.pg.port, "database": "postgres",
                                             "user": "reader", "password": None, "sslmode": "prefer"}
        assert (made["status"], made["last_tested_at"], made["last_tested"]) == ("inactive", None, None)
    assert two["description"] == "ours" and "secrets" not in two
    assert [row["id"] for row in ann.get("/data-sources")][:2] == [two["id"], one["id"]]


def test_secrets_stay_inside(ann, world):
    made = world.make(ann, "mariadb")
    path = f"/data-sources/{made['id']}"
    live = ann.live.subscribe("data_sources")
    ann.put(path, {"description": "changed"})
    seen = [json.dumps(ann.get(path)), json.dumps(ann.get("/data-sources")), json.dumps(ann.post(path + "/test")),
            json.dumps(ann.post("/data-sources/test", {"type": "mariadb", "config": world.config(
                "mariadb", database="none")})), json.dumps(live.next())]
    assert all(PASSWORD not in text for text in seen)
    assert PASSWORD not in world.stack.log_text() and S3_SECRET not in world.stack.log_text()


def test_what_nobody_sends_back_is_kept(ann, world):
    made = world.make(ann, "postgresql")
    path = f"/data-sources/{made['id']}"
    assert ann.post(path + "/test")["success"]
    shown = ann.get(path)
    assert shown["status"] == "active" and shown["last_tested_at"] == shown["last_tested"] is not None
    after = ann.put(path, {**shown, "name": "renamed"})
    assert (after["name"], after["status"]) == ("renamed", "active")
    assert ann.post(path + "/test")["success"]
    changed = ann.put(path, {"config": {**shown["config"], "database": "none_such", "password": None}})
    assert changed["status"] == "inactive"
    answer = ann.post(path + "/test")
    assert not answer["success"] and "none_such" in answer["error"]
    failed = ann.get(path)
    assert failed["status"] == "error" and "none_such" in failed["state_detail"]
    ann.put(path, {"config": {**shown["config"], "password": "another"}})
    assert not ann.post(path + "/test")["success"]


@pytest.mark.parametrize("kind, field, secret", [
    ("postgresql", {"host": "localhost"}, "password"), ("postgresql", {"port": 5433}, "password"),
    ("postgresql", {"user": "postgres"}, "password"), ("postgresql", {"sslmode": "disable"}, "password"),
    ("mariadb", {"host": "evil.example.org"}, "password"), ("s3", {"endpoint": "https://evil.example.org"}, "secret_key"),
    ("s3", {"region": "us-east-2"}, "secret_key"), ("http", {"url": "http://127.0.0.1:9/"}, "authorization")])
def test_a_secret_does_not_follow_to_another_address(ann, world, kind, field, secret):
    given = {"authorization": f"Bearer {PASSWORD}"} if kind == "http" else {}
    made = world.make(ann, kind, **given)
    path, config = f"/data-sources/{made['id']}", world.config(kind, **given)
    del config[secret]
    for verb, where, more in (("PUT", path, {}), ("POST", "/data-sources/test", {"id": made["id"]})):
        for kept in ({}, {secret: None}, {secret: ""}):
            body = ann.request(verb, where, {**more, "connection_config": {**config, **kept, **field}}, expect=400).json()
            name, = field
            assert body["details"] == {f"connection_config.{secret}": f"must be given again when {name} changes"}
    assert ann.get(path)["connection_config"] == made["connection_config"]
    other = ann.put(path, {"connection_config": {**config, **field, secret: "another"}})
    assert other["connection_config"].items() >= field.items()


@pytest.mark.parametrize("kind, steps", [
    ("postgresql", ["resolve", "connect", "auth", "query"]), ("mariadb", ["resolve", "connect", "auth", "query"]),
    ("mysql", ["resolve", "connect", "auth", "query"]), ("sqlite", ["resolve", "connect", "query"]),
    ("http", ["resolve", "connect", "auth", "query"]), ("s3", ["resolve", "connect", "auth", "query"]),
    ("trino", ["resolve", "connect", "auth", "query"])])
def test_a_source_that_works_says_its_steps(ann, world, kind, steps):
    answer, _ = probe(ann, world, kind)
    assert answer["success"] and answer["error"] is None, answer
    assert [step["name"] for step in answer["steps"]] == steps
    assert all(step["ok"] and step["ms"] >= 0 for step in answer["steps"])
    saved = world.make(ann, kind)
    assert ann.post("/data-sources/test", {"id": saved["id"]})["success"]
    assert ann.get(f"/data-sources/{saved['id']}")["status"] == "active"
    assert ann.delete(f"/data-sources/{saved['id']}")["message"] == "Deleted"


def test_any_prefix_is_signed(ann, world):
    #  Not "+", which curl 8.14 signs as a space.
    for prefix in ("2026/01/", "é &=%~"):
        answer, _ = probe(ann, world, "s3", prefix=prefix)
        assert answer["success"], (prefix, answer)


@pytest.mark.parametrize("kind, changes, step, word", [
    ("postgresql", {"host": "no-such-host.invalid"}, "resolve", "resolved"),
    ("postgresql", {"port": "closed"}, "connect", "refused"),
    ("postgresql", {"password": "wrong-password"}, "auth", "password"),
    ("postgresql", {"sslmode": "require"}, "tls", "SSL"),
    ("postgresql", {"port": "mute"}, "auth", "answer"),
    ("postgresql", {"port": "web"}, "auth", ""),
    ("mariadb", {"password": "wrong-password"}, "auth", "denied"),
    ("mariadb", {"database": "none"}, "auth", "none"),
    ("mariadb", {"port": "mute"}, "auth", "answer"),
    ("sqlite", {"path": "in/none.db"}, "resolve", "no such file"),
    ("sqlite", {"path": "in"}, "resolve", "no such file"),
    ("sqlite", {"path": "link.db"}, "resolve", "no such file"),
    ("sqlite", {"path": "way/other.db"}, "resolve", "no such file"),
    ("sqlite", {"path": "text.db"}, "connect", "not a database"),
    ("http", {"path": "/none"}, "query", "404"),
    ("http", {"path": "/secret.json"}, "auth", "401"),
    ("http", {"path": "/away"}, "query", "302"),
    ("http", {"path": "/large"}, "query", "larger"),
    ("http", {"path": "/broken.json"}, "query", "JSON"),
    ("s3", {"secret_key": "wrong-secret"}, "auth", "403"),
    ("s3", {"access_key": None, "secret_key": None}, "auth", "403"),
    ("trino", {"port": "mute"}, "query", "long")])
def test_a_source_that_does_not_says_where_it_ended(ann, world, kind, changes, step, word):
    ports = {"closed": world.closed, "mute": world.mute.port, "web": world.web.port}
    changes = {name: ports.get(value, value) for name, value in changes.items()}
    if kind == "http":
        changes = {"url": f"http://127.0.0.1:{world.web.port}{changes['path']}"}
    answer, last = probe(ann, world, kind, **changes)
    assert answer["success"] is False
    assert (last["name"], last["ok"]) == (step, False), answer
    assert word in last["message"] and answer["error"] == last["message"]
    assert "wrong-" not in json.dumps(answer)


def test_addresses_inside_are_refused_at_connect(ann, world):
    inside = [("postgresql", {"host": "127.0.0.1", "port": 1}), ("postgresql", {"host": "localhost", "port": 5432}),
              ("mariadb", {"host": "169.254.169.254"}), ("mariadb", {"host": "10.0.0.1"}), ("trino", {"host": "::1"}),
              ("http", {"url": "http://169.254.169.254/latest/meta-data/"}), ("http", {"url": "http://[::ffff:127.0.0.1]:80/"}),
              ("http", {"url": f"http://localhost:{world.web.port}/people.json"}), ("s3", {"endpoint": "http://127.0.0.1:9"}),
              ("postgresql", {"host": "0.0.0.0"}), ("postgresql", {"host": "2130706433"})]
    for kind, changes in inside:
        made = world.make(ann, kind, **changes)
        answer = ann.post(f"/data-sources/{made['id']}/test")
        assert answer["success"] is False and answer["error"] == "address is not allowed", (kind, changes, answer)
        assert answer["steps"][-1]["name"] == "connect"


@pytest.mark.parametrize("kind, config, field", [
    ("postgresql", {"database": "d", "user": "u"}, "host"), ("postgresql", {"host": "a,b", "database": "d", "user": "u"}, "host"),
    ("postgresql", {"host": "/var/run", "database": "d", "user": "u"}, "host"),
    ("postgresql", {"host": "h", "database": "d", "user": "u", "port": 0}, "port"),
    ("postgresql", {"host": "h", "database": "d", "user": "u", "port": "12a"}, "port"),
    ("postgresql", {"host": "h", "database": "d", "user": "u", "sslmode": "maybe"}, "sslmode"),
    ("postgresql", {"host": "h", "database": "d", "user": "u", "service": "x"}, "service"),
    ("postgresql", {"host": "h", "database": {"a": 1}, "user": "u"}, "database"),
    ("sqlite", {"path": "../x.db"}, "path"), ("sqlite", {"path": "a/../../x"}, "path"), ("sqlite", {"path": "/etc/passwd"}, "path"),
    ("http", {"url": "file:///etc/passwd"}, "url"), ("http", {"url": "http://user:pass@host/"}, "url"),
    ("http", {"url": "http://h/", "format": "xml"}, "format"),
    ("s3", {"bucket": "b", "region": "x@evil.example.org/"}, "region"), ("s3", {"region": "r"}, "bucket")])
def test_a_config_that_cannot_be_is_refused(ann, kind, config, field):
    for path in ("/data-sources", "/data-sources/test"):
        body = ann.post(path, {"name": "x", "source_type": kind, "connection_config": config}, expect=400)
        assert f"connection_config.{field}" in body["details"], body


def test_other_bad_input(ann, bob, world):
    assert "source_type" in ann.post("/data-sources", {"name": "x", "source_type": "oracle", "connection_config": {}},
                                     expect=400)["details"]
    for missing in ("name", "source_type", "connection_config"):
        body = {"name": "x", "source_type": "sqlite", "connection_config": {"path": "a"}}
        del body[missing]
        assert missing in ann.post("/data-sources", body, expect=400)["details"]
    made = world.make(ann, "sqlite")
    assert "source_type" in ann.put(f"/data-sources/{made['id']}", {"source_type": "http"}, expect=409)["details"]
    assert "connection_config" in ann.post("/data-sources/test", {"type": "sqlite"}, expect=400)["details"]
    for user, name in ((bob, made["id"]), (ann, NOWHERE)):
        user.get(f"/data-sources/{name}", expect=404)
        user.put(f"/data-sources/{name}", {"name": "x"}, expect=404)
        user.put(f"/data-sources/{name}", {"config": {"path": "in/shop.db"}}, expect=404)
        user.post(f"/data-sources/{name}/test", expect=404)
        assert "id" in user.post("/data-sources/test", {"id": name}, expect=404)["details"]
        user.delete(f"/data-sources/{name}", expect=404)


def test_who_leaves_stops_nobody(ann, world):
    """The thread that waits for a mute server goes on; everybody else is served meanwhile."""
    body = json.dumps({"type": "postgresql", "config": world.config("postgresql", port=world.heard.port)})
    host = ann.base.removeprefix("http://")
    with socket.create_connection(tuple(host.split(":"))) as leaver:
        leaver.sendall((f"POST /data-sources/test HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {ann.token}\r\n"
                        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}").encode())
        world.heard.await_caller()
    for _ in range(3):
        ann.get("/data-sources", timeout=10)


def test_secrets_of_stars_are_only_stars(ann, world):
    config = world.config("postgresql", user="***", password="***")
    body = ann.post("/data-sources/test", {"type": "postgresql", "config": config})
    assert not body["success"] and body["steps"][-1]["name"] == "auth", body
    assert '"***"' in body["error"], body
