"""busbar up: it says when it is ready, keeps things running, tells nobody its secrets, leaves nothing."""

import os
import pathlib
import signal
import socket
import stat
import subprocess

import pytest

from client import User
from stack import BIN, HOME, Stack, free_port, wait_for

PASSWORD = "Correct-horse-7-battery"


def command_line(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def processes_below(var):
    """Pids whose command line or working directory lies below var."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            here = os.readlink(entry / "cwd")
        except OSError:
            here = ""
        if str(var) in command_line(entry.name) or here.startswith(str(var)):
            found.append((int(entry.name), command_line(entry.name)))
    return found


def run_up(*arguments, environment=None, timeout=30):
    return subprocess.run([str(BIN / "busbar"), "up", *arguments], capture_output=True, text=True,
                          timeout=timeout, check=False,
                          env={**os.environ, "BUSBAR_HOME": str(HOME), **(environment or {})})


@pytest.fixture(scope="module")
def system():
    """One to be hurt, apart from the one that other tests share."""
    system = Stack("--instances", "edge=2", "--instances", "identity=2")
    system.wait()
    yield system
    assert system.stop() == 0


def test_it_says_where_it_is_ready(system):
    assert system.ready == f"ready http://127.0.0.1:{system.port}"
    assert User(system.base).get("/health/ready")


def test_instances_are_as_many_as_asked(system):
    slots = {row["slot"] for row in system.processes()}
    assert {"edge.1", "edge.2", "identity.1", "identity.2", "broker", "postgres"} <= slots


def test_no_secret_is_in_an_argument_or_in_an_environment(system):
    secrets = [path.read_text().strip() for path in (system.var / "v" / "secrets").iterdir()]
    assert len(secrets) > 3
    for row in system.processes():
        seen = command_line(row["pid"]) \
            + pathlib.Path(f"/proc/{row['pid']}/environ").read_bytes().decode()
        assert not [secret for secret in secrets if secret in seen], row["slot"]
        assert "password" not in command_line(row["pid"]).lower()


def test_secrets_are_for_their_owner_alone(system):
    for path in [system.var / "v" / "secrets", *(system.var / "v" / "secrets").iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    for name in ("run", "keys", "pg"):
        assert stat.S_IMODE((system.var / "v" / name).stat().st_mode) & 0o077 == 0, name


def test_nothing_but_kernels_runs_as_root(system):
    for row in system.processes():
        owner = os.stat(f"/proc/{row['pid']}").st_uid
        assert owner == (os.geteuid() or owner) and (owner or row["name"] == "kernels"), row


def test_what_is_dropped_to_cannot_take_the_place_of_what_is_ours(system):
    var = (system.var / "v").stat()
    assert var.st_uid == os.geteuid() and not var.st_mode & stat.S_IWOTH
    assert var.st_mode & stat.S_ISVTX or not var.st_mode & stat.S_IWGRP


@pytest.mark.parametrize("name", ["broker", "identity.1", "edge.1", "postgres"])
def test_what_is_killed_comes_back_and_serves(system, name):
    system.wait_restarted(name, system.kill(name))
    email = f"{name.replace('.', '-')}@example.org"
    user = User(system.base)

    def signs_up():
        try:
            return user.request("POST", "/auth/signup",
                                {"email": email, "password": PASSWORD}).status_code in (200, 201, 409)
        except Exception:
            return False

    wait_for(signs_up, f"a sign-up after {name} was killed", 20)


def test_a_second_supervisor_is_refused(system):
    done = run_up("--var", str(system.var / "v"), "--port", "0")
    assert done.returncode == 1
    assert f"another busbar is running in {system.var}/v" in done.stderr


def test_a_taken_port_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_up("--var", "/tmp/bbtaken", "--port", str(port))
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr
    subprocess.run(["rm", "-rf", "/tmp/bbtaken"], check=True)


@pytest.mark.parametrize("arguments, environment, code, text", [
    (["--var", "/tmp/" + "x" * 80], {}, 1, "choose a shorter --var"),
    (["--var", "/tmp/bbbad"], {"JWT_SECRET": "short"}, 2, "must have at least 32"),
    (["--var", "/tmp/bbbad", "--instances", "nobody=2"], {}, 2, "there is no such actor"),
    (["--var", "/tmp/bbbad", "--instances", "edge=many"], {}, 2, "must be 0 to 64"),
    (["--var", "/tmp/bbbad", "--port", "70000"], {}, 2, "must be 0 to 65535"),
    (["--var", "/tmp/bbbad", "--port", "x"], {}, 2, "must be a whole number"),
    (["--var", "/tmp/bbbad", "--tls-cert", "/nowhere"], {}, 2, "come together"),
    (["--var", "/tmp/bbbad"], {"DATABASE_URL": "mysql://nowhere"}, 1,
     "DATABASE_URL is not a PostgreSQL address"),
    (["surplus"], {}, 2, "up takes options only"),
])
def test_what_cannot_be_is_said_at_once(arguments, environment, code, text):
    done = run_up(*arguments, environment={"PORT": str(free_port()), **environment})
    subprocess.run(["rm", "-rf", "/tmp/bbbad"], check=True)
    assert (done.returncode, text in done.stderr) == (code, True), done.stderr


def test_a_stopped_system_leaves_nothing_and_keeps_its_data(tmp_path):
    system = Stack().wait()
    try:
        user = User(system.base)
        body = {"email": "stays@example.org", "password": PASSWORD}
        user.post("/auth/signup", body, expect=(200, 201))
        var = system.var / "v"
        system.process.send_signal(signal.SIGTERM)
        assert system.process.wait(45) == 0
        assert processes_below(var) == []
        again = Stack(var=system.var).wait()
        try:
            again_user = User(again.base)
            assert again_user.post("/auth/signin", body)["token"]
        finally:
            assert again.stop() == 0
    finally:
        system.stop()


def test_a_killed_supervisor_leaves_nothing():
    system = Stack().wait()
    var = system.var / "v"
    try:
        assert processes_below(var)
        system.process.kill()
        system.process.wait()
        wait_for(lambda: not processes_below(var), "the end of every process", 20)
    finally:
        system.stop()


def test_what_will_not_stay_up_stops_everything(tmp_path):
    broken = pathlib.Path("/tmp") / f"bbbroken{os.getpid()}.py"
    broken.write_text("raise SystemExit(7)\n")
    broken.chmod(0o644)
    system = Stack("--actor", str(broken))
    try:
        assert system.process.wait(90) == 1
        assert "ended too often, everything is stopped" in system.log_text()
        assert f"slot={broken.stem}" in system.log_text()
        assert processes_below(system.var / "v") == []
    finally:
        system.stop()
        broken.unlink()
