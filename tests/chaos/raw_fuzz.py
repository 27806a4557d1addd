#!/usr/bin/python3
"""Hostile and broken clients against a running system: HTTP and WebSocket over bare sockets, by grammar and by
damage. Whatever they send, the edge lives and stays small, answers are HTTP and JSON, nobody says 5xx but 503, and
no process dies.

    tests/chaos/raw_fuzz.py --seconds 1800 [--seed N] [--threads 2] [--out DIR]
    tests/chaos/raw_fuzz.py --seed N --case M          the same case again
    tests/chaos/raw_fuzz.py --replay FILE              one that was kept

BUSBAR_BIN says which programs; `make fuzz-edge` takes those with sanitizers."""

import argparse
import collections
import glob
import json
import os
import pathlib
import random
import re
import shutil
import socket
import struct
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "api"), str(HERE.parents[1] / "proto" / "python")]

from client import User  # noqa: E402
from identity_world import PASSWORD, address  # noqa: E402
from raw_case import TOKEN, Case, Saved, save  # noqa: E402
from stack import Stack  # noqa: E402

#  libwebsockets' own word on methods and addresses that it does not take.
FORBIDDEN = b"HTTP/1.0 403 Forbidden\r\ncontent-type: text/html\r\ncontent-length: 173"
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [ -~]*\Z")
HEADER = re.compile(rb"[A-Za-z0-9-]+: [^\r\n\0]*\Z")
#  Programs of the user's own are slow to start and are nobody's parser.
SKIPPED = re.compile(r"sign_?out|logout|kernels?\.|execut|\.run\b")
GROWTH = 256 * 1024 * 1024


class Finding(Exception):
    pass


class World:
    """What a case draws from: announced operations, ids that were seen, and who asks."""

    def __init__(self, stack):
        self.base, self.port = stack.base, stack.port
        self.ids, self.lock, self.token = [], threading.Lock(), ""
        self.statuses = collections.Counter()
        self.sign_up()
        user = User(self.base)
        self.document = user.get("/openapi.json")
        user.close()
        self.operations, self.methods = [], []
        for path, verbs in self.document["paths"].items():
            for verb, about in verbs.items():
                name = about.get("operationId", "")
                if SKIPPED.search(name) and verb != "get":
                    continue
                schema = about.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
                names = [p["name"] for p in about.get("parameters", []) if p["in"] == "query"]
                if not path.startswith("/events"):
                    self.operations.append((path, verb.upper(), schema, names))
                if name and not SKIPPED.search(name):
                    self.methods.append(name)

    def sign_up(self):
        user = User(self.base)
        self.token = user.post("/auth/signup", {"email": address("fuzz"), "password": PASSWORD}, expect=201)["token"]
        user.close()

    def seen(self, document):
        """Ids of what was made or listed, for paths of later cases."""
        found = re.findall(r'"id":\s*"([0-9a-f-]{36})"', document)
        with self.lock:
            self.ids = (self.ids + found)[-200:]


