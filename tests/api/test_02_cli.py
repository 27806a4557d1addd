"""The commands beside `up`: what they print and what they exit with."""

import json
import re
import subprocess
import tarfile

import pytest

from client import User
from stack import BIN, HOME, Stack, wait_for

PASSWORD = "Correct-horse-7-battery"
COMMANDS = ("up", "call", "sub", "routes", "top", "actor", "token", "key", "migrate", "backup",
            "restore")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(stack, command):
    assert f"usage: busbar {command}" in stack.busbar(command, "--help")


def test_wrong_usage_is_2(stack):
    stack.busbar(expect=2)
    stack.busbar("dance", expect=2)
    stack.busbar("call", expect=2)
    stack.busbar("call", "broker.stats", "novalue", expect=2)
    stack.busbar("sub", "notebooks", expect=2)
    stack.busbar("migrate", "sideways", expect=2)
    stack.busbar("routes", "--nonsense", expect=2)


def test_nobody_there_is_3(stack, tmp_path):
    stack.busbar("call", "broker.stats", "--var", str(tmp_path), expect=3)


def test_call_prints_the_answer_and_exits_by_it(stack):
    assert json.loads(stack.busbar("call", "broker.stats"))["peers"] > 0
    answer = json.loads(stack.busbar("call", "nobody.knows", expect=1))
    assert answer["code"] == "NOT_FOUND"


def test_call_takes_json_and_text_and_files(stack, ann, tmp_path):
    made = json.loads(stack.busbar("call", "workspaces.create", "--as", ann.id, "name=from the shell",
                                   'tags=["a", "b"]'))
    assert made["name"] == "from the shell" and made["tags"] == ["a", "b"]
    assert ann.get(f"/workspaces/{made['id']}")["name"] == "from the shell"
    body = tmp_path / "body.json"
    body.write_text('{"name": "from a file"}')
    made = json.loads(stack.busbar("call", "workspaces.create", f"@{body}", "--as", ann.id))
    assert made["name"] == "from a file"
    made = json.loads(stack.busbar("call", "workspaces.create", "-", "--as", ann.id,
                                   text='{"name": "from stdin"}'))
    assert made["name"] == "from stdin"
    stack.busbar("call", "workspaces.create", "-", "--as", ann.id, text='{"name": ', expect=2)
    got = json.loads(stack.busbar("call", "workspaces.get", f"id={made['id']}", "--as", ann.id))
    assert got["id"] == made["id"]


def test_token_opens_the_edge(stack, ann):
    token = stack.busbar("token", "--user", ann.user["email"]).strip()
    assert User(stack.base, token).get("/auth/me")["id"] == ann.id
    stack.busbar("token", "--user", "nobody@example.org", expect=1)


def test_routes_lists_methods_and_paths(stack):
    text = stack.busbar("routes")
    assert re.search(r"^workspaces\.create +POST +/workspaces ", text, re.M)
    rows = [json.loads(line) for line in stack.busbar("routes", "--json").splitlines()]
    assert any(row.get("method") == "workspaces.create" and row["verb"] == "POST" for row in rows)


def test_top_shows_processes_and_methods(stack, ann):
    ann.get("/workspaces")
    text = stack.busbar("top", "--once")
    assert re.search(r"^identity\.1 +\d+ ", text, re.M)
    assert re.search(r"^platform\.1 workspaces\.list +\d+ ", text, re.M)


def test_sub_replays_and_follows(stack, sign_up):
    user = sign_up("listener")
    first = user.post("/workspaces", {"name": "one"}, expect=(200, 201))
    channel = f"user:{user.id}/workspaces"
    lines = stack.busbar("sub", channel, "--from", "0", "--count", "1").splitlines()
    event = json.loads(lines[0])
    assert (event["ch"], event["off"], event["key"]) == (channel, 1, first["id"])
    follow = stack.start_busbar("sub", channel, "--from", "1", "--count", "3")
    try:
        for name in ("two", "three", "four"):
            user.post("/workspaces", {"name": name}, expect=(200, 201))
        out, _ = follow.communicate(timeout=20)
    finally:
        follow.kill()
        follow.wait()
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["off"] for event in events] == [2, 3, 4]
    assert [event["data"]["name"] for event in events] == ["two", "three", "four"]


