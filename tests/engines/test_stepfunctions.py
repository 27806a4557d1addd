"""Pipelines as state machines: at moto, which reads Amazon States Language, and runs it."""

import json
import os
import pathlib
import subprocess
import sys
import urllib.request

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "api"))

from client import own_system  # noqa: E402
from stack import free_port, wait_for  # noqa: E402

PLACE = pathlib.Path(os.environ.get("BUSBAR_BUILD", HERE.parents[1] / "build")).resolve() / "engines" / "moto"
WANTED = "moto[server,stepfunctions]==5.0.28"
ROLE = "arn:aws:iam::123456789012:role/pipelines"


def python():
    """Of a virtual environment with moto, made once."""
    interpreter = PLACE / "bin" / "python"
    if not (PLACE / "made").exists():
        for command in ([sys.executable, "-m", "venv", str(PLACE)],
                        [str(interpreter), "-m", "pip", "install", "-q", WANTED]):
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
            if done.returncode:
                pytest.skip(f"no moto from PyPI: {done.stderr.strip()[-300:]}")
        (PLACE / "made").touch()
    return str(interpreter)


class Moto:
    def __init__(self):
        self.base = f"http://127.0.0.1:{free_port()}"
        with open(PLACE / "server.log", "w", encoding="utf-8") as log:
            self.server = subprocess.Popen([python(), "-m", "moto.server", "-H", "127.0.0.1", "-p",
                                            self.base.rsplit(":", 1)[1]], stdout=log, stderr=log)
        wait_for(self._answers, "moto", 60)
        self._send("/moto-api/config", {"stepfunctions": {"execute_state_machine": True}}, {})

    def _answers(self):
        try:
            return urllib.request.urlopen(self.base + "/moto-api/", timeout=5).status == 200
        except OSError:
            return False

    def _send(self, path, body, headers):
        request = urllib.request.Request(self.base + path, json.dumps(body).encode(),
                                         {"Content-Type": "application/json", **headers})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def states(self, action, **body):
        scope = "Credential=AKIATEST/20260101/eu-west-1/states/aws4_request"
        return self._send("/", body, {"X-Amz-Target": f"AWSStepFunctions.{action}",
                                      "Content-Type": "application/x-amz-json-1.0",
                                      "Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"})

    def definition(self, arn):
        return json.loads(self.states("DescribeStateMachine", stateMachineArn=arn)["definition"])

    def execute(self, arn):
        """What each level left behind."""
        begun = self.states("StartExecution", stateMachineArn=arn, input="{}", name="e" + os.urandom(4).hex())
        done = wait_for(lambda: (now := self.states("DescribeExecution", executionArn=begun["executionArn"]))
                        ["status"] != "RUNNING" and now, "the execution", 30)
        assert done["status"] == "SUCCEEDED", done
        return json.loads(done["output"])

    def close(self):
        self.server.kill()
        self.server.wait()


@pytest.fixture(scope="module")
def moto():
    python()
    moto = Moto()
    yield moto
    moto.close()


@pytest.fixture(scope="module")
def ann(moto):
    with own_system(f"--set=jobs.states-endpoint={moto.base}/") as (_, user):
        yield user


@pytest.fixture(scope="module")
def profile(ann):
    return ann.post("/cloud-profiles", {
        "name": "aws", "cloud_provider": "aws", "region": "eu-west-1",
        "credentials": {"access_key_id": "AKIATEST", "secret_access_key": "secret"}}, expect=201)["id"]


def node(name, kind, **config):
    return {"id": name, "type": kind, "config": config}


def make(user, nodes, edges=()):
    return user.post("/pipelines", {"name": "flow", "pipeline_graph": {"nodes": nodes, "edges": list(edges)}},
                     expect=201)


def deploy(user, pipeline, profile, expect=201, **config):
    return user.post(f"/pipelines/{pipeline['id']}/deploy", {
        "target": "aws-step-functions", "cloud_profile_id": profile, "config": {"role_arn": ROLE, **config}},
        expect=expect)


