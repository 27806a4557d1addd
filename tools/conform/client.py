"""What a client of the bus must do, looked at from its actors' side."""

import collections
import time

from busbar import wire
from server import CHANNEL, CHUNK, Server
from world import CREDIT, GO, HEARTBEAT, STOP, Failed, Peer, Program, need

VALUE = {"text": "grün ☂", "int": 9007199254740991, "less": -3, "real": 0.5, "yes": True,
         "none": None, "list": [1, [2, [3]]], "map": {"a": {"b": []}}}


class Subject:
    """The client under test, with everything around it."""

    def __init__(self, world, command):
        self.world, self.number = world, 0
        self.looker = Peer(world, role="client", name="conform-looker", slot="looker")
        world.until(lambda: self.looker.welcomed, "the broker to answer")
        self.one = Server(world, "conform.1", channels=["log"])
        self.two = Server(world, "conform.2")
        self.program = Program(world, command, lines=True)

    def tell(self, do, **more):
        self.number += 1
        self.program.tell(do=do, id=self.number, **more)
        return self.number

    def call(self, method, ttl=5000, **more):
        return self.tell("call", method=f"conform.{method}", ttl=ttl, **more)

    def line(self, number, what="an answer", patience=5.0):
        """The line with that id."""
        def find():
            need(not self.program.ended(), "the program ended")
            return next((line for line in self.program.said if line.get("id") == number), None)
        return self.world.until(find, what, patience)

    def ask(self, method, **more):
        return self.line(self.call(method, **more), f"the answer of {method}")

    def events(self):
        return [line["event"] for line in self.program.said if "event" in line]

    def offs(self):
        return [event["off"] for event in self.events()]

    def forget(self):
        self.program.said.clear()

    def registered(self):
        peers = self.looker.ask("broker.peers")["peers"]
        return [peer for peer in peers if peer["role"] == "client" and peer["slot"] != "looker"]

    def calls(self, method):
        return [call for server in (self.one, self.two) for call in server.calls
                if call.method == f"conform.{method}"]


def check_ready(it):
    it.world.until(lambda: {"ready": True} in it.program.said or it.program.ended(), '{"ready": true}', 15)
    need(not it.program.ended(), "the program ended")
    need(len(it.registered()) == 1, f"the broker knows {len(it.registered())} clients, not one")


def check_call(it):
    line = it.ask("echo", params={"a": "b"}, body=VALUE)
    need(line["status"] == 200, f"status {line['status']}")
    need(line["body"]["body"] == VALUE, f"the body came back as {line['body']['body']}")
    need(line["body"]["params"] == {"a": "b"}, "params did not arrive")
    call = it.calls("echo")[-1]
    need(call.id < wire.RELAY_ID, "call ids must be below 2^62")
    need(3000 < call.ttl <= 5000, f"ttl 5000 became {call.ttl}")
    need(call.identity is None, "identity is for edges and the door")
    for server in (it.one, it.two):
        for caller in server.callers.values():
            need(caller.hello.role == "caller", f"HELLO.role to an actor is {caller.hello.role!r}")
            need(caller.hello.version == 1 and caller.hello.boot, "HELLO wants version and boot")


def check_ready_json(it):
    need(it.ask("ready")["body"] == {"ready": ["made by PostgreSQL", 1, None]},
         "ext 1 is the text of a JSON value")


def check_error(it):
    line = it.ask("fail")
    need(line["status"] == 409 and line["body"]["code"] == "CONFLICT"
         and line["body"]["details"] == {"name": "taken"}, f"it said {line}")


def check_unknown_method(it):
    line = it.line(it.tell("call", method="conform.nothing", ttl=5000), "a 404 at once", 2)
    need(line["status"] == 404 and line["body"]["code"] == "NOT_FOUND", f"it said {line}")


def check_newer(it):
    need(it.ask("newer")["body"] == "newer", "it did not see the answer behind what it did not know")
    line = it.ask("short")
    need(line["status"] == 200 and line.get("body") is None, f"missing fields: it said {line}")


def check_malformed(it):
    need(it.ask("broken")["body"] == "first",
         "what stood before the malformed message holds")
    need(it.ask("echo")["status"] == 200, "no call works after a malformed frame")


def check_deadline(it):
    began = time.monotonic()
    line = it.line(it.call("never", ttl=600), "a 504 at its deadline", 3)
    took = time.monotonic() - began
    need(line["status"] == 504 and line["body"]["code"] == "TIMEOUT", f"it said {line}")
    need(0.5 < took < 2.5, f"ttl 600 took {took:.1f} s")
    numbers = {call.id for call in it.calls("never")}
    it.world.until(lambda: numbers <= set(it.one.cancels + it.two.cancels), "CANCEL at the actor")


