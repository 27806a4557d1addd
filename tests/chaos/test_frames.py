"""Bytes that are no message, on every socket: whoever sends them loses at most their own connection, and
everybody else is served on."""

import json
import os
import random
import socket
import struct

import msgpack
import pytest
import zmq

from client import objects
from kernel_world import Notebook
from kills import Load
from stack import wait_for
from wsocket import Closed, Socket

HELLO, WELCOME, REFUSED, CALL, REPLY, PING = 1, 2, 3, 6, 7, 16

DEEP = b"\x91" * 100_000


def frames():
    """Name → one frame."""
    pack = msgpack.packb
    hello = [HELLO, 1, "caller", "fuzz", "", "b0", "", 0, [], [], [], [], 1, ""]
    yield "empty", b""
    yield "zero", b"\0"
    yield "text", b"GET / HTTP/1.1\r\n\r\n"
    yield "noise", random.Random(1).randbytes(4000)
    yield "nil", pack(None)
    yield "map", pack({"a": 1})
    yield "empty array", pack([])
    yield "no number", pack(["x"])
    yield "number 0", pack([0, 1, 2])
    yield "unknown number", pack([9999, "a"])
    yield "huge number", pack([2**64 - 1])
    yield "negative number", pack([-1])
    yield "truncated", pack(hello)[:-4]
    yield "trailing", pack(hello) + b"\xc1"
    yield "deep", DEEP
    yield "deep map", b"\x81" * 50_000
    yield "array that lies", b"\xdd\xff\xff\xff\xff"
    yield "map that lies", b"\xdf\xff\xff\xff\xff"
    yield "text that lies", b"\x92\x01\xdb\xff\xff\xff\xff"
    yield "bin that lies", b"\x92\x01\xc6\xff\xff\xff\xff"
    yield "ext that lies", b"\x92\x01\xc9\xff\xff\xff\xff\x01"
    yield "never used", b"\xc1"
    yield "wrong types", pack([HELLO, "one", 2, 3, 4, 5, 6, "x", "y", {}, 5, 5, "p", 1])
    yield "hello of texts", pack([HELLO] + ["x"] * 30)
    yield "routes that are none", pack([HELLO, 1, "actor", "fuzz", "fuzz.1", "b1", "", 64, "routes",
                                        5, {"a": 1}, "x", 1, ""])
    yield "routes of nonsense", pack([HELLO, 1, "actor", "fuzz2", "fuzz2.1", "b2", "ipc://x", 64,
                                      [None, 5, {}, {"method": 5}, {"method": "a.b", "path": 5, "verb": {}}],
                                      [5], [{"name": 5}], [{"parent": []}], "x", ""])
    yield "old version", pack([HELLO, 0, "actor", "fuzz3", "fuzz3.1", "b3"])
    yield "new version", pack([HELLO, 2**60, "actor", "fuzz4", "fuzz4.1", "b4"])
    yield "call without fields", pack([CALL])
    yield "call of nothing", pack([CALL, 1, "", "", 0, "", None, None, None, None])
    yield "call of wrong types", pack([CALL, "id", 5, 6, "ttl", 7, 8, 9, 10, 11])
    yield "call with a long method", pack([CALL, 1, "m" * 100_000, "", 1000, "", None, {}, {}, {}])
    yield "json that is none", pack([CALL, 1, "workspaces.create", "", 1000, "", {"user": "x"}, {},
                                     msgpack.ExtType(1, b"{nonsense"), {}])
    yield "unknown ext", pack([CALL, 1, "workspaces.create", "", 1000, "", None, {},
                               msgpack.ExtType(77, b"x" * 100), {}])
    yield "text that is no utf-8", b"\x92\x01\xa4\xff\xfe\xfd\xfc"
    yield "reply to nobody", pack([REPLY, 12345, 200, {"a": 1}, {}, 0])
    yield "welcome", pack([WELCOME, 1, "x", 1, 2**63, "x"])
    yield "refused", pack([REFUSED, "UNKNOWN", "x"])
    yield "chunk of nobody", pack([8, 99, b"x" * 70_000, True, ""])
    yield "credit", pack([9, 0, 2**64 - 1]) + pack([9, 7, 2**63])
    yield "cancel", pack([10, 5])
    yield "many", pack([PING]) * 10_000
    yield "large", pack([CALL, 1, "workspaces.create", "", 1000, "", None, {}, {"name": "x" * 9_000_000}, {}])


