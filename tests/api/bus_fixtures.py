"""A bus of its own for a test: the real broker, Python actors in processes or threads, raw
peers."""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import pytest
import zmq

HOME = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = HOME / "proto" / "python"
if str(PACKAGE) not in sys.path:
    sys.path.insert(0, str(PACKAGE))

import busbar  # noqa: E402
from busbar import wire  # noqa: E402
from stack import SOON, wait_for  # noqa: E402

BIN = pathlib.Path(os.environ.get("BUSBAR_BIN", HOME / "build" / "bin"))
SECRET = "a secret of the tests that is long enough"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def token(secret=SECRET, **claims):
    """A signed token; `sub` and `jti` as given, valid for a minute unless `exp` says otherwise."""
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")
    claims = {"iat": int(time.time()), "exp": int(time.time()) + 60, **claims}
    signed = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    signature = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + part(signature)).decode()


# What actors run in a process of their own begins with.
PRELUDE = """
import os, sys, time, threading
import busbar
name = sys.argv[1]
actor = busbar.Actor(name, slot=sys.argv[2])
"""

# Serves what most tests need.
SERVICE = PRELUDE + """
actor.channel("log")

@actor.method("who", auth="none", idempotent=True)
def who(request):
    return {"pid": os.getpid(), "slot": actor.slot, "key": request.key,
            "identity": request.identity, "meta": request.meta}

@actor.method("slow", auth="none", idempotent=True, fields={"seconds": "real", "mark": "text"})
def slow(request):
    mark(request)
    until = time.monotonic() + request["seconds"]
    while time.monotonic() < until and not request.cancelled:
        time.sleep(0.01)
    if request.cancelled and request.get("mark"):
        open(request["mark"] + ".cancelled", "w").close()
    return {"slot": actor.slot}

@actor.method("write", auth="none", fields={"seconds": "real", "mark": "text"})
def write(request):
    return slow(request)

def mark(request):
    if request.get("mark"):
        with open(request["mark"], "a") as file:
            file.write(actor.slot + "\\n")

@actor.method("publish", auth="none", fields={
    "ch": "text", "count": {"type": "int", "max": 100_000}})
def publish(request):
    for n in range(request["count"]):
        epoch, off = actor.event(request["ch"], "test.counted", {"n": n})
    return {"epoch": epoch, "off": off}

@actor.method("count", auth="none", fields={"to": {"type": "int", "max": 1_000_000}})
def count(request):
    for n in range(request["to"]):
        yield f"{n}\\n" * 100

@actor.method("size", auth="none", upload=True)
def size(request):
    return {"size": sum(len(chunk) for chunk in request.chunks())}
"""


class Bus:
    """A run directory with a broker, and processes around it."""

    def __init__(self, door=False):
        self.dir = tempfile.mkdtemp(prefix="bb", dir="/tmp")
        self.run = f"{self.dir}/r"
        self.keys = f"{self.dir}/k"
        self.door = f"tcp://127.0.0.1:{free_port()}" if door else None
        self.broker = None
        self.children = []
        self.opened = contextlib.ExitStack()
        self.arguments = []
        self.heartbeat = 250
        if door:
            os.mkdir(self.keys, 0o700)
            self.server = self.key_pair()
            self.write(f"{self.keys}/broker.key", "role = server", self.server, secret=True)

    # -- keys

    @staticmethod
    def key_pair():
        return tuple(key.decode() for key in zmq.curve_keypair())

    def write(self, path, line, pair, secret=False):
        with open(path, "w", encoding="ascii") as file:
            file.write(f"# of a test\n{line}\npublic = {pair[0]}\n")
            if secret:
                file.write(f"secret = {pair[1]}\nserver = {self.server[0]}\n")

    def make_key(self, name, role="client", *prefixes):
        """NAME.key and NAME.pub; returns the path of the former."""
        pair = self.key_pair()
        self.write(f"{self.keys}/{name}.key", f"name = {name}", pair, secret=True)
        lines = "\n".join([f"role = {role}", *(f"prefix = {prefix}" for prefix in prefixes)])
        self.write(f"{self.keys}/{name}.pub", lines, pair)
        if self.broker:
            wait_for(lambda: self.log_count() == len(list(pathlib.Path(self.keys).glob("*.pub"))),
                     "the broker to read the new key")
        return f"{self.keys}/{name}.key"

    def log_count(self):
        """How many keys the broker admitted when it read them last; None: it has not yet."""
        counts = [line.rsplit("count=", 1)[1] for line in self.broker_log().splitlines()
                  if "keys read" in line]
        return int(counts[-1]) if counts else None

    # -- processes

    def start(self):
        """Start the broker (again); returns when it listens."""
        command = [str(BIN / "busbar-broker"), "--run-dir", self.run, "--heartbeat",
                   str(self.heartbeat), *self.arguments]
        if self.door:
            command += ["--door", self.door, "--keys-dir", self.keys]
        self.log = open(f"{self.dir}/broker.log", "a", encoding="utf-8")
        self.broker = subprocess.Popen(command, stderr=self.log,
                                       env={**os.environ, "JWT_SECRET": SECRET})
        wait_for(self.listens, "the broker")
        return self

    def listens(self):
        assert self.broker.poll() is None, self.broker_log()
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(f"{self.run}/broker.s") == 0

    def broker_log(self):
        with open(f"{self.dir}/broker.log", encoding="utf-8") as file:
            return file.read()

    def kill(self):
        self.broker.kill()
        self.broker.wait()

    def script(self, text, *arguments, door_key=None, **environment):
        """A Python program beside the bus: inside, or at the door when it has a key."""
        env = {**os.environ, "PYTHONPATH": str(PACKAGE), **environment}
        for name in ("BUSBAR_RUN", "BUSBAR_DOOR", "BUSBAR_KEY_FILE", "BUSBAR_TOKEN"):
            env.pop(name, None)
        env.update({"BUSBAR_DOOR": self.door, "BUSBAR_KEY_FILE": door_key} if door_key
                   else {"BUSBAR_RUN": self.run})
        log = pathlib.Path(self.dir) / f"child{len(self.children)}.log"
        with open(log, "w", encoding="utf-8") as errors:
            child = subprocess.Popen(["/usr/bin/python3", "-c", text, *arguments], env=env,
                                     stderr=errors)
        child.said = log.read_text
        self.children.append(child)
        return child

    def actor(self, name="svc", slot=None, text=SERVICE, client=None, **more):
        """A process that runs an actor; with `client`, returns when that sees it."""
        slot = slot or f"{name}.1"
        child = self.script(text + "\nactor.run()\n", name, slot, **more)
        if client:
            wait_for(lambda: client.directory.get(slot, {}).get("pid") == child.pid, slot)
        return child

    def serve(self, actor):
        """Run an Actor in a thread of this process."""
        thread = threading.Thread(target=actor.run, args=(False,), daemon=True)
        thread.start()
        self.opened.callback(lambda: (actor.stop(), thread.join(SOON)))
        assert actor.ready.wait(SOON), "the actor is not ready"
        return actor

    def client(self, **more):
        return self.opened.enter_context(busbar.Client(self.run, **more))

    def guest(self, key, token="", **more):
        return self.opened.enter_context(busbar.Client(self.door, keys=key, token=token, **more))

    def raw(self, door_key=None):
        """A bare DEALER to the broker."""
        return self.opened.enter_context(Raw(self, door_key))

    def stop(self):
        self.opened.close()
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
        code = None
        if self.broker and self.broker.poll() is None:
            self.broker.send_signal(signal.SIGTERM)
            code = self.broker.wait(SOON)
        self.log.close()
        log = self.broker_log()
        shutil.rmtree(self.dir)
        assert code in (0, None), log


