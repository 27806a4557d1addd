"""An actor: announces its routes, answers calls, publishes events."""

import concurrent.futures
import datetime
import inspect
import logging
import os
import queue
import re
import secrets
import signal
import threading
import time
import traceback

import zmq

from . import wire
from .bus import CHUNK_CREDIT, Bus
from .config import Config
from .errors import TEXT, Fail
from .fields import check, declare
from .loop import Loop, deliver, options

log = logging.getLogger("busbar")

KEEP = 1000          # events kept per channel
READ_MAX = 300
LOOK = 1.0           # seconds between looks whether callers in service are still there
DRAIN = 10           # seconds that calls in service have after SIGTERM
LINGER = 200         # milliseconds that the last answers have on their way
AUTH = ("user", "none", "optional", "admin", "super", "operator")


class Request:
    """One call, as a handler sees it.

    fields    declared input by name, checked; request["name"] is short for it
    params    path and query, texts
    body      any value, or None
    identity  {"user", "role", "kind", …}; None: the operator
    meta      {"request_id", "ip", …}
    """

    def __init__(self, actor, link, peer, message, route):
        self.method = message.method
        self.key = message.key
        self.params = message.params or {}
        self.body = message.body
        self.identity = message.identity
        self.meta = message.meta or {}
        self.deadline = time.monotonic() + message.ttl / 1000 if message.ttl else float("inf")
        self.fields, self.ignored = {}, []
        self._actor, self._link, self._peer, self._id = actor, link, peer, message.id
        self._route = route
        self._over = threading.Event()
        self._credit = threading.Semaphore(0)
        self._chunks = queue.Queue()

    def __getitem__(self, name):
        return self.fields[name]

    def get(self, name, default=None):
        return self.fields.get(name, default)

    @property
    def user(self):
        """Id of the caller; None for operators and anonymous callers."""
        return (self.identity or {}).get("user")

    @property
    def cancelled(self):
        """Nobody waits for the answer any more."""
        return self._over.is_set()

    def chunks(self):
        """Iterate the body of an upload (a route with upload=True)."""
        self._send(wire.CREDIT, count=CHUNK_CREDIT)
        taken = 0
        while True:
            try:
                data, last, error = self._chunks.get(timeout=1)
            except queue.Empty:
                if self.cancelled or time.monotonic() > self.deadline:
                    raise Fail("TIMED_OUT") from None
                continue
            if error:
                raise Fail("INVALID", "the upload ended broken")
            if data:
                yield data
            if last:
                return
            taken += 1
            if taken >= CHUNK_CREDIT // 2:
                self._send(wire.CREDIT, count=taken)
                taken = 0

    def _send(self, number, **fields):
        self._actor._loop.post(self._actor._send, self._link, self._peer, number,
                               {"id": self._id, **fields})


class _ActorBus(Bus):
    def __init__(self, actor, loop, config, slot):
        self.actor = actor
        super().__init__(loop, config, "actor", actor.name, slot)

    def hello(self):
        return self.actor._hello()

    def on_welcome(self):
        self.actor._claim_late()
        self.actor._publish_late()

    def on_ready(self):
        log.info("%s is ready", self.slot)
        self.actor.ready.set()

    def on_refused(self, error):
        log.error("refused: %s", error.text)
        self.actor._stop(error)

    def on_served(self, link, peer, message):
        self.actor._message(link, peer, message)

    def load(self):
        return len(self.actor._serving)


class _Channel:
    """The last events of a channel, in memory; off is contiguous."""

    def __init__(self, epoch):
        self.epoch, self.top, self.events = epoch, 0, []

    def add(self, event):
        self.top += 1
        event["off"] = self.top
        self.events.append(event)
        if len(self.events) > KEEP:
            del self.events[:len(self.events) - KEEP]

    def read(self, epoch, start, limit):
        floor = self.top - len(self.events)
        gap = None
        if epoch and epoch != self.epoch:
            gap = {"from": 1, "to": floor, "why": "epoch"}
            start = floor
        elif start < floor:
            gap = {"from": start + 1, "to": floor, "why": "retention"}
            start = floor
        elif start > self.top:
            start = self.top
        events = self.events[start - floor:start - floor + limit]
        answer = {"epoch": self.epoch, "top": self.top, "floor": floor, "events": events}
        return {**answer, "gap": gap} if gap else answer


