"""One case of the raw fuzzer: bytes of a client that is hostile or broken, made by a grammar and then
damaged. Everything is drawn from one dice, so a seed and a number give the same case again."""

import base64
import json
import os
import re
import struct

TOKEN = b"{TOKEN}"                       # where the token of the moment goes
VERBS = ["GET"] * 6 + ["POST"] * 4 + ["PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
ODD_VERBS = ["CONNECT", "TRACE", "PRI", "get", "G", "", "GETT", "POST\t", "PROPFIND", "M-SEARCH", "\0"]
UUID = "00000000-0000-4000-8000-000000000000"
#  Texts that broke somebody once.
NASTY = ["", " ", "0", "-1", "1e400", "NaN", "null", "true", "[]", "{}", "'", "\"", "\\", "%", "%%", "a" * 300,
         "a" * 5000, "ä€😀", "\u202e", "\ufeff", "../../etc/passwd", "; DROP TABLE users", "' OR 1=1 --", "$1",
         "9223372036854775807", "9223372036854775808", "-9223372036854775809", "1.7976931348623157e308",
         "2026-02-30", "0000-00-00T00:00:00Z", "infinity", "epoch", "294277-01-01", "99999999-01-01",
         UUID, UUID[:-1], UUID.upper(), "{" + UUID + "}", "a@b", "<script>", "\r\nX-Evil: 1", "\x01", "\x7f",
         "*", "user:x/workspaces", "org:x", "desc", "-created_at", "id,id", "created_at:desc"]
PATHS = ["/", "//", "/./", "/../", "/..", "/%2e%2e/", "/%2E%2E%2F", "/%00", "/a%00b", "/%", "/%z", "/%2", "/;a=b", "/\\",
         "/%5c..%5c", "/%c0%af", "/%c0%ae%c0%ae/", "/%e0%80%af", "/%ff", "/a//b", "/app/", "/app/../",
         "/app/%2e%2e/%2e%2e/etc/passwd", "/app/..%2f..%2fetc%2fpasswd", "/app/assets/", "*", "http://a/health",
         "http://a", "https://a:1/health?x", "ftp://a/", "a", "?", "/?", "/#", "/health#x", "/ws", "/events",
         "/events?ch=workspaces", "/live/ticket", "/openapi.json", "/docs", "/metrics", "/health/live",
         "/" + "a" * 5000, "/" + "a/" * 2000, "/%61%75%74%68/me", "/auth/me/", "/auth/me?", "/auth/me?&&=&a&=b",
         "/x?" + "a=b&" * 1000, "/health\t", "/health HTTP/1.1 GET /", "/\xe4", "/\r", "/health%0d%0aX-Evil:%201"]
VERSIONS = ["HTTP/1.1"] * 12 + ["HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1.2", "HTTP/1.1 ", "http/1.1", "HTTP/11", ""]
TYPES = ["application/json"] * 5 + ["application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "text/plain",
         "multipart/form-data", "multipart/form-data; boundary=", "application/json; charset=utf-16", "", "a" * 300,
         "application/merge-patch+json", "application/octet-stream", "\xff", "image/png"]
HEADERS = ["Accept", "Accept-Encoding", "Origin", "If-None-Match", "If-Match", "Range", "Prefer", "Idempotency-Key",
           "X-Request-Id", "traceparent", "X-Forwarded-For", "X-API-Key", "apikey", "anon-key", "User-Agent", "Cookie",
           "Expect", "Connection", "Upgrade", "Content-Encoding", "Host", "Content-Length", "Transfer-Encoding",
           "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions",
           "Authorization", "HTTP2-Settings", "Last-Event-ID", "TE", "Trailer", "X-A" * 30, "", " ", "A B", "\xff", ":path",
           "Content-Type", "Date", "Access-Control-Request-Method", "Access-Control-Request-Headers", "Keep-Alive"]
VALUES = ["gzip", "gzip;q=0", "*", "*/*", "text/html", "bytes=0-0", "bytes=5-1", "bytes=-1", "handling=strict",
          "100-continue", "close", "keep-alive", "Upgrade", "websocket", "h2c", "chunked", "identity, chunked", "0", "1",
          "5,6", "99999999999999999999", "00-" + "a" * 32 + "-" + "b" * 16 + "-01", '"tag"', 'W/"tag"', "Bearer", "Bearer ",
          "Bearer a.b.c", "Basic YTpi", "13", "8", "dGhlIHNhbXBsZSBub25jZQ==", "permessage-deflate", "127.0.0.1, ::1",
          "0:e:5;1:f:6", "x" * 200, "x" * 9000, "a\0b", "\xff\xfe", "a\r\n b", "null", "https://a.example"]


def nasty(dice):
    return dice.choice(NASTY)


def value(dice, depth=0):
    """Any JSON value."""
    kind = dice.randrange(9 if depth < 4 else 6)
    if kind < 2:
        return nasty(dice)
    if kind == 2:
        return dice.choice([0, 1, -1, 2**31, 2**63 - 1, -2**63, 10**6])
    if kind == 3:
        return dice.choice([True, False, None])
    if kind == 4:
        return dice.choice([0.1, -0.0, 1e308, 5e-324, 1e15, 123456.789])
    if kind == 5:
        return dice.choice([UUID, "2026-01-01", "2026-01-01T00:00:00Z", "a@example.org", "name"])
    if kind < 8:
        return {nasty(dice)[:40]: value(dice, depth + 1) for _ in range(dice.randrange(4))}
    return [value(dice, depth + 1) for _ in range(dice.randrange(4))]


def fitting(dice, schema):
    """A value that a schema asks for, mostly."""
    if not isinstance(schema, dict) or dice.random() < 0.15:
        return value(dice)
    if "enum" in schema:
        return dice.choice(schema["enum"])
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = dice.choice(kind)
    if kind == "object":
        return {name: fitting(dice, inner) for name, inner in schema.get("properties", {}).items()
                if dice.random() < 0.8}
    if kind == "array":
        return [fitting(dice, schema.get("items")) for _ in range(dice.randrange(3))]
    if kind in ("integer", "number"):
        return dice.choice([0, 1, 2, 10, -1, 2**31, 2**63 - 1])
    if kind == "boolean":
        return dice.random() < 0.5
    if kind == "null":
        return None
    return dice.choice([f"name {dice.randrange(1000)}", "SELECT 1", "python", "a@example.org", UUID, nasty(dice)])


def json_text(dice, thing):
    text = json.dumps(thing, ensure_ascii=dice.random() < 0.5)
    trick = dice.randrange(24)
    if trick == 0:
        text = text.replace("{", '{"a":1,"a":2,', 1)
    elif trick == 1:
        text = dice.choice(["NaN", "[Infinity]", "[" * 300, '{"a":' * 200, '"\\ud800"', '"\\u0000"', "\ufeff{}", "{} x",
                            "1" * 400, "[1e400]", "1e-400", "01", "//", "'a'", "{'a':1}", "[1,]", '{"a":1,}'])
    elif trick == 2:
        text = text[:dice.randint(0, len(text))]
    return text.encode("utf-8", "surrogatepass")


def quoted(text):
    return "".join(c if c.isalnum() or c in "-._~" else "".join(f"%{b:02x}" for b in c.encode("utf-8", "surrogatepass"))
                   for c in text)


def operation(dice, world):
    """(verb, path, body schema or None) of an announced route, parameters filled in."""
    path, verb, schema, names = dice.choice(world.operations)

    def fill(_):
        draw = dice.random()
        return dice.choice(world.ids) if draw < 0.5 and world.ids else UUID if draw < 0.6 else quoted(nasty(dice)) or "x"

    target = re.sub(r"\{[^}]*\}", fill, path)
    query = [f"{quoted(name)}={quoted(str(value(dice)))}" for name in names if dice.random() < 0.4]
    query += [f"{dice.choice(['limit', 'cursor', 'sort', 'page', 'wait', 'q'])}={quoted(nasty(dice))}"
              for _ in range(dice.choice([0, 0, 0, 1, 2]))]
    return verb, target + ("?" + "&".join(query) if query else ""), schema


def body_of(dice, kind, schema):
    if kind.startswith("multipart"):
        parts = b"".join(b"--b\r\nContent-Disposition: form-data; name=\"%s\"%s\r\n\r\n%s\r\n" % (
            nasty(dice).encode()[:60], dice.choice([b"", b'; filename="a.csv"', b'; filename="../x"']),
            nasty(dice).encode()) for _ in range(dice.randrange(4)))
        return parts + dice.choice([b"--b--\r\n", b"--b--", b""])
    if kind.endswith("urlencoded"):
        return "&".join(f"{quoted(nasty(dice))}={quoted(nasty(dice))}" for _ in range(dice.randrange(5))).encode()
    if dice.random() < 0.05:
        return dice.randbytes(dice.choice([1, 100, 70_000]))
    return json_text(dice, fitting(dice, schema) if schema is not None else value(dice))


def request(dice, world):
    """(bytes, verb, whether an answer of its own must come)."""
    verb, target, schema = operation(dice, world)
    sane = dice.random() < 0.6
    if not sane:
        verb = dice.choice(VERBS if dice.random() < 0.8 else ODD_VERBS)
        if dice.random() < 0.5:
            target = dice.choice(PATHS)
    kind = "application/json" if sane else dice.choice(TYPES)
    body = body_of(dice, kind, schema) if verb in ("POST", "PUT", "PATCH") or dice.random() < 0.05 else b""
    lines = [("Host", "a"), ("Authorization", "Bearer {TOKEN}")]
    if body or verb in ("POST", "PUT", "PATCH"):
        lines += [("Content-Type", kind), ("Content-Length", str(len(body)))]
    if sane:
        lines += [(dice.choice(HEADERS[:10]), dice.choice(VALUES[:12])) for _ in range(dice.choice([0, 0, 1]))]
    else:
        for _ in range(dice.choice([0, 1, 2, 5])):
            lines.insert(dice.randrange(len(lines) + 1), (dice.choice(HEADERS), dice.choice(VALUES)))
        if dice.random() < 0.1:
            lines.pop(dice.randrange(len(lines)))
        if dice.random() < 0.02:
            lines += [(f"X-{n}", "y" * dice.choice([1, 100])) for n in range(dice.choice([50, 500]))]
    end = "\r\n" if sane or dice.random() < 0.95 else dice.choice(["\n", "\r", "\r\n\r\n", "\0\r\n"])
    head = f"{verb} {target} {'HTTP/1.1' if sane else dice.choice(VERSIONS)}{end}" \
        + "".join(f"{name}:{'' if dice.random() < 0.05 else ' '}{text}{end}" for name, text in lines) + end
    return head.encode("latin-1", "replace") + body, verb, sane


# ---------------------------------------------------------------- WebSocket


def frame(dice, opcode, payload, sane=True):
    fin, rsv, masked, length = True, 0, True, len(payload)
    if not sane:
        fin, rsv = dice.random() < 0.7, dice.choice([0, 0, 1, 4, 7])
        masked, opcode = dice.random() < 0.9, dice.choice([opcode, dice.randrange(16)])
        length = dice.choice([length, length, 0, length + 1, 2**16, 2**31, 2**63, 2**64 - 1])
    head, bit = bytes([(0x80 if fin else 0) | rsv << 4 | opcode]), 0x80 if masked else 0
    if length < 126:
        head += bytes([bit | length])
    elif length < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", length)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", length)
    if not masked:
        return head + payload
    #  A mask of zeros, so that the token can still be put in.
    return head + b"\0\0\0\0" + payload


