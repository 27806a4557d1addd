"""RFC 6455 case by case, in the numbering that WebSocket test suites share (1 framing … 10 fragmentation).
Where a suite hears its message again, here a call of an echo method answers it."""

import json
import struct

import pytest
from http_fixtures import Edge, token
from wsframes import (BINARY, CLOSE, CONTINUATION, Ended, MESSAGE_MAX, PING, PONG, Peer, TEXT, frame)

JSON, MSGPACK = "busbar.v1.json", "busbar.v1.msgpack"


@pytest.fixture(scope="module")
def edge():
    edge = Edge().ready()
    yield edge
    assert edge.stop()["edge.1"] == 0


@pytest.fixture
def peer(edge):
    with Peer(edge, token()) as peer:
        yield peer


def failed(peer, *codes):
    """Ended for our mistake, and nothing else came before."""
    code = peer.ended()
    assert code in (codes or (1002,)), code


def exact(peer, size):
    """A text that makes the whole message `size` bytes long."""
    return "*" * (size - len(peer.echo("")))


#  ---------------------------------------------------------------- 1: framing

@pytest.mark.parametrize("kind", [JSON, MSGPACK])
@pytest.mark.parametrize("size, chop", [(125, 0), (126, 0), (127, 0), (128, 0), (65535, 0), (65536, 0),
                                        (65536, 997)])
def test_1_messages_of_every_size_form(edge, kind, size, chop):
    with Peer(edge, token(), kind) as peer:
        text = "*" * (size - 60)
        data = peer.echo(text)
        peer.send(peer.kind, data, chop=chop)
        assert peer.echoed(text)
        if kind == JSON:
            text = exact(peer, size)
            peer.send(TEXT, peer.echo(text), chop=chop)
            assert peer.echoed(text)


@pytest.mark.parametrize("kind", [JSON, MSGPACK])
def test_1_an_empty_message_says_nothing(edge, kind):
    with Peer(edge, token(), kind) as peer:
        peer.send(peer.kind, b"")
        assert peer.alive()


def test_1_the_other_kind_of_message_is_refused(edge):
    for kind, opcode in ((JSON, BINARY), (MSGPACK, TEXT)):
        with Peer(edge, token(), kind) as peer:
            peer.send(opcode, b'{"id":1}' if opcode == TEXT else peer.echo("x"))
            failed(peer, 1003)


def test_1_frames_without_a_mask_are_refused(peer):
    peer.send(TEXT, peer.echo("x"), mask=b"")
    failed(peer)


@pytest.mark.parametrize("length", [16, 64])
def test_1_sizes_are_written_as_short_as_possible(peer, length):
    """"The minimal number of bytes MUST be used": refused, or taken for what they say; never something else."""
    peer.send(TEXT, peer.echo("x"), length=length)
    try:
        assert peer.echoed("x") and peer.alive()
    except Ended as end:
        assert end.code == 1002


@pytest.mark.parametrize("size", [1 << 63, 1 << 40, (1 << 63) - 1, (1 << 64) - 1, 1 << 32, (1 << 32) + 5])
def test_1_absurd_sizes_are_refused_without_waiting_for_them(peer, size):
    peer.write(struct.pack(">BBQ", 0x81, 0xFF, size) + b"\0\0\0\0" + b"{}")
    failed(peer, 1002, 1009)


#  ---------------------------------------------------------------- 2: pings and pongs

@pytest.mark.parametrize("payload, chop", [(b"", 0), (b"Hello, world!", 0), (b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", 0),
                                           (b"\xfe" * 125, 0), (b"\xfe" * 125, 1)])
def test_2_pings_are_answered_with_what_they_carry(peer, payload, chop):
    peer.send(PING, payload, chop=chop)
    assert peer.message() == (PONG, payload)
    assert peer.alive()


@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
@pytest.mark.parametrize("size", [126, 127, 65535, 65536])
def test_2_control_frames_have_at_most_125_bytes(peer, opcode, size):
    peer.send(opcode, b"\x03\xe8" + b"x" * (size - 2))
    failed(peer)


@pytest.mark.parametrize("payload", [b"", b"unsolicited pong payload", b"\xff" * 125])
def test_2_a_pong_that_nobody_asked_for_is_left_alone(peer, payload):
    peer.send(PONG, payload)
    assert peer.alive()


@pytest.mark.parametrize("chop", [0, 1])
def test_2_many_pings_are_answered_in_order(peer, chop):
    peer.write(b"".join(frame(PING, f"payload-{n}") for n in range(10)), chop)
    for n in range(10):
        assert peer.message() == (PONG, f"payload-{n}".encode())


def test_2_pings_come_before_anybody_signed_in(edge):
    with Peer(edge) as peer:
        assert peer.alive()


#  ---------------------------------------------------------------- 3: reserved bits

@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, PONG, CLOSE])
@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("payload", [b"", b"{}"])
def test_3_reserved_bits_are_refused(edge, opcode, rsv, payload):
    with Peer(edge, token(), MSGPACK if opcode == BINARY else JSON) as peer:
        peer.send(opcode, b"\x03\xe8" if opcode == CLOSE else payload, rsv=rsv)
        failed(peer)


