"""What an actor must do, asked by a caller that obeys no rule but those it tests."""

import os
import secrets
import signal

import msgpack
import zmq

from busbar import wire
from world import GO, HEARTBEAT, STOP, Failed, Peer, Program, World, need

CHANNEL = "org:conform/log"
NAMES = ("echo", "fail", "count", "wait", "size", "publish")


class Caller:
    """A DEALER to the actor's own socket."""

    def __init__(self, world, endpoint, hello=True):
        self.world = world
        self.messages, self.next = [], secrets.randbelow(1 << 40)
        self.pings, self.polite = 0, True
        self.sock = world.socket(zmq.DEALER, endpoint, self._take)
        if hello:
            self.send(wire.HELLO, role="caller", name="conform", slot=f"conform-{id(self)}",
                      boot=secrets.token_hex(4))

    def _take(self, parts):
        need(len(parts) == 1, f"{len(parts)} message parts instead of one frame")
        need(len(parts[0]) <= wire.FRAME_MAX, "a frame above 16 MiB")
        for message in wire.unpack(parts[0]):
            if message.number == wire.PING:
                self.pings += 1
                if self.polite:
                    self.send(wire.PONG)
            self.messages.append(message)

    def send(self, number, **fields):
        self.raw(wire.pack(number, **fields))

    def raw(self, *parts):
        self.sock.send_multipart(parts)

    def call(self, method, ttl=5000, **more):
        self.next += 1
        self.send(wire.CALL, id=self.next, method=method, ttl=ttl, **more)
        return self.next

    def of(self, number, call):
        return [message for message in self.messages
                if message.number == number and message.get("id") == call]

    def reply(self, call, patience=5.0):
        return self.world.until(lambda: self.of(wire.REPLY, call), "REPLY", patience)[0]

    def ask(self, method, **more):
        return self.reply(self.call(method, **more))

    def close(self):
        self.world.drop(self.sock)


class Subject:
    """The actor under test."""

    def __init__(self, world, command):
        self.world = world
        self.looker = Peer(world, role="client", name="conform-looker", slot="looker")
        world.until(lambda: self.looker.welcomed, "the broker to answer")
        self.program = Program(world, command, lines=False)

    def entry(self):
        return next((entry for entry in self.looker.entries.values()
                     if entry["name"] not in ("broker",) and entry.get("endpoint")), None)

    def routes(self):
        return {route["method"]: route for route in self.entry()["routes"]}

    def meet(self):
        self.name = self.entry()["name"]
        self.boot, self.slot = self.entry()["boot"], self.entry()["slot"]
        self.caller = Caller(self.world, self.entry()["endpoint"])

    def method(self, name):
        return f"{self.name}.{name}"

    def ask(self, name, **more):
        return self.caller.ask(self.method(name), **more)

    def works(self, caller=None):
        reply = (caller or self.caller).ask(self.method("echo"), body={"text": "still"})
        need(reply.status == 200 and reply.body == {"text": "still"},
             f"echo answers {reply.status} {reply.body}")


def check_registration(it):
    it.world.until(lambda: it.entry() or it.program.ended(), "an entry in the directory", 15)
    need(not it.program.ended(), "the program ended")
    entry = it.entry()
    need(entry["state"] == "up" and entry["boot"] and entry["credit"] > 0 and entry["pid"] > 0,
         f"the entry is {entry}")
    it.meet()
    need(entry["endpoint"].startswith(f"ipc://{it.world.run}/{entry['slot']}-"),
         f"the endpoint {entry['endpoint']} is not named after its slot in the run directory")


def check_routes(it):
    missing = [name for name in NAMES if it.method(name) not in it.routes()]
    need(not missing, f"not announced: {', '.join(missing)}")
    echo = it.routes()[it.method("echo")]
    need(echo.get("verb") == "GET" and echo.get("path", "").startswith("/conform/:"),
         f"echo is announced as {echo}")
    need([field for field in echo.get("in") or () if field["name"] == "text"],
         "echo announces no field `text`")
    need(it.routes()[it.method("size")].get("upload") is True, "size takes an upload")
    need({"log"} <= {channel["name"] for channel in it.entry().get("channels") or ()},
         "the channel `log` is not announced")


