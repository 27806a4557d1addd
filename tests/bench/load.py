"""Load on one server: figures from the client program, processor time from /proc."""

import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

from servers import Missing

TICKS = os.sysconf("SC_CLK_TCK")
LUA = Path(__file__).with_name("load.lua")
AT_LAST = 60                                # seconds, for what a client does beside its time


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


def below(roots, table=None):
    """These processes and all below them."""
    children, found, todo = {}, [], list(roots)
    for pid, (parent, _) in (table or processes()).items():
        children.setdefault(parent, []).append(pid)
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def cpu_seconds(roots):
    """What these processes and all below them have used."""
    table = processes()
    return sum(table[pid][1] for pid in below(roots, table)) / TICKS


def memory_kb(pids):
    """Sum of their proportional set sizes."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue                            # ended meanwhile
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total


def settled(roots, seconds=30):
    """(processes, memory) once neither has changed for a second: what is being started is not growth."""
    deadline = time.monotonic() + seconds
    pids, kept = below(roots), 0
    while time.monotonic() < deadline:
        time.sleep(1)
        before, had = pids, kept
        pids = below(roots)
        kept = memory_kb(pids)
        if sorted(pids) == sorted(before) and abs(kept - had) < 100:
            break
    return pids, kept


def finished(process, seconds, text=None):
    """The line of JSON that a client ends with."""
    try:
        out, error = process.communicate(text, seconds + AT_LAST)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Missing(f"{Path(process.args[0]).name} did not end") from None
    if process.returncode:
        raise Missing(f"{Path(process.args[0]).name}: {error.strip()[-300:]}")
    return json.loads(out.splitlines()[-1])


def client(command, environment, **options):
    return subprocess.Popen([str(word) for word in command], env=os.environ | environment,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, **options)


def measured(roots, command, environment, seconds, text="", says_ready=False):
    """Run a client to its end; its figures, and `cpu`: µs of the servers for each request. Where it
    says when it is ready, what the servers did before doesn't count."""
    before = cpu_seconds(roots)
    process = client(command, environment)
    if says_ready:
        process.stdin.write(text)
        process.stdin.close()
        process.stdin, text = None, None
        if process.stdout.readline().strip() == "ready":
            before = cpu_seconds(roots)
    result = finished(process, seconds, text)
    result["cpu"] = (cpu_seconds(roots) - before) * 1e6 / max(result["requests"], 1)
    return result


def load(server, request, connections, seconds):
    """wrk: the same request over and over."""
    if not shutil.which("wrk"):
        raise Missing("wrk is not installed: apt-get install wrk")
    result = measured(
        server.pids(),
        ["wrk", "--threads", "1", "--connections", connections, "--duration", f"{seconds}s",
         "--timeout", "10s", "--script", LUA, server.url + request["path"]],
        {"BENCH_METHOD": request["method"], "BENCH_TOKEN": server.token,
         "BENCH_BODY": request.get("body", "")}, seconds)
    result["per_second"] = (result["requests"] - result["failed"]) / result["seconds"]
    return result


def crowd_command(server, seconds, mix, *options):
    return [server.build / "bench/crowd", "--port", server.port, "--seconds", seconds,
            "--mix", mix, *options]


def crowd(server, tokens, seconds, mix, *options):
    """People, each with a token."""
    return measured(server.pids(), crowd_command(server, seconds, mix, *options), {}, seconds,
                    "\n".join(tokens) + "\n", says_ready=True)


@contextmanager
def signing_in(server, people, seconds, email, password):
    """So many who sign in meanwhile; what they say in the end is in .result of what it gives."""
    process = client(crowd_command(server, seconds, "signin=1", "--users", people),
                     {"BENCH_EMAIL": email, "BENCH_PASSWORD": password})
    try:
        yield process
        process.result = finished(process, seconds)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def bus_load(server, lines, seconds, in_flight, *options, beside=()):
    """Calls by the bus. `beside`: what serves them, where the server isn't it alone."""
    roots = server.pids() + [pid for other in beside for pid in other.pids()]
    return measured(roots, [server.build / "bench/bus_load", "--in-flight", in_flight, "--seconds",
                            seconds, *options],
                    {"BENCH_TOKEN": server.token}, seconds, "\n".join(lines) + "\n")


def live_command(build, server, *options):
    return [build / "bench/live_load", "--port", server.port, *options]


def live_load(build, server, seconds, *options):
    """Subscribers of one channel, and who changes its rows."""
    return measured(server.pids(), live_command(build, server, "--seconds", seconds, *options),
                    {"BENCH_TOKEN": server.token}, seconds, says_ready=True)


@contextmanager
def connected(build, server, connections, *options):
    """That many WebSockets, while it lasts."""
    process = client(live_command(build, server, "--connections", connections, "--hold", *options),
                     {"BENCH_TOKEN": server.token})
    try:
        if process.stdout.readline().strip() != "ready":
            finished(process, 0)
        yield
    finally:
        process.communicate()
