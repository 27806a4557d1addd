"""What every actor gets from the kit: resources, validation, idempotency, live log, streams, order, life."""

import json
import random
import signal
import subprocess
import threading
import time
import uuid

import pytest

from kit_world import Caller, Failure, ann, bob, busbar, wait_for, wire, world  # noqa: F401
from stack import SOON


def book(ann, **fields):
    return ann.call("books.create", None, {"title": "Emma", **fields})


# ---------------------------------------------------------------- resources

def test_a_row_is_created_read_changed_and_deleted(ann):
    status, made, meta = ann.ask("books.create", None, {"title": "Emma", "pageCount": 320, "tags": ["a", "b"],
                                                       "extra": {"x": [1, None]}, "pin": "1234",
                                                       "price": "12.5", "read_at": "2026-01-31T12:00:00+02:00"})
    assert status == 201 and meta["location"] == f"/books/{made['id']}"
    assert made["title"] == made["name"] == "Emma" and made["pageCount"] == 320
    assert made["genre"] == "novel" and made["tags"] == ["a", "b"] and made["extra"] == {"x": [1, None]}
    assert made["status"] == "in" and made["user_id"] == ann.id and made["price"] == 12.5
    assert made["read_at"].startswith("2026-01-31T10:00:00") and made["read_at"].endswith("Z")
    assert made["created_at"].endswith("Z") and not {"pin", "note", "pages"} & set(made)
    assert meta["live"] == made["live"] == {"ch": f"user:{ann.id}/books", "epoch": made["live"]["epoch"], "off": 1}

    status, got, meta = ann.ask("books.get", {"id": made["id"]})
    assert status == 200 and got == {k: v for k, v in made.items() if k != "live"} and meta["etag"]

    changed = ann.call("books.update", {"id": made["id"]}, {"title": "Emma 2", "pageCount": None, "id": "ignored",
                                                            "status": "hacked", "user_id": str(uuid.uuid4())})
    assert changed["title"] == "Emma 2" and changed["pageCount"] is None and changed["status"] == "in"
    assert changed["user_id"] == ann.id and changed["live"]["off"] == 2 and changed["genre"] == "novel"
    gone = ann.call("books.delete", {"id": made["id"]})
    assert gone["message"] == "Deleted" and gone["live"]["off"] == 3
    assert ann.refused(404, "books.get", {"id": made["id"]})["code"] == "NOT_FOUND"
    ann.refused(404, "books.delete", {"id": made["id"]})


def test_what_is_anothers_is_not_there(ann, bob):
    made = book(ann)
    for method, body in (("books.get", None), ("books.update", {"title": "x"}), ("books.delete", None)):
        assert bob.refused(404, method, {"id": made["id"]}, body)["code"] == "NOT_FOUND"
    assert bob.call("books.list") == [] and len(ann.call("books.list")) == 1


def test_what_is_shared_may_be_seen_but_not_changed(ann, bob):
    made = book(ann, shared=True, title="Open")
    assert bob.call("books.get", {"id": made["id"]})["title"] == "Open"
    assert bob.refused(403, "books.update", {"id": made["id"]}, {"title": "x"})["code"] == "FORBIDDEN"
    ann.call("books.delete", {"id": made["id"]})


def test_every_bad_field_is_named(ann):
    error = ann.refused(400, "books.create", None, {
        "pageCount": 0, "genre": "opera", "tags": ["a", 1], "shelf_id": "x", "read_at": "yesterday",
        "printed": "2026-02-30", "price": "much", "shared": "maybe"})
    assert error["code"] == "INVALID"
    assert set(error["details"]) == {"title", "pageCount", "genre", "tags", "shelf_id", "read_at", "printed", "price",
                                     "shared"}
    assert error["details"]["pageCount"] == "must be between 1 and 5000"
    assert error["details"]["genre"] == "must be one of novel, essay, poem"
    assert ann.refused(400, "books.create", None, [1])["error"] == "body must be an object"
    error = ann.refused(400, "books.create", None, {"title": "forbidden"})
    assert error["details"] == {"title": "is forbidden"} and error["error"] == "title is forbidden"
    assert ann.refused(400, "books.create", None, {"title": "x" * 21})["details"]["title"] == "must have 1 to 20 characters"