def check_welcome(it):
    welcome = it.world.until(lambda: [message for message in it.caller.messages
                                      if message.number == wire.WELCOME], "WELCOME")[0]
    need(welcome.boot == it.boot and welcome.version == 1, f"WELCOME says {dict(welcome)}")
    need(welcome.credit == it.entry()["credit"], "WELCOME and the directory differ on credit")


def check_call(it):
    for more in ({"params": {"text": "grün ☂"}}, {"body": {"text": "grün ☂"}}):
        reply = it.ask("echo", **more)
        need(reply.status == 200 and reply.body == {"text": "grün ☂"},
             f"{more} is answered {reply.status} {reply.body}")


def check_errors(it):
    reply = it.ask("fail")
    need(reply.status == 409 and reply.body["code"] == "CONFLICT" and reply.body["error"]
         and reply.body["details"] == {"name": "taken"}, f"fail answers {reply.status} {reply.body}")
    for body in ({"text": "x" * 65}, {"text": 5}, {}):
        reply = it.ask("echo", body=body)
        need(reply.status == 400 and reply.body["code"] == "INVALID"
             and "text" in reply.body["details"], f"{body} is answered {reply.status} {reply.body}")
    reply = it.ask("nothing")
    need(reply.status == 404 and reply.body["code"] == "NOT_FOUND",
         f"an unknown method is answered {reply.status} {reply.body}")


def check_authorisation(it):
    """live.read is for operators, whatever an edge of another version believes."""
    for identity in ({"kind": "anon"}, {"kind": "user", "user": "ann", "role": "super_admin"}):
        reply = it.ask("live.read", identity=identity, body={"ch": CHANNEL, "from": 0})
        need(reply.status in (401, 403) and reply.body["code"] in ("UNAUTHORIZED", "FORBIDDEN"),
             f"{identity} is answered {reply.status} {reply.body}")
        need(it.ask("echo", identity=identity, body={"text": "a"}).status == 200,
             f"echo is for everybody, not for {identity}")


def check_newer(it):
    it.caller.next += 1
    it.caller.raw(msgpack.packb([99, {"what": "ever"}])
                  + msgpack.packb([wire.CALL, it.caller.next, it.method("echo"), "", 5000, "", None,
                                   None, {"text": "a"}, None, "a field of later", 7])
                  + msgpack.packb([98]))
    need(it.caller.reply(it.caller.next).body == {"text": "a"}, "it did not answer")
    it.caller.next += 1
    it.caller.raw(msgpack.packb([wire.CALL, it.caller.next, it.method("fail"), "", 5000]))
    need(it.caller.reply(it.caller.next).status == 409, "a shorter CALL is a good one")


def check_malformed(it):
    other = Caller(it.world, it.entry()["endpoint"])
    for frame in (b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\x81\x01\x02", b"\x91\xa3abc", b"\x91" * 200,
                  msgpack.packb([wire.CALL, "x", 5]), msgpack.packb([wire.CALL, 1 << 63, b"\xff"]),
                  msgpack.packb([wire.CHUNK, 5, "x", 3]), msgpack.packb([-1])):
        other.raw(frame)
    other.raw(b"one", b"two", b"three")
    other.next += 1
    other.raw(wire.pack(wire.CALL, id=other.next, method=it.method("echo"), ttl=5000,
                        body={"text": "first"}) + b"\x92\x10\xc1"
              + wire.pack(wire.CALL, id=other.next + 1, method=it.method("echo"), ttl=5000,
                          body={"text": "second"}))
    need(other.reply(other.next).body == {"text": "first"}, "what came before malformed bytes holds")
    it.world.idle(0.2)
    need(not other.of(wire.REPLY, other.next + 1), "what came after malformed bytes was read")
    other.next += 2
    other.raw(msgpack.packb([wire.CALL, other.next, 5]) + msgpack.packb([wire.CREDIT, "x", "y"])
              + wire.pack(wire.CALL, id=other.next, method=it.method("echo"), ttl=5000,
                          body={"text": "behind"}))
    need(other.reply(other.next).body == {"text": "behind"},
         "a field of another type drops that message, not those behind it")
    it.works(other)
    other.close()
    it.works()


def check_oversized(it):
    other = Caller(it.world, it.entry()["endpoint"])
    it.works(other)
    other.raw(bytes(20 * 1024 * 1024))
    other.close()
    it.works()
    again = Caller(it.world, it.entry()["endpoint"])
    it.works(again)
    again.close()


