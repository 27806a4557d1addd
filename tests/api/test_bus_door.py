"""The door: CURVE keys, tokens, identities, path prefixes, relayed actors, events under credit."""

import os
import threading
import time

import pytest

import busbar
from bus_fixtures import PRELUDE, bus, door, known, token, wait_for  # noqa: F401
from busbar import wire
from stack import SOON

GREETER = PRELUDE + """
actor.channel("greetings")

@actor.route("GET", "/hello/:name", auth="none")
def greet(request):
    return {"text": f"hello, {request['name']}", "identity": request.identity,
            "ip": request.meta.get("ip")}

@actor.route("GET", "/hello/own/secret", method="secret")
def secret(request):
    return {"user": request.user}

@actor.route("GET", "/hello/:name/shout", auth="none", method="shout", fields={"times": "int"})
def shout(request):
    for _ in range(request["times"]):
        yield request["name"] * 1000

@actor.route("PUT", "/hello/file", auth="none", method="file", upload=True)
def file(request):
    return {"size": sum(len(chunk) for chunk in request.chunks())}

@actor.route("POST", "/hello/slow", auth="none", method="slow")
def slow(request):
    open(request.body["mark"], "w").close()
    time.sleep(20)

@actor.route("POST", "/hello/event", auth="none", method="event")
def event(request):
    epoch, off = actor.event(request.body["ch"], "greeted", request.body)
    return {"epoch": epoch, "off": off}
"""


def refusal(make):
    with pytest.raises(busbar.BusError) as error:
        make()
    return error.value


def outside(known, name="hello", key=None, text=GREETER):
    """An actor at the door; returns its process."""
    return known.actor(name, text=text, door_key=key or f"{known.keys}/hello.key")


def seen(known, method="hello.greet"):
    wait_for(lambda: method in known.inside._bus.known, method)


def test_an_unknown_key_is_not_admitted(door):
    pair = door.key_pair()
    error = refusal(lambda: busbar.Client(door.door, keys=pair, server_key=door.server[0]))
    assert error.status == 401
    assert "key" in error.text


def test_a_wrong_server_key_does_not_connect(door):
    pair = door.key_pair()
    keys = busbar.config.read_key_file(door.web)
    with pytest.raises(busbar.BusError):
        busbar.Client(door.door, keys=(keys["public"], keys["secret"]), server_key=pair[0],
                      timeout=1)


def test_a_key_file_that_comes_later_is_admitted_and_its_removal_ends_connections(door):
    late = door.make_key("late")

    def admitted():
        try:
            return busbar.Client(door.door, keys=late, timeout=1)
        except busbar.BusError:
            return None
    guest = wait_for(admitted, "the new key")
    os.unlink(f"{door.keys}/late.pub")
    wait_for(lambda: guest._bus.failure, "the end of the connection")
    assert guest._bus.failure.code == "UNAUTHORIZED"
    guest.close()


def test_a_key_that_was_withdrawn_meanwhile_ends_the_client_too(door):
    keys = door.log_count()
    late = door.make_key("late")
    wait_for(lambda: door.log_count() != keys, "the new key")
    guest = busbar.Client(door.door, keys=late)
    door.kill()
    os.unlink(f"{door.keys}/late.pub")
    door.start()
    wait_for(lambda: guest._bus.failure, "the end of the client")
    assert guest._bus.failure.code == "UNAUTHORIZED"
    guest.close()


def test_broken_key_files_are_left_out(door):
    for number, text in enumerate(["", "public = short\nrole = client\n", "nonsense\n",
                                   "role = emperor\n", "x" * 5000]):
        with open(f"{door.keys}/broken{number}.pub", "w", encoding="ascii") as file:
            file.write(text)
    wait_for(lambda: door.broker_log().count("key is not admitted") >= 5, "five warnings")
    with busbar.Client(door.door, keys=door.web):
        pass


def test_without_a_token_only_open_methods_are_served(known):
    outside(known)
    seen(known)
    guest = known.guest(known.web)
    answer = guest.call("hello.greet", {"name": "Ann"})
    assert answer["text"] == "hello, Ann"
    assert answer["identity"] == {"kind": "anon"}
    assert answer["ip"] == "127.0.0.1"
    error = refusal(lambda: guest.call("hello.secret"))
    assert (error.status, error.code) == (401, "UNAUTHORIZED")
    assert refusal(lambda: guest.subscribe("clusters")).code == "UNAUTHORIZED"


