"""Every place that can be made to fail does, once and again, at each of its turns: answers stay true, rows
and events agree, and repeating a request with its key ends with one of each."""

import os
import pathlib
import re
import threading
import time
import uuid

import pytest

from kit_world import HOME, World, busbar, wait_for, wire
from stack import SOON

NAMES = re.findall(r'^FAULT \(\w+, "([\w.]+)"', (HOME / "proto" / "fault.def").read_text(), re.M)
DATABASE = [name for name in NAMES if name.startswith("db.")]
#  The way of a write with its key, of a read, and where a process may die on the way of a write.
WRITE = [*DATABASE, "bus.send", "bus.event", "kit.co", "kit.answer", "kit.store"]
READ = [*DATABASE, "bus.send", "kit.co", "kit.answer"]
DEADLY = ["db.send", "db.sync", "db.read", "db.commit", "bus.event", "kit.store", "kit.answer"]
#  What may be answered besides the good answer and "not now".
CLEAR = {"db.statement": (500, "INTERNAL"), "db.full": (507, "STORAGE_FULL")}
#  Also to who asks again while the first request is still under way.
NOT_NOW = [(503, "UNAVAILABLE"), (409, "CONFLICT"), *CLEAR.values()]
#  What comes by only some time after a connection was lost.
LATER = {"db.dial": "db.ended:1,"}
TURNS_MAX = 12


@pytest.fixture(scope="module")
def world():
    os.environ["BUSBAR_FAULT"] = "none"
    made = World()
    yield made
    del os.environ["BUSBAR_FAULT"]
    made.close()


@pytest.fixture
def ann(world):
    caller = world.user()
    yield caller
    if world.actor.poll() is not None:
        revive(world)
    faults(world, "none")
    caller.close()


def revive(world):
    """Start the next incarnation of what has died."""
    world.actor.wait(SOON)
    boot = world.operator.directory.get("kit.1", {}).get("boot")
    world.start_actor()
    wait_for(lambda: (world.entry() or {}).get("boot") not in (None, boot), "the next incarnation")


def faults(world, what):
    """Set them; {name: how often it failed} of those before."""
    before = world.operator.call("kit.faults", {"set": what}, timeout=5, idempotent=True)
    return {name: row["failed"] for name, row in before.items()}


def attempt(world, caller, method, params=None, body=None, patience=5.0, **meta):
    """(status, body, meta), or None when nobody answers: it died, or the answer was lost."""
    number = caller.start(method, params, body, **meta)
    ends = time.monotonic() + patience
    while time.monotonic() < ends and world.actor.poll() is None:
        if caller.socket.poll(20):
            for message in wire.unpack(caller.socket.recv()):
                if message.number == wire.REPLY and message.id == number:
                    return message.status, message.body, message.meta or {}
    return None


def rows(world, title):
    return world.sql("SELECT id::text FROM kit.books WHERE title = %s", title)


def check_answer(world, name, answer, title, good):
    """Does it say what happened?"""
    if answer is None:
        return
    status, body, meta = answer
    if status == good:
        assert not title or len(rows(world, title)) == 1
        return
    assert (status, body["code"]) in (CLEAR.get(name), (503, "UNAVAILABLE")), answer
    assert not any(word in body["error"] for word in ("purpose", "pg_", "SQL", "libpq")), body
    unknown = meta.get("outcome") == "unknown"
    if status == 503:
        assert unknown or meta["retry_after"] >= 1, answer
    if title and not unknown:
        assert rows(world, title) == [], f"{name}: said to have failed, but is there"


def until_good(world, caller, good, method, params=None, body=None, patience=3.0, **meta):
    """Ask again until it is done; the answer. Faults come by chance: thirty seconds count only for who could
    ask often in them."""
    ends, tries = time.monotonic() + 30, 0
    while True:
        answer = attempt(world, caller, method, params, body, patience, **meta)
        tries += 1
        if answer and answer[0] == good:
            return answer
        assert answer is None or (answer[0], answer[1]["code"]) in NOT_NOW, answer
        assert time.monotonic() < ends or tries < 40, f"{method} never gets done: {answer}"
        time.sleep(0.02)


def check_log(world, caller, ids):
    """The log has one event of each, in a row, and who follows it hears all of it."""
    channel = f"user:{caller.id}/books"
    log = world.sql("SELECT off, key FROM kit.live_log WHERE ch = %s ORDER BY off", channel)
    assert [off for off, _ in log] == list(range(1, len(log) + 1))
    keys = [key for _, key in log]
    assert sorted(keys) == sorted(ids), "one event for each row"
    return log


def follow(subscription, last):
    """Offsets up to the last one."""
    seen = []
    while not seen or seen[-1] != last:
        item = subscription.next(timeout=10)
        assert not isinstance(item, busbar.Gap), item
        seen.append(item.off)
    return seen


