"""The table, on what it was measured, and of whom."""

import json
import os
import sys
from datetime import date
from pathlib import Path

from peers import FastAPI, Fastify, NpmWs
from rows import DOES, DOES_NOT, Line
from servers import HERE, Postgres, run


def table(lines):
    def line(cells):
        return "| " + " | ".join(cell or "–" for cell in cells) + " |"
    yield line(Line.HEADS)
    yield line(["---"] * 2 + ["---:"] * (len(Line.HEADS) - 2))
    yield from (line(one.cells()) for one in lines)


def named(path, start, separator):
    for text in Path(path).read_text().splitlines():
        if text.startswith(start):
            return text.partition(separator)[2].strip().strip('"')
    return "unknown"


def versions(world):
    """What was measured, as it calls itself."""
    started = world.started
    if Postgres in started:
        yield started[Postgres].version.replace("postgres (PostgreSQL)",
                                                "PostgreSQL").partition(" (")[0]
    for package in "libwebsockets", "libzmq", "libpq":
        yield f"{package} {run('pkg-config', '--modversion', package).rstrip('-')}"
    if Fastify in started or NpmWs in started:
        yield f"Node {run('node', '--version').lstrip('v')}"
        packages = json.loads((HERE / "package.json").read_text())["dependencies"]
        yield from (f"{name} {version}" for name, version in packages.items())
    if FastAPI in started:
        yield f"Python {sys.version.split()[0]}"
        pins = dict(pin.split("==") for pin in (HERE / "requirements.txt").read_text().split())
        yield from (f"{name} {pins[name]}" for name in ("fastapi", "uvicorn", "uvloop", "asyncpg"))


def report(lines, world, busy, took):
    options, cores = world.options, len(os.sched_getaffinity(0))
    processor = named("/proc/cpuinfo", "model name", ":")
    system = named("/etc/os-release", "PRETTY_NAME=", "=")
    yield (f"Measured {date.today()} in {took / 60:.0f} min on {processor}, {cores} cores shared "
           f"with the load generator, {system}, load {busy:.1f} when it began: "
           f"medians of {options.rounds} alternating rounds of {options.seconds} s, "
           f"{options.connections} connections for GET and POST.")
    yield ""
    yield from table(lines)
    yield ""
    met, missed = (sum(mark in one.aim for one in lines) for mark in (DOES, DOES_NOT))
    both = sum(DOES in one.aim and DOES_NOT in one.aim for one in lines)
    yield f"Aims: {met - both} lines met, {missed} missed."
    yield ""
    yield ("A ratio is the median of the rounds' ratios. Requests carry a token that is verified. "
           "CPU-µs are summed over all server processes, PostgreSQL included; \"per CPU\" compares "
           "them; \"spread\" is how far the rounds lay apart. Node and uvicorn run as one process "
           "each, without access log. Both PostgreSQL have the same settings and commit durably; "
           "the peers' event is a plain row without a position in its channel, and npm ws keeps "
           "nothing. Every row is checked: statuses, the row's content, rows and events in the "
           "database, offsets that subscribers heard.")
    yield ""
    if options.set:
        yield f"Set for this run: {', '.join(options.set)}."
        yield ""
    yield "Versions: " + ", ".join(versions(world)) + "."
