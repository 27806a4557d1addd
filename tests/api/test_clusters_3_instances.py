"""Clusters looked after by two instances: whichever dies, the other finds them."""

import os
import signal

import pytest

from client import User
from cluster_world import Cluster, processes
from stack import Stack, wait_for


@pytest.fixture(scope="module")
def pair():
    system = Stack("--instances=clusters=2")
    system.wait()
    yield system
    assert system.stop() == 0


@pytest.fixture
def cluster(pair):
    user = User(pair.base)
    user.token = user.post("/auth/signup", {"email": "two@example.org", "name": "two",
                                            "password": "Correct-horse-7-battery"},
                           expect=201)["token"]
    made = Cluster(user)
    made.running(workers=1)
    yield made
    made.delete()
    user.close()


def test_either_may_die_or_hang(cluster, pair):
    workers = processes(pair, "dask_worker")
    for slot in ("clusters.1", "clusters.2"):
        pair.wait_restarted(slot, pair.kill(slot))
        cluster.user.put(cluster.path, {"name": f"after {slot}"})
        assert cluster.row()["state_detail"] == "running"
    pid = pair.pid("clusters.1")
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: cluster.user.request("POST", f"{cluster.path}/resize", {"num_workers": 2})
                 .status_code == 200, "whoever took over", 30)
        cluster.is_at("running", workers=2)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert set(workers) < set(processes(pair, "dask_worker"))
    cluster.stop()
    cluster.is_at("stopped")
