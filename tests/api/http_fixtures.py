"""An edge of our own before a real broker and Python actors: for tests of HTTP itself."""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

from stack import SOON, wait_for

HOME = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("BUSBAR_BIN", HOME / "build" / "bin"))
SECRET = "a-secret-of-the-tests-that-is-long-enough"
ANON_KEY = "anon-key-of-the-tests"


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(user="ann", *, jti="t1", life=3600, secret=SECRET, alg="HS256", **claims):
    now = int(time.time())
    head = b64(json.dumps({"alg": alg, "typ": "JWT"}).encode())
    body = b64(json.dumps({"sub": user, "user_id": user, "jti": jti, "iat": now, "exp": now + life,
                           **claims}).encode())
    mac = hmac.new(secret.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{b64(mac)}"


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)


class Raw:
    """A TCP connection on which a test writes what it likes."""

    def __init__(self, edge, port=None):
        self.socket = socket.create_connection(("127.0.0.1", port or edge.port), timeout=10)
        if edge.tls and not port:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.socket = context.wrap_socket(self.socket)
        self.data = b""

    def send(self, data):
        self.socket.sendall(data.encode() if isinstance(data, str) else data)
        return self

    def fill(self):
        try:
            more = self.socket.recv(65536)
        except ConnectionResetError:
            more = b""
        self.data += more
        return bool(more)

    def answer(self, head=False):
        """The next answer; None when the peer closed instead."""
        while b"\r\n\r\n" not in self.data:
            if not self.fill():
                return None
        raw, self.data = self.data.split(b"\r\n\r\n", 1)
        lines = raw.decode().split("\r\n")
        status = int(lines[0].split()[1])
        headers = {}
        for line in lines[1:]:
            name, value = line.split(":", 1)
            headers[name.lower()] = value.strip()
        if head or status in (100, 204, 304):
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, self._chunks())
        if "content-length" not in headers:
            while self.fill():
                pass
            body, self.data = self.data, b""
            return Answer(status, headers, body)
        size = int(headers["content-length"])
        while len(self.data) < size:
            if not self.fill():
                return Answer(status, headers, self.data)
        body, self.data = self.data[:size], self.data[size:]
        return Answer(status, headers, body)

    def _chunks(self):
        body = b""
        while True:
            while b"\r\n" not in self.data:
                assert self.fill(), "cut inside of a chunk"
            size, self.data = self.data.split(b"\r\n", 1)
            size = int(size, 16)
            while len(self.data) < size + 2:
                assert self.fill(), "cut inside of a chunk"
            body, self.data = body + self.data[:size], self.data[size + 2:]
            if size == 0:
                return body

    def closed(self, seconds=5):
        """Does the peer close (whatever it still says)?"""
        self.socket.settimeout(seconds)
        try:
            while self.fill():
                pass
        except TimeoutError:
            return False
        return True

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Edge:
    def __init__(self, *options, env=None, actors=("identity", "shop"), tls=None):
        self.run = tempfile.mkdtemp(prefix="bb")
        self.tls = bool(tls)
        self.processes = {}
        self.log = open(f"{self.run}/log", "w+")
        #  freed memory that a sanitizer keeps back would look like ours
        self.env = {**os.environ, "JWT_SECRET": SECRET, "ASAN_OPTIONS": "quarantine_size_mb=4",
                    **(env or {})}
        self.start("broker", [BIN / "busbar-broker", "--run-dir", self.run,
                              "--keys-dir", f"{self.run}/keys"])
        for name in actors:
            self.actor(name)
        self.options = options
        if tls:
            self.options += ("--tls-cert", tls[0], "--tls-key", tls[1])
        self.port, self.admin_port = self.edge("edge.1")

    def start(self, name, command):
        self.processes[name] = subprocess.Popen([str(word) for word in command], env=self.env,
                                                stderr=self.log, cwd=self.run)
        return self.processes[name]

    def actor(self, kind, slot=None):
        slot = slot or f"{kind}.1"
        here = pathlib.Path(__file__).resolve().parent
        return self.start(slot, ["/usr/bin/python3", here / "http_actor.py", kind, self.run, slot])

    def edge(self, slot, port=0):
        before = len(self.logged())
        self.start(slot, [BIN / "busbar-edge", "--run-dir", self.run, "--slot", slot,
                          "--port", port, "--admin-port", 0, *self.options])

        def ports():
            text = self.logged()[before:]
            found = re.search(r'msg=listening .*port=(\d+)', text)
            admin = re.search(r'msg="admin listening" .*port=(\d+)', text)
            assert self.processes[slot].poll() is None, f"edge ended: {text}"
            return found and admin and (int(found[1]), int(admin[1]))

        return wait_for(ports, what="edge listening")

    def logged(self):
        self.log.flush()
        return pathlib.Path(f"{self.run}/log").read_text(errors="replace")

    def raw(self, port=None):
        return Raw(self, port)

    def ready(self, path="/open"):
        wait_for(lambda: self.get("/health/ready").status == 200 and self.get(path).status == 200,
                 what="stack ready")
        return self

    def request(self, verb, path, body=None, headers=None, **more):
        data = b"" if body is None else body
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            data = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        if body is not None or verb in ("POST", "PUT", "PATCH"):
            headers.setdefault("Content-Length", str(len(data)))
        headers.setdefault("Host", "localhost")
        if "token" in more:
            headers["Authorization"] = "Bearer " + more["token"]
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with self.raw(more.get("port")) as raw:
            raw.send(f"{verb} {path} HTTP/1.1\r\n{lines}\r\n".encode() + data)
            return raw.answer(head=verb == "HEAD")

    def get(self, path, headers=None, **more):
        return self.request("GET", path, None, headers, **more)

    def post(self, path, body=None, headers=None, **more):
        return self.request("POST", path, body, headers, **more)

    def cpu(self, slot="edge.1"):
        fields = pathlib.Path(f"/proc/{self.processes[slot].pid}/stat").read_text().split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    def memory(self, slot="edge.1"):
        for line in pathlib.Path(f"/proc/{self.processes[slot].pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024

    def kill(self, slot, signo=signal.SIGKILL):
        process = self.processes.pop(slot)
        process.send_signal(signo)
        return process.wait(SOON)

    def stop(self):
        codes = {}
        for name in reversed(list(self.processes)):
            process = self.processes[name]
            if process.poll() is None:
                process.terminate()
            try:
                codes[name] = process.wait(SOON)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
        self.log.close()
        if codes.get("edge.1"):
            sys.stderr.write(pathlib.Path(f"{self.run}/log").read_text(errors="replace")[-8000:])
        shutil.rmtree(self.run, ignore_errors=True)
        return codes