def check_stranger(it):
    """Without HELLO nobody is known; it may answer or not, but it lives."""
    other = Caller(it.world, it.entry()["endpoint"], hello=False)
    other.call(it.method("echo"), body={"text": "who"})
    it.world.idle(0.2)
    other.close()
    it.works()


def check_stream(it):
    number = it.caller.call(it.method("count"), body={"to": 200000})
    reply = it.caller.reply(number)
    need(reply.status == 200 and (reply.meta or {}).get("stream") is True,
         f"count answers {reply.status} {reply.meta}")
    it.world.idle(0.3)
    need(not it.caller.of(wire.CHUNK, number), "chunks came before any credit")
    it.caller.send(wire.CREDIT, id=number, count=3)
    it.world.until(lambda: len(it.caller.of(wire.CHUNK, number)) >= 3, "three chunks")
    it.world.idle(0.3)
    chunks = it.caller.of(wire.CHUNK, number)
    need(len(chunks) == 3, f"{len(chunks)} chunks came for a credit of 3")
    while not it.caller.of(wire.CHUNK, number)[-1].last:
        seen = len(it.caller.of(wire.CHUNK, number))
        it.caller.send(wire.CREDIT, id=number, count=8)
        it.world.until(lambda: len(it.caller.of(wire.CHUNK, number)) > seen, "further chunks")
    chunks = it.caller.of(wire.CHUNK, number)
    need(all(len(chunk.data) <= wire.CHUNK_MAX for chunk in chunks), "a chunk above 64 KiB")
    text = b"".join(chunk.data for chunk in chunks)
    need(text == b"".join(b"%d\n" % n for n in range(200000)), "other data came than was asked for")


def check_cancelled_stream(it):
    number = it.caller.call(it.method("count"), body={"to": 1000000})
    it.caller.reply(number)
    it.caller.send(wire.CREDIT, id=number, count=2)
    it.world.until(lambda: it.caller.of(wire.CHUNK, number), "a chunk")
    it.caller.send(wire.CANCEL, id=number)
    it.world.idle(0.3)
    before = len(it.caller.of(wire.CHUNK, number))
    it.caller.send(wire.CREDIT, id=number, count=100)
    it.world.idle(0.3)
    need(len(it.caller.of(wire.CHUNK, number)) == before, "chunks of a cancelled call")
    it.works()


def check_upload(it):
    number = it.caller.call(it.method("size"), meta={"stream": True, "size": 2000000})
    left = 2000000
    credit = used = 0
    while left:
        it.world.until(lambda: sum(message["count"] for message in it.caller.of(wire.CREDIT, number))
                       > used, "credit for an upload")
        credit = sum(message["count"] for message in it.caller.of(wire.CREDIT, number))
        while used < credit and left:
            size = min(left, wire.CHUNK_MAX)
            left, used = left - size, used + 1
            it.caller.send(wire.CHUNK, id=number, data=bytes(size))
    it.caller.send(wire.CHUNK, id=number, last=True)
    reply = it.caller.reply(number)
    need(reply.status == 200 and reply.body == {"size": 2000000},
         f"size answers {reply.status} {reply.body}")


def load(it):
    return it.ask("echo", body={"text": "load"}).load


def check_cancel(it):
    number = it.caller.call(it.method("wait"), ttl=60000, body={"ms": 30000})
    it.world.until(lambda: load(it) >= 1, "`load` to count a call in service")
    it.caller.send(wire.CANCEL, id=number)
    it.world.until(lambda: load(it) <= 1 and not it.caller.of(wire.REPLY, number)
                   or it.caller.of(wire.REPLY, number), "the call to end after CANCEL", 3)


def check_many(it):
    numbers = [it.caller.call(it.method("echo"), body={"text": str(n)}) for n in range(32)]
    for n, number in enumerate(numbers):
        need(it.caller.reply(number).body == {"text": str(n)}, "an answer went to another call")


def check_pings(it):
    """It asks whether callers in service still are there."""
    other = Caller(it.world, it.entry()["endpoint"])
    other.call(it.method("wait"), ttl=20000, body={"ms": 10000})
    before = other.pings
    it.world.until(lambda: other.pings > before, "PING to a caller with a call in service", 4)
    other.close()
    it.works()