def turns(world, name, one):
    """`one` (n) for every time that its way leads past the place; how many these were."""
    for n in range(1, TURNS_MAX):
        faults(world, f"{LATER.get(name, '')}{name}:{n}")
        one(n)
        if name in LATER and n == 1:
            wait_for(lambda: world.operator.call("kit.faults")[name]["failed"], name)
        if not faults(world, "none")[name]:
            return n - 1
    return TURNS_MAX


def test_every_name_is_driven(world):
    assert set(faults(world, "none")) == set(NAMES)
    assert {*WRITE, *READ, *DEADLY, "kit.offload", "kit.fetch"} == set(NAMES)


def test_unknown_names_and_nonsense_are_refused(world):
    for what in ("db.nothing:1", "db.read", "db.read:", "db.read:0", "db.read:x", "db.read:1=explode",
                 "db.read:every/0", "db.read:1=delay", "kit/db.nothing:1"):
        with pytest.raises(busbar.BusError) as refused:
            world.operator.call("kit.faults", {"set": what})
        assert refused.value.status == 400, what
    program = pathlib.Path(os.environ.get("BUSBAR_BIN", HOME / "build" / "bin")) / "busbar-broker"
    process = world.spawn([program, "--run-dir", world.directory],
                          env={**os.environ, "BUSBAR_FAULT": "bus.nothing:1"})
    assert process.wait(SOON) == 2
    assert "bus.nothing: is none of db.dial" in world.log()


def test_a_start_that_fails_for_now_says_so(world):
    """Whoever started it tries again, for as long as it takes."""
    os.environ["BUSBAR_FAULT"], other = "db.sync:6+", world.actor
    try:
        process = world.start_actor("kit.2")     # five connections, then the state is loaded
    finally:
        os.environ["BUSBAR_FAULT"], world.actor = "none", other
    assert process.wait(20) == os.EX_TEMPFAIL


@pytest.mark.parametrize("name", WRITE)
def test_a_write_with_its_key_happens_once(world, ann, name):
    made = []
    subscription = world.operator.subscribe(f"user:{ann.id}/books", off=0)
    pid = world.actor.pid

    def one(n):
        title, key = f"{name} {n}", uuid.uuid4().hex
        body, patience = {"title": title}, 0.5 if name == "kit.answer" else 8
        answer = attempt(world, ann, "books.create", None, body, patience, idempotency_key=key)
        assert answer or name == "kit.answer", f"{name}: {n}: no answer"
        check_answer(world, name, answer, title, 201)
        status, row, _ = until_good(world, ann, 201, "books.create", None, body, patience, idempotency_key=key)
        assert status == 201 and rows(world, title) == [(row["id"],)]
        made.append(row["id"])

    assert turns(world, name, one) >= 1, "nothing fails there"
    assert world.actor.poll() is None and world.actor.pid == pid
    until_good(world, ann, 201, "books.create", None, {"title": f"{name} end"})
    made.append(rows(world, f"{name} end")[0][0])
    log = check_log(world, ann, made)
    assert follow(subscription, len(log)) == list(range(1, len(log) + 1))
    subscription.close()


@pytest.mark.parametrize("name", DEADLY)
def test_a_write_with_its_key_happens_once_whoever_dies(world, ann, name):
    made = []
    subscription = world.operator.subscribe(f"user:{ann.id}/books", off=0)
    for n in range(1, TURNS_MAX):
        title, key = f"x {name} {n}", uuid.uuid4().hex
        faults(world, f"{name}:{n}=die")
        answer = attempt(world, ann, "books.create", None, {"title": title}, idempotency_key=key)
        if world.actor.poll() is None and answer and answer[0] == 201:
            #  What comes after the answer does not bring it down any more.
            faults(world, "none")
            made.append(answer[1]["id"])
            break
        revive(world)
        _, row, _ = until_good(world, ann, 201, "books.create", None, {"title": title}, idempotency_key=key)
        assert rows(world, title) == [(row["id"],)]
        made.append(row["id"])
    assert len(made) > 1, "nobody died"
    log = check_log(world, ann, made)
    assert follow(subscription, len(log)) == list(range(1, len(log) + 1))
    subscription.close()


@pytest.mark.parametrize("name", READ)
def test_a_read_is_answered_or_refused_in_time(world, ann, name):
    _, made, _ = until_good(world, ann, 201, "books.create", None, {"title": f"r {name}"})

    def one(n):
        patience = 0.5 if name == "kit.answer" else 8
        answer = attempt(world, ann, "books.get", {"id": made["id"]}, None, patience)
        assert answer or name == "kit.answer", f"{name}: {n}: no answer"
        check_answer(world, name, answer, None, 200)
        again = until_good(world, ann, 200, "books.get", {"id": made["id"]}, None, patience)
        assert again[1]["title"] == f"r {name}"

    assert turns(world, name, one) >= 1, "nothing fails there"


def test_a_lost_read_is_read_again(world, ann):
    made = until_good(world, ann, 201, "books.create", None, {"title": "again"})[1]
    for name in ("db.read", "db.commit", "db.sent", "db.ended"):
        faults(world, f"{name}:1")
        assert attempt(world, ann, "books.get", {"id": made["id"]})[0] == 200, name
        assert faults(world, "none")[name] == 1