class Peer:
    """One connection of a client, and what came back."""

    def __init__(self, world, case):
        self.world, self.case = world, case
        self.socket = socket.create_connection(("127.0.0.1", world.port), timeout=20)
        self.data, self.closed = b"", False

    def send(self):
        token = self.world.token.encode()
        try:
            for piece in self.case.pieces:
                self.socket.sendall(piece.replace(TOKEN, token))
                if len(self.case.pieces) > 1 and not self.case.upgrade:
                    self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (ConnectionResetError, BrokenPipeError):
            self.closed = True

    def fill(self, seconds):
        self.socket.settimeout(seconds)
        try:
            more = self.socket.recv(262144)
        except TimeoutError:
            return False
        except (ConnectionResetError, BrokenPipeError):
            more = b""
        self.data += more
        self.closed = self.closed or not more
        return bool(more)

    def leave(self):
        if self.case.leave == "reset":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # ------------------------------------------------------------ answers

    def take(self, count, seconds):
        """That many bytes, or None when the peer closed before."""
        while len(self.data) < count:
            if not self.fill(seconds):
                if self.closed:
                    return None
                raise Finding(f"an answer stopped in the middle: {self.data[:200]!r}")
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def head(self, seconds):
        """(status, headers) of the next answer; None: closed, or nothing came."""
        while b"\r\n\r\n" not in self.data:
            if not self.fill(seconds):
                if self.data and self.closed and self.case.verbs is not None:
                    raise Finding(f"closed inside of a head: {self.data[:200]!r}")
                return None
        raw, self.data = self.data.split(b"\r\n\r\n", 1)
        if raw == FORBIDDEN and self.case.verbs is None:
            return 403, {"content-length": "173"}
        first, *lines = raw.split(b"\r\n")
        if not STATUS.match(first) or not all(HEADER.match(line) for line in lines):
            raise Finding(f"not an answer: {raw[:500]!r}")
        headers = {}
        for line in lines:
            name, text = line.decode("latin-1").split(": ", 1)
            if name.lower() in headers and name.lower() in ("content-length", "content-type", "transfer-encoding"):
                raise Finding(f"{name} twice: {raw!r}")
            headers[name.lower()] = text
        if "x-evil" in headers:
            raise Finding(f"a header of the client's own: {raw!r}")
        status = int(first.split()[1])
        self.world.statuses[status] += 1
        if status >= 500 and status != 503:
            rest = self.data or (self.fill(1) and self.data)
            raise Finding(f"status {status}: {raw!r} {rest!r}")
        return status, headers

    def chunks(self):
        body = b""
        while True:
            while b"\r\n" not in self.data:
                if not self.fill(20):
                    raise Finding("cut inside of a chunk")
            size, self.data = self.data.split(b"\r\n", 1)
            part = self.take(int(size, 16) + 2, 20)
            if part is None or not part.endswith(b"\r\n"):
                raise Finding("a chunk without end")
            body += part[:-2]
            if size == b"0":
                return body

    def answer(self, verb, seconds):
        """One whole answer: its status. 0: there is none."""
        head = self.head(seconds)
        if head is None:
            return 0
        status, headers = head
        if status == 100:
            return self.answer(verb, seconds)
        if verb == "HEAD" or status in (101, 204, 304):
            return status
        if headers.get("transfer-encoding") == "chunked":
            body = self.chunks()
        elif "content-length" in headers:
            body = self.take(int(headers["content-length"]), 20)
            if body is None:
                raise Finding(f"fewer bytes than {headers['content-length']}: {headers}")
        else:
            while self.fill(20):
                pass
            body, self.data = self.data, b""
        if headers.get("content-type", "").startswith("application/json") and "content-encoding" not in headers:
            try:
                text = body.decode()
                json.loads(text)
            except ValueError as error:
                raise Finding(f"an answer that is no json ({error}): {headers} {body[:500]!r}") from None
            if status < 300:
                self.world.seen(text)
            if status >= 400 and not {"error", "message", "code", "details"} <= json.loads(text).keys():
                raise Finding(f"an error that is none of ours: {body[:500]!r}")
        return status

    def frames(self):
        """Frames of the server: whole, not masked, no reserved bits."""
        while True:
            while len(self.data) < 2 and self.fill(0.05):
                pass
            if len(self.data) < 2:
                return
            first, second = self.data[:2]
            if first & 0x70 or second & 0x80 or first & 15 not in (0, 1, 2, 8, 9, 10):
                raise Finding(f"a frame that is none: {self.data[:40]!r}")
            length, at = second & 0x7F, 2
            if length > 125:
                at = 4 if length == 126 else 10
                while len(self.data) < at:
                    if not self.fill(20):
                        return
                length = int.from_bytes(self.data[2:at], "big")
            while len(self.data) < at + length:
                if not self.fill(20):
                    return
            payload, self.data = self.data[at:at + length], self.data[at + length:]
            if first & 15 in (1, 8):
                try:
                    payload[2 if first & 15 == 8 else 0:].decode()
                except UnicodeDecodeError:
                    raise Finding(f"text that is no utf-8: {payload[:200]!r}") from None

    def run(self):
        self.send()
        if self.case.leave == "half" and not self.closed:
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                self.closed = True
        if self.case.upgrade:
            if self.answer("GET", 0.3) == 101:
                self.frames()
        elif self.case.verbs is not None:
            for verb in self.case.verbs:
                if not self.answer(verb, 40):
                    #  A pipelined body is refused by closing (libwebsockets); the first answer never is.
                    if verb is self.case.verbs[0] and len(self.case.verbs) == 1:
                        raise Finding("no answer to a good request")
                    break
        elif self.case.leave != "reset":
            self.head(0.1)
        self.leave()


