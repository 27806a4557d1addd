"""Repositories: a real git server on loopback, fetched, listed, read and imported from."""

import json
import subprocess

import pytest

from client import person
from git_server import server  # noqa: F401
from stack import Stack, free_port, wait_for

TOKEN = "ghp_secret42"
NOTEBOOK = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": {"language": "python"}},
            "cells": [{"cell_type": "code", "id": "a", "metadata": {}, "outputs": [],
                       "execution_count": None, "source": ["print (", "1)"]}]}


@pytest.fixture(scope="module")
def system(server):
    """One that lets users reach this one server, and keeps copies small."""
    system = Stack(f"--set=platform.repository-allow=127.0.0.1:{server.port}",
                   "--set=platform.repository-size=2")
    system.wait()
    yield system
    assert system.stop() == 0


ann, bob = person("ann"), person("bob")


def connect(user, url, **more):
    return user.post("/repositories", {"provider": "generic", "name": "r", "url": url, **more}, expect=201)


def sync(user, row, expect=200, **options):
    return user.post(f"/repositories/{row['id']}/sync", {}, expect=expect, **options)


def test_what_the_modal_sends_and_what_it_gets(ann, bob, system):
    made = connect(ann, "https://git.example.org/a/b.git", provider="github", name="b", branch="main",
                   username="ann", access_token=TOKEN, description="ours")
    assert (made["status"], made["last_sync"], made["state_detail"]) == ("connected", None, "never_synced")
    assert made["has_token"] is True and "access_token" not in made
    path = f"/repositories/{made['id']}"
    assert TOKEN not in ann.request("GET", path).text + ann.request("GET", "/repositories").text
    assert ann.put(path, {"name": "c"})["has_token"] is True
    cleared = ann.put(path, {"access_token": None})
    assert cleared["has_token"] is False
    for verb, route in (("GET", path), ("PUT", path), ("DELETE", path), ("POST", path + "/sync"),
                        ("GET", path + "/files"), ("GET", path + "/content?path=a"),
                        ("POST", path + "/import")):
        bob.request(verb, route, {"path": "a.py"} if verb in ("POST", "PUT") else None, expect=404)
    assert ann.request("GET", path + "/files", expect=409).json()["error"] == \
        "the repository has not been synced yet"
    assert ann.delete(path)["message"] == "Deleted"
    ann.get(path, expect=404)
    assert TOKEN not in system.log_text()


@pytest.mark.parametrize("field, value", [
    ("url", "file:///etc"), ("url", "ssh://git@example.org/a"), ("url", "git@example.org:a/b.git"),
    ("url", "https://ann:secret@example.org/a"), ("url", "https://example.org/a?b=c"), ("url", "ftp://a.b/c"),
    ("url", "https://exa mple.org/"), ("provider", "svn"), ("name", ""), ("branch", "a..b"), ("branch", "-x~"),
    ("access_token", "a\nb"), ("url", None)])
def test_bad_fields_are_named(ann, field, value):
    body = {"name": "x", "url": "https://example.org/a", "provider": "generic", field: value}
    assert field in ann.post("/repositories", body, expect=400)["details"]


def test_fetch_list_read(ann, server):
    commit = server.commit("plain", {"README.md": "hello\n", "sql/a.sql": "select 1", "bytes": b"\x00\xff"})
    row = connect(ann, server.url("plain"))
    log = ann.live.subscribe(f"repositories/{row['id']}")
    rows = ann.live.subscribe("repositories")
    done = sync(ann, row)
    assert (done["status"], done["state_detail"], done["head_commit"], done["head_branch"]) == \
        ("connected", "synced", commit, "main")
    assert done["last_sync"] and done["size_bytes"] > 0 and done["live"]["ch"].endswith("/repositories")
    frames = log.until(lambda frame: frame["type"] == "sync.ended")
    assert frames[0]["type"] == "sync.started" and frames[-1]["data"]["head_commit"] == commit
    seen = rows.until(lambda frame: frame["type"] == "repository.synced")
    assert [frame["data"]["state_seq"] for frame in seen] == [1, 2]
    assert "access_token" not in json.dumps(seen)

    path = f"/repositories/{row['id']}"
    listed = ann.get(path + "/files")
    assert [(file["type"], file["path"], file["size"]) for file in listed] == \
        [("directory", "sql", None), ("file", "README.md", 6), ("file", "bytes", 2)]
    assert [file["path"] for file in ann.get(path + "/files?path=/sql//")] == ["sql/a.sql"]
    shown = ann.get(path + "/content?path=README.md")
    assert (shown["content"], shown["encoding"], shown["commit"]) == ("hello\n", "utf-8", commit)
    assert ann.get(path + "/content?path=bytes")["content"] == "AP8="
    for query, status in (("/files?path=nowhere", 404), ("/files?path=README.md", 400), ("/content?path=sql", 400),
                          ("/content?path=../../etc/passwd", 404), ("/content", 404)):
        answer = ann.get(path + query, expect=status)
        assert "path" in answer["details"], query

    second = server.commit("plain", {"more.md": "x"})
    assert sync(ann, row)["head_commit"] == second
    assert "more.md" in [file["name"] for file in ann.get(path + "/files")]


def test_links_out_of_the_repository_stay_words(ann, server):
    server.commit("links", {"a.py": "1"})
    tree = server.root / "links-tree"
    (tree / "passwd").symlink_to("/etc/passwd")
    server.commit("links", {"b.py": "2"})
    row = connect(ann, server.url("links"))
    sync(ann, row)
    kinds = {file["name"]: file["type"] for file in ann.get(f"/repositories/{row['id']}/files")}
    assert kinds["passwd"] == "link"
    assert ann.get(f"/repositories/{row['id']}/content?path=passwd")["content"] == "/etc/passwd"


