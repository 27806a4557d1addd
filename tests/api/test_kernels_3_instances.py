"""Two processes with kernels: each notebook stays with one of them."""

import signal

import pytest

from client import own_system
from kernel_world import Notebook


@pytest.fixture(scope="module")
def pair():
    with own_system("--instances", "kernels=2") as pair:
        yield pair


def test_a_notebook_stays_with_one_process(pair):
    _, user = pair
    for _ in range(3):
        notebook = Notebook(user)
        notebook.run("kept = 1")
        for number in range(2, 6):
            assert notebook.run("kept += 1\nkept")["output"] == str(number)


def test_control_finds_the_process(pair):
    _, user = pair
    for _ in range(4):
        notebook = Notebook(user)
        execution = notebook.begin("name = input('who? ')\nprint('hi', name, flush=True)\n"
                                   "import time; time.sleep(60)")
        execution.until("input_request")
        execution.answer_input("Ann")
        execution.until("stream")
        execution.interrupt()
        assert execution.finish()["state"] == "cancelled"
        assert len(user.post(f"/kernels/{notebook.id}/restart")) == 1
        assert notebook.run("'name' in globals()")["output"] == "False"
        user.delete(f"/kernels/{notebook.id}")


def test_the_list_knows_all(pair):
    _, user = pair
    for kernel in user.get("/kernels"):
        user.delete(f"/kernels/{kernel['notebook_id']}", expect=(200, 404))
    notebooks = [Notebook(user) for _ in range(5)]
    for notebook in notebooks:
        notebook.run("1")
    listed = {kernel["notebook_id"] for kernel in user.get("/kernels")}
    assert {notebook.id for notebook in notebooks} <= listed


def test_one_dies_and_the_other_goes_on(pair):
    system, user = pair
    notebooks = [Notebook(user) for _ in range(6)]
    running = [notebook.begin("import time\nprint('go', flush=True)\ntime.sleep(8)\n'end'")
               for notebook in notebooks]
    for execution in running:
        execution.until("stream")
    old = system.kill("kernels.1", signal.SIGKILL)
    states = [execution.finish()["state"] for execution in running]
    assert set(states) <= {"succeeded", "lost"}
    system.wait_restarted("kernels.1", old)
    for notebook in notebooks:
        assert notebook.run("1 + 1")["output"] == "2"
