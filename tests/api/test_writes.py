"""Many units in one commit: each with its events and its stored answer, or not at all, whatever its neighbours do."""

import json
import subprocess
import uuid

from kit_world import BIN, Caller, ann, wait_for, world  # noqa: F401
from stack import SOON


def log(world, channel):
    return world.sql("SELECT off, key, type, data FROM kit.live_log WHERE ch = %s ORDER BY off", channel)


def batches(world, slot="kit.1"):
    return world.operator.call("kit.stats", slot=slot)["db"]


def creates(caller, bodies, **meta):
    """All at once: position in `bodies` -> (status, body)."""
    numbers = {caller.start("books.create", None, body, **{name: value(n) for name, value in meta.items()}): n
               for n, body in enumerate(bodies)}
    return {numbers[number]: (status, body) for number, status, body in caller.replies(numbers)}


def test_those_that_fail_leave_no_trace_and_hurt_nobody(world, ann):
    ann.call("books.create", None, {"title": "first", "code": "taken"})
    bodies = [{"title": f"n{n}", "code": "taken" if n % 7 == 3 else f"c{n}"} for n in range(200)]
    answers = creates(ann, bodies)
    good = {n for n, (status, _) in answers.items() if status == 201}
    assert good == {n for n in range(200) if n % 7 != 3}
    assert all(body["details"] == {"code": "already exists"} or body["code"] == "CONFLICT"
               for n, (_, body) in answers.items() if n not in good)
    kept = log(world, f"user:{ann.id}/books")
    assert [off for off, *_ in kept] == list(range(1, len(good) + 2))
    told = {off: (key, data["title"]) for off, key, _, data in kept}
    for n in good:
        body = answers[n][1]
        assert told[body["live"]["off"]] == (body["id"], f"n{n}")


def test_of_two_in_one_commit_that_want_the_same_the_first_has_it(world, ann):
    answers = creates(ann, [{"title": f"n{n}", "code": f"c{n // 2}"} for n in range(100)])
    assert sorted(status for status, _ in answers.values()) == [201] * 50 + [409] * 50
    assert [off for off, *_ in log(world, f"user:{ann.id}/books")] == list(range(1, 51))


def test_a_refused_transition_tells_nothing(world, ann):
    rows = [body for _, body in creates(ann, [{"title": f"n{n}"} for n in range(20)]).values()]
    numbers = [ann.start("books.lend", {"id": row["id"]}) for row in rows for _ in range(3)]
    numbers += [ann.start("books.lend", {"id": str(uuid.uuid4())}) for _ in range(5)]
    assert sorted(status for _, status, _ in ann.replies(numbers)) == [202] * 20 + [404] * 5 + [409] * 40
    kept = log(world, f"user:{ann.id}/books")
    assert [off for off, *_ in kept] == list(range(1, 41))
    lent = [key for _, key, kind, _ in kept if kind == "book.lent"]
    assert sorted(lent) == sorted(row["id"] for row in rows)


def test_answers_are_stored_with_what_they_tell_of(world, ann):
    bodies = [{"title": f"n{n}"} for n in range(100)]
    before = batches(world)["batches"]
    first = creates(ann, bodies, idempotency_key=lambda n: f"key {n}")
    #  They share commits.
    assert batches(world)["batches"] - before < 60
    again = creates(ann, bodies, idempotency_key=lambda n: f"key {n}")
    assert first == again and {status for status, _ in first.values()} == {201}
    kept = {off: key for off, key, *_ in log(world, f"user:{ann.id}/books")}
    assert sorted(kept) == list(range(1, 101))
    assert all(kept[body["live"]["off"]] == body["id"] for _, body in first.values())


def test_an_event_that_is_no_json_is_its_own_fault(world, ann):
    channel = f"user:{ann.id}/lines/{uuid.uuid4()}"
    numbers = [ann.start("kit.append", {"ch": channel, "count": "50", "bad": "true"})]
    numbers += [ann.start("books.create", None, {"title": f"n{n}"}) for n in range(100)]
    assert {status for _, status, _ in ann.replies(numbers)} == {201, 204}
    wait_for(lambda: len(log(world, channel)) == 50, "the good ones")
    assert [off for off, *_ in log(world, f"user:{ann.id}/books")] == list(range(1, 101))


def test_what_is_published_is_one_line(world, ann):
    channel = f"user:{ann.id}/lines/{uuid.uuid4()}"
    ann.call("kit.append", {"ch": channel, "count": "1"})
    with subprocess.Popen([BIN / "busbar", "sub", "--run-dir", world.run, "--from", "0", "--count", "4", channel],
                          stdout=subprocess.PIPE, text=True) as listener:
        #  From the log; now it listens.
        lines = [listener.stdout.readline()]
        ann.call("kit.append", {"ch": channel, "count": "3"})
        lines += listener.stdout.readlines()
    assert [json.loads(line)["data"] for line in lines] == [{"n": 0}, {"n": 0}, {"n": 1}, {"n": 2}]


def test_two_instances_number_one_channel(world):
    """Of what is shared, the instance of each owner tells; both write on at the same time."""
    first = world.actor
    second = world.start_actor("kit.2")
    world.actor = first
    wait_for(lambda: world.entry("kit.2"), "the second instance")
    top = max([0, *(off for off, *_ in log(world, "org:all/books"))])
    callers = [Caller(world, slot=slot) for slot in ("kit.1", "kit.2")]
    users = [str(uuid.uuid4()) for _ in range(16)]
    made = set()
    for caller in callers:
        caller.numbers = [caller.start("books.create", None, {"title": f"n{n}", "shared": True},
                                       identity={"user": user, "role": "user", "kind": "user"})
                          for n in range(15) for user in users]
    for caller in callers:
        for _, status, body in caller.replies(caller.numbers):
            assert status == 201, body
            made.add(body["id"])
        caller.close()
    kept = [entry for entry in log(world, "org:all/books") if entry[0] > top]
    assert len(made) == 2 * 15 * len(users)
    assert [off for off, *_ in kept] == list(range(top + 1, top + 1 + len(made)))
    assert {key for _, key, *_ in kept} == made
    for user in users:
        assert [off for off, *_ in log(world, f"user:{user}/books")] == list(range(1, 31))
    second.terminate()
    assert second.wait(SOON) == 0
