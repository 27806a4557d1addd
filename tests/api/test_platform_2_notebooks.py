"""Notebooks: what they hold, .ipynb in and out, the two ways to run a cell, who may."""

import json
import socket
import uuid

import httpx
import pytest

from kernel_world import Notebook


@pytest.fixture(scope="module")
def user(sign_up):
    return sign_up("notebooks")


CELLS = {"cells": [
    {"id": "a", "type": "code", "content": "print('from the cell')", "output": "", "error": None,
     "executionTime": 5},
    {"id": "b", "type": "markdown", "content": "# Title", "anything": {"else": [1, 2.5, None]}},
    {"id": "c", "type": "sql", "content": "SELECT 41 + 1 AS n"}]}


def test_the_editor_saves_content(user):
    made = user.post("/notebooks", {"name": "n", "language": "python", "cluster_id": None,
                                    "content": {"cells": []}}, expect=201)
    path = f"/notebooks/{made['id']}"
    assert user.put(path, {"content": CELLS})["content"] == CELLS
    assert user.get(path)["content"] == CELLS
    user.put(path, {"cluster_id": str(uuid.uuid4())}, expect=404)
    cluster = user.post("/compute-clusters", {"name": "c", "compute_type": "dask"}, expect=201)["id"]
    attached = user.put(path, {"cluster_id": cluster})
    assert (attached["cluster_id"], attached["content"]) == (cluster, CELLS)
    assert user.put(path, {"cluster_id": None})["cluster_id"] is None
    user.delete(f"/compute-clusters/{cluster}")
    assert user.delete(path)["message"] == "Deleted"


def test_large_content_is_kept_and_too_large_is_refused(user):
    made = user.post("/notebooks", {"name": "large"}, expect=201)
    path = f"/notebooks/{made['id']}"
    large = {"cells": [{"id": "x", "type": "code", "content": "x" * (8 * 1024 * 1024)}]}
    assert user.put(path, {"content": large})["id"] == made["id"]
    assert len(user.get(path)["content"]["cells"][0]["content"]) == 8 * 1024 * 1024
    too_large = {"content": {"cells": [{"id": "x", "content": "x" * 16 * 1024 * 1024}]}}
    refused = user.request("PUT", path, too_large, expect=413)       # also to who sends it all
    assert refused.json()["code"] == "TOO_LARGE"
    refused = told_before_sending(user, path, 16 * 1024 * 1024)
    assert b" 413 " in refused.split(b"\r\n", 1)[0] and b'"code":"TOO_LARGE"' in refused
    assert user.get("/auth/me")["id"] == user.id
    assert len(user.get(path)["content"]["cells"][0]["content"]) == 8 * 1024 * 1024


def test_what_would_not_fit_into_an_answer_is_refused(user):
    """Stored, these numbers take a third more than they were sent with."""
    made = user.post("/notebooks", {"name": "wide"}, expect=201)
    numbers = b'{"content":{"cells":[' + b"1," * (6 << 20) + b"1]}}"
    path, kind = f"/notebooks/{made['id']}", {"Content-Type": "application/json"}
    refused = user.request("PUT", path, content=numbers, headers=kind, expect=413).json()
    assert refused["code"] == "TOO_LARGE" and "content" in refused["error"]
    assert user.get(path)["content"] == {"cells": []}


def test_many_large_notebooks_are_listed_in_pages(sign_up):
    user = sign_up("pages")
    made = [user.post("/notebooks", {"name": "n", "content": {"cells": ["x" * size]}}, expect=201)["id"]
            for size in (10, 12 << 20, 3 << 20, 3 << 20, 3 << 20, 10)]
    ids, sizes, cursor = [], [], ""
    while cursor is not None:
        page = user.request("GET", f"/notebooks?limit=5{cursor}", expect=200)
        ids += [row["id"] for row in page.json()]
        sizes.append(len(page.content))
        following = page.headers.get("x-next-cursor")
        cursor = following and f"&cursor={following}"
    assert ids == made[::-1] and max(sizes) < 13 << 20, sizes


