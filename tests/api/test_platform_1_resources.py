"""Workspaces and notebooks as the clients (a), (b) and (c) send and read them."""

import threading
import uuid

import httpx
import pytest

from client import User
from kernel_world import Notebook

NOWHERE = "5c1d7c0e-3c1f-4c2b-9d0a-0e6f6b1d2a77"


@pytest.fixture(scope="module")
def user(sign_up):
    return sign_up("platform")


@pytest.fixture(scope="module")
def workspace(user):
    return user.post("/workspaces", {"name": "ours"}, expect=201)


FULL = {"name": "Data", "description": "all of it", "category": "etl", "tags": ["a", "b"], "icon": "db",
        "color": "#fff", "cloud_profile_id": None, "provider": "aws",
        "config": {"crossAccountRoleArn": "arn:aws:iam::1:role/x", "region": "us-east-1",
                   "vpcCidr": "10.0.0.0/16", "rootS3Bucket": "b"}}


def without_live(row):
    return {name: row[name] for name in row if name != "live"}


def test_a_workspace_as_the_modal_makes_it(user):
    response = user.request("POST", "/workspaces", FULL, expect=201)
    made = response.json()
    assert {name: made[name] for name in FULL} == FULL
    assert made["user_id"] == user.id
    assert made["created_at"].endswith("Z") and made["updated_at"].endswith("Z")
    assert response.headers["location"] == f"/workspaces/{made['id']}"
    assert user.get(f"/workspaces/{made['id']}") == without_live(made)
    listed = user.get("/workspaces")
    assert isinstance(listed, list) and listed[0] == without_live(made)
    assert user.request("DELETE", f"/workspaces/{made['id']}", expect=200).json()["message"] == "Deleted"
    user.get(f"/workspaces/{made['id']}", expect=404)
    user.delete(f"/workspaces/{made['id']}", expect=404)


def test_a_list_of_nothing_is_an_empty_array(sign_up):
    fresh = sign_up("empty")
    assert fresh.get("/workspaces") == []
    assert fresh.get("/notebooks") == []
    assert fresh.get(f"/notebooks?workspace_id={NOWHERE}") == []


def test_defaults(user):
    made = user.post("/workspaces", {"name": "bare"}, expect=201)
    assert (made["tags"], made["config"], made["description"], made["provider"]) == ([], {}, None, None)
    notebook = user.post("/notebooks", {"name": "bare"}, expect=201)
    assert (notebook["language"], notebook["content"], notebook["workspace_id"], notebook["cluster_id"]) == \
        ("python", {"cells": []}, None, None)


@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
def test_an_update_changes_what_it_carries(user, verb):
    made = user.post("/workspaces", FULL, expect=201)
    path = f"/workspaces/{made['id']}"
    after = user.request(verb, path, {"description": "less", "tags": []}, expect=200).json()
    assert (after["description"], after["tags"]) == ("less", [])
    assert {**without_live(after), "description": FULL["description"], "tags": FULL["tags"],
            "updated_at": made["updated_at"]} == without_live(made)
    assert after["updated_at"] > made["updated_at"]
    cleared = user.request(verb, path, {"description": None, "provider": None}, expect=200).json()
    assert (cleared["description"], cleared["provider"]) == (None, None)
    assert "name" in user.request(verb, path, {"name": None}, expect=400).json()["details"]
    assert user.request(verb, path, {}, expect=200).json()["name"] == "Data"


def test_a_whole_object_sent_back_is_taken(user, workspace):
    shown = user.get(f"/workspaces/{workspace['id']}")
    response = user.request("PUT", f"/workspaces/{workspace['id']}", {**shown, "name": "renamed"},
                            expect=200)
    assert response.json()["name"] == "renamed"
    assert "x-ignored-fields" not in response.headers