@pytest.mark.parametrize("chop", [0, 1])
@pytest.mark.parametrize("rsv", [2, 3, 4])
def test_3_what_came_before_a_reserved_bit_counts_and_nothing_behind_it(peer, rsv, chop):
    peer.send(TEXT, peer.echo("before"), chop=chop)
    assert peer.echoed("before")
    peer.write(frame(TEXT, peer.echo("bad"), rsv=rsv) + frame(PING), chop)
    failed(peer)


def test_3_a_reserved_bit_in_a_continuation(peer):
    data = peer.echo("x")
    peer.send(TEXT, data[:5], fin=False).send(CONTINUATION, data[5:], rsv=4)
    failed(peer)


#  ---------------------------------------------------------------- 4: opcodes

@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("payload", [b"", b"reserved opcode payload"])
@pytest.mark.parametrize("chop", [0, 1])
def test_4_unknown_opcodes_are_refused(peer, opcode, payload, chop):
    peer.send(TEXT, peer.echo("first"))
    assert peer.echoed("first")
    peer.write(frame(opcode, payload) + frame(PING), chop)
    failed(peer)


#  ---------------------------------------------------------------- 5: fragmentation

@pytest.mark.parametrize("opcode", [PING, PONG])
def test_5_control_frames_are_not_fragmented(peer, opcode):
    peer.write(frame(opcode, b"frag", fin=False) + frame(CONTINUATION, b"ment"))
    failed(peer)


def cut(data, *places):
    """As frames of one text, cut at these places."""
    places = [0, *places, len(data)]
    return [frame(CONTINUATION if n else TEXT, data[places[n]:places[n + 1]], fin=n == len(places) - 2)
            for n in range(len(places) - 1)]


@pytest.mark.parametrize("chop", [0, 1, 7])
@pytest.mark.parametrize("places", [(5,), (5, 9), (0,), (0, 0, 5, 5), (1, 2, 3, 4)])
def test_5_fragments_make_one_message(peer, places, chop):
    peer.write(b"".join(cut(peer.echo("fragmented"), *places)), chop)
    assert peer.echoed("fragmented")


@pytest.mark.parametrize("chop", [0, 1])
def test_5_a_ping_between_fragments_is_answered_at_once(peer, chop):
    frames = cut(peer.echo("fragment"), 8, 20, 30)
    for n, data in enumerate(frames[:-1]):
        peer.write(data + frame(PING, f"ping {n}"), chop)
        assert peer.message() == (PONG, f"ping {n}".encode())
    peer.write(frames[-1], chop)
    assert peer.echoed("fragment")


def test_5_a_pong_between_fragments_changes_nothing(peer):
    first, last = cut(peer.echo("fragment"), 8)
    peer.write(first + frame(PONG, b"}}}}") + last)
    assert peer.echoed("fragment")


@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("payload", [b"", b"non-continuation payload"])
@pytest.mark.parametrize("chop", [0, 1])
def test_5_there_is_nothing_to_continue(peer, fin, payload, chop):
    peer.write(frame(CONTINUATION, payload, fin=fin) + frame(TEXT, peer.echo("never")), chop)
    failed(peer)


@pytest.mark.parametrize("fin", [True, False])
def test_5_nothing_to_continue_behind_a_whole_message(peer, fin):
    peer.write(b"".join(cut(peer.echo("whole"), 6)))
    assert peer.echoed("whole")
    peer.write(frame(CONTINUATION, b"more", fin=fin) + frame(TEXT, peer.echo("never")))
    failed(peer)


@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("second", [TEXT, BINARY])
def test_5_a_second_beginning_inside_of_a_message(peer, fin, second):
    data = peer.echo("x")
    peer.write(frame(TEXT, data[:4], fin=False) + frame(second, data[4:], fin=fin))
    failed(peer)


