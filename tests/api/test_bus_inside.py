"""The bus inside: registration, calls, deaths, events; the real broker, Python at both ends."""

import os
import threading
import time

import pytest

import busbar
from bus_fixtures import HOME, SERVICE, bus, wait_for  # noqa: F401
from busbar import wire
from stack import SOON, held


def test_an_actor_announces_itself_and_is_called(bus):
    client = bus.client()
    child = bus.actor(client=client)
    answer = client.call("svc.who")
    assert answer["pid"] == child.pid
    assert answer["identity"] is None          # over ipc without identity: the operator


def test_a_route_conflict_is_refused_and_names_both_rows(bus):
    def make(name):
        actor = busbar.Actor(name, bus.run)
        actor.route("POST", "/things/:id" if name == "one" else "/things/:other",
                    method="start")(lambda request: {})
        return actor
    bus.serve(make("one"))
    with pytest.raises(busbar.Refused) as refused:
        make("two").run(signals=False)
    assert refused.value.code == "CONFLICT"
    assert "`POST /things/:id one.start (one.1)`" in refused.value.text
    assert "`POST /things/:other two.start (two.1)`" in refused.value.text


def test_a_slot_belongs_to_one_name(bus):
    bus.serve(busbar.Actor("one", bus.run, slot="shared"))
    with pytest.raises(busbar.Refused, match="slot conflict"):
        busbar.Actor("two", bus.run, slot="shared").run(signals=False)


def test_a_successor_takes_the_slot_and_the_other_is_told(bus):
    client = bus.client()
    first = bus.actor(client=client)
    second = bus.actor(client=client)
    assert first.wait(SOON) == 1                   # REFUSED: another process took this slot
    assert client.call("svc.who")["pid"] == second.pid


def test_another_protocol_version_is_refused(bus):
    raw = bus.raw()
    raw.send(wire.HELLO, version=99, role="client", name="new", boot="b")
    assert raw.receive(wire.REFUSED).code == "VERSION"


def test_fields_are_checked_and_named(bus):
    actor = busbar.Actor("f", bus.run)

    @actor.route("POST", "/f/:id", method="make", auth="none", fields={
        "id": {"type": "int", "min": 1, "required": True},
        "name": {"type": "text", "required": True, "min": 2, "max": 4},
        "kind": {"values": "spark|dask"}, "ratio": "real", "flag": "bool", "tags": "names",
        "when": "date", "size": {"type": "int", "default": 3}})
    def make(request):
        return request.fields

    bus.serve(actor)
    client = bus.client()
    wait_for(lambda: "f.make" in client._bus.known, "the route")
    good = {"name": "abc", "kind": "dask", "ratio": 1, "flag": True, "tags": ["a"],
            "when": "2026-01-31"}
    answer = client.call("f.make", {"id": "7"}, good)
    assert answer == {**good, "id": 7, "size": 3}
    for field, value in [("name", "a"), ("name", "abcde"), ("name", 5), ("name", None),
                         ("kind", "ray"), ("ratio", "x"), ("flag", "true"), ("tags", [1]),
                         ("when", "2026-02-31"), ("size", 1.5), ("size", True)]:
        with pytest.raises(busbar.BusError) as error:
            client.call("f.make", {"id": "7"}, {**good, field: value})
        assert (error.value.status, error.value.code) == (400, "INVALID"), (field, value)
        assert list(error.value.details) == [field]
    with pytest.raises(busbar.BusError, match="id must be at least 1"):
        client.call("f.make", {"id": "0"}, good)
    _, _, meta = client.request("f.make", {"id": "7"}, {**good, "foreign": 1})
    assert meta["ignored"] == ["foreign"]
    with pytest.raises(busbar.BusError, match="foreign is not a field"):
        client.request("f.make", {"id": "7"}, {**good, "foreign": 1},
                       meta={"prefer": "handling=strict"})


def test_a_method_nobody_announced_is_not_found_at_once(bus):
    client = bus.client()
    began = time.monotonic()
    with pytest.raises(busbar.BusError) as error:
        client.call("nobody.home")
    assert error.value.status == 404
    assert time.monotonic() - began < 2


def test_no_call_is_lost_when_the_broker_is_killed(bus):
    client = bus.client()
    bus.actor(client=client)
    answers, stop = [], threading.Event()

    def call():
        own = bus.client()
        while not stop.is_set():
            answers.append(own.call("svc.who", timeout=10)["slot"])

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    for _ in range(3):
        seen = len(answers)
        wait_for(lambda: len(answers) > seen + 50, "calls")
        bus.kill()
        seen = len(answers)
        wait_for(lambda: len(answers) > seen + 50, "calls without a broker")
        bus.start()
    stop.set()
    for caller in callers:
        caller.join(20)
        assert not caller.is_alive()
    assert set(answers) == {"svc.1"}


