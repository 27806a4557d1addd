"""Cloud profiles, what clusters refuse, and other tenants."""

import subprocess
import uuid

import pytest

from cluster_world import Cluster
from stack import BIN

PROFILE = {"name": "work", "provider": "aws", "region": "eu-central-1",
           "credentials": {"access_key_id": "AKIAEXAMPLE", "secret_access_key": "very-secret"}}


@pytest.fixture
def profile(ann):
    made = ann.post("/cloud-profiles", PROFILE, expect=201)
    yield made
    ann.delete(f"/cloud-profiles/{made['id']}", expect=(200, 404))


def test_a_profile_shows_both_names_and_no_secret(ann, profile, stack):
    assert (profile["cloud_provider"], profile["provider"]) == ("aws", "aws")
    assert profile["status"] == "inactive" and profile["has_credentials"] is True
    path = f"/cloud-profiles/{profile['id']}"
    answers = [ann.request(*how).text for how in (
        ("GET", path), ("GET", "/cloud-profiles"), ("PUT", path, {"status": "active"}),
        ("PUT", path, {"credentials": {"secret_access_key": "other-secret"}}))]
    assert not [text for text in answers if "secret" in text.replace("has_credentials", "")]
    assert "very-secret" not in stack.log_text()
    assert ann.put(path, {"credentials": None})["has_credentials"] is False
    assert ann.delete(path)["message"] == "Deleted"
    ann.get(path, expect=404)


def test_credentials_are_not_for_another_cloud(ann, profile):
    path = f"/cloud-profiles/{profile['id']}"
    body = ann.put(path, {"provider": "gcp"}, expect=400)
    assert body["details"] == {"credentials": "must be given again when cloud_provider changes"}
    assert ann.put(path, {"provider": "aws", "name": "same"})["has_credentials"] is True
    changed = ann.put(path, {"provider": "gcp", "credentials": None})
    assert (changed["provider"], changed["has_credentials"]) == ("gcp", False)


def test_credentials_are_opened_for_actors_only(ann, bob, profile, operator):
    def ask(user, profile_id):
        return operator.call("cloud_profiles.credentials", {"id": profile_id, "user": user.id})
    assert ask(ann, profile["id"])["credentials"] == PROFILE["credentials"]
    with pytest.raises(Exception, match="not found"):
        ask(bob, profile["id"])
    ann.put(f"/cloud-profiles/{profile['id']}", {"credentials": None})
    with pytest.raises(Exception, match="has no credentials"):
        ask(ann, profile["id"])


@pytest.mark.parametrize("field, value", [
    ("name", ""), ("name", None), ("provider", "ibm"), ("region", 5), ("credentials", "text"),
    ("status", "pending")])
def test_bad_profiles(ann, field, value):
    body = ann.post("/cloud-profiles", {**PROFILE, field: value}, expect=400)
    assert field in body["details"] or f"cloud_{field}" in body["details"] \
        or f"{field}_encrypted" in body["details"]


@pytest.mark.parametrize("field, value", [
    ("name", ""), ("compute_type", "hadoop"), ("compute_type", None), ("num_workers", 0),
    ("num_workers", 1001), ("num_workers", "many"), ("min_workers", 20), ("node_type", ""),
    ("cluster_config", []), ("cluster_config", {"idle_minutes": -1}),
    ("cluster_config", {"idle_minutes": "soon"}), ("cloud_profile_id", "x")])
def test_bad_clusters(ann, field, value):
    body = {"name": "c", "compute_type": "dask", field: value}
    assert field in ann.post("/compute-clusters", body, expect=400)["details"]


def test_what_is_read_only_is_not_taken(ann):
    made = Cluster(ann, status="running", endpoint_url="tcp://else:1", state_detail="running",
                   workers=7)
    assert (made.made["status"], made.made["endpoint_url"], made.made["workers"]) == \
        ("stopped", None, 0)
    made.delete()


@pytest.mark.parametrize("verb, detail", [("stop", "stopping"), ("restart", "restarting")])
def test_illegal_steps_name_both_states(ann, verb, detail):
    made = Cluster(ann)
    body = ann.post(f"{made.path}/{verb}", expect=409)
    assert body["details"] == {"from": "stopped", "to": detail}
    assert ann.post(f"{made.path}/resize", {"num_workers": 3}, expect=409)["details"]["to"] == "resizing"
    assert made.row()["state_seq"] == 0 and made.events() == []
    made.delete()


