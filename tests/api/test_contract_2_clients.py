"""What the later clients send: the web application (every answer parsed as JSON, `detail` read from errors, bare
arrays), and the one with extended authentication. The calls of collections that all have are in the file before."""

import pytest

from client import User
from contract_world import (ERROR, ETL, EXECUTION, KINDS, MESSAGE, NOTEBOOK, PERSON, PROFILE, REPOSITORY, SOURCE,
                            TOKENS, WORKSPACE, Things)
from identity_world import PASSWORD, address, administrator, code, signed_in
from shapes import LIVE, NOTHING, TEXT, has_shape
from stack import wait_for

NOWHERE = "5c1d7c0e-3c1f-4c2b-9d0a-0e6f6b1d2a77"
OTHER = "Another-horse-8-battery"
EXECUTE = "/notebooks/execute"


@pytest.fixture(scope="module")
def things(sign_up):
    return Things(sign_up("screens"))


def session(anyone, full_name="Ann Example"):
    """As the landing page does it: sign up, then sign in, then read the one that signed in."""
    email = address()
    body = {"username": email, "email": email, "password": PASSWORD, "full_name": full_name}
    signed_up = anyone.request("POST", "/auth/signup", body, expect=201)
    assert "x-ignored-fields" not in signed_up.headers
    answer = anyone.post("/auth/signin", {"email": email, "password": PASSWORD})
    user = User(anyone.base, answer["access_token"], answer["user"])
    user.refresh = answer["refresh_token"]
    return user, answer


#  ---- the web application


def test_getting_started(anyone):
    user, answer = session(anyone)
    has_shape(answer, {**TOKENS, "user": {**PERSON, "email": user.user["email"], "full_name": "Ann Example"}})
    assert answer["user"]["account_id"] == answer["user"]["icecube_id"]
    has_shape(user.get("/auth/me"), {**PERSON, "id": user.id, "icecube_id": answer["user"]["icecube_id"]})


@pytest.mark.parametrize("name", KINDS)
def test_a_new_user_has_empty_arrays(anyone, name):
    user, _ = session(anyone)
    response = user.request("GET", KINDS[name].path, expect=200)
    assert response.json() == [] and response.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize("verb, path, body, status", [
    ("POST", "/auth/signin", {"email": "nobody@example.org", "password": "x"}, 401),
    ("GET", "/auth/me", None, 401), ("GET", "/workspaces", None, 401), ("POST", "/workspaces", {}, 401)])
def test_without_a_token_the_text_is_in_detail(anyone, verb, path, body, status):
    has_shape(anyone.request(verb, path, body, expect=status).json(), ERROR)


@pytest.mark.parametrize("verb, path, body, status", [
    ("POST", "/workspaces", {}, 400), ("GET", f"/notebooks/{NOWHERE}", None, 404), ("POST", EXECUTE, {}, 400),
    ("POST", EXECUTE, {"notebookId": NOWHERE, "code": "1"}, 404), ("GET", "/nothing/here", None, 404),
    ("DELETE", "/workspaces", None, 405), ("POST", "/saved-queries", {"name": "x"}, 400),
    ("POST", "/etl-pipelines", {"name": "x", "mode": "loud"}, 400), ("POST", "/repositories", {"name": "x"}, 400)])
def test_every_error_is_json_with_its_text_in_detail(things, verb, path, body, status):
    has_shape(things.user.request(verb, path, body, expect=status).json(), ERROR)


def test_the_modal_for_a_workspace(things):
    profile = things["cloud_profile"]
    listed = has_shape(things.user.get("/cloud-profiles"), (PROFILE,))
    assert profile in [row["id"] for row in listed]
    for provider, config in (
            ("aws", {"crossAccountRoleArn": "arn:aws:iam::1:role/x", "region": "us-east-1", "vpcCidr": "10.0.0.0/16",
                     "rootS3Bucket": "b"}),
            ("azure", {"subscriptionId": "s", "resourceGroup": "g", "region": "westeurope",
                       "vnetCidr": "10.0.0.0/16", "storageAccountName": "a"})):
        made = things.user.post("/workspaces", {"name": provider, "provider": provider, "config": config,
                                                "cloud_profile_id": profile}, expect=201)
        has_shape(made, {**WORKSPACE, "provider": provider, "config": config, "cloud_profile_id": profile})


