"""REST: a row read, a row made with its event, a hundred people at once, a storm of sign-ins."""

import json
import time

from load import crowd, load, signing_in
from peers import FastAPI, Fastify, Hello
from rows import Line, aim, at_most, check, compare, line_of, mid, rounds_of
from servers import WORKSPACE, Wrong

READ = "GET one row"
CREATE = "POST create, durable, with event"
PLAIN = ", without event"


def verified(server, request, connections):
    """A round of wrk, and a look at what came of it."""
    def measure(seconds):
        written = "body" in request
        before = server.counted() if written else None
        result = load(server, request, connections, seconds)
        if hasattr(server, "check"):
            server.check()
        if written:
            good = result["requests"] - result["failed"]
            rows, events = (now - then for now, then in zip(server.counted(), before))
            told = not request["path"] == "/workspaces" or server.name == "Busbar"
            #  Those under way when the time was over may have been written.
            if not good <= rows <= good + connections or (told and events != rows):
                raise Wrong(f"{server.name} says {good} created: {rows} rows, {events} events")
        return result
    return measure


def reads(world):
    """Of one row by its id."""
    def of(kind):
        def measure(seconds):
            server = world.server(kind)
            one = {"method": "GET", "path": server.row}
            if kind is Hello:
                return load(server, one, world.connections, seconds)
            return verified(server, one, world.connections)(seconds)
        return measure
    busbar = world.busbar
    contestants = {busbar.name: verified(busbar, {"method": "GET", "path": busbar.row},
                                         world.connections)}
    contestants |= {kind.name: of(kind) for kind in (Fastify, FastAPI, Hello)}
    return compare(world, READ, busbar.name, contestants,
                   {Fastify.name: 3, FastAPI.name: 7, Hello.name: 0.5},
                   slower=(Fastify.name, FastAPI.name))


def creates(world):
    """Ours is always with its event; the peers' plain insert stands beside."""
    request = {"method": "POST", "path": "/workspaces", "body": json.dumps(WORKSPACE)}

    def of(kind, path):
        def measure(seconds):
            return verified(world.server(kind), request | {"path": path},
                            world.connections)(seconds)
        return measure
    contestants = {world.busbar.name: verified(world.busbar, request, world.connections)}
    for kind in Fastify, FastAPI:
        contestants[kind.name + PLAIN] = of(kind, "/workspaces")
        contestants[kind.name] = of(kind, "/workspaces-and-event")
    return compare(world, CREATE, world.busbar.name, contestants,
                   {Fastify.name + PLAIN: 1.5, Fastify.name: 3},
                   slower=(Fastify.name + PLAIN, Fastify.name, FastAPI.name))


def mixed(world):
    """A hundred people at once, each with a token, a socket and rows of their own."""
    what = f"{len(world.busbar.tokens)} people at once, {world.crowd_seconds} s, mixed"
    result = crowd(world.busbar, world.busbar.tokens, world.crowd_seconds,
                   "get=60,list=10,create=15,rename=15", "--live")
    if result["failed"] or result["unheard"]:
        raise Wrong(f"{result['failed']} failed, {result['unheard']} events not heard: "
                    f"{result['first_failure']}")
    line = line_of(what, world.busbar.name, [result])
    line.spread = ""
    line.value += f", {result['events']:,} events heard"
    line.aim = aim("0 failed", True) + ", " + aim("p99 < 200 ms", result["p99"] < 200)
    return [line]


def storm(world):
    """More sign-ins than two processors can check, while others go on with their work."""
    busbar = world.busbar
    email = f"storm{time.time_ns()}@example.org"
    password, _ = busbar.sign_up(email)
    others = busbar.tokens[:8], "get=80,list=10,rename=10", "--think", "20"

    def calm(seconds):
        return crowd(busbar, others[0], seconds, *others[1:])

    def stormy(seconds):
        with signing_in(busbar, 100, seconds + 1, email, password) as signing:
            result = calm(seconds)
        result["signing"] = signing.result
        return result
    found = rounds_of(world, {"calm": calm, "stormy": stormy})
    for name, rounds in found.items():
        check(name, rounds)
    signing = [one["signing"] for one in found["stormy"]]
    check("signing in", signing)
    good, refused = (sum(one[name] for one in signing) for name in ("good", "refused"))
    moved = mid(found["stormy"], "p99") - mid(found["calm"], "p99")
    what = "others' requests while 100 sign in without end"
    before = line_of(what, f"{busbar.name}, calm", found["calm"])
    during = line_of(what, f"{busbar.name}, storm", found["stormy"])
    during.aim = at_most(round(moved, 1), 20, " ms later") + f" ({moved:+.1f} ms)"
    answers = Line("answers to the storm", busbar.name,
                   f"{good:,} × 200, {refused:,} × 429", aim=aim("nothing else", True))
    return [before, during, answers]
