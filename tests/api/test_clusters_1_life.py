"""Local clusters from start to end."""

import pytest

from cluster_world import Cluster
from kernel_world import Notebook


@pytest.fixture
def cluster(ann):
    made = Cluster(ann)
    yield made
    made.delete()


def test_a_cluster_runs(cluster, ann):
    assert cluster.made["status"] == "stopped" and cluster.made["endpoint_url"] is None
    row = cluster.start()
    assert row["status"] == "starting" and row["live"]["ch"].endswith("/compute_clusters")
    assert ann.post(f"{cluster.path}/start", expect=409)["details"]["to"] == "provisioning"
    row = cluster.is_at("running", workers=1)
    assert row["status"] == "running" and row["endpoint_url"] == "tcp://127.0.0.1:8786"
    assert ann.delete(cluster.path, expect=409)["code"] == "CONFLICT"
    assert cluster.stop()["status"] == "stopped"
    ann.delete(cluster.path)
    ann.get(cluster.path, expect=404)


SUM = """
from dask.distributed import Client
import os
client = Client()
print(client.submit(sum, range(10)).result(), len(client.scheduler_info()["workers"]))
"""


def test_a_cell_computes_there(cluster, ann):
    cluster.running()
    notebook = Notebook(ann)
    ann.put(f"/notebooks/{notebook.id}", {"cluster_id": cluster.id})
    answer = notebook.run(SUM)
    assert answer["success"] and answer["output"].strip() == "45 1", answer["error"]
