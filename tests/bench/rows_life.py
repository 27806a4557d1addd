"""Starting, and doing nothing."""

import time

from load import below, memory_kb
from rows import Line, at_most, mid, say

SETTLE, WATCHED = 3, 20                     # seconds
NOT_OURS = "postgres", "python", "bwrap"    #  PostgreSQL, and kernels that wait


def ready(world):
    """`busbar up` on a database that is there."""
    took = [{"s": world.busbar.restart()} for _ in range(world.rounds)]
    seconds = mid(took, "s")
    worst = max(one["s"] for one in took)
    return [Line("ready after `busbar up`, existing database", "Busbar", f"{seconds:.2f} s",
                 aim=at_most(round(seconds, 2), 2, " s"), spread=f"worst {worst:.2f} s")]


def idle(world):
    """All processes but PostgreSQL and kernels."""
    busbar = world.busbar
    time.sleep(SETTLE)                      # what starting began comes to rest
    #  Each by itself: a sum over the tree would hold PostgreSQL's, too.
    ours = [pid for pid in below(busbar.pids()) if not busbar.program(pid).startswith(NOT_OURS)]
    before, since = sum(map(busbar.cpu, ours)), time.monotonic()
    time.sleep(WATCHED)
    used = (sum(map(busbar.cpu, ours)) - before) / (time.monotonic() - since)
    kept = memory_kb(ours) / 1024
    say("  " + ", ".join(f"{busbar.program(pid)} {memory_kb([pid]) / 1024:.1f} MB" for pid in ours))
    return [Line(f"idle: memory of {len(ours)} processes", "Busbar", f"{kept:.1f} MB",
                 aim=at_most(round(kept, 1), 60, " MB")),
            Line(f"idle: processor over {WATCHED} s", "Busbar", f"{used:.2%} of a core",
                 aim=at_most(round(used * 100, 2), 1, " %"))]