@pytest.mark.parametrize("bad", [
    "nonsense", "a.b.c", token(secret="another secret that is long enough too", sub="42"),
    token(sub="42", exp=int(time.time()) - 1), "bb_unknown"],
    ids=["a word", "three words", "another secret", "expired", "unknown key"])
def test_a_bad_token_is_refused(known, bad):
    error = refusal(lambda: busbar.Client(known.door, keys=known.web, token=bad))
    assert (error.status, error.code) == (401, "UNAUTHORIZED")


def test_a_token_makes_an_identity(known):
    outside(known)
    seen(known)
    guest = known.guest(known.web, token(sub="42", jti="j1"))
    assert guest.call("hello.secret") == {"user": "42"}
    identity = guest.call("hello.greet", {"name": "x"})["identity"]
    assert identity["user"] == "42" and identity["jti"] == "j1" and identity["exp"] > time.time()
    robot = known.guest(known.web, "bb_robot")
    assert robot.call("hello.secret") == {"user": "robot"}


def test_a_forged_identity_is_ignored(known):
    outside(known)
    seen(known)
    raw = known.raw(known.web)
    raw.hello(token=token(sub="42"))
    raw.receive(wire.WELCOME)
    forged = {"user": "admin", "role": "super_admin", "kind": "operator"}
    raw.send(wire.CALL, id=1, method="hello.greet", ttl=5000, params={"name": "x"},
             identity=forged, meta={"ip": "10.0.0.1", "agent": "forged"}, key="user:admin")
    reply = raw.receive(wire.REPLY)
    assert reply.body["identity"]["user"] == "42"
    assert reply.body["ip"] == "127.0.0.1"
    for identity in forged, None:
        raw.send(wire.CALL, id=2, method="broker.stats", ttl=5000, identity=identity)
        assert raw.receive(wire.REPLY).status == 404
        raw.send(wire.CALL, id=3, method="identity.end", ttl=5000, identity=identity,
                 body={"user": "42", "jti": "x"})
        assert raw.receive(wire.REPLY).status == 404


def test_roles_are_checked_at_the_door(known):
    text = PRELUDE + """
for auth in "admin", "super", "user":
    actor.method(auth, auth=auth)(lambda request: {"user": request.user})
actor.method("some", auth="user", roles="analyst|admin")(lambda request: {})
"""
    known.actor("r", text=text, client=known.inside)
    user = known.guest(known.web, token(sub="42"))
    admin = known.guest(known.web, token(sub="admin7"))
    wait_for(lambda: "r.some" in user._bus.known and "r.some" in admin._bus.known, "the methods")
    assert user.call("r.user") == {"user": "42"}
    assert refusal(lambda: user.call("r.admin")).status == 403
    assert refusal(lambda: user.call("r.some")).status == 403
    assert admin.call("r.admin") == {"user": "admin7"}
    assert admin.call("r.some") == {}
    assert refusal(lambda: admin.call("r.super")).status == 403


def test_the_directory_at_the_door_tells_only_what_guests_need(known):
    guest = known.guest(known.web)
    entry = wait_for(lambda: guest.directory.get("identity.1"), "identity")
    assert entry["endpoint"] == ""
    assert entry["methods"] == {}               # all of them are for operators
    assert "pid" not in entry and not entry["claims"]


def test_an_actor_at_the_door_is_called_from_inside_and_outside(known):
    outside(known)
    seen(known)
    guest = known.guest(known.web)
    for caller in known.inside, guest:
        assert caller.call("hello.greet", {"name": "Ann"})["text"] == "hello, Ann"
        wait_for(lambda: "hello.shout" in caller._bus.known, "the methods")
        text = b"".join(caller.stream("hello.shout", {"name": "ab", "times": 100}))
        assert text == b"ab" * 1000 * 100
        assert caller.upload("hello.file", [b"x" * 150_000] * 10) == {"size": 1_500_000}
    assert known.inside.call("hello.greet", {"name": "x"})["identity"] is None


