"""The 56 calls of the platform API, one test each: status, fields and types of what they answer."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from contract_world import (CLUSTER, COLUMN, DATABASE, DEPLOYMENT, ERROR, EXECUTED, EXECUTION, KINDS, MESSAGE,
                            PERSON, RUN, TABLE, TESTED, TOKENS, Things)
from identity_world import PASSWORD, address, claims
from shapes import LIVE, NOTHING, TEXT, UUID, One, has_shape

CRUD = [name for name in KINDS if name not in ("saved_query", "etl_pipeline", "repository", "catalog")]
NOWHERE = "5c1d7c0e-3c1f-4c2b-9d0a-0e6f6b1d2a77"


@pytest.fixture(scope="module")
def things(sign_up):
    return Things(sign_up("contract"))


@pytest.fixture
def newcomer(anyone):
    """What signs up, once it has."""
    body = {"email": address(), "password": PASSWORD, "full_name": "John Doe"}
    return body, anyone.post("/auth/signup", body, expect=201)


#  ---- authentication


def test_post_auth_signup(newcomer):
    body, answer = newcomer
    has_shape(answer, {**TOKENS, "user": {**PERSON, "email": body["email"], "full_name": "John Doe"}})
    said = claims(answer["token"])
    has_shape(said, {"userId": answer["user"]["id"], "user_id": answer["user"]["id"], "email": body["email"],
                     "exp": int, "iat": int})
    assert said["exp"] - said["iat"] == 86400


def test_post_auth_signup_without_a_name_and_twice(anyone):
    body = {"email": address(), "password": PASSWORD}
    has_shape(anyone.post("/auth/signup", body, expect=201)["user"], {"id": UUID, "email": body["email"]})
    has_shape(anyone.post("/auth/signup", body, expect=409), {**ERROR, "details": {"email": TEXT}})


def test_post_auth_signin(anyone, newcomer):
    body, made = newcomer
    answer = anyone.post("/auth/signin", {"email": body["email"], "password": PASSWORD})
    has_shape(answer, {**TOKENS, "user": {**PERSON, "id": made["user"]["id"]}})
    has_shape(anyone.post("/auth/signin", {"email": body["email"], "password": "no"}, expect=401), ERROR)


@pytest.mark.parametrize("path", ["/auth/signout", "/auth/logout"])
def test_post_auth_signout(anyone, newcomer, path):
    bearer = {"Authorization": f"Bearer {newcomer[1]['token']}"}
    has_shape(anyone.post(path, headers=bearer), {"message": "Signed out successfully"})
    has_shape(anyone.get("/auth/user", expect=401, headers=bearer), ERROR)


@pytest.mark.parametrize("path", ["/auth/user", "/auth/me"])
def test_get_auth_user(things, path):
    has_shape(things.user.get(path), {**PERSON, "id": things.user.id})


#  ---- the five calls of every collection


@pytest.mark.parametrize("name", KINDS)
def test_create(things, name):
    kind = KINDS[name]
    response = things.user.request("POST", kind.path, things.fill(kind.body), expect=201)
    made = has_shape(response.json(), {**kind.shape, "user_id": things.user.id, "live": LIVE})
    sent = {field: value for field, value in things.fill(kind.body).items() if field in made}
    if name == "data_source":
        sent["connection_config"] = made["config"]
        assert {**made["config"], "password": None} == made["config"] and made["config"]["host"] == "127.0.0.1"
    assert {field: made[field] for field in sent} == sent
    assert "s3cr3t" not in response.text and "x-ignored-fields" not in response.headers
    assert response.headers["location"] == f"{kind.path}/{made['id']}"


@pytest.mark.parametrize("name", KINDS)
def test_list(things, name):
    kind, one = KINDS[name], things[name]
    response = things.user.request("GET", kind.path, expect=200)
    rows = has_shape(response.json(), (kind.shape,))
    assert one in [row["id"] for row in rows] and {row["user_id"] for row in rows} == {things.user.id}
    assert "s3cr3t" not in response.text


@pytest.mark.parametrize("name", ["notebook", "query", "job", "pipeline", "catalog"])
def test_list_of_a_workspace(things, name):
    kind = KINDS[name]
    there, elsewhere = things[name], things.make("workspace")["id"]
    other = things.user.post(kind.path, {**things.fill(kind.body), "workspace_id": elsewhere}, expect=201)["id"]
    here = [row["id"] for row in things.user.get(f"{kind.path}?workspace_id={things['workspace']}")]
    assert there in here and other not in here
    assert [row["id"] for row in things.user.get(f"{kind.path}?workspace_id={elsewhere}")] == [other]
    assert {there, other} <= {row["id"] for row in things.user.get(kind.path)}
    assert things.user.get(f"{kind.path}?workspace_id={NOWHERE}") == []


@pytest.mark.parametrize("name", KINDS)
def test_get(things, name):
    path = KINDS[name].path
    has_shape(things.user.get(f"{path}/{things[name]}"), {**KINDS[name].shape, "id": things[name]})
    has_shape(things.user.get(f"{path}/{NOWHERE}", expect=404), {**ERROR, "code": "NOT_FOUND"})


@pytest.mark.parametrize("name", KINDS)
def test_update(things, name):
    kind, made = KINDS[name], things.make(name)
    after = things.user.put(f"{kind.path}/{made['id']}", kind.change)
    has_shape(after, {**kind.shape, **kind.change, "id": made["id"], "live": LIVE})
    assert after["updated_at"] > made["updated_at"]
    things.user.put(f"{kind.path}/{NOWHERE}", kind.change, expect=404)


@pytest.mark.parametrize("name", KINDS)
def test_delete(things, name):
    kind, made = KINDS[name], things.make(name)
    has_shape(things.user.delete(f"{kind.path}/{made['id']}"), {"message": "Deleted", "live": LIVE})
    for verb in ("GET", "DELETE"):
        has_shape(things.user.request(verb, f"{kind.path}/{made['id']}", expect=404).json(), ERROR)


#  ---- what else they do


def test_post_compute_clusters_start_and_stop(things):
    """Of starts at once one wins; starting, then running with its address, when only force deletes it; stopped,
    without one; deleted right behind."""
    cluster, user = things.make("compute_cluster")["id"], things.user
    path = f"/compute-clusters/{cluster}"
    with ThreadPoolExecutor(4) as pool:
        answers = [began.result() for began in
                   [pool.submit(user.request, "POST", f"{path}/start") for _ in range(4)]]
    assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409]
    for answer in answers:
        won = answer.status_code == 202
        has_shape(answer.json(), {**CLUSTER, "id": cluster, "status": "starting"} if won
                  else {**ERROR, "details": {"from": TEXT, "to": TEXT}})
    has_shape(things.cluster_until(cluster, "running"), {**CLUSTER, "endpoint_url": TEXT, "termination": NOTHING})
    has_shape(user.delete(path, expect=409), {**ERROR, "details": {"from": "running", "to": "deleted"}})
    stopped = user.post(f"{path}/stop")
    has_shape(stopped, {**CLUSTER, "id": cluster, "status": "stopped", "endpoint_url": NOTHING})
    has_shape(user.delete(path), MESSAGE)
    user.get(path, expect=404)


def test_post_notebooks_execute(things):
    cell = {"cellId": "1", "code": "print('hello')"}
    at_once = things.user.post(f"/notebooks/{things['notebook']}/execute", cell, expect=202)
    has_shape(at_once, {**EXECUTION, "success": NOTHING})
    ended = things.user.post(f"/notebooks/{things['notebook']}/execute?wait=60", cell, timeout=90)
    has_shape(ended, {**EXECUTION, "success": True, "output": "hello\n", "error": NOTHING, "language": "python"})


def test_post_data_sources_test(things):
    body = things.fill(KINDS["data_source"].body)
    answer = has_shape(things.user.post("/data-sources/test", body), {**TESTED, "success": False, "error": TEXT})
    assert [step["name"] for step in answer["steps"]] == ["resolve", "connect"]
    assert "s3cr3t" not in str(answer)


@pytest.fixture(scope="module")
def database(things):
    """The user's own, with a table."""
    sql = {"query": "CREATE TABLE IF NOT EXISTS sales (id int NOT NULL, region text)"}
    assert things.user.post("/queries/execute", sql)["success"]
    return has_shape(things.user.get("/data-catalog/databases"), ({**DATABASE, "data_source_id": NOTHING},))[0]["name"]


