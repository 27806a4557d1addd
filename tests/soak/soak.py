#!/usr/bin/python3
"""A system under mixed load for a long time: what it holds must not grow.

    tests/soak/soak.py [--minutes 30] [--load 0.5] [--pace 1] [--log FILE]

Besides people who read, write, follow, run cells, upload, sign in and hang up, a load generator (wrk, where
there is one) reads as fast as it can for that share of the time. Ends with a table and, when something
grew or anybody got a wrong answer, with exit code 1."""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "soak"), str(TESTS / "api"), str(TESTS.parent / "proto" / "python")]

import busbar                                    # noqa: E402
from people import Crowd                         # noqa: E402
from stack import Stack, free_port, wait_for     # noqa: E402
from watch import Watch                          # noqa: E402

BURST = 5.0
#  Enough of everybody that caches and pools have what they ever need.
WARM = 20.0


def bursts(crowd, share):
    """wrk for that share of the time, one thread, few connections."""
    user, path = crowd.sign_up("burst"), "/workspaces?limit=5"
    for number in range(5):
        user.post("/workspaces", {"name": f"b {number}"}, expect=201)
    while not crowd.over.wait(BURST * (1 - share)):
        subprocess.run(["wrk", "-t1", "-c8", f"-d{max(1, round(BURST * share))}s",
                        "-s", str(TESTS / "bench" / "load.lua"), user.base + path], check=False,
                       stdout=subprocess.DEVNULL,
                       env=os.environ | {"BENCH_METHOD": "GET", "BENCH_TOKEN": user.token, "BENCH_BODY": ""})
    user.close()


def at_rest(watch, before=None, patience=75):
    """A sample with nobody there: when what people use has sunk to what it was before, or sinks no more."""
    ends, last = time.monotonic() + patience, watch.sample()
    while time.monotonic() < ends and (before is None or watch.above(before, last)):
        threading.Event().wait(3)
        now = watch.sample()
        if before is None and not watch.above(now, last):
            return now
        last = now
    return last


def period(stack, watch, seconds, share, pace, note):
    """A crowd for that long; what it got done, and what went wrong."""
    crowd = Crowd(stack, pace)
    crowd.start()
    extra = None
    if share and shutil.which("wrk"):
        extra = threading.Thread(target=bursts, args=(crowd, share), daemon=True)
        extra.start()
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            note(watch.sample())
        except busbar.BusError as error:
            crowd.failed("Watch", error)
        crowd.over.wait(min(max(1.0, seconds / 360), max(0.0, ends - time.monotonic())))
    crowd.stop()
    if extra:
        extra.join(30)
    return crowd


def soak(seconds, share=0.5, pace=1.0, warm=WARM, log=None):
    """({kind: turns}, what went wrong, what grew, the table)."""
    admin = free_port()
    stack = Stack("--admin-port", str(admin), "--actor", str(TESTS / "soak" / "soak_actor.py"),
                  "--set=edge.access-log=false", "--log-level=warn")
    stack.wait()
    out = open(log, "w", encoding="utf-8") if log else None

    def note(row):
        if out:
            print(json.dumps(row), file=out, flush=True)

    try:
        wait_for(lambda: "soak" in {one["name"].split("_")[0] for one in stack.processes()}, "the actor")
        watch = Watch(stack, admin)
        early = period(stack, watch, warm, share, pace, note)
        rest = at_rest(watch)
        watch.rows.clear()
        watch.started = time.monotonic()
        crowd = period(stack, watch, seconds, share, pace, note)
        table = watch.table()
        grown = watch.judge(rest, at_rest(watch, rest), seconds >= 600)
        watch.close()
    finally:
        if log:
            pathlib.Path(log + ".stderr").write_text(stack.log_text())
        code = stack.stop()
    failures = early.failures + crowd.failures
    if code:
        failures.append(f"the system ended with {code}")
    return crowd.counts, failures, grown, table


def main():
    options = argparse.ArgumentParser(description=__doc__,
                                      formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=30)
    options.add_argument("--load", type=float, default=0.5, help="share of the time that wrk reads")
    options.add_argument("--pace", type=float, default=1.0, help="how much longer people pause")
    options.add_argument("--log", help="file for the samples, a JSON object a line")
    given = options.parse_args()
    counts, failures, grown, table = soak(given.minutes * 60, given.load, given.pace,
                                          min(180.0, max(WARM, given.minutes * 6)), given.log)
    print(table)
    print("turns:", ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    for line in sorted(set(failures))[:40]:
        print("wrong:", line)
    for line in grown:
        print("grew:", line)
    print(f"{len(failures)} wrong, {len(grown)} grew")
    return 1 if failures or grown else 0


if __name__ == "__main__":
    sys.exit(main())
