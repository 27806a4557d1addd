"""A broker, programs under test, and sockets without manners to look at them from close by."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import zmq

from busbar import wire

HEARTBEAT = 250          # ms: what is dead is found out within a second
PATIENCE = 5.0
CREDIT = 4               # of our actors: small, so that whoever takes more is seen


class Failed(Exception):
    """What is not as the protocol wants it."""


def need(condition, text):
    if not condition:
        raise Failed(text)


class World:
    """Everything of one run; pump() is the loop of it."""

    def __init__(self, broker):
        self.directory = tempfile.mkdtemp(prefix="bbc", dir="/tmp")
        self.run = f"{self.directory}/r"
        self.broker_program, self.broker = broker, None
        self.context = zmq.Context()
        self.readers = {}            # socket → function of its parts
        self.ticks, self.peers = [], []
        self.poller = zmq.Poller()
        self.log = open(f"{self.directory}/broker.log", "ab")
        self.closing = contextlib.ExitStack()

    # -- the broker

    def start_broker(self):
        self.broker = subprocess.Popen(
            [self.broker_program, "--run-dir", self.run, "--heartbeat", str(HEARTBEAT)],
            stderr=self.log)
        self.until(lambda: os.path.exists(f"{self.run}/broker.s"), "the broker to listen")
        for peer in self.peers:
            peer.connect()

    def kill_broker(self):
        self.broker.kill()
        self.broker.wait()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.run}/broker.s")

    # -- sockets

    def socket(self, kind, address, reader):
        """A socket whose frames go to reader (parts)."""
        sock = self.context.socket(kind)
        sock.linger = 0
        if kind == zmq.ROUTER:
            sock.router_mandatory = 1
            sock.bind(address)
        else:
            sock.connect(address)
        self.readers[sock] = reader
        self.poller.register(sock, zmq.POLLIN)
        return sock

    def drop(self, sock):
        self.poller.unregister(sock)
        del self.readers[sock]
        sock.close(0)

    def watch(self, stream, reader):
        self.readers[stream.fileno()] = reader
        self.poller.register(stream.fileno(), zmq.POLLIN)

    def unwatch(self, stream):
        self.readers.pop(stream.fileno(), None)
        with contextlib.suppress(KeyError):
            self.poller.unregister(stream.fileno())

    # -- the loop

    def pump(self, seconds=0.02):
        for sock, _ in self.poller.poll(seconds * 1000):
            reader = self.readers.get(sock)
            if reader and isinstance(sock, int):
                reader()
            elif reader:
                for _ in range(100):
                    try:
                        parts = sock.recv_multipart(zmq.DONTWAIT)
                    except zmq.ZMQError:
                        break
                    reader(parts)
        for tick in list(self.ticks):
            tick()

    def until(self, condition, what, patience=PATIENCE):
        """The first true value of condition(); Failed names what did not happen."""
        deadline = time.monotonic() + patience
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                raise Failed(f"waited {patience:g} s in vain for {what}")
            self.pump()

    def idle(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.pump()

    def close(self):
        self.closing.close()
        for sock in [sock for sock in self.readers if not isinstance(sock, int)]:
            self.drop(sock)
        if self.broker and self.broker.poll() is None:
            self.broker.terminate()
            self.broker.wait(10)
        self.log.close()
        self.context.destroy(0)
        shutil.rmtree(self.directory, ignore_errors=True)


class Program:
    """The program under test."""

    def __init__(self, world, command, lines):
        self.world, self.said = world, []
        self.pending = b""
        environment = {name: value for name, value in os.environ.items()
                       if name not in ("BUSBAR_DOOR", "BUSBAR_TOKEN", "BUSBAR_KEY_FILE")}
        self.process = subprocess.Popen(
            command, env={**environment, "BUSBAR_RUN": world.run},
            stdin=subprocess.PIPE if lines else subprocess.DEVNULL,
            stdout=subprocess.PIPE if lines else sys.stderr)
        if lines:
            os.set_blocking(self.process.stdout.fileno(), False)
            world.watch(self.process.stdout, self._read)
        world.closing.callback(self.end)

    def _read(self):
        data = self.process.stdout.read()
        if not data:
            self.world.unwatch(self.process.stdout)
            return
        *lines, self.pending = (self.pending + data).split(b"\n")
        for line in lines:
            try:
                self.said.append(json.loads(line))
            except ValueError:
                raise Failed(f"not a JSON line: {line[:200]}") from None

    def tell(self, **command):
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()

    def signal(self, number):
        self.process.send_signal(number)

    def ended(self):
        return self.process.poll() is not None

    def end(self):
        if not self.ended():
            self.process.kill()
        self.process.wait()


class Peer:
    """A DEALER to the broker that keeps itself registered, also with the next broker."""

    def __init__(self, world, **hello):
        self.world, self.hello = world, {"boot": secrets.token_hex(4), "version": 1, **hello}
        self.entries, self.replies, self.events, self.subscribed = {}, {}, [], []
        self.calls = secrets.randbelow(1 << 32)
        self.sock = None
        self.connect()
        world.ticks.append(self._tick)
        world.peers.append(self)

    def connect(self):
        if self.sock:
            self.world.drop(self.sock)
        self.welcomed, self.heard, self.sent = False, time.monotonic(), 0.0
        self.sock = self.world.socket(zmq.DEALER, f"ipc://{self.world.run}/broker.s", self._take)
        self.send(wire.HELLO, **self.hello)

    def send(self, number, **fields):
        with contextlib.suppress(zmq.ZMQError):
            self.sock.send(wire.pack(number, **fields), zmq.DONTWAIT)
            self.sent = time.monotonic()

    def _take(self, parts):
        self.heard = time.monotonic()
        for message in wire.unpack(parts[0]):
            number = message.number
            if number == wire.WELCOME:
                self.welcomed = True
            elif number == wire.REFUSED:
                need(message.code in ("UNKNOWN", "UNAVAILABLE"),
                     f"the broker refused us: {message.code} {message.text}")
                self.send(wire.HELLO, **self.hello)
            elif number == wire.DIRECTORY:
                self._directory(message)
            elif number == wire.REPLY:
                self.replies[message.id] = message
            elif number == wire.SUBSCRIBED:
                self.subscribed.append(message.channel)
            elif number == wire.EVENT:
                self.events.append(message)

    def _directory(self, message):
        if message.whole:
            self.entries = {}
        for entry in message.entries or ():
            slot = entry["slot"]
            if entry.get("state") == "gone":
                if self.entries.get(slot, {}).get("boot") == entry.get("boot"):
                    del self.entries[slot]
            else:
                self.entries[slot] = {**self.entries.get(slot, {}), **entry}

    def _tick(self):
        now = time.monotonic()
        if now - self.heard > 4 * HEARTBEAT / 1000:
            self.connect()
        elif now - self.sent > HEARTBEAT / 2000:
            self.send(wire.PING)

    def ask(self, method, **body):
        """Call something through the broker: its own methods."""
        self.calls += 1
        number = self.calls
        self.send(wire.CALL, id=number, method=method, ttl=5000, body=body)
        reply = self.world.until(lambda: self.replies.pop(number, None), f"{method} to answer")
        need(reply.status == 200, f"{method} answers {reply.status} {reply.body}")
        return reply.body

    def drop(self):
        """Gone without a word."""
        self.world.ticks.remove(self._tick)
        self.world.peers.remove(self)
        self.world.drop(self.sock)


class Runner:
    """Runs checks one after the other; the last line counts them."""

    def __init__(self):
        self.passed = self.failed = 0

    def run(self, name, check, *arguments):
        try:
            check(*arguments)
        except Exception as failure:
            #  Whatever else goes wrong in a check comes of answers that have another shape.
            self.failed += 1
            kind = "" if isinstance(failure, Failed) else f"{type(failure).__name__}: "
            print(f"FAILED  {name}: {kind}{failure}", flush=True)
        else:
            self.passed += 1
            print(f"ok      {name}", flush=True)

    def verdict(self):
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0


STOP, GO = signal.SIGSTOP, signal.SIGCONT
