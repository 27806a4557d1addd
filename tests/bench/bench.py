#!/usr/bin/env python3
"""Busbar beside its peers: all started here, alternating rounds, one table of ratios.

    bench.py BUILD [--rounds 3] [--seconds 5] [--connections 64] [--set PROGRAM.OPTION=VALUE …]

Each round drives every server once per row, one after the other; figures are medians over the
rounds. The table goes to stdout and to BUILD/bench.md.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack
from datetime import date
from pathlib import Path

from load import load, middle
from servers import HERE, WORKSPACE, Busbar, FastAPI, Fastify, Hello, Missing, Postgres, run

READ = "GET one row"
CREATE = "POST create, durable, with event"
#  row, kind of peer, how many times its speed ours has to be
AIMS = {(READ, "Fastify + pg"): 3, (READ, "FastAPI + asyncpg"): 7,
        (READ, "libwebsockets hello"): 0.5,
        (CREATE, "Fastify + pg, without event"): 1.5, (CREATE, "Fastify + pg"): 3}
BUS_PER_SECOND, BUS_ALONE_US = 250000, 150


def say(text):
    print(text, file=sys.stderr, flush=True)


def cases(servers):
    """Yields (row, name, server, request). A peer's plain insert stands beside its events."""
    for server in servers:
        yield READ, server.name, server, {"method": "GET", "path": server.row}
    body = json.dumps(WORKSPACE)
    for server in servers:
        create = {"method": "POST", "path": "/workspaces", "body": body}
        if isinstance(server, Busbar):
            yield CREATE, server.name, server, create
        elif not isinstance(server, Hello):
            yield CREATE, f"{server.name}, without event", server, create
            yield CREATE, server.name, server, create | {"path": "/workspaces-and-event"}


def bus_round(build):
    """Two lengths; the difference of their processor time is that of 64 in flight alone."""
    used, calls = [], []
    for count in 100000, 1100000:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = json.loads(run(build / "bench/bus_bench", str(count)))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        calls.append(count * 1.1)               # it warms up with a tenth more
    return {"per_second": result["per_second"], "alone": result["alone_p50_us"],
            "alone_p99": result["alone_p99_us"],
            "cpu": (used[1] - used[0]) * 1e6 / (calls[1] - calls[0])}


def start(stack, build, place, settings):
    """Everything that is measured, ready to serve. What can't run here is said and left out."""
    def begin(kind, *arguments):
        server = kind(*arguments)
        stack.callback(server.stop)
        server.prepare()
        return server

    busbar = begin(Busbar, build, place, settings)
    database = begin(Postgres, place, busbar.database_settings())
    servers = [busbar]
    for kind, *arguments in ((Fastify, build, place, database), (FastAPI, build, place, database),
                             (Hello, build, place)):
        try:
            servers.append(begin(kind, *arguments))
        except Missing as why:
            say(f"without {kind.name}: {why}")
    return servers, database


def measure(servers, build, options):
    """name of row -> name of server -> median figures."""
    todo = list(cases(servers))
    for row, name, server, request in todo:     # caches, JIT, pools
        load(server, request, options.connections, min(options.seconds, 3))
    rounds = {"bus": []} | {case[:2]: [] for case in todo}
    for number in range(options.rounds):
        say(f"round {number + 1} of {options.rounds}")
        rounds["bus"].append(bus_round(build))
        #  Whoever is first in one round is last in another.
        turn = number % len(todo)
        for row, name, server, request in todo[turn:] + todo[:turn]:
            rounds[row, name].append(load(server, request, options.connections, options.seconds))
    return {case: middle(results) for case, results in rounds.items()}


def line(*cells):
    return "| " + " | ".join(cells) + " |"


def verdict(ratio, aim):
    return "–" if aim is None else f"≥ {aim:g} {'✓' if ratio >= aim else '✗'}"


