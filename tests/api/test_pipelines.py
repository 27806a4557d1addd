"""Pipelines: graphs that are refused, deployments with their steps, and runs of every kind of node."""

import http.server
import json
import threading
import uuid

import pytest

from client import person
from git_server import server  # noqa: F401
from stack import Stack, wait_for

NOWHERE = "5c1d7c0e-3c1f-4c2b-9d0a-0e6f6b1d2a77"


class Hook(http.server.BaseHTTPRequestHandler):
    def _answer(self):
        owner = self.server.owner
        size = int(self.headers.get("Content-Length") or 0)
        owner.asked.append((self.command, self.path, dict(self.headers), self.rfile.read(size)))
        if self.path == "/slow":
            owner.held.wait(60)
        status = 500 if self.path == "/broken" else 200
        body = json.dumps({"count": 7, "path": self.path}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer

    def log_message(self, *_):
        pass


class Hooks:
    def __init__(self):
        self.asked, self.held = [], threading.Event()
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        self.http.owner = self
        self.where = f"127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.held.set()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture(scope="module")
def hooks():
    hooks = Hooks()
    yield hooks
    hooks.close()


@pytest.fixture(scope="module")
def system(hooks, server):
    system = Stack(f"--set=jobs.http-allow={hooks.where}",
                   f"--set=platform.repository-allow=127.0.0.1:{server.port}")
    system.wait()
    yield system
    assert system.stop() == 0


ann, bob = person("ann"), person("bob")


def node(name, kind, **config):
    return {"id": name, "type": kind, "config": config}


def edge(origin, target, condition=None):
    return {"from": origin, "to": target, **({} if condition is None else {"condition": condition})}


def graph(*nodes, edges=()):
    return {"nodes": list(nodes), "edges": list(edges)}


def make(user, flow, **more):
    return user.post("/pipelines", {"name": "flow", "pipeline_graph": flow, **more}, expect=201)


def deploy(user, pipeline, expect=201, **body):
    return user.post(f"/pipelines/{pipeline['id']}/deploy", body, expect=expect)


def ended(user, run, patience=60):
    return wait_for(lambda: (now := user.get(f"/job-runs/{run['id']}"))["status"] in ("success", "failed") and now,
                    f"the end of run {run['id']}", patience)


def run(user, pipeline, patience=60):
    return ended(user, user.post(f"/pipelines/{pipeline['id']}/run", {}, expect=201), patience)


def states(done):
    return {task["task_key"]: task["state"] for task in done["tasks"]}


WAIT = node("a", "wait", seconds=0)


def test_what_the_document_and_the_screens_send(ann, bob):
    workspace = ann.post("/workspaces", {"name": "w"}, expect=201)["id"]
    made = ann.post("/pipelines", {"name": "p", "workspace_id": workspace, "description": "d",
                                   "cloud_provider": "aws", "git_repo_url": "https://git.example.org/a",
                                   "git_branch": "main", "airflow_yaml": "x: 1", "schedule": "0 6 * * *",
                                   "git_file_path": "flows/a.json", "git_sync_enabled": False}, expect=201)
    assert made["pipeline_graph"] == {"nodes": [], "edges": []}
    assert (made["status"], made["last_run"], made["next_run"], made["last_git_sync"]) == ("draft", None, None, None)
    path = f"/pipelines/{made['id']}"
    assert ann.get(f"/pipelines?workspace_id={workspace}")[0]["id"] == made["id"]
    assert ann.put(path, {"name": "q", "status": "deployed"})["status"] == "draft"
    for verb, route in (("GET", path), ("PUT", path), ("DELETE", path), ("POST", path + "/deploy"),
                        ("POST", path + "/run"), ("POST", path + "/rollback"), ("POST", path + "/undeploy"),
                        ("GET", path + "/deployments")):
        bob.request(verb, route, {} if verb in ("POST", "PUT") else None, expect=404)
    theirs = bob.post("/workspaces", {"name": "w"}, expect=201)["id"]
    for value in (theirs, NOWHERE):
        assert ann.post("/pipelines", {"name": "x", "workspace_id": value}, expect=404)["details"] == \
            {"workspace_id": "no such workspace"}
    assert ann.delete(path)["message"] == "Deleted"
    ann.delete(f"/workspaces/{workspace}")


def test_etl_pipelines(ann, bob):
    body = {"name": "e", "description": "d", "mode": "form", "workflow_data": {"nodes": [{"id": 1}], "edges": []},
            "sources": [{"a": 1}], "targets": [], "transformations": [{"b": 2}], "cloud_services": ["s3"],
            "status": "draft"}
    made = ann.post("/etl-pipelines", body, expect=201)
    assert {name: made[name] for name in body} == body and made["user_id"] == ann.id and made["last_run"] is None
    path = f"/etl-pipelines/{made['id']}"
    assert ann.put(path, {"status": "active"})["status"] == "active"
    assert [row["id"] for row in ann.get("/etl-pipelines")] == [made["id"]]
    bob.get(path, expect=404)
    assert "mode" in ann.put(path, {"mode": "both"}, expect=400)["details"]
    assert ann.delete(path)["message"] == "Deleted"


@pytest.mark.parametrize("flow, why", [
    (graph(WAIT, WAIT), "node a is there twice"),
    (graph(WAIT, edges=[edge("a", "b")]), "edges [0]: there is no node b"),
    (graph(WAIT, node("b", "wait", seconds=0), edges=[edge("a", "b"), edge("b", "a")]), "nodes form a cycle: b -> a -> b"),
    (graph(node("a", "shell")), "node a: there is no type shell; there are sql, notebook, http, copy, branch and wait"),
    (graph(node("a", "sql")), "node a: query is required")])
def test_bad_graphs_name_the_node(ann, flow, why):
    assert ann.post("/pipelines", {"name": "x", "pipeline_graph": flow}, expect=400)["details"]["pipeline_graph"] == why


@pytest.mark.parametrize("field, value", [
    ("schedule", "61 * * * *"), ("timezone", "Mars/Base"), ("pipeline_graph", []), ("cloud_provider", "ibm"),
    ("workspace_id", "x"), ("git_sync_enabled", "maybe")])
def test_bad_fields_are_named(ann, field, value):
    assert field in ann.post("/pipelines", {"name": "x", field: value}, expect=400)["details"]


def test_nodes_name_only_ones_own(ann, bob):
    theirs = bob.post("/notebooks", {"name": "n"}, expect=201)["id"]
    for value in (theirs, NOWHERE):
        ann.post("/pipelines", {"name": "x", "pipeline_graph": graph(node("a", "notebook", notebook_id=value))},
                 expect=404)


def test_an_empty_graph_is_saved_and_not_deployed(ann):
    assert "pipeline_graph" in deploy(ann, make(ann, graph()), expect=409)["details"]


def test_nothing_is_pretended_about_amazon(ann):
    pipeline = make(ann, graph(node("a", "notebook", notebook_id=ann.post("/notebooks", {"name": "n"}, expect=201)["id"])))
    ask = {"target": "aws-step-functions"}
    assert "role_arn" in deploy(ann, pipeline, expect=409, **ask)["details"]["config"]
    role = {"role_arn": "arn:aws:iam::123456789012:role/r"}
    assert "runner_function_arn" in deploy(ann, pipeline, expect=409, config=role, **ask)["details"]["config"]
    ann.put(f"/pipelines/{pipeline['id']}", {"pipeline_graph": graph(WAIT)})
    assert "cloud_profile_id" in deploy(ann, pipeline, expect=409, config=role, **ask)["details"]
    deploy(ann, pipeline, expect=404, config=role, cloud_profile_id=str(uuid.uuid4()), **ask)
    assert "schedule" in deploy(ann, pipeline, expect=409, config=role, schedule="@daily", **ask)["details"]
    assert ann.get(f"/pipelines/{pipeline['id']}/deployments") == []


def test_deploy_run_and_go_back(ann, bob):
    pipeline = make(ann, graph(WAIT), schedule="0 6 * * *", timezone="Europe/Berlin")
    heard = ann.live.subscribe("deployments")
    assert ann.post(f"/pipelines/{pipeline['id']}/run", {}, expect=409)
    first = deploy(ann, pipeline)
    assert (first["status"], first["version"], first["schedule"]) == ("active", 1, "0 6 * * *")
    assert [(step["name"], step["ok"]) for step in first["steps"]] == [("validate", True), ("install", True)]
    assert [frame["type"] for frame in heard.until(lambda frame: frame["type"] == "deployment.active")] == \
        ["deployment.deploying", "deployment.active"]
    job = ann.get(f"/jobs/{first['job_id']}")
    assert (job["job_type"], job["schedule"], job["timezone"]) == ("pipeline", "0 6 * * *", "Europe/Berlin")
    shown = ann.get(f"/pipelines/{pipeline['id']}")
    assert (shown["status"], shown["job_id"], shown["next_run"]) == ("deployed", job["id"], job["next_run_at"])
    bob.get(f"/deployments/{first['id']}", expect=404)
    bob.post(f"/deployments/{first['id']}/rollback", {}, expect=404)

    #  What is saved now is not what is in force.
    ann.put(f"/pipelines/{pipeline['id']}", {"pipeline_graph": graph(node("b", "wait", seconds=0))})
    assert states(run(ann, pipeline)) == {"a": "succeeded"}
    second = deploy(ann, pipeline, schedule=None)
    assert (second["version"], second["job_id"], second["schedule"]) == (2, job["id"], None)
    assert states(run(ann, pipeline)) == {"b": "succeeded"}
    assert "status" in ann.post(f"/deployments/{second['id']}/rollback", {}, expect=409)["details"]
    third = ann.post(f"/pipelines/{pipeline['id']}/rollback", {}, expect=201)
    assert (third["version"], third["rollback_of"], third["pipeline_graph"]) == \
        (3, first["id"], first["pipeline_graph"])
    assert ann.get(f"/jobs/{job['id']}")["schedule"] == "0 6 * * *"
    assert states(run(ann, pipeline)) == {"a": "succeeded"}
    assert ann.get(f"/pipelines/{pipeline['id']}")["last_run"]
    assert "status" in ann.post(f"/pipelines/{pipeline['id']}/rollback", {}, expect=409)["details"]
    assert [row["status"] for row in ann.get(f"/pipelines/{pipeline['id']}/deployments")] == \
        ["active", "superseded", "superseded"]

    assert ann.post(f"/pipelines/{pipeline['id']}/undeploy", {})["message"] == "Undeployed"
    ann.get(f"/jobs/{job['id']}", expect=404)
    assert ann.get(f"/pipelines/{pipeline['id']}")["status"] == "draft"
    assert ann.post(f"/pipelines/{pipeline['id']}/undeploy", {}, expect=409)
    deploy(ann, pipeline)
    job = ann.get(f"/pipelines/{pipeline['id']}")["job_id"]
    assert ann.delete(f"/pipelines/{pipeline['id']}")["message"] == "Deleted"
    ann.get(f"/jobs/{job}", expect=404)


def test_a_branch_takes_one_way(ann, hooks):
    url = f"http://{hooks.where}"
    flow = graph(node("ask", "http", url=url + "/ask", method="POST", headers={"X-Me": "pipeline"}, body={"n": 1}),
                 node("many", "branch", node="ask", path="body.count", operator=">", value=5),
                 node("yes", "http", url=url + "/yes"), node("no", "http", url=url + "/no"),
                 node("after", "wait", seconds=0),
                 edges=[edge("ask", "many"), edge("many", "yes", True), edge("many", "no", "false"),
                        edge("yes", "after"), edge("no", "after")])
    pipeline = make(ann, flow)
    deploy(ann, pipeline)
    done = run(ann, pipeline)
    assert states(done) == {"ask": "succeeded", "many": "succeeded", "yes": "succeeded", "no": "skipped",
                            "after": "succeeded"}
    assert done["status"] == "success"
    verb, path, headers, body = next(call for call in hooks.asked if call[1] == "/ask")
    assert (verb, headers["X-Me"], json.loads(body)) == ("POST", "pipeline", {"n": 1})
    assert headers["Idempotency-Key"] and not any(call[1] == "/no" for call in hooks.asked)


@pytest.mark.parametrize("url, why", [
    ("http://127.0.0.1:1/", "address is not allowed"), ("http://169.254.169.254/latest", "address is not allowed"),
    ("{here}/broken", "the server answered 500")])
def test_what_http_nodes_cannot_do(ann, hooks, url, why):
    pipeline = make(ann, graph(node("a", "http", url=url.format(here=f"http://{hooks.where}")), node("b", "wait", seconds=0),
                               edges=[edge("a", "b")]))
    deploy(ann, pipeline)
    done = run(ann, pipeline)
    assert (done["status"], states(done)) == ("failed", {"a": "failed", "b": "upstream_failed"})
    assert why in json.dumps(done["tasks"])


def test_an_http_node_is_broken_off(ann, hooks):
    pipeline = make(ann, graph(node("a", "http", url=f"http://{hooks.where}/slow", timeout=60)))
    deploy(ann, pipeline)
    begun = ann.post(f"/pipelines/{pipeline['id']}/run", {}, expect=201)
    wait_for(lambda: any(call[1] == "/slow" for call in hooks.asked), "the request")
    ann.post(f"/job-runs/{begun['id']}/cancel", {}, expect=202)
    done = ended(ann, begun, 15)
    assert (done["state_detail"], states(done)) == ("cancelled", {"a": "cancelled"})


def test_sql_and_copy(ann):
    ann.post("/queries/execute", {"query": "create table copied (n int, word text)"})
    flow = graph(node("copy", "copy", query="select g as n, 'w' || g as word from generate_series (1, 450) g",
                      table="copied", mode="replace"),
                 node("count", "sql", query="select count (*)::int as n, max (word) as w from copied"),
                 node("all", "branch", node="count", path="first.n", operator="==", value=450),
                 node("good", "wait", seconds=0),
                 edges=[edge("copy", "count"), edge("count", "all"), edge("all", "good", True)])
    pipeline = make(ann, flow)
    deploy(ann, pipeline)
    for _ in range(2):
        done = run(ann, pipeline)
        assert states(done) == dict.fromkeys(("copy", "count", "all", "good"), "succeeded"), json.dumps(done["tasks"])
    bad = make(ann, graph(node("copy", "copy", query="select 1 as n", table="nowhere")))
    deploy(ann, bad)
    done = run(ann, bad)
    assert done["status"] == "failed" and "nowhere" in json.dumps(done["tasks"])


def test_a_notebook_node(ann):
    book = ann.post("/notebooks", {"name": "n", "content": {"cells": [
        {"id": "a", "type": "code", "content": "print (6 * 7)"}]}}, expect=201)["id"]
    pipeline = make(ann, graph(node("book", "notebook", notebook_id=book)))
    deploy(ann, pipeline)
    done = run(ann, pipeline)
    assert states(done) == {"book": "succeeded"} and "42" in done["logs"]


def test_a_wait_goes_on_after_a_kill(ann, system):
    pipeline = make(ann, graph(node("a", "wait", seconds=4), node("b", "wait", seconds=0), edges=[edge("a", "b")]))
    deploy(ann, pipeline)
    begun = ann.post(f"/pipelines/{pipeline['id']}/run", {}, expect=201)
    wait_for(lambda: "running" in states(ann.get(f"/job-runs/{begun['id']}")).values(), "the wait to begin")
    system.wait_restarted("jobs", system.kill("jobs"))
    wait_for(lambda: ann.request("GET", f"/job-runs/{begun['id']}").status_code == 200, "jobs to be back")
    assert states(ended(ann, begun)) == {"a": "succeeded", "b": "succeeded"}


def test_the_commit_is_pinned(ann, server):
    commit = server.commit("flows", {"flow.json": json.dumps(graph(node("fromgit", "wait", seconds=0)))})
    pipeline = make(ann, graph(WAIT), git_repo_url=server.url("flows"), git_branch="main")
    first = deploy(ann, pipeline)
    assert first["git_commit"] == commit
    assert [step["name"] for step in first["steps"]] == ["validate", "pin_commit", "install"]
    server.commit("flows", {"more": "x"})
    deploy(ann, pipeline)
    assert ann.post(f"/pipelines/{pipeline['id']}/rollback", {}, expect=201)["git_commit"] == commit

    ann.put(f"/pipelines/{pipeline['id']}", {"git_branch": "nowhere"})
    failed = deploy(ann, pipeline, expect=409)
    assert "no branch nowhere" in failed["error"]
    broken = ann.get(f"/deployments/{failed['details']['deployment_id']}")
    assert (broken["status"], broken["steps"][-1]["ok"], broken["termination"]["type"]) == ("failed", False, "CLIENT_ERROR")
    assert ann.get(f"/pipelines/{pipeline['id']}")["status"] == "deployed"


def test_the_graph_comes_from_the_repository(ann, server):
    flow = graph(node("fromgit", "wait", seconds=0))
    commit = server.commit("synced", {"flows/a.json": json.dumps(flow), "bad.json": "{"})
    pipeline = make(ann, graph(WAIT), git_repo_url=server.url("synced"), git_sync_enabled=True)
    path = f"/pipelines/{pipeline['id']}"
    assert "git_file_path" in deploy(ann, pipeline, expect=409)["details"]
    ann.put(path, {"git_file_path": "flows/a.json"})
    assert "git_repo_url" in deploy(ann, pipeline, expect=409)["details"]
    ann.post("/repositories", {"name": "r", "url": server.url("synced")}, expect=201)
    done = deploy(ann, pipeline)
    assert (done["git_commit"], done["pipeline_graph"]) == (commit, flow)
    shown = ann.get(path)
    assert shown["last_git_sync"] and shown["pipeline_graph"] == flow
    for name in ("bad.json", "nowhere.json"):
        ann.put(path, {"git_file_path": name})
        assert "git_file_path" in deploy(ann, pipeline, expect=(400, 404, 409))["details"]


def test_a_job_of_ones_own_runs_a_pipeline(ann, bob):
    pipeline = make(ann, graph(WAIT))
    body = {"name": "j", "job_type": "pipeline", "config": {"pipeline_id": pipeline["id"]}}
    job = ann.post("/jobs", body, expect=201)
    assert states(ended(ann, ann.post(f"/jobs/{job['id']}/run", {}, expect=201))) == {"a": "succeeded"}
    assert "pipeline_id" in bob.post("/jobs", body, expect=404)["details"]
    ann.delete(f"/pipelines/{pipeline['id']}")
    gone = ended(ann, ann.post(f"/jobs/{job['id']}/run", {}, expect=201))
    assert gone["status"] == "failed" and "not there any more" in json.dumps(gone["tasks"])
