"""Local clusters from start to end, and through what may happen to them between."""

import os
import pathlib
import signal

import pytest

from cluster_world import Cluster, processes
from kernel_world import Notebook
from stack import wait_for

SUM = """
from dask.distributed import Client
client = Client()
print(client.submit(sum, range(10)).result(), len(client.scheduler_info()["workers"]))
"""

BUSY = """
import time
from dask.distributed import Client
client = Client()
futures = client.map(lambda n: time.sleep(1), range(60), pure=False)
print(client.gather(futures[:6]) and "some", flush=True)
client.cancel(futures)
"""


@pytest.fixture
def cluster(ann):
    made = Cluster(ann)
    yield made
    made.delete()


@pytest.fixture(scope="module")
def served(ann):
    """One that runs; whoever changes it leaves it running."""
    made = Cluster(ann)
    made.running(workers=1)
    yield made
    made.delete()


@pytest.fixture(scope="module")
def notebook(ann, served):
    made = Notebook(ann)
    ann.put(f"/notebooks/{made.id}", {"cluster_id": served.id})
    return made


def test_a_cluster_runs_once_and_its_owner_hears_of_it(cluster, ann):
    assert cluster.made["status"] == "stopped" and cluster.made["endpoint_url"] is None
    told = ann.live.subscribe("compute_clusters")
    log = ann.live.subscribe(f"compute_clusters/{cluster.id}")
    row = cluster.start()
    assert row["status"] == "starting" and row["live"]["ch"].endswith("/compute_clusters")
    assert cluster.start(expect=409)["details"]["to"] == "provisioning"
    row = cluster.is_at("running", workers=1)
    assert row["status"] == "running" and row["endpoint_url"] == "tcp://127.0.0.1:8786"
    refused = ann.delete(cluster.path, expect=409)
    assert "running" in refused["error"]
    assert cluster.stop()["status"] == "stopped"
    ann.delete(cluster.path)
    ann.get(cluster.path, expect=404)
    frames = told.until(lambda frame: frame.get("type") == "cluster.deleted")
    states = [frame["data"]["state_detail"] for frame in frames
              if frame.get("type") == "cluster.updated" and frame["key"] == cluster.id]
    assert states[:2] == ["provisioning", "starting"] and "running" in states
    log.until(lambda frame: frame.get("data", {}).get("type") == "TERMINATING")


def test_a_cell_computes_there(notebook):
    answer = notebook.run(SUM)
    assert answer["success"] and answer["output"].strip() == "45 1", answer["error"]


def test_nobody_else_reaches_it(ann, served):
    other = Notebook(ann)
    answer = other.run("import os, socket\nprint(os.environ.get('DASK_SCHEDULER_ADDRESS'))\n"
                       "socket.create_connection(('127.0.0.1', 8786), 2)")
    assert answer["output"].startswith("None") and "refused" in answer["error"]
    assert served.row()["status"] == "running"


def test_its_box_holds_nothing_of_the_machine(notebook):
    look = ("import os, socket\n"
            "def look():\n"
            "    found = [path for path in ('/root', '/home', '/var', '/etc/shadow')"
            " if os.path.exists(path)]\n"
            "    return found, os.getuid() != 0, [name for _, name in socket.if_nameindex()]\n"
            "print(client.submit(look, pure=False).result())")
    answer = notebook.run(SUM + look)
    assert answer["output"].splitlines()[1] == "([], True, ['lo'])", answer


def test_workers_come_and_go(served, ann):
    seq = served.row()["state_seq"]
    row = ann.post(f"{served.path}/resize", {"num_workers": 2})
    assert (row["state_detail"], row["num_workers"]) == ("resizing", 2)
    assert served.is_at("running", workers=2)["state_seq"] == seq + 2
    assert ann.put(served.path, {"num_workers": 1})["num_workers"] == 1
    served.is_at("running", workers=1)
    assert served.events()[-4:] == ["RESIZING", "UPSIZE_COMPLETED", "RESIZING", "RUNNING"]


def test_a_killed_worker_is_replaced(served, stack):
    before = wait_for(lambda: only(processes(stack, "dask_worker")), "one worker")
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: "NODES_LOST" in served.events(), "NODES_LOST", 20)
    served.is_at("running", workers=1)
    assert wait_for(lambda: processes(stack, "dask_worker"), "a new worker", 10) != before


def only(found):
    """When there is exactly one: those of clusters that were deleted may still be ending."""
    return found if len(found) == 1 else None


def test_it_survives_the_actor(served, stack, notebook):
    workers, events = processes(stack, "dask_worker"), served.events()
    stack.wait_restarted("clusters", stack.kill("clusters"))
    wait_for(lambda: served.row()["status"] == "running", "the cluster", 15)
    assert processes(stack, "dask_worker") == workers and served.events() == events
    answer = notebook.run(SUM)
    assert answer["output"].strip() == "45 1", answer["error"]
    served.user.post(f"{served.path}/resize", {"num_workers": 2})
    served.is_at("running", workers=2)
    served.user.post(f"{served.path}/resize", {"num_workers": 1})
    served.is_at("running", workers=1)