def test_made_changed_brought_back_and_taken_away(ann, moto, profile):
    pipeline = make(ann, [node("a", "wait", seconds=0)])
    first = deploy(ann, pipeline, profile)
    arn = first["resource_arn"]
    assert first["status"] == "active" and arn.endswith(f":stateMachine:busbar-{pipeline['id']}")
    assert moto.definition(arn) == first["definition"]
    assert moto.execute(arn)["level0"]["n0"]["state"] == "succeeded"
    path = f"/pipelines/{pipeline['id']}"
    ann.put(path, {"pipeline_graph": {"nodes": [node("a", "wait", seconds=0), node("b", "wait", seconds=0)],
                                      "edges": [{"from": "a", "to": "b"}]}})
    second = deploy(ann, pipeline, profile)
    assert second["resource_arn"] == arn and moto.definition(arn) == second["definition"] != first["definition"]
    back = ann.post(path + "/rollback", {}, expect=201)
    assert back["definition"] == first["definition"] == moto.definition(arn)
    assert ann.delete(path, expect=409)
    ann.post(path + "/undeploy", {})
    assert arn not in [row["stateMachineArn"] for row in moto.states("ListStateMachines")["stateMachines"]
                       if row.get("status") != "DELETING"]
    assert ann.delete(path)["message"] == "Deleted"


def test_a_branch_takes_one_way_there_too(ann, moto, profile):
    edges = [{"from": "a", "to": "if"}, {"from": "if", "to": "yes", "condition": True},
             {"from": "if", "to": "no", "condition": False}, {"from": "yes", "to": "after"},
             {"from": "no", "to": "after"}]
    pipeline = make(ann, [node("a", "wait", seconds=0), node("if", "branch", node="a", path="x", operator="exists"),
                          node("yes", "wait", seconds=0), node("no", "wait", seconds=0),
                          node("after", "wait", seconds=0)], edges)
    left = moto.execute(deploy(ann, pipeline, profile)["resource_arn"])
    assert left["level1"]["n1"]["outcome"] == "false"
    assert [left["level2"][name]["state"] for name in ("n2", "n3")] == ["skipped", "succeeded"]
    assert left["level3"]["n4"]["state"] == "succeeded"


def test_every_kind_of_node_is_read(ann, moto, profile):
    book = ann.post("/notebooks", {"name": "n"}, expect=201)["id"]
    nodes = [node("q", "sql", query="select 1", max_retries=2, timeout_seconds=60),
             node("h", "http", url="https://example.org/", method="POST", headers={"a": "b"}, body={"c": [1]}),
             node("n", "notebook", notebook_id=book), node("c", "copy", query="select 1 as a", table="t"),
             node("b", "branch", node="q", path="a.b", operator="contains", value="x*\\"),
             node("w", "wait", seconds=1)]
    edges = [{"from": "q", "to": "b"}, {"from": "b", "to": "w", "condition": True}, {"from": "h", "to": "w"}]
    pipeline = make(ann, nodes, edges)
    #  moto does not know http:invoke.
    done = deploy(ann, pipeline, profile, athena_output="s3://bucket/out/",
                  runner_function_arn="arn:aws:lambda:eu-west-1:123456789012:function:run")
    assert moto.definition(done["resource_arn"]) == done["definition"]


def test_what_amazon_refuses_is_told(ann, profile):
    pipeline = make(ann, [node("a", "wait", seconds=0)])
    refused = ann.post(f"/pipelines/{pipeline['id']}/deploy", {
        "target": "aws-step-functions", "cloud_profile_id": profile, "config": {"role_arn": "nonsense"}}, expect=409)
    assert "aws step functions refused CreateStateMachine" in refused["error"]
    shown = ann.get(f"/deployments/{refused['details']['deployment_id']}")
    assert shown["status"] == "failed" and shown["steps"][-1]["ok"] is False
    bare = ann.post("/cloud-profiles", {"name": "bare", "cloud_provider": "aws", "region": "eu-west-1"}, expect=201)["id"]
    assert deploy(ann, pipeline, bare, expect=409)