class Raw:
    """A DEALER without manners: sends any bytes, gives messages as they come."""

    def __init__(self, bus, door_key=None):
        #  One context for all of them: each has threads and descriptors of its own.
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.linger = 0
        self.waiting = []
        if door_key:
            keys = busbar.config.read_key_file(door_key)
            self.socket.curve_publickey = keys["public"].encode()
            self.socket.curve_secretkey = keys["secret"].encode()
            self.socket.curve_serverkey = keys["server"].encode()
        self.socket.connect(bus.door if door_key else f"ipc://{bus.run}/broker.s")

    def send(self, number, **fields):
        self.socket.send(wire.pack(number, **fields))

    def bytes(self, *parts):
        self.socket.send_multipart(parts)

    def hello(self, role="client", name="raw", **fields):
        self.send(wire.HELLO, role=role, name=name, boot="b-" + name, **fields)

    def receive(self, number, patience=5.0):
        """The next message of that number; others are left out, PING is answered."""
        deadline = time.monotonic() + patience
        while True:
            while self.waiting:
                message = self.waiting.pop(0)
                if message.number == wire.PING:
                    self.send(wire.PONG)
                if message.number == number:
                    return message
            left = deadline - time.monotonic()
            assert left > 0 and self.socket.poll(left * 1000), f"no message {number}"
            self.waiting += wire.unpack(self.socket.recv())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


IDENTITY = PRELUDE + """
actor.channel("identity")
state = {"dead": [], "grants": {}}

@actor.method("check")
def check(request):
    body = request.body
    if body.get("api_key_hash") == sys.argv[3]:
        return {"user": "robot", "role": "user", "kind": "key"}
    if body.get("api_key_hash") or body.get("jti") in state["dead"]:
        raise busbar.Fail("UNAUTHORIZED")
    role = "admin" if body["user"].startswith("admin") else "user"
    return {"user": body["user"], "role": role, "kind": "user"}

@actor.method("grants")
def grants(request):
    return {"audiences": state["grants"].get(request.params["user"], [])}

@actor.method("revocations")
def revocations(request):
    kept = actor._channels.get("sys/identity")
    return {"jtis": state["dead"], "users": [], "epoch": actor._epoch,
            "off": kept.top if kept else 0}

@actor.method("end", fields={"user": "text", "jti": "text"})
def end(request):
    state["dead"].append(request["jti"])
    actor.event("sys/identity", "revoked.session", dict(request.fields))

@actor.method("grant", fields={"user": "text", "audiences": "names"})
def grant(request):
    state["grants"][request["user"]] = request["audiences"]
    actor.event("sys/identity", "grants", dict(request.fields))
"""


@pytest.fixture
def bus():
    bus = Bus().start()
    yield bus
    bus.stop()


@pytest.fixture
def door():
    bus = Bus(door=True)
    bus.web = bus.make_key("web")
    bus.make_key("hello", "actor:hello", "/hello")
    bus.start()
    yield bus
    bus.stop()


@pytest.fixture
def known(door):
    """A door with identity behind it; `door.inside` is an operator's client."""
    door.inside = door.client()
    api_key = hashlib.sha256(b"bb_robot").hexdigest()
    child = door.script(IDENTITY + "\nactor.run()\n", "identity", "identity.1", api_key)
    wait_for(lambda: door.inside.directory.get("identity.1", {}).get("pid") == child.pid,
             "identity")
    door.identity = child
    return door
