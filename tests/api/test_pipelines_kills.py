"""kill -9 in the middle of deployments: the record says what is there, and deploying again works."""

import http.server
import json
import threading

import pytest

from client import own_system
from stack import wait_for

ROLE = "arn:aws:iam::123456789012:role/pipelines"


class States(http.server.BaseHTTPRequestHandler):
    """What of AWS Step Functions a deployment asks for."""

    def do_POST(self):
        owner = self.server.owner
        action = self.headers["X-Amz-Target"].partition(".")[2]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, answer = owner.act(action, body)
        if action == owner.deadly:
            owner.deadly = None
            owner.kill()
            return
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Amazon:
    def __init__(self):
        self.machines, self.deadly, self.kill = {}, None, None
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), States)
        self.http.owner = self
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.base = f"http://127.0.0.1:{self.http.server_address[1]}/"

    def act(self, action, body):
        arn = body.get("stateMachineArn") or \
            f"arn:aws:states:eu-west-1:123456789012:stateMachine:{body.get('name')}"
        if action == "CreateStateMachine" and arn in self.machines:
            return 400, {"__type": "StateMachineAlreadyExists", "message": "it is there"}
        if action != "CreateStateMachine" and arn not in self.machines:
            return 400, {"__type": "StateMachineDoesNotExist", "message": "it is not there"}
        if action == "DeleteStateMachine":
            del self.machines[arn]
        else:
            self.machines[arn] = json.loads(body["definition"])
        return 200, {"stateMachineArn": arn}

    def close(self):
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture(scope="module")
def world():
    import busbar

    amazon = Amazon()
    with own_system(f"--set=jobs.states-endpoint={amazon.base}",
                    environment={"BUSBAR_FAULT": "none"}) as (system, user), \
            busbar.Client(str(system.run)) as client:
        yield system, user, client, amazon
    amazon.close()


def graph(seconds=0):
    return {"nodes": [{"id": "a", "type": "wait", "config": {"seconds": seconds}}], "edges": []}


def make(user, **fields):
    return user.post("/pipelines", {"name": "flow", "pipeline_graph": graph(), **fields},
                     expect=201)["id"]


def settled(user, pipeline):
    """Its deployments, once none is under way; jobs may be on its way back."""
    def look():
        answer = user.request("GET", f"/pipelines/{pipeline}/deployments")
        rows = answer.json() if answer.status_code == 200 else None
        return rows is not None and all(row["status"] != "deploying" for row in rows) and [rows]
    return wait_for(look, "an end of the deployment", 60, 0.1)[0]


def jobs_of(user, pipeline):
    return [job for job in user.get("/jobs") if job["config"].get("pipeline_id") == pipeline]


def agrees(user, pipeline, rows):
    """What runs here is what the record says is in force, and nothing else does."""
    active = [row for row in rows if row["status"] == "active"]
    jobs = jobs_of(user, pipeline)
    assert [job["config"]["deployment_id"] for job in jobs] == [row["id"] for row in active]
    assert [(job["id"], job["schedule"]) for job in jobs] == \
        [(row["job_id"], row["schedule"]) for row in active]
    assert user.get(f"/pipelines/{pipeline}")["job_id"] == (jobs[0]["id"] if jobs else None)


def deadly_deploy(world, pipeline, commit, **fields):
    """The process dies at so many of its commits and reads from now on, if it makes that many."""
    import busbar

    _, user, client, _ = world
    client.call("jobs.faults", body={"set": f"db.commit:{commit}=die"}, timeout=20)
    user.request("POST", f"/pipelines/{pipeline}/deploy", fields)
    try:
        client.call("jobs.faults", body={"set": "none"}, timeout=20)
    except (busbar.BusError, TimeoutError, OSError):
        pass
    return settled(user, pipeline)


@pytest.mark.parametrize("commit", (6, 8))      #  before and behind the record of the job
def test_a_job_and_its_record_agree(world, commit):
    _, user, _, _ = world
    pipeline = make(user, schedule="0 6 * * *")
    rows = deadly_deploy(world, pipeline, commit)
    agrees(user, pipeline, rows)
    for row in rows:
        assert row["status"] == "active" or row["termination"]["code"] == "LOST", row
    user.post(f"/pipelines/{pipeline}/deploy", {}, expect=201)
    agrees(user, pipeline, settled(user, pipeline))
    #  And where something is in force already.
    user.put(f"/pipelines/{pipeline}", {"pipeline_graph": graph(1)})
    agrees(user, pipeline, deadly_deploy(world, pipeline, commit, schedule="0 7 * * *"))
    user.delete(f"/pipelines/{pipeline}")
    assert jobs_of(user, pipeline) == []


def test_a_state_machine_and_its_record_agree(world):
    system, user, _, amazon = world
    profile = user.post("/cloud-profiles", {
        "name": "aws", "cloud_provider": "aws", "region": "eu-west-1",
        "credentials": {"access_key_id": "AKIATEST", "secret_access_key": "secret"}}, expect=201)["id"]
    amazon.kill = lambda: system.kill("jobs")
    ask = {"target": "aws-step-functions", "cloud_profile_id": profile, "config": {"role_arn": ROLE}}
    pipeline = make(user)
    where = f"/pipelines/{pipeline}"

    amazon.deadly = "CreateStateMachine"
    user.request("POST", f"{where}/deploy", ask)
    [row] = settled(user, pipeline)
    assert (row["status"], row["termination"]["code"]) == ("failed", "LOST")
    assert "was taken away" in row["termination"]["message"] and amazon.machines == {}
    assert user.get(where)["status"] == "error"

    first = user.post(f"{where}/deploy", ask, expect=201)
    [(arn, definition)] = amazon.machines.items()
    assert first["resource_arn"] == arn
    user.put(where, {"pipeline_graph": graph(7)})
    amazon.deadly = "UpdateStateMachine"
    user.request("POST", f"{where}/deploy", ask)
    rows = settled(user, pipeline)
    assert [row["status"] for row in rows] == ["failed", "active", "failed"]
    assert "in force before" in rows[0]["termination"]["message"]
    assert amazon.machines == {arn: definition}

    #  It is gone there, and we did not hear so: asked again, it is gone.
    amazon.deadly = "DeleteStateMachine"
    user.request("POST", f"{where}/undeploy", {})
    assert amazon.machines == {}
    wait_for(lambda: user.request("POST", f"{where}/undeploy", {}).status_code == 200,
             "an answer of who came back", 60, 0.1)
    assert user.get(where)["state_machine_arn"] is None