def check_cancel(it):
    number = it.call("never", ttl=20000)
    before = len(it.one.cancels) + len(it.two.cancels)
    it.world.until(lambda: any(call.ttl > 10000 for call in it.calls("never")), "the call")
    it.program.tell(do="cancel", id=number)
    it.world.until(lambda: len(it.one.cancels) + len(it.two.cancels) > before, "CANCEL at the actor")
    it.world.idle(0.2)
    need(not [line for line in it.program.said if line.get("id") == number],
         "it reported a call that was cancelled")


def check_credit(it):
    numbers = [it.call("hold") for _ in range(20)]
    it.world.until(lambda: len(it.calls("hold")) >= 2, "calls to arrive")
    it.world.idle(0.3)
    for server in (it.one, it.two):
        for caller in server.callers.values():
            need(caller.most <= CREDIT, f"{caller.most} calls in flight, WELCOME allowed {CREDIT}")

    def all_answered():
        for server in (it.one, it.two):
            server.answer_held()
        return {line.get("id") for line in it.program.said} >= set(numbers)
    it.world.until(all_answered, "all 20 calls to be answered")
    need(len(it.calls("hold")) == 20, f"20 calls arrived as {len(it.calls('hold'))}")
    need(it.one.calls and it.two.calls, "calls without a key went to one instance only")


def check_stream(it):
    line = it.line(it.tell("stream", method="conform.count", ttl=5000, body={"chunks": 100}),
                   "the end of the stream", 10)
    need(line["status"] == 200 and line.get("size") == 100 * len(CHUNK)
         and line.get("sum") == 100 * sum(CHUNK) % 2 ** 32, f"it said {line}")


def check_stream_credit(it):
    before = {call.id for call in it.calls("count")}
    number = it.tell("stream", method="conform.count", ttl=5000, body={"chunks": 100000})
    call = it.world.until(lambda: [call for call in it.calls("count") if call.id not in before],
                          "the call")[0]
    server = it.one if call in it.one.calls else it.two
    it.world.until(lambda: server.streams[call.id]["sent"], "credit for chunks")
    it.program.signal(STOP)
    try:
        it.world.idle(0.3)
        first = server.streams[call.id]["sent"]
        it.world.idle(0.3)
        need(server.streams[call.id]["sent"] == first, "credit came from a stopped program")
        need(server.streams[call.id]["credit"] <= 4096, "more than 4096 chunks of credit")
    finally:
        it.program.signal(GO)
    it.program.tell(do="cancel", id=number)
    it.world.until(lambda: call.id in server.cancels, "CANCEL of a stream")


def check_torn(it):
    line = it.line(it.tell("stream", method="conform.torn", ttl=5000, body={"chunks": 3}),
                   "the end of a broken stream")
    need(line.get("error") == "UNAVAILABLE", f"it said {line}")


def owner_of(key):
    return max(("conform.1", "conform.2"),
               key=lambda slot: (wire.text_hash(slot.encode() + b"\0" + key.encode()), slot == "conform.1"))


def check_keys(it):
    for n in range(12):
        key = f"user:{n}"
        slot = it.ask("echo", key=key)["body"]["slot"]
        need(slot == owner_of(key), f"key {key} belongs to {owner_of(key)}, it asked {slot}")


def check_claims(it):
    key = next(f"user:{n}" for n in range(100) if owner_of(f"user:{n}") == "conform.1")
    claim = {"name": "conform", "slot": "conform.2", "boot": it.two.boot, "keys": [key]}
    it.two.peer.send(wire.CLAIM, **claim)
    it.world.until(lambda: key in (it.looker.entries["conform.2"].get("claims") or ())
                   or it.ask("echo", key=key)["body"]["slot"] == "conform.2", "the claim to count")
    it.world.until(lambda: it.ask("echo", key=key)["body"]["slot"] == "conform.2",
                   "a claimed key to go to who claims it")
    it.two.peer.send(wire.CLAIM, **claim, release=True)
    it.world.until(lambda: it.ask("echo", key=key)["body"]["slot"] == "conform.1",
                   "a key let go to go back")


def check_events(it):
    need(it.line(it.tell("subscribe", channel=CHANNEL))["subscribed"] == CHANNEL, "no `subscribed`")
    for _ in range(5):
        it.one.event()
    it.world.until(lambda: len(it.events()) >= 5, "five events")
    need(it.offs() == [1, 2, 3, 4, 5], f"offsets {it.offs()}")
    need(it.events()[0]["data"] == {"n": 1} and it.events()[0]["type"] == "conform.counted",
         f"an event came as {it.events()[0]}")


def check_hole(it):
    it.forget()
    it.one.event(sent=False)
    it.one.event(sent=False)
    it.one.event()
    it.world.until(lambda: len(it.events()) >= 3, "events 6, 7 that got lost, and 8")
    it.one.event()
    it.world.until(lambda: len(it.events()) >= 4, "event 9")
    need(it.offs() == [6, 7, 8, 9], f"offsets {it.offs()}")


def check_position(it):
    it.program.tell(do="unsubscribe", channel=CHANNEL)
    it.forget()
    it.line(it.tell("subscribe", channel=CHANNEL, epoch="first", off=2))
    it.one.event()
    it.world.until(lambda: len(it.events()) >= 8, "events 3 to 10")
    need(it.offs() == list(range(3, 11)), f"offsets {it.offs()}")