def test_5_a_close_inside_of_a_message(peer):
    peer.write(frame(TEXT, b'{"id":1,', fin=False) + frame(CLOSE, b"\x03\xe8"))
    failed(peer, 1000)


#  ---------------------------------------------------------------- 6: UTF-8

GOOD = ["", "Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\x7f", "\x80", "\u07ff", "\u0800", "\uffff", "\U00010000",
        "\U0010ffff", "\ud7ff", "\ue000", "\ufffd", "\ufffe", "\ufdd0", "\U0001fffe", "\U0010fffe", "\u20ac", "😀" * 20]

#  What is no UTF-8: cut, overlong, surrogates, beyond the last code point, stray bytes.
BAD = [b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", b"\xf4\x90\x80\x80", b"\x80", b"\xbf",
       b"\x80\xbf", b"\x80\xbf\x80\xbf\x80\xbf", b"\xc0 ", b"\xe0 ", b"\xf0 ", b"\xf8 ", b"\xfc ", b"\xc0\x80", b"\xc1\xbf",
       b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf", b"\xf8\x80\x80\x80\x80",
       b"\xf8\x88\x80\x80\x80", b"\xfc\x80\x80\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80", b"\xc0\xaf", b"\xe0\x80\xaf",
       b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf", b"\xfe", b"\xff", b"\xfe\xfe\xff\xff", b"\xed\xa0\x80",
       b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf", b"\xed\xb0\x80", b"\xed\xbe\x80", b"\xed\xbf\xbf",
       b"\xed\xa0\x80\xed\xb0\x80", b"\xed\xaf\xbf\xed\xbf\xbf", b"\xf5\x80\x80\x80", b"\xf7\xbf\xbf\xbf",
       b"\xce", b"\xe2\x82", b"\xf0\x9f\x98", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce"]


def around(data):
    """Bytes inside of a command that is sound but for them."""
    return b'{"id":1,"call":{"method":"shop.echo","body":"' + data + b'"}}'


@pytest.mark.parametrize("text", GOOD, ids=ascii)
def test_6_valid_texts_come_back(peer, text):
    data = around(json.dumps(text, ensure_ascii=False)[1:-1].encode())
    peer.number = 1
    for frames in ([frame(TEXT, data)], cut(data, *range(1, len(data)))):
        peer.write(b"".join(frames))
        assert peer.echoed(text)


def test_6_a_text_of_nothing_but_zero_bytes_is_no_json(peer):
    peer.send(TEXT, b"\x00")
    failed(peer, 3501)


@pytest.mark.parametrize("bad", BAD, ids=bytes.hex)
def test_6_invalid_texts_end_the_connection(edge, bad):
    with Peer(edge, token()) as peer:
        peer.send(TEXT, around(bad))
        failed(peer, 1007)


@pytest.mark.parametrize("bad", BAD, ids=bytes.hex)
def test_6_invalid_texts_at_every_split_point(edge, bad):
    for at in range(len(bad) + 1):
        with Peer(edge, token()) as peer:
            data = around(bad)
            start = data.index(bad) + at
            peer.write(b"".join(cut(data, start)))
            failed(peer, 1007)
    with Peer(edge, token()) as peer:
        peer.write(b"".join(cut(data, *range(1, len(data)))), chop=1)
        failed(peer, 1007)


@pytest.mark.parametrize("bad", [b"\xce", b"\xe2\x82", b"\xf0\x9f\x98"], ids=bytes.hex)
def test_6_a_text_does_not_end_inside_of_a_character(edge, bad):
    for frames in ([frame(TEXT, bad)], [frame(TEXT, bad, fin=False), frame(CONTINUATION)],
                   [frame(TEXT, fin=False), frame(CONTINUATION, bad)]):
        with Peer(edge, token()) as peer:
            peer.write(b"".join(frames))
            failed(peer, 1007)


@pytest.mark.parametrize("bad", [b"\xf4\x90\x80\x80", b"\xed\xa0\x80", b"\xff", b"\xc0\x80"], ids=bytes.hex)
def test_6_invalid_texts_are_not_waited_for_to_the_end(edge, bad):
    """Fail fast: in the frame that brings them, not at the end of the message."""
    with Peer(edge, token()) as peer:
        peer.write(frame(TEXT, b'{"id":1,"x":"', fin=False) + frame(CONTINUATION, bad + b"abc", fin=False))
        failed(peer, 1007)


def test_6_bytes_of_binary_messages_are_no_text(edge):
    with Peer(edge, token(), MSGPACK) as peer:
        peer.send(BINARY, peer.echo(b"\xff\xfe\xed\xa0\x80"))
        assert peer.echoed(b"\xff\xfe\xed\xa0\x80")


#  ---------------------------------------------------------------- 7: closing

def test_7_a_close_is_answered_and_ends(peer):
    peer.send(TEXT, peer.echo("last"))
    assert peer.echoed("last")
    peer.send(CLOSE, b"\x03\xe8")
    failed(peer, 1000)


@pytest.mark.parametrize("behind", [frame(CLOSE, b"\x03\xe8"), frame(PING), frame(TEXT, around(b"never")),
                                    frame(CLOSE, b"\x03\xe8") * 3, b"\xff" * 50])
def test_7_nothing_behind_a_close_counts(edge, peer, behind):
    peer.write(frame(CLOSE, b"\x03\xe8") + behind)
    failed(peer, 1000)
    assert edge.get("/open").status == 200


def test_7_a_close_between_two_halves_of_a_message(peer):
    first, last = cut(peer.echo("x"), 9)
    peer.write(first + frame(CLOSE, b"\x03\xe8") + last)
    failed(peer, 1000)


def test_7_a_large_message_before_a_close_is_taken(peer):
    text = "BAsd7&jh23" * 26000
    peer.send(TEXT, peer.echo(text))
    assert peer.echoed(text)
    peer.send(CLOSE, b"\x03\xe8")
    failed(peer, 1000)


@pytest.mark.parametrize("payload, codes", [
    (b"", (1000, 1005)), (b"\x03", (1002,)), (b"\x03\xe8", (1000,)), (b"\x03\xe8Hello World!", (1000,)),
    (b"\x03\xe8" + b"*" * 123, (1000,)), (b"\x03\xe8" + b"*" * 124, (1002,))], ids=lambda at: str(at)[:20])
def test_7_payloads_of_close_frames(peer, payload, codes):
    peer.send(CLOSE, payload)
    failed(peer, *codes)


@pytest.mark.parametrize("bad", BAD, ids=bytes.hex)
def test_7_the_reason_of_a_close_is_a_text(edge, bad):
    with Peer(edge, token()) as peer:
        peer.send(CLOSE, b"\x03\xe8" + bad)
        failed(peer, 1007)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000,
                                  3501, 3999, 4000, 4999])