def test_a_restart_gives_it_new_processes(served, notebook, stack):
    workers = processes(stack, "dask_worker")
    assert served.user.post(f"{served.path}/restart", expect=202)["state_detail"] == "restarting"
    served.is_at("running", workers=1)
    assert not set(workers) & set(processes(stack, "dask_worker"))
    #  The kernel is the old one; its way leads to the new scheduler.
    answer = notebook.run(SUM)
    assert answer["output"].strip() == "45 1", answer["error"]


def test_a_lost_scheduler_is_an_error_that_says_why(served, stack):
    os.kill(processes(stack, "dask_scheduler")[0], signal.SIGKILL)
    row = served.is_at("failed")
    assert row["status"] == "error" and row["endpoint_url"] is None and row["workers"] == 0
    assert row["termination"]["message"] == "the scheduler was ended by signal 9"
    assert served.events()[-1] == "DRIVER_UNAVAILABLE"
    served.running(workers=1)
    assert served.row()["termination"] is None


def test_lost_while_nobody_looked(served, stack):
    pid = stack.pid("clusters")
    os.kill(pid, signal.SIGSTOP)
    for one in processes(stack, "dask_scheduler"):
        os.kill(one, signal.SIGKILL)
    wait_for(lambda: not processes(stack, "dask_worker"), "the end of the box")
    os.kill(pid, signal.SIGKILL)
    row = served.is_at("failed")
    #  Who was stopped for long is replaced, and then somebody did look.
    assert row["termination"]["message"] in ("its processes ended while nobody looked after it",
                                             "the scheduler was ended by signal 9"), row
    served.running(workers=1)


@pytest.mark.parametrize("verb, state", [("start", "running"), ("stop", "stopped"),
                                         ("restart", "running")])
def test_the_actor_dies_on_the_way(cluster, stack, verb, state):
    """Killed right after each request was acknowledged: it goes on where it was."""
    if verb != "start":
        cluster.running(workers=1)
    cluster.user.post(f"{cluster.path}/{verb}", expect=(200, 202))
    stack.wait_restarted("clusters", stack.kill("clusters"))
    row = cluster.is_at(state)
    assert row["status"] == state
    if state == "stopped":
        return
    cluster.is_at("running", workers=1)
    cluster.stop()
    cluster.is_at("stopped")


def test_the_actor_dies_while_its_box_begins(cluster, stack):
    cluster.start()
    wait_for(lambda: cluster.row()["state_detail"] != "provisioning", "the box", 15)
    stack.wait_restarted("clusters", stack.kill("clusters"))
    cluster.is_at("running", workers=1)


def test_nothing_to_do_stops_it(ann):
    idle = Cluster(ann, cluster_config={"idle_minutes": 0.03})
    idle.start()
    row = idle.is_at("stopped")
    assert row["termination"]["code"] == "INACTIVITY" and row["status"] == "stopped"
    assert idle.events()[-2:] == ["RUNNING", "TERMINATING"]
    idle.delete()


def test_load_makes_it_grow_and_rest_shrink(ann):
    elastic = Cluster(ann, auto_scaling=True, min_workers=1, max_workers=3,
                      cluster_config={"scale_down_seconds": 1})
    elastic.running(workers=1)
    notebook = Notebook(ann)
    ann.put(f"/notebooks/{notebook.id}", {"cluster_id": elastic.id})
    execution = notebook.begin(BUSY)
    wait_for(lambda: elastic.row()["workers"] == 3, "3 workers", 40, 0.1)
    assert execution.finish()["success"], execution.row()["error"]
    wait_for(lambda: elastic.row()["workers"] == 1, "1 worker", 40, 0.1)
    causes = [event["details"]["cause"] for event in ann.get(f"{elastic.path}/events")
              if event["type"] == "RESIZING"]
    assert set(causes) == {"autoscaling"}
    elastic.delete()


def test_a_deleted_one_leaves_nothing(ann, stack):
    gone = Cluster(ann)
    gone.running(workers=1)
    notebook = Notebook(ann)
    ann.put(f"/notebooks/{notebook.id}", {"cluster_id": gone.id})
    query = ann.post("/queries", {"name": "q", "query_text": "SELECT 1", "cluster_id": gone.id}, expect=201)
    ann.delete(f"{gone.path}?force=true")
    assert ann.get(f"/notebooks/{notebook.id}")["cluster_id"] is None
    assert ann.get(f"/queries/{query['id']}")["cluster_id"] is None
    sockets = pathlib.Path(stack.var / "v" / "c")
    wait_for(lambda: not [path for path in sockets.iterdir() if gone.id in path.name],
             "the end of its sockets")


def test_the_database_goes_while_it_begins(cluster, stack):
    cluster.start()
    stack.wait_restarted("postgres", stack.kill("postgres"))
    wait_for(lambda: cluster.user.request("GET", cluster.path).status_code == 200, "the database", 30)
    cluster.is_at("running", workers=1)
