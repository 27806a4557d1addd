"""Those that Busbar is measured beside: as their manuals show them, one process each."""

import base64
import hashlib
import hmac
import json
import os
import secrets
import shutil
import sys
import time

from servers import HERE, Missing, Server, ask, free_port, run


class Peer(Server):
    """A server on the other PostgreSQL, for a token that we sign ourselves."""

    pool = 10
    with_database = True

    def environment(self, database):
        self.port, key = free_port(), secrets.token_hex(32)
        self.url = f"http://127.0.0.1:{self.port}"
        self.database = database
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

    def counted(self):
        return self.database.counted()


def node(build):
    """The directory with the packages of package-lock.json, installed when they are not there."""
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
    for script in HERE.glob("*.mjs"):
        shutil.copy(script, home)
    return home


class Fastify(Peer):
    name = "Fastify + pg"

    def __init__(self, build, place, database):
        super().__init__(database)
        self.start(place / "fastify.log", ["node", "fastify.mjs"], cwd=node(build),
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


class NpmWs(Server):
    name = "npm ws"

    def __init__(self, build, place):
        super().__init__()
        self.port = free_port()
        self.start(place / "ws.log", ["node", "ws.mjs"], cwd=node(build),
                   env=os.environ | {"PORT": str(self.port), "NODE_ENV": "production"})

    def prepare(self):
        self.listens()
