"""Jobs and their runs, for tests."""

from stack import wait_for

OVER = ("success", "failed")


def notebook(user, *cells, language="python", **fields):
    """A notebook of code cells; its id."""
    content = {"cells": [{"id": f"c{number}", "type": "code", "content": code}
                         if isinstance(code, str) else code
                         for number, code in enumerate(cells, 1)]}
    return user.post("/notebooks", {"name": "work", "language": language, "content": content,
                                    **fields}, expect=201)["id"]


def job(user, expect=201, **fields):
    """A job; without a type it is a notebook's when it has one, else SQL."""
    fields.setdefault("name", "job")
    if "notebook_id" in fields:
        fields["config"] = {"notebook_id": fields.pop("notebook_id")}
        fields.setdefault("job_type", "notebook")
    if "query" in fields:
        fields["config"] = {"query": fields.pop("query")}
    fields.setdefault("job_type", "sql")
    return user.post("/jobs", fields, expect=expect)


def start(user, work, **parameters):
    return user.post(f"/jobs/{work['id']}/run", {"parameters": parameters} if parameters else None,
                     expect=201)


def end(user, run, patience=60):
    """The run once it is over."""
    row = user.get(f"/job-runs/{run['id']}?wait={patience}", timeout=patience + 20)
    assert row["status"] in OVER, row
    return row


def done(user, work, patience=60, **parameters):
    return end(user, start(user, work, **parameters), patience)


def state_of(user, run):
    return user.get(f"/job-runs/{run['id']}")["state_detail"]


def until_state(user, run, *states, patience=30):
    return wait_for(lambda: state_of(user, run) in states, f"run in {states}", patience, 0.05)