def test_get_data_catalog_databases(things, database):
    has_shape(things.user.get("/data-catalog/databases"), (DATABASE,))


def test_get_data_catalog_tables(things, database):
    has_shape(things.user.get(f"/data-catalog/databases/{database}/tables"),
              ({**TABLE, "database_name": database, "table_name": "sales"},))
    things.user.get("/data-catalog/databases/nowhere/tables", expect=404)


def test_get_data_catalog_schema(things, database):
    columns = things.user.get(f"/data-catalog/databases/{database}/tables/sales/schema")
    has_shape(columns, ({**COLUMN, "table_name": "sales"},))
    assert [(column["column_name"], column["data_type"], column["is_nullable"], column["column_order"])
            for column in columns] == [("id", "integer", False, 1), ("region", "text", True, 2)]
    things.user.get(f"/data-catalog/databases/{database}/tables/nothing/schema", expect=404)


def test_post_queries_execute(things):
    answer = things.user.post("/queries/execute", {"query": "SELECT 1 AS n, 'x' AS t",
                                                   "cluster_id": things["compute_cluster"]})
    has_shape(answer, {**EXECUTED, "success": True, "state": "succeeded", "engine": "postgresql", "error": NOTHING,
                       "rowCount": 1, "data": {"rows": [{"n": 1, "t": "x"}], "rowCount": 1, "truncated": False,
                                               "columns": [{"name": TEXT, "type": TEXT}]}})
    failed = things.user.post("/queries/execute", {"query": "SELECT nothing"})
    has_shape(failed, {**EXECUTED, "success": False, "state": "failed", "error": TEXT, "data": NOTHING})
    has_shape(things.user.post("/queries/execute", {}, expect=400), {**ERROR, "details": {"query": TEXT}})