def test_read_only_fields_are_ignored(user, bob):
    mine = user.post("/workspaces", {"name": "mine", "id": NOWHERE, "user_id": bob.id,
                                     "created_at": "2000-01-01T00:00:00Z"}, expect=201)
    assert mine["id"] != NOWHERE and mine["user_id"] == user.id and mine["created_at"] > "2020"
    after = user.put(f"/workspaces/{mine['id']}", {"user_id": bob.id, "id": NOWHERE})
    assert (after["id"], after["user_id"]) == (mine["id"], user.id)
    bob.get(f"/workspaces/{mine['id']}", expect=404)
    notebook = user.post("/notebooks", {"name": "n", "user_id": bob.id}, expect=201)
    assert notebook["user_id"] == user.id


def test_unknown_fields_are_named_or_refused(user):
    response = user.request("POST", "/workspaces", {"name": "x", "nonsense": 1, "other": {"a": 2}},
                            expect=201)
    assert {name.strip() for name in response.headers["x-ignored-fields"].split(",")} == \
        {"nonsense", "other"}
    strict = {"Prefer": "handling=strict"}
    refused = user.request("POST", "/workspaces", {"name": "strict?", "nonsense": 1}, headers=strict,
                           expect=400).json()
    assert refused["details"] == {"nonsense": "is not known"}
    user.request("PUT", f"/workspaces/{response.json()['id']}", {"nonsense": 1}, headers=strict, expect=400)
    user.request("POST", "/workspaces", {"name": "strict"}, headers=strict, expect=201)
    assert "strict?" not in [row["name"] for row in user.get("/workspaces?limit=10000")]


WRONG = [("name", 5), ("name", ""), ("name", "n" * 256), ("name", ["a"]), ("name", {}), ("name", True),
         ("tags", "a"), ("tags", [1]), ("tags", {"a": 1}), ("provider", "ibm"), ("provider", 5),
         ("config", "x"), ("config", []), ("config", 5), ("cloud_profile_id", "x"), ("description", 5),
         ("cloud_profile_id", 5)]


@pytest.mark.parametrize("field, value", WRONG)
def test_a_wrong_value_names_its_field(user, workspace, field, value):
    for verb, path in (("POST", "/workspaces"), ("PUT", f"/workspaces/{workspace['id']}")):
        answer = user.request(verb, path, {"name": "x", field: value}, expect=400).json()
        assert answer["code"] == "INVALID"
        assert list(answer["details"]) == [field]
        assert field in answer["error"] and answer["error"] == answer["message"] == answer["detail"]


@pytest.mark.parametrize("field, value", [
    ("language", "cobol"), ("content", "x"), ("content", []), ("workspace_id", "x"), ("name", None),
    ("cluster_id", 7)])
def test_a_wrong_notebook_names_its_field(user, field, value):
    answer = user.post("/notebooks", {"name": "x", field: value}, expect=400)
    assert list(answer["details"]) == [field]


def test_several_wrong_fields_are_all_named(user):
    answer = user.post("/workspaces", {"tags": 1, "provider": "x", "config": 2}, expect=400)
    assert set(answer["details"]) == {"name", "tags", "provider", "config"}


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"5", b"null", b"", b"{", b'{"name":"a"}x', b"\xff",
                                  b'{"name":"a","name":"b"}', b'{"name":NaN}', b'{"name":"\\ud800"}',
                                  b"[" * 100000, b'{"name":"a\\u0000b"}'])
def test_a_body_that_is_no_object(user, body):
    answer = user.request("POST", "/workspaces", content=body, expect=400,
                          headers={"Content-Type": "application/json"}).json()
    assert answer["code"] == "INVALID" and answer["request_id"]


@pytest.mark.parametrize("name", ["x", "1", NOWHERE[:-1], NOWHERE + "0", "'--", "%25", "%20",
                                  NOWHERE, "{" + NOWHERE + "}", NOWHERE.replace("-", "")])
def test_ids_that_are_not_there(user, name):
    for kind in ("workspaces", "notebooks"):
        for verb, body in (("GET", None), ("PUT", {"name": "x"}), ("DELETE", None)):
            user.request(verb, f"/{kind}/{name}", body, expect=404)


