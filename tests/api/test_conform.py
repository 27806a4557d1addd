"""`busbar conform`: our own clients and example actor keep to PROTOCOL.md, and one in another language."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from stack import BIN, HOME

BUILD = pathlib.Path(os.environ.get("BUSBAR_BUILD", HOME / "build")) / "clients"
CONFORM = HOME / "tools" / "conform"


def conform(*command):
    done = subprocess.run([BIN / "busbar", "conform", *map(str, command)], capture_output=True, text=True,
                          timeout=240, check=False, env={**os.environ, "BUSBAR_HOME": str(HOME)})
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, verdict = done.stdout.splitlines()
    assert verdict == f"{len(lines)} passed, 0 failed", done.stdout
    assert len(lines) >= 20


def npm(directory):
    """What the lock file names, installed once; skips when there is no way to have it."""
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    if (directory / "node_modules").is_dir():
        return
    done = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=directory,
                          capture_output=True, text=True, timeout=180, check=False)
    if done.returncode:
        shutil.rmtree(directory / "node_modules", ignore_errors=True)
        pytest.skip("the npm registry gives nothing: " + done.stderr.strip().splitlines()[-1][:200])


def test_the_python_client():
    conform("client", sys.executable, CONFORM / "python_client.py")


def test_a_client_in_javascript():
    shutil.copytree(HOME / "tests" / "clients", BUILD, dirs_exist_ok=True)
    npm(BUILD)
    conform("client", "node", BUILD / "driver.mjs")


def test_a_python_actor():
    conform("actor", sys.executable, HOME / "tools" / "examples" / "conform_actor.py")


def test_an_actor_made_with_the_kit():
    actor = BIN.parent / "test" / "conform_actor"
    if not actor.exists():
        pytest.skip(f"{actor} is not built")
    conform("actor", sys.executable, HOME / "tests" / "clients" / "with_database.py", actor)


def test_what_does_not_keep_to_it_is_found_out():
    done = subprocess.run([BIN / "busbar", "conform", "client", "true"], capture_output=True, text=True,
                          timeout=60, check=False, env={**os.environ, "BUSBAR_HOME": str(HOME)})
    assert done.returncode == 1
    assert "FAILED  says when it is ready" in done.stdout


@pytest.mark.parametrize("arguments", [[], ["client"], ["robot", "cat"]])
def test_wrong_usage(arguments):
    done = subprocess.run([BIN / "busbar", "conform", *arguments], capture_output=True, text=True,
                          timeout=60, check=False, env={**os.environ, "BUSBAR_HOME": str(HOME)})
    assert done.returncode == 2 and "conform" in done.stderr
