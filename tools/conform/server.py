"""An actor that does just what a check wants: also what no good actor would."""

import json
import secrets

import msgpack
import zmq

from busbar import wire
from world import CREDIT, Peer

CHANNEL = "org:conform/log"
METHODS = ({"method": "conform.echo"}, {"method": "conform.never"}, {"method": "conform.fail"},
           {"method": "conform.count"}, {"method": "conform.torn"}, {"method": "conform.hold"},
           {"method": "conform.ready"}, {"method": "conform.short"}, {"method": "conform.newer"},
           {"method": "conform.broken"}, {"method": "conform.read", "idempotent": True},
           {"method": "conform.live.read", "idempotent": True})
CHUNK = b"0123456789abcdef" * 1024


class Caller:
    """What one connection of a caller sent us."""

    def __init__(self, hello):
        self.hello = hello
        self.in_flight, self.most = set(), 0


class Server:
    def __init__(self, world, slot, channels=()):
        self.world, self.slot = world, slot
        self.boot = secrets.token_hex(4)
        self.endpoint = f"ipc://{world.run}/{slot}-{self.boot}.s"
        self.callers, self.calls, self.cancels, self.strays = {}, [], [], []
        self.streams, self.pongs, self.goodbyes, self.silent = {}, 0, 0, False
        self.log, self.epoch, self.floor, self.reads = [], "first", 0, 0
        self.router = world.socket(zmq.ROUTER, self.endpoint, self._take)
        self.peer = Peer(world, role="actor", name="conform", slot=slot, boot=self.boot,
                         endpoint=self.endpoint, credit=CREDIT, routes=list(METHODS),
                         channels=[{"name": name, "kind": "log"} for name in channels])
        world.until(lambda: self.peer.welcomed, "the broker to take our actor")

    # -- what callers send

    def _take(self, parts):
        if len(parts) != 2:
            self.strays.append(f"{len(parts)} message parts instead of an id and a frame")
            return
        who, frame = parts
        try:
            for message in wire.unpack(frame):
                self._message(who, message)
        except ValueError as error:
            self.strays.append(f"a malformed frame: {error}")

    def _message(self, who, message):
        number = message.number
        if number == wire.HELLO:
            self.callers[who] = Caller(message)
            self.send(who, wire.WELCOME, boot=self.boot, credit=CREDIT)
        elif who not in self.callers:
            self.strays.append(f"message {number} before HELLO")
        elif number == wire.CALL:
            self._call(who, message)
        elif number == wire.CANCEL:
            self.cancels.append(message.id)
            self.callers[who].in_flight.discard(message.id)
            self.streams.pop(message.id, None)
        elif number == wire.CREDIT and message.id in self.streams:
            self.streams[message.id]["credit"] += message["count"]
            self._stream(message.id)
        elif number == wire.PING:
            self.send(who, wire.PONG)
        elif number == wire.PONG:
            self.pongs += 1
        elif number == wire.GOODBYE:
            self.goodbyes += 1

    def _call(self, who, call):
        caller = self.callers[who]
        caller.in_flight.add(call.id)
        caller.most = max(caller.most, len(caller.in_flight))
        self.calls.append(call)
        if not self.silent:
            getattr(self, "_" + call.method.split(".", 1)[1].replace(".", "_"))(who, call)

    # -- what we answer

    def send(self, who, number, **fields):
        self.raw(who, wire.pack(number, **fields))

    def raw(self, who, frame):
        try:
            self.router.send_multipart([who, frame], zmq.DONTWAIT)
        except zmq.ZMQError:
            self.callers.pop(who, None)

    def reply(self, who, call, status=200, body=None, meta=None):
        self.callers[who].in_flight.discard(call.id)
        self.send(who, wire.REPLY, id=call.id, status=status, body=body, meta=meta)

    def _echo(self, who, call):
        self.reply(who, call, body={"slot": self.slot, "body": call.body, "params": call.params})

    _read = _echo

    def _never(self, who, call):
        pass

    def _hold(self, who, call):
        """Answered by answer_held()."""

    def answer_held(self):
        for who, caller in list(self.callers.items()):
            for call in [call for call in self.calls if call.id in caller.in_flight]:
                self.reply(who, call, body="held")

    def _fail(self, who, call):
        self.reply(who, call, 409, {"code": "CONFLICT", "error": "name is taken",
                                    "details": {"name": "taken"}})

    def _ready(self, who, call):
        text = json.dumps({"ready": ["made by PostgreSQL", 1, None]}).encode()
        self.reply(who, call, body=msgpack.ExtType(1, text))

    def _short(self, who, call):
        self.raw(who, msgpack.packb([wire.REPLY, call.id, 200]))
        self.callers[who].in_flight.discard(call.id)

    def _newer(self, who, call):
        """Of a later version: another message, a further field, an answer to who knows what."""
        reply = [wire.REPLY, call.id, 200, "newer", {"more": 1}, 0, "further", [1, 2]]
        self.raw(who, msgpack.packb([99, {"what": "ever"}]) + msgpack.packb([wire.REPLY, 7, 200, "?"])
                 + msgpack.packb(reply))
        self.callers[who].in_flight.discard(call.id)

    def _broken(self, who, call):
        """What comes first in a frame holds, the malformed rest is dropped."""
        self.raw(who, b"\xdd\xff\xff\xff\xff")
        self.raw(who, msgpack.packb([wire.REPLY, call.id, "200"])
                 + wire.pack(wire.REPLY, id=call.id, status=200, body="first")
                 + b"\x94\x07\xc1" + wire.pack(wire.REPLY, id=call.id, status=500))
        self.callers[who].in_flight.discard(call.id)

    # -- streams

    def _count(self, who, call):
        wanted = (call.body or {}).get("chunks", 10)
        self.send(who, wire.REPLY, id=call.id, status=200, meta={"stream": True})
        self.streams[call.id] = {"who": who, "call": call, "left": wanted, "credit": 0, "sent": 0,
                                 "torn": call.method == "conform.torn"}

    _torn = _count

    def _stream(self, number):
        stream = self.streams[number]
        while stream["credit"] > 0 and stream["left"] > 0:
            stream["credit"] -= 1
            stream["left"] -= 1
            stream["sent"] += 1
            self.send(stream["who"], wire.CHUNK, id=number, data=CHUNK)
        if stream["left"] == 0:
            self.send(stream["who"], wire.CHUNK, id=number, last=True,
                      error="UNAVAILABLE" if stream["torn"] else "")
            self.callers[stream["who"]].in_flight.discard(number)
            del self.streams[number]

    # -- events

    def event(self, sent=True):
        """The next event of the log; it may get lost on the way."""
        off = self.log[-1]["off"] + 1 if self.log else 1
        event = {"off": off, "key": "", "type": "conform.counted", "at": "2026-01-01T00:00:00Z",
                 "data": {"n": off}}
        self.log.append(event)
        if sent:
            self.peer.send(wire.EVENT, channel=CHANNEL, epoch=self.epoch, **event)
        return off

    def _live_read(self, who, call):
        self.reads += 1
        asked = {**(call.params or {}), **(call.body or {})}
        start, limit = int(asked.get("from") or 0), int(asked.get("limit") or 300)
        top = self.log[-1]["off"] if self.log else 0
        answer = {"epoch": self.epoch, "top": top, "floor": self.floor}
        if asked.get("epoch") and asked["epoch"] != self.epoch:
            answer["gap"] = {"from": 1, "to": self.floor, "why": "epoch"}
            start = self.floor
        elif start < self.floor:
            answer["gap"] = {"from": start + 1, "to": self.floor, "why": "retention"}
            start = self.floor
        #  Pages are small, so that a reader has to ask again.
        answer["events"] = [event for event in self.log if event["off"] > start][:min(limit, 3)]
        self.reply(who, call, body=answer)

    # -- the end

    def ping_all(self):
        for who in list(self.callers):
            self.send(who, wire.PING)

    def die(self):
        """As a process that is killed: no goodbye."""
        self.world.drop(self.router)
        self.peer.drop()
