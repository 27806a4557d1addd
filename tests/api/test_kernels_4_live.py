"""What listeners learn of kernels and executions besides their output."""

import pytest

from client import LiveError, signed_up
from kernel_world import Notebook
from stack import Stack, wait_for


@pytest.fixture(scope="module")
def short():
    """Only the newest events of each channel are kept."""
    system = Stack("--set=kernels.live-max=5", "--set=kernels.live-trim=1")
    system.wait()
    yield system
    assert system.stop() == 0


def snapshot(channel):
    rows, frame = [], channel.next()
    while "snap_end" not in frame:
        rows += frame["snap"]
        frame = channel.next()
    return rows


def test_a_kernels_states_are_told(short):
    user = signed_up(short.base)
    channel = user.live.subscribe("kernels", off=0)
    notebook = Notebook(user)
    execution = notebook.begin("import time; time.sleep(60)")
    seen = channel.until(lambda frame: frame["type"] == "kernel.busy")
    assert {frame["data"]["notebook_id"] for frame in seen} == {notebook.id}
    assert {frame["key"] for frame in seen} == {seen[0]["data"]["id"]}
    (row,) = snapshot(user.another_live().subscribe("kernels", snapshot=True))
    assert (row["id"], row["state"], row["language"]) == (seen[0]["key"], "busy", "python")
    execution.interrupt()
    seen += channel.until(lambda frame: frame["type"] == "kernel.idle")
    user.delete(f"/kernels/{notebook.id}")
    seen += channel.until(lambda frame: frame["type"] == "kernel.dead")
    assert [frame["off"] for frame in seen] == list(range(1, len(seen) + 1))
    assert snapshot(user.another_live().subscribe("kernels", snapshot=True)) == []
    user.close()


def test_kernels_of_a_killed_process_are_dead(short):
    user = signed_up(short.base)
    channel = user.live.subscribe("kernels", off=0)
    notebook = Notebook(user)
    notebook.run("1")
    old = short.kill("kernels")
    channel.until(lambda frame: frame["type"] == "kernel.dead")
    assert snapshot(user.another_live().subscribe("kernels", snapshot=True)) == []
    short.wait_restarted("kernels", old)
    user.close()


def test_a_shared_workspaces_executions_begin_with_those_that_were(short):
    owner, other = signed_up(short.base), signed_up(short.base)
    notebook = Notebook(owner)
    owner.post(f"/workspaces/{notebook.workspace}/members", {"email": other.user["email"]}, expect=201)
    ran = [notebook.run(str(number))["execution_id"] for number in range(2)]
    name = f"project:{notebook.workspace}/executions"
    rows = snapshot(wait_for(lambda: try_to(other, name), "the grant", 5))
    assert [row["id"] for row in rows] == ran[::-1]
    owner.close()
    other.close()


def try_to(user, name):
    try:
        return user.live.subscribe(name, snapshot=True)
    except LiveError:
        return None


def test_events_that_are_no_longer_kept_are_named(short):
    user = signed_up(short.base)
    execution = Notebook(user).begin("for n in range(20):\n    print(n, flush=True)\n"
                                     "    import time; time.sleep(.01)")
    execution.finish()

    def shortened():
        page = user.get(f"/executions/{execution.id}/events?from=1")
        return page if "gap" in page else None

    page = wait_for(shortened, "retention", 20)
    first = page["events"][0]["off"]
    assert page["gap"] == {"from": 2, "to": first - 1, "why": "retention"}
    assert "gap" not in user.get(f"/executions/{execution.id}/events?from={first - 1}")
    user.close()
