"""A client of the bus, for programs that call and listen."""

import os
import queue
import secrets
import threading
import time

from . import wire
from .bus import CHUNK_CREDIT, Bus, Call, error_of
from .config import Config
from .errors import BusError
from .live import Feed, Gap, Subscription
from .loop import Loop

START_TIMEOUT = 10


class ClientBus(Bus):
    """The bus with subscriptions."""

    def __init__(self, loop, config, name):
        super().__init__(loop, config, "client", name, f"{name}-{secrets.token_hex(4)}")
        self.feeds = {}
        self.started = threading.Event()

    def on_ready(self):
        self.started.set()

    def on_refused(self, error):
        for feed in self.feeds.values():
            feed.told(error)
        self.started.set()

    def on_welcome(self):
        for feed in self.feeds.values():
            feed.ask()

    def listen(self, feed):
        self.feeds[feed.channel] = feed
        if self.failure:
            feed.told(self.failure)
        elif self.welcomed:
            feed.ask()

    def on_event(self, message):
        number = message.number
        feed = self.feeds.get(message.channel)
        if number == wire.SUBSCRIBED:
            feed = feed or self._renamed(message)
        if feed is None:
            return
        if number == wire.EVENT:
            feed.event(message)
        elif number == wire.GAP:
            feed.gap(message.epoch, message["from"], message.to, message.why)
        elif number == wire.SUBSCRIBED and message.code:
            self.feeds.pop(feed.channel, None)
            feed.told(error_of(403, {"code": message.code, "error": message.text}, {}))
        elif number == wire.SUBSCRIBED:
            feed.subscribed(message)
        elif number == wire.UNSUBSCRIBE:
            self.feeds.pop(feed.channel, None)
            feed.told(error_of(403, {"code": "FORBIDDEN", "error": message.reason}, {}))

    def _renamed(self, message):
        """The door answers with the full name: "clusters" became "user:42/clusters"."""
        for name, feed in list(self.feeds.items()):
            if id(feed) & 0xFFFFFFFF == message.id and message.channel:
                del self.feeds[name]
                feed.channel = feed.subscription.channel = message.channel
                self.feeds[message.channel] = feed
                return feed
        return None

    def tick(self):
        super().tick()
        now = time.monotonic()
        for feed in self.feeds.values():
            feed.tick(now)


class Pending:
    """A call under way."""

    def __init__(self, client, timeout):
        self._client, self._timeout, self._answers = client, timeout, queue.SimpleQueue()

    def wait(self):
        """(status, body, meta). Raises BusError."""
        return _checked(self._client._wait(self._answers, self._timeout))

    def cancel(self):
        """Nobody waits any more: wait() raises, the actor is told."""
        self._client._loop.post(self._client._bus.cancel, self._call)
        self._answers.put((499, {"code": "CANCELLED", "error": "given up by the caller"}, {}))


