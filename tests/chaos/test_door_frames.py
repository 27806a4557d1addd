"""Bytes that are no message, words in the wrong order and keys that claim too much, at the door for programs
from outside: who sends them loses at most their own connection."""

import hashlib
import os
import random
import socket

import msgpack
import pytest
import zmq

from bus_fixtures import IDENTITY, Bus, token, wait_for
from busbar import wire
from test_frames import FRAMES

ACTOR = """
import sys, busbar
actor = busbar.Actor(sys.argv[1], slot=sys.argv[2])
actor.channel("greetings")

@actor.method("greet", auth="none")
def greet(request):
    return {"identity": request.identity}

@actor.method("own", auth="user")
def own(request):
    return {"user": request.user}
"""


@pytest.fixture(scope="module")
def door():
    """A door with identity and an actor behind it."""
    bus = Bus(door=True)
    bus.web = bus.make_key("web")
    bus.make_key("hello", "actor:hello", "/hello")
    bus.make_key("edge1", "edge")
    bus.start()
    bus.inside = bus.client()
    bus.script(IDENTITY + "\nactor.run()\n", "identity", "identity.1", hashlib.sha256(b"bb_robot").hexdigest())
    bus.actor("svc", text=ACTOR, client=bus.inside)
    wait_for(lambda: "identity.1" in bus.inside.directory, "identity")
    yield bus
    bus.stop()


@pytest.fixture
def served(door):
    """Afterwards a guest is served as before, by the same broker."""
    yield door
    assert door.broker.poll() is None, door.broker_log()
    alive(door)
    assert {"svc.1", "identity.1"} <= set(door.inside.directory)


def alive(served):
    raw = served.raw(served.web)
    raw.hello(name=f"alive{random.random()}", token=token(sub="42"))
    raw.receive(wire.WELCOME)
    raw.send(wire.CALL, id=1, method="svc.own", ttl=5000)
    assert raw.receive(wire.REPLY).body == {"user": "42"}


