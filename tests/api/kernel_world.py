"""Notebooks and their executions, for the tests of kernels."""

import json
import pathlib
import time

FINAL = {"succeeded", "failed", "aborted", "cancelled", "lost"}


class Notebook:
    """One notebook of a user, with cells to run in it."""

    def __init__(self, user, language="python", workspace=None):
        self.user = user
        self.workspace = workspace or user.post("/workspaces", {"name": "cells"}, expect=201)["id"]
        self.id = user.post("/notebooks", {"name": "cells", "workspace_id": self.workspace,
                                           "language": language}, expect=201)["id"]

    def run(self, code, language=None, expect=200, cell=None, **headers):
        """To the end: the documented blocking answer."""
        body = {"notebookId": self.id, "cellId": cell, "code": code, "language": language}
        body = {name: value for name, value in body.items() if value is not None}
        return self.user.post("/notebooks/execute", body, expect=expect, headers=headers or None)

    def begin(self, code, language=None, cell=None, expect=202):
        """Only begun: the answer with execution_id and live."""
        body = {"code": code, "language": language, "cellId": cell}
        body = {name: value for name, value in body.items() if value is not None}
        return Execution(self.user, self.user.post(f"/notebooks/{self.id}/execute", body,
                                                   expect=expect))


class Execution:
    """An execution followed by polling its events."""

    def __init__(self, user, answer):
        self.user, self.answer, self.id = user, answer, answer["execution_id"]
        self.events, self.next = [], 0

    def row(self):
        return self.user.get(f"/executions/{self.id}")

    def poll(self, wait=5):
        page = self.user.get(f"/executions/{self.id}/events?from={self.next}&wait={wait}")
        self.events += page["events"]
        self.next = page["next"]
        return page

    def until(self, kind, patience=40):
        """Events up to the first of that type; it is answered."""
        deadline = time.monotonic() + patience
        seen = 0
        while True:
            for event in self.events[seen:]:
                if event["type"] == f"execution.{kind}":
                    return event
            seen = len(self.events)
            assert time.monotonic() < deadline, f"no {kind} in {patience} s: {brief(self.events)}"
            self.poll()

    def finish(self, patience=60):
        """Its last event, and the row then."""
        self.until("finished", patience)
        return self.row()

    def text(self):
        return "".join(event["data"]["text"] for event in self.events
                       if event["type"] == "execution.stream")

    def types(self):
        return [event["type"].split(".")[1] for event in self.events]

    def interrupt(self, expect=202):
        return self.user.post(f"/executions/{self.id}/interrupt", expect=expect)

    def answer_input(self, value, expect=200):
        return self.user.post(f"/executions/{self.id}/input", {"value": value}, expect=expect)


def brief(events):
    return json.dumps(events)[:2000]


def descendants(pid):
    """{pid: command line} of everything below a process."""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            try:
                found[int(child)] = pathlib.Path(f"/proc/{child}/cmdline").read_text()
            except OSError:
                continue
            found.update(descendants(int(child)))
    return found


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        return False