def told_before_sending(user, path, size):
    """The answer to a body that was only announced."""
    where = httpx.URL(user.base)
    with socket.create_connection((where.host, where.port), timeout=10) as connection:
        connection.sendall(f"PUT {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {user.token}\r\n"
                           f"Content-Type: application/json\r\nContent-Length: {size}\r\n\r\n".encode())
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def test_deep_content_is_bounded(user):
    deep = {"cells": []}
    for _ in range(70):
        deep = {"cells": [deep]}
    user.post("/notebooks", {"name": "deep", "content": deep}, expect=400)


# ---------------------------------------------------------------- .ipynb


DOCUMENT = {
    "nbformat": 4, "nbformat_minor": 5,
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
                 "language_info": {"name": "python", "version": "3.11"}, "custom": {"kept": True}},
    "cells": [
        {"cell_type": "markdown", "id": "m1", "metadata": {"tags": ["intro"]}, "source": "# Title\nText",
         "attachments": {"a.png": {"image/png": "aGVsbG8="}}},
        {"cell_type": "code", "id": "c1", "metadata": {"collapsed": True}, "source": "1 + 1\n",
         "execution_count": 3, "outputs": [
             {"output_type": "execute_result", "execution_count": 3, "metadata": {},
              "data": {"text/plain": "2"}},
             {"output_type": "stream", "name": "stdout", "text": "hello\n"},
             {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["t"]}]},
        {"cell_type": "code", "id": "c2", "metadata": {}, "source": "", "execution_count": None,
         "outputs": []},
        {"cell_type": "raw", "id": "r1", "metadata": {}, "source": "raw *text*"}]}


def test_a_document_comes_back_as_it_went_in(user):
    made = user.post("/notebooks/import?name=imported", DOCUMENT, expect=201)
    assert (made["name"], made["language"]) == ("imported", "python")
    assert [cell["type"] for cell in made["content"]["cells"]] == ["markdown", "code", "code", "markdown"]
    assert made["content"]["cells"][1]["content"] == "1 + 1\n"
    for path in ("export", "ipynb"):
        answer = user.request("GET", f"/notebooks/{made['id']}/{path}", expect=200)
        assert answer.json() == DOCUMENT
        assert answer.headers["content-disposition"] == 'attachment; filename="imported.ipynb"'
    assert made["live"]["ch"] == f"user:{user.id}/notebooks"


def test_lines_of_source_are_joined(user):
    lines = json.loads(json.dumps(DOCUMENT))
    lines["cells"][0]["source"] = ["# Title\n", "Text"]
    made = user.post("/notebooks/import", lines, expect=201)
    assert user.get(f"/notebooks/{made['id']}/export") == DOCUMENT
    assert made["name"]


def test_what_we_export_the_reference_reads(user):
    nbformat = pytest.importorskip("nbformat")
    made = user.post("/notebooks", {"name": "a\"b/c\r\n d", "content": CELLS}, expect=201)
    imported = user.post("/notebooks/import", DOCUMENT, expect=201)
    for notebook in (made, imported):
        text = user.request("GET", f"/notebooks/{notebook['id']}/export", expect=200).text
        nbformat.validate(nbformat.reads(text, as_version=4))


def test_our_own_cells_export(user):
    made = user.post("/notebooks", {"name": "own", "language": "r", "content": {"cells": [
        {"id": "white space", "type": "code", "content": "x", "output": "shown\n"},
        {"type": "markdown", "content": "text"}, {"id": "q", "type": "sql", "content": "SELECT 1"}]}}, expect=201)
    document = user.get(f"/notebooks/{made['id']}/export")
    assert (document["nbformat"], document["metadata"]["kernelspec"]["name"]) == (4, "ir")
    assert [cell["cell_type"] for cell in document["cells"]] == ["code", "markdown", "code"]
    assert all(1 <= len(cell["id"]) <= 64 and " " not in cell["id"] for cell in document["cells"])
    assert len({cell["id"] for cell in document["cells"]}) == 3
    assert document["cells"][0]["outputs"] == [{"output_type": "stream", "name": "stdout", "text": "shown\n"}]