def restart(bus, heartbeat):
    bus.heartbeat = heartbeat
    bus.kill()
    bus.start()


def test_everybody_is_back_within_a_second_after_a_broker_restart(bus):
    restart(bus, heartbeat=500)
    client = bus.client()
    for n in range(3):
        bus.actor(slot=f"svc.{n}", client=client)
    live = client.subscribe("org:1/log")
    bus.kill()
    bus.start()
    began = time.monotonic()
    raw = bus.raw()
    raw.hello()

    def all_there():
        raw.send(wire.CALL, id=int(time.monotonic() * 1000), method="broker.stats", ttl=1000)
        body = raw.receive(wire.REPLY).body
        return body["entries"] == 3 and body["channels"] == 1
    raw.receive(wire.WELCOME)
    wait_for(all_there, "everybody")
    assert time.monotonic() - began < 1
    client.call("svc.publish", {}, {"ch": "org:1/log", "count": 1}, key="org:1")
    assert live.next(SOON).data == {"n": 0}


def test_a_dead_actor_is_gone_at_once_for_everybody(bus):
    restart(bus, heartbeat=2000)
    watchers = [bus.client() for _ in range(2)]
    child = bus.actor(client=watchers[0])
    wait_for(lambda: "svc.1" in watchers[1].directory, "the actor")
    began = time.monotonic()
    child.kill()
    for watcher in watchers:
        wait_for(lambda: "svc.1" not in watcher.directory, "its end")
    assert time.monotonic() - began < 4          # not for its silence, which would take 8 s


def test_a_silent_actor_is_gone_after_four_heartbeats(bus):
    client = bus.client()
    child = bus.actor(client=client)
    with held(child.pid):
        began = time.monotonic()
        wait_for(lambda: "svc.1" not in client.directory, "its end")
        assert 0.2 < time.monotonic() - began < 2
    wait_for(lambda: "svc.1" in client.directory, "its return")
    assert client.call("svc.who")["pid"] == child.pid


def test_an_idempotent_call_moves_to_another_instance_when_its_own_is_killed(bus, tmp_path):
    client = bus.client()
    children = {f"svc.{n}": bus.actor(slot=f"svc.{n}", client=client) for n in range(2)}
    mark = tmp_path / "mark"
    answers = []
    caller = threading.Thread(target=lambda: answers.append(
        client.call("svc.slow", seconds=3.0, mark=str(mark), idempotent=True)))
    caller.start()
    first = wait_for(lambda: mark.exists() and mark.read_text().strip(), "the call")
    children[first].kill()
    caller.join(SOON)
    assert answers and answers[0]["slot"] != first
    assert len(mark.read_text().split()) == 2


def test_a_call_that_may_have_run_is_answered_unknown(bus, tmp_path):
    restart(bus, heartbeat=2000)
    client = bus.client()
    child = bus.actor(client=client)
    mark = tmp_path / "mark"
    errors = []

    def call():
        with pytest.raises(busbar.BusError) as error:
            client.call("svc.write", seconds=20.0, mark=str(mark))
        errors.append(error.value)

    caller = threading.Thread(target=call)
    caller.start()
    wait_for(mark.exists, "the call")
    began = time.monotonic()
    child.kill()
    caller.join(SOON)
    assert errors[0].code == "UNAVAILABLE" and errors[0].unknown
    assert time.monotonic() - began < 4


def test_a_call_waits_for_an_absent_actor_until_its_deadline(bus):
    client = bus.client()
    child = bus.actor(client=client)
    child.kill()
    wait_for(lambda: "svc.1" not in client.directory, "its end")
    with pytest.raises(busbar.BusError) as error:
        client.call("svc.who", timeout=0.3)
    assert error.value.status == 503 and not error.value.unknown
    answers = []
    caller = threading.Thread(target=lambda: answers.append(client.call("svc.who", timeout=10)))
    caller.start()
    child = bus.actor(client=client)
    caller.join(SOON)
    assert answers[0]["pid"] == child.pid


