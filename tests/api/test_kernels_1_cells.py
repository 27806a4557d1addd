"""Cells on real kernels: answers, events, rich output, SQL."""

import uuid

import pytest

from client import LiveError
from kernel_world import Notebook
from stack import wait_for


@pytest.fixture(scope="module")
def notebook(ann):
    return Notebook(ann)


def test_a_cell_answers_the_documented_shape(notebook):
    answer = notebook.run("print('hello')\n6 * 7", cell="free text: 1")
    assert answer["success"] is True
    assert answer["output"] == "hello\n42"
    assert answer["error"] is None
    assert answer["language"] == "python"
    assert isinstance(answer["executionTime"], int)
    assert answer["timestamp"].endswith("Z")
    assert answer["cellId"] == "free text: 1"
    assert [output["output_type"] for output in answer["outputs"]] == ["stream", "execute_result"]
    assert answer["live"]["ch"].endswith("/executions/" + answer["execution_id"])


def test_names_live_from_cell_to_cell(notebook):
    notebook.run("value = 20")
    first = notebook.run("value + 1")
    second = notebook.run("value + 2")
    assert (first["output"], second["output"]) == ("21", "22")
    assert second["execution_count"] == first["execution_count"] + 1


def test_an_error_is_told(notebook):
    answer = notebook.run("1 / 0")
    assert answer["success"] is False
    assert answer["state"] == "failed"
    assert answer["error"] == "ZeroDivisionError: division by zero"
    assert any("ZeroDivisionError" in line for line in answer["error_detail"]["traceback"])
    assert answer["outputs"][-1]["output_type"] == "error"


def test_without_waiting_the_answer_comes_first(notebook):
    execution = notebook.begin("import time\nfor n in range(3):\n    print(n, flush=True)\n"
                               "    time.sleep(0.1)")
    assert execution.answer["state"] in ("queued", "running")
    assert execution.answer["live"]["off"] >= 1
    row = execution.finish()
    assert row["success"] is True
    assert execution.text() == "0\n1\n2\n"
    assert execution.types()[:2] == ["queued", "started"]
    assert execution.types()[-1] == "finished"
    assert [event["off"] for event in execution.events] == list(range(1, len(execution.events) + 1))


def test_wait_works_on_both_routes(notebook):
    body = {"code": "import time; time.sleep(0.3); 'done'"}
    waited = notebook.user.post(f"/notebooks/{notebook.id}/execute?wait=20", body, expect=200)
    assert waited["output"] == "'done'"
    begun = notebook.user.post("/notebooks/execute?wait=0", {"notebookId": notebook.id, **body},
                               expect=202)
    assert begun["execution_id"] and "success" in begun


def test_two_viewers_see_it_stream(notebook):
    user = notebook.user
    lists = user.another_live().subscribe("executions")
    execution = notebook.begin("import time\nfor n in range(5):\n    print(n, flush=True)\n"
                               "    time.sleep(0.1)")
    channel = execution.answer["live"]["ch"]
    one, two = user.another_live(), user.another_live()
    seen = []
    for live in (one, two):
        frames = live.subscribe(channel, off=0, epoch=execution.answer["live"]["epoch"])
        seen.append(frames.until(lambda frame: frame.get("type") == "execution.finished"))
    for frames in seen:
        offsets = [frame["off"] for frame in frames]
        assert offsets == list(range(1, len(offsets) + 1))
        text = "".join(frame["data"]["text"] for frame in frames
                       if frame["type"] == "execution.stream")
        assert text == "0\n1\n2\n3\n4\n"
    states = lists.until(lambda frame: frame.get("key") == execution.id
                         and frame["type"] == "execution.finished")
    assert states[-1]["data"]["state"] == "succeeded"
    for live in (one, two, lists.live):
        live.close()


