"""The Python package: what its actors refuse and drop, calls that are given up."""

import time

import pytest

import busbar
from bus_fixtures import bus, wait_for  # noqa: F401

NARROW = """
import sys, time
import busbar
actor = busbar.Actor(sys.argv[1], slot=sys.argv[2], threads=1)
done = []

@actor.method("sleep", auth="none", fields={"seconds": "real"})
def sleep(request):
    until = time.monotonic() + request["seconds"]
    while time.monotonic() < until and not request.cancelled:
        time.sleep(0.01)

@actor.method("note", auth="none", fields={"text": "text", "code": {"type": "text", "max": 3}})
def note(request):
    done.append(request["text"])

@actor.method("noted", auth="none")
def noted(request):
    return done

@actor.method("secret", roles="admin|auditor", auth="user")
def secret(request):
    return {"user": request.user}

@actor.snapshot("things")
def things(request):
    return [{"id": request.user}]
"""


@pytest.fixture
def narrow(bus):  # noqa: F811
    """A client beside an actor that has one thread only."""
    client = bus.client()
    bus.actor("narrow", text=NARROW, client=client)
    return client


def test_what_waited_longer_than_its_caller_is_not_done(narrow):
    held = narrow.begin("narrow.sleep", seconds=1.0)
    with pytest.raises(busbar.BusError) as error:
        narrow.call("narrow.note", text="late", timeout=0.3)
    assert error.value.code == "TIMEOUT"
    held.wait()
    narrow.call("narrow.note", text="in time")
    assert narrow.call("narrow.noted") == ["in time"]


def test_a_call_that_is_given_up_ends_at_the_actor(narrow):
    held, queued = narrow.begin("narrow.sleep", seconds=20.0), narrow.begin("narrow.note", text="no")
    started = time.monotonic()
    for call in (held, queued):
        call.cancel()
        with pytest.raises(busbar.BusError) as error:
            call.wait()
        assert error.value.code == "CANCELLED"
    assert narrow.call("narrow.noted") == []
    assert time.monotonic() - started < 5


def test_fields_may_have_the_names_of_an_error(narrow):
    with pytest.raises(busbar.BusError) as error:
        narrow.call("narrow.note", text="a", code="long")
    assert error.value.details == {"code": "must have at most 3 characters"}


@pytest.mark.parametrize("method, identity, code", [
    ("secret", {"kind": "anon"}, "UNAUTHORIZED"),
    ("secret", {"kind": "user", "user": "ann", "role": "user"}, "FORBIDDEN"),
    ("stats", {"kind": "user", "user": "ann", "role": "super_admin"}, "FORBIDDEN"),
    ("secret", {"kind": "user", "user": "ann", "role": "auditor"}, None),
    ("secret", {"kind": "user", "user": "ann", "role": "super_admin"}, None),
    ("secret", {"kind": "operator"}, None), ("stats", None, None)])
def test_an_actor_looks_itself_who_calls(bus, narrow, method, identity, code):  # noqa: F811
    from busbar import wire
    raw = bus.raw()
    raw.socket.disconnect(f"ipc://{bus.run}/broker.s")
    raw.socket.connect(narrow.directory["narrow.1"]["endpoint"])
    raw.hello(role="caller")
    raw.send(wire.CALL, id=9, method=f"narrow.{method}", ttl=5000, identity=identity)
    reply = raw.receive(wire.REPLY)
    assert reply.status == 200 if code is None else reply.body["code"] == code


def test_a_snapshot_is_of_the_channels_user_whoever_asks(narrow):
    shot = narrow.call("narrow.live.snapshot", ch="user:ann/things")
    assert shot["rows"] == [{"id": "ann"}]


def test_what_a_route_says_of_repetition_is_heard(bus, tmp_path):  # noqa: F811
    client = bus.client()
    first, mark = bus.actor(slot="svc.1", client=client), tmp_path / "mark"
    call = client.begin("svc.slow", seconds=30.0, mark=str(mark))
    wait_for(lambda: mark.exists() and mark.read_text() == "svc.1\n", "the call")
    bus.actor(slot="svc.2", client=client)
    first.kill()
    wait_for(lambda: mark.read_text() == "svc.1\nsvc.2\n", "the call at the other instance")
    call.cancel()
