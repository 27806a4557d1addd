"""Local clusters of a real Ray, installed from PyPI into the build directory."""

import os
import pathlib
import socket
import subprocess
import sys
import threading

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "api"), str(HERE.parents[1] / "proto" / "python")]

from client import person  # noqa: E402
from cluster_world import Cluster, processes  # noqa: E402
from stack import Stack, wait_for  # noqa: E402

PLACE = pathlib.Path(os.environ.get("BUSBAR_BUILD", HERE.parents[1] / "build")).resolve() / "engines" / "ray"
RAY = "ray[client]==2.40.0"
PROGRAM = """
import sys, ray
ray.init(sys.argv[1])
print(sum(ray.get([ray.remote(lambda n: n * n).remote(n) for n in range(10)])))
"""


@pytest.fixture(scope="module")
def python():
    """A python that has ray: BUSBAR_RAY_PYTHON, or one that is made here once."""
    given = os.environ.get("BUSBAR_RAY_PYTHON")
    if given:
        return given
    made = PLACE / "bin" / "python"
    try:
        if not made.exists():
            subprocess.run(["/usr/bin/python3", "-m", "venv", str(PLACE)], check=True, timeout=120)
        subprocess.run([str(made), "-m", "pip", "install", "-q", RAY], check=True, timeout=900)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"PyPI does not give Ray: {error}")
    return str(made)


@pytest.fixture(scope="module")
def stack(python):
    system = Stack(f"--set=clusters.ray-python={python}", "--set=clusters.worker-memory=2048",
                   "--set=clusters.cluster-start=180")
    system.wait()
    yield system
    system.stop()


user = person("ray", on="stack")


@pytest.fixture(scope="module")
def cluster(user):
    made = Cluster(user, compute_type="ray")
    made.start()
    made.is_at("running", patience=240, workers=1)
    yield made
    made.delete()


def relayed(path):
    """A port of this machine that leads to the cluster's socket, as in a notebook's sandbox."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        target.close()

    def serve():
        while True:
            inner, _ = listener.accept()
            outer = socket.socket(socket.AF_UNIX)
            outer.connect(str(path))
            for pair in ((inner, outer), (outer, inner)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def test_a_program_computes_there(cluster, stack, python):
    assert cluster.row()["endpoint_url"] == "ray://127.0.0.1:10001"
    port = relayed(stack.var / "v" / "c" / f"{cluster.id}.r")
    done = subprocess.run([python, "-c", PROGRAM, f"ray://127.0.0.1:{port}"], timeout=240,
                          capture_output=True, text=True, check=False)
    #  Behind what Ray itself has to say.
    assert done.stdout.split()[-1:] == ["285"], done.stdout + done.stderr[-3000:]


def test_it_survives_the_actor_and_ends(cluster, stack, user):
    stack.wait_restarted("clusters", stack.kill("clusters"))
    wait_for(lambda: cluster.row()["status"] == "running", "the cluster", 30)
    cluster.stop()
    cluster.is_at("stopped")
    user.delete(cluster.path)
    assert not processes(stack, "ray")
