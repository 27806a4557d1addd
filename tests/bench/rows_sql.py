"""SQL through the statement service beside psql: what it adds to a small statement, how fast a million
rows are, and what memory that takes."""

import json
import os
import subprocess
import time
from pathlib import Path
from statistics import median

from rows import Line, aim, at_most, mid, rounds_of, spread
from servers import Wrong, ask, run

SMALL = 40                                  # statements in a round
ROWS = 1000000
LARGE = f"SELECT n, n * 2 AS twice, 'row ' || n AS word FROM generate_series(1, {ROWS}) n"
MEMORY = 64 << 20                           # bytes that no process may exceed


def psql(busbar):
    """A psql that connects to the guest database; arguments come behind."""
    password = (busbar.place / "secrets/pg_owner").read_text().strip()
    environment = os.environ | {"PGHOST": str(busbar.run_dir / "pg"), "PGUSER": "busbar_owner",
                                "PGPASSWORD": password, "PGDATABASE": "busbar_guest"}
    return lambda *words, **options: subprocess.run(["psql", "-Xq", *words], env=environment, check=True, **options)


def took(what):
    began = time.perf_counter()
    what()
    return (time.perf_counter() - began) * 1000


def small(world):
    """Both connect anew for each statement; ours stores the result and two events besides."""
    busbar, client = world.busbar, psql(world.busbar)

    def ours():
        answer = ask(f"{busbar.url}/queries/execute", busbar.token, {"query": "SELECT 1 AS n"})
        if answer["data"]["rows"] != [{"n": 1}]:
            raise Wrong(f"SELECT 1 is answered {answer}")

    def measure(what):
        return lambda _: {"p50": median(took(what) for _ in range(SMALL))}
    found = rounds_of(world, {"Busbar": measure(ours), "psql": measure(
        lambda: client("-c", "SELECT 1 AS n", stdout=subprocess.DEVNULL))})
    lines = []
    for name, rounds in found.items():
        p50 = mid(rounds, "p50")
        lines.append(Line("SELECT 1, connection included", name, f"{1000 / p50:,.0f}", p50=f"{p50:.2f}",
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