def test_a_deadline_ends_the_call_and_the_actor_hears_of_it(bus, tmp_path):
    client = bus.client()
    bus.actor(client=client)
    mark = tmp_path / "mark"
    with pytest.raises(busbar.BusError) as error:
        client.call("svc.slow", seconds=10.0, mark=str(mark), timeout=0.3)
    assert error.value.status == 504
    wait_for((tmp_path / "mark.cancelled").exists, "the cancellation")


def test_a_key_stays_with_one_instance_and_a_claim_decides(bus):
    client = bus.client()
    for n in range(3):
        bus.actor(slot=f"svc.{n}", client=client)
    owners = {}
    for n in range(20):
        key = f"user:{n}"
        slots = {client.call("svc.who", key=key)["slot"] for _ in range(3)}
        assert len(slots) == 1
        owners[key] = slots.pop()
    assert len(set(owners.values())) > 1
    claimer = busbar.Actor("svc", bus.run, slot="svc.claimer")
    claimer.method("who", auth="none")(lambda request: {"slot": "svc.claimer"})
    claimer.claim("user:7")
    bus.serve(claimer)
    wait_for(lambda: "user:7" in client.directory.get("svc.claimer", {}).get("claims", ()),
             "the claim")
    assert client.call("svc.who", key="user:7")["slot"] == "svc.claimer"
    claimer.claim("user:7", release=True)
    wait_for(lambda: "user:7" not in client.directory["svc.claimer"]["claims"], "the release")


def test_goodbye_drains(bus, tmp_path):
    client = bus.client()
    old = bus.actor(slot="svc.old", client=client)
    mark = tmp_path / "mark"
    answers = []
    caller = threading.Thread(target=lambda: answers.append(
        client.call("svc.write", seconds=3.0, mark=str(mark))))
    caller.start()
    wait_for(mark.exists, "the call")
    bus.actor(slot="svc.new", client=client)
    old.terminate()
    wait_for(lambda: client.directory.get("svc.old", {}).get("state") != "up", "GOODBYE")
    for _ in range(10):
        assert client.call("svc.who")["slot"] == "svc.new"
    caller.join(SOON)
    assert answers == [{"slot": "svc.old"}]
    assert old.wait(SOON) == 0


def test_streams_flow_both_ways(bus):
    client = bus.client()
    bus.actor(client=client)
    text = b"".join(client.stream("svc.count", {"to": 500}))
    assert text == b"".join(f"{n}\n".encode() * 100 for n in range(500))
    assert client.upload("svc.size", [b"x" * 200_000] * 10) == {"size": 2_000_000}
    chunks = client.stream("svc.count", {"to": 100_000})
    next(chunks)
    chunks.close()                              # leaving early cancels
    wait_for(lambda: client.call("svc.stats")["methods"]["svc.count"]["calls"] == 2, "the count")


def test_events_arrive_in_order_and_once(bus):
    client = bus.client()
    bus.actor(client=client)
    with client.subscribe("org:1/log") as live:
        client.call("svc.publish", {}, {"ch": "org:1/log", "count": 1000})
        events = [live.next(SOON) for _ in range(1000)]
    assert [event.off for event in events] == list(range(1, 1001))
    assert [event.data["n"] for event in events] == list(range(1000))


def test_a_subscription_survives_broker_restarts_without_holes(bus):
    client = bus.client()
    bus.actor(client=client)
    live = client.subscribe("org:1/log")
    for _ in range(3):
        client.call("svc.publish", {}, {"ch": "org:1/log", "count": 10})
        bus.kill()
        client.call("svc.publish", {}, {"ch": "org:1/log", "count": 10})    # nobody hears of these
        bus.start()
    client.call("svc.publish", {}, {"ch": "org:1/log", "count": 1})
    assert [live.next(SOON).off for _ in range(61)] == list(range(1, 62))


def test_what_is_published_before_a_new_broker_knows_its_owner_is_heard(bus):
    """The subscriber is there first, and has asked the owner already."""
    restart(bus, heartbeat=2000)
    client = bus.client()
    child = bus.actor(client=client)
    live = client.subscribe("org:1/log")
    client.call("svc.publish", {}, {"ch": "org:1/log", "count": 1})
    assert live.next(SOON).off == 1
    for off in range(2, 6):
        with held(child.pid):
            bus.kill()
            bus.start()
            wait_for(lambda: client._bus.calls, "its question")
            late = client.begin("svc.publish", {}, {"ch": "org:1/log", "count": 1})
        late.wait()
        assert live.next(SOON).off == off