class Fuzzer:
    """Cases from a seed, on several threads, until the time is over. `findings`: what was wrong."""

    def __init__(self, stack, seed, threads=2, out=None):
        self.stack, self.seed, self.threads, self.out = stack, seed, threads, out
        self.world = World(stack)
        self.findings, self.done, self.stop = [], 0, threading.Event()
        self.lock, self.next = threading.Lock(), 0
        self.slowest = 0.0
        self.pids = {row["slot"]: row["pid"] for row in stack.processes()}

    def found(self, what, number=None, case=None):
        with self.lock:
            self.findings.append(what)
            print(f"FOUND seed={self.seed} case={number}: {what[:3000]}", file=sys.stderr, flush=True)
            if case is not None and self.out:
                save(case, f"{self.out}/case-{self.seed}-{number}")

    def one(self, number):
        case = Case(random.Random(f"{self.seed}/{number}"), self.world)
        self.play(case, number)

    def play(self, case, number=None):
        try:
            Peer(self.world, case).run()
        except (Finding, ConnectionError, TimeoutError) as error:
            if not self.stop.is_set():
                self.found(f"{type(error).__name__} {error}", number, case)

    def work(self):
        while not self.stop.is_set():
            with self.lock:
                number, self.next = self.next, self.next + 1
            try:
                self.one(number)
            except Exception as error:          # the fuzzer's own mistakes are findings, too
                self.found(f"{type(error).__name__} {error}", number)
            with self.lock:
                self.done += 1

    def memory(self):
        for line in pathlib.Path(f"/proc/{self.pids['edge.1']}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024
        return 0

    def healthy(self):
        started = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", self.stack.port), timeout=15) as peer:
                peer.settimeout(15)
                peer.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                first = peer.recv(65536)
        except OSError as error:
            first = repr(error).encode()
        self.slowest = max(self.slowest, time.monotonic() - started)
        if not first.startswith(b"HTTP/1.1 200 "):
            self.found(f"/health says {first[:300]!r} after {time.monotonic() - started:.1f} s")
            return False
        return True

    def alive(self):
        now = {row["slot"]: row["pid"] for row in self.stack.processes()}
        if now != self.pids:
            self.found(f"a process died: {self.pids} became {now} before case {self.next}")
            self.pids = now
        user = User(self.world.base, self.world.token)
        if user.request("GET", "/auth/me").status_code == 401:
            self.world.sign_up()
        user.close()
        return self.healthy()

    def run(self, seconds, report=60):
        workers = [threading.Thread(target=self.work, daemon=True) for _ in range(self.threads)]
        for worker in workers:
            worker.start()
        end, base, said = time.monotonic() + seconds, None, time.monotonic()
        while time.monotonic() < end and len(self.findings) < 50:
            self.stop.wait(min(1.0, max(0.0, end - time.monotonic())))
            self.alive()
            if base is None and self.done > 500:
                base = self.memory()
            if base and self.memory() - base > GROWTH:
                self.found(f"the edge grew from {base >> 20} to {self.memory() >> 20} MiB")
                base = self.memory()
            if time.monotonic() - said > report:
                said = time.monotonic()
                print(f"{self.done} cases, {len(self.findings)} findings, edge {self.memory() >> 20} MiB, "
                      f"slowest /health {self.slowest:.2f} s", flush=True)
        self.stop.set()
        for worker in workers:
            worker.join(60)
        self.alive()
        print(" ".join(f"{status}:{count}" for status, count in sorted(self.world.statuses.items())))
        print(f"seed {self.seed}: {self.done} cases, {len(self.findings)} findings, edge {self.memory() >> 20} MiB, "
              f"slowest /health {self.slowest:.2f} s", flush=True)
        return self.findings


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--out", default="build/fuzz-edge")
    options.add_argument("--case", type=int)
    options.add_argument("--replay")
    chosen = options.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    reports = tempfile.mkdtemp(prefix="bbfuzz", dir="/tmp")
    os.chmod(reports, 0o1777)
    os.environ.update(ASAN_OPTIONS=f"log_path={reports}/report:quarantine_size_mb=16",
                      UBSAN_OPTIONS=f"print_stacktrace=1:log_path={reports}/report")
    stack = Stack("--set=edge.access-log=false").wait(180)
    try:
        fuzzer = Fuzzer(stack, chosen.seed, chosen.threads, chosen.out)
        if chosen.replay:
            fuzzer.play(Saved(chosen.replay))
        elif chosen.case is not None:
            fuzzer.one(chosen.case)
        else:
            fuzzer.run(chosen.seconds)
    finally:
        pathlib.Path(chosen.out).mkdir(parents=True, exist_ok=True)
        pathlib.Path(chosen.out, "log").write_text(stack.log_text(), encoding="utf-8")
        code = stack.stop()
    if code:
        fuzzer.found(f"the system ended with {code}")
    for name in glob.glob(f"{reports}/report*"):
        fuzzer.found(pathlib.Path(name).read_text(errors="replace"))
    shutil.rmtree(reports)
    return 1 if fuzzer.findings else 0


if __name__ == "__main__":
    sys.exit(main())