def table(results):
    yield line("what", "server", "per second", "Busbar is", "aim", "p50 ms", "p99 ms",
               "CPU-µs each", "spread", "failed")
    yield line("---", "---", *["---:"] * 8)
    bus = results["bus"]
    speed = bus["per_second"] / BUS_PER_SECOND
    yield line("bus round trip, 64 in flight", "Busbar", f"{bus['per_second']:,.0f}", "–",
               f"≥ {BUS_PER_SECOND:,} {'✓' if speed >= 1 else '✗'}", "–", "–",
               f"{bus['cpu']:.1f}", f"{bus['spread']:.0%}", "0")
    alone = bus["alone"] <= BUS_ALONE_US
    yield line("bus round trip, one in flight", "Busbar", f"{1e6 / bus['alone']:,.0f}", "–",
               f"p50 ≤ {BUS_ALONE_US / 1000:g} {'✓' if alone else '✗'}",
               f"{bus['alone'] / 1000:.3f}", f"{bus['alone_p99'] / 1000:.3f}", "–", "–", "0")
    for case, result in results.items():
        if case == "bus":
            continue
        row, name = case
        ratio = results[row, Busbar.name]["per_second"] / max(result["per_second"], 1)
        ours = name == Busbar.name
        yield line(row, name, f"{result['per_second']:,.0f}", "1" if ours else f"{ratio:.2f} ×",
                   "–" if ours else verdict(ratio, AIMS.get(case)), f"{result['p50']:.2f}",
                   f"{result['p99']:.2f}", f"{result['cpu']:.0f}", f"{result['spread']:.0%}",
                   f"{result['failed']}")


def processor():
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        if text.startswith("model name"):
            return text.partition(":")[2].strip()
    return "unknown processor"


def system():
    for text in Path("/etc/os-release").read_text().splitlines():
        if text.startswith("PRETTY_NAME="):
            return text.partition("=")[2].strip('"')
    return "unknown system"


def versions(database, servers):
    """What was measured, as it calls itself."""
    yield database.version.replace("postgres (PostgreSQL)", "PostgreSQL").partition(" (")[0]
    for package in "libwebsockets", "libzmq", "libpq":
        yield f"{package} {run('pkg-config', '--modversion', package).rstrip('-')}"
    kinds = [type(server) for server in servers]
    if Fastify in kinds:
        yield f"Node {run('node', '--version').lstrip('v')}"
        packages = json.loads((HERE / "package.json").read_text())["dependencies"]
        yield from (f"{name} {version}" for name, version in packages.items())
    if FastAPI in kinds:
        yield f"Python {sys.version.split()[0]}"
        pins = dict(pin.split("==") for pin in (HERE / "requirements.txt").read_text().split())
        yield from (f"{name} {pins[name]}" for name in ("fastapi", "uvicorn", "uvloop", "asyncpg"))


def report(results, database, servers, options):
    cores = len(os.sched_getaffinity(0))
    yield (f"Measured {date.today()} on {processor()}, {cores} cores shared with the load "
           f"generator, {system()}: medians of {options.rounds} alternating rounds of {options.seconds} s, "
           f"wrk with {options.connections} connections.")
    yield ""
    yield from table(results)
    yield ""
    yield ("Requests carry a token that is verified. CPU-µs are summed over all server processes, "
           "PostgreSQL included; `spread` is how far the rounds lay apart. Node and uvicorn run as "
           "one process each, without access log. Both PostgreSQL have the same settings and "
           "commit durably; the peers' event is a plain row without a position in its channel.")
    yield ""
    if options.set:
        yield f"Set for this run: {', '.join(options.set)}."
        yield ""
    yield "Versions: " + ", ".join(versions(database, servers)) + "."


def main():
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("build", type=lambda text: Path(text).resolve())
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=int, default=5)
    options.add_argument("--connections", type=int, default=64)
    options.add_argument("--set", action="append", default=[], help="option of one program of ours")
    options = options.parse_args()
    if not shutil.which("wrk"):
        sys.exit("the load comes from wrk: apt-get install wrk")
    #  So that the servers are ended whatever ends us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    busy = os.getloadavg()[0]
    if busy > 0.5:
        say(f"this machine has other work to do (load {busy:.1f}): expect noise")
    with ExitStack() as stack:
        #  Short, because sockets live below it; open to walk through, because servers drop root.
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bb", dir="/tmp")))
        place.chmod(0o711)
        try:
            servers, database = start(stack, options.build, place, options.set)
        except Missing as why:
            sys.exit(f"bench: {why}")
        results = measure(servers, options.build, options)
        text = "\n".join(report(results, database, servers, options)) + "\n"
    (options.build / "bench.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
