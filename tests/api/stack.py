"""A whole system for tests: `busbar up` with a private PostgreSQL in a short temporary directory."""

import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HOME = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("BUSBAR_BIN", HOME / "build" / "bin"))
PATIENCE = float(os.environ.get("BUSBAR_TEST_PATIENCE", "60"))
SLOWER = max(1.0, PATIENCE / 60)             # than a system that nothing watches
SOON = 15 * SLOWER                           # for one answer or event

#  Sign-ups of a test run are many and come from one address; their passwords need no strength.
EASY = ("identity.bcrypt-cost=4", "edge.limit-sign-in=0", "edge.limit-mail=0")


def free_port():
    """One that is free with the next, outside of what the kernel gives to connections."""
    while True:
        port = random.randrange(10000, 32000)
        with socket.socket() as probe, socket.socket() as neighbour:
            try:
                probe.bind(("127.0.0.1", port))
                neighbour.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def wait_for(condition, what="a condition", patience=15.0, pause=0.02):
    """The first true value of condition(), or a failure that names what was waited for. The patience is
    for a system that nothing watches."""
    patience *= SLOWER
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {patience} s in vain for {what}"
        threading.Event().wait(pause)


def family(pid):
    """A process and its children, as they are now."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as there:
        return [pid, *map(int, there.read().split())]


def tell(pids, signo):
    """A signal to each that has not ended meanwhile."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signo)


@contextlib.contextmanager
def held(*pids):
    """They stand still while the block runs."""
    tell(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        tell(pids, signal.SIGCONT)


def shared(directory):
    """The directory of a test, for those that root became, too; pytest's own are closed to others."""
    for place in (directory, *directory.parents):
        if place == pathlib.Path(tempfile.gettempdir()):
            break
        place.chmod(0o755)
    return directory


class Stack:
    """One running system. `ready` is what it said on stdout."""

    def __init__(self, *arguments, var=None, environment=None, dotenv=None, easy=True):
        self.own_var = var is None
        self.environment = environment or {}
        self.var = pathlib.Path(var or tempfile.mkdtemp(prefix="bb", dir="/tmp"))
        if self.own_var:
            #  The system drops to an ordinary user when root runs the tests.
            self.var.chmod(0o755)
        if dotenv:
            (self.var / ".env").write_text(dotenv)
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.log = tempfile.NamedTemporaryFile(mode="w+", prefix="busbar-test-", suffix=".log")
        settings = [f"--set={value}" for value in EASY] if easy else []
        self.process = subprocess.Popen(
            [str(BIN / "busbar"), "up", "--var", str(self.var / "v"), "--port", str(self.port),
             *settings, *arguments],
            stdout=subprocess.PIPE, stderr=self.log, text=True, cwd=str(self.var),
            env=self._environment())
        self.ready = ""

    def wait(self, patience=PATIENCE):
        """Until it says that it is ready."""
        reader = threading.Thread(target=self._read_ready, daemon=True)
        reader.start()
        reader.join(patience)
        if not self.ready.startswith("ready "):
            tail = "\n".join(line for line in self.log_text().splitlines()
                             if "path=/health/ready" not in line)[-8000:]
            self.stop()
            raise AssertionError(f"busbar up did not get ready in {patience} s:\n{tail}")
        return self

    def _read_ready(self):
        self.ready = self.process.stdout.readline().strip()

    @property
    def run(self):
        return self.var / "v" / "run"

    def log_text(self):
        self.log.flush()
        with open(self.log.name, encoding="utf-8", errors="replace") as log:
            return log.read()

    def processes(self):
        """What the supervisor says is running: [{name, slot, pid, restarts}]."""
        try:
            return json.loads((self.run / "pids.json").read_text())["processes"]
        except (FileNotFoundError, json.JSONDecodeError):
            return []

    def pid(self, name):
        """Pid of the first live process of this name or slot."""
        found = [row["pid"] for row in self.processes()
                 if name in (row["name"], row["slot"]) and row["pid"]]
        assert found, f"no process {name} in {self.processes()}"
        return found[0]

    def kill(self, name, signo=signal.SIGKILL):
        """Kill one process, by the supervisor's listing. Returns the pid that it had."""
        pid = self.pid(name)
        os.kill(pid, signo)
        return pid

    def wait_restarted(self, name, old_pid, patience=15.0):
        """Until the supervisor lists a new pid for it."""
        return wait_for(lambda: next((row["pid"] for row in self.processes()
                                      if name in (row["name"], row["slot"])
                                      and row["pid"] not in (0, old_pid)), None),
                        f"a new {name}", patience)

    def _environment(self):
        return {**os.environ, "BUSBAR_HOME": str(HOME), "BUSBAR_VAR": str(self.var / "v"),
                **self.environment}

    def busbar(self, *arguments, expect=0, text=None, patience=PATIENCE):
        """Run another busbar command against this system; its standard output."""
        done = subprocess.run([str(BIN / "busbar"), *arguments], input=text, capture_output=True,
                              text=True, timeout=patience, cwd=str(self.var), check=False,
                              env=self._environment())
        assert done.returncode == expect, \
            f"busbar {' '.join(arguments)}: {done.returncode}, {done.stdout}{done.stderr}"
        return done.stdout

    def start_busbar(self, *arguments):
        """Start a command that goes on until it is ended; its output in .stdout."""
        return subprocess.Popen([str(BIN / "busbar"), *arguments], stdout=subprocess.PIPE, text=True,
                                cwd=str(self.var), env=self._environment())

    def stop(self, patience=45.0):
        """End it in order. Returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()
        if os.environ.get("BUSBAR_TEST_LOG") and not self.log.closed:    # a second time: said already
            sys.stderr.write(self.log_text())
        self.log.close()
        if self.own_var:
            shutil.rmtree(self.var, ignore_errors=True)
        return self.process.returncode
