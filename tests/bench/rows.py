"""Rows of the table: rounds that alternate between servers, and what their figures amount to."""

import sys
from dataclasses import dataclass
from statistics import median

from servers import Missing, Wrong

DOES, DOES_NOT = "✓", "✗"


def say(text):
    print(text, file=sys.stderr, flush=True)


@dataclass
class Line:
    """One line of the table. What stays empty is shown as a dash."""

    what: str
    server: str
    value: str
    ratio: str = ""
    aim: str = ""
    p50: str = ""
    p99: str = ""
    cpu: str = ""
    per_cpu: str = ""
    spread: str = ""

    HEADS = ("what", "server", "figure", "Busbar is", "aim", "p50 ms", "p99 ms", "CPU-µs each",
             "per CPU", "spread")

    def cells(self):
        return (self.what, self.server, self.value, self.ratio, self.aim, self.p50, self.p99,
                self.cpu, self.per_cpu, self.spread)

    @property
    def missed(self):
        return DOES_NOT in self.aim


def aim(text, met):
    return f"{text} {DOES if met else DOES_NOT}"


def at_least(value, wanted):
    return aim(f"≥ {wanted:,g}", value >= wanted)


def at_most(value, wanted, unit=""):
    return aim(f"≤ {wanted:,g}{unit}", value <= wanted)


def mid(rounds, name):
    return median(one[name] for one in rounds)


def spread(rounds, name="per_second"):
    """How far the rounds lay apart, as a part of their median."""
    values = [one[name] for one in rounds]
    return f"{(max(values) - min(values)) / max(mid(rounds, name), 1e-9):.0%}"


def rounds_of(world, contestants):
    """name -> figures of each round. A contestant is a function of seconds; all take part in each
    round, and whoever is first in one is last in another. A peer, any but the first, that can't is
    left out."""
    found = {}
    for name, measure in list(contestants.items()):
        try:
            measure(min(world.seconds, 2))      # caches, JIT, pools
            found[name] = []
        except Missing as why:
            if not found:
                raise
            say(f"  without {name}: {why}")
    names = list(found)
    for number in range(world.rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            found[name].append(contestants[name](world.seconds))
    return found


def line_of(what, name, rounds, unit=""):
    """What a server's rounds say by themselves."""
    one = Line(what, name, f"{mid(rounds, 'per_second'):,.0f}{unit}", spread=spread(rounds))
    if "p50" in rounds[0]:
        one.p50, one.p99 = f"{mid(rounds, 'p50'):.2f}", f"{mid(rounds, 'p99'):.2f}"
    if "cpu" in rounds[0]:
        one.cpu = f"{mid(rounds, 'cpu'):.3g}" if mid(rounds, "cpu") < 100 \
            else f"{mid(rounds, 'cpu'):.0f}"
    return one


def check(name, rounds):
    failed = sum(one.get("failed", 0) for one in rounds)
    if failed:
        why = [one["first_failure"] for one in rounds if one.get("first_failure")]
        raise Wrong(f"{name}: {failed} requests failed {''.join(why[:1])}")


def compare(world, what, ours, contestants, aims, slower=(), unit=""):
    """Lines of a row: ours, then each peer with how many times its speed and processor time ours
    are, the median of the ratios of each round. `slower` peers must not have a better p99."""
    found = rounds_of(world, contestants)
    for name, rounds in found.items():
        check(name, rounds)
    lines = [line_of(what, ours, found[ours], unit)]
    for name, rounds in found.items():
        if name == ours:
            continue
        line = line_of(what, name, rounds, unit)
        pairs = list(zip(found[ours], rounds))
        ratio = median(mine["per_second"] / max(his["per_second"], 1) for mine, his in pairs)
        line.ratio = f"{ratio:.2f} ×"
        if "cpu" in rounds[0]:
            line.per_cpu = f"{median(his['cpu'] / mine['cpu'] for mine, his in pairs):.2f} ×"
        if name in aims:
            line.aim = aim(f"≥ {aims[name]:g} ×", ratio >= aims[name])
        if name in slower:
            late = median(mine["p99"] / max(his["p99"], 0.001) for mine, his in pairs)
            line.aim = ", ".join(filter(None, [line.aim, aim("p99 no later", late <= 1)]))
        lines.append(line)
    return lines
