"""The bus as one process sees it: the broker connection, the directory, calls in flight.

Everything here runs in the loop of one thread (client.py and actor.py own it).
"""

import os
import random
import secrets
import time

from . import wire
from .errors import STATUS, BusError, Refused
from .loop import Link

OPTIMISTIC = 64       # calls sent to an actor before its WELCOME
WAITING_MAX = 10000   # calls that may wait for an instance or credit
SILENCE = 4           # silent heartbeats that mean death
ATTEMPTS = 3          # instances that a call may die with
CHUNK_CREDIT = 16     # chunks of a stream that may be on their way


class Call:
    """One call of ours. `done(status, body, meta)` is called once; a streamed answer then feeds
    `chunk(data, last, error)`."""

    def __init__(self, method, params, body, key, timeout, idempotent, meta, done, chunk=None,
                 upload=None, slot=None):
        self.method, self.params, self.body, self.meta = method, params, body, meta
        self.key, self.idempotent, self.slot = key, idempotent, slot
        self.done, self.chunk, self.upload = done, chunk, upload
        self.deadline = time.monotonic() + timeout
        self.id = 0
        self.target = None     # connection that it was given to; None: waits
        self.attempts = 0      # instances that it was sent to: it may have been executed
        self.streaming = False


class Target:
    """Where calls go: an actor's own socket, or (endpoint "") the broker connection."""

    def __init__(self, link, credit):
        self.link = link
        self.credit = credit
        self.calls = set()
        self.dead = False


class ActorLink(Link):
    """Our connection to the ROUTER of one instance."""

    def __init__(self, bus, entry):
        self.bus = bus
        self.target = Target(self, OPTIMISTIC)
        super().__init__(bus.loop, entry["endpoint"])

    def on_up(self):
        self.send(wire.HELLO, role="caller", name=self.bus.name, slot=self.bus.slot,
                  boot=self.bus.boot, pid=os.getpid())
        self.bus.dispatch()

    def on_down(self, why):
        self.bus.target_died(self.target)

    def on_message(self, message):
        if message.number == wire.WELCOME:
            self.target.credit = max(1, message.credit)
            self.bus.dispatch()
        elif message.number == wire.PING:
            self.send(wire.PONG)
        else:
            self.bus.answered(self.target, message)


class BrokerLink(Link):
    def __init__(self, bus, config):
        self.bus = bus
        super().__init__(bus.loop, config.endpoint, config)

    def on_up(self):
        self.bus.say_hello()

    def on_down(self, why):
        self.bus.broker_lost()

    def on_rejected(self, key):
        # a key may be withdrawn while the connection is being made anew
        if key or not self.bus.ready:
            self.bus.refused(Refused(401, "UNAUTHORIZED", "this key is not admitted at the door"))

    def on_message(self, message):
        self.bus.from_broker(message)