def test_sub_goes_on_when_broker_and_owner_are_killed(stack, sign_up):
    user = sign_up("survivor")
    channel = f"user:{user.id}/workspaces"
    follow = stack.start_busbar("sub", channel, "--from", "0", "--count", "6")
    try:
        made = 0
        for victim in (None, "broker", "platform"):
            if victim:
                stack.wait_restarted(victim, stack.kill(victim))
            for _ in range(2):
                wait_for(lambda: user.request("POST", "/workspaces", {"name": f"n{made}"})
                         .status_code in (200, 201), "a workspace", 20)
                made += 1
        out, _ = follow.communicate(timeout=30)
    finally:
        follow.kill()
        follow.wait()
    offsets = [json.loads(line)["off"] for line in out.splitlines()]
    assert offsets == [1, 2, 3, 4, 5, 6]


def test_actor_runs_beside_the_system_and_is_known_everywhere(stack, tmp_path):
    running = stack.start_busbar("actor", str(HOME / "tools" / "examples" / "hello_actor.py"))
    try:
        anyone = User(stack.base)
        wait_for(lambda: anyone.request("GET", "/hello/Ann").status_code == 200, "hello", 15)
        assert anyone.get("/hello/Ann") == {"text": "hello, Ann"}
        assert json.loads(stack.busbar("call", "hello.greet", "name=Bob")) == {"text": "hello, Bob"}
        assert "/hello/{name}" in anyone.get("/openapi.json")["paths"]
    finally:
        running.terminate()
        assert running.wait(20) == 0


def test_root_may_keep_its_actor_where_nobody_else_walks(stack, tmp_path):
    example = HOME / "tools" / "examples" / "hello_actor.py"
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    copy = closed / "own_actor.py"
    copy.write_text(example.read_text().replace('"hello"', '"own"').replace("/hello/", "/own/"))
    copy.chmod(0o600)
    running = stack.start_busbar("actor", str(copy))
    try:
        anyone = User(stack.base)
        wait_for(lambda: anyone.request("GET", "/own/Ann").status_code == 200, "the actor", 15)
    finally:
        running.terminate()
        assert running.wait(20) == 0


def test_key_new_makes_a_pair(stack):
    path = stack.busbar("key", "new", "reporter", "--role", "client").strip()
    assert path.endswith("/v/keys/reporter.key")
    stack.busbar("key", "new", "reporter", "--role", "client", expect=1)
    stack.busbar("key", "new", "x", "--role", "king", expect=1)


def test_migrations_go_down_and_up_again():
    system = Stack().wait()
    try:
        status = system.busbar("migrate", "status")
        assert "0001_base" in status
        last = [line for line in status.splitlines() if line.strip()][-1]
        system.process.terminate()
        assert system.process.wait(45) == 0
        system.busbar("migrate", "down")
        assert system.busbar("migrate", "status") != status
        system.busbar("migrate", "up")
        assert len(system.busbar("migrate", "status").splitlines()) == len(status.splitlines()), last
    finally:
        system.stop()


def test_a_backup_restores_rows_and_changes_every_epoch(tmp_path):
    system = Stack().wait()
    file = tmp_path / "backup.tar"
    try:
        user = User(system.base)
        body = {"email": "kept@example.org", "password": PASSWORD}
        user.token = user.post("/auth/signup", body, expect=(200, 201))["token"]
        before = user.post("/workspaces", {"name": "before"}, expect=(200, 201))
        epoch = before["live"]["epoch"]
        system.busbar("backup", str(file))
        assert {"./busbar.dump", "./roles.sql"} <= set(tarfile.open(file).getnames())
        after = user.post("/workspaces", {"name": "after"}, expect=(200, 201))
        assert after["live"]["epoch"] == epoch
        assert "stop it first" in subprocess.run(
            [str(BIN / "busbar"), "restore", str(file), "--var", str(system.var / "v")],
            capture_output=True, text=True, check=False).stderr
        system.process.terminate()
        assert system.process.wait(45) == 0
        system.busbar("restore", str(file))
        again = Stack(var=system.var).wait()
        try:
            user = User(again.base)
            user.token = user.post("/auth/signin", body)["token"]
            assert [row["name"] for row in user.get("/workspaces")] == ["before"]
            made = user.post("/workspaces", {"name": "new"}, expect=(200, 201))
            assert made["live"]["epoch"] != epoch
        finally:
            assert again.stop() == 0
    finally:
        system.stop()