def test_7_close_codes_that_may_be_sent(peer, code):
    peer.send(CLOSE, struct.pack(">H", code) + b"reason")
    failed(peer, code, 1000)


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
@pytest.mark.parametrize("reason", [b"", b"reason"])
def test_7_close_codes_that_may_not_be_sent(peer, code, reason):
    peer.send(CLOSE, struct.pack(">H", code) + reason)
    failed(peer)


#  ---------------------------------------------------------------- 9: sizes

@pytest.mark.parametrize("kind", [JSON, MSGPACK])
@pytest.mark.parametrize("size", [1 << 16, 1 << 18, MESSAGE_MAX - 1, MESSAGE_MAX])
def test_9_large_messages(edge, kind, size):
    with Peer(edge, token(), kind) as peer:
        text = "*" * (size - 80)
        data = peer.echo(text)
        if kind == JSON:
            text = exact(peer, size)
            data = peer.echo(text)
            assert len(data) == size
        peer.send(peer.kind, data)
        assert peer.echoed(text)


@pytest.mark.parametrize("piece", [64, 1024, 65536])
@pytest.mark.parametrize("size", [1 << 18, MESSAGE_MAX])
def test_9_large_messages_in_fragments_and_in_chops(peer, size, piece):
    text = exact(peer, size)
    data = peer.echo(text)
    peer.write(b"".join(cut(data, *range(piece, len(data), piece))))
    assert peer.echoed(text)
    text = exact(peer, size)
    peer.send(TEXT, peer.echo(text), chop=max(piece, 1024))
    assert peer.echoed(text)


@pytest.mark.parametrize("size", [MESSAGE_MAX + 1, 4 << 20, 8 << 20, 16 << 20])
@pytest.mark.parametrize("fragmented", [False, True])
def test_9_what_is_larger_than_the_limit_is_refused(edge, size, fragmented):
    with Peer(edge, token()) as peer:
        data = around(b"*" * (size - len(around(b""))))
        frames = cut(data, *range(65536, size, 65536)) if fragmented else [frame(TEXT, data)]
        try:
            for each in frames:
                peer.write(each)
        except (BrokenPipeError, ConnectionResetError):
            pass                             # it has heard enough
        failed(peer, 1009, None)
    assert edge.get("/open").status == 200