def test_the_editor_of_a_notebook(things):
    """List, open, save, attach, detach, run, delete."""
    user, cluster = things.user, things["compute_cluster"]
    made = user.post("/notebooks", {"name": "edited", "workspace_id": things["workspace"], "language": "python",
                                    "cluster_id": None, "content": {"cells": []}}, expect=201)
    path = f"/notebooks/{made['id']}"
    cells = [{"id": "1", "type": "code", "content": "print(6 * 7)", "output": None, "error": None,
              "executionTime": None}, {"id": "2", "type": "markdown", "content": "# so"},
             {"id": "3", "type": "sql", "content": "SELECT 42 AS n"}]
    has_shape(user.put(path, {"content": {"cells": cells}}), {**NOTEBOOK, "content": {"cells": list}})
    assert user.get(path)["content"]["cells"] == cells
    assert user.put(path, {"cluster_id": cluster})["cluster_id"] == cluster
    assert user.put(path, {"cluster_id": None})["cluster_id"] is None
    ran = user.post(EXECUTE, {"notebookId": made["id"], "cellId": "1", "code": cells[0]["content"],
                              "language": "python"}, timeout=90)
    has_shape(ran, {**EXECUTION, "success": True, "output": "42\n", "error": NOTHING})
    ran = user.post(EXECUTE, {"notebookId": made["id"], "cellId": "3", "code": cells[2]["content"],
                              "language": "sql"}, timeout=90)
    has_shape(ran, {**EXECUTION, "success": True, "error": NOTHING, "data": {"rows": [{"n": 42}], "rowCount": 1}})
    ran = user.post(EXECUTE, {"notebookId": made["id"], "cellId": "1", "code": "1 / 0", "language": "python"},
                    timeout=90)
    has_shape(ran, {**EXECUTION, "success": False, "error": TEXT})
    assert "ZeroDivisionError" in ran["error"]
    has_shape(user.delete(path), {"message": "Deleted"})


def test_sources_in_the_words_of_the_screens(things):
    config = KINDS["data_source"].body["connection_config"]
    made = things.user.post("/data-sources", {"name": "shop", "type": "mysql", "description": "d",
                                              "config": config}, expect=201)
    has_shape(made, {**SOURCE, "source_type": "mysql", "type": "mysql", "description": "d", "status": "inactive"})
    assert made["config"] == made["connection_config"]
    changed = things.user.put(f"/data-sources/{made['id']}", {**made, "description": "e",
                                                              "config": {**config, "port": 3307}})
    has_shape(changed, {**SOURCE, "source_type": "mysql", "description": "e", "config": {"port": 3307},
                        "connection_config": {"port": 3307}})


def test_pipelines_of_the_screens(things):
    made = things.user.post("/pipelines", {"name": "dag", "airflow_yaml": "a: 1", "schedule": "@daily",
                                           "git_file_path": "dag.json"}, expect=201)
    assert (made["airflow_yaml"], made["schedule"], made["git_file_path"]) == ("a: 1", "@daily", "dag.json")


def test_etl_pipelines_of_the_screens(things):
    flow = {"nodes": [{"id": "1", "type": "source"}], "edges": [{"source": "1", "target": "2"}]}
    made = things.user.post("/etl-pipelines", {"name": "igo", "workflow_data": flow, "sources": [{"type": "s3"}],
                                               "cloud_services": ["glue"]}, expect=201)
    has_shape(made, {**ETL, "workflow_data": flow, "sources": [{"type": "s3"}], "status": "draft"})
    assert things.user.put(f"/etl-pipelines/{made['id']}", {"status": "active"})["status"] == "active"


