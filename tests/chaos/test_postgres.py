"""A PostgreSQL that restarts, crashes, is full, slow, frozen or taken up by others: answers are good or 503 in
time, what was acknowledged is there, and everybody comes back without being started again."""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time

import httpx
import psycopg2
import pytest

import busbar
from client import User
from identity_world import PASSWORD, address
from kernel_world import Notebook
from kills import Load, SocketViewer
from pg_fixture import TemporaryPostgres
from stack import Stack, family, held, wait_for

#  No answer may take longer: the deadline of a request and a little.
DEADLINE = 32
COUNTER = "import time\nfor n in range({}):\n    print(n, flush=True)\n    time.sleep(0.02)"


class Proxy:
    """A line to a server on which every piece takes `delay` seconds each way."""

    def __init__(self, port):
        self.target, self.delay = port, 0.0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                one = self.listener.accept()[0]
            except OSError:
                return
            try:
                other = socket.create_connection(("127.0.0.1", self.target), 5)
            except OSError:
                one.close()
                continue
            other.settimeout(None)
            for pair in ((one, other), (other, one)):
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.delay:
                    time.sleep(self.delay)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listener.close()


@pytest.fixture(scope="module")
def postgres():
    with TemporaryPostgres(tcp=True, max_connections="60", fsync="on") as pg:
        yield pg


@pytest.fixture(scope="module")
def line(postgres):
    proxy = Proxy(postgres.port)
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def stack(postgres, line):
    url = f"postgresql://{postgres.superuser}:{postgres.password}@127.0.0.1:{line.port}/busbar"
    system = Stack(environment={"DATABASE_URL": url}).wait()
    pids = {row["slot"]: row["pid"] for row in system.processes()}
    yield system
    assert {row["slot"]: row["pid"] for row in system.processes()} == pids, \
        "nobody had to be started again"
    assert system.stop() == 0, "busbar up did not end in order"


@pytest.fixture
def user(sign_up):
    return sign_up("postgres")


@pytest.fixture(scope="module")
def notebook(sign_up):
    made = Notebook(sign_up("cells"))
    made.run("1")
    return made


class Told:
    """Writers and readers under way; what they were told, and how long each had to wait."""

    def __init__(self, user, prefix="w"):
        self.user, self.prefix, self.slowest = user, prefix, 0.0
        self.load = Load(user, self._ask)

    def _ask(self, client, name):
        began = time.monotonic()
        if name.endswith(("3", "7")):
            answer = client.request("GET", "/workspaces?limit=5")
        elif name.endswith("5"):
            answer = client.request("POST", "/auth/signin", {"email": self.user.user["email"],
                                                             "password": PASSWORD})
        else:
            answer = client.request("POST", "/workspaces", {"name": f"{self.prefix} {name}"})
        self.slowest = max(self.slowest, time.monotonic() - began)
        return answer.status_code, (name, answer.status_code, answer)

    def check(self, full=False):
        """Stop, and compare with what is there."""
        self.load.stop()
        rows = [row["name"][2:] for row in self.user.get("/workspaces?limit=10000")
                if row["name"].startswith(self.prefix)]
        there = set(rows)
        assert len(rows) == len(there)
        for name, status, answer in self.load.strange:
            if status == 503:
                body = answer.json()
                assert body["code"] == "UNAVAILABLE", body
                unknown = "unknown" in (answer.headers.get("x-outcome"), body.get("outcome"))
                assert unknown or int(answer.headers["retry-after"]) >= 1, (answer.headers, body)
            elif status == 201:
                assert name in there, f"acknowledged and lost: {name}"
            else:
                assert status == 200 or (full and status == 507) or status == 504, (name, answer.text)
            assert not any(word in answer.text.lower() for word in ("postgres", "libpq", "sql", "fatal:")) \
                or status < 400, answer.text
        assert self.slowest < DEADLINE, f"somebody waited {self.slowest:.1f} s"
        return self.load.statuses


def recovers(user, patience=20):
    """Until reads and writes succeed again; how long that took."""
    began = time.monotonic()

    def good():
        try:
            return user.request("GET", "/workspaces").status_code == 200 and \
                user.request("POST", "/workspaces", {"name": f"r {time.monotonic()}"}).status_code == 201
        except httpx.HTTPError:
            return False

    wait_for(good, "a system that works again", patience)
    return time.monotonic() - began