def test_a_branch_and_what_changes_with_it(ann, server):
    server.commit("branches", {"a": "1"})
    other = server.commit("branches", {"b": "2"}, branch="other")
    row = connect(ann, server.url("branches"), branch="other")
    assert sync(ann, row)["head_commit"] == other
    changed = ann.put(f"/repositories/{row['id']}", {"branch": "nowhere"})
    assert (changed["state_detail"], changed["head_commit"]) == ("never_synced", None)
    failed = sync(ann, row)
    assert failed["status"] == "error" and failed["termination"]["type"] == "CLIENT_ERROR"
    assert failed["termination"]["message"] == "the repository has no branch nowhere"


def test_a_private_repository_wants_its_token(ann, server):
    commit = server.commit("secret", {"a": "1"})
    row = connect(ann, server.url("secret", "/private"))
    assert sync(ann, row)["termination"]["message"] == "the server asks for a username and token"
    path = f"/repositories/{row['id']}"
    ann.put(path, {"username": "ann", "access_token": "wrong"})
    assert sync(ann, row)["termination"]["message"] == "the server refuses this username and token"
    ann.put(path, {"access_token": TOKEN})
    assert sync(ann, row)["head_commit"] == commit
    elsewhere = "https://evil.example.org/a.git"
    body = ann.put(path, {"url": elsewhere}, expect=400)
    assert body["details"] == {"access_token": "must be given again when url changes"}
    assert ann.put(path, {"url": row["url"], "name": "same"})["has_token"] is True
    assert ann.put(path, {"url": elsewhere, "access_token": "another"})["url"] == elsewhere
    assert ann.put(path, {"url": row["url"], "access_token": None})["has_token"] is False


@pytest.mark.parametrize("where, why", [
    ("/garbage", "the server does not speak git"), ("/page", "there is no git repository at this address"),
    ("", "the server has no such repository")])
def test_servers_that_are_none(ann, server, where, why):
    row = connect(ann, server.url("nobody", where))
    done = sync(ann, row)
    assert (done["status"], done["termination"]["message"]) == ("error", why)
    assert done["last_sync"] is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1"])
def test_private_addresses_are_not_reached(ann, host):
    row = connect(ann, f"http://{host}:{free_port()}/a.git")
    assert sync(ann, row)["termination"]["message"] == "address is not allowed"


def test_a_copy_has_a_limit(ann, server):
    blob = subprocess.run(["head", "-c", "3000000", "/dev/urandom"], capture_output=True, check=True).stdout
    server.commit("large", {"blob": blob})
    row = connect(ann, server.url("large"))
    assert sync(ann, row)["termination"]["message"] == "the repository is larger than 2 MiB"


def test_imports(ann, bob, server):
    server.commit("books", {"a/My book.ipynb": json.dumps(NOTEBOOK), "job.py": "print (2)", "bad.ipynb": "{}",
                            "q.sql": "select 42", "x.txt": "no"})
    row = connect(ann, server.url("books"))
    sync(ann, row)
    path = f"/repositories/{row['id']}/import"
    made = ann.post(path, {"path": "a/My book.ipynb"}, expect=201)
    assert (made["name"], made["language"]) == ("My book", "python") and made["live"]
    assert ann.get(f"/notebooks/{made['id']}")["content"]["cells"][0]["content"] == "print (1)"
    script = ann.post(path, {"path": "job.py", "name": "nightly"}, expect=201)
    assert script["name"] == "nightly"
    assert ann.get(f"/notebooks/{script['id']}")["content"]["cells"][0]["content"] == "print (2)"
    query = ann.post(path, {"path": "q.sql"}, expect=201)
    assert (query["name"], query["query_text"]) == ("q", "select 42")
    for name in ("bad.ipynb", "x.txt"):
        assert "path" in ann.post(path, {"path": name}, expect=400)["details"]
    theirs = bob.post("/workspaces", {"name": "bob's"}, expect=201)
    assert "workspace_id" in ann.post(path, {"path": "job.py", "workspace_id": theirs["id"]},
                                      expect=404)["details"]


def test_one_fetch_at_a_time_and_a_killed_one_is_lost(ann, server, system):
    server.commit("slow", {"a": "1"})
    row = connect(ann, server.url("slow"))
    path = f"/repositories/{row['id']}"
    server.slow = True
    try:
        begun = sync(ann, row, expect=202, params={"wait": 0})
        assert begun["status"] == "syncing"
        again = sync(ann, row, expect=409)
        assert again["details"]["status"] == "repository is syncing already"
        assert "branch" in ann.put(path, {"branch": "x"}, expect=409)["details"]
        wait_for(lambda: any(verb == "POST" and "/slow.git" in asked for verb, asked in server.asked),
                 "the request for the pack")
        system.wait_restarted("platform", system.kill("platform"))
        lost = wait_for(lambda: (now := ann.request("GET", path).json()).get("state_detail") == "lost" and now,
                        "the fetch to be called lost", patience=40)
        assert (lost["status"], lost["termination"]["type"]) == ("error", "INFRASTRUCTURE")
    finally:
        server.slow = False
        server.held.set()
    server.held.clear()
    assert sync(ann, row)["status"] == "connected"


def test_deleting_ends_the_fetch(ann, server, system):
    server.commit("gone", {"a": "1"})
    row = connect(ann, server.url("gone", "/silent"))
    sync(ann, row, expect=202, params={"wait": 0})
    copy = system.var / "v" / "repositories" / f"{row['id']}.git"
    wait_for(copy.exists, "the copy to be begun")
    ann.delete(f"/repositories/{row['id']}")
    wait_for(lambda: not copy.exists(), "the copy to go")
