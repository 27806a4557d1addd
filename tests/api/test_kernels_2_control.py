"""What happens to a cell on its way: interrupts, input, restarts, limits, death."""

import os
import pathlib
import shutil
import signal
import tempfile
import threading

import pytest

from client import own_system
from kernel_world import Notebook, alive, descendants
from stack import wait_for


@pytest.fixture
def notebook(ann):
    made = Notebook(ann)
    yield made
    made.user.delete(f"/kernels/{made.id}", expect=(200, 404))


def test_python_is_interrupted(notebook):
    execution = notebook.begin("import time\nprint('go', flush=True)\ntime.sleep(60)")
    execution.until("stream")
    execution.interrupt()
    row = execution.finish(10)
    assert row["state"] == "cancelled" and row["success"] is False
    assert "KeyboardInterrupt" in row["error"]
    assert "interrupting" in execution.types()
    assert notebook.run("'alive'")["output"] == "'alive'"
    execution.interrupt(expect=409)


def test_r_is_interrupted(ann):
    notebook = Notebook(ann, language="r")
    execution = notebook.begin("cat('go\\n'); flush.console()\nwhile (TRUE) Sys.sleep(0.1)")
    execution.until("stream")
    execution.interrupt()
    assert execution.finish(15)["state"] == "cancelled"
    assert "alive" in notebook.run("'alive'")["output"]


def test_a_queued_cell_is_cancelled_alone(notebook):
    first = notebook.begin("import time\nprint('go', flush=True)\ntime.sleep(3)\n'first'")
    first.until("stream")
    second, third = notebook.begin("'second'"), notebook.begin("'third'")
    assert second.row()["state"] == "queued"
    second.interrupt()
    assert second.finish(5)["state"] == "cancelled"
    assert first.finish()["output"] == "go\n'first'"
    assert third.finish()["output"] == "'third'"


def test_who_ignores_interrupts_is_ended(notebook):
    execution = notebook.begin(
        "import signal, time\n"
        "for one in (signal.SIGINT, signal.SIGTERM): signal.signal(one, signal.SIG_IGN)\n"
        "print('go', flush=True)\nwhile True: time.sleep(1)")
    waits = notebook.begin("'never'")
    execution.until("stream")
    execution.interrupt()
    row = execution.finish(30)
    assert row["state"] == "cancelled"
    steps = [event["data"]["signal"] for event in execution.events
             if event["type"] == "execution.interrupting"]
    assert steps == ["SIGINT", "SIGINT", "SIGTERM", "SIGKILL"]
    assert waits.finish()["state"] == "aborted"
    assert notebook.run("'fresh'")["output"] == "'fresh'"


def test_input_is_asked_and_answered(notebook):
    execution = notebook.begin("name = input('who? ')\nprint('hello', name)")
    execution.until("started")
    event = execution.until("input_request")
    assert event["data"] == {"prompt": "who? ", "password": False}
    execution.answer_input("Ann")
    execution.answer_input("Bob", expect=409)
    assert execution.finish()["output"] == "hello Ann\n"
    execution.answer_input("late", expect=409)


def test_passwords_are_asked_as_such(notebook):
    execution = notebook.begin("import getpass\nlen(getpass.getpass('secret: '))")
    assert execution.until("input_request")["data"]["password"] is True
    execution.answer_input("12345")
    assert execution.finish()["output"] == "5"


def test_a_restart_forgets(notebook):
    notebook.run("kept = 1")
    running = notebook.begin("import time\nprint('go', flush=True)\ntime.sleep(60)")
    queued = notebook.begin("'queued'")
    running.until("stream")
    kernels = notebook.user.post(f"/kernels/{notebook.id}/restart")
    assert [kernel["notebook_id"] for kernel in kernels] == [notebook.id]
    for execution in (running, queued):
        row = execution.finish()
        assert row["state"] == "aborted"
        assert row["error"] == "KernelStopped: kernel was restarted"
    assert notebook.run("'kept' in globals()")["output"] == "False"


def test_a_kernel_is_shut_down(notebook):
    notebook.run("1")
    assert any(kernel["notebook_id"] == notebook.id for kernel in notebook.user.get("/kernels"))
    notebook.user.delete(f"/kernels/{notebook.id}")
    wait_for(lambda: all(kernel["notebook_id"] != notebook.id
                         for kernel in notebook.user.get("/kernels")), "the kernel to go")
    notebook.user.delete(f"/kernels/{notebook.id}", expect=404)


def test_a_kernel_that_dies_is_told(notebook):
    execution = notebook.begin("import os, signal, time\nprint('go', flush=True); time.sleep(1)\n"
                               "os.kill(os.getpid(), signal.SIGKILL)")
    execution.until("stream")
    queued = notebook.begin("'queued'")
    row = execution.finish()
    assert row["state"] == "failed"
    assert row["error"] == "KernelDied: kernel was killed by signal 9"
    assert queued.finish()["state"] == "aborted"
    assert notebook.run("'fresh'")["output"] == "'fresh'"


def test_a_kernel_may_fork(notebook):
    #  Python 3.12 and later warn of a fork beside threads, and a kernel has threads.
    notebook.run("import warnings\nwarnings.simplefilter('ignore', DeprecationWarning)")
    answer = notebook.run("import os\nfor _ in range(5):\n    pid = os.fork()\n"
                          "    if pid == 0: os._exit(7)\n    print(os.waitpid(pid, 0)[1] >> 8)")
    assert answer["output"] == "7\n" * 5
    pool = notebook.run("from concurrent.futures import ProcessPoolExecutor\n"
                        "with ProcessPoolExecutor(2) as pool: print(list(pool.map(abs, [-1, -2])))")
    assert pool["output"] == "[1, 2]\n"