def memory(served):
    for line in open(f"/proc/{served.broker.pid}/status", encoding="ascii"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024


@pytest.mark.parametrize("who", ["nobody", "guest", "actor", "edge"])
def test_bad_frames_at_the_door_harm_nobody(served, who):
    key = f"{served.keys}/{ {'actor': 'hello', 'edge': 'edge1'}.get(who, 'web')}.key"
    before = memory(served)
    for name, frame in FRAMES.items():
        raw = served.raw(key)
        if who == "guest":
            raw.hello(token=token(sub="42"))
        elif who == "actor":
            raw.hello(role="actor", name="hello", slot="hello.1", credit=8, routes=[], channels=[])
        elif who == "edge":
            raw.hello(role="edge", name="edge1")
        raw.bytes(frame)
        raw.bytes(frame, frame)
        raw.bytes(b"", frame)
        raw.send(wire.PING)
    alive(served)
    assert memory(served) - before < 64 * 1024 * 1024


def test_changed_frames_at_the_door_harm_nobody(served):
    dice = random.Random(30)
    good = [wire.pack(wire.CALL, id=7, method="svc.own", ttl=1000, params={"a": 1}, meta={"stream": True}),
            wire.pack(wire.SUBSCRIBE, id=1, channel="user:42/greetings", resume=True, epoch="e", off=3),
            wire.pack(wire.CHUNK, id=7, data=b"x" * 100, last=True), wire.pack(wire.CREDIT, id=0, count=10),
            wire.pack(wire.HELLO, role="client", name="x", boot="b"), wire.pack(wire.CLAIM, name="svc", slot="svc.1", keys=["a"]),
            wire.pack(wire.EVENT, channel="user:42/greetings", epoch="e", off=1, type="t", data={"a": [1]})]
    for login in (None, token(sub="42")):
        raw = served.raw(served.web)
        raw.socket.sndhwm = 0
        if login:
            raw.hello(token=login)
            raw.receive(wire.WELCOME)
        for _ in range(3000):
            frame = bytearray(dice.choice(good))
            for _ in range(dice.randint(1, 4)):
                frame[dice.randrange(len(frame))] = dice.randrange(256)
            raw.bytes(bytes(frame[:dice.randint(1, len(frame))] if dice.random() < 0.3 else frame))


def test_nothing_is_served_before_hello(served):
    raw = served.raw(served.web)
    for number, fields in ((wire.CALL, {"id": 1, "method": "svc.greet", "ttl": 1000}),
                           (wire.SUBSCRIBE, {"id": 2, "channel": "user:42/greetings"}),
                           (wire.EVENT, {"channel": "user:42/greetings", "off": 1}), (wire.CLAIM, {"name": "svc", "keys": ["k"]}),
                           (wire.WELCOME, {}), (wire.DIRECTORY, {"whole": True, "entries": []}), (wire.GOODBYE, {})):
        raw.send(number, **fields)
    said = []
    while raw.socket.poll(700):
        said += wire.unpack(raw.socket.recv())
    assert all(message.number in (wire.REFUSED, wire.PING, wire.PONG) for message in said), said
    assert wire.REPLY not in {message.number for message in said}


def test_words_of_the_broker_move_nothing_when_a_guest_says_them(served):
    raw = served.raw(served.web)
    raw.hello(token=token(sub="42"))
    raw.receive(wire.WELCOME)
    entry = {"name": "svc", "slot": "svc.1", "boot": "x", "endpoint": "tcp://127.0.0.1:1", "state": "gone"}
    raw.send(wire.DIRECTORY, revision=10**9, whole=True, entries=[entry])
    raw.send(wire.WELCOME, boot="x", heartbeat=1, credit=1)
    raw.send(wire.REFUSED, code="UNKNOWN", text="x")
    raw.send(wire.CLAIM, name="svc", slot="svc.1", boot="x", keys=["user:42"])
    raw.send(wire.UNSUBSCRIBE, channel="user:43/greetings", code=1)
    raw.send(wire.GAP, channel="user:42/greetings", epoch="e", to=5)
    raw.send(wire.EVENT, channel="user:43/greetings", epoch="e", off=10**9, type="forged", data={})
    raw.send(wire.EVENT, channel="sys/identity", epoch="e", off=10**9, type="revoked.user", data={"user": "42", "before": 2**40})
    alive(served)
    assert "svc.1" in served.inside.directory


@pytest.mark.parametrize("role,name,slot", [("actor", "svc", "svc.1"), ("actor", "identity", "identity.1"), ("edge", "edge", "edge.1"),
                                            ("broker", "broker", ""), ("caller", "svc", "svc.1"), ("", "", "")])
def test_a_guests_key_makes_nobody_else(served, role, name, slot):
    raw = served.raw(served.web)
    raw.hello(role=role, name=name, slot=slot, token=token(sub="42"), credit=8, routes=[
        {"method": f"{name}.own", "auth": "user"}], channels=[{"name": "greetings", "kind": "log"}])
    raw.send(wire.CALL, id=1, method="svc.greet", ttl=3000, identity={"user": "1", "kind": "operator", "role": "super_admin"})
    said = []
    wait_for(lambda: said.extend(wire.unpack(raw.socket.recv())) or {m.number for m in said} & {wire.REFUSED, wire.REPLY}
             if raw.socket.poll(100) else None, "an answer")
    for message in said:
        if message.number == wire.REPLY and message.status == 200:
            assert message.body["identity"].get("user") in ("42", None)
            assert message.body["identity"]["kind"] in ("user", "anon")


def test_an_actors_key_asserts_nobody(served):
    """It may announce its own paths; what it calls is not called as anybody."""
    raw = served.raw(f"{served.keys}/hello.key")
    raw.hello(role="actor", name="hello", slot="hello.1", credit=8, routes=[], channels=[])
    raw.receive(wire.WELCOME)
    raw.send(wire.CALL, id=1, method="svc.own", ttl=3000, identity={"user": "1", "kind": "user", "role": "super_admin"})
    reply = raw.receive(wire.REPLY)
    assert reply.status in (401, 403, 404) or reply.body == {"user": None}, reply
    raw.send(wire.CALL, id=2, method="identity.end", ttl=3000, body={"user": "42", "jti": "x"})
    assert raw.receive(wire.REPLY).status in (401, 403, 404)


def test_a_frame_over_the_limit_ends_the_connection_only(served):
    before = memory(served)
    raw = served.raw(served.web)
    raw.hello(token=token(sub="42"))
    raw.receive(wire.WELCOME)
    raw.bytes(msgpack.packb([wire.CALL, 1, "svc.greet", "", 1000, "", None, {}, "x" * 18_000_000, {}]))
    for _ in range(3):
        alive(served)
    assert memory(served) - before < 64 * 1024 * 1024


@pytest.mark.parametrize("mechanism", ["null", "plain", "no server key of ours", "nothing", "noise", "greeting", "http"])
def test_who_does_not_speak_curve_gets_nowhere(served, mechanism):
    host, port = served.door.removeprefix("tcp://").split(":")
    if mechanism in ("nothing", "noise", "greeting", "http"):
        data = {"nothing": b"", "noise": os.urandom(5000), "http": b"GET / HTTP/1.1\r\n\r\n",
                "greeting": b"\xff" + b"\0" * 8 + b"\x7f\x03\0CURVE" + b"\0" * 100}[mechanism]
        with socket.create_connection((host, int(port)), timeout=5) as raw:
            raw.sendall(data)
            alive(served)
        return
    context = zmq.Context()
    peer = context.socket(zmq.DEALER)
    peer.linger = 0
    if mechanism == "plain":
        peer.plain_username, peer.plain_password = b"admin", b"admin"
    elif mechanism == "no server key of ours":
        public, secret = zmq.curve_keypair()
        peer.curve_publickey, peer.curve_secretkey = public, secret
        peer.curve_serverkey = zmq.curve_keypair()[0]
    peer.connect(served.door)
    peer.send(wire.pack(wire.HELLO, role="client", name="x", boot="b"))
    assert not peer.poll(1000)
    context.destroy(linger=0)


def test_hundreds_of_silent_connections_at_the_door(served):
    host, port = served.door.removeprefix("tcp://").split(":")
    held = [socket.create_connection((host, int(port)), timeout=5) for _ in range(300)]
    alive(served)
    for raw in held:
        raw.close()
