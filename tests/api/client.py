"""A person at the edge: REST in one line each, and live channels over WebSocket."""

import asyncio
import contextlib
import functools
import inspect
import itertools
import json
import os
import queue
import subprocess
import threading
import uuid

import httpx
import pytest
import websockets

from stack import SOON, Stack

PASSWORD = "Correct-horse-7-battery"


@functools.cache
def sandbox_possible():
    """Does this machine give who runs the tests what a kernel's sandbox is made of?"""
    return os.geteuid() == 0 or subprocess.run(["unshare", "--user", "true"], check=False,
                                               stderr=subprocess.DEVNULL).returncode == 0


class User:
    """Signed in (`token`) or not (None). Verbs return the decoded body and check the status."""

    def __init__(self, base, token=None, user=None, headers=None):
        self.base, self.token, self.user = base, token, user or {}
        self.http = httpx.Client(base_url=base, timeout=60.0, headers=headers, trust_env=False)
        self._live = None

    @property
    def id(self):
        return self.user["id"]

    def request(self, verb, path, body=None, *, expect=None, headers=None, **options):
        """The whole response. `expect`: a status, several, or None for any."""
        headers = dict(headers or {})
        if self.token:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        if body is not None:
            options["json"] = body
        response = self.http.request(verb, path, headers=headers, **options)
        if response.status_code == 503 and "kernels need a sandbox" in response.text \
                and not sandbox_possible():
            pytest.skip("this machine gives ordinary users no user namespaces: no kernels")
        wanted = expect if isinstance(expect, (tuple, list, set)) else (expect,)
        assert expect is None or response.status_code in wanted, \
            f"{verb} {path}: {response.status_code}, not {expect}: {response.text[:2000]}"
        return response

    def _body(self, verb, path, body, expect, options):
        response = self.request(verb, path, body, expect=expect, **options)
        if not response.content:
            return None
        kind = response.headers.get("content-type", "")
        return response.json() if "json" in kind else response.text

    def get(self, path, expect=200, **options):
        return self._body("GET", path, None, expect, options)

    def post(self, path, body=None, expect=200, **options):
        return self._body("POST", path, body, expect, options)

    def put(self, path, body=None, expect=200, **options):
        return self._body("PUT", path, body, expect, options)

    def patch(self, path, body=None, expect=200, **options):
        return self._body("PATCH", path, body, expect, options)

    def delete(self, path, body=None, expect=200, **options):
        return self._body("DELETE", path, body, expect, options)

    @property
    def live(self):
        """One WebSocket per user, opened when first asked for."""
        if self._live is None:
            self._live = Live(self.base, self.token)
        return self._live

    def another_live(self):
        """A connection of its own: another tab."""
        return Live(self.base, self.token)

    def close(self):
        if self._live:
            self._live.close()
        self.http.close()


def signed_up(base, name="ann"):
    """Somebody new at that system."""
    user = User(base)
    user.password = PASSWORD
    email = f"{name}-{uuid.uuid4().hex[:10]}@example.org"
    answer = user.post("/auth/signup", {"email": email, "password": PASSWORD, "name": name}, expect=201)
    user.token, user.user = answer["token"], answer["user"]
    return user


def person(name, on="system"):
    """A fixture: somebody new at the system that the fixture `on` is, for a module."""
    def somebody(**fixtures):
        user = signed_up(fixtures[on].base, name)
        yield user
        user.close()

    #  As if it had named that fixture as its argument: then it ends before that one does.
    somebody.__signature__ = inspect.Signature([inspect.Parameter(on, inspect.Parameter.KEYWORD_ONLY)])
    return pytest.fixture(scope="module")(somebody)


@contextlib.contextmanager
def own_system(*flags, **options):
    """A system of a test's own, and somebody at it."""
    system = Stack(*flags, **options).wait()
    user = signed_up(system.base)
    try:
        yield system, user
    finally:
        user.close()
        code = system.stop()
    assert code == 0


class LiveError(Exception):
    """The server answered a frame of ours with an error."""

    def __init__(self, error):
        super().__init__(json.dumps(error))
        self.error = error
        self.code = error.get("code")