def packed(thing):
    """MessagePack, the little of it that commands need."""
    if thing is None or isinstance(thing, bool):
        return b"\xc0" if thing is None else b"\xc3" if thing else b"\xc2"
    if isinstance(thing, int):
        return struct.pack(">Bq", 0xD3, thing) if thing < 2**63 else struct.pack(">BQ", 0xCF, thing)
    if isinstance(thing, float):
        return struct.pack(">Bd", 0xCB, thing)
    if isinstance(thing, str):
        data = thing.encode("utf-8", "surrogatepass")
        return struct.pack(">BI", 0xDB, len(data)) + data
    if isinstance(thing, list):
        return struct.pack(">BI", 0xDD, len(thing)) + b"".join(map(packed, thing))
    return struct.pack(">BI", 0xDF, len(thing)) + b"".join(packed(k) + packed(v) for k, v in thing.items())


def command(dice, world):
    name = dice.choice(["subscribe", "subscribe", "unsubscribe", "call", "call", "refresh", "presence", "ping", "connect",
                        nasty(dice)])
    channel = dice.choice(["workspaces", "notebooks", "executions/" + UUID, "org:x/workspaces", "sys/identity",
                           "user:x/workspaces", nasty(dice)])
    what = {"subscribe": {"ch": channel, "off": dice.choice([0, 1, 2**62, -1, None, "0"]), "epoch": nasty(dice),
                          "snapshot": dice.random() < 0.5},
            "unsubscribe": {"ch": channel}, "presence": {"ch": channel}, "refresh": {"token": "x"},
            "call": {"method": dice.choice(world.methods + [nasty(dice)]), "params": value(dice), "body": value(dice)},
            "connect": {"token": dice.choice(["x", "", None])}}.get(name, value(dice))
    if name == "subscribe" and dice.random() < 0.7:
        what = {"ch": channel, "snapshot": dice.random() < 0.3}
    return {"id": dice.choice([1, 2, "x", None, {"a": 1}, 2**63 - 1]), name: what} if dice.random() < 0.9 else value(dice)


