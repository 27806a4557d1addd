"""Hostile HTTP: whoever sends it loses at most their own connection, and everybody else is served on."""

import json
import os
import pathlib
import socket
import threading
import time

import pytest

from http_fixtures import Edge, token, wait_for
from raw_fuzz import Fuzzer

OPEN = "GET /open HTTP/1.1\r\nHost: a\r\n\r\n"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def edge():
    edge = Edge("--body-timeout", "3").ready()
    yield edge
    codes = edge.stop()
    assert codes["edge.1"] == 0


@pytest.fixture(autouse=True)
def alive(request):
    """After each attack everything works as before."""
    yield
    if "edge" in request.fixturenames:
        edge = request.getfixturevalue("edge")
        assert edge.get("/open").status == 200 and edge.post("/echo", {"a": 1}).json["body"] == {"a": 1}


def files(edge, slot="edge.1"):
    return len(os.listdir(f"/proc/{edge.processes[slot].pid}/fd"))


def healthy_within(edge, seconds):
    started = time.monotonic()
    assert edge.get("/health").status == 200
    assert time.monotonic() - started < seconds


# ---------------------------------------------------------------- many at once


def test_three_hundred_slow_headers_hold_nobody_up(edge):
    raws = [edge.raw() for _ in range(300)]
    for n in range(4):
        for raw in raws:
            raw.send("GET /open HTTP/1.1\r\nHost: a\r\nX-Slow: "[n * 10:n * 10 + 10])
        healthy_within(edge, 1)
    cpu = edge.cpu()
    end = time.monotonic() + 1
    wait_for(lambda: time.monotonic() > end)
    assert edge.cpu() - cpu < 0.5
    for raw in raws:
        raw.close()