def test_rich_output(notebook):
    answer = notebook.run(
        "from IPython.display import display, HTML, JSON\n"
        "handle = display(HTML('<b>1</b>'), display_id='d')\n"
        "display(JSON({'a': [1, float(2)]}))\n"
        "handle.update(HTML('<b>2</b>'))")
    html, data = answer["outputs"]
    assert html["data"]["text/html"] == "<b>2</b>"
    assert data["data"]["application/json"] == {"a": [1, 2.0]}


def test_an_update_reaches_the_cell_that_shows_it(notebook):
    shown = notebook.run("from IPython.display import display, HTML\n"
                         "h = display(HTML('<i>old</i>'), display_id='other')")
    notebook.run("h.update(HTML('<i>new</i>'))")
    path = f"/executions/{shown['execution_id']}"
    kind = "execution.update_display_data"
    event = wait_for(lambda: next((event for event in notebook.user.get(path + "/events")["events"]
                                   if event["type"] == kind), None), "the update")
    assert event["data"]["data"]["text/html"] == "<i>new</i>"
    wait_for(lambda: notebook.user.get(path)["outputs"][0]["data"]["text/html"] == "<i>new</i>",
             "the stored output to follow")


def test_cleared_output_is_gone(notebook):
    answer = notebook.run("from IPython.display import clear_output\n"
                          "for n in range(100):\n    clear_output(wait=True)\n    print(n)")
    assert answer["output"] == "99\n"


def test_strange_text_survives(notebook):
    answer = notebook.run("print('\\0 \\x1b[31mred\\x1b[0m \\U0001f600')\nfloat('nan')")
    assert answer["output"] == "\ufffd \x1b[31mred\x1b[0m \U0001f600\nnan"


def test_a_thread_speaks_after_the_end(notebook):
    execution = notebook.begin("import threading, time\n"
                               "def late():\n    time.sleep(0.5)\n    print('late', flush=True)\n"
                               "threading.Thread(target=late).start()\nprint('early')")
    execution.finish()
    wait_for(lambda: execution.poll(1) and "late" in execution.text(), "the thread to speak")
    wait_for(lambda: "late" in execution.row()["output"], "the stored output to follow")


def test_r_cells(ann):
    notebook = Notebook(ann, language="r")
    answer = notebook.run("cat('hello\\n')\nsum(1:10)")
    assert answer["success"] is True
    assert "hello" in answer["output"] and "55" in answer["output"]
    failed = notebook.run("stop('not today')")
    assert failed["success"] is False
    assert "not today" in failed["error"]


def test_scala_names_what_is_missing(notebook):
    refused = notebook.run("1 + 1", language="scala", expect=409)
    assert refused["error"] == "scala kernel is not configured: install a kernelspec named scala"


def test_sql_cells(notebook):
    notebook.run("DROP TABLE IF EXISTS cities", language="sql")
    assert notebook.run("CREATE TABLE cities (name text, people bigint)", language="sql")["success"]
    answer = notebook.run("INSERT INTO cities VALUES ('Ulm', 126000), ('Bonn', NULL)",
                          language="sql")
    assert answer["data"]["rowCount"] == 2
    answer = notebook.run("SELECT name, people, people > 5 AS large, now() AS at, 1 AS name"
                          " FROM cities ORDER BY people", language="sql")
    assert answer["data"]["rowCount"] == 2
    first = answer["data"]["rows"][0]
    assert (first["name"], first["people"], first["large"]) == ("Ulm", 126000, True)
    assert first["name_2"] == 1
    assert [column["name"] for column in answer["data"]["columns"]] == \
        ["name", "people", "large", "at", "name_2"]
    assert "Ulm | 126000" in answer["output"]


def test_sql_errors_name_the_state(notebook):
    answer = notebook.run("SELECT * FROM nowhere", language="sql")
    assert answer["success"] is False
    assert answer["error"] == 'SQLSTATE 42P01: relation "nowhere" does not exist'
    assert notebook.run("SELECT 1; SELECT 2", language="sql")["success"] is False


def test_sql_rows_are_limited(notebook):
    answer = notebook.run("SELECT generate_series(1, 20000) AS n", language="sql")
    assert len(answer["data"]["rows"]) == 10000
    assert answer["data"]["truncated"] is True and answer["truncated"] is True