FRAMES = dict(frames())


@pytest.fixture(scope="module")
def user(sign_up):
    return sign_up("frames")


@pytest.fixture(scope="module")
def world(stack, user):
    """Somebody who works all the time, and the pids that must stay."""
    notebook = Notebook(user)
    notebook.run("1")
    pids = {row["slot"]: row["pid"] for row in stack.processes()}
    yield notebook
    assert {row["slot"]: row["pid"] for row in stack.processes()} == pids, "somebody died of it"


@pytest.fixture
def alive(stack, world, user):
    """After the frames everything works as before."""
    yield
    made = user.post("/workspaces", {"name": "alive"}, expect=201)
    assert user.get(f"/workspaces/{made['id']}")["name"] == "alive"
    assert world.run("'alive'")["output"] == "'alive'"


def sockets_of(stack):
    """Every socket of the run directory that speaks the bus."""
    return sorted(stack.run.glob("*.s"))


def dealer(context, path, parts):
    """Send and hang up when all has left."""
    peer = context.socket(zmq.DEALER)
    peer.linger = 2000
    peer.connect(f"ipc://{path}")
    for part in parts:
        peer.send(part) if isinstance(part, bytes) else peer.send_multipart(part)
    return peer


def test_there_is_a_socket_for_the_broker_and_every_actor(stack, world):
    names = [path.name for path in sockets_of(stack)]
    assert "broker.s" in names
    for actor in ("identity", "platform", "kernels"):
        assert any(name.startswith(actor) for name in names), names


@pytest.mark.parametrize("name", FRAMES)
def test_a_bad_frame_harms_nobody(stack, world, user, name):
    context = zmq.Context()
    for path in sockets_of(stack):
        dealer(context, path, [FRAMES[name]]).close()
        dealer(context, path, [[FRAMES[name], FRAMES[name]], [b"", FRAMES[name]]]).close()
    user.post("/workspaces", {"name": name}, expect=201)
    assert user.get("/auth/me")["id"] == user.id
    context.term()


def test_all_of_them_at_once_under_load(stack, world, user, alive):
    load = Load(user, lambda client, _: (client.request("GET", "/workspaces?limit=5").status_code, None))
    load.wait(50)
    context = zmq.Context()
    for path in sockets_of(stack):
        dealer(context, path, list(FRAMES.values())).close()
    context.term()
    load.wait(200)
    assert set(load.stop()) == {200}


def test_random_changes_of_good_frames(stack, world, user, alive):
    """Mutations of a HELLO and a CALL, a few thousand of them."""
    dice = random.Random(20)
    good = [FRAMES["call of nothing"], msgpack.packb([HELLO, 1, "caller", "m", "m.1", "b", "", 8, [], [], [], [], 1, ""]),
            msgpack.packb([CALL, 7, "workspaces.list", "", 1000, "", None, {}, None, {"request_id": "r"}]),
            msgpack.packb([11, 1, "user:x/workspaces", "", 0, True])]
    context = zmq.Context()
    for path in sockets_of(stack):
        peer = context.socket(zmq.DEALER)
        peer.linger = 2000
        peer.sndhwm = 0
        peer.connect(f"ipc://{path}")
        for _ in range(2000):
            frame = bytearray(dice.choice(good))
            for _ in range(dice.randint(1, 4)):
                frame[dice.randrange(len(frame))] = dice.randrange(256)
            peer.send(bytes(frame[:dice.randint(1, len(frame))] if dice.random() < 0.3 else frame))
        peer.close()
    context.term()


