"""Viewers that follow a log through everything, and load that counts what it was told."""

import json
import threading
import time

import httpx
import websockets

import busbar
from client import Live, LiveError, User
from identity_world import PASSWORD
from stack import wait_for

LAST = "execution.finished"


def all_up(stack, patience=30):
    """Ready by its own word, with every process there."""
    def ready():
        try:
            answer = httpx.get(stack.base + "/health/ready", timeout=2, trust_env=False)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200 and all(row["pid"] for row in stack.processes())
    wait_for(ready, "a system that is ready", patience)


def serves(user):
    """Does every actor reach the database again? Being ready does not say so."""
    asks = (("GET", "/workspaces", None), ("POST", "/workspaces", {"name": "back"}),
            ("GET", "/executions", None), ("GET", "/auth/me", None),
            ("POST", "/auth/signin", {"email": user.user["email"], "password": PASSWORD}))
    return all(user.request(*ask).status_code < 300 for ask in asks)


class Viewer:
    """Follows a log from its first event to its last, coming back where it was whenever it is thrown
    out. `events` are [(off, type, data)]."""

    def __init__(self, channel, epoch, user=None, stack=None):
        self.channel, self.epoch, self.off = channel, epoch, 0
        self.user, self.stack = user, stack
        self.events, self.gaps, self.connections = [], [], 0
        self.failure = None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()

    def _follow(self):
        try:
            while not self.ended.is_set():
                try:
                    self._attach()
                except (httpx.HTTPError, OSError, websockets.WebSocketException, AssertionError,
                        LiveError, busbar.BusError) as error:
                    self.failure = error
                self.ended.wait(0.05)
        except Exception as error:               # whoever waits says so
            self.failure = error
            raise

    def _take(self, off, kind, data):
        self.events.append((off, kind, data))
        self.off = off
        if kind == LAST:
            self.ended.set()

    def seen(self, count):
        return len(self.events) >= count

    def text(self):
        return "".join(data["text"] for _, kind, data in list(self.events) if kind == "execution.stream")

    def finish(self, patience=40):
        """The whole transcript, which has neither holes nor anything twice."""
        assert self.ended.wait(patience), \
            f"{type(self).__name__} has not seen the end: {len(self.events)} events, {self.failure!r}"
        offsets = [off for off, _, _ in self.events]
        assert offsets == list(range(1, len(offsets) + 1)), f"{type(self).__name__}: {offsets}"
        assert self.gaps == [], f"{type(self).__name__}: {self.gaps}"
        return self.events


class SocketViewer(Viewer):
    """WebSocket."""

    def _attach(self):
        live = Live(self.user.base, self.user.token, patience=5)
        try:
            self.connections += 1
            frames = live.subscribe(self.channel, off=self.off, epoch=self.epoch).frames
            while not self.ended.is_set():
                if live.closed.is_set() and frames.empty():
                    return
                try:
                    frame = frames.get(timeout=0.1)
                except Exception:                # queue.Empty
                    continue
                if "gap" in frame or "snap" in frame or "unsub" in frame:
                    self.gaps.append(frame)
                elif "off" in frame and "type" in frame:
                    self._take(frame["off"], frame["type"], frame["data"])
        finally:
            live.close()


class EventViewer(Viewer):
    """Server-sent events."""

    last = None

    def _attach(self):
        headers = {"Authorization": f"Bearer {self.user.token}",
                   "Last-Event-ID": self.last or f"0:{self.epoch}:0"}
        with httpx.Client(base_url=self.user.base, trust_env=False,
                          timeout=httpx.Timeout(5, read=30)) as http, \
                http.stream("GET", "/events", params={"ch": self.channel}, headers=headers) as answer:
            assert answer.status_code == 200, answer.status_code
            self.connections += 1
            rest = ""
            for piece in answer.iter_text():
                *whole, rest = (rest + piece).split("\n\n")
                for block in whole:
                    self._event(block)
                if self.ended.is_set():
                    return

    def _event(self, block):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line[1:])
        if "data" not in fields:
            return
        frame = json.loads(fields["data"])
        if "gap" in frame or "snap" in frame or "unsub" in frame:
            self.gaps.append(frame)
        elif "off" in frame and "type" in frame:
            self.last = fields["id"]
            self._take(frame["off"], frame["type"], frame["data"])


class BusViewer(Viewer):
    """The bus, inside: its library comes back by itself."""

    def _attach(self):
        with busbar.Client(str(self.stack.run)) as client:
            self.connections += 1
            subscription = client.subscribe(self.channel, epoch=self.epoch, off=self.off)
            while not self.ended.is_set():
                try:
                    item = subscription.next(timeout=0.2)
                except TimeoutError:
                    continue
                if isinstance(item, busbar.Gap):
                    self.gaps.append(item)
                else:
                    self._take(item.off, item.type, item.data)


class Load:
    """Threads that ask the same again and again and keep every answer: {status: count}."""

    def __init__(self, user, ask, threads=4):
        self.user, self.ask = user, ask
        self.statuses, self.strange = {}, []
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run, args=(n,), daemon=True)
                        for n in range(threads)]
        for thread in self.threads:
            thread.start()

    def _run(self, number):
        user, count = User(self.user.base, self.user.token), 0
        while not self.stopped.is_set():
            count += 1
            try:
                status, note = self.ask(user, f"{number}-{count}")
            except httpx.HTTPError as error:
                status, note = type(error).__name__, None
                self.stopped.wait(0.02)          # there is nobody to ask just now
            with self.lock:
                self.statuses[status] = self.statuses.get(status, 0) + 1
                if note is not None:
                    self.strange.append(note)
        user.close()

    def done(self):
        return sum(self.statuses.values())

    def wait(self, more, patience=30):
        """Until so many more answers have come."""
        wanted = self.done() + more
        wait_for(lambda: self.done() >= wanted, f"{more} more answers, {self.statuses}", patience)

    def through_kills(self, system, victim, more):
        """Two kills of that process; so many more answers come before, between and after."""
        self.wait(more)
        for _ in range(2):
            old = system.kill(victim)
            system.wait_restarted(victim, old)
            self.wait(more)

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join(30)
        return self.statuses


def now():
    return time.monotonic()