def test_unknown_fields_are_named_or_refused(ann):
    status, _, meta = ann.ask("books.create", None, {"title": "Emma", "colour": "red"})
    assert status == 201 and meta["ignored"] == ["colour"]
    error = ann.refused(400, "books.create", None, {"title": "Emma", "colour": "red"}, prefer="handling=strict")
    assert error["details"] == {"colour": "is not known"}


def test_ids_that_are_none_are_not_found(ann):
    for bad in ("1", "", "x" * 36, "../etc", None):
        ann.refused(404, "books.get", {"id": bad})


def test_if_match_guards_against_lost_updates(ann):
    made = book(ann)
    _, _, meta = ann.ask("books.get", {"id": made["id"]})
    first = meta["etag"]
    _, _, meta = ann.ask("books.update", {"id": made["id"]}, {"title": "B"}, if_match=first)
    assert meta["etag"] != first
    assert ann.refused(412, "books.update", {"id": made["id"]}, {"title": "C"}, if_match=first)["code"] == "PRECONDITION"
    ann.refused(412, "books.delete", {"id": made["id"]}, if_match=first)
    ann.refused(412, "books.delete", {"id": made["id"]}, if_match='"nonsense"')
    ann.call("books.delete", {"id": made["id"]}, if_match=meta["etag"])


def test_lists_are_filtered_sorted_and_paged(ann):
    for number in range(7):
        book(ann, title=f"b{number}", pageCount=number + 1 if number != 3 else None, content="long")
    newest = ann.call("books.list")
    assert [row["title"] for row in newest] == [f"b{n}" for n in range(6, -1, -1)] and "content" not in newest[0]
    assert [row["title"] for row in ann.call("books.list", {"title": "b2"})] == ["b2"]
    for sort, expected in (("pageCount", [0, 1, 2, 4, 5, 6, 3]), ("-pages", [6, 5, 4, 2, 1, 0, 3]), ("created_at", range(7))):
        titles, cursor = [], None
        while True:
            params = {"sort": sort, "limit": "2", **({"cursor": cursor} if cursor else {})}
            _, rows, meta = ann.ask("books.list", params)
            assert len(rows) <= 2
            titles += [row["title"] for row in rows]
            cursor = meta.get("headers", {}).get("X-Next-Cursor")
            if not cursor:
                break
        assert titles == [f"b{n}" for n in expected], sort
    assert "limit" in ann.refused(400, "books.list", {"limit": "0"})["details"]
    assert "sort" in ann.refused(400, "books.list", {"sort": "pin"})["details"]
    assert "cursor" in ann.refused(400, "books.list", {"cursor": "e30"})["details"]


def test_database_constraints_speak_of_fields(ann):
    error = ann.refused(404, "books.create", None, {"title": "Emma", "shelf_id": str(uuid.uuid4())})
    assert error["details"] == {"shelf_id": "does not exist"}
    book(ann, code="c1")
    error = ann.refused(409, "books.create", None, {"title": "Emma", "code": "c1"})
    assert error["details"] == {"code": "is already taken"} and "books_code" not in json.dumps(error)


def test_a_parent_of_another_tenant_is_refused(ann, bob):
    shelf = bob.call("shelves.create", None, {"name": uuid.uuid4().hex})
    ann.refused(404, "books.create", None, {"title": "Emma", "shelf_id": shelf["id"]})


def test_a_parent_goes_after_its_dependants(world, ann):
    shelf = ann.call("shelves.create", None, {"name": uuid.uuid4().hex})
    books = [book(ann, shelf_id=shelf["id"]) for _ in range(3)]
    asked = []

    class Librarian(busbar.Actor):
        def _hello(self):
            return {**super()._hello(), "dependants": [{"parent": "shelf", "method": "librarian.on_delete.shelf"}]}

    other = Librarian("librarian", broker=world.run)

    @other.method("on_delete.shelf", auth="operator", fields={"id": "uuid", "user": "uuid"})
    def let_go(request):
        asked.append((request["id"], request["user"]))
        return {"message": "Released"}

    thread = threading.Thread(target=other.run, args=(False,), daemon=True)
    thread.start()
    wait_for(lambda: any(e.get("name") == "librarian" for e in world.operator.directory.values()), "librarian")
    assert ann.call("shelves.delete", {"id": shelf["id"]})["message"] == "Deleted"
    assert asked == [(shelf["id"], ann.id)]
    for row in books:
        ann.refused(404, "books.get", {"id": row["id"]})
    other.stop()
    thread.join(SOON)