@pytest.mark.parametrize("content", [
    {}, {"cells": "x"}, {"cells": [1, None, "a", []]}, {"cells": [{}]},
    {"cells": [{"id": 5, "type": 7, "content": {"a": 1}, "outputs": "x", "metadata": []}]},
    {"cells": [{"type": "code", "content": ["a", "b"], "execution_count": "x"}], "metadata": 5}])
def test_any_content_exports_as_a_document(user, content):
    made = user.post("/notebooks", {"name": "odd", "content": content}, expect=201)
    document = user.get(f"/notebooks/{made['id']}/export")
    assert document["nbformat"] == 4 and isinstance(document["cells"], list)
    assert isinstance(document["metadata"], dict)
    for cell in document["cells"]:
        assert cell["cell_type"] in ("code", "markdown", "raw")
        assert isinstance(cell["source"], str) and isinstance(cell["id"], str)
        assert isinstance(cell["metadata"], dict)
        if cell["cell_type"] == "code":
            assert isinstance(cell["outputs"], list)
            assert cell["execution_count"] is None or isinstance(cell["execution_count"], int)


@pytest.mark.parametrize("document", [
    {}, {"nbformat": 3, "cells": []}, {"nbformat": 4}, {"nbformat": 4, "cells": {}},
    {"nbformat": "4", "cells": []}, {"nbformat": 4, "cells": [{"cell_type": "magic"}]},
    {"nbformat": 4, "cells": ["x"]}, []])
def test_what_is_no_document(user, document):
    answer = user.post("/notebooks/import", document, expect=400)
    assert answer["code"] == "INVALID"


def test_import_into_a_workspace(user, bob):
    mine = user.post("/workspaces", {"name": "w"}, expect=201)["id"]
    made = user.post(f"/notebooks/import?workspace_id={mine}&name=x", DOCUMENT, expect=201)
    assert made["workspace_id"] == mine
    assert "workspace_id" in bob.post(f"/notebooks/import?workspace_id={mine}", DOCUMENT, expect=404)["details"]
    bob.get(f"/notebooks/{made['id']}/export", expect=404)


def test_r_documents(user):
    document = {"nbformat": 4, "nbformat_minor": 2, "cells": [],
                "metadata": {"kernelspec": {"name": "ir", "display_name": "R", "language": "R"}}}
    assert user.post("/notebooks/import", document, expect=201)["language"] == "r"


# ---------------------------------------------------------------- running a cell


@pytest.fixture(scope="module")
def notebook(user):
    made = Notebook(user)
    user.put(f"/notebooks/{made.id}", {"content": CELLS})
    return made


def test_the_documented_route_answers_at_once(user, notebook):
    response = user.request("POST", f"/notebooks/{notebook.id}/execute",
                            {"cellId": "free text ✓", "code": "print(1)"}, expect=202)
    answer = response.json()
    assert answer["execution_id"] and answer["success"] is None
    assert answer["live"]["ch"].endswith(answer["execution_id"])
    assert user.get(f"/executions/{answer['execution_id']}")["cell_id"] == "free text ✓"


def test_the_route_of_the_web_application_waits(user, notebook):
    answer = user.post("/notebooks/execute", {"notebookId": notebook.id, "cellId": "a",
                                              "code": "print('hi')", "language": "python"})
    assert (answer["success"], answer["output"], answer["error"]) == (True, "hi\n", None)
    assert answer["execution_id"] and answer["timestamp"].endswith("Z")