def test_a_fork_bomb_stays_inside(notebook, stack):
    execution = notebook.begin("import os\nprint('go', flush=True)\nwhile True:\n"
                               "    try: os.fork()\n    except OSError: pass")
    execution.until("started")
    #  Everybody else goes on.
    assert notebook.user.get("/workspaces") is not None
    notebook.user.delete(f"/kernels/{notebook.id}")
    assert execution.finish()["state"] == "aborted"


def test_output_has_a_limit(notebook):
    execution = notebook.begin("import sys\nfor n in range(40):\n    print('y' * 1000000)\n"
                               "    sys.stdout.flush()\n'end'")
    row = execution.finish()
    assert row["state"] == "succeeded" and row["truncated"] is True
    assert execution.types().count("truncated") == 1
    finished = execution.events[-1]["data"]
    assert finished["truncated"] is True and finished["dropped"] > 20_000_000
    assert 1_000_000 < len(row["output"]) < 9_000_000
    assert notebook.run("'alive'")["output"] == "'alive'"


def test_a_gigabyte_is_not_kept(notebook, stack):
    pid = stack.pid("kernels")
    peak = []
    done = threading.Event()

    def watch():
        while not done.wait(0.05):
            with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
                peak.append(int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE"))

    thread = threading.Thread(target=watch)
    thread.start()
    execution = notebook.begin("import sys\nfor n in range(1000):\n    print('y' * 1000000)\n"
                               "    sys.stdout.flush()")
    row = execution.finish(120)
    done.set()
    thread.join()
    assert row["truncated"] is True
    assert row["state"] == "succeeded", row["error"]
    assert max(peak) < 600 << 20
    assert notebook.run("'alive'")["output"] == "'alive'"


def test_streams_are_gathered(notebook):
    execution = notebook.begin("import time, sys\nend = time.time() + 2\nwhile time.time() < end:\n"
                               "    print('.', end=''); sys.stdout.flush(); time.sleep(0.001)")
    execution.finish()
    assert execution.types().count("stream") <= 45


def test_all_kernels_of_a_process_die_with_it(notebook, stack):
    running = notebook.begin("import time\nprint('go', flush=True)\ntime.sleep(60)")
    running.until("stream")
    below = descendants(stack.pid("kernels"))
    assert any("ipykernel" in command for command in below.values())
    old = stack.kill("kernels", signal.SIGKILL)
    wait_for(lambda: not any(alive(pid) for pid in below), "everything that it had started to end")
    stack.wait_restarted("kernels", old)
    row = running.finish(20)
    assert row["state"] == "lost"
    assert row["error"] == "Lost: kernels process restarted"
    body = {"notebookId": notebook.id, "code": "'new'"}
    wait_for(lambda: notebook.user.post("/notebooks/execute", body, expect=None).get("output")
             == "'new'", "a cell to run again", 30)


class TestSmallKernels:
    """A system of its own, whose kernels may use little."""

    @pytest.fixture(scope="class")
    def user(self):
        #  Where kernels, who are other users, can read.
        specs = pathlib.Path(tempfile.mkdtemp(prefix="bb", dir="/tmp"))
        spec = specs / "scala"
        spec.mkdir()
        (spec / "kernel.json").write_text(
            '{"argv": ["/usr/bin/python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"],'
            ' "display_name": "not really", "language": "scala", "env": {"SPEC": "here"}}')
        specs.chmod(0o755)
        with own_system("--set=kernels.kernel-memory=256", "--set=kernels.kernel-idle=2",
                        f"--set=kernels.kernel-path={specs}", "--set=kernels.kernels-per-user=2") as (_, user):
            yield user
        shutil.rmtree(specs)

    def test_memory_has_a_limit(self, user):
        notebook = Notebook(user)
        execution = notebook.begin("block = bytearray(600 << 20)\n"
                                   "for n in range(0, len(block), 4096): block[n] = 1")
        event = execution.until("oom")
        assert event["data"]["limit"] == 256 << 20
        assert event["data"]["peak"] > 256 << 20
        row = execution.finish()
        assert row["state"] == "failed"
        assert row["error"] == "OutOfMemory: memory limit of 256 MiB exceeded"
        assert notebook.run("'fresh'")["output"] == "'fresh'"

    def test_a_configured_kernel_is_used(self, user):
        answer = Notebook(user, language="scala").run("import os; os.environ['SPEC']")
        assert answer["output"] == "'here'"

    def test_idle_kernels_go(self, user):
        notebook = Notebook(user)
        notebook.run("1")
        wait_for(lambda: all(kernel["notebook_id"] != notebook.id
                             for kernel in user.get("/kernels")), "the idle kernel to go", 20)

    def test_a_user_has_so_many(self, user):
        books = [Notebook(user) for _ in range(3)]
        code = "import time; print('go', flush=True); time.sleep(30)"
        busy = [book.begin(code) for book in books[:2]]
        for execution in busy:
            execution.until("stream")
        refused = books[2].run("1", expect=429)
        assert refused["error"] == "all your kernels are busy"
        busy[0].interrupt()
        busy[0].finish()
        assert books[2].run("1")["output"] == "1"
        busy[1].interrupt()
        busy[1].finish()