class Channel:
    """Frames of one subscription, in order."""

    def __init__(self, live, name):
        self.live, self.name, self.answer = live, name, {}
        self.frames = queue.Queue()

    def next(self, timeout=SOON):
        """The next frame: an event, {"snap": …}, {"snap_end": …}, {"gap": …} or {"unsub": …}."""
        try:
            return self.frames.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"nothing on {self.name} for {timeout} s") from None

    def until(self, condition, timeout=SOON):
        """All frames up to the first that satisfies; that one is last."""
        seen = []
        while True:
            seen.append(self.next(timeout))
            if condition(seen[-1]):
                return seen

    def nothing_waits(self):
        return self.frames.empty()

    def unsubscribe(self):
        self.live.ask("unsubscribe", {"ch": self.name})
        self.live.channels.pop(self.name, None)


class Live:
    """The protocol of /ws, spoken from a thread."""

    def __init__(self, base, token, origin=None, patience=SOON, pings=20):
        self.url = base.replace("http", "ws", 1) + "/ws"
        self.token, self.origin, self.patience, self.pings = token, origin, patience, pings
        self.ids = itertools.count(1)
        self.waiting, self.channels = {}, {}
        self.closed = threading.Event()
        self.close_code = None
        self.loop = asyncio.new_event_loop()
        opened = threading.Event()
        self.thread = threading.Thread(target=self._serve, args=(opened,), daemon=True)
        self.failure = None
        self.thread.start()
        assert opened.wait(patience), f"{self.url} does not open"
        if self.failure:
            raise self.failure
        self.hello = self.ask("connect", {"token": token} if token else {})

    def _serve(self, opened):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._speak(opened))
        #  Whoever asked for the end waits for it, too.
        rest = asyncio.all_tasks(self.loop)
        self.loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))

    async def _speak(self, opened):
        try:
            self.socket = await websockets.connect(
                self.url, subprotocols=["busbar.v1.json"], origin=self.origin, max_size=None,
                ping_interval=self.pings)
        except Exception as error:  # handed to the thread that waits
            self.failure = error
            opened.set()
            return
        opened.set()
        try:
            async for text in self.socket:
                for frame in objects(text):
                    await self._take(frame)
        except websockets.ConnectionClosed:
            pass
        self.close_code = self.socket.close_code
        self.closed.set()
        for waiter in list(self.waiting.values()):
            waiter.put({"error": {"code": "CLOSED", "close_code": self.close_code}})

    async def _take(self, frame):
        if frame == {}:
            await self.socket.send("{}")
        elif "id" in frame:
            waiter = self.waiting.pop(frame["id"], None)
            #  The channel must be known before its first event is looked at.
            if waiter and "subscribe" in frame:
                name = frame["subscribe"].get("ch", waiter.channel.name)
                waiter.channel.name = name
                self.channels[name] = waiter.channel
            if waiter:
                waiter.put(frame)
        elif frame.get("ch") in self.channels:
            self.channels[frame["ch"]].frames.put(frame)

    def send(self, frame):
        asyncio.run_coroutine_threadsafe(self.socket.send(json.dumps(frame)), self.loop) \
            .result(self.patience)

    def ask(self, word, content, channel=None):
        """Send {"id":…, word: content}; the answer's content, or LiveError."""
        number = next(self.ids)
        waiter = queue.Queue()
        waiter.channel = channel
        self.waiting[number] = waiter
        self.send({"id": number, word: content})
        try:
            answer = waiter.get(timeout=self.patience)
        except queue.Empty:
            raise AssertionError(f"no answer to {word} {content}") from None
        if "error" in answer:
            raise LiveError(answer["error"])
        return answer.get(word, answer.get("reply"))

    def subscribe(self, name, *, off=None, epoch=None, snapshot=False):
        """Returns once the subscription is live."""
        channel = Channel(self, name)
        content = {"ch": name}
        if off is not None:
            content["off"] = off
        if epoch is not None:
            content["epoch"] = epoch
        if snapshot:
            content["snapshot"] = True
        channel.answer = self.ask("subscribe", content, channel)
        return channel

    def call(self, method, params=None, body=None):
        """{"status":…, "body":…} of the method, or LiveError."""
        content = {"method": method, "params": params or {}}
        if body is not None:
            content["body"] = body
        return self.ask("call", content)

    def close(self):
        if not self.closed.is_set():
            asyncio.run_coroutine_threadsafe(self.socket.close(), self.loop).result(self.patience)
        self.thread.join(self.patience)


def objects(text):
    """A frame carries one object or several, one behind the other."""
    text = text if isinstance(text, str) else text.decode()
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        value, at = decoder.raw_decode(text, at)
        yield value