class Actor:
    """Declare routes with the decorators, then run().

    Handlers run in a few threads; sockets, heartbeats and the directory in the thread of run().
    A handler returns a dict (or list, or None), (status, body), (status, body, meta), or is a
    generator of bytes or texts: then the answer is a stream. It raises Fail for an error.
    """

    def __init__(self, name, broker=None, *, slot=None, token=None, server_key=None, keys=None,
                 credit=1024, threads=4):
        self.name = name
        self.slot = slot or f"{name}.1"
        self.ready = threading.Event()
        self._where = (broker, token, server_key, keys)
        self._credit, self._threads = credit, threads
        self._routes = []             # (announced map, handler)
        self._methods = {}
        self._kinds = {}              # collection → kind
        self._channels = {}
        self._snapshots = {}
        self._events_lock = threading.Lock()
        self._epoch = secrets.token_hex(6)
        self._serving = {}            # (link, peer, id) → Request
        self._counts = {}             # method → [calls, errors]
        self._claims = set()
        self._late_claims = []        # (keys, release) behind HELLO
        self._unsaid = {}             # channel → its last event, while there is no broker
        self._early = []              # posted before the loop is there
        self._loop = self._bus = self._router = self._pool = None
        self._endpoint = ""
        self._stopping = self._looked = 0.0
        self._error = None
        self._outer = {}              # (link, peer) → frame that is being filled

    # -- declaring

    def route(self, verb, path, *, method=None, auth="user", fields=None, doc=None, **more):
        """Declare an endpoint: @actor.route("POST", "/hello/:name", auth="none", fields={…}).

        More keys as in the route table of PROTOCOL.md: alias, roles, limit, key, out, reply,
        status, idempotent, upload, raw, blocking, timeout, body_max, events, tag.
        """
        def declared(handler):
            self._declare(handler, {"verb": verb, "path": path}, method, auth, fields, doc, more)
            return handler
        return declared

    def method(self, name, *, auth="operator", fields=None, doc=None, **more):
        """Declare a method without REST address: called over the bus only."""
        def declared(handler):
            self._declare(handler, {}, name, auth, fields, doc, more)
            return handler
        return declared

    def _declare(self, handler, address, method, auth, fields, doc, more):
        if auth not in AUTH:
            raise ValueError(f"auth {auth} is not one of {', '.join(AUTH)}")
        name = method or handler.__name__
        if not name.startswith(self.name + "."):
            name = f"{self.name}.{name}"
        announced = {"method": name, **address, "auth": auth, "in": declare(fields)}
        doc = doc or inspect.getdoc(handler)
        if doc:
            announced["doc"] = doc.splitlines()[0]
        if address.get("verb") == "GET":
            announced["idempotent"] = True
        if inspect.isgeneratorfunction(handler):
            announced["reply"] = "stream"
        if "out" in more:
            more["out"] = declare(more["out"])
        for key, value in more.items():
            announced[key] = [value] if key == "alias" and isinstance(value, str) else value
        # a path parameter is a field, declared or not
        names = {field["name"] for field in announced["in"]}
        for param in re.findall(r"[:*]([A-Za-z0-9_]+)", address.get("path") or ""):
            if param not in names:
                announced["in"].append({"name": param, "type": "text", "required": True})
        self._routes.append(announced)
        self._methods[name] = (announced, handler)

    def channel(self, name, kind="log"):
        """Announce a collection of channels, `audience/NAME…`: kind "log" or "collection"."""
        self._kinds[name] = kind

    def snapshot(self, name):
        """Declare how to read the present rows of a collection (announces it, too):
        handler(request) gives a list of rows; request.user is the channel's, not who asks."""
        def declared(handler):
            self._kinds[name] = "collection"
            self._snapshots[name] = handler
            return handler
        return declared

    def event(self, channel, type, data=None, key=""):
        """Publish; returns (epoch, off). May be called from any thread.

        The last 1000 events of a channel are kept in memory, so that subscribers lose nothing
        when they or the broker come and go. They do not survive this process: after a restart the
        channel has a new epoch and subscribers are told by a gap. What must survive belongs into
        a database, in the same transaction as the change that it tells of.
        """
        parts = channel.split("/")
        if len(parts) < 2 or parts[1] not in self._kinds:
            raise ValueError(f"channel {channel} is not of a collection announced with channel()")
        at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
        event = {"key": key, "type": type, "at": at.replace("+00:00", "Z"), "data": data}
        wire.pack(wire.EVENT, channel=channel, **event)         # what cannot travel raises here
        with self._events_lock:
            kept = self._channels.setdefault(channel, _Channel(self._epoch))
            kept.add(event)
            self._post(self._publish, channel, dict(event))
            return kept.epoch, event["off"]

    def claim(self, *keys, release=False):
        """Routing keys that this instance owns from now on (or sets free)."""
        self._post(self._claim, keys, release)

    def _post(self, function, *arguments):
        if self._loop:
            self._loop.post(function, *arguments)
        else:
            self._early.append((function, arguments))

    def _publish(self, channel, event):
        if self._bus.welcomed:
            self._bus.broker.send(wire.EVENT, channel=channel, epoch=self._epoch, **event)
        else:
            self._unsaid[channel] = event

    def _publish_late(self):
        """The last event of each channel that no broker heard: who came to this one before us, and
        read our log before that was in it, would see the hole only by a later one."""
        for channel, event in self._unsaid.items():
            self._publish(channel, event)
        self._unsaid.clear()

    def _claim(self, keys, release):
        (self._claims.difference_update if release else self._claims.update)(keys)
        if self._bus.welcomed:
            self._tell_claim(keys, release)
        else:
            self._late_claims.append((keys, release))

    def _tell_claim(self, keys, release):
        self._bus.broker.send(wire.CLAIM, name=self.name, slot=self.slot, boot=self._bus.boot,
                              keys=list(keys), release=release)

    def _claim_late(self):
        """What was claimed between HELLO and WELCOME: HELLO carried what was claimed before."""
        for keys, release in self._late_claims:
            self._tell_claim(keys, release)
        self._late_claims.clear()

    # -- life

    def run(self, signals=True):
        """Serve until SIGTERM or SIGINT (or stop()). Raises Refused when the broker will not have
        us."""
        self._own_methods()
        config = Config(*self._where)
        self._loop = Loop()
        self._pool = concurrent.futures.ThreadPoolExecutor(self._threads, self.name)
        if signals:
            signal.signal(signal.SIGTERM, lambda *_: self.stop())
            signal.signal(signal.SIGINT, lambda *_: self.stop())
        if config.inside:
            self._bind(config)
        self._bus = _ActorBus(self, self._loop, config, self.slot)
        for function, arguments in self._early:
            self._loop.post(function, *arguments)
        try:
            while not self._finished():
                self._bus.tick()
                self._look()
                self._loop.turn(0.02)
                self._flush()
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._flush()
            self._bus.close()
            if self._router:
                self._router.close(LINGER)
            self._loop.close()
        if self._error:
            raise self._error

    def stop(self):
        """Take nothing new, finish what is in service, end run()."""
        self._post(self._stop, None)

    def _stop(self, error):
        self._error = self._error or error
        if not self._stopping:
            self._stopping = time.monotonic()
            if not error:
                self._bus.leave()

    def _finished(self):
        if not self._stopping:
            return False
        since = time.monotonic() - self._stopping
        # calls that were sent before callers heard of our GOODBYE still arrive
        return bool(self._error) or since > DRAIN or (since > 0.2 and not self._serving)

    def _bind(self, config):
        boot = secrets.token_hex(4)
        self._endpoint = f"ipc://{config.run}/{self.slot}-{boot}.s"
        self._router = self._loop.context.socket(zmq.ROUTER)
        options(self._router)
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._router.bind(self._endpoint)
        self._loop.watch(self._router, self._read)

    def _hello(self):
        self._late_claims.clear()
        channels = [{"name": name, "kind": kind} for name, kind in self._kinds.items()]
        return {"endpoint": self._endpoint, "credit": self._credit, "routes": self._routes,
                "channels": channels, "claims": sorted(self._claims)}

    # -- sockets

    def _look(self):
        """PING callers that wait: one that is gone cannot be reached, its calls are cancelled."""
        now = time.monotonic()
        if now - self._looked > LOOK:
            self._looked = now
            for peer in {where[1] for where in self._serving if where[0] is None}:
                self._send(None, peer, wire.PING, {"load": len(self._serving)})

    def _caller_gone(self, link, peer):
        for where, request in self._serving.items():
            if where[:2] == (link, peer):
                request._over.set()
                request._credit.release()

    def _read(self):
        for _ in range(1000):
            try:
                parts = self._router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if len(parts) != 2:
                continue
            deliver(parts[1], lambda message: self._message(None, parts[0], message))

    def _send(self, link, peer, number, fields):
        if link:
            link.send(number, **fields)
            return
        data = wire.pack(number, **fields)
        self._outer.setdefault(peer, []).append(data)

    def _flush(self):
        for peer, waiting in list(self._outer.items()):
            while waiting:
                frame = bytearray(waiting[0])
                count = 1
                while count < len(waiting) and len(frame) + len(waiting[count]) < wire.CHUNK_MAX:
                    frame += waiting[count]
                    count += 1
                try:
                    self._router.send_multipart([peer, bytes(frame)], zmq.NOBLOCK)
                except zmq.Again:
                    break
                except zmq.ZMQError:
                    waiting.clear()
                    self._caller_gone(None, peer)
                    break
                del waiting[:count]
            if not waiting:
                del self._outer[peer]

    def _message(self, link, peer, message):
        number = message.number
        if number == wire.HELLO:
            self._send(link, peer, wire.WELCOME, {
                "boot": self._bus.boot, "heartbeat": int(self._bus.heartbeat * 1000),
                "credit": self._credit})
        elif number == wire.PING:
            self._send(link, peer, wire.PONG, {"load": len(self._serving)})
        elif number == wire.CALL:
            self._call(link, peer, message)
        elif number in (wire.CANCEL, wire.CHUNK, wire.CREDIT):
            request = self._serving.get((link, peer, message.id))
            if request is None:
                return
            if number == wire.CANCEL:
                request._over.set()
                request._credit.release()
            elif number == wire.CHUNK:
                request._chunks.put((message.data, message.last, message.error))
            else:
                request._credit.release(message.count or 1)
        elif number == wire.GOODBYE:
            self._caller_gone(link, peer)

    # -- serving

    def _call(self, link, peer, message):
        route, handler = self._methods.get(message.method, (None, None))
        request = Request(self, link, peer, message, route)
        if route is None:
            self._answer(request, 404, _error("NOT_FOUND", f"{message.method} is not served here"))
            return
        where = (link, peer, message.id)
        if where in self._serving:
            return
        self._serving[where] = request
        self._counts.setdefault(message.method, [0, 0])[0] += 1
        self._pool.submit(self._work, where, request, handler)

    def _work(self, where, request, handler):
        try:
            status, body, meta = self._handle(request, handler)
        except Fail as fail:
            status, meta = fail.status, {}
            body = {"code": fail.code, "error": fail.text, "details": fail.details}
        except Exception:
            log.error("%s failed\n%s", request.method, traceback.format_exc())
            status, body, meta = 500, _error("INTERNAL"), {}
        self._loop.post(self._done, where, request, status, body, meta)

    def _handle(self, request, handler):
        if request.cancelled or time.monotonic() > request.deadline:
            return None, None, None      # nobody waits for it any more
        _authorise(request.identity, request._route)
        strict = "handling=strict" in (request.meta.get("prefer") or "")
        request.fields, request.ignored = check(request._route["in"], request.params, request.body,
                                                strict)
        result = handler(request)
        if inspect.isgenerator(result):
            return self._stream(request, result)
        status, meta = request._route.get("status", 200), {}
        if isinstance(result, tuple):
            status, result, *rest = result
            meta = dict(rest[0]) if rest else {}
        if request.ignored:
            meta["ignored"] = request.ignored
        return status, result, meta

    def _stream(self, request, chunks):
        first = next(chunks, b"")        # a Fail before the first chunk is an ordinary answer
        request._send(wire.REPLY, status=request._route.get("status", 200), meta={"stream": True})
        error = ""
        try:
            while first is not None and not request.cancelled:
                self._chunk(request, first)
                first = next(chunks, None)
        except Fail as fail:
            error = fail.code
        except Exception:
            log.error("%s failed\n%s", request.method, traceback.format_exc())
            error = "INTERNAL"
        finally:
            chunks.close()
        if not request.cancelled:        # an empty last chunk needs no credit
            request._send(wire.CHUNK, data=b"", last=True, error=error)
        return None, None, None

    def _chunk(self, request, data):
        data = data.encode() if isinstance(data, str) else bytes(data)
        for at in range(0, len(data), wire.CHUNK_MAX):
            request._credit.acquire()
            if request.cancelled:
                return
            request._send(wire.CHUNK, data=data[at:at + wire.CHUNK_MAX])

    def _done(self, where, request, status, body, meta):
        self._serving.pop(where, None)
        if status is None or request.cancelled:
            return
        if status >= 400:
            self._counts[request.method][1] += 1
        try:
            self._answer(request, status, body, meta)
        except (TypeError, ValueError, OverflowError) as error:
            log.error("%s gave an answer that cannot travel: %s", request.method, error)
            self._answer(request, 500, _error("INTERNAL"))

    def _answer(self, request, status, body, meta=None):
        self._send(request._link, request._peer, wire.REPLY, {
            "id": request._id, "status": status, "body": body, "meta": meta or None,
            "load": len(self._serving)})

    # -- methods that every actor has

    def _own_methods(self):
        self.method("stats", doc="Calls and errors by method")(
            lambda _: {"methods": {name: {"calls": calls, "errors": errors}
                                   for name, (calls, errors) in self._counts.items()}})
        if not self._kinds:
            return
        self.method("live.read", idempotent=True, doc="Events after a position", fields={
            "ch": {"type": "text", "required": True}, "epoch": "text",
            "from": {"type": "int", "min": 0}, "limit": {"type": "int", "min": 1}})(self._live_read)
        if self._snapshots:
            self.method("live.snapshot", idempotent=True, doc="Rows of a collection now", fields={
                "ch": {"type": "text", "required": True}, "cursor": "text"})(self._live_snapshot)

    def _live_read(self, request):
        with self._events_lock:
            kept = self._channels.get(request["ch"]) or _Channel(self._epoch)
            return kept.read(request.get("epoch"), request.get("from") or 0,
                             min(request.get("limit") or READ_MAX, READ_MAX))

    def _live_snapshot(self, request):
        parts = request["ch"].split("/")
        handler = self._snapshots.get(parts[1] if len(parts) > 1 else "")
        if handler is None:
            raise Fail("NOT_FOUND", f"{request['ch']} has no snapshot")
        if parts[0].startswith("user:"):
            request.identity = {"user": parts[0][5:], "kind": "user"}
        with self._events_lock:
            kept = self._channels.get(request["ch"]) or _Channel(self._epoch)
            off = kept.top       # before the rows are read
        return {"epoch": self._epoch, "off": off, "rows": handler(request), "cursor": None}


def _authorise(identity, route):
    """Edge and door have looked, too; but what they know of the routes may be older."""
    auth, roles = route["auth"], route.get("roles")
    if identity is None or identity.get("kind") == "operator" or auth in ("none", "optional"):
        return
    if auth == "operator":
        raise Fail("FORBIDDEN")
    if not identity.get("user"):
        raise Fail("UNAUTHORIZED")
    role = identity.get("role")
    if role != "super_admin" and (auth == "super" or auth == "admin" and role != "admin"
                                  or roles and role not in roles.split("|")):
        raise Fail("FORBIDDEN")


def _error(code, text=None):
    return {"code": code, "error": text or TEXT.get(code, "failed"), "details": {}}