def test_three_hundred_slow_bodies_hold_nobody_up_and_end_in_time(edge):
    raws = [edge.raw() for _ in range(300)]
    for raw in raws:
        raw.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n[")
    started = time.monotonic()
    #  A byte now and then keeps none of them alive.
    while time.monotonic() - started < 2.5:
        for raw in raws[::10]:
            try:
                raw.send(" ")
            except (BrokenPipeError, ConnectionResetError):
                pass
        healthy_within(edge, 1)
        threading.Event().wait(0.02)
    answers = [raw.answer() for raw in raws]
    assert {answer.status for answer in answers} == {408}, {answer.body for answer in answers}
    assert time.monotonic() - started < 12
    for raw in raws:
        raw.close()


def test_connections_that_are_dropped_leave_no_descriptor(edge):
    before = files(edge)
    for n in range(300):
        raw = edge.raw()
        raw.send(["CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "GET /slow?for=1", OPEN + "GET", "\0" * 100,
                  "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n",
                  "POST /raw HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc"][n % 6])
        if n % 2:
            raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        raw.close()
    wait_for(lambda: files(edge) <= before + 2, "descriptors closed")


def test_fd_limit_leaves_health_answering():
    edge = Edge("--max-files", "160").ready()
    try:
        kept = edge.raw().send(OPEN)
        assert kept.answer().status == 200
        raws = []
        for _ in range(400):
            raws.append(edge.raw())
        cpu, end = edge.cpu(), time.monotonic() + 1
        for _ in range(5):
            kept.send("GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            assert kept.answer().status == 200
        wait_for(lambda: time.monotonic() > end)
        assert edge.cpu() - cpu < 0.5
        for raw in raws:
            raw.close()
        wait_for(lambda: (lambda answer: answer and answer.status == 200)(edge.get("/open")), what="room again")
    finally:
        assert edge.stop()["edge.1"] == 0


def test_no_event_library_and_no_compression_of_frames_is_loaded(edge):
    maps = pathlib.Path(f"/proc/{edge.processes['edge.1'].pid}/maps").read_text()
    assert "evlib" not in maps and "libuv" not in maps and "libev.so" not in maps
    with edge.raw() as raw:
        raw.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: busbar.v1.json\r\n"
                 "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n")
        while b"\r\n\r\n" not in raw.data:
            assert raw.fill()
        assert b" 101 " in raw.data and b"xtensions" not in raw.data


# ---------------------------------------------------------------- lengths and headers


def test_a_hundred_megabytes_without_a_length_are_not_kept(edge):
    before, cpu = edge.memory(), edge.cpu()
    with edge.raw() as raw:
        raw.send("POST /raw HTTP/1.1\r\nHost: a\r\n\r\n")
        try:
            for _ in range(1600):
                raw.send(b"x" * 65536)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert raw.closed()
    assert edge.memory() - before < 16 * 1024 * 1024
    assert edge.cpu() - cpu < 2


@pytest.mark.parametrize("flood", ["X-Big: " + "x" * 9000, "\r\n".join(f"X-{n}: y" for n in range(3000)),
                                   "Cookie: " + "c" * 60000, "x" * 30000],
                         ids=["one long", "many", "cookies", "a name without end"])
def test_a_flood_of_headers_ends_the_connection(edge, flood):
    with edge.raw() as raw:
        try:
            raw.send(f"GET /open HTTP/1.1\r\nHost: a\r\n{flood}\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = raw.answer()
        assert answer is None or answer.status == 431
        assert raw.closed()


@pytest.mark.parametrize("head", ["Transfer-Encoding: chunked", "Transfer-Encoding: identity", "transfer-encoding:chunked",
                                  "Transfer-Encoding: gzip, chunked", "TE: trailers\r\nTransfer-Encoding: x"])
def test_no_transfer_coding_is_believed(edge, head):
    with edge.raw() as raw:
        raw.send(f"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 4\r\n{head}\r\n\r\n"
                 "4\r\nnull\r\n0\r\n\r\n" + OPEN)
        assert raw.answer().status == 411
        assert raw.closed() and not raw.data


@pytest.mark.parametrize("name", ["Transfer-Encoding ", "Transfer\tEncoding", " Transfer-Encoding", "X\0Transfer-Encoding",
                                  "Content-Length ", "Content_Length"])
def test_a_header_that_only_looks_like_one_smuggles_nothing(edge, name):
    text = f"POST /raw HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n{name}: chunked\r\n\r\n0\r\n\r\n" + OPEN * 2
    with edge.raw() as raw:
        raw.send(text)
        first = raw.answer()
        #  Either refused, or the length holds and the rest is never taken for more than it is.
        if first.status == 200:
            assert first.json["size"] == 4
        assert raw.closed() or raw.data.count(b"HTTP/1.1 ") <= 2


# ---------------------------------------------------------------- paths


@pytest.mark.parametrize("path,found", [
    ("/things/a", "a"), ("/things/%61", "a"), ("/./things/a", "a"), ("/x/../things/a", "a"), ("//things//a", "a"),
    ("/things/a%2Fb", None), ("/things/a%2fb", None), ("/things/%252e%252e", "%2e%2e"), ("/things/a;b=c", None), ("/things/a%3bb", "a;b"),
    ("/things/a%5cb", "a\\b"), ("/things\\a", None), ("/%2e%2e/things/a", "a"), ("/../things/a", "a"),
    ("/things/%2e%2e/things/a", "a"), ("http://a/things/a", None), ("things/a", None), ("*", None), ("/things/a%3fb=c", "a?b=c"),
    ("/things/a%23b", "a#b"), ("/things/ä", "ä"), ("/things/%c3%a4", "ä"), ("/things/%C0%AF", None),
    ("/things/%e0%80%af", None), ("/things/%ed%a0%80", None), ("/things/a%00", None), ("/things/a%0d", None),
    ("/things/%", None), ("/things/%4", None), ("/things/%4g", None), ("/things/a%7f", None),
    ("/things/" + "a" * 5000, None), ("/THINGS/a", None)],
    ids=lambda text: str(text)[:40])
def test_what_a_path_means_is_said_once(edge, path, found):
    """Decoded once, before it is routed: %2F is a slash, dots and double slashes are resolved, a bare ; is refused."""
    with edge.raw() as raw:
        raw.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        answer = raw.answer()
    if found is not None:
        assert answer.status == 200 and answer.json["id"] == found
    elif answer is not None:
        assert answer.status in (400, 403, 404, 414), answer.body


@pytest.mark.parametrize("path", ["/nope/" + "ä" * 60, "/nope/" + "€" * 60, "/nope/" + "😀" * 40], ids=["two", "three", "four"])
def test_an_answer_that_names_the_path_stays_text(edge, path):
    quoted = "".join(f"%{byte:02x}" for byte in path.encode()).replace("%2f", "/")
    answer = edge.get(quoted)
    assert answer.status == 404 and answer.json["error"].startswith("no such path: /nope/")


def test_bytes_of_headers_that_are_no_text_do_not_come_back_as_json(edge):
    with edge.raw() as raw:
        raw.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: \xff\xfe\r\nUser-Agent: \xff\r\nAccept: \x80\r\n"
                 b"Content-Length: 4\r\n\r\nnull")
        answer = raw.answer()
        assert answer.status == 415 and "media type" in answer.json["error"]
    with edge.raw() as raw:
        raw.send(b"GET /open HTTP/1.1\r\nHost: a\r\nUser-Agent: \xff\r\nIf-Match: \xc3\r\nPrefer: \xe2\x82\r\n\r\n")
        assert raw.answer().status == 200


# ---------------------------------------------------------------- JSON

REFUSED = {
    "duplicate": ('{"a":1,"a":2}', 'key "a" comes twice'), "inner duplicate": ('[{"b":{"a":1,"x":0,"a":2}}]', 'key "a"'),
    "hidden duplicate": ('{"a":1,"\\u0061":2}', "comes twice"), "nan": ("NaN", "line 1"), "infinity": ("[Infinity]", "line 1"),
    "minus infinity": ("-Infinity", "line 1"), "lone high": ('"\\ud800"', "surrogate"), "lone low": ('["\\udc00"]', "surrogate"),
    "swapped": ('"\\udc00\\ud800"', "surrogate"), "nul": ('"\\u0000"', "\\u0000"), "nul in a key": ('{"\\u0000":1}', "\\u0000"),
    "brackets": ("[" * 200_000, "deeper than 64"), "braces": ('{"a":' * 100_000, "deeper than 64"),
    "many digits": ("1" * 10_000, "too large"), "too large": ("1e400", "too large"), "minus too large": ("-1e400", "too large"),
    "past 64 bit": ("9223372036854775808", "too large"), "mark": ("\ufeff{}", "byte order mark"),
    "trailing": ("{} x", "something follows"), "two values": ("{}{}", "something follows"), "unfinished": ('{"a":', "too early"),
    "comment": ("{/* */}", "line 1"), "single quotes": ("{'a':1}", "line 1"), "comma": ("[1,]", "line 1"),
    "leading zero": ("01", "line 1"), "plus": ("+1", "line 1"), "hex": ("0x1", "line 1"), "tab in text": ('"\t"', "control"),
    "line end in text": ('"\n"', "control"), "line": ('{"a":1,\n"b":\n"c}', "line 3")}


@pytest.mark.parametrize("name", REFUSED)
def test_json_that_two_readers_could_read_differently_is_400(edge, name):
    text, said = REFUSED[name]
    answer = edge.post("/echo", text.encode("utf-8", "surrogatepass"), JSON)
    assert answer.status == 400 and answer.json["code"] == "INVALID"
    error = answer.json["error"]
    assert said in error and error.startswith("json ")
    for foreign in ("token", "JSON_", "near '", "end of file", "duplicate object", "decode byte"):
        assert foreign not in error


@pytest.mark.parametrize("bad", [b'"\xff"', b'"\xc0\xaf"', b'{"\x80":1}', b"\xfe\xff", '{"a":1}'.encode("utf-16"),
                                 b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"'])
def test_json_that_is_no_utf_8_is_400(edge, bad):
    answer = edge.post("/echo", bad, JSON)
    assert answer.status == 400 and answer.json["error"].startswith("json ")


def test_json_that_is_only_strange_arrives(edge):
    for text in ('"\\ud83d\\ude00"', '{"":0}', '{"a":{"a":{"a":1}}}', "[" * 60 + "]" * 60, "1e-400", "-0.0", '"\\/"', " 1 ",
                 '"' + "x" * 900_000 + '"', "[" + ",".join("1" * 100_000) + "]", "9223372036854775807", '{"a":[],"b":{}}'):
        answer = edge.post("/echo", text.encode(), JSON)
        assert answer.status == 200 and answer.json["body"] == json.loads(text), text[:50]


def test_a_hundred_thousand_keys_are_read_in_linear_time(edge):
    text = "{" + ",".join(f'"key{n}":0' for n in range(70_000)) + "}"
    cpu = edge.cpu()
    assert edge.post("/raw", text.encode(), JSON).status == 200
    assert edge.post("/echo", text.encode(), JSON).status == 200
    assert edge.cpu() - cpu < 2


# ---------------------------------------------------------------- uploads and tokens


@pytest.mark.parametrize("name", ["ä" * 300, "../../x", "a\x01b", "x" * 5000, "a\\\"b", "%2e%2e%2f", "con", ""],
                         ids=["long", "dots", "control", "very long", "quoted", "percent", "device", "empty"])
def test_names_of_files_arrive_as_text(edge, name):
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    body = (f'--b\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n'
            f"Content-Type: {'ü' * 200}\r\n\r\ndata\r\n--b--\r\n").encode()
    answer = edge.post("/upload", body, {"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status in (200, 400)
    if answer.status == 200:
        assert answer.json["size"] == 4


def test_authorization_that_is_hostile_is_401(edge):
    for text in ("Bearer " + "a" * 7000, "Bearer \0", "Bearer " + token() + " x", "Bearer\t" + token(), "bearer", "Basic a",
                 "Bearer " + "." * 4000, "Bearer \xff"):
        with edge.raw() as raw:
            raw.send(f"GET /me HTTP/1.1\r\nHost: a\r\nAuthorization: {text}\r\n\r\n".encode("latin-1"))
            answer = raw.answer()
            assert answer is None or answer.status in (400, 401, 403, 431), text[:20]


# ---------------------------------------------------------------- anything


def test_hostile_clients_of_every_kind_for_some_seconds(stack):
    """What `make fuzz-edge` does for longer; a finding says its seed and number."""
    findings = Fuzzer(stack, int(os.environ.get("BUSBAR_FUZZ_SEED", "20"))).run(8)
    assert not findings, findings
