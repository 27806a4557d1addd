"""What grows: memory, descriptors and the system's own gauges, sampled again and again and judged at
the end."""

import os
import re
import time
from pathlib import Path
from statistics import median

import httpx

import busbar

#  How much the median of the last third may be above that of the middle third, for each process.
GROWTH_KIB = 1024
GROWTH_SHARE = 0.05
#  KiB of an hour, by a line through what came after the first third.
SLOPE_KIB = 3072


def private_kib(pid):
    """Its own pages: those it shares change with what others on the machine do."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kib) for kib in re.findall(r"^Private_\w+: +(\d+) kB$", rollup, re.M))


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def slope(points):
    """By the hour: the median over all pairs (Theil and Sen), which no single peak moves."""
    pairs = [(b[1] - a[1]) / (b[0] - a[0]) for n, a in enumerate(points) for b in points[n + 1:]]
    return median(pairs) * 3600 if pairs else 0.0


class Watch:
    """`sample` now and then; rows are {name: number} with the time under "t"."""

    def __init__(self, stack, admin_port):
        self.stack, self.rows, self.pids = stack, [], None
        self.metrics = f"http://127.0.0.1:{admin_port}/metrics"
        self.bus = busbar.Client(str(stack.run))
        self.started = time.monotonic()

    def close(self):
        self.bus.close()

    def _of_edge(self, row):
        text = httpx.get(self.metrics, trust_env=False, timeout=10).text
        for name, value in re.findall(r"^busbar_(?:edge_|live_)?(\w+) (\d+)$", text, re.M):
            if not name.endswith("_total"):
                row[f"edge {name}"] = int(value)

    def _of_actor(self, row, slot):
        stats = self.bus.call(f"{slot.split('.')[0]}.stats")
        row[f"{slot} live"] = stats["live"]
        row[f"{slot} coroutines"] = stats["coroutines"]
        row[f"{slot} db waiting"] = stats["db"]["waiting"]
        row[f"{slot} db in_flight"] = stats["db"]["in_flight"]

    def sample(self):
        row = {"t": time.monotonic() - self.started}
        processes = self.stack.processes()
        pids = {one["slot"]: one["pid"] for one in processes}
        self.pids = self.pids or pids
        for slot, pid in pids.items():
            row[f"{slot} memory"] = private_kib(pid)
            row[f"{slot} fds"] = descriptors(pid)
            if slot != "soak_actor":    # Python starts the threads of its pool when it needs them
                row[f"{slot} threads"] = threads(pid)
            if slot.split(".")[0] in ("identity", "platform", "kernels"):
                self._of_actor(row, slot)
        self._of_edge(row)
        stats = self.bus.call("broker.stats", idempotent=True)
        row |= {f"broker {name}": stats[name] for name in ("peers", "channels", "relayed_now")}
        self.rows.append(row)
        return row

    #  ---- judgement ----

    def _part(self, name, first, last):
        end = self.rows[-1]["t"]
        return [row[name] for row in self.rows if name in row and end * first <= row["t"] <= end * last]

    def _memory(self, name, long):
        middle, late = self._part(name, 1 / 3, 2 / 3), self._part(name, 2 / 3, 1)
        if not middle or not late:
            return None
        grown = median(late) - median(middle)
        points = [(row["t"], row[name]) for row in self.rows[len(self.rows) // 3:] if name in row]
        rate = slope(points[::max(1, len(points) // 200)])
        allowed = GROWTH_KIB + GROWTH_SHARE * median(middle)
        if grown > allowed or (long and rate > SLOPE_KIB):
            return f"{name}: {median(middle):.0f} then {median(late):.0f} KiB, {rate:+.0f} KiB per hour"
        return None

    @staticmethod
    def above(rest, again):
        """What is more than it was, memory apart."""
        return [f"{name}: {rest[name]} at rest in the beginning, {again[name]} at the end"
                for name in again if name in rest and again[name] > rest[name]
                and name != "t" and not name.endswith(" memory") and not name.startswith("postgres")]

    def judge(self, rest, again, long):
        """What grew. `rest` and `again` are samples with nobody there: when all were warm, and at the
        end."""
        found = self.above(rest, again)
        for name in again:
            if name.endswith(" memory") and not name.startswith("postgres"):
                found.append(self._memory(name, long))
        if self.pids != {one["slot"]: one["pid"] for one in self.stack.processes()}:
            found.append("a process was started again")
        return [line for line in found if line]

    def table(self):
        """Of each process: KiB at a third and at the end, by the hour; descriptors then and at the end."""
        lines = [f"{'process':14}{'own KiB':>10}{'end':>10}{'per hour':>10}{'fds':>7}{'end':>7}"]
        third = self.rows[len(self.rows) // 3]
        for name in sorted(name for name in third if name.endswith(" memory")):
            slot, last = name.removesuffix(" memory"), self.rows[-1]
            points = [(row["t"], row[name]) for row in self.rows[len(self.rows) // 3:] if name in row]
            lines.append(f"{slot:14}{third[name]:10}{last.get(name, 0):10}"
                         f"{slope(points[::max(1, len(points) // 200)]):+10.0f}"
                         f"{third[slot + ' fds']:7}{last.get(slot + ' fds', 0):7}")
        return "\n".join(lines)
