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
    {"id": "cluster", "type": "code", "language": "python", "content":
     "# Start the cluster Demo and attach this notebook to it first.\n"
     "from dask.distributed import Client\nclient = Client()\n"
     "print(sum(client.gather(client.map(lambda n: n * n, range(1000)))))"},
]

#  A shop with two tables, in the user's own schema.
SHOP = (
    "CREATE TABLE IF NOT EXISTS customers (id int PRIMARY KEY, name text NOT NULL, country text NOT NULL)",
    "CREATE TABLE IF NOT EXISTS orders (id int PRIMARY KEY, customer int NOT NULL REFERENCES customers (id), "
    "day date NOT NULL, amount numeric (10, 2) NOT NULL)",
    "INSERT INTO customers SELECT n, 'Customer ' || n, (ARRAY ['DE', 'FR', 'JP', 'US'])[n % 4 + 1] "
    "FROM generate_series (1, 40) n ON CONFLICT DO NOTHING",
    "INSERT INTO orders SELECT n, n % 40 + 1, date '2026-01-01' + n % 300, (n * 37 % 9000) / 100.0 "
    "FROM generate_series (1, 2000) n ON CONFLICT DO NOTHING",
    "CREATE TABLE IF NOT EXISTS revenue (country text PRIMARY KEY, orders bigint NOT NULL, amount numeric NOT NULL)")

REVENUE = ("SELECT c.country, count (*) AS orders, sum (o.amount) AS amount FROM orders o "
           "JOIN customers c ON c.id = o.customer GROUP BY c.country ORDER BY amount DESC")

#  Sums the orders anew, and goes on where enough came out.
PIPELINE = {
    "nodes": [
        {"id": "clear", "type": "sql", "config": {"query": "DELETE FROM revenue"}},
        {"id": "sum", "type": "sql", "config": {"query": "INSERT INTO revenue " + REVENUE}},
        {"id": "check", "type": "sql", "config": {"query": "SELECT count (*)::int AS n FROM revenue"}},
        {"id": "enough", "type": "branch",
         "config": {"node": "check", "path": "first.n", "operator": ">=", "value": 4}},
        {"id": "done", "type": "wait", "config": {"seconds": 1}}],
    "edges": [{"from": "clear", "to": "sum"}, {"from": "sum", "to": "check"}, {"from": "check", "to": "enough"},
              {"from": "enough", "to": "done", "condition": True}]}


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


def platform(client, workspace):
    """A query, a job whose schedule is off, a pipeline, a cluster that is not started, and tables to be found."""
    def have(path, name, **body):
        return named(client.need("GET", path), name) or client.need("POST", path, {"name": name, **body})

    for statement in SHOP:
        _, answer = client.send("POST", "/queries/execute", {"query": statement})
        if not answer.get("success"):
            print(f"no tables for the demonstration: {answer.get('error')}", file=sys.stderr)
            break
    have("/queries", "Revenue by country", workspace_id=workspace, query_text=REVENUE, engine="postgresql")
    have("/jobs", "Nightly revenue", workspace_id=workspace, job_type="sql", config={"query": REVENUE},
         schedule="30 2 * * *", timezone="Europe/Berlin", enabled=False)
    have("/pipelines", "Revenue", workspace_id=workspace, pipeline_graph=PIPELINE,
         description="sums the orders into the table revenue")
    have("/data-catalog", "Orders", workspace_id=workspace, catalog_type="table", location="orders",
         schema_info={"columns": ["id", "customer", "day", "amount"]})
    have("/compute-clusters", "Demo", compute_type="dask", node_type="local", num_workers=2,
         cluster_config={"idle_minutes": 30})
    client.need("POST", "/data-catalog/refresh", {})


def main(base):
    client = Client(base)
    client.sign_in()
    workspace = named(client.need("GET", "/workspaces"), "Demo") or client.need(
        "POST", "/workspaces", {"name": "Demo", "description": "made by busbar up --demo"})
    notebook = named(client.need("GET", f"/notebooks?workspace_id={workspace['id']}"), "First steps")
    notebook = notebook or client.need("POST", "/notebooks", {
        "workspace_id": workspace["id"], "name": "First steps", "language": "python",
        "content": {"cells": CELLS}})
    platform(client, workspace["id"])
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
