"""Jobs really run: notebooks cell by cell, in order, with parameters, retries, cancellation."""

import pytest

from jobs_world import done, end, job, notebook, start, until_state


def test_a_notebook_runs_cell_by_cell(ann):
    book = notebook(ann, "kept = [1]\nprint('first')", {"id": "m", "type": "markdown", "content": "# no"},
                    "kept.append(2)\nprint('second', kept)")
    work = job(ann, notebook_id=book, name="nightly")
    assert (work["job_type"], work["enabled"], work["schedule"]) == ("notebook", True, None)
    run = start(ann, work)
    assert run["status"] == "pending" and run["job_id"] == work["id"]
    row = end(ann, run)
    assert (row["status"], row["state_detail"], row["error_message"]) == ("success", "succeeded", None)
    assert row["termination"]["code"] == "SUCCESS"
    assert "first" in row["logs"] and "second [1, 2]" in row["logs"]
    assert row["duration_seconds"] > 0
    assert [task["state"] for task in row["tasks"]] == ["succeeded"]
    assert [one["id"] for one in ann.get(f"/jobs/{work['id']}/runs")] == [run["id"]]
    assert ann.get(f"/jobs/{work['id']}/runs/{run['id']}")["logs"] == row["logs"]