class Bus:
    """Override: hello() (fields of HELLO), on_ready(), on_refused(error), on_event(message)."""

    def __init__(self, loop, config, role, name, slot):
        self.loop, self.config = loop, config
        self.role, self.name, self.slot = role, name, slot
        self.boot = secrets.token_hex(8)
        self.heartbeat = 0.5
        self.ready = False           # WELCOME and the whole directory arrived once
        self.welcomed = False        # … and hold now
        self.failure = None          # Refused: nothing will ever work
        self.trouble = None          # refused for now: HELLO is said again
        self.entries = {}            # slot → entry
        self.known = set()           # methods that were announced at any time
        self.actor_of = {}           # collection → actor name
        self.links = {}              # endpoint → ActorLink
        self.lost = set()            # boots whose connection broke; the directory will say so soon
        self.calls = {}              # id → Call
        self.waiting = []
        self._next = random.getrandbits(40)
        self._tick = 0.0
        self.broker = BrokerLink(self, config)
        self.through = Target(self.broker, 1024)

    # -- life

    def hello(self):
        return {}

    def say_hello(self):
        fields = {"role": self.role, "name": self.name, "slot": self.slot, "boot": self.boot,
                  "pid": os.getpid(), "token": self.config.token}
        fields.update(self.hello())
        self.broker.send(wire.HELLO, **fields)

    def refused(self, error):
        self.failure = error
        for call in list(self.calls.values()):
            self._finish(call, error.status, {"code": error.code, "error": error.text}, {})
        self.on_refused(error)

    def broker_lost(self):
        self.welcomed = False
        self.target_died(self.through)
        self.through = Target(self.broker, 1024)

    def from_broker(self, message):
        number = message.number
        if number == wire.WELCOME:
            self.heartbeat = max(0.02, message.heartbeat / 1000)
            self.through.credit = message.credit or 1024
            self.welcomed, self.trouble = True, None
            self.on_welcome()
        elif number == wire.DIRECTORY:
            self._directory(message)
        elif number == wire.REFUSED:
            if message.code == "UNKNOWN":
                # we were silent for too long: what we asked through it meanwhile is forgotten
                self.say_hello()
                if self.welcomed:
                    self.broker_lost()
            elif message.code == "UNAVAILABLE":
                # identity is not there (yet): tick() says HELLO again
                self.trouble = Refused(503, message.code, message.text)
                self.broker_lost()
            else:
                status = STATUS.get(message.code, 409)
                self.refused(Refused(status, message.code, message.text))
        elif number == wire.PING:
            self.broker.send(wire.PONG)
        elif number == wire.CLAIM:
            self._claimed(message)
        elif number in (wire.SUBSCRIBED, wire.EVENT, wire.GAP, wire.UNSUBSCRIBE):
            self.on_event(message)
        elif number == wire.CALL or (number not in (wire.PONG,)
                                     and message.get("id", 0) >= wire.RELAY_ID):
            self.on_served(self.broker, b"", message)
        else:
            self.answered(self.through, message)

    def on_welcome(self):
        pass

    def on_ready(self):
        pass

    def on_refused(self, error):
        pass

    def on_event(self, message):
        pass

    def on_served(self, link, peer, message):
        pass

    # -- directory

    def _directory(self, message):
        now = time.monotonic()
        announced = set()
        for entry in message.entries or ():
            if not isinstance(entry, dict) or not entry.get("slot"):
                continue
            announced.add(entry["slot"])
            if entry.get("state") == "gone":
                current = self.entries.get(entry["slot"])
                if current and current["boot"] == entry.get("boot"):
                    self._entry_gone(current)
            else:
                self._entry_up(entry)
        if message.whole:
            # A broker that was restarted hears of everybody within a second: until then we keep
            # what we can reach without it.
            for slot, entry in list(self.entries.items()):
                if slot not in announced:
                    if entry["endpoint"]:
                        entry.setdefault("until", now + SILENCE * self.heartbeat)
                    else:
                        self._entry_gone(entry)
            if not self.ready:
                self.ready = True
                self.on_ready()
        self.dispatch()

    def _entry_up(self, entry):
        before = self.entries.get(entry["slot"])
        if before and before["boot"] != entry["boot"]:
            self._entry_gone(before)
        elif before and entry.get("state") == "draining":
            before["state"] = "draining"
            return
        entry.setdefault("endpoint", "")
        entry["claims"] = set(entry.get("claims") or ())
        entry["methods"] = {route["method"]: route for route in entry.get("routes") or ()}
        self.known.update(entry["methods"])
        for channel in entry.get("channels") or ():
            self.actor_of[channel["name"]] = entry["name"]
        self.entries[entry["slot"]] = entry
        self.lost.discard(entry["boot"])

    def _entry_gone(self, entry):
        self.entries.pop(entry["slot"], None)
        self.lost.discard(entry["boot"])
        link = self.links.pop(entry["endpoint"], None)
        if link:
            link.drain()
            link.close()
            self.target_died(link.target)

    def _claimed(self, message):
        for entry in self.entries.values():
            if entry["name"] != message.name:
                continue
            mine = entry["slot"] == message.slot
            for key in message["keys"] or ():
                if mine and not message.release:
                    entry["claims"].add(key)
                elif mine or not message.release:
                    entry["claims"].discard(key)

    def owner_of(self, channel):
        """Name of the actor that answers live.* for a channel, or None."""
        parts = channel.split("/")
        return self.actor_of.get(parts[1]) if len(parts) > 1 else None

    # -- calling

    def start(self, call):
        self._next += 1
        call.id = self._next
        self.calls[call.id] = call
        if self.failure:
            error = self.failure
            self._finish(call, error.status, {"code": error.code, "error": error.text}, {})
        elif len(self.waiting) >= WAITING_MAX:
            self._fail(call, 503, "UNAVAILABLE", "too many calls wait")
        else:
            self.waiting.append(call)
            self.dispatch()

    def dispatch(self):
        """Give waiting calls to instances that can take them."""
        if not self.ready or not self.waiting:
            return
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            if call.id not in self.calls:
                continue
            if call.method not in self.known:
                self._fail(call, 404, "NOT_FOUND", f"nobody serves {call.method}")
                continue
            target = self._choose(call)
            if target is None:
                self.waiting.append(call)
            else:
                try:
                    self._send(call, target)
                except (TypeError, ValueError, OverflowError) as error:
                    self._fail(call, 400, "INVALID", str(error))

    def _choose(self, call):
        live = [entry for entry in self.entries.values()
                if call.method in entry["methods"] and entry.get("state") == "up"
                and entry["boot"] not in self.lost
                and (call.slot is None or entry["slot"] == call.slot)]
        if not live:
            return None
        route = live[0]["methods"][call.method]
        if route.get("idempotent") or route.get("verb") == "GET" \
                or (call.meta or {}).get("idempotency_key"):
            call.idempotent = True
        if call.key:
            # who claimed it and is leaving still owns it: there are never two owners
            names = {entry["name"] for entry in live}
            claimed = [entry for entry in self.entries.values()
                       if entry["name"] in names and call.key in entry["claims"]]
            if claimed and claimed[0] not in live:
                return None
            entry = claimed[0] if claimed else max(live, key=lambda one: wire.text_hash(
                one["slot"].encode() + b"\0" + call.key.encode()))
            target = self._target(entry)
        else:
            two = random.sample(live, min(2, len(live)))
            target = min((self._target(entry) for entry in two), key=lambda one: len(one.calls))
        return target if target.link.up and len(target.calls) < target.credit else None

    def _target(self, entry):
        if not entry["endpoint"]:
            return self.through
        link = self.links.get(entry["endpoint"])
        if link is None:
            link = self.links[entry["endpoint"]] = ActorLink(self, entry)
        return link.target

    def _send(self, call, target):
        call.target = target
        call.attempts += 1
        target.calls.add(call.id)
        ttl = max(1, int((call.deadline - time.monotonic()) * 1000))
        target.link.send(wire.CALL, id=call.id, method=call.method, key=call.key, ttl=ttl,
                         params=call.params, body=call.body, meta=call.meta)

    def target_died(self, target):
        """Its connection broke. What may be repeated waits for another instance."""
        target.dead = True
        for entry in self.entries.values():
            if entry["endpoint"] and entry["endpoint"] == target.link.endpoint:
                self.lost.add(entry["boot"])
                link = self.links.pop(entry["endpoint"], None)
                if link:
                    link.close()
        for number in list(target.calls):
            call = self.calls.get(number)
            if call is None:
                continue
            call.target = None
            if call.streaming:
                self.calls.pop(call.id)
                call.chunk(b"", True, "UNAVAILABLE")
            elif call.idempotent and call.upload is None and call.attempts < ATTEMPTS:
                self.waiting.append(call)
            else:
                self._fail(call, 503, "UNAVAILABLE", "the actor went away", outcome="unknown")
        target.calls.clear()
        self.dispatch()

    def answered(self, target, message):
        call = self.calls.get(message.get("id", 0))
        if call is None or call.target is not target:
            return
        if message.number == wire.REPLY and not call.streaming:
            meta = message.meta or {}
            if meta.get("stream") and call.chunk:
                call.streaming = True
                call.done(message.status, message.body, meta)
                self.grant(call, CHUNK_CREDIT)
            elif meta.get("stream"):
                target.link.send(wire.CANCEL, id=call.id)
                self._fail(call, 500, "INTERNAL", "the answer is a stream: use stream()")
            else:
                self._finish(call, message.status, message.body, meta)
            self.dispatch()
        elif message.number == wire.CHUNK and call.streaming:
            over = message.last or bool(message.error)
            if over:
                self._forget(call)
            call.chunk(message.data, over, message.error)
        elif message.number == wire.CREDIT and call.upload:
            call.upload(message.count)

    def grant(self, call, count):
        if call.id in self.calls and call.target:
            call.target.link.send(wire.CREDIT, id=call.id, count=count)

    def upload(self, call, data, last):
        if call.id in self.calls and call.target:
            call.target.link.send(wire.CHUNK, id=call.id, data=data, last=last)

    def cancel(self, call):
        if call.id in self.calls:
            if call.target:
                call.target.link.send(wire.CANCEL, id=call.id)
            elif call in self.waiting:
                self.waiting.remove(call)
            self._forget(call)

    def _forget(self, call):
        self.calls.pop(call.id, None)
        if call.target:
            call.target.calls.discard(call.id)

    def _finish(self, call, status, body, meta):
        self._forget(call)
        call.done(status, body, meta)

    def _fail(self, call, status, code, text, **meta):
        self._finish(call, status, {"code": code, "error": text, "details": {}}, meta)

    # -- time

    def tick(self):
        """Heartbeats, deadlines, connections that went silent."""
        now = time.monotonic()
        if now - self._tick < 0.01:
            return
        self._tick = now
        broker = self.broker
        if broker.up:
            if now - broker.heard > SILENCE * self.heartbeat:
                broker.again("silent")
            elif now - broker.sent >= self.heartbeat / 2:
                # Not welcomed yet: the answer to HELLO may have been lost with a broker.
                if self.welcomed or self.failure:
                    broker.send(wire.PING, load=self.load())
                else:
                    self.say_hello()
        for link in list(self.links.values()):
            if link.up and link.target.calls and now - link.sent >= self.heartbeat:
                link.send(wire.PING)
            link.flush()
        broker.flush()
        for entry in list(self.entries.values()):
            if entry.get("until", now) < now:
                self._entry_gone(entry)
        for call in list(self.calls.values()):
            if now >= call.deadline and not call.streaming:
                self._expire(call)
        self.waiting = [call for call in self.waiting if call.id in self.calls]

    def _expire(self, call):
        if call.target:
            call.target.link.send(wire.CANCEL, id=call.id)
            self._fail(call, 504, "TIMEOUT", "no answer in time")
        else:
            self._fail(call, 503, "UNAVAILABLE", f"no instance serves {call.method} now",
                       retry_after=1, **({"outcome": "unknown"} if call.attempts else {}))

    def load(self):
        return 0

    def leave(self):
        for link in self.links.values():
            link.send(wire.GOODBYE, why="leaving")
            link.flush()
        if self.broker.up:
            self.broker.send(wire.GOODBYE, why="leaving")
            self.broker.flush()

    def close(self):
        for link in self.links.values():
            link.close()
        self.broker.close()


def error_of(status, body, meta):
    body = body if isinstance(body, dict) else {}
    return BusError(status, body.get("code", "INTERNAL"), body.get("error", "failed"),
                    body.get("details"), meta)