def test_sql_of_others_is_not_there(notebook, bob):
    notebook.run("CREATE TABLE IF NOT EXISTS mine (a int)", language="sql")
    answer = Notebook(bob).run("SELECT * FROM mine", language="sql")
    assert answer["error"].startswith("SQLSTATE 42P01")


def test_sql_is_interrupted(notebook):
    execution = notebook.begin("SELECT pg_sleep(60)", language="sql")
    execution.until("started")
    execution.interrupt()
    assert execution.finish()["state"] == "cancelled"


def test_strangers_see_nothing(notebook, bob):
    execution = notebook.begin("1")
    execution.finish()
    for path in (f"/executions/{execution.id}", f"/executions/{execution.id}/events"):
        bob.get(path, expect=404)
    bob.post(f"/executions/{execution.id}/interrupt", expect=404)
    bob.post(f"/executions/{execution.id}/input", {"value": "x"}, expect=404)
    bob.post(f"/kernels/{notebook.id}/restart", expect=404)
    bob.delete(f"/kernels/{notebook.id}", expect=404)
    bob.post(f"/notebooks/{notebook.id}/execute", {"code": "1"}, expect=404)
    assert bob.get(f"/executions?notebook_id={notebook.id}") == []
    assert all(kernel["notebook_id"] != notebook.id for kernel in bob.get("/kernels"))
    live = bob.another_live()
    with pytest.raises(LiveError):
        live.subscribe(execution.answer["live"]["ch"])
    live.close()


def test_nobody_starts_an_execution_past_platform(notebook, bob):
    live = bob.another_live()
    with pytest.raises(LiveError) as refused:
        answer = live.ask("call", {"method": "executions.start", "body": {
            "notebook_id": notebook.id, "owner": notebook.user.id, "audience": f"user:{bob.id}",
            "language": "python", "code": "print('mine now')"}})
        assert answer["status"] in (403, 404), answer
        raise LiveError({"code": answer["body"]["code"]})
    assert refused.value.code in ("FORBIDDEN", "NOT_FOUND")
    live.close()


def test_unknown_executions_are_not_found(ann):
    for path in (str(uuid.uuid4()), f"{uuid.uuid4()}/events", "x"):
        ann.get(f"/executions/{path}", expect=404)
    ann.post(f"/kernels/{uuid.uuid4()}/restart", expect=404)
    ann.delete(f"/kernels/{uuid.uuid4()}", expect=404)


def test_a_repeated_request_runs_once(notebook):
    notebook.run("times = 0")
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = notebook.run("times += 1\ntimes", **key)
    second = notebook.run("times += 1\ntimes", **key)
    assert first["execution_id"] == second["execution_id"]
    assert notebook.run("times")["output"] == "1"


def test_a_member_runs_cells_and_the_owner_watches(sign_up):
    owner, member = sign_up("owner"), sign_up("member")
    notebook = Notebook(owner)
    owner.post(f"/workspaces/{notebook.workspace}/members",
               {"email": member.user["email"], "role": "editor"}, expect=(200, 201))
    answer = member.post("/notebooks/execute", {"notebookId": notebook.id, "code": "'shared'"})
    assert answer["output"] == "'shared'"
    assert answer["live"]["ch"].startswith(f"project:{notebook.workspace}/executions/")
    assert owner.get(f"/executions/{answer['execution_id']}")["output"] == "'shared'"
    assert member.get(f"/executions/{answer['execution_id']}")["output"] == "'shared'"


def test_a_deleted_notebook_takes_its_executions(ann):
    notebook = Notebook(ann)
    answer = notebook.run("1")
    ann.delete(f"/notebooks/{notebook.id}", expect=(200, 204))
    ann.get(f"/executions/{answer['execution_id']}", expect=404)
    assert all(kernel["notebook_id"] != notebook.id for kernel in ann.get("/kernels")
               if kernel["state"] != "stopping")
