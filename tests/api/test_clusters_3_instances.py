"""Clusters looked after by two instances: whichever dies, the other finds them."""


import pytest

from client import person
from cluster_world import Cluster, processes
from stack import Stack, held, wait_for


@pytest.fixture(scope="module")
def pair():
    system = Stack("--instances=clusters=2", "--set=clusters.spark-home=/opt/spark",
                   "--set=clusters.aws-provider=anything", "--set=clusters.ray-python=/usr/bin/python3",
                   "--set=platform.spark-url=http://127.0.0.1:8998")
    system.wait()
    yield system
    assert system.stop() == 0


user = person("two", on="pair")


@pytest.fixture
def cluster(user):
    made = Cluster(user)
    made.running(workers=1)
    yield made
    made.delete()


def test_either_may_die_or_hang(cluster, pair):
    workers = processes(pair, "dask_worker")
    for slot in ("clusters.1", "clusters.2"):
        pair.wait_restarted(slot, pair.kill(slot))
        cluster.user.put(cluster.path, {"name": f"after {slot}"})
        assert cluster.row()["state_detail"] == "running"
    with held(pair.pid("clusters.1")):
        wait_for(lambda: cluster.user.request("POST", f"{cluster.path}/resize", {"num_workers": 2})
                 .status_code == 200, "whoever took over", 30)
        cluster.is_at("running", workers=2)
    assert set(workers) < set(processes(pair, "dask_worker"))
    cluster.stop()
    cluster.is_at("stopped")


def test_a_setting_without_a_driver_is_no_success(user):
    """What the operator has set, but this version can do nothing with, is said, and nothing pretended."""
    profile = user.post("/cloud-profiles", {"name": "p", "provider": "aws", "region": "r"}, expect=201)["id"]
    for fields, setting in (({"compute_type": "spark"}, "clusters.spark-home"),
                            ({"cloud_profile_id": profile, "node_type": "m5.large"}, "clusters.aws-provider")):
        made = Cluster(user, **fields)
        refused = made.start(expect=409)
        assert refused["details"] == {"setting": setting}
        assert refused["error"].startswith("there is no driver for") and setting in refused["error"]
        assert made.row()["status"] == "stopped"
        made.delete()
    refused = user.post("/queries/execute", {"query": "SELECT 1", "engine": "spark"}, expect=409)
    assert refused["details"] == {"engine": "has no driver here", "setting": "platform.spark-url"}


@pytest.mark.parametrize("fields, field", [({"auto_scaling": True}, "auto_scaling"),
                                           ({"cluster_config": {"idle_minutes": 5}}, "cluster_config")])
def test_what_needs_its_load_is_not_promised_for_ray(user, fields, field):
    made = Cluster(user, compute_type="ray", **fields)
    refused = made.start(expect=409)
    assert list(refused["details"]) == [field] and "does not tell its load" in refused["details"][field]
    assert made.row()["state_detail"] == "stopped"
    made.delete()