@pytest.mark.parametrize("name", [*DATABASE, "bus.event"])
def test_lines_of_a_log_are_kept_once_and_in_order(world, ann, name):
    channel = f"user:{ann.id}/lines"

    def one(n):
        ann.call("kit.append", None, {"ch": f"{channel}/{name}{n}", "count": 40})
        count = "SELECT count (*) FROM kit.live_log WHERE ch = %s"
        wait_for(lambda: world.sql(count, f"{channel}/{name}{n}")[0][0] >= 40, f"{name}: {n}: 40 lines")
        kept = world.sql("SELECT off, (data->>'n')::int FROM kit.live_log WHERE ch = %s ORDER BY off",
                         f"{channel}/{name}{n}")
        assert kept == [(at + 1, at) for at in range(40)]

    assert turns(world, name, one) >= 1, "nothing fails there"


def test_lines_wait_for_room_on_a_full_disk(world, ann):
    channel, count = f"user:{ann.id}/lines", "SELECT count (*) FROM kit.live_log WHERE ch = %s"
    faults(world, "db.full:1+")
    ann.call("kit.append", None, {"ch": channel, "count": 40})
    wait_for(lambda: world.operator.call("kit.faults")["db.full"]["failed"] >= 3, "three attempts")
    assert world.sql(count, channel) == [(0,)]
    faults(world, "none")
    wait_for(lambda: world.sql(count, channel) == [(40,)], "40 lines")


MIXED = ("db.commit:every/7,db.sent:every/11,db.sync:every/13,db.deadlock:every/9,db.ended:every/17,"
         "bus.send:every/5,kit.co:every/19,bus.event:every/3,db.read:every/23")


def several(world, count, each):
    """`each` (caller, number) in threads, for users that share one channel."""
    one, failures = world.user(), []

    def run(number):
        caller = type(one)(world, one.id)
        try:
            each(caller, number)
        except Exception as error:               # told by the test
            failures.append(error)
        caller.close()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures, failures[:3]
    one.close()
    return one


def test_many_at_once_while_everything_fails_now_and_then(world):
    made = []

    def each(caller, number):
        for n in range(10):
            key = uuid.uuid4().hex
            made.append(until_good(world, caller, 201, "books.create", None,
                                   {"title": f"m{number} {n}"}, idempotency_key=key)[1]["id"])

    faults(world, MIXED)
    one = several(world, 6, each)
    failed = faults(world, "none")
    assert all(failed[name.split(":")[0]] for name in MIXED.split(",")), failed
    assert len(made) == len(set(made)) == 60
    check_log(world, one, made)


def test_batches_tell_the_truth_to_each_of_theirs(world):
    """Without a key writes share commits: who is told of a failure is not in it, who is told of success is."""
    told = {}

    def each(caller, number):
        for n in range(25):
            title = f"b{number} {n}"
            answer = attempt(world, caller, "books.create", None, {"title": title})
            assert answer, "no answer"
            status, body, meta = answer
            assert status in (201, 503), answer
            told[title] = "there" if status == 201 else meta.get("outcome", "not there")

    faults(world, MIXED)
    one = several(world, 8, each)
    faults(world, "none")
    there = {title for title, in world.sql("SELECT title FROM kit.books WHERE user_id = %s", one.id)}
    assert {title for title, what in told.items() if what == "there"} <= there
    assert not {title for title, what in told.items() if what == "not there"} & there
    check_log(world, one, [row for row, in world.sql("SELECT id::text FROM kit.books WHERE user_id = %s",
                                                     one.id)])
    assert set(told.values()) == {"there", "not there", "unknown"}, "all three were seen"


def test_blocking_work_and_outgoing_requests(world, ann):
    faults(world, "kit.offload:1,kit.fetch:1")
    assert attempt(world, ann, "kit.work")[0] == 429
    assert attempt(world, ann, "kit.fetch", None, {"url": "http://127.0.0.1:1/", "allow": "127.0.0.1"})[1] == {
        "status": 0, "error": "could not connect", "body": ""}
    assert faults(world, "none")["kit.fetch"] == 1
    assert attempt(world, ann, "kit.work")[0] == 200


def test_slow_places_delay_and_nothing_else(world, ann):
    faults(world, "db.commit:1+=delay20,bus.send:1+=delay5")
    assert until_good(world, ann, 201, "books.create", None, {"title": "slow"})
    assert faults(world, "none")["db.commit"] >= 1


def test_a_client_that_slept_asks_again_what_the_broker_forgot(world):
    world.operator._loop.post(time.sleep, 3)     # four heartbeats are two seconds
    assert world.operator.call("broker.stats", timeout=8, idempotent=True)["peers"] >= 1


def test_nothing_is_left_of_it(world, ann):
    def idle():
        stats = world.operator.call("kit.stats")
        return stats["live"] == 1 and stats["coroutines"] == 1 and not stats["db"]["waiting"] \
            and not stats["db"]["in_flight"]
    wait_for(idle, "an actor at rest")
