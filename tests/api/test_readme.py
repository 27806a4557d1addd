"""The README's tour, word by word but for the port: what it says is so."""

import os
import re
import subprocess

import pytest

from client import User, objects
from stack import BIN, HOME, wait_for

PATIENCE = 180


def blocks():
    """{heading: [commands]} of the README."""
    found, heading = {}, None
    for heading, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", (HOME / "README.md").read_text(), re.M | re.S):
        found[heading] = re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)
    return found


@pytest.fixture(scope="module")
def shell(stack, tmp_path_factory):
    """run(heading) → what its blocks print, in one shell after the first one's settings."""
    home = tmp_path_factory.mktemp("readme")
    (home / "build").mkdir()
    (home / "build" / "bin").symlink_to(BIN)
    (home / "tools").symlink_to(HOME / "tools")
    subprocess.run([str(HOME / "tools" / "demo.py"), stack.base], check=True, timeout=PATIENCE,
                   stdout=subprocess.DEVNULL)
    environment = {**os.environ, "BUSBAR_HOME": str(HOME), "BUSBAR_VAR": str(stack.var / "v")}
    written = blocks()
    #  The first block is `make run`; the second asks for a token, and runs a cell.
    settings = written["Two minutes"][1].split("\ncurl ")[0]

    def run(heading, first=0):
        script = "\n".join(["set -eu -o pipefail", settings, *written[heading][first:]])
        done = subprocess.run(["bash", "-c", script.replace("127.0.0.1:8002", f"127.0.0.1:{stack.port}")],
                              cwd=home, env=environment, capture_output=True, text=True, timeout=PATIENCE,
                              check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_two_minutes(shell):
    begun, *events = objects(shell("Two minutes", 1))
    assert begun["state"] in ("queued", "running") and begun["live"]["ch"].endswith(begun["execution_id"])
    assert len(events) == 4 and {event["ch"] for event in events} == {begun["live"]["ch"]}
    assert events[2]["data"]["text"].startswith("0\n")


def test_a_cluster_from_a_cell(shell, stack):
    demo = User(stack.base, stack.busbar("token", "--user", "demo@example.org").strip())
    wait_for(lambda: not [row for row in demo.get("/executions") if row["success"] is None], "the first cell's end", 30)
    demo.close()
    starting, begun, ready, ran = objects(shell("A cluster from a cell"))
    assert starting["status"] == "starting"
    assert (begun["data"]["type"], ready["data"]["type"]) == ("STARTING", "RUNNING")
    assert ran.get("success") and ran["output"] == "332833500\n", ran


def test_statements(shell):
    answer, running, rows, ended = objects(shell("Statements"))
    assert answer["data"]["rows"][2] == {"n": 3, "times": 21}
    assert running["data"]["state"] == "running" and ended["data"]["state"] == "succeeded"
    assert sum(row["count"] for row in rows["data"]["rows"]) == 40


def test_data_sources_and_the_catalogue(shell):
    (tested,) = objects(shell("Data sources and the catalogue"))
    assert tested["success"] is False and tested["steps"][0]["name"] == "resolve"


def test_jobs(shell):
    *events, runs = objects(shell("Jobs"))
    assert [event["type"] for event in events] == [
        "job_run.queued", "job_run.running", "job_task.running", "job_run.log", "job_task.succeeded",
        "job_run.log", "job_run.succeeded"]
    assert [run["status"] for run in runs] == ["success"]


def test_pipelines_and_repositories(shell):
    deployed, run = objects(shell("Pipelines and repositories"))
    assert deployed["status"] == "active" and run["job_id"] == deployed["job_id"]
    assert run["live"]["ch"].endswith(run["id"])