def socket_case(dice, world):
    """[bytes] of an upgrade and what follows; the first is always a whole request."""
    msgpack = dice.random() < 0.4
    protocol = f"busbar.v1.{'msgpack' if msgpack else 'json'}"
    sane = dice.random() < 0.8
    lines = ["Host: a", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Protocol: {protocol}",
             "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: " + base64.b64encode(dice.randbytes(16)).decode()]
    if dice.random() < 0.7:
        lines.append("Authorization: Bearer {TOKEN}")
    if not sane:
        lines[dice.randrange(len(lines))] = f"{dice.choice(HEADERS)}: {dice.choice(VALUES)}"
    out = [("GET /ws HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")]
    for _ in range(dice.randrange(1, 8)):
        things = [command(dice, world) for _ in range(dice.choice([1, 1, 2, 5]))]
        data = b"".join(map(packed, things)) if msgpack else b"\n".join(json_text(dice, thing) for thing in things)
        if dice.random() < 0.15:
            data = damaged(dice, data)
        good = sane and dice.random() < 0.8
        if dice.random() < 0.2:
            cut = dice.randint(0, len(data))
            opcode = 2 if msgpack else 1
            first = bytearray(frame(dice, opcode, data[:cut]))
            first[0] &= 0x7F
            out += [bytes(first), frame(dice, 0, data[cut:], good)]
        else:
            out.append(frame(dice, 2 if msgpack else 1, data, good))
        if dice.random() < 0.2:
            out.append(frame(dice, dice.choice([8, 9, 10]), dice.randbytes(dice.choice([0, 2, 125, 126])), good))
    return out