@pytest.mark.parametrize("prefix, extra, why", [
    ("/other", "", "outside the path prefixes"),
    ("/hell", "", "outside the path prefixes"),
    ("/hello", "actor._routes[0]['method'] = 'auth.login'", "begin with its name"),
    ("/hello", "actor._routes[0]['alias'] = ['POST /auth/login']", "outside the path prefixes")])
def test_an_actor_keeps_to_its_key(known, prefix, extra, why):
    key = known.make_key("keeper", "actor:hello", prefix)
    child = outside(known, key=key, text=GREETER + "\n" + extra)
    assert child.wait(SOON) == 1
    assert why in child.said()


def test_a_key_does_not_make_another_actor(known):
    key = known.make_key("one", "actor:one", "/hello")
    child = known.actor("hello", text=GREETER, door_key=key)
    assert child.wait(SOON) == 1
    assert "key one does not make its holder actor hello" in child.said()
    child = known.actor("hello", text=GREETER, door_key=known.web)
    assert child.wait(SOON) == 1


def test_an_actor_at_the_door_does_not_speak_for_other_channels(known):
    outside(known)
    seen(known)
    key = known.make_key("evil", "actor:evil", "/evil")
    raw = known.raw(key)
    raw.hello(role="actor", name="evil", slot="evil.1")
    raw.receive(wire.WELCOME)
    live = known.inside.subscribe("org:1/greetings")
    raw.send(wire.EVENT, channel="org:1/greetings", epoch="e", off=1, type="forged")
    raw.send(wire.EVENT, channel="sys/identity", epoch="e", off=1, type="revoked.user")
    raw.send(wire.CLAIM, name="hello", slot="hello.1", boot="x", keys=["user:1"])
    known.inside.call("hello.event", body={"ch": "org:1/greetings"})
    assert live.next(SOON).type == "greeted"
    assert not known.inside.directory["hello.1"]["claims"]


def test_a_dead_actor_at_the_door_answers_unknown(known, tmp_path):
    child = outside(known)
    seen(known)
    for caller in known.inside, known.guest(known.web):
        wait_for(lambda: any("hello.slow" in entry["methods"] and entry["state"] == "up"
                             for entry in caller.directory.values()), "hello")
        mark = tmp_path / str(id(caller))
        errors = []
        thread = threading.Thread(target=lambda: errors.append(refusal(
            lambda: caller.call("hello.slow", body={"mark": str(mark)}))))
        thread.start()
        wait_for(mark.exists, "the call")
        child.kill()
        thread.join(SOON)
        assert errors[0].code == "UNAVAILABLE" and errors[0].unknown
        wait_for(lambda: "hello.1" not in caller.directory, "its end")
        child = outside(known)


def test_everything_at_the_door_survives_a_broker_restart(known):
    outside(known)
    seen(known)
    guest = known.guest(known.web, token(sub="42"))
    live = guest.subscribe("user:42/greetings")
    known.inside.call("hello.event", body={"ch": "user:42/greetings", "n": 1})
    assert live.next(SOON).data["n"] == 1
    known.kill()
    known.start()

    def answered():
        try:
            return guest.call("hello.greet", {"name": "Ann"}, timeout=2, idempotent=True)
        except busbar.BusError:
            return None
    wait_for(answered, "an answer")
    known.inside.call("hello.event", body={"ch": "user:42/greetings", "n": 2}, idempotent=True)
    assert live.next(SOON).data["n"] == 2


def publish(known, channel, count, raw=None):
    for n in range(count):
        if raw:
            raw.send(wire.PING)                 # it must not be taken for dead meanwhile
        known.inside.call("hello.event", body={"ch": channel, "n": n})