def test_an_address_is_never_cut_at_a_nul(user, workspace):
    path = f"/workspaces/{workspace['id']}"
    for bad in (f"{path}%00x", path.replace("/w", "%00/w"), "/workspaces/%00x", "/workspaces?name=a%00b"):
        for verb in ("GET", "DELETE"):
            try:
                user.request(verb, bad, expect=(400, 404))
            except httpx.RemoteProtocolError:
                pass                             # hung up on: as good
    assert user.get(path)["id"] == workspace["id"]


def test_an_id_has_no_case(user, workspace):
    assert user.get(f"/workspaces/{workspace['id'].upper()}")["id"] == workspace["id"]


def test_strange_text_comes_back_as_it_went(user):
    for text in ("ünï 😀 ‮", "a'b\"c\\d", "<script>", "%s%n", "\t\n", "x" * 255, "ä" * 255, "\x7f\x01"):
        made = user.post("/workspaces", {"name": text, "config": {text: [text, 2**53, 1.5, None]}}, expect=201)
        shown = user.get(f"/workspaces/{made['id']}")
        assert shown["name"] == text and shown["config"] == {text: [text, 2**53, 1.5, None]}


# ---------------------------------------------------------------- versions


def test_an_etag_saves_the_body(user, workspace):
    path = f"/workspaces/{workspace['id']}"
    first = user.request("GET", path, expect=200)
    etag = first.headers["etag"]
    same = user.request("GET", path, headers={"If-None-Match": etag}, expect=304)
    assert same.content == b"" and same.headers["etag"] == etag
    for match in (f'"other", {etag}', "*", f"W/{etag}"):
        user.request("GET", path, headers={"If-None-Match": match}, expect=304)
    user.request("GET", path, headers={"If-None-Match": '"other"'}, expect=200)
    user.put(path, {"description": uuid.uuid4().hex})
    changed = user.request("GET", path, headers={"If-None-Match": etag}, expect=200)
    assert changed.headers["etag"] != etag


def test_a_lost_update_is_refused(user):
    made = user.request("POST", "/workspaces", {"name": "one"}, expect=201)
    path, etag = f"/workspaces/{made.json()['id']}", made.headers["etag"]
    second = user.request("PUT", path, {"name": "two"}, headers={"If-Match": etag}, expect=200)
    refused = user.request("PUT", path, {"name": "three"}, headers={"If-Match": etag}, expect=412)
    assert refused.json()["code"] == "PRECONDITION"
    user.request("DELETE", path, headers={"If-Match": etag}, expect=412)
    for match in ('"x"', '"00000000000000000000"', "x", '"99999999999999999999"'):
        user.request("PUT", path, {"name": "three"}, headers={"If-Match": match}, expect=412)
    assert user.get(path)["name"] == "two"
    user.request("PUT", path, {"name": "four"}, headers={"If-Match": "*"}, expect=200)
    assert second.headers["etag"] != etag
    last = user.request("GET", path).headers["etag"]
    user.request("DELETE", path, headers={"If-Match": last}, expect=200)


def test_one_of_two_that_change_the_same_version_wins(user):
    made = user.request("POST", "/notebooks", {"name": "race"}, expect=201)
    path, etag = f"/notebooks/{made.json()['id']}", made.headers["etag"]
    statuses, gate = [], threading.Barrier(4)

    def change(number):
        client = User(user.base, user.token)
        gate.wait()
        statuses.append(client.request("PUT", path, {"name": f"race {number}"},
                                       headers={"If-Match": etag}).status_code)
        client.close()

    threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 412, 412, 412]


# ---------------------------------------------------------------- lists


def test_pages_hold_everything_once(sign_up):
    user = sign_up("pages")
    made = [user.post("/workspaces", {"name": f"{n:02}", "category": "odd" if n % 2 else "even"},
                      expect=201)["id"] for n in range(23)]
    for sort, wanted in (("", made[::-1]), ("&sort=created_at", made), ("&sort=name", made),
                         ("&sort=-name", made[::-1])):
        ids, cursor = [], ""
        while True:
            response = user.request("GET", f"/workspaces?limit=5{sort}{cursor}", expect=200)
            assert len(response.json()) <= 5
            ids += [row["id"] for row in response.json()]
            if "x-next-cursor" not in response.headers:
                break
            cursor = "&cursor=" + response.headers["x-next-cursor"]
        assert ids == wanted
    assert {row["category"] for row in user.get("/workspaces?category=odd")} == {"odd"}
    assert len(user.get("/workspaces?category=odd&limit=7")) == 7
    assert [row["name"] for row in user.get("/workspaces?name=03")] == ["03"]