def test_wait_says_how_long(user, notebook):
    path, body = f"/notebooks/{notebook.id}/execute", {"code": "print('w')"}
    assert user.post(path + "?wait=20", body)["output"] == "w\n"
    assert user.post(path, {**body, "wait": 20})["output"] == "w\n"
    user.post("/notebooks/execute?wait=0", {"notebookId": notebook.id, **body}, expect=202)
    slow = {"notebookId": notebook.id, "code": "import time\ntime.sleep(3)\nprint('late')"}
    begun = user.post("/notebooks/execute?wait=0.2", slow, expect=(200, 202))
    assert begun["success"] is None and begun["state"] in ("queued", "running")
    later = user.get(f"/executions/{begun['execution_id']}/events?from=0&wait=20")
    assert later["events"]
    for bad in ("-1", "x", "601", "1e9"):
        assert "wait" in user.post(f"{path}?wait={bad}", body, expect=400)["details"]


def test_without_code_the_cell_is_run(user, notebook):
    stored = user.post("/notebooks/execute", {"notebookId": notebook.id, "cellId": "a"})
    assert stored["output"] == "from the cell\n"
    query = user.post("/notebooks/execute", {"notebookId": notebook.id, "cellId": "c"})
    assert query["language"] == "sql" and query["data"]["rows"] == [{"n": 42}]


@pytest.mark.parametrize("body", [{}, {"cellId": "no such cell"}, {"cellId": None}, {"code": None}])
def test_no_code_at_all(user, notebook, body):
    for answer in (user.post(f"/notebooks/{notebook.id}/execute", body, expect=400),
                   user.post("/notebooks/execute", {"notebookId": notebook.id, **body}, expect=400)):
        assert "code" in answer["details"] and answer["error"]


@pytest.mark.parametrize("field, value", [("code", 5), ("language", "cobol"), ("cellId", 5),
                                          ("cellId", "x" * 256), ("code", ["print(1)"])])
def test_a_wrong_execution_names_its_field(user, notebook, field, value):
    body = {"code": "1", field: value}
    assert field in user.post(f"/notebooks/{notebook.id}/execute", body, expect=400)["details"]


def test_a_notebook_that_is_not_named_or_not_there(user, notebook, bob):
    assert "notebookId" in user.post("/notebooks/execute", {"code": "1"}, expect=400)["details"]
    assert "notebookId" in user.post("/notebooks/execute", {"code": "1", "notebookId": "x"},
                                     expect=400)["details"]
    user.post("/notebooks/execute", {"code": "1", "notebookId": str(uuid.uuid4())}, expect=404)
    user.post("/notebooks/x/execute", {"code": "1"}, expect=404)
    bob.post("/notebooks/execute", {"code": "1", "notebookId": notebook.id}, expect=404)


def test_both_spellings(user, notebook):
    answer = user.post("/notebooks/execute", {"notebook_id": notebook.id, "cell_id": "s", "code": "2"})
    assert answer["output"] == "2"


def test_empty_code_is_code(user, notebook):
    answer = user.post("/notebooks/execute", {"notebookId": notebook.id, "code": ""})
    assert answer["success"] is True and answer["output"] == ""


# ---------------------------------------------------------------- members