def test_a_guarded_transition_happens_once(ann):
    made = book(ann)
    status, lent, _ = ann.ask("books.lend", {"id": made["id"]})
    assert status == 202 and lent["status"] == "lent" and lent["title"] == lent["name"] == "Emma"
    assert lent["live"]["off"] == 2 and "user_id" not in lent
    assert ann.refused(409, "books.lend", {"id": made["id"]})["error"] == "book is lent"
    ann.refused(404, "books.lend", {"id": str(uuid.uuid4())})


# ---------------------------------------------------------------- idempotency

def test_a_repeated_request_gets_the_stored_answer(world, ann):
    status, first, meta = ann.ask("books.create", None, {"title": "Once"}, idempotency_key="k1")
    assert status == 201 and "headers" not in meta and meta["live"] == first["live"]
    status, again, meta = ann.ask("books.create", None, {"title": "Once"}, idempotency_key="k1")
    assert status == 201 and again == first and meta["headers"]["Idempotency-Replayed"] == "true"
    assert meta["location"] == f"/books/{first['id']}" and meta["etag"]
    assert len(ann.call("books.list")) == 1
    assert ann.refused(422, "books.create", None, {"title": "Other"}, idempotency_key="k1")["code"] == "KEY_REUSED"
    world.kill_actor()
    status, again, _ = ann.ask("books.create", None, {"title": "Once"}, idempotency_key="k1")
    assert status == 201 and again == first


def test_two_at_once_with_one_key_write_once(ann):
    numbers = [ann.start("books.create", None, {"title": "Twin"}, idempotency_key="k2") for _ in range(2)]
    assert sorted(status for _, status, _ in ann.replies(numbers)) == [201, 409]
    assert len(ann.call("books.list")) == 1


def test_what_failed_may_be_tried_again_with_the_same_key(ann):
    made = book(ann)
    ann.call("books.lend", {"id": made["id"]})
    for _ in range(2):
        ann.refused(409, "books.lend", {"id": made["id"]}, idempotency_key="k3")
    gone = ann.call("books.delete", {"id": made["id"]}, idempotency_key="k4")
    assert ann.call("books.delete", {"id": made["id"]}, idempotency_key="k4") == gone


# ---------------------------------------------------------------- live

def test_events_are_contiguous_and_follow_the_commit(world, ann):
    channel = f"user:{ann.id}/books"
    with busbar.Client(world.run) as client:
        events = client.subscribe(channel)
        rows = [book(ann) for _ in range(5)]
        numbers = [ann.start("books.update", {"id": row["id"]}, {"title": f"n{i}"}) for i in range(10) for row in rows]
        ann.replies(numbers)
        ann.call("books.delete", {"id": rows[0]["id"]})
        got = [next(events) for _ in range(56)]
    assert [event.off for event in got] == list(range(1, 57))
    assert got[0].type == "book.created" and got[0].key == got[0].data["id"] == rows[0]["id"]
    assert got[0].data["title"] == got[0].data["name"] == "Emma" and got[0].data["created_at"].endswith("Z")
    assert not {"pin", "note", "content"} & set(got[0].data)
    assert got[-1].type == "book.deleted" and got[-1].data == {"id": rows[0]["id"]}


def test_live_read_gives_what_was_missed(world, ann):
    rows = [book(ann) for _ in range(6)]
    channel = f"user:{ann.id}/books"
    read = lambda **params: world.operator.call("kit.live.read", {"ch": channel, **params})  # noqa: E731
    answer = read(**{"from": 2, "limit": 3})
    assert [e["off"] for e in answer["events"]] == [3, 4, 5] and answer["top"] == 6 and answer["floor"] == 1
    assert answer["events"][0]["data"]["id"] == rows[2]["id"] and answer["events"][0]["at"].endswith("Z")
    assert answer["epoch"] == rows[0]["live"]["epoch"] and "gap" not in answer
    assert read(**{"from": 6})["events"] == []
    gap = read(**{"from": 2, "epoch": "other"})
    assert gap["gap"] == {"from": 3, "to": 6, "why": "epoch"} and gap["events"] == []
    world.sql("DELETE FROM kit.live_log WHERE ch = %s AND off <= 4", channel)
    gap = read(**{"from": 2})
    assert gap["gap"] == {"from": 3, "to": 4, "why": "retention"} and [e["off"] for e in gap["events"]] == [5, 6]
    with pytest.raises(Failure) as refused:
        ann.call("kit.live.read", {"ch": channel})
    assert refused.value.status == 403


