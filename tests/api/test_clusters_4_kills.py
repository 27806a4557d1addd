"""A cluster through kills at every state, of the actor and of all that it is made of. On a system of its own: one whose
actors end too often stops."""

import signal

import pytest

from client import person
from cluster_world import Cluster
from kernel_world import descendants
from stack import Stack, family, held, tell, wait_for

PARTS = {"scheduler": "distributed.cli.dask_scheduler", "worker": "distributed.cli.dask_worker",
         "keeper": "/usr/bin/python3\0-I\0", "box": "/usr/bin/bwrap"}


def parts(stack, part):
    """Pids of these processes of clusters; kernels have boxes, too."""
    everything = descendants(stack.process.pid)
    if part == "spawner":
        actor = stack.pid("clusters")
        return [pid for pid in family(actor)[1:] if "busbar-clusters" in everything.get(pid, "")]
    return sorted(pid for pid, line in everything.items() if PARTS[part] in line
                  and (part != "box" or '"kind":"dask"' in line) and (part != "keeper" or '"dask"' in line))


def stopped(stack, part):
    """They stand still meanwhile, and so does the state that waits for them."""
    return held(*wait_for(lambda: parts(stack, part), part))


def kill_actor(stack):
    stack.wait_restarted("clusters", stack.kill("clusters"))


def nothing_left(stack):
    wait_for(lambda: not [part for part in PARTS if parts(stack, part)], "the end of all processes", 30)


@pytest.fixture(scope="module")
def stack():
    system = Stack().wait()
    yield system
    assert system.stop() == 0


ann = person("ann", on="stack")


@pytest.fixture
def cluster(ann):
    made = Cluster(ann)
    yield made
    made.delete()


def test_the_actor_is_killed_in_every_state(cluster, stack):
    user, path = cluster.user, cluster.path
    with stopped(stack, "spawner"):
        cluster.start()
        assert cluster.row()["state_detail"] == "provisioning"
        kill_actor(stack)
    with stopped(stack, "scheduler"):
        cluster.is_at("starting")
        kill_actor(stack)
        assert cluster.row()["state_detail"] == "starting"
    cluster.is_at("running", workers=1)
    scheduler = parts(stack, "scheduler")
    kill_actor(stack)
    cluster.is_at("running", workers=1)
    with stopped(stack, "scheduler"):
        user.post(f"{path}/resize", {"num_workers": 2})
        kill_actor(stack)
        assert cluster.row()["state_detail"] == "resizing"
    cluster.is_at("running", workers=2)
    assert parts(stack, "scheduler") == scheduler and len(parts(stack, "worker")) == 2
    with stopped(stack, "keeper"):
        user.post(f"{path}/restart", expect=202)
        kill_actor(stack)
    cluster.is_at("running", workers=2)
    assert len(parts(stack, "scheduler")) == 1 and parts(stack, "scheduler") != scheduler
    with stopped(stack, "keeper"):
        cluster.stop()
        kill_actor(stack)
        row = cluster.is_at("stopped")
    assert row["status"] == "stopped"
    nothing_left(stack)
    assert cluster.events() == ["STARTING", "RUNNING", "RESIZING", "UPSIZE_COMPLETED", "RESTARTING", "CREATING",
                                "RUNNING", "TERMINATING"]


def test_the_actor_is_killed_while_it_deletes(cluster, stack):
    cluster.running(workers=1)
    with stopped(stack, "keeper"):
        cluster.delete()
        kill_actor(stack)
    cluster.user.get(cluster.path, expect=404)
    nothing_left(stack)


@pytest.mark.parametrize("part, why", [("scheduler", "the scheduler was ended by signal 9"), ("keeper", "ended"),
                                       ("box", "ended")])
def test_what_it_cannot_do_without_is_killed(cluster, stack, part, why):
    cluster.running(workers=1)
    tell(parts(stack, part), signal.SIGKILL)
    row = cluster.is_at("failed")
    assert row["status"] == "error" and row["termination"]["code"] == "DRIVER_ERROR", row
    assert row["termination"]["message"] and why in row["termination"]["message"], row
    assert cluster.events()[-1] == "DRIVER_UNAVAILABLE"
    nothing_left(stack)
    cluster.running(workers=1)


def test_what_started_it_is_killed(cluster, stack):
    """It goes on, and whoever looks after it finds it again."""
    cluster.running(workers=1)
    before, old = parts(stack, "worker"), stack.pid("clusters")
    tell(parts(stack, "spawner"), signal.SIGKILL)
    stack.wait_restarted("clusters", old)
    tell(before, signal.SIGKILL)
    wait_for(lambda: "NODES_LOST" in cluster.events(), "its loss to be told")
    cluster.is_at("running", workers=1)
    assert parts(stack, "worker") != before