def test_a_position_is_resumed(bus):
    client = bus.client()
    bus.actor(client=client)
    with client.subscribe("org:1/log") as live:
        client.call("svc.publish", {}, {"ch": "org:1/log", "count": 500})
        for _ in range(7):
            live.next(SOON)
        epoch, off = live.epoch, live.off
    with client.subscribe("org:1/log", epoch, off) as live:
        assert [live.next(SOON).off for _ in range(493)] == list(range(8, 501))
        client.call("svc.publish", {}, {"ch": "org:1/log", "count": 1})
        assert live.next(SOON).off == 501


def test_what_nobody_keeps_any_more_is_a_gap(bus):
    client = bus.client()
    child = bus.actor(client=client)
    with client.subscribe("org:1/log") as live:
        client.call("svc.publish", {}, {"ch": "org:1/log", "count": 3})
        epoch = [live.next(SOON) for _ in range(3)][0].epoch
    client.call("svc.publish", {}, {"ch": "org:1/log", "count": 1500})
    with client.subscribe("org:1/log", epoch, 3) as live:
        gap = live.next(SOON)
        assert isinstance(gap, busbar.Gap) and gap.why == "retention"
        assert (gap.start, gap.end) == (4, 503)
        assert live.next(SOON).off == 504
    child.kill()
    bus.actor(client=client)                    # its memory is gone: another epoch
    client.call("svc.publish", {}, {"ch": "org:1/log", "count": 2})
    with client.subscribe("org:1/log", epoch, 3) as live:
        gap = live.next(SOON)
        assert isinstance(gap, busbar.Gap) and gap.why == "epoch" and gap.epoch != epoch
        assert live.next(SOON).off == 1


def test_garbage_is_counted_and_harms_nobody(bus):
    client = bus.client()
    bus.actor(client=client)
    raw = bus.raw()
    for parts in ([b""], [b"\xdd\xff\xff\xff\xff"], [b"\xc1"], [b"\x91"], [b"\x90"], [b"\x91\xa1x"],
                  [b"a", b"b", b"c"], [b"\x81\x01\x02"], [b"\x92\x01\xc1"], [b"\x91\xcd\xff\xff"],
                  [wire.pack(wire.CALL, id=1, method="svc.who")], [b"\x91" * 1000],
                  [b"\x92\x06" + b"\x91" * 200 + b"\xc0"], [os.urandom(5000)]):
        raw.bytes(*parts)
    assert raw.receive(wire.REFUSED).code == "UNKNOWN"
    raw.hello()
    raw.receive(wire.WELCOME)
    raw.bytes(b"\x91\xcd\x7f\xff")                                # an unknown number
    raw.bytes(b"\x92\x06\xa1x" + wire.pack(wire.PING))            # a CALL with a text as id
    raw.bytes(wire.pack(wire.PING) + b"\xdd\xff\xff\xff\xff")     # good, then malformed
    for number in (wire.REPLY, wire.CHUNK, wire.CREDIT, wire.CANCEL):
        raw.send(number, id=1 << 62)
        raw.send(number, id=2 ** 64 - 1)
    raw.send(wire.EVENT, channel="org:1/log", epoch="e", off=1)   # of no actor: ignored
    raw.send(wire.SUBSCRIBE, id=1, channel="x" * 300)
    assert raw.receive(wire.SUBSCRIBED).code == "INVALID"
    raw.send(wire.HELLO, role="emperor", name="n", boot="b")
    assert raw.receive(wire.REFUSED).code == "INVALID"
    stats = client.call("broker.stats")
    assert stats["malformed"] >= 8
    assert stats["unknown"] >= 3
    assert client.call("svc.who")["slot"] == "svc.1"


def test_what_cannot_travel_is_refused_and_harms_nobody(bus):
    client = bus.client()
    bus.actor(client=client)
    with pytest.raises(busbar.BusError, match="cannot travel"):
        client.call("svc.who", {"x": object()})
    assert client.call("svc.who")["slot"] == "svc.1"
    actor = busbar.Actor("odd", bus.run)
    actor.channel("odd")
    actor.method("answer", auth="none")(lambda request: {"x": object()})
    bus.serve(actor)
    with pytest.raises(TypeError):
        actor.event("org:1/odd", "x", object())
    wait_for(lambda: "odd.answer" in client._bus.known, "the actor")
    with pytest.raises(busbar.BusError) as error:
        client.call("odd.answer")
    assert error.value.status == 500