def follow(user, channel):
    """Whoever follows has heard of every row once, in a row."""
    rows = user.get("/workspaces?limit=10000")
    seen = []
    while len(seen) < len(rows):
        frame = channel.next(20)
        assert "gap" not in frame, frame
        seen.append(frame)
    assert [frame["off"] for frame in seen] == list(range(1, len(rows) + 1))
    assert {frame["key"] for frame in seen} == {row["id"] for row in rows}


def through(user, notebook, disturb, full=False):
    """Everything goes on while `disturb` () does its worst."""
    channel = user.another_live().subscribe("workspaces", off=0)
    execution = notebook.begin(COUNTER.format(150))
    where = execution.answer["live"]
    viewer = SocketViewer(where["ch"], where["epoch"], notebook.user)
    told = Told(user)
    told.load.wait(30)
    wait_for(lambda: viewer.seen(10), "lines of the cell")
    disturb()
    recovers(user)
    told.load.wait(30)
    statuses = told.check(full)
    viewer.finish(60)
    assert viewer.text() == "".join(f"{n}\n" for n in range(150))
    follow(user, channel)
    return statuses


def connected(postgres):
    try:
        return postgres.connect()
    except psycopg2.OperationalError:
        return None


def sql(postgres, text):
    """As superuser, on a connection that is closed at once."""
    connection = wait_for(lambda: connected(postgres), "a connection among all those that are refused")
    try:
        with connection.cursor() as cursor:
            cursor.execute(text)
            return cursor.fetchall() if cursor.description else None
    finally:
        connection.close()


def backends(postgres, who="busbar_%"):
    return [pid for pid, in sql(postgres, f"SELECT pid FROM pg_stat_activity WHERE usename LIKE '{who}'")]


def end_all(postgres):
    sql(postgres, "SELECT pg_terminate_backend (pid) FROM pg_stat_activity WHERE usename LIKE 'busbar_%'")


# ---------------------------------------------------------------- gone and back


def test_it_restarts(stack, postgres, user, notebook):
    through(user, notebook, postgres.restart)


def test_it_is_stopped_at_once_as_if_the_power_failed(stack, postgres, user, notebook):
    through(user, notebook, lambda: postgres.restart(signal.SIGQUIT))


def test_one_of_its_processes_is_killed(stack, postgres, user, notebook):
    """Which makes it throw out everybody and recover."""
    def kill():
        os.kill(backends(postgres, "busbar_platform")[0], signal.SIGKILL)
    through(user, notebook, kill)


def test_every_session_is_ended_again_and_again(stack, postgres, user, notebook):
    def end():
        for _ in range(5):
            end_all(postgres)
            wait_for(lambda: len(backends(postgres)) >= 10, "sessions that are back")
    through(user, notebook, end)


def test_it_stays_away_for_a_while(stack, postgres, user, notebook):
    def away():
        postgres.stop()
        refused = wait_for(lambda: next((answer for answer in [user.request("GET", "/workspaces")]
                                         if answer.status_code == 503), None), "a refusal", 10)
        assert int(refused.headers["retry-after"]) >= 1
        #  Refusals are quick now: nobody waits in vain.
        for verb, path, body in (("GET", "/workspaces", None), ("POST", "/workspaces", {"name": "x"}),
                                 ("POST", "/auth/signin", {"email": user.user["email"], "password": PASSWORD}),
                                 ("GET", "/executions", None)):
            began = time.monotonic()
            assert user.request(verb, path, body).status_code == 503, path
            assert time.monotonic() - began < 3, path
        postgres.start()
    through(user, notebook, away)


# ---------------------------------------------------------------- taken up


def take_all(postgres):
    """Connections of somebody else, until there are no more for ordinary users."""
    taken = []
    with contextlib.suppress(psycopg2.OperationalError):
        while True:
            taken.append(psycopg2.connect(postgres.conninfo(user="greedy", password="greedy")))
    return taken


def test_somebody_else_takes_every_connection(stack, postgres, user, notebook):
    def take():
        sql(postgres, "CREATE ROLE greedy LOGIN PASSWORD 'greedy'")
        taken = []

        def refused():               # whoever of us came between is ended, and its place taken
            end_all(postgres)
            taken.extend(take_all(postgres))
            return not backends(postgres) and user.request("GET", "/workspaces").status_code == 503
        try:
            wait_for(refused, "a refusal", 30)
        finally:
            for connection in taken:
                connection.close()
    through(user, notebook, take)


