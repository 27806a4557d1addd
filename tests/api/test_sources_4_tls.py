"""Data sources behind TLS: a certificate authority of our own, and one that nobody knows."""

import pytest

from client import person
from source_world import world  # noqa: F401
from stack import wait_for

ann = person("ann", on="world")


def probe(user, world, kind, **changes):
    return user.post("/data-sources/test", {"name": kind, "type": kind, "config": world.config(kind, **changes)})


@pytest.fixture
def encrypted(world, ann):
    """PostgreSQL with these certificates, once it has taken them."""
    def encrypt(pair):
        world.encrypt(pair)
        wanted = (lambda body: body["success"]) if pair else (lambda body: not body["success"])
        wait_for(lambda: wanted(probe(ann, world, "postgresql", sslmode="require")), "the certificates to be taken")
    yield encrypt
    world.encrypt(None)
    wait_for(lambda: not probe(ann, world, "postgresql", sslmode="require")["success"], "TLS to be off")


def steps(body):
    return [step["name"] for step in body["steps"] if step["ok"]]


def test_postgresql_that_is_known(ann, world, encrypted):
    encrypted(world.pair)
    for mode in ("verify-full", "require", "prefer"):
        body = probe(ann, world, "postgresql", sslmode=mode)
        assert body["success"] and steps(body) == ["resolve", "connect", "tls", "auth", "query"], body
        assert body["steps"][2]["message"].startswith("TLSv1."), body
    made = world.make(ann, "postgresql", sslmode="verify-full")["id"]
    rows = ann.post("/queries/execute", {"query": "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid ()",
                                         "source_id": made})["data"]["rows"]
    assert rows == [{"ssl": True}]
    large = ann.post("/queries/execute", {"source_id": made, "query": "SELECT repeat ('x', 100000000) AS x"})
    assert large["error"] == "a row is larger than 8 MiB"
    text = "é" * 300000
    assert ann.post("/queries/execute", {"source_id": made, "query": "SELECT length ($1::text) AS n", "parameters": [text]}
                    )["data"]["rows"] == [{"n": 300000}]


def test_postgresql_that_nobody_knows(ann, world, encrypted):
    encrypted(world.strange_pair)
    body = probe(ann, world, "postgresql", sslmode="verify-full")
    assert not body["success"] and body["steps"][-1]["name"] == "tls", body
    assert "certificate verify failed" in body["error"], body
    assert probe(ann, world, "postgresql", sslmode="require")["success"]


def test_mariadb_with_tls(ann, world):
    body = probe(ann, world, "mariadb", sslmode="require")
    assert body["success"] and steps(body) == ["resolve", "connect", "tls", "auth", "query"], body
    made = world.make(ann, "mariadb", sslmode="require")["id"]
    rows = ann.post("/queries/execute", {"query": "SHOW STATUS LIKE 'Ssl_version'", "source_id": made})["data"]["rows"]
    assert list(rows[0].values())[1].startswith("TLSv1."), rows


def test_http_with_tls(ann, world):
    body = probe(ann, world, "http", url=f"https://127.0.0.1:{world.secure.port}/people.json")
    assert body["success"] and steps(body) == ["resolve", "connect", "tls", "auth", "query"], body
    body = probe(ann, world, "s3", endpoint=f"https://127.0.0.1:{world.secure.port}")
    assert body["success"] and "tls" in steps(body), body
    body = probe(ann, world, "trino", port=world.secure.port, sslmode="require")
    assert "tls" in steps(body), body


def test_http_that_nobody_knows(ann, world):
    body = probe(ann, world, "http", url=f"https://127.0.0.1:{world.strange.port}/people.json")
    assert not body["success"] and body["steps"][-1]["name"] == "tls", body
    assert "certificate" in body["error"].lower(), body
    body = probe(ann, world, "trino", port=world.strange.port, sslmode="require")
    assert not body["success"] and body["steps"][-1]["name"] == "tls", body
    body = probe(ann, world, "http", url=f"https://127.0.0.1:{world.web.port}/people.json")
    assert not body["success"] and body["steps"][-1]["name"] == "tls", body