def gaps(it):
    return [line["gap"] for line in it.program.said if "gap" in line]


def check_gap(it):
    it.program.tell(do="unsubscribe", channel=CHANNEL)
    it.forget()
    it.one.floor = 6
    it.one.log = [event for event in it.one.log if event["off"] > 6]
    it.line(it.tell("subscribe", channel=CHANNEL, epoch="first", off=2))
    it.world.until(lambda: len(it.events()) >= 4, "what is kept: 7 to 10")
    need(gaps(it) and (gaps(it)[0]["from"], gaps(it)[0]["to"]) == (3, 6), f"gaps {gaps(it)}")
    need(it.offs() == [7, 8, 9, 10], f"offsets {it.offs()}")
    lines = [line for line in it.program.said if "gap" in line or "event" in line]
    need("gap" in lines[0], "the gap stands before what comes after it")


def check_idle(it):
    it.world.idle(8 * HEARTBEAT / 1000)
    need(len(it.registered()) == 1, "the broker lost a client that had nothing to do")
    before = it.one.pongs
    it.one.ping_all()
    it.world.until(lambda: it.one.pongs > before, "PONG for the PING of an actor")


def check_stopped(it):
    it.program.signal(STOP)
    try:
        it.world.until(lambda: not it.registered(), "the broker to take it for dead")
    finally:
        it.program.signal(GO)
    it.world.until(it.registered, "HELLO again after REFUSED UNKNOWN", 5)
    need(it.ask("echo")["status"] == 200, "no call works")


def check_broker_restart(it):
    it.forget()
    it.world.kill_broker()
    number = it.call("echo")
    need(it.line(number, "a direct call without any broker", 3)["status"] == 200, "it failed")
    it.one.event(sent=False)
    it.world.start_broker()
    it.world.until(lambda: it.looker.welcomed and it.one.peer.welcomed and it.registered(),
                   "everybody to be back", 8)
    it.world.until(lambda: it.offs() == [11], "the event that it missed", 8)
    it.one.event()
    it.world.until(lambda: it.offs() == [11, 12], "events from the new broker", 8)
    need(it.ask("echo")["status"] == 200, "no call works")


def check_death(it):
    key = next(f"user:{n}" for n in range(100) if owner_of(f"user:{n}") == "conform.2")
    numbers = [it.call("never", key=key), it.call("read", key=key), it.call("hold", key=key)]
    it.two.silent = True
    numbers[1] = it.call("read", key=key)
    it.world.until(lambda: len([call for call in it.two.calls if call.method == "conform.read"]),
                   "the calls")
    it.world.idle(0.2)
    it.two.die()
    for number in (numbers[0], numbers[2]):
        line = it.line(number, "a 503 at once when the actor dies", 2)
        need(line["status"] == 503 and line.get("outcome") == "unknown",
             f"a call that may have been executed: {line}")
    line = it.line(numbers[1], "an idempotent call to be sent again", 3)
    need(line["status"] == 200 and line["body"]["slot"] == "conform.1", f"it said {line}")


def check_quit(it):
    before = it.one.goodbyes
    it.program.tell(do="quit")
    it.world.until(it.program.ended, "the program to end")
    need(it.program.process.returncode == 0, f"exit code {it.program.process.returncode}")
    need(it.one.goodbyes > before, "no GOODBYE to actors")
    #  Sooner than for its silence.
    it.world.until(lambda: not it.registered(), "GOODBYE at the broker", 3.2 * HEARTBEAT / 1000)


def check_manners(it):
    for server in (it.one, it.two):
        need(not server.strays, f"{server.slot} got {collections.Counter(server.strays)}")


CHECKS = (
    ("says when it is ready", check_ready), ("calls", check_call),
    ("reads ready JSON", check_ready_json), ("reports errors", check_error),
    ("a method that nobody has", check_unknown_method),
    ("messages and fields of later versions", check_newer), ("malformed frames", check_malformed),
    ("deadlines", check_deadline), ("cancels", check_cancel), ("keeps to its credit", check_credit),
    ("takes streams", check_stream), ("gives credit for what it takes", check_stream_credit),
    ("streams that end broken", check_torn), ("keys go to their owner", check_keys),
    ("claims", check_claims), ("events in order", check_events), ("events that got lost", check_hole),
    ("events from a position", check_position), ("a log that does not reach back", check_gap),
    ("lives while idle", check_idle), ("comes back when it was taken for dead", check_stopped),
    ("outlives a restart of the broker", check_broker_restart),
    ("an actor that dies", check_death), ("leaves", check_quit), ("sends what it may", check_manners))


def check_all(world, runner, command):
    it = Subject(world, command)
    for name, check in CHECKS:
        runner.run(name, check, it)
        if it.program.ended() and check is not check_quit and check is not check_manners:
            raise Failed("the program ended")