def test_the_modal_for_a_repository(things):
    made = things.user.post("/repositories", {
        "provider": "gitlab", "name": "code", "url": "https://127.0.0.1:1/code.git", "branch": "main",
        "username": "ann", "access_token": "glpat-s3cr3t", "description": "d"}, expect=201)
    has_shape(made, {**REPOSITORY, "status": "connected", "last_sync": NOTHING})
    response = things.user.request("POST", f"/repositories/{made['id']}/sync", expect=200)
    has_shape(response.json(), {**REPOSITORY, "status": "error", "live": LIVE,
                                "termination": {"code": TEXT, "type": TEXT, "message": TEXT}})
    assert "s3cr3t" not in str(made) + response.text


#  ---- extended authentication


def test_a_token_is_refreshed_with_the_other(anyone):
    user, _ = session(anyone)
    answer = User(anyone.base, user.refresh).post("/auth/refresh")
    has_shape(answer, {**TOKENS, "user": {**PERSON, "id": user.id}})
    has_shape(User(anyone.base, answer["access_token"]).get("/auth/me"), {**PERSON, "id": user.id})


def test_logout(anyone):
    user, _ = session(anyone)
    has_shape(user.post("/auth/logout"), MESSAGE)
    has_shape(user.get("/auth/me", expect=401), ERROR)
    has_shape(User(anyone.base, user.refresh).post("/auth/refresh", expect=401), ERROR)


def test_change_password(stack, anyone):
    user, _ = session(anyone)
    wrong = user.post("/auth/change-password", {"current_password": "no", "new_password": OTHER}, expect=400)
    has_shape(wrong, {**ERROR, "details": {"current_password": TEXT}})
    has_shape(user.post("/auth/change-password", {"current_password": PASSWORD, "new_password": OTHER}), MESSAGE)
    signed_in(stack, user.user["email"], OTHER)


def test_a_forgotten_password(stack, anyone):
    user, _ = session(anyone)
    email = user.user["email"]
    has_shape(anyone.post("/auth/forgot-password", {"email": email}), MESSAGE)
    assert anyone.post("/auth/forgot-password", {"email": address()}) == \
        anyone.post("/auth/forgot-password", {"email": address()})
    secret = code(stack, email, "reset")
    wrong = {"email": email, "confirmation_code": "000000", "new_password": OTHER}
    has_shape(anyone.post("/auth/reset-password", wrong, expect=400), {**ERROR, "details": {"confirmation_code": TEXT}})
    has_shape(anyone.post("/auth/reset-password", {**wrong, "confirmation_code": secret}), MESSAGE)
    signed_in(stack, email, OTHER)


def test_an_address_is_verified(stack, anyone):
    user, answer = session(anyone)
    assert user.get("/auth/me")["is_verified"] is False
    email = answer["user"]["email"]
    has_shape(anyone.post("/auth/verify-email", {"email": email, "confirmation_code": "000000"}, expect=400), ERROR)
    has_shape(anyone.post("/auth/verify-email", {"email": email, "confirmation_code": code(stack, email, "verify")}),
              MESSAGE)
    wait_for(lambda: user.get("/auth/me")["is_verified"], "a verified address")


def test_the_profile(anyone):
    user, _ = session(anyone)
    has_shape(user.put("/auth/profile", {"full_name": "Ann B. Example"}), {**PERSON, "full_name": "Ann B. Example"})
    assert user.get("/auth/me")["full_name"] == "Ann B. Example"


def test_users(stack, anyone):
    user, answer = session(anyone)
    number = answer["user"]["icecube_id"]
    has_shape(user.get(f"/users/{number}"), {**PERSON, "id": user.id})
    has_shape(user.get("/users", expect=403), ERROR)
    root = administrator(stack)
    has_shape(root.get("/users"), ({**PERSON, "full_name": TEXT | NOTHING},))
    has_shape(root.get(f"/users/{number}"), {**PERSON, "id": user.id})


def test_health_and_root(anyone):
    #  Degraded: the actor of another test has left.
    has_shape(anyone.get("/health"), {"status": {"healthy", "degraded"}})
    has_shape(anyone.get("/"), {"message": TEXT, "version": TEXT, "status": TEXT})