def test_what_a_viewer_and_an_editor_may(sign_up):
    owner, editor, viewer, stranger = (sign_up(name) for name in ("owner", "editor", "viewer", "stranger"))
    workspace = owner.post("/workspaces", {"name": "shared"}, expect=201)["id"]
    notebook = owner.post("/notebooks", {"name": "n", "workspace_id": workspace}, expect=201)["id"]
    members, path = f"/workspaces/{workspace}/members", f"/notebooks/{notebook}"
    for user in (editor, viewer, stranger):
        user.get(path, expect=404)
        user.get(members, expect=404)
    added = owner.post(members, {"email": editor.user["email"], "role": "editor"}, expect=201)
    assert (added["user_id"], added["role"]) == (editor.id, "editor")
    assert owner.post(members, {"email": viewer.user["email"]}, expect=201)["role"] == "viewer"

    for user in (editor, viewer):
        assert user.get(path)["name"] == "n"
        assert user.get(f"/workspaces/{workspace}")["name"] == "shared"
        assert workspace in [row["id"] for row in user.get("/workspaces")]
        assert notebook in [row["id"] for row in user.get(f"/notebooks?workspace_id={workspace}")]
        assert {row["user_id"]: row["role"] for row in user.get(members)} == \
            {editor.id: "editor", viewer.id: "viewer"}
        user.put(f"/workspaces/{workspace}", {"name": "taken"}, expect=403)
        user.delete(f"/workspaces/{workspace}", expect=403)
        user.post(members, {"email": stranger.user["email"]}, expect=403)
        user.delete(f"{members}/{owner.id}", expect=(403, 404))

    assert editor.put(path, {"name": "by editor"})["name"] == "by editor"
    assert editor.post(f"{path}/execute?wait=30", {"code": "40 + 2"})["output"] == "42"
    theirs = editor.post("/notebooks", {"name": "e", "workspace_id": workspace}, expect=201)
    assert theirs["user_id"] == owner.id
    editor.delete(f"/notebooks/{theirs['id']}")

    for verb, where, body in (("PUT", path, {"name": "x"}), ("DELETE", path, None),
                              ("POST", f"{path}/execute", {"code": "1"}),
                              ("POST", "/notebooks/execute", {"code": "1", "notebookId": notebook}),
                              ("POST", "/notebooks", {"name": "v", "workspace_id": workspace}),
                              ("POST", f"/notebooks/import?workspace_id={workspace}", DOCUMENT),
                              ("DELETE", f"{members}/{editor.id}", None)):
        viewer.request(verb, where, body, expect=403)
    assert viewer.get(f"{path}/export")["nbformat"] == 4

    owner.post(members, {"email": viewer.user["email"], "role": "editor"}, expect=201)
    assert viewer.put(path, {"name": "raised"})["name"] == "raised"
    viewer.delete(f"{members}/{viewer.id}")      # members may leave
    viewer.get(path, expect=404)
    owner.delete(f"{members}/{editor.id}")
    editor.get(path, expect=404)
    assert owner.get(members) == []


def test_wrong_members(sign_up, bob):
    owner = sign_up("shares")
    workspace = owner.post("/workspaces", {"name": "w"}, expect=201)["id"]
    members = f"/workspaces/{workspace}/members"
    for body, status in (({}, 400), ({"email": "x"}, 400), ({"email": "nobody@example.org"}, 404),
                         ({"email": owner.user["email"]}, 409)):
        assert "email" in owner.post(members, body, expect=status)["details"]
    assert "role" in owner.post(members, {"email": bob.user["email"], "role": "owner"}, expect=400)["details"]
    owner.delete(f"{members}/{bob.id}", expect=404)
    owner.delete(f"{members}/x", expect=404)
    owner.get(f"/workspaces/{uuid.uuid4()}/members", expect=404)


def test_a_notebook_does_not_leave_its_owner_by_moving(sign_up):
    owner, editor = sign_up("stays"), sign_up("mover")
    workspace = owner.post("/workspaces", {"name": "w"}, expect=201)["id"]
    notebook = owner.post("/notebooks", {"name": "n", "workspace_id": workspace}, expect=201)["id"]
    owner.post(f"/workspaces/{workspace}/members", {"email": editor.user["email"], "role": "editor"}, expect=201)
    own = editor.post("/workspaces", {"name": "own"}, expect=201)["id"]
    assert "workspace_id" in editor.put(f"/notebooks/{notebook}", {"workspace_id": own}, expect=409)["details"]
    assert owner.get(f"/notebooks/{notebook}")["workspace_id"] == workspace