def test_events_come_in_order_also_when_credit_is_short(known):
    outside(known)
    seen(known)
    raw = known.raw(known.web)
    raw.hello(token=token(sub="42"))
    raw.receive(wire.WELCOME)
    raw.send(wire.SUBSCRIBE, id=1, channel="greetings")
    answer = raw.receive(wire.SUBSCRIBED)
    assert answer.channel == "user:42/greetings" and answer.code == "" and answer.off == 0
    publish(known, "user:42/greetings", 400, raw)
    got = [raw.receive(wire.EVENT) for _ in range(256)]
    assert not raw.socket.poll(50) or all(
        message.number != wire.EVENT for message in wire.unpack(raw.socket.recv()))
    for _ in range(3):
        raw.send(wire.CREDIT, id=0, count=48)
        got += [raw.receive(wire.EVENT) for _ in range(48)]
    assert [event.off for event in got] == list(range(1, 401))
    assert [event.prev for event in got] == list(range(0, 400))


def test_a_guest_resumes_where_it_was(known):
    outside(known)
    seen(known)
    guest = known.guest(known.web, token(sub="42"))
    with guest.subscribe("greetings") as live:
        assert live.channel == "user:42/greetings"
        publish(known, "user:42/greetings", 5)
        events = [live.next(SOON) for _ in range(5)]
    publish(known, "user:42/greetings", 350)
    with guest.subscribe("greetings", events[2].epoch, events[2].off) as live:
        publish(known, "user:42/greetings", 1)
        assert [live.next(SOON).off for _ in range(353)] == list(range(4, 357))


def test_a_lost_position_is_a_gap(known):
    child = outside(known)
    seen(known)
    guest = known.guest(known.web, token(sub="42"))
    publish(known, "user:42/greetings", 3)
    with guest.subscribe("greetings", "other-epoch", 2) as live:
        gap = live.next(SOON)
        assert isinstance(gap, busbar.Gap) and gap.why == "epoch"
        assert [live.next(SOON).off for _ in range(3)] == [1, 2, 3]
        boot = known.inside.directory["hello.1"]["boot"]
        child.kill()                            # its log dies with it: live subscribers hear that
        outside(known)
        wait_for(lambda: known.inside.directory.get("hello.1", {"boot": boot})["boot"] != boot,
                 "its successor")
        publish(known, "user:42/greetings", 2)
        gap = live.next(SOON)
        assert isinstance(gap, busbar.Gap) and gap.why == "epoch"
        assert [live.next(SOON).off for _ in range(2)] == [1, 2]


def test_audiences_are_enforced_and_follow_grants(known):
    outside(known)
    seen(known)
    guest = known.guest(known.web, token(sub="42"))
    for channel in "user:43/greetings", "org:7/greetings", "sys:x/identity", "all:x/greetings":
        assert refusal(lambda: guest.subscribe(channel)).code == "FORBIDDEN"
    grant = {"user": "42", "audiences": ["org:7"]}
    known.inside.call("identity.grant", body=grant)

    def allowed():
        try:
            return guest.subscribe("org:7/greetings")
        except busbar.BusError:
            return None
    live = wait_for(allowed, "the grant")
    publish(known, "org:7/greetings", 1)
    assert live.next(SOON).off == 1
    known.inside.call("identity.grant", body={"user": "42", "audiences": []})
    error = refusal(lambda: live.next(SOON))
    assert "permission revoked" in error.text
    own = guest.subscribe("greetings")          # its own stays
    publish(known, "user:42/greetings", 1)
    assert own.next(SOON).off == 1


def test_a_session_that_ends_takes_its_connections_with_it(known):
    guest = known.guest(known.web, token(sub="42", jti="j1"))
    other = known.guest(known.web, token(sub="42", jti="j2"))
    began = time.monotonic()
    known.inside.call("identity.end", body={"user": "42", "jti": "j1"})
    wait_for(lambda: guest._bus.failure, "the end of the session")
    assert time.monotonic() - began < 1
    assert guest._bus.failure.code == "UNAUTHORIZED"
    assert not other._bus.failure
    error = refusal(lambda: busbar.Client(known.door, keys=known.web,
                                          token=token(sub="42", jti="j1")))
    assert error.status == 401


def test_a_token_that_runs_out_ends_the_connection(known):
    guest = known.guest(known.web, token(sub="42", exp=int(time.time()) + 4))
    wait_for(lambda: guest._bus.failure, "the end of the token")
    assert "expired" in guest._bus.failure.text


