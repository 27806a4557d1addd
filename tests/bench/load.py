"""Load on one server: requests per second and latency from wrk, processor time from /proc."""

import json
import os
import subprocess
from pathlib import Path
from statistics import median

TICKS = os.sysconf("SC_CLK_TCK")
LUA = Path(__file__).with_name("load.lua")


def stat_fields(pid):
    """Fields of /proc/PID/stat from the third on; the second, the name, may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def processes():
    """Every process: pid -> (parent, ticks used, with those of its children that have ended)."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = stat_fields(name)
            except OSError:                 # it ended while we looked
                continue
            found[int(name)] = int(fields[1]), sum(map(int, fields[11:15]))
    return found


def cpu_seconds(roots):
    """What these processes and all below them have used."""
    table, total, todo = processes(), 0, list(roots)
    children = {}
    for pid, (parent, _) in table.items():
        children.setdefault(parent, []).append(pid)
    while todo:
        pid = todo.pop()
        total += table[pid][1]
        todo += children.get(pid, [])
    return total / TICKS


def load(server, request, connections, seconds):
    """One round: good answers per_second, p50 and p99 in ms, CPU-µs of each, failures."""
    before = cpu_seconds(server.pids())
    done = subprocess.run(
        ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s",
         "--timeout", "10s", "--script", LUA, server.url + request["path"]],
        env=os.environ | {"BENCH_METHOD": request["method"], "BENCH_TOKEN": server.token,
                          "BENCH_BODY": request.get("body", "")},
        stdout=subprocess.PIPE, text=True, check=True)
    used = cpu_seconds(server.pids()) - before
    result = json.loads(done.stdout.splitlines()[-1])
    good = max(result["requests"] - result["failed"], 0)
    return {"per_second": good / result["seconds"], "p50": result["p50"], "p99": result["p99"],
            "failed": result["failed"], "cpu": used * 1e6 / max(good, 1)}


def middle(rounds):
    """The median of each figure; failures add up. `spread` is how far apart the rounds were."""
    result = {name: median(one[name] for one in rounds) for name in rounds[0]}
    speeds = [one["per_second"] for one in rounds]
    result["spread"] = (max(speeds) - min(speeds)) / max(result["per_second"], 1)
    result["failed"] = sum(one.get("failed", 0) for one in rounds)
    return result
