#!/usr/bin/python3
"""The actor that `busbar conform actor` knows how to question (PROTOCOL.md, section 17).

    busbar conform actor tools/examples/conform_actor.py
"""

import time

import busbar

actor = busbar.Actor("conform")
actor.channel("log", kind="log")


@actor.route("GET", "/conform/:text", method="echo", auth="none",
             fields={"text": {"type": "text", "max": 64, "required": True}})
def echo(request):
    return {"text": request["text"]}


@actor.method("fail", auth="none")
def fail(request):
    raise busbar.Fail("CONFLICT", "name is taken", name="taken")


@actor.method("count", auth="none", fields={"to": {"type": "int", "min": 0, "max": 1_000_000}})
def count(request):
    for start in range(0, request["to"], 1000):
        yield "".join(f"{n}\n" for n in range(start, min(start + 1000, request["to"])))


@actor.method("wait", auth="none", fields={"ms": {"type": "int", "min": 0, "max": 60_000}})
def wait(request):
    until = time.monotonic() + request["ms"] / 1000
    while time.monotonic() < until and not request.cancelled:
        time.sleep(0.005)
    return {"waited": True}


@actor.method("size", auth="none", upload=True)
def size(request):
    return {"size": sum(len(chunk) for chunk in request.chunks())}


@actor.method("publish", auth="none", fields={"count": {"type": "int", "min": 1, "max": 1000}})
def publish(request):
    for n in range(request["count"]):
        actor.event("org:conform/log", "conform.counted", {"n": n})
    return {"published": request["count"]}


if __name__ == "__main__":
    actor.run()