def test_a_token_is_renewed_on_a_living_connection(known):
    outside(known)
    seen(known)
    raw = known.raw(known.web)
    raw.hello(token=token(sub="42", jti="old"))
    raw.receive(wire.WELCOME)
    raw.hello(token=token(sub="42", jti="new"))
    raw.receive(wire.WELCOME)
    raw.send(wire.CALL, id=1, method="hello.greet", ttl=5000, params={"name": "x"})
    assert raw.receive(wire.REPLY).body["identity"]["jti"] == "new"


def test_an_edge_key_asserts_who_calls(known):
    outside(known)
    seen(known)
    edge = known.raw(known.make_key("edge1", "edge"))
    edge.hello(role="edge", name="edge1")
    edge.receive(wire.WELCOME)
    edge.send(wire.CALL, id=1, method="hello.secret", ttl=5000,
              identity={"user": "99", "role": "user", "kind": "user"})
    assert edge.receive(wire.REPLY).body == {"user": "99"}
    edge.send(wire.SUBSCRIBE, id=1, channel="user:99/greetings")
    assert edge.receive(wire.SUBSCRIBED).code == ""
    publish(known, "user:99/greetings", 1)
    assert edge.receive(wire.EVENT).off == 1


def test_too_many_calls_are_limited():
    from bus_fixtures import Bus
    bus = Bus(door=True)
    key = bus.make_key("web")
    bus.arguments = ["--door-rate", "1", "--door-burst", "10"]
    bus.start()
    try:
        raw = bus.raw(key)
        raw.hello()
        raw.receive(wire.WELCOME)
        for number in range(1, 21):
            raw.send(wire.CALL, id=number, method="no.such", ttl=1000)
        statuses = [raw.receive(wire.REPLY).status for _ in range(20)]
        assert statuses.count(429) >= 9 and statuses[:10] == [404] * 10
    finally:
        bus.stop()


def test_uploads_without_credit_and_odd_frames_do_not_hurt_the_broker(known):
    outside(known)
    seen(known)
    raw = known.raw(known.web)
    for parts in ([b"\xdd\xff\xff\xff\xff"], [b"a", b"b"], [os.urandom(3000)],
                  [wire.pack(wire.EVENT, channel="user:1/greetings", off=1)]):
        raw.bytes(*parts)
    raw.hello()
    raw.receive(wire.WELCOME)
    raw.send(wire.CALL, id=1, method="hello.file", ttl=5000, meta={"stream": True})
    for _ in range(100):
        raw.send(wire.CHUNK, id=1, data=b"x" * 60_000)
    assert raw.receive(wire.REPLY).status == 400
    raw.send(wire.CALL, id=2, method="hello.greet", ttl=5000, params={"name": "x"})
    raw.send(wire.CALL, id=2, method="hello.greet", ttl=5000, params={"name": "x"})
    assert {raw.receive(wire.REPLY).status for _ in range(2)} == {200, 400}
    raw.send(wire.CALL, id=1 << 62, method="hello.greet", ttl=5000)
    assert raw.receive(wire.REPLY).status == 400
    raw.send(wire.CALL, id=3, method="hello.greet", ttl=5000, params={"name": "x"},
             body="x" * 2_000_000)
    assert raw.receive(wire.REPLY).status == 413
    for number in (wire.REPLY, wire.CHUNK, wire.CREDIT, wire.CANCEL):
        for call in (0, 4, 1 << 62, 2 ** 64 - 1):
            raw.send(number, id=call)
    raw.send(wire.CREDIT, id=0, count=2 ** 64 - 1)
    raw.send(wire.CALL, id=5, method="hello.greet", ttl=5000, params={"name": "x"})
    assert raw.receive(wire.REPLY).status == 200


def test_when_identity_is_away_nobody_new_gets_in(known):
    known.guest(known.web, token(sub="42"))
    known.identity.kill()
    wait_for(lambda: "identity.1" not in known.inside.directory, "its end")
    error = refusal(lambda: busbar.Client(known.door, keys=known.web, token=token(sub="42"),
                                          timeout=7))
    assert error.code == "UNAVAILABLE" and "identity" in error.text
    with busbar.Client(known.door, keys=known.web):     # open methods go on
        pass