class Client:
    """Calls, streams and subscriptions.

    Sockets live in a thread of the client's own, which also sends heartbeats and follows the
    directory. Methods may be called from any thread, but answers come in no particular order to
    several of them: one client per thread is the simple way.
    """

    def __init__(self, endpoint=None, token=None, server_key=None, keys=None, name=None,
                 timeout=START_TIMEOUT):
        config = Config(endpoint, token, server_key, keys)
        self._pid = os.getpid()
        self._closed = False
        self._loop = Loop()
        self._bus = ClientBus(self._loop, config, name or "python")
        self._thread = threading.Thread(target=self._run, name="busbar", daemon=True)
        self._thread.start()
        if not self._bus.started.wait(timeout):
            self.close()
            raise self._bus.trouble or BusError(503, "UNAVAILABLE",
                                                f"no broker answers at {config.endpoint}")
        if self._bus.failure:
            self.close()
            raise self._bus.failure

    def _run(self):
        while not self._closed:
            self._bus.tick()
            self._loop.turn(0.02)
        self._bus.leave()
        self._loop.turn(0)
        self._bus.close()
        self._loop.close()

    def close(self):
        """Say goodbye; calls in flight are forgotten."""
        if not self._closed:
            self._closed = True
            self._loop.post(lambda: None)
            self._thread.join(5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def directory(self):
        """Slot → entry, as the broker told us last. Read only."""
        return self._bus.entries

    def call(self, method, params=None, body=None, *, key="", timeout=30, idempotent=False,
             meta=None, slot=None, **fields):
        """The body of the answer. `fields` become a body. Raises BusError."""
        _, body, _ = self.request(method, params, body, key=key, timeout=timeout,
                                  idempotent=idempotent, meta=meta, slot=slot, **fields)
        return body

    def request(self, method, params=None, body=None, *, key="", timeout=30, idempotent=False,
                meta=None, slot=None, **fields):
        """Like call(), but gives (status, body, meta)."""
        return self.begin(method, params, body, key=key, timeout=timeout, idempotent=idempotent,
                          meta=meta, slot=slot, **fields).wait()

    def begin(self, method, params=None, body=None, *, key="", timeout=30, idempotent=False,
              meta=None, slot=None, **fields):
        """Send a call and go on: wait() gives what request() gives, cancel() gives it up."""
        pending = Pending(self, timeout)
        pending._call = Call(method, params, _body(body, fields), key, timeout, idempotent, meta,
                             lambda *answer: pending._answers.put(answer), slot=slot)
        self._loop.post(self._bus.start, pending._call)
        return pending

    def stream(self, method, params=None, body=None, *, key="", timeout=30, meta=None, **fields):
        """Iterate the chunks (bytes) of a streamed answer; leaving early cancels it."""
        answers = queue.SimpleQueue()
        call = Call(method, params, _body(body, fields), key, timeout, False, meta,
                    lambda *answer: answers.put(answer),
                    lambda *chunk: answers.put(chunk))
        self._loop.post(self._bus.start, call)
        status, body, meta = _checked(self._wait(answers, timeout))
        if not meta.get("stream"):
            raise BusError(500, "INTERNAL", f"{method} does not answer with a stream")
        return self._chunks(call, answers)

    def _chunks(self, call, answers):
        taken, last = 0, False
        try:
            while not last:
                data, last, error = answers.get()
                if error:
                    raise BusError(502, error, "the stream ended broken")
                if data:
                    yield data
                taken += 1
                if taken >= CHUNK_CREDIT // 2 and not last:
                    self._loop.post(self._bus.grant, call, taken)
                    taken = 0
        finally:
            if not last:
                self._loop.post(self._bus.cancel, call)

    def upload(self, method, chunks, params=None, *, key="", timeout=30, meta=None):
        """Call with a body that streams up: `chunks` gives bytes. Returns the answer's body."""
        answers, credit = queue.SimpleQueue(), queue.SimpleQueue()

        def done(*answer):
            answers.put(answer)
            credit.put(-1)

        call = Call(method, params, None, key, timeout, False, {**(meta or {}), "stream": True},
                    done, upload=credit.put)
        self._loop.post(self._bus.start, call)
        may, over = 0, False
        for chunk in chunks:
            for at in range(0, len(chunk), wire.CHUNK_MAX):
                while may == 0 and not over:
                    count = self._wait(credit, timeout)
                    may, over = (may + count, False) if count >= 0 else (0, True)
                if over:
                    break
                may -= 1
                self._loop.post(self._bus.upload, call, bytes(chunk[at:at + wire.CHUNK_MAX]),
                                False)
            if over:
                break
        if not over:
            self._loop.post(self._bus.upload, call, b"", True)
        return _checked(self._wait(answers, timeout))[1]

    def subscribe(self, channel, epoch=None, off=None, timeout=10):
        """Listen to a channel, from now on or after the position (epoch, off). Returns when the
        subscription is active; iterating gives Event and Gap objects, also across restarts of
        broker and actors."""
        subscription = Subscription(self, channel, epoch, off)
        answers = queue.SimpleQueue()
        subscription._feed.waiter = answers.put
        self._loop.post(self._bus.listen, subscription._feed)
        error = self._wait(answers, timeout)
        if error:
            raise error
        return subscription

    def _unsubscribe(self, feed: Feed):
        def end():
            if self._bus.feeds.get(feed.channel) is feed:
                del self._bus.feeds[feed.channel]
                self._bus.broker.send(wire.UNSUBSCRIBE, channel=feed.channel)
        if not self._closed:
            self._loop.post(end)

    def _wait(self, answers, timeout):
        if self._closed or os.getpid() != self._pid:
            raise RuntimeError("this client is closed, or belongs to the parent process")
        try:
            # the bus answers every call by its deadline; the rest is for a thread that was held up
            return answers.get(timeout=timeout + 10)
        except queue.Empty:
            raise BusError(504, "TIMEOUT", "no answer in time") from None


def _body(body, fields):
    if not fields:
        return body
    if body is not None and not isinstance(body, dict):
        raise TypeError("fields can only be added to a body that is a dict")
    return {**(body or {}), **fields}


def _checked(answer):
    status, body, meta = answer
    if status >= 400:
        raise error_of(status, body, meta)
    return status, body, meta


__all__ = ["Client", "Gap"]