# ---------------------------------------------------------------- damage and delivery


def damaged(dice, data):
    data = bytearray(data)
    for _ in range(dice.choice([1, 1, 2, 4, 8])):
        at = dice.randrange(len(data) + 1)
        kind = dice.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] = dice.randrange(256)
        elif kind == 1:
            data[at:at] = dice.choice([b"\0", b"\r\n", b"\n", b" ", b":", b"%", b"\xff", b"\r\n\r\n", b"\t"])
        elif kind == 2:
            del data[at:at + dice.choice([1, 2, 20])]
        elif kind == 3:
            end = min(len(data), at + dice.choice([1, 10, 200]))
            data[at:at] = data[at:end] * dice.choice([1, 2, 50])
        elif kind == 4:
            data[at:at] = dice.randbytes(dice.choice([1, 4, 100]))
        elif data:
            data[at % len(data)] ^= 1 << dice.randrange(8)
    return bytes(data)


class Case:
    """pieces: what is written, one after the other. verbs: of the answers that must come, in order; None when
    nobody can say. leave: how the client goes ("wait", "close", "reset", "half")."""

    def __init__(self, dice, world):
        self.verbs, self.upgrade = [], False
        if dice.random() < 0.2:
            self.upgrade, self.pieces, self.verbs = True, socket_case(dice, world), None
            self.leave = dice.choice(["wait", "close", "reset"])
            return
        text, whole = b"", True
        for _ in range(dice.choice([1, 1, 1, 1, 2, 4])):
            data, verb, sane = request(dice, world)
            #  A header of 8 KiB is too much.
            whole = whole and sane and data.find(b"\r\n\r\n") < 7000 and dice.random() < 0.9
            text += data if whole or dice.random() < 0.5 else damaged(dice, data)
            self.verbs.append(verb)
        if not whole:
            self.verbs = None
        self.leave = "wait" if whole else dice.choice(["wait", "half", "close", "reset"])
        self.pieces = [text]
        if dice.random() < 0.3 and len(text) > 2:
            cuts = sorted(dice.sample(range(1, len(text)), min(dice.choice([1, 2, 10]), len(text) - 1)))
            self.pieces = [text[a:b] for a, b in zip([0] + cuts, cuts + [len(text)])]


class Saved:
    """A case read back from a file: a line of its properties, then the pieces in base64."""

    def __init__(self, path):
        lines = open(path, encoding="ascii").read().splitlines()
        known = json.loads(lines[0])
        self.verbs, self.leave, self.upgrade = known["verbs"], known["leave"], known["upgrade"]
        self.pieces = [base64.b64decode(line) for line in lines[1:]]


def save(case, path):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w", encoding="ascii") as out:
        print(json.dumps({"verbs": case.verbs, "leave": case.leave, "upgrade": case.upgrade}), file=out)
        for piece in case.pieces:
            print(base64.b64encode(piece).decode(), file=out)