def test_a_page_is_not_disturbed_by_what_comes_and_goes(sign_up):
    user = sign_up("moving")
    made = [user.post("/workspaces", {"name": str(n)}, expect=201)["id"] for n in range(6)]
    first = user.request("GET", "/workspaces?limit=3", expect=200)
    user.post("/workspaces", {"name": "new"}, expect=201)
    user.delete(f"/workspaces/{made[3]}")
    rest = user.get("/workspaces?limit=3&cursor=" + first.headers["x-next-cursor"])
    assert [row["id"] for row in rest] == made[2::-1]


@pytest.mark.parametrize("query, field", [
    ("limit=0", "limit"), ("limit=-1", "limit"), ("limit=x", "limit"), ("limit=1000000", "limit"),
    ("limit=1.5", "limit"), ("cursor=x", "cursor"), ("cursor=AAAA", "cursor"), ("sort=password", "sort"),
    ("sort=name%3Bdrop", "sort"), ("sort=user_id", "sort")])
def test_wrong_lists_name_what_is_wrong(user, query, field):
    assert field in user.get(f"/workspaces?{query}", expect=400)["details"]


def test_a_cursor_belongs_to_its_sort(sign_up):
    user = sign_up("cursor")
    for n in range(3):
        user.post("/workspaces", {"name": str(n)}, expect=201)
    cursor = user.request("GET", "/workspaces?limit=1&sort=name").headers["x-next-cursor"]
    assert "cursor" in user.get(f"/workspaces?limit=1&cursor={cursor}", expect=400)["details"]


def test_a_cursor_of_another_user_shows_nothing_of_theirs(user, sign_up):
    other = sign_up("othercursor")
    for n in range(3):
        user.post("/workspaces", {"name": f"c{n}"}, expect=201)
    mine = other.post("/workspaces", {"name": "mine"}, expect=201)["id"]
    cursor = user.request("GET", "/workspaces?limit=1").headers["x-next-cursor"]
    assert {row["id"] for row in other.get(f"/workspaces?cursor={cursor}")} <= {mine}


def test_notebooks_of_one_workspace(user):
    one, two = (user.post("/workspaces", {"name": name}, expect=201)["id"] for name in "ab")
    inside = [user.post("/notebooks", {"name": str(n), "workspace_id": one}, expect=201)["id"] for n in range(3)]
    other = user.post("/notebooks", {"name": "other", "workspace_id": two, "language": "r"}, expect=201)["id"]
    assert [row["id"] for row in user.get(f"/notebooks?workspace_id={one}")] == inside[::-1]
    assert {*inside, other} <= {row["id"] for row in user.get("/notebooks")}
    assert [row["id"] for row in user.get(f"/notebooks?workspace_id={two}&language=r")] == [other]
    assert "workspace_id" in user.get("/notebooks?workspace_id=x", expect=400)["details"]
    moved = user.put(f"/notebooks/{other}", {"workspace_id": one})
    assert moved["workspace_id"] == one
    assert user.put(f"/notebooks/{other}", {"workspace_id": None})["workspace_id"] is None


def test_a_parent_that_is_not_there(user, bob):
    foreign = bob.post("/workspaces", {"name": "bob's"}, expect=201)["id"]
    for parent in (NOWHERE, foreign):
        answer = user.post("/notebooks", {"name": "x", "workspace_id": parent}, expect=404)
        assert "workspace_id" in answer["details"]
        mine = user.post("/notebooks", {"name": "x"}, expect=201)["id"]
        answer = user.put(f"/notebooks/{mine}", {"workspace_id": parent}, expect=404)
        assert "workspace_id" in answer["details"]
    assert bob.get(f"/notebooks?workspace_id={foreign}") == []


# ---------------------------------------------------------------- the same request twice