def test_a_snapshot_begins_where_its_rows_end(world, ann):
    rows = [book(ann, title=f"s{n}") for n in range(3)]
    ann.call("books.delete", {"id": rows[1]["id"]})
    shot = world.operator.call("kit.live.snapshot", {"ch": f"user:{ann.id}/books"})
    assert [row["title"] for row in shot["rows"]] == ["s2", "s0"] and shot["off"] == 4 and shot["cursor"] is None
    world.sql("INSERT INTO kit.books (user_id, title, genre, tags, shared) "
              "SELECT %s, 'n' || n, 'novel', '[]', false FROM generate_series (1, 1200) n", ann.id)
    seen, cursor = set(), None
    while True:
        shot = world.operator.call("kit.live.snapshot", {"ch": f"user:{ann.id}/books", **({"cursor": cursor} if cursor else {})})
        assert shot["off"] == 4
        seen |= {row["id"] for row in shot["rows"]}
        cursor = shot["cursor"]
        if cursor is None:
            break
    assert len(seen) == 1202


def test_what_is_shared_has_a_channel_besides(world, ann):
    top = world.operator.call("kit.live.read", {"ch": "org:all/books"})["top"]
    made = book(ann, shared=True)
    read = world.operator.call("kit.live.read", {"ch": "org:all/books", "from": top})
    assert [e["key"] for e in read["events"]] == [made["id"]]
    shot = world.operator.call("kit.live.snapshot", {"ch": "org:all/books"})
    assert made["id"] in {row["id"] for row in shot["rows"]}
    ann.call("books.delete", {"id": made["id"]})


def test_appended_events_are_kept_in_order_and_a_bad_one_hurts_nobody(world, ann):
    channel = f"user:{ann.id}/lines/{uuid.uuid4()}"
    ann.call("kit.append", {"ch": channel, "count": "120", "bad": "true"})
    ann.call("kit.append", {"ch": channel, "count": "30"})
    read = lambda at: world.operator.call("kit.live.read", {"ch": channel, "from": at})  # noqa: E731
    answer = wait_for(lambda: (a := read(0))["top"] == 150 and a, "150 events")
    assert [e["off"] for e in answer["events"]] == list(range(1, 151))
    assert [e["data"]["n"] for e in answer["events"]] == [*range(120), *range(30)]


# ---------------------------------------------------------------- requests

def test_who_may(world, ann):
    nobody = Caller(world)
    nobody.identity = {"kind": "anon"}
    assert nobody.refused(401, "books.list")["code"] == "UNAUTHORIZED"
    assert ann.refused(403, "kit.admin", {"ms": "0"})["code"] == "FORBIDDEN"
    chief = world.user("admin")
    assert chief.call("kit.admin", {"ms": "0"}) == {"message": "slept"}
    assert ann.refused(404, "books.burn")["code"] == "NOT_FOUND"
    for caller in (nobody, chief):
        caller.close()


def test_calls_for_one_id_keep_their_order(ann):
    one, other = str(uuid.uuid4()), str(uuid.uuid4())
    numbers = [ann.start("books.turn", {"id": one}) for _ in range(5)]
    answers = ann.replies(numbers)
    assert [number for number, _, _ in answers] == numbers and {body["inside"] for _, _, body in answers} == {1}
    numbers = [ann.start("books.turn", {"id": i}) for i in (one, other)]
    assert {body["inside"] for _, _, body in ann.replies(numbers)} == {1, 2}