@pytest.mark.parametrize("data", [b"", b"\0", b"GET / HTTP/1.1\r\n\r\n", b"\xff" + b"\0" * 8 + b"\x7f" + b"\x09" * 60,
                                  os.urandom(10_000), b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL" + b"\0" * 100],
                         ids=["nothing", "zero", "http", "greeting", "noise", "half a greeting"])
def test_what_is_not_even_zeromq(stack, world, alive, data):
    for path in sockets_of(stack):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(5)
            raw.connect(str(path))
            try:
                raw.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass


def test_a_peer_that_says_nothing_holds_nothing(stack, world, alive):
    held = []
    for path in sockets_of(stack):
        for _ in range(50):
            raw = socket.socket(socket.AF_UNIX)
            raw.connect(str(path))
            held.append(raw)
    for raw in held:
        raw.close()


# ---------------------------------------------------------------- WebSocket


def url(stack):
    return stack.base.replace("http", "ws", 1) + "/ws"


PACKED = ["noise", "nil", "empty array", "truncated", "deep", "deep map", "array that lies", "map that lies",
          "text that lies", "never used", "trailing", "text that is no utf-8", "zero"]


@pytest.mark.parametrize("name", PACKED)
def test_bad_msgpack_closes_the_socket(stack, world, user, name):
    for connected in (False, True):
        with Socket(url(stack), "busbar.v1.msgpack") as peer:
            if connected:
                peer.send(msgpack.packb({"id": 1, "connect": {"token": user.token}}))
                assert "connect" in msgpack.unpackb(peer.recv())
            peer.send(FRAMES[name])
            with pytest.raises(Closed) as closed:
                peer.recv()
                peer.recv()
            assert closed.value.code in (3500, 3501, 1009), closed.value


WORDS = [{"id": 1}, {"id": 1, "nonsense": {}}, {"id": 1, "subscribe": {}, "call": {}}, {"id": None, "call": {}},
         {"id": {"a": 1}, "call": {}}, {"id": 1.5, "subscribe": {"ch": "workspaces"}}, {"id": 1, "call": []},
         {"id": 1, "call": {"method": 5}}, {"id": 1, "call": {"method": "workspaces.get", "params": 5}},
         {"id": 1, "call": {"method": "workspaces.get", "params": {"id": {"a": 1}}}},
         {"id": 1, "call": {"method": "x" * 5000}}, {"id": 1, "subscribe": {"ch": {"a": 1}}},
         {"id": 1, "subscribe": {"ch": "workspaces", "off": 2**64}}, {"id": 1, "unsubscribe": {"ch": 5}},
         {"id": 1, "unsubscribe": {"ch": "never"}}, {"id": 1, "refresh": {}}, {"id": 1, "refresh": {"token": 5}},
         {"id": 1, "presence": {}}, {"id": 1, "connect": {}}, {"id": 1, "connect": {"token": 5}},
         {"call": {"method": "workspaces.list"}}, {"reply": {}}, {"ch": "x", "off": 1}]


@pytest.mark.parametrize("word", WORDS, ids=[json.dumps(word)[:40] for word in WORDS])
def test_wrong_words_are_answered_or_end_the_socket(stack, world, user, word):
    with Socket(url(stack)) as peer:
        peer.send(json.dumps({"id": 0, "connect": {"token": user.token}}))
        peer.recv()
        try:
            peer.send(json.dumps(word) + json.dumps({"id": 99, "call": {"method": "auth.me"}}))
            answers = []
            while not answers or answers[-1].get("id") != 99:
                answers += objects(peer.recv())
        except Closed as closed:
            assert closed.code in (3500, 3501) and closed.reason
        else:
            assert all("error" in answer or answer["id"] == 99 or answer.get("id") == word.get("id")
                       for answer in answers), answers


def upgraded(stack, extra=""):
    """A WebSocket whose frames we write ourselves."""
    host, port = stack.base.split("//")[1].split(":")
    raw = socket.create_connection((host, int(port)), timeout=10)
    raw.sendall((f"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                 f"Sec-WebSocket-Protocol: busbar.v1.json\r\n{extra}\r\n").encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += raw.recv(4096)
    assert b" 101 " in answer.split(b"\r\n")[0], answer
    return raw


def frame(opcode, payload, fin=True, masked=True, rsv=0, length=None):
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    size = len(payload) if length is None else length
    bit = 0x80 if masked else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", size)
    return head + (b"\0\0\0\0" if masked else b"") + payload


BROKEN = {"not masked": frame(1, b"{}", masked=False), "reserved bits": frame(1, b"{}", rsv=4),
          "reserved opcode": frame(3, b"{}"), "reserved control": frame(11, b""),
          "long control": frame(9, b"x" * 126), "split control": frame(9, b"x", fin=False),
          "continued nothing": frame(0, b"{}"), "two beginnings": frame(1, b"{", fin=False) + frame(1, b"}"),
          "no utf-8": frame(1, b"\xff\xfe"), "binary on json": frame(2, b"\x80"),
          "length that lies": frame(1, b"", length=2**62), "length with a sign": frame(1, b"", length=2**63),
          "huge": frame(1, b"", length=64 * 1024 * 1024), "close with one byte": frame(8, b"\x03"),
          "close with a bad code": frame(8, struct.pack(">H", 1005)), "http again": b"GET / HTTP/1.1\r\n\r\n",
          "noise": random.Random(7).randbytes(3000)}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_websocket_frames_end_the_connection(stack, world, user, name):
    with upgraded(stack) as raw:
        try:
            raw.sendall(BROKEN[name] + frame(1, b"[]"))
            if "length" in name or name == "huge":
                raw.sendall(b"x" * 100_000)
            while raw.recv(65536):
                pass
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert user.get("/auth/me")["id"] == user.id


def test_a_message_in_a_thousand_pieces(stack, world, user):
    text = json.dumps({"id": 1, "connect": {"token": user.token}}).encode()
    with upgraded(stack) as raw:
        for at in range(len(text)):
            raw.sendall(frame(1 if at == 0 else 0, text[at:at + 1], fin=at == len(text) - 1))
        answer = raw.recv(65536)
        assert b'"connect"' in answer


def test_half_frames_and_silence_hold_nobody_up(stack, world, user):
    held = [upgraded(stack) for _ in range(100)]
    for raw in held:
        raw.sendall(frame(1, b'{"id":1', fin=False)[:-2])
    user.post("/workspaces", {"name": "meanwhile"}, expect=201)
    for raw in held:
        raw.close()
    wait_for(lambda: user.request("GET", "/auth/me").status_code == 200, "service")


def memory_of(stack, slot):
    for line in open(f"/proc/{stack.pid(slot)}/status", encoding="ascii"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024


def test_a_message_that_asks_for_more_than_it_reads_costs_bounded_memory(stack, world, user):
    """Eight thousand small questions whose answers are some kilobytes each."""
    count = 8_000
    hello = (json.dumps({"id": 1, "connect": {"token": user.token}}) + "\n"
             + json.dumps({"id": 2, "subscribe": {"ch": "workspaces"}})).encode()
    held = [upgraded(stack) for _ in range(40)]
    for raw in held:
        raw.sendall(frame(1, hello))
        answer = b""
        while b'"recovered"' not in answer:
            answer += raw.recv(65536)
    before = memory_of(stack, "edge.1")
    questions = "\n".join(json.dumps({"id": n, "presence": {"ch": "workspaces"}}) for n in range(count))
    held[0].sendall(frame(1, questions.encode()))
    most, seen, last = 0, 0, b""
    while seen < count:
        data = held[0].recv(1 << 20)
        assert data, seen
        data = last + data
        seen, last = seen + data.count(b'"presence":{'), data[-11:]
        if len(data) > 1 << 19:
            most = max(most, memory_of(stack, "edge.1"))
    assert most - before < 32 * 1024 * 1024
    for raw in held:
        raw.close()
