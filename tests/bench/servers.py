"""Servers that are measured. Each is started, asked once, and ended by its own process id."""

import base64
import hashlib
import hmac
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
PATIENCE = 60                               # seconds, for any server to be ready
WORKSPACE = {"name": "Quarterly numbers", "description": "Costs and usage by team and month",
             "category": "finance", "tags": ["costs", "usage"], "icon": "chart",
             "color": "#2266aa", "provider": "aws", "config": {"region": "us-east-1"}}


class Missing(Exception):
    """A peer can't run here, and why."""


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
        again = ask(self.url + self.row, self.token)
        different = [name for name in WORKSPACE if again.get(name) != WORKSPACE[name]]
        if different:
            raise Missing(f"{self.url} answers with other {', '.join(different)} than were sent")


class Busbar(Server):
    name = "Busbar"

    def __init__(self, build, place, settings):
        super().__init__()
        self.place = place / "ours"
        #  Nothing of the caller's environment: what is not set on purpose is the default.
        environment = {"PATH": os.environ["PATH"], "BUSBAR_HOME": str(HERE.parents[1])}
        options = [word for one in settings for word in ("--set", one)]
        self.start(place / "busbar.log", [build / "bin/busbar", "up", "--var", self.place,
                                          "--port", "0", *options], env=environment)

    def prepare(self):
        self.url = self.printed(r"^ready (http://\S+)")[1].rstrip("/")
        self.token = ask(f"{self.url}/auth/signup", body={
            "email": "ann@example.org", "password": secrets.token_urlsafe(12)})["token"]
        self.make_workspace()

    def database_settings(self):
        return (self.place / "pg/postgresql.conf").read_text()


class Postgres(Server):
    """A private PostgreSQL like Busbar's: same programs, same initdb, same settings."""

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

    def user_id(self, name):
        insert = f"INSERT INTO users (email) VALUES ('{name}') RETURNING id"
        return self.sql("-c", insert).split()[0]


class Peer(Server):
    """A server on the other PostgreSQL, for a token that we sign ourselves."""

    pool = 10

    def environment(self, database):
        self.port, key = free_port(), secrets.token_hex(32)
        self.url = f"http://127.0.0.1:{self.port}"
        self.token = self.sign(key, database.user_id(self.name))
        return os.environ | {"PORT": str(self.port), "POOL": str(self.pool), "JWT_SECRET": key,
                             "DATABASE_URL": database.url, "NODE_ENV": "production"}

    @staticmethod
    def sign(key, user):
        def part(data):
            return base64.urlsafe_b64encode(data).rstrip(b"=")
        now = int(time.time())
        head = {"alg": "HS256", "typ": "JWT"}
        claims = {"sub": user, "email": "ann@example.org", "role": "user",
                  "jti": secrets.token_hex(16), "iat": now, "exp": now + 86400}
        signed = b".".join(part(json.dumps(half).encode()) for half in (head, claims))
        return (signed + b"." + part(hmac.digest(key.encode(), signed, hashlib.sha256))).decode()

    def prepare(self):
        self.listens()
        self.make_workspace()


class Fastify(Peer):
    name = "Fastify + pg"

    def __init__(self, build, place, database):
        super().__init__(database)
        home = build / "bench/node"
        for program in "node", "npm":
            if not shutil.which(program):
                raise Missing(f"{program} is not installed")
        home.mkdir(parents=True, exist_ok=True)
        lock = HERE / "package-lock.json"
        installed = home / "node_modules/.package-lock.json"
        if not installed.exists() or (home / lock.name).read_bytes() != lock.read_bytes():
            for name in "package.json", lock.name:
                shutil.copy(HERE / name, home)
            run("npm", "ci", "--no-audit", "--no-fund", cwd=home)
        shutil.copy(HERE / "fastify.mjs", home)
        self.start(place / "fastify.log", ["node", "fastify.mjs"], cwd=home,
                   env=self.environment(database))


class FastAPI(Peer):
    name = "FastAPI + asyncpg"

    def __init__(self, build, place, database):
        super().__init__(database)
        home, wanted = build / "bench/venv", HERE / "requirements.txt"
        installed = home / wanted.name
        if not installed.exists() or installed.read_bytes() != wanted.read_bytes():
            run(sys.executable, "-m", "venv", "--clear", home)
            run(home / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "-r", wanted)
            shutil.copy(wanted, home)
        environment = self.environment(database)
        self.start(place / "fastapi.log",
                   [home / "bin/uvicorn", "--app-dir", HERE, "--host", "127.0.0.1",
                    "--port", str(self.port), "--no-access-log", "--log-level", "warning",
                    "fastapi_app:app"], cwd=place, env=environment)


class Hello(Server):
    name = "libwebsockets hello"
    row = "/"

    def __init__(self, build, place):
        super().__init__()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start(place / "hello.log", [build / "bench/hello_lws", str(self.port)])

    def prepare(self):
        self.listens()
        ask(self.url)