def test_deadlines_and_cancellation(world, ann):
    number = ann.start("kit.nap", {"ms": "30000"})
    ann.call("kit.work")
    ann.send(wire.CANCEL, id=number)
    stats = lambda: world.operator.call("kit.stats")  # noqa: E731
    wait_for(lambda: stats()["live"] == 1, "the end of what was cancelled")
    began = time.monotonic()
    error = ann.refused(504, "kit.slow", {"seconds": "20"}, ttl=300)
    assert error["code"] == "TIMEOUT" and time.monotonic() - began < 5
    assert stats()["methods"]["kit.nap"]["calls"] >= 1


def test_who_waits_in_vain_stops_nobody(world, ann):
    number = ann.start("kit.stay", {"ms": "1000"})
    ann.call("kit.work")
    ann.send(wire.CANCEL, id=number)
    assert ann.call("kit.stay", {"ms": "1000"}, ttl=100) == {"message": "stayed"}
    ann.call("kit.work")
    wait_for(lambda: world.operator.call("kit.stats")["live"] == 1, "the end of what nobody waits for")


def test_beyond_1024_at_once_the_rest_is_told_to_come_again(world, ann):
    #  All are there before the first one wakes.
    numbers = [ann.start("kit.nap", {"ms": "4000"}) for _ in range(1100)]
    statuses = [status for _, status, _ in ann.replies(numbers)]
    assert statuses.count(503) == 76 and statuses.count(200) == 1024


def test_offload_waits_beside_the_loop(ann):
    numbers = [ann.start("kit.work") for _ in range(10)]
    assert all(body == {"message": "42"} for _, _, body in ann.replies(numbers))


def test_who_waits_long_for_a_thread_is_sent_away(ann):
    numbers = [ann.start("kit.work", {"ms": "5200"}, ttl=60000) for _ in range(2)]
    numbers.append(ann.start("kit.work", {"ms": "0"}, ttl=60000))
    assert sorted(status for _, status, _ in ann.replies(numbers)) == [200, 200, 429]


def test_reports_are_cached_for_their_caller(ann, bob):
    assert ann.call("books.count") == {"count": 0, "about": "all"}
    book(ann)
    assert ann.call("books.count") == {"count": 0, "about": "all"}
    assert ann.call("books.count", {"about": "x"}) == {"count": 1, "about": "x"}
    assert bob.call("books.count", {"about": "x"}) == {"count": 0, "about": "x"}


def test_errors_of_statements_become_answers(ann):
    assert ann.refused(409, "kit.refuse")["error"] == "book is on fire"


def test_one_actor_calls_another_for_its_user(world, ann):
    made = book(ann)
    answer = ann.call("kit.pass", None, {"method": "books.get", "params": {"id": made["id"]}})
    assert answer["id"] == made["id"]
    assert ann.refused(404, "kit.pass", None, {"method": "books.get", "params": {"id": str(uuid.uuid4())}})["code"] == "NOT_FOUND"


def test_work_of_its_own_goes_on_beside_requests(world, ann):
    top = world.operator.call("kit.live.read", {"ch": "sys/kit"})["top"]
    status, body, _ = ann.ask("kit.spawn")
    assert (status, body) == (204, None)
    wait_for(lambda: world.operator.call("kit.live.read", {"ch": "sys/kit"})["top"] == top + 1, "the spawned work")


