#!/usr/bin/env python3
"""Busbar beside its peers: all started here, alternating rounds, one table of ratios.

    bench.py BUILD [--rows get,post] [--rounds 5] [--seconds 3] [--crowd-seconds 20]
             [--connections 64] [--set PROGRAM.OPTION=VALUE …]

Each row measures its servers in turn, in every round, and shows medians; a ratio is the median of
those of the rounds. A row that fails says so and leaves the others alone. The table goes to stdout
and to BUILD/bench.md.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack
from pathlib import Path

import rows_bus
import rows_http
import rows_jobs
import rows_life
import rows_live
import rows_sql
from report import report
from rows import Line, say
from servers import Busbar, Missing, Postgres, Wrong

#  In this order; those that start anew come first.
ROWS = {"bus": rows_bus.direct, "ready": rows_life.ready, "idle": rows_life.idle,
        "door": rows_bus.door, "get": rows_http.reads, "post": rows_http.creates,
        "turns": rows_bus.turns, "fanout": rows_live.fanout, "latency": rows_live.latency,
        "slow": rows_live.slow, "memory": rows_live.memory, "mixed": rows_http.mixed,
        "storm": rows_http.storm, "schedules": rows_jobs.schedules, "states": rows_jobs.states,
        "statements": rows_sql.statements}


FAILED = "FAILED"


class World:
    """What rows measure: servers are started when a row first asks for one."""

    def __init__(self, stack, options):
        #  Short, because sockets live below it; open to walk through, because servers drop root.
        self.place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bb", dir="/tmp")))
        self.place.chmod(0o711)
        self.stack, self.options, self.build = stack, options, options.build
        self.rounds, self.seconds = options.rounds, options.seconds
        self.crowd_seconds, self.connections = options.crowd_seconds, options.connections
        self.started, self.missing = {}, {}

    def once(self, kind, make):
        """The server of that kind; whoever could not start once is not tried again."""
        if kind in self.missing:
            raise Missing(self.missing[kind])
        if kind not in self.started:
            try:
                server = make()
                self.stack.callback(server.stop)
                server.prepare()
            except (Missing, OSError) as why:
                self.missing[kind] = f"{kind.name}: {why}"
                raise Missing(self.missing[kind]) from None
            self.started[kind] = server
        return self.started[kind]

    @property
    def busbar(self):
        return self.once(Busbar, lambda: Busbar(self.build, self.place, self.options.set))

    @property
    def database(self):
        settings = self.busbar.database_settings()
        return self.once(Postgres, lambda: Postgres(self.place, settings))

    def server(self, kind, anew=False):
        """A peer. `anew`: one that has served nobody yet."""
        if anew and kind in self.started:
            self.started.pop(kind).stop()
        needs = (self.database,) if kind.with_database else ()
        return self.once(kind, lambda: kind(self.build, self.place, *needs))


def measure(world, names):
    """Lines of all rows; what a row fails with becomes its line."""
    for name in names:
        say(f"{name} …")
        began = time.monotonic()
        try:
            yield from ROWS[name](world)
        except Missing as why:
            yield Line(name, "Busbar", f"skipped: {str(why).strip().splitlines()[-1]}")
            say(f"  skipped: {why}")
        except Wrong as why:
            yield Line(name, "Busbar", f"{FAILED}: {why}", aim="✗")
            say(f"  failed: {why}")
        except Exception as error:              # the other rows go on
            yield Line(name, "Busbar", f"{FAILED}: {type(error).__name__} {error}", aim="✗")
            say(traceback.format_exc())
        say(f"  {time.monotonic() - began:.0f} s")


def chosen(text):
    names = [name for name in text.split(",") if name] or list(ROWS)
    for name in names:
        if name not in ROWS:
            raise argparse.ArgumentTypeError(f"no row {name}; there are {', '.join(ROWS)}")
    return [name for name in ROWS if name in names]


def main():
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("build", type=lambda text: Path(text).resolve())
    options.add_argument("--rows", type=chosen, default=list(ROWS), help=", ".join(ROWS))
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=3)
    options.add_argument("--crowd-seconds", type=int, default=20, help="of the row `mixed`")
    options.add_argument("--connections", type=int, default=64)
    options.add_argument("--set", action="append", default=[], help="option of one program of ours")
    options = options.parse_args()
    #  So that the servers are ended whatever ends us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    busy, began = os.getloadavg()[0], time.monotonic()
    if busy > 0.5:
        say(f"this machine has other work to do (load {busy:.1f}): expect noise")
    with ExitStack() as stack:
        world = World(stack, options)
        lines = list(measure(world, options.rows))
        text = "\n".join(report(lines, world, busy, time.monotonic() - began)) + "\n"
    (options.build / "bench.md").write_text(text)
    print(text, end="")
    sys.exit(any(FAILED in one.value for one in lines))


if __name__ == "__main__":
    main()
