"""Push: to a thousand at once, how late, to some who do not read; what a socket costs."""

import threading
from statistics import median

from load import below, connected, live_load, memory_kb, settled
from peers import NpmWs
from rows import Line, aim, at_most, check, compare, line_of, mid, rounds_of
from servers import Wrong, ask

SUBSCRIBERS, IDLE = 1000, 5000
RATE, PACED_SECONDS = 20, 8
SLOW, NEVER = SUBSCRIBERS // 20, SUBSCRIBERS // 100
KINDS = "healthy", "slow", "never"


def accounted(name, result):
    """Every event is delivered, replaced by a newer state or told as a gap, to every one."""
    for kind in KINDS:
        one = result[kind]
        if one["lost"] or one["missing"]:
            raise Wrong(f"{name}, {kind}: {one['lost']} lost, {one['missing']} not accounted for "
                        f"of {result['events']} events to {one['hearers']}")
    check(name, [result])
    return result


def fanout(world):
    """As fast as a thousand hear it; one client program for both."""
    def to(server):
        return lambda seconds: accounted(server().name, live_load(
            world.build, server(), seconds, "--connections", SUBSCRIBERS))
    what = f"WebSocket fan-out to {SUBSCRIBERS:,}, 8 events on their way, deliveries"
    return compare(world, what, world.busbar.name,
                   {world.busbar.name: to(lambda: world.busbar),
                    NpmWs.name: to(lambda: world.server(NpmWs))},
                   {NpmWs.name: 1}, unit="/s")


def latency(world):
    """From commit to a client at a moderate rate: the event says when its transaction began."""
    rounds = rounds_of(world, {"Busbar": lambda seconds: accounted("Busbar", live_load(
        world.build, world.busbar, seconds, "--connections", 20, "--rate", 50))})["Busbar"]
    p50 = mid(rounds, "commit_p50")
    return [Line("transaction begun → event at WebSocket, 50/s to 20", "Busbar",
                 f"{mid(rounds, 'events'):,.0f} events", aim=at_most(p50, 3, " ms p50"),
                 p50=f"{p50:.2f}", p99=f"{mid(rounds, 'commit_p99'):.2f}"),
            Line("request sent → event at WebSocket, 50/s to 20", "Busbar",
                 f"{mid(rounds, 'events'):,.0f} events", p50=f"{mid(rounds, 'p50'):.2f}",
                 p99=f"{mid(rounds, 'p99'):.2f}")]


class Highest:
    """The most memory that these processes had while it lasted, kB."""

    def __init__(self, pids):
        self.pids, self.before, self.most = pids, memory_kb(pids), 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        while not self.over.wait(0.25):
            self.most = max(self.most, memory_kb(self.pids))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def slow(world):
    """A thousand of whom some read little and some nothing, beside a thousand who all read."""
    busbar = world.busbar
    rows = ",".join(ask(f"{busbar.url}/workspaces", busbar.token, {"name": f"row {number}"})["id"]
                    for number in range(20))
    common = ("--connections", SUBSCRIBERS, "--rate", RATE, "--size", 3000, "--rows", rows)
    edges = [pid for pid in below(busbar.pids()) if busbar.program(pid) == "busbar-edge"]
    runs = []
    for _ in range(min(world.rounds, 2)):
        calm = accounted("all read", live_load(world.build, busbar, PACED_SECONDS, *common))
        with Highest(edges) as memory:
            some = accounted("some do not", live_load(
                world.build, busbar, PACED_SECONDS, *common, "--slow", SLOW, "--never", NEVER))
        runs.append((calm, some, memory))
    later = median(some["p99"] - calm["p99"] for calm, some, _ in runs)
    what = f"{RATE}/s of 3.5 kB to {SUBSCRIBERS:,}"
    lines = [line_of(f"{what}, all read", busbar.name, [calm for calm, _, _ in runs], "/s"),
             line_of(f"{what}, {SLOW} slow, {NEVER} never reading: the others", busbar.name,
                     [some for _, some, _ in runs], "/s")]
    lines[1].aim = at_most(round(later, 1), 50, " ms later") + f" ({later:+.1f} ms)"
    total = sum(some[kind]["hearers"] * some["events"] for kind in KINDS for _, some, _ in runs)
    counts = [sum(some[kind][fate] for kind in KINDS for _, some, _ in runs)
              for fate in ("delivered", "coalesced", "gaps")]
    delivered, coalesced, gaps = (f"{count / total:.2%}" for count in counts)
    grown = max(memory.most - memory.before for _, _, memory in runs) / 1024
    return lines + [
        Line("what became of every event", busbar.name,
             f"{delivered} delivered, {coalesced} replaced, {gaps} gaps",
             aim=aim("= 100 %", sum(counts) == total)),
        Line("memory of the edge meanwhile", busbar.name, f"+{grown:.1f} MB",
             aim=at_most(grown, 32, " MB"))]


def memory(world):
    """Growth of all processes by sockets that say nothing."""
    def each(server, *options):
        pids, before = settled(server.pids())
        with connected(world.build, server, IDLE, *options):
            return (memory_kb(pids) - before) / IDLE
    lines = []
    #  Anew, so that no memory is there already that others have freed.
    world.busbar.restart()
    kept = each(world.busbar, "--idle")
    lines.append(Line(f"memory of an idle WebSocket, {IDLE:,} open", "Busbar", f"{kept:.1f} KiB",
                      aim=at_most(round(kept, 2), 4, " KiB")))
    world.busbar.restart()
    heard = each(world.busbar)
    lines.append(Line("the same with a subscription", "Busbar", f"{heard:.1f} KiB"))
    theirs = each(world.server(NpmWs, anew=True), "--idle")
    lines.append(Line(f"memory of an idle WebSocket, {IDLE:,} open", NpmWs.name,
                      f"{theirs:.1f} KiB", ratio=f"{theirs / max(kept, 0.01):.2f} ×"))
    return lines