def test_it_comes_after_us():
    with TemporaryPostgres(tcp=True) as pg:
        pg.stop()
        url = f"postgresql://{pg.superuser}:{pg.password}@127.0.0.1:{pg.port}/busbar"
        system = Stack(environment={"DATABASE_URL": url})
        wait_for(lambda: "slot=prepare" in system.log_text(), "its first attempt")
        pg.start()
        system.wait()
        assert httpx.get(system.base + "/health/ready", trust_env=False).status_code == 200
        assert system.stop() == 0


# ---------------------------------------------------------------- slow and frozen


def test_every_piece_takes_a_twentieth_of_a_second_each_way(stack, line, user, notebook):
    def slow():
        line.delay = 0.05
        try:
            told = Told(user, "s")
            told.load.wait(60, 60)
            assert set(told.check()) <= {200, 201}, told.load.statuses
            assert told.slowest < 5
            assert notebook.user.get("/executions?limit=1")
        finally:
            line.delay = 0.0
    assert set(through(user, notebook, slow)) <= {200, 201}


def test_it_freezes_for_ten_seconds(stack, postgres, user, notebook):
    def freeze():
        with busbar.Client(str(stack.run)) as client, held(*family(postgres.process.pid)):
            began = time.monotonic()
            with pytest.raises(busbar.BusError) as late:
                client.call("platform.live.read", {"ch": f"user:{user.id}/workspaces"}, timeout=1.5)
            assert late.value.status in (503, 504)
            assert time.monotonic() - began < 3, "the deadline that a caller names holds"
            assert user.request("GET", "/health").status_code == 200
            threading.Event().wait(max(0.0, 10 - (time.monotonic() - began)))
    through(user, notebook, freeze)


# ---------------------------------------------------------------- full


@pytest.fixture
def small_disk(tmp_path_factory):
    """64 MB that PostgreSQL may write to."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a small file system")
    directory = pathlib.Path(f"/tmp/bbdisk{os.getpid()}")
    directory.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=0777", "tmpfs", str(directory)],
                             capture_output=True, text=True, check=False)
    if mounted.returncode:
        directory.rmdir()
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)
    directory.rmdir()


def fill(directory):
    """A file that takes all that is left."""
    path = directory / "ballast"
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        while file.write(b"\0" * 4096):
            pass
    return path


def test_its_disk_is_full(small_disk):
    with TemporaryPostgres(tcp=True) as pg:
        place = small_disk / "tables"
        place.mkdir()
        if pg.user:
            shutil.chown(place, pg.user)
        sql(pg, f"CREATE TABLESPACE small LOCATION '{place}'")
        sql(pg, "CREATE DATABASE busbar TABLESPACE small")
        url = f"postgresql://{pg.superuser}:{pg.password}@127.0.0.1:{pg.port}/busbar"
        system = Stack(environment={"DATABASE_URL": url}).wait()
        try:
            user = User(system.base)
            email = address("full")
            answer = user.post("/auth/signup", {"email": email, "password": PASSWORD}, expect=201)
            user.token, user.user = answer["token"], {"email": email, **answer["user"]}
            channel = user.another_live().subscribe("workspaces", off=0)
            body = {"config": {"text": os.urandom(30_000).hex()}}
            ballast, statuses, told = fill(small_disk), {}, set()
            for n in range(200):
                answer = user.request("POST", "/workspaces", {"name": f"w {n}", **body})
                statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
                if answer.status_code == 201:
                    told.add(f"w {n}")
                else:
                    assert answer.status_code == 507 and answer.json()["code"] == "STORAGE_FULL", answer.text
                    assert int(answer.headers["retry-after"]) >= 1
                if statuses.get(507, 0) >= 20:
                    break
            assert statuses.get(507, 0) >= 20, statuses
            assert user.request("GET", "/workspaces").status_code == 200, "reads go on"
            ballast.unlink()
            assert recovers(user) < 5
            rows = user.get("/workspaces?limit=10000")
            assert {row["name"] for row in rows if row["name"].startswith("w ")} == told
            follow(user, channel)
        finally:
            assert system.stop() == 0


