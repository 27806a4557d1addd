"""Bodies that stream: raw and multipart, under credit, with bounded memory."""

import hashlib
import time

import pytest
from http_fixtures import Edge, wait_for


@pytest.fixture(scope="module")
def edge():
    edge = Edge().ready()
    yield edge
    codes = edge.stop()
    assert codes["edge.1"] == 0


def part(name, data, filename=None, kind=None):
    head = f'--XyZ\r\nContent-Disposition: form-data; name="{name}"'
    if filename:
        head += f'; filename="{filename}"'
    if kind:
        head += f"\r\nContent-Type: {kind}"
    return head.encode() + b"\r\n\r\n" + data + b"\r\n"


END = b"--XyZ--\r\n"
FORM = {"Content-Type": "multipart/form-data; boundary=XyZ"}


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 20_000_000])
def test_a_raw_body_arrives_whole(edge, size):
    data = bytes(i % 251 for i in range(251)) * (size // 251 + 1)
    data = data[:size]
    answer = edge.post("/upload?name=x", data, {"Content-Type": "application/octet-stream"})
    assert answer.status == 200
    assert answer.json["size"] == size
    assert answer.json["sha256"] == hashlib.sha256(data).hexdigest()
    assert answer.json["meta"]["size"] == size and answer.json["params"] == {"name": "x"}


@pytest.mark.parametrize("size", [0, 5, 100_000, 5_000_000])
def test_the_file_of_a_form_streams_and_its_fields_are_parameters(edge, size):
    data = (b"\r\n--Xy not-" + b"\x00\xff" * 10) * (size // 30 + 1)
    data = data[:size]
    body = part("bucket", b"b1") + part("file", data, "a b.bin", "image/png") + END
    answer = edge.post("/upload", body, FORM).json
    assert answer["size"] == size and answer["sha256"] == hashlib.sha256(data).hexdigest()
    assert answer["params"] == {"bucket": "b1"}
    meta = answer["meta"]
    assert (meta["filename"], meta["file_type"], meta["file_field"]) == ("a b.bin", "image/png", "file")


def test_fields_behind_a_small_file_count_too(edge):
    body = part("file", b"data", "x.txt") + part("note", "ä".encode()) + END
    assert edge.post("/upload", body, FORM).json["params"] == {"note": "ä"}


def test_a_form_byte_by_byte(edge):
    body = part("a", b"1") + part("file", b"x\r\n--Xy", "f") + END
    with edge.raw() as raw:
        raw.send(f"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Type: {FORM['Content-Type']}\r\n"
                 f"Content-Length: {len(body)}\r\n\r\n")
        for i in range(len(body)):
            raw.send(body[i:i + 1])
        answer = raw.answer().json
    assert answer["size"] == 7 and answer["params"] == {"a": "1"}


@pytest.mark.parametrize("body", [b"", b"--XyZ", part("a", b"1"), part("file", b"abc", "f")[:-5],
                                  b"--XyZ\r\nno header end", b"junk" * 10])
def test_a_broken_form_is_400(edge, body):
    answer = edge.post("/upload", body, FORM)
    assert answer.status == 400


def test_a_form_without_boundary_is_400(edge):
    assert edge.post("/upload", b"x", {"Content-Type": "multipart/form-data"}).status == 400


def test_a_slow_actor_holds_up_the_sender_not_the_memory(edge):
    before, size = edge.memory(), 60_000_000
    with edge.raw() as raw:
        raw.send(f"POST /upload-slow HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n")
        raw.socket.settimeout(0.5)
        sent = 0
        try:
            while sent < size:
                sent += raw.socket.send(b"x" * 65536)
        except TimeoutError:
            pass
        assert sent < size
        assert edge.memory() - before < 32 * 1024 * 1024
        raw.socket.settimeout(20)
        raw.send(b"x" * (size - sent))
        assert raw.answer().json["size"] == size
    assert edge.memory() - before < 48 * 1024 * 1024


def test_an_upload_that_breaks_off_ends_the_call(edge):
    raw = edge.raw()
    raw.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + "x" * 1000)
    metrics = lambda: edge.get("/metrics", port=edge.admin_port).body.decode()  # noqa: E731
    wait_for(lambda: "busbar_edge_bus_in_flight 1" in metrics())
    raw.close()
    wait_for(lambda: "busbar_edge_bus_in_flight 0" in metrics())


def test_uploads_do_not_hold_up_others(edge):
    with edge.raw() as raw:
        raw.send("POST /upload-slow HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n")
        raw.send(b"x" * 300000)
        started = time.monotonic()
        assert edge.get("/open").status == 200
        assert time.monotonic() - started < 1.2          # the upload takes 1.5 s
        assert raw.answer().json["size"] == 300000