def test_nonsense_never_is_our_fault(world, ann):
    dice = random.Random(7)
    texts = ["", "0", "-1", "x" * 300, "\x00", "\u2028", "1e999", "null", "true", "[]", "{", "2026-13-01", "'; --",
             "00000000-0000-0000-0000-000000000000", "\U0001f600" * 30, "%s%n", "\\", "e30"]

    def value(depth=0):
        kind = dice.randrange(9 if depth < 3 else 6)
        if kind < 2:
            return dice.choice(texts)
        if kind < 6:
            return dice.choice([None, True, False, 0, -1, 2**31, 2**63 - 1, 2**64 - 1, -2**63, 0.5, 1e308,
                                float("inf"), float("nan"), b"\xff\x00"])
        if kind == 6:
            return [value(depth + 1) for _ in range(dice.randrange(4))]
        return {dice.choice(names): value(depth + 1) for _ in range(dice.randrange(6))}

    names = ["id", "user_id", "shelf_id", "title", "name", "pages", "pageCount", "genre", "tags", "extra", "content",
             "price", "printed", "read_at", "shared", "code", "pin", "note", "status", "limit", "cursor", "sort", "about",
             "live", "", "wait", "\x00"]
    own = book(ann)["id"]
    methods = ["books.list", "books.get", "books.create", "books.update", "books.delete", "books.lend", "books.count",
               "shelves.create", "shelves.delete", "shelves.list", "kit.live.read", "kit.live.snapshot"]
    boot = world.entry()["boot"]
    for _ in range(1500):
        method = dice.choice(methods)
        params = value(2) if dice.random() < 0.2 else {name: value(2) for name in dice.sample(names, 3)}
        if dice.random() < 0.5 and isinstance(params, dict):
            params["id"] = own
        identity = None if method.startswith("kit.") else ann.identity
        status, body, _ = ann.ask(method, params, value(), identity=identity,
                                  **({"if_match": dice.choice(texts)} if dice.random() < 0.2 else {}),
                                  **({"idempotency_key": dice.choice(texts)} if dice.random() < 0.2 else {}))
        assert status < 500, (method, params, body)
        assert status < 400 or (body["code"] and body["error"] and "\n" not in body["error"])
    assert world.entry()["boot"] == boot and ann.call("books.count", {"about": "alive"})["about"] == "alive"


# ---------------------------------------------------------------- streams

def test_downloads_flow_under_credit(world):
    got = b"".join(world.operator.stream("kit.download", {"size": "1000001"}))
    assert len(got) == 1000001 and set(got) == {ord("x")}
    with pytest.raises(busbar.BusError) as broken:
        b"".join(world.operator.stream("kit.download", {"size": "100001", "broken": "true"}))
    assert broken.value.code == "UPSTREAM"


def test_uploads_flow_under_credit(world):
    assert world.operator.upload("kit.upload", [b"y" * 100000] * 11) == {"size": 1100000}


def test_a_reader_who_leaves_stops_the_stream(world):
    stream = world.operator.stream("kit.download", {"size": "100000000"})
    next(stream)
    stream.close()
    wait_for(lambda: world.operator.call("kit.stats")["live"] == 1, "the end of the stream")


# ---------------------------------------------------------------- outgoing

def test_private_addresses_are_out_of_reach(ann):
    for url in ("http://127.0.0.1:1/", "http://localhost:1/", "http://[::1]:1/", "http://169.254.169.254/",
                "http://10.1.2.3/", "http://[::ffff:127.0.0.1]/", "http://0x7f000001/", "http://2130706433/"):
        assert ann.call("kit.fetch", {"url": url})["error"] == "address is not allowed", url
    assert "protocol" in ann.call("kit.fetch", {"url": "file:///etc/passwd"})["error"]


def test_an_address_that_the_operator_lists_is_reached(ann):
    import http.server

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/" else 302)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_port}"
    answer = ann.call("kit.fetch", {"url": f"http://{host}/", "allow": f"example.org:80,{host}"})
    assert answer == {"status": 200, "error": None, "body": "hello"}
    assert ann.call("kit.fetch", {"url": f"http://{host}/away", "allow": host})["status"] == 302
    server.shutdown()


# ---------------------------------------------------------------- life

def test_an_acknowledged_write_survives_any_death(world, ann):
    kept = []
    for _ in range(3):
        numbers = [ann.start("books.create", None, {"title": "Kept"}) for _ in range(60)]
        seen = 0
        for message in ann.messages():
            if message.number == wire.REPLY and message.id in numbers:
                assert message.status == 201
                kept.append(message.body)
                seen += 1
                if seen == 20:
                    break
        world.kill_actor()
    rows = {row["id"] for row in ann.call("books.list")}
    assert {body["id"] for body in kept} <= rows
    offs = [off for (off,) in world.sql("SELECT off FROM kit.live_log WHERE ch = %s ORDER BY off", f"user:{ann.id}/books")]
    assert offs == list(range(1, len(rows) + 1))
    assert book(ann)["live"]["off"] == len(rows) + 1


def test_a_database_that_restarts_is_waited_for(world, ann):
    made = book(ann)
    world.pg.restart()
    world.admin = world.pg.connect()
    wait_for(lambda: ann.ask("books.get", {"id": made["id"]})[0] == 200, "the database")
    wait_for(lambda: ann.ask("books.update", {"id": made["id"]}, {"title": "x"})[0] == 200, "the lane of writes")


