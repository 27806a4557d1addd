"""What is started for a measurement: each asked once, and ended by its own process id."""

import json
import os
import pwd
import re
import secrets
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
PATIENCE = 60                               # seconds, for any server to be ready
WORKSPACE = {"name": "Quarterly numbers", "description": "Costs and usage by team and month",
             "category": "finance", "tags": ["costs", "usage"], "icon": "chart",
             "color": "#2266aa", "provider": "aws", "config": {"region": "us-east-1"}}


class Missing(Exception):
    """Something can't run here, and why."""


class Wrong(Exception):
    """An answer, or what became of it, is not what it should be."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(*command, **options):
    """Run to the end; what it printed is shown only when it failed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          **options)
    if done.returncode:
        raise Missing(f"{Path(command[0]).name} failed: {done.stdout.strip()[-300:]}")
    return done.stdout.strip()


def ask(url, token=None, body=None):
    request = urllib.request.Request(url, data=body and json.dumps(body).encode())
    if body:
        request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)


class Server:
    """A process of ours with a URL. `roots` are the processes whose work is counted with it."""

    token = "none"
    with_database = False

    def __init__(self, *beside):
        self.process, self.beside = None, beside

    def pids(self):
        return [self.process.pid, *(other.process.pid for other in self.beside)]

    def start(self, log, command, **options):
        self.log = log.open("w")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, **options)

    def wait(self, ready):
        """Until `ready` answers something true."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            answer = ready()
            if answer:
                return answer
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise Missing(f"{self.process.args[0]} did not become ready:\n" +
                      Path(self.log.name).read_text()[-1500:])

    def printed(self, pattern):
        return self.wait(lambda: re.search(pattern, Path(self.log.name).read_text(), re.MULTILINE))

    def listens(self):
        def connects():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0
        self.wait(connects)

    @staticmethod
    def program(pid):
        """What it runs."""
        return Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0].rpartition(
            b"/")[2].decode().partition(":")[0]

    @staticmethod
    def cpu(pid):
        """Seconds that its living threads have used, exactly."""
        return sum(int(path.read_text().split()[0])
                   for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def make_workspace(self):
        """The row that is read; its creation also shows that everything works."""
        row = ask(f"{self.url}/workspaces", self.token, WORKSPACE)
        self.row = f"/workspaces/{row['id']}"
        self.check()

    def check(self):
        """The row is answered as it was sent."""
        again = ask(self.url + self.row, self.token)
        different = [name for name in WORKSPACE if again.get(name) != WORKSPACE[name]]
        if different:
            raise Wrong(f"{self.name} answers with other {', '.join(different)} than were sent")


class Busbar(Server):
    """The whole system. It is started twice: the second time as everybody starts it, on a database
    that is there."""

    name = "Busbar"
    people = 100                                #  who have signed up
    #  Everything comes from one address here, and that many calls are what is measured.
    settings = ("edge.limit-sign-in=0", "broker.door-rate=1000000", "broker.door-burst=1000000")

    def __init__(self, build, place, settings):
        super().__init__()
        self.build, self.log_place = build, place
        self.place, self.run_dir = place / "ours", place / "ours/run"
        self.settings = [*self.settings, *settings]
        self.port, self.door = free_port(), f"tcp://127.0.0.1:{free_port()}"
        self.url = f"http://127.0.0.1:{self.port}"
        self.begin("identity.bcrypt-cost=4")

    def begin(self, *more):
        #  Nothing of the caller's environment: what is not set on purpose is the default.
        environment = {"PATH": os.environ["PATH"], "BUSBAR_HOME": str(HERE.parents[1])}
        options = [word for one in (*self.settings, *more) for word in ("--set", one)]
        self.began = time.monotonic()
        self.start(self.log_place / "busbar.log",
                   [self.build / "bin/busbar", "up", "--var", self.place, "--port", str(self.port),
                    "--door", self.door, *options], env=environment)

    def ready(self):
        """Seconds that it took."""
        self.printed(r"^ready http://\S+")
        return time.monotonic() - self.began

    def restart(self):
        self.stop()
        self.begin()
        return self.ready()

    def sign_up(self, email):
        password = secrets.token_urlsafe(12)
        return password, ask(f"{self.url}/auth/signup", body={"email": email,
                                                              "password": password})["token"]

    def prepare(self):
        self.ready()
        self.tokens = [self.sign_up(f"bench{number}@example.org")[1]
                       for number in range(self.people)]
        self.token = self.tokens[0]
        self.user = ask(f"{self.url}/auth/me", self.token)["id"]
        run(self.build / "bin/busbar", "key", "new", "bench", "--var", self.place)
        self.key = self.place / "keys/bench.key"
        self.restart()
        self.make_workspace()

    def database_settings(self):
        return (self.place / "pg/postgresql.conf").read_text()

    def sql(self, text):
        """Run as the owner of its private database; what it printed."""
        password = (self.place / "secrets/pg_owner").read_text().strip()
        return run("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", "busbar", "-c", text,
                   env=os.environ | {"PGHOST": str(self.run_dir / "pg"), "PGUSER": "busbar_owner",
                                     "PGPASSWORD": password})

    def counted(self):
        """Rows and events that are in the database."""
        return tuple(map(int, self.sql(
            "SELECT (SELECT count (*) FROM platform.workspaces),"
            " (SELECT count (*) FROM platform.live_log)").split("|")))

    def joined(self, *command, **options):
        """A program that joins the bus from inside: as the user whose sockets these are."""
        if os.geteuid() == 0:
            owner = self.run_dir.stat()
            options |= {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
        server = Server()
        server.start(self.log_place / f"{Path(command[0]).name}.log", list(command), **options)
        return server


class Postgres(Server):
    """A private PostgreSQL like Busbar's: same programs, same initdb, same settings."""

    name = "PostgreSQL"

    def __init__(self, place, settings):
        super().__init__()
        programs = max(Path("/usr/lib/postgresql").glob("*/bin"),
                       key=lambda path: int(path.parent.name))
        self.version = run(programs / "postgres", "--version")
        self.place = place / "peers"
        self.place.mkdir()
        #  PostgreSQL refuses to be root.
        user = {}
        if os.geteuid() == 0:
            entry = pwd.getpwnam("nobody")
            user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(self.place, entry.pw_uid, entry.pw_gid)
        password, path = secrets.token_hex(16), self.place / "password"
        path.write_text(password)
        path.chmod(0o644)
        run(programs / "initdb", "-D", self.place / "pg", "-U", "bench", f"--pwfile={path}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums",
            cwd=self.place, **user)
        path.unlink()
        settings = re.sub(r"(?m)^unix_socket_directories.*$",
                          f"unix_socket_directories = '{self.place}'", settings)
        (self.place / "pg/postgresql.conf").write_text(settings)
        self.url = f"postgresql://bench:{password}@/bench?host={self.place}"
        self.environment = os.environ | {"PGHOST": str(self.place), "PGUSER": "bench",
                                         "PGPASSWORD": password}
        self.start(place / "postgres.log", [programs / "postgres", "-D", self.place / "pg"],
                   cwd=self.place, **user)

    def prepare(self):
        ready = ["pg_isready", "-q"]
        self.wait(lambda: subprocess.run(ready, env=self.environment).returncode == 0)
        run("createdb", "bench", env=self.environment)
        self.sql("-f", HERE / "schema.sql")

    def sql(self, *arguments):
        return run("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", "bench", *arguments,
                   env=self.environment)

    def stop(self):
        super().stop(signal.SIGINT)

    def counted(self):
        return tuple(map(int, self.sql("-c", "SELECT (SELECT count (*) FROM workspaces),"
                                       " (SELECT count (*) FROM events)").split("|")))

    def user_id(self, name):
        insert = f"INSERT INTO users (email) VALUES ('{name}') RETURNING id"
        return self.sql("-c", insert).split()[0]