def test_garbage_at_an_actor_harms_nobody(bus):
    client = bus.client()
    bus.actor(client=client)
    raw = bus.raw()
    raw.socket.connect(client.directory["svc.1"]["endpoint"])
    for _ in range(20):
        raw.bytes(os.urandom(200))
        raw.bytes(b"\xdd\xff\xff\xff\xff")
        raw.bytes(b"a", b"b")
    assert client.call("svc.who")["slot"] == "svc.1"


def test_a_reader_that_stands_still_loses_events_not_the_broker(bus):
    client = bus.client()
    reader, actor = bus.raw(), bus.raw()
    reader.hello()
    reader.receive(wire.WELCOME)
    reader.send(wire.SUBSCRIBE, id=1, channel="org:1/flood")
    reader.receive(wire.SUBSCRIBED)
    actor.hello(role="actor", name="flood", slot="flood.1")
    actor.receive(wire.WELCOME)
    off = 0

    def flood():
        nonlocal off
        for _ in range(500):
            off += 1
            actor.send(wire.EVENT, channel="org:1/flood", epoch="e", off=off, data="x" * 16_000)
        for peer in reader, actor:
            peer.send(wire.PING)                # alive, but the reader takes nothing
        return client.call("broker.stats")["events_dropped"] > 100
    wait_for(flood, "dropped events", 30)
    offs = []

    def reads_on():
        nonlocal off
        off += 1
        actor.send(wire.EVENT, channel="org:1/flood", epoch="e", off=off)
        while reader.socket.poll(20):
            offs.extend(message.off for message in wire.unpack(reader.socket.recv())
                        if message.number == wire.EVENT)
        reader.send(wire.PING)
        return offs and offs[-1] == off
    wait_for(reads_on, "the reader to be up to date again", 30)
    assert offs == sorted(set(offs)) and len(offs) < off         # a hole, by which it knows


def test_the_example_is_short_and_works(bus):
    path = HOME / "tools" / "examples" / "hello_actor.py"
    assert len(path.read_text().splitlines()) <= 40
    client = bus.client()
    bus.script(path.read_text())
    wait_for(lambda: "hello.greet" in client._bus.known, "the example")
    assert client.call("hello.greet", {"name": "Ann"}) == {"text": "hello, Ann"}
    assert client.call("hello.sum_up", numbers=[1, 2.5]) == {"sum": 3.5}
    with pytest.raises(busbar.BusError) as error:
        client.call("hello.sum_up", numbers=[1, "two"])
    assert error.value.details == {"numbers": "entry 1 must be a number"}


def test_the_brokers_own_methods_are_for_operators(bus):
    client = bus.client()
    bus.actor(client=client)
    directory = client.call("broker.directory")
    assert {entry["slot"] for entry in directory["entries"]} == {"svc.1", "broker"}
    peers = client.call("broker.peers")["peers"]
    assert {peer["role"] for peer in peers} == {"actor", "client"}
    raw = bus.raw()
    raw.hello(role="edge", name="edge")
    raw.receive(wire.WELCOME)
    raw.send(wire.CALL, id=5, method="broker.stats", identity={"user": "1", "kind": "user"})
    assert raw.receive(wire.REPLY).status == 403




def test_a_caller_that_dies_cancels_its_calls(bus, tmp_path):
    client = bus.client()
    bus.actor(client=client)
    mark = tmp_path / "mark"
    caller = bus.script("import busbar, sys\nbus = busbar.Client()\n"
                        "bus.call('svc.slow', seconds=10.0, mark=sys.argv[1])", str(mark))
    wait_for(mark.exists, "the call")
    caller.kill()
    wait_for((tmp_path / "mark.cancelled").exists, "the cancellation", 5)


def test_a_claimed_key_waits_for_its_owner_to_let_go(bus, tmp_path):
    client = bus.client()
    bus.actor(slot="svc.other", client=client)
    text = SERVICE + "\nactor.claim('user:7')\n"
    owner = bus.actor(slot="svc.owner", text=text, client=client)
    wait_for(lambda: "user:7" in client.directory["svc.owner"]["claims"], "the claim")
    mark = tmp_path / "mark"
    busy = threading.Thread(target=lambda: client.call("svc.write", seconds=3.0, mark=str(mark),
                                                       key="user:7"))
    busy.start()
    wait_for(mark.exists, "the call")
    owner.terminate()
    wait_for(lambda: client.directory.get("svc.owner", {}).get("state") != "up", "GOODBYE")
    assert client.call("svc.who", key="user:7")["slot"] == "svc.other"
    assert owner.wait(SOON) == 0                   # … and only after the owner had finished
    busy.join(SOON)
