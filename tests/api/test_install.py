"""What `make install` puts somewhere runs from there, with nothing of the tree around it."""

import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

import pytest

import stack as tree
from client import User

BUILD = tree.BIN.parent

pytestmark = pytest.mark.skipif(not (tree.BIN / "busbar-edge").exists(), reason="nothing is built")


def make(root, *arguments):
    """`make` with the programs that are built already; `all` is taken as done."""
    done = subprocess.run(["make", "-s", "-o", "all", f"BUILD={BUILD}", f"DESTDIR={root}",
                           *arguments], cwd=tree.HOME, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def root():
    """Directory that everything was installed under; any user can walk there."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="bbi", dir="/tmp"))
    directory.chmod(0o755)
    make(directory, "install")
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def installed(root):
    """A system running from there, with an actor of its examples."""
    settings = root / "etc/busbar/busbar.env"
    settings.write_text(settings.read_text() + "ENVIRONMENT=installed\n"
                        'BUSBAR_SET="platform.spark-url=http://spark.example.org\\nclusters.local-workers=3"\n')
    patch = pytest.MonkeyPatch()
    patch.setattr(tree, "BIN", root / "usr/bin")
    system = tree.Stack("--actor", str(root / "usr/share/busbar/tools/examples/hello_actor.py"),
                        environment={"BUSBAR_HOME": ""}, easy=False)     # flags would win over BUSBAR_SET
    yield system.wait()
    assert system.stop() == 0
    patch.undo()


@pytest.fixture(scope="module")
def ann(installed):
    user = User(installed.base)
    body = user.post("/auth/signup", {"email": "ann@example.org", "name": "Ann",
                                      "password": "Correct-horse-7-battery"}, expect=(200, 201))
    user.token = body["token"]
    yield user
    user.close()


def test_serves(ann):
    made = ann.post("/workspaces", {"name": "first"}, expect=(200, 201))
    assert [row["id"] for row in ann.get("/workspaces")] == [made["id"]]


def test_finds_its_python_package(installed, ann):
    tree.wait_for(lambda: "hello" in installed.busbar("routes"), "the example actor")
    assert ann.get("/hello/Ann") == {"text": "hello, Ann"}


def test_reads_its_settings_file(ann):
    assert ann.get("/health")["environment"] == "installed"
    refused = ann.post("/queries/execute", {"query": "SELECT 1", "engine": "spark"}, expect=409)
    assert refused["details"]["engine"] == "has no driver here"
    cluster = ann.post("/compute-clusters", {"name": "c", "compute_type": "dask", "num_workers": 4}, expect=201)
    assert "is 3" in ann.post(f"/compute-clusters/{cluster['id']}/start", expect=409)["error"]


def test_commands_find_the_running_system(installed, ann):
    assert installed.busbar("token", "--user", "ann@example.org").count(".") == 2


def test_manual_and_completion(root):
    assert (root / "usr/share/man/man1/busbar.1").exists()
    script = f". {root}/usr/share/bash-completion/completions/busbar; " \
        "COMP_WORDS=(busbar mig); COMP_CWORD=1; _busbar; echo ${COMPREPLY[*]}; " \
        "COMP_WORDS=(busbar up --inst); COMP_CWORD=2; _busbar; echo ${COMPREPLY[*]}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True,
                          env={"PATH": f"{root}/usr/bin:/usr/bin:/bin"})
    assert done.stdout.split() == ["migrate", "--instances"]


def test_conform_runs_from_there(root):
    script = root / "usr/share/busbar/tools/conform/python_client.py"
    done = subprocess.run([root / "usr/bin/busbar", "conform", "client", "/usr/bin/python3", script],
                          cwd="/", env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
                          check=False, timeout=120)
    assert done.returncode == 0 and " passed, 0 failed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("page", ["man1/busbar.1", "man7/busbar-actor.7"])
def test_manual_pages_have_no_errors(root, page):
    path = root / "usr/share/man" / page
    tools = {"man": ["--warnings", "--encoding=UTF-8", "-l"], "mandoc": ["-Tlint", "-Wwarning"]}
    there = [name for name in tools if shutil.which(name)]
    if not there:
        pytest.skip("neither man nor mandoc is installed")
    for name in there:
        done = subprocess.run([name, *tools[name], path], capture_output=True, text=True, check=False)
        said = done.stderr + (done.stdout if name == "mandoc" else "")
        assert done.returncode == 0 and not said, said


def test_every_command_is_in_the_manual(root):
    text = subprocess.run([root / "usr/bin/busbar", "--help"], capture_output=True, text=True,
                          check=True).stdout
    commands = [line.split()[0] for line in text.splitlines() if line.startswith("  ")]
    page = (root / "usr/share/man/man1/busbar.1").read_text()
    assert len(commands) >= 12
    assert [name for name in commands if f".B {name}" not in page] == []


def test_unit_names_what_is_installed(root):
    unit = (root / "usr/lib/systemd/system/busbar.service").read_text()
    assert "ExecStart=/usr/bin/busbar up" in unit and "@" not in unit.replace("@system-service", "") \
        .replace("@mount", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_becomes_who_keeps_the_secrets(root):
    keeper = pwd.getpwnam("nobody")
    var = pathlib.Path(tempfile.mkdtemp(prefix="bbk", dir="/tmp"))
    try:
        (var / "secrets").mkdir(mode=0o700)
        for path in (var, var / "secrets"):
            os.chown(path, keeper.pw_uid, keeper.pw_gid)
        subprocess.run([root / "usr/bin/busbar", "key", "new", "probe", "--var", var], check=True,
                       stdout=subprocess.DEVNULL, cwd="/")
        owners = {path.stat().st_uid for path in [var, *var.rglob("*")]}
        assert owners == {keeper.pw_uid}
    finally:
        shutil.rmtree(var)


def test_uninstall_leaves_only_the_settings():
    directory = pathlib.Path(tempfile.mkdtemp(prefix="bbu", dir="/tmp"))
    try:
        make(directory, "install")
        make(directory, "uninstall")
        left = [str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()]
        assert left == ["etc/busbar/busbar.env"]
    finally:
        shutil.rmtree(directory)
