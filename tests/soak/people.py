"""What the soak's people do, over and over: each kind is a loop of one thread, and every answer that is
not what it should be is kept."""

import itertools
import json
import random
import socket
import threading
import uuid

import httpx
import websockets

import busbar
from client import Live, LiveError, User
from identity_world import PASSWORD, address, stranger
from kernel_world import Notebook
from stack import SOON
from wsocket import Closed, Socket

EXPECTED = (httpx.HTTPError, OSError, AssertionError, LiveError, busbar.BusError,
            websockets.WebSocketException, Closed, TimeoutError, KeyError)


class Person(threading.Thread):
    """`turn` is done again and again until the end, with a pause."""

    pause = 0.2

    def __init__(self, crowd, number):
        super().__init__(daemon=True)
        self.crowd, self.number = crowd, number
        self.dice = random.Random(f"{type(self).__name__}{number}")
        self.user = crowd.sign_up(type(self).__name__.lower())

    def run(self):
        self.begin()
        for count in itertools.count(1):
            try:
                self.turn(count)
                self.crowd.count(type(self).__name__)
            except EXPECTED as error:
                self.crowd.failed(type(self).__name__, error)
            if self.crowd.over.wait(self.crowd.pace * self.pause * self.dice.uniform(0.5, 1.5)):
                break
        self.end()

    def begin(self):
        pass

    def end(self):
        self.user.close()


class Writer(Person):
    """REST: a row comes, is read, changed, listed, asked for again, and goes."""

    pause = 0.05

    def turn(self, count):
        user = self.user
        key = {"Idempotency-Key": uuid.uuid4().hex}
        body = {"name": f"w {count}", "config": {"text": "x" * self.dice.randint(1, 4000)}}
        made = user.post("/workspaces", body, expect=201, headers=key)
        again = user.post("/workspaces", body, expect=201, headers=key)
        assert again["id"] == made["id"], "the key made two"
        path = f"/workspaces/{made['id']}"
        etag = user.request("GET", path, expect=200).headers.get("etag")
        if etag:
            user.request("GET", path, headers={"If-None-Match": etag}, expect=304)
        user.put(path, {"name": f"renamed {count}"})
        user.get("/workspaces?limit=5")
        user.get("/workspaces/" + str(uuid.uuid4()), expect=404)
        user.post("/workspaces", {"name": 5}, expect=400)
        user.delete(path)


class Tab(Person):
    """WebSocket: comes back where it was, sometimes without having said goodbye."""

    def begin(self):
        self.off = self.epoch = None

    def turn(self, count):
        live = Live(self.user.base, self.user.token)
        try:
            channel = live.subscribe("workspaces", off=self.off, epoch=self.epoch,
                                     snapshot=self.off is None or count % 7 == 0)
            made = live.call("workspaces.create", body={"name": f"tab {count}"})["body"]
            #  What changes while a snapshot is on its way comes as an event behind it, or in it.
            seen = channel.until(lambda frame: frame.get("key") == made["id"]
                                 or made["id"] in [row["id"] for row in frame.get("snap", ())])
            if "snap" in seen[-1]:
                seen = channel.until(lambda frame: "snap_end" in frame)
            self.off, self.epoch = seen[-1]["off"], channel.answer["epoch"]
            for number in range(20):
                live.subscribe(f"executions/{uuid.UUID(int=count * 100 + number)}").unsubscribe()
            self.user.delete(f"/workspaces/{made['id']}")
            channel.until(lambda frame: frame.get("type") == "workspace.deleted")
            if count % 2:
                channel.unsubscribe()
        finally:
            live.close()


class Vanisher(Person):
    """Hangs up in the middle of everything."""

    def turn(self, count):
        host, port = self.user.base.removeprefix("http://").split(":")
        auth = f"Host: x\r\nAuthorization: Bearer {self.user.token}\r\n"
        what = [f"GET /workspaces HTTP/1.1\r\n{auth}\r\n",
                f"POST /workspaces HTTP/1.1\r\n{auth}Content-Length: 500\r\n\r\n{{",
                f"GET /events?ch=workspaces HTTP/1.1\r\n{auth}\r\n",
                f"GET /soak/download?size=5000000 HTTP/1.1\r\n{auth}\r\n",
                f"POST /soak/upload HTTP/1.1\r\n{auth}Content-Length: 5000000\r\n\r\n" + "x" * 200000,
                f"GET /executions?limit=1 HTTP/1.1\r\n{auth}Conn"][count % 6]
        with socket.create_connection((host, int(port)), SOON) as raw:
            raw.settimeout(SOON)
            raw.sendall(what.encode())
            if count % 6 in (2, 3):
                raw.recv(1000)
        bare = Socket(self.user.base.replace("http", "ws", 1) + "/ws")
        bare.send(json.dumps({"id": 1, "connect": {"token": self.user.token}}))
        bare.recv()
        bare.send(json.dumps({"id": 2, "subscribe": {"ch": "workspaces"}}))
        bare.socket.transport.abort()
        bare._run(bare.socket.wait_closed())
        bare.loop.close()