def test_what_is_not_configured_names_the_setting(ann, profile):
    options = subprocess.run([BIN / "busbar-clusters", "--help"], capture_output=True, text=True, check=True).stdout
    for fields, setting in (
            ({"compute_type": "spark"}, "clusters.spark-home"),
            ({"compute_type": "ray"}, "clusters.ray-python"),
            ({"cloud_profile_id": profile["id"], "node_type": "m5.large"}, "clusters.aws-provider")):
        made = Cluster(ann, **fields)
        body = made.start(expect=409)
        assert body["details"] == {"setting": setting} and setting in body["error"]
        assert f"--{setting.split('.')[1]} " in options
        assert made.row()["status"] == "stopped"
        made.delete()


def test_too_many_workers_for_one_machine(ann):
    made = Cluster(ann, num_workers=500)
    assert "num_workers" in made.start(expect=409)["details"]
    made.delete()


def test_local_needs_no_profile_and_works_with_any(ann, profile):
    made = Cluster(ann, cloud_profile_id=profile["id"], node_type="local")
    assert made.row()["cloud_profile_name"] == "work"
    made.running()
    refused = ann.put(made.path, {"compute_type": "spark"}, expect=409)
    assert "compute_type" in refused["details"]
    made.stop()
    known = ann.post("/data-catalog", {"name": "k", "catalog_type": "table", "cloud_profile_id": profile["id"]},
                     expect=201)
    ann.delete(f"/cloud-profiles/{profile['id']}")
    assert made.row()["cloud_profile_id"] is None
    assert ann.get(f"/data-catalog/{known['id']}")["cloud_profile_id"] is None
    ann.delete(made.path)


def test_other_tenants(ann, bob, profile):
    made = Cluster(ann)
    nobody = str(uuid.uuid4())
    for verb, path, body in (("GET", "", None), ("PUT", "", {"name": "mine"}), ("DELETE", "", None),
                             ("POST", "/start", None), ("POST", "/stop", None),
                             ("POST", "/restart", None), ("POST", "/resize", {"num_workers": 1}),
                             ("GET", "/events", None)):
        answers = [bob.request(verb, f"/compute-clusters/{which}{path}", body)
                   for which in (made.id, nobody)]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].json()["error"] == answers[1].json()["error"]
    bob.get(f"/cloud-profiles/{profile['id']}", expect=404)
    for which in (profile["id"], nobody):
        body = {"name": "c", "compute_type": "dask", "cloud_profile_id": which}
        assert "cloud_profile_id" in bob.post("/compute-clusters", body, expect=404)["details"]
        assert "cloud_profile_id" in bob.post("/workspaces", {"name": "w", "cloud_profile_id": which},
                                              expect=404)["details"]
    for which in (made.id, nobody):
        assert "cluster_id" in bob.post("/notebooks", {"name": "n", "cluster_id": which},
                                        expect=404)["details"]
    assert made.id not in [row["id"] for row in bob.get("/compute-clusters")]
    made.delete()


def test_a_repeated_start_is_one(ann):
    made = Cluster(ann)
    key = {"Idempotency-Key": str(uuid.uuid4())}
    first = ann.post(f"{made.path}/start", expect=202, headers=key)
    again = ann.post(f"{made.path}/start", expect=202, headers=key)
    assert again == first and made.events().count("STARTING") == 1
    made.is_at("running")
    made.delete()


def test_events_are_paged(ann):
    made = Cluster(ann)
    made.running()
    page = ann.get(f"{made.path}/events?limit=1")
    assert [event["type"] for event in page] == ["RUNNING"]
    older = ann.get(f"{made.path}/events?before={page[0]['id']}")
    assert [event["type"] for event in older] == ["STARTING"]
    made.delete()


def test_a_user_goes_with_all_of_it(sign_up, operator, stack):
    eve = sign_up("eve")
    eve.post("/cloud-profiles", PROFILE, expect=201)
    made = Cluster(eve)
    made.running()
    operator.call("users.delete", {"user": eve.id})
    with pytest.raises(Exception, match="not found"):
        operator.call("compute_clusters.check", {"id": made.id, "user": eve.id})