def test_post_jobs_run(things):
    run = things.user.post(f"/jobs/{things['job']}/run", expect=201)
    has_shape(run, {**RUN, "job_id": things["job"], "status": {"pending", "running"}, "live": LIVE})
    ended = things.user.get(f"/job-runs/{run['id']}?wait=60", timeout=90)
    has_shape(ended, {**RUN, "status": "success", "error_message": NOTHING, "logs": TEXT})


def test_get_jobs_runs(things):
    run = things.user.post(f"/jobs/{things['job']}/run", expect=201)
    runs = has_shape(things.user.get(f"/jobs/{things['job']}/runs"), ({**RUN, "job_id": things["job"]},))
    assert runs[0]["id"] == run["id"]                # newest first
    things.user.get(f"/jobs/{NOWHERE}/runs", expect=404)


def test_post_pipelines_deploy(things):
    path = f"/pipelines/{things['pipeline']}"
    has_shape(things.user.post(f"{path}/deploy", expect=201), {**DEPLOYMENT, "pipeline_id": things["pipeline"]})
    assert things.user.get(path)["status"] == "deployed"


@pytest.mark.parametrize("path, body, field", [
    ("/jobs/$job/run", None, "id"), ("/pipelines/$pipeline/deploy", {}, "id"), ("/pipelines/$pipeline/run", None, "id"),
    ("/queries/execute", {"query": "SELECT random()"}, "statement_id"),
    ("/notebooks/$notebook/execute", {"cellId": "1", "code": "1"}, "execution_id"),
    ("/notebooks/execute", {"notebookId": "$notebook", "cellId": "1", "code": "1"}, "execution_id"),
    *((kind.path, kind.body, "id") for kind in KINDS.values())])
def test_what_is_repeated_with_its_key_is_done_once(things, path, body, field):
    if path.startswith("/pipelines/") and path.endswith("/run"):
        things.user.post(things.path("/pipelines/$pipeline/deploy"), {}, expect=201)
    key = {"Idempotency-Key": str(uuid.uuid4())}
    once, again = (things.user.request("POST", things.path(path), body and things.fill(body), headers=key,
                                       expect=(200, 201, 202), timeout=90).json() for _ in range(2))
    assert again[field] == once[field]
    has_shape(again, {name: One("the same kind", lambda value, like=value: like is None or type(value) is type(like))
                      for name, value in once.items() if value is not None})


def test_a_first_statement_with_a_key_has_the_same_answer_twice(sign_up):
    """With it the user is claimed, which is no answer."""
    user, key = sign_up("first"), {"Idempotency-Key": str(uuid.uuid4())}
    once, again = (user.post("/queries/execute", {"query": "SELECT 1 AS n"}, headers=key) for _ in range(2))
    assert has_shape(again, EXECUTED)["statement_id"] == once["statement_id"]


#  ---- that these are all


DOCUMENTED = """
POST /auth/signup, POST /auth/signin, POST /auth/signout, GET /auth/user, GET /data-catalog,
GET /data-catalog/databases, GET /data-catalog/databases/{database}/tables,
GET /data-catalog/databases/{database}/tables/{table}/schema, POST /compute-clusters/{id}/start,
POST /compute-clusters/{id}/stop, POST /notebooks/{id}/execute, POST /data-sources/test, POST /queries/execute,
POST /jobs/{id}/run, GET /jobs/{id}/runs, POST /pipelines/{id}/deploy"""


def test_every_call_has_a_summary_and_every_documented_one_is_there(anyone):
    paths = anyone.get("/openapi.json")["paths"]
    calls = [call.split() for call in DOCUMENTED.split(",")] + [
        [verb, KINDS[name].path + tail] for name in CRUD
        for verb, tail in (("GET", ""), ("POST", ""), ("GET", "/{id}"), ("PUT", "/{id}"), ("DELETE", "/{id}"))]
    assert len({tuple(call) for call in calls}) == 56
    assert not [call for call in calls if call[0].lower() not in paths.get(call[1], {})]
    assert not [(verb, path) for path, item in paths.items() for verb, operation in item.items()
                if not operation.get("summary")]