def test_9_the_limit_is_told_to_who_waits_for_an_answer(peer):
    peer.send(TEXT, around(b"*" * (MESSAGE_MAX - 10)))
    failed(peer, 1009)


@pytest.mark.parametrize("size", [0, 16, 64, 256, 1024, 4096, 16384])
def test_9_many_messages_one_after_another(peer, size):
    for _ in range(50):
        peer.send(TEXT, peer.echo("*" * size))
        assert peer.echoed("*" * size)


def test_9_many_messages_at_once_are_all_answered(peer):
    """One after another on the wire, without waiting: the calls end in any order."""
    peer.write(b"".join(frame(TEXT, peer.echo("*" * 100)) for _ in range(60)))
    assert {peer.hear()["id"] for _ in range(60)} == set(range(1, 61))


#  ---------------------------------------------------------------- 10: fragments made by a library

def test_10_automatic_fragments(peer):
    text = "*" * 65536
    data = peer.echo(text)
    peer.write(b"".join(cut(data, *range(1300, len(data), 1300))))
    assert peer.echoed(text)


#  ---------------------------------------------------------------- 12, 13: compression is not spoken

@pytest.mark.parametrize("offer", [
    "permessage-deflate", "permessage-deflate; client_max_window_bits",
    "permessage-deflate; server_no_context_takeover; server_max_window_bits=8, permessage-deflate",
    "x-webkit-deflate-frame", "permessage-bzip2, foo; bar=\"a, b\"", ",,;="])
def test_12_no_extension_is_agreed_on(edge, offer):
    with Peer(edge, token(), headers=f"Sec-WebSocket-Extensions: {offer}\r\n") as peer:
        assert "sec-websocket-extensions" not in peer.headers
        peer.send(TEXT, peer.echo("plain"))
        assert peer.echoed("plain")
        peer.send(TEXT, b"\xaa\xae\x05\x00", rsv=4)          # "{}" deflated
        failed(peer)


#  ---------------------------------------------------------------- the handshake

WHOLE = {"Host": "localhost", "Upgrade": "websocket", "Connection": "Upgrade",
         "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}


def shake(edge, verb="GET", version="HTTP/1.1", path="/ws", **changes):
    """The status of an upgrade with these headers changed; None when the connection just ends."""
    headers = {**WHOLE, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value is not None)
    with edge.raw() as raw:
        raw.send(f"{verb} {path} {version}\r\n{lines}\r\n")
        while b"\r\n\r\n" not in raw.data:
            if not raw.fill():
                return None
        return int(raw.data.split()[1])


def test_a_whole_handshake_is_accepted(edge):
    for headers in ({}, {"Connection": "keep-alive, Upgrade"}, {"Upgrade": "WebSocket"},
                    {"Sec_WebSocket_Protocol": "busbar.v1.json"}, {"Sec_WebSocket_Protocol": "busbar.v1.msgpack"}):
        assert shake(edge, **headers) == 101, headers


@pytest.mark.parametrize("changes", [
    {"Sec_WebSocket_Key": None}, {"Sec_WebSocket_Version": None}, {"Sec_WebSocket_Version": "12"},
    {"Sec_WebSocket_Version": "x"}, {"Sec_WebSocket_Key": "short"}, {"Sec_WebSocket_Key": "x" * 200},
    {"Sec_WebSocket_Protocol": "unknown"}, {"verb": "POST"}, {"verb": "PUT"}, {"version": "HTTP/1.0"},
    {"Upgrade": "h2c"}, {"Upgrade": "websocket/13"}, {"Host": None}], ids=str)
def test_a_broken_handshake_never_becomes_a_connection(edge, changes):
    status = shake(edge, **changes)
    assert status is None or status >= 400, status
    assert edge.get("/open").status == 200


def test_http_2_is_not_spoken(edge):
    settings = {"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    for path in ("/", "/ws", "/open"):
        status = shake(edge, path=path, **settings)
        assert status is None or status in (200, 400, 404), (path, status)
    with edge.raw() as raw:
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
        assert raw.closed(5)
        assert not raw.data or raw.data.split()[1][:1] == b"4", raw.data[:80]
