"""SQL through the statement service beside psql: what it adds to a small statement, how fast a million
rows are, and what memory that takes."""

import http.client
import json
import os
import subprocess
import time
import urllib.parse
from pathlib import Path
from statistics import median

from rows import Line, aim, at_most, mid, rounds_of, spread
from servers import Wrong, run

SMALL = 400                                 # statements in a round
STARTED = 40                                # of them with a psql of its own
ROWS = 1000000
LARGE = f"SELECT n, n * 2 AS twice, 'row ' || n AS word FROM generate_series(1, {ROWS}) n"
MEMORY = 64 << 20                           # bytes that no process may exceed


def psql_environment(busbar):
    """Of a psql that connects to the guest database."""
    password = (busbar.place / "secrets/pg_owner").read_text().strip()
    return os.environ | {"PGHOST": str(busbar.run_dir / "pg"), "PGUSER": "busbar_owner",
                         "PGPASSWORD": password, "PGDATABASE": "busbar_guest"}


def psql(busbar):
    """One that is started; arguments come behind."""
    environment = psql_environment(busbar)
    return lambda *words, **options: subprocess.run(["psql", "-Xq", *words], env=environment, check=True, **options)


def took(what):
    began = time.perf_counter()
    what()
    return (time.perf_counter() - began) * 1000


def p50_of(what, count):
    for _ in range(count // 10):
        what()
    return {"p50": median(took(what) for _ in range(count))}


def kept(busbar):
    """SELECT 1 over one HTTP connection that stays: it is run, its result is stored and its events are
    committed before the answer is sent."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(busbar.url).netloc)
    headers = {"Authorization": f"Bearer {busbar.token}", "Content-Type": "application/json"}
    body = json.dumps({"query": "SELECT 1 AS n"})

    def ours():
        connection.request("POST", "/queries/execute", body, headers)
        answer = json.loads(connection.getresponse().read())
        if answer["data"]["rows"] != [{"n": 1}]:
            raise Wrong(f"SELECT 1 is answered {answer}")
    return ours


class Session:
    """A psql that stays, and is asked through a pipe: what libpq costs, and nothing is kept."""

    def __init__(self, busbar):
        self.process = subprocess.Popen(["psql", "-XqAt"], env=psql_environment(busbar), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def ask(self):
        self.process.stdin.write("SELECT 1 AS n;\n")
        self.process.stdin.flush()
        if self.process.stdout.readline() != "1\n":
            raise Wrong("psql does not answer 1")

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def small(world):
    """A connection that stays, to us and from psql; and a psql that is started for each statement."""
    busbar, session = world.busbar, Session(world.busbar)
    found = rounds_of(world, {
        "Busbar": lambda _: p50_of(kept(busbar), SMALL),
        "psql": lambda _: p50_of(session.ask, SMALL),
        "psql, started each time": lambda _: p50_of(lambda: psql(busbar)("-c", "SELECT 1 AS n",
                                                                         stdout=subprocess.DEVNULL), STARTED)})
    session.stop()
    lines = []
    for name, rounds in found.items():
        p50 = mid(rounds, "p50")
        lines.append(Line("SELECT 1, one after another", name, f"{1000 / p50:,.0f}", p50=f"{p50:.2f}",
                          spread=spread(rounds, "p50")))
    more = median(mine["p50"] - his["p50"] for mine, his in zip(found["Busbar"], found["psql"]))
    lines[0].aim = at_most(round(more, 2), 1.5, " ms later")
    return lines


def largest(busbar):
    """The most memory that a process of ours has had, PostgreSQL's aside."""
    found = []
    for one in json.loads((busbar.run_dir / "pids.json").read_text())["processes"]:
        if one["pid"] and one["name"] != "postgres":
            status = Path(f"/proc/{one['pid']}/status").read_text()
            found.append(int(status.partition("VmHWM:")[2].split()[0]) * 1024)
    return max(found)


def large(world):
    """The rows of a streaming statement as JSON lines, and psql's CSV."""
    busbar, client = world.busbar, psql(world.busbar)

    def ours():
        text = run("curl", "-sf", "-H", f"Authorization: Bearer {busbar.token}", "-H", "Content-Type: application/json",
                   "-d", json.dumps({"query": LARGE}), "-o", "/dev/null", "-w", "%{size_download}",
                   f"{busbar.url}/queries/stream")
        if int(text) < 40 * ROWS:
            raise Wrong(f"{text} bytes are not {ROWS} rows")

    def measure(what):
        return lambda _: {"per_second": ROWS * 1000 / took(what)}
    found = rounds_of(world, {"Busbar": measure(ours), "psql --csv": measure(
        lambda: client("--csv", "-c", LARGE, stdout=subprocess.DEVNULL))})
    lines = [Line("1,000,000 rows as lines", name, f"{mid(rounds, 'per_second'):,.0f}/s", spread=spread(rounds))
             for name, rounds in found.items()]
    ratio = median(mine["per_second"] / his["per_second"]
                   for mine, his in zip(found["Busbar"], found["psql --csv"]))
    lines[1].ratio, lines[1].aim = f"{ratio:.2f} ×", aim("≥ 0.5 ×", ratio >= 0.5)
    memory = largest(busbar)
    lines.append(Line("memory of the largest process meanwhile", "Busbar", f"{memory / 1e6:.1f} MB",
                      aim=aim("< 64 MB", memory < MEMORY)))
    return lines


def statements(world):
    return small(world) + large(world)
