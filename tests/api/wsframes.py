"""A WebSocket client that writes every bit of a frame itself: for frames that no library would send."""

import base64
import hashlib
import json
import os
import socket
import struct

import msgpack

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MESSAGE_MAX = 1 << 20


def masked(payload, mask):
    """By whole numbers: sixteen megabytes are no matter of seconds."""
    size = len(payload)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


def frame(opcode, payload=b"", *, fin=True, rsv=0, mask=b"\x11\xa2\x33\xf4", length=None):
    """One frame. `length`: another way to write the size (7, 16 or 64 bits)."""
    payload = payload.encode() if isinstance(payload, str) else payload
    size = len(payload)
    length = length or (7 if size < 126 else 16 if size < 65536 else 64)
    bit = 0x80 if mask else 0
    head = bytes([fin << 7 | rsv << 4 | opcode])
    head += (bytes([bit | size]) if length == 7 else struct.pack(">BH", bit | 126, size) if length == 16
             else struct.pack(">BQ", bit | 127, size))
    return head + (mask + masked(payload, mask) if mask else payload)


class Ended(Exception):
    """The peer ended the connection. `code`: of its close frame, None without one."""

    def __init__(self, code, reason=""):
        super().__init__(f"{code} {reason}")
        self.code, self.reason = code, reason


class Peer:
    """One connection to /ws of a tests' edge, with whatever frames a test likes."""

    def __init__(self, edge, token=None, subprotocol="busbar.v1.json", path="/ws", headers=""):
        self.socket = socket.create_connection(("127.0.0.1", edge.port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.packed = subprotocol.endswith("msgpack")
        self.data, self.number, self.waiting = b"", 0, []
        key = base64.b64encode(os.urandom(16)).decode()
        self.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                   f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
                   f"Sec-WebSocket-Protocol: {subprotocol}\r\n{headers}\r\n".encode())
        while b"\r\n\r\n" not in self.data:
            assert self._fill(), self.data
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        assert lines[0].split()[1] == "101", lines
        self.headers = {name.lower(): value.strip() for name, value in
                        (line.split(":", 1) for line in lines[1:])}
        accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        assert self.headers["sec-websocket-accept"] == accept
        if token:
            self.say({"id": 0, "connect": {"token": token}})
            assert "connect" in self.hear()

    #  ---- sending

    def write(self, data, chop=0):
        for at in range(0, len(data), chop or len(data) or 1):
            self.socket.sendall(data[at:at + chop] if chop else data)

    def send(self, opcode, payload=b"", chop=0, **how):
        self.write(frame(opcode, payload, **how), chop)
        return self

    def encoded(self, value):
        return msgpack.packb(value) if self.packed else json.dumps(value, separators=(",", ":")).encode()

    @property
    def kind(self):
        return BINARY if self.packed else TEXT

    def say(self, value, **how):
        return self.send(self.kind, self.encoded(value), **how)

    def echo(self, text):
        """What has to be said to hear `text` again."""
        self.number += 1
        return self.encoded({"id": self.number, "call": {"method": "shop.echo", "body": text}})

    #  ---- receiving

    def _fill(self):
        try:
            more = self.socket.recv(1 << 18)
        except (ConnectionResetError, BrokenPipeError):
            more = b""
        self.data += more
        return bool(more)

    def _need(self, size):
        while len(self.data) < size:
            if not self._fill():
                raise Ended(None, f"cut with {len(self.data)} bytes")

    def frame(self):
        """(opcode, payload) of the next frame, which has to be a sound one of a server."""
        self._need(2)
        first, second = self.data[0], self.data[1]
        assert not second & 0x80, "a server does not mask"
        assert not first & 0x70, "a reserved bit of a server"
        size, at = second & 0x7F, 2
        if size >= 126:
            wide = 8 if size == 127 else 2
            self._need(2 + wide)
            size, at = int.from_bytes(self.data[2:2 + wide], "big"), 2 + wide
        self._need(at + size)
        payload, self.data = self.data[at:at + size], self.data[at + size:]
        opcode, fin = first & 0x0F, first >> 7
        assert opcode in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG)
        assert opcode < CLOSE or (fin and size <= 125)
        self.fin = fin
        return opcode, payload

    def message(self):
        """(opcode, payload) of the next message or pong; Ended at the end."""
        opcode, payload = self.frame()
        while not self.fin:
            following, more = self.frame()
            assert following == CONTINUATION
            payload += more
        if opcode == CLOSE:
            self._answer_close(payload)
            if not payload:
                raise Ended(1005)
            raise Ended(int.from_bytes(payload[:2], "big"), payload[2:].decode())
        return opcode, payload

    def _answer_close(self, payload):
        """Whoever is told to close says so, too; then the other side ends the connection."""
        try:
            self.send(CLOSE, payload[:2])
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert self.data == b"" and not self._fill(), "something behind a close frame"

    def objects(self, payload):
        """One message holds one object or several."""
        if self.packed:
            unpacker = msgpack.Unpacker()
            unpacker.feed(payload)
            return list(unpacker)
        return [json.loads(line) for line in payload.split(b"\n") if line]

    def hear(self):
        """The next object; {} and pongs are left out."""
        while not self.waiting:
            opcode, payload = self.message()
            assert opcode not in (TEXT, BINARY) or opcode == self.kind
            if opcode == self.kind:
                self.waiting = [value for value in self.objects(payload) if value != {}]
        return self.waiting.pop(0)

    def echoed(self, text):
        """Is the next thing that comes our text?"""
        answer = self.hear()
        assert answer["id"] == self.number and answer["reply"]["body"]["body"] == text
        return True

    def ended(self):
        """The close code of the end that has to come now, before anything else."""
        try:
            found = self.message()
        except Ended as end:
            return end.code
        raise AssertionError(f"not ended, but {found}")

    def alive(self):
        """Does it answer a ping, before anything else?"""
        self.send(PING, b"alive?")
        return self.message() == (PONG, b"alive?")

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