class Reader(Person):
    """Server-sent events: a few, then gone, then on from there."""

    def begin(self):
        self.last = None

    def turn(self, count):
        made = self.user.post("/workspaces", {"name": f"sse {count}"}, expect=201)
        headers = {"Authorization": f"Bearer {self.user.token}",
                   "Last-Event-ID": self.last or f"0:{made['live']['epoch']}:0"}
        with httpx.stream("GET", f"{self.user.base}/events", params={"ch": "workspaces"},
                          headers=headers, trust_env=False, timeout=SOON) as answer:
            assert answer.status_code == 200, answer.status_code
            for line in answer.iter_lines():
                line = line.rstrip("\n")
                if line.startswith("id: "):
                    self.last = line[4:]
                if line.startswith("data: ") and made["id"] in line:
                    break
        self.user.delete(f"/workspaces/{made['id']}")


class Analyst(Person):
    """Cells in a kernel that stays, some of them followed while they run."""

    pause = 1.0

    def begin(self):
        self.notebook = Notebook(self.user)

    def turn(self, count):
        text = self.notebook.run(f"{count} * 2", expect=200)
        assert text["output"] == str(count * 2), text
        run = self.notebook.begin(f"for n in range(50):\n    print('line', n, '{'x' * 200}', flush=True)",
                                  expect=(200, 202))       # 200: over already
        live = Live(self.user.base, self.user.token)
        try:
            where = run.answer["live"]
            live.subscribe(where["ch"], off=0, epoch=where["epoch"]).until(
                lambda frame: frame.get("type") == "execution.finished", 60)
        finally:
            live.close()
        if count % 20 == 0:
            self.end_kernel()

    def end_kernel(self):
        self.user.request("DELETE", f"/kernels/{self.notebook.id}")

    def end(self):
        self.end_kernel()
        super().end()


class Importer(Person):
    """Uploads and downloads, whole and streamed."""

    pause = 0.5

    def turn(self, count):
        cells = [{"cell_type": "code", "source": "1\n" * 500, "metadata": {}, "outputs": [],
                  "execution_count": None}] * 20
        made = self.user.post("/notebooks/import", {"nbformat": 4, "nbformat_minor": 4, "metadata": {},
                                                    "cells": cells}, expect=201)
        self.user.get(f"/notebooks/{made['id']}/export")
        self.user.delete(f"/notebooks/{made['id']}")
        size = self.dice.randint(1, 3_000_000)
        answer = self.user.request("POST", "/soak/upload", content=b"x" * size, expect=200)
        assert answer.json()["size"] == size
        answer = self.user.request("GET", f"/soak/download?size={size}", expect=200)
        assert len(answer.content) == size


class Visitor(Person):
    """Signs in and out, with strangers and stale tokens between."""

    pause = 0.5

    def turn(self, count):
        email = self.user.user["email"]
        guest = User(self.user.base)
        try:
            if count % 5 == 0:
                #  From addresses that nobody uses again: failures count against theirs.
                other = stranger(self.crowd.stack)
                other.post("/auth/signin", {"email": address("nobody"), "password": PASSWORD}, expect=401)
                other.close()
            answer = guest.post("/auth/signin", {"email": email, "password": PASSWORD})
            guest.token = answer["token"]
            guest.get("/auth/me")
            renewed = User(self.user.base).post("/auth/refresh",
                                                {"refresh_token": answer["refresh_token"]})
            guest.post("/auth/signout", {})
            guest.token = renewed["token"]
            guest.request("GET", "/auth/me", expect=(200, 401))
        finally:
            guest.close()


class Insider(Person):
    """A program on the bus that comes and goes."""

    pause = 1.0

    def turn(self, count):
        with busbar.Client(str(self.crowd.stack.run)) as client:
            subscription = client.subscribe(f"user:{self.user.id}/workspaces")
            made = self.user.post("/workspaces", {"name": f"bus {count}"}, expect=201)
            while getattr(item := subscription.next(timeout=SOON), "key", None) != made["id"]:
                assert not isinstance(item, busbar.Gap), item
            client.call("platform.stats")
        self.user.delete(f"/workspaces/{made['id']}")


KINDS = {Writer: 3, Tab: 3, Vanisher: 2, Reader: 2, Analyst: 1, Importer: 1, Visitor: 2, Insider: 1}


class Crowd:
    """Everybody at once, and what became of it."""

    def __init__(self, stack, pace=1.0):
        self.stack, self.pace = stack, pace
        self.over, self.lock = threading.Event(), threading.Lock()
        self.counts, self.failures = {}, []
        self.people = [kind(self, number) for kind, count in KINDS.items() for number in range(count)]

    def sign_up(self, name):
        user = User(self.stack.base)
        email = address(name)
        answer = user.post("/auth/signup", {"email": email, "password": PASSWORD}, expect=201)
        user.token, user.user = answer["token"], {"email": email, **answer["user"]}
        return user

    def start(self):
        for person in self.people:
            person.start()

    def count(self, kind):
        with self.lock:
            self.counts[kind] = self.counts.get(kind, 0) + 1

    def failed(self, kind, error):
        with self.lock:
            self.failures.append(f"{kind}: {type(error).__name__} {str(error)[:300]}")

    def stop(self):
        self.over.set()
        for person in self.people:
            person.join(90)
            assert not person.is_alive(), f"{type(person).__name__} does not come to an end"