def test_a_write_that_reached_the_wrong_instance_goes_on_to_the_owner(world):
    first, slot = world.actor, "kit.2"
    second = world.start_actor(slot)
    world.actor = first
    wait_for(lambda: world.entry(slot), "the second instance")
    stats = lambda at: world.operator.call("kit.stats", slot=at)["bus"]["calls"]  # noqa: E731
    before = stats("kit.1"), stats("kit.2")
    wait_for(lambda: len([e for e in world.operator.directory.values() if e["name"] == "kit"]) == 2, "both")
    users = [str(uuid.uuid4()) for _ in range(12)]
    numbers = {}
    callers = [Caller(world, users[0], slot=at) for at in ("kit.1", "kit.2")]
    for user in users:
        for caller in callers:
            caller.id, caller.identity = user, {"user": user, "role": "user", "kind": "user"}
            made = [book(caller) for _ in range(3)]
            numbers.setdefault(user, []).extend(row["live"]["off"] for row in made)
            status, again, meta = caller.ask("books.create", None, {"title": "Once"}, idempotency_key="k")
            assert status == 201
    assert all(offs == [1, 2, 3, 5, 6, 7] for offs in numbers.values()), numbers
    assert sum((stats("kit.1"), stats("kit.2"))) - sum(before) == 12 * 4
    for caller in callers:
        caller.close()
    second.send_signal(signal.SIGTERM)
    assert second.wait(SOON) == 0


def test_old_events_go_but_never_the_last(world, ann):
    first = world.actor
    for _ in range(9):
        last = book(ann)["live"]["off"]
    quiet = world.user()
    book(quiet)
    quiet.close()
    world.sql("UPDATE kit.live_log SET at = now () - interval '8 days' WHERE ch = %s", f"user:{quiet.id}/books")
    trimmer = world.start_actor("kit.2", "--live-max", "4", "--live-trim", "1")
    world.actor = first
    count = lambda who: world.sql("SELECT count(*) FROM kit.live_log WHERE ch = %s", f"user:{who.id}/books")[0][0]  # noqa: E731
    wait_for(lambda: count(ann) == 4, "the end of old events")
    assert count(quiet) == 1
    read = world.operator.call("kit.live.read", {"ch": f"user:{ann.id}/books", "from": 2}, slot="kit.1")
    assert read["gap"] == {"from": 3, "to": last - 4, "why": "retention"}
    assert [e["off"] for e in read["events"]] == list(range(last - 3, last + 1))
    trimmer.send_signal(signal.SIGTERM)
    assert trimmer.wait(SOON) == 0
    assert book(ann)["live"]["off"] == last + 1


def test_it_drains_before_it_goes(world, ann):
    number = ann.start("kit.nap", {"ms": "400"})
    ann.call("kit.work")
    world.actor.send_signal(signal.SIGTERM)
    assert [(n, status) for n, status, _ in ann.replies([number])] == [(number, 200)]
    assert world.actor.wait(SOON) == 0
    world.start_actor()
    wait_for(world.entry, "the next incarnation")


def test_it_goes_in_order_while_work_of_its_own_is_under_way(world):
    first = world.actor
    for _ in range(5):
        hurried = world.start_actor("kit.2", "--hurry", "yes")
        world.actor = first
        wait_for(lambda: world.entry("kit.2"), "the second instance")
        hurried.send_signal(signal.SIGTERM)
        assert hurried.wait(SOON) == 0, world.log()[-3000:]
        wait_for(lambda: not world.entry("kit.2"), "its end")


def test_a_wrong_option_or_statement_ends_it_at_once(world):
    program = world.actor.args[0]
    assert subprocess.run([program, "--nonsense"], capture_output=True).returncode == 2
    world.sql("ALTER TABLE kit.books RENAME COLUMN pages TO sheets")
    first = world.actor
    try:
        second = world.start_actor("kit.2")
        assert second.wait(SOON) == 1 and "pages" in world.log()
    finally:
        world.actor = first
        world.sql("ALTER TABLE kit.books RENAME COLUMN sheets TO pages")