def test_an_idempotency_key_makes_one_of_two(sign_up):
    user = sign_up("twice")
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = user.request("POST", "/workspaces", {"name": "one"}, headers=key, expect=201)
    second = user.request("POST", "/workspaces", {"name": "one"}, headers=key, expect=201)
    assert second.json() == first.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert (second.headers["etag"], second.headers["location"]) == \
        (first.headers["etag"], first.headers["location"])
    assert len(user.get("/workspaces")) == 1
    for body in ({"name": "two"}, {"name": "one", "category": "x"}):
        reused = user.request("POST", "/workspaces", body, headers=key, expect=422).json()
        assert reused["code"] == "KEY_REUSED"
    user.request("POST", "/notebooks", {"name": "one"}, headers=key, expect=422)
    assert len(user.get("/workspaces")) == 1 and user.get("/notebooks") == []


def test_keys_belong_to_their_user(ann, bob):
    key = {"Idempotency-Key": uuid.uuid4().hex}
    made = [user.request("POST", "/workspaces", {"name": "same"}, headers=key, expect=201).json()
            for user in (ann, bob)]
    assert made[0]["id"] != made[1]["id"]
    assert [row["user_id"] for row in made] == [ann.id, bob.id]


def test_a_refused_request_keeps_no_key(user):
    key = {"Idempotency-Key": uuid.uuid4().hex}
    user.request("POST", "/workspaces", {"name": ""}, headers=key, expect=400)
    user.request("POST", "/workspaces", {"name": "right"}, headers=key, expect=201)


def test_updates_and_deletions_repeat_too(user):
    made = user.post("/workspaces", {"name": "u"}, expect=201)
    path = f"/workspaces/{made['id']}"
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = user.request("PUT", path, {"name": "v"}, headers=key, expect=200)
    user.put(path, {"name": "w"})
    again = user.request("PUT", path, {"name": "v"}, headers=key, expect=200)
    assert again.json() == first.json()
    assert user.get(path)["name"] == "w"
    key = {"Idempotency-Key": uuid.uuid4().hex}
    deleted = user.request("DELETE", path, headers=key, expect=200)
    assert user.request("DELETE", path, headers=key, expect=200).json() == deleted.json()
    user.delete(path, expect=404)


def test_the_same_key_in_flight_waits_for_nobody(sign_up):
    """While the first runs the second is told so; afterwards it gets the answer of the first."""
    notebook = Notebook(sign_up("inflight"))
    user, key = notebook.user, {"Idempotency-Key": uuid.uuid4().hex}
    statuses, gate = [], threading.Barrier(6)

    def make():
        client = User(user.base, user.token)
        gate.wait()
        statuses.append(client.request("POST", "/workspaces", {"name": "flight"}, headers=key).status_code)
        client.close()

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses.count(201) >= 1 and set(statuses) <= {201, 409}
    user.request("POST", "/workspaces", {"name": "flight"}, headers=key, expect=201)
    assert [row["name"] for row in user.get("/workspaces")].count("flight") == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "x" * 5000])
def test_odd_keys_break_nothing(user, key):
    user.request("POST", "/workspaces", {"name": "odd"}, headers={"Idempotency-Key": key},
                 expect=(201, 400, 431))


# ---------------------------------------------------------------- removing


def test_a_workspace_goes_with_its_notebooks(sign_up):
    user = sign_up("saga")
    notebook = Notebook(user)
    execution = notebook.run("1")["execution_id"]
    kept = user.post("/notebooks", {"name": "kept"}, expect=201)["id"]
    channel = user.live.subscribe("notebooks")
    user.delete(f"/workspaces/{notebook.workspace}")
    for path in (f"/workspaces/{notebook.workspace}", f"/notebooks/{notebook.id}",
                 f"/executions/{execution}"):
        user.get(path, expect=404)
    event = channel.next()
    assert (event["type"], event["key"]) == ("notebook.deleted", notebook.id)
    assert [row["id"] for row in user.get("/notebooks")] == [kept]
    assert all(kernel["notebook_id"] != notebook.id for kernel in user.get("/kernels")
               if kernel["state"] != "stopping")