def check_events(it):
    it.looker.send(wire.SUBSCRIBE, id=1, channel=CHANNEL)
    it.world.until(lambda: CHANNEL in it.looker.subscribed, "SUBSCRIBED")
    need(it.ask("publish", body={"count": 5}).status < 300, "publish failed")
    it.world.until(lambda: len(it.looker.events) >= 5, "five events")
    offs = [event.off for event in it.looker.events]
    need(offs == list(range(offs[0], offs[0] + 5)), f"offsets {offs}")
    need({event.epoch for event in it.looker.events} - {""} and
         it.looker.events[0].type == "conform.counted", f"an event is {dict(it.looker.events[0])}")
    asked = {"ch": CHANNEL, "epoch": it.looker.events[0].epoch, "from": offs[1], "limit": 2}
    reply = it.ask("live.read", params={name: str(value) for name, value in asked.items()}, body=asked)
    need(reply.status == 200 and reply.body["top"] == offs[4], f"live.read {reply.status} {reply.body}")
    got = [event["off"] for event in reply.body["events"]]
    need(got == offs[2:4] and not reply.body.get("gap"), f"live.read gave {got}")
    reply = it.ask("live.read", body={**asked, "epoch": "of long ago", "from": 1})
    need(reply.status == 200 and reply.body.get("gap"), "another epoch is no reason for a gap")


def check_idle(it):
    it.world.idle(8 * HEARTBEAT / 1000)
    need(it.entry() and it.entry()["boot"] == it.boot, "the broker lost an idle actor")


def check_stopped(it):
    pid = it.entry()["pid"]          # the command may have started it
    os.kill(pid, STOP)
    try:
        it.world.until(lambda: not it.entry(), "the broker to take a stopped actor for dead")
    finally:
        os.kill(pid, GO)
    it.world.until(it.entry, "it to come back")
    need(it.entry()["boot"] == it.boot, "it came back as somebody else")
    it.works()


def check_broker_restart(it):
    number = it.caller.call(it.method("wait"), ttl=20000, body={"ms": 1500})
    it.world.idle(0.2)
    it.world.kill_broker()
    it.works()
    it.looker.entries.clear()
    it.world.start_broker()
    it.world.until(it.entry, "it to register with the new broker", 5)
    need(it.entry()["boot"] == it.boot and it.method("echo") in it.routes(),
         "its entry is not what it was")
    need(it.caller.reply(number).status == 200, "a call that was under way got lost")


def check_drain(it):
    number = it.caller.call(it.method("wait"), ttl=20000, body={"ms": 1500})
    it.world.until(lambda: load(it) >= 1, "the call to be in service")
    it.program.signal(signal.SIGTERM)
    it.world.until(lambda: it.entry() and it.entry()["state"] == "draining", "state draining", 2)
    reply = it.caller.reply(number)
    need(reply.status == 200, f"a call in service was answered {reply.status} {reply.body}")
    it.world.until(it.program.ended, "the program to end", 5)
    need(it.program.process.returncode == 0, f"exit code {it.program.process.returncode}")
    it.world.until(lambda: not it.entry(), "the entry to go", 3)


CHECKS = (
    ("registers", check_registration), ("announces its routes", check_routes),
    ("welcomes callers", check_welcome), ("answers", check_call), ("answers errors", check_errors),
    ("asks who calls", check_authorisation),
    ("messages and fields of later versions", check_newer), ("malformed frames", check_malformed),
    ("frames above the limit", check_oversized), ("callers without HELLO", check_stranger),
    ("streams under credit", check_stream), ("streams that are cancelled", check_cancelled_stream),
    ("takes uploads", check_upload), ("stops when cancelled", check_cancel),
    ("many calls at once", check_many), ("looks after its callers", check_pings),
    ("publishes, and reads its log", check_events), ("lives while idle", check_idle),
    ("comes back when it was taken for dead", check_stopped),
    ("outlives a restart of the broker", check_broker_restart), ("drains and leaves", check_drain))


def check_all(world: World, runner, command):
    it = Subject(world, command)
    for name, check in CHECKS:
        runner.run(name, check, it)
        if it.program.ended() and check is not check_drain:
            raise Failed("the program ended")
