#!/usr/bin/python3
"""Demonstration data for a fresh system, made as any client would make it: over REST.

    tools/demo.py http://127.0.0.1:8002
"""

import json
import sys
import urllib.error
import urllib.request

EMAIL, PASSWORD = "demo@example.org", "Busbar-demo-1"

CELLS = [
    {"id": "hello", "type": "markdown", "content": "# A streaming cell\nRun the next one and watch."},
    {"id": "count", "type": "code", "language": "python", "content":
     "import time\nfor n in range(5):\n    print('step', n, flush=True)\n    time.sleep(0.5)\nn * n"},
    {"id": "table", "type": "code", "language": "sql", "content":
     "SELECT n, n * n AS square FROM generate_series (1, 5) n"},
]


class Client:
    def __init__(self, base):
        self.base, self.token = base, None

    def send(self, verb, path, body=None):
        """(status, decoded body)"""
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, headers, method=verb)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")

    def need(self, verb, path, body=None):
        status, answer = self.send(verb, path, body)
        if status >= 400:
            raise SystemExit(f"{verb} {path}: {status} {answer.get('error')}")
        return answer

    def sign_in(self):
        body = {"email": EMAIL, "password": PASSWORD, "name": "Demo"}
        status, answer = self.send("POST", "/auth/signup", body)
        if status == 409:
            answer = self.need("POST", "/auth/signin", {"email": EMAIL, "password": PASSWORD})
        elif status >= 400:
            raise SystemExit(f"POST /auth/signup: {status} {answer.get('error')}")
        self.token = answer["token"]


def named(rows, name):
    return next((row for row in rows if row["name"] == name), None)


def main(base):
    client = Client(base)
    client.sign_in()
    workspace = named(client.need("GET", "/workspaces"), "Demo") or client.need(
        "POST", "/workspaces", {"name": "Demo", "description": "made by busbar up --demo"})
    notebook = named(client.need("GET", f"/notebooks?workspace_id={workspace['id']}"), "First steps")
    notebook = notebook or client.need("POST", "/notebooks", {
        "workspace_id": workspace["id"], "name": "First steps", "language": "python",
        "content": {"cells": CELLS}})
    if not named(client.need("GET", "/compute-clusters"), "Demo"):
        client.need("POST", "/compute-clusters", {
            "name": "Demo", "compute_type": "dask", "node_type": "local", "num_workers": 2,
            "cluster_config": {"idle_minutes": 30}})
    me = client.need("GET", "/auth/me")["id"]
    print(f"""
  sign in    {EMAIL}  {PASSWORD}
  page       {base}/app/
  API        {base}/docs
  notebook   {notebook['id']}

  TOKEN=$(build/bin/busbar token --user {EMAIL})
  build/bin/busbar sub user:{me}/executions &
  curl -X POST {base}/notebooks/{notebook['id']}/execute?wait=10 \\
       -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
       -d '{{"cellId": "count", "code": "print(6 * 7)"}}'
""", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8002")
